// A server with a trivial handler, a clock that stands still unless told, and a client over real loopback sockets.
import Foundation
import Glibc
import HTTP
import Platform
import Serving
import Synchronization
import Testing

/// Time that passes only by `advance`.
final class ManualClock: Platform.Clock, @unchecked Sendable {
    private let elapsed = Atomic<Int64>(1_000_000_000)
    func advance(seconds: Int64) { elapsed.wrappingAdd(seconds * 1_000_000_000, ordering: .relaxed) }
    func wallMilliseconds() -> Int64 { 784_111_777_000 }
    func monotonicNanoseconds() -> Int64 { elapsed.load(ordering: .relaxed) }
}

/// Tokens of requests that wait for an answer from the test.
final class Mailbox: @unchecked Sendable {
    private let lock = Lock()
    private var tokens: [ConnectionToken] = []

    func put(_ token: ConnectionToken) { lock.with { tokens.append(token) } }

    var all: [ConnectionToken] { lock.with { tokens } }

    /// Waits until `count` have come in all.
    func wait(for count: Int) -> [ConnectionToken] {
        for _ in 0..<2000 {
            let found = lock.with { tokens }
            if found.count >= count { return found }
            sleep(milliseconds: 1)
        }
        Issue.record("only \(lock.with { tokens.count }) of \(count) requests became pending")
        return lock.with { tokens }
    }
}

/// `/echo` answers with what was asked, `/later` waits for the mailbox, `/big` answers a megabyte for each digit of its
/// query, `/silent` says nothing, `/headers` sets some, `/slow` echoes after a millisecond and tells the mailbox.
struct TestHandler: RequestHandler {
    let mailbox: Mailbox
    let thread: Int
    var groups = 0

    mutating func groupBegins() { groups += 1 }
    mutating func groupEnds() { groups -= 1 }

    mutating func handle(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        precondition(groups == 1, "a request outside of a group")
        let path = request.path
        if path.equals("/later") {
            mailbox.put(request.token)
            return .pending
        }
        if path.equals("/silent") { return .answered }
        if path.equals("/slow") {
            sleep(milliseconds: 1)
            mailbox.put(request.token)
        }
        if path.equals("/empty") {
            response.send(204)
            return .answered
        }
        if path.equals("/peer") {
            response.send(200, "text/plain", Array("\(request.peer)".utf8))
            return .answered
        }
        if path.equals("/headers") {
            response.header("ETag", "\"x\"")
            response.header("X-Text", Array("a\r\nb".utf8).span)
            response.header("X-Number", -5)
            response.closeConnection()
            response.sendProblem(404, "Nothing is here.")
            return .answered
        }
        if path.equals("/big") {
            let count = Int(request.query[0] - 0x30) << 20
            response.send(200, "application/octet-stream", [UInt8](repeating: 0x61, count: count))
            return .answered
        }
        var body = Array("\(request.method) ".utf8)
        for index in 0..<path.count { body.append(path[index]) }
        body.append(0x20)
        for index in 0..<request.body.count { body.append(request.body[index]) }
        response.send(200, "text/plain", body.span)
        return .answered
    }
}

/// A running server; stops when it goes.
final class Fixture {
    let server: Server<TestHandler, ManualClock>
    let clock = ManualClock()
    let mailbox = Mailbox()
    let statistics = ServerStatistics()
    let completions: Completions
    private var isRunning = true

    init(threads: Int = 1, _ change: (inout ServerConfiguration) -> Void = { _ in }) throws {
        var configuration = ServerConfiguration()
        configuration.addresses = [.tcp(address: "127.0.0.1", port: 0)]
        configuration.sendsDate = false
        change(&configuration)
        completions = try Completions(threads: threads)
        let mailbox = mailbox
        server = try Server(
            configuration, statistics: statistics, completions: completions, clock: clock,
            makeHandler: { TestHandler(mailbox: mailbox, thread: $0) })
        try server.start()
    }

    deinit { stop() }

    func stop() {
        if isRunning { server.stop() }
        isRunning = false
    }

