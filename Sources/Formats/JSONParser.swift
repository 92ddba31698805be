// The reading of a JSON text into a JSONDocument: RFC 8259, strictly. Where the RFC leaves a choice it refuses
// (lone surrogates, numbers beyond a double, a byte order mark), except for duplicate keys (see DuplicateKeys).
//
// One loop and no recursion: an open container keeps its parent in its `next`, so depth costs no stack.

/// Why a text is not JSON, and where.
public struct JSONError: Error, Equatable, Sendable {
    public enum Kind: UInt8, Sendable {
        case empty, unexpectedEnd, unexpectedByte, trailingBytes, invalidNumber, numberOutOfRange, invalidEscape
        case loneSurrogate, controlCharacter, invalidUTF8, byteOrderMark, tooDeep, tooLong, tooManyChildren
        case tooManyValues
        case duplicateKey
    }

    public let kind: Kind
    /// Bytes from the start of the text.
    public let offset: Int
    public let position: TextPosition

    init(_ kind: Kind, _ offset: Int, _ text: Span<UInt8>) {
        self.kind = kind
        self.offset = offset
        position = TextPosition(of: offset, in: text)
    }

    /// What is wrong, without the place and without any of the text.
    public var message: String {
        switch kind {
        case .empty: "the text is empty; a JSON value is needed"
        case .unexpectedEnd: "the text ends inside a value"
        case .unexpectedByte: "this character cannot stand here"
        case .trailingBytes: "something follows the value; one JSON value is all that a text may hold"
        case .invalidNumber: "this is not a number as JSON writes it"
        case .numberOutOfRange: "the number is beyond the range of a double"
        case .invalidEscape: "this escape is not one of JSON's"
        case .loneSurrogate: "half of a surrogate pair stands alone"
        case .controlCharacter: "a control character in a string must be escaped"
        case .invalidUTF8: "the text is not UTF-8"
        case .byteOrderMark: "the text begins with a byte order mark; remove it"
        case .tooDeep: "the values are nested too deep"
        case .tooLong: "the text is too long"
        case .tooManyValues: "the text holds too many values"
        case .tooManyChildren: "an array or object has too many members"
        case .duplicateKey: "this key stands in the object already"
        }
    }
}

extension JSONDocument {
    /// Copies the text in and parses it; it is kept until the next call. After an error the document holds `null`.
    ///
    /// - Parameters:
    ///   - input: UTF-8 text of one JSON value, with white space around it, of up to `Limits.jsonTextBytes`.
    ///   - maximumDepth: containers inside each other that are still accepted.
    ///   - maximumValues: values and keys that are still accepted; each takes 16 bytes of memory.
    ///   - duplicateKeys: what two members of one name in an object mean.
    public mutating func parse(
        _ input: Span<UInt8>, maximumDepth: Int = Limits.jsonDepth, maximumValues: Int = Limits.jsonValues,
        duplicateKeys: DuplicateKeys = .lastWins
    ) throws(JSONError) {
        root = JSONNode(index: 0)
        text.removeAll(keepingCapacity: true)
        nodes.removeAll(keepingCapacity: true)
        positions.removeAll(keepingCapacity: true)
        do throws(JSONError) {
            if input.count > Limits.jsonTextBytes { throw JSONError(.tooLong, Limits.jsonTextBytes, input) }
            text.append(contentsOf: input)
            try parseValues(input, maximumDepth, maximumValues, duplicateKeys)
        } catch {
            nodes.removeAll(keepingCapacity: true)
            nodes.append(Node(head: UInt32(JSONKind.null.rawValue), offset: 0, length: 0, next: 0))
            throw error
        }
    }

    private enum Expected { case value, valueOrEnd, key, keyOrEnd, commaOrEnd }

