// The accounts that promise P7 speaks of, and the numbers that continue after a restart. They are part of the store and
// change in the same transaction as what they count.

import Formats
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

    private static let key: [UInt8] = Array("ledger".utf8)
}

/// One destination's accounts and its cursor.
///
/// `admitted = delivered + queued + filtered + expired + evicted + erased`, for the events admitted since the
/// destination came to be; `queued` is what lies in the log from the cursor on.
public struct DestinationLedger: Equatable, Sendable {
    /// Number of the next event to send.
    public var cursor: UInt64 = 1
    /// Number of the first event that was admitted after the destination came to be.
    public var since: UInt64 = 1
    public var delivered: UInt64 = 0
    public var filtered: UInt64 = 0
    public var expired: UInt64 = 0
    public var evicted: UInt64 = 0
    public var erased: UInt64 = 0
    /// Of those delivered or filtered, set aside because the destination refuses them.
    public var rejected: UInt64 = 0

    static let fieldCount = 8

    public init() {}

    init(_ transaction: borrowing WriteTransaction, name: [UInt8]) throws(StoreError) {
        self.init()
        guard let bytes = try transaction.get(transaction.tables.cursors, name.span) else { return }
        guard let numbers = Record.decode(bytes, count: DestinationLedger.fieldCount) else { throw .badRecord("cursors") }
        take(numbers)
    }

    /// Reads the last committed state; nil for a destination that never was.
    public init?(_ reader: borrowing Reader, name: [UInt8]) throws(StoreError) {
        self.init()
        guard let bytes = try reader.get(reader.tables.cursors, name.span) else { return nil }
        guard let numbers = Record.decode(bytes, count: DestinationLedger.fieldCount) else { throw .badRecord("cursors") }
        take(numbers)
    }

    private mutating func take(_ numbers: [UInt64]) {
        cursor = numbers[0]
        since = numbers[1]
        delivered = numbers[2]
        filtered = numbers[3]
        expired = numbers[4]
        evicted = numbers[5]
        erased = numbers[6]
        rejected = numbers[7]
    }

    func write(to transaction: inout WriteTransaction, name: [UInt8]) throws(StoreError) {
        let bytes = Record.encode([cursor, since, delivered, filtered, expired, evicted, erased, rejected])
        try transaction.put(transaction.tables.cursors, name.span, bytes.span)
    }
}
