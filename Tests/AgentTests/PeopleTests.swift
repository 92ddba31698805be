// Shows that who is one person, and what is known of them, does not depend on the order in which events arrive nor on
// which device they arrive at; and what links do in the cases that shops have.
import Cryptography
import Foundation
import Governance
import Platform
import Store
import Testing

@testable import Agent
@testable import Unification

private typealias Limits = Unification.Limits

private let policy = """
    version: 1
    purposes: [analytics]
    identifiers:
      user_id: { from: [userId], send: hmac, unique: true }
      card: { from: [properties.card], normalize: digits, send: hmac }
      email: { from: [traits.email, properties.email], normalize: email, send: sha256 }
      phone: { from: [properties.phone], normalize: digits, send: hmac, unique: true }
      browser: { from: [context.browser], send: hmac }
      till: { from: [context.device.id], send: hmac, shared: true }
    events: { "*": { purpose: analytics } }
    attributes:
      events: { type: counter }
      spent: { type: sum, value: event.properties.amount }
      largest: { type: max, value: event.properties.amount }
      seen: { type: set, value: event.properties.product }
      liked: { type: tally, value: event.properties.product }
      first_product: { type: first, value: event.properties.product }
      last_product: { type: last, value: event.properties.product }
      moments: { type: timeline, value: event.properties.product }
      recent: { type: counter, window: 60m }
    """

private let consent = #""consent": {"categoryPreferences": {"analytics": true}}"#

