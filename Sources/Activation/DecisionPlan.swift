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
    /// FNV-1a of the name, by which the store knows it.
    public let tag: UInt32
    /// Of one that announces who joins and leaves it: the number of the purpose that a person must grant for that.
    public let purpose: Int?
}

/// What a rule that matches answers.
enum Outcome: Sendable {
    case serve(Int)
    case split(Split)
}

struct Rule: Sendable {
    let name: [UInt8]
    /// Its condition in the policy's program; nil matches always.
    let expression: Int?
    let outcome: Outcome
    /// Percent of people who get the default although the rule matches, to measure against.
    let holdout: UInt64
    /// The people that the rule is for; nil: all.
    let slice: Slice?
    /// Number of the experiment that it is, where the decision has a goal.
    let experiment: Int?

    /// Whether what it answers depends on who asks, not only on what is known of them.
    var needsSeed: Bool {
        if holdout > 0 || slice != nil { return true }
        if case .split = outcome { return true }
        return false
    }
}

struct Variant: Sendable {
    let name: [UInt8]
    /// Its value as JSON text, ready to be answered; `null`: the default of the code that asks holds.
    let json: [UInt8]

    /// Leaves the value to the code that asks, whose default is its own.
    var isCodeDefault: Bool { json.count == 4 && json[0] == UInt8(ascii: "n") }

    /// What a decision without `default` comes to.
    static let codeDefault = Variant(name: Array("default".utf8), json: Array("null".utf8))
}

/// One decision: an OpenFeature flag. Immutable; a class, so that answering copies one reference.
public final class Decision: Sendable {
    public let key: [UInt8]
    let tag: UInt32
    /// Number of the purpose that it needs; nil for one that sees no person.
    public let purpose: Int?
    let variants: [Variant]
    /// The variant where no rule matches; that behind all others leaves it to the code that asks.
    let defaultVariant: Int
    /// What the bundle says in `metadata`: members of a JSON object, ready to be answered; empty for none.
    let metadata: [UInt8]
    let isEnabled: Bool
    let rules: [Rule]
    /// The conditions of the first rules, up to one without a condition: expressions of the policy's program, in order.
    let conditions: Range<Int>
    /// Audiences that its rules mention, with those that these mention.
    let needs: UInt64
    /// When it holds: an expression of the policy's program; nil: always.
    let schedule: Int?
    /// The place that it competes for with other decisions (`slot`), and how strongly.
    let slot: [UInt8]?
    let priority: Int
    /// How often it may be served; nil: any number of times.
    let cap: Cap?
    /// Percent of its answers that leave a record in the log.
    let recordPercent: UInt64

