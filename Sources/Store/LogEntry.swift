// An event as it lies in the log: what delivery, erasure and recomputation need, in one flat record. The body holds no
// raw identifier; identifiers are digests. Numbers are little-endian; the checksum covers everything but itself.
//
//   0  version (1)      1  tier            2  priority        3  number of identifiers
//   4  checksum         8  received at    16  purpose tag    20  message id bytes   22  flags
//  24  bundle version  32  profile id     48  identifiers, 72 bytes each: kind tag, flags, HMAC, SHA-256
//   …  message id       …  body (a JSON object)
//
// What was taken out of the log leaves its number and the reason behind, four bytes (`LogRemoval`), so that every
// destination's accounts can tell what became of it. A run of evicted entries leaves its last number and its length.

import Cryptography
import Formats

/// How urgently an event leaves.
public enum Tier: UInt8, Sendable {
    case batch = 0
    case realtime = 1
}

/// One identifier of an event in the forms in which it may leave.
public struct LoggedIdentifier {
    /// FNV-1a of the kind's name in the bundle.
    public var kindTag: UInt32
    /// HMAC-SHA-256 under the device's pepper.
    public var digest: Digest256
    /// SHA-256 of the normalised value, kept only where a destination asks for it.
    public var plainDigest: Digest256?
    /// The event did not have it: it only says whose it is, and does not leave.
    public var isHidden: Bool
    /// What one of the others was hashed to under the former pepper, while a rotation lasts.
    public var isFormer: Bool

    public init(
        kindTag: UInt32, digest: Digest256, plainDigest: Digest256?, isHidden: Bool = false, isFormer: Bool = false
    ) {
        self.isFormer = isFormer
        self.kindTag = kindTag
        self.digest = digest
        self.plainDigest = plainDigest
        self.isHidden = isHidden
    }
}

/// The fixed part of an entry.
public struct LogEntryHeader {
    public var tier: Tier
    /// 0…9; what is shed last has the highest.
    public var priority: UInt8
    /// Milliseconds since the epoch at which the device took the event.
    public var receivedAt: Int64
    /// FNV-1a of the purpose's name; the event may be used and sent only while it is granted.
    public var purposeTag: UInt32
    /// Version of the bundle that admitted it.
    public var bundleVersion: UInt64
    public var profile: ProfileID
    /// Tells every destination that the person was erased: it leaves whatever consent and filters say.
    public var isErasureNotice: Bool
    /// This device has made it, of what others said: no profile counts it.
    public var isGenerated: Bool
    /// A trigger has fired: it is for those whom the trigger names, and for nobody else.
    public var isDirected: Bool
    /// Hub only: another Gatehouse has delivered it. The body is its message as it came, the identifiers are what that says
    /// of them, and the profile is a hash of the device and of its name for the person.
    public var isArrival: Bool

    public init(
        tier: Tier, priority: UInt8, receivedAt: Int64, purposeTag: UInt32, bundleVersion: UInt64, profile: ProfileID,
        isErasureNotice: Bool = false, isGenerated: Bool = false, isDirected: Bool = false, isArrival: Bool = false
    ) {
        self.isArrival = isArrival
        self.isErasureNotice = isErasureNotice
        self.isGenerated = isGenerated
        self.isDirected = isDirected
        self.tier = tier
        self.priority = priority
        self.receivedAt = receivedAt
        self.purposeTag = purposeTag
        self.bundleVersion = bundleVersion
        self.profile = profile
    }
}

enum EntryLayout {
    static let version: UInt8 = 1
    static let fixedBytes = 48
    static let identifierBytes = 72
    static let hasPlainDigest: UInt32 = 1
    static let isHidden: UInt32 = 2
    static let isFormer: UInt32 = 4
    static let isErasureNotice: UInt16 = 1
    static let isGenerated: UInt16 = 2
    static let isDirected: UInt16 = 4
    static let isArrival: UInt16 = 8

    /// Over everything but the checksum itself.
    static func checksum(_ bytes: Span<UInt8>) -> UInt32 {
        Checksum.of(bytes.extracting(8..<bytes.count), seed: UInt64(UInt32(littleEndianAt: 0, of: bytes)))
    }
}

