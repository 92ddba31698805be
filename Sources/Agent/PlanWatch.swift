// What the writer observes of events beside taking them, for those who show it: when sources were last seen, and which
// fields are not as they usually are. Names of fields are those that SchemaDrift lets through.

import Collection
import Formats
import Monitoring
import Platform

/// Shared by the writer and whoever writes `/metrics`.
final class PlanWatch: @unchecked Sendable {
    let sources: LastSeen
    private let lock = Lock()
    // Under `lock`: the labels of each changed field in `/metrics`, and its count.
    private var labels: [[UInt8]] = []
    private var counts: [UInt64] = []

    init(sources: [[UInt8]]) { self.sources = LastSeen(sources, salt: UInt8(ascii: "s")) }

    var changes: ([[UInt8]], [UInt64]) { lock.with { (labels, counts) } }

    func forgetChanges() {
        lock.with {
            labels = []
            counts = []
        }
    }

    /// Counts a change of a field; when there are many fields already, under `other`.
    func add(_ count: UInt64, _ event: [UInt8], _ field: [UInt8], _ change: FieldChange) {
        var label = PlanWatch.label(event, field, change)
        lock.with {
            var row = labels.firstIndex(of: label)
            if row == nil, labels.count >= CollectionLimits.driftLabels {
                // A few more than the limit: one for each event and change at most.
                label = PlanWatch.label(event, Array("other".utf8), change)
                row = labels.firstIndex(of: label)
            }
            if let row {
                counts[row] += count
            } else {
                labels.append(label)
                counts.append(count)
            }
        }
    }

    private static func label(_ event: [UInt8], _ field: [UInt8], _ change: FieldChange) -> [UInt8] {
        var label: [UInt8] = []
        MetricsWriter.appendLabel("event", event, to: &label)
        MetricsWriter.appendLabel("field", field, to: &label)
        MetricsWriter.appendLabel("change", [UInt8](copying: change.name.bytes), to: &label)
        return label
    }
}
