// gzip (RFC 1952) through zlib, whole buffers at a time. Unsafe pointers here hand Swift's buffers to zlib for the
// length of one call each; zlib keeps none of them between calls because every call ends with both ends set anew.
import CZlib

public enum GzipError: Error, Equatable, Sendable {
    /// The data does not begin like gzip, or something else follows the last member.
    case notGzip
    /// The data contradicts itself or its checksum.
    case corrupt
    /// The data ends before it is complete.
    case truncated
    /// More would come out than the caller allows.
    case tooLarge
    /// zlib found no memory.
    case noMemory
}

/// The conveniences, each with a state of its own for one call.
public enum Gzip {
    /// Whether the data begins like gzip.
    public static func isGzip(_ data: Span<UInt8>) -> Bool { data.count >= 2 && data[0] == 0x1F && data[1] == 0x8B }

    public static func inflate(_ data: Span<UInt8>, limit: Int) throws(GzipError) -> [UInt8] {
        var inflater = Inflater()
        var output: [UInt8] = []
        try inflater.inflate(data, limit: limit, appendingTo: &output)
        return output
    }

    public static func deflate(_ data: Span<UInt8>) throws(GzipError) -> [UInt8] {
        var deflater = Deflater()
        var output: [UInt8] = []
        try deflater.deflate(data, appendingTo: &output)
        return output
    }
}

/// Unpacks gzip; keeps its memory (about 45 KiB and a 16 KiB chunk) from one call to the next, none before the first.
public struct Inflater: ~Copyable {
    private var stream: UnsafeMutablePointer<z_stream>?
    private var chunk: [UInt8] = []

    public init() {}

    deinit {
        if let stream = unsafe stream {
            unsafe inflateEnd(stream)
            unsafe stream.deallocate()
        }
    }

    /// Appends what is packed in `data` (one member or several, RFC 1952 section 2.2) to `output`.
    ///
    /// - Parameter limit: bytes that may come out. One byte more is `tooLarge`, found before more than a chunk of
    ///   16 KiB beyond it has been unpacked, whatever the ratio. After an error `output` is as it was.
    public mutating func inflate(
        _ data: Span<UInt8>, limit: Int, appendingTo output: inout [UInt8]
    ) throws(GzipError) {
        if data.count == 0 { throw .truncated }
        let stream = try unsafe prepare()
        let start = output.count
        var consumed = 0
        var isMemberOpen = true
        while true {
            let (code, taken, given) = unsafe step(stream, data, consumed)
            consumed += taken
            if output.count - start + given > limit {
                output.removeLast(output.count - start)
                throw .tooLarge
            }
            output.append(contentsOf: chunk.span.extracting(0..<given))
            switch code {
            case Z_STREAM_END:
                isMemberOpen = false
                if consumed == data.count { return }
                // Another member may follow; its header is checked by the next step.
                unsafe inflateReset(stream)
                isMemberOpen = true
            case Z_OK where taken > 0 || given > 0:
                continue
            default:
                output.removeLast(output.count - start)
                throw Inflater.error(
                    code, isAtEnd: isMemberOpen && consumed == data.count, beginsLikeGzip: Gzip.isGzip(data))
            }
        }
    }

    private static func error(_ code: Int32, isAtEnd: Bool, beginsLikeGzip: Bool) -> GzipError {
        switch code {
        case Z_MEM_ERROR: .noMemory
        case Z_DATA_ERROR, Z_NEED_DICT: beginsLikeGzip ? .corrupt : .notGzip
        default: isAtEnd ? .truncated : .corrupt
        }
    }

    private mutating func prepare() throws(GzipError) -> UnsafeMutablePointer<z_stream> {
        if let stream = unsafe stream {
            unsafe inflateReset(stream)
            return unsafe stream
        }
        let fresh = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        unsafe fresh.initialize(to: z_stream())
        // 15: the largest window, 16: gzip and nothing else.
        guard unsafe inflateInit2_(fresh, 15 + 16, zlibVersion(), Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
            unsafe fresh.deallocate()
            throw .noMemory
        }
        unsafe stream = fresh
        chunk = [UInt8](repeating: 0, count: gzipChunkBytes)
        return unsafe fresh
    }

