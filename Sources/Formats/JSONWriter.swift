// The writing of JSON (RFC 8259) into one reusable buffer. Commas set themselves; who calls keeps the order of calls
// right (a key before each member's value, an end for each begin).

public struct JSONWriter: Sendable {
    /// What has been written; more may be appended directly between values.
    public var bytes: [UInt8]
    private var needsComma = false

    public init(reserving capacity: Int = 0) {
        bytes = []
        bytes.reserveCapacity(capacity)
    }

    /// Empties the buffer and keeps its memory.
    public mutating func clear(keepingCapacity: Bool = true) {
        bytes.removeAll(keepingCapacity: keepingCapacity)
        needsComma = false
    }

    /// Ends a line of NDJSON: the next value begins anew.
    public mutating func newline() {
        bytes.append(0x0A)
        needsComma = false
    }

    private mutating func separate() {
        if needsComma { bytes.append(UInt8(ascii: ",")) }
        needsComma = true
    }

    // MARK: Containers

    public mutating func beginObject() { begin(UInt8(ascii: "{")) }
    public mutating func endObject() { end(UInt8(ascii: "}")) }
    public mutating func beginArray() { begin(UInt8(ascii: "[")) }
    public mutating func endArray() { end(UInt8(ascii: "]")) }

    private mutating func begin(_ bracket: UInt8) {
        separate()
        bytes.append(bracket)
        needsComma = false
    }

    private mutating func end(_ bracket: UInt8) {
        bytes.append(bracket)
        needsComma = true
    }

    /// The name of the next value.
    public mutating func key(_ name: StaticString) { key(name.bytes) }
    public mutating func key(_ name: [UInt8]) { key(name.span) }
    public mutating func key(_ name: Span<UInt8>) {
        separate()
        quote(name)
        bytes.append(UInt8(ascii: ":"))
        needsComma = false
    }

    /// The name of the next value, as JSON text already.
    mutating func key(quoted name: Span<UInt8>) {
        raw(name)
        bytes.append(UInt8(ascii: ":"))
        needsComma = false
    }

    // MARK: Values

    /// A string of UTF-8 bytes; who calls has checked that they are.
    public mutating func string(_ value: Span<UInt8>) {
        separate()
        quote(value)
    }

    public mutating func string(_ value: StaticString) { string(value.bytes) }
    public mutating func string(_ value: [UInt8]) { string(value.span) }

    public mutating func string(_ value: String) {
        separate()
        bytes.append(UInt8(ascii: "\""))
        for byte in value.utf8 { escape(byte) }
        bytes.append(UInt8(ascii: "\""))
    }

    public mutating func int(_ value: Int64) {
        separate()
        appendInteger(value, to: &bytes)
    }

    public mutating func uint(_ value: UInt64) {
        separate()
        appendInteger(value, to: &bytes)
    }

    /// The shortest decimal that reads back the same, with a point or an exponent; `null` for what is not finite.
    public mutating func double(_ value: Double) {
        separate()
        if value.isFinite {
            appendDouble(value, to: &bytes)
        } else {
            bytes.append(contentsOf: ("null" as StaticString).bytes)
        }
    }

    public mutating func bool(_ value: Bool) {
        separate()
        bytes.append(contentsOf: value ? ("true" as StaticString).bytes : ("false" as StaticString).bytes)
    }

    public mutating func null() {
        separate()
        bytes.append(contentsOf: ("null" as StaticString).bytes)
    }

    /// A value that is JSON text already, as it is.
    public mutating func raw(_ json: Span<UInt8>) {
        separate()
        bytes.append(contentsOf: json)
    }

    /// Copies a value of a document and all that is in it. Overridden members are left out, white space too.
    public mutating func value(_ document: borrowing JSONDocument, _ node: JSONNode) {
        switch document.kind(node) {
        case .null: null()
        case .bool: bool(document.bool(node) == true)
        case .integer, .number: raw(document.bytes(node))
        case .string: string(document.bytes(node))
        case .array:
            beginArray()
            var child = document.firstChild(node)
            while let element = child {
                value(document, element)
                child = document.next(element)
            }
            endArray()
        case .object:
            beginObject()
            var child = document.firstChild(node)
            while let name = child, let member = document.next(name) {
                key(document.bytes(name))
                value(document, member)
                child = document.next(member)
            }
            endObject()
        }
    }

    // MARK: Strings

    private mutating func quote(_ text: Span<UInt8>) {
        bytes.append(UInt8(ascii: "\""))
        var start = 0
        var index = 0
        while true {
            index = endOfPlainText(text, from: index)
            if index == text.count { break }
            let byte = text[index]
            if byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") {
                bytes.append(contentsOf: text.extracting(start..<index))
                escape(byte)
                start = index + 1
            }
            index += 1
        }
        bytes.append(contentsOf: text.extracting(start..<index))
        bytes.append(UInt8(ascii: "\""))
    }

    private mutating func escape(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"):
            bytes.append(UInt8(ascii: "\\"))
            bytes.append(byte)
        case 0x0A:
            bytes.append(contentsOf: ("\\n" as StaticString).bytes)
        case 0x0D:
            bytes.append(contentsOf: ("\\r" as StaticString).bytes)
        case 0x09:
            bytes.append(contentsOf: ("\\t" as StaticString).bytes)
        case 0..<0x20:
            bytes.append(contentsOf: ("\\u00" as StaticString).bytes)
            bytes.append(Hex.digit(byte >> 4))
            bytes.append(Hex.digit(byte & 0xF))
        default:
            bytes.append(byte)
        }
    }
}
