// What the tests of the tracking plan share: a bundle from text, its problems, and a pipeline over a store of its own.

import Collection
import Cryptography
import Formats
import Monitoring
import Platform
import Serving
import Store
import Unification

@testable import Agent

/// Where and what: `5:18: …`, of a bundle.
func problems(_ text: String) -> [String] {
    let bytes = Array(text.utf8)
    let span = bytes.span
    return Bundle.read(span, loadedAt: 0).1.map { "\($0.position.description): \($0.message)" }
}

func bundle(_ text: String) -> Bundle {
    let bytes = Array(text.utf8)
    let span = bytes.span
    let (bundle, problems) = Bundle.read(span, loadedAt: 0)
    guard let bundle else { fatalError("the test's bundle is wrong: \(problems.map { $0.message })") }
    return bundle
}

/// A writer without its thread.
final class PlanBench {
    let database: Database
    let meters = Meters()
    let watch = PlanWatch(sources: [Array("local".utf8), Array("pos".utf8)])
    var sources: LastSeen { watch.sources }
    private var pipeline: Pipeline<SeededRandom>
    private var preparer: EventPreparer
    private let holder: PlanHolder
    /// Milliseconds since the epoch.
    var now: Int64 = 1_700_000_000_000

    init(_ text: String, folder: String? = nil) throws {
        var random = SystemRandom()
        database = try Database(folder: folder ?? "/tmp/gatehouse-agent-test-\(random.next())", mapBytes: 8 << 20)
        let transaction = try database.beginWrite()
        let current = bundle(text)
        holder = PlanHolder(current.plans)
        preparer = EventPreparer(holder, pepper: Peppers(key: Array("a pepper for tests".utf8)))
        pipeline = try Pipeline(
            current.plans, DeviceIdentity(device: Array("till".utf8), epoch: 1), watch: watch,
            root: HMACSHA256(key: Array("a pepper for tests".utf8)), meters: meters, random: SeededRandom(seed: 1),
                transaction)
    }

    func use(_ text: String) {
        let next = bundle(text).plans
        holder.replace(with: next)
        pipeline.adopt(next)
    }

    /// As the writer does for an event that was prepared by these plans.
    func go(by plans: Plans) { pipeline.use(plans) }

    var plans: Plans { pipeline.plans }
    var ledger: Ledger { pipeline.ledger }

    var tracking: TrackingPlan { pipeline.plans.tracking }

    /// Takes one event through, with the consent that it needs.
    /// - Returns: what became of it.
    func send(_ text: String, consenting: Bool = true, source: Int = 0) throws -> String {
        var whole = text
        if consenting {
            whole.removeLast()
            whole += #","context":{"consent":{"categoryPreferences":{"analytics":true}}}}"#
        }
        let submission = Submission()
        let bytes = Array(whole.utf8)
        let span = bytes.span
        try submission.document.parse(span)
        submission.receivedAt = now
        preparer.prepare(submission)
        var transaction = try database.beginWrite()
        let envelope = Envelope(receivedAt: now, source: source)
        let outcome = try pipeline.process(submission, submission.events[0], envelope, in: &transaction)
        try pipeline.ledger.write(to: &transaction)
        try transaction.commit()
        switch outcome {
        case .admitted: return "admitted"
        case .duplicate: return "duplicate"
        case .denied: return "denied"
        case .waiting: return "waiting"
        case .quarantined: return "quarantined"
        case .refused(let refusal): return "\(refusal.code)"
        }
    }

    func release(_ number: UInt64) throws -> Bool {
        var transaction = try database.beginWrite()
        let refusal = try pipeline.release(number, now: now, &transaction)
        try transaction.commit()
        return refusal == nil
    }

    /// As the writer does it in each of its transactions.
    func keepObserved(at now: Int64) throws {
        var transaction = try database.beginWrite()
        try pipeline.keepObserved(at: now, &transaction)
        try transaction.commit()
    }

    func driftRecord() throws -> [UInt8] {
        try keepObserved(at: now)
        let transaction = try database.beginWrite()
        let key = pipeline.observed.drift.key(0)
        var record: [UInt8] = []
        if let found = try transaction.get(database.tables.meta, key.span) { record.append(contentsOf: found) }
        return record
    }

    func seen(_ event: String, at now: Int64) -> Int64? {
        let plan = tracking
        return plan.seen.names.firstIndex(of: Array(event.utf8)).map { plan.seen.age($0, at: now) }
    }

    /// What lies in the log, oldest first.
    func logged() throws -> [String] {
        var found: [String] = []
        let transaction = try database.beginWrite()
        try transaction.scan(database.tables.log, from: Span<UInt8>()) { _, value in
            if let entry = LogEntryView(value) { found.append(String(copying: entry.body)) }
            return true
        }
        return found
    }
}
