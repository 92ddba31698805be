import Formats
import Testing

@testable import Collection

/// CloudEvents as messages of the tracking API: each mode by examples, each rule by what breaks it.
@Suite struct CloudEventsTests {
    struct Result {
        var output: String
        var refused: [RefusedEvent]
        var code: String { refused.first.map { String(copying: $0.refusal.code.bytes) } ?? "" }
        var member: String { refused.first.map { String(copying: $0.member.span) } ?? "" }
    }

    private static func read(_ text: String) throws -> JSONDocument {
        var document = JSONDocument()
        let bytes = Array(text.utf8)
        let span = bytes.span
        try document.parse(span)
        return document
    }

    private static func result(_ events: CloudEvents) -> Result {
        Result(output: String(decoding: events.output.bytes, as: UTF8.self), refused: events.refused)
    }

    static func structured(_ text: String) throws -> Result {
        var events = CloudEvents()
        let document = try read(text)
        events.takeStructured(document)
        return result(events)
    }

    static func batch(_ text: String) throws -> Result {
        var events = CloudEvents()
        let document = try read(text)
        events.takeBatch(document)
        return result(events)
    }

    static func binary(_ headers: [(String, String)], _ body: String = "", bytes: [UInt8]? = nil) -> Result {
        var events = CloudEvents()
        events.beginBinary()
        for (name, value) in headers {
            let name = Array(name.utf8)
            let value = Array(value.utf8)
            let nameSpan = name.span
            let valueSpan = value.span
            events.takeHeader(nameSpan, valueSpan)
        }
        let body = bytes ?? Array(body.utf8)
        let span = body.span
        events.takeBody(span)
        return result(events)
    }

    static let required = [("ce-id", "1"), ("ce-source", "/till"), ("ce-type", "sold"), ("CE-SpecVersion", "1.0")]
    static let attributes = #""id":"1","source":"/till","type":"sold","specversion":"1.0""#

    // MARK: What becomes of an event

