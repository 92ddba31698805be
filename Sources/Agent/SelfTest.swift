// A bundle before it decides: the newest events of the log are played to it in memory, and to the one in force, and the
// share of rules that cannot be evaluated is compared. Nobody is granted anything by it, and nothing of it is kept or sent.
//
// Events lie in the log without identifiers: whose they are says their profile, in the places of `userId` and `anonymousId`.
// Every purpose counts as granted, since consent lies elsewhere.

import Collection
import Cryptography
import Delivery
import Formats
import Platform
import Store
import Unification

/// How many evaluations there were, and how many of them failed.
struct RuleErrors: Equatable {
    var failed: UInt64 = 0
    var asked: UInt64 = 0

    /// Whether so many fail that it is not the same as before: more than 5 of a hundred beyond twice the share of before.
    func isWorse(than before: RuleErrors, atLeast least: UInt64) -> Bool {
        if failed < least { return false }
        let usual = before.asked == 0 ? 0 : Double(before.failed) / Double(before.asked)
        return Double(failed) > Double(asked) * (Limits.failingPercent / 100 + 2 * usual)
    }
}

enum SelfTest {
    /// An event as a message, and when it came, milliseconds since the epoch.
    struct Message {
        var text: [UInt8]
        var time: Int64
    }

    /// The newest events of the log, oldest first.
    static func recentEvents(_ database: Database) throws(StoreError) -> [Message] {
        var reader = try database.makeReader()
        try reader.begin()
        let next = try Ledger(reader).nextSequence
        let first = NumberKey(next > UInt64(Limits.selfTestEvents) ? next - UInt64(Limits.selfTestEvents) : 0)
        var (messages, bytes, start) = ([] as [Message], 0, 0)
        try reader.scan(reader.tables.log, from: first.bytes.span) { _, value in
            guard let entry = LogEntryView(value) else { return true }
            if entry.header.isGenerated || entry.header.isErasureNotice { return true }
            let text = message(entry)
            bytes += text.count
            messages.append(Message(text: text, time: entry.header.receivedAt))
            while bytes > Limits.selfTestEventBytes {
                // It is no event then, and passed over.
                bytes -= messages[start].text.count
                messages[start].text = []
                start += 1
            }
            return true
        }
        reader.end()
        return messages
    }

    private static func message(_ entry: borrowing LogEntryView) -> [UInt8] {
        let (id, body) = (entry.header.profile.bytes, entry.body)
        var name: [UInt8] = []
        Hex.append(id.span, to: &name)
        var text = JSONWriter(reserving: 128 + body.count)
        text.beginObject()
        text.key("userId")
        text.string(name)
        text.key("anonymousId")
        text.string(name)
        text.bytes.append(UInt8(ascii: ","))
        text.bytes.append(contentsOf: body.extracting(min(1, body.count)..<body.count))
        return text.bytes
    }

    /// Plays events to a bundle.
    /// - Parameters:
    ///   - text: of a bundle that is good. It is read once more: what a simulation notes in a bundle is not for the one that
    ///     decides.
    ///   - folder: where its store may lie.
    ///   - cancellation: ends it early.
    static func play(
        _ text: Span<UInt8>, _ messages: [Message], in folder: String, _ cancellation: Cancellation
    ) throws(StoreError) -> RuleErrors {
        var result = RuleErrors()
        guard let first = messages.first, let bundle = Bundle.read(text, loadedAt: first.time).0 else { return result }
        let simulation = try Simulation(
            bundle, pepper: Peppers(key: [UInt8](repeating: 0, count: Limits.pepperBytes)), grantsAll: true, in: folder,
            mapBytes: Limits.selfTestStoreBytes)
        let end = SystemClock().monotonicNanoseconds() + Limits.selfTestMilliseconds * 1_000_000
        var (document, now) = (JSONDocument(), first.time)
        for message in messages where SystemClock().monotonicNanoseconds() < end && !cancellation.isCancelled {
            let event = message.text
            do throws(JSONError) {
                try document.parse(event.span, maximumDepth: CollectionLimits.eventDepth)
            } catch {
                continue
            }
            now = max(now, message.time)
            try simulation.take(document, question: event, at: now)
            result.asked += simulation.isAdmitted ? UInt64(1 + simulation.asked.count) : 1
        }
        result.failed = simulation.meters.evaluationErrors.current
        return result
    }
}
