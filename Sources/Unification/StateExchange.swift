// What two devices know, brought together: links, parts of profiles and choices, each by its own rule (the earlier event;
// the later copy of a part, which has one writer; the newer choice). Afterwards both know the same people, in whichever
// order they have met, and meeting again changes nothing.

import Cryptography
import Formats
import Governance
import Platform
import Store

/// What a store knows of one identifier, to be told to another: the parts of profiles that were counted for it, the choices
/// that were made under it, and its links.
///
/// On the wire: the key (36 bytes); the number of parts (2), and of each the number of the store that has counted (8),
/// its length (4) and the record; the choices' length (2) and the record; the links, each the other end (36) and the
/// origin (25). Numbers are little-endian.
public struct IdentifierState {
    public let key: IdentifierKey
    private var parts: [(epoch: UInt64, record: [UInt8])] = []
    private var choices: [UInt8] = []
    private var links: [(other: IdentifierKey, origin: LinkOrigin)] = []

    /// What of it is taken from a store.
    public enum Content: Equatable {
        case everything
        /// All but what others have counted.
        case own
        /// What was chosen, of somebody who does not want more of them to be known elsewhere.
        case choices
        /// All but what was counted.
        case withoutParts
        /// What one store has counted, by its number, and what was chosen: that may be why it may be known again.
        case part(UInt64)
    }

    /// Reads it from a store.
    /// - Parameter epoch: the number of the store.
    public init(
        of key: IdentifierKey, in store: borrowing Reader, epoch: UInt64, _ content: Content = .everything
    ) throws(StoreError) {
        self.key = key
        let prefix = key.bytes
        var only: UInt64?
        if case .part(let number) = content { only = number }
        if content == .own { only = epoch }
        if content != .choices, content != .withoutParts {
            parts = try IdentifierState.parts(of: key, in: store, epoch, only: only)
        }
        if let found = try store.get(store.tables.consentParts, prefix.span) { choices = [UInt8](copying: found) }
        if case .part = content { return }
        if content == .choices { return }
        let most = content == .everything ? Int.max : Limits.linksTold
        var links: [(other: IdentifierKey, origin: LinkOrigin)] = []
        try store.scan(store.tables.edges, from: prefix.span) { key, value in
            guard links.count < most, key.count == EdgeKey.byteCount, equal(key.extracting(0..<36), prefix.span) else {
                return false
            }
            if let end = IdentifierKey(key, at: 36), let origin = LinkOrigin(value) { links.append((end, origin)) }
            return true
        }
        self.links = links
    }

    private static func parts(
        of key: IdentifierKey, in store: borrowing Reader, _ own: UInt64, only: UInt64?
    ) throws(StoreError) -> [(epoch: UInt64, record: [UInt8])] {
        var parts: [(epoch: UInt64, record: [UInt8])] = []
        let prefix = key.bytes
        try store.scan(store.tables.parts, from: prefix.span) { key, value in
            guard key.count == ProfileParts.Key.byteCount, equal(key.extracting(0..<36), prefix.span),
                let epoch = NumberKey.decode(key.extracting(36..<44))
            else { return false }
            if only == nil || only == epoch { parts.append((epoch, [UInt8](copying: value))) }
            return true
        }
        if let only, only != own { return parts }
        if let person = try IdentityGraph.profile(of: key, in: store) {
            let id = person.bytes
            if let whole = try store.get(store.tables.profiles, id.span) {
                do throws(RecordDamage) {
                    if try ProfileView(whole).part == key.part(writtenBy: own) {
                        parts.append((own, [UInt8](copying: whole)))
                    }
                } catch {
                    // That store counts its own damage.
                }
            }
        }
        return parts
    }

    // MARK: On the wire

