// Makes a new record of an old one and an event, or of two people's records. The rules are the plan's, the arithmetic
// is `AttributeState`'s, the places are `RecordLayout`'s; what is left here is to bring them together in reused memory.

import CEL
import Formats
import Store

/// Where a record stands among the parts of a profile.
public struct RecordOrigin {
    /// Which part it is (`IdentifierKey.part`); 0 for several together.
    public var part: UInt64
    /// Number of its writer's newest event in it.
    public var revision: UInt64

    public init(part: UInt64, revision: UInt64) {
        self.part = part
        self.revision = revision
    }
}

/// Applies events to profile records. One a thread; a warm one allocates nothing.
public struct ProfileUpdater: ~Copyable {
    /// The new record after `apply`, ready for the store.
    public private(set) var record: [UInt8] = []
    /// Rules that failed at the last event for another reason than a missing field: for a counter.
    public private(set) var failedRules = 0
    /// Values that were not kept at the last event: too long, or the record was full. For a counter.
    public private(set) var refusedValues = 0
    /// Whether the last event said anything about an attribute that is kept.
    public private(set) var hasContributed = false
    /// Which attributes of the plan are computed; empty: all of them.
    public var selection: [Bool] = []

    /// The old record, and behind it each new state as it comes to be; `index` points at the latest of each attribute.
    private var working: [UInt8] = []
    private var index = ProfileIndex()
    /// The scalars of one attribute's `value`.
    private var scalars: [UInt8] = []
    private var starts: [Int] = []
    private var verdicts: [ConditionVerdict] = []
    private var recordBytes = 0
    /// What the last event contributed: to which attribute, and where its scalars lie in `contributed`.
    private var contributions: [(attribute: Int, scalars: Range<Int>)] = []
    private var contributed: [UInt8] = []

    public init() {}

    /// Leaves all attributes alone but one.
    public mutating func select(only attribute: Int, of plan: AttributePlan) {
        selection = [Bool](repeating: false, count: plan.attributes.count)
        selection[attribute] = true
    }

    /// Applies one event: for each attribute in the bundle's order evaluates `when` and `value` and merges the result
    /// in.
    ///
    /// `profile` in a rule is the profile with all attributes before that one already changed by this event, so that a
    /// badge can be granted by the very order that lifts `lifetime_value` over its bound; attributes after it are as
    /// they were. Reads of `now` are the time of processing, `event.timestamp` orders what is ordered.
    ///
    /// Events may come in any order: the record is the same to the byte, below the limits and apart from rules that read
    /// the profile or `now` themselves; for attributes that end see `Attribute.hasEnded`.
    ///
    /// - Parameters:
    ///   - old: the record, or an empty span for a person without one.
    ///   - id: the person's, written to the record.
    ///   - origin: which part of the profile the record is, and the event's number; written to the record.
    ///   - surroundings: with `event` (as `EventSanitizer` wrote it), `eventTimestamp` and `now` set.
    ///   - program: finished by the compiler that the plan was read with.
    /// - Returns: whether any attribute changed. `record` holds the new record in any case (last seen moves on).
    /// - Throws: `RecordDamage`; nothing is changed.
    public mutating func apply(
        to old: Span<UInt8>, id: ProfileID, origin: RecordOrigin, plan: borrowing AttributePlan, slots: Slots,
        program: borrowing Program, surroundings: borrowing Surroundings, evaluator: inout Evaluator
    ) throws(RecordDamage) -> Bool {
        let time = surroundings.eventTimestamp ?? surroundings.now
        let head = try open(old, plan, time, isSeen: surroundings.served == nil)
        failedRules = 0
        refusedValues = 0
        hasContributed = false
        contributions.removeAll(keepingCapacity: true)
        contributed.removeAll(keepingCapacity: true)
        let hasChanged = applyRules(plan, slots, program, surroundings, time, &evaluator)
        close(head, id, origin, plan, now: surroundings.processedAt ?? surroundings.now)
        return hasChanged
    }

    /// Puts what the last event contributed into another record: the part of a profile which it belongs to, where that is
    /// not the whole profile, which rules have looked at.
    public mutating func applyAgain(
        to old: Span<UInt8>, id: ProfileID, origin: RecordOrigin, plan: borrowing AttributePlan,
        surroundings: borrowing Surroundings
    ) throws(RecordDamage) {
        let time = surroundings.eventTimestamp ?? surroundings.now
        let now = surroundings.processedAt ?? surroundings.now
        let head = try open(old, plan, time, isSeen: surroundings.served == nil)
        for (number, range) in contributions {
            _ = merge(
                number, plan.attributes[number].shape, time, now: now, [UInt8](copying: contributed.span.extracting(range)))
        }
        close(head, id, origin, plan, now: now)
    }

