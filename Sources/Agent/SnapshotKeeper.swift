// Takes snapshots of the store, on a thread of its own: from time to time, while little happens, a few at most, and only
// where there is room. What an erasure takes away is in no snapshot for longer than in the store (promise P8): they all go before
// it is committed, and one that is under way does not come to be.

import Monitoring
import Platform
import Store

final class SnapshotKeeper: @unchecked Sendable {
    private let files: StoreFiles
    private let pauseMilliseconds: Int64
    private let keep: Int64
    private let diskBytes: Int64?
    private let clock = SystemClock()
    private let lock = Lock()
    // Under `lock`.
    private var isStopped = false
    /// How often all snapshots were removed.
    private var removals = 0
    /// How often somebody has asked for what is free in the store to be given back, and up to which of these it was.
    private var asked: UInt64 = 0
    private var answered: UInt64 = 0

    init(_ configuration: Configuration, _ files: StoreFiles) {
        self.files = files
        pauseMilliseconds = configuration.snapshotMilliseconds
        keep = configuration.snapshots
        diskBytes = configuration.diskBytes
    }

    /// Removes all copies of what the store had. Whoever calls then commits that it does not have it any more.
    @inline(never)
    func removeAll() {
        lock.with {
            removals += 1
            files.removeCopies()
            lock.broadcast()
        }
    }

    /// A commit has failed. Where that was for damage the agent ends, so that its next start mends the store. It also ends where
    /// LMDB writes nothing more, since the disk did not take where the trees begin: a start may write again. If it can: on a disk
    /// that does not even take a mark, decisions are answered on.
    @inline(never)
    func note(_ error: StoreError) {
        // Room for events is worth more than what was; at `limits.disk` nothing else takes theirs.
        if error == .full, Files.freeBytes(files.folder) ?? 0 < Limits.leastFreeBytes {
            removeAll()
            Files.remove(files.spare)
        }
        if error.endsWriting {
            do throws(SystemError) { try Files.replace(files.crash, with: [], mode: 0o600) } catch { return }
        } else {
            guard case .damaged = error, files.note(error) else { return }
        }
        Process.terminate()
    }

    /// Has what is free in the store given back to the disk now, however little it is and whatever else there is to do.
    /// - Returns: what `hasCompacted` is asked with.
    func compact() -> UInt64 {
        lock.with {
            asked += 1
            lock.broadcast()
            return asked
        }
    }

    func hasCompacted(_ turn: UInt64) -> Bool { lock.with { answered >= turn } }

    func stop() {
        lock.with {
            isStopped = true
            lock.broadcast()
        }
    }

    /// Takes snapshots until `stop`.
    func run(_ database: Database, _ meters: Meters) {
        var seen = 0
        var commits: UInt64 = 0
        var hasComplained = false
        var retryAt: Int64 = 0
        let newest = Snapshot.time(of: files.snapshot(1), isWhole: false)
        meters.snapshotAt.set(newest ?? 0)
        var dueAt = now + firstPause
        if let newest { dueAt = now + min(pauseMilliseconds, max(0, newest + pauseMilliseconds - clock.wallMilliseconds())) }
        while wait() {
            // What a commit meets is noted by the writer.
            if database.isDamaged {
                note(.damaged("pages that were read do not fit together"))
                continue
            }
            let removed = lock.with { removals }
            if removed != seen {
                seen = removed
                meters.snapshotAt.set(0)
                dueAt = now + firstPause
            }
            let turn = lock.with { asked }
            if turn > answered, now >= retryAt {
                if giveBack(of: database, beside: nil) { lock.with { answered = turn } }
                retryAt = now + firstPause
            }
            fit(database.usedBytes, besides: 0)
            database.forgetDeadReaders()
            if clock.wallMilliseconds() - meters.storeRebuiltAt.current > Limits.asideMilliseconds { Files.remove(files.former) }
            // One commit a second is what nobody's work does.
            let isIdle = meters.commits.current - commits <= 1
            commits = meters.commits.current
            if now < dueAt || !isIdle && now < dueAt + pauseMilliseconds / 8 { continue }
            dueAt = now + firstPause
            giveBack(of: database, beside: meters)
            if keep == 0 { continue }
            guard makeRoom(for: database) else {
                if !hasComplained { Log.warning("there is no room for a snapshot of the store") }
                hasComplained = true
                continue
            }
            if take(database, meters, removed) {
                hasComplained = false
                dueAt = now + pauseMilliseconds
            }
        }
    }

    /// Milliseconds.
    private var now: Int64 {
        @inline(never) get { clock.monotonicNanoseconds() / 1_000_000 }
    }
    private var firstPause: Int64 { min(pauseMilliseconds, Limits.firstSnapshotMilliseconds) }

