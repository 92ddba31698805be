// People who were erased and must not come back by the next event that names them. What is kept tells nothing about
// them: a hash under a key of its own, of a hash that is itself kept nowhere any more.

import Cryptography
import Formats
import Store

/// The suppression list: hash of an identifier's hash (16 bytes) → when it was put there (milliseconds, big-endian).
public struct SuppressionList {
    private let key: HMACSHA256
    /// How many there are: most devices have none, and then nothing is looked up.
    private var count: Int64

    public init(_ transaction: borrowing WriteTransaction, pepper: borrowing HMACSHA256) {
        let derived = pepper.authenticate(Array("suppression".utf8))
        key = derived.withSpan { HMACSHA256(key: $0) }
        count = transaction.count(transaction.tables.suppressed)
    }

    /// - Parameters:
    ///   - kindTag: tag of the identifier's kind.
    ///   - digest: its keyed hash.
    private func name(_ kindTag: UInt32, _ digest: Digest256) -> InlineArray<16, UInt8> {
        var message: [UInt8] = []
        for shift in 0..<4 { message.append(UInt8(truncatingIfNeeded: kindTag >> UInt32(8 * shift))) }
        digest.append(to: &message)
        let hashed = key.authenticate(message)
        return InlineArray<16, UInt8> { hashed[$0] }
    }

    /// When the identifier was suppressed, milliseconds since the epoch; nil when it is not.
    public func time(
        _ kindTag: UInt32, _ digest: Digest256, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Int64? {
        if count == 0 { return nil }
        let name = name(kindTag, digest)
        guard let value = try transaction.get(transaction.tables.suppressed, name.span) else { return nil }
        // A value that cannot be read suppresses all the same: in doubt, closed.
        return Int64(bitPattern: NumberKey.decode(value) ?? UInt64(Int64.max))
    }

    public mutating func add(
        _ kindTag: UInt32, _ digest: Digest256, at time: Int64, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let name = name(kindTag, digest)
        try transaction.put(transaction.tables.suppressed, name.span, NumberKey(UInt64(bitPattern: time)).bytes.span)
        count = transaction.count(transaction.tables.suppressed)
    }

    public mutating func remove(
        _ kindTag: UInt32, _ digest: Digest256, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let name = name(kindTag, digest)
        try transaction.delete(transaction.tables.suppressed, name.span)
        count = transaction.count(transaction.tables.suppressed)
    }
}
