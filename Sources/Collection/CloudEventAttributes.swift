// The context attributes of one CloudEvent (CloudEvents 1.0, context attributes), from JSON members or from HTTP
// headers, each checked as it is taken. It need not know the event's data nor what becomes of it.

import Formats

struct CloudEventAttributes {
    /// The attributes that mean something here. All others are extensions that are only kept.
    enum Name: Int {
        case specversion, id, source, type, subject, time, datacontenttype, dataschema
        /// Extensions of our own: who it was, where `subject` is something else than the person.
        case userid, anonymousid

        static let all: [Name] = [
            .specversion, .id, .source, .type, .subject, .time, .datacontenttype, .dataschema, .userid, .anonymousid,
        ]

        init?(_ text: Span<UInt8>) {
            for name in Name.all where equal(text, name.text.bytes) {
                self = name
                return
            }
            return nil
        }

        var text: StaticString {
            switch self {
            case .specversion: "specversion"
            case .id: "id"
            case .source: "source"
            case .type: "type"
            case .subject: "subject"
            case .time: "time"
            case .datacontenttype: "datacontenttype"
            case .dataschema: "dataschema"
            case .userid: "userid"
            case .anonymousid: "anonymousid"
            }
        }
    }

    /// Whether they come from HTTP headers: errors then name those.
    var isBinary = false
    private var values: [[UInt8]] = Array(repeating: [], count: 10)
    private var present: UInt16 = 0
    /// Extensions as members of an object: `"name":value,…`.
    private(set) var extensions = JSONWriter()
    private var extensionNames: [[UInt8]] = []

    mutating func clear() {
        for index in values.indices { values[index].removeAll(keepingCapacity: true) }
        present = 0
        extensions.clear()
        extensionNames.removeAll(keepingCapacity: true)
    }

    func has(_ name: Name) -> Bool { present >> UInt16(name.rawValue) & 1 == 1 }

    /// The attribute's text; empty when it is not set.
    subscript(name: Name) -> [UInt8] { values[name.rawValue] }

    // MARK: Taking

    /// A value of an attribute, by its type in JSON (JSON format 2.2).
    enum Value {
        case text
        case integer(Int64)
        case bool(Bool)
    }

    /// Takes an attribute.
    /// - Parameter text: the value of `.text`; ignored for the others.
    mutating func take(
        _ name: Span<UInt8>, _ value: Value, _ text: Span<UInt8>
    ) throws(RefusedEvent) {
        guard CloudEventAttributes.isName(name) else {
            throw RefusedEvent(
                EventRefusal(
                    "bad_attribute_name", "an attribute's name has 1 to 64 of the letters a to z and digits"), at: [])
        }
        if case .text = value, !CloudEventAttributes.isAllowed(text) {
            throw fault("bad_attribute", "an attribute is UTF-8 text without control characters", name)
        }
        if let known = Name(name) {
            try take(known, value, text)
        } else {
            try takeExtension(name, value, text)
        }
    }

    private mutating func take(_ name: Name, _ value: Value, _ text: Span<UInt8>) throws(RefusedEvent) {
        if has(name) { throw repeated(name.text.bytes) }
        present |= 1 << UInt16(name.rawValue)
        var copy: [UInt8] = []
        switch value {
        case .text: copy.append(contentsOf: text)
        case .integer(let number) where name == .userid || name == .anonymousid: appendInteger(number, to: &copy)
        default: throw fault("bad_attribute", "this attribute must be text", name.text.bytes)
        }
        if copy.isEmpty { throw fault("bad_attribute", "this attribute must not be empty", name.text.bytes) }
        try check(name, copy.span)
        values[name.rawValue] = copy
    }

    private mutating func takeExtension(
        _ name: Span<UInt8>, _ value: Value, _ text: Span<UInt8>
    ) throws(RefusedEvent) {
        if equal(name, ("data" as StaticString).bytes) {
            throw fault("bad_attribute_name", "no attribute may be called data", name)
        }
        if isBinary {
            for known in extensionNames where equal(known.span, name) { throw repeated(name) }
            extensionNames.append([UInt8](copying: name))
        }
        extensions.key(name)
        switch value {
        case .text: extensions.string(text)
        case .bool(let flag): extensions.bool(flag)
        case .integer(let number):
            guard Int64(Int32.min)...Int64(Int32.max) ~= number else {
                throw fault("bad_attribute", "an integer attribute has 32 bits", name)
            }
            extensions.int(number)
        }
    }

