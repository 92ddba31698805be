// What `/metrics` shows: the accounts of the store, the meters of this run, and the state of every destination.

import Activation
import Delivery
import Monitoring
import Platform
import Serving
import Store
import Synchronization

struct MetricsPage {
    let meters: Meters
    let statistics: ServerStatistics
    let database: Database
    let bundles: BundleHolder
    let senders: SenderList
    let watch: PlanWatch
    let shadow: Shadow?
    let health: Health
    let isHub: Bool
    let floor: ClockFloor
    let findings: [Finding]
    /// Milliseconds since the epoch.
    let now: Int64

    func write(to page: inout MetricsWriter, _ reader: borrowing Reader) {
        do throws(StoreError) {
            let ledger = try Ledger(reader)
            writeEvents(ledger, &page)
            page.counter(
                "gatehouse_events_generated_total",
                "Events that the device made: triggers, audiences, notices of erasures. With those admitted, all of the log.",
                ledger.generated)
            try writeDestinations(ledger, &page, reader)
        } catch {
            Log.error("the accounts cannot be read", because: error.message)
        }
        page.counter("gatehouse_decisions_matched_total", "Decisions that a rule made.", meters.decisionsMatched.current)
        page.counter("gatehouse_decisions_default_total", "Decisions answered by the default.", meters.decisionsDefault.current)
        page.counter("gatehouse_decision_errors_total", "Questions without an answer.", meters.decisionErrors.current)
        bundles.current.policy.decisions.writeCounts(to: &page)
        page.counter(
            "gatehouse_evaluation_errors_total", "Rules that could not be evaluated and did not match.",
            meters.evaluationErrors.current)
        if let shadow { writeShadow(shadow.changes, &page) }
        page.counter(
            "gatehouse_events_invalid_total", "Events that did not fit their schema, whatever was done with them.",
            meters.eventsInvalid.current)
        // A hub takes what its agents have held against their plans.
        if isHub { writeDevices(&page, reader) } else { writePlan(bundles.current.plans.tracking, &page) }
        page.counter(
            "gatehouse_requests_refused_total", "Requests refused before they held an event.", meters.requestsRefused.current)
        page.counter(
            "gatehouse_requests_shed_total",
            "Requests answered 503 for want of room, and events that were not kept after an answer from memory.",
            meters.requestsShed.current)
        page.counter("gatehouse_identity_merges_total", "Profiles joined.", meters.identityMerges.current)
        page.family("gatehouse_links_refused_total", "Links between identifiers that join nobody.", "counter")
        page.sample("gatehouse_links_refused_total", "reason", "unique", meters.linksAgainstGuard.current)
        page.sample("gatehouse_links_refused_total", "reason", "too_many_identifiers", meters.linksAgainstLimit.current)
        page.sample("gatehouse_links_refused_total", "reason", "nobodys", meters.linksOfNobody.current)
        page.counter("gatehouse_bad_records_total", "Records that failed their checksum.", meters.badRecords.current)
        writePurged(&page)
        writeRecomputation(&page)
        writeTriggers(&page)
        page.family("gatehouse_decision_records_total", "Records of decisions by what became of them, since the start.", "counter")
        page.sample("gatehouse_decision_records_total", "outcome", "kept", meters.recordsKept.current)
        page.sample("gatehouse_decision_records_total", "outcome", "lost", meters.recordsLost.current)
        page.gauge("gatehouse_timers", "Timers that are pending.", reader.count(reader.tables.timers))
        page.counter(
            "gatehouse_profiles_evicted_total",
            "Profiles that made room for others (limits.profiles, limits.profile_bytes).", meters.evictedProfiles.current)
        page.family("gatehouse_events_shed_total", "Events that made room for others on a full disk, since the start.", "counter")
        for priority in 0..<meters.shedEvents.count where meters.shedEvents.value(at: priority) > 0 {
            var labels: [UInt8] = []
            MetricsWriter.appendLabel("priority", [UInt8(ascii: "0") + UInt8(priority)], to: &labels)
            page.sample("gatehouse_events_shed_total", labels: labels, meters.shedEvents.value(at: priority))
        }
        page.gauge("gatehouse_quarantine_events", "Events in quarantine.", reader.count(reader.tables.quarantine))
        page.counter(
            "gatehouse_quarantine_dropped_total", "Events that made room for others in quarantine.",
            meters.droppedQuarantined.current)
        page.counter(
            "gatehouse_values_refused_total", "Values that are too long, or for which a profile has no room.",
            meters.refusedValues.current)
        page.counter(
            "gatehouse_shared_changes_refused_total", "Changes told by another device or the hub that were left out.",
            meters.changesRefused.current)
        page.counter("gatehouse_commits_total", "Committed transactions.", meters.commits.current)
        page.gauge(
            "gatehouse_connections", "Open connections.", Int64(statistics.openConnections.load(ordering: .relaxed)))
        page.counter(
            "gatehouse_requests_total", "Requests.", UInt64(statistics.requests.load(ordering: .relaxed)))
        page.counter(
            "gatehouse_malformed_requests_total", "Requests that broke the protocol or its limits.",
            UInt64(statistics.malformedRequests.load(ordering: .relaxed)))
        page.counter(
            "gatehouse_connections_refused_total", "Connections and requests on them answered 503 for want of room.",
            UInt64(statistics.refusedConnections.load(ordering: .relaxed)))
        page.counter(
            "gatehouse_requests_timed_out_total", "Requests answered 408: they came too slowly.",
            UInt64(statistics.timedOutRequests.load(ordering: .relaxed)))
        writeBundle(&page)
        page.gauge(
            "gatehouse_clock_behind_seconds", "How far the device's clock is behind the last time known; 0: it is not.",
            max(0, floor.seconds - now / 1000))
        page.gauge("gatehouse_store_used_bytes", "Bytes of the store's file in use.", database.usedBytes)
        page.gauge("gatehouse_store_limit_bytes", "The most that the store's file may grow to.", database.mapBytes)
        writeDisk(&page)
        writeRebuilds(&page)
        page.gauge("gatehouse_profiles", "Profiles in the store.", reader.count(reader.tables.profiles))
        page.gauge(
            "gatehouse_profile_bytes", "Bytes of the store that profiles take.",
            reader.bytes(of: reader.tables.profiles) + reader.bytes(of: reader.tables.parts))
        if let resident = Process.residentMemory() {
            page.family(
                "gatehouse_memory_bytes", "Memory of the process: its own, and pages of files, most of them the store's.", "gauge")
            page.sample("gatehouse_memory_bytes", "of", "anonymous", UInt64(resident.anonymousBytes))
            page.sample("gatehouse_memory_bytes", "of", "file", UInt64(resident.fileBytes))
        }
        page.counter(
            "gatehouse_memory_releases_total", "Times that pages of the store were given back for limits.memory.",
            meters.memoryReleases.current)
        page.histogram("gatehouse_decide_seconds", "Time to answer a question.", meters.decide)
        page.histogram("gatehouse_admit_seconds", "Time from an event's arrival to its answer.", meters.admit)
        page.histogram("gatehouse_commit_seconds", "Time of a commit with its syncs.", meters.commit)
        page.histogram(
            "gatehouse_activate_seconds", "From when an admitted event happened until every decision sees what it changed.",
            meters.activate)
        page.family("gatehouse_problems", "What is wrong now, as /readyz and gatehouse doctor name it.", "gauge")
        for (number, word) in Problem.words.enumerated() {
            var count: UInt64 = 0
            for finding in findings where finding.problem.rawValue == number { count += 1 }
            page.sample("gatehouse_problems", "problem", word, count)
        }
    }

