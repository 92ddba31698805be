// Source to program: parse, check, emit, fold what is constant. It need not know values of bindings.

import Formats

/// What the value of an expression must be.
public enum Expectation: Sendable {
    case anything
    /// `bool`, or `dyn` that evaluation must find to be one: `when:` of rules, filters, audiences.
    case condition
}

/// Compiles expressions into one program.
///
/// ```swift
/// var compiler = Compiler()
/// let rule = try compiler.add("profile.orders > 3", in: environment, expecting: .condition)
/// let program = compiler.finish()
/// ```
public struct Compiler {
    private var program = Program()
    private var tree = Tree()
    private var resolutions: [Resolution] = []
    private var stack = 0
    private var deepest = 0
    private var types: [Type] = []
    /// Parts of conditions that the general machine evaluates: where their code is, and their memo.
    private var parts: [(hash: UInt64, start: Int, count: Int, memo: UInt32)] = []

    public init() {}

    /// Compiles a single expression.
    public static func compile(
        _ source: String, in environment: Environment, expecting: Expectation = .anything
    ) throws(CompileError) -> Program {
        var compiler = Compiler()
        _ = try compiler.add(source, in: environment, expecting: expecting)
        return compiler.finish()
    }

    /// Adds an expression; see the other `add`.
    public mutating func add(
        _ source: String, in environment: Environment, expecting: Expectation = .anything
    ) throws(CompileError) -> Expression {
        try add(Array(source.utf8), in: environment, expecting: expecting)
    }

    /// Adds an expression.
    ///
    /// - Parameters:
    ///   - source: UTF-8, at most `Limits.sourceBytes`.
    ///   - environment: the names in scope; environments of one program may differ, but must number slots alike.
    /// - Returns: its number, counted from 0 in the order of adding, and its static type.
    /// - Throws: `CompileError` with line, column, caret and, for a misspelt name, a suggestion. The program is then as
    ///   before.
    public mutating func add(
        _ source: [UInt8], in environment: Environment, expecting: Expectation = .anything
    ) throws(CompileError) -> Expression {
        tree = try Parser.parse(source, expandsMacros: !environment.disablesMacros)
        var checker = Checker(tree, environment, source)
        let type = try checker.run()
        if expecting == .condition, type != .bool, type != .dyn {
            throw CompileError(
                source, at: Int(tree.nodes[Int(tree.root)].offset),
                "a condition must be bool, not " + type.description)
        }
        resolutions = checker.resolutions
        types = checker.types
        let start = UInt32(program.code.count)
        stack = 0
        deepest = 0
        emit(tree.root)
        append(.end, at: tree.root)
        // Only a condition that is bool for certain has verdicts instead of values.
        let condition = type == .bool ? build(tree.root, Test.yes, Test.no) : Program.none
        program.entries.append(
            Program.Entry(
                start: start, stack: UInt16(min(deepest, 65_535)), locals: UInt16(checker.localCount),
                condition: condition, source: UInt32(program.sources.count)))
        program.sources.append(source)
        program.types.append(type)
        program.stackSize = max(program.stackSize, deepest)
        program.localCount = max(program.localCount, checker.localCount)
        return Expression(number: program.entries.count - 1, type: type)
    }

    /// The program of everything added.
    public consuming func finish() -> Program {
        var hash: UInt64 = 14_695_981_039_346_656_037
        func mix(_ value: UInt64) { hash = (hash ^ value) &* 1_099_511_628_211 ^ hash >> 29 }
        for source in program.sources {
            for byte in source { mix(UInt64(byte)) }
            mix(256)
        }
        for step in program.code { mix(UInt64(step.code.rawValue) << 48 | UInt64(step.b) << 32 | UInt64(step.c)) }
        for test in program.tests { mix(test.operand ^ UInt64(test.slot) << 32 ^ UInt64(test.count)) }
        program.fingerprint = hash | 1
        return program
    }

    // MARK: Conditions

