// The log: one line an entry on stderr, `level`, `msg` and key=value. Nothing here takes bytes of an event, and a raw
// identifier has no way to become one of these fields. Where stderr is the journal, a line begins with its priority
// (sd-daemon(3)).

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

    /// Whether entries go to systemd's journal.
    private static let isJournal = Process.environment("JOURNAL_STREAM") != nil

    // A log that floods hides what it says, and wears out flash. Counted in spans of time; a few lines more or less, where
    // threads come at once, do not matter.
    private static let span = Atomic<Int64>(0)
    private static let written = Atomic<Int>(0)
    private static let errors = Atomic<Int>(0)
    private static let leftOut = Atomic<Int>(0)

    /// Whether there is room for another entry in this span. Errors have a room of their own, twice as large.
    private static func hasRoom(_ level: Level) -> Bool {
        let now = cp_monotonic_nanoseconds() / Limits.logSpanNanoseconds
        if span.exchange(now, ordering: .relaxed) != now {
            written.store(0, ordering: .relaxed)
            errors.store(0, ordering: .relaxed)
            let count = leftOut.exchange(0, ordering: .relaxed)
            if count > 0 {
                var line = begin(.warning, "entries were left out of the log, since there were too many")
                line.field("count", count)
                end(&line)
            }
        }
        let isError = level == .error
        let count = isError
            ? errors.wrappingAdd(1, ordering: .relaxed).newValue : written.wrappingAdd(1, ordering: .relaxed).newValue
        if count <= (isError ? 2 : 1) * Limits.logLinesPerSpan { return true }
        leftOut.wrappingAdd(1, ordering: .relaxed)
        return false
    }

    /// Writes one entry with one write(2), unless there were too many of late; with the level `debug` all are written.
    public static func write(_ level: Level, _ message: StaticString, _ fields: (inout LogLine) -> Void = { _ in }) {
        guard isDue(level) else { return }
        var line = begin(level, message)
        fields(&line)
        end(&line)
    }

    @inline(never)
    private static func isDue(_ level: Level) -> Bool { isEnabled(level) && (isEnabled(.debug) || hasRoom(level)) }

    @inline(never)
    private static func begin(_ level: Level, _ message: StaticString) -> LogLine {
        var line = LogLine()
        line.bytes.reserveCapacity(160)
        if isJournal {
            // Of syslog: 7 debug, 6 info, 4 warning, 3 error.
            let digit: UInt8 = level == .debug ? 7 : level == .info ? 6 : level == .warning ? 4 : 3
            line.bytes += [UInt8(ascii: "<"), 0x30 + digit, UInt8(ascii: ">")]
        }
        line.append("level=")
        switch level {
        case .debug: line.append("debug")
        case .info: line.append("info")
        case .warning: line.append("warning")
        case .error: line.append("error")
        }
        line.field("msg", message)
        return line
    }

    @inline(never)
    private static func end(_ line: inout LogLine) {
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

    /// What has not worked, and why: what most entries say.
    public static func warning(_ message: StaticString, because reason: String) { write(.warning, message, reason) }
    public static func error(_ message: StaticString, because reason: String) { write(.error, message, reason) }

    @inline(never)
    private static func write(_ level: Level, _ message: StaticString, _ reason: String) {
        write(level, message) { $0.field("reason", reason) }
    }
}
