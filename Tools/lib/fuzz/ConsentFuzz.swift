// What libFuzzer calls with each input; see Tools/fuzz. Any answer to a consent string is right. A crash, a hang or too much
// memory is not, nor are two answers about one string that contradict each other.
//
// The first byte chooses what the rest is: a text, or bits that are made into text here, so that the fuzzer reaches the
// fields without having to learn base64.

import Formats
import Governance

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let rest = Array(input[1...])
    switch input[0] & 7 {
    case 0: readTCF(rest, .europe)
    case 1: readTCF(rest, .canada)
    case 2: readGPP(rest)
    case 3: readTCF(packed([2 << 2 | rest[0] & 3] + rest[1...]), .europe)
    case 4: readTCF(packed([1 << 2 | rest[0] & 3] + rest[1...]), .canada)
    case 5:
        // A core, which is the specification's example, and any other segments.
        let core = Array("CQSbk4AQSbk4ANwAAAENAwCgAAAAAAAAAAYgACPAAAAA".utf8)
        readTCF(joined([core] + split(rest).map(packed), "."), .europe)
    case 6:
        // A header of any sections, and any sections.
        readGPP(joined(split([3 << 2, 0x10] + rest).map(packed), "~"))
    default: readGPP(oneSection(Int(rest[0] & 31), split(Array(rest[1...])).map(packed)))
    }
    return 0
}

// MARK: Texts

private func packed(_ bytes: [UInt8]) -> [UInt8] {
    let span = bytes.span
    return Base64.encode(span, .url)
}

/// Two bytes of 0xFF part one segment from the next.
private func split(_ bytes: [UInt8]) -> [[UInt8]] {
    var parts: [[UInt8]] = [[]]
    var index = 0
    while index < bytes.count {
        if bytes[index] == 0xFF, index + 1 < bytes.count, bytes[index + 1] == 0xFF {
            parts.append([])
            index += 2
        } else {
            parts[parts.count - 1].append(bytes[index])
            index += 1
        }
    }
    return parts
}

private func joined(_ parts: [[UInt8]], _ separator: String) -> [UInt8] {
    Array(parts.joined(separator: Array(separator.utf8)))
}

/// A GPP string of one section of any number from 1 to 32, whose segments these are.
private func oneSection(_ number: Int, _ segments: [[UInt8]]) -> [UInt8] {
    let codes = [
        "11", "011", "0011", "1011", "00011", "10011", "01011", "000011", "100011", "010011", "001011", "101011",
        "0000011", "1000011", "0100011", "0010011", "1010011", "0001011", "1001011", "0101011", "00000011", "10000011",
        "01000011", "00100011", "10100011", "00010011", "10010011", "01010011", "00001011", "10001011", "01001011",
        "00101011",
    ]
    var bits = "000011" + "000001" + "000000000001" + "0" + codes[number]
    while bits.utf8.count % 8 != 0 { bits += "0" }
    var bytes: [UInt8] = []
    for (index, bit) in bits.utf8.enumerated() {
        if index % 8 == 0 { bytes.append(0) }
        bytes[index / 8] = bytes[index / 8] << 1 | (bit & 1)
    }
    return joined([packed(bytes), joined(segments, ".")], "~")
}

// MARK: TCF

private func readTCF(_ text: [UInt8], _ region: TCFString.Region) {
    let span = text.span
    do throws(ConsentStringError) {
        check(try TCFString(span, region: region), text)
    } catch { check(error, text) }
}

private func check(_ error: ConsentStringError, _ text: [UInt8]) {
    _ = error.message
    guard case .notBase64(let offset) = error else { return }
    if offset < 0 || offset >= text.count { stop(text, "fails outside of itself") }
    let byte = text[offset]
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x5F: stop(text, "has a digit that is said to be none")
    default: break
    }
}

