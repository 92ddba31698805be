// The evaluator: runs one expression of a program over a stack of plain values. Names, fields and functions were
// resolved by the compiler; here is no name, no tree and no type but the kind of each value.

import Formats
import Synchronization

/// A loop in progress.
struct Frame {
    var kind: LoopKind
    var hasTwoVariables: Bool
    var local: UInt16
    var exit: UInt32
    var index: UInt32 = 0
    var count: UInt32
    /// The next node of a document's array or object.
    var cursor: UInt32 = 0
    /// Where this loop's results begin in `heap.pending`.
    var base: UInt32
    var found: UInt32 = 0
    var source: Value
    /// The first error of `all` and `exists`, which a later element may outweigh.
    var error = Value(.absent)
}

/// Why the machine stopped.
enum Outcome: Equatable {
    case done
    /// Needs the value of a slot, then `resume()`.
    case slot(Int)
    case document(Int)
}

/// The parts of a program, and the record, that an evaluation reads: borrowed for its time.
struct Context: ~Escapable {
    let code: Span<Instruction>
    let constants: Span<Value>
    let pool: Span<UInt8>
    let values: Span<Value>
    let keyIndex: Span<UInt32>
    let patterns: Span<RegularExpression>
    let record: Span<UInt8>

    @_lifetime(borrow program, copy record)
    @inline(__always)
    init(_ program: borrowing Program, _ record: Span<UInt8>) {
        code = program.code.span
        constants = program.constants.span
        pool = program.pool.span
        values = program.values.span
        keyIndex = program.keyIndex.span
        patterns = program.patterns.span
        self.record = record
    }
}

/// The machine with the memory that it keeps from one evaluation to the next, and the slots of this decision.
struct Machine: ~Copyable {
    var stack: [Value] = []
    var locals: [Value] = []
    var frames: [Frame] = []
    /// What conditions look at: the slots, then the expressions of `Program.codeTerms`. A cell counts if it has the stamp.
    var cells: [Cell] = []
    /// This decision; 0 is none.
    var stamp: UInt32 = 0
    /// Symbols of the texts in lists; see `Cell.bits`.
    var listedSymbols: [UInt32] = []
    /// The fingerprint of the program whose cells these are.
    var cellProgram: UInt64 = 0
    /// The rules of a group that can still be true, a bit each; see `RuleIndex.swift`.
    var candidates = Candidates()
    var heap = Heap()
    var documents = Documents()
    /// Steps left to this evaluation, and to this decision.
    var steps: Int64 = 0
    var budget: Int64 = Limits.decisionSteps
    var matcher = Matcher()
    var categories = UnicodeCategories()
    let zones: TimeZones
    var pc = 0
    /// Values on the stack.
    var sp = 0
    var result = Value.null
    /// Not used: a type with an atomic in it has an address, and so the machine is not copied to the stack for each call of
    /// a method, as the compiler does with plain values of half a kilobyte.
    private let pin = Atomic<UInt8>(0)

    init(zones: TimeZones) { self.zones = zones }

    /// Forgets the last decision.
    mutating func begin(isFirst: Bool) {
        heap.clear()
        if isFirst { budget = Limits.decisionSteps }
        forget()
        if documents.state != 0 { documents.clear() }
    }

    /// Lets go of the documents, and of what lies in them.
    mutating func end() {
        if documents.state != 0 {
            documents.clear()
            forget()
        }
    }

    /// Makes every cell one that has not been asked for.
    private mutating func forget() {
        stamp &+= 1
        // Emptying an array costs more than looking whether it is empty.
        if !listedSymbols.isEmpty { listedSymbols.removeAll(keepingCapacity: true) }
        if stamp == 0 {
            for index in cells.indices { cells[index] = Cell() }
            candidates.group = Program.none
            stamp = 1
        }
    }

