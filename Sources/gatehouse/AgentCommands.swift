// `gatehouse profile`, `quarantine` and `erasures`: what the people who answer for the data ask of the running agent.

import Formats
import Platform

enum ProfileCommand {
    static let help = """
        gatehouse profile show|export|erase REF

        REF is a profile id or KIND:VALUE, such as email:ada@example.org; - reads it from standard input, where no list of
        processes shows it. The token needs the role privacy.

          show      what is known of a person now
          export    everything that is stored of them, as JSON; --out F writes a new file that only you can read
          erase     erases them, here and at every destination, and prints the receipt; asks first unless --yes is given

        Taking one identifier away from a person (unlink) is not there yet.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, others: ["--out", "--yes"], &code) else { return code }
        guard let action = given.words.first, ["show", "export", "erase"].contains(action) else {
            return Command.misuse("profile needs show, export or erase", help)
        }
        guard given.words.count == 2 else { return Command.misuse("profile \(action) needs one reference", help) }
        let isFromInput = given.words[1] == "-"
        guard let reference = isFromInput ? line() : Array(given.words[1].utf8),
            !reference.isEmpty, reference.count <= Limits.referenceBytes
        else { return Command.misuse("a reference has 1 to 1024 bytes", help) }
        guard let agent = AgentClient(given, &code) else { return code }
        var path = Array("/v1/profiles/".utf8)
        percentEncode(reference, to: &path)
        switch action {
        case "export": export(agent, path, given.out)
        case "erase":
            if !given.isSure, let code = confirm(isFromInput) { return code }
            if let answer = agent.ask("DELETE", path, role: "privacy") { agent.show(answer.body, isJSON: given.isJSON) }
        default:
            if let answer = agent.ask("GET", path, role: "privacy") { agent.show(answer.body, isJSON: given.isJSON) }
        }
        return agent.exitCode
    }

    /// Asks whoever sits at the terminal.
    /// - Returns: nil when the answer is yes, otherwise the exit code.
    private static func confirm(_ isInputUsed: Bool) -> Int32? {
        if isInputUsed || !Process.isTerminal(0) {
            Process.standardError("gatehouse: profile erase asks first; where nobody can answer, give --yes\n")
            return 2
        }
        Process.standardError("Erase this person, here and at every destination? It cannot be undone. Type yes: ")
        if line() == Array("yes".utf8) { return nil }
        Process.standardError("gatehouse: nothing was erased\n")
        return 1
    }

    /// The first line of standard input, without spaces around it.
    private static func line() -> [UInt8]? {
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1)
        while text.count <= Limits.referenceBytes {
            do throws(SystemError) {
                if try readSome(0, into: &buffer) == 0 || buffer[0] == 0x0A { break }
            } catch { return nil }
            if buffer[0] > 0x20 || !text.isEmpty { text.append(buffer[0]) }
        }
        while let last = text.last, last <= 0x20 { text.removeLast() }
        return text
    }

    /// Everything but what RFC 3986 section 2.3 leaves as it is.
    private static func percentEncode(_ bytes: [UInt8], to output: inout [UInt8]) {
        for byte in bytes {
            let isLetter = (byte | 0x20) &- 0x61 < 26
            if isLetter || byte &- 0x30 < 10 || byte == 0x2D || byte == 0x2E || byte == 0x5F || byte == 0x7E {
                output.append(byte)
            } else {
                output += [UInt8(ascii: "%"), Hex.digit(byte >> 4), Hex.digit(byte & 0xF)]
            }
        }
    }

    // MARK: Export

    /// One JSON object of as many answers as there are: the agent gives the events a mebibyte at a time.
    private static func export(_ agent: AgentClient, _ path: [UInt8], _ out: String?) {
        var file: Descriptor?
        var after: UInt64 = 0
        var text: [UInt8] = []
        var hasEvents = false
        repeat {
            var target = path + Array("/export?after=".utf8)
            appendInteger(after, to: &target)
            guard let answer = agent.ask("GET", target, role: "privacy"), let page = agent.parse(answer.body) else { break }
            let isFirst = after == 0
            let next = page.member(page.root, "after").flatMap { page.int64($0) }.map { UInt64(clamping: $0) }
            if isFirst, let out {
                do throws(SystemError) { file = try Files.create(out, mode: 0o600) } catch {
                    return agent.fail("\(out): \(error.message)", 3)
                }
            }
            text.removeAll(keepingCapacity: true)
            if isFirst {
                append("{", "record", page, to: &text)
                text += Array(",\"events\":[".utf8)
            }
            if let events = page.member(page.root, "events"), page.firstChild(events) != nil {
                let source = page.source(events)
                if hasEvents { text.append(UInt8(ascii: ",")) }
                text.append(contentsOf: source.extracting(1..<source.count - 1))
                hasEvents = true
            }
            if next == nil {
                append("],", "quarantined", page, to: &text)
                append(",", "audit", page, to: &text)
                text += Array("}\n".utf8)
            }
            agent.write(text.span, to: file?.raw ?? 1)
            if let next, next <= after { agent.fail("the agent's answer begins anew without end", 3) }
            after = next ?? 0
        } while after > 0 && agent.exitCode == 0
        // Half a copy must not be taken for a whole one.
        if agent.exitCode != 0, file != nil, let out { Files.remove(out) }
    }

    private static func append(
        _ before: StaticString, _ key: StaticString, _ page: borrowing JSONDocument, to text: inout [UInt8]
    ) {
        text.append(contentsOf: before.bytes)
        var writer = JSONWriter()
        writer.string(key)
        text += writer.bytes
        text.append(UInt8(ascii: ":"))
        if let node = page.member(page.root, key) {
            text.append(contentsOf: page.source(node))
        } else {
            text += Array("null".utf8)
        }
    }
}

enum QuarantineCommand {
    static let help = """
        gatehouse quarantine list [--after N]
        gatehouse quarantine show N
        gatehouse quarantine release|delete N|--all

