// The texts that conditions compare with, each once and with a number. It need not know what compares them.

import Formats

/// The texts of a program's tests, numbered; open addressing in a table of a power of two.
struct Symbols: Sendable {
    /// Place and length in the pool, by symbol.
    private(set) var places: [(offset: UInt32, count: UInt32)] = []
    /// Symbol + 1, or 0.
    private var table: [UInt32] = Array(repeating: 0, count: 16)

    private static func hash(_ text: Span<UInt8>) -> Int {
        var hash: UInt32 = 2_166_136_261
        var index = 0
        while index < text.count {
            hash = (hash ^ UInt32(text[index])) &* 16_777_619
            index += 1
        }
        return Int(truncatingIfNeeded: (hash ^ hash >> 15) & 0x7FFF_FFFF)
    }

    @_lifetime(copy pool)
    func text(_ symbol: UInt32, _ pool: Span<UInt8>) -> Span<UInt8> {
        let place = places[Int(symbol)]
        return pool.extracting(Int(place.offset)..<Int(place.offset + place.count))
    }

    func find(_ text: Span<UInt8>, _ pool: Span<UInt8>) -> UInt32? {
        let mask = table.count - 1
        var place = Symbols.hash(text) & mask
        while table[place] != 0 {
            let symbol = table[place] - 1
            if Formats.equal(self.text(symbol, pool), text) { return symbol }
            place = (place + 1) & mask
        }
        return nil
    }

    mutating func add(_ offset: Int, _ count: Int, _ pool: [UInt8]) -> UInt32 {
        let span = pool.span
        if let known = find(span.extracting(offset..<offset + count), span) { return known }
        places.append((UInt32(offset), UInt32(count)))
        if places.count * 2 > table.count {
            table = Array(repeating: 0, count: table.count * 2)
            for symbol in 0..<places.count { insert(UInt32(symbol), span) }
        } else {
            insert(UInt32(places.count - 1), span)
        }
        return UInt32(places.count - 1)
    }

    private mutating func insert(_ symbol: UInt32, _ pool: Span<UInt8>) {
        var place = Symbols.hash(text(symbol, pool)) & (table.count - 1)
        while table[place] != 0 { place = (place + 1) & (table.count - 1) }
        table[place] = symbol + 1
    }
}
