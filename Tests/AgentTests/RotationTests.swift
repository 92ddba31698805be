// Shows that people keep everything when the device's pepper is replaced: found under both while that lasts, moved when
// they are seen, forgotten at its end if they were not, and that then no former digest is left; and that refusals,
// erasures, repeats and the audit log do not notice.
import Activation
import Cryptography
import Foundation
import Formats
import Governance
import Platform
import Serving
import Testing

@testable import Agent
@testable import Store
@testable import Unification

private let policy = """
    version: 1
    purposes: [analytics]
    identifiers:
      user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
      card: { from: [properties.card], normalize: digits, send: hmac }
      email: { from: [properties.email], normalize: email, send: sha256 }
      till: { from: [context.device.id], send: hmac, shared: true }
    events:
      Order Completed:
        purpose: analytics
        invalid: quarantine
        schema: { type: object, properties: { amount: { type: number } } }
      "*": { purpose: analytics }
    attributes:
      spent: { type: sum, value: event.properties.amount }
    destinations:
      hub: { url: "https://hub.example/v1/batch", purpose: analytics, identifiers: [user_id, email] }
    """

private let old = Peppers(key: [UInt8](repeating: 7, count: 32))
private let new = HMACSHA256(key: [UInt8](repeating: 8, count: 32))
private let both = Peppers(present: new, former: old.present, root: old.root)
private let after = Peppers(present: new, former: nil, root: old.root)

/// A device that is started again and again, with other secrets.
private final class Box {
    private(set) var device: Device!
    private var starts: UInt64 = 1

    private let text: String

    init(_ peppers: Peppers = old, _ text: String = policy) {
        self.text = text
        device = Device(text, pepper: peppers)
    }

    func restart(_ peppers: Peppers, days: Int64 = 0) {
        let (folder, now) = (device.folder, device.now)
        device.leavesFolder = true
        device = nil
        starts += 1
        device = Device(text, seed: starts, pepper: peppers, folder: folder, now: now + days * day)
    }

    /// The end of the rotation, and a start without the former pepper.
    func end() {
        device.now += 91 * day
        device.endRotation()
    }
}

