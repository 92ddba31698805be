// What the keywords of one schema say, group by group, written into the tables (Core, section 10; Validation, section 6).

import CEL
import Formats

extension SchemaCompiler {
    // MARK: Children

    /// The schema that is the value of a keyword; nil where the keyword is not there.
    mutating func child(
        _ schema: Int32, _ node: JSONNode, _ keyword: SchemaKeyword, _ document: borrowing JSONDocument,
        _ reader: inout PlanReader
    ) -> Int32? {
        guard let value = document.member(node, keyword.name) else { return nil }
        let path = [UInt8](copying: keyword.name.bytes)
        return add(document, value, under: keyword, path: path, parent: schema, &reader)
    }

    /// The schemas of a list.
    private mutating func children(
        _ schema: Int32, _ node: JSONNode, _ keyword: SchemaKeyword, _ document: borrowing JSONDocument,
        _ reader: inout PlanReader
    ) -> SchemaRange? {
        guard let value = document.member(node, keyword.name) else { return nil }
        guard document.kind(value) == .array, document.count(value) > 0 else {
            reader.report(document, value, "\(keyword.name) must be a list of one or more schemas")
            return nil
        }
        var list: [Int32] = []
        var next = document.firstChild(value)
        while let element = next {
            var path = [UInt8](copying: keyword.name.bytes)
            path.append(UInt8(ascii: "/"))
            appendInteger(UInt64(list.count), to: &path)
            list.append(add(document, element, under: keyword, path: path, parent: schema, &reader))
            next = document.next(element)
        }
        return addList(list)
    }

    /// The members of a map of schemas.
    private mutating func named(
        _ schema: Int32, _ node: JSONNode, _ keyword: SchemaKeyword, _ document: borrowing JSONDocument,
        _ reader: inout PlanReader
    ) -> [(key: JSONNode, schema: Int32)]? {
        guard let value = document.member(node, keyword.name) else { return nil }
        guard document.kind(value) == .object else {
            reader.report(document, value, "\(keyword.name) must be a map of names and schemas")
            return nil
        }
        var members: [(key: JSONNode, schema: Int32)] = []
        var next = document.firstChild(value)
        while let key = next, let member = document.next(key) {
            var path = [UInt8](copying: keyword.name.bytes)
            path.append(UInt8(ascii: "/"))
            JSONPointer.append(document.bytes(key), to: &path)
            members.append((key, add(document, member, under: keyword, path: path, parent: schema, &reader)))
            next = document.next(member)
        }
        return members
    }

    private mutating func addList(_ list: [Int32]) -> SchemaRange {
        let range = SchemaRange(first: Int32(tables.lists.count), count: Int32(list.count))
        tables.lists += list
        return range
    }

    // MARK: Any value

    func isType(_ document: borrowing JSONDocument, _ node: JSONNode) -> UInt8? {
        if document.equals(node, "null") { return 1 << JSONKind.null.rawValue }
        if document.equals(node, "boolean") { return 1 << JSONKind.bool.rawValue }
        if document.equals(node, "string") { return 1 << JSONKind.string.rawValue }
        if document.equals(node, "array") { return 1 << JSONKind.array.rawValue }
        if document.equals(node, "object") { return 1 << JSONKind.object.rawValue }
        if document.equals(node, "integer") { return 1 << JSONKind.integer.rawValue | SchemaNode.wholeNumbers }
        if document.equals(node, "number") { return 1 << JSONKind.integer.rawValue | 1 << JSONKind.number.rawValue }
        return nil
    }

    mutating func readType(
        _ index: Int, _ node: JSONNode, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) {
        guard let value = document.member(node, "type") else { return }
        var types: UInt8 = 0
        var isKnown = true
        if document.kind(value) == .array {
            var next = document.firstChild(value)
            while let element = next {
                if let type = isType(document, element) { types |= type } else { isKnown = false }
                next = document.next(element)
            }
        } else {
            types = isType(document, value) ?? 0
        }
        if !isKnown || types == 0 {
            reader.report(
                document, value, "type must be object, array, string, number, integer, boolean or null, or a list of them")
        }
        tables.nodes[index].types = types
    }