public enum LogEntry {
    /// Writes an entry into `bytes`, replacing what was there.
    /// - Parameter identifiers: at most `Limits.logEntryIdentifiers`; more are left out.
    /// - Parameter messageID: at most 65,535 bytes.
    public static func encode(
        _ header: LogEntryHeader, identifiers: Span<LoggedIdentifier>, messageID: Span<UInt8>, body: Span<UInt8>,
        into bytes: inout [UInt8]
    ) {
        let count = min(identifiers.count, Limits.logEntryIdentifiers)
        bytes.removeAll(keepingCapacity: true)
        bytes.append(EntryLayout.version)
        bytes.append(header.tier.rawValue)
        bytes.append(header.priority)
        bytes.append(UInt8(count))
        append(UInt32(0), to: &bytes)
        append(UInt64(bitPattern: header.receivedAt), to: &bytes)
        append(header.purposeTag, to: &bytes)
        append(UInt16(clamping: messageID.count), to: &bytes)
        append(
            (header.isErasureNotice ? EntryLayout.isErasureNotice : 0) | (header.isGenerated ? EntryLayout.isGenerated : 0)
                | (header.isDirected ? EntryLayout.isDirected : 0) | (header.isArrival ? EntryLayout.isArrival : 0),
            to: &bytes)
        append(header.bundleVersion, to: &bytes)
        bytes.append(contentsOf: header.profile.bytes.span)
        for index in 0..<count {
            let identifier = identifiers[index]
            append(identifier.kindTag, to: &bytes)
            append(
                (identifier.plainDigest == nil ? 0 : EntryLayout.hasPlainDigest)
                    | (identifier.isHidden ? EntryLayout.isHidden : 0)
                    | (identifier.isFormer ? EntryLayout.isFormer : 0), to: &bytes)
            identifier.digest.append(to: &bytes)
            (identifier.plainDigest ?? .zero).append(to: &bytes)
        }
        bytes.append(contentsOf: messageID.extracting(0..<min(messageID.count, 65_535)))
        bytes.append(contentsOf: body)
        let sum = EntryLayout.checksum(bytes.span)
        for index in 0..<4 { bytes[4 + index] = UInt8(truncatingIfNeeded: sum >> UInt32(8 * index)) }
    }

    /// Appends a number, little-endian.
    public static func append<Number: FixedWidthInteger & BitwiseCopyable>(_ number: Number, to bytes: inout [UInt8]) {
        bytes.append(littleEndian: number)
    }
}

/// Why an entry is no longer in the log. Its number keeps this in its place until every destination has passed it.
public enum LogRemoval: UInt8, Sendable {
    case erased = 1
    case expired = 2
    case evicted = 3

    private static let mark: [UInt8] = [0, 0, 0x47, 0x48]

    /// What stands in the entry's place.
    public var bytes: [UInt8] {
        var bytes = LogRemoval.mark
        bytes[1] = rawValue
        return bytes
    }

    /// What stands for a run of entries, at the number of its last.
    public func bytes(count: UInt32) -> [UInt8] {
        var bytes = self.bytes
        if count > 1 { LogEntry.append(count, to: &bytes) }
        return bytes
    }

    /// How many entries a mark stands for: those that end with the number at which it stands.
    public static func count(_ bytes: Span<UInt8>) -> UInt64 {
        bytes.count == 8 ? UInt64(UInt32(littleEndianAt: 4, of: bytes)) : 1
    }

    /// - Returns: nil for bytes that are no such mark.
    public init?(_ bytes: Span<UInt8>) {
        guard bytes.count == 4 || bytes.count == 8, bytes[0] == 0, bytes[2] == 0x47, bytes[3] == 0x48 else { return nil }
        self.init(rawValue: bytes[1])
    }
}

/// An entry read in place; its parts borrow the bytes they lie in.
public struct LogEntryView: ~Escapable {
    private let bytes: Span<UInt8>
    public let header: LogEntryHeader
    public let identifierCount: Int
    private let messageIDStart: Int
    private let bodyStart: Int

    /// - Returns: nil for bytes that are no entry or fail their checksum.
    @_lifetime(copy bytes)
    public init?(_ bytes: Span<UInt8>) {
        guard bytes.count >= EntryLayout.fixedBytes, bytes[0] == EntryLayout.version,
            let tier = Tier(rawValue: bytes[1]),
            EntryLayout.checksum(bytes) == UInt32(littleEndianAt: 4, of: bytes),
            let profile = ProfileID(bytes.extracting(32..<48))
        else { return nil }
        identifierCount = Int(bytes[3])
        messageIDStart = EntryLayout.fixedBytes + identifierCount * EntryLayout.identifierBytes
        bodyStart = messageIDStart + Int(UInt16(littleEndianAt: 20, of: bytes))
        guard bodyStart <= bytes.count else { return nil }
        self.bytes = bytes
        let flags = UInt16(littleEndianAt: 22, of: bytes)
        header = LogEntryHeader(
            tier: tier, priority: bytes[2], receivedAt: Int64(bitPattern: UInt64(littleEndianAt: 8, of: bytes)),
            purposeTag: UInt32(littleEndianAt: 16, of: bytes), bundleVersion: UInt64(littleEndianAt: 24, of: bytes),
            profile: profile,
            isErasureNotice: flags & EntryLayout.isErasureNotice != 0,
            isGenerated: flags & EntryLayout.isGenerated != 0, isDirected: flags & EntryLayout.isDirected != 0,
            isArrival: flags & EntryLayout.isArrival != 0)
    }