private func order(
    _ user: String?, _ amount: Int, card: String? = nil, email: String? = nil, till: String? = nil, id: String? = nil,
    consent: Bool? = true, at time: String? = nil
) -> String {
    var members = [#""type": "track", "event": "Order Completed""#]
    if let user { members.append(#""userId": "\#(user)""#) } else { members.append(#""anonymousId": "somebody""#) }
    if let id { members.append(#""messageId": "\#(id)""#) }
    if let time { members.append(#""timestamp": "\#(time)""#) }
    var properties = [#""amount": \#(amount)"#]
    if let card { properties.append(#""card": "\#(card)""#) }
    if let email { properties.append(#""email": "\#(email)""#) }
    var context: [String] = []
    if let consent { context.append(#""consent": {"categoryPreferences": {"analytics": \#(consent)}}"#) }
    if let till { context.append(#""device": {"id": "\#(till)"}"#) }
    members.append("\"properties\": {\(properties.joined(separator: ", "))}")
    members.append("\"context\": {\(context.joined(separator: ", "))}")
    return "{\(members.joined(separator: ", "))}"
}

private func preference(_ user: String, _ isGranted: Bool) -> String {
    """
    {"type": "track", "event": "Segment Consent Preference Updated", "userId": "\(user)",
     "context": {"consent": {"categoryPreferences": {"analytics": \(isGranted)}}}}
    """
}

extension Peppers {
    fileprivate func formerDigest(_ user: String) -> Digest256 { former!.authenticate(Array("user_id\0\(user)".utf8)) }
}

private let universe = [
    ("user_id", "ada"), ("card", "4711"), ("email", "ada@example.com"), ("user_id", "ben"), ("email", "home@example.com"),
    ("user_id", "cy"), ("till", "till-1"),
]

/// Ada with a card and an address; Ben, who shares an address with Cy and has cut nothing; a till that nobody uses.
extension IdentifierKey {
    fileprivate init(_ tag: UInt32, former user: String) { self.init(tag: tag, digest: both.formerDigest(user)) }
}

extension Device {
    /// Whether anything that a trigger waits with has this digest in it, in a key or a record.
    fileprivate func remembers(_ key: IdentifierKey) -> Bool {
        var wanted: [UInt8] = []
        key.digest.append(to: &wanted)
        var isThere = false
        write { transaction throws(StoreError) in
            try transaction.scan(transaction.tables.pending, from: Span<UInt8>()) { name, record in
                let text = [UInt8](copying: name) + [UInt8](copying: record)
                for start in 0..<max(0, text.count - 31) where Array(text[start..<start + 32]) == wanted { isThere = true }
                return true
            }
        }
        return isThere
    }
}

private func town() -> Box {
    let box = Box()
    box.device.take(order("ada", 1, card: "4711"))
    box.device.take(order("ada", 2, email: "ada@example.com"))
    box.device.take(order(nil, 4, card: "4711"))
    box.device.take(order("ben", 8, email: "home@example.com"))
    box.device.take(order("cy", 16, email: "home@example.com"))
    box.device.take(order(nil, 32, till: "till-1"))
    return box
}

private let formerDigests = { (device: Device) -> [Digest256] in
    universe.compactMap { device.hashed($0.0, $0.1).former }
}

@Suite struct RotationTests {
    @Test func everybodyIsFoundUnderBothAndKeepsEverything() {
        let box = town()
        let expected = box.device.people(universe)
        let ids = universe.map { box.device.person($0.0, $0.1) }
        #expect(expected.contains("card:4711 email:ada@example.com user_id:ada {\"spent\":7.0"))
        box.restart(both)
        // Nobody was seen yet.
        #expect(box.device.people(universe) == expected)
        #expect(universe.map { box.device.person($0.0, $0.1) } == ids)
        // Each is seen once, by an event that changes no attribute.
        for (kind, value) in universe {
            let name = kind == "user_id" ? value : nil
            box.device.take(order(
                name, 0, card: kind == "card" ? value : nil, email: kind == "email" ? value : nil,
                till: kind == "till" ? value : nil))
            #expect(box.device.key(kind, value).digest == box.device.hashed(kind, value).digest)
        }
        #expect(box.device.people(universe) == expected)
        #expect(universe.map { box.device.person($0.0, $0.1) } == ids)
        #expect(box.device.meters.badRecords.current == 0)
        // A restart in the middle goes on.
        let mark = box.device.pipeline.rotation.mark
        box.restart(both, days: 30)
        #expect(box.device.pipeline.rotation.mark == mark && box.device.pipeline.rotation.since == noon)
        #expect(box.device.people(universe) == expected)

        let former = formerDigests(box.device)
        #expect(former.count == universe.count && former.allSatisfy { box.device.holds($0) })
        box.end()
        #expect(box.device.pipeline.rotation.isOver)
        #expect(former.allSatisfy { !box.device.holds($0) })
        box.restart(after)
        #expect(box.device.people(universe) == expected)
        #expect(universe.map { box.device.person($0.0, $0.1) } == ids)
        // What comes later is counted for the same people.
        box.device.take(order(nil, 64, card: "4711"))
        #expect(box.device.attributes("user_id", "ada") == #"{"spent":71.0}"#)
        #expect(box.device.meters.badRecords.current == 0)
    }

    @Test func whoIsNotSeenIsForgottenAndWhoIsSeenWithOneIdentifierKeepsTheRest() {
        let box = town()
        box.restart(both)
        let former = formerDigests(box.device)
        box.device.take(order("ada", 100))
        box.end()
        #expect(box.device.pipeline.rotation.isOver)
        box.restart(after)
        // What was counted for Ada's card and address is still hers; they themselves are known no more.
        #expect(box.device.people(universe) == #"user_id:ada {"spent":107.0}"#)
        #expect(former.allSatisfy { !box.device.holds($0) })
        #expect(box.device.count { $0.profiles } == 1)
        #expect(box.device.count { $0.visits } == 0)
        // What they had allowed to be sent still leaves, as nobody's.
        #expect(box.device.delivery(0).text.components(separatedBy: "messageId").count - 1 == 7)
        box.device.take(order("ada", 1000, card: "4711"))
        #expect(box.device.people(universe) == #"card:4711 user_id:ada {"spent":1107.0}"#)
    }

    @Test func aVisitAtATillGoesOn() {
        let box = town()
        box.device.take(order("ada", 0, till: "till-1"))
        box.restart(both)
        box.device.take(order(nil, 100, till: "till-1"))
        #expect(box.device.attributes("user_id", "ada") == #"{"spent":107.0}"#)
        box.device.take(order("ada", 200))
        box.device.take(order(nil, 300, till: "till-1"))
        #expect(box.device.attributes("user_id", "ada") == #"{"spent":607.0}"#)
        #expect(box.device.key("user_id", "ada").digest == box.device.hashed("user_id", "ada").digest)
    }

    @Test func consentGoesWithThePerson() {
        let box = Box()
        box.device.take(order("ada", 1))
        box.device.take(order("ben", 1))
        box.device.take(preference("ben", false))
        box.restart(both)
        // Nothing is said of consent: the record holds.
        box.device.take(order("ada", 2, consent: nil))
        #expect(box.device.attributes("user_id", "ada") == #"{"spent":3.0}"#)
        // An SDK's report undoes no refusal that was chosen.
        box.device.take(order("ben", 2))
        #expect(box.device.attributes("user_id", "ben") == #"{"spent":1.0}"#)
        box.end()
        box.restart(after)
        box.device.take(order("ada", 4, consent: nil))
        #expect(box.device.attributes("user_id", "ada") == #"{"spent":7.0}"#)
        box.device.take(order("ben", 2))
        #expect(box.device.attributes("user_id", "ben") == #"{"spent":1.0}"#)
    }

    @Test func aRefusalOfSomebodyWhoWasNotSeenKeepsTheFormerPepper() {
        let box = town()
        box.device.take(preference("ben", false))
        box.restart(both)
        box.device.take(order("ada", 0))
        box.end()
        #expect(box.device.pipeline.rotation.stage == .resting)
        // The refusal went to both of Ben's identifiers. Nothing else is known of him.
        #expect(box.device.pipeline.rotation.refusals == 2 && box.device.pipeline.rotation.erasures == 0)
        #expect(box.device.attributes("user_id", "ben") == "")
        #expect(box.device.holds(box.device.hashed("user_id", "ben").former!))
        #expect(box.device.person("user_id", "cy") == nil)
        box.device.take(order("ben", 2))
        #expect(box.device.attributes("user_id", "ben") == "")
        box.device.take(order(nil, 2, email: "home@example.com"))
        box.device.endRotation()
        #expect(box.device.pipeline.rotation.isOver)
        #expect(formerDigests(box.device).allSatisfy { !box.device.holds($0) })
        box.restart(after)
        box.device.take(order("ben", 2))
        #expect(box.device.attributes("user_id", "ben") == "")
    }

    @Test func aRefusalIsGivenUpOnlyByWordOfMouth() {
        let box = town()
        box.device.take(preference("ben", false))
        box.restart(both)
        box.end()
        #expect(!box.device.pipeline.rotation.isOver)
        box.device.write { transaction throws(StoreError) in try box.device.pipeline.rotation.force(&transaction) }
        box.restart(both)
        #expect(box.device.pipeline.rotation.isForced)
        box.device.endRotation()
        #expect(box.device.pipeline.rotation.isOver)
        #expect(formerDigests(box.device).allSatisfy { !box.device.holds($0) })
    }

    private func erase(_ device: Device, _ kind: String, _ value: String, named: Bool = false) -> Erasure {
        let (now, identifier) = (device.now, device.hashed(kind, value))
        let person = device.person(kind, value) ?? ProfileID(high: 1, low: 1)
        return device.write { transaction throws(StoreError) in
            var erasure = try device.pipeline.erase(
                person, named ? identifier.logged : nil, former: named ? identifier.former : nil, actor: [], now: now,
                &transaction)
            try device.pipeline.eraseMore(&erasure, atMost: 1000, now: now, &transaction)
            try device.pipeline.ledger.write(to: &transaction)
            return erasure
        }
    }

    @Test func theErasedDoNotComeBack() {
        let box = town()
        _ = erase(box.device, "user_id", "ada")
        _ = erase(box.device, "user_id", "cy")
        box.restart(both)
        let before = box.device.pipeline.ledger.denied
        box.device.take(order("ada", 1))
        #expect(box.device.pipeline.ledger.denied == before + 1)
        #expect(box.device.person("user_id", "ada") == nil)
        box.end()
        // Ada's card and address, and Cy, were not seen: their erasure is known by the former pepper alone.
        #expect(box.device.pipeline.rotation.stage == .resting)
        #expect(box.device.pipeline.rotation.erasures == 3)
        box.device.take(order(nil, 1, card: "4711"))
        box.device.take(order(nil, 1, email: "ada@example.com"))
        box.device.take(order("cy", 1))
        box.device.endRotation()
        #expect(box.device.pipeline.rotation.isOver)
        box.restart(after)
        for event in [order("ada", 1), order(nil, 1, card: "4711"), order("cy", 1)] { box.device.take(event) }
        #expect(box.device.people([("user_id", "ada"), ("card", "4711"), ("user_id", "cy")]) == "")
        // Only a new choice brings them back.
        box.device.now += 60_000
        box.device.take(preference("cy", true))
        #expect(box.device.person("user_id", "cy") != nil)
    }

    @Test(arguments: [false, true]) func anErasureFindsWhatTheLogKnowsUnderTheFormerPepper(_ isSeen: Bool) {
        let box = town()
        box.restart(both)
        if isSeen { box.device.take(order("ada", 0)) }
        #expect(erase(box.device, "user_id", "ada").removedEvents == (isSeen ? 4 : 3))
        let (text, count, _, _) = box.device.delivery(0)
        // Ben's and Cy's and the till's remain, and the notice.
        #expect(count == 4 && text.contains("User Erased"))
        #expect(text.contains(box.device.hashed("user_id", "ada").former!.hexadecimal))
        let plain = SHA256.hash(Array("ada@example.com".utf8)).hexadecimal
        #expect(text.components(separatedBy: plain).count == 2)
    }

    @Test func aDestinationIsToldWhatAnIdentifierWasBefore() {
        let box = town()
        box.restart(both)
        box.device.take(order("ada", 0))
        let ada = box.device.hashed("user_id", "ada")
        let told = #""identifiers":{"user_id":"\#(ada.digest.hexadecimal)"},"#
            + #""formerIdentifiers":{"user_id":"\#(ada.former!.hexadecimal)"}"#
        #expect(box.device.delivery(0).text.contains(told))
        // The events from before are still hers, and leave; in all of them she is the same person.
        #expect(box.device.delivery(0).count == 7)
        box.end()
        #expect(!box.device.delivery(0).text.contains("formerIdentifiers"))
        #expect(!box.device.delivery(0).text.contains(ada.former!.hexadecimal))
        // Ada's three with her number; and the till's, who is not known any more, do not leave.
        #expect(box.device.delivery(0).text.components(separatedBy: ada.digest.hexadecimal).count - 1 == 3)
    }

    @Test func whatWasSetAsideIsThePersonsWhenItIsReleased() {
        let box = Box()
        box.device.take(order("ada", 1, id: "1"))
        box.device.take(order("ada", 2, id: "2").replacingOccurrences(of: #""amount": 2"#, with: #""amount": "two""#))
        box.device.take(order("ben", 2, id: "3").replacingOccurrences(of: #""amount": 2"#, with: #""amount": "two""#))
        #expect(box.device.count { $0.quarantine } == 2)
        box.restart(both)
        box.device.take(order("ada", 4))
        box.device.take(order("ben", 4))
        let now = box.device.now
        // It does not fit yet; but it is about them.
        let ada = box.device.person("user_id", "ada")
        #expect(erase(box.device, "user_id", "ben").removedQuarantined == 1)
        #expect(erase(box.device, "user_id", "ada").removedQuarantined == 1)
        #expect(ada != nil && now == box.device.now)
    }

    @Test func somebodyWhoIsOnlySetAsideIsErased() {
        let box = Box()
        box.device.take(order("ada", 2).replacingOccurrences(of: #""amount": 2"#, with: #""amount": "two""#))
        box.restart(both)
        let ada = box.device.hashed("user_id", "ada")
        let isMentioned = box.device.write { transaction throws(StoreError) in
            try box.device.pipeline.isMentioned(ada.logged, former: ada.former, transaction)
        }
        #expect(isMentioned)
        #expect(erase(box.device, "user_id", "ada", named: true).removedQuarantined == 1)
    }

    @Test func repeatsAreKnownAndTheAuditLogHolds() {
        let box = Box()
        box.device.take(order("ada", 1, id: "once"))
        box.device.take(order("ada", 1, id: "ada"))
        box.restart(both)
        box.device.take(order("ada", 1, id: "once"))
        // An id that holds an identifier is hashed itself.
        box.device.take(order("ada", 1, id: "ada"))
        #expect(box.device.pipeline.ledger.duplicate == 2)
        box.end()
        box.restart(after)
        box.device.take(order("ada", 1, id: "once"))
        #expect(box.device.pipeline.ledger.duplicate == 3)
        #expect(box.device.attributes("user_id", "ada") == #"{"spent":2.0}"#)
        do {
            var reader = try box.device.database.makeReader()
            try reader.begin()
            guard case .intact(let first, let last) = try AuditLog.verify(reader, root: after.root) else {
                Issue.record("the chain is broken")
                return
            }
            #expect(first == 1 && last == 3)
        } catch { Issue.record("\(error.message)") }
    }

    @Test func anotherRotationFollows() {
        let box = town()
        box.restart(both)
        box.device.take(order("ada", 0, card: "4711"))
        box.device.take(order(nil, 0, email: "ada@example.com"))
        box.end()
        box.restart(after)
        let third = HMACSHA256(key: [UInt8](repeating: 9, count: 32))
        box.restart(Peppers(present: third, former: new, root: old.root))
        #expect(box.device.pipeline.rotation.mark == 2 && box.device.pipeline.rotation.stage == .lasting)
        #expect(box.device.attributes("card", "4711") == #"{"spent":7.0}"#)
        box.device.take(order(nil, 1, card: "4711"))
        box.end()
        box.restart(Peppers(present: third, former: nil, root: old.root))
        #expect(box.device.people(universe) == #"card:4711 {"spent":8.0}"#)
        #expect(universe.allSatisfy { !box.device.holds(new.authenticate(Array($0.0.utf8) + [0] + Array($0.1.utf8))) })
    }

    /// With 300 links an address is moved and is nobody's as before; with 600 it stays where it is, and is forgotten at the
    /// end.
    @Test(arguments: [300, 600]) func anAddressThatIsNobodysJoinsNobody(_ links: Int) {
        let box = Box()
        let everybodys = ("email", "everybody@example.net")
        for number in 0..<links { box.device.take(order("user-\(number)", 1, email: everybodys.1)) }
        box.restart(both)
        box.device.take(order("user-1", 0))
        box.device.take(order("ada", 1, email: everybodys.1))
        box.device.take(order(nil, 1, email: everybodys.1))
        let isMoved = links < 512
        let key = box.device.key(everybodys.0, everybodys.1)
        let isPresent = key.digest == box.device.hashed(everybodys.0, everybodys.1).digest
        #expect(isPresent == isMoved)
        let address = box.device.person(everybodys.0, everybodys.1)
        #expect(address != nil)
        for user in ["ada", "user-1", "user-2"] { #expect(box.device.person("user_id", user) != address) }
        #expect(box.device.attributes("user_id", "user-1") == #"{"spent":1.0}"#)
        box.end()
        #expect(box.device.pipeline.rotation.isOver)
        #expect(!box.device.holds(box.device.hashed(everybodys.0, everybodys.1).former!))
        box.restart(after)
        #expect((box.device.person(everybodys.0, everybodys.1) != nil) == isMoved)
        #expect(box.device.attributes("user_id", "user-1") == #"{"spent":1.0}"#)
        #expect(box.device.attributes("user_id", "ada") == #"{"spent":1.0}"#)
        #expect(box.device.count { $0.identifiers } == (isMoved ? 3 : 2))
    }

    @Test func aRestartAtAnyStepOfTheEndLosesNothing() {
        let box = town()
        let aside = order("zoe", 2).replacingOccurrences(of: #""amount": 2"#, with: #""amount": "two""#)
        box.restart(both)
        box.device.take(order("ada", 100))
        box.device.take(aside)
        let former = formerDigests(box.device) + [both.formerDigest("zoe")]
        box.device.now += 91 * day
        for steps in 1...8 {
            box.device.endRotation(atMost: steps)
            box.restart(both)
        }
        #expect(box.device.pipeline.rotation.isOver)
        #expect(former.allSatisfy { !box.device.holds($0) })
        box.restart(after)
        #expect(box.device.people(universe) == #"user_id:ada {"spent":107.0}"#)
        // Of Zoe nothing is known but what was set aside.
        #expect(erase(box.device, "user_id", "zoe", named: true).removedQuarantined == 1)
    }

    @Test func aClockThatNobodyHasSetEndsNothing() {
        let box = town()
        box.device.now = 1000
        box.restart(both)
        box.device.now = noon
        box.device.endRotation()
        #expect(box.device.pipeline.rotation.stage == .lasting && box.device.pipeline.rotation.since == noon)
        #expect(box.device.attributes("user_id", "ada") == #"{"spent":7.0}"#)
    }

    /// A call to the privacy API says who it is, as an event does.
    /// What waits goes with the person: it fires once, is called off by what comes under the present pepper, and nothing of it is
    /// left under the former one in the end.
    @Test func whatATriggerWaitsWithGoesWithThePerson() {
        let text = policy + """

            triggers:
              reminder: { on: 'event.event == "Order Completed"', after: 100d, unless: 'event.event == "Paid"', send: hub }
            """
        for isPaid in [false, true] {
            let box = Box(old, text)
            box.device.take(order("ada", 1))
            box.device.now += 1000
            box.restart(both)
            let paid = order("ada", 2).replacingOccurrences(of: "Order Completed", with: isPaid ? "Paid" : "Looked At")
            box.device.take(paid)
            box.end()
            let former = IdentifierKey(box.device.key("user_id", "ada").tag, former: "ada")
            #expect(box.device.count { $0.pending } == (isPaid ? 0 : 1))
            #expect(!box.device.remembers(former))
            box.device.pass(11 * day, steps: 11 * 48)
            #expect(box.device.generated().count == (isPaid ? 0 : 1))
        }
    }

    @Test func whoChoosesByACallIsMoved() {
        let box = town()
        box.restart(both)
        let ben = box.device.hashed("user_id", "ben")
        let person = box.device.person("user_id", "ben")
        var signal = ConsentSignal()
        signal.denied = PurposeSet(purpose: 0)
        let isTaken = box.device.write { transaction throws(StoreError) in
            let named = try box.device.pipeline.renew(ben.logged, former: ben.former!, &transaction)
            #expect(named.digest == ben.digest)
            return try box.device.pipeline.takeChoice(signal, of: person, named, actor: [], now: noon, &transaction)
        }
        #expect(isTaken && box.device.key("user_id", "ben").digest == ben.digest)
        #expect(box.device.person("user_id", "ben") == person)
        box.end()
        // His number is known by the present pepper; the refusal went to his address, which was not seen.
        #expect(box.device.pipeline.rotation.refusals == 1)
        box.device.take(order("ben", 100))
        #expect(box.device.attributes("user_id", "ben") == #"{"spent":8.0}"#)
    }

    /// A profile keeps what its person is drawn by, and no part of a former digest.
    @Test func aVariantIsKept() {
        let splitting = policy + """

            decisions:
              offer:
                purpose: analytics
                variants: { none: 0, one: 1, two: 2, three: 3 }
                default: none
                rules: [{ name: split, split: { none: 25, one: 25, two: 25, three: 25 } }]
            """
        let box = Box(old, splitting)
        let people = (0..<20).map { "user-\($0)" }
        for user in people { box.device.take(order(user, 1)) }
        let expected = people.map { offer($0, box.device) }
        #expect(Set(expected).count == 4)
        box.restart(both)
        #expect(people.map { offer($0, box.device) } == expected)
        box.device.now += 1000
        for user in people { box.device.take(order(user, 1)) }
        #expect(people.map { offer($0, box.device) } == expected)
        box.end()
        box.restart(after)
        #expect(people.map { offer($0, box.device) } == expected)
        for user in people {
            let digest = both.formerDigest(user)
            #expect(!box.device.holds(digest, bytes: 8))
            // As a number of 64 bits.
            var turned: [UInt8] = []
            for index in 0..<32 { turned.append(digest[(7 - index) & 31]) }
            #expect(!box.device.holds(Digest256(turned.span)!, bytes: 8))
        }
    }

    private func offer(_ user: String, _ device: Device) -> String {
        var decider = Decider(device: [], pepper: device.pepper, meters: device.meters)
        var writer = JSONWriter()
        let (key, body) = (Array("offer".utf8), Array("{\"context\": {\"targetingKey\": \"\(user)\"}}".utf8))
        let (name, span) = (key.span, body.span)
        do {
            var reader = try device.database.makeReader()
            try reader.begin()
            _ = decider.answer(device.bundle.policy, name, span, now: device.now, reader, into: &writer)
        } catch { Issue.record("\(error.message)") }
        let answer = String(decoding: writer.bytes, as: UTF8.self)
        return answer.components(separatedBy: "variant\":\"").last?.components(separatedBy: "\"").first ?? ""
    }

    @Test func theFileIsReplacedWhole() throws {
        var random = SystemRandom()
        let path = "/tmp/gatehouse-pepper-test-\(random.next())"
        defer { Files.remove(path) }
        let words = Array("words".utf8)
        let first = try Pepper.load(path, &random)
        #expect(first.former == nil && Files.size(path) == 32)
        try Pepper.rotate(path, &random)
        let second = try Pepper.load(path, &random)
        #expect(Files.size(path) == 96 && Files.mode(path) == 0o600)
        #expect(second.former?.authenticate(words) == first.present.authenticate(words))
        #expect(second.root.authenticate(words) == first.root.authenticate(words))
        #expect(second.present.authenticate(words) != first.present.authenticate(words))
        #expect(throws: PepperError.self) { try Pepper.rotate(path, &random) }
        Pepper.dropFormer(path)
        let third = try Pepper.load(path, &random)
        #expect(Files.size(path) == 64 && third.former == nil)
        #expect(third.present.authenticate(words) == second.present.authenticate(words))
        try Pepper.rotate(path, &random)
        #expect(try Pepper.load(path, &random).root.authenticate(words) == first.root.authenticate(words))
    }
}
