// The way to one destination: POST over a kept connection, HTTPS with verified certificates, plain HTTP to this device
// only. Blocking with time-outs, for a delivery thread; it need not know what the bodies hold or when to try again. Single
// questions whose answer is wanted go the same way.

import Cryptography
import Formats
import HTTP
import Platform
import Synchronization

/// Tells the network waits of one agent to end. Any thread may set it.
public final class Cancellation: Sendable {
    private let flag = Atomic<Bool>(false)
    public init() {}
    public func cancel() { flag.store(true, ordering: .relaxed) }
    public var isCancelled: Bool { flag.load(ordering: .relaxed) }
}

/// How long the parts of a request may take, milliseconds.
public struct RequestTimes: Sendable {
    public var connect = Limits.connectMilliseconds
    public var handshake = Limits.handshakeMilliseconds
    public var sendStall = Limits.sendStallMilliseconds
    public var firstByte = Limits.firstByteMilliseconds
    public var whole = Limits.requestMilliseconds
    public init() {}
}

/// A client of one URL. Used by one thread at a time.
public final class HTTPSClient<Time: Clock>: Transport {
    private let url: DestinationURL
    /// A Unix socket of this device to go to, in place of the URL's host.
    private let socketPath: String?
    private let authorities: TLSClientConfiguration
    private let times: RequestTimes
    private let cancellation: Cancellation
    private let clock: Time
    private let floor: ClockFloor
    /// The request's head up to the content length, which differs.
    private let headStart: [UInt8]
    /// What the certificate must be for, and what messages call the other side.
    private var host: String { url.host }

    private var connection: Connection?
    private var resumption: TLSResumption?
    private var request: [UInt8] = []
    private var answer: [UInt8] = []
    /// Whether all of the request has gone out: a server may answer before (413), and then the connection is spent.
    private var isRequestSent = false
    private var head = ResponseHead()

    /// The entity tag of the answer to the last question (RFC 9110 section 8.8.3), quotes with it; empty where it had none.
    public private(set) var entityTag: [UInt8] = []

    /// What it has done, for tests and metrics.
    public private(set) var connectionsOpened = 0
    public private(set) var handshakesResumed = 0

    /// - Parameters:
    ///   - token: sent as the user name of Basic authentication.
    ///   - authorities: whom to trust, and our own certificate.
    ///   - version: for User-Agent.
    ///   - socket: the path of a Unix socket to use in place of the URL's host.
    ///   - floor: the least that the time can be, which this client learns besides.
    public init(
        url: DestinationURL, token: [UInt8]?, authorities: TLSClientConfiguration, version: StaticString,
        socket: String? = nil, times: RequestTimes = RequestTimes(), cancellation: Cancellation, clock: Time,
        floor: ClockFloor = ClockFloor()
    ) {
        self.floor = floor
        self.url = url
        socketPath = socket
        self.authorities = authorities
        self.times = times
        self.cancellation = cancellation
        self.clock = clock
        headStart = makeHeadStart(url, token, version)
    }

    public func post(
        _ body: Span<UInt8>, format: WireFormat, head: [UInt8], meanwhile: () -> Void = {}
    ) -> DeliveryResult {
        let deadline = clock.monotonicNanoseconds() + times.whole * 1_000_000
        writeRequest(body, format, head)
        while true {
            let isReused = isConnectionUsable()
            if !isReused, let failure = open(deadline) {
                close()
                return .unreachable(failure)
            }
            guard let connection else { return .unreachable(cancelled) }  // open() has made one
            switch exchange(connection, deadline, meanwhile) {
            case .answered(let result): return result
            case .failed(let failure):
                close()
                return .unreachable(failure)
            case .lostBeforeAnswer(let failure):
                // The server closed a kept connection just as we used it (RFC 9112 section 9.3.1). Repeating is right
                // for any POST here: the receiver drops repeats by messageId.
                close()
                if !isReused { return .unreachable(failure) }
            }
        }
    }

    public func rest() {
        close()
        if request.capacity > Limits.idleBufferBytes { request = [] }
        answer = []
    }

    // MARK: A single question

