// The quick way through conditions: comparisons of terms with constants as a graph of tests, each with a place to go on for
// true and for false. Anything out of the ordinary (a kind that was not expected, an error) leaves the graph, and the
// whole condition is evaluated by the general machine, which knows about errors. It need not know syntax.

import Formats

/// One test of a condition: 24 bytes.
struct Test: Sendable {
    enum Code: UInt8, Sendable {
        /// The term, a number or a duration, against `operand`.
        case int, double, duration
        /// The term is true.
        case isTrue
        case isSet
        /// The term's text is text `operand` of `Program.symbols`, one of those of the list `operand`, or an element of the
        /// term is text `operand`. `Compiler.finish` makes these the following.
        case text, textAmong, hasText
        /// The same for a term with a narrow alphabet: its text, or list of texts, as bits; `operand` has the bits of those
        /// that make the test true.
        case textBits, listBits
        /// The same for a term with a wide alphabet: by symbol.
        case symbol, symbolAmong, hasSymbol
    }

    /// What a test of a term without a value comes to, as far as the condition's being true goes: under an even number of
    /// negations it is as good as false, under an odd one as good as true (Kleene's logic, which CEL's `&&`, `||` and `!`
    /// follow; langdef.md "Logical operators"). Elsewhere the graph is left.
    enum Missing: UInt8, Sendable {
        case leaves, isFalse, isTrue

        var opposite: Missing {
            switch self {
            case .leaves: .leaves
            case .isFalse: .isTrue
            case .isTrue: .isFalse
            }
        }
    }

    /// Which orders of term and operand make a comparison true, a bit each.
    struct Relation: OptionSet {
        let rawValue: UInt8
        static let less = Relation(rawValue: 1)
        static let equal = Relation(rawValue: 2)
        static let greater = Relation(rawValue: 4)
        /// One of the two is NaN.
        static let unordered = Relation(rawValue: 8)

        init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Nil for an operator that does not compare.
        init?(_ symbol: Operator) {
            switch symbol {
            case .equal: self = .equal
            case .notEqual: self = [.less, .greater, .unordered]
            case .less: self = .less
            case .lessOrEqual: self = [.less, .equal]
            case .greater: self = .greater
            case .greaterOrEqual: self = [.greater, .equal]
            default: return nil
            }
        }

        @inline(__always)
        func holds<T: Comparable>(_ left: T, _ right: T) -> Bool {
            let order: UInt8 = left < right ? 1 : left == right ? 2 : left > right ? 4 : 8
            return rawValue & order != 0
        }
    }

    static let yes: UInt32 = .max - 1
    static let no: UInt32 = .max
    /// Marks a term that is code, until `Compiler.finish` knows how many slots there are.
    static let codeTerm: UInt32 = 1 << 31

    var code: Code
    var relation = Relation.equal
    var missing: Missing
    var term: UInt32
    var ifTrue: UInt32
    var ifFalse: UInt32
    /// A number's bits, a text, or a list of texts: its place in `Program.symbolLists`, and its length above bit 31.
    var operand: UInt64 = 0
}

/// The texts that a term is compared with. A term's own text is looked up in it once a decision, and then comparing is one
/// instruction.
struct Alphabet: Sendable {
    /// One more, and an alphabet is wide.
    static let narrow = 63

    var isNarrow = true
    /// Of a narrow one: its place in `Program.letters`.
    var first: UInt32 = 0
    var count: UInt32 = 0
}

/// A text of a narrow alphabet; they stand in the order of their symbols.
struct Letter: Sendable {
    var head: UInt64
    var symbol: UInt32

    /// The first seven bytes of a text, and above them its length: all that there is of a short one.
    @inline(__always)
    static func head(_ text: Span<UInt8>) -> UInt64 {
        let count = text.count
        let bytes = text.bytes
        // The loads check their bounds, and any bytes are a number.
        if count >= 8 {
            let word = unsafe UInt64(littleEndian: bytes.unsafeLoadUnaligned(as: UInt64.self))
            return word & 0x00FF_FFFF_FFFF_FFFF | UInt64(min(count, 255)) << 56
        }
        var word = UInt64(count) << 56
        if count >= 4 {
            let rest = UInt64(count - 4)
            word |= unsafe UInt64(UInt32(littleEndian: bytes.unsafeLoadUnaligned(as: UInt32.self)))
            word |= unsafe UInt64(
                UInt32(littleEndian: bytes.unsafeLoadUnaligned(fromByteOffset: count - 4, as: UInt32.self))) << (8 * rest)
        } else if count > 0 {
            word |= UInt64(text[0]) | UInt64(text[count >> 1]) << (8 * UInt64(count >> 1))
            word |= UInt64(text[count - 1]) << (8 * UInt64(count - 1))
        }
        return word
    }
}

