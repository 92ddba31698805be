// What libFuzzer calls with each input; see Tools/fuzz. Any answer to a value is right. A crash, a hang or too much memory
// is not, nor is a normalised value that is made alike once more and becomes another: then one person had two hashes; nor a
// value that white space around it or the case of its letters makes another where they shall not.
//
// The first byte chooses the form and whose rules apply, the second the region; the rest is the value.

import Formats

@testable import Unification

private let regions: [PhoneRegion?] = ["DE", "US", "IT", "GB", "AR", "BR", "XX"].map { PhoneRegion(Array($0.utf8).span) }
private let forms: [Normalizer.Form] = [.email, .e164, .lower, .digits, .none]
private let profiles: [NormalizationProfile] = [.plain, .uid2, .google, .meta]

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 2 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let value = Array(input[2...])
    let form = forms[Int(input[0] & 7) % forms.count]
    let profile = profiles[Int(input[0] >> 3 & 3)]
    let normalizer = Normalizer(
        form, profile: profile, region: input[1] & 1 == 0 ? nil : regions[Int(input[1] >> 1) % regions.count])
    // Memory that another value was in must not show through.
    var used = Array("somebody else's".utf8)
    guard let result = normalized(value, normalizer) else {
        if normalizer.normalize(value.span, into: &used) { stop(value, normalizer, "is taken the second time") }
        return 0
    }
    if !normalizer.normalize(value.span, into: &used) || used != result {
        stop(value, normalizer, "is another the second time")
    }
    if result.isEmpty { stop(value, normalizer, "is made nothing of") }
    if UTF8Text.firstInvalid(value.span) == nil, UTF8Text.firstInvalid(result.span) != nil {
        stop(value, normalizer, "is no text any more")
    }
    check(value, result, normalizer)
    switch form {
    case .email:
        if result.count(where: { $0 == UInt8(ascii: "@") }) != 1 { stop(value, normalizer, "is an address without one @") }
    case .e164:
        let digits = profile == .meta ? result : Array(result.dropFirst())
        if profile != .meta, result[0] != UInt8(ascii: "+") { stop(value, normalizer, "is a number without +") }
        if digits.isEmpty || digits.count > 15 || !digits.allSatisfy(isDigit) { stop(value, normalizer, "is no number") }
    case .digits: if !result.allSatisfy(isDigit) { stop(value, normalizer, "is not digits alone") }
    case .none: if result != value { stop(value, normalizer, "is not as it came") }
    case .lower: break
    }
    return 0
}

private func normalized(_ value: [UInt8], _ normalizer: Normalizer) -> [UInt8]? {
    var result: [UInt8] = []
    return normalizer.normalize(value.span, into: &result) ? result : nil
}

/// What is alike stays alike.
private func check(_ value: [UInt8], _ result: [UInt8], _ normalizer: Normalizer) {
    // What is no text comes from nobody: events and names of people are read as UTF-8.
    if UTF8Text.firstInvalid(value.span) != nil { return }
    // A number without its + is another where its country is not known.
    if normalizer.form != .e164 || normalizer.profile != .meta, normalized(result, normalizer) != result {
        stop(value, normalizer, "is another when it is made alike once more: \(normalized(result, normalizer) ?? [])")
    }
    // Unified ID takes numbers that are E.164 already, to the byte.
    let isStrict = normalizer.form == .e164 && normalizer.profile == .uid2 && normalizer.region == nil
    if normalizer.form == .none || isStrict || value.count + 2 > Limits.rawIdentifierBytes { return }
    if normalized([0x20] + value + [0x20], normalizer) != result {
        stop(value, normalizer, "is another with spaces around it")
    }
    if normalizer.form == .e164 { return }
    let upper = value.map { $0 >= 0x61 && $0 <= 0x7A ? $0 - 0x20 : $0 }
    if normalized(upper, normalizer) != result { stop(value, normalizer, "is another in capital letters") }
}

private func stop(_ value: [UInt8], _ normalizer: Normalizer, _ what: String) -> Never {
    fatalError(
        "the value \(what); \(normalizer.form), \(normalizer.profile): \(String(decoding: value, as: UTF8.self)) \(value)")
}
