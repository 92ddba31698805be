// The `consent` section of a bundle, and what events and calls say about purposes: the names of the bundle itself
// (Segment, RudderStack), Google's, the header of Global Privacy Control, and the strings of the IAB. They are read and
// never written.

import Formats

/// What an event or a call says about purposes of the bundle.
public struct ConsentSignal: Equatable, Sendable {
    public var granted: PurposeSet = []
    public var denied: PurposeSet = []

    public init(granted: PurposeSet = [], denied: PurposeSet = []) {
        self.granted = granted.subtracting(denied)
        self.denied = denied
    }

    public var isEmpty: Bool { granted.isEmpty && denied.isEmpty }

    /// Joins what two places say; where they disagree the refusal holds.
    mutating func formUnion(_ other: ConsentSignal) {
        denied.formUnion(other.denied)
        granted.formUnion(other.granted)
        granted.subtract(denied)
    }
}

/// How consent is understood.
///
/// ```yaml
/// consent:
///   wait: 10m                                # events without a choice wait so long in memory; 0s: they are denied at once
///   valid: { advertising: 390d }             # how long a grant holds
///   google: { advertising: [ad_storage, ad_user_data] }   # Consent Mode v2: all of these make the purpose
///   gpc: [advertising]                       # what the header Sec-GPC: 1 denies; `advertising` where nothing is said
///   tcf: { vendor: 755, purposes: { analytics: [1, 8], advertising: [1, 2, 7] } }      # IAB TCF: all of the numbers
///   gpp: { advertising: [sale, sharing, targeted_advertising, gpc] }     # IAB GPP: any of these opt-outs denies
/// ```
public struct ConsentPlan: Sendable {
    /// How long an event may wait for a choice, milliseconds.
    public private(set) var waitMilliseconds: Int64 = Limits.defaultWaitMilliseconds
    /// How many days a grant of each purpose holds; 0 for no end.
    public private(set) var validDays: [UInt16]
    private let purposes: PurposePlan
    /// Google's names of each purpose, as bits of `googleNames`.
    private var google: [UInt8]
    private var controlDenies: PurposeSet = []
    /// TCF's purposes of each purpose; empty: not mapped.
    private var frameworkPurposes: [[Int]]
    private var vendor: Int?
    private var acceptsLegitimateInterest = false
    /// The opt-outs of GPP's sections that deny each purpose.
    private var optOuts: [OptOuts]

    /// Google's Consent Mode v2, without `security_storage`, which it always grants.
    static let googleNames: [StaticString] = [
        "ad_storage", "ad_user_data", "ad_personalization", "analytics_storage", "functionality_storage",
        "personalization_storage",
    ]

    /// What holds without a section.
    public init(_ purposes: PurposePlan) {
        self.purposes = purposes
        validDays = Array(repeating: 0, count: purposes.names.count)
        google = Array(repeating: 0, count: purposes.names.count)
        frameworkPurposes = Array(repeating: [], count: purposes.names.count)
        optOuts = Array(repeating: [], count: purposes.names.count)
        let advertising: StaticString = "advertising"
        if let index = purposes.index(of: advertising.bytes) { controlDenies = PurposeSet(purpose: index) }
    }

    /// Reads the section; problems are remembered by the reader.
    public init(
        _ document: borrowing JSONDocument, _ bundle: JSONNode, _ purposes: PurposePlan, _ reader: inout PlanReader
    ) {
        self.init(purposes)
        guard let section = reader.object(document, bundle, "consent") else { return }
        reader.refuseOthers(document, section, ["wait", "valid", "google", "gpc", "tcf", "gpp"], of: "consent")
        readWait(document, section, &reader)
        readValid(document, section, &reader)
        readGoogle(document, section, &reader)
        if let list = document.member(section, "gpc") {
            controlDenies = readPurposes(document, list, &reader)
        }
        readFramework(document, section, &reader)
        readOptOuts(document, section, &reader)
    }

