// Shows that the sender keeps order, loses nothing, finds the bad event, pauses, falls back and returns, and stops when
// asked: over an outbox in memory, a scripted server and a clock that the test owns.

@testable import Delivery
import Formats
import Platform
import Testing

final class TestClock: Clock {
    var milliseconds: Int64 = 1_800_000_000_000
    func wallMilliseconds() -> Int64 { milliseconds }
    func monotonicNanoseconds() -> Int64 { (milliseconds - 1_700_000_000_000) * 1_000_000 }
}

/// A log in memory with two lanes: `{"seq":n}` each. Waiting moves the clock.
private final class TestOutbox: OutboxSource {
    struct Entry { var receivedAt: Int64; var isUrgent = false; var isFiltered = false; var bytes = 0 }
    let clock: TestClock
    var log: [Entry] = []
    /// Of the lane `batch`, and of the other.
    var cursor = 0
    var urgent = 0
    var budgetBytes = Int.max
    var spent: Int64 = 0
    var delivered: [UInt64] = []
    var passed = 0
    var quarantined: [(sequence: UInt64, reason: QuarantineReason)] = []
    var waits: [(count: UInt64?, milliseconds: Int64)] = []
    var isStopRequested = false
    var onWait: () -> Void = {}
    var revision: UInt64 = 0
    /// Where batches began that were filled ahead.
    var ahead: [UInt64] = []

    init(_ clock: TestClock, events: Int = 0) {
        self.clock = clock
        for _ in 0..<events { add() }
    }

    func add(isUrgent: Bool = false, isFiltered: Bool = false, bytes: Int = 0) {
        log.append(Entry(receivedAt: clock.milliseconds, isUrgent: isUrgent, isFiltered: isFiltered, bytes: bytes))
    }

    func outlook() -> OutboxOutlook {
        let waiting = log[cursor...].enumerated().filter { !$1.isUrgent || $0 + cursor >= urgent }
        return OutboxOutlook(
            count: UInt64(waiting.count), oldestAt: waiting.first?.element.receivedAt ?? 0,
            isUrgent: log[max(cursor, urgent)...].contains { $0.isUrgent }, budgetBytes: budgetBytes)
    }

    func spend(bytes: Int64) { spent += bytes }

    func fill(_ batch: inout Batch) {
        let isRealtime = batch.lane == .realtime
        if let after = batch.after { ahead.append(after) }
        let first = batch.after.map { Int($0) } ?? (isRealtime ? max(cursor, urgent) : cursor)
        for index in first..<log.count {
            let sequence = UInt64(index + 1)
            if isRealtime, !log[index].isUrgent { continue }
            if !isRealtime, log[index].isUrgent {
                if index >= urgent || !batch.skip(sequence: sequence) { return }
            } else if log[index].isFiltered {
                if !batch.pass(sequence: sequence) { return }
            } else {
                let text = "{\"seq\":\(sequence),\"x\":\"" + String(repeating: "x", count: log[index].bytes) + "\"}"
                if !batch.append(sequence: sequence, Array(text.utf8).span) { return }
            }
        }
    }

    func acknowledge(_ batch: borrowing Batch) {
        for index in 0..<batch.count { delivered.append(batch.sequence(index)) }
        settle(batch)
    }

    private func settle(_ batch: borrowing Batch) {
        passed += batch.passedCount
        if batch.lane == .realtime { urgent = Int(batch.lastSequence!) } else { cursor = Int(batch.lastSequence!) }
        while cursor < urgent, log[cursor].isUrgent { cursor += 1 }
    }

    func quarantine(_ batch: borrowing Batch, reason: QuarantineReason) {
        precondition(batch.count == 1)
        quarantined.append((batch.sequence(0), reason))
        settle(batch)
    }

    func wait(forCount count: UInt64?, milliseconds: Int64) {
        waits.append((count, milliseconds))
        clock.milliseconds += milliseconds
        onWait()
    }
}

/// Takes batches and answers as the script says.
private final class TestServer: Transport {
    /// The numbers of the events that arrived, in order, repeats and all.
    var arrived: [UInt64] = []
    var requests: [[UInt64]] = []
    var times: [Int64] = []
    var bodies: [[UInt8]] = []
    var rests = 0
    let clock: TestClock
    /// Whether a request is taken is up to the script: it sees the events and answers.
    var script: ([UInt64]) -> DeliveryResult = { _ in .delivered(200) }
    /// The request arrives but its answer does not.
    var losesAnswer: () -> Bool = { false }

