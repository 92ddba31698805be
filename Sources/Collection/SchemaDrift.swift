// Whether the fields of an event are still what they usually are. For each event of the plan it remembers the two upper
// levels of its properties or traits: how often each field comes and with which kinds of JSON. What is shown to it is what
// is kept of events, without identifiers; of names it keeps only those that can be no identifier either (promise P3).
//
// Every event is looked at while it learns, and while something is unusual; otherwise one in 16, and each whose number of
// fields is another than that of the last of these.

import Formats
import Store

/// What can become of a field.
public enum FieldChange: UInt8, Sendable {
    case new, missing, type

    public var name: StaticString {
        switch self {
        case .new: "new"
        case .missing: "missing"
        case .type: "type"
        }
    }
}

/// One change, for whoever tells of it.
public struct FieldReport {
    /// From the lowest: 8 bits of the field, 8 of the event, 2 of what changed, 4 of the kind, 1 for the first time.
    private let bits: UInt32

    init(event: Int, field: Int, _ change: FieldChange, kind: Int, isFirst: Bool) {
        bits =
            UInt32(field) | UInt32(event) << 8 | UInt32(change.rawValue) << 16 | UInt32(kind) << 18 | (isFirst ? 1 << 22 : 0)
    }

    /// Number of the field, for `SchemaDrift.path`, and of the event's rule.
    public var field: Int { Int(bits & 255) }
    public var event: Int { Int(bits >> 8 & 255) }
    public var change: FieldChange { FieldChange(rawValue: UInt8(bits >> 16 & 3)) ?? .new }
    /// Of a change of type: the kind that was seen.
    public var kind: StaticString { FieldKind.name(Int(bits >> 18 & 15)) }
    /// Whether nothing has been reported of it before.
    public var isFirst: Bool { bits >> 22 == 1 }
}

/// The kinds that are told apart: a whole number is a number.
enum FieldKind {
    static let count = 6
    static let object = 5

    static func of(_ kind: JSONKind) -> Int { kind.rawValue < 2 ? Int(kind.rawValue) : Int(max(kind.rawValue, 3)) - 1 }

    static func name(_ kind: Int) -> StaticString {
        switch kind {
        case 0: "null"
        case 1: "boolean"
        case 2: "number"
        case 3: "string"
        case 4: "array"
        default: "object"
        }
    }
}

/// What is known of one field.
struct KnownField {
    /// `JSONDocument.tag` of the name.
    var tag: UInt32
    /// The field of the upper level that it is in; 0 for none.
    var parent: UInt8
    let nameLength: UInt8
    /// Where its name begins in the event's names.
    var nameOffset: UInt16
    /// Looks at events that had it, and by kind; each counts `KnownField.weight`, and less as time goes by.
    var seen: UInt16 = 0
    var kinds = InlineArray<6, UInt16>(repeating: 0)
    /// Kinds that are nothing new, those that the schema allows, and those that have been reported.
    var usualKinds: UInt8 = 0
    var declaredKinds: UInt8 = 0
    var reportedKinds: UInt8 = 0
    var flags: UInt8 = 0
    /// Fields in it that no schema names.
    var children: UInt8 = 0
    /// Events in a row that did not have it.
    var absent: UInt16 = 0
    /// The last look that found it.
    var stamp: UInt32 = 0
    /// Changes reported, by `FieldChange`.
    var reports = InlineArray<3, UInt32>(repeating: 0)

    static let weight: UInt16 = 4
    /// Bits of `flags`. A map has names that are data: nothing below it is looked at.
    static let isDeclared: UInt8 = 1
    static let isUsual: UInt8 = 2
    static let isMap: UInt8 = 4

    func has(_ flag: UInt8) -> Bool { flags & flag != 0 }
    var hasReports: Bool { reports[0] != 0 || reports[1] != 0 || reports[2] != 0 }
}

/// What is known of one event's fields.
struct EventFields {
    /// The first stands for all fields that have no name here.
    var fields: [KnownField] = []
    var names: [UInt8] = []
    /// Open addressing: 0, or a field's index.
    private var slots: [UInt8] = []
    /// Looks that count, weighted like a field's.
    var samples: UInt16 = 0
    var isLearnt = false
    private var sinceSample: UInt8 = 0
    /// Events that are looked at because something was unusual.
    private var watchful: UInt8 = 0
    private var usualCount = -1
    private var stamp: UInt32 = 0
    /// Whether there is something that the store does not have, and whether it should have it soon.
    var isDirty = false
    var isUrgent = false
    var keptAt: Int64 = 0

