// An event that a question comes with (`POST /v1/decide`): the answer includes it, be it that it was put into the store a
// moment ago, in the same transaction, or that it is on its way there. It need not know how events are taken.

import CEL
import Formats
import Governance
import Store
import Unification

/// What a decision needs of the event that the question came with.
public struct EventAsked {
    /// What is kept of it, without identifiers; nil: it was not taken, and rules do not see it.
    let document: JSONDocument?
    let found: [HashedIdentifier]
    /// Milliseconds since the epoch.
    let timestamp: Int64
    /// What it says about purposes.
    let signal: ConsentSignal
    /// It is not in the store: what it changes is worked out for this answer.
    let isInMemory: Bool
    /// The purpose that it needs, of an event that is not in the store.
    let purpose: Int

    public init(
        _ document: JSONDocument?, _ found: [HashedIdentifier], at timestamp: Int64, signal: ConsentSignal,
        purpose: Int = 0, isInMemory: Bool
    ) {
        self.document = document
        self.purpose = purpose
        self.found = found
        self.timestamp = timestamp
        self.signal = signal
        self.isInMemory = isInMemory
    }
}

extension EventAsked {
    /// The same of somebody who does not grant its purpose: it says who they are, and what they refuse.
    func taken(by consent: PurposeSet) -> EventAsked {
        if !isInMemory || document != nil && consent.contains(PurposeSet(purpose: purpose)) { return self }
        return EventAsked(nil, found, at: timestamp, signal: signal, isInMemory: false)
    }
}

extension Decider {
    /// What a person grants once the event has been taken.
    func consent(
        of person: ProfileID?, after event: EventAsked, _ policy: Policy, at now: Int64, _ reader: borrowing Reader
    ) throws(StoreError) -> PurposeSet {
        // Whoever is not known may have been erased: only the writer lets them in.
        guard let person else { return [] }
        // What is said at a till by nobody in particular allows nothing to whoever was last there.
        var signal = event.signal
        if !event.found.contains(where: { !policy.identifiers.kinds[$0.kindIndex].isShared }) { signal.granted = [] }
        var record: [UInt8] = []
        let key = person.bytes
        if let known = try reader.get(reader.tables.consent, key.span) { record = [UInt8](copying: known) }
        let changed = ConsentRecord.applying(
            signal, at: min(event.timestamp, now), now: now, from: .event, policy.purposes,
            validDays: policy.consent.validDays, to: record.span)
        let after = changed ?? record
        return ConsentRecord.granted(after.span, policy.purposes, at: now)
    }

    /// A person's record once the event has been taken; empty: it cannot be read.
    mutating func record(
        of person: ProfileID?, after event: EventAsked, _ policy: Policy, _ reader: borrowing Reader
    ) -> [UInt8] {
        var record: [UInt8] = []
        do throws(StoreError) {
            if let person {
                let key = person.bytes
                if let known = try reader.get(reader.tables.profiles, key.span) { record = [UInt8](copying: known) }
            }
        } catch {
            meters.decisionErrors.add()
            return []
        }
        if policy.attributes.draws, let first = event.found.first {
            surroundings.seed = IdentifierKey(first).seed(root: pepper.root)
        }
        do throws(RecordDamage) {
            _ = try updater.apply(
                to: record.span, id: person ?? .nobody, origin: RecordOrigin(part: 0, revision: 0), plan: policy.attributes,
                slots: policy.slots, program: policy.program, surroundings: surroundings, evaluator: &evaluator)
            return updater.record
        } catch {
            meters.badRecords.add()
            return []
        }
    }
}
