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
        return try Event(document, document.root, type: nil, outerContext: nil, sentAt: sentAt, receivedAt: receivedAt)
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
}
