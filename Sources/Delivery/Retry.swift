// When to try again, and how much at once: three values without clock, network or chance of their own.

import Platform

/// Pauses between attempts: each is random between nothing and a bound that doubles ("full jitter"), so that a thousand
/// devices that lost the same hub do not come back as one.
public struct Backoff: Equatable {
    /// Failures in a row so far.
    public private(set) var failures: Int32 = 0

    public init() {}

    /// The pause before the next attempt, milliseconds.
    /// - Parameter retryAfter: what the server asked for, milliseconds; the pause is at least that (up to an hour).
    public mutating func pause(retryAfter: Int64? = nil, random: inout some RandomSource) -> Int64 {
        let doublings = Int64(min(failures, 20))
        let bound = min(Limits.longestPauseMilliseconds, Limits.firstPauseMilliseconds << doublings)
        failures = min(failures + 1, 1_000_000)
        // Never nothing: a server that fails at once would be asked in a tight loop.
        let jitter = 1 + Int64(random.next(below: UInt64(bound)))
        guard let retryAfter else { return jitter }
        return max(jitter, min(retryAfter, Limits.longestRetryAfterMilliseconds))
    }

    /// An attempt succeeded.
    public mutating func reset() { failures = 0 }
}

/// Keeps requests away from a server that mostly fails, and lets one try now and then.
public struct Breaker: Equatable {
    public enum State: Equatable {
        /// Requests go through.
        case closed
        /// None goes through before this moment (milliseconds of the clock that the caller uses).
        case open(until: Int64)
        /// One is on its way; what comes of it decides.
        case halfOpen
    }

    public private(set) var state = State.closed
    // The last 100 outcomes, one bit each, 1 for a failure; the newest is bit 0 of `low`.
    private var low: UInt64 = 0
    private var high: UInt64 = 0
    private var count = 0
    private var consecutiveFailures = 0

    public init() {}

    /// Whether a request may go now. When an open breaker's time is up, the answer is yes once.
    public mutating func permits(now: Int64) -> Bool {
        switch state {
        case .closed: return true
        case .halfOpen: return false
        case .open(let until):
            if now < until { return false }
            state = .halfOpen
            return true
        }
    }

    /// Notes what came of a request that was permitted.
    public mutating func record(isFailure: Bool, now: Int64) {
        if state == .halfOpen {
            if isFailure { state = .open(until: now + Limits.breakerOpenMilliseconds) } else { self = Breaker() }
            return
        }
        high = (high << 1 | low >> 63) & (1 << UInt64(Limits.breakerWindow - 64) - 1)
        low = low << 1 | (isFailure ? 1 : 0)
        count = min(count + 1, Limits.breakerWindow)
        consecutiveFailures = isFailure ? consecutiveFailures + 1 : 0
        let failures = low.nonzeroBitCount + high.nonzeroBitCount
        let isShareReached =
            count >= Limits.breakerMinimumRequests && failures * 100 >= count * Limits.breakerFailurePercent
        if isFailure && (isShareReached || consecutiveFailures >= Limits.breakerConsecutiveFailures) {
            state = .open(until: now + Limits.breakerOpenMilliseconds)
        }
    }

    /// A permitted request was not made after all, or said nothing about the server.
    public mutating func forgive(now: Int64) {
        if state == .halfOpen { state = .open(until: now) }
    }
}

/// How many events the next request takes.
///
/// A batch that is refused as malformed (400) holds an event that this server will never take: halves of it are tried
/// until that one is alone. A batch that is too large (413) may be fine in pieces: the limit is halved, and doubled again
/// when all has gone well for a while.
public struct BatchSizer: Equatable {
    private let maximum: Int
    private var limit: Int
    // This many of the next events are known to hold a bad one; 0: nothing is known.
    private var suspects = 0
    private var successes = 0

    /// - Parameter maximum: events of one request, from the bundle; at least 1.
    public init(maximum: Int) {
        precondition(maximum > 0, "a batch holds at least one event")
        self.maximum = maximum
        limit = maximum
    }

    /// Events of the next request, 1…maximum.
    public var next: Int { suspects == 0 ? limit : min(limit, max(1, suspects / 2)) }

    /// Whether a bad event is being sought: the next request should not wait for its batch to fill.
    public var isSearching: Bool { suspects > 0 }

    /// This many events were taken.
    public mutating func succeeded(_ count: Int) {
        suspects = max(0, suspects - count)
        successes += 1
        if successes >= Limits.batchesBeforeGrowth && limit < maximum {
            limit = min(maximum, limit * 2)
            successes = 0
        }
    }

    /// This many were refused as malformed.
    /// - Returns: whether the bad one is alone and found: it must be set aside.
    public mutating func refused(_ count: Int) -> Bool {
        successes = 0
        suspects = count > 1 ? count : 0
        return count <= 1
    }

    /// The events that it was about are gone.
    public mutating func forget() { suspects = 0 }

    /// This many were too much.
    /// - Returns: whether a single event was: it must be set aside.
    public mutating func tooLarge(_ count: Int) -> Bool {
        successes = 0
        suspects = 0
        if count <= 1 { return true }
        limit = max(1, count / 2)
        return false
    }
}
