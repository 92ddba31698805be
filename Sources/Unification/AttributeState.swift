// What is kept of each type of attribute, and how two states of it become one. An event's contribution is itself a
// small state, so that counting an event, merging two people, replaying a log and bringing devices together are the
// same operation, `merge`. Each type is a replicated data type (CRDT) whose kind stands below it:
//
//   counter         add                                                 payload: Int64
//                     commutative monoid: each event in one part only, as in a grow-only counter of parts
//   sum             add, exactly                                        `ExactSum`
//                     commutative monoid: an increment-decrement counter of parts
//   mean            like sum, with a count                              `ExactSum`, Int64
//                     product of the two monoids before
//   min, max        the smaller, the larger                             Double
//                     semilattice: min register, max register
//   first, last     the earlier, the later by event time, then the smaller, the larger by bytes   scalar
//                     semilattice: first-writer-wins, last-writer-wins register with a total order
//   string, number, boolean, date   like last, of one type              scalar
//                     semilattice: last-writer-wins register
//   badge           the latest time at which it was granted             nothing: the entry's time
//                     semilattice: max register
//   set             union; of an element the latest time; the newest `limit` stay        elements, newest first
//                     semilattice: grow-only map of max registers, of which only the top is kept: what is not among
//                     the newest of a part is not among those of all
//   timeline        union of (time, value); the newest `limit` stay     elements, newest first
//                     semilattice: grow-only set, of which only the top is kept
//   tally           counts add; of a key the latest time; the largest `limit` stay       keys, largest first
//                     commutative monoid: grow-only map of counters, as long as all keys fit; over the limit an
//                     ESTIMATE: what a part dropped is missing from the count of all
//   with a window   the same for each bucket of time; buckets older than the window go   buckets, newest first
//                     grow-only map of bucket to the type's own kind, of which only the newest are kept: older than
//                     the newest of a part is older than the newest of all
//   first in a visit   like first, but lasts as long as the visit       scalar, time of its event
//                     semilattice: first-writer-wins register beside a max register
//
// All of these are commutative and associative to the byte, whatever the order of events and however they are dealt out
// over parts, below the limits on elements and while numbers stay within their ends (where they stop). The semilattices
// are idempotent as well. When a state has ended is not for `merge` to say: see `Attribute.hasEnded`. It need not know
// events, rules or where records are kept.

import Formats

/// What the payload of an entry is. The raw values are part of the record format; 2, 3, 18 and 19 were sums of doubles,
/// which are dropped where they are met.
enum StateForm: UInt8 {
    case counter = 1
    case minimum = 4
    case maximum, first, last, badge, set, timeline, tally
    case sum, mean, visitFirst
    case windowedCounter = 17
    case windowedMinimum = 20
    case windowedMaximum, windowedSum, windowedMean

    var isWindowed: Bool { rawValue >= 17 }

    /// Bytes of a bucket's content.
    var bucketBytes: Int {
        switch self {
        case .windowedCounter: 4
        case .windowedSum: ExactSum.byteCount
        case .windowedMean: ExactSum.byteCount + 4
        default: 8
        }
    }
}

/// What the bundle says about merging.
struct StatePolicy {
    /// Elements of a set, timeline or tally.
    var limit = Limits.maximumElements
    /// Milliseconds after which the state, or an element of it, is no more; 0 for never.
    var timeToLive: Int64 = 0
    /// A visit begins and ends as a whole; otherwise elements of sets and timelines end one by one.
    var isVisit = false

    var elementTimeToLive: Int64 { isVisit ? 0 : timeToLive }
}

/// An entry under construction at the end of a buffer.
struct EntryBuilder {
    let start: Int

    /// Begins an entry at the end of `bytes`.
    init(_ bytes: inout [UInt8], tag: UInt32, form: StateForm, time: Int64) {
        start = bytes.count
        bytes.append32(tag)
        bytes.append(form.rawValue)
        bytes.append(0)
        bytes.append16(0)
        bytes.append64(UInt64(bitPattern: time))
    }

    /// Writes the payload's length; the payload must be under 64 KiB, which `Limits.attributeBytes` sees to.
    func finish(_ bytes: inout [UInt8]) {
        bytes.store16(UInt16(bytes.count - start - RecordLayout.entryHeaderBytes), at: start + 6)
    }
}

