// What is restricted leaves for nobody who does not name it: the bundle is checked for destinations that would tell of it,
// or name what is not restricted.

import Activation
import CEL
import Delivery
import Formats
import Unification

extension Bundle {
    func checkRestricted(_ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        for entry in destinations {
            let named = entry.destination.restricted
            for path in named where !isRestricted(path) {
                reader.report(
                    document, entry.destination.restrictedNode ?? document.root,
                    "not all of this is restricted: name fields of an event's restricted:, and restricted attributes as "
                        + "profile.NAME")
            }
            guard let filter = entry.filter, let node = entry.destination.condition?.node else { continue }
            for number in policy.restrictedAttributes(of: filter) {
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
