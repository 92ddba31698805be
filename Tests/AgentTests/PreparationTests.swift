// Shows what holds between the preparation of an event and the writer: a request's answer never becomes another's, plans
// that were exchanged meanwhile lose nothing that waits, and an event is as large as it came.

import Formats
import Platform
import Serving
import Testing
import Unification

@testable import Agent

@Suite struct PreparationTests {
    static func plan(_ identifiers: String, _ events: String = "") -> String {
        """
        version: 1
        purposes: [analytics]
        consent: { wait: 10m }
        identifiers: { \(identifiers) }
        events: { \(events) "*": { purpose: analytics } }
        """
    }

    @Test func aRequestThatWasAnsweredAtTheDoorLeavesNoAnswerBehind() throws {
        let plans = bundle(Self.plan("user_id: { from: [userId] }")).plans
        var preparer = EventPreparer(PlanHolder(plans), pepper: Peppers(key: Array("a pepper for tests".utf8)))
        let intake = Intake()
        let submission = intake.obtain()
        submission.isBatch = true
        let text = Array(#"{"batch": 5}"#.utf8)
        let span = text.span
        try submission.document.parse(span)
        preparer.prepare(submission)
        #expect(submission.status == 400 && !submission.answer.isEmpty)
        // The intake had no room for it.
        intake.recycle(submission)
        let next = intake.obtain()
        #expect(next === submission && next.status == 0 && next.answer.isEmpty)
    }

    @Test func aFullIntakeIsKnownBeforeABodyIsParsed() {
        let intake = Intake()
        #expect(!intake.isFull(forBody: 100 << 20), "one body is taken however large it is")
        let submission = intake.obtain()
        submission.weight = 3 << 19
        #expect(intake.submit(submission))
        #expect(!intake.isFull(forBody: 100 << 10) && intake.isFull(forBody: 500 << 10))
        intake.recycle(submission)
        #expect(!intake.isFull(forBody: 500 << 10))
        intake.close()
        #expect(intake.isFull(forBody: 1))
    }

    @Test func whatWaitsOutlivesAnEventOfOlderPlans() throws {
        let old = bundle(Self.plan("user_id: { from: [userId] }")).plans
        let bench = try PlanBench(Self.plan("visitor: { from: [anonymousId] }"))
        let new = bench.plans
        let event = #"{"type":"track","event":"Seen","anonymousId":"somebody"}"#
        #expect(try bench.send(event, consenting: false) == "waiting")
        bench.go(by: old)
        bench.go(by: new)
        #expect(bench.ledger.waiting == 1 && bench.ledger.denied == 0)
        #expect(try bench.send(#"{"type":"track","event":"Bought","anonymousId":"somebody"}"#) == "admitted")
        #expect(bench.ledger.waiting == 0 && bench.ledger.admitted == 2)
    }

    @Test func whatWaitsUnderNoNameIsDenied() throws {
        let bench = try PlanBench(Self.plan("visitor: { from: [anonymousId] }"))
        let event = #"{"type":"track","event":"Seen","anonymousId":"somebody"}"#
        #expect(try bench.send(event, consenting: false) == "waiting")
        bench.use(Self.plan("user_id: { from: [userId] }"))
        #expect(bench.ledger.waiting == 0 && bench.ledger.denied == 1)
    }

    @Test func anEventIsAsLargeAsItCame() throws {
        let name = String(repeating: "n", count: 60)
        let bench = try PlanBench(
            Self.plan("user_id: { from: [userId] }", "Seen: { purpose: analytics, fields: { \(name): { was: s } } },"))
        let start = #"{"type":"track","event":"Seen","userId":"somebody","context":{"consent":{"categoryPreferences":{"analytics":true}}},"properties":{"s":""#
        for (length, outcome) in [(32 * 1024, "admitted"), (32 * 1024 + 1, "too_large")] {
            let text = start + String(repeating: "x", count: length - start.utf8.count - 3) + #""}}"#
            #expect(try bench.send(text, consenting: false) == outcome)
        }
    }

    @Test func restrictedFieldsAreSoUnderTheirOldNames() {
        let plan = bundle(
            Self.plan(
                "user_id: { from: [userId] }",
                "Seen: { purpose: analytics, restricted: [properties.cart.id], fields: { cart.id: { was: number } } },"))
        let restricted = plan.plans.tracking.rule(0)?.restricted ?? []
        let names = restricted.map { $0.map { String(decoding: $0, as: UTF8.self) }.joined(separator: ".") }
        #expect(names == ["properties.cart.id", "properties.cart.number"])
    }
}
