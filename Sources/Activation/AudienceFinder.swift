// Which audiences a person is in, for decisions and for what leaves. It need not know who asks.

import CEL
import Unification

extension Policy {
    /// Finds the audiences of a set, a bit each and with all that they build on, and puts them into the surroundings.
    ///
    /// - Parameters:
    ///   - record: the person's profile; empty for one without.
    ///   - index: of that record.
    ///   - surroundings: what the conditions see besides; `audiences` is written.
    ///   - evaluator: between `begin()` and `end()`, and the same that then evaluates what asks for the audiences.
    /// - Returns: how many conditions failed, but for those that missed an attribute: what a person does not have is no
    ///   mistake of the condition.
    public func findAudiences(
        _ needs: UInt64, _ record: Span<UInt8>, _ index: ProfileIndex, _ surroundings: Surroundings,
        _ evaluator: inout Evaluator
    ) -> Int {
        var failures = 0
        for number in decisions.audiences.indices where needs & 1 << UInt64(number) != 0 {
            let bindings = DecisionBindings(
                record: record, index: index, plan: attributes, slots: slots, surroundings: surroundings)
            surroundings.audiences[number] = evaluator.isTrue(
                program, decisions.audiences[number].expression, bindings, failures: &failures)
        }
        return failures
    }
}
