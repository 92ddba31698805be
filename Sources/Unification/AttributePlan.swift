// The bundle's `attributes` section: what a profile holds and which events change it. Read and compiled once when a
// bundle is loaded; it need not know events nor records.

import CEL
import Formats

/// The types of attributes, by the names that bundles use.
public enum AttributeType: UInt8, CaseIterable, Sendable {
    /// How many events matched; with `window` within it. Unset is 0.
    case counter
    /// The exact total of `value`, read as the nearest double. Values of 2^53 and more are refused, the total stays within
    /// ±2^63. Unset is 0.0.
    case sum
    case min, max, mean
    /// The earliest and the latest value of any scalar type, by the events' times.
    case first, last
    /// The latest value of that type, by the events' times.
    case string, number, boolean, date
    /// Granted when `when` holds, for `ttl` from then on (without one for good). Unset is false.
    case badge
    /// Different values; the `limit` latest stay. Unset is empty.
    case set
    /// How often each value occurred; the `limit` most frequent stay. Unset is empty. Exact as long as no more than `limit`
    /// different values have come; from then on an estimate, which may depend on the order in which they came: a value that
    /// was dropped begins again at nothing.
    case tally
    /// The moments at which events matched, with `value` if there is one; the `limit` latest stay. Unset is empty.
    case timeline

    public var name: StaticString {
        switch self {
        case .counter: "counter"
        case .sum: "sum"
        case .min: "min"
        case .max: "max"
        case .mean: "mean"
        case .first: "first"
        case .last: "last"
        case .string: "string"
        case .number: "number"
        case .boolean: "boolean"
        case .date: "date"
        case .badge: "badge"
        case .set: "set"
        case .tally: "tally"
        case .timeline: "timeline"
        }
    }

    var mayHaveWindow: Bool {
        switch self {
        case .counter, .sum, .min, .max, .mean: true
        default: false
        }
    }

    var hasElements: Bool { self == .set || self == .tally || self == .timeline }

    func form(isWindowed: Bool, _ scope: AttributeScope) -> StateForm {
        switch self {
        case .counter: isWindowed ? .windowedCounter : .counter
        case .sum: isWindowed ? .windowedSum : .sum
        case .min: isWindowed ? .windowedMinimum : .minimum
        case .max: isWindowed ? .windowedMaximum : .maximum
        case .mean: isWindowed ? .windowedMean : .mean
        case .first: scope == .visit ? .visitFirst : .first
        case .last, .string, .number, .boolean, .date: .last
        case .badge: .badge
        case .set: .set
        case .tally: .tally
        case .timeline: .timeline
        }
    }
}

/// What an attribute is about. The raw values are part of its tag in records.
enum AttributeScope: UInt8, CaseIterable {
    /// All that is known of the person.
    case visitor = 0
    /// The person's present visit, which ends when for `Limits.visitMilliseconds` no event has changed the attribute; then
    /// it is unset, and begins anew, whole, with the next event. Which events make one visit depends on when they arrive:
    /// one that comes after its visit has ended does not bring it back, nor join two visits into one.
    case visit = 1
    /// One event: rules of attributes after this one see the value while the event is processed. It is never kept.
    case event = 2

    var name: StaticString {
        switch self {
        case .visitor: "visitor"
        case .visit: "visit"
        case .event: "event"
        }
    }
}

/// One attribute of a bundle.
public struct Attribute: Sendable {
    /// UTF-8.
    public let name: [UInt8]
    /// What it keeps for decisions, and nobody reads; nil: it is one of the bundle's.
    let hidden: HiddenAttribute?
    let shape: AttributeShape

    public var type: AttributeType { shape.type }
    var scope: AttributeScope { shape.scope }
    var tag: UInt32 { shape.tag }
    var form: StateForm { shape.form }
    var policy: StatePolicy { shape.policy }
    var condition: Int? { shape.condition }
    var value: Int? { shape.value }
    var readsProfile: Bool { shape.readsProfile }
    public var isRestricted: Bool { shape.isRestricted }
    var span: Int64 { shape.span }
    /// It is kept for decisions, and is nobody's to read.
    var isHidden: Bool { hidden != nil }
    /// It keeps what a person was shown, or what followed from that.
    var isOfWhatWasShown: Bool { hidden != nil && hidden != .seed }
}

