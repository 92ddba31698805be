// The public face of evaluation: bindings in, value out. It need not know instructions; `Machine` does.

import Formats

/// Where the values of an environment's names come from while an expression is evaluated.
///
/// `load` is asked at most once for a slot between two `begin()`s; the value is kept for all expressions after that.
/// A conforming type may be `~Copyable` and `~Escapable`, so that it can hold a span of a profile in the memory map.
public protocol Bindings: ~Copyable, ~Escapable {
    /// The value of a slot, or nil: not set. `has()` is then false, and any other use an error.
    ///
    /// Numbers, truth values and times are made with `Value.int(_:)` and its kin; text that lies in `region` with
    /// `Value.string(inRegion:length:)`; other text, lists and maps with the methods of `heap`.
    borrowing func load(_ slot: Int, into heap: inout Heap) -> Value?

    /// The bytes that `Value.string(inRegion:length:)` and `heap.append(inRegion:length:)` refer to; for example a profile
    /// record. An empty span where there are none.
    var region: Span<UInt8> { @_lifetime(borrow self) get }

    /// Document `number` of the environment, or nil: as an empty object. The evaluator keeps a reference until `end()`.
    borrowing func document(_ number: Int) -> JSONDocument?
}

/// Memory for values made during an evaluation, kept and reused by the evaluator.
///
/// To make a list: `beginList()`, `append(…)` for each element, `endList()`; a map: `beginMap()`, key, value, key,
/// value, …, `endMap()`. Both nest. Over the limits of `Limits` values turn into errors; nothing grows without end.
public struct Heap: Sendable {
    var bytes: [UInt8] = []
    var values: [Value] = []
    /// Elements of lists under construction.
    var pending: [Value] = []
    var begun: [UInt32] = []
    var isExhausted = false

    init() {}

    mutating func clear() {
        if !bytes.isEmpty { bytes.removeAll(keepingCapacity: true) }
        if !values.isEmpty { values.removeAll(keepingCapacity: true) }
        if !pending.isEmpty { pending.removeAll(keepingCapacity: true) }
        if !begun.isEmpty { begun.removeAll(keepingCapacity: true) }
        isExhausted = false
    }

    /// Room for `count` more bytes under the limit?
    mutating func allows(bytes count: Int) -> Bool {
        if bytes.count + count <= Limits.arenaBytes { return true }
        isExhausted = true
        return false
    }

    mutating func allows(values count: Int) -> Bool {
        if values.count + count <= Limits.arenaValues { return true }
        isExhausted = true
        return false
    }

    /// A string value with a copy of UTF-8 text.
    public mutating func string(_ text: Span<UInt8>) -> Value { copy(text, .string) }

    public mutating func string(_ text: StaticString) -> Value { copy(text.bytes, .string) }

    /// A bytes value with a copy of the bytes.
    public mutating func bytes(_ data: Span<UInt8>) -> Value { copy(data, .bytes) }

    mutating func copy(_ text: Span<UInt8>, _ kind: Kind) -> Value {
        guard allows(bytes: text.count) else { return .failure(.memoryLimit) }
        let start = bytes.count
        bytes.append(contentsOf: text)
        return Value(kind, bits: UInt64(start), extra: UInt32(text.count), region: Region.arena)
    }

    /// The text from `start` to the end of `bytes` as a value.
    mutating func text(from start: Int, _ kind: Kind = .string) -> Value {
        Value(kind, bits: UInt64(start), extra: UInt32(bytes.count - start), region: Region.arena)
    }

    public mutating func beginList() { begun.append(UInt32(pending.count)) }
    public mutating func beginMap() { beginList() }
    public mutating func append(_ value: Value) { pending.append(value) }

    /// Appends text of `Bindings.region` as an element.
    public mutating func append(inRegion offset: Int, length: Int) {
        pending.append(.string(inRegion: offset, length: length))
    }

    public mutating func endList() -> Value {
        let base = Int(begun.popLast() ?? 0)
        return collect(from: base, .list)
    }

    public mutating func endMap() -> Value {
        let base = Int(begun.popLast() ?? 0)
        return collect(from: base, .map)
    }

    /// Moves what is pending from `base` on into a list or map.
    mutating func collect(from base: Int, _ kind: Kind) -> Value {
        let count = pending.count - base
        defer { dropPending(to: base) }
        guard allows(values: count) else { return .failure(.memoryLimit) }
        let start = values.count
        var index = base
        while index < base + count {
            values.append(pending[index])
            index += 1
        }
        return Value(
            kind, bits: UInt64(start), extra: UInt32(kind == .map ? count / 2 : count), region: Region.arena)
    }

