// Shows that looking rules up finds what trying them one by one finds: seeded random groups over attributes of every kind,
// set and unset, against each rule by itself; and that what cannot be true is neither tried nor kept at a square's cost.

import Formats
import Testing

@testable import CEL

/// Attributes with chosen values; a slot without one is unset.
private struct Attributes: Bindings {
    final class Loads { var slots: [Int] = [] }

    var values: [Int: Content] = [:]
    var context = JSONDocument()
    let loads = Loads()

    enum Content { case int(Int64), double(Double), text(String), texts([String]), bool(Bool), mixed }

    var region: Span<UInt8> { @_lifetime(borrow self) get { Span() } }
    func document(_ number: Int) -> JSONDocument? { context }

    func load(_ slot: Int, into heap: inout Heap) -> Value? {
        loads.slots.append(slot)
        switch values[slot] {
        case nil: return nil
        case .int(let number): return .int(number)
        case .double(let number): return .double(number)
        case .bool(let value): return .bool(value)
        case .text(let text): return heap.string(Array(text.utf8).span)
        case .texts(let texts):
            heap.beginList()
            for text in texts { heap.append(heap.string(Array(text.utf8).span)) }
            return heap.endList()
        case .mixed:
            heap.beginList()
            heap.append(.int(1))
            heap.append(heap.string("abc"))
            return heap.endList()
        }
    }

    static var environment: Environment {
        var environment = Environment()
        environment.declareRecord(
            "profile",
            [
                .init("orders", .int, slot: 0), .init("ltv", .double, slot: 1), .init("country", .string, slot: 2),
                .init("tags", .list(.string), slot: 3), .init("vip", .bool, slot: 4), .init("any", .dyn, slot: 5),
            ])
        environment.declareDocument("context", number: 0)
        return environment
    }
}

private struct Dice {
    var state: UInt64
    mutating func roll(_ count: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % count
    }
    mutating func pick(_ list: [String]) -> String { list[roll(list.count)] }

    /// Texts that share beginnings and lengths, short and long, so that heads alone do not tell them apart.
    mutating func text() -> String {
        let long = String(repeating: "long-text", count: 40)
        return pick(["", "a", "ab", "abc", "abcdefg", "abcdefgh", "abcdefgi", "abcdefgX-1", "abcdefgX-2", "é", long + "1", long + "2"])
    }

    mutating func number() -> String {
        pick(["0", "1", "7", "7.0", "7.5", "-0.0", "-3", "9007199254740993", "1e300", "-1e300", "9007199254740992.0"])
    }

    mutating func atom() -> String {
        let relation = pick(["==", "!=", "<", "<=", ">", ">="])
        switch roll(12) {
        case 0: return "profile.orders \(relation) \(roll(40))"
        case 1: return "\(number()) \(relation) profile.ltv"
        case 2: return "profile.country == '\(text())'"
        case 3: return "profile.country in ['\(text())', '\(text())', 'K\(roll(100))']"
        case 4: return "'\(text())' in profile.tags"
        case 5: return "profile.tags.exists(t, t == 'T\(roll(90))')"
        case 6: return "profile.vip"
        case 7: return "profile.any \(relation) \(number())"
        case 8: return "profile.any == '\(text())'"
        case 9: return "context.channel == '\(text())'"
        case 10: return roll(2) == 0 ? "context.n \(relation) \(number())" : "'\(text())' in context.list"
        default: return pick(["has(profile.country)", "1 / (profile.orders - 7) > 0", "'\(text())' in profile.any", "true", "false"])
        }
    }

    mutating func rule() -> String {
        var parts = [atom()]
        for _ in 0..<roll(4) { parts.append(roll(4) == 0 ? "(\(atom()) || !(\(atom())))" : atom()) }
        return parts.joined(separator: " && ")
    }

    mutating func attributes() -> Attributes {
        var attributes = Attributes()
        let numbers: [Double] = [0, 1, 7, 7.5, -3, 1e300, .nan, .infinity, 9_007_199_254_740_992]
        let whole: [Int64] = [0, 7, 39, -3, .max, .min, 9_007_199_254_740_993]
        let texts = [text(), "K\(roll(100))", "T\(roll(90))"]
        attributes.values[0] = roll(6) == 0 ? nil : .int(whole[roll(whole.count)])
        attributes.values[1] = roll(6) == 0 ? nil : .double(numbers[roll(numbers.count)])
        attributes.values[2] = roll(6) == 0 ? nil : .text(texts[roll(3)])
        attributes.values[3] = roll(6) == 0 ? nil : .texts(Array(texts[..<roll(4)]))
        attributes.values[4] = roll(6) == 0 ? nil : .bool(roll(2) == 0)
        let any: [Attributes.Content?] = [
            nil, .int(7), .double(7), .double(.nan), .text(texts[0]), .texts(texts), .bool(true), .mixed, .int(9_007_199_254_740_993),
        ]
        attributes.values[5] = any[roll(any.count)]
        let context = pick([
            "{}", #"{"channel":"abc","n":7}"#, #"{"channel":"abcdefgX-2","n":7.5}"#, #"{"channel":7,"n":"7"}"#,
            #"{"channel":null,"n":9007199254740993,"list":["abc",7,null,"abcdefgX-1","abc"]}"#,
            #"{"list":[]}"#, #"{"list":"abc"}"#, #"{"list":{"abc":1}}"#,
        ])
        let bytes = Array(context.utf8)
        let span = bytes.span
        try! attributes.context.parse(span)
        return attributes
    }
}

