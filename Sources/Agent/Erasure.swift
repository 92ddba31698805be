// Forgetting a person (promise P8). The first transaction takes away everything by which they can be found and writes
// down what is left to do; the log and the quarantine are then gone through in small steps, which a restart continues;
// then every destination is told; and what remains is a receipt.

import Activation
import Collection
import Cryptography
import Formats
import Governance
import Monitoring
import Platform
import Store
import Unification

extension Pipeline {
    /// Takes a person away, in this transaction: identifiers, profile, consent, what waits; and notes the rest.
    /// - Parameters:
    ///   - named: the identifier by which the call named them, if it did, in the forms that destinations may know.
    ///   - former: what that was hashed to under the former pepper.
    ///   - erasedAt: when another device was asked to; nil: this one is.
    /// - Returns: the erasure, of which `eraseMore` does the rest.
    mutating func erase(
        _ person: ProfileID, _ named: LoggedIdentifier?, former: Digest256? = nil, erasedAt: Int64? = nil,
        actor: [UInt8], now: Int64,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Erasure {
        let tables = transaction.tables
        var identifiers = try IdentityGraph.identifiers(of: person, in: transaction)
        if identifiers.isEmpty, let named { identifiers = [named] }
        for index in identifiers.indices where identifiers[index].digest == named?.digest {
            identifiers[index].plainDigest = named?.plainDigest
        }
        let plan = policy.identifiers
        // A till belongs to nobody: the next customer there is another person.
        var own = identifiers.filter { !plan.isShared($0.kindTag) }
        // The log may know them by former digests.
        var older: [LoggedIdentifier] = []
        for identifier in own {
            let mark = try IdentityGraph.mark(of: identifier, in: transaction) ?? rotation.mark
            try suppression.add(identifier.kindTag, identifier.digest, at: erasedAt ?? now, mark: mark, in: &transaction)
            try tellHub(ofErased: identifier, at: erasedAt ?? now, &transaction)
            guard let digest = try IdentityGraph.former(of: identifier, in: transaction) else { continue }
            older.append(digest)
            // By which a backup may know them.
            try suppression.add(digest.kindTag, digest.digest, at: erasedAt ?? now, isLifted: true, in: &transaction)
        }
        try IdentityGraph.remove(person, identifiers, in: &transaction)
        if let named, let former {
            older.append(LoggedIdentifier(kindTag: named.kindTag, digest: former, plainDigest: nil, isFormer: true))
        }
        own += older
        let key = person.bytes
        try transaction.delete(tables.profiles, key.span)
        try transaction.delete(tables.damaged, key.span)
        try transaction.delete(tables.consent, key.span)
        dropWaiting(of: person, hashed(own))
        trace?.forget(person)
        var receipt: [UInt8] = []
        receipt.append(contentsOf: random.bytes(16))
        let first = try transaction.firstNumber(tables.log) ?? ledger.nextSequence
        let erasure = Erasure(
            receipt: receipt, profile: person, identifiers: own, askedAt: now, from: first, end: ledger.nextSequence)
        try transaction.put(tables.erasures, receipt.span, erasure.record.span)
        try audit.append(
            .erase, actor: actor, subject: subjects.name(of: person), at: now, in: &transaction
        ) { line in
            line.key("receipt")
            line.string(Hex.encode(receipt.span))
        }
        return erasure
    }

    /// Whether something waits or is set aside of somebody who is not known yet.
    func isMentioned(
        _ identifier: LoggedIdentifier, former: Digest256? = nil, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Bool {
        let named = [identifier]
        for event in waiting.events where event.sharesIdentifier(with: hashed(named)) { return true }
        var isFound = false
        try transaction.scan(transaction.tables.quarantine, from: Span<UInt8>()) { _, value in
            if let entry = LogEntryView(value) {
                for index in 0..<entry.identifierCount {
                    let other = entry.identifier(index)
                    if other.kindTag == identifier.kindTag, other.digest == identifier.digest || other.digest == former {
                        isFound = true
                    }
                }
            }
            return !isFound
        }
        return isFound
    }

    private func hashed(_ identifiers: [LoggedIdentifier]) -> [HashedIdentifier] {
        var hashed: [HashedIdentifier] = []
        for identifier in identifiers {
            hashed.append(HashedIdentifier(kindTag: identifier.kindTag, kindIndex: 0, digest: identifier.digest))
        }
        return hashed
    }

    /// Goes through the next piece of the log; at its end through what triggers wait with and the quarantine, and writes the
    /// notice.
    /// - Parameter atMost: entries to look at.
    mutating func eraseMore(
        _ erasure: inout Erasure, atMost: Int, now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        guard erasure.state == .erasing else { return }
        let log = transaction.tables.log
        let plan = policy.identifiers
        var mentions: [UInt64] = []
        let (found, next) = try Pipeline.entries(
            of: &erasure, in: log, from: erasure.position, erasure.end, atMost, root, plan, &mentions, transaction)
        for number in mentions { try forgetMention(of: erasure, in: number, &transaction) }
        let removal = LogRemoval.erased.bytes
        for (number, message) in found {
            try transaction.put(log, NumberKey(number).bytes.span, removal.span)
            try recent.forget(message, in: &transaction)
        }
        erasure.removedEvents += UInt64(found.count)
        erasure.position = next
        if next >= erasure.end, try forgetInTimers(of: &erasure, &transaction) {
            let quarantine = transaction.tables.quarantine
            let (aside, _) = try Pipeline.entries(
                of: &erasure, in: quarantine, from: 0, UInt64.max, Int.max, root, plan, &mentions, transaction)
            for (number, message) in aside {
                try transaction.delete(quarantine, NumberKey(number).bytes.span)
                try recent.forget(message, in: &transaction)
            }
            erasure.removedQuarantined = UInt64(aside.count)
            if erasure.notice == 0 {
                try writeNotice(&erasure, now, &transaction)
            } else {
                // Of a hub: its child's notice lies in the log already.
                erasure.state = .telling
            }
        }
        try transaction.put(transaction.tables.erasures, erasure.receipt.span, erasure.record.span)
    }

    /// Numbers of the entries of a table that are about the person, and the number to go on from.
    private static func entries(
        of erasure: inout Erasure, in table: Table, from start: UInt64, _ end: UInt64, _ atMost: Int,
        _ root: HMACSHA256, _ plan: IdentifierPlan, _ mentions: inout [UInt64],
        _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> ([(UInt64, MessageKey)], UInt64) {
        var found: [(UInt64, MessageKey)] = []
        var seen = 0
        var next = end
        var learning = erasure
        var mentioning: [UInt64] = []
        let key = NumberKey(start)
        try transaction.scan(table, from: key.bytes.span) { key, value in
            guard let number = NumberKey.decode(key), number < end else { return false }
            if seen == atMost {
                next = number
                return false
            }
            seen += 1
            guard let entry = LogEntryView(value), !isAwaited(number, entry, transaction) else { return true }
            // A hub does not know who is who: what carries an identifier of theirs is theirs.
            if learning.concerns(entry, isSomebodys: { plan.isSomebodys($0, in: transaction) })
                || entry.header.isArrival && entry.mentions(learning.identifiers)
            {
                learning.learn(from: entry)
                found.append((number, MessageKey(entry.messageID, root)))
            } else if entry.mentions(learning.identifiers) {
                mentioning.append(number)
            }
            return true
        }
        mentions = mentioning
        erasure = learning
        return (found, next)
    }

    /// Whether an entry is the notice of an earlier erasure of which not everybody has heard yet: it may name more of the person
    /// than is known now, and goes when that erasure ends.
    private static func isAwaited(
        _ number: UInt64, _ entry: borrowing LogEntryView, _ transaction: borrowing WriteTransaction
    ) -> Bool {
        guard entry.header.isErasureNotice, let receipt = Hex.decode(entry.messageID) else { return false }
        do throws(StoreError) {
            guard let record = try transaction.get(transaction.tables.erasures, receipt.span),
                let erasure = Erasure(receipt: receipt.span, record)
            else { return false }
            return erasure.notice == number && erasure.state != .done
        } catch { return false }
    }

    /// Takes the person's identifiers out of an event of somebody else that carried one.
    private mutating func forgetMention(
        of erasure: Erasure, in number: UInt64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let key = NumberKey(number)
        var entry: [UInt8] = []
        if let value = try transaction.get(transaction.tables.log, key.bytes.span), let view = LogEntryView(value) {
            view.encode(without: erasure.identifiers, into: &entry)
        }
        if !entry.isEmpty { try transaction.put(transaction.tables.log, key.bytes.span, entry.span) }
    }

    /// Takes the person's identifiers out of what triggers of others wait with: an identifier may have been another's when
    /// that began.
    /// - Returns: whether that was all.
    private mutating func forgetInTimers(
        of erasure: inout Erasure, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let (found, next) = try Timers.records(from: erasure.nextTimer, atMost: Limits.sweptPerStep, in: transaction)
        for (key, record) in found where key.tag != TimerKey.audiences {
            guard var state = TriggerState(record.span) else { continue }
            let cause = state.cause
            guard let entry = LogEntryView(cause.span), entry.mentions(erasure.identifiers) else { continue }
            erasure.learn(from: entry)
            entry.encode(without: erasure.identifiers, into: &state.cause)
            try Timers.put(key, state.record, in: &transaction)
        }
        erasure.nextTimer = next
        return next.isEmpty
    }

    /// Tells every destination, by an entry of the log like any other.
    private mutating func writeNotice(
        _ erasure: inout Erasure, _ now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let receipt = Hex.encode(erasure.receipt.span)
        var body = JSONWriter(reserving: 160)
        body.beginObject()
        body.key("type")
        body.string("track")
        body.key("event")
        body.string("User Erased")
        body.key("timestamp")
        var time: [UInt8] = []
        Timestamp.append(now, to: &time)
        body.string(time)
        body.key("properties")
        body.beginObject()
        body.key("receipt")
        body.string(receipt)
        body.endObject()
        body.endObject()
        let header = LogEntryHeader(
            tier: .realtime, priority: 9, receivedAt: now, purposeTag: 0, bundleVersion: policy.version,
            profile: erasure.profile, isErasureNotice: true, isGenerated: true)
        erasure.notice = ledger.nextSequence
        erasure.state = .telling
        try generate(header, erasure.identifiers, messageID: receipt, body.bytes, &transaction)
    }

    /// Ends an erasure once every destination has heard of it.
    /// - Parameters:
    ///   - lowest: the lowest cursor of all destinations.
    ///   - told: the lowest cursor of their lanes `realtime`, in which the notice is.
    mutating func finishErasure(
        _ erasure: inout Erasure, lowest: UInt64, told: UInt64, now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        guard erasure.state == .telling, told > erasure.notice else { return }
        // The notice itself names the person to the destinations: it goes with the last of them.
        let key = NumberKey(erasure.notice)
        if lowest > erasure.notice {
            try transaction.delete(transaction.tables.log, key.bytes.span)
        } else {
            try transaction.put(transaction.tables.log, key.bytes.span, LogRemoval.erased.bytes.span)
        }
        erasure.forget(at: now)
        try transaction.put(transaction.tables.erasures, erasure.receipt.span, erasure.record.span)
    }

    /// The erasures that are not done yet.
    static func unfinishedErasures(_ transaction: borrowing WriteTransaction) throws(StoreError) -> [Erasure] {
        var unfinished: [Erasure] = []
        try transaction.scan(transaction.tables.erasures, from: Span<UInt8>()) { key, value in
            if let erasure = Erasure(receipt: key, value), erasure.state != .done { unfinished.append(erasure) }
            return true
        }
        return unfinished
    }
}
