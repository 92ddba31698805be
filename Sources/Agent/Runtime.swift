// One running Gatehouse: opens the store, starts the threads, watches the signals and ends everything in order.

import Activation
import Collection
import Cryptography
import Delivery
import Formats
import Governance
import Monitoring
import Platform
import Serving
import Store
import Unification

/// Why it could not start: one line for a person.
public struct StartError: Error {
    public let message: String
    /// 1 the input is wrong, 3 the device failed.
    public let exitCode: Int32

    init(_ message: String, exitCode: Int32 = 3) {
        self.message = message
        self.exitCode = exitCode
    }
}

typealias AgentServer = Server<Routes<SystemClock>, SystemClock>

/// A sender, its thread and the means to end it.
private struct Delivering {
    let name: [UInt8]
    let thread: Thread
    let stop: StopFlag
    let cancellation: Cancellation
    let meters: SenderMeters
}

/// An agent or a hub.
public final class Runtime {
    public static let version: StaticString = "0.1.0"

    private let configuration: Configuration
    private let isHub: Bool
    private let clock = SystemClock()
    private let database: Database
    private let pepper: Peppers
    private let rotation: Rotation
    private let identity: DeviceIdentity
    private let bundles: BundleHolder
    private let intake = Intake()
    private let cursors = CursorBox()
    private let signal: LogSignal
    private let floor: ClockFloor
    private let meters = Meters()
    private let health = Health()
    private let statistics = ServerStatistics()
    private let completions: Completions
    private let senders = SenderList()
    private let access: AccessList
    private let watch: PlanWatch
    private let clerk: RecordClerk
    private let shadow: Shadow?
    private let keeper: BundleKeeper
    private let records: DecisionBox
    private let trace = Trace()
    /// What the local API shows to its clients, once it listens.
    private var certificate: TLSServerConfiguration?
    private let healing: Healing
    private let snapshots: SnapshotKeeper
    private var delivering: [Delivering] = []

    /// Mends the store where it needs that, and runs until SIGTERM or SIGINT. Decisions are answered meanwhile, as about people
    /// of whom nothing is known; events are to come again.
    public static func run(_ configuration: Configuration, isHub: Bool) throws(StartError) {
        Process.noteCrashes(at: StoreFiles(configuration.data).crash)
        let healing: Healing
        do throws(StoreError) { healing = try Healing(configuration) } catch { throw cannotUse(configuration, error) }
        let need = healing.need()
        if need != .nothing {
            let empty = standIn(configuration, isHub: isHub, healing)
            do throws(StoreError) { try healing.run(need, empty) } catch {
                healing.files.note(error)
                throw cannotUse(configuration, error)
            }
        }
        try Runtime(configuration, isHub: isHub, healing).run()
        let files = healing.files
        if Files.exists(files.crash) || Files.exists(files.damage) {
            throw StartError(joined(configuration.data, ": the store is damaged; the next start mends it"))
        }
    }

    /// Lets something answer while the store is mended. Where that cannot be, as on a full disk, it is mended all the same.
    /// - Returns: an empty store; nil: there is none.
    private static func standIn(_ configuration: Configuration, isHub: Bool, _ healing: Healing) -> Database? {
        var empty: Database?
        do throws(StartError) {
            if !healing.hasRoom { throw StartError(StoreError.full.message) }
            let runtime = try Runtime(configuration, isHub: isHub, healing, isStandIn: true)
            empty = runtime.database
            runtime.health.beginMending()
            runtime.intake.close()
            do throws(SystemError) {
                let server = try runtime.makeServer()
                try server.start()
                healing.standIn = server
            } catch {
                throw cannotListen(configuration, error)
            }
        } catch {
            Log.warning("nothing answers while the store is mended", because: error.message)
        }
        return empty
    }

    @inline(never)
    private static func cannotUse(_ configuration: Configuration, _ error: StoreError) -> StartError {
        StartError(joined(configuration.data, ": ", error.message))
    }

