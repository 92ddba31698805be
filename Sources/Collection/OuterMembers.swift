// What a batch says for all of its events: its own `context` and `integrations`, written into each event, so that
// whatever comes after sees whole events only. It need not know what the members mean.

import Formats

/// The members that a batch has for all of its events.
public struct OuterMembers: Equatable, Sendable {
    public var context: JSONNode?
    public var integrations: JSONNode?

    public init() {}

    /// Finds them in a batch; what is no object says nothing.
    public init(_ document: borrowing JSONDocument, batch root: JSONNode) {
        if let node = document.member(root, "context"), document.count(node) > 0, document.kind(node) == .object {
            context = node
        }
        if let node = document.member(root, "integrations"), document.count(node) > 0, document.kind(node) == .object {
            integrations = node
        }
    }

    public var isEmpty: Bool { context == nil && integrations == nil }
}

/// Joins a batch's members with those of its events, in memory that is reused.
public struct OuterMembersJoiner {
    private var text = JSONWriter()
    /// The event that was joined last, as its root.
    public private(set) var document = JSONDocument()

    public init() {}

    /// Leaves the event `message` of the batch `document` in `self.document`, with the members of the batch's `context`
    /// and `integrations` that it does not have itself: one level deep, so that what an event says of a member is all
    /// that is said of it.
    /// - Returns: false, and nothing done, for a message that is no object.
    public mutating func join(
        _ document: borrowing JSONDocument, _ message: JSONNode, _ outer: OuterMembers
    ) throws(EventRefusal) -> Bool {
        guard document.kind(message) == .object else { return false }
        var size = 0
        if let node = outer.context { size += document.source(node).count }
        if let node = outer.integrations { size += document.source(node).count }
        if size > Limits.outerBytes {
            throw EventRefusal("too_large", "context and integrations of a batch may have 8 KiB together")
        }
        text.clear()
        text.beginObject()
        var key = document.firstChild(message)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            let isOuter =
                document.equals(name, "context") && outer.context != nil
                || document.equals(name, "integrations") && outer.integrations != nil
            // What is joined below stands there; what is none that could be is shown to whoever checks the event.
            if isOuter, OuterMembersJoiner.isJoinable(document, value) { continue }
            text.key(document.bytes(name))
            text.value(document, value)
        }
        writeJoined(document, message, "context", outer.context)
        writeJoined(document, message, "integrations", outer.integrations)
        text.endObject()
        let whole = text.bytes
        do throws(JSONError) {
            try self.document.parse(whole.span, maximumDepth: Limits.eventDepth)
        } catch {
            throw EventRefusal("too_deep", "the event is nested too deep")
        }
        return true
    }

    private static func isJoinable(_ document: borrowing JSONDocument, _ own: JSONNode) -> Bool {
        document.kind(own) == .object || document.isNull(own)
    }

    private mutating func writeJoined(
        _ document: borrowing JSONDocument, _ message: JSONNode, _ name: StaticString, _ outer: JSONNode?
    ) {
        guard let outer else { return }
        let own = document.member(message, name)
        if let own, !OuterMembersJoiner.isJoinable(document, own) { return }
        text.key(name)
        text.beginObject()
        var key = document.firstChild(outer)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            if let own, document.member(own, document.bytes(name)) != nil { continue }
            text.key(document.bytes(name))
            text.value(document, value)
        }
        if let own { writeMembers(document, own) }
        text.endObject()
    }

    private mutating func writeMembers(_ document: borrowing JSONDocument, _ object: JSONNode) {
        var key = document.firstChild(object)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            text.key(document.bytes(name))
            text.value(document, value)
        }
    }
}
