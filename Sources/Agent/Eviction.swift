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
    /// Evicts profiles while they are more, or take more, than they may: of one random sample after the other those of the
    /// lowest value, among them the least recently seen. No list of all profiles by age has to be kept.
    /// - Parameters:
    ///   - most: how many go at most.
    ///   - pages: it ends when the transaction has changed so many; the next one goes on, see `isCrowded`.
    mutating func evict(
        atMost most: Int, upTo pages: Int, now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let tables = transaction.tables
        var left = most
        var excess = self.excess(transaction)
        while excess > 0, left > 0, transaction.changedPages < pages {
            let leaving = try cheapest(min(Int(clamping: excess), left, Limits.evictedAtOnce), now, transaction)
            for person in leaving {
                let id = person.bytes
                try transaction.delete(tables.profiles, id.span)
                try IdentityGraph.removeParts(of: IdentityGraph.identifiers(of: person, in: transaction), in: &transaction)
            }
            meters.evictedProfiles.add(UInt64(leaving.count))
            left -= leaving.count
            // Where none can be found, trying again would not help either.
            excess = leaving.isEmpty ? 0 : self.excess(transaction)
        }
        isCrowded = excess > 0
    }

    /// How many profiles are too many: by their number, or by what they take, if they are all of the same size.
    private func excess(_ transaction: borrowing WriteTransaction) -> Int64 {
        let tables = transaction.tables
        let count = transaction.count(tables.profiles)
        var excess = profileLimit > 0 ? count - profileLimit : 0
        if profileBytesLimit > 0, count > 0 {
            let bytes = transaction.bytes(of: tables.profiles) + transaction.bytes(of: tables.parts)
            if bytes > profileBytesLimit { excess = max(excess, (bytes - profileBytesLimit) / (bytes / count) + 1) }
        }
        return min(excess, count)
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
