// What certificates are held against while a device's clock is wrong: many have no battery and begin in 1970 at each boot.
// That is never a reason not to verify: time is not before this program was built, nor before it was last known. It need
// not know where that is kept.

import Cryptography
import Platform
import Synchronization

/// The least that the time can be, in seconds since 1970. Any thread may ask and raise it.
public final class ClockFloor: Sendable {
    private let floor: Atomic<Int64>

    /// - Parameter kept: when the time was last known, seconds since 1970; 0: never.
    public init(kept: Int64 = 0) { floor = Atomic(max(kept, buildTime)) }

    public var seconds: Int64 { floor.load(ordering: .relaxed) }

    /// A verified server and this device's clock were asked the time at once. Where they agree to within a day, time will
    /// not be before this again. One alone would not do: a clock that is years ahead for an hour would make every
    /// certificate seem expired ever after.
    /// - Parameters:
    ///   - clock: seconds since 1970 by the device's clock.
    ///   - server: by the server's (the field Date of its answer).
    func learn(clock: Int64, server: Int64) {
        guard abs(clock - server) <= Limits.clocksAgreeSeconds, clock > seconds else { return }
        floor.store(clock, ordering: .relaxed)
    }
}

extension Clock {
    /// Seconds since 1970, as certificates are held against them.
    func seconds(notBefore floor: ClockFloor) -> Int64 { max(wallMilliseconds() / 1000, floor.seconds) }
}
