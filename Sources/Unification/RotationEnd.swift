// The end of a rotation, as far as people are concerned: what still lies under the former pepper, and what former digests
// the store holds. Who calls goes through the store in steps, and says when.

import Cryptography
import Formats
import Governance
import Store

/// What became of an identifier that was not seen while a rotation lasted.
public enum UnseenIdentifier {
    case forgotten
    /// Somebody chose to refuse something under it: it stays, so that the refusal is found again.
    case kept
    /// It has so many links that some of them are left for another transaction.
    case unfinished
}

extension People {
    /// The next identifiers that still lie under a former pepper.
    /// - Parameters:
    ///   - start: the key to begin with; empty for the first. `looks`: how many rows to look at.
    /// - Returns: with them the key to go on from; empty: there are no more.
    public func unseen(
        from start: [UInt8], atMost: Int, looks: Int, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> (keys: [IdentifierKey], next: [UInt8]) {
        var keys: [IdentifierKey] = []
        var next: [UInt8] = []
        var left = looks
        try transaction.scan(transaction.tables.identifiers, from: start.span) { key, row in
            if left == 0 || keys.count == atMost {
                next = [UInt8](copying: key)
                return false
            }
            left -= 1
            if IdentifierRow.successor(row) == nil, IdentifierRow.mark(row) != mark, let key = IdentifierKey(key) {
                keys.append(key)
            }
            return true
        }
        return (keys, next)
    }

    /// Forgets by which identifier somebody was known who was not seen with it. A person who was seen with another one keeps
    /// everything; one who was not goes, as if their time were up.
    /// - Parameters:
    ///   - substitute: a key that no event will ever lead to, for what was counted and chosen under the identifier.
    ///   - withRefusals: what was refused is given up, too.
    public func forgetUnseen(
        _ key: IdentifierKey, substitute: IdentifierKey, withRefusals: Bool, in transaction: inout WriteTransaction
    ) throws(StoreError) -> UnseenIdentifier {
        let (tables, bytes) = (transaction.tables, key.bytes)
        guard let person = try IdentityGraph.profile(of: key, in: transaction) else { return .forgotten }
        let links = try IdentityLinks.links(of: key, atMost: Limits.linksMovedAtOnce + 1, in: transaction)
        if links.count > Limits.linksMovedAtOnce {
            // What is left for the next transaction is enough for it to be nobody's until then.
            for link in links[..<(Limits.linksMovedAtOnce / 2)] {
                try IdentityLinks.remove(key, link.other, in: &transaction)
            }
            return .unfinished
        }
        var isSeen = false
        for other in try IdentityGraph.keys(of: person, in: transaction) {
            let name = other.bytes
            guard let row = try transaction.get(tables.identifiers, name.span) else { continue }
            if IdentifierRow.mark(row) == mark { isSeen = true }
        }
        var isRefusing = false
        if !withRefusals, let choices = try transaction.get(tables.consentParts, bytes.span) {
            isRefusing = ConsentRecord.holdsRefusal(choices, chosen: true)
        }
        if isSeen {
            if isRefusing { return .kept }
            _ = try move(key, to: substitute, in: &transaction)
            return .forgotten
        }
        let id = person.bytes
        try transaction.delete(tables.profiles, id.span)
        try transaction.delete(tables.damaged, id.span)
        if isRefusing {
            try ProfileParts.removeAll(of: key, in: &transaction)
            return .kept
        }
        let identifier = LoggedIdentifier(kindTag: key.tag, digest: key.digest, plainDigest: nil)
        try IdentityGraph.remove(person, [identifier], in: &transaction)
        return .forgotten
    }

    /// Takes former digests out of the table of identifiers.
    /// - Returns: the key to go on from; empty: that was all.
    public func stripFormer(
        from start: [UInt8], atMost: Int, looks: Int, in transaction: inout WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        let identifiers = transaction.tables.identifiers
        var found: [(key: [UInt8], owner: ProfileID?)] = []
        var next: [UInt8] = []
        var left = looks
        try transaction.scan(identifiers, from: start.span) { key, row in
            if left == 0 || found.count == atMost {
                next = [UInt8](copying: key)
                return false
            }
            left -= 1
            if IdentifierRow.successor(row) != nil || IdentifierRow.former(row) != nil {
                found.append(([UInt8](copying: key), IdentifierRow.owner(row)))
            }
            return true
        }
        for (key, owner) in found {
            if let owner {
                let row = IdentifierRow.bytes(owner, mark: mark)
                try transaction.put(identifiers, key.span, row.span)
            } else {
                try transaction.delete(identifiers, key.span)
            }
        }
        return next
    }

    /// An event of log or quarantine without former digests: each is replaced by the present one, or where nobody is known
    /// by it any more, by none.
    /// - Returns: empty: it has none.
    public func withoutFormer(
        _ entry: borrowing LogEntryView, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        var kept: [LoggedIdentifier] = []
        var hasFormer = false
        // What came while the rotation lasted, and was not kept under the former digest, has that beside the present one.
        var renewed: [UInt32] = []
        for index in 0..<entry.identifierCount where entry.identifier(index).isFormer {
            hasFormer = true
            renewed.append(entry.identifier(index).kindTag)
        }
        for index in 0..<entry.identifierCount {
            var identifier = entry.identifier(index)
            if identifier.isFormer { continue }
            let key = try IdentityGraph.current(IdentifierKey(identifier), in: transaction)
            if key.digest != identifier.digest {
                identifier.digest = key.digest
                hasFormer = true
            } else if !renewed.contains(key.tag), key.digest != .zero,
                try IdentityGraph.profile(of: key, in: transaction) == nil
            {
                identifier.digest = .zero
                hasFormer = true
            }
            kept.append(identifier)
        }
        var bytes: [UInt8] = []
        if hasFormer { entry.encode(with: kept, into: &bytes) }
        return bytes
    }
}
