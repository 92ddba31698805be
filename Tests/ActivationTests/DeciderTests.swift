// Shows that answers kept as text are those that would be written anew, that rules are taken in order, and that no
// answer of one policy is served for another.

import Cryptography
import Formats
import Foundation
import Monitoring
import Store
import Unification
import Testing

@testable import Activation
@testable import Platform

func policy(_ bundle: String) throws -> Policy {
    let bytes = Array(bundle.utf8)
    let document = try YAML.parse(bytes.span)
    var reader = PlanReader()
    let policy = Policy(document, loadedAt: 0, &reader) { _, _, _, _, _ in }
    try #require(!reader.hasErrors, "\(reader.problems.map(\.message))")
    return policy
}

/// A decider with an empty store: it answers decisions that need no person.
struct Bench: ~Copyable {
    var decider = Decider(device: Array("d".utf8), pepper: Peppers(key: [1]), meters: Meters())
    var reader: Reader
    var now: Int64 = 1

    init() throws {
        var random = SystemRandom()
        let store = try Database(folder: "/tmp/gatehouse-activation-test-\(random.next())", mapBytes: 1 << 20)
        var reader = try store.makeReader()
        try reader.begin()
        self.reader = reader
    }

    mutating func ask(_ policy: Policy, _ key: String, _ context: String = "{}") -> String {
        let (name, body) = (Array(key.utf8), Array("{\"context\": \(context)}".utf8))
        var writer = JSONWriter()
        _ = decider.answer(policy, name.span, body.span, now: now, reader, into: &writer)
        return lasting(String(decoding: writer.bytes, as: UTF8.self))
    }

    mutating func askAll(_ policy: Policy, _ context: String = "{}") -> String {
        let body = Array("{\"context\": \(context)}".utf8)
        var writer = JSONWriter()
        _ = decider.answerAll(policy, body.span, now: now, reader, into: &writer)
        return lasting(String(decoding: writer.bytes, as: UTF8.self))
    }

    /// An answer without what is said of it alone.
    private func lasting(_ answer: String) -> String {
        if let end = answer.range(of: ",\"metadata\":{\"bundle\":", options: .backwards), answer.hasPrefix("{\"flags\"") {
            return answer[..<end.lowerBound] + "}"
        }
        guard let end = answer.range(of: ",\"id\":") else { return answer }
        return answer[..<end.lowerBound] + "}}"
    }
}

@Suite struct DeciderTests {
    /// More decisions than answers are kept, so that they take each other's places.
    private let many = 3 * Limits.answersKept

    private func bundle(version: Int) -> String {
        var text = "version: \(version)\ndecisions:\n"
        for number in 0..<many {
            text += "  d\(number):\n    variants: { a: \(number), b: true }\n    default: a\n"
            text += "    rules: [{ name: r, when: 'has(context.x) && context.x == \(number)', serve: b }]\n"
        }
        return text
    }

    private func expected(_ number: Int, matches: Bool, version: Int) -> String {
        matches
            ? #"{"key":"d\#(number)","value":true,"reason":"TARGETING_MATCH","variant":"b","metadata":"#
                + #"{"bundle":\#(version),"consent":"not needed","rule":"r"}}"#
            : #"{"key":"d\#(number)","value":\#(number),"reason":"DEFAULT","variant":"a","metadata":"#
                + #"{"bundle":\#(version),"consent":"not needed"}}"#
    }

    @Test func anAnswerKeptIsTheAnswer() throws {
        var bench = try Bench()
        for version in [1, 2] {
            let policy = try policy(bundle(version: version))
            // Twice in order, then each twice running: written, displaced, written again, and kept.
            for number in Array(0..<many) + Array(0..<many) + (0..<many).flatMap({ [$0, $0] }) {
                let matching = bench.ask(policy, "d\(number)", "{\"x\": \(number)}")
                #expect(matching == expected(number, matches: true, version: version))
                let other = bench.ask(policy, "d\(number)", "{\"x\": -1}")
                #expect(other == expected(number, matches: false, version: version))
            }
            let all = (0..<many).map { expected($0, matches: $0 == 5, version: version) }
            for _ in 0..<2 {
                let seen = bench.askAll(policy, "{\"x\": 5}")
                #expect(seen == "{\"flags\":[" + all.joined(separator: ",") + "]}")
            }
        }
    }

    @Test func whatIsKeptStaysSmall() throws {
        let words = String(repeating: "w", count: Limits.answerKeptBytes)
        let policy = try policy("version: 1\ndecisions:\n  d: { variants: { a: \(words), b: 1 }, default: a }")
        var memo = AnswerMemo()
        for variant in [0, 1] {
            var written: [String] = []
            for _ in 0..<2 {
                var writer = JSONWriter()
                memo.write(policy.decisions.decisions[0], Choice(decision: 0, variant: variant), policy, into: &writer)
                written.append(String(decoding: writer.bytes, as: UTF8.self))
            }
            #expect(written[0] == written[1] && written[0].contains(variant == 0 ? words : "\"value\":1"))
        }
        #expect(memo.entries.count == Limits.answersKept)
        #expect(memo.entries.filter { $0.choice != nil }.map(\.choice?.variant) == [1])
        #expect(memo.entries.allSatisfy { $0.text.count <= Limits.answerKeptBytes })
    }

