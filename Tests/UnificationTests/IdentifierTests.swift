// From an event to hashed identifiers, and back to an event that holds no raw one (promise P3).
import Cryptography
import Formats
import Store
import Testing

@testable import Unification

private let shopPlan = identifierPlan(
    """
    {"email": {"from": ["traits.email", "properties.email"], "normalize": "email", "send": "sha256"},
     "phone": {"from": ["traits.phone"], "normalize": "e164", "region": "DE", "send": "sha256"},
     "user_id": {"from": ["userId", "context.targetingKey"], "send": "hmac", "unique": true, "block": ["Staff", 99999]},
     "device": {"from": ["anonymousId", "context.device.id"], "shared": true}}
    """)

/// The identifiers of an event as `kind:hash`, and the event as it may be kept.
private func process(_ event: String, plan: IdentifierPlan = shopPlan) throws -> (found: [String], kept: String) {
    var finder = IdentifierFinder()
    let document = json(event)
    try finder.find(plan, document, document.root, pepper: pepper)
    var builder = JSONBuilder()
    EventSanitizer.write(document, document.root, without: finder, into: &builder)
    return (
        finder.found.map { text(plan.kinds[$0.kindIndex].name) + ":" + $0.digest.hexadecimal }, text(builder.text)
    )
}

private func hmac(_ kind: String, _ value: String) -> String {
    kind + ":" + pepper.present.authenticate(Array(kind.utf8) + [0] + Array(value.utf8)).hexadecimal
}

@Suite struct IdentifierTests {
    /// The quick look at a value's first byte and its length must not let one of them through.
    @Test func everyWordThatIsNobodysIsFound() {
        for word in NobodysValues.words {
            let isFound = NobodysValues.contain(word.bytes)
            #expect(isFound, "\(word)")
        }
        let customer: StaticString = "customer-1"
        let isFound = NobodysValues.contain(customer.bytes)
        #expect(!isFound)
    }

    /// Found by `Tools/fuzz records`: with a former digest and no mark the digest's first byte was taken for the mark.
    @Test func aRowIsReadAsItWasWritten() {
        let (owner, digest) = (ProfileID(high: 1, low: 2), SHA256.hash(Array("former".utf8).span))
        for (mark, former) in [(0, nil), (7, nil), (0, digest), (7, digest)] as [(UInt8, Digest256?)] {
            let row = IdentifierRow.bytes(owner, mark: mark, former: former)
            let (isOwners, read) = (IdentifierRow.owner(row.span) == owner, IdentifierRow.mark(row.span))
            #expect(isOwners && read == mark && IdentifierRow.former(row.span) == former)
        }
    }

