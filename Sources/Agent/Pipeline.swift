// The journey of one event, on one page: (decode → hash → validate, in Serving/EventPreparer.swift) → dedup → consent →
// resolve → enrich → append → follow. Everything here happens inside the writer's transaction, so that it happens whole or not at all
// (promise P1).
//
// The design's order has consent before hashing; but whose consent it is, only the hashed identifiers tell. Hashing is
// done in memory and leaves nothing behind for an event that is then denied. What the schema says counts after consent,
// because an event that is not as it should be is set aside, which is a way of keeping it. What becomes of the event when
// nobody has chosen yet, and when somebody does, stands in PipelineConsent.swift; what is done with one that breaks its
// schema, in PipelineQuality.swift; what follows from an event later, in PipelineTriggers.swift.

import Activation
import CEL
import Collection
import Cryptography
import Formats
import Governance
import Monitoring
import Platform
import Serving
import Store
import Unification

/// What became of an event.
enum EventOutcome {
    case admitted, duplicate, denied, waiting, quarantined
    case refused(EventRefusal)

    var word: StaticString {
        switch self {
        case .admitted: "admitted"
        case .duplicate: "duplicate"
        case .denied: "denied"
        case .waiting: "waiting"
        case .quarantined: "quarantined"
        case .refused: "refused"
        }
    }
}

/// How the journey ends before its end.
enum Ending: Error {
    case outcome(EventOutcome)
    case store(StoreError)
}

/// What events of one request have in common.
struct Envelope {
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
    /// The number of this device's life: another after its store was replaced by a copy of it.
    let lastEpoch: UInt64
    var retention = Retention()
    var rows = RowsLook()
    var recomputation = Recomputation()
    var rotation: Rotation
    /// The plans by which the event under way was prepared, or those in force.
    private(set) var plans: Plans
    let subjects: AuditSubject
    /// See `Peppers.root`.
    let root: HMACSHA256
    let meters: Meters
    /// Whoever is followed; nil where there is nobody to look.
    var trace: Trace?
    var random: Random
    var mender = FieldMender()
    let watch: PlanWatch
    /// Whether people who have said nothing count as having granted everything: in simulations only.
    var presumesGrants = false
    var observed: Observed
    var people: People
    var updater = ProfileUpdater()
    var evaluator = Evaluator(zones: TimeZones { Files.timeZone($0) })
    let surroundings = Surroundings(now: 0)
    var index = ProfileIndex()
    /// How many profiles there may be, and what pages of the store they and their parts may take, bytes; 0: no bound.
    var profileLimit: Int64 = 0
    var profileBytesLimit: Int64 = 0
    /// Whether there are more than that, and one transaction was not enough.
    var isCrowded = false
    /// When the next timer is due, milliseconds since the epoch; never before that.
    var nextTimer = Int64.max
    /// Timers that are due wait for room on the disk.
    var isTimerHeld = false
    /// Whether a hub is told of choices that change.
    var tellsHub = false
    /// A hub's parts of profiles are not its own: they stay as they are, and go when they are told no more.
    var isHub = false
    /// Where a hub looks next for what it may forget.
    var forgetPosition: UInt64 = 0
    /// Number of the newest event of tier `realtime`; 0 for none yet.
    var newestUrgent: UInt64 = 0
    var stretches: LogStretches

    // Of the event under way.
    /// What is kept of the event under way: its root, see `EventPreparer`.
    var kept = JSONDocument()
    private let nothing = JSONDocument()
    /// Its identifiers.
    var found: [HashedIdentifier] = []
    var entry: [UInt8] = []
    var messageID: [UInt8] = []
    /// Of `messageID`.
    var messageKey = MessageKey()
    var logged: [LoggedIdentifier] = []
    /// What it says about purposes, and the person whose it is; see PipelineConsent.swift.
    var choice = Choice()
    /// Whose it was found to be, where that was looked for.
    var person: ProfileID?
    /// The identifier that it is counted for, and whether it showed that people are others than was thought.
    var anchor = IdentifierKey(tag: 0, digest: .zero)
    var hasMoved = false

    init(
        _ plans: Plans, _ identity: DeviceIdentity, watch: PlanWatch, root: HMACSHA256, rotation: Rotation = Rotation(),
        meters: Meters, random: Random, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) {
        let (accounts, window) = (try Ledger(transaction), try RecentMessages(transaction))
        let chain = try AuditLog(transaction, root: root)
        let firstTimer = try Timers.first(transaction) ?? .max
        let last = try LogStretches(next: accounts.nextSequence, transaction)
        observed = try Observed(plans, watch, transaction)
        nextTimer = firstTimer
        ledger = accounts
        stretches = last
        recent = window
        audit = chain
        suppression = SuppressionList(transaction, root: root)
        subjects = AuditSubject(root: root)
        self.plans = plans
        people = People(epoch: identity.epoch)
        lastEpoch = identity.lives.last?.epoch ?? identity.epoch
        people.mark = rotation.mark
        self.rotation = rotation
        self.watch = watch
        self.root = root
        self.meters = meters
        self.random = random
        surroundings.device = [identity.device]
        surroundings.scores = Scorer.make(for: plans.policy)
        // What waited in memory when the agent ended is not there any more.
        ledger.denied += ledger.waiting
        ledger.waiting = 0
    }

