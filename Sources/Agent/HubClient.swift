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
    private let settings: Configuration
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
    /// What goes wrong; empty while all is well.
    private var problem: [UInt8] = []
    /// Bytes of changes in the next question: fewer after one that was too large for the hub.
    private var pageBytes = Limits.syncBytes
    /// The hub has no room: it is told of erasures alone.
    private var tellsErasuresOnly = false
    /// The newest change of which it was told then; what is no erasure waits behind `told`.
    private var erasuresTold: UInt64 = 0
    /// Whether the hub takes erasures from this device; nil: it has not said yet, and is told nothing.
    private var mayErase: Bool?
    /// The question that is being made passes one over; and some wait for that.
    private var hasKeptErasure = false
    private var waitsToErase = false
    /// What a hub has instead of a walk when its own hub has to be told of erasures that were passed over.
    private static let owesErasures: [UInt8] = [3]
    /// Whether people of this device may have been erased elsewhere: at the start, too, since it may have ended between.
    private var mayHoldErased = true
    /// Of whom the question that is being made tells.
    private var toldOf: [IdentifierKey] = []
    private let commands: HubCommands

    /// - Parameter fingerprint: of the fleet.
    init(
        _ settings: Configuration, isHub: Bool, client: HTTPSClient<SystemClock>, identity: DeviceIdentity, root: HMACSHA256,
        fingerprint: [UInt8], database: Database, intake: Intake, bundles: BundleHolder, commands: HubCommands, stop: StopFlag
    ) throws(StoreError) {
        self.settings = settings
        self.isHub = isHub
        self.client = client
        self.identity = identity
        self.intake = intake
        self.bundles = bundles
        self.commands = commands
        self.stop = stop
        self.fingerprint = fingerprint
        suppression = SuppressionNames(root: root)
        reader = try database.makeReader()
    }

    func run() {
        while !stop.isSet {
            var hasMore = false
            do throws(StoreError) {
                hasMore = try step()
                if !isHub { try eraseWhoIsHeardOf() }
            } catch {
                note(error.message)
            }
            if hasMore { continue }
            // Half of the interval to all of it: devices that were started together do not ask together.
            let most = settings.hubPollMilliseconds
            var left = most / 2 + Int64(random.next(below: UInt64(max(1, most / 2))))
            while left > 0, !stop.isSet {
                sleep(milliseconds: min(left, 100))
                left -= 100
            }
        }
    }

    // MARK: One exchange

    /// - Returns: whether there is more to be told or heard at once.
    private func step() throws(StoreError) -> Bool {
        let before = try storedCursor()
        var cursor = before
        var (question, hasMore) = try makeQuestion(&cursor)
        guard let answer = ask(question) else { return false }
        question = []
        guard let said = SyncPage.numbers(answer.span) else {
            note("the hub's answer is none of a hub")
            return false
        }
        commands.take(answer.span)
        let isFull = said[3] & SyncPage.isFull != 0
        var words = ""
        let takesErasures = said[3] & SyncPage.mayErase != 0
        if takesErasures {
            waitsToErase = false
        } else if hasKeptErasure || said[3] & SyncPage.isErasureRefused != 0 {
            waitsToErase = true
            if isHub { cursor.walk = HubClient.owesErasures }
        }
        if waitsToErase { words = "the hub takes no erasures from this token: it needs the role privacy besides sync" }
        if isFull || tellsErasuresOnly {
            if isFull { words = "the hub has no room: it takes erasures and refusals only" }
            if tellsErasuresOnly { erasuresTold = max(erasuresTold, cursor.told) }
            // What was not taken is told again. Of all who were erased it is told once.
            let (isCut, walk) = (hasMore, tellsErasuresOnly && before.walk.first == 1 ? cursor.walk : before.walk)
            cursor = before
            cursor.walk = walk
            hasMore = tellsErasuresOnly && !isFull
            tellsErasuresOnly = takesErasures && (isFull || tellsErasuresOnly && isCut)
        }
        let leavesErasures = mayErase != true || !takesErasures
        if takesErasures, mayErase != true {
            // It takes them now: a device has kept those that it was not told of, and a hub tells everything again.
            if !isHub || cursor.walk.first == 3 { cursor.told = 0 }
            if isHub { cursor.walk = [] }
            erasuresTold = 0
        }
        if mayErase != takesErasures { hasMore = true }
        note(words)
        if cursor.hub != said[0] {
            // Another hub, or one that has lost its store, is told everything: first of the erased, so that nobody comes back.
            cursor.hub = said[0]
            cursor.told = 0
            hasMore = true
            if !isHub {
                try reader.begin()
                defer { reader.end() }
                cursor.position = try Ledger(reader).nextSequence
                cursor.walk = [1]
            }
        }
        cursor.heard = said[2]
        if cursor == before, before.missed == 0 {
            mayErase = takesErasures
            return hasMore
        }
        var place = 0
        while let piece = Piece(answer.span, at: place) {
            if piece.kind == SyncPage.change, piece.end > piece.start, answer[piece.start] == SharedChanges.isErased {
                mayHoldErased = true
            }
            place = piece.end
        }
        if try !hand(answer, [], &cursor, leavesErasures: leavesErasures) { return false }
        mayErase = takesErasures
        return hasMore || said[3] & SyncPage.hasMore != 0
    }

    /// One line for each thing that goes wrong, and one when it goes well again.
    private func note(_ words: String) {
        let (text, before) = (Array(words.utf8), problem)
        if equal(text.span, before.span) { return }
        problem = text
        if text.isEmpty {
            Log.info("the hub answers again")
        } else {
            Log.warning("trouble with the hub") { $0.field("reason", words) }
        }
    }

    private func ask(_ question: [UInt8]) -> [UInt8]? {
        do throws(TransportFailure) {
            let (status, body) = try client.ask(
                "POST", Array("/v1/sync".utf8), token: settings.hubToken, body: question, limitBytes: Limits.syncAnswerBytes)
            // The next time fewer.
            pageBytes = status == 413 ? max(1, pageBytes / 2) : Limits.syncBytes
            if status == 200 { return body }
            // It says why in its own words.
            var words = Array("it answers ".utf8)
            appendInteger(UInt64(status), to: &words)
            let said = body ?? []
            words.append(contentsOf: said.span.extracting(0..<min(said.count, Limits.refusalBytes)))
            if status == 409 { words += Array("; the fingerprint here is ".utf8) + fingerprint }
            note(String(copying: words.span))
        } catch {
            note(error.message)
        }
        return nil
    }

    // MARK: What is told

    private func makeQuestion(_ cursor: inout SyncCursor) throws(StoreError) -> (text: [UInt8], hasMore: Bool) {
        try reader.begin()
        defer { reader.end() }
        // What waits for the destination that is furthest behind, and what was lost to any of them.
        let next = try Ledger(reader).nextSequence
        let bundle = bundles.current
        var (queued, lost, settled): (UInt64, UInt64, UInt64) = (0, 0, next)
        for entry in bundle.destinations where !entry.destination.isFallbackOnly {
            guard let ledger = try DestinationLedger(reader, name: entry.destination.name) else { continue }
            queued = max(queued, ledger.queued(next: next))
            settled = min(settled, ledger.cursor)
            lost += ledger.evicted + ledger.rejected
        }
        var page = SyncPage(most: pageBytes)
        page.add([
            identity.epoch, UInt64(bitPattern: SystemClock().wallMilliseconds()), bundle.policy.version, queued, lost,
            cursor.hub, cursor.heard,
        ])
        page.add(SyncPage.fleet, fingerprint)
        page.add(SyncPage.device, identity.device)
        commands.tell(&page, settled: settled, reader)
        toldOf = []
        hasKeptErasure = false
        // A hub that is not known yet is asked who it is, and what it takes: it may have to be told everything.
        let hasMore = cursor.hub == 0 || mayErase == nil ? false : try tell(&cursor, &page)
        return (page.bytes, hasMore)
    }

    /// Where what is told comes from, in the order in which it is.
    private enum Source {
        case changes, erased, identifiers, log
    }

    /// - Returns: whether there is more.
    private func tell(_ cursor: inout SyncCursor, _ page: inout SyncPage) throws(StoreError) -> Bool {
        if tellsErasuresOnly { cursor.told = max(cursor.told, erasuresTold) }
        if isHub {
            return try page.addChanges(
                after: &cursor.told, to: 0, erasuresOnly: tellsErasuresOnly, hasLeftErasure: &hasKeptErasure,
                leavesErasures: mayErase != true, in: reader)
        }
        var source = Source.changes
        while true {
            let tables = reader.tables
            var table = tables.log
            var start = [UInt8](copying: NumberKey(cursor.position).bytes.span)
            switch source {
            case .changes: (table, start) = (tables.changes, [UInt8](copying: NumberKey(cursor.told + 1).bytes.span))
            case .log: break
            default:
                // What comes behind the last one.
                (table, start) = (source == .erased ? tables.suppressed : tables.identifiers, cursor.walk + [0])
                start.removeFirst()
                if start.count == 1 { start = [] }
            }
            var looked = 0
            var (isCut, failure): (Bool, StoreError?) = (false, nil)
            try reader.scan(table, from: start.span) { key, value in
                isCut = page.isFull || looked == Limits.changesLookedAt
                if isCut { return false }
                if !tellsErasuresOnly || SharedChanges.erasedAt(in: value) != nil { looked += 1 }
                do throws(StoreError) { return try tell(source, key, value, &cursor, &page) } catch {
                    failure = error
                    return false
                }
            }
            if let failure { throw failure }
            if isCut { return true }
            if source == .log { return false }
            // Of everybody only a new hub is told.
            if source == .erased { cursor.walk = [2] }
            if source == .identifiers { cursor.walk = [] }
            source = .log
            if let stage = cursor.walk.first { source = stage == 1 ? .erased : .identifiers }
            if source != .erased, tellsErasuresOnly { return false }
        }
    }

    /// Tells of a row of a table.
    /// - Returns: false where the table ends.
    private func tell(
        _ source: Source, _ key: Span<UInt8>, _ value: Span<UInt8>, _ cursor: inout SyncCursor, _ page: inout SyncPage
    ) throws(StoreError) -> Bool {
        let number = NumberKey.decode(key)
        switch source {
        case .changes:
            guard let number, value.count >= SharedChanges.headBytes else { return false }
            if SharedChanges.erasedAt(in: value) != nil {
                tellErasure([UInt8](copying: value), &page)
            } else if !tellsErasuresOnly, let key = IdentifierKey(value, at: SharedChanges.headBytes) {
                try tell(key, &page)
            }
            cursor.told = number
        case .erased:
            // A time that cannot be read suppresses for good here, and is nothing to be told.
            if key.count == SharedChanges.nameBytes, value.count >= 8, !SuppressionList.isLifted(value) {
                var change = [SharedChanges.isErased]
                change.append(contentsOf: key)
                change.append(contentsOf: value.extracting(0..<8))
                tellErasure(change, &page)
            }
            cursor.walk = [1] + [UInt8](copying: key)
        case .identifiers:
            if let identifier = IdentifierKey(key) { try tell(identifier, isOfEverybody: true, &page) }
            cursor.walk = [2] + [UInt8](copying: key)
        case .log:
            guard let number else { return false }
            if let entry = LogEntryView(value), !entry.header.isGenerated {
                for index in 0..<entry.identifierCount {
                    let identifier = entry.identifier(index)
                    if !identifier.isFormer { try tell(IdentifierKey(identifier), &page) }
                }
            }
            cursor.position = number + 1
        }
        return true
    }

    private func tellErasure(_ change: [UInt8], _ page: inout SyncPage) {
        if mayErase == true { page.add(SyncPage.change, change) } else { hasKeptErasure = true }
    }

    /// Tells what is known of one identifier, if its person grants that.
    /// - Parameter isOfEverybody: who was not seen for long is then not told of, but for what they refuse.
    private func tell(_ key: IdentifierKey, isOfEverybody: Bool = false, _ page: inout SyncPage) throws(StoreError) {
        for other in toldOf where other == key { return }
        toldOf.append(key)
        // A thing that many people use is told of nobody.
        if bundles.current.policy.identifiers.isShared(key.tag) { return }
        guard let person = try IdentityGraph.profile(of: key.logged, in: reader) else { return }
        let purpose = settings.hubPurposeTag
        let since = isOfEverybody ? Limits.sharedMilliseconds : .max
        let leave = try HubClient.leave(to: purpose, of: person, seenWithin: since, reader)
        if leave == .nothing { return }
        let isGranted = leave == .everything
        var state = try IdentifierState(
            of: key, in: reader, epoch: identity.epoch, parts: isGranted ? identity.epoch : IdentifierState.nobodys,
            links: isGranted ? Unification.Limits.linksTold : 0)
        if !isGranted { state.keepRefusalsOnly() }
        let name = suppression.name(key.tag, key.digest)
        page.add(isGranted || purpose == 0 ? SharedChanges.isState : SharedChanges.isWithdrawn, name.span, state)
    }

    /// What may be told of somebody.
    private enum Leave {
        case nothing, choices, everything
    }

    /// - Parameter age: who was not seen for so long, milliseconds, is not told of, but for what they refuse.
    private static func leave(
        to purpose: UInt32, of person: ProfileID, seenWithin age: Int64, _ reader: borrowing Reader
    ) throws(StoreError) -> Leave {
        let (id, now) = (person.bytes, SystemClock().wallMilliseconds())
        guard let choices = try reader.get(reader.tables.consent, id.span) else { return .nothing }
        if !ConsentRecord.holdsRefusal(choices) {
            if purpose == 0 || !ConsentRecord.isDecided(choices, tag: purpose) { return .nothing }
            if let record = try reader.get(reader.tables.profiles, id.span) {
                do throws(RecordDamage) { if try now - ProfileView(record).lastSeen > age { return .nothing } } catch {
                    return .nothing
                }
            }
        }
        return purpose != 0 && ConsentRecord.isGranted(choices, tag: purpose, at: now) ? .everything : .choices
    }

    // MARK: What is heard

    /// Hands what was heard, or who is to be erased, to the writer and waits until that is kept.
    /// - Parameter leavesErasures: those that the hub was told of, or passed over, are told again.
    private func hand(
        _ answer: [UInt8], _ erased: [LoggedIdentifier], _ cursor: inout SyncCursor, leavesErasures: Bool = true
    ) throws(StoreError) -> Bool {
        cursor.turn &+= 1
        let submission = intake.obtain()
        submission.work = .learn
        submission.question = answer
        submission.mayErase = !leavesErasures
        submission.identifiers = erased
        submission.answer = cursor.record
        submission.isAnswered = true
        submission.weight = answer.count
        submission.receivedAt = SystemClock().wallMilliseconds()
        guard intake.submit(submission) else {
            intake.recycle(submission)
            return false
        }
        for _ in 0..<500 where !stop.isSet {
            if try storedCursor().turn == cursor.turn { return true }
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

    /// Has those of this device erased whose names are in the suppression list: a name does not lead to them, so all are
    /// looked at. An event may have brought somebody between the look and the commit, hence twice.
    private func eraseWhoIsHeardOf() throws(StoreError) {
        for _ in 0..<2 where mayHoldErased {
            let found = try suppressed()
            mayHoldErased = !found.isEmpty
            if found.isEmpty { return }
            var cursor = try storedCursor()
            if try !hand([], found, &cursor) { return }
        }
    }

    private func suppressed() throws(StoreError) -> [LoggedIdentifier] {
        try reader.begin()
        defer { reader.end() }
        if reader.count(reader.tables.suppressed) == 0 { return [] }
        return try HubClient.suppressed(suppression, in: reader)
    }

    private static func suppressed(
        _ names: SuppressionNames, in reader: borrowing Reader
    ) throws(StoreError) -> [LoggedIdentifier] {
        var found: [LoggedIdentifier] = []
        var failure: StoreError?
        try reader.scan(reader.tables.identifiers, from: Span<UInt8>()) { row, _ in
            guard let key = IdentifierKey(row) else { return true }
            let name = names.name(key.tag, key.digest)
            do throws(StoreError) {
                if let entry = try reader.get(reader.tables.suppressed, name.span), !SuppressionList.isLifted(entry) {
                    found.append(key.logged)
                }
            } catch {
                failure = error
            }
            return failure == nil && found.count < Limits.changesLookedAt
        }
        if let failure { throw failure }
        return found
    }
}
