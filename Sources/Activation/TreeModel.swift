// Gradient-boosted trees as they are evaluated: flat, 8 bytes a node, read in place. It need not know where they come
// from, nor what their features mean.

/// Trees whose leaves are added up. Immutable and shared by all threads; a class, so that evaluating it copies one
/// reference.
///
/// All numbers are added and compared as 32-bit floats in the order of the trees, as XGBoost does (`src/predictor` there):
/// the margin is the same to the last bit.
final class TreeModel: Sendable {
    /// The bits of a node: in the upper half a split's threshold or a leaf's value; in the lower half of a split from bit 0
    /// the place of its left child, at bit 17 whether a missing feature goes right, and from bit 18 the feature. A leaf has
    /// 0 there: no split leads to the first node. The right child follows the left one.
    let nodes: [UInt64]
    /// The places of the trees' roots.
    let roots: [UInt32]
    let featureCount: Int
    /// What the leaves are added to.
    let base: Float
    /// The sum stands for log odds, and the value is their probability.
    private let isLogistic: Bool

    init(nodes: [UInt64], roots: [UInt32], featureCount: Int, base: Float, isLogistic: Bool) {
        self.nodes = nodes
        self.roots = roots
        self.featureCount = featureCount
        self.base = base
        self.isLogistic = isLogistic
    }

    static func leaf(_ value: Float) -> UInt64 { UInt64(value.bitPattern) << 32 }

    static func split(_ threshold: Float, feature: Int, left: Int, isMissingLeft: Bool) -> UInt64 {
        UInt64(threshold.bitPattern) << 32 | UInt64(feature) << 18 | (isMissingLeft ? 0 : 1 << 17) | UInt64(left)
    }

    /// A feature that a tree asks for and that is not among these.
    func feature(notAmong numbers: [Double]) -> Int? {
        for node in nodes where node & 0x1FFFF != 0 {
            let feature = Int(node >> 18 & 0x3FFF)
            if !numbers.contains(Double(feature)) { return feature }
        }
        return nil
    }

    /// - Parameter features: as many as the model has; NaN for one that is missing.
    func value(_ features: Span<Float>) -> Float {
        let sum = margin(features)
        return isLogistic ? Logistic.probability(sum) : sum
    }

    func margin(_ features: Span<Float>) -> Float {
        let (places, trees) = (nodes, roots)
        let nodes = places.span
        let roots = trees.span
        var sum = base
        for tree in 0..<roots.count {
            var node = nodes[Int(roots[tree])]
            while true {
                let left = node & 0x1FFFF
                if left == 0 { break }
                let feature = features[Int(node >> 18 & 0x3FFF)]
                var right: UInt64 = feature < Float(bitPattern: UInt32(node >> 32)) ? 0 : 1
                if feature.isNaN { right = node >> 17 & 1 }
                node = nodes[Int(left + right)]
            }
            sum += Float(bitPattern: UInt32(node >> 32))
        }
        return sum
    }
}

/// Log odds and probabilities. Calculated here: a library's exponential is another one on each processor, and a device
/// is to decide as the one beside it does.
enum Logistic {
    /// 1 / (1 + e^-odds).
    static func probability(_ odds: Double) -> Double { 1 / (1 + exponential(-odds)) }

    /// The same, rounded where XGBoost rounds (`Sigmoid` in `src/common/math.h` there).
    static func probability(_ odds: Float) -> Float { 1 / (Float(exponential(Double(min(-odds, 88.7)))) + 1) }

    /// The log odds of a probability, rounded where XGBoost rounds; nil for one that has none, and for what is none.
    static func odds(_ probability: Float) -> Float? {
        let inverse = Double(1 / probability - 1)
        guard inverse > 0, inverse.isFinite else { return nil }
        // Halley's method: each round has three times the digits of the one before.
        var logarithm = Double(inverse.exponent) * 0.6931471805599453
        for _ in 0..<5 {
            let power = exponential(logarithm)
            logarithm += 2 * (inverse - power) / (inverse + power)
        }
        return Float(-logarithm)
    }

    /// e^x, to the last digit or the one before it.
    @inline(never)
    static func exponential(_ x: Double) -> Double {
        if x < -708 { return 0 }
        if x > 709 { return .infinity }
        if x.isNaN { return x }
        // 2^k times e^r, by Taylor's series: r is 0.35 at most, and its fourteenth power over 14! is less than a digit. The
        // logarithm of 2 is in two parts, of which the first has so few digits that its product is exact.
        let k = (x * 1.4426950408889634).rounded()
        let r = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10
        var sum: Double = 1
        var term: Double = 14
        while term > 0 {
            sum = 1 + sum * r / term
            term -= 1
        }
        return sum * Double(bitPattern: UInt64(1023 + Int64(k)) << 52)
    }
}
