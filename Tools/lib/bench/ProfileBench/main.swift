// Writes many people into a store as the agent would have written them, had it taken their events: identifiers hashed
// under the device's pepper, links, consent and records as `ProfileUpdater` makes them. In the order of keys, so that ten
// million take minutes. It need not know what is measured with them.
//
// Usage: ProfileBench DATA BUNDLE PROFILES MAPBYTES. DATA is the data folder of an agent that has run, and has not taken
// events yet. People are called customer-00000000 and so on. See Tools/bench profiles.

import Activation
import CEL
import Cryptography
import Formats
import Governance
import Platform
import Store
import Unification

/// Profiles of one transaction: some 15 MiB of pages.
let profilesPerCommit = 20_000

func fail(_ words: String) -> Never {
    Process.complain(words)
    Process.exit(1)
}

/// What leads to a profile: an identifier's digest as numbers that sort as its bytes, and the profile's place.
struct Place {
    let digest: (UInt64, UInt64, UInt64, UInt64)
    let slot: UInt32

    init(_ digest: Digest256, slot: Int) {
        func word(_ first: Int) -> UInt64 {
            var value: UInt64 = 0
            for index in first..<first + 8 { value = value << 8 | UInt64(digest[index]) }
            return value
        }
        self.digest = (word(0), word(8), word(16), word(24))
        self.slot = UInt32(slot)
    }

    func appendDigest(to bytes: inout [UInt8]) {
        for value in [digest.0, digest.1, digest.2, digest.3] { bytes.append(contentsOf: NumberKey(value).bytes.span) }
    }
}

/// Who they are. Ids ascend with the slot, anywhere in their share of all ids; people are called in another order, so
/// that those of consecutive numbers lie in pages far from each other, as they do in life.
struct People {
    let count: Int

    func id(_ slot: Int) -> ProfileID {
        var random = SeededRandom(seed: UInt64(slot))
        let share = UInt64.max / UInt64(count)
        return ProfileID(high: UInt64(slot) * share + random.next(below: share), low: random.next())
    }

    /// The number in a person's name. The factor is a prime larger than any count here, so each number comes once.
    func number(_ slot: Int) -> Int { Int(UInt64(slot) * 2_654_435_761 % UInt64(count)) }

    func name(_ slot: Int, to bytes: inout [UInt8]) {
        bytes.removeAll(keepingCapacity: true)
        bytes.append(contentsOf: ("customer-" as StaticString).bytes)
        var unit = 10_000_000
        while unit > 0 {
            bytes.append(UInt8(ascii: "0") + UInt8(number(slot) / unit % 10))
            unit /= 10
        }
    }
}

/// Makes records: all people have the same visit behind them, and then an order of their own.
struct Records: ~Copyable {
    private let policy: Policy
    private let surroundings: Surroundings
    private var updater = ProfileUpdater()
    private var evaluator = Evaluator()
    private var visit: [UInt8] = []
    private var orders: [JSONDocument] = []
    private let now: Int64
    let consent: [UInt8]

    init(_ policy: Policy, now: Int64) {
        self.policy = policy
        self.now = now
        surroundings = Surroundings(now: now)
        surroundings.device = [Array("bench".utf8)]
        let granted = PurposeSet(rawValue: UInt32(1) << UInt32(policy.purposes.names.count) - 1)
        let nothing: [UInt8] = []
        consent =
            ConsentRecord.applying(
                ConsentSignal(granted: granted), at: now - 86_400_000, from: .event, policy.purposes,
                validDays: policy.consent.validDays, to: nothing.span) ?? []
        surroundings.consent = granted
        for number in 0..<4 {
            append(
                "{\"type\":\"track\",\"event\":\"Product Viewed\",\"timestamp\":\"2026-01-31T12:00:00Z\",\"properties\":"
                    + "{\"product_id\":\"p-\(number)\",\"category\":\"c-\(number % 2)\",\"shop\":\"berlin\"}}")
        }
        append(Records.order(90))
        for number in 0..<64 { orders.append(Records.parsed(Records.order(60 + number))) }
    }

    private static func order(_ revenue: Int) -> String {
        "{\"type\":\"track\",\"event\":\"Order Completed\",\"timestamp\":\"2026-01-31T12:00:00Z\",\"properties\":"
            + "{\"order_id\":\"o-1\",\"revenue\":\(revenue).5,\"country\":\"DE\",\"payment\":\"card\",\"shop\":\"berlin\"}}"
    }

    private static func parsed(_ text: String) -> JSONDocument {
        var document = JSONDocument()
        let bytes = Array(text.utf8)
        let span = bytes.span
        do throws(JSONError) { try document.parse(span) } catch { fail("an event is no JSON") }
        return document
    }

    private mutating func append(_ event: String) {
        surroundings.event = Records.parsed(event)
        surroundings.eventTimestamp = now - 86_400_000
        visit = apply(to: visit, ProfileID.nobody, RecordOrigin(part: 0, revision: 1))
    }

    private mutating func apply(to record: [UInt8], _ id: ProfileID, _ origin: RecordOrigin) -> [UInt8] {
        do throws(RecordDamage) {
            _ = try updater.apply(
                to: record.span, id: id, origin: origin, plan: policy.attributes, slots: policy.slots,
                program: policy.program, surroundings: surroundings, evaluator: &evaluator)
        } catch {
            fail("a record is damaged")
        }
        return updater.record
    }

