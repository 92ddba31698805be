// Every limit of this room in one place: what a hostile or mistaken expression can cost at most. The rest of the room
// reads them from here and knows no number of its own.

/// Limits of the expression language, each with the reason beside it.
public enum Limits {
    /// A rule that a person reads fits in far less; it bounds every table that the compiler makes.
    public static let sourceBytes = 64 * 1024

    /// Bytes of a line on each side of a mistake that are shown with it.
    static let excerptBytes = 100

    /// Recursion of parser, checker and compiler: the specification asks for 12 to 32 levels, and a level costs about
    /// 2 KiB of stack, so that 200 of them fit a thread of 512 KiB.
    public static let nestingLevels = 200

    /// Nodes of one expression after macros are expanded.
    public static let expressionNodes = 32 * 1024

    /// Steps of one evaluation: loop turns, and a share for bytes and elements that an operation walks over. About
    /// 10 ms on a small ARM core.
    public static let evaluationSteps: Int64 = 1_000_000

    /// Steps of all evaluations between two `Evaluator.begin()`s, so that many costly rules do not add up.
    public static let decisionSteps: Int64 = 4 * evaluationSteps

    /// Expressions of a group (`Compiler.beginGroup`) from which on they are looked up and not tried one by one.
    public static let indexedExpressions = 16

    /// Bytes of strings that one evaluation may make; concatenation in nested loops would otherwise grow without end.
    public static let arenaBytes = 1024 * 1024

    /// Elements of lists and maps that one evaluation may make (16 bytes each).
    public static let arenaValues = 64 * 1024

    /// Bytes of a text that constant folding makes; a longer one is made anew at each evaluation.
    public static let foldedBytes = 4096

    /// Depth of lists, maps and documents that equality, formatting and answers walk into.
    public static let valueNesting = 64

    /// Instructions of one compiled regular expression, 8 bytes each; `\p{L}` alone takes some thousand of them.
    public static let regularExpressionInstructions = 24 * 1024

    /// Steps that a pattern of a rule may take to compile: some hundred sets such as `(?i)[\\p{L}]`.
    public static let regularExpressionSteps: Int64 = 2_000_000

    /// Steps of making a pattern deterministic, some nanoseconds each; one that takes more is run as a set of states.
    public static let deterministicSteps = 500_000

    /// Levels of groups in a regular expression: the parser of patterns recurses.
    public static let regularExpressionNesting = 100

    /// The largest count in `x{n,m}`, as in RE2.
    public static let regularExpressionRepetitions: Int32 = 1000

    /// Digits after the point that `format` writes: a double has no more than 1,074.
    public static let formatPrecision = 1000

    /// Slots that an environment may number: the evaluator keeps 32 bytes for each.
    public static let slots = 16 * 1024

    /// Time zones that an evaluator knows at a time.
    public static let timeZones = 64
    /// Bytes of a time zone's name: the longest of the IANA database has 32.
    public static let timeZoneNameBytes = 64

    /// Bytes of a time zone file: the largest of the IANA database is under 4 KiB.
    public static let timeZoneBytes = 64 * 1024
}
