// How the agent is: one word, and the list of what is wrong. Set by whoever notices, read by `/readyz`.

import Platform
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

/// What is wrong, the gravest first, as `/readyz`, `/metrics` and `gatehouse doctor` name it.
public enum Problem: Int, Sendable {
    case writerStalled, servingStalled, notWritten, diskFull, neverSynced, stale, diskLow, memory, clock, certificate
    case records, destinationDown, destinationTLS

    /// In metrics and answers, by number.
    public static let words: [StaticString] = [
        "writer-stalled", "serving-stalled", "not-written", "disk-full", "never-synced", "stale", "disk-low", "memory",
        "clock", "certificate", "records", "destination-down", "destination-tls",
    ]
    public var word: StaticString { Problem.words[rawValue] }

    /// What it means to whoever runs the device, and what to do, by number.
    public static let advice: [StaticString] = [
        "Nothing has been written for 10 seconds; decisions go on. Look at the disk, then restart the agent.",
        "A thread that answers requests hangs. Restart the agent.",
        "Events cannot be written and are refused; decisions go on.",
        "Events are refused; decisions go on. See below why destinations do not take any.",
        "There is no bundle, so there are no rules. Set bundle: in the configuration.",
        "The last good bundle is in force, since there is no newer one that can be used.",
        "Room is short: events of low priority make room for others. Raise limits.disk, or free space.",
        "The agent needs more memory than limits.memory allows. Raise it.",
        "The clock is behind. Set it, or let NTP.",
        "The certificate of tls: cert: has ended, or will within a week. Renew it and restart the agent.",
        "Records failed their checksums and are left out. The disk may be failing: back the store up.",
        "A destination takes no events. They are kept, and tried again.",
        "TLS with a destination failed. Events are kept, and tried again.",
    ]

    /// Whether events cannot be taken because of it, or requests are not answered.
    public var isGrave: Bool { rawValue <= Problem.notWritten.rawValue }
}

/// A problem that there is.
public struct Finding: Sendable {
    public let problem: Problem
    /// The destination that it is about; empty where it is the agent's.
    public let destination: [UInt8]
    /// What more is known, without personal data: for those who run the device.
    public let detail: String

    public init(_ problem: Problem, destination: [UInt8] = [], _ detail: String = "") {
        self.problem = problem
        self.destination = destination
        self.detail = detail
    }
}

/// A sentence that one thread leaves for others.
public final class Note: @unchecked Sendable {
    private let lock = Lock()
    // Under `lock`.
    private var text = ""

    public init() {}
    public func set(_ words: String) { lock.with { text = words } }
    public var current: String { lock.with { text } }
}

public final class Health: Sendable {
    private let bundle = Atomic<Int>(HealthState.neverSynced.rawValue)
    private let store = Atomic<Int>(HealthState.fresh.rawValue)
    private let problem = Atomic<Int>(-1)
    /// What was last said of another bundle, and of what could not be written.
    public let bundleNote = Note()
    public let storeNote = Note()
    /// When the writer was last seen at work or looking for some, nanoseconds of the monotonic clock.
    public let writerSeen = Gauge()
    /// When events last made room for others, nanoseconds of the monotonic clock; 0: never.
    public let shedAt = Gauge()
    /// 1 while the process itself needs more than `limits.memory`.
    public let isMemoryShort = Gauge()
    private let mending = Atomic<Bool>(false)

    public init() {}

    /// - Parameters:
    ///   - problem: why there is not another bundle in force; nil: it is the one that there is.
    ///   - words: the same for a person; nil: as was said before.
    public func bundleIs(_ state: HealthState, _ problem: BundleProblem? = nil, _ words: String? = nil) {
        bundle.store(state.rawValue, ordering: .relaxed)
        self.problem.store(problem?.rawValue ?? -1, ordering: .relaxed)
        if problem == nil { bundleNote.set("") } else if let words { bundleNote.set(words) }
    }
    public var bundleState: HealthState { HealthState(rawValue: bundle.load(ordering: .relaxed)) ?? .degraded }
    public var bundleProblem: BundleProblem? { BundleProblem(rawValue: problem.load(ordering: .relaxed)) }
    public func storeIs(_ state: HealthState) { store.store(state.rawValue, ordering: .relaxed) }
    public var storeState: HealthState { HealthState(rawValue: store.load(ordering: .relaxed)) ?? .degraded }

    /// The store is being mended: nobody is known, and nothing is taken, until that is done.
    public func beginMending() {
        mending.store(true, ordering: .relaxed)
        storeIs(.degraded)
        storeNote.set("the store is being mended")
        // There is no writer that could stall.
        writerSeen.set(.max)
    }
    public var isMending: Bool { mending.load(ordering: .relaxed) }

    /// Whether events were written when that was last tried.
    public var takesEvents: Bool { store.load(ordering: .relaxed) == HealthState.fresh.rawValue }

    public var current: HealthState {
        HealthState(rawValue: max(bundle.load(ordering: .relaxed), store.load(ordering: .relaxed))) ?? .degraded
    }
}
