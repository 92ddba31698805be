// Which tables there are, and how their keys are written. Numbers in keys are big-endian, so that LMDB's order of bytes
// is their order.

/// All tables of a store, opened once.
public struct Tables: Sendable {
    /// `device`, `epoch` and other single values.
    public let meta: Table
    /// Kind tag and digest → profile id.
    public let identifiers: Table
    /// Profile id → profile record.
    public let profiles: Table
    /// Profile id → what was there instead of a record, set aside.
    public let damaged: Table
    /// Profile id, kind tag, digest → when the link was made. Finds a person's identifiers.
    public let links: Table
    /// Two identifiers that an event carried together → which event; each pair stands both ways round.
    public let edges: Table
    /// Identifier, number of a store → what that store has counted for it: the parts of a profile that has several.
    public let parts: Table
    /// Identifier of a thing that many use → who is using it.
    public let visits: Table
    /// Profile id → consent record.
    public let consent: Table
    /// Identifier → the choices that were made under it.
    public let consentParts: Table
    /// Sequence number → event. The outbox of every destination is this log from its cursor on.
    public let log: Table
    /// Sequence numbers of the log's events of tier `realtime` → nothing: the lane that goes ahead of the rest.
    public let urgent: Table
    /// Number of a stretch of the log → how many events it has of each priority, at most.
    public let stretches: Table
    /// Destination name → sequence numbers of the next events to send, and its accounts.
    public let cursors: Table
    /// Hash of a message id → its place in `messageOrder`.
    public let messages: Table
    /// Arrival number → hash of a message id; the oldest are forgotten first.
    public let messageOrder: Table
    /// Name of an account → count (promise P7).
    public let accounts: Table
    /// Arrival number → an event set aside, with its reason.
    public let quarantine: Table
    /// Hub only: hash of the sender's device and epoch, and of its numbers a span of 512 → which of them have arrived.
    public let arrivals: Table
    /// Hub only: name of a device → what is known of its deliveries.
    public let devices: Table
    /// Hub only: number of a change → what is to be told to devices. See Unification/SharedChanges.swift.
    public let changes: Table
    /// Line number → chain of hashes and what was done.
    public let audit: Table
    /// Hash of an erased identifier's hash → when it was erased.
    public let suppressed: Table
    /// Receipt's number → an erasure that is under way, or its receipt.
    public let erasures: Table
    /// When, for which identifier and what of → nothing: what comes due next stands first. See Unification/Timers.swift.
    public let timers: Table
    /// Identifier, what of → when its timer is due, and what else is remembered.
    public let pending: Table

    /// Each of them, always in the same order.
    var all: [Table] {
        [
            meta, identifiers, profiles, damaged, links, edges, parts, visits, consent, consentParts, log, urgent, stretches,
            cursors, messages, messageOrder, accounts, quarantine, arrivals, devices, changes, audit, suppressed, erasures,
            timers, pending,
        ]
    }

    init(_ open: (StaticString) -> Table) {
        meta = open("meta")
        identifiers = open("identifiers").named
        profiles = open("profiles")
        damaged = open("damaged")
        links = open("links").bare
        edges = open("edges").bare
        parts = open("parts")
        visits = open("visits").named
        consent = open("consent")
        consentParts = open("consent_parts")
        log = open("log")
        urgent = open("urgent")
        stretches = open("stretches")
        cursors = open("cursors")
        messages = open("messages")
        messageOrder = open("message_order")
        accounts = open("accounts")
        quarantine = open("quarantine")
        arrivals = open("arrivals")
        devices = open("devices")
        changes = open("changes")
        audit = open("audit")
        suppressed = open("suppressed").closed
        erasures = open("erasures")
        timers = open("timers")
        pending = open("pending")
    }
}

extension Table {
    /// Its values have no checksum of their own.
    fileprivate var bare: Table { Table(handle: handle, name: name, ofDamage: .nothing) }

    /// Nor have these, and an identifier is one whatever its row says: who was erased is looked for among them.
    fileprivate var named: Table { Table(handle: handle, name: name, ofDamage: .keyForWalks) }

    /// That there is a row says more than what it says.
    fileprivate var closed: Table { Table(handle: handle, name: name, ofDamage: .key) }
}

/// A 64-bit number as a key.
public struct NumberKey {
    public let bytes: InlineArray<8, UInt8>

    public init(_ number: UInt64) {
        bytes = InlineArray<8, UInt8> { index in UInt8(truncatingIfNeeded: number >> UInt64(56 - 8 * index)) }
    }

    public static func decode(_ key: Span<UInt8>) -> UInt64? {
        guard key.count == 8 else { return nil }
        var number: UInt64 = 0
        for index in 0..<8 { number = number << 8 | UInt64(key[index]) }
        return number
    }
}

/// Who a person is inside this device: 128 random bits that say nothing about them.
public struct ProfileID: Hashable, Sendable {
    public let high: UInt64
    public let low: UInt64

    /// Of what is in quarantine: nobody has been looked for yet.
    public static let nobody = ProfileID(high: 0, low: 0)

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Reads 16 bytes as `bytes` gives them; `nil` for any other length.
    public init?(_ bytes: Span<UInt8>) {
        guard bytes.count == 16 else { return nil }
        var high: UInt64 = 0
        var low: UInt64 = 0
        for index in 0..<8 {
            high = high << 8 | UInt64(bytes[index])
            low = low << 8 | UInt64(bytes[index + 8])
        }
        self.init(high: high, low: low)
    }

    /// The key in `profiles` and `consent`.
    public var bytes: InlineArray<16, UInt8> {
        InlineArray<16, UInt8> { index in
            UInt8(truncatingIfNeeded: (index < 8 ? high : low) >> UInt64(56 - 8 * (index & 7)))
        }
    }
}
