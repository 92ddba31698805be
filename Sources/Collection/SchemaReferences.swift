// `$id`, `$anchor` and `$ref` (Core, sections 8 and 9): every reference must lead to a place in the same schema.

import Formats

/// A schema with an identifier of its own, and the root.
struct SchemaResource {
    /// Absolute as far as the schema says; without a fragment.
    var identifier: [UInt8]
    let root: JSONNode
    var anchors: [(name: JSONNode, schema: Int32)] = []
}

/// A `$ref` that has not been followed yet.
struct SchemaReference {
    let schema: Int32
    let value: JSONNode
    /// Number of the rule whose operand it is.
    let rule: Int32
}

extension SchemaCompiler {
    /// Before anything else of a schema is read: what its references are relative to.
    mutating func readIdentifiers(
        _ schema: Int32, _ node: JSONNode, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) {
        let index = Int(schema)
        if let value = document.member(node, "$id") {
            let (address, fragment) = URIReference.split(document.bytes(value))
            if document.kind(value) != .string || address.isEmpty || !fragment.isEmpty {
                reader.report(document, value, "$id must be a URI without a fragment")
            } else {
                let base = resources[locations[index].resource].identifier
                let identifier = URIReference.resolve(address, against: base)
                for other in resources where other.identifier == identifier && other.root != node {
                    reader.report(document, value, "another schema has this $id")
                }
                if schema == 0 {
                    resources[0].identifier = identifier
                } else {
                    locations[index].resource = resources.count
                    resources.append(SchemaResource(identifier: identifier, root: node))
                }
            }
        }
        guard let anchor = document.member(node, "$anchor") else { return }
        let resource = locations[index].resource
        if document.kind(anchor) != .string || document.bytes(anchor).isEmpty {
            reader.report(document, anchor, "$anchor must be a name")
        }
        for other in resources[resource].anchors where document.equals(other.name, document.bytes(anchor)) {
            reader.report(document, anchor, "another schema has this $anchor")
        }
        resources[resource].anchors.append((anchor, schema))
    }

    /// Follows the references that were found since the last time. Schemas that nobody has read yet are added to the list.
    mutating func resolveReferences(_ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        let pending = references
        references.removeAll()
        for reference in pending {
            if let target = target(reference, document, &reader) { tables.rules[Int(reference.rule)].first = target }
        }
    }

    private mutating func target(
        _ reference: SchemaReference, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) -> Int32? {
        guard document.kind(reference.value) == .string else {
            reader.report(document, reference.value, "$ref must be a text such as #/$defs/name")
            return nil
        }
        let (address, fragment) = URIReference.split(document.bytes(reference.value))
        var resource = locations[Int(reference.schema)].resource
        if !address.isEmpty {
            let absolute = URIReference.resolve(address, against: resources[resource].identifier)
            guard let known = resources.firstIndex(where: { $0.identifier == absolute }) else {
                reader.report(
                    document, reference.value,
                    "this $ref leads out of the schema; nothing is fetched: put the schema into $defs")
                return nil
            }
            resource = known
        }
        let words = URIReference.decoded(fragment)
        if words.isEmpty || words[0] == UInt8(ascii: "/") {
            return pointed(words, resource, reference, document, &reader)
        }
        for anchor in resources[resource].anchors where document.equals(anchor.name, words.span) { return anchor.schema }
        reader.report(document, reference.value, "there is no $anchor of this name")
        return nil
    }

    /// The schema at a JSON Pointer (RFC 6901) from a resource's root.
    private mutating func pointed(
        _ pointer: [UInt8], _ resource: Int, _ reference: SchemaReference, _ document: borrowing JSONDocument,
        _ reader: inout PlanReader
    ) -> Int32? {
        var node = resources[resource].root
        let root = schema(at: node) ?? 0
        var index = 0
        while index < pointer.count {
            index += 1
            var token: [UInt8] = []
            while index < pointer.count, pointer[index] != UInt8(ascii: "/") {
                if pointer[index] == UInt8(ascii: "~"), index + 1 < pointer.count {
                    index += 1
                    token.append(pointer[index] == UInt8(ascii: "1") ? UInt8(ascii: "/") : UInt8(ascii: "~"))
                } else {
                    token.append(pointer[index])
                }
                index += 1
            }
            guard let next = SchemaCompiler.child(token, of: node, document) else {
                reader.report(document, reference.value, "there is nothing at the place that this $ref names")
                return nil
            }
            node = next
        }
        if let known = schema(at: node) { return known }
        guard document.kind(node) == .object || document.kind(node) == .bool else {
            reader.report(document, reference.value, "what this $ref leads to is no schema")
            return nil
        }
        return add(document, node, under: .reference, path: Array(pointer.dropFirst()), parent: root, &reader)
    }

