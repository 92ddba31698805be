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
/// On the wire: the key (36 bytes), and pieces (see `Piece`): 1, the choices; 2, a part: the number of the store that has
/// counted (8, big-endian) and the record; 3, a link: the other end (36) and the origin (25).
public struct IdentifierState {
    public let key: IdentifierKey
    private var choices: [UInt8] = []
    /// Parts and links, as they are on the wire.
    private var pieces: [UInt8] = []
    /// Each part can be read.
    private var isChecked = false

    private static let isChoices: UInt8 = 1
    private static let isPart: UInt8 = 2
    private static let isLink: UInt8 = 3

    /// Of the parts in a store: all, or none.
    public static let everybodys = UInt64.max
    public static let nobodys: UInt64 = 0

    /// Reads it from a store.
    /// - Parameters:
    ///   - epoch: the number of the store.
    ///   - parts: the number of the store that has counted what is taken; or `everybodys`, or `nobodys`.
    ///   - links: how many of them are taken.
    public init(
        of key: IdentifierKey, in store: borrowing Reader, epoch own: UInt64, parts: UInt64 = everybodys,
        links: Int = Limits.linksTold
    ) throws(StoreError) {
        self.key = key
        let prefix = key.bytes
        if let found = try store.get(store.tables.consentParts, prefix.span) { choices = [UInt8](copying: found) }
        if parts != IdentifierState.nobodys {
            try take(IdentifierState.isPart, store.tables.parts, of: parts, atMost: .max, store)
            if parts == own || parts == IdentifierState.everybodys, let person = try IdentityGraph.profile(of: key, in: store) {
                let (id, number) = (person.bytes, NumberKey(own))
                if let whole = try store.get(store.tables.profiles, id.span), IdentifierState.isAll(whole, of: key, own) {
                    Piece.append(IdentifierState.isPart, number.bytes.span, whole, to: &pieces)
                }
            }
        }
        if links > 0 {
            try take(IdentifierState.isLink, store.tables.edges, of: IdentifierState.everybodys, atMost: links, store)
        }
    }

    /// Takes the rows of a table that begin with the key, the rest of which becomes the head of a piece.
    @inline(never)
    private mutating func take(
        _ kind: UInt8, _ table: Table, of epoch: UInt64, atMost most: Int, _ store: borrowing Reader
    ) throws(StoreError) {
        let prefix = key.bytes
        var left = most
        var found = pieces
        try store.scan(table, from: prefix.span) { row, value in
            guard left > 0, row.count > IdentifierKey.byteCount,
                equal(row.extracting(0..<IdentifierKey.byteCount), prefix.span)
            else { return false }
            let rest = row.extracting(IdentifierKey.byteCount..<row.count)
            if epoch == IdentifierState.everybodys || NumberKey.decode(rest) == epoch {
                Piece.append(kind, rest, value, to: &found)
                left -= 1
            }
            return true
        }
        pieces = found
    }

    /// Whether a person's profile is no more than what a store has counted for one identifier.
    private static func isAll(_ whole: Span<UInt8>, of key: IdentifierKey, _ epoch: UInt64) -> Bool {
        // Of one that is damaged nothing is told: that store counts its own damage.
        do throws(RecordDamage) { return try ProfileView(whole).part == key.part(writtenBy: epoch) } catch { return false }
    }

    // MARK: On the wire

    /// Reads what another device says, and takes none of it where a part does not hold what reading it takes for granted.
    /// - Parameters:
    ///   - now: milliseconds since the epoch: what was chosen later was chosen now.
    ///   - ahead: how far the other's clock may be ahead, milliseconds. What was counted, or granted, later than that is not
    ///     believed.
    /// - Returns: nil for bytes that are no such state.
    public init?(_ bytes: Span<UInt8>, now: Int64, ahead: Int64) {
        guard let key = IdentifierKey(bytes) else { return nil }
        self.key = key
        var place = IdentifierKey.byteCount
        var links = 0
        while let piece = Piece(bytes, at: place) {
            let content = bytes.extracting(piece.start..<piece.end)
            var isRight = true
            switch piece.kind {
            case IdentifierState.isChoices:
                if let said = ConsentRecord.believed(content, now: now, ahead: ahead) { choices = said } else { isRight = false }
            case IdentifierState.isPart:
                isRight = content.count > 8
                    && ProfileRecord.isReadable(content.extracting(8..<content.count), until: now + ahead)
            case IdentifierState.isLink:
                links += 1
                isRight = links <= Limits.linksTold && IdentifierState.link(content) != nil && IdentifierKey(content) != key
            default: isRight = false
            }
            if !isRight { return nil }
            if piece.kind != IdentifierState.isChoices { pieces.append(contentsOf: bytes.extracting(place..<piece.end)) }
            place = piece.end
        }
        if place != bytes.count { return nil }
        isChecked = true
    }

