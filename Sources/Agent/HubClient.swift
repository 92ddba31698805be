// Asks this device's hub, at intervals that differ, what has changed in the fleet, and tells it what has changed here. What
// is told and heard is in Fleet.swift; a thread of its own, since all of it waits for the network.

import Cryptography
import Delivery
import Formats
import Governance
import Platform
import Serving
import Store
import Unification

final class HubClient {
    private let settings: HubSettings
    private let isHub: Bool
    private let identity: DeviceIdentity
    private let intake: Intake
    private let stop: StopFlag
    private let client: HTTPSClient<SystemClock>
    private let suppression: SuppressionNames
    /// Of the secret that the devices of a fleet have in common, and how often its pepper has changed.
    private let fingerprint: [UInt8]
    private let mark: UInt8
    private let bundles: BundleHolder
    private var reader: Reader
    private var random = SystemRandom()
    private var isWell = true

    init(
        _ settings: HubSettings, isHub: Bool, client: HTTPSClient<SystemClock>, identity: DeviceIdentity, root: HMACSHA256,
        mark: UInt8, database: Database, intake: Intake, bundles: BundleHolder, stop: StopFlag
    ) throws(StoreError) {
        self.settings = settings
        self.isHub = isHub
        self.client = client
        self.identity = identity
        self.intake = intake
        self.bundles = bundles
        self.stop = stop
        self.mark = mark
        suppression = SuppressionNames(root: root)
        var print: [UInt8] = []
        root.authenticate(Array("fleet".utf8)).appendHexadecimal(to: &print)
        fingerprint = Array(print[0..<32])
        reader = try database.makeReader()
    }

    func run() {
        while !stop.isSet {
            let hasMore = step()
            if hasMore { continue }
            // Half of the interval to all of it: devices that were started together do not ask together.
            let most = settings.pollMilliseconds
            var left = most / 2 + Int64(random.next(below: UInt64(max(1, most / 2))))
            while left > 0, !stop.isSet {
                sleep(milliseconds: min(left, 100))
                left -= 100
            }
        }
    }

    /// - Returns: whether there is more to be told or heard at once.
    private func step() -> Bool {
        do throws(StoreError) {
            var (question, cursor, hasMore) = try makeQuestion()
            guard let answer = ask(question) else { return false }
            question = []
            guard let hub = number(answer, "hub"), let heard = number(answer, "to") else {
                note("the hub's answer is none of a hub")
                return false
            }
            note(nil)
            // Another hub, or one that has lost its store, is told from the beginning.
            if cursor.hub != 0, cursor.hub != hub { (cursor.told, cursor.position, hasMore) = (0, 0, true) }
            (cursor.hub, cursor.heard) = (hub, heard)
            if try storedCursor() == cursor { return false }
            if let more = answer.member(answer.root, "more"), answer.bool(more) == true { hasMore = true }
            return try learn(answer, cursor) && hasMore
        } catch {
            note(error.message)
            return false
        }
    }

    private func number(_ document: borrowing JSONDocument, _ name: StaticString) -> UInt64? {
        document.member(document.root, name).flatMap { document.int64($0) }.flatMap { UInt64(exactly: $0) }
    }

    /// One line when it goes wrong, and one when it goes well again.
    private func note(_ problem: String?) {
        if let problem, isWell { Log.warning("the hub cannot be asked") { $0.field("reason", problem) } }
        if problem == nil, !isWell { Log.info("the hub answers again") }
        isWell = problem == nil
    }

    private func ask(_ question: [UInt8]) -> JSONDocument? {
        do throws(TransportFailure) {
            let (status, body) = try client.ask(
                "POST", Array("/v1/sync".utf8), token: settings.token, body: question, limitBytes: Limits.syncAnswerBytes)
            var document = JSONDocument()
            if status == 200, let body {
                do throws(JSONError) {
                    try document.parse(body.span)
                    if document.kind(document.root) == .object { return document }
                } catch {}
            }
            note(
                status == 409
                    ? "this device has another pepper than the fleet: pepper: must name a copy of the same file"
                    : "it answers \(status)")
        } catch {
            note(error.message)
        }
        return nil
    }

