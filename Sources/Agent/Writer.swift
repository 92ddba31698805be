// The one thread that writes. It takes what has queued up, puts each event through the pipeline, commits once, and then
// answers all of them (group commit): the more there is to do, the less each costs.

import Activation
import Collection
import Delivery
import Formats
import Governance
import Monitoring
import Platform
import Serving
import Store
import Synchronization
import Unification

/// What a delivery thread wants of a destination's accounts.
struct CursorChange {
    var cursor: UInt64 = 0
    var delivered: UInt64 = 0
    var filtered: UInt64 = 0
    var expired: UInt64 = 0
    var evicted: UInt64 = 0
    var erased: UInt64 = 0
    var rejected: UInt64 = 0
    var lane = Lane.batch
    /// What has gone over the wire since the last change, on that day; see `DestinationLedger.day`.
    var day: UInt64 = 0
    var spentBytes: UInt64 = 0
}

/// A change and whoever waits for its commit.
final class CursorRequest: @unchecked Sendable {
    // Written by the delivery thread before it is handed over, `isDone` under the box's lock.
    let destination: [UInt8]
    let change: CursorChange
    fileprivate var isDone = false
    fileprivate var hasFailed = false

    init(destination: [UInt8], change: CursorChange) {
        self.destination = destination
        self.change = change
    }
}

/// Where delivery threads leave their cursors for the writer and wait for the commit.
final class CursorBox: @unchecked Sendable {
    private let lock = Lock()
    // Under `lock`.
    private var waiting: [CursorRequest] = []
    private var isClosed = false

    /// Hands a change over for the next commit, whenever that comes; `finish` waits for it.
    /// - Parameter last: the change of the same destination that this one goes on from. Where it could not be committed, this
    ///   one is not either.
    func begin(_ request: CursorRequest, after last: CursorRequest?) {
        lock.with {
            if isClosed || last?.hasFailed ?? false {
                (request.isDone, request.hasFailed) = (true, true)
            } else {
                waiting.append(request)
            }
        }
    }

    /// Waits until the change is committed.
    /// - Returns: false when it could not be; the events will be sent again, which is allowed.
    func finish(_ request: CursorRequest) -> Bool {
        lock.lock()
        while !request.isDone { lock.wait(milliseconds: 1000) }
        lock.unlock()
        return !request.hasFailed
    }

    /// What went over the wire for those that could not be committed.
    func failedBytes(_ requests: [CursorRequest]) -> UInt64 {
        lock.with {
            var sum: UInt64 = 0
            for request in requests where request.hasFailed { sum += request.change.spentBytes }
            return sum
        }
    }

    fileprivate func take() -> [CursorRequest] {
        lock.with {
            let taken = waiting
            waiting = []
            return taken
        }
    }

    fileprivate func finish(_ requests: [CursorRequest], hasFailed: Bool) {
        if requests.isEmpty { return }
        lock.with {
            for request in requests {
                request.isDone = true
                request.hasFailed = hasFailed
            }
            if hasFailed { failWaiting() }
            lock.broadcast()
        }
    }

    /// Nobody will commit any more: whoever waits is let go.
    func close() {
        lock.with {
            isClosed = true
            failWaiting()
            lock.broadcast()
        }
    }

    /// Under `lock`. They may go on from a change that failed.
    private func failWaiting() {
        for request in waiting {
            request.isDone = true
            request.hasFailed = true
        }
        waiting = []
    }
}

/// Asks a thread to end.
final class StopFlag: @unchecked Sendable {
    private let flag = Atomic<Bool>(false)
    var isSet: Bool { flag.load(ordering: .acquiring) }
    func set() { flag.store(true, ordering: .releasing) }
}

/// Tells delivery threads that there is something new in the log.
final class LogSignal: @unchecked Sendable {
    private let lock = Lock()
    // Under `lock`.
    private var next: UInt64
    private var urgent: UInt64
    private var flushed: UInt64 = 0

    init(next: UInt64, urgent: UInt64 = 0) {
        self.next = next
        self.urgent = urgent
    }

    /// Number of the next event: everything below is committed.
    var nextSequence: UInt64 { lock.with { next } }

    /// Number of the newest event of tier `realtime`; 0 for none.
    var newestUrgent: UInt64 { lock.with { urgent } }

    /// - Parameter urgent: number of the newest event of tier `realtime`; 0 for none.
    func advance(to sequence: UInt64, urgent newest: UInt64) {
        lock.with {
            guard sequence != next else { return }
            next = sequence
            urgent = max(urgent, newest)
            lock.broadcast()
        }
    }

    /// Up to this number events are to go at once, whatever hours and delay their destinations have.
    var flushedTo: UInt64 { lock.with { flushed } }

    /// Has all go that there is.
    /// - Returns: the number up to which.
    func flush() -> UInt64 {
        lock.with {
            flushed = next
            lock.broadcast()
            return flushed
        }
    }

    /// Wakes everybody, to look at their stop flags.
    func wake() { lock.with { lock.broadcast() } }

    /// Rests until the log reaches `sequence` (nil: events do not wake), an urgent event comes, all is to go, `stop` is set, or the
    /// time is up. May return early.
    /// - Parameter seen: up to where all was to go when that was last looked at.
    func wait(
        until sequence: UInt64?, urgentFrom cursor: UInt64, flushedTo seen: UInt64, milliseconds: Int64, _ stop: StopFlag
    ) {
        let end = SystemClock().monotonicNanoseconds() + milliseconds * 1_000_000
        lock.lock()
        defer { lock.unlock() }
        while !stop.isSet {
            if let sequence, next >= sequence || urgent >= cursor && urgent > 0 || flushed != seen { return }
            let left = (end - SystemClock().monotonicNanoseconds()) / 1_000_000
            if left <= 0 { return }
            lock.wait(milliseconds: left)
        }
    }
}

/// The writer's loop and its state.
final class Writer<Time: Clock, Random: RandomSource> {
    private let database: Database
    private let intake: Intake
    private let completions: Completions
    private let cursors: CursorBox
    private let signal: LogSignal
    private let bundles: BundleHolder
    private let records: DecisionBox
    private let meters: Meters
    private let health: Health
    private let clock: Time
    private let isHub: Bool
    /// Whether this device tells a hub of whom it has erased.
    private let hasHub: Bool
    /// Of a hub: the fingerprint of the fleet whose devices it brings together.
    private let fleet: [UInt8]?
    /// What the log may take of events that every destination has; nil: nobody has said.
    private let historyBytes: Int64?
    private let snapshots: SnapshotKeeper
    private var pipeline: Pipeline<Random>
    /// Those in force.
    private var plans: Plans
    private var bundleGeneration: UInt64 = 0
    private var destinations: [[UInt8]] = []
    /// Refusals of the events of the submission under way.
    private var refusals = JSONWriter(reserving: 1024)
    private var hasRefusals = false
    private var refusalCount = 0
    private var eventCount = 0
    /// How many events that were refused when the request was read have been taken note of.
    private var refusedAtDoor = 0
    private var firstRefusal: EventRefusal?
    private var needsTrim = true
    /// The accounts as they are on the disk; nil: not known to be what the pipeline began with.
    private var committed: Ledger?
    /// What the transaction under way may take.
    private var room = DiskRoom.none
    /// The file that has the former pepper, while a rotation lasts.
    private var formerPepper: String?
    /// The time as destinations confirm it, and what the store has of it.
    private let floor: ClockFloor
    private var keptTime: Int64 = 0
    /// Decides for those who send an event and wait for its commit.
    private var decider: Decider
    /// Erasures that are not done, oldest first.
    private var erasures: [Erasure] = []
    /// What the turn under way has taken from the intake.
    private var taken: [Submission] = []
    /// When a large commit was last made, nanoseconds of the monotonic clock; nil: what memory that took was given back since.
    private var busyAt: Int64?

