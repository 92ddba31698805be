// One value held against a compiled schema. It stops at the first violation, allocates nothing, and always ends: after so
// many steps, and no deeper than so many schemas inside each other.

import CEL
import Formats

/// The state of one validation.
struct SchemaEvaluation {
    let program: SchemaProgram
    let root: JSONNode
    var steps = Limits.schemaSteps
    private var depth = 0
    /// Out of steps or too deep: nothing holds any more, and nobody may conclude anything from it.
    private(set) var isExhausted = false
    /// Why the last schema did not hold.
    private var found: SchemaViolation
    private var scratch = TextPatternScratch()
    /// Members that count as not there; see SchemaStripping.swift.
    var omitted: [OmittedMember] = []

    init(_ program: SchemaProgram, _ root: JSONNode) {
        self.program = program
        self.root = root
        found = SchemaViolation(node: root, root: root, rule: .limit, location: 0)
    }

    /// Holds the root against the whole schema.
    mutating func run(_ event: borrowing JSONDocument) -> SchemaViolation? {
        holds(0, root, event) ? nil : found
    }

    // MARK: One schema

    /// Whether a value is as schema number `index` wants it; `found` says why not.
    mutating func holds(_ index: Int32, _ value: JSONNode, _ event: borrowing JSONDocument) -> Bool {
        if !enter(index, value) { return false }
        defer { depth -= 1 }
        let node = program.tables.nodes[Int(index)]
        let kind = event.kind(value)
        if node.types & 1 << kind.rawValue == 0, !isWholeNumber(node, kind, value, event) {
            return fail(index, .type, value)
        }
        if node.isNever {
            fail(index, node.place, value)
            found.isOfKeyword = false
            return false
        }
        if node.generalRules > 0, !holdsGeneral(index, node, value, event) { return false }
        switch kind {
        case .integer, .number: return node.numberRules == 0 || holdsNumber(index, node, value, event)
        case .string: return node.textRules == 0 || holdsText(index, node, value, event)
        case .array: return node.array < 0 || holdsArray(index, program.tables.arrays[Int(node.array)], value, event)
        case .object: return node.object < 0 || holdsObject(index, program.tables.objects[Int(node.object)], value, event)
        case .null, .bool: return true
        }
    }

    /// Counts a schema in; `depth` must be counted down afterwards if it returns true.
    @inline(__always)
    mutating func enter(_ index: Int32, _ value: JSONNode) -> Bool {
        if isExhausted { return false }
        if depth == Limits.schemaEvaluationDepth || steps <= 0 { return exhaust(index, value) }
        steps -= 1
        depth += 1
        return true
    }

    mutating func leave() { depth -= 1 }

    /// Pays for work.
    @inline(__always)
    mutating func pay(_ cost: Int64, _ index: Int32, _ value: JSONNode) -> Bool {
        steps -= cost
        return steps > 0 || exhaust(index, value)
    }

    @inline(never)
    private mutating func exhaust(_ index: Int32, _ value: JSONNode) -> Bool {
        if isExhausted { return false }
        fail(index, .limit, value)
        found.isOfKeyword = false
        isExhausted = true
        return false
    }

    /// Remembers what is broken.
    @discardableResult
    mutating func fail(_ index: Int32, _ rule: SchemaKeyword, _ value: JSONNode, element: Int32 = -1, name: Int32 = -1)
        -> Bool
    {
        if isExhausted { return false }
        found = SchemaViolation(
            node: value, root: root, rule: rule, location: index, element: element, name: name, isOfKeyword: true)
        return false
    }

    private func isWholeNumber(
        _ node: SchemaNode, _ kind: JSONKind, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        kind == .number && node.types & SchemaNode.wholeNumbers != 0 && SchemaNumber(event, value)?.isInteger == true
    }

    // MARK: Any value

    private mutating func holdsGeneral(
        _ index: Int32, _ node: SchemaNode, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        let first = Int(node.firstRule)
        for place in first..<first + Int(node.generalRules) {
            let rule = program.tables.rules[place]
            switch rule.keyword {
            case .reference:
                if !holds(rule.first, value, event) { return false }
            case .enum:
                if !isChoice(program.tables.choices[Int(rule.first)], index, value, event) {
                    return fail(index, .enum, value)
                }
            case .const:
                if !isConstant(rule.first, index, value, event) { return fail(index, .const, value) }
            case .not:
                if holds(rule.first, value, event) { return fail(index, .not, value) }
            case .if:
                let isTrue = holds(rule.first, value, event)
                let branch = program.tables.lists[Int(rule.second) + (isTrue ? 0 : 1)]
                if branch >= 0, !holds(branch, value, event) { return false }
            default:
                let list = SchemaRange(first: rule.first, count: rule.second)
                if !holdsList(rule.keyword, list, index, value, event) { return false }
            }
            if isExhausted { return false }
        }
        return true
    }

