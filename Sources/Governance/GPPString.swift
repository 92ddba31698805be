// A consent string of the IAB's Global Privacy Platform: a header and one section for each law. Reads, never writes.
//
// Written after "Global Privacy Platform String" (Consent String Specification 1.0), the registry "Section Information", and
// the specification of each section. A section that is not known here is listed and otherwise left alone.

/// What a person opted out of.
public struct OptOuts: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// `SaleOptOut`: the sale of personal data.
    public static let sale = OptOuts(rawValue: 1)
    /// `SharingOptOut`: the sharing of personal data.
    public static let sharing = OptOuts(rawValue: 2)
    /// `TargetedAdvertisingOptOut`: the use of personal data for targeted advertising.
    public static let targetedAdvertising = OptOuts(rawValue: 4)
    /// The browser sent Global Privacy Control. What it opts out of depends on the law: who asks decides.
    public static let gpc = OptOuts(rawValue: 8)
    /// Every opt-out that a person can declare to a site: what a section says that cannot be read. In doubt, closed.
    public static let everything: OptOuts = [.sale, .sharing, .targetedAdvertising]
}

/// A GPP string: its sections' numbers, and the sections as they came, read when they are asked for.
public struct GPPString: Equatable, Sendable {
    /// The numbers of the sections, ascending, by the registry: 2 TCF Europe, 5 TCF Canada, 6 US Privacy, 7 US National,
    /// 8 and above the states of the US.
    public private(set) var sectionIDs: [Int] = []

    private let text: [UInt8]
    /// Where each section begins in `text`, and one more: where the next would, past a `~`.
    private var starts: [Int] = []

    /// Reads the header and finds the sections; what is in them is not looked at.
    ///
    /// - Parameter text: ASCII, at most `Limits.consentStringBytes`: the header and the sections, a `~` between them.
    /// - Throws: what is wrong with the text or its header; `invalid(.sections)` where the header announces other than as
    ///   many sections as there are.
    public init(_ text: Span<UInt8>) throws(ConsentStringError) {
        if text.count == 0 { throw .empty }
        if text.count > Limits.consentStringBytes { throw .tooLong }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        for index in text.indices { bytes.append(text[index]) }
        self.text = bytes
        // The first digit tells a GPP string from a TCF string, which has its version there and dots further on.
        let type = Int(try PackedBits(text.extracting(0..<1), at: 0).number(at: 0, width: 6))
        if type != 3 { throw .unknownVersion(.type, found: type) }
        let headerEnd = GPPString.end(of: UInt8(ascii: "~"), text, from: 0)
        try readHeader(try PackedBits(text.extracting(0..<headerEnd), at: 0))
        var end = headerEnd
        while end < text.count {
            starts.append(end + 1)
            end = GPPString.end(of: UInt8(ascii: "~"), text, from: end + 1)
        }
        if starts.count != sectionIDs.count { throw .invalid(.sections) }
        starts.append(end + 1)
    }

    /// "Header": type 3, version 1, and the sections as Range(Fibonacci), each number given as the step from the last.
    private mutating func readHeader(_ bits: PackedBits) throws(ConsentStringError) {
        var reader = BitReader(bits)
        try reader.skip(6, .type)
        let version = try reader.integer(6, .version)
        if version != 1 { throw .unknownVersion(.version, found: version) }
        let count = try reader.integer(12, .sections)
        var last = 0
        for _ in 0..<count {
            let isGroup = try reader.flag(.sections)
            let first = last + (try reader.fibonacci(.sections))
            last = first + (isGroup ? try reader.fibonacci(.sections) : 0)
            if last - first >= Limits.consentStringSections - sectionIDs.count { throw .tooManySections }
            for id in first...last { sectionIDs.append(id) }
        }
    }

    /// The text of a section as it came; nil for a section that is not there.
    public func section(_ id: Int) -> [UInt8]? {
        guard let range = bounds(of: id) else { return nil }
        return Array(text[range])
    }

