// What is said of a webhook in a bundle beside its address, and the lines of a request's head by which its receiver knows
// who sends it: Standard Webhooks 1.0.0 (`webhook-id`, `webhook-timestamp`, `webhook-signature`). It need not know bodies.

import Cryptography
import Formats

/// The settings of a destination of the format `webhook`.
public struct Webhook: Sendable {
    /// Where the body's template stands; nil: the message as it is.
    public internal(set) var body: JSONNode?
    /// Lines of the head that the bundle gives, each with its end.
    var headers: [UInt8] = []
    /// The key of the signature; nil: none.
    var secret: [UInt8]?

    init() {}

    /// Reads `body`, `headers` and `sign` of a destination's settings.
    init(_ document: borrowing JSONDocument, _ settings: JSONNode, _ reader: inout PlanReader) {
        body = document.member(settings, "body")
        if let section = reader.object(document, settings, "headers") {
            var key = document.firstChild(section)
            while let name = key, let value = document.next(name) {
                key = document.next(value)
                readHeader(document, name, value, &reader)
            }
        }
        guard let section = reader.object(document, settings, "sign") else { return }
        reader.refuseOthers(document, section, ["secret"], of: "sign")
        let node = document.member(section, "secret") ?? section
        secret = Webhook.secret(document, node)
        if secret == nil {
            reader.report(
                document, node,
                "secret must be whsec_ and 24 to 64 bytes in base64: echo whsec_$(head -c 32 /dev/urandom | base64)")
        }
    }

    private static func secret(_ document: borrowing JSONDocument, _ node: JSONNode) -> [UInt8]? {
        guard document.kind(node) == .string else { return nil }
        let text = document.bytes(node)
        let prefix: StaticString = "whsec_"
        guard text.count > 6, equal(text.extracting(0..<6), prefix.bytes),
            let key = Base64.decode(text.extracting(6..<text.count)), Limits.secretBytes.contains(key.count)
        else { return nil }
        return key
    }

    /// A field of the head: RFC 9110 sections 5.1 and 5.5, visible ASCII. What the request itself says is not for a bundle.
    private mutating func readHeader(
        _ document: borrowing JSONDocument, _ name: JSONNode, _ value: JSONNode, _ reader: inout PlanReader
    ) {
        let text = document.bytes(name)
        var isFit = document.kind(value) == .string && !text.isEmpty
        for index in 0..<text.count {
            let byte = text[index]
            let isLetter = (byte | 0x20) &- 0x61 < 26
            if !isLetter && byte &- 0x30 >= 10 && byte != UInt8(ascii: "-") && byte != UInt8(ascii: "_") { isFit = false }
        }
        for own: StaticString in ["host", "connection", "transfer-encoding", "user-agent", "content-"]
        where text.count >= own.utf8CodeUnitCount {
            var isOwn = true
            for index in 0..<own.utf8CodeUnitCount where text[index] | 0x20 != own.bytes[index] && text[index] != own.bytes[index] {
                isOwn = false
            }
            if isOwn { isFit = false }
        }
        if isFit {
            let content = document.bytes(value)
            for index in 0..<content.count where content[index] < 0x20 || content[index] >= 0x7f { isFit = false }
        }
        guard isFit, headers.count + text.count + document.bytes(value).count + 4 <= Limits.headerBytes else {
            reader.report(
                document, name, "headers are names and texts in ASCII, 4 KiB together; Host, Content-… and the like are set already")
            return
        }
        Webhook.append(text, document.bytes(value), to: &headers)
    }

    private static func append(_ name: Span<UInt8>, _ value: Span<UInt8>, to lines: inout [UInt8]) {
        lines.append(contentsOf: name)
        lines.append(UInt8(ascii: ":"))
        lines.append(UInt8(ascii: " "))
        lines.append(contentsOf: value)
        lines.append(13)
        lines.append(10)
    }

    /// The lines for one request.
    /// - Parameters:
    ///   - id: the same at each attempt.
    ///   - now: milliseconds since the epoch.
    func head(id: [UInt8], _ body: Span<UInt8>, now: Int64) -> [UInt8] {
        var lines = headers
        var time: [UInt8] = []
        appendInteger(now / 1000, to: &time)
        let (idName, timeName, signatureName): (StaticString, StaticString, StaticString) = (
            "webhook-id", "webhook-timestamp", "webhook-signature"
        )
        Webhook.append(idName.bytes, id.span, to: &lines)
        Webhook.append(timeName.bytes, time.span, to: &lines)
        guard let secret else { return lines }
        // The signature is of id, time and body with points between them.
        var signed = id
        signed.append(UInt8(ascii: "."))
        signed.append(contentsOf: time)
        signed.append(UInt8(ascii: "."))
        signed.append(contentsOf: body)
        let digest = HMACSHA256(key: secret).authenticate(signed)
        var signature = Array("v1,".utf8)
        digest.withSpan { Base64.append($0, to: &signature) }
        Webhook.append(signatureName.bytes, signature.span, to: &lines)
        return lines
    }
}
