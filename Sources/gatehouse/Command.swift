// Subcommands and their arguments. What they do is done by the rooms below.

import Agent
import Formats
import Platform

enum Command {
    static let usage = """
        gatehouse: customer data at the edge, on one small device

          gatehouse run      [--config F]            start the agent
          gatehouse hub      [--config F]            start a hub that agents deliver to
          gatehouse check    F…                      validate device configurations and bundles
          gatehouse eval     EXPR [--with JSON|@F]   evaluate one CEL expression; --batch reads NDJSON
          gatehouse simulate --bundle F --events F   play recorded events through a bundle, or against another
          gatehouse bundle   sign|verify|diff        signed bundles, and what is new in one
          gatehouse validate --schema F [EVENT|-]    hold an event against a JSON Schema; --batch reads NDJSON
          gatehouse hash     KIND VALUE              normalise and hash one identifier (--bundle F for its kinds)
          gatehouse status   [--watch]               the running agent at a glance
          gatehouse doctor                           what is wrong with a device, and what to do
          gatehouse profile  show|export|erase REF   a person's record; REF is a profile id or kind:value
          gatehouse trace    REF                     follow one person's events through all stages
          gatehouse explain  ID                      what a decision came to, and why
          gatehouse experiments                      what splits and holdouts have shown, by each decision's goal
          gatehouse quarantine list|show|release|delete   events that break the tracking plan
          gatehouse erasures [RECEIPT]               how far erasures are
          gatehouse audit    verify|show             hold the audit log against its chain, or print it
          gatehouse store    check|compact|backup|restore   look at the store, write it anew, copy it, put a copy back
          gatehouse pepper   rotate|forget           another secret for the hashes of identifiers
          gatehouse version
          gatehouse help     [COMMAND]

        Exit codes: 0 done, 1 the input is wrong, 2 the command line is wrong, 3 the device or network failed.

        """

    static func run(_ arguments: [String]) -> Int32 {
        guard arguments.count > 1 else {
            Process.standardError(usage)
            return 2
        }
        let rest = Array(arguments[2...])
        switch arguments[1] {
        case "run": return RunCommand.run(rest, isHub: false)
        case "hub": return RunCommand.run(rest, isHub: true)
        case "check": return CheckCommand.run(rest)
        case "eval": return EvalCommand.run(rest)
        case "simulate": return SimulateCommand.run(rest)
        case "bundle": return BundleCommand.run(rest)
        case "validate": return ValidateCommand.run(rest)
        case "hash": return HashCommand.run(rest)
        case "status": return StatusCommand.run(rest)
        case "doctor": return DoctorCommand.run(rest)
        case "trace": return TraceCommand.run(rest)
        case "profile": return ProfileCommand.run(rest)
        case "explain": return ExplainCommand.run(rest)
        case "experiments": return ExperimentsCommand.run(rest)
        case "quarantine": return QuarantineCommand.run(rest)
        case "erasures": return ErasuresCommand.run(rest)
        case "audit": return AuditCommand.run(rest)
        case "store": return StoreCommand.run(rest)
        case "pepper": return PepperCommand.run(rest)
        case "version", "--version":
            Process.standardOutput("gatehouse \(Runtime.version)\n")
            return 0
        case "help", "--help", "-h": return help(rest)
        default:
            Process.complain("there is no command ", arguments[1], "; gatehouse help lists them")
            return 2
        }
    }

    private static func help(_ arguments: [String]) -> Int32 {
        guard let topic = arguments.first else {
            Process.standardOutput(usage)
            return 0
        }
        let topics: [(String, String)] = [
            ("run", RunCommand.help), ("hub", RunCommand.hubHelp), ("check", CheckCommand.help), ("eval", EvalCommand.help),
            ("simulate", SimulateCommand.help), ("bundle", BundleCommand.help),
            ("validate", ValidateCommand.help), ("hash", HashCommand.help),
            ("audit", AuditCommand.help), ("explain", ExplainCommand.help), ("store", StoreCommand.help),
            ("pepper", PepperCommand.help), ("status", StatusCommand.help + AgentArguments.help),
            ("doctor", DoctorCommand.help + AgentArguments.help),
            ("trace", TraceCommand.help + AgentArguments.help),
            ("profile", ProfileCommand.help + AgentArguments.help),
            ("quarantine", QuarantineCommand.help + AgentArguments.help),
            ("experiments", ExperimentsCommand.help + AgentArguments.help),
            ("erasures", ErasuresCommand.help + AgentArguments.help),
        ]
        for (name, text) in topics where name == topic {
            Process.standardOutput(text)
            return 0
        }
        Process.complain("there is no help on ", topic)
        return 2
    }

