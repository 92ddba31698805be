// Shows what becomes of triggers under a simulated clock, by a pipeline over a real store: each fires once and never twice,
// whatever the clock and the power do, and not at all where something came in between, consent went, or it is too late.
import Activation
import Cryptography
import Formats
import Governance
import Store
import Testing
import Unification

@testable import Agent
@testable import Delivery

private let policy = """
    version: 1
    purposes: [analytics, personalization]
    identifiers:
      user_id: { from: [userId], send: hmac, unique: true }
      email: { from: [traits.email, properties.email], normalize: email, send: sha256 }
    events:
      Drawer Opened: { purpose: analytics, restricted: [properties.drawer] }
      "*": { purpose: analytics }
    attributes:
      orders: { type: counter, when: 'event.event == "Order Completed"' }
    triggers:
      abandoned_cart:
        on: 'event.event == "Product Added"'
        after: 30m
        unless: 'event.event == "Order Completed"'
        purpose: personalization
        send: crm
      greeting: { on: 'event.event == "Door Opened"', every: 1h, send: [crm, hub] }
      newcomer: { on: 'event.event == "Asked"', after: 10m, grace: 5m, when: profile.orders == 0, send: crm }
    destinations:
      crm: { url: "https://crm.example/hook", purpose: analytics, when: 'event.event == "Nothing"', identifiers: [user_id, email] }
      hub: { url: "https://hub.example/v1/batch", purpose: analytics, deny: [properties.secret] }
    """

private let minute: Int64 = 60_000
private let grants = ["analytics", "personalization"]

