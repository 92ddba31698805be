// The journey of one event, on one page: decode → hash → dedup → consent → validate → resolve → enrich → append.
// Everything happens inside the writer's transaction, so that it happens whole or not at all (promise P1).
//
// The design's order has consent before hashing; but whose consent it is, only the hashed identifiers tell. Hashing is
// done in memory and leaves nothing behind for an event that is then denied. The schema comes after consent, because an
// event that is not as it should be is set aside, which is a way of keeping it. What becomes of the event when nobody
// has chosen yet, and when somebody does, stands in
// PipelineConsent.swift; what is done with one that breaks its schema, in PipelineQuality.swift.

import Activation
import CEL
import Collection
import Cryptography
import Formats
import Governance
import Monitoring
import Platform
import Store
import Unification

/// What became of an event.
enum EventOutcome {
    case admitted, duplicate, denied, waiting, quarantined
    case refused(EventRefusal)
}

/// How the journey ends before its end.
enum Ending: Error {
    case outcome(EventOutcome)
    case store(StoreError)
}

/// What messages of one request have in common.
struct Envelope {
    var type: EventType?
    /// What the batch says for each of its events.
    var outer = OuterMembers()
    var sentAt: Int64?
    /// Milliseconds since the epoch.
    var receivedAt: Int64
    /// Number of the source that sent it.
    var source = 0
    /// The request came with `Sec-GPC: 1`.
    var hasGlobalPrivacyControl = false
}

/// The pipeline and the memory that it works in. One, owned by the writer.
struct Pipeline<Random: RandomSource>: ~Copyable {
    var ledger: Ledger
    var recent: RecentMessages
    var waiting = WaitingRoom()
    var audit: AuditLog
    var suppression: SuppressionList
    private(set) var bundle: Bundle
    let subjects: AuditSubject
    let pepper: HMACSHA256
    let meters: Meters
    var random: Random
    private var joiner = OuterMembersJoiner()
    var mender = FieldMender()
    let watch: PlanWatch
    var observed: Observed
    var finder = IdentifierFinder()
    private var updater = ProfileUpdater()
    private var merger = ProfileMerger()
    private var evaluator = Evaluator(zones: TimeZones { Files.timeZone($0) })
    private let surroundings = Surroundings(now: 0)
    var body = JSONWriter(reserving: 4096)
    var kept = JSONDocument()
    var entry: [UInt8] = []
    var messageID: [UInt8] = []
    /// Of `messageID`.
    var messageKey = MessageKey()
    var logged: [LoggedIdentifier] = []

    init(
        _ bundle: Bundle, device: [UInt8], watch: PlanWatch, pepper: HMACSHA256, meters: Meters, random: Random,
        _ transaction: borrowing WriteTransaction
    ) throws(StoreError) {
        let (accounts, window, chain) = (try Ledger(transaction), try RecentMessages(transaction), try AuditLog(transaction, pepper: pepper))
        observed = try Observed(bundle, watch, transaction)
        ledger = accounts
        recent = window
        audit = chain
        suppression = SuppressionList(transaction, pepper: pepper)
        subjects = AuditSubject(pepper: pepper)
        self.bundle = bundle
        self.watch = watch
        self.pepper = pepper
        self.meters = meters
        self.random = random
        surroundings.device = [device]
        // What waited in memory when the agent ended is not there any more.
        ledger.denied += ledger.waiting
        ledger.waiting = 0
    }

    mutating func use(_ next: Bundle) {
        observe(by: next)
        bundle = next
        renumberWaiting()
    }

    var purposes: PurposePlan { bundle.policy.purposes }
    /// Number of the newest event of tier `realtime`; 0 for none yet.
    var newestUrgent: UInt64 = 0

    /// Takes one event through.
    /// - Parameters:
    ///   - document: the request's body, in which `message` is the event.
    ///   - transaction: the writer's; nothing of the event is in it unless the outcome is `.admitted` or `.quarantined`
    ///     (or the event changed a consent).
    mutating func process(
        _ document: borrowing JSONDocument, _ message: JSONNode, _ envelope: Envelope,
        in transaction: inout WriteTransaction
    ) throws(StoreError) -> EventOutcome {
        if envelope.outer.isEmpty { return try take(document, message, envelope, in: &transaction) }
        let isJoined: Bool
        do throws(EventRefusal) {
            isJoined = try joiner.join(document, message, envelope.outer)
        } catch {
            return refuse(error)
        }
        if !isJoined { return try take(document, message, envelope, in: &transaction) }
        let joined = joiner.document
        return try take(joined, joined.root, envelope, in: &transaction)
    }