    init() { clear() }

    private mutating func clear() {
        fields = [KnownField(tag: UInt32.max, parent: 0, nameLength: 0, nameOffset: 0)]
        names = []
        slots = [UInt8](repeating: 0, count: 128)
    }

    // MARK: Looking

    /// Whether an event with so many fields is to be looked at; counts it.
    mutating func isDue(_ count: Int) -> Bool {
        if !isLearnt { return true }
        sinceSample &+= 1
        return sinceSample >= Limits.driftSampling || watchful > 0 || count != usualCount
    }

    /// Looks at an event.
    /// - Parameter room: how many fields may still be remembered.
    mutating func look(
        _ document: borrowing JSONDocument, _ properties: JSONNode?, _ count: Int, _ event: Int, _ room: inout Int,
        _ reports: inout [FieldReport]
    ) {
        let isSample = !isLearnt || sinceSample >= Limits.driftSampling
        let reported = reports.count
        stamp &+= 1
        if watchful > 0 { watchful -= 1 }
        if isSample {
            sinceSample = 0
            usualCount = count
            samples += KnownField.weight
            isDirty = true
        }
        if let properties { walk(document, properties, 0, isSample, event, &room, &reports) }
        let isMissing = missed(event, &reports)
        if isMissing || reports.count > reported { watchful = Limits.driftSampling }
        if isSample, samples >= Limits.driftLearningEvents * KnownField.weight * (isLearnt ? 2 : 1) { settle(&room) }
    }

