// Shows that whatever an expression costs ends: in an error when it is compiled, with a place, or in one of evaluation that
// names the limit. Neither a rule nor what an event brings can make a decision long or large.

import Formats
import Testing

@testable import CEL

private func reason(_ source: String, _ bindings: ShopBindings = ShopBindings()) throws -> EvaluationError.Reason? {
    let program = try Compiler.compile(source, in: shopEnvironment())
    var evaluator = Evaluator()
    evaluator.begin()
    do {
        _ = try evaluator.evaluate(program, 0, bindings)
        return nil
    } catch { return error.reason }
}

private func numbers(_ count: Int) -> String { "[" + (0..<count).map(String.init).joined(separator: ",") + "]" }

/// A document of arrays inside each other.
private func nested(_ depth: Int) -> String {
    #"{"a":"# + String(repeating: "[", count: depth) + String(repeating: "]", count: depth) + "}"
}

@Suite("Limits of expressions")
struct CELLimitsTests {
    /// Many costly rules do not add up: after four of them the rest of a decision's rules do not match either, and the next
    /// decision begins anew.
    // limit: CEL.decisionSteps
    @Test func aDecisionTakesOnlySoManySteps() throws {
        var compiler = Compiler()
        for number in 0..<5 {
            let loops = "\(numbers(1000)).all(a, \(numbers(1000)).all(b, a + b + profile.orders >= \(number)))"
            _ = try compiler.add(loops, in: shopEnvironment())
        }
        _ = try compiler.add("\(numbers(1000)).exists(a, a == profile.orders)", in: shopEnvironment())
        let program = compiler.finish()
        let bindings = ShopBindings()
        var evaluator = Evaluator()
        evaluator.begin()
        let beforehand = evaluator.isTrue(program, 5, bindings)
        evaluator.begin()
        for number in 0..<5 {
            let isTrue = evaluator.isTrue(program, number, bindings)
            #expect(!isTrue)
        }
        let afterwards = evaluator.isTrue(program, 5, bindings)
        evaluator.begin()
        let anew = evaluator.isTrue(program, 5, bindings)
        #expect(beforehand && !afterwards && anew)
    }