/// All of an attribute that its states are made, read and merged by. It has no parts in other memory: decisions and events
/// copy it for each attribute, and that shall cost nothing.
struct AttributeShape: Sendable {
    let type: AttributeType
    let scope: AttributeScope
    /// FNV-1a of name, type, rules, window and scope: another meaning is another attribute.
    let tag: UInt32
    let form: StateForm
    let policy: StatePolicy
    /// Milliseconds; 0 for none.
    let window: Int64
    /// Milliseconds of a bucket: the window's resolution.
    let bucketWidth: Int64
    /// Numbers of expressions in the bundle's program; nil for none.
    let condition: Int?
    let value: Int?
    /// Whether an expression reads the profile, whose values then have to be those after the attributes before it.
    let readsProfile: Bool
    /// It leaves the device for nobody who does not name it, and no other attribute is made of it that may.
    let isRestricted: Bool

    /// The bucket that a time falls into.
    func bucket(of time: Int64) -> Int64 {
        time >= 0 ? time / bucketWidth : -((bucketWidth - 1 - time) / bucketWidth)
    }

    /// When a bucket that is so many older than the newest ends; numbers that no time has come to the end of time.
    func bucketEnd(_ newest: Int64, _ age: UInt8) -> Int64 {
        let (bucket, isOver) = newest.subtractingReportingOverflow(Int64(age) - 1)
        let (end, isBeyond) = bucket.multipliedReportingOverflow(by: bucketWidth)
        return isOver || isBeyond ? (newest < 0 ? .min : .max) : end
    }

    /// How long a state lasts after its newest event, milliseconds; 0 for good.
    var span: Int64 { window > 0 ? window + bucketWidth : policy.timeToLive }

    /// Whether a state whose newest event was at `time` is no more at `now`.
    ///
    /// Such a state is not read and not merged with others, nor is the contribution of an event that had ended when it
    /// came. States that have not ended at `now` always merge. So for one `now` the order of events does not show; over
    /// time it may, for a state that is one whole (a counter, sum, extreme or tally with `ttl`, a visit): one whose time
    /// was up before the event came that would have prolonged it is gone.
    func hasEnded(_ time: Int64, now: Int64) -> Bool {
        let span = self.span
        return span > 0 && AttributeState.saturatingAdd(time, span) < now
    }

    /// Whether an element of a set or timeline is no more at `now`.
    func hasElementEnded(_ time: Int64, now: Int64) -> Bool { !policy.isVisit && hasEnded(time, now: now) }
}

/// What decisions keep in profiles besides what the bundle says, so that it goes where the profile goes: with people who become
/// one, from device to device, and away with the person.
public enum HiddenAttribute: Sendable, Equatable {
    /// What a person is drawn by in splits: that of their first event, so that it stays when they are known by more, and is the
    /// same on every device that knows of that event.
    case seed
    /// When something was served that may be served so often only: the latest `serves` times, each for `per` milliseconds (0: for
    /// good).
    case cap(name: [UInt8], serves: Int, per: Int64)
    /// When the person was first shown each arm of an experiment; values are the arms' numbers.
    case exposure(name: [UInt8])
    /// The events of an experiment's goal that came so soon after an exposure, with their value. Condition and value are
    /// expressions of the bundle's program that see the event and not the profile. Stands right behind its exposure.
    case goal(name: [UInt8], within: Int64, condition: Int, value: Int?)

    /// By which records know it.
    public var tag: UInt32 { attribute.tag }

