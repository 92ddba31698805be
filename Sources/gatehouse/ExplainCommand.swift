// `gatehouse explain`: what was decided, and why, out of the device's log.

import Agent
import Formats
import Platform

enum ExplainCommand {
    static let help = """
        gatehouse explain ID [--json] [--config F]

        Shows what a decision came to and why: which rule was taken, what became of the others, by which bundle, under
        which consent, and how old what was known was. ID is the `id` in the metadata of the answer. The record is in the
        device's log until every destination has it and `limits: { history }` lets it go; the agent may be running.

        To see what each rule says now, ask with the role `operate`:
        POST /ofrep/v1/evaluate/flags/KEY?explain=true

        """

    static func run(_ arguments: [String]) -> Int32 {
        var rest = arguments
        let isJSON = rest.contains("--json")
        rest.removeAll { $0 == "--json" }
        guard let text = rest.first, !text.utf8.isEmpty, text != "--help", text != "--config" else {
            return UpkeepArguments.missing("explain needs the id of an answer", arguments, help)
        }
        var code: Int32 = 2
        guard let configuration = UpkeepArguments.configuration(Array(rest.dropFirst()), help, &code) else { return code }
        do throws(UpkeepError) {
            guard let records = try Upkeep.records(ofAnswer: Array(text.utf8), folder: configuration.data) else {
                return Command.misuse("an id has 16 hexadecimal digits, as in an answer's metadata: ", help, about: text)
            }
            if records.isEmpty {
                Process.complain(
                    "the log has no record of ", text,
                    ": it has gone, the bundle keeps only some (`record`), or the decision was about nobody who grants its purpose")
                return 1
            }
            for record in records {
                if isJSON { Process.standardOutput(String(decoding: record.record, as: UTF8.self) + "\n") } else { print(record.record) }
            }
            return 0
        } catch {
            Process.complain(error.message)
            return 3
        }
    }

    private static func print(_ record: [UInt8]) {
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(record.span) } catch { return }
        guard let properties = document.member(document.root, "properties") else { return }
        func text(_ name: StaticString) -> String {
            guard let node = document.member(properties, name) else { return "" }
            return document.string(node) ?? String(copying: document.source(node))
        }
        var lines = "decision  \(text("decision")) -> \(text("variant")) (\(text("reason")))\n"
        if let time = document.member(document.root, "timestamp") { lines += "when      \(document.string(time) ?? ""), bundle \(text("bundle"))\n" }
        lines += "rules     " + words(text("ruleNumber"), text("rule"), of: text("rules")) + "\n"
        if text("capped") == "true" { lines += "          the person had been served as often as the cap allows\n" }
        if !text("yieldsTo").isEmpty { lines += "          it was the turn of \(text("yieldsTo"))\n" }
        lines += "consent   \(text("consent"))\n"
        let age = text("profileAgeSeconds")
        lines += age.isEmpty ? "person    no profile\n" : "person    last seen \(age) s before\n"
        lines += "bundle    loaded \(text("bundleAgeSeconds")) s before\n"
        lines += "took      \(text("latencyMicroseconds")) us; inputs \(text("inputs"))\n"
        Process.standardOutput(lines)
    }

    /// What became of the rules.
    private static func words(_ number: String, _ name: String, of count: String) -> String {
        if number.isEmpty { return "none of \(count) held: the default" }
        var words = "\(number) of \(count) was taken" + (name.isEmpty ? "" : ": \(name)")
        if number != "1" { words += "; those before it did not hold, failed, or were for other parts of a group" }
        return words + (number == count ? "" : "; those behind it were not looked at")
    }
}
