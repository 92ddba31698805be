// People who were erased and must not come back by the next event that names them. What is kept tells nothing about
// them: a hash under a key of its own, of a hash that is itself kept nowhere any more.

import Cryptography
import Formats
import Store

/// What an identifier is called in the suppression list: the same on every device with the same secret.
public struct SuppressionNames {
    private let key: HMACSHA256

    /// - Parameter root: the device's secret, from which the list's own is derived.
    public init(root: borrowing HMACSHA256) {
        let derived = root.authenticate(Array("suppression".utf8))
        key = derived.withSpan { HMACSHA256(key: $0) }
    }

    /// - Parameters:
    ///   - kindTag: tag of the identifier's kind.
    ///   - digest: its keyed hash.
    public func name(_ kindTag: UInt32, _ digest: Digest256) -> InlineArray<16, UInt8> {
        var message: [UInt8] = []
        for shift in 0..<4 { message.append(UInt8(truncatingIfNeeded: kindTag >> UInt32(8 * shift))) }
        digest.append(to: &message)
        let hashed = key.authenticate(message)
        return InlineArray<16, UInt8> { hashed[$0] }
    }
}

/// The suppression list: hash of an identifier's hash (16 bytes) → when it was put there (milliseconds, big-endian), and
/// after the first rotation of the pepper the number of the one that the identifier was hashed under.
///
/// Whoever is back by a choice is suppressed no longer, but that they were erased is remembered as long as the list lives: the
/// first bit of the time says so. A backup from before that may be put in the store's place at any time, with what was erased.
public struct SuppressionList {
    private static let lifted: UInt8 = 0x80

    private let names: SuppressionNames
    /// How many there are: most devices have none, and then nothing is looked up.
    private var count: Int64

    /// - Parameter root: the device's secret, from which the list's own is derived.
    public init(_ transaction: borrowing WriteTransaction, root: borrowing HMACSHA256) {
        names = SuppressionNames(root: root)
        count = transaction.count(transaction.tables.suppressed)
    }

    /// See `SuppressionNames`.
    public func name(_ kindTag: UInt32, _ digest: Digest256) -> InlineArray<16, UInt8> { names.name(kindTag, digest) }

