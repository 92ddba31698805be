// The part of the journey that asks: who has allowed what? An event whose person has not chosen yet waits in memory; a
// choice, wherever it is made, admits or denies what waits (promise P4).

import Activation
import Collection
import Formats
import Governance
import Platform
import Serving
import Store
import Unification

/// What an event or a call says about purposes.
struct Choice {
    var signal = ConsentSignal()
    var source = ConsentSource.event
    /// Whose choice it is, once that is known, and the identifier under which it is made.
    var person: ProfileID?
    var anchor = IdentifierKey(tag: 0, digest: .zero)
    /// Whose the event would be, by which it is asked what is allowed.
    var outlook: Outlook?
    var isSettled: Bool { outlook?.isSettled ?? false }
    /// It is what the person's record says already.
    var isRecorded = false
}

extension Pipeline {
    /// Hears what the event says about purposes, and stops it if its person was erased and has not come back. What somebody
    /// has chosen just now is kept whatever becomes of the event that tells it.
    mutating func hear(
        _ event: PreparedEvent, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) {
        let isGranting = choice.source == .preference && !choice.signal.granted.isEmpty
        let erasedAt: Int64?
        do throws(StoreError) { erasedAt = try lastErasure(transaction) } catch { throw .store(error) }
        // An SDK goes on to report the old consent with every event: only a new choice brings an erased person back.
        if let erasedAt, !isGranting || event.timestamp <= erasedAt {
            choice = Choice()
            throw .outcome(.denied)
        }
        do throws(StoreError) {
            if erasedAt != nil { try liftSuppression(found, &transaction) }
            let outlook = try People.foresee(
                found, policy.identifiers, evidence(at: event.timestamp, envelope), in: transaction)
            choice.outlook = outlook
            choice.person = outlook.person
            choice.anchor = outlook.anchor
            try presumeGrants(transaction)
            // What is said at a till by nobody in particular allows nothing to whoever was last there.
            if !found.contains(where: { IdentifierKey($0) == outlook.anchor }) { choice.signal.granted = [] }
            try People.endVisits(found, policy.identifiers, of: outlook.person, in: &transaction)
            // Where silence grants, a refusal must not be forgotten, whoever it is.
            let isKept = isGranting && !choice.signal.granted.isEmpty || presumesGrants && !choice.signal.denied.isEmpty
            if choice.person == nil, isKept {
                choice.person = try resolvedPerson(at: event.timestamp, envelope, &transaction)
                choice.outlook = nil
            }
            // A refusal counts at once, whether or not the event gets any further, for everybody whom it names.
            if choice.source == .preference || !choice.signal.denied.isEmpty {
                for person in try peopleNamed(transaction) {
                    var part = choice
                    if person != choice.person { part.signal.granted = [] }
                    try changeConsent(of: person, part, at: event.timestamp, now: envelope.receivedAt, &transaction)
                }
            }
        } catch {
            throw .store(error)
        }
    }

    /// The person of the event, and those whom it names by other values of unique kinds.
    private func peopleNamed(_ transaction: borrowing WriteTransaction) throws(StoreError) -> [ProfileID] {
        var people: [ProfileID] = []
        if let person = choice.person { people.append(person) }
        for identifier in found where policy.identifiers.kinds[identifier.kindIndex].isUnique {
            guard let person = try IdentityGraph.profile(of: IdentifierKey(identifier), in: transaction) else { continue }
            if !people.contains(person) { people.append(person) }
        }
        return people
    }

    func evidence(at time: Int64, _ envelope: Envelope) -> LinkEvidence {
        let message = messageKey.words
        return LinkEvidence(
            time: time, now: envelope.receivedAt, message: EventHash(high: message.high, low: message.low))
    }

    /// When a person with one of the event's own identifiers was last erased; nil for never.
    private func lastErasure(_ transaction: borrowing WriteTransaction) throws(StoreError) -> Int64? {
        var last: Int64?
        for identifier in found where !policy.identifiers.kinds[identifier.kindIndex].isShared {
            guard let time = try suppression.time(identifier.kindTag, identifier.digest, in: transaction) else { continue }
            last = max(last ?? time, time)
        }
        return last
    }

