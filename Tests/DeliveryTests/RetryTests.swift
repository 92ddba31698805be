// Shows the rules of retrying by themselves: pauses, the breaker, the size of batches.

import Delivery
import Platform
import Testing

@Suite struct BackoffTests {
    // limit: Delivery.firstPauseMilliseconds, Delivery.longestPauseMilliseconds
    @Test("Pauses are random between nothing and a bound that doubles up to a minute")
    func fullJitter() {
        var random = SeededRandom(seed: 1)
        var longest = [Int64](repeating: 0, count: 12)
        var shortest = [Int64](repeating: .max, count: 12)
        for _ in 0..<2000 {
            var backoff = Backoff()
            for attempt in 0..<12 {
                let pause = backoff.pause(random: &random)
                longest[attempt] = max(longest[attempt], pause)
                shortest[attempt] = min(shortest[attempt], pause)
            }
        }
        for attempt in 0..<12 {
            let bound = min(60_000, Int64(500) << Int64(attempt))
            #expect(longest[attempt] <= bound)
            #expect(longest[attempt] > bound * 9 / 10, "the whole range is used")
            #expect(shortest[attempt] >= 1 && shortest[attempt] < bound / 10)
        }
    }

    // limit: Delivery.longestRetryAfterMilliseconds
    @Test("Retry-After is a lower bound, an hour at most; success starts again")
    func retryAfter() {
        var random = SeededRandom(seed: 2)
        var backoff = Backoff()
        check(backoff.pause(retryAfter: 7_000, random: &random) == 7_000)
        check(backoff.pause(retryAfter: 86_400_000, random: &random) == 3_600_000)
        for _ in 0..<100 { _ = backoff.pause(random: &random) }
        #expect(backoff.failures == 102)
        check(backoff.pause(random: &random) <= 60_000, "no overflow after many failures")
        backoff.reset()
        #expect(backoff == Backoff())
        check(backoff.pause(random: &random) <= 500)
    }
}

@Suite struct BreakerTests {
    // limit: Delivery.breakerFailurePercent
    @Test("It opens at 40 % failures of the last 100 requests, not at 39 %")
    func share() {
        for failuresIn100 in [39, 40] {
            var breaker = Breaker()
            for request in 0..<100 { breaker.record(isFailure: false, now: Int64(request)) }
            // Two failures, three successes, as often as it takes: never six failures in a row.
            var failures = 0
            var request: Int64 = 100
            while failures < failuresIn100 {
                for isFailure in [true, false, true, false] where failures < failuresIn100 {
                    breaker.record(isFailure: isFailure, now: request)
                    if isFailure { failures += 1 }
                    request += 1
                }
            }
            #expect((breaker.state == .closed) == (failuresIn100 == 39), "\(failuresIn100)")
        }
    }

    // limit: Delivery.breakerMinimumRequests
    @Test("Half of nineteen requests is no reason, half of twenty is")
    func fewRequests() {
        var breaker = Breaker()
        for request in 0..<19 { breaker.record(isFailure: request % 2 == 1, now: Int64(request)) }
        #expect(breaker.state == .closed)
        breaker.record(isFailure: true, now: 19)
        #expect(breaker.state != .closed)
    }

    // limit: Delivery.breakerWindow
    @Test("Failures that have left the window of 100 do not count")
    func window() {
        var breaker = Breaker()
        for round in 0..<30 {
            for request in 0..<100 { breaker.record(isFailure: request % 3 == 0 && request < 90, now: Int64(round)) }
        }
        #expect(breaker.state == .closed, "30 % for ever is no reason")
    }

    // limit: Delivery.breakerConsecutiveFailures
    @Test("Six failures in a row open it whatever came before; a new server needs no more")
    func consecutive() {
        for past in [0, 1000] {
            var breaker = Breaker()
            for _ in 0..<past { breaker.record(isFailure: false, now: 0) }
            for _ in 0..<5 { breaker.record(isFailure: true, now: 5) }
            #expect(breaker.state == .closed)
            breaker.record(isFailure: true, now: 6)
            #expect(breaker.state == .open(until: 60_006))
        }
    }

    // limit: Delivery.breakerOpenMilliseconds
    @Test("After a minute one request may try: success closes it, failure opens it for another minute")
    func halfOpen() {
        var breaker = Breaker()
        for _ in 0..<6 { breaker.record(isFailure: true, now: 0) }
        check(!breaker.permits(now: 59_999))
        check(breaker.permits(now: 60_000))
        check(!breaker.permits(now: 60_000), "only one tries")
        breaker.record(isFailure: true, now: 61_000)
        check(!breaker.permits(now: 120_999))
        check(breaker.permits(now: 121_000))
        breaker.forgive(now: 121_500)
        check(breaker.permits(now: 121_500), "a try that was not made leaves it to the next")
        breaker.record(isFailure: false, now: 122_000)
        #expect(breaker == Breaker(), "the past is forgotten")
    }
}

@Suite struct BatchSizerTests {
    /// Plays a server that refuses every batch with one of `bad` in it; what was set aside and how many requests it took.
    private func play(events: Int, maximum: Int, bad: Set<Int>) -> (setAside: [Int], taken: [Int], requests: Int) {
        var sizer = BatchSizer(maximum: maximum)
        var setAside: [Int] = []
        var taken: [Int] = []
        var next = 0
        var requests = 0
        while next < events {
            let batch = next..<min(events, next + sizer.next)
            requests += 1
            if batch.contains(where: bad.contains) {
                if sizer.refused(batch.count) {
                    setAside.append(next)
                    next += 1
                }
            } else {
                taken += batch
                sizer.succeeded(batch.count)
                next = batch.upperBound
            }
        }
        return (setAside, taken, requests)
    }

    @Test("Whichever event of 500 is bad, it alone is set aside, in under 20 requests", arguments: [500, 250, 7, 1])
    func everyPosition(maximum: Int) {
        for bad in 0..<500 {
            let result = play(events: 500, maximum: maximum, bad: [bad])
            #expect(result.setAside == [bad])
            #expect(result.taken == (0..<500).filter { $0 != bad })
            #expect(result.requests < 500 / maximum + 20)
        }
    }

    @Test("Several bad events are found, also neighbours, also all of them")
    func several() {
        for bad in [Set([0, 1, 2]), Set([10, 400]), Set([498, 499]), Set(0..<500)] {
            let result = play(events: 500, maximum: 500, bad: bad)
            #expect(result.setAside == bad.sorted())
            #expect(result.taken == (0..<500).filter { !bad.contains($0) })
        }
    }

    // limit: Delivery.batchesBeforeGrowth
    @Test("Too large: the limit is halved, kept, and doubled again after a while")
    func tooLarge() {
        var sizer = BatchSizer(maximum: 500)
        check(!sizer.tooLarge(500))
        #expect(sizer.next == 250 && !sizer.isSearching)
        check(!sizer.tooLarge(250))
        #expect(sizer.next == 125)
        for _ in 0..<15 { sizer.succeeded(125) }
        #expect(sizer.next == 125)
        sizer.succeeded(125)
        #expect(sizer.next == 250)
        for _ in 0..<100 { sizer.succeeded(250) }
        #expect(sizer.next == 500, "never beyond the bundle's maximum")
        for size in [500, 250, 125, 62, 31, 15, 7, 3] { check(!sizer.tooLarge(size)) }
        #expect(sizer.next == 1)
        check(sizer.tooLarge(1), "one event that is too large by itself")
    }
}
