// TLS 1.2 sessions over sockets that somebody else opens, polls and closes. What is accepted and refused is decided in
// CMbedTLS and cannot be weakened from here: there is no switch that turns verification off.
//
// What a session costs on the heap with Debian's mbedTLS 2.28: 33 KB of record buffers (which that build cannot make
// smaller), 3 to 8 KB of state and the peer's certificates; a client besides holds its authorities (450 KB for the
// system's bundle) for the moments of a full handshake only. `TLSTests.memory` measures it: 82 KB for both ends of one.
//
// Threads: a session belongs to one at a time. A `TLSServerConfiguration` is shared by the sessions of all of them.

import CMbedTLS

/// PEM text, in a file or in memory.
public enum PEMSource {
    case file(String)
    case bytes([UInt8])

    /// For messages: the path, or "".
    var name: String {
        if case .file(let path) = self { return path }
        return ""
    }
}

/// A certificate chain, own certificate first, with its private key (RSA or EC, no pass phrase).
public struct TLSIdentity {
    public var chain: PEMSource
    public var key: PEMSource

    public init(chain: PEMSource, key: PEMSource) {
        self.chain = chain
        self.key = key
    }
}

/// Whom a client trusts and who it is. A value: files are read anew for each handshake that needs them, so that a renewed
/// bundle or certificate is taken up without a restart.
public struct TLSClientConfiguration {
    /// `nil`: the bundle that the system keeps in one of the usual places.
    public var authorities: PEMSource?
    /// For mutual TLS.
    public var identity: TLSIdentity?
    /// Lists of certificates that their issuers have revoked (RFC 5280 section 5), at most 1 MiB, read for each handshake
    /// that sees certificates. Of an issuer that has none here nothing is revoked; one that is out of date is no list.
    public var revoked: PEMSource?
    /// SHA-256 of public keys (SubjectPublicKeyInfo in DER), at most `maximumPins`: one of the chain's must be among them,
    /// the peer's own or an issuer's. Empty: any will do.
    public var pins: [Digest256] = []

    public static let maximumPins = GATEHOUSE_TLS_PINS

    public init(authorities: PEMSource? = nil, identity: TLSIdentity? = nil) {
        self.authorities = authorities
        self.identity = identity
    }
}

/// When this program was built, seconds since 1970: a clock that shows less is wrong.
public var buildTime: Int64 { gatehouse_tls_built_at() }

/// Who a server is, and whose clients it takes; read once, with the keys of its session tickets.
public final class TLSServerConfiguration {
    fileprivate let pointer: OpaquePointer

    /// - Parameters:
    ///   - identity: what it shows to its clients.
    ///   - clientAuthorities: when given, each client must show a certificate signed by one of these.
    ///   - revoked: lists of those certificates that are not taken any more.
    ///   - earliest: seconds since 1970; where the clock shows less, certificates are held against this.
    /// - Throws: what cannot be read, and in which file.
    public init(
        identity: TLSIdentity, clientAuthorities: PEMSource? = nil, revoked: PEMSource? = nil, earliest: Int64 = 0
    ) throws(TLSError) {
        var failure = gatehouse_tls_failure()
        let made = withPEM(identity.chain) { chain in
            withPEM(identity.key) { key in
                withPEM(clientAuthorities) { authorities in
                    withPEM(revoked) { list in
                        gatehouse_tls_server_new(chain, key, authorities, list, earliest, &failure)
                    }
                }
            }
        }
        guard let made else {
            let error = TLSError(failure, subject: "")
            let source: PEMSource?
            switch error.reason {
            case .ownKeyUnreadable: source = identity.key
            case .authoritiesUnreadable: source = clientAuthorities
            case .revocationsUnreadable: source = revoked
            default: source = identity.chain
            }
            throw TLSError(failure, subject: source?.name ?? "")
        }
        pointer = made
    }

    deinit { gatehouse_tls_server_free(pointer) }

    /// Whether its certificate, and each that it sends along, is valid until then, seconds since 1970.
    public func isValid(until: Int64) -> Bool { gatehouse_tls_server_lasts(pointer, until) == 1 }
}

