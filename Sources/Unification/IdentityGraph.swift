// From identifiers to a person: what the store knows of which identifier is whose. How an event changes that is in
// People.swift, and who is one person in IdentityRegion.swift; this file need not know profiles.

import Cryptography
import Formats
import Governance
import Platform
import Store

/// A link between two identifiers, for people to look at.
public struct IdentityLink {
    public var first: IdentifierKey
    public var second: IdentifierKey
    /// When the event happened that made it, milliseconds since the epoch.
    public var time: Int64
    /// Somebody has said that it was wrong.
    public var isCut: Bool
    /// Both are one person's.
    public var joins: Bool
}

/// The graph of identifiers and people in the store: look-ups, in a snapshot or in the writer's transaction.
///
/// - Identifiers that are not `shared` belong to one person: an event that carries several links them.
/// - Two different values of a `unique` kind never belong to one person (merge guard).
/// - `shared` ones (a till, a kiosk) lead to the latest person who used it, for the length of a visit; else to a
///   profile of their own. They link nobody.
public enum IdentityGraph {
    /// The profile of one identifier, as a reader's snapshot has it.
    public static func profile(
        of identifier: HashedIdentifier, in reader: borrowing Reader
    ) throws(StoreError) -> ProfileID? {
        try profile(of: IdentifierKey(identifier), in: reader)
    }

    static func profile(of key: IdentifierKey, in reader: borrowing Reader) throws(StoreError) -> ProfileID? {
        let bytes = key.bytes
        guard let row = try reader.get(reader.tables.identifiers, bytes.span) else { return nil }
        if let next = IdentifierRow.successor(row) { return try profile(of: next, in: reader) }
        return IdentifierRow.owner(row)
    }

    /// The profile of one identifier of an event in the log, as a reader's snapshot has it.
    public static func profile(
        of identifier: LoggedIdentifier, in reader: borrowing Reader
    ) throws(StoreError) -> ProfileID? {
        try profile(of: IdentifierKey(identifier), in: reader)
    }

