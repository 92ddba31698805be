// One run of a simulated device, from its start until its power fails or it is stopped: the agent's own parts, put together
// as Runtime.swift does it, but for threads and sockets. Whatever would be a thread takes its turn here.

import Activation
import CSimulation
import Cryptography
import Formats
import Governance
import HTTP
import Monitoring
import Platform
import Unification

@testable import Agent
@testable import Delivery
@testable import Serving
@testable import Store

/// An outbox that does not make its sender's thread rest, but notes until when it would.
final class PacedOutbox: OutboxSource {
    private let outbox: StoreOutbox<SystemClock>
    private let signal: LogSignal
    /// Until then it rests, nanoseconds of the monotonic clock, unless the log goes on.
    private(set) var restsUntil: Int64 = 0
    private var wakesFor: (next: UInt64, urgent: UInt64)?

    init(_ outbox: StoreOutbox<SystemClock>, _ signal: LogSignal) { (self.outbox, self.signal) = (outbox, signal) }

    func outlook() -> OutboxOutlook { outbox.outlook() }
    func fill(_ batch: inout Batch) { outbox.fill(&batch) }
    var revision: UInt64 { outbox.revision }
    func spend(bytes: Int64) { outbox.spend(bytes: bytes) }
    func acknowledge(_ batch: borrowing Batch) { outbox.acknowledge(batch) }
    func quarantine(_ batch: borrowing Batch, reason: QuarantineReason) { outbox.quarantine(batch, reason: reason) }
    var isStopRequested: Bool { outbox.isStopRequested }
    func finish() -> Bool { outbox.finish() }

    func wait(forCount count: UInt64?, milliseconds: Int64) {
        guard outbox.finish() else { return }
        restsUntil = sim_monotonic() + milliseconds * 1_000_000
        wakesFor = count == nil ? nil : (signal.nextSequence, signal.newestUrgent)
    }

    var isResting: Bool {
        if sim_monotonic() >= restsUntil { return false }
        guard let wakesFor else { return true }
        return wakesFor == (signal.nextSequence, signal.newestUrgent)
    }
}

/// A sender and what it sends from.
final class Delivering {
    let stop: StopFlag
    let outbox: PacedOutbox
    private var sender: Sender<PacedOutbox, Way, SystemClock, SeededRandom>

    init(
        _ outbox: PacedOutbox, _ stop: StopFlag, _ sender: Sender<PacedOutbox, Way, SystemClock, SeededRandom>
    ) {
        (self.outbox, self.stop, self.sender) = (outbox, stop, sender)
    }

    /// - Returns: whether it did something.
    func turn() -> Bool {
        if outbox.isResting { return false }
        switch sender.step() {
        case .waited, .paused, .stopped: return false
        default: return true
        }
    }
}

/// Why a device does not start: one line.
struct StartFailure: Error {
    let message: String
}

final class Device {
    let database: Database
    let bundles: BundleHolder
    let identity: DeviceIdentity
    let intake = Intake()
    let signal: LogSignal
    let meters = Meters()
    let health = Health()
    private let healing: Healing
    private let cursors = CursorBox()
    private let completions: Completions
    private let records: DecisionBox
    private let pepper: Peppers
    private let senders = SenderList()
    private let writer: Writer<SystemClock, Chance>
    private var routes: Routes<SystemClock>
    private var delivering: [Delivering] = []
    private unowned let world: World
    private var head = RequestHead()
    private var isTurning = false
    private var answers: [Completion] = []
    /// How often another store has taken the place of this one.
    let rebuilds: UInt64

