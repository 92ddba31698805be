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

/// What is said on the wire: pieces (see `Piece`). The first is numbers (see `Record`). Of a question: the number of the
/// device's store, its time, its bundle, what waits there and what was lost, the hub's number and the newest of the hub's
/// changes that it knows; then the fleet's fingerprint and the device's name. Of an answer: the hub's number, its time, the
/// newest change, and what is to be known besides. Then changes: a byte that says what it is, 16 bytes of a name, and of a
/// state the state, of an erasure when it was asked for (8 bytes, big-endian) and from a device the key of the identifier. A hub
/// also says what it asks the device to do, and a device what of that it has done: the number of a `DeviceCommand`, when it was
/// asked for (8 bytes, big-endian), and of a report the text.
struct SyncPage {
    static let head: UInt8 = 0
    static let change: UInt8 = 1
    static let fleet: UInt8 = 2
    static let device: UInt8 = 3
    static let command: UInt8 = 4
    static let done: UInt8 = 5
    private static let numberCount = 7

    // What is to be known besides.
    static let hasMore: UInt64 = 1
    static let isFull: UInt64 = 2
    static let isErasureRefused: UInt64 = 4
    static let mayErase: UInt64 = 8

    private(set) var bytes: [UInt8] = []
    /// Bytes after which there are no more; the last change may be larger.
    let most: Int

    init(most: Int) { self.most = most }

    var isFull: Bool { bytes.count >= most }

    mutating func add(_ kind: UInt8, _ content: [UInt8]) { Piece.append(kind, content.span, to: &bytes) }

    /// - Parameter numbers: seven.
    mutating func add(_ numbers: [UInt64]) { add(SyncPage.head, Record.encode(numbers)) }

    mutating func add(_ kind: UInt8, _ name: Span<UInt8>, _ state: IdentifierState) {
        var change = [kind]
        change.append(contentsOf: name)
        state.append(to: &change)
        add(SyncPage.change, change)
    }

    mutating func add(_ kind: UInt8, _ command: DeviceCommand, askedAt time: UInt64, _ text: [UInt8] = []) {
        var content = [UInt8(command.rawValue)]
        let number = NumberKey(time)
        content.append(contentsOf: number.bytes.span)
        add(kind, content + text)
    }

    /// What a command's piece says; nil for what is none.
    static func command(_ content: Span<UInt8>) -> (command: DeviceCommand, askedAt: UInt64)? {
        guard content.count >= 9, let command = DeviceCommand(rawValue: Int(content[0])),
            let time = NumberKey.decode(content.extracting(1..<9))
        else { return nil }
        return (command, time)
    }

    /// The numbers that a question or an answer begins with; nil for what is neither.
    @inline(never)
    static func numbers(_ bytes: Span<UInt8>) -> [UInt64]? {
        guard let piece = Piece(bytes, at: 0), piece.kind == head else { return nil }
        return Record.decode(bytes.extracting(piece.start..<piece.end), count: numberCount)
    }

    /// Adds what a hub passes on after a number.
    /// - Parameters:
    ///   - last: the number; becomes that of the newest of them.
    ///   - epoch: number of the store that it is for: that one knows what it has counted.
    ///   - erasuresOnly: for whoever has no room for more.
    /// - Returns: whether there are more.
    @inline(never)
    mutating func addChanges(
        after last: inout UInt64, to epoch: UInt64, erasuresOnly: Bool = false, in store: borrowing Reader
    ) throws(StoreError) -> Bool {
        var hasLeftErasure = false
        return try addChanges(
            after: &last, to: epoch, erasuresOnly: erasuresOnly, hasLeftErasure: &hasLeftErasure, leavesErasures: false, in: store)
    }

