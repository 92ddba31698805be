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
    /// Number of the line under way.
    private var line: UInt64 = 0
    private var changes = DecisionChanges()
    private let decisions: [[UInt8]]
    private var row = JSONWriter(reserving: 512)

    /// - Parameter decisions: keys of those that are told of; empty for all.
    public init(decisions: [[UInt8]]) { self.decisions = decisions }

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
    ///   - pepper: a file with a device's secret, so that people are drawn as they are there; nil for one that is nobody's.
    public func begin(_ bundles: [Bundle], pepper path: String?, grantsAll: Bool) throws(UpkeepError) {
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
        for key in decisions {
            var isKnown = false
            for bundle in bundles where bundle.policy.decisions.index(of: key.span) != nil { isKnown = true }
            if !isKnown {
                throw UpkeepError(joined("no decision is called ", String(decoding: key, as: UTF8.self)), exitCode: 1)
            }
        }
        for bundle in bundles {
            do throws(StoreError) {
                simulations.append(try Simulation(bundle, pepper: pepper, grantsAll: grantsAll, decisions: decisions))
            } catch {
                throw Replay.failure(error)
            }
        }
    }

    private static func failure(_ error: StoreError) -> UpkeepError {
        UpkeepError(joined("the simulation's store: ", error.message))
    }

    /// Plays the line that was read last.
    /// - Parameter show: is given each row.
    public func play(_ show: ([UInt8]) -> Void) throws(UpkeepError) {
        guard let list = batch else { return try play(document, document.root, show) }
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
                try play(whole, whole.root, show)
            } else {
                try play(document, node, show)
            }
        }
    }

    /// Plays one message to each bundle.
    private func play(_ document: JSONDocument, _ message: JSONNode, _ show: ([UInt8]) -> Void) throws(UpkeepError) {
        clock = max(clock, time(document, of: message))
        var isGroup = false
        if document.kind(message) == .object, let type = document.member(message, "type") {
            isGroup = document.equals(type, "group")
        }
        // The moment at which it was sent says how far a clock is off, by one that is not here.
        let event = Replay.copy(document, message, without: "sentAt", nil)
        let question = Replay.copy(document, message, without: "sentAt", isGroup ? "traits" : nil)
        var parsed = JSONDocument()
        do throws(JSONError) { try parsed.parse(event.span, maximumDepth: CollectionLimits.eventDepth) } catch { return }
        for simulation in simulations {
            do throws(StoreError) { try simulation.take(parsed, question: question, at: clock) } catch {
                throw Replay.failure(error)
            }
        }
        if simulations.count == 1 { tell(simulations[0], show) } else { tellChanges(simulations[0], simulations[1], show) }
    }

    /// A message without some of its members.
    private static func copy(
        _ document: borrowing JSONDocument, _ message: JSONNode, without first: StaticString, _ second: StaticString?
    ) -> [UInt8] {
        var copy = JSONWriter(reserving: 1024)
        if document.kind(message) != .object { return [UInt8](copying: document.source(message)) }
        copy.beginObject()
        document.forEachMember(message) { name, value in
            if document.equals(name, first) { return }
            if let second, document.equals(name, second) { return }
            copy.key(document.bytes(name))
            copy.value(document, value)
        }
        copy.endObject()
        return copy.bytes
    }

    // MARK: Rows

    private func beginRow(at time: [UInt8], _ person: [UInt8]) {
        row.clear()
        row.beginObject()
        row.key("line")
        row.uint(line)
        row.key("time")
        row.string(time)
        row.key("person")
        row.string(person)
    }

    private func endRow(_ show: ([UInt8]) -> Void) {
        row.endObject()
        show(row.bytes)
    }

    /// The rule that made a decision.
    private func writeRule(_ name: StaticString, _ document: borrowing JSONDocument, _ flag: JSONNode?) {
        row.key(name)
        if let flag, let metadata = document.member(flag, "metadata"), let rule = document.member(metadata, "rule") {
            row.value(document, rule)
        } else {
            row.null()
        }
    }

    private func writeValue(_ name: StaticString, _ document: borrowing JSONDocument, _ flag: JSONNode?) {
        guard let flag, let value = document.member(flag, "value") else { return }
        row.key(name)
        row.value(document, value)
    }

    private func tell(_ simulation: Simulation, _ show: ([UInt8]) -> Void) {
        tellHappenings(simulation, show)
        if !simulation.isAdmitted { return }
        let answers = simulation.answers
        guard let list = answers.member(answers.root, "flags") else { return }
        answers.forEachElement(list) { flag in
            guard let name = answers.member(flag, "key") else { return }
            let variant = DecisionChanges.name(answers, flag)
            changes.add(answers.bytes(name), variant, isSame: false)
            beginRow(at: Timestamp.write(clock), simulation.person)
            row.key("decision")
            row.value(answers, name)
            row.key("variant")
            row.string(variant)
            row.key("reason")
            if let reason = answers.member(flag, "reason") { row.value(answers, reason) } else { row.string("ERROR") }
            writeRule("rule", answers, flag)
            writeValue("value", answers, flag)
            endRow(show)
        }
    }

    private func tellHappenings(_ simulation: Simulation, _ show: ([UInt8]) -> Void) {
        for happening in simulation.happenings {
            beginRow(at: happening.time, happening.person)
            row.key("event")
            row.string(happening.event)
            row.key("name")
            row.string(happening.name)
            endRow(show)
        }
    }

    private func tellChanges(_ before: Simulation, _ after: Simulation, _ show: ([UInt8]) -> Void) {
        // The one that is not asked, because its bundle does not admit the event, has nothing to say.
        let nothing = JSONDocument()
        let (old, new) = (before.isAdmitted ? before.answers : nothing, after.isAdmitted ? after.answers : nothing)
        let person = before.isAdmitted ? before.person : after.person
        for decision in before.decisions.decisions {
            tellChange(decision.key, old, new, person, isInBoth: after.has(decision.key), show)
        }
        for decision in after.decisions.decisions where !before.has(decision.key) {
            tellChange(decision.key, old, new, person, isInBoth: false, show)
        }
    }

    private func tellChange(
        _ key: [UInt8], _ old: JSONDocument, _ new: JSONDocument, _ person: [UInt8], isInBoth: Bool,
        _ show: ([UInt8]) -> Void
    ) {
        let (flag, other) = (DecisionChanges.find(key.span, in: old), DecisionChanges.find(key.span, in: new))
        // Nobody was asked for it.
        if flag == nil, other == nil { return }
        // A decision that only one bundle has differs each time: the sum says so.
        if changes.compare(key.span, old, flag, new, other) || !isInBoth { return }
        beginRow(at: Timestamp.write(clock), person)
        row.key("decision")
        row.string(key)
        row.key("before")
        row.string(DecisionChanges.name(old, flag))
        row.key("after")
        row.string(DecisionChanges.name(new, other))
        writeRule("ruleBefore", old, flag)
        writeRule("ruleAfter", new, other)
        // What is called the same says nothing of what has changed.
        if DecisionChanges.name(old, flag) == DecisionChanges.name(new, other) {
            writeValue("valueBefore", old, flag)
            writeValue("valueAfter", new, other)
        }
        endRow(show)
    }

    // MARK: The end

    /// What is due when the last line has been played, and the last row: what became of the events, and of each decision how
    /// often it came to what.
    /// - Parameter show: is given each row but the last.
    public func end(badLines: UInt64, _ show: ([UInt8]) -> Void) throws(UpkeepError) -> [UInt8] {
        for simulation in simulations {
            do throws(StoreError) { try simulation.finish() } catch { throw Replay.failure(error) }
        }
        if simulations.count == 1 { tellHappenings(simulations[0], show) }
        row.clear()
        row.beginObject()
        row.key("badLines")
        row.uint(badLines)
        if simulations.count == 1 { simulations[0].writeAccounts(to: &row) }
        for (number, name) in (["before", "after"] as [StaticString]).enumerated() where simulations.count == 2 {
            row.key(name)
            row.beginObject()
            simulations[number].writeAccounts(to: &row)
            row.endObject()
        }
        row.key("decisions")
        row.beginObject()
        for decision in changes.rows {
            row.key(decision.key)
            row.beginObject()
            row.key("asked")
            row.uint(decision.same + decision.different)
            if simulations.count == 2 {
                row.key("different")
                row.uint(decision.different)
            }
            row.key(simulations.count == 2 ? "changes" : "variants")
            decision.changes.write(to: &row)
            row.endObject()
        }
        row.endObject()
        row.endObject()
        return row.bytes
    }
}
