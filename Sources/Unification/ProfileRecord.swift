// A profile as bytes that are read where they lie, in the store's memory map: no decoding step, no allocation. How the
// values of an attribute are made is in `AttributeState`; this file need not know.
//
//     0  checksum of all that follows (4)    8  number of entries (2), 0 (6)     32  created, ms (8)
//     4  magic "GP" (2), format (1), 0 (1)   16 profile id (16)                  40  last seen, ms (8)
//     48 part (8)                            56 revision (8)
//     64 entries by ascending tag: tag (4), form (1), 0 (1), payload bytes (2), time of the newest event (8), payload
//
// `part` says which one this is (`IdentifierKey.part`); 0: several together, which lie in the table `parts`. `revision` is the
// number of the newest event in the log that its writer has put into it, more where older ones were counted once more for a
// new attribute: of two copies the one with the higher is right.
//
// Numbers are little-endian at any alignment. A tag names an attribute by name, type, rules, window and scope, so that a record says
// itself what it knows: attributes that a bundle has added are unset, those that it has dropped are kept for a month (a
// bundle may be taken back) and otherwise ignored. No record is ever rewritten because a bundle changed.

import CEL
import Formats
import Store

/// The places in a record.
enum RecordLayout {
    static let magic: UInt16 = 0x5047
    static let format: UInt8 = 2
    static let magicOffset = 4
    static let countOffset = 8
    static let idOffset = 16
    static let createdOffset = 32
    static let lastSeenOffset = 40
    static let partOffset = 48
    static let revisionOffset = 56
    static let headerBytes = 64
    static let entryHeaderBytes = 16
}

/// One attribute's state in a record: where its payload lies.
struct RecordEntry {
    let tag: UInt32
    let form: UInt8
    /// Of the entry's own header.
    let start: Int
    let length: Int
    /// Milliseconds: of the newest event that went in (of `first`: of the oldest).
    let time: Int64

    var payload: Int { start + RecordLayout.entryHeaderBytes }
    var end: Int { payload + length }

    /// Reads the header at `start`, which must lie within `bytes`.
    @inline(__always)
    init(_ bytes: Span<UInt8>, at start: Int) {
        let head = load64(bytes, start)
        tag = UInt32(truncatingIfNeeded: head)
        form = UInt8(truncatingIfNeeded: head >> 32)
        length = Int(UInt16(truncatingIfNeeded: head >> 48))
        time = Int64(bitPattern: load64(bytes, start + 8))
        self.start = start
    }
}

/// Why a record is not served.
public enum RecordDamage: Error, Equatable {
    /// Shorter than its own header, or its checksum is another: set it aside and count it.
    case corrupt
    /// Written by a later version of the agent: leave it alone.
    case laterFormat
}

/// A profile record, checked and borrowed for as long as the transaction that it was read in.
public struct ProfileView: ~Escapable {
    /// The whole record.
    public let bytes: Span<UInt8>

    /// Checks the record once; after that, reading it cannot fail.
    @_lifetime(copy bytes)
    public init(_ bytes: Span<UInt8>) throws(RecordDamage) {
        self.bytes = bytes
        if bytes.count < RecordLayout.headerBytes || bytes.count > Limits.profileRecordBytes { throw .corrupt }
        if load16(bytes, RecordLayout.magicOffset) != RecordLayout.magic { throw .corrupt }
        // Another format may have another checksum.
        if bytes[RecordLayout.magicOffset + 2] > RecordLayout.format { throw .laterFormat }
        if RecordChecksum.of(bytes) != load32(bytes, 0) { throw .corrupt }
        if bytes[RecordLayout.magicOffset + 2] != RecordLayout.format { throw .corrupt }
    }

    public var id: ProfileID {
        ProfileID(bytes.extracting(RecordLayout.idOffset..<RecordLayout.createdOffset)) ?? ProfileID(high: 0, low: 0)
    }
    /// When the profile began, milliseconds since the epoch.
    public var created: Int64 { Int64(bitPattern: load64(bytes, RecordLayout.createdOffset)) }
    /// The time of its newest event, milliseconds since the epoch.
    public var lastSeen: Int64 { Int64(bitPattern: load64(bytes, RecordLayout.lastSeenOffset)) }
    /// Which part of a profile it is; 0 for several together.
    public var part: UInt64 { load64(bytes, RecordLayout.partOffset) }
    /// Number of its writer's newest event in it, or more.
    var revision: UInt64 { load64(bytes, RecordLayout.revisionOffset) }
    public var entryCount: Int { Int(load16(bytes, RecordLayout.countOffset)) }
}

