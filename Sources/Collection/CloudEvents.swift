// CloudEvents 1.0 as messages of the tracking API, so that the pipeline has one kind of event. It need not know HTTP:
// it is given headers as names and values, and bodies as bytes or parsed.

import Cryptography
import Formats

/// Translates CloudEvents (specification 1.0.2, with its JSON format and the three content modes of its HTTP binding)
/// into messages of the Segment tracking API, in memory that is reused. One for each serving thread.
///
/// | CloudEvent | message |
/// |---|---|
/// | `type` | `event` of a `track` message |
/// | `source` and `id` | `messageId`: `source id`, or the SHA-256 of both where that is longer than 255 bytes |
/// | `time` | `timestamp` |
/// | extensions `userid`, `anonymousid` | `userId`, `anonymousId` |
/// | `subject` | `userId`, where neither of those is set |
/// | data that is an object | `properties`; without the three above its `userId` and `anonymousId` say who it was |
/// | data that is other JSON or text | `properties.data` |
/// | any other data | `properties.data_bytes`, its size: it cannot be searched for identifiers, and is not kept |
/// | all others, with `type` and `source` | `context.cloudevents` |
///
/// Data that is itself a message of the tracking API — an object whose `type` is the last word of the CloudEvent's
/// `type` (`track` of `com.example.track`), with `userId` or `anonymousId` — is taken as that message; the attributes
/// fill in what it lacks.
public struct CloudEvents {
    private var attributes = CloudEventAttributes()
    /// Data that came as bytes.
    private var data = JSONDocument()
    private var bytes: [UInt8] = []
    private var message = JSONWriter()
    private var fault: RefusedEvent?

    /// What has been translated: a message, or `{"batch":[…]}`. Empty when the only event was refused.
    public private(set) var output = JSONWriter()
    /// The events that were refused, in the order of their indices.
    public private(set) var refused: [RefusedEvent] = []

    public init() {}

    /// Lets go of what has been translated, and of memory that only a large batch needs.
    public mutating func clear() {
        output.clear(keepingCapacity: output.bytes.capacity <= Limits.keptBufferBytes)
        refused.removeAll()
        if data.capacityBytes > Limits.keptBufferBytes { data = JSONDocument() }
        if bytes.capacity > Limits.keptBufferBytes { bytes = [] }
        if message.bytes.capacity > Limits.keptBufferBytes { message = JSONWriter() }
    }

    // MARK: Structured and batched modes

    /// How deep a body may be nested, so that its translation is no deeper than the pipeline takes: data that is no
    /// object comes to lie one level deeper.
    public static let structuredDepth = Limits.eventDepth - 1
    /// The array of a batch is one level of its own.
    public static let batchDepth = Limits.eventDepth
    /// What holds for what comes out: the message, and in a batch the object and the array around it.
    public static let outputDepth = Limits.eventDepth + 2

    /// Translates one event in the JSON format (HTTP binding 3.2).
    public mutating func takeStructured(_ document: borrowing JSONDocument) {
        clear()
        do throws(RefusedEvent) {
            try translate(document, document.root)
            finishMessage()
        } catch {
            refused.append(error)
        }
    }

    /// Translates a batch (HTTP binding 3.3, JSON batch format 4): an array, with at most `Limits.batchEvents`.
    public mutating func takeBatch(_ document: borrowing JSONDocument) {
        clear()
        output.beginObject()
        output.key("batch")
        output.beginArray()
        var index = 0
        var element = document.firstChild(document.root)
        while let event = element {
            do throws(RefusedEvent) {
                try translate(document, event)
                finishMessage()
            } catch {
                var refusal = error
                refusal.index = index
                refused.append(refusal)
            }
            index += 1
            element = document.next(event)
        }
        output.endArray()
        output.endObject()
    }

