// Names to places and expressions to types (langdef.md "Gradual type checking", "Name resolution"). It need not know
// instructions: it leaves beside each node of the tree what it refers to.

import Formats

/// What a node refers to.
enum Resolution {
    /// What its kind says: nothing more to know.
    case none
    case local(Int)
    case slot(Int)
    case document(Int)
    /// A constant of the environment.
    case constant(Value)
    /// A type as a value.
    case typeValue(Kind)
    /// A call; `skipsTarget`: the "receiver" was a namespace.
    case function(Function, skipsTarget: Bool)
    /// A mistake found without checking: an error when it is evaluated.
    case failing(EvaluationError.Reason)
}

struct Checker {
    struct Local {
        var name: UInt32
        var place: Int
        var type: Type
    }

    private let tree: Tree
    private let environment: Environment
    private let source: [UInt8]
    private var locals: [Local] = []
    /// Bindings of type variables; a fresh set for each call.
    private var variables: [Type?] = []
    private(set) var resolutions: [Resolution]
    private(set) var types: [Type]
    /// How many locals are in use at once.
    private(set) var localCount = 0

    init(_ tree: Tree, _ environment: Environment, _ source: [UInt8]) {
        self.tree = tree
        self.environment = environment
        self.source = source
        resolutions = Array(repeating: .none, count: tree.nodes.count)
        types = Array(repeating: .dyn, count: tree.nodes.count)
    }

    /// Resolves and checks the whole tree; the type of its root.
    mutating func run() throws(CompileError) -> Type { try check(tree.root) }

    // MARK: Nodes

    private mutating func check(_ node: UInt32) throws(CompileError) -> Type {
        let type = try infer(node)
        types[Int(node)] = type
        return type
    }

    private func child(_ node: UInt32, _ index: Int) -> UInt32 { tree.child(node, index) }

    private mutating func infer(_ node: UInt32) throws(CompileError) -> Type {
        let here = tree.nodes[Int(node)]
        switch here.kind {
        case .literal: return Checker.type(of: tree.literals[Int(here.payload)])
        case .name:
            if let type = try resolveName(node) { return type }
            return try undeclared(node)
        case .select, .has: return try select(node)
        case .index: return try index(node)
        case .call: return try call(node)
        case .memberCall: return try memberCall(node)
        case .operation: return try operation(node)
        case .list: return try list(node)
        case .map: return try map(node)
        case .optionalElement:
            let inner = try check(child(node, 0))
            switch inner {
            case .optional(let value): return value
            case .dyn: return .dyn
            default: return try complain(node, "an element after '?' must be an optional, not " + inner.description)
            }
        case .and, .or:
            for position in 0..<Int(here.childCount) { try expectBool(child(node, position)) }
            return .bool
        case .conditional:
            try expectBool(child(node, 0))
            let then = try check(child(node, 1))
            let otherwise = try check(child(node, 2))
            if let type = common(then, otherwise) { return type }
            return try complain(
                node, "the two branches have different types, " + then.description + " and " + otherwise.description)
        case .loop: return try loop(node)
        case .bind:
            let initial = try check(child(node, 0))
            enter(here.payload, initial)
            resolutions[Int(node)] = .local(locals.count - 1)
            defer { locals.removeLast() }
            return try check(child(node, 1))
        case .optionalMap:
            let target = try check(child(node, 0))
            var value = Type.dyn
            if case .optional(let inner) = target { value = inner } else if target != .dyn {
                _ = try complain(node, "only an optional has this macro, not " + target.description)
            }
            enter(here.payload, value)
            resolutions[Int(node)] = .local(locals.count - 1)
            defer { locals.removeLast() }
            let body = try check(child(node, 1))
            if here.flag == 0 { return .optional(body) }
            if case .optional = body { return body }
            return body == .dyn ? .dyn : try complain(node, "the body must be an optional, not " + body.description)
        }
    }

    private mutating func enter(_ name: UInt32, _ type: Type) {
        locals.append(Local(name: name, place: locals.count, type: type))
        localCount = max(localCount, locals.count)
    }

