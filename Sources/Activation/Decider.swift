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
    let meters: Meters
    let pepper: Peppers
    private var question = JSONDocument()
    private var finder = IdentifierFinder()
    private var index = ProfileIndex()
    let surroundings: Surroundings
    var evaluator = Evaluator(zones: TimeZones { Files.timeZone($0) })
    /// What `surroundings` has audiences and scores of.
    private var policy: Policy?
    private var memo = AnswerMemo()
    /// Of events that are not in the store.
    var updater = ProfileUpdater()
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
    /// Whom it was about.
    public private(set) var person: ProfileID?
    private var inputs: UInt32 = 0
    private var isBulk = false

    /// - Parameters:
    ///   - device: the device's name, `device.id` in rules.
    ///   - number: of this decider among those of the device, 0…15: no two of them give the same id.
    ///   - serves: shared by all deciders of the device.
    ///   - isObserver: nothing of what it answers is counted or kept.
    @inline(never)
    public init(
        device: [UInt8], number: Int = 0, pepper: Peppers, meters: Meters, serves: ServeCounts = ServeCounts(),
        isObserver: Bool = false
    ) {
        self.isObserver = isObserver
        self.meters = meters
        self.serves = serves
        let digest = pepper.root.authenticate(("inputs of decisions" as StaticString).bytes)
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
    ///   - isExplaining: says of each rule what it said, in `explanation`.
    ///   - writer: takes the JSON of the answer or the error.
    /// - Returns: the HTTP status.
    public mutating func answer(
        _ policy: Policy, _ key: Span<UInt8>, _ body: Span<UInt8>, now: Int64, _ reader: borrowing Reader,
        isExplaining: Bool = false, into writer: inout JSONWriter
    ) -> UInt16 {
        person = nil
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
        event = nil
        explanation = isExplaining ? JSONWriter(reserving: 512) : nil
        let hasAnswer = decide(policy, number..<number + 1, now, reader, inList: false, &writer)
        finder.wipe()
        if !hasAnswer { return 400 }
        // Behind what the answer's metadata says already.
        writer.bytes.removeLast(2)
        writeCircumstances(to: &writer)
        if let explained = explanation?.bytes {
            writer.key("explanation")
            writer.raw(explained.span)
        }
        explanation = nil
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
        event = nil
        _ = decide(policy, 0..<policy.decisions.decisions.count, now, reader, inList: true, &writer)
        finder.wipe()
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

    /// Answers what comes with an event: `POST /v1/decide`. Writes the member `decisions` of the answer: an object with
    /// `variant`, `value`, `reason` and `id` for each key, or `errorCode` and `errorDetails`.
    /// - Parameters:
    ///   - keys: of the decisions; nil: all, which serves nothing.
    public mutating func answer(
        _ policy: Policy, _ keys: [[UInt8]]?, _ event: EventAsked, now: Int64, _ reader: borrowing Reader,
        into writer: inout JSONWriter
    ) {
        isBulk = keys == nil
        let first = records.count
        writer.key("decisions")
        writer.beginObject()
        var all = keys ?? []
        if keys == nil { for decision in policy.decisions.decisions { all.append(decision.key) } }
        for key in all {
            writer.key(key)
            guard let number = policy.decisions.index(of: key.span) else {
                meters.decisionErrors.add()
                writeError(key.span, "FLAG_NOT_FOUND", "no decision of this bundle has this key", &writer)
                continue
            }
            isShort = true
            self.event = event
            _ = decide(policy, number..<number + 1, now, reader, inList: true, &writer)
            isShort = false
            isFurther = true
        }
        isFurther = false
        writer.endObject()
        self.event = nil
        finder.wipe()
        firstRecord = first
    }

    /// Reads a question before the event that it comes with is taken.
    /// - Parameter text: `{"context": …}`.
    /// - Returns: false for what is none; the writer has the error then.
    public mutating func take(_ text: Span<UInt8>, _ policy: Policy, into writer: inout JSONWriter) -> Bool {
        do throws(QuestionError) {
            try read(text, policy)
            return true
        } catch {
            meters.decisionErrors.add()
            writeQuestionError(nil, error, &writer)
            return false
        }
    }

    /// Answers in the form of `POST /v1/decide`, and whether others were given to the same question.
    private var isShort = false
    private var isFurther = false

    private func writeShort(_ decision: Decision, _ choice: Choice, _ policy: Policy, _ writer: inout JSONWriter) {
        let variant = decision.variants[choice.variant]
        writer.beginObject()
        writer.key("variant")
        writer.string(variant.name)
        if !variant.isCodeDefault {
            writer.key("value")
            let json = variant.json
            writer.raw(json.span)
        }
        writer.key("reason")
        writer.string(choice.reason.word)
        writer.key("id")
        writer.string(lastID.text)
        writer.key("consent")
        writer.string(choice.consent.word)
        AnswerMemo.writeWhy(decision, choice, policy, into: &writer)
        writer.endObject()
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
        person = nil
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
        return asked.first.map { IdentifierKey($0).seed(root: pepper.root) }
    }

    /// What the question names somebody by; where it names nobody, the event that it comes with.
    private var asked: [HashedIdentifier] { finder.found.isEmpty ? (event?.found ?? []) : finder.found }
    /// The event that the question comes with.
    private var event: EventAsked?

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
            if pepper.former != nil { try finder.recall(in: reader) }
            person = try IdentityGraph.person(asking: asked, policy.identifiers, at: now, in: reader)
            if let person { consent = try self.consent(of: person, policy, at: now, reader) }
            if let event, event.isInMemory {
                let named = try IdentityGraph.person(asking: event.found, policy.identifiers, at: now, in: reader)
                let isTheirs = named == person
                // What somebody else's event says allows nothing, and counts for nobody here.
                if isTheirs { consent = try self.consent(of: person, after: event, policy, at: now, reader) }
                self.event = event.taken(by: isTheirs ? consent : [])
            }
        } catch {
            // A store that cannot be read is a person who is not known: the defaults hold.
            meters.decisionErrors.add()
        }
        prepare(policy)
        lastID.advance(to: now)
        self.person = person
        firstRecord = records.count
        if !isObserver { servePlace = nil }
        surroundings.now = now
        surroundings.consent = consent
        surroundings.bundleAge = policy.age(at: now)
        surroundings.profileAge = nil
        surroundings.audiences.removeAll()
        surroundings.event = event?.document
        surroundings.eventTimestamp = event?.timestamp
        if hasContext { surroundings.context = question }
        let hasAnswer = decide(policy, range, person, consent, reader, &writer)
        surroundings.context = nil
        surroundings.event = nil
        evaluator.end()
        endScores()
        return hasAnswer
    }

    /// Rules could not be evaluated.
    @inline(never)
    private func noteFailures(_ failures: Int) {
        meters.evaluationErrors.add(UInt64(failures))
        meters.ruleErrors.add(UInt64(failures))
    }

    private mutating func prepare(_ policy: Policy) {
        if self.policy === policy { return }
        self.policy = policy
        surroundings.audiences = AudienceSet(count: policy.decisions.audiences.count)
        surroundings.scores = Scorer.make(for: policy)
    }

    private func endScores() {
        let failures = surroundings.scores?.finish() ?? 0
        if failures > 0 { noteFailures(failures) }
    }

    private mutating func decide(
        _ policy: Policy, _ range: Range<Int>, _ person: ProfileID?, _ consent: PurposeSet, _ reader: borrowing Reader,
        _ writer: inout JSONWriter
    ) -> Bool {
        // A person who has granted no purpose of the bundle is not looked at.
        if !consent.isEmpty, let event, event.isInMemory {
            // The event counts although it is not in the store yet.
            let record = record(of: person, after: event, policy, reader)
            if !record.isEmpty { return decide(policy, range, by: record.span, consent, reader, &writer) }
        } else if let person, !consent.isEmpty {
            let key = person.bytes
            do throws(StoreError) {
                if let record = try reader.get(reader.tables.profiles, key.span) {
                    return decide(policy, range, by: record, consent, reader, &writer)
                }
            } catch {
                meters.decisionErrors.add()
            }
        }
        index.clear(policy.attributes)
        personSeed = nil
        return evaluate(policy, range, Span<UInt8>(), consent, reader, &writer)
    }

    private mutating func decide(
        _ policy: Policy, _ range: Range<Int>, by record: Span<UInt8>, _ consent: PurposeSet, _ reader: borrowing Reader,
        _ writer: inout JSONWriter
    ) -> Bool {
        do throws(RecordDamage) {
            let view = try ProfileView(record)
            index.fill(view, policy.attributes)
            surroundings.profileAge = max(0, surroundings.now - view.lastSeen)
            personSeed = index.seed(in: view.bytes, policy.attributes)
            return evaluate(policy, range, view.bytes, consent, reader, &writer)
        } catch {
            meters.badRecords.add()
        }
        index.clear(policy.attributes)
        personSeed = nil
        return evaluate(policy, range, Span<UInt8>(), consent, reader, &writer)
    }

    private mutating func evaluate(
        _ policy: Policy, _ range: Range<Int>, _ record: Span<UInt8>, _ consent: PurposeSet, _ reader: borrowing Reader,
        _ writer: inout JSONWriter
    ) -> Bool {
        evaluator.begin(isFirst: !isFurther)
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
            var choice = choose(decision, number, policy, consent, record, reader, bindings)
            var place: Int?
            if let cap = decision.cap, choice.isServed(of: decision) {
                place = take(cap, &choice, decision, record, policy, reader)
            }
            hasAnswer = write(decision, choice, policy, &writer)
            if explanation != nil { explain(decision, choice, policy, bindings) }
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
        if failures > 0 { noteFailures(failures) }
    }

    /// What is concluded about a person, members of `GET /v1/profiles/{ref}`: the audiences that they are in, and the scores
    /// that they have where no question says more.
    /// - Parameter record: the person's; empty for one without.
    public mutating func writeConclusions(
        _ policy: Policy, of person: ProfileID, record: Span<UInt8>, now: Int64, _ reader: borrowing Reader,
        into writer: inout JSONWriter
    ) throws(StoreError) {
        // Everything that a rule may see is set: what the last question left is another person's.
        surroundings.consent = try consent(of: person, policy, at: now, reader)
        surroundings.now = now
        surroundings.bundleAge = policy.age(at: now)
        surroundings.profileAge = nil
        prepare(policy)
        surroundings.audiences.removeAll()
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
        writer.key("audiences")
        writer.beginArray()
        for number in policy.decisions.audiences.indices where surroundings.audiences[number] {
            writer.string(policy.decisions.audiences[number].name)
        }
        writer.endArray()
        if let scorer = surroundings.scores {
            let bindings = DecisionBindings(
                record: record, index: index, plan: policy.attributes, slots: policy.slots, surroundings: surroundings)
            writer.key("scores")
            writer.beginObject()
            for number in policy.scores.indices {
                writer.key(policy.scores[number].name)
                writer.double(scorer.score(number, bindings))
            }
            writer.endObject()
        }
        endScores()
    }

    private mutating func choose(
        _ decision: Decision, _ number: Int, _ policy: Policy, _ consent: PurposeSet, _ record: Span<UInt8>,
        _ reader: borrowing Reader, _ bindings: borrowing DecisionBindings
    ) -> Choice {
        var choice = match(decision, number, policy, consent, bindings)
        if choice.rule < 0 || policy.decisions.rivals.isEmpty { return choice }
        for rival in policy.decisions.rivals[number] {
            let stronger = policy.decisions.decisions[rival]
            let other = match(stronger, rival, policy, consent, bindings)
            // One that has been served often enough leaves its place to the next.
            if other.isServed(of: stronger), !(stronger.cap.map { isReached($0, record, policy, reader) } ?? false) {
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

    // MARK: Explanations

    /// What each rule of the decision under way said; nil: nobody asks.
    private var explanation: JSONWriter?

    /// Asks every rule by itself, those behind the one that was taken as well.
    private mutating func explain(
        _ decision: Decision, _ choice: Choice, _ policy: Policy, _ bindings: borrowing DecisionBindings
    ) {
        var writer = JSONWriter(reserving: 512)
        writer.beginArray()
        // Of somebody who does not grant the decision's purpose no rule says anything.
        for number in decision.rules.indices where choice.consent != .denied {
            let rule = decision.rules[number]
            writer.beginObject()
            writer.key("rule")
            writer.int(Int64(number + 1))
            writer.key("name")
            writer.string(rule.name)
            writer.key("said")
            if let reason = failure(of: rule, policy, bindings) {
                writer.string(reason)
            } else {
                writer.string(word(rule, decision))
            }
            if number == choice.rule {
                writer.key("taken")
                writer.bool(true)
            }
            writer.endObject()
        }
        writer.endArray()
        explanation = writer
    }

    /// Why a rule's condition does not hold; nil: it does.
    private mutating func failure(
        of rule: Rule, _ policy: Policy, _ bindings: borrowing DecisionBindings
    ) -> String? {
        guard let expression = rule.expression else { return nil }
        do throws(EvaluationError) {
            return try evaluator.evaluate(policy.program, expression, bindings).isTrue ? nil : "false"
        } catch {
            return "failed: " + error.description
        }
    }

    /// What is said of a rule whose condition holds.
    private func word(_ rule: Rule, _ decision: Decision) -> StaticString {
        if !rule.needsSeed { return "true" }
        guard let person = seed(for: decision) else { return "true, but the question names nobody to draw for" }
        if let slice = rule.slice, !slice.contains(person) { return "true, but the person is in another part of the group" }
        if Draw.isHeldOut(Draw.seed(person, decision: decision.tag), percent: rule.holdout) {
            return "true, and the person is held out"
        }
        return "true"
    }

    // MARK: Caps and records

    /// Counts a serve, or makes it the default where the cap is reached.
    /// - Returns: where it is counted until it is in the profile. Asking for all at once serves nothing yet.
    private mutating func take(
        _ cap: Cap, _ choice: inout Choice, _ decision: Decision, _ record: Span<UInt8>, _ policy: Policy,
        _ reader: borrowing Reader
    ) -> Int? {
        guard let person else { return nil }
        if isReached(cap, record, policy, reader) {
            choice = Choice(decision: choice.decision, variant: decision.defaultVariant, consent: choice.consent)
            choice.isCapped = true
            return nil
        }
        if isBulk || isObserver { return nil }
        let place = ServeCounts.place(person.low ^ person.high, cap.tag)
        serves.add(place)
        servePlace = place
        return place
    }

    private func isReached(_ cap: Cap, _ record: Span<UInt8>, _ policy: Policy, _ reader: borrowing Reader) -> Bool {
        guard let person else { return false }
        let place = ServeCounts.place(person.low ^ person.high, cap.tag)
        let served = record.isEmpty ? 0 : index.serves(cap.attribute, in: record, policy.attributes, now: surroundings.now)
        // What the answer that is looked at has just counted, it had not yet.
        let pending = serves.count(place, snapshot: reader.number) - (isObserver && place == servePlace ? 1 : 0)
        return served + pending >= cap.serves
    }

    private mutating func keep(_ choice: Choice, servePlace: Int?, _ record: Span<UInt8>, _ policy: Policy) {
        guard let person else { return }
        var identifier: IdentifierKey?
        for found in asked where identifier == nil && !policy.identifiers.kinds[found.kindIndex].isShared {
            identifier = IdentifierKey(found)
        }
        let known = record.isEmpty ? 0 : UInt32(littleEndianAt: 0, of: record)
        let kept = DecisionRecord(
            policy: policy, choice: choice, id: lastID, person: person, identifier: identifier, inputs: inputs ^ known,
            profileAge: surroundings.profileAge, bundleAge: surroundings.bundleAge ?? 0, servePlace: servePlace,
            arm: policy.decisions.experiments.isEmpty || choice.rule < 0 || isBulk ? nil : newArm(choice, record, policy))
        if !kept.isKept, kept.arm == nil { return }
        if records.count < Limits.pendingRecords { return records.append(kept) }
        meters.recordsLost.add()
        if let servePlace { serves.drop(servePlace) }
    }

    /// The arm that an answer shows; nil: the rule is no experiment, or the profile knows that the person was shown it.
    private func newArm(_ choice: Choice, _ record: Span<UInt8>, _ policy: Policy) -> UInt64? {
        let decision = policy.decisions.decisions[choice.decision]
        let rule = decision.rules[choice.rule]
        guard let experiment = rule.experiment, let person = seed(for: decision) else { return nil }
        let isHeldOut = Draw.isHeldOut(Draw.seed(person, decision: decision.tag), percent: rule.holdout)
        let arm = isHeldOut ? Experiment.holdout : Experiment.arm(decision.variants[choice.variant])
        var isKnown = false
        if !record.isEmpty {
            let exposure = policy.decisions.experiments[experiment].attribute
            index.forEachElement(exposure, in: record, policy.attributes) { _, value in
                if value.uintValue == arm { isKnown = true }
            }
        }
        return isKnown ? nil : arm
    }

    /// How long the last answer took.
    public mutating func noteLatency(nanoseconds: Int64) {
        for number in firstRecord..<max(firstRecord, records.count) { records[number].latencyNanoseconds = nanoseconds }
    }

    private mutating func isTrue(_ expression: Int, _ policy: Policy, _ bindings: borrowing DecisionBindings) -> Bool {
        var failures = 0
        let isTrue = evaluator.isTrue(policy.program, expression, bindings, failures: &failures)
        if failures > 0 { noteFailures(failures) }
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
            if failures > 0 { noteFailures(failures) }
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
        policy.decisions.counts.add(choice)
        if isShort {
            writeShort(decision, choice, policy, &writer)
        } else {
            memo.write(decision, choice, policy, into: &writer)
        }
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
