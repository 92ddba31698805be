// Shows by what a store that took another's place numbers its events, and that of the two words for what happened to a store
// each is said where it is so. What a whole agent does with a damaged store is in Tests/end-to-end/test_store.py.
import Foundation
import Formats
import Platform
import Testing

@testable import Agent
@testable import Store

@Suite struct HealingTests {
    private func makeFolder() -> String {
        var random = SystemRandom()
        return "/tmp/gatehouse-healing-test-\(random.next())"
    }

    @Test func eachLifeOfAStoreHasAnEpochOfItsOwn() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let database = try Database(folder: folder, mapBytes: 4 << 20, synchronous: false)
        var random = SeededRandom(seed: 4)
        let first = try DeviceIdentity.establish(database, configured: nil, &random)
        for life in 1...70 as ClosedRange<UInt64> {
            var transaction = try database.beginWrite()
            try DeviceIdentity.beginLife(from: life * 100, &random, in: &transaction)
            try transaction.commit()
        }
        let identity = try DeviceIdentity.establish(database, configured: nil, &random)
        #expect(identity.epoch == first.epoch && identity.device == first.device)
        // The newest 64 are known.
        #expect(identity.lives.count == 64 && identity.lives[0].from == 700)
        #expect(identity.epoch(of: 1) == first.epoch && identity.epoch(of: 699) == first.epoch)
        var seen: Set<UInt64> = [first.epoch]
        for life in 7...70 as ClosedRange<UInt64> {
            let epoch = identity.epoch(of: life * 100)
            #expect(epoch < 1 << 53 && identity.epoch(of: life * 100 + 99) == epoch)
            seen.insert(epoch)
        }
        #expect(seen.count == 65)
    }

    /// A configuration and a folder of its own.
    private func withFolder(_ body: (Configuration, StoreFiles) throws -> Void) throws {
        let configuration = Configuration()
        configuration.data = makeFolder()
        configuration.diskBytes = 64 << 20
        defer { try? FileManager.default.removeItem(atPath: configuration.data) }
        try body(configuration, StoreFiles(configuration.data))
    }

    private func makeStore(_ folder: String, _ name: String, snapshot: Int64? = nil) throws {
        let store = try Database(folder: folder, mapBytes: 64 << 20, synchronous: false)
        var transaction = try store.beginWrite()
        try transaction.put(store.tables.profiles, Array("name".utf8).span, Array(name.utf8).span)
        try transaction.commit()
        if let snapshot { _ = try store.snapshot(to: StoreFiles(folder).snapshot(snapshot), at: 5) { true } }
    }

    /// The name that `makeStore` has given to a store's file; empty: it has none.
    private func name(_ path: String) throws -> String {
        String(decoding: try StoreFile(path).value(of: Array("name".utf8), in: "profiles") ?? [], as: UTF8.self)
    }

    private func damage(_ path: String) throws {
        try Data([UInt8](repeating: 0, count: 9000)).write(to: URL(fileURLWithPath: path))
    }

    @Test func aStartKnowsWhatIsToBeDone() throws {
        try withFolder { configuration, files in
            func need() throws -> Healing.Need { try Healing(configuration).need() }
            #expect(try need() == .nothing)
            try makeStore(files.folder, "live", snapshot: 1)
            #expect(try need() == .nothing)
            for marker in [files.crash, files.damage] {
                try Files.replace(marker, with: [], mode: 0o600)
                #expect(try need() == .look)
                Files.remove(marker)
            }
            try Files.replace(files.sparse, with: [], mode: 0o600)
            #expect(try need() == .compaction)
            Files.remove(files.sparse)
            try damage(files.store)
            #expect(try need() == .replacement)
            try files.replaceStore(with: files.snapshot(1))
            #expect(try need() == .adoption)
            #expect(Files.exists(files.aside))
            Files.remove(files.store)
            #expect(try need() == .replacement)
            Files.remove(files.aside)
            #expect(try need() == .nothing)
            // Of a device of the other word size: the magic number stands where that has it.
            var other = [UInt8](repeating: 0, count: 8192)
            let place = MemoryLayout<Int>.size == 8 ? 12 : 16
            for (index, byte) in ([0xDE, 0xC0, 0xEF, 0xBE] as [UInt8]).enumerated() { other[place + index] = byte }
            try Data(other).write(to: URL(fileURLWithPath: files.store))
            #expect(try need() == .nothing)
        }
    }

    /// What a store that is in use has is set aside, and stays there until another one has taken it over, whatever is put
    /// in its place before.
    @Test func theLiveStoreIsKeptThroughRestoresAndCompactionsBeforeTheFirstStart() throws {
        try withFolder { configuration, files in
            for number in 2...4 as ClosedRange<Int64> { try makeStore(files.folder, "backup \(number)", snapshot: number) }
            try makeStore(files.folder, "live")
            try Upkeep.restore(folder: files.folder, from: files.snapshot(2))
            try Upkeep.restore(folder: files.folder, from: files.snapshot(3))
            #expect(try name(files.aside) == "live")
            #expect(try name(files.store) == "backup 3")
            _ = try Upkeep.compact(folder: files.folder)
            #expect(try name(files.aside) == "live")
            #expect(try files.mark() == 5)
            #expect(!Files.exists(files.snapshot(2)), "copies may have what was deleted")
            // What was put there turns out to be damaged.
            try makeStore(files.folder + "-other", "backup 5", snapshot: 1)
            try Files.move(StoreFiles(files.folder + "-other").snapshot(1), over: files.snapshot(1))
            try FileManager.default.removeItem(atPath: files.folder + "-other")
            try damage(files.store)
            let healing = try Healing(configuration)
            #expect(healing.need() == .replacement)
            try healing.run(.replacement, nil)
            #expect(try name(files.store) == "backup 5")
            // It is in use.
            #expect(try files.mark() == nil)
            #expect(!Files.exists(files.aside))
            #expect(try name(files.former) == "live")
            #expect(healing.need() == .erasures)
            files.removeCopies()
            #expect(!Files.exists(files.former))
        }
    }

    @Test func aPowerCutBetweenSettingAsideAndReplacingLosesNothing() throws {
        try withFolder { configuration, files in
            try makeStore(files.folder, "live", snapshot: 2)
            try Files.link(files.store, as: files.aside)
            #expect(try Healing(configuration).need() == .nothing)
            #expect(!Files.exists(files.aside))
            try makeStore(files.folder, "later")
            try Upkeep.restore(folder: files.folder, from: files.snapshot(2))
            #expect(try name(files.aside) == "later")
        }
    }

    /// Two that would mend at once, or a restore beside one: there is a lock from the first look on.
    @Test func whoMendsHasTheFolderAlone() throws {
        try withFolder { configuration, files in
            try makeStore(files.folder, "live", snapshot: 2)
            let healing = try Healing(configuration)
            #expect(throws: StoreError.inUse) { _ = try Healing(configuration) }
            #expect(throws: UpkeepError.self) { try Upkeep.restore(folder: files.folder, from: files.snapshot(2)) }
            #expect(throws: UpkeepError.self) { _ = try Upkeep.compact(folder: files.folder) }
            let database = try Database(folder: files.folder, mapBytes: 64 << 20, lock: healing.lock)
            #expect(throws: StoreError.inUse) { _ = try Healing(configuration) }
            withExtendedLifetime(database) {}
            #expect(try name(files.store) == "live")
        }
    }

    /// Damage that a look does not find: the second time that it is met the store is replaced; and what a fault has left
    /// behind, or a disk that cannot be read, is no damage.
    @Test func whatIsMetAgainAfterALookThatFoundNothingReplacesTheStore() throws {
        try withFolder { configuration, files in
            try makeStore(files.folder, "backup", snapshot: 1)
            try makeStore(files.folder, "live")
            files.note(.failed("pread", code: 5))
            #expect(try Healing(configuration).need() == .nothing)
            files.note(.badRecord("ledger"))
            do {
                let healing = try Healing(configuration)
                try healing.run(healing.need(), nil)
                #expect(try name(files.store) == "live")
                #expect(healing.need() == .nothing)
                healing.files.note(.badRecord("ledger"))
            }
            let healing = try Healing(configuration)
            #expect(healing.need() == .look)
            try healing.run(.look, nil)
            #expect(try name(files.store) == "backup")
            #expect(try name(files.former) == "live")
            #expect(healing.need() == .erasures)
        }
    }

    @Test func whatStandsInIsTheSameDeviceAndTakesNoOlderBundle() throws {
        try withFolder { configuration, files in
            var random = SystemRandom()
            let device: [UInt8]
            do {
                let store = try Database(folder: files.folder, mapBytes: 64 << 20, synchronous: false)
                device = try DeviceIdentity.establish(store, configured: nil, &random).device
                var memory = BundleMemory()
                memory.version = 7
                try memory.write(store)
            }
            let healing = try Healing(configuration)
            let standIn = try Database(folder: healing.standInFolder, mapBytes: 4 << 20, synchronous: false)
            try healing.takeKept(to: standIn)
            #expect(try BundleMemory(standIn).version == 7)
            #expect(try DeviceIdentity.establish(standIn, configured: nil, &random).device == device)
        }
    }

    @Test func aDiskThatCannotBeReadIsNoDamage() throws {
        try withFolder { configuration, files in
            try makeStore(files.folder, "backup", snapshot: 1)
            Files.remove(files.store)
            // Whoever reads where this process has nothing in memory gets EIO.
            try FileManager.default.createSymbolicLink(atPath: files.store, withDestinationPath: "/proc/self/mem")
            let healing = try Healing(configuration)
            #expect(throws: StoreError.failed("pread", code: EIO)) { try healing.run(.look, nil) }
            #expect(Files.exists(files.snapshot(1)))
            #expect(!Files.exists(files.aside))
        }
    }

    /// Where there is room neither for a stand-in nor for an empty store nothing is set aside.
    @Test func withoutRoomAStoreThatCannotBeReplacedStays() throws {
        try withFolder { configuration, files in
            try makeStore(files.folder, "live")
            try damage(files.store)
            let healing = try Healing(configuration)
            #expect(throws: StoreError.full) { try healing.run(healing.need(), nil) }
            #expect(Files.size(files.store) == 9000)
            #expect(!Files.exists(files.aside))
        }
    }

    /// Writes 6,000 entries of 3,000 bytes and deletes all but the last few of them.
    private func makeSparse(_ database: Database, from first: UInt64 = 0) throws {
        let value = [UInt8](repeating: 1, count: 3000)
        for round in 0..<60 as Range<UInt64> {
            var transaction = try database.beginWrite()
            for number in 0..<100 as Range<UInt64> {
                let key = NumberKey(first + round * 100 + number)
                try transaction.put(database.tables.log, key.bytes.span, value.span, appending: true)
            }
            try transaction.commit()
        }
        while true {
            var transaction = try database.beginWrite()
            let removed = try transaction.deleteNumbers(database.tables.log, below: first + 5990, atMost: 500)
            try transaction.commit()
            if removed == 0 { break }
        }
    }

    @Test func aStoreOfWhichMostIsFreeIsWrittenAnew() throws {
        try withFolder { configuration, files in
            try makeSparse(Database(folder: files.folder, mapBytes: 64 << 20, synchronous: false))
            try Files.replace(files.sparse, with: [], mode: 0o600)
            let before = Files.size(files.store) ?? 0
            let healing = try Healing(configuration)
            #expect(healing.need() == .compaction)
            try healing.run(.compaction, nil)
            #expect(Files.size(files.store) ?? 0 < before / 10)
            #expect(healing.need() == .nothing)
        }
    }

    @Test func theDiskHasBackWhatIsFreeInAStoreInUse() throws {
        try withFolder { configuration, files in
            let keeper = SnapshotKeeper(configuration, files)
            do {
                let database = try Database(folder: files.folder, mapBytes: 64 << 20, synchronous: false)
                try makeSparse(database)
                let (length, before) = (Files.size(files.store), database.diskBytes)
                #expect(before > 20 << 20)
                keeper.giveBack(of: database, beside: nil)
                let after = database.diskBytes
                // What is in use, and what the last commit has freed.
                #expect(after < 6 << 20 && database.hasHoles, "\(after) of \(before)")
                // limit: Agent.spareBytes, Store.hardlyHoleBytes
                #expect(Files.exists(files.spare))
                // When others have filled the disk.
                keeper.note(.full)
                #expect(Files.exists(files.spare) == (Files.freeBytes(files.folder) ?? 0 >= Limits.leastFreeBytes))
                #expect(Files.size(files.store) == length)
                var reader = try database.makeReader()
                try reader.begin()
                #expect(reader.count(database.tables.log) == 10)
                reader.end()
                // What is written next comes into the same places.
                try makeSparse(database, from: 6000)
                #expect(Files.size(files.store) ?? 0 < (length ?? 0) + 1 << 20)
            }
            #expect(!Files.exists(files.sparse))
            try StoreFile(files.store).check(isDeep: true)
        }
    }

    /// A record of one choice; see Governance/Consent.swift.
    private func record(granting isGranted: Bool) -> [UInt8] {
        let entry: [UInt8] = [7, 0, 0, 0, isGranted ? 1 : 2, 2, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]
        let sum = Checksum.of(entry.span)
        return (0..<4).map { UInt8(truncatingIfNeeded: sum >> UInt32(8 * $0)) } + entry
    }

    /// An identifier's key, and a person's.
    private func key(_ number: Int, count: Int = 36) -> [UInt8] {
        [0xA7, UInt8(number >> 8), UInt8(number & 255)] + [UInt8](repeating: 0x5A, count: count - 3)
    }

    /// Replaces a store in which 300 have refused by a snapshot from before that, in which one had granted.
    /// - Returns: how many refusals are known then, and grants.
    private func takenOver(_ change: (inout [UInt8]) -> Void) throws -> [Int] {
        var result: [Int] = []
        try withFolder { configuration, files in
            let (person, grant) = (key(1000, count: 16), record(granting: true))
            do {
                let store = try Database(folder: files.folder, mapBytes: 64 << 20, synchronous: false)
                var transaction = try store.beginWrite()
                try transaction.put(store.tables.consent, person.span, grant.span)
                try transaction.commit()
                _ = try store.snapshot(to: files.snapshot(1), at: 5) { true }
                transaction = try store.beginWrite()
                for number in 0..<300 {
                    let (name, refusal) = (key(number), record(granting: false))
                    try transaction.put(store.tables.consentParts, name.span, refusal.span)
                }
                try transaction.commit()
            }
            var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: files.store)))
            change(&bytes)
            try Data(bytes).write(to: URL(fileURLWithPath: files.store))
            try Healing(configuration).run(.replacement, nil)
            let store = try Database(folder: files.folder, mapBytes: 64 << 20, synchronous: false)
            let transaction = try store.beginWrite()
            if let value = try transaction.get(store.tables.consent, person.span) {
                result = [Int(transaction.count(store.tables.consentParts)), equal(value, grant.span) ? 1 : 0]
            }
        }
        return result
    }

    /// Where some bytes are in a file.
    private func places(_ sought: [UInt8], in bytes: [UInt8]) -> [Int] {
        (0...bytes.count - sought.count).filter { bytes[$0] == sought[0] && Array(bytes[$0..<$0 + sought.count]) == sought }
    }

    /// Promise P4: who has refused since is not known to the last, so nobody's grant is left. What can be read is taken over.
    @Test func halfAReadingOfRefusalsIsNotAWholeOne() throws {
        let table = Array("consent_parts".utf8)
        #expect(try takenOver { _ in } == [300, 1])
        // A bit of one choice.
        #expect(try takenOver { for place in places(key(7), in: $0) { $0[place + 36 + 8] ^= 4 } } == [299, 0])
        #expect(try takenOver { for place in places(table, in: $0) { $0[place] ^= 1 } } == [0, 0])
        // Of the last commit it is not known whether it was the last.
        #expect(try takenOver { $0[144 + 7] = 64 }[1] == 0)
        // That there are no entries, and that a leaf has one fewer.
        #expect(try takenOver { for place in places(table, in: $0) { $0[place + 45] = 0; $0[place + 46] = 0 } } == [300, 0])
        #expect(try takenOver { for place in places(key(7), in: $0) { $0[place / 4096 * 4096 + 12] -= 2 } } == [299, 0])
        // Leaves in the middle: what lies behind them is read.
        let rest = try takenOver { bytes in
            for page in places(key(120), in: bytes).map({ $0 / 4096 * 4096 }) where bytes[page + 10] == 2 { bytes[page] ^= 1 }
        }
        #expect(rest[0] > 150 && rest[0] < 300 && rest[1] == 0, "\(rest)")
    }
}
