// Regular expressions in RE2's syntax, matched in time linear in the text: patterns become automata over bytes. A small
// one is made deterministic when it is compiled, so that matching is a table look-up a byte; any other is run as a set
// of states. It need not know the expression language.

import Formats

/// A compiled pattern: immutable, shared between threads.
struct RegularExpression: Sendable {
    struct Instruction: Sendable {
        enum Code: UInt8, Sendable { case range, split, assert, match }
        var code: Code
        /// Bytes `low ... high`; of `assert` the raw value of `Assertion` in `low`.
        var low: UInt8 = 0
        var high: UInt8 = 0
        var next: UInt16 = 0
        var other: UInt16 = 0
    }

    enum Assertion: UInt8, Sendable { case textStart, textEnd, lineStart, lineEnd, word, notWord }

    fileprivate(set) var instructions: [Instruction] = []
    fileprivate(set) var start: UInt16 = 0
    fileprivate(set) var table = Deterministic()

    /// Compiles a pattern; nil if it is not of RE2's syntax or larger than `Limits.regularExpressionInstructions`.
    ///
    /// - Parameters:
    ///   - isLasting: for many texts: worth making deterministic.
    ///   - categories: kept by the caller from one pattern to the next.
    ///   - work: reduced by the steps that it took; a pattern that takes more is refused.
    static func compile(
        _ pattern: [UInt8], isLasting: Bool = false, _ categories: inout UnicodeCategories, work: inout Int64
    ) -> RegularExpression? {
        guard isValidUTF8(pattern.span, 0, pattern.count) else { return nil }
        var parser = PatternParser(pattern, &categories, work: work)
        let parsed = parser.parse()
        parser.end(&categories, &work)
        guard let tree = parsed else { return nil }
        var builder = Builder()
        let end = builder.add(Instruction(code: .match))
        let start = builder.emit(tree, end)
        guard !builder.isTooLarge else { return nil }
        var result = RegularExpression()
        result.instructions = builder.instructions
        result.start = start
        if isLasting { result.table = Deterministic(result) ?? Deterministic() }
        return result
    }
}

/// A pattern as a tree.
indirect enum Pattern {
    case empty
    /// Nothing matches.
    case never
    /// Code points, as sorted pairs of first and last.
    case set([(UInt32, UInt32)])
    case sequence([Pattern])
    case choice([Pattern])
    /// `maximum` -1: without end.
    case repetition(Pattern, minimum: Int32, maximum: Int32)
    case assertion(RegularExpression.Assertion)
}

// MARK: Syntax

private struct PatternParser {
    private let text: [UInt8]
    private var index = 0
    private var depth = 0
    private var ignoresCase = false
    private var isMultiLine = false
    private var dotMatchesNewline = false
    private var failed = false
    private var categories = UnicodeCategories()
    /// Steps that are left: ranges of sets, and letters whose other case is sought.
    private var work: Int64

    /// Borrows `categories` until `end`.
    init(_ text: [UInt8], _ categories: inout UnicodeCategories, work: Int64) {
        self.text = text
        self.work = work
        swap(&self.categories, &categories)
    }

    mutating func end(_ categories: inout UnicodeCategories, _ work: inout Int64) {
        swap(&self.categories, &categories)
        work = self.work
    }

    /// Takes steps; a pattern that needs more than there are is refused.
    private mutating func charge(_ steps: Int) {
        work -= Int64(steps)
        if work < 0 {
            failed = true
            index = text.count
        }
    }

    mutating func parse() -> Pattern? {
        let pattern = alternatives()
        return failed || index < text.count ? nil : pattern
    }

    private var peek: UInt8 { index < text.count ? text[index] : 0 }
    private var isAtEnd: Bool { index >= text.count }

    private mutating func fail() -> Pattern {
        failed = true
        index = text.count
        return .never
    }

    private mutating func accept(_ byte: UInt8) -> Bool {
        guard !isAtEnd, text[index] == byte else { return false }
        index += 1
        return true
    }

    private mutating func scalar() -> UInt32 {
        let (scalar, length) = decodeScalar(text.span, index)
        index += length
        return scalar
    }

    private mutating func alternatives() -> Pattern {
        depth += 1
        defer { depth -= 1 }
        if depth > Limits.regularExpressionNesting { return fail() }
        let flags = (ignoresCase, isMultiLine, dotMatchesNewline)
        defer { (ignoresCase, isMultiLine, dotMatchesNewline) = flags }
        var choices: [Pattern] = []
        repeat {
            choices.append(sequence())
        } while accept(UInt8(ascii: "|"))
        return choices.count == 1 ? choices[0] : .choice(choices)
    }

    private mutating func sequence() -> Pattern {
        var parts: [Pattern] = []
        while !isAtEnd, peek != UInt8(ascii: "|"), peek != UInt8(ascii: ")"), !failed {
            if text[index] == UInt8(ascii: "\\"), index + 1 < text.count, text[index + 1] == UInt8(ascii: "Q") {
                index += 2
                literal(&parts)
                continue
            }
            guard let atom = atom() else { continue }
            parts.append(repeated(atom))
        }
        return parts.count == 1 ? parts[0] : parts.isEmpty ? .empty : .sequence(parts)
    }