    /// Reports a wrong command line.
    static func misuse(_ words: String, _ help: String, about detail: String = "") -> Int32 {
        Process.complain(words, detail)
        Process.standardError(joined("\n", help))
        return 2
    }
}

enum RunCommand {
    static let help = """
        gatehouse run [--config F]

        Starts the agent. Without a configuration it listens on 127.0.0.1:8470 and keeps its data in ./gatehouse-data.
        SIGHUP looks for another bundle; SIGTERM and SIGINT end it in order.

        """
    static let hubHelp = """
        gatehouse hub [--config F]

        Starts a hub: it takes batches from agents and other hubs at POST /v1/batch, keeps each message once, and delivers
        it to the destinations of its own bundle, if it has any. It lists what has arrived at GET /v1/arrivals and who
        delivers at GET /v1/devices. Give it a certificate: tls: { cert: F, key: F }.

        """

    static func run(_ arguments: [String], isHub: Bool) -> Int32 {
        var path: String?
        var index = 0
        while index < arguments.count {
            if arguments[index] == "--config", index + 1 < arguments.count {
                path = arguments[index + 1]
                index += 2
            } else if arguments[index] == "--help" {
                Process.standardOutput(isHub ? hubHelp : help)
                return 0
            } else {
                return Command.misuse("unknown argument ", isHub ? hubHelp : help, about: arguments[index])
            }
        }
        Process.prepare()
        var configuration = Configuration()
        if let path {
            var code: Int32 = 0
            guard let read = UpkeepArguments.read(path, &code) else { return code }
            configuration = read
        }
        Log.setLevel(configuration.logLevel)
        do throws(StartError) {
            try Runtime.run(configuration, isHub: isHub)
            return 0
        } catch {
            Process.complain(error.message)
            return error.exitCode
        }
    }
}

enum CheckCommand {
    static let help = """
        gatehouse check F…

        Validates device configurations and bundles, whichever each file is, and prints what is wrong as
        file:line:column: message. Exit code 1 when something is.

        """

    static func run(_ arguments: [String]) -> Int32 {
        if arguments.isEmpty { return Command.misuse("check needs a file", help) }
        var isWrong = false
        for path in arguments {
            if path == "--help" {
                Process.standardOutput(help)
                return 0
            }
            let text: [UInt8]
            do throws(SystemError) { text = try Files.read(path, limitBytes: Limits.fileBytes) } catch {
                Process.complain(path, ": ", error.message)
                return 3
            }
            if report(problems(text.span), path) { isWrong = true }
        }
        return isWrong ? 1 : 0
    }

    /// A bundle is known by its sections; anything else is held to be a configuration.
    private static func problems(_ text: Span<UInt8>) -> [PlanProblem] {
        do throws(YAMLError) {
            let document = try YAML.parse(text)
            let sections: [StaticString] = [
                "version", "purposes", "consent", "identifiers", "events", "tables", "attributes", "scores", "audiences",
                "decisions", "profiles", "destinations",
            ]
            var isBundle = false
            if document.kind(document.root) == .object {
                for section in sections where document.member(document.root, section) != nil { isBundle = true }
            }
            return isBundle ? Bundle.read(text, loadedAt: 0).1 : Configuration.read(text).1
        } catch {
            return [PlanProblem(position: error.position, message: error.message)]
        }
    }

    /// Prints what is wrong where: `file:line:column: message`.
    static func show(_ path: String, _ position: TextPosition, _ message: String, isWarning: Bool = false) {
        Process.standardError(joined(path, ":", position.description, joined(isWarning ? ": warning: " : ": ", message, "\n")))
    }

    /// Prints problems.
    /// - Returns: whether any of them is more than a warning.
    static func report(_ problems: [PlanProblem], _ path: String) -> Bool {
        var isWrong = false
        for problem in problems {
            show(path, problem.position, problem.message, isWarning: problem.isWarning)
            if !problem.isWarning { isWrong = true }
        }
        return isWrong
    }
}
