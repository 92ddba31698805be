// Tokens to a tree, per the grammar in cel-spec doc/langdef.md "Syntax", with macros expanded on the way. It need not
// know which names exist or what types anything has.

struct Parser {
    private var lexer: Lexer
    private var tree = Tree()
    private let expandsMacros: Bool
    private var depth = 0

    /// - Parameter source: UTF-8 text of one expression, at most `Limits.sourceBytes`.
    /// - Throws: `CompileError` at the first place that the grammar does not allow.
    static func parse(_ source: [UInt8], expandsMacros: Bool = true) throws(CompileError) -> Tree {
        var parser = Parser(lexer: try Lexer(source), expandsMacros: expandsMacros)
        parser.tree.root = try parser.expression()
        if parser.lexer.token != .end { throw parser.lexer.failure("the expression should end here") }
        return parser.tree
    }

    private init(lexer: Lexer, expandsMacros: Bool) {
        self.lexer = lexer
        self.expandsMacros = expandsMacros
    }

    // MARK: Nodes

    private mutating func add(
        _ kind: NodeKind, at offset: Int, _ children: [UInt32] = [], payload: UInt32 = 0, flag: UInt8 = 0,
        second: UInt32 = Node.none
    ) throws(CompileError) -> UInt32 {
        var depth: UInt16 = 0
        for child in children { depth = max(depth, tree.nodes[Int(child)].depth) }
        if Int(depth) >= Limits.nestingLevels {
            throw lexer.failure("the expression is nested more than \(Limits.nestingLevels) levels deep", at: offset)
        }
        if tree.nodes.count >= Limits.expressionNodes {
            throw lexer.failure("the expression has more than \(Limits.expressionNodes) parts", at: offset)
        }
        tree.nodes.append(
            Node(
                kind: kind, flag: flag, depth: depth + 1, offset: UInt32(offset),
                firstChild: UInt32(tree.children.count), childCount: UInt32(children.count), payload: payload,
                second: second))
        tree.children.append(contentsOf: children)
        return UInt32(tree.nodes.count - 1)
    }

    private mutating func name(_ bytes: [UInt8]) -> UInt32 {
        for (index, known) in tree.names.enumerated() where known == bytes { return UInt32(index) }
        tree.names.append(bytes)
        return UInt32(tree.names.count - 1)
    }

    private mutating func literal(_ value: Value, at offset: Int) throws(CompileError) -> UInt32 {
        tree.literals.append(value)
        return try add(.literal, at: offset, payload: UInt32(tree.literals.count - 1))
    }

    private mutating func accept(_ token: Token) throws(CompileError) -> Bool {
        guard lexer.token == token else { return false }
        try lexer.advance()
        return true
    }

    private mutating func expect(_ token: Token, _ what: String) throws(CompileError) {
        if lexer.token == token { return try lexer.advance() }
        throw lexer.failure(lexer.token == .end ? "the expression ends where " + what + " should follow" : what + " should stand here")
    }

    // MARK: Operators

    private mutating func expression() throws(CompileError) -> UInt32 {
        depth += 1
        defer { depth -= 1 }
        if depth > Limits.nestingLevels {
            throw lexer.failure("the expression is nested more than \(Limits.nestingLevels) levels deep")
        }
        let condition = try disjunction()
        guard lexer.token == .question else { return condition }
        let offset = lexer.start
        try lexer.advance()
        let then = try disjunction()
        try expect(.colon, "':'")
        let otherwise = try expression()
        return try add(.conditional, at: offset, [condition, then, otherwise])
    }

    private mutating func disjunction() throws(CompileError) -> UInt32 {
        let first = try conjunction()
        guard lexer.token == .or else { return first }
        let offset = lexer.start
        var operands = [first]
        while try accept(.or) { operands.append(try conjunction()) }
        return try add(.or, at: offset, operands)
    }

    private mutating func conjunction() throws(CompileError) -> UInt32 {
        let first = try binary(0)
        guard lexer.token == .and else { return first }
        let offset = lexer.start
        var operands = [first]
        while try accept(.and) { operands.append(try binary(0)) }
        return try add(.and, at: offset, operands)
    }

