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

/// What an event shows of links.
public struct LinkEvidence {
    /// When it happened; milliseconds since the epoch, as `now`, when it arrived.
    public var time: Int64
    public var now: Int64
    /// Which event it is.
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
    /// The number of the pepper that identifiers are hashed under.
    public var mark: UInt8 = 0
    var merger = ProfileMerger()
    /// Records that failed their checksum while people were put together: for a counter, which takes them away.
    public var damaged: UInt64 = 0

    public init(epoch: UInt64) { self.epoch = epoch }

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
        for other in seeds where other != key {
            let origin = LinkOrigin(evidence, key, other)
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
        try IdentityGraph.assign(key, to: profile, from: nil, mark: mark, at: now, in: &transaction)
        var resolution = Resolution(profile: profile, anchor: key)
        resolution.isNew = true
        return resolution
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
        let atMost = other == nil ? Limits.linksCutAtOnce : Int.max
        for link in try IdentityLinks.links(of: key, atMost: atMost, withCut: false, in: transaction)
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
                region.nodes[index].key, to: after[index], from: before[index], mark: mark, at: now, in: &transaction)
        }
        for person in changed {
            let isSomebody = try putTogether(person, attributes, now: now, &transaction)
            if !isSomebody { resolution.joined += 1 }
        }
        if !changed.isEmpty { resolution.hasMoved = true }
        return region
    }

    /// The identifiers that links hold together with these.
    /// - Parameter new: an event that would show links between the first of the seeds and each other; nil for none.
    static func region(
        around seeds: [IdentifierKey], _ plan: IdentifierPlan, showing new: LinkEvidence?,
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
                    links.append((other, LinkOrigin(new, key, other)))
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
}
