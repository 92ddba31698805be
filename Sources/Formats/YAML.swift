// YAML, as people write configuration and bundles, into a JSONDocument whose nodes know their line and column.
//
// libyaml finds the events; what may come in is decided here: one document, keys that are scalars and come once,
// the core schema of YAML 1.2 (section 10.3) and no tags beyond it, aliases that stay within a fixed number of nodes.
// Unsafe pointers are libyaml's: its parser lives in memory allocated here, each event until it is deleted.
import CYAML

/// Why a text is not accepted, and where.
public struct YAMLError: Error, Sendable {
    public enum Kind: UInt8, Sendable {
        case syntax, notUTF8, tooLong, tooDeep, tooManyValues, duplicateKey, keyNotScalar, mergeKey, unknownAlias
        case unsupportedTag, severalDocuments, numberNotFinite, noMemory
    }

    public let kind: Kind
    public let position: TextPosition
    /// What is wrong and what to do, without the place and without any of the text.
    public let message: String

    init(_ kind: Kind, _ position: TextPosition, _ message: String) {
        self.kind = kind
        self.position = position
        self.message = message
    }
}

public enum YAML {
    /// Parses one YAML (or JSON) document of up to `Limits.yamlTextBytes`. Duplicate keys are refused, keys are taken
    /// as text whatever they look like, an empty text is `null`.
    ///
    /// `bytes` of a number is its JSON form (`0x10` is `16`, `+.5` is `0.5`); infinities and NaN have none and are
    /// refused. Positions of values are exact; an alias's value stands where the alias does.
    public static func parse(
        _ text: Span<UInt8>, maximumDepth: Int = Limits.jsonDepth
    ) throws(YAMLError) -> JSONDocument {
        if text.count > Limits.yamlTextBytes {
            throw YAMLError(.tooLong, TextPosition(line: 1, column: 1), "the file is larger than 4 MiB")
        }
        if let offset = UTF8Text.firstInvalid(text) {
            throw YAMLError(.notUTF8, TextPosition(of: offset, in: text), "the text is not UTF-8")
        }
        if let document = try parseAsJSON(text, maximumDepth) { return document }
        let hasByteOrderMark = text.count >= 3 && text[0] == 0xEF && text[1] == 0xBB && text[2] == 0xBF
        var builder = YAMLBuilder(maximumDepth)
        try builder.read(hasByteOrderMark ? text.extracting(3..<text.count) : text)
        return builder.document
    }

    /// JSON is nearly a part of YAML, but for escaped surrogate pairs: a text that is JSON is read as JSON.
    private static func parseAsJSON(_ text: Span<UInt8>, _ maximumDepth: Int) throws(YAMLError) -> JSONDocument? {
        var index = 0
        while index < text.count, text[index] == 0x20 || text[index] == 0x0A || text[index] == 0x0D { index += 1 }
        guard index < text.count, text[index] == UInt8(ascii: "{") || text[index] == UInt8(ascii: "[") else {
            return nil
        }
        var document = JSONDocument()
        do throws(JSONError) {
            try document.parse(
                text, maximumDepth: maximumDepth, maximumValues: Limits.planValues, duplicateKeys: .refused)
            return document
        } catch {
            if error.kind == .duplicateKey { throw YAMLError(.duplicateKey, error.position, error.message) }
            return nil
        }
    }
}

private struct YAMLBuilder {
    typealias Node = JSONDocument.Node

    /// A container that is open: where it is, its last child so far, and whether a key comes next.
    struct Open {
        var index: Int
        var last = 0
        var isKeyNext: Bool
        var anchor: Int
    }

    struct Anchor {
        var name: [UInt8]
        var start: Int
        /// The node after its last one; 0 while it is open.
        var end = 0
    }

    var document = JSONDocument()
    var open: [Open] = []
    var anchors: [Anchor] = []
    var hasDocument = false
    let maximumDepth: Int

    init(_ maximumDepth: Int) {
        self.maximumDepth = maximumDepth
        document.nodes.removeAll()
    }

    // MARK: Events

    mutating func read(_ text: Span<UInt8>) throws(YAMLError) {
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        guard unsafe yaml_parser_initialize(parser) != 0 else {
            unsafe parser.deallocate()
            throw YAMLError(.noMemory, TextPosition(line: 1, column: 1), "out of memory")
        }
        let event = UnsafeMutablePointer<yaml_event_t>.allocate(capacity: 1)
        defer {
            unsafe yaml_parser_delete(parser)
            unsafe parser.deallocate()
            unsafe event.deallocate()
        }
        unsafe yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
        // The parser reads the text during this closure only.
        let outcome: Result<Void, YAMLError> = unsafe text.withUnsafeBufferPointer { bytes in
            unsafe yaml_parser_set_input_string(parser, bytes.baseAddress, bytes.count)
            do throws(YAMLError) {
                try unsafe readEvents(parser, event, bytes)
                return .success(())
            } catch {
                return .failure(error)
            }
        }
        if case .failure(let error) = outcome { throw error }
        if document.nodes.isEmpty {
            try append(.null, 0, [], at: TextPosition(line: 1, column: 1))
        }
        try checkDepth()
    }

