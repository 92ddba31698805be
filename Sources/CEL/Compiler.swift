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
public struct Compiler: ~Copyable {
    var program = Program()
    var tree = Tree()
    var resolutions: [Resolution] = []
    var stack = 0
    var deepest = 0
    var types: [Type] = []
    /// What is there already, by hash: constants, their texts, and code that tests look at.
    private var constants = HashTable()
    private var texts = HashTable()
    private var aggregates = HashTable()
    private var patterns = HashTable()
    private var categories = UnicodeCategories()
    var tables = TableBuilder()
    var codeTerms = HashTable()
    /// The group that expressions are added to.
    var group = GroupBuilder()

    /// A compiler without expressions.
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
        let condition = type == .bool ? build(tree.root, Test.yes, Test.no, .isFalse) : Program.none
        if type == .bool, group.isOpen { collectConjuncts(tree.root) }
        program.entries.append(
            Program.Entry(
                start: start, stack: UInt16(min(deepest, 65_535)), locals: UInt16(checker.localCount),
                condition: condition, source: UInt32(program.sources.count)))
        program.sources.append(source)
        program.types.append(type)
        program.stackSize = max(program.stackSize, deepest)
        program.localCount = max(program.localCount, checker.localCount)
        return Expression(number: program.entries.count - 1, type: type, slots: slotsRead(from: Int(start)))
    }

    /// The slots that the code from `start` on reads. Parts that became constants and code of tests repeat what is there.
    private func slotsRead(from start: Int) -> [Int] {
        var slots: [Int] = []
        for step in program.code[start...] where step.code == .slot || step.code == .slotIsSet {
            slots.append(Int(step.c))
        }
        slots.putInOrder { $0 < $1 }
        var distinct: [Int] = []
        for slot in slots where distinct.last != slot { distinct.append(slot) }
        return distinct
    }

    /// The program of everything added.
    public consuming func finish() -> Program {
        endGroup()
        numberTerms()
        var hash: UInt64 = 14_695_981_039_346_656_037
        func mix(_ value: UInt64) { hash = (hash ^ value) &* 1_099_511_628_211 ^ hash >> 29 }
        for source in program.sources {
            for byte in source { mix(UInt64(byte)) }
            mix(256)
        }
        for step in program.code { mix(UInt64(step.code.rawValue) << 48 | UInt64(step.b) << 32 | UInt64(step.c)) }
        for test in program.tests { mix(test.operand ^ UInt64(test.term) << 32 ^ UInt64(test.code.rawValue)) }
        for group in program.index.groups { mix(UInt64(group.first) << 32 | UInt64(group.count)) }
        program.fingerprint = hash | 1
        return program
    }

    // MARK: Emission

    mutating func append(
        _ code: Opcode, _ a: UInt8 = 0, _ b: UInt16 = 0, _ c: Int = 0, at node: UInt32
    ) {
        program.code.append(Instruction(code: code, a: a, b: b, c: UInt32(c)))
        program.offsets.append(tree.nodes[Int(node)].offset)
    }

    private mutating func pushed(_ count: Int = 1) {
        stack += count
        deepest = max(deepest, stack)
    }

    func child(_ node: UInt32, _ index: Int) -> UInt32 { tree.child(node, index) }

    /// Emits code that leaves the node's value on the stack; a constant subexpression becomes one constant.
    mutating func emit(_ node: UInt32) {
        let start = program.code.count
        let kind = tree.nodes[Int(node)].kind
        if kind != .literal, isConstant(node) {
            let (stackBefore, patterns) = (stack, program.patterns.count)
            emitNode(node)
            append(.end, at: node)
            if let value = fold(start) {
                program.code.removeLast(program.code.count - start)
                program.offsets.removeLast(program.offsets.count - start)
                dropPatterns(from: patterns)
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
    func isConstant(_ node: UInt32) -> Bool {
        let here = tree.nodes[Int(node)]
        switch here.kind {
        case .literal: return true
        case .name, .select, .has, .index:
            switch resolutions[Int(node)] {
            case .typeValue, .constant: return true
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
        machine.makeRoom(stack: deepest, locals: 0)
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
        case .string, .bytes:
            let start = Int(value.bits)
            // What is long stays to be made when it is needed: a program keeps every constant that it has ever had.
            guard Int(value.extra) <= Limits.foldedBytes else { return nil }
            return text(Array(machine.heap.bytes[start..<start + Int(value.extra)]), value.kind)
        case .ip, .cidr:
            let start = Int(value.bits)
            kept.bits = text(Array(machine.heap.bytes[start..<start + MachineLimits.byteCount(value)]), .bytes).bits
        case .list, .map, .optional:
            let count = Int(value.extra) * (value.kind == .map ? 2 : 1)
            var elements: [Value] = []
            for index in 0..<count {
                guard let element = keep(machine.heap.values[Int(value.bits) + index], machine, depth + 1) else {
                    return nil
                }
                elements.append(element)
            }
            kept.bits = UInt64(aggregate(elements))
        default: break
        }
        return kept
    }

    /// Where elements of a constant lie in a row; the same elements lie there once, so that the same list in two rules is the
    /// same constant.
    mutating func aggregate(_ elements: [Value]) -> Int {
        var hash = UInt64(elements.count)
        for element in elements { hash = HashTable.mix(hash, element.hash) }
        var search = aggregates.search(hash)
        while let place = aggregates.next(&search) {
            var index = 0
            while index < elements.count, place + index < program.values.count,
                program.values[place + index].isSame(elements[index])
            {
                index += 1
            }
            if index == elements.count { return place }
        }
        aggregates.add(hash, program.values.count)
        program.values += elements
        return program.values.count - elements.count
    }

    private mutating func constant(_ value: Value) -> Int {
        var search = constants.search(value.hash)
        while let index = constants.next(&search) {
            if program.constants[index].isSame(value) { return index }
        }
        program.constants.append(value)
        constants.add(value.hash, program.constants.count - 1)
        return program.constants.count - 1
    }

    private mutating func pushConstant(_ value: Value, at node: UInt32) {
        append(.constant, 0, 0, constant(value), at: node)
        pushed()
    }

    /// The constant of a text, which lies in the pool once.
    private mutating func text(_ bytes: [UInt8], _ kind: Kind = .string) -> Value {
        var hash = UInt64(kind.rawValue)
        for byte in bytes { hash = HashTable.mix(hash, UInt64(byte)) }
        var search = texts.search(hash)
        while let index = texts.next(&search) {
            let known = program.constants[index]
            let start = Int(known.bits)
            if known.kind == kind, bytesEqual(program.pool, start, Int(known.extra), bytes) { return known }
        }
        let value = Value(kind, bits: UInt64(program.pool.count), extra: UInt32(bytes.count))
        program.pool += bytes
        texts.add(hash, constant(value))
        return value
    }

    private func bytesEqual(_ pool: [UInt8], _ start: Int, _ count: Int, _ bytes: [UInt8]) -> Bool {
        if count != bytes.count { return false }
        for index in 0..<count where pool[start + index] != bytes[index] { return false }
        return true
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
        case .constant(let value):
            pushConstant(here.kind == .has ? .bool(true) : value, at: node)
            if here.kind != .has, here.flag == 1 { append(.optionalWrap, at: node) }
            return
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
        let source = Array(tree.pool[start..<start + Int(literal.extra)])
        let key = constant(text(source))
        var search = patterns.search(UInt64(key))
        while let known = patterns.next(&search) {
            // What was compiled for a part that became a constant is gone again.
            if known < program.patterns.count, program.patternTexts[known] == UInt32(key) {
                emit(child(node, first))
                append(.matches, 0, 0, known, at: node)
                return true
            }
        }
        var work = Limits.regularExpressionSteps
        guard let pattern = RegularExpression.compile(source, isLasting: true, &categories, work: &work) else { return false }
        emit(child(node, first))
        append(.matches, 0, 0, program.patterns.count, at: node)
        patterns.add(UInt64(key), program.patterns.count)
        program.patterns.append(pattern)
        program.patternTexts.append(UInt32(key))
        return true
    }

    /// Takes back the patterns from a number on.
    mutating func dropPatterns(from first: Int) {
        program.patterns.removeLast(program.patterns.count - first)
        program.patternTexts.removeLast(program.patternTexts.count - first)
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
