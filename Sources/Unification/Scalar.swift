// A single value as bytes in a record: two bytes of kind and length, then the content. Equal values have equal bytes.
// It need not know which attribute keeps it.

import CEL
import Formats

/// What a kept value is. The raw values are part of the record format.
enum ScalarKind: UInt8 {
    case bool = 1
    case int, uint, double, string, timestamp, duration
}

enum Scalar {
    static let headBytes = 2

    /// Bytes of the scalar whose head is at `offset`, with the head.
    @inline(__always)
    static func size(_ bytes: Span<UInt8>, _ offset: Int) -> Int {
        headBytes + Int(load16(bytes, offset) & 0x0FFF)
    }

    static func kind(_ bytes: Span<UInt8>, _ offset: Int) -> ScalarKind? {
        ScalarKind(rawValue: UInt8(truncatingIfNeeded: load16(bytes, offset) >> 12))
    }

    static func head(_ kind: ScalarKind, _ length: Int) -> UInt16 { UInt16(kind.rawValue) << 12 | UInt16(length) }

    static func append(_ kind: ScalarKind, _ bits: UInt64, to target: inout [UInt8]) {
        target.append16(head(kind, 8))
        target.append64(bits)
    }

    /// False, and nothing appended, for NaN, which equals nothing. -0.0 becomes 0.0, which equals it: equal values have
    /// equal bytes.
    static func append(double value: Double, to target: inout [UInt8]) -> Bool {
        if value.isNaN { return false }
        append(.double, (value + 0).bitPattern, to: &target)
        return true
    }

    static func append(bool value: Bool, to target: inout [UInt8]) {
        target.append16(head(.bool, 1))
        target.append(value ? 1 : 0)
    }

    /// False, and nothing appended, for text over `Limits.valueBytes`.
    static func append(string text: Span<UInt8>, to target: inout [UInt8]) -> Bool {
        if text.count > Limits.valueBytes { return false }
        target.append16(head(.string, text.count))
        target.append(contentsOf: text)
        return true
    }

    /// The scalar as a value of the expression language; text stays where it is.
    static func value(_ bytes: Span<UInt8>, _ offset: Int) -> Value {
        let content = offset + headBytes
        switch kind(bytes, offset) {
        case .bool: return .bool(bytes[content] != 0)
        case .int: return .int(Int64(bitPattern: load64(bytes, content)))
        case .uint: return .uint(load64(bytes, content))
        case .double: return .double(loadDouble(bytes, content))
        case .string: return .string(inRegion: content, length: size(bytes, offset) - headBytes)
        case .timestamp: return .timestamp(milliseconds: Int64(bitPattern: load64(bytes, content)))
        case .duration: return .duration(milliseconds: Int64(bitPattern: load64(bytes, content)))
        case nil: return .null
        }
    }

    /// Writes the scalar as JSON: times as RFC 3339, durations as seconds with an `s` behind, as CEL's JSON form has
    /// it.
    static func write(_ bytes: Span<UInt8>, _ offset: Int, to writer: inout JSONWriter, _ scratch: inout [UInt8]) {
        let content = offset + headBytes
        switch kind(bytes, offset) {
        case .bool: writer.bool(bytes[content] != 0)
        case .int: writer.int(Int64(bitPattern: load64(bytes, content)))
        case .uint: writer.uint(load64(bytes, content))
        case .double: writer.double(loadDouble(bytes, content))
        case .string: writer.string(bytes.extracting(content..<offset + size(bytes, offset)))
        case .timestamp: writeTime(Int64(bitPattern: load64(bytes, content)), to: &writer, &scratch)
        case .duration:
            scratch.removeAll(keepingCapacity: true)
            appendDouble(Double(Int64(bitPattern: load64(bytes, content))) / 1000, to: &scratch)
            scratch.append(UInt8(ascii: "s"))
            writer.string(scratch.span)
        case nil: writer.null()
        }
    }

    static func writeTime(_ milliseconds: Int64, to writer: inout JSONWriter, _ scratch: inout [UInt8]) {
        scratch.removeAll(keepingCapacity: true)
        Timestamp.append(milliseconds, to: &scratch)
        writer.string(scratch.span)
    }

    /// Orders two scalars by their bytes: no meaning, but the same on every device. Negative: the first is less.
    static func compare(_ bytes: Span<UInt8>, _ first: Int, _ second: Int) -> Int {
        let firstSize = size(bytes, first)
        let secondSize = size(bytes, second)
        var index = 0
        while index < firstSize, index < secondSize {
            let a = bytes[first + index]
            let b = bytes[second + index]
            if a != b { return a < b ? -1 : 1 }
            index += 1
        }
        return firstSize - secondSize
    }

    static func areEqual(_ bytes: Span<UInt8>, _ first: Int, _ second: Int) -> Bool {
        let length = size(bytes, first)
        return load16(bytes, first) == load16(bytes, second)
            && equal(bytes.extracting(first..<first + length), bytes.extracting(second..<second + length))
    }
}