    init(_ clock: TestClock) { self.clock = clock }

    func post(_ body: Span<UInt8>, format: WireFormat, head: [UInt8], meanwhile: () -> Void) -> DeliveryResult {
        let text = try! Gzip.inflate(body, limit: 4 << 20)
        var document = JSONDocument()
        try! document.parse(text.span)
        var events: [UInt64] = []
        let list = format == .segment ? document.member(document.root, "batch")! : document.root
        document.forEachElement(list) { events.append(UInt64(document.int64(document.member($0, "seq")!)!)) }
        bodies.append(text)
        requests.append(events)
        times.append(clock.milliseconds)
        let result = script(events)
        meanwhile()
        guard case .delivered = result else { return result }
        arrived += events
        return losesAnswer() ? .unreachable(TransportFailure(stage: .receive, message: "cut")) : result
    }

    func rest() { rests += 1 }
}

private func destination(_ settings: String = "batch: { events: 500, delay: 5s }") -> Destination {
    let text = Array("destinations:\n  hub: { url: 'https://hub.example/', purpose: p, \(settings) }".utf8)
    let document = try! YAML.parse(text.span)
    var reader = PlanReader()
    let plan = DestinationPlan(document, document.root, purposes: [Array("p".utf8)], identifiers: [], &reader)
    precondition(!reader.hasErrors, "\(reader.problems)")
    return plan.destinations[0]
}

private struct Bench {
    let clock = TestClock()
    let outbox: TestOutbox
    let hub: TestServer
    let other: TestServer
    let meters = SenderMeters()
    var sender: Sender<TestOutbox, TestServer, TestClock, SeededRandom>

    init(events: Int, _ settings: String = "batch: { events: 500, delay: 5s }", hasFallback: Bool = false) {
        outbox = TestOutbox(clock, events: events)
        hub = TestServer(clock)
        other = TestServer(clock)
        sender = Sender(
            destination: destination(settings), source: outbox, transport: hub, fallback: hasFallback ? other : nil,
            meters: meters, clock: clock, random: SeededRandom(seed: 5))
    }

    /// Steps until the outbox is empty; fails the test after too many.
    mutating func drain(atMost steps: Int = 100_000) {
        for _ in 0..<steps where outbox.cursor < outbox.log.count { _ = sender.step() }
        #expect(outbox.cursor == outbox.log.count, "drained")
    }
}

@Suite struct SenderTests {
    @Test("P2: 20,000 events through cuts, lost answers, 500s and 429s: each arrives, in order of first arrival")
    func everythingArrives() {
        for seed in UInt64(1)...5 {
            var bench = Bench(events: 20_000, "batch: { events: 97 }")
            var chance = SeededRandom(seed: seed)
            bench.hub.script = { _ in
                switch chance.next(below: 10) {
                case 0: return .retry(status: 503, afterMilliseconds: nil)
                case 1: return .retry(status: 429, afterMilliseconds: 3_000)
                case 2: return .unreachable(TransportFailure(stage: .connect, message: "refused"))
                default: return .delivered(200)
                }
            }
            var loss = SeededRandom(seed: seed + 100)
            bench.hub.losesAnswer = { loss.next(below: 10) == 0 }
            bench.drain()
            #expect(bench.outbox.delivered == (1...20_000).map(UInt64.init), "each is acknowledged once, in order")
            var seen = Set<UInt64>()
            let first = bench.hub.arrived.filter { seen.insert($0).inserted }
            #expect(first == (1...20_000).map(UInt64.init))
            #expect(bench.hub.arrived.count > 20_000, "repeats did happen")
            #expect(bench.meters.events.current == 20_000)
        }
    }

    @Test("While an answer is awaited the next batch is made; P4: after a choice has changed, it is made anew")
    func ahead() {
        var bench = Bench(events: 2_000)
        let (outbox, hub) = (bench.outbox, bench.hub)
        bench.drain()
        #expect(outbox.ahead == [500, 1_000, 1_500])
        #expect(hub.requests.map(\.count) == [500, 500, 500, 500])
        #expect(hub.arrived == (1...2_000).map(UInt64.init))

        for _ in 0..<1_000 { outbox.add() }
        hub.losesAnswer = {
            // The second half is made by now, and its first person says no.
            outbox.log[2_500].isFiltered = true
            outbox.revision += 1
            return false
        }
        bench.drain()
        #expect(outbox.ahead.last == 2_500)
        #expect(hub.arrived == (1...3_000).map(UInt64.init).filter { $0 != 2_501 })
    }

