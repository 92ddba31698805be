import Testing

@testable import Governance

/// What a TCF string says, as the test writes it and expects it back.
private struct Wanted {
    var region = TCFString.Region.europe
    var created = 15_704_254_740
    var updated = 15_837_554_746
    var cmpID = 7, cmpVersion = 3, screen = 1, listVersion = 48, policyVersion = 5
    var language = "DE"
    var isServiceSpecific = true
    var usesNonStandardTexts = false
    var features: Set<Int> = [1]
    var consent: Set<Int> = [1, 2, 3]
    var interest: Set<Int> = [7, 9]
    var purposeOneTreatment = false
    var country = "AT"
    var vendors: Set<Int> = [2, 6, 8]
    var vendorsAreRange = false
    var interestVendors: Set<Int> = [8, 9, 10]
    var interestVendorsAreRange = true
    var restrictions: [(purpose: Int, type: Int, vendors: Set<Int>)] = []
    var disclosed: Set<Int>?
    var disclosedAreRange = false
    var publisher: (consent: Set<Int>, interest: Set<Int>, count: Int, custom: Set<Int>, customInterest: Set<Int>)?

    var core: BitWriter {
        var writer = BitWriter()
        writer.integer(region == .europe ? 2 : 1, 6, .version)
        writer.integer(created, 36, .created)
        writer.integer(updated, 36, .lastUpdated)
        writer.integer(cmpID, 12, .consentManagementPlatform)
        writer.integer(cmpVersion, 12, .consentManagementPlatform)
        writer.integer(screen, 6, .consentManagementPlatform)
        for letter in language.utf8 { writer.integer(Int(letter) - 0x41, 6, .consentLanguage) }
        writer.integer(listVersion, 12, .vendorListVersion)
        writer.integer(policyVersion, 6, .policyVersion)
        if region == .europe { writer.bit(isServiceSpecific, .isServiceSpecific) }
        writer.bit(usesNonStandardTexts, .usesNonStandardTexts)
        writer.numbers(features, 12, .specialFeatures)
        writer.numbers(consent, 24, .purposesConsent)
        writer.numbers(interest, 24, .purposesLegitimateInterest)
        if region == .europe {
            writer.bit(purposeOneTreatment, .purposeOneTreatment)
            for letter in country.utf8 { writer.integer(Int(letter) - 0x41, 6, .publisherCountry) }
        }
        writer.vendors(vendors, asRange: vendorsAreRange, .vendorConsent)
        writer.vendors(interestVendors, asRange: interestVendorsAreRange, .vendorLegitimateInterest)
        writer.integer(restrictions.count, 12, .publisherRestrictions)
        for restriction in restrictions {
            writer.integer(restriction.purpose, 6, .publisherRestrictions)
            writer.integer(restriction.type, 2, .publisherRestrictions)
            writer.range(restriction.vendors, .publisherRestrictions)
        }
        return writer
    }

    var disclosedSegment: BitWriter? {
        guard let disclosed else { return nil }
        var writer = BitWriter()
        writer.integer(1, 3, .segmentType)
        writer.vendors(disclosed, asRange: disclosedAreRange, .disclosedVendors)
        return writer
    }

    var publisherSegment: BitWriter? {
        guard let publisher else { return nil }
        var writer = BitWriter()
        writer.integer(3, 3, .segmentType)
        writer.numbers(publisher.consent, 24, .publisherPurposes)
        writer.numbers(publisher.interest, 24, .publisherPurposes)
        writer.integer(publisher.count, 6, .publisherPurposes)
        writer.numbers(publisher.custom, publisher.count, .publisherPurposes)
        writer.numbers(publisher.customInterest, publisher.count, .publisherPurposes)
        return writer
    }

    var text: [UInt8] {
        var text = core.text()
        for segment in [disclosedSegment, publisherSegment] {
            guard let segment else { continue }
            text += [UInt8(ascii: ".")] + segment.text(padding: 24)
        }
        return text
    }

