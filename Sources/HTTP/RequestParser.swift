// Request heads (RFC 9112 sections 2 to 6), for a server that stands behind anything: whatever two readers could read
// differently is refused. Does no input or output and allocates nothing.

/// The methods that are served (RFC 9110 section 9, RFC 5789). CONNECT, TRACE and unknown ones never get this far.
public enum Method: UInt8 {
    case get, head, post, put, delete, patch, options

    init?(_ bytes: Span<UInt8>) {
        switch bytes.count {
        case 3 where bytes.equals("GET"): self = .get
        case 3 where bytes.equals("PUT"): self = .put
        case 4 where bytes.equals("POST"): self = .post
        case 4 where bytes.equals("HEAD"): self = .head
        case 5 where bytes.equals("PATCH"): self = .patch
        case 6 where bytes.equals("DELETE"): self = .delete
        case 7 where bytes.equals("OPTIONS"): self = .options
        default: return nil
        }
    }
}

/// How the end of a body is found (RFC 9112 section 6.3).
public enum BodyFraming: Equatable {
    case none
    case length(UInt64)
    case chunked
    /// A response without a length: it ends when the connection does.
    case untilClose
}

/// A parsed request head: ranges into the input. Reusable; `RequestParser.parse` overwrites it.
public struct RequestHead {
    public internal(set) var method = Method.get
    /// The whole request target as sent.
    public internal(set) var target = ByteRange()
    /// The path: it begins with `/`, or is `*` for OPTIONS. Percent-encoding is left as it came.
    public internal(set) var path = ByteRange()
    /// What follows the first `?` of the target; empty without one.
    public internal(set) var query = ByteRange()
    /// The 0 or 1 of HTTP/1.0 and HTTP/1.1.
    public internal(set) var minorVersion: UInt8 = 1
    /// Host and optional port: the Host field, or the authority of an absolute target (which must be the same).
    public internal(set) var host = ByteRange()
    public internal(set) var hasHost = false
    public internal(set) var framing = BodyFraming.none
    /// Whether the client wants, and framing allows, another request on this connection.
    public internal(set) var keepsAlive = true
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    public internal(set) var expectsContinue = false
    public internal(set) var fields = FieldTable()
    var targetAuthority = ByteRange()

    public init() {}
}

public enum RequestParser {
    /// Parses the request head at the beginning of `input`.
    ///
    /// - Parameters:
    ///   - input: everything received since the last message; it may reach into the body or the next request.
    ///   - head: set when the answer is `.complete`, unspecified otherwise. Its ranges count from the input's start.
    ///   - progress: how far earlier calls with a shorter input have looked, so that a client who sends byte by byte
    ///     costs a look at each byte, and a parse only for each line.
    public static func parse(
        _ input: Span<UInt8>, into head: inout RequestHead, progress: inout HeadProgress
    ) -> HeadOutcome {
        if progress.searched > 0 && input.count < Limits.headBytes {
            guard containsLineFeed(input, from: progress.searched) else {
                progress.searched = input.count
                return .incomplete
            }
        }
        let window = input.count > Limits.headBytes ? input.extracting(0..<Limits.headBytes) : input
        do {
            let length = try head.parse(window)
            progress.searched = 0
            return .complete(length: length)
        } catch {
            switch error {
            case .invalid(let fault, let offset): return .invalid(fault, at: offset)
            case .incomplete:
                if input.count >= Limits.headBytes { return .invalid(.headTooLarge, at: Limits.headBytes) }
                progress.searched = input.count
                return .incomplete
            }
        }
    }

    private static func containsLineFeed(_ input: Span<UInt8>, from start: Int) -> Bool {
        var position = start
        while position < input.count {
            if input[position] == 0x0A { return true }
            position &+= 1
        }
        return false
    }
}

