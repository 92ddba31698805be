// The command: draws histories by their seeds, lets devices live through them, each in a process of its own, and shortens
// the first in which a promise is broken. See Tools/torture.

import CSimulation
import Platform

struct Settings {
    var weeks = 100
    var seed: UInt64 = 1
    var jobs = 1
    var files: [String] = []
    var output: String?
    var isShowing = false
    var isStrict = false
    var minimises = true
}

func usage() -> Never {
    print(
        "usage: simulate [--weeks N] [--seed N] [--jobs N] [--history FILE]... [--keep FILE] [--show] [--strict] [--whole]")
    sim_exit(2)
}

func readSettings() -> Settings {
    var settings = Settings()
    var words = Array(CommandLine.arguments.dropFirst())
    while !words.isEmpty {
        let word = words.removeFirst()
        func value() -> String {
            if words.isEmpty { usage() }
            return words.removeFirst()
        }
        func number(from least: Int) -> Int {
            guard let number = Int(value()), number >= least else { usage() }
            return number
        }
        switch word {
        case "--weeks": settings.weeks = number(from: 1)
        case "--seed": settings.seed = UInt64(number(from: 0))
        case "--jobs": settings.jobs = number(from: 1)
        case "--history": settings.files.append(value())
        case "--keep": settings.output = value()
        case "--show": settings.isShowing = true
        case "--strict": settings.isStrict = true
        case "--whole": settings.minimises = false
        default: usage()
        }
    }
    return settings
}

/// What came of a history.
struct Outcome {
    /// nil: every promise was kept.
    var failure: String?
    var counts = Counts()
    /// Operations that have happened.
    var lived = 0
}

func folder() -> String {
    let place = Files.isFolder("/dev/shm") ? "/dev/shm" : "/tmp"
    return "\(place)/gatehouse-simulation-\(Process.identifier)"
}

func clean(_ folder: String) {
    for name in [
        "data.mdb", "lock.mdb", "gatehouse.lock", "live.yaml", "live.yaml.new", "bundle.yaml", "bundle.yaml.new", "crashed",
        "damaged", "mostly-free", "aside.mdb", "former.mdb", "compact/data.mdb", "compact/lock.mdb",
        "compact/gatehouse.lock",
    ] { Files.remove(folder + "/" + name) }
    Files.removeDirectory(folder + "/compact")
    Files.removeDirectory(folder)
}

/// Lets a device live through a history in this process.
func live(_ history: History, isShowing: Bool = false) -> Outcome {
    let folder = folder()
    clean(folder)
    let world = World(history, in: folder)
    world.isShowing = isShowing
    world.isStrict = settings.isStrict
    let violation = world.run()
    clean(folder)
    return Outcome(failure: violation?.text, counts: world.counts, lived: world.lived)
}

#if DEBUG
let secondsOfAWeek: UInt32 = 300
#else
let secondsOfAWeek: UInt32 = 60
#endif

/// The same in a process of its own, which may crash.
func liveApart(_ history: History) -> Outcome {
    var ends: [Int32] = [0, 0]
    if sim_pipe(&ends) != 0 { fatalError("no pipe") }
    let child = sim_fork()
    if child == 0 {
        // A week takes a fraction of a second, one of a busy device ten: what takes longer waits for what does not come.
        sim_limit(secondsOfAWeek)
        let outcome = live(history)
        var text = Array("\(outcome.counts.text) \(outcome.lived) \(outcome.failure ?? "")".utf8)
        text = Array(text.prefix(4000))
        let writing = Descriptor(owning: ends[1])
        try? writeAll(writing.raw, text.span)
        sim_exit(outcome.failure == nil ? 0 : 1)
    }
    do { _ = Descriptor(owning: ends[1]) }
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = sim_read(ends[0], &buffer, buffer.count)
        if count <= 0 { break }
        text += buffer[0..<count]
    }
    do { _ = Descriptor(owning: ends[0]) }
    var status: Int32 = 0
    _ = sim_wait(&status)
    let words = String(decoding: text, as: UTF8.self).split(separator: " ", maxSplits: 2)
    var outcome = Outcome()
    if words.count > 1 { (outcome.counts, outcome.lived) = (Counts(words[0]), Int(words[1]) ?? 0) }
    if status != 0 {
        let hangs = status == 256 + 14 || status == 256 + 27
        let end = hangs ? "P5: the agent hangs" : "P6: the agent ended by signal \(status - 256)"
        outcome.failure = words.count > 2 ? String(words[2]) : end
    }
    return outcome
}

