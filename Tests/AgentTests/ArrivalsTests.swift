// What a hub does with what it is sent: repeats and gaps by device, limits on devices and on what is remembered, erasure.
// The whole, with agents and other hubs, is in Tests/end-to-end/test_hub.py.

import Cryptography
import Formats
import Governance
import Serving
import Store
import Testing

@testable import Agent

private let hubBundle = """
    version: 1
    purposes: { analytics: { ttl: 30d }, advertising: {} }
    identifiers:
      user_id: { from: [userId], send: hmac }
    events: { Ad Viewed: { purpose: advertising, tier: realtime }, "*": { purpose: analytics } }
    """

/// A message as a Gatehouse delivers it.
private func message(
    _ sequence: UInt64, device: String = "till-1", epoch: Int = 7, of user: String = "aa", event: String = "Order Completed",
    more: String = "", via: String = ""
) -> String {
    let hop = via.isEmpty ? "" : ", \"via\": \"\(via)\""
    return """
        {"messageId": "m-\(device)-\(epoch)-\(sequence)", "anonymousId": "of-\(user)", "type": "track", "event": "\(event)",
        "properties": {\(more)}, "context": {"identifiers": {"user_id": "\(String(repeating: user, count: 32))"},
        "gatehouse": {"device": "\(device)", "epoch": \(epoch), "seq": \(sequence), "bundle": 3,
        "consent": ["analytics"]\(hop)}}}
        """
}

extension Device {
    /// - Returns: what became of it in a word.
    @discardableResult
    fileprivate func arrive(_ json: String, clockAhead: Int64? = nil) -> String {
        let text = Array(json.utf8)
        var document = JSONDocument()
        let span = text.span
        do { try document.parse(span) } catch { fatalError("the test's message is wrong: \(json)") }
        let (now, parsed) = (self.now, document)
        return write { transaction throws(StoreError) in
            switch try self.pipeline.takeArrival(parsed, parsed.root, Speaker(), clockAhead: clockAhead, now: now, &transaction) {
            case .taken: return "taken"
            case .repeated: return "repeated"
            case .refused(let refusal): return "\(refusal.code)"
            case .noRoom, .notTheirs: return "no room"
            case .erasing(let erasure):
                var erasure = erasure
                while erasure.state == .erasing {
                    try self.pipeline.eraseMore(&erasure, atMost: 3, now: now, &transaction)
                }
                let told = erasure.state == .telling
                try self.pipeline.finishErasure(
                    &erasure, lowest: self.pipeline.ledger.nextSequence, told: .max, now: now, &transaction)
                return told && erasure.state == .done ? "erased \(erasure.removedEvents)" : "not erased"
            }
        }
    }

    fileprivate func row(_ device: String) -> DeviceRecord? {
        write { transaction throws(StoreError) in
            let name = Array(device.utf8)
            guard let value = try transaction.get(transaction.tables.devices, name.span) else { return nil }
            return DeviceRecord(value)
        }
    }

    /// Headers of what is in the log; nil for what has been taken out of it.
    fileprivate var entries: [LogEntryHeader?] {
        write { transaction throws(StoreError) in
            var found: [LogEntryHeader?] = []
            try transaction.scan(transaction.tables.log, from: Span<UInt8>()) { _, value in
                if let entry = LogEntryView(value) { found.append(entry.header) } else { found.append(nil) }
                return true
            }
            return found
        }
    }
}

