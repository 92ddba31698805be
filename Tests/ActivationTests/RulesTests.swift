// Shows what a rule may say besides its condition: schedules, switches, groups, places that decisions compete for, and a
// variant that leaves the value to the code that asks. With a decider over an empty store.

import Formats
import Testing

@testable import Activation

@Suite struct RulesTests {
    private func variant(_ bench: inout Bench, _ policy: Policy, _ key: String, _ context: String = "{}") -> String {
        let answer = bench.ask(policy, key, context)
        guard let start = answer.range(of: "\"variant\":\"")?.upperBound else { return answer }
        return String(answer[start...].prefix { $0 != "\"" })
    }

    private func problems(_ bundle: String) throws -> [String] {
        let bytes = Array(bundle.utf8)
        let document = try YAML.parse(bytes.span)
        var reader = PlanReader()
        _ = Policy(document, loadedAt: 0, &reader) { _, _, _, _, _ in }
        return reader.problems.map { "\($0.position.line):\($0.position.column) \($0.message)" }
    }

    private func milliseconds(_ text: String) -> Int64 {
        let bytes = Array(text.utf8)
        return Timestamp.parse(bytes.span)!
    }

    @Test func aScheduleOpensAndCloses() throws {
        var bench = try Bench()
        let policy = try policy(
            """
            version: 1
            decisions:
              sale:
                variants: { none: 0, ten: 10, night: 20 }
                default: none
                until: 2026-12-24T18:00:00+01:00
                rules:
                  - { name: night, hours: 22:30-06:00, zone: Europe/Berlin, serve: night }
                  - { name: day, when: 'context.n > 1 // many', from: 2026-12-01T00:00:00Z, days: [mon, tue], hours: [09:00-12:30, 14:00-18:00], zone: Europe/Berlin, serve: ten }
            """)
        for (now, expected) in [
            ("2026-11-30T10:00:00+01:00", "none"),  // A Monday before `from`.
            ("2026-12-01T09:00:00+01:00", "ten"), ("2026-12-01T12:29:59+01:00", "ten"), ("2026-12-01T12:30:00+01:00", "none"),
            ("2026-12-01T14:00:00+01:00", "ten"), ("2026-12-02T10:00:00+01:00", "none"), ("2026-12-01T22:30:00+01:00", "night"),
            ("2026-12-02T05:59:59+01:00", "night"), ("2026-12-02T06:00:00+01:00", "none"),
            ("2026-12-22T10:00:00+01:00", "ten"), ("2026-12-28T10:00:00+01:00", "none"),
            // Summer time: the shop's clock, not the world's.
            ("2026-07-01T05:30:00+02:00", "night"), ("2026-07-01T06:30:00+02:00", "none"),
        ] {
            bench.now = milliseconds(now)
            let seen = variant(&bench, policy, "sale", "{\"n\": 2}")
            #expect(seen == expected, "\(now): \(seen)")
        }
        bench.now = milliseconds("2026-12-01T10:00:00+01:00")
        #expect(variant(&bench, policy, "sale", "{\"n\": 1}") == "none")
    }

    @Test func aRuleThatIsSwitchedOffKeepsItsPlace() throws {
        var bench = try Bench()
        let policy = try policy(
            """
            version: 1
            decisions:
              d:
                variants: { a: 1, b: 2, c: 3 }
                default: a
                rules:
                  - { name: off, enabled: false, when: 'context.n == 1', serve: b }
                  - { name: off too, enabled: false, serve: b }
                  - { name: on, when: 'context.n == 1', serve: c }
            """)
        #expect(variant(&bench, policy, "d", "{\"n\": 1}") == "c")
        #expect(variant(&bench, policy, "d", "{\"n\": 2}") == "a")
    }

    @Test func theCodesOwnDefaultHasNoValue() throws {
        var bench = try Bench()
        let policy = try policy("version: 1\ndecisions:\n  d: { variants: { code: null, on: 0.50 }, default: code }")
        #expect(
            bench.ask(policy, "d")
                == #"{"key":"d","reason":"STATIC","variant":"code","metadata":{"bundle":1,"consent":"not needed"}}"#)
    }

