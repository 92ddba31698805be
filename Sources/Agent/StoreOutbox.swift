// A destination's view of the log: reads from its cursors on, applies consent, filter and denied fields anew at each
// sending, and makes the messages that leave. One for each destination, used by its thread alone. The urgent events are those
// that the table `urgent` names: their lane reads only them, and the other goes over them.

import Activation
import CEL
import Collection
import Cryptography
import Delivery
import Formats
import Governance
import Monitoring
import Platform
import Serving
import Store
import Unification

final class StoreOutbox<Time: Clock>: OutboxSource {
    private let bundle: Bundle
    private let target: BundledDestination
    private let identity: DeviceIdentity
    private let signal: LogSignal
    private let cursors: CursorBox
    private let intake: Intake
    private let meters: Meters
    private let trace: Trace
    /// Of the batch under way, what is of whoever is followed, and whether it leaves.
    private var followed: [(number: UInt64, leaves: Bool)] = []
    private let clock: Time
    /// Names this person to this destination and to no other.
    private let pseudonymKey: HMACSHA256
    private let database: Database
    private let stop: StopFlag
    private var reader: Reader
    /// Whose the entry under way is today.
    private var person = ProfileID.nobody
    /// The cursors and accounts as they are with the changes that are `underWay`.
    private var ledger: DestinationLedger
    /// What was settled last, until it is known to be committed; and how many of these the writer was woken for.
    private var underWay: [CursorRequest] = []
    private var wokenFor = 0
    /// When the writer was woken last, monotonic nanoseconds.
    private var wokenAt: Int64 = 0
    /// Up to here the lane `realtime` has nothing, whatever the signal says.
    private var nothingUrgent: UInt64 = 0
    /// What has gone over the wire and is not in the accounts yet.
    private var unsaved: UInt64 = 0
    private var oldestAt: (cursor: UInt64, time: Int64) = (0, 0)
    /// Up to where all was to go at once at the last look.
    private var flushedTo: UInt64 = 0
    /// Changes that could not be committed.
    private var failedChanges: UInt64 = 0
    private var failedInARow = 0
    /// Where the filling of a batch begins.
    private var first: UInt64 = 0

    private var event = JSONDocument()
    private var evaluator = Evaluator(zones: TimeZones { Files.timeZone($0) })
    private var index = ProfileIndex()
    private let surroundings: Surroundings
    /// Those that the filter mentions, a bit each.
    private let neededAudiences: UInt64
    /// A message, in place of the event that it was made of, while a webhook's body is made of it.
    private var composed = JSONDocument()
    private var message = JSONWriter(reserving: 4096)
    private var path: [JSONNode] = []
    private var digits: [UInt8] = []
    /// Fields of the event under way that this destination does not get: restricted, and not named by it.
    private var withheld: [[[UInt8]]] = []

    init(
        bundle: Bundle, target: BundledDestination, identity: DeviceIdentity, root: HMACSHA256, database: Database,
        signal: LogSignal, cursors: CursorBox, intake: Intake, meters: Meters, trace: Trace = Trace(), clock: Time,
        stop: StopFlag
    ) throws(StoreError) {
        self.bundle = bundle
        self.target = target
        self.identity = identity
        self.signal = signal
        self.cursors = cursors
        self.intake = intake
        self.meters = meters
        self.trace = trace
        self.clock = clock
        self.stop = stop
        self.database = database
        var label = Array("destination:".utf8)
        label.append(contentsOf: target.destination.name)
        let key = root.authenticate(label)
        pseudonymKey = key.withSpan { HMACSHA256(key: $0) }
        surroundings = Surroundings(now: 0, audienceCount: bundle.policy.decisions.audiences.count)
        surroundings.device = [identity.device]
        surroundings.scores = Scorer.make(for: bundle.policy)
        let name = target.destination.name
        neededAudiences = bundle.policy.audiences(of: (target.filter?.slots ?? []) + (target.body?.slots ?? []))
        reader = try database.makeReader()
        try reader.begin()
        ledger = try DestinationLedger(reader, name: name) ?? DestinationLedger()
        reader.end()
    }

    // MARK: What waits

