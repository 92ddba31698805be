// How long ago each event of the plan, and any event of each source, was last seen, and how long ago it may be. Names come
// from the bundle and the configuration, never from senders. Written by the writer, read by whoever shows it.

import Formats
import Platform

/// When each of some names was last seen. Any thread may read.
public final class LastSeen: Sendable {
    public let names: [[UInt8]]
    /// Milliseconds since the epoch; 0: not known.
    private let times: CounterArray
    /// Keeps names of different sorts apart in the record.
    private let salt: UInt8

    /// - Parameter salt: one byte for the sort of names.
    public init(_ names: [[UInt8]], salt: UInt8) {
        self.names = names
        self.salt = salt
        times = CounterArray(count: names.count)
    }

    /// - Parameter index: of a name; one that is not watched is ignored.
    public func note(_ index: Int, at time: Int64) {
        if index < names.count { times.set(UInt64(max(time, 0)), at: index) }
    }

    /// Milliseconds since a name was last seen, or since it is watched if it was not seen yet.
    /// 0 for a moment while another bundle comes into force.
    public func age(_ index: Int, at now: Int64) -> Int64 {
        let time = Int64(times.value(at: index))
        return time == 0 ? 0 : max(0, now - time)
    }

    /// Goes on from what another knows of the same names.
    public func takeOver(from other: LastSeen) {
        for index in names.indices {
            for place in other.names.indices where other.names[place] == names[index] {
                times.set(other.times.value(at: place), at: index)
            }
        }
    }

    /// Whatever is not known yet is watched from now on.
    /// - Returns: whether there is something.
    public func begin(at now: Int64) -> Bool {
        var isNew = false
        for index in names.indices where times.value(at: index) == 0 {
            note(index, at: now)
            isNew = true
        }
        return isNew
    }

    // MARK: In the store

    /// Appends a pair of numbers for each name: its hash, and when it was seen.
    public func append(to record: inout [UInt64]) {
        for index in names.indices {
            record.append(LastSeen.hash(names[index], salt: salt))
            record.append(times.value(at: index))
        }
    }

    /// Takes what an earlier run has left of these names.
    public func restore(from record: [UInt64]) {
        for index in names.indices {
            let hash = LastSeen.hash(names[index], salt: salt)
            var place = 0
            while place + 1 < record.count {
                if record[place] == hash { times.set(record[place + 1], at: index) }
                place += 2
            }
        }
    }

    /// FNV-1a of 64 bits.
    static func hash(_ name: [UInt8], salt: UInt8) -> UInt64 {
        var hash = (0xCBF2_9CE4_8422_2325 ^ UInt64(salt)) &* 0x100_0000_01B3
        for byte in name { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return hash
    }
}

extension TrackingPlan {
    /// Milliseconds; 0 for an event without `fresh`.
    public func objective(ofEvent name: [UInt8]) -> Int64 { TrackingPlan.objective(of: name, eventObjectives) }

    /// Milliseconds; 0 for a source of which the bundle says nothing.
    public func objective(ofSource name: [UInt8]) -> Int64 { TrackingPlan.objective(of: name, sourceObjectives) }

    private static func objective(of name: [UInt8], _ objectives: ([[UInt8]], [Int64])) -> Int64 {
        for index in objectives.0.indices where objectives.0[index] == name { return objectives.1[index] }
        return 0
    }

    mutating func readFreshness(
        _ document: borrowing JSONDocument, _ settings: JSONNode, of rule: EventRule, _ reader: inout PlanReader
    ) {
        guard let objective = reader.duration(document, settings, "fresh") else { return }
        if rules.count >= Limits.watchedEvents, let node = document.member(settings, "fresh") {
            reader.report(document, node, "only the first 128 events of a plan are watched: move this one up")
        }
        eventObjectives.0.append(rule.name)
        eventObjectives.1.append(objective)
    }

    /// Reads the bundle's section `sources: { pos: { fresh: 5m } }`. A bundle is for many devices: names that a device's
    /// configuration does not have are not watched there.
    mutating func readSources(_ document: borrowing JSONDocument, _ bundle: JSONNode, _ reader: inout PlanReader) {
        guard let section = reader.object(document, bundle, "sources") else { return }
        var key = document.firstChild(section)
        while let name = key, let settings = document.next(name) {
            key = document.next(settings)
            guard document.kind(settings) == .object else {
                reader.report(document, settings, "a source's settings must be a map, such as { fresh: 5m }")
                continue
            }
            reader.refuseOthers(document, settings, ["fresh"], of: "a source")
            guard let objective = reader.duration(document, settings, "fresh") else { continue }
            sourceObjectives.0.append([UInt8](copying: document.bytes(name)))
            sourceObjectives.1.append(objective)
        }
    }
}
