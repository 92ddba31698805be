// The server over real sockets: order, framing, limits, time and stopping.
import HTTP
import Platform
import Serving
import Testing

@Suite struct ServerTests {
    @Test func keepsAliveAndCloses() throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        for _ in 0..<3 { #expect(try client.get("/echo").body == "get /echo ") }
        try client.send("GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        let last = try client.response()
        #expect(last.status == 200 && !last.keepsAlive)
        #expect(try client.isClosed())
        #expect(fixture.statistics.acceptedConnections.load(ordering: .relaxed) == 1)
    }

    @Test func oldClientsAreServed() throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        try client.send("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        #expect(try client.response().headers.contains("Connection: keep-alive"))
        try client.send("GET /echo HTTP/1.0\r\n\r\nGET /echo HTTP/1.0\r\n\r\n")
        #expect(try client.response().status == 200)
        #expect(try client.isClosed(), "what follows a last request is not answered")
    }

    /// The answer to HEAD has the length and no body; 204 has neither.
    @Test func headAndEmpty() throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        try client.send("HEAD /echo HTTP/1.1\r\nHost: localhost\r\n\r\nGET /empty HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(try client.response(toHead: true).headers.contains("Content-Length: 11"))
        let empty = try client.response()
        #expect(empty.status == 204 && !empty.headers.contains("Content-"))
        #expect(try client.isSilent())
    }

    @Test func headersAndProblems() throws {
        let fixture = try Fixture { $0.sendsDate = true }
        let client = try fixture.client()
        let answer = try client.get("/headers")
        #expect(answer.status == 404 && !answer.keepsAlive)
        #expect(answer.headers.contains("ETag: \"x\"\r\nX-Text: a  b\r\nX-Number: -5\r\n"))
        #expect(answer.headers.contains("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"))
        #expect(answer.headers.contains("Content-Type: application/problem+json"))
        #expect(
            answer.body
                == #"{"type":"about:blank","title":"Not Found","status":404,"detail":"Nothing is here."}"#)
        #expect(try client.isClosed())
        #expect(try fixture.client().get("/silent").status == 500)
    }

    /// A hundred pipelined requests come back in order, whatever the cuts between the writes.
    @Test(arguments: [1, 7, 64, 100_000]) func pipelinesInOrder(_ piece: Int) throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        var stream: [UInt8] = []
        for number in 0..<100 {
            let body = String(repeating: "x", count: number)
            stream += Array("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: \(number)\r\n\r\n\(body)".utf8)
        }
        if piece == 1 { stream.removeLast(stream.count - 4000) }
        var sent = 0
        while sent < stream.count {
            let end = min(sent + piece, stream.count)
            try client.send(Array(stream[sent..<end]))
            sent = end
        }
        for number in 0..<(piece == 1 ? 20 : 100) {
            #expect(try client.response().body == "post /echo " + String(repeating: "x", count: number))
        }
    }

