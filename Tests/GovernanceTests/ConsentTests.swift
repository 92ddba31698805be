import Formats
import Store
import Testing

@testable import Governance

/// A person's choices: the newest wins, and in doubt nothing is granted (promise P4).
@Suite struct ConsentTests {
    static let day: Int64 = 86_400_000

    static func parsed(_ text: String) -> JSONDocument {
        var document = JSONDocument()
        let bytes = Array(text.utf8)
        let span = bytes.span
        do { try document.parse(span) } catch { fatalError("the test's JSON is wrong") }
        return document
    }

    static let bundle = parsed(
        #"""
        {"purposes": ["analytics", "personalization", "advertising"],
         "consent": {"wait": "5m", "valid": {"advertising": "390d"}, "gpc": ["advertising", "personalization"],
           "google": {"analytics": ["analytics_storage"], "advertising": ["ad_storage", "ad_user_data"]}}}
        """#)
    static let purposes: PurposePlan = {
        var reader = PlanReader()
        return PurposePlan(bundle, bundle.root, &reader)
    }()
    static let plan: ConsentPlan = {
        var reader = PlanReader()
        let plan = ConsentPlan(bundle, bundle.root, purposes, &reader)
        precondition(!reader.hasErrors)
        return plan
    }()
    static let (analytics, personalization, advertising) = (
        PurposeSet(purpose: 0), PurposeSet(purpose: 1), PurposeSet(purpose: 2)
    )

    static func signal(_ text: String) -> ConsentSignal {
        let document = parsed(text)
        return plan.signal(document, preferences: document.root)
    }

    /// What an event with this context says.
    static func signal(context: String, gpc: Bool = false) -> ConsentSignal {
        let document = parsed(context)
        return plan.signal(document, context: document.root, hasGlobalPrivacyControl: gpc)
    }

    static func applying(
        _ text: String, at time: Int64, now: Int64 = .max, from source: ConsentSource = .event, to record: [UInt8] = []
    ) -> [UInt8] {
        let span = record.span
        return ConsentRecord.applying(
            signal(text), at: time, now: now, from: source, purposes, validDays: plan.validDays, to: span) ?? record
    }

    static func granted(_ record: [UInt8], at now: Int64 = 0) -> PurposeSet {
        let span = record.span
        return ConsentRecord.granted(span, purposes, at: now)
    }

    static func merging(_ first: [UInt8], _ second: [UInt8]) -> [UInt8] {
        let a = first.span
        let b = second.span
        return ConsentRecord.merging(a, b)
    }

    static func isDecided(_ record: [UInt8], _ purpose: Int) -> Bool {
        let span = record.span
        return ConsentRecord.isDecided(span, tag: purposes.tags[purpose])
    }

    // MARK: The record

    /// Of a record with two choices of one purpose a revocation would change the first, and the second go on granting.
    @Test func twoChoicesOfOnePurposeAreNotBelieved() {
        let once = ConsentTests.applying(#"{"analytics": true, "advertising": true}"#, at: 5, from: .api)
        let believed = ConsentRecord.believed(once.span, now: 10, ahead: 0)
        #expect(believed == once)
        // The tag of the second entry becomes that of the first, under a right checksum.
        var twice = Array(once[0..<20] + once[4..<20])
        let sum = Checksum.of(twice.span.extracting(4..<twice.count))
        for index in 0..<4 { twice[index] = UInt8(truncatingIfNeeded: sum >> UInt32(8 * index)) }
        let isIntact = ConsentRecord.isIntact(twice.span)
        #expect(isIntact)
        let revoked = ConsentTests.applying(#"{"analytics": false}"#, at: 7, from: .api, to: twice)
        #expect(ConsentTests.granted(revoked, at: 10).contains(ConsentTests.analytics), "the reason for refusing it")
        let doubled = ConsentRecord.believed(twice.span, now: 10, ahead: 0)
        #expect(doubled == nil)
    }

    @Test func theNewestChoiceWinsAndATieIsARefusal() {
        let record = Self.applying(#"{"analytics":true}"#, at: 1000)
        #expect(Self.granted(record) == Self.analytics)
        #expect(Self.applying(#"{"analytics":false}"#, at: 999, to: record) == record)
        #expect(Self.granted(Self.applying(#"{"analytics":false}"#, at: 1000, to: record)) == [])
        let taken = Self.applying(#"{"analytics":false}"#, at: 2000, to: record)
        #expect(Self.granted(taken) == [])
        #expect(Self.granted(Self.applying(#"{"analytics":true}"#, at: 2000, to: taken)) == [])
    }

    /// A device whose clock was set back, as at a boot without a battery, has grants of times that are yet to come: a
    /// refusal is heard all the same, and stays when the clock is right again.
    @Test func aRefusalStandsAgainstAGrantOfATimeToCome() {
        for source in [ConsentSource.event, .api, .preference] {
            let record = Self.applying(#"{"analytics":true}"#, at: 5000, from: .api)
            #expect(Self.granted(Self.applying(#"{"analytics":false}"#, at: 100, now: 6000, from: source, to: record)) != [])
            var refused = Self.applying(#"{"analytics":false}"#, at: 100, now: 100, from: source, to: record)
            #expect(Self.granted(refused) == [])
            #expect(Self.granted(Self.merging(record, refused)) == [])
            #expect(Self.granted(Self.merging(refused, record)) == [])
            refused = Self.applying(#"{"analytics":true}"#, at: 6000, now: 6000, from: .api, to: refused)
            #expect(Self.granted(refused) == Self.analytics)
        }
    }

    /// An SDK reports the old state with every event: it must not undo what was chosen elsewhere.
    @Test func aReportDoesNotUndoARefusalThatWasChosen() {
        var record = Self.applying(#"{"analytics":true}"#, at: 1000)
        record = Self.applying(#"{"analytics":false}"#, at: 2000, from: .api, to: record)
        record = Self.applying(#"{"analytics":true}"#, at: 3000, from: .event, to: record)
        #expect(Self.granted(record) == [])
        record = Self.applying(#"{"analytics":true}"#, at: 4000, from: .preference, to: record)
        #expect(Self.granted(record) == Self.analytics)
        record = Self.applying(#"{"analytics":false}"#, at: 5000, from: .event, to: record)
        #expect(Self.granted(record) == [], "a report may always take away")
    }

    /// Two people turn out to be one: a refusal that one of them chose stands, in whatever order they are joined.
    @Test func joiningKeepsARefusalThatWasChosen() {
        let chosen = Self.applying(#"{"advertising":false}"#, at: 1000, from: .api)
        let reported = Self.applying(#"{"advertising":true,"analytics":true}"#, at: 2000)
        for (first, second) in [(chosen, reported), (reported, chosen)] {
            #expect(Self.granted(Self.merging(first, second)) == Self.analytics)
        }
    }

    @Test func aGrantEndsAndOnlyAChoiceRenewsIt() {
        var record = Self.applying(#"{"advertising":true,"analytics":true}"#, at: 0)
        #expect(Self.granted(record, at: 390 * Self.day - 1) == [Self.advertising, Self.analytics])
        #expect(Self.granted(record, at: 390 * Self.day) == Self.analytics)
        record = Self.applying(#"{"advertising":true}"#, at: 391 * Self.day, from: .event, to: record)
        #expect(Self.granted(record, at: 392 * Self.day) == Self.analytics)
        record = Self.applying(#"{"advertising":true}"#, at: 391 * Self.day, from: .preference, to: record)
        #expect(Self.granted(record, at: 392 * Self.day) == [Self.advertising, Self.analytics])
    }

    @Test func aDamagedRecordGrantsNothingAndLetsNothingWait() {
        var record = Self.applying(#"{"analytics":true}"#, at: 1000)
        #expect(!Self.isDecided([], 0) && Self.isDecided(record, 0) && !Self.isDecided(record, 1))
        record[8] ^= 1
        #expect(Self.granted(record) == [])
        #expect(Self.isDecided(record, 1))
    }

    // MARK: What is said

    @Test func namesOfTheBundleAndOfGoogleAreUnderstood() {
        #expect(Self.signal(#"{"analytics":true,"personalization":1,"nobody":true}"#)
            == ConsentSignal(granted: Self.analytics, denied: Self.personalization))
        #expect(Self.signal(#"{"ad_storage":"granted","ad_user_data":"GRANTED"}"#).granted == Self.advertising)
        #expect(Self.signal(#"{"ad_storage":"granted"}"#).isEmpty, "all of a purpose's names make it")
        #expect(Self.signal(#"{"ad_storage":"granted","ad_user_data":"denied"}"#).denied == Self.advertising)
        #expect(Self.signal(#"{"analytics_storage":true,"analytics":false}"#).denied == Self.analytics)
    }

    @Test func everyPlaceOfAnEventIsRead() {
        let segment = Self.signal(context: #"{"consent":{"categoryPreferences":{"analytics":true}}}"#)
        #expect(segment.granted == Self.analytics)
        let google = Self.signal(context: #"{"consent":{"analytics_storage":"granted"}}"#)
        #expect(google.granted == Self.analytics)
        let rudder = Self.signal(
            context: #"{"consentManagement":{"allowedConsentIds":["analytics"],"deniedConsentIds":["advertising"]}}"#)
        #expect(rudder == ConsentSignal(granted: Self.analytics, denied: Self.advertising))
        let control = Self.signal(context: #"{"consent":{"categoryPreferences":{"advertising":true}}}"#, gpc: true)
        #expect(control == ConsentSignal(denied: [Self.advertising, Self.personalization]))
    }

    /// Strings of the IAB, through the bundle's mapping: what they allow, what they opt out of, and one that is broken.
    @Test func consentStringsAreReadThroughTheMapping() {
        let bundle = Self.parsed(
            #"""
            {"consent": {"tcf": {"vendor": 25, "purposes": {"analytics": [1, 8], "advertising": [11]}},
               "gpp": {"personalization": ["sale", "gpc"]}}}
            """#)
        var reader = PlanReader()
        let plan = ConsentPlan(bundle, bundle.root, Self.purposes, &reader)
        #expect(!reader.hasErrors)
        func signal(_ consent: String) -> ConsentSignal {
            let document = Self.parsed(#"{"consent":{"# + consent + "}}")
            return plan.signal(document, context: document.root, hasGlobalPrivacyControl: false)
        }
        let core = "COv_eg6Ov_eg6AOADBENAaCgAP_AAH_AACiQAVEUQQoAIQAqIoghAAQgAA.YAAAAAAAAAAAAAAAAAA"
        let both = ConsentSignal(granted: Self.analytics, denied: Self.advertising)
        #expect(signal(#""tcString":""# + core + #"""#) == both)
        #expect(signal(#""tcString":"COv_eg""#) == ConsentSignal(denied: [Self.analytics, Self.advertising]))
        #expect(signal(#""gppString":"DBACNY~\#(core)~1YNN","gppSid":[2]"#) == both)
        #expect(signal(#""gppString":"DBACNY~\#(core)~1YYN","gppSid":[6]"#) == ConsentSignal(denied: Self.personalization))
        #expect(signal(#""gppString":"DBACNY~\#(core)~1YNN","gppSid":[6]"#).isEmpty, "no opt-out is no grant")
        #expect(signal(#""gppString":"D""#).denied.contains(Self.personalization))
    }

    @Test(
        "A section that says nonsense is refused",
        arguments: [
            #"{"wait":"25h"}"#, #"{"wait":5}"#, #"{"valid":{"nobody":"1d"}}"#, #"{"valid":{"analytics":"5m"}}"#,
            #"{"tcf":{}}"#, #"{"tcf":{"purposes":{"analytics":[25]}}}"#, #"{"tcf":{"purposes":{"analytics":[]}}}"#,
            #"{"gpp":{"analytics":["sell"]}}"#, #"{"google":{"analytics":["cookies"]}}"#, #"{"gpc":["nobody"]}"#, #"{"gpc":true}"#, #"{"waits":"1m"}"#,
        ])
    func refused(_ section: String) {
        let document = Self.parsed(#"{"purposes":["analytics"],"consent":"# + section + "}")
        var reader = PlanReader()
        _ = ConsentPlan(document, document.root, Self.purposes, &reader)
        #expect(reader.hasErrors)
    }
}
