// From a JSON Schema in a document to its tables. Schemas are taken one after the other from a list that grows as they
// are found, so that no nesting costs stack; references are followed when all that is known by its place has been read.
// What the single keywords say is read in SchemaReading.swift.

import CEL
import Formats

struct SchemaCompiler {
    /// Where a schema of `tables.nodes` comes from.
    struct Location {
        let node: JSONNode
        /// Number in `resources`: what its references are relative to.
        var resource: Int
        let depth: Int
    }

    let root: JSONNode
    let isLenient: Bool
    var tables = SchemaTables()
    /// Parallel to `tables.nodes`.
    var locations: [Location] = []
    /// Schema of each node of the document from the root on, -1 for none.
    private var schemaOfNode: [Int32] = []
    var resources: [SchemaResource] = []
    var references: [SchemaReference] = []
    var constants = JSONWriter()
    var constantCount: Int32 = 0
    /// What `tables.patterns` were made of.
    var patternSources: [[UInt8]] = []
    private var isTooLarge = false

    private init(_ document: borrowing JSONDocument, _ root: JSONNode, isLenient: Bool) {
        self.root = root
        self.isLenient = isLenient
        let count = Int(SchemaCompiler.end(document, root) - root.index)
        schemaOfNode = Array(repeating: -1, count: count)
        resources = [SchemaResource(identifier: [], root: root)]
        constants.beginArray()
    }

    /// Compiles a schema; problems are remembered by the reader. If there are any, the tables are those of `false`.
    static func compile(
        _ document: borrowing JSONDocument, _ root: JSONNode, _ reader: inout PlanReader, isLenient: Bool
    ) -> SchemaTables {
        var compiler = SchemaCompiler(document, root, isLenient: isLenient)
        // A problem of something else is none of this schema.
        var own = PlanReader()
        _ = compiler.add(document, root, under: .never, path: [], parent: -1, &own)
        var next = 0
        repeat {
            while next < compiler.locations.count {
                compiler.compile(next, document, &own)
                next += 1
            }
            compiler.resolveReferences(document, &own)
        } while next < compiler.locations.count
        if !own.hasErrors {
            compiler.refuseLoops(document, &own)
            compiler.finishConstants(document, &own)
        }
        reader.problems += own.problems
        if !own.hasErrors { return compiler.tables }
        var nothing = SchemaTables()
        nothing.nodes.append(SchemaNode(isNever: true))
        return nothing
    }

    // MARK: Places

    /// The schema at a node: the one that is known, or a new one at the end of the list.
    /// - Parameter path: how to get there from the parent, the keyword first.
    mutating func add(
        _ document: borrowing JSONDocument, _ node: JSONNode, under place: SchemaKeyword, path: [UInt8], parent: Int32,
        _ reader: inout PlanReader
    ) -> Int32 {
        let offset = Int(node.index - root.index)
        if schemaOfNode[offset] >= 0 { return schemaOfNode[offset] }
        let depth = parent < 0 ? 0 : locations[Int(parent)].depth + 1
        if depth > Limits.schemaDepth {
            reader.report(document, node, "a schema may be nested \(Limits.schemaDepth) deep")
            return 0
        }
        if !hasRoom(document, node, &reader) { return 0 }
        let index = Int32(tables.nodes.count)
        schemaOfNode[offset] = index
        let bytes = addText(path.span)
        tables.nodes.append(
            SchemaNode(place: place, parent: parent, pathOffset: bytes.first, pathLength: bytes.count))
        let resource = parent < 0 ? 0 : locations[Int(parent)].resource
        locations.append(Location(node: node, resource: resource, depth: depth))
        return index
    }

    /// The schema that is known at a node.
    func schema(at node: JSONNode) -> Int32? {
        let index = schemaOfNode[Int(node.index - root.index)]
        return index < 0 ? nil : index
    }

    /// Says once when the schema is too large.
    mutating func hasRoom(_ document: borrowing JSONDocument, _ node: JSONNode, _ reader: inout PlanReader) -> Bool {
        let parts = tables.nodes.count + tables.names.count + tables.slots.count / 2 + Int(constantCount)
        if parts < Limits.schemaParts { return true }
        if !isTooLarge {
            reader.report(
                document, node, "a schema may have \(Limits.schemaParts) parts: schemas, names and constant values")
        }
        isTooLarge = true
        return false
    }

    /// The number after the last node of a value.
    private static func end(_ document: borrowing JSONDocument, _ node: JSONNode) -> UInt32 {
        var last = node
        while var child = document.firstChild(last) {
            while let next = document.next(child) { child = next }
            last = child
        }
        return last.index + 1
    }

    // MARK: One schema

