// Shows that a field that appears, disappears or changes its type is told of once it is known what is usual, by a name
// that is none of a person's; and that this survives a restart and another bundle.

import Formats
import Testing

@testable import Agent
@testable import Collection

private typealias Limits = CollectionLimits

@Suite struct SchemaDriftTests {
    static func plan(_ schema: String = "{}", _ event: String = "Order") -> TrackingPlan {
        bundle(
            """
            version: 1
            purposes: [analytics]
            identifiers: { user_id: { from: [userId] } }
            events: { \(event): { purpose: analytics, schema: \(schema) }, '*': { purpose: analytics } }
            """
        ).plans.tracking
    }

    /// Shows properties to a drift, so often; returns what is told: `new a.b`, `type a string`.
    static func show(_ drift: inout SchemaDrift, _ properties: String, times: Int = 1) -> [String] {
        var document = JSONDocument()
        let bytes = Array(properties.utf8)
        let span = bytes.span
        do { try document.parse(span) } catch { fatalError("the test's JSON is wrong") }
        drift.reports = []
        for _ in 0..<times { drift.look(0, document, document.root) }
        let drift = drift
        return drift.reports.map {
            "\($0.change.name) \(String(decoding: drift.path($0), as: UTF8.self))\($0.change == .type ? " \($0.kind)" : "")"
        }
    }

    static func learnt(_ properties: String, _ schema: String = "{}") -> SchemaDrift {
        var drift = SchemaDrift(plan(schema))
        #expect(show(&drift, properties, times: 200).isEmpty)
        return drift
    }

    static func counts(_ drift: SchemaDrift) -> [String: UInt64] {
        var counts: [String: UInt64] = [:]
        drift.forEachChange { number, field, change, count in
            counts["\(number) \(String(decoding: field, as: UTF8.self)) \(change.name)"] = count
        }
        return counts
    }

    @Test func nothingIsToldWhileLearningNorOfWhatIsUsual() {
        var drift = SchemaDrift(Self.plan())
        for count in 0..<199 {
            #expect(Self.show(&drift, count % 2 == 0 ? #"{"a":1,"b":null}"# : #"{"a":"x","c":{"d":[]}}"#).isEmpty)
        }
        for _ in 0..<500 {
            #expect(Self.show(&drift, #"{"a":1,"b":null}"#).isEmpty)
            #expect(Self.show(&drift, #"{"a":2.5,"c":{"d":[1]}}"#).isEmpty)
        }
    }

