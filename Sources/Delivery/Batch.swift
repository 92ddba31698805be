// Some events of the log on their way to one destination, and the body of the request that carries them. It need not know
// where they come from or how they are sent.

import Formats

/// Why an entry of the log is not sent.
public enum PassReason: Sendable {
    /// By consent, filter or damage.
    case filtered
    /// It is no longer in the log.
    case erased, expired, evicted
}

/// The two ways of a destination's events, each in log order.
public enum Lane: UInt8, Sendable {
    /// Of tier `realtime`: ahead of whatever waits in the other.
    case realtime
    case batch
}

/// Events of one request, in log order. Filled by the outbox, written out by the sender; keeps its memory.
public struct Batch {
    /// The messages one after another, with commas between them.
    public private(set) var messages: [UInt8] = []
    /// Bytes of `messages`, also when those have been lent.
    private(set) var byteCount = 0
    /// Where each message ends in `messages`, and its number in the log.
    private var entries: [(end: Int, sequence: UInt64)] = []
    /// How many messages may still be added, and up to how many bytes of `messages`.
    private var maximumEvents = 0
    private var maximumBytes = 0
    /// The last entry of the log that was looked at, whether or not it is in the batch; nil: none was.
    public private(set) var lastSequence: UInt64?
    /// Entries that were looked at and will not be sent, for the source's own accounts.
    public private(set) var passedCount = 0
    /// Of these, those that are no longer in the log because their person was erased, their time was up, or room was
    /// needed; the rest was filtered.
    public private(set) var erasedCount = 0
    public private(set) var expiredCount = 0
    public private(set) var evictedCount = 0
    /// The entry behind which it begins; nil: where its lane's cursor is.
    public private(set) var after: UInt64?
    /// Whose events it holds.
    public private(set) var lane = Lane.batch
    /// Of each purpose, by its number in the bundle: messages, and bytes of them. The last is for those without.
    private(set) var purposes = [(events: Int, bytes: Int)](repeating: (0, 0), count: Limits.purposes + 1)
    private var skippedCount = 0
    /// When the oldest of the messages was received, milliseconds since the epoch.
    private(set) var oldestAt = Int64.max
    /// Of the one message of a webhook: by what its receiver knows it when it comes again. Set by the source.
    public var id: [UInt8] = []

    public init() {}

    /// Messages in the batch.
    public var count: Int { entries.count }

    /// The log's number of a message.
    public func sequence(_ index: Int) -> UInt64 { entries[index].sequence }

    /// Whether nothing more can be added.
    public var isFull: Bool { entries.count >= maximumEvents || messages.count >= maximumBytes }

    /// Empties it and sets its bounds.
    /// - Parameter after: the entry behind which it begins; nil: where its lane's cursor is.
    mutating func begin(_ lane: Lane = .batch, after: UInt64? = nil, maximumEvents: Int, maximumBytes: Int) {
        self.lane = lane
        self.after = after
        skippedCount = 0
        oldestAt = .max
        for index in purposes.indices { purposes[index] = (0, 0) }
        messages.removeAll(keepingCapacity: true)
        byteCount = 0
        entries.removeAll(keepingCapacity: true)
        self.maximumEvents = maximumEvents
        self.maximumBytes = maximumBytes
        lastSequence = nil
        passedCount = 0
        erasedCount = 0
        expiredCount = 0
        evictedCount = 0
    }

    /// Adds the next event: a complete JSON object as it will be sent.
    /// - Parameters:
    ///   - sequence: its number in the log, above all before it.
    ///   - message: the JSON text.
    ///   - purpose: the event's purpose by its number in the bundle; nil: it has none.
    ///   - time: when the event was received, milliseconds since the epoch.
    /// - Returns: false when it does not fit: stop, it will come with the next batch. The first always fits.
    public mutating func append(sequence: UInt64, _ message: Span<UInt8>, purpose: Int? = nil, at time: Int64 = .max) -> Bool {
        if !entries.isEmpty {
            guard entries.count < maximumEvents, messages.count + 1 + message.count <= maximumBytes else { return false }
            messages.append(UInt8(ascii: ","))
        }
        messages.append(contentsOf: message)
        byteCount = messages.count
        entries.append((messages.count, sequence))
        oldestAt = min(oldestAt, time)
        let place = min(purpose ?? Limits.purposes, Limits.purposes)
        purposes[place].events += 1
        purposes[place].bytes += message.count
        lastSequence = sequence
        return true
    }

    /// Goes over an entry that the other lane has settled.
    /// - Returns: as `pass`.
    public mutating func skip(sequence: UInt64) -> Bool {
        lastSequence = sequence
        skippedCount += 1
        return passedCount + skippedCount < Limits.entriesPassed
    }

    /// Notes that an entry of the log is not sent here: filtered, erased, expired, without consent.
    /// - Parameter count: so many entries, of which `sequence` is the last.
    /// - Returns: false when the batch has looked at enough: stop. (Otherwise a filter that matches nothing would keep
    ///   the sender from its clock and its stop request for as long as the log is.)
    public mutating func pass(sequence: UInt64, as reason: PassReason = .filtered, count: Int = 1) -> Bool {
        lastSequence = sequence
        passedCount += count
        switch reason {
        case .filtered: break
        case .erased: erasedCount += count
        case .expired: expiredCount += count
        case .evicted: evictedCount += count
        }
        return passedCount + skippedCount < Limits.entriesPassed
    }

    /// Writes the request's body.
    /// - Parameter now: milliseconds since the epoch, for `sentAt`.
    func write(_ format: WireFormat, now: Int64, into body: inout [UInt8]) {
        body.removeAll(keepingCapacity: true)
        body.reserveCapacity(messages.count + 64)
        switch format {
        case .segment:
            body.append(contentsOf: ("{\"batch\":[" as StaticString).bytes)
            body.append(contentsOf: messages.span)
            body.append(contentsOf: ("],\"sentAt\":\"" as StaticString).bytes)
            Timestamp.append(now, to: &body)
            body.append(contentsOf: ("\"}" as StaticString).bytes)
        case .cloudEvents:
            body.append(UInt8(ascii: "["))
            body.append(contentsOf: messages.span)
            body.append(UInt8(ascii: "]"))
        case .webhook:
            body.append(contentsOf: messages.span)
        }
    }

    /// Gives another batch the memory of the messages, which are on their way: only one of the two needs that much at a time.
    mutating func lendMemory(to other: inout Batch) { swap(&messages, &other.messages) }

    /// Gives memory back that a large batch has taken.
    mutating func shrink() {
        guard messages.capacity > Limits.idleBufferBytes else { return }
        messages = []
        entries = []
    }
}
