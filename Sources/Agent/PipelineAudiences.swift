// Audiences that announce who joins and leaves them: after each event of a person, and at the moment at which time alone
// changes it. What an announced audience is a condition of is not looked into. It is evaluated for moments to come, with the
// profile as it is: first for one a second away, then two, four, …; where the first of these differs from now, the second
// at which it changes is found by halving. That finds what changes once, as a badge that ends or thirty quiet minutes do; who
// would join and leave again between two such moments stays where they are.

import Activation
import CEL
import Formats
import Governance
import Store
import Unification

/// What is known of the announced audiences of a person: the record of a timer, and behind its head (when they may change
/// next) the tags of those that they are in.
private struct Standing {
    var due: Int64 = 0
    var tags: [UInt32] = []

    init() {}

    init(_ record: [UInt8]) {
        let bytes = record.span
        guard bytes.count >= Timers.headBytes else { return }
        due = Int64(bitPattern: UInt64(littleEndianAt: 0, of: bytes))
        for place in 0..<(bytes.count - Timers.headBytes) / 4 {
            tags.append(UInt32(littleEndianAt: Timers.headBytes + 4 * place, of: bytes))
        }
    }

    var record: [UInt8] {
        var bytes: [UInt8] = []
        LogEntry.append(UInt64(bitPattern: due), to: &bytes)
        for tag in tags { LogEntry.append(tag, to: &bytes) }
        return bytes
    }
}

extension Pipeline {
    /// Holds the audiences that a person is in against those that they were last known to be in, announces the difference,
    /// and finds out when to look again. What nobody grants is neither looked at nor announced.
    mutating func announce(
        _ whom: Addressee, _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let policy = self.policy
        let audiences = policy.decisions.audiences
        let key = TimerKey(whom.anchor, TimerKey.audiences)
        let own = Standing(try Timers.record(key, transaction))
        let before = try takeStanding(of: whom, own, &transaction)
        let granted = grantedAudiences(of: whom, at: now)
        surroundings.now = now
        surroundings.eventTimestamp = nil
        let record = try beginLooking(
            at: whom, nil, policy.decisions.closure(granted), true, transaction)
        let lastSeen = now - (surroundings.profileAge ?? 0)
        let present = audiencesFound & granted
        var next = Standing()
        if granted != 0, policy.announcesByTime { next.due = nextChange(from: present, granted, record, lastSeen, now) }
        endLooking()
        for number in audiences.indices where present & 1 << UInt64(number) != 0 { next.tags.append(audiences[number].tag) }
        // A look that comes too early does no harm; moving it with each event would cost more.
        if own.due > now, next.due == 0 || own.due < next.due { next.due = own.due }
        try remember(next, own, key, &transaction)
        for number in audiences.indices where granted & 1 << UInt64(number) != 0 {
            let isIn = present & 1 << UInt64(number) != 0
            if isIn == before.contains(audiences[number].tag) { continue }
            try announce(audiences[number], isIn, whom, now, &transaction)
        }
    }

    /// What the person was last known to be in, under any of their identifiers; from now on it is kept under one.
    private func takeStanding(
        of whom: Addressee, _ own: Standing, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> [UInt32] {
        var tags = own.tags
        for identifier in whom.identifiers.dropFirst() {
            let key = TimerKey(IdentifierKey(identifier), TimerKey.audiences)
            let record = try Timers.record(key, transaction)
            if record.isEmpty { continue }
            tags.append(contentsOf: Standing(record).tags)
            try Timers.remove(key, in: &transaction)
        }
        return tags
    }

    private mutating func remember(
        _ next: Standing, _ own: Standing, _ key: TimerKey, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        if next.due == own.due, next.tags == own.tags { return }
        if next.due == 0, next.tags.isEmpty { return try Timers.remove(key, in: &transaction) }
        try setTimer(key, next.record, due: next.due, &transaction)
    }

    private func grantedAudiences(of whom: Addressee, at now: Int64) -> UInt64 {
        let consent = whom.consent
        let audiences = policy.decisions.audiences
        var granted: UInt64 = 0
        for number in audiences.indices {
            guard let purpose = audiences[number].purpose else { continue }
            let tag = policy.purposes.tags[purpose]
            if ConsentRecord.isGranted(consent.span, tag: tag, at: now) { granted |= 1 << UInt64(number) }
        }
        return granted
    }

    /// The audiences that were found last, a bit each.
    private var audiencesFound: UInt64 {
        var found: UInt64 = 0
        for number in policy.decisions.audiences.indices where surroundings.audiences[number] { found |= 1 << UInt64(number) }
        return found
    }

    // MARK: Moments to come

    /// When audiences change through time alone, in whole seconds; where they do not as far as that can be seen, the last
    /// moment that was looked at.
    private mutating func nextChange(
        from present: UInt64, _ granted: UInt64, _ record: [UInt8], _ lastSeen: Int64, _ now: Int64
    ) -> Int64 {
        let start = now / 1000
        let horizon = max(Limits.audienceHorizonSeconds, policy.attributes.longestSpan / 1000 + 1)
        var low: Int64 = 0
        var high: Int64 = 1
        while audiences(at: (start + high) * 1000, granted, record, lastSeen) == present {
            if high == horizon { return (start + horizon) * 1000 }
            low = high
            high = min(2 * high, horizon)
        }
        while high - low > 1 {
            let middle = (low + high) / 2
            if audiences(at: (start + middle) * 1000, granted, record, lastSeen) == present { low = middle } else { high = middle }
        }
        return (start + high) * 1000
    }

    /// Those of the granted audiences that a person will be in at a time, if nothing happens until then.
    private mutating func audiences(
        at time: Int64, _ granted: UInt64, _ record: [UInt8], _ lastSeen: Int64
    ) -> UInt64 {
        let policy = self.policy
        surroundings.now = time
        surroundings.bundleAge = policy.age(at: time)
        if !record.isEmpty { surroundings.profileAge = max(0, time - lastSeen) }
        endScores()
        evaluator.begin()
        _ = policy.findAudiences(policy.decisions.closure(granted), record.span, index, surroundings, &evaluator)
        return audiencesFound & granted
    }

    private mutating func announce(
        _ audience: Audience, _ isIn: Bool, _ whom: Addressee, _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        guard let purpose = audience.purpose else { return }
        let tag = policy.purposes.tags[purpose]
        var body = JSONWriter(reserving: 160)
        Pipeline.beginEvent(isIn ? "Audience Entered" : "Audience Exited", &body)
        body.key("audience")
        body.string(audience.name)
        body.endObject()
        Pipeline.appendTime(now, to: &body.bytes)
        let header = LogEntryHeader(
            tier: .batch, priority: 5, receivedAt: now, purposeTag: tag, bundleVersion: policy.version,
            profile: whom.person, isGenerated: true)
        try generate(header, whom.identifiers, messageID: newMessageID(), body.bytes, &transaction)
        if policy.triggers.triggers.isEmpty { return }
        var event = JSONDocument()
        Pipeline.parse(body.bytes, into: &event)
        // It may start a trigger, and what that sends starts nothing.
        try startTriggers(
            Cause(event, whom.identifiers, purposeTag: tag, at: now, now: now), whom, &transaction)
    }
}
