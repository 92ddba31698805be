// The way to a running agent's local API, for the commands that ask it: over its Unix socket, loopback or TLS, with the
// delivery's client. What is asked is not known here.

import Cryptography
import Delivery
import Platform

/// A running agent as somebody else's process sees it.
public final class AgentConnection {
    private let client: HTTPSClient<SystemClock>
    private let token: [UInt8]?
    /// Where it is: `127.0.0.1:8470`, or a socket's path.
    public let place: String

    /// - Parameters:
    ///   - configuration: the agent's: where it listens, and whom to trust.
    ///   - url: another place, `http://127.0.0.1:8470` or `https:` with any host, without a path.
    ///   - authority: a file of certificate authorities, in place of the configuration's.
    ///   - token: visible ASCII.
    ///   - patience: until the answer's first byte, milliseconds.
    /// - Returns: nil when the URL, or what the configuration says, is nothing that may be spoken to in the clear.
    public init?(
        _ configuration: Configuration, url: String?, authority: String?, token: [UInt8]?,
        patience: Int64 = Limits.askMilliseconds
    ) {
        self.token = token
        let socket = url == nil ? configuration.socket : nil
        let address = Array((url ?? configuration.ownURL).utf8)
        guard let url = try? DestinationURL(address.span), url.target.count == 1 else { return nil }
        var name: [UInt8] = []
        url.appendAuthority(to: &name)
        place = socket ?? String(decoding: name, as: UTF8.self)
        var times = RequestTimes()
        times.firstByte = patience
        var trust = configuration.trust()
        if let path = authority { trust.authorities = .file(path) }
        client = HTTPSClient(
            url: url, token: nil, authorities: trust, version: Runtime.version, socket: socket, times: times,
            cancellation: Cancellation(), clock: SystemClock())
    }

    /// Asks, and waits for the answer.
    /// - Returns: status and body; status 0 with words that say why there is none.
    public func ask(_ method: StaticString, _ target: [UInt8]) -> (status: UInt16, body: [UInt8]) {
        do throws(TransportFailure) {
            let (status, body) = try client.ask(method, target, token: token, limitBytes: Limits.answerBytes)
            if let body { return (status, body) }
            return (0, Array("the answer is larger than 16 MiB, which no agent's is".utf8))
        } catch {
            let isThere = error.stage != .connect && error.stage != .resolve
            return (0, Array(joined(error.message, isThere ? "" : ". Is the agent running? --config F or --url URL says where").utf8))
        }
    }
}

extension Configuration {
    /// Where a process of this device finds what listens by this configuration.
    fileprivate var ownURL: String {
        var host = listen.host
        if host == "0.0.0.0" || socket != nil { host = "127.0.0.1" }
        if host == "::" { host = "::1" }
        if host.utf8.contains(UInt8(ascii: ":")) { host = joined("[", host, "]") }
        return joined(certificate == nil || socket != nil ? "http://" : "https://", host, ":", String(listen.port))
    }
}
