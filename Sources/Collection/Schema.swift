// A JSON Schema (draft 2020-12) as the tracking plan uses it: compiled when the bundle is loaded, then held against events
// without allocation. Nothing of the bundle's document is needed afterwards.
//
// Every assertion and applicator of Core and Validation is enforced, references within the schema included. Refused when
// it is compiled, because a constraint that nobody enforces would be a lie: $dynamicRef and $dynamicAnchor, references to
// other documents, other meta-schemas and vocabularies, and words that are no keywords. `format` is an annotation, as the
// specification has it by default, and warned about.

import CEL
import Formats

/// Where and why a value breaks its schema. It holds places and no text of the event; it means something only to the
/// schema that gave it and to the document that the value is in.
public struct SchemaViolation: Error, Equatable, Sendable {
    /// The value at fault; for `propertyNames` the key.
    public let node: JSONNode
    /// The value that was held against the schema, from which the pointer to `node` begins.
    let root: JSONNode
    let rule: SchemaKeyword
    /// The schema (a number of `SchemaTables.nodes`) whose keyword is broken.
    let location: Int32
    /// The element of the keyword's list that is not fulfilled (`required`), or -1.
    var element: Int32 = -1
    /// The name whose element it is (`dependentRequired`, a number of `SchemaTables.names`), or -1.
    var name: Int32 = -1
    /// False where the schema itself is `false`: the pointer ends at it.
    var isOfKeyword = true

    /// The keyword that is broken, such as `minimum`; where a schema is `false`, the keyword that it stands under; `limit`
    /// if the validation would have taken more than `Limits.schemaSteps`.
    public var keyword: StaticString { rule.name }
}

/// A compiled schema. Immutable, and shared between threads.
public struct CompiledSchema: Sendable {
    let program: SchemaProgram

    /// Compiles a schema. Problems are remembered by the reader, each at its place; if there are any, what is made accepts
    /// nothing.
    /// - Parameters:
    ///   - document: where the schema is; not needed any more afterwards.
    ///   - schema: an object or a boolean.
    ///   - isLenient: ignores unknown keywords, as Core, section 4.3.1, has it. Otherwise they are problems: in a tracking
    ///     plan they are mistakes.
    public init(
        _ document: borrowing JSONDocument, _ schema: JSONNode, _ reader: inout PlanReader, isLenient: Bool = false
    ) {
        program = SchemaProgram(SchemaCompiler.compile(document, schema, &reader, isLenient: isLenient))
    }

    /// Holds a value against the schema.
    ///
    /// Allocates nothing, but for `uniqueItems` on more than `Limits.schemaPairwiseItems` items and for patterns that are
    /// too large for a table. It takes at most `Limits.schemaSteps` steps.
    /// - Parameter value: of an event its properties; any kind of value.
    /// - Returns: the first violation that was found; nil when the value is as it should be.
    public func violation(by value: JSONNode, in event: borrowing JSONDocument) -> SchemaViolation? {
        var evaluation = SchemaEvaluation(program, value)
        return evaluation.run(event)
    }

    /// What is wrong with an event that has no properties at all: they count as `{}`.
    /// - Parameter node: the event, to stand in the violation.
    public func violationWithoutProperties(at node: JSONNode) -> SchemaViolation? {
        guard let found = program.violationByNothing else { return nil }
        var violation = SchemaViolation(node: node, root: node, rule: found.rule, location: found.location)
        violation.element = found.element
        violation.name = found.name
        violation.isOfKeyword = found.isOfKeyword
        return violation
    }

    /// Appends the JSON Pointer (RFC 6901) of the broken rule within the schema, such as `/properties/revenue/minimum`, and
    /// `/required/0` for the first name of the list. Behind a `$ref` it is the pointer of the schema that was referred to.
    public func appendRulePointer(_ violation: SchemaViolation, to text: inout [UInt8]) {
        program.tables.appendPointer(violation.location, to: &text)
        if !violation.isOfKeyword { return }
        text.append(UInt8(ascii: "/"))
        text.append(contentsOf: violation.rule.name.bytes)
        if violation.name >= 0 {
            text.append(UInt8(ascii: "/"))
            JSONPointer.append(program.tables.nameBytes(violation.name).span, to: &text)
        }
        if violation.element >= 0 {
            text.append(UInt8(ascii: "/"))
            appendInteger(Int64(violation.element), to: &text)
        }
    }

    /// Appends the JSON Pointer of the value at fault, from the value that was held against the schema: empty for that
    /// itself. A member's name that does not occur in the schema might be somebody's personal data: it is written as `*`.
    /// - Parameter event: the document that the violation was found in.
    public func appendValuePointer(
        _ violation: SchemaViolation, in event: borrowing JSONDocument, to text: inout [UInt8]
    ) {
        let target = violation.node
        var container = violation.root
        while container != target {
            guard let step = JSONPointer.step(from: container, towards: target, in: event) else { return }
            text.append(UInt8(ascii: "/"))
            if let key = step.key {
                if program.tables.mentions(event.bytes(key)) {
                    JSONPointer.append(event.bytes(key), to: &text)
                } else {
                    text.append(UInt8(ascii: "*"))
                }
                if key == target { return }
            } else {
                appendInteger(UInt64(step.position), to: &text)
            }
            container = step.value
        }
    }
}

/// What a compiled schema refers to.
final class SchemaProgram: Sendable {
    let tables: SchemaTables
    /// What `{}` breaks.
    let violationByNothing: SchemaViolation?

    init(_ tables: SchemaTables) {
        self.tables = tables
        violationByNothing = SchemaProgram.violationByNothing(tables)
    }

    private init(plain tables: SchemaTables) {
        self.tables = tables
        violationByNothing = nil
    }

    private static func violationByNothing(_ tables: SchemaTables) -> SchemaViolation? {
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(("{}" as StaticString).bytes) } catch { return nil }
        var evaluation = SchemaEvaluation(SchemaProgram(plain: tables), document.root)
        return evaluation.run(document)
    }
}

/// Pieces of JSON Pointers.
enum JSONPointer {
    /// Appends one reference token, with `~` and `/` escaped (RFC 6901, section 3).
    static func append(_ token: Span<UInt8>, to text: inout [UInt8]) {
        for index in token.indices {
            switch token[index] {
            case UInt8(ascii: "~"): text.append(contentsOf: ("~0" as StaticString).bytes)
            case UInt8(ascii: "/"): text.append(contentsOf: ("~1" as StaticString).bytes)
            default: text.append(token[index])
            }
        }
    }

    /// The child of a container that a node below it is in: nodes lie in the order of the text.
    static func step(
        from container: JSONNode, towards target: JSONNode, in document: borrowing JSONDocument
    ) -> (key: JSONNode?, value: JSONNode, position: Int)? {
        let isObject = document.kind(container) == .object
        var found: (key: JSONNode?, value: JSONNode, position: Int)?
        var position = 0
        var child = document.firstChild(container)
        while let node = child, node.index <= target.index {
            let value = isObject ? document.next(node) ?? node : node
            found = (isObject ? node : nil, value, position)
            position += 1
            child = document.next(value)
        }
        return found
    }
}
