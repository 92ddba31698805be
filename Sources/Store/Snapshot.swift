// A snapshot: the whole store in one file, as one commit left it, behind it a seal that tells whether any byte of it has
// changed since. It can take the place of a store as it is; that begins with whoever opens it (`Snapshot.mark`).
//
//   …  the store's file      48 bytes: "GHSNAP01", time (milliseconds since the epoch), SHA-256 of all before the hash

import Cryptography
import Formats
import Platform

public enum Snapshot {
    /// The key in `meta` of a store that is a snapshot's: when that was taken, milliseconds since the epoch. Whoever takes the
    /// store into use removes it, and sees to it that nothing is done twice, or comes back that was taken away since.
    public static let mark: [UInt8] = Array("snapshot".utf8)

    private static let magic: [UInt8] = Array("GHSNAP01".utf8)
    private static let sealBytes = 48
    private static let digestBytes = Digest256.byteCount

    /// Puts the seal behind a file and makes both durable.
    static func seal(_ path: String, at time: Int64) throws(StoreError) {
        do throws(SystemError) {
            var seal = magic
            for shift in 0..<8 { seal.append(UInt8(truncatingIfNeeded: time >> Int64(8 * shift))) }
            let hash = try hash(path, bytes: Files.size(path) ?? 0, seal)
            hash.digest().append(to: &seal)
            try Files.append(seal.span, to: path)
        } catch {
            throw StoreError(error)
        }
    }

    /// When the snapshot in a file was taken, milliseconds since the epoch; nil where there is none.
    /// - Parameter isWhole: its bytes are read and held against the seal as well; nil if any has changed.
    public static func time(of path: String, isWhole: Bool) -> Int64? {
        do throws(SystemError) {
            let bytes = (Files.size(path) ?? 0) - Int64(sealBytes)
            if bytes <= 0 { return nil }
            let file = try Files.open(path)
            let seal = try Files.read(file, from: bytes, sealBytes)
            let hashed = sealBytes - digestBytes
            guard seal.count == sealBytes, seal.starts(with: magic) else { return nil }
            if isWhole {
                let digest = try hash(path, bytes: bytes, Array(seal[0..<hashed])).digest()
                if Digest256(seal.span.extracting(hashed..<sealBytes)) != digest { return nil }
            }
            return Int64(bitPattern: UInt64(littleEndianAt: magic.count, of: seal.span))
        } catch {
            return nil
        }
    }

    @inline(never)
    private static func hash(_ path: String, bytes: Int64, _ last: [UInt8]) throws(SystemError) -> SHA256 {
        var hash = SHA256()
        let file = try Files.open(path)
        var buffer = [UInt8](repeating: 0, count: 65_536)
        var left = bytes
        while left > 0 {
            let count = min(try readSome(file.raw, into: &buffer), Int(clamping: left))
            if count == 0 { break }
            hash.update(buffer.span.extracting(0..<count))
            left -= Int64(count)
        }
        hash.update(last.span)
        return hash
    }
}