    private static func link(_ content: Span<UInt8>) -> LinkOrigin? {
        content.count == EdgeKey.byteCount - IdentifierKey.byteCount + LinkOrigin.byteCount
            ? LinkOrigin(content.extracting(IdentifierKey.byteCount..<content.count)) : nil
    }

    /// Leaves the choices only.
    public mutating func keepChoicesOnly() { pieces = [] }

    /// Leaves out what was granted as well.
    public mutating func keepRefusalsOnly() {
        keepChoicesOnly()
        let refusals = ConsentRecord.refusals(of: choices.span)
        choices = ConsentRecord.isAnything(refusals.span) ? refusals : []
    }

    /// The numbers of the stores that have counted what is in it.
    public var writers: [UInt64] {
        let pieces = self.pieces
        var writers: [UInt64] = []
        var place = 0
        while let piece = Piece(pieces.span, at: place) {
            if piece.kind == IdentifierState.isPart { writers.append(IdentifierState.writer(pieces.span, piece)) }
            place = piece.end
        }
        return writers
    }

    private static func writer(_ pieces: Span<UInt8>, _ piece: Piece) -> UInt64 {
        NumberKey.decode(pieces.extracting(piece.start..<piece.start + 8)) ?? 0
    }

    public func append(to bytes: inout [UInt8]) {
        key.append(to: &bytes)
        if !choices.isEmpty { Piece.append(IdentifierState.isChoices, choices.span, to: &bytes) }
        bytes += pieces
    }

    // MARK: Bringing together

    /// Whether its person has granted something, by a choice of their own, later than at some time.
    public func isChosen(after time: Int64) -> Bool { ConsentRecord.isChosen(choices.span, after: time) }

    /// What was news of a state.
    public struct News {
        public var hasParts = false
        public var hasChoices = false
        public var hasLinks = false
        /// The identifiers around which it may show that people are others.
        var seeds: [IdentifierKey]
    }

    /// Takes over what is news.
    /// - Parameters:
    ///   - own: the number of a store of whose parts no other copy can be later; 0 for none.
    ///   - suppression: identifiers of the erased, to which no link is taken over.
    public func keep(
        _ own: UInt64, _ suppression: SuppressionList, in transaction: inout WriteTransaction
    ) throws(StoreError) -> News {
        var news = News(seeds: [key])
        let pieces = self.pieces
        var place = 0
        while let piece = Piece(pieces.span, at: place) {
            place = piece.end
            let content = pieces.span.extracting(piece.start..<piece.end)
            if piece.kind == IdentifierState.isPart {
                let epoch = IdentifierState.writer(pieces.span, piece)
                let record = content.extracting(8..<content.count)
                if epoch == own || !isChecked && !ProfileRecord.isReadable(record) { continue }
                let name = ProfileParts.Key(key, epoch).bytes
                var isLater = true
                if let known = try transaction.get(transaction.tables.parts, name.span) {
                    isLater = ProfileRecord.isLater(record, than: known)
                }
                if !isLater { continue }
                try transaction.put(transaction.tables.parts, name.span, record)
                news.hasParts = true
            } else if let other = IdentifierKey(content), let origin = IdentifierState.link(content),
                try suppression.time(other.tag, other.digest, in: transaction) == nil
            {
                if try IdentityLinks.add(key, other, origin, in: &transaction) { news.hasLinks = true }
                if news.seeds.count <= Limits.linksPerIdentifier { news.seeds.append(other) }
            }
        }
        if !choices.isEmpty {
            news.hasChoices = try People.addChoices(
                choices.span, of: key, atMost: ConsentRecord.mostBytes, in: &transaction)
        }
        return news
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
            let state = try IdentifierState(of: key, in: other, epoch: otherEpoch, links: .max)
            try learn(state, suppression, plan, attributes, now: now, random: &random, in: &transaction)
        }
        return next
    }

    /// Takes over what another store knows of an identifier; who is suppressed must have been told apart before.
    /// - Returns: whether choices were news.
    @discardableResult
    @inline(never)
    public mutating func learn<Random: RandomSource>(
        _ state: IdentifierState, _ suppression: SuppressionList, _ plan: IdentifierPlan, _ attributes: AttributePlan,
        now: Int64, random: inout Random, in transaction: inout WriteTransaction
    ) throws(StoreError) -> Bool {
        let news = try state.keep(epoch, suppression, in: &transaction)
        let known = try IdentityGraph.profile(of: state.key, in: transaction)
        if known == nil || news.hasLinks {
            var resolution = Resolution(profile: .nobody, anchor: state.key)
            _ = try settle(news.seeds, plan, attributes, now: now, &random, &transaction, &resolution)
        }
        if news.hasParts || news.hasChoices, let person = try IdentityGraph.profile(of: state.key, in: transaction) {
            try takeApart(person, &transaction)
            _ = try putTogether(person, attributes, now: now, &transaction)
        }
        return news.hasChoices
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
