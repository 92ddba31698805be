// Who may speak to this server from inside a browser. A local API is reachable by every page that its user visits:
// through a name that its owner points at 127.0.0.1 (DNS rebinding), and by plain cross-origin calls.

import Formats
import HTTP

/// Why a well-formed request is not answered.
struct Refusal {
    let status: UInt16
    let detail: StaticString
    var retryAfterSeconds: Int64 = 0
    /// Whether more of the request may still be on its way.
    var isMoreComing = false
}

/// What the policy says of a request.
enum Admission {
    case granted
    /// It comes from a page of the configured origin of this number, whose browser wants to read that it may.
    case grantedToOrigin(Int)
    case refused(Refusal)
}

/// Which hosts and origins are taken.
///
/// A rebound page still sends its own name as Host, so a name must be known here; an address as Host cannot come from a
/// rebound name and is always taken. A page of another origin sends Origin, or at least Sec-Fetch-Site; programs send
/// neither.
struct ServerPolicy {
    /// In lower case, without ports.
    let hostNames: [[UInt8]]
    /// In lower case, `scheme://host[:port]`.
    let origins: [[UInt8]]
    let checksHost: Bool

    init(hostNames: [String], origins: [String], checksHost: Bool) {
        self.hostNames = (["localhost"] + hostNames).map { $0.utf8.map(asciiLowercase) }
        self.origins = origins.map { $0.utf8.map(asciiLowercase) }
        self.checksHost = checksHost
    }

    /// - Parameters:
    ///   - isUnixSocket: no browser reaches one.
    ///   - isSecure: TLS has proved the name already.
    func check(
        _ head: RequestHead, _ input: Span<UInt8>, isUnixSocket: Bool, isSecure: Bool
    ) -> Admission {
        if isUnixSocket { return .granted }
        if checksHost && !isSecure && head.hasHost && !isKnown(hostName(of: input.bytes(head.host))) {
            let detail: StaticString =
                "The Host header names another server. Use the address, localhost or a configured name."
            return .refused(Refusal(status: 421, detail: detail))
        }
        return checkOrigin(head, input)
    }

    private func isKnown(_ host: Span<UInt8>) -> Bool {
        if isAddress(host) { return true }
        for name in hostNames where host.equalsIgnoringCase(name.span) { return true }
        return false
    }

    /// Dotted decimal or in brackets. The shorter and octal forms are left out: browsers write addresses in full.
    private func isAddress(_ host: Span<UInt8>) -> Bool {
        guard host.count > 0 else { return false }
        if host[0] == 0x5B { return true }
        var dots = 0
        for index in 0..<host.count {
            let byte = host[index]
            if byte == 0x2E { dots += 1 } else if byte &- 0x30 >= 10 { return false }
        }
        return dots == 3
    }

    private func checkOrigin(_ head: RequestHead, _ input: Span<UInt8>) -> Admission {
        var admission = Admission.granted
        var hasOrigin = false
        for index in 0..<head.fields.count {
            let field = head.fields[index]
            if field.name.length == 6 && input.bytes(field.name).equalsIgnoringCase("origin") {
                let detail: StaticString = "Calls from pages of another origin are refused unless it is configured."
                if hasOrigin { return .refused(Refusal(status: 403, detail: detail)) }
                hasOrigin = true
                let origin = input.bytes(field.value)
                if let number = configured(origin) {
                    admission = .grantedToOrigin(number)
                } else if !isOwn(origin, host: input.bytes(head.host)) {
                    return .refused(Refusal(status: 403, detail: detail))
                }
            } else if field.name.length == 14 && input.bytes(field.name).equalsIgnoringCase("sec-fetch-site")
                && isForeign(input.bytes(field.value), head, input)
            {
                return .refused(Refusal(status: 403, detail: "Calls from pages of another site are refused."))
            }
        }
        return admission
    }

    private func configured(_ origin: Span<UInt8>) -> Int? {
        for index in origins.indices {
            let allowed = origins[index]
            if origin.equalsIgnoringCase(allowed.span) { return index }
        }
        return nil
    }

    /// Whether it is the server's own page: the same host and port.
    private func isOwn(_ origin: Span<UInt8>, host: Span<UInt8>) -> Bool {
        var start = 0
        if origin.starts(with: "http://") { start = 7 } else if origin.starts(with: "https://") { start = 8 }
        return start > 0 && host.count > 0 && origin.extracting(start..<origin.count).equalsIgnoringCase(host)
    }

    /// Whether a browser says that the call is another page's and it has no Origin to look at instead. Following a
    /// link to the console is no call.
    private func isForeign(_ site: Span<UInt8>, _ head: RequestHead, _ input: Span<UInt8>) -> Bool {
        guard site.equalsIgnoringCase("cross-site") || site.equalsIgnoringCase("same-site") else { return false }
        if head.fields.range(of: "origin", in: input) != nil { return false }
        let mode = input.bytes(head.fields.range(of: "sec-fetch-mode", in: input) ?? ByteRange())
        return head.method != .get || !mode.equalsIgnoringCase("navigate")
    }
}
