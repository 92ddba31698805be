// Shows how long ago events and sources were seen: whatever becomes of an event that is understood, over a restart, and
// over another bundle.

import Formats
import Testing

@testable import Agent
@testable import Collection

@Suite struct FreshnessTests {
    static func plan(_ events: String, more: String = "") -> String {
        """
        version: 1
        purposes: [analytics]
        identifiers: { user_id: { from: [userId] } }
        events: { \(events) }
        \(more)
        """
    }

    static let two = plan("Viewed: { purpose: analytics, fresh: 15m }, '*': { purpose: analytics }")

    static func event(_ name: String, _ id: String) -> String {
        #"{"type":"track","event":"\#(name)","userId":"anna","messageId":"\#(id)"}"#
    }

    @Test func anEventIsSeenWhateverBecomesOfIt() throws {
        let bench = try PlanBench(Self.two)
        bench.now = 100_000
        #expect(try bench.send(Self.event("Viewed", "1"), consenting: false) == "waiting")
        bench.now = 200_000
        #expect(try bench.send(Self.event("Other", "2"), source: 1) == "admitted")
        bench.now = 300_000
        // A repeat, and what is none, show nothing new.
        #expect(try bench.send(Self.event("Other", "2")) == "duplicate")
        #expect(try bench.send(#"{"type":"track","userId":"anna"}"#) == "no_event_name")
        #expect(bench.seen("Viewed", at: 400_000) == 300_000)
        #expect(bench.seen("*", at: 400_000) == 200_000)
        #expect(bench.sources.age(0, at: 400_000) == 300_000 && bench.sources.age(1, at: 400_000) == 200_000)
        // The clock was set back.
        #expect(bench.seen("*", at: 100_000) == 0)
    }

    @Test func itSurvivesARestartAndIsNotWrittenForEachEvent() throws {
        let folder = "/tmp/gatehouse-agent-test-\(UInt64.random(in: 0...UInt64.max))"
        do {
            let bench = try PlanBench(Self.two, folder: folder)
            bench.now = 100_000
            #expect(try bench.send(Self.event("Viewed", "1")) == "admitted")
            try bench.keepObserved(at: 100_000)
            bench.now = 104_000
            #expect(try bench.send(Self.event("Viewed", "2"), source: 1) == "admitted")
            try bench.keepObserved(at: 104_000)
        }
        do {
            let bench = try PlanBench(Self.two, folder: folder)
            #expect(bench.seen("Viewed", at: 200_000) == 100_000)
            bench.now = 105_000
            #expect(try bench.send(Self.event("Viewed", "3"), source: 1) == "admitted")
            try bench.keepObserved(at: 105_000)
        }
        // Another bundle: what is in both goes on, in another place.
        let bench = try PlanBench(
            Self.plan("New: { purpose: analytics }, Viewed: { purpose: analytics }"), folder: folder)
        #expect(bench.seen("Viewed", at: 200_000) == 95_000 && bench.sources.age(1, at: 200_000) == 95_000)
        bench.use(Self.plan("Viewed: { purpose: analytics }, Third: { purpose: analytics }"))
        #expect(bench.seen("Viewed", at: 200_000) == 95_000 && bench.seen("New", at: 200_000) == nil)
    }

    @Test func objectivesAreRead() {
        let plan = bundle(
            Self.plan(
                "Viewed: { purpose: analytics, fresh: 15m }, Sold: { purpose: analytics }",
                more: "sources: { pos: { fresh: 5m }, local: {} }")
        ).plans.tracking
        #expect(plan.objective(ofEvent: Array("Viewed".utf8)) == 900_000 && plan.objective(ofEvent: Array("Sold".utf8)) == 0)
        #expect(plan.objective(ofSource: Array("pos".utf8)) == 300_000 && plan.objective(ofSource: Array("local".utf8)) == 0)
    }

    @Test(arguments: [
        ("sources: { pos: 5m }", "5:17: a source's settings must be a map, such as { fresh: 5m }"),
        ("sources: { pos: { stale: 5m } }", "5:19: unknown setting stale of a source; it may have: fresh"),
        ("sources: { pos: { fresh: soon } }", "5:26: fresh must be "),
        ("sources: [pos]", "5:10: sources must be a map of names and settings"),
    ])
    func whatIsWrongIsSaid(_ section: String, _ problem: String) {
        let found = problems(Self.plan("'*': { purpose: analytics }", more: section))
        #expect(found.count == 1 && found[0].hasPrefix(problem), "\(found)")
    }

    // limit: Collection.watchedEvents
    @Test func onlySoManyEventsAreWatched() {
        var events = ""
        for number in 0..<140 { events += "E\(number): { purpose: analytics\(number == 139 ? ", fresh: 1m" : "") }, " }
        let found = problems(Self.plan(events))
        #expect(found.count == 1 && found[0].contains("only the first 128 events"), "\(found)")
    }
}