    private mutating func translate(_ document: borrowing JSONDocument, _ event: JSONNode) throws(RefusedEvent) {
        guard document.kind(event) == .object else {
            throw RefusedEvent(EventRefusal("not_an_object", "a CloudEvent must be a JSON object"), at: [])
        }
        attributes.isBinary = false
        attributes.clear()
        var plain: JSONNode?
        var encoded: JSONNode?
        var key = document.firstChild(event)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            if document.equals(name, "data") {
                plain = value
            } else if document.equals(name, "data_base64") {
                encoded = document.isNull(value) ? nil : value
            } else {
                try takeMember(document, name, value)
            }
        }
        try attributes.checkWhole()
        if plain != nil, encoded != nil {
            throw attributes.fault("bad_data", "data and data_base64 exclude each other", "data_base64")
        }
        if let encoded {
            try takeEncoded(document, encoded)
        } else {
            try takePlain(document, plain)
        }
    }

    /// JSON format 2.2: `null` is as if the attribute were not there.
    private mutating func takeMember(
        _ document: borrowing JSONDocument, _ name: JSONNode, _ value: JSONNode
    ) throws(RefusedEvent) {
        switch document.kind(value) {
        case .null: return
        case .string: try attributes.take(document.bytes(name), .text, document.bytes(value))
        case .bool: try attributes.take(document.bytes(name), .bool(document.bool(value) == true), Span<UInt8>())
        case .integer:
            // What does not fit 64 bits does not fit 32 either.
            let number = document.int64(value) ?? Int64.max
            try attributes.take(document.bytes(name), .integer(number), Span<UInt8>())
        case .number, .array, .object:
            throw attributes.fault(
                "bad_attribute", "an attribute is text, an integer or a boolean", document.bytes(name))
        }
    }

    /// JSON format 3.1.2: `data` is JSON unless `datacontenttype` says otherwise; then it is text.
    private mutating func takePlain(_ document: borrowing JSONDocument, _ node: JSONNode?) throws(RefusedEvent) {
        guard let node else { return try writeBytes(.none) }
        let type = mediaType(without: .json)
        if type == .json { return try write(document, node, .json) }
        guard document.kind(node) == .string else {
            throw attributes.fault("bad_data", "data of this media type must be text or data_base64", "data")
        }
        bytes.removeAll(keepingCapacity: true)
        bytes.append(contentsOf: document.bytes(node))
        try writeBytes(.text)
    }

    /// JSON format 3.1.2: without `datacontenttype` nothing may be assumed of the bytes.
    private mutating func takeEncoded(_ document: borrowing JSONDocument, _ node: JSONNode) throws(RefusedEvent) {
        bytes.removeAll(keepingCapacity: true)
        guard document.kind(node) == .string, Base64.appendDecoded(document.bytes(node), to: &bytes) else {
            throw attributes.fault("bad_data", "data_base64 must be base 64 (RFC 4648)", "data_base64")
        }
        try takeBytes(mediaType(without: .other))
    }

    private func mediaType(without assumed: MediaType) -> MediaType {
        let text = attributes[.datacontenttype]
        return text.isEmpty ? assumed : MediaType(text.span) ?? .other
    }

    // MARK: Binary mode

    /// Begins an event in binary mode (HTTP binding 3.1): then come its headers, and its body last.
    public mutating func beginBinary() {
        clear()
        attributes.isBinary = true
        attributes.clear()
        fault = nil
    }

    /// Takes one header of the request; those that are no attributes are passed over.
    public mutating func takeHeader(_ name: Span<UInt8>, _ value: Span<UInt8>) {
        guard fault == nil else { return }
        do throws(RefusedEvent) {
            if CloudEvents.isContentType(name) {
                try attributes.take(CloudEventAttributes.Name.datacontenttype.text.bytes, .text, value)
            } else if name.count > 3, loweredASCII(name[0]) == UInt8(ascii: "c"), loweredASCII(name[1]) == UInt8(ascii: "e"),
                name[2] == UInt8(ascii: "-")
            {
                try attributes.takeHeader(name, value)
            }
        } catch {
            fault = error
        }
    }

    private static func isContentType(_ name: Span<UInt8>) -> Bool {
        let expected = ("content-type" as StaticString).bytes
        if name.count != expected.count { return false }
        for index in name.indices where loweredASCII(name[index]) != expected[index] { return false }
        return true
    }

    /// Ends an event in binary mode with its data. Without a media type it is JSON, as it would be in the JSON format.
    public mutating func takeBody(_ body: Span<UInt8>) {
        do throws(RefusedEvent) {
            if let fault { throw fault }
            try attributes.checkWhole()
            if body.isEmpty {
                try writeBytes(.none)
            } else {
                bytes.removeAll(keepingCapacity: true)
                bytes.append(contentsOf: body)
                try takeBytes(mediaType(without: .json))
            }
            finishMessage()
        } catch {
            refused.append(error)
        }
    }

    private mutating func finishMessage() {
        let text = message.bytes
        output.raw(text.span)
    }

    // MARK: Data

    private enum Form { case none, json, text, base64 }

    /// Takes the data in `bytes`.
    private mutating func takeBytes(_ type: MediaType) throws(RefusedEvent) {
        switch type {
        case .json:
            var parsed = JSONDocument()
            swap(&parsed, &data)
            defer { swap(&parsed, &data) }
            do throws(JSONError) {
                let text = bytes
                try parsed.parse(text.span, maximumDepth: Limits.eventDepth - 2, maximumValues: Limits.bodyValues)
            } catch {
                throw attributes.fault(
                    "bad_data", "the data is not JSON, as its media type has it, or is nested too deep", "data")
            }
            try write(parsed, parsed.root, .json)
        case .text where isUTF8:
            try writeBytes(.text)
        default:
            let raw = bytes
            bytes = Base64.encode(raw.span)
            try writeBytes(.base64)
        }
    }

    private var isUTF8: Bool {
        let text = bytes
        return UTF8Text.firstInvalid(text.span) == nil
    }

    // MARK: The message

    /// Who the event is about. Empty for nobody.
    private struct Person {
        var user: [UInt8] = []
        var anonymous: [UInt8] = []
    }

    /// For data that is no part of a document.
    private mutating func writeBytes(_ form: Form) throws(RefusedEvent) {
        let unused = data
        try write(unused, nil, form)
    }

    /// Leaves the message in `message`. Data of form `.json` is at `node`; that of the others in `bytes`.
    private mutating func write(
        _ document: borrowing JSONDocument, _ node: JSONNode?, _ form: Form
    ) throws(RefusedEvent) {
        let person = findPerson(document, node)
        message.clear()
        message.beginObject()
        if let node, isMessage(document, node) {
            writeAsItIs(document, node, person)
        } else {
            if person.user.isEmpty, person.anonymous.isEmpty {
                throw attributes.fault(
                    "no_identity", "who it was must be in subject, userid, anonymousid or userId of the data",
                    CloudEventAttributes.Name.subject.text)
            }
            message.key("type")
            message.string(EventType.track.name)
            message.key("event")
            message.string(attributes[.type])
            writeMissing(document, nil, person)
            message.key("properties")
            writeProperties(document, node, form)
            writeContext(document, nil)
        }
        message.endObject()
        if message.bytes.count > Limits.eventBytes {
            throw RefusedEvent(EventRefusal("too_large", "an event may have 32 KiB"), at: [])
        }
    }

    private func findPerson(_ document: borrowing JSONDocument, _ node: JSONNode?) -> Person {
        var person = Person(user: attributes[.userid], anonymous: attributes[.anonymousid])
        if person.user.isEmpty, person.anonymous.isEmpty { person.user = attributes[.subject] }
        guard person.user.isEmpty, person.anonymous.isEmpty, let node else { return person }
        person.user = CloudEvents.identifier(document, node, "userId")
        person.anonymous = CloudEvents.identifier(document, node, "anonymousId")
        return person
    }

    /// Text or a whole number; empty for anything else.
    private static func identifier(
        _ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString
    ) -> [UInt8] {
        guard let node = document.member(object, name),
            document.kind(node) == .string || document.kind(node) == .integer
        else { return [] }
        return [UInt8](copying: document.bytes(node))
    }

    /// Whether data is a message of the tracking API: of the type that the CloudEvent's ends in, and about somebody, or
    /// sent by another Gatehouse, which sends no raw identifiers.
    private func isMessage(_ document: borrowing JSONDocument, _ node: JSONNode) -> Bool {
        guard document.kind(node) == .object, let type = document.member(node, "type"),
            document.kind(type) == .string, EventType(document.bytes(type)) != nil
        else { return false }
        let name = attributes[.type]
        var start = name.count
        while start > 0, name[start - 1] != UInt8(ascii: ".") { start -= 1 }
        guard equal(name.span.extracting(start..<name.count), document.bytes(type)) else { return false }
        if let user = document.member(node, "userId"), document.kind(user) == .string { return true }
        if let anonymous = document.member(node, "anonymousId"), document.kind(anonymous) == .string { return true }
        return document.member(node, "context").flatMap { document.member($0, "gatehouse") } != nil
    }

    private mutating func writeAsItIs(_ document: borrowing JSONDocument, _ node: JSONNode, _ person: Person) {
        writeMissing(document, node, person)
        let context = document.member(node, "context")
        let hasContext = context.map { document.kind($0) == .object || document.isNull($0) } ?? true
        var key = document.firstChild(node)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            if hasContext, value == context { continue }
            message.key(document.bytes(name))
            message.value(document, value)
        }
        if hasContext { writeContext(document, context) }
    }

    /// Writes of `messageId`, `timestamp`, `userId` and `anonymousId` what the message `own` has not.
    private mutating func writeMissing(_ document: borrowing JSONDocument, _ own: JSONNode?, _ person: Person) {
        func lacks(_ document: borrowing JSONDocument, _ name: StaticString) -> Bool {
            own.flatMap { document.member($0, name) } == nil
        }
        if lacks(document, "messageId") {
            message.key("messageId")
            writeMessageID()
        }
        if attributes.has(.time), lacks(document, "timestamp"), lacks(document, "originalTimestamp") {
            message.key("timestamp")
            message.string(attributes[.time])
        }
        if !person.user.isEmpty, lacks(document, "userId") {
            message.key("userId")
            message.string(person.user)
        }
        if !person.anonymous.isEmpty, lacks(document, "anonymousId") {
            message.key("anonymousId")
            message.string(person.anonymous)
        }
    }

    /// `source` and `id` together tell an event from all others (CloudEvents 1.0, id). A source has no space, so that
    /// the first one parts the two; the hash has none at all.
    private mutating func writeMessageID() {
        let source = attributes[.source]
        let id = attributes[.id]
        if source.count + 1 + id.count <= Limits.messageIDBytes {
            message.string(source + [0x20] + id)
            return
        }
        var hash = SHA256()
        hash.update(source.span)
        let separator: [UInt8] = [0]
        hash.update(separator.span)
        hash.update(id.span)
        var text: [UInt8] = []
        hash.digest().appendHexadecimal(to: &text)
        message.string(text)
    }

    private mutating func writeProperties(_ document: borrowing JSONDocument, _ node: JSONNode?, _ form: Form) {
        if form == .json, let node, document.kind(node) == .object {
            message.value(document, node)
            return
        }
        message.beginObject()
        switch form {
        case .none: break
        case .json:
            if let node {
                message.key("data")
                message.value(document, node)
            }
        case .text:
            message.key("data")
            message.string(bytes)
        case .base64:
            // Nobody can search a picture for identifiers: what cannot be looked into is not kept (promise P3).
            var padding = 0
            while padding < bytes.count, bytes[bytes.count - 1 - padding] == UInt8(ascii: "=") { padding += 1 }
            message.key("data_bytes")
            message.int(Int64((bytes.count - padding) * 3 / 4))
        }
        message.endObject()
    }

    /// The message's own context, if it has one, and in it what the attributes say besides.
    private mutating func writeContext(_ document: borrowing JSONDocument, _ own: JSONNode?) {
        message.key("context")
        message.beginObject()
        var key = own.flatMap { document.firstChild($0) }
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            if document.equals(name, "cloudevents") { continue }
            message.key(document.bytes(name))
            message.value(document, value)
        }
        message.key("cloudevents")
        message.beginObject()
        let isPerson = !attributes.has(.userid) && !attributes.has(.anonymousid)
        let names: [CloudEventAttributes.Name] = [.source, .type, .subject, .datacontenttype, .dataschema]
        for name in names where attributes.has(name) && !(name == .subject && isPerson) {
            message.key(name.text)
            message.string(attributes[name])
        }
        let extensions = attributes.extensions.bytes
        if !extensions.isEmpty { message.raw(extensions.span) }
        message.endObject()
        message.endObject()
    }
}