    /// - Parameter part: which one it is, the only one of its profile.
    mutating func make(_ id: ProfileID, number: Int, part: UInt64) -> [UInt8] {
        surroundings.event = orders[number % orders.count]
        surroundings.eventTimestamp = now - Int64(number % 86_400) * 1000
        return apply(to: visit, id, RecordOrigin(part: part, revision: 1))
    }
}

func readPolicy(_ path: String, now: Int64) -> Policy {
    let text: [UInt8]
    do throws(SystemError) { text = try Files.read(path, limitBytes: 1 << 20) } catch { fail(error.message) }
    let span = text.span
    do throws(YAMLError) {
        var reader = PlanReader()
        let policy = Policy(try YAML.parse(span), loadedAt: now, &reader) { _, _, _, _, _ in }
        if reader.hasErrors { fail("the bundle is wrong") }
        return policy
    } catch {
        fail("the bundle is no YAML")
    }
}

/// The store's number, by which the agent will know that it has written the profiles itself.
func establishEpoch(_ database: Database) throws(StoreError) -> UInt64 {
    let key = Array("epoch".utf8)
    var transaction = try database.beginWrite()
    if let value = try transaction.get(database.tables.meta, key.span), let epoch = NumberKey.decode(value) { return epoch }
    try transaction.put(database.tables.meta, key.span, NumberKey(1).bytes.span)
    try transaction.commit()
    return 1
}

/// Profiles, consent and links, whose keys begin with the id. Returns what leads to each.
func writePeople(
    _ people: People, _ policy: Policy, _ pepper: Peppers, _ database: Database, now: Int64
) throws(StoreError) -> [Place] {
    let epoch = try establishEpoch(database)
    var records = Records(policy, now: now)
    var room = NormalizedIdentifier()
    var (name, key): ([UInt8], [UInt8]) = ([], [])
    var places: [Place] = []
    places.reserveCapacity(people.count)
    let tables = database.tables
    let since = NumberKey(UInt64(now))
    let consent = records.consent
    var slot = 0
    while slot < people.count {
        var transaction = try database.beginWrite()
        let end = min(people.count, slot + profilesPerCommit)
        while slot < end {
            let id = people.id(slot)
            people.name(slot, to: &name)
            let raw = name.span
            guard let identifier = policy.identifiers.hash(RawIdentifier(raw), kindIndex: 0, pepper: pepper, using: &room)
            else { fail("a name is no identifier") }
            places.append(Place(identifier.digest, slot: slot))
            let record = records.make(
                id, number: people.number(slot), part: IdentifierKey(identifier).part(writtenBy: epoch))
            try transaction.put(tables.profiles, id.bytes.span, record.span, appending: true)
            try transaction.put(tables.consent, id.bytes.span, consent.span, appending: true)
            // Profile id, kind tag, digest: the key of `links` (Unification/IdentityGraph.swift).
            key.removeAll(keepingCapacity: true)
            key.append(contentsOf: id.bytes.span)
            identifier.appendKey(to: &key)
            try transaction.put(tables.links, key.span, since.bytes.span, appending: true)
            slot += 1
        }
        try transaction.commit()
    }
    return places
}

/// Identifiers, in the order of their digests.
func writeIdentifiers(
    _ places: inout [Place], _ people: People, _ policy: Policy, _ database: Database
) throws(StoreError) {
    places.sort { $0.digest < $1.digest }
    var tag: [UInt8] = []
    HashedIdentifier(kindTag: policy.identifiers.kinds[0].tag, kindIndex: 0, digest: .zero).appendKey(to: &tag)
    tag.removeLast(Digest256.byteCount)
    var key: [UInt8] = []
    var next = 0
    while next < places.count {
        var transaction = try database.beginWrite()
        let end = min(places.count, next + profilesPerCommit)
        while next < end {
            key.removeAll(keepingCapacity: true)
            key.append(contentsOf: tag.span)
            places[next].appendDigest(to: &key)
            let id = people.id(Int(places[next].slot))
            try transaction.put(database.tables.identifiers, key.span, id.bytes.span, appending: true)
            next += 1
        }
        try transaction.commit()
    }
}

func main() {
    let arguments = Process.arguments
    guard arguments.count == 5, let count = Int(arguments[3]), count > 0, count <= 100_000_000,
        let mapBytes = Int64(arguments[4])
    else { fail("usage: ProfileBench DATA BUNDLE PROFILES MAPBYTES") }
    let now = SystemClock().wallMilliseconds()
    let policy = readPolicy(arguments[2], now: now)
    let secret: [UInt8]
    do throws(SystemError) { secret = try Files.read(arguments[1] + "/pepper", limitBytes: 4096) } catch {
        fail(error.message)
    }
    let people = People(count: count)
    do throws(StoreError) {
        let database = try Database(folder: arguments[1], mapBytes: mapBytes, synchronous: false)
        var places = try writePeople(people, policy, Peppers(key: secret), database, now: now)
        try writeIdentifiers(&places, people, policy, database)
    } catch {
        fail(error.message)
    }
}

main()
