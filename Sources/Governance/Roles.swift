// Who may do what at the local API: tokens, of which only hashes are known, and the roles that they carry.

import Cryptography
import Formats

/// What a caller may do.
public struct Roles: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// Send events.
    public static let collect = Roles(rawValue: 1)
    /// Ask for decisions.
    public static let decide = Roles(rawValue: 2)
    /// Read, change and erase personal records.
    public static let privacy = Roles(rawValue: 4)
    /// See metrics and state.
    public static let operate = Roles(rawValue: 8)
    /// Exchange with a hub what is known of people.
    public static let sync = Roles(rawValue: 16)
    public static let all: Roles = [.collect, .decide, .privacy, .operate, .sync]
}

/// Whom a token speaks for at a hub.
public struct Speaker: Equatable, Sendable {
    /// The name of a device or a hub; empty: whoever it says.
    public var name: [UInt8] = []
    /// It is a hub, which passes on what others have said.
    public var isHub = false

    public init() {}

    /// Whether it may speak under a name.
    public func mayBe(_ device: Span<UInt8>) -> Bool { name.isEmpty || equal(name.span, device) }

    /// Whether it may send a message of a device.
    /// - Parameter hub: by which the message says that it was passed on; empty: by none.
    public func maySend(of device: Span<UInt8>, by hub: Span<UInt8>) -> Bool {
        if name.isEmpty { return true }
        return isHub ? equal(name.span, hub) : hub.isEmpty && equal(name.span, device)
    }
}

/// A token as it is kept: its hash and what it allows.
public struct Token: @unchecked Sendable {
    // A digest is 32 plain bytes.
    public let digest: Digest256
    public let roles: Roles
    /// What it is called in the configuration; empty for nothing.
    let name: [UInt8]
    let speaker: Speaker

    public init(digest: Digest256, roles: Roles, name: [UInt8] = [], speaker: Speaker = Speaker()) {
        self.name = name
        self.speaker = speaker
        self.digest = digest
        self.roles = roles
    }
}

/// All tokens of a device.
public struct AccessList: Sendable {
    private let tokens: [Token]
    /// Names of those that may send events: the tokens' own, or as the audit log has them; `local` where no tokens are
    /// configured. Tokens of one name are one source.
    public private(set) var sources: [[UInt8]] = []
    /// Of each token its place there; 0 for one that may not.
    private var sourceOfToken: [Int] = []

    public init(_ tokens: [Token]) {
        self.tokens = tokens
        for token in tokens {
            sourceOfToken.append(0)
            if !token.roles.contains(.collect) { continue }
            let name = token.name.isEmpty ? AccessList.name(token.digest) : token.name
            sourceOfToken[sourceOfToken.count - 1] = sources.firstIndex(of: name) ?? sources.count
            if !sources.contains(name) { sources.append(name) }
        }
        if sources.isEmpty { sources.append(Array("local".utf8)) }
    }

    private static func name(_ digest: Digest256) -> [UInt8] {
        var name = Array("token:".utf8)
        for index in 0..<4 {
            name.append(Hex.digit(digest[index] >> 4))
            name.append(Hex.digit(digest[index] & 0xF))
        }
        return name
    }

    /// Without tokens everybody who can reach the API may do everything; the agent then listens on loopback only.
    public var isOpen: Bool { tokens.isEmpty }

    /// The roles that an `Authorization` header carries: `Bearer TOKEN` (RFC 6750), or `Basic` with the token as user
    /// name (RFC 7617), as the Segment SDKs send their write key. None for an unknown token or a malformed header.
    /// - Parameters:
    ///   - scratch: overwritten.
    ///   - token: becomes the number of the token.
    public func roles(_ authorization: Span<UInt8>, _ scratch: inout [UInt8], token: inout Int) -> Roles {
        if tokens.isEmpty { return .all }
        if let credentials = AccessList.credentials(authorization, scheme: "bearer") {
            return roles(ofToken: credentials, token: &token)
        }
        guard let credentials = AccessList.credentials(authorization, scheme: "basic") else { return [] }
        scratch.removeAll(keepingCapacity: true)
        guard Base64.appendDecoded(credentials, to: &scratch) else { return [] }
        var end = 0
        while end < scratch.count, scratch[end] != UInt8(ascii: ":") { end += 1 }
        return roles(ofToken: scratch.span.extracting(0..<end), token: &token)
    }

    /// How the audit log names whoever an `Authorization` header speaks for: `token:` and the first eight hexadecimal
    /// digits of the token's hash; `anyone` where no tokens are configured.
    /// - Parameter scratch: overwritten.
    public func name(_ authorization: Span<UInt8>, _ scratch: inout [UInt8]) -> [UInt8] {
        if tokens.isEmpty { return Array("anyone".utf8) }
        var text: [UInt8] = []
        if let credentials = AccessList.credentials(authorization, scheme: "bearer") {
            text.append(contentsOf: credentials)
        } else if let credentials = AccessList.credentials(authorization, scheme: "basic") {
            scratch.removeAll(keepingCapacity: true)
            _ = Base64.appendDecoded(credentials, to: &scratch)
            text = Array(scratch.prefix { $0 != UInt8(ascii: ":") })
        }
        return AccessList.name(SHA256.hash(text))
    }

    /// The roles of a token given as text. Compares hashes, so that the time taken says nothing about the tokens.
    public func roles(ofToken text: Span<UInt8>, token: inout Int) -> Roles {
        if tokens.isEmpty { return .all }
        let digest = SHA256.hash(text)
        var roles: Roles = []
        for index in tokens.indices where Digest256.areEqualInConstantTime(tokens[index].digest, digest) {
            roles.formUnion(tokens[index].roles)
            token = index
        }
        return roles
    }

    /// The number of the source that a token stands for.
    public func source(of token: Int) -> Int { token < sourceOfToken.count ? sourceOfToken[token] : 0 }

    /// Whom a token speaks for.
    public func speaker(of token: Int) -> Speaker { token < tokens.count ? tokens[token].speaker : Speaker() }

    /// What follows the scheme's name (any case) and spaces; nil for another scheme.
    @_lifetime(copy header)
    private static func credentials(_ header: Span<UInt8>, scheme: StaticString) -> Span<UInt8>? {
        let name = scheme.bytes
        guard header.count > name.count, header[name.count] == 0x20 else { return nil }
        for index in name.indices where header[index] | 0x20 != name[index] { return nil }
        var start = name.count
        while start < header.count, header[start] == 0x20 { start += 1 }
        return header.extracting(start..<header.count)
    }
}