    /// The TCF string in the string: section 2, or for Canada section 5.
    /// - Returns: nil for a string without that section.
    /// - Throws: what is wrong with it, offsets counted in the whole text. Nobody has agreed to anything then.
    public func tcf(_ region: TCFString.Region = .europe) throws(ConsentStringError) -> TCFString? {
        guard let range = bounds(of: region == .europe ? 2 : 5) else { return nil }
        let span = text.span
        return try TCFString(span.extracting(range), region, at: range.lowerBound)
    }

    /// What the person opted out of, by the sections that apply to them taken together.
    ///
    /// - Parameter applicableSections: as the platform gives them (`gpp_sid`). With nil or a -1 among them, which is
    ///   "not known", every section of the string counts. Sections that are not of the US, not known here or not in the
    ///   string say nothing.
    /// - Returns: the opt-outs of all of them; `everything` for a section of the US that cannot be read.
    public func optOuts(applicableSections: [Int]? = nil) -> OptOuts {
        var all: OptOuts = []
        for id in sectionIDs {
            if let applicableSections, !applicableSections.contains(-1), !applicableSections.contains(id) { continue }
            do throws(ConsentStringError) {
                all.formUnion(try optOuts(section: id) ?? [])
            } catch {
                all.formUnion(.everything)
            }
        }
        return all
    }

    /// What the person opted out of by one section of the US, 6…27.
    /// - Returns: nil for any other section, and for one that is not in the string.
    /// - Throws: what is wrong with the section.
    public func optOuts(section id: Int) throws(ConsentStringError) -> OptOuts? {
        guard let range = bounds(of: id) else { return nil }
        let span = text.span
        if id == 6 { return try USSection.privacy(span.extracting(range)) }
        guard let section = USSection(id) else { return nil }
        return try section.optOuts(span.extracting(range), at: range.lowerBound)
    }

    private func bounds(of id: Int) -> Range<Int>? {
        for index in sectionIDs.indices where sectionIDs[index] == id { return starts[index]..<(starts[index + 1] - 1) }
        return nil
    }

    static func end(of separator: UInt8, _ text: Span<UInt8>, from start: Int) -> Int {
        var end = start
        while end < text.count, text[end] != separator { end += 1 }
        return end
    }
}

/// Where a section of the US has the fields that matter here. All of the sections are the same in kind: a version of six
/// bits, then fields of two, of which the notices and opt-outs come first.
private struct USSection {
    private let id: Int
    /// Notices before the opt-outs, each of two bits.
    private let notices: Int
    /// Bits of the core subsection, padding left out.
    private let coreBits: Int

    /// nil for a section that is not one of the US, or not known here.
    init?(_ id: Int) {
        self.id = id
        switch id {
        // US National: 60 bits in its first form, 70 since the lists of sensitive data and children have grown.
        case 7: (notices, coreBits) = (6, 60)
        case 8: (notices, coreBits) = (3, 46)  // California
        case 9: (notices, coreBits) = (3, 40)  // Virginia
        case 10: (notices, coreBits) = (3, 38)  // Colorado
        case 11: (notices, coreBits) = (4, 42)  // Utah
        case 12: (notices, coreBits) = (3, 44)  // Connecticut
        case 13, 14: (notices, coreBits) = (3, 46)  // Florida, Montana
        case 15: (notices, coreBits) = (3, 52)  // Oregon
        case 16: (notices, coreBits) = (3, 42)  // Texas
        case 17: (notices, coreBits) = (3, 52)  // Delaware
        case 18: (notices, coreBits) = (4, 42)  // Iowa
        case 19: (notices, coreBits) = (3, 42)  // Nebraska
        case 20: (notices, coreBits) = (3, 46)  // New Hampshire
        case 21: (notices, coreBits) = (3, 54)  // New Jersey
        case 22, 23: (notices, coreBits) = (3, 42)  // Tennessee, Minnesota
        // The version and modes of the agreement stand before three notices, ten bits as against six.
        case 24: (notices, coreBits) = (5, 22)  // Maryland
        case 25, 26, 27: (notices, coreBits) = (5, 24)  // Indiana, Kentucky, Rhode Island
        default: return nil
        }
    }

