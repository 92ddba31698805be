// A device without threads, disk syncs or a network: the pipeline over a real store, whose clock is moved by the test.
import Collection
import Cryptography
import Formats
import Governance
import Monitoring
import Platform
import Serving

@testable import Agent
@testable import Delivery
@testable import Store
@testable import Unification

/// 2026-01-31T12:00:00Z
let noon: Int64 = 1_769_860_800_000
let day: Int64 = 86_400_000

struct MovedClock: Clock {
    let now: Int64
    func wallMilliseconds() -> Int64 { now }
    func monotonicNanoseconds() -> Int64 { 0 }
}

/// A device without threads.
final class Device {
    let folder: String
    let database: Database
    private(set) var bundle: Bundle
    private let epoch: UInt64
    let meters = Meters()
    let pepper: Peppers
    var pipeline: Pipeline<SeededRandom>
    var now: Int64
    /// The folder stays when this device is gone: another goes on with it.
    var leavesFolder = false
    var monotonic: Int64 = 0

    init(
        _ text: String, epoch: UInt64 = 1, seed: UInt64 = 1, mapBytes: Int64 = 16 << 20,
        pepper: Peppers = Peppers(key: [UInt8](repeating: 7, count: 32)), folder kept: String? = nil, now time: Int64 = noon
    ) {
        self.pepper = pepper
        now = time
        var random = SystemRandom()
        folder = kept ?? "/tmp/gatehouse-device-test-\(random.next())"
        bundle = Device.read(text)
        self.epoch = epoch
        do {
            database = try Database(folder: folder, mapBytes: mapBytes, synchronous: false)
            var beginning = try database.beginWrite()
            let rotation = try Rotation(pepper, now: now, in: &beginning)
            try beginning.commit()
            let transaction = try database.beginWrite()
            pipeline = try Pipeline(
                bundle.plans, DeviceIdentity(device: [], epoch: epoch), watch: PlanWatch(sources: []), root: pepper.root,
                rotation: rotation, meters: meters, random: SeededRandom(seed: seed), transaction)
        } catch { fatalError(error.message) }
        noteAttributes()
    }

    private static func read(_ text: String) -> Bundle {
        let bytes = Array(text.utf8)
        let (bundle, problems) = Bundle.read(bytes.span, loadedAt: noon)
        guard let bundle else { fatalError("\(problems)") }
        return bundle
    }

    private func noteAttributes() {
        let now = self.now
        write { transaction throws(StoreError) in try self.pipeline.noteAttributes(now, &transaction) }
    }

    /// Another bundle is in force, as after a SIGHUP.
    func adopt(_ text: String) {
        bundle = Device.read(text)
        pipeline.adopt(bundle.plans)
        noteAttributes()
    }

    var isRecomputing: Bool { pipeline.isRecomputing }

    /// Steps of the recomputation, until nothing is left of it or so many are taken.
    func recompute(steps most: Int = 10_000) {
        var steps = 0
        while isRecomputing, steps < most {
            monotonic += 50_000_000
            let (now, monotonic) = (self.now, self.monotonic)
            write { transaction throws(StoreError) in
                try self.pipeline.recompute(
                    self.bundle.plans, now: now, monotonic: monotonic, try DiskRoom(self.database), &transaction)
            }
            pipeline.showRecomputation()
            steps += 1
        }
    }

    /// Names of the attributes that do not know of all events of a person.
    func incomplete(_ kind: String, _ value: String) -> [String] {
        guard let person = person(kind, value) else { return [] }
        let plan = bundle.policy.attributes
        do {
            var reader = try database.makeReader()
            try reader.begin()
            let key = AttributeHistory.key
            var history: AttributeHistory?
            if let record = try reader.get(reader.tables.meta, key.span) { history = AttributeHistory(record) }
            let firstSeen = try IdentityGraph.firstSeen(person, in: reader)
            let id = person.bytes
            var passedOver: Int64?
            if let record = try reader.get(reader.tables.consent, id.span) { passedOver = ConsentRecord.passedOver(record) }
            return history?.incomplete(plan, firstSeen: firstSeen, passedOver: passedOver, now: now).map {
                String(decoding: plan.attributes[$0].name, as: UTF8.self)
            } ?? ["damaged"]
        } catch { fatalError("the store cannot be read") }
    }