/// What came of one step of a session.
public enum TLSProgress {
    /// The step is done; the count of bytes read or written, 0 for handshake and close.
    case done(Int)
    /// Call again (with the same bytes) when the socket can be read.
    case wantRead
    /// Call again (with the same bytes) when the socket can be written.
    case wantWrite
    /// The peer said that nothing more will come.
    case closed
    /// The session is dead; drop it and the socket.
    case failed(TLSError)
}

/// What is left of a verified session with one host, to shorten the next handshake with it: a tenth of the bytes, a
/// fortieth of the work. Good for six hours after the certificate was last seen; ignored for any other host.
public struct TLSResumption: ~Copyable {
    fileprivate let pointer: OpaquePointer
    fileprivate init(_ pointer: OpaquePointer) { self.pointer = pointer }
    deinit { gatehouse_tls_resumption_free(pointer) }
}

/// One TLS session on one non-blocking socket. The socket stays its owner's, and must live as long as the session.
public struct TLSSession: ~Copyable {
    private let pointer: OpaquePointer
    // Kept alive: the session points into it.
    private let server: TLSServerConfiguration?
    private let client: TLSClientConfiguration?
    private let host: String

    /// A client's session with `host`: a DNS name or an IP address (no brackets), which the server's certificate must
    /// list among its subject alternative names (RFC 9525).
    /// - Parameters:
    ///   - now: seconds since 1970, against which certificates and the age of what is resumed are held.
    ///   - resuming: what `resumption()` of an earlier session gave; where it does not fit, the handshake is a full one.
    /// - Throws: `.hostInvalid`, what is unreadable, `.outOfMemory`.
    public init(
        connectingTo host: String, descriptor: Int32, configuration: TLSClientConfiguration, now: Int64,
        resuming: borrowing TLSResumption? = nil
    ) throws(TLSError) {
        for byte in host.utf8 where byte <= 0x20 || byte >= 0x7f { throw TLSError(.hostInvalid, subject: host) }
        let resumption: OpaquePointer?
        switch resuming {
        case .some(let known): resumption = known.pointer
        case .none: resumption = nil
        }
        var failure = gatehouse_tls_failure()
        // Holds because a digest is its 32 bytes and nothing else, and they are copied during the call.
        let made = configuration.pins.withUnsafeBytes { pins in
            host.withCString { name in
                withPEM(configuration.identity?.chain) { chain in
                    withPEM(configuration.identity?.key) { key in
                        gatehouse_tls_connect(
                            name, descriptor, chain, key, pins.baseAddress, pins.count / Digest256.byteCount, now,
                            resumption, &failure)
                    }
                }
            }
        }
        guard let made else {
            var subject = host
            switch TLSError(failure, subject: "").reason {
            case .ownCertificateUnreadable, .ownKeyMismatch: subject = configuration.identity?.chain.name ?? ""
            case .ownKeyUnreadable: subject = configuration.identity?.key.name ?? ""
            default: break
            }
            throw TLSError(failure, subject: subject)
        }
        pointer = made
        server = nil
        client = configuration
        self.host = host
    }

    /// A server's session with whoever connected.
    /// - Throws: `.outOfMemory`.
    public init(accepting descriptor: Int32, configuration: TLSServerConfiguration) throws(TLSError) {
        var failure = gatehouse_tls_failure()
        guard let made = gatehouse_tls_accept(configuration.pointer, descriptor, &failure) else {
            throw TLSError(failure, subject: "")
        }
        pointer = made
        server = configuration
        client = nil
        host = ""
    }

    deinit { gatehouse_tls_session_free(pointer) }

    /// Goes on with the handshake. After `.done` the peer is who it must be; nothing may be read or written before.
    public mutating func handshake() -> TLSProgress {
        var result = gatehouse_tls_handshake(pointer)
        if Int(result) == GATEHOUSE_TLS_NEEDS_TRUST, let client {
            if let error = loadAuthorities(client) { return .failed(error) }
            result = gatehouse_tls_handshake(pointer)
        }
        return progress(result)
    }

