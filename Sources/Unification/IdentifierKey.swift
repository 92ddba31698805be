// Identifiers as keys of the store. The tables that they lead to are described in Store/Tables.swift.

import Cryptography
import Formats
import Store

/// One identifier as the graph knows it: kind tag (big-endian) and digest, 36 bytes.
public struct IdentifierKey: Equatable, Sendable {
    static let byteCount = 36

    public let tag: UInt32
    public let digest: Digest256

    public init(tag: UInt32, digest: Digest256) {
        self.tag = tag
        self.digest = digest
    }

    public init(_ identifier: HashedIdentifier) { self.init(tag: identifier.kindTag, digest: identifier.digest) }

    public init(_ identifier: LoggedIdentifier) { self.init(tag: identifier.kindTag, digest: identifier.digest) }

    /// Reads the 36 bytes from `offset` on; nil where there are none.
    public init?(_ bytes: Span<UInt8>, at offset: Int = 0) {
        guard bytes.count >= offset + IdentifierKey.byteCount,
            let digest = Digest256(bytes.extracting(offset + 4..<offset + IdentifierKey.byteCount))
        else { return nil }
        tag = UInt32(bigEndian: load32(bytes, offset).littleEndian)
        self.digest = digest
    }

    var bytes: InlineArray<36, UInt8> {
        let (tag, digest) = (self.tag, self.digest)
        return InlineArray<36, UInt8> { index in index < 4 ? bigEndianByte(tag, index) : digest[index - 4] }
    }

    /// As the log has it.
    public var logged: LoggedIdentifier { LoggedIdentifier(kindTag: tag, digest: digest, plainDigest: nil) }

    public func append(to bytes: inout [UInt8]) {
        for index in 0..<4 { bytes.append(bigEndianByte(tag, index)) }
        digest.append(to: &bytes)
    }

    /// An order without meaning, the same on every device.
    func isBefore(_ other: IdentifierKey) -> Bool {
        if tag != other.tag { return tag < other.tag }
        for index in 0..<Digest256.byteCount where digest[index] != other.digest[index] {
            return digest[index] < other.digest[index]
        }
        return false
    }

    /// What a person is drawn by who is known by this identifier only. A profile keeps it, and it does not lead back to the
    /// digest, which the next pepper makes unknown.
    /// - Parameter root: see `Peppers.root`.
    public func seed(root: HMACSHA256) -> UInt64 {
        let bytes = self.bytes
        // The inner half of HMAC is enough: the digest is cut, so that nothing can be appended.
        var hash = root.begin()
        hash.update(bytes.span)
        let hashed = hash.digest()
        var number: UInt64 = 0
        for index in 0..<8 { number = number << 8 | UInt64(hashed[index]) }
        return number
    }

    /// A number that stands for the part of a profile that one device has written for this identifier; never 0. Two of a
    /// person's few parts share one by a chance of one in 2^58.
    public func part(writtenBy epoch: UInt64) -> UInt64 {
        var number: UInt64 = 0
        for index in 0..<8 { number = number << 8 | UInt64(digest[index]) }
        number ^= UInt64(tag) << 24 ^ epoch &* 0x9E37_79B9_7F4A_7C15
        return number == 0 ? 1 : number
    }
}

@inline(__always)
private func bigEndianByte(_ number: UInt32, _ index: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: number >> UInt32(24 - 8 * index))
}

/// Profile id, kind tag and digest: the key of `links`, which finds a person's identifiers.
struct LinkKey {
    static let byteCount = 52
    let bytes: InlineArray<52, UInt8>

    init(_ profile: ProfileID, _ identifier: IdentifierKey) {
        let (id, key) = (profile.bytes, identifier.bytes)
        bytes = InlineArray<52, UInt8> { index in index < 16 ? id[index] : key[index - 16] }
    }
}

/// Two identifiers: the key of `edges`, where each pair stands both ways round.
struct EdgeKey {
    static let byteCount = 72
    let bytes: InlineArray<72, UInt8>

    init(_ from: IdentifierKey, _ to: IdentifierKey) {
        let (first, second) = (from.bytes, to.bytes)
        bytes = InlineArray<72, UInt8> { index in index < 36 ? first[index] : second[index - 36] }
    }
}
