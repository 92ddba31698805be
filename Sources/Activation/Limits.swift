// Every limit of activation, with its unit in its name and its reason beside it.

public enum Limits {
    /// Audiences of a bundle: one bit each of a 64-bit mask that rules test.
    public static let audiences = 64
    /// Decisions of a bundle.
    public static let decisions = 1000
    /// Rules of one decision.
    public static let rules = 10_000
    /// Variants of one decision: a split's weights are looked through one by one.
    public static let variants = 64
    /// The body of a question: a context is settings, not data.
    public static let questionBytes = 64 * 1024
    /// Nesting of a context.
    public static let contextDepth = 32
    /// Answers that a thread keeps as text; a power of two. Most devices give fewer different ones in a minute.
    static let answersKept = 64
    /// Bytes of an answer that is kept: 64 of them are 32 KiB a thread at most.
    static let answerKeptBytes = 512
}
