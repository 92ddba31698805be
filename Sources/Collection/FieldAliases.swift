// `fields:` of an event in the tracking plan: a field that a sender still gives by an old name gets the new one before
// anybody looks at the event, so that schema, rules, log and destinations know one name only. It need not know what is an
// identifier: places for them are refused when the bundle is read (promise P3).

import Formats
import Platform

/// The fields of one event's properties or traits that have had other names. Immutable once read.
final class RenamedFields: @unchecked Sendable {
    // Written while the bundle is read only; threads read.
    /// Paths from the properties on, such as `cart.id`, and the last name of each as JSON text.
    fileprivate(set) var paths: [[UInt8]] = []
    fileprivate var quoted: [[UInt8]] = []
    /// Old paths, and which of the fields each is; a field's own stand in the order in which they are looked for.
    fileprivate var old: [[UInt8]] = []
    fileprivate var field: [Int] = []
    /// The place of the first in `TrackingPlan.renamed`.
    fileprivate(set) var first = 0
}

/// Mends events in memory that is reused.
public struct FieldMender {
    private var text: [UInt8] = []
    private var keys: [JSONNode] = []
    private var names: [[UInt8]] = []
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
            let number = plan.ruleNumber(type, name: type == .track ? document.member(message, "event") : nil, document),
            let fields = plan.rule(number)?.fields
        else { return false }
        keys.removeAll(keepingCapacity: true)
        names.removeAll(keepingCapacity: true)
        var last = -1
        for index in fields.old.indices where fields.field[index] != last {
            let path = fields.old[index]
            let (object, name) = FieldMender.place(document, properties, path.span)
            guard let object, let value = document.member(object, path.span.extracting(name..<path.count)) else { continue }
            last = fields.field[index]
            let new = fields.paths[last]
            if document.member(object, new.span.extracting(name..<new.count)) != nil { continue }
            plan.mended.add(1, at: fields.first + last)
            replace(document.key(ofValue: value), by: fields.quoted[last])
        }
        if keys.isEmpty { return false }
        text.removeAll(keepingCapacity: true)
        document.appendSource(of: message, replacing: keys, by: names, to: &text)
        let whole = text
        // One that is nested deeper than an event may be is refused for that, as it came.
        do throws(JSONError) { try self.document.parse(whole.span, maximumDepth: Limits.eventDepth) } catch { return false }
        return true
    }

    /// Keys stand in the order of the text.
    private mutating func replace(_ key: JSONNode, by name: [UInt8]) {
        var place = keys.count
        while place > 0, keys[place - 1].index > key.index { place -= 1 }
        keys.insert(key, at: place)
        names.insert(name, at: place)
    }

    /// The object that a path leads to, and where in the path the last name begins.
    private static func place(
        _ document: borrowing JSONDocument, _ properties: JSONNode, _ path: Span<UInt8>
    ) -> (JSONNode?, Int) {
        var object: JSONNode? = properties
        var start = 0
        for index in path.indices where path[index] == UInt8(ascii: ".") {
            if let outer = object { object = document.member(outer, path.extracting(start..<index)) }
            start = index + 1
        }
        return (object, start)
    }

    /// Where an event's properties or traits are, as `Event` has it.
    private static func properties(
        _ document: borrowing JSONDocument, _ message: JSONNode, _ type: EventType
    ) -> JSONNode? {
        if let own = document.member(message, type.hasTraits ? "traits" : "properties"), !document.isNull(own) { return own }
        guard type == .identify, let context = document.member(message, "context") else { return nil }
        return document.member(context, "traits")
    }
}

// MARK: Reading

