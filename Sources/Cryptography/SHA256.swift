// SHA-256 and HMAC-SHA-256 by mbedTLS. Values that allocate nothing; what is hashed, and why, is for others to know.

import CMbedTLS

/// SHA-256 (FIPS 180-4): at once, or piece by piece. A copy continues on its own.
public struct SHA256 {
    private var state = gatehouse_sha256_state()

    /// A hash of nothing yet.
    public init() {
        // Holds (here and below) because mbedTLS keeps no pointer to the state, which is plain words.
        withUnsafeMutablePointer(to: &state) { gatehouse_sha256_start($0) }
    }

    /// Takes the next bytes in; any number of calls.
    public mutating func update(_ bytes: Span<UInt8>) {
        bytes.withUnsafeBytes { raw in
            guard let base = raw.baseAddress, raw.count > 0 else { return }
            withUnsafeMutablePointer(to: &state) { gatehouse_sha256_update($0, base, raw.count) }
        }
    }

    /// The digest of all that was taken in. `self` is unchanged and may go on.
    public func digest() -> Digest256 {
        var final = state
        var digest = Digest256()
        digest.withMutableBytes { target in
            withUnsafeMutablePointer(to: &final) { gatehouse_sha256_finish($0, target.baseAddress) }
        }
        return digest
    }

    /// The digest of `bytes`.
    public static func hash(_ bytes: Span<UInt8>) -> Digest256 {
        var hash = SHA256()
        hash.update(bytes)
        return hash.digest()
    }

    /// The digest of `bytes`.
    public static func hash(_ bytes: [UInt8]) -> Digest256 {
        let span = bytes.span
        return hash(span)
    }

}

/// HMAC-SHA-256 (RFC 2104) under one key. The key's two padded blocks are hashed once, here, so that a message of up to
/// 55 bytes costs two compressions and nothing is allocated.
///
/// A value: each thread may have its copy, and one copy may be used by several at once, since using it changes nothing.
public struct HMACSHA256 {
    private let inner: SHA256
    private let outer: SHA256

    /// Takes a key of any length; 32 random bytes are the right one (RFC 2104 section 3).
    public init(key: Span<UInt8>) {
        var block = InlineArray<64, UInt8>(repeating: 0)
        if key.count > 64 {
            let digest = SHA256.hash(key)
            for index in 0..<Digest256.byteCount { block[index] = digest[index] }
        } else {
            for index in 0..<key.count { block[index] = key[index] }
        }
        inner = HMACSHA256.padded(&block, with: 0x36)
        outer = HMACSHA256.padded(&block, with: 0x5c)
        withUnsafeMutableBytes(of: &block) { gatehouse_wipe($0.baseAddress, $0.count) }
    }

    /// Takes a key of any length.
    public init(key: [UInt8]) {
        let span = key.span
        self.init(key: span)
    }

    /// The code of one message.
    public func authenticate(_ message: Span<UInt8>) -> Digest256 {
        var running = inner
        running.update(message)
        return finish(running)
    }

    /// The code of one message.
    public func authenticate(_ message: [UInt8]) -> Digest256 {
        let span = message.span
        return authenticate(span)
    }

    /// Begins a message that comes in pieces: `update` what is returned, then give it to `finish`.
    public func begin() -> SHA256 { inner }

    /// The code of the message whose pieces went into `running`, which `begin` of the same key made.
    public func finish(_ running: SHA256) -> Digest256 {
        let digest = running.digest()
        var result = outer
        digest.withSpan { result.update($0) }
        return result.digest()
    }

    /// A hash that has taken in the key's block, each byte combined with `pad`; `block` is left as it was.
    private static func padded(_ block: inout InlineArray<64, UInt8>, with pad: UInt8) -> SHA256 {
        for index in 0..<64 { block[index] ^= pad }
        var hash = SHA256()
        hash.update(block.span)
        for index in 0..<64 { block[index] ^= pad }
        return hash
    }
}
