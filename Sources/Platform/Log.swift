// The log: one line an entry on stderr, `level`, `msg` and key=value. Nothing here takes bytes of an event, and a raw
// identifier has no way to become one of these fields.

import CPlatform
import Synchronization

/// The line that is being written.
public struct LogLine {
    var bytes: [UInt8] = []

    mutating func append(_ text: StaticString) {
        // A StaticString of ASCII or UTF-8 literals points at constant memory.
        bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    public mutating func field(_ key: StaticString, _ value: Int64) {
        bytes.append(0x20)
        append(key)
        bytes.append(0x3D)
        bytes.append(contentsOf: String(value).utf8)
    }

    public mutating func field(_ key: StaticString, _ value: Int) { field(key, Int64(value)) }

    public mutating func field(_ key: StaticString, _ value: StaticString) {
        bytes.append(0x20)
        append(key)
        bytes.append(0x3D)
        quote { $0.append(value) }
    }

    /// Text is quoted where it needs to be; control characters become spaces, so that an entry stays one line.
    public mutating func field(_ key: StaticString, _ value: String) {
        bytes.append(0x20)
        append(key)
        bytes.append(0x3D)
        quote { $0.bytes.append(contentsOf: value.utf8) }
    }

    private mutating func quote(_ write: (inout LogLine) -> Void) {
        let start = bytes.count
        write(&self)
        var needsQuotes = bytes.count == start
        for index in start..<bytes.count {
            let byte = bytes[index]
            if byte < 0x20 || byte == 0x7F { bytes[index] = 0x20 }
            if byte == 0x22 { bytes[index] = 0x27 }
            if byte <= 0x20 || byte == 0x22 || byte == 0x3D || byte == 0x5C { needsQuotes = true }
        }
        if needsQuotes {
            bytes.insert(0x22, at: start)
            bytes.append(0x22)
        }
    }
}

public enum Log {
    public enum Level: Int, Sendable {
        case debug, info, warning, error
    }

    private static let threshold = Atomic<Int>(Level.info.rawValue)

    /// Entries below this level are left out.
    public static func setLevel(_ level: Level) { threshold.store(level.rawValue, ordering: .relaxed) }

    public static func isEnabled(_ level: Level) -> Bool { level.rawValue >= threshold.load(ordering: .relaxed) }

    /// Writes one entry with one write(2).
    public static func write(_ level: Level, _ message: StaticString, _ fields: (inout LogLine) -> Void = { _ in }) {
        guard isEnabled(level) else { return }
        var line = LogLine()
        line.bytes.reserveCapacity(160)
        line.append("level=")
        switch level {
        case .debug: line.append("debug")
        case .info: line.append("info")
        case .warning: line.append("warning")
        case .error: line.append("error")
        }
        line.field("msg", message)
        fields(&line)
        line.bytes.append(0x0A)
        // A log that cannot be written has nowhere to say so.
        try? writeAll(2, line.bytes.span)
    }

    public static func info(_ message: StaticString, _ fields: (inout LogLine) -> Void = { _ in }) {
        write(.info, message, fields)
    }
    public static func warning(_ message: StaticString, _ fields: (inout LogLine) -> Void = { _ in }) {
        write(.warning, message, fields)
    }
    public static func error(_ message: StaticString, _ fields: (inout LogLine) -> Void = { _ in }) {
        write(.error, message, fields)
    }
}
