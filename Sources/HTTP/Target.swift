// What a route needs of a request target: decoded path segments and query parameters (RFC 3986 sections 2 and 3).

/// Appends the percent-decoded bytes to `output` and answers true; answers false, with `output` in an unspecified
/// state, when an escape is malformed or hides a NUL byte.
public func percentDecode(_ encoded: Span<UInt8>, into output: inout [UInt8]) -> Bool {
    var position = 0
    while position < encoded.count {
        var byte = encoded[position]
        if byte == 0x25 {
            guard position &+ 2 < encoded.count, let high = hexValue(encoded[position &+ 1]),
                let low = hexValue(encoded[position &+ 2])
            else { return false }
            byte = high << 4 | low
            guard byte != 0 else { return false }
            position &+= 2
        }
        output.append(byte)
        position &+= 1
    }
    return true
}

/// The raw value of the first parameter of this name in a query such as `a=1&b=2`; empty for a parameter without a
/// value, nil when there is none.
public func queryValue(_ name: StaticString, in query: Span<UInt8>) -> ByteRange? {
    var start = 0
    while start < query.count {
        var equals = -1
        var end = start
        while end < query.count && query[end] != 0x26 {
            if query[end] == 0x3D && equals < 0 { equals = end }
            end &+= 1
        }
        let nameEnd = equals < 0 ? end : equals
        if query.extracting(start..<nameEnd).equals(name) {
            return ByteRange(equals < 0 ? end : equals &+ 1, end)
        }
        start = end &+ 1
    }
    return nil
}