    init(
        key: [UInt8], purpose: Int?, variants: [Variant], defaultVariant: Int, metadata: [UInt8], isEnabled: Bool,
        rules: [Rule], needs: UInt64, schedule: Int?, slot: [UInt8]?, priority: Int,
        cap: Cap?, recordPercent: UInt64
    ) {
        self.key = key
        tag = NameTag.of(key.span)
        self.purpose = purpose
        self.variants = variants
        self.defaultVariant = defaultVariant
        self.metadata = metadata
        self.isEnabled = isEnabled
        self.rules = rules
        self.needs = needs
        self.schedule = schedule
        self.slot = slot
        self.priority = priority
        self.cap = cap
        self.recordPercent = recordPercent
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
    /// What is counted of them.
    var experiments: [Experiment] = []
    /// Of each decision those that go before it for the same place, the first of them first; empty where none competes.
    private(set) var rivals: [[Int]] = []
    /// Audiences that announce who joins and leaves them, a bit each.
    public internal(set) var announced: UInt64 = 0
    private(set) var counts = DecisionCounts()

    public init() {}

    /// Finds out who competes with whom, and makes room to count what is answered.
    mutating func rank() {
        counts = DecisionCounts(decisions)
        if !decisions.contains(where: { $0.slot != nil }) { return }
        for number in decisions.indices {
            var before: [Int] = []
            for other in decisions.indices where goesBefore(other, number) {
                var place = before.count
                while place > 0, goesBefore(other, before[place - 1]) { place -= 1 }
                before.insert(other, at: place)
            }
            rivals.append(before)
        }
    }

    private func goesBefore(_ a: Int, _ b: Int) -> Bool {
        guard a != b, let slot = decisions[a].slot, slot == decisions[b].slot else { return false }
        let (first, second) = (decisions[a].priority, decisions[b].priority)
        return first != second ? first > second : a < b
    }

    /// A set of audiences with all those that they build on.
    public func closure(_ needs: UInt64) -> UInt64 {
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
    /// The parts of groups that rules have taken so far, with the number of their decision.
    private var slices: [(decision: Int, slice: Slice)] = []

    private let caps: CapPlan
    private let experiments: ExperimentPlan

    init(
        personal: Environment, anonymous: Environment, slots: Slots, scores: [Score], caps: CapPlan, experiments: ExperimentPlan
    ) {
        self.experiments = experiments
        plan.experiments = experiments.experiments
        self.personal = personal
        self.anonymous = anonymous
        self.slots = slots
        self.scores = scores
        self.caps = caps
    }

    mutating func readAudiences(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, _ purposes: PurposePlan, _ compiler: inout Compiler,
        _ reader: inout PlanReader
    ) {
        guard let section = reader.object(document, bundle, "audiences") else { return }
        var key = document.firstChild(section)
        while let name = key, let condition = document.next(name) {
            key = document.next(condition)
            guard plan.audiences.count < Limits.audiences else {
                reader.report(document, name, "there can be at most \(Limits.audiences) audiences")
                return
            }
            guard let (node, purpose) = readAnnouncing(document, condition, purposes, &reader) else { continue }
            let source = copy(document.bytes(node))
            guard let expression = compile(document, node, source, personal, &compiler, &reader) else { continue }
            // An audience may build on those before it, so that there are no circles.
            let needs = slots.audiences(expression.slots)
            if needs >> UInt64(plan.audiences.count) != 0 {
                reader.report(document, condition, "an audience may mention only audiences that stand before it")
                continue
            }
            let tag = NameTag.of(document.bytes(name))
            if purpose != nil {
                if plan.audiences.contains(where: { $0.tag == tag }) {
                    reader.report(
                        document, name, "this name cannot be told apart from an earlier one in records; choose another")
                }
                plan.announced |= 1 << UInt64(plan.audiences.count)
            }
            plan.audiences.append(
                Audience(
                    name: copy(document.bytes(name)), expression: expression.number, needs: plan.closure(needs),
                    slots: expression.slots, tag: tag, purpose: purpose))
        }
    }

    /// Where an audience's condition stands, and the purpose of an audience that announces itself: a text, or a map.
    private func readAnnouncing(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ purposes: PurposePlan, _ reader: inout PlanReader
    ) -> (condition: JSONNode, purpose: Int?)? {
        if document.kind(settings) == .string { return (settings, nil) }
        guard document.kind(settings) == .object, let condition = reader.text(document, settings, "when") else {
            reader.report(
                document, settings,
                "an audience is a condition, such as profile.orders >= 3, or { when: CONDITION, purpose: …, announce: true }")
            return nil
        }
        reader.refuseOthers(document, settings, ["when", "purpose", "announce"], of: "an audience")
        let purpose = purposes.read(document, settings, &reader)
        if reader.flag(document, settings, "announce") != true { return (condition, nil) }
        if purpose == nil {
            reader.report(document, settings, "an audience that announces itself needs a purpose: one of the bundle's purposes")
        }
        return (condition, purpose)
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
        plan.rank()
    }

    private mutating func readDecision(
        _ document: borrowing JSONDocument, _ name: JSONNode, _ settings: JSONNode, _ purposes: PurposePlan,
        _ compiler: inout Compiler, _ reader: inout PlanReader
    ) {
        reader.refuseOthers(
            document, settings,
            ["purpose", "variants", "default", "rules", "enabled", "cap", "slot", "priority", "metadata", "record", "goal"]
                + Schedule.members,
            of: "a decision")
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
        var defaultVariant = variants.count
        if let standard = document.member(settings, "default"), !document.isNull(standard) {
            guard let number = find(document, standard, variants) else {
                reader.report(document, standard, "default must name one of the variants; without it the code that asks has its own")
                return
            }
            defaultVariant = number
        }
        variants.append(Variant.codeDefault)
        let schedule = Schedule(document, settings, &reader)
        var scheduled: Int?
        if !schedule.source.isEmpty {
            scheduled = compile(document, settings, schedule.source, anonymous, &compiler, &reader)?.number
        }
        let slot = readSlot(document, settings, isPersonal: isPersonal, &reader)
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
                metadata: readMetadata(document, settings, &reader), isEnabled: reader.flag(document, settings, "enabled") ?? true,
                rules: rules, needs: plan.closure(needs),
                schedule: scheduled, slot: slot, priority: Int(reader.integer(document, settings, "priority", 0...9) ?? 0),
                cap: caps.cap(of: name), recordPercent: UInt64(reader.integer(document, settings, "record", 0...100) ?? 100)))
    }