    func outlook() -> OutboxOutlook {
        // Before the number of the next: what is urgent by then is counted there.
        let newest = signal.newestUrgent
        let isUrgent = newest >= urgentFrom
        flushedTo = signal.flushedTo
        // Those that wait in the other lane may be among them; then that one goes first.
        let next = signal.nextSequence
        let count = next > settledTo ? next - settledTo : 0
        if count == 0 { return OutboxOutlook(count: 0, oldestAt: 0, isUrgent: isUrgent) }
        if oldestAt.cursor != ledger.cursor {
            var time = clock.wallMilliseconds()
            _ = scan(from: ledger.cursor) { number, entry in
                if self.isSettled(number, entry.header.tier == .realtime) { return true }
                time = entry.header.receivedAt
                return false
            }
            oldestAt = (ledger.cursor, time)
        }
        // Its hours and its delay are over then, whatever the clock says; what a link costs is still kept to.
        let isFlushed = ledger.cursor < flushedTo
        return OutboxOutlook(
            count: count, oldestAt: isFlushed ? .max >> 1 : oldestAt.time, isUrgent: isUrgent,
            budgetBytes: isFlushed || isInWindow ? budgetBytes : 0)
    }

    /// As if all that is settled lay before the rest.
    private var settledTo: UInt64 { ledger.cursor + ledger.ahead }
    private var urgentFrom: UInt64 { max(ledger.urgent, nothingUrgent + 1) }

    /// What is left of the day's budget; 0 for less than a request is worth.
    private var budgetBytes: Int {
        guard let budget = target.destination.budgetBytes else { return .max }
        let left = budget - Int64(clamping: ledger.spent(on: today) + unsaved)
        return left < Delivery.Limits.leastBudgetBytes ? 0 : Int(clamping: left)
    }

    private var today: UInt64 { UInt64(max(0, clock.wallMilliseconds()) / 86_400_000) }

    /// Whether the lane `batch` may send at this time of the day. Where its zone is not known on this device, it may: what
    /// never left would be worse.
    private var isInWindow: Bool {
        guard let window = target.window else { return true }
        surroundings.now = clock.wallMilliseconds()
        let none: [UInt8] = []
        index.clear(bundle.policy.attributes)
        var failures = 0
        let isTrue = isTrue(window, none.span, audiences: 0, &failures)
        return isTrue || failures > 0
    }

    var revision: UInt64 { database.consentRevision &+ failedChanges }

    func spend(bytes: Int64) { unsaved += UInt64(bytes) }

    func wait(forCount count: UInt64?, milliseconds: Int64) {
        guard finish() else { return }
        signal.wait(
            until: count.map { settledTo &+ $0 }, urgentFrom: urgentFrom, flushedTo: flushedTo, milliseconds: milliseconds, stop)
    }

    var isStopRequested: Bool { stop.isSet }

    /// Calls `body` with each entry from one on until it returns false.
    /// - Parameter gone: called with the number of an entry that is no longer there or cannot be read, and what is instead.
    private func scan(
        from first: UInt64, gone: (UInt64, Span<UInt8>) -> Bool = { _, _ in true },
        _ body: (UInt64, borrowing LogEntryView) -> Bool
    ) -> Bool {
        look { () throws(StoreError) in
            let start = NumberKey(first)
            try reader.scan(reader.tables.log, from: start.bytes.span) { key, value in
                guard let number = NumberKey.decode(key) else { return false }
                guard let entry = LogEntryView(value) else { return gone(number, value) }
                return body(number, entry)
            }
        }
    }

    /// The same with the entries that the table `urgent` names.
    private func scanUrgent(
        gone: (UInt64, Span<UInt8>) -> Bool, _ body: (UInt64, borrowing LogEntryView) -> Bool
    ) -> Bool {
        look { () throws(StoreError) in try StoreOutbox.scanUrgent(from: ledger.urgent, reader, gone, body) }
    }

    private static func scanUrgent(
        from first: UInt64, _ reader: borrowing Reader, _ gone: (UInt64, Span<UInt8>) -> Bool,
        _ body: (UInt64, borrowing LogEntryView) -> Bool
    ) throws(StoreError) {
        let start = NumberKey(first)
        try reader.scan(reader.tables.urgent, from: start.bytes.span) { key, _ in
            guard let number = NumberKey.decode(key) else { return false }
            do throws(StoreError) {
                guard let value = try reader.get(reader.tables.log, key) else { return gone(number, Span<UInt8>()) }
                guard let entry = LogEntryView(value) else { return gone(number, value) }
                return body(number, entry)
            } catch {
                return false
            }
        }
    }

