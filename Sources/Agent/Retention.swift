// Keeping things no longer than the bundle says. What delivery and rules no longer see is also taken away: the sweep goes
// through profiles, their parts, log and quarantine in small steps, each part of a transaction of the writer's, rests, and
// begins again. Beside that it holds each row of the store against its checksum once a day: what a disk has changed is else
// found by whoever reads it, and under a key that has changed by nobody. Time comes in from outside.

import Collection
import Formats
import Governance
import Monitoring
import Platform
import Serving
import Store
import Unification

extension Plans {
    /// Whether an event was kept for as long as its kind or its purpose allows, counted from when this device took it.
    /// - Parameters:
    ///   - document: overwritten.
    ///   - isAside: the entry is one of quarantine, which holds the event and what is wrong with it.
    func isOver(
        _ entry: borrowing LogEntryView, _ document: inout JSONDocument, isAside: Bool = false, now: Int64
    ) -> Bool {
        let header = entry.header
        let (age, overflowed) = now.subtractingReportingOverflow(header.receivedAt)
        let shortest = shortestEventTime
        if shortest == 0 || overflowed || age <= shortest || header.isErasureNotice { return false }
        let ofPurpose = policy.purposes.timeToLive(ofTag: header.purposeTag)
        if ofPurpose > 0, age > ofPurpose { return true }
        let ofEvents = tracking.keeping.shortestTimeToLive
        if !header.isDirected, ofEvents == 0 || age <= ofEvents { return false }
        do throws(JSONError) { try document.parse(entry.body) } catch { return false }
        var event = document.root
        if header.isDirected {
            // What it is about may have been for another purpose, and of another kind.
            guard let context = document.member(event, "context"), let cause = document.member(context, "trigger") else {
                return false
            }
            event = cause
            let purpose = document.member(cause, "purpose").map { NameTag.of(document.bytes($0)) } ?? 0
            let ofCause = policy.purposes.timeToLive(ofTag: purpose)
            if ofCause > 0, age > ofCause { return true }
        }
        if isAside {
            guard let inner = document.member(event, "event") else { return false }
            event = inner
        }
        guard let ofKind = tracking.rule(ofKept: event, document)?.timeToLive else { return false }
        return ofKind > 0 && age > ofKind
    }
}

/// How much was purged.
struct Purged: Equatable {
    var profiles: UInt64 = 0
    var attributes: UInt64 = 0
    var events: UInt64 = 0
    var quarantined: UInt64 = 0

    static func += (sum: inout Purged, more: Purged) {
        sum.profiles += more.profiles
        sum.attributes += more.attributes
        sum.events += more.events
        sum.quarantined += more.quarantined
    }
}

/// Where the sweep is. A copy taken before a transaction brings it back when that did not happen.
struct Retention {
    enum Stage: UInt8 {
        case resting, profiles, people, parts, log, quarantine, ending
    }

    fileprivate(set) var stage = Stage.resting
    /// Those that the pass goes by.
    fileprivate var plans: Plans?
    fileprivate var hasEnds = false
    /// The key to go on from.
    fileprivate var next: [UInt8] = []
    /// When the next step may be taken, and when the pass began; nanoseconds of the monotonic clock.
    fileprivate var dueAt = Int64.min
    fileprivate var beganAt: Int64 = 0
    /// In this pass, and of it in the last step, which shows in the meters once it is committed.
    fileprivate var total = Purged()
    fileprivate var last = Purged()

    /// Goes on to a stage.
    fileprivate mutating func move(to stage: Stage) {
        self.stage = stage
        next = []
    }

    /// Puts other plans in force: what they say is done from the beginning, at once.
    fileprivate mutating func use(_ next: Plans) {
        plans = next
        hasEnds = next.shortestEventTime > 0 || next.policy.attributes.hasEnds
        beginAnew()
    }

    /// Ends the rest, or begins the pass again.
    mutating func beginAnew() {
        dueAt = .min
        if stage != .resting { move(to: .profiles) }
    }
}

/// Where the look at all rows is. It changes nothing, and goes on where it was when a transaction did not happen.
struct RowsLook {
    fileprivate var place = RowCheck()
    /// When the next step may be taken, nanoseconds of the monotonic clock.
    fileprivate var dueAt = Int64.min
}