    @Test func rulesAreTakenInOrderAndOneWithoutConditionEndsThem() throws {
        let policy = try policy(
            """
            version: 1
            decisions:
              middle:
                variants: { a: 1, b: 2, c: 3, off: 0 }
                default: off
                rules:
                  - { name: first, when: 'context.n == 1', serve: a }
                  - { name: broken, when: '1 / context.zero == 1', serve: c }
                  - { name: always, serve: b }
                  - { name: never, when: 'context.n == 2', serve: c }
              none: { variants: { off: 0 }, default: off }
              only: { variants: { off: 0, a: 1 }, default: off, rules: [{ name: always, serve: a }] }
              conditions: { variants: { off: 0, a: 1 }, default: off, rules: [{ when: 'context.n == 1', serve: a }] }
            """)
        var bench = try Bench()
        for (key, n, variant, reason) in [
            ("middle", 1, "a", "TARGETING_MATCH"), ("middle", 2, "b", "STATIC"), ("none", 1, "off", "STATIC"),
            ("only", 1, "a", "STATIC"), ("conditions", 1, "a", "TARGETING_MATCH"), ("conditions", 2, "off", "DEFAULT"),
        ] {
            let answer = bench.ask(policy, key, "{\"n\": \(n), \"zero\": 0}")
            #expect(answer.contains("\"reason\":\"\(reason)\",\"variant\":\"\(variant)\""), "\(key) \(n): \(answer)")
        }
    }

    /// However an audience is written, it is known; and so is that it must stand before what builds on it.
    @Test func audiencesAreFoundByWhatExpressionsRead() throws {
        let bundle = """
            version: 1
            purposes: [ads]
            attributes: { orders: { type: counter } }
            audiences: { big: profile.orders > 9, other: "true", both: 'audience["other"] && audience . big' }
            decisions:
              d: { purpose: ads, variants: { a: 1 }, default: a, rules: [{ when: 'audience["both"]', serve: a }] }
              e: { purpose: ads, variants: { a: 1 }, default: a, rules: [{ when: '"audience.big" == ""', serve: a }] }
            """
        let policy = try policy(bundle)
        #expect(policy.decisions.decisions.map(\.needs) == [0b111, 0])
        var reader = PlanReader()
        let bytes = Array("version: 1\naudiences: { first: 'audience[\"second\"]', second: 'true' }".utf8)
        let document = try YAML.parse(bytes.span)
        _ = Policy(document, loadedAt: 0, &reader) { _, _, _, _, _ in }
        #expect(reader.problems.map(\.message) == ["an audience may mention only audiences that stand before it"])
    }

    @Test func withoutAPurposeNothingOfAPersonIsSeen() throws {
        for name in ["age.profile < duration('1h')", "profile.orders > 1", "audience.big", "consent.ads"] {
            var reader = PlanReader()
            let bytes = Array(
                """
                version: 1
                purposes: [ads]
                attributes: { orders: { type: counter } }
                audiences: { big: profile.orders > 9 }
                decisions: { d: { variants: { a: 1 }, default: a, rules: [{ when: "\(name)", serve: a }] } }
                """.utf8)
            let document = try YAML.parse(bytes.span)
            _ = Policy(document, loadedAt: 0, &reader) { _, _, _, _, _ in }
            #expect(reader.problems.count == 1, "\(name)")
        }
    }

    /// A question's context is all that a rule sees of it, and nothing of the one before.
    @Test func rulesSeeTheContextOfThisQuestion() throws {
        let policy = try policy(
            """
            version: 1
            decisions:
              d:
                variants: { yes: 1, no: 0 }
                default: no
                rules: [{ when: 'has(context.a) && context.a.b == 2 && !has(context.context)', serve: yes }]
            """)
        var bench = try Bench()
        for (context, variant) in [(#"{"a": {"b": 2}}"#, "yes"), ("{}", "no"), (#"{"a": {"b": 3}}"#, "no")] {
            let answer = bench.ask(policy, "d", context)
            #expect(answer.contains("\"variant\":\"\(variant)\""), "\(context): \(answer)")
        }
        let body = Array("{}".utf8)
        let key = Array("d".utf8)
        var writer = JSONWriter()
        _ = bench.decider.answer(policy, key.span, body.span, now: 1, bench.reader, into: &writer)
        #expect(String(decoding: writer.bytes, as: UTF8.self).contains("\"variant\":\"no\""))
    }
}
