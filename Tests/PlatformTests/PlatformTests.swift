// Shows that the wrappers do what the kernel does: bytes cross sockets, a notifier wakes a poller, a lock excludes, a
// file is replaced whole, and that a log line stays one line.

import Glibc
import Testing

@testable import Platform

@Suite struct PlatformTests {
    @Test func bytesCrossALoopbackSocketAndTheEndIsSeen() throws {
        let listener = try Socket.listen(address: "127.0.0.1", port: 0, sharesPort: false)
        let client = try Socket.connect(host: "127.0.0.1", port: Socket.port(of: listener.raw))
        #expect(try Socket.wait(client.raw, toWrite: true, milliseconds: 1000))
        #expect(Socket.connectionError(client.raw) == 0)
        #expect(try Socket.wait(listener.raw, toWrite: false, milliseconds: 1000))
        var buffer = [UInt8](repeating: 0, count: 16)
        do {
            let accepted = try Socket.accept(listener.raw)
            guard let server = accepted else {
                Issue.record("nothing was accepted")
                return
            }
            #expect(Socket.peerKind(server.raw) == .loopback)
            #expect(transmit(server.raw, Array("hello".utf8).span) == .moved(5))
        }
        #expect(try Socket.wait(client.raw, toWrite: false, milliseconds: 1000))
        #expect(receive(client.raw, into: &buffer, from: 2) == .moved(5))
        #expect(Array(buffer[2..<7]) == Array("hello".utf8))
        #expect(try Socket.wait(client.raw, toWrite: false, milliseconds: 1000))
        #expect(receive(client.raw, into: &buffer, from: 0) == .ended)
        let another = try Socket.accept(listener.raw)
        let hasAnother = another != nil
        #expect(!hasAnother)
    }

    @Test func anUnusableAddressIsAnErrorWithItsReason() {
        #expect(throws: SystemError.self) {
            _ = try Socket.listen(address: "not an address", port: 0, sharesPort: false)
        }
    }

    @Test func aNotifierWakesAPollerFromAnotherThread() throws {
        let poller = try Poller()
        let notifier = Shared(try EventNotifier())
        try poller.add(notifier.value.raw, token: 42, interest: .read)
        #expect(try poller.wait(milliseconds: 0) == 0)
        let thread = try Thread.spawn { notifier.value.notify() }
        #expect(try poller.wait(milliseconds: 2000) == 1)
        #expect(poller.event(0).token == 42)
        #expect(poller.event(0).isReadable)
        notifier.value.clear()
        #expect(try poller.wait(milliseconds: 0) == 0)
        thread.join()
    }

    @Test func aLockExcludesAndAConditionWakes() throws {
        let lock = Lock()
        let counter = Counter()
        var threads: [Thread] = []
        for _ in 0..<4 {
            threads.append(
                try Thread.spawn {
                    for _ in 0..<10_000 { lock.with { counter.value += 1 } }
                    lock.with { lock.broadcast() }
                })
        }
        lock.lock()
        while counter.value < 40_000 { lock.wait(milliseconds: 5000) }
        lock.unlock()
        for thread in threads { thread.join() }
        #expect(counter.value == 40_000)
    }

    @Test func aThreadsTurnIsTheKernelsToo() throws {
        let seen = SchedulingSeen()
        for turn in [Turn.equal, .first, .givesWay] {
            let thread = try Thread.spawn(turn: turn) {
                seen.policy = sched_getscheduler(0)
                seen.niceness = getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0)
                seen.slice = slice()
                seen.hearsSignals = [SIGINT, SIGTERM, SIGHUP].filter { !isBlocked($0) }
            }
            thread.join()
            // Those that ask the process to end are for its first thread, whenever it begins to read them.
            #expect(seen.hearsSignals == [])
            // SCHED_BATCH of linux/sched.h, which Glibc's module does not have.
            #expect(seen.policy == (turn == .givesWay ? 3 : SCHED_OTHER))
            if turn == .givesWay { #expect(seen.niceness >= 5) }
            // Kernels before 6.12 tell nothing here.
            if turn == .first { #expect(seen.slice == 100_000 || seen.slice == nil) }
        }
    }

    @Test func aFileIsReplacedWholeAndTooLargeOnesAreRefused() throws {
        let path = "/tmp/gatehouse-platform-test-\(Process.identifier)/a/file"
        try Files.makeDirectory(Files.parent(path))
        try Files.replace(path, with: [1, 2, 3], mode: 0o600)
        try Files.replace(path, with: [4, 5], mode: 0o600)
        #expect(try Files.read(path, limitBytes: 2) == [4, 5])
        #expect(Files.size(path) == 2)
        #expect(throws: SystemError.self) { try Files.read(path, limitBytes: 1) }
        let first = try Files.lockFile(path + ".lock")
        let hasFirst = first != nil
        let second = try Files.lockFile(path + ".lock")
        let hasSecond = second != nil
        #expect(hasFirst && !hasSecond)
        Files.remove(path)
        #expect(!Files.exists(path))
    }

    @Test func aLogFieldCannotBreakItsLine() {
        var line = LogLine()
        line.field("path", "a\nlevel=error \"x\"")
        #expect(String(decoding: line.bytes, as: UTF8.self) == " path=\"a level=error 'x'\"")
        var plain = LogLine()
        plain.field("n", 7)
        plain.field("name", "till-1")
        #expect(String(decoding: plain.bytes, as: UTF8.self) == " n=7 name=till-1")
    }

    @Test func theSeededSourceRepeatsItselfAndStaysBelowItsBound() {
        var a = SeededRandom(seed: 7)
        var b = SeededRandom(seed: 7)
        for _ in 0..<1000 {
            let n = a.next(below: 10)
            #expect(n < 10)
            #expect(n == b.next(below: 10))
        }
        #expect(a.bytes(13).count == 13)
    }
}

private final class Counter: @unchecked Sendable { var value = 0 }
private final class SchedulingSeen: @unchecked Sendable {
    var policy: Int32 = -1, niceness: Int32 = 0, slice: Int?, hearsSignals: [Int32]?
}

/// Whether the asking thread leaves a signal to others.
private func isBlocked(_ signal: Int32) -> Bool {
    var set = sigset_t()
    return pthread_sigmask(SIG_BLOCK, nil, &set) == 0 && sigismember(&set, signal) == 1
}

/// For how long, in nanoseconds, the kernel gives the asking thread a core at once; nil where it does not say.
private func slice() -> Int? {
    guard let text = try? String(decoding: Files.read("/proc/thread-self/sched", limitBytes: 1 << 16), as: UTF8.self),
        let line = text.split(separator: "\n").first(where: { $0.hasPrefix("se.slice") })
    else { return nil }
    return Int(line.split(separator: " ").last ?? "")
}
private final class Shared: @unchecked Sendable {
    let value: EventNotifier
    init(_ value: consuming EventNotifier) { self.value = value }
}
