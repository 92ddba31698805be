// Shows that the client speaks HTTP/1.1 over kept connections, with TLS and without, and that every way in which a server
// can fail ends within its time with a result that says what it was.

import Cryptography
import Delivery
import Formats
import Foundation
import Glibc
import HTTP
import Platform
import Testing

private func client(
    _ url: String, token: String? = nil, trust: TLSClientConfiguration = TLSClientConfiguration(),
    times: RequestTimes = RequestTimes(), cancellation: Cancellation = Cancellation(), floor: ClockFloor = ClockFloor()
) -> HTTPSClient<SystemClock> {
    HTTPSClient(
        url: try! DestinationURL(Array(url.utf8).span), token: token.map { Array($0.utf8) }, authorities: trust,
        version: "test", times: times, cancellation: cancellation, clock: SystemClock(), floor: floor)
}

private func post<Time: Clock>(
    _ client: HTTPSClient<Time>, _ body: [UInt8] = Array("body".utf8), format: WireFormat = .segment
) -> DeliveryResult { client.post(body.span, format: format, head: []) }

/// A client of a hub of these tests.
private func trusting(_ port: UInt16, _ floor: ClockFloor) -> HTTPSClient<SystemClock> {
    client("https://localhost:\(port)/", trust: HubCertificate.trust, floor: floor)
}

private func stage(_ result: DeliveryResult) -> TransportFailure.Stage? {
    if case .unreachable(let failure) = result { return failure.stage }
    return nil
}

private func message(_ result: DeliveryResult) -> String {
    if case .unreachable(let failure) = result { return failure.message }
    return ""
}

private var shortTimes: RequestTimes {
    var times = RequestTimes()
    times.connect = 300
    times.handshake = 300
    times.sendStall = 300
    times.firstByte = 300
    times.whole = 600
    return times
}

private let tenThousand = String(repeating: "x", count: 10_000)

