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

    init(_ error: StoreError, _ folder: String) { self.init("\(folder): \(error.message)") }
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
                return (true, last < first ? "the audit log is intact: no lines yet" : "the audit log is intact: lines \(first) to \(last)")
            case .altered(let number):
                return (false, "the audit log was changed: line \(number) was altered, or one before it was removed")
            case .missing(let number):
                return (false, "the audit log was changed: lines from \(number) on were removed")
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
            try reader.begin()
            try AuditLog.forEachLine(from: 0, reader) { _, line in
                print([UInt8](copying: line))
                return true
            }
        } catch {
            throw UpkeepError(error, folder)
        }
    }

    /// Writes the store anew, without anything that was deleted or overwritten; the agent must not run.
    /// - Returns: the file's bytes before and after.
    public static func compact(folder: String) throws(UpkeepError) -> (before: Int64, after: Int64) {
        do throws(StoreError) { return try Database.compact(folder: folder) } catch { throw UpkeepError(error, folder) }
    }
}