    /// Reads from a snapshot of the store.
    private func look(_ body: () throws(StoreError) -> Void) -> Bool {
        do throws(StoreError) {
            try reader.begin()
            try body()
            reader.end()
            return true
        } catch {
            reader.end()
            Log.error("the log cannot be read", because: error.message)
            return false
        }
    }

    /// Whether the lane `batch` goes over an entry because the other has settled it.
    /// - Parameter maybe: whether it may be one of that lane's.
    private func isSettled(_ number: UInt64, _ maybe: Bool) -> Bool {
        maybe && number < ledger.urgent && isUrgent(number)
    }

    private func isUrgent(_ number: UInt64) -> Bool { StoreOutbox.isUrgent(number, reader) }

    private static func isUrgent(_ number: UInt64, _ reader: borrowing Reader) -> Bool {
        let key = NumberKey(number)
        do throws(StoreError) { return try reader.get(reader.tables.urgent, key.bytes.span) != nil } catch { return false }
    }

    // MARK: What leaves

    func fill(_ batch: inout Batch) {
        surroundings.now = clock.wallMilliseconds()
        // What is followed in the batch before is told when that one is settled.
        let known = batch.after ?? 0
        followed.removeAll { $0.number > known }
        var filling = Batch()
        swap(&filling, &batch)
        if filling.lane == .realtime {
            // As of before the look: what comes meanwhile is looked for anew.
            let last = min(signal.newestUrgent, signal.nextSequence - 1)
            let isRead = scanUrgent(gone: { number, mark in self.pass(number, mark, &filling) }) { number, entry in
                self.add(entry, number, to: &filling)
            }
            if isRead, filling.lastSequence == nil { nothingUrgent = max(nothingUrgent, last) }
        } else {
            first = filling.after.map { $0 + 1 } ?? ledger.cursor
            _ = scan(
                from: first,
                gone: { number, mark in
                    if self.isUrgent(number) { return number < self.ledger.urgent && filling.skip(sequence: number) }
                    return self.pass(number, mark, &filling)
                },
                { number, entry in
                    if entry.header.tier == .realtime, self.isUrgent(number) {
                        return number < self.ledger.urgent && filling.skip(sequence: number)
                    }
                    return self.add(entry, number, to: &filling)
                })
        }
        swap(&filling, &batch)
    }

    /// Goes over an entry that is no longer in the log.
    /// - Parameter mark: what is in its place.
    private func pass(_ number: UInt64, _ mark: Span<UInt8>, _ filling: inout Batch) -> Bool {
        switch LogRemoval(mark) {
        case .erased: return filling.pass(sequence: number, as: .erased)
        case .expired: return filling.pass(sequence: number, as: .expired)
        case .evicted:
            // Of a run, what lies behind those that were looked at.
            let before = max(filling.lastSequence ?? 0, (filling.lane == .realtime ? ledger.cursor : first) - 1)
            let count = min(LogRemoval.count(mark), filling.lane == .realtime ? 1 : number - before)
            return filling.pass(sequence: number, as: .evicted, count: Int(count))
        case nil:
            if !mark.isEmpty { meters.badRecords.add() }
            return filling.pass(sequence: number, as: mark.isEmpty ? .erased : .filtered)
        }
    }

    /// Adds an event's message if it may leave.
    private func add(_ entry: borrowing LogEntryView, _ number: UInt64, to filling: inout Batch) -> Bool {
        if bundle.plans.isOver(entry, &event, now: surroundings.now) {
            return filling.pass(sequence: number, as: .expired)
        }
        let leaves = mayLeave(entry)
        if trace.isOn { follow(entry, number, leaves) }
        guard leaves else { return filling.pass(sequence: number) }
        compose(entry, number)
        let text = message.bytes
        if filling.count == 0 { filling.id = webhookID(entry) }
        let purpose = bundle.policy.purposes.index(ofTag: entry.header.purposeTag)
        // What does not fit any more is not made in vain.
        return filling.append(sequence: number, text.span, purpose: purpose, at: entry.header.receivedAt) && !filling.isFull
    }

