// Rules over slots, records and documents as the house writes them, and what their mistakes are told.

import CEL
import Formats
import Testing

/// A profile in a byte record, and two documents.
struct ShopBindings: Bindings {
    var record = Array("DEgold".utf8)
    var event = JSONDocument()
    var context = JSONDocument()
    var unset: Set<Int> = []
    var loads = LoadCount()

    final class LoadCount { var count = 0 }

    init(event: String = "{}", context: String = "{}") {
        let (eventBytes, contextBytes) = (Array(event.utf8), Array(context.utf8))
        try! self.event.parse(eventBytes.span)
        try! self.context.parse(contextBytes.span)
    }

    var region: Span<UInt8> { @_lifetime(borrow self) get { record.span } }

    func document(_ number: Int) -> JSONDocument? { number == 0 ? event : context }

    func load(_ slot: Int, into heap: inout Heap) -> Value? {
        loads.count += 1
        if unset.contains(slot) { return nil }
        switch slot {
        case 0: return .int(17)
        case 1: return .double(1532.75)
        case 2: return .string(inRegion: 0, length: 2)
        case 3: return .bool(true)
        case 4:
            heap.beginList()
            heap.append(inRegion: 2, length: 4)
            heap.append(heap.string("sale"))
            return heap.endList()
        case 5:
            heap.beginMap()
            heap.append(heap.string("shoes"))
            heap.append(.int(3))
            return heap.endMap()
        case 6: return .timestamp(milliseconds: 1_700_000_000_000)
        case 7: return .timestamp(milliseconds: 1_700_000_000_000 - 45 * 60_000)
        case 8: return .bool(false)
        case 9: return .duration(milliseconds: 60_000)
        default: return nil
        }
    }
}

func shopEnvironment() -> Environment {
    var environment = Environment()
    environment.declareRecord(
        "profile",
        [
            Environment.Field("orders", .int, slot: 0), Environment.Field("ltv", .double, slot: 1),
            Environment.Field("country", .string, slot: 2), Environment.Field("vip", .bool, slot: 3),
            Environment.Field("tags", .list(.string), slot: 4),
            Environment.Field("categories", .map(.string, .int), slot: 5),
            Environment.Field("carted_at", .dyn, slot: 7), Environment.Field("never_set", .string, slot: 20),
        ])
    environment.declare("now", .timestamp, slot: 6)
    environment.declareRecord("consent", [Environment.Field("third-party", .bool, slot: 8)])
    environment.declareRecord("age", [Environment.Field("profile", .duration, slot: 9)])
    environment.declareDocument("event", number: 0)
    environment.declareDocument("context", number: 1)
    return environment
}

func evaluateToJSON(_ source: String, _ bindings: ShopBindings = ShopBindings()) throws -> String {
    let program = try Compiler.compile(source, in: shopEnvironment())
    var evaluator = Evaluator()
    evaluator.begin()
    let value = try evaluator.evaluate(program, 0, bindings)
    var writer = JSONWriter()
    evaluator.write(value, to: &writer, program, bindings)
    return String(decoding: writer.bytes, as: UTF8.self)
}

