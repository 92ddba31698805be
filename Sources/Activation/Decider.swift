// Answers questions: who is asked about, what is known and allowed, which rule matches. Works on one snapshot of the
// store and on memory that it keeps; it never waits and, once warm, does not allocate for rules over numbers, text and
// sets. The answers are OpenFeature's Remote Evaluation Protocol (OFREP 0.2, `service/openapi.yaml`).

import CEL
import Cryptography
import Formats
import Governance
import Monitoring
import Platform
import Store
import Unification

/// Why an evaluation has no value (OFREP `errorCode`).
enum QuestionError: Error {
    case parse(JSONError)
    case invalidContext(StaticString)
    case tooManyIdentifiers
    case tooLarge

    var code: StaticString {
        switch self {
        case .parse: "PARSE_ERROR"
        case .invalidContext, .tooManyIdentifiers, .tooLarge: "INVALID_CONTEXT"
        }
    }

    var status: UInt16 {
        switch self {
        case .tooLarge: 413
        default: 400
        }
    }
}

/// Decides for one thread.
public struct Decider: ~Copyable {
    private let meters: Meters
    private let pepper: HMACSHA256
    private var question = JSONDocument()
    private var finder = IdentifierFinder()
    private var index = ProfileIndex()
    private let surroundings: Surroundings
    private var evaluator = Evaluator(zones: TimeZones { Files.timeZone($0) })
    private var audienceCount = -1
    private var memo = AnswerMemo()
    private var lastID: DecisionID
    private var scratch: [UInt8] = []
    /// See `answerAll`.
    public private(set) var lastingBytes = 0
    /// What is to be written into the log of the answers so far; whoever takes it empties it.
    public var records: [DecisionRecord] = []
    /// Whether it only looks: what it answers is served to nobody, and leaves nothing.
    private let isObserver: Bool
    /// Where the last answer was counted for a cap, if it was; an observer is told, and does not count it.
    public var servePlace: Int?
    /// Those before belong to earlier answers.
    private var firstRecord = 0
    private let serves: ServeCounts
    /// What hashes of questions begin with: without the device's secret nobody can tell what was asked.
    private let inputSeed: UInt64
    // Of the answer under way.
    private var person: ProfileID?
    private var inputs: UInt32 = 0
    private var isBulk = false

    /// - Parameters:
    ///   - device: the device's name, `device.id` in rules.
    ///   - number: of this decider among those of the device, 0…15: no two of them give the same id.
    ///   - serves: shared by all deciders of the device.
    ///   - isObserver: nothing of what it answers is counted or kept.
    @inline(never)
    public init(
        device: [UInt8], number: Int = 0, pepper: HMACSHA256, meters: Meters, serves: ServeCounts = ServeCounts(),
        isObserver: Bool = false
    ) {
        self.isObserver = isObserver
        self.meters = meters
        self.serves = serves
        let digest = pepper.authenticate(("inputs of decisions" as StaticString).bytes)
        inputSeed = UInt64(digest[0]) << 24 | UInt64(digest[1]) << 16 | UInt64(digest[2]) << 8 | UInt64(digest[3])
        lastID = DecisionID(decider: number)
        self.pepper = pepper
        surroundings = Surroundings(now: 0)
        surroundings.device = [device]
    }

    /// Answers one question: `POST /ofrep/v1/evaluate/flags/{key}`.
    /// - Parameters:
    ///   - body: `{"context": {"targetingKey": …, …}}`.
    ///   - now: milliseconds since the epoch.
    ///   - reader: a snapshot that has begun.
    ///   - writer: takes the JSON of the answer or the error.
    /// - Returns: the HTTP status.
    public mutating func answer(
        _ policy: Policy, _ key: Span<UInt8>, _ body: Span<UInt8>, now: Int64, _ reader: borrowing Reader,
        into writer: inout JSONWriter
    ) -> UInt16 {
        guard let number = policy.decisions.index(of: key) else {
            meters.decisionErrors.add()
            writeError(key, "FLAG_NOT_FOUND", "no decision of this bundle has this key", &writer)
            return 404
        }
        do throws(QuestionError) {
            try read(body, policy)
        } catch {
            meters.decisionErrors.add()
            writeQuestionError(key, error, &writer)
            return error.status
        }
        isBulk = false
        let hasAnswer = decide(policy, number..<number + 1, now, reader, inList: false, &writer)
        if !hasAnswer { return 400 }
        // Behind what the answer's metadata says already.
        writer.bytes.removeLast(2)
        writeCircumstances(to: &writer)
        writer.endObject()
        return 200
    }

