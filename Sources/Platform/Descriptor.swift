// A file descriptor that closes itself, and the plain reads and writes on one.

import CPlatform

/// What a non-blocking read or write came to.
public enum TransferResult: Equatable {
    /// This many bytes moved (more than none).
    case moved(Int)
    /// The other side has closed (reads only).
    case ended
    /// Nothing can move now; wait for readiness.
    case wouldBlock
    /// The connection is broken; the code is an `errno`.
    case failed(Int32)
}

/// An open descriptor with one owner.
public struct Descriptor: ~Copyable, @unchecked Sendable {
    /// The kernel's number; valid as long as this value lives.
    public let raw: Int32

    /// Takes ownership of an open descriptor.
    public init(owning raw: Int32) { self.raw = raw }

    deinit { if raw >= 0 { close(raw) } }
}

/// Reads once from a socket into `buffer` from `offset` on; never blocks on a non-blocking descriptor.
public func receive(_ descriptor: Int32, into buffer: inout [UInt8], from offset: Int) -> TransferResult {
    while true {
        // The kernel writes at most count − offset bytes into the array's own storage.
        let n = buffer.withUnsafeMutableBytes { bytes in
            recv(descriptor, bytes.baseAddress! + offset, bytes.count - offset, 0)
        }
        if n > 0 { return .moved(n) }
        if n == 0 { return .ended }
        let code = cp_errno()
        if code == EINTR { continue }
        return code == EAGAIN ? .wouldBlock : .failed(code)
    }
}

/// Writes once to a socket; never blocks on a non-blocking descriptor and raises no SIGPIPE.
public func transmit(_ descriptor: Int32, _ bytes: Span<UInt8>) -> TransferResult {
    if bytes.isEmpty { return .moved(0) }
    while true {
        // The span is borrowed for the length of the call.
        let n = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) }
        if n >= 0 { return .moved(n) }
        let code = cp_errno()
        if code == EINTR { continue }
        return code == EAGAIN ? .wouldBlock : .failed(code)
    }
}

/// Writes everything to a blocking descriptor (a file, a pipe, a terminal).
public func writeAll(_ descriptor: Int32, _ bytes: Span<UInt8>) throws(SystemError) {
    var done = 0
    while done < bytes.count {
        // The offset stays below the span's count.
        let n = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + done, $0.count - done) }
        if n < 0 {
            if cp_errno() == EINTR { continue }
            throw SystemError(last: "write")
        }
        done += n
    }
}

/// Reads up to the buffer's size from a blocking descriptor; 0 at the end.
public func readSome(_ descriptor: Int32, into buffer: inout [UInt8]) throws(SystemError) -> Int {
    while true {
        let n = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress!, $0.count) }
        if n >= 0 { return n }
        if cp_errno() == EINTR { continue }
        throw SystemError(last: "read")
    }
}
