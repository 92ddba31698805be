// One destination's loop: wait for enough events, send them, and go on in log order, whatever the network does. It has two
// lanes, each in order: what is of tier `realtime` goes at once, ahead of whatever waits in the other. It need not know the
// store, HTTP or TLS: those come in as `OutboxSource` and `Transport`, time and chance as `Clock` and `RandomSource`, so that a
// test can be all of them.

import Formats
import Monitoring
import Platform

/// What a destination's part of the log looks like, without reading the events.
public struct OutboxOutlook {
    /// Entries of the lane `batch` from the cursor to the log's end (filtered ones included).
    public var count: UInt64
    /// When the first of them was received, milliseconds since the epoch.
    public var oldestAt: Int64
    /// Whether something waits in the lane `realtime`.
    public var isUrgent: Bool
    /// What the lane `batch` may still send, bytes; 0: nothing now, its hours or its budget are over.
    public var budgetBytes: Int

    public init(count: UInt64, oldestAt: Int64, isUrgent: Bool, budgetBytes: Int = .max) {
        self.count = count
        self.oldestAt = oldestAt
        self.isUrgent = isUrgent
        self.budgetBytes = budgetBytes
    }
}

/// Why an event can never be delivered to a destination.
public enum QuarantineReason: Equatable, Sendable {
    /// The destination refuses it with this HTTP status.
    case rejected(UInt16)
    /// It is too large for the destination by itself (413).
    case tooLarge
}

/// A destination's view of the log. One thread, the sender's, calls it.
public protocol OutboxSource: AnyObject {
    /// What waits. Cheap: called before each batch.
    func outlook() -> OutboxOutlook
    /// Adds events of `batch.lane` behind `batch.after`, or from the lane's cursor on, in order, by `batch.append` or
    /// `batch.pass`, until one of them says false or the log ends. Consent, filters and denied fields are applied here, each
    /// time anew: a revocation stops what was queued.
    /// The lane `batch` ends before an event of the other that is not settled.
    func fill(_ batch: inout Batch)
    /// Another whenever what was filled before may not be sent as it is any more: somebody has made another choice or was
    /// erased, or what was settled could not be noted.
    var revision: UInt64 { get }
    /// Notes that so many bytes have gone over the wire, whatever came of them: what the day's budget counts.
    func spend(bytes: Int64)
    /// Moves the lane's cursor behind `batch.lastSequence`, and counts: the batch's messages are delivered, its passed entries
    /// are settled. It is durable by the next call of this, of `quarantine` or of `wait`; what could not be made durable is
    /// filled again.
    func acknowledge(_ batch: borrowing Batch)
    /// Sets one event aside and moves the lane's cursor behind `batch.lastSequence` (the batch holds just this event).
    func quarantine(_ batch: borrowing Batch, reason: QuarantineReason)
    /// Rests until there are at least `count` entries in the lane `batch` or one in the other, or the time is up, or a stop
    /// is requested. May return early for no reason. `count` nil: events do not wake it (a pause).
    func wait(forCount count: UInt64?, milliseconds: Int64)
    /// Whether the sender should return as soon as it can.
    var isStopRequested: Bool { get }
}

/// Why a request came to nothing.
public struct TransportFailure: Error, Equatable, Sendable {
    public enum Stage: UInt8, Sendable {
        case resolve, connect, handshake, send, receive, cancelled
    }
    public let stage: Stage
    /// For a person: what failed and what to do, without personal data.
    public let message: String

    public init(stage: Stage, message: String) {
        self.stage = stage
        self.message = message
    }
}

/// What became of one request.
public enum DeliveryResult: Equatable, Sendable {
    /// The destination has it (2xx).
    case delivered(UInt16)
    /// Not now (429, 5xx) or not as things are configured (401, 404, …); milliseconds that the server asked to wait.
    case retry(status: UInt16, afterMilliseconds: Int64?)
    /// Too much at once (413).
    case tooLarge
    /// Something in it is malformed (400, 422).
    case rejected(UInt16)
    /// No answer.
    case unreachable(TransportFailure)

