// `gatehouse store merge`: what the store of another device knows of people is taken over by this one: when a box is
// replaced, or to hold two against each other. What waits there for a time is taken over only when that is asked for: two
// devices that both run would both do it.

import Activation
import Cryptography
import Formats
import Governance
import Platform
import Store
import Unification

extension Upkeep {
    /// Takes over links, parts of profiles and choices. This store's agent must not run; the other store is only read. Both
    /// must hash under the same pepper. People erased here stay erased.
    /// - Parameters:
    ///   - other: folder of the other store, with its pepper.
    ///   - withTimers: what waits for a time is taken over, too. Both devices would do it if the other one went on.
    /// - Returns: how many identifiers and timers the other store has, and how many of these were taken over.
    public static func merge(
        _ other: String, withTimers: Bool, into configuration: Configuration
    ) throws(UpkeepError) -> (identifiers: Int64, timers: Int64, taken: Int64) {
        let folder = configuration.data
        let bundle = try bundle(of: configuration)
        let pepper: Peppers
        do throws(PepperError) {
            pepper = try Pepper.read(configuration.pepperPath)
            let theirs = try Pepper.read(other + "/pepper")
            let words = Array("is it the same".utf8)
            guard theirs.present.authenticate(words) == pepper.present.authenticate(words),
                theirs.root.authenticate(words) == pepper.root.authenticate(words)
            else { throw PepperError.different(path: other + "/pepper") }
            // What is known under the former pepper here and under the present one there would be two people.
            if pepper.former != nil { throw PepperError.rotating(path: configuration.pepperPath) }
            if theirs.former != nil { throw PepperError.rotating(path: other + "/pepper") }
        } catch {
            throw UpkeepError(error)
        }
        let source: Database
        let otherEpoch: UInt64
        do throws(StoreError) {
            source = try Database(reading: other)
            otherEpoch = try epoch(of: source)
        } catch {
            throw UpkeepError(error, other)
        }
        let identity: DeviceIdentity
        do throws(StoreError) {
            var random = SystemRandom()
            let database = try Database(folder: folder, mapBytes: configuration.diskBytes ?? Store.Limits.defaultMapBytes)
            identity = try DeviceIdentity.establish(database, configured: nil, &random)
            if identity.epoch != otherEpoch {
                var reader = try source.makeReader()
                try reader.begin()
                try merge(reader, otherEpoch, into: database, identity, pepper, bundle)
                let taken = withTimers ? try takeTimers(of: reader, into: database, pepper, bundle.policy) : 0
                return (reader.count(reader.tables.identifiers), reader.count(reader.tables.pending), taken)
            }
        } catch {
            throw UpkeepError(error, folder)
        }
        throw UpkeepError(joined(other, ": this is the store itself, or a copy of it: there is nothing to take over"))
    }

    private static func epoch(of source: Database) throws(StoreError) -> UInt64 {
        var reader = try source.makeReader()
        try reader.begin()
        let name = Array("epoch".utf8)
        guard let number = try reader.get(reader.tables.meta, name.span), let epoch = NumberKey.decode(number) else {
            throw .badRecord("meta")
        }
        return epoch
    }

    private static func merge(
        _ reader: borrowing Reader, _ otherEpoch: UInt64, into database: Database, _ identity: DeviceIdentity,
        _ peppers: Peppers, _ bundle: Bundle
    ) throws(StoreError) {
        var random = Chance.kernel
        var people = People(epoch: identity.epoch)
        let policy = bundle.policy
        let now = SystemClock().wallMilliseconds()
        var beginning = try database.beginWrite()
        people.mark = try Rotation(peppers, now: now, in: &beginning).mark
        try beginning.commit()
        var place: [UInt8]? = []
        while let start = place {
            var transaction = try database.beginWrite()
            place = try people.learn(
                from: reader, epoch: otherEpoch, at: start, atMost: Limits.mergedPerCommit,
                suppression: SuppressionList(transaction, root: peppers.root), policy.identifiers, policy.attributes,
                now: now, random: &random, in: &transaction)
            try transaction.commit()
        }
    }

    /// Takes over what triggers wait with, and in which audiences people were last seen, of whoever is known here now. Of
    /// two records of one thing the one whose time is later counts, as for an event that comes once more.
    static func takeTimers(
        of reader: borrowing Reader, into database: Database, _ peppers: Peppers, _ policy: Policy
    ) throws(StoreError) -> Int64 {
        var taken: Int64 = 0
        var start: [UInt8] = []
        repeat {
            let (found, next) = try Timers.records(from: start, atMost: Limits.mergedPerCommit, in: reader)
            var transaction = try database.beginWrite()
            let suppression = SuppressionList(transaction, root: peppers.root)
            for (key, record) in found where try IdentityGraph.profile(of: key.identifier, in: transaction) != nil {
                let mine = try Timers.record(key, transaction)
                var news = record
                if key.tag != TimerKey.audiences {
                    guard let trigger = policy.triggers.trigger(tag: key.tag), var state = TriggerState(record.span) else {
                        continue
                    }
                    if let known = TriggerState(mine.span) {
                        if known.due >= state.due { continue }
                        state.firedAt = max(state.firedAt, known.firedAt)
                    }
                    try strip(&state.cause, trigger, suppression, transaction)
                    news = state.record
                } else if !mine.isEmpty {
                    continue
                }
                try Timers.put(key, news, in: &transaction)
                taken += 1
            }
            try transaction.commit()
            start = next
        } while !start.isEmpty
        return taken
    }

    /// Takes out of a trigger's cause what nobody asks for here, and what is of somebody who was erased here.
    private static func strip(
        _ cause: inout [UInt8], _ trigger: Trigger, _ suppression: SuppressionList, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) {
        let entry = cause
        guard let view = LogEntryView(entry.span) else { return }
        var kept: [LoggedIdentifier] = []
        for place in 0..<view.identifierCount {
            let identifier = view.identifier(place)
            let isErased = try suppression.time(identifier.kindTag, identifier.digest, in: transaction) != nil
            if trigger.sendsPlain(identifier.kindTag), !isErased { kept.append(identifier) }
        }
        view.encode(with: kept, into: &cause)
    }

    private static func bundle(of configuration: Configuration) throws(UpkeepError) -> Bundle {
        do throws(StartError) { return try BundleKeeper.offline(configuration) } catch { throw UpkeepError(error.message) }
    }
}
