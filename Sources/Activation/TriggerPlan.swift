// The `triggers` section of a bundle: what is done when something has happened and something else has not. Read and compiled
// once. It need not know people, how time passes, nor how anything is sent.

import CEL
import Formats
import Governance
import Store
import Unification

/// One trigger: `on` an event, `after` some time, `unless` another event came meanwhile, destinations get word of it. A class,
/// so that handing it on copies one reference.
public final class Trigger: @unchecked Sendable {
    // All members are written while the bundle is read only; threads read them.
    public let name: [UInt8]
    /// FNV-1a of the name, by which the store knows it; never 0.
    public let tag: UInt32
    /// Conditions over an event, in the policy's program.
    public fileprivate(set) var on = 0
    public fileprivate(set) var unless: Int?
    /// A condition over the person at the time of firing.
    public fileprivate(set) var when: Int?
    /// How long after the event; 0: at once. Milliseconds, as all times here.
    public fileprivate(set) var after: Int64 = 0
    /// For one person at most once in this time; 0: each time.
    public fileprivate(set) var every: Int64 = 0
    /// How much later than due it may still fire.
    public fileprivate(set) var grace = Limits.graceMilliseconds
    /// Number of the purpose that the person must grant besides that of the event; nil: no other.
    public fileprivate(set) var purpose: Int?
    public fileprivate(set) var priority: UInt8 = 5
    /// Names of the destinations.
    public fileprivate(set) var send: [[UInt8]] = []
    /// Tags of the kinds of identifiers that a destination in `send`, or its fallback, is told as plain SHA-256. Whoever
    /// reads the destinations adds them, before any other thread has the bundle.
    public var plainKinds: [UInt32] = []
    /// What its conditions read, and where it stands in the bundle: for complaints.
    public fileprivate(set) var slots: [Int] = []
    public let node: JSONNode

    fileprivate init(_ document: borrowing JSONDocument, _ name: JSONNode) {
        self.name = copy(document.bytes(name))
        tag = NameTag.of(document.bytes(name))
        node = name
    }

    public func isFor(_ destination: [UInt8]) -> Bool { send.contains(destination) }

    /// Whether somebody to whom it sends asks for the plain hash of a kind of identifiers.
    public func sendsPlain(_ tag: UInt32) -> Bool {
        for kind in plainKinds where kind == tag { return true }
        return false
    }
}

/// All triggers of a bundle.
public struct TriggerPlan: Sendable {
    public private(set) var triggers: [Trigger] = []
    /// The audiences that any condition reads, a bit each, with those that these read.
    public private(set) var needs: UInt64 = 0
    /// Whether any condition asks for something about the person.
    public private(set) var readsPerson = false

    public init() {}

    /// Reads the section; problems are remembered by the reader. Apart from `Policy`, which is compiled twice.
    @inline(never)
    init(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, _ purposes: PurposePlan, _ slots: Slots,
        _ decisions: DecisionPlan, _ environment: Environment, _ compiler: inout Compiler, _ reader: inout PlanReader
    ) {
        guard let section = reader.object(document, bundle, "triggers") else { return }
        var key = document.firstChild(section)
        while let name = key, let settings = document.next(name) {
            key = document.next(settings)
            let trigger = Trigger(document, name)
            guard triggers.count < Limits.triggers else {
                reader.report(document, name, "there can be at most 64 triggers")
                return
            }
            if trigger.tag == TimerKey.audiences || triggers.contains(where: { $0.tag == trigger.tag }) {
                reader.report(document, name, "this name cannot be told apart from an earlier one in records; choose another")
            }
            guard document.kind(settings) == .object, document.member(settings, "on") != nil else {
                reader.report(document, settings, "a trigger is a map with on: CONDITION and send: DESTINATION")
                continue
            }
            trigger.read(document, settings, purposes, environment, &compiler, &reader)
            trigger.readDestinations(document, settings, bundle, &reader)
            needs |= decisions.closure(slots.audiences(trigger.slots))
            if slots.readPerson(trigger.slots) { readsPerson = true }
            triggers.append(trigger)
        }
    }

    /// The trigger with a name, or with a tag.
    public func trigger(named name: Span<UInt8>) -> Trigger? { trigger(tag: NameTag.of(name)) }

    public func trigger(tag: UInt32) -> Trigger? {
        for trigger in triggers where trigger.tag == tag { return trigger }
        return nil
    }
}

