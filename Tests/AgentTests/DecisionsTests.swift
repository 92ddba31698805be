// Shows decisions about people as the store has them: what a person is drawn by stays when they are known by more, and is the
// same on another device; of decisions that compete one is served. With whole devices in memory and a decider over each.

import Formats
import Foundation
import Monitoring
import Store
import Testing

@testable import Activation
@testable import Agent
@testable import Serving

extension Device {
    /// The variant that a question gets, and who it yields to: `variant` or `variant<other`.
    func decide(_ key: String, _ context: String) -> String {
        var decider = Decider(device: Array("d".utf8), pepper: pepper, meters: meters)
        return decide(key, context, &decider)
    }

    /// Puts the records of answers into the log, as the writer does.
    func keep(_ decider: inout Decider, _ serves: ServeCounts? = nil, commits: Bool = true) {
        do throws(StoreError) {
            var transaction = try database.beginWrite()
            let number = transaction.number
            for record in decider.records {
                try pipeline.keep(record, now: now, &transaction)
                if let serves, let place = record.servePlace { serves.hold(place, transaction: number) }
            }
            if commits {
                try pipeline.ledger.write(to: &transaction)
                try transaction.commit()
                decider.records.removeAll()
            } else if let serves {
                for record in decider.records { record.servePlace.map { serves.release($0, transaction: number) } }
            }
        } catch { fatalError(error.message) }
    }