    /// What an HTTP status means (DESIGN section 7).
    public init(status: UInt16, retryAfterMilliseconds: Int64?) {
        switch status {
        case 200...299: self = .delivered(status)
        case 413: self = .tooLarge
        case 400, 422: self = .rejected(status)
        default: self = .retry(status: status, afterMilliseconds: retryAfterMilliseconds)
        }
    }

    /// Whether the server itself is at fault: what the breaker counts. A 429 comes from a server that is well.
    var isFailure: Bool {
        switch self {
        case .delivered, .tooLarge, .rejected: return false
        case .retry(let status, _): return status != 429
        case .unreachable(let failure): return failure.stage != .cancelled
        }
    }
}

/// The way to one destination. One thread, the sender's, calls it.
public protocol Transport: AnyObject {
    /// Sends one body (gzip, but for a webhook) and waits for the answer, as long as the transport's time-outs allow.
    /// - Parameters:
    ///   - head: further lines of the request's head, each with its end.
    ///   - meanwhile: called when the body is on its way and its answer is awaited; again if it must be sent again.
    func post(_ body: Span<UInt8>, format: WireFormat, head: [UInt8], meanwhile: () -> Void) -> DeliveryResult
    /// Nothing will be sent for a while: idle connections may be closed.
    func rest()
}

/// What a sender counts since it started. Read by any thread.
public final class SenderMeters: Sendable {
    public let batches = Counter()
    public let events = Counter()
    /// Bytes of bodies that were delivered, as sent (compressed) and before.
    public let bytesSent = Counter()
    public let bytesBeforeCompression = Counter()
    /// Requests that came to nothing and will be repeated.
    public let retries = Counter()
    /// Events set aside because the destination will not take them.
    public let quarantined = Counter()
    /// Events that the fallback took.
    public let eventsByFallback = Counter()
    /// HTTP status of the last answer; 0: there was none.
    public let lastStatus = Gauge()
    /// 1 while the breaker keeps requests away from the destination.
    public let isBreakerOpen = Gauge()
    /// Why the last request to the destination itself failed, for a person; empty while it is well.
    public let trouble = Note()
    /// 1 while that is TLS.
    public let isHandshakeRefused = Gauge()
    /// Requests that failed, by `failureWords`.
    public let failures = CounterArray(count: SenderMeters.failureWords.count)
    /// From a request until its answer, or until it failed.
    public let requests = Histogram()
    /// When something was last delivered, milliseconds since the epoch.
    public let lastDeliveryAt = Gauge()
    /// 1 while the lane `batch` waits for its hours or for another day's budget.
    public let isHeld = Gauge()
    /// From an event's arrival here until its destination has it, of the lane `realtime`: the oldest of each request.
    public let realtime = Histogram()
    /// Events that were delivered and their share of the bodies' bytes as sent, by purpose; see `Batch.purposes`.
    public let purposeEvents = CounterArray(count: Limits.purposes + 1)
    public let purposeBytes = CounterArray(count: Limits.purposes + 1)

    public init() {}

    /// Where requests fail, in metrics: the stages of `TransportFailure`, and an answer that says so.
    public static let failureWords: [StaticString] = ["resolve", "connect", "handshake", "send", "receive", "status"]

    /// - Parameter place: in `failureWords`.
    func fail(_ place: Int, _ words: String, isPrimary: Bool) {
        failures.add(1, at: place)
        if !isPrimary { return }
        trouble.set(words)
        isHandshakeRefused.set(place == Int(TransportFailure.Stage.handshake.rawValue) ? 1 : 0)
    }
}

/// A transport with what is known of its health.
struct Route<Way: Transport> {
    let transport: Way
    var breaker = Breaker()
    var backoff = Backoff()
    /// No request before this moment, milliseconds of the monotonic clock.
    var notBefore: Int64 = 0
    var isWell = true
}

