// The bundle's `identifiers` section: which places of an event hold identifiers, how each kind is made alike and in
// what form it may leave. Read once when a bundle is loaded; it need not know events nor the store.

import Cryptography
import Formats

/// In what form identifiers of a kind may leave the device.
public enum IdentifierForm: UInt8 {
    /// The keyed hash that is kept here.
    case hmac
    /// The plain SHA-256 that advertising systems match on.
    case sha256
}

/// A place in an event: member names from the root, such as `traits`, `email`; none is the root.
public struct IdentifierPath: Equatable {
    let segments: [[UInt8]]

    init(_ segments: [[UInt8]]) { self.segments = segments }

    init(_ text: StaticString) { self.init(IdentifierPath.split(text.bytes)) }

    static func split(_ text: Span<UInt8>) -> [[UInt8]] {
        var segments: [[UInt8]] = [[]]
        for index in text.indices {
            if text[index] == UInt8(ascii: ".") {
                segments.append([])
            } else {
                segments[segments.count - 1].append(text[index])
            }
        }
        return segments
    }

    /// Whether it is a place in an event's `traits`.
    var isInTraits: Bool {
        guard let first = segments.first else { return false }
        return equal(first.span, ("traits" as StaticString).bytes)
    }

    /// Whether one of the two places is, or holds, the other.
    func touches(_ place: [[UInt8]]) -> Bool {
        for index in 0..<min(segments.count, place.count) {
            let (mine, other) = (segments[index], place[index])
            if !equal(mine.span, other.span) { return false }
        }
        return true
    }

    /// The node at this place below `root`, or nil.
    func find(_ document: borrowing JSONDocument, _ root: JSONNode) -> JSONNode? {
        var node = root
        for segment in segments {
            guard let member = document.member(node, segment) else { return nil }
            node = member
        }
        return node
    }
}

/// One kind of identifier.
public struct IdentifierKind {
    /// UTF-8, for example `email`.
    public let name: [UInt8]
    /// FNV-1a of the name.
    public let tag: UInt32
    public let normalizer: Normalizer
    public let form: IdentifierForm
    /// Two different values of it never belong to one person.
    public let isUnique: Bool
    /// Of a thing that many people use: leads to a person for the length of a visit and never merges two.
    public let isShared: Bool
    let paths: [IdentifierPath]
    /// Values that are nobody's, trimmed and in lower case, besides the ones that never are.
    let blocked: [[UInt8]]

    /// Whether a value (trimmed, in lower case) is nobody's.
    func isBlocked(_ value: Span<UInt8>) -> Bool {
        for entry in blocked where equal(entry.span, value) { return true }
        return NobodysValues.contain(value)
    }
}

/// All kinds of a bundle. Immutable once read: threads share it.
public struct IdentifierPlan {
    /// In the order of the bundle.
    public let kinds: [IdentifierKind]

    /// A plan without kinds: still strips the well-known fields.
    public init() { kinds = [] }

    /// Reads the `identifiers` section of a bundle, whose root is `bundle`. What is wrong is remembered by `reader`;
    /// the plan is fit for use only if nothing is.
    public init(_ document: borrowing JSONDocument, _ bundle: JSONNode, _ reader: inout PlanReader) {
        var kinds: [IdentifierKind] = []
        if let section = reader.object(document, bundle, "identifiers") {
            var key = document.firstChild(section)
            while let name = key, let value = document.next(name) {
                if let kind = IdentifierPlan.readKind(document, name, value, &reader) {
                    for earlier in kinds where earlier.tag == kind.tag {
                        reader.report(
                            document, name, "this name cannot be told apart from an earlier one; choose another")
                    }
                    kinds.append(kind)
                }
                key = document.next(value)
            }
            if kinds.count > Limits.identifierKinds {
                reader.report(document, section, "at most \(Limits.identifierKinds) kinds of identifiers")
            }
        }
        self.kinds = kinds
    }

    /// The place of a kind, or nil for an unknown name.
    public func kindIndex(named name: Span<UInt8>) -> Int? {
        for index in kinds.indices {
            let known = kinds[index].name
            if equal(known.span, name) { return index }
        }
        return nil
    }

    /// Whether identifiers of a kind are of things that many people use: nobody's.
    public func isShared(_ tag: UInt32) -> Bool { kindIndex(tag: tag).map { kinds[$0].isShared } ?? false }

    /// The place of the kind with this tag, or nil: the bundle has it no more.
    public func kindIndex(tag: UInt32) -> Int? {
        for index in kinds.indices where kinds[index].tag == tag { return index }
        return nil
    }

    /// Whether a place in an event's properties or traits is one for identifiers, of this plan or of the Segment
    /// specification, lies in one, or has one in it: a value must not be moved into it nor out of it (promise P3).
    /// - Parameter path: names joined by dots.
    public func isPlace(_ path: [UInt8]) -> Bool {
        for prefix in ["properties.", "traits.", "context.traits."] as [StaticString] {
            var whole: [UInt8] = []
            whole.append(contentsOf: prefix.bytes)
            let place = IdentifierPath.split((whole + path).span)
            for kind in kinds where kind.paths.contains(where: { $0.touches(place) }) { return true }
            for known in WellKnownIdentity.places {
                for name in known.names where IdentifierPath(known.path.segments + [name]).touches(place) { return true }
            }
        }
        return false
    }

