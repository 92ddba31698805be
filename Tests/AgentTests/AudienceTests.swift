// Shows that audiences announce who joins and leaves them, by an event and by time alone, once and in order; and that nothing
// is announced, nor kept for it, without a grant.
import Formats
import Governance
import Store
import Testing
import Unification

@testable import Agent

private let policy = """
    version: 1
    purposes: [analytics, personalization]
    identifiers:
      user_id: { from: [userId], send: hmac, unique: true }
      email: { from: [properties.email], normalize: email, send: hmac }
    events: { "*": { purpose: analytics } }
    attributes:
      carted_at: { type: last, when: 'event.event == "Product Added"', value: event.timestamp }
      vip: { type: badge, when: 'event.event == "Order Completed"', ttl: 90d }
      views: { type: counter, when: 'event.event == "Viewed"', window: 10m }
    audiences:
      silent: profile.views > 0
      quiet: { when: 'has(profile.carted_at) && now - profile.carted_at >= duration("30m")', purpose: personalization, announce: true }
      important: { when: profile.vip, purpose: personalization, announce: true }
      busy: { when: profile.views >= 2, purpose: analytics, announce: true }
    triggers:
      welcome: { on: 'event.event == "Audience Entered" && event.properties.audience == "important"', send: hub }
    destinations:
      hub: { url: "https://hub.example/v1/batch", purpose: analytics }
    """

private let minute: Int64 = 60_000
private let grants = ["analytics", "personalization"]

