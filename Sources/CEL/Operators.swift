// Operators over values: arithmetic that notices overflow, equality and order across numeric types, membership
// (langdef.md "Arithmetic", "Equality", "Ordering"). It need not know functions.

import Formats

extension Machine {
    // MARK: Dispatch

    mutating func binary(_ code: Opcode, _ left: Value, _ right: Value, _ c: Context) -> Value {
        if left.isError { return left }
        if right.isError { return right }
        switch code {
        case .equal: return .bool(equalCounted(left, right, c))
        case .notEqual: return .bool(!equalCounted(left, right, c))
        case .less, .lessOrEqual, .greater, .greaterOrEqual:
            if left.kind == .string || left.kind == .bytes { charge(min(byteCount(left, c), byteCount(right, c)) >> 5) }
            guard let order = compare(left, right, c) else { return fail(.noOverload) }
            switch (code, order) {
            case (_, .unordered): return .bool(false)
            case (.less, .before), (.greater, .after): return .bool(true)
            case (.lessOrEqual, .before), (.lessOrEqual, .same): return .bool(true)
            case (.greaterOrEqual, .after), (.greaterOrEqual, .same): return .bool(true)
            default: return .bool(false)
            }
        case .contained: return contained(left, right, c)
        default: return arithmetic(code, left, right, c)
        }
    }

    // MARK: Arithmetic

    private mutating func arithmetic(_ code: Opcode, _ left: Value, _ right: Value, _ c: Context) -> Value {
        switch (left.kind, right.kind) {
        case (.int, .int): return softened(integers(code, left.int, right.int), left, right)
        case (.double, .double): return softened(doubles(code, left.real, right.real), left, right)
        case (.uint, .uint): return unsigned(code, left.bits, right.bits)
        case (.string, .string), (.bytes, .bytes):
            return code == .add ? concatenate(left, right, c) : fail(.noOverload)
        case (.list, .list): return code == .add ? joinLists(left, right, c) : fail(.noOverload)
        case (.timestamp, _), (.duration, _): return times(code, left, right)
        default:
            guard left.isNumber, right.isNumber, left.isSoft || right.isSoft else { return fail(.noOverload) }
            return mixed(code, left, right)
        }
    }

    /// The result of JSON numbers is one again, so that `event.a * 2 + 0.5` works.
    private func softened(_ result: Value, _ left: Value, _ right: Value) -> Value {
        var result = result
        if !result.isError { result.flags |= (left.flags | right.flags) & Value.numberOfDocument }
        return result
    }

    /// A JSON number with a number of another type: as ints where both are whole and fit, else as doubles.
    private mutating func mixed(_ code: Opcode, _ left: Value, _ right: Value) -> Value {
        if left.kind != .double, right.kind != .double {
            guard left.kind != .uint || left.bits <= UInt64(Int64.max), right.kind != .uint || right.bits <= UInt64(Int64.max)
            else { return fail(.overflow) }
            return softened(integers(code, left.int, right.int), left, right)
        }
        return softened(doubles(code, left.number ?? 0, right.number ?? 0), left, right)
    }

    private func integers(_ code: Opcode, _ left: Int64, _ right: Int64) -> Value {
        let (value, overflow): (Int64, Bool)
        switch code {
        case .add: (value, overflow) = left.addingReportingOverflow(right)
        case .subtract: (value, overflow) = left.subtractingReportingOverflow(right)
        case .multiply: (value, overflow) = left.multipliedReportingOverflow(by: right)
        default:
            if right == 0 { return fail(.divisionByZero) }
            (value, overflow) =
                code == .divide ? left.dividedReportingOverflow(by: right) : left.remainderReportingOverflow(dividingBy: right)
        }
        return overflow ? fail(.overflow) : .int(value)
    }

    private func unsigned(_ code: Opcode, _ left: UInt64, _ right: UInt64) -> Value {
        let (value, overflow): (UInt64, Bool)
        switch code {
        case .add: (value, overflow) = left.addingReportingOverflow(right)
        case .subtract: (value, overflow) = left.subtractingReportingOverflow(right)
        case .multiply: (value, overflow) = left.multipliedReportingOverflow(by: right)
        default:
            if right == 0 { return fail(.divisionByZero) }
            (value, overflow) = (code == .divide ? left / right : left % right, false)
        }
        return overflow ? fail(.overflow) : .uint(value)
    }

