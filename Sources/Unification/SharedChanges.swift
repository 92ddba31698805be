// What a hub passes on between the devices of a fleet, in the order in which it changed: states of identifiers, which lie in
// the tables of links, parts and choices, and the names of those who were erased. It need not know who is who, and cannot:
// identifiers are hashed under a pepper that the hub does not have. A device has here what its hub is yet to be told.

import Formats
import Governance
import Store

/// The table `changes`: the number of a change → what changed; and under 255, a name and the number of a store (25 bytes)
/// the number of their newest change. A name is 16 bytes, as the suppression list of every device of the fleet has it.
/// An erasure has a place of its own and stays when its person is back: who was off meanwhile hears of it first.
///
/// Of a state: 1 or 3, the name, the number of the store that has counted (8; 0: it is about links and choices), the key of
/// the identifier and when it was heard (8). Of an erasure: 2, the name, when it was asked for (8), and at a device the key.
public enum SharedChanges {
    public static let isState: UInt8 = 1
    public static let isErased: UInt8 = 2
    /// Of a state: its person wants no more than their choices to be known elsewhere.
    public static let isWithdrawn: UInt8 = 3
    private static let isPlace: UInt8 = 255
    public static let nameBytes = 16
    public static let headBytes = 1 + nameBytes + 8
    /// Numbers of stores have 53 bits; what is above stands for something else here.
    public static let largestEpoch: UInt64 = (1 << 53) - 1
    private static let ofErasure = largestEpoch + 1

    /// When the name of a change was erased; nil for a state, and for what is too short for either.
    public static func erasedAt(in value: Span<UInt8>) -> Int64? {
        guard value.count >= headBytes, value[0] == isErased else { return nil }
        return Int64(bitPattern: epoch(in: value))
    }

    /// The number of the store whose part has changed; 0: links or choices have.
    public static func epoch(in value: Span<UInt8>) -> UInt64 { number(value, at: headBytes - 8) }

    private static func number(_ bytes: Span<UInt8>, at place: Int) -> UInt64 {
        place < 0 || place + 8 > bytes.count ? 0 : NumberKey.decode(bytes.extracting(place..<place + 8)) ?? 0
    }

    /// What a change, or the place of one, begins with.
    @inline(never)
    private static func head(_ kind: UInt8, _ name: Span<UInt8>, _ number: UInt64) -> [UInt8] {
        var head: [UInt8] = [kind]
        head.append(contentsOf: name)
        head.append(contentsOf: NumberKey(number).bytes.span)
        return head
    }

    /// The newest change of a name's links or choices; empty: there is none.
    public static func latest(
        of name: Span<UInt8>, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        try change(at: head(isPlace, name, 0), in: transaction)
    }

