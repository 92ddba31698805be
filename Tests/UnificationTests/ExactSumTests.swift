// Shows that totals are exact, in any order, and read as the nearest double, beside the standard library's 128 bits.
import Testing

@testable import Unification

@Suite struct ExactSumTests {
    private func sum(_ values: [Double]) -> ExactSum {
        var total = ExactSum()
        for value in values { total.add(ExactSum(value)) }
        return total
    }

    private func units(_ sum: ExactSum) -> Int128 { Int128(sum.high) << 64 + Int128(sum.low) }

    private func sum(units: Int128) -> ExactSum {
        var bytes: [UInt8] = []
        bytes.append64(UInt64(truncatingIfNeeded: units))
        bytes.append64(UInt64(truncatingIfNeeded: units >> 64))
        return ExactSum(bytes.span, 0)
    }

    /// A value of any size under the limit, down to where nothing of it is left.
    private func anyValue(_ random: inout SeededRandom) -> Double {
        let exponent = Int.random(in: -75..<53, using: &random)
        let significand = Double.random(in: 1..<2, using: &random)
        return Double(sign: Bool.random(using: &random) ? .plus : .minus, exponent: exponent, significand: significand)
    }

    /// Each value is the nearest whole number of units; from 2^-12 on that is the value itself.
    @Test func valuesBecomeTheNearestUnits() {
        var random = SeededRandom(seed: 1)
        for _ in 0..<20_000 {
            let value = anyValue(&random)
            let exact = (value * 0x1p64).rounded(.toNearestOrAwayFromZero)
            #expect(units(ExactSum(value)) == Int128(exact), "\(value)")
            if value.magnitude >= 0x1p-12 { #expect(ExactSum(value).value == value) }
        }
        #expect(ExactSum(0.0) == ExactSum(-0.0))
        #expect(ExactSum(-0.0).value.sign == .plus)
        #expect(units(ExactSum(0x1p-65)) == 1)
        #expect(units(ExactSum(-0x1p-65)) == -1)
        #expect(units(ExactSum(0x0.fffffffffffffp-65)) == 0)
        #expect(ExactSum(Double(0x1p53).nextDown).value == 0x1p53 - 1)
    }

    /// Reading rounds once, to the nearest and of two to the even one, as the standard library does.
    @Test func readingRoundsCorrectly() {
        var random = SeededRandom(seed: 2)
        for _ in 0..<20_000 {
            let shift = Int128.random(in: 0..<127, using: &random)
            var number = Int128.random(in: .min ... .max, using: &random) >> shift
            // Halfway cases hardly ever come by chance.
            if Bool.random(using: &random) { number = ((number >> 60) << 60) &+ Int128.random(in: -1...1, using: &random) }
            #expect(sum(units: number).value == Double(number) * 0x1p-64, "\(number)")
        }
        for number in [Int128.min, .min + 1, -1, 0, 1, .max] {
            #expect(sum(units: number).value == Double(number) * 0x1p-64, "\(number)")
        }
    }

    @Test func addingIsExactInEveryOrder() {
        var random = SeededRandom(seed: 3)
        for _ in 0..<200 {
            let values = (0..<40).map { _ in anyValue(&random) }
            let total = sum(values)
            #expect(units(total) == values.reduce(Int128(0)) { $0 + units(ExactSum($1)) })
            #expect(sum(values.shuffled(using: &random)) == total)
            #expect(sum(values + values.map { -$0 }) == ExactSum())
        }
        #expect(sum([1e15, 0.1, -1e15]).value == 0.1)
    }

    @Test func addingStaysAtTheEnds() {
        let largest = sum(units: .max)
        let smallest = sum(units: .min)
        var total = largest
        total.add(ExactSum(0x1p-64))
        #expect(total == largest)
        total.add(smallest)
        #expect(units(total) == -1)
        total = smallest
        total.add(ExactSum(-0x1p-64))
        #expect(total == smallest)
        total.add(smallest)
        #expect(total == smallest)
        // The halves alone go over the end, the carry brings them back.
        total = sum(units: -1)
        total.add(sum(units: .min + 1))
        #expect(total == smallest)
    }
}