    private struct Head {
        var created: Int64
        var lastSeen: Int64
        var entryCount = 0
        var revision: UInt64 = 0
    }

    /// Takes a record into `working`.
    private mutating func open(
        _ old: Span<UInt8>, _ plan: borrowing AttributePlan, _ time: Int64, isSeen: Bool
    ) throws(RecordDamage) -> Head {
        var head = Head(created: time, lastSeen: time)
        working.removeAll(keepingCapacity: true)
        index.clear(plan)
        if old.isEmpty {
            for _ in 0..<RecordLayout.headerBytes { working.append(0) }
        } else {
            let view = try ProfileView(old)
            working.append(contentsOf: old)
            index.fill(view, plan)
            // To be served something is not to be seen: how old what is known is does not change.
            let seen = isSeen ? max(view.lastSeen, time) : view.lastSeen
            head = Head(
                created: min(view.created, time), lastSeen: seen, entryCount: view.entryCount,
                revision: view.revision)
        }
        recordBytes = working.count
        return head
    }

    /// Makes `record` of what `working` has become.
    private mutating func close(
        _ head: Head, _ id: ProfileID, _ origin: RecordOrigin, _ plan: borrowing AttributePlan, now: Int64
    ) {
        collectEntries(plan, head.entryCount, lastSeen: head.lastSeen, now: now)
        var origin = origin
        // Counting older events once more has gone ahead of the log's numbers.
        if head.revision > origin.revision { origin.revision = head.revision + 1 }
        var written: [UInt8] = []
        swap(&written, &record)
        RecordWriter.write(
            working.span, starts, id, origin, created: head.created, lastSeen: head.lastSeen, to: &written)
        swap(&written, &record)
    }

    private mutating func applyRules(
        _ plan: borrowing AttributePlan, _ slots: Slots, _ program: borrowing Program,
        _ surroundings: borrowing Surroundings, _ time: Int64, _ evaluator: inout Evaluator
    ) -> Bool {
        var (scalars, verdicts): ([UInt8], [ConditionVerdict]) = ([], [])
        swap(&scalars, &self.scalars)
        swap(&verdicts, &self.verdicts)
        defer {
            swap(&scalars, &self.scalars)
            swap(&verdicts, &self.verdicts)
        }
        var hasChanged = false
        // The evaluator remembers what it has read; after a change, rules about the profile have to read anew.
        var isStale = false
        evaluator.begin()
        judge(plan, slots, program, surroundings, &evaluator, into: &verdicts)
        if !selection.isEmpty {
            for number in verdicts.indices where !selection[number] { verdicts[number] = .unmatched }
        }
        let now = surroundings.processedAt ?? surroundings.now
        for number in verdicts.indices where verdicts[number] != .unmatched {
            if verdicts[number] == .failed {
                failedRules += 1
                continue
            }
            let attribute = plan.attributes[number].shape
            if isStale, attribute.readsProfile {
                evaluator.begin()
                isStale = false
            }
            scalars.removeAll(keepingCapacity: true)
            var result = (outcome: ScalarCollector.Outcome.matched, refusedValues: 0)
            if let hidden = plan.attributes[number].hidden {
                if case .goal(_, let within, _, _) = hidden {
                    if !isExposed(number - 1, within, time, plan) { continue }
                    result = evaluate(attribute, isOpen: false, plan, slots, program, surroundings, &evaluator, into: &scalars)
                    // One without a value is one all the same.
                    if result.outcome == .failed { failedRules += 1 }
                    if result.outcome != .matched { scalars.removeAll(keepingCapacity: true) }
                    result.outcome = .matched
                } else {
                    let isServed = surroundings.served == number
                    if hidden != .seed && !isServed { continue }
                    Scalar.append(.uint, isServed ? surroundings.servedValue : surroundings.seed, to: &scalars)
                }
            } else {
                let isOpen = verdicts[number] == .open
                result = evaluate(attribute, isOpen: isOpen, plan, slots, program, surroundings, &evaluator, into: &scalars)
            }
            if result.outcome == .failed { failedRules += 1 }
            refusedValues += result.refusedValues
            if result.outcome == .matched {
                contributions.append((number, contributed.count..<contributed.count + scalars.count))
                contributed.append(contentsOf: scalars.span)
                if attribute.scope != .event { hasContributed = true }
            }
            if result.outcome == .matched, merge(number, attribute, time, now: now, scalars) {
                hasChanged = hasChanged || attribute.scope != .event
                isStale = true
            }
        }
        evaluator.end()
        return hasChanged
    }