enum AttributeState {
    /// Appends to `bytes` the state that the entries at `first` and `second` of the same buffer are together, as an
    /// entry.
    /// - Parameter isEvent: `second` is the contribution of one event; a full tally then makes room for a new key.
    /// - Returns: where it begins.
    static func merge(
        _ bytes: inout [UInt8], _ first: Int, _ second: Int, _ policy: StatePolicy, isEvent: Bool = false
    ) -> Int {
        let a = RecordEntry(bytes.span, at: first)
        let b = RecordEntry(bytes.span, at: second)
        // States of different forms or of none are not the plan's; one form, not one time, makes that associative.
        guard let form = StateForm(rawValue: a.form), a.form == b.form else {
            return copy(&bytes, a.form >= b.form ? a : b)
        }
        switch form {
        case .first: return copy(&bytes, isEarlier(bytes.span, a, b) ? a : b)
        case .last: return copy(&bytes, isEarlier(bytes.span, a, b) ? b : a)
        default: break
        }
        let builder = EntryBuilder(&bytes, tag: a.tag, form: form, time: max(a.time, b.time))
        switch form {
        case .counter:
            let sum = saturatingAdd(
                Int64(bitPattern: load64(bytes.span, a.payload)), Int64(bitPattern: load64(bytes.span, b.payload)))
            bytes.append64(UInt64(bitPattern: sum))
        case .sum, .mean:
            appendSum(&bytes, a.payload, b.payload)
            if form == .mean {
                let count = load64(bytes.span, a.end - 8) &+ load64(bytes.span, b.end - 8)
                bytes.append64(count)
            }
        case .minimum:
            bytes.appendDouble(min(loadDouble(bytes.span, a.payload), loadDouble(bytes.span, b.payload)))
        case .maximum:
            bytes.appendDouble(max(loadDouble(bytes.span, a.payload), loadDouble(bytes.span, b.payload)))
        case .visitFirst:
            let times = (load64(bytes.span, a.end - 8), load64(bytes.span, b.end - 8))
            let isFirst = times.0 != times.1
                ? Int64(bitPattern: times.0) < Int64(bitPattern: times.1)
                : Scalar.compare(bytes.span, a.payload, b.payload) <= 0
            bytes.appendCopy(of: isFirst ? a.payload..<a.end : b.payload..<b.end)
        case .badge, .first, .last:
            break
        case .set, .timeline:
            mergeElements(&bytes, a, b, form, policy, builder.start)
        case .tally:
            mergeTally(&bytes, a, b, policy, builder.start, isEvent: isEvent)
        case .windowedCounter, .windowedSum, .windowedMean, .windowedMinimum, .windowedMaximum:
            mergeBuckets(&bytes, a, b, form)
        }
        builder.finish(&bytes)
        return builder.start
    }

    private static func copy(_ bytes: inout [UInt8], _ entry: RecordEntry) -> Int {
        let start = bytes.count
        bytes.appendCopy(of: entry.start..<entry.end)
        return start
    }

    private static func isEarlier(_ bytes: Span<UInt8>, _ a: RecordEntry, _ b: RecordEntry) -> Bool {
        a.time != b.time ? a.time < b.time : Scalar.compare(bytes, a.payload, b.payload) <= 0
    }

    // MARK: Sums

    /// Appends the sum of the two at `a` and `b`.
    private static func appendSum(_ bytes: inout [UInt8], _ a: Int, _ b: Int) {
        var sum = ExactSum(bytes.span, a)
        sum.add(ExactSum(bytes.span, b))
        sum.append(to: &bytes)
    }

    static func saturatingAdd(_ a: Int64, _ b: Int64) -> Int64 {
        let (sum, overflowed) = a.addingReportingOverflow(b)
        return overflowed ? (a < 0 ? .min : .max) : sum
    }

    // MARK: Elements: time (6), scalar

    private static let elementHeadBytes = 6

    /// Merges two runs of elements that are both newest first. In a set, an element that both have stays once, at its
    /// latest time; in a timeline, only the very same moment is once.
    private static func mergeElements(
        _ bytes: inout [UInt8], _ a: RecordEntry, _ b: RecordEntry, _ form: StateForm, _ policy: StatePolicy,
        _ start: Int
    ) {
        var left = a.payload
        var right = b.payload
        var taken = 0
        let newest = max(a.time, b.time)
        while taken < policy.limit, left < a.end || right < b.end {
            let takesLeft = right >= b.end || (left < a.end && isNewer(bytes.span, left, right))
            let element = takesLeft ? left : right
            let size = elementHeadBytes + Scalar.size(bytes.span, element + elementHeadBytes)
            if takesLeft { left += size } else { right += size }
            let time = load48(bytes.span, element)
            // By the newest of both, never by a clock: what one part cuts, all parts together would have cut.
            if policy.elementTimeToLive > 0, saturatingAdd(time, policy.elementTimeToLive) < newest { return }
            let other = takesLeft ? b : a
            if hasNewerTwin(bytes.span, element, other, form, orEqual: !takesLeft) { continue }
            if bytes.count - start + size > Limits.attributeBytes { return }
            bytes.appendCopy(of: element..<element + size)
            taken += 1
        }
    }

