// Text to tokens, per cel-spec doc/langdef.md "Syntax". It allocates only for literals with escapes and need not know
// the grammar.

import Formats

enum Token: UInt8 {
    case end, identifier, quotedIdentifier, int, uint, double, string, bytes
    case leftParenthesis, rightParenthesis, leftBracket, rightBracket, leftBrace, rightBrace
    case dot, comma, colon, question, plus, minus, star, slash, percent
    case not, equal, notEqual, less, lessOrEqual, greater, greaterOrEqual, and, or
    case keywordTrue, keywordFalse, keywordNull, keywordIn
}

struct Lexer {
    let source: [UInt8]
    private(set) var position = 0
    private(set) var token = Token.end
    /// Where the current token begins and ends.
    private(set) var start = 0
    private(set) var end = 0
    /// Where the token before it ended.
    private(set) var previousEnd = 0
    /// Magnitude of an integer, or bit pattern of a double.
    private(set) var number: UInt64 = 0
    /// Decoded text of a string, bytes or quoted identifier token.
    private(set) var text: [UInt8] = []

    init(_ source: [UInt8]) throws(CompileError) {
        self.source = source
        if source.count > Limits.sourceBytes {
            throw CompileError([], at: 0, "the expression is longer than \(Limits.sourceBytes) bytes")
        }
        try advance()
    }

    func failure(_ message: String, at offset: Int? = nil) -> CompileError {
        CompileError(source, at: offset ?? start, message)
    }

    private func peek(_ ahead: Int = 0) -> UInt8 { position + ahead < source.count ? source[position + ahead] : 0 }

    /// Reads the next token.
    mutating func advance() throws(CompileError) {
        previousEnd = end
        skipSpace()
        start = position
        defer { end = position }
        guard position < source.count else {
            token = .end
            return
        }
        let byte = source[position]
        if isLetter(byte) {
            if try literalWithPrefix() { return }
            while isLetter(peek()) || isDigit(peek()) { position += 1 }
            token = keyword()
            return
        }
        if isDigit(byte) || (byte == 0x2E && isDigit(peek(1))) { return try numberToken() }
        if byte == 0x22 || byte == 0x27 {
            token = .string
            return try quoted(raw: false, bytes: false)
        }
        if byte == 0x60 { return try quotedIdentifier() }
        position += 1
        switch byte {
        case UInt8(ascii: "("): token = .leftParenthesis
        case UInt8(ascii: ")"): token = .rightParenthesis
        case UInt8(ascii: "["): token = .leftBracket
        case UInt8(ascii: "]"): token = .rightBracket
        case UInt8(ascii: "{"): token = .leftBrace
        case UInt8(ascii: "}"): token = .rightBrace
        case UInt8(ascii: "."): token = .dot
        case UInt8(ascii: ","): token = .comma
        case UInt8(ascii: ":"): token = .colon
        case UInt8(ascii: "?"): token = .question
        case UInt8(ascii: "+"): token = .plus
        case UInt8(ascii: "-"): token = .minus
        case UInt8(ascii: "*"): token = .star
        case UInt8(ascii: "/"): token = .slash
        case UInt8(ascii: "%"): token = .percent
        case UInt8(ascii: "!"): token = accept(UInt8(ascii: "=")) ? .notEqual : .not
        case UInt8(ascii: "<"): token = accept(UInt8(ascii: "=")) ? .lessOrEqual : .less
        case UInt8(ascii: ">"): token = accept(UInt8(ascii: "=")) ? .greaterOrEqual : .greater
        case UInt8(ascii: "="):
            if !accept(UInt8(ascii: "=")) { throw failure("'=' assigns nothing here; equality is '=='") }
            token = .equal
        case UInt8(ascii: "&"):
            if !accept(UInt8(ascii: "&")) { throw failure("'&' is not an operator; 'and' is '&&'") }
            token = .and
        case UInt8(ascii: "|"):
            if !accept(UInt8(ascii: "|")) { throw failure("'|' is not an operator; 'or' is '||'") }
            token = .or
        default: throw failure("unexpected character")
        }
    }