    init(
        database: Database, intake: Intake, completions: Completions, cursors: CursorBox, signal: LogSignal,
        bundles: BundleHolder, records: DecisionBox, meters: Meters, health: Health, clock: Time, isHub: Bool,
        hasHub: Bool, fleet: [UInt8]?, historyBytes: Int64?, snapshots: SnapshotKeeper, pipeline: consuming Pipeline<Random>,
        decider: consuming Decider, floor: ClockFloor, formerPepper: String? = nil
    ) {
        self.floor = floor
        self.formerPepper = formerPepper
        self.database = database
        self.intake = intake
        self.completions = completions
        self.cursors = cursors
        self.signal = signal
        self.bundles = bundles
        self.records = records
        self.meters = meters
        self.health = health
        self.clock = clock
        self.isHub = isHub
        self.hasHub = hasHub
        self.fleet = fleet
        self.historyBytes = historyBytes
        self.snapshots = snapshots
        plans = bundles.current.plans
        self.pipeline = pipeline
        self.decider = decider
    }

    /// Writes until the intake is closed and empty.
    func run() {
        resume()
        while turn() {}
        // What was decided last.
        records.take(into: &decided)
        for _ in 0..<Limits.lastRecordCommits where !decided.isEmpty { write([], []) }
        cursors.close()
        keepObserved()
    }

    /// Waits for work, and does it.
    /// - Returns: false when the intake is closed and empty.
    func turn() -> Bool {
        let wait = isBusy ? 0 : pipeline.idleMilliseconds(at: clock.wallMilliseconds())
        guard intake.take(into: &taken, waitMilliseconds: wait) else { return false }
        health.writerSeen.set(clock.monotonicNanoseconds())
        rest()
        adoptBundle()
        let requests = cursors.take()
        // What there is no time for stays where it is bounded.
        if decided.isEmpty { records.take(into: &decided) }
        let isIdle = taken.isEmpty && requests.isEmpty && decided.isEmpty && !isBusy && !isSomebodyLate
        if isIdle && !isSweepDue && !isRecomputationDue && !isTimerDue {
            Process.trimMemory()
            return true
        }
        write(taken, requests)
        return true
    }

    /// Gives back the memory that a busy time has left, when it is over.
    private func rest() {
        guard let at = busyAt, clock.monotonicNanoseconds() - at >= Limits.restMilliseconds * 1_000_000 else { return }
        busyAt = nil
        database.rest()
        Process.trimMemory()
    }

    /// Keeps what the last commits did not, so that the next run goes on from there.
    private func keepObserved() {
        do throws(StoreError) {
            var transaction = try database.beginWrite()
            try pipeline.keepObserved(at: clock.wallMilliseconds(), isLast: true, &transaction)
            try pipeline.ledger.write(to: &transaction)
            try transaction.commit()
        } catch {
            Log.warning("what was observed of events is lost", because: error.message)
        }
    }

    /// Whether something is left to do that nobody asks for.
    private var isBusy: Bool {
        needsTrim || !decided.isEmpty || pipeline.isCrowded || hasNews || erasures.contains { $0.state == .erasing }
    }

    /// Whether the accounts have changed since the last commit.
    private var hasNews: Bool { committed.map { $0 != pipeline.ledger } ?? false }

    /// Whether what has been kept for long enough is to be looked for.
    private var isSweepDue: Bool {
        let monotonic = clock.monotonicNanoseconds()
        return pipeline.isSweepDue(plans, monotonic)
            || pipeline.rotation.isDue(now: clock.wallMilliseconds(), monotonic: monotonic)
    }

    /// Whether events of the log are to be counted once more.
    private var isRecomputationDue: Bool { pipeline.isRecomputationDue(clock.monotonicNanoseconds()) }
    private var isTimerDue: Bool { pipeline.nextTimer <= clock.wallMilliseconds() }

    /// Whether an event has waited for a choice for as long as it may.
    private var isSomebodyLate: Bool { pipeline.waiting.nextEnd.map { $0 <= clock.wallMilliseconds() } ?? false }

    /// Takes up what an earlier run has left.
    func resume() {
        do throws(StoreError) {
            let transaction = try database.beginWrite()
            erasures = try Pipeline<Random>.unfinishedErasures(transaction)
        } catch {
            Log.error("unfinished erasures cannot be read", because: error.message)
        }
    }

    private func adoptBundle() {
        guard let next = bundles.changed(since: &bundleGeneration) else { return }
        plans = next.plans
        pipeline.adopt(plans)
        newBundle = next.policy.version
        destinations = []
        for entry in next.destinations where !entry.destination.isFallbackOnly { destinations.append(entry.destination.name) }
        needsTrim = true
    }

    // MARK: One group

    /// Where to go back to when a transaction does not happen.
    private struct Mark {
        var ledger: Ledger
        var stretches: LogStretches
        var newestUrgent: UInt64
        var recent: UInt64
        var waiting: WaitingRoom
        var audit: AuditLog
        var suppression: SuppressionList
        var retention: Retention
        var recomputation: Recomputation
        var nextTimer: Int64
        var rotation: Rotation
        var erasures: [Erasure]
    }

    private var mark: Mark {
        Mark(
            ledger: pipeline.ledger, stretches: pipeline.stretches, newestUrgent: pipeline.newestUrgent,
            recent: pipeline.recent.mark, waiting: pipeline.waiting, audit: pipeline.audit,
            suppression: pipeline.suppression, retention: pipeline.retention, recomputation: pipeline.recomputation,
            nextTimer: pipeline.nextTimer, rotation: pipeline.rotation, erasures: erasures)
    }

    private func goBack(to mark: Mark) {
        pipeline.trace?.settle(isCommitted: false)
        releaseServes()
        decider.records.removeAll(keepingCapacity: true)
        pipeline.ledger = mark.ledger
        pipeline.stretches = mark.stretches
        pipeline.newestUrgent = mark.newestUrgent
        pipeline.recent.restore(to: mark.recent)
        pipeline.waiting = mark.waiting
        pipeline.audit = mark.audit
        pipeline.suppression = mark.suppression
        pipeline.retention = mark.retention
        pipeline.recomputation = mark.recomputation
        pipeline.nextTimer = mark.nextTimer
        pipeline.rotation = mark.rotation
        erasures = mark.erasures
    }

    /// When the events that the transaction under way admits happened, milliseconds since the epoch.
    private var activated: [Int64] = []

