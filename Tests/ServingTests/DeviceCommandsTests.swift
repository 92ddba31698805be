// Shows that what a hub asks of a device stays as it was through its row, that a device cannot end what was not asked, and that a
// damaged row is as none.

import Formats
import Testing

@testable import Serving

private func json(_ commands: DeviceCommands) -> String {
    var writer = JSONWriter()
    writer.beginObject()
    commands.write(to: &writer)
    writer.endObject()
    return String(decoding: writer.bytes, as: UTF8.self)
}

private func read(_ row: [UInt8]) -> DeviceCommands { DeviceCommands(row.span) }

@Suite struct DeviceCommandsTests {
    @Test("What was asked and done comes back from the row")
    func row() {
        var commands = DeviceCommands()
        #expect(json(read(commands.row)) == "{}")
        commands.ask(.report, at: 1_000)
        commands.ask(.flush, at: 2_000)
        commands.end(.report, at: 3_000)
        let expected = #"{"commands":{"flush":{"askedAt":"1970-01-01T00:00:02.000Z","doneAt":null},"#
            + #""report":{"askedAt":"1970-01-01T00:00:01.000Z","doneAt":"1970-01-01T00:00:03.000Z"}}}"#
        #expect(json(commands) == expected)
        #expect(json(read(commands.row)) == expected)
    }

    @Test("A report comes back from its row; one of which any bit is another is none")
    func report() {
        let report = DeviceReport(Array(#"{"status":"fresh"}"#.utf8), at: 3_000)
        let row = report.row
        let found = DeviceReport(row.span)!
        let text = String(decoding: found.json(Array("till".utf8)), as: UTF8.self)
        #expect(text == #"{"device":"till","reportedAt":"1970-01-01T00:00:03.000Z","report":{"status":"fresh"}}"#)
        for bit in 0..<row.count * 8 {
            var damaged = row
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            let isNone = DeviceReport(damaged.span) == nil
            #expect(isNone, "bit \(bit)")
        }
        for length in 0..<row.count {
            let part = Array(row[..<length])
            let isNone = DeviceReport(part.span) == nil
            #expect(isNone, "\(length) bytes")
        }
    }

    @Test("Whatever the hub's clock does, no two are one, and what is done is not pending")
    func times() {
        var commands = DeviceCommands()
        commands.ask(.flush, at: 1_000)
        #expect(commands.askedAt(.flush) == 1_000 && commands.isPending(.flush) && !commands.isPending(.compact))
        // The clock was set back in between.
        commands.end(.flush, at: 5)
        #expect(commands.doneAt(.flush) == 1_000 && !commands.isPending(.flush))
        commands.ask(.flush, at: 10)
        #expect(commands.askedAt(.flush) == 1_001 && commands.isPending(.flush))
        commands.ask(.flush, at: 10)
        #expect(commands.askedAt(.flush) == 1_002)
        commands.end(.flush, at: 2_000)
        commands.ask(.flush, at: -5)
        #expect(commands.askedAt(.flush) == 2_001 && commands.isPending(.flush))
    }

    @Test("A row of which any bit is another is as none")
    func damage() {
        var commands = DeviceCommands()
        commands.ask(.report, at: 1_000)
        let row = commands.row
        for bit in 0..<row.count * 8 {
            var damaged = row
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(json(read(damaged)) == "{}", "bit \(bit)")
        }
    }

    @Test("Commands are known by their words")
    func words() {
        for command in DeviceCommand.allCases {
            let found = DeviceCommand(command.word.bytes)
            #expect(found == command)
        }
        for wrong in ["", "flus", "flushh", "Flush", "flush "] {
            let bytes = Array(wrong.utf8)
            let found = DeviceCommand(bytes.span)
            #expect(found == nil)
        }
    }
}
