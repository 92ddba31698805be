// `gatehouse eval --batch`: one JSON line with an expression and its bindings in, one with the value out, in the JSON form
// of cel-spec's `cel.expr.Value`. It need not know how anything is evaluated.

import Formats

/// Evaluates lines of the batch format (DESIGN section 6): `{"id":…, "expr":…, "container":…, "bindings":{…},
/// "disable_macros":…}`, and, as cel-spec's own tests have them, `"type_env":[…]` and `"disable_check":…`.
public struct BatchEvaluator: ~Copyable {
    private var line = JSONDocument()
    private var evaluator: Evaluator

    /// - Parameter zones: where IANA time zones are read; see `TimeZones`.
    public init(zones: TimeZones = TimeZones()) {
        evaluator = Evaluator(zones: zones)
    }

    /// Evaluates one line and appends the answer, `{"id":…,"value":{…}}` or `{"id":…,"error":"…"}`, without a newline.
    ///
    /// - Parameter text: UTF-8 JSON of one object, without the newline.
    public mutating func evaluate(_ text: Span<UInt8>, into writer: inout JSONWriter) {
        writer.beginObject()
        answer(text, &writer)
        writer.endObject()
        evaluator.end()
    }

    private mutating func answer(_ text: Span<UInt8>, _ writer: inout JSONWriter) {
        do {
            try line.parse(text)
        } catch {
            writer.key("id")
            writer.null()
            return fail(error.message, &writer)
        }
        writer.key("id")
        if let id = line.member(line.root, "id") { writer.value(line, id) } else { writer.null() }
        guard let source = line.member(line.root, "expr"), line.kind(source) == .string else {
            return fail("'expr' is missing, the expression as a string", &writer)
        }
        var environment = Environment()
        environment.disablesMacros = flag("disable_macros")
        environment.checksTypes = !flag("disable_check")
        if let container = line.member(line.root, "container"), line.kind(container) == .string {
            environment.container = copyBytes(line.bytes(container))
        }
        let nodes = declare(&environment)
        var compiler = Compiler()
        do {
            _ = try compiler.add(copyBytes(line.bytes(source)), in: environment)
        } catch {
            return fail(error.description, &writer)
        }
        evaluate(compiler.finish(), BatchBindings(line: line, nodes: nodes), &writer)
    }

    private mutating func evaluate(_ program: borrowing Program, _ bindings: BatchBindings, _ writer: inout JSONWriter) {
        evaluator.begin()
        do {
            let value = try evaluator.evaluate(program, 0, bindings)
            writer.key("value")
            evaluator.machine.writeTyped(value, &writer, Context(program, bindings.region), 0)
        } catch {
            fail(program.describe(error, in: 0).description, &writer)
        }
    }

    private func flag(_ name: StaticString) -> Bool {
        guard let node = line.member(line.root, name) else { return false }
        return line.bool(node) ?? false
    }

    private func fail(_ message: String, _ writer: inout JSONWriter) {
        writer.key("error")
        writer.string(message)
    }

    /// Declares the names of `type_env` and `bindings`; returns the node of each slot's value.
    private func declare(_ environment: inout Environment) -> [JSONNode?] {
        var names: [[UInt8]] = []
        var nodes: [JSONNode?] = []
        if let list = line.member(line.root, "type_env") {
            var next = line.firstChild(list)
            while let entry = next {
                if let name = line.member(entry, "name"), let identifier = line.member(entry, "ident"),
                    let type = line.member(identifier, "type")
                {
                    names.append(copyBytes(line.bytes(name)))
                    nodes.append(nil)
                    environment.declare(names[names.count - 1], .slot(self.type(type), names.count - 1))
                }
                next = line.next(entry)
            }
        }
        guard let bindings = line.member(line.root, "bindings") else { return nodes }
        var next = line.firstChild(bindings)
        while let key = next, let value = line.next(key) {
            let name = copyBytes(line.bytes(key))
            if let slot = names.firstIndex(of: name) {
                nodes[slot] = value
            } else {
                names.append(name)
                nodes.append(value)
                environment.declare(name, .slot(.dyn, names.count - 1))
            }
            next = line.next(value)
        }
        return nodes
    }

