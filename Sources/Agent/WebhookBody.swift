// The body of a webhook as the bundle writes it: JSON with expressions in `${…}`, compiled with the bundle's other rules. In a
// text, `${…}` outside quotes is a JSON value and inside quotes a part of the text; in a map, a text that is nothing but
// `${…}` is the value itself. So what comes out is JSON, whatever the values are.

import Activation
import CEL
import Formats
import Unification

struct WebhookBody: Sendable {
    enum Piece: Sendable {
        case text([UInt8])
        /// An expression of the policy's program, as a JSON value or within quotes.
        case value(Int)
        case part(Int)
    }

    private(set) var pieces: [Piece] = []
    /// What the expressions read.
    private(set) var slots: [Int] = []
    /// The text since the last expression.
    private var plain: [UInt8] = []

    /// - Returns: nil when something is wrong, which is reported.
    init?(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ environment: Environment, _ compiler: inout Compiler,
        _ reader: inout PlanReader
    ) {
        let before = reader.problems.count
        if document.kind(node) == .string {
            let text = [UInt8](copying: document.bytes(node))
            read(text, document, node, isText: nil, environment, &compiler, &reader)
        } else {
            readValue(document, node, environment, &compiler, &reader)
        }
        if !plain.isEmpty { pieces.append(.text(plain)) }
        plain = []
        guard reader.problems.count == before else { return nil }
        var sample: [UInt8] = []
        for piece in pieces {
            switch piece {
            case .text(let text): sample.append(contentsOf: text)
            case .value: sample.append(UInt8(ascii: "0"))
            case .part: break
            }
        }
        var parsed = JSONDocument()
        do throws(JSONError) { try parsed.parse(sample.span) } catch {
            reader.report(document, node, "the body is not JSON, whatever stands for ${…}")
            return nil
        }
    }

    private mutating func readValue(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ environment: Environment, _ compiler: inout Compiler,
        _ reader: inout PlanReader
    ) {
        let kind = document.kind(node)
        if kind == .string {
            let text = [UInt8](copying: document.bytes(node))
            let isWhole = text.starts(with: WebhookBody.opening) && WebhookBody.end(of: text, from: 2) == text.count - 1
            if !isWhole { plain.append(UInt8(ascii: "\"")) }
            read(text, document, node, isText: !isWhole, environment, &compiler, &reader)
            if !isWhole { plain.append(UInt8(ascii: "\"")) }
            return
        }
        guard kind == .object || kind == .array else {
            var writer = JSONWriter()
            writer.value(document, node)
            plain.append(contentsOf: writer.bytes)
            return
        }
        plain.append(UInt8(ascii: kind == .object ? "{" : "["))
        var isFirst = true
        var child = document.firstChild(node)
        while let element = child {
            if !isFirst { plain.append(UInt8(ascii: ",")) }
            isFirst = false
            var value = element
            if kind == .object {
                WebhookBody.append(document.bytes(element), isQuoted: true, to: &plain)
                plain.append(UInt8(ascii: ":"))
                value = document.next(element) ?? element
            }
            readValue(document, value, environment, &compiler, &reader)
            child = document.next(value)
        }
        plain.append(UInt8(ascii: kind == .object ? "}" : "]"))
    }

    private static let opening = Array("${".utf8)

    /// - Parameter isText: whether it is the inside of a text, whose signs are yet to be escaped; nil: JSON, whose quotes say it.
    private mutating func read(
        _ text: [UInt8], _ document: borrowing JSONDocument, _ node: JSONNode, isText: Bool?, _ environment: Environment,
        _ compiler: inout Compiler, _ reader: inout PlanReader
    ) {
        var isQuoted = isText ?? false
        var index = 0
        while index < text.count {
            let byte = text[index]
            if byte == UInt8(ascii: "$"), index + 1 < text.count, text[index + 1] == UInt8(ascii: "{") {
                guard let end = WebhookBody.end(of: text, from: index + 2) else {
                    return reader.report(document, node, "this ${ has no }")
                }
                compile(Array(text[index + 2..<end]), isQuoted, document, node, environment, &compiler, &reader)
                index = end + 1
                continue
            }
            if isText == true {
                var next = index + 1
                while next < text.count, text[next] != UInt8(ascii: "$") { next += 1 }
                WebhookBody.append(text.span.extracting(index..<next), isQuoted: false, to: &plain)
                index = next
                continue
            }
            if byte == UInt8(ascii: "\"") { isQuoted.toggle() }
            plain.append(byte)
            index += 1
            if byte == UInt8(ascii: "\\"), index < text.count {
                plain.append(text[index])
                index += 1
            }
        }
    }

    private mutating func compile(
        _ source: [UInt8], _ isQuoted: Bool, _ document: borrowing JSONDocument, _ node: JSONNode, _ environment: Environment,
        _ compiler: inout Compiler, _ reader: inout PlanReader
    ) {
        do throws(CompileError) {
            let expression = try compiler.add(source, in: environment)
            slots.append(contentsOf: expression.slots)
            if !plain.isEmpty { pieces.append(.text(plain)) }
            plain = []
            pieces.append(isQuoted ? .part(expression.number) : .value(expression.number))
        } catch {
            reader.report(document, node, "in ${" + String(copying: source.span) + "}, " + error.description)
        }
    }

    /// Where the brace is that ends an expression: one that stands in no text and closes no brace of the expression itself.
    private static func end(of text: [UInt8], from start: Int) -> Int? {
        var depth = 0
        var quote: UInt8 = 0
        var index = start
        while index < text.count {
            let byte = text[index]
            if quote != 0 {
                if byte == UInt8(ascii: "\\") { index += 1 } else if byte == quote { quote = 0 }
            } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
                quote = byte
            } else if byte == UInt8(ascii: "{") {
                depth += 1
            } else if byte == UInt8(ascii: "}") {
                if depth == 0 { return index }
                depth -= 1
            }
            index += 1
        }
        return nil
    }

    /// Appends a text as it stands in JSON, with its quotes or without.
    static func append(_ text: Span<UInt8>, isQuoted: Bool, to body: inout [UInt8]) {
        var writer = JSONWriter()
        writer.string(text)
        body.append(contentsOf: isQuoted ? writer.bytes[...] : writer.bytes[1..<writer.bytes.count - 1])
    }

    /// Appends a value within quotes: a text as it is, anything else as its JSON, nothing for null.
    static func append(part value: [UInt8], to body: inout [UInt8]) {
        if value.first == UInt8(ascii: "\"") {
            body.append(contentsOf: value[1..<value.count - 1])
        } else if value != Array("null".utf8) {
            append(value.span, isQuoted: false, to: &body)
        }
    }
}
