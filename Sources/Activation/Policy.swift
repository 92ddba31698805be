// What a bundle says about people and decisions, read, checked and compiled once, then shared by all threads without a
// lock. It need not know events on their way in nor destinations.

import CEL
import Formats
import Governance
import Monitoring
import Unification

/// The policy in force. Immutable.
public final class Policy: @unchecked Sendable {
    // All members but `freshAt` are written in `init` only; threads read them.
    /// Only ever goes up.
    public let version: UInt64
    public let purposes: PurposePlan
    public let consent: ConsentPlan
    public let identifiers: IdentifierPlan
    public let attributes: AttributePlan
    let scores: [Score]
    public let decisions: DecisionPlan
    public let triggers: TriggerPlan
    /// Whether anybody may join or leave an announced audience through time alone.
    public let announcesByTime: Bool
    public let slots: Slots
    /// What a profile is worth, where there are too many (`profiles: { value: … }`); nil: all are worth the same.
    public let profileValue: Expression?
    /// Every expression of the bundle.
    public let program: Program
    private let freshAt = Gauge()
    /// When this device loaded it, or last heard that there is no other, milliseconds since the epoch.
    public var loadedAt: Int64 { freshAt.current }

    /// The members of `device` in rules, in the order of `Surroundings.device`.
    public static let deviceFields = ["id"]

    /// Reads the sections `version`, `purposes`, `consent`, `identifiers`, `tables`, `attributes`, `scores`, `audiences`,
    /// `decisions`, `triggers` and `profiles`.
    /// - Parameters:
    ///   - reader: remembers what is wrong; the policy is fit for use only if nothing is.
    ///   - also: reads further sections whose expressions belong to the same program; it is given the names in scope of
    ///     an expression over one event (`event`, `context`, `consent`, `device`, `now`, `age`, `tables`, `profile`,
    ///     `audience`, `score`). Optional, since the compiler makes a second initialiser of a closure that it sees.
    public init(
        _ document: borrowing JSONDocument, loadedAt: Int64, _ reader: inout PlanReader,
        also: ((PurposePlan, IdentifierPlan, Environment, inout Compiler, inout PlanReader) -> Void)?
    ) {
        let bundle = document.root
        version = UInt64(reader.integer(document, bundle, "version", 0...9_007_199_254_740_991) ?? 0)
        if document.member(bundle, "version") == nil {
            reader.report(document, bundle, "a bundle needs a version, a whole number that goes up with every change")
        }
        let purposes = PurposePlan(document, bundle, &reader)
        let identifiers = IdentifierPlan(document, bundle, &reader)
        let names = Policy.names(document, bundle, "audiences", atMost: Limits.audiences)
        let scoreNames = Policy.names(document, bundle, "scores", atMost: Limits.scores)
        let slots = Slots(
            deviceFields: Policy.deviceFields.count, purposes: purposes.names.count, audiences: names.count,
            scores: scoreNames.count)
        var environment = slots.environment(deviceFields: Policy.deviceFields, purposes: purposes)
        // A decision without a purpose sees the question and the device, and no person.
        var anonymous = slots.environment(
            deviceFields: Policy.deviceFields, purposes: PurposePlan(), seesPerson: false)
        var compiler = Compiler()
        if let section = reader.object(document, bundle, "tables") {
            let tables = Policy.readTables(document, section, &compiler, &reader)
            environment.declareRecord("tables", tables)
            anonymous.declareRecord("tables", tables)
        }
        var caps = CapPlan(document, bundle, &reader)
        var hidden = caps.caps.map { $0.counter }
        if Policy.drawsPeople(document, bundle) { hidden.append(.seed) }
        var experiments = ExperimentPlan(document, bundle, environment, &compiler, &reader)
        for experiment in experiments.experiments { hidden += [experiment.exposure, experiment.goal] }
        attributes = AttributePlan(
            document, bundle, hidden: hidden, slots: slots, environment: &environment, compiler: &compiler, &reader)
        caps.number(by: attributes)
        experiments.number(by: attributes)
        profileValue = Policy.readValue(document, bundle, environment, &compiler, &reader)
        // A score sees no audience and no other score, so that there are no circles.
        var scoreReader = ScorePlanReader(environment)
        scoreReader.read(document, bundle, &compiler, &reader)
        scores = scoreReader.scores
        slots.declareScores(scoreNames, in: &environment)
        slots.declareScores(scoreNames, in: &anonymous)
        slots.declareAudiences(names, in: &environment)
        var decisionReader = DecisionPlanReader(
            personal: environment, anonymous: anonymous, slots: slots, scores: scores, caps: caps,
            experiments: experiments)
        decisionReader.readAudiences(document, bundle, purposes, &compiler, &reader)
        decisionReader.readDecisions(document, bundle, purposes, &compiler, &reader)
        triggers = TriggerPlan(
            document, bundle, purposes, slots, decisionReader.plan, environment, &compiler, &reader)
        also?(purposes, identifiers, environment, &compiler, &reader)
        decisions = decisionReader.plan
        var read: [Int] = []
        let announcing = decisionReader.plan.closure(decisionReader.plan.announced)
        for (number, audience) in decisions.audiences.enumerated() where announcing & 1 << UInt64(number) != 0 {
            read.append(contentsOf: audience.slots)
        }
        let asked = slots.scores(read)
        for (number, score) in scores.enumerated() where asked & 1 << UInt64(number) != 0 { read.append(contentsOf: score.slots) }
        announcesByTime = attributes.mayChange(read, slots)
        program = compiler.finish()
        self.purposes = purposes
        consent = ConsentPlan(document, bundle, purposes, &reader)
        self.identifiers = identifiers
        self.slots = slots
        freshAt.set(loadedAt)
    }

