// What follows from an event: triggers that it starts, calls off or fires, and what comes due through time alone. Everything
// happens in the transaction of the event, or in one of the writer's: a timer goes and what it did comes, or neither (once,
// however often the device restarts or its clock is set). What people's audiences announce stands in PipelineAudiences.swift.
//
// Times are those of the wall clock in UTC, so that no time zone's summer time matters. A clock that is set back lets what
// waits wait for longer; one that is set forward lets it fire, unless it is then due for longer than its grace.

import Activation
import CEL
import Collection
import Formats
import Governance
import Monitoring
import Platform
import Serving
import Store
import Unification

/// What something follows from: an event as it was taken, or the announcement of an audience.
final class Cause {
    let event: JSONDocument
    /// Those that came with it in the forms in which they may leave.
    let identifiers: [LoggedIdentifier]
    let purposeTag: UInt32
    /// How long it may be kept, milliseconds; 0 for good.
    let keptFor: Int64
    /// When it happened, and now; milliseconds since the epoch.
    let time: Int64
    let now: Int64

    init(
        _ event: JSONDocument, _ identifiers: [LoggedIdentifier], purposeTag: UInt32, keptFor: Int64 = 0, at time: Int64,
        now: Int64
    ) {
        (self.event, self.identifiers, self.purposeTag) = (event, identifiers, purposeTag)
        (self.keptFor, self.time, self.now) = (keptFor, time, now)
    }
}

/// Whom something is for, as the store has them now.
final class Addressee {
    let person: ProfileID
    /// The identifiers that are theirs, the one that it is counted for first.
    let identifiers: [LoggedIdentifier]
    /// Their consent record.
    let consent: [UInt8]
    /// The identifier that it is counted for.
    var anchor: IdentifierKey { IdentifierKey(identifiers[0]) }

    init(_ person: ProfileID, _ identifiers: [LoggedIdentifier], _ consent: [UInt8]) {
        (self.person, self.identifiers, self.consent) = (person, identifiers, consent)
    }
}

extension Pipeline {
    /// Does what follows from the event under way, which stands in the log.
    mutating func follow(
        _ rule: EventRule, _ person: ProfileID, at time: Int64, now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let policy = self.policy
        let announces = policy.decisions.announced != 0
        if policy.triggers.triggers.isEmpty, !announces { return }
        let whom = try addressee(person, anchor, transaction)
        let keptFor = Plans.shorter(rule.timeToLive, policy.purposes.timesToLive[rule.purpose])
        try startTriggers(
            Cause(
                kept, logged, purposeTag: policy.purposes.tags[rule.purpose], keptFor: keptFor, at: min(time, now), now: now),
            whom, &transaction)
        if announces { try announce(whom, now, &transaction) }
    }

