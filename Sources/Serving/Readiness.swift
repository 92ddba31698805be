// What `/readyz` says of the agent, and a device's report to its hub with it.

import Activation
import Formats
import Monitoring

public struct Readiness {
    private let findings: [Finding]
    private let health: Health
    private let meters: Meters
    private let policy: Policy
    /// Milliseconds since the epoch.
    private let now: Int64

    public init(_ findings: [Finding], _ health: Health, _ meters: Meters, _ policy: Policy, now: Int64) {
        self.findings = findings
        self.health = health
        self.meters = meters
        self.policy = policy
        self.now = now
    }

    private var isGrave: Bool { findings.first?.problem.isGrave ?? false }

    public var state: HealthState { isGrave ? .degraded : health.current }

    /// Writes the members of an object.
    /// - Parameter isTrusted: whether it is for somebody who runs the device.
    public func write(to writer: inout JSONWriter, isTrusted: Bool) {
        writer.key("status")
        writer.string(state.word)
        if isGrave {
            writer.key("reason")
            writer.string(findings[0].problem.word)
        }
        writer.key("bundle")
        writer.uint(policy.version)
        writer.key("bundleAgeSeconds")
        writer.int(policy.age(at: now) / 1000)
        if let problem = health.bundleProblem {
            writer.key("bundleProblem")
            writer.string(problem.word)
        }
        writer.key("problems")
        writer.beginArray()
        for finding in findings {
            writer.beginObject()
            writer.key("problem")
            writer.string(finding.problem.word)
            writer.key("advice")
            writer.string(Problem.advice[finding.problem.rawValue])
            if isTrusted, !finding.destination.isEmpty {
                writer.key("destination")
                writer.string(finding.destination)
            }
            if isTrusted, !finding.detail.utf8.isEmpty {
                writer.key("detail")
                writer.string(finding.detail)
            }
            writer.endObject()
        }
        writer.endArray()
        let rebuiltAt = meters.storeRebuiltAt.current
        if health.isMending {
            writer.key("store")
            writer.string("mending")
        } else if rebuiltAt > 0 {
            writer.key("storeRebuiltAt")
            let time = Timestamp.write(rebuiltAt)
            writer.string(time)
        }
    }
}
