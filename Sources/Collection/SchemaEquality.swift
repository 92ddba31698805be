// When two JSON values are the same (Core, section 4.2.2): numbers by value, objects without order.

import Formats

extension SchemaEvaluation {
    /// Whether a value is constant number `constant`.
    mutating func isConstant(
        _ constant: Int32, _ index: Int32, _ value: JSONNode, _ event: borrowing JSONDocument
    ) -> Bool {
        let constants = program.tables.constants
        let node = program.tables.constantNodes[Int(constant)]
        return isEqual(constants, node, event, value, index, bothInEvent: false)
    }

    /// The second value is one of the event; the first one, too, or a constant. Goes as deep as the shallower of the two.
    private mutating func isEqual(
        _ first: borrowing JSONDocument, _ left: JSONNode, _ event: borrowing JSONDocument, _ right: JSONNode,
        _ index: Int32, bothInEvent: Bool
    ) -> Bool {
        if !pay(1, index, right) { return false }
        if let ours = SchemaNumber(first, left), let theirs = SchemaNumber(event, right) {
            return ours.compared(to: theirs) == 0
        }
        let kind = first.kind(left)
        guard kind == event.kind(right) else { return false }
        switch kind {
        case .bool: return first.bool(left) == event.bool(right)
        case .string: return event.equals(right, first.bytes(left))
        case .array:
            guard first.count(left) == event.count(right) else { return false }
            var ours = first.firstChild(left)
            var theirs = event.firstChild(right)
            while let one = ours, let other = theirs {
                if !isEqual(first, one, event, other, index, bothInEvent: bothInEvent) { return false }
                ours = first.next(one)
                theirs = event.next(other)
            }
            return true
        case .object:
            let count = bothInEvent ? self.count(left, first) : first.count(left)
            guard count == self.count(right, event) else { return false }
            var next = first.firstChild(left)
            while let key = next, let one = first.next(key) {
                next = first.next(one)
                if bothInEvent, isOmitted(one) { continue }
                guard let other = event.member(right, first.bytes(key)), !isOmitted(other),
                    isEqual(first, one, event, other, index, bothInEvent: bothInEvent)
                else { return false }
            }
            return true
        default: return true
        }
    }

    // MARK: uniqueItems

    /// Whether no two items are the same.
    mutating func isUnique(_ index: Int32, _ value: JSONNode, _ event: borrowing JSONDocument) -> Bool {
        if event.count(value) > Limits.schemaPairwiseItems { return isUniqueByHash(index, value, event) }
        var first = event.firstChild(value)
        while let left = first {
            var second = event.next(left)
            while let right = second {
                if isEqual(event, left, event, right, index, bothInEvent: true) || isExhausted { return false }
                second = event.next(right)
            }
            first = event.next(left)
        }
        return true
    }

    /// Sorts the items by a hash, so that only those with the same one need be compared.
    private mutating func isUniqueByHash(_ index: Int32, _ value: JSONNode, _ event: borrowing JSONDocument) -> Bool {
        if !pay(Int64(event.count(value)) * 4, index, value) { return false }
        var items: [(hash: UInt64, node: JSONNode)] = []
        items.reserveCapacity(event.count(value))
        var element = event.firstChild(value)
        while let item = element {
            items.append((hash(of: item, event, index), item))
            element = event.next(item)
        }
        if isExhausted { return false }
        items.sort { $0.hash < $1.hash }
        var first = 0
        while first < items.count {
            var second = first + 1
            while second < items.count, items[second].hash == items[first].hash {
                if isEqual(event, items[first].node, event, items[second].node, index, bothInEvent: true) || isExhausted {
                    return false
                }
                second += 1
            }
            first += 1
        }
        return true
    }

    /// Equal values have equal ones. FNV-1a over texts; members are added up, since they have no order.
    private mutating func hash(of node: JSONNode, _ event: borrowing JSONDocument, _ index: Int32) -> UInt64 {
        func mixed(_ hash: UInt64) -> UInt64 {
            let product = (hash ^ hash >> 32) &* 0x9E37_79B9_7F4A_7C15
            return product ^ product >> 29
        }
        if !pay(1, index, node) { return 0 }
        switch event.kind(node) {
        case .null: return 1
        case .bool: return event.bool(node) == true ? 2 : 3
        case .integer, .number: return mixed(SchemaNumber(event, node)?.hash ?? 0)
        case .string: return SchemaEvaluation.hash(of: event.bytes(node))
        case .array:
            var hash: UInt64 = 5
            var element = event.firstChild(node)
            while let item = element {
                hash = mixed(hash &+ self.hash(of: item, event, index))
                element = event.next(item)
            }
            return hash
        case .object:
            var hash: UInt64 = 7
            var next = event.firstChild(node)
            while let key = next, let member = event.next(key) {
                next = event.next(member)
                if isOmitted(member) { continue }
                hash &+= mixed(SchemaEvaluation.hash(of: event.bytes(key)) ^ mixed(self.hash(of: member, event, index)))
            }
            return hash
        }
    }

    private static func hash(of text: Span<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for index in text.indices { hash = (hash ^ UInt64(text[index])) &* 0x0000_0100_0000_01B3 }
        return hash
    }
}