    // MARK: What is told

    private func makeQuestion() throws(StoreError) -> (question: [UInt8], cursor: SyncCursor, hasMore: Bool) {
        var cursor = try storedCursor()
        try reader.begin()
        defer { reader.end() }
        var writer = JSONWriter(reserving: 4096)
        writer.beginObject()
        let texts: [(StaticString, [UInt8])] = [
            ("device", identity.device), ("fleet", isHub ? [] : fingerprint),
            ("sentAt", Timestamp.write(SystemClock().wallMilliseconds())),
        ]
        for (name, text) in texts {
            writer.key(name)
            writer.string(text)
        }
        let (queued, lost) = try losses()
        let numbers: [(StaticString, UInt64)] = [
            ("queued", queued), ("lost", lost),
            ("epoch", identity.epoch), ("pepper", UInt64(mark)), ("bundle", bundles.current.policy.version),
            ("hub", cursor.hub), ("from", cursor.heard),
        ]
        for (name, number) in numbers {
            writer.key(name)
            writer.uint(number)
        }
        writer.key("changes")
        writer.beginArray()
        var hasMore = false
        if isHub {
            (cursor.told, hasMore) = try Fleet.write(after: cursor.told, in: reader, to: &writer) { _ in true }
        } else {
            try writeErasures(to: &writer)
            hasMore = try writeStates(&cursor, to: &writer)
        }
        writer.endArray()
        writer.endObject()
        return (writer.bytes, cursor, hasMore)
    }

    /// What waits for the destination that is furthest behind, and what was lost to any of them.
    private func losses() throws(StoreError) -> (queued: UInt64, lost: UInt64) {
        let next = try Ledger(reader).nextSequence
        var (queued, lost): (UInt64, UInt64) = (0, 0)
        for entry in bundles.current.destinations {
            guard let ledger = try DestinationLedger(reader, name: entry.destination.name) else { continue }
            queued = max(queued, next - min(next, ledger.cursor))
            lost += ledger.evicted + ledger.rejected
        }
        return (queued, lost)
    }

    /// All erasures that are not done: they are done once this was answered.
    private func writeErasures(to writer: inout JSONWriter) throws(StoreError) {
        var erasures: [Erasure] = []
        try reader.scan(reader.tables.erasures, from: Span<UInt8>()) { receipt, record in
            if let erasure = Erasure(receipt: receipt, record), erasure.state != .done { erasures.append(erasure) }
            return true
        }
        for erasure in erasures {
            for identifier in erasure.identifiers where !identifier.isFormer {
                let name = suppression.name(identifier.kindTag, identifier.digest)
                var time = erasure.askedAt
                if let value = try reader.get(reader.tables.suppressed, name.span), value.count >= 8,
                    let known = NumberKey.decode(value.extracting(0..<8))
                {
                    time = Int64(bitPattern: known)
                }
                var bytes: [UInt8] = [SharedChanges.isErased]
                bytes.append(contentsOf: name.span)
                let number = NumberKey(UInt64(bitPattern: time))
                bytes.append(contentsOf: number.bytes.span)
                IdentifierKey(identifier).append(to: &bytes)
                writer.string(Base64.encode(bytes.span))
            }
        }
    }