    /// `\Q…\E`
    private mutating func literal(_ parts: inout [Pattern]) {
        while !isAtEnd {
            if text[index] == UInt8(ascii: "\\"), index + 1 < text.count, text[index + 1] == UInt8(ascii: "E") {
                index += 2
                return
            }
            parts.append(single(scalar()))
        }
    }

    private mutating func repeated(_ atom: Pattern) -> Pattern {
        var minimum: Int32 = 0
        var maximum: Int32 = -1
        switch peek {
        case UInt8(ascii: "*") where !isAtEnd: index += 1
        case UInt8(ascii: "+"):
            index += 1
            minimum = 1
        case UInt8(ascii: "?"):
            index += 1
            maximum = 1
        case UInt8(ascii: "{"):
            guard let counts = counts() else { return atom }
            (minimum, maximum) = counts
            if maximum >= 0 && maximum < minimum || max(minimum, maximum) > Limits.regularExpressionRepetitions {
                return fail()
            }
        default: return atom
        }
        _ = accept(UInt8(ascii: "?"))
        // RE2 refuses `a**`.
        if !isAtEnd, peek == UInt8(ascii: "*") || peek == UInt8(ascii: "+") || peek == UInt8(ascii: "?") { return fail() }
        if !isAtEnd, peek == UInt8(ascii: "{") {
            let place = index
            if counts() != nil { return fail() }
            index = place
        }
        return .repetition(atom, minimum: minimum, maximum: maximum)
    }

    /// `{n}`, `{n,}`, `{n,m}`; anything else is the text of it.
    private mutating func counts() -> (Int32, Int32)? {
        let place = index
        index += 1
        guard let minimum = number() else {
            index = place
            return nil
        }
        var maximum = minimum
        if accept(UInt8(ascii: ",")) { maximum = number() ?? -1 }
        guard accept(UInt8(ascii: "}")) else {
            index = place
            return nil
        }
        return (minimum, maximum)
    }

    private mutating func number() -> Int32? {
        let start = index
        var value: Int32 = 0
        while peek >= 48, peek <= 57 {
            value = min(value * 10 + Int32(peek - 48), 100_000)
            index += 1
        }
        return index > start ? value : nil
    }

    /// One atom; nil for a flag group, which matches nothing by itself.
    private mutating func atom() -> Pattern? {
        switch peek {
        case UInt8(ascii: "("): return group()
        case UInt8(ascii: "["): return bracket()
        case UInt8(ascii: "."):
            index += 1
            return .set(dotMatchesNewline ? [(0, 0x10FFFF)] : [(0, 9), (11, 0x10FFFF)])
        case UInt8(ascii: "^"):
            index += 1
            return .assertion(isMultiLine ? .lineStart : .textStart)
        case UInt8(ascii: "$"):
            index += 1
            return .assertion(isMultiLine ? .lineEnd : .textEnd)
        case UInt8(ascii: "\\"): return escape()
        case UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"): return fail()
        default: return single(scalar())
        }
    }

    private mutating func single(_ scalar: UInt32) -> Pattern { .set(folded([(scalar, scalar)])) }

    private mutating func group() -> Pattern? {
        index += 1
        guard accept(UInt8(ascii: "?")) else { return closed(alternatives()) }
        if accept(UInt8(ascii: "P")) || peek == UInt8(ascii: "<") {
            guard accept(UInt8(ascii: "<")) else { return fail() }
            let start = index
            while !isAtEnd, peek != UInt8(ascii: ">") {
                let byte = peek | 0x20
                guard byte >= 97 && byte <= 122 || peek >= 48 && peek <= 57 || peek == 95 else { return fail() }
                index += 1
            }
            guard index > start, accept(UInt8(ascii: ">")) else { return fail() }
            return closed(alternatives())
        }
        let outer = (ignoresCase, isMultiLine, dotMatchesNewline)
        var isOn = true
        while !isAtEnd {
            let byte = text[index]
            index += 1
            switch byte {
            case UInt8(ascii: "i"): ignoresCase = isOn
            case UInt8(ascii: "m"): isMultiLine = isOn
            case UInt8(ascii: "s"): dotMatchesNewline = isOn
            case UInt8(ascii: "U"): break
            case UInt8(ascii: "-"):
                if !isOn { return fail() }
                isOn = false
            case UInt8(ascii: ")"): return nil
            case UInt8(ascii: ":"):
                let inner = closed(alternatives())
                (ignoresCase, isMultiLine, dotMatchesNewline) = outer
                return inner
            default: return fail()
            }
        }
        return fail()
    }

    private mutating func closed(_ pattern: Pattern) -> Pattern {
        if failed || accept(UInt8(ascii: ")")) { return pattern }
        return fail()
    }