    /// From Maryland on, a section begins with a header of its own, and its core has the version of the agreement where the
    /// others have that of the section.
    private var hasHeader: Bool { id >= 24 }
    /// US National and California tell sharing from selling.
    private var hasSharing: Bool { id == 7 || id == 8 }
    /// California has no targeted advertising: there it is sharing.
    private var hasTargetedAdvertising: Bool { id != 8 }
    /// US National has been revised once.
    private var latestVersion: Int { id == 7 ? 2 : 1 }
    /// In Indiana, Kentucky and Rhode Island what follows the core is sensitive data, without a type.
    private var hasTypedSubsections: Bool { id < 25 }

    /// Reads a section: the header where it has one, the core, and the subsection of Global Privacy Control, dots between.
    /// - Parameter offset: where the section stands in the whole text.
    func optOuts(_ text: Span<UInt8>, at offset: Int) throws(ConsentStringError) -> OptOuts {
        var optOuts: OptOuts = []
        var start = 0
        var number = hasHeader ? -1 : 0
        while start <= text.count {
            let end = GPPString.end(of: UInt8(ascii: "."), text, from: start)
            var reader = BitReader(try PackedBits(text.extracting(start..<end), at: offset + start))
            if number < 0 {
                // The list of subsections is left out: the number of the core, 0, has no Fibonacci code.
                if try reader.integer(6, .sectionHeader) != id { throw .invalid(.sectionHeader) }
                try checkVersion(&reader)
            } else if number == 0 {
                if !hasHeader { try checkVersion(&reader) } else { try reader.skip(6, .optOuts) }
                optOuts = try core(&reader)
            } else if hasTypedSubsections, try reader.integer(2, .globalPrivacyControl) == 1 {
                if try reader.flag(.globalPrivacyControl) { optOuts.insert(.gpc) }
            }
            number += 1
            start = end + 1
        }
        if number < 1 { throw .truncated(.optOuts) }
        return optOuts
    }

    private func checkVersion(_ reader: inout BitReader) throws(ConsentStringError) {
        let version = try reader.integer(6, .version)
        if version < 1 || version > latestVersion { throw .unknownVersion(.version, found: version) }
    }

    /// The core subsection after its first six bits. 0 is "not applicable", 1 "opted out", 2 "did not opt out"; 3 is not
    /// defined, and in doubt closed.
    private func core(_ reader: inout BitReader) throws(ConsentStringError) -> OptOuts {
        if reader.left < coreBits - 6 { throw .truncated(.optOuts) }
        try reader.skip(2 * notices, .optOuts)
        var optOuts: OptOuts = []
        if try reader.integer(2, .optOuts) & 1 == 1 { optOuts.insert(.sale) }
        if hasSharing, try reader.integer(2, .optOuts) & 1 == 1 { optOuts.insert(.sharing) }
        if hasTargetedAdvertising, try reader.integer(2, .optOuts) & 1 == 1 { optOuts.insert(.targetedAdvertising) }
        return optOuts
    }

    /// The US Privacy String (section 6, not packed): the version 1, then whether notice was given, whether the person
    /// opted out of the sale of their data, and whether the LSPA covers it, each `Y`, `N` or `-`.
    static func privacy(_ text: Span<UInt8>) throws(ConsentStringError) -> OptOuts {
        if text.count < 4 { throw .truncated(.optOuts) }
        if text[0] != UInt8(ascii: "1") { throw .unknownVersion(.version, found: Int(text[0]) - 0x30) }
        if text.count > 4 { throw .invalid(.optOuts) }
        for index in 1..<4 {
            switch text[index] {
            case UInt8(ascii: "Y"), UInt8(ascii: "y"), UInt8(ascii: "N"), UInt8(ascii: "n"), UInt8(ascii: "-"): break
            default: throw .invalid(.optOuts)
            }
        }
        return text[2] | 0x20 == UInt8(ascii: "y") ? .sale : []
    }
}
