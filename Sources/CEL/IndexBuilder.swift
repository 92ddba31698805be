// Makes the index of a group while its expressions are compiled. It need not know how it is asked.

import Formats

/// What is known of a group's expressions: of each, the parts that must all hold.
struct GroupBuilder {
    struct Part {
        /// The expression, counted from the group's first.
        var rule: Int
        /// The part alone, as tests that end at `Test.yes` and `Test.no`.
        var tests: [Test]
        var start: UInt32
        /// A column answers for it.
        var isInColumn = false
    }

    /// The group's first expression; `none`: no group has been begun.
    var first = none
    var parts: [Part] = []

    static let none = -1
    var isOpen: Bool { first != GroupBuilder.none }
}

/// A column in the making: its parts, at most one of a rule.
private struct Draft {
    var kind: Column.Kind
    var term: UInt32
    var parts: [Int] = []
}

extension Compiler {
    /// Begins a group: expressions that are asked together, such as the rules of one decision. They are indexed by what
    /// their conditions compare, so that `Evaluator.firstTrue` tries only those that can be true.
    public mutating func beginGroup() {
        endGroup()
        group = GroupBuilder(first: program.entries.count)
    }

    /// Ends the group. A group of fewer than `Limits.indexedExpressions` is not indexed.
    public mutating func endGroup() {
        guard group.isOpen else { return }
        let builder = group
        group = GroupBuilder()
        let count = program.entries.count - builder.first
        if count >= Limits.indexedExpressions { index(builder, count) }
    }

    /// Keeps the parts of a condition, whose expression is about to be added, that must all hold.
    mutating func collectConjuncts(_ node: UInt32) {
        if tree.nodes[Int(node)].kind == .and {
            for index in 0..<Int(tree.nodes[Int(node)].childCount) { collectConjuncts(child(node, index)) }
            return
        }
        var tests: [Test] = []
        swap(&tests, &program.tests)
        let start = build(node, Test.yes, Test.no, .isFalse)
        swap(&tests, &program.tests)
        group.parts.append(GroupBuilder.Part(rule: program.entries.count - group.first, tests: tests, start: start))
    }

    // MARK: Columns

    private mutating func index(_ builder: GroupBuilder, _ count: Int) {
        var parts = builder.parts
        var columns: [(left: Int, column: Column)] = []
        for draft in chosen(drafts(parts), parts, count) {
            let column = column(draft, parts, count)
            for part in draft.parts { parts[part].isInColumn = true }
            columns.append((expectation(column, draft.parts.count, count), column))
        }
        // What leaves least is asked first.
        columns.putInOrder { $0.left < $1.left }
        let start = program.index.columns.count
        for entry in columns { program.index.columns.append(entry.column) }
        let number = UInt32(program.index.groups.count)
        program.index.groups.append(
            Group(first: builder.first, count: count, columns: start..<program.index.columns.count))
        for rule in 0..<count { program.entries[builder.first + rule].group = number }
        addRests(builder.first, count, parts)
    }

    /// All columns that could be made.
    private func drafts(_ parts: [GroupBuilder.Part]) -> [Draft] {
        var drafts: [Draft] = []
        var table = HashTable()
        for (number, part) in parts.enumerated() {
            guard let kind = kind(part), let test = part.tests.first else { continue }
            let hash = HashTable.mix(UInt64(test.term), UInt64(kind.rawValue))
            var search = table.search(hash)
            var found: Int?
            while found == nil, let known = table.next(&search) {
                if drafts[known].kind == kind, drafts[known].term == test.term { found = known }
            }
            if found == nil {
                drafts.append(Draft(kind: kind, term: test.term))
                table.add(hash, drafts.count - 1)
            }
            let place = found ?? drafts.count - 1
            if let last = drafts[place].parts.last, parts[last].rule == part.rule { continue }
            drafts[place].parts.append(number)
        }
        return drafts
    }

    /// The kind of column that can answer for a part: a single test whose term is cheap to have, a slot or a field of a
    /// document.
    private func kind(_ part: GroupBuilder.Part) -> Column.Kind? {
        guard part.tests.count == 1, part.start == 0 else { return nil }
        let test = part.tests[0]
        guard test.ifTrue == Test.yes, test.ifFalse == Test.no, test.missing == .isFalse, isCheap(test.term) else {
            return nil
        }
        switch test.code {
        case .text, .textAmong: return .text
        case .hasText: return .member
        case .int:
            guard Machine.isExact(Int64(bitPattern: test.operand)) else { return nil }
        case .double:
            guard !Double(bitPattern: test.operand).isNaN else { return nil }
        default: return nil
        }
        switch test.relation {
        case .equal: return .number
        case .greater, [.greater, .equal]: return .lower
        case .less, [.less, .equal]: return .upper
        default: return nil
        }
    }

    private func isCheap(_ term: UInt32) -> Bool {
        if term & Test.codeTerm == 0 { return true }
        var place = Int(program.codeTerms[Int(term & ~Test.codeTerm)])
        guard program.code[place].code == .document else { return false }
        place += 1
        while program.code[place].code == .select, program.code[place].a == 0 { place += 1 }
        return program.code[place].code == .end
    }

    /// The columns that are worth asking: those of many rules, and those of rules that no other column knows.
    private func chosen(_ drafts: [Draft], _ parts: [GroupBuilder.Part], _ count: Int) -> [Draft] {
        var sorted = drafts
        sorted.putInOrder { $0.parts.count > $1.parts.count }
        var isKnown = [Bool](repeating: false, count: count)
        var chosen: [Draft] = []
        for draft in sorted {
            var unknown = 0
            for part in draft.parts where !isKnown[parts[part].rule] { unknown += 1 }
            // A column has three bitmaps or more: one for a share of the rules that is always the same keeps their memory in
            // proportion to the rules.
            guard draft.parts.count * 16 >= count || unknown >= max(8, count / 64) else { continue }
            for part in draft.parts { isKnown[parts[part].rule] = true }
            chosen.append(draft)
        }
        return chosen
    }