/// What a failure is about, without the numbers in it.
func kind(_ failure: String) -> String { String(failure.filter { !$0.isNumber }.prefix(40)) }

/// The shortest history that still breaks the same promise: operations are left out, many at first, then each by itself.
func minimise(_ history: History, _ promise: String) -> History {
    var shortest = history
    // What came later did nothing.
    let lived = liveApart(history).lived
    if lived > 0 { shortest.operations.removeSubrange(min(lived, shortest.operations.count)...) }
    var size = max(1, shortest.operations.count / 2)
    while true {
        var start = 0
        var hasChanged = false
        while start < shortest.operations.count {
            var other = shortest
            other.operations.removeSubrange(start..<min(start + size, other.operations.count))
            if let failure = liveApart(other).failure, kind(failure) == kind(promise) {
                shortest = other
                hasChanged = true
            } else {
                start += size
            }
        }
        if size == 1, !hasChanged { return shortest }
        if !hasChanged || size > 1 { size = max(1, size / 2) }
    }
}

func report(_ history: History, _ failure: String, _ settings: Settings) {
    print("seed \(history.seed): \(failure)")
    var shortest = history
    if settings.minimises {
        shortest = minimise(history, failure)
        let again = liveApart(shortest).failure ?? failure
        let counts = "\(shortest.operations.count) of \(history.operations.count)"
        print("the shortest history that still fails (\(counts)): \(again)")
    }
    print(shortest.text, terminator: "")
    if let output = settings.output { try? Files.replace(output, with: Array(shortest.text.utf8), mode: 0o644) }
}

/// Plays a history that was kept.
func play(_ file: String) -> Int32 {
    guard let text = try? Files.read(file, limitBytes: 16 << 20) else {
        print("\(file): it cannot be read")
        return 2
    }
    let history: History
    do { history = try History(text: String(decoding: text, as: UTF8.self)) } catch {
        print("\(file):\(error.number): this is no operation: \(error.text)")
        return 2
    }
    let outcome = settings.isShowing ? live(history, isShowing: true) : liveApart(history)
    print("\(file): \(outcome.failure ?? "every promise was kept")")
    return outcome.failure == nil ? 0 : 1
}

func run() -> Int32 {
    var worst: Int32 = 0
    for file in settings.files { worst = max(worst, play(file)) }
    if !settings.files.isEmpty { return worst }
    return settings.jobs == 1 ? work(settings, job: 0) : share(settings)
}

/// Several processes side by side, each with every so-many-th seed.
func share(_ settings: Settings) -> Int32 {
    for job in 0..<settings.jobs where sim_fork() == 0 { sim_exit(work(settings, job: job)) }
    var worst: Int32 = 0
    for _ in 0..<settings.jobs {
        var status: Int32 = 0
        _ = sim_wait(&status)
        worst = max(worst, status)
    }
    return worst
}

func work(_ settings: Settings, job: Int) -> Int32 {
    let begin = sim_real_seconds()
    var (weeks, counts, shownAt) = (0, Counts(), begin)
    var index = job
    while index < settings.weeks {
        let seed = settings.seed &+ UInt64(index)
        let history = History.draw(seed: seed, weeks: 1)
        let outcome = liveApart(history)
        if let failure = outcome.failure {
            report(history, failure, settings)
            return 1
        }
        weeks += 1
        counts.add(outcome.counts)
        index += settings.jobs
        if sim_real_seconds() - shownAt > 30 {
            shownAt = sim_real_seconds()
            print("\(weeks) device-weeks: \(counts.words), \(Int(shownAt - begin)) s")
        }
    }
    let seconds = sim_real_seconds() - begin
    let each = Int(seconds * 1000 / Double(max(1, weeks)))
    print("\(weeks) device-weeks: \(counts.words); every promise was kept; \(Int(seconds)) s, \(each) ms a week")
    return 0
}

let settings = readSettings()
sim_exit(run())
