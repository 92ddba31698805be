// What libFuzzer calls with each input; see Tools/fuzz. Any answer to what a server sends is right. A crash, a hang or too
// much memory is not, nor is a response that reads differently in pieces than whole, or a head in which another reader
// could see other lines or another end.
//
// An input is cut as in HTTPFuzz; 64 in the first byte: the request was HEAD.

import HTTP

/// One response as a client takes it.
private struct Taken: Equatable {
    var isWhole = false
    var fault: ProtocolFault?
    var status: UInt16 = 0
    var framing = BodyFraming.none
    var keepsAlive = false
    var retryAfter: Int64?
    var fields: [[UInt8]] = []
    var body: [UInt8] = []
    /// Bytes behind the response.
    var rest = 0
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    guard let (stream, pieces, maximum) = wire(input) else { return 0 }
    let whole = read(stream, pieces: [stream.count], maximum, toHead: input[0] & 64 != 0)
    let cut = read(stream, pieces: pieces, maximum, toHead: input[0] & 64 != 0)
    if whole != cut { stop(stream, "is read differently in pieces of \(pieces): \(cut), not \(whole)") }
    return 0
}

/// Reads one response as the delivery's client does: a head out of a buffer that grows, then the body piece by piece.
private func read(_ stream: [UInt8], pieces: [Int], _ maximum: Int, toHead: Bool) -> Taken {
    var result = Taken()
    var buffer: [UInt8] = []
    var head = ResponseHead()
    var progress = HeadProgress()
    var decoder = ChunkedDecoder(maximumBodyBytes: maximum)
    var isHeadThere = false
    var taken = 0
    var turn = 0
    while taken < stream.count, !result.isWhole {
        let size = min(stream.count - taken, max(1, pieces[turn % pieces.count]))
        turn += 1
        buffer += stream[taken..<taken + size]
        taken += size
        if !isHeadThere {
            switch parse(buffer, toHead, &head, &progress) {
            case .incomplete: continue
            case .invalid(let fault, let offset):
                if offset < 0 || offset > buffer.count { stop(stream, "fails outside of itself") }
                result.fault = fault
                return result
            case .complete(let length):
                check(head, length, buffer, stream)
                isHeadThere = true
                note(head, buffer, &result)
                buffer.removeSubrange(..<length)
            }
        }
        switch head.framing {
        case .none: result.isWhole = true
        case .untilClose:
            result.body += buffer
            buffer = []
        case .length(let length):
            let count = min(UInt64(buffer.count), length - UInt64(result.body.count))
            result.body += buffer[..<Int(count)]
            buffer.removeSubrange(..<Int(count))
            result.isWhole = UInt64(result.body.count) == length
        case .chunked:
            switch decode(&decoder, &buffer, 0, 0, 0) {
            case .incomplete(let end):
                result.body += buffer[..<end]
                buffer = []
            case .complete(let end, let next):
                result.body += buffer[..<end]
                buffer.removeSubrange(..<next)
                result.isWhole = true
            case .invalid(let fault, _):
                // How much of the body came before that is nothing that a caller sees.
                result.body = []
                result.fault = fault
                return result
            }
        }
    }
    if !isHeadThere, !buffer.isEmpty {
        var afresh = HeadProgress()
        if case .invalid(let fault, _) = parse(buffer, toHead, &head, &afresh) { result.fault = fault }
    }
    if result.isWhole { result.rest = buffer.count + stream.count - taken }
    return result
}

private func parse(
    _ bytes: [UInt8], _ toHead: Bool, _ head: inout ResponseHead, _ progress: inout HeadProgress
) -> HeadOutcome {
    let span = bytes.span
    return ResponseParser.parse(span, toHead: toHead, into: &head, progress: &progress)
}

private func note(_ head: ResponseHead, _ bytes: [UInt8], _ result: inout Taken) {
    result.status = head.status
    result.framing = head.framing
    result.keepsAlive = head.keepsAlive
    for index in 0..<head.fields.count {
        result.fields.append(slice(bytes, head.fields[index].name))
        result.fields.append(slice(bytes, head.fields[index].value))
    }
    let span = bytes.span
    if let range = head.fields.range(of: "retry-after", in: span) {
        result.retryAfter = retryAfterSeconds(span.bytes(range), now: 1_700_000_000)
        if let wait = result.retryAfter, wait < 0 || wait > 300_000_000_000 { stop(bytes, "asks to wait \(wait) s") }
    }
}

private func check(_ head: ResponseHead, _ length: Int, _ bytes: [UInt8], _ stream: [UInt8]) {
    if length > bytes.count || length > Limits.headBytes { stop(stream, "has a head that is longer than allowed") }
    if head.status < 200 || head.status > 599 || head.fields.count > Limits.fields { stop(stream, "has a status \(head.status)") }
    checkLines(bytes, length, stream)
    let span = bytes.span
    let lengths = head.fields.occurrences(of: "content-length", in: span)
    let codings = head.fields.occurrences(of: "transfer-encoding", in: span)
    if lengths + codings > 1 { stop(stream, "has a head with two ends of its body") }
    if codings == 0, head.framing == .chunked { stop(stream, "is chunked from nowhere") }
    if head.framing == .untilClose, head.keepsAlive { stop(stream, "ends with a connection that stays") }
}