    @inline(never)
    private static func cannotListen(_ configuration: Configuration, _ error: SystemError) -> StartError {
        let port = String(Int(configuration.listen.port))
        return StartError(joined(configuration.listen.host, ":", port, joined(": ", error.message)))
    }

    /// Opens what is needed; nothing runs yet.
    /// - Parameter isStandIn: with an empty store of its own, in place of one that is being mended.
    private init(
        _ configuration: Configuration, isHub: Bool, _ healing: Healing, isStandIn: Bool = false
    ) throws(StartError) {
        self.configuration = configuration
        self.healing = healing
        snapshots = SnapshotKeeper(configuration, healing.files)
        access = AccessList(configuration.tokens)
        watch = PlanWatch(sources: access.sources)
        self.isHub = isHub
        var random = SystemRandom()
        do throws(StoreError) {
            database = try Database(
                folder: isStandIn ? healing.standInFolder : configuration.data,
                mapBytes: isStandIn ? Limits.standInBytes : configuration.diskBytes ?? Store.Limits.defaultMapBytes,
                synchronous: !isStandIn, lock: isStandIn ? nil : healing.lock)
            if isStandIn { try healing.takeKept(to: database) }
            identity = try DeviceIdentity.establish(database, configured: configuration.device, &random)
            let transaction = try database.beginWrite()
            signal = LogSignal(
                next: try Ledger(transaction).nextSequence, urgent: try transaction.lastNumber(database.tables.urgent) ?? 0)
            floor = try ClockFloor.read(transaction)
            try Rebuilds(transaction).show(meters)
            // A snapshot that nobody has taken into use would bring back what was erased, and numbers that were given.
            let mark = Snapshot.mark
            if try transaction.get(transaction.tables.meta, mark.span) != nil { throw .damaged("it was not taken into use") }
        } catch {
            if !isStandIn { healing.files.note(error) }
            throw Runtime.cannotUse(configuration, error)
        }
        let now = clock.wallMilliseconds()
        (pepper, rotation) = try Runtime.loadPepper(configuration, database, healing, isStandIn: isStandIn, now, &random)
        floor.warn(now / 1000)
        meters.startedAt.set(now)
        keeper = try BundleKeeper(
            configuration, database, meters, health, floor: floor, fallback: Bundle.builtIn(loadedAt: now))
        bundles = BundleHolder(keeper.bundle)
        shadow = configuration.shadow == nil || isHub ? nil : Shadow()
        records = DecisionBox(meters: meters)
        clerk = RecordClerk(
            database: database, intake: intake, subjects: AuditSubject(root: pepper.root), plans: bundles.plans,
            meters: meters)
        let threads = min(configuration.threads.map { Int($0) } ?? Process.processorCount, Limits.servingThreads)
        do throws(SystemError) { completions = try Completions(threads: max(1, threads)) } catch {
            throw StartError(error.message)
        }
    }

