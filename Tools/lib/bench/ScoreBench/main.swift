// Measures as it ships what asking for a score costs, and counts the allocations: a model of a hundred trees, walked for
// one question after another, beside the same trees in C (CReference/trees.c). The trees are full and their thresholds
// random, so that each question takes other ways through them, which no processor foresees.
// Usage: ScoreBench NANOSECONDS, the time for each round of each workload. Exit code 1 if one allocates, or if a score is
// not the C's. See Tools/bench.

import Activation
import CReference
import Formats
import Platform
import Unification

let featureCount = 30
let treeCount = 100
let depth = 6
let innerNodes = 1 << depth - 1
let nodes = innerNodes + 1 << depth

/// Whole numbers, so that they are the same in the text and here.
struct Forest {
    var features: [Int32] = []
    var values: [Int32] = []
    var goesLeft: [UInt8] = []

    /// Trees in the order of levels: the children of node n are 2n + 1 and 2n + 2.
    init(trees: Int) {
        var random = SeededRandom(seed: 3)
        for _ in 0..<trees {
            for node in 0..<nodes {
                features.append(Int32(random.next(below: UInt64(featureCount))))
                // A leaf's value or a split's threshold; leaves are small, and so added up without rounding.
                let isLeaf = node >= innerNodes
                values.append(Int32(random.next(below: isLeaf ? 64 : 2000)) - (isLeaf ? 32 : 1000))
                goesLeft.append(UInt8(random.next(below: 2)))
            }
        }
    }
}

func append(_ text: StaticString, to bytes: inout [UInt8]) { bytes.append(contentsOf: text.bytes) }

func appendList(_ name: StaticString, to text: inout [UInt8], _ element: (Int) -> Int64) {
    append(",\"", to: &text)
    append(name, to: &text)
    append("\":[", to: &text)
    for node in 0..<nodes {
        if node > 0 { text.append(UInt8(ascii: ",")) }
        appendInteger(element(node), to: &text)
    }
    text.append(UInt8(ascii: "]"))
}

/// A bundle with the forest as XGBoost would have written it.
func bundle(_ forest: Forest) -> Policy {
    var text: [UInt8] = []
    append(
        """
        {"version":1,"scores":{"m":{"model":{"learner":{"objective":{"name":"reg:squarederror"},"learner_model_param":
        {"base_score":"[0E0]","num_feature":"30"},"gradient_booster":{"name":"gbtree","model":{"trees":[
        """, to: &text)
    for tree in 0..<forest.values.count / nodes {
        if tree > 0 { text.append(UInt8(ascii: ",")) }
        append("{\"id\":0", to: &text)
        appendList("left_children", to: &text) { $0 < innerNodes ? Int64(2 * $0 + 1) : -1 }
        appendList("right_children", to: &text) { $0 < innerNodes ? Int64(2 * $0 + 2) : -1 }
        appendList("split_indices", to: &text) { Int64(forest.features[tree * nodes + $0]) }
        appendList("split_conditions", to: &text) { Int64(forest.values[tree * nodes + $0]) }
        appendList("default_left", to: &text) { Int64(forest.goesLeft[tree * nodes + $0]) }
        text.append(UInt8(ascii: "}"))
    }
    append("]}}}},\"features\":{", to: &text)
    for number in 0..<Int64(featureCount) {
        if number > 0 { text.append(UInt8(ascii: ",")) }
        append("\"f", to: &text)
        appendInteger(number, to: &text)
        append("\":\"context.f", to: &text)
        appendInteger(number, to: &text)
        append("\"", to: &text)
    }
    append("}}}}", to: &text)
    let span = text.span
    do throws(YAMLError) {
        let document = try YAML.parse(span)
        var reader = PlanReader()
        let policy = Policy(document, loadedAt: 0, &reader) { _, _, _, _, _ in }
        for problem in reader.problems where !problem.isWarning {
            Process.complain(problem.message)
            Process.exit(1)
        }
        return policy
    } catch {
        Process.complain(error.message)
        Process.exit(1)
    }
}

/// Questions, and the same as a row of features each. One value in ten is missing.
struct Questions {
    var contexts: [JSONDocument] = []
    var rows: [Float] = []

