// Links between identifiers: that an event carried both. What they make of people is in IdentityRegion.swift; here is how
// they lie in the store, and that two devices which have seen the same events have the same links.

import Formats
import Store

/// Which event made a link: the earliest that showed it; of several at the same time, the one whose message id has the lowest
/// hash, so that the same events leave the same link in whichever order they come.
///
/// In the store 25 bytes: the time and the hash, big-endian, and whether the link was cut.
public struct LinkOrigin: Equatable, Sendable {
    /// When the event happened, milliseconds since the epoch.
    public var time: Int64
    /// Keyed hash of its message id.
    public var message: EventHash
    /// Somebody has said that it was wrong: it joins nobody, and no later event makes it anew.
    public var isCut = false

    public init(time: Int64, message: EventHash) {
        self.time = time
        self.message = message
    }

    /// Of one of the links that an event shows. Which of them goes first is settled here and stays so when the pepper
    /// changes: by their kinds, then by the identifiers as they are hashed now. Eight bits of these have to do: an origin must
    /// not help to find out, once that pepper is forgotten, what was hashed.
    init(_ evidence: LinkEvidence, _ first: IdentifierKey, _ second: IdentifierKey) {
        self.init(time: evidence.time, message: evidence.message)
        message.low = UInt64(first.tag &+ second.tag) << 8 | UInt64(first.digest[0] ^ second.digest[0])
    }

    init?(_ value: Span<UInt8>) {
        guard value.count == LinkOrigin.byteCount, let time = NumberKey.decode(value.extracting(0..<8)),
            let high = NumberKey.decode(value.extracting(8..<16)), let low = NumberKey.decode(value.extracting(16..<24))
        else { return nil }
        self.init(time: Int64(bitPattern: time), message: EventHash(high: high, low: low))
        isCut = value[24] != 0
    }

    static let byteCount = 25

    var bytes: InlineArray<25, UInt8> {
        let numbers = (NumberKey(UInt64(bitPattern: time)), NumberKey(message.high), NumberKey(message.low))
        let last: UInt8 = isCut ? 1 : 0
        return InlineArray<25, UInt8> { index in
            if index < 8 { return numbers.0.bytes[index] }
            if index < 16 { return numbers.1.bytes[index - 8] }
            return index < 24 ? numbers.2.bytes[index - 16] : last
        }
    }

    func isBefore(_ other: LinkOrigin) -> Bool {
        if time != other.time { return time < other.time }
        return message.high != other.message.high
            ? message.high < other.message.high : message.low < other.message.low
    }

    /// What two devices know of one link: the earlier event; cut, if it is on either. Commutative, associative, idempotent.
    func merged(with other: LinkOrigin) -> LinkOrigin {
        var result = other.isBefore(self) ? other : self
        result.isCut = isCut || other.isCut
        return result
    }
}

/// The keyed hash of a message id, by which an event is known on every device with the same pepper.
public struct EventHash: Equatable, Sendable {
    public var high: UInt64
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}

enum IdentityLinks {
    static func link(
        _ first: IdentifierKey, _ second: IdentifierKey, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> LinkOrigin? {
        let key = EdgeKey(first, second)
        guard let value = try transaction.get(transaction.tables.edges, key.bytes.span) else { return nil }
        return LinkOrigin(value)
    }

    /// Adds what is known of a link to what was.
    /// - Returns: whether that was news.
    static func add(
        _ first: IdentifierKey, _ second: IdentifierKey, _ origin: LinkOrigin, in transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let known = try link(first, second, in: transaction)
        let merged = known.map { $0.merged(with: origin) } ?? origin
        if merged == known { return false }
        let value = merged.bytes
        try transaction.put(transaction.tables.edges, EdgeKey(first, second).bytes.span, value.span)
        try transaction.put(transaction.tables.edges, EdgeKey(second, first).bytes.span, value.span)
        return true
    }

    /// The links of an identifier, by the other end's key.
    /// - Parameters:
    ///   - atMost: how many of them.
    ///   - withCut: those that were cut, too.
    static func links(
        of identifier: IdentifierKey, atMost: Int, withCut: Bool = true, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [(other: IdentifierKey, origin: LinkOrigin)] {
        var list: [(other: IdentifierKey, origin: LinkOrigin)] = []
        let prefix = identifier.bytes
        try transaction.scan(transaction.tables.edges, from: prefix.span) { key, value in
            guard list.count < atMost, key.count == EdgeKey.byteCount, equal(key.extracting(0..<36), prefix.span) else {
                return false
            }
            if let other = IdentifierKey(key, at: 36), let origin = LinkOrigin(value), withCut || !origin.isCut {
                list.append((other, origin))
            }
            return true
        }
        return list
    }

    /// Takes away all links of an identifier, at their other ends as well.
    static func removeAll(of identifier: IdentifierKey, in transaction: inout WriteTransaction) throws(StoreError) {
        for link in try links(of: identifier, atMost: Int.max, in: transaction) {
            try remove(identifier, link.other, in: &transaction)
        }
    }

    static func remove(
        _ first: IdentifierKey, _ second: IdentifierKey, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try transaction.delete(transaction.tables.edges, EdgeKey(first, second).bytes.span)
        try transaction.delete(transaction.tables.edges, EdgeKey(second, first).bytes.span)
    }
}
