// Gives rules their values: those of a profile straight from its record, where it lies in the store's memory map, the
// rest from what surrounds the decision. It need not know which rules there are.

import CEL
import Formats
import Governance

/// One bit for each audience of the bundle.
public struct AudienceSet: Equatable, Sendable {
    private var words: [UInt64]

    /// - Parameter count: audiences of the bundle.
    public init(count: Int) { words = [UInt64](repeating: 0, count: (count + 63) / 64) }

    /// Whether the person is in an audience, 0 ..< count; false for any other number.
    public subscript(_ audience: Int) -> Bool {
        get { audience >> 6 < words.count && words[audience >> 6] >> UInt64(audience & 63) & 1 == 1 }
        set {
            let bit = UInt64(1) << UInt64(audience & 63)
            if newValue { words[audience >> 6] |= bit } else { words[audience >> 6] &= ~bit }
        }
    }

    public mutating func removeAll() {
        for index in words.indices { words[index] = 0 }
    }
}

/// What rules may ask for besides the profile. Kept by a thread and changed from decision to decision; a class, so that
/// bindings refer to it and copy nothing.
///
/// Set `event` and `context` back to nil before their documents parse the next text, and let the evaluator `end()`:
/// a document that is referred to from here is copied when it changes.
public final class Surroundings {
    /// `now`, milliseconds since the epoch.
    public var now: Int64
    /// `event.timestamp`, milliseconds since the epoch; nil: not set.
    public var eventTimestamp: Int64?
    /// When the event is processed, if that is not `now`: an event of the log that is counted once more sees the time at which
    /// it came, and what has ended since has ended.
    public var processedAt: Int64?
    /// `age.profile` and `age.bundle`, milliseconds; nil: never fresh, `has()` is false.
    public var profileAge: Int64?
    public var bundleAge: Int64?
    /// The members of `device` as UTF-8, in the order given to `Slots.environment`.
    public var device: [[UInt8]] = []
    /// Of the event under way: what its person is drawn by if it is their first (`IdentifierKey.seed`).
    public var seed: UInt64 = 0
    /// The hidden attribute that keeps what was served, while that is put into a profile, and the value that it gets.
    public var served: Int?
    public var servedValue: UInt64 = 0
    /// `consent`: the purposes that the person has granted.
    public var consent: PurposeSet = []
    /// `audience`: the audiences that the person is in.
    public var audiences: AudienceSet
    /// `score`; nil: every score is 0.
    public var scores: ScoreSource?
    /// `event`; nil: an empty object. When attributes are computed this must be the event as `EventSanitizer` wrote it:
    /// an attribute keeps what a rule makes of an event, and a rule that cannot see a raw identifier cannot keep a part
    /// of it.
    public var event: JSONDocument?
    /// `context`; nil: an empty object.
    public var context: JSONDocument?

    public init(now: Int64, audienceCount: Int = 0) {
        self.now = now
        audiences = AudienceSet(count: audienceCount)
    }
}

/// Computes scores when a rule asks for one. A class to be derived from: what scores are is known further up.
open class ScoreSource {
    public init() {}

    /// The value of a score for what the bindings show. They are those of one question until `finish()`.
    open func score(_ number: Int, _ bindings: borrowing DecisionBindings) -> Double { 0 }

    /// Ends a question: lets go of its documents and values.
    /// - Returns: how many expressions failed in it, but for those that missed a value.
    open func finish() -> Int { 0 }
}

/// The values of all names that rules use, for one evaluation. Lives as long as the record that it reads from.
public struct DecisionBindings: Bindings, ~Escapable {
    private let record: Span<UInt8>
    private let index: ProfileIndex
    private let plan: AttributePlan
    private let slots: Slots
    private let surroundings: Surroundings

    /// - Parameters:
    ///   - record: `ProfileView.bytes`; empty for a person who is not known, or may not be.
    ///   - index: filled from that record, or cleared.
    @_lifetime(copy record)
    public init(
        record: Span<UInt8>, index: ProfileIndex, plan: AttributePlan, slots: Slots, surroundings: Surroundings
    ) {
        self.record = record
        self.index = index
        self.plan = plan
        self.slots = slots
        self.surroundings = surroundings
    }

