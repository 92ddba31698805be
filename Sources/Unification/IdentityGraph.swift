// From identifiers to a person: which profile an event belongs to, and when two profiles turn out to be one. It works
// inside the caller's transaction and need not know what profiles hold.

import Cryptography
import Formats
import Platform
import Store

/// Whose event it is.
public struct Resolution {
    public var profile: ProfileID
    /// The profile was made for this event.
    public var isNew = false
    /// Profiles that this event showed to be the same person; their identifiers already lead to `profile`, their
    /// records are still to be merged and removed.
    public var absorbed: [ProfileID] = []
    /// Links that were refused because they would have joined two different values of a `unique` kind.
    public var conflicts = 0
}

/// The graph of identifiers and profiles in the store.
///
/// - Identifiers that are not `shared` belong to one person: an event that carries several joins them.
/// - Two profiles with different values of a `unique` kind are never joined (merge guard).
/// - `shared` ones (a till, a kiosk) have a profile of their own, used only when an event carries nothing better.
public enum IdentityGraph {
    /// The profile of one identifier, as a reader's snapshot has it.
    public static func profile(
        of identifier: HashedIdentifier, in reader: borrowing Reader
    ) throws(StoreError) -> ProfileID? {
        let key = IdentifierKey(identifier.kindTag, identifier)
        guard let value = try reader.get(reader.tables.identifiers, key.bytes.span) else { return nil }
        return ProfileID(value)
    }

    /// Finds or makes the profile of an event with these identifiers, and records what it showed.
    /// - Parameter found: the event's identifiers; not empty.
    /// - Parameter now: milliseconds since the epoch.
    public static func resolve<Random: RandomSource>(
        _ found: [HashedIdentifier], _ plan: borrowing IdentifierPlan, now: Int64, random: inout Random,
        in transaction: inout WriteTransaction
    ) throws(StoreError) -> Resolution {
        var hasStrong = false
        for identifier in found where !plan.kinds[identifier.kindIndex].isShared { hasStrong = true }
        if !hasStrong { return try resolveShared(found[0], now, &random, &transaction) }

        // Unique kinds come first: they say most surely who it is.
        var base: ProfileID?
        for pass in 0..<2 where base == nil {
            for identifier in found where base == nil {
                let kind = plan.kinds[identifier.kindIndex]
                if kind.isShared || kind.isUnique != (pass == 0) { continue }
                guard let known = try lookUp(identifier, transaction) else { continue }
                if try !contradicts(known, found, plan, transaction) { base = known }
            }
        }
        var resolution = Resolution(profile: base ?? ProfileID(high: random.next(), low: random.next()))
        resolution.isNew = base == nil
        for identifier in found {
            let kind = plan.kinds[identifier.kindIndex]
            if kind.isShared { continue }
            guard let known = try lookUp(identifier, transaction) else {
                if kind.isUnique, try hasOther(resolution.profile, identifier, transaction) {
                    resolution.conflicts += 1
                } else {
                    try link(identifier.kindTag, identifier, to: resolution.profile, now, &transaction)
                }
                continue
            }
            if known == resolution.profile { continue }
            if try mayMerge(known, resolution.profile, plan, transaction) {
                try absorb(known, into: resolution.profile, &transaction)
                resolution.absorbed.append(known)
            } else {
                resolution.conflicts += 1
            }
        }
        return resolution
    }

