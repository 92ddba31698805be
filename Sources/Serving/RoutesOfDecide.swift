// `POST /v1/decide`: one event and the decisions that it leads to, in one round trip. With `durable: true`, the default, the
// writer answers after the commit that has both; with `durable: false` the answer comes from memory, and the event waits for
// its commit like any other: then it is `pending`. Where nothing can be written it is `shed`, and not kept.

import Activation
import Collection
import Formats
import Governance
import HTTP
import Monitoring
import Platform
import Store
import Unification

extension Routes {
    mutating func takeDecide(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .decide, .post, &response), mayGoOn(request, .collect, .post, &response) else { return .answered }
        let submission = table.intake.obtain()
        guard parse(request, into: submission, limit: CollectionLimits.eventBytes + Activation.Limits.questionBytes, &response),
            let isDurable = readDecide(submission, &response)
        else {
            table.intake.recycle(submission)
            table.meters.requestsRefused.add()
            return .answered
        }
        submission.work = .decide
        submission.type = nil
        submission.isBatch = false
        submission.hasGlobalPrivacyControl = request.header("sec-gpc").equals("1")
        if isDurable { return submit(submission, request, &response) }
        return answerFromMemory(submission, request, &response)
    }

    /// Takes `{"event": …, "decisions": […], "context": …, "durable": …}` apart; answers and returns nil for anything else.
    /// - Returns: whether the answer is to wait for the commit.
    private mutating func readDecide(_ submission: Submission, _ response: inout Response) -> Bool? {
        let document = submission.document
        guard let event = document.member(document.root, "event"), document.kind(event) == .object else {
            return refuseDecide("no_event", "event must be a message of the tracking API: {\"event\": {\"type\": …}, \"decisions\": […]}", &response)
        }
        if let list = document.member(document.root, "decisions") {
            guard document.kind(list) == .array, document.count(list) <= Activation.Limits.decisionsAsked else {
                return refuseDecide(
                    "bad_decisions", "decisions must be a list of at most 100 keys; without it all are answered", &response)
            }
            var keys: [[UInt8]] = []
            var element = document.firstChild(list)
            while let node = element {
                guard document.kind(node) == .string else {
                    return refuseDecide("bad_decisions", "a decision is named by its key, as text", &response)
                }
                let key = [UInt8](copying: document.bytes(node))
                if !keys.contains(key) { keys.append(key) }
                element = document.next(node)
            }
            submission.keys = keys
        }
        var isDurable = true
        if let durable = document.member(document.root, "durable") {
            guard let flag = document.bool(durable) else {
                return refuseDecide("bad_durable", "durable must be true or false", &response)
            }
            isDurable = flag
        }
        let context = document.member(document.root, "context") ?? document.member(event, "context")
        if let context, document.kind(context) != .object {
            return refuseDecide("bad_context", "context must be an object", &response)
        }
        submission.question.append(contentsOf: ("{" as StaticString).bytes)
        if let context {
            submission.question.append(contentsOf: ("\"context\":" as StaticString).bytes)
            submission.question.append(contentsOf: document.source(context))
        }
        submission.question.append(UInt8(ascii: "}"))
        submission.document.narrow(to: event)
        return isDurable
    }

    private mutating func refuseDecide(
        _ code: StaticString, _ message: StaticString, _ response: inout Response
    ) -> Bool? {
        sendFailure(code, String(copying: message.bytes), 400, &response)
        return nil
    }

    private mutating func answerFromMemory(
        _ submission: Submission, _ request: borrowing Request, _ response: inout Response
    ) -> Disposition {
        describe(submission, request)
        preparer.prepare(submission)
        guard let event = submission.events.first else {
            let answer = submission.answer
            response.send(submission.status, "application/json", answer.span)
            table.intake.recycle(submission)
            return .answered
        }
        // What is wrong with it, the writer says in its usual words.
        if event.refusal != nil || event.fault != nil || event.rule == nil || !beginReading() {
            return hand(submission, &response, isAnswered: false)
        }
        let begin = clock.monotonicNanoseconds()
        let plans = submission.plans ?? table.plans.current(&planCache)
        let policy = plans.policy
        writer.clear()
        let question = submission.question
        if !decider.take(question.span, policy, into: &writer) {
            response.send(400, "application/json", writer.bytes)
            table.intake.recycle(submission)
            return .answered
        }
        var document: JSONDocument?
        let rule = event.rule.flatMap { plans.tracking.rule($0) }
        if rule != nil, !isRepeat(event) {
            document = submission.document
            document?.narrow(to: event.root)
        }
        let asked = EventAsked(
            document, Array(submission.found[event.identifiers]), at: event.timestamp, signal: event.signal,
            purpose: rule?.purpose ?? 0, isInMemory: true)
        submission.isShed = !table.health.takesEvents
        writer.beginObject()
        writer.key("event")
        writer.string(submission.isShed ? "shed" : "pending")
        decider.answer(policy, submission.keys, asked, now: submission.receivedAt, reader, into: &writer)
        writer.endObject()
        traceDecision()
        let latency = clock.monotonicNanoseconds() - begin
        table.meters.decide.record(nanoseconds: latency)
        decider.noteLatency(nanoseconds: latency)
        if hand(submission, &response, isAnswered: true) == .pending { response.send(200, "application/json", writer.bytes) }
        return .answered
    }

    /// Whether the event has been taken already, as far as the snapshot shows.
    private func isRepeat(_ event: PreparedEvent) -> Bool {
        if event.messageID.isEmpty { return false }
        do throws(StoreError) { return try RecentMessages.isKnown(event.messageKey, reader) } catch { return false }
    }

    private mutating func hand(_ submission: Submission, _ response: inout Response, isAnswered: Bool) -> Disposition {
        submission.isAnswered = isAnswered
        if table.intake.submit(submission) { return .pending }
        table.intake.recycle(submission)
        sendBusy(&response)
        return .answered
    }
}
