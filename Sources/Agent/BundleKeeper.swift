// The life of a bundle: staged, checked whole, tested over recent events, switched to, taken back if its decisions fail, and
// kept as the last good one. All of it but the start happens on a thread of its own; decisions wait for none of it.

import Delivery
import Formats
import Monitoring
import Platform
import Store

final class BundleKeeper: @unchecked Sendable {
    private let configuration: Configuration
    private let database: Database
    private let meters: Meters
    private let health: Health
    private let clock = SystemClock()
    private let cancellation = Cancellation()
    private let source: BundleSource
    // Of the start, then of the keeper's thread.
    private var memory = BundleMemory()
    private var random = SystemRandom()
    private var current: Bundle
    /// Of the bundle in force; 0 for the one that is built in.
    private var fingerprint: UInt64 = 0
    /// Of the bundle that the source last had, and why that was refused for good, if it was.
    private var tag: [UInt8] = []
    private var tagProblem: BundleProblem?
    /// The one before the last switch, for as long as that may be undone.
    private var former: (bundle: Bundle, file: BundleFile)?
    private var switchedAt: Int64 = 0
    /// What the counters were when the bundle in force came, and what came of the one before.
    private var beginning = RuleErrors()
    private var before = RuleErrors()
    /// What was last said of the source.
    private var problem: BundleProblem?
    private var failures: Int64 = 0

    private let lock = Lock()
    // Under `lock`.
    private var isPoked = false
    private var isStopped = false

    /// Loads the bundle to start with.
    /// - Parameter fallback: what is in force where no bundle was ever loaded.
    init(
        _ configuration: Configuration, _ database: Database, _ meters: Meters, _ health: Health,
        floor: ClockFloor = ClockFloor(), fallback: Bundle
    ) throws(StartError) {
        self.configuration = configuration
        self.database = database
        self.meters = meters
        self.health = health
        current = fallback
        source = try BundleSource(configuration, floor: floor, cancellation)
        if configuration.bundle == nil, configuration.bundleURL == nil { return }
        do throws(StoreError) { memory = try BundleMemory(database) } catch {
            throw StartError(joined(configuration.data, ": ", error.message))
        }
        if configuration.bundle != nil { try loadFile() } else { loadKept(nil) }
    }

    /// The bundle in force. Asked by the thread that makes the keeper, before the keeper's begins.
    var bundle: Bundle { current }

    // MARK: The start

    /// The configured file, or the last good one in its place.
    private func loadFile() throws(StartError) {
        let now = clock.wallMilliseconds()
        meters.bundleCheckedAt.set(now)
        do throws(BundleRefusal) {
            guard let file = try source.fetch(besides: []) else { return }
            let bundle = try source.examine(file, now: now)
            try admit(bundle, file)
            remember(bundle, file)
            use(bundle, file.fingerprint)
            health.bundleIs(.fresh)
        } catch {
            meters.bundlesRefused.add(1, at: error.problem.rawValue)
            if !loadKept(error) { throw StartError(error.words, exitCode: 1) }
        }
    }

    /// - Returns: false where there is none.
    @discardableResult
    private func loadKept(_ refusal: BundleRefusal?) -> Bool {
        guard let file = BundleFile.kept(configuration.data),
            let bundle = try? source.examine(file, now: file.takenAt)
        else { return false }
        use(bundle, file.fingerprint)
        tag = file.tag
        problem = refusal?.problem
        health.bundleIs(.stale, problem, refusal?.words)
        if let refusal {
            tell(.error, "the bundle cannot be used; the last good one is in force", refusal.problem.word, refusal.words)
        } else {
            tell(.info, "the last good bundle is in force until its source has been asked")
        }
        return true
    }

    private func use(_ bundle: Bundle, _ mark: UInt64) {
        current = bundle
        fingerprint = mark
    }

