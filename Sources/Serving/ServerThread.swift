// One serving thread: waits for readiness, reads, lets the handler answer, writes. One read(2) and one write(2) for a
// request, or for a whole group of pipelined ones. Nothing here is shared with another thread but counters.

import Cryptography
import Formats
import HTTP
import Platform
import Synchronization

/// What the threads of one server have in common.
final class ServerShared: @unchecked Sendable {
    let statistics: ServerStatistics
    let bufferedBytes = Atomic<Int>(0)
    let isStopping = Atomic<Bool>(false)

    init(statistics: ServerStatistics) { self.statistics = statistics }
}

final class ServerThread<Handler: RequestHandler & ~Copyable, Time: Clock> {
    private let index: Int
    private let configuration: ServerConfiguration
    private let policy: ServerPolicy
    private let shared: ServerShared
    private let completions: CompletionQueue
    private let clock: Time
    private let listeners: [ServerListener]
    private let poller: Poller
    private var handler: Handler

    private var connections: [Connection] = []
    private var freeSlots: [Int] = []
    private var openCount = 0

    private var readBuffer = [UInt8](repeating: 0, count: Limits.readBytes)
    private var head = RequestHead()
    private var response = Response()
    private var completed: [Completion] = []

    private var now: Int64 = 0
    private var nextScan = Int64.max
    private var dateUntil = Int64.min
    private var isInGroup = false
    private var isStopping = false
    private var areListenersPaused = false
    private var requestsInGroup = 0
    /// Connections that have pipelined more than one turn takes, in the order of their turns.
    private var turns: [UInt64] = []

    init(
        index: Int, configuration: ServerConfiguration, shared: ServerShared, completions: CompletionQueue, clock: Time,
        listeners: [ServerListener], handler: consuming Handler
    ) throws(SystemError) {
        self.index = index
        self.configuration = configuration
        policy = ServerPolicy(
            hostNames: configuration.hostNames, origins: configuration.origins, checksHost: configuration.checksHost)
        self.shared = shared
        self.completions = completions
        self.clock = clock
        self.listeners = listeners
        self.handler = handler
        poller = try Poller()
        try poller.add(
            completions.notifier.raw,
            token: ConnectionToken(thread: index, slot: ConnectionToken.wakeSlot).packed, interest: .read)
        try watchListeners()
    }

    // MARK: The loop

    /// Serves until the server is told to stop and the last connection has gone.
    func run() {
        Thread.name("serving")
        while !(isStopping && openCount == 0) {
            let count: Int
            do {
                count = try poller.wait(milliseconds: turns.isEmpty ? waitMilliseconds() : 0)
            } catch {
                Log.error("a serving thread cannot wait for events") { $0.field("error", error.message) }
                return
            }
            now = clock.monotonicNanoseconds()
            for index in 0..<count { handle(poller.event(index)) }
            if !turns.isEmpty { takeTurn() }
            endGroup()
            if now >= nextScan { scanDeadlines() }
        }
        for connection in connections where connection.isOpen { close(connection) }
    }

    private func waitMilliseconds() -> Int32 {
        if nextScan == .max { return -1 }
        return Int32(clamping: max(0, nextScan - clock.monotonicNanoseconds()) / 1_000_000 + 1)
    }

    private func handle(_ event: Poller.Event) {
        let token = ConnectionToken(packed: event.token)
        if token.slot == ConnectionToken.wakeSlot {
            wake()
        } else if token.slot >= ConnectionToken.firstReservedSlot {
            accept(from: listeners[token.slot - ConnectionToken.firstReservedSlot])
        } else {
            let connection = connections[token.slot]
            guard connection.isOpen && connection.generation == token.generation else { return }
            handle(event, of: connection)
        }
    }

    /// Goes on with the connection that has waited longest for its turn; one, so that no other waits for all of them.
    private func takeTurn() {
        let token = ConnectionToken(packed: turns.removeFirst())
        let connection = connections[token.slot]
        guard connection.isOpen && connection.generation == token.generation else { return }
        connection.waitsForTurn = false
        // Where the socket has not taken all, it goes on when it has.
        if !connection.hasUnsent {
            processInput(connection)
            flush(connection)
        }
        if connection.isOpen { settle(connection) }
    }

