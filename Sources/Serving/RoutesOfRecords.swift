// The routes of people's records, of the hub's arrivals, and of the agent's own state.

import Activation
import Collection
import Formats
import Governance
import HTTP
import Monitoring
import Platform
import Store
import Unification

extension ConnectionToken {
    /// For whoever carries it through a room that does not know connections.
    public var rawValue: UInt64 { packed }
    public init(rawValue: UInt64) { self.init(packed: rawValue) }
}

extension Routes {
    // MARK: Health

    mutating func answerHealth(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard isRead(request, &response) else { return .answered }
        response.send(200, "application/json", Array("{\"status\":\"alive\"}".utf8))
        return .answered
    }

    /// Ready means: the store can be read and the writer can commit. The words say how fresh the bundle is.
    mutating func answerReadiness(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard isRead(request, &response) else { return .answered }
        let state = table.health.current
        writer.clear()
        writer.beginObject()
        writer.key("status")
        writer.string(state.word)
        writer.key("bundle")
        writer.uint(table.policies.current(&policyCache).version)
        writer.endObject()
        response.send(state.isReady ? 200 : 503, "application/json", writer.bytes)
        return .answered
    }

    mutating func answerMetrics(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .operate, .get, &response) else { return .answered }
        guard beginReading() else {
            response.sendProblem(503, "The store cannot be read just now.")
            return .answered
        }
        var metrics = MetricsWriter()
        table.writeMetrics(&metrics, reader)
        response.send(200, "text/plain; version=0.0.4", metrics.text)
        return .answered
    }

    private func isRead(_ request: borrowing Request, _ response: inout Response) -> Bool {
        if request.method == .get || request.method == .head { return true }
        response.header("Allow", "GET, HEAD")
        response.sendProblem(405, "This route is only read.")
        return false
    }

    // MARK: A person's record

    mutating func answerProfile(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        let rest = request.path.extracting(13..<request.path.count)
        let consentSuffix: StaticString = "/consent"
        let suffix = consentSuffix.bytes
        let isConsent = rest.count > suffix.count
            && equal(rest.extracting(rest.count - suffix.count..<rest.count), suffix)
        guard mayGoOn(request, .privacy, isConsent ? .put : .get, &response) else { return .answered }
        guard beginReading() else {
            response.sendProblem(503, "The store cannot be read just now.")
            return .answered
        }
        scratch.removeAll(keepingCapacity: true)
        guard percentDecode(isConsent ? rest.extracting(0..<rest.count - suffix.count) : rest, into: &scratch) else {
            response.sendProblem(400, "The reference is not properly percent-encoded.")
            return .answered
        }
        let policy = table.policies.current(&policyCache)
        do throws(StoreError) {
            switch try findProfile(policy) {
            case .unknown: response.sendProblem(404, "Nobody here is known by this reference.")
            case .malformed:
                response.sendProblem(
                    400, "A reference is a profile id (32 hex digits) or KIND:VALUE with a kind of the bundle, such as user_id:7.")
            case .found(let profile):
                if isConsent { return changeConsent(profile, request, &response) }
                try writeProfile(profile, policy, &response)
            }
        } catch {
            response.sendProblem(500, "The store cannot answer; its state is in GET /readyz and in the log.")
        }
        return .answered
    }

    private enum Found {
        case found(ProfileID), unknown, malformed
    }

    /// Finds the profile that the reference in `scratch` names, and overwrites it: it may be a raw identifier.
    private mutating func findProfile(_ policy: Policy) throws(StoreError) -> Found {
        var reference: [UInt8] = []
        swap(&reference, &scratch)
        defer { for index in reference.indices { reference[index] = 0 } }
        var colon = 0
        while colon < reference.count, reference[colon] != UInt8(ascii: ":") { colon += 1 }
        if colon == reference.count {
            guard let bytes = Hex.decode(reference.span), let profile = ProfileID(bytes.span) else { return .malformed }
            let key = profile.bytes
            return try reader.get(reader.tables.profiles, key.span) == nil ? .unknown : .found(profile)
        }
        guard let kind = policy.identifiers.kindIndex(named: reference.span.extracting(0..<colon)) else { return .malformed }
        guard
            let identifier = policy.identifiers.hash(
                RawIdentifier(reference.span.extracting(colon + 1..<reference.count)), kindIndex: kind, pepper: table.pepper,
                using: &normalized)
        else { return .unknown }
        guard let profile = try IdentityGraph.profile(of: identifier, in: reader) else { return .unknown }
        return .found(profile)
    }

    private mutating func writeProfile(
        _ profile: ProfileID, _ policy: Policy, _ response: inout Response
    ) throws(StoreError) {
        let now = clock.wallMilliseconds()
        let key = profile.bytes
        var record: [UInt8]?
        if let found = try reader.get(reader.tables.profiles, key.span) { record = [UInt8](copying: found) }
        var output = JSONWriter(reserving: 1024)
        output.beginObject()
        output.key("id")
        output.string(Hex.encode(key.span))
        output.key("identifiers")
        try writeIdentifiers(profile, policy, &output)
        output.key("attributes")
        writeAttributes(record ?? [], policy, now, &output)
        output.key("audiences")
        let bytes = record ?? []
        try decider.writeAudiences(policy, of: profile, record: bytes.span, now: now, reader, into: &output)
        output.key("consent")
        if let choices = try reader.get(reader.tables.consent, key.span) {
            ConsentRecord.write(choices, policy.purposes, to: &output)
        } else {
            ConsentRecord.write(Span<UInt8>(), policy.purposes, to: &output)
        }
        output.endObject()
        response.send(200, "application/json", output.bytes)
    }

    private func writeAttributes(_ record: [UInt8], _ policy: Policy, _ now: Int64, _ output: inout JSONWriter) {
        do throws(RecordDamage) {
            let view = try ProfileView(record.span)
            var index = ProfileIndex()
            index.fill(view, policy.attributes)
            ProfileWriter.writeAttributes(view, index, policy.attributes, now: now, to: &output)
        } catch {
            if !record.isEmpty { table.meters.badRecords.add() }
            output.null()
        }
    }

    /// Kinds and hashes: raw values are nowhere to be had.
    private func writeIdentifiers(
        _ profile: ProfileID, _ policy: Policy, _ writer: inout JSONWriter
    ) throws(StoreError) {
        writer.beginArray()
        var list: [(UInt32, [UInt8])] = []
        try IdentityGraph.forEachIdentifier(of: profile, in: reader) { tag, digest in
            list.append((tag, Hex.encode(digest)))
        }
        for (tag, digest) in list {
            writer.beginObject()
            writer.key("kind")
            if let index = policy.identifiers.kindIndex(tag: tag) {
                writer.string(policy.identifiers.kinds[index].name)
            } else {
                writer.null()
            }
            writer.key("hmac")
            writer.string(digest)
            writer.endObject()
        }
        writer.endArray()
    }

    private mutating func changeConsent(
        _ profile: ProfileID, _ request: borrowing Request, _ response: inout Response
    ) -> Disposition {
        let submission = table.intake.obtain()
        guard parse(request, into: submission, limit: CollectionLimits.eventBytes, &response) else {
            table.intake.recycle(submission)
            return .answered
        }
        submission.work = .consent
        submission.profile = profile
        return submit(submission, request, &response)
    }

    // MARK: The hub's arrivals

    /// `GET /v1/arrivals?after=N&limit=M`: what agents have delivered, in the order of arrival: for checking a fleet.
    mutating func answerArrivals(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .operate, .get, &response) else { return .answered }
        guard beginReading() else {
            response.sendProblem(503, "The store cannot be read just now.")
            return .answered
        }
        let query = request.query
        var after: UInt64 = 0
        var limit: UInt64 = 1000
        if let range = queryValue("after", in: query) { after = parseUInt64(query.bytes(range)) ?? 0 }
        if let range = queryValue("limit", in: query) { limit = min(parseUInt64(query.bytes(range)) ?? limit, 10_000) }
        writer.clear()
        writer.beginObject()
        writer.key("arrivals")
        writer.beginArray()
        var written: UInt64 = 0
        var last = after
        var output = writer
        do throws(StoreError) {
            let start = NumberKey(after + 1)
            try reader.scan(reader.tables.log, from: start.bytes.span) { key, value in
                if written == limit { return false }
                last = NumberKey.decode(key) ?? last
                output.raw(value)
                written += 1
                return true
            }
        } catch {
            response.sendProblem(500, "The store cannot be read.")
            return .answered
        }
        writer = output
        writer.endArray()
        writer.key("last")
        writer.uint(last)
        writer.endObject()
        response.send(200, "application/json", writer.bytes)
        return .answered
    }
}