    /// Takes entries out of the log, as trimming does.
    func trim(below bound: UInt64) {
        write { transaction throws(StoreError) in
            _ = try transaction.deleteNumbers(transaction.tables.log, below: bound, atMost: Int.max)
        }
    }

    /// Begins anew as after a power cut, with what the store has; perhaps with another bundle.
    func restart(_ text: String? = nil) {
        if let text { bundle = Device.read(text) }
        do {
            var beginning = try database.beginWrite()
            let rotation = try Rotation(pepper, now: now, in: &beginning)
            try beginning.commit()
            let transaction = try database.beginWrite()
            pipeline = try Pipeline(
                bundle.plans, DeviceIdentity(device: [], epoch: epoch), watch: PlanWatch(sources: []), root: pepper.root,
                rotation: rotation, meters: meters, random: SeededRandom(seed: UInt64(now)), transaction)
        } catch { fatalError(error.message) }
        noteAttributes()
    }

    /// What the writer does once time has moved on, until nothing is due.
    /// - Parameter commits: false for a transaction that does not happen.
    /// - Returns: how many timers were looked at.
    @discardableResult
    func takeTimers(commits: Bool = true) -> Int {
        var read = 0
        let mark = (pipeline.ledger, pipeline.nextTimer)
        do throws(StoreError) {
            repeat {
                var transaction = try database.beginWrite()
                read += try pipeline.takeTimers(bundle.plans, now: now, atMost: 4096, true, &transaction)
                if !commits { break }
                try pipeline.ledger.write(to: &transaction)
                try transaction.commit()
            } while pipeline.nextTimer <= now
        } catch { fatalError(error.message) }
        if !commits { (pipeline.ledger, pipeline.nextTimer) = mark }
        return read
    }

    /// Moves the clock on in steps, and lets happen what comes due.
    func pass(_ milliseconds: Int64, steps: Int = 1) {
        for _ in 0..<steps {
            now += milliseconds / Int64(steps)
            takeTimers()
        }
    }

    /// The texts of the events that the device has made, oldest first.
    func generated() -> [String] {
        var texts: [String] = []
        write { transaction throws(StoreError) in
            try transaction.scan(transaction.tables.log, from: Span<UInt8>()) { _, value in
                if let entry = LogEntryView(value), entry.header.isGenerated {
                    texts.append(String(decoding: [UInt8](copying: entry.body), as: UTF8.self))
                }
                return true
            }
        }
        return texts
    }

    deinit {
        if leavesFolder { return }
        for name in ["data.mdb", "lock.mdb", "gatehouse.lock"] { Files.remove(folder + "/" + name) }
        Files.removeDirectory(folder)
    }

    func write<Result>(_ body: (inout WriteTransaction) throws(StoreError) -> Result) -> Result {
        do throws(StoreError) {
            var transaction = try database.beginWrite()
            let result = try body(&transaction)
            try transaction.commit()
            return result
        } catch { fatalError(error.message) }
    }

    /// Takes one event of a person who grants these purposes.
    func take(_ user: String, _ event: String, _ properties: String = "{}", grants: [String] = ["analytics"], denies: [String] = []) {
        var choices: [String] = []
        for name in grants { choices.append("\"\(name)\": true") }
        for name in denies { choices.append("\"\(name)\": false") }
        take("""
            {"type": "track", "userId": "\(user)", "event": "\(event)", "properties": \(properties), "context":
            {"till": {"number": 4}, "consent": {"categoryPreferences": {\(choices.joined(separator: ", "))}}}}
            """)
    }

