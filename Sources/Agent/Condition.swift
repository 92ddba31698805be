// What is wrong with the running agent, found out when somebody asks: `/readyz`, `/metrics` and `gatehouse doctor` all
// say this.

import Cryptography
import Delivery
import Formats
import Monitoring
import Platform
import Serving
import Store

struct Condition {
    let database: Database
    let health: Health
    let meters: Meters
    let senders: SenderList
    let completions: Completions
    let floor: ClockFloor
    /// What the local API shows to its clients; nil without TLS.
    let certificate: TLSServerConfiguration?
    let clock: SystemClock

    /// Whether the writer, or one of the serving threads, has not come round for too long.
    var stalled: (writer: Bool, serving: Bool) {
        let least = clock.monotonicNanoseconds() - Limits.stalledNanoseconds
        return (health.writerSeen.current < least, completions.seen < least && completions.seen > 0)
    }

    /// The gravest first.
    func findings() -> [Finding] {
        var list: [Finding] = []
        let now = clock.wallMilliseconds() / 1000
        let stalled = self.stalled
        if stalled.writer { list.append(Finding(.writerStalled)) }
        if stalled.serving { list.append(Finding(.servingStalled)) }
        let store = health.storeState
        if store != .fresh { list.append(Finding(store == .diskFull ? .diskFull : .notWritten, health.storeNote.current)) }
        let bundle = health.bundleState
        if bundle != .fresh {
            list.append(Finding(bundle == .neverSynced ? .neverSynced : .stale, health.bundleNote.current))
        }
        if store != .diskFull, isRoomShort { list.append(Finding(.diskLow)) }
        if health.isMemoryShort.current > 0 { list.append(Finding(.memory)) }
        if now < floor.seconds {
            list.append(Finding(.clock, joined("by ", String(floor.seconds - now), " seconds at least")))
        }
        if let certificate, !certificate.isValid(until: max(now, floor.seconds) + Limits.certificateSeconds) {
            list.append(Finding(.certificate))
        }
        if meters.badRecords.current > 0 { list.append(Finding(.records, String(meters.badRecords.current))) }
        for entry in senders.all {
            let words = entry.meters.trouble.current
            if words.utf8.isEmpty { continue }
            let isTLS = entry.meters.isHandshakeRefused.current > 0
            list.append(Finding(isTLS ? .destinationTLS : .destinationDown, destination: entry.name, words))
        }
        return list
    }

    /// Whether events make room for others, or the file system ends before the store's limit does.
    private var isRoomShort: Bool {
        let shedAt = health.shedAt.current
        if shedAt > 0, clock.monotonicNanoseconds() - shedAt < Limits.shedNanoseconds { return true }
        let rest = database.mapBytes - database.usedBytes
        return Files.freeBytes(database.path).map { $0 < min(rest, Limits.leastFreeBytes) } ?? false
    }
}

/// Tells the service manager that the agent is alive, for as long as its writer and its serving threads are (sd_notify(3)).
struct Watchdog {
    private let milliseconds: Int64
    private let isWanted: Bool
    /// On the monotonic clock, nanoseconds.
    private var dueAt: Int64 = 0
    private var isAlive = true

    init() {
        let microseconds = Array((Process.environment("WATCHDOG_USEC") ?? "").utf8)
        let wanted = parseInt64(microseconds.span) ?? 0
        isWanted = wanted > 0
        milliseconds = isWanted ? max(1, min(wanted / 2000, Limits.pokeMilliseconds)) : Limits.pokeMilliseconds
    }

    /// Looks, when it is time to.
    /// - Returns: after how many milliseconds to look again.
    mutating func look(_ condition: Condition) -> Int64 {
        let now = condition.clock.monotonicNanoseconds()
        if now < dueAt { return (dueAt - now) / 1_000_000 + 1 }
        let stalled = condition.stalled
        let wasAlive = isAlive
        isAlive = !stalled.writer && !stalled.serving
        if wasAlive, !isAlive { Log.error(stalled.writer ? "the writer has stalled" : "a serving thread has stalled") }
        if isWanted, isAlive { Process.notify("WATCHDOG=1") }
        condition.completions.poke(at: now)
        dueAt = now + milliseconds * 1_000_000
        return milliseconds
    }
}
