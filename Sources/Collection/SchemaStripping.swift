// `invalid: strip`: what an event must lose to be as its schema wants it.

import Formats

/// A member that counts as not there.
struct OmittedMember {
    let object: JSONNode
    let value: JSONNode
}

extension CompiledSchema {
    /// Finds out which members of a value, at any depth, must be left out so that the rest is valid: those that are not
    /// allowed and those whose value is not. Where an object has lost something that it needs, or an array holds a value
    /// that is not allowed, the object or array goes as a whole; the value itself cannot.
    ///
    /// It may take `Limits.schemaStripRounds` validations: for events that are known to be invalid. Allocates.
    /// - Parameters:
    ///   - value: of an event its properties.
    ///   - event: the document that it is in.
    /// - Returns: the values of the members to leave out, none inside another; empty if the value is valid as it is; nil
    ///   if it cannot be made valid so, or not in so many rounds.
    public func strip(_ value: JSONNode, in event: borrowing JSONDocument) -> [JSONNode]? {
        var omitted: [OmittedMember] = []
        for _ in 0...Limits.schemaStripRounds {
            var evaluation = SchemaEvaluation(program, value)
            evaluation.omitted = omitted
            guard let violation = evaluation.run(event) else { return omitted.map { $0.value } }
            guard violation.rule != .limit, let member = CompiledSchema.member(around: violation.node, value, event) else {
                return nil
            }
            // What was inside it goes with it.
            omitted.removeAll { CompiledSchema.isInside($0.value, member.value, event) }
            omitted.append(member)
        }
        return nil
    }

    /// The innermost member that a node is, or is in; nil for the root and what is not in any.
    private static func member(
        around target: JSONNode, _ root: JSONNode, _ event: borrowing JSONDocument
    ) -> OmittedMember? {
        var innermost: OmittedMember?
        var container = root
        while container != target, let step = JSONPointer.step(from: container, towards: target, in: event) {
            if step.key != nil { innermost = OmittedMember(object: container, value: step.value) }
            if step.key == target { break }
            container = step.value
        }
        return innermost
    }

    private static func isInside(_ node: JSONNode, _ outer: JSONNode, _ event: borrowing JSONDocument) -> Bool {
        var container = outer
        while container != node {
            guard let step = JSONPointer.step(from: container, towards: node, in: event) else { return false }
            container = step.value
        }
        return true
    }
}

extension SchemaEvaluation {
    @inline(__always)
    func isOmitted(_ member: JSONNode) -> Bool {
        if omitted.isEmpty { return false }
        for other in omitted where other.value == member { return true }
        return false
    }

    /// Members of an object that are there.
    @inline(__always)
    func count(_ object: JSONNode, _ event: borrowing JSONDocument) -> Int {
        var count = event.count(object)
        if omitted.isEmpty { return count }
        for other in omitted where other.object == object { count -= 1 }
        return count
    }
}
