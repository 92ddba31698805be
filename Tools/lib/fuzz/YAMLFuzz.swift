// What libFuzzer calls with each input; see Tools/fuzz. Any answer to a text is right. A crash, a hang or too much memory
// is not, nor is a document that reads differently after it has been written as JSON, whether libyaml reads that or our own
// parser, or an error outside of the text.
//
// The first byte chooses how deep the rest, the text, may be.

import Formats

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 0 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let text = Array(input[1...])
    let depth = input[0] & 1 == 0 ? Limits.jsonDepth : Int(input[0] >> 3)
    guard let document = parse(text, depth) else { return 0 }
    let written = write(document)
    for index in 0..<document.nodeCount { check(document, JSONNode(index: UInt32(index)), text) }
    // As JSON by our own parser.
    var other = JSONDocument()
    do throws(JSONError) {
        try other.parse(written.span, maximumDepth: depth, duplicateKeys: .refused)
    } catch { stop(text, "is written as no JSON: \(error.message)") }
    if write(other) != written { stop(text, "is another document as JSON") }
    // The same by libyaml, which the line of a comment leads to; what JSON can say and libyaml not, it refuses. It goes by
    // YAML 1.1, where a line may end with U+0085, U+2028 or U+2029 inside of a text too.
    if hasOtherLineEnds(written) { return 0 }
    if let third = parse(Array("# YAML\n".utf8) + written, Limits.jsonDepth), write(third) != written {
        stop(text, "is another document as JSON that is read as YAML")
    }
    return 0
}

private func hasOtherLineEnds(_ text: [UInt8]) -> Bool {
    let ends: [[UInt8]] = [[0xC2, 0x85], [0xE2, 0x80, 0xA8], [0xE2, 0x80, 0xA9]]
    for start in text.indices {
        for end in ends where text[start...].starts(with: end) { return true }
    }
    return false
}

/// nil for what is refused; the refusal is held against the text.
private func parse(_ text: [UInt8], _ depth: Int) -> JSONDocument? {
    do throws(YAMLError) {
        let document = try YAML.parse(text.span, maximumDepth: depth)
        return document
    } catch {
        if error.message.isEmpty { stop(text, "is refused for no reason") }
        // libyaml counts some white space of Unicode as the end of a line.
        let lines = text.count { $0 == 10 || $0 == 13 || $0 >= 0x80 }
        if error.position.line < 1 || error.position.column < 1 || Int(error.position.line) > lines + 2 {
            stop(text, "fails outside of itself, in line \(error.position.line)")
        }
        return nil
    }
}

private func write(_ document: borrowing JSONDocument) -> [UInt8] {
    var writer = JSONWriter()
    writer.value(document, document.root)
    return writer.bytes
}

private func check(_ document: borrowing JSONDocument, _ node: JSONNode, _ text: [UInt8]) {
    _ = document.pointer(to: node)
    let position = document.position(node)
    if position.line < 1 || position.column < 1 || Int(position.line) > text.count + 1 {
        stop(text, "has a value in line \(position.line)")
    }
    let bytes = Array(copying: document.bytes(node))
    switch document.kind(node) {
    case .integer, .number:
        guard let double = document.double(node), double.isFinite else { return stop(text, "has a number without a value") }
        if double.bitPattern != Double(String(decoding: bytes, as: UTF8.self))?.bitPattern {
            stop(text, "has another number")
        }
    case .string:
        if Array(String(decoding: bytes, as: UTF8.self).utf8) != bytes { stop(text, "has a string that is not UTF-8") }
    default: break
    }
}

private func stop(_ text: [UInt8], _ what: String) {
    fatalError("the text \(what): \(String(decoding: text, as: UTF8.self))")
}
