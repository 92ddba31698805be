// What is counted of the splits and holdouts of a decision that has a `goal`: who was shown which arm, and whether they did
// what the goal says soon after. Read before everything else of the bundle, since what counts is kept in profiles: there it
// goes where the person goes. It need not know people.

import CEL
import Formats
import Unification

/// A rule that draws people, in a decision with a goal.
struct Experiment: Sendable {
    /// The rule, in the bundle.
    let node: JSONNode
    /// What is kept in profiles.
    let exposure: HiddenAttribute
    let goal: HiddenAttribute
    /// Of the exposure, whatever the bundle's version: the same test is the same experiment.
    let tag: UInt32
    /// The exposure, as the plan of attributes numbers it; the goal stands behind it.
    var attribute = 0
    /// What the goal is, in the bundle's words.
    let goalText: [UInt8]
    let withinMilliseconds: Int64
    let hasValue: Bool

    /// What stands for those held out, among the tags of variants.
    static let holdout: UInt64 = 0

    /// What stands for an arm in profiles.
    static func arm(_ variant: Variant) -> UInt64 {
        let name = variant.name
        return UInt64(NameTag.of(name.span))
    }
}

/// All experiments of a bundle.
struct ExperimentPlan {
    private(set) var experiments: [Experiment] = []

    private struct Goal {
        var text: [UInt8] = []
        var condition = 0
        var value: Int?
        var within = Limits.goalMilliseconds
    }

    /// - Parameter environment: the names in scope of an expression over an event, without those of a profile.
    @inline(never)
    init(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, _ environment: Environment, _ compiler: inout Compiler,
        _ reader: inout PlanReader
    ) {
        guard let section = document.member(bundle, "decisions"), document.kind(section) == .object else { return }
        var key = document.firstChild(section)
        while let name = key, let decision = document.next(name) {
            key = document.next(decision)
            guard document.kind(decision) == .object, let node = document.member(decision, "goal") else { continue }
            if document.member(decision, "purpose") == nil {
                reader.report(document, node, "a goal counts people: this decision needs a purpose")
            }
            guard let goal = ExperimentPlan.read(document, node, bundle, environment, &compiler, &reader) else { continue }
            let before = experiments.count
            if let rules = document.member(decision, "rules"), document.kind(rules) == .array {
                var element = document.firstChild(rules)
                var number: UInt8 = 0
                while let rule = element {
                    element = document.next(rule)
                    number &+= 1
                    if document.kind(rule) == .object { add(document, rule, number, name, decision, node, goal, &reader) }
                }
            }
            if experiments.count == before {
                reader.warn(document, node, "a goal counts for rules with a split or a holdout, and here is none")
            }
        }
    }

    private mutating func add(
        _ document: borrowing JSONDocument, _ rule: JSONNode, _ number: UInt8, _ name: JSONNode, _ decision: JSONNode,
        _ goalNode: JSONNode, _ goal: Goal, _ reader: inout PlanReader
    ) {
        if document.member(rule, "split") == nil, document.member(rule, "holdout") == nil { return }
        guard experiments.count < Limits.experiments else {
            return reader.report(document, rule, "there can be at most 64 splits and holdouts with a goal")
        }
        // What is tested, and what for: with any other of these another count begins.
        var identity = JSONWriter(reserving: 512)
        identity.value(document, goalNode)
        for member in ["variants", "default"] as [StaticString] {
            if let node = document.member(decision, member) { identity.value(document, node) }
        }
        for member in ["split", "serve", "holdout", "group"] as [StaticString] {
            if let node = document.member(rule, member) {
                identity.key(member)
                identity.value(document, node)
            }
        }
        if let label = document.member(rule, "name") {
            identity.value(document, label)
        } else {
            identity.bytes.append(number)
        }
        let hash = NameTag.of(identity.bytes.span)
        var title = copy(document.bytes(name))
        for shift in stride(from: UInt32(0), to: 32, by: 8) { title.append(UInt8(truncatingIfNeeded: hash >> shift)) }
        let exposure = HiddenAttribute.exposure(name: title)
        let experiment = Experiment(
            node: rule, exposure: exposure,
            goal: .goal(name: title, within: goal.within, condition: goal.condition, value: goal.value),
            tag: exposure.tag, goalText: goal.text, withinMilliseconds: goal.within, hasValue: goal.value != nil)
        for other in experiments where other.tag == experiment.tag {
            return reader.report(document, rule, "an earlier rule is the same test: give one of them another name")
        }
        experiments.append(experiment)
    }

    /// The name of an event, or `{ event: NAME }` or `{ when: CONDITION }`, with `within` and `value`.
    private static func read(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ bundle: JSONNode, _ environment: Environment,
        _ compiler: inout Compiler, _ reader: inout PlanReader
    ) -> Goal? {
        var goal = Goal()
        var event: JSONNode? = node
        if document.kind(node) == .object {
            reader.refuseOthers(document, node, ["event", "when", "within", "value"], of: "a goal")
            if let within = reader.duration(document, node, "within", atMost: Limits.longestWaitMilliseconds) {
                goal.within = within
            }
            if let value = document.member(node, "value") {
                guard let expression = reader.compile(document, value, in: environment, expecting: .anything, &compiler)
                else { return nil }
                switch expression.type {
                case .int, .uint, .double, .dyn: goal.value = expression.number
                default: reader.report(document, value, "value must be a number, such as event.properties.revenue")
                }
            }
            event = reader.text(document, node, "event")
            if let condition = reader.text(document, node, "when"), event == nil {
                goal.text = copy(document.bytes(condition))
                guard let expression = reader.compile(document, condition, in: environment, expecting: .condition, &compiler)
                else { return nil }
                goal.condition = expression.number
                return goal
            }
            if document.member(node, "when") != nil { event = nil }
        }
        guard let event, document.kind(event) == .string else {
            reader.report(
                document, node,
                "a goal is the name of an event, or { event: NAME } or { when: CONDITION }, with within: 7d and value: …")
            return nil
        }
        goal.text = copy(document.bytes(event))
        if let plan = document.member(bundle, "events"), document.kind(plan) == .object,
            document.member(plan, goal.text.span) == nil, document.member(plan, "*") == nil
        {
            reader.report(document, event, "events of this bundle has no such event: it would never come")
        }
        var source = JSONWriter(reserving: 64)
        source.bytes.append(contentsOf: ("event.event == " as StaticString).bytes)
        source.string(goal.text)
        do throws(CompileError) {
            goal.condition = try compiler.add(source.bytes, in: environment, expecting: .condition).number
        } catch {
            reader.report(document, event, error.description)
        }
        return goal
    }

    /// Finds what is kept of each.
    mutating func number(by plan: AttributePlan) {
        for index in experiments.indices { experiments[index].attribute = plan.index(ofTag: experiments[index].tag) ?? 0 }
    }

    /// The experiment that a rule is; nil: none.
    func number(of rule: JSONNode) -> Int? {
        for index in experiments.indices where experiments[index].node == rule { return index }
        return nil
    }
}