    /// Writes a group in as many transactions as its size asks for; answers what each commit has made durable.
    private func write(_ batch: [Submission], _ requests: [CursorRequest]) {
        var position = 0
        var place = Place()
        var pending = requests
        var isFull = false
        /// Until when it is tried again where that was not enough, nanoseconds of the monotonic clock; 0: it was not yet so.
        var waitsUntil: Int64 = 0
        repeat {
            let mark = self.mark
            let first = position
            health.writerSeen.set(clock.monotonicNanoseconds())
            activated.removeAll(keepingCapacity: true)
            do throws(StoreError) {
                room = isFull ? .none : try DiskRoom(database)
                var transaction = try database.beginWrite()
                held.removeAll(keepingCapacity: true)
                heldHere.removeAll(keepingCapacity: true)
                heldBy = transaction.number
                for request in pending { try apply(request, &transaction) }
                try noteBundle(&transaction)
                pipeline.expireWaiting(at: clock.wallMilliseconds())
                // What the last transaction could not evict goes first, so that profiles do not grow in a storm of events.
                if !isFull { try evict(upTo: Limits.pagesPerCommit / 2, &transaction) }
                // Before the events that may follow from them: whether one is a conversion depends on what was shown before.
                let recordCount = try keepDecisions(&transaction)
                var budget = room.budget
                while position < batch.count, budget > 0, transaction.changedPages < Limits.pagesPerCommit {
                    let submission = batch[position]
                    if submission.isShed || !room.takesEvents && submission.work.waitsForRoom {
                        shed(submission)
                        place = Place()
                        position += 1
                        continue
                    }
                    if !place.isInside {
                        begin(submission)
                        place = firstPlace(submission)
                    }
                    try handle(submission, &place, &budget, &transaction)
                    if place.isAtEnd {
                        finish(submission)
                        place = Place()
                        position += 1
                    }
                }
                if waitsUntil == 0 { try goOn(position == batch.count, isFull: isFull, &transaction) }
                try pipeline.keepObserved(at: clock.wallMilliseconds(), &transaction)
                try pipeline.stretches.keep(in: &transaction)
                try floor.keep(&keptTime, &transaction)
                if pipeline.ledger != committed { try pipeline.ledger.write(to: &transaction) }
                let begin = clock.monotonicNanoseconds()
                if transaction.changedPages > Limits.restingPages { busyAt = begin }
                try transaction.commit()
                meters.commit.record(nanoseconds: clock.monotonicNanoseconds() - begin)
                meters.commits.add()
                if let trace = pipeline.trace, trace.isOn { trace.settle(isCommitted: true) }
                let now = clock.wallMilliseconds()
                for time in activated {
                    meters.activate.record(nanoseconds: min(now - time, Limits.activationMilliseconds) * 1_000_000)
                }
                pipeline.showRecomputation()
                // A small change may find room where events do not: only an event that was taken shows that there is some.
                if !isFailing || pipeline.ledger.admitted != mark.ledger.admitted { isWriting() }
                cursors.finish(pending, hasFailed: false)
                pending = []
                newBundle = nil
                decided.removeFirst(recordCount)
                committed = pipeline.ledger
                dropFormerPepper()
                signal.advance(to: pipeline.ledger.nextSequence, urgent: pipeline.newestUrgent)
                for index in first..<position { answer(batch[index]) }
                completions.wake()
            } catch {
                // Without events there may be room enough; and for what may not be refused, once others are done with reading.
                let now = clock.monotonicNanoseconds()
                if isFull, waitsUntil == 0 { waitsUntil = now + Limits.fullWaitNanoseconds }
                let mayWait = now < waitsUntil && batch[first...].contains { !$0.work.waitsForRoom }
                if error == .full, first < batch.count, !isFull || mayWait {
                    goBack(to: mark)
                    // What was answered well was not done.
                    for index in first..<batch.count where batch[index].status == 200 { batch[index].status = 0 }
                    if isFull {
                        snapshots.note(error)
                        database.forgetDeadReaders()
                        sleep(milliseconds: Limits.fullRetryMilliseconds)
                    }
                    isFull = true
                    place = Place()
                    position = first
                    continue
                }
                giveUp(error, batch, from: first, pending, mark)
                return
            }
        } while position < batch.count
    }

    /// The part of a transaction that nobody waits for: timers, erasures under way, and what makes room.
    private func goOn(_ isLast: Bool, isFull: Bool, _ transaction: inout WriteTransaction) throws(StoreError) {
        if isLast {
            try pipeline.takeTimers(
                plans, now: clock.wallMilliseconds(), atMost: room.budget, room.takesEvents, &transaction)
        }
        try eraseMore(&transaction)
        if !isFull { try evict(upTo: Limits.pagesPerCommit, &transaction) }
        try pipeline.sweep(
            plans, now: clock.wallMilliseconds(), monotonic: clock.monotonicNanoseconds(), room, &transaction)
        try recompute(&transaction)
        try pipeline.endRotation(
            erasures, now: clock.wallMilliseconds(), monotonic: clock.monotonicNanoseconds(), room, &transaction)
        try trim(&transaction)
    }

    private func evict(upTo pages: Int, _ transaction: inout WriteTransaction) throws(StoreError) {
        try pipeline.evict(
            atMost: room.changes(atMost: Limits.evictedPerCommit), upTo: pages, now: clock.wallMilliseconds(), &transaction)
    }

    /// A transaction that did not happen: nothing of it is there, everybody hears so and may come again.
    private func giveUp(
        _ error: StoreError, _ batch: [Submission], from first: Int, _ requests: [CursorRequest], _ mark: Mark
    ) {
        goBack(to: mark)
        health.storeNote.set(error.message)
        health.storeIs(error == .full ? .diskFull : .degraded)
        snapshots.note(error)
        if !isFailing {
            Log.error("nothing can be written; events are refused until it can", because: error.message)
        }
        isFailing = true
        failedAt = clock.monotonicNanoseconds()
        cursors.finish(requests, hasFailed: true)
        for index in first..<batch.count {
            refuse(batch[index])
            answer(batch[index])
        }
        completions.wake()
        needsTrim = true
        sleep(milliseconds: 50)
    }

    private func refuse(_ submission: Submission) {
        submission.fail(503, "not_stored", "the device cannot store events just now; send it again later")
    }

    /// Refuses events for which the disk has no room any more; what is left of it is for privacy work.
    private func shed(_ submission: Submission) {
        refuse(submission)
        if room.takesEvents {
            // Its answer has said so, for what was so then. Whoever comes next may try, in case nothing failed for a while.
            if clock.monotonicNanoseconds() - failedAt > Limits.retriedAfterNanoseconds { health.storeIs(.fresh) }
            return
        }
        failedAt = clock.monotonicNanoseconds()
        health.storeNote.set(StoreError.full.message)
        health.storeIs(.diskFull)
        if !isFailing {
            Log.error("the store is full; events are refused until there is room") {
                $0.field("reason", StoreError.full.message)
            }
        }
        isFailing = true
    }

    /// Whether the last group that held events could not be written.
    private var isFailing = false
    /// When that was last so, nanoseconds of the monotonic clock.
    private var failedAt: Int64 = 0

