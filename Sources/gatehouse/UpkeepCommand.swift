// `gatehouse audit`, `gatehouse store` and `gatehouse pepper`: what an operator does with the data of a device.

import Agent
import Formats
import Platform

enum AuditCommand {
    static let help = """
        gatehouse audit verify|show [--config F]

        verify holds every line of the audit log against its chain of hashes and finds any that was altered or removed
        (exit code 1). show prints the lines, one JSON object each. The agent may be running.

        """

    static func run(_ arguments: [String]) -> Int32 {
        guard let action = arguments.first, action == "verify" || action == "show" else {
            return UpkeepArguments.missing("audit needs verify or show", arguments, help)
        }
        var code: Int32 = 2
        guard let configuration = UpkeepArguments.configuration(Array(arguments.dropFirst()), help, &code) else { return code }
        let folder = configuration.data
        do throws(UpkeepError) {
            if action == "show" {
                try Upkeep.forEachAuditLine(folder: folder) { line in
                    Process.standardOutput(String(decoding: line, as: UTF8.self) + "\n")
                }
                return 0
            }
            let (isIntact, words) = try Upkeep.verifyAudit(
                folder: folder, pepper: configuration.pepperPath)
            if isIntact { Process.standardOutput(words + "\n") } else { Process.complain(words) }
            return isIntact ? 0 : 1
        } catch {
            Process.complain(error.message)
            return 3
        }
    }
}

enum StoreCommand {
    static let help = """
        gatehouse store check [BACKUP] [--config F]
        gatehouse store backup FILE|FOLDER [--config F]
        gatehouse store restore BACKUP [--config F]
        gatehouse store compact [--config F]
        gatehouse store merge FOLDER [--timers] [--config F]

        check looks at every page and row of the store or of a backup (exit code 1: damaged). backup copies the store as it is at
        one moment into a new file. The agent may run for both. Back up the pepper as well: without it nobody is recognised.

        Stop the agent for the rest.

        restore puts a backup in the place of the store, which stays beside it as aside.mdb. At its next start the agent takes
        over from that who has refused something or was erased since; then it is former.mdb, for a week, or until somebody is
        erased.

        compact writes the store anew, without anything that was deleted or overwritten, gives the disk space back, and
        removes the agent's own snapshots. A power cut in the middle leaves the old store as it was.

        merge takes over what the store in another device's data folder knows of people: identifiers and their links,
        attributes, choices; not its events. The other folder is only read and must have the same pepper. Doing it twice
        changes nothing more, and people who were erased here stay erased.

        --timers takes over what waits as well: triggers that have yet to fire, and who is in which announced audience. It
        is for a box that this one replaces. While both run, leave it out: each does what it has begun, and with --timers
        both would. What is due for longer than its grace does not fire any more.

        """

    private static let actions: [StaticString] = ["check", "backup", "restore", "compact", "merge"]

    static func run(_ arguments: [String]) -> Int32 {
        let action = arguments.first.map { Array($0.utf8) } ?? []
        guard let number = actions.firstIndex(where: { equal($0.bytes, action.span) }) else {
            return UpkeepArguments.missing("store needs check, backup, restore, compact or merge", arguments, help)
        }
        var rest: [String] = []
        var place = ""
        var withTimers = false
        for index in 1..<arguments.count {
            let argument = arguments[index]
            if index == 1, number != 3, argument.utf8.first != UInt8(ascii: "-") {
                place = argument
            } else if number == 4, argument == "--timers" {
                withTimers = true
            } else {
                rest.append(argument)
            }
        }
        if place.isEmpty, number != 0, number != 3 {
            return Command.misuse("store backup and restore need a file, merge the other device's data folder", help)
        }
        var code: Int32 = 2
        guard let configuration = UpkeepArguments.configuration(rest, help, &code) else { return code }
        do throws(UpkeepError) {
            Process.standardOutput(try run(number, place, withTimers, configuration))
            return 0
        } catch {
            Process.complain(error.message)
            return error.exitCode
        }
    }

