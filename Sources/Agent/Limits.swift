// Every limit of the agent as a whole, with its unit in its name and its reason beside it.

public enum Limits {
    /// A device configuration: settings, no data.
    public static let configurationBytes = 256 * 1024
    /// A bundle: ten thousand rules and the tables that they look up.
    public static let bundleBytes = 4 * 1024 * 1024
    /// A signature: DER of P-256 has 72 bytes at most.
    public static let signatureBytes = 72
    /// A file of public keys: those of P-256 have 180 bytes each.
    public static let keyFileBytes = 16 * 1024
    /// What is kept of a bundle's entity tag; a longer one is not sent back, and the bundle is fetched each time.
    static let entityTagBytes = 256
    /// What stands before the last good bundle in its file: two numbers, a hash, a signature, a tag.
    static let keptHeadBytes = 512
    /// What a destination has taken is noted at least so often while a backlog drains: after so many nanoseconds, or so many
    /// requests.
    static let cursorNanoseconds: Int64 = 100_000_000
    static let cursorsUnderWay = 64
    /// How long a destination rests after what it has taken could not be noted, milliseconds: at first, doubled each time, and at
    /// most.
    static let commitPauseMilliseconds: Int64 = 250
    static let longestCommitPauseMilliseconds: Int64 = 30_000
    /// How often is looked for another bundle, milliseconds: where the configuration says nothing, and what it may say,
    /// from what a test needs to a week.
    public static let defaultPollMilliseconds: Int64 = 300_000
    static let pollMilliseconds: ClosedRange<Int64> = 1000...7 * 86_400_000
    /// The first pause after a bundle could not be fetched, milliseconds; it doubles up to the time between two polls.
    static let firstFetchPauseMilliseconds: Int64 = 5000
    /// A device that has a bundle asks for another only after up to this, milliseconds: a thousand that got their power back
    /// do not come as one.
    static let firstPollMilliseconds: Int64 = 30_000
    /// A bundle is tested over the newest events of the log, so many with so many bytes: they are copied.
    static let selfTestEvents = 512
    static let selfTestEventBytes = 256 * 1024
    /// For so long at most, milliseconds: what has been played by then tells.
    static let selfTestMilliseconds: Int64 = 10_000
    /// The store of a self-test. It lies in the data folder, and takes of the disk what is used of it.
    static let selfTestStoreBytes: Int64 = 64 << 20
    /// How often the process may end during the self-test of one bundle: once may have been the power.
    static let selfTestEndings: UInt64 = 2
    /// Rules that fail to evaluate before they can speak against a bundle: in a self-test, and while it decides.
    static let selfTestErrors: UInt64 = 5
    static let probationErrors: UInt64 = 20
    /// How many of a hundred evaluations may fail beyond twice the share that failed by the bundle before.
    static let failingPercent: Double = 5
    /// How long after a switch decisions that fail bring the bundle before back, milliseconds; and how often is looked.
    static let probationMilliseconds: Int64 = 300_000
    static let probationLookMilliseconds: Int64 = 1000
    /// After how long without a large commit the writer gives back what memory those have taken, milliseconds.
    static let restMilliseconds: Int64 = 1000
    /// Pages of 4 KiB that a commit may change and not be large: LMDB's memory for as many stays (Tools/lib/lmdb.sed).
    static let restingPages = 64
    /// Pages of 4 KiB that the events of one transaction may change: LMDB holds them in memory until the commit. 2.9 MiB of the
    /// 8 that promise P10 allows under load, and some 400 events with all their tables in use.
    public static let pagesPerCommit = 640
    /// Events that one transaction takes at most: those that change nothing shall be answered, too.
    public static let eventsPerCommit = 4096
    /// Entries removed from the log by one transaction, for the same reason.
    public static let trimmedPerCommit = 512
    /// And before it is looked again how large the log is: of the usual size, two or three pages.
    static let trimmedAtOnce = 16
    /// Entries of the log that one transaction looks at for an erasure: a few milliseconds, so that events need not wait.
    public static let erasureStep = 4096
    /// Pages of the store that events leave to privacy work and trimming: 512 KiB. An erasure takes some 30 pages a step, and
    /// what it frees can be taken again two commits later.
    public static let reservedPages = 128
    /// Room on the disk that a store with holes holds ready for that, bytes: a choice takes some 32 KiB of it.
    static let spareBytes: Int64 = 4 << 20
    /// Pages that an event is reckoned with when room is short: the leaves of a dozen tables, a record and an entry of the
    /// log of more than a page.
    public static let pagesPerEvent = 32
    /// Pages beyond the reserve with which room is not short: several times what one transaction changes (24 MiB).
    public static let pagesInPlenty = 6144
    /// Privacy calls of one transaction when there is room for nothing else.
    public static let callsPerFullCommit = 2
    /// For how long they are tried again where not even the reserve is left, nanoseconds, and after how many milliseconds each
    /// time: pages that were freed while somebody reads cannot be taken before he is done.
    static let fullWaitNanoseconds: Int64 = 500_000_000
    static let fullRetryMilliseconds: Int64 = 10
    /// Profiles or events that one step of the sweep looks at, and how many profiles it changes, with how many bytes: a
    /// millisecond of looking, and some hundred pages of 4 KiB at most.
    public static let sweptPerStep = 256
    public static let purgedPerStep = 64
    public static let purgedBytesPerStep = 128 * 1024
    /// What a step takes, reckoned, nanoseconds: between two passes is twenty times as long as their steps take.
    public static let sweepStepNanoseconds: Int64 = 1_000_000
    /// Between two steps, milliseconds: events and decisions hardly notice, and a million profiles take four minutes.
    public static let sweepPauseMilliseconds: Int64 = 50
    /// Between two passes at most, milliseconds: what is kept in months goes in the hour in which its time is up.
    public static let sweepRestMilliseconds: Int64 = 3_600_000
    /// Bytes of the store's rows that one step holds against their checksums, some 16 pages: about a millisecond, and on a slow
    /// card some more. And after how long all of them once more, nanoseconds: once a day.
    static let checkedBytesPerStep = 64 * 1024
    static let rowsRestNanoseconds: Int64 = 86_400_000_000_000
    /// Entries of the log that one step counts once more for attributes that are new, each with a record of its person: some
    /// milliseconds. Where events have filled the transaction, so many go on all the same.
    static let recomputedPerStep = 128
    static let recomputedPerFullStep = 8
    /// What the log keeps of events that every destination has, so that a new attribute can be computed from them: some twenty
    /// thousand events, and little beside the store that holds their people.
    static let historyBytes: Int64 = 16 << 20
    /// Identifiers that one transaction takes over from another store, each with some parts, links and a record of up to 64 KiB.
    public static let mergedPerCommit = 32
    /// `limits.disk`, bytes: from what holds the tables and a few people to what LMDB's map may be.
    static let diskBytes: ClosedRange<Int64> = 1 << 20...1 << 40
    /// `limits.body`, bytes: from one small event to what a device can hold of a hub's or another's requests.
    static let bodyBytes: ClosedRange<Int64> = 1024...16 << 20
    /// `limits.connections`: some 2 KiB of the kernel's memory each.
    static let connections: ClosedRange<Int64> = 1...10_000
    /// The least that `limits.memory` may be: the 8 MiB of promise P10, the program's own pages, and some of the store.
    static let leastMemoryBytes: Int64 = 16 << 20
    /// Between two looks at the process's memory at most, milliseconds: what comes into memory unseen at the beginning of a
    /// rush. A look costs some microseconds.
    static let memoryLookMilliseconds: Int64 = 50
    /// And at least, when memory grows quickly: giving back what has come in meanwhile takes a fraction of it.
    static let memoryRushMilliseconds: Int64 = 2
    /// Where the process alone needs more than `limits.memory`, and looking more often would help nobody.
    static let memoryHopelessMilliseconds: Int64 = 1000
    /// After how many times in a row in which giving everything back was not enough that is so.
    static let memoryVainReleases = 5
    /// For how long the writer or a serving thread may not come round before it has stalled, nanoseconds: a commit to a slow
    /// card takes seconds.
    static let stalledNanoseconds: Int64 = 10_000_000_000
    /// How often that is looked at, milliseconds.
    static let pokeMilliseconds: Int64 = 4000
    /// How soon the certificate of the local API must be renewed, seconds: a week in which somebody can come.
    static let certificateSeconds: Int64 = 7 * 86_400
    /// For how long after events have made room for others it counts as short, nanoseconds: whoever looks every few minutes
    /// shall see it.
    static let shedNanoseconds: Int64 = 600_000_000_000
    /// Room on the file system below which it is short, bytes, unless the store needs less.
    static let leastFreeBytes: Int64 = 16 << 20
    /// Up to when an event counts in `Meters.activate` as what it is, milliseconds: one that was kept offline for a week
    /// shall not be all of the sum.
    static let activationMilliseconds: Int64 = 3_600_000
    /// The least that `limits.profiles` may be, so that a sample tells something.
    static let leastProfiles: Int64 = 100
    /// The least that `limits.profile_bytes` may be: sixteen of the largest records.
    static let leastProfileBytes: Int64 = 1 << 20
    /// Profiles that are looked at to find those to evict, and how many of them go at most: the quarter of a random sample
    /// that is worth least.
    static let sampledForEviction = 64
    static let evictedAtOnce = 16
    /// Profiles that go before one commit at most: as many as its events may have brought.
    static let evictedPerCommit = eventsPerCommit
    /// Timers that one transaction takes: each reads and writes some pages, and events need not wait.
    static let timersPerCommit = 256
    /// How far ahead it is looked for when an audience changes through time alone, seconds: 90 days, or as long as any
    /// attribute lasts.
    static let audienceHorizonSeconds: Int64 = 90 * 86_400
    /// What a trigger keeps of an event's properties: a basket with some dozen lines. Larger ones are left out.
    static let causeBytes = 4096
    /// The most that a simulation's store may grow to: it may lie in memory, and half a million people fit.
    static let simulatedBytes: Int64 = 512 << 20
    /// From the first event of a simulation to the last, milliseconds: 50 years. Where audiences are announced everybody is
    /// looked at four times in each, and a year that is mistyped as 9999 would be waited for for minutes.
    static let simulatedMilliseconds: Int64 = 50 * 366 * 86_400_000
    /// Between two looks of a simulation for what has been kept for long enough, milliseconds of its time: each goes through
    /// all people, and what is kept for days goes on the day.
    static let simulatedSweepMilliseconds: Int64 = 86_400_000
    /// Reasons for which a simulation says how many events were not admitted, and triggers and audiences that it counts by
    /// name: all that a bundle can have.
    static let simulatedReasons = 256
    /// Events that one call releases from quarantine: what one transaction can take.
    public static let releasedPerCall = 1000
    /// Serving threads: decisions are short, and more threads only cost memory.
    public static let servingThreads = 4
    /// Destinations of a bundle, each with a thread of its own.
    public static let destinations = 16
    /// How long after nothing could be written an event is tried again for whose commit nobody waits, nanoseconds: one that
    /// may be lost each second shows whether there is room again.
    static let retriedAfterNanoseconds: Int64 = 1_000_000_000
    /// How long the writer waits for work before it looks at the clock, milliseconds.
    public static let writerIdleMilliseconds: Int64 = 1000
    /// How long a rotation of the pepper lasts where the configuration says nothing, milliseconds: a customer of a shop who
    /// does not come for a quarter of a year begins anew.
    public static let rotationMilliseconds: Int64 = 90 * 86_400_000
    /// 2020-01-01, milliseconds since the epoch: what is earlier is the time of a clock that nobody has set.
    static let clockIsSetMilliseconds: Int64 = 1_577_836_800_000
    /// How much later the last time known must be than the one in the store to be written, seconds: once an hour costs no
    /// flash, and certificates last for days.
    static let knownTimeSeconds: Int64 = 3600
    /// `snapshots.keep`: the agent's own, each as large as what the store has in use.
    static let snapshots: ClosedRange<Int64> = 0...8
    /// `snapshots.every`, milliseconds: from what a test needs to a quarter of a year.
    static let snapshotMilliseconds: ClosedRange<Int64> = 1000...90 * 86_400_000
    /// How long after the start, or after an erasure has removed all snapshots, the first is taken, milliseconds: not in the
    /// rush after a power cut, and once for several erasures.
    static let firstSnapshotMilliseconds: Int64 = 600_000
    /// How long a store that was set aside stays, milliseconds: time to look at it, and no longer than need be.
    static let asideMilliseconds: Int64 = 7 * 86_400_000
    /// What answers while a store is mended has one of its own, with nothing in it but the tables.
    static let standInBytes: Int64 = 4 << 20
    /// With less room on the file system a store is neither replaced nor taken into use, and nothing stands in for it: LMDB's
    /// file of locks is memory that a full disk takes away from the process, which ends by that.
    static let leastMendingBytes: Int64 = 1 << 20
    /// What is free in the store goes back to the disk when it is more bytes than this, and an eighth of what is in use; where
    /// the file system makes no holes, the store is written anew at a start when more is free than in use.
    static let leastCompactedBytes: Int64 = 16 << 20
    /// The HMAC secret: 32 bytes, as long as the hash (RFC 2104, section 3).
    public static let pepperBytes = 32