    /// Answers all at once: `POST /ofrep/v1/evaluate/flags`.
    ///
    /// The first `lastingBytes` of the answer are the same as long as the flags are; what follows is about this answer only.
    public mutating func answerAll(
        _ policy: Policy, _ body: Span<UInt8>, now: Int64, _ reader: borrowing Reader, into writer: inout JSONWriter
    ) -> UInt16 {
        do throws(QuestionError) {
            try read(body, policy)
        } catch {
            meters.decisionErrors.add()
            writeQuestionError(nil, error, &writer)
            return error.status
        }
        isBulk = true
        writer.beginObject()
        writer.key("flags")
        writer.beginArray()
        _ = decide(policy, 0..<policy.decisions.decisions.count, now, reader, inList: true, &writer)
        writer.endArray()
        lastingBytes = writer.bytes.count
        writer.key("metadata")
        writer.beginObject()
        writer.key("bundle")
        writer.uint(policy.version)
        writeCircumstances(to: &writer)
        writer.endObject()
        return 200
    }

    /// Ends the metadata: the answer's number, and how old what is known is.
    private mutating func writeCircumstances(to writer: inout JSONWriter) {
        writer.key("id")
        scratch.removeAll(keepingCapacity: true)
        lastID.append(to: &scratch)
        writer.string(scratch)
        writer.key("bundleAgeSeconds")
        writer.int((surroundings.bundleAge ?? 0) / 1000)
        if let age = surroundings.profileAge {
            writer.key("profileAgeSeconds")
            writer.int(age / 1000)
        }
        writer.endObject()
    }

    // MARK: The question

    private mutating func read(_ body: Span<UInt8>, _ policy: Policy) throws(QuestionError) {
        if body.count > Limits.questionBytes { throw .tooLarge }
        inputs = Checksum.of(body, seed: inputSeed)
        do throws(JSONError) {
            try question.parse(body, maximumDepth: Limits.contextDepth)
        } catch {
            throw .parse(error)
        }
        guard question.kind(question.root) == .object else {
            throw .invalidContext("the question must be an object: {\"context\": {\"targetingKey\": …}}")
        }
        var contextNode: JSONNode?
        if let context = question.member(question.root, "context") {
            guard question.kind(context) == .object else { throw .invalidContext("context must be an object") }
            if let key = question.member(context, "targetingKey"), question.kind(key) != .string {
                throw .invalidContext("targetingKey must be text")
            }
            contextNode = context
        }
        do throws(IdentifierError) {
            try finder.find(policy.identifiers, question, question.root, for: .lookUp, pepper: pepper)
        } catch {
            finder.wipe()
            throw .tooManyIdentifiers
        }
        // Rules see the context and nothing around it.
        hasContext = contextNode != nil
        if let contextNode { question.narrow(to: contextNode) }
    }

    private var hasContext = false

    // MARK: The person

    private func consent(
        of profile: ProfileID, _ policy: Policy, at now: Int64, _ reader: borrowing Reader
    ) throws(StoreError) -> PurposeSet {
        let key = profile.bytes
        guard let record = try reader.get(reader.tables.consent, key.span) else { return [] }
        return ConsentRecord.granted(record, policy.purposes, at: now)
    }

    /// Of the profile at hand.
    private var personSeed: UInt64?

    /// What a decision is drawn by: for one about people what is kept of the person, whatever they are asked for by; for one
    /// that sees no person, and for whoever is not known yet, the identifier in the question.
    private func seed(for decision: Decision) -> UInt64? {
        if decision.purpose != nil, let personSeed { return personSeed }
        return finder.found.first.map { IdentifierKey($0).seed }
    }

    // MARK: The decision