    var attribute: Attribute {
        var name = Array("$seed".utf8)
        var policy = StatePolicy()
        var type = AttributeType.timeline
        var (condition, value): (Int?, Int?) = (nil, nil)
        switch self {
        case .seed: type = .first
        case .cap(let capped, let serves, let per):
            name = Array("$cap ".utf8) + capped
            policy.limit = serves
            policy.timeToLive = per
        case .exposure(let experiment):
            name = Array("$exposed ".utf8) + experiment
            policy.limit = Limits.exposures
        case .goal(let experiment, _, let when, let what):
            name = Array("$goal ".utf8) + experiment
            policy.limit = Limits.goalEvents
            (condition, value) = (when, what)
        }
        let shape = AttributeShape(
            type: type, scope: .visitor, tag: NameTag.of(name.span), form: type.form(isWindowed: false, .visitor), policy: policy,
            window: 0, bucketWidth: 1, condition: condition, value: value, readsProfile: false, isRestricted: false)
        return Attribute(name: name, hidden: self, shape: shape)
    }
}

/// All attributes of a bundle. Immutable once read: threads share it.
public final class AttributePlan: @unchecked Sendable {
    // The members are written in `init` only.
    /// In the order of the bundle, in which they are computed: the rule of one sees what those before it have become.
    public private(set) var attributes: [Attribute] = []
    /// Of each attribute the number of its condition, if that does not read the profile; else `openCondition`.
    private(set) var conditions: [Int32] = []
    static let openCondition: Int32 = -1
    /// Tags in ascending order, as in records.
    private(set) var order: [(tag: UInt32, attribute: Int)] = []
    /// The tallies that have a `<name>_favorite`: the attribute of each; their slots follow those of all attributes.
    private(set) var favorites: [Int] = []

    /// How many attributes rules know; the hidden ones stand behind them.
    private(set) var known = 0
    /// The attribute that keeps what a person is drawn by, if the bundle draws.
    private(set) var seed: Int?
    public var draws: Bool { seed != nil }

    /// A plan without attributes.
    public init() {}

    /// Reads the `attributes` section of a bundle, compiles its rules and declares `profile` for all rules to come.
    ///
    /// The fields of `profile` have these types: counter int; sum, min, max, mean, number double; string string;
    /// boolean, badge bool; date timestamp; first and last that of their `value`; set a list of what `value` is; tally
    /// a map of string to int, beside which `<name>_favorite` is the most frequent value; timeline a list of
    /// timestamps, or of maps of `at` and `value`.
    /// - Parameters:
    ///   - bundle: the bundle's root.
    ///   - hidden: what else to keep.
    ///   - environment: as `Slots.environment` made it; `profile` is added.
    ///   - compiler: takes the rules; the program that it finishes is the one to evaluate with.
    ///   - reader: remembers what is wrong; the plan is fit for use only if nothing is.
    public init(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, hidden: [HiddenAttribute] = [], slots: Slots,
        environment: inout Environment, compiler: inout Compiler, _ reader: inout PlanReader
    ) {
        var drafts: [Draft] = []
        if let section = reader.object(document, bundle, "attributes") {
            var key = document.firstChild(section)
            while let name = key, let node = document.next(name) {
                if let draft = Draft(document, name, node, &reader) { drafts.append(draft) }
                key = document.next(node)
            }
            if drafts.count > Limits.attributes {
                reader.report(document, section, "at most \(Limits.attributes) attributes")
                drafts.removeLast(drafts.count - Limits.attributes)
            }
            AttributePlan.refuseTwins(document, drafts, &reader)
        }
        // What first, last, set and timeline hold is known when their value is compiled, and that may be a rule about
        // the attributes before them.
        for index in drafts.indices where drafts[index].type.takesTypeOfValue {
            AttributePlan.declareProfile(drafts, slots, in: &environment)
            if let node = drafts[index].valueNode {
                let compiled = reader.compile(document, node, in: environment, expecting: .anything, &compiler)
                drafts[index].value = compiled?.number
                drafts[index].valueType = compiled?.type ?? .dyn
                if let type = compiled?.type, !drafts[index].type.accepts(type) {
                    reader.report(document, node, drafts[index].refusal(of: type))
                }
                AttributePlan.refuseRestricted(document, node, compiled, drafts, index, slots, &reader)
            }
        }
        AttributePlan.declareProfile(drafts, slots, in: &environment)
        for index in drafts.indices {
            if let node = drafts[index].conditionNode {
                let compiled = reader.compile(document, node, in: environment, expecting: .condition, &compiler)
                drafts[index].condition = compiled?.number
            }
            if let node = drafts[index].valueNode, !drafts[index].type.takesTypeOfValue {
                let compiled = reader.compile(document, node, in: environment, expecting: .anything, &compiler)
                drafts[index].value = compiled?.number
                if let type = compiled?.type, !drafts[index].type.accepts(type) {
                    reader.report(document, node, drafts[index].refusal(of: type))
                }
                AttributePlan.refuseRestricted(document, node, compiled, drafts, index, slots, &reader)
            }
            attributes.append(drafts[index].finished())
            if drafts[index].type == .tally { favorites.append(index) }
        }
        // Behind those that rules know, so that they keep their numbers.
        known = attributes.count
        for setting in hidden {
            if setting == .seed { seed = attributes.count }
            attributes.append(setting.attribute)
        }
        for index in attributes.indices {
            let attribute = attributes[index]
            order.append((attribute.tag, index))
            let condition = attribute.readsProfile ? nil : attribute.condition
            conditions.append(condition.map { Int32($0) } ?? AttributePlan.openCondition)
        }
        order.putInOrder { $0.tag < $1.tag }
    }

