// The part of `/metrics` that looks after the tracking plan. Its labels are names of the bundle and of the configuration.

import Collection
import Monitoring

extension MetricsPage {
    func writePlan(_ plan: TrackingPlan, _ page: inout MetricsWriter) {
        writeMended(plan, &page)
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
