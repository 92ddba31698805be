// Making identifiers alike: the published vectors of the partners, and the rules that those leave untested.
import Cryptography
import Formats
import Foundation
import Testing

@testable import Unification

private let vectorsFile = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("../shared/conformance/identifiers/vectors.jsonl")
    .standardizedFileURL.path

@Suite struct NormalizationTests {
    /// Every published vector: the normalised text, its hash, or the refusal.
    @Test(.enabled(if: FileManager.default.fileExists(atPath: vectorsFile)))
    func followsThePublishedVectors() throws {
        let lines = try String(contentsOfFile: vectorsFile, encoding: .utf8).split(separator: "\n")
        #expect(lines.count >= 60)
        for line in lines {
            let vector = json(String(line))
            func field(_ name: StaticString) -> String? {
                vector.member(vector.root, name).flatMap { vector.string($0) }
            }
            let profile = try #require(profileNamed(field("profile")!))
            let form: Normalizer.Form = field("kind") == "email" ? .email : .e164
            let region = field("region").flatMap { phoneRegion($0) }
            let result = normalized(field("input")!, Normalizer(form, profile: profile, region: region))
            #expect(result == field("normalized"), "\(line)")
            if let result {
                let digest = SHA256.hash(Array(result.utf8))
                var bytes: [UInt8] = []
                digest.append(to: &bytes)
                if let expected = field("sha256") { #expect(digest.hexadecimal == expected, "\(line)") }
                if let expected = field("sha256_base64") {
                    #expect(Data(bytes).base64EncodedString() == expected, "\(line)")
                }
            }
        }
    }

    /// The four profiles disagree about dots, plus signs and white space.
    @Test(
        arguments: [
            (" Jane.Doe+news@Gmail.com\t", NormalizationProfile.plain, "jane.doe+news@gmail.com"),
            ("Jane.Doe+news@Gmail.com ", .uid2, "janedoe@gmail.com"),
            ("Jane.Doe+news@Gmail.com", .google, "janedoe@gmail.com"),
            ("Jane.Doe+news@Gmail.com", .meta, "jane.doe+news@gmail.com"),
            ("jane.doe@googlemail.com", .uid2, "jane.doe@googlemail.com"),
            ("jane.doe@googlemail.com", .google, "janedoe@googlemail.com"),
            ("cloudy.sanfrancisco+shopping@gmail.com", .google, "cloudysanfrancisco@gmail.com"),
            ("user.name+NYC@Example.com", .google, "user.name+nyc@example.com"),
            (" ja ne@example. com ", .google, "jane@example.com"),
            ("jane@mygmail.com", .uid2, "jane@mygmail.com"),
            ("j.ane@gmail.com.au", .google, "j.ane@gmail.com.au"),
            ("\u{A0}JÜRGEN@Example.com\u{FEFF}", .plain, "jürgen@example.com"),
            ("JÜRGEN@example.com", .uid2, "jÜrgen@example.com"),
            ("ΑΛΕΞ@example.com", .meta, "αλεξ@example.com"),
        ] as [(String, NormalizationProfile, String)])
    func makesAddressesAlike(raw: String, profile: NormalizationProfile, expected: String) {
        #expect(normalized(raw, Normalizer(.email, profile: profile)) == expected)
    }

    @Test(arguments: [
        "", "@", "a@", "@b", "a", "a@b@c", "a b@c.de", " \t ", String(repeating: "a", count: 600) + "@b.de",
    ])
    func refusesWhatIsNoAddress(raw: String) {
        for profile in [NormalizationProfile.plain, .meta] {
            #expect(normalized(raw, Normalizer(.email, profile: profile)) == nil)
        }
    }

    /// National, international, with and without the country's code; the vectors are numbers of the countries'
    /// public documentation and made-up ones.
    @Test(arguments: [
        ("0151 2345-6789", "DE", "+4915123456789"), ("+49 (0) 151 23456789", "DE", "+4915123456789"),
        ("0049 151/23456789", "DE", "+4915123456789"), ("4915123456789", "DE", "+4915123456789"),
        ("15123456789", "DE", "+4915123456789"), ("+490151 23456789", "DE", "+4915123456789"),
        ("+33 1 23 45 67 89", "DE", "+33123456789"), ("01 23 45 67 89", "FR", "+33123456789"),
        ("(650) 555-1212", "US", "+16505551212"), ("1-650-555-1212", "US", "+16505551212"),
        ("011 44 20 7946 0958", "US", "+442079460958"), ("020 7946 0958", "GB", "+442079460958"),
        ("06 6982", "IT", "+39066982"), ("+39 (0)6 6982 1234", "DE", "+390669821234"),
        ("8 (916) 123-45-67", "RU", "+79161234567"), ("+7 916 123-45-67", "RU", "+79161234567"),
        ("810 49 30 123456", "RU", "+4930123456"), ("06 1 234 5678", "HU", "+3612345678"),
        ("612 34 56 78", "ES", "+34612345678"), ("34612345678", "ES", "+34612345678"),
        ("12 34 56 78", "DK", "+4512345678"), ("tel:+1-201-555-0123", "DE", "+12015550123"),
        ("+49\u{A0}151\u{2013}23456789", "DE", "+4915123456789"), ("010 1 202 555 0123", "JP", "+12025550123"),
    ])
    func makesTelephoneNumbersInternational(raw: String, region: String, expected: String) {
        let region = phoneRegion(region)
        #expect(normalized(raw, Normalizer(.e164, region: region)) == expected)
        #expect(normalized(raw, Normalizer(.e164, profile: .google, region: region)) == expected)
        #expect(normalized(raw, Normalizer(.e164, profile: .meta, region: region)) == String(expected.dropFirst()))
    }

    @Test(arguments: [
        "", "+", "abc", "0151 234x", "++49 30 123456", "49+30123456", "+0 30 1234567", "+49 30", "+1234567890123456",
    ])
    func refusesWhatIsNoTelephoneNumber(raw: String) {
        #expect(normalized(raw, Normalizer(.e164, region: phoneRegion("DE"))) == nil)
    }

    /// Found by `Tools/fuzz identifiers`: of two zeros behind the code, each time one was dropped.
    @Test func aNumberMadeAlikeTwiceIsTheSame() {
        for raw in ["55\u{0C}004990222)2", "+49 00 151 2345678", "+55 000 4990222"] {
            for region in ["BR", "DE"] {
                let normalizer = Normalizer(.e164, region: phoneRegion(region))
                let once = normalized(raw, normalizer)
                #expect(once != nil)
                #expect(normalized(once ?? "", normalizer) == once, "\(raw) in \(region)")
            }
        }
    }

    @Test func needsARegionForNationalNumbersOnly() {
        #expect(normalized("030 123456", Normalizer(.e164)) == nil)
        #expect(normalized("+49 30 123456", Normalizer(.e164)) == "+4930123456")
        #expect(normalized("0049 30 123456", Normalizer(.e164)) == "+4930123456")
    }

    @Test func knowsOnlyRegionsThatExist() {
        for code in ["DE", "US", "AC", "ZW", "VN"] { #expect(phoneRegion(code) != nil) }
        for code in ["XX", "de", "D", "DEU", "", "49", "E4", "1."] { #expect(phoneRegion(code) == nil) }
    }

    @Test func lowersKeepsDigitsAndLeavesAlone() {
        #expect(normalized(" AbÉ-1 ", Normalizer(.lower)) == "abé-1")
        #expect(normalized("12 34-56", Normalizer(.digits)) == "123456")
        #expect(normalized("abc", Normalizer(.digits)) == nil)
        #expect(normalized(" Ab ", Normalizer(.none)) == " Ab ")
        #expect(normalized("", Normalizer(.none)) == nil)
    }

    /// Bytes from a command line need not be UTF-8; they are hashed as they are.
    @Test func copiesWhatIsNoUTF8() {
        var result: [UInt8] = []
        let raw: [UInt8] = [0x41, 0xFF, 0xC3]
        let isNormalized = Normalizer(.lower).normalize(raw.span, into: &result)
        #expect(isNormalized)
        #expect(result == [0x61, 0xFF, 0xC3])
    }
}
