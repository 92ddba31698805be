import Formats
import Testing

@testable import Governance

/// A person's choices: the newest wins, and in doubt nothing is granted (promise P4).
@Suite struct ConsentTests {
    static func parsed(_ text: String) -> JSONDocument {
        var document = JSONDocument()
        let bytes = Array(text.utf8)
        let span = bytes.span
        do { try document.parse(span) } catch { fatalError("the test's JSON is wrong") }
        return document
    }

    static let plan: PurposePlan = {
        let document = parsed(#"{"purposes":["analytics","personalization","advertising"]}"#)
        var reader = PlanReader()
        return PurposePlan(document, document.root, &reader)
    }()

    static func signal(_ text: String) -> ConsentSignal {
        let document = parsed(text)
        return ConsentSignal(document, preferences: document.root, plan)
    }

    static func applying(_ text: String, at time: Int64, to record: [UInt8]) -> [UInt8]? {
        let span = record.span
        return ConsentRecord.applying(signal(text), at: time, from: .event, plan, to: span)
    }

    static func granted(_ record: [UInt8]) -> PurposeSet {
        let span = record.span
        return ConsentRecord.granted(span, plan)
    }

    @Test func theNewestChoiceWinsAndATieIsARefusal() {
        let record = Self.applying(#"{"analytics":true}"#, at: 1000, to: []) ?? []
        #expect(Self.granted(record) == PurposeSet(purpose: 0))
        #expect(Self.applying(#"{"analytics":false}"#, at: 999, to: record) == nil)
        let tied = Self.applying(#"{"analytics":false}"#, at: 1000, to: record) ?? record
        #expect(Self.granted(tied) == [])
    }
}