    /// Forgets what is pending from `base` on. One by one when it is little: that is quicker than a general removal.
    mutating func dropPending(to base: Int) {
        let count = pending.count - base
        if count > 16 {
            pending.removeLast(count)
        } else {
            var left = count
            while left > 0 {
                _ = pending.popLast()
                left -= 1
            }
        }
    }

    mutating func optional(_ value: Value) -> Value {
        guard allows(values: 1) else { return .failure(.memoryLimit) }
        values.append(value)
        return Value(.optional, bits: UInt64(values.count - 1), extra: 1, region: Region.arena)
    }
}

/// Bindings for expressions without variables.
public struct NoBindings: Bindings {
    public init() {}
    public func load(_ slot: Int, into heap: inout Heap) -> Value? { nil }
    public var region: Span<UInt8> { @_lifetime(borrow self) get { Span() } }
    public func document(_ number: Int) -> JSONDocument? { nil }
}

/// Runs programs. Holds the memory of evaluations and reuses it: one for each thread, kept as long as the thread.
/// A warm evaluator allocates nothing for rules over numbers, text, sets and tallies.
///
/// ```swift
/// evaluator.begin()                                  // a new decision: forget the last one's slots and strings
/// for rule in rules where try evaluator.evaluate(program, rule.number, bindings).isTrue { … }
/// evaluator.end()                                    // let go of documents
/// ```
public struct Evaluator: ~Copyable {
    var machine: Machine

    /// - Parameter zones: reads a file of the system's zoneinfo by its IANA name (`Europe/Berlin`); without it only
    ///   offsets such as `+02:00` and `UTC` are known.
    public init(zones: TimeZones = TimeZones()) {
        machine = Machine(zones: zones)
    }

    /// Begins a decision: slots will be loaded anew, and values of earlier evaluations are no longer valid.
    public mutating func begin() {
        machine.begin()
    }

    /// Ends a decision: lets go of the documents that bindings gave, so that they can be parsed into again in place.
    public mutating func end() {
        machine.end()
    }

