// Hexadecimal digits (RFC 4648 section 8), lower case when written, either case when read.

public enum Hex {
    /// The value 0…15 of a digit.
    @inlinable
    public static func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case 0x30...0x39: digit &- 0x30
        case 0x41...0x46: digit &- 0x37
        case 0x61...0x66: digit &- 0x57
        default: nil
        }
    }

    /// The lower-case digit of a value 0…15.
    @inlinable
    public static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 &+ value : 0x57 &+ value }

    /// Appends two digits for each byte.
    public static func append(_ bytes: Span<UInt8>, to text: inout [UInt8]) {
        for index in bytes.indices {
            text.append(digit(bytes[index] >> 4))
            text.append(digit(bytes[index] & 0xF))
        }
    }

    public static func encode(_ bytes: Span<UInt8>) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count * 2)
        append(bytes, to: &text)
        return text
    }

    /// Appends the bytes of an even number of digits; false, and nothing appended, for any other text.
    public static func appendDecoded(_ text: Span<UInt8>, to bytes: inout [UInt8]) -> Bool {
        if text.count % 2 != 0 { return false }
        let start = bytes.count
        var index = 0
        while index < text.count {
            guard let high = value(of: text[index]), let low = value(of: text[index + 1]) else {
                bytes.removeLast(bytes.count - start)
                return false
            }
            bytes.append(high << 4 | low)
            index += 2
        }
        return true
    }

    public static func decode(_ text: Span<UInt8>) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count / 2)
        return appendDecoded(text, to: &bytes) ? bytes : nil
    }
}