    /// The bundle where no agent runs, for commands: the file, or the last good one; with its signature, where one is asked for.
    static func offline(_ configuration: Configuration) throws(StartError) -> Bundle {
        let now = SystemClock().wallMilliseconds()
        let source = try BundleSource(configuration, Cancellation())
        if configuration.bundle == nil, configuration.bundleURL == nil { return .builtIn(loadedAt: now) }
        do throws(BundleRefusal) {
            var file = BundleFile.kept(configuration.data)
            if configuration.bundle != nil { file = try source.fetch(besides: []) }
            if let file { return try source.examine(file, now: now) }
        } catch {
            throw StartError(error.words, exitCode: 1)
        }
        throw StartError("there is no bundle yet: start the agent once, so that it fetches one", exitCode: 1)
    }

    /// One line of the log, with the version in force.
    @inline(never)
    private func tell(_ level: Log.Level, _ message: StaticString, _ why: StaticString? = nil, _ reason: String = "") {
        Log.write(level, message) {
            $0.field("version", Int64(clamping: current.version))
            if let why {
                $0.field("why", why)
                $0.field("reason", reason)
            }
        }
    }

    // MARK: The thread

    /// Looks at the source anew.
    func poke() {
        lock.with {
            isPoked = true
            lock.broadcast()
        }
    }

    /// Ends `run`, and what it waits for.
    func stop() {
        cancellation.cancel()
        lock.with {
            isStopped = true
            lock.broadcast()
        }
    }

    /// - Parameter agent: where bundles are put in force.
    func run(_ agent: Runtime) {
        keepFirst()
        let isFetched = configuration.bundleURL != nil
        // Who has no bundle asks at once.
        var due = isFetched ? clock.monotonicNanoseconds() : Int64.max
        if isFetched, current.isLoaded {
            let most = min(Limits.firstPollMilliseconds, configuration.pollMilliseconds / 2)
            due += 1_000_000 * Int64(random.next(below: UInt64(most)))
        }
        while true {
            let isAsked = lock.with { () -> Bool in
                while !isPoked, !isStopped, clock.monotonicNanoseconds() < due {
                    let left = (due - clock.monotonicNanoseconds()) / 1_000_000 + 1
                    let isWatching = former != nil
                    lock.wait(milliseconds: isWatching ? min(left, Limits.probationLookMilliseconds) : min(left, 3_600_000))
                    if isWatching { break }
                }
                let isAsked = isPoked
                isPoked = false
                return isAsked
            }
            if lock.with({ isStopped }) { return }
            var isOther = watch(agent)
            if isAsked || clock.monotonicNanoseconds() >= due {
                isOther = look(isAsked, agent) || isOther
                if isFetched { due = clock.monotonicNanoseconds() + pause() * 1_000_000 }
            }
            if isAsked || isOther { agent.loadShadow() }
        }
    }

    /// Until the next look: about the time between two, or less after failures, each of which doubles it up to that.
    private func pause() -> Int64 {
        let poll = configuration.pollMilliseconds
        if failures == 0 { return poll * 9 / 10 + Int64(random.next(below: UInt64(poll / 5))) }
        let bound = min(poll, Limits.firstFetchPauseMilliseconds << min(failures - 1, 20))
        return bound / 2 + Int64(random.next(below: UInt64(bound / 2 + 1)))
    }

    /// What the agent was started with is a good one, too.
    private func keepFirst() {
        if configuration.bundle == nil || health.bundleState != .fresh { return }
        if BundleFile.kept(configuration.data)?.fingerprint == fingerprint { return }
        guard let file = try? source.fetch(besides: []), file.fingerprint == fingerprint else { return }
        keep(file)
    }

    private func keep(_ file: BundleFile) {
        var file = file
        file.takenAt = clock.wallMilliseconds()
        do throws(SystemError) { try file.keep(configuration.data) } catch {
            tell(.error, "the bundle cannot be kept for the next start", "data", error.message)
        }
    }

