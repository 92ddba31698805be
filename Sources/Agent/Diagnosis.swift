// What `gatehouse doctor` finds out by itself: what an agent would stumble over, by its configuration and its data folder.

import Cryptography
import Formats
import Monitoring
import Platform
import Store

public enum Diagnosis {
    /// Looks at a device's files. Nothing is written or made.
    /// - Parameters:
    ///   - isRunning: the agent does, so that it has told what it has read.
    ///   - tell: takes what is wrong, by a word, and what to do about it.
    public static func look(
        _ configuration: Configuration, isRunning: Bool, _ tell: (StaticString, String) -> Void
    ) {
        let path = configuration.pepperPath
        let isMissing = !Files.exists(path)
        var peppers = isMissing ? Pepper.none : nil
        if !isMissing {
            do throws(PepperError) { peppers = try Pepper.read(path) } catch { tell("pepper", error.message) }
        }
        if isRunning { return }
        let folder = configuration.data
        let files = StoreFiles(folder)
        if Files.exists(files.crash) || Files.exists(files.damage) {
            tell("store", joined(folder, ": the agent has ended by a fault; its next start looks at the store, and mends it"))
        }
        // Without LMDB's file of locks one would be made, as whoever asks.
        if Files.exists(files.store), Files.exists(joined(folder, "/lock.mdb")) {
            do throws(StoreError) {
                // What LMDB would trust.
                try StoreFile(files.store).check(isDeep: false)
                let database = try Database(reading: folder)
                if let peppers {
                    var reader = try database.makeReader()
                    try reader.begin()
                    if try Pepper.isAnother(peppers, than: reader) {
                        tell("pepper", PepperError.notOfStore(path: path, isMissing: isMissing).message)
                    }
                }
            } catch {
                tell("store", joined(folder, ": ", error.message))
            }
        }
        do throws(StartError) { _ = try BundleKeeper.offline(configuration) } catch { tell("bundle", error.message) }
        if let identity = configuration.ownIdentity {
            do throws(TLSError) { _ = try TLSServerConfiguration(identity: identity) } catch {
                tell("certificate", error.message)
            }
        }
    }

    /// What a problem that the agent names means, and what to do; empty for none of this version's.
    public static func advice(on problem: Span<UInt8>) -> StaticString {
        for (number, word) in Problem.words.enumerated() where equal(problem, word.bytes) { return Problem.advice[number] }
        return ""
    }
}