    /// Takes an HTTP header whose name begins with `ce-` (HTTP binding 3.1.3). Names have no case.
    mutating func takeHeader(_ name: Span<UInt8>, _ value: Span<UInt8>) throws(RefusedEvent) {
        var lowered: [UInt8] = []
        for index in 3..<name.count { lowered.append(loweredASCII(name[index])) }
        if equal(lowered.span, Name.datacontenttype.text.bytes) {
            throw RefusedEvent(
                EventRefusal("bad_attribute", "the media type of the data stands in Content-Type alone"),
                at: Array("ce-datacontenttype".utf8))
        }
        var decoded: [UInt8] = []
        guard CloudEventAttributes.decodeHeader(value, into: &decoded) else {
            throw fault(
                "bad_attribute", "the header's quotes or percent signs are not properly paired or encoded", lowered.span)
        }
        try take(lowered.span, .text, decoded.span)
    }

    // MARK: Checking

    /// What the specification asks of all together.
    func checkWhole() throws(RefusedEvent) {
        let version = self[.specversion]
        guard equal(version.span, ("1.0" as StaticString).bytes) else {
            throw fault("bad_specversion", "specversion must be 1.0", Name.specversion.text.bytes)
        }
        let required: [Name] = [.id, .source, .type]
        for name in required where !has(name) {
            throw fault("missing_attribute", "a CloudEvent needs id, source, specversion and type", name.text.bytes)
        }
    }

    private func check(_ name: Name, _ text: Span<UInt8>) throws(RefusedEvent) {
        switch name {
        case .source:
            if CloudEventAttributes.isURIReference(text) { return }
            throw fault("bad_attribute", "source must be a URI reference (RFC 3986)", name.text.bytes)
        case .dataschema:
            if CloudEventAttributes.isURIReference(text), CloudEventAttributes.hasScheme(text) { return }
            throw fault("bad_attribute", "dataschema must be an absolute URI (RFC 3986)", name.text.bytes)
        case .time:
            if Timestamp.parse(text) != nil { return }
            throw fault("bad_attribute", "time must be a time such as 2026-01-31T09:30:00Z (RFC 3339)", name.text.bytes)
        case .datacontenttype:
            if MediaType(text) != nil { return }
            throw fault("bad_attribute", "the media type must be one such as application/json", name.text.bytes)
        default: return
        }
    }

    private func repeated(_ name: Span<UInt8>) -> RefusedEvent {
        fault("repeated_attribute", "an attribute stands once in an event", name)
    }

    func fault(_ code: StaticString, _ message: StaticString, _ name: StaticString) -> RefusedEvent {
        fault(code, message, name.bytes)
    }

    func fault(_ code: StaticString, _ message: StaticString, _ name: Span<UInt8>) -> RefusedEvent {
        var member: [UInt8] = []
        if isBinary, equal(name, Name.datacontenttype.text.bytes) {
            member.append(contentsOf: ("content-type" as StaticString).bytes)
        } else {
            member.append(contentsOf: isBinary ? ("ce-" as StaticString).bytes : ("/" as StaticString).bytes)
            if CloudEventAttributes.isName(name) || equal(name, ("data_base64" as StaticString).bytes) {
                member.append(contentsOf: name)
            }
        }
        return RefusedEvent(EventRefusal(code, message), at: member)
    }

    // MARK: Forms

    /// CloudEvents 1.0, naming conventions. The length is a recommendation there and a limit here.
    static func isName(_ name: Span<UInt8>) -> Bool {
        if name.isEmpty || name.count > Limits.attributeNameBytes { return false }
        for index in name.indices where !(name[index] &- 0x61 < 26 || name[index] &- 0x30 < 10) { return false }
        return true
    }

    /// CloudEvents 1.0, type system, String: UTF-8 without control characters and noncharacters.
    static func isAllowed(_ text: Span<UInt8>) -> Bool {
        var index = 0
        while index < text.count {
            let byte = text[index]
            let length = UTF8Text.sequenceLength(text, index)
            switch length {
            case 0: return false
            case 1: if byte < 0x20 || byte == 0x7F { return false }
            case 2: if byte == 0xC2, text[index + 1] < 0xA0 { return false }
            case 3:
                // U+FDD0…U+FDEF, U+FFFE and U+FFFF.
                let last = text[index + 2]
                if byte == 0xEF, text[index + 1] == 0xB7, 0x90...0xAF ~= last { return false }
                if byte == 0xEF, text[index + 1] == 0xBF, last >= 0xBE { return false }
            default:
                // The last two of each of the planes 1 to 16.
                if text[index + 1] & 0x0F == 0x0F, text[index + 2] == 0xBF, text[index + 3] >= 0xBE { return false }
            }
            index += length
        }
        return true
    }

