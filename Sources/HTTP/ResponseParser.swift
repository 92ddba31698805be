// Response heads (RFC 9112 sections 4 to 6), for a client that believes its server no more than a server its client.
// Does no input or output and allocates nothing.

/// A parsed response head: ranges into the input. Reusable; `ResponseParser.parse` overwrites it.
public struct ResponseHead {
    /// 200 to 599; interim responses are skipped.
    public internal(set) var status: UInt16 = 0
    /// The 0 or 1 of HTTP/1.0 and HTTP/1.1.
    public internal(set) var minorVersion: UInt8 = 1
    public internal(set) var framing = BodyFraming.none
    /// Whether the connection may carry another request after this response's body.
    public internal(set) var keepsAlive = true
    public internal(set) var fields = FieldTable()

    public init() {}
}

public enum ResponseParser {
    /// Parses the final response head at the beginning of `input`; interim (1xx) responses before it are skipped and
    /// counted in the length.
    ///
    /// - Parameters:
    ///   - input: everything received for this response; it may reach into the body.
    ///   - toHead: whether the request was HEAD: its response has no body whatever its fields say.
    ///   - head: set when the answer is `.complete`. Its ranges count from the input's start.
    ///   - progress: how far earlier calls with a shorter input have looked.
    public static func parse(
        _ input: Span<UInt8>, toHead: Bool = false, into head: inout ResponseHead, progress: inout HeadProgress
    ) -> HeadOutcome {
        if progress.searched > 0 && input.count < Limits.headBytes {
            var position = progress.searched
            while position < input.count && input[position] != 0x0A { position &+= 1 }
            if position == input.count {
                progress.searched = position
                return .incomplete
            }
        }
        let window = input.count > Limits.headBytes ? input.extracting(0..<Limits.headBytes) : input
        do {
            var position = 0
            for _ in 0...Limits.interimResponses {
                position = try head.parse(window, at: position, toHead: toHead)
                if head.status == 101 { return .invalid(.switchedProtocols, at: 0) }
                if head.status >= 200 {
                    progress.searched = 0
                    return .complete(length: position)
                }
            }
            return .invalid(.tooManyInterimResponses, at: position)
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
}

extension ResponseHead {
    /// Parses one head that begins at `start`; returns the offset after it.
    mutating func parse(_ input: Span<UInt8>, at start: Int, toHead: Bool) throws(Stop) -> Int {
        fields.count = 0
        var framingFields = FramingFields()
        var position = try parseStatusLine(input, at: start)
        while true {
            guard position < input.count else { throw .incomplete }
            if input[position] == 0x0D { break }
            position = try fields.parseLine(input, at: position)
            try framingFields.note(fields.fields[fields.count &- 1], in: input)
        }
        let end = try expectLineEnd(input, at: position)
        try settleFraming(framingFields, toHead: toHead, at: position)
        return end
    }

    /// RFC 9112 section 4: HTTP-version SP status-code SP [reason-phrase] CRLF; the second space may be missing
    /// together with the phrase, as some servers have it.
    private mutating func parseStatusLine(_ input: Span<UInt8>, at start: Int) throws(Stop) -> Int {
        let form: StaticString = "HTTP/1.d ddd"
        let end = start &+ 12
        let available = min(end, input.count)
        for index in start..<available {
            let byte = input[index]
            // Safe: the index stays below the literal's twelve bytes.
            let expected = form.utf8Start[index &- start]
            guard expected == 0x64 ? isDigit(byte) : byte == expected else {
                throw .invalid(.malformedStatusLine, index)
            }
        }
        guard available == end else { throw .incomplete }
        minorVersion = min(1, input[start &+ 7] &- 0x30)
        status =
            UInt16(input[start &+ 9] &- 0x30) * 100 + UInt16(input[start &+ 10] &- 0x30) * 10
            + UInt16(input[start &+ 11] &- 0x30)
        guard status >= 100 && status < 600 else { throw .invalid(.malformedStatusLine, start &+ 9) }
        var position = end
        guard position < input.count else { throw .incomplete }
        if input[position] == 0x20 {
            while position < input.count && (input[position] >= 0x20 || input[position] == 0x09) {
                if input[position] == 0x7F { throw .invalid(.malformedStatusLine, position) }
                position &+= 1
            }
        } else if input[position] != 0x0D {
            throw .invalid(.malformedStatusLine, position)
        }
        return try expectLineEnd(input, at: position)
    }

    /// RFC 9112 section 6.3. A response with both a length and a transfer coding is refused like a request.
    private mutating func settleFraming(_ found: FramingFields, toHead: Bool, at position: Int) throws(Stop) {
        keepsAlive = found.keepsAlive(minorVersion: minorVersion)
        if found.hasTransferEncoding {
            if found.contentLength != nil { throw .invalid(.lengthAndTransferEncoding, position) }
            if minorVersion == 0 { throw .invalid(.transferEncodingInOldVersion, position) }
        }
        if toHead || status < 200 || status == 204 || status == 304 {
            framing = .none
        } else if found.hasTransferEncoding {
            framing = .chunked
        } else if let length = found.contentLength {
            framing = .length(length)
        } else {
            framing = .untilClose
            keepsAlive = false
        }
    }
}
