// What an operator has a hub ask of a device. A hub cannot reach behind a router: the device hears of it when it asks what has
// changed (`POST /v1/sync`), and tells with a later question that it is done. Each may come again and does no harm then.

import Formats
import Store

/// What a device can be asked to do.
public enum DeviceCommand: Int, CaseIterable, Sendable {
    /// Send what waits, whatever hours and delay its destinations have.
    case flush
    /// Give the disk back what is free in the store.
    case compact
    /// Tell how it is.
    case report

    /// By number.
    static let words: [StaticString] = ["flush", "compact", "report"]
    public var word: StaticString { DeviceCommand.words[rawValue] }

    public init?(_ word: Span<UInt8>) {
        guard let number = DeviceCommand.words.firstIndex(where: { equal(word, $0.bytes) }) else { return nil }
        self.init(rawValue: number)
    }
}

/// What a device was asked to do: a row of the table `meta` of a hub, numbers behind a checksum and the device's last report.
public struct DeviceCommands {
    /// When each was asked for last and when it was done, milliseconds since the epoch; 0: never.
    public private(set) var askedAt: [UInt64] = [0, 0, 0]
    public private(set) var doneAt: [UInt64] = [0, 0, 0]
    /// When the report came, and its sum.
    private var reportedAt: UInt64 = 0
    private var sum: UInt64 = 0
    private var report: [UInt8] = []

    private static let count = 8
    private static let bytes = 4 + 8 * count

    /// The key of a device's row.
    public static func key(_ device: Span<UInt8>) -> [UInt8] {
        var key = Array("command:".utf8)
        key.append(contentsOf: device)
        return key
    }

    public init() {}

    /// A row that is damaged is as none.
    public init(_ row: Span<UInt8>) {
        guard row.count >= DeviceCommands.bytes,
            let numbers = Record.decode(row.extracting(0..<DeviceCommands.bytes), count: DeviceCommands.count)
        else { return }
        for index in 0..<3 { (askedAt[index], doneAt[index]) = (numbers[index], numbers[3 + index]) }
        let rest = row.extracting(DeviceCommands.bytes..<row.count)
        if UInt64(Checksum.of(rest)) != numbers[7] { return }
        (reportedAt, sum, report) = (numbers[6], numbers[7], [UInt8](copying: rest))
    }

    public var row: [UInt8] { Record.encode(askedAt + doneAt + [reportedAt, sum]) + report }

    public func isPending(_ command: DeviceCommand) -> Bool { askedAt[command.rawValue] > doneAt[command.rawValue] }

    /// - Parameter now: milliseconds since the epoch. Two of the same millisecond are two.
    public mutating func ask(_ command: DeviceCommand, at now: Int64) {
        let before = max(askedAt[command.rawValue], doneAt[command.rawValue])
        askedAt[command.rawValue] = max(UInt64(max(0, now)), before + 1)
    }

    /// Takes the device's word that what was asked for at a time is done.
    /// - Returns: whether it had still to be done.
    public mutating func end(_ command: DeviceCommand, askedAt time: UInt64, at now: Int64, _ text: Span<UInt8>) -> Bool {
        let number = command.rawValue
        guard time != 0, time == askedAt[number], isPending(command) else { return false }
        doneAt[number] = max(time, UInt64(max(0, now)))
        if command == .report {
            (reportedAt, sum, report) = (doneAt[number], UInt64(Checksum.of(text)), [UInt8](copying: text))
        }
        return true
    }

    /// Writes what was asked for, as a member of the device.
    func write(to writer: inout JSONWriter) {
        writer.key("commands")
        writer.beginObject()
        for command in DeviceCommand.allCases where askedAt[command.rawValue] > 0 {
            writer.key(command.word)
            writer.beginObject()
            writer.key("askedAt")
            DeviceCommands.write(askedAt[command.rawValue], to: &writer)
            writer.key("doneAt")
            if isPending(command) { writer.null() } else { DeviceCommands.write(doneAt[command.rawValue], to: &writer) }
            writer.endObject()
        }
        writer.endObject()
    }

    /// - Returns: false where there is no report.
    func writeReport(to writer: inout JSONWriter) -> Bool {
        if report.isEmpty { return false }
        writer.key("reportedAt")
        DeviceCommands.write(reportedAt, to: &writer)
        writer.key("report")
        writer.raw(report.span)
        return true
    }

    public static func write(_ time: UInt64, to writer: inout JSONWriter) {
        let text = Timestamp.write(Int64(clamping: time))
        writer.string(text)
    }
}