enum ProfileRecord {
    /// Which of two copies of one part is right: the first, or the other.
    static func isLater(_ record: Span<UInt8>, than other: Span<UInt8>) -> Bool {
        do throws(RecordDamage) {
            let view = try ProfileView(record)
            do throws(RecordDamage) { return view.revision > (try ProfileView(other).revision) } catch { return error == .corrupt }
        } catch {
            return false
        }
    }

    /// Says whose a record is and which part of the profile.
    /// - Parameter record: intact.
    static func relabel(_ record: inout [UInt8], _ person: ProfileID, part: UInt64) {
        let id = person.bytes
        for index in id.indices { record[RecordLayout.idOffset + index] = id[index] }
        for index in 0..<8 { record[RecordLayout.partOffset + index] = UInt8(truncatingIfNeeded: part >> UInt64(8 * index)) }
        record.store32(RecordChecksum.of(record.span), at: 0)
    }
}

/// Where each attribute of the plan lies in one record. Reused: filling a warm one allocates nothing.
public struct ProfileIndex {
    /// By attribute: the offset of its entry, 0 for unset.
    private(set) var starts: [UInt32] = []

    public init() {}

    /// For a person without a record: everything is unset.
    public mutating func clear(_ plan: borrowing AttributePlan) {
        for index in starts.indices { starts[index] = 0 }
        while starts.count < plan.attributes.count { starts.append(0) }
    }

    /// Finds the plan's attributes in a record: both are sorted by tag, so that one walk over both is enough.
    public mutating func fill(_ view: borrowing ProfileView, _ plan: borrowing AttributePlan) {
        clear(plan)
        fill(view.bytes, from: RecordLayout.headerBytes, count: view.entryCount, plan)
    }

    mutating func fill(_ bytes: Span<UInt8>, from first: Int, count: Int, _ plan: borrowing AttributePlan) {
        var start = first
        var next = 0
        for _ in 0..<count {
            if start + RecordLayout.entryHeaderBytes > bytes.count { return }
            let entry = RecordEntry(bytes, at: start)
            if entry.end > bytes.count { return }
            while next < plan.order.count, plan.order[next].tag < entry.tag { next += 1 }
            if next == plan.order.count { return }
            let known = plan.order[next]
            if known.tag == entry.tag, plan.attributes[known.attribute].form.rawValue == entry.form {
                starts[known.attribute] = UInt32(start)
            }
            start = entry.end
        }
    }

    /// What the person is drawn by in splits; nil: nothing is kept about that.
    public func seed(in bytes: Span<UInt8>, _ plan: borrowing AttributePlan) -> UInt64? {
        guard let number = plan.seed, let entry = entry(number, in: bytes) else { return nil }
        return Scalar.value(bytes, entry.payload).uintValue
    }

    /// How often something was served that a hidden attribute counts; no more than its limit.
    public func serves(_ number: Int, in bytes: Span<UInt8>, _ plan: AttributePlan, now: Int64) -> Int {
        let reader = AttributeReader(bytes, self, plan, now)
        guard let entry = reader.entry(number) else { return 0 }
        var count = 0
        reader.forEachElement(entry, plan.attributes[number].shape) { _, _ in count += 1 }
        return count
    }

    /// Calls `body` with the time and the value of each element of a hidden attribute that does not end, newest first; null
    /// stands for none.
    @inline(never)
    public func forEachElement(
        _ number: Int, in bytes: Span<UInt8>, _ plan: AttributePlan, _ body: (Int64, Value) -> Void
    ) {
        let reader = AttributeReader(bytes, self, plan, 0)
        guard let entry = reader.entry(number) else { return }
        reader.forEachElement(entry, plan.attributes[number].shape) { time, scalar in body(time, Scalar.value(bytes, scalar)) }
    }

    /// The entry of an attribute, or nil: unset.
    @inline(__always)
    func entry(_ attribute: Int, in bytes: Span<UInt8>) -> RecordEntry? {
        let start = attribute < starts.count ? starts[attribute] : 0
        return start == 0 ? nil : RecordEntry(bytes, at: Int(start))
    }

