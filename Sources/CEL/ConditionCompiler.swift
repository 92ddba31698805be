// Conditions to graphs of tests (see Conditions.swift), and groups of them to an index (see RuleIndex.swift).

import Formats

extension Compiler {
    // MARK: Graphs

    /// Makes tests of a condition that goes on at `yes` or `no`; returns where it begins.
    mutating func build(_ node: UInt32, _ yes: UInt32, _ no: UInt32, _ missing: Test.Missing) -> UInt32 {
        let here = tree.nodes[Int(node)]
        switch here.kind {
        case .and, .or:
            var place = build(child(node, Int(here.childCount) - 1), yes, no, missing)
            for index in (0..<Int(here.childCount) - 1).reversed() {
                let (then, otherwise) = here.kind == .and ? (place, no) : (yes, place)
                place = build(child(node, index), then, otherwise, missing)
            }
            return place
        case .operation where here.payload == Operator.not.rawValue:
            return build(child(node, 0), no, yes, missing.opposite)
        case .conditional:
            let then = build(child(node, 1), yes, no, missing)
            let otherwise = build(child(node, 2), yes, no, missing)
            return build(child(node, 0), then, otherwise, .leaves)
        case .literal where tree.literals[Int(here.payload)].kind == .bool:
            return tree.literals[Int(here.payload)].isTrue ? yes : no
        case .operation:
            if let test = comparison(node, yes, no, missing) { return add(test) }
        case .loop:
            if let test = search(node, yes, no, missing) { return add(test) }
        default: break
        }
        if here.kind == .has, let slot = slot(of: node) {
            return add(Test(code: .isSet, missing: missing, term: UInt32(slot), ifTrue: yes, ifFalse: no))
        }
        return add(Test(code: .isTrue, missing: missing, term: term(node), ifTrue: yes, ifFalse: no))
    }

    private mutating func add(_ test: Test) -> UInt32 {
        program.tests.append(test)
        return UInt32(program.tests.count - 1)
    }

    /// The slot that a node is, and nothing else.
    private func slot(of node: UInt32) -> Int? {
        let here = tree.nodes[Int(node)]
        guard case .slot(let slot) = resolutions[Int(node)], slot < Limits.slots, here.kind == .name || here.flag & 1 == 0
        else { return nil }
        return slot
    }

    /// What a test looks at: the node's slot, or its code.
    private mutating func term(_ node: UInt32) -> UInt32 {
        if tree.nodes[Int(node)].kind != .has, let slot = slot(of: node) { return UInt32(slot) }
        return Test.codeTerm | codeTerm(node)
    }

    /// The expression of a node as a term: its code is there once, and is run once a decision, however many tests look at
    /// it.
    private mutating func codeTerm(_ node: UInt32) -> UInt32 {
        let start = program.code.count
        let before = stack
        stack = 0
        emit(node)
        append(.end, at: node)
        stack = before
        program.stackSize = max(program.stackSize, deepest)
        var hash: UInt64 = 0
        for index in start..<program.code.count {
            let step = program.code[index]
            hash = HashTable.mix(hash, UInt64(step.code.rawValue) << 56 ^ UInt64(step.b) << 32 ^ UInt64(operand(step, start)))
        }
        var search = codeTerms.search(hash)
        while let known = codeTerms.next(&search) {
            if isSame(Int(program.codeTerms[known]), start) {
                program.code.removeLast(program.code.count - start)
                program.offsets.removeLast(program.offsets.count - start)
                return UInt32(known)
            }
        }
        program.codeTerms.append(UInt32(start))
        codeTerms.add(hash, program.codeTerms.count - 1)
        return UInt32(program.codeTerms.count - 1)
    }

    /// What tells an instruction from another at the same place: jumps are counted from the start of their code.
    private func operand(_ step: Instruction, _ start: Int) -> UInt32 {
        switch step.code {
        case .jump, .jumpIfFalse, .jumpIfTrue, .choose, .loop, .loopFilter, .loopCollect, .optionalValue:
            step.c &- UInt32(start)
        default: step.c
        }
    }