    @Test("Events that the server calls malformed are set aside alone; all others arrive exactly once")
    func poison() {
        var bench = Bench(events: 2_000)
        let bad: Set<UInt64> = [1, 137, 138, 900, 2_000]
        bench.hub.script = { $0.contains(where: bad.contains) ? .rejected(400) : .delivered(200) }
        bench.drain(atMost: 200)
        #expect(bench.outbox.quarantined.map(\.sequence) == bad.sorted())
        #expect(bench.outbox.quarantined.allSatisfy { $0.reason == .rejected(400) })
        #expect(bench.hub.arrived == (1...2_000).map(UInt64.init).filter { !bad.contains($0) })
        #expect(bench.hub.requests.count < 100)
        #expect(bench.outbox.waits.count <= 1, "the search does not wait, only the last batch, which is not full")
        #expect(bench.meters.quarantined.current == 5)
    }

    @Test("Batches that are too large are made smaller; an event that is too large by itself is set aside")
    func tooLarge() {
        var bench = Bench(events: 1_000)
        bench.outbox.log[500].bytes = 30_000
        bench.hub.script = { events in
            events.contains(501) && events.count == 1 || events.count > 60 || events.contains(501)
                ? .tooLarge : .delivered(200)
        }
        bench.drain(atMost: 2_000)
        #expect(bench.outbox.quarantined.map(\.sequence) == [501])
        #expect(bench.outbox.quarantined.first?.reason == .tooLarge)
        #expect(bench.hub.arrived == (1...1_000).map(UInt64.init).filter { $0 != 501 })
    }

    @Test("A request holds at most the events and bytes of the bundle")
    func limits() {
        var bench = Bench(events: 0, "batch: { events: 20, bytes: 48KiB }")
        for index in 0..<200 { bench.outbox.add(bytes: index % 7 == 0 ? 20_000 : 10) }
        bench.drain()
        #expect(bench.hub.arrived == (1...200).map(UInt64.init))
        #expect(bench.hub.requests.allSatisfy { $0.count <= 20 })
        #expect(bench.hub.bodies.allSatisfy { $0.count <= (48 << 10) + 64 })
        #expect(bench.hub.requests.contains { $0.count > 7 })
    }

    @Test("A batch waits for its delay, unless it is full or urgent")
    func delay() {
        var bench = Bench(events: 3)
        let start = bench.clock.milliseconds
        check(bench.sender.step() == .waited)
        #expect(bench.outbox.waits.count == 1)
        #expect(bench.outbox.waits[0].milliseconds == 5_000)
        #expect(bench.outbox.waits[0].count == 500)
        check(bench.sender.step() == .delivered)
        #expect(bench.clock.milliseconds == start + 5_000)

        bench.outbox.add()
        bench.outbox.add(isUrgent: true)
        check(bench.sender.step() == .delivered)
        #expect(bench.hub.requests.last == [5], "the urgent one goes by itself")

        for _ in 0..<499 { bench.outbox.add() }
        check(bench.sender.step() == .delivered)
        #expect(bench.clock.milliseconds == start + 5_000, "neither has waited")

        bench.outbox.add()
        bench.clock.milliseconds -= 3_600_000
        check(bench.sender.step() == .delivered, "a clock that was set back does not hold events up")

        check(bench.sender.step() == .waited)
        #expect(bench.outbox.waits.last?.count == 1, "the first event of an empty queue wakes: its delay begins")
    }

    @Test("Retry-After and the back-off are waited for; events do not cut a pause short")
    func pauses() {
        var bench = Bench(events: 500)
        var answers: [DeliveryResult] = [
            .retry(status: 429, afterMilliseconds: 20_000), .retry(status: 503, afterMilliseconds: nil), .delivered(202),
        ]
        bench.hub.script = { _ in answers.removeFirst() }
        bench.drain()
        #expect(bench.hub.times[1] - bench.hub.times[0] >= 20_000)
        #expect(bench.hub.times[2] - bench.hub.times[1] <= 1_000)
        #expect(bench.outbox.waits.allSatisfy { $0.count == nil })
        #expect(bench.meters.retries.current == 2)
        #expect(bench.meters.lastStatus.current == 202)
    }

