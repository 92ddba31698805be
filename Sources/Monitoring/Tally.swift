// How often each of some names came, the most frequent first. For few names: they are looked through one by one.

import Formats

public struct Tally {
    public struct Row {
        public let name: [UInt8]
        public fileprivate(set) var count: UInt64
    }

    public private(set) var rows: [Row] = []
    private let limit: Int

    /// - Parameter limit: how many names there may be; others are counted as `other`.
    public init(limit: Int) { self.limit = limit }

    @inline(never)
    public mutating func add(_ name: [UInt8]) {
        var (name, place) = (name, find(name))
        if place == rows.count, place >= limit {
            name = Array("other".utf8)
            place = find(name)
        }
        if place == rows.count { rows.append(Row(name: name, count: 0)) }
        rows[place].count += 1
        while place > 0, rows[place - 1].count < rows[place].count {
            rows.swapAt(place, place - 1)
            place -= 1
        }
    }

    private func find(_ name: [UInt8]) -> Int {
        var place = 0
        while place < rows.count, rows[place].name != name { place += 1 }
        return place
    }

    /// Writes an object of the counts by name.
    @inline(never)
    public func write(to writer: inout JSONWriter) {
        writer.beginObject()
        for row in rows {
            writer.key(row.name)
            writer.uint(row.count)
        }
        writer.endObject()
    }
}