    /// When a name was erased, also of somebody who is back; nil: never.
    public static func erasedAt(
        _ name: Span<UInt8>, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> Int64? {
        let change = try change(at: head(isPlace, name, ofErasure), in: transaction)
        return erasedAt(in: change.span)
    }

    @inline(never)
    private static func change(
        at place: [UInt8], in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        let changes = transaction.tables.changes
        guard let number = try transaction.get(changes, place.span), let value = try transaction.get(changes, number),
            value.count >= headBytes
        else { return [] }
        return [UInt8](copying: value)
    }

    // MARK: Changing

    /// Makes the state of an identifier the newest change.
    /// - Parameter epoch: of the store whose part has changed; 0: links or choices have.
    public static func put(
        _ name: Span<UInt8>, _ key: IdentifierKey, epoch: UInt64 = 0, isWithdrawn withdrawn: Bool = false, at now: Int64,
        in transaction: inout WriteTransaction
    ) throws(StoreError) {
        var value = head(withdrawn ? isWithdrawn : isState, name, epoch)
        key.append(to: &value)
        value.append(contentsOf: NumberKey(UInt64(bitPattern: now)).bytes.span)
        try put(value, at: head(isPlace, name, epoch), in: &transaction)
    }

    /// Makes an erasure the newest change; nothing else is known of the name any more.
    /// - Parameter key: of the identifier, by which the hub finds what may have come back; a hub does not keep it.
    public static func putErasure(
        _ name: Span<UInt8>, at time: Int64, _ key: IdentifierKey?, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try remove(name, in: &transaction)
        var value = head(isErased, name, UInt64(bitPattern: time))
        key?.append(to: &value)
        try put(value, at: head(isPlace, name, ofErasure), in: &transaction)
        try count(1, &transaction)
    }

    private static func put(
        _ value: [UInt8], at place: [UInt8], in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let changes = transaction.tables.changes
        try remove(at: place, in: &transaction)
        let key = NumberKey(try number(counter, in: transaction) + 1)
        try transaction.put(transaction.tables.meta, counter.span, key.bytes.span)
        try transaction.put(changes, key.bytes.span, value.span)
        try transaction.put(changes, place.span, key.bytes.span)
    }

    /// Takes everything away that is known of a name.
    /// - Parameter keepsChoices: but for the newest change of links and choices, and for an erasure.
    public static func remove(
        _ name: Span<UInt8>, keepsChoices: Bool = false, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let start = head(isPlace, name, keepsChoices ? 1 : 0)
        while true {
            let place = try place(from: start, in: transaction)
            if place.isEmpty || keepsChoices && number(place.span, at: headBytes - 8) == ofErasure { return }
            try remove(at: place, in: &transaction)
        }
    }

    /// The first place of a name from that one on; empty: there is none.
    @inline(never)
    private static func place(
        from start: [UInt8], in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        var place: [UInt8] = []
        try transaction.scan(transaction.tables.changes, from: start.span) { key, _ in
            if key.count == headBytes, equal(key.extracting(0...nameBytes), start.span.extracting(0...nameBytes)) {
                place = [UInt8](copying: key)
            }
            return false
        }
        return place
    }

    /// Takes away what is known of a store's part.
    public static func remove(
        _ name: Span<UInt8>, epoch: UInt64, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        try remove(at: head(isPlace, name, epoch), in: &transaction)
    }

    private static func remove(at place: [UInt8], in transaction: inout WriteTransaction) throws(StoreError) {
        let changes = transaction.tables.changes
        var number: [UInt8] = []
        var isOfErased = false
        if let found = try transaction.get(changes, place.span) {
            number = [UInt8](copying: found)
            if let value = try transaction.get(changes, found) { isOfErased = erasedAt(in: value) != nil }
        }
        if number.isEmpty { return }
        if isOfErased { try count(-1, &transaction) }
        try transaction.delete(changes, number.span)
        try transaction.delete(changes, place.span)
    }

    /// Counts the erasures, of which there may be as many as there are.
    private static func count(_ change: Int64, _ transaction: inout WriteTransaction) throws(StoreError) {
        let count = NumberKey(try number(erasures, in: transaction) &+ UInt64(bitPattern: change))
        try transaction.put(transaction.tables.meta, erasures.span, count.bytes.span)
    }

    /// Forgets the changes up to a number: a device has told its hub of them.
    /// - Parameter erasuresToo: false: the hub has not taken those.
    public static func remove(
        upTo last: UInt64, erasuresToo: Bool = true, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        var before: UInt64 = 0
        while true {
            let row = try next(after: before, in: transaction)
            let number = number(row.span, at: 0)
            if row.isEmpty || number > last { return }
            if erasuresToo || row.count < 9 || row[8] != isErased {
                try remove(row, in: &transaction)
            } else {
                before = number
            }
        }
    }

    /// A row's number and what changed, as it lies in the table; empty: there are no more.
    @inline(never)
    private static func next(
        after number: UInt64, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> [UInt8] {
        var row: [UInt8] = []
        let start = NumberKey(number &+ 1)
        try transaction.scan(transaction.tables.changes, from: start.bytes.span) { key, value in
            if key.count == 8 {
                row = [UInt8](copying: key)
                row.append(contentsOf: value)
            }
            return false
        }
        return row
    }

    @inline(never)
    private static func remove(_ row: [UInt8], in transaction: inout WriteTransaction) throws(StoreError) {
        let value = row.span.extracting(8..<row.count)
        if value.count >= headBytes {
            let epoch = value[0] == isErased ? ofErasure : epoch(in: value)
            try remove(at: head(isPlace, value.extracting(1...nameBytes), epoch), in: &transaction)
        }
        try transaction.delete(transaction.tables.changes, row.span.extracting(0..<8))
    }

    // MARK: Numbers in the table `meta`

    private static let counter = Array("changes".utf8)
    private static let former = Array("changes_former".utf8)
    private static let erasures = Array("changes_erasures".utf8)

    private static func number(
        _ name: [UInt8], in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> UInt64 {
        guard let value = try transaction.get(transaction.tables.meta, name.span) else { return 0 }
        return NumberKey.decode(value) ?? 0
    }

    /// How many erasures there are: at a device, of which its hub has not been told.
    public static func erasures(in transaction: borrowing WriteTransaction) throws(StoreError) -> UInt64 {
        try number(erasures, in: transaction)
    }

    /// What there is lies under a pepper that is not used any more: nobody is told of it, and `forget` takes it away.
    public static func beginAnew(in transaction: inout WriteTransaction) throws(StoreError) {
        let last = NumberKey(try number(counter, in: transaction))
        try transaction.put(transaction.tables.meta, former.span, last.bytes.span)
    }

    // MARK: At a hub

    /// Looks at some changes, and forgets of them what lies under a former pepper, states that have not changed since a
    /// time, unless they hold a refusal, and any while there are too many.
    /// - Parameter position: where to look next; 0 for the beginning.
    public static func forget(
        beyond most: Int64, before time: Int64, from position: inout UInt64, in transaction: inout WriteTransaction
    ) throws(StoreError) {
        let former = try number(former, in: transaction)
        let states = transaction.count(transaction.tables.changes) / 2
        var surplus = states - Int64(clamping: try erasures(in: transaction)) - most
        // So many of the newest are not among those that are too much.
        let newest = try number(counter, in: transaction)
        let last = newest - min(newest, UInt64(clamping: most))
        if surplus > 0, position > last { position = 0 }
        for _ in 0..<Limits.changesForgottenAtOnce {
            let row = try next(after: position, in: transaction)
            position = number(row.span, at: 0)
            if position == 0 { return }
            let value = row.span.extracting(8..<row.count)
            var isOver = position <= former
            if erasedAt(in: value) == nil {
                isOver = isOver || surplus > 0 && position <= last
                let heardAt = Int64(bitPattern: number(value, at: value.count - 8))
                guard let key = IdentifierKey(value, at: headBytes), isOver || heardAt < time else { continue }
                let epoch = epoch(in: value)
                if epoch != 0 {
                    try IdentifierState.remove(key, countedBy: epoch, in: &transaction)
                } else {
                    let bytes = key.bytes
                    if !isOver, let choices = try transaction.get(transaction.tables.consentParts, bytes.span),
                        ConsentRecord.holdsRefusal(choices)
                    {
                        continue
                    }
                    try IdentifierState.removeLinksAndChoices(key, in: &transaction)
                }
                surplus -= 1
                isOver = true
            }
            if isOver { try remove(row, in: &transaction) }
        }
    }

    /// The identifier whose states have this name; nil: there are none.
    public static func key(
        of name: Span<UInt8>, in transaction: borrowing WriteTransaction
    ) throws(StoreError) -> IdentifierKey? {
        let place = try place(from: head(isPlace, name, 0), in: transaction)
        if place.isEmpty { return nil }
        let value = try change(at: place, in: transaction)
        return IdentifierKey(value.span, at: headBytes)
    }

    /// The number of the first change after one that may be told: of a former pepper's nobody is told.
    public static func start(after number: UInt64, in store: borrowing Reader) throws(StoreError) -> NumberKey {
        var last = number
        if let value = try store.get(store.tables.meta, former.span) { last = max(last, NumberKey.decode(value) ?? 0) }
        return NumberKey(last == .max ? last : last + 1)
    }
}