    private func doubles(_ code: Opcode, _ left: Double, _ right: Double) -> Value {
        switch code {
        case .add: .double(left + right)
        case .subtract: .double(left - right)
        case .multiply: .double(left * right)
        case .divide: .double(left / right)
        default: fail(.noOverload)
        }
    }

    func negate(_ operand: Value) -> Value {
        switch operand.kind {
        case .int:
            return operand.int == .min ? fail(.overflow) : softened(.int(-operand.int), operand, operand)
        case .double: return softened(.double(-operand.real), operand, operand)
        case .duration: return operand.int == .min ? fail(.overflow) : .duration(nanoseconds: -operand.int)
        case .error: return operand
        default: return fail(.noOverload)
        }
    }

    /// Sums and differences of timestamps and durations.
    private func times(_ code: Opcode, _ left: Value, _ right: Value) -> Value {
        switch (code, left.kind, right.kind) {
        case (.add, .timestamp, .duration): return shift(left, right.int)
        case (.add, .duration, .timestamp): return shift(right, left.int)
        case (.subtract, .timestamp, .duration):
            return right.int == .min ? fail(.overflow) : shift(left, -right.int)
        case (.subtract, .timestamp, .timestamp):
            let (seconds, overflow) = left.int.subtractingReportingOverflow(right.int)
            let (scaled, tooLong) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
            let (sum, carry) = scaled.addingReportingOverflow(Int64(left.extra) - Int64(right.extra))
            return overflow || tooLong || carry ? fail(.overflow) : .duration(nanoseconds: sum)
        case (.add, .duration, .duration):
            let (sum, overflow) = left.int.addingReportingOverflow(right.int)
            return overflow ? fail(.overflow) : .duration(nanoseconds: sum)
        case (.subtract, .duration, .duration):
            let (sum, overflow) = left.int.subtractingReportingOverflow(right.int)
            return overflow ? fail(.overflow) : .duration(nanoseconds: sum)
        default: return fail(.noOverload)
        }
    }

    private func shift(_ timestamp: Value, _ nanoseconds: Int64) -> Value {
        var seconds = timestamp.int + nanoseconds / 1_000_000_000
        var rest = Int64(timestamp.extra) + nanoseconds % 1_000_000_000
        if rest < 0 {
            rest += 1_000_000_000
            seconds -= 1
        } else if rest >= 1_000_000_000 {
            rest -= 1_000_000_000
            seconds += 1
        }
        guard Time.isInRange(seconds) else { return fail(.overflow) }
        return .timestamp(seconds: seconds, nanoseconds: UInt32(rest))
    }

    mutating func concatenate(_ left: Value, _ right: Value, _ c: Context) -> Value {
        let start = heap.bytes.count
        guard append(left, c), append(right, c) else { return fail(.memoryLimit) }
        return heap.text(from: start, left.kind)
    }

    /// Appends the bytes of a text to the arena, and charges for it; false at the limit.
    mutating func append(_ text: Value, _ c: Context) -> Bool {
        append(text, c, from: 0, to: text.isOfDocument ? documentTextCount(text) : Int(text.extra))
    }

    func documentTextCount(_ text: Value) -> Int {
        documents.bytes(text.region, JSONNode(index: UInt32(truncatingIfNeeded: text.bits))).count
    }

    /// Appends a part of a text's bytes.
    mutating func append(_ text: Value, _ c: Context, from start: Int, to end: Int) -> Bool {
        let count = end - start
        charge(count >> 4)
        guard heap.allows(bytes: count) else { return false }
        let place = Int(truncatingIfNeeded: text.bits)
        switch text.region {
        case Region.constants: heap.bytes.append(contentsOf: c.pool.extracting(place + start..<place + end))
        case Region.record: heap.bytes.append(contentsOf: c.record.extracting(place + start..<place + end))
        case Region.arena:
            for index in place + start..<place + end {
                let byte = heap.bytes[index]
                heap.bytes.append(byte)
            }
        default:
            Machine.append(documents, text.region, place, start, end, &heap)
        }
        return true
    }

