// Arrays and objects held against their keywords (Core, section 10.3; Validation, sections 6.4 and 6.5).

import Formats

extension SchemaEvaluation {
    // MARK: Arrays

    mutating func holdsArray(
        _ index: Int32, _ rules: SchemaArrayRules, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        let count = event.count(value)
        if count < Int(rules.minimum) { return fail(index, .minItems, value) }
        if count > Int(rules.maximum) { return fail(index, .maxItems, value) }
        if rules.items >= 0 || !rules.prefix.isEmpty, !holdsItems(index, rules, value, event) { return false }
        if rules.contains >= 0, !holdsContains(index, rules, value, event) { return false }
        if rules.isUnique, count > 1, !isUnique(index, value, event) { return fail(index, .uniqueItems, value) }
        return rules.unevaluated < 0 || holdsUnevaluatedItems(index, rules.unevaluated, value, event)
    }

    private mutating func holdsItems(
        _ index: Int32, _ rules: SchemaArrayRules, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        var position: Int32 = 0
        var element = event.firstChild(value)
        while let item = element {
            let schema: Int32
            if position < rules.prefix.count {
                schema = program.tables.lists[Int(rules.prefix.first + position)]
            } else {
                if rules.items < 0 { return true }
                schema = rules.items
            }
            if !holds(schema, item, event) { return false }
            position += 1
            element = event.next(item)
        }
        return true
    }

    private mutating func holdsContains(
        _ index: Int32, _ rules: SchemaArrayRules, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        var contained: Int32 = 0
        var element = event.firstChild(value)
        while let item = element {
            if contained >= rules.minimumContained, rules.maximumContained == .max { return true }
            if holds(rules.contains, item, event) { contained += 1 }
            if isExhausted { return false }
            if contained > rules.maximumContained { return fail(index, .maxContains, value) }
            element = event.next(item)
        }
        if contained >= rules.minimumContained { return true }
        return fail(index, rules.hasMinimumContained ? .minContains : .contains, value)
    }

    // MARK: Objects

    mutating func holdsObject(
        _ index: Int32, _ rules: SchemaObjectRules, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        let count = self.count(value, event)
        if count < Int(rules.minimum) { return fail(index, .minProperties, value) }
        if count > Int(rules.maximum) { return fail(index, .maxProperties, value) }
        if rules.isRequiredAlone, !holdsRequired(index, rules.required, value, event, name: -1) { return false }
        if rules.looksAtMembers, !holdsMembers(index, rules, value, event) { return false }
        if !rules.dependents.isEmpty, !holdsDependents(index, rules.dependents, value, event) { return false }
        return rules.unevaluated < 0 || holdsUnevaluatedMembers(index, rules.unevaluated, value, event)
    }

    /// Looks at each member once.
    private mutating func holdsMembers(
        _ index: Int32, _ rules: SchemaObjectRules, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        let (text, slots) = (program.tables.text, program.tables.slots)
        var present: Int32 = 0
        var next = event.firstChild(value)
        while let key = next, let member = event.next(key) {
            next = event.next(member)
            if isOmitted(member) { continue }
            if rules.names >= 0, !holds(rules.names, key, event) { return false }
            var isNamed = false
            var probes: Int64 = 1
            let tag = event.tag(ofKey: key)
            if let place = rules.table.find(event.bytes(key), tag, slots.span, text.span, &probes) {
                let slot = slots[place]
                if slot.isRequired { present += 1 }
                if slot.schema >= 0 {
                    isNamed = true
                    if !holds(slot.schema, member, event) { return false }
                }
            }
            if !pay(probes, index, value) { return false }
            if !rules.patterns.isEmpty,
                !holdsPatterns(index, rules.patterns, key, member, event, &isNamed) { return false }
            if !isNamed, rules.additional >= 0, !holds(rules.additional, member, event) { return false }
        }
        return present == rules.requiredCount || holdsRequired(index, rules.required, value, event, name: -1)
    }

    private mutating func holdsPatterns(
        _ index: Int32, _ patterns: SchemaRange, _ key: JSONNode, _ member: JSONNode, _ event: borrowing JSONDocument,
        _ isNamed: inout Bool
    ) -> Bool {
        var place = Int(patterns.first)
        while place < Int(patterns.first + patterns.count) {
            if matches(program.tables.lists[place], event.bytes(key), index, member) {
                isNamed = true
                if !holds(program.tables.lists[place + 1], member, event) { return false }
            }
            if isExhausted { return false }
            place += 2
        }
        return true
    }

    /// Finds the first name that is missing.
    /// - Parameter name: whose list it is (`dependentRequired`), or -1.
    private mutating func holdsRequired(
        _ index: Int32, _ required: SchemaRange, _ value: JSONNode, _ event: borrowing JSONDocument, name: Int32
    ) -> Bool {
        for place in required.indices where member(value, Int32(place), event) == nil {
            return fail(
                index, name < 0 ? .required : .dependentRequired, value, element: Int32(place) - required.first,
                name: name)
        }
        return pay(Int64(required.count), index, value)
    }

    private mutating func holdsDependents(
        _ index: Int32, _ dependents: SchemaRange, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        for place in dependents.indices {
            let dependent = program.tables.dependents[place]
            if member(value, dependent.name, event) == nil { continue }
            if !holdsRequired(index, dependent.required, value, event, name: dependent.name) { return false }
            if dependent.schema >= 0, !holds(dependent.schema, value, event) { return false }
        }
        return true
    }

    /// The value of the member with name number `name`.
    func member(_ object: JSONNode, _ name: Int32, _ event: borrowing JSONDocument) -> JSONNode? {
        let word = program.tables.names[Int(name)]
        let text = program.tables.text
        let bytes = text.span.extracting(Int(word.offset)..<Int(word.offset + word.length))
        guard let member = event.member(object, bytes), !isOmitted(member) else { return nil }
        return member
    }
}
