// `gatehouse explain`: what was decided, and why, out of the device's log.

import Agent
import Formats
import Platform

enum ExplainCommand {
    static let help = """
        gatehouse explain ID [--json] [--config F]

        Shows what a decision came to and why: which rule was taken (those before it did not hold, failed, or were for another
        part of a group; those behind it were not asked), by which bundle, under which consent, and how old what was known was. ID is the `id` in the metadata of the answer. The record is in the
        device's log until every destination has it and `limits: { history }` lets it go; the agent may be running.

        To see what each rule says now, ask with the roles `decide` and `operate`:
        POST /ofrep/v1/evaluate/flags/KEY?explain=true

        """

    static func run(_ arguments: [String]) -> Int32 {
        guard let text = arguments.first, text != "--help", text != "--config", text != "--json" else {
            return UpkeepArguments.missing("explain needs the id of an answer", arguments, help)
        }
        var rest: [String] = []
        for argument in arguments.dropFirst() where argument != "--json" { rest.append(argument) }
        let isJSON = rest.count < arguments.count - 1
        var code: Int32 = 2
        guard let configuration = UpkeepArguments.configuration(rest, help, &code) else { return code }
        do throws(UpkeepError) {
            guard let records = try Upkeep.records(ofAnswer: Array(text.utf8), folder: configuration.data) else {
                return Command.misuse("an id has 16 hexadecimal digits, as in an answer's metadata: ", help, about: text)
            }
            if records.isEmpty {
                Process.complain(
                    "the log has no record of ", text,
                    ": it has gone, the bundle keeps only some (record), or the decision was about nobody who grants its purpose")
                return 1
            }
            for record in records {
                var line = record.record + [0x0A]
                if !isJSON { line = told(record.record) }
                Process.standardOutput(String(decoding: line, as: UTF8.self))
            }
            return 0
        } catch {
            Process.complain(error.message)
            return 3
        }
    }

    /// What is told of a record: a word for each member, in this order.
    private static let lines: [(label: StaticString, member: StaticString)] = [
        ("decision      ", "decision"), ("answer        ", "variant"), ("reason        ", "reason"), ("rule          ", "rule"),
        ("rule number   ", "ruleNumber"), ("rules         ", "rules"), ("capped        ", "capped"), ("its turn was  ", "yieldsTo"),
        ("consent       ", "consent"), ("bundle        ", "bundle"), ("bundle age, s ", "bundleAgeSeconds"),
        ("last seen, s  ", "profileAgeSeconds"), ("took, us      ", "latencyMicroseconds"), ("inputs        ", "inputs"),
    ]

    private static func told(_ record: [UInt8]) -> [UInt8] {
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(record.span) } catch { return [] }
        var text: [UInt8] = []
        if let time = document.member(document.root, "timestamp") {
            text.append(contentsOf: ("when          " as StaticString).bytes)
            text.append(contentsOf: document.bytes(time))
            text.append(0x0A)
        }
        guard let properties = document.member(document.root, "properties") else { return text }
        for line in lines {
            guard let value = document.member(properties, line.member) else { continue }
            text.append(contentsOf: line.label.bytes)
            if document.kind(value) == .string {
                text.append(contentsOf: document.bytes(value))
            } else {
                text.append(contentsOf: document.source(value))
            }
            text.append(0x0A)
        }
        return text
    }
}