    /// Sends one request and takes all of its answer. Each has a connection of its own, so that none is ever
    /// sent twice.
    /// - Parameters:
    ///   - target: path and query, percent-encoded.
    ///   - token: sent as a bearer token (RFC 6750); visible ASCII.
    ///   - fields: further lines of the head, each with its end.
    ///   - question: the request's body; nil for none.
    ///   - limitBytes: the longest body that is taken.
    /// - Returns: the answer's status, 200 to 599, and its body; nil for a body that is longer.
    public func ask(
        _ method: StaticString, _ target: [UInt8], token: [UInt8]?, fields: [UInt8] = [], body question: [UInt8]? = nil,
        limitBytes: Int
    ) throws(TransportFailure) -> (status: UInt16, body: [UInt8]?) {
        close()
        defer { close() }
        let deadline = clock.monotonicNanoseconds() + times.whole * 1_000_000
        entityTag = []
        writeQuestion(method, target, token, fields, question)
        if let failure = open(deadline) { throw failure }
        guard let connection else { throw cancelled }  // open() has made one
        var body: [UInt8]? = []
        switch exchangeHeads(connection, deadline) {
        case .failed(let failure), .lostBeforeAnswer(let failure): throw failure
        case .head(let length, let received):
            noteEntityTag()
            switch readBody(connection, length, received, deadline, limit: limitBytes, into: &body) {
            case .failed(let failure): throw failure
            case .tooLong: return (head.status, nil)
            case .clean, .whole: return (head.status, body)
            }
        }
    }

    private func noteEntityTag() {
        let bytes = answer
        let span = bytes.span
        if let tag = head.fields.range(of: "etag", in: span) { entityTag = [UInt8](copying: span.bytes(tag)) }
    }

    private func writeQuestion(
        _ method: StaticString, _ target: [UInt8], _ token: [UInt8]?, _ fields: [UInt8], _ body: [UInt8]?
    ) {
        request.removeAll()
        append(method)
        append(" ")
        request += target
        append(" HTTP/1.1\r\nHost: ")
        url.appendAuthority(to: &request)
        if let token {
            append("\r\nAuthorization: Bearer ")
            request += token
        }
        append("\r\n")
        request += fields
        if let body {
            append("Content-Type: application/octet-stream\r\nContent-Length: ")
            appendInteger(UInt64(body.count), to: &request)
            append("\r\n")
        }
        append("Connection: close\r\n\r\n")
        if let body { request += body }
    }

    // MARK: The connection

    /// Whether there is one that the server has not closed or written to since.
    private func isConnectionUsable() -> Bool {
        guard let connection else { return false }
        let isQuiet = (try? Socket.wait(connection.raw, toWrite: false, milliseconds: 0)) == false
        if !isQuiet { close() }
        return isQuiet
    }

    private func close() {
        connection?.close()
        connection = nil
    }

    /// Connects, to each of the host's addresses in turn, and shakes hands.
    private func open(_ deadline: Int64) -> TransportFailure? {
        if let socketPath { return connect(path: socketPath) }
        var failure: TransportFailure?
        for address in addresses {
            failure = connect(address, deadline)
            if failure == nil { break }
        }
        if let failure { return failure }
        guard let connection, url.isSecure else { return nil }
        return shakeHands(connection, deadline)
    }

    /// RFC 6761 section 6.3: "localhost" is this device, and no resolver is asked; it may serve on either loopback address.
    private var addresses: [String] { host == "localhost" ? ["127.0.0.1", "::1"] : [host] }

    private func connect(_ address: String, _ deadline: Int64) -> TransportFailure? {
        let until = min(deadline, clock.monotonicNanoseconds() + times.connect * 1_000_000)
        do { return finishConnecting(try Socket.connect(host: address, port: url.port), until) } catch {
            switch error {
            case .unresolved(let words):
                return TransportFailure(stage: .resolve, message: joined(host, " cannot be resolved: ", words))
            case .system(let error):
                return noConnection(host, SystemError.text(error.code))
            }
        }
    }

    private func connect(path: String) -> TransportFailure? {
        do throws(SystemError) {
            connection = Connection(try Socket.connect(path: path))
            return nil
        } catch {
            return noConnection(path, SystemError.text(error.code))
        }
    }

