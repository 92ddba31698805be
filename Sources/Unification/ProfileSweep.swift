// Takes out of a record what its time is up for, although its person never comes again: an attribute past its `ttl` or
// window, and elements and buckets of one that lives on. What rules see does not change: they see none of it already. It
// need not know which records there are, nor when they are looked at.

import Formats
import Store

extension AttributePlan {
    /// Whether any attribute has an end.
    public var hasEnds: Bool { attributes.contains { $0.span > 0 } }

    /// Whether what an expression comes to may change through time alone: it reads a time or an age, or an attribute that
    /// ends.
    public func mayChange(_ read: [Int], _ slots: Slots) -> Bool {
        for slot in read {
            if slot == Slots.now || slot == Slots.profileAge || slot == Slots.bundleAge { return true }
            if let number = slots.attribute(slot, of: attributes.count, favorites: favorites), attributes[number].span > 0 {
                return true
            }
        }
        return false
    }

    /// The longest time that any attribute lasts, milliseconds; 0: none ends.
    public var longestSpan: Int64 {
        var longest: Int64 = 0
        for attribute in attributes { longest = max(longest, attribute.span) }
        return longest
    }

    /// The shortest `ttl`, milliseconds; 0: none has one. That a visit ends is no promise to have it off the disk at once.
    public var shortestTimeToLive: Int64 {
        var shortest: Int64 = 0
        for attribute in attributes {
            let time = attribute.policy.timeToLive
            if time > 0, !attribute.policy.isVisit, shortest == 0 || time < shortest { shortest = time }
        }
        return shortest
    }
}

extension AttributeShape {
    /// Where what is left of an entry at `now` ends: set, timeline and windows have the newest first.
    fileprivate func end(of entry: RecordEntry, in record: Span<UInt8>, now: Int64) -> Int {
        var place = entry.payload
        switch form {
        case .set, .timeline:
            while place < entry.end {
                if hasElementEnded(load48(record, place), now: now) { return place }
                place += 6 + Scalar.size(record, place + 6)
            }
        case .windowedCounter, .windowedSum, .windowedMean, .windowedMinimum, .windowedMaximum:
            let newest = Int64(bitPattern: load64(record, place))
            place += AttributeState.windowHeadBytes
            while place < entry.end {
                if bucketEnd(newest, record[place]) <= now - window { return place }
                place += 1 + form.bucketBytes
            }
        default: break
        }
        return entry.end
    }
}

public enum ProfileSweep {
    /// Writes the record without what has ended at `now`.
    /// - Parameter record: overwritten; of no meaning when nothing has ended.
    /// - Returns: how many attributes ended or lost a part; 0: the record is as it should be.
    public static func rewrite(
        _ view: borrowing ProfileView, _ plan: borrowing AttributePlan, now: Int64, into record: inout [UInt8]
    ) -> Int {
        let old = view.bytes
        record.removeAll(keepingCapacity: true)
        record.append(contentsOf: old.extracting(0..<RecordLayout.headerBytes))
        var ended = 0
        var kept: UInt16 = 0
        var start = RecordLayout.headerBytes
        for _ in 0..<view.entryCount {
            // Of a record with a right checksum and wrong lengths nothing is touched.
            if start + RecordLayout.entryHeaderBytes > old.count { return 0 }
            let entry = RecordEntry(old, at: start)
            if entry.end > old.count { return 0 }
            start = entry.end
            var end = entry.end
            if let number = plan.index(ofTag: entry.tag) {
                let attribute = plan.attributes[number].shape
                // A state of another form than the attribute's is one of an earlier version: nobody reads it.
                let isOver = attribute.form.rawValue != entry.form || attribute.hasEnded(entry.time, now: now)
                end = isOver ? entry.start : attribute.end(of: entry, in: old, now: now)
            }
            if end < entry.end { ended += 1 }
            if end == entry.start { continue }
            let place = record.count
            record.append(contentsOf: old.extracting(entry.start..<end))
            record.store16(UInt16(end - entry.payload), at: place + 6)
            kept += 1
        }
        if ended == 0 { return 0 }
        record.store16(kept, at: RecordLayout.countOffset)
        record.store32(RecordChecksum.of(record.span), at: 0)
        return ended
    }
}
