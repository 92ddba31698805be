// The JSON documents of a decision, read in place. It need not know expressions.

import Formats
import Synchronization

/// Up to four documents, never copied. A switch instead of an array, so that a node's bytes are borrowed and nothing is retained.
struct Documents: ~Copyable {
    var first = JSONDocument()
    var second = JSONDocument()
    var third = JSONDocument()
    var fourth = JSONDocument()
    /// Bit n: document n has been asked for; bit 4 + n: it is there.
    var state: UInt8 = 0
    /// See `Machine.pin`.
    private let pin = Atomic<UInt8>(0)

    func isLoaded(_ number: UInt32) -> Bool { state & (1 << UInt8(number)) != 0 }

    mutating func provide(_ number: Int, _ document: JSONDocument?) {
        state |= 1 << UInt8(number)
        guard let document else { return }
        state |= 16 << UInt8(number)
        switch number {
        case 0: first = document
        case 1: second = document
        case 2: third = document
        default: fourth = document
        }
    }

    mutating func clear() {
        if state & 0x10 != 0 { first = Documents.empty }
        if state & 0x20 != 0 { second = Documents.empty }
        if state & 0x40 != 0 { third = Documents.empty }
        if state & 0x80 != 0 { fourth = Documents.empty }
        state = 0
    }

    private static let empty = JSONDocument()

    func root(_ region: UInt16) -> JSONNode {
        switch region - Region.document {
        case 0: first.root
        case 1: second.root
        case 2: third.root
        default: fourth.root
        }
    }

    @_lifetime(borrow self)
    func bytes(_ region: UInt16, _ node: JSONNode) -> Span<UInt8> {
        switch region - Region.document {
        case 0: first.bytes(node)
        case 1: second.bytes(node)
        case 2: third.bytes(node)
        default: fourth.bytes(node)
        }
    }

    func kind(_ region: UInt16, _ node: JSONNode) -> JSONKind {
        switch region - Region.document {
        case 0: first.kind(node)
        case 1: second.kind(node)
        case 2: third.kind(node)
        default: fourth.kind(node)
        }
    }

    func member(_ region: UInt16, _ node: JSONNode, _ key: Span<UInt8>) -> JSONNode? {
        switch region - Region.document {
        case 0: first.member(node, key)
        case 1: second.member(node, key)
        case 2: third.member(node, key)
        default: fourth.member(node, key)
        }
    }

    func firstChild(_ region: UInt16, _ node: JSONNode) -> JSONNode? {
        switch region - Region.document {
        case 0: first.firstChild(node)
        case 1: second.firstChild(node)
        case 2: third.firstChild(node)
        default: fourth.firstChild(node)
        }
    }

    func next(_ region: UInt16, _ node: JSONNode) -> JSONNode? {
        switch region - Region.document {
        case 0: first.next(node)
        case 1: second.next(node)
        case 2: third.next(node)
        default: fourth.next(node)
        }
    }

    func count(_ region: UInt16, _ node: JSONNode) -> Int {
        switch region - Region.document {
        case 0: first.count(node)
        case 1: second.count(node)
        case 2: third.count(node)
        default: fourth.count(node)
        }
    }

    /// A node as a value. Integers without fraction and exponent that fit are ints, other numbers doubles; both are
    /// marked, so that arithmetic with either kind of literal works on them.
    func value(_ region: UInt16, _ node: JSONNode) -> Value {
        switch region - Region.document {
        case 0: Documents.value(first, region, node)
        case 1: Documents.value(second, region, node)
        case 2: Documents.value(third, region, node)
        default: Documents.value(fourth, region, node)
        }
    }

    static func value(_ document: borrowing JSONDocument, _ region: UInt16, _ node: JSONNode) -> Value {
        switch document.kind(node) {
        case .null: return .null
        case .bool: return .bool(document.bool(node) ?? false)
        case .string: return Value(.string, bits: UInt64(node.index), region: region)
        case .array: return Value(.list, bits: UInt64(node.index), region: region)
        case .object: return Value(.map, bits: UInt64(node.index), region: region)
        case .integer, .number:
            if let whole = document.int64(node) {
                return Value(.int, bits: UInt64(bitPattern: whole), flags: Value.numberOfDocument)
            }
            let real = document.double(node) ?? 0
            return Value(.double, bits: real.bitPattern, flags: Value.numberOfDocument)
        }
    }
}
