// Shows that a store has no more profiles than it may, and that they take no more than they may; that those go which are
// worth least, and what is never evicted; and that a damaged record is set aside.
import Foundation
import Platform
import Store
import Testing

@testable import Agent
@testable import Unification

private let policy = """
    version: 1
    purposes: [analytics]
    identifiers: { user_id: { from: [userId], send: hmac, unique: true } }
    events: { "*": { purpose: analytics } }
    attributes:
      spent: { type: sum, value: event.properties.amount }
    profiles: { value: profile.spent }
    """

@Suite struct EvictionTests {
    private func evict(_ device: Device, upTo pages: Int = Limits.pagesPerCommit) {
        let now = device.now
        device.write { transaction throws(StoreError) in
            try device.pipeline.evict(atMost: Limits.evictedPerCommit, upTo: pages, now: now, &transaction)
        }
    }

    private func bytes(_ device: Device) -> Int64 {
        device.write { transaction in
            transaction.bytes(of: transaction.tables.profiles) + transaction.bytes(of: transaction.tables.parts)
        }
    }

    // limit: limits.profiles
    @Test func thoseGoThatAreWorthLeast() {
        let device = Device(policy)
        device.pipeline.profileLimit = 150
        for number in 0..<300 {
            device.now += 1000
            device.take("u\(number)", "Order Completed", "{\"amount\": \(number % 10)}")
            evict(device)
        }
        #expect(device.count { $0.profiles } == 150)
        #expect(device.meters.evictedProfiles.current == 150)
        // Whoever is worth least is likely to have gone, whoever is worth most to have stayed; nobody is forgotten.
        func left(_ value: Int) -> Int {
            (0..<30).filter { device.attributes("user_id", "u\($0 * 10 + value)") != "" }.count
        }
        #expect(left(0) + left(1) < 6)
        #expect(left(8) + left(9) == 60)
        #expect(device.count { $0.identifiers } == 300)
        #expect(device.count { $0.consent } == 300)
    }

    /// A third of the people come twice under a card alone, so that their profiles have two parts, which count too. Some have
    /// records that lie in pages of their own.
    // limit: limits.profile_bytes
    @Test func theBytesThatProfilesTakeAreBounded() {
        let notes = "  notes: { type: set, value: event.properties.note }\n"
        let device = Device(
            policy.replacingOccurrences(of: "{ user_id: ", with: "{ card: { from: [properties.card] }, user_id: ")
                .replacingOccurrences(of: "profiles:", with: notes + "profiles:"))
        let limit: Int64 = 1 << 20
        device.pipeline.profileBytesLimit = limit
        var most: Int64 = 0
        for number in 0..<3000 {
            device.now += 1000
            let card = number % 3 == 0 ? #", "card": "c\#(number)""# : ""
            if !card.isEmpty {
                for _ in 0..<2 {
                    device.take("""
                        {"type": "track", "anonymousId": "x", "event": "Seen", "properties": {"note": "seen"\(card)},
                        "context": {"consent": {"categoryPreferences": {"analytics": true}}}}
                        """)
                }
            }
            let note = String(repeating: "x", count: number % 7 == 0 ? 1000 : 10)
            for copy in 0..<(number % 7 == 0 ? 3 : 1) {
                let amount = copy == 0 ? number % 10 : 0
                device.take("u\(number)", "Order Completed", "{\"amount\": \(amount), \"note\": \"\(note)\(copy)\"\(card)}")
            }
            if number % 10 == 9 {
                evict(device)
                most = max(most, bytes(device))
            }
        }
        #expect(device.count { $0.parts } > 100)
        #expect(most <= limit)
        // It is not emptied either: what is there fills the room.
        #expect(bytes(device) > limit * 9 / 10)
        let left = device.count { $0.profiles }
        #expect(left > 700, "\(left)")
        #expect(device.meters.evictedProfiles.current == UInt64(3000 - left))
        #expect(device.count { $0.consent } == 3000)
        let cheap = (0..<300).filter { device.attributes("user_id", "u\($0 * 10)") != "" }.count
        let dear = (0..<300).filter { device.attributes("user_id", "u\($0 * 10 + 9)") != "" }.count
        #expect(dear > 3 * cheap, "\(dear) and \(cheap)")
    }

    /// After the limit was lowered there may be a million too many; a transaction ends where its memory does, and the next
    /// goes on at once.
    @Test func whatOneTransactionCannotEvictTheNextDoes() {
        let device = Device(policy)
        for number in 0..<1000 { device.take("u\(number)", "Order Completed", "{\"amount\": 1}") }
        device.pipeline.profileLimit = 100
        evict(device, upTo: 8)
        let (isCrowded, left) = (device.pipeline.isCrowded, device.count { $0.profiles })
        #expect(isCrowded)
        #expect(left > 100 && left < 1000, "\(left)")
        while device.pipeline.isCrowded { evict(device) }
        #expect(device.count { $0.profiles } == 100)
    }