@Suite struct TriggerTests {
    private func cart(_ device: Device, _ user: String = "ada", _ grants: [String] = grants) {
        device.take(user, "Product Added", #"{"product_id": "p-1", "price": 9.5, "secret": "s"}"#, grants: grants)
    }

    @Test func itFiresOnceWhenNothingCameInBetween() {
        let device = Device(policy)
        cart(device)
        device.pass(29 * minute, steps: 29)
        #expect(device.generated() == [])
        device.pass(minute)
        let fired = device.generated()
        #expect(fired.count == 1 && fired[0].hasPrefix(#"{"type":"track","event":"Trigger Fired","properties":{"trigger":"#))
        #expect(fired[0].hasSuffix(#","timestamp":"2026-01-31T12:30:00.000Z"}"#))
        #expect(fired[0].contains(#""trigger":"abandoned_cart","product_id":"p-1","price":9.5"#))
        #expect(fired[0].contains(#""context":{"trigger":{"event":"Product Added","type":"track","#))
        device.pass(day, steps: 100)
        #expect(device.generated().count == 1 && device.meters.triggersFired.current == 1)
        #expect(device.count { $0.timers } == 0 && device.count { $0.pending } == 0)
        #expect(device.pipeline.ledger.generated == 1 && device.pipeline.ledger.nextSequence == 3)
        #expect(device.pipeline.ledger.received == 1 && device.pipeline.ledger.admitted == 1)
    }

    @Test func anEventInBetweenCallsItOff() {
        let device = Device(policy)
        cart(device)
        device.pass(29 * minute)
        device.take("ben", "Order Completed", grants: grants)
        device.take("ada", "Order Completed", grants: grants)
        device.pass(day)
        #expect(device.generated() == [] && device.meters.triggersCalledOff.current == 1)
        #expect(device.count { $0.pending } == 0)
    }

    /// Each further event lets the wait begin anew, and moves no timer until it comes due.
    @Test func theWaitBeginsAnew() {
        let device = Device(policy)
        for _ in 0..<20 {
            cart(device)
            device.pass(10 * minute)
        }
        #expect(device.generated() == [] && device.count { $0.timers } == 1)
        device.pass(19 * minute)
        #expect(device.generated() == [])
        device.pass(minute)
        #expect(device.generated().count == 1)
    }

    @Test func tenRestartsChangeNothing() {
        let device = Device(policy)
        for user in 0..<20 { cart(device, "u\(user)") }
        for _ in 0..<10 {
            device.now += 6 * minute
            device.restart()
            device.takeTimers(commits: false)
            device.takeTimers()
        }
        #expect(device.generated().count == 20 && device.meters.triggersFired.current == 40)
    }

    /// A transaction that does not happen leaves the timer where it was.
    @Test func whatIsNotCommittedHappensAgain() {
        let device = Device(policy)
        cart(device)
        device.now += 30 * minute
        for _ in 0..<3 { device.takeTimers(commits: false) }
        #expect(device.generated() == [] && device.count { $0.timers } == 1)
        device.takeTimers()
        #expect(device.generated().count == 1 && device.pipeline.ledger.generated == 1)
    }

    /// The clock is set back by a day while one waits, after it fired, and in between new ones begin.
    @Test func aClockThatIsSetBackLosesNothingAndRepeatsNothing() {
        let device = Device(policy)
        cart(device, "before")
        device.now -= day
        device.restart()
        cart(device, "after")
        device.pass(30 * minute, steps: 30)
        #expect(device.generated().count == 1)
        // The first waits until the clock is there again.
        device.pass(day, steps: 24 * 60)
        #expect(device.generated().count == 2)
        device.now -= day
        device.restart()
        device.pass(2 * day, steps: 48 * 60)
        #expect(device.generated().count == 2)
        // What is called off on the day before is called off.
        cart(device, "ben")
        device.now -= day
        device.take("ben", "Order Completed", grants: grants)
        device.pass(2 * day, steps: 48)
        #expect(device.generated().count == 2)
        // One that waits for longer than it can begins anew with the next event.
        cart(device)
        device.now -= day
        cart(device)
        device.pass(30 * minute)
        #expect(device.generated().count == 3)
        device.pass(2 * day, steps: 48)
        #expect(device.generated().count == 3 && device.count { $0.pending } == 0)
    }

    /// The clock is set forward: what is then due fires within its grace, and is counted beyond it.
    @Test func aClockThatIsSetForwardFiresOnceOrIsLate() {
        let device = Device(policy)
        cart(device)
        device.pass(30 * minute + 60 * minute)
        #expect(device.generated().count == 1)
        cart(device)
        device.pass(30 * minute + 60 * minute + 1)
        #expect(device.generated().count == 1 && device.meters.triggersLate.current == 1)
        cart(device)
        device.pass(day)
        #expect(device.generated().count == 1 && device.meters.triggersLate.current == 2)
        device.pass(10 * day, steps: 100)
        #expect(device.generated().count == 1 && device.count { $0.pending } == 0)
    }

    /// Thirty minutes are thirty minutes when clocks are set for summer and winter, at the end of February and of the year.
    @Test(arguments: [
        "2026-03-29T00:45:00Z", "2026-10-25T00:45:00Z", "2024-02-28T23:45:00Z", "2024-02-29T23:45:00Z", "2100-02-28T23:45:00Z",
        "2027-12-31T23:45:00Z",
    ])
    func noCalendarMatters(start: String) {
        let bytes = Array(start.utf8)
        let device = Device(policy)
        device.now = Timestamp.parse(bytes.span) ?? 0
        let begin = device.now
        cart(device)
        while device.generated().isEmpty, device.now < begin + day { device.pass(minute) }
        #expect(device.now - begin == 30 * minute)
        device.pass(day, steps: 24)
        #expect(device.generated().count == 1)
    }

    @Test func atOnceAndAtMostOnceInAnHour() {
        let device = Device(policy)
        device.take("ada", "Door Opened")
        #expect(device.generated().count == 1)
        device.pass(30 * minute)
        device.take("ada", "Door Opened")
        device.take("ben", "Door Opened")
        #expect(device.generated().count == 2 && device.meters.triggersRested.current == 1)
        device.restart()
        device.pass(30 * minute - 1)
        device.take("ada", "Door Opened")
        #expect(device.generated().count == 2)
        device.pass(1)
        device.take("ada", "Door Opened")
        #expect(device.generated().count == 3)
        device.pass(2 * day)
        #expect(device.count { $0.pending } == 0)
    }

    @Test func aConditionAtTheEndMayCallItOff() {
        let device = Device(policy)
        device.take("ada", "Asked")
        device.take("ben", "Asked")
        device.take("ada", "Order Completed")
        device.pass(10 * minute)
        #expect(device.generated().count == 1 && device.meters.triggersCalledOff.current == 1)
        device.take("cleo", "Asked")
        device.pass(15 * minute + 1)
        #expect(device.generated().count == 1 && device.meters.triggersLate.current == 1)
    }

    // MARK: People

    @Test func withoutAGrantNothingWaitsOrFires() {
        let device = Device(policy)
        cart(device, "ada", ["analytics"])
        #expect(device.count { $0.timers } == 0 && device.meters.triggersDenied.current == 1)
        cart(device, "ben")
        device.pass(10 * minute)
        device.take("ben", "Looked", grants: ["analytics"], denies: ["personalization"])
        device.pass(day, steps: 100)
        #expect(device.generated() == [] && device.meters.triggersDenied.current == 2)
        // What has fired is not sent once either purpose is refused.
        cart(device, "cleo")
        device.pass(30 * minute)
        #expect(device.delivery(0).count == 1)
        device.take("cleo", "Looked", grants: ["analytics"], denies: ["personalization"])
        #expect(device.delivery(0).count == 0)
    }

    @Test func anErasedPersonsTimersGo() {
        let device = Device(policy)
        cart(device)
        cart(device, "ben")
        guard let ada = device.person("user_id", "ada") else { Issue.record("nobody"); return }
        device.write { transaction throws(StoreError) in
            _ = try device.pipeline.erase(ada, nil, actor: [], now: device.now, &transaction)
        }
        #expect(device.count { $0.timers } == 1 && device.count { $0.pending } == 1)
        device.pass(30 * minute)
        #expect(device.generated().count == 1)
    }

    /// Two carts of one person who was not known to be one: the later wait counts, once.
    @Test func peopleWhoAreJoinedHearOnce() {
        let device = Device(policy)
        cart(device)
        device.pass(5 * minute)
        device.take("""
            {"type": "track", "anonymousId": "a", "event": "Product Added", "properties": {"email": "ada@example.org"},
             "context": {"consent": {"categoryPreferences": {"analytics": true, "personalization": true}}}}
            """)
        #expect(device.count { $0.timers } == 2)
        device.take("ada", "Signed Up", #"{"email": "ada@example.org"}"#, grants: grants)
        device.pass(25 * minute)
        #expect(device.generated() == [])
        device.pass(5 * minute)
        #expect(device.generated().count == 1)
        device.pass(day)
        #expect(device.generated().count == 1 && device.count { $0.pending } == 0)
        // And an order under either name calls off both.
        cart(device)
        device.take("ada", "Order Completed", grants: grants)
        device.pass(day)
        #expect(device.generated().count == 1)
    }

    /// A box is replaced: what waits at the old one fires at the new one, once, and nothing comes back of who was erased.
    @Test func whatWaitsGoesToTheBoxThatReplacesIt() {
        let plain = SHA256.hash(Array("ada@example.org".utf8))
        let announced = policy.replacing(
            "triggers:",
            with: "audiences: { buyers: { when: profile.orders > 0, purpose: analytics, announce: true } }\ntriggers:")
        let (old, new) = (Device(announced), Device(announced, epoch: 2, seed: 2))
        old.take("ada", "Product Added", #"{"email": "ada@example.org"}"#, grants: grants)
        for user in ["ben", "cleo"] { cart(old, user) }
        old.take("dora", "Order Completed", grants: grants)
        #expect(old.generated().count == 1)
        old.pass(10 * minute)
        new.now = old.now
        // At the new one Cleo's cart is older, and Ben, who was there too, has been erased.
        for user in ["ben", "cleo"] { new.take(user, "Door Opened", grants: grants) }
        new.now -= 20 * minute
        cart(new, "cleo")
        new.now = old.now
        guard let ben = new.person("user_id", "ben") else { Issue.record("nobody"); return }
        new.write { transaction throws(StoreError) in
            _ = try new.pipeline.erase(ben, nil, actor: [], now: new.now, &transaction)
        }
        new.learn(from: old)
        func takeOver(_ bundle: String) -> Int64 {
            new.restart(bundle)
            do {
                var reader = try old.database.makeReader()
                try reader.begin()
                return try Upkeep.takeTimers(of: reader, into: new.database, new.pepper, new.bundle.policy)
            } catch { fatalError("the old store cannot be read") }
        }
        let before = new.generated().count
        // Triggers that this bundle does not have stay there, and so do hashes that it does not ask for.
        #expect(takeOver(announced.replacing("abandoned_cart:", with: "other:")) == 1)
        #expect(takeOver(announced.replacing("identifiers: [user_id, email]", with: "identifiers: [user_id]")) == 2)
        #expect(!new.holds(plain))
        #expect(takeOver(announced) == 0)
        new.restart()
        new.pass(19 * minute)
        #expect(new.generated().count == before)
        new.pass(minute)
        #expect(new.generated().count == before + 2)
        new.take("dora", "Looked", grants: grants)
        new.pass(day, steps: 100)
        #expect(new.generated().count == before + 2 && new.meters.triggersFired.current == 4)
    }

    // MARK: What leaves

    @Test func onlyItsDestinationsHearOfItWhateverTheirFilters() {
        let device = Device(policy)
        cart(device)
        device.pass(30 * minute)
        let (crm, hub) = (device.delivery(0), device.delivery(1))
        #expect(crm.count == 1 && crm.passed == 1 && crm.text.contains(#""trigger":"abandoned_cart""#))
        #expect(crm.text.contains(#""identifiers":{"user_id":""#) && crm.text.contains(#""secret":"s""#))
        #expect(hub.count == 1 && hub.passed == 1 && hub.text.contains("Product Added") && !hub.text.contains(#""secret""#))
        device.take("ada", "Door Opened", #"{"secret": "s", "drawer": 1}"#)
        #expect(device.delivery(0).count == 2 && device.delivery(1).count == 3)
        // Fields that may not leave, and those that are restricted in any event, do not leave by way of a trigger either.
        let both = device.delivery(1).text
        #expect(both.contains(#""trigger":"greeting""#) && !both.contains(#""secret""#))
        #expect(!device.delivery(0).text.contains("drawer"))
    }

    /// The plain hash of an e-mail address leaves with a trigger as it would with its event.
    @Test func identifiersLeaveInTheFormThatIsAskedFor() {
        let device = Device(policy)
        device.take("ada", "Product Added", #"{"email": "ada@example.org"}"#, grants: grants)
        device.pass(30 * minute)
        let address = Array("ada@example.org".utf8)
        #expect(device.delivery(0).text.contains(#""email":"\#(SHA256.hash(address).hexadecimal)""#))
    }

    /// What waits holds the plain hash of an identifier only where a destination of its trigger, or that one's fallback,
    /// asks for it (promise P3); and so does what fires.
    @Test func aWaitKeepsPlainHashesForItsDestinationsAlone() {
        let plain = SHA256.hash(Array("ada@example.org".utf8))
        let asking = "identifiers: [user_id, email]"
        let backed = "identifiers: [user_id], fallback: spare"
        let spare = #"spare: { url: "https://spare.example/", purpose: analytics, identifiers: [email] }"#
        let silent = policy.replacing(asking, with: "identifiers: [user_id]")
        for (bundle, isKept) in [
            (policy, true), (silent, false), (silent.replacing("deny:", with: "identifiers: [email], deny:"), false),
            (policy.replacing(asking, with: backed) + "\n  " + spare, true),
        ] {
            let device = Device(bundle)
            device.take("ada", "Product Added", #"{"email": "ada@example.org"}"#, grants: grants)
            #expect(device.holds(plain))
            device.trim(below: .max)
            #expect(device.holds(plain) == isKept)
            // A bundle that does not ask for it any more: it is not told, nor kept with what has fired.
            device.adopt(bundle.replacing("identifiers: [user_id, email]", with: "identifiers: [user_id]"))
            device.pass(30 * minute)
            #expect(device.generated().count == 1)
            #expect(device.holds(plain) == (isKept && bundle.contains("spare")))
        }
    }

    /// An identifier that was cut off a person and then erased with somebody else: what waits for the first forgets it.
    @Test func anErasedIdentifierLeavesWhatOthersWaitWith() {
        let plain = SHA256.hash(Array("ada@example.org".utf8))
        let device = Device(policy)
        for number in 0..<300 { cart(device, "u\(number)") }
        device.take("ada", "Product Added", #"{"email": "ada@example.org"}"#, grants: grants)
        for number in 300..<600 { cart(device, "u\(number)") }
        #expect(device.unlink("email", "ada@example.org") == 1)
        device.trim(below: .max)
        #expect(device.holds(plain))
        guard let other = device.person("email", "ada@example.org") else { Issue.record("nobody"); return }
        #expect(device.person("user_id", "ada") != other)
        let now = device.now
        var erasure = device.write { transaction throws(StoreError) in
            try device.pipeline.erase(other, nil, actor: [], now: now, &transaction)
        }
        var steps = 0
        while erasure.state == .erasing, steps < 100 {
            device.write { transaction throws(StoreError) in
                try device.pipeline.eraseMore(&erasure, atMost: 1000, now: now, &transaction)
            }
            steps += 1
        }
        // Six hundred that wait are more than one step; the notice tells destinations, in the form that they know.
        #expect(steps == 3 && erasure.state == .telling)
        #expect(device.delivery(0).text.contains(plain.hexadecimal))
        device.write { transaction throws(StoreError) in
            try device.pipeline.finishErasure(&erasure, lowest: .max, told: .max, now: now, &transaction)
        }
        #expect(!device.holds(plain) && device.count { $0.pending } == 601)
        device.pass(30 * minute)
        #expect(device.generated().count == 601 && !device.holds(plain))
    }

    /// A bundle that does not have the trigger any more: nothing fires, and what has fired goes nowhere.
    @Test func aBundleThatDropsATriggerEndsIt() {
        let device = Device(policy)
        cart(device)
        device.pass(30 * minute)
        cart(device)
        let renamed = policy.replacing("abandoned_cart:", with: "other:")
        device.restart(renamed)
        device.pass(30 * minute)
        #expect(device.generated().count == 1 && device.count { $0.pending } == 0)
        #expect(device.delivery(0).count == 0)
    }

    /// What a trigger tells of an event is kept no longer than the event, and not waited with for longer.
    @Test func whatItIsAboutIsKeptNoLongerThanThat() {
        for (from, to) in [
            ("[analytics, personalization]", "{ analytics: { ttl: 1d }, personalization: {} }"),
            (#""*": { purpose: analytics }"#, #"Product Added: { purpose: analytics, ttl: 1d }"#),
        ] {
            let device = Device(policy.replacing(from, with: to))
            cart(device)
            device.pass(30 * minute)
            #expect(device.delivery(0).count == 1)
            device.now = noon + day
            #expect(device.delivery(0).count == 1)
            device.now += 1
            let late = device.delivery(0)
            #expect(late.count == 0 && late.expired == 2)
            device.sweep()
            #expect(device.generated() == [])
            let slow = Device(policy.replacing(from, with: to).replacing("after: 30m", with: "after: 25h"))
            cart(slow)
            slow.pass(25 * 60 * minute)
            #expect(slow.generated().count == 1 && !slow.generated()[0].contains("p-1"))
            #expect(slow.delivery(0).count == 1)
        }
    }

    /// A phone hands in what it has kept while it had no network: what came in between comes right behind it.
    @Test func whatIsHandedInLateIsTakenTogether() {
        let device = Device(policy)
        let late = { (user: String, event: String, time: String) in
            device.take("""
                {"type": "track", "userId": "\(user)", "event": "\(event)", "timestamp": "2026-01-31T\(time):00Z", "context":
                {"consent": {"categoryPreferences": {"analytics": true, "personalization": true}}}}
                """)
        }
        late("ada", "Product Added", "11:00")
        late("ada", "Order Completed", "11:05")
        late("ben", "Order Completed", "11:05")
        late("ben", "Product Added", "11:10")
        // What came before it calls nothing off, in whatever order the two come in.
        late("cleo", "Product Added", "11:10")
        late("cleo", "Order Completed", "11:05")
        late("dora", "Product Added", "10:29")
        device.takeTimers()
        #expect(device.generated().count == 2 && device.meters.triggersCalledOff.current == 1)
        #expect(device.meters.triggersLate.current == 1 && device.count { $0.pending } == 0)
    }

    /// After an outage many are due at once: no transaction takes more than its share.
    @Test func manyAtOnceAreTakenInSteps() {
        let device = Device(policy, mapBytes: 64 << 20)
        for number in 0..<600 { cart(device, "u\(number)") }
        device.now += 40 * minute
        var steps: [UInt64] = []
        while device.pipeline.nextTimer <= device.now {
            let before = device.pipeline.ledger.generated
            device.write { transaction throws(StoreError) in
                try device.pipeline.takeTimers(device.bundle.plans, now: device.now, atMost: 4096, true, &transaction)
            }
            steps.append(device.pipeline.ledger.generated - before)
        }
        #expect(steps.reduce(0, +) == 600 && steps.count >= 3 && steps.allSatisfy { $0 <= 256 })
        // Where the disk has no room they wait, and the writer does not turn in circles for them.
        cart(device)
        device.now += 40 * minute
        device.write { transaction throws(StoreError) in
            try device.pipeline.takeTimers(device.bundle.plans, now: device.now, atMost: 4096, false, &transaction)
        }
        let idle = device.pipeline.idleMilliseconds(at: device.now)
        #expect(device.pipeline.ledger.generated == 600 && idle == 1000)
        device.takeTimers()
        #expect(device.pipeline.ledger.generated == 601)
    }

    /// With a hundred thousand that wait, a step reads one key, and the idle writer none.
    @Test func whatWaitsCostsNothing() {
        let device = Device(policy, mapBytes: 256 << 20)
        let name = Array("abandoned_cart".utf8)
        let span = name.span
        let tag = NameTag.of(span)
        for part in 0..<100 {
            device.write { transaction throws(StoreError) in
                for number in 0..<1000 {
                    let key = device.key("user_id", "u\(part * 1000 + number)")
                    let state = TriggerState(due: device.now + day + Int64(number), since: device.now, cause: [])
                    try device.pipeline.setTimer(TimerKey(key, tag), state.record, due: state.due, &transaction)
                }
            }
        }
        cart(device)
        #expect(device.count { $0.timers } == 100_001)
        device.pipeline.nextTimer = 0
        // One that is not due, and once more for when it is.
        #expect(device.takeTimers() == 2)
        #expect(device.takeTimers() == 0)
        let idle = device.pipeline.idleMilliseconds(at: device.now)
        #expect(idle == 1000)
        device.now += 30 * minute
        #expect(device.takeTimers() == 3 && device.generated().count == 1)
    }

    // limit: Agent.causeBytes
    @Test func aTriggerKeepsNoMoreOfItsEventThanItMay() {
        let device = Device(policy)
        device.take("ada", "Product Added", "{\"product_id\": \"\(String(repeating: "p", count: 5000))\"}", grants: grants)
        device.pass(31 * 60_000)
        #expect(device.generated().count == 1 && !device.generated()[0].contains("product_id"))
        device.take("eve", "Product Added", "{\"product_id\": \"p-1\"}", grants: grants)
        device.pass(31 * 60_000)
        #expect(device.generated().count == 2 && device.generated()[1].contains("product_id"))
    }
}