    /// Where it comes from there is no other one at this moment, milliseconds since the epoch.
    public func confirm(at now: Int64) { freshAt.set(now) }

    /// How old it is, milliseconds; 0 while the clock says what was before it.
    public func age(at now: Int64) -> Int64 { max(0, now - freshAt.current) }

    /// The audiences that an expression of the bundle reads, and those that these read, a bit each.
    /// - Parameter read: the slots of the expression.
    public func audiences(of read: [Int]) -> UInt64 { decisions.closure(slots.audiences(read)) }

    /// Numbers of the restricted attributes that an expression of the bundle reads, itself or by way of audiences and
    /// scores.
    /// - Parameter slots: those of the expression.
    public func restrictedAttributes(among slots: [Int]) -> [Int] {
        var read = slots
        let needed = decisions.closure(self.slots.audiences(slots))
        for number in decisions.audiences.indices where needed & 1 << UInt64(number) != 0 {
            read.append(contentsOf: decisions.audiences[number].slots)
        }
        let asked = self.slots.scores(read)
        for number in scores.indices where asked & 1 << UInt64(number) != 0 {
            read.append(contentsOf: scores[number].slots)
        }
        return attributes.restricted(among: read, self.slots)
    }

    private static func readValue(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, _ environment: Environment, _ compiler: inout Compiler,
        _ reader: inout PlanReader
    ) -> Expression? {
        guard let section = reader.object(document, bundle, "profiles") else { return nil }
        reader.refuseOthers(document, section, ["value"], of: "profiles")
        guard let node = document.member(section, "value") else { return nil }
        guard document.kind(node) == .string,
            let value = reader.compile(document, node, in: environment, expecting: .anything, &compiler)
        else {
            if document.kind(node) != .string {
                reader.report(document, node, "value must be an expression, such as profile.lifetime_value")
            }
            return nil
        }
        switch value.type {
        case .int, .uint, .double, .dyn: return value
        default:
            reader.report(document, node, "value must be a number: profiles that have less of it go first")
            return nil
        }
    }

    /// Whether a rule about people has a split, a holdout or a group.
    private static func drawsPeople(_ document: borrowing JSONDocument, _ bundle: JSONNode) -> Bool {
        guard let section = document.member(bundle, "decisions"), document.kind(section) == .object else { return false }
        var draws = false
        document.forEachMember(section) { _, decision in
            guard document.kind(decision) == .object, document.member(decision, "purpose") != nil,
                let rules = document.member(decision, "rules")
            else { return }
            document.forEachElement(rules) { rule in
                if document.kind(rule) != .object { return }
                for name in ["split", "holdout", "group"] as [StaticString] where document.member(rule, name) != nil { draws = true }
            }
        }
        return draws
    }

    /// The names that a section gives to what stands in it.
    private static func names(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, _ section: StaticString, atMost limit: Int
    ) -> [String] {
        guard let section = document.member(bundle, section), document.kind(section) == .object else { return [] }
        var names: [String] = []
        var key = document.firstChild(section)
        while let name = key {
            if names.count < limit { names.append(document.string(name) ?? "") }
            key = document.next(name).flatMap { document.next($0) }
        }
        return names
    }

    /// Makes constants of the tables, which rules look things up in. A table is a map of rows, and a row any JSON value.
    private static func readTables(
        _ document: borrowing JSONDocument, _ section: JSONNode, _ compiler: inout Compiler, _ reader: inout PlanReader
    ) -> [Environment.Field] {
        var fields: [Environment.Field] = []
        var rows = 0
        var key = document.firstChild(section)
        while let name = key, let table = document.next(name) {
            key = document.next(table)
            if document.kind(table) != .object {
                reader.report(document, table, "a table must be a map of rows: { p-1: { category: shoes } }")
            }
            rows += document.count(table)
            if fields.count == Limits.tables || rows > Limits.tableRows {
                // A literal, as below: a number put into a text costs the binary more than the text.
                reader.report(
                    document, name, "there can be at most 64 tables with 20000 rows together, and these are more")
                return fields
            }
            guard let rows = compiler.constant(document, table, limitBytes: Limits.tableBytes) else {
                reader.report(
                    document, name,
                    "with this table, the tables take more than 1024 KiB of memory: leave out what no rule asks for")
                return fields
            }
            fields.append(Environment.Field(document.string(name) ?? "", .map(.string, .dyn), constant: rows))
        }
        return fields
    }
}