@Suite struct AudienceTests {
    /// What was announced, as `+name` and `-name`.
    private func announced(_ device: Device) -> [String] {
        device.generated().filter { $0.hasPrefix(#"{"type":"track","event":"Audience "#) }.map { text in
            let name = text.split(separator: "\"audience\":\"")[1].split(separator: "\"")[0]
            return (text.contains("Entered") ? "+" : "-") + name
        }
    }

    @Test func quietMinutesAreAnnouncedWhenTheyAreOver() {
        let device = Device(policy)
        device.take("ada", "Product Added", grants: grants)
        device.pass(20 * minute)
        device.take("ada", "Product Added", grants: grants)
        device.pass(30 * minute - 1, steps: 50)
        #expect(announced(device) == [])
        device.pass(1001)
        #expect(announced(device) == ["+quiet"])
        device.pass(10 * day, steps: 100)
        #expect(announced(device) == ["+quiet"])
        device.take("ada", "Product Added", grants: grants)
        #expect(announced(device) == ["+quiet", "-quiet"])
        #expect(device.delivery(0).count == 5)
    }

    @Test func aBadgeThatEndsIsLeft() {
        let device = Device(policy)
        device.take("ada", "Order Completed", grants: grants)
        #expect(announced(device) == ["+important"])
        device.pass(90 * day)
        #expect(announced(device) == ["+important"])
        device.pass(1001)
        #expect(announced(device) == ["+important", "-important"])
        device.take("ada", "Order Completed", grants: grants)
        device.pass(91 * day, steps: 91)
        #expect(announced(device) == ["+important", "-important", "+important", "-important"])
    }

    /// Also one of a window, whose end is found as well; over restarts, and a clock that is set back, nothing is said twice.
    @Test func nothingIsAnnouncedTwice() {
        let device = Device(policy)
        for _ in 0..<5 { device.take("ada", "Viewed") }
        #expect(announced(device) == ["+busy"])
        device.restart()
        device.takeTimers(commits: false)
        device.pass(11 * minute, steps: 11)
        #expect(announced(device) == ["+busy", "-busy"])
        device.now -= day
        device.restart()
        device.pass(day + minute, steps: 1000)
        #expect(announced(device) == ["+busy", "-busy"])
    }

    @Test func whatEntersMayStartATriggerWhichStartsNothing() {
        let device = Device(policy)
        device.take("ada", "Order Completed", grants: grants)
        let made = device.generated()
        #expect(made.count == 2 && made[1].contains(#""trigger":"welcome""#))
        #expect(device.pipeline.ledger.generated == 2 && device.pipeline.ledger.admitted == 1)
    }

    @Test func withoutAGrantNothingIsAnnounced() {
        let device = Device(policy)
        device.take("ada", "Order Completed", grants: ["analytics"])
        device.take("ada", "Product Added", grants: ["analytics"])
        device.pass(day)
        #expect(announced(device) == [])
        device.take("ben", "Order Completed", grants: grants)
        #expect(announced(device) == ["+important"])
        // Who takes the grant back is not told of; with a new grant the audience is joined anew.
        device.take("ben", "Looked", grants: ["analytics"], denies: ["personalization"])
        device.pass(91 * day)
        #expect(announced(device) == ["+important"])
    }

    /// Who was two people is in what either was in, and that is not announced again.
    @Test func joinedPeopleAreWhereTheyWere() {
        let device = Device(policy)
        device.take("ada", "Order Completed", grants: grants)
        device.take("""
            {"type": "track", "anonymousId": "a", "event": "Order Completed", "properties": {"email": "ada@example.org"},
             "context": {"consent": {"categoryPreferences": {"analytics": true, "personalization": true}}}}
            """)
        #expect(announced(device) == ["+important", "+important"])
        device.take("ada", "Signed Up", #"{"email": "ada@example.org"}"#, grants: grants)
        #expect(announced(device).count == 2)
        device.pass(91 * day)
        #expect(announced(device) == ["+important", "+important", "-important"])
    }

    @Test func anErasureTakesAwayWhatIsRemembered() {
        let device = Device(policy)
        device.take("ada", "Order Completed", grants: grants)
        #expect(device.count { $0.pending } == 1)
        guard let ada = device.person("user_id", "ada") else { Issue.record("nobody"); return }
        device.write { transaction throws(StoreError) in
            _ = try device.pipeline.erase(ada, nil, actor: [], now: device.now, &transaction)
        }
        #expect(device.count { $0.pending } == 0 && device.count { $0.timers } == 0)
    }

    /// A bundle in which nothing is announced writes nothing, and one whose audiences read no time has no timers.
    @Test func whereNothingIsAnnouncedNothingIsKept() {
        let silent = Device(policy.replacing("announce: true", with: "announce: false"))
        silent.take("ada", "Order Completed", grants: grants)
        #expect(silent.count { $0.pending } == 0 && silent.generated() == [])
        let timeless = Device("""
            version: 1
            purposes: [analytics]
            identifiers: { user_id: { from: [userId], send: hmac } }
            events: { "*": { purpose: analytics } }
            attributes: { orders: { type: counter, when: 'event.event == "Order Completed"' } }
            audiences: { buyer: { when: profile.orders > 0, purpose: analytics, announce: true } }
            """)
        timeless.take("ada", "Order Completed")
        timeless.take("ada", "Order Completed")
        #expect(announced(timeless) == ["+buyer"])
        #expect(timeless.count { $0.pending } == 1 && timeless.count { $0.timers } == 0)
    }

    @Test(arguments: [
        ("audiences: { a: { when: 'profile.orders > 0', announce: true } }", "an audience that announces itself needs a purpose"),
        ("audiences: { a: { purpose: analytics } }", "an audience is a condition"),
        ("audiences: { a: { when: 'profile.secret > 0', purpose: analytics, announce: true } }", "profile.secret is restricted"),
        ("triggers: { t: { send: hub } }", "a trigger is a map with on: CONDITION"),
        ("triggers: { t: { on: 'true', send: nobody } }", "send must name a destination of this bundle"),
        ("triggers: { t: { on: 'true', unless: 'false', send: hub } }", "unless needs after"),
        ("triggers: { t: { on: 'even.event == 1', send: hub } }", "undeclared name 'even'"),
        ("triggers: { t: { on: 'true', send: spare } }", "send must not name a fallback"),
        ("triggers: { t: { on: 'profile.secret > 1', send: hub } }", "profile.secret is restricted"),
        ("triggers: { t: { on: 'true', send: hub, at: noon } }", "unknown setting at of a trigger"),
    ])
    func whatIsWrongIsSaid(section: String, expected: String) {
        let text = """
            version: 1
            purposes: [analytics]
            identifiers: { user_id: { from: [userId], send: hmac } }
            events: { "*": { purpose: analytics } }
            attributes: { orders: { type: counter }, secret: { type: counter, restricted: true } }
            destinations:
              hub: { url: "https://hub.example/v1/batch", purpose: analytics, fallback: spare }
              spare: { url: "https://spare.example/v1/batch", purpose: analytics }
            \(section)
            """
        let bytes = Array(text.utf8)
        let (bundle, problems) = Bundle.read(bytes.span, loadedAt: 0)
        #expect(bundle == nil && problems.contains { $0.message.contains(expected) }, "\(problems)")
    }
}
