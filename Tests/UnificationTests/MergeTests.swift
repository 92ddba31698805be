// Merging is the heart of everything that must not depend on order: late events, joined people, devices that exchange
// state. Properties under seeded random events for every type of attribute.
import Formats
import Store
import Testing

@testable import Unification

/// Each type, small limits so that they are reached, no tally over its limit (which forgets).
private let everything = """
    attributes:
      c: { type: counter }
      s: { type: sum, value: event.n }
      lo: { type: min, value: event.n }
      hi: { type: max, value: event.n }
      avg: { type: mean, value: event.n }
      f: { type: first, value: event.t }
      l: { type: last, value: event.t }
      str: { type: string, value: event.t }
      num: { type: number, value: event.n }
      yes: { type: boolean, value: event.n > 50.0 }
      day: { type: date, value: event.timestamp }
      b: { type: badge, when: event.n > 90.0 }
      set: { type: set, value: event.t, limit: 5 }
      tally: { type: tally, value: event.t, limit: 100 }
      line: { type: timeline, value: event.n, limit: 5 }
      wc: { type: counter, window: 1h }
      ws: { type: sum, value: event.n, window: 1h }
      wm: { type: mean, value: event.n, window: 1h }
      wlo: { type: min, value: event.n, window: 1h }
      whi: { type: max, value: event.n, window: 1h }
    """

private struct TestEvent {
    let body: String
    let time: Int64

    /// Whole numbers, so that every order of adding gives the same double.
    init(_ random: inout SeededRandom) {
        let number = Int.random(in: 0..<100, using: &random)
        let word = "word-\(Int.random(in: 0..<20, using: &random))"
        body = #"{"n": \#(number), "t": "\#(word)"}"#
        // Few different times: ties have to be settled too.
        time = noon + Int64.random(in: 0..<40, using: &random) * 150_000
    }
}

private func record(_ bench: Workbench, _ events: [TestEvent]) -> [UInt8] {
    var record: [UInt8] = []
    for event in events { record = bench.apply(event.body, to: record, at: event.time, now: noon) }
    return record
}

@Suite struct MergeTests {
    /// The same events in any order leave the same bytes.
    @Test(arguments: 1...20)
    func theOrderOfEventsDoesNotShow(seed: Int) {
        let bench = Workbench(everything)
        var random = SeededRandom(seed: UInt64(seed))
        let events = (0..<Int.random(in: 1..<40, using: &random)).map { _ in TestEvent(&random) }
        let expected = record(bench, events)
        for _ in 0..<3 {
            #expect(record(bench, events.shuffled(using: &random)) == expected)
        }
    }

    /// Two people's events merged are one person's events: in either order of merging, and grouped either way.
    @Test(arguments: 1...20)
    func mergingPeopleIsApplyingAllEvents(seed: Int) {
        let bench = Workbench(everything)
        var random = SeededRandom(seed: UInt64(1000 + seed))
        let events = (0..<60).map { _ in TestEvent(&random) }
        let cuts = [Int.random(in: 1..<30, using: &random), Int.random(in: 30..<60, using: &random)]
        let a = record(bench, Array(events[..<cuts[0]]))
        let b = record(bench, Array(events[cuts[0]..<cuts[1]]))
        let c = record(bench, Array(events[cuts[1]...]))
        let all = record(bench, events)
        #expect(bench.merge(bench.merge(a, b), c) == all)
        #expect(bench.merge(a, bench.merge(b, c)) == all)
        #expect(bench.merge(b, a) == bench.merge(a, b))
        #expect(bench.merge(bench.merge(c, a), b) == all)
    }

    /// The types whose state is a set or an extreme do not mind to be merged with themselves.
    @Test func extremesAndSetsAreIdempotent() {
        let bench = Workbench(
            """
            attributes:
              lo: { type: min, value: event.n }
              f: { type: first, value: event.t }
              l: { type: last, value: event.t }
              b: { type: badge, when: event.n > 90.0 }
              set: { type: set, value: event.t, limit: 5 }
              line: { type: timeline, value: event.n, limit: 5 }
              whi: { type: max, value: event.n, window: 1h }
            """)
        var random = SeededRandom(seed: 5)
        let one = record(bench, (0..<30).map { _ in TestEvent(&random) })
        #expect(bench.merge(one, one) == one)
    }

