// What a hub passes on between the devices of a fleet, in the order in which it changed: states of identifiers, which lie in
// the tables of links, parts and choices, and the names of those who were erased. It need not know who is who, and cannot:
// identifiers are hashed under a pepper that the hub does not have. A device has here what its hub is yet to be told.

import Formats
import Governance
import Store

/// The table `changes`: the number of a change → what changed; and under 255, a name and the number of a store (25 bytes)
/// the number of their newest change. A name is 16 bytes, as the suppression list of every device of the fleet has it.
///
/// Of a state: 1 or 3, the name, the number of the store that has counted (8; 0: it is about links and choices), the key of
/// the identifier and when it was heard (8). Of an erasure: 2, the name, when it was asked for (8), and at a device the key.
public enum SharedChanges {
    public static let isState: UInt8 = 1
    public static let isErased: UInt8 = 2
    /// Of a state: its person wants no more than their choices to be known elsewhere.
    public static let isWithdrawn: UInt8 = 3
    public static let nameBytes = 16
    private static let headBytes = 1 + nameBytes + 8
    private static let stateBytes = headBytes + IdentifierKey.byteCount + 8

    /// One of them.
    public struct Change {
        public let number: UInt64
        public let value: [UInt8]

        public var kind: UInt8 { value[0] }
        public var name: [UInt8] { Array(value[1...nameBytes]) }
        /// The number of the store whose part has changed; 0: links or choices have.
        public var epoch: UInt64 { NumberKey.decode(value.span.extracting(1 + nameBytes..<headBytes)) ?? 0 }
        /// Of a state: of which identifier. Of an erasure at a device, likewise.
        public var key: IdentifierKey? { IdentifierKey(value.span, at: headBytes) }
        /// Of an erasure: when it was asked for, milliseconds since the epoch.
        public var erasedAt: Int64? { SharedChanges.erasedAt(in: value.span) }
        /// Of a state: when it was heard.
        fileprivate var heardAt: Int64 {
            guard value.count == stateBytes else { return 0 }
            return Int64(bitPattern: NumberKey.decode(value.span.extracting(stateBytes - 8..<stateBytes)) ?? 0)
        }
    }

    /// When the name of a change was erased; nil for a state, and for what is too short for either.
    public static func erasedAt(in value: Span<UInt8>) -> Int64? {
        guard value.count >= headBytes, value[0] == isErased else { return nil }
        return NumberKey.decode(value.extracting(1 + nameBytes..<headBytes)).map { Int64(bitPattern: $0) }
    }

    private static func place(of name: Span<UInt8>, _ epoch: UInt64) -> [UInt8] {
        var place: [UInt8] = [255]
        place.append(contentsOf: name)
        let number = NumberKey(epoch)
        place.append(contentsOf: number.bytes.span)
        return place
    }

    private static func value(
        _ kind: UInt8, _ name: Span<UInt8>, _ number: UInt64, _ key: IdentifierKey?
    ) -> [UInt8] {
        var value: [UInt8] = [kind]
        value.append(contentsOf: name)
        let bytes = NumberKey(number)
        value.append(contentsOf: bytes.bytes.span)
        key?.append(to: &value)
        return value
    }