    /// The person of an identifier with all that are theirs.
    func addressee(
        _ person: ProfileID, _ anchor: IdentifierKey, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Addressee {
        let plan = policy.identifiers
        var identifiers = [LoggedIdentifier(kindTag: anchor.tag, digest: anchor.digest, plainDigest: nil)]
        for identifier in try IdentityGraph.identifiers(of: person, in: transaction) where IdentifierKey(identifier) != anchor {
            // A till is nobody's.
            guard let kind = plan.kindIndex(tag: identifier.kindTag), !plan.kinds[kind].isShared else { continue }
            identifiers.append(identifier)
        }
        return Addressee(person, identifiers, try consentRecord(of: person, transaction))
    }

    // MARK: Events

    /// Calls off and starts the triggers whose conditions hold for an event.
    mutating func startTriggers(
        _ cause: Cause, _ whom: Addressee, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let policy = self.policy
        let triggers = policy.triggers.triggers
        if triggers.isEmpty { return }
        surroundings.now = cause.now
        surroundings.eventTimestamp = cause.time
        let record = try beginLooking(
            at: whom, cause.event, policy.triggers.needs, policy.triggers.readsPerson, transaction)
        var (calledOff, started): (UInt64, UInt64) = (0, 0)
        for index in triggers.indices {
            if let unless = triggers[index].unless, holds(unless, record) { calledOff |= 1 << UInt64(index) }
            if holds(triggers[index].on, record) { started |= 1 << UInt64(index) }
        }
        endLooking()
        if calledOff | started == 0 { return }
        for index in triggers.indices {
            let bit = UInt64(1) << UInt64(index)
            if calledOff & bit != 0 { try callOff(triggers[index], whom, at: cause.time, cause.now, &transaction) }
            if started & bit != 0 { try start(triggers[index], cause, whom, &transaction) }
        }
    }

    private mutating func callOff(
        _ trigger: Trigger, _ whom: Addressee, at time: Int64, _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        for identifier in whom.identifiers {
            let key = TimerKey(IdentifierKey(identifier), trigger.tag)
            let record = try Timers.record(key, transaction)
            guard let state = TriggerState(record.span), state.wanted != 0 else { continue }
            // What came before it and arrives late calls nothing off; unless the clock was set back since.
            if state.since > time, state.since <= now { continue }
            meters.triggersCalledOff.add()
            try rest(trigger, key, state, now, &transaction)
        }
    }

    private mutating func start(
        _ trigger: Trigger, _ cause: Cause, _ whom: Addressee, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        guard isGranted(trigger, cause.purposeTag, whom, at: cause.now) else { return meters.triggersDenied.add() }
        let due = max(1, cause.time + trigger.after)
        if cause.now - due > trigger.grace { return meters.triggersLate.add() }
        let key = TimerKey(whom.anchor, trigger.tag)
        // What may not be kept for so long is not waited with.
        let isKept = cause.keptFor == 0 || cause.keptFor >= trigger.after
        var state = TriggerState(due: due, since: cause.time, cause: entry(of: trigger, cause, whom, withProperties: isKept))
        let record = try Timers.record(key, transaction)
        if let known = TriggerState(record.span) {
            state.firedAt = known.firedAt
            if known.wanted != 0 {
                // The wait begins anew; the timer is moved when it comes due. What waits for longer than it can was there
                // before the clock was set back.
                let isPlausible = known.wanted <= cause.now + trigger.after
                if isPlausible, known.wanted >= due { return }
                if isPlausible { state.due = known.due }
            }
        }
        if trigger.after == 0 { return try fire(trigger, key, state, whom, cause.now, &transaction) }
        // Also one that is due already: what calls it off may come right behind it, when a device hands in what it has kept.
        try setTimer(key, state.record, due: state.due, &transaction)
    }

    mutating func setTimer(
        _ key: TimerKey, _ record: [UInt8], due: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        try Timers.put(key, record, in: &transaction)
        if due != 0 { nextTimer = min(nextTimer, due) }
    }

    /// Forgets that a trigger waits, but not when it last fired while that matters.
    private mutating func rest(
        _ trigger: Trigger, _ key: TimerKey, _ state: TriggerState, _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let end = state.firedAt + trigger.every
        if trigger.every == 0 || state.firedAt == 0 || end <= now { return try Timers.remove(key, in: &transaction) }
        var resting = TriggerState(due: end, since: state.since, cause: [])
        resting.wanted = 0
        resting.firedAt = state.firedAt
        try setTimer(key, resting.record, due: end, &transaction)
    }

    private func isGranted(_ trigger: Trigger, _ tag: UInt32, _ whom: Addressee, at now: Int64) -> Bool {
        let record = whom.consent
        if !ConsentRecord.isGranted(record.span, tag: tag, at: now) { return false }
        guard let purpose = trigger.purpose else { return true }
        return ConsentRecord.isGranted(record.span, tag: policy.purposes.tags[purpose], at: now)
    }

    /// What a trigger keeps of its cause: the entry that tells destinations of it, but for its time, under the cause's
    /// purpose. Properties keep their places, so that what may not leave of these does not leave here.
    private func entry(of trigger: Trigger, _ cause: Cause, _ whom: Addressee, withProperties: Bool) -> [UInt8] {
        let event = cause.event
        var body = JSONWriter(reserving: 512)
        Pipeline.beginEvent("Trigger Fired", &body)
        body.key("trigger")
        body.string(trigger.name)
        if withProperties, let properties = event.member(event.root, "properties"),
            event.source(properties).count <= Limits.causeBytes
        {
            event.forEachMember(properties) { name, value in
                if event.equals(name, "trigger") { return }
                body.key(event.bytes(name))
                body.raw(event.source(value))
            }
        }
        body.endObject()
        body.key("context")
        body.beginObject()
        body.key("trigger")
        body.beginObject()
        for name: StaticString in ["event", "type", "timestamp"] {
            guard let value = event.member(event.root, name), event.source(value).count <= Limits.causeBytes else { continue }
            body.key(name)
            body.raw(event.source(value))
        }
        if let purpose = policy.purposes.index(ofTag: cause.purposeTag) {
            body.key("purpose")
            body.string(policy.purposes.names[purpose])
        }
        for _ in 0..<3 { body.endObject() }
        let header = LogEntryHeader(
            tier: .realtime, priority: trigger.priority, receivedAt: withProperties ? cause.now : cause.time + trigger.after,
            purposeTag: cause.purposeTag, bundleVersion: 0, profile: whom.person, isGenerated: true, isDirected: true)
        var entry: [UInt8] = []
        // The forms that destinations ask for are known of those that came with the event. Those of others are not kept, nor
        // those that no destination of this trigger asks for.
        var identifiers = whom.identifiers
        for index in identifiers.indices where trigger.sendsPlain(identifiers[index].kindTag) {
            for known in cause.identifiers where known.digest == identifiers[index].digest {
                identifiers[index].plainDigest = known.plainDigest
            }
        }
        // Whose it is will be looked up; what is kept of identifiers here is only what cannot be.
        identifiers.removeAll { $0.plainDigest == nil }
        let text = body.bytes
        LogEntry.encode(header, identifiers: identifiers.span, messageID: Span<UInt8>(), body: text.span, into: &entry)
        return entry
    }

    // MARK: Time

    /// Takes the timers that are due: some of them, if there are many. Nobody looks at the others.
    /// - Parameters:
    ///   - plans: those in force, which are not always those of the event that came last.
    ///   - now: milliseconds since the epoch.
    ///   - hasRoom: whether the disk takes what they do; if not, they wait.
    /// - Returns: how many keys of the table of timers were read.
    @discardableResult
    mutating func takeTimers(
        _ plans: Plans, now: Int64, atMost: Int, _ hasRoom: Bool, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Int {
        guard nextTimer <= now else { return 0 }
        isTimerHeld = !hasRoom
        if isTimerHeld { return 0 }
        let before = self.plans
        if before !== plans { use(plans) }
        let (due, keysRead) = try Timers.due(at: now, atMost: min(atMost, Limits.timersPerCommit), transaction)
        for timer in due where transaction.changedPages < Limits.pagesPerCommit {
            try take(timer.key, timer.time, now, &transaction)
        }
        nextTimer = try Timers.first(transaction) ?? .max
        if before !== plans { use(before) }
        return keysRead + 1
    }

    private mutating func take(
        _ key: TimerKey, _ time: Int64, _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let record = try Timers.record(key, transaction)
        if Timers.head(record.span) != time { return try Timers.drop(key, at: time, in: &transaction) }
        let person = try IdentityGraph.profile(of: key.identifier, in: transaction)
        if key.tag == TimerKey.audiences {
            guard let person else { return try Timers.remove(key, in: &transaction) }
            return try announce(addressee(person, key.identifier, transaction), now, &transaction)
        }
        guard let state = TriggerState(record.span) else { return try Timers.remove(key, in: &transaction) }
        if state.wanted > now {
            var later = state
            later.due = state.wanted
            return try setTimer(key, later.record, due: later.due, &transaction)
        }
        let entry = state.cause
        guard state.wanted != 0, let person, let trigger = policy.triggers.trigger(tag: key.tag),
            let tag = LogEntryView(entry.span)?.header.purposeTag
        else {
            if state.wanted != 0 { meters.triggersCalledOff.add() }
            return try Timers.remove(key, in: &transaction)
        }
        if now - state.wanted > trigger.grace {
            meters.triggersLate.add()
            return try rest(trigger, key, state, now, &transaction)
        }
        let whom = try addressee(person, key.identifier, transaction)
        if !isGranted(trigger, tag, whom, at: now) {
            meters.triggersDenied.add()
            return try rest(trigger, key, state, now, &transaction)
        }
        try fire(trigger, key, state, whom, now, &transaction)
    }

    /// Fires a trigger that is due, unless something speaks against it.
    private mutating func fire(
        _ trigger: Trigger, _ key: TimerKey, _ state: TriggerState, _ whom: Addressee, _ now: Int64,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        var last = state
        // Who was two people until now waits twice: the later wait counts.
        for identifier in whom.identifiers where IdentifierKey(identifier) != key.identifier {
            let other = TimerKey(IdentifierKey(identifier), trigger.tag)
            let record = try Timers.record(other, transaction)
            guard let theirs = TriggerState(record.span) else { continue }
            last.firedAt = max(last.firedAt, theirs.firedAt)
            if theirs.wanted > state.wanted {
                meters.triggersCalledOff.add()
                return try rest(trigger, key, state, now, &transaction)
            }
            if theirs.wanted != 0 {
                meters.triggersCalledOff.add()
                try rest(trigger, other, theirs, now, &transaction)
            }
        }
        if trigger.every > 0, last.firedAt != 0, abs(now - last.firedAt) < trigger.every {
            meters.triggersRested.add()
            return try rest(trigger, key, state, now, &transaction)
        }
        let entry = state.cause
        guard let cause = LogEntryView(entry.span) else { return try Timers.remove(key, in: &transaction) }
        if let when = trigger.when {
            var event = JSONDocument()
            Pipeline.parse([UInt8](copying: cause.body), into: &event)
            surroundings.now = now
            surroundings.eventTimestamp = state.since
            let record = try beginLooking(
                at: whom, event, policy.triggers.needs, policy.triggers.readsPerson, transaction)
            let isWanted = holds(when, record)
            endLooking()
            if !isWanted {
                meters.triggersCalledOff.add()
                return try rest(trigger, key, state, now, &transaction)
            }
        }
        var identifiers = whom.identifiers
        // The bundle may be another since.
        for index in identifiers.indices where trigger.sendsPlain(identifiers[index].kindTag) {
            for place in 0..<cause.identifierCount where cause.identifier(place).digest == identifiers[index].digest {
                identifiers[index].plainDigest = cause.identifier(place).plainDigest
            }
        }
        var header = cause.header
        // Where it holds what it is about it is kept no longer than that, and that counts from when the device took it.
        header.bundleVersion = policy.version
        header.profile = whom.person
        header.priority = trigger.priority
        if let purpose = trigger.purpose { header.purposeTag = policy.purposes.tags[purpose] }
        var body = [UInt8](copying: cause.body.extracting(0..<cause.body.count - 1))
        Pipeline.appendTime(now, to: &body)
        meters.triggersFired.add()
        last.firedAt = now
        try rest(trigger, key, last, now, &transaction)
        try generate(header, identifiers, messageID: newMessageID(), body, &transaction)
    }

    mutating func newMessageID() -> [UInt8] {
        let bytes = random.bytes(16)
        return Hex.encode(bytes.span)
    }

    /// Begins an event that the device makes, up to its first property.
    static func beginEvent(_ name: StaticString, _ body: inout JSONWriter) {
        body.beginObject()
        body.key("type")
        body.string("track")
        body.key("event")
        body.string(name)
        body.key("properties")
        body.beginObject()
    }

    /// Ends such an event, whose last brace is yet to come, with its time.
    static func appendTime(_ time: Int64, to body: inout [UInt8]) {
        body.append(contentsOf: (",\"timestamp\":\"" as StaticString).bytes)
        Timestamp.append(time, to: &body)
        body.append(UInt8(ascii: "\""))
        body.append(UInt8(ascii: "}"))
    }

    /// Puts an event that this device has made into the log.
    mutating func generate(
        _ header: LogEntryHeader, _ identifiers: [LoggedIdentifier], messageID: [UInt8], _ body: [UInt8],
        _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        LogEntry.encode(header, identifiers: identifiers.span, messageID: messageID.span, body: body.span, into: &entry)
        try put(header, &transaction)
        ledger.generated += 1
    }

    // MARK: Conditions

    /// Makes ready to evaluate conditions over a person, until `endLooking`. Times are in `surroundings`.
    /// - Returns: the person's record; empty where none is asked for, or there is none.
    mutating func beginLooking(
        at whom: Addressee, _ event: JSONDocument?, _ audiences: UInt64, _ readsPerson: Bool,
        _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        let policy = self.policy
        var record: [UInt8] = []
        let (id, consent) = (whom.person.bytes, whom.consent)
        surroundings.profileAge = nil
        if readsPerson, let value = try transaction.get(transaction.tables.profiles, id.span) {
            record = [UInt8](copying: value)
        }
        if !read(record) { record = [] }
        surroundings.bundleAge = policy.age(at: surroundings.now)
        surroundings.consent = ConsentRecord.granted(consent.span, policy.purposes, at: surroundings.now)
        surroundings.event = event
        if audiences != 0 { surroundings.audiences = AudienceSet(count: policy.decisions.audiences.count) }
        evaluator.begin()
        let failures = policy.findAudiences(audiences, record.span, index, surroundings, &evaluator)
        if failures > 0 { meters.evaluationErrors.add(UInt64(failures)) }
        return record
    }

    /// Fills the index from a person's record; clears it for one that cannot be read.
    private mutating func read(_ record: [UInt8]) -> Bool {
        let plan = policy.attributes
        if !record.isEmpty {
            do throws(RecordDamage) {
                let view = try ProfileView(record.span)
                index.fill(view, plan)
                surroundings.profileAge = max(0, surroundings.now - view.lastSeen)
                return true
            } catch {
                meters.badRecords.add()
            }
        }
        index.clear(plan)
        return false
    }

    mutating func endLooking() {
        evaluator.end()
        endScores()
        surroundings.event = nil
        surroundings.consent = []
        surroundings.profileAge = nil
    }

    /// Forgets what scores came to: they are another's next, or another moment's.
    mutating func endScores() {
        let failures = surroundings.scores?.finish() ?? 0
        if failures > 0 { meters.evaluationErrors.add(UInt64(failures)) }
    }

    /// Whether a condition of the policy's program holds, between `beginLooking` and `endLooking`.
    mutating func holds(_ condition: Int, _ record: [UInt8]) -> Bool {
        let policy = self.policy
        var failures = 0
        let isTrue = evaluator.isTrue(
            policy.program, condition,
            DecisionBindings(
                record: record.span, index: index, plan: policy.attributes, slots: policy.slots, surroundings: surroundings),
            failures: &failures)
        if failures > 0 { meters.evaluationErrors.add(UInt64(failures)) }
        return isTrue
    }
}