    /// The same, for a hub that may take no erasures.
    /// - Parameter hasLeftErasure: becomes true where one is passed over.
    mutating func addChanges(
        after last: inout UInt64, to epoch: UInt64, erasuresOnly: Bool, hasLeftErasure: inout Bool, leavesErasures: Bool,
        in store: borrowing Reader
    ) throws(StoreError) -> Bool {
        let start = try SharedChanges.start(after: last, in: store)
        var (looked, hasMore, hasLeft) = (0, false, false)
        var failure: StoreError?
        try store.scan(store.tables.changes, from: start.bytes.span) { key, value in
            guard let number = NumberKey.decode(key), value.count >= SharedChanges.headBytes else { return false }
            hasMore = isFull || looked == Limits.changesLookedAt
            if hasMore { return false }
            let isErasure = SharedChanges.erasedAt(in: value) != nil
            if !erasuresOnly || isErasure { looked += 1 }
            last = number
            let changed = SharedChanges.epoch(in: value)
            if isErasure {
                if leavesErasures { hasLeft = true } else { add(SyncPage.change, [UInt8](copying: value)) }
            } else if !erasuresOnly, changed == 0 || changed != epoch,
                let key = IdentifierKey(value, at: SharedChanges.headBytes)
            {
                do throws(StoreError) {
                    // Of links and choices, or of what one store has counted; the choices may be why it may be known again.
                    let state = try IdentifierState(
                        of: key, in: store, epoch: 0, parts: changed,
                        links: changed == 0 ? Unification.Limits.linksTold : 0)
                    add(value[0], value.extracting(1...SharedChanges.nameBytes), state)
                } catch {
                    failure = error
                    return false
                }
            }
            return true
        }
        if let failure { throw failure }
        if hasLeft { hasLeftErasure = true }
        return hasMore
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
    /// Taken, after what was known here of somebody who had been erased meanwhile has gone.
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
        text.removeLast(text.count - 32)
        return text
    }

    /// The state in a change, if there is one, with what is believed of it.
    static func state(_ change: [UInt8], now: Int64) -> IdentifierState? {
        guard change.count > SharedChanges.nameBytes, change[0] == SharedChanges.isState || change[0] == SharedChanges.isWithdrawn
        else { return nil }
        return IdentifierState(
            change.span.extracting(1 + SharedChanges.nameBytes..<change.count), now: now,
            ahead: Limits.clockAheadMilliseconds)
    }

    /// Whether a text may be a fingerprint.
    static func isFingerprint(_ text: Span<UInt8>) -> Bool {
        text.count == 32 && Hex.decode(text) != nil
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
        if bytes.count < end { return .unreadable }
        let name = bytes.span.extracting(1..<end)
        let latest = try SharedChanges.latest(of: name, in: transaction)
        let erasedAt = try SharedChanges.erasedAt(name, in: transaction)
        if let time = SharedChanges.erasedAt(in: bytes.span) {
            let time = max(0, min(time, sender.now))
            // Whoever has heard of it here tells it back.
            if !sender.mayErase { return erasedAt ?? -1 >= time ? .taken : .mayNotErase }
            let key = IdentifierKey(bytes.span, at: SharedChanges.headBytes)
            try takeErasure(of: name, key, at: time, known: erasedAt, sender, &transaction)
            return .taken
        }
        guard var state = Fleet.state(bytes, now: sender.now) else { return .unreadable }
        let writers = state.writers
        for epoch in writers where epoch > SharedChanges.largestEpoch || !sender.speaksForOthers && epoch != sender.epoch {
            return .unreadable
        }
        // Who was erased comes back by a choice of their own.
        if let erasedAt, !state.isChosen(after: erasedAt) { return .taken }
        if !hasRoom, latest.isEmpty, erasedAt == nil { return .noRoom }
        let isWithdrawn = bytes[0] == SharedChanges.isWithdrawn
        if isWithdrawn || !hasRoom { state.keepChoicesOnly() }
        let news = try state.keep(0, suppression, in: &transaction)
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
        if news.hasChoices || news.hasLinks || erasedAt != nil && latest.isEmpty {
            try SharedChanges.put(name, key, isWithdrawn: isWithdrawn, at: sender.now, in: &transaction)
        }
        if news.hasParts {
            for epoch in writers { try SharedChanges.put(name, key, epoch: epoch, at: sender.now, in: &transaction) }
        }
        return hasRoom ? .taken : .noRoom
    }

