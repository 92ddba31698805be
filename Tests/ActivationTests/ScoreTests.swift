// Shows what scores come to: points, logistic regression and trees, calculated by hand here; that what is missing takes the
// way that the trees say; that a score is computed only when a rule asks, and once; and that no model, however damaged,
// makes the reader crash or hang. Models that XGBoost has trained are in Tests/end-to-end/test_scores.py.

import Cryptography
import Formats
import Foundation
import Monitoring
import Store
import Testing
import Unification

@testable import Activation
@testable import Platform

/// A bundle and what is wrong with it, `line:column: message`.
private func read(_ bundle: String) -> (policy: Policy?, problems: [String]) {
    let bytes = Array(bundle.utf8)
    var reader = PlanReader()
    do {
        let document = try YAML.parse(bytes.span)
        let policy = Policy(document, loadedAt: 0, &reader) { _, _, _, _, _ in }
        let problems = reader.problems.map { "\($0.position.description): \($0.isWarning ? "warning: " : "")\($0.message)" }
        return (reader.hasErrors ? nil : policy, problems)
    } catch { return (nil, ["\(error.position.description): \(error.message)"]) }
}

/// A score of a bundle for one context, of nobody.
private func score(_ policy: Policy, _ context: String, number: Int = 0) throws -> Double {
    let scorer = try #require(Scorer.make(for: policy))
    let surroundings = Surroundings(now: 0)
    var document = JSONDocument()
    let bytes = Array(context.utf8)
    try document.parse(bytes.span)
    surroundings.context = document
    let bindings = DecisionBindings(
        record: Span(), index: ProfileIndex(), plan: policy.attributes, slots: policy.slots, surroundings: surroundings)
    let value = scorer.score(number, bindings)
    _ = scorer.finish()
    return value
}

private let head = "version: 1\nscores:\n"

/// Two trees over three features: the first asks for f0 < 0.1 (missing goes right), and left of it for f2 < -3 (missing goes
/// left); the second for f1 < 2.5 (missing goes left).
private func model(
    _ changes: [(String, String)] = [], names: String = "[]", objective: String = "binary:logistic", base: String = "[5E-1]"
) -> String {
    var text = """
        {"learner":{"feature_names":\(names),"feature_types":[],"gradient_booster":{"model":{"trees":[{
        "left_children":[1,3,-1,-1,-1],"right_children":[2,4,-1,-1,-1],"split_indices":[0,2,0,0,0],
        "split_conditions":[0.1,-3,0.5,-0.25,0.125],"default_left":[0,1,0,0,0],"split_type":[0,0,0,0,0]},{
        "left_children":[1,-1,-1],"right_children":[2,-1,-1],"split_indices":[1,0,0],
        "split_conditions":[2.5,1,-1],"default_left":[1,0,0]}]},"name":"gbtree"},
        "learner_model_param":{"base_score":"\(base)","num_class":"0","num_feature":"3","num_target":"1"},
        "objective":{"name":"\(objective)"}},"version":[3,2,0]}
        """
    for (old, new) in changes {
        precondition(text.contains(old), old)
        text = text.replacingOccurrences(of: old, with: new)
    }
    return text.replacingOccurrences(of: "\n", with: "\n     ")
}

/// Where the first tree begins.
private let tree = "{\n     \"left_children"

private let missing = " is missing here: this is no model of XGBoost as save_model(\"model.json\") writes it"

private let features = "{ f0: context.a, f1: context.b, f2: context.c }"

private func modelBundle(_ model: String, features: String = features) -> String {
    head + "  m:\n    model:\n     \(model)\n    features: \(features)\n"
}

/// A decider with an empty store.
private struct ScoreBench: ~Copyable {
    let meters = Meters()
    var decider: Decider
    var reader: Reader

    init() throws {
        decider = Decider(device: Array("d".utf8), pepper: Peppers(key: [1]), meters: meters)
        var random = SystemRandom()
        let store = try Database(folder: "/tmp/gatehouse-activation-test-\(random.next())", mapBytes: 1 << 20)
        var reader = try store.makeReader()
        try reader.begin()
        self.reader = reader
    }

