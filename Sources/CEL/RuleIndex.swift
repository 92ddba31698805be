// Rules that are asked together, looked up by what their conditions compare. Each column stands for one attribute and one
// kind of comparison, and knows for every value which rules it leaves possible; the rules that all columns leave are few,
// and only what is left of their conditions is tried. Sets of rules are bitmaps, or lists where those are smaller, so that
// the memory of a column grows with its rules and not with their square.

import Formats

/// Expressions `first ..< first + count` of the program.
struct Group: Sendable {
    var first: Int
    var count: Int
    /// Columns in the order in which they are asked: first what leaves least.
    var columns: Range<Int>

    var blockCount: Int { (count + Block.rules - 1) / Block.rules }
}

/// One comparison of one term, for all rules that begin with it or have it among what must hold.
struct Column: Sendable {
    enum Kind: UInt8, Sendable {
        /// `term > x`, `term >= x`: `keys` are places in `bounds`.
        case lower
        /// `term < x`, `term <= x`.
        case upper
        /// `term == 3`, `term == "x"`, `term in ["x", "y"]`, `"x" in term`: places in `keys`.
        case number, text, member
    }
    var kind: Kind
    var term: UInt32
    var keys: Range<Int>
    /// Where the bitmap of the rules begins that do not have this comparison.
    var base: Int
    /// Where the bitmaps for each `stride` bounds begin.
    var checkpoints = 0
    var stride = 1
    /// Blocks of a bitmap.
    var blockCount: Int
}

/// A bound and the rule that has it. Those that a value satisfies stand before those that it does not.
struct Bound: Sendable {
    var value: Double
    var isStrict: Bool
    var rule: UInt32
}

/// A value that rules ask for, and those rules: `count` of `posted`, or a bitmap with the base in it.
struct Key: Sendable {
    static let bitmap: UInt32 = .max
    /// A double, a symbol, or the number of a symbol's bit in a narrow alphabet.
    var bits: UInt64
    var first: UInt32
    var count: UInt32
}

struct RuleIndex: Sendable {
    var groups: [Group] = []
    var columns: [Column] = []
    var bounds: [Bound] = []
    var keys: [Key] = []
    var posted: [UInt32] = []
    /// Bitmaps.
    var blocks: [Block] = []
}

/// 256 rules, a bit each. Sets are walked in blocks, which are one or two instructions on most processors.
typealias Block = SIMD4<UInt64>

extension SIMD4<UInt64> {
    static let rules = 256
    static let none = Block(repeating: 0)
    static let all = Block(repeating: .max)
}

extension Array<Block> {
    mutating func insert(rule: UInt32) { self[Int(rule >> 8)][Int(rule >> 6 & 3)] |= 1 << UInt64(rule & 63) }
    mutating func remove(rule: UInt32) { self[Int(rule >> 8)][Int(rule >> 6 & 3)] &= ~(1 << UInt64(rule & 63)) }

    /// The first rule of a set from `rule` on; nil: none in the first `count` blocks.
    func first(from rule: Int, blocks count: Int) -> Int? {
        var index = rule >> 8
        var (lane, mask) = (rule >> 6 & 3, UInt64.max << UInt64(rule & 63))
        while index < count {
            let block = self[index]
            if block != Block.none {
                while lane < 4 {
                    let word = block[lane] & mask
                    if word != 0 { return index << 8 + lane << 6 + word.trailingZeroBitCount }
                    lane += 1
                    mask = .max
                }
            }
            (lane, mask) = (0, .max)
            index += 1
        }
        return nil
    }
}

/// The rules of a group that can still be true.
struct Candidates {
    /// The candidates, and after them the set that a column leaves, while it is made.
    private var blocks: [Block] = []
    private var blockCount = 0
    /// Whose they are.
    var group = Program.none
    var stamp: UInt32 = 0
    /// Every column told, so that only what the columns do not know is open.
    var isExact = true
    private(set) var isEmpty = false