extension RequestHead {
    /// Parses the whole head; returns its length.
    mutating func parse(_ input: Span<UInt8>) throws(Stop) -> Int {
        fields.count = 0
        hasHost = false
        expectsContinue = false
        targetAuthority = ByteRange()
        var framingFields = FramingFields()
        var hasExpectation = false

        var position = try skipEmptyLines(input)
        position = try parseRequestLine(input, at: position)
        while true {
            guard position < input.count else { throw .incomplete }
            if input[position] == 0x0D { break }
            position = try fields.parseLine(input, at: position)
            let field = fields.fields[fields.count &- 1]
            try framingFields.note(field, in: input)
            if field.nameLength == 4 && input.bytes(field.name).equalsIgnoringCase("host") {
                if hasHost { throw .invalid(.severalHosts, field.name.start) }
                hasHost = true
                host = field.value
            }
            if field.nameLength == 6 && input.bytes(field.name).equalsIgnoringCase("expect") {
                let isContinue = input.bytes(field.value).equalsIgnoringCase("100-continue")
                if !isContinue || hasExpectation { throw .invalid(.unknownExpectation, field.value.start) }
                hasExpectation = true
            }
        }
        let end = try expectLineEnd(input, at: position)
        try settleHost(input, at: position)
        try settleFraming(framingFields, at: position)
        keepsAlive = framingFields.keepsAlive(minorVersion: minorVersion)
        expectsContinue = hasExpectation && minorVersion == 1
        return end
    }

    /// RFC 9112 section 2.2: an empty line before the request line is forgiven.
    private func skipEmptyLines(_ input: Span<UInt8>) throws(Stop) -> Int {
        var position = 0
        for _ in 0..<Limits.leadingEmptyLines {
            guard position < input.count, input[position] == 0x0D else { break }
            position = try expectLineEnd(input, at: position)
        }
        return position
    }

    /// RFC 9112 section 3: method SP request-target SP HTTP-version CRLF, with single spaces.
    private mutating func parseRequestLine(_ input: Span<UInt8>, at start: Int) throws(Stop) -> Int {
        var position = start
        while position < input.count && CharacterClass.token.contains(input[position]) { position &+= 1 }
        if position &- start > Limits.methodBytes { throw .invalid(.unknownMethod, start) }
        guard position < input.count else { throw .incomplete }
        guard position > start, input[position] == 0x20 else { throw .invalid(.malformedRequestLine, position) }
        let methodEnd = position

        position &+= 1
        let targetStart = position
        var queryMark = -1
        while position < input.count && CharacterClass.target.contains(input[position]) {
            if input[position] == 0x3F && queryMark < 0 { queryMark = position }
            position &+= 1
        }
        if position &- targetStart > Limits.targetBytes { throw .invalid(.targetTooLong, targetStart) }
        guard position < input.count else { throw .incomplete }
        guard input[position] == 0x20, position > targetStart else { throw .invalid(.malformedTarget, position) }
        target = ByteRange(targetStart, position)
        query = queryMark < 0 ? ByteRange(position, position) : ByteRange(queryMark &+ 1, position)
        let pathEnd = queryMark < 0 ? position : queryMark

        let end = try parseVersion(input, at: position &+ 1)
        guard let method = Method(input.extracting(start..<methodEnd)) else {
            let isConnect = input.extracting(start..<methodEnd).equals("CONNECT")
            throw .invalid(isConnect ? .connectRefused : .unknownMethod, start)
        }
        self.method = method
        try settleTarget(input, pathEnd: pathEnd)
        return end
    }

    private mutating func parseVersion(_ input: Span<UInt8>, at start: Int) throws(Stop) -> Int {
        let end = start &+ 8
        let available = min(end, input.count)
        let name: StaticString = "HTTP/1.1"
        for index in start..<available {
            let byte = input[index]
            let isVersionDigit = (index &- start == 5 || index &- start == 7) && isDigit(byte)
            // Safe: the index stays below the literal's eight bytes.
            if !isVersionDigit && byte != name.utf8Start[index &- start] { throw .invalid(.malformedVersion, index) }
        }
        guard available == end else { throw .incomplete }
        guard input[start &+ 5] == 0x31, input[start &+ 7] <= 0x31 else { throw .invalid(.unsupportedVersion, start) }
        minorVersion = input[start &+ 7] &- 0x30
        return try expectLineEnd(input, at: end)
    }

