// The running agent as the commands see it: where it is, by which token it is asked, and what its refusals mean to a person.
// What is asked is not known here. A reference to a person may be a raw identifier: it goes into the request and nowhere else.

import Agent
import Cryptography
import Delivery
import Formats
import Platform

/// The arguments of a command that asks the running agent.
struct AgentArguments {
    static let help = """

        The agent is asked at its Unix socket or address, as --config F has them, by default at 127.0.0.1:8470, or at
        --url URL (https: is verified by --ca F, the configuration's authorities or the system's). If it has tokens, give
        one by --token-file F or in the variable GATEHOUSE_TOKEN. --json prints what the API answers.

        """

    /// What is no option.
    var words: [String] = []
    var config: String?
    var url: String?
    var authority: String?
    var tokenFile: String?
    var after: String?
    var out: String?
    var isJSON = false
    var isSure = false
    var isAll = false
    var isWatching = false

    /// - Parameters:
    ///   - others: options that this command has besides those of all.
    ///   - code: the exit code when nil is returned, after help or what is wrong was printed.
    init?(_ arguments: [String], _ help: String, others: [String], _ code: inout Int32) {
        var index = 0
        while index < arguments.count {
            let argument = arguments[index]
            index += 1
            // A lone - is the standard input.
            guard argument.utf8.first == UInt8(ascii: "-"), argument.utf8.count > 1 else {
                words.append(argument)
                continue
            }
            if argument == "--help" {
                Process.standardOutput(help + AgentArguments.help)
                code = 0
                return nil
            }
            var isKnown = true
            let value = index < arguments.count ? arguments[index] : nil
            switch argument {
            case "--json": isJSON = true
            case "--yes": isSure = true
            case "--all": isAll = true
            case "--watch": isWatching = true
            default:
                index += 1
                if value == nil { isKnown = false }
                switch argument {
                case "--config": config = value
                case "--url": url = value
                case "--ca": authority = value
                case "--token-file": tokenFile = value
                case "--after": after = value
                case "--out": out = value
                default: isKnown = false
                }
            }
            let isOfAll = ["--json", "--config", "--url", "--ca", "--token-file"].contains(argument)
            if !isKnown || !(isOfAll || others.contains(argument)) {
                // Not repeated: a person's reference may have slipped into it.
                code = Command.misuse("an option is unknown here, or needs a value", help + AgentArguments.help)
                return nil
            }
        }
    }
}

final class AgentClient {
    /// What the command ends with: 0 as long as nothing went wrong.
    private(set) var exitCode: Int32 = 0
    private let client: HTTPSClient<SystemClock>
    private let token: [UInt8]?
    private let place: String

    /// - Parameter code: the exit code when nil is returned, after what is wrong was printed.
    init?(_ given: AgentArguments, _ code: inout Int32) {
        var configuration = Configuration()
        if let path = given.config {
            guard let read = UpkeepArguments.read(path, &code) else { return nil }
            configuration = read
        }
        var token: [UInt8]?
        guard AgentClient.readToken(given.tokenFile, into: &token, &code) else { return nil }
        self.token = token
        var address = Array((given.url ?? "").utf8)
        if given.url == nil {
            let listen = configuration.listen
            var host = listen.host
            if host == "0.0.0.0" { host = "127.0.0.1" } else if host == "::" { host = "::1" }
            if host.utf8.contains(UInt8(ascii: ":")) { host = "[" + host + "]" }
            let scheme = configuration.certificate == nil || configuration.socket != nil ? "http://" : "https://"
            address = Array((scheme + (configuration.socket == nil ? host : "localhost") + ":\(listen.port)").utf8)
        }
        let socket = given.url == nil ? configuration.socket : nil
        let url: DestinationURL
        do throws(DestinationURL.Problem) { url = try DestinationURL(address.span) } catch {
            code = given.url == nil ? 1 : 2
            Process.standardError(
                given.url == nil
                    ? "gatehouse: the agent listens beyond this device without TLS: give it a socket: to be asked at\n"
                    : "gatehouse: --url must be like http://127.0.0.1:8470, or https: with any host\n")
            return nil
        }
        guard url.target.count == 1 else {
            code = 2
            Process.standardError("gatehouse: --url is a scheme, a host and a port, without a path\n")
            return nil
        }
        var name: [UInt8] = []
        url.appendAuthority(to: &name)
        place = socket ?? String(decoding: name, as: UTF8.self)
        var times = RequestTimes()
        times.firstByte = Limits.firstByteMilliseconds
        times.whole = 2 * Limits.firstByteMilliseconds
        let authority = given.authority ?? configuration.certificateAuthority
        client = HTTPSClient(
            url: url, token: nil, authorities: TLSClientConfiguration(authorities: authority.map { .file($0) }),
            version: Runtime.version, socket: socket, times: times, cancellation: Cancellation(), clock: SystemClock())
    }

