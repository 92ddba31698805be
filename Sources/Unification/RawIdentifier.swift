// A raw identifier is an e-mail address, a telephone number, a device's number as somebody sent it. Promise P3: it is
// never stored, logged or sent. Here that is a matter of types: what holds one can be neither copied nor kept nor
// printed, and the only ways out are the normaliser and the hash functions.

import Cryptography
import Formats
import Store

/// The bytes of a raw identifier, borrowed from the event for as long as it is looked at.
///
/// No accessor, no description: `NormalizedIdentifier.take` is what can be done with it.
public struct RawIdentifier: ~Copyable, ~Escapable {
    fileprivate let bytes: Span<UInt8>

    @_lifetime(copy bytes)
    public init(_ bytes: Span<UInt8>) { self.bytes = bytes }
}

/// Room for one normalised identifier, overwritten when the next one comes and before it is given back.
///
/// As secret as the raw one. A thread keeps one and reuses it: a warm one allocates nothing.
public struct NormalizedIdentifier: ~Copyable {
    fileprivate var bytes: [UInt8] = []

    public init() { bytes.reserveCapacity(Limits.rawIdentifierBytes) }

    /// Normalises `raw`; false when it is no identifier of the normaliser's form, and then this is empty.
    public mutating func take(_ raw: borrowing RawIdentifier, _ normalizer: Normalizer) -> Bool {
        if normalizer.normalize(raw.bytes, into: &bytes) { return true }
        wipe()
        return false
    }

    /// The keyed hash that everything here is kept under: HMAC-SHA-256 with the device's pepper of the kind's name, a
    /// zero byte and the normalised bytes, so that the same text of two kinds has two hashes.
    public func hash(kindName: Span<UInt8>, pepper: borrowing HMACSHA256) -> Digest256 {
        var running = pepper.begin()
        running.update(kindName)
        let separator: [UInt8] = [0]
        running.update(separator.span)
        running.update(bytes.span)
        return pepper.finish(running)
    }

    /// The same under the former pepper, while a rotation lasts.
    func former(kindName: Span<UInt8>, _ pepper: Peppers) -> Digest256? {
        guard let former = pepper.former else { return nil }
        return hash(kindName: kindName, pepper: former)
    }

    /// The plain SHA-256 that advertising systems match on. Kept only while a destination waits for it.
    public func plainHash() -> Digest256 { SHA256.hash(bytes.span) }

    /// The normalised text for the person who typed the raw one: `gatehouse hash` and the conformance tests. Nothing
    /// that runs beside events may call it.
    public func disclosedToItsOwner() -> [UInt8] { bytes }

    /// Overwrites the bytes and forgets them.
    public mutating func wipe() { wipeBytes(&bytes) }

    /// For the search of the same value elsewhere in its event, and for the block list. Stays in this room.
    var contents: Span<UInt8> {
        @_lifetime(borrow self)
        get { bytes.span }
    }
}

/// Overwrites bytes with zeros before they are given up, so that freed memory and crash images do not hold them.
func wipeBytes(_ bytes: inout [UInt8]) {
    for index in bytes.indices { bytes[index] = 0 }
    bytes.removeAll(keepingCapacity: true)
}

/// What an identifier is from here on: the number of its kind and a keyed hash.
public struct HashedIdentifier: Equatable {
    /// FNV-1a of the kind's name: stays the same when a bundle adds or reorders kinds.
    public let kindTag: UInt32
    /// The kind's place in the plan that found it.
    public let kindIndex: Int
    /// HMAC-SHA-256 under the pepper, see `NormalizedIdentifier.hash`; of one that the store knows under the former pepper
    /// alone, that.
    public var digest: Digest256
    /// The same under the former pepper, while a rotation lasts.
    public var former: Digest256?
    /// Plain SHA-256 of the normalised bytes, for kinds with `send: sha256`; otherwise nil.
    public let plainDigest: Digest256?

    /// Bytes of a key in the store.
    public static let keyByteCount = 4 + Digest256.byteCount

    public init(
        kindTag: UInt32, kindIndex: Int, digest: Digest256, plainDigest: Digest256? = nil, former: Digest256? = nil
    ) {
        self.kindTag = kindTag
        self.kindIndex = kindIndex
        self.digest = digest
        self.plainDigest = plainDigest
        self.former = former
    }

    /// Its kind and its hashes, as an entry of the log has them.
    public var logged: LoggedIdentifier { LoggedIdentifier(kindTag: kindTag, digest: digest, plainDigest: plainDigest) }

    /// Appends the key under which the store knows it: the tag, big-endian, and the digest.
    public func appendKey(to bytes: inout [UInt8]) {
        for shift in stride(from: UInt32(24), through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: kindTag >> shift))
        }
        digest.append(to: &bytes)
    }
}