    /// Evaluates one expression of a program.
    ///
    /// - Parameters:
    ///   - program: its slots must be numbered as the bindings know them; all expressions evaluated between two
    ///     `begin()`s must agree on that.
    ///   - number: which expression, 0 ..< `program.count`.
    /// - Returns: the value; text and elements in it stay valid until `begin()`.
    /// - Throws: `EvaluationError`; a rule that fails does not match.
    public mutating func evaluate<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ number: Int = 0, _ bindings: borrowing B
    ) throws(EvaluationError) -> Value {
        machine.prepare(program)
        let entry = program.entries[number]
        if entry.condition != Program.none {
            switch walk(program, entry.condition, bindings) {
            case .yes: return .bool(true)
            case .no: return .bool(false)
            default: break
            }
        }
        let result = run(program, entry.start, bindings)
        if result.kind == .error { throw failure(result, program) }
        return result
    }

    /// Runs general code.
    private mutating func run<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ place: UInt32, _ bindings: borrowing B
    ) -> Value {
        let context = Context(program, bindings.region)
        var outcome = machine.start(place, context)
        while outcome != .done {
            provide(outcome, bindings)
            outcome = machine.resume(context)
        }
        return machine.result
    }

    /// Walks a condition's tests, and loads what they ask for: yes, no, or leave.
    private mutating func walk<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ start: UInt32, _ bindings: borrowing B
    ) -> Walk.End {
        var walk = machine.walk(program, start)
        while walk.end.rawValue > Walk.End.leave.rawValue {
            let test = program.tests[Int(walk.test)]
            if walk.end == .slot {
                let slot = Int(test.slot)
                if machine.slots[slot].kind == .absent { provide(.slot(slot), bindings) }
                if !machine.quickenNumber(slot) { machine.quicken(slot, program, bindings.region) }
            } else {
                let value = run(program, UInt32(truncatingIfNeeded: test.operand), bindings)
                guard value.kind == .bool else { return .leave }
                machine.remember(test.count, value.bits != 0)
            }
            walk = machine.walk(program, walk.test)
        }
        return walk.end
    }

    /// The first of a range of expressions that is true, as a decision takes the first rule that matches; nil: none.
    /// Expressions that fail count as false; `failures` counts them, but for those that miss a key or field: what a
    /// person or a question does not have is no mistake of the rule.
    public mutating func firstTrue<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, in range: Range<Int>, _ bindings: borrowing B, failures: inout Int
    ) -> Int? {
        machine.prepare(program)
        var number = range.lowerBound
        while number < range.upperBound {
            let entry = program.entries[number]
            var end = Walk.End.leave
            if entry.condition != Program.none { end = walk(program, entry.condition, bindings) }
            if end == .leave {
                let value = run(program, entry.start, bindings)
                if value.isTrue { end = .yes } else if value.kind != .bool, !value.isMissingKey { failures += 1 }
            }
            if end == .yes { return number }
            number += 1
        }
        return nil
    }

    private mutating func provide<B: Bindings & ~Copyable & ~Escapable>(_ outcome: Outcome, _ bindings: borrowing B) {
        switch outcome {
        case .slot(let slot):
            let value = bindings.load(slot, into: &machine.heap)
            machine.provide(slot: slot, value)
        case .document(let number): machine.provide(document: number, bindings.document(number))
        case .done: break
        }
    }

    private func failure(_ result: Value, _ program: borrowing Program) -> EvaluationError {
        let place = Int(result.extra)
        return EvaluationError(
            EvaluationError.Reason(rawValue: UInt8(truncatingIfNeeded: result.bits)) ?? .invalidArgument,
            offset: place < program.offsets.count ? program.offsets[place] : 0)
    }

    /// Whether an expression is true: `false` for errors, as for rules.
    public mutating func isTrue<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ number: Int, _ bindings: borrowing B
    ) -> Bool {
        machine.prepare(program)
        let entry = program.entries[number]
        if entry.condition != Program.none {
            switch walk(program, entry.condition, bindings) {
            case .yes: return true
            case .no: return false
            default: break
            }
        }
        return run(program, entry.start, bindings).isTrue
    }

    // MARK: Reading results

    /// The bytes of a string or bytes value of the last decision, copied. Empty for any other kind.
    public func text<B: Bindings & ~Copyable & ~Escapable>(
        _ value: Value, _ program: borrowing Program, _ bindings: borrowing B
    ) -> [UInt8] {
        guard value.kind == .string || value.kind == .bytes else { return [] }
        return copyBytes(machine.bytes(value, Context(program, bindings.region)))
    }

    /// Calls `body` with the bytes of a string or bytes value where they lie, without a copy.
    public func withText<B: Bindings & ~Copyable & ~Escapable, R>(
        _ value: Value, _ program: borrowing Program, _ bindings: borrowing B, _ body: (Span<UInt8>) -> R
    ) -> R {
        guard value.kind == .string || value.kind == .bytes else { return body(Span()) }
        return body(machine.bytes(value, Context(program, bindings.region)))
    }

    /// Elements of a list or entries of a map; 0 for any other kind.
    public func count(_ value: Value) -> Int {
        value.kind == .list || value.kind == .map ? machine.count(value) : 0
    }

    /// Element `index` of a list, in 0 ..< count; `Value.null` outside.
    public func element<B: Bindings & ~Copyable & ~Escapable>(
        _ value: Value, _ index: Int, _ program: borrowing Program, _ bindings: borrowing B
    ) -> Value {
        guard value.kind == .list, index >= 0, index < machine.count(value) else { return .null }
        return machine.element(value, index, Context(program, bindings.region))
    }

    /// Entry `index` of a map, in 0 ..< count; two `Value.null` outside.
    public func entry<B: Bindings & ~Copyable & ~Escapable>(
        _ value: Value, _ index: Int, _ program: borrowing Program, _ bindings: borrowing B
    ) -> (key: Value, value: Value) {
        guard value.kind == .map, index >= 0, index < machine.count(value) else { return (.null, .null) }
        let context = Context(program, bindings.region)
        return (machine.mapKey(value, index, context), machine.mapValue(value, index, context))
    }

    /// Writes a value as JSON: timestamps and durations as strings, bytes as base64, non-finite numbers as null.
    public mutating func write<B: Bindings & ~Copyable & ~Escapable>(
        _ value: Value, to writer: inout JSONWriter, _ program: borrowing Program, _ bindings: borrowing B
    ) {
        machine.write(value, &writer, Context(program, bindings.region), 0)
    }
}
