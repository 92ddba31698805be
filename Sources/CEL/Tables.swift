// Data that expressions look things up in: JSON values that become constants of the program, so that all threads share
// them and an evaluation copies nothing. It need not know what they mean.
//
// A map of a table has its keys and its values apart: `bits` has the place of the first key in its upper half and that of
// the first value in its lower half, both in `Program.values`. Rows of one shape have the same keys, which lie there
// once; the same texts and the same rows do, too. Before the first key stands a head: in `extra` how many keys there are,
// in `bits` where their part of `Program.keyIndex` begins (lower half) and how long it is, a power of two (upper half).
// An entry of that is a key's number + 1 below 8 bits of its hash, or 0; where an entry's place is taken, it has the next
// free one.

import Formats

/// What is there already, by hash, while tables are made.
struct TableBuilder {
    var texts = HashTable()
    var knownTexts: [Value] = []
    /// By the place of the first key.
    var keyLists = HashTable()
}

extension Value {
    /// Where the keys and the values of a table's map begin in `Program.values`.
    @inline(__always) var tableKeys: Int { Int(truncatingIfNeeded: bits >> 32) }
    @inline(__always) var tableValues: Int { Int(truncatingIfNeeded: bits & 0xFFFF_FFFF) }
}

extension Machine {
    /// The value of a key in a table's map, or nil. Takes the same time for few keys and for many.
    func lookUpTable(_ map: Value, _ key: Value, _ c: Context) -> Value? {
        guard key.kind == .string else { return nil }
        let wanted = bytes(key, c)
        let keys = map.tableKeys
        let index = c.values[keys - 1]
        let hash = NameTag.of(wanted)
        var place = hash
        while true {
            let entry = c.keyIndex[index.tableValues + Int(place & UInt32(index.tableKeys - 1))]
            if entry == 0 { return nil }
            let number = Int(entry & 0xFF_FFFF) - 1
            if (entry ^ hash) >> 24 == 0 {
                let text = c.values[keys + number]
                let start = text.tableValues
                if Formats.equal(c.pool.extracting(start..<start + Int(text.extra)), wanted) {
                    return c.values[map.tableValues + number]
                }
            }
            place &+= 1
        }
    }
}

extension Compiler {
    /// Makes a JSON value a constant of the program, for `Environment.Field`. Numbers are those of a document: they take
    /// the type of what they are compared with. Keys are found in a time that does not depend on how many there are.
    /// - Parameter limitBytes: what all constants of the program may take, those made before included.
    /// - Returns: nil when they would take more; make no further ones then.
    public mutating func constant(
        _ document: borrowing JSONDocument, _ node: JSONNode, limitBytes: Int
    ) -> Value? {
        let value = tableValue(document, node, limitBytes)
        return constantBytes <= limitBytes ? value : nil
    }

    private var constantBytes: Int {
        program.values.count * MemoryLayout<Value>.stride + program.keyIndex.count * 4 + program.pool.count
    }

    private mutating func tableValue(
        _ document: borrowing JSONDocument, _ node: JSONNode, _ limitBytes: Int
    ) -> Value? {
        // Looked at before each value, so that what is too large is given up early.
        if constantBytes > limitBytes { return nil }
        let kind = document.kind(node)
        if kind == .string { return tableText(document.bytes(node)) }
        guard kind == .array || kind == .object else { return Documents.value(document, Region.document, node) }
        let isMap = kind == .object
        var keys: [Value] = []
        var elements: [Value] = []
        var next = document.firstChild(node)
        while var child = next {
            if isMap {
                keys.append(tableText(document.bytes(child)))
                // A key is followed by its value.
                child = document.next(child) ?? child
            }
            guard let element = tableValue(document, child, limitBytes) else { return nil }
            elements.append(element)
            next = document.next(child)
        }
        let place = UInt64(aggregate(elements))
        if !isMap || keys.isEmpty {
            return Value(isMap ? .map : .list, bits: place, extra: UInt32(elements.count), region: Region.constants)
        }
        return Value(
            .map, bits: UInt64(keyList(keys)) << 32 | place, extra: UInt32(keys.count), region: Region.constants,
            flags: Value.mapOfTable)
    }

    /// A text of tables, which lies in the pool once. Not among the constants of expressions, which are more than its bytes.
    private mutating func tableText(_ text: Span<UInt8>) -> Value {
        let hash = UInt64(NameTag.of(text))
        var search = tables.texts.search(hash)
        while let number = tables.texts.next(&search) {
            let known = tables.knownTexts[number]
            let start = Int(truncatingIfNeeded: known.bits)
            let pool = program.pool.span
            if Formats.equal(pool.extracting(start..<start + Int(known.extra)), text) { return known }
        }
        let value = Value(.string, bits: UInt64(program.pool.count), extra: UInt32(text.count))
        program.pool.append(contentsOf: text)
        tables.texts.add(hash, tables.knownTexts.count)
        tables.knownTexts.append(value)
        return value
    }

    /// Where these keys lie in a row behind a head.
    private mutating func keyList(_ keys: [Value]) -> Int {
        var hash = UInt64(keys.count)
        for key in keys { hash = HashTable.mix(hash, key.bits) }
        var search = tables.keyLists.search(hash)
        while let place = tables.keyLists.next(&search) {
            var number = 0
            if Int(program.values[place - 1].extra) != keys.count { continue }
            // Each text is there once: the same place is the same text.
            while number < keys.count, program.values[place + number].isSame(keys[number]) { number += 1 }
            if number == keys.count { return place }
        }
        let head = addIndex(keys)
        program.values.append(Value(.int, bits: head, extra: UInt32(keys.count)))
        tables.keyLists.add(hash, program.values.count)
        program.values += keys
        return program.values.count - keys.count
    }

    /// Adds an index of these keys, and returns where and how long it is. A third of it at least stays free, which ends
    /// searches for what is not there.
    private mutating func addIndex(_ keys: [Value]) -> UInt64 {
        let start = program.keyIndex.count
        var size = 2
        while size * 2 < keys.count * 3 { size *= 2 }
        var entries = [UInt32](repeating: 0, count: size)
        for number in keys.indices {
            let text = Int(truncatingIfNeeded: keys[number].bits)
            let pool = program.pool.span
            let hash = NameTag.of(pool.extracting(text..<text + Int(keys[number].extra)))
            var place = Int(truncatingIfNeeded: hash & UInt32(size - 1))
            while entries[place] != 0 { place = (place + 1) & (size - 1) }
            entries[place] = hash & 0xFF00_0000 | UInt32(number + 1)
        }
        program.keyIndex += entries
        return UInt64(size) << 32 | UInt64(start)
    }
}