    @Test func anEventBecomesATrackCall() throws {
        let seen = try Self.structured(
            #"{\#(Self.attributes),"subject":"ada","time":"2026-01-31T09:30:00Z","dataschema":"urn:s","lane":3,"#
                + #""open":true,"none":null,"data":{"n":1}}"#)
        #expect(seen.refused.isEmpty)
        #expect(
            seen.output
                == #"{"type":"track","event":"sold","messageId":"/till 1","timestamp":"2026-01-31T09:30:00Z","userId":"ada","#
                + #""properties":{"n":1},"context":{"cloudevents":{"source":"/till","type":"sold","dataschema":"urn:s","#
                + #""lane":3,"open":true}}}"#)
    }

    @Test func binaryModeSaysTheSame() throws {
        let structured = try Self.structured(
            #"{\#(Self.attributes),"subject":"ada","datacontenttype":"application/json","lane":"3","data":{"n":1}}"#)
        let binary = Self.binary(
            Self.required
                + [("ce-subject", "ada"), ("ce-lane", "3"), ("Content-Type", "application/json"), ("accept", "*/*")],
            #"{ "n" : 1 }"#)
        #expect(structured.output == binary.output)
        #expect(binary.refused.isEmpty)
    }

    /// In order: our own extensions, the subject, and what the data says.
    @Test(arguments: [
        (#""subject":"s","userid":"u","anonymousid":"a""#, #""userId":"u","anonymousId":"a""#),
        (#""subject":"s","anonymousid":"a""#, #""anonymousId":"a""#),
        (#""subject":"s","data":{"userId":"d"}"#, #""userId":"s""#),
        (#""userid":17"#, #""userId":"17""#),
        (#""data":{"userId":17}"#, #""userId":"17""#),
        (#""data":{"anonymousId":"d","userId":"e"}"#, #""userId":"e","anonymousId":"d""#),
    ])
    func thePersonIsFound(_ members: String, _ expected: String) throws {
        let seen = try Self.structured("{\(Self.attributes),\(members)}")
        #expect(seen.output.contains(#""messageId":"/till 1",\#(expected),"properties""#), "\(seen)")
    }

    @Test func aSubjectThatIsNotThePersonIsKept() throws {
        let seen = try Self.structured(#"{\#(Self.attributes),"subject":"order-1","userid":"u"}"#)
        #expect(seen.output.contains(#""subject":"order-1""#))
        let person = try Self.structured(#"{\#(Self.attributes),"subject":"ada"}"#)
        #expect(!person.output.contains("subject"))
    }

    @Test func dataThatIsAMessageIsTakenAsOne() throws {
        let data = #""data":{"type":"identify","userId":"ada","traits":{"a":1},"context":{"ip":"::1"}}"#
        let seen = try Self.structured(
            #"{"id":"1","source":"/till","type":"com.example.identify","specversion":"1.0","#
                + #""time":"2026-01-31T09:30:00Z",\#(data)}"#)
        #expect(
            seen.output
                == #"{"messageId":"/till 1","timestamp":"2026-01-31T09:30:00Z","type":"identify","userId":"ada","#
                + #""traits":{"a":1},"context":{"ip":"::1","cloudevents":{"source":"/till","#
                + #""type":"com.example.identify"}}}"#)
        // The last word must be the message's type.
        let other = try Self.structured(#"{\#(Self.attributes),"userid":"u",\#(data)}"#)
        #expect(other.output.hasPrefix(#"{"type":"track","event":"sold""#))
    }

    @Test func dataThatIsNoObjectLiesUnderData() throws {
        let list = try Self.structured(#"{\#(Self.attributes),"userid":"u","data":[1]}"#)
        #expect(list.output.contains(#""properties":{"data":[1]}"#))
        let null = try Self.structured(#"{\#(Self.attributes),"userid":"u","data":null}"#)
        #expect(null.output.contains(#""properties":{"data":null}"#))
        let text = try Self.structured(#"{\#(Self.attributes),"userid":"u","datacontenttype":"text/plain","data":"{}"}"#)
        #expect(text.output.contains(#""properties":{"data":"{}"}"#))
        let none = try Self.structured(#"{\#(Self.attributes),"userid":"u"}"#)
        #expect(none.output.contains(#""properties":{}"#))
    }

    /// JSON format 3.1.2.
    @Test(arguments: [
        ("", "eyJhIjoxfQ==", #"{"data_bytes":7}"#),
        (#""datacontenttype":"application/json","#, "eyJhIjoxfQ==", #"{"a":1}"#),
        (#""datacontenttype":"application/vnd.a+json;v=1","#, "eyJhIjoxfQ==", #"{"a":1}"#),
        (#""datacontenttype":"image/svg+xml","#, "PGEvPg==", #"{"data":"<a/>"}"#),
        (#""datacontenttype":"text/plain","#, "/w==", #"{"data_bytes":1}"#),
    ])
    func base64IsReadByItsMediaType(_ type: String, _ data: String, _ properties: String) throws {
        let seen = try Self.structured(#"{\#(Self.attributes),"userid":"u",\#(type)"data_base64":"\#(data)"}"#)
        #expect(seen.output.contains(#""properties":\#(properties),"context""#), "\(seen)")
    }

    @Test func binaryDataIsReadByItsMediaType() {
        let person = Self.required + [("ce-userid", "u")]
        #expect(Self.binary(person, #"{"a":1}"#).output.contains(#""properties":{"a":1}"#))
        #expect(Self.binary(person + [("Content-Type", "text/plain")], "a\n\"b\"").output.contains(#"{"data":"a\n\"b\""}"#))
        let picture = Self.binary(person + [("Content-Type", "image/png")], bytes: [255, 0])
        #expect(picture.output.contains(#"{"data_bytes":2}"#))
        #expect(Self.binary(person + [("Content-Type", "application/json")]).output.contains(#""properties":{}"#))
        let broken = Self.binary(person + [("Content-Type", "application/json")], #"{"a":1}},"b":{"#)
        #expect((broken.code, broken.output) == ("bad_data", ""))
    }

    @Test func theMessageIdIsMadeOfSourceAndId() throws {
        func id(_ source: String, _ id: String) throws -> Substring {
            let seen = try Self.structured(
                #"{"id":"\#(id)","source":"\#(source)","type":"t","specversion":"1.0","userid":"u"}"#)
            return seen.output.split(separator: #""messageId":""#)[1].split(separator: "\"")[0]
        }
        let long = String(repeating: "x", count: 254)
        #expect(try id("/a", "b c") == "/a b c")
        #expect(try id("/a", long).count == 64)
        #expect(try id("/a", long) == id("/a", long))
        #expect(try id("/a", long) != id("/b", long))
        #expect(try id("/ax", long) != id("/a", "x" + long))
    }

    // MARK: What is refused

    @Test(arguments: [
        (#"{"source":"/","type":"t","specversion":"1.0"}"#, "missing_attribute", "/id"),
        (#"{"id":"1","type":"t","specversion":"1.0"}"#, "missing_attribute", "/source"),
        (#"{"id":"1","source":"/","specversion":"1.0"}"#, "missing_attribute", "/type"),
        (#"{"id":"1","source":"/","type":"t"}"#, "bad_specversion", "/specversion"),
        (#"{"id":"1","source":"/","type":"t","specversion":"0.3"}"#, "bad_specversion", "/specversion"),
        (#"{"id":"","source":"/","type":"t","specversion":"1.0"}"#, "bad_attribute", "/id"),
        (#"{"id":1,"source":"/","type":"t","specversion":"1.0"}"#, "bad_attribute", "/id"),
        (#"{"id":"1","source":"a b","type":"t","specversion":"1.0"}"#, "bad_attribute", "/source"),
        (#"{"id":"1","source":"/%4","type":"t","specversion":"1.0"}"#, "bad_attribute", "/source"),
        (#"{"id":"1\u0007","source":"/","type":"t","specversion":"1.0"}"#, "bad_attribute", "/id"),
        (#"{"id":"1\uFDD0","source":"/","type":"t","specversion":"1.0"}"#, "bad_attribute", "/id"),
        (#"{"id":"1","source":"/","type":"t","specversion":"1.0"}"#, "no_identity", "/subject"),
        (#"{"id":"1","source":"/","type":"t","specversion":"1.0","time":"yesterday"}"#, "bad_attribute", "/time"),
        (#"{"id":"1","source":"/","type":"t","specversion":"1.0","dataschema":"/s"}"#, "bad_attribute", "/dataschema"),
        (#"{"id":"1","source":"/","type":"t","specversion":"1.0","datacontenttype":"json"}"#, "bad_attribute",
         "/datacontenttype"),
        (#"{"id":"1","source":"/","type":"t","specversion":"1.0","Lane":"1"}"#, "bad_attribute_name", ""),
        (#"{"id":"1","source":"/","type":"t","specversion":"1.0","lane":1.5}"#, "bad_attribute", "/lane"),
        (#"{"id":"1","source":"/","type":"t","specversion":"1.0","lane":2147483648}"#, "bad_attribute", "/lane"),
        (#"{"id":"1","source":"/","type":"t","specversion":"1.0","lane":{}}"#, "bad_attribute", "/lane"),
        (#"{"id":"1","source":"/","type":"t","specversion":"1.0","data":1,"data_base64":""}"#, "bad_data", "/data_base64"),
        (#"{"id":"1","source":"/","type":"t","specversion":"1.0","data_base64":"x"}"#, "bad_data", "/data_base64"),
        (#"{"id":"1","source":"/","type":"t","specversion":"1.0","datacontenttype":"text/css","data":{}}"#, "bad_data",
         "/data"),
        ("[]", "not_an_object", ""),
    ])
    func whatIsWrongIsRefusedByName(_ text: String, _ code: String, _ member: String) throws {
        let seen = try Self.structured(text)
        #expect((seen.code, seen.member, seen.output) == (code, member, ""))
    }

    @Test(arguments: [
        ("ce-lane", "1", "CE-Lane", "2", "repeated_attribute", "ce-lane"),
        ("ce-id", "1", "x", "2", "repeated_attribute", "ce-id"),
        ("ce-datacontenttype", "text/plain", "x", "", "bad_attribute", "ce-datacontenttype"),
        ("ce-data", "1", "x", "", "bad_attribute_name", "ce-data"),
        ("ce-some-thing", "1", "x", "", "bad_attribute_name", ""),
        ("ce-lane", "%C0%A0", "x", "", "bad_attribute", "ce-lane"),
        ("ce-lane", "100%", "x", "", "bad_attribute", "ce-lane"),
        ("ce-lane", "\"open", "x", "", "bad_attribute", "ce-lane"),
        ("Content-Type", "json", "x", "", "bad_attribute", "content-type"),
        ("Content-Type", "text/css", "content-type", "text/css", "repeated_attribute", "content-type"),
    ])
    func headersAreRefusedByName(
        _ name: String, _ value: String, _ other: String, _ otherValue: String, _ code: String, _ member: String
    ) {
        let seen = Self.binary(Self.required + [("ce-userid", "u"), (name, value), (other, otherValue)])
        #expect((seen.code, seen.member, seen.output) == (code, member, ""))
    }

    /// HTTP binding 3.1.3.2, with its own example.
    @Test(arguments: [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"), ("%e2%82%ac", "€"), (#""a \"b\" %25""#, #"a "b" %"#),
        ("%41", "A"), ("%2541", "%41"), ("", ""),
    ])
    func headerValuesAreDecodedOnce(_ value: String, _ expected: String) {
        var decoded: [UInt8] = []
        let bytes = Array(value.utf8)
        let span = bytes.span
        let isWhole = CloudEventAttributes.decodeHeader(span, into: &decoded)
        #expect(isWhole)
        #expect(String(decoding: decoded, as: UTF8.self) == expected)
    }

    @Test func aBatchKeepsTheIndicesOfWhatItRefuses() throws {
        let good = #"{\#(Self.attributes),"userid":"u"}"#
        let seen = try Self.batch("[1,\(good),{},\(good),[]]")
        #expect(seen.refused.map(\.index) == [0, 2, 4])
        #expect(try Self.read(seen.output).kind(JSONNode(index: 0)) == .object)
        #expect(seen.output.split(separator: "messageId").count == 3)
        #expect(try Self.batch("[]").output == #"{"batch":[]}"#)
    }

    @Test func anEventOfMoreThan32KiBIsRefused() throws {
        let seen = try Self.structured(
            #"{\#(Self.attributes),"userid":"u","data":"\#(String(repeating: "x", count: 32 * 1024))"}"#)
        #expect(seen.code == "too_large")
    }

    /// Whatever is nested as deep as it may be comes out no deeper than the pipeline takes.
    @Test func theDeepestEventsCanBeTakenFurther() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        var incoming = JSONDocument()
        var outgoing = JSONDocument()
        var events = CloudEvents()
        let event = Array(#"{\#(Self.attributes),"userid":"u","data":\#(nested(CloudEvents.structuredDepth - 1))}"#.utf8)
        try incoming.parse(event.span, maximumDepth: CloudEvents.structuredDepth)
        events.takeStructured(incoming)
        let message = events.output.bytes
        try outgoing.parse(message.span, maximumDepth: Limits.eventDepth)
        let list = Array(#"[{\#(Self.attributes),"userid":"u","data":\#(nested(CloudEvents.batchDepth - 2))}]"#.utf8)
        try incoming.parse(list.span, maximumDepth: CloudEvents.batchDepth)
        events.takeBatch(incoming)
        let messages = events.output.bytes
        try outgoing.parse(messages.span, maximumDepth: CloudEvents.outputDepth)
        let deep = Self.binary(Self.required + [("ce-userid", "u")], nested(Limits.eventDepth - 2))
        let bytes = Array(deep.output.utf8)
        try outgoing.parse(bytes.span, maximumDepth: Limits.eventDepth)
        #expect(Self.binary(Self.required + [("ce-userid", "u")], nested(Limits.eventDepth - 1)).code == "bad_data")
    }
}
