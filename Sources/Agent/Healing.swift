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
    /// Something spoke for damage at this start, and then the whole store was looked at and nothing found.
    var isFoundWhole = false
    var store: String { named("/data.mdb") }
    /// The store in whose place another was put, until that one is in use and has taken over what this one shows.
    var aside: String { named("/aside.mdb") }
    /// The same from then on, to be looked at by somebody. There is one at most.
    var former: String { named("/former.mdb") }
    /// Is there after a fault has ended the agent, or damage was met, until the store was looked at.
    var crash: String { named("/crashed") }
    /// Is there after damage was met that a look does not find, until another store is in the place of this one.
    var damage: String { named("/damaged") }
    /// Is there when most of the store was free, until it was written anew.
    var sparse: String { named("/mostly-free") }
    /// Room on the disk for when there is none.
    var spare: String { named("/spare") }

    init(_ folder: String) { self.folder = folder }

    @inline(never)
    private func named(_ name: StaticString) -> String { joined(folder, String(copying: name.bytes)) }

    /// The agent's own snapshots, 1 the newest; 0 comes to be one.
    @inline(never)
    func snapshot(_ number: Int64) -> String { joined(folder, "/snapshot-", String(number), ".mdb") }

    var hasSnapshot: Bool {
        for number in Limits.snapshots where number > 0 && Files.exists(snapshot(number)) { return true }
        return false
    }

    /// When the snapshot was taken that the store is, milliseconds since the epoch, and 0 for an empty one; nil: it is in use.
    @inline(never)
    func mark() throws(StoreError) -> UInt64? {
        guard let mark = try StoreFile(store).value(of: Snapshot.mark, in: "meta") else { return nil }
        return NumberKey.decode(mark.span) ?? 0
    }

    /// Sets the store aside and puts another file in its place. A power cut leaves either there.
    @inline(never)
    func replaceStore(with path: String) throws(StoreError) {
        settle()
        do throws(SystemError) {
            // What nobody has used yet may go. The one that was set aside for it is the one that has refusals and erasures.
            if Files.exists(store), !Files.exists(aside) { try Files.link(store, as: aside) }
            try Files.move(path, over: store)
            // Only now: a power cut before has left what they speak of.
            Files.remove(crash)
            Files.remove(damage)
        } catch {
            throw StoreError(error)
        }
        // Whoever looks on at the former file has that of readers, too.
        Files.remove(named("/lock.mdb"))
    }

    /// Once the store is in use nothing is taken over any more from the one that was set aside.
    @inline(never)
    func settle() {
        do throws(StoreError) {
            if Files.exists(aside), try mark() == nil {
                try? Files.move(aside, over: former)
                // Where both are the same file already, the kernel leaves both names.
                Files.remove(aside)
            }
        } catch {}
    }

    /// Sees to it that the next start looks at the store, and replaces it where a look does not help. Other errors are no damage.
    /// - Returns: whether it will.
    @discardableResult
    @inline(never)
    func note(_ error: StoreError) -> Bool {
        switch error {
        case .damaged, .badRecord:
            do throws(SystemError) { try Files.replace(isFoundWhole ? damage : crash, with: [], mode: 0o600) } catch { return false }
            return true
        default: return false
        }
    }

    /// Removes what a power cut has left of a copy.
    @inline(never)
    func removeUnfinished() {
        Files.remove(snapshot(0))
        Database.remove(joined(snapshot(0), ".new"))
        Database.remove(named("/compact"))
    }

    /// Removes all that may have what the store does not have any more, for good.
    @inline(never)
    func removeCopies() {
        settle()
        // Of one that was not finished.
        Database.remove(joined(snapshot(0), ".new"))
        var isThere = false
        // Beginning with what was set aside.
        for number in -1...Limits.snapshots.upperBound {
            let path = number < 0 ? former : snapshot(number)
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
        /// It was one, and whoever was erased has yet to be erased once more.
        case erasures
        /// Most of it was free.
        case compaction
    }

    /// The data folder's, from the first look at it until the store is closed.
    let lock: StoreLock
    private(set) var files: StoreFiles
    /// What answers meanwhile, and until something takes its place.
    var standIn: AgentServer?
    private let mapBytes: Int64
    private let now = SystemClock().wallMilliseconds()
    private var random = SystemRandom()

    /// - Throws: `.inUse` when somebody else has the folder.
    init(_ configuration: Configuration) throws(StoreError) {
        files = StoreFiles(configuration.data)
        mapBytes = configuration.diskBytes ?? Store.Limits.defaultMapBytes
        lock = try StoreLock(configuration.data)
        files.removeUnfinished()
        Database.remove(standInFolder)
    }

    var standInFolder: String { joined(files.folder, "/stand-in") }

    /// Whether the disk takes what is to be made.
    var hasRoom: Bool {
        @inline(never) get { Files.freeBytes(files.folder) ?? 0 >= Limits.leastMendingBytes }
    }

    /// Ends what answers meanwhile, and removes the store that it had.
    @inline(never)
    func endStandIn() {
        standIn?.stop()
        standIn = nil
        Database.remove(standInFolder)
    }

    /// What is to be done before the store is opened. Costs some reads of single pages.
    @inline(never)
    func need() -> Need {
        guard Files.size(files.store) ?? 0 > 0 else {
            return Files.exists(files.aside) || files.hasSnapshot ? .replacement : .nothing
        }
        do throws(StoreError) {
            let file = try StoreFile(files.store)
            try file.check(isDeep: false)
            if file.isShort || Files.exists(files.crash) || Files.exists(files.damage) { return .look }
            if try files.mark() != nil { return .adoption }
            files.settle()
            // Who is back is erased before the agent listens, which takes its time.
            if try file.value(of: Healing.returned, in: "meta") != nil { return .erasures }
            return Files.exists(files.sparse) ? .compaction : .nothing
        } catch {
            // Whoever opens it says what else it is.
            if case .damaged = error { return .replacement }
            return .nothing
        }
    }

    /// Does what is needed. A power cut in the middle leaves a store that needs it again.
    /// - Parameter empty: a store without anything in it; nil: there was no room for one.
    /// - Throws: what is no damage of the store, as a disk that cannot be read: nothing is set aside for that.
    @inline(never)
    func run(_ need: Need, _ empty: Database?) throws(StoreError) {
        if need == .compaction { compact() }
        if need == .replacement {
            try replace(empty)
        } else if need == .look {
            if try isWhole() {
                files.isFoundWhole = true
                Files.remove(files.crash)
            } else {
                try replace(empty)
            }
        }
        if let mark = try files.mark() {
            if !hasRoom { throw .full }
            try adopt(mark)
            files.settle()
        }
    }

    private func isWhole() throws(StoreError) -> Bool {
        if Files.exists(files.damage) { return false }
        do throws(StoreError) {
            try StoreFile(files.store).check(isDeep: true)
            return true
        } catch {
            if case .damaged = error { return false }
            throw error
        }
    }

    /// Writes the store anew where most of it is free and the disk has room for that; else it is used as it is.
    private func compact() {
        let isAsked = Files.size(files.sparse) ?? 0 > 0
        Files.remove(files.sparse)
        do throws(StoreError) {
            let file = try StoreFile(files.store)
            let free = try file.freeBytes()
            if free <= file.bytes / 2, !isAsked { return }
            if Files.freeBytes(files.folder) ?? 0 < file.bytes - free + Limits.leastFreeBytes { throw .full }
            Log.info("much of the store is free; it is written anew")
            _ = try Database.compact(folder: files.folder, lock)
        } catch {
            Log.warning("the store is mostly free, and cannot be written anew", because: error.message)
        }
    }

    /// Sets the store aside and puts the newest snapshot that is whole in its place.
    @inline(never)
    private func replace(_ empty: Database?) throws(StoreError) {
        Healing.complain("the store is damaged; it is set aside", files.aside)
        // Nobody has brought what comes here: where there is no store it is as where none can be read.
        if !Files.exists(files.store), !Files.exists(files.aside) { try? Files.replace(files.aside, with: [], mode: 0o600) }
        if !hasRoom { Files.remove(files.former) }
        for number in Limits.snapshots where number > 0 {
            let path = files.snapshot(number)
            if !Files.exists(path) { continue }
            if Snapshot.time(of: path, isWhole: true) != nil { return try files.replaceStore(with: path) }
            Healing.complain("a snapshot is damaged as well", path)
        }
        guard let empty else { throw .full }
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
        let database = try Database(folder: files.folder, mapBytes: mapBytes, lock: lock)
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

    private static let kept: [StaticString] = ["device", "bundle", "known_time"]

    /// Takes over who a store's device is, which bundles it has had and what time it was, where that can be read.
    @inline(never)
    private static func takeKept(from path: String, to database: Database) throws(StoreError) {
        guard let file = try? StoreFile(path) else { return }
        file.goesOn = true
        var transaction = try database.beginWrite()
        for name in kept {
            let key = [UInt8](copying: name.bytes)
            guard let value = try? file.value(of: key, in: "meta") else { continue }
            try transaction.put(transaction.tables.meta, key.span, value.span)
        }
        try transaction.commit()
    }

    /// The same for what stands in: it draws as the device does, and takes no bundle that is older than what was taken.
    @inline(never)
    func takeKept(to database: Database) throws(StoreError) {
        // What is known best comes last.
        try Healing.takeKept(from: files.snapshot(1), to: database)
        try Healing.takeKept(from: files.store, to: database)
        try Healing.takeKept(from: files.aside, to: database)
    }

    /// Takes over what the store that was set aside has: who was erased, and what was refused.
    /// - Returns: false when anything of that cannot be read.
    @inline(never)
    private func takeOver(_ database: Database) throws(StoreError) -> Bool {
        var isKnown = true
        var transaction = try database.beginWrite()
        var people = People(epoch: 0)
        people.mark = try Rotation.mark(transaction)
        var taken = 0
        for isOfErasures in [true, false] {
            // Each for itself: what is wrong in one of them is not in the other.
            guard let aside = try? StoreFile(files.aside) else { return false }
            aside.goesOn = true
            if !aside.begin(isOfErasures ? "suppressed" : "consent_parts") { isKnown = false }
            while aside.next() {
                taken += 1
                if taken % Limits.sweptPerStep == 0 {
                    try transaction.commit()
                    transaction = try database.beginWrite()
                }
                let key = aside.key
                var value = aside.value
                if !aside.isRowWhole {
                    isKnown = false
                    if isOfErasures { value = [] }
                }
                if isOfErasures {
                    // What is no name of one LMDB might not take.
                    if key.count == 16 { try SuppressionList.learn(key, value, in: &transaction) } else { isKnown = false }
                    continue
                }
                let person = ProfileID(high: random.next(), low: random.next())
                if try !people.takeRefusals(of: value.span, under: key.span, newcomer: person, now: now, in: &transaction) {
                    isKnown = false
                }
            }
            if aside.fault != nil { isKnown = false }
        }
        try transaction.commit()
        try Healing.takeKept(from: files.aside, to: database)
        return isKnown
    }

    @inline(never)
    private func withdrawGrants(_ table: Table, _ database: Database) throws(StoreError) {
        var keys: [[UInt8]] = [[]]
        while let start = keys.last {
            keys = []
            var records: [[UInt8]] = []
            var transaction = try database.beginWrite()
            // From the one on that was the last.
            try transaction.scan(table, from: start.span) { key, value in
                if keys.isEmpty, equal(key, start.span) { return true }
                keys.append([UInt8](copying: key))
                records.append(ConsentRecord.withdrawing(value, at: now))
                return keys.count < Limits.sweptPerStep
            }
            for index in 0..<keys.count {
                let (key, record) = (keys[index], records[index])
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
            for person in people {
                // When that was: elsewhere they may have chosen anew since.
                var erasedAt: Int64 = 0
                for identifier in try IdentityGraph.identifiers(of: person, in: transaction) {
                    let time = try suppression.time(identifier.kindTag, identifier.digest, in: transaction) ?? 0
                    erasedAt = max(erasedAt, min(time, now))
                }
                _ = try erase(person, nil, erasedAt: erasedAt, actor: Array("device".utf8), now: now, &transaction)
            }
            start = next.isEmpty ? nil : next
            if start == nil { try transaction.delete(meta, returned.span) }
            try transaction.commit()
        }
    }
}
