// One bundle in memory: events go in, and what it would do comes out. It is the device's own pipeline and decider over a
// store that nobody else sees and that is gone when the process is: no network, no clock, no log. What is the same on
// the way in is the same on the way out, to the byte.

import Activation
import Collection
import Cryptography
import Formats
import Governance
import Monitoring
import Platform
import Serving
import Store
import Unification

/// What came to pass beside decisions: a trigger fired, or somebody joined or left an announced audience.
struct Happening {
    let time: [UInt8]
    /// See `Simulation.person`.
    let person: [UInt8]
    /// `Trigger Fired`, `Audience Entered` or `Audience Exited`.
    let event: [UInt8]
    /// Of the trigger or the audience.
    let name: [UInt8]
}

final class Simulation {
    private let database: Database
    private let plans: Plans
    private let pepper: Peppers
    private var pipeline: Pipeline<Chance>
    private var preparer: EventPreparer
    private var decider: Decider
    let meters = Meters()
    private let serves = ServeCounts()
    /// Numbers of the decisions that are asked for.
    private(set) var asked: [Int] = []
    private var writer = JSONWriter(reserving: 2048)
    /// When the last event was taken, milliseconds since the epoch.
    private var clock: Int64
    private var sweptAt: Int64
    private var monotonic: Int64 = 0
    /// What the decisions came to after the last event, as OFREP has it; meaningless unless `isAdmitted`.
    private(set) var answers = JSONDocument()
    private(set) var isAdmitted = false
    /// Whose the last admitted event was: digits of a random id that says nothing about them.
    private(set) var person: [UInt8] = []
    /// What came to pass up to the last event, in order.
    private(set) var happenings: [Happening] = []
    /// Why events were not admitted.
    private var reasons = Tally(limit: Limits.simulatedReasons)
    private var happened = Tally(limit: Limits.simulatedReasons)

    /// - Parameters:
    ///   - pepper: the secret for hashes.
    ///   - grantsAll: whether people who have said nothing count as having granted every purpose.
    ///   - keys: of the decisions to be asked for, with commas between them; empty for all.
    ///   - place: the folder in which the store is made.
    ///   - mapBytes: the most that the store may grow to.
    init(
        _ bundle: Bundle, pepper: Peppers, grantsAll: Bool, decisions keys: [UInt8] = [], in place: String = "/tmp",
        mapBytes: Int64 = Limits.simulatedBytes
    ) throws(StoreError) {
        plans = bundle.plans
        (clock, sweptAt) = (bundle.policy.loadedAt, bundle.policy.loadedAt)
        self.pepper = pepper
        var random = SystemRandom()
        let bytes = random.bytes(8)
        let name = String(decoding: Hex.encode(bytes.span), as: UTF8.self)
        let folder = joined(place, "/gatehouse-simulate-", name)
        database = try Database(folder: folder, mapBytes: mapBytes, synchronous: false)
        // The files are open: without names they are gone with the process, however it ends.
        for file in ["/data.mdb", "/lock.mdb", "/gatehouse.lock"] { Files.remove(joined(folder, file)) }
        Files.removeDirectory(folder)
        preparer = EventPreparer(PlanHolder(plans), pepper: pepper)
        let device = Array("simulation".utf8)
        decider = Decider(device: device, pepper: pepper, meters: meters, serves: serves)
        var transaction = try database.beginWrite()
        pipeline = try Pipeline(
            plans, DeviceIdentity(device: device, epoch: 1), watch: PlanWatch(sources: []), root: pepper.root,
            meters: meters, random: .seeded(SeededRandom(seed: 1)), transaction)
        pipeline.presumesGrants = grantsAll
        try pipeline.noteAttributes(bundle.policy.loadedAt, &transaction)
        try transaction.commit()
        find(keys)
    }

    private func find(_ keys: [UInt8]) {
        let plan = plans.policy.decisions
        if keys.isEmpty { asked = Array(plan.decisions.indices) }
        var key: [UInt8] = []
        for byte in keys + [UInt8(ascii: ",")] where !keys.isEmpty {
            if byte != UInt8(ascii: ",") {
                key.append(byte)
                continue
            }
            if let number = plan.index(of: key.span) { asked.append(number) }
            key = []
        }
    }

    /// Takes an event, after what has come due before it, and asks for all decisions once it is admitted.
    /// - Parameters:
    ///   - event: parsed, of a type that it names itself.
    ///   - question: the same as a question for its person: what is known of them stands in the same places.
    ///   - now: milliseconds since the epoch; never before that of the last event.
    func take(_ event: JSONDocument, question: [UInt8], at now: Int64) throws(StoreError) {
        happenings.removeAll(keepingCapacity: true)
        isAdmitted = false
        if now > clock { try takeTimers(until: now) }
        clock = now
        let submission = Submission()
        submission.document = event
        submission.receivedAt = now
        preparer.prepare(submission)
        pipeline.expireWaiting(at: now)
        try step(submission, question, at: now)
    }

    /// What is due when the last event has been taken.
    func finish() throws(StoreError) {
        happenings.removeAll()
        isAdmitted = false
        try takeTimers(until: clock)
    }

    /// What comes due up to a moment, each at its own. What is late waits for whatever is handed in with it, until time goes
    /// on.
    private func takeTimers(until end: Int64) throws(StoreError) {
        while pipeline.nextTimer <= end { try step(nil, [], at: max(clock, pipeline.nextTimer)) }
    }

