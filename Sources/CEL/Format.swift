// `format` of the strings extension, exact decimal texts of doubles, and values as JSON. It need not know operators.

import Formats

/// A double's exact decimal digits, for `%f` and `%e`: sums of powers of two end, so that every digit can be had.
struct Decimal {
    /// Digits without leading zeros, most significant first; the point stands after `point` of them.
    private(set) var digits: [UInt8] = []
    private(set) var point = 0

    /// - Parameter value: finite and not negative.
    init(_ value: Double) {
        if value == 0 { return }
        var mantissa = value.significandBitPattern
        var exponent = Int(value.exponentBitPattern) - 1075
        if value.exponentBitPattern == 0 { exponent += 1 } else { mantissa |= 1 << 52 }
        // The number is mantissa · 2^exponent; for a negative exponent mantissa · 5^-exponent · 10^exponent.
        var limbs = [UInt32(mantissa % 1_000_000_000), UInt32(mantissa / 1_000_000_000 % 1_000_000_000)]
        let factor: UInt64 = exponent < 0 ? 5 : 2
        for _ in 0..<abs(exponent) {
            var carry: UInt64 = 0
            for index in limbs.indices {
                let product = UInt64(limbs[index]) * factor + carry
                limbs[index] = UInt32(product % 1_000_000_000)
                carry = product / 1_000_000_000
            }
            if carry > 0 { limbs.append(UInt32(carry)) }
        }
        var isLeading = true
        for limb in limbs.reversed() {
            var divisor: UInt32 = 100_000_000
            while divisor > 0 {
                let digit = UInt8(limb / divisor % 10)
                if digit != 0 { isLeading = false }
                if !isLeading { digits.append(digit) }
                divisor /= 10
            }
        }
        point = digits.count + min(exponent, 0)
    }

    /// Cuts to the first `count` digits (which may be negative: nothing), rounding half to even.
    mutating func round(to count: Int) {
        guard count < digits.count else { return }
        if count < 0 {
            digits = []
            return
        }
        let next = digits[count]
        var isAbove = next > 5
        if next == 5 {
            for index in count + 1..<digits.count where digits[index] != 0 { isAbove = true }
            if !isAbove { isAbove = count > 0 && digits[count - 1] & 1 == 1 }
        }
        digits.removeLast(digits.count - count)
        guard isAbove else { return }
        var index = count - 1
        while index >= 0, digits[index] == 9 {
            digits[index] = 0
            index -= 1
        }
        if index >= 0 {
            digits[index] += 1
        } else {
            digits.insert(1, at: 0)
            point += 1
        }
    }

    func digit(_ index: Int) -> UInt8 { index >= 0 && index < digits.count ? digits[index] + 48 : 48 }

    /// `123.450` with `precision` digits after the point.
    static func appendFixed(_ value: Double, _ precision: Int, to text: inout [UInt8]) {
        var decimal = Decimal(value.magnitude)
        decimal.round(to: decimal.point + precision)
        if value.sign == .minus { text.append(45) }
        if decimal.point <= 0 {
            text.append(48)
        } else {
            for index in 0..<decimal.point { text.append(decimal.digit(index)) }
        }
        if precision > 0 {
            text.append(46)
            for index in 0..<precision { text.append(decimal.digit(decimal.point + index)) }
        }
    }

    /// `1.052033e+03` with `precision` digits after the point.
    static func appendScientific(_ value: Double, _ precision: Int, to text: inout [UInt8]) {
        var decimal = Decimal(value.magnitude)
        decimal.round(to: precision + 1)
        if value.sign == .minus { text.append(45) }
        text.append(decimal.digit(0))
        if precision > 0 {
            text.append(46)
            for index in 1...precision { text.append(decimal.digit(index)) }
        }
        let exponent = decimal.digits.isEmpty ? 0 : decimal.point - 1
        text.append(101)
        text.append(exponent < 0 ? 45 : 43)
        if abs(exponent) < 10 { text.append(48) }
        appendInteger(UInt64(abs(exponent)), to: &text)
    }
}

