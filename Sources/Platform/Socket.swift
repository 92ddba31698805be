// Listening and connecting. All sockets made here are non-blocking and close on exec.

import CPlatform

/// Who is at the other end of a connection.
public enum PeerKind: Equatable, Sendable {
    case otherHost, loopback, unixSocket
}

public enum Socket {
    /// Listens on a numeric IPv4 or IPv6 address.
    /// - Parameter port: 0 lets the kernel choose; ask `port(of:)`.
    /// - Parameter sharesPort: SO_REUSEPORT, so that each serving thread has a queue of its own.
    public static func listen(address: String, port: UInt16, sharesPort: Bool) throws(SystemError) -> Descriptor {
        let raw = address.withCString { cp_listen_tcp($0, port, 1024, sharesPort ? 1 : 0) }
        guard raw >= 0 else { throw SystemError(last: "listen") }
        return Descriptor(owning: raw)
    }

    /// Listens on a path; a socket that lies there already is replaced, any other file is not.
    public static func listen(path: String, mode: UInt32) throws(SystemError) -> Descriptor {
        let raw = path.withCString { cp_listen_unix($0, mode, 1024) }
        guard raw >= 0 else { throw SystemError(last: "listen") }
        return Descriptor(owning: raw)
    }

    /// The local port of a TCP socket.
    public static func port(of descriptor: Int32) -> UInt16 { UInt16(truncatingIfNeeded: cp_socket_port(descriptor)) }

    /// Accepts one waiting connection; `nil` when none waits (or it has gone again).
    public static func accept(_ listener: Int32) throws(SystemError) -> Descriptor? {
        while true {
            let raw = cp_accept(listener)
            if raw >= 0 { return Descriptor(owning: raw) }
            switch cp_errno() {
            case EINTR: continue
            case EAGAIN, ECONNABORTED, EPROTO: return nil
            default: throw SystemError(last: "accept")
            }
        }
    }

    public static func peerKind(_ descriptor: Int32) -> PeerKind {
        switch cp_peer_kind(descriptor) {
        case 1: .loopback
        case 2: .unixSocket
        default: .otherHost
        }
    }

    /// Sends small writes at once (TCP_NODELAY); has no effect on a Unix socket.
    public static func setNoDelay(_ descriptor: Int32) { _ = cp_set_no_delay(descriptor) }

    /// Why a connection attempt could not even start.
    public enum ConnectError: Error, Equatable {
        /// The name has no address; the words are the resolver's.
        case unresolved(String)
        case system(SystemError)
    }

    /// Resolves a name (blocking) and starts a connection; wait for writability, then ask `connectionError`.
    public static func connect(host: String, port: UInt16) throws(ConnectError) -> Descriptor {
        var code: Int32 = 0
        let raw = host.withCString { cp_connect_start($0, port, &code) }
        if raw >= 0 { return Descriptor(owning: raw) }
        if code > 50_000 {
            // gai_strerror returns a constant string.
            throw .unresolved(String(cString: gai_strerror(100_000 - code)))
        }
        throw .system(SystemError("connect", code: code))
    }

    /// Connects to a Unix socket; it stands at once.
    public static func connect(path: String) throws(SystemError) -> Descriptor {
        let raw = path.withCString { cp_connect_unix($0) }
        guard raw >= 0 else { throw SystemError(last: "connect") }
        return Descriptor(owning: raw)
    }

    /// 0, or the `errno` with which a connection attempt ended.
    public static func connectionError(_ descriptor: Int32) -> Int32 { cp_socket_error(descriptor) }

    /// Waits until a descriptor can be read or written.
    /// - Returns: false when the time ran out first.
    public static func wait(_ descriptor: Int32, toWrite: Bool, milliseconds: Int64) throws(SystemError) -> Bool {
        let n = cp_poll_one(descriptor, toWrite ? 1 : 0, Int32(clamping: milliseconds))
        if n < 0 { throw SystemError(last: "poll") }
        return n > 0
    }

    /// Waits until one of two descriptors can be read.
    public static func waitEither(
        _ first: Int32, _ second: Int32, milliseconds: Int64
    ) throws(SystemError) -> (first: Bool, second: Bool) {
        let n = cp_poll_two(first, second, Int32(clamping: milliseconds))
        if n < 0 { throw SystemError(last: "poll") }
        return (n & 1 != 0, n & 2 != 0)
    }
}