@Suite struct HTTPSClientTests {
    @Test("A request carries what a collector needs, and a connection carries many requests")
    func request() {
        let hub = TestHub()
        defer { hub.stop() }
        let client = client("http://127.0.0.1:\(hub.port)/v1/batch?x=1", token: "key")
        #expect(post(client) == .delivered(200))
        #expect(post(client, Array("again".utf8), format: .cloudEvents) == .delivered(200))
        #expect(
            hub.requests[0].head
                == "POST /v1/batch?x=1 HTTP/1.1\r\nHost: 127.0.0.1:\(hub.port)\r\nUser-Agent: gatehouse/test\r\n"
                + "Authorization: Basic a2V5Og==\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
                + "Content-Length: 4\r\n\r\n")
        #expect(hub.requests[0].body == Array("body".utf8))
        #expect(hub.requests[1].head.contains("Content-Type: application/cloudevents-batch+json\r\n"))
        #expect(hub.connections == 1)
        client.rest()
        #expect(post(client) == .delivered(200))
        #expect(hub.connections == 2)
    }

    @Test("localhost is found on whichever loopback address serves it")
    func localhost() {
        let hub = TestHub()
        defer { hub.stop() }
        #expect(post(client("http://localhost:\(hub.port)/")) == .delivered(200))
    }

    // limit: Delivery.answerBodyBytes
    @Test("Answers are understood, whatever their framing, and the connection is kept where it can be", arguments: [
        (ok(), DeliveryResult.delivered(200), 1),
        ("HTTP/1.1 204 No Content\r\n\r\n", .delivered(204), 1),
        ("HTTP/1.1 100 Continue\r\n\r\n" + ok(body: "{\"success\":true}"), .delivered(200), 1),
        ("HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", .delivered(202), 1),
        (ok(body: String(repeating: "x", count: 60_000)), .delivered(200), 1),
        (ok(body: String(repeating: "x", count: 70_000)), .delivered(200), 2),
        (
            "HTTP/1.1 200 A\r\nTransfer-Encoding: chunked\r\n\r\n"
                + String(repeating: "2710\r\n" + tenThousand + "\r\n", count: 7) + "0\r\n\r\n", .delivered(200), 2
        ),
        (ok("Connection: close\r\n"), .delivered(200), 2),
        ("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", .tooLarge, 1),
        ("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", .rejected(400), 1),
        ("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", .retry(status: 401, afterMilliseconds: nil), 1),
        ("HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", .retry(status: 301, afterMilliseconds: nil), 1),
        (
            "HTTP/1.1 429 Slow\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n",
            .retry(status: 429, afterMilliseconds: 17_000), 1
        ),
        (
            "HTTP/1.1 503 Busy\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n",
            .retry(status: 503, afterMilliseconds: 0), 1
        ),
        (
            "HTTP/1.1 503 Busy\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n",
            .retry(status: 503, afterMilliseconds: nil), 1
        ),
    ])
    func answers(text: String, expected: DeliveryResult, connections: Int) {
        let hub = TestHub([.answer(text)])
        defer { hub.stop() }
        let client = client("http://127.0.0.1:\(hub.port)/")
        #expect(post(client) == expected)
        #expect(post(client) == .delivered(200))
        #expect(client.connectionsOpened == connections)
    }

    @Test("A body that ends with the connection is an answer too")
    func untilClose() {
        let hub = TestHub([.answerAndClose("HTTP/1.0 200 OK\r\n\r\nfine")])
        defer { hub.stop() }
        let client = client("http://127.0.0.1:\(hub.port)/")
        #expect(post(client) == .delivered(200))
        #expect(post(client) == .delivered(200))
    }

    @Test("A question's answer comes whole, whatever its framing, and what is not whole is said to be so", arguments: [
        (HubAction.answer(ok(body: "hello")), 200, "hello"),
        (.answer(ok(body: String(repeating: "x", count: 70_000))), 200, String(repeating: "x", count: 70_000)),
        (.answer("HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnope and more"), 404, "nope"),
        (.answer("HTTP/1.1 204 No Content\r\n\r\n"), 204, ""),
        (
            .answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 A\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX: y\r\n\r\n"), 200, "hello world"
        ),
        (.answerAndClose("HTTP/1.0 200 OK\r\n\r\nfine"), 200, "fine"),
        (.answerAndClose("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"), nil, nil),
        (.answerAndClose("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell"), nil, nil),
        (.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx"), nil, nil),
        (.close, nil, nil),
        // More than is taken: by what it says of itself, in chunks, and without end.
        (.answer(ok(body: String(repeating: "x", count: 100_001))), 200, nil),
        (.answer("HTTP/1.1 200 A\r\nTransfer-Encoding: chunked\r\n\r\n" + String(repeating: "2710\r\n" + tenThousand + "\r\n", count: 11)), 200, nil),
        (.answerAndClose("HTTP/1.0 200 OK\r\n\r\n" + String(repeating: tenThousand, count: 11)), 200, nil),
    ] as [(HubAction, UInt16?, String?)])
    func ask(action: HubAction, status: UInt16?, body: String?) {
        let hub = TestHub([action])
        defer { hub.stop() }
        let client = client("http://127.0.0.1:\(hub.port)/", times: shortTimes)
        var seen: (status: UInt16, body: [UInt8]?)?
        do throws(TransportFailure) {
            seen = try client.ask("DELETE", Array("/a%3Ab".utf8), token: Array("t".utf8), limitBytes: 100_000)
        } catch { #expect(error.stage == .receive) }
        #expect(seen?.status == status)
        #expect(seen?.body.map { String(decoding: $0, as: UTF8.self) } == body)
        #expect(
            hub.requests.map(\.head) == [
                "DELETE /a%3Ab HTTP/1.1\r\nHost: 127.0.0.1:\(hub.port)\r\nAuthorization: Bearer t\r\nConnection: close\r\n\r\n"
            ])
    }

    @Test("A question carries further fields, and the answer's entity tag is known until the next one")
    func askByTag() throws {
        let hub = TestHub([
            .answer("HTTP/1.1 200 OK\r\neTag: \"a#1\" \r\nContent-Length: 5\r\n\r\nhello"),
            .answer("HTTP/1.1 304 Not Modified\r\nETag: \"a#2\"\r\n\r\n"), .answer(ok()),
        ])
        defer { hub.stop() }
        let client = client("http://127.0.0.1:\(hub.port)/", times: shortTimes)
        for (status, tag) in [(200, "\"a#1\""), (304, "\"a#2\""), (200, "")] as [(UInt16, String)] {
            let fields = Array("If-None-Match: \"a#1\"\r\n".utf8)
            #expect(try client.ask("GET", Array("/b".utf8), token: nil, fields: fields, limitBytes: 100).status == status)
            #expect(String(decoding: client.entityTag, as: UTF8.self) == tag)
        }
        #expect(
            hub.requests[0].head
                == "GET /b HTTP/1.1\r\nHost: 127.0.0.1:\(hub.port)\r\nIf-None-Match: \"a#1\"\r\nConnection: close\r\n\r\n")
    }

    @Test("A Unix socket is asked in place of the URL's host, and its absence is said")
    func askOverUnixSocket() throws {
        let path = NSTemporaryDirectory() + "gatehouse-ask-\(getpid()).sock"
        defer { unlink(path) }
        func client() -> HTTPSClient<SystemClock> {
            HTTPSClient(
                url: try! DestinationURL(Array("http://localhost".utf8).span), token: nil, authorities: TLSClientConfiguration(),
                version: "test", socket: path, times: shortTimes, cancellation: Cancellation(), clock: SystemClock())
        }
        do throws(TransportFailure) {
            _ = try client().ask("GET", Array("/".utf8), token: nil, limitBytes: 100)
            Issue.record("nobody listens")
        } catch {
            #expect(error.stage == .connect && error.message.contains(path))
        }
        let listener = try Socket.listen(path: path, mode: 0o600)
        let raw = listener.raw
        Foundation.Thread.detachNewThread {
            guard (try? Socket.wait(raw, toWrite: false, milliseconds: 5000)) == true,
                let peer = try? Socket.accept(raw)
            else { return }
            _ = try? Socket.wait(peer.raw, toWrite: false, milliseconds: 5000)
            _ = transmit(peer.raw, Array(ok(body: "here").utf8).span)
            usleep(100_000)
        }
        let answer = try client().ask("GET", Array("/".utf8), token: nil, limitBytes: 100)
        #expect(answer.status == 200 && answer.body == Array("here".utf8))
        _ = consume listener
    }

    @Test("A kept connection that the server closes meanwhile is replaced without a failure")
    func closedBetween() {
        let hub = TestHub([.answerAndClose(ok()), .answer(ok()), .close, .answer(ok())])
        defer { hub.stop() }
        let client = client("http://127.0.0.1:\(hub.port)/")
        #expect(post(client) == .delivered(200))
        #expect(post(client) == .delivered(200))
        #expect(post(client) == .delivered(200), "closed on receipt: repeated once on a new connection")
        #expect(hub.requests.count == 4)
        #expect(client.connectionsOpened == 3)
    }

    @Test("What is no HTTP, cut short, or more than was asked for is no delivery", arguments: [
        HubAction.answerAndClose("HTTP/1.1 200 O"), .answerAndClose("SSH-2.0-x\r\n\r\n"),
        .answerAndClose("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"), .close,
        .answerAndClose("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour"),
        .answerAndClose("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nfour"),
        .answerAndClose("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        .answerAndClose("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    ])
    func broken(action: HubAction) {
        let hub = TestHub([action])
        defer { hub.stop() }
        let client = client("http://127.0.0.1:\(hub.port)/")
        #expect(stage(post(client)) == .receive)
        #expect(post(client) == .delivered(200), "the next request is not disturbed")
    }

    @Test("Bytes behind an answer cost the connection: they must not become the next answer")
    func surplus() {
        let hub = TestHub([.answer(ok() + "HTTP/1.1 413 Evil\r\nContent-Length: 0\r\n\r\n")])
        defer { hub.stop() }
        let client = client("http://127.0.0.1:\(hub.port)/")
        #expect(post(client) == .delivered(200))
        #expect(post(client) == .delivered(200))
        #expect(client.connectionsOpened == 2)
    }

    @Test("An answer that comes before the request is out is heard: 413 from a server that reads no further")
    func earlyAnswer() {
        let hub = TestHub(earlyAnswer: "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        defer { hub.stop() }
        let before = Date()
        let client = client("http://127.0.0.1:\(hub.port)/")
        let large = [UInt8](repeating: 1, count: 8 << 20)
        #expect(post(client, large) == .tooLarge)
        #expect(post(client, large) == .tooLarge)
        #expect(client.connectionsOpened == 2, "a half-sent request's connection is not used again")
        #expect(Date().timeIntervalSince(before) < 5)
    }

    // limit: Delivery.handshakeMilliseconds, Delivery.sendStallMilliseconds, Delivery.firstByteMilliseconds
    @Test("Nobody there, no such name, a silent server, one that takes no bytes: each ends in its time")
    func timeOuts() {
        // Port 1 is nobody's; one that was just closed might be given to another test.
        #expect(stage(post(client("http://127.0.0.1:1/"))) == .connect)
        #expect(stage(post(client("https://no-such-host.invalid/"))) == .resolve)

        let silent = TestHub([.stall])
        defer { silent.stop() }
        var before = Date()
        #expect(stage(post(client("http://127.0.0.1:\(silent.port)/", times: shortTimes))) == .receive)
        #expect(Date().timeIntervalSince(before) > 0.25 && Date().timeIntervalSince(before) < 3)

        let deaf = TestHub(isDeaf: true)
        defer { deaf.stop() }
        before = Date()
        let large = [UInt8](repeating: 1, count: 8 << 20)
        #expect(stage(post(client("http://127.0.0.1:\(deaf.port)/", times: shortTimes), large)) == .send)
        #expect(stage(post(client("https://127.0.0.1:\(deaf.port)/", times: shortTimes))) == .handshake)
        #expect(Date().timeIntervalSince(before) < 6)
    }

    /// Its queue of connections is full, so that the kernel answers no more: what a router does that drops packets.
    // limit: Delivery.connectMilliseconds
    @Test("A server that does not take connections costs the time for connecting and no more")
    func connectTimeOut() throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        var waiting: [Int32] = []
        withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { place in
                #expect(bind(listener, place, size) == 0 && listen(listener, 0) == 0)
                #expect(getsockname(listener, place, &size) == 0)
                for _ in 0..<3 {
                    let one = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
                    _ = Glibc.connect(one, place, size)
                    waiting.append(one)
                }
            }
        }
        defer { for one in waiting + [listener] { Glibc.close(one) } }
        usleep(50_000)
        let before = Date()
        let port = UInt16(bigEndian: address.sin_port)
        #expect(stage(post(client("http://127.0.0.1:\(port)/", times: shortTimes))) == .connect)
        let passed = Date().timeIntervalSince(before)
        #expect(passed > 0.25 && passed < 2, "\(passed)")
    }

    // limit: Delivery.requestMilliseconds
    @Test("A server that goes on sending a byte now and then costs the time of one request and no more")
    func wholeTimeOut() {
        let slow = TestHub([.drip])
        defer { slow.stop() }
        let before = Date()
        #expect(stage(post(client("http://127.0.0.1:\(slow.port)/", times: shortTimes))) != .connect)
        let passed = Date().timeIntervalSince(before)
        #expect(passed > 0.5 && passed < 2, "\(passed)")
    }

    // limit: Delivery.cancellationMilliseconds
    @Test("A stop request ends a wait at once")
    func cancellation() {
        let silent = TestHub([.stall])
        defer { silent.stop() }
        let cancellation = Cancellation()
        Foundation.Thread.detachNewThread { usleep(100_000); cancellation.cancel() }
        let before = Date()
        #expect(stage(post(client("http://127.0.0.1:\(silent.port)/", cancellation: cancellation))) == .cancelled)
        #expect(Date().timeIntervalSince(before) < 2)
    }
}

