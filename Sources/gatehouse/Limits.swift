// What the commands that ask a running agent take, with units and reasons.

enum Limits {
    /// A token's file: a line.
    static let tokenFileBytes = 4096
    /// A token, as in destinations.
    static let tokenBytes = 512
    /// A person's reference. Percent-encoded it is three times as long, and must fit the 8 KiB of a request target.
    static let referenceBytes = 1024
    /// The pause of `status --watch`, milliseconds: each look is two requests that the agent answers.
    static let watchMilliseconds: Int64 = 2000
}
