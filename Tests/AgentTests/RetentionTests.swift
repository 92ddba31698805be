// Shows that nothing is kept longer than the bundle says, by a pipeline over a real store whose clock is moved: profiles,
// log, quarantine, and what a destination is given.
import Collection
import Cryptography
import Formats
import Governance
import Monitoring
import Platform
import Serving
import Store
import Testing

@testable import Agent
@testable import Delivery

private let policy = """
    version: 1
    purposes: { analytics: { ttl: 90d }, personalization: { ttl: 300d }, care: {} }
    identifiers: { user_id: { from: [userId], send: hmac, unique: true } }
    events:
      Till Opened: { purpose: analytics, ttl: 7d, restricted: [properties.drawer, context.till] }
      Order Completed:
        purpose: personalization
        schema: { type: object, required: [revenue] }
      Asked: { purpose: care }
      "*": { purpose: analytics }
    attributes:
      city: { type: string, value: event.properties.city, ttl: 30d }
      orders: { type: counter, when: 'event.event == "Order Completed"' }
    destinations:
      hub: { url: "https://hub.example/v1/batch", purpose: analytics, identifiers: [user_id] }
      till_maker: { url: "https://till.example/v1/batch", purpose: analytics, restricted: [properties.drawer] }
    """

private let withoutEnds = """
    version: 1
    purposes: [analytics]
    identifiers: { u: { from: [userId], send: hmac } }
    events: { "*": { purpose: analytics } }
    """