    /// Makes tests of a condition that goes on at `yes` or `no`; returns where it begins.
    private mutating func build(_ node: UInt32, _ yes: UInt32, _ no: UInt32) -> UInt32 {
        let here = tree.nodes[Int(node)]
        switch here.kind {
        case .and, .or:
            var place = build(child(node, Int(here.childCount) - 1), yes, no)
            for index in (0..<Int(here.childCount) - 1).reversed() {
                place = here.kind == .and ? build(child(node, index), place, no) : build(child(node, index), yes, place)
            }
            return place
        case .operation where here.payload == Operator.not.rawValue: return build(child(node, 0), no, yes)
        case .conditional:
            let then = build(child(node, 1), yes, no)
            let otherwise = build(child(node, 2), yes, no)
            return build(child(node, 0), then, otherwise)
        case .literal where tree.literals[Int(here.payload)].kind == .bool:
            return tree.literals[Int(here.payload)].isTrue ? yes : no
        case .operation:
            if let test = comparison(node, yes, no) { return add(test) }
        default:
            if let slot = slot(of: node), here.kind == .has || types[Int(node)] == .bool {
                return add(Test(code: here.kind == .has ? .isSet : .isTrue, slot: slot, ifTrue: yes, ifFalse: no))
            }
        }
        return general(node, yes, no)
    }

    private mutating func add(_ test: Test) -> UInt32 {
        program.tests.append(test)
        return UInt32(program.tests.count - 1)
    }

    /// The slot that a node is, and nothing else.
    private func slot(of node: UInt32) -> UInt16? {
        let here = tree.nodes[Int(node)]
        guard case .slot(let slot) = resolutions[Int(node)], slot < Limits.slots,
            here.kind == .name || here.flag & 1 == 0
        else { return nil }
        return UInt16(slot)
    }

    /// The constant that a node is, if it is one.
    private mutating func constantValue(_ node: UInt32) -> Value? {
        guard isConstant(node) else { return nil }
        let (start, patterns, before) = (program.code.count, program.patterns.count, stack)
        emit(node)
        let count = program.code.count - start
        let step = program.code[start]
        program.code.removeLast(count)
        program.offsets.removeLast(count)
        program.patterns.removeLast(program.patterns.count - patterns)
        stack = before
        return count == 1 && step.code == .constant ? program.constants[Int(step.c)] : nil
    }

    private mutating func symbol(_ text: Value) -> UInt32 {
        program.symbols.add(Int(text.bits), Int(text.extra), program.pool)
    }

    /// A comparison of a slot with a constant, on either side.
    private mutating func comparison(_ node: UInt32, _ yes: UInt32, _ no: UInt32) -> Test? {
        guard tree.nodes[Int(node)].childCount == 2, let relation = Operator(rawValue: tree.nodes[Int(node)].payload) else {
            return nil
        }
        let (left, right) = (child(node, 0), child(node, 1))
        if relation == .contained { return membership(left, right, yes, no) }
        if let slot = slot(of: left), tree.nodes[Int(left)].kind != .has, let value = constantValue(right) {
            return comparison(slot, relation, value, yes, no)
        }
        if let slot = slot(of: right), tree.nodes[Int(right)].kind != .has, let value = constantValue(left) {
            return comparison(slot, relation.mirrored, value, yes, no)
        }
        return nil
    }

    private mutating func comparison(
        _ slot: UInt16, _ relation: Operator, _ value: Value, _ yes: UInt32, _ no: UInt32
    ) -> Test? {
        guard relation.rawValue >= Operator.equal.rawValue, relation.rawValue <= Operator.greaterOrEqual.rawValue else {
            return nil
        }
        switch value.kind {
        case .int, .double:
            return Test(
                code: value.kind == .int ? .int : .double, relation: UInt8(relation.rawValue), slot: slot, ifTrue: yes,
                ifFalse: no, operand: value.bits)
        case .string where relation == .equal:
            return Test(code: .symbol, slot: slot, ifTrue: yes, ifFalse: no, operand: UInt64(symbol(value)))
        case .string where relation == .notEqual:
            return Test(code: .symbol, slot: slot, ifTrue: no, ifFalse: yes, operand: UInt64(symbol(value)))
        default: return nil
        }
    }

    private mutating func membership(_ left: UInt32, _ right: UInt32, _ yes: UInt32, _ no: UInt32) -> Test? {
        if let slot = slot(of: left), tree.nodes[Int(left)].kind != .has, let list = constantValue(right),
            list.kind == .list
        {
            let start = Int(list.bits)
            for index in 0..<Int(list.extra) where program.values[start + index].kind != .string { return nil }
            let first = program.symbolLists.count
            for index in 0..<Int(list.extra) {
                let known = symbol(program.values[start + index])
                program.symbolLists.append(known)
            }
            return Test(
                code: .symbolAmong, slot: slot, count: list.extra, ifTrue: yes, ifFalse: no, operand: UInt64(first))
        }
        if let slot = slot(of: right), tree.nodes[Int(right)].kind != .has, let text = constantValue(left),
            text.kind == .string
        {
            return Test(code: .hasSymbol, slot: slot, ifTrue: yes, ifFalse: no, operand: UInt64(symbol(text)))
        }
        return nil
    }