/// Sends one destination's events in log order by lane, at least once each.
public struct Sender<Source: OutboxSource, Way: Transport, Time: Clock, Chance: RandomSource> {
    /// What the step came to; for tests.
    public enum Step: Equatable {
        case stopped, waited, passed, delivered, quarantined, halved, paused
    }

    public let meters: SenderMeters
    private let source: Source
    private var primary: Route<Way>
    private var fallback: Route<Way>?
    private let clock: Time
    private var random: Chance
    private let name: String
    private let format: WireFormat
    private let webhook: Webhook
    private let maximumBytes: Int
    private let maximumEvents: Int
    private let delayMilliseconds: Int64

    private var sizers: (realtime: BatchSizer, batch: BatchSizer)
    /// Requests of the lane `realtime` since the last of the other.
    private var realtimeInARow = 0
    private var batch = Batch()
    private let encoder: BodyEncoder
    /// The batch that follows the one under way, made while that one's answer was awaited, and the source's revision then;
    /// `encoder` has its body. nil: none.
    private var next = Batch()
    private var nextRevision: UInt64?
    private var averageBytes = 512
    /// Since when nothing has been sent, milliseconds of the monotonic clock; nil: the transport rests already.
    private var idleSince: Int64?

    public init(
        destination: Destination, source: Source, transport: Way, fallback: Way? = nil, meters: SenderMeters,
        clock: Time, random: Chance
    ) {
        self.source = source
        primary = Route(transport: transport)
        if let fallback { self.fallback = Route(transport: fallback) }
        self.meters = meters
        self.clock = clock
        self.random = random
        name = String(decoding: destination.name, as: UTF8.self)
        format = destination.format
        webhook = destination.webhook
        maximumBytes = destination.maximumBytes
        maximumEvents = destination.maximumEvents
        delayMilliseconds = destination.delayMilliseconds
        let sizer = BatchSizer(maximum: destination.maximumEvents)
        sizers = (sizer, sizer)
        // Where bytes are counted, a seventh fewer of them is worth twice the time.
        encoder = BodyEncoder(level: destination.budgetBytes == nil ? 3 : 5)
    }

    /// Sends until a stop is requested. What is on its way then is finished or will be repeated after the next start.
    public mutating func run() {
        while step() != .stopped {}
    }

    /// One turn of the loop.
    public mutating func step() -> Step {
        if source.isStopRequested { return .stopped }
        let outlook = source.outlook()
        meters.isHeld.set(outlook.budgetBytes == 0 && outlook.count > 0 ? 1 : 0)
        let rest = restUntilReady(outlook)
        guard let lane = chooseLane(outlook, isBatchDue: rest == nil) else {
            let (count, milliseconds) = rest ?? (1, Limits.idleMilliseconds)
            nextRevision = nil
            restWhenIdle()
            source.wait(forCount: count, milliseconds: milliseconds)
            return .waited
        }
        guard let isPrimary = chooseRoute() else { return .paused }
        let most = lane == .realtime ? maximumBytes : min(maximumBytes, outlook.budgetBytes)
        let isMade = takeNext(lane)
        if !isMade {
            batch.begin(lane, maximumEvents: sizer.next, maximumBytes: most)
            source.fill(&batch)
        }
        if batch.count == 0 {
            forgive(isPrimary)
            guard batch.lastSequence != nil else {
                // The outlook promised something that is gone (erased), or an event of the other lane came just now and goes
                // first; look again, but not in a tight loop.
                sizer.forget()
                realtimeInARow = 0
                if !outlook.isUrgent { source.wait(forCount: nil, milliseconds: 1) }
                return .waited
            }
            source.acknowledge(batch)
            return .passed
        }
        if lane == .batch { averageBytes = max(1, batch.messages.count / batch.count) }
        guard isMade || encoder.encode(batch, format, now: clock.wallMilliseconds()) else {
            return settle(.unreachable(TransportFailure(stage: .send, message: "no memory to compress a batch")), isPrimary)
        }
        let bytes = (packed: encoder.packed.count, plain: encoder.bodyBytes)
        // One that is full, with more behind it and no day's budget to keep to, is followed by another at once.
        let isFollowed = lane == .batch && !outlook.isUrgent && outlook.budgetBytes == .max && format != .webhook
            && outlook.count >= UInt64(batch.count + batch.passedCount) + readyCount
        let result = transmit(isPrimary, isFollowed)
        idleSince = monotonicMilliseconds
        let step = settle(result, isPrimary)
        if case .delivered = result { countBytes(bytes.packed, bytes.plain) } else { nextRevision = nil }
        return step
    }

