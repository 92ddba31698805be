// A value of the language as sixteen plain bytes that own nothing. It need not know where its bytes come from: text and
// elements are named by a region and a place in it, and only the evaluator can follow that.

/// What a value is. The raw values are part of compiled programs and not of any file format.
public enum Kind: UInt8, Sendable {
    case null, bool, int, uint, double, string, bytes, list, map, timestamp, duration, type, optional, ip, cidr
    /// The result of a failed evaluation, absorbed by `||` and `&&`; never seen outside the evaluator.
    case error
    /// A slot that has not been asked for yet, or an optional element that is not there; never seen outside.
    case absent
    /// A slot that is asked for and not set; never seen outside.
    case unset
}

/// Where the bytes or elements of a value lie.
@usableFromInline
enum Region {
    /// The constant pool of the program.
    static let constants: UInt16 = 0
    /// Made by this evaluation, gone with the next.
    static let arena: UInt16 = 1
    /// `Bindings.region`, for example a profile record in the store's memory map.
    static let record: UInt16 = 2
    /// Document 0; document n is `document + n`.
    static let document: UInt16 = 3
}

/// One value: trivially copyable, without references, valid until the evaluator's next `begin()`. What it means beyond
/// numbers, truth values and times is read with `Evaluator.bytes(of:…)`, `count(of:…)` and their kin.
public struct Value: Sendable {
    /// Kind in the lowest byte, then flags, region and, above bit 31, `extra`. One word, because fields of their own would be
    /// stored one by one and then read together, which processors are slow at.
    private var what: UInt64
    /// The number itself, seconds of a timestamp, nanoseconds of a duration, or a place in the region.
    var bits: UInt64

    @inline(__always)
    init(_ kind: Kind, bits: UInt64 = 0, extra: UInt32 = 0, region: UInt16 = 0, flags: UInt8 = 0) {
        what = UInt64(kind.rawValue) | UInt64(flags) << 8 | UInt64(region) << 16 | UInt64(extra) << 32
        self.bits = bits
    }

    /// What the value is.
    @inline(__always)
    public internal(set) var kind: Kind {
        // Only raw values of kinds are ever stored here.
        get { Kind(rawValue: UInt8(truncatingIfNeeded: what)).unsafelyUnwrapped }
        set { what = what & ~0xFF | UInt64(newValue.rawValue) }
    }

    /// Bit 0: a number from a JSON document, whose integers and doubles mix in arithmetic. Bit 1: a map of a table.
    @inline(__always)
    var flags: UInt8 {
        get { UInt8(truncatingIfNeeded: what >> 8) }
        set { what = what & ~0xFF00 | UInt64(newValue) << 8 }
    }

    @inline(__always)
    var region: UInt16 {
        get { UInt16(truncatingIfNeeded: what >> 16) }
        set { what = what & ~0xFFFF_0000 | UInt64(newValue) << 16 }
    }

    /// Nanoseconds of a timestamp; element count of a list or map; byte count of text; family and prefix of addresses.
    @inline(__always)
    var extra: UInt32 {
        get { UInt32(truncatingIfNeeded: what >> 32) }
        set { what = what & 0xFFFF_FFFF | UInt64(newValue) << 32 }
    }

    static let numberOfDocument: UInt8 = 1
    static let mapOfTable: UInt8 = 2

    /// Bit for bit the same; for constants, that is the same value.
    func isSame(_ other: Value) -> Bool { what == other.what && bits == other.bits }
    var hash: UInt64 { HashTable.mix(what, bits) }
}

extension Value {
    /// The value of `null`.
    public static var null: Value { Value(.null) }
    /// A truth value.
    @inline(__always) public static func bool(_ value: Bool) -> Value { Value(.bool, bits: value ? 1 : 0) }
    /// A 64-bit signed number.
    @inline(__always) public static func int(_ value: Int64) -> Value { Value(.int, bits: UInt64(bitPattern: value)) }
    /// A 64-bit unsigned number.
    @inline(__always) public static func uint(_ value: UInt64) -> Value { Value(.uint, bits: value) }
    /// A double; NaN and infinities are values too.
    @inline(__always) public static func double(_ value: Double) -> Value { Value(.double, bits: value.bitPattern) }