    func client() throws -> Client { try Client(port: server.port) }

    /// Lets time pass, and wakes the server's thread so that it notices.
    func pass(seconds: Int64) throws {
        clock.advance(seconds: seconds)
        let other = try client()
        try other.send("GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        #expect(try other.response().status == 200)
    }

    func answer(_ token: ConnectionToken, _ text: String, headerLines: String = "") {
        completions.post(
            Completion(
                token, status: 200, contentType: "text/plain", headerLines: Array(headerLines.utf8),
                body: Array(text.utf8)))
        completions.wake()
    }
}

/// A response as a test wants it.
struct Answer: Equatable {
    var status: UInt16
    var body: String
    var headers: String
    var keepsAlive: Bool
}

struct ClientError: Error { let what: String }

/// A blocking client on one connection.
final class Client {
    private let descriptor: Descriptor
    private var received: [UInt8] = []

    init(port: UInt16) throws {
        descriptor = try Socket.connect(host: "127.0.0.1", port: port)
        _ = try Socket.wait(descriptor.raw, toWrite: true, milliseconds: 2000)
    }

    /// Connects to a Unix socket.
    init(path: String) throws {
        let raw = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
        descriptor = Descriptor(owning: raw)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard status == 0 else { throw ClientError(what: "connect: \(errno)") }
    }

    func send(_ text: String) throws { try send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) throws {
        var done = 0
        while done < bytes.count {
            switch transmit(descriptor.raw, bytes.span.extracting(done..<bytes.count)) {
            case .moved(let count): done += count
            case .wouldBlock:
                guard try Socket.wait(descriptor.raw, toWrite: true, milliseconds: 5000) else {
                    throw ClientError(what: "the server does not read")
                }
            default: throw ClientError(what: "the connection broke while sending")
            }
        }
    }

    /// Says that nothing more will be sent.
    func endOutput() { shutdown(descriptor.raw, Int32(SHUT_WR)) }

    /// Reads what is there within the time.
    /// - Returns: false at the end of the connection.
    func readSome(milliseconds: Int64 = 5000) throws -> Bool {
        guard try Socket.wait(descriptor.raw, toWrite: false, milliseconds: milliseconds) else {
            throw ClientError(what: "no answer; so far: \(String(decoding: received, as: UTF8.self))")
        }
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        switch receive(descriptor.raw, into: &buffer, from: 0) {
        case .moved(let count): received += buffer[0..<count]
        case .ended, .failed: return false
        case .wouldBlock: break
        }
        return true
    }

    /// Whether nothing comes for a moment.
    func isSilent() throws -> Bool {
        try received.isEmpty && !Socket.wait(descriptor.raw, toWrite: false, milliseconds: 50)
    }

    /// The next response.
    func response(toHead: Bool = false) throws -> Answer {
        while true {
            var head = ResponseHead()
            var progress = HeadProgress()
            let outcome = ResponseParser.parse(received.span, toHead: toHead, into: &head, progress: &progress)
            if case .invalid(let fault, _) = outcome { throw ClientError(what: "\(fault)") }
            if case .complete(let length) = outcome {
                var bodyBytes = 0
                if case .length(let count) = head.framing { bodyBytes = Int(count) }
                if received.count >= length + bodyBytes {
                    let answer = Answer(
                        status: head.status,
                        body: String(decoding: received[length..<(length + bodyBytes)], as: UTF8.self),
                        headers: String(decoding: received[0..<length], as: UTF8.self), keepsAlive: head.keepsAlive)
                    received.removeFirst(length + bodyBytes)
                    return answer
                }
            }
            guard try readSome() else { throw ClientError(what: "the server closed without an answer") }
        }
    }

    /// Whether the server closes, without a further byte.
    func isClosed(milliseconds: Int64 = 5000) throws -> Bool {
        if !received.isEmpty { return false }
        return try !readSome(milliseconds: milliseconds)
    }

    func get(_ path: String) throws -> Answer {
        try send("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return try response()
    }
}
