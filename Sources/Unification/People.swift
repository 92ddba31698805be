// How an event changes who is who: it finds or makes the person, adds the links that it shows, and when those make
// other people than before, gives each of them the identifiers, the profile and the choices that are theirs.

import Cryptography
import Formats
import Governance
import Platform
import Store

/// Whose event it is.
public struct Resolution {
    public var profile: ProfileID
    /// The identifier that the event is counted for: its own that says most, or of an event that has only a shared one, that
    /// of the person who was using the thing.
    public var anchor: IdentifierKey
    /// The profile was made for this event.
    public var isNew = false
    /// People were joined or parted: what was known of profiles before may not be so any more.
    public var hasMoved = false
    /// How many people became part of others.
    public var joined = 0
    /// Why links that the event showed first join nobody.
    public var refusals: [LinkRefusal] = []
}

/// Whose an event would be.
public struct Outlook {
    /// The person, as far as the store has them; nil for nobody yet.
    public var person: ProfileID?
    /// The identifier that the event would be counted for.
    public var anchor: IdentifierKey
    /// The event says nothing new about people.
    public var isSettled = false
    /// The event would make the person another than the store has: joined with others, or parted from some.
    var isOther = false
    /// Those that would be the person's, unless it is settled.
    var identifiers: [IdentifierKey] = []

    init(person: ProfileID?, anchor: IdentifierKey, isSettled: Bool = false) {
        self.person = person
        self.anchor = anchor
        self.isSettled = isSettled
    }
}

/// What an event shows of links.
public struct LinkEvidence {
    /// When it happened; milliseconds since the epoch, as `now`, when it arrived.
    public var time: Int64
    public var now: Int64
    public var message: EventHash

    public init(time: Int64, now: Int64, message: EventHash) {
        self.time = time
        self.now = now
        self.message = message
    }
}

/// The people of a store, for its one writer. Everything happens inside the caller's transaction.
public struct People: ~Copyable {
    /// Of the store, by which parts of profiles are told from those of other devices.
    public let epoch: UInt64
    private var merger = ProfileMerger()
    /// Records that failed their checksum while people were put together: for a counter, which takes them away.
    public var damaged: UInt64 = 0

    public init(epoch: UInt64) { self.epoch = epoch }

    // MARK: Finding

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
        let origin = LinkOrigin(time: evidence.time, message: evidence.message)
        var region = try People.region(around: seeds, plan, showing: origin, transaction)
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