    mutating func set(_ attribute: Int, to start: Int) { starts[attribute] = UInt32(start) }
}

/// Finds damage in a record: LMDB's pages carry no checksum of their own. Eight bytes a step, so that checking a
/// typical record costs well under a microsecond; it is no defence against an attacker.
///
/// Each step maps the 64-bit state one to one for a given word, so that a record with one damaged word ends in another
/// state for certain; folding it to 32 bits misses one damage in four thousand million, and no single flipped bit.
enum RecordChecksum {
    /// Of all bytes of a record but the first four, where it is kept.
    static func of(_ record: Span<UInt8>) -> UInt32 {
        var state = mix(UInt64(record.count) ^ 0x9E37_79B9_7F4A_7C15)
        var offset = 4
        // Two chains, so that the processor works on both at once.
        var other = ~state
        while offset + 16 <= record.count {
            state = mix(state ^ load64(record, offset))
            other = mix(other ^ load64(record, offset + 8))
            offset += 16
        }
        state = mix(state ^ (other << 1 | other >> 63))
        if offset + 8 <= record.count {
            state = mix(state ^ load64(record, offset))
            offset += 8
        }
        var last: UInt64 = 0
        while offset < record.count {
            last = last << 8 | UInt64(record[offset])
            offset += 1
        }
        return UInt32(truncatingIfNeeded: mix(state ^ last))
    }

    /// The low half of the result depends on all bits of the argument.
    @inline(__always)
    private static func mix(_ value: UInt64) -> UInt64 {
        let product = value &* 0xFF51_AFD7_ED55_8CCD
        return product ^ (product >> 32)
    }
}

// MARK: Bytes at any alignment

// `unsafeLoadUnaligned(fromByteOffset:as:)` checks the bounds; it is called unsafe because any bits become the number,
// which for integers is just what is wanted. It compiles to one load where the processor allows unaligned ones, and to
// byte loads where it does not.

@inline(__always)
func load16(_ bytes: Span<UInt8>, _ offset: Int) -> UInt16 {
    UInt16(littleEndian: bytes.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self))
}

@inline(__always)
func load32(_ bytes: Span<UInt8>, _ offset: Int) -> UInt32 {
    UInt32(littleEndian: bytes.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
}

@inline(__always)
func load64(_ bytes: Span<UInt8>, _ offset: Int) -> UInt64 {
    UInt64(littleEndian: bytes.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
}

/// The 48 bits that times of elements are kept in: milliseconds, good for 8,900 years.
@inline(__always)
func load48(_ bytes: Span<UInt8>, _ offset: Int) -> Int64 {
    Int64(load32(bytes, offset)) | Int64(load16(bytes, offset + 4)) << 32
}

@inline(__always)
func loadDouble(_ bytes: Span<UInt8>, _ offset: Int) -> Double { Double(bitPattern: load64(bytes, offset)) }

extension Array where Element == UInt8 {
    mutating func append16(_ value: UInt16) { append(littleEndian: value) }
    mutating func append32(_ value: UInt32) { append(littleEndian: value) }
    mutating func append64(_ value: UInt64) { append(littleEndian: value) }

    mutating func append48(_ time: Int64) {
        let value = UInt64(Swift.min(Swift.max(time, 0), 1 << 48 - 1))
        append32(UInt32(truncatingIfNeeded: value))
        append16(UInt16(truncatingIfNeeded: value >> 32))
    }

    mutating func appendDouble(_ value: Double) { append64(value.bitPattern) }

    mutating func store16(_ value: UInt16, at offset: Int) {
        self[offset] = UInt8(truncatingIfNeeded: value)
        self[offset + 1] = UInt8(truncatingIfNeeded: value >> 8)
    }

    mutating func store32(_ value: UInt32, at offset: Int) {
        store16(UInt16(truncatingIfNeeded: value), at: offset)
        store16(UInt16(truncatingIfNeeded: value >> 16), at: offset + 2)
    }

    /// Moves the end of the array, from `start` on, down to `target`, and drops what stood between.
    mutating func moveDown(from start: Int, to target: Int) {
        if start != target { removeSubrange(target..<start) }
    }
}
