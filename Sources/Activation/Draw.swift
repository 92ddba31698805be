// What chance decides: which variant of a split a person gets, who is held out, who is in which part of a group. Each
// draw is a function of the person's seed and of names in the bundle, in whole numbers: the same on every device, after
// every restart and on every processor. It need not know people nor rules.

import Formats

/// Weighted variants. A person gets the one whose clock rings first: each clock runs as fast as its variant's weight
/// (exponential races, the idea of weighted rendezvous hashing). So a variant's share is its weight's share of all, and when
/// weights change, a person moves only to a variant whose weight has risen against that of the one that is left.
struct Split: Sendable {
    struct Share: Sendable {
        let variant: Int
        /// Of the variant's name: where it stands in the list does not matter.
        let tag: UInt32
        let weight: UInt64
    }

    let shares: [Share]

    /// - Parameter seed: of the person in this decision, see `Draw.seed`.
    func variant(_ seed: UInt64) -> Int {
        var best = shares[0]
        var bestTime: UInt64?
        for share in shares where share.weight > 0 {
            let time = Draw.exponential(Draw.mix(seed ^ UInt64(share.tag) << 17))
            // time / weight is when the clock rings.
            if let earliest = bestTime,
                time.multipliedFullWidth(by: best.weight) >= earliest.multipliedFullWidth(by: share.weight)
            {
                continue
            }
            (best, bestTime) = (share, time)
        }
        return best.variant
    }
}

/// A part of the people of a group: those whose point lies in it. Experiments in parts that do not overlap never meet.
struct Slice: Equatable, Sendable {
    /// Of the group's name.
    let tag: UInt32
    /// Percent of the group, from and up to.
    let from: UInt64
    let to: UInt64

    /// - Parameter person: the person's seed, whatever the decision.
    func contains(_ person: UInt64) -> Bool {
        let point = Draw.percent(Draw.mix(person ^ 0x67_726F_7570 ^ UInt64(tag) << 24))
        return point >= from && point < to
    }

    func overlaps(_ other: Slice) -> Bool { tag == other.tag && from < other.to && other.from < to }
}

enum Draw {
    /// A person's seed in one decision, independent of that in any other.
    static func seed(_ person: UInt64, decision tag: UInt32) -> UInt64 { mix(person ^ UInt64(tag) << 16) }

    /// Whether a person is held out, independent of the variant that they would get.
    static func isHeldOut(_ seed: UInt64, percent: UInt64) -> Bool {
        percent > 0 && Draw.percent(mix(seed ^ 0x686F_6C64)) < percent
    }

    /// 0…99.
    static func percent(_ random: UInt64) -> UInt64 { random.multipliedFullWidth(by: 100).high }

    /// Spreads 64 bits (the finaliser of SplitMix64).
    static func mix(_ seed: UInt64) -> UInt64 {
        var z = seed &+ 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// An exponentially distributed number made of a uniform one: its logarithm to base 2, negated, in units of 2^-32. Without
    /// floating point, whose logarithms differ between processors and libraries. A digit of the fraction at a time: squared, a
    /// number between 1 and 2 is 2 or more when its logarithm has that digit.
    static func exponential(_ random: UInt64) -> UInt64 {
        let uniform = random | 1
        let zeros = uniform.leadingZeroBitCount
        var mantissa = uniform << UInt64(zeros)
        var fraction: UInt64 = 0
        for _ in 0..<32 {
            let square = mantissa.multipliedFullWidth(by: mantissa)
            fraction <<= 1
            // Of mantissa / 2^63, a number from 1 to 2, the square stands at twice the places.
            if square.high >> 63 == 1 {
                fraction |= 1
                mantissa = square.high
            } else {
                mantissa = square.high << 1 | square.low >> 63
            }
        }
        return (UInt64(zeros) + 1) << 32 - fraction
    }
}
