// Shows that a bundle may have as much of everything as its limits say, and that one more is refused with the line and
// column of what is too much and a sentence that says how much there may be. One row a limit: a bundle that is made as large
// as asked.
import Activation
import CEL
import Collection
import Delivery
import Governance
import Testing

@testable import Agent
@testable import Unification

/// A bundle that has so many of something, or something that is so large.
private struct Row: Sendable, CustomTestStringConvertible {
    let limit: String
    let most: Int
    /// The problem of a bundle with one more: where, and how its message begins.
    let problem: String
    let bundle: @Sendable (Int) -> String
    var testDescription: String { limit }

    init(_ limit: String, _ most: Int, _ problem: String, _ bundle: @escaping @Sendable (Int) -> String) {
        (self.limit, self.most, self.problem, self.bundle) = (limit, most, problem, bundle)
    }
}

private let head = """
    version: 1
    purposes: [analytics]
    identifiers: { user_id: { from: [userId] } }
    events: { "*": { purpose: analytics } }

    """

/// So many lines, or elements of a list.
private func lines(_ count: Int, _ line: (Int) -> String) -> String { (0..<count).map { line($0) + "\n" }.joined() }
private func list(_ count: Int, _ element: (Int) -> String) -> String { (0..<count).map(element).joined(separator: ", ") }
private func letters(_ count: Int) -> String { String(repeating: "a", count: count) }

private func destination(_ settings: String, url: String = "https://hub/") -> String {
    head + "destinations:\n  hub: { purpose: analytics, url: '\(url)', \(settings) }\n"
}

/// A bundle with one kind of identifiers, found at these places; one with one event, with these settings.
private func kind(_ places: String) -> String {
    "version: 1\npurposes: [analytics]\nidentifiers: { k: { from: [\(places)] } }\n"
}
private func event(_ settings: String) -> String {
    "version: 1\npurposes: [analytics]\nevents: { A: { purpose: analytics, \(settings) } }\n"
}
private func attribute(_ settings: String) -> String { head + "attributes:\n  a: { \(settings) }\n" }

private func rule(_ condition: String) -> String { head + "audiences:\n  a: '\(condition)'\n" }

/// Fields with old names, fifty an event.
private func aliases(_ count: Int) -> String {
    var text = "version: 1\npurposes: [analytics]\nevents:\n"
    for event in 0..<(count + 49) / 50 {
        let fields = (event * 50..<min(count, event * 50 + 50)).map { "f\($0): { was: o\($0) }" }
        text += "  E\(event): { purpose: analytics, fields: { \(fields.joined(separator: ", ")) } }\n"
    }
    return text
}

@Suite struct BundleLimitsTests {
    // MARK: How many

    // limit: Activation.audiences, Activation.decisions, Activation.rules, Activation.variants
    // limit: Agent.destinations, Delivery.deniedFields, Delivery.identifiers
    // limit: Governance.purposes, Unification.identifierKinds, Unification.pathsPerKind, Unification.pathSegments
    // limit: Unification.attributes, Collection.restrictedFields, Collection.oldNames, Collection.aliasedFields
    // limit: Collection.fieldSegments, Formats.yamlAnchors, Activation.triggers, Activation.experiments
    private static let counts = [
        Row("triggers", 64, "there can be at most 64 triggers") {
            destination("format: segment") + "triggers:\n" + lines($0) { "  t\($0): { on: 'true', send: hub }" }
        },
        Row("audiences", 64, "70:3: there can be at most 64 audiences") {
            head + "audiences:\n" + lines($0) { "  a\($0): 'true'" }
        },
        Row("decisions", 1000, "1006:3: there can be at most 1000 decisions") {
            head + "decisions:\n" + lines($0) { "  d\($0): { variants: { none: 0 }, default: none }" }
        },
        Row("splits and holdouts with a goal", 64, "10:2564: there can be at most 64 splits and holdouts with a goal") {
            head + "decisions:\n  d:\n    purpose: analytics\n    variants: { none: 0 }\n    goal: A\n    rules: "
                + "[ \(list($0) { "{ name: r\($0), holdout: 5, serve: none }" }) ]"
        },
        Row("rules", 10_000, "10:7: rules must be a list of at most 10000 rules") {
            head + "decisions:\n  d:\n    variants: { none: 0 }\n    default: none\n    rules:\n"
                + lines($0) { _ in "      - { serve: none }" }
        },
        Row("variants", 64, "6:6: a decision needs variants, at most 64") {
            head + "decisions:\n  d: { default: v0, variants: { \(list($0) { "v\($0): \($0)" }) } }\n"
        },
        Row("destinations", 16, "22:3: there can be at most 16 destinations") {
            head + "destinations:\n" + lines($0) { "  d\($0): { url: 'https://hub/', purpose: analytics }" }
        },
        Row("denied fields", 64, "6:57: deny must be a list of at most 64") {
            destination("deny: [\(list($0) { "properties.f\($0)" })]")
        },
        Row("identifiers of a destination", 16, "6:64: identifiers must be a list of at most 16 names") {
            destination("identifiers: [\(list($0) { _ in "user_id" })]")
        },
        Row("purposes", 32, "35:5: there can be at most 32 purposes") {
            "version: 1\npurposes:\n" + lines($0) { "  - p\($0)" }
        },
        Row("kinds of identifiers", 32, "4:3: at most 32 kinds of identifiers") {
            "version: 1\npurposes: [analytics]\nidentifiers:\n" + lines($0) { "  k\($0): { from: [properties.k\($0)] }" }
        },
        Row("places of an identifier", 16, "3:27: at most 16 places a kind") {
            kind(list($0) { "properties.k\($0)" })
        },
        Row("names of a place", 8, "3:28: from has names joined by dots, such as traits.email, at most 8") {
            kind((0..<$0).map { "n\($0)" }.joined(separator: "."))
        },
        Row("attributes", 1024, "6:3: at most 1024 attributes") {
            head + "attributes:\n" + lines($0) { "  a\($0): { type: counter }" }
        },
        Row("restricted fields", 64, "3:48: restricted must be a list of at most 64") {
            event("restricted: [\(list($0) { "properties.f\($0)" })]")
        },
        Row("old names of an event", 64, "at most 256 fields of a plan, and 64 of an event, may have old names") {
            event("fields: { f: { was: [\(list($0) { "o\($0)" })] } }")
        },
        Row("fields with old names", 256, "at most 256 fields of a plan, and 64 of an event, may have old names") {
            aliases($0)
        },
        Row("names of a field", 8, "a field is a name, or names joined by dots: at most 8") {
            event("fields: { \((0..<$0).map { "n\($0)" }.joined(separator: ".")): { was: o } }")
        },
        Row("anchors", 256, "264:3: the file has too many anchors: there can be 256") {
            head + "audiences:\n  a: 'true'\ntables: { t: { k: [\n" + lines($0) { "  &a\($0) 1," } + "  2] } }\n"
        },
    ]