    private mutating func escape() -> Pattern {
        index += 1
        if isAtEnd { return fail() }
        switch peek {
        case UInt8(ascii: "A"):
            index += 1
            return .assertion(.textStart)
        case UInt8(ascii: "z"):
            index += 1
            return .assertion(.textEnd)
        case UInt8(ascii: "b"):
            index += 1
            return .assertion(.word)
        case UInt8(ascii: "B"):
            index += 1
            return .assertion(.notWord)
        default: break
        }
        if let set = namedSet() { return .set(set) }
        if failed { return .never }
        guard let scalar = escapedScalar() else { return fail() }
        return single(scalar)
    }

    /// After the backslash: a code point written as an escape.
    private mutating func escapedScalar() -> UInt32? {
        let byte = peek
        index += 1
        switch byte {
        case UInt8(ascii: "a"): return 7
        case UInt8(ascii: "f"): return 12
        case UInt8(ascii: "t"): return 9
        case UInt8(ascii: "n"): return 10
        case UInt8(ascii: "r"): return 13
        case UInt8(ascii: "v"): return 11
        case 48...55:
            // \1 to \7 alone would be back references, which there are not.
            if byte != 48, !(peek >= 48 && peek <= 55) { return nil }
            var value = UInt32(byte - 48)
            var digits = 1
            while digits < 3, peek >= 48, peek <= 55 {
                value = value << 3 | UInt32(peek - 48)
                index += 1
                digits += 1
            }
            return value
        case UInt8(ascii: "x"):
            var value: UInt32 = 0
            let isBraced = accept(UInt8(ascii: "{"))
            var digits = 0
            while digits < (isBraced ? 8 : 2), !isAtEnd, let digit = hexadecimalDigit(peek) {
                value = value << 4 | UInt32(digit)
                digits += 1
                index += 1
            }
            guard isBraced ? digits > 0 && accept(UInt8(ascii: "}")) : digits == 2, value <= 0x10FFFF else { return nil }
            return value
        default:
            // Punctuation stands for itself; letters and digits have no other meaning.
            if byte >= 0x80 || byte >= 48 && byte <= 57 || (byte | 0x20) >= 97 && (byte | 0x20) <= 122 { return nil }
            return UInt32(byte)
        }
    }

    /// After the backslash: `d`, `D`, `s`, `S`, `w`, `W`, `p…`, `P…`; nil for anything else.
    private mutating func namedSet() -> [(UInt32, UInt32)]? {
        let byte = peek
        var set: [(UInt32, UInt32)]
        switch byte {
        case UInt8(ascii: "d"), UInt8(ascii: "D"): set = [(48, 57)]
        case UInt8(ascii: "s"), UInt8(ascii: "S"): set = [(9, 10), (12, 13), (32, 32)]
        case UInt8(ascii: "w"), UInt8(ascii: "W"): set = [(48, 57), (65, 90), (95, 95), (97, 122)]
        case UInt8(ascii: "p"), UInt8(ascii: "P"): return property()
        default: return nil
        }
        index += 1
        if byte < 97 { set = PatternSets.complement(set) }
        return set
    }

    private mutating func property() -> [(UInt32, UInt32)]? {
        var isNegative = peek == UInt8(ascii: "P")
        index += 1
        var name: [UInt8] = []
        if accept(UInt8(ascii: "{")) {
            if accept(UInt8(ascii: "^")) { isNegative.toggle() }
            while !isAtEnd, peek != UInt8(ascii: "}") {
                name.append(peek)
                index += 1
            }
            if !accept(UInt8(ascii: "}")) {
                failed = true
                return nil
            }
        } else if !isAtEnd {
            name = [peek]
            index += 1
        }
        if !categories.isKnown(name) { charge(UnicodeCategories.walkSteps) }
        guard !failed, let set = PatternSets.property(name, &categories) else {
            failed = true
            return nil
        }
        charge(set.count * 2)
        let cased = folded(set)
        return isNegative ? PatternSets.complement(cased) : cased
    }

    // MARK: Brackets

    private mutating func bracket() -> Pattern {
        index += 1
        let isNegative = accept(UInt8(ascii: "^"))
        var set: [(UInt32, UInt32)] = []
        var isFirst = true
        while isFirst || peek != UInt8(ascii: "]") {
            if isAtEnd { return fail() }
            isFirst = false
            if peek == UInt8(ascii: "["), index + 1 < text.count, text[index + 1] == UInt8(ascii: ":") {
                guard let named = posixClass() else { return fail() }
                set += named
                continue
            }
            if peek == UInt8(ascii: "\\") {
                let place = index
                index += 1
                if let named = namedSet() {
                    set += named
                    continue
                }
                if failed { return fail() }
                index = place
            }
            guard let low = member() else { return fail() }
            var high = low
            if peek == UInt8(ascii: "-"), index + 1 < text.count, text[index + 1] != UInt8(ascii: "]") {
                index += 1
                guard let end = member(), end >= low else { return fail() }
                high = end
            }
            set.append((low, high))
        }
        index += 1
        let cased = folded(set)
        return .set(isNegative ? PatternSets.complement(cased) : cased)
    }

