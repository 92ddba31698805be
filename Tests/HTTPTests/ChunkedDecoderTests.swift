// The chunked decoder: the same answer for every cut of the input, and a refusal for everything off the grammar.
import HTTP
import Testing

@Suite struct ChunkedDecoderTests {
    /// Feeds `wire` in pieces of `size` bytes, as a connection would: each round continues where the body ended.
    static func decode(_ wire: String, pieces size: Int, maximum: Int = 1000) -> (ChunkedOutcome, body: String) {
        let bytes = Array(wire.utf8)
        var buffer = [UInt8](repeating: 0x21, count: 3 + bytes.count)
        var decoder = ChunkedDecoder(maximumBodyBytes: maximum)
        var bodyEnd = 3
        var taken = 0
        var outcome = ChunkedOutcome.incomplete(bodyEnd: 3)
        while taken < bytes.count {
            let piece = bytes[taken..<min(taken + size, bytes.count)]
            buffer.replaceSubrange(bodyEnd..<(bodyEnd + piece.count), with: piece)
            taken += piece.count
            var span = buffer.mutableSpan
            outcome = decoder.decode(
                &span, bodyStart: 3, bodyEnd: bodyEnd, readFrom: bodyEnd, end: bodyEnd + piece.count)
            switch outcome {
            case .incomplete(let end): bodyEnd = end
            case .complete(let end, _): return (outcome, String(decoding: buffer[3..<end], as: UTF8.self))
            case .invalid: return (outcome, "")
            }
        }
        return (outcome, String(decoding: buffer[3..<bodyEnd], as: UTF8.self))
    }

    static let good: [(String, String)] = [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n", "hello world"),
        ("A\r\n0123456789\r\n0\r\nVary: *\r\nX:\r\n\r\n", "0123456789"),
        ("a;foo=bar;b;c=\"x;\\\"y\"\r\n0123456789\r\n0;last\r\n\r\n", "0123456789"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
    ]

    @Test(arguments: good) func everyCutIsTheSame(_ wire: String, _ body: String) {
        for size in 1...wire.utf8.count {
            let (outcome, decoded) = Self.decode(wire, pieces: size)
            guard case .complete = outcome else {
                Issue.record("pieces of \(size): \(outcome)")
                continue
            }
            #expect(decoded == body)
        }
        for length in 0..<wire.utf8.count {
            let (outcome, _) = Self.decode(String(decoding: wire.utf8.prefix(length), as: UTF8.self), pieces: length + 1)
            guard case .incomplete = outcome else {
                Issue.record("prefix of \(length): \(outcome)")
                continue
            }
        }
    }

    /// A client that keeps nothing of a body decodes each piece at the buffer's beginning; the limit is the whole body's.
    @Test func theLimitHoldsWhereverTheBodyIsPut() {
        var decoder = ChunkedDecoder(maximumBodyBytes: 100)
        var outcomes: [ChunkedOutcome] = []
        for _ in 0..<3 {
            var buffer = Array("22\r\n".utf8) + [UInt8](repeating: 0x61, count: 0x22) + Array("\r\n".utf8)
            let count = buffer.count
            var span = buffer.mutableSpan
            outcomes.append(decoder.decode(&span, bodyStart: 0, bodyEnd: 0, readFrom: 0, end: count))
        }
        #expect(outcomes == [.incomplete(bodyEnd: 34), .incomplete(bodyEnd: 34), .invalid(.bodyTooLarge, at: 1)])
    }

    /// What follows the last chunk is left, and `next` points to it.
    @Test func nextMessageIsLeft() {
        let wire = Array("3\r\nabc\r\n0\r\n\r\nGET".utf8)
        var buffer = wire
        var decoder = ChunkedDecoder(maximumBodyBytes: 3)
        var span = buffer.mutableSpan
        let outcome = decoder.decode(&span, bodyStart: 0, bodyEnd: 0, readFrom: 0, end: wire.count)
        #expect(outcome == .complete(bodyEnd: 3, next: wire.count - 3))
    }

    // limit: HTTP.chunkSizeDigits
    @Test(arguments: [
        ("\r\n", ProtocolFault.malformedChunkSize), ("g\r\n", .malformedChunkSize), ("-1\r\n", .malformedChunkSize),
        ("+1\r\na\r\n", .malformedChunkSize), ("0x1\r\na\r\n", .malformedChunkSize), (" 1\r\na", .malformedChunkSize),
        ("1 \r\na\r\n", .malformedChunkSize), ("1\na\r\n", .malformedChunkSize), ("1\r\r\n", .malformedChunkSize),
        ("1;\r\na", .malformedChunkExtension), ("1; a\r\n", .malformedChunkExtension),
        ("1;a=\r\n", .malformedChunkExtension), ("1;a=\"b\r\n", .malformedChunkExtension),
        ("1;a=\"b\"c\r\n", .malformedChunkExtension), ("1;a\nb", .malformedChunkExtension),
        ("1;a\r\r\n", .malformedChunkSize), ("1;a=b\u{0}\r\n", .malformedChunkExtension),
        ("1\r\nab\r\n", .chunkWithoutEnd), ("1\r\na\n", .chunkWithoutEnd), ("1\r\na\r\r", .chunkWithoutEnd),
        ("0\r\n a: b\r\n\r\n", .malformedTrailer), ("0\r\na : b\r\n\r\n", .malformedTrailer),
        ("0\r\na\r\n\r\n", .malformedTrailer), ("0\r\na: b\n\r\n", .malformedTrailer),
        ("0\r\n\na: b\r\n", .malformedTrailer), ("0\r\na: \u{1}\r\n\r\n", .malformedTrailer),
        ("0\r\n\rX", .malformedTrailer), ("0000000000000000\r\n\r\n", .malformedChunkSize),
        ("3e9\r\n", .bodyTooLarge), ("fffffffffffffff\r\n", .bodyTooLarge),
        ("3e8\r\n" + String(repeating: "a", count: 1000) + "\r\n1\r\n", .bodyTooLarge),
    ])
    func isRefused(_ wire: String, _ expected: ProtocolFault) {
        for size in [1, 2, 5, wire.utf8.count] {
            let (outcome, _) = Self.decode(wire, pieces: size)
            guard case .invalid(let fault, _) = outcome else {
                Issue.record("pieces of \(size): \(outcome)")
                continue
            }
            #expect(fault == expected)
        }
    }

    // limit: HTTP.chunkExtensionBytes, HTTP.trailerBytes
    @Test func whatIsThrownAwayIsBounded() {
        let longExtension = "1;a=" + String(repeating: "b", count: Limits.chunkExtensionBytes)
        #expect(Self.decode(longExtension, pieces: 100).0.fault == .chunkExtensionsTooLong)
        let manyExtensions = String(repeating: "1;abcdefgh\r\na\r\n", count: 200)
        #expect(Self.decode(manyExtensions, pieces: 100).0.fault == .chunkExtensionsTooLong)
        let longTrailer = "0\r\na: " + String(repeating: "b", count: Limits.trailerBytes)
        #expect(Self.decode(longTrailer, pieces: 100).0.fault == .trailersTooLong)
    }
}

extension ChunkedOutcome {
    var fault: ProtocolFault? {
        if case .invalid(let fault, _) = self { return fault }
        return nil
    }
}
