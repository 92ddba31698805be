// When a decision or a rule holds: from a moment on, until a moment, on days of the week, in opening hours. What people
// write becomes a condition in CEL, so that time zones and their changes are those that rules know.

import CEL
import Formats

/// The settings `from`, `until`, `days`, `hours` and `zone`, as the source of a condition.
public struct Schedule {
    static let members: [StaticString] = ["from", "until", "days", "hours", "zone"]

    /// Empty: always.
    private(set) var source: [UInt8] = []
    /// A rule that is switched off keeps its place, and what is wrong with it is still said.
    var isEnabled = true

    init(_ document: borrowing JSONDocument, _ settings: JSONNode, _ reader: inout PlanReader) {
        let problems = reader.problems.count
        let zone = Schedule.readZone(document, settings, &reader)
        readMoment(document, settings, "from", "now >= timestamp(\"", &reader)
        readMoment(document, settings, "until", "now < timestamp(\"", &reader)
        if let list = document.member(settings, "days") { readDays(document, list, zone, &reader) }
        if let hours = document.member(settings, "hours") {
            if document.kind(hours) == .array {
                readHours(document, document.firstChild(hours), hours, zone, &reader)
            } else {
                readHours(document, hours, hours, zone, &reader)
            }
        }
        // What was not understood has been reported, and is no condition.
        if reader.problems.count > problems { source = [] }
    }

    /// Hours of the day by themselves, as the source of a condition; empty: always, or they are wrong.
    /// - Parameter name: the setting; its zone is `zone`.
    public static func hours(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ name: StaticString, _ reader: inout PlanReader
    ) -> [UInt8] {
        var schedule = Schedule()
        let problems = reader.problems.count
        let zone = readZone(document, settings, &reader)
        guard let node = document.member(settings, name) else { return [] }
        let first = document.kind(node) == .array ? document.firstChild(node) : node
        schedule.readHours(document, first, node, zone, &reader)
        return reader.problems.count > problems ? [] : schedule.source
    }

    private init() {}

    /// The condition of a rule that holds by the schedule only.
    /// - Parameter condition: the rule's own; empty for none.
    func joined(with condition: [UInt8]) -> [UInt8] {
        if isEnabled, source.isEmpty { return condition }
        var text = source
        if !isEnabled { text = Array("false".utf8) }
        if condition.isEmpty { return text }
        text.appendText(" && (")
        text.append(contentsOf: condition)
        // On a line of its own: the condition may end in a comment.
        text.appendText("\n)")
        return text
    }

    private mutating func join(_ words: StaticString) {
        if !source.isEmpty { source.appendText(" && ") }
        source.appendText(words)
    }

    /// A zone's name goes into the source of a condition as it is.
    private static func readZone(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ reader: inout PlanReader
    ) -> [UInt8] {
        guard let node = reader.text(document, settings, "zone") else { return Array("UTC".utf8) }
        let name = copy(document.bytes(node))
        var isName = !name.isEmpty && name.count <= 64
        for byte in name {
            let lowered = byte | 0x20
            let isLetter = lowered >= UInt8(ascii: "a") && lowered <= UInt8(ascii: "z")
            // Letters, digits and + - / : _
            let isOther = byte >= UInt8(ascii: "-") && byte <= UInt8(ascii: ":")
            if !isLetter, !isOther, byte != UInt8(ascii: "+"), byte != UInt8(ascii: "_") { isName = false }
        }
        if !isName { reader.report(document, node, "zone must be a time zone such as Europe/Berlin or +02:00") }
        return isName ? name : []
    }

    private mutating func readMoment(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ name: StaticString, _ words: StaticString,
        _ reader: inout PlanReader
    ) {
        guard let node = document.member(settings, name) else { return }
        guard document.kind(node) == .string, Timestamp.parse(document.bytes(node)) != nil else {
            reader.report(document, node, "from and until must be moments with their offset, such as 2026-12-01T09:00:00+01:00")
            return
        }
        join(words)
        source.append(contentsOf: document.bytes(node))
        source.appendText("\")")
    }

    private mutating func readDays(
        _ document: borrowing JSONDocument, _ list: JSONNode, _ zone: [UInt8], _ reader: inout PlanReader
    ) {
        let names: [StaticString] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
        join("now.getDayOfWeek(\"")
        source.append(contentsOf: zone)
        source.appendText("\") in [")
        var count = 0
        var element = document.kind(list) == .array ? document.firstChild(list) : nil
        while let node = element {
            element = document.next(node)
            var day = names.count
            for index in names.indices where document.kind(node) == .string && document.equals(node, names[index]) { day = index }
            if day == names.count {
                count = 0
                break
            }
            if count > 0 { source.appendText(", ") }
            source.append(UInt8(ascii: "0") + UInt8(day))
            count += 1
        }
        source.appendText("]")
        if count == 0 { reader.report(document, list, "days must be a list of mon, tue, wed, thu, fri, sat, sun") }
    }

    /// Spans such as 09:00-18:00; one that ends before it begins goes over midnight.
    private mutating func readHours(
        _ document: borrowing JSONDocument, _ first: JSONNode?, _ list: JSONNode, _ zone: [UInt8], _ reader: inout PlanReader
    ) {
        join("(")
        var count = 0
        var element = first
        while let node = element {
            element = document.kind(list) == .array ? document.next(node) : nil
            guard document.kind(node) == .string, let span = Schedule.span(document.bytes(node)) else {
                count = 0
                break
            }
            if count > 0 { source.appendText(" || ") }
            source.appendText("(")
            appendMinutes(zone)
            source.appendText(" >= ")
            appendInteger(Int64(span.from), to: &source)
            source.appendText(span.from < span.to ? " && " : " || ")
            appendMinutes(zone)
            source.appendText(" < ")
            appendInteger(Int64(span.to), to: &source)
            source.appendText(")")
            count += 1
        }
        source.appendText(")")
        if count == 0 { reader.report(document, list, "hours are a span such as 09:00-18:00, or a list of them") }
    }

    private mutating func appendMinutes(_ zone: [UInt8]) {
        source.appendText("now.getHours(\"")
        source.append(contentsOf: zone)
        source.appendText("\") * 60 + now.getMinutes(\"")
        source.append(contentsOf: zone)
        source.appendText("\")")
    }

    /// Minutes of the day, 0…1440.
    private static func span(_ text: Span<UInt8>) -> (from: Int, to: Int)? {
        guard text.count == 11, text[5] == UInt8(ascii: "-"), let from = minutes(text.extracting(0..<5)),
            let to = minutes(text.extracting(6..<11)), from != to, from < 1440
        else { return nil }
        return (from, to)
    }

    private static func minutes(_ text: Span<UInt8>) -> Int? {
        var digits: [Int] = []
        for index in 0..<5 where index != 2 {
            if text[index] < 0x30 || text[index] > 0x39 { return nil }
            digits.append(Int(text[index]) - 0x30)
        }
        let (hours, minutes) = (digits[0] * 10 + digits[1], digits[2] * 10 + digits[3])
        if text[2] != UInt8(ascii: ":") || minutes > 59 || hours * 60 + minutes > 1440 { return nil }
        return hours * 60 + minutes
    }
}

extension [UInt8] {
    mutating func appendText(_ words: StaticString) { append(contentsOf: words.bytes) }
}
