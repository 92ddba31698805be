// What is kept of a decision: what was answered, why, by which bundle, on what footing. It is made where the answer is, and
// written into the log by the writer, under the decision's purpose. It need not know the log.

import Formats
import Store
import Unification

/// A decision about a person who grants its purpose, on its way to the log.
public struct DecisionRecord {
    let policy: Policy
    let choice: Choice
    public let id: DecisionID
    /// Whom it is about, and by what they were asked for, if that is theirs alone.
    public let person: ProfileID
    public let identifier: IdentifierKey?
    /// A keyed hash of the question and of what was known of the person: equal where both were.
    let inputs: UInt32
    /// Milliseconds; nil: there was no profile.
    let profileAge: Int64?
    let bundleAge: Int64
    /// From the parsed request to the written answer.
    public var latencyNanoseconds: Int64 = 0
    /// Where `ServeCounts` has it; nil: it counts for no cap.
    public let servePlace: Int?
    /// The arm of an experiment that the person was shown; nil: of none, or they have been counted for it.
    public let arm: UInt64?

    private var decision: Decision { policy.decisions.decisions[choice.decision] }

    /// The purpose that it needs, by name.
    public var purposeTag: UInt32 { policy.purposes.tags[decision.purpose ?? 0] }
    public var bundleVersion: UInt64 { policy.version }

    /// What counts it in a profile, by the plan of the policy in force; nil: it counts for no cap there.
    public func counter(_ plan: AttributePlan) -> Int? {
        servePlace == nil ? nil : decision.cap.flatMap { plan.index(of: $0.counter) }
    }

    /// What keeps the exposure in a profile, by the plan of the policy in force; nil: there is none to be kept.
    public func exposure(_ plan: AttributePlan) -> Int? {
        guard arm != nil, let experiment = decision.rules[choice.rule].experiment else { return nil }
        return plan.index(ofTag: policy.decisions.experiments[experiment].tag)
    }

    /// Whether it leaves a record in the log: a part of all, drawn by its id. What counts for a cap always does.
    public var isKept: Bool {
        servePlace != nil || Draw.percent(Draw.mix(id.value ^ UInt64(decision.tag))) < decision.recordPercent
    }

    /// Writes the members of the record's `properties`.
    public func write(to writer: inout JSONWriter) {
        writer.key("id")
        writer.string(id.text)
        writer.key("decision")
        writer.string(decision.key)
        writer.key("variant")
        writer.string(decision.variants[choice.variant].name)
        writer.key("reason")
        writer.string(choice.reason.word)
        if choice.rule >= 0 {
            writer.key("rule")
            writer.string(decision.rules[choice.rule].name)
            writer.key("ruleNumber")
            writer.int(Int64(choice.rule + 1))
        }
        writer.key("rules")
        writer.int(Int64(decision.rules.count))
        if choice.isCapped {
            writer.key("capped")
            writer.bool(true)
        }
        if choice.yieldsTo >= 0 {
            writer.key("yieldsTo")
            writer.string(policy.decisions.decisions[choice.yieldsTo].key)
        }
        writer.key("bundle")
        writer.uint(policy.version)
        writer.key("consent")
        writer.string(choice.consent.word)
        writer.key("inputs")
        writer.uint(UInt64(inputs))
        if let profileAge {
            writer.key("profileAgeSeconds")
            writer.int(profileAge / 1000)
        }
        writer.key("bundleAgeSeconds")
        writer.int(bundleAge / 1000)
        writer.key("latencyMicroseconds")
        writer.double(Double(latencyNanoseconds / 100) / 10)
    }
}
