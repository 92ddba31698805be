// Shows what the head of a webhook's request says, by the published example of Standard Webhooks, and what is said of wrong
// settings.
import Formats
import Testing

@testable import Delivery

private func read(_ settings: String) -> (Destination?, [PlanProblem]) {
    let text = Array("destinations:\n  crm: { url: 'https://crm.example/', purpose: p, format: webhook, \(settings) }".utf8)
    let document = try! YAML.parse(text.span)
    var reader = PlanReader()
    let plan = DestinationPlan(document, document.root, purposes: [Array("p".utf8)], identifiers: [], &reader)
    return (plan.destinations.first, reader.problems)
}

@Suite struct WebhookTests {
    @Test func theSignatureIsThatOfTheStandardsExample() {
        let (destination, problems) = read("sign: { secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw }, headers: { X-Shop: berlin 1 }")
        #expect(problems == [])
        let body = Array(#"{"test": 2432232314}"#.utf8)
        let id = Array("msg_p5jXN8AQM9LWM0D4loKWxJek".utf8)
        let head = destination?.webhook.head(id: id, body.span, now: 1_614_265_330_999) ?? []
        #expect(
            String(decoding: head, as: UTF8.self) == "X-Shop: berlin 1\r\nwebhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\r\n"
                + "webhook-timestamp: 1614265330\r\nwebhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\r\n")
        #expect(destination?.maximumEvents == 1)
    }

    // limit: Delivery.headerBytes, Delivery.secretBytes
    @Test(arguments: [
        ("headers: { A: \(String(repeating: "a", count: 4092)) }", "4 KiB together"),
        ("sign: { secret: hunter2 }", "secret must be whsec_"),
        ("sign: { secret: whsec_c2hvcnQ= }", "secret must be whsec_"),
        ("headers: { Host: elsewhere }", "headers are names and texts"),
        ("headers: { content-length: '1' }", "headers are names and texts"),
        (#"headers: { X-A: "b\r\nX-C: d" }"#, "headers are names and texts"),
        ("headers: { 'X: y': z }", "headers are names and texts"),
        ("batch: { events: 5 }", "a webhook gets one event a request"),
    ])
    func whatIsWrongIsSaid(settings: String, expected: String) {
        let (_, problems) = read(settings)
        #expect(problems.count == 1 && problems[0].message.contains(expected), "\(problems)")
    }

    @Test func onlyAWebhookHasABody() {
        let text = Array("destinations: { hub: { url: 'https://x/', purpose: p, body: '{}' } }".utf8)
        let document = try! YAML.parse(text.span)
        var reader = PlanReader()
        _ = DestinationPlan(document, document.root, purposes: [Array("p".utf8)], identifiers: [], &reader)
        #expect(reader.problems.count == 1 && reader.problems[0].message.contains("webhook only"))
    }
}