    private func follow(_ entry: borrowing LogEntryView, _ number: UInt64, _ leaves: Bool) {
        var keys: [IdentifierKey] = []
        for index in 0..<entry.identifierCount { keys.append(IdentifierKey(entry.identifier(index))) }
        if trace.isAbout(person, { keys.contains($0) }) { followed.append((number, leaves)) }
    }

    /// Tells of what a batch has settled.
    private func tellFollowed(_ cursor: UInt64, isRefused: Bool) {
        for (number, leaves) in followed where number < cursor {
            var line = Trace.line("deliver")
            line.key("destination")
            line.string(target.destination.name)
            line.key("seq")
            line.uint(number)
            line.key("outcome")
            line.string(!leaves ? "filtered" : isRefused ? "rejected" : "delivered")
            trace.add(&line)
        }
        followed.removeAll { $0.number < cursor }
    }

    /// Consent for the event's own purpose and the destination's, as it is now; then the filter.
    private func mayLeave(_ entry: borrowing LogEntryView) -> Bool {
        // That a person was erased every destination must hear (promise P8).
        let isNotice = entry.header.isErasureNotice
        let purposes = bundle.policy.purposes
        person = entry.header.profile
        var granted: PurposeSet? = []
        if !isNotice && !entry.header.isArrival {
            let owner: ProfileID?
            do throws(StoreError) {
                owner = try StoreOutbox.person(of: entry, bundle.policy.identifiers, reader)
            } catch {
                return false
            }
            guard let owner else { return false }
            person = owner
            granted = StoreOutbox.consent(
                owner, entry.header.purposeTag, target.destination.purposeTag, purposes, surroundings.now, reader)
        }
        guard let granted else { return false }
        surroundings.consent = granted
        surroundings.event = nil
        do throws(JSONError) { try event.parse(entry.body) } catch {
            meters.badRecords.add()
            return false
        }
        let document = event
        surroundings.eventTimestamp = document.member(document.root, "timestamp").flatMap { Timestamp.parse(document.bytes($0)) }
        if isNotice { return true }
        if entry.header.isArrival, !isGrantedAtOrigin(entry.header.purposeTag) { return false }
        if entry.header.isDirected { return isMeant(granted) }
        // A webhook that does not say what it wants gets what triggers send there.
        guard let filter = target.filter else { return target.destination.format != .webhook }
        surroundings.event = event
        let isLeaving = matches(filter, person, reader)
        surroundings.event = nil
        return isLeaving
    }

    /// Whether the device that has admitted the arrival in `event` said with it that its person grants the event's purpose,
    /// by this hub's bundle, and the destination's. A hub knows no more of it.
    private func isGrantedAtOrigin(_ ofEvent: UInt32) -> Bool {
        let document = event
        let purposes = bundle.policy.purposes
        var granted: PurposeSet = []
        var child = originOfArrival.flatMap { document.member($0, "consent") }.flatMap { document.firstChild($0) }
        while let name = child {
            child = document.next(name)
            if let purpose = purposes.index(of: document.bytes(name)) { granted.insert(PurposeSet(purpose: purpose)) }
        }
        surroundings.consent = granted
        for tag in [ofEvent, target.destination.purposeTag] where tag != 0 {
            guard let purpose = purposes.index(ofTag: tag), granted.contains(PurposeSet(purpose: purpose)) else {
                return false
            }
        }
        return true
    }

    /// `context.gatehouse` of the arrival in `event`.
    private var originOfArrival: JSONNode? {
        event.member(event.root, "context").flatMap { event.member($0, "gatehouse") }
    }

    /// Whether the trigger that has fired, in `event`, sends to this destination by the bundle in force, and the purpose of
    /// what it is about is still granted. The filter is not asked: somebody has said where it goes.
    private func isMeant(_ granted: PurposeSet) -> Bool {
        let document = event
        guard let properties = document.member(document.root, "properties"),
            let name = document.member(properties, "trigger"),
            let trigger = bundle.policy.triggers.trigger(named: document.bytes(name)),
            trigger.isFor(target.destination.name),
            let context = document.member(document.root, "context"), let cause = document.member(context, "trigger"),
            let ofCause = document.member(cause, "purpose"),
            let purpose = bundle.policy.purposes.index(of: document.bytes(ofCause))
        else { return false }
        return granted.contains(PurposeSet(purpose: purpose))
    }

