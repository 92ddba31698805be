// Keeps in the store when the time was last known, for certificates after a boot with a clock that begins anew.

import Delivery
import Formats
import Platform
import Store

extension ClockFloor {
    private static var key: [UInt8] { Array("known_time".utf8) }

    /// What an earlier run has kept.
    static func read(_ transaction: borrowing WriteTransaction) throws(StoreError) -> ClockFloor {
        guard let bytes = try transaction.get(transaction.tables.meta, key.span),
            let numbers = Record.decode(bytes, count: 1)
        else { return ClockFloor() }
        return ClockFloor(kept: Int64(truncatingIfNeeded: numbers[0]))
    }

    /// Writes it beside what is committed anyway, where it has become much later.
    /// - Parameter kept: what the store has, seconds since 1970.
    func keep(_ kept: inout Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        let now = seconds
        if now - kept < Limits.knownTimeSeconds { return }
        try transaction.put(transaction.tables.meta, ClockFloor.key.span, Record.encode([UInt64(now)]).span)
        kept = now
    }

    /// Says so where the clock of the device is wrong. Nothing else is done about it here: it is for the system to set.
    func warn(_ clock: Int64) {
        if clock >= seconds { return }
        Log.warning("the clock of this device is behind: until it is set, the last time known holds for certificates") {
            $0.field("clock", String(decoding: Timestamp.write(clock * 1000), as: UTF8.self))
            $0.field("known", String(decoding: Timestamp.write(self.seconds * 1000), as: UTF8.self))
        }
    }
}
