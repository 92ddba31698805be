// The world around a simulated device: its power and its clock, those who use it, and what they know to expect. Whatever the
// device answers well they hold it to, by the promises of the design (P1–P10); the first that is broken ends the history.

import Collection
import CSimulation
import Cryptography
import Formats
import Platform
import Unification

@testable import Agent
@testable import Delivery
@testable import Serving
@testable import Store

/// A promise that was not kept.
struct Violation: Error {
    let promise: String
    let words: String
    var text: String { "\(promise): \(words)" }
}

/// What was asked, for when the answer comes.
enum Call {
    case event(Int)
    /// An event that is sent once more.
    case again(Int)
    case choice(person: Int, isGranted: Bool, isEvent: Bool)
    case erasure(person: Int, life: Int)
    case other(Int)
}

/// An event as its client knows it.
struct Sent {
    let person: Int
    let kind: EventKind
    let value: Int
    let life: Int
    let request: [UInt8]
    var isAnswered = false
    /// When it was sent last its person had granted everything, and it was known that the device had kept that.
    var isExpected = false
    /// Each time that it was sent its person had refused everything, and it was known that the device had kept that.
    var isForbidden = true
    /// The client gives up: the answer was that it is wrong, or its person was erased.
    var isOver = false
}

/// A person as those who know them do.
struct Person {
    /// All purposes: an answered refusal, or an answered grant; nil: it is not certain.
    var isGranting: Bool?
    /// They have granted something once. Of somebody who is not known a refusal is not kept.
    var isKnown = false
    /// Counts up when somebody who was erased comes back.
    var life = 1
    /// Up to which life all was erased, as was answered.
    var erasedLife = 0
    /// A choice of theirs that is to be answered with 200 before it counts; it is sent again until then.
    var owed: Bool?
}

/// How much has happened, so that a reader sees that something has.
struct Counts {
    private static let names = [
        "events", "requests to hubs", "power cuts", "starts", "failing disks", "lies of disks", "erasures", "evicted events",
    ]
    private var numbers = [Int](repeating: 0, count: names.count)

    init() {}

    /// Reads what `text` has written.
    init(_ text: Substring) {
        let words = text.split(separator: ",")
        for index in numbers.indices where index < words.count { numbers[index] = Int(words[index]) ?? 0 }
    }

    init(_ numbers: [Int]) { self.numbers = numbers }

    var text: String { numbers.map { String($0) }.joined(separator: ",") }
    var words: String { zip(numbers, Counts.names).map { "\($0) \($1)" }.joined(separator: ", ") }

    mutating func add(_ other: Counts) {
        for index in numbers.indices { numbers[index] += other.numbers[index] }
    }
}

final class World {
    let history: History
    private let folder: String
    private let configuration = Configuration()
    private let pepper: Peppers
    private var device: Device?
    private let hubs = [Hub("hub"), Hub("crm")]
    private var events: [Int: Sent] = [:]
    /// Numbers of events that are to be sent until they are answered, oldest first.
    private var unanswered: [Int] = []
    private var people = [Person](repeating: Person(), count: History.people.count)
    private var calls: [Int: Call] = [:]
    private var nextMark = 1
    private(set) var violation: Violation?
    private var starts: UInt64 = 0
    /// The version of the last good bundle, and its text.
    private var version = 1
    private var bundle = Bundles.first
    private var handedIn: UInt64 = 0
    private var answered: UInt64 = 0
    /// The disk has said of something that it is durable, and it was not.
    private(set) var hasLied = false
    private var wasOff = false
    private var wasJumping = false
    private var wasFailing = false
    private var cuts = 0
    private var failures = 0
    private var lies = 0
    private var erasures = 0
    private var evicted = 0
    var isShowing = false
    /// What a lying disk has lost is a promise that was not kept, as anything else is.
    var isStrict = false
    /// Operations that have happened.
    private(set) var lived = 0

    var isCut: Bool { sim_is_cut() != 0 }

    var counts: Counts {
        Counts([
            events.count, hubs[0].requests + hubs[1].requests, cuts, Int(starts), failures, lies, erasures, evicted,
        ])
    }

    init(_ history: History, in folder: String) {
        self.history = history
        self.folder = folder
        pepper = Peppers(key: [UInt8](repeating: 7, count: 32))
        configuration.data = folder
        configuration.bundle = folder + "/live.yaml"
        configuration.diskBytes = history.diskBytes
        configuration.snapshots = 0
    }

