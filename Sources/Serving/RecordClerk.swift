// Makes whole copies of people's records, on a thread of its own: it goes through the log, which may take longer than a
// decision or an event can wait. The copy is given when the writer has put a line about it into the audit log.

import Activation
import Collection
import Formats
import Governance
import Monitoring
import Platform
import Store
import Unification

/// The queue and the work of the one clerk.
public final class RecordClerk: @unchecked Sendable {
    private let database: Database
    private let intake: Intake
    private let subjects: AuditSubject
    private let plans: PlanHolder
    private let meters: Meters
    private let lock = Lock()
    // Under `lock`.
    private var waiting: [Submission] = []
    private var isClosed = false

    public init(database: Database, intake: Intake, subjects: AuditSubject, plans: PlanHolder, meters: Meters) {
        self.plans = plans
        self.meters = meters
        self.database = database
        self.intake = intake
        self.subjects = subjects
    }

    /// Takes an order: a submission whose `answer` is the beginning of the copy, an open JSON object, and whose
    /// `profile` says whose.
    /// - Returns: false when there are too many already: answer 503 and Retry-After.
    func submit(_ order: Submission) -> Bool {
        lock.lock()
        defer { lock.unlock() }
        if isClosed || waiting.count >= Limits.waitingExports { return false }
        waiting.append(order)
        lock.signal()
        return true
    }

    /// Works until `close`.
    public func run() {
        let reader: Reader
        do throws(StoreError) { reader = try database.makeReader() } catch {
            Log.error("exports are not possible", because: error.message)
            return
        }
        var clerk = reader
        while let order = next() {
            do throws(StoreError) {
                if order.work == .report {
                    try report(order, &clerk)
                } else {
                    try clerk.begin()
                    try complete(order, clerk)
                }
            } catch {
                Log.error("a record could not be copied", because: error.message)
                order.status = 503
                order.answer = Array("{\"success\":false,\"code\":\"not_read\",\"message\":\"the store cannot be read just now\"}".utf8)
            }
            clerk.end()
            order.weight = order.answer.count
            while !intake.submit(order) {
                if isDone { return }
                sleep(milliseconds: 20)
            }
        }
    }

    private func next() -> Submission? {
        lock.lock()
        defer { lock.unlock() }
        while waiting.isEmpty && !isClosed { lock.wait() }
        return isClosed ? nil : waiting.removeFirst()
    }

    private var isDone: Bool { lock.with { isClosed } }

    /// Lets the thread end.
    public func close() {
        lock.with {
            isClosed = true
            lock.broadcast()
        }
    }

    /// Counts the experiments over all profiles, a part of them in each snapshot, so that none holds pages for long.
    private func report(_ order: Submission, _ reader: inout Reader) throws(StoreError) {
        var cache = PlanCache()
        var report = ExperimentReport(plans.current(&cache).policy, now: order.receivedAt)
        var start: [UInt8]? = report.isEmpty ? nil : []
        var problem: StoreError?
        while let first = start, problem == nil, !isDone {
            try reader.begin()
            start = nil
            var left = Limits.reportedPerSnapshot
            try reader.scan(reader.tables.profiles, from: first.span) { key, record in
                if left == 0 {
                    start = [UInt8](copying: key)
                    return false
                }
                left -= 1
                do throws(StoreError) { try report.add(key, record, reader) } catch { problem = error }
                return problem == nil
            }
            reader.end()
        }
        if let problem { throw problem }
        var writer = JSONWriter(reserving: 1024)
        report.write(to: &writer)
        order.answer = writer.bytes
    }