    private mutating func column(_ draft: Draft, _ parts: [GroupBuilder.Part], _ count: Int) -> Column {
        let blockCount = (count + Block.rules - 1) / Block.rules
        var base = [Block](repeating: .all, count: blockCount)
        for part in draft.parts { base.remove(rule: UInt32(parts[part].rule)) }
        var column = Column(
            kind: draft.kind, term: draft.term, keys: 0..<0, base: program.index.blocks.count, blockCount: blockCount)
        program.index.blocks += base
        switch draft.kind {
        case .lower, .upper: addBounds(&column, draft, parts, count, base)
        case .number, .text, .member: addKeys(&column, draft, parts, count, base)
        }
        return column
    }

    private mutating func addBounds(
        _ column: inout Column, _ draft: Draft, _ parts: [GroupBuilder.Part], _ count: Int, _ base: [Block]
    ) {
        var bounds: [Bound] = []
        for part in draft.parts {
            let test = parts[part].tests[0]
            bounds.append(
                Bound(
                    value: number(test), isStrict: !test.relation.contains(.equal), rule: UInt32(parts[part].rule)))
        }
        let isLower = draft.kind == .lower
        bounds.putInOrder { a, b in
            if a.value != b.value { return isLower ? a.value < b.value : a.value > b.value }
            return !a.isStrict && b.isStrict
        }
        // So many bitmaps that they take no more than 8 bytes a rule.
        column.stride = max(16, count / 64)
        // The first is the base.
        column.checkpoints = column.base
        var blocks = base
        for (place, bound) in bounds.enumerated() {
            blocks.insert(rule: bound.rule)
            if (place + 1) % column.stride == 0 || place + 1 == bounds.count { program.index.blocks += blocks }
        }
        column.keys = program.index.bounds.count..<program.index.bounds.count + bounds.count
        program.index.bounds += bounds
    }

    private func number(_ test: Test) -> Double {
        test.code == .int ? Double(Int64(bitPattern: test.operand)) : Double(bitPattern: test.operand)
    }

    private mutating func addKeys(
        _ column: inout Column, _ draft: Draft, _ parts: [GroupBuilder.Part], _ count: Int, _ base: [Block]
    ) {
        var entries: [(bits: UInt64, rule: UInt32)] = []
        for part in draft.parts {
            let test = parts[part].tests[0]
            let rule = UInt32(parts[part].rule)
            switch test.code {
            case .textAmong:
                let first = Int(test.operand & 0xFFFF_FFFF)
                for place in first..<first + Int(test.operand >> 32) {
                    entries.append((UInt64(program.symbolLists[place]), rule))
                }
            case .text, .hasText: entries.append((test.operand, rule))
            // -0.0 is 0.0.
            default: entries.append(((number(test) + 0.0).bitPattern, rule))
            }
        }
        let isNumber = draft.kind == .number
        entries.putInOrder { a, b in
            if a.bits == b.bits { return a.rule < b.rule }
            return isNumber ? Double(bitPattern: a.bits) < Double(bitPattern: b.bits) : a.bits < b.bits
        }
        let start = program.index.keys.count
        var place = 0
        while place < entries.count {
            var end = place
            while end < entries.count, entries[end].bits == entries[place].bits { end += 1 }
            addKey(entries[place..<end], count, base)
            place = end
        }
        column.keys = start..<program.index.keys.count
    }

    /// A key with its rules, in the form that takes less memory.
    private mutating func addKey(_ entries: ArraySlice<(bits: UInt64, rule: UInt32)>, _ count: Int, _ base: [Block]) {
        guard let first = entries.first else { return }
        if entries.count > count / 32 {
            var blocks = base
            for entry in entries { blocks.insert(rule: entry.rule) }
            program.index.keys.append(
                Key(bits: first.bits, first: UInt32(program.index.blocks.count), count: Key.bitmap))
            program.index.blocks += blocks
        } else {
            program.index.keys.append(
                Key(bits: first.bits, first: UInt32(program.index.posted.count), count: UInt32(entries.count)))
            for entry in entries { program.index.posted.append(entry.rule) }
        }
    }

    /// How many of `count` rules a column with `known` of them is expected to leave.
    private func expectation(_ column: Column, _ known: Int, _ count: Int) -> Int {
        let others = count - known
        switch column.kind {
        case .lower, .upper: return others + known / 2
        case .number, .text: return others + known / max(column.keys.count, 1)
        case .member: return others + 3 * known / max(column.keys.count, 3)
        }
    }

    // MARK: Rests

    /// Chains what the columns do not answer for, rule by rule.
    private mutating func addRests(_ first: Int, _ count: Int, _ parts: [GroupBuilder.Part]) {
        for rule in 0..<count where program.entries[first + rule].condition != Program.none {
            program.entries[first + rule].rest = Test.yes
        }
        for part in parts.reversed() where !part.isInColumn {
            let next = program.entries[first + part.rule].rest
            let base = UInt32(program.tests.count)
            func moved(_ place: UInt32) -> UInt32 {
                place == Test.yes ? next : place == Test.no ? Test.no : base + place
            }
            for test in part.tests {
                var copy = test
                copy.ifTrue = moved(test.ifTrue)
                copy.ifFalse = moved(test.ifFalse)
                program.tests.append(copy)
            }
            program.entries[first + part.rule].rest = moved(part.start)
        }
    }
}