    /// Relations (0), sums (1) and products (2), all left-associative.
    private mutating func binary(_ level: Int) throws(CompileError) -> UInt32 {
        var left = level == 2 ? try unary() : try binary(level + 1)
        while let symbol = binaryOperator(level) {
            let offset = lexer.start
            try lexer.advance()
            let right = level == 2 ? try unary() : try binary(level + 1)
            left = try add(.operation, at: offset, [left, right], payload: symbol.rawValue)
        }
        return left
    }

    private func binaryOperator(_ level: Int) -> Operator? {
        switch (level, lexer.token) {
        case (0, .equal): .equal
        case (0, .notEqual): .notEqual
        case (0, .less): .less
        case (0, .lessOrEqual): .lessOrEqual
        case (0, .greater): .greater
        case (0, .greaterOrEqual): .greaterOrEqual
        case (0, .keywordIn): .contained
        case (1, .plus): .add
        case (1, .minus): .subtract
        case (2, .star): .multiply
        case (2, .slash): .divide
        case (2, .percent): .remainder
        default: nil
        }
    }

    private mutating func unary() throws(CompileError) -> UInt32 {
        let offset = lexer.start
        guard lexer.token == .not || lexer.token == .minus else { return try member() }
        let token = lexer.token
        var count = 0
        while lexer.token == token {
            try lexer.advance()
            count += 1
            if count > Limits.nestingLevels { throw lexer.failure("too many operators in a row", at: offset) }
        }
        if token == .minus, lexer.token == .int || lexer.token == .double {
            var operand = try member(negated: true)
            for _ in 1..<count {
                operand = try add(.operation, at: offset, [operand], payload: Operator.negate.rawValue)
            }
            return operand
        }
        var operand = try member()
        let symbol = token == .not ? Operator.not : Operator.negate
        for _ in 0..<count { operand = try add(.operation, at: offset, [operand], payload: symbol.rawValue) }
        return operand
    }

    // MARK: Members

    private mutating func member(negated: Bool = false) throws(CompileError) -> UInt32 {
        var operand = try primary(negated: negated)
        while true {
            let offset = lexer.start
            switch lexer.token {
            case .dot:
                try lexer.advance()
                let isOptional = try accept(.question)
                let field: UInt32
                if lexer.token == .quotedIdentifier {
                    field = name(lexer.text)
                } else if lexer.token == .identifier {
                    field = name(Array(lexer.source[lexer.start..<lexer.end]))
                } else {
                    throw lexer.failure("a field name should follow the dot")
                }
                let wasQuoted = lexer.token == .quotedIdentifier
                let place = lexer.start
                try lexer.advance()
                if lexer.token == .leftParenthesis, !isOptional, !wasQuoted {
                    operand = try memberCall(operand, field, at: place)
                } else {
                    operand = try add(.select, at: place, [operand], payload: field, flag: isOptional ? 1 : 0)
                }
            case .leftBracket:
                try lexer.advance()
                let isOptional = try accept(.question)
                let key = try expression()
                try expect(.rightBracket, "']'")
                operand = try add(.index, at: offset, [operand, key], flag: isOptional ? 1 : 0)
            case .leftBrace:
                let kind = tree.nodes[Int(operand)].kind
                if kind == .name || kind == .select {
                    throw lexer.failure("messages are not part of this language; a map is written {'key': value}")
                }
                return operand
            default:
                return operand
            }
        }
    }

    private mutating func arguments() throws(CompileError) -> [UInt32] {
        try expect(.leftParenthesis, "'('")
        var list: [UInt32] = []
        while lexer.token != .rightParenthesis {
            list.append(try expression())
            if lexer.token != .rightParenthesis { try expect(.comma, "',' or ')'") }
            if lexer.token == .rightParenthesis, list.isEmpty { break }
        }
        try lexer.advance()
        return list
    }