    /// Makes the batch that was made ahead the one to send.
    /// - Returns: false when there is none, or it may not be sent any more.
    private mutating func takeNext(_ lane: Lane) -> Bool {
        guard let revision = nextRevision else { return false }
        nextRevision = nil
        guard lane == .batch, revision == source.revision else { return false }
        swap(&batch, &next)
        return true
    }

    /// Makes the batch that follows `batch`, with its body.
    private mutating func makeNext() {
        nextRevision = nil
        let revision = source.revision
        batch.lendMemory(to: &next)
        next.begin(after: batch.lastSequence, maximumEvents: sizers.batch.next, maximumBytes: maximumBytes)
        source.fill(&next)
        guard next.count > 0, encoder.encode(next, format, now: clock.wallMilliseconds()) else { return }
        nextRevision = revision
    }

    // MARK: When

    private var monotonicMilliseconds: Int64 { clock.monotonicNanoseconds() / 1_000_000 }

    /// So many entries fill a batch, as far as one can tell before reading them.
    private var readyCount: UInt64 { UInt64(max(1, min(maximumEvents, maximumBytes / averageBytes))) }

    /// Of the lane that goes next.
    private var sizer: BatchSizer {
        get { realtimeInARow > 0 ? sizers.realtime : sizers.batch }
        set { if realtimeInARow > 0 { sizers.realtime = newValue } else { sizers.batch = newValue } }
    }

    /// What is urgent goes first, but now and then a batch that is due; nil: nothing goes now.
    private mutating func chooseLane(_ outlook: OutboxOutlook, isBatchDue: Bool) -> Lane? {
        if outlook.isUrgent, !isBatchDue || realtimeInARow < Limits.realtimeInARow {
            realtimeInARow += 1
            return .realtime
        }
        realtimeInARow = 0
        return isBatchDue ? .batch : nil
    }

    /// How long to wait for the batch to fill, and for how many events; nil: it should go now. An empty queue is left
    /// with the first event, because the delay counts from there.
    private func restUntilReady(_ outlook: OutboxOutlook) -> (count: UInt64, milliseconds: Int64)? {
        if outlook.count == 0 { return (1, Limits.idleMilliseconds) }
        // No number of events opens it; the hours are looked at again after a while.
        if outlook.budgetBytes == 0 { return (.max >> 1, Limits.idleMilliseconds) }
        if sizers.batch.isSearching || outlook.count >= readyCount { return nil }
        // The wall clock may have been set meanwhile: an age below zero or beyond the delay sends at once.
        let age = clock.wallMilliseconds() - outlook.oldestAt
        if age < 0 || age >= delayMilliseconds { return nil }
        return (readyCount, min(Limits.idleMilliseconds, delayMilliseconds - age))
    }

    private mutating func restWhenIdle() {
        guard let since = idleSince, monotonicMilliseconds - since >= Limits.keepAliveMilliseconds else { return }
        idleSince = nil
        primary.transport.rest()
        fallback?.transport.rest()
        giveMemoryBack()
    }

    private mutating func giveMemoryBack() {
        batch.shrink()
        next.shrink()
        encoder.shrink()
    }

    // MARK: Where