@Suite struct RetentionTests {
    @Test func anAttributeLeavesTheStoreAlthoughItsPersonNeverComesAgain() {
        let device = Device(policy)
        for number in 0..<300 { device.take("u\(number)", "Visited", #"{"city": "Hamburg"}"#) }
        device.now = noon + 30 * day
        device.sweep()
        #expect(device.meters.purgedAttributes.current == 0)
        device.now += 1
        device.sweep()
        #expect(device.meters.purgedAttributes.current == 300)
        #expect(device.count { $0.profiles } == 300 && device.meters.purgedProfiles.current == 0)
        device.sweep()
        #expect(device.meters.purgedAttributes.current == 300)
    }

    /// Small steps: no step changes more profiles than the limit says.
    // limit: Agent.purgedPerStep
    @Test func aStepIsBounded() {
        let device = Device(policy)
        for number in 0..<300 { device.take("u\(number)", "Visited", #"{"city": "Hamburg"}"#) }
        device.now = noon + 31 * day
        var steps = 0
        var most: UInt64 = 0
        while device.meters.purgedAttributes.current < 300, steps < 50 {
            let before = device.meters.purgedAttributes.current
            device.monotonic += 50_000_000
            let (now, monotonic) = (device.now, device.monotonic)
            device.write { transaction throws(StoreError) in
                let (plans, room) = (device.bundle.plans, try DiskRoom(device.database))
                try device.pipeline.sweep(plans, now: now, monotonic: monotonic, room, &transaction)
                // Not again so soon.
                try device.pipeline.sweep(plans, now: now, monotonic: monotonic + 1, room, &transaction)
            }
            most = max(most, device.meters.purgedAttributes.current - before)
            steps += 1
        }
        #expect(most == UInt64(Limits.purgedPerStep) && steps == 7)
    }

    /// What a step did is done again when its transaction did not happen.
    @Test func aStepThatWasNotCommittedIsTakenAgain() {
        let device = Device(policy)
        device.take("ada", "Visited", #"{"city": "Hamburg"}"#)
        device.now = noon + 31 * day
        let mark = device.pipeline.retention
        do throws(StoreError) {
            var transaction = try device.database.beginWrite()
            for step in 0..<2 {
                try device.pipeline.sweep(
                    device.bundle.plans, now: device.now, monotonic: Int64(step) * 50_000_000,
                    try DiskRoom(device.database), &transaction)
            }
            // Not committed.
        } catch { Issue.record("the store cannot be written") }
        device.pipeline.retention = mark
        device.sweep()
        #expect(device.meters.purgedAttributes.current == 1)
    }

    /// Once a day all rows of the store are held against their checksums, and where nothing ever ends as well.
    @Test(arguments: [policy, withoutEnds])
    func rowsAreLookedAtOnceADay(_ policy: String) {
        let device = Device(policy)
        for number in 0..<300 { device.take("u\(number)", "Visited") }
        for _ in 0..<60 { device.sweep() }
        let first = device.meters.storeCheckedAt.current
        #expect(first > 0 && first <= device.monotonic && device.meters.badRecords.current == 0)
        device.now += 3_600_000
        device.monotonic += 3_600_000_000_000
        for _ in 0..<60 { device.sweep() }
        #expect(device.meters.storeCheckedAt.current == first)
        device.now += day
        device.monotonic += day * 1_000_000
        for _ in 0..<60 { device.sweep() }
        #expect(device.meters.storeCheckedAt.current > first + 86_400_000_000_000 && device.meters.badRecords.current == 0)
    }

    @Test func aPersonGoesWhoWasNotSeenForTheLongestTimeOfWhatTheyGrant() {
        let device = Device(policy)
        device.take("short", "Visited")
        device.take("long", "Order Completed", #"{"revenue": 1}"#, grants: ["analytics", "personalization"])
        device.take("ever", "Asked", grants: ["analytics", "care"])
        device.now = noon + 90 * day + 1
        device.sweep()
        #expect(device.count { $0.profiles } == 2 && device.count { $0.identifiers } == 2 && device.count { $0.links } == 2)
        #expect(device.count { $0.consent } == 3)
        device.now = noon + 300 * day + 1
        device.sweep()
        #expect(device.count { $0.profiles } == 1 && device.count { $0.identifiers } == 1)
        device.now = noon + 3000 * day
        device.sweep()
        #expect(device.count { $0.profiles } == 1 && device.meters.purgedProfiles.current == 2)
        // Who comes again begins anew.
        device.take("short", "Visited", #"{"city": "Kiel"}"#)
        #expect(device.count { $0.profiles } == 2 && device.count { $0.consent } == 4)
    }

    @Test func aRefusalOutlastsTheProfile() {
        let device = Device(policy)
        device.take("ada", "Order Completed", #"{"revenue": 1}"#, grants: ["personalization"], denies: ["analytics"])
        device.now = noon + 300 * day + 1
        device.sweep()
        #expect(device.count { $0.profiles } == 0 && device.count { $0.identifiers } == 1 && device.count { $0.links } == 1)
    }

    /// Log and accounts: what is over is in no destination's batch, and counted as expired, before the sweep and after it.
    @Test func anEventLeavesTheLogAndIsCounted() {
        let device = Device(policy)
        device.take("ada", "Till Opened", #"{"drawer": "secret-1"}"#)
        device.take("ada", "Visited", #"{"page": "x"}"#)
        device.now = noon + 7 * day
        #expect(device.delivery(0).count == 2)
        device.now += 1
        #expect(device.delivery(0).count == 1 && device.delivery(0).expired == 1 && device.delivery(0).passed == 1)
        device.sweep()
        #expect(device.meters.purgedEvents.current == 1)
        let swept = device.delivery(0)
        #expect(swept.count == 1 && swept.expired == 1 && swept.passed == 1)
        device.now = noon + 90 * day + 1
        #expect(device.delivery(0).count == 0 && device.delivery(0).expired == 2)
        device.sweep()
        #expect(device.meters.purgedEvents.current == 2 && device.count { $0.log } == 2)
        #expect(device.delivery(0).expired == 2)
    }

    @Test func anEventLeavesQuarantineAndIsNotReleased() {
        let device = Device(policy)
        device.take("ada", "Order Completed", grants: ["personalization"])
        #expect(device.count { $0.quarantine } == 1)
        let ledger = device.pipeline.ledger
        device.now = noon + 300 * day + 1
        let refusal = device.write { transaction throws(StoreError) in
            try device.pipeline.release(1, now: device.now, &transaction)
        }
        #expect(refusal != nil && refusal.map { "\($0.code)" } == "not_there")
        device.sweep()
        #expect(device.count { $0.quarantine } == 0 && device.meters.purgedQuarantined.current == 1)
        // That it was set aside stays true (promise P7).
        #expect(device.pipeline.ledger == ledger)
    }

    @Test func aBundleWithoutEndsIsNotSweptBeforeRowsAreDue() {
        let device = Device(withoutEnds)
        device.sweep()
        for _ in 0..<60 { device.sweep() }
        // It was less than a minute ago.
        let nextDay = device.monotonic + day * 1_000_000
        let isDue = device.pipeline.isSweepDue(device.bundle.plans, nextDay - 60_000_000_000)
        #expect(!isDue)
        let isDueThen = device.pipeline.isSweepDue(device.bundle.plans, nextDay)
        #expect(isDueThen)
    }

    @Test func aPassIsInTheAuditLog() {
        let device = Device(policy)
        device.take("ada", "Visited", #"{"city": "Hamburg"}"#)
        device.now = noon + 31 * day
        device.sweep()
        device.sweep()
        var lines: [String] = []
        do throws(StoreError) {
            var reader = try device.database.makeReader()
            try reader.begin()
            try AuditLog.forEachLine(from: 0, reader) { _, line in
                lines.append(String(copying: line))
                return true
            }
        } catch { Issue.record("the audit log cannot be read") }
        let about = lines.filter { $0.contains("retention") }
        #expect(about.count == 1 && about.first?.contains(#""attributes":1"#) == true)
    }
}

@Suite struct RestrictedTests {
    @Test func aRestrictedFieldLeavesOnlyForWhoNamesIt() {
        let device = Device(policy)
        device.take("ada", "Till Opened", #"{"drawer": "secret-1", "open": "yes"}"#)
        let (hub, maker) = (device.delivery(0).text, device.delivery(1).text)
        #expect(!hub.contains("secret-1") && !hub.contains("number") && hub.contains(#""open":"yes""#))
        #expect(maker.contains(#""drawer":"secret-1""#) && !maker.contains("number"))
        // In another event the field is no secret.
        device.take("ada", "Visited", #"{"drawer": "open-2"}"#)
        #expect(device.delivery(0).text.contains("open-2"))
    }

    private func complaints(_ change: (String) -> String) -> [String] {
        let text = Array(change(policy).utf8)
        return Bundle.read(text.span, loadedAt: noon).1.map { $0.message }
    }

    @Test func aFilterMayNotTellOfARestrictedAttribute() {
        let secret = { (text: String) in text.replacing("ttl: 30d }", with: "ttl: 30d, restricted: true }") }
        #expect(complaints { secret($0) } == [])
        for when in [#"profile.?city.orValue("") == "Kiel""#, "audience.local"] {
            let filtered = { (text: String) in
                secret(text).replacing("identifiers: [user_id] }", with: "identifiers: [user_id], when: '\(when)' }")
                    .replacing("destinations:", with: "audiences: { local: 'has(profile.city)' }\ndestinations:")
            }
            let found = complaints(filtered)
            #expect(found.count == 1 && found[0].contains("profile.city is restricted"))
            #expect(complaints { filtered($0).replacing("identifiers: [user_id],", with: "restricted: [profile.city],") } == [])
        }
        #expect(complaints { $0.replacing("restricted: [properties.drawer] }", with: "restricted: [properties.draw] }") }.count == 1)
        #expect(complaints { $0.replacing("context.till]", with: "userId]") }.count == 1)
    }

    @Test func purposesMayBeAListOrAMap() {
        #expect(complaints { $0.replacing("purposes: { analytics: { ttl: 90d }, personalization: { ttl: 300d }, care: {} }", with: "purposes: [analytics, personalization, care]") } == [])
        #expect(complaints { $0.replacing("care: {}", with: "care: { tll: 3d }") }.count == 1)
        #expect(complaints { $0.replacing("care: {}", with: "care: 3d") }.count == 1)
    }
}
