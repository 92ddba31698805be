// Shows that the store keeps what is committed and nothing else, in order, for one process at a time; that a log entry
// reads back as it was written; and that every flipped bit of one is found.

import Cryptography
import Formats
import Testing

@testable import Platform
@testable import Store

@Suite struct StoreTests {
    private func makeFolder() -> String {
        var random = SystemRandom()
        return "/tmp/gatehouse-store-test-\(random.next())"
    }

    @Test func whatIsCommittedIsThereAfterReopeningAndWhatIsNotIsGone() throws {
        let folder = makeFolder()
        do {
            let store = try Database(folder: folder, mapBytes: 1 << 20)
            var first = try store.beginWrite()
            try first.put(store.tables.meta, Array("kept".utf8).span, [1, 2, 3].span)
            try first.commit()
            var second = try store.beginWrite()
            try second.put(store.tables.meta, Array("dropped".utf8).span, [9].span)
            _ = consume second
        }
        let store = try Database(folder: folder, mapBytes: 1 << 20)
        var reader = try store.makeReader()
        try reader.begin()
        let key = Array("kept".utf8)
        var kept: [UInt8] = []
        if let span = try reader.get(store.tables.meta, key.span) { kept = copy(span) }
        let dropped = try reader.get(store.tables.meta, Array("dropped".utf8).span) == nil
        reader.end()
        #expect(kept == [1, 2, 3])
        #expect(dropped)
    }

    @Test func aReaderKeepsItsSnapshotUntilItBeginsAgain() throws {
        let store = try Database(folder: makeFolder(), mapBytes: 1 << 20)
        var reader = try store.makeReader()
        try reader.begin()
        var writing = try store.beginWrite()
        try writing.put(store.tables.meta, [1].span, [1].span)
        try writing.commit()
        let before = try reader.get(store.tables.meta, [1].span) == nil
        reader.end()
        try reader.begin()
        let after = try reader.get(store.tables.meta, [1].span) == nil
        reader.end()
        #expect(before && !after)
    }

    /// Pages that were looked at leave the process, while a reader holds a span of one of them: it reads the same after it.
    @Test func pagesOfTheMapAreGivenBackUnderAReader() throws {
        let folder = makeFolder()
        let store = try Database(folder: folder, mapBytes: 256 << 20, synchronous: false)
        let value = [UInt8](repeating: 7, count: 1500)
        for round in 0..<UInt64(16) {
            var writing = try store.beginWrite()
            for number in 0..<UInt64(1000) {
                try writing.put(store.tables.log, NumberKey(round * 1000 + number).bytes.span, value.span, appending: true)
            }
            try writing.commit()
        }
        var reader = try store.makeReader()
        try reader.begin()
        try store.releasePages()
        let before = Process.residentMemory()?.fileBytes ?? 0
        var sum = 0
        let nothing: [UInt8] = []
        try reader.scan(store.tables.log, from: nothing.span) { _, value in
            sum += Int(value[1400])
            return true
        }
        let looked = Process.residentMemory()?.fileBytes ?? 0
        let key = NumberKey(8000)
        var isSame = false
        if let held = try reader.get(store.tables.log, key.bytes.span) {
            try store.releasePages()
            isSame = copy(held) == value
        }
        let after = Process.residentMemory()?.fileBytes ?? 0
        reader.end()
        #expect(sum == 7 * 16_000)
        #expect(isSame)
        // 16,000 values, two a page, are 31 MiB. Tests beside this one have memory of their own.
        #expect(looked - before > 24 << 20)
        #expect(looked - after > 24 << 20)
    }

    /// What a transaction is reckoned to hold in memory is near what it makes of the file: by values one after the other,
    /// and by keys that fall anywhere in a table that was empty.
    @Test func changedPagesAreReckonedNearTheTruth() throws {
        let store = try Database(folder: makeFolder(), mapBytes: 64 << 20, synchronous: false)
        // Four rows fill a page.
        let value = [UInt8](repeating: 7, count: 996)
        var random = SeededRandom(seed: 3)
        for isAppending in [true, false] {
            let before = store.usedBytes
            var writing = try store.beginWrite()
            for number in 0..<2000 as Range<UInt64> {
                let key = isAppending ? NumberKey(number) : NumberKey(random.next())
                let table = isAppending ? store.tables.log : store.tables.profiles
                try writing.put(table, key.bytes.span, value.span, appending: isAppending)
            }
            let reckoned = writing.changedPages
            try writing.commit()
            let grown = Int(store.usedBytes - before) / 4096
            #expect(reckoned > grown / 2 && reckoned < grown * 2, "\(reckoned) of \(grown)")
        }
    }

