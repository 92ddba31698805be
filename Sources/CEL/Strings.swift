// Functions over text (langdef.md "String functions", cel-go ext/strings.go): positions count code points. They need not
// know how values are found.

import Formats

extension Machine {
    // MARK: Searching

    mutating func search(_ function: Function, _ text: Value, _ part: Value, _ c: Context) -> Value {
        let cost: Int
        let found: Bool
        do {
            let whole = bytes(text, c)
            let wanted = bytes(part, c)
            cost = whole.count >> 4
            switch function {
            case .startsWith: found = hasBytes(whole, at: 0, wanted)
            case .endsWith: found = hasBytes(whole, at: whole.count - wanted.count, wanted)
            default: found = find(wanted, in: whole, from: 0) >= 0
            }
        }
        charge(cost)
        return .bool(found)
    }

    @inline(__always)
    private func hasBytes(_ text: Span<UInt8>, at start: Int, _ wanted: Span<UInt8>) -> Bool {
        guard start >= 0, start + wanted.count <= text.count else { return false }
        var index = 0
        while index < wanted.count {
            if text[start + index] != wanted[index] { return false }
            index += 1
        }
        return true
    }

    /// The first byte offset from `start` on at which `wanted` stands, or -1.
    private func find(_ wanted: Span<UInt8>, in text: Span<UInt8>, from start: Int) -> Int {
        let last = text.count - wanted.count
        if wanted.count == 0 { return start <= text.count ? start : -1 }
        var index = start
        while index <= last {
            if text[index] == wanted[0], hasBytes(text, at: index, wanted) { return index }
            index += 1
        }
        return -1
    }

    /// The byte offset of code point `position`, or nil: outside 0 ... length.
    private func offset(_ text: Span<UInt8>, of position: Int64) -> Int? {
        if position < 0 { return nil }
        var left = position
        var index = 0
        while left > 0 {
            if index >= text.count { return nil }
            index += scalarLength(text[index])
            left -= 1
        }
        return min(index, text.count)
    }

    private func position(_ text: Span<UInt8>, of offset: Int) -> Int64 {
        Int64(scalarCount(text.extracting(0..<offset)))
    }

    // MARK: Dispatch

    mutating func text(_ function: Function, _ count: Int, _ c: Context) -> Value {
        let first = stack[sp]
        let second = count > 1 ? stack[sp + 1] : .null
        if function == .join { return join(first, count > 1 ? second : nil, c) }
        if function == .base64Encode {
            guard count == 1, first.kind == .bytes else { return fail(.noOverload) }
            return encodeBase64(first, c)
        }
        guard first.kind == .string else { return fail(.noOverload) }
        charge(bytes(first, c).count >> 3)
        switch function {
        case .charAt, .substring: return slice(function, first, count, c)
        case .indexOf, .lastIndexOf: return indexOf(function, first, second, count, c)
        case .lowerAscii, .upperAscii: return changeCase(first, isUpper: function == .upperAscii, c)
        case .replace: return replace(first, count, c)
        case .split: return split(first, count, c)
        case .trim: return trim(first, c)
        case .reverse: return reverse(first, c)
        case .format:
            guard count == 2, second.kind == .list else { return fail(.noOverload) }
            return format(first, second, c)
        case .quote: return quote(first, c)
        default: return decodeBase64(first, c)
        }
    }

    /// Copies bytes `start ..< end` of a text to a value of its own; text that does not move is only pointed at.
    private mutating func part(_ text: Value, _ start: Int, _ end: Int, _ c: Context) -> Value {
        if !text.isOfDocument {
            return Value(text.kind, bits: text.bits + UInt64(start), extra: UInt32(end - start), region: text.region)
        }
        let begin = heap.bytes.count
        guard append(text, c, from: start, to: end) else { return fail(.memoryLimit) }
        return heap.text(from: begin)
    }

    private mutating func slice(_ function: Function, _ text: Value, _ count: Int, _ c: Context) -> Value {
        guard count >= 2, count <= (function == .charAt ? 2 : 3), stack[sp + 1].kind == .int,
            count == 2 || stack[sp + 2].kind == .int
        else { return fail(.noOverload) }
        guard let range = sliceRange(function, bytes(text, c), count) else { return fail(.indexOutOfRange) }
        return part(text, range.start, range.end, c)
    }

    private func sliceRange(_ function: Function, _ whole: Span<UInt8>, _ count: Int) -> (start: Int, end: Int)? {
        guard let start = offset(whole, of: stack[sp + 1].int) else { return nil }
        if function == .charAt {
            return (start, start < whole.count ? min(start + scalarLength(whole[start]), whole.count) : start)
        }
        if count == 2 { return (start, whole.count) }
        guard let limit = offset(whole, of: stack[sp + 2].int), limit >= start else { return nil }
        return (start, limit)
    }

