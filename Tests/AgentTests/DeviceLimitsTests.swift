// Shows that what a device's configuration may ask for has limits, and that what a device holds of events and people stops
// growing where it is said to, with a counter that tells. Limits of a bundle are in BundleLimitsTests.
import Collection
import Governance
import Monitoring
import Store
import Testing

@testable import Agent
@testable import Serving
@testable import Unification

private typealias Limits = CollectionLimits

private let policy = """
    version: 1
    purposes: [analytics]
    identifiers: { user_id: { from: [userId], send: hmac, unique: true } }
    events:
      Order Completed: { purpose: analytics, invalid: quarantine, schema: { required: [amount] } }
      "*": { purpose: analytics }
    attributes:
      notes: { type: set, value: event.properties.note, limit: 1000 }
      longest: { type: timeline, value: event.properties.note, limit: 1000 }
      last_note: { type: last, value: event.properties.note }
    """

@Suite struct DeviceLimitsTests {
    private func problems(_ text: String) -> [String] {
        let bytes = Array(text.utf8)
        return Configuration.read(bytes.span).1.map { "\($0.position.description): \($0.message)" }
    }

    // limit: Agent.servingThreads, Agent.diskBytes, Agent.bodyBytes, Agent.connections, Agent.snapshots
    // limit: Agent.snapshotMilliseconds
    @Test(arguments: [
        ("threads: 4", "threads: 5", "1:10: threads must be a whole number from 1 to 4"),
        ("limits: { disk: 1TiB }", "limits: { disk: 1025GiB }", "1:17: disk must be a size such as "),
        ("limits: { disk: 1MiB }", "limits: { disk: 1023KiB }", "1:17: disk must be a size such as "),
        ("limits: { body: 16MiB }", "limits: { body: 17MiB }", "1:17: body must be a size such as "),
        ("limits: { body: 1KiB }", "limits: { body: 1023 }", "1:17: body must be a size such as "),
        ("snapshots: { keep: 8 }", "snapshots: { keep: 9 }", "1:20: keep must be a whole number from 0 to 8"),
        ("snapshots: { every: 90d }", "snapshots: { every: 91d }", "1:21: every must be "),
        ("snapshots: { every: 1s }", "snapshots: { every: 999ms }", "1:21: every must be 1s or more"),
        ("limits: { connections: 10000 }", "limits: { connections: 10001 }",
         "1:24: connections must be a whole number from 1 to 10000"),
        ("limits: { connections: 1 }", "limits: { connections: 0 }",
         "1:24: connections must be a whole number from 1 to 10000"),
    ]) func aSettingIsTakenUpToItsLimit(_ most: String, _ more: String, _ problem: String) {
        #expect(problems(most) == [])
        let found = problems(more)
        #expect(found.count == 1 && found[0].hasPrefix(problem), "\(found)")
    }

    // limit: Collection.watchedSources
    @Test func onlySoManySourcesAreWatched() {
        func tokens(_ count: Int) -> String {
            var text = "tokens:\n"
            for number in 0..<count {
                let digits = String(number)
                let hash = String(repeating: "0", count: 64 - digits.count) + digits
                text += "  - { name: till-\(number), sha256: '\(hash)', roles: [collect] }\n"
            }
            return text
        }
        #expect(problems(tokens(Limits.watchedSources)) == [])
        let found = problems(tokens(Limits.watchedSources + 1))
        #expect(found == ["2:3: at most 64 tokens of different names may have the role collect"])
    }

    // MARK: What waits

    private func silent(_ number: Int, _ filling: Int = 0) -> String {
        let filling = String(repeating: "x", count: filling)
        return """
            {"type": "track", "userId": "u\(number)", "event": "Seen", "messageId": "m\(number)",
            "properties": {"filling": "\(filling)"}}
            """
    }

    /// The oldest leave, and are denied: nobody has granted anything.
    // limit: Collection.waitingEvents
    @Test func onlySoManyEventsWait() {
        let device = Device(policy)
        for number in 0..<Limits.waitingEvents + 8 { device.take(silent(number)) }
        let ledger = device.pipeline.ledger
        #expect(ledger.waiting == UInt64(Limits.waitingEvents) && ledger.denied == 8)
        let left = device.pipeline.waiting.events.map { String(decoding: $0.messageID, as: UTF8.self) }
        #expect(left.first == "m8" && left.count == Limits.waitingEvents)
    }