    /// Whether the person was exposed to an experiment at most so long before an event.
    private borrowing func isExposed(
        _ exposure: Int, _ within: Int64, _ time: Int64, _ plan: borrowing AttributePlan
    ) -> Bool {
        var isExposed = false
        index.forEachElement(exposure, in: working.span, copy plan) { moment, _ in
            if time >= moment, time - moment < within { isExposed = true }
        }
        return isExposed
    }

    /// Evaluates the conditions that no change of the profile can alter: few of many attributes have to do with an event.
    private borrowing func judge(
        _ plan: borrowing AttributePlan, _ slots: Slots, _ program: borrowing Program,
        _ surroundings: borrowing Surroundings, _ evaluator: inout Evaluator, into verdicts: inout [ConditionVerdict]
    ) {
        let bindings = DecisionBindings(
            record: working.span, index: index, plan: copy plan, slots: slots, surroundings: copy surroundings)
        verdicts.removeAll(keepingCapacity: true)
        for condition in plan.conditions {
            if condition == AttributePlan.openCondition {
                verdicts.append(.open)
                continue
            }
            do throws(EvaluationError) {
                let isTrue = try evaluator.evaluate(program, Int(condition), bindings).isTrue
                verdicts.append(isTrue ? .matched : .unmatched)
            } catch {
                verdicts.append(ConditionVerdict(error))
            }
        }
    }

    private borrowing func evaluate(
        _ attribute: AttributeShape, isOpen: Bool, _ plan: borrowing AttributePlan, _ slots: Slots, _ program: borrowing Program,
        _ surroundings: borrowing Surroundings, _ evaluator: inout Evaluator, into scalars: inout [UInt8]
    ) -> (outcome: ScalarCollector.Outcome, refusedValues: Int) {
        let bindings = DecisionBindings(
            record: working.span, index: index, plan: copy plan, slots: slots, surroundings: copy surroundings)
        var collector = ScalarCollector(attribute)
        let outcome = collector.collect(program, bindings, isOpen: isOpen, &evaluator, into: &scalars)
        return (outcome, collector.refusedValues)
    }

    /// Merges the values in `scalars` into an attribute; false when nothing came of it.
    private mutating func merge(
        _ number: Int, _ attribute: AttributeShape, _ time: Int64, now: Int64, _ scalars: [UInt8]
    ) -> Bool {
        // What has ended, be it the event's own part or what there was, does not live on in what has not.
        if attribute.hasEnded(time, now: now) { return false }
        var hasChanged = false
        var scalar = 0
        repeat {
            let base = working.count
            Contribution.append(attribute, time, scalars.span, scalar, to: &working)
            var start = base
            if let current = index.entry(number, in: working.span), !attribute.hasEnded(current.time, now: now) {
                start = AttributeState.merge(&working, current.start, base, attribute.policy, isEvent: true)
            }
            working.moveDown(from: start, to: base)
            if take(number, base) { hasChanged = true } else { working.removeLast(working.count - base) }
            if scalar < scalars.count { scalar += Scalar.size(scalars.span, scalar) }
        } while scalar < scalars.count
        return hasChanged
    }

    /// Makes the entry at `start` the attribute's, if the record has room for it.
    private mutating func take(_ number: Int, _ start: Int) -> Bool {
        let entry = RecordEntry(working.span, at: start)
        var size = recordBytes + entry.end - entry.start
        if let current = index.entry(number, in: working.span) {
            if areSame(current, entry) { return false }
            size -= current.end - current.start
        }
        if size > Limits.profileRecordBytes {
            refusedValues += 1
            return false
        }
        recordBytes = size
        index.set(number, to: start)
        return true
    }

    private func areSame(_ a: RecordEntry, _ b: RecordEntry) -> Bool {
        equal(working.span.extracting(a.start..<a.end), working.span.extracting(b.start..<b.end))
    }