    static func random(_ chance: inout Chance) -> Wanted {
        var wanted = Wanted()
        wanted.region = chance.bool() ? .europe : .canada
        wanted.created = chance.next(below: 1 << 30) << 6
        wanted.updated = (1 << 36) - 1 - chance.next(below: 1 << 30)
        wanted.cmpID = chance.next(below: 1 << 12)
        wanted.policyVersion = chance.next(below: 1 << 6)
        wanted.isServiceSpecific = chance.bool()
        wanted.usesNonStandardTexts = chance.bool()
        wanted.features = chance.numbers(12)
        wanted.consent = chance.numbers(24)
        wanted.interest = chance.numbers(24)
        wanted.purposeOneTreatment = chance.bool()
        wanted.vendors = chance.numbers(chance.next(below: 80), sparseness: 1 + chance.next(below: 20))
        wanted.vendorsAreRange = chance.bool()
        wanted.interestVendors = chance.numbers(chance.next(below: 80))
        wanted.interestVendorsAreRange = chance.bool()
        if chance.bool() {
            wanted.interestVendors.insert(65_535 - chance.next(below: 2))
            wanted.interestVendorsAreRange = true
        }
        for _ in 0..<chance.next(below: 5) {
            wanted.restrictions.append(
                (chance.next(below: 25), chance.next(below: 4), chance.numbers(60, sparseness: 1 + chance.next(below: 6))))
        }
        if chance.bool() { wanted.disclosed = chance.numbers(chance.next(below: 100)) }
        wanted.disclosedAreRange = chance.bool()
        if chance.bool() {
            let count = chance.next(below: 64)
            wanted.publisher = (
                chance.numbers(24), chance.numbers(24), count, chance.numbers(count), chance.numbers(count)
            )
        }
        return wanted
    }

    func restricted(_ vendor: Int, _ types: Set<Int>) -> Set<Int> {
        Set(restrictions.filter { types.contains($0.type) && $0.vendors.contains(vendor) && $0.purpose > 0 }.map(\.purpose))
    }

    /// The rule of `allows`, for one purpose and with sets.
    func allows(_ purpose: Int, _ vendor: Int?, interestToo: Bool) -> Bool {
        if region == .europe && !isServiceSpecific { return false }
        let (no, consentOnly, interestOnly) =
            vendor.map { (restricted($0, [0, 3]), restricted($0, [1]), restricted($0, [2])) } ?? ([], [], [])
        if no.contains(purpose) { return false }
        if consent.contains(purpose), vendor.map({ vendors.contains($0) }) ?? true, !interestOnly.contains(purpose) {
            return true
        }
        return interestToo && [2, 7, 8, 9, 10, 11].contains(purpose) && interest.contains(purpose)
            && vendor.map { interestVendors.contains($0) } ?? true && !consentOnly.contains(purpose)
    }
}

@Suite struct TCFStringTests {
    /// The example of the specification's section "TC String Format".
    static let example = "CQSbk4AQSbk4ANwAAAENAwCgAAAAAAAAAAYgACPAAAAA.IDKQA4AAgAKAGQAygAAA.YAAAAAAAAAAA"

    @Test func theExampleOfTheSpecification() throws {
        let string = try tcf(Self.example)
        #expect(string.created == 1_748_908_800_000 && string.lastUpdated == string.created)
        #expect(string.cmpID == 880 && string.cmpVersion == 0 && string.consentScreen == 0)
        #expect(string.consentLanguage == LetterPair(first: UInt8(ascii: "E"), second: UInt8(ascii: "N")))
        #expect(string.publisherCountry == LetterPair(first: UInt8(ascii: "D"), second: UInt8(ascii: "E")))
        #expect(string.vendorListVersion == 48 && string.policyVersion == 2)
        #expect(string.isServiceSpecific && !string.usesNonStandardTexts && !string.purposeOneTreatment)
        #expect(string.specialFeatures == [] && string.purposesConsent == [] && string.purposesLegitimateInterest == [])
        #expect(vendors(500, string.vendorConsent) == [1, 2, 3, 4])
        #expect(vendors(500, string.vendorLegitimateInterest) == [])
        #expect(vendors(500) { string.vendorIsDisclosed($0) == true } == [1, 2, 3, 4, 5, 100, 404])
        #expect(string.publisherPurposes == PublisherPurposes())
    }

