// The quick way through a condition: comparisons of slots with constants as a graph of tests, each with a place to go on
// for true and for false. Anything out of the ordinary (an unset slot, an unexpected kind) leaves the graph, and the
// whole condition is evaluated by the general machine, which knows about errors. It need not know syntax.

import Formats

/// One test of a condition: 24 bytes.
struct Test: Sendable {
    enum Code: UInt8, Sendable {
        /// The slot, a number, against `operand`; `relation` is the raw value of an `Operator`.
        case int, double
        /// The slot is true.
        case isTrue
        case isSet
        /// The slot's text is symbol `operand`.
        case symbol
        /// The slot's text is one of `count` symbols from `Program.symbolLists[operand]` on.
        case symbolAmong
        /// The slot's list has symbol `operand`.
        case hasSymbol
        /// The general code at `operand`, remembered as memo `count`.
        case general
    }
    static let yes: UInt32 = .max - 1
    static let no: UInt32 = .max

    var code: Code
    var relation: UInt8 = 0
    var slot: UInt16 = 0
    var count: UInt32 = 0
    var ifTrue: UInt32
    var ifFalse: UInt32
    var operand: UInt64 = 0
}

/// A slot as tests see it: numbers as they are, texts as the symbols of the program, so that comparing is one
/// instruction.
struct QuickSlot {
    /// `absent`: not made yet; `error`: a kind for the general machine.
    var kind: Kind = .absent
    var count: UInt32 = 0
    var bits: UInt64 = 0
}

/// Where a walk through tests ended.
struct Walk {
    enum End: UInt8 { case no, yes, leave, slot, general }
    var end: End
    /// The test at which it stopped.
    var test: UInt32
}

/// The texts of a program's tests, numbered; open addressing in a table of a power of two.
struct Symbols: Sendable {
    /// Place and length in the pool, by symbol.
    private(set) var places: [(offset: UInt32, count: UInt32)] = []
    /// Symbol + 1, or 0.
    private var table: [UInt32] = Array(repeating: 0, count: 16)

    private static func hash(_ text: Span<UInt8>) -> Int {
        var hash: UInt32 = 2_166_136_261
        var index = 0
        while index < text.count {
            hash = (hash ^ UInt32(text[index])) &* 16_777_619
            index += 1
        }
        return Int(truncatingIfNeeded: (hash ^ hash >> 15) & 0x7FFF_FFFF)
    }

    func find(_ text: Span<UInt8>, _ pool: Span<UInt8>) -> UInt32? {
        let mask = table.count - 1
        var place = Symbols.hash(text) & mask
        while table[place] != 0 {
            let symbol = table[place] - 1
            let known = places[Int(symbol)]
            if Int(known.count) == text.count,
                spansEqual(pool.extracting(Int(known.offset)..<Int(known.offset) + text.count), text)
            {
                return symbol
            }
            place = (place + 1) & mask
        }
        return nil
    }

    mutating func add(_ offset: Int, _ count: Int, _ pool: [UInt8]) -> UInt32 {
        let span = pool.span
        if let known = find(span.extracting(offset..<offset + count), span) { return known }
        places.append((UInt32(offset), UInt32(count)))
        if places.count * 2 > table.count {
            table = Array(repeating: 0, count: table.count * 2)
            for symbol in 0..<places.count { insert(UInt32(symbol), span) }
        } else {
            insert(UInt32(places.count - 1), span)
        }
        return UInt32(places.count - 1)
    }

    private mutating func insert(_ symbol: UInt32, _ pool: Span<UInt8>) {
        let known = places[Int(symbol)]
        let text = pool.extracting(Int(known.offset)..<Int(known.offset + known.count))
        var place = Symbols.hash(text) & (table.count - 1)
        while table[place] != 0 { place = (place + 1) & (table.count - 1) }
        table[place] = symbol + 1
    }
}

extension Machine {
    static let noSymbol: UInt64 = .max

