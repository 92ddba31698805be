// Shows that a destination's two lanes share one log and lose nothing: real-time ahead of a backlog, hours, the day's budget,
// and what makes room on a full disk; over a real store, with every event's number looked at.
import Cryptography
import Formats
import Monitoring
import Platform
import Testing

@testable import Agent
@testable import Delivery
@testable import Store

private func policy(_ settings: String = "") -> String {
    """
    version: 1
    purposes: [analytics, advertising]
    identifiers: { user_id: { from: [userId], send: hmac, unique: true } }
    events:
      Now: { purpose: analytics, tier: realtime, priority: 9 }
      Soon: { purpose: advertising, tier: realtime, priority: 0 }
      Least: { purpose: analytics, priority: 0 }
      "*": { purpose: analytics, priority: 4 }
    destinations:
      hub: { url: "https://hub.example/v1/batch", purpose: analytics\(settings) }
    """
}

/// A destination of a device, with the writer's part played by the test.
private struct Delivering {
    let device: Device
    var delivered: [Lane: [UInt64]] = [.realtime: [], .batch: []]

    init(_ settings: String = "", mapBytes: Int64 = 16 << 20) {
        device = Device(policy(settings), mapBytes: mapBytes)
    }

    var ledger: DestinationLedger {
        device.write { transaction throws(StoreError) in
            try DestinationLedger(transaction, name: Array("hub".utf8))
        }
    }

    func take(_ event: String, user: String = "ada", _ properties: String = "{}") {
        device.take(user, event, properties, grants: ["analytics", "advertising"])
    }

    /// One request of a lane.
    /// - Parameter isLost: it arrives, and the device loses its power before it notes that.
    mutating func send(_ lane: Lane, atMost most: Int = 1_000, isLost: Bool = false) {
        let outbox = device.outbox(0)
        var batch = Batch()
        batch.begin(lane, maximumEvents: most, maximumBytes: 1 << 20)
        outbox.fill(&batch)
        if isLost { return }
        for index in 0..<batch.count { delivered[lane]!.append(batch.sequence(index)) }
        guard let change = outbox.change(by: batch, CursorChange(delivered: UInt64(batch.count))) else { return }
        device.write { transaction throws(StoreError) in
            var ledger = try DestinationLedger(transaction, name: Array("hub".utf8))
            _ = ledger.apply(change)
            try ledger.write(to: &transaction, name: Array("hub".utf8))
        }
    }

    mutating func drain() {
        for _ in 0..<10_000 where ledger.queued(next: device.pipeline.ledger.nextSequence) > 0 {
            send(.realtime)
            send(.batch)
        }
    }

    /// Erases an entry of the log as `Pipeline.eraseMore` does.
    /// - Returns: whether it was there.
    func erase(_ number: UInt64) -> Bool {
        device.write { transaction throws(StoreError) in
            let key = NumberKey(number)
            var isThere = false
            if let value = try transaction.get(transaction.tables.log, key.bytes.span), LogEntryView(value) != nil {
                isThere = true
            }
            if !isThere { return false }
            try transaction.put(transaction.tables.log, key.bytes.span, LogRemoval.erased.bytes.span)
            return true
        }
    }

    func shed(atMost most: Int = 64) -> Int {
        let lowest = ledger.cursor
        return device.write { transaction throws(StoreError) in
            try device.pipeline.shed(from: lowest, atMost: most, &transaction)
        }
    }

    func many(_ name: String) -> Int {
        Dictionary(grouping: log.values) { $0 }[name]?.count ?? 0
    }

    /// Numbers and names of the events that the log still has.
    var log: [UInt64: String] {
        var found: [UInt64: String] = [:]
        device.write { transaction throws(StoreError) in
            try transaction.scan(transaction.tables.log, from: Span<UInt8>()) { key, value in
                if let entry = LogEntryView(value) {
                    let text = String(decoding: [UInt8](copying: entry.body), as: UTF8.self)
                    for name in ["Now", "Soon", "Least", "Other", "User Erased"] where text.contains("\"\(name)\"") {
                        found[NumberKey.decode(key)!] = name
                    }
                }
                return true
            }
        }
        return found
    }
}

