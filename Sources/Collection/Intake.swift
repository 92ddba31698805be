// The way from the serving threads to the one writer: requests that change something wait here, bounded in number and
// bytes, until the writer takes all of them for its next commit.

import Formats
import Platform
import Store

/// What a request asks the writer to do.
public enum Work: UInt8, Sendable {
    /// Segment messages: one, or a batch.
    case events
    /// `PUT /v1/profiles/{ref}/consent`.
    case consent
    /// Messages from another Gatehouse (hub).
    case arrivals
    /// `GET /v1/profiles/{ref}`: the answer is there already and is given when the audit log says that it was read.
    case read
    /// `GET /v1/profiles/{ref}/export`, likewise.
    case export
    /// `DELETE /v1/profiles/{ref}`.
    case erase
    /// `POST /v1/quarantine/{number}/release`, and the same for all.
    case release
    /// `DELETE /v1/quarantine/{number}`, and the same for all.
    case discard
}

/// One request on its way to the writer and back. Reused: parsing into its document allocates nothing when warm.
public final class Submission {
    public var work = Work.events
    /// The parsed body.
    public var document = JSONDocument()
    /// The kind of event that the route names; nil for a batch.
    public var type: EventType?
    public var isBatch = false
    /// Events of the request that were refused when it was read, in the order of their indices. They are not in the
    /// document; the writer counts them and tells of them with its own.
    public var refused: [RefusedEvent] = []
    /// Bytes of the body and of its parsed values: what it weighs against the intake's limit.
    public var weight = 0
    /// Whether it weighs on the intake now: from `submit` until `recycle`.
    fileprivate var isCounted = false
    /// Of the privacy calls: whose; nil for somebody who is not known.
    public var profile: ProfileID?
    /// The identifier by which a privacy call names the person, if it does.
    public var named: LoggedIdentifier?
    /// Of an export: all identifiers that are the person's alone.
    public var identifiers: [LoggedIdentifier] = []
    /// Of an export, the event in the log after which it goes on; of a call to the quarantine, the event, 0 for all.
    public var number: UInt64 = 0
    /// Who calls, for the audit log.
    public var actor: [UInt8] = []
    /// Number of the source that sends events, as the access list names it.
    public var source = 0
    /// The request came with `Sec-GPC: 1`.
    public var hasGlobalPrivacyControl = false
    /// When the request arrived, on the monotonic clock.
    public var arrivedNanoseconds: Int64 = 0
    /// Where the answer goes: the serving thread and its own mark for the connection.
    public var thread = 0
    public var connection: UInt64 = 0

    /// The answer: an HTTP status and a JSON body.
    public var status: UInt16 = 0
    public var answer: [UInt8] = []

    public init() {}
}

/// A bounded queue of submissions with a pool of spent ones.
public final class Intake: @unchecked Sendable {
    // All members below are only touched under `lock`.
    private let lock = Lock()
    private var waiting: [Submission] = []
    /// Of what waits and of what the writer has taken and not yet answered.
    private var countedBytes = 0
    private var spent: [Submission] = []
    private var isClosed = false
    private var isPoked = false

    public init() {
        waiting.reserveCapacity(64)
        spent.reserveCapacity(Limits.pooledSubmissions)
    }

    /// A submission to fill: a spent one if there is one.
    public func obtain() -> Submission {
        lock.with { spent.popLast() } ?? Submission()
    }

    /// Gives a submission back for reuse.
    public func recycle(_ submission: Submission) {
        if submission.document.capacityBytes > Limits.pooledSubmissionBytes { submission.document = JSONDocument() }
        if submission.answer.capacity > Limits.pooledSubmissionBytes { submission.answer = [] }
        submission.answer.removeAll(keepingCapacity: true)
        submission.type = nil
        submission.isBatch = false
        submission.profile = nil
        submission.named = nil
        submission.identifiers = []
        submission.number = 0
        submission.hasGlobalPrivacyControl = false
        submission.refused = []
        lock.with {
            if submission.isCounted { countedBytes -= submission.weight }
            submission.isCounted = false
            if spent.count < Limits.pooledSubmissions { spent.append(submission) }
        }
    }

    /// Hands a filled submission to the writer.
    /// - Returns: false when the intake is full or closed: answer 503 and Retry-After.
    public func submit(_ submission: Submission) -> Bool {
        lock.lock()
        defer { lock.unlock() }
        if isClosed || waiting.count >= Limits.intakeRequests
            || (countedBytes > 0 && countedBytes + submission.weight > Limits.intakeBytes)
        {
            return false
        }
        waiting.append(submission)
        countedBytes += submission.weight
        submission.isCounted = true
        if waiting.count == 1 { lock.signal() }
        return true
    }

    /// Takes everything that waits; blocks while there is nothing, until `poke`, `close` or the time is up.
    /// - Parameter batch: emptied and filled.
    /// - Returns: false when the intake is closed and empty: the writer ends.
    public func take(into batch: inout [Submission], waitMilliseconds: Int64) -> Bool {
        batch.removeAll(keepingCapacity: true)
        lock.lock()
        defer { lock.unlock() }
        if waiting.isEmpty && !isClosed && !isPoked { lock.wait(milliseconds: waitMilliseconds) }
        isPoked = false
        swap(&batch, &waiting)
        return !(isClosed && batch.isEmpty)
    }

    /// Wakes the writer for work that does not come through here.
    public func poke() {
        lock.with {
            isPoked = true
            lock.signal()
        }
    }

    /// No more is taken; the writer finishes what waits.
    public func close() {
        lock.with {
            isClosed = true
            lock.signal()
        }
    }
}
