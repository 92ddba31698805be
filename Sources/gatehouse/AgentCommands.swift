// `gatehouse profile`, `quarantine` and `erasures`: what the people who answer for the data ask of the running agent.

import Formats
import Platform

enum ProfileCommand {
    static let help = """
        gatehouse profile show|export|erase REF
        gatehouse profile unlink KIND:VALUE [--from KIND:VALUE]

        REF is a profile id or KIND:VALUE, such as email:ada@example.org; - reads it from standard input, where no list of
        processes shows it. The token needs the role privacy.

          show      what is known of a person now
          export    everything that is stored of them, as JSON; --out F writes a new file that only you can read
          erase     erases them, here and at every destination, and prints the receipt; asks first unless --yes is given

          unlink    says that an identifier does not belong to this person: the links that events made to it are cut,
                    for good, 64 at a time, and both people get back what was theirs; --from cuts only the one to that
                    identifier

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, [.out, .yes, .from], &code) else { return code }
        guard let action = given.action(["show", "export", "erase", "unlink"]), given.words.count == 2 else {
            return Command.misuse("profile needs show, export, erase or unlink, and one reference", help)
        }
        var reference = given.words[1]
        let isFromInput = reference == [UInt8(ascii: "-")]
        if isFromInput { reference = line() }
        guard !reference.isEmpty, reference.count <= Limits.referenceBytes else {
            return Command.misuse("a reference has 1 to 1024 bytes", help)
        }
        guard let agent = AgentClient(given, &code) else { return code }
        var path = Array("/v1/profiles/".utf8)
        percentEncode(reference, to: &path)
        switch action {
        case 0: agent.show("GET", path, role: "privacy")
        case 1: export(agent, path, given[.out])
        case 3:
            path += Array("/unlink".utf8)
            if let other = given[.from] {
                path += Array("?from=".utf8)
                percentEncode(Array(other.utf8), to: &path)
            }
            agent.show("POST", path, role: "privacy")
        default:
            if given.has(.yes) || isConfirmed(agent, isFromInput) { agent.show("DELETE", path, role: "privacy") }
        }
        return agent.exitCode
    }

    /// Asks whoever sits at the terminal.
    private static func isConfirmed(_ agent: AgentClient, _ isInputUsed: Bool) -> Bool {
        if isInputUsed || !Process.isTerminal(0) {
            agent.fail("profile erase asks first; where nobody can answer, give --yes", code: 2)
            return false
        }
        Process.standardError("Erase this person, here and at every destination? It cannot be undone. Type yes: ")
        if line() == Array("yes".utf8) { return true }
        agent.fail("nothing was erased")
        return false
    }

    /// The first line of standard input, without spaces around it.
    static func line() -> [UInt8] {
        var text: [UInt8] = []
        var buffer: [UInt8] = [0]
        while text.count <= Limits.referenceBytes {
            let count = (try? readSome(0, into: &buffer)) ?? 0
            if count == 0 || buffer[0] == 0x0A { break }
            if buffer[0] > 0x20 || !text.isEmpty { text.append(buffer[0]) }
        }
        while let last = text.last, last <= 0x20 { text.removeLast() }
        return text
    }

    /// Everything but what RFC 3986 section 2.3 leaves as it is.
    static func percentEncode(_ bytes: [UInt8], to output: inout [UInt8]) {
        for byte in bytes {
            let isLetter = (byte | 0x20) &- 0x61 < 26
            if isLetter || byte &- 0x30 < 10 || byte == 0x2D || byte == 0x2E || byte == 0x5F || byte == 0x7E {
                output.append(byte)
            } else {
                output.append(UInt8(ascii: "%"))
                output.append(Hex.digit(byte >> 4))
                output.append(Hex.digit(byte & 0xF))
            }
        }
    }

    // MARK: Export

    /// One JSON object of as many answers as there are: the agent gives the events a mebibyte at a time.
    private static func export(_ agent: AgentClient, _ path: [UInt8], _ out: String?) {
        var file: Descriptor?
        var after: UInt64 = 0
        var writer = JSONWriter()
        while true {
            var target = path + Array("/export?after=".utf8)
            appendInteger(after, to: &target)
            guard let (page, _) = agent.ask("GET", target, role: "privacy") else { break }
            if after == 0 {
                if let out {
                    do throws(SystemError) { file = try Files.create(out, mode: 0o600) } catch {
                        return agent.fail(out, ": ", error.message, code: 3)
                    }
                }
                writer.beginObject()
                copy("record", page, to: &writer)
                writer.key("events")
                writer.beginArray()
            }
            var event = page.member(page.root, "events").flatMap { page.firstChild($0) }
            while let node = event {
                writer.raw(page.source(node))
                event = page.next(node)
            }
            var next: UInt64 = 0
            if let node = page.member(page.root, "after") { next = parseUInt64(page.source(node)) ?? 0 }
            if next == 0 {
                writer.endArray()
                copy("quarantined", page, to: &writer)
                copy("audit", page, to: &writer)
                writer.endObject()
                writer.newline()
            }
            agent.write(writer.bytes, to: file?.raw ?? 1)
            // What comes next still knows that a comma is due.
            writer.bytes.removeAll(keepingCapacity: true)
            if next == 0 || agent.exitCode != 0 { break }
            if next <= after {
                agent.fail("the agent's answer begins anew without end", code: 3)
                break
            }
            after = next
        }
        // Half a copy must not be taken for a whole one.
        if agent.exitCode != 0, file != nil, let out { Files.remove(out) }
    }

    private static func copy(_ key: StaticString, _ page: borrowing JSONDocument, to writer: inout JSONWriter) {
        writer.key(key)
        if let node = page.member(page.root, key) { writer.raw(page.source(node)) } else { writer.null() }
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
        guard let given = AgentArguments(arguments, help, [.after, .all], &code) else { return code }
        guard let action = given.action(["list", "show", "release", "delete"]) else {
            return Command.misuse("quarantine needs list, show, release or delete", help)
        }
        let isAll = given.has(.all) || action == 0
        var digits = given.words.count == 2 ? given.words[1] : []
        if action == 0, let after = given[.after] { digits = Array(after.utf8) }
        let number = parseUInt64(digits.span) ?? 0
        guard given.words.count == (isAll ? 1 : 2), !(given.has(.all) && action < 2), number > 0 || isAll,
            digits.isEmpty || parseUInt64(digits.span) != nil
        else { return Command.misuse("list takes --after N, show a number, release and delete a number or --all", help) }
        guard let agent = AgentClient(given, &code) else { return code }
        var target = Array("/v1/quarantine".utf8)
        if action < 2 {
            target += Array("?limit=100&after=".utf8)
            appendInteger(action == 0 ? number : number - 1, to: &target)
            if let (answer, _) = agent.ask("GET", target, role: "privacy") {
                if action == 0 { list(answer, agent, isJSON: given.has(.json)) } else { show(number, answer, agent) }
            }
            return agent.exitCode
        }
        target.append(UInt8(ascii: "/"))
        target += isAll ? Array("all".utf8) : digits
        if action == 3 {
            agent.show("DELETE", target, role: "operate")
        } else if let (answer, isOK) = agent.ask("POST", target + Array("/release".utf8), role: "operate", other: 409) {
            agent.show(answer, answer.root)
            if !isOK { agent.fail("the event was not released; the reason is above") }
        }
        return agent.exitCode
    }

    private static func show(_ number: UInt64, _ answer: JSONDocument, _ agent: AgentClient) {
        if let entry = answer.member(answer.root, "quarantined").flatMap({ answer.firstChild($0) }),
            let found = answer.member(entry, "number"), parseUInt64(answer.source(found)) == number
        {
            agent.show(answer, entry)
        } else {
            agent.fail("there is no such event in quarantine")
        }
    }

    /// A line each: `17  2026-01-31T09:30:00.000Z  Order Completed  maximum  /properties/revenue`
    private static func list(_ answer: JSONDocument, _ agent: AgentClient, isJSON: Bool) {
        if isJSON { return agent.show(answer, answer.root) }
        var text: [UInt8] = []
        var count = 0
        var entry = answer.member(answer.root, "quarantined").flatMap { answer.firstChild($0) }
        while let node = entry {
            entry = answer.next(node)
            count += 1
            let what = answer.member(node, "what") ?? node
            let event = answer.member(what, "event") ?? node
            column("number", node, answer, to: &text)
            column("receivedAt", node, answer, to: &text)
            column(answer.member(event, "event") == nil ? "type" : "event", event, answer, to: &text)
            column("keyword", what, answer, to: &text)
            column("pointer", what, answer, to: &text)
            text[text.count - 2] = 0x0A
            text.removeLast()
        }
        if count == 0 { text = Array("nothing is in quarantine\n".utf8) }
        if count == 100 { text += Array("there may be more: --after the last number\n".utf8) }
        agent.write(text)
    }

    private static func column(
        _ key: StaticString, _ node: JSONNode, _ answer: borrowing JSONDocument, to text: inout [UInt8]
    ) {
        if let value = answer.member(node, key) { PlainText.scalar(answer, value, to: &text) }
        text.append(0x20)
        text.append(0x20)
    }
}

enum ErasuresCommand {
    static let help = """
        gatehouse erasures [RECEIPT] [--after RECEIPT]

        How far the erasure with this receipt is, or a hundred of them. The token needs the role privacy.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, [.after], &code) else { return code }
        var target = Array("/v1/erasures".utf8)
        var receipts = given.words
        if let after = given[.after] { receipts.append(Array(after.utf8)) }
        if let receipt = receipts.first {
            guard receipts.count == 1, Hex.decode(receipt.span)?.count == 16 else {
                return Command.misuse("erasures takes one receipt: 32 hex digits", help)
            }
            target += Array((given.has(.after) ? "?after=" : "/").utf8) + receipt
        }
        guard let agent = AgentClient(given, &code) else { return code }
        agent.show("GET", target, role: "privacy")
        return agent.exitCode
    }
}
