// The routes of the local API (DESIGN section 5): who may call what, and which room answers. Events and changes go to
// the writer and are answered after its commit; questions are answered here and now from a snapshot.

import Activation
import Collection
import Cryptography
import Formats
import Governance
import HTTP
import Monitoring
import Platform
import Store
import Unification

/// What all serving threads share.
public final class RoutingTable: @unchecked Sendable {
    public let database: Database
    public let intake: Intake
    public let access: AccessList
    public let meters: Meters
    public let plans: PlanHolder
    /// The device's secrets for keyed hashes.
    public let pepper: Peppers
    /// The device's name, for `device.id` in rules.
    public let device: [UInt8]
    /// Writes `/metrics`; the parts that only the agent knows are added by it.
    public let writeMetrics: (inout MetricsWriter, borrowing Reader) -> Void
    /// What `/readyz` says.
    public let health: Health
    /// What is wrong, the gravest first.
    public let findings: () -> [Finding]
    /// Makes copies of people's records.
    public let clerk: RecordClerk
    /// Runs beside the bundle in force; nil where the configuration has none.
    public let shadow: Shadow?
    /// Whether this is a hub: it takes batches from agents and makes no decisions.
    public let isHub: Bool
    /// Records of decisions on their way to the log.
    public let records: DecisionBox
    /// Whoever is followed.
    public let trace: Trace

    public init(
        database: Database, intake: Intake, access: AccessList, meters: Meters, plans: PlanHolder,
        pepper: Peppers, device: [UInt8], health: Health, clerk: RecordClerk, isHub: Bool,
        records: DecisionBox, shadow: Shadow?, trace: Trace, findings: @escaping () -> [Finding],
        writeMetrics: @escaping (inout MetricsWriter, borrowing Reader) -> Void
    ) {
        self.database = database
        self.intake = intake
        self.access = access
        self.meters = meters
        self.plans = plans
        self.pepper = pepper
        self.device = device
        self.health = health
        self.clerk = clerk
        self.shadow = shadow
        self.isHub = isHub
        self.records = records
        self.trace = trace
        self.findings = findings
        self.writeMetrics = writeMetrics
    }
}

/// The routes as one serving thread has them: its own reader, decider and scratch.
public struct Routes<Time: Clock>: RequestHandler, ~Copyable {
    let table: RoutingTable
    let clock: Time
    var reader: Reader
    private var isReading = false
    var decider: Decider
    private let shadow: ShadowQuestion?
    var inflater = Inflater()
    private var unpacked: [UInt8] = []
    var cloudEvents = CloudEvents()
    var scratch: [UInt8] = []
    var writer = JSONWriter(reserving: 2048)
    var planCache = PlanCache()
    var preparer: EventPreparer
    var normalized = NormalizedIdentifier()
    /// Of the request at hand: number and roles of its token.
    var token = 0
    private var roles: Roles = []

    /// - Parameter thread: number of the serving thread.
    public init(_ table: RoutingTable, thread: Int, clock: Time) throws(StoreError) {
        self.table = table
        self.clock = clock
        reader = try table.database.makeReader()
        preparer = EventPreparer(table.plans, pepper: table.pepper)
        decider = Decider(device: table.device, number: thread, pepper: table.pepper, meters: table.meters,
            serves: table.records.serves)
        shadow = table.shadow.map {
            ShadowQuestion($0, device: table.device, pepper: table.pepper, serves: table.records.serves)
        }
    }

    /// A snapshot is held for one group of requests and never while the thread waits.
    public mutating func groupEnds() {
        // The answers are out.
        if isReading { shadow?.ask(reader) }
        reader.end()
        isReading = false
        if !decider.records.isEmpty, table.records.leave(&decider.records) { table.intake.poke() }
    }