    @Test("A dead hub: the fallback takes over within seconds, the hub is tried once a minute, and gets its events back")
    func fallback() {
        var bench = Bench(events: 0, "batch: { events: 10, delay: 1s }", hasFallback: true)
        let start = bench.clock.milliseconds
        var isDead = true
        bench.hub.script = { _ in
            isDead ? .unreachable(TransportFailure(stage: .connect, message: "refused")) : .delivered(200)
        }
        // Ten events a second for ten minutes.
        for second in 0..<600 {
            if second == 300 { isDead = false }
            for _ in 0..<10 { bench.outbox.add() }
            let until = start + Int64(second) * 1_000
            while bench.clock.milliseconds < until && bench.outbox.cursor < bench.outbox.log.count { _ = bench.sender.step() }
            bench.clock.milliseconds = max(bench.clock.milliseconds, until)
        }
        bench.drain()
        #expect(bench.outbox.delivered == (1...6_000).map(UInt64.init), "order is kept across both")
        #expect(bench.other.times.first! - start < 20_000, "took over after \(bench.other.times.first! - start) ms")
        let tries = bench.hub.times.filter { $0 - start > 60_000 && $0 - start < 300_000 }
        #expect(tries.count >= 3 && tries.count <= 5, "\(tries.count)")
        #expect(bench.other.times.last! - start < 362_000, "the hub has its events again a minute after it is back")
        #expect(bench.hub.arrived.last == 6_000)
        #expect(bench.meters.eventsByFallback.current == UInt64(bench.other.arrived.count))
        #expect(bench.meters.isBreakerOpen.current == 0)
    }

    @Test("Without a fallback a dead hub is tried about once a minute, and nothing is lost")
    func deadHub() {
        var bench = Bench(events: 100)
        let start = bench.clock.milliseconds
        bench.hub.script = { [clock = bench.clock] _ in
            clock.milliseconds - start < 86_400_000
                ? .unreachable(TransportFailure(stage: .resolve, message: "no name")) : .delivered(200)
        }
        bench.drain()
        #expect(bench.outbox.delivered.count == 100)
        #expect(bench.hub.requests.count < 1_500, "a day has 1,440 minutes")
        #expect(bench.hub.requests.count > 500)
    }

    // limit: Delivery.entriesPassed
    @Test("Entries that are not for this destination move the cursor without a request")
    func filtered() {
        var bench = Bench(events: 0)
        for index in 0..<1_000 { bench.outbox.add(isFiltered: index % 100 != 99) }
        bench.drain()
        #expect(bench.hub.arrived == stride(from: 100, through: 1_000, by: 100).map(UInt64.init))
        #expect(bench.outbox.passed == 990)
        for _ in 0..<25_000 { bench.outbox.add(isFiltered: true) }
        let before = bench.hub.requests.count
        bench.drain()
        #expect(bench.hub.requests.count == before)
        #expect(bench.outbox.passed == 25_990)
    }

    @Test("A stop request ends the loop after at most one wait, in the middle of a pause too")
    func stop() {
        var bench = Bench(events: 10, hasFallback: true)
        bench.hub.script = { _ in .retry(status: 500, afterMilliseconds: nil) }
        let outbox = bench.outbox
        var waits = 0
        outbox.onWait = {
            waits += 1
            if waits == 4 { outbox.isStopRequested = true }
        }
        bench.sender.run()
        #expect(waits == 4)
        #expect(outbox.delivered.isEmpty && outbox.cursor == 0)
    }

