// Writes an event as it may be kept: without the identifiers that were found in it. The one gate between events as
// people send them and anything that outlives the request. It need not know what an identifier is.

import Formats

/// Copies an event without raw identifiers (promise P3).
public enum EventSanitizer {
    /// What stands where a text contained an identifier.
    static let replacement: StaticString = "[redacted]"

    /// Writes the value at `node` of `document`, in which `finder` has just found the identifiers, to `writer`.
    ///
    /// - Members at places for identifiers are left out, with all that is below them.
    /// - Texts that contain an identifier of this event (in any case, or encoded as in a URL), or anything that looks
    ///   like an e-mail address, become `"[redacted]"`; so do numbers that are one.
    /// - Members whose name contains one are left out.
    ///
    /// The same function copies parts: give it the node of `properties`, say, after finding in the whole event. No
    /// allocation beyond `writer`.
    public static func write(
        _ document: borrowing JSONDocument, _ node: JSONNode, without finder: borrowing IdentifierFinder,
        into writer: inout JSONBuilder
    ) {
        switch document.kind(node) {
        case .object:
            writer.beginObject()
            writeMembers(document, node, without: finder, into: &writer)
            writer.endObject()
        case .array:
            writer.beginArray()
            var element = document.firstChild(node)
            while let value = element {
                write(document, value, without: finder, into: &writer)
                element = document.next(value)
            }
            writer.endArray()
        case .string:
            if mayBeKept(document.bytes(node), finder) {
                writer.scalar(document, node)
            } else {
                writer.string(replacement)
            }
        case .integer, .number:
            if finder.isSame(as: document.bytes(node)) {
                writer.string(replacement)
            } else {
                writer.scalar(document, node)
            }
        case .null, .bool:
            writer.scalar(document, node)
        }
    }

    /// Writes the members of an object into one that is already begun, so that the caller can add its own.
    public static func writeMembers(
        _ document: borrowing JSONDocument, _ node: JSONNode, without finder: borrowing IdentifierFinder,
        into writer: inout JSONBuilder
    ) {
        var key = document.firstChild(node)
        while let name = key {
            guard let value = document.next(name) else { return }
            if !finder.identityNodes.contains(value), mayBeKept(document.bytes(name), finder) {
                writer.key(document, name)
                write(document, value, without: finder, into: &writer)
            }
            key = document.next(value)
        }
    }

    /// Whether `text` may be kept: neither an identifier of the event nor any e-mail address in it. For texts that the
    /// pipeline keeps on their own, such as `messageId`.
    public static func mayBeKept(_ text: Span<UInt8>, _ finder: borrowing IdentifierFinder) -> Bool {
        !finder.occurs(in: text) && !containsEmailAddress(text)
    }

    /// Whether something in `text` looks like an e-mail address: name, `@` (or `%40`, as URLs have it), host, dot and
    /// a top-level domain of two letters or more.
    static func containsEmailAddress(_ text: Span<UInt8>) -> Bool {
        var offset = 1
        while offset < text.count {
            let isAt = text[offset] == UInt8(ascii: "@")
            let isEncodedAt =
                text[offset] == UInt8(ascii: "%") && offset + 2 < text.count && text[offset + 1] == UInt8(ascii: "4")
                && text[offset + 2] == UInt8(ascii: "0")
            if isAt || isEncodedAt, isNameByte(text[offset - 1]), hasDomain(text, offset + (isAt ? 1 : 3)) {
                return true
            }
            offset += 1
        }
        return false
    }

    private static func hasDomain(_ text: Span<UInt8>, _ start: Int) -> Bool {
        var offset = start
        var letters = 0
        var dots = 0
        while offset < text.count {
            let byte = text[offset]
            if byte == UInt8(ascii: ".") {
                if offset == start { return false }
                dots += 1
                letters = 0
            } else if isLetter(byte) || byte >= 0x80 {
                letters += 1
                if dots > 0, letters >= 2 { return true }
            } else if isDigit(byte) || byte == UInt8(ascii: "-") {
                letters = -1 << 20  // A label with digits is no top-level domain; the next dot begins another.
            } else {
                return false
            }
            offset += 1
        }
        return false
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "'"),
            UInt8(ascii: "="), UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "&"),
            UInt8(ascii: "*"), UInt8(ascii: "~"), UInt8(ascii: "\""):
            return true
        default: return isLetter(byte) || isDigit(byte) || byte >= 0x80
        }
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        let lowered = loweredASCII(byte)
        return lowered >= UInt8(ascii: "a") && lowered <= UInt8(ascii: "z")
    }
}
