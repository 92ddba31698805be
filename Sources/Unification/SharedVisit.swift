// Who is using a thing that many people use: a till, a kiosk. An event that names nothing else belongs to the person who
// was last named there, for as long as a visit goes on. It need not know profiles.

import Formats
import Platform
import Store

/// The table `visits`: a shared identifier → when it was last used and by whom: time of the event and of its arrival
/// (milliseconds since the epoch, big-endian), and the person's identifier.
///
/// Unlike everything else about people, this goes by the order in which events arrive: what a till tells is told at once.
enum SharedVisit {
    private static let byteCount = 16 + IdentifierKey.byteCount

    private static func user(_ value: Span<UInt8>, at time: Int64) -> (user: IdentifierKey, since: Int64)? {
        guard value.count == byteCount, let last = NumberKey.decode(value.extracting(0..<8)),
            let user = IdentifierKey(value, at: 16)
        else { return nil }
        let (passed, overflowed) = time.subtractingReportingOverflow(Int64(bitPattern: last))
        return overflowed || passed < 0 || passed > Limits.visitMilliseconds ? nil : (user, Int64(bitPattern: last))
    }

    /// An identifier of the person who is using the thing at a time, milliseconds since the epoch; nil for nobody.
    static func user(of thing: IdentifierKey, at time: Int64, in reader: borrowing Reader) throws(StoreError) -> IdentifierKey? {
        let key = thing.bytes
        guard let value = try reader.get(reader.tables.visits, key.span) else { return nil }
        return user(value, at: time)?.user
    }

    static func user(
        of thing: IdentifierKey, at time: Int64, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> IdentifierKey? {
        let key = thing.bytes
        guard let value = try transaction.get(transaction.tables.visits, key.span) else { return nil }
        return user(value, at: time)?.user
    }

    /// Somebody uses the thing. Written once a minute: a visit's end is known to that.
    /// - Parameters:
    ///   - time: of the event; `now`: of its arrival; milliseconds since the epoch.
    static func note(
        _ thing: IdentifierKey, _ user: IdentifierKey, at time: Int64, now: Int64, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let key = thing.bytes
        let visits = transaction.tables.visits
        var isThere = false
        if let value = try transaction.get(visits, key.span), value.count == byteCount,
            let last = NumberKey.decode(value.extracting(0..<8))
        {
            isThere = true
            let before = Int64(bitPattern: last)
            if time < before { return }
            if IdentifierKey(value, at: 16) == user, time < AttributeState.saturatingAdd(before, 60_000) { return }
        }
        if !isThere, transaction.count(visits) >= Limits.visits {
            _ = try removeOld(now: now, in: &transaction)
            if transaction.count(visits) >= Limits.visits { return }
        }
        var value: [UInt8] = []
        value.append(contentsOf: NumberKey(UInt64(bitPattern: time)).bytes.span)
        value.append(contentsOf: NumberKey(UInt64(bitPattern: now)).bytes.span)
        user.append(to: &value)
        try transaction.put(visits, key.span, value.span)
    }

    /// A thing, or the person who is using one, is known by another key.
    static func move(
        _ old: IdentifierKey, to new: IdentifierKey, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let visits = transaction.tables.visits
        if transaction.count(visits) == 0 { return }
        var found: [(thing: IdentifierKey, user: IdentifierKey, times: [UInt8])] = []
        try transaction.scan(visits, from: Span<UInt8>()) { key, value in
            if value.count == byteCount, let thing = IdentifierKey(key), let user = IdentifierKey(value, at: 16),
                thing == old || user == old
            {
                found.append((thing, user, [UInt8](copying: value.extracting(0..<16))))
            }
            return true
        }
        for visit in found {
            var value = visit.times
            (visit.user == old ? new : visit.user).append(to: &value)
            let (before, after) = (visit.thing.bytes, visit.thing == old ? new.bytes : visit.thing.bytes)
            try transaction.delete(visits, before.span)
            try transaction.put(visits, after.span, value.span)
        }
    }

    /// Takes away the visits of a thing, or of a person who is known by this identifier.
    static func removeAll(of key: IdentifierKey, in transaction: inout WriteTransaction) throws(StoreError) {
        try remove(in: &transaction) { thing, value in thing == key || IdentifierKey(value, at: 16) == key }
    }

    /// Takes away the visits that are over.
    /// - Returns: how many.
    @discardableResult
    static func removeOld(now: Int64, in transaction: inout WriteTransaction) throws(StoreError) -> Int {
        try remove(in: &transaction) { _, value in
            guard let time = NumberKey.decode(value.extracting(8..<16)) else { return true }
            return AttributeState.saturatingAdd(Int64(bitPattern: time), Limits.visitMilliseconds) < now
        }
    }

    @discardableResult
    private static func remove(
        in transaction: inout WriteTransaction, where isLeaving: (IdentifierKey, Span<UInt8>) -> Bool
    ) throws(StoreError) -> Int {
        let visits = transaction.tables.visits
        if transaction.count(visits) == 0 { return 0 }
        var leaving: [IdentifierKey] = []
        try transaction.scan(visits, from: Span<UInt8>()) { key, value in
            if let thing = IdentifierKey(key), value.count != byteCount || isLeaving(thing, value) { leaving.append(thing) }
            return true
        }
        for thing in leaving {
            let key = thing.bytes
            try transaction.delete(visits, key.span)
        }
        return leaving.count
    }
}

extension People {
    /// Ends the visits of others at the shared things of an event that names a person, whatever becomes of the event.
    public static func endVisits(
        _ found: [HashedIdentifier], _ plan: borrowing IdentifierPlan, of person: ProfileID?,
        in transaction: inout WriteTransaction
    ) throws(StoreError) {
        if transaction.count(transaction.tables.visits) == 0 || anchor(found, plan) == nil { return }
        for identifier in found where plan.kinds[identifier.kindIndex].isShared {
            let key = IdentifierKey(identifier).bytes
            var user: IdentifierKey?
            if let value = try transaction.get(transaction.tables.visits, key.span) { user = IdentifierKey(value, at: 16) }
            guard let user else { continue }
            let isSame = try IdentityGraph.profile(of: user, in: transaction) == person && person != nil
            if !isSame { try transaction.delete(transaction.tables.visits, key.span) }
        }
    }

    /// Takes note of who uses the shared things of an event.
    public static func noteVisits(
        _ found: [HashedIdentifier], of user: IdentifierKey, _ plan: borrowing IdentifierPlan, at time: Int64, now: Int64,
        in transaction: inout WriteTransaction
    ) throws(StoreError) {
        for identifier in found where plan.kinds[identifier.kindIndex].isShared {
            let thing = IdentifierKey(identifier)
            if thing != user { try SharedVisit.note(thing, user, at: time, now: now, in: &transaction) }
        }
    }

    /// Forgets who used which shared thing, once that is over.
    public static func forgetVisits(now: Int64, in transaction: inout WriteTransaction) throws(StoreError) {
        try SharedVisit.removeOld(now: now, in: &transaction)
    }
}
