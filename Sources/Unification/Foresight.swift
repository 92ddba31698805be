// Whose an event would be, before anything of it is kept: consent is asked of the person whom it would be counted for.

import Formats
import Governance
import Platform
import Store

/// Whose an event would be.
public struct Outlook {
    /// The person, as far as the store has them; nil for nobody yet.
    public var person: ProfileID?
    /// The identifier that the event would be counted for.
    public var anchor: IdentifierKey
    /// The event says nothing new about people.
    public var isSettled = false
    /// The event would make the person another than the store has: joined with others, or parted from some.
    public var isOther = false
    /// Those that would be the person's, unless it is settled.
    var identifiers: [IdentifierKey] = []

    init(person: ProfileID?, anchor: IdentifierKey, isSettled: Bool = false) {
        self.person = person
        self.anchor = anchor
        self.isSettled = isSettled
    }
}

extension People {
    /// The place of the identifier that an event is counted for; nil when it has only shared ones.
    static func anchor(_ found: [HashedIdentifier], _ plan: borrowing IdentifierPlan) -> Int? {
        var best: Int?
        for index in found.indices where !plan.kinds[found[index].kindIndex].isShared {
            guard let known = best else {
                best = index
                continue
            }
            let (a, b) = (found[index], found[known])
            let (isUnique, isOtherUnique) = (plan.kinds[a.kindIndex].isUnique, plan.kinds[b.kindIndex].isUnique)
            if isUnique != isOtherUnique {
                if isUnique { best = index }
            } else if a.kindIndex != b.kindIndex {
                if a.kindIndex < b.kindIndex { best = index }
            } else if IdentifierKey(a).isBefore(IdentifierKey(b)) {
                best = index
            }
        }
        return best
    }

    /// The person of an event about whom it says nothing new: `resolve` would find them and change nothing. nil for any
    /// other event.
    /// - Parameters:
    ///   - found: the event's identifiers; not empty.
    ///   - time: when it happened, milliseconds since the epoch.
    public static func settled(
        _ found: [HashedIdentifier], _ plan: borrowing IdentifierPlan, at time: Int64,
        in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> (person: ProfileID, anchor: IdentifierKey)? {
        guard let place = anchor(found, plan) else {
            // Each event at a till lets the visit go on.
            if let user = try sharedUser(found, at: time, transaction) { return user }
            let key = IdentifierKey(found[0])
            return try IdentityGraph.profile(of: key, in: transaction).map { ($0, key) }
        }
        let key = IdentifierKey(found[place])
        guard let person = try IdentityGraph.profile(of: key, in: transaction) else { return nil }
        for index in found.indices where index != place {
            if plan.kinds[found[index].kindIndex].isShared { continue }
            let other = IdentifierKey(found[index])
            if other == key { continue }
            guard let link = try IdentityLinks.link(key, other, in: transaction), link.time <= time else { return nil }
        }
        return (person, key)
    }

    /// Whose an event with these identifiers would be, without changing anything: what `resolve` would come to.
    /// - Parameter found: the event's identifiers; not empty.
    public static func foresee(
        _ found: [HashedIdentifier], _ plan: IdentifierPlan, _ evidence: LinkEvidence,
        in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Outlook {
        if let known = try settled(found, plan, at: evidence.time, in: transaction) {
            return Outlook(person: known.person, anchor: known.anchor, isSettled: true)
        }
        let key = IdentifierKey(found[anchor(found, plan) ?? 0])
        let seeds = People.seeds(key, found, plan)
        var outlook = Outlook(person: try IdentityGraph.profile(of: key, in: transaction), anchor: key)
        outlook.identifiers = [key]
        if anchor(found, plan) == nil || seeds.count == 1 { return outlook }
        var region = try People.region(around: seeds, plan, showing: evidence, transaction)
        if region.isCut { return outlook }
        region.partition()
        outlook.identifiers = []
        for node in region.nodes where node.group == region.nodes[0].group {
            outlook.identifiers.append(node.key)
            guard let person = try IdentityGraph.profile(of: node.key, in: transaction) else { continue }
            if outlook.person == nil { outlook.person = person }
            if person != outlook.person { outlook.isOther = true }
        }
        if let person = outlook.person, !outlook.isOther {
            for own in try IdentityGraph.keys(of: person, in: transaction)
            where !outlook.identifiers.contains(where: { $0 == own }) {
                outlook.isOther = true
            }
        }
        return outlook
    }

    /// The people who would be that one.
    public static func people(
        of outlook: Outlook, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [ProfileID] {
        var people: [ProfileID] = []
        for key in outlook.identifiers {
            guard let person = try IdentityGraph.profile(of: key, in: transaction) else { continue }
            if !people.contains(person) { people.append(person) }
        }
        return people
    }

    /// The choices that hold for the person of an event.
    public static func choices(of outlook: Outlook, in transaction: borrowing WriteTransaction) throws(StoreError) -> [UInt8] {
        if !outlook.isOther {
            guard let id = outlook.person?.bytes, let record = try transaction.get(transaction.tables.consent, id.span) else {
                return []
            }
            return [UInt8](copying: record)
        }
        return try choices(under: outlook.identifiers, in: transaction)
    }

    static func choices(
        under keys: [IdentifierKey], in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        var choices: [UInt8] = []
        for key in keys {
            let bytes = key.bytes
            guard let more = try transaction.get(transaction.tables.consentParts, bytes.span) else { continue }
            choices = ConsentRecord.merging(choices.span, more)
        }
        return choices
    }

    /// The identifiers of an event that it links, the one that it is counted for first.
    static func seeds(
        _ key: IdentifierKey, _ found: [HashedIdentifier], _ plan: IdentifierPlan
    ) -> [IdentifierKey] {
        var seeds = [key]
        for identifier in found where !plan.kinds[identifier.kindIndex].isShared {
            let other = IdentifierKey(identifier)
            if !seeds.contains(where: { $0 == other }) { seeds.append(other) }
        }
        return seeds
    }

    static func sharedUser(
        _ found: [HashedIdentifier], at time: Int64, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> (person: ProfileID, anchor: IdentifierKey)? {
        for identifier in found {
            guard let user = try SharedVisit.user(of: IdentifierKey(identifier), at: time, in: transaction),
                let person = try IdentityGraph.profile(of: user, in: transaction)
            else { continue }
            return (person, user)
        }
        return nil
    }
}