    /// `allOf`, `anyOf`, `oneOf` (Core, section 10.2.1).
    private mutating func holdsList(
        _ keyword: SchemaKeyword, _ list: SchemaRange, _ index: Int32, _ value: JSONNode,
        _ event: borrowing JSONDocument
    ) -> Bool {
        var matches = 0
        for place in list.indices {
            let isMatch = holds(program.tables.lists[place], value, event)
            if isExhausted || keyword == .allOf && !isMatch { return false }
            if isMatch { matches += 1 }
            if keyword == .anyOf && isMatch { return true }
            if keyword == .oneOf && matches > 1 { break }
        }
        return keyword == .allOf || matches == 1 || fail(index, keyword, value)
    }

    private mutating func isChoice(
        _ choices: SchemaChoices, _ index: Int32, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        if event.kind(value) == .string {
            let (text, slots) = (program.tables.text, program.tables.slots)
            let word = event.bytes(value)
            var probes: Int64 = 1
            let slot = choices.texts.find(word, JSONDocument.tag(word), slots.span, text.span, &probes)
            return pay(probes, index, value) && slot != nil
        }
        for place in choices.others.indices where isConstant(Int32(place), index, value, event) { return true }
        return false
    }

    // MARK: Numbers and texts

    private mutating func holdsNumber(
        _ index: Int32, _ node: SchemaNode, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        guard let number = SchemaNumber(event, value) else { return true }
        let first = Int(node.firstRule) + Int(node.generalRules)
        for place in first..<first + Int(node.numberRules) {
            let rule = program.tables.rules[place]
            let isFulfilled: Bool
            if rule.keyword == .multipleOf {
                isFulfilled = program.tables.divisors[Int(rule.first)].divides(event.bytes(value))
                if !pay(Int64(event.bytes(value).count) / 4 + 8, index, value) { return false }
            } else {
                let order = number.compared(to: program.tables.numbers[Int(rule.first)])
                switch rule.keyword {
                case .minimum: isFulfilled = order >= 0
                case .maximum: isFulfilled = order <= 0
                case .exclusiveMinimum: isFulfilled = order > 0
                default: isFulfilled = order < 0
                }
            }
            if !isFulfilled { return fail(index, rule.keyword, value) }
        }
        return true
    }

    private mutating func holdsText(
        _ index: Int32, _ node: SchemaNode, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        let text = event.bytes(value)
        let first = Int(node.firstRule) + Int(node.generalRules) + Int(node.numberRules)
        for place in first..<first + Int(node.textRules) {
            let rule = program.tables.rules[place]
            let isFulfilled: Bool
            switch rule.keyword {
            case .pattern:
                isFulfilled = matches(rule.first, text, index, value)
            case .minLength:
                // A code point has one to four bytes.
                isFulfilled = text.count >= Int(rule.first) && (text.count / 4 >= Int(rule.first)
                    || SchemaEvaluation.length(text) >= Int(rule.first))
            default:
                isFulfilled = text.count <= Int(rule.first) || SchemaEvaluation.length(text) <= Int(rule.first)
            }
            if !isFulfilled { return fail(index, rule.keyword, value) }
        }
        return pay(Int64(text.count) / 32, index, value)
    }

    /// The length of a string in code points (Validation, section 6.3, by way of RFC 8259): all bytes but continuations.
    private static func length(_ text: Span<UInt8>) -> Int {
        var length = 0
        for index in text.indices where text[index] & 0xC0 != 0x80 { length += 1 }
        return length
    }

    mutating func matches(_ pattern: Int32, _ text: Span<UInt8>, _ index: Int32, _ value: JSONNode) -> Bool {
        let pattern = program.tables.patterns[Int(pattern)]
        return pay(pattern.cost(text.count), index, value) && pattern.matches(text, &scratch)
    }
}
