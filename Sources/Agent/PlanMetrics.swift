// The part of `/metrics` that looks after the tracking plan. Its labels are names of the bundle and of the configuration,
// and of fields those that SchemaDrift lets through.

import Collection
import Monitoring

extension MetricsPage {
    /// What is shown of something that is watched.
    private enum Column { case age, objective, stale }

    func writePlan(_ plan: TrackingPlan, _ page: inout MetricsWriter) {
        if !plan.renamed.isEmpty { writeMended(plan, &page) }
        let (events, sources) = (plan.seen, watch.sources)
        let (ofEvents, ofSources) = (
            events.names.map { plan.objective(ofEvent: $0) }, sources.names.map { plan.objective(ofSource: $0) }
        )
        page.family("gatehouse_event_age_seconds", "Time since the last event, or since it is watched.", "gauge")
        write(.age, "gatehouse_event_age_seconds", "event", events, ofEvents, &page)
        page.family("gatehouse_event_objective_seconds", "How old the last event may be.", "gauge")
        write(.objective, "gatehouse_event_objective_seconds", "event", events, ofEvents, &page)
        page.family("gatehouse_event_stale", "1 while the last event is older than it may be.", "gauge")
        write(.stale, "gatehouse_event_stale", "event", events, ofEvents, &page)
        page.family("gatehouse_source_age_seconds", "Time since a source's last event, or since it is watched.", "gauge")
        write(.age, "gatehouse_source_age_seconds", "source", sources, ofSources, &page)
        page.family("gatehouse_source_objective_seconds", "How old a source's last event may be.", "gauge")
        write(.objective, "gatehouse_source_objective_seconds", "source", sources, ofSources, &page)
        page.family("gatehouse_source_stale", "1 while a source's last event is older than it may be.", "gauge")
        write(.stale, "gatehouse_source_stale", "source", sources, ofSources, &page)
        page.family(
            "gatehouse_schema_drift_total", "Fields that appeared, went missing, or came with another type than usual.",
            "counter")
        let (labels, counts) = watch.changes
        for row in labels.indices { page.sample("gatehouse_schema_drift_total", labels: labels[row], counts[row]) }
    }

    @inline(never)
    private func write(
        _ column: Column, _ name: StaticString, _ label: StaticString, _ seen: LastSeen, _ objectives: [Int64],
        _ page: inout MetricsWriter
    ) {
        for index in seen.names.indices {
            let (objective, age) = (objectives[index], seen.age(index, at: now))
            if column != .age, objective == 0 { continue }
            var labels: [UInt8] = []
            MetricsWriter.appendLabel(label, seen.names[index], to: &labels)
            let value = column == .age ? age / 1000 : column == .objective ? objective / 1000 : age > objective ? 1 : 0
            page.sample(name, labels: labels, UInt64(value))
        }
    }

    private func writeMended(_ plan: TrackingPlan, _ page: inout MetricsWriter) {
        let name: StaticString = "gatehouse_fields_mended_total"
        page.family(name, "Fields that came under an old name, since the bundle was loaded.", "counter")
        for index in plan.renamed.indices {
            var labels: [UInt8] = []
            MetricsWriter.appendLabel("event", plan.renamed[index], to: &labels)
            MetricsWriter.appendLabel("field", plan.renamedFields[index], to: &labels)
            page.sample(name, labels: labels, plan.mended.value(at: index))
        }
    }
}