    /// Other plans are in force.
    mutating func adopt(_ next: Plans) {
        observe(by: next)
        use(next)
        dropNameless()
    }

    /// Goes by the plans by which an event was prepared: those in force, or for a moment those before them.
    mutating func use(_ next: Plans) {
        if next.policy !== policy { surroundings.scores = Scorer.make(for: next.policy) }
        plans = next
        renumberWaiting()
    }

    var policy: Policy { plans.policy }
    /// By whose attributes events are counted, also those that were prepared by the plans before: from one event on, by the new.
    var inForce: Policy { observed.plans.policy }
    var purposes: PurposePlan { policy.purposes }

    /// Takes one event of a submission through. Nothing of it is in the transaction unless the outcome is `.admitted` or
    /// `.quarantined`, but what it has changed of consents, and that it has ended somebody's visit at a till.
    mutating func process(
        _ submission: Submission, _ event: PreparedEvent, _ envelope: Envelope, in transaction: inout WriteTransaction
    ) throws(StoreError) -> EventOutcome {
        if let refusal = event.refusal { return refuse(submission.refusals[refusal]) }
        open(event, submission)
        // The submission's memory is given back to its pool.
        defer { kept = nothing }
        try renew(&transaction)
        person = nil
        let outcome = try take(event, event.fault.map { submission.faults[$0] }, envelope, &transaction)
        if let trace, trace.isOn { tell(trace, event, outcome) }
        return outcome
    }

    /// Tells whoever follows its person what became of an event.
    private func tell(_ trace: Trace, _ event: PreparedEvent, _ outcome: EventOutcome) {
        let identifiers = found
        let isTheirs = trace.isAbout(person ?? choice.person) { key in identifiers.contains { IdentifierKey($0) == key } }
        if !isTheirs { return }
        let rule = event.rule.flatMap { plans.tracking.rule($0) }
        var line = Trace.line("collect")
        if let type = kept.member(kept.root, "type") {
            line.key("type")
            line.value(kept, type)
        }
        if let rule {
            line.key("plan")
            line.string(rule.name)
        }
        line.key("identifiers")
        line.int(Int64(identifiers.count))
        trace.add(&line, isHeld: true)
        line = Trace.line("govern")
        if let rule {
            line.key("purpose")
            line.string(policy.purposes.names[rule.purpose])
        }
        line.key("outcome")
        line.string(outcome.word)
        if case .refused(let refusal) = outcome {
            line.key("code")
            line.string(refusal.code)
        }
        trace.add(&line, isHeld: true)
        guard case .admitted = outcome, let person else { return }
        line = Trace.line("unify")
        let id = person.bytes
        line.key("profile")
        line.string(Hex.encode(id.span))
        if let kind = policy.identifiers.kindIndex(tag: anchor.tag) {
            line.key("by")
            line.string(policy.identifiers.kinds[kind].name)
        }
        line.key("seq")
        line.uint(ledger.nextSequence - 1)
        trace.add(&line, isHeld: true)
    }

    private mutating func open(_ event: PreparedEvent, _ submission: Submission) {
        kept = submission.document
        kept.narrow(to: event.root)
        found.removeAll(keepingCapacity: true)
        for index in event.identifiers { found.append(submission.found[index]) }
        messageID.removeAll(keepingCapacity: true)
        if event.messageID.isEmpty {
            let bytes = random.bytes(16)
            Hex.append(bytes.span, to: &messageID)
            messageKey = MessageKey(messageID.span, root)
        } else {
            messageID.append(contentsOf: submission.texts[event.messageID])
            messageKey = event.messageKey
        }
    }

    /// Takes note of an event that cannot even begin its journey.
    mutating func refuse(_ refusal: EventRefusal) -> EventOutcome {
        ledger.received += 1
        ledger.refused += 1
        return .refused(refusal)
    }