@Suite(.serialized, .enabled(if: HubCertificate.isOpenSSLThere, "the openssl command is not installed"))
struct HTTPSClientTLSTests {
    @Test("Over TLS: large bodies arrive whole, connections are kept, and later ones resume the session")
    func overTLS() {
        let hub = TestHub(tls: HubCertificate.server)
        defer { hub.stop() }
        let client = client("https://localhost:\(hub.port)/v1/batch", trust: HubCertificate.trust)
        var random = SeededRandom(seed: 3)
        let body = random.bytes(300_000)
        #expect(post(client, body) == .delivered(200))
        #expect(hub.requests[0].body == body)
        #expect(post(client) == .delivered(200))
        #expect(hub.connections == 1)
        for _ in 0..<3 {
            client.rest()
            #expect(post(client) == .delivered(200))
        }
        #expect(client.connectionsOpened == 4 && client.handshakesResumed == 3)
    }

    @Test("An hour of connections a minute takes one full handshake; after six hours there is another")
    func hourOfReconnects() {
        let hub = TestHub(tls: HubCertificate.server)
        defer { hub.stop() }
        let clock = MovedClock()
        let client = HTTPSClient(
            url: try! DestinationURL(Array("https://localhost:\(hub.port)/".utf8).span), token: nil,
            authorities: HubCertificate.trust, version: "test", cancellation: Cancellation(), clock: clock)
        for minute in 0..<60 {
            #expect(post(client) == .delivered(200))
            // The sender's rest after an idle minute, or the server's end of one.
            if minute % 2 == 0 { client.rest() } else { hub.dropConnections() }
            clock.seconds += 60
        }
        #expect(client.connectionsOpened == 60 && client.handshakesResumed == 59)
        clock.seconds += 5 * 3600 + 60
        #expect(post(client) == .delivered(200))
        #expect(client.connectionsOpened == 61 && client.handshakesResumed == 59)
        client.rest()
        #expect(post(client) == .delivered(200))
        #expect(client.handshakesResumed == 60)
    }

