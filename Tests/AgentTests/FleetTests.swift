// Devices of a fleet that tell their hub, and hear from it, what has changed, without the network between them: it is in
// Tests/end-to-end/test_hub.py. Here: what is said arrives as it was, within limits, and damage does no harm.

import Cryptography
import Formats
import Governance
import Platform
import Testing

@testable import Agent
@testable import Store
@testable import Unification

private let policy = """
    version: 1
    purposes: [analytics]
    identifiers:
      user_id: { from: [userId], send: hmac, unique: true }
      email: { from: [traits.email, properties.email], normalize: email, send: hmac }
    events: { "*": { purpose: analytics } }
    attributes:
      events: { type: counter }
      seen: { type: set, value: event.properties.product, limit: 1000 }
    """

private func document(_ text: [UInt8]) -> JSONDocument {
    var document = JSONDocument()
    let span = text.span
    do { try document.parse(span) } catch { fatalError("no JSON") }
    return document
}

extension Device {
    private func keys(_ identifiers: [(String, String)]) -> [IdentifierKey] { identifiers.map { key($0.0, $0.1) } }

    /// Tells a hub what it knows of some identifiers.
    fileprivate func tell(_ hub: Device, _ identifiers: [(String, String)], isWithdrawn: Bool = false) {
        let (keys, epoch) = (keys(identifiers), pipeline.people.epoch)
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("changes")
        writer.beginArray()
        do {
            var reader = try database.makeReader()
            try reader.begin()
            for key in keys {
                let state = try IdentifierState(of: key, in: reader, epoch: epoch, choicesOnly: isWithdrawn) { $0 == epoch }
                let name = pipeline.suppression.name(key.tag, key.digest)
                _ = Fleet.write(state, name.span, isWithdrawn: isWithdrawn, to: &writer)
            }
            reader.end()
        } catch { fatalError("the store cannot be read") }
        writer.endArray()
        writer.endObject()
        hub.take(changes: writer.bytes)
    }

    fileprivate func take(changes text: [UInt8]) {
        let parsed = document(text)
        let now = self.now
        write { transaction throws(StoreError) in try self.pipeline.takeChanges(parsed, now: now, &transaction) }
    }

    /// Hears from a hub what has changed after a number.
    /// - Returns: the newest change, and whether there are more.
    @discardableResult
    fileprivate func hear(_ hub: Device, after: UInt64 = 0) -> (to: Int64, more: Bool, count: Int) {
        let answer = hub.answer(to: pipeline.people.epoch, after: after)
        let parsed = document(answer)
        let now = self.now
        write { transaction throws(StoreError) in
            _ = try self.pipeline.learnChanges(parsed, [], now: now, &transaction)
        }
        let changes = parsed.member(parsed.root, "changes").map { parsed.count($0) } ?? -1
        return (
            parsed.member(parsed.root, "to").flatMap { parsed.int64($0) } ?? -1,
            parsed.member(parsed.root, "more").flatMap { parsed.bool($0) } ?? false, changes
        )
    }

    fileprivate func answer(to epoch: UInt64, after: UInt64) -> [UInt8] {
        do {
            var reader = try database.makeReader()
            try reader.begin()
            defer { reader.end() }
            return try Fleet.answer(after: after, to: epoch, hub: 99, in: reader)
        } catch { fatalError("the store cannot be read") }
    }

    fileprivate func see(_ user: String, _ product: String = "x", email: String? = nil) {
        let more = email.map { ", \"email\": \"\($0)\"" } ?? ""
        take(user, "Product Viewed", "{\"product\": \"\(product)\"\(more)}")
    }

    /// How many changes there are.
    fileprivate var changes: Int64 {
        write { transaction throws(StoreError) in transaction.count(transaction.tables.changes) / 2 }
    }
}

@Suite struct FleetTests {
    private let hubPepper = Peppers(key: [UInt8](repeating: 9, count: 32))

    private func hub() -> Device { Device(policy, epoch: 99, mapBytes: 256 << 20, pepper: hubPepper) }

