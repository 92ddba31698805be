// How often each variant of each decision was answered, and why, since the bundle was loaded: for `/metrics`.

import Formats
import Monitoring
import Platform

struct DecisionCounts: Sendable {
    /// Why a variant was answered: OpenFeature's reason, or for a default what kept a rule from its turn.
    private static let reasons: [StaticString] = [
        "DEFAULT", "DISABLED", "STATIC", "TARGETING_MATCH", "SPLIT", "NO_CONSENT", "CAPPED", "YIELDED",
    ]

    /// Where the counters of each decision begin: for each of its variants one of each reason. What has no place is not told
    /// apart.
    private var places: [Int] = []
    private var counters = CounterArray(count: 0)

    init() {}

    init(_ decisions: [Decision]) {
        var variants = 0
        for decision in decisions {
            if variants + decision.variants.count > Limits.countedVariants { break }
            places.append(variants * Self.reasons.count)
            variants += decision.variants.count
        }
        counters = CounterArray(count: variants * Self.reasons.count)
    }

    /// Counts an answer.
    func add(_ choice: Choice) {
        if choice.decision >= places.count { return }
        var reason = Int(choice.reason.rawValue)
        if choice.rule < 0 {
            if choice.consent == .denied { reason = 5 }
            if choice.isCapped { reason = 6 }
            if choice.yieldsTo >= 0 { reason = 7 }
        }
        counters.add(1, at: places[choice.decision] + choice.variant * Self.reasons.count + reason)
    }

    @inline(never)
    func write(_ decisions: [Decision], to page: inout MetricsWriter) {
        let name: StaticString = "gatehouse_decisions_total"
        page.family(name, "Decisions by variant and reason, since the bundle was loaded.", "counter")
        for number in places.indices {
            for variant in decisions[number].variants.indices {
                for reason in Self.reasons.indices {
                    let count = counters.value(at: places[number] + variant * Self.reasons.count + reason)
                    if count == 0 { continue }
                    var labels: [UInt8] = []
                    MetricsWriter.appendLabel("decision", decisions[number].key, to: &labels)
                    MetricsWriter.appendLabel("variant", decisions[number].variants[variant].name, to: &labels)
                    MetricsWriter.appendLabel("reason", [UInt8](copying: Self.reasons[reason].bytes), to: &labels)
                    page.sample(name, labels: labels, count)
                }
            }
        }
    }
}

extension DecisionPlan {
    /// Writes how often what was answered.
    public func writeCounts(to page: inout MetricsWriter) { counts.write(decisions, to: &page) }
}