    /// The new record's entries by ascending tag: those of the plan as they now are, and those that it does not know.
    private mutating func collectEntries(
        _ plan: borrowing AttributePlan, _ oldCount: Int, lastSeen: Int64, now: Int64
    ) {
        starts.removeAll(keepingCapacity: true)
        var old = RecordLayout.headerBytes
        var left = oldCount
        for known in plan.order {
            while left > 0 {
                let entry = RecordEntry(working.span, at: old)
                if entry.tag > known.tag { break }
                if entry.tag < known.tag, RecordWriter.isKept(entry, lastSeen: lastSeen) { starts.append(old) }
                old = entry.end
                left -= 1
            }
            let attribute = plan.attributes[known.attribute].shape
            if attribute.scope != .event, let entry = index.entry(known.attribute, in: working.span),
                !attribute.hasEnded(entry.time, now: now)
            {
                starts.append(entry.start)
            }
        }
        while left > 0 {
            let entry = RecordEntry(working.span, at: old)
            if RecordWriter.isKept(entry, lastSeen: lastSeen) { starts.append(old) }
            old = entry.end
            left -= 1
        }
    }
}

/// Merges the records of two people who turned out to be one.
public struct ProfileMerger: ~Copyable {
    /// The joint record after `merge`, ready for the store.
    public private(set) var record: [UInt8] = []

    private var working: [UInt8] = []
    private var starts: [Int] = []

    public init() {}

    /// Merges two records attribute by attribute (see `AttributeState` for each type's rule). The result is the same to the
    /// byte in whichever order records are merged, as the record of one person with all their events, below the limits.
    /// Events of the two must be disjoint; the same record twice counts twice.
    ///
    /// - Parameters:
    ///   - id: of the person who stays.
    ///   - now: milliseconds since the epoch; states that have ended by then are left out, so that they do not live on in
    ///     what they are merged with. Give all merges of one fold the same. Without it none counts as ended.
    /// - Throws: `RecordDamage` if one of the records cannot be read; nothing is changed.
    public mutating func merge(
        _ first: Span<UInt8>, _ second: Span<UInt8>, id: ProfileID, plan: borrowing AttributePlan, now: Int64 = .min
    ) throws(RecordDamage) {
        let a = try ProfileView(first)
        let b = try ProfileView(second)
        working.removeAll(keepingCapacity: true)
        working.append(contentsOf: first)
        working.append(contentsOf: second)
        starts.removeAll(keepingCapacity: true)
        let lastSeen = max(a.lastSeen, b.lastSeen)
        mergeEntries(a.entryCount, b.entryCount, secondStart: first.count, plan, lastSeen, now)
        dropLargestUntilItFits()
        var written: [UInt8] = []
        swap(&written, &record)
        RecordWriter.write(
            working.span, starts, id, RecordOrigin(part: 0, revision: max(a.revision, b.revision)),
            created: min(a.created, b.created), lastSeen: lastSeen, to: &written)
        swap(&written, &record)
    }

    private mutating func mergeEntries(
        _ firstCount: Int, _ secondCount: Int, secondStart: Int, _ plan: borrowing AttributePlan, _ lastSeen: Int64,
        _ now: Int64
    ) {
        var left = (RecordLayout.headerBytes, firstCount)
        var right = (secondStart + RecordLayout.headerBytes, secondCount)
        while left.1 > 0 || right.1 > 0 {
            let a = left.1 > 0 ? RecordEntry(working.span, at: left.0) : nil
            let b = right.1 > 0 ? RecordEntry(working.span, at: right.0) : nil
            let tag = min(a?.tag ?? .max, b?.tag ?? .max)
            let number = plan.index(ofTag: tag)
            let attribute = number.map { plan.attributes[$0].shape }
            var start: Int?
            if let a, a.tag == tag {
                left = (a.end, left.1 - 1)
                if isAlive(a, attribute, lastSeen, now) { start = a.start }
            }
            if let b, b.tag == tag {
                right = (b.end, right.1 - 1)
                if isAlive(b, attribute, lastSeen, now) {
                    let policy = attribute?.policy ?? StatePolicy()
                    if let first = start {
                        start = AttributeState.merge(&working, first, b.start, policy)
                    } else {
                        start = b.start
                    }
                }
            }
            if let start { starts.append(start) }
        }
    }

    private func isAlive(_ entry: RecordEntry, _ attribute: AttributeShape?, _ lastSeen: Int64, _ now: Int64) -> Bool {
        guard let attribute else { return RecordWriter.isKept(entry, lastSeen: lastSeen) }
        return attribute.form.rawValue == entry.form && !attribute.hasEnded(entry.time, now: now)
    }

