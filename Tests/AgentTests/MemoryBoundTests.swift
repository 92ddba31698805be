// Shows when memory is given back and how often is looked, by made-up figures; and that a limit is read as it is written.

import Testing

@testable import Agent

@Suite struct MemoryBoundTests {
    private let limit: Int64 = 64 << 20
    private let mebibyte: Int64 = 1 << 20

    @Test func whatIsUnderTheLimitStaysAndIsLookedAtNowAndThen() {
        var pace = MemoryPace(limitBytes: limit)
        let first = pace.note(20 * mebibyte, at: 1_000_000)
        let second = pace.note(20 * mebibyte, at: 51_000_000)
        #expect(!first && !second)
        #expect(pace.waitMilliseconds == Limits.memoryLookMilliseconds)
    }

    @Test func theFasterItGrowsTheSoonerIsLookedAgain() {
        var pace = MemoryPace(limitBytes: limit)
        _ = pace.note(20 * mebibyte, at: 1_000_000)
        // 1 MiB a millisecond: the 34 that are left last for as many, half of which is waited.
        let isTooMuch = pace.note(30 * mebibyte, at: 11_000_000)
        #expect(!isTooMuch)
        #expect(pace.waitMilliseconds == 17)
        let isTooMuchNow = pace.note(63 * mebibyte, at: 28_000_000)
        #expect(isTooMuchNow, "in two milliseconds there would be")
    }

    @Test func afterItWasGivenBackTheSameRushIsExpected() {
        var pace = MemoryPace(limitBytes: limit)
        _ = pace.note(4 * mebibyte, at: 1_000_000)
        let isTooMuch = pace.note(204 * mebibyte, at: 51_000_000)
        #expect(isTooMuch)
        pace.restart(4 * mebibyte, at: 52_000_000)
        #expect(!pace.isHopeless)
        #expect(pace.waitMilliseconds == 7)
    }

    @Test func ofARushThatFillsItBetweenTwoLooksHalfTheLimitIsUsed() {
        var pace = MemoryPace(limitBytes: limit)
        _ = pace.note(4 * mebibyte, at: 1_000_000)
        let isHalfTooMuch = pace.note(31 * mebibyte, at: 1_100_000)
        #expect(!isHalfTooMuch)
        #expect(pace.waitMilliseconds == Limits.memoryRushMilliseconds)
    }

    // limit: Agent.memoryVainReleases
    @Test func aProcessThatNeedsMoreItselfIsNotLookedAtAllTheTime() {
        var pace = MemoryPace(limitBytes: limit)
        func tryInVain(_ count: Int) {
            for _ in 0..<count {
                let isTooMuch = pace.note(70 * mebibyte, at: 1_000_000)
                #expect(isTooMuch)
                pace.restart(66 * mebibyte, at: 2_000_000)
            }
        }
        // Others may have had it back in the meantime.
        tryInVain(Limits.memoryVainReleases - 1)
        #expect(!pace.isHopeless)
        #expect(pace.waitMilliseconds == Limits.memoryRushMilliseconds)
        pace.restart(60 * mebibyte, at: 2_000_000)
        tryInVain(Limits.memoryVainReleases - 1)
        #expect(!pace.isHopeless)
        tryInVain(1)
        #expect(pace.isHopeless)
        #expect(pace.waitMilliseconds == Limits.memoryHopelessMilliseconds)
        let isStillTooMuch = pace.note(60 * mebibyte, at: 1_002_000_000)
        #expect(!isStillTooMuch && !pace.isHopeless)
    }

    // limit: Agent.leastMemoryBytes
    @Test func theLimitIsReadAndASmallOneIsRefusedWithTheReason() {
        func read(_ limits: String) -> (Int64?, [String]) {
            let text = Array("limits: { \(limits) }\n".utf8)
            let (configuration, problems) = Configuration.read(text.span)
            return (configuration.memoryBytes, problems.map { "\($0.isWarning ? "warning" : "error") \($0.message)" })
        }
        #expect(read("memory: 64MiB") == (64 << 20, []))
        #expect(read("disk: 1GiB") == (nil, []))
        let small = read("memory: 8MiB").1
        #expect(small == ["error memory must be at least 16MiB: the agent needs 8 of them itself, the store the rest"])
        #expect(read("memory: much").1.count == 1)
        #expect(read("profiles: 1000").1.isEmpty)
        #expect(read("profiles: 7").1.count == 1)
    }
}
