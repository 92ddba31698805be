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
    private let fingerprint: [UInt8]
    private let bundles: BundleHolder
    private var reader: Reader
    private var random = SystemRandom()
    /// What has gone wrong since it last went well, each once.
    private var problems: [[UInt8]] = []
    /// Bytes of changes in the next question: fewer after one that was too large for the hub.
    private var pageBytes = Limits.syncBytes
    /// The hub has no room: it is told of erasures alone.
    private var tellsErasuresOnly = false

    /// - Parameter fingerprint: of the fleet.
    init(
        _ settings: HubSettings, isHub: Bool, client: HTTPSClient<SystemClock>, identity: DeviceIdentity, root: HMACSHA256,
        fingerprint: [UInt8], database: Database, intake: Intake, bundles: BundleHolder, stop: StopFlag
    ) throws(StoreError) {
        self.settings = settings
        self.isHub = isHub
        self.client = client
        self.identity = identity
        self.intake = intake
        self.bundles = bundles
        self.stop = stop
        self.fingerprint = fingerprint
        suppression = SuppressionNames(root: root)
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

    // MARK: One exchange

    private struct Question {
        /// How far the hub has been told, once it has answered.
        var cursor: SyncCursor
        var body: [UInt8] = []
        var hasMore = false
    }

    /// - Returns: whether there is more to be told or heard at once.
    private func step() -> Bool {
        do throws(StoreError) {
            var question = try makeQuestion()
            guard let answer = ask(question.body) else { return false }
            question.body = []
            guard let hub = Fleet.number("hub", answer), let heard = Fleet.number("to", answer) else {
                note("the hub's answer is none of a hub")
                return false
            }
            let before = try storedCursor()
            var (cursor, hasMore) = (question.cursor, question.hasMore)
            let has = { (name: StaticString) in answer.member(answer.root, name).flatMap { answer.bool($0) } ?? false }
            let isRefused = has("refused")
            if isRefused || has("full") || tellsErasuresOnly {
                // What was not taken is told again.
                (cursor, hasMore) = (before, tellsErasuresOnly && !has("full"))
                tellsErasuresOnly = has("full")
            }
            note(
                isRefused ? "the hub takes no erasures from this token: it needs the role privacy besides sync"
                    : tellsErasuresOnly ? "the hub has no room: it takes erasures and refusals only" : nil)
            if cursor.hub != hub { try begin(with: hub, &cursor, &hasMore) }
            cursor.heard = heard
            if cursor == before, before.missed == 0 { return hasMore && !isRefused }
            return try learn(answer, &cursor) && (hasMore || has("more"))
        } catch {
            note(error.message)
            return false
        }
    }

    /// Another hub, or one that has lost its store, is told everything: first of the erased, so that nobody comes back.
    private func begin(with hub: UInt64, _ cursor: inout SyncCursor, _ hasMore: inout Bool) throws(StoreError) {
        cursor.hub = hub
        hasMore = true
        if isHub {
            cursor.told = 0
        } else {
            try reader.begin()
            defer { reader.end() }
            cursor.position = try Ledger(reader).nextSequence
            cursor.walk = [1]
        }
    }

    /// One line for each thing that goes wrong, and one when it goes well again.
    private func note(_ problem: String?) {
        guard let problem else {
            if !problems.isEmpty { Log.info("the hub answers again") }
            problems = []
            return
        }
        let text = Array(problem.utf8)
        if problems.contains(where: { equal($0.span, text.span) }) || problems.count >= Limits.problemsNoted { return }
        problems.append(text)
        Log.warning("trouble with the hub") { $0.field("reason", problem) }
    }

    private func ask(_ question: [UInt8]) -> JSONDocument? {
        do throws(TransportFailure) {
            let (status, body) = try client.ask(
                "POST", Array("/v1/sync".utf8), token: settings.token, body: question, limitBytes: Limits.syncAnswerBytes)
            // The next time fewer.
            pageBytes = status == 413 ? max(1, pageBytes / 2) : Limits.syncBytes
            var document = JSONDocument()
            do throws(JSONError) {
                if let body { try document.parse(body.span) }
            } catch {
                document = JSONDocument()
            }
            if status == 200, document.nodeCount > 0, document.kind(document.root) == .object { return document }
            note(status, document)
        } catch {
            note(error.message)
        }
        return nil
    }

    /// Says why the hub refuses, in its own words, and by what the fleet is known here.
    private func note(_ status: UInt16, _ answer: borrowing JSONDocument) {
        var words = "it answers \(status)"
        if answer.nodeCount > 0, answer.kind(answer.root) == .object, let said = answer.member(answer.root, "message"),
            answer.kind(said) == .string
        {
            words += ": " + String(decoding: [UInt8](copying: answer.bytes(said)), as: UTF8.self)
        }
        if status == 409 { words += "; the fingerprint here is " + String(decoding: fingerprint, as: UTF8.self) }
        note(words)
    }

    // MARK: What is told

    private func makeQuestion() throws(StoreError) -> Question {
        var question = Question(cursor: try storedCursor())
        try reader.begin()
        defer { reader.end() }
        var page = SyncPage(most: pageBytes)
        page.writer.beginObject()
        let texts: [(StaticString, [UInt8])] = [
            ("device", identity.device), ("fleet", fingerprint),
            ("sentAt", Timestamp.write(SystemClock().wallMilliseconds())),
        ]
        for (name, text) in texts {
            page.writer.key(name)
            page.writer.string(text)
        }
        let (queued, lost) = try losses()
        let cursor = question.cursor
        Fleet.write(
            [
                ("queued", queued), ("lost", lost), ("epoch", identity.epoch), ("bundle", bundles.current.policy.version),
                ("hub", cursor.hub), ("from", cursor.heard),
            ], to: &page.writer)
        page.writer.key("changes")
        page.writer.beginArray()
        // A hub that is not known yet is asked who it is: it may have to be told everything.
        if cursor.hub != 0 { try tell(&question, &page) }
        page.writer.endArray()
        page.writer.endObject()
        question.body = page.writer.bytes
        return question
    }

    private func tell(_ question: inout Question, _ page: inout SyncPage) throws(StoreError) {
        if isHub {
            (question.cursor.told, question.hasMore) = try page.addChanges(
                after: question.cursor.told, to: 0, erasuresOnly: tellsErasuresOnly, in: reader)
            return
        }
        question.hasMore = try tellChanges(&question.cursor, &page)
        if !question.cursor.walk.isEmpty, !page.isFull {
            try walk(&question.cursor, &page)
            if !question.cursor.walk.isEmpty { question.hasMore = true }
        }
        if question.cursor.walk.isEmpty, !page.isFull, !tellsErasuresOnly, try tellLog(&question.cursor, &page) {
            question.hasMore = true
        }
        if page.isFull { question.hasMore = true }
    }

    /// What waits for the destination that is furthest behind, and what was lost to any of them.
    private func losses() throws(StoreError) -> (queued: UInt64, lost: UInt64) {
        let next = try Ledger(reader).nextSequence
        var (queued, lost): (UInt64, UInt64) = (0, 0)
        for entry in bundles.current.destinations {
            guard let ledger = try DestinationLedger(reader, name: entry.destination.name) else { continue }
            queued = max(queued, ledger.queued(next: next))
            lost += ledger.evicted + ledger.rejected
        }
        return (queued, lost)
    }

    /// Erasures, and choices that have changed.
    /// - Returns: whether there are more.
    private func tellChanges(_ cursor: inout SyncCursor, _ page: inout SyncPage) throws(StoreError) -> Bool {
        var changes: [SharedChanges.Change] = []
        try SharedChanges.forEach(after: cursor.told, in: reader) { change in
            changes.append(change)
            return changes.count < Limits.changesLookedAt
        }
        for change in changes {
            if page.isFull { return true }
            if change.erasedAt != nil {
                page.add(change.value)
            } else if let key = change.key, !tellsErasuresOnly {
                try tell(key, &page)
            }
            cursor.told = change.number
        }
        return changes.count == Limits.changesLookedAt
    }

    /// Everybody whom a new hub does not know of yet: the erased, then the rest.
    private func walk(_ cursor: inout SyncCursor, _ page: inout SyncPage) throws(StoreError) {
        let place = cursor.walk
        let isOfErased = place[0] == 1
        var found: [(key: [UInt8], value: [UInt8])] = []
        let start = place.span.extracting(1..<place.count)
        try reader.scan(isOfErased ? reader.tables.suppressed : reader.tables.identifiers, from: start) { key, value in
            if !equal(key, start) { found.append(([UInt8](copying: key), [UInt8](copying: value))) }
            return found.count < Limits.changesLookedAt
        }
        for (key, value) in found {
            if page.isFull { return }
            if isOfErased {
                // A time that cannot be read suppresses for good here, and is nothing to be told.
                if key.count == SharedChanges.nameBytes, value.count >= 8 {
                    page.add([SharedChanges.isErased] + key + value[0..<8])
                }
            } else if tellsErasuresOnly {
                return
            } else if let key = IdentifierKey(key.span) {
                try tell(key, since: SystemClock().wallMilliseconds() - Limits.sharedMilliseconds, &page)
            }
            cursor.walk = [place[0]] + key
        }
        if found.count < Limits.changesLookedAt { cursor.walk = isOfErased ? [2] : [] }
    }

    /// States of identifiers that events of the log have named since.
    /// - Returns: whether there are more.
    private func tellLog(_ cursor: inout SyncCursor, _ page: inout SyncPage) throws(StoreError) -> Bool {
        var named: [(number: UInt64, keys: [IdentifierKey])] = []
        let start = NumberKey(cursor.position)
        var next = cursor.position
        var looked = 0
        try reader.scan(reader.tables.log, from: start.bytes.span) { key, value in
            guard looked < Limits.changesLookedAt, let number = NumberKey.decode(key) else { return false }
            looked += 1
            next = number + 1
            guard let entry = LogEntryView(value), !entry.header.isGenerated else { return true }
            var keys: [IdentifierKey] = []
            for index in 0..<entry.identifierCount {
                let identifier = entry.identifier(index)
                if !identifier.isFormer { keys.append(IdentifierKey(identifier)) }
            }
            named.append((number, keys))
            return true
        }
        var told: [IdentifierKey] = []
        for (number, keys) in named {
            if page.isFull { return true }
            for key in keys where !told.contains(where: { $0 == key }) {
                told.append(key)
                try tell(key, &page)
            }
            cursor.position = number + 1
        }
        cursor.position = next
        return looked == Limits.changesLookedAt
    }

    /// Tells what is known of one identifier, if its person grants that.
    /// - Parameter since: who was not seen since then is not told of, but for what they refuse.
    private func tell(_ key: IdentifierKey, since: Int64 = .min, _ page: inout SyncPage) throws(StoreError) {
        let plan = bundles.current.policy.identifiers
        // A thing that many people use is told of nobody.
        if let kind = plan.kindIndex(tag: key.tag), plan.kinds[kind].isShared { return }
        guard let person = try IdentityGraph.profile(of: key.logged, in: reader) else { return }
        let choices = try HubClient.value(of: person, in: reader.tables.consent, reader)
        let purpose = settings.purposeTag
        let isGranted =
            purpose != 0 && ConsentRecord.isGranted(choices.span, tag: purpose, at: SystemClock().wallMilliseconds())
        let isRefused = ConsentRecord.holdsRefusal(choices.span)
        let isDecided = purpose != 0 && ConsentRecord.isDecided(choices.span, tag: purpose)
        if !isDecided, !isRefused { return }
        if since != .min, !isRefused, try !isSeen(person, since: since) { return }
        let state = try IdentifierState(of: key, in: reader, epoch: identity.epoch, isGranted ? .own : .choices)
        let name = suppression.name(key.tag, key.digest)
        let isWithdrawn = !isGranted && purpose != 0
        page.add(isWithdrawn ? SharedChanges.isWithdrawn : SharedChanges.isState, name.span, state)
    }

    /// Whether a person was seen since a time, or nothing but their choices is known.
    private func isSeen(_ person: ProfileID, since: Int64) throws(StoreError) -> Bool {
        let record = try HubClient.value(of: person, in: reader.tables.profiles, reader)
        if record.isEmpty { return true }
        do throws(RecordDamage) { return try ProfileView(record.span).lastSeen >= since } catch { return false }
    }

    /// What a table has of a person; empty for nothing.
    private static func value(
        of person: ProfileID, in table: Table, _ reader: borrowing Reader
    ) throws(StoreError) -> [UInt8] {
        let id = person.bytes
        guard let value = try reader.get(table, id.span) else { return [] }
        return [UInt8](copying: value)
    }

    // MARK: What is heard

    /// Hands what was heard to the writer and waits until it is kept.
    private func learn(_ answer: JSONDocument, _ cursor: inout SyncCursor) throws(StoreError) -> Bool {
        var named = isHub ? [] : try identifiersOfErased(answer)
        // Twice: an event of somebody may come between the look for whom the erased are and the commit that suppresses them.
        for _ in 0..<2 {
            cursor.turn &+= 1
            let submission = intake.obtain()
            submission.work = .learn
            submission.document = answer
            submission.isAnswered = true
            submission.weight = answer.capacityBytes
            submission.receivedAt = SystemClock().wallMilliseconds()
            submission.answer = cursor.record
            submission.identifiers = named
            guard intake.submit(submission) else {
                intake.recycle(submission)
                return false
            }
            if try !isKept(cursor.turn) { return false }
            if !named.isEmpty { named = try identifiersOfErased(answer) }
            if named.isEmpty { break }
        }
        return true
    }

    private func isKept(_ turn: UInt64) throws(StoreError) -> Bool {
        for _ in 0..<500 where !stop.isSet {
            if try storedCursor().turn == turn { return true }
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
        var names: [UInt64] = []
        var child = answer.member(answer.root, "changes").flatMap { answer.firstChild($0) }
        while let node = child {
            child = answer.next(node)
            if let bytes = Fleet.change(answer, node), SharedChanges.erasedAt(in: bytes.span) != nil {
                names.append(UInt64(littleEndianAt: 1, of: bytes.span))
            }
        }
        if names.isEmpty { return [] }
        names.putInOrder { $0 < $1 }
        var found: [LoggedIdentifier] = []
        try reader.begin()
        defer { reader.end() }
        let suppression = self.suppression
        try reader.scan(reader.tables.identifiers, from: Span<UInt8>()) { key, _ in
            if let key = IdentifierKey(key) {
                let own = suppression.name(key.tag, key.digest)
                // By a part of the name; it is for the writer to compare all of it.
                if HubClient.contains(names, UInt64(littleEndianAt: 0, of: own.span)) { found.append(key.logged) }
            }
            return true
        }
        return found
    }

    private static func contains(_ sorted: [UInt64], _ sought: UInt64) -> Bool {
        var (low, high) = (0, sorted.count)
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle] < sought { low = middle + 1 } else { high = middle }
        }
        return low < sorted.count && sorted[low] == sought
    }
}