    // limit: Collection.waitingBytes
    @Test func whatWaitsIsOnlySoLarge() {
        let device = Device(policy)
        for number in 0..<40 { device.take(silent(number, 30_000)) }
        let ledger = device.pipeline.ledger
        #expect(ledger.waiting == 17 && ledger.denied == 23, "\(ledger.waiting)")
        #expect(device.pipeline.waiting.events.reduce(0) { $0 + $1.weight } <= Limits.waitingBytes)
    }

    /// Ten minutes where the bundle says nothing.
    // limit: Governance.defaultWaitMilliseconds
    @Test func anEventWaitsOnlySoLong() {
        let device = Device(policy)
        device.take(silent(1))
        device.pipeline.expireWaiting(at: device.now + 599_999)
        let waiting = device.pipeline.ledger.waiting
        device.pipeline.expireWaiting(at: device.now + 600_000)
        let denied = device.pipeline.ledger.denied
        #expect(waiting == 1 && denied == 1)
    }

    // MARK: Quarantine

    // limit: Collection.quarantinedEvents
    @Test func quarantineHoldsOnlySoManyEvents() {
        let device = Device(policy)
        for number in 0..<Int(Limits.quarantinedEvents) + 5 { device.take("u\(number)", "Order Completed") }
        #expect(device.count { $0.quarantine } == Int64(Limits.quarantinedEvents))
        #expect(device.meters.droppedQuarantined.current == 5)
    }

    // MARK: Profiles

    /// A value that is too long is not kept, an attribute and a record that are full take no more: each is counted, and the
    /// event is admitted all the same.
    // limit: Unification.valueBytes, Unification.attributeBytes, Unification.profileRecordBytes
    @Test func aProfileStopsGrowing() throws {
        let device = Device(policy)
        func note(_ number: Int, _ length: Int) {
            device.now += 1000
            device.take("ada", "Noted", "{\"note\": \"\(number)-\(String(repeating: "x", count: length))\"}")
        }
        note(0, 1023)
        #expect(device.meters.refusedValues.current == 3, "one of each attribute")
        for number in 0..<100 { note(number, 1000) }
        let id = try #require(device.person("user_id", "ada")).bytes
        let size = device.write { transaction throws(StoreError) in
            try transaction.get(transaction.tables.profiles, id.span)?.count ?? 0
        }
        #expect(size <= Unification.Limits.profileRecordBytes && size > 60_000, "\(size)")
        #expect(device.meters.refusedValues.current > 3)
        let admitted = device.pipeline.ledger.admitted
        #expect(admitted == 101)
    }

    /// Beyond it a till has no visit: its events count for the till itself. When the first visits are over there is room.
    // limit: Unification.visits
    @Test func onlySoManyVisitsAreUnderWay() {
        let device = Device(policy)
        func thing(_ number: Int) -> IdentifierKey { device.key("user_id", "till-\(number)") }
        let user = device.key("user_id", "ada")
        func note(_ numbers: Range<Int>, at now: Int64) {
            device.write { transaction throws(StoreError) in
                for number in numbers { try SharedVisit.note(thing(number), user, at: now, now: now, in: &transaction) }
            }
        }
        let most = Int(Unification.Limits.visits)
        note(0..<most + 3, at: device.now)
        #expect(device.count { $0.visits } == Unification.Limits.visits)
        note(most..<most + 1, at: device.now + Unification.Limits.visitMilliseconds + 1)
        #expect(device.count { $0.visits } == 1)
    }

    // MARK: Copies of records

    /// Nobody makes them here; the ninth caller hears 503 and may come again.
    // limit: Serving.waitingExports
    @Test func onlySoManyCopiesAreWaitedFor() {
        let device = Device(policy)
        let intake = Intake()
        let clerk = RecordClerk(
            database: device.database, intake: intake, subjects: AuditSubject(root: device.pepper.root),
            plans: PlanHolder(device.bundle.plans), meters: Meters())
        for _ in 0..<Serving.Limits.waitingExports { #expect(clerk.submit(intake.obtain())) }
        #expect(!clerk.submit(intake.obtain()))
    }

    // MARK: What is counted in /metrics

    // limit: Collection.driftLabels
    @Test func onlySoManyChangedFieldsHaveALineOfTheirOwn() {
        let watch = PlanWatch(sources: [])
        for number in 0..<Limits.driftLabels + 50 { watch.add(1, Array("Order".utf8), Array("f\(number)".utf8), .new) }
        let (labels, counts) = watch.changes
        #expect(labels.count == Limits.driftLabels + 1)
        #expect(counts.last == 50 && String(decoding: labels[labels.count - 1], as: UTF8.self).contains(#"field="other""#))
    }
}
