// `gatehouse store merge`: what the store of another device knows of people is taken over by this one: when a box is
// replaced, or to hold two against each other.

import Cryptography
import Formats
import Governance
import Platform
import Store
import Unification

extension Upkeep {
    /// Takes over links, parts of profiles and choices. This store's agent must not run; the other store is only read. Both
    /// must hash under the same pepper. People erased here stay erased.
    /// - Parameter other: folder of the other store, with its pepper.
    /// - Returns: how many identifiers the other store has.
    public static func merge(_ other: String, into configuration: Configuration) throws(UpkeepError) -> Int64 {
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
                return try merge(source, otherEpoch, into: database, identity, pepper, bundle)
            }
        } catch {
            throw UpkeepError(error, folder)
        }
        throw UpkeepError("\(other): this is the store itself, or a copy of it: there is nothing to take over")
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
        _ source: Database, _ otherEpoch: UInt64, into database: Database, _ identity: DeviceIdentity,
        _ peppers: Peppers, _ bundle: Bundle
    ) throws(StoreError) -> Int64 {
        var reader = try source.makeReader()
        try reader.begin()
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
        return reader.count(reader.tables.identifiers)
    }

    private static func bundle(of configuration: Configuration) throws(UpkeepError) -> Bundle {
        do throws(StartError) { return try BundleKeeper.offline(configuration) } catch { throw UpkeepError(error.message) }
    }
}
