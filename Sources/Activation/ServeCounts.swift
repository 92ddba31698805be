// What was served and is not in any profile yet: an answer does not wait for the writer, and the next question, perhaps on
// another thread, must count it all the same. It need not know decisions nor people, only numbers that stand for them.

import Platform

/// Counts by person and cap until they are committed; shared by all threads, without a lock.
///
/// A place holds two counts: of what no transaction has, and of what that of a number has, which only older snapshots do not
/// show. Two people who share a place are served less for a moment, never more.
public final class ServeCounts: @unchecked Sendable {
    private let counts = CounterArray(count: Limits.servePlaces)

    public init() {}

    static func place(_ person: UInt64, _ cap: UInt32) -> Int {
        Int(Draw.mix(person ^ UInt64(cap) << 32) % UInt64(Limits.servePlaces))
    }

    // Bits 0…15: of no transaction; 16…31: of the transaction whose number ends in bits 32…63.
    private static func loose(_ word: UInt64) -> UInt64 { word & 0xFFFF }
    private static func held(_ word: UInt64) -> UInt64 { word >> 16 & 0xFFFF }

    /// How many a snapshot does not show.
    func count(_ place: Int, snapshot: UInt64) -> Int {
        let word = counts.value(at: place)
        let isNewer = UInt32(truncatingIfNeeded: word >> 32) &- UInt32(truncatingIfNeeded: snapshot) &- 1 < 1 << 31
        return Int(ServeCounts.loose(word) + (isNewer ? ServeCounts.held(word) : 0))
    }

    /// One was served.
    func add(_ place: Int) { counts.update(at: place) { ServeCounts.loose($0) == 0xFFFF ? $0 : $0 + 1 } }

    /// One of those is in a transaction now, which will be committed.
    public func hold(_ place: Int, transaction: UInt64) {
        counts.update(at: place) { word in
            let number = UInt64(UInt32(truncatingIfNeeded: transaction))
            let held = word >> 32 == number ? ServeCounts.held(word) : 0
            let loose = ServeCounts.loose(word)
            return number << 32 | min(held + 1, 0xFFFF) << 16 | (loose == 0 ? 0 : loose - 1)
        }
    }

    /// The transaction did not happen.
    public func release(_ place: Int, transaction: UInt64) {
        counts.update(at: place) { word in
            if word >> 32 != UInt64(UInt32(truncatingIfNeeded: transaction)) || ServeCounts.held(word) == 0 { return word }
            return word - (1 << 16) + 1
        }
    }

    /// One was served that no transaction will have.
    public func drop(_ place: Int) { counts.update(at: place) { ServeCounts.loose($0) == 0 ? $0 : $0 - 1 } }
}
