// A single question to a server, by the delivery's client, and the whole of its answer: what the commands use that talk to
// a running agent. Each question has a connection of its own, so that none is ever sent twice.

import Formats
import HTTP
import Platform

extension HTTPSClient {
    /// Sends one request without a body, and hands on the answer's body as it comes.
    /// - Parameters:
    ///   - target: path and query, percent-encoded.
    ///   - token: sent as a bearer token (RFC 6750); visible ASCII.
    ///   - take: the answer's status and a piece of its body; an answer of false ends the reading.
    /// - Returns: the answer's status, 200 to 599, when all of the answer came; 0 when `take` has ended it.
    public func ask(
        _ method: StaticString, _ target: [UInt8], token: [UInt8]?, take: (UInt16, Span<UInt8>) -> Bool
    ) throws(TransportFailure) -> UInt16 {
        close()
        defer { close() }
        let deadline = clock.monotonicNanoseconds() + times.whole * 1_000_000
        writeQuestion(method, target, token)
        if let failure = open(deadline) { throw failure }
        guard let connection else { throw cancelled }  // open() has made one
        switch exchangeHeads(connection, deadline) {
        case .failed(let failure), .lostBeforeAnswer(let failure): throw failure
        case .head(let length, let received):
            return try takeBody(connection, length, received, deadline, take) ? head.status : 0
        }
    }

    private func writeQuestion(_ method: StaticString, _ target: [UInt8], _ token: [UInt8]?) {
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
        append("\r\nConnection: close\r\n\r\n")
    }

    /// - Returns: false when `take` has ended it.
    private func takeBody(
        _ connection: Connection, _ headLength: Int, _ received: Int, _ deadline: Int64,
        _ take: (UInt16, Span<UInt8>) -> Bool
    ) throws(TransportFailure) -> Bool {
        var decoder = ChunkedDecoder(maximumBodyBytes: Limits.answerChunkBytes)
        var (start, end) = (headLength, received)
        var left: UInt64 = 0
        if case .length(let length) = head.framing { left = length }
        while true {
            var bodyEnd = end
            var isWhole = false
            switch head.framing {
            case .none: return true
            case .untilClose: break
            case .length:
                bodyEnd = start + Int(min(UInt64(end - start), left))
                left -= UInt64(bodyEnd - start)
                isWhole = left == 0
            case .chunked:
                switch decodeChunks(&decoder, &answer, start, end) {
                case .incomplete(let decoded): bodyEnd = decoded
                case .complete(let decoded, _): (bodyEnd, isWhole) = (decoded, true)
                case .invalid:
                    throw TransportFailure(stage: .receive, message: "\(host) answers with something that is not HTTP/1.1")
                }
            }
            if bodyEnd > start {
                let bytes = answer
                if !take(head.status, bytes.span.extracting(start..<bodyEnd)) { return false }
            }
            if isWhole { return true }
            switch receive(connection, at: 0, deadline) {
            case .moved(let count): (start, end) = (0, count)
            case .ended where head.framing == .untilClose: return true
            case .ended, .broken:
                throw TransportFailure(stage: .receive, message: "\(host) closed the connection in the middle of its answer")
            case .gaveUp(let failure): throw failure
            }
        }
    }
}
