// What devices of a fleet and their hub tell each other beside events: what is known of people who were seen at several of
// them, and who was erased. A device asks (`POST /v1/sync`), since a hub cannot reach behind its router, and both say
// in the same form what has changed.
//
// All devices of a fleet have one pepper, so that an identifier is the same on each of them; the hub has another, and can
// look nobody up: what it holds are hashes for which it has no key. The list of the erased travels as hashes of those
// hashes, under a key that it does not have either.
//
// Nothing that comes from elsewhere is taken as it is: a state is read whole before any of it counts, nobody has chosen
// later than now, and a device speaks of what it has counted itself.

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
    /// The number of the first of the hub's changes for which there was no room here; 0: there was for all.
    var missed: UInt64 = 0
    /// Which exchange it was, so that whoever waits for its commit knows it.
    var turn: UInt64 = 0
    /// Where a new hub is told of everybody: nothing when it has been; or 1 and the last name of the list of the erased
    /// that it was told, or 2 and the last identifier.
    var walk: [UInt8] = []

    static let key = Array("sync".utf8)
    private static let numbers = 6
    private static let numberBytes = 4 + 8 * numbers

    init() {}

    init(_ record: Span<UInt8>) {
        let bytes = SyncCursor.numberBytes
        guard record.count >= bytes,
            let found = Record.decode(record.extracting(0..<bytes), count: SyncCursor.numbers)
        else { return }
        (hub, heard, told, position, missed, turn) = (found[0], found[1], found[2], found[3], found[4], found[5])
        walk = [UInt8](copying: record.extracting(bytes..<record.count))
    }

    var record: [UInt8] { Record.encode([hub, heard, told, position, missed, turn]) + walk }
}

/// Changes on the wire, as many as fit: base64 of a byte that says what it is, 16 bytes of a name, and of a state the state,
/// of an erasure when it was asked for (8 bytes, big-endian) and from a device the key of the identifier.
struct SyncPage {
    var writer = JSONWriter(reserving: 1024)
    /// Bytes after which there are no more; the last change may be larger.
    let most: Int
    private var bytes = 0

    init(most: Int) { self.most = most }

    var isFull: Bool { bytes >= most }

    mutating func add(_ change: [UInt8]) {
        writer.string(Base64.encode(change.span))
        // With what stands around it: many small ones are not to make a long text.
        bytes += change.count + 4
    }

    mutating func add(_ kind: UInt8, _ name: Span<UInt8>, _ state: IdentifierState) {
        var bytes = [kind]
        bytes.append(contentsOf: name)
        state.append(to: &bytes)
        add(bytes)
    }

    /// Adds what a hub passes on after a number.
    /// - Parameters:
    ///   - epoch: number of the store that it is for: that one knows what it has counted.
    ///   - erasuresOnly: for whoever has no room for more.
    /// - Returns: the newest of them, and whether there are more.
    mutating func addChanges(
        after: UInt64, to epoch: UInt64, erasuresOnly: Bool = false, in store: borrowing Reader
    ) throws(StoreError) -> (last: UInt64, hasMore: Bool) {
        var last = after
        var changes: [SharedChanges.Change] = []
        try SharedChanges.forEach(after: after, in: store) { change in
            changes.append(change)
            return changes.count < Limits.changesLookedAt
        }
        for change in changes {
            if isFull { return (last, true) }
            last = change.number
            let name = change.name
            if change.erasedAt != nil {
                add(Array(change.value.prefix(SharedChanges.nameBytes + 9)))
            } else if !erasuresOnly, change.epoch == 0 || change.epoch != epoch, let key = change.key {
                let state = try IdentifierState(
                    of: key, in: store, epoch: 0, change.epoch == 0 ? .withoutParts : .part(change.epoch))
                add(change.kind, name.span, state)
            }
        }
        return (last, changes.count == Limits.changesLookedAt)
    }
}

/// Who says what has changed.
struct SyncSender {
    /// How the audit log names it.
    var name: [UInt8] = []
    /// The number of its store.
    var epoch: UInt64 = 0
    /// Whether it may tell what others have counted, as a hub does.
    var speaksForOthers = true
    /// Whether it may say that somebody was erased.
    var mayErase = true
    /// By which times are judged, milliseconds since the epoch.
    var now: Int64 = 0
}

/// What became of a change.
enum SyncOutcome {
    case taken
    /// Nothing of it was.
    case unreadable, mayNotErase
    /// Only what was chosen, of somebody who is known: there is no room for more.
    case noRoom
    /// At a device: an erasure has begun.
    case erasing(Erasure)
}