    /// Hashes one value of a kind as an event's would be, for `GET /v1/profiles/{kind}:{value}`. nil: it is no
    /// identifier of that kind, or nobody's. `room` is overwritten and wiped.
    public func hash(
        _ raw: borrowing RawIdentifier, kindIndex: Int, pepper: Peppers,
        using room: inout NormalizedIdentifier
    ) -> HashedIdentifier? {
        let kind = kinds[kindIndex]
        defer { room.wipe() }
        if !room.take(raw, kind.normalizer) || kind.isBlocked(room.contents) { return nil }
        return HashedIdentifier(
            kindTag: kind.tag, kindIndex: kindIndex, digest: room.hash(kindName: kind.name.span, pepper: pepper.present),
            plainDigest: kind.form == .sha256 ? room.plainHash() : nil,
            former: room.former(kindName: kind.name.span, pepper))
    }

    // MARK: Reading a kind

    private static func readKind(
        _ document: borrowing JSONDocument, _ name: JSONNode, _ node: JSONNode, _ reader: inout PlanReader
    ) -> IdentifierKind? {
        let bytes = Array(copying: document.bytes(name))
        if !isName(bytes) {
            reader.report(
                document, name,
                "a kind's name has letters, digits, - and _ only: it is part of addresses such as email:…")
            return nil
        }
        if document.kind(node) != .object {
            reader.report(document, node, "a kind is a mapping, such as { from: [traits.email], normalize: email }")
            return nil
        }
        reader.refuseOthers(
            document, node, ["from", "normalize", "profile", "region", "send", "unique", "shared", "block"],
            of: "an identifier")
        let normalizer = readNormalizer(document, node, &reader)
        let isUnique = reader.flag(document, node, "unique") ?? false
        let isShared = reader.flag(document, node, "shared") ?? false
        if isUnique, isShared {
            reader.report(
                document, node,
                "unique and shared exclude each other: one tells people apart, the other is used by many")
        }
        var form = IdentifierForm.hmac
        if let send = reader.text(document, node, "send") {
            if document.equals(send, "sha256") {
                form = .sha256
            } else if !document.equals(send, "hmac") {
                reader.report(
                    document, send,
                    "send must be hmac or sha256; to send none, leave the kind out of a destination's identifiers")
            }
        }
        return IdentifierKind(
            name: bytes, tag: NameTag.of(bytes.span), normalizer: normalizer, form: form, isUnique: isUnique,
            isShared: isShared, paths: readPaths(document, node, &reader),
            blocked: readBlocked(document, node, normalizer, &reader))
    }

    private static func readNormalizer(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ reader: inout PlanReader
    ) -> Normalizer {
        var form = Normalizer.Form.none
        var profile = NormalizationProfile.plain
        var region: PhoneRegion?
        if let text = reader.text(document, node, "normalize") {
            if let known = Normalizer.form(named: document.bytes(text)) {
                form = known
            } else {
                reader.report(document, text, "normalize must be email, e164, lower, digits or none")
            }
        }
        if let text = reader.text(document, node, "profile") {
            if let known = Normalizer.profile(named: document.bytes(text)) {
                profile = known
            } else {
                reader.report(document, text, "profile must be plain, uid2, google or meta")
            }
        }
        if let text = reader.text(document, node, "region") {
            region = PhoneRegion(document.bytes(text))
            if region == nil {
                reader.report(document, text, "region must be a country's two capital letters (ISO 3166-1), such as DE")
            } else if form != .e164 {
                reader.report(document, text, "region is for normalize: e164 only")
            }
        }
        return Normalizer(form, profile: profile, region: region)
    }

    private static func readPaths(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ reader: inout PlanReader
    ) -> [IdentifierPath] {
        var paths: [IdentifierPath] = []
        guard let from = document.member(node, "from") else {
            reader.report(
                document, node, "from is missing: the places in an event that hold it, such as [traits.email]")
            return paths
        }
        var next: JSONNode? = from
        if document.kind(from) == .array { next = document.firstChild(from) }
        if next == nil { reader.report(document, from, "from names no place") }
        while let path = next {
            let segments = document.kind(path) == .string ? IdentifierPath.split(document.bytes(path)) : []
            if segments.isEmpty || segments.count > Limits.pathSegments || segments.contains(where: { $0.isEmpty }) {
                reader.report(
                    document, path,
                    "from has names joined by dots, such as traits.email, at most \(Limits.pathSegments)")
            } else {
                paths.append(IdentifierPath(segments))
            }
            next = path == from ? nil : document.next(path)
        }
        if paths.count > Limits.pathsPerKind {
            reader.report(document, from, "at most \(Limits.pathsPerKind) places a kind")
        }
        return paths
    }