    /// States of identifiers that events of the log have named since.
    /// - Returns: whether there are more.
    private func writeStates(_ cursor: inout SyncCursor, to writer: inout JSONWriter) throws(StoreError) -> Bool {
        var keys: [IdentifierKey] = []
        var hasMore = false
        var told = cursor.told
        try SharedChanges.forEach(after: told, in: reader) { number, value in
            if keys.count == Limits.changesAtOnce {
                hasMore = true
                return false
            }
            if let key = SharedChanges.key(in: value) { keys.append(key) }
            told = number
            return true
        }
        cursor.told = told
        var looked = 0
        let start = NumberKey(cursor.position)
        var next = cursor.position
        try reader.scan(reader.tables.log, from: start.bytes.span) { key, value in
            guard let number = NumberKey.decode(key) else { return false }
            if looked == Limits.sweptPerStep || keys.count >= Limits.changesAtOnce {
                hasMore = true
                return false
            }
            looked += 1
            next = number + 1
            guard let entry = LogEntryView(value), !entry.header.isGenerated else { return true }
            for index in 0..<entry.identifierCount {
                let identifier = entry.identifier(index)
                let key = IdentifierKey(identifier)
                if !identifier.isFormer, !keys.contains(where: { $0 == key }) { keys.append(key) }
            }
            return true
        }
        cursor.position = next
        let now = SystemClock().wallMilliseconds()
        let plan = bundles.current.policy.identifiers
        for key in keys {
            // A thing that many people use is told of nobody.
            if let kind = plan.kindIndex(tag: key.tag), plan.kinds[kind].isShared { continue }
            guard let person = try IdentityGraph.profile(of: key.logged, in: reader) else { continue }
            let id = person.bytes
            var choices: [UInt8] = []
            if let record = try reader.get(reader.tables.consent, id.span) { choices = [UInt8](copying: record) }
            let isGranted = ConsentRecord.isGranted(choices.span, tag: settings.purposeTag, at: now)
            if !isGranted, !ConsentRecord.holdsRefusal(choices.span) { continue }
            let epoch = identity.epoch
            let state = try IdentifierState(of: key, in: reader, epoch: epoch, choicesOnly: !isGranted) { $0 == epoch }
            let name = suppression.name(key.tag, key.digest)
            let isWithdrawn = !isGranted && settings.purposeTag != 0
            _ = Fleet.write(state, name.span, isWithdrawn: isWithdrawn, to: &writer)
        }
        return hasMore
    }

    // MARK: What is heard

    /// Hands what was heard to the writer and waits until it is kept.
    private func learn(_ answer: JSONDocument, _ cursor: SyncCursor) throws(StoreError) -> Bool {
        let submission = intake.obtain()
        submission.work = .learn
        submission.document = answer
        submission.isAnswered = true
        submission.weight = 64
        submission.receivedAt = SystemClock().wallMilliseconds()
        submission.answer = cursor.record
        if !isHub { submission.identifiers = try identifiersOfErased(answer) }
        guard intake.submit(submission) else {
            intake.recycle(submission)
            return false
        }
        for _ in 0..<500 where !stop.isSet {
            if try storedCursor() == cursor { return true }
            sleep(milliseconds: 10)
        }
        return false
    }

    private func storedCursor() throws(StoreError) -> SyncCursor {
        try reader.begin()
        defer { reader.end() }
        let key = SyncCursor.key
        guard let record = try reader.get(reader.tables.meta, key.span) else { return SyncCursor() }
        return SyncCursor(record)
    }

    /// Those of this device whose names have been erased elsewhere: a name does not lead to them, so all are looked at.
    private func identifiersOfErased(_ answer: borrowing JSONDocument) throws(StoreError) -> [LoggedIdentifier] {
        var names: [[UInt8]] = []
        var child = answer.member(answer.root, "changes").flatMap { answer.firstChild($0) }
        while let node = child {
            child = answer.next(node)
            if let bytes = Base64.decode(answer.bytes(node)), SharedChanges.erasedAt(in: bytes.span) != nil {
                names.append(Array(bytes[1...SharedChanges.nameBytes]))
            }
        }
        if names.isEmpty { return [] }
        var found: [LoggedIdentifier] = []
        try reader.begin()
        defer { reader.end() }
        let suppression = self.suppression
        try reader.scan(reader.tables.identifiers, from: Span<UInt8>()) { key, _ in
            if let key = IdentifierKey(key) {
                let own = suppression.name(key.tag, key.digest)
                for name in names where equal(own.span, name.span) { found.append(key.logged) }
            }
            return true
        }
        return found
    }
}