enum Fleet {
    /// What tells the secrets of one fleet from those of another, and its pepper from former ones: 32 hexadecimal digits.
    static func fingerprint(of peppers: Peppers) -> [UInt8] {
        var message = Array("fleet".utf8)
        let present = peppers.present.authenticate(message)
        present.append(to: &message)
        var text: [UInt8] = []
        peppers.root.authenticate(message).appendHexadecimal(to: &text)
        return Array(text[0..<32])
    }

    /// Whether a text may be a fingerprint.
    static func isFingerprint(_ text: Span<UInt8>) -> Bool {
        text.count == 32 && Hex.decode(text) != nil
    }

    /// The bytes of a change in a list of them; nil for what is none.
    static func change(_ document: borrowing JSONDocument, _ node: JSONNode) -> [UInt8]? {
        guard document.kind(node) == .string, let bytes = Base64.decode(document.bytes(node)),
            bytes.count > SharedChanges.nameBytes
        else { return nil }
        return bytes
    }

    static func number(_ name: StaticString, _ document: borrowing JSONDocument) -> UInt64? {
        document.member(document.root, name).flatMap { document.int64($0) }.flatMap { UInt64(exactly: $0) }
    }

    /// Writes members of an object that are numbers.
    static func write(_ numbers: [(StaticString, UInt64)], to writer: inout JSONWriter) {
        for (name, number) in numbers {
            writer.key(name)
            writer.uint(number)
        }
    }
}

extension Pipeline {
    // MARK: A hub

    /// Makes what the hub passes on that of one fleet, by its fingerprint: what lies under another pepper is forgotten.
    func serve(_ fleet: Span<UInt8>, _ transaction: inout WriteTransaction) throws(StoreError) {
        let (meta, key) = (transaction.tables.meta, Array("fleet".utf8))
        var known: [UInt8] = []
        if let record = try transaction.get(meta, key.span) { known = [UInt8](copying: record) }
        if equal(known.span, fleet) { return }
        if !known.isEmpty { try SharedChanges.beginAnew(in: &transaction) }
        try transaction.put(meta, key.span, fleet)
    }

