// Measures the evaluator as it ships beside hand-written C, in turns, and prints one JSON line for each workload:
// nanoseconds a decision (medians over rounds), how many rules are true, and calls of malloc. See Tools/bench.
// Usage: CELBench FOLDER ROUNDS NANOSECONDS [NAME], with the files that cel.py writes in FOLDER; NAME is the one workload to
// be measured.

import CEL
import CReference
import Formats
import Platform

/// A person whose texts lie in a record, and a question's context.
struct Person: ~Copyable, Bindings {
    private let record: [UInt8] = Array("DESH-016vipnewslettersale".utf8)
    private let context: JSONDocument
    private let person: UnsafePointer<person>

    init() {
        person = UnsafePointer(reference_person())
        context = Person.parse(#"{"targetingKey":"u-1","channel":"kiosk-19","cart":{"value":89.9,"items":3}}"#)
    }

    private static func parse(_ text: String) -> JSONDocument {
        var document = JSONDocument()
        let bytes = Array(text.utf8)
        let span = bytes.span
        do throws(JSONError) { try document.parse(span) } catch { stop(error.message) }
        return document
    }

    var region: Span<UInt8> { @_lifetime(borrow self) get { record.span } }
    func document(_ number: Int) -> JSONDocument? { context }

    func load(_ slot: Int, into heap: inout Heap) -> Value? {
        switch slot {
        case 0: return .string(inRegion: 0, length: 2)
        case 1: return .string(inRegion: 2, length: 6)
        case 2: return .int(person.pointee.orders)
        case 3: return .int(person.pointee.segment)
        case 4: return .double(person.pointee.ltv)
        case 5: return .double(person.pointee.churn)
        case 6: return .bool(person.pointee.is_subscriber != 0)
        case 7:
            heap.beginList()
            heap.append(inRegion: 8, length: 3)
            heap.append(inRegion: 11, length: 10)
            heap.append(inRegion: 21, length: 4)
            return heap.endList()
        default:
            heap.beginList()
            for number in 0..<100 { heap.append(.int(Int64(number))) }
            return heap.endList()
        }
    }

    static var environment: Environment {
        var environment = Environment()
        let names: [(String, Type)] = [
            ("country", .string), ("store", .string), ("orders", .int), ("segment", .int), ("ltv", .double),
            ("churn_score", .double), ("is_subscriber", .bool), ("tags", .list(.string)), ("numbers", .list(.int)),
        ]
        for (slot, name) in names.enumerated() { environment.declare(name.0, name.1, slot: slot) }
        environment.declareDocument("context", number: 0)
        return environment
    }
}

func stop(_ message: String) -> Never {
    Process.standardError(message + "\n")
    Process.exit(1)
}

/// One program, and how often its rules are true of the person.
struct Workload: ~Copyable {
    let name: String
    let program: Program
    /// The rules of the reference: a set and a count, or an expression.
    let set: UInt32
    let count: UInt32

    init(_ name: String, _ sources: [String], set: UInt32, count: UInt32) {
        self.name = name
        self.set = set
        self.count = count
        var compiler = Compiler()
        let environment = Person.environment
        compiler.beginGroup()
        for source in sources {
            do throws(CompileError) {
                _ = try compiler.add(source, in: environment, expecting: .condition)
            } catch { stop(error.description) }
        }
        program = compiler.finish()
    }

    /// Few enough that they are tried one by one, and without a part that is evaluated once a decision.
    var isTried: Bool { (set < 2) && count <= 10 }

