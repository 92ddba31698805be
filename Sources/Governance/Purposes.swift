// The purposes of a bundle: what data may be used for, each one bit of a mask. It need not know who granted what.

import Formats

/// A set of purposes of the bundle in force; bit n is purpose n.
public struct PurposeSet: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// The set of one purpose by its number.
    public init(purpose: Int) { rawValue = 1 << UInt32(purpose) }
}

/// The `purposes` section of a bundle.
public struct PurposePlan: Sendable {
    /// Names in the bundle's order; a purpose's number is its index here.
    public private(set) var names: [[UInt8]] = []
    /// The stable number of each name in records.
    public private(set) var tags: [UInt32] = []
    /// How long what was taken for each purpose is kept, milliseconds; 0 for no end.
    public private(set) var timesToLive: [Int64] = []

    public init() {}

    /// Reads the section; problems are remembered by the reader.
    public init(_ document: borrowing JSONDocument, _ bundle: JSONNode, _ reader: inout PlanReader) {
        guard let list = document.member(bundle, "purposes") else { return }
        let hasSettings = document.kind(list) == .object
        guard hasSettings || document.kind(list) == .array else {
            reader.report(
                document, list, "purposes must be a list of names, or a map of names and settings: { analytics: { ttl: 90d } }")
            return
        }
        var element = document.firstChild(list)
        while let node = element {
            element = document.next(node)
            var timeToLive: Int64 = 0
            if hasSettings, let settings = element {
                element = document.next(settings)
                timeToLive = PurposePlan.readTimeToLive(document, settings, &reader)
            }
            guard document.kind(node) == .string, !document.bytes(node).isEmpty,
                document.bytes(node).count <= Limits.purposeNameBytes
            else {
                reader.report(document, node, "a purpose must be a name of 1 to \(Limits.purposeNameBytes) bytes")
                continue
            }
            let tag = NameTag.of(document.bytes(node))
            if tags.contains(tag) {
                reader.report(document, node, "this purpose stands here twice (or its name collides with another: rename one)")
            } else if names.count == Limits.purposes {
                reader.report(document, node, "there can be at most \(Limits.purposes) purposes")
                return
            } else {
                var name: [UInt8] = []
                name.append(contentsOf: document.bytes(node))
                names.append(name)
                tags.append(tag)
                timesToLive.append(timeToLive)
            }
        }
    }

    /// The number of a purpose by name; nil when the bundle does not have it.
    public func index(of name: Span<UInt8>) -> Int? { index(ofTag: NameTag.of(name)) }

    /// The number of a purpose by tag; nil when the bundle in force does not have it.
    public func index(ofTag tag: UInt32) -> Int? {
        for index in tags.indices where tags[index] == tag { return index }
        return nil
    }

    /// Reads a `purpose:` setting of some section.
    public func read(
        _ document: borrowing JSONDocument, _ parent: JSONNode, _ reader: inout PlanReader
    ) -> Int? {
        guard let node = reader.text(document, parent, "purpose") else { return nil }
        if let index = index(of: document.bytes(node)) { return index }
        var list = ""
        for name in names { list += (list.isEmpty ? "" : ", ") + String(copying: name.span) }
        reader.report(
            document, node,
            "\(document.string(node) ?? "") is not among the purposes of this bundle (\(list.isEmpty ? "it has none" : list))")
        return nil
    }
}