    private static func append(
        _ documents: borrowing Documents, _ region: UInt16, _ place: Int, _ start: Int, _ end: Int, _ heap: inout Heap
    ) {
        let span = documents.bytes(region, JSONNode(index: UInt32(place)))
        heap.bytes.append(contentsOf: span.extracting(start..<end))
    }

    private func byteCount(_ value: Value, _ c: Context) -> Int {
        value.kind == .string || value.kind == .bytes ? bytes(value, c).count : 0
    }

    private mutating func joinLists(_ left: Value, _ right: Value, _ c: Context) -> Value {
        let total = count(left) + count(right)
        charge(total)
        guard heap.allows(values: total), steps >= 0 else { return fail(.memoryLimit) }
        heap.beginList()
        appendElements(left, c)
        appendElements(right, c)
        return heap.endList()
    }

    mutating func appendElements(_ list: Value, _ c: Context) {
        let count = self.count(list)
        if list.isOfDocument {
            var node = documents.firstChild(list.region, JSONNode(index: UInt32(truncatingIfNeeded: list.bits)))
            while let current = node {
                heap.append(documents.value(list.region, current))
                node = documents.next(list.region, current)
            }
        } else {
            for index in 0..<count { heap.append(element(list, index, c)) }
        }
    }

    // MARK: Equality

    private mutating func equalCounted(_ left: Value, _ right: Value, _ c: Context) -> Bool {
        if left.kind.rawValue <= Kind.double.rawValue { return equal(left, right, c) }
        var budget = steps
        let verdict = equal(left, right, c, 0, &budget)
        steps = budget
        return verdict
    }

    func equal(_ left: Value, _ right: Value, _ c: Context) -> Bool {
        var budget = steps
        return equal(left, right, c, 0, &budget)
    }

    /// Equality of any two values: numbers by value across their types, other kinds only with their own.
    func equal(_ left: Value, _ right: Value, _ c: Context, _ depth: Int, _ budget: inout Int64) -> Bool {
        if left.kind != right.kind {
            return left.isNumber && right.isNumber && compareNumbers(left, right) == .same
        }
        switch left.kind {
        case .null: return true
        case .bool, .int, .uint, .duration, .type: return left.bits == right.bits
        case .double: return left.real == right.real
        case .timestamp: return left.bits == right.bits && left.extra == right.extra
        case .string, .bytes: return textsEqual(left, right, c, &budget)
        case .list: return listsEqual(left, right, c, depth, &budget)
        case .map: return mapsEqual(left, right, c, depth, &budget)
        case .optional:
            if left.extra == 0 || right.extra == 0 { return left.extra == right.extra }
            guard depth < Limits.valueNesting else { return false }
            return equal(optionalContent(left, c), optionalContent(right, c), c, depth + 1, &budget)
        case .ip, .cidr: return addressesEqual(left, right, c)
        default: return false
        }
    }

    @inline(__always)
    private func textsEqual(_ left: Value, _ right: Value, _ c: Context, _ budget: inout Int64) -> Bool {
        if !left.isOfDocument, !right.isOfDocument, left.extra != right.extra { return false }
        let leftBytes = bytes(left, c)
        let rightBytes = bytes(right, c)
        budget -= Int64(leftBytes.count >> 5)
        return Formats.equal(leftBytes, rightBytes)
    }

    private func listsEqual(_ left: Value, _ right: Value, _ c: Context, _ depth: Int, _ budget: inout Int64) -> Bool {
        let count = self.count(left)
        guard count == self.count(right), depth < Limits.valueNesting else { return false }
        var index = 0
        // A document's elements are found one from the other.
        var (leftNode, rightNode) = (firstNode(left), firstNode(right))
        while index < count {
            budget -= 1
            if budget < 0 { return false }
            let ours = left.isOfDocument ? next(left, &leftNode) : element(left, index, c)
            let theirs = right.isOfDocument ? next(right, &rightNode) : element(right, index, c)
            if !equal(ours, theirs, c, depth + 1, &budget) { return false }
            index += 1
        }
        return true
    }