    /// A command's question to a running agent, until the answer's first byte, milliseconds: a copy of a record goes through
    /// the whole log.
    public static let askMilliseconds: Int64 = 110_000
    /// An answer to a command. The largest is a page of an export: 1 MiB each of events, quarantine and audit log, and the
    /// record.
    static let answerBytes = 16 << 20
    /// Devices that one hub hears: a row of 80 bytes each. A fleet of more has regions, or lands in an engine that is
    /// distributed.
    static let devices: Int64 = 10_000
    /// Spans of 512 numbers of a device of which a hub remembers what has arrived, before the newest: two million messages
    /// in 400 KiB. What comes by another way, through a fallback or another hub, is not later than that.
    static let rememberedSpans: UInt64 = 4096
    /// Bytes of changes of a fleet in one request or answer, after which there are no more: the last may be of 70 KiB, so that
    /// it is less than a body may have.
    static let syncBytes = 192 * 1024
    /// An answer to that at most.
    static let syncAnswerBytes = 512 * 1024
    /// What a device tells of itself when its hub asks, and a hub keeps of it: some 30 KiB of metrics, twice that with many
    /// destinations and decisions.
    static let reportBytes = 96 * 1024
    /// Changes that are looked at for one of them: some 100 KiB in memory.
    static let changesLookedAt = 1024
    /// How far the clock of another device may be ahead, milliseconds, so that what it has counted and what was granted there is
    /// believed. Clocks without a network drift by minutes.
    static let clockAheadMilliseconds: Int64 = 3_600_000
    /// Of what a hub says why it refuses, in the log.
    static let refusalBytes = 300
    /// Changes that a hub passes on, besides erasures: those that came last, one of the links and choices of an identifier and
    /// one for each device that has counted for it, some 600 bytes each.
    static let sharedStates: Int64 = 100_000
    /// And those that changed in so long, milliseconds: who was not seen for a month is a stranger wherever they come next.
    static let sharedMilliseconds: Int64 = 30 * 86_400_000
    /// How often a device asks its hub where the configuration says nothing, milliseconds.
    static let syncMilliseconds: Int64 = 60_000
    /// Records of decisions in one commit: events do not wait long for them.
    static let recordsPerCommit = 512
    /// Commits that a stopping agent makes for records of decisions: all that wait, unless they fail.
    static let lastRecordCommits = 12
}
