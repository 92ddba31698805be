// Byte-level vocabulary of HTTP: ranges, character classes and comparisons with literals. Knows no message.

/// A stretch of the input, by offset and length in bytes. It says nothing about which input: keep the two together.
public struct ByteRange: Equatable {
    public var offset: UInt32
    public var length: UInt32

    @inlinable public init(offset: UInt32 = 0, length: UInt32 = 0) {
        self.offset = offset
        self.length = length
    }

    @inlinable public init(_ start: Int, _ end: Int) {
        self.init(offset: UInt32(truncatingIfNeeded: start), length: UInt32(truncatingIfNeeded: end &- start))
    }

    @inlinable public var start: Int { Int(offset) }
    @inlinable public var end: Int { Int(offset) &+ Int(length) }
    @inlinable public var isEmpty: Bool { length == 0 }
}

extension Span where Element == UInt8 {
    /// The bytes of a range; the range must lie inside.
    @inlinable @_lifetime(copy self)
    public func bytes(_ range: ByteRange) -> Span<UInt8> {
        extracting(range.start..<range.end)
    }

    /// Whether the bytes are those of an ASCII literal.
    @inlinable public func equals(_ literal: StaticString) -> Bool {
        guard count == literal.utf8CodeUnitCount else { return false }
        // Safe: a StaticString's bytes live as long as the program, and the index stays below its count.
        let expected = literal.utf8Start
        for index in 0..<count where self[index] != expected[index] { return false }
        return true
    }

    /// Whether the bytes are those of an ASCII literal that is written in lower case, letters compared without case.
    @inlinable public func equalsIgnoringCase(_ lowercase: StaticString) -> Bool {
        guard count == lowercase.utf8CodeUnitCount else { return false }
        // Safe: as above.
        let expected = lowercase.utf8Start
        for index in 0..<count where asciiLowercase(self[index]) != expected[index] { return false }
        return true
    }

    /// Whether the bytes begin with those of an ASCII literal.
    @inlinable public func starts(with literal: StaticString) -> Bool {
        count >= literal.utf8CodeUnitCount && extracting(0..<literal.utf8CodeUnitCount).equals(literal)
    }

    /// Whether two stretches have the same bytes.
    @inlinable public func equals(_ other: Span<UInt8>) -> Bool {
        guard count == other.count else { return false }
        for index in 0..<count where self[index] != other[index] { return false }
        return true
    }

    /// Whether two stretches have the same bytes, ASCII letters compared without case.
    @inlinable public func equalsIgnoringCase(_ other: Span<UInt8>) -> Bool {
        guard count == other.count else { return false }
        for index in 0..<count where asciiLowercase(self[index]) != asciiLowercase(other[index]) { return false }
        return true
    }
}

@inlinable public func asciiLowercase(_ byte: UInt8) -> UInt8 {
    byte &- 0x41 < 26 ? byte | 0x20 : byte
}

/// A set of ASCII characters as 128 bits, so that a look-up is two shifts and touches no memory.
struct CharacterClass {
    let low: UInt64
    let high: UInt64

    @inline(__always) func contains(_ byte: UInt8) -> Bool {
        byte < 0x80 && ((byte < 0x40 ? low : high) >> UInt64(byte & 0x3F)) & 1 == 1
    }

    /// `tchar` of RFC 9110 section 5.6.2: ! # $ % & ' * + - . ^ _ ` | ~ digits and letters.
    @inline(__always) static var token: CharacterClass {
        CharacterClass(low: 0x03FF_6CFA_0000_0000, high: 0x57FF_FFFF_C7FF_FFFE)
    }

    /// What a request target may hold: visible ASCII without " # < > \. A `#` would be a fragment, which RFC 9112
    /// section 3.2 leaves no place for; the others are what routers and proxies have read in different ways.
    @inline(__always) static var target: CharacterClass {
        CharacterClass(low: 0xAFFF_FFF2_0000_0000, high: 0x7FFF_FFFF_EFFF_FFFF)
    }

    /// `reg-name` of RFC 3986 section 3.2.2 with `%`: unreserved and sub-delims.
    @inline(__always) static var registeredName: CharacterClass {
        CharacterClass(low: 0x2BFF_7FF2_0000_0000, high: 0x47FF_FFFE_87FF_FFFE)
    }
}

@inline(__always) func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }

@inline(__always) func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

/// The value of a hexadecimal digit, or nil.
@inline(__always) func hexValue(_ byte: UInt8) -> UInt8? {
    if isDigit(byte) { return byte &- 0x30 }
    let letter = (byte | 0x20) &- 0x61
    return letter < 6 ? letter &+ 10 : nil
}
