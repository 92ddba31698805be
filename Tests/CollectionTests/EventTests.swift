import Formats
import Testing

@testable import Collection

/// What the Segment API asks of an event, and when it happened.
@Suite struct EventTests {
    static func event(_ text: String, sentAt: Int64? = nil, receivedAt: Int64 = 1_000_000_000_000) throws -> Event {
        var document = JSONDocument()
        let bytes = Array(text.utf8)
        let span = bytes.span
        try document.parse(span)
        return try Event(document, document.root, type: nil, sentAt: sentAt, receivedAt: receivedAt)
    }

    /// A sender whose clock is an hour fast: what it says happened two seconds before it sent, did.
    @Test func aWrongClockIsCorrectedBySentAt() throws {
        let event = try Self.event(
            #"{"type":"track","event":"A","userId":"1","timestamp":"2001-09-09T02:46:38Z","sentAt":"2001-09-09T02:46:40Z"}"#)
        #expect(event.timestamp == 999_999_998_000)
    }

    @Test func anEventWithoutIdentityIsRefused() {
        #expect(throws: EventRefusal.self) { try Self.event(#"{"type":"track","event":"A"}"#) }
    }

    /// RudderStack's SDKs send `originalTimestamp`; who sends both has corrected `timestamp` already.
    @Test(arguments: [
        (#""originalTimestamp":"2001-09-09T02:46:38Z","sentAt":"2001-09-09T02:46:40Z""#, 999_999_998_000),
        (#""originalTimestamp":"2001-09-09T02:46:38Z","timestamp":"2001-09-09T01:46:30Z","sentAt":"2001-09-09T02:46:40Z""#,
         999_999_990_000),
        (#""timestamp":null,"originalTimestamp":"2001-09-09T01:46:30Z""#, 999_999_990_000),
        (#""timestamp":"2001-09-09T01:46:30Z","sentAt":"not a time""#, 999_999_990_000),
        (#""timestamp":"2030-01-01T00:00:00Z""#, 1_000_000_000_000),
    ])
    func theTimeIsTheSendersCorrected(_ members: String, _ expected: Int64) throws {
        let event = try Self.event(#"{"type":"track","event":"A","userId":"1",\#(members)}"#)
        #expect(event.timestamp == expected)
    }

    /// What date libraries make of 2026-01-31, a quarter past nine in UTC.
    @Test(arguments: [
        "2026-01-31T09:15:00Z", "2026-01-31T09:15:00.000+00:00", "2026-01-31T10:15:00+0100", "2026-01-31T10:15:00.123+01",
        "2026-01-31T09:15:00", "2026-01-31T09:15:00.000000", "2026-01-31 09:15:00,000", "2026-01-31T09:15Z",
        "2026-01-31T09:15", "2026-01-31T04:15:00-0500", "2026-01-31T09:15:00.000000000Z",
    ])
    func timesAreReadAsTheSDKsWriteThem(_ text: String) {
        let bytes = Array(text.utf8)
        let span = bytes.span
        let moment = EventTime.parse(span)
        #expect(moment.map { $0 / 1000 } == 1_769_850_900)
    }

    @Test func aDayIsItsBeginning() {
        let bytes = Array("2026-01-31".utf8)
        let span = bytes.span
        let moment = EventTime.parse(span)
        #expect(moment == 1_769_817_600_000)
    }

    // limit: Collection.timeBytes
    @Test(arguments: [
        "", "2026", "2026-13-01", "2026-01-31T", "2026-01-31T9:15", "2026-01-31T09:15:00+1", "2026-01-31T09:15:00 CET",
        "20260131T091500Z", "31.01.2026 09:15:00", "2026-01-31T09:15:00+01:0", "2026-01-31T09:15:00.", "2026-01-31Z",
        "1769850900000", "2026-01-31T09:15:00.0000000000000000000000000000000",
    ])
    func whatIsNoTimeIsNone(_ text: String) {
        let bytes = Array(text.utf8)
        let span = bytes.span
        let moment = EventTime.parse(span)
        #expect(moment == nil)
    }

    @Test func aBatchSpeaksForItsEventsWhereTheyAreSilent() throws {
        var document = JSONDocument()
        let bytes = Array(
            #"""
            {"context":{"a":1,"b":{"c":1}},"integrations":{"All":true},"batch":[
            {"type":"page"},{"context":{"b":{"d":2},"e":3}},{"context":null,"integrations":{"All":false}},{"context":7},8]}
            """#.utf8)
        let span = bytes.span
        try document.parse(span)
        let outer = OuterMembers(document, batch: document.root)
        var joiner = OuterMembersJoiner()
        var seen: [String] = []
        let list = try #require(document.member(document.root, "batch"))
        var next = document.firstChild(list)
        while let message = next {
            if try joiner.join(document, message, outer) {
                let root = joiner.document
                seen.append(String(copying: root.source(root.root)))
            } else {
                seen.append("none")
            }
            next = document.next(message)
        }
        #expect(
            seen == [
                #"{"type":"page","context":{"a":1,"b":{"c":1}},"integrations":{"All":true}}"#,
                #"{"context":{"a":1,"b":{"d":2},"e":3},"integrations":{"All":true}}"#,
                #"{"context":{"a":1,"b":{"c":1}},"integrations":{"All":false}}"#,
                #"{"context":7,"integrations":{"All":true}}"#, "none",
            ])
    }

    /// RudderStack's SDKs put the traits of identify into the context.
    @Test func traitsAreFoundInTheContext() throws {
        let text = #"{"type":"identify","userId":"1","context":{"traits":{"a":1}}}"#
        #expect(try Self.event(text).properties != nil)
        #expect(try Self.event(#"{"type":"page","userId":"1","context":{"traits":{"a":1}}}"#).properties == nil)
    }
}
