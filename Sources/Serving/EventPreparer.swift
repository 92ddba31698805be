// The first half of an event's journey, which needs neither the store nor the writer: decode → hash → validate → write what
// may be kept. Small requests go through it on the thread that read them, large ones on a thread of their own, so that
// a decision never waits for them; the writer finds only what it can take as it is (Sources/Agent/Pipeline.swift).

import Activation
import Collection
import Cryptography
import Formats
import Governance
import Store
import Unification

/// An event as the writer gets it. What has no fixed size lies in its submission.
public struct PreparedEvent {
    /// Why it cannot be taken: a place in `refusals` of the submission; nil when it can.
    public fileprivate(set) var refusal: Int?
    /// What is kept of it, in the submission's `document`: without identifiers (promise P3).
    public fileprivate(set) var root = JSONNode(index: 0)
    /// Its identifiers, in `found` of the submission; not empty.
    public fileprivate(set) var identifiers = 0..<0
    /// Its message id as it may be kept, in `texts` of the submission; empty for none.
    public fileprivate(set) var messageID = 0..<0
    /// Of the message id, if there is one.
    public fileprivate(set) var messageKey = MessageKey()
    /// When it happened, milliseconds since the epoch; see `Event`.
    public fileprivate(set) var timestamp: Int64 = 0
    /// What it says about purposes.
    public fileprivate(set) var signal = ConsentSignal()
    /// It is the event of the Segment specification that tells a change of preferences.
    public fileprivate(set) var isPreference = false
    /// Number of its rule in the tracking plan; nil: the plan does not take it.
    public fileprivate(set) var rule: Int?
    /// What it says stands in `traits`, and not in `properties`.
    public fileprivate(set) var hasTraits = false
    /// It breaks its schema, whatever is to be done about that.
    public fileprivate(set) var isInvalid = false
    /// Why it is to be set aside or dropped: a place in `faults` of the submission; nil when it is, or was made, as it should
    /// be.
    public fileprivate(set) var fault: Int?
}

/// Prepares the events of submissions, in memory that is reused. One a thread.
public struct EventPreparer: ~Copyable {
    private let plans: PlanHolder
    private let pepper: Peppers
    private var cache = PlanCache()
    private var finder = IdentifierFinder()
    private var joiner = OuterMembersJoiner()
    private var mender = FieldMender()
    private var body = JSONBuilder(reserving: 4096)
    private var text: [UInt8] = []
    /// The body that is being worked on; between two, memory that goes round with the builder's.
    private var raw = JSONDocument()

    public init(_ plans: PlanHolder, pepper: Peppers) {
        self.plans = plans
        self.pepper = pepper
    }

    /// Prepares every event of a submission; its document holds what is kept of them afterwards, and nothing else.
    /// - Parameter submission: of `work` `.events`, with a parsed body and `receivedAt` set. A body that is no batch gets
    ///   its answer here.
    public mutating func prepare(_ submission: Submission) {
        let plans = self.plans.current(&cache)
        submission.plans = plans
        swap(&raw, &submission.document)
        body.clear()
        body.reserve(for: raw)
        body.beginArray()
        prepareAll(raw, plans, submission)
        body.endArray()
        finder.wipe()
        // What came is not needed any more.
        if raw.capacityBytes > Limits.preparerBytes { raw = JSONDocument() }
        body.finish(into: &submission.document)
        var node = submission.document.firstChild(submission.document.root)
        for index in submission.events.indices where submission.events[index].refusal == nil {
            guard let root = node else { break }
            submission.events[index].root = root
            node = submission.document.next(root)
        }
        // One large batch shall not hold memory for ever.
        if body.capacityBytes > Limits.preparerBytes { body = JSONBuilder(reserving: 4096) }
    }

    private mutating func prepareAll(_ document: JSONDocument, _ plans: Plans, _ submission: Submission) {
        if submission.isBatch {
            prepareBatch(document, plans, submission)
        } else if submission.refused.isEmpty {
            prepare(document, document.root, Envelope(submission), plans, submission)
        }
    }

    /// What the events of one request have in common.
    private struct Envelope {
        let type: EventType?
        var outer = OuterMembers()
        var sentAt: Int64?
        let receivedAt: Int64
        let hasGlobalPrivacyControl: Bool

        init(_ submission: Submission) {
            type = submission.type
            receivedAt = submission.receivedAt
            hasGlobalPrivacyControl = submission.hasGlobalPrivacyControl
        }
    }

    private mutating func prepareBatch(_ document: borrowing JSONDocument, _ plans: Plans, _ submission: Submission) {
        guard let list = submission.batch(in: document) else { return }
        var envelope = Envelope(submission)
        envelope.outer = OuterMembers(document, batch: document.root)
        if let sentAt = document.member(document.root, "sentAt"), document.kind(sentAt) == .string {
            envelope.sentAt = EventTime.parse(document.bytes(sentAt))
        }
        var message = document.firstChild(list)
        while let node = message {
            prepare(document, node, envelope, plans, submission)
            message = document.next(node)
        }
    }

    // MARK: One event

    private mutating func prepare(
        _ document: borrowing JSONDocument, _ message: JSONNode, _ envelope: Envelope, _ plans: Plans,
        _ submission: Submission
    ) {
        var event = PreparedEvent()
        do throws(EventRefusal) {
            if !envelope.outer.isEmpty, try joiner.join(document, message, envelope.outer) {
                let joined = joiner.document
                try mend(&event, joined, joined.root, envelope, plans, submission)
            } else {
                try mend(&event, document, message, envelope, plans, submission)
            }
        } catch {
            event.refusal = submission.refusals.count
            submission.refusals.append(error)
        }
        submission.events.append(event)
    }