    private mutating func walk(
        _ document: borrowing JSONDocument, _ object: JSONNode, _ parent: UInt8, _ isSample: Bool, _ event: Int,
        _ room: inout Int, _ reports: inout [FieldReport]
    ) {
        // What is in an object that has just come is as new as the object, and not told of apart.
        let isParentNew = parent != 0 && fields[Int(parent)].seen == 0 && !fields[Int(parent)].has(KnownField.isDeclared)
        var key = document.firstChild(object)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            let tag = document.tag(ofKey: name)
            var index = find(document.bytes(name), tag, parent)
            if index == 0, SchemaDrift.isNameable(document.bytes(name)), room > 0 {
                index = add(document.bytes(name), tag, parent)
                if index != 0 {
                    room -= 1
                    if isLearnt, !isParentNew { report(index, .new, 0, event, &reports) }
                }
            }
            if parent != 0, fields[Int(parent)].has(KnownField.isMap) { return }
            let kind = FieldKind.of(document.kind(value))
            if index == 0 {
                noteOther(isSample, event, &reports)
                continue
            }
            // A number that was an identifier is a text now, and no change.
            if kind == 3, fields[index].usualKinds & 8 == 0, document.equals(value, SchemaDrift.redaction) {
                fields[index].stamp = stamp
                fields[index].absent = 0
                continue
            }
            if kind == FieldKind.object, parent == 0, !fields[index].has(KnownField.isMap) {
                walk(document, value, UInt8(index), isSample, event, &room, &reports)
            }
            note(index, kind, isSample, event, &reports)
        }
    }

    private mutating func note(
        _ index: Int, _ kind: Int, _ isSample: Bool, _ event: Int, _ reports: inout [FieldReport]
    ) {
        let bit = UInt8(1) << UInt8(kind)
        fields[index].stamp = stamp
        fields[index].absent = 0
        // A field that has just come is what it is.
        if fields[index].usualKinds | fields[index].declaredKinds == 0 { fields[index].usualKinds = bit }
        if isSample {
            fields[index].seen += KnownField.weight
            fields[index].kinds[kind] += KnownField.weight
            let isFrequent = UInt32(fields[index].kinds[kind]) * 20 >= UInt32(fields[index].seen)
            if !isLearnt || isFrequent {
                fields[index].usualKinds |= bit
                fields[index].reportedKinds &= ~bit
            }
        }
        if !isLearnt || (fields[index].usualKinds | fields[index].declaredKinds) & bit != 0 { return }
        report(index, .type, kind, event, &reports)
    }

    /// Fields without a name here are told of as long as they are rare.
    private mutating func noteOther(_ isSample: Bool, _ event: Int, _ reports: inout [FieldReport]) {
        if fields[0].stamp == stamp { return }
        fields[0].stamp = stamp
        if isSample { fields[0].seen += KnownField.weight }
        if isLearnt, UInt32(fields[0].seen) * 20 < UInt32(samples) { report(0, .new, 0, event, &reports) }
    }

    /// Takes note of fields that are usually there and are not.
    /// - Returns: whether there are any.
    private mutating func missed(_ event: Int, _ reports: inout [FieldReport]) -> Bool {
        if !isLearnt { return false }
        var isMissing = false
        for index in fields.indices where fields[index].stamp != stamp && fields[index].has(KnownField.isUsual) {
            let parent = Int(fields[index].parent)
            // With its object it is the object that is missing.
            if parent != 0, fields[parent].stamp != stamp || fields[parent].has(KnownField.isMap) { continue }
            if fields[index].absent == Limits.driftMissingEvents { continue }
            isMissing = true
            fields[index].absent += 1
            if fields[index].absent == Limits.driftMissingEvents { report(index, .missing, 0, event, &reports) }
        }
        return isMissing
    }

    private mutating func report(
        _ index: Int, _ change: FieldChange, _ kind: Int, _ event: Int, _ reports: inout [FieldReport]
    ) {
        let slot = Int(change.rawValue)
        let bit = UInt8(1) << UInt8(kind)
        let isFirst = change == .type ? fields[index].reportedKinds & bit == 0 : fields[index].reports[slot] == 0
        if change == .type { fields[index].reportedKinds |= bit }
        fields[index].reports[slot] &+= 1
        isDirty = true
        if isFirst { isUrgent = true }
        reports.append(FieldReport(event: event, field: index, change, kind: kind, isFirst: isFirst))
    }

    /// `cart.id`.
    func path(_ index: Int) -> [UInt8] {
        if index == 0 { return Array("other".utf8) }
        var path: [UInt8] = []
        let field = fields[index]
        if field.parent != 0 { path = self.path(Int(field.parent)) + [UInt8(ascii: ".")] }
        for offset in 0..<Int(field.nameLength) { path.append(names[Int(field.nameOffset) + offset]) }
        return path
    }

    // MARK: Fields

    private static func slot(_ tag: UInt32, _ parent: UInt8) -> Int {
        Int(((tag ^ (UInt32(parent) << 24)) &* 0x9E37_79B1) >> 25)
    }

    /// - Returns: 0 for one that is not known.
    private func find(_ name: Span<UInt8>, _ tag: UInt32, _ parent: UInt8) -> Int {
        var slot = EventFields.slot(tag, parent)
        while slots[slot] != 0 {
            let index = Int(slots[slot])
            let field = fields[index]
            if field.tag == tag, field.parent == parent, isName(field, name) { return index }
            slot = (slot + 1) & 127
        }
        return 0
    }

    private func isName(_ field: KnownField, _ name: Span<UInt8>) -> Bool {
        if Int(field.nameLength) != name.count { return false }
        let start = Int(field.nameOffset)
        for offset in name.indices where names[start + offset] != name[offset] { return false }
        return true
    }

    /// - Returns: 0 when there is no room for it. An object with very many fields is a map from then on.
    private mutating func add(_ name: Span<UInt8>, _ tag: UInt32, _ parent: UInt8, isDeclared: Bool = false) -> Int {
        if fields.count > Limits.driftFieldsPerEvent { return 0 }
        if parent != 0, !isDeclared {
            if fields[Int(parent)].children == Limits.driftChildren {
                fields[Int(parent)].flags |= KnownField.isMap
                return 0
            }
            fields[Int(parent)].children += 1
        }
        insert(KnownField(tag: tag, parent: parent, nameLength: UInt8(name.count), nameOffset: UInt16(names.count)))
        names.append(contentsOf: name)
        return fields.count - 1
    }

    private mutating func insert(_ field: KnownField) {
        var slot = EventFields.slot(field.tag, field.parent)
        while slots[slot] != 0 { slot = (slot + 1) & 127 }
        slots[slot] = UInt8(fields.count)
        fields.append(field)
    }

    /// Decides what is usual, and lets what was long ago count less.
    private mutating func settle(_ room: inout Int) {
        for index in fields.indices {
            let parent = Int(fields[index].parent)
            let base = UInt32(parent == 0 ? samples : fields[parent].kinds[FieldKind.object])
            let isUsual = base >= 20 * UInt32(KnownField.weight) && UInt32(fields[index].seen) * 20 >= base * 19
            fields[index].flags = fields[index].flags & ~KnownField.isUsual | (isUsual && index > 0 ? KnownField.isUsual : 0)
        }
        if !isLearnt {
            isLearnt = true
            isUrgent = true
            return
        }
        samples /= 2
        for index in fields.indices {
            fields[index].seen /= 2
            for kind in 0..<FieldKind.count {
                fields[index].kinds[kind] /= 2
                if fields[index].seen > 0, fields[index].kinds[kind] == 0 { fields[index].usualKinds &= ~(1 << UInt8(kind)) }
            }
        }
        if isForgettable { room += forget() }
    }

    private var isForgettable: Bool {
        for index in fields.indices where isForgettable(index, in: fields) { return true }
        return false
    }

    private func isForgettable(_ index: Int, in fields: [KnownField]) -> Bool {
        let field = fields[index]
        if index == 0 || field.has(KnownField.isDeclared) || field.hasReports { return false }
        for other in fields.indices where Int(fields[other].parent) == index { return false }
        return field.seen == 0 || field.parent != 0 && fields[Int(field.parent)].has(KnownField.isMap)
    }

    /// Forgets fields that have not come for long, and what is in maps.
    /// - Returns: how many.
    private mutating func forget() -> Int {
        let (old, oldNames) = (fields, names)
        var places = [UInt8](repeating: 0, count: old.count)
        clear()
        fields[0] = old[0]
        for index in 1..<max(1, old.count) {
            var field = old[index]
            if isForgettable(index, in: old) {
                if field.parent != 0, fields[Int(places[Int(field.parent)])].children > 0 {
                    fields[Int(places[Int(field.parent)])].children -= 1
                }
                continue
            }
            places[index] = UInt8(fields.count)
            let start = Int(field.nameOffset)
            field.nameOffset = UInt16(names.count)
            field.parent = places[Int(field.parent)]
            insert(field)
            names.append(contentsOf: oldNames[start..<start + Int(field.nameLength)])
        }
        return old.count - fields.count
    }

    /// What a schema names is nothing new.
    /// - Parameter declared: see `TrackingPlan.appendDeclared`.
    mutating func declare(_ declared: [[UInt8]], _ room: inout Int) {
        for index in fields.indices {
            fields[index].flags &= ~KnownField.isDeclared
            fields[index].declaredKinds = 0
        }
        for field in declared {
            let path = field.span
            var (start, parent) = (1, 0)
            for index in 1..<path.count where path[index] == UInt8(ascii: ".") {
                let outer = path.extracting(1..<index)
                parent = find(outer, JSONDocument.tag(outer), 0)
                // There was no room for it.
                if parent == 0 { return }
                start = index + 1
            }
            let name = path.extracting(start..<path.count)
            let tag = JSONDocument.tag(name)
            var index = find(name, tag, UInt8(parent))
            if index == 0, room > 0 {
                index = add(name, tag, UInt8(parent), isDeclared: true)
                room -= 1
            }
            if index == 0 { return }
            fields[index].flags |= KnownField.isDeclared
            fields[index].declaredKinds = path[0]
        }
    }
}