    /// Starts as an agent does after power came.
    /// - Parameter configuration: names the folder and the bundle's file.
    init(_ configuration: Configuration, _ world: World, pepper: Peppers, seed: UInt64) throws(StartFailure) {
        self.world = world
        self.pepper = pepper
        do throws(StoreError) {
            healing = try Healing(configuration)
            let need = healing.need()
            if need == .look || need == .replacement { world.looks(need == .replacement) }
            if need != .nothing {
                let empty = try Database(
                    folder: healing.standInFolder, mapBytes: Agent.Limits.standInBytes, synchronous: false)
                try healing.takeKept(to: empty)
                try healing.run(need, empty)
            }
            healing.endStandIn()
            let snapshots = SnapshotKeeper(configuration, healing.files)
            database = try Database(
                folder: configuration.data, mapBytes: configuration.diskBytes!, synchronous: true, lock: healing.lock)
            var random = SystemRandom()
            identity = try DeviceIdentity.establish(database, configured: nil, &random)
            var transaction = try database.beginWrite()
            signal = LogSignal(
                next: try Ledger(transaction).nextSequence, urgent: try transaction.lastNumber(database.tables.urgent) ?? 0)
            let floor = try ClockFloor.read(transaction)
            rebuilds = try Rebuilds(transaction).count
            let now = SystemClock().wallMilliseconds()
            let rotation = try Rotation(pepper, now: now, in: &transaction)
            try transaction.commit()
            meters.startedAt.set(now)
            let keeper: BundleKeeper
            do throws(StartError) {
                keeper = try BundleKeeper(
                    configuration, database, meters, health, floor: floor, fallback: Bundle.builtIn(loadedAt: now))
            } catch { throw StoreError.failed("bundle", code: 1) }
            bundles = BundleHolder(keeper.bundle)
            records = DecisionBox(meters: meters)
            do throws(SystemError) { completions = try Completions(threads: 1) } catch { throw StoreError(error) }
            let access = AccessList([])
            let watch = PlanWatch(sources: access.sources)
            let trace = Trace()
            try Device.prepareDestinations(database, bundles.current)
            let clerk = RecordClerk(
                database: database, intake: intake, subjects: AuditSubject(root: pepper.root), plans: bundles.plans,
                meters: meters)
            let (meters, health, database, bundles, senders) = (meters, health, database, bundles, senders)
            let statistics = ServerStatistics()
            let table = RoutingTable(
                database: database, intake: intake, access: access, meters: meters, plans: bundles.plans, pepper: pepper,
                device: identity.device, health: health, clerk: clerk, isHub: false, records: records, shadow: nil,
                trace: trace, findings: { [] },
                writeMetrics: { metrics, reader in
                    MetricsPage(
                        meters: meters, statistics: statistics, database: database, bundles: bundles, senders: senders,
                        watch: watch, shadow: nil, health: health, isHub: false, floor: floor, findings: [],
                        now: SystemClock().wallMilliseconds()
                    ).write(to: &metrics, reader)
                })
            routes = try Routes(table, thread: 0, clock: SystemClock())
            var pipeline: Pipeline<Chance>
            do {
                let transaction = try database.beginWrite()
                pipeline = try Pipeline(
                    bundles.current.plans, identity, watch: watch, root: pepper.root, rotation: rotation, meters: meters,
                    random: .seeded(SeededRandom(seed: seed)), transaction)
            }
            pipeline.trace = trace
            try pipeline.eraseReturned(database, now: now)
            writer = Writer(
                database: database, intake: intake, completions: completions, cursors: cursors, signal: signal,
                bundles: bundles, records: records, meters: meters, health: health, clock: SystemClock(), isHub: false,
                hasHub: false, fleet: nil, historyBytes: configuration.historyBytes, snapshots: snapshots,
                pipeline: pipeline,
                decider: Decider(
                    device: identity.device, number: 15, pepper: pepper, meters: meters, serves: records.serves),
                floor: floor)
        } catch {
            throw StartFailure(message: error.message)
        }
        writer.resume()
        try startDelivering()
    }

    private static func prepareDestinations(_ database: Database, _ bundle: Bundle) throws(StoreError) {
        var transaction = try database.beginWrite()
        let next = try Ledger(transaction).nextSequence
        for entry in bundle.destinations where !entry.destination.isFallbackOnly {
            let name = entry.destination.name
            if try transaction.get(database.tables.cursors, name.span) != nil { continue }
            var ledger = DestinationLedger()
            (ledger.cursor, ledger.urgent, ledger.since) = (next, next, next)
            try ledger.write(to: &transaction, name: name)
        }
        try transaction.commit()
    }

