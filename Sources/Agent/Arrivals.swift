// What another Gatehouse has delivered to this one, a hub: recognised when it comes twice, by where it was admitted and
// its number there; kept in the log like any event, so that it goes on to the hub's own destinations; and counted for its
// device. A notice that a person was erased takes away here, too, what there is of them, and goes on.

import Collection
import Cryptography
import Formats
import Governance
import Serving
import Store

/// Where a message was admitted: `context.gatehouse`, as every message of a Gatehouse has it.
struct ArrivalOrigin {
    let device: [UInt8]
    let epoch: UInt64
    /// The message's number there.
    let sequence: UInt64
    let bundleVersion: UInt64
    /// The hub that has passed it on; empty where it comes from the device itself.
    let via: [UInt8]
    /// Hash of device and epoch, 16 bytes, and room for the number of a span.
    private let prefix: [UInt8]

    /// - Returns: nil for a message that does not say it, or whose device has a name that no device can have.
    init?(_ document: borrowing JSONDocument, _ message: JSONNode) {
        guard document.kind(message) == .object, let context = document.member(message, "context"),
            document.kind(context) == .object, let origin = document.member(context, "gatehouse"),
            document.kind(origin) == .object, let name = document.member(origin, "device"),
            document.kind(name) == .string, Configuration.isDeviceName(document.bytes(name)),
            let epoch = document.member(origin, "epoch").flatMap({ document.int64($0) }),
            let sequence = document.member(origin, "seq").flatMap({ document.int64($0) }), sequence > 0
        else { return nil }
        device = [UInt8](copying: document.bytes(name))
        self.epoch = UInt64(bitPattern: epoch)
        self.sequence = UInt64(sequence)
        let version = document.member(origin, "bundle").flatMap { document.int64($0) } ?? 0
        bundleVersion = UInt64(max(0, version))
        var via: [UInt8] = []
        if let hub = document.member(origin, "via"), document.kind(hub) == .string,
            Configuration.isDeviceName(document.bytes(hub))
        {
            via = [UInt8](copying: document.bytes(hub))
        }
        self.via = via
        let number = NumberKey(self.epoch)
        prefix = ArrivalOrigin.hash(number.bytes.span, document.bytes(name))
    }

    /// 16 bytes of the hash of a number and a name.
    fileprivate static func hash(_ number: Span<UInt8>, _ name: Span<UInt8>) -> [UInt8] {
        var hash = SHA256()
        hash.update(number)
        hash.update(name)
        let digest = hash.digest()
        var bytes: [UInt8] = []
        for index in 0..<16 { bytes.append(digest[index]) }
        return bytes
    }

    /// The key in `arrivals` of a span of numbers.
    fileprivate func key(ofSpan number: UInt64) -> [UInt8] {
        var key = prefix
        let last = NumberKey(number)
        key.append(contentsOf: last.bytes.span)
        return key
    }

    fileprivate var span: UInt64 { sequence / ArrivalOrigin.spanNumbers }
    fileprivate static let spanNumbers: UInt64 = 512

    /// The number of a span of this device, from its key; nil for another device's.
    fileprivate func span(in key: Span<UInt8>) -> UInt64? {
        guard key.count == 24, equal(key.extracting(0..<16), prefix.span) else { return nil }
        return NumberKey.decode(key.extracting(16..<24))
    }

    /// By what the hub knows a message that has no id of its own.
    fileprivate var name: [UInt8] {
        let key = key(ofSpan: sequence)
        return Hex.encode(key.span)
    }
}

/// What became of a message.
enum ArrivalOutcome {
    case taken, repeated
    /// A notice: the erasure has begun.
    case erasing(Erasure)
    case refused(EventRefusal)
    /// It is one device too many; the sender keeps it.
    case noRoom
    /// It says that it is of another device than the token's; the sender keeps it.
    case notTheirs
}

