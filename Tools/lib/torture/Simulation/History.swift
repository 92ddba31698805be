// What happens to a device, as data: a list of operations that is drawn by a seed, written as lines of text, and shortened
// to the few that matter. It need not know what comes of them.

import Platform

/// What a client reports.
enum EventKind: String, CaseIterable {
    case order, add, view, identify, bad, unplanned
}

/// How a destination's network is.
enum Weather: String, CaseIterable {
    /// All is well.
    case up
    /// Nobody can be reached.
    case down
    /// Requests and answers are lost, come twice and come late.
    case lossy
    /// The hub answers 500, 429 with Retry-After, or 503, now and then.
    case busy
    /// The hub takes five events at most: 413.
    case narrow
    /// The hub refuses events of value 13: 400.
    case picky
}

/// One thing that happens.
enum Operation: Equatable {
    /// A client reports an event: the person's number, its kind, a value, the event's number, how it is sent (0 alone, 1
    /// twice in a batch, 2 as a CloudEvent, 3 with a question, `POST /v1/decide`), and whether the person's SDK reports a grant.
    case event(Int, EventKind, Int, Int, way: Int, grants: Bool)
    /// The same event is sent once more though it was answered.
    case again(Int)
    /// A person makes a choice by the API, or by an event that says so: granted or refused.
    case choose(Int, Bool, Int)
    case erase(Int)
    case ask(Int)
    case read(Int)
    /// Milliseconds go by.
    case pass(Int64)
    /// The device's clock is set, by milliseconds.
    case jump(Int64)
    /// The power fails at the so-many-th call to the disk from now.
    case cut(UInt64, UInt64)
    /// So many calls to the disk fail by an error, from the so-many-th on.
    case fail(UInt64, UInt64, Int)
    /// So many syncs say that they are done, and are not.
    case lie(UInt64)
    case weather(Int, Weather, UInt64)
    /// The device is stopped in order and started again; with its store written anew, or after it was off for so long.
    case restart(isCompacting: Bool, offFor: Int64)
    /// Another bundle is offered; see Bundles.swift.
    case bundle(Int)
    /// A client sends what is no request.
    case noise(UInt64)
    /// All that was promised is held against what is there.
    case check

    var text: String {
        switch self {
        case .event(let person, let kind, let value, let number, let way, let grants):
            "event \(person) \(kind.rawValue) \(value) \(number) \(way) \(grants ? 1 : 0)"
        case .again(let number): "again \(number)"
        case .choose(let person, let isGranted, let way): "choose \(person) \(isGranted ? 1 : 0) \(way)"
        case .erase(let person): "erase \(person)"
        case .ask(let person): "ask \(person)"
        case .read(let person): "read \(person)"
        case .pass(let milliseconds): "pass \(milliseconds)"
        case .jump(let milliseconds): "jump \(milliseconds)"
        case .cut(let calls, let seed): "cut \(calls) \(seed)"
        case .fail(let calls, let count, let code): "fail \(calls) \(count) \(code)"
        case .lie(let syncs): "lie \(syncs)"
        case .weather(let destination, let weather, let seed): "weather \(destination) \(weather.rawValue) \(seed)"
        case .restart(let isCompacting, let offFor): "restart \(isCompacting ? 1 : 0) \(offFor)"
        case .bundle(let number): "bundle \(number)"
        case .noise(let seed): "noise \(seed)"
        case .check: "check"
        }
    }

    init?(_ line: Substring) {
        let words = line.split(separator: " ").map(String.init)
        func int(_ index: Int) -> Int { index < words.count ? Int(words[index]) ?? 0 : 0 }
        func number(_ index: Int) -> UInt64 { index < words.count ? UInt64(words[index]) ?? 0 : 0 }
        switch words.first {
        case "event":
            guard words.count == 7, let kind = EventKind(rawValue: words[2]) else { return nil }
            self = .event(int(1), kind, int(3), int(4), way: int(5), grants: int(6) == 1)
        case "again": self = .again(int(1))
        case "choose": self = .choose(int(1), int(2) == 1, int(3))
        case "erase": self = .erase(int(1))
        case "ask": self = .ask(int(1))
        case "read": self = .read(int(1))
        case "pass": self = .pass(Int64(int(1)))
        case "jump": self = .jump(Int64(int(1)))
        case "cut": self = .cut(number(1), number(2))
        case "fail": self = .fail(number(1), number(2), int(3))
        case "lie": self = .lie(number(1))
        case "weather":
            guard words.count == 4, let weather = Weather(rawValue: words[2]) else { return nil }
            self = .weather(int(1), weather, number(3))
        case "restart": self = .restart(isCompacting: int(1) == 1, offFor: Int64(int(2)))
        case "bundle": self = .bundle(int(1))
        case "noise": self = .noise(number(1))
        case "check": self = .check
        default: return nil
        }
    }
}

/// A line of a history that is none.
struct UnknownLine: Error {
    let number: Int
    let text: String
}

/// The life of one device.
struct History {
    /// Of whatever the device draws itself.
    var seed: UInt64
    /// Bytes that its store may take.
    var diskBytes: Int64
    var operations: [Operation]

    var text: String {
        "seed \(seed)\ndisk \(diskBytes)\n" + operations.map { $0.text + "\n" }.joined()
    }