    private func finishConnecting(_ descriptor: consuming Descriptor, _ until: Int64) -> TransportFailure? {
        let raw = descriptor.raw
        switch wait(raw, toWrite: true, until: until) {
        case .ready, .answerCame: break
        case .timedOut:
            return noConnection(place, "not within the time")
        case .cancelled: return cancelled
        }
        let code = Socket.connectionError(raw)
        if code != 0 {
            return noConnection(place, SystemError.text(code))
        }
        if !url.isSecure && Socket.peerKind(raw) != .loopback {
            return noConnection(host, "it is not this device: use https:")
        }
        Socket.setNoDelay(raw)
        connection = Connection(descriptor)
        connectionsOpened += 1
        return nil
    }

    private var place: String { joined(host, " port ", String(url.port)) }

    private func noConnection(_ place: String, _ reason: String) -> TransportFailure {
        TransportFailure(stage: .connect, message: joined("no connection to ", place, ": ", reason))
    }

    private func shakeHands(_ connection: Connection, _ deadline: Int64) -> TransportFailure? {
        let until = min(deadline, clock.monotonicNanoseconds() + times.handshake * 1_000_000)
        do {
            var session = try TLSSession(
                connectingTo: host, descriptor: connection.raw, configuration: authorities,
                now: clock.seconds(notBefore: floor), resuming: resumption)
            while true {
                switch session.handshake() {
                case .done:
                    if session.wasResumed { handshakesResumed += 1 }
                    resumption = session.resumption()
                    connection.session = consume session
                    return nil
                case .wantRead: if let failure = waitInHandshake(connection, toWrite: false, until) { return failure }
                case .wantWrite: if let failure = waitInHandshake(connection, toWrite: true, until) { return failure }
                case .closed: return TransportFailure(stage: .handshake, message: joined(host, " ended the handshake"))
                case .failed(let error):
                    resumption = nil
                    return TransportFailure(stage: .handshake, message: error.message)
                }
            }
        } catch { return TransportFailure(stage: .handshake, message: error.message) }
    }

    private func waitInHandshake(_ connection: Connection, toWrite: Bool, _ until: Int64) -> TransportFailure? {
        switch wait(connection.raw, toWrite: toWrite, until: until) {
        case .ready, .answerCame: return nil
        case .timedOut: return TransportFailure(stage: .handshake, message: joined("no TLS handshake with ", host, " within the time"))
        case .cancelled: return cancelled
        }
    }

    private var noHTTP: TransportFailure {
        TransportFailure(stage: .receive, message: joined(host, " answers with something that is not HTTP/1.1"))
    }

    private var cancelled: TransportFailure { TransportFailure(stage: .cancelled, message: "the agent is stopping") }

    private enum Readiness { case ready, answerCame, timedOut, cancelled }

    /// Waits in short pieces, so that a stop request is noticed.
    /// - Parameter isAnswerAwaited: while waiting to write, look for bytes to read too (RFC 9112 section 9.5: a client
    ///   watches for an early answer while it sends).
    private func wait(_ descriptor: Int32, toWrite: Bool, until: Int64, isAnswerAwaited: Bool = false) -> Readiness {
        while true {
            if cancellation.isCancelled { return .cancelled }
            if isAnswerAwaited, (try? Socket.wait(descriptor, toWrite: false, milliseconds: 0)) == true {
                return .answerCame
            }
            let left = (until - clock.monotonicNanoseconds()) / 1_000_000
            if left <= 0 { return .timedOut }
            let piece = min(left, Limits.cancellationMilliseconds)
            // An error of poll(2) itself comes up in the read or write that follows.
            if (try? Socket.wait(descriptor, toWrite: toWrite, milliseconds: piece)) != false { return .ready }
        }
    }

    // MARK: The exchange

    private enum Exchange {
        case answered(DeliveryResult)
        case failed(TransportFailure)
        /// The connection broke before a byte of the answer came.
        case lostBeforeAnswer(TransportFailure)
    }

