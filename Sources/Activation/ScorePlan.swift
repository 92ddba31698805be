// The `scores` section of a bundle, read and compiled once: points for conditions that hold, logistic regression, or
// trees that were trained elsewhere. It need not know people, nor how trees are written down.

import CEL
import Formats
import Unification

/// One score. Immutable; a class, so that computing it copies one reference.
final class Score: Sendable {
    enum Rule: Sendable {
        /// The weights of the terms that are true.
        case points
        /// The probability of the log odds: this, and each term times its weight.
        case logistic(intercept: Double)
        /// The terms are features.
        case trees(TreeModel)
    }

    let name: [UInt8]
    let rule: Rule
    /// Its terms are expressions of the policy's program, in order from this one.
    let firstTerm: Int
    /// A term's weight; of trees the number of the feature that it is.
    let weights: [Double]
    /// What its terms read.
    let slots: [Int]

    init(_ name: [UInt8], _ rule: Rule, _ terms: ScoreTerms) {
        self.name = name
        self.rule = rule
        firstTerm = terms.first
        weights = terms.weights
        slots = terms.slots
    }
}

/// The terms of a score while they are read.
struct ScoreTerms {
    var first = 0
    var weights: [Double] = []
    var slots: [Int] = []

    mutating func append(_ term: Expression, _ weight: Double) {
        if weights.isEmpty { first = term.number }
        weights.append(weight)
        slots += term.slots
    }
}

/// Reads the section into scores and their expressions into the policy's program.
struct ScorePlanReader {
    private(set) var scores: [Score] = []
    private var nodesLeft = Limits.modelNodes
    /// The names in scope of terms.
    private let environment: Environment

    init(_ environment: Environment) { self.environment = environment }

    mutating func read(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, _ compiler: inout Compiler, _ reader: inout PlanReader
    ) {
        guard let section = reader.object(document, bundle, "scores") else { return }
        var key = document.firstChild(section)
        while let name = key, let settings = document.next(name) {
            key = document.next(settings)
            guard scores.count < Limits.scores else {
                // Literals, here and below: a number put into a text costs the binary more than the text.
                reader.report(document, name, "there can be at most 64 scores")
                return
            }
            guard document.kind(settings) == .object else {
                reader.report(document, settings, "a score is a map with points, logistic, or model and features")
                continue
            }
            if let score = readScore(document, name, settings, &compiler, &reader) { scores.append(score) }
        }
    }

    private mutating func readScore(
        _ document: borrowing JSONDocument, _ key: JSONNode, _ settings: JSONNode, _ compiler: inout Compiler,
        _ reader: inout PlanReader
    ) -> Score? {
        let name = copy(document.bytes(key))
        if document.member(settings, "model") != nil {
            reader.refuseOthers(document, settings, ["model", "features"], of: "a score of a model")
            return readModel(document, name, settings, &compiler, &reader)
        }
        reader.refuseOthers(document, settings, ["points", "logistic"], of: "a score")
        let points = reader.object(document, settings, "points")
        let logistic = reader.object(document, settings, "logistic")
        guard (points == nil) != (logistic == nil) else {
            reader.report(document, settings, "a score needs one of points, logistic, and model")
            return nil
        }
        if let points {
            return Score(name, .points, readWeights(document, points, .condition, &compiler, &reader))
        }
        guard let logistic else { return nil }
        reader.refuseOthers(document, logistic, ["intercept", "weights"], of: "logistic")
        var intercept: Double = 0
        if let node = document.member(logistic, "intercept") {
            intercept = readNumber(document, node, "intercept must be a number", &reader) ?? 0
        }
        guard let weights = reader.object(document, logistic, "weights") else {
            reader.report(document, logistic, "logistic needs weights: { EXPRESSION: NUMBER, … }")
            return nil
        }
        return Score(
            name, .logistic(intercept: intercept), readWeights(document, weights, .anything, &compiler, &reader))
    }

    private func readNumber(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ message: String, _ reader: inout PlanReader
    ) -> Double? {
        if let number = document.double(node), number.isFinite { return number }
        reader.report(document, node, message)
        return nil
    }

    /// Expressions and their weights.
    private func readWeights(
        _ document: borrowing JSONDocument, _ section: JSONNode, _ expectation: Expectation, _ compiler: inout Compiler,
        _ reader: inout PlanReader
    ) -> ScoreTerms {
        var terms = ScoreTerms()
        var key = document.firstChild(section)
        while let expression = key, let weight = document.next(expression) {
            key = document.next(weight)
            guard hasRoom(document, expression, terms, &reader) else { break }
            if let number = readNumber(document, weight, "what an expression is worth must be a number", &reader),
                let term = compile(document, expression, expectation, &compiler, &reader)
            {
                terms.append(term, number)
            }
        }
        return terms
    }

    private func hasRoom(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ terms: ScoreTerms, _ reader: inout PlanReader
    ) -> Bool {
        if terms.weights.count < Limits.scoreTerms { return true }
        reader.report(document, node, "a score can have at most 1000 terms")
        return false
    }

    /// A condition, or an expression for a number.
    private func compile(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ expectation: Expectation, _ compiler: inout Compiler,
        _ reader: inout PlanReader
    ) -> Expression? {
        guard let term = reader.compile(document, node, in: environment, expecting: expectation, &compiler) else {
            return nil
        }
        switch term.type {
        case .int, .uint, .double, .bool, .dyn: return term
        default:
            reader.report(document, node, "this must be a number or a truth value, not " + term.type.description)
            return nil
        }
    }

    // MARK: Models

    private mutating func readModel(
        _ document: borrowing JSONDocument, _ scoreName: [UInt8], _ settings: JSONNode, _ compiler: inout Compiler,
        _ reader: inout PlanReader
    ) -> Score? {
        guard let node = reader.object(document, settings, "model"),
            let source = TreeModelReader.read(document, node, nodesLeft: nodesLeft, &reader)
        else { return nil }
        nodesLeft -= source.model.nodes.count
        var isGiven = [Bool](repeating: false, count: source.model.featureCount)
        var terms = ScoreTerms()
        if let section = reader.object(document, settings, "features") {
            var key = document.firstChild(section)
            while let name = key, let expression = document.next(name) {
                key = document.next(expression)
                guard hasRoom(document, name, terms, &reader) else { break }
                guard let number = source.feature(document, name) else {
                    reader.report(document, name, "the model has no feature of this name")
                    continue
                }
                isGiven[number] = true
                if document.kind(expression) != .string {
                    reader.report(document, expression, "a feature is an expression, such as profile.lifetime_value")
                } else if let term = compile(document, expression, .anything, &compiler, &reader) {
                    terms.append(term, Double(number))
                }
            }
        }
        // Not a mistake: the trees know what to do. But a name that was forgotten looks the same.
        for number in isGiven.indices where !isGiven[number] && source.model.asks(for: number) {
            reader.warn(
                document, settings,
                "the model asks for " + source.name(document, ofFeature: number)
                    + ", which features does not have: it counts as missing")
            break
        }
        return Score(scoreName, .trees(source.model), terms)
    }
}