    /// Takes what a device or another hub says has changed.
    /// - Parameter hasRoom: false: of what is not known nothing is taken, and of the rest no more than was chosen.
    mutating func takeChange(
        _ bytes: [UInt8], _ sender: SyncSender, hasRoom: Bool, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> SyncOutcome {
        let end = 1 + SharedChanges.nameBytes
        let name = bytes.span.extracting(1..<end)
        let known = try SharedChanges.latest(of: name, in: transaction)
        if let time = SharedChanges.erasedAt(in: bytes.span) {
            if !sender.mayErase { return .mayNotErase }
            let key = IdentifierKey(bytes.span, at: end + 8)
            try takeErasure(of: name, key, at: min(time, sender.now), known, sender, &transaction)
            return .taken
        }
        let isWithdrawn = bytes[0] == SharedChanges.isWithdrawn
        guard isWithdrawn || bytes[0] == SharedChanges.isState,
            var state = IdentifierState(
                bytes.span.extracting(end..<bytes.count), now: sender.now, ahead: Limits.clockAheadMilliseconds),
            sender.speaksForOthers || state.isWritten(by: sender.epoch)
        else { return .unreadable }
        let erasedAt = known?.erasedAt
        // Who was erased comes back by a choice of their own.
        if let erasedAt, !state.isChosen(after: erasedAt) { return .taken }
        if !hasRoom, known == nil { return .noRoom }
        if isWithdrawn || !hasRoom { state.keepChoicesOnly() }
        let news = try state.keep(nil, suppression, in: &transaction)
        let key = state.key
        if isWithdrawn {
            // One who only repeats what was known may know less than others: that the person has chosen anew.
            if news.hasChoices {
                try IdentifierState.remove(key, choicesToo: false, in: &transaction)
                try SharedChanges.remove(name, keepsChoices: true, in: &transaction)
            } else if sender.epoch != 0 {
                try IdentifierState.remove(key, countedBy: sender.epoch, in: &transaction)
                try SharedChanges.remove(name, epoch: sender.epoch, in: &transaction)
            }
        }
        if news.hasChoices || news.hasLinks || erasedAt != nil {
            try SharedChanges.put(name, key, isWithdrawn: isWithdrawn, at: sender.now, in: &transaction)
        }
        if news.hasParts {
            for epoch in state.writers { try SharedChanges.put(name, key, epoch: epoch, at: sender.now, in: &transaction) }
        }
        return hasRoom ? .taken : .noRoom
    }

    private mutating func takeErasure(
        of name: Span<UInt8>, _ said: IdentifierKey?, at time: Int64, _ known: SharedChanges.Change?, _ sender: SyncSender,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        // It may have come back with what another device still had.
        if let said { try forget(said, erasedAt: time, &transaction) }
        if let erasedAt = known?.erasedAt {
            if erasedAt >= time { return }
        } else if let key = try SharedChanges.key(of: name, in: transaction) {
            if try !forget(key, erasedAt: time, &transaction) { return }
        }
        try SharedChanges.putErasure(name, at: time, nil, in: &transaction)
        try audit.append(
            .erase, actor: Array("device:".utf8) + sender.name, subject: nil, at: sender.now, in: &transaction
        ) { line in
            line.key("shared")
            line.bool(true)
        }
    }

    /// - Returns: false for somebody who has chosen anew since.
    @discardableResult
    private func forget(
        _ key: IdentifierKey, erasedAt time: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        var bytes: [UInt8] = []
        key.append(to: &bytes)
        if let known = try transaction.get(transaction.tables.consentParts, bytes.span),
            ConsentRecord.isChosen(known, after: time)
        {
            return false
        }
        try IdentifierState.remove(key, choicesToo: true, in: &transaction)
        return true
    }

    /// Forgets some of what has not changed for long, or is too much.
    mutating func forgetShared(now: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        try SharedChanges.forget(
            beyond: Limits.sharedStates, before: now - Limits.sharedMilliseconds, from: &forgetPosition, in: &transaction)
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

    /// Notes that an identifier was erased.
    func tellHub(
        ofErased identifier: LoggedIdentifier, at time: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        if !tellsHub { return }
        let name = suppression.name(identifier.kindTag, identifier.digest)
        // While the pepper changes the hub is not asked: nothing by which somebody is known is to wait for that.
        let key = rotation.isLasting ? nil : IdentifierKey(identifier)
        try SharedChanges.putErasure(name.span, at: time, key, in: &transaction)
    }

    /// Takes what the hub says has changed.
    /// - Parameters:
    ///   - named: identifiers of this device whose names were erased.
    ///   - latest: the later of its clock and of this device's, milliseconds since the epoch.
    ///   - hasRoom: false: only erasures are taken, and what people who are known here have chosen.
    mutating func learnChange(
        _ bytes: [UInt8], _ named: [LoggedIdentifier], latest: Int64, now: Int64, hasRoom: Bool,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) -> SyncOutcome {
        let end = 1 + SharedChanges.nameBytes
        if let time = SharedChanges.erasedAt(in: bytes.span) {
            let name = InlineArray<16, UInt8> { bytes[1 + $0] }
            let erasure = try eraseElsewhere(name, at: min(time, latest), named, now: now, &transaction)
            return erasure.map { .erasing($0) } ?? .taken
        }
        guard bytes[0] == SharedChanges.isState || bytes[0] == SharedChanges.isWithdrawn,
            let state = IdentifierState(
                bytes.span.extracting(end..<bytes.count), now: latest, ahead: Limits.clockAheadMilliseconds)
        else { return .unreadable }
        let key = state.key
        // A thing that many people use is nobody's.
        if let kind = inForce.identifiers.kindIndex(tag: key.tag), inForce.identifiers.kinds[kind].isShared { return .taken }
        if let time = try suppression.time(key.tag, key.digest, in: transaction) {
            if !state.isChosen(after: time) { return .taken }
            try suppression.remove(key.tag, key.digest, in: &transaction)
        }
        let hasNewChoices: Bool
        if hasRoom {
            hasNewChoices = try people.learn(
                state, suppression, inForce.identifiers, inForce.attributes, now: now, random: &random, in: &transaction)
        } else {
            hasNewChoices = try people.learnChoices(of: state, now: now, inForce.attributes, in: &transaction)
        }
        // What this device has counted may be told from now on, or not any more.
        if hasNewChoices, let person = try IdentityGraph.profile(of: key, in: transaction) {
            try tellHub(of: person, now: now, &transaction)
        }
        return hasRoom ? .taken : .noRoom
    }

    /// Somebody was erased at another device.
    private mutating func eraseElsewhere(
        _ name: InlineArray<16, UInt8>, at time: Int64, _ named: [LoggedIdentifier], now: Int64,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Erasure? {
        var erasure: Erasure?
        for identifier in named {
            let own = suppression.name(identifier.kindTag, identifier.digest)
            guard equal(own.span, name.span), let person = try IdentityGraph.profile(of: identifier, in: transaction) else {
                continue
            }
            // They have come back here before it was heard.
            let id = person.bytes
            if let choices = try transaction.get(transaction.tables.consent, id.span),
                ConsentRecord.isChosen(choices, after: time)
            {
                return nil
            }
            erasure = try erase(person, identifier, erasedAt: time, actor: Array("hub".utf8), now: now, &transaction)
        }
        if let known = try suppression.time(named: name, in: transaction), known >= time { return erasure }
        try suppression.add(named: name, at: time, mark: rotation.mark, in: &transaction)
        return erasure
    }
}