    /// What is free goes down to where a transaction fails, and comes back two commits after something was deleted.
    @Test func freePagesAreThoseThatATransactionCanTake() throws {
        let store = try Database(folder: makeFolder(), mapBytes: 1 << 20, synchronous: false)
        #expect(try store.freePages(atMost: 10) == 10)
        let page = [UInt8](repeating: 7, count: 4000)
        func fill(_ key: UInt8) -> Bool {
            do throws(StoreError) {
                var writing = try store.beginWrite()
                for part in 0..<8 { try writing.put(store.tables.log, [key, UInt8(part)].span, page.span) }
                try writing.commit()
                return true
            } catch { return false }
        }
        var count: UInt8 = 0
        var before = 0
        while count < 200 {
            before = try store.freePages(atMost: 1000)
            if !fill(count) { break }
            count += 1
        }
        #expect(count > 10 && before < 16)
        for key in 0..<3 as Range<UInt8> {
            var writing = try store.beginWrite()
            for part in 0..<8 { try writing.delete(store.tables.log, [key, UInt8(part)].span) }
            try writing.commit()
        }
        let after = try store.freePages(atMost: 1000)
        #expect(after >= 16)
        #expect(try store.freePages(atMost: 5) == 5)
        let isFilled = fill(201)
        #expect(isFilled)
    }

    /// Free pages become holes between commits at random, while readers are at commits of before: each reads what was there then.
    @Test func holesAreMadeWhereNobodyReads() throws {
        let folder = makeFolder()
        var random = SeededRandom(seed: 11)
        var held: [UInt64: UInt8] = [:]
        var seen: [[UInt64: UInt8]] = [[:], [:], [:]]
        func content(_ reader: borrowing Reader) throws -> [UInt64: UInt8] {
            var found: [UInt64: UInt8] = [:]
            let nothing: [UInt8] = []
            try reader.scan(reader.tables.meta, from: nothing.span) { key, value in
                let isWhole = value.withUnsafeBytes { bytes in bytes.allSatisfy { $0 == bytes[0] } }
                found[UInt64(littleEndianAt: 0, of: key)] = isWhole ? value[0] : 0
                return true
            }
            return found
        }
        var holes: Int64 = 0
        do {
            let store = try Database(folder: folder, mapBytes: 64 << 20, synchronous: false)
            var first = try store.makeReader()
            var second = try store.makeReader()
            var third = try store.makeReader()
            for round in 0..<400 {
                var writing = try store.beginWrite()
                for _ in 0..<(1 + random.next() % 12) {
                    let number = random.next() % 300
                    let key = withUnsafeBytes(of: number.littleEndian) { [UInt8]($0) }
                    if held[number] != nil, random.next() % 2 == 0 {
                        try writing.delete(store.tables.meta, key.span)
                        held[number] = nil
                    } else {
                        let value = [UInt8](repeating: UInt8(1 + random.next() % 255), count: Int(1 + random.next() % 9000))
                        try writing.put(store.tables.meta, key.span, value.span)
                        held[number] = value[0]
                    }
                }
                try writing.commit()
                switch round % 17 {
                case 3: first.end(); try first.begin(); seen[0] = held
                case 9: second.end(); try second.begin(); seen[1] = held
                default: if round % 29 == 5 { third.end(); try third.begin(); seen[2] = held }
                }
                let before = store.diskBytes
                let isPossible = try store.punchFreePages { true }
                #expect(isPossible)
                holes += before - store.diskBytes
                if round > 30 {
                    #expect(try content(first) == seen[0])
                    #expect(try content(second) == seen[1])
                    #expect(try content(third) == seen[2])
                }
            }
        }
        #expect(holes > 4 << 20, "\(holes) bytes")
        let store = try Database(folder: folder, mapBytes: 64 << 20)
        var reader = try store.makeReader()
        try reader.begin()
        #expect(try content(reader) == held)
    }

    @Test func manyHolesAreMadeInParts() throws {
        // limit: Store.holesPerPart
        let store = try Database(folder: makeFolder(), mapBytes: 64 << 20, synchronous: false)
        let value = [UInt8](repeating: 3, count: 3000)
        let (entries, parts) = (8 * UInt64(Limits.holesPerPart), 4)
        var writing = try store.beginWrite()
        for number in 0..<entries {
            try writing.put(store.tables.log, NumberKey(number).bytes.span, value.span, appending: true)
        }
        try writing.commit()
        // Every second page becomes free, and two commits later it is given out.
        for round in 0..<3 as Range<UInt64> {
            writing = try store.beginWrite()
            for number in 0..<entries where round == 0 && number % 2 == 0 || round > 0 && number == 2 * round + 1 {
                try writing.delete(store.tables.log, NumberKey(number).bytes.span)
            }
            try writing.commit()
        }
        var taken = 0
        let before = store.diskBytes
        _ = try store.punchFreePages {
            taken += 1
            return taken < 2
        }
        #expect(taken == 2)
        // So many at most, and fewer where one takes long.
        let inTwo = before - store.diskBytes
        #expect(inTwo > 0 && inTwo < Int64(3 * Limits.holesPerPart) * store.pageBytes)
        _ = try store.punchFreePages {
            taken += 1
            return true
        }
        #expect(taken >= 2 + parts - 1)
        #expect(before - store.diskBytes >= Int64(4 * Limits.holesPerPart - 32) * store.pageBytes)
    }