    private func handle(_ event: Poller.Event, of connection: Connection) {
        if connection.hasUnsent && event.isWritable {
            sendUnsent(connection)
        } else if connection.wantsInput && (event.isReadable || connection.waitsForWrite) {
            read(connection)
        } else if connection.interest != .read && event.isHangup {
            // Nothing was asked for that could be said of a half-closed connection: it is gone altogether.
            close(connection)
        } else {
            connection.hasUnwantedInput = true
        }
        if connection.isOpen { settle(connection) }
    }

    /// The handler learns of a group when its first request is there, so that a turn without one costs nothing.
    private func beginGroup() {
        requestsInGroup += 1
        if isInGroup { return }
        isInGroup = true
        handler.groupBegins()
        if configuration.sendsDate && now >= dateUntil { renewDate() }
    }

    private func endGroup() {
        guard isInGroup else { return }
        isInGroup = false
        handler.groupEnds()
        shared.statistics.requests.wrappingAdd(requestsInGroup, ordering: .relaxed)
        requestsInGroup = 0
    }

    private func renewDate() {
        let milliseconds = clock.wallMilliseconds()
        dateUntil = now + (1000 - milliseconds % 1000) * 1_000_000
        response.dateLine.removeAll(keepingCapacity: true)
        response.dateLine.append(contentsOf: ("Date: " as StaticString).bytes)
        HTTPDate.write(milliseconds / 1000, into: &response.dateLine)
        response.dateLine.append(contentsOf: ("\r\n" as StaticString).bytes)
    }

    // MARK: Coming and going

    private func watchListeners() throws(SystemError) {
        for number in listeners.indices {
            let token = ConnectionToken(
                thread: index, slot: ConnectionToken.firstReservedSlot + number)
            try poller.add(listeners[number].descriptor.raw, token: token.packed, interest: .read)
        }
    }

    private func ignoreListeners() {
        for listener in listeners { poller.remove(listener.descriptor.raw) }
    }

    private func resumeListeners() {
        if !areListenersPaused || isStopping { return }
        areListenersPaused = false
        do { try watchListeners() } catch { Log.error("cannot listen any more") { $0.field("error", error.message) } }
    }

    private func accept(from listener: ServerListener) {
        for _ in 0..<Limits.acceptsPerTurn {
            do {
                guard let descriptor = try Socket.accept(listener.descriptor.raw) else { return }
                admit(descriptor, listener.tls)
            } catch {
                Log.warning("cannot accept connections for a moment") { $0.field("error", error.message) }
                ignoreListeners()
                areListenersPaused = true
                wantScan(at: now + Limits.acceptPauseNanoseconds)
                return
            }
        }
    }

    /// Gives a new connection its slot, or tells it that there is none.
    private func admit(_ descriptor: consuming Descriptor, _ tls: TLSServerConfiguration?) {
        let open = shared.statistics.openConnections.wrappingAdd(1, ordering: .relaxed).newValue
        if open > configuration.maximumConnections {
            shared.statistics.openConnections.wrappingSubtract(1, ordering: .relaxed)
            shared.statistics.refusedConnections.wrappingAdd(1, ordering: .relaxed)
            if tls == nil { turnAway(descriptor) }
            return
        }
        let raw = descriptor.raw
        let peer = Socket.peerKind(raw)
        if peer != .unixSocket { Socket.setNoDelay(raw) }
        let connection = takeSlot()
        openCount += 1
        shared.statistics.acceptedConnections.wrappingAdd(1, ordering: .relaxed)
        do {
            let deadline = now + Limits.headNanoseconds
            connection.open(try transport(descriptor, tls), peer: peer, deadline: deadline)
            wantScan(at: deadline)
            try poller.add(raw, token: token(connection).packed, interest: .read)
        } catch {
            close(connection)
        }
    }

