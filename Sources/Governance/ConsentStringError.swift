// Why a consent string of the IAB (TCF or GPP) could not be read, and at which of its fields.

/// A field of a TCF or GPP string, or a part of one, in the order in which they stand.
public enum ConsentStringField: UInt8, Sendable {
    /// The type with which a GPP header begins: 3.
    case type
    /// The version with which a header, a section or the core segment begins.
    case version
    /// The list of section numbers in a GPP header, or the sections that it announces.
    case sections
    /// The header of its own that some US sections have.
    case sectionHeader
    case created, lastUpdated, consentManagementPlatform, consentLanguage, vendorListVersion, policyVersion
    case isServiceSpecific, usesNonStandardTexts, specialFeatures
    case purposesConsent, purposesLegitimateInterest, purposeOneTreatment, publisherCountry
    case vendorConsent, vendorLegitimateInterest, publisherRestrictions
    /// The type with which every segment but the core begins.
    case segmentType
    case disclosedVendors, publisherPurposes
    /// The notices, choices and modes of a US section.
    case optOuts
    case globalPrivacyControl

    /// The field as a message names it.
    public var name: StaticString {
        switch self {
        case .type: "type"
        case .version: "version"
        case .sections: "sections"
        case .sectionHeader: "section header"
        case .created: "created"
        case .lastUpdated: "last updated"
        case .consentManagementPlatform: "consent management platform"
        case .consentLanguage: "consent language"
        case .vendorListVersion: "vendor list version"
        case .policyVersion: "policy version"
        case .isServiceSpecific: "is service specific"
        case .usesNonStandardTexts: "uses non-standard texts"
        case .specialFeatures: "special features"
        case .purposesConsent: "purposes consent"
        case .purposesLegitimateInterest: "purposes legitimate interest"
        case .purposeOneTreatment: "purpose one treatment"
        case .publisherCountry: "publisher country"
        case .vendorConsent: "vendor consent"
        case .vendorLegitimateInterest: "vendor legitimate interest"
        case .publisherRestrictions: "publisher restrictions"
        case .segmentType: "segment type"
        case .disclosedVendors: "disclosed vendors"
        case .publisherPurposes: "publisher purposes"
        case .optOuts: "opt-outs"
        case .globalPrivacyControl: "global privacy control"
        }
    }
}

/// Why a consent string could not be read, and where.
public enum ConsentStringError: Error, Equatable, Sendable {
    /// There is no text at all.
    case empty
    /// The text has more than `Limits.consentStringBytes` bytes.
    case tooLong
    /// The byte at this offset (from 0, of the whole text) is no digit of base64url (RFC 4648 section 5).
    case notBase64(offset: Int)
    /// The text ends within this field.
    case truncated(ConsentStringField)
    /// The field has a value that it cannot have.
    case invalid(ConsentStringField)
    /// `type` or `version` has a value that is not known here; the meaning of all that follows is not known either.
    case unknownVersion(ConsentStringField, found: Int)
    /// A segment or subsection stands there twice, and which of them counts is not said.
    case repeated(ConsentStringField)
    /// There are more than `Limits.consentStringSections` sections.
    case tooManySections

    /// What is wrong, without any of the text.
    public var message: StaticString {
        switch self {
        case .empty: "the consent string is empty"
        case .tooLong: "the consent string is too long"
        case .notBase64: "the consent string has a character that is not of base64url"
        case .truncated: "the consent string ends within a field"
        case .invalid: "a field of the consent string has a value that it cannot have"
        case .unknownVersion: "the consent string is of a version that is not known"
        case .repeated: "the consent string has a segment twice"
        case .tooManySections: "the consent string has too many sections"
        }
    }
}
