// `unevaluatedItems` and `unevaluatedProperties` (Core, section 11): what no other keyword beside or below has had a say
// in. Instead of carrying what has been evaluated along with every validation, whoever asks walks through the schemas
// that apply in place once more, 64 children at a time, and gets a bit for each.

import Formats

extension SchemaEvaluation {
    // MARK: Objects

    mutating func holdsUnevaluatedMembers(
        _ index: Int32, _ schema: Int32, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        var next = event.firstChild(value)
        while let first = next {
            let marks = evaluatedMembers(index, value, first, event, isAsking: true)
            if isExhausted { return false }
            var bit: UInt64 = 1
            while bit != 0, let key = next, let member = event.next(key) {
                next = event.next(member)
                if marks & bit == 0, !isOmitted(member), !holds(schema, member, event) { return false }
                bit <<= 1
            }
        }
        return true
    }

    /// Which of the 64 members from `first` on are evaluated by a schema that holds for the object.
    /// - Parameter isAsking: it is this schema's own `unevaluatedProperties` that wants to know.
    private mutating func evaluatedMembers(
        _ index: Int32, _ value: JSONNode, _ first: JSONNode, _ event: borrowing JSONDocument, isAsking: Bool
    ) -> UInt64 {
        if !enter(index, value) { return 0 }
        defer { leave() }
        let node = program.tables.nodes[Int(index)]
        var marks: UInt64 = 0
        if node.object >= 0 {
            let rules = program.tables.objects[Int(node.object)]
            if rules.additional >= 0 || rules.unevaluated >= 0 && !isAsking { return .max }
            if rules.table.mask >= 0 || !rules.patterns.isEmpty { marks = namedMembers(index, rules, first, event) }
            for place in rules.dependents.indices {
                let dependent = program.tables.dependents[place]
                if dependent.schema >= 0, member(value, dependent.name, event) != nil {
                    marks |= evaluatedMembers(dependent.schema, value, first, event, isAsking: false)
                }
            }
        }
        for place in Int(node.firstRule)..<Int(node.firstRule) + Int(node.generalRules) {
            let rule = program.tables.rules[place]
            switch rule.keyword {
            case .reference: marks |= evaluatedMembers(rule.first, value, first, event, isAsking: false)
            case .if:
                let isTrue = holds(rule.first, value, event)
                if isTrue { marks |= evaluatedMembers(rule.first, value, first, event, isAsking: false) }
                let branch = program.tables.lists[Int(rule.second) + (isTrue ? 0 : 1)]
                if branch >= 0 { marks |= evaluatedMembers(branch, value, first, event, isAsking: false) }
            case .allOf, .anyOf, .oneOf:
                for entry in SchemaRange(first: rule.first, count: rule.second).indices {
                    let branch = program.tables.lists[entry]
                    if rule.keyword == .allOf || holds(branch, value, event) {
                        marks |= evaluatedMembers(branch, value, first, event, isAsking: false)
                    }
                }
            default: break
            }
        }
        return marks
    }

    /// Those of `properties` and `patternProperties`.
    private mutating func namedMembers(
        _ index: Int32, _ rules: SchemaObjectRules, _ first: JSONNode, _ event: borrowing JSONDocument
    ) -> UInt64 {
        let (text, slots) = (program.tables.text, program.tables.slots)
        var marks: UInt64 = 0
        var bit: UInt64 = 1
        var next: JSONNode? = first
        while bit != 0, let key = next, let member = event.next(key) {
            var probes: Int64 = 1
            let place = rules.table.find(event.bytes(key), event.tag(ofKey: key), slots.span, text.span, &probes)
            if let place, slots[place].schema >= 0 { marks |= bit }
            if !pay(probes, index, member) { return 0 }
            var pattern = Int(rules.patterns.first)
            while marks & bit == 0, pattern < Int(rules.patterns.first + rules.patterns.count) {
                if matches(program.tables.lists[pattern], event.bytes(key), index, member) { marks |= bit }
                pattern += 2
            }
            bit <<= 1
            next = event.next(member)
        }
        return marks
    }

    // MARK: Arrays

    mutating func holdsUnevaluatedItems(
        _ index: Int32, _ schema: Int32, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        var position = 0
        var next = event.firstChild(value)
        while let first = next {
            let marks = evaluatedItems(index, value, first, position, event, isAsking: true)
            if isExhausted { return false }
            var bit: UInt64 = 1
            while bit != 0, let item = next {
                if marks & bit == 0, !holds(schema, item, event) { return false }
                bit <<= 1
                next = event.next(item)
            }
            position += 64
        }
        return true
    }

    /// Which of the 64 items from `first` on, which is number `position`, are evaluated by a schema that holds for the
    /// array.
    private mutating func evaluatedItems(
        _ index: Int32, _ value: JSONNode, _ first: JSONNode, _ position: Int, _ event: borrowing JSONDocument,
        isAsking: Bool
    ) -> UInt64 {
        if !enter(index, value) { return 0 }
        defer { leave() }
        let node = program.tables.nodes[Int(index)]
        var marks: UInt64 = 0
        if node.array >= 0 {
            let rules = program.tables.arrays[Int(node.array)]
            if rules.items >= 0 || rules.unevaluated >= 0 && !isAsking { return .max }
            let prefix = Int(rules.prefix.count) - position
            marks = prefix >= 64 ? .max : prefix > 0 ? 1 << UInt64(prefix) - 1 : 0
            if rules.contains >= 0 { marks |= containedItems(rules.contains, first, event) }
        }
        for place in Int(node.firstRule)..<Int(node.firstRule) + Int(node.generalRules) {
            let rule = program.tables.rules[place]
            switch rule.keyword {
            case .reference: marks |= evaluatedItems(rule.first, value, first, position, event, isAsking: false)
            case .if:
                let isTrue = holds(rule.first, value, event)
                if isTrue { marks |= evaluatedItems(rule.first, value, first, position, event, isAsking: false) }
                let branch = program.tables.lists[Int(rule.second) + (isTrue ? 0 : 1)]
                if branch >= 0 { marks |= evaluatedItems(branch, value, first, position, event, isAsking: false) }
            case .allOf, .anyOf, .oneOf:
                for entry in SchemaRange(first: rule.first, count: rule.second).indices {
                    let branch = program.tables.lists[entry]
                    if rule.keyword == .allOf || holds(branch, value, event) {
                        marks |= evaluatedItems(branch, value, first, position, event, isAsking: false)
                    }
                }
            default: break
            }
        }
        return marks
    }

    /// Those that `contains` is true of (Core, section 10.3.1.3).
    private mutating func containedItems(
        _ schema: Int32, _ first: JSONNode, _ event: borrowing JSONDocument
    ) -> UInt64 {
        var marks: UInt64 = 0
        var bit: UInt64 = 1
        var next: JSONNode? = first
        while bit != 0, let item = next {
            if holds(schema, item, event) { marks |= bit }
            bit <<= 1
            next = event.next(item)
        }
        return marks
    }
}
