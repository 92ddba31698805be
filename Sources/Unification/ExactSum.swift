// A total that does not show in which order it was added up. Doubles round at every addition, so that the same numbers
// in another order, or in parts, may come to another total; this one adds without rounding. It need not know what is
// added.

import Formats

/// A number in 128 bits, two's complement, that counts units of 2^-64: -2^63 up to just under 2^63.
///
/// A double is rounded once when it becomes such a number, and only if it has digits under the unit, which none of
/// 2^-12 and more has: prices, distances and counts are taken as they are. Adding is exact, hence commutative and
/// associative, up to the ends, where it stays: a total that comes to 2^63 in between is of no use any more.
struct ExactSum: Equatable {
    static let byteCount = 16

    /// The units: `high` whole ones and `low` of 2^-64.
    private(set) var high: Int64 = 0
    private(set) var low: UInt64 = 0

    init() {}

    /// The number nearest to a value; of two as near the one farther from 0.
    /// - Parameter value: nearer to 0 than `Limits.summandMagnitude`.
    init(_ value: Double) {
        let magnitude = value.magnitude
        let whole = UInt64(magnitude)
        // Exact, as is all until the last line: the digits are those of `magnitude`, only fewer and moved.
        let units = (magnitude - Double(whole)) * 0x1p64
        let rounded = UInt64(units)
        high = Int64(bitPattern: whole)
        low = rounded + (units - Double(rounded) >= 0.5 ? 1 : 0)
        if value < 0 { negate() }
    }

    /// Reads what `append` wrote at `offset`.
    init(_ bytes: Span<UInt8>, _ offset: Int) {
        low = load64(bytes, offset)
        high = Int64(bitPattern: load64(bytes, offset + 8))
    }

    func append(to bytes: inout [UInt8]) {
        bytes.append64(low)
        bytes.append64(UInt64(bitPattern: high))
    }

    mutating func add(_ other: ExactSum) {
        let (lower, carries) = low.addingReportingOverflow(other.low)
        let (sum, isOver) = high.addingReportingOverflow(other.high)
        let (upper, isOverByCarry) = sum.addingReportingOverflow(carries ? 1 : 0)
        // A carry may lead back over the end that the sum had gone over.
        if isOver != isOverByCarry {
            low = high < 0 ? 0 : .max
            high = high < 0 ? .min : .max
        } else {
            (low, high) = (lower, upper)
        }
    }

    /// The double nearest to the number; of two as near the even one, as with every operation of doubles.
    var value: Double {
        var magnitude = self
        if high < 0 { magnitude.negate() }
        let upper = UInt64(bitPattern: magnitude.high)
        // The 64 highest digits; that there are others behind shows in the last, far under what a double holds.
        let shift = UInt64(upper.leadingZeroBitCount)
        let digits = upper << shift | magnitude.low >> (64 - shift) | (magnitude.low << shift == 0 ? 0 : 1)
        let result = Double(digits) * Double(bitPattern: (1023 - shift) << 52)
        return high < 0 ? -result : result
    }

    private mutating func negate() {
        low = 0 &- low
        high = ~high &+ (low == 0 ? 1 : 0)
    }
}
