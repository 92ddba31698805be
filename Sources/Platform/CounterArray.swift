// A row of numbers that any thread may add to.

import Synchronization

/// A fixed number of counters, in one allocation.
public final class CounterArray: @unchecked Sendable {
    public let count: Int
    // Allocated once for the object's life; every access is checked against `count` and atomic.
    private let counters: UnsafeMutablePointer<Atomic<UInt64>>

    public init(count: Int) {
        self.count = count
        counters = .allocate(capacity: count)
        for index in 0..<count { (counters + index).initialize(to: Atomic(0)) }
    }

    deinit {
        counters.deinitialize(count: count)
        counters.deallocate()
    }

    public func add(_ amount: UInt64, at index: Int) {
        precondition(index >= 0 && index < count)
        counters[index].wrappingAdd(amount, ordering: .relaxed)
    }

    /// Replaces a value; additions of the same moment may be lost.
    public func set(_ value: UInt64, at index: Int) {
        precondition(index >= 0 && index < count)
        counters[index].store(value, ordering: .relaxed)
    }

    /// Replaces a value by what `change` makes of it, again until no other thread came in between.
    public func update(at index: Int, _ change: (UInt64) -> UInt64) {
        precondition(index >= 0 && index < count)
        var old = counters[index].load(ordering: .relaxed)
        while true {
            let (exchanged, seen) = counters[index].weakCompareExchange(
                expected: old, desired: change(old), ordering: .acquiringAndReleasing)
            if exchanged { return }
            old = seen
        }
    }

    public func value(at index: Int) -> UInt64 {
        precondition(index >= 0 && index < count)
        return counters[index].load(ordering: .relaxed)
    }
}
