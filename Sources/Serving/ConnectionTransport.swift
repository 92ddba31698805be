// A connection's bytes, in the clear or through TLS. The loop above sees no difference; plaintext pays one test.

import Platform

/// The socket of one connection.
struct ConnectionTransport: ~Copyable {
    let descriptor: Descriptor

    init(plain descriptor: consuming Descriptor) { self.descriptor = descriptor }

    var isSecure: Bool { false }

    /// Reads once into the whole of `buffer`.
    mutating func receive(into buffer: inout [UInt8]) -> TransferResult {
        Platform.receive(descriptor.raw, into: &buffer, from: 0)
    }

    /// Writes once.
    mutating func transmit(_ bytes: Span<UInt8>) -> TransferResult {
        Platform.transmit(descriptor.raw, bytes)
    }
}
