import Cryptography
import Formats
import Foundation
import Store
import Testing

@testable import Governance

/// A line of the audit log that is altered or removed is found; so is a tail that is cut off.
@Suite struct AuditLogTests {
    static let pepper = HMACSHA256(key: [9, 9, 9])

    static func withStore(_ body: (Database) throws -> Void) throws {
        let folder = NSTemporaryDirectory() + "gatehouse-audit-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(try Database(folder: folder, mapBytes: 16 << 20, synchronous: false))
    }

    static func write(_ count: Int, _ database: Database) throws {
        var transaction = try database.beginWrite()
        var log = try AuditLog(transaction, root: pepper)
        for number in 0..<count {
            try log.append(
                .consent, actor: Array("anyone".utf8), subject: Array("s\(number)".utf8), at: Int64(number), in: &transaction)
        }
        try transaction.commit()
    }

    static func verdict(_ database: Database) throws -> AuditVerdict {
        var reader = try database.makeReader()
        try reader.begin()
        return try AuditLog.verify(reader, root: pepper)
    }

    /// Changes a line behind the log's back; nil removes it.
    static func tamper(_ number: UInt64, _ database: Database, _ change: ((inout [UInt8]) -> Void)?) throws {
        var transaction = try database.beginWrite()
        let table = database.tables.audit
        let key = NumberKey(number)
        if let change {
            var line: [UInt8] = []
            if let value = try transaction.get(table, key.bytes.span) { line = [UInt8](copying: value) }
            change(&line)
            try transaction.put(table, key.bytes.span, line.span)
        } else {
            try transaction.delete(table, key.bytes.span)
        }
        try transaction.commit()
    }

    @Test func anUntouchedLogIsIntactAlsoAfterARestart() throws {
        try Self.withStore { database in
            #expect(try Self.verdict(database) == .intact(first: 1, last: 0))
            try Self.write(3, database)
            try Self.write(2, database)
            #expect(try Self.verdict(database) == .intact(first: 1, last: 5))
        }
    }

    @Test func aChainUnderAnotherSecretIsToldFromTheDevicesOwn() throws {
        try Self.withStore { database in
            let other = HMACSHA256(key: [9, 9, 8])
            func isOfAnother(_ secret: HMACSHA256) throws -> Bool {
                var reader = try database.makeReader()
                try reader.begin()
                return try AuditLog.isOfAnother(secret, in: reader)
            }
            #expect(try !isOfAnother(other), "there is none yet")
            try Self.write(3, database)
            #expect(try !isOfAnother(Self.pepper))
            #expect(try isOfAnother(other))
        }
    }

    /// The oldest lines are forgotten first, and what is left is a chain all the same.
    // limit: Governance.auditLines
    @Test func onlySoManyLinesAreKept() throws {
        #expect(Limits.auditLines == 500_000)
        try Self.withStore { database in
            var transaction = try database.beginWrite()
            var log = try AuditLog(transaction, root: Self.pepper, keeping: 100)
            for number in 0..<250 {
                try log.append(
                    .consent, actor: Array("anyone".utf8), subject: Array("s".utf8), at: Int64(number), in: &transaction)
            }
            let count = transaction.count(transaction.tables.audit)
            try transaction.commit()
            #expect(count == 100)
            #expect(try Self.verdict(database) == .intact(first: 151, last: 250))
        }
    }

    @Test func everyFlippedByteOfALineIsFound() throws {
        try Self.withStore { database in
            try Self.write(5, database)
            for index in 0..<90 {
                try Self.tamper(3, database) { $0[index] ^= 1 }
                #expect(try Self.verdict(database) == .altered(3), "byte \(index)")
                try Self.tamper(3, database) { $0[index] ^= 1 }
            }
            #expect(try Self.verdict(database) == .intact(first: 1, last: 5))
        }
    }

    @Test(arguments: [1, 3, 5] as [UInt64]) func aRemovedLineIsFound(number: UInt64) throws {
        try Self.withStore { database in
            try Self.write(5, database)
            try Self.tamper(number, database, nil)
            #expect(try Self.verdict(database) == (number == 5 ? .missing(5) : .altered(number)))
        }
    }

    @Test func anErasedIdentifierIsSuppressedAndNothingOfItIsKept() throws {
        try Self.withStore { database in
            let pepper = HMACSHA256(key: [1, 2, 3])
            let digest = SHA256.hash(Array("ada".utf8))
            var transaction = try database.beginWrite()
            var list = SuppressionList(transaction, root: pepper)
            #expect(try list.time(7, digest, in: transaction) == nil)
            try list.add(7, digest, at: 1234, in: &transaction)
            #expect(try list.time(7, digest, in: transaction) == 1234)
            #expect(try list.time(8, digest, in: transaction) == nil)
            try transaction.scan(database.tables.suppressed, from: Span()) { key, value in
                #expect(key.count == 16 && value.count == 8)
                let start = digest.withSpan { [UInt8](copying: $0.extracting(0..<4)) }
                #expect([UInt8](copying: key.extracting(0..<4)) != start)
                return true
            }
            try list.lift(7, digest, in: &transaction)
            #expect(try list.time(7, digest, in: transaction) == nil)
            try list.lift(8, digest, in: &transaction)
            #expect(transaction.count(database.tables.suppressed) == 1)
            // Erased once more, at another time.
            try list.add(7, digest, at: 5678, mark: 2, in: &transaction)
            #expect(try list.time(7, digest, in: transaction) == 5678)
        }
    }

    /// What another state of the store knows of erasures, and this one does not, was after it.
    @Test func anErasureThatAnEarlierStateDoesNotKnowSuppressesThereAlsoWhoIsBack() throws {
        try Self.withStore { database in
            let pepper = HMACSHA256(key: [1, 2, 3])
            let digest = SHA256.hash(Array("ada".utf8))
            var transaction = try database.beginWrite()
            var list = SuppressionList(transaction, root: pepper)
            func entry(_ transaction: borrowing WriteTransaction) throws -> ([UInt8], [UInt8]) {
                var entry: ([UInt8], [UInt8]) = ([], [])
                try transaction.scan(database.tables.suppressed, from: Span()) { key, value in
                    entry = ([UInt8](copying: key), [UInt8](copying: value))
                    return false
                }
                return entry
            }
            try list.add(7, digest, at: 1234, mark: 1, in: &transaction)
            let erased = try entry(transaction)
            try list.lift(7, digest, in: &transaction)
            let back = try entry(transaction)
            #expect(erased.0 == back.0 && erased.1 != back.1)
            // The backup was made after the erasure: whoever is in it was back.
            try SuppressionList.learn(back.0, back.1, in: &transaction)
            #expect(try entry(transaction) == back)
            // It was made before it, or before another one.
            for time in [nil, 1000] as [Int64?] {
                try list.remove(named: InlineArray<16, UInt8> { back.0[$0] }, in: &transaction)
                if let time { try list.add(7, digest, at: time, in: &transaction) }
                try SuppressionList.learn(back.0, back.1, in: &transaction)
                #expect(try entry(transaction) == erased)
                list = SuppressionList(transaction, root: pepper)
                #expect(try list.time(7, digest, in: transaction) == 1234)
            }
        }
    }
}
