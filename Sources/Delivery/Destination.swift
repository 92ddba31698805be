// The `destinations` section of a bundle: where events may go, which, in what form, and in what portions. It need not
// know CEL (the condition is handed on as text) nor how anything is sent.

import Cryptography
import Formats

/// The address of a destination. `http:` is for a hub on this very device only: nothing else may carry data in the clear.
public struct DestinationURL: Equatable, Sendable {
    public let isSecure: Bool
    /// A DNS name or an address without brackets, in lower case.
    public let host: String
    public let port: UInt16
    /// Path and query as they are sent, beginning with "/".
    public let target: [UInt8]

    public enum Problem: Error, Equatable {
        case malformed
        case notSecure

        public var message: String {
            switch self {
            case .malformed:
                return
                    "url must be like https://hub.example:8443/v1/batch, at most 2048 bytes: a host, a path; no user, no #"
            case .notSecure:
                return "http: is for this device's own addresses only (localhost, 127.0.0.1, [::1]): use https:"
            }
        }
    }

    /// Reads an absolute URL (RFC 3986) of the schemes http and https.
    public init(_ text: Span<UInt8>) throws(Problem) {
        guard text.count <= Limits.urlBytes else { throw .malformed }
        for index in 0..<text.count where text[index] <= 0x20 || text[index] >= 0x7f || text[index] == UInt8(ascii: "#") {
            throw .malformed
        }
        var position: Int
        if startsIgnoringCase(text, "https://") {
            isSecure = true
            position = 8
        } else if startsIgnoringCase(text, "http://") {
            isSecure = false
            position = 7
        } else {
            throw .malformed
        }
        let (host, isAddressLiteral) = try DestinationURL.readHost(text, &position)
        port = try DestinationURL.readPort(text, &position, otherwise: isSecure ? 443 : 80)
        self.host = host
        var target: [UInt8] = []
        if position == text.count || text[position] == UInt8(ascii: "?") { target.append(UInt8(ascii: "/")) }
        target.append(contentsOf: text.extracting(position..<text.count))
        guard target[0] == UInt8(ascii: "/") else { throw .malformed }
        self.target = target
        if !isSecure {
            let bytes = Array(host.utf8)
            guard isAddressLiteral ? equal(bytes.span, ("::1" as StaticString).bytes) : isLoopbackName(bytes.span) else {
                throw .notSecure
            }
        }
    }

    private static func readHost(
        _ text: Span<UInt8>, _ position: inout Int
    ) throws(Problem) -> (host: String, isAddressLiteral: Bool) {
        var bytes: [UInt8] = []
        let isAddressLiteral = position < text.count && text[position] == UInt8(ascii: "[")
        if isAddressLiteral { position += 1 }
        while position < text.count {
            var byte = text[position]
            if byte &- 0x41 < 26 { byte |= 0x20 }
            let isPart: Bool
            if isAddressLiteral {
                isPart = byte &- 0x30 < 10 || byte &- 0x61 < 6 || byte == UInt8(ascii: ":") || byte == UInt8(ascii: ".")
            } else {
                isPart =
                    byte &- 0x30 < 10 || byte &- 0x61 < 26 || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
                    || byte == UInt8(ascii: "_")
            }
            if !isPart { break }
            bytes.append(byte)
            position += 1
        }
        if isAddressLiteral {
            guard position < text.count, text[position] == UInt8(ascii: "]") else { throw .malformed }
            position += 1
        }
        guard !bytes.isEmpty, bytes.count <= 253 else { throw .malformed }
        return (String(decoding: bytes, as: UTF8.self), isAddressLiteral)
    }

    private static func readPort(
        _ text: Span<UInt8>, _ position: inout Int, otherwise: UInt16
    ) throws(Problem) -> UInt16 {
        guard position < text.count, text[position] == UInt8(ascii: ":") else { return otherwise }
        position += 1
        var port: UInt32 = 0
        let start = position
        while position < text.count, text[position] &- 0x30 < 10, position - start < 5 {
            port = port * 10 + UInt32(text[position] - 0x30)
            position += 1
        }
        guard position > start, port > 0, port <= 65_535 else { throw .malformed }
        return UInt16(port)
    }
}

