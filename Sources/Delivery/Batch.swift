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

/// Events of one request, in log order. Filled by the outbox, written out by the sender; keeps its memory.
public struct Batch {
    /// The messages one after another, with commas between them.
    public private(set) var messages: [UInt8] = []
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
    mutating func begin(maximumEvents: Int, maximumBytes: Int) {
        messages.removeAll(keepingCapacity: true)
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
    /// - Returns: false when it does not fit: stop, it will come with the next batch. The first always fits.
    public mutating func append(sequence: UInt64, _ message: Span<UInt8>) -> Bool {
        if !entries.isEmpty {
            guard entries.count < maximumEvents, messages.count + 1 + message.count <= maximumBytes else { return false }
            messages.append(UInt8(ascii: ","))
        }
        messages.append(contentsOf: message)
        entries.append((messages.count, sequence))
        lastSequence = sequence
        return true
    }

    /// Notes that an entry of the log is not sent here: filtered, erased, expired, without consent.
    /// - Returns: false when the batch has looked at enough: stop. (Otherwise a filter that matches nothing would keep
    ///   the sender from its clock and its stop request for as long as the log is.)
    public mutating func pass(sequence: UInt64, as reason: PassReason = .filtered) -> Bool {
        lastSequence = sequence
        passedCount += 1
        switch reason {
        case .filtered: break
        case .erased: erasedCount += 1
        case .expired: expiredCount += 1
        case .evicted: evictedCount += 1
        }
        return passedCount < 10_000
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

    /// Gives memory back that a large batch has taken.
    mutating func shrink() {
        guard messages.capacity > Limits.idleBufferBytes else { return }
        messages = []
        entries = []
    }
}
