import Testing

@testable import Governance

@Suite struct GPPStringTests {
    /// A header with these sections, groups of following numbers as groups.
    static func header(_ ids: [Int], type: Int = 3, version: Int = 1) -> BitWriter {
        var writer = BitWriter()
        writer.integer(type, 6, .type)
        writer.integer(version, 6, .version)
        let groups = BitWriter.groups(Set(ids))
        writer.integer(groups.count, 12, .sections)
        var last = 0
        for group in groups {
            writer.bit(group.count > 1, .sections)
            writer.fibonacci(group.lowerBound - last, .sections)
            if group.count > 1 { writer.fibonacci(group.upperBound - group.lowerBound, .sections) }
            last = group.upperBound
        }
        return writer
    }

    static func text(_ sections: [(id: Int, text: String)]) -> String {
        let header = String(decoding: header(sections.map(\.id)).text(), as: UTF8.self)
        return ([header] + sections.map(\.text)).joined(separator: "~")
    }

    /// The strings of "Header Examples" and "GPP String Examples"; a header ends with the digit that its bits end in.
    @Test func theExamplesOfTheSpecification() throws {
        let core = "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"
        let europe = try gpp("DBABM~" + core)
        #expect(europe.sectionIDs == [2] && europe.section(2) == Array(core.utf8))
        #expect(try europe.tcf() == tcf(core))
        #expect(try europe.tcf(.canada) == nil)
        let both = try gpp("DBACNY~" + core + "~1YNN")
        #expect(both.sectionIDs == [2, 6] && both.section(6) == Array("1YNN".utf8) && both.section(5) == nil)
        #expect(both.optOuts() == [])
        // Its third example has a European string where Canada's belongs.
        let canada = try gpp("DBABjw~" + core + "~1YNN")
        #expect(canada.sectionIDs == [5, 6])
        #expect(throws: ConsentStringError.unknownVersion(.version, found: 2)) { _ = try canada.tcf(.canada) }
        #expect(try gpp("DBAA").sectionIDs == [])
    }

