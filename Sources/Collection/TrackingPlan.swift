// The `events` section of a bundle: which events are expected, for what purpose, how urgent, and what is done with one
// that is not as it should be. It need not know people or the store.

import Formats
import Governance
import Platform

/// What happens to an event that its schema does not allow.
public enum InvalidPolicy: UInt8, Sendable {
    /// Taken as it is, and counted.
    case allow
    /// Set aside until somebody looks.
    case quarantine
    /// Refused.
    case drop
    /// Taken without the properties that are at fault, if what is left is as it should be; else set aside.
    case strip
}

/// How one kind of event is treated.
public struct EventRule: Sendable {
    /// The event's name in the plan; `*` for all others.
    public internal(set) var name: [UInt8]
    /// Number of the purpose in the bundle; the event needs its grant.
    public var purpose: Int
    /// Sent at once instead of in the next batch.
    public var isRealtime: Bool
    /// 0…9; the highest is shed last.
    public var priority: UInt8
    public var invalid: InvalidPolicy
    /// What the properties must be like.
    public var schema: CompiledSchema?
    /// How long events of this kind are kept after they were taken, milliseconds; 0: as long as their purpose says.
    public var timeToLive: Int64 = 0
    /// Fields that leave for no destination that does not name them.
    public var restricted: [[[UInt8]]] = []
    /// Its place in the plan; that of `*` comes after all others.
    public internal(set) var number = 0
    /// Fields that have had other names.
    var fields: RenamedFields?
}

public struct TrackingPlan: Sendable {
    public private(set) var rules: [EventRule] = []
    private var fallback: EventRule?
    public private(set) var keeping = EventKeeping()
    /// Fields with old names, each with its event, and how often each was mended since the bundle was loaded.
    public internal(set) var renamed: [[UInt8]] = []
    public internal(set) var renamedFields: [[UInt8]] = []
    public private(set) var mended = CounterArray(count: 0)
    /// When events were last seen, by the number of their rule.
    public private(set) var seen = LastSeen([[UInt8(ascii: "*")]], salt: UInt8(ascii: "e"))
    /// What the events' schemas name, by the number of their rule.
    private(set) var declared: [[[UInt8]]] = []
    /// Names, and milliseconds at the same places.
    var eventObjectives: ([[UInt8]], [Int64]) = ([], [])
    var sourceObjectives: ([[UInt8]], [Int64]) = ([], [])

    /// A plan that takes every event for one purpose: what a device does before it has a bundle.
    public init(everythingFor purpose: Int) {
        fallback = EventRule(
            name: [], purpose: purpose, isRealtime: false, priority: 5, invalid: .quarantine, schema: nil)
    }

    /// Reads the section; problems are remembered by the reader.
    /// - Parameter isIdentifierPlace: whether a path in an event's properties or traits touches a place for identifiers.
    public init(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, _ purposes: PurposePlan, _ reader: inout PlanReader,
        isIdentifierPlace: ([UInt8]) -> Bool = { _ in false }
    ) {
        readSources(document, bundle, &reader)
        guard let section = reader.object(document, bundle, "events") else { return }
        var ofFallback: [[UInt8]] = []
        var key = document.firstChild(section)
        while let name = key, let settings = document.next(name) {
            key = document.next(settings)
            guard document.kind(settings) == .object else {
                reader.report(document, settings, "an event's settings must be a map, such as { purpose: analytics }")
                continue
            }
            reader.refuseOthers(
                document, settings,
                ["purpose", "tier", "priority", "invalid", "schema", "ttl", "restricted", "fields", "fresh"], of: "an event")
            guard document.member(settings, "purpose") != nil else {
                reader.report(document, settings, "this event needs a purpose: one of the bundle's purposes")
                continue
            }
            guard let purpose = purposes.read(document, settings, &reader) else { continue }
            var rule = EventRule(
                name: [], purpose: purpose, isRealtime: false, priority: 5, invalid: .quarantine, schema: nil)
            rule.name.append(contentsOf: document.bytes(name))
            if let tier = reader.text(document, settings, "tier") {
                if document.equals(tier, "realtime") {
                    rule.isRealtime = true
                } else if !document.equals(tier, "batch") {
                    reader.report(document, tier, "tier must be realtime or batch")
                }
            }
            if let priority = reader.integer(document, settings, "priority", 0...9) { rule.priority = UInt8(priority) }
            if let invalid = reader.text(document, settings, "invalid") {
                if document.equals(invalid, "allow") {
                    rule.invalid = .allow
                } else if document.equals(invalid, "drop") {
                    rule.invalid = .drop
                } else if document.equals(invalid, "strip") {
                    rule.invalid = .strip
                } else if !document.equals(invalid, "quarantine") {
                    reader.report(document, invalid, "invalid must be quarantine, strip, drop or allow")
                }
            }
            var fields: [[UInt8]] = []
            if let schema = document.member(settings, "schema"), !document.isNull(schema) {
                TrackingPlan.appendDeclared(document, schema, in: [], to: &fields)
                rule.schema = CompiledSchema(document, schema, &reader)
            }
            rule.readKeeping(document, settings, &reader)
            keeping.take(rule)
            readFreshness(document, settings, of: rule, &reader)
            rule.fields = readFields(document, settings, of: rule.name, &reader, isIdentifierPlace)
            rule.restrictOldNames()
            if rule.name == [UInt8(ascii: "*")] {
                fallback = rule
                ofFallback = fields
            } else {
                rules.append(rule)
                declared.append(fields)
            }
        }
        declared.append(ofFallback)
        for index in rules.indices { rules[index].number = index }
        fallback?.number = rules.count
        var names = rules.map { $0.name }
        if let fallback { names.append(fallback.name) }
        seen = LastSeen(Array(names.prefix(Limits.watchedEvents)), salt: UInt8(ascii: "e"))
        mended = CounterArray(count: renamed.count)
    }

    /// Number of an event's rule: of a track call by its name, of the others by their type; else of the rule `*`.
    /// - Parameter name: of a track call, its event.
    /// - Returns: nil when the plan does not take the event.
    public func ruleNumber(_ type: EventType, name: JSONNode?, _ document: borrowing JSONDocument) -> Int? {
        for (number, rule) in rules.enumerated() {
            if let name {
                if document.equals(name, rule.name.span) { return number }
            } else if equal(rule.name.span, type.name.bytes) {
                return number
            }
        }
        return fallback == nil ? nil : rules.count
    }

    /// The rule with a number of `ruleNumber`.
    public func rule(_ number: Int) -> EventRule? { number < rules.count ? rules[number] : fallback }
}