    /// The purposes that the person grants; nil when the event may not leave.
    private static func consent(
        _ person: ProfileID, _ ofEvent: UInt32, _ purpose: UInt32, _ plan: PurposePlan, _ now: Int64,
        _ reader: borrowing Reader
    ) -> PurposeSet? {
        do throws(StoreError) {
            let key = person.bytes
            guard let record = try reader.get(reader.tables.consent, key.span),
                ConsentRecord.isGranted(record, tag: ofEvent, at: now),
                ConsentRecord.isGranted(record, tag: purpose, at: now)
            else { return nil }
            return ConsentRecord.granted(record, plan, at: now)
        } catch {
            return nil
        }
    }

    /// The person whom an entry is about: whose the identifier is now for which it was counted; where that leads nowhere any
    /// more, its profile, as long as a choice of theirs is known. nil for nobody.
    private static func person(
        of entry: borrowing LogEntryView, _ plan: IdentifierPlan, _ reader: borrowing Reader
    ) throws(StoreError) -> ProfileID? {
        if entry.identifierCount > 0 {
            let first = entry.identifier(0)
            // A shared one leads to nobody for long.
            if !plan.isShared(first.kindTag), let profile = try IdentityGraph.profile(of: first, in: reader) { return profile }
        }
        return reader.has(reader.tables.consent, entry.header.profile) ? entry.header.profile : nil
    }

    /// Whether the filter lets the event go to the destination, in the light of the person's profile.
    private func matches(_ filter: Expression, _ profile: ProfileID, _ reader: borrowing Reader) -> Bool {
        guard let record = load(profile, reader) else { return false }
        var failures = 0
        let isTrue = isTrue(filter, record.span, audiences: neededAudiences, &failures)
        if failures > 0 { meters.evaluationErrors.add(UInt64(failures)) }
        return isTrue
    }

    /// A person's record, empty for one without, and the index filled from it; nil where the store cannot be read.
    private func load(_ profile: ProfileID, _ reader: borrowing Reader) -> [UInt8]? {
        let policy = bundle.policy
        let key = profile.bytes
        surroundings.bundleAge = policy.age(at: surroundings.now)
        surroundings.profileAge = nil
        do throws(StoreError) {
            if let record = try reader.get(reader.tables.profiles, key.span) {
                do throws(RecordDamage) {
                    let view = try ProfileView(record)
                    index.fill(view, policy.attributes)
                    surroundings.profileAge = max(0, surroundings.now - view.lastSeen)
                    return [UInt8](copying: view.bytes)
                } catch {
                    meters.badRecords.add()
                }
            }
        } catch {
            return nil
        }
        index.clear(policy.attributes)
        return []
    }

    private func isTrue(
        _ condition: Expression, _ record: Span<UInt8>, audiences: UInt64, _ failures: inout Int
    ) -> Bool {
        let policy = bundle.policy
        evaluator.begin()
        failures += policy.findAudiences(audiences, record, index, surroundings, &evaluator)
        let isTrue = evaluator.isTrue(
            policy.program, condition.number,
            DecisionBindings(
                record: record, index: index, plan: policy.attributes, slots: policy.slots, surroundings: surroundings),
            failures: &failures)
        evaluator.end()
        failures += surroundings.scores?.finish() ?? 0
        return isTrue
    }

    /// Writes the message as it leaves: the event without denied fields, with the identifiers that may leave, and where
    /// it comes from (DESIGN section 7).
    private func compose(_ entry: borrowing LogEntryView, _ number: UInt64) {
        message.clear()
        let tracking = bundle.plans.tracking
        // What the device has made of an event may hold fields that are restricted in that one.
        withheld = tracking.keeping.restricted
        if !withheld.isEmpty, !entry.header.isGenerated, let rule = tracking.rule(ofKept: event.root, event) {
            withheld = rule.restricted
        }
        if target.destination.format == .webhook {
            composeMessage(entry, number)
            // A template is about what it was written for: that somebody was erased, receivers hear in the same words.
            if let body = target.body, !entry.header.isErasureNotice { fillIn(body) }
            return
        }
        guard target.destination.format == .cloudEvents else { return composeMessage(entry, number) }
        // CloudEvents 1.0, JSON format: the message is the data, and the last word of the type says which kind it is.
        message.beginObject()
        message.key("specversion")
        message.string("1.0")
        message.key("id")
        message.string(entry.messageID)
        message.key("source")
        message.string(Array("gatehouse:".utf8) + identity.device)
        message.key("type")
        var type = Array("gatehouse.".utf8)
        let document = event
        if let name = document.member(document.root, "type") { type.append(contentsOf: document.bytes(name)) }
        message.string(type)
        message.key("datacontenttype")
        message.string("application/json")
        message.key("data")
        composeMessage(entry, number)
        message.endObject()
    }

