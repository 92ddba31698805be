// The field lines of a head (RFC 9110 section 5, RFC 9112 section 5): a fixed table of ranges, and its look-ups.
// It need not know whether the head is a request's or a response's.

/// One field line: where its name and its value lie in the input. White space around the value is left out.
public struct Field {
    // 16 bits each, since a head is at most `Limits.headBytes`: the whole table is 512 bytes.
    var nameOffset: UInt16 = 0
    var nameLength: UInt16 = 0
    var valueOffset: UInt16 = 0
    var valueLength: UInt16 = 0

    public var name: ByteRange { ByteRange(offset: UInt32(nameOffset), length: UInt32(nameLength)) }
    public var value: ByteRange { ByteRange(offset: UInt32(valueOffset), length: UInt32(valueLength)) }
}

/// The fields of one head in the order of their lines.
public struct FieldTable {
    var fields: [64 of Field] = InlineArray(repeating: Field())
    public internal(set) var count = 0

    public subscript(index: Int) -> Field {
        precondition(index < count)
        return fields[index]
    }

    /// The value of the first field with this name, or nil. `name` is written in lower case; fields have no case.
    public func range(of name: StaticString, in input: Span<UInt8>) -> ByteRange? {
        for index in 0..<count where Int(fields[index].nameLength) == name.utf8CodeUnitCount {
            if input.bytes(fields[index].name).equalsIgnoringCase(name) { return fields[index].value }
        }
        return nil
    }

    /// How many fields have this name (in lower case).
    public func occurrences(of name: StaticString, in input: Span<UInt8>) -> Int {
        var occurrences = 0
        for index in 0..<count where input.bytes(fields[index].name).equalsIgnoringCase(name) { occurrences += 1 }
        return occurrences
    }

    /// Parses one field line that begins at `start` and appends it. Returns the offset after its line end.
    ///
    /// Refused are: a fold (a line that begins with white space), white space before the colon, an empty name, a name
    /// that is no token, control characters and a CR or LF of its own in the value. Each has been used to make two
    /// readers of one message see two different messages.
    mutating func parseLine(_ input: Span<UInt8>, at start: Int) throws(Stop) -> Int {
        let colon = try FieldTable.parseName(input, at: start)
        let count = input.count
        var position = colon &+ 1
        while position < count && isBlank(input[position]) { position &+= 1 }
        let valueStart = position
        var valueEnd = position
        while true {
            guard position < count else { throw .incomplete }
            let byte = input[position]
            if byte > 0x20 && byte != 0x7F {
                position &+= 1
                valueEnd = position
            } else if isBlank(byte) {
                position &+= 1
            } else if byte == 0x0D {
                break
            } else {
                throw .invalid(byte == 0x0A ? .bareLineFeed : .forbiddenByteInField, position)
            }
        }
        let next = try expectLineEnd(input, at: position)
        guard self.count < fields.count else { throw .invalid(.tooManyFields, start) }
        fields[self.count] = Field(
            nameOffset: UInt16(truncatingIfNeeded: start), nameLength: UInt16(truncatingIfNeeded: colon &- start),
            valueOffset: UInt16(truncatingIfNeeded: valueStart),
            valueLength: UInt16(truncatingIfNeeded: valueEnd &- valueStart))
        self.count &+= 1
        return next
    }

    /// Checks the name of the field line at `start`. Returns the offset of its colon.
    private static func parseName(_ input: Span<UInt8>, at start: Int) throws(Stop) -> Int {
        var position = start
        while true {
            guard position < input.count else { throw .incomplete }
            let byte = input[position]
            if CharacterClass.token.contains(byte) {
                position &+= 1
                continue
            }
            if byte == 0x3A && position > start { return position }
            if isBlank(byte) { throw .invalid(position == start ? .foldedField : .whitespaceBeforeColon, position) }
            throw .invalid(byte == 0x0A ? .bareLineFeed : .malformedFieldName, position)
        }
    }
}

/// Checks that CR LF lies at `position`. Returns the offset after it.
func expectLineEnd(_ input: Span<UInt8>, at position: Int) throws(Stop) -> Int {
    guard position < input.count else { throw .incomplete }
    guard input[position] == 0x0D else {
        throw .invalid(input[position] == 0x0A ? .bareLineFeed : .bareCarriageReturn, position)
    }
    guard position &+ 1 < input.count else { throw .incomplete }
    guard input[position &+ 1] == 0x0A else { throw .invalid(.bareCarriageReturn, position) }
    return position &+ 2
}

