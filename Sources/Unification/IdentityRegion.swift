// Who is one person, as far as links tell: a function of the set of links alone, so that it does not matter in which order
// events arrive, nor on which of two devices that exchange what they know. It need not know the store nor profiles.

/// Why two identifiers that an event carried are not one person's.
public enum LinkRefusal: UInt8, Sendable {
    /// It would join two different values of a `unique` kind (merge guard), and an earlier link says otherwise.
    case unique
    /// The person would have more than `Limits.identifiersPerPerson`.
    case tooManyIdentifiers
    /// One of the two is linked to more than `Limits.linksPerIdentifier` others: it is nobody's, like `test@example.com`.
    case nobodys
}

/// Identifiers that links hold together, and the people that they make.
///
/// The links are taken by age. Each joins what its ends belong to, unless that would give one person two values of a
/// `unique` kind, or too many identifiers: then it is passed over. Thus of a household's e-mail address the one that used it first
/// keeps it, whoever is heard of first.
struct IdentityRegion {
    struct Node {
        let key: IdentifierKey
        /// The place of its kind in the plan; -1 for one that the plan does not have.
        let kind: Int
        let isUnique: Bool
        /// It has too many links, or its kind is `shared`: it joins nobody.
        var isNobodys = false
        /// The number of its group after `partition`.
        var group = 0
    }

    private struct Link {
        let first: Int
        let second: Int
        let origin: LinkOrigin
    }

    private(set) var nodes: [Node] = []
    private var links: [Link] = []
    /// There is more than fits: what is here tells nothing for certain.
    private(set) var isCut = false

    func index(of key: IdentifierKey) -> Int? {
        for index in nodes.indices where nodes[index].key == key { return index }
        return nil
    }

    /// - Returns: its place.
    mutating func add(_ key: IdentifierKey, _ plan: IdentifierPlan) -> Int {
        if let known = index(of: key) { return known }
        if nodes.count >= Limits.identifiersPerRegion { isCut = true }
        let kind = plan.kindIndex(tag: key.tag) ?? -1
        var node = Node(key: key, kind: kind, isUnique: kind >= 0 && plan.kinds[kind].isUnique)
        node.isNobodys = kind >= 0 && plan.kinds[kind].isShared
        nodes.append(node)
        return nodes.count - 1
    }

    mutating func markNobodys(_ index: Int) { nodes[index].isNobodys = true }

    /// Takes a link once, whichever of its ends it is found at. Cut ones are left out.
    mutating func add(_ first: Int, _ second: Int, _ origin: LinkOrigin) {
        if origin.isCut || first == second { return }
        let isTurned = nodes[second].key.isBefore(nodes[first].key)
        let link = Link(first: isTurned ? second : first, second: isTurned ? first : second, origin: origin)
        var place = links.count
        while place > 0, isBefore(link, links[place - 1]) { place -= 1 }
        if place > 0, links[place - 1].first == link.first, links[place - 1].second == link.second { return }
        links.insert(link, at: place)
        if links.count >= Limits.linksPerRegion { isCut = true }
    }

    private func isBefore(_ a: Link, _ b: Link) -> Bool {
        if a.origin != b.origin { return a.origin.isBefore(b.origin) }
        let keys = (nodes[a.first].key, nodes[b.first].key)
        if keys.0 != keys.1 { return keys.0.isBefore(keys.1) }
        return nodes[a.second].key.isBefore(nodes[b.second].key)
    }

    /// Gives each node the number of its group; a group is a person.
    mutating func partition() {
        for index in nodes.indices { nodes[index].group = index }
        for link in links where refusal(link.first, link.second) == nil {
            let (from, to) = (nodes[link.second].group, nodes[link.first].group)
            for index in nodes.indices where nodes[index].group == from { nodes[index].group = to }
        }
    }

    /// Why the ends of a link may not be one person; nil: they may, or are.
    private func refusal(_ first: Int, _ second: Int) -> LinkRefusal? {
        let groups = (nodes[first].group, nodes[second].group)
        if groups.0 == groups.1 { return nil }
        if nodes[first].isNobodys || nodes[second].isNobodys { return .nobodys }
        var count = 0
        for node in nodes where node.group == groups.0 || node.group == groups.1 { count += 1 }
        if count > Limits.identifiersPerPerson { return .tooManyIdentifiers }
        for node in nodes where node.isUnique && node.group == groups.0 {
            for other in nodes where other.group == groups.1 && other.isUnique && other.key.tag == node.key.tag { return .unique }
        }
        return nil
    }

    /// Why the two are not one person after `partition`; nil: they are.
    func refusal(of first: IdentifierKey, _ second: IdentifierKey) -> LinkRefusal? {
        guard let a = index(of: first), let b = index(of: second) else { return nil }
        return refusal(a, b)
    }

    /// The order in which nodes speak for a person: unique kinds first, then as the bundle has the kinds.
    func speaksBefore(_ a: Int, _ b: Int) -> Bool {
        if nodes[a].isUnique != nodes[b].isUnique { return nodes[a].isUnique }
        if nodes[a].kind != nodes[b].kind { return nodes[a].kind < nodes[b].kind }
        return nodes[a].key.isBefore(nodes[b].key)
    }
}