    private func liftSuppression(
        _ identifiers: [HashedIdentifier], _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        for identifier in identifiers {
            try suppression.lift(identifier.kindTag, identifier.digest, in: &transaction)
        }
    }

    /// The purpose of the event must be granted: by the person's record, or by what the event itself says.
    /// - Returns: true when it is; false when nobody has chosen yet, and the event may wait.
    mutating func requireConsent(
        _ event: PreparedEvent, _ rule: EventRule, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) -> Bool {
        let policy = self.policy
        let tag = policy.purposes.tags[rule.purpose]
        do throws(StoreError) {
            let record = try choices(transaction)
            let changed = ConsentRecord.applying(
                choice.signal, at: event.timestamp, now: envelope.receivedAt, from: choice.source, policy.purposes,
                validDays: policy.consent.validDays, to: record.span)
            choice.isRecorded = changed == nil && choice.person != nil
            let effective = changed ?? record
            if ConsentRecord.isGranted(effective.span, tag: tag, at: envelope.receivedAt) { return true }
            // What a known person grants for other purposes is kept, too.
            if let person = choice.person, changed != nil {
                try changeConsent(of: person, choice, at: event.timestamp, now: envelope.receivedAt, &transaction)
            }
            try spreadRefusals(of: effective, envelope.receivedAt, &transaction)
            let mayWait = policy.consent.waitMilliseconds > 0 && choice.source != .preference
            if mayWait, !ConsentRecord.isDecided(effective.span, tag: tag) { return false }
        } catch {
            throw .store(error)
        }
        throw .outcome(.denied)
    }

    /// A denied event leaves no link behind. But it has shown that people are one, of whom one has refused something: the
    /// refusal is from then on that of all of them.
    private mutating func spreadRefusals(
        of joint: [UInt8], _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        guard let outlook = choice.outlook, outlook.isOther else { return }
        let refusals = ConsentRecord.refusals(of: joint.span)
        if !ConsentRecord.isAnything(refusals.span) { return }
        for person in try People.people(of: outlook, in: transaction) {
            let record = try consentRecord(of: person, transaction)
            let changed = ConsentRecord.merging(record.span, refusals.span)
            if changed == record { continue }
            let id = person.bytes
            try transaction.put(transaction.tables.consent, id.span, changed.span)
            try People.note(refusals.span, of: person, under: outlook.anchor, in: &transaction)
            try tellHub(of: person, now: now, &transaction)
            try audit.append(
                .consent, actor: Array("event".utf8), subject: subjects.name(of: person), at: now, in: &transaction
            ) { line in
                line.key("from")
                line.string("joined")
            }
        }
    }

    /// What the person of the event under way has chosen.
    func choices(_ transaction: borrowing WriteTransaction) throws(StoreError) -> [UInt8] {
        guard let outlook = choice.outlook else { return try consentRecord(of: choice.person, transaction) }
        return try People.choices(of: outlook, in: transaction)
    }

    /// Once more where an event has joined or parted people: one of them may have refused.
    func requireConsent(
        of person: ProfileID, _ rule: EventRule, _ envelope: Envelope, _ transaction: borrowing WriteTransaction
    ) throws(Ending) {
        if !hasMoved { return }
        let record: [UInt8]
        do { record = try consentRecord(of: person, transaction) } catch { throw .store(error) }
        let tag = policy.purposes.tags[rule.purpose]
        guard ConsentRecord.isGranted(record.span, tag: tag, at: envelope.receivedAt) else { throw .outcome(.denied) }
    }