    /// The place of an attribute, or nil for an unknown name.
    public func index(named name: Span<UInt8>) -> Int? {
        for index in attributes.indices {
            let known = attributes[index].name
            if equal(known.span, name) { return index }
        }
        return nil
    }

    /// The place of a hidden attribute.
    public func index(of setting: HiddenAttribute) -> Int? {
        for index in known..<attributes.count where attributes[index].hidden == setting { return index }
        return nil
    }

    /// The place of the attribute with this tag, or nil: the bundle does not have it.
    public func index(ofTag tag: UInt32) -> Int? {
        var low = 0
        var high = order.count
        while low < high {
            let middle = (low + high) / 2
            if order[middle].tag < tag { low = middle + 1 } else { high = middle }
        }
        return low < order.count && order[low].tag == tag ? order[low].attribute : nil
    }

    /// A value made of a restricted attribute is restricted like it.
    private static func refuseRestricted(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ value: Expression?, _ drafts: [Draft], _ index: Int,
        _ slots: Slots, _ reader: inout PlanReader
    ) {
        guard let value, !drafts[index].isRestricted else { return }
        var tallies: [Int] = []
        for other in drafts.indices where drafts[other].type == .tally { tallies.append(other) }
        for slot in value.slots {
            guard let other = slots.attribute(slot, of: drafts.count, favorites: tallies), drafts[other].isRestricted else {
                continue
            }
            reader.report(
                document, node,
                "this value is made of \(String(decoding: drafts[other].name, as: UTF8.self)), which is restricted: "
                    + "add restricted: true here as well, or ask for it in when")
            return
        }
    }

    /// The restricted attributes among the slots that an expression reads.
    public func restricted(among read: [Int], _ slots: Slots) -> [Int] {
        var found: [Int] = []
        for slot in read {
            guard let attribute = slots.attribute(slot, of: known, favorites: favorites),
                attributes[attribute].isRestricted, !found.contains(attribute)
            else { continue }
            found.append(attribute)
        }
        return found
    }

    private static func refuseTwins(_ document: borrowing JSONDocument, _ drafts: [Draft], _ reader: inout PlanReader) {
        for index in drafts.indices {
            for earlier in 0..<index {
                if drafts[earlier].tag == drafts[index].tag {
                    reader.report(
                        document, drafts[index].nameNode,
                        "this name cannot be told apart from an earlier one in records; choose another")
                }
            }
            if drafts[index].type == .tally {
                let favorite = drafts[index].favoriteName
                for other in drafts where other.name == favorite {
                    reader.report(
                        document, other.nameNode,
                        "this is the name of the favourite of the tally before; choose another")
                }
            }
        }
    }

