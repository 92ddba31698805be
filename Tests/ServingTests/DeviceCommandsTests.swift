// Shows that what a hub asks of a device stays as it was through its row, that a device cannot end what was not asked, and that a
// damaged row is as none.

import Formats
import Testing

@testable import Serving

private func json(_ commands: DeviceCommands) -> String {
    var writer = JSONWriter()
    writer.beginObject()
    commands.write(to: &writer)
    _ = commands.writeReport(to: &writer)
    writer.endObject()
    return String(decoding: writer.bytes, as: UTF8.self)
}

private func read(_ row: [UInt8]) -> DeviceCommands { DeviceCommands(row.span) }

@Suite struct DeviceCommandsTests {
    private let report = Array(#"{"status":"fresh"}"#.utf8)
    private let none: [UInt8] = []

    @Test("What was asked and done comes back from the row, and the last report with it")
    func row() {
        var commands = DeviceCommands()
        #expect(json(read(commands.row)) == #"{"commands":{}}"#)
        commands.ask(.report, at: 1_000)
        commands.ask(.flush, at: 2_000)
        #expect(commands.end(.report, askedAt: 1_000, at: 3_000, report.span) == true)
        let expected = #"{"commands":{"flush":{"askedAt":"1970-01-01T00:00:02.000Z","doneAt":null},"#
            + #""report":{"askedAt":"1970-01-01T00:00:01.000Z","doneAt":"1970-01-01T00:00:03.000Z"}},"#
            + #""reportedAt":"1970-01-01T00:00:03.000Z","report":{"status":"fresh"}}"#
        #expect(json(commands) == expected)
        #expect(json(read(commands.row)) == expected)
    }

    @Test("Only what is pending, and at its time, is ended; whatever the hub's clock does, no two are one")
    func times() {
        var commands = DeviceCommands()
        #expect(commands.end(.flush, askedAt: 0, at: 5, none.span) == false)
        commands.ask(.flush, at: 1_000)
        #expect(commands.end(.flush, askedAt: 999, at: 5, none.span) == false)
        #expect(commands.end(.compact, askedAt: 1_000, at: 5, none.span) == false)
        #expect(commands.isPending(.flush) && !commands.isPending(.compact))
        // The clock was set back in between.
        #expect(commands.end(.flush, askedAt: 1_000, at: 5, none.span) == true)
        #expect(!commands.isPending(.flush))
        #expect(commands.end(.flush, askedAt: 1_000, at: 6, none.span) == false)
        commands.ask(.flush, at: 10)
        #expect(commands.askedAt[0] == 1_001 && commands.isPending(.flush))
        commands.ask(.flush, at: 10)
        #expect(commands.askedAt[0] == 1_002)
        #expect(commands.end(.flush, askedAt: 1_001, at: 2_000, none.span) == false)
        #expect(commands.end(.flush, askedAt: 1_002, at: 2_000, none.span) == true)
        commands.ask(.flush, at: -5)
        #expect(commands.isPending(.flush))
    }

    @Test("A row of which any bit is another is as none, or has no report")
    func damage() {
        var commands = DeviceCommands()
        commands.ask(.report, at: 1_000)
        #expect(commands.end(.report, askedAt: 1_000, at: 3_000, report.span))
        let (row, head) = (commands.row, commands.row.count - report.count)
        for bit in 0..<row.count * 8 {
            var damaged = row
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            let found = json(read(damaged))
            #expect(!found.contains("status"), "bit \(bit)")
            #expect(found.contains("doneAt") == (bit / 8 >= head), "bit \(bit)")
        }
        for length in 0..<row.count { #expect(!json(read(Array(row[..<length]))).contains("status")) }
    }

    @Test("Commands are known by their words")
    func words() {
        for command in DeviceCommand.allCases { #expect(DeviceCommand(command.word.bytes) == command) }
        for wrong in ["", "flus", "flushh", "Flush", "flush "] {
            let bytes = Array(wrong.utf8)
            #expect(DeviceCommand(bytes.span) == nil)
        }
    }
}
