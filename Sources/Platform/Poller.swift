// epoll(7) and eventfd(2): how a serving thread waits for many connections at once.

import CPlatform

/// One epoll instance with a buffer of 128 events.
public struct Poller: ~Copyable {
    public struct Interest: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let read = Interest(rawValue: cp_epoll_readable | cp_epoll_peer_closed)
        public static let write = Interest(rawValue: cp_epoll_writable)
        /// Each change of readiness is told once (edge-triggered).
        public static let edge = Interest(rawValue: cp_epoll_edge)
        /// Of several pollers that share a listener only some are woken.
        public static let exclusive = Interest(rawValue: cp_epoll_exclusive)
    }

    public struct Event {
        /// What `add` was given.
        public let token: UInt64
        let flags: UInt32
        public var isReadable: Bool { flags & (cp_epoll_readable | cp_epoll_hangup | cp_epoll_error) != 0 }
        public var isWritable: Bool { flags & (cp_epoll_writable | cp_epoll_hangup | cp_epoll_error) != 0 }
        /// The peer has closed its sending side, or the connection is gone.
        public var isHangup: Bool { flags & (cp_epoll_peer_closed | cp_epoll_hangup | cp_epoll_error) != 0 }
    }

    private let descriptor: Descriptor
    private let events: UnsafeMutablePointer<cp_epoll_events>

    public init() throws(SystemError) {
        let raw = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard raw >= 0 else { throw SystemError(last: "epoll_create1") }
        descriptor = Descriptor(owning: raw)
        events = .allocate(capacity: 1)
        events.initialize(to: cp_epoll_events())
    }

    deinit { events.deallocate() }

    public func add(_ target: Int32, token: UInt64, interest: Interest) throws(SystemError) {
        try control(EPOLL_CTL_ADD, target, token, interest)
    }
    public func modify(_ target: Int32, token: UInt64, interest: Interest) throws(SystemError) {
        try control(EPOLL_CTL_MOD, target, token, interest)
    }
    /// Closing a descriptor removes it too, unless it was duplicated.
    public func remove(_ target: Int32) { _ = cp_epoll_control(descriptor.raw, EPOLL_CTL_DEL, target, 0, 0) }

    private func control(_ operation: Int32, _ target: Int32, _ token: UInt64, _ interest: Interest) throws(SystemError) {
        if cp_epoll_control(descriptor.raw, operation, target, interest.rawValue, token) != 0 {
            throw SystemError(last: "epoll_ctl")
        }
    }

    /// Waits; negative milliseconds wait without end.
    /// - Returns: how many events `event(_:)` now holds; 0 after the time-out or a signal.
    public func wait(milliseconds: Int32) throws(SystemError) -> Int {
        let n = cp_epoll_wait(descriptor.raw, events, milliseconds)
        if n >= 0 { return Int(n) }
        if cp_errno() == EINTR { return 0 }
        throw SystemError(last: "epoll_wait")
    }

    /// One of the events of the last `wait`; `index` is below what it returned.
    public func event(_ index: Int) -> Event {
        precondition(index >= 0 && index < 128)
        return Event(
            token: cp_epoll_token(events, Int32(index)), flags: cp_epoll_flags(events, Int32(index)))
    }
}

/// A counter in the kernel by which one thread wakes another out of its wait.
public struct EventNotifier: ~Copyable, Sendable {
    private let descriptor: Descriptor

    public init() throws(SystemError) {
        let raw = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
        guard raw >= 0 else { throw SystemError(last: "eventfd") }
        descriptor = Descriptor(owning: raw)
    }

    /// For a poller.
    public var raw: Int32 { descriptor.raw }

    /// Makes the descriptor readable. Any thread.
    public func notify() {
        var one: UInt64 = 1
        _ = write(descriptor.raw, &one, 8)
    }

    /// Takes all notifications so far.
    public func clear() {
        var count: UInt64 = 0
        _ = read(descriptor.raw, &count, 8)
    }
}
