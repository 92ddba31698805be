// The part of JSON Schema 2020-12 that tracking plans use: type, required, properties, additionalProperties (false),
// items, enum, const, minimum, maximum, exclusiveMinimum, exclusiveMaximum, minLength, maxLength, minItems, maxItems.
// Every other keyword is refused when the bundle is checked: a constraint that nobody enforces would be a lie.

import Formats

/// Where and why a value breaks its schema; holds names of the schema, never a value of the event.
public struct SchemaViolation: Error, Equatable {
    /// The keyword that is broken, such as `minimum`.
    public let keyword: StaticString
    /// The value at fault.
    public let node: JSONNode

    public init(keyword: StaticString, node: JSONNode) {
        self.keyword = keyword
        self.node = node
    }

    public static func == (a: SchemaViolation, b: SchemaViolation) -> Bool {
        a.node == b.node && equal(a.keyword.bytes, b.keyword.bytes)
    }
}

public enum Schema {
    static let known: [StaticString] = [
        "type", "required", "properties", "additionalProperties", "items", "enum", "const", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems", "title", "description",
        "$schema", "$comment", "examples", "default",
    ]
    static let types: [StaticString] = ["object", "array", "string", "number", "integer", "boolean", "null"]

    /// Checks that a schema only says what is enforced; problems are remembered by the reader.
    public static func check(
        _ document: borrowing JSONDocument, _ schema: JSONNode, _ reader: inout PlanReader, depth: Int = 0
    ) {
        guard document.kind(schema) == .object else {
            reader.report(document, schema, "a schema must be a map of JSON Schema keywords")
            return
        }
        guard depth < Limits.schemaDepth else {
            reader.report(document, schema, "a schema may be nested \(Limits.schemaDepth) deep")
            return
        }
        reader.refuseOthers(document, schema, known, of: "a schema")
        if let type = document.member(schema, "type") {
            var isKnown = false
            if document.kind(type) == .string {
                for name in types where document.equals(type, name) { isKnown = true }
            } else if document.kind(type) == .array {
                isKnown = document.count(type) > 0
                var element = document.firstChild(type)
                while let node = element {
                    var matches = false
                    if document.kind(node) == .string {
                        for name in types where document.equals(node, name) { matches = true }
                    }
                    isKnown = isKnown && matches
                    element = document.next(node)
                }
            }
            if !isKnown {
                reader.report(
                    document, type, "type must be object, array, string, number, integer, boolean or null, or a list of them")
            }
        }
        for name in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] as [StaticString] {
            if let node = document.member(schema, name), document.double(node) == nil {
                reader.report(document, node, "\(name) must be a number")
            }
        }
        for name in ["minLength", "maxLength", "minItems", "maxItems"] as [StaticString] {
            _ = reader.integer(document, schema, name, 0...1_000_000)
        }
        if let required = document.member(schema, "required") {
            var isList = document.kind(required) == .array
            var element = document.firstChild(required)
            while isList, let node = element {
                isList = document.kind(node) == .string
                element = document.next(node)
            }
            if !isList { reader.report(document, required, "required must be a list of names") }
        }
        if let values = document.member(schema, "enum"), document.kind(values) != .array {
            reader.report(document, values, "enum must be a list of values")
        }
        if let node = document.member(schema, "additionalProperties"), document.bool(node) == nil {
            reader.report(document, node, "additionalProperties must be true or false here")
        }
        if let items = document.member(schema, "items") { check(document, items, &reader, depth: depth + 1) }
        if let properties = reader.object(document, schema, "properties") {
            var key = document.firstChild(properties)
            while let name = key, let value = document.next(name) {
                check(document, value, &reader, depth: depth + 1)
                key = document.next(value)
            }
        }
    }

    /// Holds a value of one document against a checked schema in another.
    /// - Returns: the first violation; nil when the value is as it should be.
    public static func violation(
        of schema: JSONNode, in plan: borrowing JSONDocument, by value: JSONNode, in event: borrowing JSONDocument
    ) -> SchemaViolation? {
        let kind = event.kind(value)
        if let type = plan.member(schema, "type"), !hasType(type, plan, value, event) {
            return SchemaViolation(keyword: "type", node: value)
        }
        if let constant = plan.member(schema, "const"), !isEqual(plan, constant, event, value) {
            return SchemaViolation(keyword: "const", node: value)
        }
        if let values = plan.member(schema, "enum") {
            var isListed = false
            var element = plan.firstChild(values)
            while let node = element, !isListed {
                isListed = isEqual(plan, node, event, value)
                element = plan.next(node)
            }
            if !isListed { return SchemaViolation(keyword: "enum", node: value) }
        }
        switch kind {
        case .integer, .number: return numberViolation(schema, plan, value, event)
        case .string: return stringViolation(schema, plan, value, event)
        case .array: return arrayViolation(schema, plan, value, event)
        case .object: return objectViolation(schema, plan, value, event)
        default: return nil
        }
    }

    private static func numberViolation(
        _ schema: JSONNode, _ plan: borrowing JSONDocument, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> SchemaViolation? {
        guard let number = event.double(value) else { return nil }
        if let bound = plan.member(schema, "minimum").flatMap({ plan.double($0) }), number < bound {
            return SchemaViolation(keyword: "minimum", node: value)
        }
        if let bound = plan.member(schema, "maximum").flatMap({ plan.double($0) }), number > bound {
            return SchemaViolation(keyword: "maximum", node: value)
        }
        if let bound = plan.member(schema, "exclusiveMinimum").flatMap({ plan.double($0) }), number <= bound {
            return SchemaViolation(keyword: "exclusiveMinimum", node: value)
        }
        if let bound = plan.member(schema, "exclusiveMaximum").flatMap({ plan.double($0) }), number >= bound {
            return SchemaViolation(keyword: "exclusiveMaximum", node: value)
        }
        return nil
    }

    private static func stringViolation(
        _ schema: JSONNode, _ plan: borrowing JSONDocument, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> SchemaViolation? {
        let minimum = plan.member(schema, "minLength").flatMap { plan.int64($0) }
        let maximum = plan.member(schema, "maxLength").flatMap { plan.int64($0) }
        if minimum == nil && maximum == nil { return nil }
        // The length of a string is counted in code points (RFC 8259 by way of the specification): all bytes but
        // continuation bytes.
        let bytes = event.bytes(value)
        var length: Int64 = 0
        for index in bytes.indices where bytes[index] & 0xC0 != 0x80 { length += 1 }
        if let minimum, length < minimum { return SchemaViolation(keyword: "minLength", node: value) }
        if let maximum, length > maximum { return SchemaViolation(keyword: "maxLength", node: value) }
        return nil
    }

    private static func arrayViolation(
        _ schema: JSONNode, _ plan: borrowing JSONDocument, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> SchemaViolation? {
        let count = Int64(event.count(value))
        if let minimum = plan.member(schema, "minItems").flatMap({ plan.int64($0) }), count < minimum {
            return SchemaViolation(keyword: "minItems", node: value)
        }
        if let maximum = plan.member(schema, "maxItems").flatMap({ plan.int64($0) }), count > maximum {
            return SchemaViolation(keyword: "maxItems", node: value)
        }
        guard let items = plan.member(schema, "items") else { return nil }
        var element = event.firstChild(value)
        while let node = element {
            if let found = violation(of: items, in: plan, by: node, in: event) { return found }
            element = event.next(node)
        }
        return nil
    }

    private static func objectViolation(
        _ schema: JSONNode, _ plan: borrowing JSONDocument, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> SchemaViolation? {
        if let required = plan.member(schema, "required") {
            var element = plan.firstChild(required)
            while let node = element {
                if event.member(value, plan.bytes(node)) == nil {
                    return SchemaViolation(keyword: "required", node: value)
                }
                element = plan.next(node)
            }
        }
        let properties = plan.member(schema, "properties")
        let isClosed = plan.member(schema, "additionalProperties").flatMap { plan.bool($0) } == false
        if properties == nil && !isClosed { return nil }
        var key = event.firstChild(value)
        while let name = key, let member = event.next(name) {
            if let properties, let rule = plan.member(properties, event.bytes(name)) {
                if let found = violation(of: rule, in: plan, by: member, in: event) { return found }
            } else if isClosed {
                return SchemaViolation(keyword: "additionalProperties", node: member)
            }
            key = event.next(member)
        }
        return nil
    }

    private static func hasType(
        _ type: JSONNode, _ plan: borrowing JSONDocument, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        if plan.kind(type) == .array {
            var element = plan.firstChild(type)
            while let node = element {
                if hasType(node, plan, value, event) { return true }
                element = plan.next(node)
            }
            return false
        }
        switch event.kind(value) {
        case .null: return plan.equals(type, "null")
        case .bool: return plan.equals(type, "boolean")
        case .string: return plan.equals(type, "string")
        case .array: return plan.equals(type, "array")
        case .object: return plan.equals(type, "object")
        case .integer: return plan.equals(type, "integer") || plan.equals(type, "number")
        case .number:
            if plan.equals(type, "number") { return true }
            // A number with a fraction of zero is an integer (specification, section 6.1.1).
            guard plan.equals(type, "integer"), let number = event.double(value) else { return false }
            return number.rounded(.towardZero) == number
        }
    }

    /// Equality of JSON values (specification, section 4.2.2): numbers by value, objects without order.
    static func isEqual(
        _ first: borrowing JSONDocument, _ a: JSONNode, _ second: borrowing JSONDocument, _ b: JSONNode
    ) -> Bool {
        if let x = first.double(a), let y = second.double(b) { return x == y }
        guard first.kind(a) == second.kind(b) else { return false }
        switch first.kind(a) {
        case .null: return true
        case .bool: return first.bool(a) == second.bool(b)
        case .string: return equal(first.bytes(a), second.bytes(b))
        case .array:
            guard first.count(a) == second.count(b) else { return false }
            var x = first.firstChild(a)
            var y = second.firstChild(b)
            while let left = x, let right = y {
                if !isEqual(first, left, second, right) { return false }
                x = first.next(left)
                y = second.next(right)
            }
            return true
        case .object:
            guard first.count(a) == second.count(b) else { return false }
            var key = first.firstChild(a)
            while let name = key, let value = first.next(name) {
                guard let other = second.member(b, first.bytes(name)), isEqual(first, value, second, other) else {
                    return false
                }
                key = first.next(value)
            }
            return true
        default: return false
        }
    }
}