    /// Takes one event.
    /// - Parameter earlier: the bundle by which it was prepared, if that is not in force any more.
    func take(_ json: String, by earlier: Bundle? = nil) {
        let plans = (earlier ?? bundle).plans
        let text = Array(json.utf8)
        let submission = Submission()
        let span = text.span
        do { try submission.document.parse(span) } catch { fatalError("the test's event is wrong") }
        submission.receivedAt = now
        var preparer = EventPreparer(PlanHolder(plans), pepper: pepper)
        preparer.prepare(submission)
        pipeline.use(plans)
        write { transaction throws(StoreError) in
            for event in submission.events {
                _ = try self.pipeline.process(
                    submission, event, Envelope(receivedAt: submission.receivedAt), in: &transaction)
            }
            try self.pipeline.stretches.keep(in: &transaction)
            try self.pipeline.ledger.write(to: &transaction)
        }
    }

    /// Steps of the sweep until a whole pass is over.
    func sweep() {
        pipeline.retention.beginAnew()
        var steps = 0
        repeat {
            monotonic += 50_000_000
            let (now, monotonic) = (self.now, self.monotonic)
            write { transaction throws(StoreError) in
                try self.pipeline.sweep(
                    self.bundle.plans, now: now, monotonic: monotonic, try DiskRoom(self.database), &transaction)
            }
            steps += 1
        } while pipeline.retention.stage != .resting && steps < 10_000
    }

    /// Steps towards the end of a rotation, until there is nothing more to do.
    func endRotation(atMost: Int = 10_000, erasures: [Erasure] = []) {
        monotonic += 3_600_000_000_000
        var steps = 0
        repeat {
            monotonic += 50_000_000
            let (now, monotonic) = (self.now, self.monotonic)
            write { transaction throws(StoreError) in
                try self.pipeline.endRotation(
                    erasures, now: now, monotonic: monotonic, try DiskRoom(self.database), &transaction)
            }
            steps += 1
        } while (steps < 3 || pipeline.rotation.isUnderWay) && steps < atMost
    }

    /// Whether so many bytes of a digest are anywhere in the store: in a key or in a value.
    func holds(_ digest: Digest256, bytes size: Int = 32) -> Bool {
        var sought: [UInt8] = []
        digest.append(to: &sought)
        sought.removeLast(32 - size)
        var isFound = false
        for table in database.tables.all {
            write { transaction throws(StoreError) in
                try transaction.scan(table, from: Span<UInt8>()) { key, value in
                    for bytes in [[UInt8](copying: key), [UInt8](copying: value)] where bytes.count >= size {
                        for start in 0...(bytes.count - size) where bytes[start] == sought[0] {
                            if Array(bytes[start..<start + size]) == sought { isFound = true }
                        }
                    }
                    return true
                }
            }
        }
        return isFound
    }

    func count(_ table: (Tables) -> Table) -> Int64 { write { transaction in transaction.count(table(transaction.tables)) } }

    /// What a destination would be given: texts of messages, and how many events are over.
    func delivery(_ number: Int, cursor: UInt64 = 1) -> (text: String, count: Int, expired: Int, passed: Int) {
        let outbox = outbox(number)
        var (texts, count, expired, passed) = ([String](), 0, 0, 0)
        for lane in [Lane.realtime, .batch] {
            var batch = Batch()
            batch.begin(lane, maximumEvents: 1000, maximumBytes: 1 << 20)
            outbox.fill(&batch)
            if batch.count > 0 { texts.append(String(decoding: batch.messages, as: UTF8.self)) }
            count += batch.count
            expired += batch.expiredCount
            passed += batch.passedCount
            if let change = outbox.change(by: batch, CursorChange(delivered: UInt64(batch.count))) { outbox.take(change) }
        }
        return (texts.joined(separator: ","), count, expired, passed)
    }

    /// A destination's outbox as after a start of the agent.
    func outbox(_ number: Int, cursors: CursorBox = CursorBox()) -> StoreOutbox<MovedClock> {
        do {
            let identity = DeviceIdentity(device: Array("till-1".utf8), epoch: 1)
            return try StoreOutbox(
                bundle: bundle, target: bundle.destinations[number], identity: identity, root: pepper.root, database: database,
                signal: LogSignal(next: pipeline.ledger.nextSequence, urgent: pipeline.newestUrgent), cursors: cursors,
                intake: Intake(), meters: meters, clock: MovedClock(now: now), stop: StopFlag())
        } catch { fatalError("the outbox cannot be made") }
    }

