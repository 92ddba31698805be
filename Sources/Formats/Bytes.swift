// Small helpers over borrowed bytes that every format here needs. Knows nothing of any format.

/// A place in a text as a person counts it: both from 1, columns in characters.
public struct TextPosition: Equatable, Sendable {
    public var line: Int32
    public var column: Int32

    public init(line: Int32, column: Int32) {
        self.line = line
        self.column = column
    }

    /// The place of the byte at `offset` (0…count) of a UTF-8 text. Reads the text up to there: for messages only.
    public init(of offset: Int, in text: Span<UInt8>) {
        var line: Int32 = 1
        var column: Int32 = 1
        var index = 0
        let end = min(offset, text.count)
        while index < end {
            let byte = text[index]
            if byte == 0x0A {
                line &+= 1
                column = 1
            } else if byte & 0xC0 != 0x80 {
                column &+= 1
            }
            index += 1
        }
        self.init(line: line, column: column)
    }

    /// `line:column`, as editors and compilers write it.
    public var description: String {
        @inline(never) get { "\(line):\(column)" }
    }
}

extension StaticString {
    /// The UTF-8 bytes of a literal.
    public var bytes: Span<UInt8> {
        @_lifetime(immortal)
        get {
            // A literal's bytes lie in the program's constant data: they neither move nor go away.
            let span = unsafe Span(_unsafeStart: utf8Start, count: utf8CodeUnitCount)
            return unsafe _overrideLifetime(span, copying: ())
        }
    }
}

/// Whether two runs of bytes are the same.
@inlinable
public func equal(_ left: Span<UInt8>, _ right: Span<UInt8>) -> Bool {
    if left.count != right.count { return false }
    var index = 0
    // Eight bytes at a time; any eight are a UInt64, and the loads check their bounds.
    while index + 8 <= left.count {
        let ours = unsafe left.bytes.unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self)
        let theirs = unsafe right.bytes.unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self)
        if ours != theirs { return false }
        index += 8
    }
    while index < left.count {
        if left[index] != right[index] { return false }
        index += 1
    }
    return true
}

/// The offset, from `start` on, of the first byte that JSON treats specially inside a string (a quote, a backslash, a
/// control character, a byte above 0x7F), or the end of the text. Eight bytes at a time: most strings are plain.
@inline(__always)
func endOfPlainText(_ text: Span<UInt8>, from start: Int) -> Int {
    let ones: UInt64 = 0x0101_0101_0101_0101
    let high: UInt64 = 0x8080_8080_8080_8080
    var offset = start
    while offset + 8 <= text.count {
        // Any eight bytes are a UInt64, and the load checks its bounds.
        let word = unsafe UInt64(
            littleEndian: text.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
        let quote = word ^ (ones &* 0x22)
        let backslash = word ^ (ones &* 0x5C)
        // A byte's high bit says that it is special; a borrow can only raise a false one above a true one.
        let special =
            ((quote &- ones) & ~quote | (backslash &- ones) & ~backslash | (word &- ones &* 0x20) & ~word | word) & high
        if special != 0 { return offset + special.trailingZeroBitCount / 8 }
        offset += 8
    }
    while offset < text.count {
        let byte = text[offset]
        if byte < 0x20 || byte >= 0x80 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { break }
        offset += 1
    }
    return offset
}

extension Array where Element == UInt8 {
    /// Appends borrowed bytes; allocates only when the capacity is used up.
    @inlinable
    public mutating func append(contentsOf bytes: Span<UInt8>) {
        // Each byte of the new room is written before it counts, and both buffers are used inside their closures only.
        append(addingCapacity: bytes.count) { room in
            unsafe bytes.withUnsafeBufferPointer { source in
                unsafe room.withUnsafeMutableBufferPointer { target, count in
                    // As raw memory: `initialize(from:count:)` becomes a loop over single bytes in Embedded Swift.
                    if let from = source.baseAddress, let to = target.baseAddress {
                        unsafe UnsafeMutableRawPointer(to + count).copyMemory(from: from, byteCount: source.count)
                    }
                    count += source.count
                }
            }
        }
    }
}

extension Array where Element == UInt8 {
    /// Appends a number, little-endian.
    @inlinable
    public mutating func append<Number: FixedWidthInteger & BitwiseCopyable>(littleEndian number: Number) {
        // As raw memory, at any alignment; each byte is written before it counts.
        append(addingCapacity: MemoryLayout<Number>.size) { room in
            unsafe room.withUnsafeMutableBufferPointer { target, count in
                if let to = target.baseAddress {
                    unsafe UnsafeMutableRawPointer(to + count).storeBytes(of: number.littleEndian, as: Number.self)
                }
                count += MemoryLayout<Number>.size
            }
        }
    }

    /// Appends a copy of bytes that lie further front in the same array.
    public mutating func appendCopy(of range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "only what is there can be copied")
        let distance = count - range.lowerBound
        append(addingCapacity: range.count) { room in
            unsafe room.withUnsafeMutableBufferPointer { target, count in
                if let to = target.baseAddress {
                    // The new room follows what is copied, in the same memory.
                    let end = unsafe UnsafeMutableRawPointer(to + count)
                    unsafe end.copyMemory(from: end - distance, byteCount: range.count)
                }
                count += range.count
            }
        }
    }

    /// A copy of borrowed bytes. Allocates: for cold paths.
    public init(copying bytes: Span<UInt8>) {
        self = []
        append(contentsOf: bytes)
    }
}

extension String {
    /// A string of UTF-8 bytes (what is not UTF-8 becomes U+FFFD). Allocates: for messages and cold paths.
    public init(copying bytes: Span<UInt8>) {
        self = unsafe bytes.withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
    }
}
