// `gatehouse audit` and `gatehouse store`: what an operator does with the data of a device.

import Agent
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
        guard let configuration = UpkeepArguments.configuration(Array(arguments.dropFirst()), help) else { return 2 }
        let folder = configuration.data
        do throws(UpkeepError) {
            if action == "show" {
                try Upkeep.forEachAuditLine(folder: folder) { line in
                    Process.standardOutput(String(decoding: line, as: UTF8.self) + "\n")
                }
                return 0
            }
            let (isIntact, words) = try Upkeep.verifyAudit(
                folder: folder, pepper: configuration.pepper ?? folder + "/pepper")
            if isIntact { Process.standardOutput(words + "\n") } else { Process.standardError("gatehouse: \(words)\n") }
            return isIntact ? 0 : 1
        } catch {
            Process.standardError("gatehouse: \(error.message)\n")
            return 3
        }
    }
}

enum StoreCommand {
    static let help = """
        gatehouse store compact [--config F]

        Writes the store anew, without anything that was deleted or overwritten, and gives the disk space back. Stop the
        agent first. A power cut in the middle leaves the old store as it was.

        """

    static func run(_ arguments: [String]) -> Int32 {
        guard let action = arguments.first, action == "compact" else {
            return UpkeepArguments.missing("store needs compact", arguments, help)
        }
        guard let configuration = UpkeepArguments.configuration(Array(arguments.dropFirst()), help) else { return 2 }
        do throws(UpkeepError) {
            let (before, after) = try Upkeep.compact(folder: configuration.data)
            Process.standardOutput("compacted: \(before) bytes before, \(after) after\n")
            return 0
        } catch {
            Process.standardError("gatehouse: \(error.message)\n")
            return 3
        }
    }
}

enum UpkeepArguments {
    static func missing(_ words: String, _ arguments: [String], _ help: String) -> Int32 {
        if arguments.first == "--help" {
            Process.standardOutput(help)
            return 0
        }
        return Command.misuse(words, help)
    }

    /// The configuration of `--config F`, or the default one; nil after saying what is wrong.
    static func configuration(_ arguments: [String], _ help: String) -> Configuration? {
        var configuration = Configuration()
        if arguments.count == 2, arguments[0] == "--config" {
            do throws(SystemError) {
                let text = try Files.read(arguments[1], limitBytes: 1 << 18)
                let (read, problems) = Configuration.read(text.span)
                if CheckCommand.report(problems, arguments[1]) { return nil }
                configuration = read
            } catch {
                Process.standardError("gatehouse: \(arguments[1]): \(error.message)\n")
                return nil
            }
        } else if !arguments.isEmpty {
            _ = Command.misuse("unknown argument \(arguments[0])", help)
            return nil
        }
        return configuration
    }
}
