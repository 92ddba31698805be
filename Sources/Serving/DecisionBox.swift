// Where serving threads leave the records of their decisions for the writer. Nobody waits for it: a decision is answered
// before its record is written, and what there is no room for is lost and counted.

import Activation
import Monitoring
import Platform

/// Records on their way to the log, for all threads.
public final class DecisionBox: @unchecked Sendable {
    private let lock = Lock()
    // Under `lock`.
    private var waiting: [DecisionRecord] = []
    private let meters: Meters
    public let serves = ServeCounts()

    public init(meters: Meters) { self.meters = meters }

    /// Leaves records; empties them.
    /// - Returns: whether there are so many that the writer should be woken.
    func leave(_ records: inout [DecisionRecord]) -> Bool {
        var lost = 0
        let isMuch = lock.with {
            if waiting.isEmpty {
                swap(&waiting, &records)
            } else {
                for record in records {
                    if waiting.count < Limits.waitingRecords {
                        waiting.append(record)
                        continue
                    }
                    lost += 1
                    if let place = record.servePlace { serves.drop(place) }
                }
            }
            return waiting.count >= Limits.recordsBeforeWaking
        }
        records.removeAll(keepingCapacity: true)
        if lost > 0 { meters.recordsLost.add(UInt64(lost)) }
        return isMuch
    }

    /// Takes everything that waits; adds it to `records`.
    public func take(into records: inout [DecisionRecord]) {
        lock.with {
            if records.isEmpty { swap(&waiting, &records) } else { records.append(contentsOf: waiting) }
            waiting.removeAll(keepingCapacity: true)
        }
    }
}