    /// Strings that the IAB's own implementations are tested with.
    @Test func stringsOfOtherImplementations() throws {
        let ranges = try tcf("COoC-kUOoC-kUAHABAENAwCoAIAAAELAAAwIF5wAoAAgAGAvMACX_ABBAAQAFA")
        #expect(ranges.created == 1_570_425_474_000 && ranges.cmpID == 7 && ranges.vendorListVersion == 48)
        #expect(numbers(ranges.specialFeatures) == [1] && numbers(ranges.purposesConsent) == [1])
        #expect(numbers(ranges.purposesLegitimateInterest) == [2, 7, 9, 10])
        #expect(vendors(1000, ranges.vendorConsent) == [1, 2, 3, 755])
        #expect(vendors(1000, ranges.vendorLegitimateInterest) == Set(1...9))
        #expect(ranges.restrictions(vendor: 10).notAllowed == NumberSet(number: 1))
        #expect(ranges.restrictions(vendor: 9) == PublisherRestrictions())
        #expect(ranges.vendorIsDisclosed(1) == nil && ranges.publisherPurposes == nil)

        let fields = try tcf("COv_eg6Ov_eg6AOADBENAaCgAP_AAH_AACiQAVEUQQoAIQAqIoghAAQgAA.YAAAAAAAAAAAAAAAAAA")
        #expect(vendors(100, fields.vendorConsent) == [2, 6, 8, 12, 18, 23, 25, 37, 42])
        #expect(vendors(100, fields.vendorLegitimateInterest) == [2, 6, 8, 12, 18, 23, 37, 42])
        #expect(numbers(fields.purposesConsent) == Set(1...10))
        #expect(fields.allows(purposes: [1, 2, 10], vendor: 25) && !fields.allows(purposes: [11], vendor: 25))
    }

    @Test func stringsOfCanada() throws {
        let string = try tcf("BPSG_8APSG_8AAyACAENGdCgf_gfgAfgfgBgABABAAABAB4AACACAAA.fHHHA4444ao", .canada)
        #expect(string.created == 1_640_995_200_000 && string.cmpID == 50 && string.cmpVersion == 2)
        #expect(string.usesNonStandardTexts && string.vendorListVersion == 413 && string.publisherCountry == nil)
        #expect(numbers(string.specialFeatures) == Set(7...12))
        #expect(numbers(string.purposesConsent) == Set(1...6).union(13...18))
        #expect(numbers(string.purposesLegitimateInterest) == Set(7...12).union(19...24))
        #expect(vendors(100, string.vendorConsent) == [12, 24, 48])
        #expect(vendors(100, string.vendorLegitimateInterest) == [18, 30])
        let publisher = try #require(string.publisherPurposes)
        #expect(numbers(publisher.consent) == [1, 2, 3, 7, 8, 9, 13, 14, 15, 19, 20, 21])
        #expect(numbers(publisher.customConsent) == [2] && numbers(publisher.customLegitimateInterest) == [1, 3])

        let restricted = try tcf("BPSG_8APSG_8AAAAAAENAACAAAAAAAAAAAAAAAAACCgBwABAAOAAoADgAJA.YAAAAAAAAAA", .canada)
        for vendor in 0...12 {
            let isRestricted = [1, 2, 3, 5, 6, 7, 9].contains(vendor)
            #expect(restricted.restrictions(vendor: vendor).requiresConsent.contains(number: 1) == isRestricted)
        }
        let disclosed = try tcf("BPSG_8APSG_8AAAAAAENAACAAAAAAAAAAAAAAAAAAA.YAAAAAAAAAA.IAGO5w", .canada)
        #expect(vendors(20) { disclosed.vendorIsDisclosed($0) == true } == [1, 2, 3, 5, 6, 7, 10, 11, 12])

        // Version 1.0 of the section has no restrictions at all, and each format refuses the other's version.
        var wanted = Wanted()
        wanted.region = .canada
        wanted.vendors = [1, 2]
        let core = wanted.core
        let short = Array(core.text().prefix((core.bits.count - 12 + 5) / 6))
        #expect(try tcf(short, .canada).restrictions(vendor: 1) == PublisherRestrictions())
        #expect(tcfError(wanted.text) == .unknownVersion(.version, found: 1))
        #expect(tcfError(Array(Self.example.utf8), .canada) == .unknownVersion(.version, found: 2))
    }