@Suite struct OutboxTests {
    @Test("P2, P7: what cannot be noted is sent again, and what that has cost stands in the day's budget")
    func changeThatFails() {
        let hub = Delivering(", batch: { budget: 100KiB }")
        for _ in 0..<3 { hub.take("Other") }
        let cursors = CursorBox()
        cursors.close()
        let outbox = hub.device.outbox(0, cursors: cursors)
        let (before, revision) = (outbox.outlook(), outbox.revision)
        var batch = Batch()
        batch.begin(.batch, maximumEvents: 2, maximumBytes: 1 << 20)
        outbox.fill(&batch)
        outbox.spend(bytes: 10_000)
        outbox.acknowledge(batch)
        #expect(outbox.outlook().count == 1)
        let isDone = outbox.finish()
        #expect(!isDone && outbox.revision != revision)
        #expect(outbox.outlook().count == before.count && before.count == 3)
        #expect(outbox.outlook().budgetBytes == before.budgetBytes - 10_000)
    }

    @Test("P2, P7: of changes that go on from one another all fail with the first")
    func changesThatFailTogether() {
        let hub = Delivering(", batch: { budget: 100KiB }")
        for _ in 0..<3 { hub.take("Other") }
        let cursors = CursorBox()
        let outbox = hub.device.outbox(0, cursors: cursors)
        let before = outbox.outlook()
        func deliverOne() {
            var batch = Batch()
            batch.begin(.batch, maximumEvents: 1, maximumBytes: 1 << 20)
            outbox.fill(&batch)
            outbox.spend(bytes: 10_000)
            outbox.acknowledge(batch)
        }
        deliverOne()
        deliverOne()
        #expect(outbox.outlook().count == 1)
        cursors.close()
        deliverOne()
        #expect(outbox.outlook().count == 0)
        let isDone = outbox.finish()
        #expect(!isDone && outbox.outlook().count == 3)
        #expect(outbox.outlook().budgetBytes == before.budgetBytes - 30_000)
    }

    @Test("P4: a batch may begin behind another; whether it may still be sent, a changed choice and an erasure tell")
    func ahead() {
        let hub = Delivering()
        for _ in 0..<4 { hub.take("Other") }
        let outbox = hub.device.outbox(0)
        let revision = outbox.revision
        var batch = Batch()
        batch.begin(after: 2, maximumEvents: 10, maximumBytes: 1 << 20)
        outbox.fill(&batch)
        #expect((0..<batch.count).map(batch.sequence) == [3, 4])
        hub.take("Other")
        #expect(outbox.revision == revision, "nobody has chosen otherwise")
        hub.device.take("ada", "Other", denies: ["advertising"])
        let revoked = outbox.revision
        #expect(revoked != revision)
        hub.device.take("bea", "Other")
        #expect(outbox.revision != revoked, "another person's first choice")
    }

    @Test("An urgent event goes ahead, and at every moment the accounts say where each event is")
    func accounts() {
        var hub = Delivering()
        for event in ["Other", "Now", "Other", "Other", "Now"] { hub.take(event) }
        #expect(hub.ledger.queued(next: 6) == 5)
        hub.send(.realtime)
        #expect(hub.delivered[.realtime] == [2, 5])
        #expect(hub.ledger.queued(next: 6) == 3 && hub.ledger.cursor == 1 && hub.ledger.ahead == 2)
        hub.send(.batch, atMost: 1)
        #expect(hub.ledger.queued(next: 6) == 2)
        hub.send(.batch)
        #expect(hub.delivered[.batch] == [1, 3, 4])
        #expect(hub.ledger.queued(next: 6) == 0 && hub.ledger.cursor == 6 && hub.ledger.ahead == 0)
        // With nothing before it an urgent event moves both cursors.
        hub.take("Now")
        hub.send(.realtime)
        #expect(hub.ledger.cursor == 7 && hub.ledger.urgent == 7 && hub.ledger.ahead == 0)
        // The lane of the backlog never passes an urgent event that is not settled.
        for event in ["Other", "Now", "Other"] { hub.take(event) }
        hub.send(.batch)
        #expect(hub.delivered[.batch] == [1, 3, 4, 7] && hub.ledger.cursor == 8)
    }