    /// A moment: whole seconds since 1970-01-01T00:00:00Z (negative before it) and 0 ..< 1,000,000,000 nanoseconds.
    public static func timestamp(seconds: Int64, nanoseconds: UInt32 = 0) -> Value {
        Value(.timestamp, bits: UInt64(bitPattern: seconds), extra: nanoseconds)
    }

    /// A moment in milliseconds since 1970-01-01T00:00:00Z, as the rest of the house counts them.
    public static func timestamp(milliseconds: Int64) -> Value {
        let seconds = milliseconds >= 0 ? milliseconds / 1000 : -((999 - milliseconds) / 1000)
        return timestamp(seconds: seconds, nanoseconds: UInt32(milliseconds - seconds * 1000) * 1_000_000)
    }

    /// A span of time in nanoseconds: ±292 years.
    public static func duration(nanoseconds: Int64) -> Value { Value(.duration, bits: UInt64(bitPattern: nanoseconds)) }

    /// A span of time in milliseconds; what does not fit 64 bits of nanoseconds is held at the end of the range.
    public static func duration(milliseconds: Int64) -> Value {
        let (product, overflow) = milliseconds.multipliedReportingOverflow(by: 1_000_000)
        return duration(nanoseconds: overflow ? (milliseconds < 0 ? .min : .max) : product)
    }

    /// Text that lies in `Bindings.region`: UTF-8 at `offset` (bytes from the region's start) and `length` bytes long.
    @inline(__always)
    public static func string(inRegion offset: Int, length: Int) -> Value {
        Value(.string, bits: UInt64(offset), extra: UInt32(length), region: Region.record)
    }

    /// The truth value; nil for any other kind.
    @inline(__always) public var boolValue: Bool? { kind == .bool ? bits != 0 : nil }
    /// The signed number; nil for any other kind.
    @inline(__always) public var intValue: Int64? { kind == .int ? Int64(bitPattern: bits) : nil }
    /// The unsigned number; nil for any other kind.
    public var uintValue: UInt64? { kind == .uint ? bits : nil }
    /// The double; nil for integers too (see `number`).
    public var doubleValue: Double? { kind == .double ? Double(bitPattern: bits) : nil }

    /// Any number as a double: what sums and comparisons of mixed attributes need.
    public var number: Double? {
        switch kind {
        case .double: Double(bitPattern: bits)
        case .int: Double(Int64(bitPattern: bits))
        case .uint: Double(bits)
        default: nil
        }
    }

    /// Milliseconds since the epoch of a timestamp, rounded down; nil for any other kind.
    public var timestampMilliseconds: Int64? {
        kind == .timestamp ? Int64(bitPattern: bits) * 1000 + Int64(extra / 1_000_000) : nil
    }

    /// Milliseconds of a duration, towards zero; nil for any other kind.
    public var durationMilliseconds: Int64? { kind == .duration ? Int64(bitPattern: bits) / 1_000_000 : nil }

    /// Whether it is the truth value true: false for every other value.
    public var isTrue: Bool { kind == .bool && bits != 0 }

    @inline(__always) var int: Int64 { Int64(bitPattern: bits) }
    @inline(__always) var real: Double { Double(bitPattern: bits) }
    @inline(__always) var isError: Bool { kind == .error }
    @inline(__always) var isSoft: Bool { flags & Value.numberOfDocument != 0 }
    @inline(__always) var isNumber: Bool { kind == .int || kind == .uint || kind == .double }
    /// Lies in a JSON document and is read there.
    @inline(__always) var isOfDocument: Bool { region >= Region.document }

    /// Keys and values lie apart; see `Tables.swift`.
    @inline(__always) var isOfTable: Bool { flags & Value.mapOfTable != 0 }

    /// Whether this is the error of a key or attribute that is not there.
    @inline(__always)
    var isMissingKey: Bool { kind == .error && bits == UInt64(EvaluationError.Reason.noSuchKey.rawValue) }

    static func failure(_ reason: EvaluationError.Reason) -> Value { Value(.error, bits: UInt64(reason.rawValue)) }
    static var unset: Value { Value(.unset) }
    static var absent: Value { Value(.absent) }

    /// The type of this value as a value.
    var typeOfValue: Value { Value(.type, bits: UInt64(kind.rawValue)) }
}
