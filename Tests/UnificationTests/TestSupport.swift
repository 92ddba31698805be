// What the tests of this room share: documents from text, buffers from literals, a seeded random source.
import Cryptography
import Formats

@testable import Unification

let pepper = Peppers(key: Array("a pepper for tests".utf8))

/// Parses JSON that the test itself wrote.
func json(_ text: String) -> JSONDocument {
    var document = JSONDocument()
    let bytes = Array(text.utf8)
    let span = bytes.span
    do { try document.parse(span) } catch { fatalError("the test's JSON is wrong: \(error.message)") }
    return document
}

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

/// The normalised form of `raw`, or nil.
func normalized(_ raw: String, _ normalizer: Normalizer) -> String? {
    var result: [UInt8] = []
    let bytes = Array(raw.utf8)
    return normalizer.normalize(bytes.span, into: &result) ? text(result) : nil
}

func phoneRegion(_ code: String) -> PhoneRegion? {
    let bytes = Array(code.utf8)
    return PhoneRegion(bytes.span)
}

func profileNamed(_ name: String) -> NormalizationProfile? {
    let bytes = Array(name.utf8)
    return Normalizer.profile(named: bytes.span)
}

/// The plan of an `identifiers` section; stops the test run when the section is wrong.
func identifierPlan(_ section: String) -> IdentifierPlan {
    var reader = PlanReader()
    let document = json("{\"identifiers\": \(section)}")
    let plan = IdentifierPlan(document, document.root, &reader)
    if let problem = reader.problems.first { fatalError("the test's plan is wrong: \(problem.message)") }
    return plan
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed on every machine.
struct SeededRandom: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
