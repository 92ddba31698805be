// The record of one erasure (promise P8): what is left to do, and when nothing is, a receipt that says nothing about
// anybody. It need not know how the work is done.

import Cryptography
import Formats
import Store

/// An erasure under way, or its receipt.
///
/// In the table `erasures` under the receipt's 16 random bytes: a checksum, ten numbers of 64 bits, then 72 bytes for
/// each identifier as in a log entry. The receipt of one that is done has no profile and no identifiers.
public struct Erasure {
    public enum State: UInt64 {
        /// The log and the quarantine are gone through.
        case erasing = 1
        /// Destinations are told.
        case telling = 2
        case done = 3
    }

    /// 16 random bytes, by which it is asked for.
    public var receipt: [UInt8]
    public var state = State.erasing
    public var profile: ProfileID
    public var identifiers: [LoggedIdentifier]
    /// When it was asked for, and when nothing was left to do; milliseconds since the epoch.
    public var askedAt: Int64
    public var doneAt: Int64 = 0
    /// The next entry of the log to look at, and the first that came later than the erasure.
    public var position: UInt64
    public var end: UInt64
    /// Number of the notice in the log.
    public var notice: UInt64 = 0
    public var removedEvents: UInt64 = 0
    public var removedQuarantined: UInt64 = 0
    /// Key of the next record of what triggers wait with to look at; empty: the first. After a restart that begins anew.
    public var nextTimer: [UInt8] = []

    private static let numberCount = 10
    private static let identifierBytes = 4 + 4 + 2 * Digest256.byteCount

    /// A new one.
    /// - Parameters:
    ///   - from: the first entry of the log; `end`: the first that comes later than the erasure.
    public init(receipt: [UInt8], profile: ProfileID, identifiers: [LoggedIdentifier], askedAt: Int64, from: UInt64, end: UInt64) {
        self.receipt = receipt
        self.profile = profile
        self.identifiers = identifiers
        self.askedAt = askedAt
        position = from
        self.end = end
    }

    /// - Returns: nil for a record that fails its checksum.
    public init?(receipt: Span<UInt8>, _ record: Span<UInt8>) {
        let fixed = 4 + 8 * Erasure.numberCount
        guard record.count >= fixed, (record.count - fixed) % Erasure.identifierBytes == 0,
            Checksum.of(record.extracting(4..<record.count)) == UInt32(littleEndianAt: 0, of: record),
            let state = State(rawValue: UInt64(littleEndianAt: 4, of: record))
        else { return nil }
        self.receipt = [UInt8](copying: receipt)
        self.state = state
        var numbers: [UInt64] = []
        for index in 1..<Erasure.numberCount { numbers.append(UInt64(littleEndianAt: 4 + 8 * index, of: record)) }
        profile = ProfileID(high: numbers[0], low: numbers[1])
        askedAt = Int64(bitPattern: numbers[2])
        doneAt = Int64(bitPattern: numbers[3])
        position = numbers[4]
        end = numbers[5]
        notice = numbers[6]
        removedEvents = numbers[7]
        removedQuarantined = numbers[8]
        identifiers = []
        var offset = fixed
        while offset < record.count {
            identifiers.append(
                LoggedIdentifier(
                    kindTag: UInt32(littleEndianAt: offset, of: record),
                    digest: Digest256(record.extracting(offset + 8..<offset + 40)) ?? .zero,
                    plainDigest: record[offset + 4] & 1 == 0 ? nil : Digest256(record.extracting(offset + 40..<offset + 72)),
                    isFormer: record[offset + 4] & 4 != 0))
            offset += Erasure.identifierBytes
        }
    }

    /// The record as it is stored.
    public var record: [UInt8] {
        var bytes: [UInt8] = [0, 0, 0, 0]
        let numbers: [UInt64] = [
            state.rawValue, profile.high, profile.low, UInt64(bitPattern: askedAt), UInt64(bitPattern: doneAt), position, end,
            notice, removedEvents, removedQuarantined,
        ]
        for number in numbers { LogEntry.append(number, to: &bytes) }
        for identifier in identifiers {
            LogEntry.append(identifier.kindTag, to: &bytes)
            LogEntry.append(UInt32((identifier.plainDigest == nil ? 0 : 1) | (identifier.isFormer ? 4 : 0)), to: &bytes)
            identifier.digest.append(to: &bytes)
            (identifier.plainDigest ?? .zero).append(to: &bytes)
        }
        let sum = Checksum.of(bytes.span.extracting(4..<bytes.count))
        for index in 0..<4 { bytes[index] = UInt8(truncatingIfNeeded: sum >> UInt32(8 * index)) }
        return bytes
    }

    /// Whether an entry of the log or the quarantine is about the person; see `LogEntryView.isAbout`.
    public func concerns(_ entry: borrowing LogEntryView, isSomebodys: (LoggedIdentifier) -> Bool) -> Bool {
        entry.isAbout(profile, identifiers, isSomebodys: isSomebodys)
    }

    /// Keeps the plain hashes of an entry, by which destinations know the person, until they have been told.
    public mutating func learn(from entry: borrowing LogEntryView) {
        for index in 0..<entry.identifierCount {
            let other = entry.identifier(index)
            guard let plain = other.plainDigest else { continue }
            for mine in identifiers.indices
            where identifiers[mine].kindTag == other.kindTag && identifiers[mine].digest == other.digest {
                identifiers[mine].plainDigest = plain
            }
        }
    }

    /// Nothing of the person is left in it.
    public mutating func forget(at now: Int64) {
        state = .done
        doneAt = now
        profile = ProfileID(high: 0, low: 0)
        identifiers = []
    }

    /// Writes what a privacy officer is shown.
    public static func write(_ erasure: Erasure, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("receipt")
        writer.string(Hex.encode(erasure.receipt.span))
        writer.key("state")
        switch erasure.state {
        case .erasing: writer.string("erasing")
        case .telling: writer.string("telling destinations")
        case .done: writer.string("erased")
        }
        writer.key("askedAt")
        write(erasure.askedAt, to: &writer)
        if erasure.state == .done {
            writer.key("erasedAt")
            write(erasure.doneAt, to: &writer)
        }
        writer.key("events")
        writer.uint(erasure.removedEvents)
        writer.key("quarantined")
        writer.uint(erasure.removedQuarantined)
        writer.endObject()
    }

    private static func write(_ time: Int64, to writer: inout JSONWriter) {
        var text: [UInt8] = []
        Timestamp.append(time, to: &text)
        writer.string(text)
    }
}