    /// All rules of a group.
    mutating func fill(_ group: Group) {
        blockCount = group.blockCount
        while blocks.count < 2 * blockCount { blocks.append(.none) }
        isExact = true
        isEmpty = false
        for index in 0..<blockCount { blocks[index] = .all }
        // Without what is beyond the last rule.
        var beyond = blockCount * Block.rules - 64
        while beyond >= group.count {
            blocks[blockCount - 1][beyond >> 6 & 3] = 0
            beyond -= 64
        }
        if group.count & 63 != 0 { blocks[blockCount - 1][beyond >> 6 & 3] = (1 << UInt64(group.count & 63)) - 1 }
    }

    /// Leaves the rules of a bitmap.
    mutating func keep(_ bitmaps: Span<Block>, from first: Int) {
        let count = blockCount
        var left = Block.none
        var own = blocks.mutableSpan
        for index in 0..<count {
            let block = own[index] & bitmaps[first + index]
            own[index] = block
            left |= block
        }
        isEmpty = left == Block.none
    }

    mutating func remove(_ rule: UInt32) { blocks.remove(rule: rule) }

    /// Begins a set of rules to keep.
    mutating func startSet(_ bitmaps: Span<Block>, from first: Int) {
        let count = blockCount
        var set = blocks.mutableSpan
        for index in 0..<count { set[count + index] = bitmaps[first + index] }
    }

    mutating func addToSet(_ rule: UInt32) { blocks.insert(rule: rule + UInt32(blockCount * Block.rules)) }

    mutating func addToSet(_ bitmaps: Span<Block>, from first: Int) {
        let count = blockCount
        var set = blocks.mutableSpan
        for index in 0..<count { set[count + index] |= bitmaps[first + index] }
    }

    /// Leaves the rules of the set.
    mutating func keepSet() {
        let count = blockCount
        var left = Block.none
        var own = blocks.mutableSpan
        for index in 0..<count {
            let block = own[index] & own[count + index]
            own[index] = block
            left |= block
        }
        isEmpty = left == Block.none
    }

    /// The first rule from `rule` on, counted from the group's first; nil: none.
    func next(from rule: Int) -> Int? { blocks.first(from: rule, blocks: blockCount) }
}

extension Machine {
    /// Leaves the candidates that a column's term leaves possible. A term without a value, or with one that can make no
    /// comparison true, leaves those that do not ask for it; one that the index cannot judge leaves all, and these are then
    /// tried in full.
    mutating func narrow(_ column: Column, _ program: borrowing Program, _ record: Span<UInt8>) {
        let term = Int(column.term)
        let value = cells[term].value
        let blocks = program.index.blocks.span
        if value.kind == .unset { return candidates.keep(blocks, from: column.base) }
        switch (column.kind, value.kind) {
        case (.number, .double),
            (.number, .int) where Machine.isExact(value):
            candidates.startSet(blocks, from: column.base)
            add(Machine.find(value.number ?? 0, column, program.index), program)
            candidates.keepSet()
        case (.lower, .double), (.upper, .double),
            (.lower, .int) where Machine.isExact(value),
            (.upper, .int) where Machine.isExact(value):
            narrow(column, to: value.number ?? 0, program)
        case (.text, .string), (.member, .list):
            if cells[term].bitsStamp != stamp { number(term, program, record) }
            candidates.startSet(blocks, from: column.base)
            addTexts(cells[term].bits, value.kind == .list, column, program)
            candidates.keepSet()
        // A number that is no double, a map's keys, and an error, which is to be counted.
        case (_, .int), (_, .uint), (.member, .map), (_, .error): candidates.isExact = false
        // A value of another kind is equal to none of these, and not more or less than any.
        default: candidates.keep(blocks, from: column.base)
        }
    }

    /// Adds the rules that ask for a term's text, or for one of its texts.
    private mutating func addTexts(_ bits: UInt64, _ isList: Bool, _ column: Column, _ program: borrowing Program) {
        if program.alphabets[Int(column.term)].isNarrow {
            var left = bits
            while left != 0 {
                add(Machine.find(UInt64(left.trailingZeroBitCount), column, program.index), program)
                left &= left - 1
            }
        } else if isList {
            let first = Int(bits & 0xFFFF_FFFF)
            for place in first..<first + Int(bits >> 32) {
                add(Machine.find(UInt64(listedSymbols[place]), column, program.index), program)
            }
        } else {
            add(Machine.find(bits, column, program.index), program)
        }
    }