    /// Two full records may be too large together: the largest attributes go, since many small ones are worth more.
    private mutating func dropLargestUntilItFits() {
        while true {
            var total = RecordLayout.headerBytes
            var largest = 0
            var largestBytes = 0
            for place in starts.indices {
                let entry = RecordEntry(working.span, at: starts[place])
                let size = entry.end - entry.start
                total += size
                if size > largestBytes { (largest, largestBytes) = (place, size) }
            }
            if total <= Limits.profileRecordBytes { return }
            starts.remove(at: largest)
        }
    }
}

/// Puts entries together to a record.
private enum RecordWriter {
    /// Whether a state that no attribute of the plan knows is worth keeping: a bundle may be taken back.
    static func isKept(_ entry: RecordEntry, lastSeen: Int64) -> Bool {
        StateForm(rawValue: entry.form) != nil
            && AttributeState.saturatingAdd(entry.time, Limits.unknownAttributeMilliseconds) >= lastSeen
    }

    /// - Parameter starts: places of entries in `source`, by ascending tag.
    static func write(
        _ source: Span<UInt8>, _ starts: [Int], _ id: ProfileID, _ origin: RecordOrigin, created: Int64,
        lastSeen: Int64, to record: inout [UInt8]
    ) {
        record.removeAll(keepingCapacity: true)
        record.append32(0)
        record.append16(RecordLayout.magic)
        record.append(RecordLayout.format)
        record.append(0)
        record.append16(UInt16(starts.count))
        record.append16(0)
        record.append32(0)
        let identity = id.bytes
        for index in identity.indices { record.append(identity[index]) }
        record.append64(UInt64(bitPattern: created))
        record.append64(UInt64(bitPattern: lastSeen))
        record.append64(origin.part)
        record.append64(origin.revision)
        for start in starts {
            let entry = RecordEntry(source, at: start)
            record.append(contentsOf: source.extracting(entry.start..<entry.end))
        }
        let checksum = RecordChecksum.of(record.span)
        record.store32(checksum, at: 0)
    }
}

/// The state that one event alone would leave.
private enum Contribution {
    /// Appends it as an entry.
    /// - Parameter scalar: the place of the value in `scalars`, for attributes that have one.
    static func append(
        _ attribute: AttributeShape, _ time: Int64, _ scalars: Span<UInt8>, _ scalar: Int, to bytes: inout [UInt8]
    ) {
        let builder = EntryBuilder(&bytes, tag: attribute.tag, form: attribute.form, time: time)
        let hasValue = scalar < scalars.count
        let number = hasValue ? loadNumber(scalars, scalar) : 0
        if attribute.form.isWindowed {
            bytes.append64(UInt64(bitPattern: attribute.bucket(of: time)))
            bytes.append(0)
        }
        switch attribute.form {
        case .counter: bytes.append64(1)
        case .sum, .mean, .windowedSum, .windowedMean:
            ExactSum(number).append(to: &bytes)
            if attribute.form == .mean { bytes.append64(1) }
            if attribute.form == .windowedMean { bytes.append32(1) }
        case .minimum, .maximum, .windowedMinimum, .windowedMaximum: bytes.appendDouble(number)
        case .windowedCounter: bytes.append32(1)
        case .badge: break
        case .first, .last, .visitFirst:
            appendScalar(scalars, scalar, to: &bytes)
            if attribute.form == .visitFirst { bytes.append64(UInt64(bitPattern: time)) }
        case .set, .timeline:
            bytes.append48(time)
            if hasValue { appendScalar(scalars, scalar, to: &bytes) } else { bytes.append16(0) }
        case .tally:
            bytes.append32(1)
            bytes.append48(time)
            appendScalar(scalars, scalar, to: &bytes)
        }
        builder.finish(&bytes)
    }

    private static func loadNumber(_ scalars: Span<UInt8>, _ scalar: Int) -> Double {
        Scalar.kind(scalars, scalar) == .double ? loadDouble(scalars, scalar + Scalar.headBytes) : 0
    }

    private static func appendScalar(_ scalars: Span<UInt8>, _ scalar: Int, to bytes: inout [UInt8]) {
        bytes.append(contentsOf: scalars.extracting(scalar..<scalar + Scalar.size(scalars, scalar)))
    }
}

