// The bounds of the local HTTP server: time, connections and bytes. What a message may look like is bounded in HTTP.

/// Every limit of this room, with its unit in the name and its reason beside it.
public enum Limits {
    /// For how long somebody is followed when nobody asks any more, nanoseconds, and how many lines are kept meanwhile.
    static let traceNanoseconds: Int64 = 60_000_000_000
    static let traceLines = 256
    /// A longer answer to a question is not in the trace, but how long it is.
    static let tracedAnswerBytes = 2048
    /// One read(2) takes at most this. Larger bodies come in several reads; each serving thread has one such buffer.
    public static let readBytes = 32 * 1024

    /// From the first byte of a request, or from the connection's opening, to the end of its head. Slower than this is
    /// no client but an attempt to hold a connection (slowloris), or a device that has died.
    public static let headNanoseconds: Int64 = 10 * second

    /// A body gets this long, and then must have come at no less than `bodyBytesPerSecond`.
    public static let bodyGraceNanoseconds: Int64 = 10 * second
    /// 2 KiB/s is less than the slowest mobile network gives; 500 KiB take 4 minutes at the very worst.
    public static let bodyBytesPerSecond: Int64 = 2048

    /// An open connection without a request. Longer than the minute after which most client pools let go, so that
    /// mostly the client closes and no request meets a closing connection.
    public static let idleNanoseconds: Int64 = 75 * second

    /// A client that takes no byte of its answer for this long has gone.
    public static let writeStallNanoseconds: Int64 = 20 * second

    /// After an answer that came before the request's end (413, 431), what still arrives is thrown away for so long,
    /// so that the closing does not overtake the answer (RFC 9112 section 9.6).
    public static let lingerNanoseconds: Int64 = 1 * second

    /// When stopping, requests that are under way get this long.
    public static let stopNanoseconds: Int64 = 10 * second

    /// How long a listener rests when the process has no descriptor left.
    public static let acceptPauseNanoseconds: Int64 = 1 * second

    /// Time-outs are looked at no more often than this; each is up to so much late.
    public static let timerNanoseconds: Int64 = second / 2

    /// Connections that are taken in one turn of the loop, so that a storm of them does not starve those who are in.
    public static let acceptsPerTurn = 64

    /// Answers that are gathered for one write while a client pipelines its requests, and requests that it has answered before
    /// others have their turn: half a millisecond of decisions.
    public static let outputBytes = 64 * 1024
    static let requestsPerTurn = 64

    /// What one TLS record carries at most (RFC 5246 section 6.2.1).
    public static let recordBytes = 16 * 1024

    /// Connections of all threads by default. An idle one costs about 300 bytes here and 2 KiB in the kernel.
    public static let connections = 1024

    /// A body by default: the 500 KiB of a Segment batch, with room for what stands around it.
    public static let bodyBytes = 512 * 1024

    /// Bytes of unfinished requests and unsent answers of all connections together by default: with it the whole
    /// stays under 8 MiB of anonymous memory. Beyond it: 503.
    public static let bufferedBytes = 3 * 512 * 1024

    /// Work on its way through the writer: bytes of bodies and of their parsed values. Beyond it, 503 and Retry-After:
    /// the clients keep what they could not give.
    public static let intakeBytes = 2 << 20
    /// Work waiting for the writer: requests.
    public static let intakeRequests = 4096
    /// Bytes that a pooled submission may keep between uses, so that one large batch does not hold memory for ever.
    public static let pooledSubmissionBytes = 24 * 1024
    /// Submissions kept for reuse.
    public static let pooledSubmissions = 64
    /// What a parsed value weighs with its share of what is prepared of its event.
    static let preparedNodeBytes = 24
    /// What a batch's own `context` and `integrations` may take in all of its events together, with their values: a batch of
    /// 160 KB shall not become 200 MB. Segment's SDKs send 100 events at once, which may bring 10 KiB each.
    public static let joinedBytes = 1 << 20
    /// Events whose memory a pooled submission keeps: 200 bytes each.
    public static let pooledEvents = 64
    /// Bytes that a thread's memory for preparing events may keep.
    public static let preparerBytes = 64 * 1024
    /// Bodies of events up to this size are prepared by the thread that has read them: some 0.2 ms, less than a decision
    /// behind them may wait. Larger ones have a thread of their own.
    public static let preparedAtOnceBytes = 8 * 1024

    /// A question, or the answer to it, that is put to a shadow as well: each thread keeps both.
    static let shadowedBytes = 16 * 1024

    /// Profiles that the clerk counts experiments over in one snapshot: some 50 ms, for which it holds pages that others leave.
    static let reportedPerSnapshot = 16_384
    /// Orders for copies of records that wait for the clerk.
    public static let waitingExports = 8

    /// Bytes of events in one copy of a record; `after` in the answer says where the next goes on.
    public static let exportBytes = 1024 * 1024

    /// A device of which nothing was heard for so long is late, milliseconds: several times what a batch waits for.
    static let lateMilliseconds: Int64 = 15 * 60_000
    /// Devices in one answer of a hub: 300 bytes each.
    static let devicesAtOnce = 1000

    private static let second: Int64 = 1_000_000_000
    /// Records of decisions that wait for the writer: some milliseconds' worth of a device that does nothing else, 200 bytes each.
    static let waitingRecords = 2048
    /// So many wake the writer; fewer it finds when it looks for other work, at least once a second.
    static let recordsBeforeWaking = 512
}