extension Machine {
    /// `"%d items".format([3])` (cel-go ext/formatting.go): %s %d %f %e %b %o %x %X, `%.3f`, `%%`.
    mutating func format(_ pattern: Value, _ arguments: Value, _ c: Context) -> Value {
        let start = heap.bytes.count
        let total = bytes(pattern, c).count
        let available = count(arguments)
        var next = 0
        var index = 0
        while index < total {
            let byte = bytes(pattern, c)[index]
            index += 1
            guard heap.allows(bytes: 1) else { return fail(.memoryLimit) }
            if byte != 37 {
                heap.bytes.append(byte)
                continue
            }
            if index < total, bytes(pattern, c)[index] == 37 {
                heap.bytes.append(37)
                index += 1
                continue
            }
            var precision = -1
            if index < total, bytes(pattern, c)[index] == 46 {
                index += 1
                precision = 0
                while index < total, bytes(pattern, c)[index] >= 48, bytes(pattern, c)[index] <= 57 {
                    precision = precision * 10 + Int(bytes(pattern, c)[index] - 48)
                    if precision > Limits.formatPrecision { return fail(.invalidArgument) }
                    index += 1
                }
            }
            guard index < total, next < available else { return fail(.invalidArgument) }
            let clause = bytes(pattern, c)[index]
            index += 1
            let argument = element(arguments, next, c)
            next += 1
            if let failure = clauseText(clause, precision, argument, c) { return failure }
        }
        return heap.text(from: start)
    }

    /// Appends one argument; an error if the clause does not take it.
    private mutating func clauseText(_ clause: UInt8, _ precision: Int, _ value: Value, _ c: Context) -> Value? {
        guard heap.allows(bytes: 512 + max(0, precision)) else { return fail(.memoryLimit) }
        switch clause {
        case UInt8(ascii: "s"): return appendText(value, c, 0)
        case UInt8(ascii: "d"):
            switch value.kind {
            case .int: appendInteger(value.int, to: &heap.bytes)
            case .uint: appendInteger(value.bits, to: &heap.bytes)
            case .double: appendReal(value.real, to: &heap.bytes)
            default: return fail(.noOverload)
            }
        case UInt8(ascii: "f"), UInt8(ascii: "e"):
            guard let real = value.number else { return fail(.noOverload) }
            if !real.isFinite {
                appendReal(real, to: &heap.bytes)
            } else if clause == UInt8(ascii: "f") {
                Decimal.appendFixed(real, precision < 0 ? 6 : precision, to: &heap.bytes)
            } else {
                Decimal.appendScientific(real, precision < 0 ? 6 : precision, to: &heap.bytes)
            }
        case UInt8(ascii: "b"):
            if value.kind == .bool { heap.bytes.append(value.bits != 0 ? 49 : 48) } else { return appendDigits(value, 1, false) }
        case UInt8(ascii: "o"): return appendDigits(value, 3, false)
        case UInt8(ascii: "x"), UInt8(ascii: "X"):
            let isUpper = clause == UInt8(ascii: "X")
            guard value.kind == .string || value.kind == .bytes else { return appendDigits(value, 4, isUpper) }
            let count = bytes(value, c).count
            charge(count >> 3)
            guard heap.allows(bytes: 2 * count) else { return fail(.memoryLimit) }
            for index in 0..<count {
                let byte = bytes(value, c)[index]
                heap.bytes.append(Machine.digit(UInt64(byte >> 4), isUpper))
                heap.bytes.append(Machine.digit(UInt64(byte & 15), isUpper))
            }
        default: return fail(.invalidArgument)
        }
        return nil
    }

    private static func digit(_ value: UInt64, _ isUpper: Bool) -> UInt8 {
        value < 10 ? UInt8(48 + value) : UInt8((isUpper ? 55 : 87) + value)
    }

    /// An integer in base 2^shift, negative ones with a minus sign.
    private mutating func appendDigits(_ value: Value, _ shift: UInt64, _ isUpper: Bool) -> Value? {
        guard value.kind == .int || value.kind == .uint else { return fail(.noOverload) }
        var magnitude = value.bits
        if value.kind == .int, value.int < 0 {
            heap.bytes.append(45)
            magnitude = value.int.magnitude
        }
        var place: UInt64 = 0
        while place + shift < 64, magnitude >> (place + shift) != 0 { place += shift }
        while true {
            heap.bytes.append(Machine.digit(magnitude >> place & (1 << shift - 1), isUpper))
            if place == 0 { return nil }
            place -= shift
        }
    }

