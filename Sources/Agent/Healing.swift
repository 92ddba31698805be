// A start holds the store's file against itself before LMDB opens it. One that is damaged is set aside, and the newest whole
// snapshot takes its place, or an empty store; decisions are answered meanwhile by a stand-in that knows nobody. Refusals
// and erasures that the damaged file still shows are taken over. Where it does not show them, whoever had granted something
// has to do so again: it is not known what they chose since (promise P4).

import Formats
import Governance
import Monitoring
import Platform
import Store
import Unification

/// What lies in a data folder beside the store itself.
struct StoreFiles {
    let folder: String
    var store: String { joined(folder, "/data.mdb") }
    /// The store that another has replaced. There is one at most.
    var aside: String { joined(folder, "/aside.mdb") }
    /// Is there after a fault has ended the agent, until the store was looked at.
    var crash: String { joined(folder, "/crashed") }

    /// The agent's own snapshots, 1 the newest; 0 comes to be one.
    func snapshot(_ number: Int64) -> String { joined(folder, "/snapshot-", String(number), ".mdb") }

    /// Sets the store aside and puts another file in its place. A power cut leaves either there.
    func replaceStore(with path: String) throws(SystemError) {
        if Files.exists(store) {
            Files.remove(aside)
            try Files.link(store, as: aside)
        }
        try Files.move(path, over: store)
        // Whoever looks on at the former file has that of readers, too.
        Files.remove(joined(folder, "/lock.mdb"))
    }

    /// Removes all that may have what the store does not have any more, for good.
    func removeCopies() {
        // Of one that was not finished.
        Database.remove(joined(snapshot(0), ".new"))
        var isThere = Files.exists(aside)
        Files.remove(aside)
        for number in Limits.snapshots where Files.exists(snapshot(number)) {
            isThere = true
            Files.remove(snapshot(number))
        }
        if isThere { try? Files.synchronizeDirectory(of: store) }
    }
}

/// How often another store took this one's place, and what was lost by it; in `meta` under `rebuilds`.
struct Rebuilds {
    var count: UInt64 = 0
    /// The last time, and when the snapshot was taken that it is from (0: it was empty); milliseconds since the epoch.
    var at: UInt64 = 0
    var takenAt: UInt64 = 0
    /// Events that had been admitted since, of all times together; and how often that could not be read any more.
    var lost: UInt64 = 0
    var unknown: UInt64 = 0

    private static let key = Array("rebuilds".utf8)

    init(_ transaction: borrowing WriteTransaction) throws(StoreError) {
        let key = Rebuilds.key
        guard let value = try transaction.get(transaction.tables.meta, key.span),
            let numbers = Record.decode(value, count: 5)
        else { return }
        (count, at, takenAt, lost, unknown) = (numbers[0], numbers[1], numbers[2], numbers[3], numbers[4])
    }

    func show(_ meters: Meters) {
        meters.storeRebuilds.set(Int64(clamping: count))
        meters.storeRebuiltAt.set(Int64(clamping: at))
        meters.storeLostEvents.set(Int64(clamping: lost))
        meters.storeLossesUnknown.set(Int64(clamping: unknown))
    }

    func write(_ transaction: inout WriteTransaction) throws(StoreError) {
        let record = Record.encode([count, at, takenAt, lost, unknown])
        let key = Rebuilds.key
        try transaction.put(transaction.tables.meta, key.span, record.span)
    }
}

struct Healing {
    enum Need {
        /// The store may be opened as it is.
        case nothing
        /// It has to be looked at whole.
        case look
        /// It is damaged, or gone.
        case replacement
        /// It is a snapshot that was put there.
        case adoption
        /// Most of it is free.
        case compaction
    }

    private let files: StoreFiles
    private let mapBytes: Int64
    private let now = SystemClock().wallMilliseconds()
    private var random = SystemRandom()

    init(_ configuration: Configuration) {
        files = StoreFiles(folder: configuration.data)
        mapBytes = configuration.diskBytes ?? Store.Limits.defaultMapBytes
    }