/// What is known of an attribute's condition before the attributes before it are computed.
private enum ConditionVerdict {
    case matched, unmatched, failed
    /// It reads the profile, or there is none.
    case open

    init(_ error: EvaluationError) {
        // A field that an event does not have is no mistake of the rule.
        self = error.reason == .noSuchKey ? .unmatched : .failed
    }
}

/// Evaluates an attribute's rules and turns their value into scalars of the attribute's type.
private struct ScalarCollector {
    enum Outcome { case matched, unmatched, failed }

    private let attribute: AttributeShape
    private(set) var refusedValues = 0

    init(_ attribute: AttributeShape) { self.attribute = attribute }

    /// - Parameter isOpen: whether the condition is to be evaluated, too.
    mutating func collect(
        _ program: borrowing Program, _ bindings: borrowing DecisionBindings, isOpen: Bool, _ evaluator: inout Evaluator,
        into scalars: inout [UInt8]
    ) -> Outcome {
        do {
            if isOpen, let condition = attribute.condition {
                if !(try evaluator.evaluate(program, condition, bindings)).isTrue { return .unmatched }
            }
            guard let expression = attribute.value else { return .matched }
            let value = try evaluator.evaluate(program, expression, bindings)
            if value.kind == .null { return .unmatched }
            var isRight = true
            if value.kind == .list {
                if !attribute.type.hasElements { return .failed }
                for index in 0..<evaluator.count(value) {
                    let element = evaluator.element(value, index, program, bindings)
                    if !append(element, program, bindings, &evaluator, to: &scalars) { isRight = false }
                }
            } else {
                isRight = append(value, program, bindings, &evaluator, to: &scalars)
            }
            if !scalars.isEmpty { return .matched }
            return isRight ? .unmatched : .failed
        } catch {
            return ConditionVerdict(error) == .failed ? .failed : .unmatched
        }
    }

    /// False: not of the attribute's type. A value that is too long to be kept is refused and counted.
    private mutating func append(
        _ value: Value, _ program: borrowing Program, _ bindings: borrowing DecisionBindings,
        _ evaluator: inout Evaluator, to scalars: inout [UInt8]
    ) -> Bool {
        switch attribute.type {
        case .sum, .min, .max, .mean, .number:
            guard let number = value.number, number.isFinite else { return false }
            let isSum = attribute.type == .sum || attribute.type == .mean
            if isSum, number.magnitude >= Limits.summandMagnitude { return false }
            return Scalar.append(double: number, to: &scalars)
        case .boolean:
            guard let flag = value.boolValue else { return false }
            Scalar.append(bool: flag, to: &scalars)
            return true
        case .string, .tally:
            if value.kind != .string { return false }
        case .date:
            if let time = value.timestampMilliseconds {
                Scalar.append(.timestamp, UInt64(bitPattern: time), to: &scalars)
                return true
            }
            guard let time = evaluator.withText(value, program, bindings, { DateText.parse($0) }) else { return false }
            Scalar.append(.timestamp, UInt64(bitPattern: time), to: &scalars)
            return true
        default: break
        }
        switch value.kind {
        case .bool: Scalar.append(bool: value.isTrue, to: &scalars)
        case .int: Scalar.append(.int, UInt64(bitPattern: value.intValue ?? 0), to: &scalars)
        case .uint: Scalar.append(.uint, value.uintValue ?? 0, to: &scalars)
        case .double: return Scalar.append(double: value.doubleValue ?? 0, to: &scalars)
        case .timestamp:
            Scalar.append(.timestamp, UInt64(bitPattern: value.timestampMilliseconds ?? 0), to: &scalars)
        case .duration: Scalar.append(.duration, UInt64(bitPattern: value.durationMilliseconds ?? 0), to: &scalars)
        case .string:
            let isKept = evaluator.withText(value, program, bindings) { Scalar.append(string: $0, to: &scalars) }
            if !isKept { refusedValues += 1 }
        default: return false
        }
        return true
    }
}

/// The texts that a `date` is made of.
enum DateText {
    /// Milliseconds since the epoch of an RFC 3339 time or of a date alone (`2026-01-31`: its beginning in UTC).
    static func parse(_ text: Span<UInt8>) -> Int64? {
        if text.count != 10 { return Timestamp.parse(text) }
        var bytes = [UInt8](copying: text)
        bytes.append(contentsOf: Array("T00:00:00Z".utf8))
        return Timestamp.parse(bytes.span)
    }
}
