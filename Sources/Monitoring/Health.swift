// The one word that says how the agent is. Set by whoever notices, read by `/readyz`.

import Synchronization

/// States in the order of their weight: the gravest one that holds is shown.
public enum HealthState: Int, Sendable {
    case fresh = 0
    /// No bundle has ever been loaded: defaults only.
    case neverSynced = 1
    /// Writes are refused until there is room; decisions go on.
    case diskFull = 2
    /// Commits fail for another reason; decisions go on.
    case degraded = 3

    public var word: StaticString {
        switch self {
        case .fresh: "fresh"
        case .neverSynced: "never-synced"
        case .diskFull: "disk-full"
        case .degraded: "degraded"
        }
    }

    /// Whether a caller may send events now.
    public var isReady: Bool { self == .fresh || self == .neverSynced }
}

public final class Health: Sendable {
    private let bundle = Atomic<Int>(HealthState.neverSynced.rawValue)
    private let store = Atomic<Int>(HealthState.fresh.rawValue)

    public init() {}

    public func bundleIsLoaded() { bundle.store(HealthState.fresh.rawValue, ordering: .relaxed) }
    public func storeIs(_ state: HealthState) { store.store(state.rawValue, ordering: .relaxed) }

    /// Whether events were written when that was last tried.
    public var takesEvents: Bool { store.load(ordering: .relaxed) == HealthState.fresh.rawValue }

    public var current: HealthState {
        HealthState(rawValue: max(bundle.load(ordering: .relaxed), store.load(ordering: .relaxed))) ?? .degraded
    }
}