    /// What is to be done before the store is opened. Costs some reads of single pages.
    func need() -> Need {
        guard Files.size(files.store) ?? 0 > 0 else {
            return Files.exists(files.aside) || Files.exists(files.snapshot(1)) ? .replacement : .nothing
        }
        do throws(StoreError) {
            let file = try StoreFile(files.store)
            try file.check(isDeep: false)
            if file.isShort || Files.exists(files.crash) { return .look }
            if try Healing.takenAt(file) != nil { return .adoption }
            let free = try file.freeBytes()
            return free > Limits.leastCompactedBytes && free > file.bytes / 2 ? .compaction : .nothing
        } catch {
            // Whoever opens it says what else it is.
            if case .damaged = error { return .replacement }
            return .nothing
        }
    }

    /// When the snapshot was taken that the file is; nil: it is none.
    private static func takenAt(_ file: borrowing StoreFile) throws(StoreError) -> UInt64? {
        var time: UInt64?
        let mark = Snapshot.mark
        try file.forEach("meta") { key, value in
            if equal(key, mark.span) { time = NumberKey.decode(value) ?? 0 }
            return true
        }
        return time
    }

    /// Does what is needed. A power cut in the middle leaves a store that needs it again.
    /// - Parameter empty: a store without anything in it.
    mutating func run(_ need: Need, _ empty: Database) throws(StoreError) {
        if need == .compaction {
            let (before, after) = try Database.compact(folder: files.folder)
            Log.info("most of the store was free; it was written anew") {
                $0.field("bytes", before)
                $0.field("now", after)
            }
        }
        if need == .replacement || need == .look && !isWhole() { try replace(empty) }
        Files.remove(files.crash)
        guard let takenAt = try Healing.takenAt(StoreFile(files.store)) else { return }
        try adopt(takenAt)
    }

    private func isWhole() -> Bool {
        do throws(StoreError) {
            try StoreFile(files.store).check(isDeep: true)
            return true
        } catch {
            return false
        }
    }

    /// Sets the store aside and puts the newest snapshot that is whole in its place.
    private func replace(_ empty: Database) throws(StoreError) {
        Log.error("the store is damaged; it is set aside") { $0.field("as", files.aside) }
        do throws(SystemError) {
            for number in Limits.snapshots where number > 0 {
                let path = files.snapshot(number)
                if !Files.exists(path) { continue }
                if Snapshot.time(of: path, isWhole: true) != nil { return try files.replaceStore(with: path) }
                Log.error("a snapshot is damaged as well") { $0.field("file", path) }
            }
        } catch {
            throw .failed(error.operation, code: error.code)
        }
        let fresh = files.snapshot(0)
        _ = try empty.snapshot(to: fresh, at: 0) { true }
        do throws(SystemError) { try files.replaceStore(with: fresh) } catch {
            throw .failed(error.operation, code: error.code)
        }
    }

    // MARK: Taking a snapshot into use

    /// Makes a store of a snapshot: with what was refused and erased since, and with numbers that were never given.
    private mutating func adopt(_ takenAt: UInt64) throws(StoreError) {
        let database = try Database(folder: files.folder, mapBytes: mapBytes)
        let (meta, suppressed) = (database.tables.meta, database.tables.suppressed)
        var isKnown = try takeOver("suppressed", database) { key, value, transaction throws(StoreError) in
            _ = try transaction.insert(suppressed, key, value)
        }
        var people = People(epoch: 0)
        people.mark = try Rotation.mark(database.beginWrite())
        var random = random
        let hasRefusals = try takeOver("consent_parts", database) { key, value, transaction throws(StoreError) in
            let newcomer = ProfileID(high: random.next(), low: random.next())
            try people.takeRefusals(of: value, under: key, newcomer: newcomer, now: now, in: &transaction)
        }
        isKnown = isKnown && hasRefusals
        // Who it is, and which bundles it has had.
        let kept = ["device", "bundle", "known_time"].map { Array($0.utf8) }
        _ = try takeOver("meta", database) { key, value, transaction throws(StoreError) in
            for name in kept where equal(name.span, key) { try transaction.put(meta, key, value) }
        }
        // With no other store beside it somebody has brought it here, and answers for it.
        if !isKnown, Files.exists(files.aside) {
            for table in [database.tables.consent, database.tables.consentParts] { try withdrawGrants(table, database) }
            Log.warning("what people refused last cannot be read: whatever was granted has to be granted anew")
        }
        let admitted = admittedBefore()
        var transaction = try database.beginWrite()
        let ledger = try Ledger(transaction)
        try DeviceIdentity.beginLife(from: ledger.nextSequence, &random, in: &transaction)
        var rebuilds = try Rebuilds(transaction)
        let lost = admitted.map { $0 - min($0, ledger.admitted) } ?? 0
        rebuilds.count += 1
        rebuilds.at = UInt64(clamping: now)
        rebuilds.takenAt = takenAt
        rebuilds.lost += lost
        if admitted == nil { rebuilds.unknown += 1 }
        try rebuilds.write(&transaction)
        let (returned, mark) = (Healing.returned, Snapshot.mark)
        try transaction.put(meta, returned.span, returned.span)
        try transaction.delete(meta, mark.span)
        try transaction.commit()
        Log.warning("the store is another one than before") {
            let time = Timestamp.write(Int64(clamping: takenAt))
            $0.field("from", takenAt == 0 ? "nothing" : String(decoding: time, as: UTF8.self))
            $0.field("lost", admitted == nil ? "unknown" : String(lost))
        }
    }

