// Shows that TLS sessions speak with OpenSSL in both roles, and that everything that must be refused is, for the reason
// that is so. Certificates and peers are made by the openssl command; without it the suite is skipped.

import Cryptography
import Foundation
import Glibc
import Testing

/// Takes steps until one is done or fails, waiting on the socket in between.
private func drive(_ socket: TestSocket, _ step: () -> TLSProgress) -> TLSProgress {
    while true {
        let progress = step()
        switch progress {
        case .wantRead: socket.wait(POLLIN)
        case .wantWrite: socket.wait(POLLOUT)
        default: return progress
        }
    }
}

private func reason(_ progress: TLSProgress) -> TLSError.Reason? {
    if case .failed(let error) = progress { return error.reason }
    return nil
}

private func isDone(_ progress: TLSProgress) -> Bool {
    if case .done = progress { return true }
    return false
}

/// A minute ahead of the clock: the certificates begin at the moment when they are made, and a test goes back a second.
private let now = Int64(time(nil)) + 60
/// In the time of the certificate `future`.
private let lateTime: Int64 = 3_800_000_000

private let trustRoot = TLSClientConfiguration(authorities: .file(Certificates.path("root.pem")))

/// A handshake with `s_server` that shows `certificate`; its outcome.
private func handshake(
    with certificate: String, as host: String = "localhost", trust: TLSClientConfiguration = trustRoot, now: Int64 = now,
    _ arguments: [String] = ["-rev"]
) throws -> TLSProgress {
    let (server, port) = OpenSSL.server(certificate, arguments)
    let socket = TestSocket.connected(to: port)
    var session = try TLSSession(connectingTo: host, descriptor: socket.descriptor, configuration: trust, now: now)
    let progress = drive(socket) { session.handshake() }
    withExtendedLifetime(server) {}
    return progress
}

private func send(_ bytes: [UInt8], _ session: inout TLSSession, _ socket: TestSocket) -> TLSError? {
    var offset = 0
    while offset < bytes.count {
        let progress = drive(socket) { session.write(bytes.span.extracting(offset..<bytes.count)) }
        guard case .done(let count) = progress else {
            if case .failed(let error) = progress { return error }
            return nil
        }
        offset += count
    }
    return nil
}

private func receive(_ count: Int, _ session: inout TLSSession, _ socket: TestSocket) -> ([UInt8], TLSProgress) {
    var received: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while received.count < count {
        let progress = drive(socket) {
            var span = buffer.mutableSpan
            return session.read(into: &span)
        }
        guard case .done(let got) = progress else { return (received, progress) }
        received += buffer[..<got]
    }
    return (received, .done(0))
}

@Suite(.serialized, .enabled(if: Certificates.isOpenSSLThere, "the openssl command is not installed"))
struct TLSTests {
    // MARK: As a client, against openssl s_server

    @Test("A good chain is accepted by name and by address, and bytes go both ways", arguments: [
        ("good", "localhost"), ("good", "HUB.example."), ("good", "a.wild.example"), ("good", "127.0.0.1"),
        ("good", "::1"), ("rsa", "hub.example"), ("chained", "localhost"),
    ])
    func accepted(certificate: String, host: String) throws {
        let (server, port) = OpenSSL.server(certificate)
        let socket = TestSocket.connected(to: port)
        var session = try TLSSession(connectingTo: host, descriptor: socket.descriptor, configuration: trustRoot, now: now)
        let outcome = drive(socket) { session.handshake() }
        #expect(isDone(outcome), "\(outcome)")
        let facts = (session.suite, session.wasResumed, session.peerFingerprint)
        #expect(facts.0.contains("ECDHE"))
        #expect(!facts.1)
        #expect(facts.2 != nil)
        #expect(send(Array("tsop\n".utf8), &session, socket) == nil)
        #expect(receive(5, &session, socket).0 == Array("post\n".utf8))
        #expect(isDone(drive(socket) { session.close() }))
        withExtendedLifetime(server) {}
    }