    /// Appends any value as `%s` shows it: maps with their keys in the order of their texts.
    private mutating func appendText(_ value: Value, _ c: Context, _ depth: Int) -> Value? {
        guard depth < Limits.valueNesting else { return fail(.nestingLimit) }
        charge(1)
        guard steps >= 0, heap.allows(bytes: 64) else { return fail(.memoryLimit) }
        switch value.kind {
        case .list:
            heap.bytes.append(91)
            for index in 0..<count(value) {
                if index > 0 { heap.bytes.append(contentsOf: StaticString(", ").bytes) }
                if let failure = appendText(element(value, index, c), c, depth + 1) { return failure }
            }
            heap.bytes.append(93)
        case .map: return appendMap(value, c, depth)
        case .string, .bytes: return append(value, c) ? nil : fail(.memoryLimit)
        case .optional:
            if value.extra == 0 {
                heap.bytes.append(contentsOf: StaticString("optional.none()").bytes)
            } else {
                heap.bytes.append(contentsOf: StaticString("optional(").bytes)
                if let failure = appendText(optionalContent(value, c), c, depth + 1) { return failure }
                heap.bytes.append(41)
            }
        default: appendScalarText(value, c)
        }
        return nil
    }

    private mutating func appendMap(_ map: Value, _ c: Context, _ depth: Int) -> Value? {
        var entries: [(text: [UInt8], index: Int)] = []
        for index in 0..<count(map) {
            let start = heap.bytes.count
            if let failure = appendText(mapKey(map, index, c), c, depth + 1) { return failure }
            entries.append((Array(heap.bytes[start...]), index))
            heap.bytes.removeLast(heap.bytes.count - start)
        }
        charge(entries.count * 4)
        entries.putInOrder { compareSpans($0.text.span, $1.text.span) < 0 }
        heap.bytes.append(123)
        for (position, entry) in entries.enumerated() {
            if position > 0 { heap.bytes.append(contentsOf: StaticString(", ").bytes) }
            guard heap.allows(bytes: entry.text.count + 4) else { return fail(.memoryLimit) }
            heap.bytes += entry.text
            heap.bytes.append(contentsOf: StaticString(": ").bytes)
            if let failure = appendText(mapValue(map, entry.index, c), c, depth + 1) { return failure }
        }
        heap.bytes.append(125)
        return nil
    }

    // MARK: JSON

    /// Writes a value as JSON, as `Evaluator.write` says.
    mutating func write(_ value: Value, _ writer: inout JSONWriter, _ c: Context, _ depth: Int) {
        guard depth < Limits.valueNesting else { return writer.null() }
        switch value.kind {
        case .bool: writer.bool(value.bits != 0)
        case .int: writer.int(value.int)
        case .uint: writer.uint(value.bits)
        case .double: writer.double(value.real)
        case .string: writer.string(bytes(value, c))
        case .bytes:
            var text: [UInt8] = []
            appendBase64(bytes(value, c), to: &text)
            writer.string(text.span)
        case .list:
            writer.beginArray()
            for index in 0..<count(value) { write(element(value, index, c), &writer, c, depth + 1) }
            writer.endArray()
        case .map:
            writer.beginObject()
            for index in 0..<count(value) {
                let key = mapKey(value, index, c)
                if key.kind == .string {
                    writer.key(bytes(key, c))
                } else {
                    let text = scalarText(key, c)
                    writer.key(text.span)
                }
                write(mapValue(value, index, c), &writer, c, depth + 1)
            }
            writer.endObject()
        case .timestamp, .duration, .type, .ip, .cidr:
            let text = scalarText(value, c)
            writer.string(text.span)
        case .optional where value.extra != 0: write(optionalContent(value, c), &writer, c, depth + 1)
        default: writer.null()
        }
    }

    /// The text of a value that is no container, in an array of its own: for answers.
    mutating func scalarText(_ value: Value, _ c: Context) -> [UInt8] {
        let start = heap.bytes.count
        appendScalarText(value, c)
        let text = Array(heap.bytes[start...])
        heap.bytes.removeLast(heap.bytes.count - start)
        return text
    }
}