    @Test("A 400 that is about a certificate says nothing of the events; any other does")
    func certificateMissed() {
        let page = "<html><head><title>400 No required SSL certificate was sent</title></head>"
        let hub = TestHub(
            [
                .answerAndClose(
                    "HTTP/1.1 400 Bad Request\r\nContent-Length: \(page.utf8.count)\r\nConnection: close\r\n\r\n" + page),
                .answer("HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\noops"),
            ], tls: HubCertificate.server)
        defer { hub.stop() }
        let client = client("https://localhost:\(hub.port)/", trust: HubCertificate.trust)
        let missed = post(client)
        #expect(stage(missed) == .handshake)
        #expect(message(missed).hasPrefix("localhost asks for a certificate of this device: give tls.client_cert"))
        #expect(post(client) == .rejected(400))
        #expect(post(client) == .delivered(200))
        #expect(client.connectionsOpened == 2 && client.handshakesResumed == 0)
    }

    // limit: Delivery.clocksAgreeSeconds
    @Test("Time is not before it was last known: when a verified server and the device agreed on it")
    func lastTimeKnown() {
        func date(_ offset: Int64) -> HubAction {
            var text: [UInt8] = []
            HTTPDate.write(SystemClock().wallMilliseconds() / 1000 + offset, into: &text)
            return .answer(ok("Date: \(String(decoding: text, as: UTF8.self))\r\n"))
        }
        let hub = TestHub([.answer(ok()), date(86_460), date(-86_460), date(86_340), date(0)], tls: HubCertificate.server)
        defer { hub.stop() }
        let floor = ClockFloor()
        #expect(floor.seconds == buildTime)
        let client = client("https://localhost:\(hub.port)/", trust: HubCertificate.trust, floor: floor)
        for _ in 0..<3 {
            #expect(post(client) == .delivered(200))
            #expect(floor.seconds == buildTime)
        }
        #expect(post(client) == .delivered(200))
        let known = floor.seconds
        #expect(abs(known - SystemClock().wallMilliseconds() / 1000) < 60)
        #expect(post(client) == .delivered(200))
        #expect(floor.seconds >= known)
        // What was learnt holds: against a time years ahead, the hub's certificate has expired.
        let late = ClockFloor(kept: known + 10 * 365 * 86_400)
        let other = post(trusting(hub.port, late))
        #expect(stage(other) == .handshake && message(other).contains("has expired"), "\(other)")
        #expect(post(trusting(hub.port, ClockFloor(kept: 0))) == .delivered(200))
    }

