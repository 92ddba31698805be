// What an operator does with a device's store from the command line: holding the audit log against its chain, printing
// it, and writing the store anew. The agent may run while something is only looked at.

import Cryptography
import Formats
import Governance
import Platform
import Store
import Unification

/// Why it could not be done: one line for a person.
public struct UpkeepError: Error {
    public let message: String
    /// 1 the input is wrong, 3 the device failed.
    public let exitCode: Int32

    @inline(never)
    init(_ error: StoreError, _ folder: String) { self.init(joined(folder, ": ", error.message)) }
    init(_ error: PepperError) { self.init(error.message) }
    init(_ message: String, exitCode: Int32 = 3) {
        self.message = message
        self.exitCode = exitCode
    }
}

public enum Upkeep {
    /// Holds every line of the audit log against its chain.
    /// - Returns: whether all is as it was written, and a sentence about it.
    /// - Parameter pepper: the file with the device's secret.
    public static func verifyAudit(
        folder: String, pepper path: String
    ) throws(UpkeepError) -> (isIntact: Bool, words: String) {
        let pepper: Peppers
        do throws(PepperError) { pepper = try Pepper.read(path) } catch { throw UpkeepError(error) }
        do throws(StoreError) {
            let database = try Database(reading: folder)
            var reader = try database.makeReader()
            try reader.begin()
            switch try AuditLog.verify(reader, root: pepper.root) {
            case .intact(let first, let last):
                let lines = last < first ? "no lines yet" : joined("lines ", String(first), " to ", String(last))
                return (true, joined("the audit log is intact: ", lines))
            case .altered(let number):
                let line = joined("the audit log was changed: line ", String(number))
                return (false, joined(line, " was altered, or one before it was removed"))
            case .missing(let number):
                return (false, joined("the audit log was changed: lines from ", String(number), " on were removed"))
            case .noEnds:
                return (false, "the audit log was changed: where it begins and ends is damaged or was removed")
            }
        } catch {
            throw UpkeepError(error, folder)
        }
    }

    /// Makes a new pepper. An agent takes it up when it is started again.
    public static func rotatePepper(_ configuration: Configuration) throws(UpkeepError) {
        var random = SystemRandom()
        do throws(PepperError) { try Pepper.rotate(configuration.pepperPath, &random) } catch { throw UpkeepError(error) }
    }

    /// What tells the pepper of a fleet from others, 32 hexadecimal digits.
    public static func fingerprint(_ configuration: Configuration) throws(UpkeepError) -> [UInt8] {
        do throws(PepperError) { return Fleet.fingerprint(of: try Pepper.read(configuration.pepperPath)) } catch {
            throw UpkeepError(error)
        }
    }

    /// Ends the rotation that is under way at once: who was not seen is forgotten, refusals and erasures as well. The
    /// agent, which must not run, does it at its next start.
    public static func forgetFormerPepper(_ configuration: Configuration) throws(UpkeepError) {
        let peppers: Peppers
        do throws(PepperError) { peppers = try Pepper.read(configuration.pepperPath) } catch { throw UpkeepError(error) }
        if peppers.former == nil { throw UpkeepError("there is no rotation of the pepper under way") }
        do throws(StoreError) {
            let database = try Database(
                folder: configuration.data, mapBytes: configuration.diskBytes ?? Store.Limits.defaultMapBytes)
            var transaction = try database.beginWrite()
            var rotation = try Rotation(peppers, now: SystemClock().wallMilliseconds(), in: &transaction)
            try rotation.force(&transaction)
            try transaction.commit()
        } catch {
            throw UpkeepError(error, configuration.data)
        }
    }

    /// Calls `print` with each line of the audit log, oldest first: a JSON object.
    public static func forEachAuditLine(folder: String, _ print: ([UInt8]) -> Void) throws(UpkeepError) {
        do throws(StoreError) {
            let database = try Database(reading: folder)
            var reader = try database.makeReader()
            var next: UInt64? = 0
            while let first = next {
                next = nil
                var lines: [[UInt8]] = []
                var last: UInt64 = 0
                try reader.begin()
                try AuditLog.forEachLine(from: first, reader) { number, line in
                    lines.append([UInt8](copying: line))
                    // A number that a damaged disk has altered says nothing about where to go on.
                    let isNext = number == last &+ 1 && number >= first
                    if lines.count >= Limits.sweptPerStep, isNext { next = number &+ 1 }
                    last = number
                    return next == nil
                }
                // Nothing is held while somebody reads page by page: what the agent frees meanwhile it could not take again.
                reader.end()
                for line in lines { print(line) }
            }
        } catch {
            throw UpkeepError(error, folder)
        }
    }