    private func isSame(_ known: Int, _ start: Int) -> Bool {
        guard known + program.code.count - start <= start else { return false }
        for index in 0..<program.code.count - start {
            let (a, b) = (program.code[known + index], program.code[start + index])
            if a.code != b.code || a.a != b.a || a.b != b.b || operand(a, known) != operand(b, start) { return false }
        }
        return true
    }

    // MARK: Comparisons

    /// The constant that a node is, if it is one.
    private mutating func constantValue(_ node: UInt32) -> Value? {
        guard isConstant(node) else { return nil }
        let (start, patterns, before) = (program.code.count, program.patterns.count, stack)
        emit(node)
        let count = program.code.count - start
        let step = program.code[start]
        program.code.removeLast(count)
        program.offsets.removeLast(count)
        dropPatterns(from: patterns)
        stack = before
        return count == 1 && step.code == .constant ? program.constants[Int(step.c)] : nil
    }

    private mutating func symbol(_ text: Value) -> UInt64 {
        UInt64(program.symbols.add(Int(text.bits), Int(text.extra), program.pool))
    }

    /// Whether tests know what to do with values of a type, or with some that a `dyn` may be.
    private func isTestable(_ type: Type) -> Bool {
        switch type {
        case .dyn, .bool, .int, .double, .string, .duration: true
        default: false
        }
    }

    /// A comparison with a constant, on either side.
    private mutating func comparison(_ node: UInt32, _ yes: UInt32, _ no: UInt32, _ missing: Test.Missing) -> Test? {
        guard tree.nodes[Int(node)].childCount == 2, let relation = Operator(rawValue: tree.nodes[Int(node)].payload) else {
            return nil
        }
        let (left, right) = (child(node, 0), child(node, 1))
        if relation == .contained { return membership(left, right, yes, no, missing) }
        if isTestable(types[Int(left)]), let value = constantValue(right) {
            return comparison(left, relation, value, yes, no, missing)
        }
        if isTestable(types[Int(right)]), let value = constantValue(left) {
            return comparison(right, relation.mirrored, value, yes, no, missing)
        }
        return nil
    }

    private mutating func comparison(
        _ node: UInt32, _ relation: Operator, _ value: Value, _ yes: UInt32, _ no: UInt32, _ missing: Test.Missing
    ) -> Test? {
        guard let order = Test.Relation(relation), !isConstant(node) else { return nil }
        let code: Test.Code
        var operand = value.bits
        switch (value.kind, relation) {
        case (.int, _): code = .int
        case (.double, _): code = .double
        case (.duration, _): code = .duration
        case (.bool, .equal), (.bool, .notEqual): code = .isTrue
        case (.string, .equal), (.string, .notEqual):
            code = .text
            operand = symbol(value)
        default: return nil
        }
        let isTurned = (code == .text || code == .isTrue) && (relation == .notEqual) != (code == .isTrue && value.bits == 0)
        return Test(
            code: code, relation: order, missing: isTurned ? missing.opposite : missing,
            term: term(node), ifTrue: isTurned ? no : yes, ifFalse: isTurned ? yes : no, operand: operand)
    }

    /// `term in ["x", "y"]` and `"x" in term`.
    private mutating func membership(
        _ left: UInt32, _ right: UInt32, _ yes: UInt32, _ no: UInt32, _ missing: Test.Missing
    ) -> Test? {
        if isTestable(types[Int(left)]), !isConstant(left), let list = constantValue(right), list.kind == .list {
            let start = Int(list.bits)
            for index in 0..<Int(list.extra) where program.values[start + index].kind != .string { return nil }
            let first = program.symbolLists.count
            for index in 0..<Int(list.extra) {
                let known = symbol(program.values[start + index])
                program.symbolLists.append(UInt32(known))
            }
            return Test(
                code: .textAmong, missing: missing, term: term(left), ifTrue: yes, ifFalse: no,
                operand: UInt64(first) | UInt64(list.extra) << 32)
        }
        switch types[Int(right)] {
        case .list, .dyn: break
        default: return nil
        }
        guard !isConstant(right), let text = constantValue(left), text.kind == .string else { return nil }
        return Test(code: .hasText, missing: missing, term: term(right), ifTrue: yes, ifFalse: no, operand: symbol(text))
    }

