// The request parser: what it takes, what it refuses, and that no cut of the input changes its mind.
import HTTP
import Testing

@Suite struct RequestParserTests {
    static let good: [String] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET /v1/x?y=z&q HTTP/1.1\r\nHost: localhost:8470\r\nUser-Agent:x \t\r\nAccept:\r\n\r\n",
        "POST /ofrep/v1/evaluate/flags/a%20b HTTP/1.1\r\nhost: [::1]:8470\r\nContent-Length: 42\r\n"
            + "Expect: 100-Continue\r\nContent-Type: application/json; charset=utf-8\r\n\r\n",
        "PUT /v1/profiles/email:a@b/consent HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
        "DELETE http://Example.com:80?x HTTP/1.1\r\nHost: example.com:80\r\n\r\n",
        "PATCH https://a/b/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nConnection: x, close\r\n\r\n",
        "HEAD /\u{7C}[]{} HTTP/1.1\r\nHost: a=b\r\nX-Text: \u{E9}\u{E8}\r\n\r\n",
    ]

    /// Each prefix of each good request, and each request byte by byte with one progress, gives incomplete until the
    /// last byte has come.
    @Test(arguments: good) func everyPrefixIsIncomplete(_ request: String) {
        let bytes = Array(request.utf8)
        var head = RequestHead()
        var stepwise = HeadProgress()
        for length in 0...bytes.count {
            let prefix = Array(bytes[0..<length])
            let expected = length == bytes.count ? HeadOutcome.complete(length: length) : .incomplete
            var fresh = HeadProgress()
            #expect(parseRequest(prefix, &head, &fresh) == expected)
            #expect(parseRequest(prefix, &head, &stepwise) == expected)
        }
    }

    /// What follows the head is no part of it.
    @Test(arguments: good) func bytesBehindTheHeadAreLeft(_ request: String) {
        #expect(parseHead(request + "GET").outcome == .complete(length: request.utf8.count))
        #expect(parseHead(request + "\u{0}\n\n").outcome == .complete(length: request.utf8.count))
    }

    @Test func partsLieWhereTheySay() {
        let request = Self.good[2]
        let bytes = Array(request.utf8)
        let head = parseHead(request).head
        #expect(head.method == .post)
        #expect(text(bytes, head.path) == "/ofrep/v1/evaluate/flags/a%20b")
        #expect(head.query.isEmpty)
        #expect(text(bytes, head.host) == "[::1]:8470")
        #expect(head.framing == .length(42))
        #expect(head.expectsContinue && head.keepsAlive && head.minorVersion == 1)
        #expect(head.fields.count == 4)
        #expect(value("content-type", head, bytes) == "application/json; charset=utf-8")
        #expect(value("content-typ", head, bytes) == nil)
        let hosts = head.fields.occurrences(of: "host", in: bytes.span)
        #expect(hosts == 1)
    }

    @Test func queryAndValuesAreTrimmed() {
        let bytes = Array(Self.good[1].utf8)
        let head = parseHead(Self.good[1]).head
        #expect(text(bytes, head.path) == "/v1/x")
        #expect(text(bytes, head.query) == "y=z&q")
        #expect(value("user-agent", head, bytes) == "x")
        #expect(value("accept", head, bytes) == "")
    }

    @Test func absoluteTargetsHaveAPath() {
        let bytes = Array(Self.good[5].utf8)
        let head = parseHead(Self.good[5]).head
        #expect(text(bytes, head.path) == "/" && text(bytes, head.query) == "x")
        let other = parseHead(Self.good[6]).head
        #expect(text(Array(Self.good[6].utf8), other.path) == "/b/c")
        #expect(other.framing == .chunked && !other.keepsAlive)
    }

    /// RFC 9112 section 9.3.
    @Test(arguments: [
        ("1.1", "", true), ("1.1", "close", false), ("1.1", "CLOSE", false), ("1.1", "keep-alive, close", false),
        ("1.1", "closed", true), ("1.0", "", false), ("1.0", "keep-alive", true), ("1.0", "keep-alive, close", false),
    ])
    func keepAliveIsDecided(_ version: String, _ connection: String, _ expected: Bool) {
        let head = parseHead("GET / HTTP/\(version)\r\nHost: a\r\nConnection: \(connection)\r\n\r\n").head
        #expect(head.keepsAlive == expected)
    }

    // limit: HTTP.targetBytes, HTTP.headBytes, HTTP.fields, HTTP.methodBytes, HTTP.leadingEmptyLines
    @Test func limitsHold() {
        let longTarget = String(repeating: "a", count: Limits.targetBytes)
        #expect(fault("GET /\(longTarget) HTTP/1.1\r\nHost: a\r\n\r\n") == .targetTooLong)
        #expect(fault("GET /\(longTarget)") == .targetTooLong)
        #expect(fault("GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "a", count: Limits.headBytes))
            == .headTooLarge)
        let many = String(repeating: "X: a\r\n", count: Limits.fields)
        #expect(fault("GET / HTTP/1.1\r\nHost: a\r\n\(many)\r\n") == .tooManyFields)
        #expect(fault(String(repeating: "A", count: Limits.methodBytes + 1)) == .unknownMethod)
        #expect(fault("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n") == .malformedRequestLine)
    }

    /// The longest head that fits does, when it comes byte by byte too.
    @Test func aHeadOfTheLimitFits() {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: "
        let filler = String(repeating: "a", count: Limits.headBytes - start.utf8.count - 4)
        let bytes = Array((start + filler + "\r\n\r\n").utf8)
        var head = RequestHead()
        var progress = HeadProgress()
        for length in 1..<bytes.count where length % 97 == 0 || length == bytes.count - 1 {
            let outcome = parseRequest(Array(bytes[0..<length]), &head, &progress)
            #expect(outcome == .incomplete)
        }
        #expect(parseRequest(bytes, &head, &progress) == .complete(length: bytes.count))
    }

    /// Each character class holds what the RFC's grammar says and nothing else, tried through the parser byte by byte.
    @Test func characterClassesAreTheGrammars() {
        let token = Set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8)
        for byte in UInt8(0)...255 {
            var request = Array("GET / HTTP/1.1\r\nHost: a\r\nx".utf8) + [byte] + Array("x: 1\r\n\r\n".utf8)
            #expect(Conversation(request).isClean == (token.contains(byte) || byte == 0x3A), "name \(byte)")
            request = Array("GET / HTTP/1.1\r\nHost: a\r\nx: 1".utf8) + [byte] + Array("2\r\n\r\n".utf8)
            #expect(Conversation(request).isClean == (byte == 9 || (byte >= 32 && byte != 127)), "value \(byte)")
            request = Array("GET /".utf8) + [byte] + Array("x HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
            let refused = Set("\"#<>\\".utf8)
            #expect(Conversation(request).isClean == (byte > 32 && byte < 127 && !refused.contains(byte)), "target \(byte)")
            request = Array("GET / HTTP/1.1\r\nHost: a".utf8) + [byte] + Array("1\r\n\r\n".utf8)
            let host = token.subtracting("#^`|".utf8).union("()=,;:".utf8)
            #expect(Conversation(request).isClean == host.contains(byte), "host \(byte)")
        }
    }
}