    private static func declareProfile(_ drafts: [Draft], _ slots: Slots, in environment: inout Environment) {
        var fields: [Environment.Field] = []
        for index in drafts.indices {
            let name = String(decoding: drafts[index].name, as: UTF8.self)
            fields.append(Environment.Field(name, drafts[index].fieldType, slot: slots.firstAttribute + index))
        }
        var slot = slots.firstAttribute + drafts.count
        for draft in drafts where draft.type == .tally {
            fields.append(Environment.Field(String(decoding: draft.favoriteName, as: UTF8.self), .string, slot: slot))
            slot += 1
        }
        environment.declareRecord("profile", fields)
    }
}

extension AttributeType {
    /// Whether the field's type is that of the compiled `value`.
    fileprivate var takesTypeOfValue: Bool { self == .first || self == .last || self == .set || self == .timeline }

    fileprivate var needsValue: Bool {
        switch self {
        case .counter, .badge, .timeline: false
        default: true
        }
    }

    /// Whether a `value` of this static type can be right.
    fileprivate func accepts(_ value: CEL.`Type`) -> Bool {
        switch value {
        case .dyn, .null: return true
        case .optional: return false
        default: break
        }
        switch self {
        case .sum, .min, .max, .mean, .number: return value == .int || value == .uint || value == .double
        case .string: return value == .string
        case .boolean: return value == .bool
        case .date: return value == .timestamp || value == .string
        case .tally:
            if case .list(let element) = value { return element == .string || element == .dyn }
            return value == .string
        case .set:
            if case .list(let element) = value { return AttributeType.last.accepts(element) }
            return AttributeType.last.accepts(value)
        default:
            switch value {
            case .bool, .int, .uint, .double, .string, .timestamp, .duration: return true
            default: return false
            }
        }
    }

    fileprivate var expected: StaticString {
        switch self {
        case .sum, .min, .max, .mean, .number: "a number"
        case .string: "a string"
        case .boolean: "true or false"
        case .date: "a timestamp or its text"
        case .tally: "a string or a list of strings"
        case .set: "a number, string, truth value, time, or a list of these"
        default: "a number, string, truth value or time"
        }
    }
}

/// An attribute while it is being read.
private struct Draft {
    let name: [UInt8]
    let nameNode: JSONNode
    let type: AttributeType
    let window: Int64
    let policy: StatePolicy
    let conditionNode: JSONNode?
    let valueNode: JSONNode?
    let readsProfile: Bool
    let isRestricted: Bool
    let scope: AttributeScope
    /// Of `when` and `value`.
    private let rules: UInt32
    var condition: Int?
    var value: Int?
    var valueType = CEL.`Type`.dyn

    /// Reads the settings; nil when there is no telling what is meant.
    init?(_ document: borrowing JSONDocument, _ key: JSONNode, _ node: JSONNode, _ reader: inout PlanReader) {
        if document.kind(node) != .object {
            reader.report(
                document, node,
                "an attribute is a map such as { type: counter, when: 'event.event == \"Order Completed\"' }")
            return nil
        }
        var identifier: [UInt8] = []
        identifier.append(contentsOf: document.bytes(key))
        if !Draft.isIdentifier(identifier) {
            reader.report(
                document, key,
                "an attribute's name begins with a letter and has letters, digits and _ only: rules say profile.<name>")
            return nil
        }
        reader.refuseOthers(
            document, node, ["type", "when", "value", "window", "ttl", "limit", "scope", "restricted"], of: "an attribute")
        guard let typeNode = reader.text(document, node, "type"), let type = Draft.type(document, typeNode) else {
            reader.report(
                document, document.member(node, "type") ?? node,
                "type must be one of counter, sum, min, max, mean, first, last, string, number, boolean, date, "
                    + "badge, set, tally, timeline"
            )
            return nil
        }
        name = identifier
        nameNode = key
        self.type = type
        conditionNode = Draft.rule(document, node, "when", &reader)
        valueNode = Draft.rule(document, node, "value", &reader)
        window = Draft.readWindow(document, node, type, &reader)
        var policy = StatePolicy()
        policy.timeToLive = reader.duration(document, node, "ttl", atMost: Limits.longestSpanMilliseconds) ?? 0
        if policy.timeToLive > 0, window > 0 {
            reader.report(document, node, "window and ttl exclude each other: what leaves the window is gone")
        }
        policy.limit = Draft.readLimit(document, node, type, &reader)
        scope = Draft.readScope(document, node, &reader)
        if scope != .visitor, policy.timeToLive > 0 || window > 0 {
            reader.report(
                document, document.member(node, "scope") ?? node,
                "scope \(scope.name) and window or ttl exclude each other: it ends with the \(scope.name)")
        }
        if scope == .visit {
            policy.timeToLive = Limits.visitMilliseconds
            policy.isVisit = true
        }
        self.policy = policy
        isRestricted = reader.flag(document, node, "restricted") ?? false
        readsProfile = Draft.mentionsProfile(document, conditionNode) || Draft.mentionsProfile(document, valueNode)
        var rules = NameTag()
        Draft.combine(document, conditionNode, into: &rules)
        Draft.combine(document, valueNode, into: &rules)
        self.rules = rules.value
        check(document, node, &reader)
    }

