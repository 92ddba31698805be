// What two devices know, brought together: links, parts of profiles and choices, each by its own rule (the earlier event;
// the later copy of a part, which has one writer; the newer choice). Afterwards both know the same people, in whichever
// order they have met, and meeting again changes nothing.

import Cryptography
import Formats
import Governance
import Platform
import Store

extension People {
    /// Takes over what another store knows of some identifiers. Both must hash under the same pepper.
    /// - Parameters:
    ///   - other: a snapshot of the other store; `otherEpoch`: its number.
    ///   - start: key of the first identifier to look at; empty for the beginning.
    ///   - suppression: identifiers of the erased, who must not come back this way.
    /// - Returns: where to go on; nil when that was all.
    public mutating func learn<Random: RandomSource>(
        from other: borrowing Reader, epoch otherEpoch: UInt64, at start: [UInt8], atMost: Int,
        suppression: SuppressionList, _ plan: IdentifierPlan, _ attributes: AttributePlan, now: Int64,
        random: inout Random, in transaction: inout WriteTransaction
    ) throws(StoreError) -> [UInt8]? {
        var found: [(key: IdentifierKey, person: ProfileID)] = []
        var next: [UInt8]?
        try other.scan(other.tables.identifiers, from: start.span) { key, value in
            if found.count == atMost {
                next = [UInt8](copying: key)
                return false
            }
            if let key = IdentifierKey(key), let person = IdentifierRow.owner(value) { found.append((key, person)) }
            return true
        }
        for (key, person) in found {
            // Of somebody who was erased here the other may know identifiers that were not known here.
            if try People.isErased(person, other, suppression, transaction) { continue }
            let hasParts = try learnParts(of: key, person, from: other, otherEpoch, &transaction)
            let hasChoices = try People.learnChoices(of: key, from: other, &transaction)
            let (seeds, hasLinks) = try People.learnLinks(of: key, from: other, suppression, &transaction)
            let known = try IdentityGraph.profile(of: key, in: transaction)
            if known == nil || hasLinks {
                var resolution = Resolution(profile: .nobody, anchor: key)
                _ = try settle(seeds, plan, attributes, now: now, &random, &transaction, &resolution)
            }
            if hasParts || hasChoices, let person = try IdentityGraph.profile(of: key, in: transaction) {
                try takeApart(person, &transaction)
                _ = try putTogether(person, attributes, now: now, &transaction)
            }
        }
        return next
    }

    private static func isErased(
        _ person: ProfileID, _ other: borrowing Reader, _ suppression: SuppressionList,
        _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Bool {
        var keys: [IdentifierKey] = []
        try IdentityGraph.forEachIdentifier(of: person, in: other) { tag, digest in
            if let digest = Digest256(digest) { keys.append(IdentifierKey(tag: tag, digest: digest)) }
        }
        for key in keys where try suppression.time(key.tag, key.digest, in: transaction) != nil { return true }
        return false
    }

    private static func learnLinks(
        of key: IdentifierKey, from other: borrowing Reader, _ suppression: SuppressionList,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) -> (seeds: [IdentifierKey], hasNews: Bool) {
        var links: [(other: IdentifierKey, origin: LinkOrigin)] = []
        let prefix = key.bytes
        try other.scan(other.tables.edges, from: prefix.span) { key, value in
            guard key.count == EdgeKey.byteCount, equal(key.extracting(0..<36), prefix.span) else { return false }
            if let end = IdentifierKey(key, at: 36), let origin = LinkOrigin(value) { links.append((end, origin)) }
            return true
        }
        var seeds = [key]
        var hasNews = false
        for link in links where try suppression.time(link.other.tag, link.other.digest, in: transaction) == nil {
            if try IdentityLinks.add(key, link.other, link.origin, in: &transaction) { hasNews = true }
            if seeds.count <= Limits.linksPerIdentifier { seeds.append(link.other) }
        }
        return (seeds, hasNews)
    }

    private func learnParts(
        of key: IdentifierKey, _ person: ProfileID, from other: borrowing Reader, _ otherEpoch: UInt64,
        _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        var parts: [(epoch: UInt64, record: [UInt8])] = []
        let (prefix, id) = (key.bytes, person.bytes)
        try other.scan(other.tables.parts, from: prefix.span) { key, value in
            guard key.count == ProfileParts.Key.byteCount, equal(key.extracting(0..<36), prefix.span),
                let epoch = NumberKey.decode(key.extracting(36..<44))
            else { return false }
            parts.append((epoch, [UInt8](copying: value)))
            return true
        }
        if let whole = try other.get(other.tables.profiles, id.span) {
            do throws(RecordDamage) {
                if try ProfileView(whole).part == key.part(writtenBy: otherEpoch) {
                    parts.append((otherEpoch, [UInt8](copying: whole)))
                }
            } catch {
                // The other store counts its own damage.
            }
        }
        var hasNews = false
        // Of what we have written ourselves no other copy can be later.
        for part in parts where part.epoch != epoch && ProfileRecord.isReadable(part.record.span) {
            let name = ProfileParts.Key(key, part.epoch).bytes
            if let known = try transaction.get(transaction.tables.parts, name.span),
                !ProfileRecord.isLater(part.record.span, than: known)
            {
                continue
            }
            try transaction.put(transaction.tables.parts, name.span, part.record.span)
            hasNews = true
        }
        return hasNews
    }

    private static func learnChoices(
        of key: IdentifierKey, from other: borrowing Reader, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let bytes = key.bytes
        guard let choices = try other.get(other.tables.consentParts, bytes.span) else { return false }
        return try addChoices(choices, of: key, in: &transaction)
    }
}