    func hub(_ name: [UInt8]) -> Hub { hubs[name == Array("crm".utf8) ? 1 : 0] }

    func fail(_ promise: String, _ words: String) {
        // Where the disk has lied nobody can keep what needs it: what is left is to go on, and to say nothing to strangers.
        if hasLied, !isStrict, !["P3", "P5", "P6"].contains(where: { Array($0.utf8) == Array(promise.utf8) }) { return }
        if violation == nil { violation = Violation(promise: promise, words: words) }
    }

    // MARK: Raw identifiers

    /// In every raw identifier, and nowhere else.
    static let rawMark = Array("rawq".utf8)
    static func user(_ person: Int) -> String { "rawquser\(person)" }
    static func email(_ person: Int) -> String { "rawqmail\(person)@example.org" }

    func holdsRaw(_ bytes: [UInt8]) -> Bool { World.find(World.rawMark, in: bytes) }

    static func find(_ sought: [UInt8], in bytes: [UInt8]) -> Bool {
        sim_find(bytes, bytes.count, sought, sought.count) != 0
    }

    // MARK: A life

    /// Lets all of it happen.
    /// - Returns: the first promise that was broken.
    func run() -> Violation? {
        sim_begin(folder + "/data.mdb", history.seed)
        // 2026-01-31T12:00:00Z
        sim_jump(1_769_860_800_000)
        sim_show_log(isShowing ? 1 : 0)
        try? Files.makeDirectory(folder)
        writeBundle(bundle)
        // Here and not in closures of a device: they find whichever there is.
        World.current = self
        sim_when_waiting = { World.current?.device?.write() }
        sim_when_cut = { World.current?.device?.hear() }
        start()
        keepBundle()
        for operation in history.operations {
            if violation != nil { break }
            lived += 1
            if isShowing { print("— \(operation.text)") }
            perform(operation)
            settle()
        }
        if violation == nil { finish() }
        device = nil
        World.current = nil
        return violation
    }

    nonisolated(unsafe) private static var current: World?

    func pass(milliseconds: Int64) { sim_pass(milliseconds * 1_000_000) }

    private func perform(_ operation: Operation) {
        switch operation {
        case .event(let person, let kind, let value, let number, let way, let grants):
            if events[number] != nil { return }
            events[number] = make(person, kind, value, number, way, grants)
            unanswered.append(number)
            send(number)
        case .again(let number):
            guard let event = events[number], event.isAnswered, !event.isOver else { return }
            noteConsent(number)
            call(event.request, .again(number))
        case .choose(let person, let isGranted, let way): choose(person, isGranted, way)
        case .erase(let person): erase(person)
        case .ask(let person): ask(person)
        case .read(let person): call(request("GET", "/v1/profiles/user_id:\(World.user(person))", ""), .other(person))
        case .pass(let milliseconds): pass(in: milliseconds)
        case .jump(let milliseconds):
            sim_jump(milliseconds)
            wasJumping = true
        case .cut(let calls, let seed): sim_cut(calls, seed)
        case .fail(let calls, let count, let code):
            sim_fail(calls, count, Int32(code))
            wasFailing = true
            failures += 1
        case .lie(let syncs):
            sim_lie(syncs)
            hasLied = true
            lies += 1
        case .weather(let number, let weather, let seed):
            hubs[number].weather = weather
            hubs[number].random = SeededRandom(seed: seed)
            if weather == .picky { hubs[number].wasPicky = true }
        case .restart(let isCompacting, let offFor): restart(isCompacting, offFor)
        case .bundle(let number): offer(number)
        case .noise(let seed): call(noise(seed), .other(-1))
        case .check: check()
        }
        device?.turn()
    }

    /// Whatever has ended the device starts it again.
    private func settle() {
        var attempts = 0
        while isCut || sim_has_terminated() != 0 || device == nil, violation == nil {
            let wasCut = isCut
            if wasCut { cuts += 1 }
            end()
            if wasCut, sim_restore() != 0 { fatalError("the simulated disk cannot be written") }
            // What a disk that lies has left may end the process, which leaves word. Here that word comes before.
            if wasCut, hasLied { try? Files.replace(folder + "/crashed", with: [], mode: 0o600) }
            start()
            attempts += 1
            if attempts > 8 {
                sim_fail(0, 0, 0)
                if attempts > 20 { return fail("P6", "the device does not start any more: \(startFailure)") }
                pass(milliseconds: 1000)
            }
        }
        examineLog()
    }