/// What the fields of a head say together about framing and about the connection, gathered line by line.
struct FramingFields {
    var contentLength: UInt64?
    var isChunked = false
    var hasTransferEncoding = false
    var saysClose = false
    var saysKeepAlive = false

    /// Takes note of one field if it belongs here.
    mutating func note(_ field: Field, in input: Span<UInt8>) throws(Stop) {
        let name = input.bytes(field.name)
        switch field.nameLength {
        case 10 where name.equalsIgnoringCase("connection"): noteConnection(field.value, in: input)
        case 14 where name.equalsIgnoringCase("content-length"): try noteLength(field.value, in: input)
        case 17 where name.equalsIgnoringCase("transfer-encoding"): try noteCoding(field.value, in: input)
        default: break
        }
    }

    /// RFC 9112 section 6.3 rule 6. RFC 9110 section 8.6 lets equal repetitions pass; nothing honest sends them.
    private mutating func noteLength(_ range: ByteRange, in input: Span<UInt8>) throws(Stop) {
        guard contentLength == nil else { throw .invalid(.severalContentLengths, range.start) }
        guard !range.isEmpty else { throw .invalid(.malformedContentLength, range.start) }
        var value: UInt64 = 0
        for index in range.start..<range.end {
            let digit = input[index] &- 0x30
            guard digit < 10 else { throw .invalid(.malformedContentLength, index) }
            guard value < 100_000_000_000_000_000 else { throw .invalid(.contentLengthTooLarge, index) }
            value = value &* 10 &+ UInt64(digit)
        }
        contentLength = value
    }

    /// RFC 9112 section 6.1. Exactly one field that says exactly `chunked`; all else is refused, since what a server
    /// does not understand it cannot find the end of.
    private mutating func noteCoding(_ range: ByteRange, in input: Span<UInt8>) throws(Stop) {
        if isChunked { throw .invalid(.chunkedNotLast, range.start) }
        if hasTransferEncoding { throw .invalid(.unsupportedTransferCoding, range.start) }
        hasTransferEncoding = true
        let value = input.bytes(range)
        if value.equalsIgnoringCase("chunked") {
            isChunked = true
        } else if value.count > 7 && listContains(value, "chunked") && !endsInChunked(value) {
            throw .invalid(.chunkedNotLast, range.start)
        } else {
            throw .invalid(.unsupportedTransferCoding, range.start)
        }
    }

    private func endsInChunked(_ value: Span<UInt8>) -> Bool {
        value.extracting((value.count &- 7)..<value.count).equalsIgnoringCase("chunked")
    }

    /// RFC 9112 section 9.3.
    private mutating func noteConnection(_ range: ByteRange, in input: Span<UInt8>) {
        let value = input.bytes(range)
        if listContains(value, "close") { saysClose = true }
        if listContains(value, "keep-alive") { saysKeepAlive = true }
    }

    /// RFC 9112 section 9.3: HTTP/1.1 stays open unless told otherwise, HTTP/1.0 closes unless told otherwise.
    func keepsAlive(minorVersion: UInt8) -> Bool {
        !saysClose && (minorVersion == 1 || saysKeepAlive)
    }
}

/// Whether a comma-separated list (RFC 9110 section 5.6.1) has this element (in lower case), compared without case.
public func listContains(_ list: Span<UInt8>, _ element: StaticString) -> Bool {
    var start = 0
    while start <= list.count {
        var end = start
        while end < list.count && list[end] != 0x2C { end &+= 1 }
        if trimmed(list.extracting(start..<end)).equalsIgnoringCase(element) { return true }
        start = end &+ 1
    }
    return false
}

/// The bytes without the spaces and tabs around them.
@_lifetime(copy bytes)
public func trimmed(_ bytes: Span<UInt8>) -> Span<UInt8> {
    var start = 0
    var end = bytes.count
    while start < end && isBlank(bytes[start]) { start &+= 1 }
    while end > start && isBlank(bytes[end &- 1]) { end &-= 1 }
    return bytes.extracting(start..<end)
}

/// Whether a Content-Type value names this media type (in lower case), whatever parameters follow it.
public func isMediaType(_ value: Span<UInt8>, _ type: StaticString) -> Bool {
    var end = 0
    while end < value.count && value[end] != 0x3B { end &+= 1 }
    return trimmed(value.extracting(0..<end)).equalsIgnoringCase(type)
}
