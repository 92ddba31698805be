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
    var store: String { named("/data.mdb") }
    /// The store that another has replaced. There is one at most.
    var aside: String { named("/aside.mdb") }
    /// Is there after a fault has ended the agent, until the store was looked at.
    var crash: String { named("/crashed") }

    @inline(never)
    private func named(_ name: StaticString) -> String { joined(folder, String(copying: name.bytes)) }

    /// The agent's own snapshots, 1 the newest; 0 comes to be one.
    @inline(never)
    func snapshot(_ number: Int64) -> String { joined(folder, "/snapshot-", String(number), ".mdb") }

    /// Sets the store aside and puts another file in its place. A power cut leaves either there.
    @inline(never)
    func replaceStore(with path: String) throws(StoreError) {
        let store = self.store
        do throws(SystemError) {
            if Files.exists(store) {
                Files.remove(aside)
                try Files.link(store, as: aside)
            }
            try Files.move(path, over: store)
        } catch {
            throw StoreError(error)
        }
        // Whoever looks on at the former file has that of readers, too.
        Files.remove(named("/lock.mdb"))
    }

    /// Removes all that may have what the store does not have any more, for good.
    @inline(never)
    func removeCopies() {
        // Of one that was not finished.
        Database.remove(joined(snapshot(0), ".new"))
        var isThere = false
        // Beginning with what was set aside.
        for number in -1...Limits.snapshots.upperBound {
            let path = number < 0 ? aside : snapshot(number)
            if !Files.exists(path) { continue }
            isThere = true
            Files.remove(path)
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

final class Healing {
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
    @inline(never)
    func need() -> Need {
        guard Files.size(files.store) ?? 0 > 0 else {
            return Files.exists(files.aside) || Files.exists(files.snapshot(1)) ? .replacement : .nothing
        }
        do throws(StoreError) {
            let file = try StoreFile(files.store)
            try file.check(isDeep: false)
            if file.isShort || Files.exists(files.crash) { return .look }
            if try file.value(of: Snapshot.mark, in: "meta") != nil { return .adoption }
            let free = try file.freeBytes()
            return free > Limits.leastCompactedBytes && free > file.bytes / 2 ? .compaction : .nothing
        } catch {
            // Whoever opens it says what else it is.
            if case .damaged = error { return .replacement }
            return .nothing
        }
    }

    /// Does what is needed. A power cut in the middle leaves a store that needs it again.
    /// - Parameter empty: a store without anything in it.
    @inline(never)
    func run(_ need: Need, _ empty: Database) throws(StoreError) {
        if need == .compaction {
            Log.info("most of the store is free; it is written anew")
            _ = try Database.compact(folder: files.folder)
        }
        if need == .replacement || need == .look && !isWhole() { try replace(empty) }
        Files.remove(files.crash)
        guard let mark = try StoreFile(files.store).value(of: Snapshot.mark, in: "meta") else { return }
        try adopt(NumberKey.decode(mark.span) ?? 0)
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
    @inline(never)
    private func replace(_ empty: Database) throws(StoreError) {
        Healing.complain("the store is damaged; it is set aside", files.aside)
        for number in Limits.snapshots where number > 0 {
            let path = files.snapshot(number)
            if !Files.exists(path) { continue }
            if Snapshot.time(of: path, isWhole: true) != nil { return try files.replaceStore(with: path) }
            Healing.complain("a snapshot is damaged as well", path)
        }
        let fresh = files.snapshot(0)
        _ = try empty.snapshot(to: fresh, at: 0, mayGoOn: nil)
        try files.replaceStore(with: fresh)
    }

    @inline(never)
    private static func complain(_ words: StaticString, _ path: String) {
        Log.error(words) { $0.field("file", path) }
    }

    // MARK: Taking a snapshot into use

    /// Makes a store of a snapshot: with what was refused and erased since, and with numbers that were never given.
    private func adopt(_ takenAt: UInt64) throws(StoreError) {
        let database = try Database(folder: files.folder, mapBytes: mapBytes)
        // With no other store beside it somebody has brought it here, and answers for it.
        if try !takeOver(database), Files.exists(files.aside) {
            try withdrawGrants(database.tables.consent, database)
            try withdrawGrants(database.tables.consentParts, database)
            Log.warning("what people refused last cannot be read: whatever was granted has to be granted anew")
        }
        let admitted = admittedBefore()
        let lost = try beginAnew(takenAt, admitted, database)
        Log.warning("the store is another one than before") {
            let time = Timestamp.write(Int64(clamping: takenAt))
            $0.field("from", takenAt == 0 ? "nothing" : String(decoding: time, as: UTF8.self))
            $0.field("lost", admitted == nil ? "unknown" : String(lost))
        }
    }

    /// Notes that another store took this one's place, and that it is one that is in use.
    /// - Returns: how many events were lost, as far as is known.
    @inline(never)
    private func beginAnew(_ takenAt: UInt64, _ admitted: UInt64?, _ database: Database) throws(StoreError) -> UInt64 {
        var transaction = try database.beginWrite()
        let ledger = try Ledger(transaction)
        try DeviceIdentity.beginLife(from: ledger.nextSequence, &random, in: &transaction)
        var rebuilds = try Rebuilds(transaction)
        var lost: UInt64 = 0
        if let admitted { lost = admitted - min(admitted, ledger.admitted) } else { rebuilds.unknown += 1 }
        rebuilds.count += 1
        rebuilds.at = UInt64(clamping: now)
        rebuilds.takenAt = takenAt
        rebuilds.lost += lost
        try rebuilds.write(&transaction)
        let (meta, returned, mark) = (database.tables.meta, Healing.returned, Snapshot.mark)
        try transaction.put(meta, returned.span, returned.span)
        try transaction.delete(meta, mark.span)
        try transaction.commit()
        return lost
    }

    /// In `meta` until it was seen to it that nobody is back who was erased.
    static let returned: [UInt8] = Array("returned".utf8)

    /// How many events the store that was set aside had admitted; nil: that cannot be read.
    @inline(never)
    private func admittedBefore() -> UInt64? {
        do throws(StoreError) {
            guard let record = try StoreFile(files.aside).value(of: Ledger.key, in: "accounts") else { return nil }
            return try Ledger(record: record.span).admitted
        } catch {
            return nil
        }
    }

    /// Tables of the store that was set aside: who was erased, what was refused, and at last who it is and which bundles it
    /// has had.
    private static let takenOver: [StaticString] = ["suppressed", "consent_parts", "meta"]
    private static let kept: [StaticString] = ["device", "bundle", "known_time"]

    /// Takes over what the store that was set aside has.
    /// - Returns: false when who was erased and what was refused cannot be read to its end.
    @inline(never)
    private func takeOver(_ database: Database) throws(StoreError) -> Bool {
        var isKnown = true
        var transaction = try database.beginWrite()
        var people = People(epoch: 0)
        people.mark = try Rotation.mark(transaction)
        var taken = 0
        for number in 0..<3 {
            guard let aside = try? StoreFile(files.aside) else { return false }
            aside.begin(Healing.takenOver[number])
            while aside.next() {
                taken += 1
                if taken % Limits.sweptPerStep == 0 {
                    try transaction.commit()
                    transaction = try database.beginWrite()
                }
                let (key, value) = (aside.key, aside.value)
                switch number {
                case 0: _ = try transaction.insert(database.tables.suppressed, key.span, value.span)
                case 1:
                    let newcomer = ProfileID(high: random.next(), low: random.next())
                    try people.takeRefusals(of: value.span, under: key.span, newcomer: newcomer, now: now, in: &transaction)
                default:
                    for name in Healing.kept where equal(name.bytes, key.span) {
                        try transaction.put(database.tables.meta, key.span, value.span)
                    }
                }
            }
            if number < 2, aside.fault != nil { isKnown = false }
        }
        try transaction.commit()
        return isKnown
    }

    @inline(never)
    private func withdrawGrants(_ table: Table, _ database: Database) throws(StoreError) {
        var start: [UInt8]? = []
        while let first = start {
            start = nil
            var keys: [[UInt8]] = []
            var transaction = try database.beginWrite()
            try transaction.scan(table, from: first.span) { key, _ in
                keys.append([UInt8](copying: key))
                return keys.count <= Limits.sweptPerStep
            }
            if keys.count > Limits.sweptPerStep { start = keys.removeLast() }
            for key in keys {
                var record: [UInt8] = []
                if let value = try transaction.get(table, key.span) { record = ConsentRecord.withdrawing(value, at: now) }
                try transaction.put(table, key.span, record.span)
            }
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
