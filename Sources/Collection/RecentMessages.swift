// Which message ids were seen: a repeat is answered like the first and counted, not processed again. Bounded: the oldest
// are forgotten first. It works inside the caller's transaction, so that a repeat after a crash is known too.

import Cryptography
import Formats
import Store

/// A message id as the window knows it: 128 bits of a hash under the device's secret. The chance that two ids of the window
/// meet is 10⁻²⁷, and who reads the store cannot tell whether it holds an id that they know.
public struct MessageKey {
    fileprivate let bytes: InlineArray<16, UInt8>

    /// Of no message.
    public init() { bytes = InlineArray(repeating: 0) }

    public init(_ messageID: Span<UInt8>, _ root: borrowing HMACSHA256) {
        // The inner half of HMAC is enough: the digest is cut, so that nothing can be appended.
        var hash = root.begin()
        hash.update(messageID)
        let digest = hash.digest()
        bytes = InlineArray<16, UInt8> { digest[$0] }
    }

    /// The same as two numbers.
    public var words: (high: UInt64, low: UInt64) {
        var words: (high: UInt64, low: UInt64) = (0, 0)
        for index in 0..<8 {
            words.high = words.high << 8 | UInt64(bytes[index])
            words.low = words.low << 8 | UInt64(bytes[index + 8])
        }
        return words
    }
}

/// The window of remembered message ids. One, owned by the writer.
public struct RecentMessages {
    private var next: UInt64
    private let limit: UInt64

    /// Reads where the window stands.
    public init(_ transaction: borrowing WriteTransaction, limit: UInt64 = Limits.rememberedMessages) throws(StoreError) {
        next = (try transaction.lastNumber(transaction.tables.messageOrder) ?? 0) + 1
        self.limit = limit
    }

    /// Whether a message id was seen within the window.
    public func isKnown(
        _ key: MessageKey, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Bool {
        try transaction.get(transaction.tables.messages, key.bytes.span) != nil
    }

    /// The same as a reader's snapshot has it.
    public static func isKnown(_ key: MessageKey, _ reader: borrowing Reader) throws(StoreError) -> Bool {
        try reader.get(reader.tables.messages, key.bytes.span) != nil
    }

    /// Remembers a message id.
    /// - Returns: false when it was there already.
    public mutating func remember(
        _ key: MessageKey, in transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let tables = transaction.tables
        let order = NumberKey(next)
        guard try transaction.insert(tables.messages, key.bytes.span, order.bytes.span) else { return false }
        try transaction.put(tables.messageOrder, order.bytes.span, key.bytes.span, appending: true)
        next += 1
        if next > limit + 1 { try forgetOldest(&transaction) }
        return true
    }

    /// After a transaction that did not happen: the numbers given out in it are given out again.
    public mutating func restore(to mark: UInt64) { next = mark }
    public var mark: UInt64 { next }

    /// Forgets a message id before its time.
    public func forget(_ key: MessageKey, in transaction: inout WriteTransaction) throws(StoreError) {
        let tables = transaction.tables
        var order: [UInt8] = []
        if let found = try transaction.get(tables.messages, key.bytes.span) { order = [UInt8](copying: found) }
        if order.isEmpty { return }
        try transaction.delete(tables.messages, key.bytes.span)
        try transaction.delete(tables.messageOrder, order.span)
    }

    private func forgetOldest(_ transaction: inout WriteTransaction) throws(StoreError) {
        let tables = transaction.tables
        let order = NumberKey(next - 1 - limit)
        guard let key = try hash(at: order, transaction) else { return }
        try transaction.delete(tables.messages, key.span)
        try transaction.delete(tables.messageOrder, order.bytes.span)
    }

    private func hash(
        at order: NumberKey, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> InlineArray<16, UInt8>? {
        guard let value = try transaction.get(transaction.tables.messageOrder, order.bytes.span), value.count == 16 else {
            return nil
        }
        return InlineArray<16, UInt8> { value[$0] }
    }
}