@Suite("Rules over profiles and events")
struct EvaluatorTests {
    @Test(
        "Fields of records are read from their slots, by dot and by index",
        arguments: [
            ("profile.orders >= 7 && profile.ltv > 37.0", "true"),
            ("profile.ltv > 1000", "true"),
            ("profile.country in ['DE', 'AT']", "true"),
            ("'gold' in profile.tags && !('vip' in profile.tags)", "true"),
            ("profile.tags", #"["gold","sale"]"#),
            ("profile.categories.shoes + profile.categories['shoes']", "6"),
            ("has(profile.categories.hats)", "false"),
            ("has(profile.orders) && !has(profile.never_set)", "true"),
            ("profile.?never_set.orValue('x') + profile.country", #""xDE""#),
            ("profile['vip'] && !consent['third-party'] && !consent.`third-party`", "true"),
            ("now - profile.carted_at > duration('30m')", "true"),
            ("age.profile", #""60s""#),
            ("profile.never_set == 'a' || profile.vip", "true"),
        ])
    func records(_ source: String, _ expected: String) throws {
        #expect(try evaluateToJSON(source) == expected)
    }

    @Test(
        "Documents are read in place; their numbers mix with ints and doubles",
        arguments: [
            ("event.event == 'Order Completed'", "true"),
            ("event.properties.revenue * 2.0", "20.0"),
            ("event.properties.revenue + 1", "11"),
            ("event.properties.weight + 1", "3.5"),
            ("event.properties.revenue > 9.5 && event.properties.weight < 3", "true"),
            ("event.properties.revenue * 2 + 0.5", "20.5"),
            ("event.properties.products.exists(p, p.sku == 'b' && p.n == 2)", "true"),
            ("event.properties.products.map(p, p.sku)", #"["a","b"]"#),
            ("event.properties.products[1].n", "2"),
            ("'a' in event.properties.products.map(p, p.sku)", "true"),
            ("has(event.properties.none) || has(event.nothing)", "false"),
            ("event.?properties.?none.orValue(3)", "3"),
            ("size(event.properties.products) == 2", "true"),
            ("event.properties.products[0] == {'sku': 'a', 'n': 1}", "true"),
            ("context.channel.startsWith('kio')", "true"),
            ("timestamp(event.timestamp) < now", "true"),
        ])
    func documents(_ source: String, _ expected: String) throws {
        let event = """
            {"event":"Order Completed","timestamp":"2023-01-02T03:04:05Z","properties":{"revenue":10,"weight":2.5,
            "products":[{"sku":"a","n":1},{"sku":"b","n":2}]}}
            """
        let bindings = ShopBindings(event: event, context: #"{"channel":"kiosk"}"#)
        #expect(try evaluateToJSON(source, bindings) == expected)
    }

    @Test("A slot is loaded once a decision, however many expressions ask")
    func loadsOnce() throws {
        var compiler = Compiler()
        for limit in 1...5 { _ = try compiler.add("profile.orders > \(limit)", in: shopEnvironment()) }
        let program = compiler.finish()
        let bindings = ShopBindings()
        var evaluator = Evaluator()
        evaluator.begin()
        for number in 0..<program.count {
            let isTrue = evaluator.isTrue(program, number, bindings)
            #expect(isTrue)
        }
        #expect(bindings.loads.count == 1)
        evaluator.begin()
        let isTrue = evaluator.isTrue(program, 0, bindings)
        #expect(isTrue)
        #expect(bindings.loads.count == 2)
    }

    @Test("The quick way through conditions and the general one agree, with errors and unset slots too")
    func quickConditions() throws {
        let atoms = [
            "profile.orders >= 17", "profile.orders != 17", "17.5 > profile.orders", "profile.ltv > 1000", "profile.vip",
            "profile.country == 'DE'", "'US' != profile.country", "profile.country in ['AT', 'DE']",
            "'sale' in profile.tags", "'other' in profile.tags", "has(profile.never_set)", "profile.never_set == 'x'",
            "profile.orders / 0 == 1", "profile.country.startsWith('D')", "profile.categories.shoes > 2", "true", "false",
        ]
        var conditions: [String] = []
        for (index, a) in atoms.enumerated() {
            let b = atoms[(index * 7 + 3) % atoms.count]
            let c = atoms[(index * 5 + 11) % atoms.count]
            conditions += [
                a, "\(a) && \(b)", "\(a) || \(b) && !(\(c))", "(\(a) ? \(b) : \(c)) || \(b)", "!(\(a) || \(c)) || \(b)",
            ]
        }
        var quick = Compiler()
        var general = Compiler()
        for condition in conditions {
            _ = try quick.add(condition, in: shopEnvironment(), expecting: .condition)
            // A list element is no condition, so that the general machine evaluates it.
            _ = try general.add("[\(condition)][0]", in: shopEnvironment())
        }
        let quickProgram = quick.finish()
        let generalProgram = general.finish()
        var first = Evaluator()
        var second = Evaluator()
        first.begin()
        second.begin()
        let bindings = ShopBindings()
        for number in conditions.indices {
            var found: [String] = []
            do { found.append("\(try first.evaluate(quickProgram, number, bindings).isTrue)") } catch { found.append("\(error.reason)") }
            do { found.append("\(try second.evaluate(generalProgram, number, bindings).isTrue)") } catch { found.append("\(error.reason)") }
            #expect(found[0] == found[1], Comment(rawValue: conditions[number]))
        }
        var failures = 0
        var matching: [Int] = []
        var next = 0
        while let number = first.firstTrue(quickProgram, in: next..<quickProgram.count, bindings, failures: &failures) {
            matching.append(number)
            next = number + 1
        }
        var expected: [Int] = []
        for number in conditions.indices {
            let isTrue = first.isTrue(quickProgram, number, bindings)
            if isTrue { expected.append(number) }
        }
        #expect(matching == expected && failures > 0)
    }

    /// What a person does not have is no failure of a rule; what no value could make right is one.
    @Test func onlyMistakesOfRulesAreCountedAsFailures() throws {
        var compiler = Compiler()
        for condition in ["context.missing == 1", "1 / context.zero == 1", "context.zero == 0"] {
            _ = try compiler.add(condition, in: shopEnvironment(), expecting: .condition)
        }
        let program = compiler.finish()
        var evaluator = Evaluator()
        evaluator.begin()
        var failures = 0
        let bindings = ShopBindings(context: #"{"zero": 0}"#)
        let missing = evaluator.firstTrue(program, in: 0..<1, bindings, failures: &failures)
        #expect(missing == nil && failures == 0)
        let match = evaluator.firstTrue(program, in: 0..<3, bindings, failures: &failures)
        #expect(match == 2 && failures == 1)
    }

    @Test(
        "Mistakes are found when compiling, with place and suggestion",
        arguments: [
            ("profil.orders > 1", 1, 1, "profile"),
            ("profile.order > 1", 1, 9, "orders"),
            ("profile.vip &&\n  profile.cuntry == 'DE'", 2, 11, "country"),
            ("profile.country.startWith('D')", 1, 17, "startsWith"),
            ("consent.third_party", 1, 9, "third-party"),
            ("profile.ltv * 2", 1, 13, nil),
            ("profile.country > 3", 1, 17, nil),
            ("profile.orders", 1, 9, nil),
            ("profile.orders > ", 1, 18, nil),
            ("profile == 3", 1, 1, nil),
        ] as [(String, Int, Int, String?)])
    func mistakes(_ source: String, _ line: Int, _ column: Int, _ suggestion: String?) {
        do {
            _ = try Compiler.compile(source, in: shopEnvironment(), expecting: .condition)
            Issue.record("should not compile: \(source)")
        } catch {
            #expect(error.line == line)
            #expect(error.column == column)
            #expect(error.suggestion == suggestion)
        }
    }

    @Test(
        "Errors of evaluation say what and where",
        arguments: [
            ("1 + 9223372036854775807 * profile.orders", EvaluationError.Reason.overflow, 24),
            ("profile.orders / (profile.orders - 17)", .divisionByZero, 15),
            ("event.nothing == 1", .noSuchKey, 6),
            ("profile.never_set == ''", .noSuchKey, 8),
            ("profile.tags[2] == ''", .indexOutOfRange, 12),
            ("timestamp(profile.country) < now", .invalidArgument, 0),
        ] as [(String, EvaluationError.Reason, UInt32)])
    func evaluationErrors(_ source: String, _ reason: EvaluationError.Reason, _ offset: UInt32) throws {
        let program = try Compiler.compile(source, in: shopEnvironment())
        var evaluator = Evaluator()
        evaluator.begin()
        do {
            _ = try evaluator.evaluate(program, 0, ShopBindings())
            Issue.record("should fail: \(source)")
        } catch {
            #expect(error.reason == reason)
            #expect(error.offset == offset)
        }
    }

    // limit: CEL.evaluationSteps
    @Test("Work and memory have limits that hold")
    func limits() throws {
        let thousand = "[" + (0..<1000).map(String.init).joined(separator: ",") + "]"
        let loops = "\(thousand).all(a, \(thousand).all(b, \(thousand).all(c, a + b + c >= profile.orders - 17)))"
        let doubling = "[0,1,2,3,4,5,6,7,8,9].map(x, profile.country)"
        let growing = String(repeating: "cel.bind(s, profile.country + profile.country, ", count: 1)
            + "[1,2,3].map(x, " + String(repeating: "s + ", count: 50) + "s))"
        #expect(try evaluateToJSON(doubling).count > 10)
        #expect(try evaluateToJSON(growing).count > 10)
        let program = try Compiler.compile(loops, in: shopEnvironment())
        var evaluator = Evaluator()
        evaluator.begin()
        do {
            _ = try evaluator.evaluate(program, 0, ShopBindings())
            Issue.record("a billion turns should not be run")
        } catch {
            #expect(error.reason == .costLimit)
        }
        let deep = String(repeating: "(", count: 300) + "1" + String(repeating: ")", count: 300)
        #expect(throws: CompileError.self) { try Compiler.compile(deep, in: Environment()) }
    }
}