    /// `tcf`
    private mutating func readFramework(
        _ document: borrowing JSONDocument, _ section: JSONNode, _ reader: inout PlanReader
    ) {
        guard let framework = reader.object(document, section, "tcf") else { return }
        reader.refuseOthers(document, framework, ["vendor", "legitimate_interest", "purposes"], of: "consent.tcf")
        vendor = reader.integer(document, framework, "vendor", 1...65_535).map { Int($0) }
        acceptsLegitimateInterest = reader.flag(document, framework, "legitimate_interest") ?? false
        guard let mapping = reader.object(document, framework, "purposes") else {
            reader.report(document, framework, "tcf needs purposes: which of TCF's numbers make each purpose of the bundle")
            return
        }
        var key = document.firstChild(mapping)
        while let name = key, let list = document.next(name) {
            key = document.next(list)
            guard let index = purpose(document, name, &reader) else { continue }
            var element = document.kind(list) == .array ? document.firstChild(list) : nil
            if element == nil { reader.report(document, list, "this must be a list of TCF's purposes such as [1, 8]") }
            while let node = element {
                element = document.next(node)
                if let number = document.int64(node), number >= 1, number <= 24 {
                    frameworkPurposes[index].append(Int(number))
                } else {
                    reader.report(document, node, "a purpose of TCF is a number from 1 to 24")
                }
            }
        }
    }

    /// `gpp`
    private mutating func readOptOuts(
        _ document: borrowing JSONDocument, _ section: JSONNode, _ reader: inout PlanReader
    ) {
        guard let mapping = reader.object(document, section, "gpp") else { return }
        let names: [(StaticString, OptOuts)] = [
            ("sale", .sale), ("sharing", .sharing), ("targeted_advertising", .targetedAdvertising), ("gpc", .gpc),
        ]
        var key = document.firstChild(mapping)
        while let name = key, let list = document.next(name) {
            key = document.next(list)
            guard let index = purpose(document, name, &reader) else { continue }
            var element = document.kind(list) == .array ? document.firstChild(list) : nil
            if element == nil { reader.report(document, list, "this must be a list of opt-outs such as [sale, sharing]") }
            while let node = element {
                element = document.next(node)
                if let known = names.first(where: { document.equals(node, $0.0) }) {
                    optOuts[index].formUnion(known.1)
                } else {
                    reader.report(document, node, "an opt-out is sale, sharing, targeted_advertising or gpc")
                }
            }
        }
    }

    private mutating func readWait(
        _ document: borrowing JSONDocument, _ section: JSONNode, _ reader: inout PlanReader
    ) {
        guard let node = document.member(section, "wait") else { return }
        guard document.kind(node) == .string, let wait = DurationText.parse(document.bytes(node)),
            wait <= Limits.longestWaitMilliseconds
        else {
            reader.report(document, node, "wait must be \(DurationText.expected), at most 24h; 0s: events do not wait")
            return
        }
        waitMilliseconds = wait
    }