    /// A `cel.expr.Type` in JSON.
    private func type(_ node: JSONNode) -> Type {
        guard let key = line.firstChild(node), let value = line.next(key) else { return .dyn }
        if line.equals(key, "primitive") || line.equals(key, "wrapper") {
            if line.equals(value, "BOOL") { return .bool }
            if line.equals(value, "INT64") { return .int }
            if line.equals(value, "UINT64") { return .uint }
            if line.equals(value, "DOUBLE") { return .double }
            if line.equals(value, "STRING") { return .string }
            if line.equals(value, "BYTES") { return .bytes }
        } else if line.equals(key, "wellKnown") {
            if line.equals(value, "TIMESTAMP") { return .timestamp }
            if line.equals(value, "DURATION") { return .duration }
        } else if line.equals(key, "messageType") {
            if line.equals(value, "google.protobuf.Timestamp") { return .timestamp }
            if line.equals(value, "google.protobuf.Duration") { return .duration }
        } else if line.equals(key, "listType") {
            return .list(line.member(value, "elemType").map { type($0) } ?? .dyn)
        } else if line.equals(key, "mapType") {
            return .map(
                line.member(value, "keyType").map { type($0) } ?? .dyn,
                line.member(value, "valueType").map { type($0) } ?? .dyn)
        } else if line.equals(key, "null") {
            return .null
        } else if line.equals(key, "type") {
            return .type
        }
        return .dyn
    }
}

/// Values in the JSON form of `cel.expr.Value`, one for each slot.
struct BatchBindings: Bindings {
    let line: JSONDocument
    let nodes: [JSONNode?]

    var region: Span<UInt8> { @_lifetime(borrow self) get { Span() } }
    func document(_ number: Int) -> JSONDocument? { nil }

    func load(_ slot: Int, into heap: inout Heap) -> Value? {
        guard slot < nodes.count, let node = nodes[slot] else { return nil }
        return value(node, &heap, 0)
    }

    private func value(_ node: JSONNode, _ heap: inout Heap, _ depth: Int) -> Value? {
        guard depth < Limits.valueNesting, let kind = line.firstChild(node), let content = line.next(kind) else {
            return nil
        }
        if line.equals(kind, "nullValue") { return .null }
        if line.equals(kind, "boolValue") { return line.bool(content).map { .bool($0) } }
        if line.equals(kind, "int64Value") { return parseInt64(line.bytes(content)).map { .int($0) } }
        if line.equals(kind, "uint64Value") { return parseUInt64(line.bytes(content)).map { .uint($0) } }
        if line.equals(kind, "doubleValue") { return real(content).map { .double($0) } }
        if line.equals(kind, "stringValue") { return heap.string(line.bytes(content)) }
        if line.equals(kind, "bytesValue") {
            guard let data = decodedBase64(line.bytes(content)) else { return nil }
            return heap.bytes(data.span)
        }
        if line.equals(kind, "typeValue") {
            let name = copyBytes(line.bytes(content))
            for entry in FunctionTable.typeNames where bytesEqual(name, entry.name) {
                return Value(.type, bits: UInt64(entry.kind.rawValue))
            }
            return nil
        }
        if line.equals(kind, "listValue") { return list(content, &heap, depth) }
        if line.equals(kind, "mapValue") { return map(content, &heap, depth) }
        if line.equals(kind, "objectValue") { return object(content) }
        return nil
    }

    private func real(_ node: JSONNode) -> Double? {
        if let number = line.double(node) { return number }
        if line.equals(node, "NaN") { return .nan }
        if line.equals(node, "Infinity") { return .infinity }
        return line.equals(node, "-Infinity") ? -.infinity : nil
    }

    private func list(_ node: JSONNode, _ heap: inout Heap, _ depth: Int) -> Value? {
        heap.beginList()
        var next = line.member(node, "values").flatMap { line.firstChild($0) }
        while let element = next {
            heap.append(value(element, &heap, depth + 1) ?? .null)
            next = line.next(element)
        }
        return heap.endList()
    }

    private func map(_ node: JSONNode, _ heap: inout Heap, _ depth: Int) -> Value? {
        heap.beginMap()
        var next = line.member(node, "entries").flatMap { line.firstChild($0) }
        while let entry = next {
            if let key = line.member(entry, "key"), let content = line.member(entry, "value") {
                heap.append(value(key, &heap, depth + 1) ?? .null)
                heap.append(value(content, &heap, depth + 1) ?? .null)
            }
            next = line.next(entry)
        }
        return heap.endMap()
    }

