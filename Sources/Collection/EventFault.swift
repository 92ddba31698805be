// Why an event is not as the tracking plan wants it.

import Formats

/// Why an event breaks its schema, in words that hold nothing of the event but names of the schema.
public struct EventFault {
    public let keyword: StaticString
    /// JSON pointer of the rule in the event's schema.
    public private(set) var rule: [UInt8] = []
    /// JSON pointer of the value in the event; `*` stands for names that the schema does not have.
    public private(set) var pointer: [UInt8] = []

    /// Holds an event against its rule's schema; nil: it fits, or there is none.
    /// - Parameters:
    ///   - properties: the event's properties or traits; nil for none.
    ///   - root: the event, in which they would stand.
    public init?(
        _ rule: EventRule, _ type: EventType, _ properties: JSONNode?, in root: JSONNode, _ document: borrowing JSONDocument
    ) {
        guard let schema = rule.schema else { return nil }
        let found: SchemaViolation?
        if let properties {
            found = schema.violation(by: properties, in: document)
        } else {
            found = schema.violationWithoutProperties(at: root)
        }
        guard let violation = found else { return nil }
        keyword = violation.keyword
        schema.appendRulePointer(violation, to: &self.rule)
        pointer = Array((type.hasTraits ? "/traits" : "/properties").utf8)
        if properties != nil { schema.appendValuePointer(violation, in: document, to: &pointer) }
    }
}