    @Test("A hub whose certificate is not trusted gets nothing, and the message says why")
    func untrusted() {
        let hub = TestHub(tls: HubCertificate.server)
        defer { hub.stop() }
        let result = post(client("https://127.0.0.1:\(hub.port)/"))
        #expect(stage(result) == .handshake)
        #expect(message(result).contains("not signed by an authority that is trusted here") || message(result).contains("no authorities"))
        let other = post(client("https://127.0.0.1:\(hub.port)/", trust: TLSClientConfiguration(authorities: .bytes([1]))))
        #expect(message(other).contains("no authorities can be read"))
        #expect(hub.requests.isEmpty)
    }

    @Test("A sender over the real client: 3,000 events over TLS through cuts, lost answers and 500s, in order")
    func together() throws {
        var script: [HubAction] = []
        var random = SeededRandom(seed: 11)
        for _ in 0..<60 {
            switch random.next(below: 5) {
            case 0: script.append(.close)
            case 1: script.append(.answerAndClose("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"))
            case 2: script.append(.answerAndClose(ok()))
            default: script.append(.answer(ok()))
            }
        }
        let hub = TestHub(script, tls: HubCertificate.server)
        defer { hub.stop() }
        let text = Array("destinations: { hub: { url: 'https://localhost:\(hub.port)/', purpose: p, batch: { events: 50 } } }".utf8)
        let document = try YAML.parse(text.span)
        var reader = PlanReader()
        let plan = DestinationPlan(document, document.root, purposes: [Array("p".utf8)], identifiers: [], &reader)
        let outbox = CountingOutbox(events: 3_000)
        var sender = Sender(
            destination: plan.destinations[0], source: outbox,
            transport: client("https://localhost:\(hub.port)/", trust: HubCertificate.trust), meters: SenderMeters(),
            clock: FastClock(), random: SeededRandom(seed: 12))
        for _ in 0..<2_000 where outbox.cursor < 3_000 { _ = sender.step() }
        #expect(outbox.cursor == 3_000)
        var seen = Set<Int64>()
        var first: [Int64] = []
        for request in hub.requests {
            let body = try Gzip.inflate(request.body.span, limit: 1 << 20)
            var document = JSONDocument()
            try document.parse(body.span)
            document.forEachElement(document.member(document.root, "batch")!) {
                let number = document.int64(document.member($0, "seq")!)!
                if seen.insert(number).inserted { first.append(number) }
            }
        }
        #expect(first == Array(1...3_000))
    }
}

