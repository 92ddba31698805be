// The one word that says how the agent is. Set by whoever notices, read by `/readyz`.

import Synchronization

/// States in the order of their weight: the gravest one that holds is shown.
public enum HealthState: Int, Sendable {
    case fresh = 0
    /// The last good bundle is in force: where it comes from there is none now, or one that was not taken.
    case stale = 1
    /// No bundle has ever been loaded: defaults only.
    case neverSynced = 2
    /// Writes are refused until there is room; decisions go on.
    case diskFull = 3
    /// Commits fail for another reason; decisions go on.
    case degraded = 4

    public var word: StaticString {
        switch self {
        case .fresh: "fresh"
        case .stale: "stale"
        case .neverSynced: "never-synced"
        case .diskFull: "disk-full"
        case .degraded: "degraded"
        }
    }

    /// Whether a caller may send events now.
    public var isReady: Bool { rawValue <= HealthState.neverSynced.rawValue }
}

/// Why a bundle was not taken.
public enum BundleProblem: Int, Sendable {
    case unreachable, tooLarge, signature, content, version, selfTest, rolledBack

    /// In metrics and answers, by number.
    public static let words: [StaticString] = [
        "unreachable", "too_large", "signature", "content", "version", "self_test", "rolled_back",
    ]
    public var word: StaticString { BundleProblem.words[rawValue] }
}

public final class Health: Sendable {
    private let bundle = Atomic<Int>(HealthState.neverSynced.rawValue)
    private let store = Atomic<Int>(HealthState.fresh.rawValue)
    private let problem = Atomic<Int>(-1)
    private let mending = Atomic<Bool>(false)

    public init() {}

    /// - Parameter problem: why there is not another bundle in force; nil: it is the one that there is.
    public func bundleIs(_ state: HealthState, _ problem: BundleProblem? = nil) {
        bundle.store(state.rawValue, ordering: .relaxed)
        self.problem.store(problem?.rawValue ?? -1, ordering: .relaxed)
    }
    public var bundleState: HealthState { HealthState(rawValue: bundle.load(ordering: .relaxed)) ?? .degraded }
    public var bundleProblem: BundleProblem? { BundleProblem(rawValue: problem.load(ordering: .relaxed)) }
    public func storeIs(_ state: HealthState) { store.store(state.rawValue, ordering: .relaxed) }

    /// The store is being mended: nobody is known, and nothing is taken, until that is done.
    public func beginMending() {
        mending.store(true, ordering: .relaxed)
        storeIs(.degraded)
    }
    public var isMending: Bool { mending.load(ordering: .relaxed) }

    /// Whether events were written when that was last tried.
    public var takesEvents: Bool { store.load(ordering: .relaxed) == HealthState.fresh.rawValue }

    public var current: HealthState {
        HealthState(rawValue: max(bundle.load(ordering: .relaxed), store.load(ordering: .relaxed))) ?? .degraded
    }
}