    private mutating func primary(negated: Bool) throws(CompileError) -> UInt32 {
        let offset = lexer.start
        switch lexer.token {
        case .int:
            let magnitude = lexer.number
            if magnitude > UInt64(Int64.max) + (negated ? 1 : 0) {
                throw lexer.failure("the number does not fit an int; a uint is written with u after it")
            }
            try lexer.advance()
            return try literal(.int(negated ? Int64(bitPattern: 0 &- magnitude) : Int64(magnitude)), at: offset)
        case .uint:
            let value = lexer.number
            try lexer.advance()
            return try literal(.uint(value), at: offset)
        case .double:
            let value = Double(bitPattern: lexer.number)
            try lexer.advance()
            return try literal(.double(negated ? -value : value), at: offset)
        case .string, .bytes:
            let kind = lexer.token == .string ? Kind.string : Kind.bytes
            let value = Value(kind, bits: UInt64(tree.pool.count), extra: UInt32(lexer.text.count))
            tree.pool.append(contentsOf: lexer.text)
            try lexer.advance()
            return try literal(value, at: offset)
        case .keywordTrue, .keywordFalse:
            let value = lexer.token == .keywordTrue
            try lexer.advance()
            return try literal(.bool(value), at: offset)
        case .keywordNull:
            try lexer.advance()
            return try literal(.null, at: offset)
        case .leftParenthesis:
            try lexer.advance()
            let inner = try expression()
            try expect(.rightParenthesis, "')'")
            return inner
        case .leftBracket: return try list()
        case .leftBrace: return try map()
        case .identifier: return try identifier(isGlobal: false, at: offset)
        case .dot:
            try lexer.advance()
            guard lexer.token == .identifier else { throw lexer.failure("a name should follow the dot") }
            return try identifier(isGlobal: true, at: offset)
        case .end: throw lexer.failure("the expression ends where a value should follow")
        default: throw lexer.failure("a value should stand here")
        }
    }

    private mutating func identifier(isGlobal: Bool, at offset: Int) throws(CompileError) -> UInt32 {
        let bytes = Array(lexer.source[lexer.start..<lexer.end])
        if Parser.isReserved(bytes) {
            throw lexer.failure("'" + String(decoding: bytes, as: UTF8.self) + "' is a reserved word")
        }
        try lexer.advance()
        let flag: UInt8 = isGlobal ? 1 : 0
        guard lexer.token == .leftParenthesis else {
            return try add(.name, at: offset, payload: name(bytes), flag: flag)
        }
        let list = try arguments()
        if expandsMacros, !isGlobal, bytesEqual(bytes, "has") { return try has(list, at: offset) }
        return try add(.call, at: offset, list, payload: name(bytes), flag: flag)
    }

    static func isReserved(_ word: [UInt8]) -> Bool {
        let words: [StaticString] = [
            "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
            "namespace", "return", "var", "void", "while",
        ]
        for reserved in words where bytesEqual(word, reserved) { return true }
        return false
    }

    private mutating func list() throws(CompileError) -> UInt32 {
        let offset = lexer.start
        try lexer.advance()
        var elements: [UInt32] = []
        while lexer.token != .rightBracket {
            let place = lexer.start
            let isOptional = try accept(.question)
            let element = try expression()
            elements.append(isOptional ? try add(.optionalElement, at: place, [element]) : element)
            if lexer.token != .rightBracket { try expect(.comma, "',' or ']'") }
        }
        try lexer.advance()
        return try add(.list, at: offset, elements)
    }

    private mutating func map() throws(CompileError) -> UInt32 {
        let offset = lexer.start
        try lexer.advance()
        var entries: [UInt32] = []
        while lexer.token != .rightBrace {
            let place = lexer.start
            let isOptional = try accept(.question)
            entries.append(try expression())
            try expect(.colon, "':'")
            let value = try expression()
            entries.append(isOptional ? try add(.optionalElement, at: place, [value]) : value)
            if lexer.token != .rightBrace { try expect(.comma, "',' or '}'") }
        }
        try lexer.advance()
        return try add(.map, at: offset, entries)
    }

    // MARK: Macros

