// A destination of the bundle with its filter compiled into the policy's program.

import Activation
import CEL
import Delivery
import Formats
import Governance
import Unification

/// A destination and its filter.
public struct BundledDestination: Sendable {
    public let destination: Destination
    /// Expression of the policy's program; nil: every event.
    let filter: Expression?
    /// Whether the lane `batch` may send at this time; nil: always.
    let window: Expression?
    /// Of a webhook whose body the bundle gives.
    let body: WebhookBody?
    /// Kinds of identifiers that may leave: stable tag, name, and whether as a plain SHA-256.
    let identifiers: [(tag: UInt32, name: [UInt8], isPlain: Bool)]

    func addPlainKinds(to trigger: Trigger) {
        for kind in identifiers where kind.isPlain { trigger.plainKinds.append(kind.tag) }
    }

    static func read(
        _ document: borrowing JSONDocument, _ purposes: PurposePlan, _ identifiers: IdentifierPlan,
        _ environment: Environment, _ compiler: inout Compiler, _ reader: inout PlanReader
    ) -> [BundledDestination] {
        var kinds: [[UInt8]] = []
        for kind in identifiers.kinds { kinds.append(kind.name) }
        let plan = DestinationPlan(
            document, document.root, purposes: purposes.names, identifiers: kinds,
            maximumDestinations: Limits.destinations, &reader)
        var result: [BundledDestination] = []
        for destination in plan.destinations {
            var filter: Expression?
            if let condition = destination.condition {
                do throws(CompileError) {
                    filter = try compiler.add(condition.source, in: environment, expecting: .condition)
                } catch {
                    reader.report(document, condition.node, "in this condition, " + error.description)
                }
            }
            var window: Expression?
            let hours = Schedule.hours(document, destination.settings, "send", &reader)
            if !hours.isEmpty {
                do throws(CompileError) { window = try compiler.add(hours, in: environment, expecting: .condition) } catch {
                    reader.report(document, destination.settings, "in send, " + error.description)
                }
            }
            var allowed: [(tag: UInt32, name: [UInt8], isPlain: Bool)] = []
            for name in destination.identifiers {
                let index = identifiers.kindIndex(named: name.span)
                allowed.append((NameTag.of(name.span), name, index.map { identifiers.kinds[$0].form == .sha256 } ?? false))
            }
            let body = destination.webhook.body.flatMap { WebhookBody(document, $0, environment, &compiler, &reader) }
            result.append(
                BundledDestination(
                    destination: destination, filter: filter, window: window, body: body, identifiers: allowed))
        }
        return result
    }
}