/// Attempts to make two readers of one message see two messages, each with the rule that ends it.
@Suite struct SmugglingTests {
    static let attempts: [(String, ProtocolFault)] = [
        // Two lengths, RFC 9112 section 6.3.
        ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", .lengthAndTransferEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", .lengthAndTransferEncoding),
        ("Content-Length: 4\r\nContent-Length: 5\r\n", .severalContentLengths),
        ("Content-Length: 4\r\nContent-Length: 4\r\n", .severalContentLengths),
        ("Content-Length: 4, 4\r\n", .malformedContentLength),
        // A number that is read in two ways.
        ("Content-Length: +4\r\n", .malformedContentLength),
        ("Content-Length: -4\r\n", .malformedContentLength),
        ("Content-Length: 0x4\r\n", .malformedContentLength),
        ("Content-Length: 4_0\r\n", .malformedContentLength),
        ("Content-Length: 4 0\r\n", .malformedContentLength),
        ("Content-Length: 4;\r\n", .malformedContentLength),
        ("Content-Length: \u{FF14}\r\n", .malformedContentLength),
        ("Content-Length:\r\n", .malformedContentLength),
        ("Content-Length: 18446744073709551620\r\n", .contentLengthTooLarge),
        ("Content-Length: 99999999999999999999999999999999\r\n", .contentLengthTooLarge),
        // A transfer coding that one reader knows and the other does not, section 6.1.
        ("Transfer-Encoding: xchunked\r\n", .unsupportedTransferCoding),
        ("Transfer-Encoding: chunked-x\r\n", .unsupportedTransferCoding),
        ("Transfer-Encoding: identity\r\n", .unsupportedTransferCoding),
        ("Transfer-Encoding: \"chunked\"\r\n", .unsupportedTransferCoding),
        ("Transfer-Encoding: chunked;q=1\r\n", .unsupportedTransferCoding),
        ("Transfer-Encoding:\r\n", .unsupportedTransferCoding),
        ("Transfer-Encoding: gzip, chunked\r\n", .unsupportedTransferCoding),
        ("Transfer-Encoding: chunked, gzip\r\n", .chunkedNotLast),
        ("Transfer-Encoding: chunked,\r\n", .chunkedNotLast),
        ("Transfer-Encoding: chunked, chunked\r\n", .unsupportedTransferCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", .chunkedNotLast),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", .chunkedNotLast),
        ("Transfer-Encoding: \u{0B}chunked\r\n", .forbiddenByteInField),
        ("Transfer-Encoding: chunked\u{0}\r\n", .forbiddenByteInField),
        ("Transfer-Encoding\u{0}: chunked\r\n", .malformedFieldName),
        // White space and folds, sections 5.1 and 5.2.
        ("Content-Length : 4\r\n", .whitespaceBeforeColon),
        ("Content-Length\t: 4\r\n", .whitespaceBeforeColon),
        ("Transfer-Encoding : chunked\r\n", .whitespaceBeforeColon),
        ("X: a\r\n Content-Length: 4\r\n", .foldedField),
        ("X: a\r\n\tTransfer-Encoding: chunked\r\n", .foldedField),
        ("Transfer-Encoding:\r\n chunked\r\n", .unsupportedTransferCoding),
        // Line ends of one byte, section 2.2.
        ("X: a\nContent-Length: 4\r\n", .bareLineFeed),
        ("X: a\rContent-Length: 4\r\n", .bareCarriageReturn),
        ("X: a\r\rContent-Length: 4\r\n", .bareCarriageReturn),
        ("X: a\r\n\nContent-Length: 4\r\n", .bareLineFeed),
        ("X: a\r\n\rContent-Length: 4\r\n", .bareCarriageReturn),
        ("X\n: a\r\n", .bareLineFeed),
        // Names.
        (": a\r\n", .malformedFieldName),
        ("Content-Length\r\n", .malformedFieldName),
        ("Content Length: 4\r\n", .whitespaceBeforeColon),
        ("\u{FEFF}Content-Length: 4\r\n", .malformedFieldName),
        ("Content\u{2011}Length: 4\r\n", .malformedFieldName),
        ("(comment): a\r\n", .malformedFieldName),
        // Two servers in one request, section 3.2.
        ("Host: b\r\n", .severalHosts),
        ("hOsT: a\r\n", .severalHosts),
        // An expectation nobody has.
        ("Expect: 200-ok\r\n", .unknownExpectation),
        ("Expect: 100-continue\r\nExpect: 100-continue\r\n", .unknownExpectation),
    ]

    /// Every attempt is refused with its own reason when it stands behind Host, and with some reason in front of it.
    @Test(arguments: attempts) func isRefused(_ fields: String, _ expected: ProtocolFault) {
        #expect(fault("POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n") == expected)
        #expect(fault("POST / HTTP/1.1\r\n" + fields + "Host: a\r\n\r\n") != nil)
    }

    static let startLines: [(String, ProtocolFault)] = [
        ("GET  / HTTP/1.1", .malformedTarget), ("GET / HTTP/1.1 ", .bareCarriageReturn),
        ("GET /  HTTP/1.1", .malformedVersion), ("GET\t/ HTTP/1.1", .malformedRequestLine),
        (" GET / HTTP/1.1", .malformedRequestLine), ("GET / HTTP/1.1\r", .bareCarriageReturn),
        ("GET /", .malformedTarget), ("GET", .malformedRequestLine), ("GET / HTTP/1.10", .bareCarriageReturn),
        ("GET / http/1.1", .malformedVersion), ("GET / HTTP/1,1", .malformedVersion),
        ("GET / HTTP/2.0", .unsupportedVersion), ("GET / HTTP/1.2", .unsupportedVersion),
        ("GET / HTTP/0.9", .unsupportedVersion), ("GET / RTSP/1.0", .malformedVersion),
        ("get / HTTP/1.1", .unknownMethod), ("TRACE / HTTP/1.1", .unknownMethod),
        ("CONNECT a:443 HTTP/1.1", .connectRefused), ("CONNECT / HTTP/1.1", .connectRefused),
        ("GET * HTTP/1.1", .malformedTarget), ("PRI * HTTP/1.1", .unknownMethod),
        ("GET a HTTP/1.1", .malformedTarget), ("GET ftp://a/ HTTP/1.1", .malformedTarget),
        ("GET http:///x HTTP/1.1", .malformedTarget), ("GET http://u@a/ HTTP/1.1", .malformedTarget),
        ("GET http://a:x/ HTTP/1.1", .malformedTarget), ("GET http://b/ HTTP/1.1", .hostDiffersFromTarget),
        ("GET /#x HTTP/1.1", .malformedTarget), ("GET /\u{E9} HTTP/1.1", .malformedTarget),
        ("GET /a\\b HTTP/1.1", .malformedTarget), ("G(T / HTTP/1.1", .malformedRequestLine),
    ]

    @Test(arguments: startLines) func startLineIsRefused(_ line: String, _ expected: ProtocolFault) {
        #expect(fault(line + "\r\nHost: a\r\n\r\n") == expected)
    }

    @Test(arguments: [
        "a b", "a,b c", "a:b", "a:123456", "a:70000", "[::1", "[]", "[x]", "[::1]x", "a@b", "a/b", "http://a", "a:1:2",
    ])
    func hostIsRefused(_ host: String) {
        #expect(fault("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n") == .malformedHost)
    }

    @Test func hostIsNeededOnlyByHTTP11() {
        #expect(fault("GET / HTTP/1.1\r\n\r\n") == .missingHost)
        #expect(fault("GET http://a/ HTTP/1.1\r\n\r\n") == .missingHost)
        #expect(fault("GET / HTTP/1.0\r\n\r\n") == nil)
        #expect(fault("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == .transferEncodingInOldVersion)
    }

    /// The status codes that clients are told, and that each fault has a sentence.
    @Test func faultsAreAnswerable() {
        for fault in ProtocolFault.allCases {
            #expect([400, 413, 414, 417, 431, 501, 505].contains(fault.status))
            #expect(fault.reason.utf8CodeUnitCount > 20)
        }
    }
}

