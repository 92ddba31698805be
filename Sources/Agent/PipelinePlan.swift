// Where the journey of an event meets the tracking plan beyond its schema: what is mended before it begins, and what is
// observed of it.

import Collection
import Formats
import Store

/// What the pipeline remembers between its records of what it has observed.
struct Observed {
    /// Whether something was seen that no record has yet.
    var isNew: Bool
    /// When freshness was last kept, milliseconds since the epoch.
    var freshnessAt: Int64 = 0

    static let freshnessKey: [UInt8] = Array("freshness".utf8)

    /// Goes on from what an earlier run has observed.
    init(_ bundle: Bundle, _ sources: LastSeen, _ transaction: borrowing WriteTransaction) throws(StoreError) {
        if let bytes = try transaction.get(transaction.tables.meta, Observed.freshnessKey.span),
            let record = Record.decode(bytes, count: (bytes.count - 4) / 8)
        {
            bundle.tracking.seen.restore(from: record)
            sources.restore(from: record)
        }
        let isNewEvent = bundle.tracking.seen.begin(at: bundle.policy.loadedAt)
        let isNewSource = sources.begin(at: bundle.policy.loadedAt)
        isNew = isNewEvent || isNewSource
    }
}

extension Pipeline {
    /// Gives the fields of an event that come under an old name the new one.
    /// - Returns: false, and nothing done, for an event without such fields; else the event is in `mender`.
    mutating func mend(_ document: borrowing JSONDocument, _ message: JSONNode, _ type: EventType?) -> Bool {
        mender.mend(document, message, type, bundle.tracking)
    }

    /// The same for an event that comes out of quarantine, in `body` and `kept`: the plan may have learnt since.
    mutating func mendKept() {
        while true {
            let document = kept
            guard mend(document, document.root, nil) else { return }
            let mended = mender.document
            body.clear()
            body.raw(mended.source(mended.root))
            kept = mended
        }
    }

    // MARK: Observing

    /// Another bundle's events are watched from now on; of those that are in both, nothing is forgotten.
    mutating func observe(by next: Bundle) {
        if next === bundle { return }
        next.tracking.seen.takeOver(from: bundle.tracking.seen)
        _ = next.tracking.seen.begin(at: next.policy.loadedAt)
        observed.isNew = true
    }

    /// An event of the plan has come, whatever becomes of it for want of a grant: that is no more than a time.
    mutating func noteArrival(_ rule: EventRule, _ envelope: Envelope) {
        bundle.tracking.seen.note(rule.number, at: envelope.receivedAt)
        sources.note(envelope.source, at: envelope.receivedAt)
        observed.isNew = true
    }

    /// Keeps what has been observed, in the transaction under way, unless that was done a moment ago.
    /// - Parameter now: milliseconds since the epoch; `Int64.max` for the last time.
    mutating func keepObserved(at now: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        // A clock that was set back must not end it.
        let isDue = now - CollectionLimits.freshnessMilliseconds >= observed.freshnessAt || now < observed.freshnessAt
        guard observed.isNew, isDue else { return }
        var record: [UInt64] = []
        bundle.tracking.seen.append(to: &record)
        sources.append(to: &record)
        try transaction.put(transaction.tables.meta, Observed.freshnessKey.span, Record.encode(record).span)
        observed.isNew = false
        observed.freshnessAt = now
    }
}
