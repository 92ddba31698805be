// `fields:` of an event in the tracking plan: a field that a sender still gives by an old name gets the new one before
// anybody looks at the event, so that schema, rules, log and destinations know one name only. It need not know what is an
// identifier: places for them are refused when the bundle is read (promise P3).

import Formats
import Platform

/// A field of an event's properties or traits that has had other names.
public struct RenamedField: Sendable {
    /// How it is called in `/metrics`: names from the bundle.
    public struct Label: Sendable {
        public let event: [UInt8]
        public let field: [UInt8]
    }

    /// Names of the objects that it is in, from the properties on.
    let parents: [[UInt8]]
    let name: [UInt8]
    /// The name as JSON text.
    let quoted: [UInt8]
    /// What it was called, in the same object; the first that is there is taken.
    let was: [[UInt8]]
    /// Its place in `TrackingPlan.renamed`.
    let number: Int

    /// The key that is to be replaced; nil when there is none, or the new name is there as well.
    func staleKey(_ document: borrowing JSONDocument, _ properties: JSONNode) -> JSONNode? {
        var object = properties
        for parent in parents {
            guard let inner = document.member(object, parent) else { return nil }
            object = inner
        }
        for old in was {
            guard let value = document.member(object, old) else { continue }
            return document.member(object, name) == nil ? document.key(ofValue: value) : nil
        }
        return nil
    }
}

/// Mends events in memory that is reused.
public struct FieldMender {
    private var text: [UInt8] = []
    private var keys: [(key: JSONNode, text: [UInt8])] = []
    /// The event that was mended last, as its root.
    public private(set) var document = JSONDocument()

    public init() {}

    /// Leaves the event in `self.document`, with the new names in place of old ones.
    /// - Parameter type: what the route says; nil where the message says it itself.
    /// - Returns: false, and nothing done, for an event that needs no mending, or is none.
    public mutating func mend(
        _ document: borrowing JSONDocument, _ message: JSONNode, _ type: EventType?, _ plan: TrackingPlan
    ) -> Bool {
        if plan.renamed.isEmpty { return false }
        guard let type = type ?? document.member(message, "type").flatMap({ EventType(document.bytes($0)) }),
            let properties = FieldMender.properties(document, message, type),
            let rule = plan.rule(type, name: type == .track ? document.member(message, "event") : nil, document)
        else { return false }
        keys.removeAll(keepingCapacity: true)
        for field in rule.fields {
            guard let key = field.staleKey(document, properties) else { continue }
            plan.mended.add(1, at: field.number)
            var place = keys.count
            while place > 0, keys[place - 1].key.index > key.index { place -= 1 }
            keys.insert((key, field.quoted), at: place)
        }
        if keys.isEmpty { return false }
        text.removeAll(keepingCapacity: true)
        document.appendSource(of: message, replacing: keys, to: &text)
        let whole = text
        do throws(JSONError) { try self.document.parse(whole.span, maximumDepth: Limits.eventDepth) } catch {
            // Deeper than an event may be: it is refused for that, as it came.
            return false
        }
        return true
    }

    /// Where an event's properties or traits are, as `Event` has it.
    private static func properties(
        _ document: borrowing JSONDocument, _ message: JSONNode, _ type: EventType
    ) -> JSONNode? {
        let hasTraits = type == .identify || type == .group
        if let own = document.member(message, hasTraits ? "traits" : "properties"), !document.isNull(own) { return own }
        guard type == .identify, let context = document.member(message, "context") else { return nil }
        return document.member(context, "traits")
    }
}

// MARK: Reading