    private func indexOf(_ function: Function, _ text: Value, _ wanted: Value, _ count: Int, _ c: Context) -> Value {
        guard count == 2 || count == 3, wanted.kind == .string, count == 2 || stack[sp + 2].kind == .int else {
            return fail(.noOverload)
        }
        let whole = bytes(text, c)
        let part = bytes(wanted, c)
        var limit: Int?
        if count == 3 {
            guard let offset = offset(whole, of: stack[sp + 2].int) else { return fail(.indexOutOfRange) }
            limit = offset
        }
        if function == .indexOf {
            let found = find(part, in: whole, from: limit ?? 0)
            return .int(found < 0 ? -1 : position(whole, of: found))
        }
        var index = min(limit ?? whole.count, whole.count - part.count)
        while index >= 0 {
            if hasBytes(whole, at: index, part), index == whole.count || whole[index] & 0xC0 != 0x80 {
                return .int(position(whole, of: index))
            }
            index -= 1
        }
        return .int(-1)
    }

    private mutating func changeCase(_ text: Value, isUpper: Bool, _ c: Context) -> Value {
        let start = heap.bytes.count
        guard append(text, c) else { return fail(.memoryLimit) }
        let low: UInt8 = isUpper ? 97 : 65
        for index in start..<heap.bytes.count where heap.bytes[index] >= low && heap.bytes[index] < low + 26 {
            heap.bytes[index] ^= 0x20
        }
        return heap.text(from: start)
    }

    private mutating func replace(_ text: Value, _ count: Int, _ c: Context) -> Value {
        guard count == 3 || count == 4, stack[sp + 1].kind == .string, stack[sp + 2].kind == .string,
            count == 3 || stack[sp + 3].kind == .int
        else { return fail(.noOverload) }
        let (wanted, new) = (stack[sp + 1], stack[sp + 2])
        var left = count == 4 ? stack[sp + 3].int : -1
        let start = heap.bytes.count
        let wantedCount = bytes(wanted, c).count
        let total = bytes(text, c).count
        var from = 0
        var isFirst = true
        while left != 0 {
            var found: Int
            if wantedCount == 0 {
                // Between all code points, and at both ends, as Go's strings.Replace.
                found = isFirst ? 0 : from < total ? from + scalarLength(bytes(text, c)[from]) : -1
                if found > total { found = -1 }
            } else {
                found = find(bytes(wanted, c), in: bytes(text, c), from: from)
            }
            isFirst = false
            if found < 0 { break }
            guard append(text, c, from: from, to: found), append(new, c) else { return fail(.memoryLimit) }
            if steps < 0 { return fail(.costLimit) }
            from = found + wantedCount
            if left > 0 { left -= 1 }
        }
        guard append(text, c, from: from, to: total) else { return fail(.memoryLimit) }
        return heap.text(from: start)
    }

    private mutating func split(_ text: Value, _ count: Int, _ c: Context) -> Value {
        guard count == 2 || count == 3, stack[sp + 1].kind == .string, count == 2 || stack[sp + 2].kind == .int else {
            return fail(.noOverload)
        }
        let separator = stack[sp + 1]
        var left = count == 3 ? stack[sp + 2].int : -1
        heap.beginList()
        if left == 0 { return heap.endList() }
        let total = bytes(text, c).count
        let width = bytes(separator, c).count
        var from = 0
        while left != 1 {
            var found: Int
            if width == 0 {
                found = from < total ? from + scalarLength(bytes(text, c)[from]) : total
                if found >= total { break }
            } else {
                found = find(bytes(separator, c), in: bytes(text, c), from: from)
                if found < 0 { break }
            }
            charge(1)
            heap.append(part(text, from, found, c))
            from = found + width
            if left > 0 { left -= 1 }
            if steps < 0 || heap.pending.count > Limits.arenaValues { break }
        }
        if width > 0 || from < total || total == 0 && width > 0 { heap.append(part(text, from, total, c)) }
        return heap.endList()
    }

    private mutating func join(_ list: Value, _ separator: Value?, _ c: Context) -> Value {
        guard list.kind == .list, separator == nil || separator?.kind == .string else { return fail(.noOverload) }
        let start = heap.bytes.count
        let elements = count(list)
        charge(elements)
        for index in 0..<elements {
            let element = self.element(list, index, c)
            guard element.kind == .string else { return fail(.noOverload) }
            if index > 0, let separator { guard append(separator, c) else { return fail(.memoryLimit) } }
            guard append(element, c) else { return fail(.memoryLimit) }
        }
        return heap.text(from: start)
    }

