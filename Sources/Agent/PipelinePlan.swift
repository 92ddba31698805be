// Where the journey of an event meets the tracking plan beyond its schema: what is mended before it begins, and what is
// observed of it.

import Activation
import Collection
import Formats
import Platform
import Serving
import Store

/// What the pipeline has observed of events.
struct Observed {
    /// By which events are numbered: those in force.
    var plans: Plans
    var drift: SchemaDrift
    /// Whether something was seen that the record of freshness does not have yet.
    var isNew: Bool
    /// When that was last written, milliseconds since the epoch.
    var freshnessAt: Int64 = 0
    /// Whether the store may have records of events that are not watched any more.
    var mayHaveOld = true

    static let freshnessKey: [UInt8] = Array("freshness".utf8)
    static let driftKeys: [UInt8] = Array("drift".utf8)

    /// Goes on from what an earlier run has observed.
    init(_ plans: Plans, _ watch: PlanWatch, _ transaction: borrowing WriteTransaction) throws(StoreError) {
        self.plans = plans
        let plan = plans.tracking
        let meta = transaction.tables.meta
        if let bytes = try transaction.get(meta, Observed.freshnessKey.span),
            let record = Record.decode(bytes, count: (bytes.count - 4) / 8)
        {
            plan.seen.restore(from: record)
            watch.sources.restore(from: record)
        }
        let isNewEvent = plan.seen.begin(at: plans.policy.loadedAt)
        let isNewSource = watch.sources.begin(at: plans.policy.loadedAt)
        isNew = isNewEvent || isNewSource
        drift = SchemaDrift(plan)
        for number in 0..<drift.count {
            let key = drift.key(number)
            if let record = try transaction.get(meta, key.span) { drift.restore(number, plan, from: record) }
        }
        show(plan, watch)
    }

    func show(_ plan: TrackingPlan, _ watch: PlanWatch) {
        watch.forgetChanges()
        drift.forEachChange { number, field, change, count in watch.add(count, plan.seen.names[number], field, change) }
    }
}

extension Pipeline {
    /// Gives the fields of an event that comes out of quarantine, in `kept`, their new names: the plan may have learnt since.
    mutating func mendKept() {
        while true {
            let document = kept
            guard mender.mend(document, document.root, nil, plans.tracking) else { return }
            kept = mender.document
        }
    }

    // MARK: Observing

    /// Another plan's events are watched from now on; of those that are in both, nothing is forgotten.
    mutating func observe(by next: Plans) {
        if next === observed.plans { return }
        next.tracking.seen.takeOver(from: observed.plans.tracking.seen)
        _ = next.tracking.seen.begin(at: next.policy.loadedAt)
        observed.plans = next
        observed.drift.use(next.tracking)
        observed.show(next.tracking, watch)
        observed.isNew = true
        observed.mayHaveOld = true
    }

    /// An event of the plan has come, whatever becomes of it for want of a grant: that is no more than a time.
    mutating func noteArrival(_ rule: EventRule, _ envelope: Envelope) {
        // Other plans number their events otherwise.
        if plans !== observed.plans { return }
        plans.tracking.seen.note(rule.number, at: envelope.receivedAt)
        watch.sources.note(envelope.source, at: envelope.receivedAt)
        observed.isNew = true
    }

    /// Looks whether the fields of an event that is granted are as usual: at what is kept of it, in `kept`.
    mutating func observe(_ event: PreparedEvent, _ rule: EventRule) {
        if plans !== observed.plans { return }
        observed.drift.look(rule.number, kept, kept.member(kept.root, event.hasTraits ? "traits" : "properties"))
        if !observed.drift.reports.isEmpty { tellOfChanges() }
    }

    private mutating func tellOfChanges() {
        for report in observed.drift.reports {
            let event = observed.plans.tracking.seen.names[report.event]
            let field = observed.drift.path(report)
            watch.add(1, event, field, report.change)
            // Of a simulation the log is not to tell.
            if !report.isFirst || presumesGrants { continue }
            Log.warning("a field is not as it usually is") {
                $0.field("event", String(copying: event.span))
                $0.field("field", String(copying: field.span))
                $0.field("change", report.change.name)
                if report.change == .type { $0.field("type", report.kind) }
            }
        }
        observed.drift.reports.removeAll(keepingCapacity: true)
    }

    /// Keeps what has been observed, in the transaction under way, unless that was done a moment ago.
    /// - Parameters:
    ///   - now: milliseconds since the epoch.
    ///   - isLast: whether there will be no other time.
    mutating func keepObserved(
        at now: Int64, isLast: Bool = false, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let meta = transaction.tables.meta
        // A clock that was set back must not end it.
        if observed.isNew, isLast || abs(now - observed.freshnessAt) >= CollectionLimits.freshnessMilliseconds {
            var record: [UInt64] = []
            observed.plans.tracking.seen.append(to: &record)
            watch.sources.append(to: &record)
            try transaction.put(meta, Observed.freshnessKey.span, Record.encode(record).span)
            observed.isNew = false
            observed.freshnessAt = now
        }
        var budget = isLast ? Int.max : CollectionLimits.driftRecordsPerCommit
        for number in 0..<observed.drift.count where budget > 0 {
            guard let record = observed.drift.record(number, at: now, isLast: isLast) else { continue }
            try transaction.put(meta, observed.drift.key(number).span, record.span)
            budget -= 1
        }
        if observed.mayHaveOld { try forgetOldEvents(&transaction) }
        observed.mayHaveOld = false
    }

    /// Deletes the records of events that the plan does not have any more.
    private func forgetOldEvents(_ transaction: inout WriteTransaction) throws(StoreError) {
        let prefix = Observed.driftKeys
        var current: [[UInt8]] = []
        for number in 0..<observed.drift.count { current.append(observed.drift.key(number)) }
        var old: [[UInt8]] = []
        try transaction.scan(transaction.tables.meta, from: prefix.span) { key, _ in
            guard key.count == prefix.count + 8, equal(key.extracting(0..<prefix.count), prefix.span) else { return false }
            let name = [UInt8](copying: key)
            if !current.contains(name) { old.append(name) }
            return true
        }
        for key in old { try transaction.delete(transaction.tables.meta, key.span) }
    }
}