private func check(_ string: TCFString, _ text: [UInt8]) {
    for vendor in [0, 1, 2, 3, 7, 12, 100, 755, 4095, 65_534, 65_535, 65_536, Int.max, Int.min] {
        check(string, vendor, text)
    }
    for purpose in -1...26 {
        let isAllowed = string.allows(purposes: [purpose])
        if isAllowed != (string.isServiceSpecific && string.purposesConsent.contains(number: purpose) && purpose < 25) {
            stop(text, "allows purpose \(purpose), or does not: \(isAllowed)")
        }
    }
    if string.created < 0 || string.created > 100 << 36 || string.policyVersion > 63 { stop(text, "has a field too large") }
    if string.allows(purposes: []) { stop(text, "allows nothing in particular") }
}

/// What is allowed to a vendor follows from what is said about it, purpose by purpose and for all together.
private func check(_ string: TCFString, _ vendor: Int, _ text: [UInt8]) {
    let restrictions = string.restrictions(vendor: vendor)
    let isKnown = vendor >= 1 && vendor <= 65_535
    if !isKnown, string.vendorConsent(vendor) || string.vendorLegitimateInterest(vendor)
        || string.vendorIsDisclosed(vendor) == true || restrictions != PublisherRestrictions()
    {
        stop(text, "knows vendor \(vendor)")
    }
    var allowed: [Int] = []
    for purpose in 1...24 {
        let byConsent = string.allows(purposes: [purpose], vendor: vendor)
        let byEither = string.allows(purposes: [purpose], vendor: vendor, acceptingLegitimateInterest: true)
        if byEither { allowed.append(purpose) }
        if byConsent && !byEither { stop(text, "allows less where more is accepted") }
        if byConsent && !(string.vendorConsent(vendor) && string.purposesConsent.contains(number: purpose)) {
            stop(text, "allows \(purpose) to \(vendor) without consent")
        }
        if byEither && !byConsent && !string.vendorLegitimateInterest(vendor) { stop(text, "finds interest where none is") }
        if byEither && restrictions.notAllowed.contains(number: purpose) { stop(text, "allows what is restricted") }
    }
    if allowed.isEmpty { return }
    if !string.allows(purposes: allowed, vendor: vendor, acceptingLegitimateInterest: true) {
        stop(text, "allows each of \(allowed), and not all")
    }
    if allowed.count < 24, string.allows(purposes: Array(1...24), vendor: vendor, acceptingLegitimateInterest: true) {
        stop(text, "allows all, and not each")
    }
}

// MARK: GPP

private func readGPP(_ text: [UInt8]) {
    let span = text.span
    do throws(ConsentStringError) {
        check(try GPPString(span), text)
    } catch { check(error, text) }
}

private func check(_ string: GPPString, _ text: [UInt8]) {
    let ids = string.sectionIDs
    if ids != Set(ids).sorted() || ids.count > Limits.consentStringSections { stop(text, "has sections \(ids)") }
    // Header and sections are the whole text.
    var parts = [Array(text.prefix { $0 != 0x7E })]
    for id in ids { parts.append(string.section(id) ?? []) }
    if joined(parts, "~") != text { stop(text, "is not the sum of its sections") }
    var all: OptOuts = []
    for id in ids {
        let one = string.optOuts(applicableSections: [id])
        all.formUnion(one)
        do throws(ConsentStringError) {
            let section = try string.optOuts(section: id)
            if (section != nil) != (6...27).contains(id) || section ?? [] != one { stop(text, "says two things in \(id)") }
        } catch {
            check(error, text)
            if one != .everything { stop(text, "allows something in section \(id), which is damaged") }
        }
    }
    if string.optOuts() != all || string.optOuts(applicableSections: [-1]) != all {
        stop(text, "is not the sum of its opt-outs")
    }
    for region in [TCFString.Region.europe, .canada] {
        do throws(ConsentStringError) {
            if let tcf = try string.tcf(region) { check(tcf, text) }
        } catch { check(error, text) }
    }
}

private func stop(_ text: [UInt8], _ what: String) -> Never {
    fatalError("the string \(what): \(String(decoding: text, as: UTF8.self))")
}