    /// Writes the answers of a range of decisions.
    /// - Returns: false when the last of them ended in an error.
    private mutating func decide(
        _ policy: Policy, _ range: Range<Int>, _ now: Int64, _ reader: borrowing Reader, inList: Bool,
        _ writer: inout JSONWriter
    ) -> Bool {
        var person: ProfileID?
        var consent: PurposeSet = []
        do throws(StoreError) {
            person = try IdentityGraph.person(asking: finder.found, policy.identifiers, at: now, in: reader)
            if let person { consent = try self.consent(of: person, policy, at: now, reader) }
        } catch {
            // A store that cannot be read is a person who is not known: the defaults hold.
            meters.decisionErrors.add()
        }
        if audienceCount != policy.decisions.audiences.count {
            audienceCount = policy.decisions.audiences.count
            surroundings.audiences = AudienceSet(count: audienceCount)
        }
        lastID.advance(to: now)
        self.person = person
        firstRecord = records.count
        if !isObserver { servePlace = nil }
        surroundings.now = now
        surroundings.consent = consent
        surroundings.bundleAge = now - policy.loadedAt
        surroundings.profileAge = nil
        surroundings.audiences.removeAll()
        if hasContext { surroundings.context = question }
        let hasAnswer = decide(policy, range, person, consent, reader, &writer)
        surroundings.context = nil
        evaluator.end()
        finder.wipe()
        return hasAnswer
    }

    private mutating func decide(
        _ policy: Policy, _ range: Range<Int>, _ person: ProfileID?, _ consent: PurposeSet, _ reader: borrowing Reader,
        _ writer: inout JSONWriter
    ) -> Bool {
        // A person who has granted no purpose of the bundle is not looked at.
        if let person, !consent.isEmpty {
            let key = person.bytes
            do throws(StoreError) {
                if let record = try reader.get(reader.tables.profiles, key.span) {
                    do throws(RecordDamage) {
                        let view = try ProfileView(record)
                        index.fill(view, policy.attributes)
                        surroundings.profileAge = max(0, surroundings.now - view.lastSeen)
                        personSeed = index.seed(in: view.bytes, policy.attributes)
                        return evaluate(policy, range, view.bytes, consent, reader, &writer)
                    } catch {
                        meters.badRecords.add()
                    }
                }
            } catch {
                meters.decisionErrors.add()
            }
        }
        index.clear(policy.attributes)
        personSeed = nil
        return evaluate(policy, range, Span<UInt8>(), consent, reader, &writer)
    }

    private mutating func evaluate(
        _ policy: Policy, _ range: Range<Int>, _ record: Span<UInt8>, _ consent: PurposeSet, _ reader: borrowing Reader,
        _ writer: inout JSONWriter
    ) -> Bool {
        evaluator.begin()
        var needs: UInt64 = 0
        for number in range {
            needs |= self.needs(of: number, policy, consent)
            if !policy.decisions.rivals.isEmpty {
                for rival in policy.decisions.rivals[number] { needs |= self.needs(of: rival, policy, consent) }
            }
        }
        findAudiences(policy, needs, record)
        let bindings = DecisionBindings(
            record: record, index: index, plan: policy.attributes, slots: policy.slots, surroundings: surroundings)
        var hasAnswer = true
        for number in range {
            let decision = policy.decisions.decisions[number]
            var choice = choose(decision, number, policy, consent, bindings)
            var place: Int?
            if let cap = decision.cap, choice.isServed(of: decision) {
                place = take(cap, &choice, decision, record, policy, reader)
            }
            hasAnswer = write(decision, choice, policy, &writer)
            if hasAnswer, choice.consent == .granted, !isObserver { keep(choice, servePlace: place, record, policy) }
        }
        return hasAnswer
    }

    private func needs(of number: Int, _ policy: Policy, _ consent: PurposeSet) -> UInt64 {
        let decision = policy.decisions.decisions[number]
        guard let purpose = decision.purpose, consent.contains(PurposeSet(purpose: purpose)) else { return 0 }
        return decision.needs
    }

    private mutating func findAudiences(_ policy: Policy, _ needs: UInt64, _ record: Span<UInt8>) {
        let failures = policy.findAudiences(needs, record, index, surroundings, &evaluator)
        if failures > 0 { meters.evaluationErrors.add(UInt64(failures)) }
    }