    /// The well-known types that the language has: `google.protobuf.Timestamp` and `Duration`.
    private func object(_ node: JSONNode) -> Value? {
        guard let type = line.member(node, "@type"), let content = line.member(node, "value") else { return nil }
        if line.equals(type, "type.googleapis.com/google.protobuf.Duration") {
            return Time.parseDuration(line.bytes(content)).map { .duration(nanoseconds: $0) }
        }
        if line.equals(type, "type.googleapis.com/google.protobuf.Timestamp") {
            return Time.parseTimestamp(line.bytes(content)).map {
                .timestamp(seconds: $0.seconds, nanoseconds: $0.nanoseconds)
            }
        }
        return nil
    }
}

extension Machine {
    /// Writes a value in the JSON form of `cel.expr.Value`.
    mutating func writeTyped(_ value: Value, _ writer: inout JSONWriter, _ c: Context, _ depth: Int) {
        writer.beginObject()
        defer { writer.endObject() }
        guard depth < Limits.valueNesting else { return }
        switch value.kind {
        case .bool:
            writer.key("boolValue")
            writer.bool(value.bits != 0)
        case .int, .uint:
            writer.key(value.kind == .int ? StaticString("int64Value") : StaticString("uint64Value"))
            let text = scalarText(value, c)
            writer.string(text.span)
        case .double:
            writer.key("doubleValue")
            if value.real.isFinite {
                writer.double(value.real)
            } else {
                let text = scalarText(value, c)
                writer.string(text.span)
            }
        case .string:
            writer.key("stringValue")
            writer.string(bytes(value, c))
        case .bytes:
            writer.key("bytesValue")
            var text: [UInt8] = []
            appendBase64(bytes(value, c), to: &text)
            writer.string(text.span)
        case .list:
            writer.key("listValue")
            writeTypedList(value, &writer, c, depth)
        case .map:
            writer.key("mapValue")
            writeTypedMap(value, &writer, c, depth)
        case .type:
            writer.key("typeValue")
            let text = scalarText(value, c)
            writer.string(text.span)
        case .timestamp, .duration:
            writer.key("objectValue")
            writeObject(
                value.kind == .timestamp
                    ? "type.googleapis.com/google.protobuf.Timestamp" : "type.googleapis.com/google.protobuf.Duration",
                value, &writer, c)
        case .ip, .cidr:
            writer.key("objectValue")
            writeObject(value.kind == .ip ? "net.IP" : "net.CIDR", value, &writer, c)
        case .optional:
            // cel.expr.Value has no optional; this form is our own.
            writer.key("optionalValue")
            if value.extra == 0 { writer.null() } else { writeTyped(optionalContent(value, c), &writer, c, depth + 1) }
        default:
            writer.key("nullValue")
            writer.null()
        }
    }

    private mutating func writeObject(_ type: StaticString, _ value: Value, _ writer: inout JSONWriter, _ c: Context) {
        writer.beginObject()
        writer.key("@type")
        writer.string(type)
        writer.key("value")
        let text = scalarText(value, c)
        writer.string(text.span)
        writer.endObject()
    }

    private mutating func writeTypedList(_ list: Value, _ writer: inout JSONWriter, _ c: Context, _ depth: Int) {
        writer.beginObject()
        if count(list) > 0 {
            writer.key("values")
            writer.beginArray()
            for index in 0..<count(list) { writeTyped(element(list, index, c), &writer, c, depth + 1) }
            writer.endArray()
        }
        writer.endObject()
    }

    private mutating func writeTypedMap(_ map: Value, _ writer: inout JSONWriter, _ c: Context, _ depth: Int) {
        writer.beginObject()
        if count(map) > 0 {
            writer.key("entries")
            writer.beginArray()
            for index in 0..<count(map) {
                writer.beginObject()
                writer.key("key")
                writeTyped(mapKey(map, index, c), &writer, c, depth + 1)
                writer.key("value")
                writeTyped(mapValue(map, index, c), &writer, c, depth + 1)
                writer.endObject()
            }
            writer.endArray()
        }
        writer.endObject()
    }
}
