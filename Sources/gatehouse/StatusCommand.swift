// `gatehouse status`: the running agent at a glance, from what it says of its readiness and its metrics.

import Formats
import Platform

enum StatusCommand {
    static let help = """
        gatehouse status [--watch]

        Whether the agent is ready, and its accounts: events by what became of them, decisions, the store, and each
        destination. --watch looks again every two seconds. The token needs the role operate for more than the first lines.
        Exit code 3 when there is no agent or it is not ready.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, others: ["--watch"], &code) else { return code }
        guard given.words.isEmpty else { return Command.misuse("status takes options only", help) }
        guard let agent = AgentClient(given, &code) else { return code }
        while true {
            let isReady = look(agent, given)
            if !given.isWatching { return agent.exitCode != 0 ? agent.exitCode : isReady ? 0 : 3 }
            sleep(milliseconds: Limits.watchMilliseconds)
            agent.beginAgain()
        }
    }

    /// - Returns: whether the agent is ready.
    private static func look(_ agent: AgentClient, _ given: AgentArguments) -> Bool {
        guard let ready = agent.ask("GET", Array("/readyz".utf8), role: "operate", other: 503),
            let document = agent.parse(ready.body)
        else { return false }
        var output = JSONWriter(reserving: 1024)
        output.beginObject()
        for key in ["status", "bundle"] as [StaticString] {
            output.key(key)
            if let node = document.member(document.root, key) { output.value(document, node) } else { output.null() }
        }
        if let metrics = agent.ask("GET", Array("/metrics".utf8), role: "operate") { write(metrics.body.span, to: &output) }
        output.endObject()
        // On a terminal each look takes the place of the one before.
        if given.isWatching, !given.isJSON, Process.isTerminal(1) { Process.standardOutput("\u{1B}[H\u{1B}[2J") }
        agent.show(output.bytes, isJSON: given.isJSON)
        return ready.status == 200
    }

    // MARK: Metrics

    /// One line of the text format of Prometheus: the values of its labels, and its own.
    private struct Sample {
        var labels: [[UInt8]] = []
        var value: UInt64 = 0
    }

    private static func write(_ metrics: Span<UInt8>, to output: inout JSONWriter) {
        output.key("events")
        output.beginObject()
        for sample in samples(metrics, "gatehouse_events_total") where sample.labels.count == 1 {
            output.key(sample.labels[0])
            output.uint(sample.value)
        }
        output.endObject()
        group(
            "decisions", metrics, to: &output,
            [
                ("matched", "gatehouse_decisions_matched_total"), ("default", "gatehouse_decisions_default_total"),
                ("errors", "gatehouse_decision_errors_total"),
            ])
        group(
            "store", metrics, to: &output,
            [
                ("profiles", "gatehouse_profiles"), ("usedBytes", "gatehouse_store_used_bytes"),
                ("limitBytes", "gatehouse_store_limit_bytes"),
            ])
        output.key("destinations")
        output.beginObject()
        var name: [UInt8] = []
        for sample in samples(metrics, "gatehouse_destination_events") where sample.labels.count == 2 {
            if name != sample.labels[0] {
                if !name.isEmpty { output.endObject() }
                name = sample.labels[0]
                output.key(name)
                output.beginObject()
            }
            output.key(sample.labels[1])
            output.uint(sample.value)
        }
        if !name.isEmpty { output.endObject() }
        output.endObject()
    }

    private static func group(
        _ key: StaticString, _ metrics: Span<UInt8>, to output: inout JSONWriter, _ members: [(StaticString, StaticString)]
    ) {
        output.key(key)
        output.beginObject()
        for (name, metric) in members {
            guard let sample = samples(metrics, metric).first else { continue }
            output.key(name)
            output.uint(sample.value)
        }
        output.endObject()
    }

    /// The samples of one metric, in their order.
    private static func samples(_ metrics: Span<UInt8>, _ name: StaticString) -> [Sample] {
        let name = name.bytes
        var found: [Sample] = []
        var start = 0
        while start < metrics.count {
            var end = start
            while end < metrics.count, metrics[end] != 0x0A { end += 1 }
            let line = metrics.extracting(start..<end)
            start = end + 1
            guard line.count > name.count, equal(line.extracting(0..<name.count), name) else { continue }
            if let sample = sample(line.extracting(name.count..<line.count)) { found.append(sample) }
        }
        return found
    }

    /// What follows a metric's name: ` 5`, or `{destination="hub",state="queued"} 5`.
    private static func sample(_ text: Span<UInt8>) -> Sample? {
        var sample = Sample()
        var index = 0
        if text[0] == UInt8(ascii: "{") {
            var label: [UInt8] = []
            var isInside = false
            while index < text.count, isInside || text[index] != UInt8(ascii: "}") {
                if text[index] == UInt8(ascii: "\"") {
                    if isInside { sample.labels.append(label) }
                    label = []
                    isInside.toggle()
                } else if isInside {
                    label.append(text[index])
                }
                index += 1
            }
            index += 1
        }
        guard index < text.count, text[index] == 0x20 else { return nil }
        guard let value = parseUInt64(text.extracting(index + 1..<text.count)) else { return nil }
        sample.value = value
        return sample
    }
}
