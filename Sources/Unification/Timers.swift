// What is to happen at some time. Two tables: in `timers` what comes due next stands first, so that nobody ever looks at
// more than what is due; in `pending` it stands by whom it is about, with what is remembered for it. Timers lie with
// identifiers and not with people, and so go with whoever these turn out to belong to. It need not know what happens.

import Formats
import Store

/// For which identifier, and of what: the tag of a trigger's name, or `TimerKey.audiences`.
public struct TimerKey: Equatable, Sendable {
    static let byteCount = IdentifierKey.byteCount + 4
    /// Of what is known of the audiences that a person was last seen in.
    public static let audiences: UInt32 = 0

    public let identifier: IdentifierKey
    public let tag: UInt32

    public init(_ identifier: IdentifierKey, _ tag: UInt32) {
        self.identifier = identifier
        self.tag = tag
    }

    /// Reads the 40 bytes from `offset` on to the end.
    init?(_ bytes: Span<UInt8>, at offset: Int = 0) {
        guard bytes.count == offset + TimerKey.byteCount, let identifier = IdentifierKey(bytes, at: offset) else { return nil }
        self.init(identifier, UInt32(littleEndianAt: bytes.count - 4, of: bytes))
    }

    /// The key in `pending`, and behind eight bytes of a time the one in `timers`.
    func append(to bytes: inout [UInt8]) {
        identifier.append(to: &bytes)
        LogEntry.append(tag, to: &bytes)
    }
}

/// A record of `pending` begins with the time of its timer, milliseconds since the epoch, little-endian; 0: it has none.
public enum Timers {
    public static let headBytes = 8

    /// When the first timer is due; nil: there is none. Reads one key.
    public static func first(_ transaction: borrowing WriteTransaction) throws(StoreError) -> Int64? {
        var first: Int64?
        try transaction.scan(transaction.tables.timers, from: Span<UInt8>()) { key, _ in
            first = time(key)
            return false
        }
        return first
    }

