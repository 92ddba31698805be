// `gatehouse status`: the running agent at a glance, from what it says of its readiness and its metrics.

import Formats
import Platform

enum StatusCommand {
    static let help = """
        gatehouse status [--watch]

        Whether the agent is ready, and its accounts: events by what became of them, decisions, the store, and each
        destination; of a hub, the devices that deliver to it. --watch looks again every two seconds. The token needs the
        role operate for more than the first lines.
        Exit code 3 when there is no agent or it is not ready.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, [.watch], &code) else { return code }
        guard given.words.isEmpty else { return Command.misuse("status takes options only", help) }
        guard let agent = AgentClient(given, &code) else { return code }
        // On a terminal each look takes the place of the one before.
        let clears = given.has(.watch) && !given.has(.json) && Process.isTerminal(1)
        while true {
            let isReady = look(agent, clears)
            if !given.has(.watch) { return agent.exitCode != 0 ? agent.exitCode : isReady ? 0 : 3 }
            sleep(milliseconds: Limits.watchMilliseconds)
            agent.beginAgain()
        }
    }

    /// - Returns: whether the agent is ready.
    private static func look(_ agent: AgentClient, _ clears: Bool) -> Bool {
        guard let (ready, isReady) = agent.ask("GET", Array("/readyz".utf8), role: "operate", other: 503) else { return false }
        var output = JSONWriter(reserving: 1024)
        output.beginObject()
        for key in ["status", "reason", "bundle", "bundleAgeSeconds", "bundleProblem", "problems"] as [StaticString] {
            guard let node = ready.member(ready.root, key) else { continue }
            if ready.kind(node) == .array, ready.count(node) == 0 { continue }
            output.key(key)
            output.value(ready, node)
        }
        if let (metrics, _) = agent.askForText("GET", Array("/metrics".utf8), role: "operate") {
            write(metrics.span, to: &output)
            writeDevices(agent, metrics.span, to: &output)
        }
        output.endObject()
        if clears { Process.standardOutput("\u{1B}[H\u{1B}[2J") }
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(output.bytes.span) } catch {}
        agent.show(document, document.root)
        return isReady
    }

    /// Of a hub: who delivers there.
    private static func writeDevices(_ agent: AgentClient, _ metrics: Span<UInt8>, to output: inout JSONWriter) {
        let name = ("\ngatehouse_devices " as StaticString).bytes
        var start = 0
        while start + name.count <= metrics.count {
            if equal(metrics.extracting(start..<start + name.count), name) {
                guard let (answer, _) = agent.ask("GET", Array("/v1/devices".utf8), role: "operate"),
                    let list = answer.member(answer.root, "devices")
                else { return }
                output.key("devices")
                output.value(answer, list)
                return
            }
            start += 1
        }
    }

    // MARK: Metrics

    /// What is shown of them: the metric, and its name here. A metric with labels is an object of what they are.
    private static let shown: [(metric: StaticString, name: StaticString)] = [
        ("gatehouse_profiles ", "profiles"), ("gatehouse_store_used_bytes ", "usedBytes"),
        ("gatehouse_store_limit_bytes ", "limitBytes"), ("gatehouse_clock_behind_seconds ", "clockBehindSeconds"),
        ("gatehouse_decisions_matched_total ", "decisionsMatched"),
        ("gatehouse_decisions_default_total ", "decisionsDefault"), ("gatehouse_decision_errors_total ", "decisionErrors"),
        ("gatehouse_events_total{", "events"), ("gatehouse_destination_events{", "destinations"),
        ("gatehouse_destination_held{", "held"), ("gatehouse_destination_bytes_per_1000_events{", "bytesPer1000Events"),
        ("gatehouse_destination_cost_per_1000_events{", "millionthsPer1000Events"), ("gatehouse_events_shed_total{", "shed"),
        ("gatehouse_shadow_decisions_total{", "shadow"), ("gatehouse_shadow_changes_total{", "shadowChanges"),
    ]

    /// Reads the text format of Prometheus: lines of `name 5` or `name{destination="hub",state="queued"} 5`.
    private static func write(_ metrics: Span<UInt8>, to output: inout JSONWriter) {
        for (metric, name) in shown {
            output.key(name)
            let prefix = metric.bytes
            let hasLabels = prefix[prefix.count - 1] == UInt8(ascii: "{")
            if hasLabels { output.beginObject() }
            var group: [UInt8] = []
            var start = 0
            while start < metrics.count {
                var end = start
                while end < metrics.count, metrics[end] != 0x0A { end += 1 }
                if end - start > prefix.count, equal(metrics.extracting(start..<start + prefix.count), prefix) {
                    writeSample(metrics.extracting(start + prefix.count..<end), hasLabels, &group, to: &output)
                }
                start = end + 1
            }
            if !group.isEmpty { output.endObject() }
            if hasLabels { output.endObject() }
        }
    }

    /// Writes what follows a metric's name: the value, and before it the last label as the key and the one before as the
    /// object that it is in.
    private static func writeSample(
        _ line: Span<UInt8>, _ hasLabels: Bool, _ group: inout [UInt8], to output: inout JSONWriter
    ) {
        var label: [UInt8] = []
        var previous: [UInt8] = []
        var isInside = false
        var valueStart = 0
        for index in line.indices where hasLabels {
            if line[index] == UInt8(ascii: "\"") {
                isInside.toggle()
                if isInside {
                    previous = label
                    label = []
                }
            } else if isInside {
                label.append(line[index])
            } else if line[index] == 0x20 {
                valueStart = index + 1
            }
        }
        if hasLabels {
            if previous != group {
                if !group.isEmpty { output.endObject() }
                group = previous
                output.key(group)
                output.beginObject()
            }
            output.key(label)
        }
        output.uint(parseUInt64(line.extracting(valueStart..<line.count)) ?? 0)
    }
}
