// What a serving thread remembers of one connection between two events. Small: a thousand idle ones cost little.

import HTTP
import Platform

/// One slot of a serving thread, used by one connection after another.
final class Connection {
    /// Where it is in its request.
    enum Phase {
        /// Before or in a head.
        case head
        /// The whole request, head and body, will be this long.
        case length(total: Int)
        /// Behind a head of this length; the body decoded so far ends at `bodyEnd` (from the head's start).
        case chunked(headLength: Int, bodyEnd: Int)
        /// A request is with whoever will answer it; nothing more is read.
        case pending
        /// Answered for the last time; what still comes is thrown away until the peer closes.
        case lingering
    }

    let slot: Int
    /// Counts the connections of this slot, so that an event or an answer for an earlier one is noticed.
    var generation: UInt16 = 0
    var transport: ConnectionTransport?
    private(set) var descriptor: Int32 = -1
    private(set) var isSecure = false
    var peer = PeerKind.otherHost
    var phase = Phase.head
    var progress = HeadProgress()
    var decoder = ChunkedDecoder(maximumBodyBytes: 0)

    /// Received and not used up: an unfinished request, or requests behind a pending one.
    var input: [UInt8] = []
    /// Answers that the socket has not taken.
    var unsent: [UInt8] = []
    var unsentStart = 0
    var interest = Poller.Interest.read
    /// Reading can only go on when the socket can be written (a TLS handshake).
    var waitsForWrite = false
    /// Bytes, or their end, have come that it does not want yet: the poller must stop telling of them.
    var hasUnwantedInput = false
    /// There are requests in `input` for which it is to have another turn.
    var waitsForTurn = false

    /// When to lose patience; `Int64.max` for never. On the monotonic clock, in nanoseconds.
    var deadline = Int64.max
    var bodyBegan: Int64 = 0
    var closesAfterOutput = false
    var lingersAfterOutput = false
    var hasInputEnded = false
    /// The number of the configured origin whose page sent the request under way; -1 for any other caller.
    var origin = -1
    /// What this connection adds to the server's count of buffered bytes.
    var accountedBytes = 0

    /// Counts the pending requests, so that a second answer to an earlier one is noticed.
    var pendingSerial: UInt16 = 0
    // Of the pending request, for its response.
    var isPendingToHead = false
    var pendingMinorVersion: UInt8 = 1
    var pendingKeepsAlive = true

    init(slot: Int) { self.slot = slot }

    var isOpen: Bool { transport != nil }
    var hasUnsent: Bool { unsentStart < unsent.count }
    var isPending: Bool { if case .pending = phase { true } else { false } }
    var isLingering: Bool { if case .lingering = phase { true } else { false } }

    /// Whether it may read: not while an answer is owed or unsent, so that one client cannot fill the memory.
    var wantsInput: Bool { !hasInputEnded && !hasUnsent && !isPending && !waitsForTurn && (!closesAfterOutput || isLingering) }

    /// Whether a request has begun and not ended.
    var isInRequest: Bool {
        switch phase {
        case .head: !input.isEmpty
        case .length, .chunked: true
        case .pending, .lingering: false
        }
    }

    /// Makes the slot ready for a new connection.
    func open(_ transport: consuming ConnectionTransport, peer: PeerKind, deadline: Int64) {
        generation &+= 1
        descriptor = transport.descriptor.raw
        isSecure = transport.isSecure
        self.transport = consume transport
        self.peer = peer
        self.deadline = deadline
        phase = .head
        waitsForTurn = false
        progress = HeadProgress()
        interest = .read
        closesAfterOutput = false
        lingersAfterOutput = false
        hasInputEnded = false
        hasUnwantedInput = false
        waitsForWrite = false
    }

    /// Closes the socket and gives back all memory.
    func close() {
        if isSecure { transport!.end() }
        transport = nil
        input = []
        unsent = []
        unsentStart = 0
        deadline = .max
    }
}
