// Base 64 (RFC 4648), both alphabets, with and without padding.

public enum Base64 {
    /// `standard` is section 4 (`+/`, padded when written), `url` section 5 (`-_`, not padded when written).
    public enum Alphabet: Sendable { case standard, url }

    /// Appends the text of the bytes.
    public static func append(_ bytes: Span<UInt8>, _ alphabet: Alphabet = .standard, to text: inout [UInt8]) {
        var index = 0
        while index < bytes.count {
            let left = bytes.count - index
            let group =
                UInt32(bytes[index]) << 16 | (left > 1 ? UInt32(bytes[index + 1]) << 8 : 0)
                | (left > 2 ? UInt32(bytes[index + 2]) : 0)
            text.append(digit(UInt8(group >> 18), alphabet))
            text.append(digit(UInt8(group >> 12 & 0x3F), alphabet))
            if left > 1 { text.append(digit(UInt8(group >> 6 & 0x3F), alphabet)) }
            if left > 2 { text.append(digit(UInt8(group & 0x3F), alphabet)) }
            if left < 3, alphabet == .standard {
                if left == 1 { text.append(UInt8(ascii: "=")) }
                text.append(UInt8(ascii: "="))
            }
            index += 3
        }
    }

    public static func encode(_ bytes: Span<UInt8>, _ alphabet: Alphabet = .standard) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        append(bytes, alphabet, to: &text)
        return text
    }

    /// Appends the bytes of a text, padded or not. False, and nothing appended, for a character outside of the alphabet
    /// (white space too), a wrong length or padding, or bits after the end that are not zero (section 3.5): so that a
    /// value has one spelling only.
    public static func appendDecoded(
        _ text: Span<UInt8>, _ alphabet: Alphabet = .standard, to bytes: inout [UInt8]
    ) -> Bool {
        var count = text.count
        if count % 4 == 0, count > 0, text[count - 1] == UInt8(ascii: "=") {
            count -= text[count - 2] == UInt8(ascii: "=") ? 2 : 1
        }
        if count % 4 == 1 { return false }
        let start = bytes.count
        var group: UInt32 = 0
        var bits = 0
        var index = 0
        while index < count {
            guard let value = value(of: text[index], alphabet) else {
                bytes.removeLast(bytes.count - start)
                return false
            }
            group = group << 6 | UInt32(value)
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: group >> UInt32(bits)))
            }
            index += 1
        }
        if group & ((1 << UInt32(bits)) - 1) != 0 {
            bytes.removeLast(bytes.count - start)
            return false
        }
        return true
    }

    public static func decode(_ text: Span<UInt8>, _ alphabet: Alphabet = .standard) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count / 4 * 3 + 2)
        return appendDecoded(text, alphabet, to: &bytes) ? bytes : nil
    }

    private static func digit(_ value: UInt8, _ alphabet: Alphabet) -> UInt8 {
        switch value {
        case 0..<26: 0x41 + value
        case 26..<52: 0x61 + (value - 26)
        case 52..<62: 0x30 + (value - 52)
        case 62: alphabet == .standard ? UInt8(ascii: "+") : UInt8(ascii: "-")
        default: alphabet == .standard ? UInt8(ascii: "/") : UInt8(ascii: "_")
        }
    }

    private static func value(of digit: UInt8, _ alphabet: Alphabet) -> UInt8? {
        switch digit {
        case 0x41...0x5A: digit - 0x41
        case 0x61...0x7A: digit - 0x61 + 26
        case 0x30...0x39: digit - 0x30 + 52
        case UInt8(ascii: "+"): alphabet == .standard ? 62 : nil
        case UInt8(ascii: "/"): alphabet == .standard ? 63 : nil
        case UInt8(ascii: "-"): alphabet == .url ? 62 : nil
        case UInt8(ascii: "_"): alphabet == .url ? 63 : nil
        default: nil
        }
    }
}
