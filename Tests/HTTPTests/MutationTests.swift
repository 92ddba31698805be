// Requests damaged at random, by a seed: no damage makes a parser trap, and none makes it depend on how the bytes
// were cut. What a mutation finds becomes a case of the other suites.
import HTTP
import Testing

/// SplitMix64: the same damage in every run.
private struct Chance {
    var state: UInt64
    mutating func next(below bound: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int(truncatingIfNeeded: (z ^ (z >> 31)) >> 1) % bound
    }
}

/// Bytes that mean something to a parser of HTTP, more often than others.
private let likelyBytes: [UInt8] = Array("\r\n\t \u{0}:;,=\"/?#[]@%0149afAFGHTP\u{7F}\u{80}".utf8)

private func damaged(_ request: [UInt8], _ chance: inout Chance) -> [UInt8] {
    var bytes = request
    for _ in 0...chance.next(below: 4) {
        let place = chance.next(below: max(1, bytes.count))
        let byte = chance.next(below: 4) == 0
            ? UInt8(chance.next(below: 256)) : likelyBytes[chance.next(below: likelyBytes.count)]
        switch chance.next(below: 5) {
        case 0 where !bytes.isEmpty: bytes[place] = byte
        case 1: bytes.insert(byte, at: min(place, bytes.count))
        case 2 where !bytes.isEmpty: bytes.remove(at: place)
        case 3 where !bytes.isEmpty:
            let end = min(bytes.count, place + chance.next(below: 20))
            bytes.insert(contentsOf: Array(bytes[place..<end]), at: chance.next(below: bytes.count))
        default: if !bytes.isEmpty { bytes.removeLast(chance.next(below: min(20, bytes.count))) }
        }
    }
    return bytes
}

@Suite struct MutationTests {
    private static let seeds =
        RequestParserTests.good.map { Array($0.utf8) }
        + SmugglingTests.attempts.prefix(20).map { Array("POST / HTTP/1.1\r\nHost: a\r\n\($0.0)\r\n".utf8) }

    @Test func requestsAreReadTheSameInPieces() {
        var chance = Chance(state: 1)
        var complete = 0
        for round in 0..<20_000 {
            let bytes = damaged(Self.seeds[round % Self.seeds.count], &chance)
            var head = RequestHead()
            var progress = HeadProgress()
            let whole = parseRequest(bytes, &head, &progress)
            if case .complete = whole { complete += 1 }
            var stepwise = HeadProgress()
            var length = 0
            var outcome = HeadOutcome.incomplete
            while length < bytes.count && outcome == .incomplete {
                length = min(bytes.count, length + 1 + chance.next(below: 30))
                outcome = parseRequest(Array(bytes[0..<length]), &head, &stepwise)
            }
            // A breach in a line that has not come to its end may be told with the line's end only.
            if case .invalid = whole, outcome == .incomplete { continue }
            if outcome != whole { Issue.record("\(String(decoding: bytes, as: UTF8.self)): \(outcome), not \(whole)") }
        }
        #expect(complete > 1000 && complete < 19_000)
    }

    @Test func responsesAndChunksDoNotTrap() {
        var chance = Chance(state: 2)
        let responses = ResponseParserTests.good.map { Array($0.0.utf8) }
        let chunks = ChunkedDecoderTests.good.map { Array($0.0.utf8) }
        var complete = 0
        for round in 0..<20_000 {
            var head = ResponseHead()
            var progress = HeadProgress()
            let response = damaged(responses[round % responses.count], &chance)
            if case .complete = parseResponse(response, &head, &progress) { complete += 1 }
            let body = damaged(chunks[round % chunks.count], &chance)
            let text = String(decoding: body.map { $0 & 0x7F }, as: UTF8.self)
            let whole = ChunkedDecoderTests.decode(text, pieces: text.utf8.count + 1)
            let pieces = ChunkedDecoderTests.decode(text, pieces: 1 + chance.next(below: 9))
            #expect(whole.body == pieces.body && whole.0.fault == pieces.0.fault)
        }
        #expect(complete > 1000 && complete < 19_000)
    }
}
