// Following a value to its bytes and elements, wherever they lie: constants, arena, record or document.

import Formats

extension Machine {
    /// The bytes of a string, bytes, ip or cidr value; empty for other kinds.
    @_lifetime(borrow self)
    @inline(__always)
    func bytes(_ value: Value, _ c: Context) -> Span<UInt8> {
        let start = Int(truncatingIfNeeded: value.bits)
        switch value.region {
        case Region.constants:
            return unsafe _overrideLifetime(c.pool.extracting(start..<start + Int(value.extra)), borrowing: self)
        case Region.arena:
            let span = heap.bytes.span
            return unsafe _overrideLifetime(span.extracting(start..<start + Int(value.extra)), borrowing: self)
        case Region.record:
            return unsafe _overrideLifetime(c.record.extracting(start..<start + Int(value.extra)), borrowing: self)
        default:
            return unsafe _overrideLifetime(
                documents.bytes(value.region, JSONNode(index: UInt32(start))), borrowing: self)
        }
    }

    /// Elements of a list, entries of a map.
    @inline(__always)
    func count(_ value: Value) -> Int {
        value.isOfDocument
            ? documents.count(value.region, JSONNode(index: UInt32(truncatingIfNeeded: value.bits)))
            : Int(value.extra)
    }

    /// Value `place` of the region's element table.
    @inline(__always)
    func stored(_ region: UInt16, _ place: Int, _ c: Context) -> Value {
        region == Region.constants ? c.values[place] : heap.values[place]
    }

    /// Element `index` of a list, which is in range.
    @inline(__always)
    func element(_ list: Value, _ index: Int, _ c: Context) -> Value {
        if !list.isOfDocument { return stored(list.region, Int(truncatingIfNeeded: list.bits) + index, c) }
        return nthChild(list, index)
    }

    /// Key of entry `index` of a map.
    func mapKey(_ map: Value, _ index: Int, _ c: Context) -> Value {
        if map.isOfTable { return c.values[map.tableKeys + index] }
        if !map.isOfDocument { return stored(map.region, Int(truncatingIfNeeded: map.bits) + 2 * index, c) }
        return nthChild(map, 2 * index)
    }

    /// Value of entry `index` of a map.
    func mapValue(_ map: Value, _ index: Int, _ c: Context) -> Value {
        if map.isOfTable { return c.values[map.tableValues + index] }
        if !map.isOfDocument { return stored(map.region, Int(truncatingIfNeeded: map.bits) + 2 * index + 1, c) }
        return nthChild(map, 2 * index + 1)
    }

    private func nthChild(_ container: Value, _ index: Int) -> Value {
        var node = documents.firstChild(
            container.region, JSONNode(index: UInt32(truncatingIfNeeded: container.bits)))
        var left = index
        while left > 0, let current = node {
            node = documents.next(container.region, current)
            left -= 1
        }
        guard let node else { return .null }
        return documents.value(container.region, node)
    }

    func optionalContent(_ value: Value, _ c: Context) -> Value { stored(value.region, Int(truncatingIfNeeded: value.bits), c) }

    /// The value of a key in a map, or nil.
    func lookup(_ map: Value, _ key: Value, _ c: Context) -> Value? {
        if map.isOfDocument {
            guard key.kind == .string else { return nil }
            let node = JSONNode(index: UInt32(truncatingIfNeeded: map.bits))
            guard let found = documents.member(map.region, node, bytes(key, c)) else { return nil }
            return documents.value(map.region, found)
        }
        if map.isOfTable { return lookUpTable(map, key, c) }
        var place = Int(truncatingIfNeeded: map.bits)
        let end = place + 2 * Int(map.extra)
        while place < end {
            if equal(stored(map.region, place, c), key, c) { return stored(map.region, place + 1, c) }
            place += 2
        }
        return nil
    }

    // MARK: Fields and elements

    mutating func select(_ operand: Value, _ key: Value, optional: Bool, _ c: Context) -> Value {
        switch operand.kind {
        case .map:
            if !operand.isOfDocument, !operand.isOfTable { charge(Int(operand.extra) >> 3) }
            guard let found = lookup(operand, key, c) else { return optional ? Value(.optional) : fail(.noSuchKey) }
            return optional ? heap.optional(found) : found
        case .optional:
            if operand.extra == 0 { return operand }
            return select(optionalContent(operand, c), key, optional: true, c)
        case .error: return operand
        default: return fail(.noOverload)
        }
    }

    func has(_ operand: Value, _ key: Value, _ c: Context) -> Value {
        switch operand.kind {
        case .map: return .bool(lookup(operand, key, c) != nil)
        case .optional: return operand.extra == 0 ? .bool(false) : has(optionalContent(operand, c), key, c)
        case .error: return operand
        default: return fail(.noOverload)
        }
    }

    mutating func index(_ operand: Value, _ key: Value, optional: Bool, _ c: Context) -> Value {
        if operand.isError { return operand }
        if key.isError { return key }
        switch operand.kind {
        case .list:
            guard let position = wholeNumber(key) else {
                return fail(key.isNumber ? .invalidArgument : .noOverload)
            }
            let count = self.count(operand)
            guard position >= 0, position < Int64(count) else {
                return optional ? Value(.optional) : fail(.indexOutOfRange)
            }
            if operand.isOfDocument { charge(Int(position) >> 2) }
            let found = element(operand, Int(position), c)
            return optional ? heap.optional(found) : found
        case .map:
            switch key.kind {
            case .int, .uint, .bool, .string, .double: break
            default: return fail(.noOverload)
            }
            return select(operand, key, optional: optional, c)
        case .optional:
            if operand.extra == 0 { return operand }
            return index(optionalContent(operand, c), key, optional: true, c)
        default: return fail(.noOverload)
        }
    }

    /// A number without fraction as an index or count.
    func wholeNumber(_ value: Value) -> Int64? {
        switch value.kind {
        case .int: return value.int
        case .uint: return value.bits <= UInt64(Int64.max) ? Int64(value.bits) : nil
        case .double:
            let real = value.real
            return real == real.rounded(.towardZero) && real >= -9.0e15 && real <= 9.0e15 ? Int64(real) : nil
        default: return nil
        }
    }
}
