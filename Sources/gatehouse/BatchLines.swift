// Lines of standard input or of a file, one after another, and the `--batch` of commands: one answer a line, for programs at
// the other end of a pipe. What is asked is not known here.

import Formats
import Platform

/// Reads lines from a descriptor.
struct LineReader {
    /// The line, without its newline.
    private(set) var line: [UInt8] = []
    private var buffer = [UInt8](repeating: 0, count: 1 << 16)
    private var (next, end) = (0, 0)
    private let descriptor: Int32
    private let limit: Int

    /// - Parameter limit: bytes of a line that are read; of one that is longer, one byte more is there to tell.
    @inline(never)
    init(_ descriptor: Int32, limit: Int = .max - 1) {
        self.descriptor = descriptor
        self.limit = limit
    }

    /// Goes on to the next line.
    /// - Returns: false at the end.
    @inline(never)
    mutating func advance() throws(SystemError) -> Bool {
        line.removeAll(keepingCapacity: true)
        while true {
            if next == end {
                (next, end) = (0, try readSome(descriptor, into: &buffer))
                if end == 0 { return !line.isEmpty }
            }
            let byte = buffer[next]
            next += 1
            if byte == 0x0A { return true }
            if line.count <= limit { line.append(byte) }
        }
    }
}

enum BatchLines {
    /// Reads standard input to its end and answers each line that is not empty, in order.
    /// - Parameter answer: appends the answer, without a newline.
    /// - Returns: the exit code.
    static func run(_ answer: (Span<UInt8>, inout JSONWriter) -> Void) -> Int32 {
        var lines = LineReader(0)
        var output = JSONWriter(reserving: 256)
        do throws(SystemError) {
            while try lines.advance() {
                if lines.line.isEmpty { continue }
                let line = lines.line
                answer(line.span, &output)
                output.newline()
                // An answer goes out at once: whoever waits for it may be a program.
                try? writeAll(1, output.bytes.span)
                output.clear()
            }
            return 0
        } catch {
            Process.complain(error.message)
            return 3
        }
    }
}
