// Shows that experiments count what happened: each person once, for the arm that they were first shown, and for the goal when
// it comes in time, whatever happens to people, stores and bundles meanwhile. With whole devices in memory.

import Foundation
import Monitoring
import Store
import Testing

@testable import Activation
@testable import Agent
@testable import Formats
@testable import Serving

private struct Arm: Decodable {
    var arm: String
    var people: Int
    var conversions: Int
    var open: Int
    var rate: Double?
    var lift: Double?
    var value: Double?
    var valuePerPerson: Double?
}
private struct Count: Decodable {
    var decision: String
    var ruleNumber: Int
    var rule: String
    var goal: String
    var withinSeconds: Int
    var control: String
    var mixed: Int
    var few: Bool
    var arms: [Arm]
    subscript(arm: String) -> Arm? { arms.first { $0.arm == arm } }
    var people: Int { arms.reduce(0) { $0 + $1.people } }
    var conversions: Int { arms.reduce(0) { $0 + $1.conversions } }
}
private struct Answer: Decodable { var experiments: [Count] }

extension Device {
    fileprivate func experiments() -> [Count] {
        var report = ExperimentReport(bundle.policy, now: now)
        var writer = JSONWriter()
        do {
            var reader = try database.makeReader()
            try reader.begin()
            try reader.scan(reader.tables.profiles, from: Span<UInt8>()) { key, record in
                do throws(StoreError) { try report.add(key, record, reader) } catch { fatalError(error.message) }
                return true
            }
            report.write(to: &writer)
            return try JSONDecoder().decode(Answer.self, from: Data(writer.bytes)).experiments
        } catch { fatalError("\(error)") }
    }

    /// Asks about somebody and keeps what that leaves; the answer is the variant.
    @discardableResult
    fileprivate func show(_ user: String, _ key: String = "offer", kind: String = "targetingKey", commits: Bool = true) -> String {
        var decider = Decider(device: [], pepper: pepper, meters: meters)
        let answer = decide(key, "{\"\(kind)\": \"\(user)\"}", &decider)
        keep(&decider, commits: commits)
        return answer
    }

    fileprivate func order(_ user: String, _ revenue: Double? = 10, kind: String = "userId", at time: Int64? = nil) {
        let timestamp = time.map { ", \"timestamp\": \"\(String(decoding: Timestamp.write($0), as: UTF8.self))\"" } ?? ""
        take("""
            {"type": "track", "\(kind)": "\(user)", "event": "Order Completed", "properties": {\(revenue.map { "\"revenue\": \($0)" } ?? "")},
            \(consent)\(timestamp)}
            """)
    }

    fileprivate func meet(_ user: String, kind: String = "userId", _ more: String = "", _ said: String = consent) {
        take("{\"type\": \"track\", \"event\": \"Page Opened\", \"\(kind)\": \"\(user)\", \(more)\(said)}")
    }
}

private let consent = #""context": {"consent": {"categoryPreferences": {"analytics": true, "personalization": true}}}"#
private let refusal = #""context": {"consent": {"categoryPreferences": {"analytics": true, "personalization": false}}}"#

private func bundle(
    version: Int = 1, goal: String = "{ event: Order Completed, within: 2d, value: event.properties.revenue }",
    rules: String = "[ { name: test, split: { ten: 1, free: 1 }, holdout: 30 } ]"
) -> String {
    """
    version: \(version)
    purposes: [analytics, personalization]
    identifiers:
      user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
      cookie: { from: [anonymousId, context.cookie], send: hmac }
    events: { "*": { purpose: analytics } }
    attributes: { seen: { type: counter } }
    decisions:
      offer: { purpose: personalization, record: 0, variants: { none: 0, ten: 10, free: 15 }, default: none, goal: \(goal), rules: \(rules) }
      plain: { purpose: personalization, record: 0, variants: { a: 1, b: 2 }, default: a, rules: [ { split: { a: 1, b: 1 } } ] }
    """
}

