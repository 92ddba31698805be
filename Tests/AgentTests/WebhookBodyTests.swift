// Shows what a webhook is given: JSON, whatever the values in its template are, of what may leave and of nothing else; and
// what is said of a template that is wrong.
import Formats
import Testing

@testable import Agent

private func bundle(_ settings: String) -> String {
    """
    version: 1
    purposes: [analytics, personalization]
    identifiers: { user_id: { from: [userId], send: hmac, unique: true } }
    events: { "*": { purpose: analytics } }
    attributes:
      orders: { type: counter, when: 'event.event == "Order Completed"' }
      secret: { type: last, value: event.properties.secret, restricted: true }
    audiences: { buyer: profile.orders > 0 }
    tables: { products: { p-1: { name: "Shoe" } } }
    triggers: { thanks: { on: 'event.event == "Order Completed"', send: crm } }
    destinations:
      crm: { url: "https://crm.example/hook", purpose: analytics, format: webhook, identifiers: [user_id], deny: [properties.note], \(settings) }
    """
}

@Suite struct WebhookBodyTests {
    private func sent(_ settings: String, _ properties: String = "{}") -> String {
        let device = Device(bundle(settings))
        device.take("ada", "Looked")
        device.take("ada", "Order Completed", properties)
        return device.delivery(0).text
    }

    @Test func aTextHoldsValuesAndPartsOfTexts() {
        let text = sent(
            #"body: '{"text": "${event.properties.name} for ${event.properties.revenue} (${event.properties.none})", "n": ${profile.orders}, "all": ${event.properties.list}, "no": ${event.nothing}, "is": ${audience.buyer}}'"#,
            #"{"name": "A \"fine\" \\ shoe\n", "revenue": 12.5, "list": [1, {"a": "b"}]}"#)
        #expect(text == #"{"text": "A \"fine\" \\ shoe\n for 12.5 ()", "n": 1, "all": [1,{"a":"b"}], "no": null, "is": true}"#)
    }

    @Test func aMapHoldsExpressionsInItsTexts() {
        let text = sent(
            #"body: { text: 'Say "${event.properties.name}"', value: "${event.properties.revenue}", list: ["${device.id}", 1, true], table: '${tables.products["p-1"].name + "}"}', who: "${event.context.identifiers.user_id.size()}" }"#,
            #"{"name": "x\"y", "revenue": 3}"#)
        #expect(text == #"{"text":"Say \"x\"y\"","value":3,"list":["till-1",1,true],"table":"Shoe}","who":64}"#)
        var document = JSONDocument()
        let bytes = Array(text.utf8)
        #expect(throws: Never.self) { try document.parse(bytes.span) }
    }

    /// What may not leave is not there for an expression either.
    @Test func expressionsSeeWhatMayLeave() {
        let text = sent(#"body: { note: "${event.properties.note}", pseudonym: "${event.userId}" }"#, #"{"note": "n"}"#)
        #expect(text == #"{"note":null,"pseudonym":null}"#)
    }

    @Test func withoutATemplateItGetsTheMessage() {
        let text = sent(#"headers: { X-A: b }"#)
        #expect(text.hasPrefix(#"{"messageId":""#) && text.contains(#""event":"Trigger Fired""#) && !text.contains("Looked"))
    }

    /// With a condition it gets events as well, and not those that triggers send elsewhere.
    @Test func withAConditionItGetsEvents() {
        let device = Device(bundle(#"when: 'event.event == "Looked"', body: { e: "${event.event}", at: "${event.timestamp}" }"#))
        device.take("ada", "Looked")
        device.take("ada", "Other")
        device.take("ada", "Order Completed")
        #expect(device.delivery(0).text == #"{"e":"Trigger Fired","at":"2026-01-31T12:00:00Z"},{"e":"Looked","at":"2026-01-31T12:00:00Z"}"#)
    }

    @Test(arguments: [
        (#"body: '{"a": ${profile.ordrs}}'"#, "in ${profile.ordrs}, 1:9"),
        (#"body: '{"a": ${event.event'"#, "this ${ has no }"),
        (#"body: '{"a": x${event.event}}'"#, "the body is not JSON"),
        (#"body: { a: "${profile.secret}" }"#, "profile.secret is restricted"),
    ])
    func whatIsWrongIsSaid(settings: String, expected: String) {
        let bytes = Array(bundle(settings).utf8)
        let (read, problems) = Bundle.read(bytes.span, loadedAt: 0)
        #expect(read == nil && problems.contains { $0.message.contains(expected) }, "\(problems)")
    }
}