/// An event with these identifiers, so many minutes after noon.
private func event(
    _ identifiers: [(String, String)], at minute: Int = 0, id: String = "", properties more: [String] = [], consents: Bool = true
) -> String {
    // Segment wants one of the two in each event; to these people it says nothing.
    var outer = [#""anonymousId": "somebody""#]
    var properties = more
    var device = ""
    var browsers: [String] = []
    for (kind, value) in identifiers {
        switch kind {
        case "user_id": outer.append(#""userId": "\#(value)""#)
        case "browser": browsers.append("\"\(value)\"")
        case "till": device += #", "device": {"id": "\#(value)"}"#
        default: properties.append(#""\#(kind)": "\#(value)""#)
        }
    }
    if !browsers.isEmpty { device += #", "browser": [\#(browsers.joined(separator: ", "))]"# }
    if !id.isEmpty { outer.append(#""messageId": "\#(id)""#) }
    let time = 12 * 60 + minute
    outer.append(#""timestamp": "2026-01-30T\#(two(time / 60)):\#(two(time % 60)):00Z""#)
    let context = consents ? consent + device : String(device.dropFirst(2))
    return """
        {"type": "track", "event": "Product Viewed", \(outer.joined(separator: ", ")),
        "properties": {\(properties.joined(separator: ", "))}, "context": {\(context)}}
        """
}

private func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

/// Random events of a few people whose identifiers meet in all ways, and every identifier that occurs.
private struct Town {
    var events: [String] = []
    var identifiers: [(String, String)] = []

    init(seed: UInt64, size: Int) {
        var random = SeededRandom(seed: seed)
        func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
        var pools: [(kind: String, values: [String])] = [
            ("user_id", (0..<5).map { "user-\($0)" }), ("card", (0..<4).map { "40000\($0)" }),
            ("email", (0..<5).map { "person\($0)@example.com" }), ("phone", (0..<4).map { "4930901820\($0)" }),
            ("browser", (0..<5).map { "browser-\($0)" }),
        ]
        for pool in pools { for value in pool.values { identifiers.append((pool.kind, value)) } }
        for number in 0..<size {
            var chosen: [(String, String)] = []
            let first = pick(pools.count)
            chosen.append((pools[first].kind, pools[first].values[pick(pools[first].values.count)]))
            while pick(3) == 0 {
                let more = pick(pools.count)
                if chosen.contains(where: { $0.0 == pools[more].kind }) { break }
                chosen.append((pools[more].kind, pools[more].values[pick(pools[more].values.count)]))
            }
            let amount = [0.1, 0.2, 19.99, 1e-7, 123_456.78][pick(5)]
            events.append(
                event(
                    chosen, at: pick(600), id: "m-\(seed)-\(number)",
                    properties: [#""amount": \#(amount)"#, #""product": "p\#(pick(4))""#]))
        }
        pools.removeAll()
    }

    func shuffled(_ seed: UInt64) -> [String] {
        var random = SeededRandom(seed: seed)
        var list = events
        for index in list.indices.dropFirst() { list.swapAt(index, Int(random.next() % UInt64(index + 1))) }
        return list
    }
}

/// A device on that evening, when the last of them has just happened.
private func evening(
    epoch: UInt64 = 1, seed: UInt64 = 1, pepper: Peppers = Peppers(key: [UInt8](repeating: 7, count: 32)), folder: String? = nil
) -> Device {
    let device = Device(policy, epoch: epoch, seed: seed, pepper: pepper, folder: folder)
    device.now = noon - 14 * 3_600_000
    return device
}

@Suite struct PeopleTests {
    @Test(arguments: 1...12) func theOrderOfArrivalDoesNotMatter(_ seed: Int) {
        let town = Town(seed: UInt64(seed), size: 40)
        let device = evening()
        for event in town.events { device.take(event) }
        let expected = device.people(town.identifiers)
        #expect(expected.contains(" "))
        for order in 1...3 {
            let other = evening(seed: UInt64(100 + order))
            for event in town.shuffled(UInt64(1000 * seed + order)) { other.take(event) }
            #expect(other.people(town.identifiers) == expected)
        }
    }

    @Test(arguments: 1...12) func devicesThatExchangeWhatTheyKnowKnowTheSame(_ seed: Int) {
        let town = Town(seed: UInt64(50 + seed), size: 40)
        let one = evening()
        for event in town.events { one.take(event) }
        let devices = (1...3).map { evening(epoch: UInt64(10 + $0), seed: UInt64($0)) }
        var random = SeededRandom(seed: UInt64(seed))
        for event in town.shuffled(UInt64(seed)) {
            devices[Int(random.next() % 3)].take(event)
            // Now and then two of them meet.
            if random.next() % 8 == 0 { devices[Int(random.next() % 3)].learn(from: devices[Int(random.next() % 3)]) }
        }
        for _ in 0..<2 { for a in devices { for b in devices where a !== b { a.learn(from: b) } } }
        let expected = one.people(town.identifiers)
        for device in devices { #expect(device.people(town.identifiers) == expected) }
        // Meeting again changes nothing.
        devices[0].learn(from: devices[1])
        #expect(devices[0].people(town.identifiers) == expected)
    }

    /// Half of the events come before another pepper, half after: the people are those of a device that has had one.
    @Test(arguments: 1...12) func anotherPepperMakesNoOtherPeople(_ seed: Int) {
        let town = Town(seed: UInt64(200 + seed), size: 40)
        let expected = evening()
        let former = expected.pepper
        for event in town.events { expected.take(event) }
        var device: Device! = evening()
        for event in town.events[..<20] { device.take(event) }
        let people = device.people(town.identifiers)
        device.leavesFolder = true
        let folder = device.folder
        device = nil
        let present = HMACSHA256(key: [UInt8](repeating: 8, count: 32))
        device = evening(
            seed: 2, pepper: Peppers(present: present, former: former.present, root: former.root), folder: folder)
        #expect(device.people(town.identifiers) == people)
        for event in town.events[20...] { device.take(event) }
        #expect(device.people(town.identifiers) == expected.people(town.identifiers))
        #expect(device.meters.badRecords.current == 0)
    }

    // MARK: The cases of a shop (README, "Who is who")

    private func isOne(_ device: Device, _ a: (String, String), _ b: (String, String)) -> Bool {
        let first = device.person(a.0, a.1)
        return first != nil && first == device.person(b.0, b.1)
    }

    private func count(_ device: Device, _ kind: String, _ value: String) -> Int {
        let text = device.attributes(kind, value)
        guard let range = text.range(of: #""events":"#) else { return 0 }
        return Int(text[range.upperBound...].prefix { $0.isNumber }) ?? 0
    }

    // limit: Unification.visitMilliseconds
    @Test func aSharedKioskLeadsToWhoeverUsesItForTheLengthOfAVisit() {
        let device = evening()
        let kiosk = ("till", "kiosk-7")
        device.take(event([("user_id", "ada"), kiosk], at: 0, id: "1"))
        device.take(event([kiosk], at: 5, id: "2"))
        device.take(event([kiosk], at: 30, id: "3"))
        #expect(count(device, "user_id", "ada") == 3)
        device.take(event([("user_id", "ben"), kiosk], at: 40, id: "4"))
        device.take(event([kiosk], at: 41, id: "5"))
        #expect(count(device, "user_id", "ada") == 3)
        #expect(count(device, "user_id", "ben") == 2)
        // Half an hour of silence ends the visit: then it is the kiosk's own.
        device.take(event([kiosk], at: 72, id: "6"))
        #expect(count(device, "user_id", "ben") == 2)
        #expect(count(device, "till", "kiosk-7") == 1)
        #expect(!isOne(device, ("user_id", "ada"), ("user_id", "ben")))
    }

    @Test func theConsentAtAKioskIsThatOfWhoeverUsesIt() {
        let device = evening()
        let kiosk = ("till", "kiosk-7")
        device.take(event([("user_id", "ada"), kiosk], at: 0, id: "1"))
        device.take(event([kiosk], at: 5, id: "2", consents: false))
        #expect(count(device, "user_id", "ada") == 2)
        // Nobody is using it any more, and nobody has agreed to anything.
        device.take(event([kiosk], at: 60, id: "3", consents: false))
        #expect(device.pipeline.ledger.waiting == 1)
        #expect(device.person("till", "kiosk-7") == nil)
    }

    @Test func aHouseholdsAddressStaysWithWhoeverUsedItFirst() {
        let device = evening()
        let address = ("email", "home@example.com")
        device.take(event([("user_id", "ada"), address], at: 10, id: "1"))
        device.take(event([("user_id", "ben"), address], at: 20, id: "2"))
        device.take(event([address], at: 30, id: "3"))
        #expect(isOne(device, ("user_id", "ada"), address))
        #expect(!isOne(device, ("user_id", "ben"), address))
        #expect(count(device, "user_id", "ada") == 2)
        #expect(count(device, "user_id", "ben") == 1)
        #expect(device.meters.linksAgainstGuard.current == 1)
        // An older event is handed in late: it was Ben's address before. What it was used for alone goes with it.
        device.take(event([("user_id", "ben"), address], at: 5, id: "4"))
        #expect(isOne(device, ("user_id", "ben"), address))
        #expect(count(device, "user_id", "ada") == 1)
        #expect(count(device, "user_id", "ben") == 3)
    }

    @Test func aLostCardIsTakenAwayAndBothGetBackWhatWasTheirs() {
        let device = evening()
        let (ada, card, finder) = (("user_id", "ada"), ("card", "4711"), ("email", "finder@example.com"))
        device.take(event([ada, card], at: 0, id: "1", properties: [#""amount": 10"#]))
        device.take(event([finder], at: 5, id: "2", properties: [#""amount": 3"#]))
        // Somebody has found the card and uses it with an address of their own.
        device.take(event([card, finder], at: 20, id: "3", properties: [#""amount": 500"#]))
        #expect(isOne(device, ada, finder))
        #expect(device.attributes("user_id", "ada").contains(#""spent":513.0"#))
        #expect(device.unlink("card", "4711", from: ada) == 1)
        #expect(!isOne(device, ada, finder))
        #expect(isOne(device, card, finder))
        #expect(device.attributes("user_id", "ada").contains(#""spent":10.0"#))
        #expect(device.attributes("email", "finder@example.com").contains(#""spent":503.0"#))
        // The cut is for good: an event that comes late does not join them again.
        device.take(event([ada, card], at: 1, id: "4", properties: [#""amount": 1"#]))
        #expect(!isOne(device, ada, finder))
        #expect(device.attributes("user_id", "ada").contains(#""spent":11.0"#))
        #expect(device.unlink("card", "4711", from: ada) == 0)
    }

    @Test func aRefusalStaysWithBothWhenPeopleArePartedAndAGrantDoesNot() {
        let device = evening()
        let (ada, card) = (("user_id", "ada"), ("card", "4711"))
        device.take(event([ada, card], at: 0, id: "1"))
        let person = device.person("user_id", "ada")!
        // The card alone has granted nothing: it is Ada's grant.
        let now = device.now
        device.write { transaction throws(StoreError) in
            _ = try device.pipeline.takeChoice(
                ConsentSignal(denied: PurposeSet(purpose: 0)), of: person, nil, actor: [], now: now, &transaction)
        }
        #expect(device.unlink("card", "4711") == 1)
        for (kind, value) in [ada, card] {
            device.take(event([(kind, value)], at: 5, id: "late \(kind)", consents: false))
        }
        #expect(device.pipeline.ledger.denied == 2)
        #expect(device.pipeline.ledger.waiting == 0)
        let other = evening()
        other.take(event([ada, card], at: 0, id: "1"))
        #expect(other.unlink("card", "4711") == 1)
        other.take(event([ada], at: 5, id: "2", consents: false))
        other.take(event([card], at: 6, id: "3", consents: false))
        #expect(other.pipeline.ledger.admitted == 2)
        #expect(other.pipeline.ledger.waiting == 1)
    }

    // MARK: Consent is that of whom the event is counted for

    private func choose(
        _ device: Device, _ kind: String, _ value: String, granted: Bool, at now: Int64? = nil, source: Bool = true
    ) {
        let person = device.person(kind, value)
        let signal = granted ? ConsentSignal(granted: PurposeSet(purpose: 0)) : ConsentSignal(denied: PurposeSet(purpose: 0))
        let key = device.key(kind, value)
        let named = LoggedIdentifier(kindTag: key.tag, digest: key.digest, plainDigest: nil)
        let time = now ?? device.now
        device.write { transaction throws(StoreError) in
            _ = try device.pipeline.takeChoice(signal, of: person, named, actor: [], now: time, &transaction)
        }
    }

    private func admitted(_ device: Device, _ body: () -> Void) -> UInt64 {
        let before = device.pipeline.ledger.admitted
        body()
        return device.pipeline.ledger.admitted - before
    }

    @Test func anEventThatNamesTwoPeopleWhoRefusedIsDenied() {
        let device = evening()
        let (ada, phone) = (("user_id", "ada"), ("phone", "49301"))
        let (ben, other) = (("user_id", "ben"), ("phone", "49302"))
        device.take(event([ada, phone], id: "1"))
        device.take(event([ben, other], id: "2"))
        for (kind, value) in [ada, ben] { choose(device, kind, value, granted: false) }
        // Ada's number and Ben's phone: no one person, and neither has agreed, whatever the event reports.
        #expect(admitted(device) { device.take(event([ada, other], at: 1, id: "3")) } == 0)
        #expect(count(device, "user_id", "ada") == 1)
    }

    @Test func aStrangerIsNotLetInOnAnothersConsent() {
        let device = evening()
        let address = ("email", "home@example.com")
        device.take(event([("user_id", "ada"), address], id: "1"))
        let identifiers = device.count { $0.identifiers }
        // Ben is not known, and the address is Ada's: her grant is not his. Nothing of him is kept.
        #expect(admitted(device) { device.take(event([("user_id", "ben"), address], at: 1, id: "2", consents: false)) } == 0)
        #expect(device.pipeline.ledger.waiting == 1)
        #expect(device.count { $0.identifiers } == identifiers)
    }

    @Test func aDeniedEventLeavesNoLink() {
        let device = evening()
        let (ada, card) = (("user_id", "ada"), ("card", "4711"))
        device.take(event([ada], id: "1"))
        device.take(event([card], id: "2"))
        choose(device, "card", "4711", granted: false)
        #expect(admitted(device) { device.take(event([ada, card, ("email", "new@example.com")], at: 1, id: "3", consents: false)) } == 0)
        #expect(device.person("email", "new@example.com") == nil)
        #expect(device.count { $0.edges } == 0)
        #expect(!isOne(device, ada, card))
        // But it has shown that Ada is somebody who has refused.
        #expect(admitted(device) { device.take(event([ada], at: 2, id: "4", consents: false)) } == 0)
        #expect(device.pipeline.ledger.waiting == 0)
    }

    @Test func aRevocationIsNotLostWhenTheIdentifierItWasMadeUnderLeaves() {
        let device = evening()
        let address = ("email", "home@example.com")
        device.take(event([("user_id", "ada"), address], at: 10, id: "1"))
        choose(device, "email", "home@example.com", granted: false)
        #expect(admitted(device) { device.take(event([("user_id", "ada")], at: 11, id: "2", consents: false)) } == 0)
        // An older event of Ben's, who has agreed, takes the address away.
        choose(device, "user_id", "ben", granted: true)
        device.take(event([("user_id", "ben"), address], at: 5, id: "3"))
        #expect(admitted(device) { device.take(event([("user_id", "ada")], at: 12, id: "4", consents: false)) } == 0)
    }

    @Test func aRefusalOfSomebodyWhoWasTakenForAnotherIsTheirs() {
        let device = evening()
        let (ada, finder) = (("user_id", "ada"), ("email", "finder@example.com"))
        device.take(event([ada, ("card", "4711")], at: 0, id: "1"))
        device.take(event([("card", "4711"), finder], at: 1, id: "2"))
        choose(device, "user_id", "ada", granted: false, at: device.now - 1000)
        choose(device, "email", "finder@example.com", granted: false)
        #expect(device.unlink("email", "finder@example.com") == 1)
        #expect(admitted(device) { device.take(event([finder], at: 3, id: "3", consents: false)) } == 0)
        #expect(device.pipeline.ledger.waiting == 0)
    }

    @Test func aDeniedSignInEndsTheVisitBefore() {
        let device = evening()
        let kiosk = ("till", "kiosk-7")
        device.take(event([("user_id", "ben")], at: 0, id: "0"))
        choose(device, "user_id", "ben", granted: false)
        device.take(event([("user_id", "ada"), kiosk], at: 0, id: "1"))
        device.take(event([("user_id", "ben"), kiosk], at: 5, id: "2"))
        device.take(event([kiosk], at: 6, id: "3", consents: false))
        #expect(count(device, "user_id", "ada") == 1)
    }

    @Test func whatIsGrantedAtAKioskIsNobodysGrant() {
        let device = evening()
        let kiosk = ("till", "kiosk-7")
        device.take(event([("user_id", "ada"), kiosk], at: 0, id: "1"))
        choose(device, "user_id", "ada", granted: false)
        device.take("""
            {"type": "track", "event": "Segment Consent Preference Updated", "anonymousId": "somebody", "messageId": "2",
            "timestamp": "2026-01-30T12:05:00Z", "context": {\(consent), "device": {"id": "kiosk-7"}}}
            """)
        #expect(admitted(device) { device.take(event([("user_id", "ada")], at: 6, id: "3", consents: false)) } == 0)
    }

    @Test func aChosenRefusalStandsAmongReportedOnes() {
        let plan = Device(policy).bundle.policy.purposes
        let (denied, granted) = (
            ConsentSignal(denied: PurposeSet(purpose: 0)), ConsentSignal(granted: PurposeSet(purpose: 0))
        )
        func apply(_ signals: [(ConsentSignal, Int64, ConsentSource)]) -> Bool {
            var record: [UInt8] = []
            for (signal, time, source) in signals {
                let before = record
                record = ConsentRecord.applying(
                    signal, at: time, from: source, plan, validDays: [0], to: before.span) ?? before
            }
            return ConsentRecord.isGranted(record.span, tag: plan.tags[0], at: 1000)
        }
        #expect(!apply([(denied, 90, .event), (denied, 40, .preference), (granted, 99, .event)]))
        #expect(!apply([(denied, 40, .preference), (denied, 90, .event), (granted, 99, .event)]))
        #expect(apply([(denied, 90, .event), (denied, 40, .preference), (granted, 99, .preference)]))
    }

    @Test func aDamagedProfileOfSeveralPartsIsPutTogetherAgain() {
        let device = evening()
        let (ada, card) = (("user_id", "ada"), ("card", "4711"))
        device.take(event([ada], at: 0, id: "1", properties: [#""amount": 10"#]))
        device.take(event([card], at: 0, id: "2", properties: [#""amount": 5"#]))
        device.take(event([ada, card], at: 1, id: "3", properties: [#""amount": 100"#]))
        let id = device.person("user_id", "ada")!.bytes
        device.write { transaction throws(StoreError) in
            var record: [UInt8] = []
            if let value = try transaction.get(transaction.tables.profiles, id.span) { record = [UInt8](copying: value) }
            record[80] ^= 1
            try transaction.put(transaction.tables.profiles, id.span, record.span)
        }
        device.take(event([card], at: 2, id: "4", properties: [#""amount": 1"#]))
        #expect(device.attributes("user_id", "ada").contains(#""spent":116.0"#))
        #expect(device.meters.badRecords.current == 1)
    }

    @Test func anErasedPersonsIdentifierLeavesTheEventsOfOthers() {
        let device = evening()
        let address = ("email", "home@example.com")
        device.take(event([("user_id", "ada"), address], at: 0, id: "1"))
        device.take(event([("user_id", "ben"), address], at: 1, id: "2"))
        let (person, now, key) = (device.person("user_id", "ada")!, device.now, device.key("email", "home@example.com"))
        device.write { transaction throws(StoreError) in
            var erasure = try device.pipeline.erase(person, nil, actor: [], now: now, &transaction)
            try device.pipeline.eraseMore(&erasure, atMost: 1000, now: now, &transaction)
            #expect(erasure.removedEvents == 1)
            var found = 0
            try transaction.scan(transaction.tables.log, from: Span<UInt8>()) { _, value in
                guard let entry = LogEntryView(value), !entry.header.isErasureNotice else { return true }
                found += entry.identifierCount
                for index in 0..<entry.identifierCount where entry.identifier(index).digest == key.digest { found += 100 }
                return true
            }
            #expect(found == 1)
        }
    }

    @Test func nobodyErasedComesBackFromAnotherDevice() {
        let (device, other) = (evening(), evening(epoch: 2))
        let (ada, card) = (("user_id", "ada"), ("card", "4711"))
        for each in [device, other] { each.take(event([ada], at: 0, id: "1")) }
        other.take(event([ada, card], at: 1, id: "2"))
        let (person, now) = (device.person("user_id", "ada")!, device.now)
        device.write { transaction throws(StoreError) in
            _ = try device.pipeline.erase(person, nil, actor: [], now: now, &transaction)
        }
        device.learn(from: other)
        #expect(device.count { $0.identifiers } == 0)
        #expect(device.count { $0.profiles } == 0)
    }

    // MARK: Limits

    // limit: Unification.linksPerIdentifier
    @Test func anAddressThatEverybodyUsesIsNobodys() {
        let device = evening()
        let address = ("email", "noreply@example.com")
        device.take(event([("browser", "b-0"), address], at: 0, id: "0"))
        device.take(event([("browser", "b-1"), address], at: 1, id: "1"))
        #expect(isOne(device, ("browser", "b-0"), ("browser", "b-1")))
        for number in 2...Limits.linksPerIdentifier {
            device.take(event([("browser", "b-\(number)"), address], at: number, id: "\(number)"))
        }
        // What it held together comes apart again, and everybody keeps what was counted for them.
        #expect(!isOne(device, ("browser", "b-0"), ("browser", "b-1")))
        for number in [0, 1, 2, 33, 64] { #expect(count(device, "browser", "b-\(number)") == 0) }
        #expect(count(device, "email", "noreply@example.com") == 65)
        #expect(device.meters.linksOfNobody.current == 1)
    }

    // limit: Unification.identifiersPerPerson
    @Test func aPersonHasNoMoreIdentifiersThanTheLimit() {
        let device = evening()
        for number in 0..<Limits.identifiersPerPerson + 5 {
            device.take(event([("browser", "b-\(number)"), ("browser", "b-\(number + 1)")], at: number, id: "\(number)"))
            device.take(
                event(
                    [("card", "1\(number)"), ("browser", "b-\(number)")], at: number, id: "c\(number)"))
            device.take(
                event([("card", "1\(number)"), ("browser", "b-\(number + 1)")], at: number, id: "d\(number)"))
        }
        let person = device.person("browser", "b-0")
        var own = 0
        for number in 0...Limits.identifiersPerPerson + 5 where device.person("browser", "b-\(number)") == person { own += 1 }
        for number in 0..<Limits.identifiersPerPerson + 5 where device.person("card", "1\(number)") == person { own += 1 }
        // Two that belong together come together, or not at all.
        #expect(own == Limits.identifiersPerPerson || own == Limits.identifiersPerPerson - 1)
        #expect(device.meters.linksAgainstLimit.current > 0)
    }

    /// Where links hold more together than can be looked at, everybody stays who they are, and events go on being taken.
    // limit: Unification.identifiersPerRegion
    @Test func onlySoManyIdentifiersAreLookedAt() {
        let device = evening()
        let most = Limits.identifiersPerRegion
        // Sixteen browsers at a time, the last of them with the next sixteen.
        var taken = 0
        while taken * 15 < most + 15 {
            device.take(event((0...15).map { ("browser", "b-\(taken * 15 + $0)") }, at: taken, id: "\(taken)"))
            taken += 1
        }
        let refused = device.meters.linksAgainstLimit.current
        #expect(refused > 15)
        let all = (0...taken * 15).map { ("browser", "b-\($0)") }
        let people = all.map { device.person($0.0, $0.1) }
        #expect(Set(people.map { $0?.low }).count > 2, "no person has all of them")
        device.take(event([all[all.count - 1], ("browser", "new")], at: taken, id: "last"))
        #expect(all.map { device.person($0.0, $0.1) } == people)
        #expect(device.meters.linksAgainstLimit.current == refused + 1)
        let admitted = device.pipeline.ledger.admitted
        #expect(admitted == UInt64(taken + 1))
    }

    /// Forty-one browsers, each of which was seen with every other: links as an event makes them, but without looking.
    // limit: Unification.linksPerRegion
    @Test func onlySoManyLinksAreLookedAt() {
        let device = evening()
        var count = 0
        device.write { transaction throws(StoreError) in
            for first in 0..<41 {
                for second in first + 1..<41 {
                    let (one, other) = (device.key("browser", "b-\(first)"), device.key("browser", "b-\(second)"))
                    let origin = LinkOrigin(time: device.now, message: EventHash(high: UInt64(first), low: UInt64(second)))
                    if try IdentityLinks.add(one, other, origin, in: &transaction) { count += 1 }
                }
            }
        }
        #expect(count > Limits.linksPerRegion)
        device.take(event([("browser", "b-0"), ("browser", "new")], id: "last"))
        #expect(device.meters.linksAgainstLimit.current == 1)
        #expect(device.person("browser", "b-0") != device.person("browser", "new"))
        let admitted = device.pipeline.ledger.admitted
        #expect(admitted == 1)
    }

    /// An address that everybody uses may have more than one call cuts; the next call goes on.
    // limit: Unification.linksCutAtOnce, Unification.linksFollowedBeyond
    @Test func onlySoManyLinksAreCutAtOnce() {
        let device = evening()
        for number in 0..<100 {
            device.take(event([("browser", "b-\(number)"), ("email", "noreply@example.com")], at: number, id: "\(number)"))
        }
        #expect(device.unlink("email", "noreply@example.com") == Limits.linksCutAtOnce)
        #expect(device.unlink("email", "noreply@example.com") == 100 - Limits.linksCutAtOnce)
        #expect(device.unlink("email", "noreply@example.com") == 0)
        for number in [0, 1, 99] { #expect(!isOne(device, ("browser", "b-\(number)"), ("email", "noreply@example.com"))) }
    }

    // limit: Unification.linksShown
    @Test func onlySoManyLinksAreShown() throws {
        let device = evening()
        var taken = 0
        for first in 0..<24 {
            for second in first + 1..<24 {
                device.take(event([("browser", "b-\(first)"), ("browser", "b-\(second)")], at: taken, id: "\(taken)"))
                taken += 1
            }
        }
        let person = try #require(device.person("browser", "b-0"))
        var reader = try device.database.makeReader()
        try reader.begin()
        let shown = try IdentityGraph.links(of: person, in: reader).count
        #expect(shown == Limits.linksShown, "\(shown) of \(taken)")
    }

    // MARK: Erasure

    @Test func nothingOfAnErasedPersonsLinksAndPartsStays() {
        let device = evening()
        let (ada, card, address) = (("user_id", "ada"), ("card", "4711"), ("email", "ada@example.com"))
        device.take(event([ada, ("till", "t-1")], at: 0, id: "1"))
        device.take(event([ada, card], at: 1, id: "2"))
        device.take(event([card, address], at: 2, id: "3"))
        device.take(event([address], at: 3, id: "4"))
        device.take(event([("user_id", "ben"), address], at: 4, id: "5"))
        let parts = device.count { $0.parts }
        #expect(parts == 3)
        let person = device.person("user_id", "ada")!
        let now = device.now
        device.write { transaction throws(StoreError) in
            var erasure = try device.pipeline.erase(person, nil, actor: [], now: now, &transaction)
            try device.pipeline.eraseMore(&erasure, atMost: 1000, now: now, &transaction)
            #expect(erasure.removedEvents == 4)
        }
        for table in [\Tables.parts, \Tables.edges, \Tables.visits] { #expect(device.count { $0[keyPath: table] } == 0) }
        #expect(device.count { $0.identifiers } == 1)
        #expect(device.count { $0.consentParts } == 1)
        #expect(count(device, "user_id", "ben") == 1)
    }

    /// A destination may not have heard of the first erasure when somebody who came back is erased again.
    @Test func whatTellsOfAnErasureStaysWhenTheSameIsErasedAgain() {
        let device = evening()
        let (ada, address) = (("user_id", "ada"), ("email", "ada@example.com"))
        device.take(event([ada, address], at: 0, id: "1"))
        let (person, key, now) = (device.person("user_id", "ada")!, device.key("user_id", "ada"), device.now)
        let mail = device.key("email", "ada@example.com").digest
        device.write { transaction throws(StoreError) in
            var first = try device.pipeline.erase(person, nil, actor: [], now: now, &transaction)
            try device.pipeline.eraseMore(&first, atMost: 1000, now: now, &transaction)
            // All that is known of them now is what the call names.
            let other = ProfileID(high: 7, low: 7)
            var second = try device.pipeline.erase(other, key.logged, actor: [], now: now, &transaction)
            try device.pipeline.eraseMore(&second, atMost: 1000, now: now, &transaction)
            #expect(second.removedEvents == 0)
            #expect(first.notice < second.notice)
            var named: [[Digest256]] = []
            try transaction.scan(transaction.tables.log, from: Span<UInt8>()) { _, value in
                guard let entry = LogEntryView(value), entry.header.isErasureNotice else { return true }
                named.append((0..<entry.identifierCount).map { entry.identifier($0).digest })
                return true
            }
            #expect(named.count == 2)
            #expect(named.first?.contains(mail) == true && named.first?.contains(key.digest) == true)
            #expect(named.last == [key.digest])
            // Once all have heard both, nothing is left of either.
            try device.pipeline.finishErasure(&first, lowest: 9, told: 9, now: now, &transaction)
            try device.pipeline.finishErasure(&second, lowest: 9, told: 9, now: now, &transaction)
            var left = 0
            try transaction.scan(transaction.tables.log, from: Span<UInt8>()) { _, value in
                if let entry = LogEntryView(value), entry.mentions([key.logged]) { left += 1 }
                return true
            }
            #expect(left == 0)
        }
    }

    // MARK: Damage

    /// LMDB does not notice a flipped bit, and a key has no checksum.
    @Test func anIdentifierOrALinkWhoseKeyWasDamagedIsNotShown() throws {
        let device = evening()
        device.take(event([("user_id", "ada"), ("card", "4711"), ("email", "ada@example.com")], at: 0, id: "1"))
        let person = try #require(device.person("user_id", "ada"))
        let keys = [("user_id", "ada"), ("card", "4711"), ("email", "ada@example.com")].map { device.key($0, $1) }

        func shown() throws -> (identifiers: [Digest256], links: [IdentityLink]) {
            var reader = try device.database.makeReader()
            try reader.begin()
            var digests: [Digest256] = []
            for key in try IdentityGraph.identifiers(of: person, in: reader) { digests.append(key.digest) }
            return (digests, try IdentityGraph.links(of: person, in: reader))
        }
        func flip(_ table: KeyPath<Tables, Table>, _ key: [UInt8], at place: Int) {
            device.write { transaction throws(StoreError) in
                let table = transaction.tables[keyPath: table]
                let value = [UInt8](copying: try transaction.get(table, key.span)!)
                try transaction.delete(table, key.span)
                var other = key
                other[place] ^= 4
                try transaction.put(table, other.span, value.span)
            }
        }

        let before = try shown()
        #expect(Set(before.identifiers) == Set(keys.map(\.digest)))
        try #require(before.links.count == 2)
        // One end of a link, by the far identifier, then by its kind.
        let broken = try #require(before.links.first)
        flip(\.edges, [UInt8](copying: EdgeKey(broken.first, broken.second).bytes.span), at: 60)
        let whole = try shown().links
        #expect(whole.count == 1 && whole[0].joins && whole[0].first == before.links[1].first)
        flip(\.links, [UInt8](copying: LinkKey(person, before.links[1].second).bytes.span), at: 40)
        let after = try shown()
        #expect(Set(after.identifiers) == Set(keys.map(\.digest)).subtracting([before.links[1].second.digest]))
        // What is left of the whole link would seem to be to somebody else.
        #expect(after.links.isEmpty)
    }
}