    // limit: CEL.arenaBytes
    @Test func anEvaluationMakesOnlySoMuchText() throws {
        let text = String(repeating: "x", count: 10_000)
        let bindings = ShopBindings(context: #"{"text": "\#(text)"}"#)
        let texts = { (count: Int) in "\(numbers(count)).map(x, context.text + string(x)).size() > 0" }
        #expect(try reason(texts(100), bindings) == nil)
        #expect(try reason(texts(110), bindings) == .memoryLimit)
    }

    // limit: CEL.arenaValues
    @Test func anEvaluationMakesOnlySoManyValues() throws {
        let lists = { (count: Int) in
            "\(numbers(count)).map(x, \(numbers(1000)).map(y, y + x + profile.orders)).size() > 0"
        }
        #expect(try reason(lists(30)) == nil)
        #expect(try reason(lists(70)) == .memoryLimit)
    }

    // limit: CEL.valueNesting
    @Test func valuesAreComparedOnlySoDeep() throws {
        func compare(_ depth: Int) throws -> String {
            try evaluateToJSON("event.a == context.a", ShopBindings(event: nested(depth), context: nested(depth)))
        }
        #expect(try compare(Limits.valueNesting) == "true")
        // Two that are the same further down are not known to be.
        #expect(try compare(Limits.valueNesting + 2) == "false")
        #expect(try reason("'%s'.format([event.a])", ShopBindings(event: nested(Limits.valueNesting - 1))) == nil)
        #expect(try reason("'%s'.format([event.a])", ShopBindings(event: nested(Limits.valueNesting + 2))) == .nestingLimit)
    }

    // limit: CEL.formatPrecision
    @Test func formatWritesOnlySoManyDigits() throws {
        #expect(try reason("'%.1000f'.format([profile.ltv])") == nil)
        #expect(try reason("'%.1001f'.format([profile.ltv])") == .invalidArgument)
        #expect(try reason("'%.99999999999999999999f'.format([profile.ltv])") == .invalidArgument)
    }

    // limit: CEL.excerptBytes
    @Test func aMistakeShowsOnlySoMuchOfALongLine() {
        let text = String(repeating: "é", count: 5000)
        do {
            _ = try Compiler.compile("'\(text)' == profil.orders && '\(text)' != ''", in: shopEnvironment())
            Issue.record("should not compile")
        } catch {
            let lines = error.caret.split(separator: "\n")
            #expect(error.column == 5007 && lines.count == 2)
            #expect(lines[0].contains("é' == profil.orders && 'é") && lines[0].utf8.count <= 2 * Limits.excerptBytes)
            #expect(lines[0].prefix(lines[1].count - 1).hasSuffix("== "), "the caret stands under the place")
        }
    }

    // MARK: Regular expressions

    // limit: CEL.regularExpressionNesting, CEL.regularExpressionRepetitions, CEL.regularExpressionInstructions
    @Test func aPatternIsOnlySoLarge() throws {
        func pattern(_ text: String) throws -> EvaluationError.Reason? { try reason("profile.country.matches(r'\(text)')") }
        func groups(_ depth: Int) -> String {
            String(repeating: "(", count: depth) + "D" + String(repeating: ")", count: depth)
        }
        #expect(try pattern(groups(Limits.regularExpressionNesting - 1)) == nil)
        #expect(try pattern(groups(Limits.regularExpressionNesting)) == .invalidPattern)
        #expect(try pattern("x{0,1000}") == nil)
        #expect(try pattern("x{0,1001}") == .invalidPattern)
        #expect(try pattern("(x{100}){200}") == nil)
        #expect(try pattern("(x{100}){300}") == .invalidPattern)
        #expect(try pattern(String(repeating: #"(?i)[\p{L}]"#, count: 3)) == nil)
    }

    /// A pattern whose table would be exponential is run as a set of states, in time that the text's length bounds.
    // limit: CEL.deterministicSteps
    @Test func aPatternThatCannotBeATableIsRunAllTheSame() throws {
        let text = String(repeating: "ab", count: 2000)
        let bindings = ShopBindings(context: #"{"text": "\#(text)"}"#)
        #expect(try evaluateToJSON("context.text.matches(r'(a|b)*a(a|b){201}$')", bindings) == "true")
        #expect(try evaluateToJSON("context.text.matches(r'(a|b)*a(a|b){200}$')", bindings) == "false")
    }

    // MARK: Time zones

    private final class Asked { var names: [String] = [] }

    /// Names come from events, too: what is no name is not asked for, what is too long is none, and the table is emptied.
    // limit: CEL.timeZones, CEL.timeZoneNameBytes, CEL.timeZoneBytes, Platform.timeZoneBytes
    @Test func onlySoMuchIsKnownOfTimeZones() throws {
        let asked = Asked()
        let zones = TimeZones { name in
            asked.names.append(name)
            // TZif of version 1 without transitions, one type: UTC. One file is longer than any.
            let head = Array("TZif".utf8) + [UInt8](repeating: 0, count: 16)
            let counts: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4]
            let body: [UInt8] = [0, 0, 0, 0, 0, 0] + Array("UTC\0".utf8)
            let file = head + counts + body
            return name == "Long" ? file + [UInt8](repeating: 0, count: Limits.timeZoneBytes) : file
        }
        func offset(_ name: String) -> Int64? {
            let bytes = Array(name.utf8)
            return zones.offset(bytes.span, at: 0)
        }
        #expect(offset("Long") == nil)
        #expect(offset(String(repeating: "A", count: Limits.timeZoneNameBytes)) == 0)
        let before = asked.names.count
        #expect(offset(String(repeating: "A", count: Limits.timeZoneNameBytes + 1)) == nil)
        #expect(offset("../../etc/passwd") == nil)
        #expect(asked.names.count == before, "neither was asked for")
        for number in 0..<Limits.timeZones { #expect(offset("Zone/\(number)") == 0) }
        let all = asked.names.count
        #expect(offset("Zone/\(Limits.timeZones - 1)") == 0)
        #expect(asked.names.count == all, "it is known")
        #expect(offset("Zone/0") == 0)
        #expect(asked.names.count == all + 1, "it was forgotten, and is known again")
    }
}
