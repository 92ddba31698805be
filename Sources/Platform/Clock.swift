// Time and chance come into the house here and nowhere else, so that a test can be both.

import CPlatform

/// Where the time comes from.
public protocol Clock {
    /// Milliseconds since 1970-01-01T00:00:00Z. May jump when the device's clock is set.
    func wallMilliseconds() -> Int64
    /// Nanoseconds since an arbitrary moment; never goes back.
    func monotonicNanoseconds() -> Int64
}

/// The kernel's clocks.
public struct SystemClock: Clock, Sendable {
    public init() {}
    public func wallMilliseconds() -> Int64 { cp_wall_milliseconds() }
    public func monotonicNanoseconds() -> Int64 { cp_monotonic_nanoseconds() }
}

/// Lets this thread rest.
public func sleep(milliseconds: Int64) { cp_sleep_nanoseconds(milliseconds * 1_000_000) }

/// Where unpredictable numbers come from.
public protocol RandomSource {
    mutating func next() -> UInt64
}

/// The kernel's generator (getrandom(2)).
public struct SystemRandom: RandomSource, Sendable {
    public init() {}
    public mutating func next() -> UInt64 {
        var number: UInt64 = 0
        // Eight bytes into a local: up to 256 bytes arrive whole or not at all (getrandom(2)).
        while withUnsafeMutableBytes(of: &number, { getrandom($0.baseAddress, 8, 0) }) != 8 {}
        return number
    }
}

/// A reproducible source for tests and simulations (the SplitMix64 generator).
public struct SeededRandom: RandomSource, Sendable {
    private var state: UInt64
    public init(seed: UInt64) { state = seed }
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// One of the two above. What is used with either is compiled for this type, and so only once.
public enum Chance: RandomSource, Sendable {
    case kernel
    case seeded(SeededRandom)

    public mutating func next() -> UInt64 {
        guard case .seeded(var source) = self else {
            var source = SystemRandom()
            return source.next()
        }
        let number = source.next()
        self = .seeded(source)
        return number
    }
}

extension RandomSource {
    /// A number in `0 ..< bound`; `bound` is positive.
    public mutating func next(below bound: UInt64) -> UInt64 { next().multipliedFullWidth(by: bound).high }

    /// `count` unpredictable bytes.
    public mutating func bytes(_ count: Int) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(count)
        while result.count < count {
            var number = next()
            for _ in 0..<min(8, count - result.count) {
                result.append(UInt8(truncatingIfNeeded: number))
                number >>= 8
            }
        }
        return result
    }
}
