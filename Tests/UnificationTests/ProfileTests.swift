// From events to a record to what rules and people see of it.
import CEL
import Formats
import Store
import Testing

@testable import Unification

/// The attributes of DESIGN.md section 6.
private let shop = """
    attributes:
      lifetime_value: { type: sum, when: 'event.event == "Order Completed"', value: event.properties.revenue }
      orders: { type: counter, when: 'event.event == "Order Completed"' }
      views_10m: { type: counter, when: 'event.event == "Product Viewed"', window: 10m }
      categories: { type: tally, value: event.properties.category, limit: 3 }
      viewed: { type: set, when: 'event.event == "Product Viewed"', value: event.properties.product_id, limit: 3 }
      carted_at: { type: last, when: 'event.event == "Product Added"', value: event.timestamp }
      vip: { type: badge, when: profile.lifetime_value > 1000.0, ttl: 90d }
    """

private func order(_ revenue: String) -> String {
    #"{"event": "Order Completed", "properties": {"revenue": \#(revenue)}}"#
}

private func view(_ product: String, category: String) -> String {
    #"{"event": "Product Viewed", "properties": {"product_id": "\#(product)", "category": "\#(category)"}}"#
}

@Suite struct ProfileTests {
    @Test func theAttributesOfTheDesign() {
        let bench = Workbench(
            shop,
            rules: [
                "profile.orders", "profile.lifetime_value", "profile.vip", "has(profile.carted_at)",
                #"has(profile.carted_at) && now - profile.carted_at > duration("30m")"#,
                #""sku-2" in profile.viewed"#, "profile.categories", "profile.categories_favorite", "profile.views_10m",
                "size(profile.viewed)",
            ])
        var record = bench.apply(order("999.99"))
        #expect((0..<5).map { bench.evaluate($0, record) } == ["1", "999.99", "false", "false", "false"])
        record = bench.apply(order("0.02"), to: record)
        #expect((0..<3).map { bench.evaluate($0, record) } == ["2", "1000.01", "true"])
        record = bench.apply(#"{"event": "Product Added"}"#, to: record)
        #expect(bench.evaluate(3, record) == "true")
        #expect(bench.evaluate(4, record, now: noon + 1_800_000) == "false")
        #expect(bench.evaluate(4, record, now: noon + 1_800_001) == "true")
        record = bench.apply(view("sku-1", category: "Tea"), to: record)
        record = bench.apply(view("sku-2", category: "Coffee"), to: record, at: noon + 1)
        record = bench.apply(view("sku-3", category: "Tea"), to: record, at: noon + 2)
        #expect(
            (5..<10).map { bench.evaluate($0, record) } == [
                "true", #"{"Tea":2,"Coffee":1}"#, #""Tea""#, "3", "3",
            ])
        #expect(
            bench.attributes(record) == """
                {"lifetime_value":1000.01,"orders":2,"views_10m":3,"categories":{"Tea":2,"Coffee":1},\
                "viewed":["sku-3","sku-2","sku-1"],"carted_at":"2026-01-31T12:00:00.000Z","vip":true}
                """)
        #expect(record.count < 400)
    }

    /// A person without a record, and one whose record lacks the attribute: the defaults of the design, `has` false.
    @Test func unsetAttributesHaveTheirDefaults() {
        let bench = Workbench(
            shop + "\n  top: { type: max, value: event.properties.revenue }",
            rules: [
                "profile.orders", "profile.lifetime_value", "profile.vip", "profile.viewed", "profile.categories",
                "has(profile.top)", "profile.top > 1.0", "has(profile.categories_favorite)",
            ])
        let other = Workbench("attributes:\n  x: { type: counter }")
        for record in [[], other.apply("{}")] {
            #expect(
                (0..<8).map { bench.evaluate($0, record) } == [
                    "0", "0.0", "false", "[]", "{}", "false", "error", "false",
                ])
        }
    }

    @Test func rulesSeeWhatSurroundsTheDecision() {
        let bench = Workbench(
            shop,
            rules: [
                "device.channel", "context.cart.total > 5", "audience.loyal", "now", "has(age.profile)",
                #"age.bundle == duration("90s")"#,
            ])
        let values = (0..<6).map { bench.evaluate($0, [], context: #"{"cart": {"total": 7}}"#) }
        #expect(values == [#""kiosk""#, "true", "true", #""2026-01-31T12:00:00Z""#, "false", "true"])
    }

    /// The order that lifts the total over the bound grants the badge; an attribute before it still sees the old total.
    @Test func laterAttributesSeeEarlierOnesOfTheSameEvent() {
        let bench = Workbench(
            """
            attributes:
              before: { type: badge, when: profile.total >= 10.0 }
              total: { type: sum, value: event.v }
              after: { type: badge, when: profile.total >= 10.0 }
            """)
        #expect(bench.attributes(bench.apply(#"{"v": 10}"#)) == #"{"before":false,"total":10.0,"after":true}"#)
    }

    @Test func everyTypeKeepsWhatItSays() {
        let bench = Workbench(
            """
            attributes:
              c: { type: counter }
              s: { type: sum, value: event.n }
              lo: { type: min, value: event.n }
              hi: { type: max, value: event.n }
              avg: { type: mean, value: event.n }
              f: { type: first, value: event.t }
              l: { type: last, value: event.t }
              str: { type: string, value: event.t }
              num: { type: number, value: event.n }
              yes: { type: boolean, value: event.n > 2.0 }
              day: { type: date, value: event.d }
              b: { type: badge, when: event.n > 2.0 }
              all: { type: set, value: event.list }
              often: { type: tally, value: event.list }
              when: { type: timeline }
              what: { type: timeline, value: event.n, limit: 2 }
            """)
        var record = bench.apply(#"{"n": 2, "t": "two", "d": "2026-01-02", "list": ["a", "b"]}"#, at: noon)
        record = bench.apply(
            #"{"n": 4.5, "t": "late", "d": "2026-01-03T01:00:00+01:00", "list": ["b", "c", "b"]}"#, to: record,
            at: noon + 1000)
        record = bench.apply(#"{"n": 1, "t": "early", "list": "z"}"#, to: record, at: noon - 1000)
        #expect(
            bench.attributes(record) == """
                {"c":3,"s":7.5,"lo":1.0,"hi":4.5,"avg":2.5,"f":"early","l":"late","str":"late","num":4.5,"yes":true,\
                "day":"2026-01-03T00:00:00.000Z","b":true,"all":["b","c","a","z"],\
                "often":{"b":3,"c":1,"a":1,"z":1},\
                "when":["2026-01-31T12:00:01.000Z","2026-01-31T12:00:00.000Z","2026-01-31T11:59:59.000Z"],\
                "what":[{"at":"2026-01-31T12:00:01.000Z","value":4.5},{"at":"2026-01-31T12:00:00.000Z","value":2}]}
                """)
    }

    /// Missing fields, nulls and wrong types leave the attribute alone; only wrong types count as failures.
    @Test func valuesOfAnotherTypeAreNotTaken() {
        let bench = Workbench(
            """
            attributes:
              s: { type: sum, value: event.v }
              d: { type: date, value: event.v }
              t: { type: tally, value: event.v }
              b: { type: boolean, value: event.v }
              x: { type: last, value: event.v }
            """)
        let nothing = #"{"s":0.0,"t":{}}"#
        #expect(bench.attributes(bench.apply("{}")) == nothing)
        #expect(bench.updater.failedRules == 0)
        #expect(bench.attributes(bench.apply(#"{"v": null}"#)) == nothing)
        #expect(bench.updater.failedRules == 0)
        #expect(bench.attributes(bench.apply(#"{"v": {"a": 1}}"#)) == nothing)
        #expect(bench.updater.failedRules == 5)
        #expect(bench.attributes(bench.apply(#"{"v": "text"}"#)) == #"{"s":0.0,"t":{"text":1},"x":"text"}"#)
        #expect(bench.updater.failedRules == 3)
    }

    /// A value that would round others away, or is none, is a failed rule; it is kept where it does no harm.
    // limit: Unification.summandMagnitude
    @Test func sumsRefuseWhatTheyCannotAddExactly() {
        let bench = Workbench(
            """
            attributes:
              s: { type: sum, value: event.v }
              m: { type: mean, value: event.v, window: 1h }
              hi: { type: max, value: event.v }
              x: { type: last, value: event.v * 0.0 / event.w }
            """)
        var record = bench.apply(#"{"v": 9007199254740991, "w": 1.0}"#)
        #expect(bench.updater.failedRules == 0)
        record = bench.apply(#"{"v": 9007199254740992, "w": 0.0}"#, to: record)
        #expect(bench.updater.failedRules == 3)
        record = bench.apply(#"{"v": -9007199254740992.0, "w": -1.0}"#, to: record)
        #expect(bench.updater.failedRules == 2)
        #expect(
            bench.attributes(record)
                == #"{"s":9007199254740991.0,"m":9007199254740991.0,"hi":9007199254740992.0,"x":0.0}"#)
    }

    /// 0.0 and -0.0 are equal, so they are one value, whichever came first.
    @Test func negativeZeroIsZero() {
        let bench = Workbench(
            """
            attributes:
              lo: { type: min, value: event.v }
              all: { type: set, value: event.v * 1.0 }
            """)
        let forth = bench.apply(#"{"v": 0.0}"#, to: bench.apply(#"{"v": -0.0}"#))
        let back = bench.apply(#"{"v": -0.0}"#, to: bench.apply(#"{"v": 0.0}"#))
        #expect(forth == back)
        #expect(bench.attributes(forth) == #"{"lo":0.0,"all":[0.0]}"#)
    }

    // MARK: Time

    /// The window of ten minutes in steps of ten seconds: nothing is swept, reading alone forgets.
    @Test func windowsForgetByThemselves() {
        let bench = Workbench(
            """
            attributes:
              n: { type: counter, window: 10m }
              s: { type: sum, value: event.v, window: 10m }
              m: { type: mean, value: event.v, window: 10m }
              hi: { type: max, value: event.v, window: 10m }
              lo: { type: min, value: event.v, window: 10m }
            """)
        var record = bench.apply(#"{"v": 8}"#, at: noon)
        record = bench.apply(#"{"v": 2}"#, to: record, at: noon + 300_000)
        record = bench.apply(#"{"v": 5}"#, to: record, at: noon + 300_001)
        record = bench.apply(#"{"v": 100}"#, to: record, at: noon - 600_000)
        #expect(bench.attributes(record, now: noon + 300_001) == #"{"n":3,"s":15.0,"m":5.0,"hi":8.0,"lo":2.0}"#)
        #expect(bench.attributes(record, now: noon + 609_999) == #"{"n":3,"s":15.0,"m":5.0,"hi":8.0,"lo":2.0}"#)
        #expect(bench.attributes(record, now: noon + 610_000) == #"{"n":2,"s":7.0,"m":3.5,"hi":5.0,"lo":2.0}"#)
        #expect(bench.attributes(record, now: noon + 910_000) == #"{"n":0,"s":0.0}"#)
        record = bench.apply(#"{}"#, to: record, at: noon + 10_000_000)
        #expect(bench.attributes(record, now: noon + 10_000_000) == #"{"n":1,"s":0.0}"#)
    }

    /// A window of a day counts hour by hour exactly as a list of all events would, at its resolution of 24 minutes.
    // limit: Unification.windowBuckets
    @Test func windowsCountWhatAListWouldCount() {
        let bench = Workbench("attributes:\n  n: { type: counter, window: 24h }", rules: ["profile.n"])
        var random = SeededRandom(seed: 7)
        let width: Int64 = 86_400_000 / 60
        var record: [UInt8] = []
        var times: [Int64] = []
        var now = noon
        for _ in 0..<400 {
            now += Int64.random(in: 0..<1_200_000, using: &random)
            times.append(now)
            record = bench.apply("{}", to: record, at: now)
            let expected = times.filter { ($0 / width + 1) * width > now - 86_400_000 }.count
            #expect(bench.evaluate(0, record, now: now) == "\(expected)")
        }
        #expect(record.count < 64 + 16 + 8 + 61 * 5 + 1)
    }

    @Test func timeToLiveEndsAttributesAndElements() {
        let bench = Workbench(
            """
            attributes:
              vip: { type: badge, when: event.v > 1, ttl: 90d }
              seen: { type: set, value: event.p, ttl: 1h }
              mood: { type: string, value: event.p, ttl: 1h }
            """)
        let hour: Int64 = 3_600_000
        var record = bench.apply(#"{"v": 2, "p": "x"}"#)
        record = bench.apply(#"{"v": 0, "p": "y"}"#, to: record, at: noon + hour / 2)
        #expect(bench.attributes(record, now: noon + hour) == #"{"vip":true,"seen":["y","x"],"mood":"y"}"#)
        #expect(bench.attributes(record, now: noon + hour + 1) == #"{"vip":true,"seen":["y"],"mood":"y"}"#)
        #expect(bench.attributes(record, now: noon + 2 * hour) == #"{"vip":true,"seen":[]}"#)
        #expect(bench.attributes(record, now: noon + 90 * 24 * hour) == #"{"vip":true,"seen":[]}"#)
        #expect(bench.attributes(record, now: noon + 90 * 24 * hour + 1) == #"{"vip":false,"seen":[]}"#)
    }

    // MARK: Limits

    @Test func setsKeepTheLatestAndTalliesTheMostFrequent() {
        let bench = Workbench(
            """
            attributes:
              s: { type: set, value: event.v, limit: 3 }
              t: { type: tally, value: event.v, limit: 3 }
            """)
        var record: [UInt8] = []
        for (place, value) in ["a", "b", "c", "a", "d", "e", "e", "a"].enumerated() {
            record = bench.apply(#"{"v": "\#(value)"}"#, to: record, at: noon + Int64(place))
        }
        #expect(bench.attributes(record) == #"{"s":["a","e","d"],"t":{"a":3,"e":2,"d":1}}"#)
    }

    // limit: Unification.defaultElements
    @Test func aSetHasAHundredElementsWhereNothingIsSaid() {
        let bench = Workbench("attributes:\n  s: { type: set, value: event.v }\n  t: { type: tally, value: event.v }")
        var record: [UInt8] = []
        for place in 0..<150 { record = bench.apply("{\"v\": \"v\(1000 + place)\"}", to: record, at: noon + Int64(place)) }
        let shown = bench.attributes(record)
        #expect(shown.ranges(of: "\"v1").count == 2 * Limits.defaultElements)
        #expect(shown.contains("v1149") && !shown.contains("v1049\","), "the latest stay in the set")
    }

    /// Reached on purpose: one long value, one long attribute, one full record. Each is refused and counted; the rest
    /// of the profile is unharmed.
    @Test func recordsStopGrowing() {
        let long = String(repeating: "x", count: 1025)
        let bench = Workbench(
            """
            attributes:
              s: { type: set, value: event.v, limit: 1000 }
              t: { type: timeline, value: event.v, limit: 1000 }
              n: { type: counter }
            """)
        var record = bench.apply(#"{"v": "\#(long)"}"#)
        #expect(bench.attributes(record) == #"{"s":[],"t":[],"n":1}"#)
        #expect(bench.updater.refusedValues == 2)
        for place in 0..<100 {
            record = bench.apply(#"{"v": "\#(place)-\#(long.dropLast(10))"}"#, to: record, at: noon + Int64(place))
            #expect(record.count <= Limits.profileRecordBytes)
        }
        #expect(record.count > 60_000)
        #expect(bench.attributes(record).hasSuffix(#""n":101}"#))
    }

    // MARK: Records

    @Test func recordsSayWhoseTheyAreAndWhen() throws {
        let bench = Workbench(shop)
        var record = bench.apply(order("1"), at: noon)
        record = bench.apply(order("1"), to: record, at: noon - 5)
        record = bench.apply(order("1"), to: record, at: noon + 5)
        let span = record.span
        let view = try ProfileView(span)
        let (id, created, lastSeen, count) = (view.id, view.created, view.lastSeen, view.entryCount)
        #expect(id == testID)
        #expect(created == noon - 5)
        #expect(lastSeen == noon + 5)
        #expect(count == 2)
    }

    /// The format as it lies on people's disks: a change of these bytes needs a new format number and a reader for
    /// both.
    @Test func theFormatIsWhatItWas() {
        let bench = Workbench("attributes:\n  n: { type: counter }\n  t: { type: set, value: event.v }")
        let record = bench.apply(#"{"v": "ab"}"#)
        let hexadecimal = text(Hex.encode(record.span))
        #expect(
            hexadecimal == """
                4228e449475002000200000000000000\
                01020304050607081112131415161718\
                009eec139c010000009eec139c010000\
                00000000000000000100000000000000\
                70abf14901000800009eec139c0100000100000000000000\
                fbf596be09000a00009eec139c010000009eec139c0102506162
                """)
    }

    /// Every single flipped bit of a record is noticed, and a later format is told from damage.
    @Test func damagedRecordsAreRefused() {
        let bench = Workbench(shop)
        let record = bench.apply(view("sku-1", category: "Tea"), to: bench.apply(order("12.50")))
        func damage(_ bytes: [UInt8]) -> RecordDamage? {
            do {
                _ = try ProfileView(bytes.span)
                return nil
            } catch { return error }
        }
        #expect(damage(record) == nil)
        for bit in 0..<record.count * 8 {
            var broken = record
            broken[bit / 8] ^= 1 << UInt8(bit % 8)
            // What seems to be of a later version is not served either.
            let expected: RecordDamage = broken[6] > record[6] ? .laterFormat : .corrupt
            #expect(damage(broken) == expected, "bit \(bit) of \(record.count * 8)")
        }
        for length in 0..<record.count { #expect(damage(Array(record[..<length])) == .corrupt) }
        var later = record
        later[6] = 3
        let sum = RecordChecksum.of(later.span)
        later.store32(sum, at: 0)
        #expect(damage(later) == .laterFormat)
    }

    /// A new bundle: attributes that stay keep their values, new ones begin, dropped ones come back with their bundle
    /// unless a month has gone by; a changed window is another attribute.
    // limit: Unification.unknownAttributeMilliseconds
    @Test func bundlesChangeWithoutRewritingRecords() {
        let old = Workbench(
            "attributes:\n  a: { type: counter }\n  b: { type: counter }\n  w: { type: counter, window: 1h }")
        let new = Workbench(
            "attributes:\n  b: { type: counter }\n  n: { type: counter }\n  w: { type: counter, window: 2h }")
        var record = old.apply("{}")
        #expect(new.attributes(record) == #"{"b":1,"n":0,"w":0}"#)
        record = new.apply("{}", to: record, at: noon + 1)
        #expect(new.attributes(record) == #"{"b":2,"n":1,"w":1}"#)
        #expect(old.attributes(record) == #"{"a":1,"b":2,"w":1}"#)
        record = new.apply("{}", to: record, at: noon + 31 * 86_400_000)
        #expect(old.attributes(record, now: noon) == #"{"a":0,"b":3,"w":0}"#)
    }

    /// An attribute that changes its type is another one; the old state is never misread.
    @Test func typesAreNotConfused() {
        let old = Workbench("attributes:\n  a: { type: counter }")
        let new = Workbench("attributes:\n  a: { type: set, value: event.v }")
        #expect(new.attributes(old.apply("{}")) == #"{"a":[]}"#)
    }

    // MARK: Mistakes in a bundle

    @Test func saysWhatIsWrongWhereItStands() {
        let found = problems(
            """
            attributes:
              a: { type: countr }
              b: { type: counter, when: event.x = 1 }
              c: { type: sum }
              d: { type: counter, window: 10 }
              e: { type: set, value: event.x, window: 1h, limit: 0 }
              f: { type: string, value: 1 + 1 }
              g: { type: badge, when: profile.z > 1 }
              h: { type: last, value: event.x, scope: visits }
              i: { type: counter, whne: 'true' }
              1x: { type: counter }
              j: 5
              k: { type: mean, value: event.x, window: 1h, ttl: 1h }
              l: { type: counter, value: 1 }
              m: { type: badge }
              n: { type: number, value: '"x"' }
              o: { type: tally, value: event.x, window: 1h }
              o_favorite: { type: counter }
              p: { type: counter, limit: 3 }
              q: { type: last, value: '[1]' }
              r: { type: sum, value: event.x, window: 1h, scope: visit }
              s: { type: set, value: event.x, scope: visit, ttl: 1h }
              t: { type: badge, when: event.x, scope: event, ttl: 1h }
            """)
        let expected = [
            "2:14: type must be one of", "4:6: value is missing", "5:31: window must be", "6:43: a set has no window",
            "6:54: limit must be", "9:43: scope must be visitor, visit or event", "10:23: unknown setting whne",
            "11:3: an attribute's name begins", "12:6: an attribute is a map", "13:6: window and ttl exclude",
            "14:30: a counter counts events", "15:6: when is missing", "17:45: tally has no window",
            "19:30: limit is for set", "18:3: this is the name of the favourite", "3:37: ",
            "7:29: value is int, but string",
            "8:35: ", "20:27: value is list(int), but last", "16:29: value is string, but number",
            "21:54: scope visit and window or ttl exclude", "22:42: scope visit and window or ttl exclude",
            "23:43: scope event and window or ttl exclude",
        ]
        for line in expected { #expect(found.contains { $0.hasPrefix(line) }, "\(line) in \(found)") }
        #expect(found.count == expected.count, "\(found)")
    }
}
