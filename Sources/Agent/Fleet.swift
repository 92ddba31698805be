// What devices of a fleet and their hub tell each other beside events: what is known of people who were seen at several of
// them, and who was erased. A device asks (`POST /v1/sync`), since a hub cannot reach behind its router, and both say
// in the same form what has changed.
//
// All devices of a fleet have one pepper, so that an identifier is the same on each of them; the hub has another, and can
// look nobody up: what it holds are hashes for which it has no key. The list of the erased travels as hashes of those
// hashes, under a key that it does not have either.

import Cryptography
import Formats
import Governance
import Platform
import Serving
import Store
import Unification

/// How far a device and its hub have told each other.
struct SyncCursor: Equatable {
    /// The number of the hub's store, and of its newest change that is known here.
    var hub: UInt64 = 0
    var heard: UInt64 = 0
    /// The newest of this store's changes that the hub has.
    var told: UInt64 = 0
    /// The next entry of the log to look at; a hub's is not looked at.
    var position: UInt64 = 0

    static let key = Array("sync".utf8)

    init() {}

    init(_ record: Span<UInt8>) {
        guard let numbers = Record.decode(record, count: 4) else { return }
        (hub, heard, told, position) = (numbers[0], numbers[1], numbers[2], numbers[3])
    }

    var record: [UInt8] { Record.encode([hub, heard, told, position]) }
}

/// Changes on the wire: base64 of a byte that says what it is, 16 bytes of a name, and of a state the state, of an erasure
/// when it was asked for (8 bytes, big-endian) and from a device the key of the identifier.
enum Fleet {
    static func write(
        _ state: IdentifierState, _ name: Span<UInt8>, isWithdrawn: Bool, to writer: inout JSONWriter
    ) -> Int {
        var bytes: [UInt8] = [isWithdrawn ? SharedChanges.isWithdrawn : SharedChanges.isState]
        bytes.append(contentsOf: name)
        state.append(to: &bytes)
        if bytes.count <= Limits.stateBytes { writer.string(Base64.encode(bytes.span)) }
        return bytes.count
    }

    /// What has changed since a device asked last, as the hub's answer.
    /// - Parameters:
    ///   - after: the newest change that it has; `epoch`: of its store.
    static func answer(
        after: UInt64, to epoch: UInt64, hub: UInt64, in store: borrowing Reader
    ) throws(StoreError) -> [UInt8] {
        var writer = JSONWriter(reserving: 1024)
        writer.beginObject()
        writer.key("hub")
        writer.uint(hub)
        writer.key("changes")
        writer.beginArray()
        let (last, hasMore) = try write(after: after, in: store, to: &writer) { $0 != epoch }
        writer.endArray()
        writer.key("to")
        writer.uint(last)
        writer.key("more")
        writer.bool(hasMore)
        writer.endObject()
        return writer.bytes
    }

    /// Writes the changes of a hub after a number.
    /// - Returns: the newest of them, and whether there are more.
    static func write(
        after: UInt64, in store: borrowing Reader, to writer: inout JSONWriter, wants: (UInt64) -> Bool
    ) throws(StoreError) -> (last: UInt64, hasMore: Bool) {
        var values: [(number: UInt64, value: [UInt8])] = []
        try SharedChanges.forEach(after: after, in: store) { number, value in
            values.append((number, [UInt8](copying: value)))
            return values.count <= Limits.changesAtOnce
        }
        var last = after
        var bytes = 0
        for (place, change) in values.enumerated() {
            if place == Limits.changesAtOnce || bytes > Limits.syncBytes { return (last, true) }
            let value = change.value
            if let key = SharedChanges.key(in: value.span) {
                let state = try IdentifierState(of: key, in: store, epoch: 0, wants: wants)
                bytes += write(
                    state, value.span.extracting(1..<1 + SharedChanges.nameBytes), isWithdrawn: false, to: &writer)
            } else {
                writer.string(Base64.encode(value.span))
                bytes += value.count
            }
            last = change.number
        }
        return (last, false)
    }
}

extension Pipeline {
    // MARK: A hub

    /// Whether a device has the secret of the fleet, which the first one says by a hash, and its newest pepper: what lies
    /// under an older one is forgotten.
    func isOfFleet(_ print: Span<UInt8>, mark: UInt64, _ transaction: inout WriteTransaction) throws(StoreError) -> Bool {
        let key = Array("fleet".utf8)
        var known: [UInt8] = []
        if let record = try transaction.get(transaction.tables.meta, key.span) { known = [UInt8](copying: record) }
        var record: [UInt8] = []
        record.append(contentsOf: print)
        record.append(UInt8(truncatingIfNeeded: mark))
        if known == record { return true }
        let isSame = known.count == record.count && equal(known.span.extracting(0..<print.count), print)
        guard known.isEmpty || isSame && mark > known[print.count] else { return false }
        try transaction.put(transaction.tables.meta, key.span, record.span)
        if !known.isEmpty { try SharedChanges.beginAnew(in: &transaction) }
        return true
    }

    /// Takes what a device or another hub says has changed.
    mutating func takeChanges(
        _ document: borrowing JSONDocument, now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        var child = document.member(document.root, "changes").flatMap { document.firstChild($0) }
        while let node = child {
            child = document.next(node)
            guard document.kind(node) == .string, let bytes = Base64.decode(document.bytes(node)),
                bytes.count > SharedChanges.nameBytes
            else { continue }
            try takeChange(bytes, now, &transaction)
        }
        try SharedChanges.forget(
            beyond: Limits.sharedStates, before: now - Limits.sharedMilliseconds, from: &forgetPosition, in: &transaction)
    }

