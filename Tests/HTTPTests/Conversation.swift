// A server's reading of one connection's bytes, without a server: what the tests of this room ask.
import HTTP

/// What a server would make of a stream of bytes.
struct Conversation {
    /// "METHOD target body" of each request, in order.
    var requests: [String] = []
    var fault: ProtocolFault?
    /// Bytes that no further request could be made of: the beginning of one, or what follows a last request.
    var leftOver = 0
    var isClosed = false

    /// Whether every byte was taken and no rule was broken.
    var isClean: Bool { fault == nil && leftOver == 0 }

    init(_ bytes: [UInt8], maximumBodyBytes: Int = 1 << 20) {
        var rest = bytes
        while !rest.isEmpty && fault == nil && !isClosed {
            guard let used = takeOne(&rest, maximumBodyBytes) else { break }
            rest.removeFirst(used)
        }
        leftOver = rest.count
    }

    /// Reads one request; returns its length, or nil when there is none.
    private mutating func takeOne(_ bytes: inout [UInt8], _ maximumBodyBytes: Int) -> Int? {
        var head = RequestHead()
        var progress = HeadProgress()
        let headLength: Int
        switch RequestParser.parse(bytes.span, into: &head, progress: &progress) {
        case .incomplete: return nil
        case .invalid(let fault, _):
            self.fault = fault
            return nil
        case .complete(let length): headLength = length
        }
        let line = "\(head.method) " + text(bytes, head.target)
        var bodyEnd = headLength
        var next = headLength
        switch head.framing {
        case .length(let length):
            guard UInt64(bytes.count - headLength) >= length else { return nil }
            bodyEnd = headLength + Int(length)
            next = bodyEnd
        case .chunked:
            var decoder = ChunkedDecoder(maximumBodyBytes: maximumBodyBytes)
            var span = bytes.mutableSpan
            let end = span.count
            switch decoder.decode(&span, bodyStart: headLength, bodyEnd: headLength, readFrom: headLength, end: end) {
            case .incomplete: return nil
            case .invalid(let fault, _):
                self.fault = fault
                return nil
            case .complete(let end, let following): (bodyEnd, next) = (end, following)
            }
        default: break
        }
        requests.append(line + " " + String(decoding: bytes[headLength..<bodyEnd], as: UTF8.self))
        isClosed = !head.keepsAlive
        return next
    }
}

func text(_ bytes: [UInt8], _ range: ByteRange) -> String {
    String(decoding: bytes[range.start..<range.end], as: UTF8.self)
}

/// Parses one head that arrives at once.
func parseHead(_ request: String) -> (outcome: HeadOutcome, head: RequestHead) {
    var head = RequestHead()
    var progress = HeadProgress()
    let bytes = Array(request.utf8)
    let outcome = RequestParser.parse(bytes.span, into: &head, progress: &progress)
    return (outcome, head)
}

func fault(_ request: String) -> ProtocolFault? {
    if case .invalid(let fault, _) = parseHead(request).outcome { return fault }
    return nil
}

// A span does not pass through a testing macro; these take what the tests have.

func parseRequest(_ bytes: [UInt8], _ head: inout RequestHead, _ progress: inout HeadProgress) -> HeadOutcome {
    RequestParser.parse(bytes.span, into: &head, progress: &progress)
}

func parseResponse(_ bytes: [UInt8], _ head: inout ResponseHead, _ progress: inout HeadProgress) -> HeadOutcome {
    ResponseParser.parse(bytes.span, into: &head, progress: &progress)
}

func value(_ name: StaticString, _ head: RequestHead, _ bytes: [UInt8]) -> String? {
    head.fields.range(of: name, in: bytes.span).map { text(bytes, $0) }
}

func query(_ name: StaticString, _ bytes: [UInt8]) -> String? {
    queryValue(name, in: bytes.span).map { text(bytes, $0) }
}
