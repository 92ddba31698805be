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
