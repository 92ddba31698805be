// Plays recorded events to one bundle, or to two for what would change, and tells what comes of it as rows of JSON: one
// for each decision, trigger and audience, and one for everything at the end. Time is that of the events. What the rows
// look like to a person, and where lines and bundles come from, is not known here.

import Activation
import Collection
import Cryptography
import Formats
import Monitoring
import Platform
import Store
import Unification

public final class Replay {
    /// When an event without a time happened if none before it had one: 2000-01-01T00:00:00Z.
    public static let beginning: Int64 = 946_684_800_000

    /// The bundle under test; before it, where there are two, the one that it is held against.
    private var simulations: [Simulation] = []
    private var document = JSONDocument()
    private var joiner = OuterMembersJoiner()
    /// The time of the newest event, milliseconds since the epoch: no device hears of anything before it happens.
    private var clock = beginning
    /// The same of the first event.
    private var first = beginning
    /// Number of the line under way.
    private var line: UInt64 = 0
    private var changes = DecisionChanges()
    /// Rows, a line each, for whoever takes them and empties it.
    public var output = JSONWriter(reserving: 4096)

    public init() {}

    public var hasBegun: Bool { !simulations.isEmpty }

    /// Reads a line: a message of the Segment API, or a batch of them.
    /// - Returns: false for JSON that is no object.
    public func read(_ text: Span<UInt8>, line number: UInt64) throws(JSONError) -> Bool {
        line = number
        try document.parse(text, maximumDepth: CollectionLimits.eventDepth, maximumValues: CollectionLimits.bodyValues)
        return document.kind(document.root) == .object
    }

    /// When the first event of the line happened.
    public var time: Int64 {
        let document = self.document
        if let list = batch, let first = document.firstChild(list) { return time(document, of: first) }
        return time(document, of: document.root)
    }

    private var batch: JSONNode? {
        guard let list = document.member(document.root, "batch"), document.kind(list) == .array else { return nil }
        return list
    }

    private func time(_ document: borrowing JSONDocument, of message: JSONNode) -> Int64 {
        if document.kind(message) != .object { return clock }
        for name: StaticString in ["timestamp", "originalTimestamp"] {
            guard let node = document.member(message, name), document.kind(node) == .string else { continue }
            if let time = EventTime.parse(document.bytes(node)) { return time }
        }
        return clock
    }

    /// Puts the bundles to the test.
    /// - Parameters:
    ///   - bundles: one; or two, the one to be held against first. Loaded at `time`.
    ///   - decisions: the key of the only decision that is asked for, or keys with commas between them; empty for all.
    ///   - pepper: a file with a device's secret, so that people are drawn as they are there; nil for one that is nobody's.
    public func begin(
        _ bundles: [Bundle], decisions: [UInt8], pepper path: String?, grantsAll: Bool
    ) throws(UpkeepError) {
        var pepper = Peppers(key: [UInt8](repeating: 0, count: Limits.pepperBytes))
        if let path {
            // A simulation begins with nobody: there is nothing to be found under a former pepper.
            do throws(PepperError) {
                let device = try Pepper.read(path)
                pepper = Peppers(present: device.present, former: nil, root: device.root)
            } catch {
                throw UpkeepError(error)
            }
        }
        let place = try Replay.place()
        first = max(clock, time)
        for bundle in bundles {
            do throws(StoreError) {
                simulations.append(
                    try Simulation(bundle, pepper: pepper, grantsAll: grantsAll, decisions: decisions, in: place))
            } catch {
                throw Replay.failure(error)
            }
            if !decisions.isEmpty, simulations[simulations.count - 1].asked.isEmpty {
                throw UpkeepError("a bundle has none of the decisions of --decisions", exitCode: 1)
            }
        }
    }

    /// Where the stores are made.
    private static func place() throws(UpkeepError) -> String {
        let named = Process.environment("TMPDIR") ?? ""
        if named.utf8.isEmpty { return Files.isFolder("/dev/shm") ? "/dev/shm" : "/tmp" }
        if Files.isFolder(named) { return named }
        throw UpkeepError(joined("TMPDIR is ", named, ", and there is no such folder: make it, or set TMPDIR to another"))
    }

    private static func failure(_ error: StoreError) -> UpkeepError {
        UpkeepError(joined("the simulation's store: ", error.message))
    }

    /// Plays the line that was read last.
    public func play() throws(UpkeepError) {
        guard let list = batch else { return try play(document, document.root) }
        let (document, outer) = (self.document, OuterMembers(document, batch: document.root))
        var message = document.firstChild(list)
        while let node = message {
            message = document.next(node)
            var isJoined = false
            // What is too large with the batch's members is taken without.
            do throws(EventRefusal) {
                if !outer.isEmpty { isJoined = try joiner.join(document, node, outer) }
            } catch {}
            if isJoined {
                let whole = joiner.document
                try play(whole, whole.root)
            } else {
                try play(document, node)
            }
        }
    }

    /// Plays one message to each bundle.
    private func play(_ document: JSONDocument, _ message: JSONNode) throws(UpkeepError) {
        clock = max(clock, time(document, of: message))
        if clock - first > Limits.simulatedMilliseconds {
            throw UpkeepError(
                "line \(line): this event is more than 50 years after the first, which is more than a simulation plays; "
                    + "correct its timestamp, or play it by itself", exitCode: 1)
        }
        var isGroup = false
        if document.kind(message) == .object, let type = document.member(message, "type") {
            isGroup = document.equals(type, "group")
        }
        // The moment at which it was sent says how far a clock is off, by one that is not here.
        let event = Replay.copy(document, message, without: "sentAt", "sentAt")
        // What a group is said to be is nobody's.
        let question = isGroup ? Replay.copy(document, message, without: "sentAt", "traits") : event
        var parsed = JSONDocument()
        do throws(JSONError) { try parsed.parse(event.span, maximumDepth: CollectionLimits.eventDepth) } catch { return }
        for simulation in simulations {
            do throws(StoreError) { try simulation.take(parsed, question: question, at: clock) } catch {
                throw Replay.failure(error)
            }
        }
        if simulations.count == 1 { tell(simulations[0]) } else { tellChanges(simulations[0], simulations[1]) }
    }

