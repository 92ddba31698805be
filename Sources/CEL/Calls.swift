// What functions do that are neither text nor numbers, and the switch that finds all of them. Arguments lie on the
// stack from `sp` on.

import Formats

enum MachineLimits {
    /// Bytes that a value has in the pool or arena.
    static func byteCount(_ value: Value) -> Int {
        value.kind == .ip || value.kind == .cidr ? 16 : Int(value.extra)
    }
}

extension Machine {
    mutating func call(_ function: Function, _ count: Int, _ c: Context) -> Value {
        var index = 0
        while index < count {
            if stack[sp + index].isError { return stack[sp + index] }
            index += 1
        }
        let first = count > 0 ? stack[sp] : .null
        let second = count > 1 ? stack[sp + 1] : .null
        switch function {
        case .size: return count == 1 ? size(first, c) : fail(.noOverload)
        case .type: return count == 1 ? first.typeOfValue : fail(.noOverload)
        case .dyn: return count == 1 ? first : fail(.noOverload)
        case .int, .uint, .double, .string, .bytes, .bool, .timestamp, .duration:
            return count == 1 ? convert(function, first, c) : fail(.noOverload)
        case .contains, .startsWith, .endsWith:
            guard count == 2, first.kind == .string, second.kind == .string else { return fail(.noOverload) }
            return search(function, first, second, c)
        case .matches:
            guard count == 2, first.kind == .string, second.kind == .string else { return fail(.noOverload) }
            return matches(first, second, c)
        case .getFullYear, .getMonth, .getDate, .getDayOfMonth, .getDayOfWeek, .getDayOfYear, .getHours, .getMinutes,
            .getSeconds, .getMilliseconds:
            return timePart(function, first, count > 1 ? second : nil, c)
        case .charAt, .indexOf, .lastIndexOf, .lowerAscii, .upperAscii, .replace, .split, .substring, .trim, .join,
            .reverse, .format, .quote, .base64Encode, .base64Decode:
            // Compiled without checking, a call may have no arguments at all.
            return count > 0 ? text(function, count, c) : fail(.noOverload)
        case .greatest, .least: return extreme(function, count, c)
        case .ceil, .floor, .round, .trunc, .abs, .sign, .sqrt, .isNaN, .isInf, .isFinite, .bitAnd, .bitOr, .bitXor,
            .bitNot, .bitShiftLeft, .bitShiftRight:
            return mathematics(function, first, second, count)
        case .optionalOf, .optionalOfNonZero, .optionalNone, .hasValue, .value, .or, .orValue:
            return optional(function, first, second, count, c)
        default: return network(function, first, second, count, c)
        }
    }

    private func size(_ value: Value, _ c: Context) -> Value {
        switch value.kind {
        case .string: .int(Int64(scalarCount(bytes(value, c))))
        case .bytes: .int(Int64(bytes(value, c).count))
        case .list, .map: .int(Int64(count(value)))
        default: fail(.noOverload)
        }
    }

    // MARK: Optionals

    private mutating func optional(
        _ function: Function, _ first: Value, _ second: Value, _ count: Int, _ c: Context
    ) -> Value {
        switch function {
        case .optionalNone: return count == 0 ? Value(.optional) : fail(.noOverload)
        case .optionalOf: return count == 1 ? heap.optional(first) : fail(.noOverload)
        case .optionalOfNonZero:
            guard count == 1 else { return fail(.noOverload) }
            return isZero(first, c) ? Value(.optional) : heap.optional(first)
        default: break
        }
        guard first.kind == .optional else { return fail(.noOverload) }
        switch (function, count) {
        case (.hasValue, 1): return .bool(first.extra != 0)
        case (.value, 1): return first.extra == 0 ? fail(.emptyOptional) : optionalContent(first, c)
        case (.or, 2):
            guard second.kind == .optional else { return fail(.noOverload) }
            return first.extra == 0 ? second : first
        case (.orValue, 2): return first.extra == 0 ? second : optionalContent(first, c)
        default: return fail(.noOverload)
        }
    }

    private func isZero(_ value: Value, _ c: Context) -> Bool {
        switch value.kind {
        case .null: true
        case .bool, .int, .uint, .duration: value.bits == 0
        case .double: value.real == 0
        case .string, .bytes: bytes(value, c).count == 0
        case .list, .map: count(value) == 0
        case .timestamp: value.bits == 0 && value.extra == 0
        case .optional: value.extra == 0
        default: false
        }
    }

    // MARK: Times

