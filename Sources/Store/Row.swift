// How a value lies under its key: with a checksum of both behind it. LMDB's pages have none, and a key that is another one is
// missed by nobody who looks for it. What the value is this file need not know.

import Formats

/// A row of a table: the value, and 4 bytes, little-endian, that key and value come to.
///
/// Where a reader would answer with it, a value without a checksum of its own is held against this one (`Table.ofDamage`). All
/// else is seen by whoever looks through all rows (`WriteTransaction.check`, `StoreFile.check`): under a key that has changed
/// nothing is found.
enum Row {
    static let sumBytes = 4

    static func sum(_ key: Span<UInt8>, _ value: Span<UInt8>) -> UInt32 {
        Checksum.of(value, seed: UInt64(Checksum.of(key)))
    }

    /// Whether a row is as it was written.
    @inline(never)
    static func isWhole(_ key: Span<UInt8>, _ row: Span<UInt8>) -> Bool {
        let end = row.count - sumBytes
        return end >= 0 && UInt32(littleEndianAt: end, of: row) == sum(key, row.extracting(0..<end))
    }
}

/// Where a look at all rows of a store is; see `WriteTransaction.check`.
public struct RowCheck {
    var table = 0
    /// The key to go on from; empty: the table's first.
    var next: [UInt8] = []
    /// Rows of the table that were seen, and the number of the transaction that saw the first.
    var rows: Int64 = 0
    var began: UInt64 = 0

    public init() {}

    /// Whether the next step begins with the first table.
    public var isAtStart: Bool { table == 0 && next.isEmpty }
}