@Suite struct LookUpTests {
    @Test func listsAndMediaTypes() {
        func contains(_ list: String, _ element: StaticString) -> Bool {
            let bytes = Array(list.utf8)
            return listContains(bytes.span, element)
        }
        #expect(contains("a, B ,c", "b") && contains("gzip", "gzip") && contains(",x", "x"))
        #expect(!contains("ab", "a") && !contains("", "a") && !contains("a b", "a"))
        let json = Array("Application/JSON ; charset=utf-8".utf8)
        let (isJSON, isOther) = (isMediaType(json.span, "application/json"), isMediaType(json.span, "application/jso"))
        #expect(isJSON && !isOther)
    }

    @Test func targetsAreDecoded() {
        func decode(_ text: String) -> String? {
            let bytes = Array(text.utf8)
            var output: [UInt8] = []
            return percentDecode(bytes.span, into: &output) ? String(decoding: output, as: UTF8.self) : nil
        }
        #expect(decode("a%20b%2fc%C3%a9") == "a b/cé")
        #expect(decode("%") == nil && decode("%2") == nil && decode("%2g") == nil && decode("a%00") == nil)

        let bytes = Array("a=1&bb=&c&a=2&d=x=y".utf8)
        #expect(query("a", bytes) == "1")
        #expect(query("bb", bytes) == "")
        #expect(query("c", bytes) == "")
        #expect(query("d", bytes) == "x=y")
        #expect(query("b", bytes) == nil)
    }