    /// What is known of a name: the newest change of links or choices, or its erasure.
    public static func latest(
        of name: Span<UInt8>, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Change? {
        try change(place(of: name, 0), in: transaction)
    }

    private static func change(
        _ place: [UInt8], in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Change? {
        let changes = transaction.tables.changes
        guard let found = try transaction.get(changes, place.span), let number = NumberKey.decode(found) else { return nil }
        let key = NumberKey(number)
        guard let value = try transaction.get(changes, key.bytes.span), value.count >= headBytes else { return nil }
        return Change(number: number, value: [UInt8](copying: value))
    }

    // MARK: Changing

    /// Makes the state of an identifier the newest change.
    /// - Parameter epoch: see `Change.epoch`.
    public static func put(
        _ name: Span<UInt8>, _ key: IdentifierKey, epoch: UInt64 = 0, isWithdrawn withdrawn: Bool = false, at now: Int64,
        in transaction: inout WriteTransaction
    ) throws(StoreError) {
        var value = value(withdrawn ? isWithdrawn : isState, name, epoch, key)
        let time = NumberKey(UInt64(bitPattern: now))
        value.append(contentsOf: time.bytes.span)
        _ = try put(value, at: place(of: name, epoch), in: &transaction)
    }

    /// Makes an erasure the newest change; nothing else is known of the name any more.
    /// - Parameter key: of the identifier, by which the hub finds what may have come back; a hub does not keep it.
    public static func putErasure(
        _ name: Span<UInt8>, at time: Int64, _ key: IdentifierKey?, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try remove(name, in: &transaction)
        let number = try put(
            value(isErased, name, UInt64(bitPattern: time), key), at: place(of: name, 0), in: &transaction)
        try count(1, &transaction)
        try transaction.put(transaction.tables.meta, newestErasure.span, NumberKey(number).bytes.span)
    }

    private static func put(
        _ value: [UInt8], at place: [UInt8], in transaction: inout WriteTransaction
    ) throws(StoreError) -> UInt64 {
        let (changes, meta) = (transaction.tables.changes, transaction.tables.meta)
        try remove(place, in: &transaction)
        let number = try Self.number(counter, in: transaction) + 1
        let key = NumberKey(number)
        try transaction.put(meta, counter.span, key.bytes.span)
        try transaction.put(changes, key.bytes.span, value.span)
        try transaction.put(changes, place.span, key.bytes.span)
        return number
    }

    /// Takes everything away that is known of a name.
    /// - Parameter keepsChoices: but for the newest change of links and choices.
    public static func remove(
        _ name: Span<UInt8>, keepsChoices: Bool = false, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let start = place(of: name, 0)
        var places: [[UInt8]] = []
        try transaction.scan(transaction.tables.changes, from: start.span) { key, _ in
            guard key.count == headBytes, equal(key.extracting(1..<1 + nameBytes), name) else { return false }
            if !keepsChoices || !equal(key, start.span) { places.append([UInt8](copying: key)) }
            return true
        }
        for place in places { try remove(place, in: &transaction) }
    }

    /// Takes away what is known of a store's part.
    public static func remove(
        _ name: Span<UInt8>, epoch: UInt64, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try remove(place(of: name, epoch), in: &transaction)
    }

    private static func remove(_ place: [UInt8], in transaction: inout WriteTransaction) throws(StoreError) {
        let changes = transaction.tables.changes
        guard let old = try change(place, in: transaction) else { return }
        if old.kind == isErased { try count(-1, &transaction) }
        try transaction.delete(changes, NumberKey(old.number).bytes.span)
        try transaction.delete(changes, place.span)
    }

    /// Counts the erasures, of which there may be as many as there are.
    private static func count(_ change: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        let count = NumberKey(try number(erasures, in: transaction) &+ UInt64(bitPattern: change))
        try transaction.put(transaction.tables.meta, erasures.span, count.bytes.span)
    }

    /// Forgets the changes up to a number: a device has told its hub of them.
    public static func remove(upTo last: UInt64, in transaction: inout WriteTransaction) throws(StoreError) {
        let changes = transaction.tables.changes
        while let first = try transaction.firstNumber(changes), first <= last {
            let key = NumberKey(first)
            var value: [UInt8] = []
            if let found = try transaction.get(changes, key.bytes.span) { value = [UInt8](copying: found) }
            if value.count >= headBytes {
                let change = Change(number: first, value: value)
                let name = change.name
                try remove(place(of: name.span, change.kind == isErased ? 0 : change.epoch), in: &transaction)
            }
            try transaction.delete(changes, key.bytes.span)
        }
    }

    // MARK: Numbers in the table `meta`

    private static let counter = Array("changes".utf8)
    private static let former = Array("changes_former".utf8)
    private static let erasures = Array("changes_erasures".utf8)
    private static let newestErasure = Array("changes_erased".utf8)

    private static func number(
        _ name: [UInt8], in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> UInt64 {
        guard let value = try transaction.get(transaction.tables.meta, name.span) else { return 0 }
        return NumberKey.decode(value) ?? 0
    }

    /// The number of the newest erasure; 0: there was none.
    public static func lastErasure(in transaction: borrowing WriteTransaction) throws(StoreError) -> UInt64 {
        try number(newestErasure, in: transaction)
    }

    /// What there is lies under a pepper that is not used any more: nobody is told of it, and `forget` takes it away.
    public static func beginAnew(in transaction: inout WriteTransaction) throws(StoreError) {
        let last = NumberKey(try number(counter, in: transaction))
        try transaction.put(transaction.tables.meta, former.span, last.bytes.span)
    }

    // MARK: At a hub

    /// Looks at some changes, and forgets of them what lies under a former pepper, states that have not changed since a
    /// time, unless they hold a refusal, and any while there are too many.
    /// - Parameter position: where to look next; 0 for the beginning.
    public static func forget(
        beyond most: Int64, before time: Int64, from position: inout UInt64, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let changes = transaction.tables.changes
        let former = try number(former, in: transaction)
        let states = transaction.count(changes) / 2 - Int64(clamping: try number(erasures, in: transaction))
        var surplus = states - most
        var found: [Change] = []
        let start = NumberKey(position + 1)
        try transaction.scan(changes, from: start.bytes.span) { key, value in
            guard found.count < Limits.changesForgottenAtOnce, let number = NumberKey.decode(key), value.count >= headBytes
            else { return false }
            found.append(Change(number: number, value: [UInt8](copying: value)))
            return true
        }
        position = found.count == Limits.changesForgottenAtOnce ? found[found.count - 1].number : 0
        for change in found {
            let name = change.name
            if change.kind == isErased {
                if change.number <= former { try remove(name.span, in: &transaction) }
                continue
            }
            let isOver = change.number <= former || surplus > 0
            guard let key = change.key, isOver || change.heardAt < time else { continue }
            let epoch = change.epoch
            if epoch != 0 {
                try IdentifierState.remove(key, countedBy: epoch, in: &transaction)
            } else {
                let bytes = key.bytes
                if !isOver, let choices = try transaction.get(transaction.tables.consentParts, bytes.span),
                    ConsentRecord.holdsRefusal(choices)
                {
                    continue
                }
                try IdentifierState.removeLinksAndChoices(key, in: &transaction)
            }
            try remove(name.span, epoch: epoch, in: &transaction)
            surplus -= 1
        }
    }

    /// The identifier whose states have this name; nil: there are none.
    public static func key(
        of name: Span<UInt8>, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> IdentifierKey? {
        let start = place(of: name, 0)
        var place: [UInt8] = []
        try transaction.scan(transaction.tables.changes, from: start.span) { key, _ in
            if key.count == headBytes, equal(key.extracting(1..<1 + nameBytes), name) { place = [UInt8](copying: key) }
            return false
        }
        return place.isEmpty ? nil : try change(place, in: transaction)?.key
    }

    /// Calls `body` with the changes after a number until it returns false.
    public static func forEach(
        after number: UInt64, in store: borrowing Reader, _ body: (Change) -> Bool
    ) throws(StoreError) {
        var last = number
        if let value = try store.get(store.tables.meta, former.span) { last = max(last, NumberKey.decode(value) ?? 0) }
        let start = NumberKey(last == .max ? last : last + 1)
        try store.scan(store.tables.changes, from: start.bytes.span) { key, value in
            guard let number = NumberKey.decode(key), value.count >= headBytes else { return false }
            return body(Change(number: number, value: [UInt8](copying: value)))
        }
    }
}