    /// Adds the rules of a key to the set.
    private mutating func add(_ key: Key?, _ program: borrowing Program) {
        guard let key else { return }
        if key.count == Key.bitmap { return candidates.addToSet(program.index.blocks.span, from: Int(key.first)) }
        for place in Int(key.first)..<Int(key.first + key.count) { candidates.addToSet(program.index.posted[place]) }
    }

    private mutating func narrow(_ column: Column, to number: Double, _ program: borrowing Program) {
        let bounds = program.index.bounds.span
        var low = column.keys.lowerBound
        var high = column.keys.upperBound
        while low < high {
            let middle = (low + high) / 2
            let bound = bounds[middle]
            let beyond = column.kind == .lower ? number > bound.value : number < bound.value
            if beyond || (number == bound.value && !bound.isStrict) { low = middle + 1 } else { high = middle }
        }
        // The bitmap of at least as many bounds, and then without those that are too many.
        let satisfied = low - column.keys.lowerBound
        let step = (satisfied + column.stride - 1) / column.stride
        let blocks = program.index.blocks.span
        candidates.keep(blocks, from: column.checkpoints + step * column.blockCount)
        let end = min(column.keys.lowerBound + step * column.stride, column.keys.upperBound)
        while low < end {
            candidates.remove(bounds[low].rule)
            low += 1
        }
    }

    private static func find(_ number: Double, _ column: Column, _ index: borrowing RuleIndex) -> Key? {
        let keys = index.keys.span
        var low = column.keys.lowerBound
        var high = column.keys.upperBound
        while low < high {
            let middle = (low + high) / 2
            if Double(bitPattern: keys[middle].bits) < number { low = middle + 1 } else { high = middle }
        }
        return low < column.keys.upperBound && Double(bitPattern: keys[low].bits) == number ? keys[low] : nil
    }

    private static func find(_ symbol: UInt64, _ column: Column, _ index: borrowing RuleIndex) -> Key? {
        let keys = index.keys.span
        var low = column.keys.lowerBound
        var high = column.keys.upperBound
        while low < high {
            let middle = (low + high) / 2
            if keys[middle].bits < symbol { low = middle + 1 } else { high = middle }
        }
        return low < column.keys.upperBound && keys[low].bits == symbol ? keys[low] : nil
    }
}

extension Evaluator {
    /// `firstTrue` for a range that begins in a group; `number` is where to go on if nothing is found.
    mutating func firstIndexed<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ number: inout Int, _ end: Int, _ bindings: borrowing B, _ failures: inout Int
    ) -> Int? {
        let group = program.entries[number].group
        let first = program.index.groups[Int(group)].first
        let last = min(end, first + program.index.groups[Int(group)].count)
        if machine.candidates.group != group || machine.candidates.stamp != machine.stamp {
            findCandidates(program, group, bindings)
        }
        while let next = machine.candidates.next(from: number - first), first + next < last {
            number = first + next
            let entry = program.entries[number]
            let condition = machine.candidates.isExact ? entry.rest : entry.condition
            if holds(program, condition, entry.start, bindings, &failures) { return number }
            number += 1
        }
        number = last
        return nil
    }

    private mutating func findCandidates<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ group: UInt32, _ bindings: borrowing B
    ) {
        machine.candidates.group = group
        machine.candidates.stamp = machine.stamp
        machine.candidates.fill(program.index.groups[Int(group)])
        for place in program.index.groups[Int(group)].columns {
            let column = program.index.columns[place]
            if machine.cells[Int(column.term)].stamp != machine.stamp { load(Int(column.term), program, bindings) }
            machine.narrow(column, program, bindings.region)
            if machine.candidates.isEmpty { return }
        }
    }
}