    /// What contradicts the type.
    private func check(_ document: borrowing JSONDocument, _ node: JSONNode, _ reader: inout PlanReader) {
        if type.needsValue, valueNode == nil {
            reader.report(
                document, node, "value is missing: what \(type.name) is made of, such as event.properties.revenue")
        }
        if let valueNode, type == .counter || type == .badge {
            reader.report(
                document, valueNode,
                type == .counter
                    ? "a counter counts events; type: sum adds values" : "a badge has no value; type: boolean has")
        }
        if type == .badge, conditionNode == nil {
            reader.report(document, node, "when is missing: what the badge is granted for")
        }
    }

    private static func readScope(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ reader: inout PlanReader
    ) -> AttributeScope {
        guard let text = reader.text(document, node, "scope") else { return .visitor }
        for scope in AttributeScope.allCases where document.equals(text, scope.name) { return scope }
        reader.report(document, text, "scope must be visitor, visit or event")
        return .visitor
    }

    private static func rule(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ name: StaticString, _ reader: inout PlanReader
    ) -> JSONNode? {
        guard let rule = document.member(node, name), !document.isNull(rule) else { return nil }
        switch document.kind(rule) {
        case .string, .bool, .integer, .number: return rule  // `when: true` and `value: 1` are expressions too.
        default:
            reader.report(document, rule, "\(name) must be an expression")
            return nil
        }
    }

    private static func readWindow(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ type: AttributeType, _ reader: inout PlanReader
    ) -> Int64 {
        guard let window = reader.duration(document, node, "window", atMost: Limits.longestSpanMilliseconds) else {
            return 0
        }
        if type.mayHaveWindow { return window }
        reader.report(
            document, document.member(node, "window") ?? node,
            type.hasElements && type != .tally
                ? "a \(type.name) has no window; ttl lets its elements end"
                : "\(type.name) has no window; counter, sum, min, max and mean have")
        return 0
    }

    private static func readLimit(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ type: AttributeType, _ reader: inout PlanReader
    ) -> Int {
        guard let member = document.member(node, "limit") else { return Limits.defaultElements }
        if !type.hasElements { reader.report(document, member, "limit is for set, tally and timeline") }
        return Int(reader.integer(document, node, "limit", 1...Int64(Limits.maximumElements)) ?? 1)
    }

    private static func type(_ document: borrowing JSONDocument, _ node: JSONNode) -> AttributeType? {
        for type in AttributeType.allCases where document.equals(node, type.name) { return type }
        return nil
    }

    private static func mentionsProfile(_ document: borrowing JSONDocument, _ node: JSONNode?) -> Bool {
        guard let node, document.kind(node) == .string else { return false }
        let text = document.bytes(node)
        let sought: StaticString = "profile"
        let word = sought.bytes
        if text.count < word.count { return false }
        for start in 0...(text.count - word.count) where equal(text.extracting(start..<start + word.count), word) {
            return true
        }
        return false
    }