    private func writeDisk(_ page: inout MetricsWriter) {
        // Of the pages that the next transaction can take, those that were in use before.
        let fresh = (database.mapBytes - database.usedBytes) / Int64(Process.pageBytes)
        if let free = try? database.freePages(atMost: .max) {
            page.gauge(
                "gatehouse_store_free_pages", "Pages of the store's file that are free to be used again.",
                max(0, Int64(free) - fresh))
        }
        if let bytes = Files.freeBytes(database.path) {
            page.gauge("gatehouse_disk_free_bytes", "Room on the file system of the store.", bytes)
        }
        guard let written = Process.writtenBytes() else { return }
        page.counter("gatehouse_disk_written_bytes_total", "Bytes written to disks since the start.", UInt64(written))
        page.gauge(
            "gatehouse_disk_bytes_per_event", "The same for each event admitted since then.",
            written / max(1, Int64(meters.activate.total)))
    }

    private func writeRebuilds(_ page: inout MetricsWriter) {
        let counts: [(StaticString, StaticString, Gauge)] = [
            ("gatehouse_store_rebuilds_total", "Times that another store took the place of one.", meters.storeRebuilds),
            ("gatehouse_store_lost_events_total", "Events that had been admitted and were lost by it.", meters.storeLostEvents),
            ("gatehouse_store_losses_unknown_total", "Times that how many cannot be told.", meters.storeLossesUnknown),
        ]
        for (name, help, gauge) in counts { page.counter(name, help, UInt64(gauge.current)) }
        writeAge("gatehouse_snapshot_age_seconds", "Age of the store's newest snapshot.", meters.snapshotAt, now, 1000, &page)
        writeAge(
            "gatehouse_store_checked_age_seconds", "Since every row was held against its checksum.", meters.storeCheckedAt,
            SystemClock().monotonicNanoseconds(), 1_000_000_000, &page)
    }

