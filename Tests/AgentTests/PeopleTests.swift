// Shows that who is one person, and what is known of them, does not depend on the order in which events arrive nor on
// which device they arrive at; and what links do in the cases that shops have.
import Platform
import Store
import Testing

@testable import Agent
@testable import Unification

private let policy = """
    version: 1
    purposes: [analytics]
    identifiers:
      user_id: { from: [userId], send: hmac, unique: true }
      card: { from: [properties.card], normalize: digits, send: hmac, unique: true }
      email: { from: [traits.email, properties.email], normalize: email, send: sha256 }
      phone: { from: [properties.phone], normalize: digits, send: hmac }
      browser: { from: [anonymousId], send: hmac }
      till: { from: [context.device.id], send: hmac, shared: true }
    events: { "*": { purpose: analytics } }
    attributes:
      events: { type: counter }
      spent: { type: sum, value: event.properties.amount }
      largest: { type: max, value: event.properties.amount }
      seen: { type: set, value: event.properties.product }
      liked: { type: tally, value: event.properties.product }
      first_product: { type: first, value: event.properties.product }
      last_product: { type: last, value: event.properties.product }
      moments: { type: timeline, value: event.properties.product }
      recent: { type: counter, window: 60m }
    """

private let consent = #""consent": {"categoryPreferences": {"analytics": true}}"#

/// An event with these identifiers, so many minutes after noon.
private func event(
    _ identifiers: [(String, String)], at minute: Int = 0, id: String = "", properties more: [String] = [], consents: Bool = true
) -> String {
    var outer: [String] = []
    var properties = more
    var device = ""
    for (kind, value) in identifiers {
        switch kind {
        case "user_id": outer.append(#""userId": "\#(value)""#)
        case "browser": outer.append(#""anonymousId": "\#(value)""#)
        case "till": device = #", "device": {"id": "\#(value)"}"#
        default: properties.append(#""\#(kind)": "\#(value)""#)
        }
    }
    if !id.isEmpty { outer.append(#""messageId": "\#(id)""#) }
    let time = 12 * 60 + minute
    outer.append(#""timestamp": "2026-01-30T\#(two(time / 60)):\#(two(time % 60)):00Z""#)
    let context = consents ? consent + device : String(device.dropFirst(2))
    return """
        {"type": "track", "event": "Product Viewed", \(outer.joined(separator: ", ")),
        "properties": {\(properties.joined(separator: ", "))}, "context": {\(context)}}
        """
}

private func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

/// Random events of a few people whose identifiers meet in all ways, and every identifier that occurs.
private struct Town {
    var events: [String] = []
    var identifiers: [(String, String)] = []

    init(seed: UInt64, size: Int) {
        var random = SeededRandom(seed: seed)
        func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
        var pools: [(kind: String, values: [String])] = [
            ("user_id", (0..<5).map { "user-\($0)" }), ("card", (0..<4).map { "40000\($0)" }),
            ("email", (0..<5).map { "person\($0)@example.com" }), ("phone", (0..<4).map { "4930901820\($0)" }),
            ("browser", (0..<5).map { "browser-\($0)" }),
        ]
        for pool in pools { for value in pool.values { identifiers.append((pool.kind, value)) } }
        for number in 0..<size {
            var chosen: [(String, String)] = []
            let first = pick(pools.count)
            chosen.append((pools[first].kind, pools[first].values[pick(pools[first].values.count)]))
            while pick(3) == 0 {
                let more = pick(pools.count)
                if chosen.contains(where: { $0.0 == pools[more].kind }) { break }
                chosen.append((pools[more].kind, pools[more].values[pick(pools[more].values.count)]))
            }
            let amount = [0.1, 0.2, 19.99, 1e-7, 123_456.78][pick(5)]
            events.append(
                event(
                    chosen, at: pick(600), id: "m-\(seed)-\(number)",
                    properties: [#""amount": \#(amount)"#, #""product": "p\#(pick(4))""#]))
        }
        pools.removeAll()
    }

    func shuffled(_ seed: UInt64) -> [String] {
        var random = SeededRandom(seed: seed)
        var list = events
        for index in list.indices.dropFirst() { list.swapAt(index, Int(random.next() % UInt64(index + 1))) }
        return list
    }
}

/// A device on that evening, when the last of them has just happened.
private func evening(epoch: UInt64 = 1, seed: UInt64 = 1) -> Device {
    let device = Device(policy, epoch: epoch, seed: seed)
    device.now = noon - 14 * 3_600_000
    return device
}

@Suite struct PeopleTests {
    @Test(arguments: 1...12) func theOrderOfArrivalDoesNotMatter(_ seed: Int) {
        let town = Town(seed: UInt64(seed), size: 40)
        let device = evening()
        for event in town.events { device.take(event) }
        let expected = device.people(town.identifiers)
        #expect(expected.contains(" "))
        for order in 1...3 {
            let other = evening(seed: UInt64(100 + order))
            for event in town.shuffled(UInt64(1000 * seed + order)) { other.take(event) }
            #expect(other.people(town.identifiers) == expected)
        }
    }

    @Test(arguments: 1...12) func devicesThatExchangeWhatTheyKnowKnowTheSame(_ seed: Int) {
        let town = Town(seed: UInt64(50 + seed), size: 40)
        let one = evening()
        for event in town.events { one.take(event) }
        let devices = (1...3).map { evening(epoch: UInt64(10 + $0), seed: UInt64($0)) }
        var random = SeededRandom(seed: UInt64(seed))
        for event in town.shuffled(UInt64(seed)) {
            devices[Int(random.next() % 3)].take(event)
            // Now and then two of them meet.
            if random.next() % 8 == 0 { devices[Int(random.next() % 3)].learn(from: devices[Int(random.next() % 3)]) }
        }
        for _ in 0..<2 { for a in devices { for b in devices where a !== b { a.learn(from: b) } } }
        let expected = one.people(town.identifiers)
        for device in devices { #expect(device.people(town.identifiers) == expected) }
        // Meeting again changes nothing.
        devices[0].learn(from: devices[1])
        #expect(devices[0].people(town.identifiers) == expected)
    }
}
