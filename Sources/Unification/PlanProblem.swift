// What is wrong with a bundle's `identifiers` or `attributes` section, and the few reading steps that both share.
// It need not know what the sections mean.

import Formats

/// One mistake in a bundle: where it is, what it is and what to write instead. Holds no value of any event.
public struct PlanProblem: Error {
    /// Line and column in the bundle's text, from 1.
    public let position: TextPosition
    /// What is wrong and what to do, one line without the place.
    public let message: String

    public init(position: TextPosition, message: String) {
        self.position = position
        self.message = message
    }
}

/// Reads the members of an object of a bundle and collects what is wrong, so that one look shows all mistakes.
struct PlanReader {
    var problems: [PlanProblem] = []

    mutating func report(_ document: borrowing JSONDocument, _ node: JSONNode, _ message: String) {
        problems.append(PlanProblem(position: document.position(node), message: message))
    }

    /// A member that must be text; nil when absent (no problem) or something else (a problem).
    mutating func text(_ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString) -> JSONNode? {
        guard let node = document.member(object, name) else { return nil }
        if document.kind(node) == .string { return node }
        report(document, node, "\(name) must be text")
        return nil
    }

    mutating func flag(_ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString) -> Bool {
        guard let node = document.member(object, name) else { return false }
        if let value = document.bool(node) { return value }
        report(document, node, "\(name) must be true or false")
        return false
    }

    /// A member that is a duration such as 10m; the answer is in milliseconds and more than 0.
    mutating func duration(_ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString) -> Int64? {
        guard let node = document.member(object, name) else { return nil }
        if document.kind(node) == .string, let length = DurationText.parse(document.bytes(node)), length > 0,
            length <= Limits.longestSpanMilliseconds
        {
            return length
        }
        report(document, node, "\(name) must be \(DurationText.expected), more than 0 and at most ten years")
        return nil
    }

    /// Reports members that nobody reads: a misspelt setting must not be silently without effect.
    mutating func refuseOthers(
        _ document: borrowing JSONDocument, _ object: JSONNode, _ known: [StaticString], of what: String
    ) {
        var key = document.firstChild(object)
        while let node = key {
            var isKnown = false
            for name in known where document.equals(node, name) { isKnown = true }
            if !isKnown {
                var list = ""
                for name in known { list += list.isEmpty ? "\(name)" : ", \(name)" }
                report(
                    document, node, "unknown setting \(document.string(node) ?? "") of \(what); it may have: \(list)")
            }
            key = document.next(node).flatMap { value in document.next(value) }
        }
    }
}

/// FNV-1a with 32 bits (Fowler, Noll, Vo): the stable number of a name in keys and records.
struct FNV1a {
    private(set) var value: UInt32 = 0x811C_9DC5

    mutating func combine(_ byte: UInt8) { value = (value ^ UInt32(byte)) &* 0x0100_0193 }

    mutating func combine(_ bytes: Span<UInt8>) {
        for index in bytes.indices { combine(bytes[index]) }
    }

    static func hash(_ bytes: Span<UInt8>) -> UInt32 {
        var hash = FNV1a()
        hash.combine(bytes)
        return hash.value
    }
}