extension Pipeline {
    /// Takes a message, once by its device, epoch and number.
    /// - Parameters:
    ///   - speaker: whom the token of the request speaks for.
    ///   - clockAhead: how far the clock of whoever has sent it is ahead, milliseconds; nil: not known.
    ///   - now: milliseconds since the epoch.
    mutating func takeArrival(
        _ document: JSONDocument, _ message: JSONNode, _ speaker: Speaker, clockAhead: Int64?, now: Int64,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) -> ArrivalOutcome {
        guard let origin = ArrivalOrigin(document, message) else {
            ledger.received += 1
            ledger.refused += 1
            return .refused(
                EventRefusal(
                    "no_origin", "a hub takes messages of agents: context.gatehouse {device, epoch, seq} is needed",
                    at: "/context/gatehouse"))
        }
        let devices = transaction.tables.devices
        var device = DeviceRecord(epoch: origin.epoch)
        let (name, hub) = (origin.device, origin.via)
        if !speaker.maySend(of: name.span, by: hub.span) { return .notTheirs }
        if let value = try transaction.get(devices, name.span) {
            device = DeviceRecord(value) ?? device
        } else if transaction.count(devices) >= Limits.devices {
            return .noRoom
        }
        ledger.received += 1
        device.heardAt = now
        device.via = origin.via
        if origin.via.isEmpty, let clockAhead { device.clockAhead = clockAhead }
        let arrival = try note(origin, &transaction)
        if arrival.isNew {
            if arrival.isFirst, origin.epoch != device.epoch { device.begin(origin.epoch) }
            if origin.epoch == device.epoch { device.count(origin.sequence) }
            if origin.sequence == device.lastSequence { device.bundleVersion = origin.bundleVersion }
        } else {
            device.repeats += 1
        }
        let record = device.record
        try transaction.put(devices, name.span, record.span)
        if !arrival.isNew {
            ledger.duplicate += 1
            return .repeated
        }
        ledger.admitted += 1
        return try keep(document, message, origin, now, &transaction)
    }