    private static func child(
        _ token: [UInt8], of node: JSONNode, _ document: borrowing JSONDocument
    ) -> JSONNode? {
        if document.kind(node) == .object { return document.member(node, token) }
        guard document.kind(node) == .array, let wanted = parseUInt64(token.span), token[0] != 0x30 || token.count == 1
        else { return nil }
        var position: UInt64 = 0
        var element = document.firstChild(node)
        while let item = element, position < wanted {
            position += 1
            element = document.next(item)
        }
        return element
    }
}

/// The resolution of URI references, RFC 3986 section 5.2.
enum URIReference {
    /// What is before and after the first `#`.
    static func split(_ text: Span<UInt8>) -> (address: [UInt8], fragment: [UInt8]) {
        var end = 0
        while end < text.count, text[end] != UInt8(ascii: "#") { end += 1 }
        let address = [UInt8](copying: text.extracting(0..<end))
        return (address, end < text.count ? [UInt8](copying: text.extracting(end + 1..<text.count)) : [])
    }

    /// Percent-encoded bytes as themselves.
    static func decoded(_ text: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        var index = 0
        while index < text.count {
            if text[index] == UInt8(ascii: "%"), index + 2 < text.count, let high = Hex.value(of: text[index + 1]),
                let low = Hex.value(of: text[index + 2])
            {
                result.append(high << 4 | low)
                index += 3
            } else {
                result.append(text[index])
                index += 1
            }
        }
        return result
    }

    /// - Parameters:
    ///   - reference: not empty, without a fragment.
    ///   - base: a URI, or empty where there is none.
    static func resolve(_ reference: [UInt8], against base: [UInt8]) -> [UInt8] {
        let own = Parts(reference)
        let path = own.pathOf(reference)
        let query = own.queryOf(reference)
        if own.scheme > 0 { return Array(reference[..<own.path]) + withoutDots(path) + query }
        let other = Parts(base)
        if own.path > 0 { return Array(base[..<other.scheme]) + reference }
        let front = Array(base[..<other.path])
        if path.isEmpty { return front + other.pathOf(base) + query }
        if path[0] == UInt8(ascii: "/") { return front + withoutDots(path) + query }
        var folder = other.pathOf(base)
        while let last = folder.last, last != UInt8(ascii: "/") { folder.removeLast() }
        if folder.isEmpty, other.path > other.scheme { folder = [UInt8(ascii: "/")] }
        return front + withoutDots(folder + path) + query
    }

    /// Takes `.` and `..` out of a path (section 5.2.4); one that does not begin with a slash is left alone.
    private static func withoutDots(_ path: [UInt8]) -> [UInt8] {
        guard path.first == UInt8(ascii: "/") else { return path }
        var result: [UInt8] = []
        var index = 0
        while index < path.count {
            var end = index + 1
            while end < path.count, path[end] != UInt8(ascii: "/") { end += 1 }
            let segment = Array(path[index + 1..<end])
            let isLast = end == path.count
            if segment == [UInt8(ascii: ".")] || segment == [UInt8(ascii: "."), UInt8(ascii: ".")] {
                if segment.count == 2 {
                    while let last = result.popLast(), last != UInt8(ascii: "/") {}
                }
                if isLast { result.append(UInt8(ascii: "/")) }
            } else {
                result += path[index..<end]
            }
            index = end
        }
        return result
    }

    /// Where the parts of a reference without fragment end.
    private struct Parts {
        /// After the colon; 0 without a scheme.
        var scheme = 0
        /// Where the path begins: after the scheme and the authority.
        var path = 0
        /// Where the query begins, with its question mark.
        var query: Int

        init(_ text: [UInt8]) {
            query = text.firstIndex(of: UInt8(ascii: "?")) ?? text.count
            for index in 0..<query {
                let byte = text[index]
                if byte == UInt8(ascii: ":") {
                    scheme = index + 1
                    break
                }
                if byte == UInt8(ascii: "/") { break }
            }
            path = scheme
            if path + 1 < query, text[path] == UInt8(ascii: "/"), text[path + 1] == UInt8(ascii: "/") {
                path += 2
                while path < query, text[path] != UInt8(ascii: "/") { path += 1 }
            }
        }

        func pathOf(_ text: [UInt8]) -> [UInt8] { Array(text[path..<query]) }
        func queryOf(_ text: [UInt8]) -> [UInt8] { Array(text[query...]) }
    }
}