    private static func readBlocked(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ normalizer: Normalizer, _ reader: inout PlanReader
    ) -> [[UInt8]] {
        var blocked: [[UInt8]] = []
        guard let list = document.member(node, "block") else { return blocked }
        if document.kind(list) != .array {
            reader.report(document, list, "block must be a list of values that are nobody's")
        }
        var next = document.firstChild(list)
        while let value = next {
            switch document.kind(value) {
            case .string, .integer, .number:
                var lowered: [UInt8] = []
                let bytes = document.bytes(value)
                appendTrimmedLowered(bytes, to: &lowered)
                blocked.append(lowered)
                var normalized: [UInt8] = []
                if normalizer.normalize(bytes, into: &normalized), normalized != lowered { blocked.append(normalized) }
            default:
                reader.report(document, value, "block has texts and numbers")
            }
            next = document.next(value)
        }
        return blocked
    }

    private static func isName(_ bytes: [UInt8]) -> Bool {
        if bytes.isEmpty || bytes.count > 64 { return false }
        for byte in bytes {
            let lowered = loweredASCII(byte)
            let isLetter = lowered >= UInt8(ascii: "a") && lowered <= UInt8(ascii: "z")
            if !isLetter, !isDigit(byte), byte != UInt8(ascii: "_"), byte != UInt8(ascii: "-") { return false }
        }
        return true
    }
}

/// Values that are nobody's in any shop: what programs and people write when there is nothing to write. One person
/// made of all of them would be the worst profile of the house.
enum NobodysValues {
    /// `value` is trimmed and in lower case.
    static func contain(_ value: Span<UInt8>) -> Bool {
        if isFiller(value) { return true }
        if value.count > 36 || lengths(beginningWith: value[0]) >> UInt64(value.count) & 1 == 0 { return false }
        for index in 0..<words.count where equal(value, words[index]) { return true }
        return false
    }

    /// Nothing, or nothing but zeros, dashes, dots and braces: `0000`, `00000000-0000-0000-0000-000000000000`, `-`.
    private static func isFiller(_ value: Span<UInt8>) -> Bool {
        for index in value.indices {
            switch value[index] {
            case UInt8(ascii: "0"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "{"),
                UInt8(ascii: "}"), UInt8(ascii: "+"), UInt8(ascii: " "):
                continue
            default: return false
            }
        }
        return true
    }

    /// Which lengths those of `words` have that begin with this byte, a bit each: nearly all values are told by it.
    private static func lengths(beginningWith byte: UInt8) -> UInt64 {
        switch byte {
        case UInt8(ascii: "a"): 1 << 4 | 1 << 7 | 1 << 9 | 1 << 13
        case UInt8(ascii: "c"): 1 << 8
        case UInt8(ascii: "d"): 1 << 7
        case UInt8(ascii: "e"): 1 << 5 | 1 << 17 | 1 << 19
        case UInt8(ascii: "f"): 1 << 5 | 1 << 36
        case UInt8(ascii: "g"): 1 << 5
        case UInt8(ascii: "n"): 1 << 2 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 12 | 1 << 13 | 1 << 16 | 1 << 19
        case UInt8(ascii: "t"): 1 << 4 | 1 << 6 | 1 << 12 | 1 << 13 | 1 << 16
        case UInt8(ascii: "u"): 1 << 4 | 1 << 7 | 1 << 9 | 1 << 16
        case UInt8(ascii: "v"): 1 << 4
        case UInt8(ascii: "x"): 1 << 3
        case UInt8(ascii: "0"): 1 << 17
        case UInt8(ascii: "1"): 1 << 9 | 1 << 10
        case UInt8(ascii: "9"): 1 << 16
        case UInt8(ascii: "["): 1 << 15
        case UInt8(ascii: "("): 1 << 6 | 1 << 9
        case UInt8(ascii: "+"): 1 << 11
        default: 0
        }
    }

    static let words: [StaticString] = [
        "null", "nil", "none", "undefined", "unknown", "n/a", "na", "nan", "anonymous", "anon", "guest", "user", "test",
        "tester", "true", "false", "[object object]", "(null)", "(not set)", "not set", "not_set", "xxx", "asdf",
        "email",
        "customer", "default", "empty", "void", "test@example.com", "test@test.com", "test@test.de",
        "email@example.com",
        "user@example.com", "name@example.com", "example@example.com", "no@email.com", "noemail@noemail.com",
        "none@none.com", "null@null.com", "a@a.com", "a@b.com", "asdf@asdf.com", "1234567890", "+1234567890",
        "123456789", "ffffffff-ffff-ffff-ffff-ffffffffffff", "9774d56d682e549c", "02:00:00:00:00:00",
    ]
}

func appendTrimmedLowered(_ bytes: Span<UInt8>, to result: inout [UInt8]) {
    let range = trimmed(bytes)
    var offset = range.lowerBound
    while offset < range.upperBound { appendLowered(bytes, &offset, to: &result) }
}