    init(_ count: Int) {
        var random = SeededRandom(seed: 4)
        for _ in 0..<count {
            var text: [UInt8] = []
            for number in 0..<Int64(featureCount) {
                append(number == 0 ? "{\"f" : ",\"f", to: &text)
                appendInteger(number, to: &text)
                append("\":", to: &text)
                if random.next(below: 10) == 0 {
                    append("null", to: &text)
                    rows.append(.nan)
                } else {
                    let value = Int64(random.next(below: 2000)) - 1000
                    appendInteger(value, to: &text)
                    rows.append(Float(value))
                }
            }
            text.append(UInt8(ascii: "}"))
            var document = JSONDocument()
            let span = text.span
            do throws(JSONError) { try document.parse(span) } catch { Process.exit(1) }
            contexts.append(document)
        }
    }
}

let clock = SystemClock()
let questions = Questions(512)
var isWrong = false

/// Nanoseconds of one call, the best of nine rounds, and allocations of all.
func measure(_ nanoseconds: Int64, _ call: (Int) -> Void) -> (nanoseconds: Double, allocations: UInt64) {
    for number in questions.contexts.indices { call(number) }
    var best = Double.infinity
    let allocations = reference_allocations()
    for _ in 0..<9 {
        var count: Int64 = 0
        let begin = clock.monotonicNanoseconds()
        var taken: Int64 = 0
        while taken < nanoseconds {
            for number in questions.contexts.indices { call(number) }
            count += Int64(questions.contexts.count)
            taken = clock.monotonicNanoseconds() - begin
        }
        best = min(best, Double(taken) / Double(count))
    }
    return (best, reference_allocations() - allocations)
}

/// The score of a question, as a rule that asks for it gets it.
func score(
    _ policy: Policy, _ scorer: Scorer, _ surroundings: Surroundings, _ index: ProfileIndex, _ number: Int
) -> Double {
    surroundings.context = questions.contexts[number]
    let bindings = DecisionBindings(
        record: Span<UInt8>(), index: index, plan: policy.attributes, slots: policy.slots, surroundings: surroundings)
    let value = scorer.score(0, bindings)
    _ = scorer.finish()
    surroundings.context = nil
    return value
}

func measureScore(_ forest: Forest, _ nanoseconds: Int64) -> (nanoseconds: Double, allocations: UInt64) {
    let policy = bundle(forest)
    guard let scorer = Scorer.make(for: policy) else { Process.exit(1) }
    let (surroundings, index) = (Surroundings(now: 0), ProfileIndex())
    for number in questions.contexts.indices {
        let expected = reference_trees(UInt32(forest.values.count / nodes), UInt32(number * featureCount))
        let seen = score(policy, scorer, surroundings, index, number)
        if seen != Double(expected) { isWrong = true }
    }
    return measure(nanoseconds) { _ = score(policy, scorer, surroundings, index, $0) }
}

func line(_ name: StaticString, _ result: (nanoseconds: Double, allocations: UInt64)) {
    Process.standardOutput("\(name): \(Int(result.nanoseconds)) ns, \(result.allocations) allocations\n")
    if result.allocations > 0 { isWrong = true }
}

let nanoseconds = Process.arguments.count > 1 ? Int64(Process.arguments[1]) ?? 1_000_000 : 1_000_000
let forest = Forest(trees: treeCount)
for place in forest.values.indices {
    reference_add_node(forest.features[place], Float(forest.values[place]), forest.goesLeft[place])
}
for value in questions.rows { reference_add_feature(value) }
let whole = measureScore(forest, nanoseconds)
let empty = measureScore(Forest(trees: 0), nanoseconds)
var sum: Float = 0
let reference = measure(nanoseconds) { sum += reference_trees(UInt32(treeCount), UInt32($0 * featureCount)) }
line("a score of 100 trees of depth 6 over 30 members of the context", whole)
line("the same without trees: the features alone", empty)
line("the trees in C, the features at hand", reference)
let ratio = Int((whole.nanoseconds - empty.nanoseconds) / reference.nanoseconds * 100)
Process.standardOutput("the trees by themselves: \(Int(whole.nanoseconds - empty.nanoseconds)) ns, \(ratio) % of the C\n")
if isWrong { Process.complain("a score is not what C makes of the same trees, or something was allocated") }
// The sum is used, so that nothing of it is left out.
Process.exit(isWrong || sum.isNaN ? 1 : 0)
