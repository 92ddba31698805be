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
                #expect(throws: StoreError.self) { try StoreFile(path) }
            } else {
                #expect(try StoreFile(path).isShort)
                if isDamaged(path) { damaged += 1 }
            }
        }
        #expect(damaged > whole.count / 4096 / 2)
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