    /// Reads what another device says, and takes none of it where a part does not hold what reading it takes for granted.
    /// - Parameters:
    ///   - now: milliseconds since the epoch: what was chosen later was chosen now.
    ///   - ahead: how far the other's clock may be ahead, milliseconds. What was counted, or granted, later than that is not
    ///     believed.
    /// - Returns: nil for bytes that are no such state.
    public init?(_ bytes: Span<UInt8>, now: Int64, ahead: Int64) {
        guard let key = IdentifierKey(bytes), bytes.count >= 38 else { return nil }
        self.key = key
        var place = 38
        for _ in 0..<UInt16(littleEndianAt: 36, of: bytes) {
            guard bytes.count - place >= 12,
                let count = Int(exactly: UInt32(littleEndianAt: place + 8, of: bytes)), count <= bytes.count - place - 12
            else { return nil }
            let record = bytes.extracting(place + 12..<place + 12 + count)
            if !ProfileRecord.isReadable(record, until: now + ahead) { return nil }
            parts.append((UInt64(littleEndianAt: place, of: bytes), [UInt8](copying: record)))
            place += 12 + count
        }
        guard bytes.count - place >= 2 else { return nil }
        let count = Int(UInt16(littleEndianAt: place, of: bytes))
        place += 2
        guard count <= bytes.count - place else { return nil }
        if count > 0 {
            guard let said = ConsentRecord.believed(bytes.extracting(place..<place + count), now: now, ahead: ahead) else {
                return nil
            }
            choices = said
        }
        place += count
        let size = IdentifierKey.byteCount + LinkOrigin.byteCount
        guard (bytes.count - place) % size == 0, (bytes.count - place) / size <= Limits.linksTold else { return nil }
        while place < bytes.count {
            let link = bytes.extracting(place..<place + size)
            guard let other = IdentifierKey(link), let origin = LinkOrigin(link.extracting(IdentifierKey.byteCount..<size)),
                other != key
            else { return nil }
            links.append((other, origin))
            place += size
        }
    }

    /// Leaves the choices only.
    public mutating func keepChoicesOnly() { (parts, links) = ([], []) }

    /// Whether nobody but one store has counted what is in it.
    public func isWritten(by epoch: UInt64) -> Bool {
        for part in parts where part.epoch != epoch { return false }
        return true
    }

    /// The numbers of the stores that have counted what is in it.
    public var writers: [UInt64] {
        var writers: [UInt64] = []
        for part in parts { writers.append(part.epoch) }
        return writers
    }

    public func append(to bytes: inout [UInt8]) {
        key.append(to: &bytes)
        LogEntry.append(UInt16(clamping: parts.count), to: &bytes)
        for part in parts.prefix(Int(UInt16.max)) {
            LogEntry.append(part.epoch, to: &bytes)
            LogEntry.append(UInt32(part.record.count), to: &bytes)
            bytes += part.record
        }
        LogEntry.append(UInt16(clamping: choices.count), to: &bytes)
        bytes += choices
        for link in links {
            link.other.append(to: &bytes)
            let origin = link.origin.bytes
            bytes.append(contentsOf: origin.span)
        }
    }

    // MARK: Bringing together

    /// Whether its person has granted something, by a choice of their own, later than at some time.
    public func isChosen(after time: Int64) -> Bool { ConsentRecord.isChosen(choices.span, after: time) }

    /// Takes over what is news.
    /// - Parameters:
    ///   - own: the number of a store of whose parts no other copy can be later; nil for none.
    ///   - suppression: identifiers of the erased, to which no link is taken over.
    public func keep(
        _ own: UInt64?, _ suppression: SuppressionList, in transaction: inout WriteTransaction
    ) throws(StoreError) -> (hasParts: Bool, hasChoices: Bool, hasLinks: Bool) {
        var news = (hasParts: false, hasChoices: false, hasLinks: false)
        for part in parts where part.epoch != own && ProfileRecord.isReadable(part.record.span) {
            let name = ProfileParts.Key(key, part.epoch).bytes
            if let known = try transaction.get(transaction.tables.parts, name.span),
                !ProfileRecord.isLater(part.record.span, than: known)
            {
                continue
            }
            try transaction.put(transaction.tables.parts, name.span, part.record.span)
            news.hasParts = true
        }
        news.hasChoices = try keepChoices(in: &transaction)
        for link in links where try suppression.time(link.other.tag, link.other.digest, in: transaction) == nil {
            if try IdentityLinks.add(key, link.other, link.origin, in: &transaction) { news.hasLinks = true }
        }
        return news
    }

    /// Takes over the choices that are news.
    /// - Returns: whether there were any.
    public func keepChoices(in transaction: inout WriteTransaction) throws(StoreError) -> Bool {
        if choices.isEmpty { return false }
        return try People.addChoices(choices.span, of: key, atMost: ConsentRecord.mostBytes, in: &transaction)
    }

