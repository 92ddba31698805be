// Shows scores of people at work in a whole pipeline: audiences and destinations ask for them, they are of the person whom
// the event is about, and nothing restricted becomes known by way of one.

import Testing

@testable import Agent

@Suite struct ScoreTests {
    private static let head = """
        version: 1
        purposes: [analytics, personalization]
        identifiers: { user_id: { from: [userId], send: hmac, unique: true } }
        events: { "*": { purpose: analytics } }
        attributes:
          orders: { type: counter, when: 'event.event == "Order Completed"' }
          refunds: { type: counter, when: 'event.event == "Refund"' }
          city: { type: string, value: event.properties.city }
          income: { type: number, value: event.properties.income, restricted: true }

        """

    private static func destination(_ condition: String) -> String {
        "destinations:\n  hub: { url: \"https://hub.example/v1/batch\", purpose: analytics, when: '\(condition)' }\n"
    }

    /// The filter looks at the person as they are when the event leaves.
    @Test(arguments: ["score(\"loyal\") >= 20.0", "audience.loyal"])
    func whatLeavesDependsOnThePersonsScore(condition: String) {
        let device = Device(
            Self.head + """
                scores:
                  loyal: { points: { profile.orders >= 2: 20, profile.refunds > 0: -5, 'profile.city == "Ulm"': 5 } }
                audiences: { loyal: score("loyal") >= 20.0 }

                """ + Self.destination(condition))
        device.take("ada", "Order Completed")
        device.take("ada", "Order Completed")
        device.take("ben", "Order Completed")
        device.take("eve", "Order Completed")
        device.take("eve", "Order Completed")
        device.take("eve", "Refund")
        #expect(device.delivery(0).count == 2)
        device.take("eve", "Page", #"{"city": "Ulm"}"#)
        #expect(device.delivery(0).count == 6)
        #expect(device.meters.evaluationErrors.current == 0)
    }

    @Test func whatIsRestrictedDoesNotBecomeKnownByAScore() {
        let score = "scores:\n  rich: { logistic: { weights: { profile.income: 0.001 } } }\n"
            + "  plain: { points: { profile.orders > 1: 1 } }\n"
            + "audiences: { rich: score(\"rich\") > 0.9 }\n"
        for condition in ["score(\"rich\") > 0.5", "audience.rich", "!audience.rich || score(\"plain\") > 0.0"] {
            let found = problems(Self.head + score + Self.destination(condition))
            #expect(found.count == 1 && found[0].contains("profile.income is restricted"), "\(condition): \(found)")
        }
        #expect(problems(Self.head + score + Self.destination("score(\"plain\") > 0.0")) == [])
    }

    /// Attributes and what a profile is worth are computed before there are scores.
    @Test func attributesSeeNoScore() {
        let scores = "scores: { s: { points: {} } }\n"
        let attribute = problems(Self.head + "  x: { type: counter, when: 'score(\"s\") > 1.0' }\n" + scores)
        #expect(attribute.count == 1 && attribute[0].contains("unknown function 'score'"), "\(attribute)")
        let value = problems(Self.head + scores + "profiles: { value: score(\"s\") }\n")
        #expect(value.count == 1 && value[0].contains("unknown function 'score'"), "\(value)")
    }
}