/// Real time, moved ahead.
private final class MovedClock: Clock {
    var seconds: Int64 = 0
    func wallMilliseconds() -> Int64 { SystemClock().wallMilliseconds() + seconds * 1000 }
    func monotonicNanoseconds() -> Int64 { SystemClock().monotonicNanoseconds() + seconds * 1_000_000_000 }
}

/// Real time for the network, an hour more at each look for pauses.
private final class FastClock: Clock {
    private var hours: Int64 = 0
    func wallMilliseconds() -> Int64 { SystemClock().wallMilliseconds() }
    func monotonicNanoseconds() -> Int64 {
        hours += 1
        return SystemClock().monotonicNanoseconds() + hours * 3_600_000_000_000
    }
}

private final class CountingOutbox: OutboxSource {
    let events: Int
    var cursor = 0
    let isStopRequested = false
    let revision: UInt64 = 0

    init(events: Int) { self.events = events }
    func outlook() -> OutboxOutlook { OutboxOutlook(count: UInt64(events - cursor), oldestAt: 0, isUrgent: false) }
    func fill(_ batch: inout Batch) {
        for number in (batch.after.map { Int($0) + 1 } ?? cursor)..<events {
            if !batch.append(sequence: UInt64(number), Array("{\"seq\":\(number + 1)}".utf8).span) { return }
        }
    }
    func spend(bytes: Int64) {}
    func acknowledge(_ batch: borrowing Batch) { cursor = Int(batch.lastSequence!) + 1 }
    func quarantine(_ batch: borrowing Batch, reason: QuarantineReason) { cursor = Int(batch.lastSequence!) + 1 }
    func wait(forCount count: UInt64?, milliseconds: Int64) {}
}