    private func isWriting() {
        health.storeIs(.fresh)
        if isFailing { Log.info("events are written again") }
        isFailing = false
    }

    /// Deletes the former pepper once nothing in the store is hashed under it.
    private func dropFormerPepper() {
        guard pipeline.rotation.isOver, let path = formerPepper else { return }
        formerPepper = nil
        snapshots.removeAll()
        Pepper.dropFormer(path)
    }

    // MARK: One submission

    private var envelope = Envelope(receivedAt: 0)

    private func begin(_ submission: Submission) {
        hasRefusals = false
        refusalCount = 0
        eventCount = 0
        refusedAtDoor = 0
        firstRefusal = nil
        refusals.clear()
        unreadableChanges = 0
        isErasureRefused = false
        hasNoRoom = false
        endedCommands = 0
        let wanted = submission.plans ?? plans
        if wanted !== pipeline.plans { pipeline.use(wanted) }
        envelope = Envelope(
            receivedAt: submission.receivedAt, source: submission.source,
            hasGlobalPrivacyControl: submission.hasGlobalPrivacyControl)
        clockAhead = clockAhead(of: submission)
    }

    /// How far the writer has come in a submission.
    private struct Place {
        var isInside = false
        /// Of events: the next one. Of what a fleet tells: the next byte of it; then come those who are to be erased.
        var index = 0
        var count = 0
        /// Of arrivals: the next message.
        var message: JSONNode?

        var isAtEnd: Bool { index == count && message == nil }
    }

    private func firstPlace(_ submission: Submission) -> Place {
        var place = Place(isInside: true)
        switch submission.work {
        case .events, .decide: place.count = submission.events.count
        case .arrivals: place.message = firstMessage(submission)
        case .sync, .learn: place.count = submission.question.count + submission.identifiers.count + 1
        default: place.count = 1
        }
        return place
    }

    private func firstMessage(_ submission: Submission) -> JSONNode? {
        if !submission.isBatch { return submission.refused.isEmpty ? submission.document.root : nil }
        return submission.batch(in: submission.document).flatMap { submission.document.firstChild($0) }
    }

    /// Processes what is in a submission until it or the budget ends.
    private func handle(
        _ submission: Submission, _ place: inout Place, _ budget: inout Int, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        noteRefusedAtDoor(submission)
        while !place.isAtEnd, budget > 0, transaction.changedPages < Limits.pagesPerCommit {
            budget -= 1
            try renewNamed(submission, &transaction)
            switch submission.work {
            case .decide: try decide(submission, &transaction)
            case .consent: try changeConsent(submission, &transaction)
            case .read: try noteAccess(submission, .read, &transaction)
            case .export: try noteAccess(submission, .export, &transaction)
            case .erase: try erase(submission, &transaction)
            case .unlink: try unlink(submission, &transaction)
            case .release: try release(submission, &transaction)
            case .discard: try discard(submission, &transaction)
            // Unless the clerk has failed.
            case .report: if submission.status == 0 { submission.status = 200 }
            case .arrivals: try takeArrival(submission, &place, &transaction)
            case .sync, .learn: try exchange(submission, &place, &transaction)
            case .command: try order(submission, &transaction)
            case .events:
                let event = submission.events[place.index]
                let outcome = try pipeline.process(submission, event, envelope, in: &transaction)
                if case .admitted = outcome { activated.append(event.timestamp) }
                if case .refused(let refusal) = outcome { note(refusal) }
            }
            if place.index < place.count { place.index += 1 }
            eventCount += 1
            noteRefusedAtDoor(submission)
        }
    }

    /// Takes note of the events before the next one of the document that were refused when the request was read: they
    /// stand in the accounts (promise P7) and in the answer like those that the pipeline refuses.
    private func noteRefusedAtDoor(_ submission: Submission) {
        while refusedAtDoor < submission.refused.count, submission.refused[refusedAtDoor].index == eventCount {
            let event = submission.refused[refusedAtDoor]
            _ = pipeline.refuse(event.refusal)
            note(event.refusal, at: event.member)
            refusedAtDoor += 1
            eventCount += 1
        }
    }

    private func note(_ refusal: EventRefusal, at member: [UInt8] = []) {
        if refusalCount == 0 { firstRefusal = refusal }
        refusalCount += 1
        // The first few say enough; the count says how many there are.
        if refusalCount > 10 { return }
        if !hasRefusals {
            refusals.beginArray()
            hasRefusals = true
        }
        refusals.beginObject()
        refusals.key("index")
        refusals.int(Int64(eventCount))
        refusals.key("code")
        refusals.string(refusal.code)
        refusals.key("message")
        refusals.string(refusal.message)
        Writer.write(refusal, to: &refusals, member: member)
        refusals.endObject()
    }

    /// Where the fault is.
    /// - Parameter member: the member or header at fault where it is not one of an event.
    private static func write(_ refusal: EventRefusal, to writer: inout JSONWriter, member: [UInt8] = []) {
        if !member.isEmpty {
            writer.key("member")
            writer.string(member)
        } else if !refusal.member.bytes.isEmpty {
            writer.key("member")
            writer.string(refusal.member)
        }
        if !refusal.pointer.isEmpty {
            writer.key("pointer")
            writer.string(refusal.pointer)
            writer.key("rule")
            writer.string(refusal.rule)
        }
    }

    /// The answer where nothing is wrong, one text for all.
    private let success = Array("{\"success\":true}".utf8)

    /// Writes the answer that will be given after the commit.
    private func finish(_ submission: Submission) {
        if submission.status != 0 { return }
        submission.status = 200
        if refusalCount == 0 {
            submission.answer = success
            return
        }
        var writer = JSONWriter(reserving: 256)
        writer.beginObject()
        writer.key("success")
        refusals.endArray()
        // A single event that is refused is the sender's mistake. Of a batch the others have been taken: sending it again
        // would help nobody.
        let hasTaken = submission.isBatch
        submission.status = hasTaken ? 200 : 400
        writer.bool(hasTaken)
        if !hasTaken, let firstRefusal {
            writer.key("code")
            writer.string(firstRefusal.code)
            writer.key("message")
            writer.string(firstRefusal.message)
        }
        writer.key("refused")
        writer.int(Int64(refusalCount))
        writer.key("errors")
        let list = refusals.bytes
        writer.raw(list.span)
        writer.endObject()
        submission.answer = writer.bytes
    }

    private func answer(_ submission: Submission) {
        if submission.isAnswered {
            if submission.status == 503, submission.work != .learn {
                // It came to a device that could not keep it: nobody sends it again, and so it stands in the accounts.
                meters.requestsShed.add()
                pipeline.ledger.received += 1
                pipeline.ledger.refused += 1
            }
            submission.status = 0
            return intake.recycle(submission)
        }
        meters.admit.record(nanoseconds: clock.monotonicNanoseconds() - submission.arrivedNanoseconds)
        completions.post(
            Completion(
                ConnectionToken(rawValue: submission.connection), status: submission.status,
                contentType: submission.work == .sync && submission.status == 200
                    ? "application/octet-stream" : "application/json",
                headerLines: submission.status == 503 ? Array("Retry-After: 1\r\n".utf8) : [], body: submission.answer))
        submission.status = 0
        intake.recycle(submission)
    }

