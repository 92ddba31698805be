// Computes scores when a rule asks for them, each once a question at most. It need not know who asks: threads that
// evaluate rules have one each.

import CEL
import Platform
import Unification

/// The scores of one policy for one thread. What is computed once stays with the evaluator that asked, as a slot's value.
public final class Scorer: ScoreSource {
    private let policy: Policy
    /// Of its own, since the one that asks is in the midst of an expression.
    private var evaluator = Evaluator(zones: TimeZones { Files.timeZone($0) })
    private var isUnderWay = false
    private var failures = 0
    /// A model's features; as many as that of the model that has most.
    private var features: [Float]

    /// Nil for a policy without scores.
    public static func make(for policy: Policy) -> Scorer? { policy.scores.isEmpty ? nil : Scorer(policy) }

    private init(_ policy: Policy) {
        self.policy = policy
        var count = 0
        for score in policy.scores { count = max(count, score.model?.featureCount ?? 0) }
        features = [Float](repeating: .nan, count: count)
    }

    public override func score(_ number: Int, _ bindings: borrowing DecisionBindings) -> Double {
        if !isUnderWay {
            isUnderWay = true
            evaluator.begin()
        }
        let score = policy.scores[number]
        for index in 0..<(score.model?.featureCount ?? 0) { features[index] = .nan }
        var sum = score.intercept
        for term in score.weights.indices {
            guard let value = value(score.firstTerm + term, isCondition: score.kind == .points, bindings) else { continue }
            if score.kind == .trees {
                features[Int(score.weights[term])] = Float(value)
            } else {
                sum += score.weights[term] * value
            }
        }
        if let model = score.model {
            let row = features
            return Double(model.value(row.span))
        }
        return score.kind == .logistic ? Logistic.probability(sum) : sum
    }

    public override func finish() -> Int {
        if !isUnderWay { return 0 }
        isUnderWay = false
        evaluator.end()
        let count = failures
        failures = 0
        return count
    }

    /// The number that an expression comes to, a truth value as 0 or 1; nil: it is missing.
    private func value(_ expression: Int, isCondition: Bool, _ bindings: borrowing DecisionBindings) -> Double? {
        do throws(EvaluationError) {
            let value = try evaluator.evaluate(policy.program, expression, bindings)
            if let flag = value.boolValue { return flag ? 1 : 0 }
            if !isCondition {
                guard let number = value.number, !number.isNaN else { return nil }
                return number
            }
            failures += 1
        } catch {
            // What a person or a question does not have is no mistake.
            if error.reason != .noSuchKey { failures += 1 }
        }
        return nil
    }
}