    public var region: Span<UInt8> {
        @_lifetime(copy self)
        get { record }
    }

    public borrowing func document(_ number: Int) -> JSONDocument? {
        number == Slots.eventDocument ? surroundings.event : surroundings.context
    }

    public borrowing func load(_ slot: Int, into heap: inout Heap) -> Value? {
        if slot >= slots.firstAttribute {
            let attribute = slot - slots.firstAttribute
            if attribute < plan.known {
                return AttributeReader(record, index, plan, surroundings.now).value(attribute, &heap)
            }
            let favorite = attribute - plan.known
            if favorite >= plan.favorites.count { return nil }
            return AttributeReader(record, index, plan, surroundings.now).favorite(plan.favorites[favorite])
        }
        if slot >= slots.firstScore {
            return .double(surroundings.scores?.score(slot - slots.firstScore, self) ?? 0)
        }
        if slot >= slots.firstAudience { return .bool(surroundings.audiences[slot - slots.firstAudience]) }
        if slot >= slots.firstConsent {
            return .bool(surroundings.consent.contains(PurposeSet(purpose: slot - slots.firstConsent)))
        }
        if slot >= Slots.firstDevice {
            let field = slot - Slots.firstDevice
            if field >= surroundings.device.count { return nil }
            let text = surroundings.device[field]
            return heap.string(text.span)
        }
        switch slot {
        case Slots.now: return .timestamp(milliseconds: surroundings.now)
        case Slots.eventTimestamp: return surroundings.eventTimestamp.map { .timestamp(milliseconds: $0) }
        case Slots.profileAge: return surroundings.profileAge.map { .duration(milliseconds: $0) }
        case Slots.bundleAge: return surroundings.bundleAge.map { .duration(milliseconds: $0) }
        default: return nil
        }
    }
}

/// Reads what an attribute's state means at a moment.
struct AttributeReader: ~Escapable {
    private let record: Span<UInt8>
    private let index: ProfileIndex
    private let plan: AttributePlan
    private let now: Int64

    @_lifetime(copy record)
    init(_ record: Span<UInt8>, _ index: ProfileIndex, _ plan: AttributePlan, _ now: Int64) {
        self.record = record
        self.index = index
        self.plan = plan
        self.now = now
    }

    /// The value of an attribute; nil: not set. Text refers to the record.
    func value(_ number: Int, _ heap: inout Heap) -> Value? {
        let attribute = plan.attributes[number].shape
        guard let entry = entry(number) else {
            switch attribute.type {
            case .counter: return .int(0)
            case .sum: return .double(0)
            case .badge: return .bool(false)
            case .set, .timeline:
                heap.beginList()
                return heap.endList()
            case .tally:
                heap.beginMap()
                return heap.endMap()
            default: return nil
            }
        }
        switch attribute.form {
        case .counter, .windowedCounter: return .int(count(entry, attribute))
        case .sum, .mean, .minimum, .maximum, .windowedSum, .windowedMean, .windowedMinimum, .windowedMaximum:
            if let result = self.number(entry, attribute) { return .double(result) }
            return attribute.type == .sum ? .double(0) : nil
        case .first, .last, .visitFirst: return Scalar.value(record, entry.payload)
        case .badge: return .bool(true)
        case .set, .timeline: return elements(entry, attribute, &heap)
        case .tally: return tally(entry, &heap)
        }
    }

    /// The most frequent value of a tally; nil for an empty one.
    func favorite(_ number: Int) -> Value? {
        guard let entry = entry(number), entry.length > 0 else { return nil }
        return Scalar.value(record, entry.payload + AttributeState.tallyHeadBytes)
    }

    /// The state of an attribute, or nil: unset, or at its end.
    func entry(_ number: Int) -> RecordEntry? {
        if record.isEmpty { return nil }
        guard let entry = index.entry(number, in: record) else { return nil }
        return plan.attributes[number].shape.hasEnded(entry.time, now: now) ? nil : entry
    }

    // MARK: Numbers

