// What the two fuzzers of HTTP share: how an input is cut, and a plain reader of what has been taken.

import HTTP

/// Reads an input: its stream, the lengths of the pieces in which it comes, and the longest body that is taken.
///
/// The first byte: how many lengths follow, 0 to 15; 16: runs are written short, as the byte 1, a number and a byte that is
/// repeated 64 times that number, so that a short input reaches every limit; 32: bodies may have 100 bytes, not 64 KiB.
func wire(_ input: [UInt8]) -> (stream: [UInt8], pieces: [Int], maximum: Int)? {
    guard let first = input.first, input.count > 1 + Int(first & 15) else { return nil }
    let pieces = first & 15 == 0 ? [1] : input[1...Int(first & 15)].map { Int($0) * (first & 16 == 0 ? 1 : 16) }
    var stream = Array(input[(1 + Int(first & 15))...])
    if first & 16 != 0 {
        var long: [UInt8] = []
        var index = 0
        while index < stream.count, long.count < 1 << 17 {
            if stream[index] == 1, index + 2 < stream.count {
                for _ in 0..<64 * Int(stream[index + 1]) { long.append(stream[index + 2]) }
                index += 3
            } else {
                long.append(stream[index])
                index += 1
            }
        }
        stream = long
    }
    return (stream, pieces, first & 32 == 0 ? 1 << 16 : 100)
}

func slice(_ bytes: [UInt8], _ range: ByteRange) -> [UInt8] { Array(bytes[range.start..<range.end]) }

/// Hands the decoder what has come since `readFrom`.
func decode(
    _ decoder: inout ChunkedDecoder, _ buffer: inout [UInt8], _ bodyStart: Int, _ bodyEnd: Int, _ readFrom: Int
) -> ChunkedOutcome {
    let count = buffer.count
    var span = buffer.mutableSpan
    return decoder.decode(&span, bodyStart: bodyStart, bodyEnd: bodyEnd, readFrom: readFrom, end: count)
}

/// Every line feed of a head stands behind a carriage return, and these nowhere else; no zero anywhere.
func checkLines(_ bytes: [UInt8], _ length: Int, _ stream: [UInt8]) {
    guard length >= 4, Array(bytes[(length - 4)..<length]) == [13, 10, 13, 10] else { stop(stream, "has a head without an end") }
    for index in 0..<length {
        let isReturn = bytes[index] == 13
        if isReturn, index + 1 == length || bytes[index + 1] != 10 { stop(stream, "has a lone carriage return") }
        if bytes[index] == 10, index == 0 || bytes[index - 1] != 13 { stop(stream, "has a lone line feed") }
        if bytes[index] == 0 { stop(stream, "has a zero in a head") }
    }
}

/// What chunks say that were found to be whole, by a reader that looks for no mistakes: the body, and how long it all is.
func chunks(_ wire: [UInt8]) -> (body: [UInt8], length: Int)? {
    var body: [UInt8] = []
    var position = 0
    while true {
        guard let end = lineEnd(wire, position) else { return nil }
        let digits = wire[position..<end].prefix { $0 != UInt8(ascii: ";") }
        guard let size = Int(String(decoding: digits, as: UTF8.self), radix: 16), size >= 0 else { return nil }
        position = end + 2
        if size == 0 { break }
        guard position + size + 2 <= wire.count else { return nil }
        body += wire[position..<position + size]
        position += size + 2
    }
    while let end = lineEnd(wire, position) {
        if end == position { return (body, end + 2) }
        position = end + 2
    }
    return nil
}

private func lineEnd(_ wire: [UInt8], _ start: Int) -> Int? {
    var index = start
    while index + 1 < wire.count {
        if wire[index] == 13, wire[index + 1] == 10 { return index }
        index += 1
    }
    return nil
}

func stop(_ stream: [UInt8], _ what: String) -> Never {
    fatalError("the stream \(what): \(String(decoding: stream.prefix(2000), as: UTF8.self).debugDescription)")
}
