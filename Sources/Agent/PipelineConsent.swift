// The part of the journey that asks: who has allowed what? An event whose person has not chosen yet waits in memory; a
// choice, wherever it is made, admits or denies what waits (promise P4).

import Collection
import Formats
import Governance
import Platform
import Store
import Unification

/// What an event or a call says about purposes.
struct Choice {
    var signal = ConsentSignal()
    var source = ConsentSource.event
    /// Whose choice it is, once that is known.
    var person: ProfileID?
}

extension Pipeline {
    /// The event of the Segment specification that tells a change of preferences.
    private static var preferenceEvent: StaticString { "Segment Consent Preference Updated" }

    /// Reads what the event says about purposes, and stops it if its person was erased and has not come back.
    mutating func hear(
        _ event: Event, _ document: borrowing JSONDocument, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) {
        choice.signal = bundle.policy.consent.signal(
            document, context: event.context, hasGlobalPrivacyControl: envelope.hasGlobalPrivacyControl)
        if let name = event.name, document.equals(name, Pipeline.preferenceEvent) { choice.source = .preference }
        let isComingBack = choice.source == .preference && !choice.signal.granted.isEmpty
        do throws(StoreError) {
            let erasedAt = try lastErasure(transaction)
            guard let erasedAt else { return }
            // An SDK goes on to report the old consent with every event: only a new choice brings an erased person back.
            if isComingBack, event.timestamp > erasedAt { return try liftSuppression(finder.found, &transaction) }
        } catch {
            throw .store(error)
        }
        choice = Choice()
        throw .outcome(.denied)
    }

    /// When a person with one of the event's own identifiers was last erased; nil for never.
    private func lastErasure(_ transaction: borrowing WriteTransaction) throws(StoreError) -> Int64? {
        var last: Int64?
        for identifier in finder.found where !bundle.policy.identifiers.kinds[identifier.kindIndex].isShared {
            guard let time = try suppression.time(identifier.kindTag, identifier.digest, in: transaction) else { continue }
            last = max(last ?? time, time)
        }
        return last
    }

    private mutating func liftSuppression(
        _ identifiers: [HashedIdentifier], _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        for identifier in identifiers {
            try suppression.remove(identifier.kindTag, identifier.digest, in: &transaction)
        }
    }

    /// The purpose of the event must be granted: by the person's record, or by what the event itself says.
    /// - Returns: true when it is; false when nobody has chosen yet, and the event may wait.
    mutating func requireConsent(
        _ event: Event, _ rule: EventRule, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) -> Bool {
        let policy = bundle.policy
        let tag = policy.purposes.tags[rule.purpose]
        do throws(StoreError) {
            choice.person = try IdentityGraph.existing(finder.found, policy.identifiers, in: transaction)
            let record = try consentRecord(of: choice.person, transaction)
            let changed = ConsentRecord.applying(
                choice.signal, at: event.timestamp, from: choice.source, policy.purposes,
                validDays: policy.consent.validDays, to: record.span)
            let effective = changed ?? record
            if ConsentRecord.isGranted(effective.span, tag: tag, at: envelope.receivedAt) { return true }
            // A known person's choice is kept, even by an event that is itself denied; so is one that grants something
            // and was made just now.
            if choice.person == nil, choice.source == .preference, !choice.signal.granted.isEmpty {
                choice.person = try resolvedPerson(envelope, &transaction)
            }
            if let person = choice.person, changed != nil {
                try changeConsent(of: person, choice, at: event.timestamp, now: envelope.receivedAt, &transaction)
            }
            let mayWait = policy.consent.waitMilliseconds > 0 && choice.source != .preference
            if mayWait, !ConsentRecord.isDecided(effective.span, tag: tag) { return false }
        } catch {
            throw .store(error)
        }
        throw .outcome(.denied)
    }

