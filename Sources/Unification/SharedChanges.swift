// What a hub passes on between the devices of a fleet, in the order in which it changed: states of identifiers, which lie in
// the tables of links, parts and choices, and the names of those who were erased. It need not know who is who, and cannot:
// identifiers are hashed under a pepper that the hub does not have.

import Formats
import Store

/// The table `changes`: the number of a change → what changed: 1, the name and the key of an identifier and when it was
/// heard (61 bytes), or 2, a name and when it was erased (25 bytes); and under 255 and a name (17 bytes) the number of its
/// newest change. A name is 16 bytes, as the suppression list of every device of the fleet has it. A device has in it what
/// its hub is yet to be told.
public enum SharedChanges {
    public static let isState: UInt8 = 1
    public static let isErased: UInt8 = 2
    /// With a state: its person wants no more than their choices to be known elsewhere.
    public static let isWithdrawn: UInt8 = 3
    public static let nameBytes = 16

    private static func place(of name: Span<UInt8>) -> [UInt8] {
        var place: [UInt8] = [255]
        place.append(contentsOf: name)
        return place
    }

    private static func change(
        _ key: Span<UInt8>, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        guard let value = try transaction.get(transaction.tables.changes, key) else { return [] }
        return [UInt8](copying: value)
    }

    /// What is known of a name; empty for nothing.
    public static func latest(
        of name: Span<UInt8>, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        let place = place(of: name)
        let number = try change(place.span, in: transaction)
        return number.isEmpty ? [] : try change(number.span, in: transaction)
    }

    /// Makes something the newest change.
    public static func put(
        _ name: Span<UInt8>, _ value: Span<UInt8>, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let tables = transaction.tables
        let place = place(of: name)
        let old = try change(place.span, in: transaction)
        if !old.isEmpty { try transaction.delete(tables.changes, old.span) }
        var number: UInt64 = 1
        if let last = try transaction.get(tables.meta, counter.span), let last = NumberKey.decode(last) { number = last + 1 }
        let key = NumberKey(number)
        try transaction.put(tables.meta, counter.span, key.bytes.span)
        try transaction.put(tables.changes, key.bytes.span, value)
        try transaction.put(tables.changes, place.span, key.bytes.span)
    }

    private static let counter = Array("changes".utf8)
    private static let former = Array("changes_former".utf8)

    /// What there is lies under a pepper that is not used any more: `forget` takes it away.
    public static func beginAnew(in transaction: inout WriteTransaction) throws(StoreError) {
        let meta = transaction.tables.meta
        var last: [UInt8] = []
        if let number = try transaction.get(meta, counter.span) { last = [UInt8](copying: number) }
        if !last.isEmpty { try transaction.put(meta, former.span, last.span) }
    }

    /// Makes the state of an identifier the newest change.
    public static func put(
        _ name: Span<UInt8>, _ key: IdentifierKey, at now: Int64, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        var value: [UInt8] = [isState]
        value.append(contentsOf: name)
        key.append(to: &value)
        let time = NumberKey(UInt64(bitPattern: now))
        value.append(contentsOf: time.bytes.span)
        try put(name, value.span, in: &transaction)
    }

    /// Looks at some changes, and forgets of them the states that have not changed since a time, and any while there are too
    /// many; who was erased is never forgotten.
    /// - Parameter position: the number to go on after; 0 to begin with.
    public static func forget(
        beyond most: Int64, before time: Int64, from position: inout UInt64, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let changes = transaction.tables.changes
        var former: UInt64 = 0
        if let number = try transaction.get(transaction.tables.meta, SharedChanges.former.span) {
            former = NumberKey.decode(number) ?? 0
        }
        var states: [(number: UInt64, value: [UInt8])] = []
        var looks = 0
        var next: UInt64 = 0
        let start = NumberKey(position + 1)
        try transaction.scan(changes, from: start.bytes.span) { key, value in
            guard looks < Limits.changesForgottenAtOnce, let number = NumberKey.decode(key) else { return false }
            looks += 1
            if value[0] == isState { states.append((number, [UInt8](copying: value))) }
            next = number
            return true
        }
        position = looks == Limits.changesForgottenAtOnce ? next : 0
        for (number, value) in states {
            let end = 1 + nameBytes + IdentifierKey.byteCount
            let heard = value.count == end + 8 ? NumberKey.decode(value.span.extracting(end..<end + 8)) ?? 0 : 0
            let isOld = number <= former || Int64(bitPattern: heard) < time
            guard isOld || transaction.count(changes) > 2 * most,
                let key = IdentifierKey(value.span, at: 1 + nameBytes)
            else { continue }
            try IdentifierState.remove(key, choicesToo: true, in: &transaction)
            let place = place(of: value.span.extracting(1..<1 + nameBytes))
            let name = NumberKey(number)
            try transaction.delete(changes, place.span)
            try transaction.delete(changes, name.bytes.span)
        }
    }

    /// Forgets the changes up to a number: a device has told its hub of them.
    public static func remove(upTo last: UInt64, in transaction: inout WriteTransaction) throws(StoreError) {
        let changes = transaction.tables.changes
        while let first = try transaction.firstNumber(changes), first <= last {
            let number = NumberKey(first)
            let value = try change(number.bytes.span, in: transaction)
            let place = place(of: value.span.extracting(1..<1 + nameBytes))
            try transaction.delete(changes, place.span)
            try transaction.delete(changes, number.bytes.span)
        }
    }

    /// Calls `body` with the changes after a number until it returns false.
    public static func forEach(
        after number: UInt64, in store: borrowing Reader, _ body: (UInt64, Span<UInt8>) -> Bool
    ) throws(StoreError) {
        let start = NumberKey(number == .max ? number : number + 1)
        try store.scan(store.tables.changes, from: start.bytes.span) { key, value in
            guard let number = NumberKey.decode(key) else { return false }
            return body(number, value)
        }
    }

    /// The key of the identifier whose state a change is of; nil for an erasure.
    public static func key(in value: Span<UInt8>) -> IdentifierKey? {
        value[0] == isState ? IdentifierKey(value, at: 1 + nameBytes) : nil
    }

    /// When the name of a change was erased; nil for a state.
    public static func erasedAt(in value: Span<UInt8>) -> Int64? {
        guard value.count == 9 + nameBytes, value[0] == isErased else { return nil }
        return NumberKey.decode(value.extracting(1 + nameBytes..<value.count)).map { Int64(bitPattern: $0) }
    }
}
