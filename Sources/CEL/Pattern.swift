// Patterns for other rooms: regular expressions as ECMA-262 writes them, which is what JSON Schema asks for, on the engine
// of this room, which matches in time linear in the text. What the engine cannot do is refused, never guessed at.

import Formats

/// Why a text is no pattern that can be used here.
public enum TextPatternError: Error, Equatable, Sendable {
    /// `(?=…)`, `(?!…)`, `(?<=…)` or `(?<!…)`.
    case lookaround
    /// `\1` or `\k<name>`.
    case backReference
    /// Syntax of other dialects, such as `\A` or `(?i)`.
    case notECMAScript
    /// `[]` and `[^]`, which the dialects read differently.
    case emptyClass
    /// It is no pattern at all, has a property or script that is not known, or is too large.
    case malformed

    /// What is wrong and what to do, in one line.
    public var message: String {
        switch self {
        case .lookaround: "look-ahead and look-behind cannot be matched in linear time and are not supported"
        case .backReference: "back references cannot be matched in linear time and are not supported"
        case .notECMAScript: "this is no ECMA-262 syntax (inline flags, \\A, \\z, \\Q and the like are not)"
        case .emptyClass: "an empty class [] or [^] is not supported; say what it may hold"
        case .malformed: "this is no regular expression, or one that is too large or has an unknown \\p{…}"
        }
    }
}

/// A compiled pattern of the `u` dialect of ECMA-262, without flags: immutable, shared between threads.
public struct TextPattern: Sendable {
    /// Behind one reference, so that handing a pattern on is cheap.
    private final class Compiled: Sendable {
        let expression: RegularExpression

        init(_ expression: RegularExpression) { self.expression = expression }
    }

    private let compiled: Compiled

    /// Compiles a pattern. Small ones become a table, so that matching takes one look-up a byte.
    /// - Parameter source: UTF-8.
    /// - Throws: what of it cannot be used.
    public init(_ source: Span<UInt8>) throws(TextPatternError) {
        var translator = PatternTranslator(source)
        let translated = try translator.translate()
        var categories = UnicodeCategories()
        var work = Limits.regularExpressionSteps
        guard let expression = RegularExpression.compile(translated, isLasting: true, &categories, work: &work) else {
            throw .malformed
        }
        compiled = Compiled(expression)
    }

    /// Whether the pattern occurs anywhere in the text.
    /// - Parameters:
    ///   - text: UTF-8.
    ///   - scratch: memory for patterns that are too large for a table; allocates only until it has grown.
    @inline(__always)
    public func matches(_ text: Span<UInt8>, _ scratch: inout TextPatternScratch) -> Bool {
        scratch.matcher.matches(compiled.expression, text)
    }

    /// What matching a text of `count` bytes costs, in units of about ten nanoseconds.
    public func cost(_ count: Int) -> Int64 {
        compiled.expression.table.isEmpty
            ? (Int64(count) + 1) * (Int64(compiled.expression.instructions.count) / 8 + 1) : Int64(count) / 8
    }
}

/// The memory that matching works in; one for each thread.
public struct TextPatternScratch {
    fileprivate var matcher = Matcher()

    /// Holds nothing yet.
    public init() {}
}

/// Rewrites ECMA-262 (section 22.2.1, with `u`) into RE2's syntax where the same thing is written differently.
private struct PatternTranslator {
    private let source: [UInt8]
    private var index = 0
    private var result: [UInt8] = []

    init(_ source: Span<UInt8>) { self.source = [UInt8](copying: source) }

    private func byte(_ distance: Int) -> UInt8 { index + distance < source.count ? source[index + distance] : 0 }

    mutating func translate() throws(TextPatternError) -> [UInt8] {
        while index < source.count {
            switch source[index] {
            case UInt8(ascii: "\\"): try escape(isInClass: false)
            case UInt8(ascii: "["): try bracket()
            case UInt8(ascii: "("): try group()
            case UInt8(ascii: "."):
                // Line terminators of ECMA-262 are four.
                add("[^\\n\\r\\x{2028}\\x{2029}]", skipping: 1)
            default:
                result.append(source[index])
                index += 1
            }
        }
        return result
    }