    // MARK: Another bundle

    /// Looks for another bundle, and takes it if it is good.
    /// - Returns: whether another is in force.
    private func look(_ isAsked: Bool, _ agent: Runtime) -> Bool {
        meters.bundleCheckedAt.set(clock.wallMilliseconds())
        do throws(BundleRefusal) {
            guard let file = try source.fetch(besides: tag) else {
                failures = 0
                guard let tagProblem else {
                    confirm()
                    return false
                }
                problem = tagProblem
                health.bundleIs(current.isLoaded ? .stale : .neverSynced, problem)
                return false
            }
            failures = 0
            if file.fingerprint == fingerprint {
                (tag, tagProblem) = (file.tag, nil)
                confirm()
                return false
            }
            do throws(BundleRefusal) {
                try take(file, agent)
            } catch {
                (tag, tagProblem) = (error.isLasting ? file.tag : [], error.isLasting ? error.problem : nil)
                throw error
            }
            (tag, tagProblem) = (file.tag, nil)
            return true
        } catch {
            if error.problem == .unreachable || error.problem == .tooLarge { failures += 1 }
            // Who stops is not refused anything.
            if cancellation.isCancelled { return false }
            refuse(error, isAsked)
            return false
        }
    }

    private func confirm() {
        current.policy.confirm(at: clock.wallMilliseconds())
        if problem != nil || health.bundleState != .fresh {
            tell(.info, "the bundle in force is the newest")
        }
        problem = nil
        health.bundleIs(.fresh)
    }

    /// Says why there is no other bundle: once, unless somebody has asked.
    private func refuse(_ refusal: BundleRefusal, _ isAsked: Bool) {
        meters.bundlesRefused.add(1, at: refusal.problem.rawValue)
        if isAsked || problem != refusal.problem {
            tell(.error, "no other bundle is taken; the one in force stays", refusal.problem.word, refusal.words)
        }
        problem = refusal.problem
        health.bundleIs(current.isLoaded ? .stale : .neverSynced, problem, refusal.words)
    }

    private func take(_ file: BundleFile, _ agent: Runtime) throws(BundleRefusal) {
        let bundle = try source.examine(file, now: clock.wallMilliseconds())
        try admit(bundle, file)
        if bundle.policy.version < current.policy.version { throw older(bundle, current.policy.version) }
        try test(file)
        if !agent.mayPut(bundle) {
            throw BundleRefusal(problem: .content, words: "the store has no room for its destinations", isLasting: false)
        }
        remember(bundle, file)
        let last = BundleFile.kept(configuration.data)
        keep(file)
        let counted = decided
        before = RuleErrors(failed: counted.failed - beginning.failed, asked: counted.asked - beginning.asked)
        former = nil
        if let last, last.fingerprint == fingerprint { former = (current, last) }
        switchTo(bundle, file.fingerprint, agent)
        problem = nil
        health.bundleIs(.fresh)
        tell(.info, "another bundle is in force")
    }

    private func switchTo(_ bundle: Bundle, _ mark: UInt64, _ agent: Runtime) {
        use(bundle, mark)
        agent.put(bundle)
        meters.bundleVersion.set(Int64(bundle.policy.version))
        switchedAt = clock.monotonicNanoseconds()
        beginning = decided
    }

    /// Holds a bundle against what is remembered of others.
    private func admit(_ bundle: Bundle, _ file: BundleFile) throws(BundleRefusal) {
        let mark = file.fingerprint
        if mark == memory.rolledBack {
            throw BundleRefusal(
                problem: .rolledBack,
                words: "its decisions failed, and it was taken back: put it right, with a higher version")
        }
        if mark == memory.tested, memory.endings >= Limits.selfTestEndings {
            throw BundleRefusal(problem: .selfTest, words: "the agent ended twice while it was tested")
        }
        if !source.isSigned { return }
        if bundle.policy.version < memory.version { throw older(bundle, memory.version) }
        if bundle.policy.version == memory.version, mark != memory.fingerprint {
            throw BundleRefusal(
                problem: .version,
                words: "another bundle of the same version was taken before: a change needs a higher version")
        }
    }