    @Test("P7: in any order of events, requests, power cuts, erasures and a full disk each event is accounted for once")
    func accountsInAnyOrder() {
        for seed in UInt64(1)...12 {
            var chance = SeededRandom(seed: seed)
            var hub = Delivering()
            var (erased, took): (UInt64, UInt64) = (0, 0)
            for step in 0..<400 {
                switch chance.next(below: 10) {
                case 0...4: hub.take(["Now", "Soon", "Least", "Other"][Int(chance.next(below: 4))], user: "u\(step % 7)")
                case 5: hub.send(.realtime, atMost: 1 + Int(chance.next(below: 5)), isLost: chance.next(below: 4) == 0)
                case 6: hub.send(.batch, atMost: 1 + Int(chance.next(below: 5)), isLost: chance.next(below: 4) == 0)
                case 7:
                    let (ledger, next) = (hub.ledger, hub.device.pipeline.ledger.nextSequence)
                    let number = ledger.cursor + chance.next(below: max(1, next - ledger.cursor))
                    let isSettled = hub.delivered[.realtime]!.contains(number)
                    if hub.erase(number), !isSettled { erased += 1 }
                case 8 where seed % 2 == 0: _ = hub.shed(atMost: 1 + Int(chance.next(below: 4)))
                default: hub.device.restart()
                }
                took = hub.device.pipeline.ledger.nextSequence - 1
                let ledger = hub.ledger
                let settled = ledger.delivered + ledger.filtered + ledger.expired + ledger.evicted + ledger.erased
                #expect(took == settled + ledger.queued(next: took + 1))
                #expect(ledger.cursor <= ledger.urgent && ledger.cursor + ledger.ahead <= took + 1)
            }
            hub.drain()
            let ledger = hub.ledger
            #expect(ledger.queued(next: took + 1) == 0 && ledger.ahead == 0 && ledger.cursor == took + 1)
            #expect(ledger.erased == erased && ledger.filtered == 0)
            for lane in [Lane.realtime, .batch] {
                let numbers = hub.delivered[lane]!
                #expect(zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 }, "each lane keeps the log's order")
            }
            let all = hub.delivered[.realtime]! + hub.delivered[.batch]!
            #expect(Set(all).count == all.count && UInt64(all.count) == ledger.delivered)
            #expect(all.count + Int(ledger.evicted + ledger.erased) == Int(took))
        }
    }

    @Test("What was sent ahead and is shed, erased or expired afterwards is not counted again")
    func settledAndGone() {
        var hub = Delivering()
        for event in ["Other", "Soon", "Soon", "Other"] { hub.take(event) }
        hub.send(.realtime)
        #expect(hub.erase(2))
        while hub.shed() > 0 {}
        hub.drain()
        let ledger = hub.ledger
        #expect(ledger.delivered == 2 && ledger.evicted == 2 && ledger.erased == 0 && ledger.queued(next: 5) == 0)
    }

