// What a decision came to, and its words. An answer depends on the choice alone, not on the person: those written
// lately are kept, so that a busy device copies most of its answers. It need not know how a choice is made.

import Formats

/// Why a variant is served (OpenFeature `reason`).
enum ChoiceReason: UInt8, Sendable {
    case standard, disabled, always, targetingMatch, split

    var word: StaticString {
        switch self {
        case .standard: "DEFAULT"
        case .disabled: "DISABLED"
        case .always: "STATIC"
        case .targetingMatch: "TARGETING_MATCH"
        case .split: "SPLIT"
        }
    }
}

/// What consent had to do with it (`metadata.consent`).
enum ChoiceConsent: UInt8, Sendable {
    case notNeeded, granted, denied

    var word: StaticString {
        switch self {
        case .notNeeded: "not needed"
        case .granted: "granted"
        case .denied: "denied"
        }
    }
}

/// What a decision came to.
struct Choice: Equatable, Sendable {
    /// Its number in the policy.
    var decision: Int
    var variant: Int
    var reason = ChoiceReason.standard
    /// The rule that matched, or -1.
    var rule = -1
    var consent = ChoiceConsent.notNeeded
    /// The decision is split by person, and the question names none.
    var needsKey = false
    /// The decision whose turn it is instead, or -1.
    var yieldsTo = -1
    /// The person has been served it as often as its cap allows.
    var isCapped = false

    /// Whether a rule has given the person something else than the default.
    func isServed(of decision: Decision) -> Bool { rule >= 0 && variant != decision.defaultVariant }
}

/// What an answer is called: 16 hexadecimal digits, of which the first 11 are the time, so that its record is found among
/// others by looking where it must lie.
public struct DecisionID: Equatable, Sendable {
    /// Milliseconds since the epoch (44 bits), the decider (4), how many it has given (16).
    public private(set) var value: UInt64

    init(_ value: UInt64) { self.value = value }

    init(decider: Int) { value = UInt64(decider & 15) << 16 }

    /// Reads the 16 digits.
    public init?(_ text: Span<UInt8>) {
        if text.count != 16 { return nil }
        value = 0
        for index in 0..<16 {
            guard let digit = Hex.value(of: text[index]) else { return nil }
            value = value << 4 | UInt64(digit)
        }
    }

    /// When the answer was given, milliseconds since the epoch.
    public var time: Int64 { Int64(value >> 20) }

    public var text: [UInt8] {
        var text: [UInt8] = []
        append(to: &text)
        return text
    }

    func append(to text: inout [UInt8]) {
        for shift in stride(from: UInt64(60), through: 0, by: -4) { text.append(Hex.digit(UInt8(value >> shift & 15))) }
    }

    /// Goes on to the next answer.
    /// - Parameter now: milliseconds since the epoch.
    mutating func advance(to now: Int64) {
        let count = UInt64(UInt16(truncatingIfNeeded: value) &+ 1)
        value = UInt64(bitPattern: now) << 20 | value & 0xF_0000 | count
    }
}

/// Answers of one policy that were written lately.
struct AnswerMemo {
    /// Names of what every answer says about itself.
    static let metadata: [StaticString] = [
        "bundle", "consent", "rule", "yieldsTo", "capped", "id", "bundleAgeSeconds", "profileAgeSeconds",
    ]

    struct Entry {
        var choice: Choice?
        var text: [UInt8] = []
    }

    /// Found by a number made of the choice; a second choice of the same number takes the first one's place.
    private(set) var entries: [Entry] = []
    private var policy: Policy?

    /// Writes the answer for a choice: a JSON object.
    mutating func write(_ decision: Decision, _ choice: Choice, _ policy: Policy, into writer: inout JSONWriter) {
        if self.policy !== policy {
            self.policy = policy
            entries.removeAll(keepingCapacity: true)
            while entries.count < Limits.answersKept { entries.append(Entry()) }
        }
        let place = (choice.decision &* 31 &+ (choice.rule &+ 1) &* 7 &+ choice.variant) & (Limits.answersKept - 1)
        if entries[place].choice == choice {
            let text = entries[place].text
            writer.raw(text.span)
            return
        }
        var start = writer.bytes.count
        AnswerMemo.write(decision, choice, policy, into: &writer)
        // In a list a comma stands before it.
        if writer.bytes[start] == UInt8(ascii: ",") { start += 1 }
        if writer.bytes.count - start > Limits.answerKeptBytes { return }
        entries[place].choice = choice
        entries[place].text.removeAll(keepingCapacity: true)
        entries[place].text.append(contentsOf: writer.bytes.span.extracting(start..<writer.bytes.count))
    }

    private static func write(
        _ decision: Decision, _ choice: Choice, _ policy: Policy, into writer: inout JSONWriter
    ) {
        let variant = decision.variants[choice.variant]
        writer.beginObject()
        writer.key("key")
        writer.string(decision.key)
        if !variant.isCodeDefault {
            writer.key("value")
            writer.raw(variant.json.span)
        }
        writer.key("reason")
        writer.string(choice.reason.word)
        writer.key("variant")
        writer.string(variant.name)
        writer.key("metadata")
        writer.beginObject()
        let metadata = decision.metadata
        if !metadata.isEmpty { writer.raw(metadata.span) }
        writer.key("bundle")
        writer.uint(policy.version)
        writer.key("consent")
        writer.string(choice.consent.word)
        if choice.rule >= 0 {
            writer.key("rule")
            writer.string(decision.rules[choice.rule].name)
        }
        if choice.isCapped {
            writer.key("capped")
            writer.bool(true)
        }
        if choice.yieldsTo >= 0 {
            writer.key("yieldsTo")
            writer.string(policy.decisions.decisions[choice.yieldsTo].key)
        }
        writer.endObject()
        writer.endObject()
    }
}