    /// The device's secrets, and the rotation that is under way with them.
    /// - Parameter isStandIn: none are made.
    private static func loadPepper(
        _ configuration: Configuration, _ database: Database, _ healing: Healing, isStandIn: Bool, _ now: Int64,
        _ random: inout SystemRandom
    ) throws(StartError) -> (Peppers, Rotation) {
        let path = configuration.pepperPath
        let isMissing = !Files.exists(path)
        var peppers = Pepper.none
        var isAnother = false
        if !isMissing {
            do throws(PepperError) { peppers = try Pepper.read(path) } catch { throw StartError(error.message) }
        }
        do throws(StoreError) {
            var reader = try database.makeReader()
            try reader.begin()
            isAnother = try Pepper.isAnother(peppers, than: reader)
        } catch {
            healing.files.note(error)
            throw cannotUse(configuration, error)
        }
        // No damage of the store's, which goes on once its secret is there again.
        if isAnother { throw StartError(PepperError.notOfStore(path: path, isMissing: isMissing).message, exitCode: 1) }
        if isMissing, !isStandIn {
            do throws(PepperError) { peppers = try Pepper.load(path, &random) } catch { throw StartError(error.message) }
        }
        var rotation: Rotation
        do throws(StoreError) {
            var transaction = try database.beginWrite()
            rotation = try Rotation(peppers, now: now, in: &transaction)
            try transaction.commit()
        } catch {
            healing.files.note(error)
            throw cannotUse(configuration, error)
        }
        rotation.milliseconds = configuration.rotationMilliseconds
        if rotation.isLasting { Log.info("a rotation of the pepper is under way") }
        if peppers.former == nil || rotation.isLasting { return (peppers, rotation) }
        // It ended, and then the device before the file was replaced.
        Pepper.dropFormer(configuration.pepperPath)
        return (Peppers(present: peppers.present, former: nil, root: peppers.root), rotation)
    }

    /// Reads the bundle that runs beside the one in force. One that is wrong is said to be, and none runs.
    func loadShadow() {
        guard let shadow, let path = configuration.shadow else { return }
        var next: Bundle?
        do throws(BundleRefusal) {
            let text = try BundleSource.read(path, Limits.bundleBytes, .unreachable)
            next = try BundleSource.check(text, path, now: clock.wallMilliseconds())
            Log.info("a shadow runs beside the bundle") { $0.field("version", Int64(next?.policy.version ?? 0)) }
        } catch {
            Log.error("the shadow is wrong; none runs", because: error.words)
        }
        shadow.replace(with: next?.policy, beside: bundles.current.policy)
    }

    /// Runs until SIGTERM or SIGINT. SIGHUP reads the bundle anew.
    private func run() throws(StartError) {
        do throws(SystemError) {
            let signals = try SignalWatcher()
            // Before connections come here, which would wait for the end of it.
            let pipeline = try makePipeline()
            let server = try makeServer()
            // Before the writer begins: its first commit, and the sync of it, would be waited for.
            try prepareDestinations(bundles.current)
            let writer = try startWriter(pipeline)
            let preparer = try startPreparer()
            let clerkThread = try Thread.spawn(turn: .givesWay) { [clerk] in clerk.run() }
            try startDelivering()
            loadShadow()
            try server.start()
            healing.endStandIn()
            meters.bundleVersion.set(Int64(bundles.current.policy.version))
            let keeping = try startKeeping()
            let snapshotThread = try Thread.spawn(turn: .givesWay) { [snapshots, database, meters] in snapshots.run(database, meters) }
            Log.info(isHub ? "the hub is ready" : "the agent is ready") {
                $0.field("listen", self.configuration.listen.host)
                $0.field("port", Int(server.port))
                $0.field("device", String(decoding: self.identity.device, as: UTF8.self))
                $0.field("bundle", Int64(self.bundles.current.policy.version))
                if !self.bundles.current.isLoaded && !self.isHub {
                    let hasSource = self.configuration.bundleURL != nil
                    $0.field("note", hasSource ? "no bundle was ever fetched" : "no bundle is configured")
                }
            }
            Process.notify("READY=1")
            watch(signals)
            Process.notify("STOPPING=1")
            keeper.stop()
            keeping?.join()
            server.stop()
            snapshots.stop()
            snapshotThread.join()
            stopDelivering()
            clerk.close()
            clerkThread.join()
            intake.close()
            preparer.join()
            writer.join()
            Log.info("stopped")
        } catch {
            throw Runtime.cannotListen(configuration, error)
        }
    }

    private func watch(_ signals: borrowing SignalWatcher) {
        var bound = MemoryBound(limitBytes: configuration.memoryBytes)
        var watchdog = Watchdog()
        while true {
            let wait = min(bound.keep(database, meters, health, clock), watchdog.look(condition))
            _ = try? Socket.wait(signals.raw, toWrite: false, milliseconds: wait)
            switch signals.next() {
            case .terminate, .interrupt: return
            case .hangup: keeper.poke()
            case nil: continue
            }
        }
    }