    /// What people want to read beside the value (OpenFeature's flag metadata): texts, numbers and truth values.
    private func readMetadata(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ reader: inout PlanReader
    ) -> [UInt8] {
        guard let section = reader.object(document, settings, "metadata") else { return [] }
        var writer = JSONWriter()
        var key = document.firstChild(section)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            var isTaken = false
            for own in AnswerMemo.metadata where document.equals(name, own) { isTaken = true }
            if isTaken { reader.report(document, name, "every answer has metadata of this name; choose another") }
            switch document.kind(value) {
            case .string, .bool, .integer, .number:
                writer.key(document.bytes(name))
                writer.value(document, value)
            default: reader.report(document, value, "metadata is a map of names and texts, numbers or truth values")
            }
        }
        return writer.bytes
    }

    /// The place that a decision competes for.
    private func readSlot(
        _ document: borrowing JSONDocument, _ settings: JSONNode, isPersonal: Bool, _ reader: inout PlanReader
    ) -> [UInt8]? {
        guard let node = reader.text(document, settings, "slot") else {
            if let priority = document.member(settings, "priority") {
                reader.warn(document, priority, "without a slot this decision competes with none, and priority has no effect")
            }
            return nil
        }
        if !isPersonal {
            // What it answers would tell whether a rule about the person has matched.
            reader.report(document, node, "a decision without a purpose sees no person, and cannot compete with those that do")
        }
        return copy(document.bytes(node))
    }

    private mutating func readRule(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ variants: [Variant], _ environment: Environment,
        _ needs: inout UInt64, _ asked: inout UInt64, _ compiler: inout Compiler, _ reader: inout PlanReader
    ) -> Rule? {
        guard document.kind(node) == .object else {
            reader.report(document, node, "a rule is { when: CONDITION, serve: VARIANT } or { when: …, split: { … } }")
            return nil
        }
        reader.refuseOthers(
            document, node, ["name", "when", "serve", "split", "holdout", "group", "enabled"] + Schedule.members, of: "a rule")
        var name: [UInt8] = []
        if let label = reader.text(document, node, "name") { name = copy(document.bytes(label)) }
        var source: [UInt8] = []
        var place = node
        if let condition = document.member(node, "when") {
            if document.kind(condition) == .string {
                source = copy(document.bytes(condition))
                place = condition
            } else if document.bool(condition) != true {
                reader.report(document, condition, "when must be a condition in text, such as 'profile.vip'")
                return nil
            }
        }
        var schedule = Schedule(document, node, &reader)
        schedule.isEnabled = reader.flag(document, node, "enabled") ?? true
        let holdout = reader.integer(document, node, "holdout", 0...100) ?? 0
        let slice = readSlice(document, node, &reader)
        let serve = document.member(node, "serve")
        let split = reader.object(document, node, "split")
        guard (serve == nil) != (split == nil) else {
            reader.report(document, node, "a rule needs either serve: VARIANT or split: { VARIANT: WEIGHT, … }")
            return nil
        }
        let outcome: Outcome
        if let serve {
            guard let variant = find(document, serve, variants) else {
                reader.report(document, serve, "serve must name one of the decision's variants")
                return nil
            }
            outcome = .serve(variant)
        } else {
            guard let split, let shares = readSplit(document, split, variants, &reader) else { return nil }
            outcome = .split(shares)
        }
        var expression: Int?
        if !source.isEmpty || !schedule.joined(with: []).isEmpty {
            guard let compiled = compile(document, place, source, environment, &compiler, &reader, schedule) else { return nil }
            needs |= slots.audiences(compiled.slots)
            asked |= slots.scores(compiled.slots)
            expression = compiled.number
        }
        return Rule(
            name: name, expression: expression, outcome: outcome, holdout: UInt64(holdout), slice: slice,
            experiment: experiments.number(of: node))
    }

    private func readSplit(
        _ document: borrowing JSONDocument, _ split: JSONNode, _ variants: [Variant], _ reader: inout PlanReader
    ) -> Split? {
        var shares: [Split.Share] = []
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
            let name = variants[variant].name
            shares.append(Split.Share(variant: variant, tag: NameTag.of(name.span), weight: UInt64(share)))
        }
        if total == 0 { reader.report(document, split, "the weights of a split must be more than 0 in all") }
        return total > 0 ? Split(shares: shares) : nil
    }

    /// `group: { NAME: 0-40 }`: the people of the group whose point lies between these percents.
    private mutating func readSlice(
        _ document: borrowing JSONDocument, _ rule: JSONNode, _ reader: inout PlanReader
    ) -> Slice? {
        guard let group = reader.object(document, rule, "group") else { return nil }
        guard let name = document.firstChild(group), let range = document.next(name), document.count(group) == 1,
            document.kind(range) == .string, let (from, to) = DecisionPlanReader.percents(document.bytes(range))
        else {
            reader.report(document, group, "group must name one group and the part of its people, in percent: { checkout: 0-40 }")
            return nil
        }
        let slice = Slice(tag: NameTag.of(document.bytes(name)), from: from, to: to)
        // The rules of one decision may share a part: a person gets one answer of it.
        for earlier in slices where earlier.decision != plan.decisions.count && earlier.slice.overlaps(slice) {
            reader.report(
                document, range, "another decision has some of these people of the group; the parts of a group must not overlap")
            return nil
        }
        slices.append((plan.decisions.count, slice))
        return slice
    }

    private static func percents(_ text: Span<UInt8>) -> (UInt64, UInt64)? {
        var numbers: [UInt64] = [0, 0]
        var place = 0
        for index in 0..<text.count {
            if text[index] == UInt8(ascii: "-"), place == 0, index > 0 {
                place = 1
            } else if text[index] >= 0x30, text[index] <= 0x39 {
                numbers[place] = min(1000, numbers[place] * 10 + UInt64(text[index] - 0x30))
            } else {
                return nil
            }
        }
        return place == 1 && numbers[0] < numbers[1] && numbers[1] <= 100 ? (numbers[0], numbers[1]) : nil
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
        _ compiler: inout Compiler, _ reader: inout PlanReader, _ schedule: Schedule? = nil
    ) -> Expression? {
        do throws(CompileError) {
            return try compiler.add(schedule?.joined(with: source) ?? source, in: environment, expecting: .condition)
        } catch {
            // What people have written alone has the places that they see.
            if let schedule, !schedule.source.isEmpty || !schedule.isEnabled, !source.isEmpty,
                compile(document, node, source, environment, &compiler, &reader) == nil
            {
                return nil
            }
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
