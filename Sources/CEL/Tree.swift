// The expression as a flat array of nodes, macros already expanded. It need not know types or instructions.

/// What a node is. Children are consecutive entries of `Tree.children`.
enum NodeKind: UInt8 {
    /// `payload`: index of `Tree.literals`.
    case literal
    /// `payload`: name; `flag` 1: with a leading dot, which passes over local variables.
    case name
    /// Child: operand; `payload`: field name; `flag` 1: `.?`.
    case select
    /// `has(operand.field)`; as `select`.
    case has
    /// Children: operand, key; `flag` 1: `[?`.
    case index
    /// Children: arguments; `payload`: name; `flag` 1: with a leading dot.
    case call
    /// Children: target, arguments; `payload`: name.
    case memberCall
    /// Children: operands; `payload`: raw value of `Operator`.
    case operation
    /// Children: elements, some of which are `optionalElement`.
    case list
    /// Children: key, value, key, value, …; a value may be `optionalElement`.
    case map
    /// Child: an expression whose value is an optional.
    case optionalElement
    /// Children: two or more operands.
    case and, or
    /// Children: condition, then, else.
    case conditional
    /// Children: range, [filter,] body; `payload`, `second`: names of the variables; `flag`: raw value of `LoopKind`.
    case loop
    /// Children: initial value, body; `payload`: variable.
    case bind
    /// Children: optional, body; `payload`: variable; `flag` 1: the body is an optional itself (`optFlatMap`).
    case optionalMap
}

/// Operators, in the order of the instructions that carry them out.
enum Operator: UInt32 {
    case add, subtract, multiply, divide, remainder, equal, notEqual, less, lessOrEqual, greater, greaterOrEqual
    case contained, not, negate

    /// The relation with its sides exchanged.
    var mirrored: Operator {
        switch self {
        case .less: .greater
        case .lessOrEqual: .greaterOrEqual
        case .greater: .less
        case .greaterOrEqual: .lessOrEqual
        default: self
        }
    }

    var symbol: String {
        switch self {
        case .add: "+"
        case .subtract: "-"
        case .multiply: "*"
        case .divide: "/"
        case .remainder: "%"
        case .equal: "=="
        case .notEqual: "!="
        case .less: "<"
        case .lessOrEqual: "<="
        case .greater: ">"
        case .greaterOrEqual: ">="
        case .contained: "in"
        case .not: "!"
        case .negate: "-"
        }
    }
}

/// The comprehensions that macros stand for.
enum LoopKind: UInt8 {
    case all, exists, existsOne, map, filter, transformMap, transformMapEntry
}

struct Node {
    static let none: UInt32 = .max

    var kind: NodeKind
    var flag: UInt8 = 0
    /// Levels below this node, so that recursion over the tree is bounded.
    var depth: UInt16 = 0
    /// Byte offset in the source, for messages.
    var offset: UInt32
    var firstChild: UInt32 = 0
    var childCount: UInt32 = 0
    var payload: UInt32 = 0
    var second: UInt32 = Node.none
}

/// A parsed expression. Literal text lies in `pool`; literal values name their place in it.
struct Tree {
    var nodes: [Node] = []
    var children: [UInt32] = []
    var names: [[UInt8]] = []
    var literals: [Value] = []
    var pool: [UInt8] = []
    var root: UInt32 = 0

    func child(_ node: UInt32, _ index: Int) -> UInt32 { children[Int(nodes[Int(node)].firstChild) + index] }

    func name(_ node: UInt32) -> [UInt8] { names[Int(nodes[Int(node)].payload)] }
}