// MARK: All events

/// The fields of all events of a plan. Owned by the writer; allocates for fields that it has not seen only.
public struct SchemaDrift {
    private var names: [[UInt8]] = []
    private var events: [EventFields] = []
    /// How many fields may still be remembered.
    private var room = Limits.driftFields
    /// Changes that nobody has taken note of yet.
    public var reports: [FieldReport] = []
    /// What the sanitizer leaves of an identifier.
    static let redaction: StaticString = "[redacted]"

    public init(_ plan: TrackingPlan) { use(plan) }

    /// Watches the events of a plan, from what is known of those of the same name.
    public mutating func use(_ plan: TrackingPlan) {
        var next: [EventFields] = []
        room = Limits.driftFields
        for number in plan.seen.names.indices {
            let name = plan.seen.names[number]
            var fields = names.firstIndex(of: name).map { events[$0] } ?? EventFields()
            room -= fields.fields.count
            if number < plan.declared.count { fields.declare(plan.declared[number], &room) }
            next.append(fields)
        }
        events = next
        names = plan.seen.names
    }

    /// Looks at one event.
    /// - Parameters:
    ///   - number: of its rule; of one that is not watched nothing is done.
    ///   - document: what is kept of the event, without identifiers.
    ///   - properties: its properties or traits.
    public mutating func look(_ number: Int, _ document: borrowing JSONDocument, _ properties: JSONNode?) {
        guard number < events.count else { return }
        let count = properties.map { document.count($0) } ?? 0
        if events[number].isDue(count) { events[number].look(document, properties, count, number, &room, &reports) }
    }

