// Every limit of activation, with its unit in its name and its reason beside it.

public enum Limits {
    /// Audiences of a bundle: one bit each of a 64-bit mask that rules test.
    public static let audiences = 64
    /// Decisions of a bundle.
    public static let decisions = 1000
    /// Variants, of all decisions together, that are counted one by one in `/metrics`: 64 KiB of counters, and more lines than
    /// anybody reads.
    static let countedVariants = 1024
    /// Rules of one decision.
    public static let rules = 10_000
    /// Variants of one decision: a split's weights are looked through one by one.
    public static let variants = 64
    /// Tables of a bundle: their names are looked through one by one when rules are compiled.
    public static let tables = 64
    /// Rows of all tables together: a key and a row take 45 bytes and more, so that about this many fit `tableBytes`.
    public static let tableRows = 20_000
    /// Bytes that all tables take in memory, once for all threads: with them a device still has less than 4 MiB of
    /// anonymous memory when it is idle (promise P10).
    public static let tableBytes = 1024 * 1024
    /// Scores of a bundle: one bit each of a 64-bit mask that tells what a rule reads.
    public static let scores = 64
    /// Conditions, weights or features of one score: each is an expression to be evaluated when the score is asked for.
    public static let scoreTerms = 1000
    /// Nodes of all models together, 8 bytes each: five hundred trees of depth 6 fit, and take half a MiB once for all
    /// threads. A walk through a tree meets a node once at most, so that no model takes more steps than this.
    public static let modelNodes = 65_536
    /// Features of a model, which a thread keeps room for: 4 bytes each. A node has 14 bits for their number.
    public static let modelFeatures = 4096
    /// The body of a question: a context is settings, not data.
    public static let questionBytes = 64 * 1024
    /// Decisions that one question with an event may name; without names all are answered.
    public static let decisionsAsked = 100
    /// Triggers of a bundle: each asks every event.
    public static let triggers = 64
    /// The longest that a trigger waits or rests, milliseconds: a year, as for a birthday. What it waits with is kept so long.
    public static let longestWaitMilliseconds: Int64 = 366 * 86_400_000
    /// How much later than due a trigger fires where it says nothing, milliseconds: a restart or a short power cut, but not
    /// a night, after which a reminder of a cart is out of place.
    public static let graceMilliseconds: Int64 = 3_600_000
    /// Pairs of variants of one decision that are told apart where two bundles differ: more than anybody reads.
    static let changesPerDecision = 32
    /// The most that a cap counts: as many times are kept of each person, 16 bytes each.
    public static let capServes: Int64 = 100
    /// Splits and holdouts of a bundle that are counted: the goal of each asks every event, and each has two states in the
    /// profiles of those whom it was shown.
    static let experiments = 64
    /// How long after an exposure the goal counts where the bundle says nothing, milliseconds: a week has every weekday once.
    static let goalMilliseconds: Int64 = 7 * 86_400_000
    /// An arm with fewer people, or with fewer who have converted, says little: its interval is wider than what tests are after.
    static let fewPeople = 100
    static let fewConversions = 10
    /// Places of `ServeCounts`: 32 KiB. In a second, the longest that a serve waits for its commit, few people share one.
    static let servePlaces = 4096
    /// Decisions that a thread keeps for their records until it has handed on those before; more are lost, and counted.
    static let pendingRecords = 1024
    /// Nesting of a context.
    public static let contextDepth = 32
    /// Answers that a thread keeps as text; a power of two. Most devices give fewer different ones in a minute.
    static let answersKept = 64
    /// Bytes of an answer that is kept: 64 of them are 32 KiB a thread at most.
    static let answerKeptBytes = 512
}
