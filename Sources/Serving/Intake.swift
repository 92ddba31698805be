// The way from the serving threads to the one writer: requests that change something wait here, bounded in number and
// bytes, until the writer takes all of them for its next commit. Large ones wait before that for their preparation.

import Collection
import Cryptography
import Formats
import Governance
import Platform
import Store
import Unification

/// What a request asks the writer to do.
public enum Work: UInt8, Sendable {
    /// Segment messages: one, or a batch.
    case events
    /// `POST /v1/decide`: an event, and what is decided once it has been taken.
    case decide
    /// `PUT /v1/profiles/{ref}/consent`.
    case consent
    /// Messages from another Gatehouse (hub).
    case arrivals
    /// `POST /v1/sync`: what a device of the fleet tells, and wants to know (hub).
    case sync
    /// `POST /v1/devices/{name}/{command}`: what a device shall do (hub).
    case command
    /// What this device's own hub has answered to `sync`; nobody waits for an answer.
    case learn
    /// `GET /v1/profiles/{ref}`: the answer is there already and is given when the audit log says that it was read.
    case read
    /// `GET /v1/profiles/{ref}/export`, likewise.
    case export
    /// `DELETE /v1/profiles/{ref}`.
    case erase
    /// `POST /v1/profiles/{ref}/unlink`.
    case unlink
    /// `POST /v1/quarantine/{number}/release`, and the same for all.
    case release
    /// `DELETE /v1/quarantine/{number}`, and the same for all.
    case discard
    /// `GET /v1/experiments`: the answer is made by the clerk.
    case report
}

/// One request on its way to the writer and back. Reused: parsing into its document allocates nothing when warm.
public final class Submission {
    public var work = Work.events
    /// The parsed body; of events, once they are prepared, a list of what is kept of them.
    public var document = JSONDocument()
    /// The kind of event that the route names; nil for a batch.
    public var type: EventType?
    public var isBatch = false
    /// Events of the request that were refused when it was read, in the order of their indices. They are not in the
    /// document; the writer counts them and tells of them with its own.
    public var refused: [RefusedEvent] = []
    /// Bytes of the body, unpacked.
    public var bodyBytes = 0
    /// Bytes of the body and of its parsed values: what it weighs against the intake's limit.
    public var weight = 0
    /// Whether it weighs on the intake now: from `submit` until `recycle`.
    fileprivate var isCounted = false
    /// Of the privacy calls: whose; nil for somebody who is not known.
    public var profile: ProfileID?
    /// The identifier by which a privacy call names the person, if it does.
    public var named: LoggedIdentifier?
    /// What that was hashed to under the former pepper, while a rotation lasts.
    public var former: Digest256?
    /// Of an export: all identifiers that are the person's alone. Of an unlinking: the other end, if one is named. Of what a
    /// fleet tells: those who are to be erased.
    public var identifiers: [LoggedIdentifier] = []
    /// Of an export, the event in the log after which it goes on; of a call to the quarantine, the event, 0 for all; of a
    /// command, which.
    public var number: UInt64 = 0
    /// Who calls, for the audit log.
    public var actor: [UInt8] = []
    /// Number of the source that sends events, as the access list names it.
    public var source = 0
    /// At a hub: whom the token of the request speaks for, and whether it may say that somebody was erased.
    public var speaker = Speaker()
    public var mayErase = false
    /// The request came with `Sec-GPC: 1`.
    public var hasGlobalPrivacyControl = false
    /// When the request arrived, milliseconds since the epoch.
    public var receivedAt: Int64 = 0
    /// The same on the monotonic clock.
    public var arrivedNanoseconds: Int64 = 0
    /// Where the answer goes: the serving thread and its own mark for the connection.
    public var thread = 0
    public var connection: UInt64 = 0

    /// Of `decide`: the keys that are asked for (nil: all), and `{"context": …}`. Of what a fleet tells, all of it. Of a command,
    /// the device's name.
    public var keys: [[UInt8]]?
    public var question: [UInt8] = []
    /// It has been answered from memory; nobody waits for the commit.
    public var isAnswered = false
    /// And the answer says that its event is not kept: it only counts.
    public var isShed = false

    /// The answer: an HTTP status and a JSON body.
    public var status: UInt16 = 0
    public var answer: [UInt8] = []

    // What `EventPreparer` makes of events.
    /// The plans by which they were prepared, and by which the writer goes on; nil for other work.
    public internal(set) var plans: Plans?
    public internal(set) var events: [PreparedEvent] = []
    public internal(set) var found: [HashedIdentifier] = []
    public internal(set) var texts: [UInt8] = []
    public internal(set) var refusals: [EventRefusal] = []
    public internal(set) var faults: [EventFault] = []

    public init() {}

    /// The list of a batch's messages in `document`; nil for one that is none or too long, which is then its answer.
    public func batch(in document: borrowing JSONDocument) -> JSONNode? {
        guard let list = document.member(document.root, "batch"), document.kind(list) == .array else {
            fail(400, "no_batch", "the body must be {\"batch\": [ … ]}")
            return nil
        }
        if document.count(list) > CollectionLimits.batchEvents {
            fail(413, "too_many", "a batch may have 2500 events")
            return nil
        }
        return list
    }