extension Pipeline {
    /// Whether a step of the sweep may be taken, or other plans are in force than it goes by.
    /// - Parameter monotonic: nanoseconds.
    func isSweepDue(_ plans: Plans, _ monotonic: Int64) -> Bool {
        retention.plans !== plans || isPassDue(monotonic) || monotonic >= rows.dueAt
    }

    private func isPassDue(_ monotonic: Int64) -> Bool {
        monotonic >= retention.dueAt && (retention.stage != .resting || retention.hasEnds)
    }

    /// How long the idle writer waits, milliseconds: no longer than until the next timer is due.
    func idleMilliseconds(at now: Int64) -> Int64 {
        let isResting = retention.stage == .resting && rows.place.isAtStart && !isRecomputing && !rotation.isUnderWay
        let pause = isResting ? Limits.writerIdleMilliseconds : Limits.sweepPauseMilliseconds
        if isTimerHeld || nextTimer == .max { return pause }
        return max(0, min(pause, nextTimer - now))
    }

    /// One step of the sweep, if it is time for one.
    /// - Parameters:
    ///   - plans: those in force, which are not always those of the event that came last.
    ///   - now: milliseconds since the epoch, what everything's age is measured by.
    ///   - monotonic: nanoseconds, what the steps are paced by.
    mutating func sweep(
        _ plans: Plans, now: Int64, monotonic: Int64, _ room: DiskRoom, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        if retention.plans !== plans { retention.use(plans) }
        if monotonic >= rows.dueAt { try checkRows(monotonic, &transaction) }
        guard isPassDue(monotonic) else { return }
        publish()
        retention.dueAt = monotonic + Limits.sweepPauseMilliseconds * 1_000_000
        switch retention.stage {
        case .resting:
            retention.beganAt = monotonic
            retention.total = Purged()
            retention.move(to: .profiles)
        case .profiles: try sweepProfiles(plans, now, room.changes(atMost: Limits.purgedPerStep), &transaction)
        case .people: try sweepPeople(plans, now, room.changes(atMost: Limits.purgedPerStep), &transaction)
        case .parts where isHub: retention.move(to: .log)
        case .parts: try sweepParts(plans, now, room.changes(atMost: Limits.purgedPerStep), &transaction)
        case .log, .quarantine: try sweepEvents(plans, now, room.changes(atMost: Limits.sweptPerStep), &transaction)
        case .ending:
            try People.forgetVisits(now: now, in: &transaction)
            try noteSweep(now, &transaction)
            retention.move(to: .resting)
            // The pauses between its steps are rest as well.
            let steps = (monotonic - retention.beganAt) / (Limits.sweepPauseMilliseconds * 1_000_000)
            retention.dueAt = monotonic + rest(plans, after: steps * Limits.sweepStepNanoseconds)
        }
    }

    /// What an earlier step did, whose transaction has happened.
    private mutating func publish() {
        let done = retention.last
        if done == Purged() { return }
        meters.purgedProfiles.add(done.profiles)
        meters.purgedAttributes.add(done.attributes)
        meters.purgedEvents.add(done.events)
        meters.purgedQuarantined.add(done.quarantined)
        retention.last = Purged()
    }

    private mutating func count(_ done: Purged) {
        retention.last += done
        retention.total += done
    }

    /// Nanoseconds until the next pass: what ends is gone a sixty-fourth of the shortest time later, at the latest after an
    /// hour; but looking takes no more than a twentieth of the time.
    private func rest(_ plans: Plans, after duration: Int64) -> Int64 {
        let shortest = Plans.shorter(plans.shortestEventTime, plans.policy.attributes.shortestTimeToLive)
        let usual = shortest == 0 ? Limits.sweepRestMilliseconds : min(Limits.sweepRestMilliseconds, shortest / 64)
        return max(max(usual, 1000) * 1_000_000, duration * 20)
    }

    /// A line of the audit log says what a pass has taken away.
    private mutating func noteSweep(_ now: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        let total = retention.total
        if total == Purged() { return }
        try audit.append(
            .retention, actor: Array("device".utf8), subject: nil, at: now, in: &transaction
        ) { line in
            line.key("profiles")
            line.uint(total.profiles)
            line.key("attributes")
            line.uint(total.attributes)
            line.key("events")
            line.uint(total.events)
            line.key("quarantined")
            line.uint(total.quarantined)
        }
    }

    // MARK: Profiles

