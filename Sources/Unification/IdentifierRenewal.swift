// Identifiers under another pepper. While a rotation lasts each is hashed under both; who is seen and still lies under the
// former digest gets the present one, with all that hangs on it, in the transaction of the event. Who is who stays the
// same: only the names of the nodes change. When a rotation begins and ends is for others to know.

import Cryptography
import Formats
import Store

extension IdentityGraph {
    /// Makes a question's identifier one that the store knows: where nothing lies under its digest, but something under the
    /// former, it is that.
    public static func recall(_ identifier: inout HashedIdentifier, in reader: borrowing Reader) throws(StoreError) {
        guard let former = identifier.former, try !isKnown(IdentifierKey(identifier), in: reader) else { return }
        let key = IdentifierKey(tag: identifier.kindTag, digest: former)
        if try isKnown(key, in: reader) { identifier.digest = former }
    }

    private static func isKnown(_ key: IdentifierKey, in reader: borrowing Reader) throws(StoreError) -> Bool {
        let bytes = key.bytes
        if try reader.get(reader.tables.identifiers, bytes.span) != nil { return true }
        return try reader.get(reader.tables.visits, bytes.span) != nil
    }

    /// The digest that an identifier had before, by which older events know it; nil for none.
    public static func former(
        of identifier: LoggedIdentifier, in reader: borrowing Reader
    ) throws(StoreError) -> LoggedIdentifier? {
        let bytes = IdentifierKey(identifier).bytes
        guard let row = try reader.get(reader.tables.identifiers, bytes.span), let digest = IdentifierRow.former(row) else {
            return nil
        }
        return LoggedIdentifier(kindTag: identifier.kindTag, digest: digest, plainDigest: nil, isFormer: true)
    }