    private mutating func accept(_ byte: UInt8) -> Bool {
        guard peek() == byte else { return false }
        position += 1
        return true
    }

    private mutating func skipSpace() {
        while position < source.count {
            let byte = source[position]
            if byte == 32 || (byte >= 9 && byte <= 13) {
                position += 1
            } else if byte == UInt8(ascii: "/"), peek(1) == UInt8(ascii: "/") {
                while position < source.count, source[position] != 10 { position += 1 }
            } else {
                return
            }
        }
    }

    private func isLetter(_ byte: UInt8) -> Bool {
        (byte >= 97 && byte <= 122) || (byte >= 65 && byte <= 90) || byte == 95
    }

    private func isDigit(_ byte: UInt8) -> Bool { byte >= 48 && byte <= 57 }

    private func keyword() -> Token {
        switch position - start {
        case 2: matches("in") ? .keywordIn : .identifier
        case 4: matches("true") ? .keywordTrue : matches("null") ? .keywordNull : .identifier
        case 5: matches("false") ? .keywordFalse : .identifier
        default: .identifier
        }
    }

    func matches(_ word: StaticString) -> Bool {
        guard position - start == word.utf8CodeUnitCount else { return false }
        return bytesEqual(source, start, word)
    }

    // MARK: Numbers

    private mutating func numberToken() throws(CompileError) {
        if peek() == UInt8(ascii: "0"), peek(1) | 0x20 == UInt8(ascii: "x") {
            position += 2
            let first = position
            var value: UInt64 = 0
            while let digit = hexadecimalDigit(peek()), position < source.count {
                if value >> 60 != 0 { throw failure("the number does not fit 64 bits") }
                value = value << 4 | UInt64(digit)
                position += 1
            }
            if position == first { throw failure("hexadecimal digits are missing after 0x") }
            number = value
            return try integerSuffix()
        }
        var isDouble = false
        while isDigit(peek()) { position += 1 }
        if peek() == UInt8(ascii: "."), isDigit(peek(1)) {
            isDouble = true
            position += 1
            while isDigit(peek()) { position += 1 }
        }
        if peek() | 0x20 == UInt8(ascii: "e") {
            let sign = peek(1) == UInt8(ascii: "+") || peek(1) == UInt8(ascii: "-") ? 1 : 0
            if isDigit(peek(1 + sign)) {
                isDouble = true
                position += 1 + sign
                while isDigit(peek()) { position += 1 }
            }
        }
        if isDouble {
            guard let value = parseDoubleLiteral(source, start, position) else {
                throw failure("not a number")
            }
            number = value.bitPattern
            token = .double
            return try noLetterFollows()
        }
        var value: UInt64 = 0
        for index in start..<position {
            let (product, over) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(source[index] - 48))
            if over || carry { throw failure("the number does not fit 64 bits") }
            value = sum
        }
        number = value
        try integerSuffix()
    }

    private mutating func integerSuffix() throws(CompileError) {
        if peek() | 0x20 == UInt8(ascii: "u") {
            position += 1
            token = .uint
        } else {
            token = .int
        }
        try noLetterFollows()
    }

    private func noLetterFollows() throws(CompileError) {
        if isLetter(peek()) || isDigit(peek()) { throw failure("a letter follows a number") }
    }

    // MARK: Strings

    /// `r`, `b`, `br` and `rb` in either case before a quote.
    private mutating func literalWithPrefix() throws(CompileError) -> Bool {
        var raw = false
        var bytes = false
        var length = 0
        while length < 2 {
            let letter = peek(length) | 0x20
            if letter == UInt8(ascii: "r"), !raw {
                raw = true
            } else if letter == UInt8(ascii: "b"), !bytes {
                bytes = true
            } else {
                break
            }
            length += 1
        }
        guard length > 0, peek(length) == 0x22 || peek(length) == 0x27 else { return false }
        position += length
        token = bytes ? .bytes : .string
        try quoted(raw: raw, bytes: bytes)
        return true
    }

    private mutating func quotedIdentifier() throws(CompileError) {
        position += 1
        text = []
        while peek() != 0x60 {
            let byte = peek()
            guard isLetter(byte) || isDigit(byte) || byte == 45 || byte == 46 || byte == 47 || byte == 32 else {
                throw failure("letters, digits and '_', '-', '.', '/', ' ' only between backticks", at: position)
            }
            text.append(byte)
            position += 1
        }
        position += 1
        if text.isEmpty { throw failure("an empty name between backticks") }
        token = .quotedIdentifier
    }

    private mutating func quoted(raw: Bool, bytes: Bool) throws(CompileError) {
        let quote = peek()
        let triple = peek(1) == quote && peek(2) == quote
        position += triple ? 3 : 1
        text = []
        while true {
            guard position < source.count else { throw failure("the string does not end") }
            let byte = source[position]
            if byte == quote, !triple || (peek(1) == quote && peek(2) == quote) {
                position += triple ? 3 : 1
                break
            }
            if !triple, byte == 10 || byte == 13 { throw failure("the string does not end on its line") }
            position += 1
            if byte == 0x5C {
                guard position < source.count else { throw failure("the string does not end") }
                if raw {
                    text.append(byte)
                    text.append(source[position])
                    position += 1
                } else {
                    try escape(bytes)
                }
            } else {
                text.append(byte)
            }
        }
        if !bytes, !isValidUTF8(text.span, 0, text.count) { throw failure("the string is not valid UTF-8") }
    }

    private mutating func escape(_ bytes: Bool) throws(CompileError) {
        let place = position - 1
        let byte = source[position]
        position += 1
        switch byte {
        case UInt8(ascii: "a"): text.append(7)
        case UInt8(ascii: "b"): text.append(8)
        case UInt8(ascii: "f"): text.append(12)
        case UInt8(ascii: "n"): text.append(10)
        case UInt8(ascii: "r"): text.append(13)
        case UInt8(ascii: "t"): text.append(9)
        case UInt8(ascii: "v"): text.append(11)
        case 0x22, 0x27, 0x5C, 0x60, 0x3F: text.append(byte)
        case UInt8(ascii: "x"), UInt8(ascii: "X"): appendCode(try digits(2, place), bytes)
        case UInt8(ascii: "u") where !bytes: try appendScalar(try digits(4, place), place)
        case UInt8(ascii: "U") where !bytes: try appendScalar(try digits(8, place), place)
        case 48...51:
            position -= 1
            var value: UInt32 = 0
            for _ in 0..<3 {
                guard peek() >= 48, peek() <= 55 else {
                    throw failure("an octal escape has three digits 0 to 7", at: place)
                }
                value = value << 3 | UInt32(peek() - 48)
                position += 1
            }
            appendCode(value, bytes)
        default: throw failure("unknown escape; a backslash itself is '\\\\'", at: place)
        }
    }

    private mutating func digits(_ count: Int, _ place: Int) throws(CompileError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<count {
            guard position < source.count, let digit = hexadecimalDigit(source[position]) else {
                throw failure("the escape needs \(count) hexadecimal digits", at: place)
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }

    private mutating func appendCode(_ value: UInt32, _ bytes: Bool) {
        if bytes {
            text.append(UInt8(truncatingIfNeeded: value))
        } else {
            appendUTF8(value, &text)
        }
    }

    private mutating func appendScalar(_ value: UInt32, _ place: Int) throws(CompileError) {
        if value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF) {
            throw failure("the escape is not a Unicode code point", at: place)
        }
        appendUTF8(value, &text)
    }
}
