// What libFuzzer calls with each input; see Tools/fuzz. Any answer to an expression is right. A crash, a hang or too much
// memory is not, nor are two ways through the evaluator that disagree.
//
// The first byte chooses how the rest, the expression, is compiled. With several lines they are, one input in four, rules of
// one group, and what the index finds must be what each rule says by itself.

import CEL
import Formats

/// A person and two documents with one value of everything.
private struct Shop: Bindings {
    private let record = Array("DEgold".utf8)
    private let event = Shop.parse(
        #"{"event":"Order Completed","properties":{"revenue":12,"coupon":"SUMMER","items":[{"n":1},{"n":2.5}]}}"#)
    private let context = Shop.parse(#"{"channel":"kiosk","n":-7,"list":["a",1,null,true,"gold"]}"#)

    private static func parse(_ text: String) -> JSONDocument {
        var document = JSONDocument()
        let bytes = Array(text.utf8)
        let span = bytes.span
        do { try document.parse(span) } catch { fatalError("the documents are JSON") }
        return document
    }

    /// A value of a kind that the first byte of the input chooses.
    private func any(into heap: inout Heap) -> Value? {
        switch choice & 15 {
        case 0: return .null
        case 1: return .int(9_007_199_254_740_993)
        case 2: return .uint(7)
        case 3: return .double(-0.0)
        case 4: return heap.string("kiosk")
        case 5: return .bool(false)
        case 6:
            heap.beginMap()
            heap.append(heap.string("gold"))
            heap.append(.null)
            return heap.endMap()
        case 7, 8:
            heap.beginList()
            heap.append(.int(1))
            for _ in 0..<(choice & 15 == 7 ? 1 : 500) { heap.append(heap.string("gold")) }
            return heap.endList()
        case 9: return .double(.infinity)
        case 10: return .duration(milliseconds: 1)
        case 11: return .timestamp(milliseconds: -1)
        default: return nil
        }
    }

    var choice: UInt8 = 0
    var region: Span<UInt8> { @_lifetime(borrow self) get { record.span } }
    func document(_ number: Int) -> JSONDocument? { number == 0 ? event : context }

    func load(_ slot: Int, into heap: inout Heap) -> Value? {
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
        case 7: return .duration(milliseconds: 60_000)
        case 8: return .uint(.max)
        case 9: return .int(.min)
        case 10: return .double(.nan)
        case 13: return any(into: &heap)
        default: return nil
        }
    }

    static let environment: Environment = {
        var environment = Environment()
        let fields: [(String, Type)] = [
            ("orders", .int), ("ltv", .double), ("country", .string), ("vip", .bool), ("tags", .list(.string)),
            ("categories", .map(.string, .int)), ("seen", .timestamp), ("age", .duration), ("big", .uint), ("low", .int),
            ("nan", .double), ("never", .string), ("none", .int), ("any", .dyn),
        ]
        var record: [Environment.Field] = []
        for (slot, field) in fields.enumerated() { record.append(Environment.Field(field.0, field.1, slot: slot)) }
        environment.declareRecord("profile", record)
        environment.declare("now", .timestamp, slot: 6)
        environment.declareDocument("event", number: 0)
        environment.declareDocument("context", number: 1)
        return environment
    }()
}

nonisolated(unsafe) private var shop = Shop()
nonisolated(unsafe) private var evaluator = Evaluator()

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let text = Array(UnsafeBufferPointer(start: start, count: count))
    var environment = Shop.environment
    environment.checksTypes = text[0] & 1 == 0
    if text[0] & 2 != 0 { environment.container = Array("profile".utf8) }
    shop.choice = text[0] >> 2
    let lines = text[1...].split(separator: 10, maxSplits: 40).map { Array($0) }
    for line in lines { evaluate(line, environment) }
    if lines.count > 1, text[0] >> 6 == 0 { compareIndex(lines, environment) }
    return 0
}

/// Compiles and evaluates one expression, writes its value, and holds the quick way through a condition against the general
/// one.
private func evaluate(_ source: [UInt8], _ environment: Environment) {
    var compiler = Compiler()
    guard let expression = try? compiler.add(source, in: environment) else { return }
    // An element of a list is no condition, and is evaluated by general code.
    let general = Array("[".utf8) + source + Array("\n][0]".utf8)
    let hasGeneral = expression.type == .bool && (try? compiler.add(general, in: environment)) != nil
    let program = compiler.finish()
    evaluator.begin()
    let value = try? evaluator.evaluate(program, 0, shop)
    if let value {
        var writer = JSONWriter()
        evaluator.write(value, to: &writer, program, shop)
    }
    guard hasGeneral else { return evaluator.end() }
    let isTrue = evaluator.isTrue(program, 0, shop)
    evaluator.begin()
    do {
        let other = try evaluator.evaluate(program, 1, shop)
        if other.isTrue != isTrue || value?.isTrue != other.isTrue { stop(source, "by its condition, and not so by code") }
    } catch where error.reason != .costLimit && error.reason != .memoryLimit {
        if isTrue || value != nil { stop(source, "by its condition; code fails") }
    } catch {}
    evaluator.end()
}

/// Rules as a group with an index, and one by one.
private func compareIndex(_ lines: [[UInt8]], _ environment: Environment) {
    var grouped = Compiler()
    var single = Compiler()
    grouped.beginGroup()
    for turn in 0..<24 {
        let line = lines[turn % lines.count]
        guard (try? grouped.add(line, in: environment, expecting: .condition)) != nil else { continue }
        _ = try? single.add(line, in: environment, expecting: .condition)
    }
    let groupedProgram = grouped.finish()
    let singleProgram = single.finish()
    var (found, expected, failures): ([Int], [Int], Int) = ([], [], 0)
    evaluator.begin()
    evaluator.forEachTrue(groupedProgram, in: 0..<groupedProgram.count, shop, failures: &failures) { found.append($0) }
    evaluator.begin()
    for number in 0..<singleProgram.count where evaluator.isTrue(singleProgram, number, shop) { expected.append(number) }
    evaluator.end()
    if found != expected { stop(lines.flatMap { $0 + [10] }, "\(found) by the index, \(expected) one by one") }
}

private func stop(_ source: [UInt8], _ what: String) -> Never {
    fatalError("true \(what): \(String(decoding: source, as: UTF8.self))")
}