    private func writeRequest(_ body: Span<UInt8>, _ format: WireFormat, _ head: [UInt8]) {
        request.removeAll(keepingCapacity: true)
        request.reserveCapacity(headStart.count + 128 + head.count + body.count)
        request.append(contentsOf: headStart)
        switch format {
        case .segment, .webhook: append("Content-Type: application/json\r\n")
        case .cloudEvents: append("Content-Type: application/cloudevents-batch+json\r\n")
        }
        request.append(contentsOf: head)
        if format != .webhook { append("Content-Encoding: gzip\r\n") }
        append("Content-Length: ")
        appendInteger(UInt64(body.count), to: &request)
        append("\r\n\r\n")
        request.append(contentsOf: body)
    }

    private func append(_ text: StaticString) { request.append(contentsOf: text.bytes) }

    private func exchange(_ connection: Connection, _ deadline: Int64, _ meanwhile: () -> Void) -> Exchange {
        switch exchangeHeads(connection, deadline, meanwhile) {
        case .head(let length, let received): return .answered(finish(connection, length, received, deadline))
        case .failed(let failure): return .failed(failure)
        case .lostBeforeAnswer(let failure): return .lostBeforeAnswer(failure)
        }
    }

    /// What came of sending the request and reading the answer as far as its head.
    private enum Arrival {
        /// `head` is set; the first `received` bytes of `answer` have come, `length` of which it takes up.
        case head(length: Int, received: Int)
        case failed(TransportFailure)
        /// The connection broke before a byte of the answer came.
        case lostBeforeAnswer(TransportFailure)
    }

    private func exchangeHeads(_ connection: Connection, _ deadline: Int64, _ meanwhile: () -> Void = {}) -> Arrival {
        if let failure = send(connection, deadline) { return .failed(failure) }
        if isRequestSent { meanwhile() }
        if answer.isEmpty { answer = [UInt8](repeating: 0, count: Limits.readBytes) }
        let sentAt = clock.monotonicNanoseconds()
        var progress = HeadProgress()
        var received = 0
        while true {
            let until = received == 0 ? min(deadline, sentAt + times.firstByte * 1_000_000) : deadline
            switch receive(connection, at: received, until) {
            case .moved(let count): received += count
            case .ended, .broken:
                let failure = lost(connection, " closed the connection without an answer")
                return received == 0 ? .lostBeforeAnswer(failure) : .failed(failure)
            case .gaveUp(let failure): return .failed(failure)
            }
            switch parse(received, &progress) {
            case .incomplete: continue
            case .invalid:
                return .failed(noHTTP)
            case .complete(let length):
                if url.isSecure { learnTime() }
                return .head(length: length, received: received)
            }
        }
    }

    /// What TLS found wrong says more than that the connection is gone.
    private func lost(_ connection: Connection, _ words: String) -> TransportFailure {
        TransportFailure(stage: .receive, message: connection.fault ?? joined(host, words))
    }

    private func learnTime() {
        let bytes = answer
        let span = bytes.span
        guard let range = head.fields.range(of: "date", in: span) else { return }
        if let date = HTTPDate.parse(span.bytes(range)) { floor.learn(clock: clock.wallMilliseconds() / 1000, server: date) }
    }

    private func parse(_ received: Int, _ progress: inout HeadProgress) -> HeadOutcome {
        let bytes = answer
        let span = bytes.span
        return ResponseParser.parse(span.extracting(0..<received), into: &head, progress: &progress)
    }

    private func send(_ connection: Connection, _ deadline: Int64) -> TransportFailure? {
        var sent = 0
        isRequestSent = false
        while sent < request.count {
            let toWrite: Bool
            switch connection.write(request, from: sent) {
            case .moved(let count):
                sent += count
                continue
            case .wantRead: toWrite = false
            case .wantWrite: toWrite = true
            case .ended, .failed:
                // Perhaps the server answered early and closed: the answer is read next, or its absence noticed.
                return nil
            }
            let until = min(deadline, clock.monotonicNanoseconds() + times.sendStall * 1_000_000)
            switch wait(connection.raw, toWrite: toWrite, until: until, isAnswerAwaited: toWrite) {
            case .ready: break
            case .answerCame: return nil
            case .timedOut:
                return TransportFailure(stage: .send, message: joined(host, " takes no more bytes"))
            case .cancelled: return cancelled
            }
        }
        isRequestSent = true
        return nil
    }