    public mutating func handle(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        let path = request.path
        if path.starts(with: "/ofrep/v1/evaluate/flags") { return answerDecision(request, &response) }
        if path.starts(with: "/v1/profiles/") { return answerProfile(request, &response) }
        if path.equals("/v1/erasures") || path.starts(with: "/v1/erasures/") { return answerErasures(request, &response) }
        if path.equals("/v1/quarantine") || path.starts(with: "/v1/quarantine/") { return answerQuarantine(request, &response) }
        if path.starts(with: "/v1/trace/") { return answerTrace(request, &response) }
        if path.equals("/v1/audit") { return answerAudit(request, &response) }
        if path.equals("/v1/experiments") { return answerExperiments(request, &response) }
        if path.equals("/healthz") { return answerHealth(request, &response) }
        if path.equals("/readyz") { return answerReadiness(request, &response) }
        if path.equals("/metrics") { return answerMetrics(request, &response) }
        if path.equals("/") { return answerConsole(.page, request, &response) }
        if path.equals("/console.css") { return answerConsole(.style, request, &response) }
        if path.equals("/console.js") { return answerConsole(.script, request, &response) }
        if table.isHub {
            if path.equals("/v1/arrivals") { return answerArrivals(request, &response) }
            if path.equals("/v1/devices") { return answerDevices(request, &response) }
            if path.starts(with: "/v1/devices/") { return answerDevice(request, &response) }
            if path.equals("/v1/sync") { return takeSync(request, &response) }
        }
        if path.starts(with: "/v1/") {
            let name = path.extracting(4..<path.count)
            if name.equals("events") { return takeCloudEvents(request, &response) }
            if name.equals("decide"), !table.isHub { return takeDecide(request, &response) }
            if name.equals("batch") { return takeEvents(request, nil, &response) }
            if let type = EventType(name) { return takeEvents(request, type, &response) }
        }
        table.meters.requestsRefused.add()
        response.sendProblem(404, "There is no such route. The README lists them; GET /healthz is one.")
        return .answered
    }

    /// Leaves what is percent-encoded in a path or a query in `scratch`. It is text wherever it goes from there: into
    /// answers, comparisons and hashes.
    /// - Returns: false for what is not encoded properly, or no UTF-8.
    mutating func decode(_ encoded: Span<UInt8>) -> Bool {
        scratch.removeAll(keepingCapacity: true)
        if !percentDecode(encoded, into: &scratch) { return false }
        let text = scratch
        return UTF8Text.firstInvalid(text.span) == nil
    }

    // MARK: Admission to a route

    /// Checks method (HEAD goes where GET goes) and role; answers and returns false when the call must not go on.
    mutating func mayGoOn(
        _ request: borrowing Request, _ role: Roles, _ method: Method, _ response: inout Response
    ) -> Bool {
        if request.method != method, !(method == .get && request.method == .head) {
            table.meters.requestsRefused.add()
            response.header(
                "Allow", method == .post ? "POST" : method == .put ? "PUT" : method == .delete ? "DELETE" : "GET, HEAD")
            sendRefusal(405, "bad_method", "This route does not take this method; see the Allow header.", role, &response)
            return false
        }
        if table.health.isMending, role == .collect || role == .privacy {
            response.header("Retry-After", "5")
            sendRefusal(503, "mending", "The device's store is being mended; send it again in some seconds.", role, &response)
            return false
        }
        roles = .all
        if table.access.isOpen { return true }
        roles = table.access.roles(request.header("authorization"), &scratch, token: &token)
        if roles.contains(role) { return true }
        table.meters.requestsRefused.add()
        refuse(roles, role, &response)
        return false
    }

    private mutating func refuse(_ roles: Roles, _ role: Roles, _ response: inout Response) {
        if roles.isEmpty {
            response.header("WWW-Authenticate", "Bearer, Basic")
            sendRefusal(
                401, "unauthorized", "A token of this device is needed: Authorization: Bearer TOKEN.", role, &response)
        } else {
            sendRefusal(403, "forbidden", "This token does not carry the role that this route needs.", role, &response)
        }
    }

    /// In the form that the route's callers read: the SDKs of the tracking API look for `code` and `message`.
    private mutating func sendRefusal(
        _ status: UInt16, _ code: StaticString, _ words: StaticString, _ role: Roles, _ response: inout Response
    ) {
        if role == .collect {
            sendFailure(code, String(copying: words.bytes), status, &response)
        } else {
            response.sendProblem(status, words)
        }
    }

    mutating func beginReading() -> Bool {
        if isReading { return true }
        do throws(StoreError) { try reader.begin() } catch { return false }
        isReading = true
        return true
    }

    // MARK: Events

    private mutating func takeEvents(
        _ request: borrowing Request, _ type: EventType?, _ response: inout Response
    ) -> Disposition {
        // The tracking API takes its token in the body too, as `writeKey`, where no header has one.
        let hasKeyInBody = !table.access.isOpen && request.method == .post && !request.hasHeader("authorization")
        if !hasKeyInBody {
            guard mayGoOn(request, .collect, .post, &response) else { return .answered }
        }
        let submission = table.intake.obtain()
        let limit = type == nil ? CollectionLimits.batchBytes : CollectionLimits.eventBytes
        guard parse(request, into: submission, limit: limit, &response),
            !hasKeyInBody || isLetIn(byKeyIn: submission.document, &response)
        else {
            table.intake.recycle(submission)
            table.meters.requestsRefused.add()
            return .answered
        }
        // What is no batch, or too long a one, need not go to the writer to be told so. A hub joins nothing.
        if type == nil,
            submission.batch(in: submission.document) == nil
                || !table.isHub && !submission.weighJoined(in: submission.document)
        {
            response.send(submission.status, "application/json", submission.answer)
            table.intake.recycle(submission)
            table.meters.requestsRefused.add()
            return .answered
        }
        submission.work = table.isHub ? .arrivals : .events
        submission.type = type
        submission.isBatch = type == nil
        submission.hasGlobalPrivacyControl = request.header("sec-gpc").equals("1")
        return submit(submission, request, &response)
    }

