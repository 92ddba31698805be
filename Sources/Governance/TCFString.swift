// A consent string of the IAB's Transparency & Consent Framework: who agreed to which purposes and vendors. Reads, never
// writes: only a registered consent management platform may make such strings.
//
// Written after "Transparency and Consent String with Global Vendor & CMP List Formats" (TCF 2.0 to 2.3) and, for Canada,
// "IAB Canada TCF" (GPP section 5). What the vendors declared in the Global Vendor List is not known here.

/// Two capital letters: a language of ISO 639-1 or a country of ISO 3166-1.
public struct LetterPair: Equatable, Sendable {
    /// ASCII codes; letters in strings that keep to the specification.
    public let first: UInt8, second: UInt8
}

/// What a publisher forbids one vendor: purposes by their numbers.
public struct PublisherRestrictions: Equatable, Sendable {
    /// Type 0: on no legal basis. Type 3, which is undefined, too: in doubt, closed.
    public internal(set) var notAllowed: NumberSet = []
    /// Type 1: on consent only.
    public internal(set) var requiresConsent: NumberSet = []
    /// Type 2: on legitimate interest (in Canada implied consent) only.
    public internal(set) var requiresLegitimateInterest: NumberSet = []

    /// None.
    public init() {}
}

/// The publisher's own purposes, from the segment "Publisher Purposes Transparency and Consent".
public struct PublisherPurposes: Equatable, Sendable {
    /// Purposes 1…24 with consent.
    public internal(set) var consent: NumberSet = []
    /// Purposes 1…24 with legitimate interest (in Canada implied consent).
    public internal(set) var legitimateInterest: NumberSet = []
    /// The publisher's custom purposes, 1…63, with consent.
    public internal(set) var customConsent: NumberSet = []
    /// The publisher's custom purposes, 1…63, with legitimate interest (in Canada implied consent).
    public internal(set) var customLegitimateInterest: NumberSet = []

    /// None.
    public init() {}
}

/// A TCF string as it was read; vendors stay packed as they came and are looked up in place.
public struct TCFString: Equatable, Sendable {
    /// Whose framework the string belongs to. Canada's has "express consent" for consent, "implied consent" for legitimate
    /// interest, and no purpose 1.
    public enum Region: UInt8, Sendable { case europe, canada }

    /// As given to the initializer.
    public let region: Region
    /// Milliseconds since the epoch; whole days since TCF 2.2.
    public private(set) var created: Int64 = 0
    /// Milliseconds since the epoch; whole days since TCF 2.2.
    public private(set) var lastUpdated: Int64 = 0
    /// The platform that made the string, 12 bits, by the IAB's list.
    public private(set) var cmpID = 0
    /// The platform's version, 12 bits.
    public private(set) var cmpVersion = 0
    /// On which of the platform's screens the person chose, 6 bits.
    public private(set) var consentScreen = 0
    /// The language in which the person was asked.
    public private(set) var consentLanguage = LetterPair(first: 0, second: 0)
    /// Of the Global Vendor List, 12 bits.
    public private(set) var vendorListVersion = 0
    /// Of the TCF policies, 6 bits: 2 with TCF 2.0, 4 with TCF 2.2, 5 with TCF 2.3.
    public private(set) var policyVersion = 0
    /// False for a string of global scope, which has been invalid since September 2021. Always true in Canada.
    public private(set) var isServiceSpecific = true
    /// Whether the platform asked in words of its own (in Canada: with stacks of its own).
    public private(set) var usesNonStandardTexts = false
    /// Special features 1…12 that the person opted in to.
    public private(set) var specialFeatures: NumberSet = []
    /// Purposes 1…24 with consent.
    public private(set) var purposesConsent: NumberSet = []
    /// Purposes 1…24 with legitimate interest established and not objected to.
    public private(set) var purposesLegitimateInterest: NumberSet = []
    /// Whether purpose 1 was not disclosed, because the publisher's country does not ask for it. False in Canada.
    public private(set) var purposeOneTreatment = false
    /// The country whose law applies; nil in Canada.
    public private(set) var publisherCountry: LetterPair?
    /// Of the publisher segment; nil without one.
    public private(set) var publisherPurposes: PublisherPurposes?

    private var core = PackedBits()
    private var consents = VendorList()
    private var legitimateInterests = VendorList()
    private var restrictionCount = 0
    private var restrictionsStart = 0
    private var disclosedBits = PackedBits()
    private var disclosed: VendorList?

    /// Reads a string: the core segment, and the disclosed vendors and publisher segments where they are. A segment of
    /// another type (2, the allowed vendors of global scope, is deprecated) is skipped.
    ///
    /// - Parameters:
    ///   - text: ASCII, at most `Limits.consentStringBytes`; the segments in base64url without padding, a dot between them.
    ///   - region: which of the two formats it is.
    /// - Throws: what is wrong first. The string says nothing then, and nobody has agreed to anything.
    public init(_ text: Span<UInt8>, region: Region = .europe) throws(ConsentStringError) {
        try self.init(text, region, at: 0)
    }