    /// Takes in a rule's text but for the blanks outside of quotes, which mean nothing; the end of a line ends a comment.
    private static func combine(_ document: borrowing JSONDocument, _ node: JSONNode?, into tag: inout NameTag) {
        tag.combine(0)
        guard let node else { return }
        let text = document.bytes(node)
        var quote: UInt8 = 0
        for index in text.indices {
            let byte = text[index]
            if quote == 0, byte == 0x20 || byte == 0x09 { continue }
            if byte == 0x22 || byte == 0x27 {
                if quote == 0 { quote = byte } else if quote == byte, text[index - 1] != 0x5C { quote = 0 }
            }
            tag.combine(byte)
        }
    }

    private static func isIdentifier(_ bytes: [UInt8]) -> Bool {
        if bytes.isEmpty || bytes.count > 64 || isDigit(bytes[0]) { return false }
        for byte in bytes {
            let lowered = loweredASCII(byte)
            let isLetter = lowered >= UInt8(ascii: "a") && lowered <= UInt8(ascii: "z")
            if !isLetter, !isDigit(byte), byte != UInt8(ascii: "_") { return false }
        }
        return true
    }

    var tag: UInt32 {
        var tag = NameTag()
        tag.combine(name.span)
        tag.combine(0)
        tag.combine(type.name.bytes)
        for shift in stride(from: UInt32(0), to: 32, by: 8) { tag.combine(UInt8(truncatingIfNeeded: rules >> shift)) }
        for shift in stride(from: Int64(0), to: 64, by: 8) where window > 0 {
            tag.combine(UInt8(truncatingIfNeeded: window >> shift))
        }
        if scope != .visitor { tag.combine(scope.rawValue) }
        return tag.value
    }

    /// What to say about a `value` of a wrong type.
    func refusal(of value: CEL.`Type`) -> String {
        "value is \(value.description), but \(type.name) takes \(type.expected)"
    }

    var favoriteName: [UInt8] { name + Array("_favorite".utf8) }

    var fieldType: CEL.`Type` {
        switch type {
        case .counter: return .int
        case .sum, .min, .max, .mean, .number: return .double
        case .first, .last: return valueType
        case .string: return .string
        case .boolean, .badge: return .bool
        case .date: return .timestamp
        case .set:
            if case .list(let element) = valueType { return .list(element) }
            return .list(valueType)
        case .tally: return .map(.string, .int)
        case .timeline: return .list(valueNode == nil ? .timestamp : .map(.string, .dyn))
        }
    }

    func finished() -> Attribute {
        let width = window == 0 ? 1 : (window + Limits.windowBuckets - 1) / Limits.windowBuckets
        let shape = AttributeShape(
            type: type, scope: scope, tag: tag, form: type.form(isWindowed: window > 0, scope), policy: policy, window: window,
            bucketWidth: width, condition: condition, value: value, readsProfile: readsProfile, isRestricted: isRestricted)
        return Attribute(name: name, hidden: nil, shape: shape)
    }
}

extension PlanReader {
    /// Compiles an expression that stands in a bundle; what is wrong with it is reported at its place there.
    public mutating func compile(
        _ document: borrowing JSONDocument, _ node: JSONNode, in environment: Environment, expecting: Expectation,
        _ compiler: inout Compiler
    ) -> Expression? {
        var source: [UInt8] = []
        source.append(contentsOf: document.bytes(node))
        do {
            return try compiler.add(source, in: environment, expecting: expecting)
        } catch {
            var place = document.position(node)
            place.line += Int32(error.line) - 1
            place.column = error.line == 1 ? place.column + Int32(error.column) - 1 : Int32(error.column)
            var message = error.message
            if let suggestion = error.suggestion { message += "; did you mean '" + suggestion + "'?" }
            problems.append(PlanProblem(position: place, message: message))
            return nil
        }
    }
}