    /// The primary if its breaker permits, else the fallback if that one's does; nil after a pause.
    private mutating func chooseRoute() -> Bool? {
        let now = monotonicMilliseconds
        if now >= primary.notBefore, primary.breaker.permits(now: now) {
            meters.isBreakerOpen.set(0)
            return true
        }
        var wakeAt = primary.notBefore
        if case .open(let until) = primary.breaker.state {
            meters.isBreakerOpen.set(1)
            wakeAt = max(wakeAt, until)
            if var other = fallback {
                if now >= other.notBefore, other.breaker.permits(now: now) {
                    fallback = other
                    return false
                }
                var otherAt = other.notBefore
                if case .open(let until) = other.breaker.state { otherAt = max(otherAt, until) }
                wakeAt = min(wakeAt, otherAt)
            }
        }
        source.wait(forCount: nil, milliseconds: max(1, min(wakeAt - now, Limits.longestRetryAfterMilliseconds)))
        return nil
    }

    private mutating func forgive(_ isPrimary: Bool) {
        let now = monotonicMilliseconds
        if isPrimary { primary.breaker.forgive(now: now) } else { fallback?.breaker.forgive(now: now) }
    }

    // MARK: What

    private mutating func transmit(_ isPrimary: Bool, _ isFollowed: Bool) -> DeliveryResult {
        let way = isPrimary ? primary.transport : (fallback ?? primary).transport
        let bytes = encoder.packed
        let head = format == .webhook ? webhook.head(id: batch.id, bytes.span, now: clock.wallMilliseconds()) : []
        source.spend(bytes: Int64(bytes.count) + Limits.requestOverheadBytes)
        let begin = clock.monotonicNanoseconds()
        let result = way.post(bytes.span, format: format, head: head) { if isFollowed { makeNext() } }
        meters.requests.record(nanoseconds: clock.monotonicNanoseconds() - begin)
        return result
    }

    /// Counts a body that was delivered, as sent and before, and each purpose's share of it: a body is packed as a whole.
    private func countBytes(_ packed: Int, _ plain: Int) {
        meters.bytesSent.add(UInt64(packed))
        meters.bytesBeforeCompression.add(UInt64(plain))
        for (index, (events, bytes)) in batch.purposes.enumerated() where events > 0 {
            meters.purposeEvents.add(UInt64(events), at: index)
            // Of 32 bits the product would be too large.
            meters.purposeBytes.add(UInt64(bytes) * UInt64(packed) / UInt64(max(1, batch.byteCount)), at: index)
        }
    }

    /// Draws the consequences of an answer, or of none.
    private mutating func settle(_ result: DeliveryResult, _ isPrimary: Bool) -> Step {
        noteHealth(result, isPrimary)
        switch result {
        case .delivered(let status):
            meters.lastStatus.set(Int64(status))
            source.acknowledge(batch)
            sizer.succeeded(batch.count)
            if batch.lane == .realtime {
                meters.realtime.record(nanoseconds: (clock.wallMilliseconds() - batch.oldestAt) &* 1_000_000)
            }
            meters.batches.add()
            meters.events.add(UInt64(batch.count))
            if !isPrimary { meters.eventsByFallback.add(UInt64(batch.count)) }
            meters.lastDeliveryAt.set(clock.wallMilliseconds())
            return .delivered
        case .rejected(let status):
            meters.lastStatus.set(Int64(status))
            return sizer.refused(batch.count) ? setAside(.rejected(status)) : .halved
        case .tooLarge:
            meters.lastStatus.set(413)
            return sizer.tooLarge(batch.count) ? setAside(.tooLarge) : .halved
        case .retry(let status, let after):
            meters.lastStatus.set(Int64(status))
            postpone(isPrimary, after)
            return .paused
        case .unreachable:
            meters.lastStatus.set(0)
            (isPrimary ? primary.transport : (fallback ?? primary).transport).rest()
            postpone(isPrimary, nil)
            return .paused
        }
    }