    private mutating func step(
        _ stream: UnsafeMutablePointer<z_stream>, _ data: Span<UInt8>, _ consumed: Int
    ) -> (code: Int32, taken: Int, given: Int) {
        unsafe runStep(stream, data, consumed, &chunk) { stream in unsafe CZlib.inflate(stream, Z_NO_FLUSH) }
    }
}

/// Packs gzip with a window of 16 KiB (about 130 KiB of memory and a 16 KiB chunk, kept from one call to the next until
/// `rest`): the repetitions of event batches lie within some dozen events.
public struct Deflater: ~Copyable {
    private var stream: UnsafeMutablePointer<z_stream>?
    private var chunk: [UInt8] = []
    private let level: Int32

    /// - Parameter level: 1 (fast) … 9 (small).
    public init(level: Int32 = 5) { self.level = level }

    deinit { release() }

    /// Gives the memory back; the next call takes it anew.
    public mutating func rest() {
        release()
        unsafe stream = nil
        chunk = []
    }

    private func release() {
        if let stream = unsafe stream {
            unsafe deflateEnd(stream)
            unsafe stream.deallocate()
        }
    }

    /// Appends `data` as one gzip member to `output`.
    public mutating func deflate(_ data: Span<UInt8>, appendingTo output: inout [UInt8]) throws(GzipError) {
        let stream = try unsafe prepare()
        let start = output.count
        var consumed = 0
        while true {
            let (code, taken, given) = unsafe runStep(stream, data, consumed, &chunk) { stream in
                unsafe CZlib.deflate(stream, Z_FINISH)
            }
            consumed += taken
            output.append(contentsOf: chunk.span.extracting(0..<given))
            if code == Z_STREAM_END { return }
            if code != Z_OK {
                output.removeLast(output.count - start)
                throw .corrupt
            }
        }
    }

    private mutating func prepare() throws(GzipError) -> UnsafeMutablePointer<z_stream> {
        if let stream = unsafe stream {
            unsafe deflateReset(stream)
            return unsafe stream
        }
        let fresh = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        unsafe fresh.initialize(to: z_stream())
        // A window of 2^14 and tables of 2^(7 + 9) bytes.
        let code = unsafe deflateInit2_(
            fresh, level, Z_DEFLATED, 14 + 16, 7, Z_DEFAULT_STRATEGY, zlibVersion(), Int32(MemoryLayout<z_stream>.size))
        guard code == Z_OK else {
            unsafe fresh.deallocate()
            throw .noMemory
        }
        unsafe stream = fresh
        chunk = [UInt8](repeating: 0, count: gzipChunkBytes)
        return unsafe fresh
    }
}

/// What comes out of one step: large enough that steps are few, small enough to be kept by every thread.
private let gzipChunkBytes = 16 << 10

/// One call of zlib from `data[consumed...]` into `chunk`. The pointers hold for the call only, and are cleared after.
private func runStep(
    _ stream: UnsafeMutablePointer<z_stream>, _ data: Span<UInt8>, _ consumed: Int, _ chunk: inout [UInt8],
    _ call: (UnsafeMutablePointer<z_stream>) -> Int32
) -> (code: Int32, taken: Int, given: Int) {
    unsafe data.extracting(consumed..<data.count).withUnsafeBufferPointer { input in
        unsafe chunk.withUnsafeMutableBufferPointer { output in
            // zlib's interface is not const-correct; it does not write to its input.
            unsafe stream.pointee.next_in = UnsafeMutablePointer(mutating: input.baseAddress)
            unsafe stream.pointee.avail_in = UInt32(input.count)
            unsafe stream.pointee.next_out = output.baseAddress
            unsafe stream.pointee.avail_out = UInt32(output.count)
            let code = unsafe call(stream)
            let taken = unsafe input.count - Int(stream.pointee.avail_in)
            let given = unsafe output.count - Int(stream.pointee.avail_out)
            unsafe stream.pointee.next_in = nil
            unsafe stream.pointee.next_out = nil
            return (code, taken, given)
        }
    }
}
