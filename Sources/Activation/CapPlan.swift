// How often something may be served: `cap: { serves: 3, per: 24h }` of a decision, `group: promos` to count several together.
// Read before everything else of the bundle, since what counts is kept in profiles. It need not know people.

import Formats
import Unification

/// The cap of one decision.
struct Cap: Equatable, Sendable {
    /// Of the decision or of its group.
    let tag: UInt32
    let serves: Int
    /// What counts, in profiles.
    let counter: HiddenAttribute
    /// The same, as the plan of attributes numbers it.
    var attribute = 0
}

/// All caps of a bundle.
struct CapPlan {
    private(set) var caps: [Cap] = []
    /// Of each decision by its key's node.
    private var ofDecisions: [(key: JSONNode, cap: Int)] = []

    init(_ document: borrowing JSONDocument, _ bundle: JSONNode, _ reader: inout PlanReader) {
        guard let section = document.member(bundle, "decisions"), document.kind(section) == .object else { return }
        var key = document.firstChild(section)
        while let name = key, let decision = document.next(name) {
            key = document.next(decision)
            if document.kind(decision) == .object { read(document, name, decision, &reader) }
        }
    }

    private mutating func read(
        _ document: borrowing JSONDocument, _ name: JSONNode, _ decision: JSONNode, _ reader: inout PlanReader
    ) {
        guard let settings = reader.object(document, decision, "cap") else { return }
        reader.refuseOthers(document, settings, ["serves", "per", "group"], of: "a cap")
        if document.member(decision, "purpose") == nil {
            return reader.report(document, settings, "a cap counts what a person was served: this decision needs a purpose")
        }
        guard let serves = reader.integer(document, settings, "serves", 1...Limits.capServes) else {
            if document.member(settings, "serves") == nil {
                reader.report(document, settings, "a cap says how often: { serves: 3, per: 24h }")
            }
            return
        }
        let per = reader.duration(document, settings, "per") ?? 0
        var counted = copy(document.bytes(name))
        // A group and a decision of the same name are two.
        if let group = reader.text(document, settings, "group") { counted = Array("group ".utf8) + copy(document.bytes(group)) }
        let cap = Cap(
            tag: NameTag.of(counted.span), serves: Int(serves), counter: .cap(name: counted, serves: Int(serves), per: per))
        if let known = caps.firstIndex(where: { $0.tag == cap.tag }) {
            if caps[known] != cap { reader.report(document, settings, "another decision of this group has another cap") }
            ofDecisions.append((name, known))
        } else {
            ofDecisions.append((name, caps.count))
            caps.append(cap)
        }
    }

    /// Finds what counts each.
    mutating func number(by plan: AttributePlan) {
        for index in caps.indices { caps[index].attribute = plan.index(of: caps[index].counter) ?? 0 }
    }

    func cap(of key: JSONNode) -> Cap? {
        for entry in ofDecisions where entry.key == key { return caps[entry.cap] }
        return nil
    }
}
