// A JSON text (RFC 8259) as one flat array of nodes, to be read in place. What the values mean is not known here.
//
// Nodes lie in the order of the text: a container is followed by its first child, and each node knows its next
// sibling. In an object the children are key, value, key, value, … Reading never allocates; parsing into a document
// that has seen a text of the size before does not either.

/// What a node is. `integer` is a number written without fraction and exponent, `number` any other.
public enum JSONKind: UInt8, Sendable {
    case null, bool, integer, number, string, array, object
}

/// A handle of a value, good for the document that gave it until that parses again.
public struct JSONNode: Equatable, Sendable {
    public let index: UInt32

    @inlinable
    public init(index: UInt32) { self.index = index }
}

/// What is done about two members of one object with the same name, which RFC 8259 section 4 leaves open.
public enum DuplicateKeys: Sendable {
    /// The last one is the value; the earlier ones are no part of the document: no reader can come to see another
    /// value than the one that was checked.
    case lastWins
    /// The text is refused: for what people write by hand.
    case refused
}

public struct JSONDocument: Sendable {
    /// 16 bytes a node.
    struct Node: Sendable {
        /// Bits 0–3 kind, 4–7 flags, 8–31: a container's number of children, a key's tag for quick comparison.
        var head: UInt32
        /// Where in `text` the value begins: a string's decoded bytes, anything else's source.
        var offset: UInt32
        /// Bytes: of a string decoded, of anything else (containers too) in the source.
        var length: UInt32
        /// The next sibling, 0 for none; while a container is open, its parent.
        var next: UInt32

        static let escaped: UInt32 = 1 << 4
        static let overridden: UInt32 = 1 << 5
        static let isTrue: UInt32 = 1 << 6

        var kind: JSONKind { JSONKind(rawValue: UInt8(truncatingIfNeeded: head & 0xF)).unsafelyUnwrapped }
        var count: UInt32 { head >> 8 }
        var isOverridden: Bool { head & Node.overridden != 0 }
    }

    /// The source; after it the decoded form of each string that has escapes, behind the 4 bytes of its source offset.
    var text: [UInt8] = []
    var nodes: [Node] = []
    /// Of a document that was not read from JSON (YAML): the place of each node in the text that it came from.
    var positions: [TextPosition] = []
    /// For seeking duplicates among many keys.
    var keyScratch: [UInt32] = []

    /// A document that holds `null`.
    public init() {
        nodes.append(Node(head: UInt32(JSONKind.null.rawValue), offset: 0, length: 0, next: 0))
    }

    /// Makes room, so that texts up to these sizes are parsed without allocation.
    public mutating func reserve(textBytes: Int, nodes count: Int) {
        text.reserveCapacity(textBytes)
        nodes.reserveCapacity(count)
    }

    /// The memory held, in bytes: for a budget.
    public var capacityBytes: Int {
        text.capacity + nodes.capacity * MemoryLayout<Node>.stride + positions.capacity
            * MemoryLayout<TextPosition>.stride
            + keyScratch.capacity * 4
    }

    /// How many values and keys there are.
    public var nodeCount: Int { nodes.count }

    /// How many values and keys there are in the value of a member of the outermost object, itself included.
    public func nodeCount(ofMember value: JSONNode) -> Int {
        let next = nodes[Int(value.index)].next
        return (next == 0 ? nodes.count : Int(next)) - Int(value.index)
    }

    // MARK: Reading

    /// The outermost value, or the one that `narrow(to:)` chose.
    public internal(set) var root = JSONNode(index: 0)

    /// Makes a value below the root the root, until the next text is parsed: for a reader that may see only that.
    public mutating func narrow(to node: JSONNode) { root = node }

    public func kind(_ node: JSONNode) -> JSONKind { nodes[Int(node.index)].kind }

    /// The value of a member, or nil: there is none, or the node is no object.
    public func member(_ object: JSONNode, _ key: StaticString) -> JSONNode? {
        member(object, key.bytes)
    }

    public func member(_ object: JSONNode, _ key: [UInt8]) -> JSONNode? {
        member(object, key.span)
    }