@Suite struct ArrivalsTests {
    /// Numbers in any order, some twice, from two devices and two lives of one: each is taken once, and counted.
    @Test func aMessageIsTakenOnceByDeviceEpochAndNumber() {
        let hub = Device(hubBundle)
        for number in [5, 6, 9, 2000, 8] as [UInt64] { #expect(hub.arrive(message(number)) == "taken") }
        for number in [5, 8, 2000] as [UInt64] { #expect(hub.arrive(message(number)) == "repeated") }
        #expect(hub.arrive(message(5, device: "till-2")) == "taken")
        #expect(hub.row("till-1")?.missing == 1996 - 5)
        #expect(hub.row("till-1")?.repeats == 3)
        // Its store was lost: the numbers begin anew, and what is late of the old ones changes nothing of that.
        #expect(hub.arrive(message(1, epoch: 8)) == "taken")
        #expect(hub.arrive(message(7)) == "taken")
        #expect(hub.arrive(message(7)) == "repeated")
        #expect(hub.arrive(message(3, epoch: 8)) == "taken")
        let row = hub.row("till-1")
        #expect(row?.restarts == 1)
        #expect(row?.firstSequence == 1)
        #expect(row?.lastSequence == 3)
        #expect(row?.missing == 1)
        #expect(row?.bundleVersion == 3)
        let ledger = hub.pipeline.ledger
        #expect(ledger.received == 13)
        #expect(ledger.admitted == 9)
        #expect(ledger.duplicate == 4)
    }

    @Test func aMessageWithoutAnOriginIsRefused() {
        let hub = Device(hubBundle)
        for wrong in [
            "{}", "{\"context\":{\"gatehouse\":{\"device\":\"a\",\"epoch\":1}}}",
            "{\"context\":{\"gatehouse\":{\"device\":\"a b\",\"epoch\":1,\"seq\":1}}}",
            "{\"context\":{\"gatehouse\":{\"device\":\"\",\"epoch\":1,\"seq\":1}}}",
            "{\"context\":{\"gatehouse\":{\"device\":\"a\",\"epoch\":1,\"seq\":0}}}",
        ] {
            #expect(hub.arrive(wrong) == "no_origin")
        }
        #expect(hub.pipeline.ledger.refused == 5)
        #expect(hub.entries.isEmpty)
    }

    /// The clock is that of who has sent the batch: of a message that a hub has passed on it says nothing.
    @Test func theClockIsOfTheDeviceThatSends() {
        let hub = Device(hubBundle)
        hub.arrive(message(1), clockAhead: -4000)
        hub.arrive(message(2, via: "region"), clockAhead: 9000)
        #expect(hub.row("till-1")?.clockAhead == -4000)
        #expect(hub.row("till-1")?.via == Array("region".utf8))
    }

    // limit: Agent.rememberedSpans
    @Test func whatIsLongPastIsForgotten() {
        let hub = Device(hubBundle)
        hub.arrive(message(1))
        #expect(hub.arrive(message(512 * 4096)) == "taken")
        #expect(hub.arrive(message(1)) == "repeated")
        #expect(hub.arrive(message(512 * 4097)) == "taken")
        #expect(hub.arrive(message(1)) == "taken")
    }

    // limit: Agent.devices
    @Test func moreDevicesThanAHubTakesKeepTheirEvents() {
        let hub = Device(hubBundle, mapBytes: 64 << 20)
        hub.write { transaction throws(StoreError) in
            for number in 0..<10_000 {
                let (name, record) = (Array("other-\(number)".utf8), DeviceRecord(epoch: 1).record)
                try transaction.put(transaction.tables.devices, name.span, record.span)
            }
        }
        #expect(hub.arrive(message(1)) == "no room")
        #expect(hub.pipeline.ledger.received == 0)
        #expect(hub.arrive(message(1, device: "other-7")) == "taken")
    }

    // limit: Serving.lateMilliseconds
    @Test func aDeviceOfWhichNothingIsHeardIsLate() {
        var row = DeviceRecord(epoch: 1)
        row.heardAt = noon
        #expect(!row.isLate(at: noon + 15 * 60_000))
        #expect(row.isLate(at: noon + 15 * 60_000 + 1))
        #expect(row.missing == 0)
        let record = row.record
        for index in record.indices {
            var damaged = record
            damaged[index] ^= 1
            #expect(DeviceRecord(damaged.span) == nil)
        }
    }

    /// The hub's own bundle says how urgent an event is and how long it is kept.
    @Test func arrivalsAreKeptAsTheHubSBundleSays() {
        let hub = Device(hubBundle)
        hub.arrive(message(1))
        hub.arrive(message(2, event: "Ad Viewed"))
        #expect(hub.pipeline.newestUrgent == 2)
        hub.now += 31 * day
        hub.sweep()
        #expect(hub.entries.map { $0 == nil } == [true, false])
    }

    /// A notice takes away what the device has sent of its person, whatever it carried, and what others have sent with one
    /// of the identifiers; once, and nothing of anybody else.
    @Test func aNoticeErasesWhatTheHubHasOfThePerson() {
        let hub = Device(hubBundle)
        for number in 1...4 as ClosedRange<UInt64> { hub.arrive(message(number, of: "aa")) }
        hub.arrive(message(5, of: "bb"))
        hub.arrive(message(1, device: "till-2", of: "aa"))
        hub.arrive(message(2, device: "till-2", of: "bb"))
        let receipt = "\"receipt\": \"00112233445566778899aabbccddeeff\""
        let aa = Digest256(hexadecimal: Array(String(repeating: "aa", count: 32).utf8).span)!
        #expect(hub.holds(aa))
        #expect(hub.arrive(message(6, of: "aa", event: "User Erased", more: receipt)) == "erased 5")
        #expect(hub.entries.map { $0 == nil } == [true, true, true, true, false, true, false])
        #expect(!hub.holds(aa))
        // By another way.
        #expect(hub.arrive(message(6, of: "aa", event: "User Erased", more: receipt)) == "repeated")
        #expect(hub.arrive(message(1, device: "region", of: "bb", event: "User Erased", more: receipt)) == "taken")
        // It tells of no erasure that anybody waits for, and goes with the person.
        let bb = Digest256(hexadecimal: Array(String(repeating: "bb", count: 32).utf8).span)!
        #expect(hub.holds(bb))
        let another = "\"receipt\": \"ffeeddccbbaa99887766554433221100\""
        hub.arrive(message(3, device: "till-2", of: "bb", event: "User Erased", more: another))
        #expect(!hub.holds(bb))
    }

    /// What is urgent and what can be shed at a hub is found as at an agent.
    @Test func arrivalsStandInTheirLanesAndCanBeShed() {
        let hub = Device(hubBundle)
        let receipt = "\"receipt\": \"00112233445566778899aabbccddeeff\""
        for number in 1...3 as ClosedRange<UInt64> { hub.arrive(message(number)) }
        hub.arrive(message(4, event: "Ad Viewed"))
        hub.arrive(message(5, of: "bb", event: "User Erased", more: receipt))
        #expect(hub.count { $0.urgent } == 2)
        var steps = 0
        while steps < 10, hub.write({ transaction throws(StoreError) in
            try hub.pipeline.shed(from: 0, atMost: 64, &transaction)
        }) > 0 { steps += 1 }
        #expect(steps > 0 && hub.entries.allSatisfy { $0 == nil })
    }

    /// Messages of which nobody knows whose they are are not all the same person's.
    @Test func aNoticeOfNobodyErasesByItsIdentifiersAlone() {
        let hub = Device(hubBundle)
        func anonymous(_ json: String) -> String {
            json.replacing("\"anonymousId\": \"of-aa\", ", with: "").replacing("\"anonymousId\": \"of-bb\", ", with: "")
        }
        let receipt = "\"receipt\": \"00112233445566778899aabbccddeeff\""
        hub.arrive(anonymous(message(1, of: "aa")))
        hub.arrive(anonymous(message(2, of: "bb")))
        hub.arrive(anonymous(message(3, of: "bb")).replacing("\"identifiers\"", with: "\"nothing\""))
        #expect(hub.arrive(anonymous(message(4, of: "aa", event: "User Erased", more: receipt))) == "erased 1")
        #expect(hub.entries.map { $0 == nil } == [true, false, false])
    }
}
