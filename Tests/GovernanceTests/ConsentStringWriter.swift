// What the tests of consent strings share: a writer of bits that remembers which field each bit belongs to, and chance
// from a seed, so that a failure comes back.

@testable import Governance

/// Appends fields as the specifications of TCF and GPP write them.
struct BitWriter {
    private(set) var bits: [Bool] = []
    /// The field of each bit.
    private(set) var fields: [ConsentStringField] = []

    mutating func integer(_ value: Int, _ width: Int, _ field: ConsentStringField) {
        for place in (0..<width).reversed() { bit(value >> place & 1 == 1, field) }
    }

    mutating func bit(_ value: Bool, _ field: ConsentStringField) {
        bits.append(value)
        fields.append(field)
    }

    /// Bitfield(x): a bit for each number from 1 on.
    mutating func numbers(_ numbers: Set<Int>, _ width: Int, _ field: ConsentStringField) {
        for number in 1..<(width + 1) { bit(numbers.contains(number), field) }
    }

    /// Int(Fibonacci), by the specification's own way: the largest Fibonacci number first.
    mutating func fibonacci(_ value: Int, _ field: ConsentStringField) {
        var weights = [1, 2]
        while weights[weights.count - 1] <= value { weights.append(weights[weights.count - 1] + weights[weights.count - 2]) }
        var places = [Bool](repeating: false, count: weights.count)
        var left = value
        for place in weights.indices.reversed() where weights[place] <= left {
            left -= weights[place]
            places[place] = true
        }
        for place in 0...(places.lastIndex(of: true) ?? 0) { bit(places[place], field) }
        bit(true, field)
    }

    /// The groups of following numbers in a set, ascending.
    static func groups(_ numbers: Set<Int>) -> [ClosedRange<Int>] {
        var groups: [ClosedRange<Int>] = []
        for number in numbers.sorted() {
            if let last = groups.last, last.upperBound == number - 1 {
                groups[groups.count - 1] = last.lowerBound...number
            } else {
                groups.append(number...number)
            }
        }
        return groups
    }

    /// Range(Int).
    mutating func range(_ numbers: Set<Int>, _ field: ConsentStringField) {
        let groups = BitWriter.groups(numbers)
        integer(groups.count, 12, field)
        for group in groups {
            bit(group.count > 1, field)
            integer(group.lowerBound, 16, field)
            if group.count > 1 { integer(group.upperBound, 16, field) }
        }
    }

    /// A vendor section: the largest number, then bits or ranges.
    mutating func vendors(_ vendors: Set<Int>, asRange: Bool, _ field: ConsentStringField) {
        let maximum = vendors.max() ?? 0
        integer(maximum, 16, field)
        bit(asRange, field)
        if asRange { range(vendors, field) } else { numbers(vendors, maximum, field) }
    }

    /// The digits, zeros after the last bit up to a multiple of `padding` bits.
    func text(padding: Int = 6) -> [UInt8] {
        let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
        var padded = bits
        while padded.count % 6 != 0 || padded.count % padding != 0 { padded.append(false) }
        var text: [UInt8] = []
        for start in stride(from: 0, to: padded.count, by: 6) {
            var value = 0
            for bit in padded[start..<start + 6] { value = value << 1 | (bit ? 1 : 0) }
            text.append(digits[value])
        }
        return text
    }
}

/// The generator of Knuth's MMIX, its upper half.
struct Chance {
    var state: UInt64

    mutating func next(below limit: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(truncatingIfNeeded: (state >> 33) % UInt64(limit))
    }

    mutating func bool() -> Bool { next(below: 2) == 1 }

    /// Each number of 1…`limit` in one of `sparseness` cases.
    mutating func numbers(_ limit: Int, sparseness: Int = 3) -> Set<Int> {
        var numbers: Set<Int> = []
        for number in 1..<(limit + 1) where next(below: sparseness) == 0 { numbers.insert(number) }
        return numbers
    }
}

func tcf(_ text: [UInt8], _ region: TCFString.Region = .europe) throws(ConsentStringError) -> TCFString {
    let span = text.span
    return try TCFString(span, region: region)
}

func tcf(_ text: String, _ region: TCFString.Region = .europe) throws(ConsentStringError) -> TCFString {
    try tcf(Array(text.utf8), region)
}

func gpp(_ text: [UInt8]) throws(ConsentStringError) -> GPPString {
    let span = text.span
    return try GPPString(span)
}

func gpp(_ text: String) throws(ConsentStringError) -> GPPString { try gpp(Array(text.utf8)) }

/// Why a TCF string is refused; nil for one that is read.
func tcfError(_ text: [UInt8], _ region: TCFString.Region = .europe) -> ConsentStringError? {
    do throws(ConsentStringError) { _ = try tcf(text, region) } catch { return error }
    return nil
}

/// Why a GPP string is refused; nil for one that is read.
func gppError(_ text: String) -> ConsentStringError? {
    do throws(ConsentStringError) { _ = try gpp(text) } catch { return error }
    return nil
}

/// The numbers of a set.
func numbers(_ set: NumberSet) -> Set<Int> { Set((1...64).filter { set.contains(number: $0) }) }

/// The vendors of 0…`limit` for which a question is answered with yes.
func vendors(_ limit: Int, _ isContained: (Int) -> Bool) -> Set<Int> { Set((0...limit).filter(isContained)) }