@Suite struct ExperimentsTests {
    // limit: Activation.fewPeople, Activation.fewConversions
    @Test func everybodyCountsOnceForWhatTheyWereShown() {
        let device = Device(bundle())
        var shown: [String: Int] = [:]
        for number in 0..<400 {
            device.meet("u\(number)")
            // A person who is asked for more often is one person all the same.
            let variant = device.show("u\(number)")
            for _ in 0..<2 { #expect(device.show("u\(number)") == variant) }
            shown[variant, default: 0] += 1
            device.show("u\(number)", "plain")
        }
        let count = device.experiments()[0]
        #expect(device.experiments().count == 1, "a decision without a goal is not counted")
        #expect((count.decision, count.ruleNumber, count.rule, count.goal) == ("offer", 1, "test", "Order Completed"))
        #expect(count.withinSeconds == 172_800 && count.control == "holdout")
        #expect(count.arms.map { $0.arm } == ["holdout", "ten", "free"])
        #expect(count["holdout"]?.people == shown["none"] && count["ten"]?.people == shown["ten"])
        #expect(count.people == 400 && count.conversions == 0 && count.mixed == 0)
        #expect(count["holdout"]!.people > 90 && count["ten"]!.open == shown["ten"]!)
        #expect(device.generated().isEmpty, "what is counted does not hang on records in the log")
        #expect(count.few)
        for number in 0..<150 { device.order("u\(number)") }
        #expect(device.experiments()[0].conversions == 150)
        #expect(device.experiments()[0].few == (count.arms.contains { $0.people < 100 }))
        device.now += 2 * day
        #expect(device.experiments()[0].arms.allSatisfy { $0.open == 0 })
    }

    /// Asking for all flags at once shows nothing; a refusal, a question about nobody, and a schedule that is over neither.
    @Test func whatWasNotShownDoesNotCount() {
        let device = Device(bundle(rules: "[ { name: test, until: 2026-02-01T00:00:00Z, split: { ten: 1, free: 1 } } ]"))
        var decider = Decider(device: [], pepper: device.pepper, meters: device.meters)
        device.meet("ada")
        device.write { transaction in
            transaction.read { reader in
                var writer = JSONWriter()
                let question = Array(#"{"context": {"targetingKey": "ada"}}"#.utf8)
                _ = decider.answerAll(device.bundle.policy, question.span, now: device.now, reader, into: &writer)
            }
        }
        device.keep(&decider)
        device.meet("ben", "", refusal)
        device.show("ben")
        device.show("nobody")
        #expect(device.experiments()[0].people == 0)
        #expect(device.experiments()[0].control == "ten", "neither holdout nor default: the first")
        device.now += day
        #expect(device.show("ada") == "none")
        #expect(device.experiments()[0].people == 0)
        // A shadow or a simulation looks and leaves nothing.
        device.now -= day
        var observer = Decider(device: [], pepper: device.pepper, meters: device.meters, isObserver: true)
        _ = device.decide("offer", #"{"targetingKey": "ada"}"#, &observer)
        #expect(observer.records.isEmpty)
        device.show("ada")
        #expect(device.experiments()[0].people == 1)
        // Whoever takes the grant back is not looked at.
        device.meet("ada", "", refusal)
        #expect(device.experiments()[0].people == 0)
    }

    // limit: Unification.goalEvents
    @Test func theGoalCountsFromTheExposureOnUntilItsTimeIsUp() {
        let device = Device(bundle())
        for user in ["before", "first", "last", "late", "twice", "free", "bot"] {
            device.meet(user)
            if user == "before" { device.order(user) }
            device.now += 1000
            device.show(user)
        }
        let shown = device.now
        func total() -> (Int, Double) {
            let count = device.experiments()[0]
            return (count.conversions, count.arms.reduce(0) { $0 + ($1.value ?? 0) })
        }
        #expect(total() == (0, 0))
        device.order("first", 1)
        #expect(total() == (1, 1))
        device.order("twice", 20)
        device.order("twice", 30.5)
        #expect(total() == (2, 51.5))
        device.order("free", nil)
        #expect(total() == (3, 51.5), "without a value it counts all the same")
        // What happened before the exposure and is only told of now.
        device.order("late", 99, at: shown - 10_000)
        #expect(total() == (3, 51.5))
        for _ in 0..<101 {
            device.now += 1
            device.order("bot", 1)
        }
        #expect(total() == (4, 151.5), "of more than a hundred the latest hundred")
        device.now = shown + 2 * day - 4001
        device.order("last", 7)
        device.now += 4000
        device.order("late", 7)
        #expect(total() == (5, 158.5))
        // In time, but told of late.
        device.order("late", 2, at: shown)
        #expect(total() == (6, 160.5))
        let count = device.experiments()[0]
        #expect(count.people == 7 && count.arms.allSatisfy { $0.people == 0 || $0.valuePerPerson != nil })
        #expect(device.attributes("user_id", "first") == #"{"seen":2}"#, "nobody reads what is kept")
    }

    /// The same arm: one person from the first exposure on. Two arms: they have seen both, and show nothing about either.
    @Test func peopleWhoBecomeOneCountOnce() {
        for isSame in [true, false] {
            let device = Device(bundle(rules: "[ { name: test, split: { ten: 1, free: 1 } } ]"))
            device.meet("u", kind: "userId")
            let shown = device.show("u")
            device.order("u", 5)
            var number = 0
            while true {
                device.meet("c\(number)", kind: "anonymousId")
                if (device.show("c\(number)", kind: "cookie") == shown) == isSame { break }
                number += 1
            }
            device.now += 1000
            device.order("c\(number)", 7, kind: "anonymousId")
            let before = device.experiments()[0]
            #expect(before.people == number + 2 && before.conversions == 2)
            device.now += 1000
            device.meet("u", "\"anonymousId\": \"c\(number)\", ")
            let after = device.experiments()[0]
            #expect(after.people == before.people - (isSame ? 1 : 2) && after.conversions == (isSame ? 1 : 0))
            #expect(after.mixed == (isSame ? 0 : 1))
            #expect(after.arms.reduce(0) { $0 + ($1.value ?? 0) } == (isSame ? 12 : 0))
            // Cut apart again, both are who they were.
            #expect(device.unlink("cookie", "c\(number)") > 0)
            #expect(device.experiments()[0].people == before.people && device.experiments()[0].conversions == 2)
        }
    }

    // limit: Unification.exposures
    @Test func ofManyWhoBecomeOneTheLatestExposuresAreKept() {
        let device = Device(bundle(rules: "[ { name: test, serve: ten, holdout: 0 } ]"))
        for number in 0..<10 {
            device.meet("c\(number)", kind: "anonymousId")
            device.show("c\(number)", kind: "cookie")
            if number == 0 { device.order("c0", kind: "anonymousId") }
            device.now += 60_000
        }
        #expect(device.experiments()[0].people == 10 && device.experiments()[0].conversions == 1)
        for number in 0..<8 { device.meet("u", "\"anonymousId\": \"c\(number)\", ") }
        #expect(device.experiments()[0].people == 3 && device.experiments()[0].conversions == 1)
        for number in 8..<10 { device.meet("u", "\"anonymousId\": \"c\(number)\", ") }
        #expect(device.experiments()[0].people == 1 && device.experiments()[0].conversions == 0)
    }

    @Test func anErasedPersonLeavesTheCounts() throws {
        let device = Device(bundle())
        for user in ["ada", "ben"] {
            device.meet(user)
            device.show(user)
            device.order(user)
        }
        #expect(device.experiments()[0].conversions == 2)
        let ada = try #require(device.person("user_id", "ada"))
        device.write { transaction throws(StoreError) in
            var erasure = try device.pipeline.erase(ada, nil, actor: [], now: device.now, &transaction)
            try device.pipeline.eraseMore(&erasure, atMost: 1000, now: device.now, &transaction)
        }
        #expect(device.experiments()[0].people == 1 && device.experiments()[0].conversions == 1)
        // An exposure that was on its way when they went is nobody's.
        var decider = Decider(device: [], pepper: device.pepper, meters: device.meters)
        _ = device.decide("offer", #"{"targetingKey": "ben"}"#, &decider)
        #expect(decider.records.isEmpty, "it is counted already")
    }

    /// What did not happen does not count, what was committed stays, and what was lost counts with the next answer.
    @Test func countsGoWithTheTransaction() {
        let device = Device(bundle())
        device.meet("ada")
        device.show("ada", commits: false)
        #expect(device.experiments()[0].people == 0)
        device.show("ada")
        device.restart()
        device.order("ada")
        #expect(device.experiments()[0].people == 1 && device.experiments()[0].conversions == 1)
        // Two answers before the first is written.
        device.meet("ben")
        var decider = Decider(device: [], pepper: device.pepper, meters: device.meters)
        for _ in 0..<2 {
            _ = device.decide("offer", #"{"targetingKey": "ben"}"#, &decider)
            device.now += 1
        }
        #expect(decider.records.count == 2)
        device.keep(&decider)
        #expect(device.experiments()[0].people == 2)
    }

    /// With what another device knows come its exposures and goals, once; what that one did not see as a conversion is none.
    @Test func storesThatAreMergedCountEverybodyOnce() {
        let (device, other) = (Device(bundle()), Device(bundle(), epoch: 2, seed: 2))
        for user in ["ada", "ben"] {
            device.meet(user)
            other.now += 1000
            other.meet(user)
        }
        device.show("ada")
        other.show("ben")
        device.order("ben")
        other.order("ben", 3)
        other.order("ada", 4)
        for _ in 0..<2 { device.learn(from: other) }
        let count = device.experiments()[0]
        #expect(count.people == 2 && count.mixed == 0)
        #expect(count.conversions == 1 && count.arms.reduce(0) { $0 + ($1.value ?? 0) } == 3)
        // Whom both have shown the same arm is one person with one exposure, the earlier.
        other.show("ada")
        device.learn(from: other)
        #expect(device.experiments()[0].people == 2)
    }

    @Test func anotherTestBeginsAnewAndTheSameGoesOn() {
        let device = Device(bundle())
        device.meet("ada")
        device.show("ada")
        device.order("ada")
        #expect(device.experiments()[0].conversions == 1)
        // Another version of the bundle, in which the test is the same.
        device.adopt(bundle(version: 2))
        #expect(device.experiments()[0].people == 1 && device.experiments()[0].conversions == 1)
        for (version, changed) in [
            bundle(version: 3, rules: "[ { name: test, split: { ten: 1, free: 2 }, holdout: 30 } ]"),
            bundle(version: 4, rules: "[ { name: test, split: { ten: 1, free: 1 }, holdout: 20 } ]"),
            bundle(version: 5, rules: "[ { name: again, split: { ten: 1, free: 1 }, holdout: 30 } ]"),
            bundle(version: 6, goal: "{ event: Order Completed, within: 3d, value: event.properties.revenue }"),
            bundle(version: 7).replacingOccurrences(of: "ten: 10", with: "ten: 12"),
        ].enumerated() {
            device.adopt(changed)
            #expect(!device.isRecomputing, "before it was shown nothing can have followed")
            #expect(device.experiments()[0].people == 0, "change \(version)")
            device.show("ada")
            #expect(device.experiments()[0].people == 1 && device.experiments()[0].conversions == 0, "change \(version)")
        }
        // Taken back, it goes on; what came meanwhile is counted from the log.
        device.order("ada", 5)
        device.adopt(bundle(version: 8))
        #expect(device.experiments()[0].people == 1 && device.experiments()[0].conversions == 1)
        device.recompute()
        #expect(device.experiments()[0].arms.reduce(0) { $0 + ($1.value ?? 0) } == 15)
        // An answer of the bundle before, written under one that has no such test, counts for nothing.
        device.meet("ben")
        var decider = Decider(device: [], pepper: device.pepper, meters: device.meters)
        _ = device.decide("offer", #"{"targetingKey": "ben"}"#, &decider)
        device.adopt(bundle(version: 9, goal: "Page Opened"))
        device.keep(&decider)
        #expect(device.experiments()[0].people == 0)
    }

    @Test func whatIsWrongWithAGoalIsSaidWhereItStands() {
        func problems(_ goal: String, _ rules: String = "[ { split: { ten: 1 } } ]") -> String {
            let text = Array("""
                version: 1
                purposes: [personalization]
                events: { Order Completed: { purpose: personalization } }
                decisions:
                  offer:
                    variants: { none: 0, ten: 10 }
                    purpose: personalization
                    default: none
                    goal: \(goal)
                    rules: \(rules)
                """.utf8)
            let (_, found) = Bundle.read(text.span, loadedAt: noon)
            return found.map { "\($0.position.line):\($0.position.column) \($0.message)" }.joined(separator: "\n")
        }
        #expect(problems("Order Completed") == "")
        #expect(problems("{ event: Order Completed }") == "")
        #expect(problems("{ when: 'event.event == \"Order Completed\" && event.properties.revenue > 5.0', within: 1h }") == "")
        for (goal, expected) in [
            ("Order Complete", "9:11 events of this bundle has no such event: it would never come"),
            ("{ event: Order Complete }", "9:20 events of this bundle has no such event: it would never come"),
            ("7", "9:11 a goal is the name of an event, or { event: NAME } or { when: CONDITION }, with within: 7d and value: …"),
            ("{ within: 7d }", "9:11 a goal is the name of an event"),
            ("{ event: Order Completed, when: 'true' }", "9:11 a goal is the name of an event"),
            ("{ event: Order Completed, within: soon }", "9:45 within must be"),
            ("{ event: Order Completed, within: 367d }", "9:45 within must be"),
            ("{ event: Order Completed, per: 7d }", "9:37 unknown setting per of a goal"),
            ("{ event: Order Completed, value: event.event == \"x\" }", "9:44 value must be a number, such as event.properties.revenue"),
            ("{ event: Order Completed, value: evnt.x }", "9:44 undeclared name 'evnt'"),
            ("{ when: event.timestamp }", "9:"),
            ("{ when: 'profile.orders > 1' }", "9:"),
        ] {
            #expect(problems(goal).hasPrefix(expected), "\(goal): \(problems(goal))")
        }
        #expect(problems("Order Completed", "[ { serve: ten } ]") == "9:11 a goal counts for rules with a split or a holdout, and here is none")
        #expect(
            problems("Order Completed", "[ { name: a, holdout: 5, serve: ten }, { name: a, holdout: 5, serve: ten } ]")
                .contains("10:51 an earlier rule is the same test: give one of them another name"))
        let (_, found) = Bundle.read(
            Array("version: 1\ndecisions:\n  d: { variants: { a: 1 }, goal: X, rules: [ { holdout: 5, serve: a } ] }".utf8).span,
            loadedAt: noon)
        #expect(found.contains { $0.message == "a goal counts people: this decision needs a purpose" })
    }
}
