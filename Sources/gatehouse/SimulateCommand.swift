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
        --against   prints only the decisions that F would make otherwise, and how many these are, before and after.
        --grant-all takes every purpose for granted that somebody has not chosen yet. Without it, nothing is.
        --pepper    the device's secret, which is only read: with it a split draws people as the device does, else by a
                    constant that is nobody's, and otherwise than there.
        --json      an object a line, the last with the sums.

        People are named by digits that hold for this run. age.bundle counts from the first event. Nothing is sent, and what
        is kept lies in $TMPDIR, /dev/shm or /tmp, without a name, until the end. Exit code 1 when a line is no event; the
        others are played.

        """

    private struct Options {
        var bundle: String?
        var other: String?
        var events: String?
        var pepper: String?
        var decisions: [[UInt8]] = []
        var grantsAll = false
        var isJSON = false
    }

    static func run(_ arguments: [String]) -> Int32 {
        var options = Options()
        var index = 0
        while index < arguments.count {
            let value = index + 1 < arguments.count ? arguments[index + 1] : nil
            var isFlag = false
            switch arguments[index] {
            case "--help":
                Process.standardOutput(help)
                return 0
            case "--grant-all": (options.grantsAll, isFlag) = (true, true)
            case "--json": (options.isJSON, isFlag) = (true, true)
            case "--bundle": options.bundle = value
            case "--against": options.other = value
            case "--events": options.events = value
            case "--pepper": options.pepper = value
            case "--decisions": options.decisions = split(value ?? "")
            default: return Command.misuse("unknown argument ", help, about: arguments[index])
            }
            if !isFlag, value == nil { return Command.misuse("this needs a value: ", help, about: arguments[index]) }
            index += isFlag ? 1 : 2
        }
        guard let bundle = options.bundle, let events = options.events else {
            return Command.misuse("simulate needs --bundle F and --events F", help)
        }
        // What the device would log of its own is not asked for.
        Log.setLevel(.error)
        return play(events, options.other.map { [bundle, $0] } ?? [bundle], options)
    }

    private static func split(_ list: String) -> [[UInt8]] {
        var names: [[UInt8]] = [[]]
        for byte in list.utf8 {
            if byte == UInt8(ascii: ",") { names.append([]) } else { names[names.count - 1].append(byte) }
        }
        return names
    }

    private static func play(_ events: String, _ bundles: [String], _ options: Options) -> Int32 {
        let replay = Replay(decisions: options.decisions)
        var code: Int32 = 0
        var (number, bad): (UInt64, UInt64) = (0, 0)
        var output: [UInt8] = []
        do throws(SystemError) {
            let file = try Files.open(events)
            try BatchLines.forEach(of: file.raw, limit: CollectionLimits.batchBytes) { line in
                number += 1
                if line.isEmpty { return true }
                guard isGood(line, number, events, replay) else {
                    bad += 1
                    return true
                }
                if !replay.hasBegun { code = begin(replay, bundles, options) }
                if code == 0 { code = play(replay, options.isJSON, &output) }
                return code == 0
            }
        } catch {
            Process.complain(events, ": ", error.message)
            return 3
        }
        // A bundle is held to be good only once somebody has looked, also where there are no events.
        if code == 0, !replay.hasBegun { code = begin(replay, bundles, options) }
        if code != 0 { return code }
        do throws(UpkeepError) {
            let sums = try replay.end(badLines: bad) { row in show(row, options.isJSON, isEnd: false, &output) }
            show(sums, options.isJSON, isEnd: true, &output)
        } catch {
            Process.complain(error.message)
            return error.exitCode
        }
        flush(&output, least: 0)
        return bad == 0 ? 0 : 1
    }

    /// Reads a line; says what is wrong with it.
    private static func isGood(_ line: Span<UInt8>, _ number: UInt64, _ path: String, _ replay: Replay) -> Bool {
        var position = TextPosition(line: Int32(clamping: number), column: 1)
        if line.count > CollectionLimits.batchBytes {
            CheckCommand.show(path, position, "a line may have 500 KiB")
            return false
        }
        do throws(JSONError) {
            if try replay.read(line, line: number) { return true }
            CheckCommand.show(path, position, "a line must be a JSON object: a message of the Segment API, or a batch")
        } catch {
            position.column = error.position.column
            CheckCommand.show(path, position, joined("this is not JSON: ", error.message))
        }
        return false
    }

    /// Loads the bundles as of the first event.
    private static func begin(_ replay: Replay, _ paths: [String], _ options: Options) -> Int32 {
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
            try replay.begin(bundles, pepper: options.pepper, grantsAll: options.grantsAll)
            return 0
        } catch {
            Process.complain(error.message)
            return error.exitCode
        }
    }

    private static func play(_ replay: Replay, _ isJSON: Bool, _ output: inout [UInt8]) -> Int32 {
        do throws(UpkeepError) {
            try replay.play { row in show(row, isJSON, isEnd: false, &output) }
        } catch {
            Process.complain(error.message)
            return error.exitCode
        }
        flush(&output, least: 1 << 15)
        return 0
    }

    // MARK: Rows

    private static func flush(_ output: inout [UInt8], least: Int) {
        if output.count < least { return }
        try? writeAll(1, output.span)
        output.removeAll(keepingCapacity: true)
    }

    private static func show(_ row: [UInt8], _ isJSON: Bool, isEnd: Bool, _ output: inout [UInt8]) {
        if isJSON {
            output.append(contentsOf: row.span)
            output.append(0x0A)
            return
        }
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(row.span) } catch { return }
        if isEnd { return PlainText.append(document, document.root, to: &output) }
        document.forEachMember(document.root) { name, value in
            // The variant tells it, unless it is the value that has changed.
            if document.equals(name, "value") { return }
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