    private mutating func isLetIn(byKeyIn document: borrowing JSONDocument, _ response: inout Response) -> Bool {
        var roles: Roles = []
        if let key = document.member(document.root, "writeKey"), document.kind(key) == .string {
            roles = table.access.roles(ofToken: document.bytes(key), token: &token)
        }
        if roles.contains(.collect) { return true }
        refuse(roles, .collect, &response)
        return false
    }

    /// Unpacks and parses a body; answers and returns false when it is none.
    mutating func parse(
        _ request: borrowing Request, into submission: Submission, limit: Int, depth: Int = CollectionLimits.eventDepth,
        root: JSONKind = .object, _ response: inout Response
    ) -> Bool {
        if request.body.isEmpty {
            sendFailure(
                "empty_body", root == .array ? "the body must be a JSON array" : "the body must be a JSON object", 400,
                &response)
            return false
        }
        if request.body.count > Limits.preparedAtOnceBytes, table.intake.isFull(forBody: request.body.count) {
            sendBusy(&response)
            return false
        }
        switch unpack(request, limit: limit, &response) {
        case .refused: return false
        case .asItCame:
            return parse(request.body, into: submission, depth: depth, root: root, &response)
        case .unpacked:
            let text = takeUnpacked()
            return parse(text.span, into: submission, depth: depth, root: root, &response)
        }
    }

    /// Where the bytes of a body are.
    enum Body { case asItCame, unpacked, refused }

    /// What `unpack` has left.
    mutating func takeUnpacked() -> [UInt8] {
        let text = unpacked
        if text.capacity > 64 * 1024 { unpacked = [] }
        return text
    }

    /// Undoes the body's content coding; answers when there is more of it than the limit, or when it is another.
    mutating func unpack(_ request: borrowing Request, limit: Int, _ response: inout Response) -> Body {
        let coding = request.header("content-encoding")
        if coding.isEmpty || coding.equalsIgnoringCase("identity") {
            if request.body.count <= limit { return .asItCame }
            sendFailure("too_large", "the body is larger than 500 KiB (32 KiB for one event)", 413, &response)
            return .refused
        }
        guard coding.equalsIgnoringCase("gzip") else {
            sendFailure("bad_encoding", "Content-Encoding must be gzip or absent", 415, &response)
            return .refused
        }
        do throws(GzipError) {
            unpacked.removeAll(keepingCapacity: true)
            try inflater.inflate(request.body, limit: limit, appendingTo: &unpacked)
        } catch {
            if error == .tooLarge {
                sendFailure("too_large", "the unpacked body is larger than 500 KiB (32 KiB for one event)", 413, &response)
            } else {
                sendFailure("bad_gzip", "the body is not whole gzip data", 400, &response)
            }
            return .refused
        }
        return .unpacked
    }

    mutating func parse(
        _ body: Span<UInt8>, into submission: Submission, depth: Int, root: JSONKind, _ response: inout Response
    ) -> Bool {
        do throws(JSONError) {
            try submission.document.parse(body, maximumDepth: depth, maximumValues: CollectionLimits.bodyValues)
        } catch {
            if error.kind == .tooManyValues {
                submission.document = JSONDocument()
                sendFailure("too_many_values", "the body holds more than 98304 values; send it in smaller batches", 413, &response)
                return false
            }
            let words = "the body is not JSON: \(error.message) at line \(error.position.line), column \(error.position.column)"
            sendFailure("bad_json", words, 400, &response)
            return false
        }
        guard submission.document.kind(submission.document.root) == root else {
            if root == .array {
                sendFailure("not_an_array", "the body must be a JSON array", 400, &response)
            } else {
                sendFailure("not_an_object", "the body must be a JSON object", 400, &response)
            }
            return false
        }
        submission.bodyBytes = body.count
        submission.weight = body.count + Limits.preparedNodeBytes * submission.document.nodeCount
        return true
    }

    mutating func submit(
        _ submission: Submission, _ request: borrowing Request, _ response: inout Response
    ) -> Disposition {
        describe(submission, request)
        var isPrepared = true
        if submission.work == .events || submission.work == .decide {
            isPrepared = submission.bodyBytes <= Limits.preparedAtOnceBytes
            if isPrepared { preparer.prepare(submission) }
        }
        if table.intake.submit(submission, isPrepared: isPrepared) { return .pending }
        table.intake.recycle(submission)
        sendBusy(&response)
        return .answered
    }