    /// One transaction: an event and the decisions after it, or timers that are due.
    private func step(_ submission: Submission?, _ question: [UInt8], at now: Int64) throws(StoreError) {
        var transaction = try database.beginWrite()
        let first = pipeline.ledger.nextSequence
        if let submission {
            try sweep(at: now, &transaction)
            for prepared in submission.events {
                let outcome = try pipeline.process(submission, prepared, Envelope(receivedAt: now), in: &transaction)
                note(outcome, prepared.fault.map { submission.faults[$0].keyword })
            }
        } else {
            try pipeline.takeTimers(plans, now: now, atMost: Limits.timersPerCommit, true, &transaction)
        }
        if isAdmitted { try ask(question, at: now, &transaction) }
        try emptyLog(from: first, &transaction)
        try transaction.commit()
    }

    /// Takes away what has been kept for long enough, once a day: what has ended nobody sees before, either.
    private func sweep(at now: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        if now - sweptAt < Limits.simulatedSweepMilliseconds { return }
        sweptAt = now
        pipeline.retention.beginAnew()
        let room = try DiskRoom(database)
        while pipeline.isSweepDue(plans, monotonic) {
            try pipeline.sweep(plans, now: now, monotonic: monotonic, room, &transaction)
            if pipeline.retention.stage == .resting { return }
            monotonic += Limits.sweepPauseMilliseconds * 1_000_000
        }
    }

    private func note(_ outcome: EventOutcome, _ keyword: StaticString?) {
        switch outcome {
        case .admitted: isAdmitted = true
        case .refused(let refusal): reasons.add(Array("refused: ".utf8) + [UInt8](copying: refusal.code.bytes))
        case .quarantined: reasons.add(Array("quarantined: ".utf8) + [UInt8](copying: (keyword ?? "schema").bytes))
        case .denied, .waiting, .duplicate: break
        }
    }

    /// Reads what the transaction has put into the log, and takes it out again: there is no destination.
    private func emptyLog(from first: UInt64, _ transaction: inout WriteTransaction) throws(StoreError) {
        let next = pipeline.ledger.nextSequence
        if next == first { return }
        var hasPerson = false
        let key = NumberKey(first)
        var document = JSONDocument()
        try transaction.scan(transaction.tables.log, from: key.bytes.span) { _, value in
            guard let entry = LogEntryView(value) else { return true }
            if !entry.header.isGenerated {
                // What has waited for the same choice comes behind the event.
                if !hasPerson { person = Simulation.pseudonym(entry.header.profile) }
                hasPerson = true
            } else if (try? document.parse(entry.body)) != nil {
                note(document, entry.header)
            }
            return true
        }
        _ = try transaction.deleteNumbers(transaction.tables.log, below: next, atMost: Int.max)
    }

    private func note(_ document: borrowing JSONDocument, _ header: LogEntryHeader) {
        guard let event = document.member(document.root, "event"), let time = document.member(document.root, "timestamp"),
            let properties = document.member(document.root, "properties"),
            let name = document.member(properties, "trigger") ?? document.member(properties, "audience")
        else { return }
        let happening = Happening(
            time: [UInt8](copying: document.bytes(time)), person: Simulation.pseudonym(header.profile),
            event: [UInt8](copying: document.bytes(event)), name: [UInt8](copying: document.bytes(name)))
        happenings.append(happening)
        happened.add(happening.event + Array(": ".utf8) + happening.name)
    }

    private static func pseudonym(_ id: ProfileID) -> [UInt8] {
        let bytes = id.bytes
        var text: [UInt8] = []
        Hex.append(bytes.span.extracting(0..<4), to: &text)
        return text
    }

    /// Asks for each decision by itself, as a client does that serves it: what counts for a cap goes into the profile.
    private func ask(_ question: [UInt8], at now: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        writer.clear()
        writer.beginObject()
        writer.key("flags")
        writer.beginArray()
        transaction.read { reader in
            for number in asked {
                let key = plans.policy.decisions.decisions[number].key
                _ = decider.answer(plans.policy, key.span, question.span, now: now, reader, into: &writer)
            }
        }
        writer.endArray()
        writer.endObject()
        for record in decider.records {
            guard let place = record.servePlace else { continue }
            try pipeline.keep(record, now: now, &transaction)
            serves.drop(place)
        }
        decider.records.removeAll(keepingCapacity: true)
        let text = writer.bytes
        do throws(JSONError) { try answers.parse(text.span) } catch { isAdmitted = false }
    }

    /// Writes what became of the events, and what came to pass.
    func writeAccounts(to output: inout JSONWriter) {
        output.key("events")
        output.beginObject()
        for (name, value) in pipeline.ledger.terms {
            output.key(name)
            output.uint(value)
        }
        output.endObject()
        output.key("reasons")
        reasons.write(to: &output)
        output.key("happened")
        happened.write(to: &output)
    }
}

extension Pipeline {
    /// Takes whatever the person of the event under way has not chosen for granted, where the pipeline is to.
    mutating func presumeGrants(_ transaction: borrowing WriteTransaction) throws(StoreError) {
        if !presumesGrants { return }
        let record = try choices(transaction)
        for (purpose, tag) in policy.purposes.tags.enumerated() where !ConsentRecord.isDecided(record.span, tag: tag) {
            if !choice.signal.denied.contains(PurposeSet(purpose: purpose)) {
                choice.signal.granted.insert(PurposeSet(purpose: purpose))
            }
        }
    }
}
