// How a new policy reaches the serving threads: they look at a number at each question and fetch the policy when it has
// changed. It need not know what a policy says.

import Platform
import Synchronization

/// The policy in force, exchanged as a whole.
public final class PolicyHolder: @unchecked Sendable {
    private let lock = Lock()
    // Written under `lock`.
    private var policy: Policy
    private let generation = Atomic<UInt64>(1)

    public init(_ policy: Policy) { self.policy = policy }

    /// Puts another policy in force. Questions under way finish with the one that they began with.
    public func replace(with next: Policy) {
        lock.with { policy = next }
        generation.wrappingAdd(1, ordering: .releasing)
    }

    /// The policy in force, for occasional callers.
    public var current: Policy { lock.with { policy } }

    /// The policy in force, without a lock unless it has changed.
    public func current(_ cache: inout PolicyCache) -> Policy {
        let newest = generation.load(ordering: .acquiring)
        if cache.generation == newest, let policy = cache.policy { return policy }
        let fresh = current
        cache = PolicyCache(policy: fresh, generation: newest)
        return fresh
    }
}

/// What one thread remembers of the policy in force.
public struct PolicyCache {
    var policy: Policy?
    var generation: UInt64 = 0
    public init() {}
    init(policy: Policy, generation: UInt64) {
        self.policy = policy
        self.generation = generation
    }
}
