// Shows what attributes of a visit and of one event hold, for how long, and that the latter are never written.
import Formats
import Testing

@testable import Unification

@Suite struct ScopeTests {
    private let minute: Int64 = 60_000

    private let visit = """
        attributes:
          n: { type: counter, scope: visit }
          s: { type: sum, value: event.n, scope: visit }
          m: { type: mean, value: event.n, scope: visit }
          landing: { type: first, value: event.p, scope: visit }
          page: { type: last, value: event.p, scope: visit }
          pages: { type: set, value: event.p, scope: visit }
          path: { type: timeline, value: event.p, scope: visit }
          often: { type: tally, value: event.p, scope: visit }
          buyer: { type: badge, when: event.n > 1.0, scope: visit }
          total: { type: counter }
        """

    /// As long as something comes every half hour it is one visit, also of two hours; all of it, first page and set too.
    @Test func aVisitLastsWhileEventsCome() {
        let bench = Workbench(visit)
        var record: [UInt8] = []
        for (step, page) in ["a", "b", "c", "a", "d"].enumerated() {
            record = bench.apply(#"{"n": 2, "p": "\#(page)"}"#, to: record, at: noon + Int64(step) * 30 * minute)
        }
        let open = """
            {"n":5,"s":10.0,"m":2.0,"landing":"a","page":"d","pages":["d","a","c","b"],\
            "path":[{"at":"2026-01-31T14:00:00.000Z","value":"d"},{"at":"2026-01-31T13:30:00.000Z","value":"a"},\
            {"at":"2026-01-31T13:00:00.000Z","value":"c"},{"at":"2026-01-31T12:30:00.000Z","value":"b"},\
            {"at":"2026-01-31T12:00:00.000Z","value":"a"}],\
            "often":{"a":2,"d":1,"c":1,"b":1},"buyer":true,"total":5}
            """
        #expect(bench.attributes(record, now: noon + 150 * minute) == open)
        #expect(
            bench.attributes(record, now: noon + 150 * minute + 1)
                == #"{"n":0,"s":0.0,"pages":[],"path":[],"often":{},"buyer":false,"total":5}"#)
    }

    /// Then it begins anew, whole.
    @Test func theNextVisitKnowsNothingOfTheLast() {
        let bench = Workbench(visit)
        var record = bench.apply(#"{"n": 2, "p": "a"}"#)
        record = bench.apply(#"{"n": 1, "p": "b"}"#, to: record, at: noon + 30 * minute + 1)
        #expect(
            bench.attributes(record, now: noon + 31 * minute) == """
                {"n":1,"s":1.0,"m":1.0,"landing":"b","page":"b","pages":["b"],\
                "path":[{"at":"2026-01-31T12:30:00.001Z","value":"b"}],"often":{"b":1},"buyer":false,"total":2}
                """)
        // An event of the former visit that comes only now does not bring it back.
        record = bench.apply(#"{"n": 2, "p": "c"}"#, to: record, at: noon, now: noon + 31 * minute)
        #expect(bench.attributes(record, now: noon + 31 * minute).hasPrefix(#"{"n":1,"s":1.0,"m":1.0,"landing":"b""#))
    }

    /// Parts of one visit fold to the visit; a part whose visit is over adds nothing.
    @Test func partsOfAVisitFold() {
        let bench = Workbench(visit)
        let now = noon + 40 * minute
        let minutes: [Int64] = [0, 20, 35, 40]
        func part(_ places: [Int]) -> [UInt8] {
            places.reduce([]) {
                bench.apply(#"{"n": 2, "p": "\#("dcba".map { $0 }[$1])"}"#, to: $0, at: noon + minutes[$1] * minute, now: now)
            }
        }
        let whole = part([0, 1, 2, 3])
        #expect(bench.attributes(whole, now: now).hasPrefix(#"{"n":3,"s":6.0,"m":2.0,"landing":"c","page":"a""#))
        #expect(bench.merge(part([3, 1]), part([0, 2]), now: now) == whole)
        #expect(bench.merge(part([2]), bench.merge(part([3]), part([1, 0]), now: now), now: now) == whole)
        let over = bench.apply(#"{"n": 2, "p": "a"}"#, at: noon)
        #expect(bench.attributes(bench.merge(over, part([1]), now: now), now: now).hasPrefix(#"{"n":1,"s":2.0"#))
    }

    /// Bytes of a visit that is over go with the sweep, and do not make it come by more often.
    @Test func visitsAreSwept() throws {
        let bench = Workbench(visit)
        #expect(bench.plan.hasEnds)
        #expect(bench.plan.shortestTimeToLive == 0)
        let record = bench.apply(#"{"n": 2, "p": "a"}"#)
        func ended(_ now: Int64) throws -> Int {
            var rest: [UInt8] = []
            let view = try ProfileView(record.span)
            return ProfileSweep.rewrite(view, bench.plan, now: now, into: &rest)
        }
        #expect(try ended(noon + 30 * minute) == 0)
        #expect(try ended(noon + 30 * minute + 1) == 9)
    }

    /// A set of a visit keeps its elements until the visit ends, when it is looked at by the sweep too.
    @Test func elementsOfAVisitStayTogether() throws {
        let bench = Workbench("attributes:\n  pages: { type: set, value: event.p, scope: visit }")
        var record = bench.apply(#"{"p": "a"}"#)
        record = bench.apply(#"{"p": "b"}"#, to: record, at: noon + 20 * minute)
        var rest: [UInt8] = []
        let span = record.span
        let view = try ProfileView(span)
        let ended = ProfileSweep.rewrite(view, bench.plan, now: noon + 45 * minute, into: &rest)
        #expect(ended == 0)
        #expect(bench.attributes(record, now: noon + 45 * minute) == #"{"pages":["b","a"]}"#)
    }

    /// A value of one event is there for the rules after it, of every type, and nowhere else.
    @Test func aValueOfOneEventIsNeverKept() {
        let bench = Workbench(
            """
            attributes:
              early: { type: badge, when: profile.net > 0.0 }
              net: { type: number, value: event.gross / 1.19, scope: event }
              tags: { type: set, value: event.tags, scope: event }
              big: { type: badge, when: profile.net > 100.0, scope: event }
              spent: { type: sum, value: profile.net }
              large: { type: counter, when: profile.big && "x" in profile.tags }
            """,
            rules: ["has(profile.net)", "profile.big", "profile.tags"])
        var record = bench.apply(#"{"gross": 238.0, "tags": ["x", "y"]}"#)
        #expect(bench.attributes(record) == #"{"early":false,"spent":200.0,"large":1}"#)
        #expect((0..<3).map { bench.evaluate($0, record) } == ["false", "false", "[]"])
        record = bench.apply(#"{"gross": 59.5, "tags": ["x"]}"#, to: record)
        #expect(bench.attributes(record) == #"{"early":false,"spent":250.0,"large":1}"#)
        record = bench.apply("{}", to: record)
        #expect(bench.attributes(record) == #"{"early":false,"spent":250.0,"large":1}"#)
        // Two entries: the header, a sum and a counter.
        #expect(record.count == 64 + (16 + 16) + (16 + 8))
    }

    /// A changed scope is another attribute, in both directions.
    @Test func scopesAreNotConfused() {
        let plans = ["", ", scope: visit", ", scope: event"].map {
            Workbench("attributes:\n  a: { type: counter\($0) }").plan
        }
        #expect(Set(plans.map { $0.attributes[0].tag }).count == 3)
        let visit = Workbench("attributes:\n  a: { type: counter, scope: visit }")
        let visitor = Workbench("attributes:\n  a: { type: counter, scope: visitor }")
        #expect(visitor.attributes(visit.apply("{}")) == #"{"a":0}"#)
        #expect(visit.attributes(visitor.apply("{}")) == #"{"a":0}"#)
    }
}