    private enum Receipt {
        case moved(Int), ended, broken, gaveUp(TransportFailure)
    }

    private func receive(_ connection: Connection, at offset: Int, _ until: Int64) -> Receipt {
        while true {
            let toWrite: Bool
            switch connection.read(into: &answer, from: offset) {
            case .moved(let count): return .moved(count)
            case .ended: return .ended
            case .failed: return .broken
            case .wantRead: toWrite = false
            case .wantWrite: toWrite = true
            }
            switch wait(connection.raw, toWrite: toWrite, until: until) {
            case .ready, .answerCame: break
            case .timedOut: 
                return .gaveUp(TransportFailure(stage: .receive, message: joined("no answer from ", host, " within the time")))
            case .cancelled: return .gaveUp(cancelled)
            }
        }
    }

    /// The answer's head is there: what it says, and the rest of the answer out of the way of the next one.
    private func finish(
        _ connection: Connection, _ headLength: Int, _ received: Int, _ deadline: Int64
    ) -> DeliveryResult {
        let result = DeliveryResult(status: head.status, retryAfterMilliseconds: retryAfter)
        // An answer without a length ends when the server likes, and what it says stands in its head.
        if isRequestSent, head.framing != .untilClose {
            var kept: [UInt8]? = head.status == 400 && url.isSecure ? [] : nil
            let end = readBody(connection, headLength, received, deadline, limit: Limits.answerBodyBytes, into: &kept)
            if case .clean = end, head.keepsAlive { return result }
            if case .failed(let failure) = end, case .delivered = result {
                // Cut off, perhaps by somebody between: nothing of it counts. What arrives twice is dropped there.
                close()
                return .unreachable(failure)
            }
            if let kept, contains(kept.span, "SSL certificate") {
                // nginx takes a client whose certificate it misses or does not accept for one that sent a bad request. With
                // the events nothing is wrong; a resumed session would be refused again.
                close()
                resumption = nil
                return .unreachable(TransportFailure(stage: .handshake, message: joined(host, noOwnCertificate)))
            }
        }
        close()
        return result
    }

    private var noOwnCertificate: String {
        authorities.identity == nil
            ? " asks for a certificate of this device: give tls.client_cert and tls.client_key"
            : " does not accept the certificate of this device"
    }

    private var retryAfter: Int64? {
        let bytes = answer
        let span = bytes.span
        guard let range = head.fields.range(of: "retry-after", in: span) else { return nil }
        return retryAfterSeconds(span.bytes(range), now: clock.wallMilliseconds() / 1000).map { $0 * 1000 }
    }

    private enum BodyEnd {
        /// The answer has ended, and nothing came behind it.
        case clean
        case whole, tooLong
        case failed(TransportFailure)
    }

    /// Reads the answer's body, piece by piece.
    /// - Parameters:
    ///   - limit: the bytes that it may have.
    ///   - kept: where it is appended; nil: it is thrown away.
    private func readBody(
        _ connection: Connection, _ headLength: Int, _ received: Int, _ deadline: Int64, limit: Int, into kept: inout [UInt8]?
    ) -> BodyEnd {
        var decoder = ChunkedDecoder(maximumBodyBytes: limit)
        var (start, end, taken) = (headLength, received, 0)
        // Without a length: as much as comes.
        var left = UInt64.max
        if case .length(let length) = head.framing { left = length }
        if head.framing == .none { left = 0 }
        if left != .max && left > UInt64(limit) { return .tooLong }
        while true {
            var bodyEnd = start + Int(min(UInt64(end - start), left))
            var next = bodyEnd
            left -= UInt64(bodyEnd - start)
            if head.framing == .chunked {
                switch decodeChunks(&decoder, &answer, start, end) {
                case .incomplete(let decoded): bodyEnd = decoded
                case .complete(let decoded, let following): (bodyEnd, next, left) = (decoded, following, 0)
                case .invalid(.bodyTooLarge, _): return .tooLong
                case .invalid: return .failed(noHTTP)
                }
            }
            taken += bodyEnd - start
            if taken > limit { return .tooLong }
            kept?.append(contentsOf: answer[start..<bodyEnd])
            if left == 0 { return next == end ? .clean : .whole }
            switch receive(connection, at: 0, deadline) {
            case .moved(let count): (start, end) = (0, count)
            case .ended where head.framing == .untilClose: return .whole
            case .ended, .broken:
                return .failed(lost(connection, " closed the connection in the middle of its answer"))
            case .gaveUp(let failure): return .failed(failure)
            }
        }
    }
}