/// What a condition looks at, for one decision: a slot, or the value of an expression. 32 bytes.
struct Cell {
    var value = Value.absent
    /// Of a text or list of texts under a narrow alphabet: a bit for each letter that is there. Under a wide one: the symbol, or
    /// where a list's symbols begin in `Machine.listedSymbols`, and their number above bit 31.
    var bits: UInt64 = 0
    /// The decision that the value, and the bits, belong to.
    var stamp: UInt32 = 0
    var bitsStamp: UInt32 = 0
}

/// Where a walk through tests ended: true; not true; not true for want of a value (and so perhaps an error); unclear.
enum Verdict { case yes, no, missing, unclear }

extension Machine {
    /// A text that no test asks for, under a wide alphabet.
    static let noSymbol: UInt64 = .max

    /// Every whole number up to here is a double of its own.
    static let exactDoubles: Int64 = 1 << 53

    @inline(__always)
    static func isExact(_ whole: Int64) -> Bool { whole >= -exactDoubles && whole <= exactDoubles }

    /// Whether a number is a double, or has one of its own.
    @inline(__always)
    static func isExact(_ value: Value) -> Bool { value.kind == .double || isExact(value.int) }

    /// Looks up the text, or the texts, of a term that has a value.
    mutating func number(_ term: Int, _ program: borrowing Program, _ record: Span<UInt8>) {
        let value = cells[term].value
        let alphabet = program.alphabets[term]
        cells[term].bitsStamp = stamp
        switch value.kind {
        case .string: cells[term].bits = bits(value, alphabet, program, record)
        case .list: cells[term].bits = listBits(value, alphabet, program, record)
        default: cells[term].bits = Machine.noSymbol
        }
    }

    /// A text's bit, or 0; its symbol, or `noSymbol`. Attributes are texts of the record, and are looked up without the context
    /// of general code.
    @inline(__always)
    private func bits(
        _ text: Value, _ alphabet: Alphabet, _ program: borrowing Program, _ record: Span<UInt8>
    ) -> UInt64 {
        if text.region == Region.record {
            let start = Int(truncatingIfNeeded: text.bits)
            return program.bits(record.extracting(start..<start + Int(text.extra)), alphabet)
        }
        return program.bits(bytes(text, Context(program, record)), alphabet)
    }

    /// The texts of a list. Those that no test asks for are left out, and so are elements of other kinds, which are no text's
    /// equals (langdef.md "Equality").
    private mutating func listBits(
        _ list: Value, _ alphabet: Alphabet, _ program: borrowing Program, _ record: Span<UInt8>
    ) -> UInt64 {
        let start = listedSymbols.count
        var bits: UInt64 = 0
        if list.isOfDocument {
            var node = documents.firstChild(list.region, JSONNode(index: UInt32(truncatingIfNeeded: list.bits)))
            var count = 0
            while let current = node {
                let element = documents.value(list.region, current)
                node = documents.next(list.region, current)
                bits |= listed(element, alphabet, program, record)
                count += 1
            }
            budget -= Int64(count)
        } else {
            let first = Int(truncatingIfNeeded: list.bits)
            for place in first..<first + Int(list.extra) {
                let element = list.region == Region.constants ? program.values[place] : heap.values[place]
                bits |= listed(element, alphabet, program, record)
            }
            budget -= Int64(list.extra)
        }
        if alphabet.isNarrow { return bits }
        sortListed(from: start)
        return UInt64(start) | UInt64(listedSymbols.count - start) << 32
    }

    /// An element's bit under a narrow alphabet; under a wide one it is put into `listedSymbols`.
    @inline(__always)
    private mutating func listed(
        _ element: Value, _ alphabet: Alphabet, _ program: borrowing Program, _ record: Span<UInt8>
    ) -> UInt64 {
        guard element.kind == .string else { return 0 }
        let found = bits(element, alphabet, program, record)
        if alphabet.isNarrow { return found }
        if found != Machine.noSymbol { listedSymbols.append(UInt32(truncatingIfNeeded: found)) }
        return 0
    }

    /// Sorts the symbols of a list and leaves each once, so that they are no more than the alphabet has.
    private mutating func sortListed(from start: Int) {
        if listedSymbols.count - start < 2 { return }
        listedSymbols[start...].sort { $0 < $1 }
        var end = start + 1
        for place in start + 1..<listedSymbols.count where listedSymbols[place] != listedSymbols[end - 1] {
            listedSymbols[end] = listedSymbols[place]
            end += 1
        }
        listedSymbols.removeLast(listedSymbols.count - end)
    }

