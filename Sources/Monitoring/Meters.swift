// What the running agent counts in memory since it started. The accounts that survive restarts (promise P7) lie in the
// store and are only shown here.

import Platform
import Synchronization

/// A number that only goes up, counted by any thread.
public final class Counter: Sendable {
    private let value = Atomic<UInt64>(0)
    public init() {}
    public func add(_ amount: UInt64 = 1) { value.wrappingAdd(amount, ordering: .relaxed) }
    public var current: UInt64 { value.load(ordering: .relaxed) }
}

/// A number that goes up and down.
public final class Gauge: Sendable {
    private let value = Atomic<Int64>(0)
    public init() {}
    public func set(_ amount: Int64) { value.store(amount, ordering: .relaxed) }
    public var current: Int64 { value.load(ordering: .relaxed) }
}

/// All meters of one agent.
public final class Meters: Sendable {
    /// Decisions answered from a matching rule, from the default, and those that failed.
    public let decisionsMatched = Counter()
    public let decisionsDefault = Counter()
    public let decisionErrors = Counter()
    /// Rules, audiences and attributes that could not be evaluated; they count as not matching.
    public let evaluationErrors = Counter()
    /// Those of them that were asked for a decision.
    public let ruleErrors = Counter()
    /// Requests refused before they held an event: malformed, too large, unauthorised.
    public let requestsRefused = Counter()
    /// Requests answered 503 because the intake was full.
    public let requestsShed = Counter()
    /// Events that did not fit their schema, whatever was done with them.
    public let eventsInvalid = Counter()
    /// Records that failed their checksum, and rows of the store that did.
    public let badRecords = Counter()
    /// Profiles that became part of others; links that join nobody: two values of a `unique` kind, too many identifiers of one
    /// person, an identifier with too many links.
    public let identityMerges = Counter()
    public let linksAgainstGuard = Counter()
    public let linksAgainstLimit = Counter()
    public let linksOfNobody = Counter()
    /// What was taken away because its time was up.
    public let purgedProfiles = Counter()
    public let purgedAttributes = Counter()
    public let purgedEvents = Counter()
    public let purgedQuarantined = Counter()
    /// Entries of the log that were counted once more for attributes that are new: those that said something about one, those
    /// that did not, those of people who do not grant it any more or are not there, and those that are gone or cannot be read.
    public let recomputeCounted = Counter()
    public let recomputeUnchanged = Counter()
    public let recomputeDenied = Counter()
    public let recomputeMissing = Counter()
    /// Entries of the log that are yet to be counted once more.
    public let recomputePending = Gauge()
    /// Events that made room for others on a full disk, by priority.
    public let shedEvents = CounterArray(count: 10)
    /// Profiles that went because there were too many.
    public let evictedProfiles = Counter()
    /// Triggers that fired, that an event or a condition called off, that were due too long ago, whose person did not or no
    /// longer grant it, and that had fired for their person a short time before.
    public let triggersFired = Counter()
    public let triggersCalledOff = Counter()
    public let triggersLate = Counter()
    public let triggersDenied = Counter()
    public let triggersRested = Counter()
    /// Records of decisions that are in the log, and those that nobody had room for.
    public let recordsKept = Counter()
    public let recordsLost = Counter()
    /// Events that went from quarantine because there were too many.
    public let droppedQuarantined = Counter()
    /// Values that no profile took: too long, or its record is full.
    public let refusedValues = Counter()
    /// Changes that another device or the hub has told and that cannot be read, or are not its own.
    public let changesRefused = Counter()
    public let commits = Counter()
    /// How often pages of the store's map were given back for `limits.memory`.
    public let memoryReleases = Counter()
    /// Time to decide, from the parsed request to the written answer.
    public let decide = Histogram()
    /// Time of one commit with its syncs.
    public let commit = Histogram()
    /// Time from the arrival of an event to its answer.
    public let admit = Histogram()
    /// From when an admitted event happened, by its own timestamp, until its commit, from which on every decision sees what
    /// it has changed; more than an hour counts as an hour.
    public let activate = Histogram()
    /// Version of the bundle in force, and when (milliseconds since the epoch) its source was last asked for another.
    public let bundleVersion = Gauge()
    public let bundleCheckedAt = Gauge()
    /// Bundles that were not taken, by `BundleProblem`.
    public let bundlesRefused = CounterArray(count: BundleProblem.words.count)
    public let startedAt = Gauge()
    /// How often another store took the place of a damaged one, when last (milliseconds since the epoch), how many events were
    /// lost by it, and how often that is not known.
    public let storeRebuilds = Gauge()
    public let storeRebuiltAt = Gauge()
    public let storeLostEvents = Gauge()
    public let storeLossesUnknown = Gauge()
    /// When the newest snapshot of the store was taken, milliseconds since the epoch; 0: there is none.
    public let snapshotAt = Gauge()
    /// When all rows of the store had been held against their checksums, nanoseconds of the monotonic clock; 0: not yet.
    public let storeCheckedAt = Gauge()

    public init() {}
}
