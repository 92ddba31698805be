// The console: a page of the agent's own, out of the binary. It holds no data, so that anybody who reaches the agent may
// load it; what it shows it asks for at the other routes, as whoever's token it was given.

import Cryptography
import Formats
import HTTP
import Platform

extension Routes {
    /// `GET /`, `/console.css`, `/console.js`.
    mutating func answerConsole(
        _ file: ConsoleFile, _ request: borrowing Request, _ response: inout Response
    ) -> Disposition {
        guard isRead(request, &response) else { return .answered }
        let bytes = file.bytes
        let isUnpacked = ConsoleFile.arePacked && !takesGzip(request.header("accept-encoding"))
        // A tag for each of the two forms (RFC 9110 section 8.8.3): 16 hex digits of what is in the binary.
        var tag = Array((isUnpacked ? "\"unpacked-" : "\"").utf8)
        let digest = SHA256.hash(bytes)
        for index in 0..<8 {
            tag.append(Hex.digit(digest[index] >> 4))
            tag.append(Hex.digit(digest[index] & 0xF))
        }
        tag.append(UInt8(ascii: "\""))
        response.header("ETag", tag.span)
        // Asked for again each time, so that page, style and script are of one build.
        response.header("Cache-Control", "no-cache")
        // Nothing but the agent's own files and answers, in no other page's frame, and no text that becomes markup or code
        // (Content Security Policy Level 3, Trusted Types).
        response.header(
            "Content-Security-Policy",
            """
            default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
            form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'
            """)
        response.header("X-Content-Type-Options", "nosniff")
        response.header("Referrer-Policy", "no-referrer")
        if ConsoleFile.arePacked {
            response.header("Vary", "Accept-Encoding")
            if !isUnpacked { response.header("Content-Encoding", "gzip") }
        }
        if contains(request.header("if-none-match"), tag.span) {
            response.send(304)
            return .answered
        }
        let type: StaticString =
            switch file {
            case .page: "text/html; charset=utf-8"
            case .style: "text/css; charset=utf-8"
            case .script: "text/javascript; charset=utf-8"
            }
        if isUnpacked {
            var text: [UInt8] = []
            do throws(GzipError) {
                try inflater.inflate(bytes, limit: .max, appendingTo: &text)
            } catch {}
            response.send(200, type, text)
        } else {
            response.send(200, type, bytes)
        }
        return .answered
    }
}

/// Whether one of the bytes' stretches is another: a tag in `If-None-Match`, which may be a list and mark tags as weak.
private func contains(_ bytes: Span<UInt8>, _ other: Span<UInt8>) -> Bool {
    var start = 0
    while start + other.count <= bytes.count {
        if bytes.extracting(start..<start + other.count).equals(other) { return true }
        start += 1
    }
    return false
}

/// Whether `Accept-Encoding` names gzip, and not with a weight of 0 (RFC 9110 section 12.5.3).
func takesGzip(_ codings: Span<UInt8>) -> Bool {
    var start = 0
    while start < codings.count {
        var end = start
        while end < codings.count, codings[end] != UInt8(ascii: ",") { end += 1 }
        var item = codings.extracting(start..<end)
        while item.count > 0, item[0] == 0x20 { item = item.extracting(1..<item.count) }
        if item.count >= 4, item.extracting(0..<4).equalsIgnoringCase("gzip") {
            // `gzip`, `gzip;q=0.5`, `gzip ; q=0`: a weight is above 0 if it has a digit that is.
            var (isWeighted, isAboveZero) = (false, false)
            for index in 4..<item.count {
                if item[index] == UInt8(ascii: "=") { isWeighted = true }
                if item[index] &- 0x31 < 9 { isAboveZero = true }
            }
            return !isWeighted || isAboveZero
        }
        start = end + 1
    }
    return false
}