    /// Reads up to `target.count` decrypted bytes. Read until `.wantRead`: bytes that wait inside are not seen by a poller.
    public mutating func read(into target: inout MutableSpan<UInt8>) -> TLSProgress {
        // Holds because mbedTLS writes into the region during the call only, and no more than its count.
        let result = target.withUnsafeMutableBytes { raw in
            raw.count == 0 ? 0 : gatehouse_tls_read(pointer, raw.baseAddress, raw.count)
        }
        return progress(result)
    }

    /// Writes the first of `bytes`, at most one record (16 KB). After a `want…` the next call must bring the same bytes.
    public mutating func write(_ bytes: Span<UInt8>) -> TLSProgress {
        // Holds because mbedTLS copies what it needs during the call.
        let result = bytes.withUnsafeBytes { raw in
            raw.count == 0 ? 0 : gatehouse_tls_write(pointer, raw.baseAddress, raw.count)
        }
        return progress(result)
    }

    /// Tells the peer that nothing more will come. The socket stays open: its owner closes it.
    public mutating func close() -> TLSProgress { progress(gatehouse_tls_close(pointer)) }

    /// For the next session with this host; once, after the handshake is done. `nil` for a server.
    public func resumption() -> TLSResumption? {
        guard let kept = gatehouse_tls_resumption_new(pointer) else { return nil }
        return TLSResumption(kept)
    }

    /// Whether the handshake was a shortened one.
    public var wasResumed: Bool { gatehouse_tls_was_resumed(pointer) == 1 }

    /// How many decrypted bytes wait inside.
    public var pendingByteCount: Int { gatehouse_tls_pending(pointer) }

    /// The cipher suite's name, "none" before the handshake is done.
    public var suite: String { String(cString: gatehouse_tls_suite(pointer)) }

    /// The SHA-256 of the peer's certificate, if it showed one: who it is, for a list of known devices or a pin.
    public var peerFingerprint: Digest256? {
        var digest = Digest256()
        var isKnown = false
        digest.withMutableBytes { isKnown = gatehouse_tls_peer_fingerprint(pointer, $0.baseAddress) == 1 }
        return isKnown ? digest : nil
    }

    private func progress(_ result: Int32) -> TLSProgress {
        if result >= 0 { return .done(Int(result)) }
        switch Int(result) {
        case GATEHOUSE_TLS_WANT_READ: return .wantRead
        case GATEHOUSE_TLS_WANT_WRITE: return .wantWrite
        case GATEHOUSE_TLS_CLOSED: return .closed
        default: return .failed(TLSError(gatehouse_tls_last_failure(pointer), subject: host))
        }
    }

    /// A full handshake has begun: the server will show a certificate.
    private func loadAuthorities(_ client: TLSClientConfiguration) -> TLSError? {
        var source = client.authorities
        let isSystem = source == nil
        if isSystem {
            guard let path = gatehouse_tls_system_authorities() else {
                return TLSError(.authoritiesUnreadable, subject: "/etc/ssl/certs/ca-certificates.crt")
            }
            source = .file(String(cString: path))
        }
        let result = withPEM(source) { authorities in
            withPEM(client.revoked) { gatehouse_tls_trust(pointer, authorities, isSystem ? 1 : 0, $0) }
        }
        if result == 0 { return nil }
        let failure = gatehouse_tls_last_failure(pointer)
        if Int(failure.reason) == GATEHOUSE_TLS_LIST_UNREADABLE { source = client.revoked }
        return TLSError(failure, subject: source?.name ?? "")
    }
}

/// Lends the source as C sees it, for the call. `nil` is "none"; an empty text is not, it must be found unreadable.
private func withPEM<Result>(_ source: PEMSource?, _ body: (gatehouse_pem) -> Result) -> Result {
    switch source {
    case .none: return body(gatehouse_pem(path: nil, bytes: nil, count: 0))
    case .file(let path): return path.withCString { body(gatehouse_pem(path: $0, bytes: nil, count: 0)) }
    case .bytes(let bytes):
        let text = bytes.isEmpty ? [0x0a] : bytes
        return text.withUnsafeBytes { body(gatehouse_pem(path: nil, bytes: $0.baseAddress, count: $0.count)) }
    }
}
