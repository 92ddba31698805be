// What is restricted leaves for nobody who does not name it: the bundle is checked for destinations that would tell of it,
// or name what is not restricted.

import Activation
import CEL
import Delivery
import Formats
import Unification

extension Bundle {
    func checkRestricted(_ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        let audiences = policy.decisions.audiences
        for number in audiences.indices where audiences[number].purpose != nil {
            // Its announcements go to everybody.
            refuseRestricted(
                [policy.slots.slot(ofAudience: number)], [], document,
                document.member(document.root, "audiences") ?? document.root, &reader)
        }
        for entry in destinations {
            let named = entry.destination.restricted
            for path in named where !isRestricted(path) {
                reader.report(
                    document, entry.destination.restrictedNode ?? document.root,
                    "not all of this is restricted: name fields of an event's restricted:, and restricted attributes as "
                        + "profile.NAME")
            }
            if let filter = entry.filter, let node = entry.destination.condition?.node {
                refuseRestricted(filter.slots, named, document, node, &reader)
            }
            if let body = entry.body, let node = entry.destination.webhook.body {
                refuseRestricted(body.slots, named, document, node, &reader)
            }
            for trigger in policy.triggers.triggers where trigger.isFor(entry.destination.name) {
                refuseRestricted(trigger.slots, named, document, trigger.node, &reader)
            }
        }
    }

    /// - Parameters:
    ///   - read: what a condition reads by which something arrives at a destination, or not.
    ///   - named: what is restricted and goes there all the same.
    private func refuseRestricted(
        _ read: [Int], _ named: [[[UInt8]]], _ document: borrowing JSONDocument, _ node: JSONNode, _ reader: inout PlanReader
    ) {
        for number in policy.restrictedAttributes(among: read) {
            var isNamed = false
            for path in named where isPath(path, of: number) { isNamed = true }
            if isNamed { continue }
            let name = String(decoding: policy.attributes.attributes[number].name, as: UTF8.self)
            reader.report(
                document, node,
                "profile.\(name) is restricted, and what arrives would tell of it: leave it out, or name it in this "
                    + "destination's restricted:")
        }
    }

    private func isRestricted(_ path: [[UInt8]]) -> Bool {
        for field in plans.tracking.keeping.restricted where field == path { return true }
        for number in policy.attributes.attributes.indices
        where policy.attributes.attributes[number].isRestricted && isPath(path, of: number) { return true }
        return false
    }

    /// Whether a path is `profile.NAME` of an attribute.
    private func isPath(_ path: [[UInt8]], of attribute: Int) -> Bool {
        if path.count != 2 { return false }
        let (first, name) = (path[0], path[1])
        return first.span.equals("profile") && name == policy.attributes.attributes[attribute].name
    }
}