    private func older(_ bundle: Bundle, _ taken: UInt64) -> BundleRefusal {
        BundleRefusal(
            problem: .version,
            words: joined(
                "its version ", String(bundle.policy.version), " is older than the one taken before, ", String(taken)))
    }

    private func remember(_ bundle: Bundle, _ file: BundleFile) {
        if !source.isSigned { return }
        (memory.version, memory.fingerprint) = (bundle.policy.version, file.fingerprint)
        writeMemory()
    }

    private func writeMemory() {
        do throws(StoreError) { try memory.write(database) } catch {
            tell(.error, "what is known of bundles cannot be kept", "store", error.message)
        }
    }

    private func test(_ file: BundleFile) throws(BundleRefusal) {
        let messages: [SelfTest.Message]
        let before: RuleErrors
        do throws(StoreError) {
            messages = try SelfTest.recentEvents(database)
            if messages.isEmpty { return }
            let known = BundleFile.kept(configuration.data)?.text ?? []
            before = try SelfTest.play(known.span, messages, in: configuration.data, cancellation)
        } catch {
            tell(.warning, "the bundle cannot be tested over recent events", "store", error.message)
            return
        }
        let mark = file.fingerprint
        memory.endings = mark == memory.tested ? memory.endings + 1 : 1
        memory.tested = mark
        writeMemory()
        defer {
            memory.endings = 0
            writeMemory()
            Process.trimMemory()
        }
        let after: RuleErrors
        let text = file.text
        do throws(StoreError) {
            after = try SelfTest.play(text.span, messages, in: configuration.data, cancellation)
        } catch {
            throw BundleRefusal(
                problem: .selfTest, words: joined("recent events cannot be played to it: ", error.message), isLasting: false)
        }
        if cancellation.isCancelled {
            throw BundleRefusal(problem: .selfTest, words: "the agent is stopping", isLasting: false)
        }
        if after.isWorse(than: before, atLeast: Limits.selfTestErrors) {
            throw BundleRefusal(
                problem: .selfTest,
                words: joined(
                    joined("over ", String(messages.count), " recent events its rules failed ", String(after.failed)),
                    " times, those of the one in force ", String(before.failed), "; gatehouse simulate shows more"))
        }
    }

    // MARK: After a switch

    private var decided: RuleErrors {
        RuleErrors(
            failed: meters.ruleErrors.current, asked: meters.decisionsMatched.current + meters.decisionsDefault.current)
    }

    /// Takes a bundle back whose decisions fail.
    /// - Returns: whether another is in force.
    private func watch(_ agent: Runtime) -> Bool {
        guard let last = former else { return false }
        let counted = decided
        let now = RuleErrors(failed: counted.failed - beginning.failed, asked: counted.asked - beginning.asked)
        if now.isWorse(than: before, atLeast: Limits.probationErrors) {
            former = nil
            let version = current.policy.version
            memory.rolledBack = fingerprint
            keep(last.file)
            writeMemory()
            switchTo(last.bundle, last.file.fingerprint, agent)
            problem = .rolledBack
            tagProblem = problem
            meters.bundlesRefused.add(1, at: BundleProblem.rolledBack.rawValue)
            let words = joined(
                joined("rules of version ", String(version), " failed ", String(now.failed)), " times in ",
                String(now.asked), " decisions")
            health.bundleIs(.stale, problem, words)
            tell(
                .error, "decisions failed: the bundle is taken back, and the one before is in force",
                BundleProblem.rolledBack.word, words)
            return true
        }
        if clock.monotonicNanoseconds() - switchedAt > Limits.probationMilliseconds * 1_000_000 { former = nil }
        return false
    }
}