    private mutating func member() -> UInt32? {
        if isAtEnd { return nil }
        guard peek == UInt8(ascii: "\\") else { return scalar() }
        index += 1
        return isAtEnd ? nil : escapedScalar()
    }

    private mutating func posixClass() -> [(UInt32, UInt32)]? {
        index += 2
        let isNegative = accept(UInt8(ascii: "^"))
        var name: [UInt8] = []
        while !isAtEnd, peek != UInt8(ascii: ":") {
            name.append(peek)
            index += 1
        }
        index += 1
        guard accept(UInt8(ascii: "]")), let set = PatternSets.posix(name) else { return nil }
        return isNegative ? PatternSets.complement(set) : set
    }

    /// Sorted and merged; with both cases of its letters when case is ignored.
    private mutating func folded(_ set: [(UInt32, UInt32)]) -> [(UInt32, UInt32)] {
        guard ignoresCase else { return PatternSets.normalized(set) }
        var all = set
        for (low, high) in set {
            var scalar = low
            charge(Int(min(high, 0x212A)) - Int(min(low, 0x212A)) + 1)
            if failed { return [] }
            while scalar <= min(high, 0x212A) {
                if scalar > 0x52F, scalar < 0x1E00 { scalar = 0x1E00 }
                if let other = PatternSets.otherCase(scalar), scalar <= high { all.append((other, other)) }
                if scalar | 0x20 == 0x6B { all.append((0x212A, 0x212A)) }
                if scalar | 0x20 == 0x73 { all.append((0x17F, 0x17F)) }
                scalar += 1
            }
        }
        return PatternSets.normalized(all)
    }
}

/// Sets of code points as sorted pairs.
private enum PatternSets {
    static func normalized(_ set: [(UInt32, UInt32)]) -> [(UInt32, UInt32)] {
        if set.count < 2 { return set }
        var sorted = set
        sorted.putInOrder { $0.0 < $1.0 }
        var merged: [(UInt32, UInt32)] = []
        for range in sorted {
            if let last = merged.last, range.0 <= last.1 + 1 {
                merged[merged.count - 1].1 = max(last.1, range.1)
            } else {
                merged.append(range)
            }
        }
        return merged
    }

    static func complement(_ set: [(UInt32, UInt32)]) -> [(UInt32, UInt32)] {
        var result: [(UInt32, UInt32)] = []
        var next: UInt32 = 0
        for (low, high) in normalized(set) {
            if low > next { result.append((next, low - 1)) }
            next = high + 1
        }
        if next <= 0x10FFFF { result.append((next, 0x10FFFF)) }
        return result
    }

    /// The other case of a letter of the Latin, Greek and Cyrillic alphabets.
    static func otherCase(_ scalar: UInt32) -> UInt32? {
        switch scalar {
        case 0x41...0x5A, 0xC0...0xD6, 0xD8...0xDE, 0x391...0x3A1, 0x3A3...0x3AB, 0x410...0x42F: return scalar + 32
        case 0x61...0x7A, 0xE0...0xF6, 0xF8...0xFE, 0x3B1...0x3C1, 0x3C3...0x3CB, 0x430...0x44F: return scalar - 32
        case 0x3C2: return 0x3A3
        case 0x400...0x40F: return scalar + 80
        case 0x450...0x45F: return scalar - 80
        case 0x178: return 0xFF
        case 0xFF: return 0x178
        case 0x212A: return 0x6B
        case 0x17F: return 0x73
        case 0x100...0x12F, 0x132...0x137, 0x14A...0x177, 0x460...0x481, 0x48A...0x4BF, 0x4D0...0x52F, 0x1E00...0x1E95,
            0x1EA0...0x1EFF:
            return scalar ^ 1
        case 0x139...0x148, 0x179...0x17E, 0x4C1...0x4CE: return scalar & 1 == 1 ? scalar + 1 : scalar - 1
        default: return nil
        }
    }

    static func posix(_ name: [UInt8]) -> [(UInt32, UInt32)]? {
        if bytesEqual(name, "alnum") { return [(48, 57), (65, 90), (97, 122)] }
        if bytesEqual(name, "alpha") { return [(65, 90), (97, 122)] }
        if bytesEqual(name, "ascii") { return [(0, 127)] }
        if bytesEqual(name, "blank") { return [(9, 9), (32, 32)] }
        if bytesEqual(name, "cntrl") { return [(0, 31), (127, 127)] }
        if bytesEqual(name, "digit") { return [(48, 57)] }
        if bytesEqual(name, "graph") { return [(33, 126)] }
        if bytesEqual(name, "lower") { return [(97, 122)] }
        if bytesEqual(name, "print") { return [(32, 126)] }
        if bytesEqual(name, "punct") { return [(33, 47), (58, 64), (91, 96), (123, 126)] }
        if bytesEqual(name, "space") { return [(9, 13), (32, 32)] }
        if bytesEqual(name, "upper") { return [(65, 90)] }
        if bytesEqual(name, "word") { return [(48, 57), (65, 90), (95, 95), (97, 122)] }
        if bytesEqual(name, "xdigit") { return [(48, 57), (65, 70), (97, 102)] }
        return nil
    }

