// Who this device is upstream, and the secret under which it hashes: both made at first start and kept.

import Cryptography
import Formats
import Platform
import Store

/// A device's name and the number of its store's life: with a sequence number they name an event in the whole fleet.
public struct DeviceIdentity: Sendable {
    public let device: [UInt8]
    /// Chosen at random when the store was made, so that a device whose store was lost does not repeat numbers.
    public let epoch: UInt64

    /// Reads the identity from the store, making what is missing.
    /// - Parameter configured: the name that the configuration gives; it wins over a made one.
    static func establish<Random: RandomSource>(
        _ database: Database, configured: String?, _ random: inout Random
    ) throws(StoreError) -> DeviceIdentity {
        var transaction = try database.beginWrite()
        let deviceKey = Array("device".utf8)
        let epochKey = Array("epoch".utf8)
        var device: [UInt8] = []
        if let value = try transaction.get(database.tables.meta, deviceKey.span) { device.append(contentsOf: value) }
        if let configured { device = Array(configured.utf8) }
        if device.isEmpty {
            device = Array("gatehouse-".utf8)
            let bytes = random.bytes(6)
            Hex.append(bytes.span, to: &device)
        }
        var epoch: UInt64?
        if let value = try transaction.get(database.tables.meta, epochKey.span) { epoch = NumberKey.decode(value) }
        // 53 bits, so that every JSON reader keeps the number exact.
        let number = epoch ?? random.next() >> 11
        try transaction.put(database.tables.meta, deviceKey.span, device.span)
        try transaction.put(database.tables.meta, epochKey.span, NumberKey(number).bytes.span)
        try transaction.commit()
        return DeviceIdentity(device: device, epoch: number)
    }
}

/// Why the pepper cannot be used.
public enum PepperError: Error {
    case unreadable(path: String, SystemError)
    case wrongLength(path: String)
    case tooOpen(path: String)
    case different(path: String)

    public var message: String {
        switch self {
        case .unreadable(let path, let error): "\(path): \(error.message)"
        case .wrongLength(let path): "\(path): the pepper must be \(Limits.pepperBytes) random bytes"
        case .tooOpen(let path): "\(path): others can read the pepper; run: chmod 600 \(path)"
        case .different(let path):
            "\(path): this is another secret than this device's, so that nobody can be recognised; devices that are to know the same people are given the same pepper"
        }
    }
}

/// The device's secret for keyed hashes.
enum Pepper {
    /// Reads the file, or makes it (mode 0600) when there is none.
    static func load<Random: RandomSource>(_ path: String, _ random: inout Random) throws(PepperError) -> HMACSHA256 {
        if !Files.exists(path) {
            do throws(SystemError) {
                try Files.makeDirectory(Files.parent(path))
                try Files.replace(path, with: random.bytes(Limits.pepperBytes), mode: 0o600)
            } catch {
                throw .unreadable(path: path, error)
            }
        }
        return try read(path)
    }

    /// Reads a file that must be there.
    static func read(_ path: String) throws(PepperError) -> HMACSHA256 {
        if let mode = Files.mode(path), mode & 0o077 != 0 { throw .tooOpen(path: path) }
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try Files.read(path, limitBytes: 4096) } catch {
            throw .unreadable(path: path, error)
        }
        guard bytes.count == Limits.pepperBytes else { throw .wrongLength(path: path) }
        return HMACSHA256(key: bytes)
    }
}
