// Since when each attribute has been counted. The store remembers by which rules it has counted, so that an attribute whose
// rule is new is computed from the log as far as that goes back, and a person's record can say what it lacks. It need not
// know events, nor how the log is gone through.

import Formats
import Store

/// What the store remembers of one attribute; sequence numbers are those of the log, times milliseconds since the epoch.
struct CountedAttribute: Equatable {
    static let fieldCount = 8

    /// Of name, type, rules, window and scope: a changed rule is another attribute.
    let tag: UInt32
    /// From which event on each has been counted, those from `start` to `end` taken as done; 0: from the next that can be
    /// read.
    var since: UInt64
    var sinceTime: Int64
    /// The events that are yet to be counted from the log; none where both are the same.
    var start: UInt64
    var end: UInt64
    /// When the attribute came, and was counted with each event from `end` on.
    var endTime: Int64
    /// The first event that was not counted, since no bundle had the attribute any more; 0: the one in force has it.
    var left: UInt64 = 0
    var leftTime: Int64 = 0

    var isFilling: Bool { start < end }

    func isCounted(_ number: UInt64) -> Bool { start <= number && number < end }

    init(tag: UInt32, next: UInt64, first: UInt64, now: Int64) {
        self.tag = tag
        since = first <= 1 ? 1 : 0
        sinceTime = 0
        start = max(1, first)
        end = next
        endTime = now
        if !isFilling { finish() }
    }

    init(_ numbers: [UInt64], at place: Int) {
        tag = UInt32(truncatingIfNeeded: numbers[place])
        since = numbers[place + 1]
        sinceTime = Int64(bitPattern: numbers[place + 2])
        start = numbers[place + 3]
        end = numbers[place + 4]
        endTime = Int64(bitPattern: numbers[place + 5])
        left = numbers[place + 6]
        leftTime = Int64(bitPattern: numbers[place + 7])
    }

    func append(to numbers: inout [UInt64]) {
        numbers += [
            UInt64(tag), since, UInt64(bitPattern: sinceTime), start, end, UInt64(bitPattern: endTime), left,
            UInt64(bitPattern: leftTime),
        ]
    }

    /// What is to be counted from the log has been.
    mutating func finish() {
        if since == 0 { (since, sinceTime) = (end, endTime) }
        start = end
    }

    /// Another bundle does not have the attribute: its states in records are kept for a while, and not touched.
    mutating func leave(next: UInt64, now: Int64) {
        if left != 0 { return }
        if isFilling {
            since = 0
            finish()
        }
        (left, leftTime) = (next, now)
    }

    /// A bundle has it again: the events from when it left are counted, and only those.
    mutating func come(next: UInt64, first: UInt64, now: Int64) {
        if left == 0 { return }
        if first > left { since = 0 }
        // By now its states may have been dropped from some records.
        if now - leftTime > Limits.unknownAttributeMilliseconds { (since, sinceTime) = (next, now) }
        (start, end, endTime) = (max(left, first), next, now)
        left = 0
        if !isFilling { finish() }
    }
}

/// What the store remembers of all attributes: those of the bundle in force in its order, then those that have left. In the
/// table `meta`, numbers behind a checksum.
public struct AttributeHistory: Equatable {
    /// The next entry of the log to be counted once more; it stands for nothing when none is.
    public private(set) var next: UInt64 = 0
    private(set) var counted: [CountedAttribute] = []
    /// Whether something is yet to be counted.
    public private(set) var isFilling = false

    public static let key: [UInt8] = Array("attributes".utf8)

    public init() {}

    /// - Returns: nil for a record that is damaged.
    public init?(_ record: Span<UInt8>) {
        let count = (record.count - 4) / 8
        guard let numbers = Record.decode(record, count: count), count % CountedAttribute.fieldCount == 1 else { return nil }
        next = numbers[0]
        for place in stride(from: 1, to: count, by: CountedAttribute.fieldCount) {
            counted.append(CountedAttribute(numbers, at: place))
            if counted[counted.count - 1].isFilling { isFilling = true }
        }
    }

    public var record: [UInt8] {
        var numbers = [next]
        for attribute in counted { attribute.append(to: &numbers) }
        return Record.encode(numbers)
    }

    // MARK: Another bundle

