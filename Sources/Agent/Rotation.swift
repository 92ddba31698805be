// Another pepper takes the place of one. While that lasts identifiers are looked up under both, and who is seen is moved
// (Unification/IdentifierRenewal.swift). When its time is up, what was not seen is forgotten and every former digest is
// taken out of the store, in small steps; then the former pepper is deleted. Where somebody's refusal or erasure is known by
// it alone it stays for that, until somebody gives these up: a refusal is never lost in silence.

import Activation
import Cryptography
import Formats
import Governance
import Platform
import Store
import Unification

/// How far the rotation is. A copy taken before a transaction brings it back when that did not happen.
///
/// In `meta` under `rotation`: the number of the present pepper, what was decided (0: nothing; 1: the rotation is over; 2:
/// refusals and erasures are given up), when it began (milliseconds, big-endian), 16 bytes that tell the present pepper from
/// others; and once former digests are taken out of events, how far that is: stage, and the number of the next event.
struct Rotation {
    enum Stage: UInt8 {
        /// There is none, or it is over.
        case none
        case lasting
        /// Who was not seen is forgotten, and it is counted what must not be.
        case people, erased
        /// What is left waits for somebody's decision.
        case resting
        /// Nothing is: nothing is looked up under the former pepper any more, and its digests are taken out.
        case log, quarantine, timers, digests
    }

    fileprivate(set) var stage = Stage.none
    /// The number of the present pepper; 0: the device's first.
    private(set) var mark: UInt8 = 0
    private(set) var since: Int64 = 0
    /// How long it lasts, milliseconds.
    var milliseconds = Limits.rotationMilliseconds
    /// Refusals and erasures that are known under the former pepper alone are given up.
    private(set) var isForced = false
    private(set) var isOver = false
    /// There is no line about its beginning in the audit log yet.
    fileprivate var isNew = false
    fileprivate var next: [UInt8] = []
    fileprivate var dueAt = Int64.min
    /// Of the pass under way.
    fileprivate var forgotten = 0
    fileprivate(set) var refusals = 0
    fileprivate(set) var erasures = 0
    private var fingerprint: [UInt8] = []

    private static let key: [UInt8] = Array("rotation".utf8)
    private static let byteCount = 35

    /// Whether the store has, or may have, former digests.
    var isLasting: Bool { stage != .none }
    /// Whether identifiers are looked up under the former pepper, too.
    var isRenewing: Bool { isLasting && !isCleaning }
    private var isCleaning: Bool { stage.rawValue >= Stage.log.rawValue }
    /// Whether the end has begun.
    var isUnderWay: Bool { stage != .none && stage != .lasting && stage != .resting }

    init() {}

    /// The number of the present pepper, as the store has it.
    static func mark(_ transaction: borrowing WriteTransaction) throws(StoreError) -> UInt8 {
        let key = Rotation.key
        guard let record = try transaction.get(transaction.tables.meta, key.span), record.count == byteCount else { return 0 }
        return record[0]
    }

    private static func fingerprint(of secret: borrowing HMACSHA256) -> [UInt8] {
        let digest = secret.authenticate(Rotation.key)
        var bytes: [UInt8] = []
        for index in 0..<16 { bytes.append(digest[index]) }
        return bytes
    }

    /// Whether a store has seen a rotation to a pepper that is neither the present nor the former one.
    static func isOfAnother(_ peppers: Peppers, in reader: borrowing Reader) throws(StoreError) -> Bool {
        let table = reader.tables.meta
        guard reader.holds(table, key.span), let record = try reader.get(table, key.span), record.count == byteCount else {
            return false
        }
        let known = [UInt8](copying: record.extracting(10..<26))
        if known == fingerprint(of: peppers.present) { return false }
        guard let former = peppers.former else { return true }
        return known != fingerprint(of: former)
    }

    /// Takes up the rotation that the peppers show, or begins it.
    init(_ peppers: Peppers, now: Int64, in transaction: inout WriteTransaction) throws(StoreError) {
        var known = false
        if let record = try transaction.get(transaction.tables.meta, Rotation.key.span), record.count == Rotation.byteCount {
            known = true
            mark = record[0]
            isOver = record[1] == 1
            isForced = record[1] == 2
            since = Int64(bitPattern: NumberKey.decode(record.extracting(2..<10)) ?? 0)
            fingerprint = [UInt8](copying: record.extracting(10..<26))
            stage = Stage(rawValue: record[26]) ?? .none
            next = [UInt8](copying: record.extracting(27..<35))
        }
        if peppers.former == nil {
            // It is over, or the former pepper was taken away by hand.
            stage = .none
            if known, !isOver { try end(&transaction) }
            return
        }
        let present = Rotation.fingerprint(of: peppers.present)
        if fingerprint != present {
            fingerprint = present
            mark = mark == .max ? 1 : mark + 1
            since = now
            (isOver, isForced, isNew) = (false, false, true)
            move(to: .lasting)
            try write(&transaction)
        }
        if isOver { stage = .none } else if !isCleaning { move(to: .lasting) }
    }