    // MARK: People

    /// An identifier as the graph has it.
    func key(_ kind: String, _ value: String) -> IdentifierKey {
        var identifier = hashed(kind, value)
        if identifier.former == nil { return IdentifierKey(identifier) }
        do {
            var reader = try database.makeReader()
            try reader.begin()
            try IdentityGraph.recall(&identifier, in: reader)
        } catch { fatalError("the store cannot be read") }
        return IdentifierKey(identifier)
    }

    /// An identifier as an event's would be.
    func hashed(_ kind: String, _ value: String) -> HashedIdentifier {
        let plan = bundle.policy.identifiers
        let (name, bytes) = (Array(kind.utf8), Array(value.utf8))
        var room = NormalizedIdentifier()
        let (nameSpan, span) = (name.span, bytes.span)
        guard let index = plan.kindIndex(named: nameSpan),
            let identifier = plan.hash(RawIdentifier(span), kindIndex: index, pepper: pepper, using: &room)
        else { fatalError("\(kind):\(value) is no identifier") }
        return identifier
    }

    func person(_ kind: String, _ value: String) -> ProfileID? {
        let key = key(kind, value)
        return write { transaction throws(StoreError) in try IdentityGraph.profile(of: key, in: transaction) }
    }

    /// The attributes of whoever an identifier leads to, as `GET` answers them; empty for nobody, or no profile.
    func attributes(_ kind: String, _ value: String) -> String {
        guard let person = person(kind, value) else { return "" }
        let plan = bundle.policy.attributes
        let now = self.now
        return write { transaction throws(StoreError) in
            let id = person.bytes
            guard let record = try transaction.get(transaction.tables.profiles, id.span) else { return "" }
            var writer = JSONWriter()
            var index = ProfileIndex()
            do {
                let view = try ProfileView(record)
                index.fill(view, plan)
                ProfileWriter.writeAttributes(view, index, plan, now: now, to: &writer)
            } catch { fatalError("damaged") }
            return String(decoding: writer.bytes, as: UTF8.self)
        }
    }

    /// Takes over what another device knows.
    func learn(from other: Device) {
        let policy = bundle.policy
        do {
            var reader = try other.database.makeReader()
            try reader.begin()
            var place: [UInt8]? = []
            while let start = place {
                var transaction = try database.beginWrite()
                var random = pipeline.random
                place = try pipeline.people.learn(
                    from: reader, epoch: other.pipeline.people.epoch, at: start, atMost: 7, suppression: pipeline.suppression,
                    policy.identifiers, policy.attributes, now: now, random: &random, in: &transaction)
                pipeline.random = random
                try transaction.commit()
            }
        } catch { fatalError("a store cannot be read") }
    }

    /// Cuts links as `gatehouse profile unlink` does; the answer is how many.
    func unlink(_ kind: String, _ value: String, from other: (String, String)? = nil) -> Int {
        let (key, end) = (key(kind, value), other.map { self.key($0.0, $0.1) })
        return write { transaction throws(StoreError) in
            try self.pipeline.unlink(key, from: end, actor: [], now: self.now, &transaction)
        }
    }

    /// Each person's identifiers and attributes, as one text that does not depend on who has which id.
    func people(_ universe: [(String, String)]) -> String {
        var groups: [(id: ProfileID, names: [String], attributes: String)] = []
        for (kind, value) in universe {
            guard let id = person(kind, value) else { continue }
            if let index = groups.firstIndex(where: { $0.id == id }) {
                groups[index].names.append("\(kind):\(value)")
            } else {
                groups.append((id, ["\(kind):\(value)"], attributes(kind, value)))
            }
        }
        return groups.map { "\($0.names.sorted().joined(separator: " ")) \($0.attributes)" }.sorted().joined(separator: "\n")
    }
}
