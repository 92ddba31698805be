// Shows that what is said of rates is right: against SciPy 1.17 (`beta.ppf`; ratios by `quad` over `beta.pdf` and `beta.cdf`,
// and `brentq`).

import Testing

@testable import Activation

private struct Row: Sendable, CustomTestStringConvertible {
    /// Conversions and people of the control and of the arm.
    let control: (Int, Int)
    let arm: (Int, Int)
    /// Percentiles 2.5 and 97.5 of the arm's rate; 2.5, 50 and 97.5 of its ratio to the control's; the probability that it is
    /// higher.
    let rate: (Double, Double)
    let ratio: (Double, Double, Double)
    let better: Double
    var testDescription: String { "\(arm) against \(control)" }
}

@Suite struct PosteriorTests {
    private static let rows = [
        Row(control: (0, 0), arm: (0, 0), rate: (0.025, 0.975), ratio: (0.05, 1, 20), better: 0.5),
        Row(
            control: (0, 1), arm: (1, 1), rate: (0.15811388300841897, 0.9874208829065749),
            ratio: (0.3872983346207417, 2.2152504370217514, 52.95565887083457), better: 0.8333333333333334),
        Row(
            control: (3, 10), arm: (1, 12), rate: (0.019206671982528477, 0.3602974352678775),
            ratio: (0.05441706950189239, 0.3945156249178479, 1.7629918155659041), better: 0.11180124223602517),
        Row(
            control: (0, 50), arm: (0, 70), rate: (0.00035652527460338913, 0.0506294079544037),
            ratio: (0.018763983360215855, 0.720296331610363, 27.647850177314893), better: 0.4180327868852458),
        Row(
            control: (51, 1012), arm: (612, 9481), rate: (0.059780847798874756, 0.0696770511501),
            ratio: (0.9722524315144796, 1.2671983079954137, 1.691506302334822), better: 0.959413950472882),
        Row(
            control: (0, 100_000), arm: (3, 90_000), rate: (1.2109609217757263e-05, 9.740994177625946e-05),
            ratio: (0.7334975017868555, 5.872455445376196, 174.99624039477544), better: 0.9496577302019973),
        Row(
            control: (500_000, 1_000_000), arm: (501_000, 1_000_000), rate: (0.5000200177495148, 0.5019799744618965),
            ratio: (0.9992292616392803, 1.0019999966653381, 1.0047784248680067), better: 0.9213504051228234),
        Row(
            control: (200, 200), arm: (199, 200), rate: (0.9725935701965897, 0.9987926989885071),
            ratio: (0.976127432924398, 0.9957229543868991, 1.0115089490453775), better: 0.2493765586034825),
        Row(
            control: (30, 40), arm: (20, 40), rate: (0.351342393817416, 0.6486576061825841),
            ratio: (0.4607022252853916, 0.6765735330451306, 0.9456135123930902), better: 0.01101878503365239),
    ]

    /// As exactly as the README says: bounds to 0.1 % of themselves, probabilities to 0.0001.
    @Test(arguments: rows) fileprivate func itIsAsSciPySays(_ row: Row) {
        let control = Posterior(conversions: row.control.0, people: row.control.1)
        let arm = Posterior(conversions: row.arm.0, people: row.arm.1)
        for (seen, expected) in [
            (arm.quantile(0.025), row.rate.0), (arm.quantile(0.975), row.rate.1),
            (arm.ratio(to: control, 0.025), row.ratio.0), (arm.ratio(to: control, 0.5), row.ratio.1),
            (arm.ratio(to: control, 0.975), row.ratio.2),
        ] {
            #expect(abs(seen / expected - 1) < 0.001, "\(seen), expected \(expected)")
        }
        #expect(abs(1 - arm.probability(atMost: 1, times: control) - row.better) < 0.0001)
    }

    /// Where all or nobody converted, and where there are more people than a device will ever see.
    @Test func theEndsAreBounds() {
        for people in [1, 10, 10_000, 10_000_000] {
            let (none, all) = (Posterior(conversions: 0, people: people), Posterior(conversions: people, people: people))
            for share in [0.001, 0.025, 0.5, 0.975, 0.999] {
                #expect(none.quantile(share) > 0 && none.quantile(share) < 1)
                #expect(abs(none.quantile(share) + all.quantile(1 - share) - 1) < 1e-4)
                // Beta(1, n + 1) and Beta(n + 1, 1) are powers.
                #expect(none.ratio(to: all, share) < 1 || people == 1)
            }
            #expect(none.probability(atMost: 1, times: all) > all.probability(atMost: 1, times: none))
        }
        let few = Posterior(conversions: 3, people: 10)
        let many = Posterior(conversions: 3000, people: 10_000)
        #expect(few.quantile(0.975) - few.quantile(0.025) > 20 * (many.quantile(0.975) - many.quantile(0.025)))
        #expect(abs(few.ratio(to: many, 0.5) * many.ratio(to: few, 0.5) - 1) < 0.001)
    }
}
