// What libFuzzer calls with each input; see Tools/fuzz. Any answer to a stream of requests is right. A crash, a hang or too
// much memory is not, nor is a stream that reads differently in pieces than whole, a body beyond the limit, or a head in
// which another reader could see other lines or another end.
//
// The first byte says into how many pieces the stream is cut and whether runs are written short; so many bytes, the
// lengths of the pieces, follow (they are used in turn); the rest is the stream.

import HTTP

/// One request as a server takes it.
private struct Taken: Equatable {
    var method: Method
    var target: [UInt8]
    var path: [UInt8]
    var query: [UInt8]
    var host: [UInt8]
    var framing: BodyFraming
    var keepsAlive: Bool
    var expectsContinue: Bool
    var fields: [[UInt8]]
    var body: [UInt8]
}

/// What becomes of a stream.
private struct Conversation: Equatable {
    var requests: [Taken] = []
    var fault: ProtocolFault?
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard let (stream, pieces, maximum) = wire(Array(UnsafeBufferPointer(start: start, count: count))) else { return 0 }
    let whole = read(stream, pieces: [stream.count], maximum)
    let cut = read(stream, pieces: pieces, maximum)
    if whole != cut { stop(stream, "is read differently in pieces of \(pieces): \(cut), not \(whole)") }
    parts(stream)
    return 0
}

/// Reads requests as a serving thread does: a head with the progress of its connection, chunks moved down as they come.
private func read(_ stream: [UInt8], pieces: [Int], _ maximum: Int) -> Conversation {
    var conversation = Conversation()
    var buffer: [UInt8] = []
    var progress = HeadProgress()
    var head = RequestHead()
    var headLength: Int?
    var decoder = ChunkedDecoder(maximumBodyBytes: maximum)
    var bodyEnd = 0
    var taken = 0
    var turn = 0
    while taken < stream.count {
        let size = min(stream.count - taken, max(1, pieces[turn % pieces.count]))
        turn += 1
        var readFrom = buffer.count
        buffer += stream[taken..<taken + size]
        taken += size
        while true {
            if headLength == nil {
                switch parse(buffer, &head, &progress) {
                case .incomplete: break
                case .invalid(let fault, let offset):
                    if offset < 0 || offset > buffer.count { stop(stream, "fails outside of itself") }
                    conversation.fault = fault
                    return conversation
                case .complete(let length):
                    check(head, length, buffer, stream)
                    headLength = length
                    decoder = ChunkedDecoder(maximumBodyBytes: maximum)
                    bodyEnd = length
                    readFrom = length
                    if case .length(let body) = head.framing, body > UInt64(maximum) {
                        conversation.fault = .bodyTooLarge
                        return conversation
                    }
                }
            }
            guard let length = headLength else { break }
            var next = length
            switch head.framing {
            case .none: break
            case .untilClose: stop(stream, "has a request that ends with the connection")
            case .length(let body):
                bodyEnd = length + Int(body)
                next = bodyEnd
            case .chunked:
                switch decode(&decoder, &buffer, length, bodyEnd, readFrom) {
                case .incomplete(let end):
                    buffer.removeSubrange(end...)
                    bodyEnd = end
                    next = .max
                case .invalid(let fault, let offset):
                    if offset < 0 || offset > buffer.count { stop(stream, "has a chunk that fails outside of itself") }
                    conversation.fault = fault
                    return conversation
                case .complete(let end, let following):
                    bodyEnd = end
                    next = following
                }
            }
            guard next <= buffer.count else { break }
            if bodyEnd - length > maximum { stop(stream, "has a body of \(bodyEnd - length) bytes, beyond \(maximum)") }
            conversation.requests.append(request(head, buffer, Array(buffer[length..<bodyEnd])))
            if !head.keepsAlive { return conversation }
            buffer.removeSubrange(..<next)
            headLength = nil
            progress = HeadProgress()
        }
    }
    // A breach in a line that has not come to its end may be told with the line's end only: it is there all the same.
    if headLength == nil, !buffer.isEmpty {
        var afresh = HeadProgress()
        if case .invalid(let fault, _) = parse(buffer, &head, &afresh) { conversation.fault = fault }
    }
    return conversation
}

private func parse(_ bytes: [UInt8], _ head: inout RequestHead, _ progress: inout HeadProgress) -> HeadOutcome {
    let span = bytes.span
    return RequestParser.parse(span, into: &head, progress: &progress)
}

private func request(_ head: RequestHead, _ bytes: [UInt8], _ body: [UInt8]) -> Taken {
    var fields: [[UInt8]] = []
    for index in 0..<head.fields.count {
        fields.append(slice(bytes, head.fields[index].name))
        fields.append(slice(bytes, head.fields[index].value))
    }
    return Taken(
        method: head.method, target: slice(bytes, head.target), path: slice(bytes, head.path), query: slice(bytes, head.query),
        host: head.hasHost ? slice(bytes, head.host) : [], framing: head.framing, keepsAlive: head.keepsAlive,
        expectsContinue: head.expectsContinue, fields: fields, body: body)
}

/// A head ends with its empty line and not before; every line of it ends in the one way; it says once where its body ends.
private func check(_ head: RequestHead, _ length: Int, _ bytes: [UInt8], _ stream: [UInt8]) {
    if length > bytes.count || length > Limits.headBytes { stop(stream, "has a head that is longer than allowed") }
    if head.fields.count > Limits.fields { stop(stream, "has too many fields") }
    checkLines(bytes, length, stream)
    let span = bytes.span
    let fields = head.fields
    let lengths = fields.occurrences(of: "content-length", in: span)
    let codings = fields.occurrences(of: "transfer-encoding", in: span)
    let hosts = fields.occurrences(of: "host", in: span)
    if lengths + codings > 1 { stop(stream, "has a head with two ends of its body") }
    if (codings == 1) != (head.framing == .chunked) { stop(stream, "has a transfer coding that is not heeded") }
    if lengths == 0, case .length = head.framing { stop(stream, "has a length from nowhere") }
    if hosts > 1 || (hosts == 0 && head.minorVersion == 1) { stop(stream, "has \(hosts) hosts") }
    // What lies behind it does not matter, and nothing less is a head.
    var other = RequestHead()
    var progress = HeadProgress()
    if parse(Array(bytes[..<length]), &other, &progress) != .complete(length: length) { stop(stream, "has a head that needs more") }
    progress = HeadProgress()
    if parse(Array(bytes[..<(length - 1)]), &other, &progress) != .incomplete { stop(stream, "has a head that needs less") }
    if hosts == 1 { _ = hostName(of: span.bytes(head.host)) }
    var decoded: [UInt8] = []
    if percentDecode(span.bytes(head.path), into: &decoded), decoded.contains(0) { stop(stream, "hides a zero in its path") }
    if let value = queryValue("a", in: span.bytes(head.query)) { _ = slice(slice(bytes, head.query), value) }
}

/// A chunked body by itself, and the smaller readers of a head's values.
private func parts(_ stream: [UInt8]) {
    let span = stream.span
    _ = isMediaType(span, "application/json")
    _ = listContains(span, "close")
    var buffer = stream
    var decoder = ChunkedDecoder(maximumBodyBytes: 1 << 16)
    guard case .complete(let end, let next) = decode(&decoder, &buffer, 0, 0, 0) else { return }
    guard let (body, length) = chunks(stream), length == next, body == Array(buffer[..<end]) else {
        stop(stream, "has chunks that a plain reader joins differently")
    }
}
