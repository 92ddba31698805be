// What the compiler makes and the evaluator runs: flat arrays that nothing changes any more. It need not know source
// text beyond positions for messages.

import Formats

/// One step of the stack machine: eight bytes.
struct Instruction: Sendable {
    var code: Opcode
    var a: UInt8 = 0
    var b: UInt16 = 0
    var c: UInt32 = 0
}

/// `top` is the uppermost value of the stack; an operand that is an error is the result, unless said otherwise.
enum Opcode: UInt8, Sendable {
    /// Push `constants[c]`.
    case constant
    /// Push slot `c`; `a` 1: as an optional.
    case slot
    /// Push whether slot `c` is set.
    case slotIsSet
    /// Push local `c`.
    case local
    /// Pop into local `c`.
    case setLocal
    /// Push the root of document `c`.
    case document
    /// Push an error of reason `c`.
    case fail
    /// Replace top by its field `constants[c]`; `a` 1: by an optional.
    case select
    /// Replace top by whether it has field `constants[c]`.
    case has
    /// Pop key, replace top by the element; `a` 1: by an optional.
    case index
    /// Go to `c`.
    case jump
    /// If top is false (true), go to `c` and leave it there.
    case jumpIfFalse, jumpIfTrue
    /// Pop two, push their conjunction (disjunction), in which false (true) outweighs an error.
    case and, or
    /// Pop the condition: true skips one instruction, false goes to `c`, anything else leaves an error for the next.
    case choose
    /// Binary operators, in the order of `Operator`.
    case add, subtract, multiply, divide, remainder, equal, notEqual, less, lessOrEqual, greater, greaterOrEqual
    case contained
    case not, negate
    /// Call function `b` with the `a` uppermost values.
    case call
    /// Pop `c` elements (`2c` keys and values), push the list (map).
    case list, map
    /// Replace an optional by its value or by `absent`.
    case unwrap
    /// Pop the range and begin a loop of kind `a` with variables from local `b`; `c` is its end. `flag` in the next
    /// instruction's `a`: two variables.
    case loop
    /// Take the next element into the variables, or finish the loop.
    case loopStep
    /// Pop a filter: false goes to the step at `c`.
    case loopFilter
    /// Pop the body's value and go to the step at `c`, or finish early.
    case loopCollect
    /// Top is an optional: none goes to `c`, otherwise top becomes its value.
    case optionalValue
    /// Replace top by an optional of it (`a` 0) or insist that it is one (`a` 1).
    case optionalWrap
    /// Pop a text, push whether pattern `c` occurs in it.
    case matches
    /// End: top is the result.
    case end

    @inline(__always)
    var isComparison: Bool { rawValue >= Opcode.equal.rawValue && rawValue <= Opcode.greaterOrEqual.rawValue }
}

/// A compiled expression's number in its program, and what is known of its value.
public struct Expression: Sendable {
    /// From 0, in the order of `Compiler.add`.
    public let number: Int
    /// The static type; `.dyn` where only evaluation tells.
    public let type: Type
    /// The slots that it reads, each once, in rising order; whether the value is needed, only evaluation tells.
    public let slots: [Int]
}

/// One or many compiled expressions over the same slots. Immutable: threads share it, each with an `Evaluator` of its
/// own. Keep one program for a whole bundle: its expressions lie side by side and share what they have in common.
public struct Program: ~Copyable, Sendable {
    struct Entry: Sendable {
        var start: UInt32
        var stack: UInt16
        var locals: UInt16
        /// The first test, or `Program.none`.
        var condition: UInt32
        /// The first test of what the index of its group leaves open, and the group, or `Program.none`.
        var rest = Program.none
        var group = Program.none
        /// Index of `sources`.
        var source: UInt32
    }
    static let none: UInt32 = .max

    var code: [Instruction] = []
    /// Source offset of each instruction, for messages.
    var offsets: [UInt32] = []
    var constants: [Value] = []
    /// Text of constants.
    var pool: [UInt8] = []
    /// Elements of constant lists and maps.
    var values: [Value] = []
    /// Finds the keys of large tables; see `Tables.swift`.
    var keyIndex: [UInt32] = []
    var patterns: [RegularExpression] = []
    /// The constants that they were compiled from.
    var patternTexts: [UInt32] = []
    /// The quick way through conditions; see `Conditions.swift`.
    var tests: [Test] = []
    var symbols = Symbols()
    var symbolLists: [UInt32] = []
    /// By term.
    var alphabets: [Alphabet] = []
    var letters: [Letter] = []
    /// Where the code of expressions begins that tests look at.
    var codeTerms: [UInt32] = []
    var index = RuleIndex()
    /// Tells programs apart, for what an evaluator remembers of one.
    var fingerprint: UInt64 = 0
    var entries: [Entry] = []
    var sources: [[UInt8]] = []
    var types: [Type] = []
    /// One more than the largest slot in use.
    var slotCount = 0
    var stackSize = 0
    var localCount = 0
    /// What tests look at: slots, and after them the expressions of `codeTerms`.
    var termCount: Int { slotCount + codeTerms.count }

    init() {}

    /// The bit of a symbol in a narrow alphabet, or 0.
    func bit(_ symbol: UInt32, _ alphabet: Alphabet) -> UInt64 {
        let first = Int(alphabet.first)
        for place in 0..<Int(alphabet.count) where letters[first + place].symbol == symbol { return 1 << UInt64(place) }
        return 0
    }

    /// The bit of a text in a narrow alphabet, or 0; its symbol in a wide one, or `Machine.noSymbol`.
    func bits(_ text: Span<UInt8>, _ alphabet: Alphabet) -> UInt64 {
        let pool = pool.span
        if !alphabet.isNarrow { return symbols.find(text, pool).map { UInt64($0) } ?? Machine.noSymbol }
        let head = Letter.head(text)
        let first = Int(alphabet.first)
        for place in 0..<Int(alphabet.count) where letters[first + place].head == head {
            if text.count <= 7 || equal(symbols.text(letters[first + place].symbol, pool), text) {
                return 1 << UInt64(place)
            }
        }
        return 0
    }

    /// How many expressions the program holds.
    public var count: Int { entries.count }

    /// The static type of an expression.
    public func type(_ number: Int) -> Type { types[number] }

    /// The source of an expression.
    public func source(_ number: Int) -> String { String(decoding: sources[number], as: UTF8.self) }

    /// Line and column of an evaluation error, with a caret line, as for errors of compilation.
    public func describe(_ error: EvaluationError, in number: Int) -> CompileError {
        CompileError(sources[number], at: Int(error.offset), error.description)
    }
}