    mutating func ask(_ policy: Policy, _ context: String) -> String {
        let (name, body) = (Array("d".utf8), Array("{\"context\": \(context)}".utf8))
        var writer = JSONWriter()
        _ = decider.answer(policy, name.span, body.span, now: 1, reader, into: &writer)
        let text = String(decoding: writer.bytes, as: UTF8.self)
        return text.components(separatedBy: "\"variant\":\"").last?.components(separatedBy: "\"").first ?? text
    }
}

@Suite struct ScoreTests {
    @Test func pointsAddUpForConditionsThatHold() throws {
        let (policy, problems) = read(
            head + "  loyalty:\n    points:\n"
                + "      { 'context.orders >= 3': 20, context.vip: 50, '1 / context.zero == 1': 7, true: -0.5 }")
        let plan = try #require(policy, "\(problems)")
        #expect(problems == [])
        let rows: [(String, Double)] = [
            ("{}", -0.5), (#"{"orders": 3}"#, 19.5), (#"{"orders": 2, "vip": true}"#, 49.5),
            (#"{"orders": 4, "vip": true, "zero": 1}"#, 76.5), (#"{"orders": 4, "vip": true, "zero": 0}"#, 69.5),
            (#"{"orders": "4", "vip": "yes"}"#, -0.5),
        ]
        for (context, expected) in rows {
            let value = try score(plan, context)
            #expect(value == expected, "\(context)")
        }
    }

    @Test func logisticRegressionIsItsFormula() throws {
        let (policy, problems) = read(
            head + "  churn:\n    logistic:\n      intercept: -1.5\n"
                + "      weights: { double(context.orders): -0.4, context.quiet: 0.1, context.vip: 2 }\n"
                + "  bare: { logistic: { weights: { context.x: 1 } } }")
        let plan = try #require(policy, "\(problems)")
        let rows: [(String, Double)] = [
            ("{}", -1.5), (#"{"orders": 3}"#, -2.7), (#"{"orders": 3, "quiet": 40.5, "vip": true}"#, 3.35),
            (#"{"orders": 0, "quiet": -7, "vip": false}"#, -2.2), (#"{"orders": 5000}"#, -2001.5),
            (#"{"quiet": 90000}"#, 8998.5),
            // What is no number is missing.
            (#"{"orders": "x", "quiet": "y", "vip": null}"#, -1.5),
        ]
        for (context, odds) in rows {
            let value = try score(plan, context)
            #expect(abs(value - 1 / (1 + exp(-odds))) < 1e-15, "\(context): \(value)")
        }
        let unset = try score(plan, "{}", number: 1)
        #expect(unset == 0.5)
    }

    /// Comparisons are those of 32-bit floats: in doubles 0.1 would be less than the threshold of the same text.
    @Test func treesAreWalkedAsXGBoostDoes() throws {
        let (policy, problems) = read(modelBundle(model()))
        let plan = try #require(policy, "\(problems)")
        #expect(problems == [])
        #expect(plan.scores[0].model?.nodes.count == 8)
        let rows: [(a: String, b: String, c: String, margin: Double)] = [
            ("0.1", "2.5", "-4", -0.5), ("0.0999", "2.4", "-3", 1.125), ("0.0999", "2.4", "-3.1", 0.75),
            ("null", "null", "null", 1.5), ("-1", "null", "null", 0.75), ("-1", "9", "7", -0.875),
            ("true", "false", "0", 1.5), ("-9000000000000000000", "16777217", "18446744073709551615", -0.875),
        ]
        for (a, b, c, margin) in rows {
            let value = try score(plan, "{\"a\": \(a), \"b\": \(b), \"c\": \(c)}")
            #expect(abs(value - 1 / (1 + exp(-margin))) < 1e-7, "\(a) \(b) \(c): \(value)")
        }
        let nothing = try score(plan, "{}")
        #expect(abs(nothing - 1 / (1 + exp(-1.5))) < 1e-7)
    }

    @Test func aRegressionStartsAtItsBaseAndNamesMayBeGiven() throws {
        let text = modelBundle(
            model(names: #"["age","the basket",""]"#, objective: "reg:squarederror", base: "1.5E2"),
            features: "{ the basket: context.b, '': context.c, age: context.a }")
        let (policy, problems) = read(text)
        let plan = try #require(policy, "\(problems)")
        #expect(problems == [])
        let value = try score(plan, #"{"a": 0, "b": 3, "c": -3.5}"#)
        #expect(value == 150 - 0.25 - 1)
    }

    @Test func aFeatureThatIsForgottenIsNamed() throws {
        let (policy, problems) = read(modelBundle(model(), features: "{ f2: context.c, f0: context.a }"))
        #expect(problems == ["4:5: warning: the model asks for f1, which features does not have: it counts as missing"])
        let plan = try #require(policy)
        let value = try score(plan, #"{"a": 0, "c": -4}"#)
        #expect(abs(value - 1 / (1 + exp(-0.75))) < 1e-7)
        // No tree asks for it.
        let unused = model([("\"split_indices\":[0,2,0,0,0]", "\"split_indices\":[0,0,0,0,0]")])
        #expect(read(modelBundle(unused, features: "{ f0: context.a, f1: context.b }")).problems == [])
    }

    @Test(arguments: [
        ("scores: [a]", "2:9: scores must be a map of names and settings"),
        ("scores: { a: 3 }", "2:14: a score is a map with points, logistic, or model and features"),
        ("scores: { a: {} }", "2:14: a score needs one of points, logistic: { weights: … }, and model"),
        ("scores: { a: { points: {}, logistic: { weights: {} } } }", "2:14: a score needs one of points"),
        ("scores: { a: { points: { 'true': x } } }", "2:34: this must be a number"),
        ("scores: { a: { points: { '1': 1 } } }", "2:26: a condition must be bool, not int"),
        ("scores: { a: { points: { 'context.x ==': 1 } } }", "2:38: "),
        ("scores: { a: { points: { 'profile.orders > 1': 1 } } }", "2:34: 'profile' has no field 'orders'"),
        ("scores: { a: { points: { 'score(\"a\") > 1.0': 1 } } }", "2:26: unknown function 'score'"),
        ("audiences: { x: 'true' }\nscores: { a: { points: { audience.x: 1 } } }", "3:26: undeclared name 'audience'"),
        ("scores: { a: { logistic: { intercept: x, weights: {} } } }", "2:39: this must be a number"),
        ("scores: { a: { logistic: { bias: 1, weights: {} } } }", "2:28: unknown setting bias of logistic"),
        ("scores: { a: { logistic: {} } }", "2:14: a score needs one of points"),
        ("scores: { a: { logistic: { weights: { now: 1 } } } }", "2:39: this must be a number or a truth value"),
        ("scores: { a: { model: x.json } }", "2:23: model must be a map of names and settings"),
        (
            "scores: { a: { model: {} } }",
            "2:23: learner is missing here: this is no model of XGBoost as save_model(\"model.json\") writes it"
        ),
        ("scores: {}\naudiences: { x: score(\"b\") > 1.0 }", "3:17: in this condition, 1:1: there is no score 'b'"),
        (
            "scores: { upsell: { points: {} } }\naudiences: { x: score(\"upsel\") > 1.0 }",
            "3:17: in this condition, 1:1: there is no score 'upsel'; did you mean 'upsell'?"
        ),
        (
            "scores: { b: { points: {} } }\naudiences: { x: score(context.x) > 1.0 }",
            "3:17: in this condition, 1:15: what is meant must be a literal text"
        ),
        ("scores: { b: { points: {} } }\naudiences: { x: score > 1.0 }", "3:17: in this condition, 1:1: undeclared name"),
        ("scores: { b: { points: {} } }\naudiences: { x: score(\"b\") }", "3:17: in this condition, 1:1: a condition must"),
    ])
    func whatIsWrongIsSaidWithItsPlace(section: String, expected: String) {
        let (policy, problems) = read("version: 1\n" + section)
        #expect(policy == nil && problems.count == 1 && problems[0].hasPrefix(expected), "\(problems)")
    }

    /// - Parameters:
    ///   - place: the text that begins where the mistake is said to be.
    @Test(arguments: [
        ("binary:logistic", "multi:softprob", "\"multi", "models are binary:logistic, reg:logistic or reg:squarederror"),
        ("\"gbtree\"", "\"dart\"", "\"dart", "only boosters of gbtree are supported"),
        ("\"num_feature\":\"3\"", "\"num_feature\":\"0\"", "{\"base_score", "a model has 1 to 4096 features"),
        ("\"num_feature\":\"3\"", "\"num_feature\":\"5000\"", "{\"base_score", "a model has 1 to 4096 features"),
        ("\"num_feature\":\"3\"", "\"num_feature\":{}", "{},", "this must be a number"),
        ("\"num_target\":\"1\"", "\"num_target\":\"2\"", "\"2\"", "a score is one number"),
        ("[5E-1]", "[1E0]", "\"[1E0", "base_score must be a finite number"),
        ("[5E-1]", "-0.5", "\"-0.5", "base_score must be a finite number"),
        ("[5E-1]", "[5E-1,5E-1]", "\"[5E", "this must be a number"),
        ("\"base_score\"", "\"base\"", "{\"base\"", "base_score" + missing),
        ("\"split_type\":[0,0,0,0,0]", "\"split_type\":[0,1,0,0,0]", tree, "splits by category are not supported"),
        ("\"left_children\":[1,3,-1,-1,-1]", "\"left_children\":[1,0,-1,-1,-1]", tree, "a child in this tree is not"),
        ("\"left_children\":[1,3,-1,-1,-1]", "\"left_children\":[1,1,-1,-1,-1]", tree, "a child in this tree is not"),
        ("\"left_children\":[1,3,-1,-1,-1]", "\"left_children\":[1,5,-1,-1,-1]", tree, "a child in this tree is not"),
        ("\"left_children\":[1,3,-1,-1,-1]", "\"left_children\":[1,3.5,-1,-1,-1]", tree, "a child in this tree is not"),
        ("\"left_children\":[1,3,-1,-1,-1]", "\"left_children\":[1,3,-2,-1,-1]", tree, "a child in this tree is not"),
        ("\"right_children\":[2,4,-1,-1,-1]", "\"right_children\":[2,3,-1,-1,-1]", tree, "a child in this tree is not"),
        ("\"right_children\":[2,4,-1,-1,-1]", "\"right_children\":[2,4,-1,-1]", "[2,4", "right_children must be a"),
        ("\"left_children\":[1,-1,-1]", "\"left_children\":[]", "[],\"right", "left_children must be a list of numbers"),
        ("\"split_indices\":[0,2,0,0,0]", "\"split_indices\":[0,3,0,0,0]", tree, "a number of split_indices is not that"),
        ("\"split_indices\":[0,2,0,0,0]", "\"split_indices\":[0,-1,0,0,0]", tree, "a number of split_indices is not that"),
        ("-0.25", "1e39", tree, "a number of split_conditions is not finite"),
        ("-0.25", "\"x\"", "\"x\"", "this must be a number"),
        ("\"default_left\":[0,1,0,0,0],", "", tree, "default_left" + missing),
        ("\"feature_names\":[]", "\"feature_names\":[\"a\"]", "[\"a\"]", "feature_names must be a list of as many names"),
    ])
    func whatIsWrongWithAModelIsSaidWithItsPlace(old: String, new: String, place: String, message: String) throws {
        let text = modelBundle(model([(old, new)]))
        let begin = try #require(text.range(of: place)).lowerBound
        let before = text[..<begin].components(separatedBy: "\n")
        let (policy, problems) = read(text)
        let expected = "\(before.count):\(before[before.count - 1].count + 1): \(message)"
        #expect(policy == nil && problems.count == 1 && problems[0].hasPrefix(expected), "\(problems), not \(expected)")
    }

    @Test(arguments: [
        ("{ f3: context.a }", "the model has no feature of this name"), ("{ f: context.a }", "the model has no feature"),
        ("{ f-1: context.a }", "the model has no feature"), ("{ age: context.a }", "the model has no feature"),
        ("{ f0: 3 }", "a feature is an expression"),
        ("{ f0: '\"x\"' }", "this must be a number or a truth value"),
        ("{ f0: now }", "this must be a number or a truth value"), ("[f0]", "features must be a map"),
    ])
    func whatIsWrongWithFeaturesIsSaid(features: String, expected: String) {
        let (policy, problems) = read(modelBundle(model(), features: features))
        #expect(policy == nil && problems.contains { $0.contains(": " + expected) }, "\(problems)")
    }

    // limit: Activation.scores, Activation.scoreTerms, Activation.modelNodes
    @Test func thereAreLimits() {
        var many = head
        for number in 0..<64 { many += "  s\(number): { points: {} }\n" }
        #expect(read(many).problems == [])
        #expect(read(many + "  more: { points: {} }\n").problems == ["67:3: there can be at most 64 scores"])
        var terms = head + "  s:\n    points:\n"
        for number in 0..<1000 { terms += "      context.x == \(number): 1\n" }
        #expect(read(terms).problems == [])
        #expect(read(terms + "      context.y: 1\n").problems == ["1005:7: a score can have at most 1000 terms"])
        // 65,536 nodes in all: 16 trees of 4,095 nodes and 16 of one.
        let (leaves, inner) = (2048, 2047)
        func list(_ values: [Int]) -> String { "[" + values.map(String.init).joined(separator: ",") + "]" }
        let none = [Int](repeating: -1, count: leaves)
        let zeros = list([Int](repeating: 0, count: inner + leaves))
        let tree = """
            {"left_children":\(list((0..<inner).map { 2 * $0 + 1 } + none)),
            "right_children":\(list((0..<inner).map { 2 * $0 + 2 } + none)),
            "split_indices":\(zeros),"split_conditions":\(zeros),"default_left":\(zeros)}
            """
        let leaf = """
            {"left_children":[-1],"right_children":[-1],"split_indices":[0],"split_conditions":[1],"default_left":[0]}
            """
        func forest(_ extra: Int) -> String {
            let trees = [String](repeating: tree, count: 16) + [String](repeating: leaf, count: 16 + extra)
            let model = """
                {"learner":{"gradient_booster":{"model":{"trees":[\(trees.joined(separator: ","))]},"name":"gbtree"},
                "learner_model_param":{"base_score":"0.5","num_feature":"1"},"objective":{"name":"reg:squarederror"}}}
                """
            return "{\"version\":1,\"scores\":{\"m\":{\"model\":\(model),\"features\":{\"f0\":\"context.a\"}}}}"
        }
        let (policy, problems) = read(forest(0))
        #expect(policy != nil, "\(problems)")
        let more = read(forest(1)).problems
        #expect(more.count == 1 && more[0].hasSuffix("all models together have more than 65536 nodes"), "\(more)")
    }

    /// Three rules ask for one score, and it is computed once: its one mistake counts once. When no rule comes to ask, it is
    /// not computed.
    @Test func aScoreIsComputedOnceAndOnlyWhenARuleAsks() throws {
        let bundle = """
            version: 1
            scores: { s: { points: { '1 / context.zero == 1': 1, context.n > 0: 10 } } }
            audiences: { }
            decisions:
              d:
                variants: { off: 0, a: 1, b: 2, c: 3 }
                default: off
                rules:
                  - { when: 'context.asks && score("s") > 30.0', serve: a }
                  - { when: 'context.asks && score("s") + double(context.n) > 100.0', serve: b }
                  - { when: 'context.asks && [1.0, 10.0].exists(x, x == score("s"))', serve: c }
            """
        let (policy, problems) = read(bundle)
        let plan = try #require(policy, "\(problems)")
        var bench = try ScoreBench()
        let meters = bench.meters
        for (context, variant, failures) in [
            (#"{"asks": true, "n": 1, "zero": 0}"#, "c", UInt64(1)), (#"{"asks": false, "n": 1, "zero": 0}"#, "off", 0),
            (#"{"asks": true, "n": 95, "zero": 0}"#, "b", 1), (#"{"asks": true, "n": 1, "zero": 1}"#, "off", 0),
            (#"{"asks": true, "n": 0, "zero": 1}"#, "c", 0),
        ] {
            let before = meters.evaluationErrors.current
            let seen = bench.ask(plan, context)
            #expect(seen == variant, "\(context)")
            #expect(meters.evaluationErrors.current - before == failures, "\(context)")
        }
    }

    /// A decision without a purpose may ask for a score over the question, and for none over a person.
    @Test func aDecisionWithoutAPurposeSeesNoPersonByWayOfAScore() {
        let decision = "decisions:\n  d: { variants: { a: 1 }, default: a, rules: [{ when: score(\"s\") > 1.0, serve: a }] }"
        for (term, isAllowed) in [
            ("context.x > 1", true), ("device.id == \"x\"", true), ("now > timestamp(0)", true),
            ("age.bundle > duration(\"1s\")", true),
            ("profile.orders > 1", false), ("has(profile.city)", false), ("consent.ads", false),
            ("age.profile > duration(\"1s\")", false),
        ] {
            let (_, problems) = read(
                "version: 1\npurposes: [ads]\n"
                    + "attributes: { orders: { type: counter }, city: { type: string, value: event.x } }\n"
                    + "scores: { s: { points: { '\(term)': 1 } } }\n" + decision)
            let expected = "6:48: this asks for a score about a person, and a decision without a purpose sees none"
            #expect(problems == (isAllowed ? [] : [expected]), "\(term)")
        }
    }

    /// A library's exponential and logarithm are right to the last digit; these are at most one beside it.
    @Test func exponentialAndOddsAreExact() {
        var random = SeededRandom(seed: 5)
        for _ in 0..<20_000 {
            let x = Double(Int64(bitPattern: random.next()) >> 12) / 4e12
            let (seen, expected) = (Logistic.exponential(x), exp(x))
            #expect(abs(seen - expected) <= expected.ulp, "\(x)")
            let p = Float(random.next() >> 40) / 16_777_216
            if p > 0 { #expect(Logistic.odds(p) == Float(-log(Double(1 / p - 1))), "\(p)") }
        }
        #expect(Logistic.exponential(0) == 1 && Logistic.exponential(-1e9) == 0 && Logistic.exponential(1e9) == .infinity)
        #expect(Logistic.exponential(.nan).isNaN && Logistic.exponential(-707.9) > 0 && Logistic.exponential(708.9).isFinite)
        for p in [Float(0), 1, -1, 2, .nan, .infinity, 1e-45] { #expect(Logistic.odds(p) == nil, "\(p)") }
        #expect(Logistic.probability(Float(200)) == 1 && Logistic.probability(Float(-200)) > 0)
    }

    /// What a damaged model comes to does not matter: it is refused, or it has a value.
    @Test func damagedModelsDoNoHarm() {
        let text = Array(modelBundle(model()).utf8)
        let start = head.utf8.count
        let bytes = Array("0123456789-.e\"[]{},:ntf".utf8)
        var random = SeededRandom(seed: 11)
        var accepted = 0
        for _ in 0..<4000 {
            var damaged = text
            for _ in 0...random.next() % 3 {
                let place = start + Int(random.next() % UInt64(text.count - start))
                // Mostly digits by digits, so that the text stays a model and only its numbers are other ones.
                let isDigit = damaged[place] >= 0x30 && damaged[place] < 0x3A
                damaged[place] = isDigit ? bytes[Int(random.next() % 11)] : random.next() % 8 == 0
                    ? bytes[Int(random.next() % UInt64(bytes.count))] : damaged[place]
            }
            let policy = read(String(decoding: damaged, as: UTF8.self)).policy
            guard let policy, !policy.scores.isEmpty else { continue }
            accepted += 1
            for context in ["{}", #"{"a": 1, "b": -1, "c": 1e300}"#] {
                let value = try? score(policy, context)
                #expect(value != nil)
            }
        }
        #expect(accepted > 500 && accepted < 3900, "\(accepted)")
    }
}