extension TrackingPlan {
    /// Reads `fields` of an event: `{ revenue: { was: [cart_value, total] }, cart.id: { was: number } }`.
    mutating func readFields(
        _ document: borrowing JSONDocument, _ settings: JSONNode, of event: [UInt8], _ reader: inout PlanReader,
        _ isIdentifierPlace: ([UInt8]) -> Bool
    ) -> RenamedFields? {
        guard let section = reader.object(document, settings, "fields") else { return nil }
        let fields = RenamedFields()
        fields.first = renamed.count
        var key = document.firstChild(section)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            guard document.kind(value) == .object, let was = document.member(value, "was") else {
                reader.report(document, value, "a field is a map with its old names, such as { was: [cart_value, total] }")
                continue
            }
            reader.refuseOthers(document, value, ["was"], of: "a field")
            let path = [UInt8](copying: document.bytes(name))
            if !fields.add(path) {
                reader.report(
                    document, name, "a field is a name, or names joined by dots: at most 8, each of 1 to 64 bytes")
                continue
            }
            if isIdentifierPlace(path) {
                reader.report(
                    document, name,
                    "this is a place for identifiers: its old names belong into the identifier's from, not here")
            }
            var element: JSONNode? = document.kind(was) == .array ? document.firstChild(was) : was
            while let node = element {
                element = node == was ? nil : document.next(node)
                if let problem = fields.addOld(document, node, section, isIdentifierPlace) {
                    reader.report(document, node, String(copying: problem.bytes))
                }
            }
            renamed.append(event)
            renamedFields.append(path)
        }
        if renamed.count > Limits.aliasedFields || fields.old.count > Limits.oldNames {
            reader.report(document, section, "at most 256 fields of a plan, and 64 of an event, may have old names")
        }
        return fields
    }
}

extension RenamedFields {
    /// - Returns: false for what is no path.
    fileprivate func add(_ path: [UInt8]) -> Bool {
        let start = RenamedFields.lastName(path.span)
        if start < 0 { return false }
        var writer = JSONWriter()
        writer.string(path.span.extracting(start..<path.count))
        paths.append(path)
        quoted.append(writer.bytes)
        return true
    }

    /// Takes an old name of the field that was added last.
    /// - Returns: what is wrong with it.
    fileprivate func addOld(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ section: JSONNode, _ isIdentifierPlace: ([UInt8]) -> Bool
    ) -> StaticString? {
        let name = document.bytes(node)
        guard document.kind(node) == .string, RenamedFields.lastName(name) == 0 else {
            return "an old name is text of 1 to 64 bytes without dots: a name in the same object as the new one"
        }
        let new = paths[paths.count - 1]
        var path: [UInt8] = []
        path.append(contentsOf: new.span.extracting(0..<RenamedFields.lastName(new.span)))
        path.append(contentsOf: name)
        if equal(path.span, new.span) { return "a field cannot have its own name as an old one" }
        if document.member(section, path) != nil {
            return "this is a field with old names itself: give all of them to the newest name"
        }
        for other in old where equal(other.span, path.span) { return "this is an old name already" }
        if isIdentifierPlace(path) {
            return "this is a place for identifiers, which a field must not be moved out of; its values would be kept"
        }
        old.append(path)
        field.append(paths.count - 1)
        return nil
    }

    /// Where the last name of a path begins; -1 for what is none.
    fileprivate static func lastName(_ path: Span<UInt8>) -> Int {
        var (start, count) = (0, 1)
        for index in path.indices where path[index] == UInt8(ascii: ".") {
            if index == start || index - start > Limits.fieldNameBytes { return -1 }
            start = index + 1
            count += 1
        }
        let length = path.count - start
        return length == 0 || length > Limits.fieldNameBytes || count > Limits.fieldSegments ? -1 : start
    }
}

extension EventRule {
    /// What was logged before a field had its new name is restricted under the old one.
    mutating func restrictOldNames() {
        guard let fields else { return }
        let (properties, traits): (StaticString, StaticString) = ("properties", "traits")
        for path in restricted {
            let member = path[0]
            if !equal(member.span, properties.bytes), !equal(member.span, traits.bytes) { continue }
            var name: [UInt8] = []
            for segment in path.dropFirst() {
                if !name.isEmpty { name.append(UInt8(ascii: ".")) }
                name.append(contentsOf: segment)
            }
            for index in fields.old.indices where fields.paths[fields.field[index]] == name {
                var old = path
                let place = fields.old[index]
                let start = RenamedFields.lastName(place.span)
                old[old.count - 1] = Array(place[start...])
                restricted.append(old)
            }
        }
    }
}