    private mutating func readValid(
        _ document: borrowing JSONDocument, _ section: JSONNode, _ reader: inout PlanReader
    ) {
        guard let valid = reader.object(document, section, "valid") else { return }
        var key = document.firstChild(valid)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            guard let index = purpose(document, name, &reader) else { continue }
            let milliseconds = document.kind(value) == .string ? DurationText.parse(document.bytes(value)) : nil
            let days = (milliseconds ?? 0) / 86_400_000
            guard days >= 1, days <= Int64(UInt16.max) else {
                reader.report(document, value, "this must be \(DurationText.expected), at least 1d and at most 65535d")
                continue
            }
            validDays[index] = UInt16(days)
        }
    }

    private mutating func readGoogle(
        _ document: borrowing JSONDocument, _ section: JSONNode, _ reader: inout PlanReader
    ) {
        guard let mapping = reader.object(document, section, "google") else { return }
        var key = document.firstChild(mapping)
        while let name = key, let list = document.next(name) {
            key = document.next(list)
            guard let index = purpose(document, name, &reader) else { continue }
            var element = document.kind(list) == .array ? document.firstChild(list) : nil
            if element == nil { reader.report(document, list, "this must be a list of names such as [ad_storage]") }
            while let node = element {
                element = document.next(node)
                var isKnown = false
                for bit in ConsentPlan.googleNames.indices where document.equals(node, ConsentPlan.googleNames[bit]) {
                    google[index] |= 1 << UInt8(bit)
                    isKnown = true
                }
                if !isKnown {
                    reader.report(
                        document, node,
                        "Google's names are ad_storage, ad_user_data, ad_personalization, analytics_storage, "
                            + "functionality_storage and personalization_storage")
                }
            }
        }
    }

    private func readPurposes(
        _ document: borrowing JSONDocument, _ list: JSONNode, _ reader: inout PlanReader
    ) -> PurposeSet {
        var set: PurposeSet = []
        guard document.kind(list) == .array else {
            reader.report(document, list, "this must be a list of purposes of the bundle")
            return set
        }
        var element = document.firstChild(list)
        while let node = element {
            element = document.next(node)
            if let index = purpose(document, node, &reader) { set.insert(PurposeSet(purpose: index)) }
        }
        return set
    }

    private func purpose(
        _ document: borrowing JSONDocument, _ name: JSONNode, _ reader: inout PlanReader
    ) -> Int? {
        if document.kind(name) == .string, let index = purposes.index(of: document.bytes(name)) { return index }
        reader.report(document, name, "\(document.string(name) ?? "this") is not among the purposes of this bundle")
        return nil
    }

    // MARK: What is said

    /// What an event says: in `context.consent` (Segment's `categoryPreferences`, Google's names, IAB strings), in
    /// `context.consentManagement` (RudderStack), and by the request's header.
    /// - Parameter hasGlobalPrivacyControl: the request came with `Sec-GPC: 1`.
    public func signal(
        _ document: borrowing JSONDocument, context: JSONNode?, hasGlobalPrivacyControl: Bool
    ) -> ConsentSignal {
        var signal = ConsentSignal(denied: hasGlobalPrivacyControl ? controlDenies : [])
        guard let context else { return signal }
        if let consent = document.member(context, "consent"), document.kind(consent) == .object {
            if let preferences = document.member(consent, "categoryPreferences") {
                signal.formUnion(self.signal(document, preferences: preferences))
            }
            signal.formUnion(googleSignal(document, consent))
            signal.formUnion(stringSignal(document, consent))
        }
        if let management = document.member(context, "consentManagement"), document.kind(management) == .object {
            var listed = ConsentSignal()
            if let list = document.member(management, "allowedConsentIds") {
                listed.granted = listedPurposes(document, list)
            }
            if let list = document.member(management, "deniedConsentIds") {
                listed.denied = listedPurposes(document, list)
            }
            signal.formUnion(listed)
        }
        return signal
    }

    /// What an object of purposes and booleans says (`true` and `"granted"` grant, everything else denies: in doubt,
    /// closed). Names of the bundle and Google's are understood; others say nothing.
    public func signal(_ document: borrowing JSONDocument, preferences: JSONNode) -> ConsentSignal {
        var signal = ConsentSignal()
        guard document.kind(preferences) == .object else { return signal }
        var key = document.firstChild(preferences)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            guard let index = purposes.index(of: document.bytes(name)) else { continue }
            if isGrant(document, value) {
                signal.granted.insert(PurposeSet(purpose: index))
            } else {
                signal.denied.insert(PurposeSet(purpose: index))
            }
        }
        signal.granted.subtract(signal.denied)
        signal.formUnion(googleSignal(document, preferences))
        return signal
    }

    private func isGrant(_ document: borrowing JSONDocument, _ value: JSONNode) -> Bool {
        if document.bool(value) == true { return true }
        guard document.kind(value) == .string else { return false }
        return document.equals(value, "granted") || document.equals(value, "GRANTED")
    }

    /// Google's names: a purpose is granted when all of its names are, and denied when one of them is.
    private func googleSignal(_ document: borrowing JSONDocument, _ object: JSONNode) -> ConsentSignal {
        var granted: UInt8 = 0
        var denied: UInt8 = 0
        for bit in ConsentPlan.googleNames.indices {
            guard let value = document.member(object, ConsentPlan.googleNames[bit]) else { continue }
            if isGrant(document, value) { granted |= 1 << UInt8(bit) } else { denied |= 1 << UInt8(bit) }
        }
        var signal = ConsentSignal()
        if granted | denied == 0 { return signal }
        for index in google.indices where google[index] != 0 {
            if google[index] & denied != 0 {
                signal.denied.insert(PurposeSet(purpose: index))
            } else if google[index] & ~granted == 0 {
                signal.granted.insert(PurposeSet(purpose: index))
            }
        }
        return signal
    }

    /// What the IAB's strings say: `tcString`, and `gppString` with `gppSid` (the sections that apply; without it all).
    /// A string that cannot be read denies what it is mapped to: in doubt, closed.
    private func stringSignal(_ document: borrowing JSONDocument, _ consent: JSONNode) -> ConsentSignal {
        var signal = ConsentSignal()
        let isFrameworkMapped = frameworkPurposes.contains { !$0.isEmpty }
        if isFrameworkMapped, let node = document.member(consent, "tcString"), !document.isNull(node) {
            do throws(ConsentStringError) {
                guard document.kind(node) == .string else { throw .empty }
                signal.formUnion(frameworkSignal(try TCFString(document.bytes(node))))
            } catch {
                signal.formUnion(frameworkSignal(nil))
            }
        }
        guard isFrameworkMapped || optOuts.contains(where: { !$0.isEmpty }),
            let node = document.member(consent, "gppString"), !document.isNull(node)
        else { return signal }
        do throws(ConsentStringError) {
            guard document.kind(node) == .string else { throw .empty }
            let string = try GPPString(document.bytes(node))
            let applicable = sections(document, consent)
            if isFrameworkMapped, applicable?.contains(2) ?? true, let europe = try string.tcf() {
                signal.formUnion(frameworkSignal(europe))
            }
            signal.formUnion(optOutSignal(string.optOuts(applicableSections: applicable)))
        } catch {
            signal.formUnion(optOutSignal([.everything, .gpc]))
            if isFrameworkMapped { signal.formUnion(frameworkSignal(nil)) }
        }
        return signal
    }

    /// - Parameter string: nil for one that cannot be read.
    private func frameworkSignal(_ string: TCFString?) -> ConsentSignal {
        var signal = ConsentSignal()
        for index in frameworkPurposes.indices where !frameworkPurposes[index].isEmpty {
            let isAllowed = string?.allows(
                purposes: frameworkPurposes[index], vendor: vendor, acceptingLegitimateInterest: acceptsLegitimateInterest)
            if isAllowed ?? false {
                signal.granted.insert(PurposeSet(purpose: index))
            } else {
                signal.denied.insert(PurposeSet(purpose: index))
            }
        }
        return signal
    }

    /// Opt-outs deny; that somebody has not opted out grants nothing here.
    private func optOutSignal(_ found: OptOuts) -> ConsentSignal {
        var signal = ConsentSignal()
        for index in optOuts.indices where !optOuts[index].isDisjoint(with: found) {
            signal.denied.insert(PurposeSet(purpose: index))
        }
        return signal
    }

    private func sections(_ document: borrowing JSONDocument, _ consent: JSONNode) -> [Int]? {
        guard let list = document.member(consent, "gppSid"), document.kind(list) == .array else { return nil }
        var numbers: [Int] = []
        var element = document.firstChild(list)
        while let node = element, numbers.count < Limits.consentStringSections {
            element = document.next(node)
            if let number = document.int64(node), number >= -1, number <= 64 { numbers.append(Int(number)) }
        }
        return numbers
    }

    private func listedPurposes(_ document: borrowing JSONDocument, _ list: JSONNode) -> PurposeSet {
        var set: PurposeSet = []
        guard document.kind(list) == .array else { return set }
        var element = document.firstChild(list)
        while let node = element {
            element = document.next(node)
            guard document.kind(node) == .string, let index = purposes.index(of: document.bytes(node)) else { continue }
            set.insert(PurposeSet(purpose: index))
        }
        return set
    }
}