    /// The audiences that a person is in, for `GET /v1/profiles/{ref}`.
    /// - Parameter record: the person's; empty for one without.
    public mutating func writeAudiences(
        _ policy: Policy, of person: ProfileID, record: Span<UInt8>, now: Int64, _ reader: borrowing Reader,
        into writer: inout JSONWriter
    ) throws(StoreError) {
        // Everything that a rule may see is set: what the last question left is another person's.
        surroundings.consent = try consent(of: person, policy, at: now, reader)
        surroundings.now = now
        surroundings.bundleAge = now - policy.loadedAt
        surroundings.profileAge = nil
        surroundings.audiences = AudienceSet(count: policy.decisions.audiences.count)
        audienceCount = policy.decisions.audiences.count
        do throws(RecordDamage) {
            let view = try ProfileView(record)
            index.fill(view, policy.attributes)
            surroundings.profileAge = max(0, now - view.lastSeen)
        } catch {
            index.clear(policy.attributes)
        }
        evaluator.begin()
        findAudiences(policy, .max, record)
        evaluator.end()
        writer.beginArray()
        for number in policy.decisions.audiences.indices where surroundings.audiences[number] {
            writer.string(policy.decisions.audiences[number].name)
        }
        writer.endArray()
    }

    private mutating func choose(
        _ decision: Decision, _ number: Int, _ policy: Policy, _ consent: PurposeSet,
        _ bindings: borrowing DecisionBindings
    ) -> Choice {
        var choice = match(decision, number, policy, consent, bindings)
        if choice.rule < 0 || policy.decisions.rivals.isEmpty { return choice }
        for rival in policy.decisions.rivals[number] {
            let other = match(policy.decisions.decisions[rival], rival, policy, consent, bindings)
            if other.rule >= 0 {
                choice = Choice(decision: number, variant: decision.defaultVariant, consent: choice.consent)
                choice.yieldsTo = rival
                return choice
            }
        }
        return choice
    }

    /// What a decision comes to if it competes with none.
    private mutating func match(
        _ decision: Decision, _ number: Int, _ policy: Policy, _ consent: PurposeSet,
        _ bindings: borrowing DecisionBindings
    ) -> Choice {
        var choice = Choice(decision: number, variant: decision.defaultVariant)
        if !decision.isEnabled {
            // Whoever asks goes on as if there were no flag.
            choice.variant = decision.variants.count - 1
            choice.reason = .disabled
            return choice
        }
        if decision.rules.isEmpty { choice.reason = .always }
        if let purpose = decision.purpose {
            guard consent.contains(PurposeSet(purpose: purpose)) else {
                choice.consent = .denied
                return choice
            }
            choice.consent = .granted
        }
        if let schedule = decision.schedule, !isTrue(schedule, policy, bindings) { return choice }
        var first = 0
        while let number = findRule(decision, from: first, policy, bindings) {
            let rule = decision.rules[number]
            if rule.needsSeed {
                guard let person = seed(for: decision) else {
                    choice.needsKey = true
                    return choice
                }
                if let slice = rule.slice, !slice.contains(person) {
                    first = number + 1
                    continue
                }
                choice.rule = number
                draw(rule, Draw.seed(person, decision: decision.tag), &choice)
                return choice
            }
            choice.rule = number
            if case .serve(let variant) = rule.outcome { choice.variant = variant }
            choice.reason = rule.expression == nil ? .always : .targetingMatch
            return choice
        }
        return choice
    }

    // MARK: Caps and records

    /// Counts a serve, or makes it the default where the cap is reached.
    /// - Returns: where it is counted until it is in the profile. Asking for all at once serves nothing yet.
    private mutating func take(
        _ cap: Cap, _ choice: inout Choice, _ decision: Decision, _ record: Span<UInt8>, _ policy: Policy,
        _ reader: borrowing Reader
    ) -> Int? {
        guard let person else { return nil }
        let place = ServeCounts.place(person.low ^ person.high, cap.tag)
        let served = record.isEmpty ? 0 : index.serves(cap.attribute, in: record, policy.attributes, now: surroundings.now)
        let pending = serves.count(place, snapshot: reader.number) - (isObserver && place == servePlace ? 1 : 0)
        if served + pending >= cap.serves {
            choice = Choice(decision: choice.decision, variant: decision.defaultVariant, consent: choice.consent)
            choice.isCapped = true
            return nil
        }
        if isBulk || isObserver { return nil }
        serves.add(place)
        servePlace = place
        return place
    }

