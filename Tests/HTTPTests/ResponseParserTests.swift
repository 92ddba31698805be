// The response parser, for the delivery client.
import HTTP
import Testing

@Suite struct ResponseParserTests {
    static func parse(_ response: String, toHead: Bool = false) -> (HeadOutcome, ResponseHead) {
        var head = ResponseHead()
        var progress = HeadProgress()
        let bytes = Array(response.utf8)
        let outcome = ResponseParser.parse(bytes.span, toHead: toHead, into: &head, progress: &progress)
        return (outcome, head)
    }

    static let good: [(String, UInt16, BodyFraming, Bool)] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 200, .length(2), true),
        ("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", 200, .chunked, false),
        ("HTTP/1.1 503\r\nRetry-After: 3\r\n\r\n", 503, .untilClose, false),
        ("HTTP/1.0 200 fine, \u{E9}\r\nContent-Length: 0\r\n\r\n", 200, .length(0), false),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, .none, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, .none, true),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n"
                + "Content-Length: 1\r\n\r\n", 200, .length(1), true
        ),
    ]

    /// Every prefix is incomplete, afresh and stepwise; the whole says what it is.
    @Test(arguments: good)
    func isRead(_ response: String, _ status: UInt16, _ framing: BodyFraming, _ keepsAlive: Bool) {
        let bytes = Array(response.utf8)
        var head = ResponseHead()
        var stepwise = HeadProgress()
        for length in 0..<bytes.count {
            let prefix = Array(bytes[0..<length])
            var fresh = HeadProgress()
            #expect(parseResponse(prefix, &head, &fresh) == .incomplete)
            #expect(parseResponse(prefix, &head, &stepwise) == .incomplete)
        }
        let outcome = parseResponse(bytes, &head, &stepwise)
        #expect(outcome == .complete(length: bytes.count))
        #expect(head.status == status && head.framing == framing && head.keepsAlive == keepsAlive)
    }

    @Test func aResponseToHeadHasNoBody() {
        #expect(Self.parse(Self.good[0].0, toHead: true).1.framing == .none)
    }

    @Test(arguments: [
        ("HTTP/2 200 OK\r\n\r\n", ProtocolFault.malformedStatusLine), ("HTTP/1.1 099 x\r\n\r\n", .malformedStatusLine),
        ("HTTP/1.1 600 x\r\n\r\n", .malformedStatusLine), ("HTTP/1.1  200 x\r\n\r\n", .malformedStatusLine),
        ("HTTP/1.1 2000\r\n\r\n", .malformedStatusLine), ("ICY 200 OK\r\n\r\n", .malformedStatusLine),
        ("HTTP/1.1 200 OK\n\n", .bareLineFeed), ("HTTP/1.1 200 O\rK\r\n\r\n", .bareCarriageReturn),
        ("HTTP/1.1 101 Switching\r\n\r\n", .switchedProtocols),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", .lengthAndTransferEncoding),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", .severalContentLengths),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", .unsupportedTransferCoding),
        ("HTTP/1.1 200 OK\r\nX : a\r\n\r\n", .whitespaceBeforeColon), ("HTTP/1.1 200 OK\r\n a\r\n\r\n", .foldedField),
    ])
    func isRefused(_ response: String, _ expected: ProtocolFault) {
        guard case .invalid(let fault, _) = Self.parse(response).0 else {
            Issue.record("accepted")
            return
        }
        #expect(fault == expected)
    }

    // limit: HTTP.interimResponses
    @Test func endlessInterimsEnd() {
        let interim = String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: Limits.interimResponses + 1)
        guard case .invalid(.tooManyInterimResponses, _) = Self.parse(interim).0 else {
            Issue.record("accepted")
            return
        }
    }
}