    /// The characters of RFC 3986, with each percent sign before two hexadecimal digits.
    static func isURIReference(_ text: Span<UInt8>) -> Bool {
        var index = 0
        while index < text.count {
            let byte = text[index]
            switch byte {
            case UInt8(ascii: "%"):
                guard index + 2 < text.count, Hex.value(of: text[index + 1]) != nil, Hex.value(of: text[index + 2]) != nil
                else { return false }
            case 0...0x20, 0x7F..., UInt8(ascii: "\""), UInt8(ascii: "<"), UInt8(ascii: ">"), UInt8(ascii: "\\"),
                UInt8(ascii: "^"), UInt8(ascii: "`"), UInt8(ascii: "{"), UInt8(ascii: "|"), UInt8(ascii: "}"):
                return false
            default: break
            }
            index += 1
        }
        return true
    }

    /// RFC 3986 section 3.1.
    private static func hasScheme(_ text: Span<UInt8>) -> Bool {
        var index = 0
        while index < text.count {
            let byte = text[index]
            let isLetter = loweredASCII(byte) &- 0x61 < 26
            if byte == UInt8(ascii: ":") { return index > 0 && index + 1 < text.count }
            let isLater =
                byte &- 0x30 < 10 || byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
            guard isLetter || index > 0 && isLater else { return false }
            index += 1
        }
        return false
    }

    /// HTTP binding 3.1.3.2: quoted parts lose their quotes and backslashes, and then percent signs are decoded, once.
    /// Text that should have been percent-encoded and was not is taken as it is if it is UTF-8, which `take` sees to.
    static func decodeHeader(_ value: Span<UInt8>, into decoded: inout [UInt8]) -> Bool {
        var bare: [UInt8] = []
        var isQuoted = false
        var index = 0
        while index < value.count {
            let byte = value[index]
            if byte == UInt8(ascii: "\"") {
                isQuoted = !isQuoted
            } else if isQuoted, byte == UInt8(ascii: "\\") {
                index += 1
                if index == value.count { return false }
                bare.append(value[index])
            } else {
                bare.append(byte)
            }
            index += 1
        }
        return !isQuoted && decodePercent(bare.span, into: &decoded)
    }

    private static func decodePercent(_ text: Span<UInt8>, into decoded: inout [UInt8]) -> Bool {
        var index = 0
        while index < text.count {
            if text[index] != UInt8(ascii: "%") {
                decoded.append(text[index])
                index += 1
                continue
            }
            guard index + 2 < text.count, let high = Hex.value(of: text[index + 1]),
                let low = Hex.value(of: text[index + 2])
            else { return false }
            decoded.append(high << 4 | low)
            index += 3
        }
        return true
    }
}

/// What a media type says of how data is written.
enum MediaType {
    case json, text, other

    /// Reads a media type (RFC 9110 section 8.3.1); nil for what is none. Its parameters say nothing here.
    init?(_ text: Span<UInt8>) {
        var end = 0
        while end < text.count, text[end] != UInt8(ascii: ";") { end += 1 }
        while end > 0, text[end - 1] == 0x20 || text[end - 1] == 0x09 { end -= 1 }
        var slash = 0
        while slash < end, text[slash] != UInt8(ascii: "/") { slash += 1 }
        guard slash > 0, slash + 1 < end else { return nil }
        for index in 0..<end where index != slash && !MediaType.isToken(text[index]) { return nil }
        let type = text.extracting(0..<slash)
        let subtype = text.extracting(slash + 1..<end)
        if MediaType.isOrEnds(subtype, "json") {
            self = .json
        } else if MediaType.isOrEnds(subtype, "xml") || MediaType.equals(type, "text") {
            self = .text
        } else {
            self = .other
        }
    }

    /// `json` and whatever ends in `+json` (RFC 6839).
    private static func isOrEnds(_ subtype: Span<UInt8>, _ format: StaticString) -> Bool {
        let length = format.utf8CodeUnitCount
        if subtype.count == length { return equals(subtype, format) }
        return subtype.count > length + 1 && subtype[subtype.count - length - 1] == UInt8(ascii: "+")
            && equals(subtype.extracting(subtype.count - length..<subtype.count), format)
    }

    private static func equals(_ text: Span<UInt8>, _ lowercase: StaticString) -> Bool {
        let expected = lowercase.bytes
        if text.count != expected.count { return false }
        for index in text.indices where loweredASCII(text[index]) != expected[index] { return false }
        return true
    }

    /// RFC 9110 section 5.6.2.
    private static func isToken(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"),
            UInt8(ascii: "%"), UInt8(ascii: "&"), UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"),
            UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "^"), UInt8(ascii: "_"), UInt8(ascii: "`"),
            UInt8(ascii: "|"), UInt8(ascii: "~"):
            true
        default: false
        }
    }
}

func loweredASCII(_ byte: UInt8) -> UInt8 { byte &- 0x41 < 26 ? byte | 0x20 : byte }