    public func member(_ object: JSONNode, _ key: Span<UInt8>) -> JSONNode? {
        let container = nodes[Int(object.index)]
        guard container.kind == .object, container.count > 0 else { return nil }
        let wanted = JSONDocument.tag(key) << 8
        var index = Int(object.index) + 1
        while index != 0 {
            let node = nodes[index]
            if node.head & 0xFFFF_FF00 == wanted, !node.isOverridden, equal(bytes(at: node), key) {
                return JSONNode(index: node.next)
            }
            index = Int(nodes[Int(node.next)].next)
        }
        return nil
    }

    /// The key of a member, by its value.
    public func key(ofValue value: JSONNode) -> JSONNode { JSONNode(index: value.index - 1) }

    /// The first element of an array, the first key of an object (a string; its value is `next` of it), or nil.
    public func firstChild(_ node: JSONNode) -> JSONNode? {
        let container = nodes[Int(node.index)]
        guard container.kind == .array || container.kind == .object, container.count > 0 else { return nil }
        return skippingOverridden(node.index + 1)
    }

    /// The next sibling (after a key its value, after a value the next key), or nil at the end.
    public func next(_ node: JSONNode) -> JSONNode? {
        skippingOverridden(nodes[Int(node.index)].next)
    }

    private func skippingOverridden(_ start: UInt32) -> JSONNode? {
        var index = start
        while index != 0 {
            let node = nodes[Int(index)]
            if !node.isOverridden { return JSONNode(index: index) }
            index = nodes[Int(node.next)].next
        }
        return nil
    }

    /// Elements of an array, members of an object; 0 for anything else.
    public func count(_ node: JSONNode) -> Int {
        let node = nodes[Int(node.index)]
        return node.kind == .array || node.kind == .object ? Int(node.count) : 0
    }

    /// A string's decoded UTF-8 bytes; of anything else its source text.
    @_lifetime(borrow self)
    public func bytes(_ node: JSONNode) -> Span<UInt8> {
        bytes(at: nodes[Int(node.index)])
    }

    @_lifetime(borrow self)
    func bytes(at node: Node) -> Span<UInt8> {
        slice(Int(node.offset), Int(node.length))
    }

    @_lifetime(borrow self)
    private func slice(_ offset: Int, _ length: Int) -> Span<UInt8> {
        let part = text.span.extracting(offset..<offset + length)
        // `text` is a stored part of self and cannot change while self is borrowed.
        return unsafe _overrideLifetime(part, borrowing: self)
    }

    /// A string's value as a `String`; nil for anything else. Allocates: for cold paths.
    public func string(_ node: JSONNode) -> String? {
        kind(node) == .string ? String(copying: bytes(node)) : nil
    }

    public func bool(_ node: JSONNode) -> Bool? {
        let node = nodes[Int(node.index)]
        return node.kind == .bool ? node.head & Node.isTrue != 0 : nil
    }

    /// The value of an `integer` that fits 64 bits; nil otherwise (for `3.0` too: that is a `number`).
    public func int64(_ node: JSONNode) -> Int64? {
        let node = nodes[Int(node.index)]
        guard node.kind == .integer else { return nil }
        return parseInt64(bytes(at: node))
    }

    /// The nearest double of any number; nil for anything else.
    public func double(_ node: JSONNode) -> Double? {
        let node = nodes[Int(node.index)]
        guard node.kind == .integer || node.kind == .number else { return nil }
        return parseDouble(bytes(at: node))
    }

    public func isNull(_ node: JSONNode) -> Bool { kind(node) == .null }

    /// Whether a string's value is this text; false for anything else.
    public func equals(_ node: JSONNode, _ literal: StaticString) -> Bool {
        equals(node, literal.bytes)
    }

    public func equals(_ node: JSONNode, _ other: Span<UInt8>) -> Bool {
        let node = nodes[Int(node.index)]
        return node.kind == .string && Int(node.length) == other.count && equal(bytes(at: node), other)
    }