    private func startDelivering() throws(StartFailure) {
        let bundle = bundles.current
        var meters: [(name: [UInt8], meters: SenderMeters)] = []
        for (number, entry) in bundle.destinations.enumerated() {
            let stop = StopFlag()
            let senderMeters = SenderMeters()
            do throws(StoreError) {
                let outbox = PacedOutbox(
                    try StoreOutbox(
                        bundle: bundle, target: entry, identity: identity, root: pepper.root, database: database,
                        signal: signal, cursors: cursors, intake: intake, meters: self.meters, clock: SystemClock(),
                        stop: stop), signal)
                let sender = Sender(
                    destination: entry.destination, source: outbox, transport: Way(world.hub(entry.destination.name), world),
                    meters: senderMeters, clock: SystemClock(), random: SeededRandom(seed: UInt64(number) + 1))
                delivering.append(Delivering(outbox, stop, sender))
                meters.append((entry.destination.name, senderMeters))
            } catch { throw StartFailure(message: error.message) }
        }
        senders.set(meters)
    }

    /// Puts another bundle in force, as Runtime does.
    func put(_ next: Bundle) throws(StartFailure) {
        do throws(StoreError) { try Device.prepareDestinations(database, next) } catch {
            throw StartFailure(message: error.message)
        }
        for entry in delivering { _ = entry.outbox.finish() }
        delivering = []
        bundles.replace(with: next)
        try startDelivering()
    }

    // MARK: Turns

    /// The writer's turn.
    func write() {
        if isTurning { return }
        isTurning = true
        intake.poke()
        _ = writer.turn()
        isTurning = false
        // Who ends asks everybody to.
        if sim_will_terminate() != 0 { for entry in delivering { entry.stop.set() } }
    }

    /// Everybody's turn, until nobody has anything to do at this moment.
    func turn(atMost: Int = 200) {
        var left = atMost
        repeat {
            left -= 1
            routes.groupEnds()
            write()
            hear()
            var isBusy = false
            for entry in delivering where entry.turn() { isBusy = true }
            if !isBusy { break }
        } while left > 0
        write()
        hear()
    }

    /// Hands over what has been answered.
    func hear() {
        answers.removeAll(keepingCapacity: true)
        completions.queues[0].take(into: &answers)
        for answer in answers { world.hears(answer.token.slot, Int(answer.status), answer.body) }
    }

    /// Stops in order.
    func stop() {
        for entry in delivering { _ = entry.outbox.finish() }
        intake.close()
        writer.run()
        hear()
    }

    // MARK: Requests

    /// Gives the routes one request.
    /// - Parameter mark: with which `hears` is told of an answer that comes later; an answer that comes now is returned.
    func handle(_ request: [UInt8], mark: Int) -> (status: Int, body: [UInt8])? {
        var progress = HeadProgress()
        let span = request.span
        guard case .complete(let length) = RequestParser.parse(span, into: &head, progress: &progress) else {
            return (400, [])
        }
        var response = Response()
        response.begin(toHead: head.method == .head, minorVersion: head.minorVersion, keepsAlive: true)
        let borrowed = Request(
            span, head: head, body: ByteRange(length, request.count), peer: .loopback, isSecure: false,
            token: ConnectionToken(thread: 0, slot: mark))
        let disposition = routes.handle(borrowed, &response)
        guard case .answered = disposition else { return nil }
        let output = response.output
        guard output.count > 12 else { return (500, []) }
        let status = Int(output[9] - 48) * 100 + Int(output[10] - 48) * 10 + Int(output[11] - 48)
        var body = 0
        while body + 4 <= output.count, Array(output[body..<body + 4]) != [13, 10, 13, 10] { body += 1 }
        return (status, Array(output[min(output.count, body + 4)...]))
    }
}