    @Test("A certificate that must not be trusted is refused, with the reason", arguments: [
        ("other", "localhost", TLSError.Reason.certificateForOtherHost),
        ("good", "127.0.0.2", .certificateForOtherHost),
        ("other", "127.0.0.1", .certificateForOtherHost),
        ("good", "a.b.wild.example", .certificateForOtherHost),
        ("good", "wild.example", .certificateForOtherHost),
        ("good", "hub.example.evil", .certificateForOtherHost),
        ("bare", "localhost", .certificateForOtherHost),  // the common name is no host name
        ("expired", "localhost", .certificateExpired),
        ("future", "localhost", .certificateNotYetValid),
        ("unknown", "localhost", .certificateIssuerUnknown),
        ("self", "localhost", .certificateIssuerUnknown),
        ("broken", "localhost", .certificateIssuerUnknown),
        ("under_leaf", "localhost", .certificateIssuerIsNoAuthority),
        ("under_mute", "localhost", .certificateIssuerIsNoAuthority),  // an authority whose keyUsage has no keyCertSign
        ("too_long", "localhost", .certificateIssuerIsNoAuthority),
        ("client_only", "localhost", .certificateForOtherUse),
    ])
    func refused(certificate: String, host: String, expected: TLSError.Reason) throws {
        #expect(try reason(handshake(with: certificate, as: host)) == expected)
    }

    @Test("Weak keys and hashes are refused even where the other side offers them", arguments: ["rsa1024", "sha1", "md5"])
    func weak(certificate: String) throws {
        let outcome = try handshake(with: certificate, ["-rev", "-cipher", "ALL:@SECLEVEL=0"])
        #expect(reason(outcome) == .certificateWeak)
    }