    /// The exact source text of a value, quotes, brackets and the white space inside them included. Of a document
    /// from YAML only scalars have one, strings without quotes.
    @_lifetime(borrow self)
    public func source(_ node: JSONNode) -> Span<UInt8> {
        let node = nodes[Int(node.index)]
        guard node.kind == .string, positions.isEmpty else { return bytes(at: node) }
        let start = sourceOffset(node)
        guard node.head & Node.escaped != 0 else { return slice(start, Int(node.length) + 2) }
        var end = start + 1
        while text[end] != UInt8(ascii: "\"") { end += text[end] == UInt8(ascii: "\\") ? 2 : 1 }
        return slice(start, end + 1 - start)
    }

    /// The source of a string that is written without escapes, quotes and all; empty for one with, and for anything of YAML.
    @_lifetime(borrow self)
    func plainSource(_ node: JSONNode) -> Span<UInt8> {
        let node = nodes[Int(node.index)]
        guard node.head & Node.escaped == 0, positions.isEmpty else { return slice(0, 0) }
        return slice(Int(node.offset) - 1, Int(node.length) + 2)
    }

    func head(_ node: JSONNode) -> UInt32 { nodes[Int(node.index)].head }

    /// Appends the source of a value with some of the keys in it replaced.
    /// - Parameters:
    ///   - keys: keys below `node`, in the order of the text.
    ///   - texts: for each the JSON text that takes its place.
    public func appendSource(
        of node: JSONNode, replacing keys: [JSONNode], by texts: [[UInt8]], to result: inout [UInt8]
    ) {
        var offset = sourceOffset(nodes[Int(node.index)])
        let end = offset + source(node).count
        for index in keys.indices {
            let start = sourceOffset(nodes[Int(keys[index].index)])
            result.append(contentsOf: slice(offset, start - offset))
            result += texts[index]
            offset = start + source(keys[index]).count
        }
        result.append(contentsOf: slice(offset, end - offset))
    }

    func sourceOffset(_ node: Node) -> Int {
        let offset = Int(node.offset)
        guard node.kind == .string else { return offset }
        guard node.head & Node.escaped != 0 else { return offset - 1 }
        return Int(text[offset - 4]) | Int(text[offset - 3]) << 8 | Int(text[offset - 2]) << 16
            | Int(text[offset - 1]) << 24
    }

    // MARK: Messages

    /// Where a value stands in its text. Reads the text up to there: for messages.
    public func position(_ node: JSONNode) -> TextPosition {
        if !positions.isEmpty { return positions[Int(node.index)] }
        return TextPosition(of: sourceOffset(nodes[Int(node.index)]), in: text.span)
    }

    /// The JSON Pointer (RFC 6901) of a value; of a key that of its value. Empty for the root. Allocates.
    public func pointer(to node: JSONNode) -> String {
        var pointer: [UInt8] = []
        var container = root
        while container != node {
            var child = firstChild(container)
            var found: JSONNode?
            var position = 0
            var foundPosition = 0
            let isObject = kind(container) == .object
            while let candidate = child, candidate.index <= node.index {
                found = candidate
                foundPosition = position
                position += 1
                child = next(candidate)
                if isObject, let value = child { child = next(value) }
            }
            guard let found else { break }
            pointer.append(UInt8(ascii: "/"))
            guard isObject else {
                appendInteger(UInt64(foundPosition), to: &pointer)
                container = found
                continue
            }
            let key = bytes(found)
            for index in key.indices {
                switch key[index] {
                case UInt8(ascii: "~"): pointer += [UInt8(ascii: "~"), UInt8(ascii: "0")]
                case UInt8(ascii: "/"): pointer += [UInt8(ascii: "~"), UInt8(ascii: "1")]
                default: pointer.append(key[index])
                }
            }
            guard found != node, let value = next(found) else { break }
            container = value
        }
        return String(copying: pointer.span)
    }

    // MARK: Keys

    /// The `tag` of an object's key, without computing it anew.
    public func tag(ofKey key: JSONNode) -> UInt32 { nodes[Int(key.index)].head >> 8 }