    /// Another bundle is in force, whose attributes are counted with each event from `sequence` on.
    /// - Parameters:
    ///   - sequence: number of the next event.
    ///   - first: of the first entry of the log; `sequence` where there is none.
    ///   - now: milliseconds since the epoch.
    public mutating func adopt(_ plan: AttributePlan, next sequence: UInt64, first: UInt64, now: Int64) {
        for index in counted.indices {
            // Part of it may be done.
            if counted[index].isFilling { counted[index].start = max(counted[index].start, min(next, counted[index].end)) }
        }
        var known: [CountedAttribute] = []
        for attribute in plan.attributes {
            // What is of one event is never kept, and never lacks anything.
            let isKept = attribute.scope != .event
            // What was shown is in no event, and what follows from that not before it.
            let earliest = attribute.isOfWhatWasShown ? sequence : first
            var mine = CountedAttribute(tag: attribute.tag, next: isKept ? sequence : 1, first: isKept ? earliest : 1, now: now)
            if attribute.isOfWhatWasShown { mine.since = 1 }
            for other in counted where isKept && other.tag == attribute.tag {
                mine = other
                mine.come(next: sequence, first: first, now: now)
            }
            known.append(mine)
        }
        for other in counted where plan.index(ofTag: other.tag) == nil && known.count < Limits.rememberedAttributes {
            var gone = other
            gone.leave(next: sequence, now: now)
            // As long as its states may be there, and events that are in them, it must not be counted from the beginning.
            let isOver = now - gone.leftTime > Limits.unknownAttributeMilliseconds && first >= gone.left
            if !isOver { known.append(gone) }
        }
        counted = known
        next = sequence
        for attribute in counted where attribute.isFilling { next = min(next, attribute.start) }
        isFilling = next < sequence
    }

    // MARK: Counting once more

    /// The first event that was counted when it came.
    public var end: UInt64 {
        var end: UInt64 = 0
        for attribute in counted where attribute.isFilling { end = max(end, attribute.end) }
        return end
    }

    /// From which event on the attributes that came last have been counted; 1: from the first.
    public var since: (number: UInt64, time: Int64) {
        var newest = CountedAttribute(tag: 0, next: 0, first: 0, now: 0)
        for attribute in counted {
            let isNewer = attribute.end > newest.end
            if isNewer || attribute.end == newest.end && attribute.since > newest.since { newest = attribute }
        }
        return (newest.since, newest.sinceTime)
    }

    /// Says of each attribute of the plan whether the next entry is to be counted for it.
    public func select(_ plan: AttributePlan, into selection: inout [Bool]) {
        selection.removeAll(keepingCapacity: true)
        for (attribute, history) in zip(plan.attributes, counted) {
            selection.append(attribute.scope == .event || history.isCounted(next))
        }
    }

    /// The log begins with this entry only.
    public mutating func begin(at first: UInt64) {
        if first <= next { return }
        for index in counted.indices where counted[index].isFilling && counted[index].start < first {
            if counted[index].since < first { counted[index].since = 0 }
        }
        move(to: first)
    }

    /// The next entry cannot be counted for whoever it was about: it is gone, or cannot be read.
    public mutating func miss() {
        for index in counted.indices where counted[index].isCounted(next) && counted[index].since <= next {
            counted[index].since = 0
        }
    }

    /// When the attributes came that the next entry is to be counted for; where they came at different times, the first.
    public var cameAt: Int64 {
        var first = Int64.max
        for attribute in counted where attribute.isCounted(next) { first = min(first, attribute.endTime) }
        return first
    }

    /// The next entry is one that came at `time`, milliseconds since the epoch.
    public mutating func meet(at time: Int64) {
        for index in counted.indices where counted[index].isCounted(next) && counted[index].since == 0 {
            (counted[index].since, counted[index].sinceTime) = (next, time)
        }
    }

    /// Goes on behind the next entry.
    public mutating func pass() { move(to: next + 1) }

    private mutating func move(to number: UInt64) {
        next = number
        isFilling = false
        for index in counted.indices where counted[index].isFilling {
            if counted[index].end <= number { counted[index].finish() } else { isFilling = true }
        }
    }

    // MARK: What is lacking

    /// The attributes that do not know of all events of a person.
    /// - Parameters:
    ///   - firstSeen: when the person's first event came; `now`: milliseconds since the epoch, too.
    ///   - passedOver: see `ConsentRecord.passedOver`. Of attributes that came later than those it cannot be told whether
    ///     the person had granted everything again by then.
    /// - Returns: numbers of the plan's attributes.
    public func incomplete(_ plan: AttributePlan, firstSeen: Int64, passedOver: Int64?, now: Int64) -> [Int] {
        var found: [Int] = []
        for number in plan.attributes.indices {
            let attribute = plan.attributes[number]
            for history in counted where history.tag == attribute.tag {
                let (since, time) = history.isFilling ? (history.end, history.endTime) : (history.since, history.sinceTime)
                // What came before is over by itself where the attribute has an end.
                let lacksSome = history.end > 1 && passedOver.map { $0 <= history.endTime } ?? false
                let from = lacksSome ? max(time, history.endTime) : time
                let isOver = since <= 1 && !lacksSome || attribute.isHidden || attribute.scope == .event
                    || attribute.span > 0 && from + attribute.span < now
                if !isOver, lacksSome || firstSeen <= time { found.append(number) }
            }
        }
        return found
    }
}