    private mutating func add(_ text: StaticString, skipping count: Int) {
        result.append(contentsOf: text.bytes)
        index += count
    }

    private mutating func group() throws(TextPatternError) {
        guard byte(1) == UInt8(ascii: "?") else { return add("(", skipping: 1) }
        switch byte(2) {
        case UInt8(ascii: ":"): add("(?:", skipping: 3)
        case UInt8(ascii: "="), UInt8(ascii: "!"): throw .lookaround
        case UInt8(ascii: "<"):
            if byte(3) == UInt8(ascii: "=") || byte(3) == UInt8(ascii: "!") { throw .lookaround }
            add("(?<", skipping: 3)
        default: throw .notECMAScript
        }
    }

    private mutating func bracket() throws(TextPatternError) {
        add("[", skipping: 1)
        if byte(0) == UInt8(ascii: "^") { add("^", skipping: 1) }
        if byte(0) == UInt8(ascii: "]") { throw .emptyClass }
        while index < source.count, source[index] != UInt8(ascii: "]") {
            switch source[index] {
            case UInt8(ascii: "\\"): try escape(isInClass: true)
            // RE2 would read `[:alpha:]` as a class of its own.
            case UInt8(ascii: "["): add("\\[", skipping: 1)
            default:
                result.append(source[index])
                index += 1
            }
        }
        if index == source.count { throw .malformed }
        add("]", skipping: 1)
    }

    private mutating func escape(isInClass: Bool) throws(TextPatternError) {
        switch byte(1) {
        case UInt8(ascii: "1")...UInt8(ascii: "9"), UInt8(ascii: "k"): throw .backReference
        case UInt8(ascii: "A"), UInt8(ascii: "z"), UInt8(ascii: "Z"), UInt8(ascii: "Q"), UInt8(ascii: "E"),
            UInt8(ascii: "a"), UInt8(ascii: "C"), UInt8(ascii: "G"), UInt8(ascii: "h"):
            throw .notECMAScript
        case UInt8(ascii: "0"):
            if byte(2) &- 0x30 < 10 { throw .notECMAScript }
            add("\\x{0}", skipping: 2)
        case UInt8(ascii: "b") where isInClass: add("\\x{8}", skipping: 2)
        case UInt8(ascii: "s"), UInt8(ascii: "S"): space(isInClass)
        case UInt8(ascii: "u"): try codePoint()
        case UInt8(ascii: "c"): try control()
        case UInt8(ascii: "p"), UInt8(ascii: "P"): try property()
        case UInt8(ascii: "x"):
            // Two digits; RE2's braces are not ECMA-262.
            guard hexadecimalDigit(byte(2)) != nil, hexadecimalDigit(byte(3)) != nil else { throw .malformed }
            copy(4)
        case 0: throw .malformed
        default: copy(2)
        }
    }

    private mutating func copy(_ count: Int) {
        for _ in 0..<count where index < source.count {
            result.append(source[index])
            index += 1
        }
    }

    /// White space and line terminators of ECMA-262, which are more than RE2's, or all else.
    private mutating func space(_ isInClass: Bool) {
        let isNegative = byte(1) == UInt8(ascii: "S")
        if !isInClass { add(isNegative ? "[^" : "[", skipping: 0) }
        if isInClass && isNegative {
            add(
                """
                \\x{0}-\\x{8}\\x{E}-\\x{1F}!-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}\
                \\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{FEFE}\\x{FF00}-\\x{10FFFF}
                """, skipping: 2)
        } else {
            add(
                """
                \\t-\\r \\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}\\x{FEFF}
                """, skipping: 2)
        }
        if !isInClass { add("]", skipping: 0) }
    }