    /// 24 bits that two equal keys share and most different ones do not, from the length and three bytes.
    public static func tag(_ key: Span<UInt8>) -> UInt32 {
        let count = key.count
        guard count > 0 else { return 0 }
        let mixed = UInt32(key[count >> 1]) &* 31 &+ UInt32(key[count - 1])
        return UInt32(truncatingIfNeeded: count & 0xFF) | UInt32(key[0]) << 8 | (mixed & 0xFF) << 16
    }

    /// Looks at the finished object for keys that come twice. The earlier are marked as overridden; with `refused` the
    /// first key that repeats another is returned instead.
    mutating func settleDuplicates(_ object: Int, _ policy: DuplicateKeys) -> JSONNode? {
        let count = Int(nodes[object].count)
        if count < 2 { return nil }
        return count <= Limits.pairwiseKeys
            ? settleFewKeys(object, policy) : settleManyKeys(object, count, policy)
    }

    private mutating func settleFewKeys(_ object: Int, _ policy: DuplicateKeys) -> JSONNode? {
        var later = Int(nodes[Int(nodes[object + 1].next)].next)
        while later != 0 {
            let node = nodes[later]
            var earlier = object + 1
            while earlier != later {
                let other = nodes[earlier]
                if other.head == node.head || (other.head ^ node.head) == Node.escaped,
                    equal(bytes(at: other), bytes(at: node))
                {
                    if policy == .refused { return JSONNode(index: UInt32(later)) }
                    override(earlier, in: object)
                }
                earlier = Int(nodes[Int(other.next)].next)
            }
            later = Int(nodes[Int(node.next)].next)
        }
        return nil
    }

    /// Heap sort: no recursion, no memory of its own, and no input that makes it slow.
    private mutating func settleManyKeys(_ object: Int, _ count: Int, _ policy: DuplicateKeys) -> JSONNode? {
        keyScratch.removeAll(keepingCapacity: true)
        var key = object + 1
        while key != 0 {
            keyScratch.append(UInt32(key))
            key = Int(nodes[Int(nodes[key].next)].next)
        }
        var start = count / 2
        while start > 0 {
            start -= 1
            siftDown(start, count)
        }
        var end = count - 1
        while end > 0 {
            keyScratch.swapAt(0, end)
            siftDown(0, end)
            end -= 1
        }
        var firstRepeated: UInt32?
        var index = 1
        while index < count {
            let earlier = Int(keyScratch[index - 1])
            let later = Int(keyScratch[index])
            if compareKeys(earlier, later) == 0 {
                firstRepeated = min(firstRepeated ?? UInt32.max, UInt32(later))
                if policy == .lastWins { override(earlier, in: object) }
            }
            index += 1
        }
        return policy == .refused ? firstRepeated.map { JSONNode(index: $0) } : nil
    }

    private mutating func siftDown(_ start: Int, _ end: Int) {
        var parent = start
        while true {
            var child = 2 * parent + 1
            if child >= end { return }
            if child + 1 < end, isBefore(keyScratch[child], keyScratch[child + 1]) { child += 1 }
            if !isBefore(keyScratch[parent], keyScratch[child]) { return }
            keyScratch.swapAt(parent, child)
            parent = child
        }
    }

    /// Equal keys stand in the order of the text.
    private func isBefore(_ left: UInt32, _ right: UInt32) -> Bool {
        let order = compareKeys(Int(left), Int(right))
        return order == 0 ? left < right : order < 0
    }

    private func compareKeys(_ left: Int, _ right: Int) -> Int {
        let leftBytes = bytes(at: nodes[left])
        let rightBytes = bytes(at: nodes[right])
        if leftBytes.count != rightBytes.count { return leftBytes.count < rightBytes.count ? -1 : 1 }
        var index = 0
        while index < leftBytes.count {
            if leftBytes[index] != rightBytes[index] { return leftBytes[index] < rightBytes[index] ? -1 : 1 }
            index += 1
        }
        return 0
    }

    private mutating func override(_ key: Int, in object: Int) {
        if nodes[key].isOverridden { return }
        nodes[key].head |= Node.overridden
        nodes[object].head -= 1 << 8
    }
}