        Events that were set aside because they break the tracking plan. list names a hundred, and why; show prints one;
        release takes one, or the oldest thousand, through the rest of the journey once the plan has been mended; delete
        throws it away. The token needs the role privacy to list and show, operate to release and delete.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, others: ["--after", "--all"], &code) else { return code }
        guard let action = given.words.first, ["list", "show", "release", "delete"].contains(action) else {
            return Command.misuse("quarantine needs list, show, release or delete", help)
        }
        let isList = action == "list"
        let text = Array((isList ? given.after ?? "0" : given.words.count > 1 ? given.words[1] : "0").utf8)
        let number = parseUInt64(text.span)
        let isOne = given.words.count == 2 && !given.isAll && number != nil && number != 0
        let isEach = given.words.count == 1 && given.isAll && action != "show"
        guard isList ? given.words.count == 1 && number != nil && !given.isAll : isOne || isEach, let number else {
            return Command.misuse(
                isList ? "list takes --after N and nothing else" : "\(action) needs the number of an event in quarantine", help)
        }
        guard let agent = AgentClient(given, &code) else { return code }
        if isList || action == "show" {
            look(agent, number, given)
        } else {
            change(agent, action == "release", number, given)
        }
        return agent.exitCode
    }

    /// Lists what comes after a number, or shows one.
    private static func look(_ agent: AgentClient, _ number: UInt64, _ given: AgentArguments) {
        let isList = given.words[0] == "list"
        var target = Array("/v1/quarantine?after=".utf8)
        appendInteger(isList ? number : number - 1, to: &target)
        target += Array("&limit=".utf8)
        appendInteger(UInt64(isList ? Limits.listEntries : 1), to: &target)
        guard let answer = agent.ask("GET", target, role: "privacy"), let document = agent.parse(answer.body) else { return }
        guard let list = document.member(document.root, "quarantined") else { return }
        var text: [UInt8] = []
        if !isList {
            guard let entry = document.firstChild(list), let found = document.member(entry, "number"),
                document.int64(found) == Int64(clamping: number)
            else { return agent.fail("there is no event \(number) in quarantine", 1) }
            if given.isJSON {
                text.append(contentsOf: document.source(entry))
                text.append(0x0A)
            } else {
                PlainText.append(document, entry, to: &text)
            }
            return agent.write(text.span)
        }
        if given.isJSON { return agent.show(answer.body, isJSON: true) }
        var count = 0
        var entry = document.firstChild(list)
        while let node = entry {
            entry = document.next(node)
            count += 1
            line(document, node, to: &text)
        }
        if count == 0 { text = Array("nothing is in quarantine\n".utf8) }
        agent.write(text.span)
        if count == Limits.listEntries, let last = document.member(document.root, "last").flatMap({ document.int64($0) }) {
            Process.standardError("there may be more: --after \(last)\n")
        }
    }

    /// `17  2026-01-31T09:30:00.000Z  Order Completed  maximum at /properties/revenue`
    private static func line(_ document: borrowing JSONDocument, _ entry: JSONNode, to text: inout [UInt8]) {
        let what = document.member(entry, "what")
        let event = what.flatMap { document.member($0, "event") }
        let name = event.flatMap { document.member($0, "event") ?? document.member($0, "type") }
        let columns: [(StaticString, JSONNode?)] = [
            ("", document.member(entry, "number")), ("  ", document.member(entry, "receivedAt")), ("  ", name),
            ("  ", what.flatMap { document.member($0, "keyword") }), (" at ", what.flatMap { document.member($0, "pointer") }),
        ]
        for (before, node) in columns {
            text.append(contentsOf: before.bytes)
            if let node { PlainText.scalar(document, node, to: &text) }
        }
        text.append(0x0A)
    }

    private static func change(_ agent: AgentClient, _ isRelease: Bool, _ number: UInt64, _ given: AgentArguments) {
        var target = Array("/v1/quarantine/".utf8)
        if number == 0 { target += Array("all".utf8) } else { appendInteger(number, to: &target) }
        if isRelease { target += Array("/release".utf8) }
        // 409: the one event stays, and the answer says why.
        guard let answer = agent.ask(isRelease ? "POST" : "DELETE", target, role: "operate", other: isRelease ? 409 : 200) else {
            return
        }
        agent.show(answer.body, isJSON: given.isJSON)
        if answer.status == 409 { agent.fail("the event was not released; the reason is above", 1) }
    }
}

enum ErasuresCommand {
    static let help = """
        gatehouse erasures [RECEIPT] [--after RECEIPT]

        How far the erasure with this receipt is, or a hundred of them. The token needs the role privacy.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, others: ["--after"], &code) else { return code }
        var target = Array("/v1/erasures".utf8)
        if let receipt = given.words.first ?? given.after {
            let text = Array(receipt.utf8)
            guard Hex.decode(text.span)?.count == 16, given.words.count + (given.after == nil ? 0 : 1) == 1 else {
                return Command.misuse("erasures takes one receipt: 32 hex digits", help)
            }
            target += Array((given.after == nil ? "/" : "?after=").utf8) + text
        }
        guard let agent = AgentClient(given, &code) else { return code }
        if let answer = agent.ask("GET", target, role: "privacy") { agent.show(answer.body, isJSON: given.isJSON) }
        return agent.exitCode
    }
}