    /// Where bundles are looked for, tested and exchanged; nil without one.
    private func startKeeping() throws(SystemError) -> Thread? {
        if configuration.bundle == nil, configuration.bundleURL == nil { return nil }
        // The delivery threads are the keeper's to exchange from here on, until it has ended. What reads a bundle goes as deep as
        // its expressions do.
        return try Thread.spawn(stackBytes: 8 << 20, turn: .givesWay) { [self] in keeper.run(self) }
    }

    /// Whether the store has what a bundle needs to be put in force.
    func mayPut(_ next: Bundle) -> Bool {
        do throws(SystemError) {
            try prepareDestinations(next)
            return true
        } catch {
            return false
        }
    }

    /// Puts another bundle in force. Questions and events under way finish with the one that they began with.
    func put(_ next: Bundle) {
        stopDelivering()
        bundles.replace(with: next)
        intake.poke()
        do throws(SystemError) { try startDelivering() } catch {
            Log.error("delivery could not be started again", because: error.message)
        }
    }

    // MARK: Parts

    private var condition: Condition {
        Condition(
            database: database, health: health, meters: meters, senders: senders, completions: completions, floor: floor,
            certificate: certificate, clock: clock)
    }

    @inline(never)
    private func makeServer() throws(SystemError) -> AgentServer {
        var settings = ServerConfiguration()
        var tls: TLSServerConfiguration?
        if let identity = configuration.ownIdentity {
            do throws(TLSError) {
                tls = try TLSServerConfiguration(
                    identity: identity,
                    clientAuthorities: configuration.clientAuthority.map { .file($0) },
                    revoked: configuration.revoked.map { .file($0) }, earliest: floor.seconds)
            } catch {
                Log.error("the certificate cannot be used", because: error.message)
                throw SystemError("tls", code: 22)
            }
        }
        self.certificate = tls
        settings.addresses = [
            .tcp(address: configuration.listen.host, port: configuration.listen.port, tls: tls)
        ]
        if let path = configuration.socket { settings.addresses.append(.unix(path: path, mode: 0o660)) }
        if let limit = configuration.connections { settings.maximumConnections = Int(limit) }
        if let limit = configuration.bodyBytes { settings.maximumBodyBytes = Int(limit) }
        let clock = self.clock
        let table = RoutingTable(
            database: database, intake: intake, access: access, meters: meters,
            plans: bundles.plans, pepper: pepper, device: identity.device, health: health, clerk: clerk, isHub: isHub,
            records: records, shadow: shadow, trace: trace, findings: { [self] in condition.findings() },
            writeMetrics: { [self] metrics, reader in writeMetrics(to: &metrics, condition.findings(), reader) })
        var failure: StoreError?
        let server = try Server(settings, statistics: statistics, completions: completions, clock: clock) { thread in
            do throws(StoreError) { return try Routes(table, thread: thread, clock: clock) } catch {
                failure = error
                preconditionFailure("no reader can be made for a serving thread")
            }
        }
        _ = failure
        return server
    }

    private func writeMetrics(to metrics: inout MetricsWriter, _ findings: [Finding], _ reader: borrowing Reader) {
        MetricsPage(
            meters: meters, statistics: statistics, database: database, bundles: bundles, senders: senders, watch: watch,
            shadow: shadow, health: health, isHub: isHub, floor: floor, findings: findings, now: clock.wallMilliseconds()
        ).write(to: &metrics, reader)
    }