    private func transport(
        _ descriptor: consuming Descriptor, _ tls: TLSServerConfiguration?
    ) throws(SystemError) -> ConnectionTransport {
        guard let tls else { return ConnectionTransport(plain: descriptor) }
        do {
            return try ConnectionTransport(securing: descriptor, tls)
        } catch {
            throw SystemError("tls", code: error.systemError)
        }
    }

    private func turnAway(_ descriptor: consuming Descriptor) {
        response.begin(toHead: false, minorVersion: 1, keepsAlive: false)
        response.header("Retry-After", 1)
        response.sendProblem(503, "Too many connections are open. Try again in a second.")
        let output = response.output
        _ = transmit(descriptor.raw, output.span)
        response.output.removeAll(keepingCapacity: true)
    }

    private func takeSlot() -> Connection {
        if let slot = freeSlots.popLast() { return connections[slot] }
        let connection = Connection(slot: connections.count)
        connections.append(connection)
        return connection
    }

    private func token(_ connection: Connection) -> ConnectionToken {
        ConnectionToken(
            thread: index, slot: connection.slot, generation: connection.generation,
            serial: connection.pendingSerial)
    }

    private func close(_ connection: Connection) {
        connection.close()
        account(connection)
        freeSlots.append(connection.slot)
        openCount -= 1
        shared.statistics.openConnections.wrappingSubtract(1, ordering: .relaxed)
        // There is a descriptor again for whoever waits to be taken in.
        resumeListeners()
    }

    // MARK: Reading

    private func read(_ connection: Connection) {
        // The buffer is taken out of self while requests borrow from it, so that the handler can be called meanwhile.
        var buffer: [UInt8] = []
        swap(&buffer, &readBuffer)
        let result = connection.transport!.receive(into: &buffer)
        if connection.isSecure { connection.waitsForWrite = connection.transport!.waitsForWrite() }
        switch result {
        case .moved(let count): take(connection, &buffer, count)
        case .ended: endInput(connection)
        case .wouldBlock: break
        case .failed: close(connection)
        }
        swap(&buffer, &readBuffer)
    }

    /// Takes `count` bytes that have come: alone where nothing was left over, otherwise behind what was.
    private func take(_ connection: Connection, _ buffer: inout [UInt8], _ count: Int) {
        if connection.isLingering { return }
        if connection.input.isEmpty {
            let (start, end) = process(connection, &buffer, count)
            if start < end { connection.input.append(contentsOf: buffer.span.extracting(start..<end)) }
        } else {
            connection.input.append(contentsOf: buffer.span.extracting(0..<count))
            processInput(connection)
        }
        flush(connection)
    }

    /// Goes on with what has been left over.
    private func processInput(_ connection: Connection) {
        var buffer: [UInt8] = []
        swap(&buffer, &connection.input)
        let count = buffer.count
        let (start, end) = process(connection, &buffer, count)
        guard start < end, connection.isOpen else { return }
        if end < count { buffer.removeLast(count - end) }
        if start > 0 { buffer.removeFirst(start) }
        swap(&buffer, &connection.input)
    }

    /// Takes requests out of `buffer[0..<count]` until there is none, one is pending, the output is full, or it is others' turn.
    /// - Returns: the stretch that is left over.
    private func process(_ connection: Connection, _ buffer: inout [UInt8], _ count: Int) -> (start: Int, end: Int) {
        var start = 0
        var end = count
        var taken = 0
        while start < end && connection.isOpen && !connection.isPending && !connection.closesAfterOutput {
            if response.output.count >= Limits.outputBytes || taken == Limits.requestsPerTurn {
                flush(connection)
                if connection.hasUnsent || !connection.isOpen { break }
                if !connection.waitsForTurn { turns.append(token(connection).packed) }
                connection.waitsForTurn = true
                break
            }
            taken += 1
            guard takeRequest(connection, &buffer, &start, &end) else { break }
        }
        // Behind the last answer nothing is looked at.
        return connection.closesAfterOutput || !connection.isOpen ? (end, end) : (start, end)
    }

