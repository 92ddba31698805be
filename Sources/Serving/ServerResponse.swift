// The writing of responses (RFC 9112 section 4) straight into the thread's output buffer. Knows no socket.

import Formats
import HTTP

/// Where a route puts its answer: headers first, then `send` once.
public struct Response {
    /// Finished responses that have not been written to the connection.
    var output: [UInt8] = []
    /// Extra header lines of the response under way.
    private var fields: [UInt8] = []
    /// `Date: …` and its line end, or empty.
    var dateLine: [UInt8] = []
    private var isToHead = false
    private var minorVersion: UInt8 = 1
    private(set) var keepsAlive = true
    private(set) var isSent = false

    init() { output.reserveCapacity(4096) }

    /// Makes ready for the response to one request.
    mutating func begin(toHead: Bool, minorVersion: UInt8, keepsAlive: Bool) {
        isToHead = toHead
        self.minorVersion = minorVersion
        self.keepsAlive = keepsAlive
        isSent = false
        fields.removeAll(keepingCapacity: true)
    }

    /// The connection is closed behind this response.
    public mutating func closeConnection() { keepsAlive = false }

    /// Adds a header to the response that `send` will write. Bytes that could end the line become spaces.
    public mutating func header(_ name: StaticString, _ value: Span<UInt8>) {
        fields.append(contentsOf: name.bytes)
        fields.append(0x3A)
        fields.append(0x20)
        for index in 0..<value.count { fields.append(value[index] < 0x20 ? 0x20 : value[index]) }
        fields.append(0x0D)
        fields.append(0x0A)
    }

    public mutating func header(_ name: StaticString, _ value: [UInt8]) { header(name, value.span) }

    public mutating func header(_ name: StaticString, _ value: StaticString) { header(name, value.bytes) }

    public mutating func header(_ name: StaticString, _ value: Int64) {
        fields.append(contentsOf: name.bytes)
        fields.append(0x3A)
        fields.append(0x20)
        appendInteger(value, to: &fields)
        fields.append(0x0D)
        fields.append(0x0A)
    }

    /// Adds header lines that are written already, each with its CR LF.
    mutating func headerLines(_ lines: [UInt8]) { fields.append(contentsOf: lines) }

    /// Writes the response. To HEAD it writes the same without the body (RFC 9110 section 9.3.2); a 204 or 304 has
    /// neither body nor length.
    ///
    /// - Parameters:
    ///   - status: 200 to 599.
    ///   - contentType: the media type of the body; empty for none.
    public mutating func send(_ status: UInt16, _ contentType: StaticString, _ body: Span<UInt8>) {
        precondition(!isSent, "a response was sent twice")
        isSent = true
        appendStatusLine(status)
        let hasBody = status != 204 && status != 304
        if hasBody && contentType.utf8CodeUnitCount > 0 {
            append("Content-Type: ")
            append(contentType)
            append("\r\n")
        }
        if hasBody {
            append("Content-Length: ")
            appendInteger(UInt64(body.count), to: &output)
            append("\r\n")
        }
        if !keepsAlive {
            append("Connection: close\r\n")
        } else if minorVersion == 0 {
            append("Connection: keep-alive\r\n")
        }
        output.append(contentsOf: dateLine)
        output.append(contentsOf: fields)
        append("\r\n")
        if hasBody && !isToHead { output.append(contentsOf: body) }
    }

    public mutating func send(_ status: UInt16, _ contentType: StaticString, _ body: [UInt8]) {
        send(status, contentType, body.span)
    }

    /// A response without a body.
    public mutating func send(_ status: UInt16) { send(status, "", [UInt8]().span) }

    /// A problem (RFC 9457) without a type of its own: the title is that of the status code.
    ///
    /// - Parameter detail: what is wrong and what to do, in ASCII without quotes or backslashes.
    public mutating func sendProblem(_ status: UInt16, _ detail: StaticString) {
        sendProblem(status, detail.bytes)
    }

    /// The same with words made at run time.
    public mutating func sendProblem(_ status: UInt16, _ detail: Span<UInt8>) {
        var writer = JSONWriter(reserving: 128 + detail.count)
        writer.beginObject()
        writer.key("type")
        writer.string("about:blank")
        writer.key("title")
        writer.string(reasonPhrase(status))
        writer.key("status")
        writer.int(Int64(status))
        writer.key("detail")
        writer.string(detail)
        writer.endObject()
        let bytes = writer.bytes
        send(status, "application/problem+json", bytes.span)
    }

    /// `100 Continue` (RFC 9110 section 15.2.1).
    mutating func appendContinue() { append("HTTP/1.1 100 Continue\r\n\r\n") }

    private mutating func append(_ text: StaticString) { output.append(contentsOf: text.bytes) }

    private mutating func appendStatusLine(_ status: UInt16) {
        if status == 200 {
            append("HTTP/1.1 200 OK\r\n")
            return
        }
        append("HTTP/1.1 ")
        appendInteger(UInt64(status), to: &output)
        output.append(0x20)
        append(reasonPhrase(status))
        append("\r\n")
    }
}

/// The phrase of RFC 9110 section 15.
func reasonPhrase(_ status: UInt16) -> StaticString {
    switch status {
    case 200: "OK"
    case 201: "Created"
    case 202: "Accepted"
    case 204: "No Content"
    case 207: "Multi-Status"
    case 304: "Not Modified"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 406: "Not Acceptable"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 413: "Content Too Large"
    case 414: "URI Too Long"
    case 415: "Unsupported Media Type"
    case 417: "Expectation Failed"
    case 421: "Misdirected Request"
    case 422: "Unprocessable Content"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 503: "Service Unavailable"
    case 505: "HTTP Version Not Supported"
    case 507: "Insufficient Storage"
    default: "Status"
    }
}