    public static func former(
        of identifier: LoggedIdentifier, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> LoggedIdentifier? {
        let bytes = IdentifierKey(identifier).bytes
        guard let row = try transaction.get(transaction.tables.identifiers, bytes.span),
            let digest = IdentifierRow.former(row)
        else { return nil }
        return LoggedIdentifier(kindTag: identifier.kindTag, digest: digest, plainDigest: nil, isFormer: true)
    }

    /// The number of the pepper that an identifier's key was hashed under; nil for one that nothing is known of.
    public static func mark(
        of identifier: LoggedIdentifier, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> UInt8? {
        let bytes = IdentifierKey(identifier).bytes
        guard let row = try transaction.get(transaction.tables.identifiers, bytes.span) else { return nil }
        return IdentifierRow.mark(row)
    }

    /// The key that an identifier of an older event has now.
    public static func current(
        _ key: IdentifierKey, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> IdentifierKey {
        var result = key
        while true {
            let bytes = result.bytes
            guard let row = try transaction.get(transaction.tables.identifiers, bytes.span),
                let next = IdentifierRow.successor(row)
            else { return result }
            result = next
        }
    }
}

extension People {
    /// Gives identifiers that were seen just now their present keys, where they lie under the former ones.
    /// - Parameter found: an event's identifiers. One that cannot be moved is from then on its former digest.
    public func renew(_ found: inout [HashedIdentifier], in transaction: inout WriteTransaction) throws(StoreError) {
        for index in found.indices {
            guard let former = found[index].former, former != found[index].digest else { continue }
            let key = IdentifierKey(found[index])
            let old = IdentifierKey(tag: key.tag, digest: former)
            let (bytes, oldBytes) = (key.bytes, old.bytes)
            var isKnown = false
            var person: ProfileID?
            if let row = try transaction.get(transaction.tables.identifiers, bytes.span) {
                isKnown = true
                if IdentifierRow.former(row) == nil { person = IdentifierRow.owner(row) }
            }
            if isKnown {
                if let person { try note(person, key, old, &transaction) }
            } else if try transaction.get(transaction.tables.identifiers, oldBytes.span) != nil {
                let last = try IdentityGraph.current(old, in: transaction)
                if try !move(last, to: key, in: &transaction) {
                    found[index].digest = last.digest
                } else if last != old, let person = try IdentityGraph.profile(of: key, in: transaction) {
                    // At the very end of the rotation it was given a substitute already, which is done with.
                    let lastBytes = last.bytes
                    try transaction.delete(transaction.tables.identifiers, lastBytes.span)
                    try transaction.delete(transaction.tables.identifiers, oldBytes.span)
                    try note(person, key, old, &transaction)
                }
            } else if try transaction.get(transaction.tables.visits, oldBytes.span) != nil {
                try SharedVisit.move(old, to: key, in: &transaction)
            }
        }
    }

    /// Notes with an identifier what it was hashed to before: what was set aside under that is found again.
    private func note(
        _ person: ProfileID, _ key: IdentifierKey, _ old: IdentifierKey, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let (bytes, oldBytes) = (key.bytes, old.bytes)
        let identifiers = transaction.tables.identifiers
        if try transaction.get(identifiers, oldBytes.span) != nil { return }
        let row = IdentifierRow.bytes(person, mark: mark, former: old.digest)
        try transaction.put(identifiers, bytes.span, row.span)
        try transaction.put(identifiers, oldBytes.span, bytes.span)
    }

    /// Gives an identifier another key: in the graph, in what was counted for it and chosen under it, in visits.
    /// - Parameter key: under which nothing lies.
    /// - Returns: false for one with too many links, which is nobody's: it stays.
    public func move(
        _ old: IdentifierKey, to key: IdentifierKey, in transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let tables = transaction.tables
        guard let person = try IdentityGraph.profile(of: old, in: transaction) else { return false }
        let links = try IdentityLinks.links(of: old, atMost: Limits.linksMovedAtOnce + 1, in: transaction)
        if links.count > Limits.linksMovedAtOnce { return false }
        for link in links {
            try IdentityLinks.remove(old, link.other, in: &transaction)
            _ = try IdentityLinks.add(key, link.other, link.origin, in: &transaction)
        }
        let (bytes, oldBytes) = (key.bytes, old.bytes)
        try People.moveValue(tables.links, LinkKey(person, old).bytes.span, LinkKey(person, key).bytes.span, &transaction)
        try People.moveValue(tables.consentParts, oldBytes.span, bytes.span, &transaction)
        try moveParts(of: person, old, key, &transaction)
        try SharedVisit.move(old, to: key, in: &transaction)
        try Timers.move(old, to: key, in: &transaction)
        let row = IdentifierRow.bytes(person, mark: mark, former: old.digest)
        try transaction.put(tables.identifiers, bytes.span, row.span)
        try transaction.put(tables.identifiers, oldBytes.span, bytes.span)
        return true
    }

    private func moveParts(
        of person: ProfileID, _ old: IdentifierKey, _ key: IdentifierKey, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let (id, parts) = (person.bytes, transaction.tables.parts)
        var epochs: [UInt64] = []
        try ProfileParts.forEach(of: old, in: transaction) { epoch, _ in epochs.append(epoch) }
        for epoch in epochs {
            let (from, to) = (ProfileParts.Key(old, epoch), ProfileParts.Key(key, epoch))
            try People.moveValue(parts, from.bytes.span, to.bytes.span, &transaction)
            try relabel(parts, to.bytes.span, person, old, key, epoch, &transaction)
        }
        try relabel(transaction.tables.profiles, id.span, person, old, key, epoch, &transaction)
    }

    /// A part says by a number that comes from the digest whose it is.
    private func relabel(
        _ table: Table, _ name: Span<UInt8>, _ person: ProfileID, _ old: IdentifierKey, _ key: IdentifierKey,
        _ epoch: UInt64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        var record: [UInt8] = []
        if let value = try transaction.get(table, name) { record = [UInt8](copying: value) }
        do throws(RecordDamage) {
            if try ProfileView(record.span).part != old.part(writtenBy: epoch) { return }
        } catch {
            return
        }
        ProfileRecord.relabel(&record, person, part: key.part(writtenBy: epoch))
        try transaction.put(table, name, record.span)
    }

    private static func moveValue(
        _ table: Table, _ from: Span<UInt8>, _ to: Span<UInt8>, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        var copy: [UInt8] = []
        if let value = try transaction.get(table, from) { copy = [UInt8](copying: value) }
        if copy.isEmpty { return }
        try transaction.delete(table, from)
        try transaction.put(table, to, copy.span)
    }
}
