// Shows that each answer is counted once, by variant and by what a reader of the console wants to know: why; and that what
// has no place is not counted, and disturbs no other.

import Activation
import Foundation
import Monitoring
import Testing

@testable import Activation

@Suite struct DecisionCountsTests {
    /// The samples that a policy writes.
    private func samples(_ policy: Policy) -> [String] {
        var page = MetricsWriter()
        policy.decisions.writeCounts(to: &page)
        return String(decoding: page.text, as: UTF8.self).components(separatedBy: "\n").filter { $0.hasPrefix("gatehouse") }
    }

    private func sample(_ decision: String, _ variant: String, _ reason: String, _ count: Int) -> String {
        "gatehouse_decisions_total{decision=\"\(decision)\",variant=\"\(variant)\",reason=\"\(reason)\"} \(count)"
    }

    @Test func eachReasonIsCountedByItself() throws {
        let policy = try policy(
            """
            version: 1
            purposes: [personal]
            identifiers: { user_id: { from: [context.targetingKey], send: hmac } }
            decisions:
              rule:
                variants: { no: 0, "a\\"b": 1 }
                default: no
                rules: [{ when: 'has(context.x)', serve: "a\\"b" }]
              always: { variants: { on: true }, default: on }
              off: { enabled: false, variants: { on: true }, default: on }
              drawn: { variants: { one: 1 }, default: one, rules: [{ split: { one: 100 } }] }
              shy: { purpose: personal, variants: { on: true }, default: on, rules: [{ serve: on }] }
            """)
        var bench = try Bench()
        #expect(samples(policy) == [])
        _ = bench.ask(policy, "rule")
        for _ in 0..<3 { _ = bench.ask(policy, "rule", "{\"x\": 1}") }
        _ = bench.ask(policy, "nowhere")
        _ = bench.ask(policy, "drawn")
        for key in ["always", "off", "shy"] { _ = bench.ask(policy, key) }
        _ = bench.ask(policy, "drawn", "{\"targetingKey\": \"ada\"}")
        #expect(
            samples(policy).sorted() == [
                sample("always", "on", "STATIC", 1), sample("drawn", "one", "SPLIT", 1),
                sample("off", "default", "DISABLED", 1), sample("rule", "a\\\"b", "TARGETING_MATCH", 3),
                sample("rule", "no", "DEFAULT", 1), sample("shy", "on", "NO_CONSENT", 1),
            ])
    }

    /// Of a default, what kept a rule from its turn; where a rule has served, nothing did.
    @Test func whatKeptARuleFromItsTurnIsTheReason() throws {
        let policy = try policy("version: 1\ndecisions: { d: { variants: { on: 1 }, default: on, rules: [{ serve: on }] } }")
        let choices: [(inout Choice) -> Void] = [
            { $0.isCapped = true }, { $0.yieldsTo = 0 }, { $0.consent = .denied }, { $0.consent = .granted },
            { $0.consent = .granted; $0.rule = 0; $0.reason = .targetingMatch },
        ]
        for change in choices {
            var choice = Choice(decision: 0, variant: 0)
            change(&choice)
            policy.decisions.counts.add(choice)
        }
        #expect(
            samples(policy).sorted()
                == ["CAPPED", "DEFAULT", "NO_CONSENT", "TARGETING_MATCH", "YIELDED"].map { sample("d", "on", $0, 1) })
    }

    // limit: Activation.countedVariants
    @Test func onlySoManyVariantsAreToldApart() throws {
        // Each has one more than it says: what leaves it to the code that asks.
        let each = 32
        let names = (0..<each - 1).map { "v\($0): \($0)" }.joined(separator: ", ")
        let fitting = Limits.countedVariants / each
        let text = (0...fitting).map { "  d\($0): { variants: { \(names) }, default: v0 }\n" }.joined()
        let policy = try policy("version: 1\ndecisions:\n" + text)
        var bench = try Bench()
        for number in 0...fitting { _ = bench.ask(policy, "d\(number)") }
        #expect(samples(policy).count == fitting)
        #expect(samples(policy).last == sample("d\(fitting - 1)", "v0", "STATIC", 1))
    }
}
