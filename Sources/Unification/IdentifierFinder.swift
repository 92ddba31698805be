// Finds the identifiers of one event, hashes them, and remembers until the next event what must not be written:
// the places that held raw values and the values themselves. It need not know where events come from or go to.

import Cryptography
import Formats
import Store

/// Why the identifiers of an event could not be taken.
public enum IdentifierError: Error, Equatable {
    /// More than `Limits.identifiersPerEvent`, or more raw text than can be sought: the event is refused, since what
    /// is not known cannot be kept out of the log. Send the identifiers of one person an event.
    case tooMany
}

/// Reusable working memory for the identifiers of one event at a time; one a thread. A warm one allocates nothing.
///
/// Holds raw values between `find` and the next `find` or `wipe`; nothing outside this room can read them.
public struct IdentifierFinder: ~Copyable {
    /// The event's identifiers, each once, in the order of the plan.
    public internal(set) var found: [HashedIdentifier] = []
    /// Values at declared places that are nobody's (`null`, `0000`, a blocked one): for a counter.
    public private(set) var blockedCount = 0
    /// Values at declared places that are none of their kind (a telephone number with letters): for a counter.
    public private(set) var invalidCount = 0

    /// Nodes whose members are left out when the event is written.
    var identityNodes: [JSONNode] = []
    /// The spellings to be sought, in lower case (ASCII), one after the other.
    private var needles: [UInt8] = []
    private var needleEnds: [Int] = []
    /// One bit for the first byte of each needle, in both cases, by the byte's low six bits: most bytes of a text are told by
    /// it to be no beginning of one.
    private var firstBytes: UInt64 = 0
    /// Whether needles are wanted: not for a look-up.
    private var isSeeking = true
    private var normalized = NormalizedIdentifier()
    private var lowered: [UInt8] = []

    public init() {
        found.reserveCapacity(Limits.identifiersPerEvent)
        identityNodes.reserveCapacity(Limits.needlesPerEvent)
        needles.reserveCapacity(Limits.needleBytesPerEvent)
        needleEnds.reserveCapacity(Limits.needlesPerEvent)
        lowered.reserveCapacity(Limits.rawIdentifierBytes)
    }

    /// Whose traits an event's `traits` are.
    public enum Subject: Sendable {
        case person
        /// Of a group call (Segment's specification, group: traits): its e-mail address and telephone number are no
        /// person's, and are stripped only.
        case group
    }

    /// What the identifiers are wanted for.
    public enum Use: Sendable {
        /// The event will be written: its raw values must be found wherever else they stand.
        case redaction
        /// A person is looked up, and nothing of the text is written.
        case lookUp
    }

    /// Finds and hashes the identifiers of the event at `event` in `document`: at the places of `plan`, and, to be
    /// stripped only, at the well-known places of the Segment specification (`WellKnownIdentity`).
    ///
    /// A place may hold text, a number (its digits as written) or a list of these. Empty values and wrong types are
    /// stripped and otherwise ignored.
    public mutating func find(
        _ plan: borrowing IdentifierPlan, _ document: borrowing JSONDocument, _ event: JSONNode,
        for use: Use = .redaction, of subject: Subject = .person, pepper: Peppers
    ) throws(IdentifierError) {
        wipe()
        isSeeking = use == .redaction
        for index in plan.kinds.indices {
            for path in plan.kinds[index].paths {
                guard let node = path.find(document, event) else { continue }
                identityNodes.append(node)
                if subject == .group, path.isInTraits {
                    if isSeeking { try seekEverything(document, node) }
                } else if document.kind(node) == .array {
                    var element = document.firstChild(node)
                    while let value = element {
                        try take(plan, index, document, value, pepper)
                        element = document.next(value)
                    }
                } else {
                    try take(plan, index, document, node, pepper)
                }
            }
        }
        if !isSeeking { return }
        for place in WellKnownIdentity.places {
            guard let holder = place.path.find(document, event) else { continue }
            for name in place.names {
                guard let node = document.member(holder, name), !identityNodes.contains(node) else { continue }
                identityNodes.append(node)
                try seekEverything(document, node)
            }
        }
    }

    /// Makes the identifiers of a question those that the store knows; see `IdentityGraph.recall`.
    public mutating func recall(in reader: borrowing Reader) throws(StoreError) {
        for index in found.indices { try IdentityGraph.recall(&found[index], in: reader) }
    }

    /// Leaves values out when the event is written, as if identifiers stood there.
    public mutating func leaveOut(_ nodes: [JSONNode]) { identityNodes.append(contentsOf: nodes) }