    private mutating func take(
        _ event: PreparedEvent, _ fault: EventFault?, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> EventOutcome {
        ledger.received += 1
        choice = Choice(signal: event.signal, source: event.isPreference ? .preference : .event)
        do throws(Ending) {
            try stopRepeats(transaction)
            try hear(event, envelope, &transaction)
            let rule = try findRule(event)
            noteArrival(rule, envelope)
            let isDecided = try requireConsent(event, rule, envelope, &transaction)
            try drop(fault, event, rule)
            if !isDecided { try wait(event, rule, fault, envelope) }
            observe(event, rule)
            try setAside(fault, rule, envelope, &transaction)
            let person = try findPerson(at: event.timestamp, envelope, &transaction)
            self.person = person
            try rememberChoice(of: person, at: event.timestamp, envelope, &transaction)
            try requireConsent(of: person, rule, envelope, transaction)
            try enrich(person, at: event.timestamp, envelope, &transaction)
            try append(rule, person, at: event.timestamp, envelope, &transaction)
            ledger.admitted += 1
            try settleWaiting(with: found, envelope.receivedAt, &transaction)
            return .admitted
        } catch {
            switch error {
            case .store(let problem): throw problem
            case .outcome(let outcome):
                count(outcome)
                do throws(Ending) { try settleWaiting(with: found, envelope.receivedAt, &transaction) } catch {
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

    // MARK: Steps

    private func findRule(_ event: PreparedEvent) throws(Ending) -> EventRule {
        if let number = event.rule, let rule = plans.tracking.rule(number) { return rule }
        throw .outcome(
            .refused(
                EventRefusal(
                    "not_in_plan", "the bundle's events do not name this event and have no rule for \"*\"", at: "/event")))
    }

    /// A message id that was seen before ends the journey.
    private func stopRepeats(_ transaction: borrowing WriteTransaction) throws(Ending) {
        let isRepeat: Bool
        do { isRepeat = try recent.isKnown(messageKey, transaction) } catch { throw .store(error) }
        if isRepeat || waiting.contains(messageID: messageID) { throw .outcome(.duplicate) }
    }

    static func parse(_ text: [UInt8], into document: inout JSONDocument) {
        do throws(JSONError) {
            try document.parse(text.span, maximumDepth: CollectionLimits.eventDepth)
        } catch {
            preconditionFailure("the writer has written what the reader refuses")
        }
    }

    private mutating func findPerson(
        at time: Int64, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) -> ProfileID {
        hasMoved = false
        if choice.isSettled, let person = choice.person {
            anchor = choice.anchor
            return person
        }
        return try resolve(at: time, envelope, &transaction)
    }

    /// Puts the event into the log, from which every destination reads, and remembers its message id.
    mutating func append(
        _ rule: EventRule, _ person: ProfileID, at time: Int64, _ envelope: Envelope, _ transaction: inout WriteTransaction
    ) throws(Ending) {
        let header = LogEntryHeader(
            tier: rule.isRealtime ? .realtime : .batch, priority: rule.priority, receivedAt: envelope.receivedAt,
            purposeTag: policy.purposes.tags[rule.purpose], bundleVersion: policy.version, profile: person)
        let document = kept
        encode(header, document.source(document.root), anchor: anchor)
        do {
            try put(header, &transaction)
            _ = try recent.remember(messageKey, in: &transaction)
            try renew(&transaction)
            try People.noteVisits(
                found, of: anchor, policy.identifiers, at: time, now: envelope.receivedAt, in: &transaction)
        } catch {
            throw .store(error)
        }
        do { try follow(rule, person, at: time, now: envelope.receivedAt, &transaction) } catch { throw .store(error) }
    }

    /// Puts `entry` at the log's end.
    mutating func put(_ header: LogEntryHeader, _ transaction: inout WriteTransaction) throws(StoreError) {
        let number = NumberKey(ledger.nextSequence)
        let tables = transaction.tables
        try transaction.put(tables.log, number.bytes.span, entry.span, appending: true)
        if header.tier == .realtime {
            try transaction.put(tables.urgent, number.bytes.span, Span<UInt8>(), appending: true)
            newestUrgent = ledger.nextSequence
        }
        // What must be said whatever happens is not counted among what can be shed.
        if !header.isErasureNotice { try stretches.note(ledger.nextSequence, header.priority, &transaction) }
        ledger.nextSequence += 1
    }

    /// Makes an entry of the log or of the quarantine of the event under way: leaves it in `entry`.
    /// - Parameter anchor: the identifier that the event is counted for, which stands first, though the event need not have it;
    ///   nil: it is not counted.
    mutating func encode(_ header: LogEntryHeader, _ body: Span<UInt8>, anchor: IdentifierKey? = nil) {
        logged.removeAll(keepingCapacity: true)
        for identifier in found {
            logged.append(
                LoggedIdentifier(
                    kindTag: identifier.kindTag, digest: identifier.digest, plainDigest: identifier.plainDigest))
        }
        if let anchor {
            if let place = found.firstIndex(where: { IdentifierKey($0) == anchor }) {
                logged.swapAt(0, place)
            } else {
                logged.insert(LoggedIdentifier(kindTag: anchor.tag, digest: anchor.digest, plainDigest: nil, isHidden: true), at: 0)
            }
        }
        logged += formerIdentifiers
        let (identifiers, id) = (logged, messageID)
        LogEntry.encode(header, identifiers: identifiers.span, messageID: id.span, body: body, into: &entry)
    }
}
