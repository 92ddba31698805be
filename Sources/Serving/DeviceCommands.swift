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

/// What a device was asked to do: a row of a hub's table `meta`, numbers behind a checksum.
public struct DeviceCommands {
    /// When each was asked for last, and behind these when each was done, milliseconds since the epoch; 0: never.
    private var times: [UInt64] = [0, 0, 0, 0, 0, 0]

    /// The key of a device's row.
    public static func key(_ device: Span<UInt8>) -> [UInt8] { named("command:", device) }

    @inline(never)
    fileprivate static func named(_ prefix: StaticString, _ device: Span<UInt8>) -> [UInt8] {
        var key: [UInt8] = []
        key.append(contentsOf: prefix.bytes)
        key.append(contentsOf: device)
        return key
    }

    public init() {}

    init(of device: Span<UInt8>, _ store: borrowing Reader) {
        let key = DeviceCommands.key(device)
        do throws(StoreError) {
            if let row = try store.get(store.tables.meta, key.span) { self.init(row) } else { self.init() }
        } catch {
            self.init()
        }
    }

    /// A row that is damaged is as none.
    public init(_ row: Span<UInt8>) {
        if let numbers = Record.decode(row, count: 6) { times = numbers }
    }

    public var row: [UInt8] { Record.encode(times) }

    public func askedAt(_ command: DeviceCommand) -> UInt64 { times[command.rawValue] }
    public func doneAt(_ command: DeviceCommand) -> UInt64 { times[3 + command.rawValue] }
    public func isPending(_ command: DeviceCommand) -> Bool { askedAt(command) > doneAt(command) }

    /// Asks for it.
    /// - Parameter now: milliseconds since the epoch. Two of the same millisecond are two.
    public mutating func ask(_ command: DeviceCommand, at now: Int64) {
        times[command.rawValue] = max(UInt64(max(0, now)), max(askedAt(command), doneAt(command)) + 1)
    }

    /// What is pending is done.
    public mutating func end(_ command: DeviceCommand, at now: Int64) {
        times[3 + command.rawValue] = max(askedAt(command), UInt64(max(0, now)))
    }

    /// Writes what was asked for, if anything was, as a member of the device.
    @inline(never)
    public func write(to writer: inout JSONWriter) {
        if times[0] | times[1] | times[2] == 0 { return }
        writer.key("commands")
        writer.beginObject()
        for command in DeviceCommand.allCases where askedAt(command) > 0 {
            writer.key(command.word)
            writer.beginObject()
            DeviceCommands.write("askedAt", askedAt(command), to: &writer)
            DeviceCommands.write("doneAt", isPending(command) ? 0 : doneAt(command), to: &writer)
            writer.endObject()
        }
        writer.endObject()
    }

    @inline(never)
    fileprivate static func write(_ name: StaticString, _ time: UInt64, to writer: inout JSONWriter) {
        writer.key(name)
        if time == 0 { return writer.null() }
        let text = Timestamp.write(Int64(clamping: time))
        writer.string(text)
    }
}

/// The last report of a device: a row of its own, when it came and its sum behind a checksum, and the text.
public struct DeviceReport {
    private let at: UInt64
    private let text: [UInt8]

    private static let headBytes = 4 + 8 * 2

    public static func key(_ device: Span<UInt8>) -> [UInt8] { DeviceCommands.named("report:", device) }

    /// - Parameters:
    ///   - text: JSON.
    ///   - at: milliseconds since the epoch.
    public init(_ text: [UInt8], at time: UInt64) { (at, self.text) = (time, text) }

    /// - Returns: nil where there is none.
    init?(of device: Span<UInt8>, _ store: borrowing Reader) {
        let key = DeviceReport.key(device)
        do throws(StoreError) {
            guard let row = try store.get(store.tables.meta, key.span) else { return nil }
            self.init(row)
        } catch {
            return nil
        }
    }

    /// - Returns: nil for a row that is damaged.
    public init?(_ row: Span<UInt8>) {
        let head = DeviceReport.headBytes
        guard row.count >= head, let numbers = Record.decode(row.extracting(0..<head), count: 2) else { return nil }
        let rest = row.extracting(head..<row.count)
        if UInt64(Checksum.of(rest)) != numbers[1] { return nil }
        (at, text) = (numbers[0], [UInt8](copying: rest))
    }

    public var row: [UInt8] { Record.encode([at, UInt64(Checksum.of(text.span))]) + text }

    /// What the hub answers to who asks for it.
    func json(_ device: [UInt8]) -> [UInt8] {
        var writer = JSONWriter(reserving: 128 + text.count)
        writer.beginObject()
        writer.key("device")
        writer.string(device)
        DeviceCommands.write("reportedAt", at, to: &writer)
        writer.key("report")
        writer.raw(text.span)
        writer.endObject()
        return writer.bytes
    }
}
