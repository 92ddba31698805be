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
}

/// Answers of one policy that were written lately.
struct AnswerMemo {
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
        AnswerMemo.write(decision, choice, policy.version, into: &writer)
        // In a list a comma stands before it.
        if writer.bytes[start] == UInt8(ascii: ",") { start += 1 }
        if writer.bytes.count - start > Limits.answerKeptBytes { return }
        entries[place].choice = choice
        entries[place].text.removeAll(keepingCapacity: true)
        entries[place].text.append(contentsOf: writer.bytes.span.extracting(start..<writer.bytes.count))
    }

    private static func write(
        _ decision: Decision, _ choice: Choice, _ version: UInt64, into writer: inout JSONWriter
    ) {
        let variant = decision.variants[choice.variant]
        writer.beginObject()
        writer.key("key")
        writer.string(decision.key)
        writer.key("value")
        writer.raw(variant.json.span)
        writer.key("reason")
        writer.string(choice.reason.word)
        writer.key("variant")
        writer.string(variant.name)
        writer.key("metadata")
        writer.beginObject()
        writer.key("bundle")
        writer.uint(version)
        writer.key("consent")
        writer.string(choice.consent.word)
        if choice.rule >= 0 {
            writer.key("rule")
            writer.string(decision.rules[choice.rule].name)
        }
        writer.endObject()
        writer.endObject()
    }
}