    private mutating func readEvents(
        _ parser: UnsafeMutablePointer<yaml_parser_t>, _ event: UnsafeMutablePointer<yaml_event_t>,
        _ text: UnsafeBufferPointer<UInt8>
    ) throws(YAMLError) {
        var isAtEnd = false
        while !isAtEnd {
            guard unsafe yaml_parser_parse(parser, event) != 0 else { throw unsafe failure(parser.pointee, text) }
            defer { unsafe yaml_event_delete(event) }
            isAtEnd = try unsafe take(event.pointee)
        }
    }

    private func failure(_ parser: yaml_parser_t, _ text: UnsafeBufferPointer<UInt8>) -> YAMLError {
        let problem = unsafe parser.problem.map { unsafe String(cString: $0) } ?? "the text cannot be read"
        switch unsafe parser.error {
        case YAML_MEMORY_ERROR:
            return YAMLError(.noMemory, TextPosition(line: 1, column: 1), "out of memory")
        case YAML_READER_ERROR:
            let place = unsafe TextPosition(of: Int(parser.problem_offset), in: Span(_unsafeElements: text))
            return YAMLError(.syntax, place, problem)
        default:
            return YAMLError(.syntax, place(unsafe parser.problem_mark), problem)
        }
    }

    private func place(_ mark: yaml_mark_t) -> TextPosition {
        TextPosition(line: Int32(clamping: mark.line) &+ 1, column: Int32(clamping: mark.column) &+ 1)
    }

    /// Takes one event; true at the end of the text.
    private mutating func take(_ event: yaml_event_t) throws(YAMLError) -> Bool {
        let position = place(unsafe event.start_mark)
        switch unsafe event.type {
        case YAML_DOCUMENT_START_EVENT:
            if hasDocument {
                throw YAMLError(.severalDocuments, position, "only one document may stand in a file; remove the second")
            }
            hasDocument = true
        case YAML_MAPPING_START_EVENT:
            let data = unsafe event.data.mapping_start
            try check(tag: unsafe bytes(data.tag), "tag:yaml.org,2002:map", position)
            try begin(.object, unsafe bytes(data.anchor), position)
        case YAML_SEQUENCE_START_EVENT:
            let data = unsafe event.data.sequence_start
            try check(tag: unsafe bytes(data.tag), "tag:yaml.org,2002:seq", position)
            try begin(.array, unsafe bytes(data.anchor), position)
        case YAML_MAPPING_END_EVENT, YAML_SEQUENCE_END_EVENT:
            try end()
        case YAML_SCALAR_EVENT:
            let data = unsafe event.data.scalar
            let value = unsafe Array(UnsafeBufferPointer(start: data.value, count: data.length))
            let tag = unsafe bytes(data.tag)
            let isPlain = unsafe data.style == YAML_PLAIN_SCALAR_STYLE && data.plain_implicit != 0
            if let tag, tag != Array("!".utf8) { try check(tag: tag, "tag:yaml.org,2002:str", position) }
            let anchor = try addAnchor(unsafe bytes(data.anchor), position)
            try scalar(value, isText: !isPlain || tag != nil, position)
            finishAnchor(anchor)
        case YAML_ALIAS_EVENT:
            try alias(unsafe bytes(event.data.alias.anchor) ?? [], position)
        case YAML_STREAM_END_EVENT:
            return true
        default:
            break
        }
        return false
    }

    /// A zero-terminated string of libyaml's, copied.
    private func bytes(_ text: UnsafeMutablePointer<yaml_char_t>?) -> [UInt8]? {
        guard let text = unsafe text else { return nil }
        var copy: [UInt8] = []
        var index = 0
        while unsafe text[index] != 0 {
            unsafe copy.append(text[index])
            index += 1
        }
        return copy
    }

    private func check(tag: [UInt8]?, _ allowed: StaticString, _ position: TextPosition) throws(YAMLError) {
        guard let tag, !equal(tag.span, allowed.bytes) else { return }
        throw YAMLError(
            .unsupportedTag, position, "this tag is not supported; remove it, or quote a value that is text")
    }

    // MARK: Building

