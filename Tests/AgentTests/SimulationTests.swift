// Shows that recorded events come to the same decisions as they would on a device, at their own times, by the consent that
// they carry, and each time to the same: rows of `Replay` over a small bundle.
import Cryptography
import Formats
import Store
import Testing

@testable import Agent
@testable import Unification

private let bundleText = """
    version: 1
    purposes: [analytics, personalization]
    consent: { wait: 0s }
    identifiers:
      user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
      email: { from: [traits.email], normalize: email, send: hmac }
    events: { "Product Added": { purpose: analytics }, "Order Completed": { purpose: analytics } }
    attributes:
      lifetime_value: { type: sum, when: 'event.event == "Order Completed"', value: event.properties.revenue }
    decisions:
      offer:
        purpose: personalization
        variants: { none: 0, ten: 10 }
        default: none
        rules: [{ name: vip, when: profile.lifetime_value > LIMIT, serve: ten }]
      here:
        variants: { yes: true, no: false }
        default: no
        rules: [{ name: kiosk, when: context.channel == "kiosk", serve: yes }]
    triggers:
      cart: { on: 'event.event == "Product Added"', after: 30m, unless: 'event.event == "Order Completed"', send: hub }
    destinations: { hub: { url: "https://localhost:1/v1/batch", purpose: analytics } }
    """

private func shop(limit: String = "100.0", also: String = "") -> Bundle {
    var text = bundleText
    text.replace("LIMIT", with: limit)
    text.replace("events: {", with: "events: {" + also)
    return bundle(text)
}

/// A line of `time`, minutes and seconds of an hour in January.
private func event(
    _ user: String, _ name: String, _ time: String?, _ more: String = "\"properties\": {}", context: String = consent
) -> String {
    let timestamp = time.map { "\"timestamp\": \"2026-01-31T12:\($0)Z\", " } ?? ""
    return """
        {"type": "track", "userId": "\(user)", "event": "\(name)", \(timestamp)\(more), "context": {\(context)}}
        """
}

private let consent = "\"consent\": {\"categoryPreferences\": {\"analytics\": true, \"personalization\": true}}"

private let atKiosk = consent + ", \"channel\": \"kiosk\""
private let large = "\"properties\": {\"revenue\": 200}"

/// The rows of a replay, the last with the sums.
private func play(
    _ lines: [String], _ bundles: [Bundle] = [shop()], grantsAll: Bool = false, decisions: [String] = []
) -> [String] {
    let replay = Replay()
    let keys = Array(decisions.joined(separator: ",").utf8)
    do {
        for (number, line) in lines.enumerated() {
            let text = Array(line.utf8)
            #expect(try replay.read(text.span, line: UInt64(number + 1)))
            if !replay.hasBegun { try replay.begin(bundles, decisions: keys, pepper: nil, grantsAll: grantsAll) }
            try replay.play()
        }
        try replay.end(badLines: 0)
    } catch { Issue.record("\(error)") }
    return String(decoding: replay.output.bytes, as: UTF8.self).split(separator: "\n").map { String($0) }
}

/// The text of a member of a row, wherever it stands.
private func member(_ row: String, _ name: String) -> String {
    var document = JSONDocument()
    let text = Array(row.utf8)
    do { try document.parse(text.span) } catch { return "no JSON" }
    var node: JSONNode? = document.root
    for part in name.split(separator: ".") {
        let key = Array(part.utf8)
        node = node.flatMap { document.member($0, key) }
    }
    guard let node else { return "nothing" }
    return document.string(node) ?? String(decoding: [UInt8](copying: document.source(node)), as: UTF8.self)
}

private func fired(_ rows: [String]) -> [String] { rows.filter { member($0, "event") == "Trigger Fired" } }

struct SimulationTests {
    @Test func decidesAfterEachEvent() {
        let rows = play([
            event("ada", "Order Completed", "00:00", "\"properties\": {\"revenue\": 60}"),
            event("ada", "Order Completed", "01:00", "\"properties\": {\"revenue\": 60}", context: atKiosk),
            event("ben", "Order Completed", "02:00", "\"properties\": {\"revenue\": 60}"),
        ])
        #expect(rows.count == 7)
        #expect(rows.dropLast().map { member($0, "variant") } == ["none", "no", "ten", "yes", "none", "no"])
        #expect(member(rows[2], "rule") == "vip")
        #expect(member(rows[2], "reason") == "TARGETING_MATCH")
        #expect(member(rows[2], "value") == "10")
        #expect(member(rows[2], "line") == "2")
        #expect(member(rows[2], "time") == "2026-01-31T12:01:00.000Z")
        // One person has one name, and nobody is called what they are called.
        #expect(member(rows[0], "person") == member(rows[2], "person"))
        #expect(member(rows[0], "person") != member(rows[4], "person"))
        #expect(!rows.contains { $0.contains("ada") || $0.contains("ben") })
        #expect(member(rows[6], "decisions.offer.variants.none") == "2")
        #expect(member(rows[6], "events.admitted") == "3")
    }