    private func takeChange(_ bytes: [UInt8], _ now: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        let end = 1 + SharedChanges.nameBytes
        let name = bytes.span.extracting(1..<end)
        let known = try SharedChanges.latest(of: name, in: transaction)
        let erasedAt = known.isEmpty ? nil : SharedChanges.erasedAt(in: known.span)
        if bytes[0] == SharedChanges.isErased {
            guard bytes.count >= end + 8, let time = SharedChanges.erasedAt(in: bytes.span.extracting(0..<end + 8)) else {
                return
            }
            // It may have come back with what another device still had.
            if let key = IdentifierKey(bytes.span, at: end + 8) { try forget(key, erasedAt: time, &transaction) }
            if let erasedAt, erasedAt >= time { return }
            if !known.isEmpty, let key = SharedChanges.key(in: known.span) {
                if try !forget(key, erasedAt: time, &transaction) { return }
            }
            return try SharedChanges.put(name, bytes.span.extracting(0..<end + 8), in: &transaction)
        }
        guard let state = IdentifierState(bytes.span.extracting(end..<bytes.count)) else { return }
        // Who was erased comes back by a choice of their own.
        if let erasedAt, !state.isChosen(after: erasedAt) { return }
        let isWithdrawn = bytes[0] == SharedChanges.isWithdrawn
        if isWithdrawn { try IdentifierState.remove(state.key, choicesToo: false, in: &transaction) }
        let news = try state.keep(nil, suppression, in: &transaction)
        let isNews = news.hasParts || news.hasChoices || news.hasLinks
        guard isNews || isWithdrawn || known.isEmpty || erasedAt != nil else { return }
        try SharedChanges.put(name, state.key, at: now, in: &transaction)
    }

    /// - Returns: false for somebody who has chosen anew since.
    @discardableResult
    private func forget(
        _ key: IdentifierKey, erasedAt time: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let known = try transaction.choices(of: key)
        if ConsentRecord.isChosen(known.span, after: time) { return false }
        try IdentifierState.remove(key, choicesToo: true, in: &transaction)
        return true
    }

    // MARK: A device

    /// Notes that a person's choices have changed, which need not come with an event of the log.
    func tellHub(of person: ProfileID, now: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        if !tellsHub { return }
        for identifier in try IdentityGraph.identifiers(of: person, in: transaction) {
            let name = suppression.name(identifier.kindTag, identifier.digest)
            try SharedChanges.put(name.span, IdentifierKey(identifier), at: now, in: &transaction)
        }
    }

    /// Takes what the hub says has changed.
    /// - Parameter named: identifiers of this device whose names were erased.
    /// - Returns: erasures that have begun.
    mutating func learnChanges(
        _ document: borrowing JSONDocument, _ named: [LoggedIdentifier], now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> [Erasure] {
        var begun: [Erasure] = []
        var child = document.member(document.root, "changes").flatMap { document.firstChild($0) }
        while let node = child {
            child = document.next(node)
            guard document.kind(node) == .string, let bytes = Base64.decode(document.bytes(node)),
                bytes.count > SharedChanges.nameBytes
            else { continue }
            let end = 1 + SharedChanges.nameBytes
            if let time = SharedChanges.erasedAt(in: bytes.span) {
                let name = InlineArray<16, UInt8> { bytes[1 + $0] }
                if let known = try suppression.time(named: name, in: transaction), known >= time { continue }
                if let erasure = try eraseElsewhere(name, at: time, named, now: now, &transaction) { begun.append(erasure) }
            } else if bytes[0] == SharedChanges.isState,
                let state = IdentifierState(bytes.span.extracting(end..<bytes.count))
            {
                let key = state.key
                if let time = try suppression.time(key.tag, key.digest, in: transaction) {
                    if !state.isChosen(after: time) { continue }
                    try suppression.remove(key.tag, key.digest, in: &transaction)
                }
                try people.learn(
                    state, suppression, inForce.identifiers, inForce.attributes, now: now, random: &random, in: &transaction)
            }
        }
        return begun
    }

    /// Somebody was erased at another device.
    private mutating func eraseElsewhere(
        _ name: InlineArray<16, UInt8>, at time: Int64, _ named: [LoggedIdentifier], now: Int64,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Erasure? {
        var erasure: Erasure?
        for identifier in named {
            let own = suppression.name(identifier.kindTag, identifier.digest)
            guard equal(own.span, name.span) else { continue }
            let choices = try transaction.choices(of: IdentifierKey(identifier))
            // They have come back here before it was heard.
            if ConsentRecord.isChosen(choices.span, after: time) { return nil }
            if let person = try IdentityGraph.profile(of: identifier, in: transaction) {
                erasure = try erase(person, identifier, erasedAt: time, actor: Array("hub".utf8), now: now, &transaction)
            }
        }
        try suppression.add(named: name, at: time, mark: rotation.mark, in: &transaction)
        return erasure
    }
}

extension WriteTransaction {
    /// The choices that were made under an identifier.
    fileprivate borrowing func choices(of key: IdentifierKey) throws(StoreError) -> [UInt8] {
        var bytes: [UInt8] = []
        key.append(to: &bytes)
        guard let found = try get(tables.consentParts, bytes.span) else { return [] }
        return [UInt8](copying: found)
    }
}