    /// How long ago something was, in seconds; nothing for what never was.
    @inline(never)
    private func writeAge(
        _ name: StaticString, _ help: StaticString, _ at: Gauge, _ now: Int64, _ second: Int64, _ page: inout MetricsWriter
    ) {
        let time = at.current
        if time > 0 { page.gauge(name, help, max(0, now - time) / second) }
    }

    private func writeBundle(_ page: inout MetricsWriter) {
        page.gauge("gatehouse_bundle_version", "Version of the bundle in force.", meters.bundleVersion.current)
        page.gauge(
            "gatehouse_bundle_age_seconds", "Time since the bundle in force was loaded, or known to be the newest.",
            bundles.current.policy.age(at: now) / 1000)
        let checkedAt = meters.bundleCheckedAt.current
        if checkedAt > 0 {
            page.gauge(
                "gatehouse_bundle_check_age_seconds", "Time since it was last looked for another one.",
                max(0, now - checkedAt) / 1000)
        }
        page.gauge(
            "gatehouse_bundle_stale", "1 while the last good bundle is in force because there is no other good one.",
            health.bundleState == .stale ? 1 : 0)
        page.family("gatehouse_bundle_refused_total", "Bundles that were not taken, by why, since the start.", "counter")
        for (number, word) in BundleProblem.words.enumerated() {
            page.sample("gatehouse_bundle_refused_total", "reason", word, meters.bundlesRefused.value(at: number))
        }
    }

    private func writeEvents(_ ledger: Ledger, _ page: inout MetricsWriter) {
        page.family("gatehouse_events_total", "Events by what became of them; received is the sum of the rest.", "counter")
        for (name, value) in ledger.terms { page.sample("gatehouse_events_total", "outcome", name, value) }
    }

    private func writeDevices(_ page: inout MetricsWriter, _ reader: borrowing Reader) {
        var late: UInt64 = 0
        var missing: UInt64 = 0
        do throws(StoreError) {
            try reader.scan(reader.tables.devices, from: Span<UInt8>()) { _, record in
                guard let device = DeviceRecord(record) else { return true }
                if device.isLate(at: now) { late += 1 }
                // What they say of themselves can be any number.
                missing = missing.addingReportingOverflow(device.missing).overflow ? .max : missing + device.missing
                return true
            }
        } catch {
            return
        }
        page.gauge("gatehouse_devices", "Devices that deliver here.", reader.count(reader.tables.devices))
        page.gauge("gatehouse_devices_late", "Of these, those of which nothing was heard for 15 minutes.", Int64(late))
        page.gauge(
            "gatehouse_device_messages_missing", "Numbers of their messages that have not come: not sent here, or lost.",
            Int64(clamping: missing))
    }