@Suite struct RuleIndexTests {
    @Test(arguments: [17, 40, 64, 65, 300, 700])
    func theIndexFindsWhatTryingFinds(count: Int) throws {
        var dice = Dice(state: UInt64(count))
        for _ in 0..<8 {
            var grouped = Compiler()
            var single = Compiler()
            let rules = (0..<count).map { _ in dice.rule() }
            grouped.beginGroup()
            for rule in rules {
                _ = try grouped.add(rule, in: Attributes.environment, expecting: .condition)
                _ = try single.add(rule, in: Attributes.environment, expecting: .condition)
            }
            // An element of a list is no condition, and is evaluated by general code.
            var general = Compiler()
            for rule in rules { _ = try general.add("[\(rule)][0]", in: Attributes.environment) }
            let indexed = grouped.finish()
            let plain = single.finish()
            let code = general.finish()
            let columns = indexed.index.columns.count
            #expect(columns > 3)
            var first = Evaluator()
            var second = Evaluator()
            var third = Evaluator()
            for _ in 0..<40 {
                let attributes = dice.attributes()
                let (found, failures) = matches(&first, indexed, attributes)
                let (expected, allFailures) = matches(&second, plain, attributes)
                #expect(found == expected)
                if count < 65 {
                    let (byCode, _) = matches(&third, code, attributes)
                    #expect(found == byCode)
                }
                // What the index rules out is not tried, and so does not fail.
                #expect(failures <= allFailures)
                let start = dice.roll(count)
                var ignored = 0
                let next = first.firstTrue(indexed, in: start..<count, attributes, failures: &ignored)
                #expect(next == expected.first { $0 >= start })
            }
        }
    }

    private func matches(
        _ evaluator: inout Evaluator, _ program: borrowing Program, _ attributes: Attributes
    ) -> ([Int], Int) {
        var (found, failures): ([Int], Int) = ([], 0)
        evaluator.begin()
        evaluator.forEachTrue(program, in: 0..<program.count, attributes, failures: &failures) { found.append($0) }
        return (found, failures)
    }

    /// A group between other expressions, and a range that ends inside it.
    @Test func aRangeMayBeginAndEndAnywhere() throws {
        var compiler = Compiler()
        _ = try compiler.add("profile.orders == 1", in: Attributes.environment)
        compiler.beginGroup()
        for number in 0..<40 { _ = try compiler.add("profile.orders >= \(number)", in: Attributes.environment) }
        compiler.endGroup()
        _ = try compiler.add("profile.orders == 3", in: Attributes.environment)
        let program = compiler.finish()
        var attributes = Attributes()
        attributes.values[0] = .int(3)
        var evaluator = Evaluator()
        for (range, expected) in [(0..<42, [1, 2, 3, 4, 41]), (0..<3, [1, 2]), (3..<42, [3, 4, 41]), (20..<42, [41]), (5..<5, [])] {
            var (found, failures): ([Int], Int) = ([], 0)
            evaluator.begin()
            evaluator.forEachTrue(program, in: range, attributes, failures: &failures) { found.append($0) }
            #expect(found == expected && failures == 0)
        }
    }

    @Test func whatCannotBeTrueIsNotTried() throws {
        var compiler = Compiler()
        compiler.beginGroup()
        for number in 0..<200 {
            _ = try compiler.add("profile.country == 'K\(number)' && profile.ltv > 1.0", in: Attributes.environment)
        }
        let program = compiler.finish()
        var attributes = Attributes()
        attributes.values[2] = .text("somewhere else")
        var evaluator = Evaluator()
        var failures = 0
        evaluator.begin()
        let found = evaluator.firstTrue(program, in: 0..<200, attributes, failures: &failures)
        #expect(found == nil)
        // The country alone ruled all of them out.
        #expect(attributes.loads.slots == [2])
    }

    /// Bitmaps and lists in bytes a rule: the same for many rules as for few.
    @Test func theIndexGrowsWithItsRules() throws {
        var sizes: [Int] = []
        for count in [1000, 8000] {
            var compiler = Compiler()
            compiler.beginGroup()
            for number in 0..<count {
                let rule = "profile.country == 'K\(number)' && profile.ltv > \(number).5 && 'T\(number % 50)' in profile.tags"
                _ = try compiler.add(rule, in: Attributes.environment)
            }
            let program = compiler.finish()
            let index = program.index
            sizes.append(
                (index.blocks.count * 32 + index.posted.count * 4 + index.keys.count * 16 + index.bounds.count * 16) / count)
        }
        #expect(sizes[1] <= sizes[0] + 8 && sizes[1] < 80, "\(sizes)")
    }

