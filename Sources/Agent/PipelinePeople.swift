// The part of the journey that is about people: whose event it is, and what it changes of what is known of them.

import Activation
import CEL
import Governance
import Monitoring
import Store
import Unification

extension Pipeline {
    /// Finds or makes the person, and joins or parts people where the event shows that they are.
    mutating func resolve(
        at time: Int64, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) -> ProfileID {
        do {
            let policy = self.policy
            let resolution = try people.resolve(
                found, policy.identifiers, policy.attributes, evidence(at: time, envelope), random: &random, in: &transaction)
            try take(resolution, transaction)
            return resolution.profile
        } catch {
            throw .store(error)
        }
    }

    /// Cuts the links of an identifier, or the one to `other`: by the word of whoever calls, they were wrong.
    /// - Returns: how many; 0: there were none.
    mutating func unlink(
        _ key: IdentifierKey, from other: IdentifierKey?, actor: [UInt8], now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Int {
        let policy = self.policy
        let (cut, resolution) = try people.unlink(
            key, from: other, policy.identifiers, policy.attributes, now: now, random: &random, in: &transaction)
        if cut == 0 { return 0 }
        try take(resolution, transaction)
        try audit.append(
            .unlink, actor: actor, subject: subjects.name(of: resolution.profile), at: now, in: &transaction
        ) { line in
            line.key("links")
            line.int(Int64(cut))
        }
        return cut
    }

    /// Counts what became of people, and says so to what waits.
    mutating func take(_ resolution: Resolution, _ transaction: borrowing WriteTransaction) throws(StoreError) {
        anchor = resolution.anchor
        hasMoved = resolution.hasMoved
        for reason in resolution.refusals {
            switch reason {
            case .unique: meters.linksAgainstGuard.add()
            case .tooManyIdentifiers: meters.linksAgainstLimit.add()
            case .nobodys: meters.linksOfNobody.add()
            }
        }
        meters.identityMerges.add(UInt64(resolution.joined))
        meters.badRecords.add(people.damaged)
        people.damaged = 0
        if hasMoved { try findWaitingAnew(transaction) }
    }

    /// Changes the attributes of the profile that the event says something about.
    mutating func enrich(
        _ person: ProfileID, at timestamp: Int64, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) {
        do {
            _ = try enrich(person, at: timestamp, receivedAt: envelope.receivedAt, &transaction)
        } catch {
            throw .store(error)
        }
    }

    /// - Returns: whether the event says something about an attribute.
    mutating func enrich(
        _ person: ProfileID, at timestamp: Int64, receivedAt: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        surroundings.now = receivedAt
        surroundings.eventTimestamp = timestamp
        surroundings.bundleAge = inForce.age(at: receivedAt)
        surroundings.event = kept
        if inForce.attributes.draws { surroundings.seed = anchor.seed(root: root) }
        let hasContributed = try changeProfile(of: person, &transaction)
        surroundings.event = nil
        evaluator.end()
        if updater.refusedValues > 0 { meters.refusedValues.add(UInt64(updater.refusedValues)) }
        if updater.failedRules > 0 { meters.evaluationErrors.add(UInt64(updater.failedRules)) }
        return hasContributed
    }

    /// Applies the event under way to the person's profile, and where that has several parts, to the one that it belongs to.
    private mutating func changeProfile(
        of person: ProfileID, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let profiles = transaction.tables.profiles
        let (id, part) = (person.bytes, anchor.part(writtenBy: people.epoch))
        var whole = try partOfProfile(id.span, &transaction)
        if whole == .unreadable { return false }
        if whole == .damaged {
            // What was damaged may lie there in parts as well.
            _ = try people.putTogether(person, inForce.attributes, now: surroundings.now, &transaction)
            whole = try partOfProfile(id.span, &transaction)
        }
        var origin = RecordOrigin(part: part, revision: revision)
        var isApart = true
        if case .part(let number) = whole, number != part {
            isApart = number == 0
            origin.part = 0
        }
        if case .part = whole, let old = try transaction.get(profiles, id.span) {
            compute(old, person, origin)
        } else {
            compute(Span<UInt8>(), person, origin)
        }
        // When the event came, the record has learnt that the person was seen.
        let hasContributed = updater.hasContributed
        if isRecount && !hasContributed { return false }
        if !isApart { try people.takeApart(person, &transaction) }
        try transaction.put(profiles, id.span, updater.record.span)
        if origin.part != 0 { return hasContributed }
        origin.part = part
        try computePart(of: person, origin, transaction)
        try people.putPart(updater.record.span, of: anchor, in: &transaction)
        return hasContributed
    }

    /// Whether the event under way is one of the log that is counted once more.
    private var isRecount: Bool { surroundings.processedAt != nil }

    /// Above that of every record, which of two copies the later one must have: also when nothing but older events is put in.
    private var revision: UInt64 { ledger.nextSequence + (isRecount ? recomputation.history.next : 0) }

    /// What is under a person's id in `profiles`. A record that fails its checksum is set aside and counted: the person begins
    /// anew. One of a later version is left alone.
    private enum Whole: Equatable {
        case missing, damaged, unreadable
        case part(UInt64)
    }

    private mutating func partOfProfile(_ id: Span<UInt8>, _ transaction: inout WriteTransaction) throws(StoreError) -> Whole {
        var damaged: [UInt8] = []
        if let record = try transaction.get(transaction.tables.profiles, id) {
            do throws(RecordDamage) { return .part(try ProfileView(record).part) } catch {
                meters.badRecords.add()
                if error == .laterFormat { return .unreadable }
            }
            damaged = [UInt8](copying: record)
        } else {
            return .missing
        }
        try transaction.put(transaction.tables.damaged, id, damaged.span)
        return .damaged
    }

    /// Leaves the new record in `updater`.
    private mutating func compute(_ old: Span<UInt8>, _ person: ProfileID, _ origin: RecordOrigin) {
        let policy = inForce
        do throws(RecordDamage) {
            _ = try updater.apply(
                to: old, id: person, origin: origin, plan: policy.attributes, slots: policy.slots, program: policy.program,
                surroundings: surroundings, evaluator: &evaluator)
        } catch {
            preconditionFailure("the record was looked at before")
        }
    }

    private mutating func computePart(
        of person: ProfileID, _ origin: RecordOrigin, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) {
        let policy = inForce
        let old = try people.part(of: anchor, in: transaction)
        do throws(RecordDamage) {
            try updater.applyAgain(
                to: old.span, id: person, origin: origin, plan: policy.attributes, surroundings: surroundings)
            return
        } catch {
            meters.badRecords.add()
        }
        do throws(RecordDamage) {
            try updater.applyAgain(
                to: Span<UInt8>(), id: person, origin: origin, plan: policy.attributes, surroundings: surroundings)
        } catch {
            preconditionFailure("an empty record cannot be damaged")
        }
    }

    /// What the bundle says that a profile is worth; 0 where it says nothing, or nothing that can be told of this one.
    mutating func value(of view: borrowing ProfileView, _ now: Int64) -> Double {
        let policy = self.policy
        guard let expression = policy.profileValue else { return 0 }
        index.fill(view, policy.attributes)
        surroundings.now = now
        surroundings.profileAge = max(0, now - view.lastSeen)
        let bindings = DecisionBindings(
            record: view.bytes, index: index, plan: policy.attributes, slots: policy.slots, surroundings: surroundings)
        evaluator.begin()
        defer {
            evaluator.end()
            surroundings.profileAge = nil
        }
        do throws(EvaluationError) {
            return try evaluator.evaluate(policy.program, expression.number, bindings).number ?? 0
        } catch {
            meters.evaluationErrors.add()
            return 0
        }
    }
}