    private func firstNode(_ list: Value) -> JSONNode? {
        if !list.isOfDocument { return nil }
        return documents.firstChild(list.region, JSONNode(index: UInt32(truncatingIfNeeded: list.bits)))
    }

    private func next(_ list: Value, _ node: inout JSONNode?) -> Value {
        guard let current = node else { return .null }
        node = documents.next(list.region, current)
        return documents.value(list.region, current)
    }

    private func mapsEqual(_ left: Value, _ right: Value, _ c: Context, _ depth: Int, _ budget: inout Int64) -> Bool {
        let count = self.count(left)
        guard count == self.count(right), depth < Limits.valueNesting else { return false }
        var index = 0
        while index < count {
            budget -= Int64(count)
            if budget < 0 { return false }
            guard let other = lookup(right, mapKey(left, index, c), c) else { return false }
            if !equal(mapValue(left, index, c), other, c, depth + 1, &budget) { return false }
            index += 1
        }
        return true
    }

    // MARK: Order

    enum Order { case before, same, after, unordered }

    /// The order of two values, or nil where there is none.
    func compare(_ left: Value, _ right: Value, _ c: Context) -> Order? {
        if left.isNumber, right.isNumber { return compareNumbers(left, right) }
        guard left.kind == right.kind else { return nil }
        switch left.kind {
        case .bool: return order(left.bits, right.bits)
        case .string, .bytes:
            let order = compareSpans(bytes(left, c), bytes(right, c))
            return order < 0 ? .before : order > 0 ? .after : .same
        case .duration: return order(left.int, right.int)
        case .timestamp:
            return left.bits == right.bits ? order(left.extra, right.extra) : order(left.int, right.int)
        default: return nil
        }
    }

    @inline(__always)
    private func order<T: Comparable>(_ left: T, _ right: T) -> Order {
        left < right ? .before : left == right ? .same : .after
    }

    /// Numbers on one line, whatever their types. A double is compared with an integer as doubles, but outside the
    /// integer's range without rounding (as the specification's own implementations do).
    @inline(__always)
    func compareNumbers(_ left: Value, _ right: Value) -> Order {
        switch (left.kind, right.kind) {
        case (.int, .int): return order(left.int, right.int)
        case (.uint, .uint): return order(left.bits, right.bits)
        case (.double, .double):
            let (a, b) = (left.real, right.real)
            return a < b ? .before : a > b ? .after : a == b ? .same : .unordered
        case (.int, .uint): return left.int < 0 ? .before : order(left.bits, right.bits)
        case (.uint, .int): return right.int < 0 ? .after : order(left.bits, right.bits)
        default:
            let (a, b) = (left.number ?? 0, right.number ?? 0)
            return a < b ? .before : a > b ? .after : a == b ? .same : .unordered
        }
    }

    // MARK: Membership

    private mutating func contained(_ element: Value, _ container: Value, _ c: Context) -> Value {
        switch container.kind {
        case .list: return .bool(listContains(container, element, c))
        case .map:
            switch element.kind {
            case .int, .uint, .bool, .string, .double: break
            default: return fail(.noOverload)
            }
            if !container.isOfDocument, !container.isOfTable { charge(Int(container.extra) >> 3) }
            return .bool(lookup(container, element, c) != nil)
        default: return fail(.noOverload)
        }
    }

    mutating func listContains(_ list: Value, _ wanted: Value, _ c: Context) -> Bool {
        let count = self.count(list)
        charge(count >> 3)
        if list.isOfDocument {
            var node = documents.firstChild(list.region, JSONNode(index: UInt32(truncatingIfNeeded: list.bits)))
            while let current = node {
                if equal(documents.value(list.region, current), wanted, c) { return true }
                node = documents.next(list.region, current)
            }
            return false
        }
        var index = 0
        while index < count {
            if equal(element(list, index, c), wanted, c) { return true }
            index += 1
        }
        return false
    }
}
