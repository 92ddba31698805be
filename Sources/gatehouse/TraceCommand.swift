// `gatehouse trace`: one person's events and decisions as they go through the stages of the running agent.

import Formats
import Platform

enum TraceCommand {
    static let help = """
        gatehouse trace REF

        Follows what happens with one person from now on, a line for each stage: an event is collected, governed by consent
        and plan, unified with a profile and delivered; a question is decided. Nothing is shown of what an event says. REF
        is a profile id or KIND:VALUE; - reads it from standard input, where no list of processes shows it. The token needs
        the role privacy, and the audit log tells that somebody looked. Ends with Ctrl-C.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, [], &code) else { return code }
        guard given.words.count == 1, var reference = given.words.first else {
            return Command.misuse("trace needs one reference", help)
        }
        if reference == [UInt8(ascii: "-")] { reference = ProfileCommand.line() }
        guard !reference.isEmpty, reference.count <= Limits.referenceBytes else {
            return Command.misuse("a reference has 1 to 1024 bytes", help)
        }
        guard let agent = AgentClient(given, &code) else { return code }
        var path = Array("/v1/trace/".utf8)
        ProfileCommand.percentEncode(reference, to: &path)
        path += Array("?after=".utf8)
        var last: UInt64 = 0
        while agent.exitCode == 0 {
            var target = path
            appendInteger(last, to: &target)
            guard let (answer, _) = agent.ask("GET", target, role: "privacy") else { break }
            var next = answer.member(answer.root, "lines").flatMap { answer.firstChild($0) }
            while let node = next {
                next = answer.next(node)
                var text: [UInt8] = []
                if given.has(.json) {
                    text.append(contentsOf: answer.source(node))
                } else {
                    PlainText.line(answer, node, to: &text)
                }
                text.append(0x0A)
                agent.write(text)
            }
            if let number = answer.member(answer.root, "last") { last = parseUInt64(answer.source(number)) ?? last }
            sleep(milliseconds: Limits.traceMilliseconds)
        }
        return agent.exitCode
    }
}
