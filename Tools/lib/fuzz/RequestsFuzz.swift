// What libFuzzer calls with each input; see Tools/fuzz. Any answer of the local API to a request is right. A crash, a hang
// or too much memory is not, nor is an answer that is no HTTP, or no JSON although it says so, a refusal without words, 500
// where the store can be read, another answer to the same question, or one that repeats who was asked about (promise P3).
//
// The first byte says whether a hub is asked (1), who answers from tokens (2), and whether the body is said to be gzip (4).
// The rest is a request with line feeds alone in its head and without Content-Length, which is added.

import Activation
import Collection
import Cryptography
import Governance
import HTTP
import Monitoring
import Platform

@testable import Agent
@testable import Formats
@testable import Serving
@testable import Store
@testable import Unification

nonisolated(unsafe) private var device = busyDevice()
nonisolated(unsafe) private var desks = (0..<4).map { Desk(isHub: $0 & 1 != 0, hasTokens: $0 & 2 != 0) }

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    guard let asked = Asked(Array(input[1...]), isPacked: input[0] & 4 != 0) else { return 0 }
    let desk = desks[Int(input[0] & 3)]
    guard let first = desk.answer(asked) else { return 0 }
    check(first, asked)
    // Decisions are given ids, and whoever is followed is followed further.
    if asked.path.starts(with: "/v1/trace/".utf8) || asked.path.starts(with: "/ofrep/".utf8) { return 0 }
    if let second = desk.answer(asked), second != first { stop(asked, "is answered otherwise the second time", second) }
    return 0
}

// MARK: Requests

/// One request as it goes over the wire.
private struct Asked {
    var bytes: [UInt8]
    var head: RequestHead
    var bodyAt: Int
    var path: [UInt8]
    var body: [UInt8] { Array(bytes[bodyAt...]) }

    /// nil for what the parser refuses: HTTPFuzz is about that.
    init?(_ text: [UInt8], isPacked: Bool) {
        var body = 0
        while body + 1 < text.count, text[body] != 10 || text[body + 1] != 10 { body += 1 }
        let end = min(text.count, body + 2)
        var request: [UInt8] = []
        for byte in text[..<min(body, text.count)] {
            if byte == 10 { request.append(13) }
            request.append(byte)
        }
        let coding = isPacked ? "\r\nContent-Encoding: gzip" : ""
        request += Array("\r\nHost: till\r\nContent-Length: \(text.count - end)\(coding)\r\n\r\n".utf8)
        bodyAt = request.count
        request += text[end...]
        bytes = request
        body = bytes.count - bodyAt
        var parsed = RequestHead()
        var progress = HeadProgress()
        guard case .complete(bodyAt) = RequestParser.parse(request.span, into: &parsed, progress: &progress),
            parsed.framing == .none || parsed.framing == .length(UInt64(body))
        else { return nil }
        head = parsed
        path = Array(copying: request.span.bytes(parsed.path))
    }
}

/// The routes of an agent or a hub over the device's store, without the threads beside them.
private final class Desk {
    private let isHub: Bool
    private let access: AccessList
    private var table: RoutingTable
    private var routes: Routes<MovedClock>
    private var submissions: [Submission] = []
    private var records: [DecisionRecord] = []

    init(isHub: Bool, hasTokens: Bool) {
        self.isHub = isHub
        let roles: [Roles] = [.collect, .decide, .privacy, .operate, .sync, .all]
        access = AccessList(
            hasTokens ? roles.map { Token(digest: SHA256.hash(Array("token\($0.rawValue)".utf8).span), roles: $0) } : [])
        table = Desk.table(access, isHub)
        routes = Desk.routes(table)
    }

    private static func table(_ access: AccessList, _ isHub: Bool) -> RoutingTable {
        let (meters, intake, plans) = (Meters(), Intake(), PlanHolder(device.bundle.plans))
        let clerk = RecordClerk(
            database: device.database, intake: intake, subjects: AuditSubject(root: device.pepper.root), plans: plans,
            meters: meters)
        return RoutingTable(
            database: device.database, intake: intake, access: access, meters: meters, plans: plans, pepper: device.pepper,
            device: Array("till-1".utf8), health: Health(), clerk: clerk, isHub: isHub, records: DecisionBox(meters: meters),
            shadow: nil, trace: Trace(), findings: { [] }, writeMetrics: { _, _ in })
    }

    private static func routes(_ table: RoutingTable) -> Routes<MovedClock> {
        do throws(StoreError) { return try Routes(table, thread: 0, clock: MovedClock(now: device.now)) } catch {
            fatalError("there is no reader: \(error.message)")
        }
    }

