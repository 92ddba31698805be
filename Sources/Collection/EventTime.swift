// Times as the SDKs of the tracking API really write them: RFC 3339, and the neighbouring forms of ISO 8601 that
// date libraries produce when nobody tells them otherwise. It need not know what the times are of.

import Formats

public enum EventTime {
    /// Milliseconds since the epoch of a time in RFC 3339, or in one of these forms of ISO 8601: without a zone (taken
    /// as UTC, which is what the SDKs mean), with an offset of `+0100` or `+01`, without seconds, with a decimal comma,
    /// or the day alone. nil for any other text.
    public static func parse(_ text: Span<UInt8>) -> Int64? {
        if let moment = Timestamp.parse(text) { return moment }
        guard text.count >= 10, text.count <= Limits.timeBytes else { return nil }
        var whole = Spelling()
        var index = 0
        while index < min(11, text.count) {
            whole.append(text[index])
            index += 1
        }
        while index < text.count, isOfTime(text[index]) {
            whole.append(text[index] == UInt8(ascii: ",") ? UInt8(ascii: ".") : text[index])
            index += 1
        }
        if text.count == 10 { whole.append("T00:00") }
        if whole.count == 16 { whole.append(":00") }
        guard whole.appendZone(text.extracting(index..<text.count)) else { return nil }
        return whole.milliseconds
    }

    private static func isOfTime(_ byte: UInt8) -> Bool {
        byte &- 0x30 < 10 || byte == UInt8(ascii: ":") || byte == UInt8(ascii: ".") || byte == UInt8(ascii: ",")
    }

    /// A time under way to the form of RFC 3339, without allocation.
    private struct Spelling {
        // What comes in, and at most what is added to it: a time of day, or a colon and two zeros.
        private var bytes = InlineArray<64, UInt8>(repeating: 0)
        private(set) var count = 0

        mutating func append(_ byte: UInt8) {
            bytes[count] = byte
            count += 1
        }

        mutating func append(_ text: StaticString) {
            let literal = text.bytes
            for index in literal.indices { append(literal[index]) }
        }

        /// Takes ``, `Z`, `+01`, `+0100` or `+01:00`.
        mutating func appendZone(_ zone: Span<UInt8>) -> Bool {
            if zone.isEmpty {
                append(UInt8(ascii: "Z"))
                return true
            }
            if zone.count == 1 || zone.count == 6 {
                for index in zone.indices { append(zone[index]) }
                return true
            }
            guard zone.count == 3 || zone.count == 5 else { return false }
            for index in 0..<3 { append(zone[index]) }
            append(UInt8(ascii: ":"))
            append(zone.count == 5 ? zone[3] : UInt8(ascii: "0"))
            append(zone.count == 5 ? zone[4] : UInt8(ascii: "0"))
            return true
        }

        var milliseconds: Int64? { Timestamp.parse(bytes.span.extracting(0..<count)) }
    }
}
