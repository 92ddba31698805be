// What the writer does with a decision that was made: its record goes into the log like an event, under the decision's
// purpose, and what counts for a cap or an experiment into the person's profile. How decisions are made stands in the room
// Activation.

import Activation
import CEL
import Formats
import Governance
import Monitoring
import Store
import Unification

extension Pipeline {
    /// Keeps a decision about a person who grants its purpose still.
    mutating func keep(
        _ record: DecisionRecord, now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        guard let whom = try whom(of: record, transaction) else { return }
        let consent = whom.consent
        if !ConsentRecord.isGranted(consent.span, tag: record.purposeTag, at: now) { return }
        if let counter = record.counter(inForce.attributes) {
            // Told apart by the answer, so that the same word of it twice counts once.
            try count(record, counter, record.id.value, whom, &transaction)
        }
        if let arm = record.arm, let exposure = record.exposure(inForce.attributes),
            !(try isExposed(whom.person, exposure, arm, transaction))
        {
            try count(record, exposure, arm, whom, &transaction)
        }
        if !record.isKept { return }
        var body = JSONWriter(reserving: 512)
        Pipeline.beginEvent("Decision Made", &body)
        record.write(to: &body)
        body.endObject()
        Pipeline.appendTime(record.id.time, to: &body.bytes)
        let header = LogEntryHeader(
            tier: .batch, priority: 1, receivedAt: record.id.time, purposeTag: record.purposeTag,
            bundleVersion: record.bundleVersion, profile: whom.person, isGenerated: true)
        try generate(header, whom.identifiers, messageID: newMessageID(), body.bytes, &transaction)
        meters.recordsKept.add()
    }

    /// The person, who may have become part of another since, or be gone.
    private func whom(
        of record: DecisionRecord, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Addressee? {
        if let asked = record.identifier {
            // The pepper may have been replaced since.
            let identifier = try IdentityGraph.current(asked, in: transaction)
            if let person = try IdentityGraph.profile(of: identifier, in: transaction) {
                return try addressee(person, identifier, transaction)
            }
        }
        // Asked for by a thing that they use.
        guard let first = try IdentityGraph.identifiers(of: record.person, in: transaction).first else { return nil }
        return try addressee(record.person, IdentifierKey(first), transaction)
    }

    /// Whether the profile knows that the person was shown an arm: an answer that was given before that was written says so again.
    private mutating func isExposed(
        _ person: ProfileID, _ exposure: Int, _ arm: UInt64, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Bool {
        let plan = inForce.attributes
        let id = person.bytes
        guard let record = try transaction.get(transaction.tables.profiles, id.span) else { return false }
        var isExposed = false
        do throws(RecordDamage) {
            let view = try ProfileView(record)
            index.fill(view, plan)
            index.forEachElement(exposure, in: record, plan) { _, value in if value.uintValue == arm { isExposed = true } }
        } catch {}
        return isExposed
    }

    private mutating func count(
        _ record: DecisionRecord, _ counter: Int, _ value: UInt64, _ whom: Addressee, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        // Whoever had no profile has one now: what they were served is the first that is known of them.
        anchor = whom.anchor
        surroundings.served = counter
        surroundings.servedValue = value
        updater.select(only: counter, of: inForce.attributes)
        defer {
            surroundings.served = nil
            updater.selection = []
        }
        _ = try enrich(whom.person, at: record.id.time, receivedAt: record.id.time, &transaction)
    }
}
