// The `audiences` and `decisions` sections of a bundle, read and compiled once. It need not know people.

import CEL
import Formats
import Governance
import Unification

/// A named condition over a person.
public struct Audience: Sendable {
    public let name: [UInt8]
    /// Its condition in the policy's program.
    let expression: Int
    /// Audiences that the condition mentions, all before this one.
    let needs: UInt64
    /// What the condition reads.
    let slots: [Int]
}

/// What a rule that matches answers.
enum Outcome: Sendable {
    case serve(Int)
    /// Variants and the upper ends of their shares, of `total`.
    case split([(variant: Int, upTo: UInt64)], total: UInt64)
}

struct Rule: Sendable {
    let name: [UInt8]
    /// Its condition in the policy's program; nil matches always.
    let expression: Int?
    let outcome: Outcome
    /// Percent of people who get the default although the rule matches, to measure against.
    let holdout: UInt64
}

struct Variant: Sendable {
    let name: [UInt8]
    /// Its value as JSON text, ready to be answered.
    let json: [UInt8]
}

/// One decision: an OpenFeature flag. Immutable; a class, so that answering copies one reference.
public final class Decision: Sendable {
    public let key: [UInt8]
    let tag: UInt32
    /// Number of the purpose that it needs; nil for one that sees no person.
    public let purpose: Int?
    let variants: [Variant]
    let defaultVariant: Int
    let isEnabled: Bool
    let rules: [Rule]
    /// The conditions of the first rules, up to one without a condition: expressions of the policy's program, in order.
    let conditions: Range<Int>
    /// Audiences that its rules mention, with those that these mention.
    let needs: UInt64

    init(
        key: [UInt8], purpose: Int?, variants: [Variant], defaultVariant: Int, isEnabled: Bool, rules: [Rule],
        needs: UInt64
    ) {
        self.key = key
        tag = NameTag.of(key.span)
        self.purpose = purpose
        self.variants = variants
        self.defaultVariant = defaultVariant
        self.isEnabled = isEnabled
        self.rules = rules
        self.needs = needs
        // The compiler numbers expressions in the order of adding, and nothing is added between two rules.
        let first = rules.first?.expression ?? 0
        var count = 0
        while count < rules.count, rules[count].expression == first + count { count += 1 }
        conditions = first..<first + count
    }
}

/// All audiences and decisions of a bundle.
public struct DecisionPlan: Sendable {
    public internal(set) var audiences: [Audience] = []
    public internal(set) var decisions: [Decision] = []

    public init() {}

    /// A set of audiences with all those that they build on.
    func closure(_ needs: UInt64) -> UInt64 {
        var all = needs
        for number in audiences.indices.reversed() where all & 1 << UInt64(number) != 0 { all |= audiences[number].needs }
        return all
    }

    public func index(of key: Span<UInt8>) -> Int? {
        for index in decisions.indices {
            let decision = decisions[index]
            let name = decision.key
            if equal(name.span, key) { return index }
        }
        return nil
    }
}

/// Reads both sections into a plan and their conditions into the policy's program.
struct DecisionPlanReader {
    var plan = DecisionPlan()
    /// Names in scope of conditions over a person, and of those that see no person.
    let personal: Environment
    let anonymous: Environment
    let slots: Slots
    let scores: [Score]

    mutating func readAudiences(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, _ compiler: inout Compiler, _ reader: inout PlanReader
    ) {
        guard let section = reader.object(document, bundle, "audiences") else { return }
        var key = document.firstChild(section)
        while let name = key, let condition = document.next(name) {
            key = document.next(condition)
            guard plan.audiences.count < Limits.audiences else {
                reader.report(document, name, "there can be at most \(Limits.audiences) audiences")
                return
            }
            guard document.kind(condition) == .string else {
                reader.report(document, condition, "an audience is a condition, such as profile.orders >= 3")
                continue
            }
            let source = copy(document.bytes(condition))
            guard let expression = compile(document, condition, source, personal, &compiler, &reader) else { continue }
            // An audience may build on those before it, so that there are no circles.
            let needs = slots.audiences(expression.slots)
            if needs >> UInt64(plan.audiences.count) != 0 {
                reader.report(document, condition, "an audience may mention only audiences that stand before it")
                continue
            }
            plan.audiences.append(
                Audience(
                    name: copy(document.bytes(name)), expression: expression.number, needs: plan.closure(needs),
                    slots: expression.slots))
        }
    }

    mutating func readDecisions(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, _ purposes: PurposePlan, _ compiler: inout Compiler,
        _ reader: inout PlanReader
    ) {
        guard let section = reader.object(document, bundle, "decisions") else { return }
        var key = document.firstChild(section)
        while let name = key, let settings = document.next(name) {
            key = document.next(settings)
            guard plan.decisions.count < Limits.decisions else {
                reader.report(document, name, "there can be at most \(Limits.decisions) decisions")
                return
            }
            guard document.kind(settings) == .object else {
                reader.report(document, settings, "a decision is a map with variants, default and rules")
                continue
            }
            readDecision(document, name, settings, purposes, &compiler, &reader)
        }
    }