    /// Takes note of an event that cannot even begin its journey.
    mutating func refuse(_ refusal: EventRefusal) -> EventOutcome {
        ledger.received += 1
        ledger.refused += 1
        return .refused(refusal)
    }

    private mutating func take(
        _ document: borrowing JSONDocument, _ message: JSONNode, _ envelope: Envelope,
        in transaction: inout WriteTransaction
    ) throws(StoreError) -> EventOutcome {
        if mend(document, message, envelope.type) {
            let mended = mender.document
            return try take(mended, mended.root, envelope, in: &transaction)
        }
        ledger.received += 1
        defer { finder.wipe() }
        choice = Choice()
        do throws(Ending) {
            let event = try decode(document, message, envelope)
            try identify(event, document)
            try stopRepeats(event, document, transaction)
            try hear(event, document, envelope, &transaction)
            let rule = try findRule(event, document)
            noteArrival(rule, envelope)
            let isDecided = try requireConsent(event, rule, envelope, &transaction)
            let fault = try validate(event, rule, document)
            write(event, document)
            if !isDecided { try wait(event, rule, fault, envelope) }
            observe(event, rule)
            try setAside(fault, rule, envelope, &transaction)
            let person = try resolve(envelope, &transaction)
            try rememberChoice(of: person, at: event.timestamp, envelope, &transaction)
            try requireConsent(of: person, rule, envelope, transaction)
            try enrich(person, at: event.timestamp, envelope, &transaction)
            try append(rule, person, envelope, &transaction)
            ledger.admitted += 1
            try settleWaiting(with: finder.found, envelope.receivedAt, &transaction)
            return .admitted
        } catch {
            switch error {
            case .store(let problem): throw problem
            case .outcome(let outcome):
                count(outcome)
                do throws(Ending) { try settleWaiting(with: finder.found, envelope.receivedAt, &transaction) } catch {
                    if case .store(let problem) = error { throw problem }
                }
                return outcome
            }
        }
    }

    private mutating func count(_ outcome: EventOutcome) {
        switch outcome {
        case .duplicate: ledger.duplicate += 1
        case .denied: ledger.denied += 1
        case .waiting: ledger.waiting += 1
        case .quarantined: ledger.quarantined += 1
        case .refused: ledger.refused += 1
        case .admitted: ledger.admitted += 1
        }
    }

    /// Whether the event under way showed that several people are one.
    var hasJoined = false
    /// What the event under way says about purposes, and the person whose it is; see PipelineConsent.swift.
    var choice = Choice()

    // MARK: Steps

    private func decode(
        _ document: borrowing JSONDocument, _ message: JSONNode, _ envelope: Envelope
    ) throws(Ending) -> Event {
        do throws(EventRefusal) {
            // The whole text of a message is its weight: the Segment API allows 32 KiB.
            if document.source(message).count > CollectionLimits.eventBytes {
                throw EventRefusal("too_large", "an event may have 32 KiB")
            }
            return try Event(
                document, message, type: envelope.type, sentAt: envelope.sentAt, receivedAt: envelope.receivedAt)
        } catch {
            throw .outcome(.refused(error))
        }
    }

    private func findRule(_ event: Event, _ document: borrowing JSONDocument) throws(Ending) -> EventRule {
        if let rule = bundle.tracking.rule(event, document) { return rule }
        throw .outcome(
            .refused(
                EventRefusal(
                    "not_in_plan", "the bundle's events do not name this event and have no rule for \"*\"", at: "/event")))
    }

