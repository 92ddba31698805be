// The accounts that promise P7 speaks of, and the numbers that continue after a restart. They are part of the store and
// change in the same transaction as what they count.

import Formats
import Platform
import Store

/// Counts of events, and where the log's numbering stands.
///
/// `received = admitted + duplicate + denied + waiting + quarantined + refused`
public struct Ledger: Equatable, Sendable {
    /// Number of the next event in the log; numbers are never given twice.
    public var nextSequence: UInt64 = 1
    public var received: UInt64 = 0
    public var admitted: UInt64 = 0
    public var duplicate: UInt64 = 0
    public var denied: UInt64 = 0
    public var waiting: UInt64 = 0
    public var quarantined: UInt64 = 0
    public var refused: UInt64 = 0
    /// Number of the next event in quarantine.
    public var nextQuarantined: UInt64 = 1
    /// What this device has put into the log of itself: triggers that fired, audiences that people joined or left, notices of
    /// erasures. `nextSequence - 1 = admitted + generated`.
    public var generated: UInt64 = 0

    static let fieldCount = 10

    /// The terms of the sum, as they are called outside.
    var terms: [(StaticString, UInt64)] {
        [
            ("received", received), ("admitted", admitted), ("duplicate", duplicate), ("denied", denied), ("waiting", waiting),
            ("quarantined", quarantined), ("refused", refused),
        ]
    }

    public init() {}

    init(_ transaction: borrowing WriteTransaction) throws(StoreError) {
        self.init()
        guard let bytes = try transaction.get(transaction.tables.accounts, Ledger.key.span) else { return }
        try take(bytes)
    }

    /// Reads a record as it lies in the table `accounts`.
    init(record: Span<UInt8>) throws(StoreError) {
        self.init()
        try take(record)
    }

    /// Reads the last committed state for `/metrics`.
    public init(_ reader: borrowing Reader) throws(StoreError) {
        self.init()
        guard let bytes = try reader.get(reader.tables.accounts, Ledger.key.span) else { return }
        try take(bytes)
    }

    private mutating func take(_ bytes: Span<UInt8>) throws(StoreError) {
        // An earlier version did not count what it generated.
        let count = Ledger.fieldCount
        guard let numbers = Record.decode(bytes, count: count) ?? Record.decode(bytes, count: count - 1) else {
            throw .badRecord("accounts")
        }
        nextSequence = numbers[0]
        received = numbers[1]
        admitted = numbers[2]
        duplicate = numbers[3]
        denied = numbers[4]
        waiting = numbers[5]
        quarantined = numbers[6]
        refused = numbers[7]
        nextQuarantined = numbers[8]
        generated = numbers.count == count ? numbers[9] : nextSequence - 1 - min(admitted, nextSequence - 1)
    }

    func write(to transaction: inout WriteTransaction) throws(StoreError) {
        let bytes = Record.encode([
            nextSequence, received, admitted, duplicate, denied, waiting, quarantined, refused, nextQuarantined,
            generated,
        ])
        try transaction.put(transaction.tables.accounts, Ledger.key.span, bytes.span)
    }

    static let key: [UInt8] = Array("ledger".utf8)
}

/// One destination's accounts and the cursors of its two lanes.
///
/// `admitted = delivered + queued + filtered + expired + evicted + erased`, for the events admitted since the
/// destination came to be; `queued` is what lies in the log from the cursor on and is not settled.
///
/// The lane `realtime` settles the log's urgent events, in order, up to `urgent`; the other one the rest, up to `cursor`. That
/// one never passes an urgent event which is not settled: below `cursor` everything is, and `cursor <= urgent`.
public struct DestinationLedger: Equatable, Sendable {
    /// Number of the next event of the lane `batch`.
    public var cursor: UInt64 = 1
    /// Number from which on urgent events are yet to be sent.
    public var urgent: UInt64 = 1
    /// How many events from the cursor on are settled, all of them urgent.
    public var ahead: UInt64 = 0
    /// Number of the first event that was admitted after the destination came to be.
    public var since: UInt64 = 1
    public var delivered: UInt64 = 0
    public var filtered: UInt64 = 0
    public var expired: UInt64 = 0
    public var evicted: UInt64 = 0
    public var erased: UInt64 = 0
    /// Of those delivered or filtered, set aside because the destination refuses them.
    public var rejected: UInt64 = 0
    /// The last day on which something was sent, days since the epoch in UTC, and what that day's requests took, bytes.
    public var day: UInt64 = 0
    public var spentBytes: UInt64 = 0

    static let fieldCount = 12
    /// Before there were lanes.
    static let fewerFields = 8

    public init() {}

    init(_ transaction: borrowing WriteTransaction, name: [UInt8]) throws(StoreError) {
        self.init()
        guard let bytes = try transaction.get(transaction.tables.cursors, name.span) else { return }
        try take(bytes)
    }

    /// Reads the last committed state; nil for a destination that never was.
    public init?(_ reader: borrowing Reader, name: [UInt8]) throws(StoreError) {
        self.init()
        guard let bytes = try reader.get(reader.tables.cursors, name.span) else { return nil }
        try take(bytes)
    }

    private mutating func take(_ bytes: Span<UInt8>) throws(StoreError) {
        let (count, fewer) = (DestinationLedger.fieldCount, DestinationLedger.fewerFields)
        guard let numbers = Record.decode(bytes, count: count) ?? Record.decode(bytes, count: fewer) else {
            throw .badRecord("cursors")
        }
        cursor = numbers[0]
        since = numbers[1]
        delivered = numbers[2]
        filtered = numbers[3]
        expired = numbers[4]
        evicted = numbers[5]
        erased = numbers[6]
        rejected = numbers[7]
        urgent = cursor
        if numbers.count < count { return }
        (urgent, ahead, day, spentBytes) = (numbers[8], numbers[9], numbers[10], numbers[11])
    }

    /// Events from the cursor on that are not settled.
    /// - Parameter next: number of the log's next event.
    public func queued(next: UInt64) -> UInt64 { next - cursor - ahead }

    /// What requests of this day have taken, bytes.
    func spent(on day: UInt64) -> UInt64 { day == self.day ? spentBytes : 0 }

    /// Draws the consequences of what a lane has done: as many events become settled as the change counts.
    /// - Returns: false when it has been done before.
    mutating func apply(_ change: CursorChange) -> Bool {
        let settled = change.delivered + change.filtered + change.expired + change.evicted + change.erased
        switch change.lane {
        case .realtime:
            guard change.cursor > urgent else { return false }
            urgent = change.cursor
            ahead += settled
        case .batch:
            guard change.cursor > cursor else { return false }
            // The others between the two places were settled before.
            let before = change.cursor - cursor - min(settled, change.cursor - cursor)
            ahead -= min(before, ahead)
            cursor = change.cursor
            urgent = max(urgent, cursor)
        }
        // With nothing of the lane `batch` before them they are passed at once, and cost no commit of their own.
        if ahead == urgent - cursor { (cursor, ahead) = (urgent, 0) }
        delivered += change.delivered
        filtered += change.filtered
        expired += change.expired
        evicted += change.evicted
        erased += change.erased
        rejected += change.rejected
        spentBytes = spent(on: change.day) + change.spentBytes
        day = change.day
        return true
    }

    func write(to transaction: inout WriteTransaction, name: [UInt8]) throws(StoreError) {
        let bytes = Record.encode([
            cursor, since, delivered, filtered, expired, evicted, erased, rejected, urgent, ahead, day, spentBytes,
        ])
        try transaction.put(transaction.tables.cursors, name.span, bytes.span)
    }
}
