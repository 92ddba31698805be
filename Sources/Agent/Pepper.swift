// The file of the device's secrets for keyed hashes: made at first start, and changed by a rotation. What is hashed with
// them is for others to know.

import Cryptography
import Governance
import Platform
import Store
import Unification

/// Why the pepper cannot be used.
public enum PepperError: Error {
    case unreadable(path: String, SystemError)
    case wrongLength(path: String)
    case tooOpen(path: String)
    case different(path: String)
    /// `isMissing`: there is no file.
    case notOfStore(path: String, isMissing: Bool)
    case rotating(path: String)

    public var message: String {
        @inline(never) get {
            let (path, words): (String, String) =
                switch self {
                case .unreadable(let path, let error): (path, error.message)
                case .wrongLength(let path): (path, joined("the pepper must be ", String(Limits.pepperBytes), " random bytes"))
                case .tooOpen(let path): (path, joined("others can read the pepper; run: chmod 600 ", path))
                case .different(let path):
                    (
                        path,
                        "this is another secret than this device's, so that nobody can be recognised; devices that are to know the same people are given the same pepper"
                    )
                case .notOfStore(let path, let isMissing):
                    (
                        path,
                        joined(
                            isMissing ? "there is no such file, and it had" : "this is not",
                            " the secret that the store was written with, without which nobody in it is recognised: put it back, or move the data folder away to begin anew"
                        )
                    )
                case .rotating(let path): (path, "a rotation of the pepper is under way; this has to wait for its end")
                }
            return joined(path, ": ", words)
        }
    }
}

/// The secrets in the file: the pepper; after the first rotation the root as well; and while one lasts the former pepper,
/// each of 32 bytes. A file is always replaced whole, so that a power cut leaves the old one or the new.
enum Pepper {
    /// Reads the file, or makes it (mode 0600) when there is none.
    static func load<Random: RandomSource>(_ path: String, _ random: inout Random) throws(PepperError) -> Peppers {
        if !Files.exists(path) {
            do throws(SystemError) { try Files.makeDirectory(Files.parent(path)) } catch {
                throw .unreadable(path: path, error)
            }
            try replace(path, random.bytes(Limits.pepperBytes))
        }
        return try read(path)
    }

    /// Whether a store was written with another secret, as far as it says.
    static func isAnother(_ peppers: Peppers, than reader: borrowing Reader) throws(StoreError) -> Bool {
        if try AuditLog.isOfAnother(peppers.root, in: reader) { return true }
        return try Rotation.isOfAnother(peppers, in: reader)
    }

    /// In the place of one that is missing: whatever has been written with a secret was written with another.
    static var none: Peppers { Peppers(key: [UInt8](repeating: 0, count: Limits.pepperBytes)) }

    /// Reads a file that must be there.
    static func read(_ path: String) throws(PepperError) -> Peppers {
        let bytes = try secrets(path)
        let size = Limits.pepperBytes
        if bytes.count == size { return Peppers(key: bytes) }
        let all = bytes.span
        return Peppers(
            present: HMACSHA256(key: all.extracting(0..<size)),
            former: bytes.count == 3 * size ? HMACSHA256(key: all.extracting(2 * size..<3 * size)) : nil,
            root: HMACSHA256(key: all.extracting(size..<2 * size)))
    }

    /// Makes a new pepper, and the present one the former.
    static func rotate<Random: RandomSource>(_ path: String, _ random: inout Random) throws(PepperError) {
        let old = try secrets(path)
        let size = Limits.pepperBytes
        if old.count == 3 * size { throw .rotating(path: path) }
        var bytes = random.bytes(size)
        if old.count == size {
            Peppers.root(of: old).append(to: &bytes)
        } else {
            bytes.append(contentsOf: old[size...])
        }
        bytes.append(contentsOf: old[0..<size])
        try replace(path, bytes)
    }

    /// Deletes the former pepper, which nothing is hashed under any more.
    static func dropFormer(_ path: String) {
        do throws(PepperError) {
            let bytes = try secrets(path)
            if bytes.count == 3 * Limits.pepperBytes { try replace(path, Array(bytes[0..<2 * Limits.pepperBytes])) }
            Log.info("the rotation of the pepper is over; the former one is deleted")
        } catch {
            Log.error("the former pepper cannot be deleted; the next start tries again") {
                $0.field("reason", error.message)
            }
        }
    }

    private static func secrets(_ path: String) throws(PepperError) -> [UInt8] {
        if let mode = Files.mode(path), mode & 0o077 != 0 { throw .tooOpen(path: path) }
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try Files.read(path, limitBytes: 4096) } catch {
            throw .unreadable(path: path, error)
        }
        let size = Limits.pepperBytes
        guard bytes.count == size || bytes.count == 2 * size || bytes.count == 3 * size else {
            throw .wrongLength(path: path)
        }
        return bytes
    }

    private static func replace(_ path: String, _ bytes: [UInt8]) throws(PepperError) {
        do throws(SystemError) { try Files.replace(path, with: bytes, mode: 0o600) } catch {
            throw .unreadable(path: path, error)
        }
    }
}
