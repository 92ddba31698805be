// The local HTTP server: listeners, threads, life cycle. What is answered is the handler's affair.

import Cryptography
import Platform
import Synchronization

/// Where and how to serve. Everything has a default.
public struct ServerConfiguration {
    /// Where to listen.
    public enum Address {
        /// A numeric address; port 0 lets the kernel choose. With `tls`, only through TLS.
        case tcp(address: String, port: UInt16, tls: TLSServerConfiguration? = nil)
        /// A socket in the file system, with these permission bits.
        case unix(path: String, mode: UInt32)
    }

    public var addresses: [Address] = [.tcp(address: "127.0.0.1", port: 8470)]
    public var maximumConnections = Limits.connections
    public var maximumBodyBytes = Limits.bodyBytes
    public var maximumBufferedBytes = Limits.bufferedBytes
    /// Names, without port, under which clients may call besides `localhost` and addresses.
    public var hostNames: [String] = []
    /// Origins, `scheme://host[:port]`, whose pages may call besides the server's own.
    public var origins: [String] = []
    /// Whether unknown names are refused. Needed wherever a call without a token is answered, above all on loopback.
    public var checksHost = true
    /// Whether responses carry Date. Off for a device without a clock (RFC 9110 section 6.6.1).
    public var sendsDate = true

    public init() {}
}

/// Counts for `/metrics`. Any thread may read them.
public final class ServerStatistics: Sendable {
    public let openConnections = Atomic<Int>(0)
    public let acceptedConnections = Atomic<Int>(0)
    /// For which there was no slot, or no room for the request on it.
    public let refusedConnections = Atomic<Int>(0)
    public let requests = Atomic<Int>(0)
    /// Broke the protocol or one of its limits.
    public let malformedRequests = Atomic<Int>(0)
    public let timedOutRequests = Atomic<Int>(0)

    public init() {}
}

/// A listening socket, and who it is to those who come through TLS.
final class ServerListener {
    let descriptor: Descriptor
    let tls: TLSServerConfiguration?

    init(_ descriptor: consuming Descriptor, tls: TLSServerConfiguration? = nil) {
        self.descriptor = descriptor
        self.tls = tls
    }
}

/// An HTTP/1.1 server: as many threads as `Completions` has queues, each with a poller, a listening socket for each TCP
/// address (SO_REUSEPORT) and a handler of its own.
public final class Server<Handler: RequestHandler & ~Copyable, Time: Clock> {
    private let shared: ServerShared
    private let completions: Completions
    private var serving: [ServerThread<Handler, Time>] = []
    private var threads: [Thread] = []
    /// The port of the first TCP address, as the kernel has it.
    public private(set) var port: UInt16 = 0

    /// Opens the listeners; connections wait in them until `start`.
    ///
    /// - Parameters:
    ///   - makeHandler: called once for each thread, with its number.
    /// - Throws: what a listener or a poller could not have.
    public init(
        _ configuration: ServerConfiguration, statistics: ServerStatistics, completions: Completions, clock: Time,
        makeHandler: (Int) -> Handler
    ) throws(SystemError) {
        shared = ServerShared(statistics: statistics)
        self.completions = completions
        for index in completions.queues.indices {
            let listeners = try listen(configuration, thread: index)
            serving.append(
                try ServerThread(
                    index: index, configuration: configuration, shared: shared,
                    completions: completions.queues[index], clock: clock, listeners: listeners,
                    handler: makeHandler(index)))
        }
    }

    /// The listeners of one thread: each TCP address, and with the first thread the Unix sockets.
    private func listen(_ configuration: ServerConfiguration, thread: Int) throws(SystemError) -> [ServerListener] {
        var listeners: [ServerListener] = []
        for address in configuration.addresses {
            switch address {
            case .tcp(let host, let wanted, let tls):
                // All threads share the port that the kernel chose for the first.
                let listener = ServerListener(
                    try Socket.listen(address: host, port: wanted == 0 ? port : wanted, sharesPort: true), tls: tls)
                if port == 0 { port = Socket.port(of: listener.descriptor.raw) }
                listeners.append(listener)
            case .unix(let path, let mode):
                if thread == 0 { listeners.append(ServerListener(try Socket.listen(path: path, mode: mode))) }
            }
        }
        return listeners
    }

    /// Starts the threads.
    public func start() throws(SystemError) {
        for thread in serving {
            threads.append(try Thread.spawn(turn: .first) { thread.run() })
        }
    }

    /// Takes no new connection, lets requests that are under way come to their answers (for at most
    /// `Limits.stopNanoseconds`), closes and returns. Whoever answers pending requests must go on until then.
    public func stop() {
        shared.isStopping.store(true, ordering: .releasing)
        for queue in completions.queues { queue.notifier.notify() }
        for thread in threads { thread.join() }
        threads = []
    }
}