    /// Whether a name may be remembered and shown: short, of letters, digits, `_`, `-` and `$`, and with too few digits to
    /// be a number of something. `other` stands for the rest.
    static func isNameable(_ name: Span<UInt8>) -> Bool {
        if name.isEmpty || name.count > Limits.driftNameBytes { return false }
        var digits = 0
        for index in name.indices {
            let byte = name[index]
            if byte >= 0x30, byte <= 0x39 {
                digits += 1
                if index == 0 || digits > 4 { return false }
                continue
            }
            let isLetter = byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A
            if !isLetter, byte != UInt8(ascii: "_"), byte != UInt8(ascii: "-"), byte != UInt8(ascii: "$") { return false }
        }
        return !equal(name, ("other" as StaticString).bytes)
    }

    /// Calls `body` with each change that was ever reported of the events that are watched: the event's number, the field,
    /// what changed and how often.
    public func forEachChange(_ body: (_ event: Int, _ field: [UInt8], FieldChange, UInt64) -> Void) {
        for number in events.indices {
            let event = events[number]
            for index in event.fields.indices where event.fields[index].hasReports {
                for raw in 0..<3 {
                    let count = event.fields[index].reports[raw]
                    guard count > 0, let change = FieldChange(rawValue: UInt8(raw)) else { continue }
                    body(number, event.path(index), change, UInt64(count))
                }
            }
        }
    }

    /// How the field of a report is called.
    public func path(_ report: FieldReport) -> [UInt8] { events[report.event].path(report.field) }

    // MARK: In the store

    /// How many events are watched.
    public var count: Int { events.count }

    /// The key of an event's record.
    public func key(_ number: Int) -> [UInt8] {
        var key = Array("drift".utf8)
        let hash = LastSeen.hash(names[number], salt: UInt8(ascii: "d"))
        for shift in 0..<8 { key.append(UInt8(truncatingIfNeeded: hash >> UInt64(8 * shift))) }
        return key
    }

    /// What is to be kept of an event now.
    /// - Parameters:
    ///   - now: milliseconds since the epoch.
    ///   - isLast: whether it is to be kept in any case.
    /// - Returns: nil when there is nothing new, or it has time.
    public mutating func record(_ number: Int, at now: Int64, isLast: Bool) -> [UInt8]? {
        guard events[number].isDirty,
            events[number].isUrgent || isLast || abs(now - events[number].keptAt) >= Limits.driftMilliseconds
        else { return nil }
        events[number].isDirty = false
        events[number].isUrgent = false
        events[number].keptAt = now
        var bytes = events[number].encoded
        let sum = Checksum.of(bytes.span)
        for shift in 0..<4 { bytes.append(UInt8(truncatingIfNeeded: sum >> UInt32(8 * shift))) }
        return bytes
    }

    /// Takes what an earlier run has left of an event.
    public mutating func restore(_ number: Int, _ plan: TrackingPlan, from record: Span<UInt8>) {
        let end = record.count - 4
        guard end > 0, UInt32(littleEndianAt: end, of: record) == Checksum.of(record.extracting(0..<end)),
            var event = EventFields(record.extracting(0..<end))
        else { return }
        room += events[number].fields.count - event.fields.count
        if number < plan.declared.count { event.declare(plan.declared[number], &room) }
        events[number] = event
    }
}

extension EventFields {
    private static let fieldBytes = 34

