// What a new rule makes of events that came before it. The store remembers by which rules it has counted
// (Unification/AttributeHistory.swift); for an attribute that another bundle brings, the events that the log still has are
// counted once more, in small steps beside the writer's work, each in one transaction with how far it has come. So no event
// is counted twice, whatever ends the process.
//
// An event counts for whoever its identifier belongs to today, if they grant its purpose today; if they do not, their record
// says so when they grant it again. A rule sees the time at which the event came as `now`, and the profile as it is.

import Activation
import Collection
import Formats
import Governance
import Monitoring
import Platform
import Serving
import Store
import Unification

/// How far it is. A copy taken before a transaction brings it back when that did not happen.
struct Recomputation {
    fileprivate(set) var history = AttributeHistory()
    /// When the next step may be taken, nanoseconds of the monotonic clock.
    fileprivate var dueAt = Int64.min
    /// Since it began, or since the start of the process: entries that were looked at, and those of them that counted.
    fileprivate var seen: UInt64 = 0
    fileprivate var counted: UInt64 = 0
    /// Whether the transaction under way has changed something of it.
    fileprivate var hasMoved = false
}

/// What became of an entry of the log that was counted once more.
private enum Recount {
    case counted, unchanged, denied, missing
}

extension Pipeline {
    /// Whether events of the log are yet to be counted once more.
    var isRecomputing: Bool { recomputation.history.isFilling }

    func isRecomputationDue(_ monotonic: Int64) -> Bool { isRecomputing && monotonic >= recomputation.dueAt }

    /// Takes note of the attributes of the plans in force, and finds out which of them are to be computed from the log.
    mutating func noteAttributes(_ now: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        let (tables, key) = (transaction.tables, AttributeHistory.key)
        var first = try transaction.firstNumber(tables.log) ?? ledger.nextSequence
        var history = AttributeHistory()
        var before: [UInt8] = []
        if let value = try transaction.get(tables.meta, key.span) { before = [UInt8](copying: value) }
        if let known = AttributeHistory(before.span) {
            history = known
        } else if !before.isEmpty {
            // Nobody knows what was counted: nothing may be counted twice.
            meters.badRecords.add()
            first = ledger.nextSequence
        }
        history.adopt(inForce.attributes, next: ledger.nextSequence, first: first, now: now)
        recomputation = Recomputation()
        recomputation.history = history
        recomputation.hasMoved = history.isFilling
        let record = history.record
        if record != before { try transaction.put(tables.meta, key.span, record.span) }
    }

    /// One step, if it is time for one.
    /// - Parameters:
    ///   - now: milliseconds since the epoch; `monotonic`: nanoseconds, what the steps are paced by.
    mutating func recompute(
        _ plans: Plans, now: Int64, monotonic: Int64, _ room: DiskRoom, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        guard isRecomputationDue(monotonic) else { return }
        recomputation.dueAt = monotonic + Limits.sweepPauseMilliseconds * 1_000_000
        // Records grow by it.
        if !room.takesEvents { return }
        if plans !== self.plans { use(plans) }
        recomputation.history.begin(at: try transaction.firstNumber(transaction.tables.log) ?? ledger.nextSequence)
        var looked = 0
        while isRecomputing, looked < Limits.recomputedPerStep,
            looked < Limits.recomputedPerFullStep || transaction.changedPages < Limits.pagesPerCommit
        {
            try recount(now, &transaction)
            recomputation.history.pass()
            looked += 1
        }
        kept = JSONDocument()
        let (history, key) = (recomputation.history, AttributeHistory.key)
        let record = history.record
        try transaction.put(transaction.tables.meta, key.span, record.span)
        recomputation.hasMoved = true
    }

    /// Shows how far it has come, once that is committed.
    mutating func showRecomputation() {
        if !recomputation.hasMoved { return }
        recomputation.hasMoved = false
        let history = recomputation.history
        meters.recomputePending.set(isRecomputing ? Int64(history.end - history.next) : 0)
        if !isRecomputing { tell() }
    }

    private func tell() {
        let since = recomputation.history.since
        Log.info("new attributes were computed from the log") {
            $0.field("events", Int64(recomputation.seen))
            $0.field("counted", Int64(recomputation.counted))
            if since.number > 1 {
                var time: [UInt8] = []
                Timestamp.append(since.time, to: &time)
                $0.field("since", String(copying: time.span))
                $0.field("note", "of earlier events nothing is there: GET /v1/profiles names incomplete attributes")
            }
        }
    }

    /// Counts the next entry of the log for the attributes that lack it.
    private mutating func recount(_ now: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        let number = NumberKey(recomputation.history.next)
        var entry: [UInt8] = []
        if let value = try transaction.get(transaction.tables.log, number.bytes.span) { entry = [UInt8](copying: value) }
        let span = entry.span
        if let view = LogEntryView(span) {
            // What the device has made itself was not counted when it was made.
            if view.header.isErasureNotice || view.header.isGenerated { return }
            recomputation.seen += 1
            switch try recount(view, now, &transaction) {
            case .counted:
                recomputation.counted += 1
                meters.recomputeCounted.add()
            case .unchanged: meters.recomputeUnchanged.add()
            case .denied: meters.recomputeDenied.add()
            case .missing: miss()
            }
            return
        }
        // Of whoever was erased nothing is lacking; a number without an entry is that of a notice.
        if !entry.isEmpty, LogRemoval(span) != .erased { miss() }
    }

    private mutating func miss() {
        recomputation.history.miss()
        meters.recomputeMissing.add()
    }

    private mutating func recount(
        _ entry: borrowing LogEntryView, _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Recount {
        let plans = self.plans
        let header = entry.header
        if plans.isOver(entry, &kept, now: now) || entry.identifierCount == 0 { return .missing }
        do throws(JSONError) { try kept.parse(entry.body) } catch { return .missing }
        recomputation.history.meet(at: header.receivedAt)
        mendKept()
        // The pepper may have been replaced since.
        anchor = try IdentityGraph.current(IdentifierKey(entry.identifier(0)), in: transaction)
        guard let person = try IdentityGraph.profile(of: anchor, in: transaction),
            transaction.has(transaction.tables.profiles, person),
            let rule = plans.tracking.rule(ofKept: kept.root, kept)
        else { return .denied }
        let choices = try consentRecord(of: person, transaction)
        for tag in [header.purposeTag, plans.policy.purposes.tags[rule.purpose]]
        where !ConsentRecord.isGranted(choices.span, tag: tag, at: now) {
            try notePassedOver(person, choices, &transaction)
            return .denied
        }
        let time = kept.member(kept.root, "timestamp").flatMap { Timestamp.parse(kept.bytes($0)) } ?? header.receivedAt
        recomputation.history.select(inForce.attributes, into: &updater.selection)
        surroundings.processedAt = now
        defer {
            surroundings.processedAt = nil
            updater.selection = []
        }
        return try enrich(person, at: time, receivedAt: header.receivedAt, &transaction) ? .counted : .unchanged
    }

    /// Lets the person's record say that it lacks something, once they grant the purpose again. That lies with their
    /// choices, and goes where these go.
    private mutating func notePassedOver(
        _ person: ProfileID, _ choices: [UInt8], _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        if ConsentRecord.passedOver(choices.span) != nil { return }
        let note = ConsentRecord.passingOver(at: recomputation.history.cameAt)
        let (key, joined) = (person.bytes, ConsentRecord.merging(choices.span, note.span))
        try transaction.put(transaction.tables.consent, key.span, joined.span)
        try People.note(note.span, of: person, under: anchor, in: &transaction)
    }
}
