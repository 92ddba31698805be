// Shows that a store's file is read without LMDB as LMDB reads it, that damage of any kind is found or does no harm but never
// ends the program, and that a snapshot is the store as one commit left it, or nothing at all.

import Foundation
import Formats
import Testing

@testable import Platform
@testable import Store

@Suite struct StoreFileTests {
    private func makeFolder() -> String {
        var random = SystemRandom()
        return "/tmp/gatehouse-store-file-test-\(random.next())"
    }

    /// A store with tables of one, two and three levels, with values of all sizes, and with free pages.
    private func makeStore(_ folder: String, entries: UInt64 = 6000) throws -> Database {
        let store = try Database(folder: folder, mapBytes: 64 << 20, synchronous: false)
        var random = SeededRandom(seed: 5)
        for round in 0..<3 as Range<UInt64> {
            var writing = try store.beginWrite()
            for number in 0..<entries / 3 {
                let key = NumberKey(random.next())
                let size = number % 97 == 0 ? 9000 : Int(random.next() % 300)
                let value = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: size)
                try writing.put(store.tables.profiles, key.bytes.span, value.span)
                try writing.put(store.tables.log, NumberKey(round << 32 | number).bytes.span, value.span)
            }
            try writing.put(store.tables.meta, Array("name".utf8).span, [UInt8(round)].span)
            try writing.commit()
        }
        var writing = try store.beginWrite()
        _ = try writing.deleteNumbers(store.tables.log, below: 1 << 32, atMost: .max)
        try writing.commit()
        return store
    }

    /// What LMDB finds in a table, as one text.
    private func content(_ store: Database, _ table: Table) throws -> [UInt8] {
        var reader = try store.makeReader()
        try reader.begin()
        var all: [UInt8] = []
        try reader.scan(table, from: Span<UInt8>()) { key, value in
            all.append(contentsOf: key)
            all.append(contentsOf: value)
            return true
        }
        reader.end()
        return all
    }

    private func content(_ path: String, _ table: StaticString) throws -> [UInt8] {
        var all: [UInt8] = []
        let file = try StoreFile(path)
        file.begin(table)
        while file.next() { all += file.key + file.value }
        if let fault = file.fault { throw fault }
        return all
    }

    private func isDamaged(_ path: String, isDeep: Bool = true) -> Bool {
        do {
            try StoreFile(path).check(isDeep: isDeep)
            return false
        } catch { return true }
    }

    @Test func aFileReadsAsLMDBReadsIt() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let store = try makeStore(folder)
        let path = folder + "/data.mdb"
        #expect(try StoreFile(path).check(isDeep: true) == 6000 + 4000 + 1)
        for (table, name) in [(store.tables.profiles, "profiles"), (store.tables.log, "log")] as [(Table, StaticString)] {
            let expected = try content(store, table)
            let seen = try content(path, name)
            #expect(expected.count > 100_000 && seen == expected)
        }
        let free = try StoreFile(path).freeBytes()
        #expect(free > 200_000 && free < store.usedBytes)
        // What is not there has nothing in it.
        #expect(try content(path, "timers") == [])
    }

    @Test func anEmptyStoreIsWholeAndOtherFilesAreNone() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let store = try Database(folder: folder, mapBytes: 1 << 20)
        #expect(try StoreFile(folder + "/data.mdb").check(isDeep: true) == 0)
        for bytes in [[], [1, 2, 3], [UInt8](repeating: 0, count: 8192), [UInt8](repeating: 255, count: 8192)] as [[UInt8]] {
            try Data(bytes).write(to: URL(fileURLWithPath: folder + "/other"))
            #expect(throws: StoreError.self) { try StoreFile(folder + "/other") }
        }
        _ = store
    }

    /// Where a page begins: its number, kind, and the ends of its free room. And pages that are gone as a whole.
    @Test func whatIsWrongAtTheHeadOfAPageIsFound() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do { _ = try makeStore(folder, entries: 300) }
        let path = folder + "/data.mdb"
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        var inUse = 0
        for page in 2..<whole.count / 4096 {
            var changed = whole
            changed.replaceSubrange(page * 4096..<page * 4096 + 4096, with: [UInt8](repeating: 0, count: 4096))
            try changed.write(to: URL(fileURLWithPath: path))
            // Of what is free nobody reads anything.
            guard isDamaged(path) else { continue }
            inUse += 1
            for byte in [0, 10] {
                changed = whole
                changed[page * 4096 + byte] ^= 4
                try changed.write(to: URL(fileURLWithPath: path))
                #expect(isDamaged(path), "page \(page), byte \(byte)")
            }
        }
        #expect(inUse > 15)
    }

    /// Bits anywhere, one to twenty at once: whatever comes of it, the look ends, and what it gives out lies in the file.
    @Test func flippedBitsNeverEndTheProgram() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do { _ = try makeStore(folder, entries: 300) }
        let path = folder + "/data.mdb"
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        var random = SeededRandom(seed: 11)
        var found = 0
        for round in 0..<300 {
            var changed = whole
            // Half of them where the numbers are: in the first 200 bytes of a page.
            for _ in 0...Int(random.next() % 20) {
                let page = Int(random.next() % UInt64(whole.count / 4096))
                let byte = Int(random.next() % (round % 2 == 0 ? 200 : 4096))
                changed[page * 4096 + byte] ^= 1 << UInt8(random.next() % 8)
            }
            try changed.write(to: URL(fileURLWithPath: path))
            if isDamaged(path) { found += 1 }
        }
        #expect(found > 60)
    }

    /// Numbers with which nobody can reckon, where pages are counted: of the file, and of those that are free.
    @Test(arguments: [.max, 1 << 63, 1 << 60, 1 << 41] as [UInt64])
    func pageCountsThatCannotBeAreDamage(number: UInt64) throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do { _ = try makeStore(folder, entries: 300) }
        let path = folder + "/data.mdb"
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        let bytes = (0..<8).map { UInt8(truncatingIfNeeded: number >> UInt64(8 * $0)) }
        var changed = whole
        for page in [0, 4096] { changed.replaceSubrange(page + 136..<page + 144, with: bytes) }
        try changed.write(to: URL(fileURLWithPath: path))
        #expect(isDamaged(path, isDeep: false))
        // The trees of free pages begin where the meta pages say; a leaf's first entry: 8 bytes, key, value.
        changed = whole
        for meta in [0, 4096] {
            let root = Int(whole[meta + 80]) | Int(whole[meta + 81]) << 8
            if root == 0 || root == 0xFFFF { continue }
            let entry = root * 4096 + Int(whole[root * 4096 + 16]) | Int(whole[root * 4096 + 17]) << 8
            changed.replaceSubrange(entry + 16..<entry + 24, with: bytes)
        }
        #expect(changed != whole)
        try changed.write(to: URL(fileURLWithPath: path))
        #expect(!isDamaged(path, isDeep: false) && isDamaged(path))
    }

    /// LMDB leaves pages at the end unwritten that a transaction has taken and then not used.
    @Test func aFileIsNeverShorterThanItSays() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let store = try Database(folder: folder, mapBytes: 64 << 20, synchronous: false)
        let path = folder + "/data.mdb"
        for round in 1...20 as ClosedRange<UInt64> {
            var writing = try store.beginWrite()
            for number in 0..<round * 50 {
                try writing.put(store.tables.log, NumberKey(number).bytes.span, [UInt8](repeating: 1, count: 200).span)
            }
            // From the end: the last pages are those that are not used.
            for number in (5..<round * 50).reversed() { try writing.delete(store.tables.log, NumberKey(number).bytes.span) }
            try writing.commit()
            #expect(try !StoreFile(path).isShort, "round \(round)")
        }
        #expect(try StoreFile(path).check(isDeep: true) == 5)
    }

    @Test func aFileThatWasCutIsShortAndNotWhole() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do { _ = try makeStore(folder, entries: 300) }
        let path = folder + "/data.mdb"
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        var damaged = 0
        for pages in 0..<whole.count / 4096 {
            try whole.prefix(pages * 4096 + 100).write(to: URL(fileURLWithPath: path))
            if pages < 2 {
                #expect(isDamaged(path, isDeep: false))
            } else {
                #expect(try StoreFile(path).isShort)
                if isDamaged(path) { damaged += 1 }
            }
        }
        #expect(damaged > whole.count / 4096 / 2)
    }

    // MARK: What LMDB trusts

    /// A store's file, to be changed at one place: where its trees and their entries lie.
    private struct Raw {
        var bytes: [UInt8]
        private let meta: Int

        init(_ path: String) throws {
            let file = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
            let first = UInt64(littleEndianAt: 144, of: file.span)
            meta = first > UInt64(littleEndianAt: 4096 + 144, of: file.span) ? 0 : 4096
            bytes = file
        }

        /// Where the newer meta page is, and the trees of which it tells.
        var commit: Int { meta + 144 }
        var lastPage: Int { meta + 136 }
        var free: Int { meta + 40 }
        var main: Int { meta + 88 }

        subscript(_ place: Int) -> UInt64 {
            get { UInt64(littleEndianAt: place, of: bytes.span) }
            set { for index in 0..<8 { bytes[place + index] = UInt8(truncatingIfNeeded: newValue >> UInt64(8 * index)) } }
        }

        func half(_ place: Int) -> Int { Int(bytes[place]) | Int(bytes[place + 1]) << 8 }

        /// Where the page begins that a tree begins with.
        func root(_ tree: Int) -> Int { Int(self[tree + 40]) * 4096 }

        /// Where the entries of a page begin.
        func entries(_ page: Int) -> [Int] {
            stride(from: page + 16, to: page + half(page + 12), by: 2).map { page + half($0) }
        }

        /// Where the page of a table begins that the second entry leads to on each level, above so many levels.
        func leaf(_ table: String, above levels: Int = 0) -> Int {
            var pages = [root(tree(table))]
            while half(pages.last! + 10) == 1 { pages.append(Int(self[entries(pages.last!)[1]] & 0xFFFF_FFFF) * 4096) }
            return pages[pages.count - 1 - levels]
        }

        /// Where the entry of a table is among the names.
        func entry(_ table: String) -> Int {
            entries(root(main)).first { Array(bytes[$0 + 8..<$0 + 8 + half($0 + 6)]) == Array(table.utf8) }!
        }

        func tree(_ table: String) -> Int { entry(table) + 8 + table.utf8.count }

        /// Where an entry's value is, be it in pages of its own.
        func value(_ entry: Int) -> Int {
            let place = entry + 8 + half(entry + 6)
            return half(entry + 4) & 1 == 0 ? place : Int(self[place]) * 4096 + 16
        }

        /// Where the numbers of free pages stand, behind their count, where there are most of them.
        var freeList: Int {
            var pages = [root(free)]
            while half(pages[0] + 10) == 1 {
                pages = pages.flatMap { page in entries(page).map { Int(self[$0] & 0xFFFF_FFFF) * 4096 } }
            }
            return pages.flatMap { entries($0) }.map { value($0) }.max { self[$0] < self[$1] }!
        }
    }

    @Test func eachNumberThatLMDBTrustsIsHeldAgainstTheOthers() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do { _ = try makeStore(folder) }
        let path = folder + "/data.mdb"
        let whole = try Raw(path)
        func isSeen(isDeep: Bool, _ change: (inout Raw) -> Void) throws -> Bool {
            var raw = whole
            change(&raw)
            #expect(raw.bytes != whole.bytes)
            try Data(raw.bytes).write(to: URL(fileURLWithPath: path))
            return isDamaged(path, isDeep: isDeep)
        }
        let other = 4096 - whole.commit + 288
        let atEveryStart: [(String, (inout Raw) -> Void)] = [
            ("flags", { $0.bytes[$0.tree("profiles") + 4] = 2 }), ("flags", { $0.bytes[$0.tree("timers") + 4] = 8 }),
            ("flags of names", { $0.bytes[$0.main + 4] = 4 }), ("flags of free pages", { $0.bytes[$0.free + 4] = 9 }),
            ("name", { $0.bytes[$0.tree("consent") - 1] ^= 1 }), ("name", { $0.bytes[$0.tree("suppressed") - 1] ^= 1 }),
            ("entry of a name", { $0.bytes[$0.entry("consent") + 4] = 3 }),
            ("kind of an entry", { $0.bytes[$0.entries($0.root($0.tree("meta")))[0] + 4] = 4 }),
            ("no entries", { $0[$0.tree("profiles") + 32] = 0 }), ("root of none", { $0[$0.tree("timers") + 40] = 5 }),
            ("depth of none", { $0.bytes[$0.tree("timers") + 6] = 1 }), ("names", { $0[$0.main + 32] -= 1 }),
            ("page size", { $0.bytes[other - 104 + 1] ^= 0x30 }), ("commit", { $0[$0.commit] += 2 }),
            ("commit", { $0[$0.commit] += 1 << 62 }), ("commit", { ($0[$0.commit], $0[other]) = ($0[other], $0[$0.commit]) }),
            ("commit", { $0[other] = $0[$0.commit] }), ("last page", { $0[$0.lastPage] |= 1 << 30 }),
            ("last page", { $0[$0.lastPage] |= 1 << 22 }), ("last page", { $0[$0.lastPage] = 0 }),
        ]
        for (what, change) in atEveryStart { #expect(try isSeen(isDeep: false, change), "\(what)") }
        let inADeepLook: [(String, (inout Raw) -> Void)] = [
            ("entries", { $0[$0.tree("profiles") + 32] += 1 }), ("pages", { $0[$0.tree("profiles") + 16] = 1 << 62 }),
            ("free: count", { $0[$0.freeList] += 1 << 20 }), ("free: twice", { $0[$0.freeList + 8] = $0[$0.freeList + 16] }),
            ("free: too low", { $0[$0.freeList + 8 * Int($0[$0.freeList])] = 1 }),
            ("free: too high", { $0[$0.freeList + 8] = $0[$0.lastPage] + 1 }),
            ("free: used", { raw in
                let list = raw.freeList
                raw[list] = 1
                raw[list + 8] = raw[raw.tree("profiles") + 40]
            }),
            ("two lead to one", { raw in
                let entries = raw.entries(raw.root(raw.tree("profiles")))
                for index in 0..<6 { raw.bytes[entries[1] + index] = raw.bytes[entries[0] + index] }
            }),
        ]
        for (what, change) in inADeepLook {
            #expect(try !isSeen(isDeep: false, change), "\(what)")
            #expect(try isSeen(isDeep: true, change), "\(what)")
        }
        // What parts one page's keys from the next one's: above all of these, or below all of those.
        for bit in [0x40, 0x80] as [UInt8] {
            #expect(try isSeen(isDeep: true) { $0.bytes[$0.entries($0.leaf("profiles", above: 1))[1] + 8] ^= bit })
        }
    }

    /// Whatever is put and deleted, in transactions of all sizes, with somebody who reads an old state or nobody: after each
    /// commit no look finds fault with it.
    @Test(arguments: 1...6 as ClosedRange<UInt64>) func aStoreInUseIsAlwaysWhole(seed: UInt64) throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let store = try Database(folder: folder, mapBytes: 256 << 20, synchronous: false)
        let tables = [store.tables.profiles, store.tables.consent, store.tables.log, store.tables.meta]
        var random = SeededRandom(seed: seed)
        var reader = try store.makeReader()
        for round in 0..<60 {
            if round % 20 == 5 { try reader.begin() }
            if round % 20 == 15 { reader.end() }
            var writing = try store.beginWrite()
            for _ in 0..<Int(random.next() % (round % 7 == 0 ? 3000 : 200)) {
                let table = tables[Int(random.next() % 4)]
                // Few keys and many, short and long.
                let number = NumberKey(random.next() % (seed % 2 == 0 ? 3000 : .max)).bytes
                var key = [UInt8](copying: number.span)
                if random.next() % 8 == 0 { key += [UInt8](repeating: 7, count: Int(random.next() % 400)) }
                if random.next() % 5 < (round % 20 < 10 ? 1 : 3) {
                    try writing.delete(table, key.span)
                } else {
                    let size = random.next() % 40 == 0 ? Int(random.next() % 30_000) : Int(random.next() % 300)
                    try writing.put(table, key.span, [UInt8](repeating: 1, count: size).span)
                }
            }
            if round % 20 == 19 {
                for table in tables { _ = try writing.deleteNumbers(table, below: .max, atMost: .max) }
            }
            try writing.commit()
            #expect(throws: Never.self, "round \(round)") { try StoreFile(folder + "/data.mdb").check(isDeep: true) }
        }
    }

    /// A version that makes more tables finds a store that lacks them. But a name that has changed stands for one that is gone.
    @Test func aTableMayBeMissingWhereNoNameIsStrange() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do {
            let store = try makeStore(folder, entries: 300)
            let names = store.tables.all.map { String(copying: $0.name.bytes) }
            #expect(String(copying: StoreFile.names.bytes) == " " + names.joined(separator: " ") + " ")
        }
        var raw = try Raw(folder + "/data.mdb")
        // The last name is taken out.
        let page = raw.root(raw.main)
        #expect(raw.entries(page).last == raw.entry("visits"))
        raw[raw.main + 32] -= 1
        raw.bytes[page + 12] -= 2
        try Data(raw.bytes).write(to: URL(fileURLWithPath: folder + "/data.mdb"))
        #expect(!isDamaged(folder + "/data.mdb"))
        raw.bytes[raw.tree("urgent") - 1] ^= 1
        try Data(raw.bytes).write(to: URL(fileURLWithPath: folder + "/data.mdb"))
        #expect(isDamaged(folder + "/data.mdb", isDeep: false))
    }

    /// Of a damaged table all is read that can be, and it is known that this is not all.
    @Test func whoGoesOnReadsWhatIsLeft() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do { _ = try makeStore(folder) }
        let path = folder + "/data.mdb"
        let whole = try Raw(path)
        func read(_ change: (inout Raw) -> Void) throws -> String {
            var raw = whole
            change(&raw)
            try Data(raw.bytes).write(to: URL(fileURLWithPath: path))
            let file = try StoreFile(path)
            file.goesOn = true
            let isThere = file.begin("profiles")
            var (count, bytes) = (0, 0)
            while file.next() {
                count += 1
                bytes += file.value.count
            }
            return "\(count) \(bytes > 500_000) \(isThere) \(file.fault == nil)"
        }
        #expect(try read { _ in } == "6000 true true true")
        let inLeaf = whole.entries(whole.leaf("profiles")).count
        #expect(try read { $0.bytes[$0.leaf("profiles")] ^= 1 } == "\(6000 - inLeaf) true true false")
        #expect(try read { $0.bytes[$0.leaf("profiles") + 17] = 0x7F } == "5999 true true false")
        #expect(try read { $0[$0.tree("profiles") + 32] = 0 } == "6000 true true false")
        #expect(try read { $0.bytes[$0.tree("profiles") - 1] ^= 1 } == "0 false false true")
        #expect(try read { $0.bytes[$0.entry("meta") + 4] = 3 } == "6000 true true false")
        #expect(try read { $0[$0.commit] |= 1 << 62 } == "6000 true true false")
        // The state before the last commit.
        for page in [0, 4096] { #expect(try read { $0.bytes[page + 16] ^= 1 }.hasSuffix("true true false")) }
        // A cycle ends.
        _ = try read { raw in
            let root = raw.root(raw.tree("profiles"))
            for entry in raw.entries(root) { (raw.bytes[entry], raw.bytes[entry + 1]) = (UInt8(root >> 12 & 255), UInt8(root >> 20)) }
        }
    }

    /// A last page that no transaction has taken makes no file longer, and is damage.
    // limit: Store.mostUnwrittenBytes
    @Test func aFileGrowsOnlyByWhatATransactionLeaves() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do { _ = try makeStore(folder) }
        let path = folder + "/data.mdb"
        var raw = try Raw(path)
        let most = UInt64(Limits.mostUnwrittenBytes / 4096)
        for (more, isTooMuch) in [(most, false), (most + 1, true)] {
            raw[raw.lastPage] = UInt64(raw.bytes.count / 4096) - 1 + more
            try Data(raw.bytes).write(to: URL(fileURLWithPath: path))
            #expect(isDamaged(path, isDeep: false) == isTooMuch)
            do {
                let store = try Database(folder: folder, mapBytes: 64 << 20, synchronous: false)
                var writing = try store.beginWrite()
                try writing.put(store.tables.meta, Array("name".utf8).span, [UInt8(9)].span)
                try writing.commit()
            }
            #expect(Files.size(path) == Int64(raw.bytes.count) + (isTooMuch ? 0 : Limits.mostUnwrittenBytes))
        }
    }

    @Test func whatLMDBRefusesOfATableThatIsNoneOfOursIsDamage() {
        // MDB_INCOMPATIBLE.
        for code in [-30784, EINVAL] as [Int32] {
            #expect(StoreError("mdb_put", code) == .damaged(""))
        }
        #expect(StoreError("mdb_env_open", EINVAL) == .failed("", code: EINVAL))
        #expect(StoreError("mdb_txn_commit", EINVAL) == .failed("", code: EINVAL))
        // MDB_BAD_TXN: what came before it says why.
        #expect(StoreError("mdb_put", -30782) == .failed("", code: -30782))
        #expect(StoreError("mdb_put", EIO) == .failed("", code: EIO))
        // MDB_PANIC: nothing can be done any more with a store of which that was said.
        #expect(StoreError("mdb_txn_begin", -30795).endsWriting)
        #expect(!StoreError("mdb_txn_commit", EIO).endsWriting && !StoreError.full.endsWriting)
    }

    // MARK: Snapshots

    @Test func aSnapshotIsTheStoreAtOneCommitAndAnyChangeOfItIsSeen() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let store = try makeStore(folder)
        let path = folder + "/copy"
        let before = try content(store, store.tables.log)
        var commits = 0
        // Whoever writes meanwhile is not in it.
        let isTaken = try store.snapshot(to: path, at: 1_769_860_800_000) {
            do {
                var writing = try store.beginWrite()
                for number in 0..<50 as Range<UInt64> {
                    try writing.put(store.tables.log, NumberKey(1 << 40 | number).bytes.span, [UInt8(commits & 255)].span)
                }
                try writing.commit()
                commits += 1
            } catch { Issue.record("\(error)") }
            return true
        }
        #expect(isTaken && commits > 2)
        #expect(try content(path, "log") == before)
        #expect(try content(store, store.tables.log) != before)
        #expect(try StoreFile(path).check(isDeep: true) == 6000 + 4000 + 1 + 1)
        #expect(Snapshot.time(of: path, isWhole: true) == 1_769_860_800_000)
        #expect(Files.mode(path) == 0o600)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["copy", "data.mdb", "gatehouse.lock", "lock.mdb"])
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        for place in [0, 100, 5000, whole.count / 2, whole.count - 49, whole.count - 40, whole.count - 1] {
            var changed = whole
            changed[place] ^= 1
            try changed.write(to: URL(fileURLWithPath: path))
            #expect(Snapshot.time(of: path, isWhole: true) == nil, "byte \(place)")
        }
        for count in [0, 20, whole.count - 4096, whole.count - 1] {
            try whole.prefix(count).write(to: URL(fileURLWithPath: path))
            #expect(Snapshot.time(of: path, isWhole: true) == nil, "\(count) bytes")
        }
    }

    @Test func aSnapshotThatMayNotGoOnLeavesNothing() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let store = try makeStore(folder)
        var asked = 0
        while true {
            var left = asked
            let isTaken = try store.snapshot(to: folder + "/copy", at: 1) {
                left -= 1
                return left >= 0
            }
            if isTaken { break }
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["data.mdb", "gatehouse.lock", "lock.mdb"])
            asked += 1
        }
        #expect(asked > 3)
    }

    /// A snapshot in the place of the store is opened like any store, and grows over its seal.
    @Test func aSnapshotBecomesAStore() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do {
            let store = try makeStore(folder)
            _ = try store.snapshot(to: folder + "/copy", at: 77) { true }
        }
        try Files.move(folder + "/copy", over: folder + "/data.mdb")
        let store = try Database(folder: folder, mapBytes: 64 << 20, synchronous: false)
        var reader = try store.makeReader()
        try reader.begin()
        var time: UInt64?
        let mark = Snapshot.mark
        if let value = try reader.get(store.tables.meta, mark.span) { time = NumberKey.decode(value) }
        reader.end()
        #expect(time == 77)
        let value = [UInt8](repeating: 9, count: 500)
        for round in 0..<20 as Range<UInt64> {
            var writing = try store.beginWrite()
            for number in 0..<100 as Range<UInt64> {
                let key = NumberKey(1 << 50 | round << 20 | number)
                try writing.put(store.tables.log, key.bytes.span, value.span, appending: true)
            }
            try writing.commit()
        }
        #expect(try StoreFile(folder + "/data.mdb").check(isDeep: true) == 6000 + 4000 + 1 + 1 + 2000)
        #expect(Snapshot.time(of: folder + "/data.mdb", isWhole: false) == nil)
    }
}
