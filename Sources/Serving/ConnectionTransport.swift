// A connection's bytes, in the clear or through TLS. The loop above sees no difference; plaintext pays one test.

import Cryptography
import Platform

/// The socket of one connection and, when it is secured, its session.
struct ConnectionTransport: ~Copyable {
    let descriptor: Descriptor
    let isSecure: Bool
    private var session: TLSSession?
    private var isHandshaken = false
    /// Bytes of a record that TLS has sealed and not sent: the next write must bring them again, and only them.
    private var sealedCount = 0
    private var needsWrite = false

    init(plain descriptor: consuming Descriptor) {
        self.descriptor = descriptor
        isSecure = false
        session = nil
    }

    /// The handshake is part of the first reads.
    init(securing descriptor: consuming Descriptor, _ configuration: TLSServerConfiguration) throws(TLSError) {
        session = try TLSSession(accepting: descriptor.raw, configuration: configuration)
        self.descriptor = descriptor
        isSecure = true
    }

    /// Reads once into the whole of `buffer`, which has room for a TLS record (16 KiB), so that nothing stays inside
    /// the session where the poller does not see it.
    mutating func receive(into buffer: inout [UInt8]) -> TransferResult {
        if !isSecure { return Platform.receive(descriptor.raw, into: &buffer, from: 0) }
        if !isHandshaken {
            let progress = session!.handshake()
            guard case .done = progress else { return note(progress) }
            isHandshaken = true
        }
        var span = buffer.mutableSpan
        return note(session!.read(into: &span))
    }

    /// Writes what the socket takes.
    mutating func transmit(_ bytes: Span<UInt8>) -> TransferResult {
        if !isSecure { return Platform.transmit(descriptor.raw, bytes) }
        var sent = 0
        while sent < bytes.count {
            let end = sealedCount > 0 ? sent + sealedCount : min(bytes.count, sent + Limits.recordBytes)
            let result = note(session!.write(bytes.extracting(sent..<end)))
            guard case .moved(let count) = result else {
                sealedCount = result == .wouldBlock ? end - sent : 0
                return sent > 0 && result == .wouldBlock ? .moved(sent) : result
            }
            sealedCount = 0
            sent += count
        }
        return .moved(sent)
    }

    /// Whether the last step can only go on when the socket can be written.
    mutating func waitsForWrite() -> Bool { needsWrite }

    /// Tells a secured peer that nothing more will come; it need not wait to hear it.
    mutating func end() {
        if isSecure && isHandshaken { _ = session!.close() }
    }

    private mutating func note(_ progress: TLSProgress) -> TransferResult {
        needsWrite = false
        switch progress {
        case .done(let count): return .moved(count)
        case .wantRead: return .wouldBlock
        case .wantWrite:
            needsWrite = true
            return .wouldBlock
        case .closed: return .ended
        case .failed(let error):
            Log.write(.debug, "a TLS session failed") { $0.field("error", error.message) }
            return .failed(error.systemError)
        }
    }
}