    private func complete(_ order: Submission, _ reader: borrowing Reader) throws(StoreError) {
        // Of somebody who is not known only the quarantine can hold something.
        let person = order.profile ?? ProfileID(high: .max, low: .max)
        var writer = JSONWriter(reserving: 8192)
        writer.beginObject()
        let record = order.answer
        writer.key("record")
        writer.raw(record.span)
        writer.key("events")
        var found = 0
        let first = order.number == .max ? .max : order.number + 1
        let next = try writeEntries(reader.tables.log, of: person, order, from: first, reader, &writer, &found)
        writer.key("quarantined")
        _ = try writeEntries(reader.tables.quarantine, of: person, order, from: 0, reader, &writer, &found)
        writer.key("pending")
        try writeTriggers(order, reader, &writer)
        writer.key("audit")
        try writeLines(about: subjects.name(of: person), reader, &writer)
        // Said rather than left out in silence: the person has more events than one answer may hold.
        if let next {
            writer.key("after")
            writer.uint(next)
        }
        writer.endObject()
        order.answer = writer.bytes
        if order.profile == nil, found == 0 {
            order.status = 404
            order.answer = Array("{\"status\":404,\"title\":\"Nobody here is known by this reference.\"}".utf8)
        }
    }

    /// Writes the entries of a table that are about a person, as they were taken.
    /// - Returns: the number after which to go on when there are more than fit; nil when these are all.
    private func writeEntries(
        _ table: Table, of person: ProfileID, _ order: Submission, from first: UInt64, _ reader: borrowing Reader,
        _ output: inout JSONWriter, _ count: inout Int
    ) throws(StoreError) -> UInt64? {
        var last: UInt64 = 0
        var isFull = false
        var written = 0
        var cache = PlanCache()
        let plan = plans.current(&cache).policy.identifiers
        var writer = output
        let limit = writer.bytes.count + Limits.exportBytes
        let start = NumberKey(first)
        writer.beginArray()
        try reader.scan(table, from: start.bytes.span) { key, value in
            guard let entry = LogEntryView(value) else {
                // Whose it was nobody can tell. Nothing, or a mark, stands where there is no entry any more.
                if value.count > 8 { meters.badRecords.add() }
                return true
            }
            guard let number = NumberKey.decode(key),
                entry.isAbout(person, order.identifiers, isSomebodys: { plan.isSomebodys($0, in: reader) })
            else { return true }
            if writer.bytes.count > limit {
                isFull = true
                return false
            }
            last = number
            written += 1
            writer.beginObject()
            writer.key("receivedAt")
            var time: [UInt8] = []
            Timestamp.append(entry.header.receivedAt, to: &time)
            writer.string(time)
            writer.key("messageId")
            writer.string(entry.messageID)
            writer.key("event")
            writer.raw(entry.body)
            writer.endObject()
            return true
        }
        writer.endArray()
        output = writer
        count += written
        return isFull ? last : nil
    }

    /// Writes the triggers that wait for a person: which, until when, and what they are about.
    private func writeTriggers(
        _ order: Submission, _ reader: borrowing Reader, _ output: inout JSONWriter
    ) throws(StoreError) {
        var cache = PlanCache()
        let triggers = plans.current(&cache).policy.triggers
        var writer = output
        writer.beginArray()
        for identifier in order.identifiers {
            for (tag, record) in try Timers.records(of: IdentifierKey(identifier), in: reader) {
                guard let trigger = triggers.trigger(tag: tag), let state = TriggerState(record.span) else { continue }
                let entry = state.cause
                guard let cause = LogEntryView(entry.span) else { continue }
                writer.beginObject()
                writer.key("trigger")
                writer.string(trigger.name)
                writer.key("due")
                let time = Timestamp.write(state.wanted)
                writer.string(time)
                writer.key("event")
                writer.raw(cause.body)
                writer.endObject()
            }
        }
        writer.endArray()
        output = writer
    }

    /// What was done with the record, oldest first.
    private func writeLines(
        about subject: [UInt8], _ reader: borrowing Reader, _ output: inout JSONWriter
    ) throws(StoreError) {
        var writer = output
        let limit = writer.bytes.count + Limits.exportBytes
        writer.beginArray()
        try AuditLog.forEachLine(from: 0, reader) { _, line in
            if writer.bytes.count > limit { return false }
            if contains(line, subject.span) { AuditLog.write(line, to: &writer) }
            return true
        }
        writer.endArray()
        output = writer
    }
}

/// Whether a text holds another.
private func contains(_ text: Span<UInt8>, _ part: Span<UInt8>) -> Bool {
    var start = 0
    while start + part.count <= text.count {
        if equal(text.extracting(start..<start + part.count), part) { return true }
        start += 1
    }
    return false
}
