// Threads, locks and conditions of pthreads. Embedded Swift has neither Mutex nor concurrency.

import CPlatform

/// A mutual exclusion lock with a condition: state that several threads share sits beside it in a class of the caller's.
public final class Lock: @unchecked Sendable {
    // Allocated once and never moved: pthreads require a stable address.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>

    public init() {
        mutex = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(condition)
        mutex.deallocate()
        condition.deallocate()
    }

    public func lock() { pthread_mutex_lock(mutex) }
    public func unlock() { pthread_mutex_unlock(mutex) }

    /// Runs `body` under the lock.
    public func with<Result>(_ body: () -> Result) -> Result {
        lock()
        defer { unlock() }
        return body()
    }

    /// Waits for a signal; called with the lock held, which is given up meanwhile. May wake without reason.
    public func wait() { pthread_cond_wait(condition, mutex) }

    /// The same for at most this long.
    /// - Returns: false when the time ran out.
    @discardableResult
    public func wait(milliseconds: Int64) -> Bool {
        let until = cp_monotonic_nanoseconds() + milliseconds * 1_000_000
        var deadline = timespec()
        deadline.tv_sec = time_t(until / 1_000_000_000)
        deadline.tv_nsec = Int(until % 1_000_000_000)
        return pthread_cond_timedwait(condition, mutex, &deadline) == 0
    }

    public func signal() { pthread_cond_signal(condition) }
    public func broadcast() { pthread_cond_broadcast(condition) }
}

private final class ThreadBody {
    let run: () -> Void
    init(_ run: @escaping () -> Void) { self.run = run }
}

/// Which thread gets a core first where there are too few for all. Each still gets its share. What the kernel does not permit
/// is not done.
public enum Turn: Sendable {
    /// Works shortly and somebody waits for it: it gets a core at once, from threads that would keep it longer (sched_setattr(2),
    /// a slice of its own, since Linux 6.12).
    case first
    case equal
    /// Never interrupts another (sched(7): SCHED_BATCH, niceness).
    case givesWay
}

/// A thread of the process.
public struct Thread: @unchecked Sendable {
    private let handle: UInt

    /// Starts a thread that runs `body` and ends.
    /// - Parameters:
    ///   - stackBytes: its stack; pages never touched cost nothing.
    ///   - turn: when it gets a core.
    public static func spawn(
        stackBytes: Int = 512 * 1024, turn: Turn = .equal, _ body: @escaping () -> Void
    ) throws(SystemError) -> Thread {
        // The body's reference travels as the thread's argument and is taken over exactly once by the thread.
        let argument = Unmanaged.passRetained(
            ThreadBody {
                switch turn {
                case .first: cp_go_first(Limits.sliceNanoseconds)
                case .equal: break
                case .givesWay: cp_give_way(Limits.niceness)
                }
                body()
            }
        ).toOpaque()
        var handle: UInt = 0
        let code = cp_spawn_thread(
            { pointer in
                Unmanaged<ThreadBody>.fromOpaque(pointer!).takeRetainedValue().run()
                return nil
            }, argument, stackBytes, &handle)
        guard code == 0 else {
            Unmanaged<ThreadBody>.fromOpaque(argument).release()
            throw SystemError("pthread_create", code: code)
        }
        return Thread(handle: handle)
    }

    /// What lists of threads call the one that asks, up to 15 bytes.
    public static func name(_ name: StaticString) {
        // A StaticString literal ends with a NUL byte.
        name.utf8Start.withMemoryRebound(to: CChar.self, capacity: name.utf8CodeUnitCount + 1) { cp_name_thread($0) }
    }

    /// Waits until it has ended. Once only.
    public func join() { cp_join_thread(handle) }
}
