// `gatehouse simulate`: recorded events through a bundle, or through two for what would change. Rows of JSON come from
// Agent's `Replay`; here they become lines that a person reads.

import Agent
import Collection
import Formats
import Platform

enum SimulateCommand {
    static let help = """
        gatehouse simulate --bundle F --events F [--against F] [--decisions A,B] [--grant-all] [--pepper F] [--json]

        Plays recorded events through a bundle, in memory and without any effect, and prints each decision for the event's
        person, with the event's context as the question's; triggers and announced audiences as they come due; and at the end
        what became of the events. The same bundle and events give the same output, byte for byte.

        --events    NDJSON: a message of the Segment API a line, or a batch of them; - reads standard input. Time is the
                    newest timestamp so far. An event without one has the time of the line before, the first 2000-01-01.
                    One that is more than 50 years after the first ends it.
        --against   prints only the decisions that F would make otherwise, and how many these are; not those that F has anew.
        --grant-all takes every purpose for granted that somebody has not chosen yet. Without it, nothing is.
        --pepper    the device's secret, which is only read: with it a split draws people as the device does, else by a
                    constant that is nobody's, and otherwise than there.
        --json      an object a line, the last with the sums.

        People are named by digits that hold for this run. age.bundle counts from the first event. Nothing is sent, and what
        is kept lies in $TMPDIR (else /dev/shm or /tmp), without a name, until the end. Exit code 1 when a line is no event;
        the others are played.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        let options: [AgentOption] = [.grantAll, .bundle, .against, .events, .decisions, .pepper]
        guard let given = AgentArguments(arguments, help, options, isAsking: false, &code) else { return code }
        guard given.words.isEmpty, let bundle = given[.bundle], let events = given[.events] else {
            return Command.misuse("simulate needs --bundle F and --events F", help)
        }
        // What the device would log of its own is not asked for.
        Log.setLevel(.error)
        var bundles = [bundle]
        if let other = given[.against] { bundles.append(other) }
        return play(events, bundles, given)
    }

    private static func play(_ events: String, _ bundles: [String], _ given: AgentArguments) -> Int32 {
        let replay = Replay()
        var code: Int32 = 0
        var (number, bad): (UInt64, UInt64) = (0, 0)
        do throws(SystemError) {
            let file = try Files.open(events)
            var lines = LineReader(file.raw, limit: CollectionLimits.batchBytes)
            while code == 0, try lines.advance() {
                number += 1
                if lines.line.isEmpty { continue }
                if !isGood(lines.line, number, events, replay) {
                    bad += 1
                    continue
                }
                if !replay.hasBegun { code = begin(replay, bundles, given) }
                if code == 0 { code = play(replay, badLines: nil) }
                if replay.output.bytes.count > 1 << 15 { show(replay, given.has(.json), isEnd: false) }
            }
        } catch {
            Process.complain(events, ": ", error.message)
            return 3
        }
        // A bundle is held to be good only once somebody has looked, also where there are no events.
        if code == 0, !replay.hasBegun { code = begin(replay, bundles, given) }
        if code != 0 { return code }
        code = play(replay, badLines: bad)
        show(replay, given.has(.json), isEnd: true)
        return code != 0 ? code : bad == 0 ? 0 : 1
    }

    /// Reads a line; says what is wrong with it.
    private static func isGood(_ line: [UInt8], _ number: UInt64, _ path: String, _ replay: Replay) -> Bool {
        var position = TextPosition(line: Int32(clamping: number), column: 1)
        var words = "a line must be a JSON object: a message of the Segment API, or a batch"
        do throws(JSONError) {
            if line.count > CollectionLimits.batchBytes {
                words = "a line may have 500 KiB"
            } else if try replay.read(line.span, line: number) {
                return true
            }
        } catch {
            position.column = error.position.column
            words = joined("this is not JSON: ", error.message)
        }
        CheckCommand.show(path, position, words)
        return false
    }

    /// Loads the bundles as of the first event.
    private static func begin(_ replay: Replay, _ paths: [String], _ given: AgentArguments) -> Int32 {
        var bundles: [Bundle] = []
        var isWrong = false
        for path in paths {
            let text: [UInt8]
            do throws(SystemError) { text = try Files.read(path, limitBytes: Limits.fileBytes) } catch {
                Process.complain(path, ": ", error.message)
                return 3
            }
            let (bundle, problems) = Bundle.read(text.span, loadedAt: replay.time)
            if CheckCommand.report(problems, path) { isWrong = true }
            if let bundle { bundles.append(bundle) }
        }
        if isWrong || bundles.count < paths.count { return 1 }
        do throws(UpkeepError) {
            try replay.begin(
                bundles, decisions: Array((given[.decisions] ?? "").utf8), pepper: given[.pepper],
                grantsAll: given.has(.grantAll))
            return 0
        } catch {
            Process.complain(error.message)
            return error.exitCode
        }
    }

    /// Plays the line that was read, or what is left at the end.
    private static func play(_ replay: Replay, badLines: UInt64?) -> Int32 {
        do throws(UpkeepError) {
            if let badLines { try replay.end(badLines: badLines) } else { try replay.play() }
            return 0
        } catch {
            Process.complain(error.message)
            return error.exitCode
        }
    }

    // MARK: Rows

    /// Prints the rows that there are; at the end the last is that of the sums.
    private static func show(_ replay: Replay, _ isJSON: Bool, isEnd: Bool) {
        let rows = replay.output.bytes
        replay.output.clear()
        if isJSON {
            try? writeAll(1, rows.span)
            return
        }
        var output: [UInt8] = []
        var document = JSONDocument()
        var start = 0
        while let end = rows[start...].firstIndex(of: 0x0A) {
            do throws(JSONError) { try document.parse(rows.span.extracting(start..<end)) } catch { return }
            start = end + 1
            if isEnd, start == rows.count {
                PlainText.append(document, document.root, to: &output)
            } else {
                appendRow(document, to: &output)
            }
        }
        try? writeAll(1, output.span)
    }

    private static func appendRow(_ document: borrowing JSONDocument, to output: inout [UInt8]) {
        var key = document.firstChild(document.root)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            // The variant tells it.
            if document.equals(name, "value") { continue }
            if document.equals(name, "after") { output.append(contentsOf: ("→ " as StaticString).bytes) }
            let start = output.count
            PlainText.scalar(document, value, to: &output)
            let width = document.equals(name, "decision") ? 20 : document.equals(name, "reason") ? 15 : 6
            repeat { output.append(0x20) } while output.count - start <= width
        }
        while output.last == 0x20 { output.removeLast() }
        output.append(0x0A)
    }
}