    func decide(_ key: String, _ context: String, _ decider: inout Decider) -> String {
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
            + (answer.contains("\"capped\":true") ? " capped" : "")
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
          capped: { purpose: personalization, cap: { serves: 3, per: 1h }, variants: { no: 0, yes: 1, also: 2 }, default: no, rules: [ { when: has(context.other), serve: also }, { serve: yes } ] }
          one: { purpose: personalization, cap: { serves: 2, per: 1d, group: promos }, variants: { no: 0, yes: 1 }, default: no, rules: [ { name: all, serve: yes } ] }
          two: { purpose: personalization, record: 0, cap: { serves: 2, per: 1d, group: promos }, variants: { no: 0, yes: 1 }, default: no, rules: [ { serve: yes } ] }
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

    /// Serves count at once, before they are written, while they are, after it, and when that fails.
    @Test func aCapHoldsWhateverIsWrittenWhen() {
        let (device, serves) = (Device(bundle), ServeCounts())
        var decider = Decider(device: [], pepper: device.pepper, meters: device.meters, serves: serves)
        for user in ["u", "v"] { device.take("{\"type\": \"track\", \"event\": \"x\", \"userId\": \"\(user)\", \(consent)}") }
        let user = "{\"targetingKey\": \"u\"}"
        #expect(device.decide("capped", user, &decider) == "yes")
        device.keep(&decider, serves)
        #expect(device.decide("capped", "{\"targetingKey\": \"u\", \"other\": 1}", &decider) == "also")
        device.keep(&decider, serves, commits: false)
        #expect(device.decide("capped", user, &decider) == "yes")
        #expect(device.decide("capped", user, &decider) == "no capped")
        device.keep(&decider, serves)
        #expect(device.decide("capped", user, &decider) == "no capped")
        #expect(device.decide("capped", "{\"targetingKey\": \"v\"}", &decider) == "yes", "another person")
        device.now += 3_600_001
        // What is in the profile is over; what was not written yet is not forgotten.
        for _ in 0..<3 { #expect(device.decide("capped", user, &decider) == "yes") }
        #expect(device.decide("capped", user, &decider) == "no capped")
        device.keep(&decider, serves)
        #expect(device.attributes("user_id", "u") == #"{"seen":1}"#, "nobody reads what a cap counts")
        // A restart: what counts is in the profile.
        var other = Decider(device: [], pepper: device.pepper, meters: device.meters, serves: ServeCounts())
        #expect(device.decide("capped", user, &other) == "no capped")
        // Elsewhere it counts as well, once.
        let elsewhere = Device(bundle, epoch: 2, seed: 2)
        elsewhere.now = device.now
        elsewhere.learn(from: device)
        elsewhere.learn(from: device)
        #expect(elsewhere.decide("capped", user) == "no capped")
    }

    @Test func aGroupSharesItsCap() {
        let (device, serves) = (Device(bundle), ServeCounts())
        var decider = Decider(device: [], pepper: device.pepper, meters: device.meters, serves: serves)
        device.take("{\"type\": \"track\", \"event\": \"x\", \"userId\": \"u\", \(consent)}")
        let user = "{\"targetingKey\": \"u\"}"
        #expect(device.decide("one", user, &decider) == "yes" && device.decide("two", user, &decider) == "yes")
        device.keep(&decider, serves)
        #expect(device.decide("one", user, &decider) == "no capped" && device.decide("two", user, &decider) == "no capped")
    }

    @Test func aDecisionLeavesARecord() {
        let (device, serves) = (Device(bundle), ServeCounts())
        var decider = Decider(device: [], pepper: device.pepper, meters: device.meters, serves: serves)
        device.take("{\"type\": \"track\", \"event\": \"x\", \"userId\": \"u\", \(consent)}")
        device.now += 5000
        _ = device.decide("one", "{\"targetingKey\": \"u\"}", &decider)
        _ = device.decide("low", "{\"targetingKey\": \"nobody\"}", &decider)
        #expect(decider.records.count == 1, "nobody has granted nothing")
        decider.noteLatency(nanoseconds: 12_345)
        device.keep(&decider, serves)
        let records = device.generated()
        #expect(records.count == 1)
        let inputs = records[0].components(separatedBy: "\"inputs\":").last?.prefix { $0.isNumber } ?? ""
        #expect(
            records[0].replacingOccurrences(of: inputs, with: "N").replacing(#/"id":"[0-9a-f]{16}"/#, with: #""id":"I""#)
                == #"{"type":"track","event":"Decision Made","properties":{"id":"I","decision":"one","variant":"yes","#
                + #""reason":"STATIC","rule":"all","ruleNumber":1,"rules":1,"bundle":1,"consent":"granted","inputs":N,"#
                + #""profileAgeSeconds":5,"bundleAgeSeconds":5,"latencyMicroseconds":0.0},"timestamp":"2026-01-31T12:00:05.000Z"}"#)
        #expect(records[0].utf8.count < 1024)
        // It is not the person's activity, and a question about somebody who has refused leaves nothing.
        #expect(device.attributes("user_id", "u") == #"{"seen":1}"#)
        _ = device.decide("low", "{\"targetingKey\": \"u\"}", &decider)
        device.take("{\"type\": \"track\", \"event\": \"x\", \"userId\": \"u\", \"context\": {\"consent\": {\"categoryPreferences\": {\"personalization\": false}}}}")
        device.keep(&decider, serves)
        #expect(device.generated().count == 1)
    }

    // limit: Activation.pendingRecords, Serving.waitingRecords
    @Test func recordsThatNobodyTakesAreLostAndCounted() {
        let device = Device(bundle)
        let box = DecisionBox(meters: device.meters)
        var decider = Decider(device: [], pepper: device.pepper, meters: device.meters, serves: box.serves)
        device.take("{\"type\": \"track\", \"event\": \"x\", \"userId\": \"u\", \(consent)}")
        for _ in 0..<1030 { _ = device.decide("low", "{\"targetingKey\": \"u\"}", &decider) }
        #expect(decider.records.count == 1024 && device.meters.recordsLost.current == 6)
        var records = decider.records
        for round in 1...5 {
            records = decider.records
            #expect(box.leave(&records) && records.isEmpty, "the writer is to be woken")
            #expect(device.meters.recordsLost.current == 6 + UInt64(max(0, round - 2)) * 1024)
        }
        box.take(into: &records)
        #expect(records.count == 2048)
    }
}
