// The bits of a consent string, as the IAB's two formats pack them into characters. Which fields they are is not known here.

/// The bits of one segment of a string: six for each digit of base64url (RFC 4648 section 5), the highest first.
///
/// GPP pads to whole digits and not to whole bytes (Consent String Specification, "Creating a GPP String"), so that a text
/// may have a length and last bits that `Base64` rightly refuses.
struct PackedBits: Equatable, Sendable {
    private var bytes: [UInt8] = []
    /// Bits, what pads them included.
    private(set) var count = 0

    /// No bits.
    init() {}

    /// - Parameters:
    ///   - digits: the characters, without `=`.
    ///   - offset: where they stand in the whole text, for the error.
    init(_ digits: Span<UInt8>, at offset: Int) throws(ConsentStringError) {
        bytes.reserveCapacity(digits.count / 4 * 3 + 3)
        var pending: UInt32 = 0
        var pendingBits: UInt32 = 0
        for index in digits.indices {
            guard let value = PackedBits.value(of: digits[index]) else { throw .notBase64(offset: offset + index) }
            pending = pending << 6 | UInt32(value)
            pendingBits += 6
            if pendingBits >= 8 {
                pendingBits -= 8
                bytes.append(UInt8(truncatingIfNeeded: pending >> pendingBits))
            }
        }
        if pendingBits > 0 { bytes.append(UInt8(truncatingIfNeeded: pending << (8 - pendingBits))) }
        count = digits.count * 6
    }

    /// The bit at `position`; false beyond the end.
    func isSet(_ position: Int) -> Bool {
        position >= 0 && position < count && bytes[position >> 3] & (0x80 >> UInt8(position & 7)) != 0
    }

    /// The number in `width` bits (0…63) from `position` on, which lie within `count`.
    func number(at position: Int, width: Int) -> UInt64 {
        var value: UInt64 = 0
        var (place, left) = (position, width)
        while left > 0 {
            let available = 8 - (place & 7)
            let taken = min(available, left)
            let chunk = bytes[place >> 3] >> UInt8(available - taken)
            value = value << UInt64(taken) | UInt64(chunk) & ((1 << UInt64(taken)) - 1)
            place += taken
            left -= taken
        }
        return value
    }

    private static func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case 0x41...0x5A: digit - 0x41
        case 0x61...0x7A: digit - 0x61 + 26
        case 0x30...0x39: digit - 0x30 + 52
        case UInt8(ascii: "-"): 62
        case UInt8(ascii: "_"): 63
        default: nil
        }
    }
}

/// A set of numbers from 1 on, as purposes, features and custom purposes have them; bit n - 1 is number n.
public struct NumberSet: OptionSet, Sendable {
    /// Bit n - 1 is number n.
    public let rawValue: UInt64
    /// A set of all numbers whose bits are set.
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// The set of one number of 1…64; empty for any other.
    public init(number: Int) { rawValue = number >= 1 && number <= 64 ? 1 << UInt64(number - 1) : 0 }
    /// Whether a number is in the set; false for one that is not of 1…64.
    public func contains(number: Int) -> Bool { rawValue & NumberSet(number: number).rawValue != 0 }
}

/// Reads the fields of a segment one after the other. A field that the bits do not suffice for is `truncated`.
struct BitReader {
    let bits: PackedBits
    /// The next bit, 0…`bits.count`.
    private(set) var position: Int

    init(_ bits: PackedBits, from position: Int = 0) {
        self.bits = bits
        self.position = min(position, bits.count)
    }

    /// Bits that have not been read.
    var left: Int { bits.count - position }

    /// Int(x) of the specifications, of 0…63 bits.
    mutating func wide(_ width: Int, _ field: ConsentStringField) throws(ConsentStringError) -> UInt64 {
        if width > left { throw .truncated(field) }
        defer { position += width }
        return bits.number(at: position, width: width)
    }

    /// Int(x) of 0…31 bits: an `Int` has 32 on some devices.
    mutating func integer(_ width: Int, _ field: ConsentStringField) throws(ConsentStringError) -> Int {
        Int(truncatingIfNeeded: try wide(width, field))
    }

    mutating func flag(_ field: ConsentStringField) throws(ConsentStringError) -> Bool { try wide(1, field) == 1 }

    mutating func skip(_ width: Int, _ field: ConsentStringField) throws(ConsentStringError) {
        if width > left { throw .truncated(field) }
        position += width
    }

    /// Bitfield(x): the first bit is number 1. Of 0…63 bits.
    mutating func numbers(_ width: Int, _ field: ConsentStringField) throws(ConsentStringError) -> NumberSet {
        let value = try wide(width, field)
        var set: NumberSet = []
        for number in 1..<(width + 1) where value >> UInt64(width - number) & 1 == 1 {
            set.insert(NumberSet(number: number))
        }
        return set
    }

    /// Int(Fibonacci): places have the weights 1, 2, 3, 5, …, and a second 1 after a 1 ends the number.
    mutating func fibonacci(_ field: ConsentStringField) throws(ConsentStringError) -> Int {
        var (value, weight, following) = (0, 1, 2)
        var wasSet = false
        while true {
            let isSet = try flag(field)
            if isSet && wasSet { return value }
            if isSet { value += weight }
            (weight, following) = (following, weight + following)
            if weight > Limits.fibonacciNumber || value > Limits.fibonacciNumber { throw .invalid(field) }
            wasSet = isSet
        }
    }

    /// Reads the entries of a Range(Int), of which `count` follow, and says whether one of them holds a number.
    /// - Parameter number: 0 to read them only.
    mutating func ranges(
        _ count: Int, contain number: Int, _ field: ConsentStringField
    ) throws(ConsentStringError) -> Bool {
        var isContained = false
        for _ in 0..<count {
            let isGroup = try flag(field)
            let first = try integer(16, field)
            let last = isGroup ? try integer(16, field) : first
            // Numbers begin with 1, and a group runs upwards: anything else is damage, and what was meant unknown.
            if first == 0 || last < first { throw .invalid(field) }
            if first <= number && number <= last { isContained = true }
        }
        return isContained
    }
}
