// The routes of people's records, and of the agent's own state.

import Activation
import Collection
import Cryptography
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

    /// Ready means: the store can be read and the writer can commit. The words say how fresh the bundle is, and what is
    /// wrong; more of that hears only who runs the device.
    mutating func answerReadiness(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard isRead(request, &response) else { return .answered }
        let policy = table.plans.current(&planCache).policy
        let readiness = Readiness(table.findings(), table.health, table.meters, policy, now: clock.wallMilliseconds())
        var isTrusted = table.access.isOpen
        if !isTrusted {
            isTrusted = table.access.roles(request.header("authorization"), &scratch, token: &token).contains(.operate)
        }
        writer.clear()
        writer.beginObject()
        readiness.write(to: &writer, isTrusted: isTrusted)
        writer.endObject()
        response.send(readiness.state.isReady ? 200 : 503, "application/json", writer.bytes)
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

    func isRead(_ request: borrowing Request, _ response: inout Response) -> Bool {
        if request.method == .get || request.method == .head { return true }
        response.header("Allow", "GET, HEAD")
        response.sendProblem(405, "This route is only read.")
        return false
    }

    /// What `?after=N&limit=M` of a list asks for, with the store ready to be read; answers and returns nil when it is no
    /// number, or the store cannot be read.
    mutating func page(
        _ request: borrowing Request, usually usual: UInt64, atMost most: UInt64, _ response: inout Response
    ) -> (after: UInt64, limit: UInt64)? {
        var page = (after: UInt64(0), limit: usual)
        if let range = queryValue("after", in: request.query) {
            guard let number = parseUInt64(request.query.bytes(range)) else { return refusePage(&response) }
            page.after = number
        }
        if let range = queryValue("limit", in: request.query) {
            guard let number = parseUInt64(request.query.bytes(range)) else { return refusePage(&response) }
            page.limit = min(number, most)
        }
        guard beginReading() else {
            response.sendProblem(503, "The store cannot be read just now.")
            return nil
        }
        return page
    }

    private func refusePage(_ response: inout Response) -> (after: UInt64, limit: UInt64)? {
        response.sendProblem(400, "after and limit must be whole numbers, such as ?after=0&limit=100.")
        return nil
    }

    /// Where a list goes on after a number that a caller gives.
    func following(_ number: UInt64) -> UInt64 { number == .max ? number : number + 1 }

    // MARK: A person's record

    /// What is asked for of a person.
    private enum RecordCall {
        case read, erase, consent, export, unlink
    }

    mutating func answerProfile(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        var rest = request.path.extracting(13..<request.path.count)
        var call = request.method == .delete ? RecordCall.erase : .read
        if let reference = withoutSuffix(rest, "/consent") {
            rest = reference
            call = .consent
        } else if let reference = withoutSuffix(rest, "/export") {
            rest = reference
            call = .export
        } else if let reference = withoutSuffix(rest, "/unlink") {
            rest = reference
            call = .unlink
        }
        let method: Method = call == .consent ? .put : call == .erase ? .delete : call == .unlink ? .post : .get
        guard mayGoOn(request, .privacy, method, &response) else { return .answered }
        guard beginReading() else {
            response.sendProblem(503, "The store cannot be read just now.")
            return .answered
        }
        guard decode(rest) else {
            response.sendProblem(400, "The reference is not properly percent-encoded UTF-8.")
            return .answered
        }
        let policy = table.plans.current(&planCache).policy
        do throws(StoreError) {
            let found = try findProfile(policy)
            if found.isMalformed {
                response.sendProblem(
                    400, "A reference is a profile id (32 hex digits) or KIND:VALUE with a kind of the bundle, such as user_id:7.")
                return .answered
            }
            if call == .consent, found.profile != nil || found.identifier != nil {
                return changeConsent(found, request, &response)
            }
            if call == .unlink, let identifier = found.identifier, found.profile != nil {
                return try unlink(identifier, found.former?.digest, policy, request, &response)
            }
            if call == .unlink, found.identifier == nil {
                response.sendProblem(400, "Say which identifier was wrong: KIND:VALUE, such as email:ada@example.org.")
                return .answered
            }
            // Somebody of whom something is only set aside is not known, and may be erased and have it all the same.
            let mayBeUnknown = (call == .erase || call == .export) && found.identifier != nil
            guard found.profile != nil || mayBeUnknown else {
                response.sendProblem(404, "Nobody here is known by this reference.")
                return .answered
            }
            let profile = found.profile ?? Routes.unknown
            let submission = table.intake.obtain()
            submission.profile = found.profile
            submission.named = found.identifier
            switch call {
            case .erase:
                submission.work = .erase
                submission.former = found.former?.digest
            case .export:
                submission.work = .export
                submission.identifiers = try ownIdentifiers(of: profile, policy)
                if found.profile == nil, let identifier = found.identifier {
                    submission.identifiers = [identifier]
                    if let former = found.former { submission.identifiers.append(former) }
                }
                if let range = queryValue("after", in: request.query) {
                    submission.number = parseUInt64(request.query.bytes(range)) ?? 0
                }
                submission.answer = try record(of: profile, policy, isExport: true)
                return order(submission, request, &response)
            default:
                submission.work = .read
                submission.answer = try record(of: profile, policy, isExport: false)
            }
            submission.weight = submission.answer.count
            return submit(submission, request, &response)
        } catch {
            response.sendProblem(500, "The store cannot answer; its state is in GET /readyz and in the log.")
        }
        return .answered
    }

    /// In place of the profile of somebody who has none: never given to anybody.
    private static var unknown: ProfileID { ProfileID(high: .max, low: .max) }

    /// Hands an order to the clerk, who hands it to the writer.
    private mutating func order(
        _ submission: Submission, _ request: borrowing Request, _ response: inout Response
    ) -> Disposition {
        describe(submission, request)
        if table.clerk.submit(submission) { return .pending }
        table.intake.recycle(submission)
        response.header("Retry-After", "5")
        response.sendProblem(503, "Too many copies of records are being made; ask again in a few seconds.")
        return .answered
    }

    @_lifetime(copy path)
    private func withoutSuffix(_ path: Span<UInt8>, _ suffix: StaticString) -> Span<UInt8>? {
        let bytes = suffix.bytes
        guard path.count > bytes.count, equal(path.extracting(path.count - bytes.count..<path.count), bytes) else { return nil }
        return path.extracting(0..<path.count - bytes.count)
    }

    /// Whom a reference names.
    struct Found {
        var profile: ProfileID?
        /// Of a reference by identifier.
        var identifier: LoggedIdentifier?
        /// What that was hashed to under the former pepper, while a rotation lasts.
        var former: LoggedIdentifier?
        /// Under which of the two the store has it.
        var known: LoggedIdentifier?
        var isMalformed = false
    }

    /// Finds the profile that the reference in `scratch` names, and overwrites it: it may be a raw identifier.
    mutating func findProfile(_ policy: Policy) throws(StoreError) -> Found {
        var reference: [UInt8] = []
        swap(&reference, &scratch)
        defer { for index in reference.indices { reference[index] = 0 } }
        var colon = 0
        while colon < reference.count, reference[colon] != UInt8(ascii: ":") { colon += 1 }
        if colon == reference.count {
            guard let bytes = Hex.decode(reference.span), let profile = ProfileID(bytes.span) else {
                return Found(isMalformed: true)
            }
            let key = profile.bytes
            // Somebody of whom only the consent is known has no profile.
            var isKnown = try reader.get(reader.tables.profiles, key.span) != nil
            if !isKnown { isKnown = try reader.get(reader.tables.consent, key.span) != nil }
            return Found(profile: isKnown ? profile : nil)
        }
        guard let kind = policy.identifiers.kindIndex(named: reference.span.extracting(0..<colon)) else {
            return Found(isMalformed: true)
        }
        guard
            let identifier = policy.identifiers.hash(
                RawIdentifier(reference.span.extracting(colon + 1..<reference.count)), kindIndex: kind, pepper: table.pepper,
                using: &normalized)
        else { return Found() }
        var known = identifier
        try IdentityGraph.recall(&known, in: reader)
        return Found(
            profile: try IdentityGraph.profile(of: known, in: reader), identifier: identifier.logged,
            former: identifier.former.map {
                LoggedIdentifier(kindTag: identifier.kindTag, digest: $0, plainDigest: nil, isFormer: true)
            }, known: known.logged)
    }

    /// The person's identifiers that are theirs alone.
    private func ownIdentifiers(of profile: ProfileID, _ policy: Policy) throws(StoreError) -> [LoggedIdentifier] {
        var list: [LoggedIdentifier] = []
        try IdentityGraph.forEachIdentifier(of: profile, in: reader) { tag, digest in
            guard let digest = Digest256(digest) else { return }
            if let kind = policy.identifiers.kindIndex(tag: tag), policy.identifiers.kinds[kind].isShared { return }
            list.append(LoggedIdentifier(kindTag: tag, digest: digest, plainDigest: nil))
        }
        for identifier in list {
            if let former = try IdentityGraph.former(of: identifier, in: reader) { list.append(former) }
        }
        return list
    }

    private mutating func record(
        of profile: ProfileID, _ policy: Policy, isExport: Bool
    ) throws(StoreError) -> [UInt8] {
        let now = clock.wallMilliseconds()
        let key = profile.bytes
        var bytes: [UInt8] = []
        if let found = try reader.get(reader.tables.profiles, key.span) { bytes = [UInt8](copying: found) }
        var choices: [UInt8] = []
        if let found = try reader.get(reader.tables.consent, key.span) { choices = [UInt8](copying: found) }
        var output = JSONWriter(reserving: 1024)
        output.beginObject()
        output.key("id")
        output.string(Hex.encode(key.span))
        output.key("identifiers")
        try writeIdentifiers(profile, policy, &output)
        output.key("links")
        try writeLinks(profile, policy, &output)
        output.key("attributes")
        writeAttributes(bytes, policy, now, &output)
        try writeIncomplete(profile, choices, policy, now, &output)
        try decider.writeConclusions(policy, of: profile, record: bytes.span, now: now, reader, into: &output)
        output.key("consent")
        if !choices.isEmpty, !ConsentRecord.isIntact(choices.span) { table.meters.badRecords.add() }
        ConsentRecord.write(choices.span, policy.purposes, at: now, to: &output)
        if isExport {
            output.key("choices")
            ConsentRecord.writeHistory(choices.span, policy.purposes, to: &output)
        }
        output.endObject()
        return output.bytes
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

    /// Names of attributes that have not been counted for as long as the person is known; nothing where there are none.
    private func writeIncomplete(
        _ profile: ProfileID, _ choices: [UInt8], _ policy: Policy, _ now: Int64, _ output: inout JSONWriter
    ) throws(StoreError) {
        let key = AttributeHistory.key
        var history: AttributeHistory?
        if let record = try reader.get(reader.tables.meta, key.span) { history = AttributeHistory(record) }
        guard let history else { return }
        let firstSeen = try IdentityGraph.firstSeen(profile, in: reader)
        let names = history.incomplete(
            policy.attributes, firstSeen: firstSeen, passedOver: ConsentRecord.passedOver(choices.span), now: now)
        if names.isEmpty { return }
        output.key("incomplete")
        output.beginArray()
        for number in names { output.string(policy.attributes.attributes[number].name) }
        output.endArray()
    }

    /// Kinds and hashes: raw values are nowhere to be had.
    private func writeIdentifiers(
        _ profile: ProfileID, _ policy: Policy, _ writer: inout JSONWriter
    ) throws(StoreError) {
        writer.beginArray()
        for key in try IdentityGraph.identifiers(of: profile, in: reader) { write(key, policy, &writer) }
        writer.endArray()
    }

    private func write(_ key: IdentifierKey, _ policy: Policy, _ writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("kind")
        if let index = policy.identifiers.kindIndex(tag: key.tag) {
            writer.string(policy.identifiers.kinds[index].name)
        } else {
            writer.null()
        }
        writer.key("hmac")
        var digest: [UInt8] = []
        key.digest.appendHexadecimal(to: &digest)
        writer.string(digest)
        writer.endObject()
    }

    /// What events have shown to belong together, when, and whether that is so: `joined`, `refused`, or `cut` by hand.
    private func writeLinks(_ profile: ProfileID, _ policy: Policy, _ writer: inout JSONWriter) throws(StoreError) {
        let links = try IdentityGraph.links(of: profile, in: reader)
        writer.beginArray()
        for link in links {
            writer.beginObject()
            writer.key("between")
            writer.beginArray()
            for end in [link.first, link.second] {
                write(end, policy, &writer)
            }
            writer.endArray()
            writer.key("at")
            var time: [UInt8] = []
            Timestamp.append(link.time, to: &time)
            writer.string(time)
            writer.key("state")
            writer.string(link.isCut ? "cut" : link.joins ? "joined" : "refused")
            writer.endObject()
        }
        writer.endArray()
        if links.count >= Unification.Limits.linksShown {
            writer.key("moreLinks")
            writer.bool(true)
        }
    }

    // MARK: Quarantine

    /// `GET /v1/quarantine?after=N&limit=M`, `POST /v1/quarantine/{number|all}/release`, `DELETE /v1/quarantine/{number|all}`.
    mutating func answerQuarantine(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        var rest = request.path.extracting(14..<request.path.count)
        if rest.isEmpty {
            // The events are shown, and with them what they say about people.
            guard mayGoOn(request, .privacy, .get, &response) else { return .answered }
            return listQuarantine(request, &response)
        }
        rest = rest.extracting(1..<rest.count)
        let released = withoutSuffix(rest, "/release")
        guard mayGoOn(request, .operate, released == nil ? .delete : .post, &response) else { return .answered }
        var name = rest
        if let released { name = released }
        let number: UInt64? = name.equals("all") ? 0 : parseUInt64(name)
        guard let number, number > 0 || name.equals("all") else {
            response.sendProblem(404, "Quarantine numbers its events from 1: /v1/quarantine/NUMBER, or /v1/quarantine/all.")
            return .answered
        }
        let submission = table.intake.obtain()
        submission.work = released == nil ? .discard : .release
        submission.number = number
        submission.weight = 64
        return submit(submission, request, &response)
    }

    private mutating func listQuarantine(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard let page = page(request, usually: 20, atMost: 100, &response) else { return .answered }
        var (after, limit) = page
        var output = JSONWriter(reserving: 4096)
        output.beginObject()
        output.key("quarantined")
        output.beginArray()
        var last = after
        do throws(StoreError) {
            let start = NumberKey(following(after))
            try reader.scan(reader.tables.quarantine, from: start.bytes.span) { key, value in
                guard limit > 0, let number = NumberKey.decode(key) else { return false }
                guard let entry = LogEntryView(value) else { return true }
                limit -= 1
                last = number
                output.beginObject()
                output.key("number")
                output.uint(number)
                output.key("receivedAt")
                var time: [UInt8] = []
                Timestamp.append(entry.header.receivedAt, to: &time)
                output.string(time)
                output.key("bundle")
                output.uint(entry.header.bundleVersion)
                output.key("what")
                output.raw(entry.body)
                output.endObject()
                return true
            }
        } catch {
            response.sendProblem(500, "The store cannot be read.")
            return .answered
        }
        output.endArray()
        output.key("last")
        output.uint(last)
        output.endObject()
        response.send(200, "application/json", output.bytes)
        return .answered
    }

    // MARK: Erasures and the audit log

    /// `GET /v1/erasures/{receipt}`: how far an erasure is. `GET /v1/erasures?after=RECEIPT`: a hundred of them, in the order
    /// of their receipts, which are random.
    mutating func answerErasures(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .privacy, .get, &response) else { return .answered }
        let isOne = request.path.count > 12
        var text = request.query.bytes(queryValue("after", in: request.query) ?? ByteRange())
        if isOne { text = request.path.extracting(13..<request.path.count) }
        let receipt = Hex.decode(text) ?? []
        guard receipt.count == 16 || (!isOne && text.isEmpty) else {
            response.sendProblem(isOne ? 404 : 400, "There is no such receipt: 32 hex digits.")
            return .answered
        }
        guard beginReading() else {
            response.sendProblem(503, "The store cannot be read just now.")
            return .answered
        }
        var output = JSONWriter(reserving: 4096)
        if !isOne {
            output.beginObject()
            output.key("erasures")
            output.beginArray()
        }
        var count = 0
        do throws(StoreError) {
            try reader.scan(reader.tables.erasures, from: receipt.span) { key, record in
                if equal(key, receipt.span) != isOne { return !isOne }
                if let erasure = Erasure(receipt: key, record) { Erasure.write(erasure, to: &output) }
                count += 1
                return !isOne && count < 100
            }
        } catch {
            response.sendProblem(500, "The store cannot be read.")
            return .answered
        }
        if isOne && output.bytes.isEmpty {
            response.sendProblem(404, "There is no such receipt.")
            return .answered
        }
        if !isOne {
            output.endArray()
            output.endObject()
        }
        response.send(200, "application/json", output.bytes)
        return .answered
    }

    /// `GET /v1/audit?after=N&limit=M`: lines of the audit log, oldest first.
    mutating func answerAudit(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .privacy, .get, &response) else { return .answered }
        guard let page = page(request, usually: 100, atMost: 1000, &response) else { return .answered }
        var (after, limit) = page
        var output = JSONWriter(reserving: 4096)
        output.beginObject()
        output.key("lines")
        output.beginArray()
        var last = after
        do throws(StoreError) {
            try AuditLog.forEachLine(from: following(after), reader) { number, line in
                if limit == 0 { return false }
                limit -= 1
                last = number
                AuditLog.write(line, to: &output)
                return true
            }
        } catch {
            response.sendProblem(500, "The store cannot be read.")
            return .answered
        }
        output.endArray()
        output.key("last")
        output.uint(last)
        output.endObject()
        response.send(200, "application/json", output.bytes)
        return .answered
    }

    /// `GET /v1/experiments`: what the splits and holdouts of decisions with a goal have shown so far.
    mutating func answerExperiments(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .operate, .get, &response) else { return .answered }
        let submission = table.intake.obtain()
        submission.work = .report
        return order(submission, request, &response)
    }

    private mutating func changeConsent(
        _ found: Found, _ request: borrowing Request, _ response: inout Response
    ) -> Disposition {
        let submission = table.intake.obtain()
        guard parse(request, into: submission, limit: CollectionLimits.eventBytes, &response) else {
            table.intake.recycle(submission)
            return .answered
        }
        submission.work = .consent
        submission.profile = found.profile
        submission.named = found.identifier
        submission.former = found.former?.digest
        return submit(submission, request, &response)
    }

    /// `?from=KIND:VALUE` names the other end of the only link to cut.
    private mutating func unlink(
        _ identifier: LoggedIdentifier, _ former: Digest256?, _ policy: Policy, _ request: borrowing Request,
        _ response: inout Response
    ) throws(StoreError) -> Disposition {
        var ends: [LoggedIdentifier] = []
        if let range = queryValue("from", in: request.query) {
            guard decode(request.query.bytes(range)), let other = try findProfile(policy).known else {
                response.sendProblem(400, "from must be an identifier: KIND:VALUE, such as user_id:7.")
                return .answered
            }
            ends.append(other)
        }
        let submission = table.intake.obtain()
        submission.identifiers = ends
        submission.work = .unlink
        submission.named = identifier
        submission.former = former
        submission.weight = 64
        return submit(submission, request, &response)
    }
}