    /// Numbers in little-endian order: samples, whether it has learnt, the fields with their names.
    var encoded: [UInt8] {
        var bytes: [UInt8] = [1]
        bytes.reserveCapacity(8 + fields.count * 48)
        append(samples, to: &bytes)
        bytes.append(isLearnt ? 1 : 0)
        for index in fields.indices {
            let field = fields[index]
            bytes += [field.parent, field.nameLength, field.usualKinds, field.reportedKinds, field.flags, field.children]
            append(field.seen, to: &bytes)
            append(field.absent, to: &bytes)
            for kind in 0..<FieldKind.count { append(field.kinds[kind], to: &bytes) }
            for change in 0..<3 {
                append(UInt16(truncatingIfNeeded: field.reports[change]), to: &bytes)
                append(UInt16(truncatingIfNeeded: field.reports[change] >> 16), to: &bytes)
            }
            for offset in 0..<Int(field.nameLength) { bytes.append(names[Int(field.nameOffset) + offset]) }
        }
        return bytes
    }

    @inline(never)
    private func append(_ number: UInt16, to bytes: inout [UInt8]) {
        bytes.append(UInt8(truncatingIfNeeded: number))
        bytes.append(UInt8(truncatingIfNeeded: number >> 8))
    }

    @inline(never)
    private static func number(_ bytes: Span<UInt8>, _ offset: Int) -> UInt16 {
        UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8
    }

    /// nil for a record of another form.
    init?(_ bytes: Span<UInt8>) {
        self.init()
        if bytes.count < 4 || bytes[0] != 1 { return nil }
        samples = EventFields.number(bytes, 1)
        isLearnt = bytes[3] == 1
        fields.removeAll()
        var offset = 4
        while offset < bytes.count {
            guard bytes.count - offset >= EventFields.fieldBytes, fields.count <= Limits.driftFieldsPerEvent
            else { return nil }
            var field = KnownField(
                tag: UInt32.max, parent: bytes[offset], nameLength: bytes[offset + 1], nameOffset: UInt16(names.count))
            field.usualKinds = bytes[offset + 2]
            field.reportedKinds = bytes[offset + 3]
            field.flags = bytes[offset + 4]
            field.children = bytes[offset + 5]
            field.seen = EventFields.number(bytes, offset + 6)
            field.absent = EventFields.number(bytes, offset + 8)
            for kind in 0..<FieldKind.count { field.kinds[kind] = EventFields.number(bytes, offset + 10 + 2 * kind) }
            for change in 0..<3 {
                field.reports[change] =
                    UInt32(EventFields.number(bytes, offset + 22 + 4 * change))
                    | UInt32(EventFields.number(bytes, offset + 24 + 4 * change)) << 16
            }
            offset += EventFields.fieldBytes
            let end = offset + Int(field.nameLength)
            guard bytes.count >= end, Int(field.parent) <= max(0, fields.count - 1) else { return nil }
            let name = bytes.extracting(offset..<end)
            offset = end
            names.append(contentsOf: name)
            if fields.isEmpty {
                fields.append(field)
            } else {
                field.tag = JSONDocument.tag(name)
                insert(field)
            }
        }
        if fields.isEmpty { return nil }
    }
}

// MARK: What schemas name

extension TrackingPlan {
    /// Appends the two upper levels of `properties` of an event's schema: for each field a byte with the kinds that it may
    /// have, a bit each, 0 where the schema does not say, and its path, such as `cart.id`.
    static func appendDeclared(
        _ document: borrowing JSONDocument, _ schema: JSONNode, in parent: [UInt8], to fields: inout [[UInt8]]
    ) {
        guard let properties = document.member(schema, "properties") else { return }
        var key = document.firstChild(properties)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            let bytes = [UInt8](copying: document.bytes(name))
            // A name with a dot could not be told from a path.
            if bytes.isEmpty || bytes.count > Limits.driftNameBytes || bytes.contains(UInt8(ascii: ".")) { continue }
            fields.append([kinds(document, value)] + parent + bytes)
            if parent.isEmpty { appendDeclared(document, value, in: bytes + [UInt8(ascii: ".")], to: &fields) }
        }
    }

    private static func kinds(_ document: borrowing JSONDocument, _ schema: JSONNode) -> UInt8 {
        guard let type = document.member(schema, "type") else { return 0 }
        var kinds: UInt8 = 0
        var element: JSONNode? = document.kind(type) == .array ? document.firstChild(type) : type
        while let node = element {
            element = node == type ? nil : document.next(node)
            for kind in 0..<FieldKind.count where document.equals(node, FieldKind.name(kind)) { kinds |= 1 << UInt8(kind) }
            if document.equals(node, "integer") { kinds |= 1 << 2 }
        }
        return kinds
    }
}
