// The writing of a JSON text together with its nodes: what is put together from parts of other documents, and then read,
// is not parsed once more. Whether it may be put together so is not known here.

/// Puts a document together, value by value; who calls keeps the order of calls right, as with `JSONWriter`, and gives no
/// object a key twice. Reused: with warm memory it allocates nothing.
public struct JSONBuilder: Sendable {
    private var writer: JSONWriter
    private var nodes: [JSONDocument.Node] = []
    /// As `JSONDocument.text` has it behind the source; moved there at the end.
    private var unescaped: [UInt8] = []
    /// Numbers of the nodes whose text lies in `unescaped`.
    private var escaped: [UInt32] = []
    /// The open container that the next node belongs to (-1: none), and its last child (0: none).
    private var container = -1
    private var last = 0

    public init(reserving capacity: Int = 0) { writer = JSONWriter(reserving: capacity) }

    /// What has been written so far.
    public var text: [UInt8] { writer.bytes }

    /// The memory held, in bytes: for a budget.
    public var capacityBytes: Int {
        writer.bytes.capacity + nodes.capacity * MemoryLayout<JSONDocument.Node>.stride + unescaped.capacity
            + escaped.capacity * 4
    }

    /// Makes room for what another document holds, and a little more, so that a copy of it does not have to move as it grows.
    public mutating func reserve(for document: borrowing JSONDocument) {
        writer.bytes.reserveCapacity(document.text.count + 256)
        nodes.reserveCapacity(document.nodeCount + 16)
    }

    /// Begins another document.
    public mutating func clear() {
        writer.clear()
        nodes.removeAll(keepingCapacity: true)
        unescaped.removeAll(keepingCapacity: true)
        escaped.removeAll(keepingCapacity: true)
        container = -1
        last = 0
    }

    /// Gives what was put together, one value, to a document, as if that had parsed the text; what memory that had is for the
    /// next.
    public mutating func finish(into document: inout JSONDocument) {
        precondition(container < 0 && last == 0 && !nodes.isEmpty, "a document is one value that has ended")
        let sourceBytes = UInt32(writer.bytes.count)
        for node in escaped { nodes[Int(node)].offset += sourceBytes }
        writer.bytes += unescaped
        swap(&document.text, &writer.bytes)
        swap(&document.nodes, &nodes)
        document.positions.removeAll(keepingCapacity: true)
        document.root = JSONNode(index: 0)
        clear()
    }

    // MARK: Containers

    public mutating func beginObject() {
        writer.beginObject()
        begin(.object)
    }

    public mutating func beginArray() {
        writer.beginArray()
        begin(.array)
    }

    public mutating func endObject() {
        writer.endObject()
        end()
    }

    public mutating func endArray() {
        writer.endArray()
        end()
    }

    private mutating func begin(_ kind: JSONKind) {
        count()
        add(UInt32(kind.rawValue), from: writer.bytes.count - 1, length: 0)
        nodes[last].next = UInt32(bitPattern: Int32(container))
        container = last
        last = 0
    }

    private mutating func end() {
        last = container
        container = Int(Int32(bitPattern: nodes[last].next))
        nodes[last].next = 0
        nodes[last].length = UInt32(writer.bytes.count) - nodes[last].offset
    }

    /// Makes a node the next sibling of the last.
    private mutating func add(_ head: UInt32, from offset: Int, length: Int) {
        if last != 0 { nodes[last].next = UInt32(nodes.count) }
        last = nodes.count
        nodes.append(JSONDocument.Node(head: head, offset: UInt32(offset), length: UInt32(length), next: 0))
    }

    /// The next value is one more of its container; keys are not counted.
    private mutating func count() {
        if container >= 0 { nodes[container].head &+= 1 << 8 }
    }

    // MARK: Keys and values

    /// The name of the next value.
    public mutating func key(_ name: StaticString) { key(name.bytes) }
    public mutating func key(_ name: Span<UInt8>) {
        let before = writer.bytes.count
        writer.key(name)
        addString(name, from: before, to: writer.bytes.count - 1, JSONDocument.tag(name) << 8)
    }

    /// The name of a member of another document, read from JSON, for the next value.
    public mutating func key(_ document: borrowing JSONDocument, _ node: JSONNode) {
        let source = document.plainSource(node)
        if source.isEmpty { return key(document.bytes(node)) }
        writer.key(quoted: source)
        add(document.head(node), from: writer.bytes.count - source.count, length: source.count - 2)
    }

    /// A string of UTF-8 bytes; who calls has checked that they are.
    public mutating func string(_ value: StaticString) { string(value.bytes) }
    public mutating func string(_ value: [UInt8]) { string(value.span) }
    public mutating func string(_ value: Span<UInt8>) {
        count()
        let before = writer.bytes.count
        writer.string(value)
        addString(value, from: before, to: writer.bytes.count, 0)
    }

    /// Copies a value of another document, read from JSON, that is no container.
    public mutating func scalar(_ document: borrowing JSONDocument, _ node: JSONNode) {
        let isString = document.kind(node) == .string
        let source = isString ? document.plainSource(node) : document.bytes(node)
        if isString, source.isEmpty { return string(document.bytes(node)) }
        precondition(!source.isEmpty, "only values that were read from JSON have a source")
        count()
        writer.raw(source)
        let quote = isString ? 1 : 0
        add(document.head(node), from: writer.bytes.count - source.count + quote, length: source.count - 2 * quote)
    }

    /// Adds the node of a string that was written between `before`, where a comma may stand, and `end`.
    private mutating func addString(_ value: Span<UInt8>, from before: Int, to end: Int, _ tag: UInt32) {
        let start = writer.bytes[before] == UInt8(ascii: ",") ? before + 1 : before
        let head = UInt32(JSONKind.string.rawValue) | tag
        if end - start == value.count + 2 { return add(head, from: start + 1, length: value.count) }
        for shift in 0..<4 { unescaped.append(UInt8(truncatingIfNeeded: start >> (8 * shift))) }
        escaped.append(UInt32(nodes.count))
        add(head | JSONDocument.Node.escaped, from: unescaped.count, length: value.count)
        unescaped.append(contentsOf: value)
    }
}
