// The bundle in force, and how it is exchanged while everything runs.

import Platform
import Serving

/// Holds the bundle for the writer and the delivery threads, and its plans for the serving threads.
final class BundleHolder: @unchecked Sendable {
    private let lock = Lock()
    // Under `lock`.
    private var bundle: Bundle
    private var generation: UInt64 = 1
    let plans: PlanHolder

    init(_ bundle: Bundle) {
        self.bundle = bundle
        plans = PlanHolder(bundle.plans)
    }

    var current: Bundle { lock.with { bundle } }

    /// The bundle, when it is another one than at the last call with this mark.
    func changed(since mark: inout UInt64) -> Bundle? {
        lock.lock()
        defer { lock.unlock() }
        if mark == generation { return nil }
        mark = generation
        return bundle
    }

    /// Puts another bundle in force.
    func replace(with next: Bundle) {
        lock.with {
            bundle = next
            generation += 1
        }
        plans.replace(with: next.plans)
    }
}
