// Chunked bodies (RFC 9112 section 7.1), decoded in place as they arrive. No input or output, no allocation.

/// What became of the bytes that were handed in.
public enum ChunkedOutcome: Equatable {
    /// All bytes were used, more must come. The body so far ends at `bodyEnd`; what arrives next may be put there.
    case incomplete(bodyEnd: Int)
    case invalid(ProtocolFault, at: Int)
    /// The body ends at `bodyEnd`; the next message begins at `next`.
    case complete(bodyEnd: Int, next: Int)
}

/// A state machine that takes one byte of framing at a time, so that any cut between two reads is the same to it.
///
/// Sizes are hexadecimal digits directly followed by a line end or an extension; extensions must be well formed, are
/// ignored and bounded; trailers must be well formed, are dropped (RFC 9110 section 6.5.1) and bounded.
public struct ChunkedDecoder {
    private enum State: UInt8 {
        case sizeStart, size, sizeLineFeed
        case extensionName, extensionNameRest, extensionValue, extensionToken, extensionQuoted, extensionEscape
        case extensionAfterQuote
        case data, dataReturn, dataLineFeed
        case trailerStart, trailerName, trailerValue, trailerLineFeed, lastLineFeed, done
    }

    private var state = State.sizeStart
    private var digits = 0
    private var remaining: UInt64 = 0
    /// Decoded so far, wherever the caller has put it.
    private var bodyBytes = 0
    private var extensionBytes = 0
    private var trailerBytes = 0
    private let maximumBodyBytes: Int

    /// - Parameter maximumBodyBytes: the longest decoded body, over all calls; a chunk that would pass it is refused when its size is
    ///   read, before its data has come.
    public init(maximumBodyBytes: Int) {
        self.maximumBodyBytes = maximumBodyBytes
    }

    /// Decodes `buffer[readFrom..<end]` and moves the data down so that it continues the body that ends at `bodyEnd`.
    ///
    /// - Parameters:
    ///   - buffer: the connection's buffer.
    ///   - bodyStart: where the decoded body, or what the caller has kept of it, begins.
    ///   - bodyEnd: where the body decoded so far ends; at most `readFrom`.
    ///   - readFrom: where the bytes begin that have not been handed in before.
    ///   - end: where they end.
    @_lifetime(buffer: copy buffer)
    public mutating func decode(
        _ buffer: inout MutableSpan<UInt8>, bodyStart: Int, bodyEnd: Int, readFrom: Int, end: Int
    ) -> ChunkedOutcome {
        precondition(bodyStart <= bodyEnd && bodyEnd <= readFrom && readFrom <= end && end <= buffer.count)
        var position = readFrom
        var written = bodyEnd
        while position < end {
            if state == .data {
                let length = Int(min(remaining, UInt64(end &- position)))
                if written != position {
                    for index in 0..<length { buffer[written &+ index] = buffer[position &+ index] }
                }
                written &+= length
                position &+= length
                bodyBytes += length
                remaining -= UInt64(length)
                if remaining == 0 { state = .dataReturn }
                continue
            }
            if let fault = step(buffer[position]) {
                return .invalid(fault, at: position)
            }
            position &+= 1
            if state == .done { return .complete(bodyEnd: written, next: position) }
        }
        return .incomplete(bodyEnd: written)
    }

    /// Takes one byte of framing. Returns what is wrong with it.
    private mutating func step(_ byte: UInt8) -> ProtocolFault? {
        switch state {
        case .sizeStart, .size, .sizeLineFeed: return stepSize(byte)
        case .dataReturn:
            guard byte == 0x0D else { return .chunkWithoutEnd }
            state = .dataLineFeed
        case .dataLineFeed:
            guard byte == 0x0A else { return .chunkWithoutEnd }
            state = .sizeStart
        case .trailerStart, .trailerName, .trailerValue, .trailerLineFeed, .lastLineFeed: return stepTrailer(byte)
        case .data, .done: preconditionFailure("data and the end are no framing")
        default: return stepExtension(byte)
        }
        return nil
    }

