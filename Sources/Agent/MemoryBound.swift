// Keeps the process under `limits.memory`. What grows without end is not its own memory but the store's map: every page
// that somebody looks at stays in the process until the kernel needs room, which on a large machine it never does. The
// thread that waits for signals looks how much there is, the more often the faster it grows, and gives all of them back
// in time; a decision that needs one again finds it in the kernel's cache.

import Monitoring
import Platform
import Store

struct MemoryBound {
    private let limitBytes: Int64?
    private var pace: MemoryPace
    private var hasComplained = false

    /// - Parameter limitBytes: nil for no bound.
    init(limitBytes: Int64?) {
        self.limitBytes = limitBytes
        pace = MemoryPace(limitBytes: limitBytes ?? 0)
    }

    /// Looks at the memory, and gives pages of the store back where they are too many.
    /// - Returns: after how many milliseconds to look again.
    mutating func keep(_ database: Database, _ meters: Meters, _ health: Health, _ clock: SystemClock) -> Int64 {
        guard limitBytes != nil, var resident = Process.residentMemory() else { return .max }
        let isTooMuch = pace.note(resident.anonymousBytes + resident.fileBytes, at: clock.monotonicNanoseconds())
        defer { health.isMemoryShort.set(pace.isHopeless ? 1 : 0) }
        if !isTooMuch { return pace.waitMilliseconds }
        do throws(StoreError) { try database.releasePages() } catch { complain(error.message) }
        Process.trimMemory()
        meters.memoryReleases.add()
        resident = Process.residentMemory() ?? resident
        pace.restart(resident.anonymousBytes + resident.fileBytes, at: clock.monotonicNanoseconds())
        if pace.isHopeless { complain("the process itself needs more: raise limits.memory") }
        return pace.waitMilliseconds
    }

    private mutating func complain(_ reason: String) {
        if hasComplained { return }
        hasComplained = true
        Log.warning("limits.memory cannot be kept", because: reason)
    }
}

/// When there is too much, and when to look again. It need not know whose memory it is.
struct MemoryPace {
    private let limitBytes: Int64
    private var bytes: Int64 = 0
    /// Nanoseconds of a monotonic clock; 0: never.
    private var lookedAt: Int64 = 0
    /// Bytes that come in in a millisecond, as between the last two looks.
    private var growth: Int64 = 0
    /// How often in a row there was still too much after all was given back.
    private var vainReleases = 0

    init(limitBytes: Int64) { self.limitBytes = limitBytes }

    /// - Parameters:
    ///   - bytes: what is in memory now.
    ///   - nanoseconds: of a monotonic clock.
    /// - Returns: whether it is more than the limit, or would be before the next look.
    mutating func note(_ bytes: Int64, at nanoseconds: Int64) -> Bool {
        let passed = nanoseconds - lookedAt
        growth = lookedAt == 0 || passed <= 0 ? 0 : max(0, bytes - self.bytes) * 1_000_000 / passed
        (self.bytes, lookedAt) = (bytes, nanoseconds)
        if bytes <= limitBytes { vainReleases = 0 }
        // No more than half of the limit ahead: else a rush would have it given back at every look.
        return bytes + min(growth * Limits.memoryRushMilliseconds, limitBytes / 2) > limitBytes
    }

    /// What is left after pages were given back; it grows again as before.
    mutating func restart(_ bytes: Int64, at nanoseconds: Int64) {
        (self.bytes, lookedAt) = (bytes, nanoseconds)
        vainReleases = bytes > limitBytes ? vainReleases + 1 : 0
    }

    /// Whether there is too much although everything was given back that can be. Once says nothing: on a busy machine others
    /// have had it all back before this thread came to look.
    var isHopeless: Bool { vainReleases >= Limits.memoryVainReleases }

    /// Half of the time in which the rest would fill up.
    var waitMilliseconds: Int64 {
        if isHopeless { return Limits.memoryHopelessMilliseconds }
        let half = (limitBytes - bytes) / max(1, 2 * growth)
        return min(max(half, Limits.memoryRushMilliseconds), Limits.memoryLookMilliseconds)
    }
}