    /// Makes room for a program.
    @inline(__always)
    mutating func prepare(_ program: borrowing Program) {
        if cellProgram != program.fingerprint || cells.count < program.termCount
            || stack.count <= program.stackSize || locals.count < program.localCount
        {
            adopt(program)
        }
    }

    private mutating func adopt(_ program: borrowing Program) {
        cellProgram = program.fingerprint
        forget()
        while cells.count < program.termCount { cells.append(Cell()) }
        makeRoom(stack: program.stackSize, locals: program.localCount)
    }

    /// Room for code by itself.
    mutating func makeRoom(stack depth: Int, locals count: Int) {
        while stack.count <= depth { stack.append(.null) }
        while locals.count < count { locals.append(.null) }
    }

    mutating func start(_ place: UInt32, _ c: Context) -> Outcome {
        steps = min(Limits.evaluationSteps, budget)
        if !frames.isEmpty { frames.removeAll(keepingCapacity: true) }
        sp = 0
        pc = Int(place)
        return resume(c)
    }

    mutating func provide(slot: Int, _ value: Value?) {
        cells[slot].value = value ?? .unset
        cells[slot].stamp = stamp
    }

    mutating func provide(document number: Int, _ document: JSONDocument?) {
        documents.provide(number, document)
    }

    /// An error that happened at the current instruction.
    func fail(_ reason: EvaluationError.Reason) -> Value {
        Value(.error, bits: UInt64(reason.rawValue), extra: UInt32(pc))
    }

    /// Takes `count` steps from the budget.
    @inline(__always)
    mutating func charge(_ count: Int) { steps -= Int64(count) }

    @inline(__always)
    private mutating func push(_ value: Value) {
        stack[sp] = value
        sp += 1
    }