    private var startFailure = ""
    /// Since when decisions are not answered, nanoseconds of the monotonic clock.
    private var undecidedSince: Int64?

    /// The device is gone; what was asked of it has no answer.
    private func end() {
        device = nil
        calls.removeAll()
    }

    private func start() {
        starts += 1
        do throws(StartFailure) {
            let started = try Device(configuration, self, pepper: pepper, seed: history.seed &+ starts)
            device = started
            if isCut { return }
            if started.rebuilds > 0 { fail("P1", "the store was taken for damaged and replaced") }
            let inForce = Int(started.bundles.current.version)
            if inForce != version {
                fail("P9", "bundle \(inForce) is in force after a start; the last good one was \(version)")
            }
            examineStore(started)
        } catch {
            startFailure = error.message
        }
    }

    /// A start finds that the store may be damaged, or is.
    func looks(_ isDamaged: Bool) {
        if isDamaged { fail("P1", "the store is damaged") }
        do throws(StoreError) { try StoreFile(folder + "/data.mdb").check(isDeep: true) } catch {
            fail("P1", "the store is damaged: \(error.message)")
        }
    }

    private func restart(_ isCompacting: Bool, _ offFor: Int64) {
        guard let stopping = device, !isCut else { return }
        stopping.turn()
        if isCut { return }
        let answers = History.steady.map { decision($0) }
        stopping.stop()
        if isCut { return }
        end()
        if isCompacting {
            do throws(StoreError) {
                _ = try Database.compact(folder: folder, try StoreLock(folder))
                if !isCut { sim_settle() }
                examineCompacted()
            } catch {}
        }
        if isCut { return }
        if offFor > 0 { wasOff = true }
        pass(milliseconds: offFor)
        start()
        // The same store, the same bundle and the same person: the same answer.
        if device != nil, !isCut, offFor == 0, violation == nil {
            for (person, answer) in zip(History.steady, answers) {
                let again = decision(person)
                if Array(again.utf8) != Array(answer.utf8) {
                    fail("P9", "person \(person) was served \(answer), and after a restart \(again)")
                }
            }
        }
    }

    /// Time goes on in steps, in which everybody does what is due and clients send what has no answer.
    private func pass(in milliseconds: Int64) {
        var left = milliseconds
        while left > 0, violation == nil {
            let step = min(left, 10 * History.minute)
            left -= step
            pass(milliseconds: step)
            sendAgain(atMost: step < History.minute ? 2 : 20)
            device?.turn()
            // The sweeper works in small steps, and rests between them.
            for _ in 0..<(step >= 10 * History.minute ? 3 : 0) where !isCut {
                pass(milliseconds: 60)
                device?.write()
            }
            settle()
        }
    }

    private func sendAgain(atMost most: Int) {
        unanswered.removeAll { events[$0].map { $0.isAnswered || $0.isOver } ?? true }
        for number in unanswered.prefix(most) where device != nil && !isCut { send(number) }
        for person in people.indices {
            if let owed = people[person].owed { choose(person, owed, 0) }
        }
    }

    // MARK: Calls