    /// Takes identifiers that were found and hashed before, in place of an event's own.
    public mutating func adopt(_ identifiers: [HashedIdentifier]) {
        wipe()
        found.append(contentsOf: identifiers)
    }

    /// Overwrites all raw text and forgets the event.
    public mutating func wipe() {
        found.removeAll(keepingCapacity: true)
        identityNodes.removeAll(keepingCapacity: true)
        needleEnds.removeAll(keepingCapacity: true)
        wipeBytes(&needles)
        wipeBytes(&lowered)
        normalized.wipe()
        firstBytes = 0
        blockedCount = 0
        invalidCount = 0
    }

    // MARK: One value

    private mutating func take(
        _ plan: borrowing IdentifierPlan, _ index: Int, _ document: borrowing JSONDocument, _ node: JSONNode,
        _ pepper: Peppers
    ) throws(IdentifierError) {
        switch document.kind(node) {
        case .string, .integer, .number: break
        default:
            if isSeeking { try seekEverything(document, node) }
            return
        }
        let kind = plan.kinds[index]
        let bytes = document.bytes(node)
        lowered.removeAll(keepingCapacity: true)
        appendTrimmedLowered(bytes, to: &lowered)
        if kind.isBlocked(lowered.span) {
            if !lowered.isEmpty { blockedCount += 1 }
            return
        }
        if isSeeking { try seek(bytes) }
        if !normalized.take(RawIdentifier(bytes), kind.normalizer) {
            invalidCount += 1
            return
        }
        if kind.isBlocked(normalized.contents) {
            blockedCount += 1
            return
        }
        if isSeeking {
            try seekNormalized()
            if kind.normalizer.form == .e164 || kind.normalizer.form == .digits { try seekDigits(bytes) }
        }
        let digest = normalized.hash(kindName: kind.name.span, pepper: pepper.present)
        for earlier in found where earlier.kindTag == kind.tag && earlier.digest == digest { return }
        if found.count == Limits.identifiersPerEvent { throw .tooMany }
        found.append(
            HashedIdentifier(
                kindTag: kind.tag, kindIndex: index, digest: digest,
                plainDigest: kind.form == .sha256 ? normalized.plainHash() : nil,
                former: normalized.former(kindName: kind.name.span, pepper)))
    }

    // MARK: What is sought

    /// Seeks each text and number below `node`: what stands at a place for identifiers is one, however it is wrapped.
    private mutating func seekEverything(_ document: borrowing JSONDocument, _ node: JSONNode) throws(IdentifierError) {
        switch document.kind(node) {
        case .string, .integer, .number:
            lowered.removeAll(keepingCapacity: true)
            appendTrimmedLowered(document.bytes(node), to: &lowered)
            if !NobodysValues.contain(lowered.span) { try seek(document.bytes(node)) }
        case .array:
            var element = document.firstChild(node)
            while let value = element {
                try seekEverything(document, value)
                element = document.next(value)
            }
        case .object:
            var key = document.firstChild(node)
            while let name = key {
                guard let value = document.next(name) else { break }
                try seekEverything(document, value)
                key = document.next(value)
            }
        case .null, .bool: break
        }
    }

    /// Seeks a value without the white space around it, as written and as a URL would carry it.
    private mutating func seek(_ bytes: Span<UInt8>) throws(IdentifierError) {
        let range = trimmed(bytes)
        try addNeedle(bytes.extracting(range), percentEncoded: false)
        try addNeedle(bytes.extracting(range), percentEncoded: true)
    }

    private mutating func seekNormalized() throws(IdentifierError) {
        let start = needles.count
        if normalized.contents.count < Limits.needleMinimumBytes { return }
        for index in normalized.contents.indices { needles.append(loweredASCII(normalized.contents[index])) }
        try closeNeedle(start)
    }

    /// Seeks a number as other systems store it: the digits as they were written, and the international ones without
    /// their plus sign.
    private mutating func seekDigits(_ bytes: Span<UInt8>) throws(IdentifierError) {
        let start = needles.count
        for index in bytes.indices where isDigit(bytes[index]) { needles.append(bytes[index]) }
        try closeNeedle(start)
        let second = needles.count
        for index in normalized.contents.indices where isDigit(normalized.contents[index]) {
            let digit = normalized.contents[index]
            needles.append(digit)
        }
        try closeNeedle(second)
    }