    /// Writing and reading are inverses over eight thousand years, and agree with three dates that are known.
    @Test func datesGoRoundTrip() {
        func write(_ seconds: Int64) -> String {
            var output: [UInt8] = []
            HTTPDate.write(seconds, into: &output)
            return String(decoding: output, as: UTF8.self)
        }
        #expect(write(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT")
        #expect(write(0) == "Thu, 01 Jan 1970 00:00:00 GMT")
        #expect(write(1_709_164_800) == "Thu, 29 Feb 2024 00:00:00 GMT")
        var seconds: Int64 = 0
        while seconds < 253_402_300_799 {
            let bytes = Array(write(seconds).utf8)
            let parsed = HTTPDate.parse(bytes.span)
            #expect(parsed == seconds)
            seconds += 86_400 * 97 + 12_345
        }
    }

    @Test func retryAfterIsSecondsOrADate() {
        func seconds(_ text: String) -> Int64? {
            let bytes = Array(text.utf8)
            return retryAfterSeconds(bytes.span, now: 784_111_770)
        }
        #expect(seconds("120") == 120 && seconds("0") == 0)
        #expect(seconds("Sun, 06 Nov 1994 08:49:37 GMT") == 7)
        #expect(seconds("Sun, 06 Nov 1994 08:49:07 GMT") == 0)
        #expect(seconds("soon") == nil && seconds("-1") == nil && seconds("") == nil && seconds("9999999999") == nil)
    }
}