    private mutating func compile(_ index: Int, _ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        let node = locations[index].node
        if let isTrue = document.bool(node) {
            tables.nodes[index].isNever = !isTrue
            return
        }
        guard document.kind(node) == .object else {
            reader.report(document, node, "a schema must be a map of JSON Schema keywords, or true or false")
            return
        }
        let schema = Int32(index)
        readIdentifiers(schema, node, document, &reader)
        checkWords(node, document, &reader)
        readType(index, node, document, &reader)
        var rules = generalRules(schema, node, document, &reader)
        tables.nodes[index].generalRules = UInt8(rules.count)
        let numbers = numberRules(node, document, &reader)
        tables.nodes[index].numberRules = UInt8(numbers.count)
        let texts = textRules(node, document, &reader)
        tables.nodes[index].textRules = UInt8(texts.count)
        rules += numbers
        rules += texts
        tables.nodes[index].firstRule = Int32(tables.rules.count)
        tables.rules += rules
        if let array = arrayRules(schema, node, document, &reader) {
            tables.nodes[index].array = Int32(tables.arrays.count)
            tables.arrays.append(array)
        }
        if let object = objectRules(schema, node, document, &reader) {
            tables.nodes[index].object = Int32(tables.objects.count)
            tables.objects.append(object)
        }
    }

    /// Refuses what is not enforced.
    private func checkWords(_ schema: JSONNode, _ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        var next = document.firstChild(schema)
        while let key = next, let value = document.next(key) {
            next = document.next(value)
            guard let keyword = SchemaKeyword(document.bytes(key)) else {
                if isLenient { continue }
                var message = "unknown keyword \(document.string(key) ?? "") of a schema"
                if let suggestion = SchemaKeyword.suggestion(for: document.bytes(key)) {
                    message += "; did you mean \(suggestion)?"
                } else {
                    message += "; it would have no effect"
                }
                reader.report(document, key, message)
                continue
            }
            switch keyword {
            case .dynamicReference, .dynamicAnchor, .vocabulary:
                reader.report(document, key, "\(keyword.name) is not supported, and a constraint must not be without effect")
            case .schema: checkDialect(value, document, &reader)
            case .format:
                reader.warn(document, value, "format is an annotation and not enforced; use pattern, enum or minimum")
            default: break
            }
        }
    }

    private func checkDialect(_ value: JSONNode, _ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        if document.equals(value, "https://json-schema.org/draft/2020-12/schema")
            || document.equals(value, "https://json-schema.org/draft/2020-12/schema#")
        {
            return
        }
        reader.report(document, value, "$schema must be https://json-schema.org/draft/2020-12/schema, or left out")
    }

    // MARK: The end

    private mutating func finishConstants(_ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        constants.endArray()
        var kept = JSONDocument()
        do throws(JSONError) {
            try kept.parse(constants.bytes.span, maximumDepth: Limits.schemaConstantDepth)
        } catch {
            reader.report(document, root, "the schema's constants cannot be kept: \(error.message)")
            return
        }
        var next = kept.firstChild(kept.root)
        while let node = next {
            tables.constantNodes.append(node)
            next = kept.next(node)
        }
        tables.constants = kept
    }

    /// Refuses a schema that would be held against the same value for ever (Core, section 9.4.1): the schemas that apply
    /// in place, with nothing left to wait for, taken away one after the other until none or a loop is left.
    private func refuseLoops(_ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        var waiting = Array(repeating: 0, count: tables.nodes.count)
        for index in tables.nodes.indices {
            for target in inPlace(index) { waiting[Int(target)] += 1 }
        }
        var free: [Int] = []
        for index in waiting.indices where waiting[index] == 0 { free.append(index) }
        while let index = free.popLast() {
            for target in inPlace(index) {
                waiting[Int(target)] -= 1
                if waiting[Int(target)] == 0 { free.append(Int(target)) }
            }
        }
        for index in waiting.indices where waiting[index] > 0 {
            reader.report(
                document, locations[index].node, "this schema leads back to itself for the same value: it would never end")
            return
        }
    }

    /// The schemas that a schema holds against the value itself.
    private func inPlace(_ index: Int) -> [Int32] {
        let node = tables.nodes[index]
        var targets: [Int32] = []
        for place in Int(node.firstRule)..<Int(node.firstRule) + Int(node.generalRules) {
            let rule = tables.rules[place]
            switch rule.keyword {
            case .reference, .not: targets.append(rule.first)
            case .if:
                targets.append(rule.first)
                for branch in SchemaRange(first: rule.second, count: 2).indices where tables.lists[branch] >= 0 {
                    targets.append(tables.lists[branch])
                }
            case .allOf, .anyOf, .oneOf:
                for entry in SchemaRange(first: rule.first, count: rule.second).indices {
                    targets.append(tables.lists[entry])
                }
            default: break
            }
        }
        if node.object >= 0 {
            for place in tables.objects[Int(node.object)].dependents.indices where tables.dependents[place].schema >= 0 {
                targets.append(tables.dependents[place].schema)
            }
        }
        return targets
    }
}