    /// The profile of one identifier, this transaction's own changes included.
    public static func profile(
        of identifier: LoggedIdentifier, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> ProfileID? {
        try profile(of: IdentifierKey(identifier), in: transaction)
    }

    public static func profile(
        of key: IdentifierKey, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> ProfileID? {
        let bytes = key.bytes
        guard let row = try transaction.get(transaction.tables.identifiers, bytes.span) else { return nil }
        if let next = IdentifierRow.successor(row) { return try profile(of: next, in: transaction) }
        return IdentifierRow.owner(row)
    }

    /// The person whom a question is about: of their own identifiers those of `unique` kinds say it most surely; a `shared`
    /// one leads to whoever is using the thing at `now` (milliseconds since the epoch), or to what it knows itself.
    public static func person(
        asking found: [HashedIdentifier], _ plan: borrowing IdentifierPlan, at now: Int64, in reader: borrowing Reader
    ) throws(StoreError) -> ProfileID? {
        for order in 0..<3 {
            for identifier in found {
                let kind = plan.kinds[identifier.kindIndex]
                if order != (kind.isShared ? 2 : kind.isUnique ? 0 : 1) { continue }
                let key = IdentifierKey(identifier)
                if order == 2, let user = try SharedVisit.user(of: key, at: now, in: reader),
                    let person = try profile(of: user, in: reader)
                {
                    return person
                }
                guard let person = try profile(of: key, in: reader) else { continue }
                // Whoever is known by another value of a unique kind is somebody else.
                let isOther = order == 1 ? try contradicts(person, found, plan, reader) : false
                if !isOther { return person }
            }
            // A till is nobody's answer when the question names a person.
            if order == 1, found.contains(where: { !plan.kinds[$0.kindIndex].isShared }) { return nil }
        }
        return nil
    }

    private static func contradicts(
        _ person: ProfileID, _ found: [HashedIdentifier], _ plan: borrowing IdentifierPlan, _ reader: borrowing Reader
    ) throws(StoreError) -> Bool {
        var isOther = false
        for identifier in found where plan.kinds[identifier.kindIndex].isUnique {
            let own = identifier.digest
            try forEachIdentifier(of: person, in: reader) { tag, digest in
                if tag == identifier.kindTag && !own.withSpan({ equal(digest, $0) }) { isOther = true }
            }
        }
        return isOther
    }

    /// Calls `body` with the kind tag and digest of each identifier of a profile.
    public static func forEachIdentifier(
        of profile: ProfileID, in reader: borrowing Reader, _ body: (UInt32, Span<UInt8>) -> Void
    ) throws(StoreError) {
        let prefix = profile.bytes
        try reader.scan(reader.tables.links, from: prefix.span) { key, _ in
            guard key.count == LinkKey.byteCount, equal(key.extracting(0..<16), prefix.span),
                let identifier = IdentifierKey(key, at: 16)
            else { return false }
            body(identifier.tag, key.extracting(20..<LinkKey.byteCount))
            return true
        }
    }

    /// The identifiers of a profile, for people to look at. A key has no checksum: what does not lead back to the profile was
    /// damaged, and is left out.
    public static func identifiers(
        of profile: ProfileID, in reader: borrowing Reader
    ) throws(StoreError) -> [IdentifierKey] {
        var own: [IdentifierKey] = []
        try forEachIdentifier(of: profile, in: reader) { tag, digest in
            if let digest = Digest256(digest) { own.append(IdentifierKey(tag: tag, digest: digest)) }
        }
        var shown: [IdentifierKey] = []
        for key in own where try IdentityGraph.profile(of: key, in: reader) == profile { shown.append(key) }
        return shown
    }

    /// The links that events have shown between a profile's identifiers, and from them to others.
    public static func links(of profile: ProfileID, in reader: borrowing Reader) throws(StoreError) -> [IdentityLink] {
        let own = try identifiers(of: profile, in: reader)
        var links: [IdentityLink] = []
        for key in own {
            let prefix = key.bytes
            var found: [IdentityLink] = []
            try reader.scan(reader.tables.edges, from: prefix.span) { edge, value in
                guard links.count + found.count < Limits.linksShown, edge.count == EdgeKey.byteCount,
                    equal(edge.extracting(0..<36), prefix.span)
                else { return false }
                guard let other = IdentifierKey(edge, at: 36), let origin = LinkOrigin(value) else { return true }
                let isOwn = own.contains { $0 == other }
                if !isLink(to: other, from: key, isOwn ? nil : profile, reader) { return true }
                // Between two of one's own a link is seen from both ends.
                if !isOwn || !other.isBefore(key) {
                    found.append(
                        IdentityLink(
                            first: key, second: other, time: origin.time, isCut: origin.isCut,
                            joins: isOwn && !origin.isCut))
                }
                return true
            }
            links += found
        }
        return links
    }

    /// Whether a link is what it says: it is there from the other end too, and what is not `profile`'s is somebody else's. Else
    /// a key was damaged.
    private static func isLink(
        to other: IdentifierKey, from key: IdentifierKey, _ profile: ProfileID?, _ reader: borrowing Reader
    ) -> Bool {
        do throws(StoreError) {
            let mirrored = EdgeKey(other, key)
            if try reader.get(reader.tables.edges, mirrored.bytes.span) == nil { return false }
            guard let profile else { return true }
            let owner = try IdentityGraph.profile(of: other, in: reader)
            return owner != nil && owner != profile
        } catch { return false }
    }

    /// The identifiers of a profile; their plain hashes are not known here.
    public static func identifiers(
        of profile: ProfileID, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [LoggedIdentifier] {
        var list: [LoggedIdentifier] = []
        for key in try keys(of: profile, in: transaction) {
            list.append(LoggedIdentifier(kindTag: key.tag, digest: key.digest, plainDigest: nil))
        }
        return list
    }

    /// The identifiers of a profile, in the order of their bytes.
    static func keys(
        of profile: ProfileID, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [IdentifierKey] {
        var keys: [IdentifierKey] = []
        let prefix = profile.bytes
        try transaction.scan(transaction.tables.links, from: prefix.span) { key, _ in
            guard key.count == LinkKey.byteCount, equal(key.extracting(0..<16), prefix.span),
                let identifier = IdentifierKey(key, at: 16)
            else { return false }
            keys.append(identifier)
            return true
        }
        return keys
    }

    /// When the first of a profile's identifiers became somebody's, milliseconds since the epoch; 0 for a profile without any.
    public static func firstSeen(_ profile: ProfileID, in reader: borrowing Reader) throws(StoreError) -> Int64 {
        var first = Int64.max
        let prefix = profile.bytes
        try reader.scan(reader.tables.links, from: prefix.span) { key, value in
            guard key.count == LinkKey.byteCount, equal(key.extracting(0..<16), prefix.span) else { return false }
            if let time = NumberKey.decode(value) { first = min(first, Int64(bitPattern: time)) }
            return true
        }
        return first == .max ? 0 : first
    }

    /// People who are here under an identifier of somebody who was erased.
    /// - Parameter start: the identifier's key to begin with; empty for the first. `looks`: how many to look at.
    /// - Returns: with them the key to go on from; empty: that was all.
    public static func erased(
        from start: [UInt8], _ suppression: SuppressionList, looks: Int, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> (people: [ProfileID], next: [UInt8]) {
        var keys: [IdentifierKey] = []
        var next: [UInt8] = []
        try transaction.scan(transaction.tables.identifiers, from: start.span) { key, _ in
            if keys.count == looks {
                next = [UInt8](copying: key)
                return false
            }
            if let key = IdentifierKey(key) { keys.append(key) }
            return true
        }
        var people: [ProfileID] = []
        for key in keys where try suppression.time(key.tag, key.digest, in: transaction) != nil {
            if let person = try profile(of: key, in: transaction), !people.contains(person) { people.append(person) }
        }
        return (people, next)
    }

    /// When the newest of a profile's identifiers came to it, milliseconds since the epoch; 0 for a profile without any.
    public static func newestLink(
        of profile: ProfileID, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Int64 {
        var newest: Int64 = 0
        let prefix = profile.bytes
        try transaction.scan(transaction.tables.links, from: prefix.span) { key, value in
            guard key.count == LinkKey.byteCount, equal(key.extracting(0..<16), prefix.span) else { return false }
            if let time = NumberKey.decode(value) { newest = max(newest, Int64(bitPattern: time)) }
            return true
        }
        return newest
    }

    /// Takes a profile's identifiers away with all that hangs on them: they lead nowhere any more.
    public static func remove(
        _ profile: ProfileID, _ identifiers: [LoggedIdentifier], in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let tables = transaction.tables
        for identifier in identifiers {
            let key = IdentifierKey(identifier)
            let bytes = key.bytes
            if let former = try former(of: identifier, in: transaction) {
                try transaction.delete(tables.identifiers, IdentifierKey(former).bytes.span)
            }
            try transaction.delete(tables.links, LinkKey(profile, key).bytes.span)
            try transaction.delete(tables.identifiers, bytes.span)
            try transaction.delete(tables.consentParts, bytes.span)
            try ProfileParts.removeAll(of: key, in: &transaction)
            try IdentityLinks.removeAll(of: key, in: &transaction)
            try SharedVisit.removeAll(of: key, in: &transaction)
            try Timers.removeAll(of: key, in: &transaction)
        }
    }

    /// Takes away what was counted for identifiers.
    public static func removeParts(
        of identifiers: [LoggedIdentifier], in transaction: inout WriteTransaction
    ) throws(StoreError) {
        for identifier in identifiers { try ProfileParts.removeAll(of: IdentifierKey(identifier), in: &transaction) }
    }

    /// Makes an identifier a person's; it is nobody's yet, or `old`'s.
    /// - Parameters:
    ///   - mark: the number of the present pepper.
    ///   - time: when that was first so, milliseconds since the epoch.
    static func assign(
        _ key: IdentifierKey, to profile: ProfileID, from old: ProfileID?, mark: UInt8, at time: Int64,
        in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let tables = transaction.tables
        let bytes = key.bytes
        var row = IdentifierRow.bytes(profile, mark: mark)
        if let known = try transaction.get(tables.identifiers, bytes.span) {
            row = IdentifierRow.bytes(profile, mark: IdentifierRow.mark(known), former: IdentifierRow.former(known))
        }
        var since = NumberKey(UInt64(bitPattern: time))
        if let old {
            let before = LinkKey(old, key)
            if let value = try transaction.get(tables.links, before.bytes.span), let known = NumberKey.decode(value) {
                since = NumberKey(known)
            }
            try transaction.delete(tables.links, before.bytes.span)
        }
        try transaction.put(tables.identifiers, bytes.span, row.span)
        try transaction.put(tables.links, LinkKey(profile, key).bytes.span, since.bytes.span)
    }
}

extension IdentifierPlan {
    /// Whether an identifier leads to a person, of whom the events are that were counted for it; in doubt, no. A shared one
    /// leads to nobody for long.
    public func isSomebodys(_ identifier: LoggedIdentifier, in reader: borrowing Reader) -> Bool {
        if let kind = kindIndex(tag: identifier.kindTag), kinds[kind].isShared { return false }
        do throws(StoreError) { return try IdentityGraph.profile(of: identifier, in: reader) != nil } catch { return false }
    }

    public func isSomebodys(_ identifier: LoggedIdentifier, in transaction: borrowing WriteTransaction) -> Bool {
        if let kind = kindIndex(tag: identifier.kindTag), kinds[kind].isShared { return false }
        do throws(StoreError) { return try IdentityGraph.profile(of: identifier, in: transaction) != nil } catch { return false }
    }
}
