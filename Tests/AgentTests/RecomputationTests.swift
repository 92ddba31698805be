// Shows that a rule that is new counts the events that the log still has as if it had been there from the start, whatever
// happens meanwhile, and says of whom it could not.
import Formats
import Foundation
import Governance
import Platform
import Store
import Testing

@testable import Agent
@testable import Unification

private let before = """
    version: 1
    purposes: { analytics: {}, advertising: {} }
    identifiers:
      user_id: { from: [userId], send: hmac, unique: true }
      card: { from: [properties.card], normalize: digits, send: hmac }
      email: { from: [traits.email, properties.email], normalize: email, send: sha256 }
    events: { Ad Seen: { purpose: advertising }, "*": { purpose: analytics } }
    attributes:
      events: { type: counter }
      bought: { type: counter, when: 'event.event == "Order Completed"' }
    """

/// The same with one of each type more, a rule that is another, and one that reads what is new.
private let after = before.replacingOccurrences(of: "version: 1", with: "version: 2").replacingOccurrences(
    of: #"bought: { type: counter, when: 'event.event == "Order Completed"' }"#,
    with: """
        bought: { type: counter, when: 'event.event == "Order Completed" && event.properties.amount > 1.0' }
          spent: { type: sum, value: event.properties.amount }
          mean: { type: mean, value: event.properties.amount }
          largest: { type: max, value: event.properties.amount }
          seen: { type: set, value: event.properties.product, limit: 3 }
          liked: { type: tally, value: event.properties.product }
          first_product: { type: first, value: event.properties.product }
          last_product: { type: last, value: event.properties.product }
          moments: { type: timeline, value: event.properties.product, limit: 5 }
          recent: { type: counter, window: 3h }
          city: { type: string, value: event.properties.product, ttl: 9h }
          half: { type: sum, scope: event, value: event.properties.amount / 2.0 }
          halves: { type: sum, when: profile.half > 0.0, value: profile.half }
          at_night: { type: counter, when: now.getHours() < 6 || now.getHours() > 18 }
        decisions:
          layout:
            purpose: analytics
            variants: { a: 1, b: 2 }
            default: a
            rules: [{ name: half, when: 'true', split: { a: 50, b: 50 } }]
        """)

private let consent = #""consent": {"categoryPreferences": {"analytics": true, "advertising": true}}"#

/// Random events of a few people, minute after minute, whose identifiers are joined by some of them; now and then one hands
/// in something older.
private struct Day {
    var events: [(at: Int64, json: String)] = []
    let identifiers = (0..<4).map { ("user_id", "user-\($0)") } + (0..<4).map { ("card", "40000\($0)") }
        + (0..<3).map { ("email", "person\($0)@example.com") }