    /// Runs until the end of the expression or until something must be provided.
    mutating func resume(_ c: Context) -> Outcome {
        while true {
            let step = c.code[pc]
            switch step.code {
            case .constant: push(c.constants[Int(step.c)])
            case .slot, .slotIsSet:
                let place = Int(step.c)
                if cells[place].stamp != stamp { return .slot(place) }
                let value = cells[place].value
                if step.code == .slotIsSet {
                    push(.bool(value.kind != .unset))
                } else if step.a == 1 {
                    push(value.kind == .unset ? Value(.optional) : heap.optional(value))
                } else {
                    push(value.kind == .unset ? fail(.noSuchKey) : value)
                }
            case .local: push(locals[Int(step.c)])
            case .setLocal:
                sp -= 1
                locals[Int(step.c)] = stack[sp]
            case .document:
                if !documents.isLoaded(step.c) { return .document(Int(step.c)) }
                push(root(step.c))
            case .fail: push(fail(EvaluationError.Reason(rawValue: UInt8(step.c)) ?? .unknownName))
            case .select:
                let operand = stack[sp - 1]
                stack[sp - 1] = select(operand, c.constants[Int(step.c)], optional: step.a == 1, c)
                if steps < 0 { return stop(.costLimit) }
            case .has: stack[sp - 1] = has(stack[sp - 1], c.constants[Int(step.c)], c)
            case .index:
                sp -= 1
                stack[sp - 1] = index(stack[sp - 1], stack[sp], optional: step.a == 1, c)
                if steps < 0 { return stop(.costLimit) }
            case .jump:
                pc = Int(step.c)
                continue
            case .jumpIfFalse, .jumpIfTrue:
                let value = stack[sp - 1]
                if value.kind == .bool, (value.bits != 0) == (step.code == .jumpIfTrue) {
                    pc = Int(step.c)
                    continue
                }
            case .and, .or:
                sp -= 1
                stack[sp - 1] = combine(stack[sp - 1], stack[sp], step.code == .or)
            case .choose:
                let condition = stack[sp - 1]
                if condition.kind == .bool {
                    sp -= 1
                    pc = condition.bits != 0 ? pc + 2 : Int(step.c)
                    continue
                }
                if !condition.isError { stack[sp - 1] = fail(.noOverload) }
            case .add, .subtract, .multiply, .divide, .remainder, .equal, .notEqual, .less, .lessOrEqual, .greater,
                .greaterOrEqual, .contained:
                sp -= 1
                let (left, right) = (stack[sp - 1], stack[sp])
                if left.kind == .int, right.kind == .int, step.code.isComparison {
                    stack[sp - 1] = .bool(Machine.compare(step.code, left.int, right.int))
                } else {
                    stack[sp - 1] = binary(step.code, left, right, c)
                    // A comparison that was given up has no answer.
                    if steps < 0 { return stop(.costLimit) }
                }
            case .not:
                let operand = stack[sp - 1]
                if operand.kind == .bool {
                    stack[sp - 1] = .bool(operand.bits == 0)
                } else if !operand.isError {
                    stack[sp - 1] = fail(.noOverload)
                }
            case .negate: stack[sp - 1] = negate(stack[sp - 1])
            case .call:
                sp -= Int(step.a)
                let result = call(Function(rawValue: UInt8(step.b)).unsafelyUnwrapped, Int(step.a), c)
                push(result)
                if steps < 0 { return stop(.costLimit) }
            case .list:
                sp -= Int(step.c)
                charge(Int(step.c) >> 2)
                push(makeList(Int(step.c)))
                if steps < 0 { return stop(.costLimit) }
            case .map:
                sp -= 2 * Int(step.c)
                push(makeMap(Int(step.c), c))
                if steps < 0 { return stop(.costLimit) }
            case .unwrap: stack[sp - 1] = unwrap(stack[sp - 1], c)
            case .loop:
                if let failure = beginLoop(step) {
                    stack[sp - 1] = failure
                    pc = Int(step.c)
                    continue
                }
                sp -= 1
            case .loopStep:
                charge(1)
                if steps < 0 { return stop(.costLimit) }
                if !nextElement(c) {
                    pc = finishLoop(loopResult())
                    continue
                }
            case .loopFilter:
                sp -= 1
                let verdict = stack[sp]
                if verdict.kind == .bool {
                    if verdict.bits == 0 {
                        pc = Int(step.c)
                        continue
                    }
                } else {
                    pc = finishLoop(verdict.isError ? verdict : fail(.noOverload))
                    continue
                }
            case .loopCollect:
                sp -= 1
                let value = stack[sp]
                let kind = frames[frames.count - 1].kind
                if value.kind == .bool, kind == .all || kind == .exists {
                    pc = (value.bits != 0) == (kind == .exists) ? finishLoop(value) : Int(step.c)
                } else if let early = collect(value, c) {
                    pc = finishLoop(early)
                } else {
                    pc = Int(step.c)
                }
                continue
            case .optionalValue:
                let operand = stack[sp - 1]
                if operand.kind != .optional || operand.extra == 0 {
                    if operand.kind != .optional, !operand.isError { stack[sp - 1] = fail(.noOverload) }
                    pc = Int(step.c)
                    continue
                }
                stack[sp - 1] = optionalContent(operand, c)
            case .optionalWrap:
                let operand = stack[sp - 1]
                if operand.isError { break }
                if step.a == 0 {
                    stack[sp - 1] = heap.optional(operand)
                } else if operand.kind != .optional {
                    stack[sp - 1] = fail(.noOverload)
                }
            case .matches:
                let operand = stack[sp - 1]
                if operand.kind == .string {
                    stack[sp - 1] = matches(operand, pattern: Int(step.c), c)
                    if steps < 0 { return stop(.costLimit) }
                } else if !operand.isError {
                    stack[sp - 1] = fail(.noOverload)
                }
            case .end:
                result = stack[sp - 1]
                if heap.isExhausted, result.isError { result = fail(.memoryLimit) }
                return .done
            }
            pc += 1
        }
    }