    private mutating func identify(_ event: Event, _ document: borrowing JSONDocument) throws(Ending) {
        do throws(IdentifierError) {
            // The traits of a group are the group's: a company's address would make one person of all its people.
            try finder.find(
                bundle.policy.identifiers, document, event.root, of: event.type == .group ? .group : .person,
                pepper: pepper)
        } catch {
            throw .outcome(
                .refused(EventRefusal("too_many_identifiers", "an event may carry the identifiers of one person only")))
        }
        if finder.found.isEmpty {
            throw .outcome(
                .refused(
                    EventRefusal(
                        "no_identifier", "none of the bundle's identifiers is in this event, or it is a blocked value",
                        at: "/userId")))
        }
    }

    /// A message id that was seen before ends the journey. One that is missing is made; one that holds an identifier is
    /// replaced by its keyed hash, which recognises repeats as well.
    private mutating func stopRepeats(
        _ event: Event, _ document: borrowing JSONDocument, _ transaction: borrowing WriteTransaction
    ) throws(Ending) {
        messageID.removeAll(keepingCapacity: true)
        if let node = event.messageID {
            let text = document.bytes(node)
            if EventSanitizer.mayBeKept(text, finder) {
                messageID.append(contentsOf: text)
            } else {
                pepper.authenticate(text).appendHexadecimal(to: &messageID)
            }
        } else {
            let bytes = random.bytes(16)
            Hex.append(bytes.span, to: &messageID)
        }
        let isRepeat: Bool
        messageKey = MessageKey(messageID.span, pepper)
        do { isRepeat = try recent.isKnown(messageKey, transaction) } catch { throw .store(error) }
        if isRepeat || waiting.contains(messageID: messageID) { throw .outcome(.duplicate) }
    }

    /// Writes what is kept of the event, without identifiers; rules see this and nothing else (promise P3).
    private mutating func write(_ event: Event, _ document: borrowing JSONDocument) {
        body.clear()
        body.beginObject()
        body.key("type")
        body.string(event.type.name)
        if let name = event.name {
            body.key("event")
            EventSanitizer.write(document, name, without: finder, into: &body)
        }
        body.key("timestamp")
        var time: [UInt8] = []
        Timestamp.append(event.timestamp, to: &time)
        body.string(time)
        let members: [StaticString] = ["name", "category", "groupId", "properties", "traits", "integrations"]
        for member in members {
            guard let node = document.member(event.root, member) else { continue }
            body.key(member)
            EventSanitizer.write(document, node, without: finder, into: &body)
        }
        if event.type == .identify, let traits = event.properties, document.member(event.root, "traits") == nil {
            body.key("traits")
            EventSanitizer.write(document, traits, without: finder, into: &body)
        }
        if let context = event.context {
            body.key("context")
            EventSanitizer.write(document, context, without: finder, into: &body)
        }
        body.endObject()
        surroundings.event = nil
        Pipeline.parse(body.bytes, into: &kept)
    }

    static func parse(_ text: [UInt8], into document: inout JSONDocument) {
        do throws(JSONError) {
            try document.parse(text.span, maximumDepth: CollectionLimits.eventDepth)
        } catch {
            preconditionFailure("the writer has written what the reader refuses")
        }
    }

    /// Finds or makes the person, and joins the records of people who turn out to be one.
    mutating func resolve(
        _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) -> ProfileID {
        do {
            let resolution = try IdentityGraph.resolve(
                finder.found, bundle.policy.identifiers, now: envelope.receivedAt, random: &random, in: &transaction)
            if resolution.conflicts > 0 { meters.identityConflicts.add(UInt64(resolution.conflicts)) }
            hasJoined = !resolution.absorbed.isEmpty
            for other in resolution.absorbed {
                try join(other, into: resolution.profile, &transaction)
                waiting.rename(other, to: resolution.profile)
            }
            return resolution.profile
        } catch {
            throw .store(error)
        }
    }

    private mutating func join(
        _ other: ProfileID, into person: ProfileID, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        meters.identityMerges.add()
        let tables = transaction.tables
        let (from, to) = (other.bytes, person.bytes)
        if let record = try mergedRecord(from.span, to.span, person, transaction) {
            try transaction.put(tables.profiles, to.span, record.span)
        }
        try transaction.delete(tables.profiles, from.span)
        if let choices = try mergedConsent(from.span, to.span, transaction) {
            try transaction.put(tables.consent, to.span, choices.span)
        }
        try transaction.delete(tables.consent, from.span)
    }