extension Trigger {
    fileprivate func read(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ purposes: PurposePlan, _ environment: Environment,
        _ compiler: inout Compiler, _ reader: inout PlanReader
    ) {
        reader.refuseOthers(
            document, settings, ["on", "after", "unless", "when", "every", "grace", "purpose", "priority", "send"],
            of: "a trigger")
        on = condition(document, settings, "on", environment, &compiler, &reader) ?? 0
        unless = condition(document, settings, "unless", environment, &compiler, &reader)
        when = condition(document, settings, "when", environment, &compiler, &reader)
        after = Trigger.duration(document, settings, "after", &reader) ?? 0
        every = Trigger.duration(document, settings, "every", &reader) ?? 0
        grace = Trigger.duration(document, settings, "grace", &reader) ?? grace
        purpose = purposes.read(document, settings, &reader)
        if let number = reader.integer(document, settings, "priority", 0...9) { priority = UInt8(number) }
        if unless != nil, after == 0, let node = document.member(settings, "unless") {
            reader.report(document, node, "unless needs after: without it nothing can come in between")
        }
    }

    @inline(never)
    private static func duration(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ name: StaticString, _ reader: inout PlanReader
    ) -> Int64? {
        reader.duration(document, settings, name, atMost: Limits.longestWaitMilliseconds)
    }

    @inline(never)
    private func condition(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ name: StaticString, _ environment: Environment,
        _ compiler: inout Compiler, _ reader: inout PlanReader
    ) -> Int? {
        guard let node = reader.text(document, settings, name),
            let expression = reader.compile(document, node, in: environment, expecting: .condition, &compiler)
        else { return nil }
        slots.append(contentsOf: expression.slots)
        return expression.number
    }

    /// `send` is a name or a list of names among the bundle's `destinations`.
    @inline(never)
    private func readDestination(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ bundle: JSONNode, _ reader: inout PlanReader
    ) {
        var isThere = false
        if document.kind(node) == .string, let section = document.member(bundle, "destinations") {
            let name = copy(document.bytes(node))
            if document.kind(section) == .object, document.member(section, name.span) != nil {
                isThere = true
                send.append(name)
            }
        }
        if !isThere { reader.report(document, node, "send must name a destination of this bundle, or be a list of such names") }
    }

    fileprivate func readDestinations(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ bundle: JSONNode, _ reader: inout PlanReader
    ) {
        let node = document.member(settings, "send") ?? settings
        guard document.kind(node) == .array else { return readDestination(document, node, bundle, &reader) }
        var element = document.firstChild(node)
        while let name = element {
            readDestination(document, name, bundle, &reader)
            element = document.next(name)
        }
    }
}

/// What is remembered of a trigger for one identifier, in a record of `Timers`:
///
///   0  when its timer is due      8  when it is to fire; 0: it does not wait      16  when what it is about happened
///  24  when it last fired; 0: it has not      32  the entry of its firing but for the time; nothing if it does not wait
///
/// Times are milliseconds since the epoch, little-endian. It may be to fire later than the timer is due: then the timer is
/// moved when it comes due, and not with each event that lets the wait begin anew.
public struct TriggerState {
    public var due: Int64
    public var wanted: Int64
    public var since: Int64
    public var firedAt: Int64
    public var cause: [UInt8]

    static let headBytes = 32

    public init(due: Int64, since: Int64, cause: [UInt8]) {
        (self.due, wanted, self.since, firedAt, self.cause) = (due, due, since, 0, cause)
    }

    /// - Returns: nil for what is no such record.
    public init?(_ record: Span<UInt8>) {
        guard record.count >= TriggerState.headBytes else { return nil }
        due = TriggerState.time(record, 0)
        wanted = TriggerState.time(record, 8)
        since = TriggerState.time(record, 16)
        firedAt = TriggerState.time(record, 24)
        cause = copy(record.extracting(TriggerState.headBytes..<record.count))
    }

    private static func time(_ record: Span<UInt8>, _ offset: Int) -> Int64 {
        Int64(bitPattern: UInt64(littleEndianAt: offset, of: record))
    }

    public var record: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(TriggerState.headBytes + cause.count)
        for time in [due, wanted, since, firedAt] { LogEntry.append(UInt64(bitPattern: time), to: &bytes) }
        bytes.append(contentsOf: cause)
        return bytes
    }
}
