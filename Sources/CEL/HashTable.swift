// Numbers by hash, for what a compiler keeps once. It need not know what they number: the caller compares.

/// Open addressing; a hash may stand for several numbers.
struct HashTable {
    struct Search {
        var place: Int
        let hash: UInt64
    }
    private var entries: [(hash: UInt64, number: Int32)] = []
    private var count = 0

    static func mix(_ hash: UInt64, _ value: UInt64) -> UInt64 {
        let product = (hash ^ value &+ 0x9E37_79B9_7F4A_7C15) &* 0xD6E8_FEB8_6659_FD93
        return product ^ product >> 32
    }

    func search(_ hash: UInt64) -> Search {
        Search(place: entries.isEmpty ? 0 : Int(truncatingIfNeeded: hash & 0x7FFF_FFFF) & (entries.count - 1), hash: hash)
    }

    /// The next number with the hash, or nil.
    func next(_ search: inout Search) -> Int? {
        if entries.isEmpty { return nil }
        while entries[search.place].number >= 0 {
            let entry = entries[search.place]
            search.place = (search.place + 1) & (entries.count - 1)
            if entry.hash == search.hash { return Int(entry.number) }
        }
        return nil
    }

    mutating func add(_ hash: UInt64, _ number: Int) {
        if count * 2 >= entries.count {
            let old = entries
            entries = Array(repeating: (0, -1), count: max(16, old.count * 2))
            for entry in old where entry.number >= 0 { insert(entry.hash, entry.number) }
        }
        insert(hash, Int32(truncatingIfNeeded: number))
        count += 1
    }

    private mutating func insert(_ hash: UInt64, _ number: Int32) {
        var place = Int(truncatingIfNeeded: hash & 0x7FFF_FFFF) & (entries.count - 1)
        while entries[place].number >= 0 { place = (place + 1) & (entries.count - 1) }
        entries[place] = (hash, number)
    }
}
