// Shows that a bit of a key or of a value that is another one does not stay unnoticed: whatever changes in a store's pages,
// each row is found as it was written, or not at all, and then a look at all rows finds the damage. And that no copy makes
// damage look whole.

import Foundation
import Formats
import Testing

@testable import Platform
@testable import Store

@Suite struct RowTests {
    private let folder: String
    private var path: String { folder + "/data.mdb" }

    init() {
        var random = SystemRandom()
        folder = "/tmp/gatehouse-row-test-\(random.next())"
    }

    private static let count = 1500

    /// Keys of 36 bytes that lead to 16, as identifiers do to profiles; and one long value.
    private static func row(_ number: Int) -> (key: [UInt8], value: [UInt8]) {
        var random = SeededRandom(seed: UInt64(number))
        let length = number == 7 ? 9000 : 16
        return ((0..<36).map { _ in UInt8(truncatingIfNeeded: random.next()) },
            (0..<length).map { _ in UInt8(truncatingIfNeeded: random.next()) })
    }

    private func makeStore() throws {
        let store = try Database(folder: folder, mapBytes: 16 << 20, synchronous: false)
        var writing = try store.beginWrite()
        for number in 0..<RowTests.count {
            let (key, value) = RowTests.row(number)
            try writing.put(store.tables.identifiers, key.span, value.span)
        }
        for name in ["device", "epoch"] { try writing.put(store.tables.meta, Array(name.utf8).span, key(name).span) }
        try writing.commit()
    }

    private func key(_ name: String) -> [UInt8] { Array((name + ", and what it is").utf8) }

    private func get(_ reader: borrowing Reader, _ table: Table, _ key: [UInt8]) throws -> [UInt8]? {
        guard let value = try reader.get(table, key.span) else { return nil }
        return [UInt8](copying: value)
    }

    /// How many rows a look at all of them finds damaged, in steps of some thousand bytes.
    private func damaged(_ store: Database) throws -> UInt64 {
        let reading = try store.beginWrite()
        var (all, steps): (UInt64, Int) = (0, 0)
        var look = RowCheck()
        repeat {
            all += try reading.check(&look, bytes: 4000)
            steps += 1
            if steps > 10_000 { throw StoreError.full }
        } while !look.isAtStart
        return all
    }

