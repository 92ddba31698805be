// `gatehouse doctor`: what is wrong with a device, in plain words, and what to do.

import Agent
import Formats
import Platform

enum DoctorCommand {
    static let help = """
        gatehouse doctor

        Says what is wrong with a device and what to do: asks the running agent, and looks at the device's files by the
        configuration, at more of them where the agent does not run. Exit code 1 when something is wrong. With tokens, more
        is said to one with the role operate.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, [], &code) else { return code }
        guard given.words.isEmpty else { return Command.misuse("doctor takes options only", help) }
        guard let agent = AgentClient(given, patience: Limits.doctorMilliseconds, &code) else { return code }
        var output = JSONWriter(reserving: 512)
        output.beginObject()
        output.key("problems")
        output.beginArray()
        let before = output.bytes.count
        var (status, body) = agent.look(Array("/readyz".utf8))
        for _ in 1..<Limits.doctorTries where status == 0 { (status, body) = agent.look(Array("/readyz".utf8)) }
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(body.span) } catch {}
        let problems = document.member(document.root, "problems")
        if let problems {
            var next = document.firstChild(problems)
            while let node = next {
                next = document.next(node)
                copy(document, node, to: &output)
            }
        } else {
            let words = status == 0 ? String(decoding: body, as: UTF8.self) : "what answers there is no Gatehouse agent"
            write("no-answer", words, to: &output)
        }
        if given[.url] == nil {
            Diagnosis.look(agent.configuration, isRunning: problems != nil) { write($0, $1, to: &output) }
        }
        let isWell = output.bytes.count == before
        output.endArray()
        output.endObject()
        if isWell, !given.has(.json) {
            Process.standardOutput("nothing is wrong\n")
        } else {
            show(output.bytes, agent, isJSON: given.has(.json))
        }
        return agent.exitCode != 0 ? agent.exitCode : isWell ? 0 : 1
    }

    private static func write(_ problem: StaticString, _ detail: String, to output: inout JSONWriter) {
        output.beginObject()
        output.key("problem")
        output.string(problem)
        output.key("detail")
        output.string(detail)
        output.endObject()
    }

    /// Writes what the agent says of a problem, and advice.
    private static func copy(_ document: borrowing JSONDocument, _ node: JSONNode, to output: inout JSONWriter) {
        output.beginObject()
        for key in ["problem", "destination", "detail"] as [StaticString] {
            guard let value = document.member(node, key) else { continue }
            output.key(key)
            output.value(document, value)
        }
        if let problem = document.member(node, "problem") {
            output.key("advice")
            output.string(Diagnosis.advice(on: document.bytes(problem)))
        }
        output.endObject()
    }

    /// `destination-down hub: A destination takes no events. …`, and below it what more is known.
    private static func show(_ bytes: [UInt8], _ agent: AgentClient, isJSON: Bool) {
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(bytes.span) } catch {}
        if isJSON { return agent.show(document, document.root) }
        var text: [UInt8] = []
        var next = document.member(document.root, "problems").flatMap { document.firstChild($0) }
        while let node = next {
            next = document.next(node)
            let parts: [(key: StaticString, before: StaticString)] = [
                ("problem", ""), ("destination", " "), ("advice", ": "), ("detail", "\n  "),
            ]
            for (key, before) in parts {
                guard let value = document.member(node, key) else { continue }
                text.append(contentsOf: before.bytes)
                PlainText.scalar(document, value, to: &text)
            }
            text.append(0x0A)
        }
        agent.write(text)
    }
}
