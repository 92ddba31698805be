// Latencies in buckets that double, counted by any thread without a lock.

import Platform

/// Counts durations from 1 microsecond to 17 seconds in 25 buckets, each twice as wide as the one before.
public final class Histogram: Sendable {
    public static let bucketCount = 25

    /// The buckets, and behind them the sum of all durations in nanoseconds.
    private let numbers = CounterArray(count: 26)

    public init() {}

    /// Adds one duration; anything above the last bound falls into the last bucket.
    public func record(nanoseconds: Int64) {
        let value = UInt64(max(0, nanoseconds))
        let bits = 64 - (value / 1000).leadingZeroBitCount
        numbers.add(1, at: min(bits, Histogram.bucketCount - 1))
        numbers.add(value, at: Histogram.bucketCount)
    }

    /// How many durations fell into a bucket; its upper bound is `1 << index` microseconds.
    public func count(_ index: Int) -> UInt64 { numbers.value(at: index) }

    /// How many there are in all.
    public var total: UInt64 {
        var sum: UInt64 = 0
        for index in 0..<Histogram.bucketCount { sum += count(index) }
        return sum
    }

    public var sumNanoseconds: UInt64 { numbers.value(at: Histogram.bucketCount) }
}
