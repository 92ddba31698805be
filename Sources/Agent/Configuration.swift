// The device configuration (DESIGN section 6): what one device needs to know about itself. Everything has a default.

import Collection
import Cryptography
import Delivery
import Formats
import Governance
import Platform

/// Where the local API or the hub listens.
public struct ListenAddress: Equatable, Sendable {
    public var host = "127.0.0.1"
    public var port: UInt16 = 8470

    public var isLoopback: Bool { host.utf8.starts(with: "127.".utf8) || host == "::1" }
}

/// When an accepted event is synced to the disk.
public enum Durability: Equatable, Sendable {
    /// Before it is answered.
    case commit
    /// At most this many milliseconds after it was answered: spares flash, risks that much at a power cut.
    case interval(Int64)
}

/// A device's settings. A class, since so many values would be copied one by one.
public final class Configuration {
    /// This device's name upstream; made at first start when it is not set.
    public var device: String?
    public var listen = ListenAddress()
    /// A Unix socket beside the TCP address; none when nil.
    public var socket: String?
    /// The folder of the store.
    public var data = "gatehouse-data"
    /// The file of the HMAC secret; in the data folder when nil.
    public var pepper: String?
    /// How long identifiers are looked up under the former pepper after a rotation, milliseconds.
    public var rotationMilliseconds = Limits.rotationMilliseconds
    /// The bundle's file.
    public var bundle: String?
    /// Where the bundle is fetched from; never together with a file.
    public var bundleURL: DestinationURL?
    /// PEM of the public keys, one of which must have signed the bundle; nil: whatever the file holds is taken.
    public var bundleKey: PEMSource?
    /// How often is looked for another bundle at the URL, milliseconds.
    public var pollMilliseconds = Limits.defaultPollMilliseconds
    /// The file of a bundle that runs beside it and is only looked at.
    public var shadow: String?
    public var durability = Durability.commit
    /// How many snapshots of itself the store keeps, and how often one is taken, milliseconds.
    public var snapshots: Int64 = 2
    public var snapshotMilliseconds: Int64 = 86_400_000
    /// Bytes that the store may take.
    public var diskBytes: Int64?
    /// Bytes that the log may take for events that every destination has.
    public var historyBytes: Int64?
    /// Bytes that the process may have in memory, pages of the store's map with them; no bound when nil.
    public var memoryBytes: Int64?
    /// How many profiles the store has at most; no bound when nil.
    public var profiles: Int64?
    /// Bytes of the store that they may take; no bound when nil.
    public var profileBytes: Int64?
    /// Bytes of a request's body.
    public var bodyBytes: Int64?
    public var connections: Int64?
    /// Serving threads; one a core when nil.
    public var threads: Int64?
    /// The hub that a device tells what has changed, and hears it from.
    public var hubURL: DestinationURL?
    public var hubToken: [UInt8]?
    public var hubPollMilliseconds = Limits.syncMilliseconds
    /// Of the purpose that a person must grant for what is known of them to be told; 0: it is not told.
    public var hubPurposeTag: UInt32 = 0
    /// Of a hub: the fingerprint of the pepper of the devices that it brings together.
    public var fleet: [UInt8]?
    public var certificateAuthority: String?
    public var certificate: String?
    public var privateKey: String?
    /// What is shown to destinations in place of those.
    public var clientCertificate: String?
    public var clientKey: String?
    /// The authorities of those who may connect; anybody when nil.
    public var clientAuthority: String?
    /// The file of certificates that were revoked.
    public var revoked: String?
    /// SHA-256 of the public keys that destinations may have which say nothing of it themselves.
    public var pins: [Digest256] = []
    public var tokens: [Token] = []
    public var logLevel = Log.Level.info

    public init() {}

    /// Where the HMAC secret is.
    public var pepperPath: String { pepper ?? data + "/pepper" }

    /// Who the local API is to those who connect by TLS.
    var ownIdentity: TLSIdentity? {
        guard let certificate, let privateKey else { return nil }
        return TLSIdentity(chain: .file(certificate), key: .file(privateKey))
    }

    /// Whom a client of this device trusts, and who it is.
    func trust(_ pins: [Digest256] = []) -> TLSClientConfiguration {
        var trust = TLSClientConfiguration()
        trust.authorities = certificateAuthority.map { .file($0) }
        trust.revoked = revoked.map { .file($0) }
        trust.pins = pins
        if let chain = clientCertificate ?? certificate, let key = clientKey ?? privateKey {
            trust.identity = TLSIdentity(chain: .file(chain), key: .file(key))
        }
        return trust
    }