    /// A part that the general machine evaluates. The same part in another expression has the same memo, and is evaluated
    /// once a decision.
    private mutating func general(_ node: UInt32, _ yes: UInt32, _ no: UInt32) -> UInt32 {
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
            // Jumps are relative to the start for this purpose.
            hash = (hash ^ UInt64(step.code.rawValue) << 56 ^ UInt64(step.b) << 32 ^ UInt64(normalized(step, start)))
                &* 0x9E37_79B9_7F4A_7C15 ^ hash >> 31
        }
        for part in parts where part.hash == hash && isSame(part.start, start) {
            program.code.removeLast(program.code.count - start)
            program.offsets.removeLast(program.offsets.count - start)
            return add(
                Test(code: .general, count: part.memo, ifTrue: yes, ifFalse: no, operand: UInt64(part.start)))
        }
        parts.append((hash, start, program.code.count - start, UInt32(program.memoCount)))
        program.memoCount += 1
        return add(
            Test(code: .general, count: UInt32(program.memoCount - 1), ifTrue: yes, ifFalse: no, operand: UInt64(start)))
    }

    private func normalized(_ step: Instruction, _ start: Int) -> UInt32 {
        switch step.code {
        case .jump, .jumpIfFalse, .jumpIfTrue, .choose, .loop, .loopFilter, .loopCollect, .optionalValue:
            step.c - UInt32(start)
        // Two patterns are told apart, although their texts may be the same.
        default: step.c
        }
    }

    private func isSame(_ known: Int, _ start: Int) -> Bool {
        for index in 0..<program.code.count - start {
            let (a, b) = (program.code[known + index], program.code[start + index])
            if a.code != b.code || a.a != b.a || a.b != b.b || normalized(a, known) != normalized(b, start) { return false }
        }
        return true
    }

    // MARK: Emission

    private mutating func append(
        _ code: Opcode, _ a: UInt8 = 0, _ b: UInt16 = 0, _ c: Int = 0, at node: UInt32
    ) {
        program.code.append(Instruction(code: code, a: a, b: b, c: UInt32(c)))
        program.offsets.append(tree.nodes[Int(node)].offset)
    }

    private mutating func pushed(_ count: Int = 1) {
        stack += count
        deepest = max(deepest, stack)
    }

    private func child(_ node: UInt32, _ index: Int) -> UInt32 { tree.child(node, index) }

    /// Emits code that leaves the node's value on the stack; a constant subexpression becomes one constant.
    private mutating func emit(_ node: UInt32) {
        let start = program.code.count
        let kind = tree.nodes[Int(node)].kind
        if kind != .literal, isConstant(node) {
            let (stackBefore, patterns) = (stack, program.patterns.count)
            emitNode(node)
            append(.end, at: node)
            if let value = fold(start) {
                program.code.removeLast(program.code.count - start)
                program.offsets.removeLast(program.offsets.count - start)
                program.patterns.removeLast(program.patterns.count - patterns)
                stack = stackBefore
                pushConstant(value, at: node)
            } else {
                program.code.removeLast()
                program.offsets.removeLast()
            }
            return
        }
        emitNode(node)
    }

    /// Whether nothing outside the expression decides the node's value.
    private func isConstant(_ node: UInt32) -> Bool {
        let here = tree.nodes[Int(node)]
        switch here.kind {
        case .literal: return true
        case .name, .select, .has, .index:
            switch resolutions[Int(node)] {
            case .typeValue: return true
            case .none: return here.kind != .name && childrenAreConstant(node)
            default: return false
            }
        case .call, .memberCall:
            guard case .function(let function, let skipsTarget) = resolutions[Int(node)] else { return false }
            if function == .dyn { return false }
            return childrenAreConstant(node, from: skipsTarget ? 1 : 0)
        case .loop, .bind, .optionalMap: return false
        default: return childrenAreConstant(node)
        }
    }

    private func childrenAreConstant(_ node: UInt32, from first: Int = 0) -> Bool {
        for index in first..<Int(tree.nodes[Int(node)].childCount) where !isConstant(child(node, index)) { return false }
        return true
    }

    /// Runs the code from `start` on, and copies its value among the constants; nil if it fails.
    private mutating func fold(_ start: Int) -> Value? {
        var machine = Machine(zones: TimeZones())
        program.stackSize = max(program.stackSize, deepest)
        machine.prepare(program)
        let outcome = machine.start(UInt32(start), Context(program, Span()))
        guard outcome == .done, !machine.result.isError else { return nil }
        return keep(machine.result, machine, 0)
    }

    /// Copies a value of the machine's memory among the constants.
    private mutating func keep(_ value: Value, _ machine: borrowing Machine, _ depth: Int) -> Value? {
        guard depth < Limits.valueNesting else { return nil }
        guard value.region == Region.arena else { return value }
        var kept = value
        kept.region = Region.constants
        switch value.kind {
        case .string, .bytes, .ip, .cidr:
            let start = Int(value.bits)
            kept.bits = UInt64(program.pool.count)
            program.pool += machine.heap.bytes[start..<start + MachineLimits.byteCount(value)]
        case .list, .map, .optional:
            let count = Int(value.extra) * (value.kind == .map ? 2 : 1)
            var elements: [Value] = []
            for index in 0..<count {
                guard let element = keep(machine.heap.values[Int(value.bits) + index], machine, depth + 1) else {
                    return nil
                }
                elements.append(element)
            }
            kept.bits = UInt64(program.values.count)
            program.values += elements
        default: break
        }
        return kept
    }

    private mutating func constant(_ value: Value) -> Int {
        for (index, known) in program.constants.enumerated()
        where known.kind == value.kind && known.bits == value.bits && known.extra == value.extra
            && known.region == value.region
        {
            return index
        }
        program.constants.append(value)
        return program.constants.count - 1
    }

    private mutating func pushConstant(_ value: Value, at node: UInt32) {
        append(.constant, 0, 0, constant(value), at: node)
        pushed()
    }

    /// The constant of a text, which lies in the pool once.
    private mutating func text(_ bytes: [UInt8], _ kind: Kind = .string) -> Value {
        for known in program.constants where known.kind == kind && Int(known.extra) == bytes.count {
            let start = Int(known.bits)
            if Array(program.pool[start..<start + bytes.count]) == bytes { return known }
        }
        let value = Value(kind, bits: UInt64(program.pool.count), extra: UInt32(bytes.count))
        program.pool += bytes
        return value
    }


    private mutating func patch(_ instruction: Int) {
        program.code[instruction].c = UInt32(program.code.count)
    }

    private mutating func useSlot(_ slot: Int) -> Int {
        program.slotCount = max(program.slotCount, slot + 1)
        return slot
    }

    private mutating func emitNode(_ node: UInt32) {
        let here = tree.nodes[Int(node)]
        switch resolutions[Int(node)] {
        case .failing(let reason):
            append(.fail, 0, 0, Int(reason.rawValue), at: node)
            return pushed()
        case .slot(let slot):
            append(here.kind == .has ? .slotIsSet : .slot, here.flag & (here.kind == .name ? 0 : 1), 0, useSlot(slot), at: node)
            return pushed()
        case .document(let number):
            append(.document, 0, 0, number, at: node)
            return pushed()
        case .typeValue(let kind): return pushConstant(Value(.type, bits: UInt64(kind.rawValue)), at: node)
        default: break
        }
        switch here.kind {
        case .literal:
            var value = tree.literals[Int(here.payload)]
            if value.kind == .string || value.kind == .bytes {
                let start = Int(value.bits)
                value = text(Array(tree.pool[start..<start + Int(value.extra)]), value.kind)
            }
            pushConstant(value, at: node)
        case .name:
            if case .local(let place) = resolutions[Int(node)] {
                append(.local, 0, 0, place, at: node)
            } else {
                append(.fail, 0, 0, Int(EvaluationError.Reason.unknownName.rawValue), at: node)
            }
            pushed()
        case .select, .has:
            emit(child(node, 0))
            let key = constant(text(tree.name(node)))
            append(here.kind == .has ? .has : .select, here.flag, 0, key, at: node)
        case .index:
            emit(child(node, 0))
            emit(child(node, 1))
            append(.index, here.flag, 0, 0, at: node)
            stack -= 1
        case .call, .memberCall: emitCall(node)
        case .operation: emitOperation(node)
        case .list:
            emitChildren(node)
            append(.list, 0, 0, Int(here.childCount), at: node)
            stack -= Int(here.childCount)
            pushed()
        case .map:
            emitChildren(node)
            append(.map, 0, 0, Int(here.childCount) / 2, at: node)
            stack -= Int(here.childCount)
            pushed()
        case .optionalElement:
            emit(child(node, 0))
            append(.unwrap, at: node)
        case .and, .or: emitLogic(node)
        case .conditional: emitConditional(node)
        case .loop: emitLoop(node)
        case .bind:
            guard case .local(let place) = resolutions[Int(node)] else { return }
            emit(child(node, 0))
            append(.setLocal, 0, 0, place, at: node)
            stack -= 1
            emit(child(node, 1))
        case .optionalMap:
            guard case .local(let place) = resolutions[Int(node)] else { return }
            emit(child(node, 0))
            let branch = program.code.count
            append(.optionalValue, at: node)
            append(.setLocal, 0, 0, place, at: node)
            stack -= 1
            emit(child(node, 1))
            append(.optionalWrap, here.flag, at: node)
            patch(branch)
        }
    }

    private mutating func emitChildren(_ node: UInt32, from first: Int = 0) {
        for index in first..<Int(tree.nodes[Int(node)].childCount) { emit(child(node, index)) }
    }

    private mutating func emitCall(_ node: UInt32) {
        guard case .function(let function, let skipsTarget) = resolutions[Int(node)] else {
            append(.fail, 0, 0, Int(EvaluationError.Reason.unknownFunction.rawValue), at: node)
            return pushed()
        }
        let first = skipsTarget ? 1 : 0
        let count = Int(tree.nodes[Int(node)].childCount) - first
        if function == .matches, count == 2, emitMatches(node, first) { return }
        if function == .dyn, count == 1 { return emit(child(node, first)) }
        if count > 255 {
            append(.fail, 0, 0, Int(EvaluationError.Reason.noOverload.rawValue), at: node)
            return pushed()
        }
        emitChildren(node, from: first)
        append(.call, UInt8(count), UInt16(function.rawValue), 0, at: node)
        stack -= count
        pushed()
    }

    /// `matches` with a literal pattern: compiled once. A pattern that is wrong stays a call, which says so.
    private mutating func emitMatches(_ node: UInt32, _ first: Int) -> Bool {
        let patternNode = tree.nodes[Int(child(node, first + 1))]
        guard patternNode.kind == .literal else { return false }
        let literal = tree.literals[Int(patternNode.payload)]
        guard literal.kind == .string else { return false }
        let start = Int(literal.bits)
        guard
            let pattern = RegularExpression.compile(
                Array(tree.pool[start..<start + Int(literal.extra)]), isLasting: true)
        else { return false }
        emit(child(node, first))
        append(.matches, 0, 0, program.patterns.count, at: node)
        program.patterns.append(pattern)
        return true
    }

    private mutating func emitOperation(_ node: UInt32) {
        let here = tree.nodes[Int(node)]
        emitChildren(node)
        let code = Opcode(rawValue: Opcode.add.rawValue + UInt8(here.payload)) ?? .add
        append(code, at: node)
        stack -= Int(here.childCount)
        pushed()
    }

    private mutating func emitLogic(_ node: UInt32) {
        let here = tree.nodes[Int(node)]
        emit(child(node, 0))
        var jumps: [Int] = []
        for index in 1..<Int(here.childCount) {
            jumps.append(program.code.count)
            append(here.kind == .and ? .jumpIfFalse : .jumpIfTrue, at: node)
            emit(child(node, index))
            append(here.kind == .and ? .and : .or, at: node)
            stack -= 1
        }
        for jump in jumps { patch(jump) }
    }

    private mutating func emitConditional(_ node: UInt32) {
        emit(child(node, 0))
        let choice = program.code.count
        append(.choose, at: node)
        let failure = program.code.count
        append(.jump, at: node)
        stack -= 1
        emit(child(node, 1))
        let done = program.code.count
        append(.jump, at: node)
        patch(choice)
        stack -= 1
        emit(child(node, 2))
        patch(done)
        patch(failure)
    }

    private mutating func emitLoop(_ node: UInt32) {
        guard case .local(let place) = resolutions[Int(node)] else { return }
        let here = tree.nodes[Int(node)]
        emit(child(node, 0))
        let start = program.code.count
        append(.loop, here.flag | (here.second == Node.none ? 0 : 0x80), UInt16(place), 0, at: node)
        stack -= 1
        let step = program.code.count
        append(.loopStep, at: node)
        if here.childCount == 3 {
            emit(child(node, 1))
            append(.loopFilter, 0, 0, step, at: node)
            stack -= 1
        }
        emit(child(node, Int(here.childCount) - 1))
        append(.loopCollect, 0, 0, step, at: node)
        stack -= 1
        patch(start)
        pushed()
    }
}