    /// Takes one request, or the next part of one.
    /// - Returns: whether a request was taken, so that another may follow.
    private func takeRequest(
        _ connection: Connection, _ buffer: inout [UInt8], _ start: inout Int, _ end: inout Int
    ) -> Bool {
        switch connection.phase {
        case .head:
            switch parseHead(connection, buffer.span.extracting(start..<end)) {
            case .incomplete:
                expectMore(connection, bytes: end - start)
                return false
            case .invalid(let fault, _):
                refuse(connection, fault)
                return false
            case .complete(let length):
                return takeBody(connection, &buffer, headLength: length, &start, &end)
            }
        case .length(let total):
            guard end - start >= total else {
                extendBodyDeadline(connection, bytes: end - start)
                return false
            }
            let headLength = reparseHead(buffer.span.extracting(start..<end))
            dispatch(connection, buffer.span.extracting(start..<(start + total)), body: ByteRange(headLength, total))
            start += total
            return true
        case .chunked(let headLength, let bodyEnd):
            return takeChunks(connection, &buffer, headLength, bodyEnd, readFrom: start + bodyEnd, &start, &end)
        case .pending, .lingering:
            return false
        }
    }

    private func parseHead(_ connection: Connection, _ input: Span<UInt8>) -> HeadOutcome {
        RequestParser.parse(input, into: &head, progress: &connection.progress)
    }

    /// A head is there: looks at whether it may be answered, and at the body behind it.
    private func takeBody(
        _ connection: Connection, _ buffer: inout [UInt8], headLength: Int, _ start: inout Int, _ end: inout Int
    ) -> Bool {
        let admission = policy.check(
            head, buffer.span.extracting(start..<end), isUnixSocket: connection.peer == .unixSocket,
            isSecure: connection.isSecure)
        switch admission {
        case .granted: connection.origin = -1
        case .grantedToOrigin(let number): connection.origin = number
        case .refused(var refusal):
            refusal.isMoreComing = head.framing != .none
            refuse(connection, refusal)
            return false
        }
        switch head.framing {
        case .none, .untilClose:
            let range = ByteRange(headLength, headLength)
            dispatch(connection, buffer.span.extracting(start..<(start + headLength)), body: range)
            start += headLength
            return true
        case .length(let length):
            guard length <= UInt64(configuration.maximumBodyBytes) else {
                refuse(connection, .bodyTooLarge)
                return false
            }
            let total = headLength + Int(length)
            if end - start >= total {
                dispatch(
                    connection, buffer.span.extracting(start..<(start + total)), body: ByteRange(headLength, total))
                start += total
                return true
            }
            connection.phase = .length(total: total)
            beginBody(connection, reserving: total, received: end - start, hasBody: end - start > headLength)
            return false
        case .chunked:
            connection.decoder = ChunkedDecoder(maximumBodyBytes: configuration.maximumBodyBytes)
            connection.phase = .chunked(headLength: headLength, bodyEnd: headLength)
            beginBody(connection, reserving: end - start, received: end - start, hasBody: end - start > headLength)
            if connection.closesAfterOutput { return false }
            return takeChunks(
                connection, &buffer, headLength, headLength, readFrom: start + headLength, &start, &end)
        }
    }

    private func takeChunks(
        _ connection: Connection, _ buffer: inout [UInt8], _ headLength: Int, _ bodyEnd: Int, readFrom: Int,
        _ start: inout Int, _ end: inout Int
    ) -> Bool {
        var bytes = buffer.mutableSpan
        let outcome = connection.decoder.decode(
            &bytes, bodyStart: start + headLength, bodyEnd: start + bodyEnd, readFrom: readFrom, end: end)
        switch outcome {
        case .incomplete(let bodyEnd):
            connection.phase = .chunked(headLength: headLength, bodyEnd: bodyEnd - start)
            end = bodyEnd
            extendBodyDeadline(connection, bytes: bodyEnd - start)
            reserve(connection, bodyEnd - start)
            return false
        case .invalid(let fault, _):
            refuse(connection, fault)
            return false
        case .complete(let bodyEnd, let next):
            let request = buffer.span.extracting(start..<bodyEnd)
            _ = reparseHead(request)
            dispatch(connection, request, body: ByteRange(headLength, bodyEnd - start))
            start = next
            return true
        }
    }