    private func writeShadow(_ changes: DecisionChanges, _ page: inout MetricsWriter) {
        let (decisions, changed): (StaticString, StaticString) = (
            "gatehouse_shadow_decisions_total", "gatehouse_shadow_changes_total"
        )
        page.family(decisions, "Decisions that the shadow was asked for as well, by whether it serves the same.", "counter")
        for row in changes.rows {
            page.sample(decisions, "decision", row.key, "outcome", "same", row.same)
            page.sample(decisions, "decision", row.key, "outcome", "different", row.different)
        }
        page.family(changed, "What the shadow would serve in place of what.", "counter")
        for row in changes.rows {
            for change in row.changes.rows {
                var labels: [UInt8] = []
                MetricsWriter.appendLabel("decision", row.key, to: &labels)
                MetricsWriter.appendLabel("change", change.name, to: &labels)
                page.sample(changed, labels: labels, change.count)
            }
        }
    }

    /// What crosses the wire, by destination and purpose, and whether it waits for hours or another day's budget.
    private func writeWire(_ running: [(name: [UInt8], meters: SenderMeters)], _ page: inout MetricsWriter) {
        let held: StaticString = "1 while events of tier batch wait for their hours or for another day's budget."
        write("gatehouse_destination_held", held, .held, &page)
        let latency: StaticString = "gatehouse_destination_realtime_seconds"
        page.family(latency, "From the arrival of an event of tier realtime until its destination has it.", "histogram")
        for entry in running { write(entry.meters.realtime, latency, entry.name, &page) }
        let deliver: StaticString = "gatehouse_deliver_seconds"
        page.family(deliver, "Time of a request to a destination.", "histogram")
        for entry in running { write(entry.meters.requests, deliver, entry.name, &page) }
        let families: [(StaticString, StaticString, StaticString)] = [
            ("gatehouse_destination_purpose_events_total", "Events delivered since the start, by purpose.", "counter"),
            ("gatehouse_destination_purpose_bytes_total", "Their share of the bytes of bodies as sent.", "counter"),
            ("gatehouse_destination_bytes_per_1000_events", "Bytes as sent for each 1,000 events.", "gauge"),
            (
                "gatehouse_destination_cost_per_1000_events",
                "What each 1,000 events cost on the way, in millionths of the currency of cost.", "gauge"
            ),
        ]
        let (names, destinations) = (bundles.current.policy.purposes.names, bundles.current.destinations)
        for (number, (name, help, type)) in families.enumerated() {
            page.family(name, help, type)
            for entry in running {
                let cost = destinations.first { $0.destination.name == entry.name }?.destination.cost
                if number == 3, cost == nil { continue }
                for purpose in 0..<entry.meters.purposeEvents.count {
                    let events = entry.meters.purposeEvents.value(at: purpose)
                    if events == 0 { continue }
                    let bytes = entry.meters.purposeBytes.value(at: purpose)
                    let each = Double(bytes) * 1000 / Double(events)
                    let price = each / Double(1 << 30) * (cost ?? 0) * 1_000_000
                    var labels: [UInt8] = []
                    MetricsWriter.appendLabel("destination", entry.name, to: &labels)
                    MetricsWriter.appendLabel(
                        "purpose", purpose < names.count ? names[purpose] : Array("none".utf8), to: &labels)
                    let values = [events, bytes, UInt64(each.rounded()), UInt64(min(price.rounded(), 1e18))]
                    page.sample(name, labels: labels, values[number])
                }
            }
        }
    }

    @inline(never)
    private func write(
        _ histogram: Histogram, _ name: StaticString, _ destination: [UInt8], _ page: inout MetricsWriter
    ) {
        var labels: [UInt8] = []
        MetricsWriter.appendLabel("destination", destination, to: &labels)
        page.samples(name, labels: labels, histogram)
    }

    private func writePurged(_ page: inout MetricsWriter) {
        page.family("gatehouse_purged_total", "What was taken away because its time was up, since the start.", "counter")
        let terms: [(StaticString, UInt64)] = [
            ("profiles", meters.purgedProfiles.current), ("attributes", meters.purgedAttributes.current),
            ("events", meters.purgedEvents.current), ("quarantined", meters.purgedQuarantined.current),
        ]
        for (name, value) in terms { page.sample("gatehouse_purged_total", "what", name, value) }
    }

