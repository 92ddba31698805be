// A destination's view of the log: reads from its cursor on, applies consent, filter and denied fields anew at each
// sending, and makes the messages that leave. One for each destination, used by its thread alone.

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
    private let clock: Time
    /// Names this person to this destination and to no other.
    private let pseudonymKey: HMACSHA256
    private let stop: StopFlag
    private var reader: Reader
    /// Whose the entry under way is today.
    private var person = ProfileID.nobody
    /// Number of the next event to send, as committed.
    private var cursor: UInt64
    private var oldestAt: (cursor: UInt64, time: Int64) = (0, 0)

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
    /// Fields of the event under way that this destination does not get: restricted, and not named by it.
    private var withheld: [[[UInt8]]] = []

    init(
        bundle: Bundle, target: BundledDestination, identity: DeviceIdentity, root: HMACSHA256, database: Database,
        signal: LogSignal, cursors: CursorBox, intake: Intake, meters: Meters, clock: Time, stop: StopFlag
    ) throws(StoreError) {
        self.bundle = bundle
        self.target = target
        self.identity = identity
        self.signal = signal
        self.cursors = cursors
        self.intake = intake
        self.meters = meters
        self.clock = clock
        self.stop = stop
        var label = Array("destination:".utf8)
        label.append(contentsOf: target.destination.name)
        let key = root.authenticate(label)
        pseudonymKey = key.withSpan { HMACSHA256(key: $0) }
        surroundings = Surroundings(now: 0, audienceCount: bundle.policy.decisions.audiences.count)
        surroundings.device = [identity.device]
        surroundings.scores = Scorer.make(for: bundle.policy)
        neededAudiences = bundle.policy.audiences(of: (target.filter?.slots ?? []) + (target.body?.slots ?? []))
        reader = try database.makeReader()
        try reader.begin()
        cursor = try DestinationLedger(reader, name: target.destination.name)?.cursor ?? 1
        reader.end()
    }

    // MARK: What waits

    func outlook() -> OutboxOutlook {
        let next = signal.nextSequence
        let count = next > cursor ? next - cursor : 0
        if count == 0 { return OutboxOutlook(count: 0, oldestAt: 0, isUrgent: false) }
        if oldestAt.cursor != cursor {
            var time = clock.wallMilliseconds()
            _ = scan { _, entry in
                time = entry.header.receivedAt
                return false
            }
            oldestAt = (cursor, time)
        }
        return OutboxOutlook(count: count, oldestAt: oldestAt.time, isUrgent: signal.isUrgent(from: cursor))
    }

    func wait(forCount count: UInt64?, milliseconds: Int64) {
        signal.wait(until: count.map { cursor + $0 }, urgentFrom: cursor, milliseconds: milliseconds, stop)
    }

    var isStopRequested: Bool { stop.isSet }

    /// Calls `body` with each entry from the cursor on until it returns false.
    /// - Parameter gone: called with the number of an entry that is no longer there, or (nil) cannot be read.
    private func scan(
        gone: (UInt64, LogRemoval?) -> Bool = { _, _ in true }, _ body: (UInt64, borrowing LogEntryView) -> Bool
    ) -> Bool {
        do throws(StoreError) {
            try reader.begin()
            let start = NumberKey(cursor)
            try reader.scan(reader.tables.log, from: start.bytes.span) { key, value in
                guard let number = NumberKey.decode(key) else { return false }
                guard let entry = LogEntryView(value) else { return gone(number, LogRemoval(value)) }
                return body(number, entry)
            }
            reader.end()
            return true
        } catch {
            reader.end()
            Log.error("the log cannot be read") { $0.field("reason", error.message) }
            return false
        }
    }

    // MARK: What leaves

    func fill(_ batch: inout Batch) {
        surroundings.now = clock.wallMilliseconds()
        var filling = Batch()
        swap(&filling, &batch)
        _ = scan(
            gone: { number, removal in
                switch removal {
                case .erased: return filling.pass(sequence: number, as: .erased)
                case .expired: return filling.pass(sequence: number, as: .expired)
                case .evicted: return filling.pass(sequence: number, as: .evicted)
                case nil:
                    meters.badRecords.add()
                    return filling.pass(sequence: number)
                }
            },
            { number, entry in
                if self.bundle.plans.isOver(entry, &self.event, now: self.surroundings.now) {
                    return filling.pass(sequence: number, as: .expired)
                }
                if self.mayLeave(entry) {
                    self.compose(entry, number)
                    let text = self.message.bytes
                    if filling.count == 0 { filling.id = self.webhookID(entry) }
                    // What does not fit any more is not made in vain.
                    return filling.append(sequence: number, text.span) && !filling.isFull
                }
                return filling.pass(sequence: number)
            })
        swap(&filling, &batch)
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
        if entry.identifierCount > 0, plan.isSomebodys(entry.identifier(0), in: reader),
            let profile = try IdentityGraph.profile(of: entry.identifier(0), in: reader)
        {
            return profile
        }
        return reader.has(reader.tables.consent, entry.header.profile) ? entry.header.profile : nil
    }

    /// Whether the filter lets the event go to the destination, in the light of the person's profile.
    private func matches(_ filter: Expression, _ profile: ProfileID, _ reader: borrowing Reader) -> Bool {
        guard let record = load(profile, reader) else { return false }
        return evaluate(filter, record.span)
    }

    /// A person's record, empty for one without, and the index filled from it; nil where the store cannot be read.
    private func load(_ profile: ProfileID, _ reader: borrowing Reader) -> [UInt8]? {
        let policy = bundle.policy
        let key = profile.bytes
        surroundings.bundleAge = surroundings.now - policy.loadedAt
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

    private func evaluate(_ filter: Expression, _ record: Span<UInt8>) -> Bool {
        let policy = bundle.policy
        evaluator.begin()
        var failures = policy.findAudiences(neededAudiences, record, index, surroundings, &evaluator)
        let isTrue = evaluator.isTrue(
            policy.program, filter.number,
            DecisionBindings(
                record: record, index: index, plan: policy.attributes, slots: policy.slots, surroundings: surroundings),
            failures: &failures)
        evaluator.end()
        failures += surroundings.scores?.finish() ?? 0
        if failures > 0 { meters.evaluationErrors.add(UInt64(failures)) }
        return isTrue
    }

    /// Writes the message as it leaves: the event without denied fields, with the identifiers that may leave, and where
    /// it comes from (DESIGN section 7).
    private func compose(_ entry: borrowing LogEntryView, _ number: UInt64) {
        message.clear()
        let tracking = bundle.plans.tracking
        // What the device has made of an event may hold fields that are restricted in that one.
        let ofEvent = entry.header.isGenerated ? nil : tracking.rule(ofKept: event.root, event)?.restricted
        withheld = ofEvent ?? tracking.keeping.restricted
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
        var context: JSONNode?
        var key = event.firstChild(event.root)
        while let name = key, let value = event.next(name) {
            key = event.next(value)
            if event.equals(name, "context") {
                context = value
                continue
            }
            // An arrival has them from its device.
            if entry.header.isArrival, event.equals(name, "messageId") || event.equals(name, "anonymousId") { continue }
            writeMember(name, value)
        }
        message.key("context")
        message.beginObject()
        if let context, let name = contextName { writeMembers(of: context, named: name) }
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

    private var contextName: JSONNode? {
        var key = event.firstChild(event.root)
        while let name = key {
            if event.equals(name, "context") { return name }
            key = event.next(name).flatMap { event.next($0) }
        }
        return nil
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

    /// The members of an object without its braces, and without what we write ourselves.
    private func writeMembers(of object: JSONNode, named name: JSONNode) {
        path.append(name)
        defer { path.removeLast() }
        if isDenied { return }
        var key = event.firstChild(object)
        while let member = key, let value = event.next(member) {
            let isOurs = event.equals(member, "identifiers") || event.equals(member, "formerIdentifiers")
                || event.equals(member, "gatehouse")
            if !isOurs { writeMember(member, value) }
            key = event.next(value)
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
                message.string(digest.hexadecimal)
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
        message.uint(identity.epoch)
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

    private func settle(_ batch: borrowing Batch, _ counts: CursorChange) {
        guard let last = batch.lastSequence else { return }
        var change = counts
        change.cursor = last + 1
        change.erased = UInt64(batch.erasedCount)
        change.expired = UInt64(batch.expiredCount)
        change.evicted = UInt64(batch.evictedCount)
        change.filtered += UInt64(batch.passedCount) - change.erased - change.expired - change.evicted
        if cursors.commit(CursorRequest(destination: target.destination.name, change: change), intake) {
            cursor = last + 1
        }
    }
}