    fileprivate func write(_ transaction: inout WriteTransaction) throws(StoreError) {
        var record: [UInt8] = [mark, isOver ? 1 : isForced ? 2 : 0]
        record.append(contentsOf: NumberKey(UInt64(bitPattern: since)).bytes.span)
        record.append(contentsOf: fingerprint)
        record.append(isCleaning ? stage.rawValue : 0)
        for index in 0..<8 { record.append(isCleaning && next.count == 8 ? next[index] : 0) }
        try transaction.put(transaction.tables.meta, Rotation.key.span, record.span)
    }

    fileprivate mutating func begin(at now: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        since = now
        try write(&transaction)
    }

    fileprivate mutating func end(_ transaction: inout WriteTransaction) throws(StoreError) {
        stage = .none
        isOver = true
        try write(&transaction)
    }

    /// Gives up what is known under the former pepper alone, refusals and erasures as well, at once.
    mutating func force(_ transaction: inout WriteTransaction) throws(StoreError) {
        isForced = true
        since = 0
        try write(&transaction)
    }

    /// Whether something is to be done.
    /// - Parameters:
    ///   - now: milliseconds since the epoch; `monotonic`: nanoseconds.
    func isDue(now: Int64, monotonic: Int64) -> Bool {
        if stage == .none { return false }
        return isNew || monotonic >= dueAt && (stage != .lasting || now - since >= milliseconds)
    }

    fileprivate mutating func move(to stage: Stage) {
        self.stage = stage
        next = []
    }
}

extension Pipeline {
    /// Gives the identifiers of the event under way their present digests, where the store has them under the former ones.
    mutating func renew(_ transaction: inout WriteTransaction) throws(StoreError) {
        if found.first?.former == nil { return }
        if !rotation.isRenewing {
            for index in found.indices { found[index].former = nil }
            return
        }
        for identifier in found {
            guard let former = identifier.former else { continue }
            try suppression.renew(identifier.kindTag, former, as: identifier.digest, rotation.mark, in: &transaction)
        }
        try people.renew(&found, in: &transaction)
    }

