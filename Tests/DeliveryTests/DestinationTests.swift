// Shows that the `destinations` section is read as written and that each mistake is reported at its place.

import Delivery
import Formats
import Testing

private func read(
    _ yaml: String, purposes: [String] = ["analytics"], identifiers: [String] = ["email", "user_id"]
) throws -> (plan: DestinationPlan, document: JSONDocument, problems: [String]) {
    let text = Array(yaml.utf8)
    let document = try YAML.parse(text.span)
    var reader = PlanReader()
    let plan = DestinationPlan(
        document, document.root, purposes: purposes.map { Array($0.utf8) }, identifiers: identifiers.map { Array($0.utf8) },
        &reader)
    return (plan, document, reader.problems.map { "\($0.position.line):\($0.position.column) \($0.message)" })
}

private func url(_ text: String) -> DestinationURL? { try? DestinationURL(Array(text.utf8).span) }
private func problem(_ text: String) -> DestinationURL.Problem? {
    do { _ = try DestinationURL(Array(text.utf8).span); return nil } catch { return error }
}

@Suite struct DestinationTests {
    @Test("The sample of the design is read whole")
    func sample() throws {
        let (plan, document, problems) = try read(
            """
            destinations:
              hub:
                url: https://hub.example:8443/v1/batch
                purpose: analytics
                when: 'event.type != "page"'
                identifiers: [email, user_id]
                deny: [context.ip, properties.notes]
                batch: { events: 300, bytes: 200KiB, delay: 2s }
                fallback: hub_b
                token: write-key
              hub_b:
                url: https://hub-b.example/v1/batch
                purpose: analytics
              events:
                url: https://[2001:db8::1]/?a=b
                purpose: analytics
                format: cloudevents
            """)
        #expect(problems == [])
        #expect(plan.destinations.count == 3)
        let hub = plan.destinations[0]
        #expect(hub.name == Array("hub".utf8))
        #expect(hub.url.isSecure && hub.url.host == "hub.example" && hub.url.port == 8443)
        #expect(hub.url.target == Array("/v1/batch".utf8))
        #expect(hub.condition.map { String(decoding: $0.source, as: UTF8.self) } == "event.type != \"page\"")
        #expect(hub.condition.map { document.position($0.node).line } == 5)
        #expect(hub.identifiers == [Array("email".utf8), Array("user_id".utf8)])
        #expect(hub.denied == [["context", "ip"], ["properties", "notes"]].map { $0.map { Array($0.utf8) } })
        #expect(hub.maximumEvents == 300 && hub.maximumBytes == 200 << 10 && hub.delayMilliseconds == 2_000)
        #expect(hub.token == Array("write-key".utf8) && hub.format == .segment)
        #expect(hub.fallback == 1 && !hub.isFallbackOnly)
        let other = plan.destinations[1]
        #expect(other.isFallbackOnly && other.fallback == nil && other.condition == nil && other.token == nil)
        #expect(other.maximumEvents == 500 && other.maximumBytes == 400 << 10 && other.delayMilliseconds == 5_000)
        #expect(plan.destinations[2].url.host == "2001:db8::1" && plan.destinations[2].format == .cloudEvents)
    }

    @Test("Each mistake is reported with line and column", arguments: [
        ("hub: { purpose: analytics }", "2:3 this destination needs a url, such as https://hub.example/v1/batch"),
        ("hub: { url: 'https://x/' }", "2:3 this destination needs a purpose: one of the bundle's purposes"),
        ("hub: 3", "2:8 a destination's settings must be a map, such as { url: …, purpose: … }"),
        (
            "hub: { url: 'http://hub.example/', purpose: analytics }",
            "2:15 http: is for this device's own addresses only (localhost, 127.0.0.1, [::1]): use https:"
        ),
        (
            "hub: { url: 'https://x/', purpose: ads }", "2:38 ads is not among the purposes of this bundle (analytics)"
        ),
        (
            "hub: { url: 'https://x/', purpose: analytics, identifiers: [phone] }",
            "2:63 phone is not among the identifiers of this bundle (email, user_id)"
        ),
        (
            "hub: { url: 'https://x/', purpose: analytics, deny: [a..b] }",
            "2:56 deny lists fields by their paths, such as context.ip"
        ),
        (
            "hub: { url: 'https://x/', purpose: analytics, batch: { events: 0 } }",
            "2:66 events must be a whole number from 1 to 5000"
        ),
        (
            "hub: { url: 'https://x/', purpose: analytics, batch: { bytes: 1KiB } }",
            "2:65 bytes must be a size such as 512, 400KiB, 64MiB or 2GB, from 49152 to 1048576 bytes"
        ),
        // limit: Delivery.budgetBytes
        (
            "hub: { url: 'https://x/', purpose: analytics, batch: { budget: 65535 } }",
            "2:66 budget must be a size such as 512, 400KiB, 64MiB or 2GB, from 65536 to 1099511627776 bytes"
        ),
        (
            "hub: { url: 'https://x/', purpose: analytics, cost: cheap }",
            "2:55 cost must be a number: what a GiB on the way there costs"
        ),
        (
            "hub: { url: 'https://x/', purpose: analytics, fallback: nobody }",
            "2:59 fallback must name another destination of this bundle"
        ),
        (
            "hub: { url: 'https://x/', purpose: analytics, fallback: hub }",
            "2:59 a fallback is another destination that has no fallback itself"
        ),
        ("hub: { url: 'https://x/', purpose: analytics, format: xml }", "2:57 format must be segment, cloudevents or webhook"),
        (
            "hub: { url: 'https://x/', purpose: analytics, token: 'a:b' }",
            "2:56 token must have 1 to 512 bytes and no colon"
        ),
    ])
    func mistakes(line: String, expected: String) throws {
        #expect(try read("destinations:\n  " + line).problems == [expected])
    }

