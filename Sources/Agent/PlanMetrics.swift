// The part of `/metrics` that looks after the tracking plan. Its labels are names of the bundle and of the configuration.

import Collection
import Monitoring

extension MetricsPage {
    func writePlan(_ plan: TrackingPlan, _ page: inout MetricsWriter) {
        writeMended(plan, &page)
        writeFreshness(plan, &page)
    }

    private func writeFreshness(_ plan: TrackingPlan, _ page: inout MetricsWriter) {
        let events = plan.seen
        page.family("gatehouse_event_age_seconds", "Time since the last event, or since it is watched.", "gauge")
        writeAges("gatehouse_event_age_seconds", "event", events, &page)
        let eventObjectives = events.names.indices.map { plan.objective(ofEvent: $0) }
        page.family("gatehouse_event_objective_seconds", "How old the last event may be.", "gauge")
        writeObjectives("gatehouse_event_objective_seconds", "event", events, eventObjectives, &page)
        page.family("gatehouse_event_stale", "1 while the last event is older than it may be.", "gauge")
        writeStale("gatehouse_event_stale", "event", events, eventObjectives, &page)
        page.family("gatehouse_source_age_seconds", "Time since a source's last event, or since it is watched.", "gauge")
        writeAges("gatehouse_source_age_seconds", "source", sources, &page)
        let sourceObjectives = sources.names.map { plan.objective(ofSource: $0) }
        page.family("gatehouse_source_objective_seconds", "How old a source's last event may be.", "gauge")
        writeObjectives("gatehouse_source_objective_seconds", "source", sources, sourceObjectives, &page)
        page.family("gatehouse_source_stale", "1 while a source's last event is older than it may be.", "gauge")
        writeStale("gatehouse_source_stale", "source", sources, sourceObjectives, &page)
    }

    private func writeAges(_ name: StaticString, _ label: StaticString, _ seen: LastSeen, _ page: inout MetricsWriter) {
        for index in seen.names.indices {
            page.sample(name, [(label, seen.names[index])], UInt64(seen.age(index, at: now) / 1000))
        }
    }

    private func writeObjectives(
        _ name: StaticString, _ label: StaticString, _ seen: LastSeen, _ objectives: [Int64?], _ page: inout MetricsWriter
    ) {
        for index in seen.names.indices {
            if let objective = objectives[index] { page.sample(name, [(label, seen.names[index])], UInt64(objective / 1000)) }
        }
    }

    private func writeStale(
        _ name: StaticString, _ label: StaticString, _ seen: LastSeen, _ objectives: [Int64?], _ page: inout MetricsWriter
    ) {
        for index in seen.names.indices {
            guard let objective = objectives[index] else { continue }
            page.sample(name, [(label, seen.names[index])], seen.age(index, at: now) > objective ? 1 : 0)
        }
    }

    private func writeMended(_ plan: TrackingPlan, _ page: inout MetricsWriter) {
        if plan.renamed.isEmpty { return }
        let name: StaticString = "gatehouse_fields_mended_total"
        page.family(name, "Fields that came under an old name, since the bundle was loaded.", "counter")
        for index in plan.renamed.indices {
            let label = plan.renamed[index]
            page.sample(name, [("event", label.event), ("field", label.field)], plan.mended.value(at: index))
        }
    }
}