    // limit: Agent.leastProfiles, Agent.leastProfileBytes
    @Test(arguments: [
        ("profiles: 99", "1:21: profiles must be a whole number from 100 to 1099511627776"),
        ("profile_bytes: 1023KiB", "1:26: profile_bytes must be a size such as 512, 400KiB, 64MiB or 2GB, from 1048576 to"),
        ("profile_bytes: many", "1:26: profile_bytes must be a size"),
        ("profile_size: 64MiB",
         "1:11: unknown setting profile_size of limits; it may have: disk, history, memory, profiles"),
    ]) func aWrongLimitIsRefused(_ setting: String, _ expected: String) {
        let text = Array("limits: { \(setting) }".utf8)
        let problems = Configuration.read(text.span).1.map { "\($0.position.description): \($0.message)" }
        #expect(problems.count == 1 && problems[0].hasPrefix(expected), "\(problems)")
    }

    @Test func bothLimitsAreRead() {
        let text = Array("limits: { profiles: 10000, profile_bytes: 64MiB }".utf8)
        let configuration = Configuration.read(text.span).0
        #expect(configuration.profiles == 10_000)
        #expect(configuration.profileBytes == 64 << 20)
    }

    @Test func amongTheSameValueTheLeastRecentlySeenGo() {
        let device = Device(policy.replacingOccurrences(of: "profiles: { value: profile.spent }", with: ""))
        device.pipeline.profileLimit = 100
        for number in 0..<200 {
            device.now += 60_000
            device.take("u\(number)", "Order Completed", "{\"amount\": 1}")
            evict(device)
        }
        let recent = (150..<200).filter { device.attributes("user_id", "u\($0)") != "" }.count
        let old = (0..<50).filter { device.attributes("user_id", "u\($0)") != "" }.count
        #expect(recent > 45)
        #expect(old < 10)
    }

    @Test func aDamagedRecordIsSetAsideAndCounted() {
        let device = Device(policy)
        device.take("ada", "Order Completed", "{\"amount\": 5}")
        let id = device.person("user_id", "ada")!.bytes
        device.write { transaction throws(StoreError) in
            var record: [UInt8] = []
            if let value = try transaction.get(transaction.tables.profiles, id.span) { record = [UInt8](copying: value) }
            record[70] ^= 4
            try transaction.put(transaction.tables.profiles, id.span, record.span)
        }
        device.take("ada", "Order Completed", "{\"amount\": 7}")
        #expect(device.attributes("user_id", "ada") == #"{"spent":7.0}"#)
        #expect(device.meters.badRecords.current == 1)
        #expect(device.count { $0.damaged } == 1)
        let (person, now) = (device.person("user_id", "ada")!, device.now)
        device.write { transaction throws(StoreError) in
            _ = try device.pipeline.erase(person, nil, actor: [], now: now, &transaction)
        }
        #expect(device.count { $0.damaged } == 0)
    }

    @Test func aRecordOfALaterVersionIsLeftAlone() {
        let device = Device(policy)
        device.take("ada", "Order Completed", "{\"amount\": 5}")
        let id = device.person("user_id", "ada")!.bytes
        var later: [UInt8] = []
        device.write { transaction throws(StoreError) in
            if let value = try transaction.get(transaction.tables.profiles, id.span) { later = [UInt8](copying: value) }
            later[6] = 9
            try transaction.put(transaction.tables.profiles, id.span, later.span)
        }
        device.take("ada", "Order Completed", "{\"amount\": 7}")
        device.write { transaction throws(StoreError) in
            var kept: [UInt8] = []
            if let value = try transaction.get(transaction.tables.profiles, id.span) { kept = [UInt8](copying: value) }
            #expect(kept == later)
        }
    }

    @Test(arguments: [
        "profiles: { value: profile.nothing }", #"profiles: { value: '"much"' }"#, "profiles: { size: 7 }",
        "profiles: { value: [1] }",
    ]) func aWrongValueIsRefused(_ section: String) {
        let text = Array(policy.replacingOccurrences(of: "profiles: { value: profile.spent }", with: section).utf8)
        let (bundle, problems) = Agent.Bundle.read(text.span, loadedAt: noon)
        #expect(bundle == nil)
        #expect(problems.count == 1 && problems[0].position.line == 7, "\(problems)")
    }
}