    /// White space of Unicode (property White_Space).
    private func isSpace(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 9...13, 32, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: true
        default: false
        }
    }

    private mutating func trim(_ text: Value, _ c: Context) -> Value {
        let range = trimmedRange(bytes(text, c))
        return part(text, range.start, range.end, c)
    }

    private func trimmedRange(_ whole: Span<UInt8>) -> (start: Int, end: Int) {
        var start = 0
        while start < whole.count {
            let (scalar, length) = decodeScalar(whole, start)
            if !isSpace(scalar) { break }
            start += length
        }
        var end = whole.count
        while end > start {
            var lead = end - 1
            while lead > start, whole[lead] & 0xC0 == 0x80 { lead -= 1 }
            if !isSpace(decodeScalar(whole, lead).scalar) { break }
            end = lead
        }
        return (start, end)
    }

    private mutating func reverse(_ text: Value, _ c: Context) -> Value {
        let start = heap.bytes.count
        var end = bytes(text, c).count
        while end > 0 {
            var lead = end - 1
            do {
                let whole = bytes(text, c)
                while lead > 0, whole[lead] & 0xC0 == 0x80 { lead -= 1 }
            }
            guard append(text, c, from: lead, to: end) else { return fail(.memoryLimit) }
            end = lead
        }
        return heap.text(from: start)
    }

    private mutating func quote(_ text: Value, _ c: Context) -> Value {
        let count = bytes(text, c).count
        guard heap.allows(bytes: 2 * count + 2) else { return fail(.memoryLimit) }
        let start = heap.bytes.count
        heap.bytes.append(0x22)
        for index in 0..<count {
            let byte = bytes(text, c)[index]
            var escape: UInt8 = 0
            switch byte {
            case 7: escape = UInt8(ascii: "a")
            case 8: escape = UInt8(ascii: "b")
            case 9: escape = UInt8(ascii: "t")
            case 10: escape = UInt8(ascii: "n")
            case 11: escape = UInt8(ascii: "v")
            case 12: escape = UInt8(ascii: "f")
            case 13: escape = UInt8(ascii: "r")
            case 0x22, 0x5C: escape = byte
            default: break
            }
            if escape != 0 { heap.bytes.append(0x5C) }
            heap.bytes.append(escape != 0 ? escape : byte)
        }
        heap.bytes.append(0x22)
        return heap.text(from: start)
    }

    // MARK: Base64

    private mutating func encodeBase64(_ data: Value, _ c: Context) -> Value {
        let count = bytes(data, c).count
        charge(count >> 3)
        guard heap.allows(bytes: count * 2 + 4) else { return fail(.memoryLimit) }
        var encoded: [UInt8] = []
        appendBase64(bytes(data, c), to: &encoded)
        return heap.copy(encoded.span, .string)
    }

    private mutating func decodeBase64(_ text: Value, _ c: Context) -> Value {
        guard let decoded = decodedBase64(bytes(text, c)) else { return fail(.invalidArgument) }
        return heap.copy(decoded.span, .bytes)
    }

    // MARK: Regular expressions

    mutating func matches(_ text: Value, pattern: Int, _ c: Context) -> Value {
        let count = bytes(text, c).count
        steps -= matcher.cost(c.patterns[pattern], count)
        if steps < 0 { return fail(.costLimit) }
        var scratch = Matcher()
        swap(&scratch, &matcher)
        let found = scratch.matches(c.patterns[pattern], bytes(text, c))
        swap(&scratch, &matcher)
        return .bool(found)
    }

    mutating func matches(_ text: Value, _ pattern: Value, _ c: Context) -> Value {
        let source = copyBytes(bytes(pattern, c))
        let compiled = RegularExpression.compile(source, &categories, work: &steps)
        if steps < 0 { return fail(.costLimit) }
        guard let compiled else { return fail(.invalidPattern) }
        charge(compiled.instructions.count)
        steps -= matcher.cost(compiled, bytes(text, c).count)
        if steps < 0 { return fail(.costLimit) }
        var scratch = Matcher()
        swap(&scratch, &matcher)
        let found = scratch.matches(compiled, bytes(text, c))
        swap(&scratch, &matcher)
        return .bool(found)
    }
}

/// RFC 4648 section 4, with padding.
func appendBase64(_ data: Span<UInt8>, to text: inout [UInt8]) {
    var index = 0
    while index < data.count {
        let left = data.count - index
        var group = UInt32(data[index]) << 16
        if left > 1 { group |= UInt32(data[index + 1]) << 8 }
        if left > 2 { group |= UInt32(data[index + 2]) }
        text.append(digit(group >> 18))
        text.append(digit(group >> 12))
        text.append(left > 1 ? digit(group >> 6) : 61)
        text.append(left > 2 ? digit(group) : 61)
        index += 3
    }
    func digit(_ value: UInt32) -> UInt8 {
        let six = UInt8(value & 63)
        return six < 26 ? 65 + six : six < 52 ? 71 + six : six < 62 ? six - 4 : six == 62 ? 43 : 47
    }
}

/// RFC 4648 section 4; padding may be missing, as cel-go allows.
func decodedBase64(_ text: Span<UInt8>) -> [UInt8]? {
    var end = text.count
    var padding = 0
    while end > 0, text[end - 1] == 61, padding < 2 {
        end -= 1
        padding += 1
    }
    if padding > 0, text.count % 4 != 0 { return nil }
    if end % 4 == 1 { return nil }
    var data: [UInt8] = []
    var group: UInt32 = 0
    var bits = 0
    for index in 0..<end {
        let byte = text[index]
        let six: UInt8
        switch byte {
        case 65...90: six = byte - 65
        case 97...122: six = byte - 71
        case 48...57: six = byte + 4
        case 43: six = 62
        case 47: six = 63
        default: return nil
        }
        group = group << 6 | UInt32(six)
        bits += 6
        if bits >= 8 {
            bits -= 8
            data.append(UInt8(truncatingIfNeeded: group >> UInt32(bits)))
        }
    }
    return data
}