    private mutating func parseValues(
        _ input: Span<UInt8>, _ maximumDepth: Int, _ maximumValues: Int, _ duplicateKeys: DuplicateKeys
    ) throws(JSONError) {
        var offset = JSONDocument.skipWhiteSpace(input, 0)
        if offset == input.count { throw JSONError(.empty, offset, input) }
        if input[offset] == 0xEF { throw JSONError(.byteOrderMark, offset, input) }

        var expected = Expected.value
        /// The open container that the next node belongs to (-1: none), and its last child (0: none).
        var container = -1
        var last = 0
        var depth = 0

        while true {
            if offset >= input.count { throw JSONError(.unexpectedEnd, input.count, input) }
            if nodes.count > maximumValues { throw JSONError(.tooManyValues, offset, input) }
            let byte = input[offset]
            var isValueComplete = true

            switch expected {
            case .commaOrEnd:
                if byte == UInt8(ascii: ",") {
                    expected = nodes[container].kind == .object ? .key : .value
                    offset = JSONDocument.skipWhiteSpace(input, offset + 1)
                    continue
                }
                fallthrough
            case .valueOrEnd where byte == UInt8(ascii: "]"), .keyOrEnd where byte == UInt8(ascii: "}"):
                let isObject = nodes[container].kind == .object
                if byte != (isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) {
                    throw JSONError(.unexpectedByte, offset, input)
                }
                offset += 1
                if isObject, let repeated = settleDuplicates(container, duplicateKeys) {
                    throw JSONError(.duplicateKey, sourceOffset(nodes[Int(repeated.index)]), input)
                }
                last = container
                container = Int(Int32(bitPattern: nodes[last].next))
                nodes[last].next = 0
                nodes[last].length = UInt32(offset) - nodes[last].offset
                depth -= 1

            case .key, .keyOrEnd:
                if byte != UInt8(ascii: "\"") { throw JSONError(.unexpectedByte, offset, input) }
                link(container, last)
                last = nodes.count
                offset = try parseString(input, offset, isKey: true)
                offset = JSONDocument.skipWhiteSpace(input, offset)
                if offset >= input.count { throw JSONError(.unexpectedEnd, offset, input) }
                if input[offset] != UInt8(ascii: ":") { throw JSONError(.unexpectedByte, offset, input) }
                offset = JSONDocument.skipWhiteSpace(input, offset + 1)
                expected = .value
                continue

            case .value, .valueOrEnd:
                link(container, last)
                if container >= 0 {
                    if nodes[container].count == UInt32(Limits.jsonChildren) {
                        throw JSONError(.tooManyChildren, offset, input)
                    }
                    nodes[container].head &+= 1 << 8
                }
                last = nodes.count
                switch byte {
                case UInt8(ascii: "\""):
                    offset = try parseString(input, offset, isKey: false)
                case UInt8(ascii: "{"), UInt8(ascii: "["):
                    if depth == maximumDepth { throw JSONError(.tooDeep, offset, input) }
                    depth += 1
                    let kind = byte == UInt8(ascii: "{") ? JSONKind.object : JSONKind.array
                    nodes.append(
                        Node(
                            head: UInt32(kind.rawValue), offset: UInt32(offset), length: 0,
                            next: UInt32(bitPattern: Int32(container))))
                    container = last
                    last = 0
                    offset += 1
                    expected = kind == .object ? .keyOrEnd : .valueOrEnd
                    isValueComplete = false
                case UInt8(ascii: "t"): offset = try parseWord(input, offset, "true", .bool, Node.isTrue)
                case UInt8(ascii: "f"): offset = try parseWord(input, offset, "false", .bool, 0)
                case UInt8(ascii: "n"): offset = try parseWord(input, offset, "null", .null, 0)
                default: offset = try parseNumber(input, offset)
                }
            }

            offset = JSONDocument.skipWhiteSpace(input, offset)
            if isValueComplete {
                if container < 0 {
                    if offset < input.count { throw JSONError(.trailingBytes, offset, input) }
                    return
                }
                expected = .commaOrEnd
            }
        }
    }

    /// Makes the node that is about to be appended the next sibling of `last`.
    private mutating func link(_ container: Int, _ last: Int) {
        if last != 0 { nodes[last].next = UInt32(nodes.count) }
    }

    private static func skipWhiteSpace(_ input: Span<UInt8>, _ start: Int) -> Int {
        var offset = start
        while offset < input.count {
            let byte = input[offset]
            if byte > 0x20 || (byte != 0x20 && byte != 0x0A && byte != 0x0D && byte != 0x09) { break }
            offset += 1
        }
        return offset
    }

    private mutating func parseWord(
        _ input: Span<UInt8>, _ start: Int, _ word: StaticString, _ kind: JSONKind, _ flags: UInt32
    ) throws(JSONError) -> Int {
        let wanted = word.bytes
        var index = 0
        while index < wanted.count {
            if start + index >= input.count { throw JSONError(.unexpectedEnd, input.count, input) }
            if input[start + index] != wanted[index] { throw JSONError(.unexpectedByte, start + index, input) }
            index += 1
        }
        nodes.append(
            Node(head: UInt32(kind.rawValue) | flags, offset: UInt32(start), length: UInt32(index), next: 0))
        return start + index
    }

    /// RFC 8259 section 6: `[ minus ] int [ frac ] [ exp ]`.
    private mutating func parseNumber(_ input: Span<UInt8>, _ start: Int) throws(JSONError) -> Int {
        func isDigit(_ offset: Int) -> Bool { offset < input.count && input[offset] &- 0x30 < 10 }
        var offset = start
        let isNegative = input[offset] == UInt8(ascii: "-")
        if isNegative { offset += 1 }
        if !isDigit(offset) {
            if offset >= input.count { throw JSONError(.unexpectedEnd, offset, input) }
            throw JSONError(isNegative ? .invalidNumber : .unexpectedByte, offset, input)
        }
        if input[offset] == UInt8(ascii: "0") {
            offset += 1
            if isDigit(offset) { throw JSONError(.invalidNumber, offset, input) }
        } else {
            while isDigit(offset) { offset += 1 }
        }
        var kind = JSONKind.integer
        if offset < input.count, input[offset] == UInt8(ascii: ".") {
            kind = .number
            offset += 1
            if !isDigit(offset) { throw JSONError(.invalidNumber, offset, input) }
            while isDigit(offset) { offset += 1 }
        }
        var hasExponent = false
        if offset < input.count, input[offset] | 0x20 == UInt8(ascii: "e") {
            kind = .number
            hasExponent = true
            offset += 1
            if offset < input.count, input[offset] == UInt8(ascii: "+") || input[offset] == UInt8(ascii: "-") {
                offset += 1
            }
            if !isDigit(offset) { throw JSONError(.invalidNumber, offset, input) }
            while isDigit(offset) { offset += 1 }
        }
        if hasExponent || offset - start > 300 {
            guard let value = parseDouble(input.extracting(start..<offset)), value.isFinite else {
                throw JSONError(.numberOutOfRange, start, input)
            }
        }
        nodes.append(
            Node(head: UInt32(kind.rawValue), offset: UInt32(start), length: UInt32(offset - start), next: 0))
        return offset
    }

