// Follows one person through all stages while somebody looks (`gatehouse trace`): a short list of lines in memory, which ends
// when nobody asks any more. It knows the person by hashes only, and no line has anything that an event says.

import Activation
import Formats
import HTTP
import Platform
import Store
import Synchronization
import Unification

/// Any thread may add to it; there is one trace at a time.
public final class Trace: @unchecked Sendable {
    private let isFollowing = Atomic<Bool>(false)
    private let lock = Lock()
    // Under `lock`.
    private var key: IdentifierKey?
    private var person: ProfileID?
    private var lines: [[UInt8]] = []
    /// Those of the transaction under way.
    private var held: [[UInt8]] = []
    /// Number of the line that comes next.
    private var next: UInt64 = 1
    /// When it ends unless somebody asks, nanoseconds of the monotonic clock.
    private var until: Int64 = 0

    public init() {}

    /// Whether somebody is followed; looked at before anything else is done for it.
    public var isOn: Bool { isFollowing.load(ordering: .relaxed) }

    /// Begins to follow somebody in place of whoever was followed before.
    func begin(_ key: IdentifierKey?, _ person: ProfileID?) {
        lock.with {
            (self.key, self.person) = (key, person)
            lines.removeAll()
            prolong()
        }
        var line = Trace.line("begin")
        add(&line)
    }

    private func prolong() {
        until = SystemClock().monotonicNanoseconds() + Limits.traceNanoseconds
        isFollowing.store(true, ordering: .relaxed)
    }

    /// Whether this is about whoever is followed.
    /// - Parameter hasKey: whether an identifier is among those that it has.
    public func isAbout(_ other: ProfileID?, _ hasKey: (IdentifierKey) -> Bool) -> Bool {
        let (key, person) = lock.with { isOver ? (nil, nil) : (self.key, self.person) }
        if let person, let other, person == other { return true }
        guard let key, hasKey(key) else { return false }
        // Whoever was not known when it began is known now.
        if let other, other != .nobody { lock.with { self.person = other } }
        return true
    }

    /// A line to be filled and added.
    @inline(never)
    public static func line(_ stage: StaticString) -> JSONWriter {
        var line = JSONWriter(reserving: 128)
        line.beginObject()
        line.key("at")
        line.string(Timestamp.write(SystemClock().wallMilliseconds()))
        line.key("stage")
        line.string(stage)
        return line
    }

    /// Adds a line; the oldest goes where there are many.
    /// - Parameter isHeld: it counts only once `settle` says that its transaction was committed.
    @inline(never)
    public func add(_ line: inout JSONWriter, isHeld: Bool = false) {
        line.endObject()
        lock.lock()
        defer { lock.unlock() }
        if isOver { return }
        if isHeld {
            if held.count < Limits.traceLines { held.append(line.bytes) }
        } else {
            append(line.bytes)
        }
    }

    /// Whether nobody looks any more; nothing is known of whoever was followed then. Under `lock`.
    private var isOver: Bool {
        if SystemClock().monotonicNanoseconds() <= until { return false }
        end()
        return true
    }

    private func end() {
        isFollowing.store(false, ordering: .relaxed)
        lines.removeAll()
        held.removeAll()
        (key, person, until) = (nil, nil, 0)
    }

    /// Ends it where it follows this person, who is erased.
    public func forget(_ erased: ProfileID) {
        lock.with { if person == erased { end() } }
    }

    private func append(_ line: [UInt8]) {
        if lines.count == Limits.traceLines { lines.removeFirst() }
        lines.append(line)
        next += 1
    }

    /// The transaction under way has ended; the writer says so.
    public func settle(isCommitted: Bool) {
        lock.with {
            if isCommitted { for line in held { append(line) } }
            held.removeAll()
        }
    }

    /// Writes the lines after a number, and goes on following.
    /// - Parameter person: who has the identifier by now.
    /// - Returns: false where somebody else is followed, or nobody.
    func write(after number: UInt64, _ key: IdentifierKey?, _ person: ProfileID?, to writer: inout JSONWriter) -> Bool {
        lock.lock()
        defer { lock.unlock() }
        guard !isOver, key == self.key, key != nil || person == self.person else { return false }
        if let person { self.person = person }
        prolong()
        writer.beginObject()
        writer.key("lines")
        writer.beginArray()
        let first = next - UInt64(lines.count)
        for (index, line) in lines.enumerated() where first + UInt64(index) > number { writer.raw(line.span) }
        writer.endArray()
        writer.key("last")
        writer.uint(next - 1)
        writer.endObject()
        return true
    }
}

extension Routes {
    /// `GET /v1/trace/{ref}`: begins to follow somebody, which the audit log tells; with `?after=N` what has happened since.
    mutating func answerTrace(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .privacy, .get, &response) else { return .answered }
        guard let page = page(request, usually: 0, atMost: 0, &response) else { return .answered }
        guard decode(request.path.extracting(10..<request.path.count)) else {
            response.sendProblem(400, "The reference is not properly percent-encoded UTF-8.")
            return .answered
        }
        let policy = table.plans.current(&planCache).policy
        do throws(StoreError) {
            let found = try findProfile(policy)
            if found.isMalformed || found.profile == nil && found.known == nil {
                response.sendProblem(
                    400, "A reference is a profile id (32 hex digits) or KIND:VALUE with a kind of the bundle, such as user_id:7.")
                return .answered
            }
            let key = found.known.map { IdentifierKey($0) }
            if page.after == 0 { table.trace.begin(key, found.profile) }
            writer.clear()
            guard table.trace.write(after: page.after, key, found.profile, to: &writer) else {
                response.sendProblem(409, "Somebody else is followed by now, or it was not asked for a minute. Begin anew.")
                return .answered
            }
            if page.after > 0 {
                response.send(200, "application/json", writer.bytes)
                return .answered
            }
            let submission = table.intake.obtain()
            submission.work = .read
            submission.profile = found.profile
            submission.named = found.identifier
            submission.answer = writer.bytes
            submission.weight = submission.answer.count
            return submit(submission, request, &response)
        } catch {
            response.sendProblem(500, "The store cannot answer; its state is in GET /readyz and in the log.")
        }
        return .answered
    }

    /// Tells of a decision that was answered.
    mutating func traceDecision() {
        guard table.trace.isOn, let person = decider.person, table.trace.isAbout(person, { _ in false }) else { return }
        let answer = writer.bytes
        var line = Trace.line("decide")
        if answer.count <= Limits.tracedAnswerBytes {
            line.key("answer")
            line.raw(answer.span)
        } else {
            line.key("answerBytes")
            line.uint(UInt64(answer.count))
        }
        table.trace.add(&line)
    }
}
