// Small records of numbers: accounts, cursors, what was seen when. It need not know what the numbers mean.

import Formats

/// Numbers of 64 bits behind a checksum.
public enum Record {
    public static func encode(_ numbers: [UInt64]) -> [UInt8] {
        var bytes: [UInt8] = [0, 0, 0, 0]
        bytes.reserveCapacity(4 + 8 * numbers.count)
        for number in numbers {
            for shift in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: number >> UInt64(8 * shift))) }
        }
        let sum = Checksum.of(bytes.span.extracting(4..<bytes.count))
        for index in 0..<4 { bytes[index] = UInt8(truncatingIfNeeded: sum >> UInt32(8 * index)) }
        return bytes
    }

    /// - Returns: exactly `count` numbers; nil for a record that is damaged or of another length.
    public static func decode(_ bytes: Span<UInt8>, count: Int) -> [UInt64]? {
        guard bytes.count == 4 + 8 * count,
            Checksum.of(bytes.extracting(4..<bytes.count)) == UInt32(littleEndianAt: 0, of: bytes)
        else { return nil }
        var numbers: [UInt64] = []
        for index in 0..<count { numbers.append(UInt64(littleEndianAt: 4 + 8 * index, of: bytes)) }
        return numbers
    }
}

/// Runs of bytes one behind the other, each after a byte that says what it is and its length (4 bytes, little-endian).
public struct Piece {
    public let kind: UInt8
    /// Where its bytes begin, and where they end and the next piece begins.
    public let start: Int
    public let end: Int

    /// The piece that begins at `place`; nil at the end, and where there is no whole one.
    @inline(never)
    public init?(_ bytes: Span<UInt8>, at place: Int) {
        start = place + 5
        guard start <= bytes.count,
            let count = Int(exactly: UInt32(littleEndianAt: place + 1, of: bytes)), count <= bytes.count - start
        else { return nil }
        kind = bytes[place]
        end = start + count
    }

    /// Appends a piece that holds `head` and then `rest`.
    @inline(never)
    public static func append(_ kind: UInt8, _ head: Span<UInt8>, _ rest: Span<UInt8> = Span(), to bytes: inout [UInt8]) {
        bytes.append(kind)
        LogEntry.append(UInt32(truncatingIfNeeded: head.count + rest.count), to: &bytes)
        bytes.append(contentsOf: head)
        bytes.append(contentsOf: rest)
    }
}