    static func type(of literal: Value) -> Type {
        switch literal.kind {
        case .null: .null
        case .bool: .bool
        case .int: .int
        case .uint: .uint
        case .double: .double
        case .string: .string
        case .bytes: .bytes
        case .timestamp: .timestamp
        case .duration: .duration
        case .type: .type
        case .ip: .ip
        case .cidr: .cidr
        default: .dyn
        }
    }

    /// A mistake: an error now, or when evaluated if the environment does not check.
    private mutating func complain(
        _ node: UInt32, _ message: String, suggestion: String? = nil, _ reason: EvaluationError.Reason = .noOverload,
        fatal: Bool = false
    ) throws(CompileError) -> Type {
        if environment.checksTypes {
            throw CompileError(source, at: Int(tree.nodes[Int(node)].offset), message, suggestion: suggestion)
        }
        if fatal { resolutions[Int(node)] = .failing(reason) }
        return .dyn
    }

    private mutating func expectBool(_ node: UInt32) throws(CompileError) {
        let type = try check(node)
        if type != .bool, type != .dyn {
            _ = try complain(node, "a condition must be bool, not " + type.description)
        }
    }

    // MARK: Names

    /// The dotted name that a node spells, if it is nothing but names and selections.
    private func qualified(_ node: UInt32) -> (name: [UInt8], isGlobal: Bool, first: UInt32)? {
        var parts: [[UInt8]] = []
        var current = node
        while true {
            let here = tree.nodes[Int(current)]
            guard here.kind == .name || (here.kind == .select && here.flag == 0) else { return nil }
            parts.append(tree.names[Int(here.payload)])
            if here.kind == .name {
                var name: [UInt8] = []
                for part in parts.reversed() {
                    if !name.isEmpty { name.append(46) }
                    name += part
                }
                return (name, here.flag == 1, here.payload)
            }
            current = child(current, 0)
        }
    }

    private func local(_ name: UInt32) -> Local? {
        var index = locals.count - 1
        while index >= 0 {
            if locals[index].name == name { return locals[index] }
            index -= 1
        }
        return nil
    }

    /// A name's candidates in the order of resolution: `a.b.x`, `a.x`, `x` for `x` in container `a.b`.
    private func candidates(_ name: [UInt8], isGlobal: Bool) -> [[UInt8]] {
        if isGlobal || environment.container.isEmpty { return [name] }
        var list: [[UInt8]] = []
        var container = environment.container
        while !container.isEmpty {
            list.append(container + [46] + name)
            while let last = container.popLast(), last != 46 {}
        }
        list.append(name)
        return list
    }

    /// Resolves a name or a chain of selections that is declared as one name; nil: it is not.
    private mutating func resolveName(_ node: UInt32) throws(CompileError) -> Type? {
        guard let (name, isGlobal, first) = qualified(node) else { return nil }
        if !isGlobal, let local = local(first) {
            guard tree.nodes[Int(node)].kind == .name else { return nil }
            resolutions[Int(node)] = .local(local.place)
            return local.type
        }
        for candidate in candidates(name, isGlobal: isGlobal) {
            if let content = environment.find(candidate) {
                switch content {
                case .slot(let type, let slot):
                    resolutions[Int(node)] = .slot(slot)
                    return type
                case .document(let number):
                    resolutions[Int(node)] = .document(number)
                    return .dyn
                case .record:
                    return try complain(
                        node, "'" + text(name) + "' is a record: choose one of its fields, as in " + text(name) + ".x",
                        .unknownName, fatal: true)
                case .lookUp: break
                }
            }
            for entry in FunctionTable.typeNames where bytesEqual(candidate, entry.name) {
                resolutions[Int(node)] = .typeValue(entry.kind)
                return .type
            }
        }
        return nil
    }

    private func text(_ name: [UInt8]) -> String { String(decoding: name, as: UTF8.self) }

    private mutating func undeclared(_ node: UInt32) throws(CompileError) -> Type {
        let name = tree.name(node)
        var known: [[UInt8]] = []
        for declaration in environment.declarations { known.append(declaration.name) }
        for local in locals { known.append(tree.names[Int(local.name)]) }
        return try complain(
            node, "undeclared name '" + text(name) + "'", suggestion: Environment.suggestion(for: name, among: known),
            .unknownName, fatal: true)
    }