    private static func run(
        _ number: Int, _ place: String, _ withTimers: Bool, _ configuration: Configuration
    ) throws(UpkeepError) -> String {
        let folder = configuration.data
        switch number {
        case 0:
            let entries = try Upkeep.check(folder: folder, backup: place.isEmpty ? nil : place)
            return joined("whole: ", String(entries), " entries\n")
        case 1:
            let (path, bytes) = try Upkeep.backup(folder: folder, to: place)
            return joined(path, ": ", String(bytes), " bytes\n")
        case 2:
            try Upkeep.restore(folder: folder, from: place)
            return "restored: start the agent\n"
        case 3:
            let (before, after) = try Upkeep.compact(folder: folder)
            return joined("compacted: ", String(before), " bytes before, ", joined(String(after), " after\n"))
        default:
            let (count, timers, taken) = try Upkeep.merge(place, withTimers: withTimers, into: configuration)
            let words = joined("merged: ", String(count), " identifiers looked at")
            if timers == 0 { return joined(words, "\n") }
            let ofTimers = joined(", ", String(taken), " of ", String(timers))
            return joined(words, ofTimers, " timers taken over", withTimers ? "\n" : " (see --timers in gatehouse help store)\n")
        }
    }
}

enum PepperCommand {
    static let help = """
        gatehouse pepper rotate [--config F]
        gatehouse pepper forget --yes [--config F]
        gatehouse pepper fingerprint [--config F]

        rotate makes a new secret for the hashes of identifiers, which the agent takes up when it is started again. For as
        long as pepper_rotation says (90d) people are found under the former one, too, and moved when they are seen; then
        who was not seen is forgotten, and the former secret deleted. Where somebody's refusal or erasure is known by it
        alone it is kept, and the agent's log says how many.

        forget ends that at once: these refusals and erasures are given up. Stop the agent first; it does it at its start.

        fingerprint prints what tells this pepper from others, for fleet: in the configuration of a hub.

        """

    static func run(_ arguments: [String]) -> Int32 {
        guard let action = arguments.first, action == "rotate" || action == "forget" || action == "fingerprint" else {
            return UpkeepArguments.missing("pepper needs rotate, forget or fingerprint", arguments, help)
        }
        var rest = Array(arguments.dropFirst())
        let isForgetting = action == "forget"
        if isForgetting {
            if rest.isEmpty || rest[0] != "--yes" { return Command.misuse("pepper forget gives up refusals: it needs --yes", help) }
            rest.removeFirst()
        }
        var code: Int32 = 2
        guard let configuration = UpkeepArguments.configuration(rest, help, &code) else { return code }
        do throws(UpkeepError) {
            if isForgetting {
                try Upkeep.forgetFormerPepper(configuration)
                Process.standardOutput("the former pepper will be forgotten when the agent is started\n")
            } else if action == "fingerprint" {
                Process.standardOutput(String(decoding: try Upkeep.fingerprint(configuration), as: UTF8.self) + "\n")
            } else {
                try Upkeep.rotatePepper(configuration)
                Process.standardOutput("there is a new pepper; start the agent again\n")
            }
            return 0
        } catch {
            Process.complain(error.message)
            return 3
        }
    }
}

enum UpkeepArguments {
    static func missing(_ words: String, _ arguments: [String], _ help: String) -> Int32 {
        if let first = arguments.first, first == "--help" {
            Process.standardOutput(help)
            return 0
        }
        return Command.misuse(words, help)
    }

    /// The configuration of `--config F`, or the default one; nil after saying what is wrong.
    static func configuration(_ arguments: [String], _ help: String, _ code: inout Int32) -> Configuration? {
        if arguments.count == 2, arguments[0] == "--config" { return read(arguments[1], &code) }
        if arguments.isEmpty { return Configuration() }
        code = Command.misuse("unknown argument ", help, about: arguments[0])
        return nil
    }

    /// Reads a configuration; nil after saying what is wrong, with the exit code for it.
    static func read(_ path: String, _ code: inout Int32) -> Configuration? {
        let text: [UInt8]
        do throws(SystemError) { text = try Files.read(path, limitBytes: Agent.Limits.configurationBytes) } catch {
            Process.complain(path, ": ", error.message)
            code = 3
            return nil
        }
        let (configuration, problems) = Configuration.read(text.span)
        if !CheckCommand.report(problems, path) { return configuration }
        code = 1
        return nil
    }
}