    /// In the order in which they are to be held against a value: what costs little first.
    mutating func generalRules(
        _ schema: Int32, _ node: JSONNode, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) -> [SchemaRule] {
        var rules: [SchemaRule] = []
        if let value = document.member(node, "const"), hasRoom(document, value, &reader) {
            rules.append(SchemaRule(keyword: .const, first: addConstant(document, value)))
        }
        if let choices = readChoices(node, document, &reader) {
            rules.append(SchemaRule(keyword: .enum, first: choices))
        }
        if let value = document.member(node, "$ref") {
            references.append(SchemaReference(schema: schema, value: value, rule: Int32(tables.rules.count + rules.count)))
            rules.append(SchemaRule(keyword: .reference))
        }
        for keyword in [.allOf, .anyOf, .oneOf] as [SchemaKeyword] {
            if let list = children(schema, node, keyword, document, &reader) {
                rules.append(SchemaRule(keyword: keyword, first: list.first, second: list.count))
            }
        }
        if let child = child(schema, node, .not, document, &reader) {
            rules.append(SchemaRule(keyword: .not, first: child))
        }
        // References may lead to branches that stand alone.
        let then = child(schema, node, .then, document, &reader)
        let otherwise = child(schema, node, .else, document, &reader)
        if let condition = child(schema, node, .if, document, &reader) {
            let branches = addList([then ?? -1, otherwise ?? -1])
            rules.append(SchemaRule(keyword: .if, first: condition, second: branches.first))
        }
        _ = named(schema, node, .definitions, document, &reader)
        return rules
    }

    private mutating func addConstant(_ document: borrowing JSONDocument, _ value: JSONNode) -> Int32 {
        constants.value(document, value)
        constantCount += 1
        return constantCount - 1
    }

    private mutating func readChoices(
        _ node: JSONNode, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) -> Int32? {
        guard let value = document.member(node, "enum") else { return nil }
        guard document.kind(value) == .array else {
            reader.report(document, value, "enum must be a list of values")
            return nil
        }
        var texts: [SchemaSlot] = []
        var choices = SchemaChoices()
        choices.others.first = constantCount
        var next = document.firstChild(value)
        while let element = next, hasRoom(document, element, &reader) {
            if document.kind(element) == .string {
                texts.append(SchemaSlot(name: name(document, element)))
            } else {
                _ = addConstant(document, element)
            }
            next = document.next(element)
        }
        choices.others.count = constantCount - choices.others.first
        choices.texts = addTable(texts)
        tables.choices.append(choices)
        return Int32(tables.choices.count - 1)
    }

    // MARK: Numbers and texts

    mutating func numberRules(
        _ node: JSONNode, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) -> [SchemaRule] {
        var rules: [SchemaRule] = []
        for keyword in [.minimum, .maximum, .exclusiveMinimum, .exclusiveMaximum] as [SchemaKeyword] {
            guard let value = document.member(node, keyword.name) else { continue }
            guard let number = SchemaNumber(document, value) else {
                reader.report(document, value, "\(keyword.name) must be a number")
                continue
            }
            rules.append(SchemaRule(keyword: keyword, first: Int32(tables.numbers.count)))
            tables.numbers.append(number)
        }
        if let value = document.member(node, "multipleOf") {
            let isNumber = document.kind(value) == .integer || document.kind(value) == .number
            if isNumber, let divisor = SchemaDivisor(document.bytes(value)) {
                rules.append(SchemaRule(keyword: .multipleOf, first: Int32(tables.divisors.count)))
                tables.divisors.append(divisor)
            } else {
                reader.report(document, value, "multipleOf must be a number above 0, of at most 17 digits")
            }
        }
        return rules
    }

    mutating func textRules(
        _ node: JSONNode, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) -> [SchemaRule] {
        var rules: [SchemaRule] = []
        for keyword in [.maxLength, .minLength] as [SchemaKeyword] {
            if let bound = count(node, keyword, document, &reader) {
                rules.append(SchemaRule(keyword: keyword, first: bound))
            }
        }
        if let value = document.member(node, "pattern") {
            if document.kind(value) != .string {
                reader.report(document, value, "pattern must be a regular expression, as text")
            } else if let pattern = addPattern(document, value, &reader) {
                rules.append(SchemaRule(keyword: .pattern, first: pattern))
            }
        }
        return rules
    }