    /// The fields of the record that a node names, if it does.
    private func record(_ node: UInt32) -> [Environment.Field]? {
        guard let (name, isGlobal, first) = qualified(node), isGlobal || local(first) == nil else { return nil }
        for candidate in candidates(name, isGlobal: isGlobal) {
            if let content = environment.find(candidate) {
                if case .record(let fields) = content { return fields }
                return nil
            }
        }
        return nil
    }

    private mutating func field(
        _ node: UInt32, _ fields: [Environment.Field], _ name: [UInt8]
    ) throws(CompileError) -> Type {
        for field in fields where field.name == name {
            resolutions[Int(node)] = .slot(field.slot)
            if let constant = field.constant { resolutions[Int(node)] = .constant(constant) }
            return field.type
        }
        var known: [[UInt8]] = []
        for field in fields { known.append(field.name) }
        var message = "there is no " + text(tree.name(node))
        if tree.nodes[Int(node)].kind != .call {
            message = "'" + (qualified(child(node, 0)).map { text($0.name) } ?? "the record") + "' has no field"
        }
        return try complain(
            node, message + " '" + text(name) + "'",
            suggestion: Environment.suggestion(for: name, among: known), .noSuchKey, fatal: true)
    }

    /// The field that a literal text names.
    private mutating func field(
        _ node: UInt32, _ fields: [Environment.Field], chosenBy keyNode: UInt32
    ) throws(CompileError) -> Type {
        let key = tree.nodes[Int(keyNode)]
        guard key.kind == .literal, tree.literals[Int(key.payload)].kind == .string else {
            return try complain(keyNode, "what is meant must be a literal text, such as \"name\"", .noSuchKey, fatal: true)
        }
        let literal = tree.literals[Int(key.payload)]
        let start = Int(literal.bits)
        return try field(node, fields, Array(tree.pool[start..<start + Int(literal.extra)]))
    }

    // MARK: Fields and elements

    private mutating func select(_ node: UInt32) throws(CompileError) -> Type {
        let here = tree.nodes[Int(node)]
        let operandNode = child(node, 0)
        if here.kind == .select, here.flag == 0, let type = try resolveName(node) { return type }
        if let fields = record(operandNode) {
            let type = try field(node, fields, tree.name(node))
            return here.kind == .has ? .bool : here.flag == 1 ? .optional(type) : type
        }
        let operand = try check(operandNode)
        var type: Type
        switch operand {
        case .map(let key, let value):
            if settled(key) != .string, settled(key) != .dyn {
                return try complain(node, "the map's keys are not strings; use [ ]")
            }
            type = settled(value)
        case .dyn: type = .dyn
        case .optional(let inner):
            if case .map(_, let value) = inner { type = .optional(settled(value)) } else { type = .optional(.dyn) }
            if here.kind == .select { return type }
        default:
            return try complain(
                node, "a value of type " + operand.description + " has no field '" + text(tree.name(node)) + "'")
        }
        if here.kind == .has { return .bool }
        return here.flag == 1 ? .optional(type) : type
    }

    private mutating func index(_ node: UInt32) throws(CompileError) -> Type {
        let here = tree.nodes[Int(node)]
        let keyNode = child(node, 1)
        if let fields = record(child(node, 0)) {
            let type = try field(node, fields, chosenBy: keyNode)
            return here.flag == 1 ? .optional(type) : type
        }
        var operand = try check(child(node, 0))
        let key = try check(keyNode)
        var isOptional = here.flag == 1
        if case .optional(let inner) = operand {
            operand = inner
            isOptional = true
        }
        var type: Type
        switch operand {
        case .list(let element):
            guard key == .int || key == .uint || key == .dyn || key == .double else {
                return try complain(keyNode, "a list is indexed by int, not " + key.description)
            }
            type = settled(element)
        case .map(let expected, let value):
            if !comparable(expected, key) {
                return try complain(
                    keyNode, "the map's keys are " + expected.description + ", not " + key.description)
            }
            type = settled(value)
        case .dyn: type = .dyn
        default: return try complain(node, "a value of type " + operand.description + " has no elements")
        }
        if isOptional { type = .optional(type) }
        return type
    }

    // MARK: Calls

