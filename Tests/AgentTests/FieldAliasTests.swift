// Shows that a field that comes under an old name is from then on the new one, wherever an event is looked at; that what
// is ambiguous is refused with its place; and that no alias carries an identifier to where it would be kept (promise P3).

import Formats
import Testing

@testable import Agent
@testable import Collection

@Suite struct FieldAliasTests {
    static func plan(_ fields: String, identifiers: String = "") -> String {
        """
        version: 1
        purposes: [analytics]
        identifiers:
          user_id: { from: [userId] }
          phone: { from: [traits.phone, properties.contact.mobile], normalize: digits }
        \(identifiers)
        events:
          Order Completed:
            purpose: analytics
            invalid: quarantine
            schema: { type: object, required: [revenue], properties: { revenue: { type: number } } }
            fields: \(fields)
          identify: { purpose: analytics, fields: { town: { was: city } } }
          "*": { purpose: analytics }
        """
    }

    static func order(_ properties: String) -> String {
        #"{"type":"track","event":"Order Completed","userId":"anna","properties":"# + properties + "}"
    }

    @Test(arguments: [
        (#"{"cart_value":5}"#, #""properties":{"revenue":5}"#),
        (#"{"a":[1,{"cart_value":2}],"total":5,"z":"\u00e9"}"#,
         #""properties":{"a":[1,{"cart_value":2}],"revenue":5,"z":"é"}"#),
        // The first name of the list that is there; the other is just a field.
        (#"{"total":6,"cart_value":5}"#, #""properties":{"total":6,"revenue":5}"#),
        // Both: nothing is touched.
        (#"{"cart_value":5,"revenue":7}"#, #""properties":{"cart_value":5,"revenue":7}"#),
        (#"{"cart\u005fvalue":5}"#, #""properties":{"revenue":5}"#),
        // An object that was renamed itself.
        (#"{"revenue":1,"basket":{"number":"x"}}"#, #""properties":{"revenue":1,"cart":{"id":"x"}}"#),
    ])
    func theNewNameIsAllThatIsSeen(_ sent: String, _ kept: String) throws {
        let bench = try PlanBench(
            Self.plan("{ revenue: { was: [cart_value, total] }, cart: { was: basket }, cart.id: { was: [number] } }"))
        #expect(try bench.send(Self.order(sent)) == "admitted")
        let logged = try bench.logged()
        #expect(logged.count == 1 && logged[0].contains(kept), "\(logged)")
        #expect(bench.meters.eventsInvalid.current == 0)
    }

    @Test func otherEventsAndOtherPlacesAreLeftAlone() throws {
        let bench = try PlanBench(Self.plan("{ revenue: { was: cart_value } }"))
        let other = #"{"type":"track","event":"Other","userId":"anna","properties":{"cart_value":5}}"#
        #expect(try bench.send(other) == "admitted")
        #expect(try bench.send(#"{"type":"identify","userId":"anna","traits":{"city":"Ulm"}}"#) == "admitted")
        let logged = try bench.logged()
        #expect(logged[0].contains(#"{"cart_value":5}"#) && logged[1].contains(#""traits":{"town":"Ulm"}"#), "\(logged)")
        #expect(bench.tracking.mended.value(at: 0) == 0 && bench.tracking.mended.value(at: 1) == 1)
    }

    @Test func whatWasSetAsideIsMendedWhenThePlanIs() throws {
        let bench = try PlanBench(Self.plan("{ revenue: { was: price } }"))
        #expect(try bench.send(Self.order(#"{"cart_value":5}"#)) == "quarantined")
        #expect(try !bench.release(1))
        bench.use(Self.plan("{ revenue: { was: [cart_value] } }"))
        #expect(try bench.release(1))
        #expect(try bench.logged()[0].contains(#"{"revenue":5}"#))
    }

    @Test(arguments: [
        ("{ revenue: { was: revenue } }", "12:31: a field cannot have its own name as an old one"),
        ("{ revenue: { was: [a, b, a] } }", "12:38: this is an old name already"),
        ("{ revenue: { was: [a] }, tax: { was: [b, a] } }", "12:54: this is an old name already"),
        ("{ revenue: { was: tax }, tax: { was: [b] } }",
         "12:31: this is a field with old names itself: give all of them to the newest name"),
        ("{ revenue: { was: [a, 5] } }",
         "12:35: an old name is text of 1 to 64 bytes without dots: a name in the same object as the new one"),
        ("{ revenue: { was: cart.value } }",
         "12:31: an old name is text of 1 to 64 bytes without dots: a name in the same object as the new one"),
        ("{ revenue: total }", "12:24: a field is a map with its old names, such as { was: [cart_value, total] }"),
        ("{ cart..value: { was: total } }",
         "12:15: a field is a name, or names joined by dots: at most 8, each of 1 to 64 bytes"),
        ("{ revenue: { was: total, is: 5 } }", "12:38: unknown setting is of a field; it may have: was"),
    ])
    func whatIsAmbiguousIsRefused(_ fields: String, _ problem: String) {
        #expect(problems(Self.plan(fields)) == [problem])
    }

    /// Renamed, a value at a place for identifiers would be somewhere else, where nobody looks for them.
    @Test(arguments: [
        // Of the plan, inside one, around one; of the Segment specification, which no plan needs to name.
        "{ note: { was: phone } }", "{ contact.name: { was: mobile } }", "{ contact.mobile.x: { was: y } }",
        "{ person: { was: contact } }", "{ note: { was: email } }", "{ note: { was: [x, username] } }",
        // Into one: in an event that has both, the old one would be kept.
        "{ phone: { was: telephone } }", "{ contact: { was: person } }", "{ email: { was: mail } }",
    ])
    func noAliasTouchesAPlaceForIdentifiers(_ fields: String) {
        let found = problems(Self.plan(fields))
        #expect(!found.isEmpty && found.allSatisfy { $0.contains("this is a place for identifiers") }, "\(found)")
    }

    /// What an alias may move is searched like everything else: under the new name, too.
    @Test func anIdentifierIsFoundUnderTheNewName() throws {
        let bench = try PlanBench(Self.plan("{ revenue: { was: cart_value }, note: { was: [remark] } }"))
        let event = #"""
            {"type":"track","event":"Order Completed","userId":"anna-0815","properties":{"cart_value":5,
            "contact":{"mobile":"0171 2345678"},"remark":{"01712345678":1,"call":"anna-0815 or 0171 2345678",
            "mail":"anna@example.org","number":1712345678}}}
            """#
        #expect(try bench.send(event) == "admitted")
        let logged = try bench.logged()
        #expect(logged[0].contains(#""revenue":5"#) && logged[0].contains(#""note":{"#), "\(logged)")
        for raw in ["anna-0815", "0171 2345678", "01712345678", "anna@example.org"] {
            #expect(!logged[0].contains(raw), "\(raw) in \(logged)")
        }
    }
}