    /// `term.exists(x, x == "a")` is `"a" in term`.
    private mutating func search(_ node: UInt32, _ yes: UInt32, _ no: UInt32, _ missing: Test.Missing) -> Test? {
        let here = tree.nodes[Int(node)]
        guard here.flag == LoopKind.exists.rawValue, here.second == Node.none, here.childCount == 2,
            case .local(let place) = resolutions[Int(node)], case .list = types[Int(child(node, 0))]
        else { return nil }
        let body = child(node, 1)
        let comparison = tree.nodes[Int(body)]
        guard comparison.kind == .operation, comparison.payload == Operator.equal.rawValue else { return nil }
        for side in 0..<2 {
            let (name, other) = (child(body, side), child(body, 1 - side))
            guard case .local(place) = resolutions[Int(name)], tree.nodes[Int(name)].kind == .name,
                let text = constantValue(other), text.kind == .string
            else { continue }
            let range = child(node, 0)
            if isConstant(range) { return nil }
            return Test(
                code: .hasText, missing: missing, term: term(range), ifTrue: yes, ifFalse: no, operand: symbol(text))
        }
        return nil
    }

    // MARK: The end

    /// Gives every term its number, and lets texts be compared by number.
    mutating func numberTerms() {
        for index in program.tests.indices { program.tests[index].term = numbered(program.tests[index].term) }
        for index in program.index.columns.indices {
            program.index.columns[index].term = numbered(program.index.columns[index].term)
        }
        makeAlphabets()
        for index in program.tests.indices { program.tests[index] = numbered(program.tests[index]) }
        for column in program.index.columns where column.kind == .text || column.kind == .member {
            let alphabet = program.alphabets[Int(column.term)]
            for key in column.keys where alphabet.isNarrow {
                let symbol = UInt32(truncatingIfNeeded: program.index.keys[key].bits)
                program.index.keys[key].bits = UInt64(program.bit(symbol, alphabet).trailingZeroBitCount)
            }
        }
    }

    /// What each term is compared with.
    private mutating func makeAlphabets() {
        var symbols = [[UInt32]](repeating: [], count: program.termCount)
        for test in program.tests {
            switch test.code {
            case .text, .hasText: symbols[Int(test.term)].append(UInt32(test.operand))
            case .textAmong: symbols[Int(test.term)] += program.symbolLists[stretch(test.operand)]
            default: break
            }
        }
        program.alphabets = Array(repeating: Alphabet(), count: program.termCount)
        for term in symbols.indices where !symbols[term].isEmpty {
            symbols[term].putInOrder { $0 < $1 }
            let first = program.letters.count
            for symbol in symbols[term] where program.letters.count == first || program.letters.last?.symbol != symbol {
                let head = Letter.head(program.symbols.text(symbol, program.pool.span))
                program.letters.append(Letter(head: head, symbol: symbol))
            }
            let count = program.letters.count - first
            let isNarrow = count <= Alphabet.narrow
            if !isNarrow { program.letters.removeLast(count) }
            program.alphabets[term] = Alphabet(isNarrow: isNarrow, first: UInt32(first), count: UInt32(count))
        }
    }

    private func stretch(_ operand: UInt64) -> Range<Int> {
        let first = Int(operand & 0xFFFF_FFFF)
        return first..<first + Int(operand >> 32)
    }

    /// A test as its term's alphabet wants it.
    private func numbered(_ plain: Test) -> Test {
        let alphabet = program.alphabets[Int(plain.term)]
        let isNarrow = alphabet.isNarrow
        var test = plain
        switch test.code {
        case .text, .hasText:
            let isText = test.code == .text
            if isNarrow { test.operand = program.bit(UInt32(test.operand), alphabet) }
            test.code = isNarrow ? (isText ? .textBits : .listBits) : isText ? .symbol : .hasSymbol
        case .textAmong:
            test.code = isNarrow ? .textBits : .symbolAmong
            if !isNarrow { break }
            var bits: UInt64 = 0
            for symbol in program.symbolLists[stretch(test.operand)] { bits |= program.bit(symbol, alphabet) }
            test.operand = bits
        default: break
        }
        return test
    }

    private func numbered(_ term: UInt32) -> UInt32 {
        term & Test.codeTerm == 0 ? term : UInt32(program.slotCount) + (term & ~Test.codeTerm)
    }
}