extension DestinationURL {
    /// Host and port as they are written in a URL and in the Host field; the scheme's own port is left out.
    public func appendAuthority(to output: inout [UInt8]) {
        let isAddressWithColons = host.utf8.contains(UInt8(ascii: ":"))
        if isAddressWithColons { output.append(UInt8(ascii: "[")) }
        output.append(contentsOf: Array(host.utf8))
        if isAddressWithColons { output.append(UInt8(ascii: "]")) }
        if port != (isSecure ? 443 : 80) {
            output.append(UInt8(ascii: ":"))
            appendInteger(UInt64(port), to: &output)
        }
    }
}

/// "localhost", a name under it (RFC 6761 section 6.3), or an address in 127/8.
private func isLoopbackName(_ host: Span<UInt8>) -> Bool {
    let name: StaticString = "localhost"
    if equal(host, name.bytes) { return true }
    if host.count > 10, host[host.count - 10] == UInt8(ascii: "."),
        equal(host.extracting((host.count - 9)..<host.count), name.bytes)
    { return true }
    var parts = 0
    var value = -1
    for index in 0...host.count {
        if index == host.count || host[index] == UInt8(ascii: ".") {
            guard value >= 0, value <= 255, parts > 0 || value == 127 else { return false }
            parts += 1
            value = -1
        } else {
            guard host[index] &- 0x30 < 10, value <= 255 else { return false }
            value = max(0, value) * 10 + Int(host[index] - 0x30)
        }
    }
    return parts == 4
}

private func startsIgnoringCase(_ text: Span<UInt8>, _ lowercase: StaticString) -> Bool {
    let expected = lowercase.bytes
    guard text.count >= expected.count else { return false }
    for index in 0..<expected.count {
        let byte = text[index] &- 0x41 < 26 ? text[index] | 0x20 : text[index]
        if byte != expected[index] { return false }
    }
    return true
}

/// The form in which events are sent.
public enum WireFormat: UInt8, Sendable {
    /// `{"batch":[…],"sentAt":…}`, what Segment's collectors take.
    case segment
    /// A CloudEvents batch: `[…]` (CloudEvents 1.0, HTTP binding 3.3).
    case cloudEvents
    /// One event a request, as it is or in the form that the bundle gives it.
    case webhook
}

/// One destination of a bundle.
public struct Destination: Sendable {
    /// Its name in the bundle: 1 to 64 bytes.
    public let name: [UInt8]
    public internal(set) var url: DestinationURL
    /// Where its settings stand in the bundle.
    public let settings: JSONNode
    /// The purpose that an event and its person's consent must cover.
    public internal(set) var purpose: [UInt8] = []
    /// FNV-1a of the purpose's name, as the log has it.
    public internal(set) var purposeTag: UInt32 = 0
    /// CEL over the event, not yet compiled; nil: all events. The node is for the compiler's complaints.
    public internal(set) var condition: (source: [UInt8], node: JSONNode)?
    /// Kinds of identifiers that may leave, in the form that the bundle says for each.
    public internal(set) var identifiers: [[UInt8]] = []
    /// Dotted paths of fields that never leave, each split at its dots: `context.ip` is [context, ip].
    public internal(set) var denied: [[[UInt8]]] = []
    /// What it gets although it is restricted: fields of events by their paths, and attributes as [profile, name]. The node
    /// is for complaints.
    public internal(set) var restricted: [[[UInt8]]] = []
    public internal(set) var restrictedNode: JSONNode?
    public internal(set) var maximumEvents = Int(Limits.defaultBatchEvents)
    /// Of a request's body before compression.
    public internal(set) var maximumBytes = Int(Limits.defaultBatchBytes)
    /// How long the first event of a batch waits for others; one of tier `realtime` does not wait.
    public internal(set) var delayMilliseconds = Limits.defaultDelayMilliseconds
    /// What the lane `batch` may take of a day, bytes on the wire; nil: no bound.
    public internal(set) var budgetBytes: Int64?
    /// What a GiB on the way there costs, in whatever currency; nil: nobody has said.
    public internal(set) var cost: Double?
    public internal(set) var format = WireFormat.segment
    /// Of the format `webhook`.
    public internal(set) var webhook = Webhook()
    /// Sent as the user name of Basic authentication (Segment's write key); nil: none.
    public internal(set) var token: [UInt8]?
    /// SHA-256 of the public keys that it may have; empty: what the device says.
    public internal(set) var pins: [Digest256] = []
    /// The index of the destination that takes over while this one does not answer.
    public internal(set) var fallback: Int?
    /// Whether it is another one's fallback: then it gets what that one cannot deliver, and nothing by itself, since
    /// events that went to both anyway would need no fallback.
    public internal(set) var isFallbackOnly = false
}