    /// `\u00E9`, `\u{1F600}`, and `\uD83D\uDE00`, two halves of one code point.
    private mutating func codePoint() throws(TextPatternError) {
        if byte(2) == UInt8(ascii: "{") {
            var length = 3
            while hexadecimalDigit(byte(length)) != nil { length += 1 }
            guard length > 3, byte(length) == UInt8(ascii: "}") else { throw .malformed }
            add("\\x", skipping: 2)
            return copy(length - 1)
        }
        guard var scalar = unit(2) else { throw .malformed }
        var length = 6
        if scalar >= 0xD800, scalar < 0xDC00, byte(6) == UInt8(ascii: "\\"), byte(7) == UInt8(ascii: "u"),
            let low = unit(8), low >= 0xDC00, low < 0xE000
        {
            scalar = 0x10000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
            length = 12
        }
        if scalar >= 0xD800, scalar < 0xE000 { throw .malformed }
        add("\\x{", skipping: length)
        for shift: UInt32 in [20, 16, 12, 8, 4, 0] { result.append(Hex.digit(UInt8(scalar >> shift & 0xF))) }
        result.append(UInt8(ascii: "}"))
    }

    private func unit(_ distance: Int) -> UInt32? {
        var value: UInt32 = 0
        for place in 0..<4 {
            guard let digit = hexadecimalDigit(byte(distance + place)) else { return nil }
            value = value << 4 | UInt32(digit)
        }
        return value
    }

    /// `\cJ`: the letter's last five bits.
    private mutating func control() throws(TextPatternError) {
        let letter = byte(2)
        guard letter | 0x20 >= 97, letter | 0x20 <= 122 else { throw .malformed }
        add("\\x{", skipping: 3)
        result.append(Hex.digit(letter >> 4 & 1))
        result.append(Hex.digit(letter & 0xF))
        result.append(UInt8(ascii: "}"))
    }

    /// `\p{…}` with a name or `General_Category=`, `Script=` before it (ECMA-262, table 70); RE2 knows the short names.
    private mutating func property() throws(TextPatternError) {
        guard byte(2) == UInt8(ascii: "{") else { throw .malformed }
        let isNegative = byte(1) == UInt8(ascii: "P")
        index += 3
        var name: [UInt8] = []
        while index < source.count, source[index] != UInt8(ascii: "}") {
            if source[index] == UInt8(ascii: "=") { name.removeAll() } else { name.append(source[index]) }
            index += 1
        }
        if index == source.count { throw .malformed }
        add(isNegative ? "\\P{" : "\\p{", skipping: 1)
        if let short = PatternTranslator.shortName(name) {
            result.append(contentsOf: short.bytes)
        } else {
            result += name
        }
        result.append(UInt8(ascii: "}"))
    }

    private static func shortName(_ name: [UInt8]) -> StaticString? {
        let names: [(StaticString, StaticString)] = [
            ("Letter", "L"), ("Uppercase_Letter", "Lu"), ("Lowercase_Letter", "Ll"), ("Titlecase_Letter", "Lt"),
            ("Modifier_Letter", "Lm"), ("Other_Letter", "Lo"), ("Mark", "M"), ("Combining_Mark", "M"),
            ("Nonspacing_Mark", "Mn"), ("Spacing_Mark", "Mc"), ("Enclosing_Mark", "Me"), ("Number", "N"),
            ("Decimal_Number", "Nd"), ("digit", "Nd"), ("Letter_Number", "Nl"), ("Other_Number", "No"),
            ("Punctuation", "P"), ("punct", "P"), ("Connector_Punctuation", "Pc"), ("Dash_Punctuation", "Pd"),
            ("Open_Punctuation", "Ps"), ("Close_Punctuation", "Pe"), ("Initial_Punctuation", "Pi"),
            ("Final_Punctuation", "Pf"), ("Other_Punctuation", "Po"), ("Symbol", "S"), ("Math_Symbol", "Sm"),
            ("Currency_Symbol", "Sc"), ("Modifier_Symbol", "Sk"), ("Other_Symbol", "So"), ("Separator", "Z"),
            ("Space_Separator", "Zs"), ("Line_Separator", "Zl"), ("Paragraph_Separator", "Zp"), ("Control", "Cc"),
            ("Format", "Cf"), ("Private_Use", "Co"), ("Latn", "Latin"), ("Grek", "Greek"), ("Cyrl", "Cyrillic"),
            ("Hani", "Han"),
        ]
        for (long, short) in names where equal(long.bytes, name.span) { return short }
        return nil
    }
}
