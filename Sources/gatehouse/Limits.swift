// What the commands take, with units and reasons.

import Agent

enum Limits {
    /// A file with a bundle, a schema, an event or variables: as large as a bundle may be.
    static let fileBytes = Agent.Limits.bundleBytes
    /// A token's file: a line.
    static let tokenFileBytes = 4096
    /// A token, as in destinations.
    static let tokenBytes = 512
    /// A person's reference. Percent-encoded it is three times as long, and must fit the 8 KiB of a request target.
    static let referenceBytes = 1024
    /// What `bundle diff` shows of a value before and after: a line of a terminal.
    static let shownBytes = 120
    /// How long `doctor` waits for an agent that may hang, milliseconds, and how often it asks: of several threads one may.
    static let doctorMilliseconds: Int64 = 5000
    static let doctorTries = 3
    /// The pause of `trace`, milliseconds: a look is one request.
    static let traceMilliseconds: Int64 = 500
    /// The pause of `status --watch`, milliseconds: each look is two requests that the agent answers.
    static let watchMilliseconds: Int64 = 2000
    /// How long a box waits for a disk or a network card that is not there yet: a hundred looks, ten seconds in all.
    static let deviceLooks = 100
    static let deviceLookMilliseconds: Int64 = 100
    /// Then it says so, and how soon it looks again for a disk, which somebody may be putting in.
    static let diskPauseMilliseconds: Int64 = 10_000
    /// The pause before an agent that has ended is started again: long enough to read on the console why.
    static let restartPauseMilliseconds: Int64 = 2000
    /// How long the agent may take to end: it may be in the middle of a large commit on a slow card. Twenty seconds in all.
    static let stopLooks = 40
    static let stopLookMilliseconds: Int64 = 500
    /// When a box says how much memory it has left: the agent has started by then.
    static let settledMilliseconds: Int64 = 5000
}