    /// Gives the fields that come under an old name the new one first.
    private mutating func mend(
        _ prepared: inout PreparedEvent, _ document: borrowing JSONDocument, _ message: JSONNode, _ envelope: Envelope,
        _ plans: Plans, _ submission: Submission
    ) throws(EventRefusal) {
        // The whole text of a message is its weight: the Segment API allows 32 KiB.
        if document.source(message).count > CollectionLimits.eventBytes {
            throw EventRefusal("too_large", "an event may have 32 KiB")
        }
        if !mender.mend(document, message, envelope.type, plans.tracking) {
            return try prepare(&prepared, document, message, envelope, plans, submission)
        }
        var mended = mender.document
        // A field that has its new name may hold others that have not.
        while mender.mend(mended, mended.root, envelope.type, plans.tracking) { mended = mender.document }
        try prepare(&prepared, mended, mended.root, envelope, plans, submission)
    }

    private mutating func prepare(
        _ prepared: inout PreparedEvent, _ document: borrowing JSONDocument, _ message: JSONNode, _ envelope: Envelope,
        _ plans: Plans, _ submission: Submission
    ) throws(EventRefusal) {
        let event = try decode(document, message, envelope)
        prepared.timestamp = event.timestamp
        prepared.hasTraits = event.type.hasTraits
        prepared.identifiers = try identify(event, document, plans.policy.identifiers, submission)
        nameMessage(&prepared, event, document, submission)
        prepared.signal = plans.policy.consent.signal(
            document, context: event.context, hasGlobalPrivacyControl: envelope.hasGlobalPrivacyControl)
        if let name = event.name { prepared.isPreference = document.equals(name, "Segment Consent Preference Updated") }
        prepared.rule = plans.tracking.ruleNumber(event.type, name: event.name, document)
        if let number = prepared.rule, let rule = plans.tracking.rule(number) {
            validate(&prepared, event, rule, document, submission)
        }
        write(event, document)
    }

    private func decode(
        _ document: borrowing JSONDocument, _ message: JSONNode, _ envelope: Envelope
    ) throws(EventRefusal) -> Event {
        try Event(
            document, message, type: envelope.type, sentAt: envelope.sentAt, receivedAt: envelope.receivedAt)
    }

    private mutating func identify(
        _ event: Event, _ document: borrowing JSONDocument, _ plan: borrowing IdentifierPlan, _ submission: Submission
    ) throws(EventRefusal) -> Range<Int> {
        do throws(IdentifierError) {
            // The traits of a group are the group's: a company's address would make one person of all its people.
            try finder.find(plan, document, event.root, of: event.type == .group ? .group : .person, pepper: pepper)
        } catch {
            throw EventRefusal("too_many_identifiers", "an event may carry the identifiers of one person only")
        }
        if finder.found.isEmpty {
            throw EventRefusal(
                "no_identifier", "none of the bundle's identifiers is in this event, or it is a blocked value", at: "/userId")
        }
        let start = submission.found.count
        for identifier in finder.found { submission.found.append(identifier) }
        return start..<submission.found.count
    }

    /// A message id that holds an identifier is replaced by its keyed hash, which recognises repeats as well.
    private mutating func nameMessage(
        _ prepared: inout PreparedEvent, _ event: Event, _ document: borrowing JSONDocument, _ submission: Submission
    ) {
        guard let node = event.messageID else { return }
        let id = document.bytes(node)
        text.removeAll(keepingCapacity: true)
        if EventSanitizer.mayBeKept(id, finder) {
            text.append(contentsOf: id)
        } else {
            pepper.root.authenticate(id).appendHexadecimal(to: &text)
        }
        prepared.messageKey = MessageKey(text.span, pepper.root)
        let start = submission.texts.count
        submission.texts.append(contentsOf: text)
        prepared.messageID = start..<submission.texts.count
    }

    /// Holds the event against its schema. Of one whose faulty properties may be left out, they are.
    private mutating func validate(
        _ prepared: inout PreparedEvent, _ event: Event, _ rule: EventRule, _ document: borrowing JSONDocument,
        _ submission: Submission
    ) {
        guard let fault = EventFault(rule, event.type, event.properties, in: event.root, document) else { return }
        prepared.isInvalid = true
        if rule.invalid == .allow { return }
        if rule.invalid == .strip, let properties = event.properties,
            let faulty = rule.schema?.strip(properties, in: document)
        {
            finder.leaveOut(faulty)
            return
        }
        prepared.fault = submission.faults.count
        submission.faults.append(fault)
    }

    /// Writes what is kept of the event, without identifiers; rules see this and nothing else (promise P3).
    private mutating func write(_ event: Event, _ document: borrowing JSONDocument) {
        body.beginObject()
        body.key("type")
        body.string(event.type.name)
        if let name = event.name {
            body.key("event")
            EventSanitizer.write(document, name, without: finder, into: &body)
        }
        body.key("timestamp")
        text.removeAll(keepingCapacity: true)
        Timestamp.append(event.timestamp, to: &text)
        body.string(text)
        let members: [StaticString] = ["name", "category", "groupId", "properties", "traits", "integrations"]
        for member in members {
            guard let node = document.member(event.root, member) else { continue }
            body.key(member)
            EventSanitizer.write(document, node, without: finder, into: &body)
        }
        if event.type == .identify, let traits = event.properties, document.member(event.root, "traits") == nil {
            body.key("traits")
            EventSanitizer.write(document, traits, without: finder, into: &body)
        }
        if let context = event.context {
            body.key("context")
            EventSanitizer.write(document, context, without: finder, into: &body)
        }
        body.endObject()
    }
}