/// All destinations of a bundle, in its order.
public struct DestinationPlan: Sendable {
    public private(set) var destinations: [Destination] = []

    public init() {}

    /// Reads the section; problems are remembered by the reader, with line and column.
    /// - Parameters:
    ///   - purposes: the names that the bundle declares.
    ///   - identifiers: the kinds of identifiers that the bundle declares.
    public init(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, purposes: [[UInt8]], identifiers: [[UInt8]],
        maximumDestinations: Int = 16, _ reader: inout PlanReader
    ) {
        guard let section = reader.object(document, bundle, "destinations") else { return }
        var fallbackNodes: [(index: Int, node: JSONNode)] = []
        var key = document.firstChild(section)
        while let name = key, let settings = document.next(name) {
            key = document.next(settings)
            guard document.kind(settings) == .object else {
                reader.report(document, settings, "a destination's settings must be a map, such as { url: …, purpose: … }")
                continue
            }
            guard destinations.count < maximumDestinations else {
                reader.report(document, name, "there can be at most \(maximumDestinations) destinations")
                return
            }
            guard var destination = DestinationPlan.readRequired(document, name, settings, purposes, &reader) else { continue }
            DestinationPlan.readOptional(document, settings, identifiers, &destination, &reader)
            if let node = reader.text(document, settings, "fallback") {
                fallbackNodes.append((destinations.count, node))
            }
            destinations.append(destination)
        }
        for entry in fallbackNodes { resolveFallback(document, entry.index, entry.node, &reader) }
    }

    /// The name, where to and what for: without them there is no destination.
    private static func readRequired(
        _ document: borrowing JSONDocument, _ name: JSONNode, _ settings: JSONNode, _ purposes: [[UInt8]],
        _ reader: inout PlanReader
    ) -> Destination? {
        reader.refuseOthers(
            document, settings,
            [
                "url", "purpose", "when", "identifiers", "deny", "restricted", "batch", "fallback", "format", "token", "body",
                "headers", "sign", "send", "zone", "cost", "pins",
            ], of: "a destination")
        let nameBytes = copy(document, name)
        guard !nameBytes.isEmpty, nameBytes.count <= 64 else {
            reader.report(document, name, "a destination's name has 1 to 64 bytes")
            return nil
        }
        guard document.member(settings, "url") != nil else {
            reader.report(document, name, "this destination needs a url, such as https://hub.example/v1/batch")
            return nil
        }
        guard document.member(settings, "purpose") != nil else {
            reader.report(document, name, "this destination needs a purpose: one of the bundle's purposes")
            return nil
        }
        guard let urlNode = reader.text(document, settings, "url") else { return nil }
        let url: DestinationURL
        do { url = try DestinationURL(document.bytes(urlNode)) } catch {
            reader.report(document, urlNode, error.message)
            return nil
        }
        guard let purposeNode = reader.text(document, settings, "purpose") else { return nil }
        var destination = Destination(name: nameBytes, url: url, settings: settings)
        destination.purpose = copy(document, purposeNode)
        destination.purposeTag = NameTag.of(document.bytes(purposeNode))
        guard purposes.contains(destination.purpose) else {
            reader.report(
                document, purposeNode,
                "\(document.string(purposeNode) ?? "") is not among the purposes of this bundle (\(list(purposes)))")
            return nil
        }
        return destination
    }

