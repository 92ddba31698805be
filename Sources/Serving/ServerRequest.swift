// What a route is given: one request, borrowed from the connection's buffer, and what it says about its answer.

import HTTP
import Platform

/// Which connection waits for an answer that comes later. A token outlives its connection: when that has closed, or its
/// slot has been given to another, the answer finds nobody and is dropped.
public struct ConnectionToken: Equatable, Sendable {
    /// Generation of the slot, serial of the pending request (16 bits each), thread (8), slot (24); with the serial of
    /// its opening also what the poller knows the connection by.
    let packed: UInt64

    init(packed: UInt64) { self.packed = packed }

    init(thread: Int, slot: Int, generation: UInt16 = 0, serial: UInt16 = 0) {
        packed = UInt64(generation) << 48 | UInt64(serial) << 32 | UInt64(thread) << 24 | UInt64(slot)
    }

    var slot: Int { Int(truncatingIfNeeded: packed & 0xFF_FFFF) }
    var thread: Int { Int(truncatingIfNeeded: packed >> 24 & 0xFF) }
    var generation: UInt16 { UInt16(truncatingIfNeeded: packed >> 48) }

    /// Slots from here on are no connections: the wake-up and the listeners.
    static let firstReservedSlot = 0xFF_FF00
    static let wakeSlot = 0xFF_FFFF
}

/// One request. It is borrowed: whatever shall outlive the call must be copied.
public struct Request: ~Copyable, ~Escapable {
    private let input: Span<UInt8>
    private let bodyRange: ByteRange
    public let head: RequestHead
    public let peer: PeerKind
    /// Whether it came through TLS.
    public let isSecure: Bool
    /// For the answer to a request whose disposition is `.pending`.
    public let token: ConnectionToken

    @_lifetime(copy input)
    init(
        _ input: Span<UInt8>, head: RequestHead, body: ByteRange, peer: PeerKind, isSecure: Bool,
        token: ConnectionToken
    ) {
        self.input = input
        self.head = head
        self.bodyRange = body
        self.peer = peer
        self.isSecure = isSecure
        self.token = token
    }

    public var method: Method { head.method }

    /// As it came, percent-encoded: begins with `/`, or is `*`.
    public var path: Span<UInt8> {
        @_lifetime(copy self) get { input.bytes(head.path) }
    }

    /// What follows the first `?`; empty without one.
    public var query: Span<UInt8> {
        @_lifetime(copy self) get { input.bytes(head.query) }
    }

    /// The whole body, chunks joined, content coding (gzip) untouched.
    public var body: Span<UInt8> {
        @_lifetime(copy self) get { input.bytes(bodyRange) }
    }

    /// The value of the first header of this name (written in lower case); empty when there is none.
    @_lifetime(copy self)
    public func header(_ name: StaticString) -> Span<UInt8> {
        input.bytes(head.fields.range(of: name, in: input) ?? ByteRange())
    }

    /// How many headers there are, for a route that reads all of them.
    public var headerCount: Int { head.fields.count }

    /// The name of a header, as it came; `index` is below `headerCount`.
    @_lifetime(copy self)
    public func headerName(_ index: Int) -> Span<UInt8> { input.bytes(head.fields[index].name) }

    /// The value of a header; `index` is below `headerCount`.
    @_lifetime(copy self)
    public func headerValue(_ index: Int) -> Span<UInt8> { input.bytes(head.fields[index].value) }

    public func hasHeader(_ name: StaticString) -> Bool {
        head.fields.range(of: name, in: input) != nil
    }
}

/// What a handler says when it returns.
public enum Disposition {
    /// The response has been sent.
    case answered
    /// The answer will be posted to `Completions` with the request's token. Until then the connection reads no further
    /// request, which keeps pipelined answers in order.
    case pending
}

/// The routes. Each serving thread has an instance of its own, which owns its scratch: nothing in it is shared.
public protocol RequestHandler: ~Copyable {
    /// Answers one request. Must not wait for anything.
    mutating func handle(_ request: borrowing Request, _ response: inout Response) -> Disposition

    /// Called before the first request of a group that became readable together: the moment to renew a read
    /// transaction.
    mutating func groupBegins()

    /// Called after the last of the group, before the thread waits: the moment to let go of the transaction.
    mutating func groupEnds()
}

extension RequestHandler where Self: ~Copyable {
    public mutating func groupBegins() {}
    public mutating func groupEnds() {}
}