    /// Notes that a message has come.
    /// - Returns: whether it is the first time, and whether it is the first at all of its device and epoch.
    private func note(
        _ origin: ArrivalOrigin, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> (isNew: Bool, isFirst: Bool) {
        let arrivals = transaction.tables.arrivals
        let key = origin.key(ofSpan: origin.span)
        let bytesPerSpan = Int(ArrivalOrigin.spanNumbers / 8)
        var bits: [UInt8] = []
        if let value = try transaction.get(arrivals, key.span), value.count == bytesPerSpan {
            bits = [UInt8](copying: value)
        }
        var isFirst = false
        if bits.isEmpty {
            bits = [UInt8](repeating: 0, count: bytesPerSpan)
            isFirst = try forgetSpans(of: origin, &transaction)
        }
        let place = Int(origin.sequence % ArrivalOrigin.spanNumbers)
        let bit: UInt8 = 1 << UInt8(place & 7)
        if bits[place >> 3] & bit != 0 { return (false, false) }
        bits[place >> 3] |= bit
        try transaction.put(arrivals, key.span, bits.span)
        return (true, isFirst)
    }

    /// Forgets which numbers of a device have come that are long past.
    /// - Returns: whether there are none.
    private func forgetSpans(
        of origin: ArrivalOrigin, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let arrivals = transaction.tables.arrivals
        let lowest = origin.span > Limits.rememberedSpans ? origin.span - Limits.rememberedSpans : 0
        let start = origin.key(ofSpan: 0)
        var old: [UInt64] = []
        var isFirst = true
        try transaction.scan(arrivals, from: start.span) { key, _ in
            guard let number = origin.span(in: key) else { return false }
            isFirst = false
            if number >= lowest { return false }
            old.append(number)
            return true
        }
        for number in old {
            let key = origin.key(ofSpan: number)
            try transaction.delete(arrivals, key.span)
        }
        return isFirst
    }

    private mutating func keep(
        _ document: JSONDocument, _ message: JSONNode, _ origin: ArrivalOrigin, _ now: Int64,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) -> ArrivalOutcome {
        let receipt = Pipeline.receipt(in: message, document)
        // Its own bundle says for how long, and how urgently it goes on.
        let rule = plans.tracking.rule(ofKept: message, document)
        let isUrgent = receipt != nil || rule?.isRealtime ?? false
        let person = Pipeline.person(of: message, document, origin)
        let header = LogEntryHeader(
            tier: isUrgent ? .realtime : .batch, priority: rule?.priority ?? 0, receivedAt: now,
            purposeTag: rule.map { purposes.tags[$0.purpose] } ?? 0, bundleVersion: policy.version, profile: person,
            isErasureNotice: receipt != nil, isArrival: true)
        logged.removeAll(keepingCapacity: true)
        if let context = document.member(message, "context") {
            addIdentifiers(document, document.member(context, "identifiers"), areFormer: false)
            addIdentifiers(document, document.member(context, "formerIdentifiers"), areFormer: true)
        }
        messageID.removeAll(keepingCapacity: true)
        if let id = document.member(message, "messageId"), document.kind(id) == .string {
            messageID.append(contentsOf: document.bytes(id))
        } else {
            messageID = origin.name
        }
        let (identifiers, id) = (logged, messageID)
        LogEntry.encode(
            header, identifiers: identifiers.span, messageID: id.span, body: document.source(message), into: &entry)
        try put(header, &transaction)
        guard let receipt, try transaction.get(transaction.tables.erasures, receipt.span) == nil else { return .taken }
        return .erasing(try beginErasure(receipt, person, by: origin.device, now, &transaction))
    }

    private mutating func addIdentifiers(_ document: borrowing JSONDocument, _ list: JSONNode?, areFormer: Bool) {
        guard let list, document.kind(list) == .object else { return }
        var child = document.firstChild(list)
        while let name = child, let value = document.next(name) {
            child = document.next(value)
            if document.kind(value) == .string, let digest = Digest256(hexadecimal: document.bytes(value)) {
                logged.append(
                    LoggedIdentifier(
                        kindTag: NameTag.of(document.bytes(name)), digest: digest, plainDigest: nil, isFormer: areFormer))
            }
        }
    }

    /// Whose message it is, as far as the hub can tell: a hash of the device and of its name for them.
    private static func person(
        of message: JSONNode, _ document: borrowing JSONDocument, _ origin: ArrivalOrigin
    ) -> ProfileID {
        guard let name = document.member(message, "anonymousId"), document.kind(name) == .string else { return .nobody }
        let device = origin.device
        let hash = ArrivalOrigin.hash(document.bytes(name), device.span)
        return ProfileID(hash.span) ?? .nobody
    }

    // MARK: Erasure

    /// The receipt of a notice that a person was erased; nil for any other message.
    private static func receipt(in message: JSONNode, _ document: borrowing JSONDocument) -> [UInt8]? {
        guard let event = document.member(message, "event"), document.kind(event) == .string,
            document.equals(event, "User Erased"), let properties = document.member(message, "properties"),
            document.kind(properties) == .object, let text = document.member(properties, "receipt"),
            document.kind(text) == .string, let receipt = Hex.decode(document.bytes(text)), receipt.count == 16
        else { return nil }
        return receipt
    }

    /// Begins to take away what is kept of a person whose device has erased them, under that device's receipt. The notice is
    /// the newest entry of the log, with the person's identifiers in `logged`.
    private mutating func beginErasure(
        _ receipt: [UInt8], _ person: ProfileID, by device: [UInt8], _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Erasure {
        let notice = ledger.nextSequence - 1
        let first = try transaction.firstNumber(transaction.tables.log) ?? notice
        var erasure = Erasure(
            receipt: receipt, profile: person, identifiers: logged, askedAt: now, from: first, end: notice)
        erasure.notice = notice
        let record = erasure.record
        try transaction.put(transaction.tables.erasures, receipt.span, record.span)
        try audit.append(
            .erase, actor: Array("device:".utf8) + device, subject: nil, at: now, in: &transaction
        ) { line in
            line.key("receipt")
            line.string(Hex.encode(receipt.span))
        }
        return erasure
    }
}