    private mutating func begin(_ kind: JSONKind, _ name: [UInt8]?, _ position: TextPosition) throws(YAMLError) {
        if let parent = open.last, parent.isKeyNext {
            throw YAMLError(.keyNotScalar, position, "a key must be one word or a quoted text")
        }
        if open.count == maximumDepth {
            throw YAMLError(.tooDeep, position, "the values are nested too deep")
        }
        let anchor = try addAnchor(name, position)
        let index = document.nodes.count
        try append(kind, 0, [], at: position)
        open.append(Open(index: index, isKeyNext: kind == .object, anchor: anchor))
    }

    private mutating func end() throws(YAMLError) {
        guard let container = open.popLast() else { return }
        if document.nodes[container.index].kind == .object,
            let repeated = document.settleDuplicates(container.index, .refused)
        {
            throw YAMLError(
                .duplicateKey, document.position(repeated), "this key stands in the mapping already; remove one of them"
            )
        }
        finishAnchor(container.anchor)
    }

    private mutating func scalar(_ value: [UInt8], isText: Bool, _ position: TextPosition) throws(YAMLError) {
        if let parent = open.last, parent.isKeyNext {
            if !isText, equal(value.span, ("<<" as StaticString).bytes) {
                throw YAMLError(.mergeKey, position, "merge keys are not supported; write the members out")
            }
            try append(.string, JSONDocument.tag(value.span) << 8, value, at: position)
        } else if isText {
            try append(.string, 0, value, at: position)
        } else {
            let (kind, flags, text) = try YAMLScalar.resolve(value, position)
            try append(kind, flags, text, at: position)
        }
    }

    /// Appends a node as the next child of the container that is open.
    private mutating func append(
        _ kind: JSONKind, _ flags: UInt32, _ text: [UInt8], at position: TextPosition
    ) throws(YAMLError) {
        let index = document.nodes.count
        if index == Limits.yamlNodes {
            throw YAMLError(
                .tooManyValues, position, "the file holds too many values (aliases count as what they stand for)")
        }
        document.nodes.append(
            Node(
                head: UInt32(kind.rawValue) | flags, offset: UInt32(document.text.count), length: UInt32(text.count),
                next: 0))
        document.positions.append(position)
        document.text.append(contentsOf: text.span)
        guard let level = open.indices.last else { return }
        let parent = open[level]
        if parent.last != 0 { document.nodes[parent.last].next = UInt32(index) }
        open[level].last = index
        if document.nodes[parent.index].kind == .object {
            open[level].isKeyNext = !parent.isKeyNext
            if parent.isKeyNext { return }
        }
        document.nodes[parent.index].head += 1 << 8
    }

    // MARK: Anchors

    private mutating func addAnchor(_ name: [UInt8]?, _ position: TextPosition) throws(YAMLError) -> Int {
        guard let name else { return -1 }
        if anchors.count == Limits.yamlAnchors {
            throw YAMLError(.tooManyValues, position, "the file has too many anchors: there can be 256")
        }
        anchors.append(Anchor(name: name, start: document.nodes.count))
        return anchors.count - 1
    }

    private mutating func finishAnchor(_ anchor: Int) {
        if anchor >= 0 { anchors[anchor].end = document.nodes.count }
    }

    /// Copies the nodes of an anchor that is complete; their text is shared.
    private mutating func alias(_ name: [UInt8], _ position: TextPosition) throws(YAMLError) {
        guard let anchor = anchors.last(where: { equal($0.name.span, name.span) }), anchor.end != 0 else {
            throw YAMLError(.unknownAlias, position, "no complete value above has this anchor")
        }
        let first = document.nodes[anchor.start]
        if let parent = open.last, parent.isKeyNext {
            throw YAMLError(.keyNotScalar, position, "a key must be one word or a quoted text, no alias")
        }
        let start = document.nodes.count
        if start + (anchor.end - anchor.start) > Limits.yamlNodes {
            throw YAMLError(
                .tooManyValues, position, "the file holds too many values (aliases count as what they stand for)")
        }
        try append(first.kind, first.head & ~0xF, [], at: position)
        document.nodes[start].offset = first.offset
        document.nodes[start].length = first.length
        let distance = UInt32(start - anchor.start)
        var index = anchor.start + 1
        while index < anchor.end {
            var node = document.nodes[index]
            if node.next != 0 { node.next += distance }
            document.nodes.append(node)
            document.positions.append(document.positions[index])
            index += 1
        }
    }

    /// Aliases may have put deep values into deep places.
    private func checkDepth() throws(YAMLError) {
        if anchors.isEmpty { return }
        var path: [JSONNode] = []
        var current: JSONNode? = document.root
        while true {
            if let node = current {
                let kind = document.kind(node)
                if path.count == maximumDepth, kind == .object || kind == .array {
                    throw YAMLError(.tooDeep, document.position(node), "the values are nested too deep")
                }
                guard let child = document.firstChild(node) else {
                    current = document.next(node)
                    continue
                }
                path.append(node)
                current = child
            } else {
                guard let parent = path.popLast() else { return }
                current = document.next(parent)
            }
        }
    }
}