    private mutating func takeErasure(
        of name: Span<UInt8>, _ said: IdentifierKey?, at time: Int64, known: Int64?, _ sender: SyncSender,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        // It may have come back with what another device still had.
        if let said { try forget(said, erasedAt: time, &transaction) }
        if known ?? -1 >= time { return }
        if let key = try SharedChanges.key(of: name, in: transaction), try !forget(key, erasedAt: time, &transaction) {
            // They are back already; what the one that has erased them had counted is gone there.
            try IdentifierState.remove(key, countedBy: sender.epoch, in: &transaction)
            return try SharedChanges.remove(name, epoch: sender.epoch, in: &transaction)
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

    /// Takes what the hub says has changed. Who was erased is suppressed; `eraseSuppressed` takes them away.
    /// - Parameters:
    ///   - latest: the later of its clock and of this device's, milliseconds since the epoch.
    ///   - hasRoom: false: only erasures are taken, and what people who are known here have chosen.
    mutating func learnChange(
        _ bytes: [UInt8], latest: Int64, now: Int64, hasRoom: Bool, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> SyncOutcome {
        if let erasedAt = SharedChanges.erasedAt(in: bytes.span) {
            let name = InlineArray<16, UInt8> { bytes[1 + $0] }
            let time = max(0, min(erasedAt, latest))
            if try suppression.remembers(named: name, since: time, in: transaction) { return .taken }
            try suppression.add(named: name, at: time, mark: rotation.mark, in: &transaction)
            return .taken
        }
        guard var state = Fleet.state(bytes, now: latest) else { return .unreadable }
        let key = state.key
        // A thing that many people use is nobody's.
        if inForce.identifiers.isShared(key.tag) { return .taken }
        let erasedAt = try suppression.time(key.tag, key.digest, in: transaction)
        if let erasedAt, !state.isChosen(after: erasedAt) { return .taken }
        // Before they come back what was known of them goes: this device may hear of both at once.
        let erasure = erasedAt == nil ? nil : try eraseSuppressed(key.logged, now: now, &transaction)
        if !hasRoom {
            if try IdentityGraph.profile(of: key, in: transaction) == nil { return erasure.map { .erasing($0) } ?? .noRoom }
            state.keepChoicesOnly()
        }
        if erasedAt != nil { try suppression.lift(key.tag, key.digest, in: &transaction) }
        let hasNewChoices = try people.learn(
            state, suppression, inForce.identifiers, inForce.attributes, now: now, random: &random, in: &transaction)
        // What this device has counted may be told from now on, or not any more.
        if hasNewChoices, let person = try IdentityGraph.profile(of: key, in: transaction) {
            try tellHub(of: person, now: now, &transaction)
        }
        if let erasure { return .erasing(erasure) }
        return hasRoom ? .taken : .noRoom
    }

    /// Erases the person of an identifier that is in the suppression list, unless they have chosen anew since.
    /// - Returns: the erasure; nil when there is none.
    mutating func eraseSuppressed(
        _ identifier: LoggedIdentifier, now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Erasure? {
        guard let time = try suppression.time(identifier.kindTag, identifier.digest, in: transaction),
            let person = try IdentityGraph.profile(of: identifier, in: transaction)
        else { return nil }
        let choices = try consentRecord(of: person, transaction)
        if !ConsentRecord.isChosen(choices.span, after: time) {
            return try erase(person, identifier, erasedAt: time, actor: Array("hub".utf8), now: now, &transaction)
        }
        // They have come back here before it was heard.
        try suppression.lift(identifier.kindTag, identifier.digest, in: &transaction)
        return nil
    }
}