    /// Reads a configuration file.
    /// - Returns: the configuration, fit for use only if no problem but warnings came with it.
    public static func read(_ text: Span<UInt8>) -> (Configuration, [PlanProblem]) {
        let configuration = Configuration()
        var reader = PlanReader()
        let document: JSONDocument
        do throws(YAMLError) { document = try YAML.parse(text) } catch {
            reader.problems.append(PlanProblem(position: error.position, message: error.message))
            return (configuration, reader.problems)
        }
        if document.isNull(document.root) { return (configuration, []) }
        guard document.kind(document.root) == .object else {
            reader.report(document, document.root, "a configuration is a map of settings, such as listen: 127.0.0.1:8470")
            return (configuration, reader.problems)
        }
        configuration.read(document, &reader)
        return (configuration, reader.problems)
    }

    private func read(_ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        let root = document.root
        reader.refuseOthers(
            document, root,
            [
                "device", "listen", "socket", "data", "pepper", "pepper_rotation", "bundle", "durability", "limits", "tls",
                "tokens", "log", "threads", "snapshots", "hub", "fleet",
            ], of: "the configuration")
        if let node = reader.text(document, root, "device") {
            if Configuration.isDeviceName(document.bytes(node)) {
                device = document.string(node)
            } else {
                reader.report(document, node, "device must be 1 to 64 letters, digits, - . or _")
            }
        }
        if let node = reader.text(document, root, "listen") {
            if let address = ListenAddress(document.bytes(node)) {
                listen = address
            } else {
                reader.report(document, node, "listen must be a numeric address and a port, such as 127.0.0.1:8470 or [::1]:8470")
            }
        }
        socket = reader.string(document, root, "socket")
        data = reader.string(document, root, "data") ?? data
        pepper = reader.string(document, root, "pepper")
        rotationMilliseconds = reader.duration(document, root, "pepper_rotation") ?? rotationMilliseconds
        readBundle(document, &reader)
        readDurability(document, &reader)
        readLimits(document, &reader)
        if let node = reader.object(document, root, "snapshots") {
            let range = Limits.snapshotMilliseconds
            reader.refuseOthers(document, node, ["every", "keep"], of: "snapshots")
            snapshots = reader.integer(document, node, "keep", Limits.snapshots) ?? snapshots
            if let every = document.member(node, "every") {
                snapshotMilliseconds = reader.duration(document, node, "every", atMost: range.upperBound) ?? snapshotMilliseconds
                if snapshotMilliseconds < range.lowerBound { reader.report(document, every, "every must be 1s or more") }
            }
        }
        if let node = reader.object(document, root, "tls") {
            reader.refuseOthers(
                document, node, ["ca", "cert", "key", "client_cert", "client_key", "client_ca", "crl", "pins"], of: "tls")
            certificateAuthority = reader.string(document, node, "ca")
            certificate = reader.string(document, node, "cert")
            privateKey = reader.string(document, node, "key")
            if (certificate == nil) != (privateKey == nil) {
                reader.report(document, node, "cert and key go together: give both or neither")
            }
            clientCertificate = reader.string(document, node, "client_cert")
            clientKey = reader.string(document, node, "client_key")
            if (clientCertificate == nil) != (clientKey == nil) {
                reader.report(document, node, "client_cert and client_key go together: give both or neither")
            }
            clientAuthority = reader.string(document, node, "client_ca")
            if certificate == nil, let member = document.member(node, "client_ca") {
                reader.report(document, member, "client_ca is for those who connect here by TLS, which needs cert and key")
            }
            revoked = reader.string(document, node, "crl")
            pins = reader.pins(document, node)
        }
        readHub(document, &reader)
        readTokens(document, &reader)
        if let node = reader.text(document, root, "log") {
            let levels: [(StaticString, Log.Level)] = [
                ("debug", .debug), ("info", .info), ("warning", .warning), ("error", .error),
            ]
            var level: Log.Level?
            for (name, value) in levels where document.equals(node, name) { level = value }
            if let level { logLevel = level } else { reader.report(document, node, "log must be debug, info, warning or error") }
        }
        if !listen.isLoopback && tokens.isEmpty, let node = document.member(root, "listen") {
            reader.report(
                document, node,
                "listening beyond this device needs tokens: add tokens:, or listen on 127.0.0.1")
        }
    }

    private func readBundle(_ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        guard let node = reader.object(document, document.root, "bundle") else { return }
        reader.refuseOthers(document, node, ["file", "url", "key", "poll", "shadow"], of: "bundle")
        bundle = reader.string(document, node, "file")
        shadow = reader.string(document, node, "shadow")
        bundleURL = url(document, node, &reader)
        if let url = document.member(node, "url"), document.kind(url) == .string {
            if bundle != nil { reader.report(document, url, "a bundle has one place: give file: or url:") }
            if document.member(node, "key") == nil {
                reader.report(
                    document, url, "a bundle from a url needs key: the public key of whoever signs it, in PEM, or its file")
            }
        }
        if let key = reader.text(document, node, "key") { readKey(document, key, &reader) }
        if let poll = document.member(node, "poll"), document.member(node, "url") == nil {
            reader.report(document, poll, "poll goes with url:")
        }
        readPoll(document, node, into: &pollMilliseconds, &reader)
        if bundle == nil, document.member(node, "url") == nil, let other = document.firstChild(node) {
            reader.report(document, other, "there is no bundle: give it as file: or url:")
        }
    }

