// The part of the journey that holds an event against the tracking plan, and the quarantine: what is set aside, why, and
// how it comes back when the plan has been mended.

import Activation
import Collection
import Formats
import Governance
import Platform
import Serving
import Store
import Unification

extension Pipeline {
    /// Refuses an event that breaks its schema, if its rule wants that.
    func drop(_ fault: EventFault?, _ event: PreparedEvent, _ rule: EventRule) throws(Ending) {
        if event.isInvalid { meters.eventsInvalid.add() }
        guard let fault, rule.invalid == .drop else { return }
        throw .outcome(
            .refused(
                EventRefusal(
                    "invalid", "the event does not fit the schema of the tracking plan", pointer: fault.pointer,
                    rule: fault.rule)))
    }

    // MARK: Quarantine

    /// Puts an event that breaks its schema into quarantine, with the reason; the oldest make room.
    mutating func setAside(
        _ fault: EventFault?, _ rule: EventRule, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) {
        guard let fault else { return }
        do {
            try putAside(fault, rule, envelope, &transaction)
            _ = try recent.remember(messageKey, in: &transaction)
        } catch {
            throw .store(error)
        }
        throw .outcome(.quarantined)
    }

    private mutating func putAside(
        _ fault: EventFault, _ rule: EventRule, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let document = kept
        var wrapped = JSONWriter(reserving: document.source(document.root).count + 192)
        wrapped.beginObject()
        wrapped.key("reason")
        wrapped.string("schema")
        wrapped.key("keyword")
        wrapped.string(fault.keyword)
        wrapped.key("rule")
        wrapped.string(fault.rule)
        wrapped.key("pointer")
        wrapped.string(fault.pointer)
        if envelope.hasGlobalPrivacyControl {
            wrapped.key("gpc")
            wrapped.bool(true)
        }
        wrapped.key("event")
        wrapped.raw(document.source(document.root))
        wrapped.endObject()
        let header = LogEntryHeader(
            tier: .batch, priority: rule.priority, receivedAt: envelope.receivedAt,
            purposeTag: policy.purposes.tags[rule.purpose], bundleVersion: policy.version,
            profile: .nobody)
        encode(header, wrapped.bytes.span)
        let number = NumberKey(ledger.nextQuarantined)
        try transaction.put(transaction.tables.quarantine, number.bytes.span, entry.span, appending: true)
        ledger.nextQuarantined += 1
        if ledger.nextQuarantined > CollectionLimits.quarantinedEvents {
            let dropped = try transaction.deleteNumbers(
                transaction.tables.quarantine, below: ledger.nextQuarantined - CollectionLimits.quarantinedEvents,
                atMost: 8)
            meters.droppedQuarantined.add(UInt64(dropped))
        }
    }