    /// RFC 9112 section 3.2: which of the four forms the target has, and where its path lies.
    private mutating func settleTarget(_ input: Span<UInt8>, pathEnd: Int) throws(Stop) {
        let start = target.start
        if input[start] == 0x2F {
            path = ByteRange(start, pathEnd)
            return
        }
        if input[start] == 0x2A && target.length == 1 && method == .options {
            path = target
            return
        }
        let schemeLength: Int
        if input.bytes(ByteRange(start, min(start &+ 7, pathEnd))).equalsIgnoringCase("http://") {
            schemeLength = 7
        } else if input.bytes(ByteRange(start, min(start &+ 8, pathEnd))).equalsIgnoringCase("https://") {
            schemeLength = 8
        } else {
            throw .invalid(.malformedTarget, start)
        }
        let authorityStart = start &+ schemeLength
        var authorityEnd = authorityStart
        while authorityEnd < pathEnd && input[authorityEnd] != 0x2F { authorityEnd &+= 1 }
        targetAuthority = ByteRange(authorityStart, authorityEnd)
        guard !targetAuthority.isEmpty, isAuthority(input.bytes(targetAuthority)) else {
            throw .invalid(.malformedTarget, authorityStart)
        }
        // An empty path means "/" (RFC 9110 section 4.2.3): the scheme's second slash serves as one.
        path =
            authorityEnd == pathEnd
            ? ByteRange(authorityStart &- 1, authorityStart) : ByteRange(authorityEnd, pathEnd)
    }

    /// RFC 9112 section 3.2: exactly one Host in HTTP/1.1, at most one in HTTP/1.0, and the same as in the target.
    private mutating func settleHost(_ input: Span<UInt8>, at position: Int) throws(Stop) {
        if hasHost {
            guard isAuthority(input.bytes(host)) else { throw .invalid(.malformedHost, host.start) }
            if !targetAuthority.isEmpty && !input.bytes(host).equalsIgnoringCase(input.bytes(targetAuthority)) {
                throw .invalid(.hostDiffersFromTarget, host.start)
            }
        } else {
            if minorVersion == 1 { throw .invalid(.missingHost, position) }
            host = targetAuthority
            hasHost = !targetAuthority.isEmpty
        }
    }

    /// RFC 9112 sections 6.1 and 6.3: a request with both a length and a transfer coding is an attempt at smuggling.
    private mutating func settleFraming(_ found: FramingFields, at position: Int) throws(Stop) {
        if found.hasTransferEncoding {
            if found.contentLength != nil { throw .invalid(.lengthAndTransferEncoding, position) }
            if minorVersion == 0 { throw .invalid(.transferEncodingInOldVersion, position) }
            framing = .chunked
        } else if let length = found.contentLength {
            framing = .length(length)
        } else {
            framing = .none
        }
    }
}

/// Whether the bytes are `uri-host [":" port]` (RFC 3986 section 3.2). Empty is allowed: a client without a name for
/// the server sends `Host:`.
func isAuthority(_ bytes: Span<UInt8>) -> Bool {
    let hostEnd = hostNameLength(bytes)
    guard hostEnd >= 0 else { return false }
    if hostEnd == bytes.count { return true }
    guard bytes[hostEnd] == 0x3A, bytes.count &- hostEnd <= 6 else { return false }
    var port = 0
    for index in (hostEnd &+ 1)..<bytes.count {
        guard isDigit(bytes[index]) else { return false }
        port = port &* 10 &+ Int(bytes[index] &- 0x30)
    }
    return port <= 65_535
}

/// How many bytes of an authority are its host, brackets of an IPv6 address included; -1 when it is malformed.
private func hostNameLength(_ bytes: Span<UInt8>) -> Int {
    var position = 0
    if bytes.count > 0 && bytes[0] == 0x5B {
        position = 1
        while position < bytes.count && bytes[position] != 0x5D {
            let byte = bytes[position]
            guard hexValue(byte) != nil || byte == 0x3A || byte == 0x2E else { return -1 }
            position &+= 1
        }
        return position < bytes.count && position > 2 ? position &+ 1 : -1
    }
    while position < bytes.count && CharacterClass.registeredName.contains(bytes[position]) { position &+= 1 }
    return position
}

/// The host of an authority without its port: `[::1]:8470` gives `[::1]`.
@_lifetime(copy authority)
public func hostName(of authority: Span<UInt8>) -> Span<UInt8> {
    authority.extracting(0..<max(0, hostNameLength(authority)))
}