    private static func choices(
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
    private static func seeds(
        _ key: IdentifierKey, _ found: [HashedIdentifier], _ plan: IdentifierPlan
    ) -> [IdentifierKey] {
        var seeds = [key]
        for identifier in found where !plan.kinds[identifier.kindIndex].isShared {
            let other = IdentifierKey(identifier)
            if !seeds.contains(where: { $0 == other }) { seeds.append(other) }
        }
        return seeds
    }

    private static func sharedUser(
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

    // MARK: Resolving

    /// Finds or makes the profile of an event with these identifiers, and records what it showed.
    /// - Parameter found: the event's identifiers; not empty.
    public mutating func resolve<Random: RandomSource>(
        _ found: [HashedIdentifier], _ plan: IdentifierPlan, _ attributes: AttributePlan, _ evidence: LinkEvidence,
        random: inout Random, in transaction: inout WriteTransaction
    ) throws(StoreError) -> Resolution {
        guard let place = People.anchor(found, plan) else {
            if let user = try People.sharedUser(found, at: evidence.time, transaction) {
                return Resolution(profile: user.person, anchor: user.anchor)
            }
            let key = IdentifierKey(found[0])
            if let known = try IdentityGraph.profile(of: key, in: transaction) { return Resolution(profile: known, anchor: key) }
            return try made(key, evidence.now, &random, &transaction)
        }
        let key = IdentifierKey(found[place])
        let seeds = People.seeds(key, found, plan)
        var news: [IdentifierKey] = []
        let origin = LinkOrigin(time: evidence.time, message: evidence.message)
        for other in seeds where other != key {
            if try IdentityLinks.add(key, other, origin, in: &transaction) { news.append(other) }
        }
        let known = try IdentityGraph.profile(of: key, in: transaction)
        if seeds.count == 1, known == nil { return try made(key, evidence.now, &random, &transaction) }
        var resolution = Resolution(profile: known ?? .nobody, anchor: key)
        if !news.isEmpty || known == nil {
            let region = try settle(seeds, plan, attributes, now: evidence.now, &random, &transaction, &resolution)
            for other in news {
                if let reason = region.isCut ? .tooManyIdentifiers : region.refusal(of: key, other) {
                    resolution.refusals.append(reason)
                }
            }
        }
        resolution.isNew = known == nil
        guard let person = try IdentityGraph.profile(of: key, in: transaction) else { throw .badRecord("identifiers") }
        resolution.profile = person
        return resolution
    }

    private func made<Random: RandomSource>(
        _ key: IdentifierKey, _ now: Int64, _ random: inout Random, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Resolution {
        let profile = ProfileID(high: random.next(), low: random.next())
        try IdentityGraph.assign(key, to: profile, from: nil, at: now, in: &transaction)
        var resolution = Resolution(profile: profile, anchor: key)
        resolution.isNew = true
        return resolution
    }

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

    /// Cuts the links of an identifier: by a person's word, they were wrong.
    /// - Parameter other: the other end of the only one to cut; nil for all of them.
    /// - Returns: how many were cut, `Limits.linksCutAtOnce` at most.
    public mutating func unlink<Random: RandomSource>(
        _ key: IdentifierKey, from other: IdentifierKey?, _ plan: IdentifierPlan, _ attributes: AttributePlan, now: Int64,
        random: inout Random, in transaction: inout WriteTransaction
    ) throws(StoreError) -> (cut: Int, resolution: Resolution) {
        var resolution = Resolution(profile: .nobody, anchor: key)
        var seeds = [key]
        for link in try IdentityLinks.uncut(of: key, atMost: other == nil ? Limits.linksCutAtOnce : Int.max, in: transaction)
        where other == nil || link.other == other {
            var origin = link.origin
            origin.isCut = true
            _ = try IdentityLinks.add(key, link.other, origin, in: &transaction)
            seeds.append(link.other)
        }
        if seeds.count > 1 { _ = try settle(seeds, plan, attributes, now: now, &random, &transaction, &resolution) }
        resolution.profile = try IdentityGraph.profile(of: key, in: transaction) ?? .nobody
        return (seeds.count - 1, resolution)
    }

    // MARK: Settling

    /// Finds out anew who is one person around some identifiers, and moves what has changed.
    mutating func settle<Random: RandomSource>(
        _ seeds: [IdentifierKey], _ plan: IdentifierPlan, _ attributes: AttributePlan, now: Int64, _ random: inout Random,
        _ transaction: inout WriteTransaction, _ resolution: inout Resolution
    ) throws(StoreError) -> IdentityRegion {
        var region = try People.region(around: seeds, plan, showing: nil, transaction)
        region.partition()
        var before: [ProfileID?] = []
        for node in region.nodes { before.append(try IdentityGraph.profile(of: node.key, in: transaction)) }
        var after = People.assign(region, before, &random)
        if region.isCut {
            // What is only seen in part is left as it is; who is new is somebody of their own.
            for index in after.indices { after[index] = before[index] ?? ProfileID(high: random.next(), low: random.next()) }
        }

        // Who only gets an identifier that was nobody's yet stays as they are.
        var changed: [ProfileID] = []
        for index in region.nodes.indices {
            guard let old = before[index], old != after[index] else { continue }
            if !changed.contains(old) { changed.append(old) }
            if !changed.contains(after[index]) { changed.append(after[index]) }
        }
        for person in changed { try takeApart(person, &transaction) }
        for index in region.nodes.indices where before[index] != after[index] {
            try IdentityGraph.assign(
                region.nodes[index].key, to: after[index], from: before[index], at: now, in: &transaction)
        }
        for person in changed {
            let isSomebody = try putTogether(person, attributes, now: now, &transaction)
            if !isSomebody { resolution.joined += 1 }
        }
        if !changed.isEmpty { resolution.hasMoved = true }
        return region
    }

    /// The identifiers that links hold together with these.
    /// - Parameter new: the link that an event would show between the first of the seeds and each other; nil for none.
    private static func region(
        around seeds: [IdentifierKey], _ plan: IdentifierPlan, showing new: LinkOrigin?,
        _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> IdentityRegion {
        var region = IdentityRegion()
        for seed in seeds { _ = region.add(seed, plan) }
        var next = 0
        while next < region.nodes.count, !region.isCut {
            let key = region.nodes[next].key
            var links = try IdentityLinks.links(
                of: key, atMost: Limits.linksPerIdentifier + Limits.linksFollowedBeyond, in: transaction)
            if let new, next < seeds.count {
                for other in next == 0 ? Array(seeds[1...]) : [seeds[0]] where !links.contains(where: { $0.other == other }) {
                    links.append((other, new))
                }
            }
            var count = 0
            for link in links where !link.origin.isCut { count += 1 }
            if count > Limits.linksPerIdentifier { region.markNobodys(next) }
            // What has just come to be nobody's may have held people together until now: so far it is followed.
            if count < Limits.linksPerIdentifier + Limits.linksFollowedBeyond || next < seeds.count {
                for link in links where !link.origin.isCut { region.add(next, region.add(link.other, plan), link.origin) }
            }
            next += 1
        }
        return region
    }

    /// Which person each node is to belong to. A group stays the person that the first of its nodes was that speaks for it;
    /// of two groups that were one person, the one that has the say; the other becomes somebody new.
    private static func assign<Random: RandomSource>(
        _ region: IdentityRegion, _ before: [ProfileID?], _ random: inout Random
    ) -> [ProfileID] {
        var order: [Int] = []
        for index in region.nodes.indices {
            var place = order.count
            while place > 0, region.speaksBefore(index, order[place - 1]) { place -= 1 }
            order.insert(index, at: place)
        }
        var ofGroup = [ProfileID?](repeating: nil, count: region.nodes.count)
        var claimed: [ProfileID] = []
        for index in order {
            let group = region.nodes[index].group
            guard ofGroup[group] == nil, let person = before[index], !claimed.contains(person) else { continue }
            ofGroup[group] = person
            claimed.append(person)
        }
        var after: [ProfileID] = []
        for node in region.nodes {
            let person = ofGroup[node.group] ?? ProfileID(high: random.next(), low: random.next())
            ofGroup[node.group] = person
            after.append(person)
        }
        return after
    }

    // MARK: Profiles

    /// Puts the only part of a profile among the parts, if it is not there.
    public mutating func takeApart(_ person: ProfileID, _ transaction: inout WriteTransaction) throws(StoreError) {
        let id = person.bytes
        var record: [UInt8] = []
        if let value = try transaction.get(transaction.tables.profiles, id.span) { record = [UInt8](copying: value) }
        if record.isEmpty { return }
        let part: UInt64
        do throws(RecordDamage) { part = try ProfileView(record.span).part } catch {
            damaged += 1
            return
        }
        if part == 0 { return }
        let keys = try IdentityGraph.keys(of: person, in: transaction)
        guard let key = keys.first(where: { $0.part(writtenBy: epoch) == part }) else {
            damaged += 1
            return
        }
        try transaction.put(transaction.tables.parts, ProfileParts.Key(key, epoch).bytes.span, record.span)
    }

    /// Makes a person's profile and choices of the parts of their identifiers.
    /// - Returns: false for one who has no identifiers any more, and of whom nothing is left.
    public mutating func putTogether(
        _ person: ProfileID, _ attributes: AttributePlan, now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let tables = transaction.tables
        let keys = try IdentityGraph.keys(of: person, in: transaction)
        var record: [UInt8] = []
        var only: (key: IdentifierKey, epoch: UInt64)?
        var count = 0
        for key in keys {
            var parts: [(UInt64, [UInt8])] = []
            try ProfileParts.forEach(of: key, in: transaction) { epoch, value in parts.append((epoch, [UInt8](copying: value))) }
            for (epoch, part) in parts {
                count += 1
                only = (key, epoch)
                try add(part, to: &record, person, attributes, now)
            }
        }
        let choices = try People.choices(under: keys, in: transaction)
        let id = person.bytes
        if record.isEmpty {
            try transaction.delete(tables.profiles, id.span)
        } else {
            // A single part of our own is the profile again.
            var part: UInt64 = 0
            if count == 1, let only, only.epoch == epoch {
                part = only.key.part(writtenBy: epoch)
                try transaction.delete(tables.parts, ProfileParts.Key(only.key, epoch).bytes.span)
            }
            ProfileRecord.relabel(&record, person, part: part)
            try transaction.put(tables.profiles, id.span, record.span)
        }
        if choices.isEmpty {
            try transaction.delete(tables.consent, id.span)
        } else {
            try transaction.put(tables.consent, id.span, choices.span)
        }
        if keys.isEmpty { try transaction.delete(tables.damaged, id.span) }
        return !keys.isEmpty
    }

    private mutating func add(
        _ part: [UInt8], to record: inout [UInt8], _ person: ProfileID, _ attributes: AttributePlan, _ now: Int64
    ) throws(StoreError) {
        do throws(RecordDamage) {
            if record.isEmpty {
                _ = try ProfileView(part.span)
                record = part
            } else {
                try merger.merge(record.span, part.span, id: person, plan: attributes, now: now)
                record = merger.record
            }
        } catch {
            damaged += 1
        }
    }

    /// The part of a profile that this device has counted for an identifier; empty: none lies apart.
    public func part(of key: IdentifierKey, in transaction: borrowing WriteTransaction) throws(StoreError) -> [UInt8] {
        let bytes = ProfileParts.Key(key, epoch).bytes
        guard let value = try transaction.get(transaction.tables.parts, bytes.span) else { return [] }
        return [UInt8](copying: value)
    }

    public func putPart(
        _ record: Span<UInt8>, of key: IdentifierKey, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try transaction.put(transaction.tables.parts, ProfileParts.Key(key, epoch).bytes.span, record)
    }

    /// Adds a choice to those that were made under an identifier.
    /// - Returns: whether that was news.
    @discardableResult
    public static func addChoices(
        _ choices: Span<UInt8>, of key: IdentifierKey, in transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let bytes = key.bytes
        let parts = transaction.tables.consentParts
        var known: [UInt8] = []
        if let value = try transaction.get(parts, bytes.span) { known = [UInt8](copying: value) }
        let merged = known.isEmpty ? [UInt8](copying: choices) : ConsentRecord.merging(known.span, choices)
        if equal(merged.span, known.span) { return false }
        try transaction.put(parts, bytes.span, merged.span)
        return true
    }

    /// Notes a person's new choices with their identifiers, by which they go with whoever these turn out to belong to: a grant
    /// with the one under which it was made, a refusal with all of them. Whoever is parted from the person later has not
    /// granted it, and the refusal is not lost.
    /// - Parameter choices: those that are new; `key`: the identifier under which they were made.
    public static func note(
        _ choices: Span<UInt8>, of person: ProfileID, under key: IdentifierKey, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let keys = try IdentityGraph.keys(of: person, in: transaction)
        let refusals = ConsentRecord.refusals(of: choices)
        let isOwn = keys.contains { $0 == key }
        for (place, other) in keys.enumerated() {
            if isOwn ? other == key : place == 0 {
                try addChoices(choices, of: other, in: &transaction)
            } else if ConsentRecord.isAnything(refusals.span) {
                try addChoices(refusals.span, of: other, in: &transaction)
            }
        }
    }
}