    func reference() -> Int {
        set == 3 ? Int(reference_expression(reference_person(), count))
            : Int(reference_rules(reference_person(), set, count))
    }
}

/// One decision, as an agent makes it: all rules that are true are counted. `isLoaded`: what it needs of the person has
/// been loaded, and stands in the evaluator as it stands in the reference's typed fields.
@inline(never)
func decide(
    _ program: borrowing Program, _ evaluator: inout Evaluator, _ person: borrowing Person, isLoaded: Bool
) -> Int {
    var (matches, failures) = (0, 0)
    if !isLoaded { evaluator.begin() }
    evaluator.forEachTrue(program, in: 0..<program.count, person, failures: &failures) { _ in matches += 1 }
    if !isLoaded { evaluator.end() }
    return matches
}

let clock = SystemClock()

/// Nanoseconds a call of the reference, over at least `nanoseconds`.
func time(_ nanoseconds: Int64, _ workload: borrowing Workload) -> Double {
    var turns = 1
    while true {
        let begin = clock.monotonicNanoseconds()
        for _ in 0..<turns { _ = workload.reference() }
        let taken = clock.monotonicNanoseconds() - begin
        if taken >= nanoseconds { return Double(taken) / Double(turns) }
        turns = more(turns, taken, nanoseconds)
    }
}

/// How many turns will take long enough, where `turns` took `taken`.
func more(_ turns: Int, _ taken: Int64, _ nanoseconds: Int64) -> Int {
    max(turns * 2, Int(Double(turns) * Double(nanoseconds) / Double(max(taken, 1)) * 1.1))
}

/// The same for a decision.
func time(
    _ nanoseconds: Int64, _ program: borrowing Program, _ evaluator: inout Evaluator, _ person: borrowing Person,
    isLoaded: Bool
) -> Double {
    var turns = 1
    while true {
        let begin = clock.monotonicNanoseconds()
        for _ in 0..<turns { _ = decide(program, &evaluator, person, isLoaded: isLoaded) }
        let taken = clock.monotonicNanoseconds() - begin
        if taken >= nanoseconds { return Double(taken) / Double(turns) }
        turns = more(turns, taken, nanoseconds)
    }
}

func median(_ values: [Double]) -> Double {
    var sorted = values
    sorted.sort { $0 < $1 }
    return sorted[sorted.count / 2]
}

func measure(_ workload: borrowing Workload, rounds: Int, nanoseconds: Int64, _ person: borrowing Person) {
    var evaluator = Evaluator()
    let matches = decide(workload.program, &evaluator, person, isLoaded: false)
    // Once more, so that everything has its size.
    _ = decide(workload.program, &evaluator, person, isLoaded: false)
    let before = reference_allocations()
    for _ in 0..<100 { _ = decide(workload.program, &evaluator, person, isLoaded: false) }
    let allocations = reference_allocations() - before
    var (own, loaded, others): ([Double], [Double], [Double]) = ([], [], [])
    for _ in 0..<rounds {
        others.append(time(nanoseconds, workload))
        own.append(time(nanoseconds, workload.program, &evaluator, person, isLoaded: false))
        // What is looked up in an index is known once it is loaded: there is nothing to measure.
        if workload.isTried { loaded.append(time(nanoseconds, workload.program, &evaluator, person, isLoaded: true)) }
    }
    var writer = JSONWriter()
    writer.beginObject()
    writer.key("what")
    writer.string(workload.name)
    writer.key("ns")
    writer.double(median(own))
    if workload.isTried {
        writer.key("loaded")
        writer.double(median(loaded))
    }
    writer.key("c")
    writer.double(median(others))
    writer.key("matches")
    writer.int(Int64(matches))
    writer.key("cMatches")
    writer.int(Int64(workload.reference()))
    writer.key("allocations")
    writer.int(Int64(allocations))
    writer.endObject()
    Process.standardOutput(String(decoding: writer.bytes, as: UTF8.self) + "\n")
}

func lines(_ path: String) -> [String] {
    do throws(SystemError) {
        let text = try Files.read(path, limitBytes: 16 << 20)
        return text.split(separator: 10).map { String(decoding: $0, as: UTF8.self) }
    } catch { stop(path + ": " + error.message) }
}

func run() {
    let arguments = Process.arguments
    guard arguments.count >= 4, let rounds = Int(arguments[2]), let nanoseconds = Int64(arguments[3]) else {
        stop("usage: CELBench FOLDER ROUNDS NANOSECONDS [NAME]")
    }
    let person = Person()
    let expressions = [
        "orders > 5", "ltv > 100.0 && orders >= 3", "numbers.exists(x, x == 99)", "country == 'DE'",
        "store.startsWith('SH-')", "store.matches('^[A-Z]{2}-[0-9]{3}$')",
    ]
    let only = arguments.count > 4 ? arguments[4] : nil
    for (number, source) in expressions.enumerated() where only == nil || only == source {
        let workload = Workload(source, [source], set: 3, count: UInt32(number))
        measure(workload, rounds: rounds, nanoseconds: nanoseconds, person)
    }
    for count in [1, 10, 100, 1000] where only == nil || only == "\(count) common rules" {
        let sources = lines(arguments[1] + "/common_\(count).txt")
        for (set, note) in [(UInt32(0), ""), (1, ", C compares texts")] {
            let workload = Workload("\(count) common rules" + note, sources, set: set, count: UInt32(count))
            measure(workload, rounds: rounds, nanoseconds: nanoseconds, person)
        }
    }
    for count in [100, 1000, 10_000] where only == nil || only == "\(count) selective rules" {
        let sources = lines(arguments[1] + "/selective_\(count).txt")
        let workload = Workload("\(count) selective rules", sources, set: 2, count: UInt32(count))
        measure(workload, rounds: rounds, nanoseconds: nanoseconds, person)
    }
}

run()