private func contains(_ bytes: Span<UInt8>, _ words: StaticString) -> Bool {
    let wanted = words.bytes
    var start = 0
    while start + wanted.count <= bytes.count {
        if equal(bytes.extracting(start..<start + wanted.count), wanted) { return true }
        start += 1
    }
    return false
}

/// Decodes each piece by itself: what came before it has been taken, or is not wanted.
private func decodeChunks(_ decoder: inout ChunkedDecoder, _ bytes: inout [UInt8], _ start: Int, _ end: Int) -> ChunkedOutcome {
    var buffer = bytes.mutableSpan
    return decoder.decode(&buffer, bodyStart: start, bodyEnd: start, readFrom: start, end: end)
}

/// The request up to its content type: everything that is the same each time.
private func makeHeadStart(_ url: DestinationURL, _ token: [UInt8]?, _ version: StaticString) -> [UInt8] {
    var head: [UInt8] = []
    func append(_ text: StaticString) { head.append(contentsOf: text.bytes) }
    append("POST ")
    head.append(contentsOf: url.target.span)
    append(" HTTP/1.1\r\nHost: ")
    url.appendAuthority(to: &head)
    append("\r\nUser-Agent: gatehouse/")
    append(version)
    append("\r\n")
    if let token {
        append("Authorization: Basic ")
        let credentials = token + [UInt8(ascii: ":")]
        Base64.append(credentials.span, to: &head)
        append("\r\n")
    }
    return head
}

/// A connected socket, with TLS or without.
private final class Connection {
    private let descriptor: Descriptor
    var session: TLSSession?
    let raw: Int32
    /// What TLS found wrong, in words; nil for an end without a word, which is as it is without TLS.
    private(set) var fault: String?

    enum Step {
        case moved(Int), wantRead, wantWrite, ended, failed
    }

    init(_ descriptor: consuming Descriptor) {
        raw = descriptor.raw
        self.descriptor = descriptor
        session = nil
    }

    func write(_ bytes: [UInt8], from offset: Int) -> Step {
        let rest = bytes.span.extracting(offset..<bytes.count)
        guard session != nil else {
            switch transmit(raw, rest) {
            case .moved(let count): return .moved(count)
            case .wouldBlock: return .wantWrite
            case .ended, .failed: return .failed
            }
        }
        return step(session!.write(rest))
    }

    func read(into buffer: inout [UInt8], from offset: Int) -> Step {
        guard session != nil else {
            switch receive(raw, into: &buffer, from: offset) {
            case .moved(let count): return .moved(count)
            case .ended: return .ended
            case .wouldBlock: return .wantRead
            case .failed: return .failed
            }
        }
        var whole = buffer.mutableSpan
        var rest = whole._mutatingExtracting(offset..<whole.count)
        return step(session!.read(into: &rest))
    }

    /// Says goodbye as far as that goes without waiting.
    func close() {
        if session != nil { _ = session!.close() }
    }

    private func step(_ progress: TLSProgress) -> Step {
        switch progress {
        case .done(let count): return .moved(count)
        case .wantRead: return .wantRead
        case .wantWrite: return .wantWrite
        case .closed: return .ended
        case .failed(let error):
            switch error.reason {
            case .truncated, .connectionLost: break
            default: fault = error.message
            }
            return .failed
        }
    }
}

/// The same bytes. What Swift itself compares by knows that letters can be written in several ways, which nothing here depends on,
/// and brings 40 KB of tables.
extension String {
    static func == (left: String, right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }
    static func != (left: String, right: String) -> Bool { !left.utf8.elementsEqual(right.utf8) }
    static func ~= (pattern: String, value: String) -> Bool { pattern.utf8.elementsEqual(value.utf8) }
}