    mutating func sendBusy(_ response: inout Response) {
        table.meters.requestsShed.add()
        response.header("Retry-After", "1")
        sendFailure("busy", "the device has more to write than it can; send it again in a second", 503, &response)
    }

    /// Notes who asks, when, and where the answer goes.
    mutating func describe(_ submission: Submission, _ request: borrowing Request) {
        submission.arrivedNanoseconds = clock.monotonicNanoseconds()
        submission.receivedAt = clock.wallMilliseconds()
        submission.connection = request.token.rawValue
        submission.source = table.access.source(of: token)
        if table.isHub {
            submission.speaker = table.access.speaker(of: token)
            submission.mayErase = roles.contains(.privacy)
        }
        switch submission.work {
        case .events, .decide, .arrivals, .sync: break
        default: submission.actor = table.access.name(request.header("authorization"), &scratch)
        }
    }

    /// An error in the form of the Segment API: `code` and `message`.
    mutating func sendFailure(_ code: StaticString, _ message: String, _ status: UInt16, _ response: inout Response) {
        writer.clear()
        let words = Array(message.utf8)
        writer.failure(code, words.span)
        response.send(status, "application/json", writer.bytes)
    }

    // MARK: Decisions

    private mutating func answerDecision(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .decide, .post, &response) else { return .answered }
        let begin = clock.monotonicNanoseconds()
        let rest = request.path.extracting(24..<request.path.count)
        let isBulk = rest.isEmpty
        guard isBulk || (rest.count > 1 && rest[0] == UInt8(ascii: "/")) else {
            response.sendProblem(404, "There is no such route. Ask for a flag: /ofrep/v1/evaluate/flags/KEY.")
            return .answered
        }
        guard beginReading() else {
            response.header("Retry-After", "1")
            response.sendProblem(503, "The store cannot be read just now.")
            return .answered
        }
        let policy = table.plans.current(&planCache).policy
        writer.clear()
        let now = clock.wallMilliseconds()
        var isExplaining = false
        if !request.query.isEmpty, let range = queryValue("explain", in: request.query) {
            // Rules are the business of who runs the device.
            guard mayGoOn(request, .operate, .post, &response) else { return .answered }
            isExplaining = request.query.bytes(range).equals("true")
        }
        if isBulk {
            let status = decider.answerAll(policy, request.body, now: now, reader, into: &writer)
            if status == 200 { keepForShadow(policy, Span<UInt8>(), request.body, now) }
            finishBulk(status, request, &response)
        } else {
            guard decode(rest.extracting(1..<rest.count)) else {
                response.sendProblem(400, "The flag's key is not properly percent-encoded UTF-8.")
                return .answered
            }
            let name = scratch
            let status = decider.answer(
                policy, name.span, request.body, now: now, reader, isExplaining: isExplaining, into: &writer)
            if status == 200 { keepForShadow(policy, name.span, request.body, now) }
            response.send(status, "application/json", writer.bytes)
        }
        traceDecision()
        let latency = clock.monotonicNanoseconds() - begin
        table.meters.decide.record(nanoseconds: latency)
        decider.noteLatency(nanoseconds: latency)
        return .answered
    }

    private func keepForShadow(_ policy: Policy, _ key: Span<UInt8>, _ body: Span<UInt8>, _ now: Int64) {
        guard let shadow else { return }
        let answer = writer.bytes
        shadow.keep(policy, key, body, answer: answer.span, servePlace: decider.servePlace, now: now)
    }

    private mutating func finishBulk(_ status: UInt16, _ request: borrowing Request, _ response: inout Response) {
        guard status == 200 else {
            response.send(status, "application/json", writer.bytes)
            return
        }
        // The tag names the flags' values and the question: it changes with the flags, with the person and with the context,
        // and not with what is said of this answer alone.
        var tag: [UInt8] = [UInt8(ascii: "\"")]
        let answer = writer.bytes
        for digest in [SHA256.hash(answer.span.extracting(0..<decider.lastingBytes)), SHA256.hash(request.body)] {
            for index in 0..<8 {
                tag.append(Hex.digit(digest[index] >> 4))
                tag.append(Hex.digit(digest[index] & 0xF))
            }
        }
        tag.append(UInt8(ascii: "\""))
        response.header("ETag", tag.span)
        let seen = request.header("if-none-match")
        let bare = tag.span.extracting(1..<tag.count - 1)
        if seen.equals(tag.span) || seen.equals(bare) {
            response.send(304)
        } else {
            response.send(200, "application/json", writer.bytes)
        }
    }
}
