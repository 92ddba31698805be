// Who this device is upstream: made at first start and kept.

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