    /// The key's file, or the key itself.
    private func readKey(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ reader: inout PlanReader
    ) {
        let text = [UInt8](copying: document.bytes(node))
        if !text.starts(with: Array("-----BEGIN".utf8)) {
            bundleKey = .file(String(copying: text.span))
            return
        }
        bundleKey = .bytes(text)
        do throws(SignatureError) { _ = try VerificationKeys(text) } catch {
            reader.report(document, node, String(copying: error.message.bytes))
        }
    }

    private func readDurability(_ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        guard let node = reader.text(document, document.root, "durability") else { return }
        if document.equals(node, "commit") { return }
        if let interval = DurationText.parse(document.bytes(node)), interval > 0, interval <= 60_000 {
            durability = .interval(interval)
            reader.report(document, node, "durability: an interval is not supported yet; use commit")
        } else {
            reader.report(document, node, "durability must be commit")
        }
    }

    private func readLimits(_ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        let root = document.root
        threads = reader.integer(document, root, "threads", 1...Int64(Limits.servingThreads))
        guard let node = reader.object(document, root, "limits") else { return }
        reader.refuseOthers(
            document, node, ["disk", "history", "memory", "profiles", "profile_bytes", "body", "connections"], of: "limits")
        diskBytes = reader.size(document, node, "disk", Limits.diskBytes)
        historyBytes = reader.size(document, node, "history", 0...1 << 40)
        memoryBytes = reader.size(document, node, "memory", 0...1 << 40)
        if let bytes = memoryBytes, bytes < Limits.leastMemoryBytes, let member = document.member(node, "memory") {
            reader.report(document, member, "memory must be at least 16MiB: the agent needs 8 of them itself, the store the rest")
        }
        profiles = reader.integer(document, node, "profiles", Limits.leastProfiles...1 << 40)
        profileBytes = reader.size(document, node, "profile_bytes", Limits.leastProfileBytes...1 << 40)
        bodyBytes = reader.size(document, node, "body", Limits.bodyBytes)
        connections = reader.integer(document, node, "connections", Limits.connections)
    }

    private func readHub(_ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        if let node = reader.text(document, document.root, "fleet") {
            fleet = [UInt8](copying: document.bytes(node))
            if !Fleet.isFingerprint(document.bytes(node)) {
                reader.report(document, node, "fleet is what gatehouse pepper fingerprint prints: 32 digits, 0-9 and a-f")
            }
        }
        guard let node = reader.object(document, document.root, "hub") else { return }
        reader.refuseOthers(document, node, ["url", "token", "poll", "purpose"], of: "hub")
        hubURL = url(document, node, &reader)
        if let url = hubURL, url.target.count > 1 {
            reader.report(document, node, "the hub's url has no path: https://hub.example:8443")
        } else if document.member(node, "url") == nil {
            reader.report(document, node, "hub needs a url, such as https://hub.example:8443")
        }
        if let purpose = reader.text(document, node, "purpose") { hubPurposeTag = NameTag.of(document.bytes(purpose)) }
        if let token = reader.text(document, node, "token") {
            let bytes = [UInt8](copying: document.bytes(token))
            hubToken = bytes
            var isRight = !bytes.isEmpty && bytes.count <= 512
            for byte in bytes where byte <= 0x20 || byte >= 0x7F { isRight = false }
            if !isRight { reader.report(document, token, "a token is 1 to 512 visible ASCII characters") }
        }
        readPoll(document, node, into: &hubPollMilliseconds, &reader)
    }

    /// The address in a section, if it has one.
    private func url(
        _ document: borrowing JSONDocument, _ section: JSONNode, _ reader: inout PlanReader
    ) -> DestinationURL? {
        guard let node = reader.text(document, section, "url") else { return nil }
        do throws(DestinationURL.Problem) { return try DestinationURL(document.bytes(node)) } catch {
            reader.report(document, node, error.message)
            return nil
        }
    }

    /// How often is asked at the address in a section.
    private func readPoll(
        _ document: borrowing JSONDocument, _ section: JSONNode, into poll: inout Int64, _ reader: inout PlanReader
    ) {
        guard let node = document.member(section, "poll") else { return }
        let range = Limits.pollMilliseconds
        poll = reader.duration(document, section, "poll", atMost: range.upperBound) ?? poll
        if poll < range.lowerBound { reader.report(document, node, "poll must be 1s or more") }
    }