    @Test func randomStringsReadBackEqual() throws {
        var chance = Chance(state: 1)
        for _ in 0..<500 {
            let wanted = Wanted.random(&chance)
            let string = try tcf(wanted.text, wanted.region)
            let isEuropean = wanted.region == .europe
            #expect(string.created == Int64(wanted.created) * 100 && string.lastUpdated == Int64(wanted.updated) * 100)
            #expect(string.cmpID == wanted.cmpID && string.policyVersion == wanted.policyVersion)
            #expect(string.cmpVersion == 3 && string.consentScreen == 1 && string.vendorListVersion == 48)
            #expect(string.isServiceSpecific == (!isEuropean || wanted.isServiceSpecific))
            #expect(string.usesNonStandardTexts == wanted.usesNonStandardTexts)
            #expect(numbers(string.specialFeatures) == wanted.features)
            #expect(numbers(string.purposesConsent) == wanted.consent)
            #expect(numbers(string.purposesLegitimateInterest) == wanted.interest)
            #expect(string.purposeOneTreatment == (isEuropean && wanted.purposeOneTreatment))
            #expect(vendors(100, string.vendorConsent) == wanted.vendors)
            #expect(vendors(100, string.vendorLegitimateInterest) == wanted.interestVendors.filter { $0 < 101 })
            for vendor in [-1, 65_534, 65_535, 65_536, Int.max, Int.min] {
                #expect(string.vendorLegitimateInterest(vendor) == wanted.interestVendors.contains(vendor))
            }
            #expect(vendors(120) { string.vendorIsDisclosed($0) == true } == wanted.disclosed ?? [])
            #expect((string.vendorIsDisclosed(1) == nil) == (wanted.disclosed == nil))
            #expect(numbers(string.publisherPurposes?.consent ?? []) == wanted.publisher?.consent ?? [])
            #expect(numbers(string.publisherPurposes?.legitimateInterest ?? []) == wanted.publisher?.interest ?? [])
            #expect(numbers(string.publisherPurposes?.customConsent ?? []) == wanted.publisher?.custom ?? [])
            #expect(
                numbers(string.publisherPurposes?.customLegitimateInterest ?? []) == wanted.publisher?.customInterest ?? [])
            let vendor = 1 + chance.next(below: 70)
            let restrictions = string.restrictions(vendor: vendor)
            #expect(numbers(restrictions.notAllowed) == wanted.restricted(vendor, [0, 3]))
            #expect(numbers(restrictions.requiresConsent) == wanted.restricted(vendor, [1]))
            #expect(numbers(restrictions.requiresLegitimateInterest) == wanted.restricted(vendor, [2]))
        }
    }

    /// `allows` against the rule told purpose by purpose; a list is allowed when each of it is.
    @Test func whatIsAllowedIsWhatTheRuleSays() throws {
        var chance = Chance(state: 2)
        var allowed = 0
        for _ in 0..<2000 {
            let wanted = Wanted.random(&chance)
            let string = try tcf(wanted.text, wanted.region)
            let vendor = chance.next(below: 4) == 0 ? nil : chance.next(below: 70)
            let interestToo = chance.bool()
            let purposes = (0..<1 + chance.next(below: 3)).map { _ in 1 + chance.next(below: 24) }
            let isAllowed = string.allows(purposes: purposes, vendor: vendor, acceptingLegitimateInterest: interestToo)
            #expect(isAllowed == purposes.allSatisfy { wanted.allows($0, vendor, interestToo: interestToo) })
            if isAllowed { allowed += 1 }
        }
        #expect(allowed > 50 && allowed < 1000)
    }

    @Test func inDoubtNothingIsAllowed() throws {
        var wanted = Wanted()
        wanted.consent = Set(1...24)
        wanted.interest = Set(1...24)
        wanted.vendors = []
        let string = try tcf(wanted.text)
        #expect(string.allows(purposes: [1, 24]) && !string.allows(purposes: [1], vendor: 8))
        #expect(!string.allows(purposes: []) && !string.allows(purposes: [0]) && !string.allows(purposes: [25]))
        #expect(!string.allows(purposes: [1, Int.max]) && !string.allows(purposes: [Int.min]))
        #expect(string.allows(purposes: [2, 7, 8, 9, 10, 11], vendor: 8, acceptingLegitimateInterest: true))
        for purpose in [1, 3, 4, 5, 6, 12, 24] {
            #expect(!string.allows(purposes: [purpose], vendor: 8, acceptingLegitimateInterest: true))
        }
        wanted.isServiceSpecific = false
        #expect(try !tcf(wanted.text).allows(purposes: [1]))
        wanted.isServiceSpecific = true
        wanted.vendors = [8]
        wanted.restrictions = [(1, 3, [8])]
        #expect(try !tcf(wanted.text).allows(purposes: [1], vendor: 8))
    }

    /// A text cut after any digit is truncated in the field to which the next bit belongs.
    @Test func aCutIsFoundInTheFieldWhereItIs() {
        var wanted = Wanted()
        wanted.restrictions = [(1, 0, [10, 12, 13]), (2, 1, [3])]
        wanted.disclosed = [1, 2, 9]
        wanted.publisher = ([1], [2], 5, [1], [2])
        var seen: Set<ConsentStringField> = []
        for region in [TCFString.Region.europe, .canada] {
            wanted.region = region
            let core = wanted.core
            let text = core.text()
            // Canada's restrictions may be missing as a whole.
            let last = region == .europe ? text.count : (core.fields.firstIndex(of: .publisherRestrictions) ?? 0) / 6
            for count in 1..<last {
                #expect(tcfError(Array(text[..<count]), region) == .truncated(core.fields[count * 6]), "\(count)")
                seen.insert(core.fields[count * 6])
            }
            #expect(tcfError([], region) == .empty)
            for segment in [wanted.disclosedSegment, wanted.publisherSegment] {
                guard let segment else { continue }
                let following = segment.text()
                for count in 0..<following.count {
                    let error = tcfError(text + [UInt8(ascii: ".")] + following[..<count], region)
                    #expect(error == .truncated(segment.fields[count * 6]), "\(count)")
                }
                #expect(tcfError(text + [UInt8(ascii: ".")] + following, region) == nil)
            }
        }
        #expect(seen.count >= 14)
    }

    @Test func damageIsNamed() {
        let text = Array(Self.example.utf8)
        func with(_ place: Int, _ byte: UInt8) -> [UInt8] { Array(text[..<place]) + [byte] + text[(place + 1)...] }
        #expect(tcfError(with(44, UInt8(ascii: "="))) == .notBase64(offset: 44))
        #expect(tcfError(with(0, UInt8(ascii: "D"))) == .unknownVersion(.version, found: 3))
        #expect(tcfError(with(60, UInt8(ascii: "+"))) == .notBase64(offset: 60))
        #expect(tcfError(text + Array(".IAAA".utf8)) == .repeated(.disclosedVendors))
        #expect(tcfError(text + Array(".YAAAAAAAAAAA".utf8)) == .repeated(.publisherPurposes))
        #expect(tcfError(text + [UInt8(ascii: ".")] + text) == .repeated(.version))
        // The allowed vendors of old strings, and types to come, are skipped.
        #expect(tcfError(text + Array(".QAAA.QAAA._".utf8)) == nil)
        #expect(tcfError([UInt8](repeating: UInt8(ascii: "C"), count: Limits.consentStringBytes + 1)) == .tooLong)
        var wanted = Wanted()
        wanted.vendors = [0, 9]
        wanted.vendorsAreRange = true
        #expect(tcfError(wanted.text) == .invalid(.vendorConsent))
    }

    /// Any answer to a damaged string is right, but there must be one, and asking must be safe.
    @Test func everyChangedByteIsSurvived() {
        var wanted = Wanted()
        wanted.restrictions = [(1, 0, [10, 12, 13]), (2, 1, [3])]
        wanted.disclosed = [1, 2, 9]
        wanted.disclosedAreRange = true
        wanted.publisher = ([1], [2], 5, [1], [2])
        var accepted = 0
        for region in [TCFString.Region.europe, .canada] {
            wanted.region = region
            let text = wanted.text
            for place in text.indices {
                for byte in UInt8.min...UInt8.max {
                    var damaged = text
                    damaged[place] = byte
                    guard let string = try? tcf(damaged, region) else { continue }
                    accepted += 1
                    for vendor in [0, 1, 9, 10, 13, 65_535] {
                        _ = (string.vendorConsent(vendor), string.vendorLegitimateInterest(vendor))
                        _ = (string.vendorIsDisclosed(vendor), string.restrictions(vendor: vendor))
                        _ = string.allows(purposes: [1, 2, 7], vendor: vendor, acceptingLegitimateInterest: true)
                    }
                }
            }
        }
        #expect(accepted > 2000)
    }
}