    /// A general category (`L`, `Lu`, `Nd`, …) or one of the scripts that shops write in.
    static func property(_ name: [UInt8], _ categories: inout UnicodeCategories) -> [(UInt32, UInt32)]? {
        if bytesEqual(name, "Any") { return [(0, 0x10FFFF)] }
        if let script = script(name) { return script }
        guard name.count == 1 || name.count == 2 else { return nil }
        return categories.ranges(name[0], name.count == 2 ? name[1] : nil)
    }

    /// The main ranges of these scripts (Unicode 15); other scripts are refused.
    private static func script(_ name: [UInt8]) -> [(UInt32, UInt32)]? {
        if bytesEqual(name, "Latin") {
            return [
                (0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x2B8),
                (0x2E0, 0x2E4), (0x1D00, 0x1D25), (0x1D2C, 0x1D5C), (0x1D62, 0x1D65), (0x1D6B, 0x1D77), (0x1D79, 0x1DBE),
                (0x1E00, 0x1EFF), (0x2071, 0x2071), (0x207F, 0x207F), (0x2090, 0x209C), (0x212A, 0x212B),
                (0x2132, 0x2132), (0x214E, 0x214E), (0x2160, 0x2188), (0x2C60, 0x2C7F), (0xA722, 0xA787),
                (0xA78B, 0xA7CA), (0xA7F2, 0xA7FF), (0xAB30, 0xAB5A), (0xAB5C, 0xAB64), (0xFB00, 0xFB06),
                (0xFF21, 0xFF3A), (0xFF41, 0xFF5A),
            ]
        }
        if bytesEqual(name, "Greek") {
            return [
                (0x370, 0x373), (0x375, 0x377), (0x37A, 0x37D), (0x37F, 0x37F), (0x384, 0x384), (0x386, 0x386),
                (0x388, 0x38A), (0x38C, 0x38C), (0x38E, 0x3A1), (0x3A3, 0x3E1), (0x3F0, 0x3FF), (0x1F00, 0x1FFE),
            ]
        }
        if bytesEqual(name, "Cyrillic") {
            return [
                (0x400, 0x484), (0x487, 0x52F), (0x1C80, 0x1C88), (0x1D2B, 0x1D2B), (0x1D78, 0x1D78), (0x2DE0, 0x2DFF),
                (0xA640, 0xA69F), (0xFE2E, 0xFE2F),
            ]
        }
        if bytesEqual(name, "Han") {
            return [
                (0x2E80, 0x2E99), (0x2E9B, 0x2EF3), (0x2F00, 0x2FD5), (0x3005, 0x3005), (0x3007, 0x3007),
                (0x3021, 0x3029), (0x3038, 0x303B), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFA6D),
                (0xFA70, 0xFAD9), (0x20000, 0x2A6DF), (0x2A700, 0x2EBE0), (0x2F800, 0x2FA1D), (0x30000, 0x323AF),
            ]
        }
        return nil
    }
}

/// Which code points have which general category, looked up in the standard library once and then kept: to ask for each
/// code point anew with every `\p{L}` takes as long as thousands of matches.
struct UnicodeCategories: Sendable {
    /// Neighbours of one category: where they begin, and the category's two letters.
    private var runs: [(first: UInt32, major: UInt8, minor: UInt8)] = []

    /// What finding them costs in steps of an evaluation.
    static let walkSteps = 50_000

    /// Whether a property is found without that cost.
    func isKnown(_ name: [UInt8]) -> Bool { !runs.isEmpty || name.count > 2 }

    /// The code points of a category; nil if none has it.
    /// - Parameter minor: nil for all of a major one.
    mutating func ranges(_ major: UInt8, _ minor: UInt8?) -> [(UInt32, UInt32)]? {
        if runs.isEmpty { walk() }
        var set: [(UInt32, UInt32)] = []
        for index in runs.indices where runs[index].major == major && (minor == nil || runs[index].minor == minor) {
            let low = runs[index].first
            let high = (index + 1 < runs.count ? runs[index + 1].first : 0xE0200) - 1
            if let last = set.last, last.1 + 1 == low {
                set[set.count - 1].1 = high
            } else {
                set.append((low, high))
            }
        }
        return set.isEmpty ? nil : set
    }

    private mutating func walk() {
        var next: UInt32 = 0
        while next < 0xE0200 {
            let scalar = next
            // Nothing is assigned between the ideographs of plane 3 and the tags of plane 14.
            next = scalar == 0x323AF ? 0xE0000 : scalar + 1
            var (major, minor): (UInt8, UInt8) = (0, 0)
            if let unicode = Unicode.Scalar(scalar) { (major, minor) = letters(unicode.properties.generalCategory) }
            if runs.last.map({ $0.major != major || $0.minor != minor }) ?? true { runs.append((scalar, major, minor)) }
            if scalar == 0x323AF { runs.append((scalar + 1, 0, 0)) }
        }
    }