    /// The same for the identifier by which a call names somebody.
    mutating func renew(
        _ named: LoggedIdentifier, former: Digest256, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> LoggedIdentifier {
        found = [HashedIdentifier(kindTag: named.kindTag, kindIndex: 0, digest: named.digest, former: former)]
        try renew(&transaction)
        var renewed = named
        renewed.digest = found[0].digest
        return renewed
    }

    /// The identifiers of the event under way as they were kept under the former pepper; empty unless a rotation lasts.
    var formerIdentifiers: [LoggedIdentifier] {
        var list: [LoggedIdentifier] = []
        for identifier in found {
            guard let former = identifier.former, former != identifier.digest else { continue }
            list.append(LoggedIdentifier(kindTag: identifier.kindTag, digest: former, plainDigest: nil, isFormer: true))
        }
        return list
    }

    /// One step towards the end of a rotation, if it is time for one.
    /// - Parameters:
    ///   - erasures: those that are not done yet.
    ///   - now: milliseconds since the epoch; `monotonic`: nanoseconds.
    mutating func endRotation(
        _ erasures: [Erasure], now: Int64, monotonic: Int64, _ room: DiskRoom, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        guard rotation.isDue(now: now, monotonic: monotonic) else { return }
        if rotation.isNew {
            rotation.isNew = false
            return try noteRotation("begins", now, &transaction)
        }
        // An erasure finds its events by what is taken away here.
        for erasure in erasures where erasure.state == .erasing { return }
        rotation.dueAt = monotonic + Limits.sweepPauseMilliseconds * 1_000_000
        switch rotation.stage {
        case .none: return
        case .lasting where rotation.since < Limits.clockIsSetMilliseconds && !rotation.isForced:
            // A board without a clock of its own begins in 1970: it did not last for fifty years.
            try rotation.begin(at: now, &transaction)
        case .lasting, .resting:
            (rotation.forgotten, rotation.refusals, rotation.erasures) = (0, 0, 0)
            rotation.move(to: .people)
        case .people: try forgetUnseen(now, room.changes(atMost: Limits.purgedPerStep), &transaction)
        case .erased:
            try countErased(room.changes(atMost: Limits.sweptPerStep), &transaction)
            if rotation.next.isEmpty { try decide(untold: erasures.count, monotonic, &transaction) }
        case .log, .quarantine: try renewEvents(room.changes(atMost: Limits.sweptPerStep), &transaction)
        case .timers: try renewTimers(room.changes(atMost: Limits.purgedPerStep), &transaction)
        case .digests:
            rotation.next = try people.stripFormer(
                from: rotation.next, atMost: room.changes(atMost: Limits.purgedPerStep), looks: Limits.sweptPerStep,
                in: &transaction)
            if rotation.next.isEmpty {
                try rotation.end(&transaction)
                try noteRotation("ends", now, &transaction)
            }
        }
    }

    private mutating func forgetUnseen(
        _ now: Int64, _ most: Int, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let (keys, next) = try people.unseen(
            from: rotation.next, atMost: most, looks: Limits.sweptPerStep, in: transaction)
        rotation.next = next
        for key in keys {
            // No event leads to it: who knows the identifier does not know the digest any more.
            var message = Array("unseen".utf8)
            key.digest.append(to: &message)
            let substitute = IdentifierKey(tag: key.tag, digest: root.authenticate(message))
            switch try people.forgetUnseen(key, substitute: substitute, withRefusals: rotation.isForced, in: &transaction) {
            case .forgotten: rotation.forgotten += 1
            case .kept: rotation.refusals += 1
            case .unfinished:
                // The rest of it in the next step.
                rotation.next = []
                key.append(to: &rotation.next)
                return
            }
        }
        if next.isEmpty {
            try People.forgetVisits(now: now, in: &transaction)
            rotation.move(to: .erased)
        }
    }

    private mutating func renewEvents(_ most: Int, _ transaction: inout WriteTransaction) throws(StoreError) {
        let isAside = rotation.stage == .quarantine
        let table = isAside ? transaction.tables.quarantine : transaction.tables.log
        var looked: [UInt64] = []
        var rest: [UInt8] = []
        let start = rotation.next
        try transaction.scan(table, from: start.span) { key, _ in
            if looked.count == most {
                rest = [UInt8](copying: key)
                return false
            }
            if let number = NumberKey.decode(key) { looked.append(number) }
            return true
        }
        for number in looked {
            let key = NumberKey(number)
            var renewed: [UInt8] = []
            // A notice tells destinations by the digests that they know; it is gone once they have heard.
            if let value = try transaction.get(table, key.bytes.span), let entry = LogEntryView(value),
                !entry.header.isErasureNotice
            {
                renewed = try people.withoutFormer(entry, in: transaction)
            }
            if !renewed.isEmpty { try transaction.put(table, key.bytes.span, renewed.span) }
        }
        rotation.next = rest
        if rest.isEmpty { rotation.move(to: isAside ? .timers : .quarantine) }
        // An event is gone through once: what it was known by before cannot be seen in it twice.
        try rotation.write(&transaction)
    }

    /// What triggers wait with is an event as well.
    private mutating func renewTimers(_ most: Int, _ transaction: inout WriteTransaction) throws(StoreError) {
        let (found, next) = try Timers.records(from: rotation.next, atMost: most, in: transaction)
        for (key, record) in found where key.tag != TimerKey.audiences {
            guard var state = TriggerState(record.span) else { continue }
            let cause = state.cause
            guard let entry = LogEntryView(cause.span) else { continue }
            state.cause = try people.withoutFormer(entry, in: transaction)
            if !state.cause.isEmpty { try Timers.put(key, state.record, in: &transaction) }
        }
        rotation.next = next
        if next.isEmpty {
            rotation.move(to: .digests)
            try rotation.write(&transaction)
        }
    }

    private mutating func countErased(_ most: Int, _ transaction: inout WriteTransaction) throws(StoreError) {
        let (names, next) = try SuppressionList.unseen(
            from: rotation.next, rotation.mark, looks: most, in: transaction)
        if rotation.isForced {
            for name in names { try suppression.remove(named: name, in: &transaction) }
        } else {
            rotation.erasures += names.count
        }
        rotation.next = next
    }

    /// Goes on to take former digests out, unless something is left that must not be lost in silence.
    /// - Parameter untold: erasures of which some destination has not heard; the notices name people as it knows them.
    private mutating func decide(
        untold: Int, _ monotonic: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        if rotation.refusals == 0, rotation.erasures == 0, untold == 0 || rotation.isForced {
            rotation.move(to: .log)
            return try rotation.write(&transaction)
        }
        rotation.move(to: .resting)
        rotation.dueAt = monotonic + Limits.sweepRestMilliseconds * 1_000_000
        let (refusals, erasures) = (rotation.refusals, rotation.erasures)
        Log.warning("the former pepper is kept for what is known by it alone") {
            $0.field("see", "gatehouse help pepper")
            $0.field("refusals", refusals)
            $0.field("erasures", erasures)
            $0.field("notices", untold)
        }
    }

    private mutating func noteRotation(
        _ what: StaticString, _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let forgotten = rotation.forgotten
        try audit.append(
            .configuration, actor: Array("device".utf8), subject: nil, at: now, in: &transaction
        ) { line in
            line.key("rotation")
            line.string(what)
            line.key("forgotten")
            line.int(Int64(forgotten))
        }
    }
}
