// The route of CloudEvents: which content mode a request is in, and the way of its events into the intake. What
// becomes of a CloudEvent is Collection's affair.

import Collection
import Formats
import Governance
import HTTP
import Monitoring

extension Routes {
    /// `POST /v1/events`: one CloudEvent in structured or binary mode, or a batch (CloudEvents 1.0, HTTP binding 3).
    mutating func takeCloudEvents(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .collect, .post, &response) else { return .answered }
        let submission = table.intake.obtain()
        defer { cloudEvents.clear() }
        guard translate(request, into: submission, &response), finishTranslation(submission, &response) else {
            table.intake.recycle(submission)
            table.meters.requestsRefused.add()
            return .answered
        }
        submission.work = table.isHub ? .arrivals : .events
        submission.hasGlobalPrivacyControl = request.header("sec-gpc").equals("1")
        return submit(submission, request, &response)
    }

    /// HTTP binding 3: the media type tells the mode. `submission.document` is used for the body.
    private mutating func translate(
        _ request: borrowing Request, into submission: Submission, _ response: inout Response
    ) -> Bool {
        let type = request.header("content-type")
        if isMediaType(type, "application/cloudevents-batch+json") {
            submission.isBatch = true
            guard parse(
                request, into: submission, limit: CollectionLimits.batchBytes, depth: CloudEvents.batchDepth,
                root: .array, &response)
            else { return false }
            if submission.document.count(submission.document.root) > CollectionLimits.batchEvents {
                sendFailure("too_many", "a batch may have 2500 events", 413, &response)
                return false
            }
            cloudEvents.takeBatch(submission.document)
            return true
        }
        if isMediaType(type, "application/cloudevents+json") {
            guard parse(
                request, into: submission, limit: CollectionLimits.eventBytes, depth: CloudEvents.structuredDepth,
                &response)
            else { return false }
            cloudEvents.takeStructured(submission.document)
            return true
        }
        if isOtherFormat(type) {
            sendFailure(
                "bad_format", "CloudEvents are taken as application/cloudevents+json, application/cloudevents-batch+json "
                    + "or in binary mode", 415, &response)
            return false
        }
        return translateBinary(request, &response)
    }

    /// Whether it is a CloudEvent in a format that is not read here, such as `application/cloudevents+avro`.
    private func isOtherFormat(_ type: Span<UInt8>) -> Bool {
        let prefix: StaticString = "application/cloudevents"
        return type.count >= prefix.utf8CodeUnitCount
            && type.extracting(0..<prefix.utf8CodeUnitCount).equalsIgnoringCase(prefix)
    }

    private mutating func translateBinary(_ request: borrowing Request, _ response: inout Response) -> Bool {
        cloudEvents.beginBinary()
        for index in 0..<request.headerCount {
            cloudEvents.takeHeader(request.headerName(index), request.headerValue(index))
        }
        switch unpack(request, limit: CollectionLimits.eventBytes, &response) {
        case .refused: return false
        case .asItCame: cloudEvents.takeBody(request.body)
        case .unpacked:
            let body = takeUnpacked()
            cloudEvents.takeBody(body.span)
        }
        return true
    }

    /// Puts what has been translated into the submission, as if it had come so.
    private mutating func finishTranslation(_ submission: Submission, _ response: inout Response) -> Bool {
        submission.refused = cloudEvents.refused
        // One event that was refused goes to the writer too, which keeps the accounts.
        if cloudEvents.output.bytes.isEmpty {
            submission.document = JSONDocument()
            submission.bodyBytes = 0
            submission.weight = 0
            return true
        }
        let text = cloudEvents.output.bytes
        return parse(text.span, into: submission, depth: CloudEvents.outputDepth, root: .object, &response)
    }
}