    /// Makes a test whose term is loaded.
    mutating func look(_ test: Test, _ program: borrowing Program, _ record: Span<UInt8>) -> Verdict {
        let term = Int(test.term)
        let value = cells[term].value
        if test.code == .isSet { return value.kind == .unset ? .no : .yes }
        switch value.kind {
        case .unset: return .missing
        case .string:
            switch test.code {
            case .textBits, .symbol, .symbolAmong:
                if cells[term].bitsStamp != stamp { number(term, program, record) }
                let bits = cells[term].bits
                if test.code == .textBits { return bits & test.operand != 0 ? .yes : .no }
                if test.code == .symbol { return bits == test.operand ? .yes : .no }
                return Machine.has(program.symbolLists.span, test.operand, UInt32(truncatingIfNeeded: bits)) ? .yes : .no
            default: return .unclear
            }
        case .list:
            guard test.code == .hasSymbol || test.code == .listBits else { return .unclear }
            if cells[term].bitsStamp != stamp { number(term, program, record) }
            let bits = cells[term].bits
            if test.code == .listBits { return bits & test.operand != 0 ? .yes : .no }
            return Machine.hasSorted(listedSymbols.span, bits, UInt32(truncatingIfNeeded: test.operand)) ? .yes : .no
        default: return compare(test, value)
        }
    }

    /// A comparison of numbers of two kinds, where that is exact, or of durations.
    private func compare(_ test: Test, _ value: Value) -> Verdict {
        let whole = Int64(bitPattern: test.operand)
        let holds: Bool
        switch (test.code, value.kind) {
        case (.int, .double) where Machine.isExact(whole): holds = test.relation.holds(value.real, Double(whole))
        case (.double, .int) where Machine.isExact(value.int):
            holds = test.relation.holds(Double(value.int), Double(bitPattern: test.operand))
        case (.duration, .duration): holds = test.relation.holds(value.int, whole)
        default: return .unclear
        }
        return holds ? .yes : .no
    }

    /// Whether a stretch of symbols, its place and above bit 31 its length, has one.
    @inline(__always)
    private static func has(_ list: Span<UInt32>, _ stretch: UInt64, _ symbol: UInt32) -> Bool {
        var index = Int(stretch & 0xFFFF_FFFF)
        let end = index + Int(stretch >> 32)
        while index < end {
            if list[index] == symbol { return true }
            index += 1
        }
        return false
    }

    /// The same for a stretch in rising order.
    private static func hasSorted(_ list: Span<UInt32>, _ stretch: UInt64, _ symbol: UInt32) -> Bool {
        var low = Int(stretch & 0xFFFF_FFFF)
        var high = low + Int(stretch >> 32)
        while low < high {
            let middle = (low + high) / 2
            if list[middle] == symbol { return true }
            if list[middle] < symbol { low = middle + 1 } else { high = middle }
        }
        return false
    }
}

extension Evaluator {
    /// Walks a condition's tests from `start` on, and loads what they look at.
    mutating func walk<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ start: UInt32, _ bindings: borrowing B
    ) -> Verdict {
        walkInPlace(program, start, bindings)
    }

    /// The same, for the loop over rules.
    @inline(__always)
    mutating func walkInPlace<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ start: UInt32, _ bindings: borrowing B
    ) -> Verdict {
        let stamp = machine.stamp
        var place = start
        var isMissing = false
        while place < Test.yes {
            let test = program.tests[Int(place)]
            let cell = machine.cells[Int(test.term)]
            if cell.stamp != stamp {
                load(Int(test.term), program, bindings)
                continue
            }
            let holds: Bool
            switch test.code {
            case .int where cell.value.kind == .int:
                holds = test.relation.holds(cell.value.int, Int64(bitPattern: test.operand))
            case .double where cell.value.kind == .double:
                holds = test.relation.holds(cell.value.real, Double(bitPattern: test.operand))
            case .isTrue where cell.value.kind == .bool: holds = cell.value.bits != 0
            case .textBits where cell.bitsStamp == stamp && cell.value.kind == .string:
                holds = cell.bits & test.operand != 0
            case .listBits where cell.bitsStamp == stamp && cell.value.kind == .list:
                holds = cell.bits & test.operand != 0
            default:
                switch machine.look(test, program, bindings.region) {
                case .yes: holds = true
                case .no: holds = false
                case .unclear: return .unclear
                case .missing:
                    if test.missing == .leaves { return .unclear }
                    isMissing = true
                    holds = test.missing == .isTrue
                }
            }
            place = holds ? test.ifTrue : test.ifFalse
        }
        return place == Test.yes ? .yes : isMissing ? .missing : .no
    }

    /// Makes a term's value: asks the bindings for a slot, or runs an expression.
    @inline(__always)
    mutating func load<B: Bindings & ~Copyable & ~Escapable>(
        _ term: Int, _ program: borrowing Program, _ bindings: borrowing B
    ) {
        if term < program.slotCount {
            machine.provide(slot: term, bindings.load(term, into: &machine.heap))
        } else {
            loadExpression(term, program, bindings)
        }
    }

    private mutating func loadExpression<B: Bindings & ~Copyable & ~Escapable>(
        _ term: Int, _ program: borrowing Program, _ bindings: borrowing B
    ) {
        let value = run(program, program.codeTerms[term - program.slotCount], bindings)
        machine.cells[term].value = value.isMissingKey ? .unset : value
        machine.cells[term].stamp = machine.stamp
    }
}