    private func request(_ method: String, _ path: String, _ body: String, type: String = "application/json") -> [UInt8] {
        let head = "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nContent-Type: \(type)\r\n"
        return Array("\(head)Content-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
    }

    private func call(_ request: [UInt8], _ call: Call) {
        guard let device, !isCut else { return }
        let mark = nextMark
        nextMark = nextMark % 1_000_000 + 1
        calls[mark] = call
        if case .event = call { handedIn += 2 }
        if case .again = call { handedIn += 2 }
        if let answer = device.handle(request, mark: mark) { hears(mark, answer.status, answer.body) }
    }

    /// An answer has come.
    func hears(_ mark: Int, _ status: Int, _ body: [UInt8]) {
        if isCut { return }
        guard let call = calls.removeValue(forKey: mark) else { return }
        if holdsRaw(body) { fail("P3", "an answer holds a raw identifier") }
        if status == 500 { fail("P6", "an answer says 500: \(String(decoding: body, as: UTF8.self))") }
        let isDone = status < 300
        switch call {
        case .event(let number), .again(let number):
            if status != 503 { answered += 1 }
            if isDone { events[number]?.isAnswered = true }
            if status == 400 || status == 413 {
                events[number]?.isOver = true
                if let event = events[number], event.kind != .bad {
                    fail("P6", "event \(number) was answered \(status): \(String(decoding: body, as: UTF8.self))")
                }
            }
        case .choice(let person, let isGranted, let isEvent):
            if isDone {
                people[person].isKnown = people[person].isKnown || isGranted
                people[person].isGranting = isGranted || people[person].isKnown ? isGranted : nil
                people[person].owed = nil
            } else if status == 404, !isGranted {
                people[person].owed = nil
            } else if !isEvent, history.diskBytes < History.plenty, status == 503, !wasFailing {
                fail("P6", "a choice was refused on a full disk")
            }
        case .erasure(let person, let life):
            if isDone {
                erasures += 1
                people[person].erasedLife = max(people[person].erasedLife, life)
                people[person].isGranting = nil
            } else if history.diskBytes < History.plenty, status == 503, !wasFailing {
                fail("P6", "an erasure was refused on a full disk")
            }
        case .other: break
        }
    }

    private func make(_ person: Int, _ kind: EventKind, _ value: Int, _ number: Int, _ way: Int, _ grants: Bool) -> Sent {
        let life = people[person].life
        var context = ""
        if grants, !History.silent.contains(person) {
            let choices = #"{"analytics":true,"personalization":true,"advertising":true}"#
            context = #","context":{"consent":{"categoryPreferences":\#(choices)}}"#
        }
        let kiosk = value % 3 == 0 ? #","anonymousId":"rawqkiosk"# + "\(value % 2)\"" : ""
        let note = World.note(person, life) + String(number)
        let marks = #""number":\#(number),"person":\#(person),"life":\#(life),"note":"\#(note)""#
        let head = #""userId":"\#(World.user(person))","messageId":"message-\#(number)"\#(kiosk)\#(context)"#
        let name: String
        var properties = marks
        switch kind {
        case .order: (name, properties) = ("Order Completed", marks + #","revenue":\#(value)"#)
        case .bad: (name, properties) = ("Order Completed", marks + #","revenue":"much""#)
        case .add: name = "Product Added"
        case .view: name = "Product Viewed"
        case .unplanned: name = "Something Else"
        case .identify:
            let body = #"{"type":"identify",\#(head),"traits":{"email":"\#(World.email(person))",\#(marks)}}"#
            return sent(request("POST", "/v1/identify", body))
        }
        // What fills a small disk.
        if history.diskBytes < History.plenty, kind == .view || kind == .add {
            properties += ",\"filler\":\"\(String(repeating: "x", count: 3000))\""
        }
        func sent(_ request: [UInt8]) -> Sent {
            Sent(person: person, kind: kind, value: value, life: life, request: request)
        }
        let event = #"{"type":"track",\#(head),"event":"\#(name)","properties":{\#(properties)}}"#
        switch way {
        // A client that says everything twice.
        case 1: return sent(request("POST", "/v1/batch", #"{"batch":[\#(event),\#(event)]}"#))
        case 2:
            let body =
                #"{"specversion":"1.0","id":"\#(number)","source":"/till","type":"com.example.track","data":\#(event)}"#
            return sent(request("POST", "/v1/events", body, type: "application/cloudevents+json"))
        case 3: return sent(request("POST", "/v1/decide", #"{"event":\#(event),"decisions":["offer"]}"#))
        default: return sent(request("POST", "/v1/track", event))
        }
    }

    /// In each event of one life of a person.
    static func note(_ person: Int, _ life: Int) -> String { "mark-\(person)-\(life)-" }

    private func send(_ number: Int) {
        guard let event = events[number], !event.isAnswered, !event.isOver else { return }
        noteConsent(number)
        call(event.request, .event(number))
    }

    private func noteConsent(_ number: Int) {
        let isGranting = people[events[number]!.person].isGranting
        if !events[number]!.isAnswered { events[number]!.isExpected = isGranting == true }
        if isGranting != false { events[number]!.isForbidden = false }
    }

    private func choose(_ person: Int, _ isGranted: Bool, _ way: Int) {
        guard device != nil, !isCut else {
            if History.steady.contains(person) { people[person].owed = isGranted }
            return
        }
        if isGranted, people[person].erasedLife == people[person].life {
            people[person].life += 1
            // What was of the life before nobody sends any more.
            for number in events.keys where events[number]!.person == person { events[number]!.isOver = true }
        }
        // Until there is an answer nobody knows.
        if isGranted || people[person].isGranting != false { people[person].isGranting = nil }
        people[person].owed = isGranted
        let choices = #"{"analytics":\#(isGranted),"personalization":\#(isGranted),"advertising":\#(isGranted)}"#
        if way == 0 {
            call(
                request("PUT", "/v1/profiles/user_id:\(World.user(person))/consent", choices),
                .choice(person: person, isGranted: isGranted, isEvent: false))
        } else {
            let number = "choice-\(nextMark)-\(starts)-\(sim_monotonic())"
            let body = """
                {"type":"track","userId":"\(World.user(person))","messageId":"\(number)",
                "event":"Segment Consent Preference Updated","properties":{"person":\(person)},
                "context":{"consent":{"categoryPreferences":\(choices)}}}
                """
            handedIn += 1
            call(request("POST", "/v1/track", body), .choice(person: person, isGranted: isGranted, isEvent: true))
        }
        device?.turn()
    }

    private func erase(_ person: Int) {
        // Whether or not there is an answer: what was before nobody sends any more. Of the erased repeats are not known.
        for number in events.keys where events[number]!.person == person { events[number]!.isOver = true }
        call(
            request("DELETE", "/v1/profiles/user_id:\(World.user(person))", ""),
            .erasure(person: person, life: people[person].life))
        device?.turn()
    }

    private func ask(_ person: Int) { _ = decision(person) }

    /// - Returns: the variant that a person is served.
    private func decision(_ person: Int) -> String {
        guard let device, !isCut else { return "" }
        let question = request(
            "POST", "/ofrep/v1/evaluate/flags/offer", #"{"context":{"targetingKey":"\#(World.user(person))"}}"#)
        let answer = device.handle(question, mark: nextMark) ?? (500, [])
        if answer.status != 200 {
            // A disk that fails may end the agent, which is then started again.
            let since = undecidedSince ?? sim_monotonic()
            undecidedSince = since
            if !wasFailing || sim_monotonic() - since > 60_000_000_000 {
                fail("P6", "decisions are not answered: \(String(decoding: answer.body, as: UTF8.self))")
            }
            return ""
        }
        undecidedSince = nil
        if holdsRaw(answer.body) { fail("P3", "a decision's answer holds a raw identifier") }
        var document = JSONDocument()
        guard (try? document.parse(answer.body.span)) != nil,
            let variant = document.member(document.root, "variant").flatMap({ document.string($0) })
        else { return "?" }
        let hasRefused = History.wavering.contains(person) && people[person].isGranting == false
        if hasRefused || History.silent.contains(person), Array(variant.utf8) != Array("none".utf8) {
            fail("P4", "person \(person), who \(hasRefused ? "has refused" : "has granted nothing"), is served \(variant)")
        }
        return variant
    }

    private func noise(_ seed: UInt64) -> [UInt8] {
        var random = SeededRandom(seed: seed)
        let bodies = [
            "{", "[]", "null", #"{"userId":5}"#, #"{"type":"track","event":"x","userId":"rawq\u0000","properties":[[[[[[[["#,
            #"{"batch":[{"type":"track"},{"type":"page","userId":"rawqx"}]}"#, #"{"batch":{}}"#, #"{"a":1e999,"a":2}"#,
            #"{"event":{},"decisions":["none","offer"]}"#, String(repeating: "[", count: 5000),
            String(repeating: "x", count: 40_000),
        ]
        let paths = [
            "/v1/track", "/v1/batch", "/v1/events", "/v1/decide", "/v1/profiles/user_id:rawq%00/consent", "/v1/profiles/%zz",
            "/ofrep/v1/evaluate/flags", "/v1/quarantine", "/metrics", "/v1/identify",
        ]
        let methods = ["POST", "PUT", "DELETE", "GET"]
        var bytes = request(
            methods[Int(random.next(below: 4))], paths[Int(random.next(below: UInt64(paths.count)))],
            bodies[Int(random.next(below: UInt64(bodies.count)))])
        if random.next(below: 2) == 0 {
            for _ in 0..<3 { bytes[Int(random.next(below: UInt64(bytes.count)))] = UInt8(truncatingIfNeeded: random.next()) }
        }
        // What of it is an event counts as one that came.
        handedIn += 2
        return bytes
    }

    // MARK: Bundles

    private func writeBundle(_ text: String) {
        do throws(SystemError) { try Files.replace(folder + "/live.yaml", with: Array(text.utf8), mode: 0o600) } catch {
            fatalError("the bundle cannot be written")
        }
    }

    private func keepBundle() {
        let file = BundleFile(text: Array(bundle.utf8), takenAt: sim_wall())
        do throws(SystemError) { try file.keep(folder) } catch { fatalError("the bundle cannot be kept") }
    }

    private func offer(_ number: Int) {
        guard let device, !isCut else { return }
        let (isGood, text) = Bundles.text(number, version: version + 1)
        writeBundle(text)
        do throws(BundleRefusal) {
            let next = try BundleSource.check(Array(text.utf8), "live.yaml", now: sim_wall())
            if Int(next.version) < version {
                if isGood { fail("P9", "a newer bundle was taken for an older one") }
                // Without a signature the file is its owner's word at a start.
                return writeBundle(bundle)
            }
            if !isGood { return fail("P9", "a bundle that is wrong (\(number)) was found good") }
            (version, bundle) = (version + 1, text)
            keepBundle()
            do throws(StartFailure) { try device.put(next) } catch { end() }
        } catch {
            if isGood { fail("P9", "a good bundle (\(number)) was refused: \(error.words)") }
        }
    }

    // MARK: Promises

    /// A destination is being sent a message.
    func sees(_ message: Received, at hub: Hub) {
        let person = message.person
        guard people.indices.contains(person) else { return }
        if History.silent.contains(person) {
            fail("P4", "\(hub.name) was sent an event of somebody who has granted nothing")
        }
        if History.wavering.contains(person), people[person].isGranting == false {
            fail("P4", "\(hub.name) was sent event \(message.number) of person \(person), who has refused")
        }
        if message.life > 0, message.life <= people[person].erasedLife {
            fail("P8", "\(hub.name) was sent event \(message.number) of person \(person), who was erased")
        }
    }

    private func examineLog() {
        var count = 0
        guard let text = sim_log(&count), count > 0 else { return }
        let bytes = (0..<count).map { UInt8(bitPattern: text[$0]) }
        if holdsRaw(bytes) { fail("P3", "the log holds a raw identifier: \(String(decoding: bytes, as: UTF8.self))") }
        sim_forget_log()
    }

    private func readStore() -> [UInt8] { (try? Files.read(folder + "/data.mdb", limitBytes: 256 << 20)) ?? [] }

    /// What a store must show at each start, whatever was before.
    private func examineStore(_ device: Device) {
        let bytes = readStore()
        if holdsRaw(bytes) { fail("P3", "the store holds a raw identifier") }
        for person in History.silent where World.find(Array(World.note(person, 1).utf8), in: bytes) {
            fail("P4", "the store holds an event of person \(person), who has granted nothing")
        }
        if Int64(bytes.count) > history.diskBytes { fail("P6", "the store is larger than it may be") }
        do throws(StoreError) { try Audit(device: device, pepper: pepper, world: self).run(events) } catch {
            fail("P1", "the store cannot be read: \(error.message)")
        }
    }

    /// After the store was written anew.
    private func examineCompacted() {
        let bytes = readStore()
        if holdsRaw(bytes) { fail("P3", "the store holds a raw identifier after it was written anew") }
        for person in History.erased {
            for life in 1...people[person].life where life <= people[person].erasedLife {
                if World.find(Array(World.note(person, life).utf8), in: bytes) {
                    fail("P8", "the store that was written anew holds something of person \(person), who was erased")
                }
            }
        }
    }

    private func check() {
        device?.turn()
        guard let device, !isCut else { return }
        examineStore(device)
        if let answer = device.handle(request("GET", "/metrics", ""), mark: 0) {
            if answer.status != 200 { fail("P7", "there are no metrics") }
            if holdsRaw(answer.body) { fail("P3", "the metrics hold a raw identifier") }
        }
        let received = accounts?.received ?? 0
        if received < answered { fail("P7", "\(answered) events were answered, and the accounts know of \(received)") }
        if received > handedIn { fail("P7", "\(handedIn) events were sent, and the accounts know of \(received)") }
        for hub in hubs {
            for (number, places) in hub.places where places.count > 1 {
                fail("P2", "\(hub.name) has event \(number) under \(places.count) numbers")
            }
        }
    }

    private var accounts: Ledger? {
        guard let device, var reader = try? device.database.makeReader(), (try? reader.begin()) != nil else { return nil }
        return try? Ledger(reader)
    }

    private func destination(_ name: String) -> DestinationLedger? {
        guard let device, var reader = try? device.database.makeReader(), (try? reader.begin()) != nil else { return nil }
        return (try? DestinationLedger(reader, name: Array(name.utf8))) ?? nil
    }

    /// All goes well from here on, for days: then everything must have arrived. In every third life one destination is away for
    /// longer, which keeps nothing from the other.
    private func finish() {
        let isCRMAway = history.seed % 3 == 0
        hubs[0].weather = .up
        hubs[1].weather = isCRMAway ? .down : .up
        sim_cut(0, 0)
        sim_fail(0, 0, 0)
        pass(in: 2 * History.day)
        drain(isCRMAway ? [hubs[0]] : hubs)
        if isCRMAway {
            examine(hubs[0])
            hubs[1].weather = .up
            drain(hubs)
        }
        check()
        if violation != nil { return }
        for hub in hubs { examine(hub) }
        // Where room was short the log does not tell of all any more.
        if let device, history.diskBytes >= History.plenty, !wasFailing {
            let areAllDue = !wasOff && !wasJumping
            do throws(StoreError) {
                let fired = try Audit(device: device, pepper: pepper, world: self).triggers(areAllDue: areAllDue)
                for person in History.steady where !hubs[1].wasPicky {
                    let (made, came) = (fired[person] ?? 0, hubs[1].firedTriggers[person] ?? 0)
                    if made == came { continue }
                    fail("P2", "a trigger of person \(person) fired \(made) times, and crm had it \(came) times")
                }
            } catch {
                fail("P1", "the store cannot be read: \(error.message)")
            }
        }
    }

    /// Lets time pass until destinations have all that is for them, at most two weeks.
    private func drain(_ hubs: [Hub]) {
        for _ in 0..<2000 where violation == nil {
            let isDone = unanswered.isEmpty && hubs.allSatisfy { hub in
                guard let ledger = destination(hub.name), let next = accounts?.nextSequence else { return false }
                return ledger.queued(next: next) == 0
            }
            if isDone { return }
            pass(in: 10 * History.minute)
        }
    }

    /// A destination has everything that was answered and is for it: `crm` orders alone.
    private func examine(_ hub: Hub) {
        if violation != nil { return }
        let isWhole = history.diskBytes >= History.plenty
        let isCRM = hub === hubs[1]
        let ledger = destination(hub.name)
        let gone = Int(ledger?.evicted ?? 0)
        if !isCRM { evicted = gone }
        var missing = 0
        for (number, event) in events.sorted(by: { $0.key < $1.key }) where History.steady.contains(event.person) {
            if !event.isAnswered, !event.isOver, isWhole { fail("P6", "event \(number) is never answered") }
            guard event.isAnswered, event.isExpected else { continue }
            let count = hub.places[number]?.count ?? 0
            if event.kind == .bad {
                if count > 0 { fail("P2", "\(hub.name) has event \(number), which was set aside") }
                continue
            }
            if isCRM, event.kind != .order {
                if count > 0 { fail("P2", "\(hub.name) has event \(number) (\(event.kind.rawValue)), which is not for it") }
                continue
            }
            if count == 1 || hub.wasPicky && number % 17 == 13 { continue }
            // What made room on a full disk is counted; nothing of priority 9 does.
            missing += 1
            if event.kind != .order, missing <= gone { continue }
            fail("P2", "\(hub.name) has not received event \(number) (\(event.kind.rawValue)), which was answered")
        }
        let due = people.reduce(0) { $0 + $1.erasedLife }
        if hub.notices < due { fail("P8", "\(hub.name) was told of \(hub.notices) erasures, and \(due) were answered") }
        if let ledger, let next = accounts?.nextSequence, ledger.queued(next: next) > 0 {
            fail("P2", "\(hub.name) still has \(ledger.queued(next: next)) events to come after days of good weather")
        }
    }
}
