// Thirty-two bytes that came out of SHA-256, as a value that is copied like an integer. Needs to know nothing of how
// they were computed.

import CMbedTLS

/// A 256-bit digest: 32 bytes by value, in the order in which the hash function writes them.
///
/// Trivially copyable and never on the heap, so that it can be a key of a dictionary or a field of a record.
public struct Digest256: Equatable, Hashable, Sendable {
    // The digest's bytes as they lie in memory, eight at a time; the words' numeric value means nothing.
    private var words: (UInt64, UInt64, UInt64, UInt64)

    /// How many bytes a digest has.
    public static let byteCount = 32

    /// Thirty-two zero bytes: no digest of anything known, useful as "none yet".
    public static let zero = Digest256()

    /// All zero.
    public init() { words = (0, 0, 0, 0) }

    /// Takes 32 bytes; `nil` for any other count.
    public init?(_ bytes: Span<UInt8>) {
        guard bytes.count == Digest256.byteCount else { return nil }
        self.init()
        withMutableBytes { target in
            for index in 0..<Digest256.byteCount { target[index] = bytes[index] }
        }
    }

    /// Takes 64 hexadecimal digits of either case; `nil` for anything else.
    public init?(hexadecimal text: Span<UInt8>) {
        guard text.count == 2 * Digest256.byteCount else { return nil }
        self.init()
        var isValid = true
        withMutableBytes { target in
            for index in 0..<Digest256.byteCount {
                guard let high = hexadecimalValue(text[2 * index]), let low = hexadecimalValue(text[2 * index + 1])
                else { isValid = false; return }
                target[index] = high << 4 | low
            }
        }
        if !isValid { return nil }
    }

    /// The byte at `index`, 0..<32.
    public subscript(index: Int) -> UInt8 {
        precondition(index >= 0 && index < Digest256.byteCount, "a digest has 32 bytes")
        return withSpan { $0[index] }
    }

    /// Lends the 32 bytes.
    @inlinable
    public func withSpan<Result, Failure: Error>(
        _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        // Holds because the span cannot outlive the closure, in which `self` is borrowed.
        try withUnsafeBytes(of: self) { (raw: UnsafeRawBufferPointer) throws(Failure) -> Result in
            try body(Span(_unsafeBytes: raw))
        }
    }

    /// Appends the 32 bytes.
    public func append(to bytes: inout [UInt8]) {
        let words = words
        bytes.append(addingCapacity: Digest256.byteCount) { room in
            // As raw memory, at any alignment; each byte is written before it counts.
            unsafe room.withUnsafeMutableBufferPointer { target, count in
                if let to = target.baseAddress {
                    unsafe UnsafeMutableRawPointer(to + count).storeBytes(
                        of: words, as: (UInt64, UInt64, UInt64, UInt64).self)
                }
                count += Digest256.byteCount
            }
        }
    }

    /// Appends 64 lower-case hexadecimal digits.
    public func appendHexadecimal(to bytes: inout [UInt8]) {
        withSpan { source in
            for index in 0..<Digest256.byteCount {
                bytes.append(hexadecimalDigit(source[index] >> 4))
                bytes.append(hexadecimalDigit(source[index] & 15))
            }
        }
    }

    /// The 64 lower-case hexadecimal digits, for messages and cold paths.
    public var hexadecimal: String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(2 * Digest256.byteCount)
        appendHexadecimal(to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    public static func == (left: Digest256, right: Digest256) -> Bool {
        (left.words.0 ^ right.words.0) | (left.words.1 ^ right.words.1) | (left.words.2 ^ right.words.2)
            | (left.words.3 ^ right.words.3) == 0
    }

    /// One word is enough: a digest's bits are uniform.
    public func hash(into hasher: inout Hasher) { hasher.combine(words.0) }

    /// Whether both are equal, in a time that does not tell how far they agree. For secrets: tokens, message
    /// authentication codes. (`==` of this type has no branch by word either; this one is the promise.)
    public static func areEqualInConstantTime(_ left: Digest256, _ right: Digest256) -> Bool {
        left.withSpan { a in right.withSpan { b in isEqualInConstantTime(a, b) } }
    }

    /// Lends the 32 bytes for writing.
    mutating func withMutableBytes(_ body: (UnsafeMutableRawBufferPointer) -> Void) {
        // Holds because the type has no other state and every bit pattern of it is valid.
        withUnsafeMutableBytes(of: &self) { body($0) }
    }
}

/// Whether two byte strings are equal, in a time that depends on their count alone. Different counts are unequal at
/// once: the count of a secret is not secret here.
public func isEqualInConstantTime(_ left: Span<UInt8>, _ right: Span<UInt8>) -> Bool {
    guard left.count == right.count else { return false }
    // Holds because both regions are borrowed for the call and the count is that of each.
    return left.withUnsafeBytes { a in
        right.withUnsafeBytes { b in
            guard let first = a.baseAddress, let second = b.baseAddress else { return true }
            return gatehouse_equal_in_constant_time(first, second, a.count) == 1
        }
    }
}

@inline(__always)
private func hexadecimalDigit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x57 + value }

@inline(__always)
private func hexadecimalValue(_ digit: UInt8) -> UInt8? {
    switch digit {
    case 0x30...0x39: return digit - 0x30
    case 0x41...0x46: return digit - 0x37
    case 0x61...0x66: return digit - 0x57
    default: return nil
    }
}