    /// Reads the token's file or variable; false after saying what is wrong with it.
    private static func readToken(_ path: String?, into token: inout [UInt8]?, _ code: inout Int32) -> Bool {
        if let path {
            do throws(SystemError) { token = try Files.read(path, limitBytes: Limits.tokenFileBytes) } catch {
                code = 3
                Process.standardError("gatehouse: \(path): \(error.message)\n")
                return false
            }
        } else if let text = Process.environment("GATEHOUSE_TOKEN"), !text.isEmpty {
            token = Array(text.utf8)
        }
        guard var text = token else { return true }
        while let last = text.last, last <= 0x20 { text.removeLast() }
        for byte in text where byte <= 0x20 || byte >= 0x7F { text = [] }
        guard !text.isEmpty, text.count <= Limits.tokenBytes else {
            code = 1
            Process.standardError("gatehouse: a token is one line of at most 512 visible ASCII characters\n")
            return false
        }
        token = text
        return true
    }

    /// Asks the agent.
    /// - Parameters:
    ///   - role: what the agent asks for at this route.
    ///   - other: a status besides 200 whose answer is wanted.
    /// - Returns: the answer's body; nil after saying what is wrong, in words and in `exitCode`.
    func ask(
        _ method: StaticString, _ target: [UInt8], role: StaticString, other: UInt16 = 200
    ) -> (status: UInt16, body: [UInt8])? {
        var body: [UInt8] = []
        let status: UInt16
        do throws(TransportFailure) {
            status = try client.ask(method, target, token: token) { _, piece in
                body.append(contentsOf: piece)
                return body.count <= Limits.answerBytes
            }
        } catch {
            let hint = error.stage == .connect || error.stage == .resolve
                ? "Is the agent running? --config F or --url URL says where it listens." : "The agent's log may say more."
            fail("\(error.message). \(hint)", 3)
            return nil
        }
        if status == 200 || status == other { return (status, body) }
        switch status {
        case 0: fail("the answer of \(place) is larger than 16 MiB, which no agent's is", 3)
        case 401 where token == nil:
            fail("the agent wants a token with the role \(role): --token-file F, or the variable GATEHOUSE_TOKEN", 1)
        case 401: fail("the agent does not know this token; it wants one with the role \(role)", 1)
        case 403: fail("this token does not carry the role \(role), which this needs", 1)
        default:
            let words = AgentClient.detail(body)
            fail(words.isEmpty ? "\(place) answers with status \(status)" : words, status < 500 ? 1 : 3)
        }
        return nil
    }

    /// The words of an error, in each of the forms that the API has.
    private static func detail(_ body: [UInt8]) -> String {
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(body.span) } catch { return "" }
        var words: [UInt8] = []
        for key in ["detail", "message", "title"] as [StaticString] where words.isEmpty {
            if let node = document.member(document.root, key) { PlainText.scalar(document, node, to: &words) }
        }
        return String(decoding: words, as: UTF8.self)
    }

    /// Says what is wrong.
    func fail(_ words: String, _ code: Int32) {
        Process.standardError("gatehouse: \(words)\n")
        exitCode = code
    }

    /// Forgets what went wrong, for another try.
    func beginAgain() { exitCode = 0 }

    /// Parses an answer; nil after saying that it is none of an agent.
    func parse(_ body: [UInt8]) -> JSONDocument? {
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(body.span) } catch {}
        if document.kind(document.root) == .object { return document }
        fail("what answers at \(place) is no Gatehouse agent", 3)
        return nil
    }

    /// Prints an answer as it is, or as a person reads it.
    func show(_ body: [UInt8], isJSON: Bool) {
        guard let document = parse(body) else { return }
        var text: [UInt8] = []
        if isJSON {
            text = body + [0x0A]
        } else {
            PlainText.append(document, document.root, to: &text)
        }
        write(text.span)
    }

    /// Writes to standard output, or to a file that was opened.
    func write(_ bytes: Span<UInt8>, to descriptor: Int32 = 1) {
        do throws(SystemError) { try writeAll(descriptor, bytes) } catch { fail(error.message, 3) }
    }
}