    /// Two devices see one person, one of them with an address; whoever asks the hub has all of it, also by the address.
    @Test func whatIsToldArrivesAsItWas() {
        let (first, second, third, hub) = (
            Device(policy, epoch: 1), Device(policy, epoch: 2), Device(policy, epoch: 3), self.hub()
        )
        for product in ["a", "b"] { first.see("ada", product, email: "ada@example.org") }
        second.see("ada", "c")
        first.tell(hub, [("user_id", "ada"), ("email", "ada@example.org")])
        second.tell(hub, [("user_id", "ada")])
        for device in [first, second, third] { device.hear(hub) }
        let expected = first.attributes("user_id", "ada")
        #expect(expected.contains("\"events\":3"))
        for device in [first, second, third] { #expect(device.attributes("email", "ada@example.org") == expected) }
        // Nothing of it is news any more, at either end.
        let before = hub.changes
        first.tell(hub, [("user_id", "ada"), ("email", "ada@example.org")])
        #expect(hub.changes == before)
        let newest = third.hear(hub).to
        #expect(third.hear(hub, after: UInt64(newest)).count == 0)
        #expect(third.attributes("user_id", "ada") == expected)
        // Who grants it no more leaves only what they have chosen.
        second.tell(hub, [("user_id", "ada")], isWithdrawn: true)
        let fourth = Device(policy, epoch: 4)
        fourth.hear(hub)
        #expect(!fourth.attributes("user_id", "ada").contains("\"events\":3"))
    }

    // limit: Agent.changesAtOnce
    @Test func anAnswerHasSoManyChanges() {
        let (device, other, hub) = (Device(policy, epoch: 1), Device(policy, epoch: 2), self.hub())
        let people = (0..<40).map { ("user_id", "u\($0)") }
        for person in people { device.see(person.1) }
        device.tell(hub, people)
        let first = other.hear(hub)
        #expect(first.count == 32)
        #expect(first.more)
        let second = other.hear(hub, after: UInt64(first.to))
        #expect(second.count == 8)
        #expect(!second.more)
        for person in people { #expect(other.attributes("user_id", person.1).contains("\"events\":1")) }
    }

    /// Six people with 32 KiB each, and one of whom six devices have as much.
    // limit: Agent.syncBytes, Agent.stateBytes
    @Test func anAnswerHasSoManyBytes() {
        let (device, other, hub) = (Device(policy, epoch: 1), Device(policy, epoch: 9), self.hub())
        for number in 0..<35 { device.see("ada", "\(number)" + String(repeating: "x", count: 900)) }
        let people = ["ben", "cleo", "dan", "eve", "fay", "gus", "ada"].map { device.key("user_id", $0) }
        let person = device.person("user_id", "ada")!.bytes
        let record = device.write { transaction throws(StoreError) in
            if let value = try transaction.get(transaction.tables.profiles, person.span) { return [UInt8](copying: value) }
            return [UInt8]()
        }
        #expect(record.count > 30 * 1024)
        hub.write { transaction throws(StoreError) in
            for key in people {
                for epoch in 1...(key == people[6] ? 6 : 1) as ClosedRange<UInt64> {
                    let name = ProfileParts.Key(key, epoch).bytes
                    try transaction.put(transaction.tables.parts, name.span, record.span)
                }
                let name = device.pipeline.suppression.name(key.tag, key.digest)
                try SharedChanges.put(name.span, key, at: hub.now, in: &transaction)
            }
        }
        let first = other.hear(hub)
        #expect(first.more)
        #expect(first.count == 4 || first.count == 5)
        let second = other.hear(hub, after: UInt64(first.to))
        #expect(!second.more)
        #expect(second.to == 7)
        #expect(other.person("user_id", "gus") != nil)
        // Hers is too much.
        #expect(second.count == 6 - first.count)
        #expect(other.person("user_id", "ada") == nil)
    }

    // limit: Agent.sharedStates, Unification.changesForgottenAtOnce
    @Test func aHubForgetsWhatChangedLongestAgo() {
        let (device, hub) = (Device(policy, epoch: 1), self.hub())
        device.see("ada")
        device.tell(hub, [("user_id", "ada")])
        hub.write { transaction throws(StoreError) in
            for number in 0..<100_100 as Range<UInt64> {
                var name = [UInt8](repeating: 0, count: 8)
                let key = NumberKey(number)
                name.append(contentsOf: key.bytes.span)
                // Every other one is an erasure, which stays.
                var value: [UInt8] = [number % 2 == 0 ? SharedChanges.isState : SharedChanges.isErased] + name
                value += [UInt8](repeating: 1, count: number % 2 == 0 ? 44 : 8)
                try SharedChanges.put(name.span, value.span, in: &transaction)
            }
        }
        #expect(hub.holds(device.key("user_id", "ada").digest))
        hub.take(changes: Array("{\"changes\":[]}".utf8))
        #expect(!hub.holds(device.key("user_id", "ada").digest))
        let before = hub.changes
        #expect(before > 100_000)
        for _ in 0..<20 { hub.take(changes: Array("{\"changes\":[]}".utf8)) }
        #expect(hub.changes == 100_000)
    }

    // limit: Agent.sharedMilliseconds
    @Test func aHubForgetsWhoWasNotSeenForAMonth() {
        let (device, hub) = (Device(policy, epoch: 1), self.hub())
        device.see("ada")
        device.tell(hub, [("user_id", "ada")])
        hub.now += 29 * day
        device.see("ben")
        device.tell(hub, [("user_id", "ben")])
        #expect(hub.changes == 2)
        hub.now += 2 * day
        hub.take(changes: Array("{\"changes\":[]}".utf8))
        #expect(hub.changes == 1)
        #expect(hub.holds(device.key("user_id", "ben").digest))
        #expect(!hub.holds(device.key("user_id", "ada").digest))
    }

    /// The first device says which secret the fleet has; a newer pepper makes the hub forget what lies under the older.
    @Test func aFleetHasOneSecretAndTheNewestPepper() {
        let (device, hub) = (Device(policy, epoch: 1), self.hub())
        func isTaken(_ print: String, _ mark: UInt64) -> Bool {
            let text = Array(print.utf8)
            return hub.write { transaction throws(StoreError) in
                try hub.pipeline.isOfFleet(text.span, mark: mark, &transaction)
            }
        }
        #expect(isTaken("0011", 1))
        #expect(isTaken("0011", 1))
        #expect(!isTaken("0012", 1))
        #expect(!isTaken("0011", 0))
        #expect(!isTaken("001122", 2))
        device.see("ada")
        device.tell(hub, [("user_id", "ada")])
        #expect(hub.changes == 1)
        #expect(isTaken("0011", 2))
        #expect(!isTaken("0011", 1))
        hub.take(changes: Array("{\"changes\":[]}".utf8))
        #expect(hub.changes == 0)
        device.tell(hub, [("user_id", "ada")])
        #expect(hub.changes == 1)
    }

    @Test func theHubInAConfigurationIsChecked() {
        func problems(_ setting: String) -> [String] {
            let text = Array("hub: \(setting)".utf8)
            return Configuration.read(text.span).1.map { $0.message }
        }
        #expect(problems("{ url: 'https://hub.example:8443', token: abc, poll: 30s, purpose: analytics }") == [])
        #expect(problems("{ url: 'https://hub.example/' }") == [])
        for (wrong, word) in [
            ("{}", "needs a url"), ("{ url: hub.example }", "https://"), ("{ url: 'http://hub.example' }", "use https:"),
            ("{ url: 'https://hub.example/v1/batch' }", "no path"), ("{ url: 'https://h', poll: 10ms }", "at least 1s"),
            ("{ url: 'https://h', token: 'a b' }", "visible ASCII"), ("{ url: 'https://h', tokn: a }", "tokn"), ("7", "hub"),
        ] {
            let found = problems(wrong)
            #expect(found.count == 1 && found[0].contains(word), "\(wrong): \(found)")
        }
    }

    /// Every prefix of a state, and every state with one byte changed, does no harm to a hub nor to a device.
    @Test func damagedStatesDoNoHarm() {
        let (device, hub, other) = (Device(policy, epoch: 1), self.hub(), Device(policy, epoch: 2))
        device.see("ada", email: "ada@example.org")
        device.tell(hub, [("user_id", "ada"), ("email", "ada@example.org")])
        let answer = document(hub.answer(to: 2, after: 0))
        let first = answer.member(answer.root, "changes").flatMap { answer.firstChild($0) }
        guard let first, let whole = Base64.decode(answer.bytes(first)) else {
            Issue.record("there is no state")
            return
        }
        func say(_ bytes: [UInt8]) {
            let text = Array("{\"changes\":[\"".utf8) + Base64.encode(bytes.span) + Array("\"]}".utf8)
            let parsed = document(text)
            hub.take(changes: text)
            let now = other.now
            other.write { transaction throws(StoreError) in
                _ = try other.pipeline.learnChanges(parsed, [], now: now, &transaction)
            }
        }
        for count in 0..<whole.count { say(Array(whole[0..<count])) }
        for index in whole.indices {
            var changed = whole
            changed[index] ^= 0x81
            say(changed)
        }
        for text in ["{}", "{\"changes\":7}", "{\"changes\":[7,null,{},\"?\"]}"] { hub.take(changes: Array(text.utf8)) }
        say(whole)
        #expect(other.person("user_id", "ada") != nil)
    }
}
