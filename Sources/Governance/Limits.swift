// Every limit of governance, with its unit in its name and its reason beside it.

public enum Limits {
    /// Purposes of a bundle: one bit each of a 32-bit mask that every decision tests.
    public static let purposes = 32
    /// A purpose's name, as long as the IAB's longest.
    public static let purposeNameBytes = 64
    /// How long an event waits for a choice where the bundle says nothing, and at most, milliseconds: ten minutes is a
    /// visit, a day is more than a device should hold in memory.
    public static let defaultWaitMilliseconds: Int64 = 600_000
    public static let longestWaitMilliseconds: Int64 = 86_400_000
    /// Lines of the audit log, some 250 bytes each; the oldest are forgotten first, and the chain begins after them.
    public static let auditLines: UInt64 = 500_000
    /// The longest consent string (TCF or GPP) that is read. Strings of the field have 100 to 3,000 characters; a range
    /// entry or a restriction takes at least 17 bits, so that a string of this length cannot hold 3,000 of them.
    public static let consentStringBytes = 8 << 10
    /// Sections of one GPP string; the registry has 27.
    public static let consentStringSections = 64
    /// The largest number in Fibonacci coding that is believed: vendors and sections have 16 bits at most.
    static let fibonacciNumber = 1 << 16
}
