// What libFuzzer calls with each input; see Tools/fuzz. Any answer to a schema and a value is right. A crash, a hang or too
// much memory is not, nor is another answer when the same is said otherwise: `allOf` of one schema, `not` of `not`, a
// `$ref` to it. What is stripped of its faults has none.
//
// The input is a schema and a value, a line each; without a second line the value is the schema itself.

import Formats

@testable import Collection

nonisolated(unsafe) private var schemaDocument = JSONDocument()
nonisolated(unsafe) private var value = JSONDocument()

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let end = input.firstIndex(of: 10) ?? input.count
    let text = Array(input[..<end])
    let instance = end < input.count ? Array(input[(end + 1)...]) : text
    guard parse(text, &schemaDocument), let schema = compile(schemaDocument), parse(instance, &value) else { return 0 }
    let violation = schema.violation(by: value.root, in: value)
    if schema.violation(by: value.root, in: value) != violation { stop(input, "is judged otherwise the second time") }
    if let violation { check(violation, schema, input) }
    // Resources and anchors of their own, and what is left unevaluated, are others inside of another schema.
    if !has(text, #""$"#), !has(text, #""unevaluated"#) { compareForms(text, violation == nil, violation?.keyword, input) }
    if violation != nil, let faulty = schema.strip(value.root, in: value) { checkStripped(schema, faulty, input) }
    return 0
}

private func parse(_ text: [UInt8], _ document: inout JSONDocument) -> Bool {
    do throws(JSONError) {
        try document.parse(text.span, maximumDepth: CollectionLimits.schemaDepth)
        return true
    } catch { return false }
}

private func compile(_ document: borrowing JSONDocument) -> CompiledSchema? {
    var reader = PlanReader()
    let schema = CompiledSchema(document, document.root, &reader)
    return reader.hasErrors ? nil : schema
}

private func has(_ text: [UInt8], _ word: String) -> Bool {
    var start = 0
    while start + word.utf8.count <= text.count {
        if text[start..<start + word.utf8.count].elementsEqual(word.utf8) { return true }
        start += 1
    }
    return false
}

/// A violation can be told: pointers are text, and lead into the value and into the schema.
private func check(_ violation: SchemaViolation, _ schema: CompiledSchema, _ input: [UInt8]) {
    var (rule, place): ([UInt8], [UInt8]) = ([], [])
    schema.appendRulePointer(violation, to: &rule)
    schema.appendValuePointer(violation, in: value, to: &place)
    for pointer in [rule, place] {
        if UTF8Text.firstInvalid(pointer.span) != nil { stop(input, "has a pointer that is no text") }
        if let first = pointer.first, first != UInt8(ascii: "/") { stop(input, "has a pointer that is none") }
    }
    if violation.node.index >= UInt32(value.nodeCount) { stop(input, "is broken outside of the value") }
}

/// The same said otherwise is answered alike, where it may be said at all.
private func compareForms(_ text: [UInt8], _ isRight: Bool, _ keyword: StaticString?, _ input: [UInt8]) {
    // Steps are counted: what takes all of them takes more when there is more around it.
    if keyword?.description == "limit" { return }
    let forms = [
        (#"{"allOf":["#, "]}"), (#"{"not":{"not":"#, "}}"), (#"{"anyOf":[false,"#, "]}"), (#"{"oneOf":["#, ",false]}"),
        (##"{"$ref":"#/$defs/a","$defs":{"a":"##, "}}"), (#"{"if":"#, #","then":true,"else":false}"#),
    ]
    for (before, after) in forms {
        let other = Array(before.utf8) + text + Array(after.utf8)
        guard parse(other, &schemaDocument), let schema = compile(schemaDocument) else { continue }
        let violation = schema.violation(by: value.root, in: value)
        if violation?.keyword.description == "limit" { continue }
        if (violation == nil) != isRight { stop(input, "is judged otherwise as \(before)…\(after)") }
    }
}

/// What is left when the faulty members are taken out is as it should be.
private func checkStripped(_ schema: CompiledSchema, _ faulty: [JSONNode], _ input: [UInt8]) {
    if faulty.isEmpty { stop(input, "is made right by nothing") }
    var writer = JSONWriter()
    write(value.root, without: faulty, to: &writer)
    var rest = JSONDocument()
    do throws(JSONError) { try rest.parse(writer.bytes.span) } catch { stop(input, "is no JSON when it is stripped") }
    if let violation = schema.violation(by: rest.root, in: rest), violation.keyword.description != "limit" {
        stop(input, "breaks \(violation.keyword) when it is stripped: \(String(decoding: writer.bytes, as: UTF8.self))")
    }
}

private func write(_ node: JSONNode, without faulty: [JSONNode], to writer: inout JSONWriter) {
    switch value.kind(node) {
    case .object:
        writer.beginObject()
        var key = value.firstChild(node)
        while let name = key, let member = value.next(name) {
            key = value.next(member)
            if faulty.contains(member) { continue }
            writer.key(value.bytes(name))
            write(member, without: faulty, to: &writer)
        }
        writer.endObject()
    case .array:
        writer.beginArray()
        var element = value.firstChild(node)
        while let next = element {
            write(next, without: faulty, to: &writer)
            element = value.next(next)
        }
        writer.endArray()
    default: writer.value(value, node)
    }
}

private func stop(_ input: [UInt8], _ what: String) -> Never {
    fatalError("the schema \(what): \(String(decoding: input, as: UTF8.self))")
}
