// Every limit of this room, with its unit in its name and its reason beside it.

enum Limits {
    /// The largest file of the IANA time zone database is under 4 KiB.
    static let timeZoneBytes = 64 * 1024
    /// Of threads that give way: where all cores are busy they get a third of what those get that answer decisions.
    static let niceness: Int32 = 5
    /// Of threads that answer: for so long they want a core at once. The shortest that Linux takes.
    static let sliceNanoseconds: UInt64 = 100_000
    /// Entries of the log in a span of time, nanoseconds: whoever reads it can still see what happened, and a day of it
    /// takes some hundred MiB at most.
    static let logLinesPerSpan = 100
    static let logSpanNanoseconds: Int64 = 10_000_000_000
}