    private mutating func setAside(_ reason: QuarantineReason) -> Step {
        source.quarantine(batch, reason: reason)
        meters.quarantined.add()
        Log.warning("an event was refused by its destination and set aside") { line in
            line.field("destination", name)
            line.field("seq", Int64(bitPattern: batch.sequence(0)))
            if case .rejected(let status) = reason { line.field("status", Int64(status)) } else { line.field("status", 413) }
        }
        return .quarantined
    }

    /// The next attempt on this way is later; the events are read anew then.
    private mutating func postpone(_ isPrimary: Bool, _ retryAfter: Int64?) {
        meters.retries.add()
        // A device is offline for weeks.
        giveMemoryBack()
        let now = monotonicMilliseconds
        if isPrimary {
            primary.notBefore = now + primary.backoff.pause(retryAfter: retryAfter, random: &random)
        } else if let pause = fallback?.backoff.pause(retryAfter: retryAfter, random: &random) {
            fallback?.notBefore = now + pause
        }
    }

    /// Breaker, back-off, and one line in the log when a way goes bad or comes back.
    private mutating func noteHealth(_ result: DeliveryResult, _ isPrimary: Bool) {
        let now = monotonicMilliseconds
        var route = isPrimary ? primary : (fallback ?? primary)
        let isFailure = result.isFailure
        if case .unreachable(let failure) = result, failure.stage == .cancelled {
            route.breaker.forgive(now: now)
        } else {
            route.breaker.record(isFailure: isFailure, now: now)
        }
        switch result {
        case .delivered, .tooLarge, .rejected:
            route.backoff.reset()
            route.notBefore = 0
            if !route.isWell {
                route.isWell = true
                if isPrimary { meters.trouble.set("") }
                Log.info("destination answers again") { $0.field("destination", name); $0.field("fallback", isPrimary ? 0 : 1) }
            }
        case .retry(let status, _):
            if isFailure { meters.fail(5, joined("it answers ", String(status)), isPrimary: isPrimary) }
            if route.isWell && isFailure {
                route.isWell = false
                Log.warning("destination does not take events now") { line in
                    line.field("destination", name)
                    line.field("fallback", isPrimary ? 0 : 1)
                    line.field("status", Int64(status))
                }
            }
        case .unreachable(let failure):
            if isFailure { meters.fail(Int(failure.stage.rawValue), failure.message, isPrimary: isPrimary) }
            if route.isWell && isFailure {
                route.isWell = false
                Log.warning("destination cannot be reached") { line in
                    line.field("destination", name)
                    line.field("fallback", isPrimary ? 0 : 1)
                    line.field("reason", failure.message)
                }
            }
        }
        if isPrimary { primary = route } else { fallback = route }
        if case .open = primary.breaker.state { meters.isBreakerOpen.set(1) } else { meters.isBreakerOpen.set(0) }
    }
}

/// Makes a request's body out of a batch; keeps its buffers. A class, since the compressor cannot be copied and a
/// sender's other parts can.
private final class BodyEncoder {
    private var deflater: Deflater
    private var body: [UInt8] = []
    /// The body as it is sent.
    private(set) var packed: [UInt8] = []
    var bodyBytes: Int { body.count }

    init(level: Int32) { deflater = Deflater(level: level) }

    /// - Returns: false when there is no memory for it.
    func encode(_ batch: borrowing Batch, _ format: WireFormat, now: Int64) -> Bool {
        batch.write(format, now: now, into: &body)
        packed.removeAll(keepingCapacity: true)
        let text = body
        // Who takes webhooks seldom unpacks them, and the signature is of what arrives.
        if format == .webhook {
            packed.append(contentsOf: text)
            return true
        }
        do {
            try deflater.deflate(text.span, appendingTo: &packed)
            return true
        } catch { return false }
    }

    /// Gives memory back that a large batch has taken.
    func shrink() {
        if body.capacity > Limits.idleBufferBytes { body = [] }
        if packed.capacity > Limits.idleBufferBytes { packed = [] }
        deflater.rest()
    }
}