    /// What the hub is told when it asks how this device is: JSON, without personal data.
    private func report(_ reader: borrowing Reader, withMetrics: Bool) -> [UInt8] {
        let (findings, now) = (condition.findings(), clock.wallMilliseconds())
        var writer = JSONWriter(reserving: 4096)
        writer.beginObject()
        writer.key("version")
        writer.string(Runtime.version)
        Readiness(findings, health, meters, bundles.current.policy, now: now).write(to: &writer, isTrusted: true)
        writer.key("metrics")
        if withMetrics {
            var metrics = MetricsWriter()
            writeMetrics(to: &metrics, findings, reader)
            writer.string(metrics.text)
        } else {
            writer.null()
        }
        writer.endObject()
        return writer.bytes
    }

    private func makePipeline() throws(SystemError) -> Pipeline<Chance> {
        do throws(StoreError) {
            var pipeline: Pipeline<Chance>
            do {
                var transaction = try database.beginWrite()
                if configuration.hubURL == nil, !isHub, transaction.count(transaction.tables.changes) > 0 {
                    // Nobody will be told any more; it names the erased.
                    try SharedChanges.remove(upTo: .max, in: &transaction)
                    try transaction.commit()
                    transaction = try database.beginWrite()
                }
                pipeline = try Pipeline(
                    bundles.current.plans, identity, watch: watch, root: pepper.root, rotation: rotation, meters: meters,
                    random: .kernel, transaction)
            }
            pipeline.trace = trace
            pipeline.isHub = isHub
            pipeline.tellsHub = configuration.hubURL != nil && !isHub
            try pipeline.eraseReturned(database, now: clock.wallMilliseconds())
            return pipeline
        } catch {
            throw cannotUse(error)
        }
    }

    /// Says what is wrong with the store, and sees to it that the next start mends it if it is damaged.
    @inline(never)
    private func cannotUse(_ error: StoreError) -> SystemError {
        healing.files.note(error)
        Log.error("the store cannot be used", because: error.message)
        return SystemError("mdb_txn_commit", code: 5)
    }

    private func startWriter(_ made: consuming Pipeline<Chance>) throws(SystemError) -> Thread {
        var pipeline = made
        pipeline.profileLimit = configuration.profiles ?? 0
        pipeline.profileBytesLimit = configuration.profileBytes ?? 0
        let writer = Writer(
            database: database, intake: intake, completions: completions, cursors: cursors, signal: signal,
            bundles: bundles, records: records, meters: meters, health: health, clock: clock, isHub: isHub,
            hasHub: configuration.hubURL != nil && !rotation.isLasting, fleet: configuration.fleet,
            historyBytes: configuration.historyBytes, snapshots: snapshots, pipeline: pipeline,
            decider: Decider(
                device: identity.device, number: 15, pepper: pepper, meters: meters, serves: records.serves),
            floor: floor, formerPepper: pepper.former == nil ? nil : configuration.pepperPath)
        health.writerSeen.set(clock.monotonicNanoseconds())
        // These two do not give way: what waits for them is in memory.
        return try Thread.spawn {
            Thread.name("writer")
            writer.run()
        }
    }

    private func startPreparer() throws(SystemError) -> Thread {
        try Thread.spawn { [intake, bundles, pepper] in
            var preparer = EventPreparer(bundles.plans, pepper: pepper)
            while let submission = intake.takeUnprepared() {
                preparer.prepare(submission)
                intake.addPrepared(submission)
            }
        }
    }

    /// A destination that is new begins with what is admitted from now on.
    private func prepareDestinations(_ bundle: Bundle) throws(SystemError) {
        do throws(StoreError) {
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
        } catch {
            throw cannotUse(error)
        }
    }