    /// - Parameter offset: where the text stands in a longer one, for errors.
    init(_ text: Span<UInt8>, _ region: Region, at offset: Int) throws(ConsentStringError) {
        self.region = region
        if text.count == 0 { throw .empty }
        if text.count > Limits.consentStringBytes { throw .tooLong }
        var start = 0
        while true {
            var end = start
            while end < text.count, text[end] != UInt8(ascii: ".") { end += 1 }
            let bits = try PackedBits(text.extracting(start..<end), at: offset + start)
            if start == 0 { try readCore(bits) } else { try readSegment(bits) }
            if end == text.count { return }
            start = end + 1
        }
    }

    // MARK: Questions

    /// Whether a vendor may do all of these things: the one question that an agent asks.
    ///
    /// A purpose is allowed on consent: the person agreed to the purpose and, if one is named, to the vendor, and the
    /// publisher neither forbids the vendor the purpose nor requires legitimate interest for it. It is allowed on legitimate
    /// interest, where that is accepted, by the corresponding bits, for purposes that the policies (since TCF 2.2) leave to
    /// it: 2 and 7 to 11. A string of global scope allows nothing.
    ///
    /// - Parameters:
    ///   - purposes: numbers of 1…24; any other is not allowed, and nor is an empty list.
    ///   - vendor: a number of the Global Vendor List, 1…65,535; nil to ask about purposes alone, which publisher
    ///     restrictions do not touch.
    ///   - acceptingLegitimateInterest: true only for a vendor that declares this basis for these purposes.
    public func allows(purposes: [Int], vendor: Int? = nil, acceptingLegitimateInterest: Bool = false) -> Bool {
        var wanted: NumberSet = []
        for purpose in purposes {
            if purpose < 1 || purpose > 24 { return false }
            wanted.insert(NumberSet(number: purpose))
        }
        if wanted.isEmpty || !isServiceSpecific { return false }
        var allowed = purposesConsent
        var allowedByInterest: NumberSet = []
        if acceptingLegitimateInterest {
            allowedByInterest = purposesLegitimateInterest.intersection(TCFString.purposesOpenToInterest)
        }
        if let vendor {
            let restrictions = restrictions(vendor: vendor)
            if !restrictions.notAllowed.isDisjoint(with: wanted) { return false }
            allowed = vendorConsent(vendor) ? allowed.subtracting(restrictions.requiresLegitimateInterest) : []
            allowedByInterest =
                vendorLegitimateInterest(vendor) ? allowedByInterest.subtracting(restrictions.requiresConsent) : []
        }
        return wanted.isSubset(of: allowed.union(allowedByInterest))
    }

    /// Whether the person agreed to a vendor (its number 1…65,535; false for any other).
    public func vendorConsent(_ vendor: Int) -> Bool { consents.contains(vendor, core) }

    /// Whether legitimate interest is established for a vendor and not objected to (in Canada: implied consent).
    public func vendorLegitimateInterest(_ vendor: Int) -> Bool { legitimateInterests.contains(vendor, core) }

    /// Whether a vendor was shown to the person; nil if the string does not say, which it must since TCF 2.3.
    public func vendorIsDisclosed(_ vendor: Int) -> Bool? { disclosed?.contains(vendor, disclosedBits) }

    /// What the publisher forbids a vendor (section "Publisher Restrictions"); nothing for a number that is not of 1…65,535.
    /// Reads all restrictions of the string.
    public func restrictions(vendor: Int) -> PublisherRestrictions {
        var restrictions = PublisherRestrictions()
        var reader = BitReader(core, from: restrictionsStart)
        do throws(ConsentStringError) {
            try TCFString.readRestrictions(&reader, restrictionCount, vendor, &restrictions)
        } catch {
            // Read once already when the string was.
            restrictions.notAllowed = NumberSet(rawValue: .max)
        }
        return restrictions
    }

    /// TCF 2.2 took legitimate interest away from purposes 3 to 6; purpose 1 never had it, and above 11 there are none.
    private static let purposesOpenToInterest = NumberSet(rawValue: 0b111_1100_0010)
}

// MARK: Reading

extension TCFString {
    private mutating func readCore(_ bits: PackedBits) throws(ConsentStringError) {
        core = bits
        var reader = BitReader(bits)
        let version = try reader.integer(6, .version)
        if version != (region == .europe ? 2 : 1) { throw .unknownVersion(.version, found: version) }
        try readMetadata(&reader)
        specialFeatures = try reader.numbers(12, .specialFeatures)
        purposesConsent = try reader.numbers(24, .purposesConsent)
        purposesLegitimateInterest = try reader.numbers(24, .purposesLegitimateInterest)
        if region == .europe {
            purposeOneTreatment = try reader.flag(.purposeOneTreatment)
            publisherCountry = try TCFString.letters(&reader, .publisherCountry)
        }
        consents = try VendorList(&reader, .vendorConsent)
        legitimateInterests = try VendorList(&reader, .vendorLegitimateInterest)
        // Canada's strings had no restrictions at first (version 1.0 of the section); what is left is padding.
        if region == .canada && reader.left < 12 { return }
        restrictionCount = try reader.integer(12, .publisherRestrictions)
        restrictionsStart = reader.position
        var restrictions = PublisherRestrictions()
        try TCFString.readRestrictions(&reader, restrictionCount, 0, &restrictions)
    }