    private func letters(_ category: Unicode.GeneralCategory) -> (UInt8, UInt8) {
        switch category {
        case .uppercaseLetter: (76, 117)
        case .lowercaseLetter: (76, 108)
        case .titlecaseLetter: (76, 116)
        case .modifierLetter: (76, 109)
        case .otherLetter: (76, 111)
        case .nonspacingMark: (77, 110)
        case .spacingMark: (77, 99)
        case .enclosingMark: (77, 101)
        case .decimalNumber: (78, 100)
        case .letterNumber: (78, 108)
        case .otherNumber: (78, 111)
        case .connectorPunctuation: (80, 99)
        case .dashPunctuation: (80, 100)
        case .openPunctuation: (80, 115)
        case .closePunctuation: (80, 101)
        case .initialPunctuation: (80, 105)
        case .finalPunctuation: (80, 102)
        case .otherPunctuation: (80, 111)
        case .mathSymbol: (83, 109)
        case .currencySymbol: (83, 99)
        case .modifierSymbol: (83, 107)
        case .otherSymbol: (83, 111)
        case .spaceSeparator: (90, 115)
        case .lineSeparator: (90, 108)
        case .paragraphSeparator: (90, 112)
        case .control: (67, 99)
        case .format: (67, 102)
        case .surrogate: (67, 115)
        case .privateUse: (67, 111)
        default: (0, 0)
        }
    }
}

// MARK: Automaton

private struct Builder {
    var instructions: [RegularExpression.Instruction] = []
    var isTooLarge = false
    /// Instructions of the present set by a hash, so that equal tails of its byte sequences are one.
    private var shared = Array(repeating: UInt16.max, count: 1024)

    /// A range instruction, perhaps one that is there already.
    private mutating func range(_ low: UInt8, _ high: UInt8, _ next: UInt16) -> UInt16 {
        let hash = (Int(low) &* 31 &+ Int(high) &* 17 &+ Int(next) &* 7) & 1023
        let known = shared[hash]
        if known != .max {
            let instruction = instructions[Int(known)]
            if instruction.low == low, instruction.high == high, instruction.next == next { return known }
        }
        let place = add(RegularExpression.Instruction(code: .range, low: low, high: high, next: next))
        if !isTooLarge { shared[hash] = place }
        return place
    }

    mutating func add(_ instruction: RegularExpression.Instruction) -> UInt16 {
        if instructions.count >= Limits.regularExpressionInstructions {
            isTooLarge = true
            return 0
        }
        instructions.append(instruction)
        return UInt16(instructions.count - 1)
    }

    private mutating func split(_ first: UInt16, _ second: UInt16) -> UInt16 {
        add(RegularExpression.Instruction(code: .split, next: first, other: second))
    }

    /// Emits a pattern that goes on at `next`; returns where it begins.
    mutating func emit(_ pattern: Pattern, _ next: UInt16) -> UInt16 {
        if isTooLarge { return 0 }
        switch pattern {
        case .empty: return next
        case .never: return set([], next)
        case .set(let ranges): return set(ranges, next)
        case .sequence(let parts):
            var place = next
            for part in parts.reversed() { place = emit(part, place) }
            return place
        case .choice(let choices):
            var place = emit(choices[choices.count - 1], next)
            for choice in choices.dropLast().reversed() { place = split(emit(choice, next), place) }
            return place
        case .assertion(let kind):
            return add(RegularExpression.Instruction(code: .assert, low: kind.rawValue, next: next))
        case .repetition(let inner, let minimum, let maximum):
            var place = next
            if maximum < 0 {
                let loop = split(0, next)
                let body = emit(inner, loop)
                if isTooLarge { return 0 }
                instructions[Int(loop)].next = body
                place = loop
            } else {
                for _ in minimum..<max(maximum, minimum) {
                    place = split(emit(inner, place), next)
                    if isTooLarge { return 0 }
                }
            }
            for _ in 0..<minimum {
                place = emit(inner, place)
                if isTooLarge { return 0 }
            }
            return place
        }
    }

    /// Code points as alternatives of byte sequences.
    private mutating func set(_ ranges: [(UInt32, UInt32)], _ next: UInt16) -> UInt16 {
        var starts: [UInt16] = []
        for index in shared.indices { shared[index] = .max }
        for (low, high) in ranges { bytes(low, high, next, &starts) }
        guard var place = starts.last else {
            return add(RegularExpression.Instruction(code: .range, low: 1, high: 0, next: next))
        }
        for start in starts.dropLast().reversed() { place = split(start, place) }
        return place
    }

