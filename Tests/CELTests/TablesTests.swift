// Shows that a table is a map like any other, whatever its size, and that what is looked up in one of ten thousand rows
// costs what it costs in one of ten: each expression is evaluated over the same rows as a table and as a document.

import CEL
import Formats
import Testing

@Suite struct TablesTests {
    private static func json(_ text: String) throws -> JSONDocument {
        let bytes = Array(text.utf8)
        var document = JSONDocument()
        try document.parse(bytes.span)
        return document
    }

    /// An environment with a document `event`, and a record `tables` of the members of an object.
    private static func environment(_ tables: String, _ compiler: inout Compiler) throws -> Environment {
        let document = try json(tables)
        var environment = Environment()
        environment.declareDocument("event", number: 0)
        var fields: [Environment.Field] = []
        var key = document.firstChild(document.root)
        while let name = key, let table = document.next(name) {
            let constant = compiler.constant(document, table, limitBytes: 16 << 20)
            let value = try #require(constant)
            fields.append(Environment.Field(document.string(name) ?? "", .map(.string, .dyn), constant: value))
            key = document.next(table)
        }
        environment.declareRecord("tables", fields)
        return environment
    }

    private static let products = """
        {"products": {"p-1": {"category": "shoes", "margin": 0.4, "stock": 3, "sizes": [40, 41]},
            "p-2": {"category": "bags", "margin": 0.2}, "p-3": "sold out", "p-4": null, "": {"category": ""}},
         "wide": {"row": {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8, "i": {"j": true}, "k": []}},
         "empty": {}}
        """

    /// What an expression comes to: as a condition, as JSON, and the error if there is one.
    private static func evaluate(_ source: String, event: String = "{}", tables: String = products) throws -> String {
        var compiler = Compiler()
        let environment = try environment(tables, &compiler)
        _ = try compiler.add(source, in: environment)
        let program = compiler.finish()
        var evaluator = Evaluator()
        let bindings = ShopBindings(event: event)
        var results: [String] = []
        // The second time everything is warm.
        for _ in 0..<2 {
            evaluator.begin()
            do throws(EvaluationError) {
                let value = try evaluator.evaluate(program, 0, bindings)
                var writer = JSONWriter()
                evaluator.write(value, to: &writer, program, bindings)
                results.append(String(decoding: writer.bytes, as: UTF8.self))
            } catch { results.append("\(error.reason)") }
            evaluator.end()
        }
        #expect(results[0] == results[1])
        return results[0]
    }