    private mutating func has(_ list: [UInt32], at offset: Int) throws(CompileError) -> UInt32 {
        guard list.count == 1 else { throw lexer.failure("has() takes one field, as in has(a.b)", at: offset) }
        let operand = tree.nodes[Int(list[0])]
        if operand.kind == .select {
            return try add(
                .has, at: offset, [tree.child(list[0], 0)], payload: operand.payload, flag: operand.flag)
        }
        throw lexer.failure("has() takes a field, as in has(a.b)", at: Int(operand.offset))
    }

    private mutating func memberCall(_ target: UInt32, _ field: UInt32, at offset: Int) throws(CompileError) -> UInt32 {
        let list = try arguments()
        if expandsMacros {
            if let expanded = try macro(target, tree.names[Int(field)], list, at: offset) { return expanded }
        }
        return try add(.memberCall, at: offset, [target] + list, payload: field)
    }

    private mutating func macro(
        _ target: UInt32, _ word: [UInt8], _ list: [UInt32], at offset: Int
    ) throws(CompileError) -> UInt32? {
        switch (word.count, list.count) {
        case (3, 2) where bytesEqual(word, "all"): return try loop(.all, target, list, 1, at: offset)
        case (3, 3) where bytesEqual(word, "all"): return try loop(.all, target, list, 2, at: offset)
        case (6, 2) where bytesEqual(word, "exists"): return try loop(.exists, target, list, 1, at: offset)
        case (6, 3) where bytesEqual(word, "exists"): return try loop(.exists, target, list, 2, at: offset)
        case (_, 2) where bytesEqual(word, "exists_one") || bytesEqual(word, "existsOne"):
            return try loop(.existsOne, target, list, 1, at: offset)
        case (_, 3) where bytesEqual(word, "exists_one") || bytesEqual(word, "existsOne"):
            return try loop(.existsOne, target, list, 2, at: offset)
        case (3, 2) where bytesEqual(word, "map"), (3, 3) where bytesEqual(word, "map"):
            return try loop(.map, target, list, 1, at: offset)
        case (6, 2) where bytesEqual(word, "filter"): return try loop(.filter, target, list, 1, at: offset)
        case (13, 3) where bytesEqual(word, "transformList"), (13, 4) where bytesEqual(word, "transformList"):
            return try loop(.map, target, list, 2, at: offset)
        case (12, 3) where bytesEqual(word, "transformMap"), (12, 4) where bytesEqual(word, "transformMap"):
            return try loop(.transformMap, target, list, 2, at: offset)
        case (17, 3) where bytesEqual(word, "transformMapEntry"), (17, 4) where bytesEqual(word, "transformMapEntry"):
            return try loop(.transformMapEntry, target, list, 2, at: offset)
        case (4, 3) where bytesEqual(word, "bind"):
            let owner = tree.nodes[Int(target)]
            guard owner.kind == .name, bytesEqual(tree.names[Int(owner.payload)], "cel") else { return nil }
            return try add(.bind, at: offset, [list[1], list[2]], payload: try variable(list[0]))
        case (6, 2) where bytesEqual(word, "optMap"), (10, 2) where bytesEqual(word, "optFlatMap"):
            return try add(
                .optionalMap, at: offset, [target, list[1]], payload: try variable(list[0]), flag: word.count == 10 ? 1 : 0)
        default: return nil
        }
    }

    /// `variables` names come first, then perhaps a filter, then the body.
    private mutating func loop(
        _ kind: LoopKind, _ range: UInt32, _ list: [UInt32], _ variables: Int, at offset: Int
    ) throws(CompileError) -> UInt32 {
        let first = try variable(list[0])
        var second = Node.none
        if variables == 2 {
            second = try variable(list[1])
            if second == first { throw lexer.failure("the two variables have the same name", at: offset) }
        }
        return try add(
            .loop, at: offset, [range] + list[variables...], payload: first, flag: kind.rawValue, second: second)
    }

    private func variable(_ node: UInt32) throws(CompileError) -> UInt32 {
        let found = tree.nodes[Int(node)]
        guard found.kind == .name, found.flag == 0 else {
            throw lexer.failure("a plain variable name should stand here", at: Int(found.offset))
        }
        return found.payload
    }
}
