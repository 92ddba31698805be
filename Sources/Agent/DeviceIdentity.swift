// Who this device is upstream: made at first start and kept.

import Formats
import Platform
import Store

/// A device's name and the number of its store's life: with a sequence number they name an event in the whole fleet.
public struct DeviceIdentity: Sendable {
    public let device: [UInt8]
    /// Chosen at random when the store was made, so that a device whose store was lost does not repeat numbers.
    public let epoch: UInt64
    /// A store that took the place of one which had gone on from it begins to count anew: from which number on, and the epoch
    /// of what it counts, oldest first. Without them a number could name two events.
    var lives: [(from: UInt64, epoch: UInt64)] = []

    /// The epoch that goes with a sequence number.
    func epoch(of sequence: UInt64) -> UInt64 {
        for life in lives.reversed() where sequence >= life.from { return life.epoch }
        return epoch
    }

    static let livesKey: [UInt8] = Array("lives".utf8)

    /// Begins to count anew with the next event.
    static func beginLife<Random: RandomSource>(
        from sequence: UInt64, _ random: inout Random, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        var record: [UInt8] = []
        // Of those before the last 64 nothing is on its way any more.
        let key = livesKey
        if let value = try transaction.get(transaction.tables.meta, key.span) {
            record = [UInt8](copying: value.extracting(max(0, value.count - 63 * 16)..<value.count))
        }
        for number in [sequence, random.next() >> 11] { record.append(contentsOf: NumberKey(number).bytes.span) }
        try transaction.put(transaction.tables.meta, key.span, record.span)
    }

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
        var identity = DeviceIdentity(device: device, epoch: number)
        let lives = livesKey
        if let value = try transaction.get(database.tables.meta, lives.span) {
            for offset in stride(from: 0, to: value.count - 15, by: 16) {
                let (from, epoch) = (value.extracting(offset..<offset + 8), value.extracting(offset + 8..<offset + 16))
                identity.lives.append((NumberKey.decode(from) ?? 0, NumberKey.decode(epoch) ?? 0))
            }
        }
        try transaction.commit()
        return identity
    }
}