    @Test func aSecondOpenerIsRefused() throws {
        let folder = makeFolder()
        let store = try Database(folder: folder, mapBytes: 1 << 20)
        #expect(throws: StoreError.inUse) { try Database(folder: folder, mapBytes: 1 << 20) }
        _ = store
    }

    @Test func numbersKeepTheirOrderAndTheOldestGoFirst() throws {
        let store = try Database(folder: makeFolder(), mapBytes: 1 << 20)
        var writing = try store.beginWrite()
        for number in [1, 255, 256, 65_536, 1 << 40] as [UInt64] {
            try writing.put(store.tables.log, NumberKey(number).bytes.span, [0].span, appending: true)
        }
        #expect(try writing.lastNumber(store.tables.log) == 1 << 40)
        #expect(try writing.deleteNumbers(store.tables.log, below: 65_536, atMost: 2) == 2)
        var seen: [UInt64] = []
        try writing.scan(store.tables.log, from: NumberKey(0).bytes.span) { key, _ in
            seen.append(NumberKey.decode(key) ?? 0)
            return true
        }
        #expect(seen == [256, 65_536, 1 << 40])
        #expect(try writing.deleteNumbers(store.tables.log, below: 65_536, atMost: 10) == 1)
        try writing.commit()
    }

    @Test func aFullMapIsSaidToBeFullAndTheStoreStaysUsable() throws {
        let store = try Database(folder: makeFolder(), mapBytes: 1 << 20)
        var number: UInt64 = 0
        let value = [UInt8](repeating: 7, count: 1000)
        var refusal: StoreError?
        while refusal == nil && number < 10_000 {
            do throws(StoreError) {
                var writing = try store.beginWrite()
                for _ in 0..<10 {
                    try writing.put(store.tables.log, NumberKey(number).bytes.span, value.span)
                    number += 1
                }
                try writing.commit()
            } catch {
                refusal = error
            }
        }
        #expect(refusal == .full)
        var reader = try store.makeReader()
        try reader.begin()
        #expect(reader.count(store.tables.log) > 100)
        reader.end()
    }

    private func makeEntry() -> [UInt8] {
        let header = LogEntryHeader(
            tier: .realtime, priority: 9, receivedAt: 1_700_000_000_123, purposeTag: 77, bundleVersion: 5,
            profile: ProfileID(high: 1, low: 2))
        let identifiers = [
            LoggedIdentifier(kindTag: 1, digest: SHA256.hash([1]), plainDigest: nil),
            LoggedIdentifier(kindTag: 2, digest: SHA256.hash([2]), plainDigest: SHA256.hash([3])),
        ]
        var bytes: [UInt8] = [1, 2, 3]
        LogEntry.encode(
            header, identifiers: identifiers.span, messageID: Array("m-1".utf8).span, body: Array("{\"a\":1}".utf8).span,
            into: &bytes)
        return bytes
    }

    @Test func anEntryReadsBackAsItWasWritten() throws {
        let bytes = makeEntry()
        let span = bytes.span
        guard let entry = LogEntryView(span) else {
            Issue.record("the entry is refused")
            return
        }
        #expect(entry.header.tier == .realtime && entry.header.priority == 9 && entry.header.purposeTag == 77)
        #expect(entry.header.receivedAt == 1_700_000_000_123 && entry.header.bundleVersion == 5)
        #expect(entry.header.profile == ProfileID(high: 1, low: 2))
        #expect(entry.identifierCount == 2)
        #expect(entry.identifier(0).plainDigest == nil)
        #expect(entry.identifier(1).plainDigest == SHA256.hash([3]))
        let messageID = copy(entry.messageID)
        let body = copy(entry.body)
        #expect(messageID == Array("m-1".utf8) && body == Array("{\"a\":1}".utf8))
    }

    @Test func everyFlippedBitOfAnEntryIsFound() {
        let bytes = makeEntry()
        for bit in 0..<(bytes.count * 8) {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            let isRefused = LogEntryView(damaged.span) == nil
            #expect(isRefused, "bit \(bit)")
        }
        for length in 0..<bytes.count {
            let isRefused = LogEntryView(bytes.span.extracting(0..<length)) == nil
            #expect(isRefused, "length \(length)")
        }
    }
}

private func copy(_ span: Span<UInt8>) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(contentsOf: span)
    return bytes
}