    /// Splits a range until all its code points have as many bytes, each with a range of its own.
    private mutating func bytes(_ low: UInt32, _ high: UInt32, _ next: UInt16, _ starts: inout [UInt16]) {
        if low > high || isTooLarge { return }
        for limit in [UInt32(0x7F), 0x7FF, 0xFFFF] where low <= limit && high > limit {
            bytes(low, limit, next, &starts)
            bytes(limit + 1, high, next, &starts)
            return
        }
        if high > 0x7F {
            for level in 1..<(high > 0xFFFF ? 4 : high > 0x7FF ? 3 : 2) {
                let mask = UInt32(1) << UInt32(6 * level) - 1
                if low & ~mask == high & ~mask { continue }
                if low & mask != 0 {
                    bytes(low, low | mask, next, &starts)
                    bytes((low | mask) + 1, high, next, &starts)
                    return
                }
                if high & mask != mask {
                    bytes(low, (high & ~mask) - 1, next, &starts)
                    bytes(high & ~mask, high, next, &starts)
                    return
                }
            }
        }
        var first: [UInt8] = []
        var last: [UInt8] = []
        appendUTF8(low, &first)
        appendUTF8(high, &last)
        var place = next
        for index in first.indices.reversed() {
            place = range(first[index], last[index], place)
        }
        starts.append(place)
    }
}

// MARK: Deterministic

/// The automaton as a table: the state after a byte is `transitions[state · classes + classOf[byte]]`. State 0 is dead.
struct Deterministic: Sendable {
    private(set) var classOf: [UInt8] = []
    private(set) var classes = 0
    private(set) var transitions: [UInt16] = []
    /// Bit 0: matched already; bit 1: matches if the text ends here.
    private(set) var verdicts: [UInt8] = []

    var isEmpty: Bool { verdicts.isEmpty }

    init() {}

    /// Nil if it needs to look at neighbours (`\b`, `(?m)`) or grows too large.
    fileprivate init?(_ pattern: RegularExpression) {
        let instructions = pattern.instructions
        for instruction in instructions where instruction.code == .assert && instruction.low > 1 { return nil }
        let members = findClasses(instructions)
        if classes > 250 { return nil }
        var walker = StateWalker(instructions.count)
        walker.pending.append(pattern.start)
        walker.close(instructions, atStart: true)
        var sets: [[UInt16]] = [[], walker.reached]
        var known = HashTable()
        for (number, set) in sets.enumerated() { known.add(Deterministic.hash(set), number) }
        var state = 0
        var work = 0
        while state < sets.count {
            verdicts.append(Deterministic.verdict(sets[state], instructions, &walker, isFirst: state == 1))
            let isFinal = verdicts[state] & 1 != 0
            for group in 0..<classes {
                if state == 0 || isFinal {
                    transitions.append(UInt16(state))
                    continue
                }
                let byte = members[group]
                // Unanchored: at each byte a match may begin.
                walker.pending.append(pattern.start)
                for place in sets[state] {
                    let instruction = instructions[Int(place)]
                    if instruction.code == .range, byte >= instruction.low, byte <= instruction.high {
                        walker.pending.append(instruction.next)
                    }
                }
                walker.close(instructions, atStart: false)
                work += sets[state].count + walker.reached.count * 8
                if work > Limits.deterministicSteps { return nil }
                let hash = Deterministic.hash(walker.reached)
                var search = known.search(hash)
                var number = known.next(&search)
                while let candidate = number, sets[candidate] != walker.reached { number = known.next(&search) }
                if number == nil {
                    if sets.count >= 512 || sets.count * classes > 32_768 { return nil }
                    known.add(hash, sets.count)
                    sets.append(walker.reached)
                }
                transitions.append(UInt16(number ?? sets.count - 1))
            }
            state += 1
        }
    }

    private static func hash(_ set: [UInt16]) -> UInt64 {
        var hash: UInt64 = 0
        for place in set { hash = HashTable.mix(hash, UInt64(place)) }
        return hash
    }

    /// Bytes that no instruction tells apart share a class. Returns a byte of each.
    private mutating func findClasses(_ instructions: [RegularExpression.Instruction]) -> [UInt8] {
        var boundary = Array(repeating: false, count: 257)
        for instruction in instructions where instruction.code == .range && instruction.low <= instruction.high {
            boundary[Int(instruction.low)] = true
            boundary[Int(instruction.high) + 1] = true
        }
        var members: [UInt8] = [0]
        for byte in 0..<256 {
            if byte > 0, boundary[byte], members.count < 256 { members.append(UInt8(byte)) }
            classOf.append(UInt8(members.count - 1))
        }
        classes = members.count
        return members
    }

    private static func verdict(
        _ set: [UInt16], _ instructions: [RegularExpression.Instruction], _ walker: inout StateWalker, isFirst: Bool
    ) -> UInt8 {
        for place in set where instructions[Int(place)].code == .match { return 3 }
        walker.pending = set
        walker.close(instructions, atStart: isFirst, atEnd: true)
        for place in walker.reached where instructions[Int(place)].code == .match { return 2 }
        return 0
    }

