// Where there are more profiles than the device may have, those go that are worth least. Consent is never evicted, nor who
// is who: the person stays known, with nothing known of them. What is worth more, the bundle says.

import Activation
import CEL
import Formats
import Platform
import Store
import Unification

/// A profile that may go.
private struct Candidate {
    let person: ProfileID
    let value: Double
    let lastSeen: Int64

    func isWorthLess(than other: Candidate) -> Bool {
        value != other.value ? value < other.value : lastSeen < other.lastSeen
    }
}

extension Pipeline {
    /// Evicts profiles while there are more than `profileLimit`, some before each commit: of a random sample those of the
    /// lowest value, among them the least recently seen. No list of all profiles by age has to be kept.
    mutating func evict(now: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        let tables = transaction.tables
        guard profileLimit > 0 else { return }
        let excess = transaction.count(tables.profiles) - profileLimit
        if excess <= 0 { return }
        let leaving = try cheapest(Int(min(excess, Int64(Limits.evictedPerCommit))), now, transaction)
        for person in leaving {
            let id = person.bytes
            try transaction.delete(tables.profiles, id.span)
            try IdentityGraph.removeParts(of: IdentityGraph.identifiers(of: person, in: transaction), in: &transaction)
        }
        meters.evictedProfiles.add(UInt64(leaving.count))
    }

    private mutating func cheapest(
        _ count: Int, _ now: Int64, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [ProfileID] {
        // Ids are random, so that from a random one on every profile is as likely to be met.
        let start = ProfileID(high: random.next(), low: random.next()).bytes
        var candidates = try sample(from: start.span, now, transaction)
        if candidates.count < Limits.sampledForEviction {
            candidates += try sample(from: Span<UInt8>(), now, transaction)
        }
        var leaving: [ProfileID] = []
        while leaving.count < count, !candidates.isEmpty {
            var lowest = 0
            for index in candidates.indices where candidates[index].isWorthLess(than: candidates[lowest]) { lowest = index }
            let person = candidates[lowest].person
            if !leaving.contains(person) { leaving.append(person) }
            candidates.remove(at: lowest)
        }
        return leaving
    }

    private mutating func sample(
        from start: Span<UInt8>, _ now: Int64, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [Candidate] {
        var keys: [ProfileID] = []
        try transaction.scan(transaction.tables.profiles, from: start) { key, _ in
            if let person = ProfileID(key) { keys.append(person) }
            return keys.count < Limits.sampledForEviction
        }
        var candidates: [Candidate] = []
        for person in keys {
            let id = person.bytes
            guard let record = try transaction.get(transaction.tables.profiles, id.span) else { continue }
            candidates.append(candidate(person, record, now))
        }
        return candidates
    }

    /// What the profile is worth. One that cannot be read is worth nothing, and goes first.
    private mutating func candidate(_ person: ProfileID, _ record: Span<UInt8>, _ now: Int64) -> Candidate {
        do throws(RecordDamage) {
            let view = try ProfileView(record)
            return Candidate(person: person, value: value(of: view, now), lastSeen: view.lastSeen)
        } catch {
            return Candidate(person: person, value: error == .laterFormat ? .infinity : -.infinity, lastSeen: 0)
        }
    }
}
