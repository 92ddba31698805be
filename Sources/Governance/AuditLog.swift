// The audit log: what was done with personal data and with the rules, in a chain of hashes under the device's secret, so that
// a line that was altered or removed is found, unless whoever did it has the secret too. It works inside the caller's transaction: what is not written was not done.

import Cryptography
import Formats
import Platform
import Store

/// What is worth a line.
public enum AuditAction: Sendable {
    /// A person's choice changed.
    case consent
    /// A person's record was read.
    case read
    /// A person's whole record was taken out.
    case export
    /// A person was erased.
    case erase
    /// An identifier was taken away from a person.
    case unlink
    /// Another bundle came into force, or the agent started with one.
    case configuration
    /// An event left quarantine.
    case quarantine
    /// Data whose time was up was purged.
    case retention

    public var name: StaticString {
        switch self {
        case .consent: "consent"
        case .read: "read"
        case .export: "export"
        case .erase: "erase"
        case .unlink: "unlink"
        case .configuration: "configuration"
        case .quarantine: "quarantine"
        case .retention: "retention"
        }
    }
}

/// What `AuditLog.verify` finds.
public enum AuditVerdict: Equatable, Sendable {
    /// Every line from `first` to `last` is as it was written, and none is missing. `last` below `first`: none yet.
    case intact(first: UInt64, last: UInt64)
    /// The line with this number was altered, or one before it was removed.
    case altered(UInt64)
    /// Lines from this number on were removed.
    case missing(UInt64)
    /// The record of where the chain begins and ends is damaged or gone.
    case noEnds
}

/// The chain. One, owned by the writer; a copy taken before a transaction brings it back when that did not happen.
///
/// A line lies in the table `audit` under its number: 32 bytes of chain, then a JSON object. The chain is HMAC-SHA-256 over
/// the chain of the line before, the number (8 bytes, big-endian) and the object. Where it begins and ends is kept in
/// `meta` with a code of its own, and changes in the same transaction. A whole file put back from an older copy is not
/// noticed: keep the number of the last line elsewhere.
public struct AuditLog {
    /// Number of the next line, from 1.
    public private(set) var next: UInt64 = 1
    /// Number of the oldest line that is kept.
    private var first: UInt64 = 1
    /// Chain of the last line.
    private var head = Digest256.zero
    /// Chain of the line before the oldest that is kept.
    private var anchor = Digest256.zero
    private static let key: [UInt8] = Array("audit".utf8)
    private static let endsBytes = 8 + 8 + 32 + 32 + 32
    private let secret: HMACSHA256
    private var most = Limits.auditLines

    /// Reads where the chain stands.
    /// - Parameters:
    ///   - root: the device's secret, from which the chain's own is derived.
    ///   - most: how many lines are kept.
    public init(
        _ transaction: borrowing WriteTransaction, root: borrowing HMACSHA256, keeping most: UInt64 = Limits.auditLines
    ) throws(StoreError) {
        self.init(root)
        self.most = most
        guard let ends = try transaction.get(transaction.tables.meta, AuditLog.key.span) else { return }
        guard take(ends) else { throw .badRecord("audit") }
    }

    /// Whether a store's chain is as it was written, and under another secret than this.
    public static func isOfAnother(_ root: borrowing HMACSHA256, in reader: borrowing Reader) throws(StoreError) -> Bool {
        let table = reader.tables.meta
        guard reader.holds(table, key.span), let ends = try reader.get(table, key.span) else { return false }
        var chain = AuditLog(root)
        return !chain.take(ends)
    }

    private init(_ root: borrowing HMACSHA256) {
        let derived = root.authenticate(Array("audit chain".utf8))
        secret = derived.withSpan { HMACSHA256(key: $0) }
    }

    private mutating func take(_ ends: Span<UInt8>) -> Bool {
        guard ends.count == AuditLog.endsBytes, let code = Digest256(ends.extracting(80..<112)),
            code == secret.authenticate(ends.extracting(0..<80)), let head = Digest256(ends.extracting(16..<48)),
            let anchor = Digest256(ends.extracting(48..<80))
        else { return false }
        next = UInt64(littleEndianAt: 0, of: ends)
        first = UInt64(littleEndianAt: 8, of: ends)
        self.head = head
        self.anchor = anchor
        return first >= 1 && next >= first
    }

    /// Adds a line.
    /// - Parameters:
    ///   - actor: who did it: `event`, `device`, `anyone` or `token:…`.
    ///   - subject: a pseudonym of the person (`AuditSubject`); nil when no person is concerned.
    ///   - detail: writes further members of the object; no personal data.
    ///   - time: milliseconds since the epoch.
    public mutating func append(
        _ action: AuditAction, actor: [UInt8], subject: [UInt8]?, at time: Int64, in transaction: inout WriteTransaction,
        detail: (inout JSONWriter) -> Void = { _ in }
    ) throws(StoreError) {
        var line = AuditLog.begin(action, actor, subject, time)
        detail(&line)
        try finish(&line, in: &transaction)
    }

    // What is in these two is compiled once, and not again for each `detail`.