    @inline(__always)
    func matches(_ text: Span<UInt8>) -> Bool {
        var state = 1
        var index = 0
        while index < text.count {
            if verdicts[state] & 1 != 0 { return true }
            state = Int(transitions[state &* classes &+ Int(classOf[Int(text[index])])])
            index += 1
        }
        return verdicts[state] != 0
    }
}

/// Follows splits and assertions from a set of states; keeps its memory from one set to the next.
private struct StateWalker {
    var pending: [UInt16] = []
    /// Sorted, so that equal sets are equal lists.
    private(set) var reached: [UInt16] = []
    private var marks: [UInt32]
    private var step: UInt32 = 0

    init(_ count: Int) { marks = Array(repeating: 0, count: count) }

    /// Empties `pending` and fills `reached`.
    mutating func close(
        _ instructions: [RegularExpression.Instruction], atStart: Bool, atEnd: Bool = false
    ) {
        step += 1
        reached.removeAll(keepingCapacity: true)
        while let place = pending.popLast() {
            if marks[Int(place)] == step { continue }
            marks[Int(place)] = step
            let instruction = instructions[Int(place)]
            switch instruction.code {
            case .split:
                pending.append(instruction.next)
                pending.append(instruction.other)
            case .assert:
                if instruction.low == RegularExpression.Assertion.textStart.rawValue ? atStart : atEnd {
                    pending.append(instruction.next)
                } else if instruction.low == RegularExpression.Assertion.textEnd.rawValue {
                    reached.append(place)
                }
            case .range, .match: reached.append(place)
            }
        }
        reached.sort()
    }
}

// MARK: Matching

/// Runs patterns; holds the sets of states, so that matching allocates nothing once they have grown.
struct Matcher {
    private var current: [UInt16] = []
    private var following: [UInt16] = []
    private var pending: [UInt16] = []
    /// The step at which a state was last added.
    private var marks: [UInt32] = []
    private var step: UInt32 = 0

    /// Steps of the evaluation's budget for a text of `count` bytes.
    func cost(_ pattern: borrowing RegularExpression, _ count: Int) -> Int64 {
        pattern.table.isEmpty ? (Int64(count) + 1) * (Int64(pattern.instructions.count) / 8 + 1) : Int64(count) / 8
    }

    /// Whether the pattern occurs anywhere in the text.
    mutating func matches(_ pattern: borrowing RegularExpression, _ text: Span<UInt8>) -> Bool {
        if !pattern.table.isEmpty { return pattern.table.matches(text) }
        while marks.count < pattern.instructions.count { marks.append(0) }
        current.removeAll(keepingCapacity: true)
        var index = 0
        while true {
            advanceStep()
            following.removeAll(keepingCapacity: true)
            for place in current { pending.append(place) }
            pending.append(pattern.start)
            if close(pattern, text, index) { return true }
            if index == text.count { return false }
            let byte = text[index]
            current.removeAll(keepingCapacity: true)
            for place in following {
                let instruction = pattern.instructions[Int(place)]
                if byte >= instruction.low, byte <= instruction.high { current.append(instruction.next) }
            }
            index += 1
        }
    }

    private mutating func advanceStep() {
        step &+= 1
        if step == 0 {
            for index in marks.indices { marks[index] = 0 }
            step = 1
        }
    }

    /// Follows splits and assertions from `pending`; the ranges reached are left in `following`. True: matched.
    private mutating func close(_ pattern: borrowing RegularExpression, _ text: Span<UInt8>, _ index: Int) -> Bool {
        while let place = pending.popLast() {
            if marks[Int(place)] == step { continue }
            marks[Int(place)] = step
            let instruction = pattern.instructions[Int(place)]
            switch instruction.code {
            case .match:
                pending.removeAll(keepingCapacity: true)
                return true
            case .range: following.append(place)
            case .split:
                pending.append(instruction.other)
                pending.append(instruction.next)
            case .assert:
                if holds(instruction.low, text, index) { pending.append(instruction.next) }
            }
        }
        return false
    }

    private func holds(_ assertion: UInt8, _ text: Span<UInt8>, _ index: Int) -> Bool {
        switch RegularExpression.Assertion(rawValue: assertion) ?? .textStart {
        case .textStart: index == 0
        case .textEnd: index == text.count
        case .lineStart: index == 0 || text[index - 1] == 10
        case .lineEnd: index == text.count || text[index] == 10
        case .word: isBoundary(text, index)
        case .notWord: !isBoundary(text, index)
        }
    }

    private func isBoundary(_ text: Span<UInt8>, _ index: Int) -> Bool {
        let before = index > 0 && isWord(text[index - 1])
        let after = index < text.count && isWord(text[index])
        return before != after
    }

    private func isWord(_ byte: UInt8) -> Bool {
        byte >= 48 && byte <= 57 || byte >= 65 && byte <= 90 || byte == 95 || byte >= 97 && byte <= 122
    }
}