    private mutating func readMetadata(_ reader: inout BitReader) throws(ConsentStringError) {
        // Tenths of a second in 36 bits: 6.9e12 milliseconds at most.
        created = Int64(try reader.wide(36, .created)) * 100
        lastUpdated = Int64(try reader.wide(36, .lastUpdated)) * 100
        cmpID = try reader.integer(12, .consentManagementPlatform)
        cmpVersion = try reader.integer(12, .consentManagementPlatform)
        consentScreen = try reader.integer(6, .consentManagementPlatform)
        consentLanguage = try TCFString.letters(&reader, .consentLanguage)
        vendorListVersion = try reader.integer(12, .vendorListVersion)
        policyVersion = try reader.integer(6, .policyVersion)
        if region == .europe { isServiceSpecific = try reader.flag(.isServiceSpecific) }
        usesNonStandardTexts = try reader.flag(.usesNonStandardTexts)
    }

    private static func letters(
        _ reader: inout BitReader, _ field: ConsentStringField
    ) throws(ConsentStringError) -> LetterPair {
        let first = try reader.integer(6, field)
        let second = try reader.integer(6, field)
        // Six bits from "A" on end at 0x80, one past ASCII.
        return LetterPair(first: UInt8(0x41 + first), second: UInt8(0x41 + second))
    }

    /// Reads `count` restrictions and adds those that a vendor (0 for none) is under.
    private static func readRestrictions(
        _ reader: inout BitReader, _ count: Int, _ vendor: Int, _ restrictions: inout PublisherRestrictions
    ) throws(ConsentStringError) {
        for _ in 0..<count {
            let purpose = NumberSet(number: try reader.integer(6, .publisherRestrictions))
            let type = try reader.integer(2, .publisherRestrictions)
            let entries = try reader.integer(12, .publisherRestrictions)
            guard try reader.ranges(entries, contain: vendor, .publisherRestrictions) else { continue }
            switch type {
            case 1: restrictions.requiresConsent.insert(purpose)
            case 2: restrictions.requiresLegitimateInterest.insert(purpose)
            default: restrictions.notAllowed.insert(purpose)
            }
        }
    }

    private mutating func readSegment(_ bits: PackedBits) throws(ConsentStringError) {
        var reader = BitReader(bits)
        switch try reader.integer(3, .segmentType) {
        case 0: throw .repeated(.version)
        case 1:
            if disclosed != nil { throw .repeated(.disclosedVendors) }
            disclosed = try VendorList(&reader, .disclosedVendors)
            disclosedBits = bits
        case 3:
            if publisherPurposes != nil { throw .repeated(.publisherPurposes) }
            var purposes = PublisherPurposes()
            purposes.consent = try reader.numbers(24, .publisherPurposes)
            purposes.legitimateInterest = try reader.numbers(24, .publisherPurposes)
            let count = try reader.integer(6, .publisherPurposes)
            purposes.customConsent = try reader.numbers(count, .publisherPurposes)
            purposes.customLegitimateInterest = try reader.numbers(count, .publisherPurposes)
            publisherPurposes = purposes
        default: break
        }
    }
}

/// Where a list of vendors lies in its segment: a bit for each, or ranges. 65,535 vendors would take 8 KiB as a set.
///
/// Canada's specification writes its lists differently (OptimizedRange, in Fibonacci coding) from what all of the IAB's
/// own encoders and decoders do; they write Europe's form (OptimizedIntRange), and so that is what is read.
private struct VendorList: Equatable, Sendable {
    private var maximum = 0
    private var isRange = false
    private var entries = 0
    private var start = 0

    init() {}

    init(_ reader: inout BitReader, _ field: ConsentStringField) throws(ConsentStringError) {
        maximum = try reader.integer(16, field)
        isRange = try reader.flag(field)
        entries = isRange ? try reader.integer(12, field) : 0
        start = reader.position
        if isRange { _ = try reader.ranges(entries, contain: 0, field) } else { try reader.skip(maximum, field) }
    }

    func contains(_ vendor: Int, _ bits: PackedBits) -> Bool {
        if vendor < 1 || vendor > maximum { return false }
        if !isRange { return bits.isSet(start + vendor - 1) }
        var reader = BitReader(bits, from: start)
        do throws(ConsentStringError) {
            return try reader.ranges(entries, contain: vendor, .vendorConsent)
        } catch {
            return false
        }
    }
}