    /// The timers that are due at `now`, first those that have been for longest; and how many keys were read for it.
    public static func due(
        at now: Int64, atMost: Int, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> (timers: [(time: Int64, key: TimerKey)], keysRead: Int) {
        var found: [(time: Int64, key: TimerKey)] = []
        var read = 0
        try transaction.scan(transaction.tables.timers, from: Span<UInt8>()) { key, _ in
            read += 1
            guard found.count < atMost, let due = time(key), due <= now, let timer = TimerKey(key, at: 8) else { return false }
            found.append((due, timer))
            return true
        }
        return (found, read)
    }

    /// What is remembered for a key, its head included; empty: nothing.
    public static func record(
        _ key: TimerKey, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        var name: [UInt8] = []
        key.append(to: &name)
        guard let value = try transaction.get(transaction.tables.pending, name.span), value.count >= headBytes else { return [] }
        return [UInt8](copying: value)
    }

    /// Remembers a record, and moves its timer to the time in the record's head.
    public static func put(
        _ key: TimerKey, _ record: [UInt8], in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let (old, new) = (try due(key, transaction), head(record.span))
        var name = timerName(key, old)
        let tables = transaction.tables
        if old != new {
            if old != 0 { try transaction.delete(tables.timers, name.span) }
            name = timerName(key, new)
            if new != 0 { try transaction.put(tables.timers, name.span, Span<UInt8>()) }
        }
        try transaction.put(tables.pending, name.span.extracting(8..<name.count), record.span)
    }

    /// Forgets what is remembered for a key, with its timer.
    public static func remove(_ key: TimerKey, in transaction: inout WriteTransaction) throws(StoreError) {
        let name = timerName(key, try due(key, transaction))
        try transaction.delete(transaction.tables.timers, name.span)
        try transaction.delete(transaction.tables.pending, name.span.extracting(8..<name.count))
    }

    /// Takes away a timer of which nothing is remembered, or another time.
    public static func drop(
        _ key: TimerKey, at time: Int64, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let name = timerName(key, time)
        try transaction.delete(transaction.tables.timers, name.span)
    }

    /// Forgets everything of an identifier.
    public static func removeAll(of identifier: IdentifierKey, in transaction: inout WriteTransaction) throws(StoreError) {
        if transaction.count(transaction.tables.pending) == 0 { return }
        var keys: [TimerKey] = []
        let start = identifier.bytes
        try transaction.scan(transaction.tables.pending, from: start.span) { key, _ in
            guard let timer = TimerKey(key), timer.identifier == identifier else { return false }
            keys.append(timer)
            return true
        }
        for key in keys { try remove(key, in: &transaction) }
    }

    /// Gives everything of an identifier to the one that takes its place.
    static func move(
        _ old: IdentifierKey, to new: IdentifierKey, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        if transaction.count(transaction.tables.pending) == 0 { return }
        var found: [(tag: UInt32, record: [UInt8])] = []
        let start = old.bytes
        try transaction.scan(transaction.tables.pending, from: start.span) { key, value in
            guard let timer = TimerKey(key), timer.identifier == old else { return false }
            found.append((timer.tag, [UInt8](copying: value)))
            return true
        }
        for (tag, record) in found {
            try remove(TimerKey(old, tag), in: &transaction)
            try put(TimerKey(new, tag), record, in: &transaction)
        }
    }

    /// Goes through what is remembered, in the order of keys, from one that is not below `start`.
    /// - Returns: records by key, and where to go on; empty: there is no more.
    public static func records(
        from start: [UInt8], atMost: Int, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> (found: [(key: TimerKey, record: [UInt8])], next: [UInt8]) {
        var page = Page(atMost: atMost)
        try transaction.scan(transaction.tables.pending, from: start.span) { page.take($0, $1) }
        return (page.found, page.next)
    }

    /// The same of another store.
    public static func records(
        from start: [UInt8], atMost: Int, in reader: borrowing Reader
    ) throws(StoreError) -> (found: [(key: TimerKey, record: [UInt8])], next: [UInt8]) {
        var page = Page(atMost: atMost)
        try reader.scan(reader.tables.pending, from: start.span) { page.take($0, $1) }
        return (page.found, page.next)
    }

    private struct Page {
        let atMost: Int
        var found: [(key: TimerKey, record: [UInt8])] = []
        var next: [UInt8] = []

        init(atMost: Int) { self.atMost = atMost }

        @inline(never)
        mutating func take(_ key: Span<UInt8>, _ value: Span<UInt8>) -> Bool {
            if found.count == atMost {
                next = [UInt8](copying: key)
                return false
            }
            if let timer = TimerKey(key) { found.append((timer, [UInt8](copying: value))) }
            return true
        }
    }

    /// Tag and record of each that an identifier has.
    public static func records(
        of identifier: IdentifierKey, in reader: borrowing Reader
    ) throws(StoreError) -> [(tag: UInt32, record: [UInt8])] {
        var found: [(tag: UInt32, record: [UInt8])] = []
        let start = identifier.bytes
        try reader.scan(reader.tables.pending, from: start.span) { key, value in
            guard let timer = TimerKey(key), timer.identifier == identifier else { return false }
            found.append((timer.tag, [UInt8](copying: value)))
            return true
        }
        return found
    }

    private static func due(_ key: TimerKey, _ transaction: borrowing WriteTransaction) throws(StoreError) -> Int64 {
        var name: [UInt8] = []
        key.append(to: &name)
        guard let value = try transaction.get(transaction.tables.pending, name.span) else { return 0 }
        return head(value)
    }

    /// The time in a record's head; 0 for one that has none.
    public static func head(_ record: Span<UInt8>) -> Int64 {
        record.count < headBytes ? 0 : max(0, Int64(bitPattern: UInt64(littleEndianAt: 0, of: record)))
    }

    private static func time(_ key: Span<UInt8>) -> Int64? {
        guard key.count == 8 + TimerKey.byteCount else { return nil }
        return NumberKey.decode(key.extracting(0..<8)).map { Int64(bitPattern: $0) }
    }

    private static func timerName(_ key: TimerKey, _ time: Int64) -> [UInt8] {
        var name: [UInt8] = []
        name.reserveCapacity(8 + TimerKey.byteCount)
        let number = NumberKey(UInt64(time))
        name.append(contentsOf: number.bytes.span)
        key.append(to: &name)
        return name
    }
}