    @Test func aDecisionMayBeOffOrHaveNoDefault() throws {
        var bench = try Bench()
        let policy = try policy(
            """
            version: 1
            decisions:
              none: { variants: { on: 1 }, rules: [ { when: has(context.n), serve: on } ] }
              off: { enabled: false, variants: { on: 1 }, default: on, metadata: { team: shop, weight: 0.5 } }
            """)
        #expect(
            bench.ask(policy, "none")
                == #"{"key":"none","reason":"DEFAULT","variant":"default","metadata":{"bundle":1,"consent":"not needed"}}"#)
        #expect(bench.ask(policy, "none", "{\"n\": 1}").contains(#""value":1,"reason":"TARGETING_MATCH","variant":"on""#))
        #expect(
            bench.ask(policy, "off")
                == #"{"key":"off","reason":"DISABLED","variant":"default","metadata":{"team":"shop","weight":0.5,"bundle":1,"consent":"not needed"}}"#)
    }

    @Test func peopleOutsideAPartOfTheGroupComeToTheNextRule() throws {
        var bench = try Bench()
        let policy = try policy(
            """
            version: 1
            identifiers: { user_id: { from: [context.targetingKey], send: hmac } }
            decisions:
              first: { variants: { a: 1, b: 2, c: 3 }, default: a, rules: [ { group: { shop: 0-40 }, serve: b }, { when: 'has(context.n)', serve: c } ] }
              second: { variants: { a: 1, b: 2 }, default: a, rules: [ { group: { shop: 40-100 }, serve: b } ] }
            """)
        var counts: [String: Int] = [:]
        for number in 0..<1000 {
            let key = "{\"targetingKey\": \"u\(number)\", \"n\": 1}"
            counts[variant(&bench, policy, "first", key) + variant(&bench, policy, "second", key), default: 0] += 1
        }
        #expect(Set(counts.keys) == ["ba", "cb"])
        #expect((350...450).contains(counts["ba"] ?? 0))
        #expect(bench.ask(policy, "first").contains("TARGETING_KEY_MISSING"))
    }

    /// Of decisions about people that compete, one answer is not a default: that of the highest priority whose rule matches.
    @Test func ofThoseThatCompeteOneIsServed() throws {
        let policy = try policy(
            """
            version: 1
            purposes: [p]
            decisions:
              low: { purpose: p, slot: banner, variants: { no: 0, yes: 1 }, default: no, rules: [ { serve: yes } ] }
              high: { purpose: p, slot: banner, priority: 5, variants: { no: 0, yes: 1 }, default: no, rules: [ { when: context.n > 1, serve: yes } ] }
              free: { purpose: p, variants: { no: 0, yes: 1 }, default: no, rules: [ { serve: yes } ] }
              late: { purpose: p, slot: banner, variants: { no: 0, yes: 1 }, default: no, rules: [ { serve: yes } ] }
            """)
        #expect(policy.decisions.rivals == [[1], [], [], [1, 0]])
    }

    @Test func whatIsWrongIsSaidWhereItStands() throws {
        let head = "version: 1\nidentifiers: { u: { from: [userId], send: hmac } }\npurposes: [p]\ndecisions:\n  d:\n    variants: { a: 1, b: 2 }\n    default: a\n"
        for (text, place, words) in [
            ("    from: 2026-12-01", "8:11", "moments with their offset"),
            ("    hours: 9-18", "8:12", "09:00-18:00"), ("    hours: 09:00-24:30", "8:12", "09:00-18:00"),
            ("    days: [monday]", "8:11", "mon, tue"), ("    zone: 'x\"y'", "8:11", "Europe/Berlin"),
            ("    slot: s", "8:11", "sees no person"), ("    priority: 3", "8:15", "without a slot"),
            ("    rules: [ { when: 'context.n +', hours: 09:00-10:00, serve: a } ]", "8:22", "1:12"),
            ("    metadata: { id: x }", "8:17", "of this name"), ("    metadata: { x: [1] }", "8:20", "truth values"),
            ("    rules: [ { group: { g: 40 }, serve: a } ]", "8:23", "in percent"),
            ("    rules: [ { group: { g: 50-40 }, serve: a } ]", "8:23", "in percent"),
        ] {
            let found = try problems(head + text)
            #expect(found.count == 1 && found[0].hasPrefix(place) && found[0].contains(words), "\(text): \(found)")
        }
        let twice = try problems(
            head + "    rules: [ { group: { g: 0-50 }, serve: a } ]\n  e: { variants: { a: 1 }, default: a, rules: [ { group: { g: 49-60 }, serve: a } ] }")
        #expect(twice.count == 1 && twice[0].contains("must not overlap"), "\(twice)")
    }
}