    /// A look-up finds the same identifiers, and keeps no raw text to be sought.
    @Test func aLookUpFindsTheSameAndSeeksNothing() throws {
        let document = json(#"{"userId": " Customer-1 ", "traits": {"email": "Ada@Example.com"}, "x": "customer-1"}"#)
        var finder = IdentifierFinder()
        try finder.find(shopPlan, document, document.root, pepper: pepper)
        let digests = finder.found.map(\.digest.hexadecimal)
        let raw = Array("for customer-1".utf8)
        let isSought = finder.occurs(in: raw.span)
        try finder.find(shopPlan, document, document.root, for: .lookUp, pepper: pepper)
        let digestsOfLookUp = finder.found.map(\.digest.hexadecimal)
        let isSoughtByLookUp = finder.occurs(in: raw.span)
        try finder.find(shopPlan, document, document.root, pepper: pepper)
        let isSoughtAgain = finder.occurs(in: raw.span)
        #expect(!digests.isEmpty && digestsOfLookUp == digests)
        #expect([isSought, isSoughtByLookUp, isSoughtAgain] == [true, false, true])
    }

    /// A company's address would make one person of everybody in it; it is no less stripped.
    @Test func theTraitsOfAGroupAreNobodys() throws {
        let document = json(
            #"{"userId": "anna-1", "traits": {"email": "office@example.com", "size": 7}, "x": "Office@example.com"}"#)
        var finder = IdentifierFinder()
        try finder.find(shopPlan, document, document.root, of: .group, pepper: pepper)
        let found = finder.found.map { text(shopPlan.kinds[$0.kindIndex].name) }
        var builder = JSONBuilder()
        EventSanitizer.write(document, document.root, without: finder, into: &builder)
        #expect(found == ["user_id"])
        #expect(text(builder.text) == #"{"traits":{"size":7},"x":"[redacted]"}"#)
    }

    @Test func findsNormalisesAndHashesEachOnce() throws {
        let result = try process(
            """
            {"type": "identify", "userId": 12345, "anonymousId": "till-7",
             "traits": {"email": " Anna@Example.com ", "phone": "0151 23456789", "plan": "gold"},
             "properties": {"email": "anna@example.com"}}
            """)
        #expect(
            result.found == [
                hmac("email", "anna@example.com"), hmac("phone", "+4915123456789"), hmac("user_id", "12345"),
                hmac("device", "till-7"),
            ])
        #expect(result.kept == #"{"type":"identify","traits":{"plan":"gold"},"properties":{}}"#)
    }

    /// The plain hash exists for the kinds that are sent in that form, and for no other.
    @Test func hashesPlainlyOnlyWhatIsSentSo() throws {
        var finder = IdentifierFinder()
        let document = json(#"{"userId": "u-1", "traits": {"email": "Anna@Example.com"}}"#)
        try finder.find(shopPlan, document, document.root, pepper: pepper)
        #expect(finder.found[0].plainDigest == SHA256.hash(Array("anna@example.com".utf8)))
        #expect(finder.found[1].plainDigest == nil)
    }

    @Test func listsHoldSeveral() throws {
        let result = try process(
            #"{"traits": {"email": ["a1@example.com", "a2@example.com", null, {"x": "a3@example.com"}]}}"#)
        #expect(result.found == [hmac("email", "a1@example.com"), hmac("email", "a2@example.com")])
        #expect(result.kept == #"{"traits":{}}"#)
    }

    @Test(arguments: [
        "", " ", "null", "NULL", "0000", "00000000-0000-0000-0000-000000000000", "Anonymous", "staff", "99999", "-",
    ])
    func valuesOfNobodyAreBlocked(value: String) throws {
        let result = try process(#"{"userId": "\#(value)", "properties": {"note": "nothing"}}"#)
        #expect(result.found == [])
        #expect(result.kept == #"{"properties":{"note":"nothing"}}"#)
    }

    @Test func blockedAddressesAreBlockedInEachSpelling() throws {
        #expect(try process(#"{"traits": {"email": " TEST@example.com"}}"#).found == [])
    }

    /// The same value in any other place, spelling or case, in names too.
    @Test func stripsTheValueWhereverElseItStands() throws {
        let result = try process(
            """
            {"type": "track", "event": "Hello Customer-4711", "userId": "customer-4711",
             "messageId": "m-CUSTOMER-4711-1",
             "context": {"page": {"url": "https://shop.example/?u=customer-4711&e=anna%2Btag%40example.com"},
                         "campaign": {"name": "spring", "customer-4711": true}},
             "traits": {"email": "anna+tag@example.com", "phone": "0151 23456789"},
             "properties": {"list": ["x", "ANNA+TAG@EXAMPLE.COM", 4711], "tel": "tel:+4915123456789", "revenue": 12.50}}
            """)
        #expect(
            result.kept == """
                {"type":"track","event":"[redacted]","messageId":"[redacted]",\
                "context":{"page":{"url":"[redacted]"},"campaign":{"name":"spring"}},"traits":{},\
                "properties":{"list":["x","[redacted]",4711],"tel":"[redacted]","revenue":12.50}}
                """)
    }

    /// A telephone number as another system would write it: digits alone, national or international.
    @Test func telephoneNumbersAreFoundWithoutTheirPunctuation() throws {
        let result = try process(
            """
            {"traits": {"phone": "0151 2345-6789"},
             "properties": {"a": "015123456789", "b": 4915123456789, "c": "x+4915123456789"}}
            """
        )
        #expect(
            result.kept == #"{"traits":{},"properties":{"a":"[redacted]","b":"[redacted]","c":"[redacted]"}}"#)
    }

    /// Promise P3 as a property: identifiers at their places, and then again anywhere else in the event, in any depth,
    /// case or encoding; what is kept contains none, and is still JSON with everything else in it.
    @Test(arguments: 1...40)
    func noIdentifierSurvivesWhereverItStands(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let number = Int.random(in: 10_000..<99_999, using: &random)
        let address = "anna.\(number)+x@shop-\(seed).example"
        let user = "customer-\(number)"
        let phone = "+49301\(number)77"
        let secrets = [address, user, phone, String(phone.dropFirst()), "till-\(number)"]
        func spelt(_ secret: String) -> String {
            switch Int.random(in: 0..<4, using: &random) {
            case 0: return secret.uppercased()
            case 1: return secret.replacing("@", with: "%40").replacing("+", with: "%2B")
            case 2: return "before " + secret + " behind"
            default: return secret
            }
        }
        func value(_ depth: Int) -> String {
            switch Int.random(in: 0..<(depth > 4 ? 4 : 7), using: &random) {
            case 0: return "\"\(spelt(secrets.randomElement(using: &random)!))\""
            case 1: return "\(Int.random(in: 0..<1000, using: &random))"
            case 2: return "\"harmless \(Int.random(in: 0..<10, using: &random))\""
            case 3: return "true"
            case 4: return "[\(value(depth + 1)), \(value(depth + 1)), \"kept\"]"
            default:
                let name = Bool.random(using: &random) ? "name" : spelt(secrets.randomElement(using: &random)!)
                return "{\"\(name)\": \(value(depth + 1)), \"other\": \(value(depth + 1))}"
            }
        }
        let event = """
            {"userId": "\(user)", "anonymousId": "till-\(number)",
             "traits": {"email": "\(address)", "phone": "\(phone)"},
             "event": \(value(5)), "marker": "kept", "properties": \(value(0)), "context": \(value(0))}
            """
        let result = try process(event)
        #expect(result.found.count == 4)
        let kept = result.kept.lowercased().replacing("%40", with: "@").replacing("%2b", with: "+")
        for secret in secrets { #expect(!kept.contains(secret.lowercased()), "\(event) -> \(kept)") }
        let again = json(result.kept)
        #expect(again.member(again.root, "marker") != nil)
    }

    @Test func numbersAreRedactedWhenTheyAreTheIdentifier() throws {
        let result = try process(
            #"{"userId": 471100, "properties": {"customer": 471100, "revenue": 471100.5, "n": 4711001}}"#)
        #expect(result.kept == #"{"properties":{"customer":"[redacted]","revenue":471100.5,"n":4711001}}"#)
    }

    /// Short values are no reason to redact half of the event; their own place is stripped all the same.
    // limit: Unification.needleMinimumBytes
    @Test func shortValuesAreNotSought() throws {
        let result = try process(#"{"userId": "anna", "properties": {"product": "Annanas anna"}}"#)
        #expect(result.found == [hmac("user_id", "anna")])
        #expect(result.kept == #"{"properties":{"product":"Annanas anna"}}"#)
    }

    /// Undeclared, but known from the Segment specification; what stood there is sought elsewhere too.
    @Test func wellKnownPlacesAreStrippedWithoutBeingDeclared() throws {
        let result = try process(
            """
            {"userId": "u-12345", "previousId": "old-98765", "context": {"ip": "203.0.113.77", "locale": "de",
              "device": {"id": "dev-55555", "advertisingId": "ad-66666", "token": "tok-77777", "model": "X"},
              "traits": {"email": "b@example.com", "phone": "+49301234567", "age": 3},
              "externalIds": [{"id": "ext-88888"}]},
             "properties": {"a": "from 203.0.113.77", "b": "old-98765", "c": "ext-88888", "d": "x tok-77777"}}
            """, plan: IdentifierPlan())
        #expect(result.found == [])
        #expect(
            result.kept == """
                {"context":{"locale":"de","device":{"model":"X"},"traits":{"age":3}},\
                "properties":{"a":"[redacted]","b":"[redacted]","c":"[redacted]","d":"[redacted]"}}
                """)
    }

    @Test(arguments: [
        ("write to max.m@mail.example now", true), ("a?e=max%40example.de", true), ("MAX@EXAMPLE.DE", true),
        ("\"max\"@example.de", true), ("max@exämple.de", true), ("x@a.b.co", true),
        ("npm@1.2.3", false), ("@media screen", false), ("https://site.example/@max.m", false), ("a@b", false),
        ("5 @ 3.99 EUR", false), ("50%40.00", false), ("x@.de", false), ("", false), ("@", false), ("a@", false),
    ])
    func addressesAreRecognisedAnywhere(content: String, isAddress: Bool) throws {
        let bytes = Array(content.utf8)
        let result = EventSanitizer.containsEmailAddress(bytes.span)
        #expect(result == isAddress)
    }

    @Test func undeclaredAddressesAreRedacted() throws {
        let result = try process(#"{"properties": {"note": "call bob@example.org", "bob@example.org": 1}}"#)
        #expect(result.kept == #"{"properties":{"note":"[redacted]"}}"#)
    }

    /// What is not understood is refused, never kept: fails closed.
    @Test func refusesMoreIdentifiersThanItCanLookAfter() throws {
        let many = (0..<200).map { "\"m\($0)@example.com\"" }.joined(separator: ",")
        #expect(throws: IdentifierError.tooMany) { try process(#"{"traits": {"email": [\#(many)]}}"#) }
    }

    /// A value that is longer is no identifier, and is not kept as text either.
    // limit: Unification.rawIdentifierBytes
    @Test func aValueOfAnIdentifierIsOnlySoLong() throws {
        let most = String(repeating: "a", count: Limits.rawIdentifierBytes)
        #expect(try process(#"{"userId": "\#(most)"}"#).found == [hmac("user_id", most)])
        let longer = try process(#"{"userId": "\#(most)a", "properties": {"x": "\#(most)a", "y": 1}}"#)
        #expect(longer.found == [] && longer.kept == #"{"properties":{"x":"[redacted]","y":1}}"#, "\(longer)")
    }

    // limit: Unification.identifiersPerEvent
    @Test func anEventHasOnlySoManyIdentifiers() throws {
        func event(_ count: Int) -> String {
            #"{"traits": {"email": [\#((0..<count).map { "\"m\($0)@example.com\"" }.joined(separator: ","))]}}"#
        }
        #expect(try process(event(Limits.identifiersPerEvent)).found.count == Limits.identifiersPerEvent)
        #expect(throws: IdentifierError.tooMany) { try process(event(Limits.identifiersPerEvent + 1)) }
    }

    /// What stands at places for identifiers is sought in the rest of the event, whatever it is: more of it than can be
    /// sought is refused, since some of it would be kept.
    // limit: Unification.needlesPerEvent, Unification.needleBytesPerEvent
    @Test func onlySoMuchTextIsSought() throws {
        func event(_ count: Int, _ length: Int) -> String {
            let filling = String(repeating: "x", count: length)
            return #"{"userId": {"a": [\#((0..<count).map { "\"v\(1000 + $0)\(filling)\"" }.joined(separator: ","))]}}"#
        }
        #expect(try process(event(Limits.needlesPerEvent - 1, 0)).kept == "{}")
        #expect(throws: IdentifierError.tooMany) { try process(event(Limits.needlesPerEvent + 1, 0)) }
        #expect(try process(event(4, 3000)).kept == "{}")
        #expect(throws: IdentifierError.tooMany) { try process(event(6, 3000)) }
    }

    /// Nothing of one event is left for the next.
    @Test func forgetsTheLastEvent() throws {
        var finder = IdentifierFinder()
        let first = json(#"{"userId": "customer-1"}"#)
        try finder.find(shopPlan, first, first.root, pepper: pepper)
        let second = json(#"{"properties": {"a": "customer-1"}}"#)
        try finder.find(shopPlan, second, second.root, pepper: pepper)
        var builder = JSONBuilder()
        EventSanitizer.write(second, second.root, without: finder, into: &builder)
        #expect(finder.found.isEmpty)
        #expect(text(builder.text) == #"{"properties":{"a":"customer-1"}}"#)
    }

    /// `GET /v1/profiles/email:…` and an event that names the same person come to the same hash.
    @Test func aReferenceHashesAsAnEventDoes() throws {
        var room = NormalizedIdentifier()
        let raw = Array("ANNA@example.com".utf8)
        let hashed = shopPlan.hash(RawIdentifier(raw.span), kindIndex: 0, pepper: pepper, using: &room)
        #expect(hashed.map { "email:" + $0.digest.hexadecimal } == hmac("email", "anna@example.com"))
        let nobody = Array("null".utf8)
        let nothing = shopPlan.hash(RawIdentifier(nobody.span), kindIndex: 0, pepper: pepper, using: &room)
        #expect(nothing == nil)
    }

    @Test func kindsKeepTheirTagWhenABundleMovesThem() {
        let other = identifierPlan(#"{"new": {"from": "x"}, "email": {"from": "traits.email"}}"#)
        #expect(other.kinds[1].tag == shopPlan.kinds[0].tag)
        #expect(other.kindIndex(tag: shopPlan.kinds[0].tag) == 1)
        var key: [UInt8] = []
        HashedIdentifier(kindTag: 0x0102_0304, kindIndex: 0, digest: .zero).appendKey(to: &key)
        #expect(key == [1, 2, 3, 4] + [UInt8](repeating: 0, count: 32))
    }

    /// All that is wrong is said at once, with its place and what to write instead.
    @Test func saysWhatIsWrongWithAPlanAndWhere() {
        let document = json(
            """
            {"identifiers": {"email": {"form": ["traits.email"]},
             "pho ne": {"from": "a"},
             "c": {"from": ["a..b", 7], "normalize": "e146", "region": "XX", "send": "raw", "unique": 1},
             "d": {"from": [], "unique": true, "shared": true, "profile": "tiktok", "block": "x"},
             "e": 5}}
            """)
        var reader = PlanReader()
        _ = IdentifierPlan(document, document.root, &reader)
        let lines = reader.problems.map { "\($0.position.line): \($0.message.prefix(24))" }
        #expect(
            lines == [
                "1: unknown setting form of ", "1: from is missing: the pla", "2: a kind's name has letter",
                "3: normalize must be email,", "3: region must be a country", "3: unique must be true or f",
                "3: send must be hmac or sha", "3: from has names joined by", "3: from has names joined by",
                "4: profile must be plain, u", "4: unique and shared exclud", "4: from names no place",
                "4: block must be a list of ",
                "5: a kind is a mapping, suc",
            ])
    }
}
