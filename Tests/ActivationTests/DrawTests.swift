// Shows that what chance decides is fair, independent, sticky, and moves only the people it must: over up to a million
// people made up by their seeds, against the limits of a sampling error that a fair draw passes once in a million times.

import Formats
import Testing

@testable import Activation

@Suite struct DrawTests {
    private let people = 1_000_000

    private func split(_ weights: KeyValuePairs<String, UInt64>) -> Split {
        var shares: [Split.Share] = []
        for (index, (name, weight)) in weights.enumerated() {
            let name = Array(name.utf8)
            shares.append(Split.Share(variant: index, tag: NameTag.of(name.span), weight: weight))
        }
        return Split(shares: shares)
    }

    /// The seed of somebody, as an HMAC's first bytes are.
    private func person(_ number: Int) -> UInt64 { Draw.mix(UInt64(number) &* 0xD134_2543_DE82_EF95) }

    /// Five standard deviations.
    private func isFair(_ count: Int, of total: Int, _ share: Double) -> Bool {
        let expected = Double(total) * share
        return abs(Double(count) - expected) < 5 * (expected * (1 - share)).squareRoot()
    }

    @Test func aSplitIsFairAndExperimentsAreIndependent() {
        let (first, second) = (split(["a": 70, "b": 20, "c": 10]), split(["x": 1, "y": 1]))
        var (counts, both, held) = ([0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0])
        for number in 0..<people {
            let one = Draw.seed(person(number), decision: 0x1234_5678)
            let variant = first.variant(one)
            counts[variant] += 1
            both[variant * 2 + second.variant(Draw.seed(person(number), decision: 0x8765_4321))] += 1
            if Draw.isHeldOut(one, percent: 5) { held[variant] += 1 }
        }
        for (variant, share) in [0.7, 0.2, 0.1].enumerated() {
            #expect(isFair(counts[variant], of: people, share))
            #expect(isFair(both[variant * 2], of: counts[variant], 0.5), "of another experiment as many get x")
            #expect(isFair(held[variant], of: counts[variant], 0.05), "as many are held out of each variant")
        }
    }

    @Test func whenWeightsChangeOnlyThoseMoveWhoMust() {
        let before = split(["a": 50, "b": 30, "c": 20])
        for (weights, mustMove) in [
            (["a": 60, "b": 30, "c": 20] as KeyValuePairs<String, UInt64>, 60.0 / 110 - 0.5), (["a": 50, "b": 30, "c": 0], 0.2),
            (["c": 20, "a": 50, "b": 30], 0), (["a": 100, "b": 60, "c": 40], 0), (["a": 50, "b": 30, "c": 20, "d": 25], 0.2),
        ] {
            let after = split(weights)
            let names = weights.map(\.key)
            var moved = 0
            let people = 100_000
            for number in 0..<people {
                let (old, new) = (["a", "b", "c"][before.variant(person(number))], names[after.variant(person(number))])
                if old == new { continue }
                moved += 1
                // Towards a weight that has risen against that of the one that is left.
                let was = ["a": 50.0, "b": 30, "c": 20, "d": 0]
                let now = Dictionary(uniqueKeysWithValues: weights.map { ($0.key, Double($0.value)) })
                #expect((now[new] ?? 0) * (was[old] ?? 0) > (now[old] ?? 0) * (was[new] ?? 0))
            }
            #expect(mustMove == 0 ? moved == 0 : isFair(moved, of: people, mustMove), "\(weights): \(moved)")
        }
    }

    @Test func aLargerHoldoutKeepsWhomASmallerOneHeld() {
        for number in 0..<10_000 where Draw.isHeldOut(person(number), percent: 5) {
            #expect(Draw.isHeldOut(person(number), percent: 6))
        }
        #expect(!(0..<1000).contains { Draw.isHeldOut(person($0), percent: 0) })
        #expect((0..<1000).allSatisfy { Draw.isHeldOut(person($0), percent: 100) })
    }

    @Test func partsOfAGroupNeverMeet() {
        let (low, high) = (Slice(tag: 7, from: 0, to: 40), Slice(tag: 7, from: 40, to: 70))
        let other = Slice(tag: 8, from: 0, to: 50)
        var (lows, highs, others) = (0, 0, 0)
        let people = 100_000
        for number in 0..<people {
            let (one, two) = (low.contains(person(number)), high.contains(person(number)))
            #expect(!(one && two))
            if one { lows += 1 }
            if two { highs += 1 }
            if one, other.contains(person(number)) { others += 1 }
        }
        #expect(isFair(lows, of: people, 0.4) && isFair(highs, of: people, 0.3) && isFair(others, of: lows, 0.5))
    }

    /// The same on every processor and in every version: these were computed with Python's integers.
    @Test func logarithmsAreWholeNumbers() {
        #expect(Draw.exponential(1 << 63) == 4_294_967_295 || Draw.exponential(1 << 63) == 1 << 32)
        #expect(Draw.exponential(.max) == 1)
        #expect(Draw.exponential(1) == 64 << 32)
        for (random, logarithm) in [(0.75, 0.4150374992788438), (0.1, 3.321928094887362), (0.3, 1.736965594166206)] {
            let exact = Draw.exponential(UInt64(random * 18_446_744_073_709_551_616))
            #expect(abs(Double(exact) / 4_294_967_296 - logarithm) < 1e-9)
        }
    }
}
