// Lines of standard input or of a file, one after another, and the `--batch` of commands: one answer a line, for programs at
// the other end of a pipe. What is asked is not known here.

import Formats
import Platform

enum BatchLines {
    /// Reads standard input to its end and answers each line that is not empty, in order.
    /// - Parameter answer: appends the answer, without a newline.
    /// - Returns: the exit code.
    static func run(_ answer: (Span<UInt8>, inout JSONWriter) -> Void) -> Int32 {
        var output = JSONWriter(reserving: 256)
        do throws(SystemError) {
            try forEach(of: 0) { line in
                if line.isEmpty { return true }
                answer(line, &output)
                output.newline()
                // An answer goes out at once: whoever waits for it may be a program.
                try? writeAll(1, output.bytes.span)
                output.clear()
                return true
            }
            return 0
        } catch {
            Process.complain(error.message)
            return 3
        }
    }

    /// Reads a descriptor to its end.
    /// - Parameters:
    ///   - limit: bytes of a line that are read; of one that is longer, one byte more is there to tell.
    ///   - body: takes each line, without its newline; false to end.
    static func forEach(of descriptor: Int32, limit: Int = .max - 1, _ body: (Span<UInt8>) -> Bool) throws(SystemError) {
        var line: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try readSome(descriptor, into: &buffer)
            for index in 0..<count {
                if buffer[index] != 0x0A {
                    if line.count <= limit { line.append(buffer[index]) }
                    continue
                }
                if !body(line.span) { return }
                line.removeAll(keepingCapacity: true)
            }
            if count == 0 {
                if !line.isEmpty { _ = body(line.span) }
                return
            }
        }
    }
}
