// `gatehouse experiments`: what splits and holdouts have shown so far, out of the running agent.

import Formats
import Platform

enum ExperimentsCommand {
    static let help = """
        gatehouse experiments

        For each split and holdout of a decision with a `goal`: how many people were shown each arm, how many of them reached
        the goal in time, and how much better or worse than the control that is: the holdout, else the default variant, else
        the first. In brackets between which bounds it lies with 95 % probability, by a uniform prior. Who was shown several
        arms counts for none. The token needs the role operate.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, [], &code) else { return code }
        guard given.words.isEmpty else { return Command.misuse("experiments takes options only", help) }
        guard let agent = AgentClient(given, &code) else { return code }
        guard let (answer, _) = agent.ask("GET", Array("/v1/experiments".utf8), role: "operate") else {
            return agent.exitCode
        }
        if given.has(.json) {
            agent.show(answer, answer.root)
        } else {
            var page = Page(answer)
            page.tell()
            agent.write(page.text)
        }
        return agent.exitCode
    }
}

/// The answer as a person reads it.
private struct Page {
    private let answer: JSONDocument
    private(set) var text: [UInt8] = []

    init(_ answer: JSONDocument) { self.answer = answer }

    mutating func tell() {
        var next = answer.member(answer.root, "experiments").flatMap { answer.firstChild($0) }
        if next == nil { say("no decision of the bundle has a goal and a rule with a split or a holdout\n") }
        while let experiment = next {
            next = answer.next(experiment)
            tell(experiment)
            if next != nil { say("\n") }
        }
    }

    private mutating func tell(_ experiment: JSONNode) {
        value(experiment, "decision")
        say(", rule ")
        value(experiment, "ruleNumber")
        if let name = answer.member(experiment, "rule"), !answer.bytes(name).isEmpty {
            say(" ")
            value(experiment, "rule")
        }
        say("; goal: ")
        value(experiment, "goal")
        say(" within ")
        let seconds = Int64(number(experiment, "withinSeconds"))
        let unit: Int64 = seconds % 86_400 == 0 ? 86_400 : seconds % 3600 == 0 ? 3600 : 1
        appendInteger(seconds / unit, to: &text)
        say(unit == 1 ? " seconds; against " : unit == 3600 ? " hours; against " : " days; against ")
        value(experiment, "control")
        say("\n")
        var next = answer.member(experiment, "arms").flatMap { answer.firstChild($0) }
        while let arm = next {
            next = answer.next(arm)
            tell(arm: arm)
        }
        if number(experiment, "mixed") > 0 {
            say("  ")
            value(experiment, "mixed")
            say(" were shown several arms and count for none\n")
        }
        if let few = answer.member(experiment, "few"), answer.bool(few) == true {
            say("  few people or conversions yet: wait before you conclude anything from this\n")
        }
    }

    private mutating func tell(arm: JSONNode) {
        say("  ")
        let start = text.count
        value(arm, "arm")
        while text.count < start + 16 { text.append(0x20) }
        say(" ")
        value(arm, "conversions")
        say(" of ")
        value(arm, "people")
        say(" people")
        if answer.member(arm, "rate") != nil {
            say(", ")
            percent(number(arm, "rate"))
            say(" %")
        }
        bounds(arm, "rateLow", "rateHigh")
        if answer.member(arm, "lift") != nil {
            say(", lift ")
            percent(number(arm, "lift"), isSigned: true)
            say(" %")
            bounds(arm, "liftLow", "liftHigh", isSigned: true)
            say(", better with ")
            percent(number(arm, "probabilityBetter"))
            say(" %")
        }
        if answer.member(arm, "value") != nil {
            say(", value ")
            value(arm, "value")
            if answer.member(arm, "valuePerPerson") != nil {
                say(", ")
                value(arm, "valuePerPerson")
                say(" a person")
            }
        }
        if number(arm, "open") > 0 {
            say("; ")
            value(arm, "open")
            say(" have time left")
        }
        say("\n")
    }

    private mutating func say(_ words: StaticString) { text.append(contentsOf: words.bytes) }

    private mutating func value(_ object: JSONNode, _ name: StaticString) {
        if let node = answer.member(object, name) { PlainText.scalar(answer, node, to: &text) }
    }

    private func number(_ object: JSONNode, _ name: StaticString) -> Double {
        answer.member(object, name).flatMap { answer.double($0) } ?? 0
    }

    private mutating func bounds(_ arm: JSONNode, _ low: StaticString, _ high: StaticString, isSigned: Bool = false) {
        say(" (")
        percent(number(arm, low), isSigned: isSigned)
        say(" to ")
        percent(number(arm, high), isSigned: isSigned)
        say(")")
    }

    /// With one digit behind the point.
    private mutating func percent(_ share: Double, isSigned: Bool = false) {
        let tenths = Int64((min(share.magnitude, 1e9) * 1000).rounded())
        if share < 0, tenths > 0 { say("-") } else if isSigned { say("+") }
        appendInteger(tenths / 10, to: &text)
        say(".")
        appendInteger(tenths % 10, to: &text)
    }
}