    /// The profile to which all identifiers of an event lead that say anything: `resolve` would find it and change nothing.
    /// nil for any other event.
    /// - Parameter found: the event's identifiers; not empty.
    public static func settled(
        _ found: [HashedIdentifier], _ plan: borrowing IdentifierPlan, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> ProfileID? {
        var profile: ProfileID?
        var hasStrong = false
        for identifier in found where !plan.kinds[identifier.kindIndex].isShared {
            hasStrong = true
            guard let known = try lookUp(identifier, transaction), profile == nil || profile == known else { return nil }
            profile = known
        }
        return hasStrong ? profile : try lookUp(found[0], transaction)
    }

    /// The profile that an event with these identifiers would be found under, without changing anything; nil for nobody.
    public static func existing(
        _ found: [HashedIdentifier], _ plan: borrowing IdentifierPlan, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> ProfileID? {
        for pass in 0..<3 {
            for identifier in found {
                let kind = plan.kinds[identifier.kindIndex]
                let order = kind.isShared ? 2 : kind.isUnique ? 0 : 1
                if order != pass { continue }
                guard let known = try lookUp(identifier, transaction) else { continue }
                if pass == 2 { return known }
                let isContradicted = try contradicts(known, found, plan, transaction)
                if !isContradicted { return known }
            }
            // A till is nobody's consent when the event names a person.
            if pass == 1, found.contains(where: { !plan.kinds[$0.kindIndex].isShared }) { return nil }
        }
        return nil
    }

    /// The profile of one identifier of an event in the log, as a reader's snapshot has it.
    public static func profile(
        of identifier: LoggedIdentifier, in reader: borrowing Reader
    ) throws(StoreError) -> ProfileID? {
        try profile(of: HashedIdentifier(kindTag: identifier.kindTag, kindIndex: 0, digest: identifier.digest), in: reader)
    }

    /// Calls `body` with the kind tag and digest of each identifier of a profile.
    public static func forEachIdentifier(
        of profile: ProfileID, in reader: borrowing Reader, _ body: (UInt32, Span<UInt8>) -> Void
    ) throws(StoreError) {
        let prefix = profile.bytes
        try reader.scan(reader.tables.links, from: prefix.span) { key, _ in
            guard key.count == LinkKey.byteCount, equal(key.extracting(0..<16), prefix.span) else { return false }
            body(LinkKey.tag(key), key.extracting(20..<LinkKey.byteCount))
            return true
        }
    }

    /// The profile of one identifier, this transaction's own changes included.
    public static func profile(
        of identifier: LoggedIdentifier, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> ProfileID? {
        try lookUp(
            HashedIdentifier(kindTag: identifier.kindTag, kindIndex: 0, digest: identifier.digest), transaction)
    }

    /// The identifiers of a profile; their plain hashes are not known here.
    public static func identifiers(
        of profile: ProfileID, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [LoggedIdentifier] {
        var list: [LoggedIdentifier] = []
        try forEachLink(profile, transaction) { tag, digest in
            guard let digest = Digest256(digest) else { return }
            list.append(LoggedIdentifier(kindTag: tag, digest: digest, plainDigest: nil))
        }
        return list
    }

    /// Takes a profile's identifiers away: they lead nowhere any more.
    public static func remove(
        _ profile: ProfileID, _ identifiers: [LoggedIdentifier], in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let tables = transaction.tables
        for entry in identifiers {
            let identifier = HashedIdentifier(kindTag: entry.kindTag, kindIndex: 0, digest: entry.digest)
            try transaction.delete(tables.links, LinkKey(profile, entry.kindTag, identifier).bytes.span)
            try transaction.delete(tables.identifiers, IdentifierKey(entry.kindTag, identifier).bytes.span)
        }
    }

    // MARK: Steps

    private static func resolveShared<Random: RandomSource>(
        _ identifier: HashedIdentifier, _ now: Int64, _ random: inout Random, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Resolution {
        if let known = try lookUp(identifier, transaction) { return Resolution(profile: known) }
        var resolution = Resolution(profile: ProfileID(high: random.next(), low: random.next()))
        resolution.isNew = true
        try link(identifier.kindTag, identifier, to: resolution.profile, now, &transaction)
        return resolution
    }

    private static func lookUp(
        _ identifier: HashedIdentifier, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> ProfileID? {
        let key = IdentifierKey(identifier.kindTag, identifier)
        guard let value = try transaction.get(transaction.tables.identifiers, key.bytes.span) else { return nil }
        return ProfileID(value)
    }

    private static func link(
        _ tag: UInt32, _ identifier: HashedIdentifier, to profile: ProfileID, _ now: Int64,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let tables = transaction.tables
        try transaction.put(tables.identifiers, IdentifierKey(tag, identifier).bytes.span, profile.bytes.span)
        let time = NumberKey(UInt64(bitPattern: now))
        try transaction.put(tables.links, LinkKey(profile, tag, identifier).bytes.span, time.bytes.span)
    }

    /// Whether the event carries a value of a unique kind that this profile has another value of.
    private static func contradicts(
        _ profile: ProfileID, _ found: [HashedIdentifier], _ plan: borrowing IdentifierPlan,
        _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Bool {
        for identifier in found where plan.kinds[identifier.kindIndex].isUnique {
            if try hasOther(profile, identifier, transaction) { return true }
        }
        return false
    }

    /// Whether the profile has a value of this identifier's kind that is not this one.
    private static func hasOther(
        _ profile: ProfileID, _ identifier: HashedIdentifier, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Bool {
        var isOther = false
        try forEachLink(profile, transaction) { tag, digest in
            if tag == identifier.kindTag && !identifier.digest.withSpan({ equal(digest, $0) }) { isOther = true }
        }
        return isOther
    }

    private static func mayMerge(
        _ a: ProfileID, _ b: ProfileID, _ plan: borrowing IdentifierPlan, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Bool {
        for kind in plan.kinds where kind.isUnique {
            var values: [[UInt8]] = []
            for profile in [a, b] {
                try forEachLink(profile, transaction) { tag, digest in
                    guard tag == kind.tag else { return }
                    var value: [UInt8] = []
                    value.append(contentsOf: digest)
                    if !values.contains(value) { values.append(value) }
                }
            }
            if values.count > 1 { return false }
        }
        return true
    }

    private static func absorb(
        _ other: ProfileID, into profile: ProfileID, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let tables = transaction.tables
        var keys: [[UInt8]] = []
        var times: [[UInt8]] = []
        let prefix = other.bytes
        try transaction.scan(tables.links, from: prefix.span) { key, value in
            guard key.count == LinkKey.byteCount, equal(key.extracting(0..<16), prefix.span) else { return false }
            var copy: [UInt8] = []
            copy.append(contentsOf: key)
            keys.append(copy)
            var time: [UInt8] = []
            time.append(contentsOf: value)
            times.append(time)
            return true
        }
        for index in keys.indices {
            let key = keys[index]
            let time = times[index]
            try transaction.delete(tables.links, key.span)
            var moved: [UInt8] = []
            moved.append(contentsOf: profile.bytes.span)
            moved.append(contentsOf: key[16...])
            try transaction.put(tables.links, moved.span, time.span)
            let identifier = Array(key[16...])
            try transaction.put(tables.identifiers, identifier.span, profile.bytes.span)
        }
    }

    private static func forEachLink(
        _ profile: ProfileID, _ transaction: borrowing WriteTransaction, _ body: (UInt32, Span<UInt8>) -> Void
    ) throws(StoreError) {
        let prefix = profile.bytes
        try transaction.scan(transaction.tables.links, from: prefix.span) { key, _ in
            guard key.count == LinkKey.byteCount, equal(key.extracting(0..<16), prefix.span) else { return false }
            body(LinkKey.tag(key), key.extracting(20..<LinkKey.byteCount))
            return true
        }
    }
}

/// Kind tag (big-endian) and digest: the key of `identifiers`.
struct IdentifierKey {
    let bytes: InlineArray<36, UInt8>

    init(_ tag: UInt32, _ identifier: HashedIdentifier) {
        bytes = InlineArray<36, UInt8> { index in
            index < 4 ? UInt8(truncatingIfNeeded: tag >> UInt32(24 - 8 * index)) : identifier.digest[index - 4]
        }
    }
}

/// Profile id, kind tag (big-endian) and digest: the key of `links`.
struct LinkKey {
    static let byteCount = 52
    let bytes: InlineArray<52, UInt8>

    init(_ profile: ProfileID, _ tag: UInt32, _ identifier: HashedIdentifier) {
        let id = profile.bytes
        bytes = InlineArray<52, UInt8> { index in
            if index < 16 { return id[index] }
            return index < 20
                ? UInt8(truncatingIfNeeded: tag >> UInt32(24 - 8 * (index - 16))) : identifier.digest[index - 20]
        }
    }

    static func tag(_ key: Span<UInt8>) -> UInt32 {
        UInt32(key[16]) << 24 | UInt32(key[17]) << 16 | UInt32(key[18]) << 8 | UInt32(key[19])
    }
}