    private func readSpeaker(
        _ document: borrowing JSONDocument, _ token: JSONNode, _ reader: inout PlanReader
    ) -> Speaker {
        var speaker = Speaker()
        for name in ["device", "hub"] as [StaticString] {
            guard let text = reader.text(document, token, name) else { continue }
            let isSecond = !speaker.name.isEmpty
            speaker.name = [UInt8](copying: document.bytes(text))
            speaker.isHub = name.bytes.count == 3
            if isSecond || !Configuration.isDeviceName(speaker.name.span) {
                reader.report(document, text, "device or hub is the name of one: 1 to 64 letters, digits, - . or _")
            }
        }
        return speaker
    }

    private func readTokens(_ document: borrowing JSONDocument, _ reader: inout PlanReader) {
        guard let list = document.member(document.root, "tokens"), !document.isNull(list) else { return }
        guard document.kind(list) == .array else {
            reader.report(document, list, "tokens must be a list of { name: …, sha256: …, roles: […] }")
            return
        }
        var element = document.firstChild(list)
        while let node = element {
            element = document.next(node)
            guard document.kind(node) == .object else {
                reader.report(document, node, "a token is { sha256: …, roles: […] }")
                continue
            }
            reader.refuseOthers(document, node, ["name", "sha256", "roles", "device", "hub"], of: "a token")
            guard let hash = document.member(node, "sha256"), document.kind(hash) == .string,
                let digest = Digest256(hexadecimal: document.bytes(hash))
            else {
                reader.report(
                    document, node,
                    "a token is given by its hash: sha256: 64 hex digits (printf %s TOKEN | sha256sum)")
                continue
            }
            var roles: Roles = []
            let names: [(StaticString, Roles)] = [
                ("collect", .collect), ("decide", .decide), ("privacy", .privacy), ("operate", .operate),
                ("sync", .sync),
            ]
            var role = document.member(node, "roles").flatMap { document.firstChild($0) }
            while let word = role {
                role = document.next(word)
                let before = roles
                if document.kind(word) == .string {
                    for (name, value) in names where document.equals(word, name) { roles.insert(value) }
                }
                if roles == before { reader.report(document, word, "a role is collect, decide, privacy, operate or sync") }
            }
            if roles.isEmpty { reader.report(document, node, "this token needs roles: [collect, …]") }
            var name: [UInt8] = []
            if let text = reader.text(document, node, "name") {
                if Configuration.isDeviceName(document.bytes(text)) {
                    name.append(contentsOf: document.bytes(text))
                } else {
                    reader.report(document, text, "a token's name must be 1 to 64 letters, digits, - . or _")
                }
            }
            let speaker = readSpeaker(document, node, &reader)
            if roles.contains(.sync), speaker.name.isEmpty {
                reader.report(document, node, "a token with the role sync needs device: NAME, or hub: NAME for a hub")
            }
            tokens.append(Token(digest: digest, roles: roles, name: name, speaker: speaker))
        }
        if AccessList(tokens).sources.count > CollectionLimits.watchedSources {
            reader.report(document, list, "at most 64 tokens of different names may have the role collect")
        }
    }

    static func isDeviceName(_ name: Span<UInt8>) -> Bool {
        if name.isEmpty || name.count > 64 { return false }
        for index in name.indices {
            let byte = name[index]
            let isLetter = (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7A
            if !isLetter && !(byte >= 0x30 && byte <= 0x39) && byte != 0x2D && byte != 0x2E && byte != 0x5F { return false }
        }
        return true
    }
}

extension ListenAddress {
    /// Reads `127.0.0.1:8470`, `[::1]:8470`, or a port alone.
    public init?(_ text: Span<UInt8>) {
        var colon: Int?
        for index in text.indices where text[index] == UInt8(ascii: ":") { colon = index }
        var digits = text
        if let colon {
            digits = text.extracting(colon + 1..<text.count)
            var name = text.extracting(0..<colon)
            if name.count >= 2, name[0] == UInt8(ascii: "["), name[name.count - 1] == UInt8(ascii: "]") {
                name = name.extracting(1..<name.count - 1)
            }
            if name.isEmpty { return nil }
            host = String(copying: name)
        }
        guard let number = parseUInt64(digits), number <= 65_535 else { return nil }
        port = UInt16(number)
    }
}

/// The same bytes. What Swift itself compares by knows that letters can be written in several ways, which nothing here depends on,
/// and brings 40 KB of tables.
extension String {
    static func == (left: String, right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }
    static func != (left: String, right: String) -> Bool { !left.utf8.elementsEqual(right.utf8) }
    static func ~= (pattern: String, value: String) -> Bool { pattern.utf8.elementsEqual(value.utf8) }
}
