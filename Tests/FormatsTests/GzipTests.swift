// Shows that gzip goes both ways, that broken or swollen data is refused with the output untouched, and that the
// states can be used again.
import Testing

@testable import Formats

@Suite struct GzipTests {
    /// Made by Python's `gzip.compress(b"hello hello hello\n", mtime=0)`.
    private let hello: [UInt8] = [
        0x1F, 0x8B, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xCB, 0x48, 0xCD, 0xC9, 0xC9, 0x57, 0xC8,
        0x40, 0x90, 0x5C, 0x00, 0x3B, 0x7C, 0x8A, 0xDF, 0x12, 0x00, 0x00, 0x00,
    ]

    private func failure(_ data: [UInt8], limit: Int = 1 << 20) -> GzipError? {
        do { _ = try Gzip.inflate(data.span, limit: limit) } catch { return error }
        return nil
    }

    @Test func foreignData() throws {
        let once = try Gzip.inflate(hello.span, limit: 100)
        #expect(string(once.span) == "hello hello hello\n")
        let twice = hello + hello
        let both = try Gzip.inflate(twice.span, limit: 100)
        #expect(string(both.span) == "hello hello hello\nhello hello hello\n")
        let isGzip = Gzip.isGzip(hello.span)
        #expect(isGzip)
    }

    @Test func roundTripsWithReusedStates() throws {
        var deflater = Deflater()
        var inflater = Inflater()
        var state: UInt32 = 1
        for size in [0, 1, 100, 16 << 10, 500_000, 3, 70_000] {
            var data: [UInt8] = []
            for index in 0..<size {
                state = state &* 1_664_525 &+ 1_013_904_223
                data.append(index % 3 == 0 ? UInt8(truncatingIfNeeded: state >> 24) : 0x61)
            }
            var packed: [UInt8] = [7]
            try deflater.deflate(data.span, appendingTo: &packed)
            packed.removeFirst()
            var unpacked: [UInt8] = [9]
            try inflater.inflate(packed.span, limit: size, appendingTo: &unpacked)
            #expect(unpacked == [9] + data)
            if size == 100 { deflater.rest() }
        }
    }

    /// 64 MiB of zeros in 64 KiB: refused with no more than a chunk unpacked beyond the limit.
    @Test func bomb() throws {
        let zeros = [UInt8](repeating: 0, count: 64 << 20)
        let bomb = try Gzip.deflate(zeros.span)
        #expect(bomb.count < 100_000)
        var inflater = Inflater()
        var output: [UInt8] = [1, 2]
        var error: GzipError?
        do throws(GzipError) {
            try inflater.inflate(bomb.span, limit: 500 << 10, appendingTo: &output)
        } catch let refusal { error = refusal }
        #expect(error == .tooLarge)
        #expect(output == [1, 2])
        #expect(output.capacity < 1 << 20 + 100)
        try inflater.inflate(hello.span, limit: 18, appendingTo: &output)
        #expect(output.count == 20)
        #expect(failure(hello, limit: 17) == .tooLarge)
    }

    @Test func brokenData() {
        #expect(failure([]) == .truncated)
        #expect(failure(Array("{\"a\":1}".utf8)) == .notGzip)
        for length in 1..<hello.count { #expect(failure(Array(hello[..<length])) == .truncated, "\(length)") }
        var wrongChecksum = hello
        wrongChecksum[wrongChecksum.count - 5] ^= 1
        #expect(failure(wrongChecksum) == .corrupt)
        #expect(failure(hello + [0, 1, 2, 3]) == .corrupt)
        for index in hello.indices {
            var broken = hello
            broken[index] ^= 0x55
            _ = failure(broken)
        }
    }
}