    /// Walks the tests from `start` on until the verdict is clear or something is missing.
    func walk(_ program: borrowing Program, _ start: UInt32) -> Walk {
        let tests = program.tests.span
        let lists = program.symbolLists.span
        let slots = quick.span
        let symbols = symbolsOfLists.span
        var place = start
        while place < Test.yes {
            let test = tests[Int(place)]
            if test.code == .general {
                let memo = memos[Int(test.count)]
                if memo == 0 { return Walk(end: .general, test: place) }
                place = memo == 2 ? test.ifTrue : test.ifFalse
                continue
            }
            let slot = slots[Int(test.slot)]
            if slot.kind == .absent { return Walk(end: .slot, test: place) }
            let verdict: Bool
            switch test.code {
            case .int:
                let wanted = Int64(bitPattern: test.operand)
                if slot.kind == .int {
                    verdict = Machine.holds(test.relation, Int64(bitPattern: slot.bits), wanted)
                } else if slot.kind == .double {
                    verdict = Machine.holds(test.relation, Double(bitPattern: slot.bits), Double(wanted))
                } else {
                    return Walk(end: .leave, test: place)
                }
            case .double:
                let wanted = Double(bitPattern: test.operand)
                if slot.kind == .double {
                    verdict = Machine.holds(test.relation, Double(bitPattern: slot.bits), wanted)
                } else if slot.kind == .int {
                    verdict = Machine.holds(test.relation, Double(Int64(bitPattern: slot.bits)), wanted)
                } else {
                    return Walk(end: .leave, test: place)
                }
            case .isTrue:
                if slot.kind != .bool { return Walk(end: .leave, test: place) }
                verdict = slot.bits != 0
            case .isSet: verdict = slot.kind != .unset
            case .symbol:
                if slot.kind != .string { return Walk(end: .leave, test: place) }
                verdict = slot.bits == test.operand
            case .symbolAmong:
                if slot.kind != .string { return Walk(end: .leave, test: place) }
                verdict = Machine.has(
                    lists, Int(truncatingIfNeeded: test.operand), Int(test.count), UInt32(truncatingIfNeeded: slot.bits))
            case .hasSymbol:
                if slot.kind != .list { return Walk(end: .leave, test: place) }
                verdict = Machine.has(
                    symbols, Int(truncatingIfNeeded: slot.bits), Int(slot.count), UInt32(truncatingIfNeeded: test.operand))
            case .general: verdict = false
            }
            place = verdict ? test.ifTrue : test.ifFalse
        }
        return Walk(end: place == Test.yes ? .yes : .no, test: place)
    }

    @inline(__always)
    private static func has(_ list: Span<UInt32>, _ start: Int, _ count: Int, _ symbol: UInt32) -> Bool {
        var index = start
        while index < start + count {
            if list[index] == symbol { return true }
            index += 1
        }
        return false
    }

    @inline(__always)
    private static func holds<T: Comparable>(_ relation: UInt8, _ left: T, _ right: T) -> Bool {
        switch relation {
        case 5: left == right
        case 6: left != right
        case 7: left < right
        case 8: left <= right
        case 9: left > right
        default: left >= right
        }
    }

    /// Makes the quick form of a slot that has been loaded, if it is a number, a truth value or not set.
    @inline(__always)
    mutating func quickenNumber(_ slot: Int) -> Bool {
        let value = slots[slot]
        switch value.kind {
        case .int, .double, .bool, .unset:
            quick[slot] = QuickSlot(kind: value.kind, bits: value.bits)
            quickened.append(UInt32(slot))
            return true
        default: return false
        }
    }

    /// Makes the quick form of a slot that has been loaded.
    mutating func quicken(_ slot: Int, _ program: borrowing Program, _ record: Span<UInt8>) {
        let value = slots[slot]
        var made = QuickSlot(kind: value.kind, bits: value.bits)
        switch value.kind {
        case .int, .double, .bool, .unset: break
        case .string:
            made.bits = symbol(value, program, record).map { UInt64($0) } ?? Machine.noSymbol
        case .list: made = quickList(value, program, record)
        default: made.kind = .error
        }
        quick[slot] = made
        quickened.append(UInt32(slot))
    }

    /// The symbol of a text, or nil: no test asks for it. Attributes are texts of the record, and are looked up without
    /// the context of general code, which is a dozen words to hand on.
    private func symbol(_ text: Value, _ program: borrowing Program, _ record: Span<UInt8>) -> UInt32? {
        let pool = program.pool.span
        if text.region == Region.record {
            let start = Int(truncatingIfNeeded: text.bits)
            return program.symbols.find(record.extracting(start..<start + Int(text.extra)), pool)
        }
        return program.symbols.find(bytes(text, Context(program, record)), pool)
    }

    /// A list of texts as the symbols in it; texts that no test asks for are left out.
    private mutating func quickList(
        _ list: Value, _ program: borrowing Program, _ record: Span<UInt8>
    ) -> QuickSlot {
        let start = symbolsOfLists.count
        let count = self.count(list)
        guard !list.isOfDocument, count <= 4096 else { return QuickSlot(kind: .error) }
        for index in 0..<count {
            let place = Int(truncatingIfNeeded: list.bits) + index
            let element = list.region == Region.constants ? program.values[place] : heap.values[place]
            guard element.kind == .string else { return QuickSlot(kind: .error) }
            if let symbol = symbol(element, program, record) { symbolsOfLists.append(symbol) }
        }
        return QuickSlot(kind: .list, count: UInt32(symbolsOfLists.count - start), bits: UInt64(start))
    }

    /// Forgets quick slots and memos: a new decision, or another program.
    mutating func forgetQuick() {
        for slot in quickened { quick[Int(slot)] = QuickSlot() }
        for memo in remembered { memos[Int(memo)] = 0 }
        // Emptying an array costs more than looking whether it is empty.
        if !quickened.isEmpty { quickened.removeAll(keepingCapacity: true) }
        if !symbolsOfLists.isEmpty { symbolsOfLists.removeAll(keepingCapacity: true) }
        if !remembered.isEmpty { remembered.removeAll(keepingCapacity: true) }
    }

    mutating func remember(_ memo: UInt32, _ verdict: Bool) {
        memos[Int(memo)] = verdict ? 2 : 1
        remembered.append(memo)
    }
}