    /// Adds to its weight what the batch's own members will take, which are written into each of its events.
    /// - Returns: false where that is too much, which is then its answer.
    func weighJoined(in document: borrowing JSONDocument) -> Bool {
        guard let list = batch(in: document) else { return false }
        let outer = OuterMembers(document, batch: document.root)
        var each = 0
        for member in [outer.context, outer.integrations] {
            guard let member else { continue }
            each += document.source(member).count + Limits.preparedNodeBytes * document.nodeCount(ofMember: member)
        }
        let count = document.count(list)
        // Divided, since the product may be beyond 32 bits.
        if count > 0, each > Limits.joinedBytes / count {
            fail(
                413, "too_large",
                """
                context and integrations of a batch are written into each of its events, which would come to more than 1 MiB \
                here: send fewer events at once, or less of them
                """)
            return false
        }
        weight += each * count
        return true
    }

    /// Gives the request as a whole its answer, in the form of the Segment API.
    public func fail(_ status: UInt16, _ code: StaticString, _ message: StaticString) {
        self.status = status
        var writer = JSONWriter(reserving: 128)
        writer.failure(code, message.bytes)
        answer = writer.bytes
    }

    fileprivate func clear() {
        if document.capacityBytes > Limits.pooledSubmissionBytes { document = JSONDocument() }
        // It is on its way to the client.
        answer = []
        // A request that was refused at the door may have got one already.
        status = 0
        type = nil
        isBatch = false
        profile = nil
        named = nil
        former = nil
        identifiers = []
        number = 0
        keys = nil
        question = []
        isAnswered = false
        isShed = false
        hasGlobalPrivacyControl = false
        refused = []
        plans = nil
        let isLarge = events.count > Limits.pooledEvents
        events.removeAll(keepingCapacity: !isLarge)
        found.removeAll(keepingCapacity: !isLarge)
        texts.removeAll(keepingCapacity: !isLarge)
        refusals.removeAll()
        faults.removeAll()
    }
}

extension JSONWriter {
    /// An error in the form of the Segment API: `code` and `message`.
    mutating func failure(_ code: StaticString, _ message: Span<UInt8>) {
        beginObject()
        key("success")
        bool(false)
        key("code")
        string(code)
        key("message")
        string(message)
        endObject()
    }
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
    /// Submissions in `unprepared` and the one that is being prepared.
    private var inPreparation = 0

    private let preparerLock = Lock()
    // Under `preparerLock`.
    private var unprepared: [Submission] = []
    private var hasPreparerEnded = false

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
        submission.clear()
        lock.with {
            if submission.isCounted { countedBytes -= submission.weight }
            submission.isCounted = false
            if spent.count < Limits.pooledSubmissions { spent.append(submission) }
        }
    }

    /// Hands a filled submission to the writer.
    /// - Parameter isPrepared: false for events that `takeUnprepared` shall give out first.
    /// - Returns: false when the intake is full or closed: answer 503 and Retry-After.
    public func submit(_ submission: Submission, isPrepared: Bool = true) -> Bool {
        lock.lock()
        if isClosed || waiting.count + inPreparation >= Limits.intakeRequests
            || (countedBytes > 0 && countedBytes + submission.weight > Limits.intakeBytes)
        {
            lock.unlock()
            return false
        }
        countedBytes += submission.weight
        submission.isCounted = true
        if isPrepared {
            waiting.append(submission)
            if waiting.count == 1 { lock.signal() }
        } else {
            inPreparation += 1
        }
        lock.unlock()
        if isPrepared { return true }
        preparerLock.with {
            unprepared.append(submission)
            if unprepared.count == 1 { preparerLock.signal() }
        }
        return true
    }

    /// Whether a body of this size cannot be taken just now: asked before it is parsed, which takes three times its memory.
    public func isFull(forBody bytes: Int) -> Bool {
        lock.with { isClosed || (countedBytes > 0 && countedBytes + 2 * bytes > Limits.intakeBytes) }
    }

    // MARK: Preparation

    /// The next submission whose events are to be prepared; blocks while there is none. Give it to `addPrepared`.
    /// - Returns: nil when the intake is closed and no more will come.
    public func takeUnprepared() -> Submission? {
        preparerLock.lock()
        defer { preparerLock.unlock() }
        while unprepared.isEmpty {
            if hasPreparerEnded { return nil }
            preparerLock.wait()
        }
        return unprepared.removeFirst()
    }

    /// Hands a submission that has been prepared to the writer.
    public func addPrepared(_ submission: Submission) {
        lock.with {
            inPreparation -= 1
            waiting.append(submission)
            if waiting.count == 1 { lock.signal() }
        }
    }

    // MARK: The writer's side

    /// Takes everything that waits; blocks while there is nothing, until `poke`, `close` or the time is up.
    /// - Parameter batch: emptied and filled.
    /// - Returns: false when the intake is closed and empty: the writer ends.
    public func take(into batch: inout [Submission], waitMilliseconds: Int64) -> Bool {
        batch.removeAll(keepingCapacity: true)
        lock.lock()
        defer { lock.unlock() }
        if waiting.isEmpty && !isPoked && !(isClosed && inPreparation == 0) { lock.wait(milliseconds: waitMilliseconds) }
        isPoked = false
        swap(&batch, &waiting)
        return !(isClosed && batch.isEmpty && inPreparation == 0)
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
        preparerLock.with {
            hasPreparerEnded = true
            preparerLock.signal()
        }
    }
}