    private func changeConsent(
        _ submission: Submission, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let document = submission.document
        let signal = pipeline.policy.consent.signal(document, preferences: document.root)
        if signal.isEmpty {
            submission.fail(400, "no_purpose", "the body must be purposes of the bundle and true or false")
            return
        }
        let isKept = try pipeline.takeChoice(
            signal, of: try person(of: submission, transaction), submission.named, actor: submission.actor, now: envelope.receivedAt,
            &transaction)
        if !isKept {
            submission.fail(404, "unknown", "nobody here is known by this reference, and nothing is granted")
        }
    }

    // MARK: Personal records

    /// Whoever calls has said who it is: an identifier that lies under the former pepper gets its present key.
    private func renewNamed(
        _ submission: Submission, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        guard let named = submission.named, let former = submission.former else { return }
        submission.named = try pipeline.renew(named, former: former, &transaction)
    }

    /// Whose record a call is about now: since the serving thread looked, the person may have become part of another, or
    /// have been erased.
    private func person(
        of submission: Submission, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> ProfileID? {
        if let named = submission.named { return try IdentityGraph.profile(of: named, in: transaction) }
        guard let profile = submission.profile else { return nil }
        let tables = transaction.tables
        return transaction.has(tables.profiles, profile) || transaction.has(tables.consent, profile) ? profile : nil
    }

    /// The answer was made by the serving thread; it is given when the log says that it was.
    private func noteAccess(
        _ submission: Submission, _ action: AuditAction, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        // The clerk could not make it, or there was nothing.
        if submission.status != 0 { return }
        let person = submission.profile
        try pipeline.audit.append(
            action, actor: submission.actor, subject: person.map { pipeline.subjects.name(of: $0) },
            at: envelope.receivedAt, in: &transaction)
        submission.status = 200
    }

    private func unlink(_ submission: Submission, _ transaction: inout WriteTransaction) throws(StoreError) {
        guard let named = submission.named else { return }
        var other = submission.identifiers.first.map { IdentifierKey($0) }
        if let key = other { other = try IdentityGraph.current(key, in: transaction) }
        let cut = try pipeline.unlink(
            IdentifierKey(named), from: other, actor: submission.actor, now: envelope.receivedAt, &transaction)
        if cut == 0 {
            submission.status = 404
            submission.answer = Array("{\"status\":404,\"title\":\"No event has linked these identifiers.\"}".utf8)
            return
        }
        var writer = JSONWriter(reserving: 64)
        writer.beginObject()
        writer.key("cut")
        writer.int(Int64(cut))
        writer.endObject()
        submission.status = 200
        submission.answer = writer.bytes
    }

    private func erase(_ submission: Submission, _ transaction: inout WriteTransaction) throws(StoreError) {
        var subject = try person(of: submission, transaction)
        if subject == nil, let named = submission.named, try pipeline.isMentioned(named, former: submission.former, transaction)
        {
            // Nobody yet: what is set aside or waits goes, and they do not come.
            subject = ProfileID(high: pipeline.random.next(), low: pipeline.random.next())
        }
        guard let subject else {
            submission.status = 404
            submission.answer = Array("{\"status\":404,\"title\":\"Nobody here is known by this reference.\"}".utf8)
            return
        }
        var erasure = try pipeline.erase(
            subject, submission.named, former: submission.former, actor: submission.actor, now: envelope.receivedAt,
            &transaction)
        try pipeline.eraseMore(
            &erasure, atMost: room.changes(atMost: Limits.erasureStep), now: envelope.receivedAt, &transaction)
        snapshots.removeAll()
        erasures.append(erasure)
        needsTrim = true
        var writer = JSONWriter(reserving: 160)
        Erasure.write(erasure, to: &writer)
        submission.status = 200
        submission.answer = writer.bytes
    }

    // MARK: Quarantine

    /// Takes one event (or, number 0, the oldest thousand) through the rest of its journey.
    private func release(_ submission: Submission, _ transaction: inout WriteTransaction) throws(StoreError) {
        var numbers = [submission.number]
        if submission.number == 0 {
            numbers = try Pipeline<Random>.quarantined(atMost: Limits.releasedPerCall, transaction)
        }
        var writer = JSONWriter(reserving: 256)
        writer.beginObject()
        writer.key("kept")
        writer.beginArray()
        var released: UInt64 = 0
        for number in numbers {
            guard let refusal = try pipeline.release(number, now: envelope.receivedAt, &transaction) else {
                released += 1
                try noteQuarantine(submission, "released", number, &transaction)
                continue
            }
            writer.beginObject()
            writer.key("number")
            writer.uint(number)
            writer.key("code")
            writer.string(refusal.code)
            writer.key("message")
            writer.string(refusal.message)
            Writer.write(refusal, to: &writer)
            writer.endObject()
        }
        writer.endArray()
        writer.key("released")
        writer.uint(released)
        writer.endObject()
        submission.status = submission.number == 0 || released > 0 ? 200 : 409
        submission.answer = writer.bytes
    }

    /// Deletes one event (or, number 0, everything) from quarantine. The accounts go on to say that it was set aside.
    private func discard(_ submission: Submission, _ transaction: inout WriteTransaction) throws(StoreError) {
        var numbers = [submission.number]
        if submission.number == 0 { numbers = try Pipeline<Random>.quarantined(atMost: Int.max, transaction) }
        var deleted: UInt64 = 0
        for number in numbers
        where try transaction.delete(transaction.tables.quarantine, NumberKey(number).bytes.span) { deleted += 1 }
        if deleted > 0 { try noteQuarantine(submission, "deleted", submission.number, &transaction) }
        var writer = JSONWriter(reserving: 32)
        writer.beginObject()
        writer.key("deleted")
        writer.uint(deleted)
        writer.endObject()
        submission.status = deleted > 0 || submission.number == 0 ? 200 : 404
        submission.answer = writer.bytes
    }

    private func noteQuarantine(
        _ submission: Submission, _ what: StaticString, _ number: UInt64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        try pipeline.audit.append(
            .quarantine, actor: submission.actor, subject: nil, at: envelope.receivedAt, in: &transaction
        ) { line in
            line.key(what)
            line.uint(number)
        }
    }

    /// One step of the oldest erasure that is under way.
    private func eraseMore(_ transaction: inout WriteTransaction) throws(StoreError) {
        guard let index = erasures.firstIndex(where: { $0.state == .erasing }) else { return }
        var erasure = erasures[index]
        try pipeline.eraseMore(
            &erasure, atMost: room.changes(atMost: Limits.erasureStep), now: clock.wallMilliseconds(), &transaction)
        erasures[index] = erasure
        if erasure.state != .erasing { needsTrim = true }
    }

    /// Records of decisions that are not in the log yet.
    private var decided: [DecisionRecord] = []

    /// Puts records of decisions into the log, as many as fit.
    /// - Returns: how many, which the commit is to take off the list.
    private func keepDecisions(_ transaction: inout WriteTransaction) throws(StoreError) -> Int {
        if decided.isEmpty { return 0 }
        if !room.takesEvents {
            // They are the first that a full disk does without.
            meters.recordsLost.add(UInt64(decided.count))
            for record in decided { record.servePlace.map { records.serves.drop($0) } }
            decided.removeAll()
            return 0
        }
        if room.isShort {
            // Where there is not much room, events have it, and what counts for caps.
            let before = decided.count
            decided.removeAll { $0.servePlace == nil }
            meters.recordsLost.add(UInt64(before - decided.count))
        }
        var count = 0
        // A part of the transaction is for events, however many there are.
        let pages = Limits.pagesPerCommit / 4 * 3
        while count < decided.count, count < Limits.recordsPerCommit, transaction.changedPages < pages {
            try keep(decided[count], &transaction)
            count += 1
        }
        return count
    }

    private func keep(_ record: DecisionRecord, _ transaction: inout WriteTransaction) throws(StoreError) {
        try pipeline.keep(record, now: clock.wallMilliseconds(), &transaction)
        guard let place = record.servePlace else { return }
        // Before the commit: whoever sees the commit no longer counts it.
        records.serves.hold(place, transaction: heldBy)
        held.append(place)
    }

    /// Takes an event, and decides what follows from it in the same transaction.
    private func decide(_ submission: Submission, _ transaction: inout WriteTransaction) throws(StoreError) {
        guard let event = submission.events.first else { return }
        var writer = JSONWriter(reserving: 512)
        let (policy, now) = (pipeline.policy, envelope.receivedAt)
        let question = submission.question
        if event.refusal == nil, !submission.isAnswered, !decider.take(question.span, policy, into: &writer) {
            // Nothing of it is taken: whoever asks can mend the question and send both again.
            submission.status = 400
            submission.answer = writer.bytes
            return
        }
        let outcome = try pipeline.process(submission, event, envelope, in: &transaction)
        if case .admitted = outcome { activated.append(event.timestamp) }
        if case .refused(let refusal) = outcome { return note(refusal) }
        if submission.isAnswered { return }
        var document: JSONDocument?
        if case .admitted = outcome {
            document = submission.document
            document?.narrow(to: event.root)
        }
        let asked = EventAsked(
            document, Array(submission.found[event.identifiers]), at: event.timestamp, signal: event.signal, isInMemory: false)
        writer.beginObject()
        writer.key("event")
        writer.string(outcome.word)
        let begin = clock.monotonicNanoseconds()
        transaction.read { reader in decider.answer(policy, submission.keys, asked, now: now, reader, into: &writer) }
        decider.noteLatency(nanoseconds: clock.monotonicNanoseconds() - begin)
        writer.endObject()
        submission.status = 200
        submission.answer = writer.bytes
        for record in decider.records {
            try keep(record, &transaction)
            if let place = record.servePlace { heldHere.append(place) }
        }
        decider.records.removeAll(keepingCapacity: true)
    }

    /// What of `ServeCounts` the transaction under way has, and its number.
    private var held: [Int] = []
    /// Of these, what was decided in this transaction, and is decided anew if it does not happen.
    private var heldHere: [Int] = []
    private var heldBy: UInt64 = 0

    private func releaseServes() {
        for place in held { records.serves.release(place, transaction: heldBy) }
        for place in heldHere { records.serves.drop(place) }
        for record in decider.records { record.servePlace.map { records.serves.drop($0) } }
        held.removeAll(keepingCapacity: true)
        heldHere.removeAll(keepingCapacity: true)
    }

    /// Version of a bundle that came into force and has no line in the audit log yet.
    private var newBundle: UInt64?

    private func noteBundle(_ transaction: inout WriteTransaction) throws(StoreError) {
        guard let version = newBundle else { return }
        try pipeline.audit.append(
            .configuration, actor: Array("device".utf8), subject: nil, at: clock.wallMilliseconds(), in: &transaction
        ) { line in
            line.key("bundle")
            line.uint(version)
        }
        if !isHub { try pipeline.noteAttributes(clock.wallMilliseconds(), &transaction) }
    }

    /// One step of what new attributes want of the log. Of whoever is being erased nothing may come back: that goes first.
    private func recompute(_ transaction: inout WriteTransaction) throws(StoreError) {
        if !pipeline.isRecomputing || erasures.contains(where: { $0.state == .erasing }) { return }
        try pipeline.recompute(
            plans, now: clock.wallMilliseconds(), monotonic: clock.monotonicNanoseconds(), room, &transaction)
    }

    // MARK: Cursors and trimming

    private func apply(_ request: CursorRequest, _ transaction: inout WriteTransaction) throws(StoreError) {
        var ledger = try DestinationLedger(transaction, name: request.destination)
        guard ledger.apply(request.change) else { return }
        try ledger.write(to: &transaction, name: request.destination)
        needsTrim = true
    }

    /// Removes what every destination has passed where the log has no room for it, a little at a time, oldest first: of what is
    /// delivered it keeps `historyBytes`, for attributes to come. A hub without destinations is where events end: it keeps
    /// them, unless the configuration says how much.
    private func trim(_ transaction: inout WriteTransaction) throws(StoreError) {
        let log = transaction.tables.log
        let keepsAll = isHub && destinations.isEmpty && historyBytes == nil
        guard needsTrim || !keepsAll && isTooLarge(log, transaction) else { return }
        var lowest = pipeline.ledger.nextSequence
        var lowestUrgent = lowest
        for name in destinations {
            let ledger = try DestinationLedger(transaction, name: name)
            lowest = min(lowest, ledger.cursor)
            lowestUrgent = min(lowestUrgent, ledger.urgent)
        }
        // Once the hub of a fleet knows as well.
        if try !tellsErasures(transaction) {
            for index in erasures.indices {
                var erasure = erasures[index]
                try pipeline.finishErasure(
                    &erasure, lowest: lowest, told: lowestUrgent, now: clock.wallMilliseconds(), &transaction)
                erasures[index] = erasure
            }
        }
        erasures.removeAll { $0.state == .done }
        var removed = 0
        var isThere = !keepsAll
        while isThere, removed < Limits.trimmedPerCommit, isTooLarge(log, transaction) {
            isThere = try transaction.deleteNumbers(log, below: lowest, atMost: Limits.trimmedAtOnce) == Limits.trimmedAtOnce
            removed += Limits.trimmedAtOnce
        }
        needsTrim = isThere && removed == Limits.trimmedPerCommit
        if !needsTrim, room.isTight {
            needsTrim = try pipeline.shed(
                from: lowest, atMost: room.changes(atMost: Limits.trimmedPerCommit), &transaction) > 0
            if needsTrim { health.shedAt.set(clock.monotonicNanoseconds()) }
        }
        try pipeline.forgetPassed(below: lowest, &transaction)
        // A hub has no hashes but those that it was sent.
        if !isHub, try forgetPlainDigests(below: lowest, &transaction) { needsTrim = true }
    }

    private func isTooLarge(_ log: Table, _ transaction: borrowing WriteTransaction) -> Bool {
        room.isShort || transaction.bytes(of: log) > historyBytes ?? Limits.historyBytes
    }

    private let plainKey = Array("plain".utf8)

    /// Takes hashes without a key out of entries that every destination has passed: they are kept for no other (promise P3).
    /// - Returns: whether there are more such entries.
    private func forgetPlainDigests(
        below lowest: UInt64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let (tables, plainKey) = (transaction.tables, self.plainKey)
        var start = try transaction.firstNumber(tables.log) ?? lowest
        if let value = try transaction.get(tables.meta, plainKey.span) { start = max(start, NumberKey.decode(value) ?? 0) }
        if start >= lowest { return false }
        let end = min(lowest, start + UInt64(Limits.sweptPerStep))
        var entry: [UInt8] = []
        while start < end, transaction.changedPages < Limits.pagesPerCommit {
            let key = NumberKey(start)
            start += 1
            entry.removeAll(keepingCapacity: true)
            if let value = try transaction.get(tables.log, key.bytes.span), let view = LogEntryView(value), view.hasPlainDigests {
                view.encode(without: [], withPlain: false, into: &entry)
            }
            if !entry.isEmpty { try transaction.put(tables.log, key.bytes.span, entry.span) }
        }
        try transaction.put(tables.meta, plainKey.span, NumberKey(start).bytes.span)
        return start < lowest
    }

    // MARK: The hub

    /// Takes a message that another Gatehouse has delivered.
    private func takeArrival(
        _ submission: Submission, _ place: inout Place, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        guard let message = place.message else { return }
        let document = submission.document
        place.message = submission.isBatch ? document.next(message) : nil
        let outcome = try pipeline.takeArrival(
            document, message, submission.speaker, clockAhead: clockAhead, now: envelope.receivedAt, &transaction)
        switch outcome {
        case .taken, .repeated: break
        case .refused(let refusal): note(refusal)
        case .erasing(let erasure):
            snapshots.removeAll()
            erasures.append(erasure)
        case .notTheirs:
            place.message = nil
            refuseOtherDevice(submission)
        case .noRoom:
            // What came before it in the batch is known when it comes again.
            place.message = nil
            refuseOneTooMany(submission)
        }
    }

    private func refuseOtherDevice(_ submission: Submission) {
        submission.fail(403, "other_device", "this token is for a device of another name: see device: in tokens:")
    }

    private func refuseOneTooMany(_ submission: Submission) {
        submission.fail(503, "too_many_devices", "this hub takes the messages of 10,000 devices")
        if !hasTooManyDevices { Log.error("there are more devices than a hub takes; others are refused") }
        hasTooManyDevices = true
    }

    /// Who speaks in the exchange under way.
    private var sender = SyncSender()
    private var unreadableChanges: UInt64 = 0
    private var isErasureRefused = false
    private var hasNoRoom = false
    /// How many commands the device has said to have done: no more than there are.
    private var endedCommands = 0

    /// Takes the next piece of what a device tells this hub, or this device's own hub has answered; at the end answers.
    private func exchange(
        _ submission: Submission, _ place: inout Place, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let text = submission.question
        if place.index == 0, try !admit(submission, &transaction) {
            place.index = place.count - 1
        } else if place.index < text.count {
            guard let piece = Piece(text.span, at: place.index) else {
                place.index = text.count - 1
                return
            }
            place.index = piece.end - 1
            let content = text.span.extracting(piece.start..<piece.end)
            if piece.kind == SyncPage.done, submission.work == .sync { try end(content, submission, &transaction) }
            if piece.kind == SyncPage.change { try take([UInt8](copying: content), &transaction) }
        } else if place.index < place.count - 1 {
            let identifier = submission.identifiers[place.index - text.count]
            if let erasure = try pipeline.eraseSuppressed(identifier, now: envelope.receivedAt, &transaction) { begin(erasure) }
        } else {
            noteUnreadable()
            submission.status = 200
            if submission.work == .sync { try answer(text, submission, &transaction) } else { try keep(submission, &transaction) }
        }
    }

    private func take(_ change: [UInt8], _ transaction: inout WriteTransaction) throws(StoreError) {
        let hasRoom = room.takesEvents
        let outcome = isHub
            ? try pipeline.takeChange(change, sender, hasRoom: hasRoom, &transaction)
            : try pipeline.learnChange(change, latest: sender.now, now: envelope.receivedAt, hasRoom: hasRoom, &transaction)
        switch outcome {
        case .taken: break
        case .unreadable: unreadableChanges += 1
        case .mayNotErase: isErasureRefused = true
        case .noRoom: hasNoRoom = true
        case .erasing(let erasure):
            begin(erasure)
            if !hasRoom { hasNoRoom = true }
        }
    }

    private func begin(_ erasure: Erasure) {
        snapshots.removeAll()
        erasures.append(erasure)
        needsTrim = true
    }

    private func noteUnreadable() {
        if unreadableChanges == 0 { return }
        meters.changesRefused.add(unreadableChanges)
        Log.warning("changes of another device cannot be read or are not its own; they are left out") {
            $0.field("from", String(decoding: self.sender.name, as: UTF8.self))
            $0.field("changes", Int64(clamping: self.unreadableChanges))
        }
    }

    /// Tells a device what has changed elsewhere.
    private func answer(
        _ question: [UInt8], _ submission: Submission, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        try pipeline.forgetShared(now: envelope.receivedAt, &transaction)
        guard let asked = SyncPage.numbers(question.span) else { return }
        let (hub, epoch) = (pipeline.lastEpoch, sender.epoch)
        var last = asked[5] == hub ? asked[6] : 0
        var changes = SyncPage(most: Limits.syncBytes)
        var (hasMore, failure): (Bool, StoreError?) = (false, nil)
        transaction.read { reader in
            do throws(StoreError) { hasMore = try changes.addChanges(after: &last, to: epoch, in: reader) } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        let flags = (hasMore ? SyncPage.hasMore : 0) | (hasNoRoom ? SyncPage.isFull : 0)
            | (isErasureRefused ? SyncPage.isErasureRefused : 0) | (sender.mayErase ? SyncPage.mayErase : 0)
        var page = SyncPage(most: 0)
        page.add([hub, UInt64(bitPattern: envelope.receivedAt), last, flags, 0, 0, 0])
        let commands = try commands(of: sender.name, transaction)
        for command in DeviceCommand.allCases where commands.isPending(command) {
            page.add(SyncPage.command, command, askedAt: commands.askedAt(command))
        }
        submission.answer = page.bytes + changes.bytes
    }

    // MARK: What is asked of devices

    private func commands(
        of device: [UInt8], _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> DeviceCommands {
        let key = DeviceCommands.key(device.span)
        guard let row = try transaction.get(transaction.tables.meta, key.span) else { return DeviceCommands() }
        return DeviceCommands(row)
    }

    /// Notes what an operator asks of a device, which hears of it when it asks next.
    private func order(_ submission: Submission, _ transaction: inout WriteTransaction) throws(StoreError) {
        let device = submission.question
        let devices = transaction.tables.devices
        var record: DeviceRecord?
        if let row = try transaction.get(devices, device.span) { record = DeviceRecord(row) }
        guard let record, let command = DeviceCommand(rawValue: Int(submission.number)) else {
            submission.fail(404, "unknown", "no device of this name delivers here: see GET /v1/devices")
            return
        }
        if !record.via.isEmpty {
            submission.fail(409, "elsewhere", "this device delivers to the hub that GET /v1/devices names as via: ask that one")
            return
        }
        var commands = try commands(of: device, transaction)
        commands.ask(command, at: envelope.receivedAt)
        try keep(commands.row, DeviceCommands.key(device.span), &transaction)
        var writer = JSONWriter(reserving: 256)
        writer.beginObject()
        writer.key("device")
        writer.string(device)
        commands.write(to: &writer)
        writer.endObject()
        submission.status = 202
        submission.answer = writer.bytes
    }

    /// Notes that a device has done what was asked of it.
    private func end(
        _ content: Span<UInt8>, _ submission: Submission, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        endedCommands += 1
        guard endedCommands <= DeviceCommand.allCases.count, let (command, time) = SyncPage.command(content) else { return }
        var commands = try commands(of: sender.name, transaction)
        if !commands.isPending(command) || commands.askedAt(command) != time { return }
        commands.end(command, at: envelope.receivedAt)
        let device = sender.name
        try keep(commands.row, DeviceCommands.key(device.span), &transaction)
        // Where room is short the last one stays.
        if command != .report || room.isShort || !room.takesEvents { return }
        let text = content.extracting(9..<content.count)
        guard text.count <= Limits.reportBytes, Writer.isJSON(text, &submission.document) else {
            unreadableChanges += 1
            return
        }
        let report = DeviceReport([UInt8](copying: text), at: commands.doneAt(command))
        try keep(report.row, DeviceReport.key(device.span), &transaction)
    }

    private func keep(
        _ row: [UInt8], _ key: [UInt8], _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let meta = transaction.tables.meta
        try transaction.put(meta, key.span, row.span)
    }

    private static func isJSON(_ text: Span<UInt8>, _ document: inout JSONDocument) -> Bool {
        do throws(JSONError) {
            try document.parse(
                text, maximumDepth: CollectionLimits.eventDepth, maximumValues: CollectionLimits.bodyValues)
            return true
        } catch {
            return false
        }
    }

    /// Whether what comes is of somebody who may tell and hear; answers it where it is not.
    private func admit(_ submission: Submission, _ transaction: inout WriteTransaction) throws(StoreError) -> Bool {
        let question = submission.question
        let now = envelope.receivedAt
        if submission.work == .learn {
            let later = SyncPage.numbers(question.span).map { Int64(bitPattern: $0[1]) } ?? 0
            sender = SyncSender(
                name: Array("hub".utf8), now: max(now, min(later, Unification.Limits.farthestMilliseconds)))
            return true
        }
        guard let said = SyncPage.numbers(question.span), said[0] != 0, said[0] <= SharedChanges.largestEpoch,
            let first = Piece(question.span, at: 0), let print = Piece(question.span, at: first.end),
            print.kind == SyncPage.fleet, let name = Piece(question.span, at: print.end), name.kind == SyncPage.device,
            Configuration.isDeviceName(question.span.extracting(name.start..<name.end))
        else {
            submission.fail(400, "no_device", "this is no question of a Gatehouse")
            return false
        }
        let device = [UInt8](copying: question.span.extracting(name.start..<name.end))
        if !submission.speaker.mayBe(device.span) {
            refuseOtherDevice(submission)
            return false
        }
        guard let fleet, equal(question.span.extracting(print.start..<print.end), fleet.span) else {
            submission.fail(
                409, "other_fleet",
                fleet == nil
                    ? "this hub is of no fleet: its configuration needs fleet: (gatehouse pepper fingerprint)"
                    : "all devices of a fleet need a copy of one pepper, and the hub its fingerprint in fleet:")
            return false
        }
        try pipeline.serve(fleet.span, &transaction)
        let row = transaction.tables.devices
        var record = DeviceRecord(epoch: said[0])
        var isKnown = false
        if let value = try transaction.get(row, device.span), let known = DeviceRecord(value) {
            (record, isKnown) = (known, known.epoch == said[0])
        } else if transaction.count(row) >= Limits.devices {
            refuseOneTooMany(submission)
            return false
        }
        if !isKnown, try isOfAnother(said[0], device, transaction) {
            submission.fail(409, "copied_store", "another device has a copy of this one's data folder: let one begin anew")
            return false
        }
        record.heardAt = now
        record.clockAhead = Int64(bitPattern: said[1]) &- now
        (record.bundleVersion, record.queued, record.lost) = (said[2], said[3], said[4])
        let value = record.record
        try transaction.put(row, device.span, value.span)
        let speaker = submission.speaker
        sender = SyncSender(
            name: device, epoch: said[0], speaksForOthers: speaker.isHub || speaker.name.isEmpty,
            mayErase: submission.mayErase, now: now)
        return true
    }

    /// Whether a store's number is that of another device's: what that one has counted is for it alone to tell.
    private func isOfAnother(
        _ epoch: UInt64, _ device: [UInt8], _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Bool {
        var isFound = false
        try transaction.scan(transaction.tables.devices, from: Span<UInt8>()) { name, value in
            if let record = DeviceRecord(value), record.epoch == epoch, !equal(name, device.span) { isFound = true }
            return !isFound
        }
        return isFound
    }

    /// Keeps how far this device and its own hub have told each other.
    private func keep(_ submission: Submission, _ transaction: inout WriteTransaction) throws(StoreError) {
        let asked = submission.answer
        var cursor = SyncCursor(asked.span)
        if hasNoRoom {
            // It is asked for again once there is room; until then the hub is heard on, of those who are erased.
            if cursor.missed == 0 { cursor.missed = try syncCursor(transaction).heard + 1 }
        } else if cursor.missed != 0, room.takesEvents {
            (cursor.heard, cursor.missed) = (min(cursor.heard, cursor.missed - 1), 0)
        }
        let (key, record) = (SyncCursor.key, cursor.record)
        try transaction.put(transaction.tables.meta, key.span, record.span)
        if !isHub { try SharedChanges.remove(upTo: cursor.told, erasuresToo: submission.mayErase, in: &transaction) }
        if !erasures.isEmpty { needsTrim = true }
    }

    /// Whether a hub is still to be told of somebody who was erased.
    private func tellsErasures(_ transaction: borrowing WriteTransaction) throws(StoreError) -> Bool {
        if !hasHub || isHub { return false }
        return try SharedChanges.erasures(in: transaction) > 0
    }

    private func syncCursor(_ transaction: borrowing WriteTransaction) throws(StoreError) -> SyncCursor {
        let key = SyncCursor.key
        guard let record = try transaction.get(transaction.tables.meta, key.span) else { return SyncCursor() }
        return SyncCursor(record)
    }

    /// How far the clock of whoever has sent the submission under way is ahead, milliseconds; nil where it does not say.
    private var clockAhead: Int64?
    private var hasTooManyDevices = false

    private func clockAhead(of submission: Submission) -> Int64? {
        let document = submission.document
        guard submission.work == .arrivals, submission.isBatch, let sentAt = document.member(document.root, "sentAt"),
            document.kind(sentAt) == .string, let time = Timestamp.parse(document.bytes(sentAt))
        else { return nil }
        let (ahead, overflowed) = time.subtractingReportingOverflow(submission.receivedAt)
        return overflowed ? nil : ahead
    }
}