    private mutating func stepSize(_ byte: UInt8) -> ProtocolFault? {
        switch state {
        case .sizeStart, .size:
            if let digit = hexValue(byte) {
                if state == .sizeStart {
                    remaining = 0
                    digits = 0
                }
                state = .size
                digits += 1
                guard digits <= Limits.chunkSizeDigits else { return .malformedChunkSize }
                remaining = remaining << 4 | UInt64(digit)
                guard remaining <= UInt64(maximumBodyBytes - bodyBytes) else { return .bodyTooLarge }
                return nil
            }
            guard state == .size else { return .malformedChunkSize }
            if byte == 0x3B {
                state = .extensionName
                return nil
            }
            guard byte == 0x0D else { return .malformedChunkSize }
            state = .sizeLineFeed
        default:
            guard byte == 0x0A else { return .malformedChunkSize }
            state = remaining == 0 ? .trailerStart : .data
        }
        return nil
    }

    /// RFC 9112 section 7.1.1: *( ";" name [ "=" ( token / quoted-string ) ] ), without the white space that it calls
    /// bad.
    private mutating func stepExtension(_ byte: UInt8) -> ProtocolFault? {
        extensionBytes += 1
        guard extensionBytes <= Limits.chunkExtensionBytes else { return .chunkExtensionsTooLong }
        switch state {
        case .extensionName, .extensionNameRest:
            if CharacterClass.token.contains(byte) {
                state = .extensionNameRest
                return nil
            }
            guard state == .extensionNameRest else { return .malformedChunkExtension }
            if byte == 0x3D {
                state = .extensionValue
                return nil
            }
            return endExtension(byte)
        case .extensionValue, .extensionToken:
            if CharacterClass.token.contains(byte) {
                state = .extensionToken
                return nil
            }
            if state == .extensionToken { return endExtension(byte) }
            guard byte == 0x22 else { return .malformedChunkExtension }
            state = .extensionQuoted
        case .extensionQuoted:
            if byte == 0x22 {
                state = .extensionAfterQuote
            } else if byte == 0x5C {
                state = .extensionEscape
            } else if (byte < 0x20 && byte != 0x09) || byte == 0x7F {
                return .malformedChunkExtension
            }
        case .extensionEscape:
            guard (byte >= 0x20 || byte == 0x09) && byte != 0x7F else { return .malformedChunkExtension }
            state = .extensionQuoted
        default:
            return endExtension(byte)
        }
        return nil
    }

    private mutating func endExtension(_ byte: UInt8) -> ProtocolFault? {
        if byte == 0x3B {
            state = .extensionName
        } else if byte == 0x0D {
            state = .sizeLineFeed
        } else {
            return .malformedChunkExtension
        }
        return nil
    }

    private mutating func stepTrailer(_ byte: UInt8) -> ProtocolFault? {
        trailerBytes += 1
        guard trailerBytes <= Limits.trailerBytes else { return .trailersTooLong }
        switch state {
        case .trailerStart:
            if byte == 0x0D {
                state = .lastLineFeed
                return nil
            }
            guard CharacterClass.token.contains(byte) else { return .malformedTrailer }
            state = .trailerName
        case .trailerName:
            if byte == 0x3A {
                state = .trailerValue
            } else if !CharacterClass.token.contains(byte) {
                return .malformedTrailer
            }
        case .trailerValue:
            if byte == 0x0D {
                state = .trailerLineFeed
            } else if (byte < 0x20 && byte != 0x09) || byte == 0x7F {
                return .malformedTrailer
            }
        case .trailerLineFeed:
            guard byte == 0x0A else { return .malformedTrailer }
            state = .trailerStart
        default:
            guard byte == 0x0A else { return .malformedTrailer }
            state = .done
        }
        return nil
    }
}