    private func wait() -> Bool {
        lock.lock()
        defer { lock.unlock() }
        if !isStopped { lock.wait(milliseconds: 1000) }
        return !isStopped
    }

    /// Gives the disk back what is free in the store, as long as little happens. Where the file system cannot do that, leaves word
    /// for the next start, which has no time to count what is free, to write the store anew.
    /// - Parameter meters: what happens meanwhile; nil: all is given back whatever happens, however little it is.
    /// - Returns: whether that went well.
    @discardableResult
    @inline(never)
    func giveBack(of database: Database, beside meters: Meters?) -> Bool {
        let commits = meters?.commits.current ?? 0
        let used = database.usedBytes
        guard let pages = try? database.freePages(atMost: .max) else { return false }
        let free = Int64(pages) * database.pageBytes - (database.mapBytes - used)
        // Holes take nothing.
        let spare = database.diskBytes - (used - free)
        if spare <= 0 || meters != nil && (spare <= Limits.leastCompactedBytes || spare <= (used - free) / 8) { return true }
        var begin = now
        do throws(StoreError) {
            let isDone = try database.punchFreePages {
                pause(&begin) != nil && meters?.commits.current ?? commits <= commits + 1
            }
            if isDone { holdSpare() }
            if !isDone, free > used / 2 || meters == nil {
                try? Files.replace(files.sparse, with: meters == nil ? [1] : [], mode: 0o600)
            }
            return true
        } catch {
            Log.warning("what is free in the store cannot be given back to the disk", because: error.message)
            return false
        }
    }

    /// Takes room on the disk that is given up when others have filled it: what is written where the store has holes needs some,
    /// and privacy work shall find it.
    private func holdSpare() {
        if Files.exists(files.spare) || Files.freeBytes(files.folder) ?? 0 < Limits.leastFreeBytes { return }
        Files.reserve(files.spare, bytes: Limits.spareBytes)
    }

    /// Waits for as long as it took since it began: as much time is others'.
    /// - Returns: how often all snapshots were removed; nil: it is to stop.
    private func pause(_ begin: inout Int64) -> Int? {
        lock.lock()
        lock.wait(milliseconds: now - begin)
        let removals: Int? = isStopped ? nil : removals
        lock.unlock()
        begin = now
        return removals
    }

    /// Whether another snapshot fits: on the file system with as much to spare, and with the store in `limits.disk`.
    private func makeRoom(for database: Database) -> Bool {
        let used = database.usedBytes
        guard let free = Files.freeBytes(files.folder), free > 2 * used, 2 * used <= diskBytes ?? .max else { return false }
        fit(used, besides: used)
        return true
    }

    /// Removes the oldest snapshots for which `limits.disk` has no room beside the store and what else is to come.
    private func fit(_ used: Int64, besides wanted: Int64) {
        var bytes = used + wanted
        for number in Limits.snapshots where number > 0 {
            // The last of them makes way for a new one anyhow.
            if wanted == 0 || number < keep { bytes += Files.size(files.snapshot(number)) ?? 0 }
            if number > keep || bytes > diskBytes ?? .max { Files.remove(files.snapshot(number)) }
        }
    }

    private func take(_ database: Database, _ meters: Meters, _ removed: Int) -> Bool {
        // In no snapshot's place, and removed with them.
        let fresh = files.snapshot(0)
        let time = clock.wallMilliseconds()
        var begin = now
        let enough = Int(clamping: database.mapBytes >> 15)
        do throws(StoreError) {
            let isTaken = try database.snapshot(to: fresh, at: time) { [self] in
                let mayGoOn = pause(&begin) == removed
                return mayGoOn && (try? database.freePages(atMost: enough)) == enough
            }
            // What is damaged shall not displace what is whole.
            return isTaken && !database.isDamaged && keep(time, removed, meters)
        } catch {
            if case .damaged = error { note(error) }
            Log.warning("a snapshot of the store could not be taken", because: error.message)
            return false
        }
    }

    /// Makes it the newest, unless something was erased meanwhile.
    private func keep(_ time: Int64, _ removed: Int, _ meters: Meters) -> Bool {
        lock.lock()
        defer { lock.unlock() }
        guard removals == removed else {
            Files.remove(files.snapshot(0))
            return false
        }
        do throws(SystemError) {
            for number in stride(from: keep - 1, through: 0, by: -1) {
                let path = files.snapshot(number)
                if Files.exists(path) { try Files.move(path, over: files.snapshot(number + 1)) }
            }
        } catch {
            return false
        }
        meters.snapshotAt.set(time)
        return true
    }
}