    private func writeRecomputation(_ page: inout MetricsWriter) {
        page.family(
            "gatehouse_recompute_events_total", "Events of the log that were counted once more for attributes that are new.",
            "counter")
        let terms: [(StaticString, UInt64)] = [
            ("counted", meters.recomputeCounted.current), ("unchanged", meters.recomputeUnchanged.current),
            ("denied", meters.recomputeDenied.current), ("missing", meters.recomputeMissing.current),
        ]
        for (name, value) in terms { page.sample("gatehouse_recompute_events_total", "outcome", name, value) }
        page.gauge(
            "gatehouse_recompute_pending", "Events of the log that are yet to be counted once more.",
            meters.recomputePending.current)
    }

    private func writeTriggers(_ page: inout MetricsWriter) {
        page.family("gatehouse_triggers_total", "Triggers by what became of them, since the start.", "counter")
        let terms: [(StaticString, UInt64)] = [
            ("fired", meters.triggersFired.current), ("called_off", meters.triggersCalledOff.current),
            ("late", meters.triggersLate.current), ("denied", meters.triggersDenied.current),
            ("rested", meters.triggersRested.current),
        ]
        for (name, value) in terms { page.sample("gatehouse_triggers_total", "outcome", name, value) }
    }

    /// `queued` is counted from the cursor to the log's end, and not as what the other terms leave over.
    private func writeDestinations(
        _ ledger: Ledger, _ page: inout MetricsWriter, _ reader: borrowing Reader
    ) throws(StoreError) {
        page.family(
            "gatehouse_destination_events", "Events by destination; admitted is the sum of the rest but rejected.", "gauge")
        for entry in bundles.current.destinations {
            let name = entry.destination.name
            guard let account = try DestinationLedger(reader, name: name) else { continue }
            let terms: [(StaticString, UInt64)] = [
                ("admitted", ledger.nextSequence - account.since), ("delivered", account.delivered),
                ("queued", account.queued(next: ledger.nextSequence)), ("filtered", account.filtered),
                ("expired", account.expired), ("evicted", account.evicted), ("erased", account.erased),
                ("rejected", account.rejected),
            ]
            for (term, value) in terms {
                page.sample("gatehouse_destination_events", "destination", name, "state", term, value)
            }
        }
        let running = senders.all
        write("gatehouse_destination_batches_total", "Batches delivered since the start.", .batches, &page)
        write("gatehouse_destination_bytes_total", "Compressed bytes delivered since the start.", .bytes, &page)
        writeWire(running, &page)
        write("gatehouse_destination_retries_total", "Requests that will be repeated.", .retries, &page)
        write("gatehouse_destination_up", "0 when the last request failed.", .up, &page)
        write("gatehouse_destination_breaker", "1 while requests are kept away from it.", .open, &page)
        let failures: StaticString = "gatehouse_destination_failures_total"
        page.family(failures, "Requests that failed, by where, since the start.", "counter")
        for entry in running {
            for (number, word) in SenderMeters.failureWords.enumerated() {
                page.sample(failures, "destination", entry.name, "stage", word, entry.meters.failures.value(at: number))
            }
        }
    }

    /// What is shown of a sender.
    private enum Reading { case batches, bytes, retries, up, open, held }

    /// A family with a sample for each destination.
    @inline(never)
    private func write(_ name: StaticString, _ help: StaticString, _ reading: Reading, _ page: inout MetricsWriter) {
        let isCounter = reading == .batches || reading == .bytes || reading == .retries
        page.family(name, help, isCounter ? "counter" : "gauge")
        for (destination, meters) in senders.all {
            let (state, value): (StaticString, UInt64) =
                switch reading {
                case .batches: ("sent", meters.batches.current)
                case .bytes: ("sent", meters.bytesSent.current)
                case .retries: ("sent", meters.retries.current)
                case .up: ("up", meters.trouble.current.utf8.isEmpty ? 1 : 0)
                case .open: ("open", UInt64(meters.isBreakerOpen.current))
                case .held: ("held", UInt64(meters.isHeld.current))
                }
            page.sample(name, "destination", destination, "state", state, value)
        }
    }
}
