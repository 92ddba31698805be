// Shows that a store has no more profiles than it may, that those go which are worth least, and what is never evicted; and
// that a damaged record is set aside.
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
    private func evict(_ device: Device) {
        let now = device.now
        device.write { transaction throws(StoreError) in try device.pipeline.evict(now: now, &transaction) }
    }

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

    @Test func amongTheSameValueTheLeastRecentlySeenGo() {
        let device = Device(policy.replacingOccurrences(of: "    profiles: { value: profile.spent }", with: ""))
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
