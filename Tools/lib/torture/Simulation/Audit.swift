// What a store shows, recomputed by other means than the agent's: which events it has, what follows from them in people's
// attributes, in the accounts and in what triggers have done.

import Collection
import Cryptography
import Formats
import Platform
import Unification

@testable import Agent
@testable import Delivery
@testable import Serving
@testable import Store

struct Audit {
    let device: Device
    let pepper: Peppers
    unowned let world: World

    /// Holds a store against what clients know.
    func run(_ events: [Int: Sent]) throws(StoreError) {
        var reader = try device.database.makeReader()
        try reader.begin()
        try accounts(reader)
        try profiles(events, reader)
    }

    private func profiles(_ events: [Int: Sent], _ reader: borrowing Reader) throws(StoreError) {
        var known: [Int: (orders: Int, spent: Int, added: Int)] = [:]
        for person in History.steady { known[person] = (0, 0, 0) }
        for (number, event) in events where event.isForbidden || History.steady.contains(event.person) {
            let id = Array("message-\(number)".utf8)
            let isKnown = try RecentMessages.isKnown(MessageKey(id.span, pepper.root), reader)
            if event.isForbidden {
                if isKnown { world.fail("P4", "event \(number) was taken, and person \(event.person) has refused") }
                continue
            }
            // What is not as it should be is set aside, and known, too.
            if event.isAnswered, event.isExpected, !isKnown, !event.isOver {
                world.fail("P1", "event \(number) (\(event.kind.rawValue)) was answered and is not there")
            }
            if !isKnown { continue }
            if event.kind == .order {
                known[event.person]!.orders += 1
                known[event.person]!.spent += event.value
            } else if event.kind == .add {
                known[event.person]!.added += 1
            }
        }
        for person in History.steady {
            let (orders, spent, added) = known[person]!
            let found = try attributes(person, reader)
            if found != (orders, spent, added) {
                world.fail(
                    "P1", "of person \(person) the store has \(orders) orders for \(spent) and \(added) additions, and its "
                        + "profile says \(found)")
            }
        }
    }

    private func attributes(_ person: Int, _ reader: borrowing Reader) throws(StoreError) -> (Int, Int, Int) {
        let policy = device.bundles.current.policy
        let (name, value) = (Array("user_id".utf8), Array(World.user(person).utf8))
        var room = NormalizedIdentifier()
        guard let kind = policy.identifiers.kindIndex(named: name.span),
            let identifier = policy.identifiers.hash(
                RawIdentifier(value.span), kindIndex: kind, pepper: pepper, using: &room),
            let profile = try IdentityGraph.profile(of: identifier, in: reader)
        else { return (0, 0, 0) }
        let id = profile.bytes
        var record: [UInt8] = []
        if let found = try reader.get(reader.tables.profiles, id.span) { record = [UInt8](copying: found) }
        if record.isEmpty { return (0, 0, 0) }
        var writer = JSONWriter()
        var index = ProfileIndex()
        do throws(RecordDamage) {
            let view = try ProfileView(record.span)
            index.fill(view, policy.attributes)
            ProfileWriter.writeAttributes(view, index, policy.attributes, now: SystemClock().wallMilliseconds(), to: &writer)
        } catch { return (-1, -1, -1) }
        var document = JSONDocument()
        let text = writer.bytes
        guard (try? document.parse(text.span)) != nil else { return (-1, -1, -1) }
        func number(_ name: StaticString) -> Int {
            document.member(document.root, name).flatMap { document.double($0) }.map { Int($0) } ?? 0
        }
        return (number("orders"), number("spent"), number("added"))
    }

    /// Promise P7.
    private func accounts(_ reader: borrowing Reader) throws(StoreError) {
        let ledger = try Ledger(reader)
        let terms = ledger.admitted + ledger.duplicate + ledger.denied + ledger.waiting + ledger.quarantined + ledger.refused
        if ledger.received != terms {
            world.fail("P7", "\(ledger.received) events were received, and the terms make \(terms)")
        }
        if ledger.admitted + ledger.generated != ledger.nextSequence - 1 {
            world.fail(
                "P7", "\(ledger.admitted) events were admitted and \(ledger.generated) made, and the log has numbers up to "
                    + "\(ledger.nextSequence - 1)")
        }
        for entry in device.bundles.current.destinations {
            guard let other = try DestinationLedger(reader, name: entry.destination.name) else { continue }
            let settled = other.delivered + other.filtered + other.expired + other.evicted + other.erased
            let name = String(decoding: entry.destination.name, as: UTF8.self)
            if other.cursor + other.ahead > ledger.nextSequence {
                world.fail("P7", "\(name): the cursor is behind the log's end")
            } else if settled + other.queued(next: ledger.nextSequence) != ledger.nextSequence - other.since {
                world.fail(
                    "P7", "\(name): \(settled) settled and \(other.queued(next: ledger.nextSequence)) queued, of "
                        + "\(ledger.nextSequence - other.since)")
            }
        }
    }

    /// The log of each steady person: a trigger that waits fires once, unless an order comes before.
    /// - Returns: how often each person's has fired.
    func triggers(areAllDue: Bool) throws(StoreError) -> [Int: Int] {
        var reader = try device.database.makeReader()
        try reader.begin()
        var waits: [Int: Bool] = [:]
        var fired: [Int: Int] = [:]
        var document = JSONDocument()
        try reader.scan(reader.tables.log, from: Span<UInt8>()) { key, value in
            guard let entry = LogEntryView(value), (try? document.parse(entry.body)) != nil,
                let event = document.member(document.root, "event").flatMap({ document.string($0) }),
                let person = document.member(document.root, "properties").flatMap({ document.member($0, "person") })
                    .flatMap({ document.int64($0) }).map({ Int($0) }), History.steady.contains(person)
            else { return true }
            switch event.utf8.first {
            // Product Added, Product Viewed; Order Completed; Trigger Fired.
            case UInt8(ascii: "P"): if event.utf8.last == UInt8(ascii: "d"), event.utf8.count == 13 { waits[person] = true }
            case UInt8(ascii: "O"): waits[person] = false
            case UInt8(ascii: "T"):
                if !(waits[person] ?? false) {
                    let number = NumberKey.decode(key) ?? 0
                    world.fail("P1", "entry \(number): a trigger fired for person \(person) that did not wait")
                }
                waits[person] = false
                fired[person, default: 0] += 1
            default: break
            }
            return true
        }
        for (person, isWaiting) in waits where isWaiting && areAllDue {
            world.fail("P1", "a trigger of person \(person) has never fired")
        }
        return fired
    }
}