/// Plain scalars by the core schema, YAML 1.2.2 section 10.3.2.
private enum YAMLScalar {
    static func resolve(
        _ value: [UInt8], _ position: TextPosition
    ) throws(YAMLError) -> (kind: JSONKind, flags: UInt32, text: [UInt8]) {
        switch value.count {
        case 0: return (.null, 0, [])
        case 1 where value[0] == UInt8(ascii: "~"): return (.null, 0, value)
        case 4 where isWord(value, "null", "Null", "NULL"): return (.null, 0, value)
        case 4 where isWord(value, "true", "True", "TRUE"): return (.bool, JSONDocument.Node.isTrue, Array("true".utf8))
        case 5 where isWord(value, "false", "False", "FALSE"): return (.bool, 0, Array("false".utf8))
        case 4 where isWord(value, ".nan", ".NaN", ".NAN"), 4 where isWord(value, ".inf", ".Inf", ".INF"),
            5
        where (value[0] == UInt8(ascii: "-") || value[0] == UInt8(ascii: "+"))
            && isWord(Array(value[1...]), ".inf", ".Inf", ".INF"):
            throw YAMLError(.numberNotFinite, position, "a number must be finite; quote it if it is meant as text")
        default: break
        }
        if let text = prefixedInteger(value) { return (.integer, 0, text) }
        guard let (text, isInteger) = decimal(value) else { return (.string, 0, value) }
        if !isInteger || text.count > 300 {
            guard let number = parseDouble(text.span), number.isFinite else {
                throw YAMLError(.numberNotFinite, position, "the number is beyond the range of a double")
            }
        }
        return (isInteger ? .integer : .number, 0, text)
    }

    private static func isWord(
        _ value: [UInt8], _ first: StaticString, _ second: StaticString, _ third: StaticString
    ) -> Bool {
        equal(value.span, first.bytes) || equal(value.span, second.bytes) || equal(value.span, third.bytes)
    }

    /// `0x1F` and `0o17`, where they fit 63 bits, as decimals.
    private static func prefixedInteger(_ value: [UInt8]) -> [UInt8]? {
        guard value.count > 2, value[0] == UInt8(ascii: "0") else { return nil }
        let shift: UInt64
        switch value[1] {
        case UInt8(ascii: "x"): shift = 4
        case UInt8(ascii: "o"): shift = 3
        default: return nil
        }
        var number: UInt64 = 0
        for byte in value[2...] {
            guard let digit = Hex.value(of: byte), digit < 1 << shift, number >> (63 - shift) == 0 else { return nil }
            number = number << shift | UInt64(digit)
        }
        var text: [UInt8] = []
        appendInteger(number, to: &text)
        return text
    }

    /// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?` in JSON's spelling, or nil.
    private static func decimal(_ value: [UInt8]) -> (text: [UInt8], isInteger: Bool)? {
        var text: [UInt8] = []
        var index = 0
        func isDigit(_ index: Int) -> Bool { index < value.count && value[index] &- 0x30 < 10 }
        if value[0] == UInt8(ascii: "-") || value[0] == UInt8(ascii: "+") {
            if value[0] == UInt8(ascii: "-") { text.append(UInt8(ascii: "-")) }
            index = 1
        }
        let start = index
        while index < value.count, value[index] == UInt8(ascii: "0"), isDigit(index + 1) { index += 1 }
        let hasWhole = isDigit(index)
        if !hasWhole { text.append(UInt8(ascii: "0")) }
        while isDigit(index) {
            text.append(value[index])
            index += 1
        }
        if index == start, index >= value.count { return nil }
        var isInteger = true
        if index < value.count, value[index] == UInt8(ascii: ".") {
            isInteger = false
            index += 1
            text.append(UInt8(ascii: "."))
            if !isDigit(index) {
                if !hasWhole { return nil }
                text.append(UInt8(ascii: "0"))
            }
            while isDigit(index) {
                text.append(value[index])
                index += 1
            }
        } else if !hasWhole {
            return nil
        }
        if index < value.count, value[index] | 0x20 == UInt8(ascii: "e") {
            isInteger = false
            text.append(value[index])
            index += 1
            if index < value.count, value[index] == UInt8(ascii: "-") || value[index] == UInt8(ascii: "+") {
                text.append(value[index])
                index += 1
            }
            if !isDigit(index) { return nil }
            while isDigit(index) {
                text.append(value[index])
                index += 1
            }
        }
        return index == value.count ? (text, isInteger) : nil
    }
}