    /// Parses again the head of a request whose body came later; the thread's table has served others meanwhile.
    private func reparseHead(_ input: Span<UInt8>) -> Int {
        var progress = HeadProgress()
        guard case .complete(let length) = RequestParser.parse(input, into: &head, progress: &progress) else {
            preconditionFailure("a head that was complete is so no more")
        }
        return length
    }

    // MARK: Answering

    /// Hands one request to the routes. `request` holds head and body, from the request's first byte.
    private func dispatch(_ connection: Connection, _ request: Span<UInt8>, body: ByteRange) {
        beginGroup()
        let keepsAlive = head.keepsAlive && !isStopping
        response.begin(toHead: head.method == .head, minorVersion: head.minorVersion, keepsAlive: keepsAlive)
        if connection.origin >= 0 && admitOrigin(connection, request) { return requestEnds(connection) }
        let borrowed = Request(
            request, head: head, body: body, peer: connection.peer, isSecure: connection.isSecure,
            token: token(connection))
        switch handler.handle(borrowed, &response) {
        case .answered:
            if !response.isSent { response.sendProblem(500, "The server has no answer to this.") }
            requestEnds(connection)
        case .pending:
            precondition(!response.isSent, "a pending request has been answered")
            connection.phase = .pending
            connection.deadline = .max
            connection.isPendingToHead = head.method == .head
            connection.pendingMinorVersion = head.minorVersion
            connection.pendingKeepsAlive = keepsAlive
        }
    }