    /// Takes an event out of quarantine and through the rest of its journey, if the plan that is in force now and its
    /// person's consent let it.
    /// - Returns: why it stays; nil when it was admitted. A number that is not there stays, too.
    mutating func release(
        _ number: UInt64, now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> EventRefusal? {
        let key = NumberKey(number)
        var record: [UInt8] = []
        if let found = try transaction.get(transaction.tables.quarantine, key.bytes.span) { record = [UInt8](copying: found) }
        guard let (receivedAt, hasControl) = load(record, now: now) else {
            return EventRefusal("not_there", "there is no such event in quarantine, its time is up, or its record is damaged")
        }
        mendKept()
        let envelope = Envelope(receivedAt: receivedAt)
        do throws(Ending) {
            let time = kept.member(kept.root, "timestamp").flatMap { Timestamp.parse(kept.bytes($0)) } ?? receivedAt
            // The event may have brought its person's consent with it.
            choice = Choice()
            choice.signal = policy.consent.signal(
                kept, context: kept.member(kept.root, "context"), hasGlobalPrivacyControl: hasControl)
            let rule = try recheck(time, now: now, transaction)
            do throws(StoreError) { try transaction.delete(transaction.tables.quarantine, key.bytes.span) } catch {
                throw .store(error)
            }
            let person = try resolve(at: time, envelope, &transaction)
            try rememberChoice(of: person, at: time, envelope, &transaction)
            try enrich(person, at: time, envelope, &transaction)
            try append(rule, person, at: time, envelope, &transaction)
            ledger.quarantined -= min(ledger.quarantined, 1)
            ledger.admitted += 1
            try settleWaiting(with: found, now, &transaction)
            return nil
        } catch {
            switch error {
            case .store(let problem): throw problem
            case .outcome(.refused(let refusal)): return refusal
            case .outcome: return EventRefusal("not_admitted", "the event cannot be admitted")
            }
        }
    }

    /// Brings what quarantine holds back to where the journey left it: identifiers, message id, body.
    /// - Returns: when it was received, and whether with `Sec-GPC`; nil for a record that cannot be read.
    private mutating func load(_ record: [UInt8], now: Int64) -> (Int64, Bool)? {
        let span = record.span
        guard let entry = LogEntryView(span), !plans.isOver(entry, &kept, isAside: true, now: now) else { return nil }
        var wrapped = JSONDocument()
        do throws(JSONError) { try wrapped.parse(entry.body) } catch { return nil }
        guard let event = wrapped.member(wrapped.root, "event") else { return nil }
        Pipeline.parse([UInt8](copying: wrapped.source(event)), into: &kept)
        messageID = [UInt8](copying: entry.messageID)
        messageKey = MessageKey(entry.messageID, pepper)
        found.removeAll(keepingCapacity: true)
        for index in 0..<entry.identifierCount {
            let identifier = entry.identifier(index)
            guard let kind = policy.identifiers.kindIndex(tag: identifier.kindTag) else { continue }
            found.append(
                HashedIdentifier(
                    kindTag: identifier.kindTag, kindIndex: kind, digest: identifier.digest,
                    plainDigest: identifier.plainDigest))
        }
        let hasControl = wrapped.member(wrapped.root, "gpc").flatMap { wrapped.bool($0) } ?? false
        return (entry.header.receivedAt, hasControl)
    }

    /// The rule of the event in `kept` by the plan in force, if plan and consent let it in.
    /// - Parameter time: when it happened; `now`: milliseconds since the epoch, too.
    private func recheck(
        _ time: Int64, now: Int64, _ transaction: borrowing WriteTransaction
    ) throws(Ending) -> EventRule {
        guard !found.isEmpty, let type = kept.member(kept.root, "type").flatMap({ EventType(kept.bytes($0)) }) else {
            throw .outcome(.refused(EventRefusal("no_identifier", "the bundle has none of this event's identifiers any more")))
        }
        guard let number = plans.tracking.ruleNumber(type, name: kept.member(kept.root, "event"), kept),
            let rule = plans.tracking.rule(number)
        else {
            throw .outcome(.refused(EventRefusal("not_in_plan", "the bundle's events do not name this event", at: "/event")))
        }
        let policy = self.policy
        var isGranted = false
        do throws(StoreError) {
            let outlook = try People.foresee(
                found, policy.identifiers, evidence(at: time, Envelope(receivedAt: now)), in: transaction)
            let record = try People.choices(of: outlook, in: transaction)
            let changed = ConsentRecord.applying(
                choice.signal, at: time, from: .event, policy.purposes, validDays: policy.consent.validDays, to: record.span)
            let effective = changed ?? record
            isGranted = ConsentRecord.isGranted(effective.span, tag: policy.purposes.tags[rule.purpose], at: now)
        } catch {
            throw .store(error)
        }
        if !isGranted {
            throw .outcome(.refused(EventRefusal("denied", "the person does not, or no longer, grant the event's purpose")))
        }
        let properties = kept.member(kept.root, type.hasTraits ? "traits" : "properties")
        if rule.invalid != .allow, let fault = EventFault(rule, type, properties, in: kept.root, kept) {
            throw .outcome(
                .refused(
                    EventRefusal(
                        "invalid", "the event still does not fit the schema of the tracking plan", pointer: fault.pointer,
                        rule: fault.rule)))
        }
        return rule
    }

    /// Numbers of the events in quarantine, oldest first.
    static func quarantined(atMost: Int, _ transaction: borrowing WriteTransaction) throws(StoreError) -> [UInt64] {
        var numbers: [UInt64] = []
        try transaction.scan(transaction.tables.quarantine, from: Span<UInt8>()) { key, _ in
            if let number = NumberKey.decode(key) { numbers.append(number) }
            return numbers.count < atMost
        }
        return numbers
    }
}