    /// Writes the store anew, without anything that was deleted or overwritten; the agent must not run.
    /// - Returns: the file's bytes before and after.
    public static func compact(folder: String) throws(UpkeepError) -> (before: Int64, after: Int64) {
        do throws(StoreError) {
            let lock = try StoreLock(folder)
            let sizes = try Database.compact(folder: folder, lock)
            // They may have what was deleted.
            StoreFiles(folder).removeCopies()
            return sizes
        } catch {
            throw UpkeepError(error, folder)
        }
    }

    /// Holds every page of the store against the others, and every row against its checksum, or a backup against its seal as
    /// well. The agent may run.
    /// - Returns: the entries of all tables.
    @inline(never)
    public static func check(folder: String, backup: String?, withRows: Bool = true) throws(UpkeepError) -> UInt64 {
        let path = backup ?? StoreFiles(folder).store
        if !Files.exists(path) { throw UpkeepError(joined(path, ": there is no such file"), exitCode: 1) }
        do throws(StoreError) {
            _ = try StoreFile(path)
            if backup != nil, Snapshot.time(of: path, isWhole: true) == nil { throw .damaged("its seal does not fit") }
            return try countEntries(path, besideAgent: backup == nil && Database.isInUse(folder) ? folder : nil, withRows)
        } catch {
            if case .damaged(let words) = error { throw UpkeepError(joined(path, ": it is damaged: ", words.text), exitCode: 1) }
            throw UpkeepError(error, path)
        }
    }

    /// Looks at all pages of a store, which an agent may be writing in that folder.
    private static func countEntries(
        _ path: String, besideAgent folder: String?, _ withRows: Bool
    ) throws(StoreError) -> UInt64 {
        try StoreFile(path).check(isDeep: false)
        guard let folder else { return try StoreFile(path).check(isDeep: true, withRows: withRows) }
        // No page that the snapshot can see is used again meanwhile, and what is read here is no older.
        let database = try Database(reading: folder)
        var reader = try database.makeReader()
        try reader.begin()
        return try StoreFile(path).check(isDeep: true, withRows: withRows)
    }

    /// Copies the store as it is at one moment into a file that is not there yet; the agent may run and write.
    /// - Parameter path: the file, or a folder in which it gets the time as its name.
    /// - Returns: the file and its bytes.
    @inline(never)
    public static func backup(folder: String, to path: String) throws(UpkeepError) -> (path: String, bytes: Int64) {
        let now = SystemClock().wallMilliseconds()
        let file = Files.isFolder(path) ? joined(path, "/gatehouse-", String(now), ".mdb") : path
        do throws(StoreError) {
            if !Files.exists(file) {
                try StoreFile(StoreFiles(folder).store).check(isDeep: false)
                let isTaken = try Database(reading: folder).snapshot(to: file, at: now) { !Files.exists(file) }
                if isTaken { return (file, Files.size(file) ?? 0) }
            }
        } catch {
            throw UpkeepError(error, folder)
        }
        throw UpkeepError(joined(file, " is there already: name another file"), exitCode: 1)
    }

    /// Puts a backup in the place of the store, which stays beside it as `aside.mdb`; the agent must not run.
    @inline(never)
    public static func restore(folder: String, from path: String) throws(UpkeepError) {
        let files = StoreFiles(folder)
        // One damaged row is no reason to keep all others from coming back.
        _ = try check(folder: folder, backup: path, withRows: false)
        do throws(StoreError) {
            let lock = try StoreLock(folder)
            defer { withExtendedLifetime(lock) {} }
            let fresh = files.snapshot(0)
            Files.remove(fresh)
            do throws(SystemError) { try Files.copy(path, to: fresh, mode: 0o600) } catch {
                Files.remove(fresh)
                throw StoreError(error)
            }
            try files.replaceStore(with: fresh)
        } catch {
            throw UpkeepError(error, path)
        }
    }
}