    // MARK: How large

    // limit: Governance.purposeNameBytes, Governance.longestWaitMilliseconds, Collection.fieldNameBytes
    // limit: Unification.maximumElements, Unification.longestSpanMilliseconds
    // limit: Delivery.urlBytes, Delivery.tokenBytes, Delivery.batchEvents, Delivery.batchBytes, Delivery.delayMilliseconds
    // limit: CEL.sourceBytes, CEL.nestingLevels, CEL.expressionNodes
    // limit: Activation.capServes, Activation.longestWaitMilliseconds
    private static let sizes = [
        Row("serves of a cap", 100, "6:63: serves must be a whole number from 1 to 100") {
            head + "decisions:\n  d: { purpose: analytics, variants: { a: 1 }, cap: { serves: \($0) } }\n"
        },
        Row("days of a trigger's wait", 366, "after must be ") {
            destination("format: segment") + "triggers:\n  t: { on: 'true', after: \($0)d, send: hub }\n"
        },
        Row("a purpose's name", 64, "2:12: a purpose must be a name of 1 to 64 bytes") {
            "version: 1\npurposes: [\(letters($0))]\n"
        },
        Row("seconds of a wait", 86_400, "5:18: wait must be ") { head + "consent: { wait: \($0)s }\n" },
        Row("bytes of a field's name", 64, "an old name is text of 1 to 64 bytes") {
            event("fields: { f: { was: \(letters($0)) } }")
        },
        Row("elements of a set", 1000, "6:46: limit must be a whole number from 1 to 1000") {
            attribute("type: set, value: event.event, limit: \($0)")
        },
        Row("days of a window", 3660, "6:31: window must be ") { attribute("type: counter, window: \($0)d") },
        Row("days of a time to live", 3660, "6:28: ttl must be ") { attribute("type: counter, ttl: \($0)d") },
        Row("bytes of a URL", 2048, "6:35: url must be like https://hub.example:8443/v1/batch, at most 2048 bytes") {
            destination("format: segment", url: "https://hub/" + letters($0 - 12))
        },
        Row("bytes of a token", 512, "6:58: token must have 1 to 512 bytes") { destination("token: \(letters($0))") },
        Row("events of a batch", 5000, "6:68: events must be a whole number from 1 to 5000") {
            destination("batch: { events: \($0) }")
        },
        Row("bytes of a batch", 1 << 20, "6:67: bytes must be a size") { destination("batch: { bytes: \($0) }") },
        Row("seconds of a delay", 86_400, "6:67: delay must be ") { destination("batch: { delay: \($0)s }") },
        Row("bytes of a condition", 65_536, "6:6: in this condition, ") {
            rule("true" + String(repeating: " ", count: $0 - 4))
        },
        Row("levels of a condition", 199, "6:6: in this condition, ") {
            rule(String(repeating: "(", count: $0) + "true" + String(repeating: ")", count: $0))
        },
    ]

    @Test(arguments: counts + sizes) private func soMuchAndNoMore(_ row: Row) {
        #expect(problems(row.bundle(row.most)) == [], "as much as there may be")
        let found = problems(row.bundle(row.most + 1))
        #expect(found.contains { $0.hasPrefix(row.problem) || $0.contains(" " + row.problem) }, "\(found)")
    }

    /// Everything that a compiler makes is bounded by the parts of an expression.
    @Test func anExpressionHasOnlySoManyParts() {
        func condition(_ count: Int) -> String {
            rule("[" + list(count) { _ in String(repeating: "-", count: 151) + "1" } + "].size() > 0")
        }
        #expect(problems(condition(200)) == [])
        let found = problems(condition(230))
        #expect(found.count == 1 && found[0].hasPrefix("6:6: in this condition, "), "\(found)")
        #expect(found[0].contains(": the expression has more than 32768 parts\n"), "\(found)")
        #expect(found[0].utf8.count < 400, "a long line is not shown whole")
    }
}