    private func composeMessage(_ entry: borrowing LogEntryView, _ number: UInt64) {
        message.beginObject()
        message.key("messageId")
        message.string(entry.messageID)
        message.key("anonymousId")
        let id = person.bytes
        message.string(pseudonym(of: id.span))
        path.removeAll(keepingCapacity: true)
        // What a hub keeps is as it came, with what its device knew it by.
        let isArrival = entry.header.isArrival
        let isWhole = target.destination.denied.isEmpty && withheld.isEmpty && !isArrival
        let context = StoreOutbox.member(event, "context")
        if isWhole {
            StoreOutbox.copyMembers(event, of: event.root, without: ["context"], into: &message)
        } else {
            writeMembers(of: event.root, without: isArrival ? ["context", "messageId", "anonymousId"] : ["context"])
        }
        message.key("context")
        message.beginObject()
        if let context, isWhole {
            StoreOutbox.copyMembers(event, of: context.value, without: StoreOutbox.own, into: &message)
        } else if let context {
            path.append(context.name)
            if !isDenied { writeMembers(of: context.value, without: StoreOutbox.own) }
            path.removeLast()
        }
        writeIdentifiers(entry, "identifiers", areFormer: false)
        writeFormerIdentifiers(entry)
        writeOrigin(entry, number)
        message.endObject()
        message.endObject()
    }

    /// Makes the body of a webhook of the message: `event` in it is what may leave of the event, and nothing else.
    private func fillIn(_ template: WebhookBody) {
        let text = message.bytes
        do throws(JSONError) { try composed.parse(text.span) } catch { return }
        surroundings.event = composed
        var body: [UInt8] = []
        let record = load(person, reader) ?? []
        evaluator.begin()
        _ = bundle.policy.findAudiences(neededAudiences, record.span, index, surroundings, &evaluator)
        for piece in template.pieces {
            switch piece {
            case .text(let text): body.append(contentsOf: text)
            case .value(let number): body.append(contentsOf: value(number, record.span))
            case .part(let number): WebhookBody.append(part: value(number, record.span), to: &body)
            }
        }
        evaluator.end()
        surroundings.event = nil
        message.clear()
        message.bytes.append(contentsOf: body)
    }

    /// What an expression comes to, as JSON; null where it fails.
    private func value(_ number: Int, _ record: Span<UInt8>) -> [UInt8] {
        let policy = bundle.policy
        let bindings = DecisionBindings(
            record: record, index: index, plan: policy.attributes, slots: policy.slots, surroundings: surroundings)
        var writer = JSONWriter()
        do throws(EvaluationError) {
            let value = try evaluator.evaluate(policy.program, number, bindings)
            evaluator.write(value, to: &writer, policy.program, bindings)
        } catch {
            if error.reason != .noSuchKey { meters.evaluationErrors.add() }
            writer.null()
        }
        return writer.bytes
    }

    /// By what a webhook's receiver knows a message that comes again: of its id, which a sender may have chosen, a hash.
    private func webhookID(_ entry: borrowing LogEntryView) -> [UInt8] {
        if target.destination.format != .webhook { return [] }
        return Array("msg_".utf8) + pseudonym(of: entry.messageID)
    }

    /// 32 hexadecimal digits that stand for something at this destination and at no other.
    private func pseudonym(of name: Span<UInt8>) -> [UInt8] {
        let digest = pseudonymKey.authenticate(name)
        var digits: [UInt8] = []
        for index in 0..<16 {
            digits.append(Hex.digit(digest[index] >> 4))
            digits.append(Hex.digit(digest[index] & 0xF))
        }
        return digits
    }

    /// Members of `context` that are written anew.
    private static var own: [StaticString] { ["identifiers", "formerIdentifiers", "gatehouse"] }

    /// A member of the event with its name.
    private static func member(
        _ event: borrowing JSONDocument, _ name: StaticString
    ) -> (name: JSONNode, value: JSONNode)? {
        guard let value = event.member(event.root, name) else { return nil }
        return (event.key(ofValue: value), value)
    }

