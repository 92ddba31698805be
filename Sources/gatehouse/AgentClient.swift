// The running agent as the commands see it: where it is, by which token it is asked, and what its refusals mean to a person.
// A reference to a person may be a raw identifier: it goes into the request and nowhere else.

import Agent
import Formats
import Platform

/// An option of a command that asks the running agent.
enum AgentOption: Int {
    // Those of all commands, then those of some. In the order of `AgentArguments.names`.
    case json, config, url, ca, tokenFile, yes, all, watch, after, out, from
    // Those of simulate, which asks no agent.
    case grantAll, bundle, against, events, decisions, pepper
    // Those of bundle.
    case key, signature
}

/// The arguments of such a command.
struct AgentArguments {
    static let help = """

        The agent is asked at its Unix socket or address, as --config F has them, by default at 127.0.0.1:8470, or at
        --url URL (https: is verified by --ca F, the configuration's authorities or the system's). If it has tokens, give
        one by --token-file F or in the variable GATEHOUSE_TOKEN. --json prints what the API answers.

        """
    private static let names: [StaticString] = [
        "--json", "--config", "--url", "--ca", "--token-file", "--yes", "--all", "--watch", "--after", "--out", "--from",
        "--grant-all", "--bundle", "--against", "--events", "--decisions", "--pepper", "--key",
        "--signature",
    ]

    /// What is no option.
    var words: [[UInt8]] = []
    private var values: [String?]

    subscript(option: AgentOption) -> String? { values[option.rawValue] }
    func has(_ option: AgentOption) -> Bool { values[option.rawValue] != nil }

    /// The number of the first word, an action, in a list.
    func action(_ actions: [StaticString]) -> Int? {
        guard let word = words.first else { return nil }
        for index in actions.indices where equal(word.span, actions[index].bytes) { return index }
        return nil
    }

    /// - Parameters:
    ///   - others: what this command has besides the options of all.
    ///   - isAsking: whether the command asks an agent, and has the options for that.
    ///   - code: the exit code when nil is returned, after help or what is wrong was printed.
    init?(
        _ arguments: [String], _ help: String, _ others: [AgentOption], isAsking: Bool = true, _ code: inout Int32
    ) {
        let help = isAsking ? joined(help, AgentArguments.help) : help
        values = [String?](repeating: nil, count: AgentArguments.names.count)
        var index = 0
        while index < arguments.count {
            let argument = Array(arguments[index].utf8)
            index += 1
            // A lone - is the standard input.
            guard argument.first == UInt8(ascii: "-"), argument.count > 1 else {
                words.append(argument)
                continue
            }
            if equal(argument.span, ("--help" as StaticString).bytes) {
                Process.standardOutput(help)
                code = 0
                return nil
            }
            var isKnown = false
            for (number, name) in AgentArguments.names.enumerated() where equal(argument.span, name.bytes) {
                guard let option = AgentOption(rawValue: number) else { break }
                let last: AgentOption = isAsking ? .tokenFile : .json
                isKnown = number <= last.rawValue || others.contains { $0.rawValue == number }
                switch option {
                case .json, .yes, .all, .watch, .grantAll: values[number] = ""
                default:
                    if index == arguments.count { isKnown = false } else { values[number] = arguments[index] }
                    index += 1
                }
            }
            if !isKnown {
                // Not repeated: a person's reference may have slipped into it.
                code = Command.misuse("an option is unknown here, or needs a value", help)
                return nil
            }
        }
    }
}

final class AgentClient {
    /// What the command ends with: 0 as long as nothing went wrong.
    private(set) var exitCode: Int32 = 0
    /// By what the command was given, or the default one.
    let configuration: Configuration
    private let connection: AgentConnection
    private let hasToken: Bool
    private let isJSON: Bool