    @inline(never)
    private static func begin(_ action: AuditAction, _ actor: [UInt8], _ subject: [UInt8]?, _ time: Int64) -> JSONWriter {
        var line = JSONWriter(reserving: 192)
        line.beginObject()
        line.key("at")
        var moment: [UInt8] = []
        Timestamp.append(time, to: &moment)
        line.string(moment)
        line.key("action")
        line.string(action.name)
        line.key("actor")
        line.string(actor)
        if let subject {
            line.key("subject")
            line.string(subject)
        }
        return line
    }

    @inline(never)
    private mutating func finish(_ line: inout JSONWriter, in transaction: inout WriteTransaction) throws(StoreError) {
        line.endObject()
        let number = NumberKey(next)
        head = chain(head, number, line.bytes.span)
        var entry: [UInt8] = []
        head.append(to: &entry)
        entry.append(contentsOf: line.bytes)
        try transaction.put(transaction.tables.audit, number.bytes.span, entry.span, appending: true)
        next += 1
        if next - first > most { try forgetOldest(&transaction) }
        try writeEnds(&transaction)
    }

    private mutating func forgetOldest(_ transaction: inout WriteTransaction) throws(StoreError) {
        let oldest = NumberKey(first)
        // One that is gone is passed over: `verify` will say so, and the log stays bounded.
        if let chain = try AuditLog.storedChain(oldest, transaction) { anchor = chain }
        try transaction.delete(transaction.tables.audit, oldest.bytes.span)
        first += 1
    }

    private static func storedChain(
        _ number: NumberKey, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Digest256? {
        guard let entry = try transaction.get(transaction.tables.audit, number.bytes.span), entry.count > 32 else { return nil }
        return Digest256(entry.extracting(0..<32))
    }

    private func writeEnds(_ transaction: inout WriteTransaction) throws(StoreError) {
        var ends: [UInt8] = []
        for number in [next, first] {
            for shift in 0..<8 { ends.append(UInt8(truncatingIfNeeded: number >> UInt64(8 * shift))) }
        }
        head.append(to: &ends)
        anchor.append(to: &ends)
        secret.authenticate(ends.span).append(to: &ends)
        try transaction.put(transaction.tables.meta, AuditLog.key.span, ends.span)
    }

    private func chain(_ previous: Digest256, _ number: NumberKey, _ line: Span<UInt8>) -> Digest256 {
        var hash = secret.begin()
        previous.withSpan { hash.update($0) }
        hash.update(number.bytes.span)
        hash.update(line)
        return secret.finish(hash)
    }

    /// Holds every line against the chain.
    public static func verify(_ reader: borrowing Reader, root: borrowing HMACSHA256) throws(StoreError) -> AuditVerdict {
        var log = AuditLog(root)
        if let ends = try reader.get(reader.tables.meta, AuditLog.key.span) {
            guard log.take(ends) else { return .noEnds }
        } else if reader.count(reader.tables.accounts) > 0 {
            // A store that has taken something has a line about its bundle.
            return .noEnds
        }
        var expected = log.first
        var chain = log.anchor
        var altered: UInt64?
        try reader.scan(reader.tables.audit, from: Span<UInt8>()) { key, entry in
            guard NumberKey.decode(key) == expected, expected < log.next, entry.count > 32 else {
                altered = expected
                return false
            }
            chain = log.chain(chain, NumberKey(expected), entry.extracting(32..<entry.count))
            guard Digest256(entry.extracting(0..<32)) == chain else {
                altered = expected
                return false
            }
            expected += 1
            return true
        }
        if let altered { return .altered(altered) }
        if expected != log.next { return .missing(expected) }
        return chain == log.head ? .intact(first: log.first, last: log.next - 1) : .altered(log.next - 1)
    }

    /// Calls `body` with the number and the JSON object of each line from `number` on, until it returns false.
    public static func forEachLine(
        from number: UInt64, _ reader: borrowing Reader, _ body: (UInt64, Span<UInt8>) -> Bool
    ) throws(StoreError) {
        let start = NumberKey(number)
        try reader.scan(reader.tables.audit, from: start.bytes.span) { key, entry in
            guard let number = NumberKey.decode(key), entry.count > 32 else { return true }
            return body(number, entry.extracting(32..<entry.count))
        }
    }

    /// Writes a line's object. One that a damaged disk has altered so that it is no JSON is shown as that, and does not make
    /// everything around it unreadable.
    public static func write(_ line: Span<UInt8>, to output: inout JSONWriter) {
        var document = JSONDocument()
        do throws(JSONError) {
            try document.parse(line)
            output.raw(line)
        } catch {
            output.raw(Array("{\"action\":\"altered\"}".utf8).span)
        }
    }
}

/// How the audit log names a person: a keyed hash of the profile's id, which is itself random. When the profile is
/// erased nothing is left that leads from a person to the name.
public struct AuditSubject {
    private let key: HMACSHA256

    public init(root: borrowing HMACSHA256) {
        let derived = root.authenticate(Array("audit subject".utf8))
        key = derived.withSpan { HMACSHA256(key: $0) }
    }

    /// 32 hexadecimal digits.
    public func name(of profile: ProfileID) -> [UInt8] {
        let id = profile.bytes
        let digest = key.authenticate(id.span)
        var name: [UInt8] = []
        for index in 0..<16 {
            name.append(Hex.digit(digest[index] >> 4))
            name.append(Hex.digit(digest[index] & 0xF))
        }
        return name
    }
}
