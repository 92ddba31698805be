// UTF-8 as RFC 3629 allows it: no overlong forms, no surrogates, nothing above U+10FFFF.

public enum UTF8Text {
    /// The length of the well-formed sequence at `offset`, which is inside `text`; 0 where there is none.
    @inlinable
    public static func sequenceLength(_ text: Span<UInt8>, _ offset: Int) -> Int {
        let lead = text[offset]
        if lead < 0x80 { return 1 }
        let left = text.count - offset
        func isContinuation(_ byte: UInt8) -> Bool { byte & 0xC0 == 0x80 }
        switch lead {
        case 0xC2...0xDF:
            return left >= 2 && isContinuation(text[offset + 1]) ? 2 : 0
        case 0xE0...0xEF:
            guard left >= 3 else { return 0 }
            let second = text[offset + 1]
            if lead == 0xE0 && second < 0xA0 || lead == 0xED && second > 0x9F { return 0 }
            return isContinuation(second) && isContinuation(text[offset + 2]) ? 3 : 0
        case 0xF0...0xF4:
            guard left >= 4 else { return 0 }
            let second = text[offset + 1]
            if lead == 0xF0 && second < 0x90 || lead == 0xF4 && second > 0x8F { return 0 }
            return isContinuation(second) && isContinuation(text[offset + 2]) && isContinuation(text[offset + 3])
                ? 4 : 0
        default:
            return 0
        }
    }

    /// The offset of the first byte that is not part of a well-formed sequence, or nil if the text is UTF-8.
    public static func firstInvalid(_ text: Span<UInt8>) -> Int? {
        var offset = 0
        while offset < text.count {
            let length = sequenceLength(text, offset)
            if length == 0 { return offset }
            offset += length
        }
        return nil
    }

    /// Appends a scalar value (no surrogate, at most 0x10FFFF).
    public static func append(_ scalar: UInt32, to text: inout [UInt8]) {
        if scalar < 0x80 {
            text.append(UInt8(scalar))
        } else if scalar < 0x800 {
            text.append(UInt8(0xC0 | scalar >> 6))
            text.append(UInt8(0x80 | scalar & 0x3F))
        } else if scalar < 0x10000 {
            text.append(UInt8(0xE0 | scalar >> 12))
            text.append(UInt8(0x80 | scalar >> 6 & 0x3F))
            text.append(UInt8(0x80 | scalar & 0x3F))
        } else {
            text.append(UInt8(0xF0 | scalar >> 18))
            text.append(UInt8(0x80 | scalar >> 12 & 0x3F))
            text.append(UInt8(0x80 | scalar >> 6 & 0x3F))
            text.append(UInt8(0x80 | scalar & 0x3F))
        }
    }
}
