// Answers that come later: from the writer thread, after its commit, back to the serving threads.

import Monitoring
import Platform

/// An answer to a request whose disposition was `.pending`.
public struct Completion {
    public var token: ConnectionToken
    /// 200 to 599.
    public var status: UInt16
    /// The body's media type; empty for none.
    public var contentType: StaticString
    /// Further header lines, each with its CR LF.
    public var headerLines: [UInt8]
    public var body: [UInt8]

    public init(
        _ token: ConnectionToken, status: UInt16, contentType: StaticString = "application/json",
        headerLines: [UInt8] = [], body: [UInt8]
    ) {
        self.token = token
        self.status = status
        self.contentType = contentType
        self.headerLines = headerLines
        self.body = body
    }
}

/// The queue of one serving thread.
final class CompletionQueue: @unchecked Sendable {
    private let lock = Lock()
    private var waiting: [Completion] = []
    private var needsWake = false
    let notifier: EventNotifier
    /// When its thread was last woken, nanoseconds of the monotonic clock.
    let seen = Gauge()

    init() throws(SystemError) { notifier = try EventNotifier() }

    func post(_ completion: Completion) {
        lock.lock()
        waiting.append(completion)
        needsWake = true
        lock.unlock()
    }

    func wake() {
        lock.lock()
        let isNeeded = needsWake
        needsWake = false
        lock.unlock()
        if isNeeded { notifier.notify() }
    }

    /// Exchanges what waits for an empty list, so that both keep their memory.
    func take(into taken: inout [Completion]) {
        lock.lock()
        swap(&taken, &waiting)
        lock.unlock()
    }
}

/// The way back to all serving threads of a server. Made before the server and before whoever answers.
public final class Completions: @unchecked Sendable {
    let queues: [CompletionQueue]

    /// - Parameter threads: serving threads, 1 to 64; the server takes its number from here.
    public init(threads: Int) throws(SystemError) {
        precondition(threads >= 1 && threads <= 64)
        var made: [CompletionQueue] = []
        for _ in 0..<threads { made.append(try CompletionQueue()) }
        queues = made
    }

    /// Queues one answer. Any thread. It is delivered after the next `wake`.
    public func post(_ completion: Completion) { queues[completion.token.thread].post(completion) }

    /// Wakes all serving threads, only to see whether they do.
    /// - Parameter now: nanoseconds of the monotonic clock.
    public func poke(at now: Int64) {
        for queue in queues {
            if queue.seen.current == 0 { queue.seen.set(now) }
            queue.notifier.notify()
        }
    }

    /// When the last of them was woken, nanoseconds of the monotonic clock; 0 before the first poke.
    public var seen: Int64 {
        var earliest = Int64.max
        for queue in queues { earliest = min(earliest, queue.seen.current) }
        return earliest
    }

    /// Wakes the serving threads that have answers waiting: once for each group of them.
    public func wake() {
        for queue in queues { queue.wake() }
    }
}