    /// In `meta` until it was seen to it that nobody is back who was erased.
    static let returned: [UInt8] = Array("returned".utf8)

    /// How many events the store that was set aside had admitted; nil: that cannot be read.
    private func admittedBefore() -> UInt64? {
        var admitted: UInt64?
        let name = Ledger.key
        do throws(StoreError) {
            try StoreFile(files.aside).forEach("accounts") { key, value in
                if equal(key, name.span), let ledger = try? Ledger(record: value) { admitted = ledger.admitted }
                return true
            }
        } catch {
            return nil
        }
        return admitted
    }

    /// Hands over what a table of the store that was set aside has.
    /// - Returns: false when it cannot be read to its end.
    private func takeOver(
        _ table: StaticString, _ database: Database,
        _ take: (Span<UInt8>, Span<UInt8>, inout WriteTransaction) throws(StoreError) -> Void
    ) throws(StoreError) -> Bool {
        var failure: StoreError?
        var entries: [(key: [UInt8], value: [UInt8])] = []
        func write() -> Bool {
            do throws(StoreError) {
                var transaction = try database.beginWrite()
                for (key, value) in entries { try take(key.span, value.span, &transaction) }
                try transaction.commit()
            } catch {
                failure = error
            }
            entries.removeAll(keepingCapacity: true)
            return failure == nil
        }
        var isWhole = true
        do throws(StoreError) {
            try StoreFile(files.aside).forEach(table) { key, value in
                entries.append(([UInt8](copying: key), [UInt8](copying: value)))
                return entries.count < Limits.sweptPerStep || write()
            }
        } catch {
            isWhole = false
        }
        _ = failure == nil && write()
        if let failure { throw failure }
        return isWhole
    }

    private func withdrawGrants(_ table: Table, _ database: Database) throws(StoreError) {
        var start: [UInt8]? = []
        while let first = start {
            start = nil
            var records: [(key: [UInt8], value: [UInt8])] = []
            var transaction = try database.beginWrite()
            try transaction.scan(table, from: first.span) { key, value in
                if records.count == Limits.sweptPerStep {
                    start = [UInt8](copying: key)
                    return false
                }
                records.append(([UInt8](copying: key), ConsentRecord.withdrawing(value, at: now)))
                return true
            }
            for (key, value) in records { try transaction.put(table, key.span, value.span) }
            try transaction.commit()
        }
    }
}

extension Pipeline {
    /// Erases once more whom another state of the store has brought back.
    mutating func eraseReturned(_ database: Database, now: Int64) throws(StoreError) {
        var start: [UInt8]? = []
        while let first = start {
            var transaction = try database.beginWrite()
            let (meta, returned) = (transaction.tables.meta, Healing.returned)
            if try transaction.get(meta, returned.span) == nil { return }
            let (people, next) = try IdentityGraph.erased(from: first, suppression, looks: Limits.sweptPerStep, in: transaction)
            for person in people { _ = try erase(person, nil, actor: Array("device".utf8), now: now, &transaction) }
            start = next.isEmpty ? nil : next
            if start == nil { try transaction.delete(meta, returned.span) }
            try transaction.commit()
        }
    }
}