    /// What is answered at once; nil for what the writer will answer.
    func answer(_ asked: Asked) -> [UInt8]? {
        let span = asked.bytes.span
        var response = Response()
        response.begin(toHead: asked.head.method == .head, minorVersion: asked.head.minorVersion, keepsAlive: true)
        let request = Request(
            span, head: asked.head, body: ByteRange(asked.bodyAt, asked.bytes.count), peer: .loopback, isSecure: false,
            token: ConnectionToken(thread: 0, slot: 1))
        let disposition = routes.handle(request, &response)
        routes.groupEnds()
        // What is served counts for caps until the writer has counted it.
        table.records.take(into: &records)
        for record in records { if let place = record.servePlace { table.records.serves.drop(place) } }
        records.removeAll()
        if case .answered = disposition { return response.output }
        _ = table.intake.take(into: &submissions, waitMilliseconds: 0)
        for submission in submissions { table.intake.recycle(submission) }
        // Copies of records wait at the clerk's, long bodies for the thread that prepares them.
        if submissions.isEmpty {
            table = Desk.table(access, isHub)
            routes = Desk.routes(table)
        }
        return nil
    }
}

// MARK: Answers

/// An answer in its parts; nil for what is none.
private struct Parts {
    var status = 0
    var fields: [(name: [UInt8], value: [UInt8])] = []
    var body: [UInt8] = []

    init?(_ output: [UInt8]) {
        guard output.starts(with: "HTTP/1.1 ".utf8), output.count > 13 else { return nil }
        for byte in output[9..<12] {
            guard isDigit(byte) else { return nil }
            status = status * 10 + Int(byte - 48)
        }
        var (place, isFirst) = (0, true)
        while true {
            var end = place
            while end < output.count, output[end] != 13 {
                if output[end] < 32 || output[end] == 127 { return nil }
                end += 1
            }
            guard end + 1 < output.count, output[end + 1] == 10 else { return nil }
            let line = output[place..<end]
            place = end + 2
            if line.isEmpty { break }
            if !isFirst {
                guard let colon = line.firstIndex(of: 58), colon + 1 < end, line[colon + 1] == 32 else { return nil }
                fields.append((line[..<colon].map(loweredASCII), Array(line[(colon + 2)...])))
            }
            isFirst = false
        }
        body = Array(output[place...])
    }

    func field(_ name: String) -> [UInt8]? { fields.first { $0.name.elementsEqual(name.utf8) }?.value }
}

private func check(_ output: [UInt8], _ asked: Asked) {
    func must(_ holds: Bool, _ what: String) { if !holds { stop(asked, what, output) } }
    guard let parts = Parts(output) else { stop(asked, "has an answer that is no HTTP", output) }
    must(200...599 ~= parts.status && parts.status != 500, "is answered with that status")
    if asked.head.method == .head || parts.status == 204 || parts.status == 304 {
        must(parts.body.isEmpty, "has a body in its answer")
        return
    }
    must(parts.status < 400 || !parts.body.isEmpty, "is refused without a word")
    must(parts.field("content-length") == Array("\(parts.body.count)".utf8), "has an answer that ends elsewhere")
    guard let type = parts.field("content-type") else { stop(asked, "has an answer of no type", output) }
    if type.elementsEqual("application/json".utf8) || type.elementsEqual("application/problem+json".utf8) {
        guard let document = parsed(parts.body) else { stop(asked, "has an answer that is no JSON", output) }
        must(parts.status < 400 || document.kind(document.root) == .object, "is refused without words")
    }
    checkNames(parts, asked)
}

/// Whoever is named in a question about them is not in its answer, unless the path names them.
private func checkNames(_ parts: Parts, _ asked: Asked) {
    guard asked.path.starts(with: "/ofrep/".utf8), parts.status == 200 else { return }
    guard let document = parsed(asked.body), let context = document.member(document.root, "context"),
        let name = document.member(context, "targetingKey"), document.kind(name) == .string
    else { return }
    let value = Array(copying: document.bytes(name))
    // Not so short, and not of letters or digits alone: what else there is in an answer is words and numbers.
    let isMixed = value.contains(where: isDigit) && value.contains { loweredASCII($0) >= 0x67 && loweredASCII($0) <= 0x7A }
    if value.count < 6 || !isMixed || occurs(value, in: asked.path) { return }
    if occurs(value, in: parts.body) { stop(asked, "has an answer with who was asked about", parts.body) }
}

private func parsed(_ text: [UInt8]) -> JSONDocument? {
    var document = JSONDocument()
    do throws(JSONError) { try document.parse(text.span) } catch { return nil }
    return document
}

private func occurs(_ value: [UInt8], in text: [UInt8]) -> Bool {
    var start = 0
    while start + value.count <= text.count {
        if text[start..<start + value.count].elementsEqual(value) { return true }
        start += 1
    }
    return false
}

private func stop(_ asked: Asked, _ what: String, _ answer: [UInt8]) -> Never {
    fatalError("the request \(what): \(asked.bytes): \(String(decoding: answer, as: UTF8.self))")
}