    /// A whole number from 0 on, written as 2 or 2.0; what is beyond 32 bits is as much as there ever can be.
    private func count(
        _ node: JSONNode, _ keyword: SchemaKeyword, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) -> Int32? {
        guard let value = document.member(node, keyword.name) else { return nil }
        if let number = SchemaNumber(document, value), number.isInteger {
            switch number {
            case .integer(let count): if count >= 0 { return Int32(clamping: count) }
            case .double(let count): if count > 0 { return .max }
            }
        }
        reader.report(document, value, "\(keyword.name) must be a whole number from 0 on")
        return nil
    }

    /// A pattern's number; equal ones share it.
    private mutating func addPattern(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ reader: inout PlanReader
    ) -> Int32? {
        for (number, source) in patternSources.enumerated() where document.equals(node, source.span) {
            return Int32(number)
        }
        if tables.patterns.count == Limits.schemaPatterns {
            reader.report(document, node, "a schema may have \(Limits.schemaPatterns) different patterns")
            return nil
        }
        do throws(TextPatternError) {
            tables.patterns.append(try TextPattern(document.bytes(node)))
            patternSources.append([UInt8](copying: document.bytes(node)))
            return Int32(tables.patterns.count - 1)
        } catch {
            reader.report(document, node, "the pattern cannot be used: \(error.message)")
            return nil
        }
    }

    // MARK: Arrays

    mutating func arrayRules(
        _ schema: Int32, _ node: JSONNode, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) -> SchemaArrayRules? {
        var rules = SchemaArrayRules()
        var isEmpty = true
        func found<T>(_ value: T?) -> T? {
            if value != nil { isEmpty = false }
            return value
        }
        if let bound = found(count(node, .minItems, document, &reader)) { rules.minimum = bound }
        if let bound = found(count(node, .maxItems, document, &reader)) { rules.maximum = bound }
        if let value = document.member(node, "uniqueItems") {
            if let flag = document.bool(value) { rules.isUnique = flag } else {
                reader.report(document, value, "uniqueItems must be true or false")
            }
            isEmpty = false
        }
        if let list = found(children(schema, node, .prefixItems, document, &reader)) { rules.prefix = list }
        if let items = found(child(schema, node, .items, document, &reader)) { rules.items = items }
        let least = count(node, .minContains, document, &reader)
        let most = count(node, .maxContains, document, &reader)
        if let contains = found(child(schema, node, .contains, document, &reader)) {
            rules.contains = contains
            rules.minimumContained = least ?? 1
            rules.hasMinimumContained = least != nil
            rules.maximumContained = most ?? .max
        }
        if let rest = found(child(schema, node, .unevaluatedItems, document, &reader)) { rules.unevaluated = rest }
        return isEmpty ? nil : rules
    }

    // MARK: Objects

    mutating func objectRules(
        _ schema: Int32, _ node: JSONNode, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) -> SchemaObjectRules? {
        var rules = SchemaObjectRules()
        var isEmpty = true
        func found<T>(_ value: T?) -> T? {
            if value != nil { isEmpty = false }
            return value
        }
        if let bound = found(count(node, .minProperties, document, &reader)) { rules.minimum = bound }
        if let bound = found(count(node, .maxProperties, document, &reader)) { rules.maximum = bound }
        let properties = named(schema, node, .properties, document, &reader)
        if properties != nil || document.member(node, "required") != nil {
            isEmpty = false
            readMembers(properties ?? [], node, document, &rules, &reader)
        }
        if let list = found(named(schema, node, .patternProperties, document, &reader)) {
            var pairs: [Int32] = []
            for (key, child) in list {
                if let pattern = addPattern(document, key, &reader) { pairs += [pattern, child] }
            }
            rules.patterns = addList(pairs)
        }
        if let child = found(child(schema, node, .additionalProperties, document, &reader)) { rules.additional = child }
        if let child = found(child(schema, node, .propertyNames, document, &reader)) { rules.names = child }
        if let list = found(readDependents(schema, node, document, &reader)) { rules.dependents = list }
        if let child = found(child(schema, node, .unevaluatedProperties, document, &reader)) { rules.unevaluated = child }
        return isEmpty ? nil : rules
    }

