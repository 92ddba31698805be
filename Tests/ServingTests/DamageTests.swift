// A live server under damaged and hostile streams: it answers or closes, holds no connection and lives on.
import Platform
import Serving
import Testing

@Suite struct DamageTests {
    static let streams = [
        "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\nPOST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\nGET /",
        "HEAD /echo?x HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /later HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]

    /// Four hundred streams, each damaged by a seed and cut somewhere; then the client ends or vanishes. Afterwards no
    /// connection is left but those whose answer is owed, which end when it comes.
    @Test func liveServerOutlivesDamage() throws {
        let fixture = try Fixture(threads: 2)
        var random = SeededRandom(seed: 7)
        for round in 0..<400 {
            var bytes = Array(Self.streams[round % Self.streams.count].utf8)
            for _ in 0...random.next(below: 3) {
                let place = Int(random.next(below: UInt64(bytes.count)))
                let likely = Array("\r\n :;,0aF\u{0}\u{7F}".utf8)
                switch random.next(below: 3) {
                case 0: bytes[place] = likely[Int(random.next(below: UInt64(likely.count)))]
                case 1: bytes.remove(at: place)
                default: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: place)
                }
            }
            let client = try fixture.client()
            let cut = Int(random.next(below: UInt64(bytes.count)))
            try? client.send(Array(bytes[..<cut]))
            if round % 4 == 0 { sleep(milliseconds: 1) }
            try? client.send(Array(bytes[cut...]))
            if round % 2 == 0 { client.endOutput() }
        }
        // The requests whose client only half went are owed an answer; the others' connections are gone.
        for _ in 0..<3000 where fixture.statistics.openConnections.load(ordering: .relaxed) > 0 {
            for token in fixture.mailbox.all { fixture.answer(token, "late") }
            sleep(milliseconds: 1)
        }
        #expect(fixture.statistics.openConnections.load(ordering: .relaxed) == 0)
        #expect(fixture.statistics.malformedRequests.load(ordering: .relaxed) > 100)
        #expect(fixture.statistics.requests.load(ordering: .relaxed) > 100)
        #expect(try fixture.client().get("/echo").status == 200)
    }
}