    @Test func aNewFieldIsToldOnce() {
        var drift = Self.learnt(#"{"a":1,"o":{"x":1}}"#)
        #expect(Self.show(&drift, #"{"a":1,"o":{"x":1},"b":1}"#) == ["new b"])
        #expect(Self.show(&drift, #"{"a":1,"o":{"x":1,"y":2},"b":1}"#) == ["new o.y"])
        // What comes in a new object is new with it; below the second level nobody looks.
        #expect(Self.show(&drift, #"{"a":1,"o":{"x":1,"y":2},"b":1,"p":{"q":{"r":1}}}"#) == ["new p"])
        #expect(Self.show(&drift, #"{"a":1,"o":{"x":1,"y":2},"b":1,"p":{"q":{"s":1}}}"#, times: 300).isEmpty)
    }

    @Test func aFieldThatIsMissingIsToldOnce() {
        var drift = Self.learnt(#"{"a":1,"o":{"x":1,"y":1}}"#)
        #expect(Self.show(&drift, #"{"o":{"x":1,"y":1}}"#, times: 49).isEmpty)
        #expect(Self.show(&drift, #"{"o":{"x":1,"y":1}}"#) == ["missing a"])
        #expect(Self.show(&drift, #"{"o":{"x":1,"y":1}}"#, times: 1000).isEmpty)
        // Back, and gone for less than it takes: nothing. With as many fields as before, it takes a sample to be seen.
        #expect(Self.show(&drift, #"{"a":1,"o":{"x":1,"y":1}}"#, times: 100).isEmpty)
        #expect(Self.show(&drift, #"{"a":1,"o":{"x":1}}"#, times: 49 + 16) == ["missing o.y"])
        // All that was in it goes with the object.
        #expect(Self.show(&drift, #"{"a":1}"#, times: 200) == ["missing o"])
    }

    @Test func anOptionalFieldIsNotMissed() {
        var drift = SchemaDrift(Self.plan())
        for number in 0..<200 { _ = Self.show(&drift, number % 10 == 0 ? #"{"a":1}"# : #"{"a":1,"b":1}"#) }
        #expect(Self.show(&drift, #"{"a":1}"#, times: 1000).isEmpty)
    }

    /// A change of type is no other number of fields, so it takes one of the sixteen; then every event is looked at.
    @Test func aChangedTypeIsToldUntilItIsUsual() {
        var drift = Self.learnt(#"{"a":1,"b":true}"#)
        #expect(Self.show(&drift, #"{"a":"1","b":true}"#, times: 16) == ["type a string"])
        let told = Self.show(&drift, #"{"a":"1","b":true}"#, times: 2000)
        #expect(told.count > 100 && told.count < 300 && Set(told) == ["type a string"])
        #expect(drift.reports.allSatisfy { !$0.isFirst }, "one line in the log is enough")
        #expect(Self.show(&drift, #"{"a":"1","b":true}"#, times: 2000).isEmpty)
        // A whole number is a number; a number that was an identifier no text.
        #expect(Self.show(&drift, #"{"a":1.5,"b":true}"#, times: 100).isEmpty)
        #expect(Self.show(&drift, #"{"a":1,"b":"[redacted]"}"#, times: 100).isEmpty)
        // Long enough gone, the old type is none of the usual ones.
        _ = Self.show(&drift, #"{"a":"1","b":true}"#, times: 16 * 200 * 12)
        #expect(Set(Self.show(&drift, #"{"a":1,"b":true}"#, times: 16)) == ["type a number"])
    }

    @Test func whatASchemaNamesIsUsual() {
        let schema = """
            { properties: { b: { type: integer }, c: { type: [string, 'null'] }, d: {},
              o: { type: object, properties: { y: { type: string } } } } }
            """
        var drift = Self.learnt(#"{"a":1,"c":"x","o":{"x":1}}"#, schema)
        #expect(Self.show(&drift, #"{"a":1,"b":1,"c":null,"d":[],"o":{"x":1,"y":""}}"#, times: 300).isEmpty)
        #expect(Set(Self.show(&drift, #"{"a":1,"b":1,"c":2,"d":[],"o":{"x":1,"y":""}}"#, times: 16)) == ["type c number"])
        // Another bundle names more.
        drift.use(Self.plan("{ properties: { e: {}, c: { type: number } } }"))
        #expect(Self.show(&drift, #"{"a":1,"b":1,"c":2,"d":[],"e":1,"o":{"x":1,"y":""}}"#, times: 300).isEmpty)
        drift.use(Self.plan("{}", "Other"))
        #expect(Self.counts(drift).isEmpty)
    }

    /// A name of a sender's may be data. What is long, has other signs or many digits counts without its name.
    // limit: Collection.driftNameBytes
    @Test(arguments: [
        "anna@example.org", "0171", "x12345", "müller", "a.b", "a b", "x\\\"", "", "other",
        "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvw",
    ])
    func aNameThatMayBeDataIsNotRemembered(_ name: String) {
        var drift = Self.learnt(#"{"a":1}"#)
        #expect(Self.show(&drift, "{\"a\":1,\"\(name)\":1}") == ["new other"])
        #expect(!drift.record(0, at: 0, isLast: true)!.contains(UInt8(ascii: "x")) || !name.contains("x"))
        #expect(Self.counts(drift) == ["0 other new": 1])
    }

    // limit: Collection.driftChildren, Collection.driftFieldsPerEvent
    @Test func mapsAndTooManyFieldsDoNotGrow() {
        var drift = SchemaDrift(Self.plan())
        for number in 0..<5000 {
            let letters = String(decoding: String(number).utf8.map { $0 + 49 }, as: UTF8.self)
            _ = Self.show(&drift, "{\"a\":1,\"map\":{\"\(letters)\":1},\"z\(letters)\":1}")
        }
        let record = drift.record(0, at: 0, isLast: true)!
        #expect(record.count < 64 * 48, "\(record.count)")
        #expect(Self.counts(drift).count <= 64)
        #expect(Self.show(&drift, #"{"a":1,"map":{"brandnew":1}}"#, times: 40).isEmpty)
    }

    /// Forty events of which each has as many fields as one may have: of all together fewer are known.
    // limit: Collection.driftFields
    @Test func onlySoManyFieldsOfAPlanAreKnown() throws {
        let events = (0..<40).map { "E\($0): { purpose: analytics }" }.joined(separator: ", ")
        var drift = SchemaDrift(bundle("version: 1\npurposes: [analytics]\nevents: { \(events) }\n").plans.tracking)
        let names = (0..<100).map { number in String(decoding: String(number).utf8.map { $0 + 49 }, as: UTF8.self) }
        let text = Array(("{" + names.map { #""f\#($0)":1"# }.joined(separator: ",") + "}").utf8)
        var properties = JSONDocument()
        try properties.parse(text.span)
        for number in 0..<40 { for _ in 0..<10 { drift.look(number, properties, properties.root) } }
        var known = 0
        for number in 0..<40 {
            let record = drift.record(number, at: 0, isLast: true) ?? []
            let text = String(decoding: record, as: UTF8.self)
            known += names.filter { text.contains("f\($0)") }.count
        }
        #expect(known > Limits.driftFields / 2 && known <= Limits.driftFields, "\(known)")
    }

    @Test func itSurvivesARestart() {
        let plan = Self.plan()
        var before = Self.learnt(#"{"a":1,"o":{"x":1}}"#)
        #expect(Self.show(&before, #"{"a":1,"o":{"x":1},"b":1}"#) == ["new b"])
        let record = before.record(0, at: 0, isLast: false)
        #expect(before.record(0, at: 1000, isLast: false) == nil, "written rarely")
        var after = SchemaDrift(plan)
        let bytes = record!
        after.restore(0, plan, from: bytes.span)
        #expect(Self.counts(after) == ["0 b new": 1])
        #expect(Self.show(&after, #"{"a":1,"o":{"x":1},"b":1}"#, times: 100).isEmpty)
        #expect(Set(Self.show(&after, #"{"a":1,"o":{"x":"1"}}"#, times: 16)) == ["type o.x string"])
        // A damaged record is none.
        for index in bytes.indices {
            var damaged = bytes
            damaged[index] ^= 4
            var other = SchemaDrift(plan)
            other.restore(0, plan, from: damaged.span)
            #expect(Self.counts(other).isEmpty)
        }
    }

    /// What the pipeline shows is what it keeps: names that hold an identifier of the event are not in it.
    @Test func anIdentifierIsNoFieldsName() throws {
        let text = """
            version: 1
            purposes: [analytics]
            identifiers: { user_id: { from: [userId] }, phone: { from: [properties.phone] } }
            events: { Order: { purpose: analytics } }
            """
        let bench = try PlanBench(text)
        let event = #"{"type":"track","event":"Order","userId":"annaberta","properties":"#
        #expect(
            try bench.send(event + #"{"plain":1,"annaberta":1,"of-annaberta":{"x":1},"phone":{"secretname":"0171 23456"}}}"#)
                == "admitted")
        let record = try bench.driftRecord()
        let words = String(decoding: record, as: UTF8.self)
        #expect(words.contains("plain"))
        for word in ["annaberta", "secret", "phone"] { #expect(!words.contains(word)) }
    }
}
