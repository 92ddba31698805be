// A bundle, whole: the policy that decisions need, the tracking plan and the destinations, read and checked from one file.

import Activation
import CEL
import Collection
import Delivery
import Formats
import Governance
import Platform
import Serving
import Unification

/// A checked bundle. Immutable.
public final class Bundle: @unchecked Sendable {
    // All members are written in `init` only; threads read them.
    let plans: Plans
    public var policy: Policy { plans.policy }
    public var version: UInt64 { policy.version }
    public var identifiers: IdentifierPlan { policy.identifiers }
    public let destinations: [BundledDestination]
    /// False for the one that is built in: nothing has been loaded yet.
    public let isLoaded: Bool

    private init(_ document: JSONDocument, loadedAt: Int64, isLoaded: Bool, _ reader: inout PlanReader) {
        var tracking = TrackingPlan(everythingFor: 0)
        var destinations: [BundledDestination] = []
        let policy = Policy(document, loadedAt: loadedAt, &reader) { purposes, identifiers, environment, compiler, reader in
            tracking = TrackingPlan(document, document.root, purposes, &reader) { identifiers.isPlace($0) }
            destinations = BundledDestination.read(
                document, purposes, identifiers, environment, &compiler, &reader)
        }
        plans = Plans(policy, tracking)
        self.destinations = destinations
        self.isLoaded = isLoaded
        checkRestricted(document, &reader)
        reader.refuseOthers(
            document, document.root,
            [
                "version", "purposes", "consent", "identifiers", "events", "sources", "tables", "attributes", "scores",
                "audiences", "decisions", "profiles", "triggers", "destinations",
            ], of: "a bundle")
        for trigger in policy.triggers.triggers {
            for entry in destinations where trigger.isFor(entry.destination.name) {
                if entry.destination.isFallbackOnly {
                    reader.report(
                        document, trigger.node, "send must not name a fallback, which gets what another cannot deliver")
                }
                entry.addPlainKinds(to: trigger)
                if let other = entry.destination.fallback { destinations[other].addPlainKinds(to: trigger) }
            }
        }
    }

    /// Reads and checks a bundle's text (YAML or JSON).
    /// - Returns: the bundle, or nil when something is wrong; and everything that is to be said about it.
    public static func read(_ text: Span<UInt8>, loadedAt: Int64) -> (Bundle?, [PlanProblem]) {
        let document: JSONDocument
        do throws(YAMLError) { document = try YAML.parse(text) } catch {
            return (nil, [PlanProblem(position: error.position, message: error.message)])
        }
        var reader = PlanReader()
        guard document.kind(document.root) == .object else {
            reader.report(document, document.root, "a bundle is a map of sections: version, purposes, identifiers, …")
            return (nil, reader.problems)
        }
        let bundle = Bundle(document, loadedAt: loadedAt, isLoaded: true, &reader)
        return (reader.hasErrors ? nil : bundle, reader.problems)
    }

    /// What a device without a bundle does: it takes events under the one purpose `analytics` and decides nothing.
    public static func builtIn(loadedAt: Int64) -> Bundle {
        let text: StaticString = """
            version: 0
            purposes: [analytics]
            identifiers:
              user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
              email: { from: [traits.email, context.traits.email, properties.email], normalize: email, send: hmac }
              anonymous_id: { from: [anonymousId], send: hmac }
            events: { "*": { purpose: analytics } }
            """
        do throws(YAMLError) {
            let document = try YAML.parse(text.bytes)
            var reader = PlanReader()
            let bundle = Bundle(document, loadedAt: loadedAt, isLoaded: false, &reader)
            precondition(!reader.hasErrors, "the built-in bundle is wrong")
            return bundle
        } catch {
            preconditionFailure("the built-in bundle is no YAML")
        }
    }
}
