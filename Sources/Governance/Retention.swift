// How long what is kept for a purpose may be kept, and what must outlast it. It need not know what is kept where.

import Formats

extension PurposePlan {
    /// Reads `{ ttl: 90d }`; milliseconds, 0 for no end.
    static func readTimeToLive(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ reader: inout PlanReader
    ) -> Int64 {
        if document.isNull(settings) { return 0 }
        guard document.kind(settings) == .object else {
            reader.report(document, settings, "a purpose's settings must be a map, such as { ttl: 90d }")
            return 0
        }
        reader.refuseOthers(document, settings, ["ttl"], of: "a purpose")
        return reader.duration(document, settings, "ttl") ?? 0
    }

    /// How long events that were taken for a purpose are kept, by its tag; 0 for no end, or for one that the bundle in force
    /// does not have.
    public func timeToLive(ofTag tag: UInt32) -> Int64 { index(ofTag: tag).map { timesToLive[$0] } ?? 0 }

    /// The shortest of all purposes that have an end; 0: none has one.
    public var shortestTimeToLive: Int64 {
        var shortest: Int64 = 0
        for time in timesToLive where time > 0 && (shortest == 0 || time < shortest) { shortest = time }
        return shortest
    }

    /// How long after they were last seen a person's profile is kept: the longest time of the purposes that they grant. One
    /// who grants none any more is not to be processed for anything: the shortest.
    /// - Returns: milliseconds; 0 for no end.
    public func timeToLive(ofPersonGranting granted: PurposeSet) -> Int64 {
        var longest: Int64 = 0
        var isGranting = false
        for index in timesToLive.indices where granted.contains(PurposeSet(purpose: index)) {
            if timesToLive[index] == 0 { return 0 }
            isGranting = true
            longest = max(longest, timesToLive[index])
        }
        return isGranting ? longest : shortestTimeToLive
    }
}

extension ConsentRecord {
    /// Whether a person has refused something: whoever forgets by which identifiers they are known forgets that as well.
    /// In doubt (a record that fails its checksum), yes.
    /// - Parameter chosen: only what the person chose to refuse counts, and not what an SDK reports with every event.
    public static func holdsRefusal(_ record: Span<UInt8>, chosen: Bool = false) -> Bool {
        if record.isEmpty { return false }
        guard isIntact(record) else { return true }
        var offset = 4
        while offset < record.count {
            let isReported = record[offset + 5] == ConsentSource.event.rawValue
            if record[offset + 4] != State.granted.rawValue, !(chosen && isReported) { return true }
            offset += entryBytes
        }
        return false
    }
}
