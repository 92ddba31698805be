// Shows decisions about people as the store has them: what a person is drawn by stays when they are known by more, and is the
// same on another device; of decisions that compete one is served. With whole devices in memory and a decider over each.

import Formats
import Foundation
import Monitoring
import Testing

@testable import Activation
@testable import Agent

extension Device {
    /// The variant that a question gets, and who it yields to: `variant` or `variant<other`.
    func decide(_ key: String, _ context: String) -> String {
        var decider = Decider(device: Array("d".utf8), pepper: pepper, meters: meters)
        var writer = JSONWriter()
        let (name, body) = (Array(key.utf8), Array("{\"context\": \(context)}".utf8))
        do {
            var reader = try database.makeReader()
            try reader.begin()
            _ = decider.answer(bundle.policy, name.span, body.span, now: now, reader, into: &writer)
        } catch { fatalError("the store cannot be read") }
        let answer = String(decoding: writer.bytes, as: UTF8.self)
        func member(_ name: String) -> String? {
            answer.components(separatedBy: "\"\(name)\":\"").dropFirst().first.map { String($0.prefix { $0 != "\"" }) }
        }
        return (member("variant") ?? answer) + (member("yieldsTo").map { "<" + $0 } ?? "")
    }
}

@Suite struct DecisionsTests {
    private let bundle = """
        version: 1
        purposes: [personalization]
        identifiers:
          user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
          email: { from: [traits.email, context.email], normalize: email, send: hmac }
          cookie: { from: [anonymousId, context.cookie], send: hmac }
        events: { "*": { purpose: personalization } }
        attributes: { seen: { type: counter } }
        decisions:
          test: { purpose: personalization, variants: { a: 1, b: 2, c: 3, d: 4 }, default: a, rules: [ { split: { a: 1, b: 1, c: 1, d: 1 } } ] }
          low: { purpose: personalization, slot: banner, variants: { no: 0, yes: 1 }, default: no, rules: [ { serve: yes } ] }
          high: { purpose: personalization, slot: banner, priority: 5, variants: { no: 0, yes: 1 }, default: no, rules: [ { when: profile.seen > 1, serve: yes } ] }
        """
    private let consent = "\"context\": {\"consent\": {\"categoryPreferences\": {\"personalization\": true}}}"

    @Test func aPersonKeepsTheirVariant() {
        var (answers, changes): (Set<String>, Int) = ([], 0)
        for number in 0..<40 {
            let device = Device(bundle)
            // First a cookie, then a name with it, then an address with the name.
            device.take("{\"type\": \"track\", \"event\": \"x\", \"anonymousId\": \"c\(number)\", \(consent)}")
            let first = device.decide("test", "{\"cookie\": \"c\(number)\"}")
            device.now += 1000
            device.take("{\"type\": \"track\", \"event\": \"x\", \"anonymousId\": \"c\(number)\", \"userId\": \"u\(number)\", \(consent)}")
            device.now += 1000
            device.take("{\"type\": \"identify\", \"userId\": \"u\(number)\", \"traits\": {\"email\": \"p\(number)@shop.example\"}, \(consent)}")
            for context in ["\"cookie\": \"c\(number)\"", "\"targetingKey\": \"u\(number)\"", "\"email\": \"P\(number)@shop.example\""] {
                #expect(device.decide("test", "{\(context)}") == first)
            }
            answers.insert(first)
            // Somebody who is not known here is drawn by what they are asked for with.
            let elsewhere = Device(bundle, epoch: 2, seed: 2)
            elsewhere.now = device.now + 1000
            elsewhere.take("{\"type\": \"track\", \"event\": \"x\", \"userId\": \"u\(number)\", \(consent)}")
            if elsewhere.decide("test", "{\"targetingKey\": \"u\(number)\"}") != first { changes += 1 }
            elsewhere.learn(from: device)
            #expect(elsewhere.decide("test", "{\"targetingKey\": \"u\(number)\"}") == first, "after the exchange as on the other")
        }
        #expect(answers == ["a", "b", "c", "d"] && changes > 10)
    }

    @Test func ofThoseThatCompeteOneIsServed() {
        let device = Device(bundle)
        device.take("{\"type\": \"track\", \"event\": \"x\", \"userId\": \"u\", \(consent)}")
        let user = "{\"targetingKey\": \"u\"}"
        #expect(device.decide("low", user) == "yes" && device.decide("high", user) == "no")
        device.take("{\"type\": \"track\", \"event\": \"y\", \"userId\": \"u\", \(consent)}")
        #expect(device.decide("low", user) == "no<high" && device.decide("high", user) == "yes")
        // What it is kept by is not shown.
        #expect(device.attributes("user_id", "u") == #"{"seen":2}"#)
    }
}