    private func timePart(_ function: Function, _ value: Value, _ zone: Value?, _ c: Context) -> Value {
        if value.kind == .duration, zone == nil {
            switch function {
            case .getHours: return .int(value.int / 3_600_000_000_000)
            case .getMinutes: return .int(value.int / 60_000_000_000)
            case .getSeconds: return .int(value.int / 1_000_000_000)
            case .getMilliseconds: return .int(value.int / 1_000_000 % 1000)
            default: return fail(.noOverload)
            }
        }
        guard value.kind == .timestamp else { return fail(.noOverload) }
        var seconds = value.int
        if let zone {
            guard zone.kind == .string else { return fail(.noOverload) }
            guard let offset = zones.offset(bytes(zone, c), at: seconds) else { return fail(.unknownTimeZone) }
            seconds += offset
        }
        let day = Time.floorDivide(seconds, 86_400)
        let rest = seconds - day * 86_400
        switch function {
        case .getHours: return .int(rest / 3600)
        case .getMinutes: return .int(rest / 60 % 60)
        case .getSeconds: return .int(rest % 60)
        case .getMilliseconds: return .int(Int64(value.extra / 1_000_000))
        case .getDayOfWeek: return .int(day + 4 - Time.floorDivide(day + 4, 7) * 7)
        default: break
        }
        let date = Time.date(days: day)
        switch function {
        case .getFullYear: return .int(date.year)
        case .getMonth: return .int(date.month - 1)
        case .getDate: return .int(date.day)
        case .getDayOfMonth: return .int(date.day - 1)
        default: return .int(day - Time.days(year: date.year, month: 1, day: 1))
        }
    }

    // MARK: Conversions

    private mutating func convert(_ function: Function, _ value: Value, _ c: Context) -> Value {
        switch function {
        case .int: return toInt(value, c)
        case .uint: return toUInt(value, c)
        case .double: return toDouble(value, c)
        case .string: return toString(value, c)
        case .bytes:
            if value.kind == .bytes { return value }
            guard value.kind == .string else { return fail(.noOverload) }
            if value.isOfDocument {
                let start = heap.bytes.count
                return append(value, c) ? heap.text(from: start, .bytes) : fail(.memoryLimit)
            }
            var result = value
            result.kind = .bytes
            return result
        case .bool: return toBool(value, c)
        case .timestamp:
            switch value.kind {
            case .timestamp: return value
            case .int: return Time.isInRange(value.int) ? .timestamp(seconds: value.int) : fail(.overflow)
            case .string:
                guard let parsed = Time.parseTimestamp(bytes(value, c)) else { return fail(.invalidArgument) }
                return .timestamp(seconds: parsed.seconds, nanoseconds: parsed.nanoseconds)
            default: return fail(.noOverload)
            }
        default:
            switch value.kind {
            case .duration: return value
            case .int:
                let (product, overflow) = value.int.multipliedReportingOverflow(by: 1_000_000_000)
                return overflow ? fail(.overflow) : .duration(nanoseconds: product)
            case .string:
                guard let parsed = Time.parseDuration(bytes(value, c)) else { return fail(.invalidArgument) }
                return .duration(nanoseconds: parsed)
            default: return fail(.noOverload)
            }
        }
    }

    private func toInt(_ value: Value, _ c: Context) -> Value {
        switch value.kind {
        case .int: return .int(value.int)
        case .uint: return value.bits > UInt64(Int64.max) ? fail(.overflow) : .int(Int64(value.bits))
        case .double:
            let real = value.real
            // The largest doubles that are surely inside; NaN fails the comparison.
            guard real > -9223372036854775808.0, real < 9223372036854775807.0 else { return fail(.overflow) }
            return .int(Int64(real))
        case .string:
            guard let parsed = integer(bytes(value, c)) else { return fail(.invalidArgument) }
            return .int(parsed)
        case .timestamp: return .int(value.int)
        case .duration: return .int(value.int)
        default: return fail(.noOverload)
        }
    }

    /// Decimal digits with an optional sign, plus included.
    private func integer(_ text: Span<UInt8>) -> Int64? {
        if text.count > 1, text[0] == 43 {
            if text[1] == 45 { return nil }
            return decimal(text, 1, false)
        }
        return text.count > 0 && text[0] == 45 ? decimal(text, 1, true) : decimal(text, 0, false)
    }

    private func decimal(_ text: Span<UInt8>, _ start: Int, _ isNegative: Bool) -> Int64? {
        guard let magnitude = magnitude(text, start) else { return nil }
        if isNegative { return magnitude > 1 << 63 ? nil : Int64(bitPattern: 0 &- magnitude) }
        return magnitude > UInt64(Int64.max) ? nil : Int64(magnitude)
    }

