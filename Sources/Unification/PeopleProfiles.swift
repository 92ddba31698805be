// What is known of a person, and what they have chosen, as the sum of what lies with their identifiers: taken apart when these
// go to other people, and put together again.

import Formats
import Governance
import Store

extension People {
    /// Puts the only part of a profile among the parts, if it is not there.
    public mutating func takeApart(_ person: ProfileID, _ transaction: inout WriteTransaction) throws(StoreError) {
        let id = person.bytes
        var record: [UInt8] = []
        if let value = try transaction.get(transaction.tables.profiles, id.span) { record = [UInt8](copying: value) }
        if record.isEmpty { return }
        let part: UInt64
        do throws(RecordDamage) { part = try ProfileView(record.span).part } catch {
            damaged += 1
            try transaction.put(transaction.tables.damaged, id.span, record.span)
            return
        }
        if part == 0 { return }
        let keys = try IdentityGraph.keys(of: person, in: transaction)
        guard let key = keys.first(where: { $0.part(writtenBy: epoch) == part }) else {
            damaged += 1
            return
        }
        try transaction.put(transaction.tables.parts, ProfileParts.Key(key, epoch).bytes.span, record.span)
    }

    /// Makes a person's profile and choices of the parts of their identifiers.
    /// - Returns: false for one who has no identifiers any more, and of whom nothing is left.
    public mutating func putTogether(
        _ person: ProfileID, _ attributes: AttributePlan, now: Int64, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let tables = transaction.tables
        let keys = try IdentityGraph.keys(of: person, in: transaction)
        var record: [UInt8] = []
        var only: (key: IdentifierKey, epoch: UInt64)?
        var count = 0
        for key in keys {
            var parts: [(UInt64, [UInt8])] = []
            try ProfileParts.forEach(of: key, in: transaction) { epoch, value in parts.append((epoch, [UInt8](copying: value))) }
            for (epoch, part) in parts {
                count += 1
                only = (key, epoch)
                try add(part, to: &record, person, attributes, now)
            }
        }
        let choices = try People.choices(under: keys, in: transaction)
        let id = person.bytes
        if record.isEmpty {
            try transaction.delete(tables.profiles, id.span)
        } else {
            // A single part of our own is the profile again.
            var part: UInt64 = 0
            if count == 1, let only, only.epoch == epoch {
                part = only.key.part(writtenBy: epoch)
                try transaction.delete(tables.parts, ProfileParts.Key(only.key, epoch).bytes.span)
            }
            ProfileRecord.relabel(&record, person, part: part)
            try transaction.put(tables.profiles, id.span, record.span)
        }
        if choices.isEmpty {
            try transaction.delete(tables.consent, id.span)
        } else {
            try transaction.put(tables.consent, id.span, choices.span)
        }
        if keys.isEmpty { try transaction.delete(tables.damaged, id.span) }
        return !keys.isEmpty
    }

    private mutating func add(
        _ part: [UInt8], to record: inout [UInt8], _ person: ProfileID, _ attributes: AttributePlan, _ now: Int64
    ) throws(StoreError) {
        do throws(RecordDamage) {
            if record.isEmpty {
                _ = try ProfileView(part.span)
                record = part
            } else {
                try merger.merge(record.span, part.span, id: person, plan: attributes, now: now)
                record = merger.record
            }
        } catch {
            damaged += 1
        }
    }

    /// The part of a profile that this device has counted for an identifier; empty: none lies apart.
    public func part(of key: IdentifierKey, in transaction: borrowing WriteTransaction) throws(StoreError) -> [UInt8] {
        let bytes = ProfileParts.Key(key, epoch).bytes
        guard let value = try transaction.get(transaction.tables.parts, bytes.span) else { return [] }
        return [UInt8](copying: value)
    }

    public func putPart(
        _ record: Span<UInt8>, of key: IdentifierKey, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try transaction.put(transaction.tables.parts, ProfileParts.Key(key, epoch).bytes.span, record)
    }

    // MARK: Choices

    /// Adds a choice to those that were made under an identifier.
    /// - Parameter most: see `ConsentRecord.merging`.
    /// - Returns: whether that was news.
    @discardableResult
    public static func addChoices(
        _ choices: Span<UInt8>, of key: IdentifierKey, atMost most: Int = .max, in transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let bytes = key.bytes
        let parts = transaction.tables.consentParts
        var known: [UInt8] = []
        if let value = try transaction.get(parts, bytes.span) { known = [UInt8](copying: value) }
        let merged = known.isEmpty ? [UInt8](copying: choices) : ConsentRecord.merging(known.span, choices, atMost: most)
        if equal(merged.span, known.span) { return false }
        try transaction.put(parts, bytes.span, merged.span)
        return true
    }

    /// Takes over refusals that lay under an identifier in another state of this store.
    /// - Parameters:
    ///   - name: the identifier's key in the table `consent_parts`; `choices`: the record there.
    ///   - newcomer: whose it is from then on where nobody has it; `now`: since when, milliseconds since the epoch.
    /// - Returns: false where the key or the record is damaged: what was refused there is not known.
    public func takeRefusals(
        of choices: Span<UInt8>, under name: Span<UInt8>, newcomer: ProfileID, now: Int64,
        in transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        guard let key = IdentifierKey(name), !ConsentRecord.withdrawing(choices, at: now).isEmpty else { return false }
        let refusals = ConsentRecord.refusals(of: choices)
        if !ConsentRecord.isAnything(refusals.span) { return true }
        try People.addChoices(refusals.span, of: key, in: &transaction)
        let owner = try IdentityGraph.profile(of: key, in: transaction)
        if owner == nil { try IdentityGraph.assign(key, to: newcomer, from: nil, mark: mark, at: now, in: &transaction) }
        let person = (owner ?? newcomer).bytes
        var known: [UInt8] = []
        if let value = try transaction.get(transaction.tables.consent, person.span) { known = [UInt8](copying: value) }
        let merged = ConsentRecord.merging(known.span, refusals.span)
        try transaction.put(transaction.tables.consent, person.span, merged.span)
        return true
    }

    /// Notes a person's new choices with their identifiers, by which they go with whoever these turn out to belong to: a grant
    /// with the one under which it was made, a refusal with all of them. Whoever is parted from the person later has not
    /// granted it, and the refusal is not lost.
    /// - Parameter choices: those that are new; `key`: the identifier under which they were made.
    public static func note(
        _ choices: Span<UInt8>, of person: ProfileID, under key: IdentifierKey, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let keys = try IdentityGraph.keys(of: person, in: transaction)
        let refusals = ConsentRecord.refusals(of: choices)
        let isOwn = keys.contains { $0 == key }
        for (place, other) in keys.enumerated() {
            if isOwn ? other == key : place == 0 {
                try addChoices(choices, of: other, in: &transaction)
            } else if ConsentRecord.isAnything(refusals.span) {
                try addChoices(refusals.span, of: other, in: &transaction)
            }
        }
    }
}