    /// Many attributes, each of few rules, get no bitmaps of their own.
    @Test func manyAttributesTakeNoMore() throws {
        var compiler = Compiler()
        compiler.beginGroup()
        for number in 0..<8000 { _ = try compiler.add("context.a\(number / 8) > \(number)", in: Attributes.environment) }
        let program = compiler.finish()
        let blocks = program.index.blocks.count
        #expect(blocks * 32 < 8000 * 64)
    }

    /// Operators that walk over long values stop at the limit, and what they gave up is no answer.
    @Test(arguments: [
        ("'none' in context.list", ", ", 2000), ("context.list != context.list", ", ", 400),
        ("context.text < context.text", ", ", 1500), ("'none' in context.list", " || ", 2000),
    ])
    func longValuesMeetTheLimit(part: String, separator: String, count: Int) throws {
        let source = Array(repeating: part, count: count).joined(separator: separator)
        let list = (0..<5000).map { "\"\($0)\"" }.joined(separator: ",")
        let json = "{\"list\":[\(list)],\"text\":\"\(String(repeating: "x", count: 60_000))\"}"
        var attributes = Attributes()
        let bytes = Array(json.utf8)
        let span = bytes.span
        try attributes.context.parse(span)
        var evaluator = Evaluator()
        evaluator.begin()
        // As code, in which nothing is shared.
        let program = try Compiler.compile("[" + source + "][0]", in: Attributes.environment)
        var reason: EvaluationError.Reason?
        do { _ = try evaluator.evaluate(program, 0, attributes) } catch { reason = error.reason }
        #expect(reason == .costLimit)
    }

    /// A long list in a question costs its length once, however many rules ask for one of its elements.
    @Test func aLongListIsLookedUpOnce() throws {
        var compiler = Compiler()
        compiler.beginGroup()
        for number in 0..<500 { _ = try compiler.add("'t\(number)' in context.list", in: Attributes.environment) }
        let program = compiler.finish()
        var attributes = Attributes()
        let list = (0..<20_000).map { $0 % 3 == 0 ? "\($0)" : "\"t\($0)\"" }.joined(separator: ",")
        let bytes = Array("{\"list\":[\(list)]}".utf8)
        let span = bytes.span
        try attributes.context.parse(span)
        var evaluator = Evaluator()
        let (found, failures) = matches(&evaluator, program, attributes)
        #expect(found == (0..<500).filter { $0 % 3 != 0 } && failures == 0)
        #expect(evaluator.machine.candidates.isExact)
    }

    /// Costly rules do not add up to a decision that does not end: all of them have four times the steps of one.
    @Test func aDecisionHasABudget() throws {
        let list = "[" + (0..<60).map { "\($0)" }.joined(separator: ",") + "]"
        let costly = "\(list).all(a, \(list).all(b, \(list).all(c, a + b + c >= 0)))"
        var compiler = Compiler()
        for number in 0..<30 {
            _ = try compiler.add("profile.orders != \(number) && \(costly.replacing("0)", with: "-\(number))"))", in: Attributes.environment)
        }
        let program = compiler.finish()
        var attributes = Attributes()
        attributes.values[0] = .int(-1)
        var evaluator = Evaluator()
        evaluator.begin()
        var reasons: [EvaluationError.Reason?] = []
        for number in 0..<30 {
            do { _ = try evaluator.evaluate(program, number, attributes); reasons.append(nil) } catch { reasons.append(error.reason) }
        }
        #expect(reasons.first == .some(nil) && reasons.last == .costLimit)
        evaluator.begin()
        let value = try evaluator.evaluate(program, 29, attributes)
        #expect(value.isTrue)
    }

    /// What many rules ask in the same words is found out once: else these would cost thirty times what one may.
    @Test func sharedPartsAreEvaluatedOnce() throws {
        let list = "[" + (0..<90).map { "\($0)" }.joined(separator: ",") + "]"
        let costly = "\(list).all(a, \(list).all(b, \(list).all(c, a + b + c >= profile.orders)))"
        var compiler = Compiler()
        for number in 0..<30 {
            _ = try compiler.add("profile.ltv > \(number).0 && \(costly)", in: Attributes.environment, expecting: .condition)
            _ = try compiler.add("\(costly) || profile.vip", in: Attributes.environment, expecting: .condition)
        }
        let program = compiler.finish()
        #expect(program.codeTerms.count == 1)
        var attributes = Attributes()
        attributes.values = [0: .int(0), 1: .double(100), 4: .bool(false)]
        var evaluator = Evaluator()
        let (found, failures) = matches(&evaluator, program, attributes)
        #expect(found.count == 60 && failures == 0)
    }
}