    /// A message without some of its members.
    private static func copy(
        _ document: borrowing JSONDocument, _ message: JSONNode, without first: StaticString, _ second: StaticString
    ) -> [UInt8] {
        var copy = JSONWriter(reserving: 1024)
        if document.kind(message) != .object { return [UInt8](copying: document.source(message)) }
        copy.beginObject()
        document.forEachMember(message) { name, value in
            if document.equals(name, first) || document.equals(name, second) { return }
            copy.key(document.bytes(name))
            copy.value(document, value)
        }
        copy.endObject()
        return copy.bytes
    }

    // MARK: Rows

    @inline(never)
    private func beginRow(at time: [UInt8], _ person: [UInt8]) {
        output.beginObject()
        output.key("line")
        output.uint(line)
        output.key("time")
        output.string(time)
        output.key("person")
        output.string(person)
    }

    /// The rule that made a decision.
    @inline(never)
    private func writeRule(_ name: StaticString, _ document: borrowing JSONDocument, _ flag: JSONNode?) {
        output.key(name)
        if let flag, let metadata = document.member(flag, "metadata"), let rule = document.member(metadata, "rule") {
            output.value(document, rule)
        } else {
            output.null()
        }
    }

    @inline(never)
    private func writeValue(_ name: StaticString, _ document: borrowing JSONDocument, _ flag: JSONNode?) {
        guard let flag, let value = document.member(flag, "value") else { return }
        output.key(name)
        output.value(document, value)
    }

    private func tell(_ simulation: Simulation) {
        tellHappenings(simulation)
        if !simulation.isAdmitted { return }
        let answers = simulation.answers
        guard let list = answers.member(answers.root, "flags") else { return }
        answers.forEachElement(list) { flag in
            guard let name = answers.member(flag, "key") else { return }
            let variant = DecisionChanges.name(answers, flag)
            changes.add(answers.bytes(name), variant, isSame: false)
            beginRow(at: Timestamp.write(clock), simulation.person)
            output.key("decision")
            output.value(answers, name)
            output.key("variant")
            output.string(variant)
            output.key("reason")
            if let reason = answers.member(flag, "reason") { output.value(answers, reason) } else { output.string("ERROR") }
            writeRule("rule", answers, flag)
            writeValue("value", answers, flag)
            output.endObject()
            output.newline()
        }
    }

    @inline(never)
    private func tellHappenings(_ simulation: Simulation) {
        for happening in simulation.happenings {
            beginRow(at: happening.time, happening.person)
            output.key("event")
            output.string(happening.event)
            output.key("name")
            output.string(happening.name)
            output.endObject()
            output.newline()
        }
    }

    /// The one that is not asked, because its bundle does not admit the event, has nothing to say.
    private func tellChanges(_ before: Simulation, _ after: Simulation) {
        if !before.isAdmitted, !after.isAdmitted { return }
        let (first, second) = before.isAdmitted ? (before, after) : (after, before)
        let (mine, theirs) = (first.answers, second.isAdmitted ? second.answers : JSONDocument())
        changes.compare(mine, theirs, isReversed: !before.isAdmitted)
        for (flag, other) in changes.differing {
            guard let key = mine.member(flag, "key") else { continue }
            beginRow(at: Timestamp.write(clock), first.person)
            output.key("decision")
            output.value(mine, key)
            if before.isAdmitted {
                writeServed(["before", "ruleBefore", "valueBefore"], mine, flag)
                writeServed(["after", "ruleAfter", "valueAfter"], theirs, other)
            } else {
                writeServed(["before", "ruleBefore", "valueBefore"], theirs, other)
                writeServed(["after", "ruleAfter", "valueAfter"], mine, flag)
            }
            output.endObject()
            output.newline()
        }
    }

    @inline(never)
    private func writeServed(_ names: [StaticString], _ document: JSONDocument, _ flag: JSONNode?) {
        output.key(names[0])
        output.string(DecisionChanges.name(document, flag))
        writeRule(names[1], document, flag)
        writeValue(names[2], document, flag)
    }

    // MARK: The end

    /// What is due when the last line has been played, and the last row: what became of the events, and of each decision how
    /// often it came to what.
    public func end(badLines: UInt64) throws(UpkeepError) {
        for simulation in simulations {
            do throws(StoreError) { try simulation.finish() } catch { throw Replay.failure(error) }
        }
        if simulations.count == 1 { tellHappenings(simulations[0]) }
        output.beginObject()
        output.key("badLines")
        output.uint(badLines)
        if simulations.count == 1 { simulations[0].writeAccounts(to: &output) }
        for (number, name) in (["before", "after"] as [StaticString]).enumerated() where simulations.count == 2 {
            output.key(name)
            output.beginObject()
            simulations[number].writeAccounts(to: &output)
            output.endObject()
        }
        output.key("decisions")
        output.beginObject()
        for decision in changes.rows {
            output.key(decision.key)
            output.beginObject()
            output.key("asked")
            output.uint(decision.same + decision.different)
            if simulations.count == 2 {
                output.key("different")
                output.uint(decision.different)
            }
            output.key(simulations.count == 2 ? "changes" : "variants")
            decision.changes.write(to: &output)
            output.endObject()
        }
        output.endObject()
        output.endObject()
        output.newline()
    }
}