    private mutating func addNeedle(_ bytes: Span<UInt8>, percentEncoded: Bool) throws(IdentifierError) {
        if bytes.count < Limits.needleMinimumBytes { return }
        let start = needles.count
        if bytes.count > Limits.needleBytesPerEvent - start { throw .tooMany }
        var differs = false
        for index in bytes.indices {
            let byte = bytes[index]
            if percentEncoded, !isUnreserved(byte) {
                needles.append(UInt8(ascii: "%"))
                needles.append(Hex.digit(byte >> 4))
                needles.append(Hex.digit(byte & 15))
                differs = true
            } else {
                needles.append(loweredASCII(byte))
            }
        }
        if percentEncoded, !differs {
            needles.removeLast(needles.count - start)
            return
        }
        try closeNeedle(start)
    }

    /// Keeps the needle that begins at `start`, unless it is too short to mean anything or is there already.
    private mutating func closeNeedle(_ start: Int) throws(IdentifierError) {
        if needles.count - start < Limits.needleMinimumBytes {
            needles.removeLast(needles.count - start)
            return
        }
        if needleEnds.count == Limits.needlesPerEvent || needles.count > Limits.needleBytesPerEvent { throw .tooMany }
        var begin = 0
        for end in needleEnds {
            if end - begin == needles.count - start {
                var isSame = true
                for offset in 0..<(end - begin) where needles[begin + offset] != needles[start + offset] {
                    isSame = false
                }
                if isSame {
                    needles.removeLast(needles.count - start)
                    return
                }
            }
            begin = end
        }
        needleEnds.append(needles.count)
        let first = needles[start]
        let upper = first >= UInt8(ascii: "a") && first <= UInt8(ascii: "z") ? first & ~0x20 : first
        firstBytes |= 1 << UInt64(first & 63) | 1 << UInt64(upper & 63)
    }

    // MARK: Searching

    /// Whether `text` contains a raw identifier of this event, in any case of ASCII letters.
    func occurs(in text: Span<UInt8>) -> Bool {
        if needleEnds.isEmpty { return false }
        let sought = needles.span
        var offset = 0
        while offset + Limits.needleMinimumBytes <= text.count {
            if firstBytes >> UInt64(text[offset] & 63) & 1 == 1 {
                var begin = 0
                for end in needleEnds {
                    if matches(text, offset, sought, begin, end) { return true }
                    begin = end
                }
            }
            offset += 1
        }
        return false
    }

    /// Whether `text`, a number as written, is a raw identifier of this event.
    func isSame(as text: Span<UInt8>) -> Bool {
        var begin = 0
        for end in needleEnds {
            if end - begin == text.count, matches(text, 0, needles.span, begin, end) { return true }
            begin = end
        }
        return false
    }

    private func matches(_ text: Span<UInt8>, _ offset: Int, _ sought: Span<UInt8>, _ begin: Int, _ end: Int) -> Bool {
        if text.count - offset < end - begin { return false }
        var index = begin
        while index < end {
            if loweredASCII(text[offset + index - begin]) != sought[index] { return false }
            index += 1
        }
        return true
    }

    /// RFC 3986 section 2.3.
    private func isUnreserved(_ byte: UInt8) -> Bool {
        let lowered = loweredASCII(byte)
        return lowered >= UInt8(ascii: "a") && lowered <= UInt8(ascii: "z") || isDigit(byte)
            || byte == UInt8(ascii: "-")
            || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "~")
    }
}

/// Where the Segment specification (Spec: Common Fields, Spec: Identify) and OFREP put identifiers of people and
/// their devices. They are stripped from what is written even if the bundle does not declare them. Names, addresses
/// and birthdays are no identifiers: a destination's `deny` keeps those back.
enum WellKnownIdentity {
    /// Names below one object, which is sought once.
    struct Place {
        let path: IdentifierPath
        let names: [[UInt8]]

        /// - Parameter text: the path of the object, a colon, and the names, all divided by dots.
        init(_ text: StaticString) {
            let bytes = text.bytes
            var colon = 0
            while bytes[colon] != UInt8(ascii: ":") { colon += 1 }
            path = IdentifierPath(colon == 0 ? [] : IdentifierPath.split(bytes.extracting(0..<colon)))
            names = IdentifierPath.split(bytes.extracting(colon + 1..<bytes.count))
        }
    }

    private static let texts: [StaticString] = [
        ":userId.anonymousId.previousId",
        "traits:email.phone.id.username",
        "properties:email.phone.userId.user_id.anonymousId.username",
        "context:targetingKey.ip.externalIds",
        "context.traits:email.phone.id.username",
        "context.device:id.advertisingId.token",
        "context.cloudevents:subject",
    ]

    static let places = texts.map { Place($0) }
}