    private mutating func mergedRecord(
        _ from: Span<UInt8>, _ to: Span<UInt8>, _ person: ProfileID, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8]? {
        let profiles = transaction.tables.profiles
        guard let moving = try transaction.get(profiles, from) else { return nil }
        guard let staying = try transaction.get(profiles, to) else { return [UInt8](copying: moving) }
        do throws(RecordDamage) {
            try merger.merge(staying, moving, id: person, plan: bundle.policy.attributes)
            return merger.record
        } catch {
            // One of them is damaged: the one that stays is kept, and the next event finds out about it.
            meters.badRecords.add()
            return nil
        }
    }

    private func mergedConsent(
        _ from: Span<UInt8>, _ to: Span<UInt8>, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8]? {
        let consent = transaction.tables.consent
        guard let moving = try transaction.get(consent, from) else { return nil }
        guard let staying = try transaction.get(consent, to) else { return [UInt8](copying: moving) }
        return ConsentRecord.merging(staying, moving)
    }

    /// Changes the attributes of the profile that the event says something about.
    mutating func enrich(
        _ person: ProfileID, at timestamp: Int64, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) {
        surroundings.now = envelope.receivedAt
        surroundings.eventTimestamp = timestamp
        surroundings.bundleAge = envelope.receivedAt - bundle.policy.loadedAt
        surroundings.event = kept
        do {
            try computeRecord(person, transaction)
            let key = person.bytes
            try transaction.put(transaction.tables.profiles, key.span, updater.record.span)
        } catch {
            throw .store(error)
        }
        surroundings.event = nil
        evaluator.end()
        if updater.failedRules > 0 { meters.evaluationErrors.add(UInt64(updater.failedRules)) }
    }

    /// Leaves the new record in `updater`.
    private mutating func computeRecord(
        _ person: ProfileID, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) {
        let key = person.bytes
        let policy = bundle.policy
        if let old = try transaction.get(transaction.tables.profiles, key.span) {
            do throws(RecordDamage) {
                _ = try updater.apply(
                    to: old, id: person, plan: policy.attributes, slots: policy.slots, program: policy.program,
                    surroundings: surroundings, evaluator: &evaluator)
                return
            } catch {
                // A record that fails its checksum is not used; the person begins anew, and it is counted.
                meters.badRecords.add()
            }
        }
        do throws(RecordDamage) {
            _ = try updater.apply(
                to: Span<UInt8>(), id: person, plan: policy.attributes, slots: policy.slots, program: policy.program,
                surroundings: surroundings, evaluator: &evaluator)
        } catch {
            preconditionFailure("an empty record cannot be damaged")
        }
    }

    /// Puts the event into the log, from which every destination reads, and remembers its message id.
    mutating func append(
        _ rule: EventRule, _ person: ProfileID, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) {
        let header = LogEntryHeader(
            tier: rule.isRealtime ? .realtime : .batch, priority: rule.priority, receivedAt: envelope.receivedAt,
            purposeTag: bundle.policy.purposes.tags[rule.purpose], bundleVersion: bundle.policy.version, profile: person)
        collectLogged()
        Pipeline.encode(header, logged, messageID, body.bytes, into: &entry)
        let number = NumberKey(ledger.nextSequence)
        do {
            try transaction.put(transaction.tables.log, number.bytes.span, entry.span, appending: true)
            _ = try recent.remember(messageKey, in: &transaction)
        } catch {
            throw .store(error)
        }
        if rule.isRealtime { newestUrgent = ledger.nextSequence }
        ledger.nextSequence += 1
    }

    static func encode(
        _ header: LogEntryHeader, _ identifiers: [LoggedIdentifier], _ messageID: [UInt8], _ body: [UInt8],
        into entry: inout [UInt8]
    ) {
        LogEntry.encode(
            header, identifiers: identifiers.span, messageID: messageID.span, body: body.span, into: &entry)
    }

    mutating func collectLogged() {
        logged.removeAll(keepingCapacity: true)
        for identifier in finder.found {
            logged.append(
                LoggedIdentifier(
                    kindTag: identifier.kindTag, digest: identifier.digest, plainDigest: identifier.plainDigest))
        }
    }
}