    @Test(arguments: [
        (#"tables.products["p-1"].category"#, #""shoes""#),
        (#"tables.products[event.id].category"#, #""shoes""#),
        (#"tables.products[event.id].category == "shoes""#, "true"),
        (#"tables.products[event.id].category in ["bags", "shoes"]"#, "true"),
        (#"tables.products[event.id].margin * 2.0"#, "0.8"),
        (#"tables.products[event.id].stock + 1"#, "4"),
        (#"tables.products[event.id].stock * 0.5 > 1.0"#, "true"),
        (#"tables.products[event.id].sizes[1]"#, "41"),
        (#"41 in tables.products[event.id].sizes"#, "true"),
        (#"tables.products[event.id].sizes.exists(size, size == 40)"#, "true"),
        (#"tables["products"][event.id].margin"#, "0.4"),
        (#"event.id in tables.products"#, "true"),
        (#"event.other in tables.products"#, "false"),
        (#"event.number in tables.products"#, "false"),
        (#"!(event.other in tables.products) || tables.products[event.other].margin > 0.1"#, "true"),
        (#"has(tables.products[event.id].margin)"#, "true"),
        (#"has(tables.products[event.id].brand)"#, "false"),
        (#"has(tables.products)"#, "true"),
        (#"tables.products[?event.other].?category.orValue("none")"#, #""none""#),
        (#"tables.products[?event.id].?category.orValue("none")"#, #""shoes""#),
        (#"tables.?products[?event.id].?margin.orValue(0.0)"#, "0.4"),
        (#"tables.products[event.empty].category"#, #""""#),
        (#"size(tables.products)"#, "5"),
        (#"tables.products.exists(key, key == "p-2")"#, "true"),
        (#"tables.products.all(key, row, key == "" || key.startsWith("p-"))"#, "true"),
        (#"tables.products["p-2"] == {"margin": 0.2, "category": "bags"}"#, "true"),
        (#"{"category": "bags", "margin": event.fifth} == tables.products["p-2"]"#, "true"),
        (#"tables.products["p-1"]"#, #"{"category":"shoes","margin":0.4,"stock":3,"sizes":[40,41]}"#),
        (#"tables.products["p-3"]"#, #""sold out""#),
        (#"tables.products[event.gone] == null"#, "true"),
        (#"tables.wide.row.a + tables.wide[event.row].h"#, "9"),
        (#"tables.wide[event.row].i.j && tables.wide[event.row][event.k].size() == 0"#, "true"),
        (#"event.k in tables.wide[event.row]"#, "true"),
        (#"has(tables.wide[event.row].z)"#, "false"),
        (#"tables.wide.row.map(key, key).size()"#, "10"),
        (#"event.id in tables.empty || tables.empty.size() > 0"#, "false"),
        // What is not there makes a rule not match; what a row does not have either.
        (#"tables.products[event.other].category"#, "noSuchKey"),
        (#"tables.products["p-9"].category"#, "noSuchKey"),
        (#"has(tables.products[event.other].category)"#, "noSuchKey"),
        (#"tables.products[event.missing].category"#, "noSuchKey"),
        (#"tables.products[event.number].category"#, "noSuchKey"),
        (#"tables.products[event.id].brand == "Acme""#, "noSuchKey"),
        (#"tables.empty[event.id] == 1"#, "noSuchKey"),
        (#"tables.products["p-3"].category"#, "noOverload"),
    ])
    func aTableIsAMap(source: String, expected: String) throws {
        let event = #"{"id": "p-1", "other": "p-9", "number": 5, "empty": "", "gone": "p-4", "row": "row", "k": "k", "fifth": 0.2}"#
        #expect(try Self.evaluate(source, event: event) == expected, "\(source)")
    }

    @Test(arguments: [
        ("tables.prodcts[event.id].category", 1, 8, "products"),
        (#"tables["nothing"][event.id]"#, 1, 7, nil),
        ("true &&\n  tables[event.id].category", 2, 16, nil),
        ("tables == 1", 1, 1, nil),
        ("tables.products[5].category", 1, 17, nil),
        ("tables.products + 1", 1, 17, nil),
    ] as [(String, Int, Int, String?)])
    func aNameIsCheckedWhenItIsCompiled(source: String, line: Int, column: Int, suggestion: String?) throws {
        var compiler = Compiler()
        let environment = try Self.environment(Self.products, &compiler)
        do throws(CompileError) {
            _ = try compiler.add(source, in: environment)
            Issue.record("\(source) compiles")
        } catch {
            #expect(error.line == line && error.column == column, "\(source): \(error.description)")
            if let suggestion { #expect(error.description.contains(suggestion), "\(error.description)") }
        }
    }

    private static func rows(_ count: Int, _ category: (Int) -> String) -> String {
        var text = #"{"products": {"#
        for number in 0..<count {
            text += (number > 0 ? "," : "") + #""p-\#(number)": {"category": "\#(category(number))", "margin": \#(number)}"#
        }
        return text + "}}"
    }

    @Test(arguments: [1, 7, 8, 9, 10, 11, 21, 22, 1000, 10_000])
    func everyRowIsFoundAndNoOther(count: Int) throws {
        var compiler = Compiler()
        let environment = try Self.environment(Self.rows(count) { "c\($0 % 100)" }, &compiler)
        _ = try compiler.add("tables.products[event.id].margin", in: environment)
        _ = try compiler.add("event.id in tables.products", in: environment)
        let program = compiler.finish()
        var evaluator = Evaluator()
        for number in 0..<count + 50 {
            let bindings = ShopBindings(event: #"{"id": "p-\#(number)"}"#)
            evaluator.begin()
            let isThere = try evaluator.evaluate(program, 1, bindings).isTrue
            #expect(isThere == (number < count))
            if isThere {
                let margin = try evaluator.evaluate(program, 0, bindings).intValue
                #expect(margin == Int64(number))
            }
            evaluator.end()
        }
    }

    /// The least time that a condition takes, over some keys of the table.
    private static func nanoseconds(rows count: Int) throws -> Double {
        var compiler = Compiler()
        let environment = try environment(rows(count) { "c\($0 % 100)" }, &compiler)
        _ = try compiler.add("tables.products[event.id].margin >= 0 && !(event.no in tables.products)", in: environment)
        let program = compiler.finish()
        var evaluator = Evaluator()
        let clock = ContinuousClock()
        var least = Double.infinity
        for number in 0..<200 {
            let bindings = ShopBindings(event: #"{"id": "p-\#(number * 7919 % count)", "no": "q-\#(number)"}"#)
            evaluator.begin()
            var isTrue = evaluator.isTrue(program, 0, bindings)
            let time = clock.measure {
                evaluator.begin()
                isTrue = evaluator.isTrue(program, 0, bindings)
            }
            #expect(isTrue)
            least = min(least, Double(time.components.attoseconds) / 1e9)
            evaluator.end()
        }
        return least
    }

    @Test func aLookUpTakesTheSameTimeInALargeTable() throws {
        let (few, many) = (try Self.nanoseconds(rows: 10), try Self.nanoseconds(rows: 10_000))
        // A walk through ten thousand rows would take hundreds of times as long.
        #expect(many < few * 4, "\(few) ns with 10 rows, \(many) ns with 10,000")
    }

    @Test func aLookUpIsCheapInSteps() throws {
        // A million steps would be used up by far fewer walks.
        let source = "event.list.all(x, event.list.all(y, tables.products[\"p-9999\"].margin + tables.products[event.id].margin > 0))"
        let list = Array(repeating: "1", count: 300).joined(separator: ",")
        let result = try Self.evaluate(
            source, event: #"{"id": "p-5000", "list": [\#(list)]}"#, tables: Self.rows(10_000) { "c\($0)" })
        #expect(result == "true")
    }

    @Test func whatIsThereTwiceIsKeptOnce() throws {
        let document = try Self.json(Self.rows(10_000) { "category number \($0 % 10)" })
        let table = try #require(document.member(document.root, "products"))
        // A key (16 + 6), a place in the index (6), a row (16) with two values (32); not the names and categories.
        for (limit, isEnough) in [(700_000, false), (800_000, true)] {
            var compiler = Compiler()
            let isConstant = compiler.constant(document, table, limitBytes: limit) != nil
            #expect(isConstant == isEnough, "\(limit)")
        }
        let same = try Self.json(Self.rows(10_000) { "c\($0)" }.replacing(#/"category": "c\d+", "margin": \d+/#, with: #""a": 1"#))
        let sameTable = try #require(same.member(same.root, "products"))
        var compiler = Compiler()
        let isConstant = compiler.constant(same, sameTable, limitBytes: 460_000) != nil
        #expect(isConstant)
    }
}