    init(seed: UInt64, diskBytes: Int64, operations: [Operation]) {
        (self.seed, self.diskBytes, self.operations) = (seed, diskBytes, operations)
    }

    /// Reads what `text` has written; lines that begin with `#` are left out.
    /// - Throws: the first line that says nothing, with its number.
    init(text: String) throws(UnknownLine) {
        self.init(seed: 1, diskBytes: History.plenty, operations: [])
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = line.split(separator: " ")
            if words.isEmpty || words[0].utf8.first == UInt8(ascii: "#") { continue }
            if words.count == 2, words[0] == "seed", let value = UInt64(words[1]) { seed = value } else if
                words.count == 2, words[0] == "disk", let value = Int64(words[1]) { diskBytes = value } else if
                let operation = Operation(line) { operations.append(operation) } else {
                throw UnknownLine(number: number + 1, text: String(line))
            }
        }
    }

    static let plenty: Int64 = 64 << 20
    static let minute: Int64 = 60_000
    static let hour: Int64 = 60 * minute
    static let day: Int64 = 24 * hour

    /// People by what becomes of them: those who have granted all for good, those who change their minds, those who are
    /// erased, and those who never say anything.
    static let steady = 0..<4
    static let wavering = 4..<7
    static let erased = 7..<10
    static let silent = 10..<12
    static let people = 0..<12

    /// Draws the history of a device over so many weeks.
    static func draw(seed: UInt64, weeks: Int) -> History {
        var random = SeededRandom(seed: seed &* 0x9E37_79B9_7F4A_7C15 ^ 0x5DEE_CE66)
        func below(_ bound: Int) -> Int { Int(random.next(below: UInt64(bound))) }
        // One device in sixteen has a disk that its events fill.
        let isSmall = seed % 16 == 7
        var history = History(seed: seed, diskBytes: isSmall ? 5 << 18 : plenty, operations: [])
        for person in steady { history.operations.append(.choose(person, true, 0)) }
        // What this device is troubled by: not all of them always, so that each is also seen by itself.
        let hasCuts = below(4) > 0
        let hasFailures = below(3) == 0
        let hasJumps = below(3) == 0
        let hasErasures = below(3) > 0
        let hasBundles = below(2) == 0
        let isLying = hasCuts && below(10) == 0
        var next = 1
        var left = Int64(weeks) * 7 * day
        var sinceCheck: Int64 = 0
        while left > 0 {
            // A visit to the shop: some things in a minute or two.
            for _ in 0..<1 + below(isSmall ? 30 : 8) {
                let person = below(people.count)
                switch below(100) {
                case 0..<62:
                    let kinds: [EventKind] = [.order, .order, .add, .add, .view, .view, .view, .identify, .bad, .unplanned]
                    history.operations.append(
                        .event(person, kinds[below(kinds.count)], 1 + below(20), next, way: below(4), grants: below(3) == 0))
                    next += 1
                case 62..<66: if next > 1 { history.operations.append(.again(1 + below(next - 1))) }
                case 66..<74: history.operations.append(.ask(person))
                case 74..<77: history.operations.append(.read(person))
                case 77..<82:
                    history.operations.append(.choose(wavering.lowerBound + below(wavering.count), below(2) == 0, below(2)))
                case 82..<86:
                    let who = erased.lowerBound + below(erased.count)
                    if hasErasures, below(3) == 0 { history.operations.append(.erase(who)) } else {
                        history.operations.append(.choose(who, true, below(2)))
                    }
                case 86..<90: if hasCuts { history.operations.append(.cut(1 + random.next(below: 40), random.next() >> 32)) }
                case 90..<92:
                    if isLying { history.operations.append(.lie(1 + random.next(below: 4))) }
                    if hasFailures {
                        let code = below(2) == 0 ? 5 : 28
                        history.operations.append(
                            .fail(1 + random.next(below: 20), 1 + random.next(below: code == 5 ? 2 : 30), code))
                    }
                case 92..<95:
                    // Where nothing can leave the disk fills.
                    let weather = isSmall && below(4) > 0 ? .down : Weather.allCases[below(Weather.allCases.count)]
                    history.operations.append(.weather(below(2), weather, random.next() >> 32))
                case 95: if hasBundles { history.operations.append(.bundle(below(Bundles.count))) }
                case 96: history.operations.append(.noise(random.next() >> 32))
                case 97: history.operations.append(.restart(isCompacting: below(3) == 0, offFor: 0))
                case 98:
                    if hasJumps {
                        let jumps: [Int64] = [day, -day, -hour, hour, -60 * 365 * day, 60 * 365 * day, 3 * day]
                        history.operations.append(.jump(jumps[below(jumps.count)]))
                    }
                default: history.operations.append(.check)
                }
                history.operations.append(.pass(Int64(1 + below(20_000))))
            }
            let pauses: [Int64] = [10 * minute, 31 * minute, 2 * hour, 5 * hour, 9 * hour]
            let pause = min(left, pauses[below(isSmall ? 3 : pauses.count)])
            history.operations.append(below(20) == 0 ? .restart(isCompacting: false, offFor: pause) : .pass(pause))
            left -= pause
            sinceCheck += pause
            if sinceCheck > day {
                sinceCheck -= day
                history.operations.append(.check)
            }
        }
        return history
    }
}