    /// `start` is the opening quote; returns the offset after the closing one.
    private mutating func parseString(
        _ input: Span<UInt8>, _ start: Int, isKey: Bool
    ) throws(JSONError) -> Int {
        var offset = start + 1
        var hasEscapes = false
        while true {
            offset = endOfPlainText(input, from: offset)
            if offset >= input.count { throw JSONError(.unexpectedEnd, input.count, input) }
            let byte = input[offset]
            if byte == UInt8(ascii: "\"") { break }
            if byte == UInt8(ascii: "\\") {
                hasEscapes = true
                offset += 2
            } else if byte < 0x20 {
                throw JSONError(.controlCharacter, offset, input)
            } else {
                let length = UTF8Text.sequenceLength(input, offset)
                if length == 0 { throw JSONError(.invalidUTF8, offset, input) }
                offset += length
            }
        }
        var head = UInt32(JSONKind.string.rawValue)
        var begin = start + 1
        var length = offset - begin
        if hasEscapes {
            head |= Node.escaped
            text.append(UInt8(truncatingIfNeeded: start))
            text.append(UInt8(truncatingIfNeeded: start >> 8))
            text.append(UInt8(truncatingIfNeeded: start >> 16))
            text.append(UInt8(truncatingIfNeeded: start >> 24))
            begin = text.count
            try appendUnescaped(input, start + 1, offset)
            length = text.count - begin
            if isKey { head |= JSONDocument.tag(text.span.extracting(begin..<begin + length)) << 8 }
        } else if isKey {
            head |= JSONDocument.tag(input.extracting(begin..<offset)) << 8
        }
        nodes.append(Node(head: head, offset: UInt32(begin), length: UInt32(length), next: 0))
        return offset + 1
    }

    private mutating func appendUnescaped(
        _ input: Span<UInt8>, _ start: Int, _ end: Int
    ) throws(JSONError) {
        var offset = start
        while offset < end {
            if input[offset] != UInt8(ascii: "\\") {
                text.append(input[offset])
                offset += 1
                continue
            }
            switch input[offset + 1] {
            case UInt8(ascii: "\""): text.append(UInt8(ascii: "\""))
            case UInt8(ascii: "\\"): text.append(UInt8(ascii: "\\"))
            case UInt8(ascii: "/"): text.append(UInt8(ascii: "/"))
            case UInt8(ascii: "b"): text.append(0x08)
            case UInt8(ascii: "f"): text.append(0x0C)
            case UInt8(ascii: "n"): text.append(0x0A)
            case UInt8(ascii: "r"): text.append(0x0D)
            case UInt8(ascii: "t"): text.append(0x09)
            case UInt8(ascii: "u"):
                guard var scalar = JSONDocument.hexadecimal(input, offset + 2, end) else {
                    throw JSONError(.invalidEscape, offset, input)
                }
                if scalar & 0xFC00 == 0xDC00 { throw JSONError(.loneSurrogate, offset, input) }
                if scalar & 0xFC00 == 0xD800 {
                    guard offset + 7 < end, input[offset + 6] == UInt8(ascii: "\\"),
                        input[offset + 7] == UInt8(ascii: "u"),
                        let low = JSONDocument.hexadecimal(input, offset + 8, end), low & 0xFC00 == 0xDC00
                    else { throw JSONError(.loneSurrogate, offset, input) }
                    scalar = 0x10000 + (scalar & 0x3FF) << 10 + low & 0x3FF
                    offset += 6
                }
                UTF8Text.append(scalar, to: &text)
                offset += 4
            default: throw JSONError(.invalidEscape, offset, input)
            }
            offset += 2
        }
    }

    /// The four hexadecimal digits at `offset`.
    private static func hexadecimal(_ input: Span<UInt8>, _ offset: Int, _ end: Int) -> UInt32? {
        guard offset + 4 <= end else { return nil }
        var value: UInt32 = 0
        for index in offset..<offset + 4 {
            guard let digit = Hex.value(of: input[index]) else { return nil }
            value = value << 4 | UInt32(digit)
        }
        return value
    }
}