    /// When the identifier was suppressed, milliseconds since the epoch; nil when it is not.
    @inline(never)
    public func time(
        _ kindTag: UInt32, _ digest: Digest256, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Int64? {
        if count == 0 { return nil }
        return try time(named: name(kindTag, digest), in: transaction)
    }

    /// The same by its name in the table.
    public func time(
        named name: InlineArray<16, UInt8>, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Int64? {
        guard let value = try transaction.get(transaction.tables.suppressed, name.span) else { return nil }
        if SuppressionList.isLifted(value) { return nil }
        // A value that cannot be read suppresses all the same: in doubt, closed.
        return Int64(bitPattern: NumberKey.decode(value.extracting(0..<min(8, value.count))) ?? UInt64(Int64.max))
    }

    /// Whether an entry of the table is only remembered.
    public static func isLifted(_ value: Span<UInt8>) -> Bool { value.count > 7 && value[0] & lifted != 0 }

    /// Whether it is known that an identifier was erased then or later, be it back by now.
    /// - Parameters:
    ///   - name: in the table; `time`: milliseconds since the epoch.
    public func remembers(
        named name: InlineArray<16, UInt8>, since time: Int64, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Bool {
        guard let value = try transaction.get(transaction.tables.suppressed, name.span), value.count > 7 else { return false }
        return SuppressionList.time(in: value) >= UInt64(clamping: time)
    }

    /// When an identifier was erased, be it back by now, milliseconds since the epoch.
    /// - Parameter value: of 8 bytes at least.
    private static func time(in value: Span<UInt8>) -> UInt64 {
        (NumberKey.decode(value.extracting(0..<8)) ?? .max) & ~(UInt64(lifted) << 56)
    }

    /// - Parameters:
    ///   - mark: the number of the pepper that the identifier was hashed under.
    ///   - isLifted: it is only remembered.
    @inline(never)
    public mutating func add(
        _ kindTag: UInt32, _ digest: Digest256, at time: Int64, mark: UInt8 = 0, isLifted: Bool = false,
        in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try add(named: name(kindTag, digest), at: time, mark: mark, isLifted: isLifted, in: &transaction)
    }

    /// The same by its name in the table.
    public mutating func add(
        named name: InlineArray<16, UInt8>, at time: Int64, mark: UInt8, isLifted: Bool = false,
        in transaction: inout WriteTransaction
    ) throws(StoreError) {
        var value: [UInt8] = []
        value.append(contentsOf: NumberKey(UInt64(max(0, time))).bytes.span)
        if mark != 0 { value.append(mark) }
        if isLifted { value[0] |= SuppressionList.lifted }
        try transaction.put(transaction.tables.suppressed, name.span, value.span)
        count = transaction.count(transaction.tables.suppressed)
    }

    /// Suppresses an identifier no longer.
    @inline(never)
    public func lift(
        _ kindTag: UInt32, _ digest: Digest256, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        if count == 0 { return }
        let name = name(kindTag, digest)
        var found: [UInt8]?
        if let known = try transaction.get(transaction.tables.suppressed, name.span) { found = [UInt8](copying: known) }
        guard var value = found else { return }
        while value.count < 8 { value.append(0) }
        value[0] |= SuppressionList.lifted
        try transaction.put(transaction.tables.suppressed, name.span, value.span)
    }

    /// Takes over what the list of a later state of this store has. An erasure that is not known here was after this state: it
    /// suppresses, also who was back then, until they choose once more.
    /// - Parameter name: in the table; `value`: what is there.
    public static func learn(
        _ name: [UInt8], _ value: [UInt8], in transaction: inout WriteTransaction
    ) throws(StoreError) {
        var value = value
        if !value.isEmpty { value[0] &= ~lifted }
        if let known = try transaction.get(transaction.tables.suppressed, name.span), known.count > 7, value.count > 7 {
            // The same, or a later one.
            if time(in: known) >= time(in: value.span) { return }
        }
        try transaction.put(transaction.tables.suppressed, name.span, value.span)
    }

    /// Takes one away by its name in the table.
    public mutating func remove(
        named name: InlineArray<16, UInt8>, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try transaction.delete(transaction.tables.suppressed, name.span)
        count = transaction.count(transaction.tables.suppressed)
    }

    // MARK: Rotation of the pepper

    /// Suppresses one under the present hash that is suppressed under the former: a backup may know them by that.
    public mutating func renew(
        _ kindTag: UInt32, _ former: Digest256, as digest: Digest256, _ mark: UInt8, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        guard let time = try time(kindTag, former, in: transaction) else { return }
        try lift(kindTag, former, in: &transaction)
        try add(kindTag, digest, at: time, mark: mark, in: &transaction)
    }

    /// Names of those that are suppressed under another pepper than the present one.
    /// - Parameters:
    ///   - start: the name to begin with; empty for the first. `looks`: how many to look at.
    /// - Returns: with them the name to go on from; empty: that was all.
    public static func unseen(
        from start: [UInt8], _ mark: UInt8, looks: Int, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> (names: [InlineArray<16, UInt8>], next: [UInt8]) {
        var names: [InlineArray<16, UInt8>] = []
        var next: [UInt8] = []
        var left = looks
        try transaction.scan(transaction.tables.suppressed, from: start.span) { key, value in
            if left == 0 {
                next = [UInt8](copying: key)
                return false
            }
            left -= 1
            let isSeen = isLifted(value) || (value.count > 8 ? value[8] == mark : mark == 0)
            if !isSeen, key.count == 16 { names.append(InlineArray<16, UInt8> { key[$0] }) }
            return true
        }
        return (names, next)
    }
}
