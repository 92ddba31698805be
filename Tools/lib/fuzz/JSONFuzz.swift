// What libFuzzer calls with each input; see Tools/fuzz. Any answer to a text is right. A crash, a hang or too much memory is
// not, nor is a document that reads differently after it has been written, one that is put together otherwise than it would be
// parsed, or a number that Swift reads differently.
//
// The first byte chooses how the rest, the text, is parsed.

@testable import Formats

nonisolated(unsafe) private var document = JSONDocument()
nonisolated(unsafe) private var builder = JSONBuilder()
nonisolated(unsafe) private var built = JSONDocument()
nonisolated(unsafe) private var other = JSONDocument()

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 0 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let text = Array(input[1...])
    let depth = input[0] & 1 == 0 ? Limits.jsonDepth : Int(input[0] >> 4)
    let values = input[0] & 2 == 0 ? Limits.jsonValues : Int(input[0] >> 2)
    let duplicates = input[0] & 4 == 0 ? DuplicateKeys.lastWins : .refused
    let error = parse(text, into: &document, depth, values, duplicates)
    // A document of before must not show through.
    var fresh = JSONDocument()
    if parse(text, into: &fresh, depth, values, duplicates) != error { stop(text, "fails differently the second time") }
    if let error {
        check(error, text, depth, values, duplicates)
        return 0
    }
    let written = write(document)
    if write(fresh) != written { stop(text, "is another document the second time") }
    if parse(written, into: &other, depth, Limits.jsonValues, .refused) != nil { stop(text, "is written as no JSON") }
    if write(other) != written { stop(text, "is another document when written and read") }
    copy(document.root)
    if builder.text != written { stop(text, "is put together as another text") }
    builder.finish(into: &built)
    if built.text != other.text || !built.nodes.elementsEqual(other.nodes, by: areSame) {
        stop(text, "is put together otherwise than it is parsed")
    }
    if duplicates == .refused {
        if parse(text, into: &other, depth, values, .lastWins) != nil || write(other) != written {
            stop(text, "has keys twice after all")
        }
    }
    for index in 0..<document.nodeCount { check(JSONNode(index: UInt32(index)), text) }
    return 0
}

private func parse(
    _ text: [UInt8], into document: inout JSONDocument, _ depth: Int, _ values: Int, _ duplicates: DuplicateKeys
) -> JSONError? {
    let span = text.span
    do throws(JSONError) {
        try document.parse(span, maximumDepth: depth, maximumValues: values, duplicateKeys: duplicates)
        return nil
    } catch { return error }
}

/// Puts a value of the document together once more.
private func copy(_ node: JSONNode) {
    let kind = document.kind(node)
    guard kind == .object || kind == .array else { return builder.scalar(document, node) }
    if kind == .object { builder.beginObject() } else { builder.beginArray() }
    var child = document.firstChild(node)
    while let next = child {
        if kind == .object {
            builder.key(document, next)
            child = document.next(next)
        }
        guard let value = child else { break }
        copy(value)
        child = document.next(value)
    }
    if kind == .object { builder.endObject() } else { builder.endArray() }
}

private func areSame(_ left: JSONDocument.Node, _ right: JSONDocument.Node) -> Bool {
    left.head == right.head && left.offset == right.offset && left.length == right.length && left.next == right.next
}

private func write(_ document: JSONDocument) -> [UInt8] {
    var writer = JSONWriter()
    writer.value(document, document.root)
    return writer.bytes
}

/// An error points into the text, and a limit that was not asked for does not appear.
private func check(_ error: JSONError, _ text: [UInt8], _ depth: Int, _ values: Int, _ duplicates: DuplicateKeys) {
    if error.offset < 0 || error.offset > text.count { stop(text, "fails outside of itself") }
    if document.kind(document.root) != .null { stop(text, "leaves a value behind its error") }
    switch error.kind {
    case .tooDeep where depth > text.count, .tooManyValues where values > text.count, .tooLong, .tooManyChildren:
        stop(text, "is beyond a limit that it cannot reach")
    case .duplicateKey where duplicates == .lastWins: stop(text, "has a key twice, which is allowed")
    default: break
    }
}

/// Everything that can be asked of a value or a key.
private func check(_ node: JSONNode, _ text: [UInt8]) {
    _ = document.pointer(to: node)
    let position = document.position(node)
    if position.line < 1 || position.column < 1 { stop(text, "has a value at \(position.description)") }
    let source = Array(copying: document.source(node))
    switch document.kind(node) {
    case .integer, .number:
        let number = String(decoding: source, as: UTF8.self)
        guard let double = document.double(node), double.isFinite else { return stop(text, "has a number without a value") }
        if double.bitPattern != Double(number)?.bitPattern { stop(text, "has another number than \(number): \(double)") }
        if document.kind(node) == .integer, document.int64(node) != Int64(number) { stop(text, "has another integer") }
        var writer = JSONWriter()
        writer.double(double)
        let back = writer.bytes.span
        if parseDouble(back)?.bitPattern != double.bitPattern { stop(text, "has a double that is written differently") }
    case .string:
        let bytes = Array(copying: document.bytes(node))
        if Array(String(decoding: bytes, as: UTF8.self).utf8) != bytes { stop(text, "has a string that is not UTF-8") }
        if parse(source, into: &other, 1, 10, .refused) != nil { stop(text, "has a string whose source is none") }
        if Array(copying: other.bytes(other.root)) != bytes { stop(text, "has a string whose source is another") }
    case .array, .object:
        if parse(source, into: &other, Limits.jsonDepth, Limits.jsonValues, .lastWins) != nil {
            stop(text, "has a container whose source is none")
        }
    case .bool, .null:
        if (document.kind(node) == .bool) != (document.bool(node) != nil) { stop(text, "has a word of no kind") }
    }
}

private func stop(_ text: [UInt8], _ what: String) {
    fatalError("the text \(what): \(String(decoding: text, as: UTF8.self))")
}