    private static func readOptional(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ identifiers: [[UInt8]],
        _ destination: inout Destination, _ reader: inout PlanReader
    ) {
        if let node = reader.text(document, settings, "when") { destination.condition = (copy(document, node), node) }
        for node in texts(document, settings, "identifiers", atMost: Limits.identifiers, &reader) {
            let kind = copy(document, node)
            if !identifiers.contains(kind) {
                reader.report(
                    document, node,
                    "\(document.string(node) ?? "") is not among the identifiers of this bundle (\(list(identifiers)))")
            } else if !destination.identifiers.contains(kind) {
                destination.identifiers.append(kind)
            }
        }
        destination.denied = reader.fieldPaths(document, settings, "deny", atMost: Limits.deniedFields)
        destination.restrictedNode = document.member(settings, "restricted")
        destination.restricted = reader.fieldPaths(document, settings, "restricted", atMost: Limits.deniedFields)
        if let batch = reader.object(document, settings, "batch") {
            reader.refuseOthers(document, batch, ["events", "bytes", "delay", "budget"], of: "a batch")
            if let events = reader.integer(document, batch, "events", Limits.batchEvents) {
                destination.maximumEvents = Int(events)
            }
            if let bytes = reader.size(document, batch, "bytes", Limits.batchBytes) { destination.maximumBytes = Int(bytes) }
            if let delay = reader.duration(document, batch, "delay", atMost: Limits.delayMilliseconds) {
                destination.delayMilliseconds = delay
            }
            destination.budgetBytes = reader.size(document, batch, "budget", Limits.budgetBytes)
        }
        if let node = document.member(settings, "cost") {
            destination.cost = document.double(node)
            if !((destination.cost ?? -1) >= 0) {
                reader.report(document, node, "cost must be a number: what a GiB on the way there costs")
            }
        }
        if let node = reader.text(document, settings, "format") {
            if document.equals(node, "cloudevents") {
                destination.format = .cloudEvents
            } else if document.equals(node, "webhook") {
                destination.format = .webhook
                destination.webhook = Webhook(document, settings, &reader)
                destination.maximumEvents = 1
            } else if !document.equals(node, "segment") {
                reader.report(document, node, "format must be segment, cloudevents or webhook")
            }
        }
        let isWebhook = destination.format == .webhook
        let others: [StaticString] = isWebhook ? ["batch"] : ["body", "headers", "sign"]
        for name in others {
            guard let node = document.member(settings, name) else { continue }
            reader.report(
                document, node,
                isWebhook ? "a webhook gets one event a request, and no batch" : "this is for format: webhook only")
        }
        destination.pins = reader.pins(document, settings)
        if let node = reader.text(document, settings, "token") {
            let token = copy(document, node)
            // RFC 7617 section 2: a user name has no colon.
            if token.isEmpty || token.count > Limits.tokenBytes || token.contains(UInt8(ascii: ":")) {
                reader.report(document, node, "token must have 1 to \(Limits.tokenBytes) bytes and no colon")
            } else {
                destination.token = token
            }
        }
    }

    private mutating func resolveFallback(
        _ document: borrowing JSONDocument, _ index: Int, _ node: JSONNode, _ reader: inout PlanReader
    ) {
        let name = DestinationPlan.copy(document, node)
        guard let other = destinations.firstIndex(where: { $0.name == name }) else {
            reader.report(document, node, "fallback must name another destination of this bundle")
            return
        }
        if other == index || destinations[other].fallback != nil || destinations[index].isFallbackOnly {
            reader.report(document, node, "a fallback is another destination that has no fallback itself")
            return
        }
        if destinations[other].format != destinations[index].format {
            reader.report(document, node, "a fallback must have the same format")
            return
        }
        destinations[index].fallback = other
        destinations[other].isFallbackOnly = true
    }

    /// The elements of a list of texts.
    private static func texts(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ name: StaticString, atMost: Int,
        _ reader: inout PlanReader
    ) -> [JSONNode] {
        guard let node = document.member(settings, name), !document.isNull(node) else { return [] }
        guard document.kind(node) == .array, document.count(node) <= atMost else {
            reader.report(document, node, "\(name) must be a list of at most \(atMost) names")
            return []
        }
        var found: [JSONNode] = []
        var element = document.firstChild(node)
        while let one = element {
            element = document.next(one)
            if document.kind(one) == .string {
                found.append(one)
            } else {
                reader.report(document, one, "\(name) must be a list of names")
            }
        }
        return found
    }

    private static func copy(_ document: borrowing JSONDocument, _ node: JSONNode) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(contentsOf: document.bytes(node))
        return bytes
    }

    private static func list(_ names: [[UInt8]]) -> String {
        var text = ""
        for name in names { text += (text.isEmpty ? "" : ", ") + String(decoding: name, as: UTF8.self) }
        return text.isEmpty ? "it has none" : text
    }
}