    static func isNewer(_ bytes: Span<UInt8>, _ a: Int, _ b: Int) -> Bool {
        let first = load48(bytes, a)
        let second = load48(bytes, b)
        return first != second
            ? first > second : Scalar.compare(bytes, a + elementHeadBytes, b + elementHeadBytes) <= 0
    }

    /// Whether `other` has the same element at a later time (`orEqual`: or at the same).
    private static func hasNewerTwin(
        _ bytes: Span<UInt8>, _ element: Int, _ other: RecordEntry, _ form: StateForm, orEqual: Bool
    ) -> Bool {
        let time = load48(bytes, element)
        var candidate = other.payload
        while candidate < other.end {
            let candidateTime = load48(bytes, candidate)
            if candidateTime < time { return false }
            let isSameTime = candidateTime == time
            if isSameTime ? orEqual : form == .set,
                Scalar.areEqual(bytes, element + elementHeadBytes, candidate + elementHeadBytes)
            {
                return true
            }
            candidate += elementHeadBytes + Scalar.size(bytes, candidate + elementHeadBytes)
        }
        return false
    }

    // MARK: Tallies: count (4), time (6), scalar

    static let tallyHeadBytes = 10

    private static func mergeTally(
        _ bytes: inout [UInt8], _ a: RecordEntry, _ b: RecordEntry, _ policy: StatePolicy, _ start: Int, isEvent: Bool
    ) {
        var keep = policy.limit
        if isEvent, tallyCount(bytes.span, a) >= policy.limit, !hasKey(bytes.span, b.payload, a) { keep -= 1 }

        // What both have is counted together; the rest is copied. Each key is then put where it belongs: the larger
        // count first, then the later one, then by bytes.
        let first = bytes.count
        var keys = 0
        var key = a.payload
        while key < a.end {
            let size = tallyHeadBytes + Scalar.size(bytes.span, key + tallyHeadBytes)
            if keys < keep {
                insertKey(&bytes, key, find(bytes.span, key, in: b), from: first)
                keys += 1
            }
            key += size
        }
        key = b.payload
        while key < b.end {
            let size = tallyHeadBytes + Scalar.size(bytes.span, key + tallyHeadBytes)
            if find(bytes.span, key, in: a) == nil || !isAmongFirst(bytes.span, key, a, keep) {
                insertKey(&bytes, key, nil, from: first)
            }
            key += size
        }
        truncateTally(&bytes, from: first, to: policy.limit, start)
    }

    private static func tallyCount(_ bytes: Span<UInt8>, _ entry: RecordEntry) -> Int {
        var count = 0
        var key = entry.payload
        while key < entry.end {
            count += 1
            key += tallyHeadBytes + Scalar.size(bytes, key + tallyHeadBytes)
        }
        return count
    }

    private static func find(_ bytes: Span<UInt8>, _ key: Int, in entry: RecordEntry) -> Int? {
        var candidate = entry.payload
        while candidate < entry.end {
            if Scalar.areEqual(bytes, key + tallyHeadBytes, candidate + tallyHeadBytes) { return candidate }
            candidate += tallyHeadBytes + Scalar.size(bytes, candidate + tallyHeadBytes)
        }
        return nil
    }

    private static func hasKey(_ bytes: Span<UInt8>, _ key: Int, _ entry: RecordEntry) -> Bool {
        find(bytes, key, in: entry) != nil
    }

    /// Whether a key is among the first `count` of an entry.
    private static func isAmongFirst(_ bytes: Span<UInt8>, _ key: Int, _ entry: RecordEntry, _ count: Int) -> Bool {
        var candidate = entry.payload
        var left = count
        while candidate < entry.end, left > 0 {
            if Scalar.areEqual(bytes, key + tallyHeadBytes, candidate + tallyHeadBytes) { return true }
            candidate += tallyHeadBytes + Scalar.size(bytes, candidate + tallyHeadBytes)
            left -= 1
        }
        return false
    }