    @Test func isTheSameEachTime() {
        var lines: [String] = []
        for number in 0..<60 {
            // Of ten people; without message ids, so that these are drawn.
            let minute = number < 10 ? "0\(number)" : "\(number)"
            let name = number % 3 == 0 ? "Product Added" : "Order Completed"
            lines.append(event("person-\(number % 10)", name, "\(minute):00", "\"properties\": {\"revenue\": \(number)}"))
        }
        let first = play(lines)
        #expect(first == play(lines))
        #expect(first.count > 120)
    }

    @Test func asksForNothingWithoutAGrant() {
        let lines = [
            event("ada", "Order Completed", "00:00", large, context: ""),
            event("ben", "Order Completed", "01:00", large,
                context: "\"consent\": {\"categoryPreferences\": {\"analytics\": true, \"personalization\": false}}"),
            event("ben", "Order Completed", "02:00", large, context: ""),
            event("cleo", "Order Completed", "03:00", large,
                context: "\"consent\": {\"categoryPreferences\": {\"analytics\": false}}"),
            event("cleo", "Order Completed", "04:00", large, context: ""),
        ]
        let strict = play(lines, decisions: ["offer"])
        #expect(strict.dropLast().map { member($0, "line") + member($0, "variant") } == ["2none", "3none"])
        #expect(member(strict.last!, "events.denied") == "3")
        // Who has said nothing is taken to have granted it; who has refused has refused.
        let lax = play(lines, grantsAll: true, decisions: ["offer"])
        #expect(lax.dropLast().map { member($0, "line") + member($0, "variant") } == ["1ten", "2none", "3none"])
        #expect(member(lax.last!, "events.denied") == "2")
    }

    @Test func triggersFireBetweenEvents() {
        let rows = play([
            event("ada", "Product Added", "00:00"), event("ben", "Product Added", "05:00"),
            event("ben", "Order Completed", "20:00"), event("cleo", "Product Added", "40:00"),
        ], decisions: ["offer"])
        let fired = fired(rows)
        // Ada's, when it was due; Ben's is called off, and Cleo's is due behind the last event.
        #expect(fired.map { member($0, "time") } == ["2026-01-31T12:30:00.000Z"])
        #expect(fired.map { member($0, "name") } == ["cart"])
        #expect(fired.first.map { member($0, "person") } == member(rows[0], "person"))
        #expect(rows.firstIndex(of: fired[0]) == 3)
        #expect(member(rows.last!, "happened") == "{\"Trigger Fired: cart\":1}")
    }