    @Test("A full disk sheds the lowest priority first and of it the oldest, never priority 9 or a notice of an erasure")
    func shedding() {
        var hub = Delivering()
        for number in 0..<3_000 { hub.take(number % 3 == 0 ? "Least" : number % 3 == 1 ? "Other" : "Now") }
        hub.device.write { transaction throws(StoreError) in
            let header = LogEntryHeader(
                tier: .realtime, priority: 0, receivedAt: 0, purposeTag: 0, bundleVersion: 1, profile: .nobody,
                isErasureNotice: true, isGenerated: true)
            let body = Array(#"{"type":"track","event":"User Erased"}"#.utf8)
            try hub.device.pipeline.generate(header, [], messageID: [1], body, &transaction)
        }
        _ = hub.shed(atMost: 100)
        var oldest = UInt64.max
        for (number, name) in hub.log where name.hasPrefix("Least") { oldest = min(oldest, number) }
        #expect(hub.many("Least") == 900 && oldest == 301, "the oldest hundred are gone")
        var looks = 0
        while hub.many("Other") > 0, looks < 100 {
            _ = hub.shed()
            looks += 1
            if hub.many("Least") > 0 { #expect(hub.many("Other") == 1_000) }
        }
        #expect(hub.many("Now") == 1_000 && looks < 100)
        #expect(hub.device.meters.shedEvents.value(at: 0) == 1_000 && hub.device.meters.shedEvents.value(at: 4) == 1_000)
        // Two of three are gone, and each pair leaves one mark.
        #expect(hub.device.count { $0.log } == 1_000 + 1_000 + 1)
        // What has priority 9 stays, and the notice, whatever its own.
        while hub.shed() > 0 {}
        #expect(hub.many("Now") == 1_000 && hub.many("User Erased") == 1)
        hub.drain()
        #expect(hub.ledger.evicted == 2_000 && hub.ledger.delivered == 1_001)
    }

    @Test("What is shed gives its pages back")
    func sheddingMakesRoom() {
        var hub = Delivering(mapBytes: 64 << 20)
        let properties = "{\"text\": \"" + String(repeating: "x", count: 700) + "\"}"
        for _ in 0..<4_000 { hub.take("Least", properties) }
        func pages() -> Int64 { hub.device.write { transaction in transaction.bytes(of: transaction.tables.log) / 4096 } }
        let before = pages()
        while hub.shed(atMost: 512) > 0 {}
        #expect(before > 1_000 && pages() < 10, "\(before) pages, and \(pages()) after it")
        hub.drain()
        #expect(hub.ledger.evicted == 4_000)
    }

    // limit: Delivery.leastBudgetBytes
    @Test("A day's budget holds back the backlog, not what is urgent, survives a restart, and begins anew the next day")
    func budget() {
        let hub = Delivering(", batch: { budget: 100KiB }")
        for _ in 0..<3 { hub.take("Other") }
        func outlook() -> OutboxOutlook { hub.device.outbox(0).outlook() }
        #expect(outlook().budgetBytes == 100 << 10 && outlook().count == 3)
        let outbox = hub.device.outbox(0)
        outbox.spend(bytes: 90_000)
        #expect(outbox.outlook().budgetBytes == (100 << 10) - 90_000)
        outbox.spend(bytes: (100 << 10) - 90_000 - 4_095)
        #expect(outbox.outlook().budgetBytes == 0)
        var batch = Batch()
        batch.begin(.batch, maximumEvents: 1, maximumBytes: 1_000)
        outbox.fill(&batch)
        let change = outbox.change(by: batch, CursorChange(delivered: 1))!
        hub.device.write { transaction throws(StoreError) in
            var ledger = DestinationLedger()
            _ = ledger.apply(change)
            try ledger.write(to: &transaction, name: Array("hub".utf8))
        }
        #expect(outlook().budgetBytes == 0 && !outlook().isUrgent)
        hub.take("Now")
        #expect(outlook().budgetBytes == 0 && outlook().isUrgent)
        hub.device.now += day / 2 - 1
        #expect(outlook().budgetBytes == 0)
        hub.device.now += 1
        #expect(outlook().budgetBytes == 100 << 10, "midnight in UTC")
    }

    @Test("The backlog waits for its hours by the clock of their zone, through changes to summer time; unknown zones do not hold it")
    func hours() {
        var hub = Delivering(", send: ['02:00-05:00', '22:00-22:30'], zone: Europe/Berlin")
        hub.take("Other")
        hub.take("Now")
        func isOpen(_ time: String) -> Bool {
            let bytes = Array(time.utf8)
            hub.device.now = Timestamp.parse(bytes.span)!
            let outlook = hub.device.outbox(0).outlook()
            #expect(outlook.isUrgent)
            return outlook.budgetBytes > 0
        }
        #expect(isOpen("2026-01-31T01:00:00Z") && isOpen("2026-01-31T03:59:59Z") && !isOpen("2026-01-31T04:00:00Z"))
        #expect(!isOpen("2026-01-31T00:59:59Z") && isOpen("2026-01-31T21:15:00Z") && !isOpen("2026-01-31T12:00:00Z"))
        // In summer the same hours are an hour earlier in UTC.
        #expect(isOpen("2026-07-01T00:00:00Z") && !isOpen("2026-07-01T03:00:00Z"))
        // On 29 March there is no 02:00 to 03:00: it opens at 03:00 by the clock. On 25 October that hour comes twice.
        #expect(!isOpen("2026-03-29T00:59:59Z") && isOpen("2026-03-29T01:00:00Z") && !isOpen("2026-03-29T03:00:00Z"))
        #expect(isOpen("2026-10-25T00:00:00Z") && isOpen("2026-10-25T01:00:00Z") && !isOpen("2026-10-25T04:00:00Z"))
        hub = Delivering(", send: '02:00-05:00', zone: Mars/Base")
        hub.take("Other")
        hub.take("Now")
        #expect(isOpen("2026-01-31T12:00:00Z"))
        let wrong = Array(policy(", send: 'at night'").utf8)
        #expect(Bundle.read(wrong.span, loadedAt: noon).1.map(\.message) == ["hours are a span such as 09:00-18:00, or a list of them"])
    }

    @Test("Accounts of a store from before there were lanes go on")
    func formerAccounts() {
        let hub = Delivering()
        let name = Array("hub".utf8)
        hub.device.write { transaction throws(StoreError) in
            let record = Record.encode([5, 1, 3, 1, 0, 0, 0, 0])
            try transaction.put(transaction.tables.cursors, name.span, record.span)
        }
        #expect(hub.ledger.cursor == 5 && hub.ledger.urgent == 5 && hub.ledger.ahead == 0 && hub.ledger.delivered == 3)
    }
}
