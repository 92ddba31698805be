// What a command takes of a running agent, with units and reasons.

enum Limits {
    /// One answer. The largest that an agent gives is a page of an export: 1 MiB each of events, quarantine and audit log,
    /// and the record.
    static let answerBytes = 16 << 20
    /// A token's file: a line.
    static let tokenFileBytes = 4096
    /// A token, as in destinations.
    static let tokenBytes = 512
    /// A person's reference. Percent-encoded it is three times as long, and must fit the 8 KiB of a request target.
    static let referenceBytes = 1024
    /// From the question to the first byte of the answer, milliseconds: a copy of a record goes through the whole log.
    static let firstByteMilliseconds: Int64 = 120_000
    /// Entries of one list: as many as the agent gives at once.
    static let listEntries = 100
    /// The pause of `status --watch`, milliseconds: each look is a request that the agent answers.
    static let watchMilliseconds: Int64 = 2000
}