    private mutating func keep(_ choice: Choice, servePlace: Int?, _ record: Span<UInt8>, _ policy: Policy) {
        guard let person else { return }
        var identifier: IdentifierKey?
        for found in finder.found where identifier == nil && !policy.identifiers.kinds[found.kindIndex].isShared {
            identifier = IdentifierKey(found)
        }
        let known = record.isEmpty ? 0 : UInt32(littleEndianAt: 0, of: record)
        let kept = DecisionRecord(
            policy: policy, choice: choice, id: lastID, person: person, identifier: identifier, inputs: inputs ^ known,
            profileAge: surroundings.profileAge, bundleAge: surroundings.bundleAge ?? 0, servePlace: servePlace)
        if !kept.isKept { return }
        if records.count < Limits.pendingRecords { return records.append(kept) }
        meters.recordsLost.add()
        if let servePlace { serves.drop(servePlace) }
    }

    /// How long the last answer took.
    public mutating func noteLatency(nanoseconds: Int64) {
        for number in firstRecord..<max(firstRecord, records.count) { records[number].latencyNanoseconds = nanoseconds }
    }

    private mutating func isTrue(_ expression: Int, _ policy: Policy, _ bindings: borrowing DecisionBindings) -> Bool {
        var failures = 0
        let isTrue = evaluator.isTrue(policy.program, expression, bindings, failures: &failures)
        if failures > 0 { meters.evaluationErrors.add(UInt64(failures)) }
        return isTrue
    }

    /// The first rule from a place on that matches: of those with a condition the first that is true, else the first without
    /// one.
    private mutating func findRule(
        _ decision: Decision, from first: Int, _ policy: Policy, _ bindings: borrowing DecisionBindings
    ) -> Int? {
        let count = decision.conditions.count
        if first < count {
            var failures = 0
            let lower = decision.conditions.lowerBound
            let match = evaluator.firstTrue(
                policy.program, in: lower + first..<decision.conditions.upperBound, bindings, failures: &failures)
            if failures > 0 { meters.evaluationErrors.add(UInt64(failures)) }
            if let match { return match - lower }
        }
        // Behind a rule without a condition only those parts of a group come to another.
        var next = max(first, count)
        while next < decision.rules.count {
            guard let expression = decision.rules[next].expression else { return next }
            if isTrue(expression, policy, bindings) { return next }
            next += 1
        }
        return nil
    }

    /// Applies holdout and split: two independent draws that depend on the person and the decision alone.
    private func draw(_ rule: Rule, _ seed: UInt64, _ choice: inout Choice) {
        choice.reason = .split
        if Draw.isHeldOut(seed, percent: rule.holdout) { return }
        switch rule.outcome {
        case .serve(let variant):
            choice.variant = variant
            choice.reason = .targetingMatch
        case .split(let split): choice.variant = split.variant(seed)
        }
    }

    // MARK: The answer

    private mutating func write(
        _ decision: Decision, _ choice: Choice, _ policy: Policy, _ writer: inout JSONWriter
    ) -> Bool {
        if choice.needsKey {
            meters.decisionErrors.add()
            let key = decision.key
            writeError(
                key.span, "TARGETING_KEY_MISSING", "this decision is split by person: give context.targetingKey",
                &writer)
            return false
        }
        if choice.rule >= 0 { meters.decisionsMatched.add() } else { meters.decisionsDefault.add() }
        memo.write(decision, choice, policy, into: &writer)
        return true
    }

    private func writeQuestionError(_ key: Span<UInt8>?, _ error: QuestionError, _ writer: inout JSONWriter) {
        writer.clear()
        writer.beginObject()
        if let key {
            writer.key("key")
            writer.string(key)
        }
        writer.key("errorCode")
        writer.string(error.code)
        writer.key("errorDetails")
        switch error {
        case .parse(let problem):
            writer.string(
                "the question is not JSON: \(problem.message) at line \(problem.position.line), column \(problem.position.column)")
        case .invalidContext(let words): writer.string(words)
        case .tooManyIdentifiers: writer.string("the context holds more identifiers than one person has")
        case .tooLarge: writer.string("the question is larger than 64 KiB: a context is settings, not data")
        }
        writer.endObject()
    }

    private func writeError(
        _ key: Span<UInt8>, _ code: StaticString, _ details: StaticString, _ writer: inout JSONWriter
    ) {
        writer.beginObject()
        writer.key("key")
        writer.string(key)
        writer.key("errorCode")
        writer.string(code)
        writer.key("errorDetails")
        writer.string(details)
        writer.endObject()
    }
}
