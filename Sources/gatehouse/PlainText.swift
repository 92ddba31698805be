// JSON as a person reads it on a terminal. What is in it may come from anybody, so nothing of it reaches the terminal as a
// control character.

import Formats

enum PlainText {
    /// Appends an object's members or an array's elements, a line each; what holds only plain values stays on one line.
    static func append(_ document: borrowing JSONDocument, _ node: JSONNode, indent: Int = 0, to output: inout [UInt8]) {
        let isObject = document.kind(node) == .object
        var child = document.firstChild(node)
        while let first = child {
            for _ in 0..<indent { output.append(0x20) }
            var value = first
            if isObject {
                text(document.bytes(first), to: &output)
                output.append(UInt8(ascii: ":"))
                guard let member = document.next(first) else { return }
                value = member
            } else {
                output.append(UInt8(ascii: "-"))
            }
            child = document.next(value)
            if isPlain(document, value) {
                output.append(0x20)
                line(document, value, to: &output)
                output.append(0x0A)
            } else {
                output.append(0x0A)
                append(document, value, indent: indent + 2, to: &output)
            }
        }
    }

    /// A value and, of a container, the plain values in it: `a, b` or `key value, key value`.
    static func line(_ document: borrowing JSONDocument, _ node: JSONNode, to output: inout [UInt8]) {
        let kind = document.kind(node)
        guard kind == .object || kind == .array else { return scalar(document, node, to: &output) }
        var child = document.firstChild(node)
        if child == nil { output += Array("none".utf8) }
        while let first = child {
            var value = first
            if kind == .object, let member = document.next(first) {
                text(document.bytes(first), to: &output)
                output.append(0x20)
                value = member
            }
            scalar(document, value, to: &output)
            child = document.next(value)
            if child != nil { output += [UInt8(ascii: ","), 0x20] }
        }
    }

    /// Whether there is nothing in it that needs lines of its own.
    private static func isPlain(_ document: borrowing JSONDocument, _ node: JSONNode) -> Bool {
        let isContainer = document.kind(node) == .object || document.kind(node) == .array
        var child = isContainer ? document.firstChild(node) : nil
        while let value = child {
            if document.kind(value) == .object || document.kind(value) == .array { return false }
            child = document.next(value)
        }
        return true
    }

    static func scalar(_ document: borrowing JSONDocument, _ node: JSONNode, to output: inout [UInt8]) {
        if document.kind(node) == .string {
            text(document.bytes(node), to: &output)
        } else if document.isNull(node) {
            output.append(UInt8(ascii: "-"))
        } else {
            text(document.source(node), to: &output)
        }
    }

    /// UTF-8 with a space for each control character: those of ASCII, DEL, and U+0080 to U+009F.
    static func text(_ bytes: Span<UInt8>, to output: inout [UInt8]) {
        var index = 0
        while index < bytes.count {
            let byte = bytes[index]
            if byte == 0xC2, index + 1 < bytes.count, bytes[index + 1] < 0xA0 {
                output.append(0x20)
                index += 1
            } else {
                output.append(byte < 0x20 || byte == 0x7F ? 0x20 : byte)
            }
            index += 1
        }
    }
}

/// The same bytes. What Swift itself compares by knows that letters can be written in several ways, which nothing here depends on,
/// and brings 40 KB of tables.
extension String {
    static func == (left: String, right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }
    static func != (left: String, right: String) -> Bool { !left.utf8.elementsEqual(right.utf8) }
    static func ~= (pattern: String, value: String) -> Bool { pattern.utf8.elementsEqual(value.utf8) }
}