    @Test("What is urgent goes ahead of a backlog, and each lane keeps its order; poison and cuts of one do not touch the other")
    func lanes() {
        for seed in UInt64(1)...5 {
            var bench = Bench(events: 0, "batch: { events: 50 }")
            var chance = SeededRandom(seed: seed)
            for _ in 0..<3_000 { bench.outbox.add(isUrgent: chance.next(below: 3) == 0, isFiltered: chance.next(below: 9) == 0) }
            let bad: Set<UInt64> = [7, 800, 801, 2_999]
            bench.hub.script = { events in
                if events.contains(where: bad.contains) { return .rejected(400) }
                return chance.next(below: 8) == 0 ? .retry(status: 503, afterMilliseconds: nil) : .delivered(200)
            }
            var loss = SeededRandom(seed: seed + 100)
            bench.hub.losesAnswer = { loss.next(below: 10) == 0 }
            bench.drain()
            let (log, hub) = (bench.outbox.log, bench.hub)
            for isUrgent in [true, false] {
                let own = (1...3_000).filter { log[$0 - 1].isUrgent == isUrgent && !log[$0 - 1].isFiltered }.map(UInt64.init)
                var seen = Set<UInt64>()
                let first = hub.arrived.filter { log[Int($0) - 1].isUrgent == isUrgent && seen.insert($0).inserted }
                #expect(first == own.filter { !bad.contains($0) })
            }
            #expect(
                Set(bench.outbox.quarantined.map(\.sequence)) == bad.filter { !log[Int($0) - 1].isFiltered })
            #expect(hub.requests.allSatisfy { Set($0.map { log[Int($0) - 1].isUrgent }).count == 1 }, "no request mixes them")
        }
    }

    // limit: Delivery.realtimeInARow
    @Test("A steady stream of urgent events does not hold a backlog up for ever, and waits for one request of it at most")
    func fairness() {
        var bench = Bench(events: 2_000, "batch: { events: 100 }")
        for _ in 0..<125 {
            bench.outbox.add(isUrgent: true)
            _ = bench.sender.step()
        }
        let isUrgent = bench.hub.requests.map { bench.outbox.log[Int($0[0]) - 1].isUrgent }
        #expect(isUrgent.filter { !$0 }.count == 20, "the backlog has gone out")
        for index in 1..<isUrgent.count { #expect(isUrgent[index] || isUrgent[index - 1], "never two batches in a row") }
    }

    @Test("With its hours or budget over a backlog stays, and urgent events go on; what is left bounds a request")
    func held() {
        var bench = Bench(events: 1_000)
        bench.outbox.budgetBytes = 0
        check(bench.sender.step() == .waited)
        #expect(bench.meters.isHeld.current == 1)
        bench.outbox.add(isUrgent: true)
        check(bench.sender.step() == .delivered)
        check(bench.sender.step() == .waited)
        #expect(bench.hub.arrived == [1_001])
        #expect(bench.outbox.spent > 600, "the request's head counts, too")
        bench.outbox.budgetBytes = 2_000
        check(bench.sender.step() == .delivered)
        #expect(bench.hub.bodies.last!.count <= 2_064)
        #expect(bench.meters.isHeld.current == 0)
    }

    @Test("Bytes are told by purpose, and come to what was sent")
    func purposes() {
        var batch = Batch()
        batch.begin(maximumEvents: 10, maximumBytes: 1_000)
        for (sequence, purpose) in [(1, 0), (2, 3), (3, 3), (4, nil)] as [(UInt64, Int?)] {
            let text = Array("{\"n\":\(sequence)}".utf8)
            check(batch.append(sequence: sequence, text.span, purpose: purpose))
        }
        #expect(batch.purposes[0] == (1, 7) && batch.purposes[3] == (2, 14) && batch.purposes[32] == (1, 7))
        batch.begin(maximumEvents: 10, maximumBytes: 1_000)
        #expect(batch.purposes.allSatisfy { $0 == (0, 0) })
    }

    // limit: Delivery.keepAliveMilliseconds
    @Test("An idle sender gives its connection back after a minute, once")
    func rest() {
        var bench = Bench(events: 500)
        bench.drain()
        for _ in 0..<2 { _ = bench.sender.step() }
        #expect(bench.hub.rests == 0)
        for _ in 0..<20 { _ = bench.sender.step() }
        #expect(bench.hub.rests == 1)
    }

    @Test("The body is what Segment's collectors take, or a CloudEvents batch")
    func bodies() {
        var bench = Bench(events: 2, "batch: { events: 2 }")
        bench.drain()
        #expect(
            String(decoding: bench.hub.bodies[0], as: UTF8.self)
                == #"{"batch":[{"seq":1,"x":""},{"seq":2,"x":""}],"sentAt":"2027-01-15T08:00:00.000Z"}"#)
        var events = Bench(events: 2, "format: cloudevents, batch: { events: 2 }")
        events.drain()
        #expect(String(decoding: events.hub.bodies[0], as: UTF8.self) == #"[{"seq":1,"x":""},{"seq":2,"x":""}]"#)
        #expect(bench.meters.bytesBeforeCompression.current == UInt64(bench.hub.bodies[0].count))
    }

    @Test("Statuses mean what DESIGN section 7 says")
    func statuses() {
        for status in UInt16(200)..<600 {
            let result = DeliveryResult(status: status, retryAfterMilliseconds: 9)
            switch status {
            case 200..<300: #expect(result == .delivered(status))
            case 400, 422: #expect(result == .rejected(status))
            case 413: #expect(result == .tooLarge)
            default: #expect(result == .retry(status: status, afterMilliseconds: 9))
            }
        }
    }
}
