// Counts the experiments of a bundle over all profiles, and says what that shows: `GET /v1/experiments`. What was counted of
// whom stands in each profile (`Experiment`), so that people who became one count once, and who is gone does not count.

import CEL
import Formats
import Governance
import Store
import Unification

/// Every person who grants the decision's purpose counts for the arm that they were first shown, from then on for as long as
/// the goal says. Whoever was shown several arms, since people became one or their draw has changed, counts for none.
public struct ExperimentReport {
    private struct Arm {
        /// See `Experiment.arm`.
        let tag: UInt64
        let name: [UInt8]
        var people = 0
        var conversions = 0
        /// People whose time for the goal is not over, and who have not reached it.
        var open = 0
        var value: Double = 0

        init(_ tag: UInt64, _ name: [UInt8]) { (self.tag, self.name) = (tag, name) }
    }

    private struct Count {
        let decision: Decision
        let rule: Int
        let experiment: Experiment
        var arms: [Arm] = []
        /// The arm that the others are compared with.
        var control = 0
        /// Who was shown several arms.
        var mixed = 0

        mutating func add(_ variant: Variant) { arms.append(Arm(Experiment.arm(variant), variant.name)) }
    }

    private let policy: Policy
    private let now: Int64
    private var counts: [Count] = []
    private var index = ProfileIndex()

    /// - Parameter now: milliseconds since the epoch.
    public init(_ policy: Policy, now: Int64) {
        self.policy = policy
        self.now = now
        for decision in policy.decisions.decisions {
            for number in decision.rules.indices {
                let rule = decision.rules[number]
                guard let experiment = rule.experiment else { continue }
                var count = Count(decision: decision, rule: number, experiment: policy.decisions.experiments[experiment])
                if rule.holdout > 0 { count.arms.append(Arm(Experiment.holdout, Array("holdout".utf8))) }
                switch rule.outcome {
                case .serve(let variant): count.add(decision.variants[variant])
                case .split(let split):
                    for share in split.shares where share.weight > 0 {
                        if rule.holdout == 0, share.variant == decision.defaultVariant { count.control = count.arms.count }
                        count.add(decision.variants[share.variant])
                    }
                }
                counts.append(count)
            }
        }
    }

    /// Whether there is nothing to count.
    public var isEmpty: Bool { counts.isEmpty }

    /// Counts one person.
    /// - Parameters:
    ///   - person: the profile's id.
    ///   - record: the profile; one that is damaged counts for nothing.
    public mutating func add(
        _ person: Span<UInt8>, _ record: Span<UInt8>, _ reader: borrowing Reader
    ) throws(StoreError) {
        let plan = policy.attributes
        do throws(RecordDamage) {
            let view = try ProfileView(record)
            index.fill(view, plan)
        } catch {
            return
        }
        for number in counts.indices {
            let count = counts[number]
            // Newest first: the last that is met is the first.
            var (since, tag, isMixed): (Int64, UInt64?, Bool) = (0, nil, false)
            index.forEachElement(count.experiment.attribute, in: record, plan) { time, value in
                if let tag, tag != value.uintValue { isMixed = true }
                (since, tag) = (time, value.uintValue)
            }
            guard let tag, let arm = count.arms.firstIndex(where: { $0.tag == tag }) else { continue }
            guard let consent = try reader.get(reader.tables.consent, person),
                ConsentRecord.isGranted(consent, tag: policy.purposes.tags[count.decision.purpose ?? 0], at: now)
            else { continue }
            if isMixed {
                counts[number].mixed += 1
                continue
            }
            var (hasConverted, sum) = (false, 0.0)
            let within = count.experiment.withinMilliseconds
            index.forEachElement(count.experiment.attribute + 1, in: record, plan) { time, value in
                if time < since || time - since >= within { return }
                hasConverted = true
                sum += value.number ?? 0
            }
            counts[number].arms[arm].people += 1
            counts[number].arms[arm].value += sum
            if hasConverted {
                counts[number].arms[arm].conversions += 1
            } else if now - since < within {
                counts[number].arms[arm].open += 1
            }
        }
    }

    // MARK: What it shows

    /// Writes the answer: `{"experiments": […]}`, one for each split or holdout.
    public func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("experiments")
        writer.beginArray()
        for count in counts { write(count, &writer) }
        writer.endArray()
        writer.endObject()
    }

    private func write(_ count: Count, _ writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("decision")
        writer.string(count.decision.key)
        writer.key("ruleNumber")
        writer.int(Int64(count.rule + 1))
        writer.key("rule")
        writer.string(count.decision.rules[count.rule].name)
        writer.key("goal")
        writer.string(count.experiment.goalText)
        writer.key("withinSeconds")
        writer.int(count.experiment.withinMilliseconds / 1000)
        writer.key("control")
        writer.string(count.arms[count.control].name)
        writer.key("mixed")
        writer.int(Int64(count.mixed))
        let control = Posterior(conversions: count.arms[count.control].conversions, people: count.arms[count.control].people)
        var hasFew = false
        writer.key("arms")
        writer.beginArray()
        for number in count.arms.indices {
            let arm = count.arms[number]
            if arm.people < Limits.fewPeople || arm.conversions < Limits.fewConversions { hasFew = true }
            writer.beginObject()
            writer.key("arm")
            writer.string(arm.name)
            for (name, figure) in [("people", arm.people), ("conversions", arm.conversions), ("open", arm.open)]
                as [(StaticString, Int)]
            {
                writer.key(name)
                writer.int(Int64(figure))
            }
            let rate = Posterior(conversions: arm.conversions, people: arm.people)
            if arm.people > 0 { write("rate", Double(arm.conversions) / Double(arm.people), &writer) }
            write("rateLow", rate.quantile(0.025), &writer)
            write("rateHigh", rate.quantile(0.975), &writer)
            if number != count.control {
                write("lift", rate.ratio(to: control, 0.5) - 1, &writer)
                write("liftLow", rate.ratio(to: control, 0.025) - 1, &writer)
                write("liftHigh", rate.ratio(to: control, 0.975) - 1, &writer)
                write("probabilityBetter", 1 - rate.probability(atMost: 1, times: control), &writer)
            }
            if count.experiment.hasValue {
                write("value", arm.value, &writer)
                if arm.people > 0 { write("valuePerPerson", arm.value / Double(arm.people), &writer) }
            }
            writer.endObject()
        }
        writer.endArray()
        writer.key("few")
        writer.bool(hasFew)
        writer.endObject()
    }

    /// To a millionth.
    private func write(_ name: StaticString, _ figure: Double, _ writer: inout JSONWriter) {
        writer.key(name)
        writer.double((figure * 1e6).rounded() / 1e6)
    }
}
