// Measures as it ships what holding an event's properties against a compiled schema costs, and looking whether its fields are
// as usual; and counts the allocations.
// Usage: SchemaBench NANOSECONDS, the time for each round of each workload. Exit code 1 if one allocates. See Tools/bench.

import CReference
import Collection
import Formats
import Platform

struct Workload {
    let name: StaticString
    let schema: StaticString
    let event: StaticString
}

let order: StaticString = """
    {"order_id":"A-104233","total":129.9,"currency":"EUR","items":3,"coupon":"SUMMER","channel":"web","country":"DE",
     "is_first":false,"discount":0.05,"customer_note":"please ring twice"}
    """
let workloads = [
    Workload(
        name: "ten properties, typed and bounded",
        schema: """
            {"type":"object","required":["order_id","total","currency"],"additionalProperties":false,"properties":{
             "order_id":{"type":"string","maxLength":40},"total":{"type":"number","minimum":0},
             "currency":{"enum":["EUR","USD","GBP","CHF"]},"items":{"type":"integer","minimum":1},
             "coupon":{"type":"string"},"channel":{"enum":["web","app","kiosk"]},
             "country":{"type":"string","minLength":2,"maxLength":2},"is_first":{"type":"boolean"},
             "discount":{"type":"number","maximum":1},"customer_note":{"type":["string","null"],"maxLength":500}}}
            """, event: order),
    Workload(
        name: "the same with two patterns, multipleOf and allOf",
        schema: """
            {"type":"object","allOf":[{"required":["order_id","total","currency"]}],"properties":{
             "order_id":{"pattern":"^[A-Z]-[0-9]{1,9}$"},"total":{"type":"number","multipleOf":0.01},
             "currency":{"pattern":"^[A-Z]{3}$"},"items":{"type":"integer","minimum":1},
             "coupon":{"type":"string"},"channel":{"enum":["web","app","kiosk"]},
             "country":{"type":"string","minLength":2,"maxLength":2},"is_first":{"type":"boolean"},
             "discount":{"type":"number","maximum":1},"customer_note":{"type":["string","null"],"maxLength":500}},
             "unevaluatedProperties":false}
            """, event: order),
]

func parsed(_ text: StaticString) -> JSONDocument {
    var document = JSONDocument()
    do throws(JSONError) { try document.parse(text.bytes) } catch { preconditionFailure("a workload is no JSON") }
    return document
}

func compiled(_ text: StaticString) -> CompiledSchema {
    let document = parsed(text)
    var reader = PlanReader()
    let schema = CompiledSchema(document, document.root, &reader)
    precondition(reader.problems.isEmpty, "a workload's schema is wrong")
    return schema
}

let clock = SystemClock()

/// Nanoseconds of one validation, the best of nine rounds, and allocations of all.
func measure(_ workload: Workload, _ nanoseconds: Int64) -> (nanoseconds: Double, allocations: UInt64) {
    let schema = compiled(workload.schema)
    let event = parsed(workload.event)
    precondition(schema.violation(by: event.root, in: event) == nil, "a workload's event is not valid")
    var best = Double.infinity
    let allocations = reference_allocations()
    for _ in 0..<9 {
        var count: Int64 = 0
        let begin = clock.monotonicNanoseconds()
        var taken: Int64 = 0
        while taken < nanoseconds {
            for _ in 0..<1000 where schema.violation(by: event.root, in: event) != nil { count += 1_000_000 }
            count += 1000
            taken = clock.monotonicNanoseconds() - begin
        }
        best = min(best, Double(taken) / Double(count))
    }
    return (best, reference_allocations() - allocations)
}

/// Nanoseconds of one event's way through the watch over its fields, and allocations of all.
/// - Parameter fields: of properties beside the ten; each number in turn.
func measureDrift(_ fields: [StaticString], _ nanoseconds: Int64) -> (nanoseconds: Double, allocations: UInt64) {
    var events: [JSONDocument] = []
    for more in fields {
        var text: [UInt8] = []
        text.append(contentsOf: order.bytes)
        text.removeLast()
        text.append(contentsOf: more.bytes)
        text.append(UInt8(ascii: "}"))
        var document = JSONDocument()
        let span = text.span
        do throws(JSONError) { try document.parse(span) } catch { preconditionFailure("a workload is no JSON") }
        events.append(document)
    }
    var drift = SchemaDrift(TrackingPlan(everythingFor: 0))
    for _ in 0..<1000 {
        for event in events { drift.look(0, event, event.root) }
    }
    precondition(drift.reports.isEmpty, "a workload is unusual")
    var best = Double.infinity
    let allocations = reference_allocations()
    for _ in 0..<9 {
        var count: Int64 = 0
        let begin = clock.monotonicNanoseconds()
        var taken: Int64 = 0
        while taken < nanoseconds {
            for _ in 0..<250 {
                for event in events { drift.look(0, event, event.root) }
            }
            count += 250 * Int64(events.count)
            taken = clock.monotonicNanoseconds() - begin
        }
        best = min(best, Double(taken) / Double(count))
    }
    return (best, reference_allocations() - allocations)
}

let nanoseconds = Process.arguments.count > 1 ? Int64(Process.arguments[1]) ?? 1_000_000 : 1_000_000
var isAllocating = false
for workload in workloads {
    let result = measure(workload, nanoseconds)
    Process.standardOutput("\(workload.name): \(Int(result.nanoseconds)) ns, \(result.allocations) allocations\n")
    if result.allocations > 0 { isAllocating = true }
}
let alike = measureDrift(["", "", "", ""], nanoseconds)
let different = measureDrift(
    ["", ",\"a\":1", ",\"a\":1,\"b\":2", ",\"a\":1,\"b\":2,\"c\":3", ",\"a\":1,\"b\":2,\"c\":3,\"d\":4",
     ",\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5"], nanoseconds)
Process.standardOutput(
    "fields as usual, one event in 16 looked at: \(Int(alike.nanoseconds)) ns, \(alike.allocations) allocations\n")
Process.standardOutput(
    "10 to 15 fields, five events in six looked at: \(Int(different.nanoseconds)) ns, \(different.allocations) allocations\n")
if alike.allocations + different.allocations > 0 { isAllocating = true }
Process.exit(isAllocating ? 1 : 0)