    /// Prices in cents have no exact double; the total is the correctly rounded one of those doubles, whatever the order.
    @Test func sumsOfPricesDoNotDrift() {
        let bench = Workbench("attributes:\n  s: { type: sum, value: event.v }", rules: ["profile.s"])
        var random = SeededRandom(seed: 11)
        let cents = (0..<500).map { _ in Int.random(in: -50_000..<1_000_000, using: &random) }
        func total(_ cents: ArraySlice<Int>) -> [UInt8] {
            var record: [UInt8] = []
            for value in cents { record = bench.apply(#"{"v": \#(Double(value) / 100)}"#, to: record) }
            return record
        }
        let exact = Double(cents.reduce(0, +)) / 100
        let forward = bench.evaluate(0, total(cents[...]))
        #expect(forward == bench.evaluate(0, total(cents.reversed()[...])))
        #expect(forward == bench.evaluate(0, bench.merge(total(cents[250...]), total(cents[..<250]))))
        #expect(abs(Double(forward)! - exact) < 1e-8)
    }

    /// With a time to live, what has ended does not live on in what has not: neither a state that an event meets, nor an
    /// event that comes too late, nor a part that is folded. What has not ended merges, however far apart.
    @Test func endedStatesAreNotMerged() {
        let bench = Workbench("attributes:\n  n: { type: counter, ttl: 1h }")
        let now = noon + 3_600_001
        let early = bench.apply("{}", at: noon)
        let late = bench.apply("{}", at: now)
        #expect(bench.attributes(bench.merge(early, late, now: now), now: now) == #"{"n":1}"#)
        #expect(bench.attributes(bench.merge(late, early, now: now), now: now) == #"{"n":1}"#)
        #expect(bench.attributes(bench.merge(late, early, now: now - 1), now: now) == #"{"n":2}"#)
        #expect(bench.attributes(bench.apply("{}", to: early, at: now), now: now) == #"{"n":1}"#)
        #expect(bench.attributes(bench.apply("{}", to: late, at: noon, now: now), now: now) == #"{"n":1}"#)
        #expect(bench.attributes(bench.apply("{}", to: late, at: noon, now: now - 1), now: now) == #"{"n":2}"#)
    }

    /// An entry of the attribute's tag in a form that is no longer written is not read, not merged, and goes.
    @Test func statesOfFormerVersionsAreDropped() {
        let bench = Workbench("attributes:\n  s: { type: sum, value: event.v }\n  n: { type: counter, ttl: 1h }")
        let good = bench.apply(#"{"v": 2}"#)
        var old = good
        let place = old.indices.dropFirst(48).first { old[$0] == StateForm.sum.rawValue && old[$0 + 2] == 16 }!
        old[place] = 2
        let checksum = RecordChecksum.of(old.span)
        old.store32(checksum, at: 0)
        #expect(bench.attributes(old) == #"{"s":0.0,"n":1}"#)
        #expect(bench.attributes(bench.merge(old, good)) == #"{"s":2.0,"n":2}"#)
        #expect(bench.merge(good, old) == bench.merge(old, good))
        #expect(bench.attributes(bench.merge(old, old)) == #"{"s":0.0,"n":2}"#)
        #expect(bench.merge(old, old).count == old.count - 32)
        #expect(bench.apply("{}", to: old).count == old.count - 32)
        #expect(bench.attributes(bench.apply(#"{"v": 3}"#, to: old)) == #"{"s":3.0,"n":2}"#)
    }

    /// Tallies over their limit keep the most frequent of both.
    @Test func fullTalliesKeepTheMostFrequentOfBoth() {
        let bench = Workbench("attributes:\n  t: { type: tally, value: event.v, limit: 2 }")
        let a = bench.apply(#"{"v": ["x", "x", "y"]}"#)
        let b = bench.apply(#"{"v": ["z", "z", "z", "y", "y"]}"#)
        #expect(bench.attributes(bench.merge(a, b)) == #"{"t":{"y":3,"z":3}}"#)
        #expect(bench.merge(a, b) == bench.merge(b, a))
    }

    /// Two records that are too large together: many small attributes are worth more than the largest one.
    @Test func jointRecordsStayWithinTheirLimit() {
        let bench = Workbench(
            """
            attributes:
              s1: { type: timeline, value: event.v, limit: 1000 }
              s2: { type: timeline, value: event.v, limit: 1000 }
              s3: { type: timeline, value: event.w, limit: 1000 }
              n: { type: counter }
            """)
        let long = String(repeating: "x", count: 900)
        var a: [UInt8] = []
        var b: [UInt8] = []
        for place in 0..<40 {
            a = bench.apply(#"{"v": "\#(place)\#(long)"}"#, to: a, at: noon + Int64(place))
            b = bench.apply(#"{"w": "\#(place)\#(long)"}"#, to: b, at: noon + Int64(place))
        }
        let joint = bench.merge(a, b)
        #expect(joint.count <= Limits.profileRecordBytes)
        #expect(joint.count > 30_000)
        #expect(bench.attributes(joint).hasSuffix(#""n":80}"#))
    }

    @Test func damagedRecordsAreNotMerged() {
        let bench = Workbench(everything)
        let good = bench.apply(#"{"n": 1}"#)
        var bad = good
        bad[20] ^= 1
        func damage(_ a: [UInt8], _ b: [UInt8]) -> RecordDamage? {
            do {
                try bench.merger.merge(a.span, b.span, id: testID, plan: bench.plan)
                return nil
            } catch { return error }
        }
        #expect(damage(good, bad) == .corrupt)
        #expect(damage(bad, good) == .corrupt)
        #expect(damage(good, good) == nil)
    }
}
