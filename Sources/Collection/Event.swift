// An event of the Segment tracking API, found inside a parsed document: where its parts are and whether it is one.
// It need not know the tracking plan, people or consent.

import Formats

public enum EventType: UInt8, Sendable {
    case identify, track, page, screen, group, alias

    public init?(_ name: Span<UInt8>) {
        let all: [EventType] = [.identify, .track, .page, .screen, .group, .alias]
        for type in all where equal(name, type.name.bytes) {
            self = type
            return
        }
        return nil
    }

    /// Whether what is said stands in `traits`, and not in `properties`.
    public var hasTraits: Bool { self == .identify || self == .group }

    public var name: StaticString {
        switch self {
        case .identify: "identify"
        case .track: "track"
        case .page: "page"
        case .screen: "screen"
        case .group: "group"
        case .alias: "alias"
        }
    }
}

/// Why an event cannot be taken: for the sender, with no value of the event in it.
public struct EventRefusal: Error {
    /// A word for programs.
    public let code: StaticString
    /// What is wrong and what to do.
    public let message: StaticString
    /// The member at fault, relative to the event.
    public let member: StaticString
    /// Of an event that breaks its schema: JSON pointers of the value in the event and of the rule in the schema.
    public let pointer: [UInt8]
    public let rule: [UInt8]

    public init(
        _ code: StaticString, _ message: StaticString, at member: StaticString = "", pointer: [UInt8] = [],
        rule: [UInt8] = []
    ) {
        self.pointer = pointer
        self.rule = rule
        self.code = code
        self.message = message
        self.member = member
    }
}

/// An event that was refused before it came to the pipeline, as one of those of its request.
public struct RefusedEvent: Error {
    /// Which one of the request's events, from 0.
    public var index = 0
    public var refusal: EventRefusal
    /// What is at fault: a JSON pointer into the event, or the name of a header. Empty for the event as a whole.
    public var member: [UInt8]

    public init(_ refusal: EventRefusal, at member: [UInt8]) {
        self.refusal = refusal
        self.member = member
    }
}

/// Where an event's parts lie in its document.
public struct Event {
    public var type: EventType
    /// The whole message.
    public var root: JSONNode
    /// `event` of a track call.
    public var name: JSONNode?
    public var messageID: JSONNode?
    public var context: JSONNode?
    /// `properties`, or `traits` of identify and group; of identify `context.traits` where that is all there is, as the
    /// SDKs of RudderStack have it.
    public var properties: JSONNode?
    /// When it happened, milliseconds since the epoch, corrected by the sender's clock skew where `sentAt` tells it.
    public var timestamp: Int64

    /// Finds the parts of a message and checks what the Segment API asks of it.
    /// - Parameters:
    ///   - type: what the route says; nil in a batch, where each message says it itself.
    ///   - sentAt: the batch's `sentAt`, milliseconds; nil for none.
    ///   - receivedAt: now, milliseconds since the epoch.
    public init(
        _ document: borrowing JSONDocument, _ root: JSONNode, type routeType: EventType?, sentAt batchSentAt: Int64?,
        receivedAt: Int64
    ) throws(EventRefusal) {
        guard document.kind(root) == .object else {
            throw EventRefusal("not_an_object", "an event must be a JSON object")
        }
        self.root = root
        if let routeType {
            type = routeType
        } else {
            guard let node = document.member(root, "type"), document.kind(node) == .string,
                let named = EventType(document.bytes(node))
            else {
                throw EventRefusal(
                    "bad_type", "type must be one of identify, track, page, screen, group, alias", at: "/type")
            }
            type = named
        }
        guard Event.isText(document, root, "userId") || Event.isText(document, root, "anonymousId") else {
            throw EventRefusal(
                "no_identity", "userId or anonymousId is needed: a text that is not empty", at: "/userId")
        }
        switch type {
        case .track:
            guard Event.isText(document, root, "event") else {
                throw EventRefusal("no_event_name", "a track call needs event: the event's name", at: "/event")
            }
            name = document.member(root, "event")
        case .group:
            guard Event.isText(document, root, "groupId") else {
                throw EventRefusal("no_group", "a group call needs groupId", at: "/groupId")
            }
        case .alias:
            guard Event.isText(document, root, "previousId") else {
                throw EventRefusal("no_previous_id", "an alias call needs previousId", at: "/previousId")
            }
        default: break
        }
        messageID = try Event.optional(document, root, "messageId", .string, at: "/messageId")
        if let messageID {
            let length = document.bytes(messageID).count
            if length == 0 || length > Limits.messageIDBytes {
                throw EventRefusal("bad_message_id", "messageId must have 1 to 255 bytes", at: "/messageId")
            }
        }
        context = try Event.optional(document, root, "context", .object, at: "/context")
        let named: StaticString = type.hasTraits ? "traits" : "properties"
        properties = try Event.optional(document, root, named, .object, at: type.hasTraits ? "/traits" : "/properties")
        if type == .identify, properties == nil, let context, let traits = document.member(context, "traits"),
            document.kind(traits) == .object
        {
            properties = traits
        }
        timestamp = try Event.moment(document, root, batchSentAt, receivedAt)
    }

    /// When it happened by the receiver's clock: what the sender's says, moved by how far that is off at `sentAt`
    /// (Segment's specification, common fields: timestamps). RudderStack's SDKs call it `originalTimestamp`; a message
    /// with both has been corrected by somebody before.
    private static func moment(
        _ document: borrowing JSONDocument, _ root: JSONNode, _ batchSentAt: Int64?, _ receivedAt: Int64
    ) throws(EventRefusal) -> Int64 {
        let corrected = try time(document, root, "timestamp", at: "/timestamp")
        let original = try time(document, root, "originalTimestamp", at: "/originalTimestamp")
        guard var moment = corrected ?? original else { return receivedAt }
        if corrected == nil || original == nil {
            var sentAt = batchSentAt
            if let node = document.member(root, "sentAt"), document.kind(node) == .string {
                sentAt = EventTime.parse(document.bytes(node)) ?? batchSentAt
            }
            if let sentAt { moment = moment &+ (receivedAt &- sentAt) }
        }
        // Nothing has happened in the future; a clock that says so is wrong.
        return min(moment, receivedAt)
    }

    private static func time(
        _ document: borrowing JSONDocument, _ root: JSONNode, _ name: StaticString, at member: StaticString
    ) throws(EventRefusal) -> Int64? {
        guard let node = try optional(document, root, name, .string, at: member) else { return nil }
        if let moment = EventTime.parse(document.bytes(node)) { return moment }
        throw EventRefusal(
            "bad_timestamp", "this must be a time such as 2026-01-31T09:30:00.000Z (RFC 3339)", at: member)
    }

    private static func isText(_ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString) -> Bool {
        guard let node = document.member(object, name), document.kind(node) == .string else { return false }
        return !document.bytes(node).isEmpty
    }

    private static func optional(
        _ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString, _ kind: JSONKind,
        at member: StaticString
    ) throws(EventRefusal) -> JSONNode? {
        guard let node = document.member(object, name), !document.isNull(node) else { return nil }
        guard document.kind(node) == kind else {
            throw EventRefusal(
                "wrong_kind", kind == .object ? "this member must be a JSON object" : "this member must be text", at: member)
        }
        return node
    }
}