    private mutating func sweepProfiles(
        _ plans: Plans, _ now: Int64, _ most: Int, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let profiles = transaction.tables.profiles
        let attributes = plans.policy.attributes
        let purposes = plans.policy.purposes
        let shortest = purposes.shortestTimeToLive
        let start = retention.next
        var found: [ProfileID] = []
        var rest: [UInt8] = []
        var looked = 0
        var bytes = 0
        var record: [UInt8] = []
        try transaction.scan(profiles, from: start.span) { key, value in
            if looked == Limits.sweptPerStep || found.count == most || bytes > Limits.purgedBytesPerStep {
                rest = [UInt8](copying: key)
                return false
            }
            looked += 1
            do throws(RecordDamage) {
                let view = try ProfileView(value)
                let ended = ProfileSweep.rewrite(view, attributes, now: now, into: &record)
                let isUnseen = shortest > 0 && Pipeline.isPast(view.lastSeen, shortest, now)
                if ended > 0 || isUnseen, let person = ProfileID(key) {
                    found.append(person)
                    bytes += value.count
                }
            } catch {
                // Whoever reads it next finds out and counts it.
            }
            return true
        }
        var done = Purged()
        for person in found {
            let (ended, lastSeen) = try sweptRecord(of: person, attributes, now, transaction, into: &record)
            if try forget(person, purposes, lastSeen: lastSeen, now, &transaction) {
                done.profiles += 1
            } else if ended > 0 {
                let key = person.bytes
                try transaction.put(profiles, key.span, record.span)
                done.attributes += UInt64(ended)
            }
        }
        count(done)
        retention.next = rest
        if rest.isEmpty { retention.move(to: .people) }
    }

    /// People without a profile, which was evicted or never was: they go when their time is up since the newest of their
    /// identifiers came to them.
    private mutating func sweepPeople(
        _ plans: Plans, _ now: Int64, _ most: Int, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let purposes = plans.policy.purposes
        let start = retention.next
        var found: [ProfileID] = []
        var rest: [UInt8] = []
        var looked = 0
        if purposes.shortestTimeToLive > 0 {
            try transaction.scan(transaction.tables.consent, from: start.span) { key, _ in
                if looked == Limits.sweptPerStep || found.count == most {
                    rest = [UInt8](copying: key)
                    return false
                }
                looked += 1
                if let person = ProfileID(key), !transaction.has(transaction.tables.profiles, person) { found.append(person) }
                return true
            }
        }
        var done = Purged()
        for person in found {
            // Of one who has gone, only the consent is left.
            let since = try IdentityGraph.newestLink(of: person, in: transaction)
            let record = try consentRecord(of: person, transaction)
            if since == 0 || ConsentRecord.holdsRefusal(record.span) { continue }
            if try forget(person, purposes, lastSeen: since, now, &transaction) { done.profiles += 1 }
        }
        count(done)
        retention.next = rest
        if rest.isEmpty { retention.move(to: .parts) }
    }

    /// What has ended in a profile has ended in its parts. It is counted with the profile.
    private mutating func sweepParts(
        _ plans: Plans, _ now: Int64, _ most: Int, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let attributes = plans.policy.attributes
        let start = retention.next
        var changed: [(key: [UInt8], record: [UInt8])] = []
        var rest: [UInt8] = []
        var looked = 0
        var bytes = 0
        try transaction.scan(transaction.tables.parts, from: start.span) { key, value in
            if looked == Limits.sweptPerStep || changed.count == most || bytes > Limits.purgedBytesPerStep {
                rest = [UInt8](copying: key)
                return false
            }
            looked += 1
            var record: [UInt8] = []
            do throws(RecordDamage) {
                let view = try ProfileView(value)
                if ProfileSweep.rewrite(view, attributes, now: now, into: &record) > 0 {
                    changed.append(([UInt8](copying: key), record))
                    bytes += value.count
                }
            } catch {
                // Whoever puts the profile together next finds out.
            }
            return true
        }
        for part in changed { try transaction.put(transaction.tables.parts, part.key.span, part.record.span) }
        retention.next = rest
        if rest.isEmpty { retention.move(to: plans.shortestEventTime > 0 ? .log : .ending) }
    }