    @Test(arguments: [1, 3, 1000]) func chunkedBodiesAreJoined(_ piece: Int) throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        let request =
            "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "5;a=b\r\nhello\r\n7\r\n, world\r\n0\r\nX: y\r\n\r\n"
        let bytes = Array((request + request + "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n").utf8)
        var sent = 0
        while sent < bytes.count {
            let end = min(sent + piece, bytes.count)
            try client.send(Array(bytes[sent..<end]))
            sent = end
        }
        #expect(try client.response().body == "post /echo hello, world")
        #expect(try client.response().body == "post /echo hello, world")
        #expect(try client.response().body == "get /echo ")
    }

    /// A body many times the read buffer, by length and in chunks, and an answer that the socket takes in parts.
    @Test func largeBodies() throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        let body = String(repeating: "0123456789", count: 40_000)
        try client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
        #expect(try client.response().body == "post /echo " + body)
        try client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in 0..<40 { try client.send("2710\r\n\(body.prefix(10_000))\r\n") }
        try client.send("0\r\n\r\nGET /big?9 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(try client.response().body == "post /echo " + body)
        sleep(milliseconds: 20)
        #expect(try client.response().body.utf8.count == 9 << 20)
        #expect(try client.response().body == "get /echo ")
    }

    @Test func continueIsSaid() throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        try client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        #expect(try client.readSome())
        try client.send("ab")
        let answer = try client.response()
        #expect(answer.headers.hasPrefix("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK") && answer.body == "post /echo ab")
    }

    /// Answers that come later keep the order of a pipeline, and nothing behind a pending request is looked at.
    @Test func pendingAnswersKeepTheirOrder() throws {
        let fixture = try Fixture(threads: 2)
        let client = try fixture.client()
        let later = "POST /later HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
        try client.send(later + "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n" + later + later)
        var tokens = fixture.mailbox.wait(for: 1)
        #expect(try client.isSilent())
        #expect(tokens.count == 1)
        fixture.answer(tokens[0], "first", headerLines: "X-A: b\r\n")
        let first = try client.response()
        #expect(first.body == "first" && first.headers.contains("\r\nX-A: b\r\n"))
        #expect(try client.response().body == "get /echo ")
        tokens = fixture.mailbox.wait(for: 2)
        fixture.answer(tokens[1], "second")
        #expect(try client.response().body == "second")
        tokens = fixture.mailbox.wait(for: 3)
        fixture.answer(tokens[1], "an answer of old")
        fixture.answer(tokens[2], "third")
        fixture.answer(tokens[2], "third again")
        #expect(try client.response().body == "third")
        #expect(try client.isSilent())
    }

    // limit: Serving.requestsPerTurn
    /// Whoever pipelines hundreds of requests lets others in between, and gets all answers in order.
    @Test(arguments: [false, true]) func othersHaveTheirTurn(_ isBehindPending: Bool) throws {
        let fixture = try Fixture()
        let (client, other) = (try fixture.client(), try fixture.client())
        try other.send("GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(try other.response().body == "get /echo ")
        var stream = isBehindPending ? "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n" : ""
        for number in 0..<400 {
            let body = String(number)
            stream += "POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
        }
        try client.send(stream)
        if isBehindPending {
            fixture.answer(fixture.mailbox.wait(for: 1)[0], "later")
            #expect(try client.response().body == "later")
        }
        _ = fixture.mailbox.wait(for: 10)
        try other.send("GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(try other.response().body == "get /echo ")
        #expect(fixture.mailbox.all.count < 300, "it has waited for all of them")
        for number in 0..<400 { #expect(try client.response().body == "post /slow \(number)") }
        try client.send("GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(try client.response().body == "get /echo ")
    }

    /// One that says no more after hundreds of requests is answered all the same, and then the connection ends.
    @Test func halfClosedPipelinesAreAnswered() throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        var stream = ""
        for _ in 0..<300 { stream += "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n" }
        try client.send(stream)
        client.endOutput()
        for _ in 0..<300 { #expect(try client.response().body == "get /echo ") }
        #expect(try client.isClosed())
    }

    /// A client that floods while its request is pending is not read without end, and gets everything in the end.
    @Test func aPendingConnectionIsNotRead() throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        try client.send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
        let tokens = fixture.mailbox.wait(for: 1)
        for _ in 0..<500 { try client.send("GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n") }
        #expect(fixture.statistics.requests.load(ordering: .relaxed) == 1)
        fixture.answer(tokens[0], "")
        for _ in 0...500 { #expect(try client.response().status == 200) }
    }

    /// The client that has gone while its answer was made is no trouble, nor is the answer for the next of its slot.
    @Test func anAnswerForNobodyIsDropped() throws {
        let fixture = try Fixture()
        do {
            let client = try fixture.client()
            try client.send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
            _ = fixture.mailbox.wait(for: 1)
        }
        for _ in 0..<1000 where fixture.statistics.openConnections.load(ordering: .relaxed) > 0 {
            sleep(milliseconds: 1)
        }
        let next = try fixture.client()
        #expect(try next.get("/echo").status == 200)
        try next.send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
        let tokens = fixture.mailbox.wait(for: 2)
        fixture.answer(tokens[0], "for the first")
        fixture.answer(tokens[1], "for the second")
        #expect(try next.response().body == "for the second")
    }

    /// A client that says it will send no more still gets what it asked for.
    @Test func halfClosedClientsAreAnswered() throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        try client.send("GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\nGET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.endOutput()
        #expect(try client.response().body == "get /echo ")
        fixture.answer(fixture.mailbox.wait(for: 1)[0], "late")
        #expect(try client.response().body == "late")
        #expect(try client.isClosed())

        let truncated = try fixture.client()
        try truncated.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab")
        truncated.endOutput()
        let answer = try truncated.response()
        #expect(answer.status == 400 && answer.body.contains("middle of a message"))
        #expect(try truncated.isClosed())
    }

    @Test func stopLetsRequestsFinish() throws {
        let fixture = try Fixture(threads: 2)
        let idle = try fixture.client()
        #expect(try idle.get("/echo").status == 200)
        let client = try fixture.client()
        try client.send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
        let token = fixture.mailbox.wait(for: 1)[0]
        let completions = fixture.completions
        let answering = try Thread.spawn {
            sleep(milliseconds: 100)
            completions.post(Completion(token, status: 200, contentType: "text/plain", body: Array("done".utf8)))
            completions.wake()
        }
        fixture.stop()
        answering.join()
        #expect(try idle.isClosed())
        let answer = try client.response()
        #expect(answer.body == "done" && !answer.keepsAlive)
        #expect(try client.isClosed())
        #expect(fixture.statistics.openConnections.load(ordering: .relaxed) == 0)
    }

    /// A request that nobody answers holds the end up for ten seconds and no more.
    // limit: Serving.stopNanoseconds
    @Test(.timeLimit(.minutes(1))) func stopDoesNotWaitForEver() throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        try client.send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
        _ = fixture.mailbox.wait(for: 1)
        let (clock, completions) = (fixture.clock, fixture.completions)
        let began = clock.monotonicNanoseconds()
        let passing = try Thread.spawn {
            for _ in 0..<25 {
                sleep(milliseconds: 20)
                clock.advance(seconds: 1)
                completions.wake()
            }
        }
        fixture.stop()
        let passed = clock.monotonicNanoseconds() - began
        passing.join()
        #expect(passed >= Limits.stopNanoseconds, "\(passed)")
        #expect(try client.isClosed())
    }
}

@Suite struct ServerLimitTests {
    static let refused: [(String, UInt16)] = [
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: \(String(repeating: "a", count: 20_000))", 431),
        ("GET /\(String(repeating: "a", count: 9_000)) HTTP/1.1\r\n", 414),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3E9\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/1.1\n\n", 400), ("\u{16}\u{3}\u{1}", 400),
        ("BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501), ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501),
        ("GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 505),
    ]

    /// What is too large or malformed is told so, and its connection closed.
    // limit: Serving.lingerNanoseconds
    @Test(arguments: refused)
    func isRefused(_ request: String, _ status: UInt16) throws {
        let fixture = try Fixture { $0.maximumBodyBytes = 1000 }
        let client = try fixture.client()
        try client.send("GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n" + request)
        #expect(try client.response().status == 200)
        let answer = try client.response()
        #expect(answer.status == status && !answer.keepsAlive)
        #expect(answer.headers.contains("application/problem+json") && answer.body.contains("\"detail\":\""))
        if status == 413 || status == 414 || status == 431 {
            // What still comes is taken and thrown away, so that the answer is not lost; then time ends it.
            try client.send(String(repeating: "a", count: 100_000))
            try fixture.pass(seconds: 2)
        }
        #expect(try client.isClosed())
        #expect(fixture.statistics.malformedRequests.load(ordering: .relaxed) == 1)
        #expect(try fixture.client().get("/echo").status == 200, "the server is alive")
    }

    @Test func aBodyOfTheLimitIsTaken() throws {
        let fixture = try Fixture { $0.maximumBodyBytes = 1000 }
        let client = try fixture.client()
        let body = String(repeating: "a", count: 1000)
        try client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n" + body)
        #expect(try client.response().body.utf8.count == 1011)
        try client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        try client.send("3E8\r\n\(body)\r\n0\r\n\r\n")
        #expect(try client.response().body.utf8.count == 1011)
    }

    // limit: Serving.connections
    @Test func connectionsAreBounded() throws {
        let fixture = try Fixture(threads: 2) { $0.maximumConnections = 3 }
        var clients: [Client] = []
        for _ in 0..<3 {
            clients.append(try fixture.client())
            #expect(try clients.last!.get("/echo").status == 200)
        }
        let fourth = try fixture.client()
        let answer = try fourth.response()
        #expect(answer.status == 503 && answer.headers.contains("Retry-After: 1"))
        #expect(try fourth.isClosed())
        clients.removeLast()
        for _ in 0..<1000 where fixture.statistics.openConnections.load(ordering: .relaxed) > 2 {
            sleep(milliseconds: 1)
        }
        #expect(try fixture.client().get("/echo").status == 200)
    }

    /// Unfinished requests of all connections together stay below the limit, and room comes back when they end.
    // limit: Serving.bufferedBytes
    @Test func bufferedBytesAreBounded() throws {
        let fixture = try Fixture { $0.maximumBufferedBytes = 1000 }
        let first = try fixture.client()
        let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 800\r\n\r\n"
        try first.send(head)
        #expect(try first.isSilent())
        let second = try fixture.client()
        try second.send(head)
        let answer = try second.response()
        #expect(answer.status == 503 && answer.headers.contains("Retry-After: 1"))
        #expect(fixture.statistics.refusedConnections.load(ordering: .relaxed) == 1)
        try first.send(String(repeating: "a", count: 800))
        #expect(try first.response().status == 200)
        let third = try fixture.client()
        try third.send(head + String(repeating: "a", count: 400))
        #expect(try third.isSilent())
        try third.send(String(repeating: "a", count: 400))
        #expect(try third.response().status == 200)
    }

    /// A head that does not end, however steadily it comes, is ended by 408; so is a body without progress.
    // limit: Serving.headNanoseconds, Serving.bodyGraceNanoseconds, Serving.bodyBytesPerSecond
    @Test func slowRequestsTimeOut() throws {
        let fixture = try Fixture()
        let slowHead = try fixture.client()
        #expect(try slowHead.get("/echo").status == 200)
        try slowHead.send("GET /echo HTTP/1.1\r\n")
        let slowBody = try fixture.client()
        try slowBody.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab")
        let steadyBody = try fixture.client()
        try steadyBody.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        #expect(try slowBody.isSilent())
        for _ in 0..<3 {
            try fixture.pass(seconds: 3)
            try slowHead.send("X: a\r\n")
            try steadyBody.send(String(repeating: "a", count: 20_000))
            #expect(try slowHead.isSilent())
        }
        try fixture.pass(seconds: 2)
        #expect(try slowHead.response().status == 408)
        #expect(try slowHead.isClosed())
        #expect(try slowBody.response().status == 408)
        try steadyBody.send(String(repeating: "a", count: 40_000))
        #expect(try steadyBody.response().status == 200)
        #expect(fixture.statistics.timedOutRequests.load(ordering: .relaxed) == 2)
    }

    /// An idle connection is closed after its time without a word, a new one that says nothing sooner; one that waits
    /// for its answer is not.
    // limit: Serving.idleNanoseconds
    @Test func idleConnectionsAreClosed() throws {
        let fixture = try Fixture()
        let silent = try fixture.client()
        #expect(try silent.isSilent())
        let idle = try fixture.client()
        #expect(try idle.get("/echo").status == 200)
        let waiting = try fixture.client()
        try waiting.send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
        let token = fixture.mailbox.wait(for: 1)[0]
        try fixture.pass(seconds: 11)
        #expect(try silent.isClosed())
        #expect(try idle.isSilent())
        try fixture.pass(seconds: 65)
        #expect(try idle.isClosed())
        fixture.answer(token, "patience")
        #expect(try waiting.response().body == "patience")
    }

    /// A client that does not take its answer is given up.
    // limit: Serving.writeStallNanoseconds
    @Test func stalledReadersAreClosed() throws {
        let fixture = try Fixture()
        let client = try fixture.client()
        try client.send("GET /big?9 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(try client.readSome())
        try fixture.pass(seconds: 21)
        #expect(throws: ClientError.self) { try client.response() }
    }
}

@Suite struct ServerPolicyTests {
    static let calls: [(String, String, UInt16)] = [
        ("localhost", "", 200), ("LOCALHOST:1", "", 200), ("127.0.0.1:8470", "", 200), ("[::1]:8470", "", 200),
        ("192.168.1.5", "", 200), ("kiosk.example:80", "", 200),
        // A name that somebody points here.
        ("evil.example", "", 421), ("localhost.evil.example", "", 421), ("127.0.0.1.evil.example", "", 421), ("", "", 421),
        ("1.2.3", "", 421), ("0x7f.0.0.1", "", 421),
        // Pages: the server's own and a configured one, and others.
        ("localhost:8470", "Origin: http://localhost:8470\r\n", 200), ("localhost", "Origin: https://shop.example\r\n", 200),
        ("localhost:8470", "Origin: http://localhost:3000\r\n", 403), ("localhost", "Origin: http://evil.example\r\n", 403),
        ("localhost", "Origin: null\r\n", 403), ("localhost", "Origin:\r\n", 403),
        ("localhost", "Origin: https://shop.example.evil.example\r\n", 403),
        ("localhost", "Origin: https://shop.example\r\nOrigin: null\r\n", 403),
        ("localhost", "Sec-Fetch-Site: same-origin\r\n", 200), ("localhost", "Sec-Fetch-Site: none\r\n", 200),
        ("localhost", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", 403),
        ("localhost", "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: cross-site\r\n", 200),
        ("localhost", "Sec-Fetch-Site: cross-site\r\nOrigin: https://shop.example\r\n", 200),
    ]

    @Test(arguments: calls)
    func hostsAndOriginsAreHeldAgainstTheList(_ host: String, _ fields: String, _ status: UInt16) throws {
        let fixture = try Fixture {
            $0.hostNames = ["Kiosk.Example"]
            $0.origins = ["https://shop.example"]
        }
        let client = try fixture.client()
        try client.send("GET /echo HTTP/1.1\r\nHost: \(host)\r\n\(fields)\r\n")
        #expect(try client.response().status == status)
    }

    /// The page of a configured origin may ask first, and read the answers, also those that come later.
    @Test func configuredOriginsMayRead() throws {
        let fixture = try Fixture { $0.origins = ["https://shop.example"] }
        let client = try fixture.client()
        let call = "Host: localhost\r\nOrigin: https://Shop.example\r\n"
        try client.send("OPTIONS /echo HTTP/1.1\r\n\(call)Access-Control-Request-Method: POST\r\n\r\n")
        let preflight = try client.response()
        #expect(preflight.status == 204 && preflight.headers.contains("Access-Control-Allow-Methods: GET, POST"))
        #expect(preflight.headers.contains("Access-Control-Allow-Origin: https://shop.example\r\n"))
        try client.send("POST /echo HTTP/1.1\r\n\(call)Content-Length: 1\r\n\r\nx")
        let answer = try client.response()
        #expect(answer.body == "post /echo x" && answer.headers.contains("Allow-Origin: https://shop.example\r\n"))
        try client.send("POST /later HTTP/1.1\r\n\(call)\r\n")
        fixture.answer(fixture.mailbox.wait(for: 1)[0], "late")
        #expect(try client.response().headers.contains("Allow-Origin: https://shop.example\r\n"))
        #expect(try !client.get("/echo").headers.contains("Access-Control"))
    }
}
