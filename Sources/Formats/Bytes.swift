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
    public var description: String { "\(line):\(column)" }
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
    while index < left.count {
        if left[index] != right[index] { return false }
        index += 1
    }
    return true
}

extension Array where Element == UInt8 {
    /// Appends borrowed bytes; allocates only when the capacity is used up.
    @inlinable
    public mutating func append(contentsOf bytes: Span<UInt8>) {
        // The buffer is read inside the closure only, while the span is borrowed.
        unsafe bytes.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
    }
}

extension String {
    /// A string of UTF-8 bytes (what is not UTF-8 becomes U+FFFD). Allocates: for messages and cold paths.
    public init(copying bytes: Span<UInt8>) {
        self = unsafe bytes.withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
    }
}