    /// `properties` and `required` in one table, so that each member of a value is looked up once.
    private mutating func readMembers(
        _ properties: [(key: JSONNode, schema: Int32)], _ node: JSONNode, _ document: borrowing JSONDocument,
        _ rules: inout SchemaObjectRules, _ reader: inout PlanReader
    ) {
        var entries: [SchemaSlot] = []
        for (key, child) in properties { entries.append(SchemaSlot(name: name(document, key), schema: child)) }
        if let list = document.member(node, "required") {
            rules.required = names(list, "required must be a list of names", document, &reader)
            for place in rules.required.indices { entries.append(SchemaSlot(name: tables.names[place], isRequired: true)) }
        }
        if properties.isEmpty, entries.count <= Limits.schemaNamesLookedUp {
            rules.isRequiredAlone = true
            return
        }
        rules.table = addTable(entries)
        for index in Int(rules.table.first)..<Int(rules.table.first + rules.table.mask + 1)
        where tables.slots[index].isRequired { rules.requiredCount += 1 }
    }

    private mutating func readDependents(
        _ schema: Int32, _ node: JSONNode, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) -> SchemaRange? {
        var list: [SchemaDependent] = []
        if let value = document.member(node, "dependentRequired") {
            if document.kind(value) != .object {
                reader.report(document, value, "dependentRequired must be a map of names and lists of names")
            }
            var next = document.kind(value) == .object ? document.firstChild(value) : nil
            while let key = next, let names = document.next(key) {
                var dependent = SchemaDependent(name: addName(name(document, key)))
                dependent.required = self.names(names, "dependentRequired must hold lists of names", document, &reader)
                list.append(dependent)
                next = document.next(names)
            }
        }
        for (key, child) in named(schema, node, .dependentSchemas, document, &reader) ?? [] {
            list.append(SchemaDependent(name: addName(name(document, key)), schema: child))
        }
        if list.isEmpty { return nil }
        tables.dependents += list
        return SchemaRange(first: Int32(tables.dependents.count - list.count), count: Int32(list.count))
    }

    // MARK: Names

    private mutating func names(
        _ list: JSONNode, _ expected: String, _ document: borrowing JSONDocument, _ reader: inout PlanReader
    ) -> SchemaRange {
        var range = SchemaRange(first: Int32(tables.names.count))
        guard document.kind(list) == .array else {
            reader.report(document, list, expected)
            return range
        }
        var next = document.firstChild(list)
        while let element = next, hasRoom(document, element, &reader) {
            if document.kind(element) == .string {
                _ = addName(name(document, element))
                range.count += 1
            } else {
                reader.report(document, element, expected)
            }
            next = document.next(element)
        }
        return range
    }

    private mutating func addName(_ name: SchemaName) -> Int32 {
        tables.names.append(name)
        return Int32(tables.names.count - 1)
    }

    private mutating func name(_ document: borrowing JSONDocument, _ node: JSONNode) -> SchemaName {
        let bytes = addText(document.bytes(node))
        return SchemaName(tag: JSONDocument.tag(document.bytes(node)), offset: bytes.first, length: bytes.count)
    }

    mutating func addText(_ bytes: Span<UInt8>) -> SchemaRange {
        let range = SchemaRange(first: Int32(tables.text.count), count: Int32(bytes.count))
        tables.text.append(contentsOf: bytes)
        return range
    }

    /// A hash table, half empty at least. Entries with the same name become one.
    private mutating func addTable(_ entries: [SchemaSlot]) -> SchemaNameTable {
        if entries.isEmpty { return SchemaNameTable(first: Int32(tables.slots.count)) }
        var size = 2
        while size < entries.count * 2 { size *= 2 }
        let table = SchemaNameTable(first: Int32(tables.slots.count), mask: Int32(size - 1))
        for _ in 0..<size { tables.slots.append(SchemaSlot()) }
        for entry in entries {
            let bytes = Array(tables.text[Int(entry.name.offset)..<Int(entry.name.offset + entry.name.length)])
            var probes: Int64 = 0
            let (text, slots) = (tables.text, tables.slots)
            if let known = table.find(bytes.span, entry.name.tag, slots.span, text.span, &probes) {
                if entry.isRequired { tables.slots[known].isRequired = true }
                if entry.schema >= 0 { tables.slots[known].schema = entry.schema }
                continue
            }
            var place = table.start(entry.name.tag)
            while tables.slots[Int(table.first) + place].name.length >= 0 { place = (place + 1) & Int(table.mask) }
            tables.slots[Int(table.first) + place] = entry
        }
        return table
    }
}
