// The `scores` section of a bundle, read and compiled once: points for conditions that hold, logistic regression, or
// trees that were trained elsewhere. It need not know people, nor how trees are written down.

import CEL
import Formats
import Unification

/// One score. Immutable; a class, so that computing it copies one reference.
final class Score: Sendable {
    enum Kind: Sendable {
        /// The weights of the terms that are true, added up.
        case points
        /// The probability of these log odds: the intercept, and each term times its weight.
        case logistic
        /// The terms are features of a model.
        case trees
    }

    let name: [UInt8]
    let kind: Kind
    let intercept: Double
    let model: TreeModel?
    /// Its terms are expressions of the policy's program, in order from this one.
    let firstTerm: Int
    /// A term's weight; of trees the number of the feature that it is.
    let weights: [Double]
    /// What its terms read.
    let slots: [Int]

    init(_ name: [UInt8], _ kind: Kind, _ terms: ScoreTerms, intercept: Double = 0, model: TreeModel? = nil) {
        self.name = name
        self.kind = kind
        self.intercept = intercept
        self.model = model
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
        var (kind, section, intercept) = (Score.Kind.points, points, Double(0))
        if let logistic {
            reader.refuseOthers(document, logistic, ["intercept", "weights"], of: "logistic")
            if let node = document.member(logistic, "intercept") { intercept = readNumber(document, node, &reader) ?? 0 }
            kind = .logistic
            section = points == nil ? reader.object(document, logistic, "weights") : nil
        }
        guard let section else {
            reader.report(document, settings, "a score needs one of points, logistic: { weights: … }, and model")
            return nil
        }
        var terms = ScoreTerms()
        var key = document.firstChild(section)
        while let expression = key, let weight = document.next(expression) {
            key = document.next(weight)
            if let number = readNumber(document, weight, &reader),
                !add(document, expression, number, isCondition: kind == .points, to: &terms, &compiler, &reader)
            {
                break
            }
        }
        return Score(name, kind, terms, intercept: intercept)
    }

    private func readNumber(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ reader: inout PlanReader
    ) -> Double? {
        if let number = document.double(node), number.isFinite { return number }
        reader.report(document, node, "this must be a number")
        return nil
    }

    /// Adds a term, an expression that stands at `node`.
    /// - Returns: false when there can be no more.
    @inline(never)
    private func add(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ weight: Double, isCondition: Bool,
        to terms: inout ScoreTerms, _ compiler: inout Compiler, _ reader: inout PlanReader
    ) -> Bool {
        if terms.weights.count == Limits.scoreTerms {
            reader.report(document, node, "a score can have at most 1000 terms")
            return false
        }
        let expectation = isCondition ? Expectation.condition : .anything
        guard let term = reader.compile(document, node, in: environment, expecting: expectation, &compiler) else {
            return true
        }
        switch term.type {
        case .int, .uint, .double, .bool, .dyn:
            if terms.weights.isEmpty { terms.first = term.number }
            terms.weights.append(weight)
            terms.slots += term.slots
        default: reader.report(document, node, "this must be a number or a truth value")
        }
        return true
    }

    // MARK: Models

    private mutating func readModel(
        _ document: borrowing JSONDocument, _ name: [UInt8], _ settings: JSONNode, _ compiler: inout Compiler,
        _ reader: inout PlanReader
    ) -> Score? {
        guard let node = reader.object(document, settings, "model"),
            let source = TreeModelReader.read(document, node, nodesLeft: nodesLeft, &reader)
        else { return nil }
        nodesLeft -= source.model.nodes.count
        var terms = ScoreTerms()
        if let section = reader.object(document, settings, "features") {
            var key = document.firstChild(section)
            while let label = key, let expression = document.next(label) {
                key = document.next(expression)
                guard let number = source.feature(document, label) else {
                    reader.report(document, label, "the model has no feature of this name")
                    continue
                }
                if document.kind(expression) != .string {
                    reader.report(document, expression, "a feature is an expression, such as profile.lifetime_value")
                } else if !add(document, expression, Double(number), isCondition: false, to: &terms, &compiler, &reader) {
                    break
                }
            }
        }
        // Not a mistake: the trees know what to do. But a name that was forgotten looks the same.
        if let number = source.model.feature(notAmong: terms.weights) {
            reader.warn(
                document, settings,
                "the model asks for " + source.name(document, ofFeature: number)
                    + ", which features does not have: it counts as missing")
        }
        return Score(name, .trees, terms, model: source.model)
    }
}
