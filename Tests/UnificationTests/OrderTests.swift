// The property on which everything rests that brings records together: the same events in any order, dealt out over any
// number of parts that are folded in any order, leave the same bytes. Seeded random events for every type of attribute,
// with a window, with a `ttl`, of a visit and without.
import Formats
import Testing

@testable import Unification

/// Every type in every form that is kept. Limits of sets and timelines are reached, those of
/// tallies not: over them a tally is an estimate.
private let every = [
    "type: counter", "type: sum, value: event.n", "type: min, value: event.n", "type: max, value: event.n",
    "type: mean, value: event.n", "type: first, value: event.any", "type: last, value: event.any",
    "type: string, value: event.t", "type: number, value: event.n", "type: boolean, value: event.n > 0.0",
    "type: date, value: event.timestamp", "type: badge, when: event.n > 0.0", "type: set, value: event.any, limit: 6",
    "type: set, value: event.list, limit: 6", "type: timeline, limit: 6", "type: timeline, value: event.any, limit: 6",
    "type: tally, value: event.t", "type: tally, value: event.list",
]
private let windowed = every.filter { rule in
    ["counter", "sum", "min", "max", "mean"].contains { rule.hasPrefix("type: \($0)") }
}
private let all = every + windowed.map { $0 + ", window: 1h" } + every.map { $0 + ", ttl: 1h" }
    + every.map { $0 + ", scope: visit" }

/// Merging a record with itself gives itself.
private let idempotent = all.filter { rule in
    !["counter", "sum", "mean", "tally"].contains { rule.hasPrefix("type: \($0)") }
}

private struct TestEvent {
    let body: String
    let time: Int64

    init(_ random: inout SeededRandom) {
        let exponent = Int.random(in: -20...40, using: &random)
        var number = Double(sign: .minus, exponent: exponent, significand: .random(in: 1..<2, using: &random))
        switch Int.random(in: 0..<8, using: &random) {
        case 0: number = 0
        case 1: number = -0.0
        case 2...4: number = -number
        default: break
        }
        let word = "word-\(Int.random(in: 0..<12, using: &random))"
        let other = "word-\(Int.random(in: 0..<12, using: &random))"
        let any = ["\"\(word)\"", "\(number)", "\(number > 0)", "\(exponent)"].randomElement(using: &random)!
        body = #"{"n": \#(number), "t": "\#(word)", "any": \#(any), "list": ["\#(word)", "\#(other)"]}"#
        // Few different times, so that ties are settled too and buckets add more than two; from what has ended to what is
        // yet to come.
        time = noon + Int64.random(in: -9..<4, using: &random) * 900_000 + Int64.random(in: 0..<2, using: &random)
    }
}

@Suite struct OrderTests {
    private func record(_ bench: Workbench, _ events: [TestEvent], now: Int64? = noon) -> [UInt8] {
        var record: [UInt8] = []
        for event in events { record = bench.apply(event.body, to: record, at: event.time, now: now) }
        return record
    }

    /// Deals the events out over one to four parts; those without events are left out.
    private func deal(_ events: [TestEvent], _ random: inout SeededRandom) -> [[TestEvent]] {
        var parts = [[TestEvent]](repeating: [], count: Int.random(in: 1...4, using: &random))
        for event in events { parts[Int.random(in: parts.indices, using: &random)].append(event) }
        return parts.filter { !$0.isEmpty }
    }

    /// Merges two at random, in either order, until one is left: every order and every grouping may come about.
    private func fold(_ bench: Workbench, _ parts: [[UInt8]], now: Int64, _ random: inout SeededRandom) -> [UInt8] {
        var parts = parts.shuffled(using: &random)
        while parts.count > 1 {
            let one = parts.remove(at: Int.random(in: parts.indices, using: &random))
            let place = Int.random(in: parts.indices, using: &random)
            parts[place] = bench.merge(one, parts[place], now: now)
        }
        return parts[0]
    }

    @Test(arguments: all)
    func neitherOrderNorPartsShow(rule: String) {
        let bench = Workbench("attributes:\n  x: { \(rule) }")
        var random = SeededRandom(seed: 17)
        for round in 0..<25 {
            let events = (0..<Int.random(in: 1..<50, using: &random)).map { _ in TestEvent(&random) }
            let expected = record(bench, events.sorted { $0.time < $1.time })
            for _ in 0..<3 {
                let parts = deal(events, &random).map { record(bench, $0.shuffled(using: &random)) }
                let folded = fold(bench, parts, now: Bool.random(using: &random) ? noon : .min, &random)
                #expect(folded == expected, "round \(round)")
                if folded != expected { return }
            }
        }
    }

    /// All of them in one record, so that entries are brought together by their tags.
    @Test func recordsOfManyAttributesFoldTheSame() {
        var bundle = "attributes:"
        for (number, rule) in all.enumerated() { bundle += "\n  x\(number): { \(rule) }" }
        let bench = Workbench(bundle)
        var random = SeededRandom(seed: 18)
        for _ in 0..<10 {
            let events = (0..<40).map { _ in TestEvent(&random) }
            let parts = deal(events, &random).map { record(bench, $0.shuffled(using: &random)) }
            #expect(fold(bench, parts, now: noon, &random) == record(bench, events.sorted { $0.time < $1.time }))
        }
    }

    @Test(arguments: idempotent)
    func mergingWithItselfChangesNothing(rule: String) {
        let bench = Workbench("attributes:\n  x: { \(rule) }")
        var random = SeededRandom(seed: 19)
        for _ in 0..<15 {
            let events = (0..<Int.random(in: 1..<50, using: &random)).map { _ in TestEvent(&random) }
            let one = record(bench, events)
            #expect(bench.merge(one, one) == one)
            // What a part has of another already does no harm either.
            let other = record(bench, events.filter { _ in Bool.random(using: &random) })
            if other.isEmpty { continue }
            #expect(bench.merge(one, other) == one)
            #expect(bench.merge(other, one) == one)
        }
    }

    /// Events that are processed when they happen, or later: what does not end as one whole reads the same at any later
    /// time, whenever it was processed and on whichever part.
    @Test(arguments: all.filter { rule in
        !rule.contains("ttl") && !rule.contains("visit")
            || rule.contains("ttl") && ["last", "string", "number", "boolean", "date", "badge", "set", "timeline"]
            .contains { rule.hasPrefix("type: \($0)") }
    })
    func whenEventsAreProcessedDoesNotShow(rule: String) {
        let bench = Workbench("attributes:\n  x: { \(rule) }")
        var random = SeededRandom(seed: 20)
        for _ in 0..<15 {
            let events = (0..<Int.random(in: 1..<50, using: &random)).map { _ in TestEvent(&random) }
                .sorted { $0.time < $1.time }
            let expected = record(bench, events, now: nil)
            var parts: [[UInt8]] = []
            for part in deal(events, &random) {
                // Some events come up to half an hour late, all before anybody looks.
                let arrivals = part.map { ($0, $0.time + max(0, Int64.random(in: -6...6, using: &random)) * 300_000) }
                    .sorted { $0.1 < $1.1 }
                var record: [UInt8] = []
                for (event, arrival) in arrivals {
                    record = bench.apply(event.body, to: record, at: event.time, now: arrival)
                }
                parts.append(record)
            }
            for _ in 0..<4 {
                let now = noon + Int64.random(in: 15..<30, using: &random) * 300_000
                let folded = fold(bench, parts, now: now, &random)
                #expect(bench.attributes(folded, now: now) == bench.attributes(expected, now: now))
            }
        }
    }
}