    private mutating func resolvedPerson(
        at time: Int64, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> ProfileID? {
        do throws(Ending) { return try resolve(at: time, envelope, &transaction) } catch {
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
        let isKnown = choice.signal.isEmpty || (choice.isRecorded && choice.person == person && !hasMoved)
        choice.person = person
        choice.anchor = anchor
        if isKnown { return }
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
        let policy = self.policy
        let record = try consentRecord(of: person, transaction)
        let changed = ConsentRecord.applying(
            signal, at: time, now: now, from: choice.source, policy.purposes, validDays: policy.consent.validDays,
            to: record.span)
        // What somebody has chosen is noted with their identifiers also when it is no news of the person.
        if choice.source != .event || changed != nil {
            let said = ConsentRecord.applying(
                signal, at: time, from: choice.source, policy.purposes, validDays: policy.consent.validDays,
                to: Span<UInt8>())
            let news = changed.map { ConsentRecord.changes(from: record.span, to: $0.span) } ?? said ?? []
            try People.note(news.span, of: person, under: choice.anchor, in: &transaction)
        }
        guard let changed else { return }
        let key = person.bytes
        try transaction.put(transaction.tables.consent, key.span, changed.span)
        try tellHub(of: person, now: now, &transaction)
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
        choice = Choice(signal: signal, source: .api, person: person)
        var identifiers: [HashedIdentifier] = []
        if let identifier, let kind = policy.identifiers.kindIndex(tag: identifier.kindTag) {
            identifiers.append(
                HashedIdentifier(
                    kindTag: identifier.kindTag, kindIndex: kind, digest: identifier.digest,
                    plainDigest: identifier.plainDigest))
        }
        if !signal.granted.isEmpty { try liftSuppression(identifiers, &transaction) }
        if person == nil, !signal.granted.isEmpty, !identifiers.isEmpty {
            found = identifiers
            choice.person = try resolvedPerson(at: now, Envelope(receivedAt: now), &transaction)
        }
        if let identifier { choice.anchor = IdentifierKey(identifier) }
        guard let person = choice.person else {
            // Nothing is kept about somebody unknown, but what waits for them goes.
            let waitingBefore = waiting.events.count
            try settle(identifiers, now, &transaction)
            return waiting.events.count < waitingBefore
        }
        try changeConsent(of: person, choice, at: now, now: now, actor: actor, &transaction)
        try settle(identifiers, now, &transaction)
        return true
    }

    private mutating func settle(
        _ identifiers: [HashedIdentifier], _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        do throws(Ending) { try settleWaiting(with: identifiers, now, &transaction) } catch {
            if case .store(let problem) = error { throw problem }
        }
    }

    // MARK: Waiting

    /// Lets the event under way wait for a choice; ends its journey.
    mutating func wait(
        _ event: PreparedEvent, _ rule: EventRule, _ fault: EventFault?, _ envelope: Envelope
    ) throws(Ending) {
        let policy = self.policy
        let document = kept
        let left = waiting.add(
            WaitingEvent(
                // Copies of the right size: these buffers are the writer's, and larger.
                body: [UInt8](copying: document.source(document.root)), identifiers: found.map { $0 },
                messageID: [UInt8](copying: messageID.span), person: choice.person, rule: rule,
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
    /// - Returns: how many events.
    @discardableResult
    mutating func dropWaiting(of person: ProfileID?, _ identifiers: [HashedIdentifier]) -> Int {
        let dropped = waiting.take { event in
            (person != nil && event.person == person) || event.sharesIdentifier(with: identifiers)
        }
        deny(waiting: dropped.count)
        return dropped.count
    }

    /// Another plan numbers kinds of identifiers otherwise, and may not have all of them.
    mutating func renumberWaiting() {
        if waiting.isEmpty { return }
        for event in waiting.take(where: { _ in true }) {
            var renumbered = event
            renumbered.identifiers = []
            for identifier in event.identifiers {
                renumbered.identifiers.append(
                    HashedIdentifier(
                        kindTag: identifier.kindTag,
                        kindIndex: policy.identifiers.kindIndex(tag: identifier.kindTag) ?? WaitingEvent.unknownKind,
                        digest: identifier.digest, plainDigest: identifier.plainDigest, former: identifier.former))
            }
            deny(waiting: waiting.add(renumbered))
        }
    }

    private func outlook(
        for event: WaitingEvent, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Outlook {
        let message = MessageKey(event.messageID.span, root).words
        let evidence = LinkEvidence(
            time: event.timestamp, now: event.receivedAt, message: EventHash(high: message.high, low: message.low))
        return try People.foresee(event.known, policy.identifiers, evidence, in: transaction)
    }

    /// People are others than was thought: each waiting event finds its own again.
    mutating func findWaitingAnew(_ transaction: borrowing WriteTransaction) throws(StoreError) {
        for index in waiting.events.indices {
            let event = waiting.events[index]
            waiting.setPerson(try outlook(for: event, transaction).person, of: index)
        }
    }

    /// Denies what waits under no identifier that the plan has.
    mutating func dropNameless() {
        if waiting.isEmpty { return }
        deny(waiting: waiting.take { $0.known.isEmpty }.count)
    }

    /// Admits or denies what waits and may be concerned by the choice under way: each event by the record of its own
    /// person, as the graph has it now.
    /// - Parameter identifiers: those that came with the choice.
    mutating func settleWaiting(
        with identifiers: [HashedIdentifier], _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(Ending) {
        if waiting.isEmpty || (choice.person == nil && choice.signal.denied.isEmpty) { return }
        let plan = policy.identifiers
        // A till stands for nobody who is named by something else.
        let own = identifiers.filter { !plan.kinds[$0.kindIndex].isShared }
        let offered = own.isEmpty ? identifiers : own
        let person = choice.person
        let candidates = waiting.take { event in
            (person != nil && event.person == person) || event.sharesIdentifier(with: offered)
        }
        for event in candidates {
            do throws(StoreError) {
                let owner = try outlook(for: event, transaction)
                switch try verdict(on: event, owner, own, now, transaction) {
                case .waits: deny(waiting: waiting.add(event))
                case .denied: deny(waiting: 1)
                case .admitted(let purpose):
                    var admitted = event
                    admitted.rule.purpose = purpose
                    ledger.waiting -= min(ledger.waiting, 1)
                    try admit(admitted, now, &transaction)
                }
            } catch {
                throw .store(error)
            }
        }
    }

    /// What a waiting event's own person says of it.
    /// - Parameters:
    ///   - owner: the person; nil for one who is not known, and whose refusal is then all that counts.
    ///   - own: identifiers that came with the choice and are nobody else's.
    private func verdict(
        on event: WaitingEvent, _ owner: Outlook, _ own: [HashedIdentifier], _ now: Int64,
        _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> WaitingVerdict {
        guard let purpose = policy.purposes.index(ofTag: event.purposeTag) else { return .denied }
        if owner.person == nil {
            let isRefused = choice.signal.denied.contains(PurposeSet(purpose: purpose)) && event.sharesIdentifier(with: own)
            return isRefused ? .denied : .waits
        }
        let record = try People.choices(of: owner, in: transaction)
        if ConsentRecord.isGranted(record.span, tag: event.purposeTag, at: now) { return .admitted(purpose) }
        return ConsentRecord.isDecided(record.span, tag: event.purposeTag) ? .denied : .waits
    }

    /// Takes an event that has waited through the rest of its journey, with the times that it came with.
    private mutating func admit(
        _ event: WaitingEvent, _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let envelope = Envelope(receivedAt: event.receivedAt)
        found = event.known
        messageID = event.messageID
        messageKey = MessageKey(event.messageID.span, root)
        Pipeline.parse(event.body, into: &kept)
        do throws(Ending) {
            try setAside(event.fault, event.rule, envelope, &transaction)
            let person = try resolve(at: event.timestamp, envelope, &transaction)
            try requireConsent(of: person, event.rule, Envelope(receivedAt: now), transaction)
            try enrich(person, at: event.timestamp, envelope, &transaction)
            try append(event.rule, person, at: event.timestamp, envelope, &transaction)
            ledger.admitted += 1
        } catch {
            switch error {
            case .store(let problem): throw problem
            case .outcome(.quarantined): ledger.quarantined += 1
            case .outcome: ledger.denied += 1
            }
        }
    }
}

/// What becomes of an event that has waited.
private enum WaitingVerdict {
    case waits, denied
    /// With the number that its purpose has now.
    case admitted(Int)
}