    @Test("A chain of fallbacks is refused, in whatever order it is written")
    func chains() throws {
        let names = ["a: { url: 'https://a/', purpose: analytics, fallback: b }",
            "b: { url: 'https://b/', purpose: analytics, fallback: c }", "c: { url: 'https://c/', purpose: analytics }"]
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let text = "destinations:\n" + order.map { "  " + names[$0] + "\n" }.joined()
            #expect(try read(text).problems.count == 1, "\(order)")
        }
    }

    @Test("Pins are read, one to eight, and what is none is refused")
    func pins() throws {
        func found(_ pins: String) throws -> (count: Int?, problems: [String]) {
            let (plan, _, problems) = try read(
                "destinations:\n  hub: { url: 'https://x/', purpose: analytics, pins: \(pins) }")
            return (plan.destinations.first?.pins.count, problems)
        }
        let pin = "'" + String(repeating: "0aB", count: 21) + "c'"
        func list(_ count: Int) -> String { "[" + Array(repeating: pin, count: count).joined(separator: ", ") + "]" }
        #expect(try found(list(1)) == (1, []))
        #expect(try found(list(8)) == (8, []))
        #expect(try found("null") == (0, []))
        let problem = "pins is a list of 1 to 8 SHA-256 of public keys, 64 hex digits each"
        #expect(try found("[" + pin + ", 'abc']").problems == ["2:124 " + problem])
        for wrong in [list(9), "[]", "{}", pin, "[1]"] {
            let problems = try found(wrong).problems
            #expect(problems.count == 1 && problems[0].hasSuffix(problem), "\(wrong): \(problems)")
        }
    }

    @Test("A bundle without the section has no destinations; an unknown setting is refused")
    func edges() throws {
        #expect(try read("version: 1").plan.destinations.isEmpty)
        #expect(try read("destinations:\n  hub: { url: 'https://x/', purpose: analytics, adress: y }").problems.count == 1)
    }

    @Test("URLs")
    func urls() {
        #expect(url("https://Hub.Example")?.host == "hub.example")
        #expect(url("https://hub.example")?.target == Array("/".utf8))
        #expect(url("https://hub.example?x=1")?.target == Array("/?x=1".utf8))
        #expect(url("https://hub.example:65535/a")?.port == 65_535)
        #expect(url("https://hub.example")?.port == 443)
        #expect(url("http://localhost:8470/v1/batch")?.isSecure == false)
        for loopback in ["127.0.0.1", "127.255.3.4", "localhost", "a.localhost", "[::1]"] {
            #expect(url("http://\(loopback)/") != nil, "\(loopback)")
        }
        for other in ["hub.example", "128.0.0.1", "127.0.0.1.evil.example", "localhost.example", "127.1", "notlocalhost",
            "[::2]", "1270.0.0.1", "127.0.0.256", "127.0.0.1."] {
            #expect(problem("http://\(other)/") == .notSecure, "\(other)")
        }
        for bad in ["", "hub.example", "ftp://x/", "https://", "https:///x", "https://user@hub.example/",
            "https://hub.example:0/", "https://hub.example:65536/", "https://hub.example:/", "https://hub.example:1x/",
            "https://hub.example/#a", "https://hub example/", "https://[::1/", "https://[::1]x/", "https://[]/",
            "https://hüb.example/", "https://x/\u{1}", "https://hub.example\\evil/", "https://%41/",
            "https://x/" + String(repeating: "a", count: 2048)] {
            #expect(problem(bad) == .malformed, "\(bad)")
        }
    }
}