    @Test("Old protocols and suites are refused", arguments: [
        ["-tls1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1_3"],
        ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"], ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"],
        ["-tls1_2", "-cipher", "AES128-GCM-SHA256"], ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"],
    ])
    func oldProtocols(arguments: [String]) throws {
        let found = try reason(handshake(with: "rsa", ["-rev"] + arguments))
        #expect(found == .peerRefused || found == .protocolVersion, "\(String(describing: found))")
        // The same server with nothing but a suite that is allowed is accepted: the refusal was for the reason given.
        #expect(isDone(try handshake(with: "rsa", ["-rev", "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"])))
    }

    @Test("The message says which check failed and what to do")
    func messages() throws {
        guard case .failed(let name) = try handshake(with: "other") else { Issue.record("accepted"); return }
        #expect(name.message == "the certificate is not for host localhost: its subjectAltName must list that name or address")
        #expect(name.isAboutCertificate)
        let missing = TLSClientConfiguration(authorities: .file("/nonexistent/ca.pem"))
        guard case .failed(let file) = try handshake(with: "good", trust: missing) else { Issue.record("accepted"); return }
        #expect(file.reason == .authoritiesUnreadable)
        #expect(file.message.contains("/nonexistent/ca.pem"))
        let empty = TLSClientConfiguration(authorities: .bytes([]))
        #expect(try reason(handshake(with: "good", trust: empty)) == .authoritiesUnreadable)
    }

    @Test("The system's bundle does not trust a stranger")
    func systemBundle() throws {
        let found = try reason(handshake(with: "good", trust: TLSClientConfiguration()))
        #expect(found == .certificateIssuerUnknown || found == .authoritiesUnreadable)
    }

    @Test("With pins, a key of the chain must be among them: the server's own or an issuer's")
    func pins() throws {
        func outcome(_ names: [String], _ certificate: String = "chained") throws -> TLSError.Reason? {
            var trust = trustRoot
            trust.pins = names.map { Certificates.publicKeyDigest($0) }
            return try reason(handshake(with: certificate, trust: trust))
        }
        #expect(try outcome(["chained"]) == nil)
        #expect(try outcome(["other", "middle"]) == nil)
        #expect(try outcome(["other", "rsa", "stranger", "root"]) == nil)
        #expect(try outcome(["other", "good", "stranger"]) == .certificateNotPinned)
        #expect(try outcome(["expired"], "expired") == .certificateExpired, "a pin replaces no other check")
        // Sent, but no part of the chain that was verified.
        #expect(try outcome(["stranger"], "stray") == .certificateNotPinned)
    }

    @Test("What a list that is given revokes is refused, an issuer too; a list that is no good is no list", arguments: [
        ("good", ["root"], nil), ("revoked", [], nil), ("revoked", ["root"], TLSError.Reason.certificateRevoked),
        ("revoked", ["root", "middle"], .certificateRevoked), ("revoked", ["middle"], nil),
        ("below_middle", ["middle"], .certificateRevoked), ("chained", ["root", "middle"], nil),
        ("below_revoked", ["root"], .certificateRevoked), ("good", ["old"], .revocationsOutOfDate),
        ("revoked", ["old"], .certificateRevoked), ("good", ["forged"], .revocationsNotTrusted),
        ("revoked", ["early"], .certificateRevoked),
    ] as [(String, [String], TLSError.Reason?)])
    func revoked(certificate: String, lists: [String], expected: TLSError.Reason?) throws {
        var trust = trustRoot
        if !lists.isEmpty {
            let texts = lists.map { FileManager.default.contents(atPath: Certificates.path($0 + ".crl"))! }
            trust.revoked = .bytes(texts.flatMap { [UInt8]($0) })
        }
        #expect(try reason(handshake(with: certificate, trust: trust)) == expected)
    }

    @Test("A list of revoked certificates that cannot be read, or is larger than 1 MiB, fails the handshake")
    func unreadableList() throws {
        var trust = trustRoot
        trust.revoked = .file(Certificates.path("root.crl"))
        #expect(isDone(try handshake(with: "good", trust: trust)))
        let large = Certificates.path("large.crl")
        var text = try Data(contentsOf: URL(fileURLWithPath: Certificates.path("root.crl")))
        text = Data(repeating: 0x0a, count: 1 << 20 - 2 - text.count) + text + Data([0x0a, 0x0a])
        try text.write(to: URL(fileURLWithPath: large))
        trust.revoked = .file(large)
        #expect(isDone(try handshake(with: "good", trust: trust)))
        text.append(0x0a)
        try text.write(to: URL(fileURLWithPath: large))
        for path in [large, "/nonexistent.crl", Certificates.path("root.pem")] {
            trust.revoked = .file(path)
            guard case .failed(let error) = try handshake(with: "good", trust: trust) else {
                Issue.record("accepted")
                continue
            }
            #expect(error.reason == .revocationsUnreadable && error.message.contains(path), "\(error)")
        }
    }

    @Test("Certificates and lists are held against the time that is given, not the device's clock")
    func givenTime() throws {
        #expect(isDone(try handshake(with: "future", now: lateTime)))
        #expect(try reason(handshake(with: "good", now: lateTime)) == .certificateExpired)
        #expect(try reason(handshake(with: "good", now: 86_400)) == .certificateNotYetValid, "1970")
        var trust = trustRoot
        trust.revoked = .file(Certificates.path("root.crl"))
        #expect(try reason(handshake(with: "future", trust: trust, now: lateTime)) == .revocationsOutOfDate)
        #expect(buildTime > 1_767_225_600 && buildTime <= now && buildTime % 86_400 == 0, "\(buildTime)")
    }

    @Test("A session is resumed for six hours, and while its certificate is valid")
    func ageOfResumption() throws {
        let (server, port) = OpenSSL.server("good", ["-rev", "-tls1_2"])
        func connect(_ now: Int64, _ earlier: borrowing TLSResumption?, _ next: inout TLSResumption?) throws -> Bool {
            let socket = TestSocket.connected(to: port)
            var session = try TLSSession(
                connectingTo: "localhost", descriptor: socket.descriptor, configuration: trustRoot, now: now,
                resuming: earlier)
            #expect(isDone(drive(socket) { session.handshake() }))
            let wasResumed = session.wasResumed
            next = session.resumption()
            _ = drive(socket) { session.close() }
            return wasResumed
        }
        var first, second, other: TLSResumption?
        var seen = [try connect(now, nil, &first)]
        for later in [21_600, 21_601, -1] as [Int64] { seen.append(try connect(now + later, first, &other)) }
        #expect(seen == [false, true, false, false], "new; six hours; a second more; the clock was set back")
        // Resuming does not make it younger.
        seen = [try connect(now + 21_000, first, &second), try connect(now + 21_601, second, &other)]
        #expect(seen == [true, false])
        withExtendedLifetime(server) {}
    }

    @Test("A server that wants to negotiate anew within a connection is left")
    func serverRenegotiates() throws {
        let (server, port) = OpenSSL.server("good", ["-tls1_2"])
        let socket = TestSocket.connected(to: port)
        var session = try TLSSession(
            connectingTo: "localhost", descriptor: socket.descriptor, configuration: trustRoot, now: now)
        #expect(isDone(drive(socket) { session.handshake() }))
        server.input.fileHandleForWriting.write(Data("r\n".utf8))
        let (bytes, end) = receive(1, &session, socket)
        #expect(bytes.isEmpty && reason(end) == .renegotiation, "\(end)")
    }

    @Test("A host that is none is refused before anything is sent", arguments: [
        "", "a b", "h\u{0}st", "höst", String(repeating: "a", count: 256),
    ])
    func badHosts(host: String) {
        let (one, two) = TestSocket.pair()
        do {
            _ = try TLSSession(connectingTo: host, descriptor: one.descriptor, configuration: trustRoot, now: now)
            Issue.record("accepted")
        } catch { #expect(error.reason == .hostInvalid) }
        withExtendedLifetime(two) {}
    }

    @Test("A session is resumed by ticket and by identifier; not for another host", arguments: [[], ["-no_ticket"]])
    func resumption(arguments: [String]) throws {
        let (server, port) = OpenSSL.server("good", ["-rev", "-tls1_2"] + arguments)
        let first = TestSocket.connected(to: port)
        var session = try TLSSession(
            connectingTo: "localhost", descriptor: first.descriptor, configuration: trustRoot, now: now)
        #expect(isDone(drive(first) { session.handshake() }))
        let resumption = session.resumption()
        _ = drive(first) { session.close() }

        // Trust that cannot be read: a resumed handshake never looks at it.
        let noTrust = TLSClientConfiguration(authorities: .file("/nonexistent"))
        let second = TestSocket.connected(to: port)
        var resumed = try TLSSession(
            connectingTo: "localhost", descriptor: second.descriptor, configuration: noTrust, now: now, resuming: resumption)
        #expect(isDone(drive(second) { resumed.handshake() }))
        let wasResumed = resumed.wasResumed
        #expect(wasResumed)
        #expect(send(Array("tsop\n".utf8), &resumed, second) == nil)
        #expect(receive(5, &resumed, second).0 == Array("post\n".utf8))
        let again = resumed.resumption()
        _ = drive(second) { resumed.close() }

        let third = TestSocket.connected(to: port)
        var other = try TLSSession(
            connectingTo: "hub.example", descriptor: third.descriptor, configuration: trustRoot, now: now, resuming: again)
        #expect(isDone(drive(third) { other.handshake() }))
        let wasOtherResumed = other.wasResumed
        #expect(!wasOtherResumed)
        withExtendedLifetime(server) {}
    }

    @Test("A server that does not know the session any more gets a full handshake with verification")
    func forgottenSession() throws {
        let (one, firstPort) = OpenSSL.server("good", ["-rev", "-tls1_2"])
        let first = TestSocket.connected(to: firstPort)
        var session = try TLSSession(
            connectingTo: "localhost", descriptor: first.descriptor, configuration: trustRoot, now: now)
        #expect(isDone(drive(first) { session.handshake() }))
        let resumption = session.resumption()
        withExtendedLifetime(one) {}
        for (certificate, expected) in [("good", nil), ("expired", TLSError.Reason.certificateExpired)] {
            let (two, port) = OpenSSL.server(certificate, ["-rev", "-tls1_2"])
            let socket = TestSocket.connected(to: port)
            var next = try TLSSession(
                connectingTo: "localhost", descriptor: socket.descriptor, configuration: trustRoot, now: now,
                resuming: resumption)
            let outcome = drive(socket) { next.handshake() }
            #expect(reason(outcome) == expected)
            let wasResumed = next.wasResumed
            #expect(!wasResumed)
            withExtendedLifetime(two) {}
        }
    }

    @Test("Mutual TLS: the client's certificate is shown, and missing or strange ones are refused by the server")
    func clientCertificate() throws {
        let required = ["-rev", "-tls1_2", "-Verify", "2", "-verify_return_error", "-CAfile", Certificates.path("root.pem")]
        for (name, isWelcome) in [("client_only", true), ("unknown", false), ("", false)] {
            let (server, port) = OpenSSL.server("good", required)
            let socket = TestSocket.connected(to: port)
            var trust = trustRoot
            if name != "" { trust.identity = Certificates.identity(name) }
            var session = try TLSSession(
                connectingTo: "localhost", descriptor: socket.descriptor, configuration: trust, now: now)
            let outcome = drive(socket) { session.handshake() }
            #expect(isDone(outcome) == isWelcome, "\(name): \(outcome)")
            if !isWelcome { #expect(reason(outcome) == (name == "" ? .certificateWanted : .peerRefused)) }
            withExtendedLifetime(server) {}
        }
        let (one, two) = TestSocket.pair()
        let mixed = TLSIdentity(chain: .file(Certificates.path("good.pem")), key: .file(Certificates.path("other.key")))
        do {
            _ = try TLSSession(
                connectingTo: "x", descriptor: one.descriptor,
                configuration: TLSClientConfiguration(authorities: nil, identity: mixed), now: now)
            Issue.record("accepted")
        } catch { #expect(error.reason == .ownKeyMismatch) }
        withExtendedLifetime(two) {}
    }

    @Test("A plain HTTP server is told from a TLS one")
    func notTLS() throws {
        let (near, far) = TestSocket.pair()
        let answer = Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8)
        _ = Glibc.write(far.descriptor, answer, answer.count)
        var session = try TLSSession(
            connectingTo: "localhost", descriptor: near.descriptor, configuration: trustRoot, now: now)
        #expect(reason(drive(near) { session.handshake() }) == .notTLS)
        #expect(reason(session.handshake()) == .notTLS, "a dead session stays dead")
    }

    // MARK: As a server, against openssl s_client

    /// s_client connects to a server session; what the session's handshake came to, and what s_client said.
    private func serve(
        _ configuration: TLSServerConfiguration, _ arguments: [String],
        _ body: (inout TLSSession, TestSocket) -> Void = { _, _ in }
    ) throws -> (TLSProgress, String, Int32) {
        let (listener, port) = TestSocket.listening()
        let client = OpenSSL(
            ["s_client", "-connect", "127.0.0.1:\(port)", "-CAfile", Certificates.path("root.pem"),
                "-verify_return_error", "-servername", "localhost", "-verify_hostname", "localhost"] + arguments)
        let socket = listener.accepted()
        var session = try TLSSession(accepting: socket.descriptor, configuration: configuration)
        let outcome = drive(socket) { session.handshake() }
        if isDone(outcome) {
            body(&session, socket)
            _ = drive(socket) { session.close() }
        }
        shutdown(socket.descriptor, Int32(SHUT_WR))
        let (text, status) = client.finish()
        return (outcome, text, status)
    }

    @Test("As a server: OpenSSL verifies us, with each suite that we have", arguments: [
        ("good", "ECDHE-ECDSA-AES128-GCM-SHA256"), ("good", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("rsa", "ECDHE-RSA-AES256-GCM-SHA384"), ("chained", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ])
    func serves(certificate: String, suite: String) throws {
        let configuration = try TLSServerConfiguration(identity: Certificates.identity(certificate))
        let (outcome, text, _) = try serve(configuration, ["-tls1_2", "-cipher", suite]) { session, socket in
            #expect(send(Array("ready\n".utf8), &session, socket) == nil)
        }
        #expect(isDone(outcome), "\(outcome)")
        #expect(text.contains("Verify return code: 0 (ok)"))
        #expect(text.contains("Cipher    : \(suite)"))
        #expect(text.contains("ready"))
        #expect(text.contains("Extended master secret: yes"))
    }

    @Test("As a server: old protocols and suites are refused", arguments: [
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"],
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], ["-tls1_3"],
    ])
    func serverRefuses(arguments: [String]) throws {
        let configuration = try TLSServerConfiguration(identity: Certificates.identity("good"))
        let (outcome, _, status) = try serve(configuration, arguments)
        #expect(reason(outcome) == .noCommonSuite || reason(outcome) == .protocolVersion, "\(outcome)")
        #expect(status != 0)
    }

    @Test("As a server: a client's certificate is required and verified when authorities are given")
    func serverVerifiesClients() throws {
        let configuration = try TLSServerConfiguration(
            identity: Certificates.identity("good"), clientAuthorities: .file(Certificates.path("root.pem")))
        func certificate(_ name: String) -> [String] {
            ["-tls1_2", "-cert", Certificates.path(name + ".pem"), "-key", Certificates.path(name + ".key")]
        }
        var fingerprint: Digest256?
        let good = try serve(configuration, certificate("client_only")) { session, _ in
            fingerprint = session.peerFingerprint
        }
        #expect(isDone(good.0), "\(good.0)")
        #expect(fingerprint != nil)
        #expect(try reason(serve(configuration, ["-tls1_2"]).0) == .certificateMissing)
        #expect(try reason(serve(configuration, certificate("unknown")).0) == .certificateIssuerUnknown)
        #expect(try reason(serve(configuration, certificate("expired")).0) == .certificateExpired)
        #expect(isDone(try serve(configuration, certificate("revoked")).0))
        let strict = try TLSServerConfiguration(
            identity: Certificates.identity("good"), clientAuthorities: .file(Certificates.path("root.pem")),
            revoked: .file(Certificates.path("root.crl")))
        #expect(try reason(serve(strict, certificate("revoked")).0) == .certificateRevoked)
        #expect(isDone(try serve(strict, certificate("client_only")).0))
        let late = try TLSServerConfiguration(
            identity: Certificates.identity("good"), clientAuthorities: .file(Certificates.path("root.pem")),
            earliest: lateTime)
        #expect(isDone(try serve(late, certificate("future")).0))
        #expect(try reason(serve(late, certificate("client_only")).0) == .certificateExpired)
    }

    @Test("As a server: renegotiation is refused")
    func renegotiation() throws {
        let configuration = try TLSServerConfiguration(identity: Certificates.identity("good"))
        let (listener, port) = TestSocket.listening()
        let client = OpenSSL(["s_client", "-connect", "127.0.0.1:\(port)", "-tls1_2", "-CAfile", Certificates.path("root.pem")])
        let socket = listener.accepted()
        var session = try TLSSession(accepting: socket.descriptor, configuration: configuration)
        #expect(isDone(drive(socket) { session.handshake() }))
        client.input.fileHandleForWriting.write(Data("R\n".utf8))  // s_client: renegotiate
        // OpenSSL ends the connection when its request is declined.
        let (bytes, end) = receive(1, &session, socket)
        #expect(bytes.isEmpty && !isDone(end), "\(end)")
        shutdown(socket.descriptor, Int32(SHUT_RDWR))
        #expect(client.finish().text.contains("no renegotiation"))
    }

    @Test("As a server: what cannot be read is named")
    func serverConfigurationErrors() {
        func reasonOf(_ identity: TLSIdentity, _ authorities: PEMSource? = nil) -> TLSError.Reason? {
            do { _ = try TLSServerConfiguration(identity: identity, clientAuthorities: authorities); return nil } catch {
                return error.reason
            }
        }
        let good = Certificates.identity("good")
        #expect(reasonOf(good) == nil)
        #expect(reasonOf(TLSIdentity(chain: .file("/nonexistent"), key: good.key)) == .ownCertificateUnreadable)
        #expect(reasonOf(TLSIdentity(chain: good.chain, key: good.chain)) == .ownKeyUnreadable)
        #expect(reasonOf(TLSIdentity(chain: good.chain, key: Certificates.identity("other").key)) == .ownKeyMismatch)
        #expect(reasonOf(good, .bytes([])) == .authoritiesUnreadable)
        do {
            _ = try TLSServerConfiguration(
                identity: good, clientAuthorities: .file(Certificates.path("root.pem")), revoked: .file("/nonexistent.crl"))
            Issue.record("accepted")
        } catch { #expect(error.reason == .revocationsUnreadable && error.message.contains("/nonexistent.crl")) }
    }

    // MARK: Both sides our own, over a socket pair

    /// A finished handshake between two sessions of ours.
    private func connectedPair(
        _ body: (inout TLSSession, TestSocket, inout TLSSession, TestSocket) throws -> Void
    ) throws {
        let configuration = try TLSServerConfiguration(identity: Certificates.identity("good"))
        let (near, far) = TestSocket.pair()
        var client = try TLSSession(
            connectingTo: "localhost", descriptor: near.descriptor, configuration: trustRoot, now: now)
        var server = try TLSSession(accepting: far.descriptor, configuration: configuration)
        var isClientDone = false
        var isServerDone = false
        while !isClientDone || !isServerDone {
            if !isClientDone {
                let progress = client.handshake()
                isClientDone = isDone(progress)
                try #require(reason(progress) == nil)
            }
            if !isServerDone {
                let progress = server.handshake()
                isServerDone = isDone(progress)
                try #require(reason(progress) == nil)
            }
        }
        try body(&client, near, &server, far)
    }

    @Test("A megabyte arrives as it was sent, whatever the pieces; then both see the end")
    func megabyte() throws {
        try connectedPair { client, near, server, far in
            var state: UInt64 = 7
            let message = (0..<1_000_000).map { _ -> UInt8 in
                state = state &* 6364136223846793005 &+ 1442695040888963407
                return UInt8(truncatingIfNeeded: state >> 56)
            }
            var sent = 0
            var received: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 5000)
            while received.count < message.count {
                if sent < message.count,
                    case .done(let count) = client.write(message.span.extracting(sent..<message.count))
                { sent += count }
                var span = buffer.mutableSpan
                if case .done(let count) = server.read(into: &span) { received += buffer[..<count] }
            }
            #expect(received == message)
            #expect(isDone(client.close()))
            var span = buffer.mutableSpan
            guard case .closed = server.read(into: &span) else { Issue.record("the end was not seen"); return }
            withExtendedLifetime((near, far)) {}
        }
    }

    @Test("An end without close_notify is told from a proper one")
    func truncation() throws {
        try connectedPair { client, near, _, far in
            shutdown(far.descriptor, Int32(SHUT_WR))
            #expect(reason(receive(1, &client, near).1) == .truncated)
        }
    }

    @Test("A flipped bit in any byte of a record is noticed", arguments: [5, 12, 20, 29])
    func tampering(position: Int) throws {
        try connectedPair { client, near, server, far in
            #expect(send(Array("attack at dawn".utf8), &server, far) == nil)
            var record = [UInt8](repeating: 0, count: 200)
            let count = recv(near.descriptor, &record, record.count, 0)
            #expect(count > position)
            record[position] ^= 1
            let (injected, receiver) = TestSocket.pair()
            dup2(receiver.descriptor, near.descriptor)
            _ = Glibc.write(injected.descriptor, record, count)
            let (bytes, end) = receive(1, &client, near)
            #expect(bytes.isEmpty)
            #expect(reason(end) == .tampered, "\(end)")
        }
    }

    @Test("A client's session costs under 48 KB of heap; its authorities are gone after the handshake")
    func memory() throws {
        try connectedPair { _, _, _, _ in }  // what is allocated once
        let before = heap()
        var cost = 0
        try connectedPair { _, _, _, _ in cost = heap() - before }
        let after = heap()
        print("two TLS sessions and a server's configuration: \(cost) bytes of heap; left behind: \(after - before)")
        #expect(cost < 2 * 48 * 1024 + 8 * 1024)
        #expect(after - before < 4096, "freed when it ends")
    }
}

/// The bytes of heap in use, as glibc's own account has it.
private func heap() -> Int {
    var text: UnsafeMutablePointer<CChar>?
    var size = 0
    let file = open_memstream(&text, &size)
    // Swift's Glibc module leaves malloc.h out.
    typealias MallocInfo = @convention(c) (Int32, UnsafeMutableRawPointer?) -> Int32
    _ = unsafeBitCast(dlsym(nil, "malloc_info"), to: MallocInfo.self)(0, UnsafeMutableRawPointer(file))
    fclose(file!)
    defer { free(text) }
    // The sums over all arenas stand last.
    func last(_ element: String) -> Int {
        let xml = String(cString: text!)
        guard let range = xml.range(of: element, options: .backwards) else { return 0 }
        let rest = xml[range.upperBound...]
        let start = rest.range(of: "size=\"")!.upperBound
        return Int(rest[start...].prefix { $0 != "\"" })!
    }
    return last("<system type=\"current\"") + last("<total type=\"mmap\"") - last("<total type=\"rest\"")
        - last("<total type=\"fast\"")
}
