// What the tracking plan says about keeping events: how long (`ttl`), and which of their fields leave for nobody who is not
// named (`restricted`). It need not know where events are kept nor who carries this out.

import Formats

/// The same of all events together.
public struct EventKeeping: Sendable {
    public init() {}

    /// The shortest `ttl` of all events, milliseconds; 0: none has one.
    public private(set) var shortestTimeToLive: Int64 = 0
    /// Fields that are restricted in any event, for an event that the plan does not name any more.
    public private(set) var restricted: [[[UInt8]]] = []

    mutating func take(_ rule: EventRule) {
        if rule.timeToLive > 0 {
            shortestTimeToLive = shortestTimeToLive == 0 ? rule.timeToLive : min(shortestTimeToLive, rule.timeToLive)
        }
        for path in rule.restricted { restricted.append(path) }
    }
}

extension EventRule {
    mutating func readKeeping(_ document: borrowing JSONDocument, _ settings: JSONNode, _ reader: inout PlanReader) {
        timeToLive = reader.duration(document, settings, "ttl") ?? 0
        restricted = reader.fieldPaths(document, settings, "restricted", atMost: Limits.restrictedFields)
        for path in restricted {
            let first = path[0]
            var isKept = false
            for member in EventRule.keptMembers where equal(first.span, member.bytes) { isKept = true }
            if isKept { continue }
            reader.report(
                document, document.member(settings, "restricted") ?? settings,
                "a restricted field begins with properties, traits, context, integrations, groupId, name or category")
        }
    }

    /// Members that stay of an event and are no more than its kind and time.
    private static var keptMembers: [StaticString] {
        ["properties", "traits", "context", "integrations", "groupId", "name", "category"]
    }
}

extension TrackingPlan {
    /// The rule of an event as it is kept.
    /// - Parameter root: the event in `document`.
    public func rule(ofKept root: JSONNode, _ document: borrowing JSONDocument) -> EventRule? {
        guard let name = document.member(root, "type"), let type = EventType(document.bytes(name)) else { return nil }
        return ruleNumber(type, name: type == .track ? document.member(root, "event") : nil, document).flatMap { rule($0) }
    }
}
