// This process: its arguments, its signals, its standard streams.

import CPlatform

public enum Process {
    /// Sees to it that all three standard streams are open: a file that got the number of one would get what is written there.
    public static func keepStreams() { cp_keep_streams() }

    /// The command line, the program's name first.
    public static var arguments: [String] {
        var result: [String] = []
        for index in 0..<cp_argument_count() {
            // argv's strings live as long as the process.
            if let text = cp_argument(index) { result.append(String(cString: text)) }
        }
        return result
    }

    public static var identifier: Int { Int(getpid()) }

    /// Processors that are online; at least 1.
    public static var processorCount: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

    /// An environment variable's value.
    public static func environment(_ name: String) -> String? {
        // getenv's result is copied before anything could change the environment; nothing here does.
        guard let value = name.withCString({ getenv($0) }) else { return nil }
        return String(cString: value)
    }

    /// What every long-running command does first.
    public static func prepare() {
        cp_tune_allocator()
        cp_ignore_broken_pipes()
    }

    /// Gives freed memory back to the kernel.
    public static func trimMemory() { cp_trim_memory() }

    /// Bytes of a page of memory.
    public static var pageBytes: Int { Int(sysconf(Int32(_SC_PAGESIZE))) }

    /// What this process has in memory, to within some hundred KiB (the kernel counts by processor): memory of its own, and
    /// pages of mapped files, the program and the store. nil where the kernel does not say.
    public static func residentMemory() -> (anonymousBytes: Int64, fileBytes: Int64)? {
        var (all, ofFiles): (Int64, Int64) = (0, 0)
        if cp_resident_pages(&all, &ofFiles) == 0 { return nil }
        let page = Int64(pageBytes)
        return ((all - ofFiles) * page, ofFiles * page)
    }

    /// Bytes that this process has had written to a disk since it started. nil where the kernel does not say.
    public static func writtenBytes() -> Int64? {
        let bytes = cp_written_bytes()
        return bytes < 0 ? nil : bytes
    }

    /// Tells the service manager that has started this process, if one has (sd_notify(3)).
    /// - Parameter state: such as `READY=1`.
    public static func notify(_ state: StaticString) {
        guard let path = environment("NOTIFY_SOCKET") else { return }
        // A StaticString literal ends with a NUL byte.
        state.utf8Start.withMemoryRebound(to: CChar.self, capacity: state.utf8CodeUnitCount + 1) { words in
            path.withCString { cp_notify($0, words) }
        }
    }

    /// Ends the process at once.
    public static func exit(_ code: Int32) -> Never { CPlatform.exit(code) }

    /// Asks this process to end as an operator would.
    public static func terminate() { kill(getpid(), SIGTERM) }

    /// From now on a fault that ends this process leaves an empty file behind.
    /// - Parameter path: of up to 511 bytes; a longer one is not used.
    public static func noteCrashes(at path: String) { path.withCString { cp_note_crashes($0) } }

    public static func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }

    /// Writes a command's complaint, a line on standard error: `gatehouse: ` and these words one after another. Never
    /// inlined, because the code that joins texts is larger than most of its callers.
    @inline(never)
    public static func complain(_ words: String, _ second: String = "", _ third: String = "", _ fourth: String = "") {
        standardError(joined("gatehouse: ", words, second, joined(third, fourth, "\n")))
    }

    public static func standardOutput(_ text: String) { try? writeAll(1, Array(text.utf8).span) }
    public static func standardError(_ text: String) { try? writeAll(2, Array(text.utf8).span) }
}

/// Texts one after another, out of line; see `Process.complain`.
@inline(never)
public func joined(_ first: String, _ second: String, _ third: String = "", _ fourth: String = "") -> String {
    var bytes = Array(first.utf8)
    bytes += Array(second.utf8)
    bytes += Array(third.utf8)
    bytes += Array(fourth.utf8)
    return String(decoding: bytes, as: UTF8.self)
}

/// SIGINT, SIGTERM and SIGHUP as readable events, for the process's first thread; others leave them alone (`Thread.spawn`).
public struct SignalWatcher: ~Copyable {
    public enum Signal: Equatable, Sendable {
        case interrupt, terminate, hangup
    }

    private let descriptor: Descriptor

    public init() throws(SystemError) {
        let raw = cp_signal_descriptor()
        guard raw >= 0 else { throw SystemError(last: "signalfd") }
        descriptor = Descriptor(owning: raw)
    }

    public var raw: Int32 { descriptor.raw }

    /// The next signal that has arrived.
    public func next() -> Signal? {
        switch cp_next_signal(descriptor.raw) {
        case SIGINT: .interrupt
        case SIGTERM: .terminate
        case SIGHUP: .hangup
        default: nil
        }
    }
}