    private mutating func operation(_ node: UInt32) throws(CompileError) -> Type {
        let symbol = Operator(rawValue: tree.nodes[Int(node)].payload) ?? .add
        var operands: [Type] = []
        for position in 0..<Int(tree.nodes[Int(node)].childCount) { operands.append(try check(child(node, position))) }
        switch symbol {
        case .equal, .notEqual:
            if comparable(operands[0], operands[1]) { return .bool }
        case .less, .lessOrEqual, .greater, .greaterOrEqual:
            if isOrdered(operands[0]), isOrdered(operands[1]), comparable(operands[0], operands[1]) { return .bool }
        case .contained:
            switch operands[1] {
            case .list(let element): if comparable(operands[0], element) { return .bool }
            case .map(let key, _): if comparable(operands[0], key) { return .bool }
            case .dyn: return .bool
            default: break
            }
        default:
            if let type = match(FunctionTable.signatures(of: symbol), operands) {
                // A number of a document takes the other operand's type, which only evaluation tells.
                return operands.count == 2 && operands.contains(.dyn) && isNumber(type) ? .dyn : type
            }
        }
        let isNumeric = operands.count == 2 && operands[0] != operands[1] && isNumber(operands[0]) && isNumber(operands[1])
        return try complain(
            node,
            "'" + symbol.symbol + "' does not take " + describe(operands)
                + (isNumeric ? "; convert one side, or write 2.0 for a double" : ""))
    }

    private func isNumber(_ type: Type) -> Bool { type == .int || type == .uint || type == .double }

    private func isOrdered(_ type: Type) -> Bool {
        switch type {
        case .dyn, .bool, .int, .uint, .double, .string, .bytes, .timestamp, .duration, .variable: true
        default: false
        }
    }

    /// Whether `==` may be asked of two types: either may be anything, both are numbers, or they can be one type.
    private mutating func comparable(_ left: Type, _ right: Type) -> Bool {
        if isNumber(left), isNumber(right) { return true }
        variables = []
        return unify(left, right) || unify(right, left)
    }

    private func describe(_ types: [Type]) -> String {
        var text = "("
        for (index, type) in types.enumerated() { text += (index > 0 ? ", " : "") + type.description }
        return text + ")"
    }

    private mutating func arguments(_ node: UInt32, from first: Int) throws(CompileError) -> [Type] {
        var types: [Type] = []
        for position in first..<Int(tree.nodes[Int(node)].childCount) { types.append(try check(child(node, position))) }
        return types
    }

    private mutating func call(_ node: UInt32) throws(CompileError) -> Type {
        let here = tree.nodes[Int(node)]
        if here.flag == 0, here.childCount == 1, case .lookUp(let fields)? = environment.find(tree.name(node)) {
            return try field(node, fields, chosenBy: child(node, 0))
        }
        let types = try arguments(node, from: 0)
        for candidate in candidates(tree.name(node), isGlobal: here.flag == 1) {
            if let entry = FunctionTable.find(candidate, isMember: false) {
                return try apply(node, entry, types, skipsTarget: false)
            }
        }
        return try unknownFunction(node, tree.name(node))
    }

    private mutating func memberCall(_ node: UInt32) throws(CompileError) -> Type {
        let target = child(node, 0)
        if let (name, isGlobal, first) = qualified(target), isGlobal || local(first) == nil {
            let full = name + [46] + tree.name(node)
            for candidate in candidates(full, isGlobal: isGlobal) {
                if let entry = FunctionTable.find(candidate, isMember: false) {
                    return try apply(node, entry, try arguments(node, from: 1), skipsTarget: true)
                }
            }
        }
        guard let entry = FunctionTable.find(tree.name(node), isMember: true) else {
            if !environment.checksTypes {
                // Nothing of it will be evaluated, so unknown names in it must not stop the compilation.
                resolutions[Int(node)] = .failing(.unknownFunction)
                return .dyn
            }
            _ = try check(target)
            return try unknownFunction(node, tree.name(node))
        }
        return try apply(node, entry, try arguments(node, from: 0), skipsTarget: false)
    }