    /// How many attributes of a person have ended, and when they were last seen.
    /// - Parameter record: overwritten by the person's record without what has ended.
    private func sweptRecord(
        of person: ProfileID, _ attributes: AttributePlan, _ now: Int64, _ transaction: borrowing WriteTransaction,
        into record: inout [UInt8]
    ) throws(StoreError) -> (ended: Int, lastSeen: Int64) {
        let key = person.bytes
        guard let value = try transaction.get(transaction.tables.profiles, key.span) else { return (0, .max) }
        do throws(RecordDamage) {
            let view = try ProfileView(value)
            return (ProfileSweep.rewrite(view, attributes, now: now, into: &record), view.lastSeen)
        } catch {
            return (0, .max)
        }
    }

    private static func isPast(_ time: Int64, _ span: Int64, _ now: Int64) -> Bool {
        let (end, overflowed) = time.addingReportingOverflow(span)
        return !overflowed && end < now
    }

    /// Takes away the profile of a person who was not seen for the time of what they grant, and the identifiers by which
    /// they are known. The consent record stays, and of somebody who has refused something the identifiers as well: else
    /// the refusal could not be found when they come again.
    /// - Returns: false for one whose time is not up.
    private mutating func forget(
        _ person: ProfileID, _ purposes: PurposePlan, lastSeen: Int64, _ now: Int64,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        if purposes.shortestTimeToLive == 0 { return false }
        let record = try consentRecord(of: person, transaction)
        let granted = ConsentRecord.granted(record.span, purposes, at: now)
        let span = purposes.timeToLive(ofPersonGranting: granted)
        if span == 0 || !Pipeline.isPast(lastSeen, span, now) { return false }
        // An event that is handed in late was not seen when it says that it happened.
        let linkedAt = try IdentityGraph.newestLink(of: person, in: transaction)
        if !Pipeline.isPast(linkedAt, span, now) { return false }
        let identifiers = try IdentityGraph.identifiers(of: person, in: transaction)
        if ConsentRecord.holdsRefusal(record.span) {
            try IdentityGraph.removeParts(of: identifiers, in: &transaction)
            for identifier in identifiers { try Timers.removeAll(of: IdentifierKey(identifier), in: &transaction) }
        } else {
            try IdentityGraph.remove(person, identifiers, in: &transaction)
        }
        let key = person.bytes
        try transaction.delete(transaction.tables.profiles, key.span)
        try transaction.delete(transaction.tables.damaged, key.span)
        return true
    }

    // MARK: Events

    private mutating func sweepEvents(
        _ plans: Plans, _ now: Int64, _ most: Int, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let isAside = retention.stage == .quarantine
        let table = isAside ? transaction.tables.quarantine : transaction.tables.log
        let start = retention.next
        var over: [UInt64] = []
        var rest: [UInt8] = []
        var looked = 0
        var document = JSONDocument()
        try transaction.scan(table, from: start.span) { key, value in
            if looked == Limits.sweptPerStep || over.count == most {
                rest = [UInt8](copying: key)
                return false
            }
            looked += 1
            if let entry = LogEntryView(value), let number = NumberKey.decode(key),
                plans.isOver(entry, &document, isAside: isAside, now: now)
            {
                over.append(number)
            }
            return true
        }
        let removal = LogRemoval.expired.bytes
        for number in over {
            let key = NumberKey(number)
            // The log keeps the number and the reason until every destination has passed it, for its accounts.
            if isAside {
                try transaction.delete(table, key.bytes.span)
            } else {
                try transaction.put(table, key.bytes.span, removal.span)
            }
        }
        count(isAside ? Purged(quarantined: UInt64(over.count)) : Purged(events: UInt64(over.count)))
        retention.next = rest
        if rest.isEmpty { retention.move(to: isAside ? .ending : .quarantine) }
    }

    // MARK: Rows

    /// Holds some rows of the store against their checksums.
    private mutating func checkRows(_ monotonic: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        // What it throws ends the agent; where that cannot be, it is not thrown all the time.
        rows.dueAt = monotonic + Limits.rowsRestNanoseconds
        let damaged = try transaction.check(&rows.place, bytes: Limits.checkedBytesPerStep)
        if damaged > 0 {
            meters.badRecords.add(damaged)
            Log.error("rows of the store are damaged; restore a backup, or what they say is lost") {
                $0.field("rows", Int64(clamping: damaged))
            }
        }
        if !rows.place.isAtStart {
            rows.dueAt = monotonic + Limits.sweepPauseMilliseconds * 1_000_000
            return
        }
        meters.storeCheckedAt.set(monotonic)
        // All of them were looked at, and most are of no use for long.
        transaction.releasePages()
    }
}