    private mutating func stop(_ reason: EvaluationError.Reason) -> Outcome {
        result = fail(reason)
        heap.pending.removeAll(keepingCapacity: true)
        return .done
    }

    private func root(_ number: UInt32) -> Value {
        let region = Region.document + UInt16(number)
        if documents.state & (16 << UInt8(number)) == 0 { return Value(.map, region: Region.constants) }
        return documents.value(region, documents.root(region))
    }

    /// `&&` and `||` of two operands of which the first did not decide (langdef.md "Logical operators").
    private func combine(_ left: Value, _ right: Value, _ isOr: Bool) -> Value {
        let decisive: UInt64 = isOr ? 1 : 0
        if left.kind == .bool, left.bits == decisive { return left }
        if right.kind == .bool {
            if right.bits == decisive || left.kind == .bool { return right }
        }
        if left.isError { return left }
        if left.kind != .bool { return fail(.noOverload) }
        return right.isError ? right : fail(.noOverload)
    }

    // MARK: Loops

    private mutating func beginLoop(_ step: Instruction) -> Value? {
        let source = stack[sp - 1]
        if source.isError { return source }
        guard source.kind == .list || source.kind == .map, let kind = LoopKind(rawValue: step.a & 0x7F) else {
            return fail(.noOverload)
        }
        var frame = Frame(
            kind: kind, hasTwoVariables: step.a & 0x80 != 0, local: step.b, exit: step.c,
            count: UInt32(count(source)), base: UInt32(heap.pending.count), source: source)
        if source.isOfDocument {
            let node = JSONNode(index: UInt32(source.bits))
            frame.cursor = documents.firstChild(source.region, node)?.index ?? 0
        }
        frames.append(frame)
        return nil
    }

    /// Whole numbers are compared here, and everything else in `binary`.
    @inline(__always)
    private static func compare(_ code: Opcode, _ left: Int64, _ right: Int64) -> Bool {
        switch code {
        case .equal: left == right
        case .notEqual: left != right
        case .less: left < right
        case .lessOrEqual: left <= right
        case .greater: left > right
        default: left >= right
        }
    }

    /// Puts the next element into the loop's variables; false at the end.
    @inline(__always)
    private mutating func nextElement(_ c: Context) -> Bool {
        let last = frames.count - 1
        let index = frames[last].index
        if index >= frames[last].count { return false }
        frames[last].index = index + 1
        let source = frames[last].source
        let local = Int(frames[last].local)
        if source.kind == .list, !source.isOfDocument {
            let element = stored(source.region, Int(truncatingIfNeeded: source.bits) + Int(index), c)
            if frames[last].hasTwoVariables {
                locals[local] = .int(Int64(index))
                locals[local + 1] = element
            } else {
                locals[local] = element
            }
            return true
        }
        nextEntry(last, source, Int(index), local, c)
        return true
    }

    /// The next entry of a map, or element of a document's array.
    private mutating func nextEntry(_ last: Int, _ source: Value, _ index: Int, _ local: Int, _ c: Context) {
        var first: Value
        var second = Value.null
        let hasTwoVariables = frames[last].hasTwoVariables
        if source.isOfDocument {
            var node = JSONNode(index: frames[last].cursor)
            first = documents.value(source.region, node)
            if source.kind == .map, let next = documents.next(source.region, node) {
                node = next
                second = documents.value(source.region, node)
            }
            frames[last].cursor = documents.next(source.region, node)?.index ?? 0
        } else {
            first = mapKey(source, index, c)
            if hasTwoVariables { second = mapValue(source, index, c) }
        }
        if hasTwoVariables, source.kind == .list {
            second = first
            first = .int(Int64(index))
        }
        locals[local] = first
        if hasTwoVariables { locals[local + 1] = second }
    }