    /// Copies the members of an object of which nothing is withheld, as they lie in the log: what is kept of events has been
    /// written here, without white space and without a name twice.
    private static func copyMembers(
        _ event: borrowing JSONDocument, of object: JSONNode, without names: [StaticString], into message: inout JSONWriter
    ) {
        var key = event.firstChild(object)
        while let name = key, let value = event.next(name) {
            key = event.next(value)
            if isOne(of: names, event, name) { continue }
            message.key(event.bytes(name))
            message.raw(event.source(value))
        }
    }

    private static func isOne(of names: [StaticString], _ event: borrowing JSONDocument, _ key: JSONNode) -> Bool {
        for name in names where event.equals(key, name) { return true }
        return false
    }

    private func writeMember(_ name: JSONNode, _ value: JSONNode) {
        path.append(name)
        defer { path.removeLast() }
        if isDenied { return }
        let document = event
        message.key(document.bytes(name))
        writeValue(value)
    }

    private func writeValue(_ value: JSONNode) {
        guard event.kind(value) == .object, !target.destination.denied.isEmpty || !withheld.isEmpty else {
            message.value(event, value)
            return
        }
        message.beginObject()
        var key = event.firstChild(value)
        while let name = key, let member = event.next(name) {
            writeMember(name, member)
            key = event.next(member)
        }
        message.endObject()
    }

    /// The members of an object without its braces.
    private func writeMembers(of object: JSONNode, without names: [StaticString]) {
        var key = event.firstChild(object)
        while let name = key, let value = event.next(name) {
            key = event.next(value)
            if !StoreOutbox.isOne(of: names, event, name) { writeMember(name, value) }
        }
    }

    private var isDenied: Bool {
        for denied in target.destination.denied where isHere(denied) { return true }
        for field in withheld where isHere(field) {
            for named in target.destination.restricted where isHere(named) { return false }
            return true
        }
        return false
    }

    /// Whether `path` is at a field now.
    private func isHere(_ field: [[UInt8]]) -> Bool {
        if field.count != path.count { return false }
        for index in path.indices {
            let segment = field[index]
            if !event.equals(path[index], segment.span) { return false }
        }
        return true
    }

    private func writeIdentifiers(_ entry: borrowing LogEntryView, _ name: StaticString, areFormer: Bool) {
        message.key(name)
        message.beginObject()
        for kind in target.identifiers {
            for index in 0..<entry.identifierCount {
                let identifier = entry.identifier(index)
                // The plain hash is the same under each pepper.
                let isPlain = kind.isPlain && !entry.header.isArrival
                let isWanted = isPlain ? !areFormer : identifier.isFormer == areFormer
                guard identifier.kindTag == kind.tag, !identifier.isHidden, isWanted else { continue }
                // Never the keyed hash in place of a plain one: the destination could not tell them apart.
                let digest = isPlain ? identifier.plainDigest : identifier.digest
                guard let digest, digest != .zero else { continue }
                message.key(kind.name)
                digits.removeAll(keepingCapacity: true)
                digest.appendHexadecimal(to: &digits)
                message.string(digits)
                break
            }
        }
        message.endObject()
    }

    /// While the pepper changes a destination is told what it knew the identifiers by.
    private func writeFormerIdentifiers(_ entry: borrowing LogEntryView) {
        for index in 0..<entry.identifierCount where entry.identifier(index).isFormer {
            let tag = entry.identifier(index).kindTag
            guard target.identifiers.contains(where: { $0.tag == tag && !$0.isPlain }) else { continue }
            return writeIdentifiers(entry, "formerIdentifiers", areFormer: true)
        }
    }

    private func writeOrigin(_ entry: borrowing LogEntryView, _ number: UInt64) {
        message.key("gatehouse")
        message.beginObject()
        if entry.header.isArrival { return writeOriginOfArrival() }
        message.key("device")
        message.string(identity.device)
        message.key("epoch")
        message.uint(identity.epoch(of: number))
        message.key("seq")
        message.uint(number)
        message.key("consent")
        message.beginArray()
        let purposes = bundle.policy.purposes
        for index in purposes.names.indices where surroundings.consent.contains(PurposeSet(purpose: index)) {
            message.string(purposes.names[index])
        }
        message.endArray()
        message.key("bundle")
        message.uint(entry.header.bundleVersion)
        message.endObject()
    }

