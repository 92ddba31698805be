// A bundle's attributes with all that is needed to apply events to records, in a few lines for tests.
import CEL
import Formats
import Governance
import Store

@testable import Unification

let testID = ProfileID(high: 0x0102_0304_0506_0708, low: 0x1112_1314_1516_1718)
/// 2026-01-31T12:00:00Z
let noon: Int64 = 1_769_860_800_000

func yaml(_ text: String) -> JSONDocument {
    let bytes = Array(text.utf8)
    let span = bytes.span
    do { return try YAML.parse(span) } catch { fatalError("the test's YAML is wrong") }
}

/// What is wrong with an `attributes` section, as `line:column: message`.
func problems(_ bundle: String) -> [String] {
    var reader = PlanReader()
    var compiler = Compiler()
    let slots = Slots(deviceFields: 0, purposes: 0, audiences: 0)
    var environment = slots.environment(deviceFields: [], purposes: PurposePlan())
    let document = yaml(bundle)
    _ = AttributePlan(
        document, document.root, slots: slots, environment: &environment, compiler: &compiler, &reader)
    return reader.problems.map { "\($0.position.line):\($0.position.column): \($0.message)" }
}

/// One bundle at work.
final class Workbench {
    let plan: AttributePlan
    let slots = Slots(deviceFields: 1, purposes: 0, audiences: 1)
    let environment: Environment
    let program: Program
    /// Expressions given besides the attributes, in order.
    let rules: [Expression]
    var updater = ProfileUpdater()
    var merger = ProfileMerger()
    var evaluator = Evaluator()

    init(_ bundle: String, rules sources: [String] = []) {
        var reader = PlanReader()
        var compiler = Compiler()
        var environment = slots.environment(deviceFields: ["channel"], purposes: PurposePlan())
        let document = yaml(bundle)
        plan = AttributePlan(
            document, document.root, slots: slots, environment: &environment, compiler: &compiler, &reader)
        slots.declareAudiences(["loyal"], in: &environment)
        var rules: [Expression] = []
        for source in sources {
            do { rules.append(try compiler.add(source, in: environment, expecting: .anything)) } catch {
                fatalError("the test's rule is wrong: \(error.description)")
            }
        }
        if let problem = reader.problems.first {
            fatalError("the test's bundle is wrong: \(problem.position.description): \(problem.message)")
        }
        self.rules = rules
        self.environment = environment
        program = compiler.finish()
    }

    /// The record after an event at `time`.
    @discardableResult
    func apply(_ event: String, to record: [UInt8] = [], at time: Int64 = noon, now: Int64? = nil) -> [UInt8] {
        var surroundings = Surroundings(now: now ?? time, audienceCount: 1)
        surroundings.eventTimestamp = time
        surroundings.event = json(event)
        do {
            _ = try updater.apply(
                to: record.span, id: testID, origin: RecordOrigin(part: 0, revision: 1), plan: plan, slots: slots,
                program: program, surroundings: surroundings, evaluator: &evaluator)
        } catch { fatalError("the test's record is damaged") }
        return updater.record
    }

    func merge(_ a: [UInt8], _ b: [UInt8], now: Int64 = .min) -> [UInt8] {
        do { try merger.merge(a.span, b.span, id: testID, plan: plan, now: now) } catch { fatalError("damaged") }
        return merger.record
    }

    /// The attributes as `GET` answers them.
    func attributes(_ record: [UInt8], now: Int64 = noon) -> String {
        var writer = JSONWriter()
        var index = ProfileIndex()
        do {
            let view = try ProfileView(record.span)
            index.fill(view, plan)
            ProfileWriter.writeAttributes(view, index, plan, now: now, to: &writer)
        } catch { fatalError("damaged") }
        return text(writer.bytes)
    }

    /// The value of a rule as JSON, or `error`.
    func evaluate(_ rule: Int, _ record: [UInt8], now: Int64 = noon, context: String? = nil) -> String {
        var index = ProfileIndex()
        var surroundings = Surroundings(now: now, audienceCount: 1)
        surroundings.device = [Array("kiosk".utf8)]
        surroundings.context = context.map { json($0) }
        surroundings.audiences[0] = true
        surroundings.bundleAge = 90_000
        if record.isEmpty {
            index.clear(plan)
        } else {
            do {
                let view = try ProfileView(record.span)
                index.fill(view, plan)
            } catch { fatalError("damaged") }
        }
        evaluator.begin()
        defer { evaluator.end() }
        var writer = JSONWriter()
        let bindings = DecisionBindings(
            record: record.span, index: index, plan: plan, slots: slots, surroundings: surroundings)
        do {
            let value = try evaluator.evaluate(program, rules[rule].number, bindings)
            evaluator.write(value, to: &writer, program, bindings)
        } catch { return "error" }
        return text(writer.bytes)
    }
}