    /// What the body's value means for the loop: nil to go on, or the loop's result.
    private mutating func collect(_ value: Value, _ c: Context) -> Value? {
        let last = frames.count - 1
        let frame = frames[last]
        switch frame.kind {
        case .all, .exists:
            if frame.error.kind == .absent { frames[last].error = value.isError ? value : fail(.noOverload) }
        case .existsOne, .filter:
            guard value.kind == .bool else { return value.isError ? value : fail(.noOverload) }
            if value.bits == 0 { return nil }
            if frame.kind == .existsOne {
                frames[last].found += 1
            } else {
                heap.pending.append(locals[Int(frame.local)])
            }
        case .map:
            if value.isError { return value }
            heap.pending.append(value)
        case .transformMap:
            if value.isError { return value }
            heap.pending.append(locals[Int(frame.local)])
            heap.pending.append(value)
        case .transformMapEntry:
            if value.kind != .map { return value.isError ? value : fail(.noOverload) }
            return addEntries(value, Int(frame.base), c)
        }
        if heap.pending.count > Limits.arenaValues {
            heap.isExhausted = true
            return fail(.memoryLimit)
        }
        return nil
    }

    /// Adds the entries of a map to those pending from `base` on; an error if a key is there already.
    private mutating func addEntries(_ map: Value, _ base: Int, _ c: Context) -> Value? {
        var index = 0
        let count = self.count(map)
        while index < count {
            let key = mapKey(map, index, c)
            var other = base
            while other < heap.pending.count {
                if equal(key, heap.pending[other], c) { return fail(.duplicateKey) }
                other += 2
            }
            charge(heap.pending.count - base)
            heap.pending.append(key)
            heap.pending.append(mapValue(map, index, c))
            index += 1
        }
        return nil
    }

    private mutating func loopResult() -> Value {
        let frame = frames[frames.count - 1]
        switch frame.kind {
        case .all: return frame.error.kind == .absent ? .bool(true) : frame.error
        case .exists: return frame.error.kind == .absent ? .bool(false) : frame.error
        case .existsOne: return .bool(frame.found == 1)
        case .map, .filter: return heap.collect(from: Int(frame.base), .list)
        case .transformMap, .transformMapEntry: return heap.collect(from: Int(frame.base), .map)
        }
    }

    /// Ends the innermost loop with a value; returns where to go on.
    private mutating func finishLoop(_ value: Value) -> Int {
        let frame = frames.removeLast()
        if heap.pending.count > Int(frame.base) { heap.dropPending(to: Int(frame.base)) }
        push(value)
        return Int(frame.exit)
    }

    // MARK: Literals

    private mutating func makeList(_ count: Int) -> Value {
        let base = heap.pending.count
        for index in 0..<count {
            let value = stack[sp + index]
            if value.isError {
                heap.dropPending(to: base)
                return value
            }
            if value.kind != .absent { heap.pending.append(value) }
        }
        return heap.collect(from: base, .list)
    }

    private mutating func makeMap(_ count: Int, _ c: Context) -> Value {
        let base = heap.pending.count
        var failure: Value?
        for index in 0..<count where failure == nil {
            let key = stack[sp + 2 * index]
            let value = stack[sp + 2 * index + 1]
            if key.isError || value.isError {
                failure = key.isError ? key : value
            } else if value.kind != .absent {
                switch key.kind {
                case .int, .uint, .bool, .string:
                    var other = base
                    while other < heap.pending.count {
                        if equal(key, heap.pending[other], c) { failure = fail(.duplicateKey) }
                        other += 2
                    }
                    charge((heap.pending.count - base) / 2)
                    heap.pending.append(key)
                    heap.pending.append(value)
                default: failure = fail(.noOverload)
                }
            }
        }
        if let failure {
            heap.dropPending(to: base)
            return failure
        }
        return heap.collect(from: base, .map)
    }

    private func unwrap(_ value: Value, _ c: Context) -> Value {
        if value.isError { return value }
        guard value.kind == .optional else { return fail(.noOverload) }
        return value.extra == 0 ? .absent : optionalContent(value, c)
    }
}
