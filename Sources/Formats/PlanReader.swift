// Reading the settings that people write (device configurations and bundles) out of a document, and collecting what is
// wrong with them, so that one look shows all mistakes. It need not know what any setting means.

/// One mistake in a file that somebody wrote: where it is, what it is and what to write instead.
public struct PlanProblem: Error, Equatable {
    /// Line and column in the file, from 1.
    public let position: TextPosition
    /// What is wrong and what to do, one line without the place.
    public let message: String
    /// True for what is allowed but has no effect or a surprising one.
    public let isWarning: Bool

    public init(position: TextPosition, message: String, isWarning: Bool = false) {
        self.position = position
        self.message = message
        self.isWarning = isWarning
    }
}

/// Reads members of objects and remembers every problem.
public struct PlanReader {
    public var problems: [PlanProblem] = []

    public init() {}

    /// True when something is wrong that is more than a warning.
    public var hasErrors: Bool {
        for problem in problems where !problem.isWarning { return true }
        return false
    }

    public mutating func report(_ document: borrowing JSONDocument, _ node: JSONNode, _ message: String) {
        problems.append(PlanProblem(position: document.position(node), message: message))
    }

    public mutating func warn(_ document: borrowing JSONDocument, _ node: JSONNode, _ message: String) {
        problems.append(PlanProblem(position: document.position(node), message: message, isWarning: true))
    }

    /// A member that must be an object; nil when absent (no problem) or something else (a problem).
    public mutating func object(
        _ document: borrowing JSONDocument, _ parent: JSONNode, _ name: StaticString
    ) -> JSONNode? {
        guard let node = document.member(parent, name), !document.isNull(node) else { return nil }
        if document.kind(node) == .object { return node }
        report(document, node, "\(name) must be a map of names and settings")
        return nil
    }

    /// A member that must be text; nil when absent (no problem) or something else (a problem).
    public mutating func text(
        _ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString
    ) -> JSONNode? {
        guard let node = document.member(object, name), !document.isNull(node) else { return nil }
        if document.kind(node) == .string { return node }
        report(document, node, "\(name) must be text")
        return nil
    }

    public mutating func string(
        _ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString
    ) -> String? {
        guard let node = text(document, object, name) else { return nil }
        return document.string(node)
    }

    public mutating func flag(
        _ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString
    ) -> Bool? {
        guard let node = document.member(object, name), !document.isNull(node) else { return nil }
        if let value = document.bool(node) { return value }
        report(document, node, "\(name) must be true or false")
        return nil
    }

    /// A whole number within a range.
    public mutating func integer(
        _ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString, _ range: ClosedRange<Int64>
    ) -> Int64? {
        guard let node = document.member(object, name), !document.isNull(node) else { return nil }
        if let value = document.int64(node), range.contains(value) { return value }
        report(document, node, "\(name) must be a whole number from \(range.lowerBound) to \(range.upperBound)")
        return nil
    }

    /// A duration such as 10m, in milliseconds.
    public mutating func duration(
        _ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString, atMost: Int64 = 315_576_000_000
    ) -> Int64? {
        guard let node = document.member(object, name), !document.isNull(node) else { return nil }
        if document.kind(node) == .string, let value = DurationText.parse(document.bytes(node)), value > 0, value <= atMost {
            return value
        }
        report(document, node, "\(name) must be \(DurationText.expected), more than 0 and at most \(atMost / 1000) seconds")
        return nil
    }

    /// A size such as 400KiB or a plain number, in bytes.
    public mutating func size(
        _ document: borrowing JSONDocument, _ object: JSONNode, _ name: StaticString, _ range: ClosedRange<Int64>
    ) -> Int64? {
        guard let node = document.member(object, name), !document.isNull(node) else { return nil }
        var value = document.int64(node)
        if document.kind(node) == .string { value = ByteSizeText.parse(document.bytes(node)) }
        if let value, range.contains(value) { return value }
        report(
            document, node,
            "\(name) must be \(ByteSizeText.expected), from \(range.lowerBound) to \(range.upperBound) bytes")
        return nil
    }

    /// Reports members that nobody reads: a misspelt setting must not be silently without effect.
    public mutating func refuseOthers(
        _ document: borrowing JSONDocument, _ object: JSONNode, _ known: [StaticString], of what: String
    ) {
        var key = document.firstChild(object)
        while let node = key {
            var isKnown = false
            for name in known where document.equals(node, name) { isKnown = true }
            if !isKnown {
                var list = ""
                for name in known { list += list.isEmpty ? "\(name)" : ", \(name)" }
                report(document, node, "unknown setting \(document.string(node) ?? "") of \(what); it may have: \(list)")
            }
            key = document.next(node).flatMap { value in document.next(value) }
        }
    }
}

extension JSONDocument {
    /// Calls `body` with each key and value of an object, in order.
    public func forEachMember(_ object: JSONNode, _ body: (_ key: JSONNode, _ value: JSONNode) -> Void) {
        guard kind(object) == .object else { return }
        var key = firstChild(object)
        while let name = key, let value = next(name) {
            body(name, value)
            key = next(value)
        }
    }

    /// Calls `body` with each element of an array, in order.
    public func forEachElement(_ array: JSONNode, _ body: (JSONNode) -> Void) {
        guard kind(array) == .array else { return }
        var element = firstChild(array)
        while let node = element {
            body(node)
            element = next(node)
        }
    }
}

/// The stable 32-bit number of a name in keys and records (FNV-1a by Fowler, Noll and Vo).
public struct NameTag {
    public private(set) var value: UInt32 = 0x811C_9DC5

    public init() {}

    public mutating func combine(_ byte: UInt8) { value = (value ^ UInt32(byte)) &* 0x0100_0193 }

    public mutating func combine(_ bytes: Span<UInt8>) {
        for index in bytes.indices { combine(bytes[index]) }
    }

    public static func of(_ bytes: Span<UInt8>) -> UInt32 {
        var tag = NameTag()
        tag.combine(bytes)
        return tag.value
    }
}
