// What a hub knows of a device that delivers to it. It need not know what the messages say.

import Formats
import Store

/// One row of the table `devices`, under the device's name: numbers behind a checksum, then the name of the hub between.
public struct DeviceRecord {
    /// The life of the device's store that its numbers are of.
    public private(set) var epoch: UInt64
    /// The first and the last number that have come of it, and how many.
    public private(set) var firstSequence: UInt64 = 0
    public private(set) var lastSequence: UInt64 = 0
    public private(set) var messages: UInt64 = 0
    /// When something came last, milliseconds since the epoch.
    public var heardAt: Int64 = 0
    /// Version of the bundle in force when the last message was admitted.
    public var bundleVersion: UInt64 = 0
    /// How far the device's clock is ahead, less the way here, milliseconds.
    public var clockAhead: Int64 = 0
    /// Messages that came once more.
    public var repeats: UInt64 = 0
    /// How often the device began anew with an empty store.
    public private(set) var restarts: UInt64 = 0
    /// Of its own destinations, as it says when it asks what has changed: entries of its log that wait for the one that is
    /// furthest behind, and those that one of them does not get any more, for want of room or because they were refused.
    public var queued: UInt64 = 0
    public var lost: UInt64 = 0
    /// The hub that has passed the last message on; empty for none.
    public var via: [UInt8] = []

    /// The longest name of a device.
    public static let nameBytes = 64

    private static let count = 11
    private static let bytes = 4 + 8 * count

    public init(epoch: UInt64) { self.epoch = epoch }

    /// - Returns: nil for a record that is damaged.
    public init?(_ record: Span<UInt8>) {
        guard record.count >= DeviceRecord.bytes,
            let numbers = Record.decode(record.extracting(0..<DeviceRecord.bytes), count: DeviceRecord.count)
        else { return nil }
        epoch = numbers[0]
        firstSequence = numbers[1]
        lastSequence = numbers[2]
        messages = numbers[3]
        heardAt = Int64(bitPattern: numbers[4])
        bundleVersion = numbers[5]
        clockAhead = Int64(bitPattern: numbers[6])
        repeats = numbers[7]
        restarts = numbers[8]
        queued = numbers[9]
        lost = numbers[10]
        via = [UInt8](copying: record.extracting(DeviceRecord.bytes..<record.count))
    }

    public var record: [UInt8] {
        Record.encode([
            epoch, firstSequence, lastSequence, messages, UInt64(bitPattern: heardAt), bundleVersion,
            UInt64(bitPattern: clockAhead), repeats, restarts, queued, lost,
        ]) + via
    }

    /// The device has another store: its numbers begin anew.
    public mutating func begin(_ epoch: UInt64) {
        self.epoch = epoch
        messages = 0
        restarts += 1
    }

    /// Counts a message that has not come before.
    public mutating func count(_ sequence: UInt64) {
        firstSequence = messages == 0 ? sequence : min(firstSequence, sequence)
        lastSequence = messages == 0 ? sequence : max(lastSequence, sequence)
        messages += 1
    }

    /// Numbers between the first and the last that have not come: what the device did not send here by its bundle, and what
    /// was lost.
    public var missing: UInt64 {
        let numbers = lastSequence - firstSequence + 1
        return messages == 0 || messages > numbers ? 0 : numbers - messages
    }

    public func isLate(at now: Int64) -> Bool { now - heardAt > Limits.lateMilliseconds }

    /// Writes the members of an object.
    func write(_ name: Span<UInt8>, now: Int64, to writer: inout JSONWriter) {
        writer.key("device")
        writer.string(name)
        if !via.isEmpty {
            writer.key("via")
            writer.string(via)
        }
        writer.key("lastHeard")
        var time: [UInt8] = []
        Timestamp.append(heardAt, to: &time)
        writer.string(time)
        writer.key("isLate")
        writer.bool(isLate(at: now))
        let numbers: [(StaticString, UInt64)] = [
            ("lastSeq", lastSequence), ("messages", messages), ("missing", missing), ("repeats", repeats),
            ("restarts", restarts), ("queued", queued), ("lost", lost), ("bundle", bundleVersion),
        ]
        for (name, number) in numbers {
            writer.key(name)
            writer.uint(number)
        }
        writer.key("clockAheadMs")
        if via.isEmpty { writer.int(clockAhead) } else { writer.null() }
    }
}