    init(seed: UInt64, size: Int) {
        var random = SeededRandom(seed: seed)
        func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
        for number in 0..<size {
            let came = noon - day + Int64(number) * 3 * 60_000
            let happened = came - (pick(5) == 0 ? Int64(pick(120)) * 60_000 : 0)
            var outer = [#""anonymousId": "somebody", "messageId": "m-\#(seed)-\#(number)""#]
            var properties = [#""product": "p\#(pick(6))", "amount": \#([0.1, 0.2, 19.99, 123_456.78][pick(4)])"#]
            if pick(2) == 0 { outer.append(#""userId": "user-\#(pick(4))""#) }
            if pick(3) == 0 { properties.append(#""card": "40000\#(pick(4))""#) }
            if outer.count == 1 && properties.count == 1 || pick(6) == 0 {
                properties.append(#""email": "person\#(pick(3))@example.com""#)
            }
            var time: [UInt8] = []
            Timestamp.append(happened, to: &time)
            outer.append(#""timestamp": "\#(String(decoding: time, as: UTF8.self))""#)
            let name = ["Product Viewed", "Order Completed", "Ad Seen"][pick(3)]
            events.append(
                (came, """
                    {"type": "track", "event": "\(name)", \(outer.joined(separator: ", ")),
                    "properties": {\(properties.joined(separator: ", "))}, "context": {\(consent)}}
                    """))
        }
    }

    func play(_ range: Range<Int>, on device: Device) {
        for (time, json) in events[range] {
            device.now = time
            device.take(json)
        }
    }
}

extension Device {
    /// What somebody is drawn by.
    fileprivate func seed(_ kind: String, _ value: String) -> UInt64? {
        guard let id = person(kind, value)?.bytes else { return nil }
        let plan = bundle.policy.attributes
        return write { transaction throws(StoreError) in
            guard let record = try transaction.get(transaction.tables.profiles, id.span) else { return nil }
            var index = ProfileIndex()
            do {
                index.fill(try ProfileView(record), plan)
                return index.seed(in: record, plan)
            } catch { fatalError("damaged") }
        }
    }
}

@Suite struct RecomputationTests {
    /// The profiles are those of a device that had the later bundle from the start: with events between the steps, with two
    /// restarts, and with people who are joined by what comes later.
    @Test(arguments: 1...8) func aNewRuleCountsWhatTheLogHas(_ seed: Int) {
        let today = Day(seed: UInt64(seed), size: 460)
        let (old, new) = (Device(before), Device(after))
        today.play(0..<460, on: new)
        today.play(0..<400, on: old)
        old.adopt(after)
        old.recompute(steps: 1)
        today.play(400..<420, on: old)
        #expect(old.isRecomputing)
        old.restart()
        old.recompute(steps: 1)
        today.play(420..<440, on: old)
        old.restart()
        old.recompute()
        today.play(440..<460, on: old)
        #expect(!old.isRecomputing)
        #expect(old.people(today.identifiers) == new.people(today.identifiers))
        #expect(new.people(today.identifiers).contains("halves"))
        for (kind, value) in today.identifiers {
            #expect(old.incomplete(kind, value) == [])
            #expect(old.seed(kind, value) == new.seed(kind, value))
        }
        #expect(new.seed("card", "400001") != nil)
        // Parted again, everybody has what is theirs.
        for device in [old, new] { _ = device.unlink("card", "400001") }
        #expect(old.people(today.identifiers) == new.people(today.identifiers))
        let seen = old.meters.recomputeCounted.current + old.meters.recomputeUnchanged.current + old.meters.recomputeDenied.current
        #expect(seen == 400)
    }

    /// Nothing of a person who has taken the purpose back, nor of one who was erased.
    @Test func consentIsThatOfToday() {
        let device = Device(before)
        for user in ["ada", "ben", "eve"] {
            device.take(user, "Order Completed", #"{"amount": 5.0}"#, grants: ["analytics", "advertising"])
            device.take(user, "Ad Seen", #"{"amount": 7.0}"#, grants: ["analytics", "advertising"])
        }
        device.now += 1000
        device.take("ben", "Asked", grants: ["analytics"], denies: ["advertising"])
        let eve = device.person("user_id", "eve")!
        device.write { transaction throws(StoreError) in
            var erasure = try device.pipeline.erase(eve, nil, actor: [], now: device.now, &transaction)
            try device.pipeline.eraseMore(&erasure, atMost: 1000, now: device.now, &transaction)
        }
        device.adopt(after)
        device.recompute()
        #expect(device.attributes("user_id", "ada").contains(#""spent":12.0"#))
        #expect(device.attributes("user_id", "ben").contains(#""spent":5.0"#))
        #expect(device.attributes("user_id", "eve") == "" && device.count { $0.profiles } == 2)
        #expect(device.meters.recomputeDenied.current == 1 && device.meters.recomputeMissing.current == 0)
        #expect(device.incomplete("user_id", "ada") == [])
    }

    /// Events of a purpose that was taken back are lacking once it is granted again, and the record says so of whom it is
    /// true, whoever they become one with, and until the attribute has an end.
    @Test func whatWasPassedOverIsSaid() {
        let device = Device(before)
        for user in ["ada", "ben"] {
            device.take(user, "Order Completed", #"{"amount": 5.0}"#, grants: ["analytics", "advertising"])
            device.take(user, "Ad Seen", #"{"amount": 7.0}"#, grants: ["analytics", "advertising"])
        }
        device.take("ben", "Asked", grants: ["analytics"], denies: ["advertising"])
        device.now += 1000
        device.adopt(after)
        device.recompute()
        device.now += 1000
        device.take("ben", "Asked", grants: ["analytics", "advertising"])
        let lacking = device.incomplete("user_id", "ben")
        #expect(lacking.contains("spent") && lacking.contains("recent"))
        #expect(!lacking.contains("events") && !lacking.contains("half"))
        #expect(device.incomplete("user_id", "ada") == [])
        device.restart()
        #expect(device.incomplete("user_id", "ben") == lacking)
        // It is no choice: nothing is granted or shown by it.
        let (ben, plan) = (device.person("user_id", "ben")!.bytes, device.bundle.policy.purposes)
        device.write { transaction throws(StoreError) in
            guard let choices = try transaction.get(transaction.tables.consent, ben.span) else { return }
            var writer = JSONWriter()
            ConsentRecord.writeHistory(choices, plan, to: &writer)
            let text = String(decoding: writer.bytes, as: UTF8.self)
            #expect(text.components(separatedBy: "\"purpose\":").count == 3 && !text.contains("null"))
        }
        // It goes with the identifier: whoever has it is who lacks the events.
        device.take("""
            {"type": "track", "userId": "ben", "event": "Asked", "properties": {"card": "400001"}, "context": {\(consent)}}
            """)
        #expect(device.unlink("card", "400001") == 1)
        #expect(device.incomplete("user_id", "ben") == lacking && device.incomplete("card", "400001") == [])
        device.now += 10 * 3_600_000
        let later = device.incomplete("user_id", "ben")
        #expect(later.contains("spent") && !later.contains("recent") && !later.contains("city"))
    }

    /// What the log does not have any more is lacking to those who were known then, and to nobody else.
    @Test func whoIsIncompleteIsNamed() {
        let device = Device(before)
        for user in ["ada", "ben", "eve"] {
            device.now += 1000
            device.take(user, "Order Completed", #"{"amount": 5.0}"#)
        }
        device.trim(below: 2)
        device.now += 1000
        device.adopt(after)
        #expect(device.incomplete("user_id", "eve").contains("spent"))
        device.recompute()
        let lacking = device.incomplete("user_id", "ada")
        #expect(lacking.contains("spent") && lacking.contains("bought") && !lacking.contains("events") && !lacking.contains("half"))
        #expect(device.attributes("user_id", "ada").contains(#""spent":0.0"#))
        // Ben's event was the first that was left; the third is known to be whole.
        #expect(device.attributes("user_id", "ben").contains(#""spent":5.0"#))
        #expect(device.incomplete("user_id", "eve") == [])
        device.take("fay", "Order Completed", #"{"amount": 5.0}"#)
        #expect(device.incomplete("user_id", "fay") == [])
        // A window is whole again once it has passed.
        #expect(lacking.contains("recent") && lacking.contains("city"))
        device.now += 10 * 3_600_000
        #expect(!device.incomplete("user_id", "ada").contains("recent") && !device.incomplete("user_id", "ada").contains("city"))
        #expect(device.incomplete("user_id", "ada").contains("spent"))
    }

    /// What goes while it is being counted, too.
    @Test func theLogMayBeTrimmedMeanwhile() {
        let device = Device(before)
        for number in 1...400 {
            device.now += 1000
            device.take(number <= 250 ? "ada" : "ben", "Order Completed", #"{"amount": 5.0}"#)
        }
        device.adopt(after)
        device.recompute(steps: 1)
        #expect(device.meters.recomputePending.current == 400 - Int64(Limits.recomputedPerStep))
        device.trim(below: 201)
        device.recompute()
        #expect(device.meters.recomputePending.current == 0)
        #expect(device.attributes("user_id", "ada").contains(#""spent":890.0"#))
        #expect(device.incomplete("user_id", "ada").contains("spent") && device.incomplete("user_id", "ben") == [])
        // All that was left goes.
        device.adopt(after.replacingOccurrences(of: "> 1.0", with: "> 2.0"))
        device.trim(below: 401)
        device.recompute()
        #expect(device.incomplete("user_id", "ben") == ["bought"] && device.incomplete("user_id", "ada").contains("bought"))
    }

    /// An entry in the middle that cannot be read, or whose time was up, may have been anybody's.
    @Test func anEntryThatCannotBeReadMakesThoseBeforeItIncomplete() {
        let device = Device(before)
        for user in ["ada", "ben", "eve"] {
            device.now += 1000
            device.take(user, "Order Completed", #"{"amount": 5.0}"#)
        }
        device.write { transaction throws(StoreError) in
            let (key, bytes) = (NumberKey(2), [UInt8](repeating: 1, count: 80))
            try transaction.put(transaction.tables.log, key.bytes.span, bytes.span)
        }
        device.adopt(after)
        device.recompute()
        #expect(device.incomplete("user_id", "ada").contains("spent"))
        #expect(device.attributes("user_id", "ada").contains(#""spent":5.0"#))
        #expect(device.incomplete("user_id", "ben").contains("spent") && device.meters.recomputeMissing.current == 1)
        device.now += 1
        device.take("fay", "Order Completed", #"{"amount": 5.0}"#)
        #expect(device.incomplete("user_id", "fay") == [])
    }

    /// A rule that is written another way with the same meaning is the same; a changed one forgets what the other counted.
    @Test func blanksMakeNoOtherRule() {
        let device = Device(before)
        device.take("ada", "Order Completed", #"{"amount": 0.5}"#)
        device.adopt(before.replacingOccurrences(of: "event.event ==", with: "event.event  =="))
        #expect(!device.isRecomputing)
        device.adopt(before.replacingOccurrences(of: #""Order Completed"'"#, with: #""Order  Completed"'"#))
        #expect(device.isRecomputing)
        device.recompute()
        #expect(device.attributes("user_id", "ada") == #"{"events":1,"bought":0}"#)
    }

    /// A bundle that is taken back finds its attributes as they were, and counts what came meanwhile once.
    @Test func aBundleIsTakenBack() {
        let device = Device(before)
        device.take("ada", "Order Completed", #"{"amount": 5.0}"#)
        device.adopt(after)
        device.recompute()
        for amount in [0.5, 5.0] { device.take("ada", "Order Completed", "{\"amount\": \(amount)}") }
        #expect(device.attributes("user_id", "ada").contains(#""events":3,"bought":2"#))
        // The log has lost what was counted at the beginning, and nothing that came since.
        device.trim(below: 2)
        device.now += 1000
        device.adopt(before)
        device.recompute()
        #expect(device.attributes("user_id", "ada") == #"{"events":3,"bought":3}"#)
        #expect(device.incomplete("user_id", "ada") == [])
        // A month later states may have gone from records.
        device.adopt(after)
        device.now += 31 * day
        device.adopt(before)
        device.recompute()
        #expect(device.incomplete("user_id", "ada") == ["bought"])
    }

    /// Another bundle comes while one is being counted: each attribute has its own events.
    @Test func aBundleComesWhileTheLastIsCounted() {
        let today = Day(seed: 3, size: 300)
        let (old, new) = (Device(before), Device(after))
        today.play(0..<300, on: new)
        today.play(0..<250, on: old)
        let part = before.replacingOccurrences(
            of: "bought:", with: "spent: { type: sum, value: event.properties.amount }\n  bought:")
        old.adopt(part)
        old.recompute(steps: 1)
        today.play(250..<300, on: old)
        old.adopt(after)
        old.recompute()
        #expect(old.people(today.identifiers) == new.people(today.identifiers))
    }

    /// An event that was prepared by the bundle before is counted by the new one, and once.
    @Test func anEventThatWasUnderWayIsCountedOnce() {
        let device = Device(before)
        let order = #"{"type": "track", "userId": "ada", "event": "Order Completed", "properties": {"amount": 0.5}, "context": {\#(consent)}}"#
        device.take(order)
        let earlier = device.bundle
        device.adopt(after)
        device.take(order, by: earlier)
        device.recompute()
        device.take(order, by: earlier)
        #expect(device.attributes("user_id", "ada").contains(#""events":3,"bought":0,"spent":1.5"#))
        device.adopt(before)
        device.recompute()
        #expect(device.attributes("user_id", "ada") == #"{"events":3,"bought":3}"#)
    }

    /// What has ended is not brought back: a visit that is over adds nothing to the present one.
    @Test func whatHasEndedStaysSo() {
        let visits = { (text: String) in
            text.replacingOccurrences(of: "  bought:", with: "  pages: { type: counter, scope: visit }\n  bought:")
        }
        let device = Device(before)
        device.take("ada", "Product Viewed")
        device.now += 2 * 3_600_000
        device.take("ada", "Product Viewed")
        device.now += 60_000
        device.adopt(visits(before))
        device.take("ada", "Product Viewed")
        device.recompute()
        #expect(device.attributes("user_id", "ada").contains(#""pages":2"#))
    }

    /// Another device that took over what this one knew takes over what it has found out since.
    @Test func anotherDeviceLearnsOfIt() {
        let (device, other) = (Device(before), Device(after, epoch: 2))
        for card in ["400001", "400002"] {
            device.take(
                #"{"type": "track", "userId": "ada", "event": "Order Completed", "properties": {"amount": 5.0, "card": "\#(card)"}, "context": {\#(consent)}}"#)
        }
        other.learn(from: device)
        #expect(other.attributes("user_id", "ada").contains(#""events":2,"bought":0,"spent":0.0"#))
        device.adopt(after)
        device.recompute()
        other.learn(from: device)
        #expect(other.attributes("user_id", "ada") == device.attributes("user_id", "ada"))
        // Also of the event that follows.
        device.take("ada", "Order Completed", #"{"amount": 2.0}"#)
        other.learn(from: device)
        #expect(other.attributes("user_id", "ada").contains(#""events":3,"bought":3,"spent":12.0"#))
    }

    /// Where nobody knows what was counted, nothing is counted twice.
    @Test func aDamagedRecordCountsNothing() {
        let device = Device(before)
        device.take("ada", "Order Completed", #"{"amount": 5.0}"#)
        device.write { transaction throws(StoreError) in
            let key = AttributeHistory.key
            try transaction.put(transaction.tables.meta, key.span, key.span)
        }
        device.now += 1000
        device.restart()
        device.recompute()
        #expect(device.attributes("user_id", "ada") == #"{"events":1,"bought":1}"#)
        #expect(device.incomplete("user_id", "ada") == ["events", "bought"])
        #expect(device.meters.badRecords.current == 1)
    }

    /// A profile that was evicted does not come back by old events.
    @Test func nobodyIsMadeAnew() {
        let device = Device(before)
        device.take("ada", "Order Completed", #"{"amount": 5.0}"#)
        let id = device.person("user_id", "ada")!.bytes
        device.write { transaction throws(StoreError) in
            _ = try transaction.delete(transaction.tables.profiles, id.span)
        }
        device.adopt(after)
        device.recompute()
        #expect(device.count { $0.profiles } == 0)
    }
}