    /// Tells the browser of a configured origin's page that it may call (the Fetch standard's CORS protocol).
    /// - Returns: whether that was all that was asked.
    private func admitOrigin(_ connection: Connection, _ request: Span<UInt8>) -> Bool {
        response.header("Access-Control-Allow-Origin", policy.origins[connection.origin])
        response.header("Vary", "Origin")
        guard head.method == .options,
            head.fields.range(of: "access-control-request-method", in: request) != nil
        else {
            response.header("Access-Control-Expose-Headers", "ETag, Retry-After")
            return false
        }
        response.header("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
        response.header("Access-Control-Allow-Headers", "Authorization, Content-Type, Content-Encoding, If-None-Match")
        response.header("Access-Control-Max-Age", 600)
        if head.fields.range(of: "access-control-request-private-network", in: request) != nil {
            response.header("Access-Control-Allow-Private-Network", "true")
        }
        response.send(204)
        return true
    }

    private func requestEnds(_ connection: Connection) {
        connection.phase = .head
        connection.deadline = now + Limits.idleNanoseconds
        wantScan(at: connection.deadline)
        if !response.keepsAlive { connection.closesAfterOutput = true }
    }

    /// Answers have come from the writer, or the server shall stop.
    private func wake() {
        completions.notifier.clear()
        completions.seen.set(now)
        completions.take(into: &completed)
        for completion in completed { deliver(completion) }
        completed.removeAll(keepingCapacity: true)
        if !isStopping && shared.isStopping.load(ordering: .acquiring) { beginStop() }
    }

    private func deliver(_ completion: Completion) {
        guard completion.token.slot < connections.count else { return }
        let connection = connections[completion.token.slot]
        guard connection.isOpen, connection.isPending, token(connection) == completion.token else { return }
        connection.pendingSerial &+= 1
        response.begin(
            toHead: connection.isPendingToHead, minorVersion: connection.pendingMinorVersion,
            keepsAlive: connection.pendingKeepsAlive && !isStopping)
        if connection.origin >= 0 {
            response.header("Access-Control-Allow-Origin", policy.origins[connection.origin])
            response.header("Vary", "Origin")
        }
        response.headerLines(completion.headerLines)
        response.send(completion.status, completion.contentType, completion.body)
        requestEnds(connection)
        if !connection.input.isEmpty && !connection.closesAfterOutput { processInput(connection) }
        flush(connection)
        if connection.isOpen { settle(connection) }
    }

    /// Answers a breach of the protocol and closes: nobody can say where the next request begins.
    private func refuse(_ connection: Connection, _ fault: ProtocolFault) {
        shared.statistics.malformedRequests.wrappingAdd(1, ordering: .relaxed)
        let isTooLarge = fault.status == 413 || fault.status == 414 || fault.status == 431
        refuse(connection, Refusal(status: fault.status, detail: fault.reason, isMoreComing: isTooLarge))
    }

    private func refuse(_ connection: Connection, _ refusal: Refusal) {
        if configuration.sendsDate && now >= dateUntil { renewDate() }
        response.begin(toHead: false, minorVersion: 1, keepsAlive: false)
        if refusal.retryAfterSeconds > 0 { response.header("Retry-After", refusal.retryAfterSeconds) }
        response.sendProblem(refusal.status, refusal.detail)
        connection.phase = .head
        connection.closesAfterOutput = true
        connection.lingersAfterOutput = refusal.isMoreComing
    }

    // MARK: Waiting for the rest of a request

    private func expectMore(_ connection: Connection, bytes: Int) {
        // The patience for a head begins with its first byte and is not renewed by the next.
        connection.deadline = min(connection.deadline, now + Limits.headNanoseconds)
        wantScan(at: connection.deadline)
        reserve(connection, bytes)
    }

    private func beginBody(_ connection: Connection, reserving bytes: Int, received: Int, hasBody: Bool) {
        connection.bodyBegan = now
        extendBodyDeadline(connection, bytes: received)
        reserve(connection, bytes)
        if head.expectsContinue && !hasBody && !connection.closesAfterOutput { response.appendContinue() }
    }

    private func extendBodyDeadline(_ connection: Connection, bytes: Int) {
        connection.deadline =
            connection.bodyBegan + Limits.bodyGraceNanoseconds
            + Int64(bytes) * (1_000_000_000 / Limits.bodyBytesPerSecond)
        wantScan(at: connection.deadline)
    }

    /// Claims room for an unfinished request among the bytes of all connections, or refuses it.
    private func reserve(_ connection: Connection, _ bytes: Int) {
        let growth = bytes - connection.accountedBytes
        if growth <= 0 { return }
        let total = shared.bufferedBytes.wrappingAdd(growth, ordering: .relaxed).newValue
        connection.accountedBytes = bytes
        if total > configuration.maximumBufferedBytes {
            shared.statistics.refusedConnections.wrappingAdd(1, ordering: .relaxed)
            let detail: StaticString = "Too many requests are under way. Try again in a second."
            refuse(connection, Refusal(status: 503, detail: detail, retryAfterSeconds: 1, isMoreComing: true))
        }
    }

    /// Brings the count of buffered bytes up to date when an event has been handled.
    private func account(_ connection: Connection) {
        var bytes = connection.input.count + connection.unsent.count
        if case .length(let total) = connection.phase, connection.isOpen { bytes = max(bytes, total) }
        if bytes == connection.accountedBytes { return }
        shared.bufferedBytes.wrappingAdd(bytes - connection.accountedBytes, ordering: .relaxed)
        connection.accountedBytes = bytes
    }

    /// The peer will send no more; what it has asked is still answered (RFC 9112 section 9.6).
    private func endInput(_ connection: Connection) {
        connection.hasInputEnded = true
        if connection.isInRequest && !connection.closesAfterOutput {
            refuse(connection, .truncated)
            connection.input = []
            connection.lingersAfterOutput = false
            flush(connection)
        }
    }

    // MARK: Writing

    /// Writes what has been answered, and keeps what the socket does not take.
    private func flush(_ connection: Connection) {
        if response.output.isEmpty { return }
        guard connection.isOpen else {
            response.output.removeAll(keepingCapacity: true)
            return
        }
        var output: [UInt8] = []
        swap(&output, &response.output)
        if connection.hasUnsent {
            connection.unsent.append(contentsOf: output)
            connection.deadline = min(connection.deadline, now + Limits.writeStallNanoseconds)
        } else {
            switch connection.transport!.transmit(output.span) {
            case .moved(let count):
                if count < output.count { keepUnsent(connection, output.span.extracting(count..<output.count)) }
            case .wouldBlock: keepUnsent(connection, output.span)
            case .ended, .failed: close(connection)
            }
        }
        // A large answer leaves its buffer behind; an ordinary one keeps it.
        if output.capacity > 4 * Limits.outputBytes { return }
        output.removeAll(keepingCapacity: true)
        swap(&output, &response.output)
    }

    private func keepUnsent(_ connection: Connection, _ rest: Span<UInt8>) {
        connection.unsent = []
        connection.unsentStart = 0
        connection.unsent.append(contentsOf: rest)
        connection.deadline = now + Limits.writeStallNanoseconds
        wantScan(at: connection.deadline)
    }

    /// The socket takes bytes again.
    private func sendUnsent(_ connection: Connection) {
        let unsent = connection.unsent
        switch connection.transport!.transmit(unsent.span.extracting(connection.unsentStart..<unsent.count)) {
        case .moved(let count):
            connection.unsentStart += count
            connection.deadline = now + Limits.writeStallNanoseconds
            if connection.hasUnsent { return }
        case .wouldBlock: return
        case .ended, .failed:
            close(connection)
            return
        }
        connection.unsent = []
        connection.unsentStart = 0
        if connection.isPending {
            connection.deadline = .max
        } else {
            connection.deadline = now + (connection.isInRequest ? Limits.headNanoseconds : Limits.idleNanoseconds)
            wantScan(at: connection.deadline)
        }
        if !connection.input.isEmpty && !connection.isPending && !connection.closesAfterOutput {
            processInput(connection)
            flush(connection)
        }
    }

    /// Closes what is done with, and waits for the right things of what is not.
    private func settle(_ connection: Connection) {
        if !connection.hasUnsent && !connection.isPending {
            if connection.closesAfterOutput && !connection.isLingering {
                if !connection.lingersAfterOutput || connection.hasInputEnded { return close(connection) }
                linger(connection)
            } else if connection.hasInputEnded && (connection.input.isEmpty || connection.isLingering) {
                return close(connection)
            } else if isStopping && !connection.isInRequest && !connection.isLingering {
                return close(connection)
            }
        }
        account(connection)
        var interest = Poller.Interest()
        if connection.hasUnsent { interest = .write } else if connection.wantsInput {
            interest = connection.waitsForWrite ? .write : .read
        }
        // A pending request mostly has its answer before the client says anything: the interest stays until it does.
        if connection.isPending && !connection.hasUnsent && !connection.hasUnwantedInput { return }
        if interest == connection.interest { return }
        connection.interest = interest
        connection.hasUnwantedInput = false
        do {
            try poller.modify(connection.descriptor, token: token(connection).packed, interest: interest)
        } catch {
            close(connection)
        }
    }

    private func linger(_ connection: Connection) {
        connection.phase = .lingering
        connection.input = []
        connection.deadline = now + Limits.lingerNanoseconds
        wantScan(at: connection.deadline)
    }

    // MARK: Time

    private func wantScan(at deadline: Int64) {
        if deadline < nextScan { nextScan = deadline }
    }

    /// Looks at every connection's deadline, and when to look again.
    private func scanDeadlines() {
        nextScan = .max
        resumeListeners()
        var earliest = Int64.max
        for connection in connections where connection.isOpen {
            if connection.deadline <= now { timeOut(connection) }
            if connection.isOpen { earliest = min(earliest, connection.deadline) }
        }
        if earliest < .max { wantScan(at: max(earliest, now + Limits.timerNanoseconds)) }
    }

    private func timeOut(_ connection: Connection) {
        guard connection.isInRequest && !connection.hasUnsent && !connection.closesAfterOutput else {
            return close(connection)
        }
        shared.statistics.timedOutRequests.wrappingAdd(1, ordering: .relaxed)
        refuse(connection, Refusal(status: 408, detail: "The request did not come to its end in time."))
        connection.input = []
        flush(connection)
        if connection.isOpen { settle(connection) }
    }

    // MARK: Stopping

    private func beginStop() {
        isStopping = true
        if !areListenersPaused { ignoreListeners() }
        for connection in connections where connection.isOpen {
            connection.deadline = min(connection.deadline, now + Limits.stopNanoseconds)
            settle(connection)
        }
        wantScan(at: now + Limits.stopNanoseconds)
    }
}
