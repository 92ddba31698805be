// UTF-8 and byte helpers that lexer, evaluator and regular expressions share. They need not know the language.

import Formats

@inline(__always)
func hexadecimalDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 48...57: byte - 48
    case 65...70: byte - 55
    case 97...102: byte - 87
    default: nil
    }
}

/// Appends a code point that is known to be valid.
func appendUTF8(_ scalar: UInt32, _ text: inout [UInt8]) {
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

/// Bytes of the code point that begins with `lead`, in valid UTF-8.
@inline(__always)
func scalarLength(_ lead: UInt8) -> Int { lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4 }

/// The code point at `index` of valid UTF-8, and its length. A truncated one at the end reads as U+FFFD.
@inline(__always)
func decodeScalar(_ text: Span<UInt8>, _ index: Int) -> (scalar: UInt32, length: Int) {
    let lead = text[index]
    if lead < 0x80 { return (UInt32(lead), 1) }
    let length = scalarLength(lead)
    guard lead >= 0xC2, index + length <= text.count else { return (0xFFFD, 1) }
    var scalar = UInt32(lead) & (length == 2 ? 0x1F : length == 3 ? 0x0F : 0x07)
    var next = index + 1
    while next < index + length {
        scalar = scalar << 6 | UInt32(text[next] & 0x3F)
        next += 1
    }
    return (scalar, length)
}

/// Strict validity (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
func isValidUTF8(_ text: Span<UInt8>, _ start: Int, _ end: Int) -> Bool {
    var index = start
    while index < end {
        let lead = text[index]
        if lead < 0x80 {
            index += 1
            continue
        }
        guard lead >= 0xC2, lead <= 0xF4 else { return false }
        let length = scalarLength(lead)
        guard index + length <= end else { return false }
        let second = text[index + 1]
        let low: UInt8 = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80
        let high: UInt8 = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF
        guard second >= low, second <= high else { return false }
        var next = index + 2
        while next < index + length {
            guard text[next] & 0xC0 == 0x80 else { return false }
            next += 1
        }
        index += length
    }
    return true
}

/// Code points of valid UTF-8.
func scalarCount(_ text: Span<UInt8>) -> Int {
    var count = 0
    var index = 0
    while index < text.count {
        if text[index] & 0xC0 != 0x80 { count += 1 }
        index += 1
    }
    return count
}

/// Whether `bytes` has `word` at `offset`; the caller has checked that it is long enough.
func bytesEqual(_ bytes: [UInt8], _ offset: Int, _ word: StaticString) -> Bool {
    let count = word.utf8CodeUnitCount
    guard offset >= 0, offset + count <= bytes.count else { return false }
    return word.withUTF8Buffer { buffer in
        var index = 0
        while index < count {
            if buffer[index] != bytes[offset + index] { return false }
            index += 1
        }
        return true
    }
}

func bytesEqual(_ bytes: [UInt8], _ word: StaticString) -> Bool {
    bytes.count == word.utf8CodeUnitCount && bytesEqual(bytes, 0, word)
}

/// -1, 0 or 1 by unsigned bytes, which for UTF-8 is the order of code points.
func compareSpans(_ a: Span<UInt8>, _ b: Span<UInt8>) -> Int {
    let count = min(a.count, b.count)
    var index = 0
    while index < count {
        if a[index] != b[index] { return a[index] < b[index] ? -1 : 1 }
        index += 1
    }
    return a.count == b.count ? 0 : a.count < b.count ? -1 : 1
}

func copyBytes(_ span: Span<UInt8>) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(span.count)
    var index = 0
    while index < span.count {
        bytes.append(span[index])
        index += 1
    }
    return bytes
}

/// The double that a literal in `source[start..<end]` names, correctly rounded.
func parseDoubleLiteral(_ source: [UInt8], _ start: Int, _ end: Int) -> Double? {
    let text = Array(source[start..<end])
    return parseDouble(text.span)
}
