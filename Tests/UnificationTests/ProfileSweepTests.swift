// Shows that the sweep takes out of a record what has ended and nothing else, by records made of events and a later now.
import Store
import Testing

@testable import Unification

@Suite struct ProfileSweepTests {
    private let hour: Int64 = 3_600_000

    private func swept(_ bench: Workbench, _ record: [UInt8], _ now: Int64) -> (ended: Int, record: [UInt8]) {
        var result: [UInt8] = []
        do throws(RecordDamage) {
            let view = try ProfileView(record.span)
            let ended = ProfileSweep.rewrite(view, bench.plan, now: now, into: &result)
            return (ended, ended == 0 ? record : result)
        } catch { fatalError("damaged") }
    }

    private func holds(_ record: [UInt8], _ word: String) -> Bool {
        let word = Array(word.utf8)
        return record.indices.contains { record[$0...].starts(with: word) }
    }

    @Test func anAttributeGoesWhenItsTimeIsUp() {
        let bench = Workbench(
            "attributes:\n  city: { type: string, value: event.city, ttl: 1h }\n  name: { type: string, value: event.name }")
        let record = bench.apply(#"{"city": "Hamburg", "name": "Ada"}"#)
        #expect(swept(bench, record, noon + hour).ended == 0)
        let after = swept(bench, record, noon + hour + 1)
        #expect(after.ended == 1)
        #expect(!holds(after.record, "Hamburg") && holds(after.record, "Ada"))
        #expect(bench.attributes(after.record, now: noon + hour + 1) == #"{"name":"Ada"}"#)
        // What is left is a record as any other.
        #expect(swept(bench, after.record, noon + 9 * hour).ended == 0)
        #expect(bench.attributes(bench.apply(#"{"city": "Kiel"}"#, to: after.record, at: noon + 2 * hour), now: noon + 2 * hour)
            == #"{"city":"Kiel","name":"Ada"}"#)
    }

    @Test func elementsGoOneByOne() {
        let bench = Workbench(
            "attributes:\n  seen: { type: set, value: event.sku, ttl: 1h }\n  times: { type: timeline, value: event.sku, ttl: 1h }")
        var record = bench.apply(#"{"sku": "lens-1"}"#)
        record = bench.apply(#"{"sku": "body-2"}"#, to: record, at: noon + hour / 2)
        let now = noon + hour + 1
        let before = bench.attributes(record, now: now)
        let after = swept(bench, record, now)
        #expect(after.ended == 2)
        #expect(!holds(after.record, "lens-1") && holds(after.record, "body-2"))
        #expect(bench.attributes(after.record, now: now) == before)
        #expect(swept(bench, after.record, now + hour).ended == 2)
        #expect(swept(bench, after.record, now + hour).record.count == RecordLayout.headerBytes)
    }

    @Test func bucketsLeaveWithTheirWindow() {
        let bench = Workbench("attributes:\n  n: { type: counter, window: 1h }\n  m: { type: mean, value: event.v, window: 1h }")
        var record = bench.apply(#"{"v": 1}"#)
        record = bench.apply(#"{"v": 3}"#, to: record, at: noon + hour / 2)
        let now = noon + hour + hour / 60
        let after = swept(bench, record, now)
        #expect(after.ended == 2 && after.record.count < record.count)
        #expect(bench.attributes(after.record, now: now) == bench.attributes(record, now: now))
        #expect(bench.attributes(after.record, now: now) == #"{"n":1,"m":3.0}"#)
        #expect(swept(bench, record, now + hour).record.count == RecordLayout.headerBytes)
    }

    @Test func whatHasNoEndOrIsUnknownStays() {
        let bench = Workbench("attributes:\n  n: { type: counter }\n  t: { type: tally, value: event.v }")
        let record = bench.apply(#"{"v": "x"}"#)
        #expect(swept(bench, record, .max).ended == 0)
        let other = Workbench("attributes:\n  z: { type: counter, ttl: 1h }")
        #expect(swept(other, record, .max).ended == 0)
        #expect(!bench.plan.hasEnds && other.plan.hasEnds)
        #expect(other.plan.shortestTimeToLive == hour)
    }

    @Test func aValueOfARestrictedAttributeIsRestricted() {
        let plain = """
            attributes:
              income: { type: number, value: event.income, restricted: true }
              band: { type: string, value: 'profile.income > 9.0 ? "high" : "low"' }
            """
        #expect(problems(plain) == ["3:32: this value is made of income, which is restricted: add restricted: true here as well, or ask for it in when"])
        #expect(problems(plain.replacing("\"low\"'", with: "\"low\"', restricted: true")) == [])
        #expect(problems(plain.replacing("value: 'profile.income > 9.0 ? \"high\" : \"low\"'", with: "value: event.x, when: profile.income > 9.0")) == [])
        let favorite = """
            attributes:
              tastes: { type: tally, value: event.t, restricted: true }
              taste: { type: last, value: profile.tastes_favorite }
            """
        #expect(problems(favorite).count == 1)
    }
}