    /// - Parameters:
    ///   - patience: until the agent's answer begins, milliseconds.
    ///   - code: the exit code when nil is returned, after what is wrong was printed.
    init?(_ given: AgentArguments, patience: Int64 = Agent.Limits.askMilliseconds, _ code: inout Int32) {
        var configuration = Configuration()
        if let path = given[.config] {
            guard let read = UpkeepArguments.read(path, &code) else { return nil }
            configuration = read
        }
        var token = Array((Process.environment("GATEHOUSE_TOKEN") ?? "").utf8)
        if let path = given[.tokenFile] {
            do throws(SystemError) { token = try Files.read(path, limitBytes: Limits.tokenFileBytes) } catch {
                Process.complain(path, ": ", error.message)
                code = 3
                return nil
            }
        }
        while let last = token.last, last <= 0x20 { token.removeLast() }
        for byte in token where byte <= 0x20 || byte >= 0x7F || token.count > Limits.tokenBytes {
            Process.complain("a token is one line of at most 512 visible ASCII characters")
            code = 1
            return nil
        }
        hasToken = !token.isEmpty
        isJSON = given.has(.json)
        guard
            let connection = AgentConnection(
                configuration, url: given[.url], authority: given[.ca], token: hasToken ? token : nil,
                patience: patience)
        else {
            Process.complain(
                given.has(.url)
                    ? "--url must be like http://127.0.0.1:8470, or https: with any host, and without a path"
                    : "the agent listens beyond this device without TLS: give it a socket: to be asked at")
            code = given.has(.url) ? 2 : 1
            return nil
        }
        self.configuration = configuration
        self.connection = connection
    }

    /// Asks for something that may well not be there, and says nothing of it.
    /// - Returns: as `AgentConnection.ask`.
    func look(_ target: [UInt8]) -> (status: UInt16, body: [UInt8]) { connection.ask("GET", target) }

    /// Asks the agent.
    /// - Parameters:
    ///   - role: what the agent asks for at this route.
    ///   - other: a status besides 200 whose answer is wanted.
    /// - Returns: the answer, an object, and whether its status was 200; nil after saying what is wrong, in words and in
    ///   `exitCode`.
    func ask(
        _ method: StaticString, _ target: [UInt8], role: String, other: UInt16 = 200
    ) -> (answer: JSONDocument, isOK: Bool)? {
        guard let (body, isOK) = askForText(method, target, role: role, other: other) else { return nil }
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(body.span) } catch {}
        if document.kind(document.root) == .object { return (document, isOK) }
        fail(connection.place, " answers, but is no Gatehouse agent", code: 3)
        return nil
    }

    /// The same for an answer of any form.
    func askForText(
        _ method: StaticString, _ target: [UInt8], role: String, other: UInt16 = 200
    ) -> (body: [UInt8], isOK: Bool)? {
        let (status, body) = connection.ask(method, target)
        if status == 200 || status == other { return (body, status == 200) }
        switch status {
        case 0: fail(String(decoding: body, as: UTF8.self), code: 3)
        case 401 where !hasToken:
            fail("the agent wants a token with the role ", role, ": --token-file F, or the variable GATEHOUSE_TOKEN")
        case 401: fail("the agent does not know this token; it wants one with the role ", role)
        case 403: fail("this token does not carry the role ", role, ", which this needs")
        default: fail(words(of: body), code: status < 500 ? 1 : 3)
        }
        return nil
    }

    /// The words of an error, in each of the forms that the API has.
    private func words(of body: [UInt8]) -> String {
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(body.span) } catch {}
        var words: [UInt8] = []
        for key in ["detail", "message", "title"] as [StaticString] where words.isEmpty {
            if let node = document.member(document.root, key) { PlainText.scalar(document, node, to: &words) }
        }
        return words.isEmpty ? joined(connection.place, " refuses without a word") : String(decoding: words, as: UTF8.self)
    }

    /// Says what is wrong.
    func fail(_ words: String, _ second: String = "", _ third: String = "", code: Int32 = 1) {
        Process.complain(words, second, third)
        exitCode = code
    }

    /// Forgets what went wrong, for another try.
    func beginAgain() { exitCode = 0 }

    /// Asks and prints the answer.
    func show(_ method: StaticString, _ target: [UInt8], role: String) {
        if let (answer, _) = ask(method, target, role: role) { show(answer, answer.root) }
    }

    /// Prints a part of an answer, as it is or as a person reads it.
    func show(_ document: JSONDocument, _ node: JSONNode) {
        var text: [UInt8] = []
        if isJSON {
            text.append(contentsOf: document.source(node))
            text.append(0x0A)
        } else {
            PlainText.append(document, node, to: &text)
        }
        write(text)
    }

    /// Writes to standard output, or to a file that was opened.
    func write(_ bytes: [UInt8], to descriptor: Int32 = 1) {
        do throws(SystemError) { try writeAll(descriptor, bytes.span) } catch { fail(error.message, code: 3) }
    }
}
