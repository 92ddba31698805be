// What can be wrong with a message, and what a server answers to it. Knows no input.

/// A breach of RFC 9112 (framing), RFC 9110 (semantics) or of a limit. Each closes the connection: after a framing
/// error nobody can say where the next message begins.
public enum ProtocolFault: UInt8, Error, CaseIterable {
    // The request line.
    case malformedRequestLine, unknownMethod, connectRefused, malformedTarget, targetTooLong
    case malformedVersion, unsupportedVersion
    // The status line.
    case malformedStatusLine, tooManyInterimResponses, switchedProtocols
    // Lines and fields.
    case bareLineFeed, bareCarriageReturn, malformedFieldName, whitespaceBeforeColon, foldedField
    case forbiddenByteInField, headTooLarge, tooManyFields
    // Whom the request is for.
    case missingHost, severalHosts, malformedHost, hostDiffersFromTarget
    // Where the body ends.
    case malformedContentLength, severalContentLengths, contentLengthTooLarge, lengthAndTransferEncoding
    case unsupportedTransferCoding, chunkedNotLast, transferEncodingInOldVersion, unknownExpectation
    // The chunked body.
    case malformedChunkSize, malformedChunkExtension, chunkExtensionsTooLong, chunkWithoutEnd
    case malformedTrailer, trailersTooLong, bodyTooLarge
    // The peer stopped.
    case truncated

    /// The status code of the answer (RFC 9110 section 15).
    public var status: UInt16 {
        switch self {
        case .unknownMethod, .connectRefused, .unsupportedTransferCoding: 501
        case .unsupportedVersion: 505
        case .targetTooLong: 414
        case .headTooLarge, .tooManyFields, .trailersTooLong: 431
        case .contentLengthTooLarge, .bodyTooLarge: 413
        case .unknownExpectation: 417
        default: 400
        }
    }

    /// One sentence for the person who wrote the client.
    public var reason: StaticString {
        switch self {
        case .malformedRequestLine: "The request line must be: method, one space, target, one space, HTTP/1.1."
        case .unknownMethod: "This method is not served here."
        case .connectRefused: "CONNECT is refused: this is not a proxy."
        case .malformedTarget: "The request target must be a path, an absolute http(s) URI, or * for OPTIONS."
        case .targetTooLong: "The request target is too long."
        case .malformedVersion: "The HTTP version is malformed."
        case .unsupportedVersion: "Only HTTP/1.1 and HTTP/1.0 are served."
        case .malformedStatusLine: "The status line is malformed."
        case .tooManyInterimResponses: "There are too many interim responses before the final one."
        case .switchedProtocols: "The server switched protocols although nobody asked."
        case .bareLineFeed: "A line feed without a carriage return before it."
        case .bareCarriageReturn: "A carriage return without a line feed after it."
        case .malformedFieldName: "A header line has no valid name before its colon."
        case .whitespaceBeforeColon: "White space between a header's name and its colon."
        case .foldedField: "A header is folded over several lines."
        case .forbiddenByteInField: "A header's value holds a control character."
        case .headTooLarge: "The headers are too large."
        case .tooManyFields: "There are too many headers."
        case .missingHost: "The Host header is missing."
        case .severalHosts: "There is more than one Host header."
        case .malformedHost: "The Host header is not a host with an optional port."
        case .hostDiffersFromTarget: "The Host header differs from the host of the request target."
        case .malformedContentLength: "Content-Length is not a decimal number."
        case .severalContentLengths: "There is more than one Content-Length header."
        case .contentLengthTooLarge: "Content-Length is too large."
        case .lengthAndTransferEncoding: "Content-Length and Transfer-Encoding exclude each other."
        case .unsupportedTransferCoding: "The only transfer coding that is served is chunked."
        case .chunkedNotLast: "Transfer-Encoding must end in chunked."
        case .transferEncodingInOldVersion: "HTTP/1.0 has no Transfer-Encoding."
        case .unknownExpectation: "The only expectation that is served is 100-continue."
        case .malformedChunkSize: "A chunk size is not a short hexadecimal number and a line end."
        case .malformedChunkExtension: "A chunk extension is malformed."
        case .chunkExtensionsTooLong: "The chunk extensions are too long."
        case .chunkWithoutEnd: "A chunk is not followed by a line end."
        case .malformedTrailer: "A trailer line is malformed."
        case .trailersTooLong: "The trailers are too long."
        case .bodyTooLarge: "The body is too large."
        case .truncated: "The connection ended in the middle of a message."
        }
    }
}

/// What a parser says of the bytes that it has seen.
public enum HeadOutcome: Equatable {
    /// Everything so far may be the beginning of a message.
    case incomplete
    /// No continuation can mend it. `at` is the offset of the offending byte or line.
    case invalid(ProtocolFault, at: Int)
    /// The head is the first `length` bytes; the body, if any, begins there.
    case complete(length: Int)
}

/// How far earlier calls have looked. Keep one for each connection, reset it when a message has been taken.
public struct HeadProgress {
    /// Bytes already searched for a line end: nothing can have become complete unless one has come since.
    var searched = 0

    public init() {}

    /// Whether bytes of a head have been seen.
    public var hasBegun: Bool { searched > 0 }
}

/// Why parsing stopped before the end of the head.
enum Stop: Error {
    case incomplete
    case invalid(ProtocolFault, Int)
}