    /// A string of all sections that the IAB's implementation writes without any choice, and then what each of them is
    /// tested with there: everything opted out of.
    @Test func theSectionsOfTheUnitedStates() throws {
        let quiet =
            "DBACOYs~CPSG_8APSG_8AAAAAAENAACAAAAAAAAAAAAAAAAAAAAA.QAAA.IAAA~BPSG_8APSG_8AAAAAAENAACAAAAAAAAAAAAAAAAAAA."
            + "YAAAAAAAAAA~1---~BAAAAAAAAABA.QA~BAAAAABA.QA~BAAAABA~BAAAAEA.QA~BAAAAAQA~BAAAAAEA.QA~BAAAAABA~BAAAAABA.QA~"
            + "BAAAAAAABAA.QA~BAAAAAQA.QA~BAAAAAAABAA.QA~BAAAAAQA.QA~BAAAAAQA.QA~BAAAAABA.QA~BAAAAAAAQA.QA~BAAAAAQA.QA~"
            + "BAAAAAQA.QA"
        let string = try gpp(quiet)
        #expect(string.sectionIDs == [2] + Array(5...23))
        #expect(try string.tcf() != nil)
        #expect(try string.tcf(.canada) != nil)
        for id in 6...23 { #expect(try string.optOuts(section: id) == []) }
        #expect(string.optOuts() == [])

        let plain: OptOuts = [.sale, .targetedAdvertising]
        let loud: [(id: Int, text: String, optOuts: OptOuts)] = [
            (6, "1YYN", .sale), (7, "BVVVkkkkkpFY.YA", [.sale, .sharing, .targetedAdvertising, .gpc]),
            (8, "BVWSSSVY.YA", [.sale, .sharing, .gpc]), (9, "BVWSSVY", plain), (10, "BVWSSVg.YA", [plain, .gpc]),
            (11, "BVVkklWA", plain), (12, "BVWSSZFg.YA", [plain, .gpc]), (13, "BVWSSZlY", plain),
            (14, "BVWSSZFY.YA", [plain, .gpc]), (15, "BVWSSRpFYA.YA", [plain, .gpc]), (16, "BVWSSVWA.YA", [plain, .gpc]),
            (17, "BVWSSSSVYA.YA", [plain, .gpc]), (18, "BVVkklWA.YA", [plain, .gpc]), (19, "BVWSSVWA.YA", [plain, .gpc]),
            (20, "BVWSSZFY.YA", [plain, .gpc]), (21, "BVWSSRklWA.YA", [plain, .gpc]), (22, "BVWSSVWA.YA", [plain, .gpc]),
            (23, "BVWSSVWA.YA", [plain, .gpc]),
        ]
        let everything = try gpp(Self.text(loud.map { ($0.id, $0.text) }))
        for section in loud {
            #expect(try everything.optOuts(section: section.id) == section.optOuts, "\(section.id)")
            #expect(everything.optOuts(applicableSections: [section.id]) == section.optOuts, "\(section.id)")
        }
        #expect(everything.optOuts(applicableSections: [9, 8]) == [.sale, .sharing, .targetedAdvertising, .gpc])
        #expect(everything.optOuts(applicableSections: [2, 24, 99, 0]) == [])
        #expect(everything.optOuts(applicableSections: [-1]) == everything.optOuts())
        // US National as it was before its lists grew, with a choice of "did not opt out" (2) in all three.
        #expect(try gpp("DBABLA~BVQqAAAACg").optOuts(section: 7) == [])
    }

    /// Fields of each section in bits before and after the opt-outs, by its specification.
    struct Layout {
        let id: Int
        var headed = false
        let before: Int
        let optOuts: [OptOuts]
        let after: Int
        var coreBits: Int { before + 2 * optOuts.count + after }
    }

    static let layouts: [Layout] = {
        var layouts = [
            Layout(id: 7, before: 6 + 12, optOuts: [.sale, .sharing, .targetedAdvertising], after: 32 + 6 + 8),
            Layout(id: 8, before: 6 + 6, optOuts: [.sale, .sharing], after: 18 + 4 + 8),
        ]
        // After the opt-outs: sensitive data, children, further consents, three modes.
        let after = [
            9: 16 + 2, 10: 14 + 2, 11: 16 + 2, 12: 16 + 6, 13: 16 + 6 + 2, 14: 16 + 6 + 2, 15: 22 + 6 + 2, 16: 16 + 2 + 2,
            17: 18 + 10 + 2, 18: 16 + 2, 19: 16 + 2 + 2, 20: 16 + 6 + 2, 21: 20 + 10 + 2, 22: 16 + 2 + 2, 23: 16 + 2 + 2,
        ]
        for (id, bits) in after.sorted(by: { $0.key < $1.key }) {
            let notices = id == 11 || id == 18 ? 8 : 6
            layouts.append(
                Layout(id: id, before: 6 + notices, optOuts: [.sale, .targetedAdvertising], after: bits + 6))
        }
        for id in 24...27 {
            layouts.append(
                Layout(
                    id: id, headed: true, before: 6 + 4 + 6, optOuts: [.sale, .targetedAdvertising],
                    after: id == 24 ? 2 : 4))
        }
        return layouts
    }()

    /// A section with these values for its opt-outs, and everything else by chance.
    static func section(_ layout: Layout, _ values: [Int], gpc: Bool?, _ chance: inout Chance) -> (text: String, core: Int) {
        var writer = BitWriter()
        writer.integer(layout.headed ? chance.next(below: 64) : 1, 6, .version)
        for _ in 6..<layout.before { writer.bit(chance.bool(), .optOuts) }
        for value in values { writer.integer(value, 2, .optOuts) }
        for _ in 0..<layout.after { writer.bit(chance.bool(), .optOuts) }
        var text = ""
        if layout.headed {
            var header = BitWriter()
            header.integer(layout.id, 6, .sectionHeader)
            header.integer(1, 6, .version)
            header.integer(1, 12, .sectionHeader)
            text = String(decoding: header.text(), as: UTF8.self) + "."
        }
        let core = String(decoding: writer.text(), as: UTF8.self)
        text += core
        if let gpc {
            var subsection = BitWriter()
            subsection.integer(1, 2, .globalPrivacyControl)
            subsection.bit(gpc, .globalPrivacyControl)
            text += "." + String(decoding: subsection.text(), as: UTF8.self)
        }
        return (text, core.utf8.count)
    }

    @Test func randomSectionsReadBackEqual() throws {
        var chance = Chance(state: 3)
        for layout in Self.layouts {
            #expect(layout.coreBits > 20)
            for _ in 0..<100 {
                let values = layout.optOuts.map { _ in chance.next(below: 4) }
                let gpc: Bool? = chance.bool() ? chance.bool() : nil
                let section = Self.section(layout, values, gpc: gpc, &chance)
                var wanted: OptOuts = []
                for (index, value) in values.enumerated() where value & 1 == 1 { wanted.insert(layout.optOuts[index]) }
                if gpc == true, layout.id < 25 { wanted.insert(.gpc) }
                let string = try gpp(Self.text([(2, "C"), (layout.id, section.text), (63, "a.b")]))
                #expect(string.sectionIDs == [2, layout.id, 63])
                #expect(try string.optOuts(section: layout.id) == wanted, "\(layout.id)")
                #expect(try string.optOuts(section: 63) == nil)
                #expect(try string.optOuts(section: 2) == nil)
            }
        }
    }

    /// A section cut short of its last field cannot be read, and then everything is opted out of.
    @Test func aSectionThatCannotBeReadIsEverything() throws {
        var chance = Chance(state: 4)
        for layout in Self.layouts {
            let values = layout.optOuts.map { _ in 2 }
            let section = Self.section(layout, values, gpc: nil, &chance)
            let headerCount = section.text.utf8.count - section.core
            // US National was ten bits shorter once.
            let needed = (layout.id == 7 ? 60 : layout.coreBits + 5) / 6
            for count in 0..<section.core {
                let text = String(section.text.prefix(headerCount + count))
                let string = try gpp(Self.text([(layout.id, text)]))
                #expect(string.optOuts() == (count < needed ? .everything : []), "\(layout.id) \(count)")
            }
        }
        for text in ["", "1YN", "1YNNN", "2YNN", "1YXN", "BAAA"] {
            #expect(try gpp(Self.text([(6, text)])).optOuts() == .everything, "\(text)")
        }
        let wrongDigit = try gpp("DBABRg~BVWSSV=")
        #expect(wrongDigit.sectionIDs == [9])
        #expect(throws: ConsentStringError.notBase64(offset: 13)) { _ = try wrongDigit.optOuts(section: 9) }
        #expect(throws: ConsentStringError.unknownVersion(.version, found: 2)) {
            _ = try gpp(Self.text([(9, "CVWSSVY")])).optOuts(section: 9)
        }
        #expect(throws: ConsentStringError.invalid(.sectionHeader)) {
            _ = try gpp(Self.text([(24, "ZBAB.AAAAAAA")])).optOuts(section: 24)
        }
    }

    @Test func everyHeaderReadsBackEqual() throws {
        var chance = Chance(state: 5)
        for _ in 0..<500 {
            let ids = chance.numbers(60, sparseness: 1 + chance.next(below: 20)).sorted()
            let string = try gpp(Self.text(ids.map { ($0, "\($0)") }))
            #expect(string.sectionIDs == ids)
            for id in ids { #expect(string.section(id) == Array("\(id)".utf8)) }
        }
        for value in 1...300 {
            let string = try gpp(Self.text([(value, "x")]))
            #expect(string.sectionIDs == [value])
        }
    }

    // limit: Governance.consentStringBytes, Governance.consentStringSections, Governance.fibonacciNumber
    @Test func damageIsNamed() {
        func text(_ writer: BitWriter, _ sections: Int) -> String {
            String(decoding: writer.text(), as: UTF8.self) + String(repeating: "~", count: sections)
        }
        #expect(gppError("") == .empty)
        #expect(gppError(String(repeating: "~", count: Limits.consentStringBytes + 1)) == .tooLong)
        #expect(gppError("DB=BM~x") == .notBase64(offset: 2))
        #expect(gppError(TCFStringTests.example) == .unknownVersion(.type, found: 2))
        #expect(gppError(text(Self.header([2], version: 2), 1)) == .unknownVersion(.version, found: 2))
        let header = Self.header([2, 5, 6, 7, 63])
        let digits = Array(header.text())
        for count in 1..<digits.count {
            let cut = String(decoding: digits[..<count], as: UTF8.self)
            #expect(gppError(cut + "~~~~~") == .truncated(header.fields[count * 6]), "\(count)")
        }
        for sections in 0..<8 where sections != 5 { #expect(gppError(text(header, sections)) == .invalid(.sections)) }
        #expect(gppError(text(header, 5)) == nil)
        #expect(gppError(text(Self.header(Array(1...64)), 64)) == nil)
        #expect(gppError(text(Self.header(Array(1...65)), 65)) == .tooManySections)
        #expect(gppError(text(Self.header([200_000]), 1)) == .invalid(.sections))
        var endless = BitWriter()
        endless.integer(0b000011_000001, 12, .type)
        endless.integer(1, 12, .sections)
        for _ in 0..<3000 { endless.bit(false, .sections) }
        #expect(gppError(text(endless, 1)) == .invalid(.sections))
    }

    /// Any answer to a damaged string is right, but there must be one, and asking must be safe.
    @Test func everyPrefixAndEveryChangedByteIsSurvived() {
        var chance = Chance(state: 6)
        var sections = [(2, "COv_eg6Ov_eg6AOADBENAaCgAP_AAH_AACiQAVEUQQoAIQAqIoghAAQgAA.IAGO5w"), (6, "1YYN")]
        for layout in Self.layouts where [7, 24].contains(layout.id) {
            sections.append((layout.id, Self.section(layout, layout.optOuts.map { _ in 1 }, gpc: true, &chance).text))
        }
        let text = Array(Self.text(sections).utf8)
        func ask(_ damaged: [UInt8]) -> Bool {
            guard let string = try? gpp(damaged) else { return false }
            for id in string.sectionIDs { _ = (string.section(id), try? string.optOuts(section: id)) }
            _ = (try? string.tcf(), try? string.tcf(.canada), string.optOuts(), string.optOuts(applicableSections: [7]))
            return true
        }
        #expect(ask(text))
        for count in text.indices { #expect(!ask(Array(text[..<count])) || count > text.count / 2) }
        var accepted = 0
        for place in text.indices {
            for byte in UInt8.min...UInt8.max {
                var damaged = text
                damaged[place] = byte
                if ask(damaged) { accepted += 1 }
            }
        }
        #expect(accepted > 5000)
    }
}