extension TrackingPlan {
    /// Reads `fields` of an event: `{ revenue: { was: [cart_value, total] }, cart.id: { was: number } }`.
    mutating func readFields(
        _ document: borrowing JSONDocument, _ settings: JSONNode, of event: [UInt8], _ reader: inout PlanReader,
        _ isIdentifierPlace: ([[UInt8]]) -> Bool
    ) -> [RenamedField] {
        var fields: [RenamedField] = []
        guard let section = reader.object(document, settings, "fields") else { return fields }
        var key = document.firstChild(section)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            let path = TrackingPlan.path(document.bytes(name))
            guard document.kind(value) == .object, document.member(value, "was") != nil else {
                reader.report(document, value, "a field is a map with its old names, such as { was: [cart_value, total] }")
                continue
            }
            reader.refuseOthers(document, value, ["was"], of: "a field")
            guard TrackingPlan.isName(path) else {
                reader.report(
                    document, name, "a field is a name, or names joined by dots: at most 8, each of 1 to 64 bytes")
                continue
            }
            var field = RenamedField.reading(path, number: renamed.count)
            if TrackingPlan.touchesIdentifiers(path, isIdentifierPlace) {
                reader.report(
                    document, name,
                    "this is a place for identifiers: its old names belong into the identifier's from, not here")
            }
            field.readOldNames(document, value, &reader, isIdentifierPlace)
            fields.append(field)
            renamed.append(RenamedField.Label(event: event, field: [UInt8](copying: document.bytes(name))))
        }
        TrackingPlan.refuseAmbiguity(fields, document, section, &reader)
        if renamed.count > Limits.aliasedFields {
            reader.report(document, section, "at most 256 fields of a plan may have old names")
        }
        return fields
    }

    private static func path(_ text: Span<UInt8>) -> [[UInt8]] {
        var path: [[UInt8]] = [[]]
        for index in text.indices {
            if text[index] == UInt8(ascii: ".") { path.append([]) } else { path[path.count - 1].append(text[index]) }
        }
        return path
    }

    fileprivate static func isName(_ path: [[UInt8]]) -> Bool {
        for name in path where name.isEmpty || name.count > Limits.fieldNameBytes { return false }
        return path.count <= Limits.fieldSegments
    }

    /// Properties and traits alike: a bundle's `identifiers` hold for events of any type.
    fileprivate static func touchesIdentifiers(_ path: [[UInt8]], _ isIdentifierPlace: ([[UInt8]]) -> Bool) -> Bool {
        let (properties, traits) = (Array("properties".utf8), Array("traits".utf8))
        return isIdentifierPlace([properties] + path) || isIdentifierPlace([traits] + path)
            || isIdentifierPlace([Array("context".utf8), traits] + path)
    }

    /// One old name leads to one new name, which is nobody's old one.
    private static func refuseAmbiguity(
        _ fields: [RenamedField], _ document: borrowing JSONDocument, _ section: JSONNode, _ reader: inout PlanReader
    ) {
        for field in fields {
            for old in field.was {
                for other in fields where other.parents == field.parents {
                    if other.name == old, other.number != field.number {
                        reader.report(
                            document, oldName(document, section, field, old),
                            "this is a field with old names itself: give all of them to the newest name")
                    }
                    if other.number < field.number, other.was.contains(old) {
                        reader.report(document, oldName(document, section, field, old), "this is another field's old name already")
                    }
                }
            }
        }
    }

    /// Where an old name stands in the bundle.
    private static func oldName(
        _ document: borrowing JSONDocument, _ section: JSONNode, _ field: RenamedField, _ old: [UInt8]
    ) -> JSONNode {
        var path: [UInt8] = []
        for name in field.parents { path += name + [UInt8(ascii: ".")] }
        guard let was = document.member(section, path + field.name).flatMap({ document.member($0, "was") }) else { return section }
        var element = document.firstChild(was)
        while let node = element {
            if document.equals(node, old.span) { return node }
            element = document.next(node)
        }
        return was
    }
}

extension RenamedField {
    fileprivate static func reading(_ path: [[UInt8]], number: Int) -> RenamedField {
        var writer = JSONWriter()
        writer.string(path[path.count - 1])
        return RenamedField(
            parents: Array(path.dropLast()), name: path[path.count - 1], quoted: writer.bytes, was: [], number: number)
    }

    /// Reads `was`: a name or a list of names.
    fileprivate mutating func readOldNames(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ reader: inout PlanReader,
        _ isIdentifierPlace: ([[UInt8]]) -> Bool
    ) {
        guard let was = document.member(settings, "was") else { return }
        var names: [[UInt8]] = []
        var element: JSONNode? = document.kind(was) == .array ? document.firstChild(was) : was
        while let node = element {
            element = node == was ? nil : document.next(node)
            let old = document.kind(node) == .string ? [UInt8](copying: document.bytes(node)) : []
            if !TrackingPlan.isName([old]) || old.contains(UInt8(ascii: ".")) {
                reader.report(
                    document, node, "an old name is text of 1 to 64 bytes without dots: a name in the same object as the new one")
            } else if old == name {
                reader.report(document, node, "a field cannot have its own name as an old one")
            } else if names.contains(old) {
                reader.report(document, node, "this old name stands here twice")
            } else if TrackingPlan.touchesIdentifiers(parents + [old], isIdentifierPlace) {
                reader.report(
                    document, node,
                    "this is a place for identifiers, which a field must not be moved out of; its values would be kept")
            } else {
                names.append(old)
            }
        }
        if names.count > Limits.oldNames { reader.report(document, was, "a field may have at most 8 old names") }
        self = RenamedField(parents: parents, name: name, quoted: quoted, was: names, number: number)
    }
}
