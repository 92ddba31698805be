// Numbers as JSON Schema sees them: by their value, however they are written, and exact. It need not know schemas.

import Formats

/// A number: exact when it is whole and fits 64 bits, else the nearest double.
enum SchemaNumber: Sendable {
    case integer(Int64)
    /// Not whole, or beyond 64 bits.
    case double(Double)

    /// The value of a number; nil for anything else.
    @inline(__always)
    init?(_ document: borrowing JSONDocument, _ node: JSONNode) {
        if let value = document.int64(node) {
            self = .integer(value)
            return
        }
        guard let value = document.double(node) else { return nil }
        self.init(value)
    }

    init(_ value: Double) {
        // -2^63 is an Int64, 2^63 is not.
        if value >= -0x1p63, value < 0x1p63, value.rounded(.towardZero) == value {
            self = .integer(Int64(value))
        } else {
            self = .double(value)
        }
    }

    /// A number with a fraction of zero is an integer (Validation, section 6.1.1), at any size.
    var isInteger: Bool {
        switch self {
        case .integer: true
        case .double(let value): value.rounded(.towardZero) == value
        }
    }

    /// The order of two numbers, exact between integers and doubles: below 0, 0 or above 0.
    func compared(to other: SchemaNumber) -> Int {
        switch (self, other) {
        case (.integer(let left), .integer(let right)): return left < right ? -1 : left == right ? 0 : 1
        case (.double(let left), .double(let right)): return left < right ? -1 : left == right ? 0 : 1
        case (.double(let left), .integer(let right)): return SchemaNumber.compare(left, right)
        case (.integer(let left), .double(let right)): return -SchemaNumber.compare(right, left)
        }
    }

    /// The double is not whole or beyond 64 bits, so the two are never equal.
    private static func compare(_ left: Double, _ right: Int64) -> Int {
        if left >= 0x1p63 { return 1 }
        if left < -0x1p63 { return -1 }
        // Rounded down it fits, and what was cut off lies above.
        return Int64(left.rounded(.down)) < right ? -1 : 1
    }

    /// Equal numbers have equal ones.
    var hash: UInt64 {
        switch self {
        case .integer(let value): UInt64(bitPattern: value)
        case .double(let value): value.bitPattern
        }
    }
}

/// The number of `multipleOf`, as a decimal: `digits` · 10^`exponent`. Division is exact on what is written, so that 0.07
/// is a multiple of 0.01, which of the nearest doubles is not true.
struct SchemaDivisor: Sendable {
    let digits: UInt64
    let exponent: Int

    /// - Parameter text: a number as JSON writes it.
    /// - Returns: nil if it is not above 0, or its significant digits do not fit 59 bits (17 always do), or it is too
    ///   near to 0.
    init?(_ text: Span<UInt8>) {
        guard let decimal = Decimal(text), !decimal.isZero, text[0] != UInt8(ascii: "-") else { return nil }
        var digits: UInt64 = 0
        for index in decimal.first...decimal.last where text[index] != UInt8(ascii: ".") {
            digits = digits * 10 + UInt64(text[index] &- 0x30)
            if digits >> 59 != 0 { return nil }
        }
        if decimal.exponent < -400 { return nil }
        self.digits = digits
        exponent = decimal.exponent
    }

    /// Whether a number is a whole multiple.
    /// - Parameter text: a number as JSON writes it, of any length.
    func divides(_ text: Span<UInt8>) -> Bool {
        guard let decimal = Decimal(text), !decimal.isZero else { return true }
        // Both end in a digit other than 0; with a smaller unit than the divisor's the number cannot be a multiple.
        if decimal.exponent < exponent { return false }
        // Ten times a remainder below 2^59 fits 64 bits.
        var rest: UInt64 = 0
        for index in decimal.first...decimal.last where text[index] != UInt8(ascii: ".") {
            rest = (rest * 10 + UInt64(text[index] &- 0x30)) % digits
        }
        // At most some 700 times: a number is below 1e309.
        var power = decimal.exponent - exponent
        while power > 0, rest != 0 {
            rest = rest * 10 % digits
            power -= 1
        }
        return rest == 0
    }
}

/// Where the significant digits of a number's text are, from the first to the last that is not 0, and the power of ten
/// that the last one counts.
private struct Decimal {
    var first = 0
    /// Below `first`: the number is zero.
    var last = -1
    var exponent = 0
    var isZero: Bool { last < first }

    init?(_ text: Span<UInt8>) {
        var index = text.count > 0 && text[0] == UInt8(ascii: "-") ? 1 : 0
        var isPastPoint = false
        var places = 0
        while index < text.count, text[index] | 0x20 != UInt8(ascii: "e") {
            let byte = text[index]
            if byte == UInt8(ascii: ".") {
                isPastPoint = true
            } else {
                if byte &- 0x30 > 9 { return nil }
                if isPastPoint { places += 1 }
                if byte != 0x30 {
                    if last < 0 { first = index }
                    last = index
                    exponent = -places
                } else if !isPastPoint, last >= 0 {
                    exponent += 1
                }
            }
            index += 1
        }
        guard index < text.count else { return }
        index += 1
        let isNegative = index < text.count && text[index] == UInt8(ascii: "-")
        if isNegative || index < text.count && text[index] == UInt8(ascii: "+") { index += 1 }
        var power = 0
        while index < text.count {
            if power < 1_000_000 { power = power * 10 + Int(text[index] &- 0x30) }
            index += 1
        }
        exponent += isNegative ? -power : power
    }
}
