// What libFuzzer calls with each input; see Tools/fuzz. Any answer to packed data is right, up to the limit and not a byte
// beyond. A crash, a hang or too much memory is not, nor are bytes that zlib by itself unpacks differently.
//
// The first byte chooses what the rest is: gzip as it is; bytes to pack with our own Deflater, which must come back equal;
// or deflate's blocks, around which a header and a fitting checksum are put so that the fuzzer need not find one.

import CZlib
import Formats

nonisolated(unsafe) private var inflater = Inflater()
nonisolated(unsafe) private var deflater = Deflater(level: 1)
/// What zlib by itself unpacks into: more than any limit here.
nonisolated(unsafe) private var scratch = [UInt8](repeating: 0, count: 1 << 20)
/// What an output begins with; it must survive.
private let before: [UInt8] = [1, 2, 3]

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 0 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let rest = Array(input[1...])
    // 0, 1, 3, … bytes up to 1 MiB, on both sides of the chunks of 16 KiB.
    let limit = (1 << Int(input[0] >> 3 & 15 + (input[0] & 0x80 == 0 ? 0 : 5))) - 1
    switch input[0] & 3 {
    case 0: unpack(rest, limit)
    case 1: packAndUnpack(rest, repeats: input[0] & 4 == 0 ? 1 : 50)
    case 2: unpack(member(rest), limit)
    default: unpack(member(rest) + member(Array(rest.reversed())), limit)
    }
    return 0
}

/// What comes out, and nil; or nothing, and why.
private func inflate(_ packed: [UInt8], _ limit: Int) -> ([UInt8], GzipError?) {
    var output = before
    let span = packed.span
    do throws(GzipError) {
        try inflater.inflate(span, limit: limit, appendingTo: &output)
    } catch {
        if output != before { stop(packed, "fails, and leaves something behind") }
        return ([], error)
    }
    if output.count - before.count > limit { stop(packed, "is more than the limit") }
    if Array(output[..<before.count]) != before { stop(packed, "overwrites what was there") }
    return (Array(output[before.count...]), nil)
}

private func unpack(_ packed: [UInt8], _ limit: Int) {
    let (output, error) = inflate(packed, limit)
    let reference = zlib(packed, limit)
    if error == nil ? output != reference : reference != nil { stop(packed, "is not what zlib makes of it: \(limit)") }
    let span = packed.span
    if error == .notGzip && Gzip.isGzip(span) { stop(packed, "is no gzip, and begins so") }
    if error != nil { return }
    if inflate(packed, output.count) != (output, nil) { stop(packed, "does not fit its own length") }
    if output.count > 0, inflate(packed, output.count - 1).1 != .tooLarge { stop(packed, "fits in less than its length") }
    for cut in [1, 9, packed.count / 2] where cut <= packed.count {
        if inflate(Array(packed[..<(packed.count - cut)]), limit).0.count > output.count { stop(packed, "is more when cut") }
    }
}

private func packAndUnpack(_ piece: [UInt8], repeats: Int) {
    var bytes: [UInt8] = []
    for _ in 0..<repeats { bytes += piece }
    let span = bytes.span
    var packed = before
    do throws(GzipError) {
        try deflater.deflate(span, appendingTo: &packed)
    } catch { stop(piece, "cannot be packed") }
    if Array(packed[..<before.count]) != before { stop(piece, "overwrites what was there when it is packed") }
    packed.removeFirst(before.count)
    if inflate(packed, bytes.count) != (bytes, nil) { stop(piece, "is not what was packed") }
    if zlib(packed, bytes.count) != bytes { stop(piece, "is packed into what zlib does not unpack") }
    if !bytes.isEmpty, inflate(packed, bytes.count - 1).1 != .tooLarge { stop(piece, "fits in less than its length") }
    if packed.count > bytes.count + bytes.count / 1000 + 64 { stop(piece, "grows when it is packed") }
    for cut in [1, 8, 9, packed.count - 1] {
        let short = Array(packed[..<(packed.count - cut)])
        if inflate(short, bytes.count).1 != .truncated { stop(piece, "is whole without its end") }
    }
}

/// A member of gzip around deflate's blocks, with the checksum of what comes out of them, as far as anything does.
private func member(_ blocks: [UInt8]) -> [UInt8] {
    var stream = z_stream()
    let size = Int32(MemoryLayout<z_stream>.size)
    guard inflateInit2_(&stream, -15, zlibVersion(), size) == Z_OK else { fatalError("no memory") }
    let (_, taken, given) = step(&stream, blocks[...], scratch.count, &scratch)
    inflateEnd(&stream)
    let checksum = crc32(0, scratch, UInt32(given))
    var packed: [UInt8] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3] + blocks[..<taken]
    for shift in stride(from: UInt(0), to: 32, by: 8) { packed.append(UInt8(truncatingIfNeeded: checksum >> shift)) }
    for shift in stride(from: 0, to: 32, by: 8) { packed.append(UInt8(truncatingIfNeeded: given >> shift)) }
    return packed
}

/// All members by zlib, whole; nil for damage and for more than the limit.
private func zlib(_ packed: [UInt8], _ limit: Int) -> [UInt8]? {
    var output: [UInt8] = []
    var stream = z_stream()
    let size = Int32(MemoryLayout<z_stream>.size)
    guard inflateInit2_(&stream, 15 + 16, zlibVersion(), size) == Z_OK else { fatalError("no memory") }
    defer { inflateEnd(&stream) }
    var consumed = 0
    repeat {
        // A byte more than is left of the limit, to see that there is more.
        let room = limit - output.count + 1
        let (code, taken, given) = step(&stream, packed[consumed...], room, &scratch)
        if code != Z_STREAM_END || given == room { return nil }
        output += scratch[..<given]
        consumed += taken
        inflateReset(&stream)
    } while consumed < packed.count
    return output
}

/// One call of zlib, into `room` bytes.
private func step(
    _ stream: inout z_stream, _ input: ArraySlice<UInt8>, _ room: Int, _ output: inout [UInt8]
) -> (code: Int32, taken: Int, given: Int) {
    var input = input
    return input.withUnsafeMutableBufferPointer { from in
        output.withUnsafeMutableBufferPointer { to in
            (stream.next_in, stream.avail_in) = (from.baseAddress, UInt32(from.count))
            (stream.next_out, stream.avail_out) = (to.baseAddress, UInt32(room))
            let code = inflate(&stream, Z_FINISH)
            return (code, from.count - Int(stream.avail_in), room - Int(stream.avail_out))
        }
    }
}

private func stop(_ data: [UInt8], _ what: String) -> Never {
    fatalError("the data \(what): \(data)")
}
