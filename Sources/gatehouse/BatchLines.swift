// The `--batch` of commands: one answer a line, for programs at the other end of a pipe. What is asked is not known here.

import Formats
import Platform

enum BatchLines {
    /// Reads standard input to its end and answers each line that is not empty, in order.
    /// - Parameter answer: appends the answer, without a newline.
    /// - Returns: the exit code.
    static func run(_ answer: (Span<UInt8>, inout JSONWriter) -> Void) -> Int32 {
        var line: [UInt8] = []
        var output = JSONWriter(reserving: 256)
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        do throws(SystemError) {
            while true {
                let count = try readSome(0, into: &buffer)
                for index in 0..<count {
                    if buffer[index] != 0x0A { line.append(buffer[index]) } else { reply(&line, &output, answer) }
                }
                if count == 0 {
                    reply(&line, &output, answer)
                    return 0
                }
            }
        } catch {
            Process.complain(error.message)
            return 3
        }
    }

    private static func reply(
        _ line: inout [UInt8], _ output: inout JSONWriter, _ answer: (Span<UInt8>, inout JSONWriter) -> Void
    ) {
        if line.isEmpty { return }
        answer(line.span, &output)
        output.newline()
        line.removeAll(keepingCapacity: true)
        // An answer goes out at once: whoever waits for it may be a program.
        try? writeAll(1, output.bytes.span)
        output.clear()
    }
}
