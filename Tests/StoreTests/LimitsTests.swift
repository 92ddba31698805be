// Shows what happens where the store has no more of something to give: an error that says so, or as much as there is.
import Cryptography
import Testing

@testable import Platform
@testable import Store

@Suite struct StoreLimitsTests {
    private func withStore(mapBytes: Int64 = 1 << 20, _ body: (Database) throws -> Void) throws {
        var random = SystemRandom()
        let folder = "/tmp/gatehouse-store-limits-\(random.next())"
        defer {
            for name in ["data.mdb", "lock.mdb", "gatehouse.lock"] { Files.remove(folder + "/" + name) }
            Files.removeDirectory(folder)
        }
        try body(try Database(folder: folder, mapBytes: mapBytes, synchronous: false))
    }

    private final class Holder {
        let reader: Reader
        init(_ reader: consuming Reader) { self.reader = reader }
    }

    /// A device needs some thirty at most; commands that look at the store from outside share what is left.
    // limit: Store.readers
    @Test func thereAreOnlySoManyReaders() throws {
        try withStore { database in
            var held: [Holder] = []
            for _ in 0..<Int(Limits.readers) { held.append(Holder(try database.makeReader())) }
            #expect(throws: StoreError.self) { _ = Holder(try database.makeReader()) }
            held.removeLast()
            held.append(Holder(try database.makeReader()))
            #expect(held.count == Int(Limits.readers))
        }
    }

    // limit: Store.maximumMapBytes, Store.defaultMapBytes
    @Test func aMapIsOnlySoLarge() throws {
        try withStore(mapBytes: Limits.maximumMapBytes * 2) { #expect($0.mapBytes == Limits.maximumMapBytes) }
        try withStore(mapBytes: Limits.defaultMapBytes) { #expect($0.mapBytes == Limits.defaultMapBytes) }
    }

    // limit: Store.logEntryIdentifiers
    @Test func anEntryCarriesOnlySoManyIdentifiers() {
        let identifiers = (0..<20).map {
            LoggedIdentifier(kindTag: UInt32($0), digest: SHA256.hash([UInt8($0)]), plainDigest: nil)
        }
        let header = LogEntryHeader(
            tier: .batch, priority: 0, receivedAt: 1, purposeTag: 1, bundleVersion: 1, profile: .nobody)
        var bytes: [UInt8] = []
        let (messageID, body) = ([1] as [UInt8], Array("{}".utf8))
        LogEntry.encode(
            header, identifiers: identifiers.span, messageID: messageID.span, body: body.span, into: &bytes)
        let span = bytes.span
        let entry = LogEntryView(span)
        let count = entry?.identifierCount
        #expect(count == Limits.logEntryIdentifiers)
    }
}