    private func magnitude(_ text: Span<UInt8>, _ start: Int) -> UInt64? {
        guard start < text.count else { return nil }
        var value: UInt64 = 0
        for index in start..<text.count {
            guard text[index] >= 48, text[index] <= 57 else { return nil }
            let (product, over) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(text[index] - 48))
            if over || carry { return nil }
            value = sum
        }
        return value
    }

    private func toUInt(_ value: Value, _ c: Context) -> Value {
        switch value.kind {
        case .uint: return value
        case .int: return value.int < 0 ? fail(.overflow) : .uint(value.bits)
        case .double:
            let real = value.real
            guard real >= 0, real < 18446744073709551615.0 else { return fail(.overflow) }
            return .uint(UInt64(real))
        case .string:
            let text = bytes(value, c)
            guard let parsed = magnitude(text, text.count > 0 && text[0] == 43 ? 1 : 0) else { return fail(.invalidArgument) }
            return .uint(parsed)
        default: return fail(.noOverload)
        }
    }

    private func toDouble(_ value: Value, _ c: Context) -> Value {
        switch value.kind {
        case .double, .int, .uint: return .double(value.number ?? 0)
        case .string:
            guard let parsed = real(bytes(value, c)) else { return fail(.invalidArgument) }
            return .double(parsed)
        default: return fail(.noOverload)
        }
    }

    /// A decimal number, or the names of the numbers that are none, in the spellings that Go reads.
    private func real(_ text: Span<UInt8>) -> Double? {
        var letters: [UInt8] = []
        var isNegative = false
        if text.count > 0, text.count < 16 {
            var index = 0
            if text[0] == 43 || text[0] == 45 {
                isNegative = text[0] == 45
                index = 1
            }
            while index < text.count {
                letters.append(text[index] | 0x20)
                index += 1
            }
        }
        if bytesEqual(letters, "nan") { return .nan }
        if bytesEqual(letters, "inf") || bytesEqual(letters, "infinity") { return isNegative ? -.infinity : .infinity }
        if let plain = parseDouble(text) { return plain }
        // Spellings that JSON does not have: a plus sign, leading zeros, a point without digits on one side.
        return Machine.lenientDouble(text)
    }

    static func lenientDouble(_ text: Span<UInt8>) -> Double? {
        var normal: [UInt8] = []
        var index = 0
        if index < text.count, text[index] == 43 || text[index] == 45 {
            if text[index] == 45 { normal.append(45) }
            index += 1
        }
        var digits = 0
        var seen = false
        while index < text.count, text[index] >= 48, text[index] <= 57 {
            if text[index] != 48 { seen = true }
            if seen { normal.append(text[index]) }
            digits += 1
            index += 1
        }
        if !seen { normal.append(48) }
        if index < text.count, text[index] == 46 {
            index += 1
            normal.append(46)
            normal.append(48)
            normal.removeLast()
            var fraction = 0
            while index < text.count, text[index] >= 48, text[index] <= 57 {
                normal.append(text[index])
                fraction += 1
                index += 1
            }
            if fraction == 0 { normal.append(48) }
            digits += fraction
        }
        if digits == 0 { return nil }
        while index < text.count {
            normal.append(text[index])
            index += 1
        }
        return parseDouble(normal.span)
    }

    private func toBool(_ value: Value, _ c: Context) -> Value {
        if value.kind == .bool { return value }
        guard value.kind == .string else { return fail(.noOverload) }
        let text = copyBytes(bytes(value, c))
        let trues: [StaticString] = ["1", "t", "T", "true", "TRUE", "True"]
        for word in trues where bytesEqual(text, word) { return .bool(true) }
        let falses: [StaticString] = ["0", "f", "F", "false", "FALSE", "False"]
        for word in falses where bytesEqual(text, word) { return .bool(false) }
        return fail(.invalidArgument)
    }

    mutating func toString(_ value: Value, _ c: Context) -> Value {
        switch value.kind {
        case .string: return value
        case .bytes:
            let data = bytes(value, c)
            guard isValidUTF8(data, 0, data.count) else { return fail(.invalidArgument) }
            var result = value
            result.kind = .string
            return result
        case .bool, .int, .uint, .double, .timestamp, .duration, .ip, .cidr:
            guard heap.allows(bytes: 64) else { return fail(.memoryLimit) }
            let start = heap.bytes.count
            appendScalarText(value, c)
            return heap.text(from: start)
        default: return fail(.noOverload)
        }
    }

    /// Appends the text of a value that is no container to the arena.
    mutating func appendScalarText(_ value: Value, _ c: Context) {
        switch value.kind {
        case .null: heap.bytes.append(contentsOf: StaticString("null").bytes)
        case .bool: heap.bytes.append(contentsOf: (value.bits != 0 ? StaticString("true") : StaticString("false")).bytes)
        case .int: appendInteger(value.int, to: &heap.bytes)
        case .uint: appendInteger(value.bits, to: &heap.bytes)
        case .double: appendReal(value.real, to: &heap.bytes)
        case .timestamp: Time.appendTimestamp(value.int, value.extra, to: &heap.bytes)
        case .duration: Time.appendDuration(value.int, to: &heap.bytes)
        case .type:
            heap.bytes.append(contentsOf: FunctionTable.typeName(Kind(rawValue: UInt8(value.bits)) ?? .error).bytes)
        case .ip, .cidr: do {
            let text = addressText(value, c)
            heap.bytes += text
        }
        default: _ = append(value, c)
        }
    }
}

/// The shortest decimal text that reads back as the same double; whole numbers without a point.
func appendReal(_ value: Double, to text: inout [UInt8]) {
    if value.isNaN {
        text.append(contentsOf: StaticString("NaN").bytes)
    } else if value.isInfinite {
        text.append(contentsOf: (value < 0 ? StaticString("-Infinity") : StaticString("Infinity")).bytes)
    } else {
        appendDouble(value, to: &text)
        let count = text.count
        if count > 2, text[count - 1] == 48, text[count - 2] == 46 { text.removeLast(2) }
    }
}