    /// The identifiers around which it may show that people are others.
    fileprivate func seeds(
        _ suppression: SuppressionList, _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [IdentifierKey] {
        var seeds = [key]
        for link in links where try suppression.time(link.other.tag, link.other.digest, in: transaction) == nil {
            if seeds.count <= Limits.linksPerIdentifier { seeds.append(link.other) }
        }
        return seeds
    }

    /// Takes all of an identifier away that states bring.
    /// - Parameter choicesToo: whether the choices go as well.
    public static func remove(
        _ key: IdentifierKey, choicesToo: Bool, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try ProfileParts.removeAll(of: key, in: &transaction)
        if choicesToo { return try removeLinksAndChoices(key, in: &transaction) }
        try IdentityLinks.removeAll(of: key, in: &transaction)
    }

    /// Takes away all but what was counted.
    public static func removeLinksAndChoices(
        _ key: IdentifierKey, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try IdentityLinks.removeAll(of: key, in: &transaction)
        let bytes = key.bytes
        try transaction.delete(transaction.tables.consentParts, bytes.span)
    }

    /// Takes away what one store has counted.
    public static func remove(
        _ key: IdentifierKey, countedBy epoch: UInt64, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try transaction.delete(transaction.tables.parts, ProfileParts.Key(key, epoch).bytes.span)
    }
}

extension People {
    /// Takes over what another store knows of some identifiers. Both must hash under the same pepper.
    /// - Parameters:
    ///   - other: a snapshot of the other store; `otherEpoch`: its number.
    ///   - start: key of the first identifier to look at; empty for the beginning.
    ///   - suppression: identifiers of the erased, who must not come back this way.
    /// - Returns: where to go on; nil when that was all.
    public mutating func learn<Random: RandomSource>(
        from other: borrowing Reader, epoch otherEpoch: UInt64, at start: [UInt8], atMost: Int,
        suppression: SuppressionList, _ plan: IdentifierPlan, _ attributes: AttributePlan, now: Int64,
        random: inout Random, in transaction: inout WriteTransaction
    ) throws(StoreError) -> [UInt8]? {
        var found: [(key: IdentifierKey, person: ProfileID)] = []
        var next: [UInt8]?
        try other.scan(other.tables.identifiers, from: start.span) { key, value in
            if found.count == atMost {
                next = [UInt8](copying: key)
                return false
            }
            if let key = IdentifierKey(key), let person = IdentifierRow.owner(value) { found.append((key, person)) }
            return true
        }
        for (key, person) in found {
            // Of somebody who was erased here the other may know identifiers that were not known here.
            if try People.isErased(person, other, suppression, transaction) { continue }
            let state = try IdentifierState(of: key, in: other, epoch: otherEpoch)
            try learn(state, suppression, plan, attributes, now: now, random: &random, in: &transaction)
        }
        return next
    }

    /// Takes over what another store knows of an identifier; who is suppressed must have been told apart before.
    /// - Returns: whether choices were news.
    @discardableResult
    public mutating func learn<Random: RandomSource>(
        _ state: IdentifierState, _ suppression: SuppressionList, _ plan: IdentifierPlan, _ attributes: AttributePlan,
        now: Int64, random: inout Random, in transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let news = try state.keep(epoch, suppression, in: &transaction)
        let known = try IdentityGraph.profile(of: state.key, in: transaction)
        if known == nil || news.hasLinks {
            var resolution = Resolution(profile: .nobody, anchor: state.key)
            let seeds = try state.seeds(suppression, transaction)
            _ = try settle(seeds, plan, attributes, now: now, &random, &transaction, &resolution)
        }
        if news.hasParts || news.hasChoices, let person = try IdentityGraph.profile(of: state.key, in: transaction) {
            try takeApart(person, &transaction)
            _ = try putTogether(person, attributes, now: now, &transaction)
        }
        return news.hasChoices
    }

    /// The same of choices alone, for somebody who is known here: where there is no room for more.
    /// - Returns: whether they were news.
    public mutating func learnChoices(
        of state: IdentifierState, now: Int64, _ attributes: AttributePlan, in transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        guard let person = try IdentityGraph.profile(of: state.key, in: transaction),
            try state.keepChoices(in: &transaction)
        else { return false }
        try takeApart(person, &transaction)
        _ = try putTogether(person, attributes, now: now, &transaction)
        return true
    }

    private static func isErased(
        _ person: ProfileID, _ other: borrowing Reader, _ suppression: SuppressionList,
        _ transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Bool {
        var keys: [IdentifierKey] = []
        try IdentityGraph.forEachIdentifier(of: person, in: other) { tag, digest in
            if let digest = Digest256(digest) { keys.append(IdentifierKey(tag: tag, digest: digest)) }
        }
        for key in keys where try suppression.time(key.tag, key.digest, in: transaction) != nil { return true }
        return false
    }
}