    private mutating func resolvedPerson(
        _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> ProfileID? {
        do throws(Ending) { return try resolve(envelope, &transaction) } catch {
            if case .store(let problem) = error { throw problem }
            return nil
        }
    }

    func consentRecord(
        of person: ProfileID?, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        guard let key = person?.bytes, let known = try transaction.get(transaction.tables.consent, key.span) else { return [] }
        return [UInt8](copying: known)
    }

    mutating func rememberChoice(
        of person: ProfileID, at time: Int64, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) {
        choice.person = person
        if choice.signal.isEmpty { return }
        do {
            try changeConsent(of: person, choice, at: time, now: envelope.receivedAt, &transaction)
        } catch {
            throw .store(error)
        }
    }

    /// Applies a choice to a person's record, with a line in the audit log when that changes it.
    /// - Parameters:
    ///   - time: when it was made; `now`: when this device heard of it; milliseconds since the epoch.
    ///   - actor: who handed it in; `event` where nothing is said.
    private mutating func changeConsent(
        of person: ProfileID, _ choice: Choice, at time: Int64, now: Int64, actor: [UInt8]? = nil,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let signal = choice.signal
        let policy = bundle.policy
        let record = try consentRecord(of: person, transaction)
        guard
            let changed = ConsentRecord.applying(
                signal, at: time, from: choice.source, policy.purposes, validDays: policy.consent.validDays, to: record.span)
        else { return }
        let key = person.bytes
        try transaction.put(transaction.tables.consent, key.span, changed.span)
        try audit.append(
            .consent, actor: actor ?? Array("event".utf8), subject: subjects.name(of: person), at: now, in: &transaction
        ) { line in
            Pipeline.write("granted", signal.granted, policy.purposes, to: &line)
            Pipeline.write("denied", signal.denied, policy.purposes, to: &line)
        }
    }

    private static func write(_ name: StaticString, _ set: PurposeSet, _ plan: PurposePlan, to line: inout JSONWriter) {
        if set.isEmpty { return }
        line.key(name)
        line.beginArray()
        for index in plan.names.indices where set.contains(PurposeSet(purpose: index)) { line.string(plan.names[index]) }
        line.endArray()
    }

    /// Takes the choice of a call to the privacy API, whose person may be one that this device does not know yet.
    /// - Parameters:
    ///   - person: nil for somebody unknown, who is made when something is granted.
    ///   - identifier: by which the call names the person, if it did.
    /// - Returns: false when it grants nothing to somebody who is not known: there is nothing to keep.
    mutating func takeChoice(
        _ signal: ConsentSignal, of person: ProfileID?, _ identifier: LoggedIdentifier?, actor: [UInt8], now: Int64,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        defer { finder.wipe() }
        choice = Choice(signal: signal, source: .api, person: person)
        var identifiers: [HashedIdentifier] = []
        if let identifier, let kind = bundle.policy.identifiers.kindIndex(tag: identifier.kindTag) {
            identifiers.append(
                HashedIdentifier(
                    kindTag: identifier.kindTag, kindIndex: kind, digest: identifier.digest,
                    plainDigest: identifier.plainDigest))
        }
        if person == nil, signal.granted.isEmpty || identifiers.isEmpty { return false }
        if !signal.granted.isEmpty { try liftSuppression(identifiers, &transaction) }
        if person == nil {
            finder.adopt(identifiers)
            choice.person = try resolvedPerson(Envelope(receivedAt: now), &transaction)
        }
        guard let person = choice.person else { return false }
        try changeConsent(of: person, choice, at: now, now: now, actor: actor, &transaction)
        do throws(Ending) { try settleWaiting(with: identifiers, now, &transaction) } catch {
            if case .store(let problem) = error { throw problem }
        }
        return true
    }

    // MARK: Waiting

    /// Lets the event under way wait for a choice; ends its journey.
    mutating func wait(
        _ event: Event, _ rule: EventRule, _ fault: EventFault?, _ envelope: Envelope
    ) throws(Ending) {
        let policy = bundle.policy
        let left = waiting.add(
            WaitingEvent(
                body: body.bytes, identifiers: finder.found, messageID: messageID, person: choice.person, rule: rule,
                purposeTag: policy.purposes.tags[rule.purpose], fault: fault,
                timestamp: event.timestamp, receivedAt: envelope.receivedAt,
                until: envelope.receivedAt + policy.consent.waitMilliseconds))
        deny(waiting: left)
        throw .outcome(.waiting)
    }

    /// Counts events that have left the waiting room without being admitted.
    private mutating func deny(waiting count: Int) {
        ledger.waiting -= min(ledger.waiting, UInt64(count))
        ledger.denied += UInt64(count)
    }

    /// Denies those whose time is up.
    mutating func expireWaiting(at now: Int64) {
        if waiting.isEmpty { return }
        let expired = waiting.take { $0.until <= now }
        deny(waiting: expired.count)
    }

    /// Denies everything that waits for a person.
    mutating func dropWaiting(of person: ProfileID, _ identifiers: [HashedIdentifier]) {
        let dropped = waiting.take { $0.person == person || $0.sharesIdentifier(with: identifiers) }
        deny(waiting: dropped.count)
    }

    /// Admits or denies what waits for the person of the choice under way.
    /// - Parameter identifiers: those that came with the choice.
    mutating func settleWaiting(
        with identifiers: [HashedIdentifier], _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(Ending) {
        if waiting.isEmpty || (choice.person == nil && choice.signal.denied.isEmpty) { return }
        let purposes = bundle.policy.purposes
        let person = choice.person
        let denied = choice.signal.denied
        let record: [UInt8]
        do { record = try consentRecord(of: person, transaction) } catch { throw .store(error) }
        let leaving = waiting.take { event in
            guard (person != nil && event.person == person) || event.sharesIdentifier(with: identifiers) else { return false }
            if Pipeline.isDecided(record, event.purposeTag) { return true }
            guard let index = purposes.index(ofTag: event.purposeTag) else { return true }
            return denied.contains(PurposeSet(purpose: index))
        }
        for event in leaving {
            guard ConsentRecord.isGranted(record.span, tag: event.purposeTag, at: now),
                let purpose = purposes.index(ofTag: event.purposeTag)
            else {
                deny(waiting: 1)
                continue
            }
            ledger.waiting -= min(ledger.waiting, 1)
            var admitted = event
            admitted.rule.purpose = purpose
            try admit(admitted, &transaction)
        }
    }

    private static func isDecided(_ record: [UInt8], _ tag: UInt32) -> Bool {
        ConsentRecord.isDecided(record.span, tag: tag)
    }

    /// Takes an event that has waited through the rest of its journey, with the times that it came with.
    private mutating func admit(_ event: WaitingEvent, _ transaction: inout WriteTransaction) throws(Ending) {
        let envelope = Envelope(receivedAt: event.receivedAt)
        finder.adopt(event.identifiers)
        messageID = event.messageID
        messageKey = MessageKey(event.messageID.span)
        body.clear()
        body.raw(event.body.span)
        Pipeline.parse(event.body, into: &kept)
        do throws(Ending) {
            try setAside(event.fault, event.rule, envelope, &transaction)
            let person = try resolve(envelope, &transaction)
            try enrich(person, at: event.timestamp, envelope, &transaction)
            try append(event.rule, person, envelope, &transaction)
            ledger.admitted += 1
        } catch {
            guard case .outcome(.quarantined) = error else { throw error }
            ledger.quarantined += 1
        }
    }
}
