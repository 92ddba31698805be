// The names that an expression may use and where their values will come from. It need not know the expressions.

/// The names in scope of an expression. A value type: make one, copy it, add to the copy.
///
/// - A *slot* is a plain variable with a type and a number that `Bindings.load` is asked for.
/// - A *record* is a name whose fields are slots (`profile.orders`) or constants (`tables.products`): a field that it
///   lacks is an error at compile time, and `has(profile.orders)` asks whether the slot is set.
/// - A *look-up* is a function of one literal text that chooses a slot (`score("churn")`): a text that it lacks is an error
///   at compile time.
/// - A *document* is a tree of JSON (`event.properties.revenue`), read in place and typed at evaluation.
public struct Environment: Sendable {
    /// One field of a record.
    public struct Field: Sendable {
        /// As written after the dot, UTF-8.
        public var name: [UInt8]
        /// What the checker takes its value to be; bindings must keep to it.
        public var type: Type
        /// The number that `Bindings.load` is asked for.
        public var slot: Int
        /// Its value, when it is no slot.
        var constant: Value?

        /// - Parameters:
        ///   - name: as written after the dot, or in `record["name"]` when it is not an identifier.
        ///   - slot: from 0; the number that `Bindings.load` is asked for; under `Limits.slots`.
        public init(_ name: String, _ type: Type, slot: Int) {
            self.name = Array(name.utf8)
            self.type = type
            self.slot = slot
        }

        /// A field that has the same value at every evaluation, by `Compiler.constant` of the compiler that it is for.
        public init(_ name: String, _ type: Type, constant: Value) {
            self.init(name, type, slot: 0)
            self.constant = constant
        }
    }

    struct Declaration: Sendable {
        enum Content: Sendable {
            case slot(Type, Int)
            case record([Field])
            case lookUp([Field])
            case document(Int)
        }
        var name: [UInt8]
        var content: Content
    }

    var declarations: [Declaration] = []

    /// The namespace in which names are looked up first (`a.b` finds `a.b.x`, `a.x` and `x` for `x`); empty for none.
    public var container: [UInt8] = []
    /// False compiles without type checking: mistakes become evaluation errors. For tests of the language itself.
    public var checksTypes = true
    /// True leaves `has`, `all`, `exists` and the other macros unexpanded, so that they are unknown functions.
    public var disablesMacros = false

    /// No names, checked types, macros expanded.
    public init() {}

    /// Declares a variable, possibly qualified (`a.b`). A later declaration of the same name replaces the former.
    public mutating func declare(_ name: String, _ type: Type, slot: Int) {
        declare(Array(name.utf8), .slot(type, slot))
    }

    /// Declares a record: a name whose fields are slots or constants.
    public mutating func declareRecord(_ name: String, _ fields: [Field]) {
        declare(Array(name.utf8), .record(fields))
    }

    /// Declares a function of one text, written as a literal, each of whose values is a slot.
    public mutating func declareLookUp(_ name: String, _ fields: [Field]) {
        declare(Array(name.utf8), .lookUp(fields))
    }

    /// Declares a JSON document by the number that `Bindings.document` is asked for, 0 ..< 4.
    public mutating func declareDocument(_ name: String, number: Int) {
        precondition(number >= 0 && number < 4, "documents are numbered 0 to 3")
        declare(Array(name.utf8), .document(number))
    }

    mutating func declare(_ name: [UInt8], _ content: Declaration.Content) {
        let declaration = Declaration(name: name, content: content)
        for index in declarations.indices where declarations[index].name == name {
            declarations[index] = declaration
            return
        }
        declarations.append(declaration)
    }

    func find(_ name: [UInt8]) -> Declaration.Content? {
        for declaration in declarations where declaration.name == name { return declaration.content }
        return nil
    }

    /// The closest of `candidates` to a misspelt name: at most two edits away, and fewer than half of its length.
    static func suggestion(for name: [UInt8], among candidates: [[UInt8]]) -> String? {
        var best: [UInt8]?
        var bestDistance = Swift.min(3, (name.count + 1) / 2 + 1)
        for candidate in candidates {
            let distance = editDistance(name, candidate)
            if distance < bestDistance {
                bestDistance = distance
                best = candidate
            }
        }
        return best.map { String(decoding: $0, as: UTF8.self) }
    }

    /// Edits (insert, delete, replace, swap of neighbours) between two names, without regard to ASCII case.
    static func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        if a.count > 64 || b.count > 64 { return a == b ? 0 : 64 }
        func fold(_ byte: UInt8) -> UInt8 { byte >= 65 && byte <= 90 ? byte + 32 : byte }
        var before: [Int] = []
        var previous = Array(0...b.count)
        for i in 0..<a.count {
            var current = [i + 1]
            for j in 0..<b.count {
                let same = fold(a[i]) == fold(b[j])
                var cost = Swift.min(previous[j] + (same ? 0 : 1), previous[j + 1] + 1, current[j] + 1)
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = Swift.min(cost, before[j - 1] + 1) }
                current.append(cost)
            }
            before = previous
            previous = current
        }
        return previous[b.count]
    }
}
