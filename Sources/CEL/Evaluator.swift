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
    /// Elements of lists under construction; those of a list that is in no other go straight to `values`.
    var pending: [Value] = []
    var begun: [UInt32] = []
    /// Where the elements of that list begin in `values`, or -1.
    private var outermost = -1
    var isExhausted = false

    init() {}

    mutating func clear() {
        if !bytes.isEmpty { bytes.removeAll(keepingCapacity: true) }
        if !values.isEmpty { dropValues() }
        if !pending.isEmpty { pending.removeAll(keepingCapacity: true) }
        if !begun.isEmpty { begun.removeAll(keepingCapacity: true) }
        outermost = -1
        isExhausted = false
    }

    /// One by one when they are few, as with `dropPending`.
    private mutating func dropValues() {
        if values.count > 16 { return values.removeAll(keepingCapacity: true) }
        while values.popLast() != nil {}
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

    /// A string value with a copy of a literal text.
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

    /// Begins a list; elements follow with `append`.
    public mutating func beginList() {
        if begun.isEmpty, outermost < 0 {
            outermost = values.count
            return
        }
        if outermost >= 0 { setAside() }
        begun.append(UInt32(pending.count))
    }

    /// Begins a map; keys and values follow in turns with `append`. Keys are int, uint, bool or string, and differ
    /// (langdef.md "Aggregate Values"); that is not checked.
    public mutating func beginMap() { beginList() }

    /// Appends an element, a key or a value to what was begun last.
    public mutating func append(_ value: Value) {
        if outermost >= 0 { values.append(value) } else { pending.append(value) }
    }

    /// Appends text of `Bindings.region` as an element.
    public mutating func append(inRegion offset: Int, length: Int) { append(.string(inRegion: offset, length: length)) }

    /// Ends what was begun last as a list; over `Limits.arenaValues` an error value.
    public mutating func endList() -> Value { endContainer(.list) }
    /// Ends what was begun last as a map; over `Limits.arenaValues` an error value.
    public mutating func endMap() -> Value { endContainer(.map) }

    private mutating func endContainer(_ kind: Kind) -> Value {
        guard outermost >= 0 else { return collect(from: Int(begun.popLast() ?? 0), kind) }
        let start = outermost
        outermost = -1
        let count = values.count - start
        if values.count > Limits.arenaValues {
            values.removeLast(count)
            isExhausted = true
            return .failure(.memoryLimit)
        }
        return Value(
            kind, bits: UInt64(start), extra: UInt32(kind == .map ? count / 2 : count), region: Region.arena)
    }

    /// A list begins in the outermost one, whose elements can no longer lie in a row.
    private mutating func setAside() {
        begun.append(UInt32(pending.count))
        pending.append(contentsOf: values[outermost...])
        values.removeLast(values.count - outermost)
        outermost = -1
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
    /// Every slot is unset and every document empty.
    public init() {}
    /// Nil: not set.
    public func load(_ slot: Int, into heap: inout Heap) -> Value? { nil }
}

extension Bindings where Self: ~Copyable & ~Escapable {
    /// Where a conforming type has none: empty. A type that has one needs Swift's experimental feature `Lifetimes`.
    public var region: Span<UInt8> { @_lifetime(borrow self) get { Span() } }
    /// Where a conforming type has none: an empty object.
    public borrowing func document(_ number: Int) -> JSONDocument? { nil }
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
    /// - Parameter isFirst: false for a further decision of one question: it has what the others have left of the steps.
    public mutating func begin(isFirst: Bool = true) {
        machine.begin(isFirst: isFirst)
    }

    /// Ends a decision: lets go of the documents that bindings gave, so that they can be parsed into again in place, and of
    /// what was loaded from them.
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
            case .missing, .unclear: break
            }
        }
        let result = run(program, entry.start, bindings)
        if result.kind == .error { throw failure(result, program) }
        return result
    }

    /// Runs general code.
    mutating func run<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ place: UInt32, _ bindings: borrowing B
    ) -> Value {
        let context = Context(program, bindings.region)
        let allowed = min(Limits.evaluationSteps, machine.budget)
        if allowed <= 0 { return .failure(.costLimit) }
        var outcome = machine.start(place, context)
        while outcome != .done {
            provide(outcome, bindings)
            outcome = machine.resume(context)
        }
        machine.budget -= allowed - max(machine.steps, 0)
        return machine.result
    }

    /// The first of a range of expressions that is true, as a decision takes the first rule that matches; nil: none.
    /// Expressions that fail count as false; `failures` counts them, but for those that miss a key or field: what a
    /// person or a question does not have is no mistake of the rule. An expression that its group's index rules out is not
    /// evaluated, and so does not fail.
    public mutating func firstTrue<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, in range: Range<Int>, _ bindings: borrowing B, failures: inout Int
    ) -> Int? {
        machine.prepare(program)
        var number = range.lowerBound
        return nextTrue(program, &number, range.upperBound, bindings, &failures)
    }

    /// Calls `body` with the number of each expression of a range that is true, in order: every audience of a person, every
    /// destination of an event. As with `firstTrue`, those that fail count as false.
    public mutating func forEachTrue<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, in range: Range<Int>, _ bindings: borrowing B, failures: inout Int,
        _ body: (Int) -> Void
    ) {
        machine.prepare(program)
        var number = range.lowerBound
        while let found = nextTrue(program, &number, range.upperBound, bindings, &failures) {
            body(found)
            number = found + 1
        }
    }

    @inline(__always)
    private mutating func nextTrue<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ number: inout Int, _ end: Int, _ bindings: borrowing B, _ failures: inout Int
    ) -> Int? {
        while number < end {
            let entry = program.entries[number]
            if entry.group != Program.none {
                if let found = firstIndexed(program, &number, end, bindings, &failures) { return found }
                continue
            }
            var verdict = Verdict.unclear
            if entry.condition != Program.none { verdict = walkInPlace(program, entry.condition, bindings) }
            if verdict == .yes { return number }
            if verdict == .unclear, isTrue(program, entry.start, bindings, &failures) { return number }
            number += 1
        }
        return nil
    }

    /// Whether an expression is true, by its condition if it has one, or by its code.
    @inline(__always)
    mutating func holds<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ condition: UInt32, _ code: UInt32, _ bindings: borrowing B,
        _ failures: inout Int
    ) -> Bool {
        if condition != Program.none {
            switch walk(program, condition, bindings) {
            case .yes: return true
            case .no, .missing: return false
            case .unclear: break
            }
        }
        return isTrue(program, code, bindings, &failures)
    }

    private mutating func isTrue<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ code: UInt32, _ bindings: borrowing B, _ failures: inout Int
    ) -> Bool {
        let value = run(program, code, bindings)
        if value.kind != .bool, !value.isMissingKey { failures += 1 }
        return value.isTrue
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
        var failures = 0
        return isTrue(program, number, bindings, failures: &failures)
    }

    /// Whether an expression is true: `false` for errors, as for rules; `failures` counts those as `firstTrue` does.
    public mutating func isTrue<B: Bindings & ~Copyable & ~Escapable>(
        _ program: borrowing Program, _ number: Int, _ bindings: borrowing B, failures: inout Int
    ) -> Bool {
        machine.prepare(program)
        let entry = program.entries[number]
        return holds(program, entry.condition, entry.start, bindings, &failures)
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