    @Test func timeIsThatOfTheEvents() {
        let rows = play([
            event("ada", "Product Added", nil), event("ada", "Product Added", "10:00"), event("ada", "Product Added", nil),
            event("ada", "Product Added", "05:00"),
        ], decisions: ["here"])
        let decided = rows.filter { member($0, "decision") == "here" }
        #expect(decided.map { member($0, "time") } == [
            "2000-01-01T00:00:00.000Z", "2026-01-31T12:10:00.000Z", "2026-01-31T12:10:00.000Z", "2026-01-31T12:10:00.000Z",
        ])
    }

    @Test func takesBatchesWithTheirContext() {
        let lines = [
            """
            {"batch": [{"type": "track", "userId": "ada", "event": "Order Completed", "properties": {"revenue": 200}},
            {"type": "track", "userId": "ben", "event": "Unheard Of"}, 7], "context": {"channel": "kiosk", \(consent)}}
            """
        ]
        let rows = play(lines)
        #expect(rows.dropLast().map { member($0, "variant") } == ["ten", "yes"])
        #expect(member(rows.last!, "reasons") == "{\"refused: not_in_plan\":1,\"refused: not_an_object\":1}")
        #expect(member(rows.last!, "events.refused") == "2")
    }

    @Test func aCompanysAddressIsNobodys() {
        let rows = play([
            """
            {"type": "identify", "userId": "ada", "traits": {"email": "office@example.org"}, "context": {\(consent)}}
            """,
            event("ada", "Order Completed", "00:00", large),
            """
            {"type": "group", "userId": "ben", "groupId": "g", "traits": {"email": "office@example.org"},
            "context": {\(consent)}}
            """,
        ], [shop(also: "\"*\": { purpose: analytics },")], decisions: ["offer"])
        #expect(rows.dropLast().map { member($0, "variant") } == ["none", "ten", "none"])
    }

    @Test func lateTriggersFireOnceTimeGoesOnOrEnds() {
        let lines = [
            event("cleo", "Order Completed", "50:00"), event("ada", "Product Added", "10:00"),
            event("ben", "Product Added", "15:00"), event("ben", "Order Completed", "16:00"),
        ]
        // Ada's is late and fires at the end; what calls Ben's off comes right behind it.
        let rows = play(lines, decisions: ["here"])
        #expect(fired(rows).map { member($0, "time") } == ["2026-01-31T12:50:00.000Z"])
        #expect(rows.firstIndex(of: fired(rows).first ?? "") == rows.count - 2)
        let longer = play(lines + [event("cleo", "Order Completed", "51:00")], decisions: ["here"])
        #expect(fired(longer).map { member($0, "time") } == ["2026-01-31T12:50:00.000Z"])
    }

    @Test func capsHoldAsOnTheDevice() {
        var text = bundleText
        text.replace("LIMIT", with: "100.0")
        text.replace("default: none", with: "default: none\n    cap: { serves: 2, per: 1h }")
        let lines = ["00", "10", "20", "59"].map { event("ada", "Order Completed", "\($0):00", large) }
        let rows = play(lines + [lines[0].replacing("T12:", with: "T14:")], [bundle(text)], decisions: ["offer"])
        #expect(rows.dropLast().map { member($0, "variant") } == ["ten", "ten", "none", "none", "ten"])
        #expect(!rows.contains { $0.contains("Decision Made") })
    }

    // limit: Agent.simulatedBytes
    @Test func aStoreThatIsFullEndsIt() throws {
        let simulation = try Simulation(
            shop(), pepper: Peppers(key: [UInt8](repeating: 0, count: 32)), grantsAll: true, mapBytes: 512 << 10)
        var failure: StoreError?
        for number in 0..<5000 where failure == nil {
            let text = Array(event("person-\(number)", "Order Completed", "00:00").utf8)
            var document = JSONDocument()
            try document.parse(text.span)
            do throws(StoreError) { try simulation.take(document, question: text, at: Replay.beginning) } catch {
                failure = error
            }
        }
        #expect(failure == .full)
    }

    /// Where an audience changes through time alone a simulation goes on in steps; how far is bounded, and said.
    // limit: Agent.simulatedMilliseconds
    @Test func centuriesAreNotPlayed() throws {
        let announced = bundleText.replacingOccurrences(
            of: "triggers:",
            with: """
                audiences: { quiet: { when: 'age.profile > duration("1h")', purpose: analytics, announce: true } }
                triggers:
                """)
        func message(_ years: [String]) throws -> String? {
            let replay = Replay()
            for (number, year) in years.enumerated() {
                let text = Array(event("ada", "Order Completed", "00:00").replacingOccurrences(of: "2026", with: year).utf8)
                #expect(try replay.read(text.span, line: UInt64(number + 1)))
                if !replay.hasBegun {
                    let bundles = [bundle(announced.replacingOccurrences(of: "LIMIT", with: "1.0"))]
                    try replay.begin(bundles, decisions: [], pepper: nil, grantsAll: false)
                }
                do throws(UpkeepError) { try replay.play() } catch {
                    #expect(error.exitCode == 1)
                    return error.message
                }
            }
            try replay.end(badLines: 0)
            return nil
        }
        #expect(try message(["1980", "2026", "2029"]) == nil)
        #expect(try message(["0001", "2026"]) == nil)
        #expect(try message(["2026", "2076"]) == nil)
        #expect(try message(["2026", "2027", "2077"])?.hasPrefix("line 3: this event is more than 50 years after") == true)
        #expect(try message(["0001", "9999"])?.hasPrefix("line 2: ") == true)
    }

    @Test func tellsOnlyWhatWouldChange() {
        let lines = [50, 40, 30, 100].enumerated().map { number, revenue in
            event("ada", "Order Completed", "0\(number):00", "\"properties\": {\"revenue\": \(revenue)}")
        }
        let rows = play(lines, [shop(), shop(limit: "80.0")])
        // 50, 90, 120, 220: only at 90 it makes a difference.
        #expect(rows.count == 2)
        #expect(member(rows[0], "line") == "2")
        #expect(member(rows[0], "before") == "none")
        #expect(member(rows[0], "after") == "ten")
        #expect(member(rows[0], "ruleBefore") == "null")
        #expect(member(rows[0], "ruleAfter") == "vip")
        #expect(member(rows[1], "decisions.offer") == "{\"asked\":4,\"different\":1,\"changes\":{\"none → ten\":1}}")
        #expect(member(rows[1], "decisions.here") == "{\"asked\":4,\"different\":0,\"changes\":{}}")
        #expect(member(rows[1], "before.events") == member(rows[1], "after.events"))
    }

    @Test func namesADecisionThatNobodyHas() {
        let replay = Replay()
        do {
            try replay.begin([shop()], decisions: Array("nothing".utf8), pepper: nil, grantsAll: false)
            Issue.record("it began")
        } catch {
            #expect(error.message == "a bundle has none of the decisions of --decisions")
            #expect(error.exitCode == 1)
        }
    }
}