    private func startDelivering() throws(SystemError) {
        let bundle = bundles.current
        for entry in bundle.destinations where !entry.destination.isFallbackOnly {
            let stop = StopFlag()
            let cancellation = Cancellation()
            let senderMeters = SenderMeters()
            let outbox: StoreOutbox<SystemClock>
            do throws(StoreError) {
                outbox = try StoreOutbox(
                    bundle: bundle, target: entry, identity: identity, root: pepper.root, database: database,
                    signal: signal, cursors: cursors, intake: intake, meters: meters, trace: trace, clock: clock,
                    stop: stop)
            } catch {
                throw cannotUse(error)
            }
            let transport = makeClient(entry.destination, cancellation)
            let fallback = entry.destination.fallback.map { makeClient(bundle.destinations[$0].destination, cancellation) }
            let clock = self.clock
            let destination = entry.destination
            let thread = try Thread.spawn(turn: .givesWay) {
                var sender = Sender(
                    destination: destination, source: outbox, transport: transport, fallback: fallback,
                    meters: senderMeters, clock: clock, random: SystemRandom())
                sender.run()
                _ = outbox.finish()
            }
            delivering.append(
                Delivering(
                    name: destination.name, thread: thread, stop: stop, cancellation: cancellation, meters: senderMeters))
        }
        senders.set(delivering.map { ($0.name, $0.meters) })
        try startAsking()
    }

    private func makeClient(_ destination: Destination, _ cancellation: Cancellation) -> HTTPSClient<SystemClock> {
        let pins = destination.pins.isEmpty ? configuration.pins : destination.pins
        return makeClient(destination.url, token: destination.token, pins, cancellation)
    }

    private func makeClient(
        _ url: DestinationURL, token: [UInt8]?, _ pins: [Digest256], _ cancellation: Cancellation
    ) -> HTTPSClient<SystemClock> {
        HTTPSClient(
            url: url, token: token, authorities: configuration.trust(pins), version: Runtime.version,
            cancellation: cancellation, clock: clock, floor: floor)
    }

    /// Asks the hub of the configuration what has changed in the fleet.
    private func startAsking() throws(SystemError) {
        guard let url = configuration.hubURL else { return }
        if rotation.isLasting, !isHub { return Log.warning("the hub is not asked while the pepper changes") }
        let purpose = configuration.hubPurposeTag
        if purpose != 0, !isHub, bundles.current.policy.purposes.index(ofTag: purpose) == nil {
            Log.warning("the purpose of hub: is none of the bundle's: nobody grants it, and the hub is told of nobody")
        }
        guard let fingerprint = isHub ? configuration.fleet : Fleet.fingerprint(of: pepper) else {
            return Log.warning("the hub above is not asked: hub: needs fleet: besides")
        }
        let (stop, cancellation) = (StopFlag(), Cancellation())
        let hub: HubClient
        do throws(StoreError) {
            hub = try HubClient(
                configuration, isHub: isHub, client: makeClient(url, token: nil, configuration.pins, cancellation),
                identity: identity, root: pepper.root, fingerprint: fingerprint, database: database, intake: intake,
                bundles: bundles,
                commands: HubCommands(signal: signal, snapshots: snapshots) { [self] reader, withMetrics in
                    report(reader, withMetrics: withMetrics)
                }, stop: stop)
        } catch {
            Log.error("the hub cannot be asked") { $0.field("reason", error.message) }
            throw SystemError("mdb_txn_begin", code: 5)
        }
        delivering.append(
            Delivering(
                name: [], thread: try Thread.spawn(turn: .givesWay) { hub.run() }, stop: stop, cancellation: cancellation,
                meters: SenderMeters()))
    }

    private func stopDelivering() {
        for entry in delivering {
            entry.stop.set()
            entry.cancellation.cancel()
        }
        signal.wake()
        for entry in delivering { entry.thread.join() }
        delivering = []
    }
}

/// The senders' meters, for `/metrics`.
final class SenderList: @unchecked Sendable {
    private let lock = Lock()
    // Under `lock`.
    private var entries: [(name: [UInt8], meters: SenderMeters)] = []

    func set(_ next: [(name: [UInt8], meters: SenderMeters)]) { lock.with { entries = next } }
    var all: [(name: [UInt8], meters: SenderMeters)] { lock.with { entries } }
}