    private mutating func unknownFunction(_ node: UInt32, _ name: [UInt8]) throws(CompileError) -> Type {
        var known: [[UInt8]] = []
        for entry in FunctionTable.entries { known.append(copyBytes(entry.name.bytes)) }
        let macros: [StaticString] = ["has", "all", "exists", "exists_one", "map", "filter", "optMap", "optFlatMap"]
        for macro in macros { known.append(copyBytes(macro.bytes)) }
        var message = "unknown function '" + text(name) + "'"
        for macro in macros where bytesEqual(name, macro) {
            message = "the macro '" + text(name) + "' does not take these arguments"
        }
        return try complain(
            node, message, suggestion: Environment.suggestion(for: name, among: known), .unknownFunction, fatal: true)
    }

    private mutating func apply(
        _ node: UInt32, _ entry: FunctionEntry, _ types: [Type], skipsTarget: Bool
    ) throws(CompileError) -> Type {
        resolutions[Int(node)] = .function(entry.function, skipsTarget: skipsTarget)
        if entry.function == .greatest || entry.function == .least { return try extreme(node, types) }
        if let type = match(entry.signatures, types) { return type }
        return try complain(
            node, "'" + text(copyBytes(entry.name.bytes)) + "' does not take " + describe(types), fatal: false)
    }

    /// `math.greatest` and `math.least` take any number of numbers, or one list of them.
    private mutating func extreme(_ node: UInt32, _ types: [Type]) throws(CompileError) -> Type {
        if types.count == 1, case .list(let element) = types[0], element == .dyn || isNumber(element) { return element }
        var result: Type?
        for type in types {
            if type != .dyn, !isNumber(type) { return try complain(node, "only numbers have a greatest and a least") }
            result = result == nil || result == type ? type : .dyn
        }
        if let result { return result }
        return try complain(node, "at least one argument is needed")
    }

    // MARK: Literals and loops

    private mutating func list(_ node: UInt32) throws(CompileError) -> Type {
        var element: Type?
        for position in 0..<Int(tree.nodes[Int(node)].childCount) {
            let type = try check(child(node, position))
            element = element.map { common($0, type) ?? .dyn } ?? type
        }
        return .list(element ?? .variable(-1))
    }

    private mutating func map(_ node: UInt32) throws(CompileError) -> Type {
        var key: Type?
        var value: Type?
        var position = 0
        while position < Int(tree.nodes[Int(node)].childCount) {
            let keyType = try check(child(node, position))
            switch keyType {
            case .int, .uint, .bool, .string, .dyn, .variable: break
            default:
                _ = try complain(child(node, position), "a map's key is int, uint, bool or string, not " + keyType.description)
            }
            let valueType = try check(child(node, position + 1))
            key = key.map { common($0, keyType) ?? .dyn } ?? keyType
            value = value.map { common($0, valueType) ?? .dyn } ?? valueType
            position += 2
        }
        return .map(key ?? .variable(-1), value ?? .variable(-1))
    }

    private mutating func loop(_ node: UInt32) throws(CompileError) -> Type {
        let here = tree.nodes[Int(node)]
        let kind = LoopKind(rawValue: here.flag) ?? .all
        let range = try check(child(node, 0))
        var first = Type.dyn
        var second = Type.dyn
        switch range {
        case .list(let element):
            first = here.second == Node.none ? element : .int
            second = element
        case .map(let key, let value):
            first = key
            second = value
        case .dyn: break
        default: _ = try complain(node, "only lists and maps have this macro, not " + range.description)
        }
        let outer = locals.count
        enter(here.payload, settled(first))
        if here.second != Node.none { enter(here.second, settled(second)) }
        resolutions[Int(node)] = .local(outer)
        defer { locals.removeLast(locals.count - outer) }
        if here.childCount == 3 { try expectBool(child(node, 1)) }
        let bodyNode = child(node, Int(here.childCount) - 1)
        switch kind {
        case .all, .exists, .existsOne:
            try expectBool(bodyNode)
            return .bool
        case .filter:
            try expectBool(bodyNode)
            return .list(settled(first))
        case .map: return .list(try check(bodyNode))
        case .transformMap: return .map(settled(first), try check(bodyNode))
        case .transformMapEntry:
            let body = try check(bodyNode)
            if case .map = body { return body }
            return body == .dyn ? .dyn : try complain(bodyNode, "the body must be a map, not " + body.description)
        }
    }

