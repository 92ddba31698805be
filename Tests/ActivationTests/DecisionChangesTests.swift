// Shows how the answers of two bundles are held against each other: by variant and value, flag by flag, with the most
// frequent change first and no more kinds of change than the limit.
import Formats
import Monitoring
import Testing

@testable import Activation

private func document(_ text: String) -> JSONDocument {
    var document = JSONDocument()
    let bytes = Array(text.utf8)
    do { try document.parse(bytes.span) } catch { Issue.record("no JSON: \(text)") }
    return document
}

private func flag(_ key: String, _ variant: String, _ value: String = "1") -> String {
    "{\"key\": \"\(key)\", \"value\": \(value), \"variant\": \"\(variant)\"}"
}

private func list(_ flags: String...) -> JSONDocument { document("{\"flags\": [\(flags.joined(separator: ","))]}") }

private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

struct DecisionChangesTests {
    @Test func comparesFlagByFlag() {
        var changes = DecisionChanges()
        // In another order, with one that is there in one answer only, and with another value under the same name.
        let live = list(flag("a", "x"), flag("b", "x"), flag("c", "x"), flag("d", "x", "[1]"))
        let other = list(flag("d", "x", "[2]"), flag("b", "y"), flag("a", "x"))
        changes.compare(live, other)
        changes.compare(live, live)
        #expect(changes.rows.map { text($0.key) } == ["a", "b", "c", "d"])
        #expect(changes.rows.map { $0.same } == [2, 1, 1, 1])
        #expect(changes.rows.map { $0.different } == [0, 1, 1, 1])
        #expect(changes.rows.map { $0.changes.rows.map { text($0.name) } } == [[], ["x → y"], ["x → -"], ["x → x"]])
    }

    @Test func comparesTheAnswerToOneQuestion() {
        var changes = DecisionChanges()
        changes.compare(document(flag("a", "x")), document(flag("a", "y")))
        changes.compare(document(flag("a", "x")), document("{\"key\": \"a\", \"errorCode\": \"FLAG_NOT_FOUND\"}"))
        #expect(changes.rows.map { text($0.key) } == ["a"])
        #expect(changes.rows[0].changes.rows.map { text($0.name) } == ["x → y", "x → FLAG_NOT_FOUND"])
    }

    // limit: Activation.changesPerDecision
    @Test func tellsSoManyChangesApart() {
        var changes = DecisionChanges()
        for number in 0..<Limits.changesPerDecision + 3 {
            changes.compare(document(flag("a", "v\(number)")), document(flag("a", "none")))
        }
        let rows = changes.rows[0].changes.rows
        #expect(rows.count == Limits.changesPerDecision + 1)
        #expect(text(rows[0].name) == "other")
        #expect(rows[0].count == 3)
        #expect(changes.rows[0].different == UInt64(Limits.changesPerDecision) + 3)
    }

    @Test func countsTheMostFrequentFirstAndTheRestAsOther() {
        var tally = Tally(limit: 2)
        for name in ["a", "b", "c", "b", "d", "a", "b"] { tally.add(Array(name.utf8)) }
        #expect(tally.rows.map { text($0.name) } == ["b", "other", "a"])
        #expect(tally.rows.map { $0.count } == [3, 2, 2])
    }
}
