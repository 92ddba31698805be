// What events and questions are treated by, and how it is exchanged while everything runs.

import Activation
import Collection
import Governance
import Platform
import Synchronization

/// What serving threads and the writer need of a bundle. Immutable; which one it is, its identity tells.
public final class Plans: Sendable {
    public let policy: Policy
    public let tracking: TrackingPlan
    /// The shortest time that any event is kept, milliseconds; 0: for good.
    public let shortestEventTime: Int64

    public init(_ policy: Policy, _ tracking: TrackingPlan) {
        self.policy = policy
        self.tracking = tracking
        shortestEventTime = Plans.shorter(tracking.keeping.shortestTimeToLive, policy.purposes.shortestTimeToLive)
    }
}

extension Plans {
    /// The shorter of two times, of which 0 is none.
    public static func shorter(_ a: Int64, _ b: Int64) -> Int64 { a == 0 ? b : b == 0 ? a : min(a, b) }
}

/// The plans in force, for any number of threads.
public final class PlanHolder: @unchecked Sendable {
    private let lock = Lock()
    // Written under `lock`.
    private var plans: Plans
    private let generation = Atomic<UInt64>(1)

    public init(_ plans: Plans) { self.plans = plans }

    /// Puts others in force. Questions and events under way finish with those that they began with.
    public func replace(with next: Plans) {
        lock.with { plans = next }
        generation.wrappingAdd(1, ordering: .releasing)
    }

    /// The plans in force, without a lock unless they have changed.
    public func current(_ cache: inout PlanCache) -> Plans {
        let newest = generation.load(ordering: .acquiring)
        if cache.generation == newest, let plans = cache.plans { return plans }
        let fresh = lock.with { plans }
        cache = PlanCache(plans: fresh, generation: newest)
        return fresh
    }
}

/// What one thread remembers of the plans in force.
public struct PlanCache {
    var plans: Plans?
    var generation: UInt64 = 0
    public init() {}
    init(plans: Plans, generation: UInt64) {
        self.plans = plans
        self.generation = generation
    }
}
