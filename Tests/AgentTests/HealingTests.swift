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

    @Test func aStartKnowsWhatIsToBeDone() throws {
        let folder = makeFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let configuration = Configuration()
        configuration.data = folder
        configuration.diskBytes = 64 << 20
        func need() -> Healing.Need { Healing(configuration).need() }
        #expect(need() == .nothing)
        let files = StoreFiles(folder: folder)
        do {
            let database = try Database(folder: folder, mapBytes: 64 << 20, synchronous: false)
            _ = try database.snapshot(to: files.snapshot(1), at: 5) { true }
            #expect(need() == .nothing)
            let value = [UInt8](repeating: 1, count: 3000)
            for round in 0..<60 as Range<UInt64> {
                var transaction = try database.beginWrite()
                for number in 0..<100 as Range<UInt64> {
                    let key = NumberKey(round * 100 + number)
                    try transaction.put(database.tables.log, key.bytes.span, value.span, appending: true)
                }
                try transaction.commit()
            }
            #expect(need() == .nothing)
            while true {
                var transaction = try database.beginWrite()
                let removed = try transaction.deleteNumbers(database.tables.log, below: .max, atMost: 500)
                try transaction.commit()
                if removed == 0 { break }
            }
        }
        #expect(need() == .compaction)
        try Files.replace(files.crash, with: [], mode: 0o600)
        #expect(need() == .look)
        Files.remove(files.crash)
        try Data([UInt8](repeating: 0, count: 9000)).write(to: URL(fileURLWithPath: files.store))
        #expect(need() == .replacement)
        try files.replaceStore(with: files.snapshot(1))
        #expect(need() == .adoption && Files.exists(files.aside))
        Files.remove(files.store)
        #expect(need() == .replacement)
        files.removeCopies()
        #expect(need() == .nothing)
        // Of a device of the other word size: the magic number stands where that has it.
        var other = [UInt8](repeating: 0, count: 8192)
        for (place, byte) in ([0xDE, 0xC0, 0xEF, 0xBE] as [UInt8]).enumerated() { other[(MemoryLayout<Int>.size == 8 ? 12 : 16) + place] = byte }
        try Data(other).write(to: URL(fileURLWithPath: files.store))
        #expect(need() == .nothing)
    }
}