    /// The index is below `identifierCount`.
    public func identifier(_ index: Int) -> LoggedIdentifier {
        precondition(index >= 0 && index < identifierCount)
        let start = EntryLayout.fixedBytes + index * EntryLayout.identifierBytes
        let flags = UInt32(littleEndianAt: start + 4, of: bytes)
        return LoggedIdentifier(
            kindTag: UInt32(littleEndianAt: start, of: bytes),
            digest: Digest256(bytes.extracting(start + 8..<start + 40)) ?? .zero,
            plainDigest: flags & EntryLayout.hasPlainDigest != 0
                ? Digest256(bytes.extracting(start + 40..<start + 72)) : nil,
            isHidden: flags & EntryLayout.isHidden != 0, isFormer: flags & EntryLayout.isFormer != 0)
    }

    /// Whether the entry is about a person: the identifier that it was counted for is theirs now, whoever they were then. In
    /// quarantine nothing is counted yet, and any identifier says it. An entry that was counted for somebody else who is
    /// there may well carry an identifier of the person: then the graph has not believed it.
    /// - Parameters:
    ///   - identifiers: the person's own, without those that many share.
    ///   - isSomebodys: whether an identifier leads to anybody now.
    public func isAbout(
        _ person: ProfileID, _ identifiers: [LoggedIdentifier], isSomebodys: (LoggedIdentifier) -> Bool
    ) -> Bool {
        let isTheirs = header.profile == person && person != .nobody
        if identifierCount == 0 { return isTheirs }
        let first = identifier(0)
        if LogEntryView.has(identifiers, first) { return true }
        let isCounted = header.profile != .nobody && isSomebodys(first)
        if isCounted { return false }
        if isTheirs { return true }
        for index in 0..<identifierCount where LogEntryView.has(identifiers, identifier(index)) { return true }
        return false
    }

    /// Whether the entry carries one of these identifiers.
    public func mentions(_ identifiers: [LoggedIdentifier]) -> Bool {
        for index in 0..<identifierCount where LogEntryView.has(identifiers, identifier(index)) { return true }
        return false
    }

    /// Whether an identifier's hash without a key is there.
    public var hasPlainDigests: Bool {
        for index in 0..<identifierCount where identifier(index).plainDigest != nil { return true }
        return false
    }

    /// Writes the entry without some identifiers.
    /// - Parameter withPlain: whether the hashes without a key stay.
    public func encode(without identifiers: [LoggedIdentifier], withPlain: Bool = true, into bytes: inout [UInt8]) {
        var kept: [LoggedIdentifier] = []
        for index in 0..<identifierCount where !LogEntryView.has(identifiers, identifier(index)) {
            kept.append(identifier(index))
            if !withPlain { kept[kept.count - 1].plainDigest = nil }
        }
        encode(with: kept, into: &bytes)
    }

    /// Writes the entry with others in place of its identifiers.
    public func encode(with identifiers: [LoggedIdentifier], into bytes: inout [UInt8]) {
        LogEntry.encode(header, identifiers: identifiers.span, messageID: messageID, body: body, into: &bytes)
    }

    private static func has(_ identifiers: [LoggedIdentifier], _ other: LoggedIdentifier) -> Bool {
        for mine in identifiers where mine.kindTag == other.kindTag && mine.digest == other.digest { return true }
        return false
    }

    public var messageID: Span<UInt8> {
        @_lifetime(copy self) get { bytes.extracting(messageIDStart..<bodyStart) }
    }

    /// The event as a JSON object without identifiers.
    public var body: Span<UInt8> {
        @_lifetime(copy self) get { bytes.extracting(bodyStart..<bytes.count) }
    }
}

extension FixedWidthInteger where Self: BitwiseCopyable {
    /// Reads a little-endian number at any alignment; the caller has checked the length.
    @inline(__always)
    public init(littleEndianAt offset: Int, of bytes: Span<UInt8>) {
        precondition(offset >= 0 && offset + Self.bitWidth / 8 <= bytes.count)
        // The bounds are checked above, and any bits make a number.
        let value = Self(littleEndian: bytes.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: Self.self))
        self = value
    }
}

/// A checksum of a record: finds every single flipped bit and all but one in four thousand million other damages.
/// Each step is a bijection of the state for a given word, so that one changed word always changes the result of the
/// 64-bit state; it is no defence against an attacker.
public enum Checksum {
    public static func of(_ bytes: Span<UInt8>, seed: UInt64 = 0) -> UInt32 {
        var state = mix(0x9E37_79B9_7F4A_7C15 ^ UInt64(bytes.count) ^ (seed << 32))
        var offset = 0
        while offset + 8 <= bytes.count {
            state = mix(state ^ UInt64(littleEndianAt: offset, of: bytes))
            offset += 8
        }
        var last: UInt64 = 0
        while offset < bytes.count {
            last = last << 8 | UInt64(bytes[offset])
            offset += 1
        }
        state = mix(state ^ last)
        return UInt32(truncatingIfNeeded: state)
    }

    @inline(__always)
    private static func mix(_ value: UInt64) -> UInt64 {
        let product = value &* 0xFF51_AFD7_ED55_8CCD
        return product ^ (product >> 32)
    }
}