    /// As it came, with the hub that passes it on.
    private func writeOriginOfArrival() {
        var child = originOfArrival.flatMap { event.firstChild($0) }
        while let name = child, let value = event.next(name) {
            child = event.next(value)
            if event.equals(name, "via") { continue }
            let document = event
            message.key(document.bytes(name))
            message.value(event, value)
        }
        message.key("via")
        message.string(identity.device)
        message.endObject()
    }

    // MARK: What is done

    func acknowledge(_ batch: borrowing Batch) {
        settle(batch, CursorChange(delivered: UInt64(batch.count)))
    }

    func quarantine(_ batch: borrowing Batch, reason: QuarantineReason) {
        Log.warning("a destination refuses an event; it is not sent there again") { line in
            line.field("destination", String(decoding: self.target.destination.name, as: UTF8.self))
            switch reason {
            case .rejected(let status): line.field("status", Int(status))
            case .tooLarge: line.field("reason", "too large")
            }
        }
        settle(batch, CursorChange(filtered: UInt64(batch.count), rejected: UInt64(batch.count)))
    }

    /// Leaves it to the writer, and wakes that at times only: a backlog would make it commit two hundred times a second. What was
    /// not committed before a power cut is sent again.
    private func settle(_ batch: borrowing Batch, _ counts: CursorChange) {
        let now = clock.monotonicNanoseconds()
        let isDue = now - wokenAt >= Limits.cursorNanoseconds || underWay.count >= Limits.cursorsUnderWay
        guard let change = change(by: batch, counts), !isDue || finish(wokenFor) else { return }
        let request = CursorRequest(destination: target.destination.name, change: change)
        cursors.begin(request, after: underWay.last)
        underWay.append(request)
        if isDue { wake(at: now) }
        take(change)
        if !followed.isEmpty { tellFollowed(change.cursor, isRefused: counts.rejected > 0) }
    }

    private func wake(at now: Int64) {
        (wokenFor, wokenAt) = (underWay.count, now)
        intake.poke()
    }

    /// Waits for the commit of all that was settled. Until then the next batch is on its way already.
    /// - Returns: false when it could not be committed: what is in the store counts, and is sent from there again.
    func finish() -> Bool {
        if wokenFor < underWay.count { wake(at: clock.monotonicNanoseconds()) }
        return finish(underWay.count)
    }

    /// Waits for the oldest changes.
    private func finish(_ count: Int) -> Bool {
        if count == 0 { return true }
        if cursors.finish(underWay[count - 1]) {
            underWay.removeFirst(count)
            wokenFor = 0
            failedInARow = 0
            return true
        }
        // It went over the wire all the same: the day's budget holds.
        unsaved += cursors.failedBytes(underWay)
        underWay = []
        wokenFor = 0
        nothingUrgent = 0
        failedChanges += 1
        // What cannot be noted would be sent again and again.
        repeat {
            let pause = min(Limits.longestCommitPauseMilliseconds, Limits.commitPauseMilliseconds << Int64(failedInARow))
            failedInARow = min(failedInARow + 1, 16)
            signal.wait(until: nil, urgentFrom: .max, flushedTo: 0, milliseconds: pause, stop)
        } while !reload() && !stop.isSet
        return false
    }

    private func reload() -> Bool {
        look { () throws(StoreError) in
            ledger = try DestinationLedger(reader, name: target.destination.name) ?? DestinationLedger()
        }
    }

    /// Goes on from where a change leaves the accounts: the writer does the same with what is on the disk.
    func take(_ change: CursorChange) {
        unsaved = 0
        _ = ledger.apply(change)
    }

    /// What a batch that is settled means for the accounts; nil: nothing was looked at.
    func change(by batch: borrowing Batch, _ counts: CursorChange) -> CursorChange? {
        guard let last = batch.lastSequence else { return nil }
        var change = counts
        (change.lane, change.cursor) = (batch.lane, last + 1)
        change.erased = UInt64(batch.erasedCount)
        change.expired = UInt64(batch.expiredCount)
        change.evicted = UInt64(batch.evictedCount)
        change.filtered += UInt64(batch.passedCount) - change.erased - change.expired - change.evicted
        (change.day, change.spentBytes) = (today, unsaved)
        return change
    }
}
