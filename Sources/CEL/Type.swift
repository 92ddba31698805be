// Types as the checker sees them, and as people read them in messages. It need not know of values.

/// A static type. `dyn` is anything, found out at evaluation.
public indirect enum Type: Equatable, Sendable {
    case dyn, null, bool, int, uint, double, string, bytes, timestamp, duration, ip, cidr
    case list(Type)
    case map(Type, Type)
    case optional(Type)
    /// The type of types.
    case type
    /// An unbound type variable of the checker, by number.
    case variable(Int)

    /// As in messages: `list(string)`, `map(string, int)`.
    public var description: String {
        switch self {
        case .dyn: "dyn"
        case .null: "null_type"
        case .bool: "bool"
        case .int: "int"
        case .uint: "uint"
        case .double: "double"
        case .string: "string"
        case .bytes: "bytes"
        case .timestamp: "timestamp"
        case .duration: "duration"
        case .ip: "net.IP"
        case .cidr: "net.CIDR"
        case .list(let element): "list(" + element.description + ")"
        case .map(let key, let value): "map(" + key.description + ", " + value.description + ")"
        case .optional(let value): "optional(" + value.description + ")"
        case .type: "type"
        case .variable: "_"
        }
    }
}