    /// Puts the key at `key`, with the count of its twin added, into the run from `first` to the end of `bytes`.
    private static func insertKey(_ bytes: inout [UInt8], _ key: Int, _ twin: Int?, from first: Int) {
        var count = UInt64(load32(bytes.span, key))
        var time = load48(bytes.span, key + 4)
        if let twin {
            count += UInt64(load32(bytes.span, twin))
            time = max(time, load48(bytes.span, twin + 4))
        }
        let size = tallyHeadBytes + Scalar.size(bytes.span, key + tallyHeadBytes)
        let added = bytes.count
        bytes.append32(UInt32(min(count, UInt64(UInt32.max))))
        bytes.append48(time)
        bytes.appendCopy(of: key + tallyHeadBytes..<key + size)
        var place = first
        while place < added, !isLarger(bytes.span, added, place) {
            place += tallyHeadBytes + Scalar.size(bytes.span, place + tallyHeadBytes)
        }
        rotate(&bytes, place, added)
    }

    static func isLarger(_ bytes: Span<UInt8>, _ a: Int, _ b: Int) -> Bool {
        let counts = (load32(bytes, a), load32(bytes, b))
        if counts.0 != counts.1 { return counts.0 > counts.1 }
        let times = (load48(bytes, a + 4), load48(bytes, b + 4))
        if times.0 != times.1 { return times.0 > times.1 }
        return Scalar.compare(bytes, a + tallyHeadBytes, b + tallyHeadBytes) < 0
    }

    /// Moves the end of `bytes`, from `middle` on, in front of what begins at `place`.
    private static func rotate(_ bytes: inout [UInt8], _ place: Int, _ middle: Int) {
        if place == middle { return }
        reverse(&bytes, place, middle)
        reverse(&bytes, middle, bytes.count)
        reverse(&bytes, place, bytes.count)
    }

    private static func reverse(_ bytes: inout [UInt8], _ start: Int, _ end: Int) {
        var low = start
        var high = end - 1
        while low < high {
            bytes.swapAt(low, high)
            low += 1
            high -= 1
        }
    }

    private static func truncateTally(_ bytes: inout [UInt8], from first: Int, to limit: Int, _ start: Int) {
        var key = first
        var kept = 0
        while key < bytes.count, kept < limit {
            let next = key + tallyHeadBytes + Scalar.size(bytes.span, key + tallyHeadBytes)
            if next - start > Limits.attributeBytes { break }
            key = next
            kept += 1
        }
        bytes.removeLast(bytes.count - key)
    }

    // MARK: Windows: number of the newest bucket (8), then for each: how many buckets older (1), content

    static let windowHeadBytes = 8

    private static func mergeBuckets(_ bytes: inout [UInt8], _ a: RecordEntry, _ b: RecordEntry, _ form: StateForm) {
        let newestA = Int64(bitPattern: load64(bytes.span, a.payload))
        let newestB = Int64(bitPattern: load64(bytes.span, b.payload))
        let newest = max(newestA, newestB)
        let (gapA, gapB) = (gap(newest, newestA), gap(newest, newestB))
        bytes.append64(UInt64(bitPattern: newest))
        let size = 1 + form.bucketBytes
        var left = a.payload + windowHeadBytes
        var right = b.payload + windowHeadBytes
        while left < a.end || right < b.end {
            let ageA = left < a.end ? gapA + Int64(bytes[left]) : Int64.max
            let ageB = right < b.end ? gapB + Int64(bytes[right]) : Int64.max
            let age = min(ageA, ageB)
            if age > Limits.windowBuckets { return }
            bytes.append(UInt8(age))
            if ageA == ageB {
                mergeBucket(&bytes, left + 1, right + 1, form)
            } else {
                let content = ageA < ageB ? left + 1 : right + 1
                bytes.appendCopy(of: content..<content + form.bucketBytes)
            }
            if ageA == age { left += size }
            if ageB == age { right += size }
        }
    }

    /// How many buckets one is older than another; of those too far apart for one window, some number that is too large.
    private static func gap(_ newest: Int64, _ older: Int64) -> Int64 {
        let (gap, isOver) = newest.subtractingReportingOverflow(older)
        return isOver ? 1 << 32 : min(gap, 1 << 32)
    }

    private static func mergeBucket(_ bytes: inout [UInt8], _ a: Int, _ b: Int, _ form: StateForm) {
        switch form {
        case .windowedCounter:
            let (sum, overflowed) = load32(bytes.span, a).addingReportingOverflow(load32(bytes.span, b))
            bytes.append32(overflowed ? .max : sum)
        case .windowedMinimum: bytes.appendDouble(min(loadDouble(bytes.span, a), loadDouble(bytes.span, b)))
        case .windowedMaximum: bytes.appendDouble(max(loadDouble(bytes.span, a), loadDouble(bytes.span, b)))
        default:
            appendSum(&bytes, a, b)
            if form == .windowedMean {
                let count = load32(bytes.span, a + ExactSum.byteCount) &+ load32(bytes.span, b + ExactSum.byteCount)
                bytes.append32(count)
            }
        }
    }
}
