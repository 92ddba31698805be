// Holds a record that another device has sent against all that reading and merging take for granted. A checksum finds
// damage; whoever makes a record makes its checksum too. It need not know who has sent it.

import Formats

extension ProfileRecord {
    /// Whether a record can be read, and merged with others, to its last byte.
    /// - Parameter latest: the latest time that its events may have, milliseconds since the epoch.
    static func isReadable(_ bytes: Span<UInt8>, until latest: Int64 = Limits.farthestMilliseconds) -> Bool {
        do throws(RecordDamage) {
            let view = try ProfileView(bytes)
            let times = -Limits.farthestMilliseconds...max(0, latest)
            guard times.contains(view.created), times.contains(view.lastSeen), view.revision < 1 << 62 else { return false }
            var place = RecordLayout.headerBytes
            var last: Int64 = -1
            for _ in 0..<view.entryCount {
                if place + RecordLayout.entryHeaderBytes > bytes.count { return false }
                let entry = RecordEntry(bytes, at: place)
                // The byte that is 0: of two entries one is kept as it is, and which depends on their order.
                guard entry.end <= bytes.count, Int64(entry.tag) > last, times.contains(entry.time), bytes[place + 5] == 0,
                    AttributeState.isReadable(bytes, entry)
                else { return false }
                last = Int64(entry.tag)
                place = entry.end
            }
            return place == bytes.count
        } catch {
            return false
        }
    }
}

extension AttributeState {
    /// Whether the payload of an entry is what its form says.
    /// - Parameter entry: lies within `bytes`.
    fileprivate static func isReadable(_ bytes: Span<UInt8>, _ entry: RecordEntry) -> Bool {
        // What no attribute has is copied and never read.
        guard let form = StateForm(rawValue: entry.form) else { return true }
        let (start, end) = (entry.payload, entry.end)
        switch form {
        case .counter: return entry.length == 8 && isCount(bytes, start)
        case .sum: return entry.length == ExactSum.byteCount
        case .mean: return entry.length == ExactSum.byteCount + 8 && isCount(bytes, end - 8) && load64(bytes, end - 8) > 0
        case .minimum, .maximum: return entry.length == 8 && isExtreme(bytes, start)
        case .badge: return entry.length == 0
        case .first, .last: return Scalar.end(bytes, start, before: end) == end
        case .visitFirst: return Scalar.end(bytes, start, before: end - 8) == end - 8
        case .set, .timeline, .tally: return hasReadableElements(bytes, entry, form)
        case .windowedCounter, .windowedMinimum, .windowedMaximum, .windowedSum, .windowedMean:
            return hasReadableBuckets(bytes, entry, form)
        }
    }

    /// -0.0, which no device writes, equals 0.0: which of the two came of both would depend on their order.
    private static func isExtreme(_ bytes: Span<UInt8>, _ place: Int) -> Bool {
        let value = loadDouble(bytes, place)
        return value.isFinite && value.bitPattern != (-0.0).bitPattern
    }

    private static func isCount(_ bytes: Span<UInt8>, _ place: Int) -> Bool { load64(bytes, place) < 1 << 62 }

    private static func hasReadableElements(_ bytes: Span<UInt8>, _ entry: RecordEntry, _ form: StateForm) -> Bool {
        if entry.length > Limits.attributeBytes { return false }
        let isTally = form == .tally
        let head = isTally ? tallyHeadBytes : tallyHeadBytes - 4
        let latest = max(0, entry.time)
        var place = entry.payload
        var former = -1
        var count = 0
        while place < entry.end {
            guard count < Limits.maximumElements, place + head < entry.end,
                let end = Scalar.end(bytes, place + head, before: entry.end)
            else { return false }
            if load48(bytes, place + head - 6) > latest { return false }
            // Each in its order, and none twice: else what two records are together would depend on which is the first.
            if former >= 0, isTally ? !isLarger(bytes, former, place) : isNewer(bytes, place, former) { return false }
            // In a timeline the same at another time is another moment.
            if form != .timeline, isThere(before: place, bytes, entry, head) { return false }
            former = place
            place = end
            count += 1
        }
        return true
    }

    /// Whether the element at `place` stands before it already.
    private static func isThere(before place: Int, _ bytes: Span<UInt8>, _ entry: RecordEntry, _ head: Int) -> Bool {
        var other = entry.payload
        while other < place {
            if Scalar.areEqual(bytes, other + head, place + head) { return true }
            other += head + Scalar.size(bytes, other + head)
        }
        return false
    }

    private static func hasReadableBuckets(_ bytes: Span<UInt8>, _ entry: RecordEntry, _ form: StateForm) -> Bool {
        let size = 1 + form.bucketBytes
        guard entry.length >= windowHeadBytes, (entry.length - windowHeadBytes) % size == 0 else { return false }
        let newest = Int64(bitPattern: load64(bytes, entry.payload))
        guard newest.magnitude <= UInt64(Limits.farthestMilliseconds) else { return false }
        var age: Int64 = -1
        var place = entry.payload + windowHeadBytes
        while place < entry.end {
            let ofExtremes = form == .windowedMinimum || form == .windowedMaximum
            if Int64(bytes[place]) <= age || ofExtremes && !isExtreme(bytes, place + 1) { return false }
            age = Int64(bytes[place])
            place += size
        }
        return age <= Limits.windowBuckets
    }
}

extension Scalar {
    /// Where the scalar at `offset` ends; nil: what stands there is none.
    fileprivate static func end(_ bytes: Span<UInt8>, _ offset: Int, before limit: Int) -> Int? {
        guard offset + headBytes <= limit, offset + size(bytes, offset) <= limit else { return nil }
        let (content, end) = (offset + headBytes, offset + size(bytes, offset))
        let length = end - content
        let isRight: Bool
        switch kind(bytes, offset) {
        case .bool: isRight = length == 1
        case .int, .uint: isRight = length == 8
        case .timestamp, .duration:
            isRight = length == 8
                && Int64(bitPattern: load64(bytes, content)).magnitude <= UInt64(Limits.farthestMilliseconds)
        case .double: isRight = length == 8 && !loadDouble(bytes, content).isNaN
        case .string:
            isRight = length <= Limits.valueBytes && UTF8Text.firstInvalid(bytes.extracting(content..<end)) == nil
        // A moment of a timeline without a value.
        case nil: isRight = load16(bytes, offset) == 0
        }
        return isRight ? end : nil
    }
}