    func count(_ entry: RecordEntry, _ attribute: AttributeShape) -> Int64 {
        if attribute.form == .counter { return Int64(bitPattern: load64(record, entry.payload)) }
        var total: Int64 = 0
        var bucket = firstBucket(entry)
        while let place = currentBucket(entry, attribute, bucket) {
            total += Int64(load32(record, place))
            bucket += 1 + attribute.form.bucketBytes
        }
        return total
    }

    /// A sum, mean, minimum or maximum; nil when nothing is in the window.
    func number(_ entry: RecordEntry, _ attribute: AttributeShape) -> Double? {
        switch attribute.form {
        case .minimum, .maximum: return loadDouble(record, entry.payload)
        case .sum: return ExactSum(record, entry.payload).value
        case .mean: return ExactSum(record, entry.payload).value / Double(load64(record, entry.end - 8))
        default: break
        }
        var extreme: Double?
        var sum = ExactSum()
        var weight: Double = 0
        var bucket = firstBucket(entry)
        while let place = currentBucket(entry, attribute, bucket) {
            switch attribute.form {
            case .windowedMinimum: extreme = min(extreme ?? .infinity, loadDouble(record, place))
            case .windowedMaximum: extreme = max(extreme ?? -.infinity, loadDouble(record, place))
            default:
                sum.add(ExactSum(record, place))
                weight += attribute.form == .windowedMean ? Double(load32(record, place + ExactSum.byteCount)) : 1
            }
            bucket += 1 + attribute.form.bucketBytes
        }
        if weight == 0 { return extreme }
        return attribute.form == .windowedMean ? sum.value / weight : sum.value
    }

    private func firstBucket(_ entry: RecordEntry) -> Int { entry.payload + AttributeState.windowHeadBytes }

    /// The content of the bucket at `place`, or nil: there is none, or it lies wholly before the window. A bucket that
    /// the window's beginning cuts counts in full: that is the resolution.
    private func currentBucket(_ entry: RecordEntry, _ attribute: AttributeShape, _ place: Int) -> Int? {
        if place >= entry.end { return nil }
        let newest = Int64(bitPattern: load64(record, entry.payload))
        return attribute.bucketEnd(newest, record[place]) > now - attribute.window ? place + 1 : nil
    }

    // MARK: Elements

    private func elements(_ entry: RecordEntry, _ attribute: AttributeShape, _ heap: inout Heap) -> Value {
        heap.beginList()
        forEachElement(entry, attribute) { time, scalar in
            if attribute.type == .set {
                heap.append(Scalar.value(record, scalar))
            } else if attribute.value == nil {
                heap.append(.timestamp(milliseconds: time))
            } else {
                heap.beginMap()
                heap.append(heap.string("at"))
                heap.append(.timestamp(milliseconds: time))
                heap.append(heap.string("value"))
                heap.append(Scalar.value(record, scalar))
                heap.append(heap.endMap())
            }
        }
        return heap.endList()
    }

    /// Calls `body` with the time and the scalar's place of each element that is left, newest first.
    func forEachElement(_ entry: RecordEntry, _ attribute: AttributeShape, _ body: (Int64, Int) -> Void) {
        var element = entry.payload
        while element < entry.end {
            let time = load48(record, element)
            if attribute.hasElementEnded(time, now: now) { return }
            body(time, element + 6)
            element += 6 + Scalar.size(record, element + 6)
        }
    }

    private func tally(_ entry: RecordEntry, _ heap: inout Heap) -> Value {
        heap.beginMap()
        forEachKey(entry) { count, scalar in
            heap.append(Scalar.value(record, scalar))
            heap.append(.int(Int64(count)))
        }
        return heap.endMap()
    }

    /// Calls `body` with the count and the scalar's place of each key, the most frequent first.
    func forEachKey(_ entry: RecordEntry, _ body: (UInt32, Int) -> Void) {
        var key = entry.payload
        while key < entry.end {
            let scalar = key + AttributeState.tallyHeadBytes
            body(load32(record, key), scalar)
            key = scalar + Scalar.size(record, scalar)
        }
    }
}