    @Test func whatIsWrittenIsReadAndWhole() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try makeStore()
        let store = try Database(folder: folder, mapBytes: 16 << 20)
        #expect(try damaged(store) == 0)
        #expect(try StoreFile(path).check(isDeep: true, withRows: true) == UInt64(RowTests.count + 2))
        var reader = try store.makeReader()
        try reader.begin()
        for number in 0..<RowTests.count {
            let (key, value) = RowTests.row(number)
            #expect(try value == get(reader, store.tables.identifiers, key))
        }
        // A table whose values are empty, and one that says what is there already.
        reader.end()
        var writing = try store.beginWrite()
        try writing.put(store.tables.urgent, NumberKey(5).bytes.span, Span())
        let (key, value) = RowTests.row(3)
        let (isNew, isThere) = (
            try writing.insert(store.tables.urgent, NumberKey(6).bytes.span, Span()),
            try writing.insert(store.tables.identifiers, key.span, Span()))
        #expect(isNew && !isThere)
        try writing.commit()
        try reader.begin()
        #expect(try get(reader, store.tables.identifiers, key) == value)
        #expect(try get(reader, store.tables.urgent, [0, 0, 0, 0, 0, 0, 0, 6]) == [])
        reader.end()
        #expect(try damaged(store) == 0)
    }

    /// Any bit of any page that is not damaged in the way in which pages are found.
    @Test func whateverBitChangesNoRowIsMissedUnnoticed() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try makeStore()
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        var random = SeededRandom(seed: 11)
        var (missed, byPages, byRows) = (0, 0, 0)
        for round in 0..<400 {
            var changed = whole
            var place = 0
            repeat { place = 8192 + Int(random.next() % UInt64(whole.count - 8192)) } while whole[place] == 0
            changed[place] ^= 1 << UInt8(random.next() & 7)
            try changed.write(to: URL(fileURLWithPath: path))
            do { try StoreFile(path).check(isDeep: true) } catch {
                byPages += 1
                continue
            }
            let isTold: Bool
            do {
                try StoreFile(path).check(isDeep: true, withRows: true)
                isTold = false
            } catch { isTold = true }
            let store = try Database(folder: folder, mapBytes: 16 << 20, synchronous: false)
            let found = try damaged(store)
            var isMissed = false
            var reader = try store.makeReader()
            try reader.begin()
            for number in 0..<RowTests.count {
                let (key, value) = RowTests.row(number)
                let seen = try get(reader, store.tables.identifiers, key)
                if seen != value { isMissed = true }
                #expect(seen == nil || seen == value, "round \(round), byte \(place)")
            }
            if isMissed { missed += 1 }
            if found > 0 { byRows += 1 }
            #expect(!isMissed || found > 0, "round \(round), byte \(place)")
            #expect(!isMissed || isTold, "round \(round), byte \(place)")
        }
        #expect(missed > 150 && byRows >= missed && byPages > 5, "\(missed) missed, \(byRows) by rows, \(byPages) by pages")
    }

    /// What a page says that it ends before, nobody sees; the table tells how many rows it has.
    @Test func aPageThatEndsEarlierIsFound() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try makeStore()
        var changed = try Data(contentsOf: URL(fileURLWithPath: path))
        let key = try #require(changed.firstRange(of: Data(RowTests.row(5).key)))
        let lower = key.lowerBound / 4096 * 4096 + MemoryLayout<Int>.size + 4
        changed[lower] -= 2
        try changed.write(to: URL(fileURLWithPath: path))
        #expect(throws: StoreError.damaged("")) {
            try damaged(Database(folder: folder, mapBytes: 16 << 20, synchronous: false))
        }
    }

    /// Writing goes on between the steps of a look, and in the transaction of a step before it and behind it; some of it is
    /// never committed.
    @Test func aStoreThatIsWrittenMeanwhileIsNotFoundDamaged() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try makeStore()
        let store = try Database(folder: folder, mapBytes: 16 << 20, synchronous: false)
        var random = SeededRandom(seed: 23)
        var look = RowCheck()
        var (passes, changed) = (0, 0)
        func change(_ writing: inout WriteTransaction) throws {
            if random.next() % 3 != 0 { return }
            changed += 1
            let (key, value) = RowTests.row(Int(random.next() % 3000))
            if random.next() % 2 == 0 {
                try writing.put(store.tables.identifiers, key.span, value.span)
            } else {
                try writing.delete(store.tables.identifiers, key.span)
            }
            try writing.put(store.tables.log, NumberKey(UInt64(changed)).bytes.span, value.span, appending: true)
            if random.next() % 2 == 0 {
                _ = try writing.deleteNumbers(store.tables.log, below: UInt64(max(0, changed - 20)), atMost: 5)
            }
        }
        for _ in 0..<6000 {
            var writing = try store.beginWrite()
            try change(&writing)
            #expect(try writing.check(&look, bytes: 500 + Int(random.next() % 20_000)) == 0)
            if look.isAtStart { passes += 1 }
            try change(&writing)
            if random.next() % 2 == 0 { try writing.commit() }
        }
        #expect(passes > 20 && changed > 1000, "\(passes) passes, \(changed) changes")
    }

    /// A page of keys that leads to a wrong one, as no row knows: some rows are met twice, others not at all.
    @Test func aBranchThatLeadsElsewhereIsFound() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try makeStore()
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        func half(_ place: Int) -> Int { Int(whole[place]) | Int(whole[place + 1]) << 8 }
        // Branch pages in use that lead to identifiers: with 36 bytes of key in their second entry.
        let head = MemoryLayout<Int>.size + 8
        var tried = 0
        for page in 2..<whole.count / 4096 {
            let start = page * 4096
            let entries = (half(start + head - 4) - head) / 2
            guard half(start + head - 6) == 1, entries > 8 else { continue }
            let places = (0..<entries).map { start + half(start + head + 2 * $0) }
            guard places.dropFirst().allSatisfy({ $0 + 44 <= start + 4096 }), half(places[1] + 6) == 36 else { continue }
            for (from, to) in [(1, entries - 2), (entries - 2, 1), (0, entries - 1)] {
                var changed = whole
                for byte in [0, 1, 2, 3, 4, 5] { changed[places[to] + byte] = whole[places[from] + byte] }
                try changed.write(to: URL(fileURLWithPath: path))
                if (try? StoreFile(path).check(isDeep: true)) != nil { continue }
                tried += 1
                for bytes in [3000, 4000, 1 << 20] {
                    #expect(throws: StoreError.damaged(""), "\(from) to \(to)") {
                        let store = try Database(folder: folder, mapBytes: 16 << 20, synchronous: false)
                        let reading = try store.beginWrite()
                        var look = RowCheck()
                        var steps = 0
                        repeat {
                            if try reading.check(&look, bytes: bytes) > 0 { throw StoreError.damaged("") }
                            steps += 1
                            if steps > 10_000 { throw StoreError.full }
                        } while !look.isAtStart
                    }
                }
            }
        }
        #expect(tried > 2)
    }

    @Test func aCopyHasTheDamageToo() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try makeStore()
        var changed = try Data(contentsOf: URL(fileURLWithPath: path))
        let place = try #require(changed.firstRange(of: Data(RowTests.row(5).key)))
        changed[place.upperBound - 1] ^= 1
        try changed.write(to: URL(fileURLWithPath: path))
        do {
            let store = try Database(folder: folder, mapBytes: 16 << 20)
            #expect(try damaged(store) == 1)
            #expect(try store.snapshot(to: folder + "/copy", at: 1, mayGoOn: nil))
        }
        #expect(throws: StoreError.self) { try StoreFile(folder + "/copy").check(isDeep: true, withRows: true) }
        _ = try Database.compact(folder: folder, StoreLock(folder))
        #expect(try damaged(Database(folder: folder, mapBytes: 16 << 20)) == 1)
    }

    /// Rows without checksums would be read as others: nobody takes them into use.
    @Test func aStoreOfAnEarlierVersionIsRefused() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try makeStore()
        var changed = try Data(contentsOf: URL(fileURLWithPath: path))
        for (turn, name) in ["device", "epoch"].enumerated() {
            let place = try #require(changed.firstRange(of: Data(key(name))))
            changed[place.upperBound] ^= 1
            try changed.write(to: URL(fileURLWithPath: path))
            // One row of several is damage.
            if turn == 0 { #expect(try damaged(Database(folder: folder, mapBytes: 16 << 20)) == 1) }
        }
        for isReading in [false, true] {
            do {
                _ = try isReading ? Database(reading: folder) : Database(folder: folder, mapBytes: 16 << 20)
                Issue.record("it was taken")
            } catch let error as StoreError { #expect(error.message.contains("earlier version")) }
        }
        // Nor is a backup of it put in a store's place.
        do {
            try StoreFile(path).check(isDeep: true)
            Issue.record("it was taken for a whole one")
        } catch let error as StoreError { #expect(error.message.contains("earlier version")) }
    }

    /// Whom nobody finds any more, names of the erased are still looked for among them; and an erasure holds whose time cannot be
    /// read.
    @Test func keysAreMetWhateverTheirRowSays() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try makeStore()
        let erased = [UInt8](0..<16)
        let (key, value) = RowTests.row(5)
        let time = NumberKey(77_777_777)
        do {
            let store = try Database(folder: folder, mapBytes: 16 << 20, synchronous: false)
            var writing = try store.beginWrite()
            try writing.put(store.tables.suppressed, erased.span, time.bytes.span)
            try writing.put(store.tables.links, key.span, time.bytes.span)
            try writing.commit()
        }
        var changed = try Data(contentsOf: URL(fileURLWithPath: path))
        for needle in [value, [UInt8](copying: time.bytes.span)] {
            var from = changed.startIndex
            while let place = changed[from...].firstRange(of: Data(needle)) {
                changed[place.upperBound - 1] ^= 64
                from = place.upperBound
            }
        }
        try changed.write(to: URL(fileURLWithPath: path))
        let store = try Database(folder: folder, mapBytes: 16 << 20)
        var reader = try store.makeReader()
        try reader.begin()
        #expect(try get(reader, store.tables.identifiers, key) == nil)
        #expect(try get(reader, store.tables.suppressed, erased) == [])
        func met(_ table: Table, _ key: [UInt8]) throws -> Int? {
            var bytes: Int?
            try reader.scan(table, from: key.span) { found, value in
                if [UInt8](copying: found) == key { bytes = value.count }
                return false
            }
            return bytes
        }
        #expect(try met(store.tables.identifiers, key) == 16)
        #expect(try met(store.tables.suppressed, erased) == 0)
        #expect(try met(store.tables.links, key) == nil)
    }
}