    /// The element of an empty literal is anything.
    private func settled(_ type: Type) -> Type {
        if case .variable = type { return .dyn }
        return type
    }

    // MARK: Types

    /// The type that both are, for branches and elements: nil for two different ones.
    private func common(_ left: Type, _ right: Type) -> Type? {
        if left == right { return left }
        switch (left, right) {
        case (.variable, _): return right
        case (_, .variable): return left
        case (.dyn, _), (_, .dyn): return .dyn
        case (.list(let a), .list(let b)): return common(a, b).map { .list($0) }
        case (.optional(let a), .optional(let b)): return common(a, b).map { .optional($0) }
        case (.map(let a, let x), .map(let b, let y)):
            if let key = common(a, b), let value = common(x, y) { return .map(key, value) }
            return nil
        case (.null, .optional), (.null, .timestamp), (.null, .duration): return right
        case (.optional, .null), (.timestamp, .null), (.duration, .null): return left
        default: return nil
        }
    }

    /// Whether an argument may be given where a parameter's type is wanted; binds the parameter's variables.
    private mutating func unify(_ argument: Type, _ parameter: Type) -> Bool {
        switch (argument, parameter) {
        case (.dyn, _), (_, .dyn): return true
        case (.variable(-1), _): return true
        case (_, .variable(let number)):
            if number < 0 { return true }
            while variables.count <= number { variables.append(nil) }
            guard let bound = variables[number] else {
                variables[number] = argument
                return true
            }
            if let both = common(bound, argument) {
                variables[number] = both
                return true
            }
            return false
        case (.list(let a), .list(let b)), (.optional(let a), .optional(let b)): return unify(a, b)
        case (.map(let a, let x), .map(let b, let y)): return unify(a, b) && unify(x, y)
        case (.null, .timestamp), (.null, .duration): return true
        default: return argument == parameter
        }
    }

    private func substitute(_ type: Type) -> Type {
        switch type {
        case .variable(let number):
            return number >= 0 && number < variables.count ? settled(variables[number] ?? .dyn) : .dyn
        case .list(let element): return .list(substitute(element))
        case .optional(let value): return .optional(substitute(value))
        case .map(let key, let value): return .map(substitute(key), substitute(value))
        default: return type
        }
    }

    /// The result type of the overload that takes the arguments; `dyn` if several with different results do.
    private mutating func match(_ signatures: StaticString, _ arguments: [Type]) -> Type? {
        let text = copyBytes(signatures.bytes)
        var position = 0
        var result: Type?
        while position < text.count {
            variables = []
            var fits = true
            var index = 0
            while text[position] != UInt8(ascii: ">") {
                let parameter = Checker.read(text, &position)
                if index >= arguments.count || !unify(arguments[index], parameter) { fits = false }
                index += 1
            }
            position += 1
            let type = Checker.read(text, &position)
            position += 1
            if fits, index == arguments.count {
                let found = substitute(type)
                if result == nil || result == found { result = found } else { return .dyn }
            }
        }
        return result
    }

    private static func read(_ text: [UInt8], _ position: inout Int) -> Type {
        let letter = text[position]
        position += 1
        switch letter {
        case UInt8(ascii: "N"): return .null
        case UInt8(ascii: "b"): return .bool
        case UInt8(ascii: "i"): return .int
        case UInt8(ascii: "u"): return .uint
        case UInt8(ascii: "d"): return .double
        case UInt8(ascii: "s"): return .string
        case UInt8(ascii: "y"): return .bytes
        case UInt8(ascii: "t"): return .timestamp
        case UInt8(ascii: "n"): return .duration
        case UInt8(ascii: "T"): return .type
        case UInt8(ascii: "p"): return .ip
        case UInt8(ascii: "c"): return .cidr
        case UInt8(ascii: "A"): return .variable(0)
        case UInt8(ascii: "B"): return .variable(1)
        case UInt8(ascii: "L"): return .list(read(text, &position))
        case UInt8(ascii: "O"): return .optional(read(text, &position))
        case UInt8(ascii: "M"):
            let key = read(text, &position)
            return .map(key, read(text, &position))
        default: return .dyn
        }
    }
}