    private mutating func readDecision(
        _ document: borrowing JSONDocument, _ name: JSONNode, _ settings: JSONNode, _ purposes: PurposePlan,
        _ compiler: inout Compiler, _ reader: inout PlanReader
    ) {
        reader.refuseOthers(
            document, settings, ["purpose", "variants", "default", "rules", "enabled", "cap"], of: "a decision")
        if let cap = document.member(settings, "cap") {
            reader.report(document, cap, "cap is not supported yet; without it the decision is served without a cap")
        }
        let purpose = purposes.read(document, settings, &reader)
        let isPersonal = document.member(settings, "purpose") != nil
        var variants: [Variant] = []
        if let list = reader.object(document, settings, "variants") {
            var key = document.firstChild(list)
            while let label = key, let value = document.next(label) {
                key = document.next(value)
                var writer = JSONWriter()
                writer.value(document, value)
                variants.append(Variant(name: copy(document.bytes(label)), json: writer.bytes))
            }
        }
        guard !variants.isEmpty, variants.count <= Limits.variants else {
            reader.report(document, settings, "a decision needs variants, at most \(Limits.variants): variants: { off: false, on: true }")
            return
        }
        guard let standard = document.member(settings, "default"), let defaultVariant = find(document, standard, variants)
        else {
            reader.report(
                document, document.member(settings, "default") ?? settings, "default must name one of the variants")
            return
        }
        var rules: [Rule] = []
        var needs: UInt64 = 0
        /// Scores that the rules ask for, a bit each.
        var asked: UInt64 = 0
        if let list = document.member(settings, "rules") {
            guard document.kind(list) == .array, document.count(list) <= Limits.rules else {
                reader.report(document, list, "rules must be a list of at most \(Limits.rules) rules, each { when: …, serve: … }")
                return
            }
            compiler.beginGroup()
            defer { compiler.endGroup() }
            var element = document.firstChild(list)
            while let node = element {
                element = document.next(node)
                if let rule = readRule(
                    document, node, variants, isPersonal ? personal : anonymous, &needs, &asked, &compiler, &reader)
                {
                    rules.append(rule)
                }
                if !isPersonal, areOfPerson(asked) {
                    reader.report(
                        document, node, "this asks for a score about a person, and a decision without a purpose sees none")
                    asked = 0
                }
            }
        }
        plan.decisions.append(
            Decision(
                key: copy(document.bytes(name)), purpose: purpose, variants: variants, defaultVariant: defaultVariant,
                isEnabled: reader.flag(document, settings, "enabled") ?? true, rules: rules, needs: plan.closure(needs)))
    }

    private mutating func readRule(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ variants: [Variant], _ environment: Environment,
        _ needs: inout UInt64, _ asked: inout UInt64, _ compiler: inout Compiler, _ reader: inout PlanReader
    ) -> Rule? {
        guard document.kind(node) == .object else {
            reader.report(document, node, "a rule is { when: CONDITION, serve: VARIANT } or { when: …, split: { … } }")
            return nil
        }
        reader.refuseOthers(document, node, ["name", "when", "serve", "split", "holdout"], of: "a rule")
        var name: [UInt8] = []
        if let label = reader.text(document, node, "name") { name = copy(document.bytes(label)) }
        var expression: Int?
        if let condition = document.member(node, "when") {
            if document.kind(condition) == .string {
                let source = copy(document.bytes(condition))
                guard let compiled = compile(document, condition, source, environment, &compiler, &reader) else {
                    return nil
                }
                needs |= slots.audiences(compiled.slots)
                asked |= slots.scores(compiled.slots)
                expression = compiled.number
            } else if document.bool(condition) != true {
                reader.report(document, condition, "when must be a condition in text, such as 'profile.vip'")
                return nil
            }
        }
        let holdout = reader.integer(document, node, "holdout", 0...100) ?? 0
        let serve = document.member(node, "serve")
        let split = reader.object(document, node, "split")
        guard (serve == nil) != (split == nil) else {
            reader.report(document, node, "a rule needs either serve: VARIANT or split: { VARIANT: WEIGHT, … }")
            return nil
        }
        if let serve {
            guard let variant = find(document, serve, variants) else {
                reader.report(document, serve, "serve must name one of the decision's variants")
                return nil
            }
            return Rule(name: name, expression: expression, outcome: .serve(variant), holdout: UInt64(holdout))
        }
        guard let split else { return nil }
        var shares: [(variant: Int, upTo: UInt64)] = []
        var total: UInt64 = 0
        var key = document.firstChild(split)
        while let label = key, let weight = document.next(label) {
            key = document.next(weight)
            guard let variant = find(document, label, variants), let share = document.int64(weight), share >= 0,
                share <= 1_000_000
            else {
                reader.report(document, label, "a split is { VARIANT: WEIGHT } with weights from 0 to 1000000")
                return nil
            }
            total += UInt64(share)
            shares.append((variant, total))
        }
        guard total > 0 else {
            reader.report(document, split, "the weights of a split must be more than 0 in all")
            return nil
        }
        return Rule(
            name: name, expression: expression, outcome: .split(shares, total: total), holdout: UInt64(holdout))
    }

    private func areOfPerson(_ asked: UInt64) -> Bool {
        for number in scores.indices where asked & 1 << UInt64(number) != 0 && !slots.areImpersonal(scores[number].slots) {
            return true
        }
        return false
    }

    private func find(_ document: borrowing JSONDocument, _ node: JSONNode, _ variants: [Variant]) -> Int? {
        // A variant called off or on may have been read as a truth value.
        let name: [UInt8]
        if document.kind(node) == .string {
            name = copy(document.bytes(node))
        } else if let flag = document.bool(node) {
            name = Array((flag ? "true" : "false").utf8)
        } else {
            name = copy(document.source(node))
        }
        for index in variants.indices where variants[index].name == name { return index }
        return nil
    }

    private func compile(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ source: [UInt8], _ environment: Environment,
        _ compiler: inout Compiler, _ reader: inout PlanReader
    ) -> Expression? {
        do throws(CompileError) {
            return try compiler.add(source, in: environment, expecting: .condition)
        } catch {
            reader.report(document, node, "in this condition, " + error.description)
            return nil
        }
    }
}

func copy(_ bytes: Span<UInt8>) -> [UInt8] {
    var result: [UInt8] = []
    result.append(contentsOf: bytes)
    return result
}
