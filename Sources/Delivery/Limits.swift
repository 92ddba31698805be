// Every limit of delivery, with its unit in its name and its reason beside it.

public enum Limits {
    // Batches

    /// Events of one request when the bundle says nothing: a request a second then carries what a busy shop makes.
    public static let defaultBatchEvents: Int64 = 500
    /// More events in one request only make its loss dearer.
    public static let batchEvents: ClosedRange<Int64> = 1...5000
    /// Bytes of one request's body before compression when the bundle says nothing: below Segment's 500 KB with room for
    /// what a proxy adds.
    public static let defaultBatchBytes: Int64 = 400 << 10
    /// From the largest single event with its envelope (so that every event fits) to what a device can hold per
    /// destination.
    public static let batchBytes: ClosedRange<Int64> = (48 << 10)...(1 << 20)
    /// How long the first event of a batch waits for others when the bundle says nothing, milliseconds.
    public static let defaultDelayMilliseconds: Int64 = 5_000
    /// The longest delay, milliseconds: a day, for links that are dear.
    public static let delayMilliseconds: Int64 = 86_400_000
    /// `budget` of a destination, bytes a day: from a few real batches to more than any link carries.
    public static let budgetBytes: ClosedRange<Int64> = (64 << 10)...(1 << 40)
    /// With less than this left of the day's budget it counts as spent, bytes: a request for less is mostly its head.
    public static let leastBudgetBytes: Int64 = 4 << 10
    /// What a request is reckoned with beyond its body, bytes: its head, the answer, and what TLS, TCP and IP put around them.
    public static let requestOverheadBytes: Int64 = 600
    /// Requests of the lane `realtime` in a row while a batch is due: a steady stream must not hold the others up for ever.
    public static let realtimeInARow = 4
    /// Entries that one look at the log passes over at most: between two looks a stop request is noticed.
    public static let entriesPassed = 10_000
    /// Purposes that are counted apart: all that a bundle may have.
    public static let purposes = 32
    /// Fields that never leave: each is looked for in every event.
    public static let deniedFields = 64
    /// Identifiers that may leave with an event.
    public static let identifiers = 16
    /// A URL: what HTTP asks servers to take at least (RFC 9112 section 3).
    public static let urlBytes = 2048
    /// A token: Segment's write keys are 32 characters.
    public static let tokenBytes = 512

    /// A webhook's secret, decoded: what Standard Webhooks asks for.
    static let secretBytes = 24...64
    /// Lines of a webhook's head from the bundle: half of what servers take at least.
    static let headerBytes = 4096

    // Retrying

    /// The first pause is up to this, milliseconds.
    public static let firstPauseMilliseconds: Int64 = 500
    /// No pause that we choose is longer, milliseconds: a hub that comes back is noticed within a minute.
    public static let longestPauseMilliseconds: Int64 = 60_000
    /// No pause that a server asks for is longer, milliseconds: a mistaken Retry-After must not silence a device for days.
    public static let longestRetryAfterMilliseconds: Int64 = 3_600_000
    /// Requests that the breaker looks back on.
    public static let breakerWindow = 100
    /// The breaker opens at this share of failures among them, per cent.
    public static let breakerFailurePercent = 40
    /// Fewer requests than this say nothing about a server.
    public static let breakerMinimumRequests = 20
    /// This many failures in a row open the breaker whatever came before: after a good day 40 % of the last 100 requests
    /// would take half an hour of pauses to fail.
    public static let breakerConsecutiveFailures = 6
    /// How long an open breaker keeps requests away before it lets one try, milliseconds.
    public static let breakerOpenMilliseconds: Int64 = 60_000
    /// Batches that go well before a limit that was halved is doubled again.
    public static let batchesBeforeGrowth = 16

    // The network

    /// Resolving and connecting, milliseconds: three SYNs on a mobile link. Resolving alone gives up by itself, after five
    /// seconds unless resolv.conf says otherwise.
    public static let connectMilliseconds: Int64 = 10_000
    /// The TLS handshake, milliseconds: a full one takes an ARM board half a second and four flights.
    public static let handshakeMilliseconds: Int64 = 15_000
    /// Without a byte taken by the other side, milliseconds.
    public static let sendStallMilliseconds: Int64 = 20_000
    /// From the last byte sent to the first of the answer, milliseconds: a hub commits to disk before it answers.
    public static let firstByteMilliseconds: Int64 = 30_000
    /// One request from connecting to the answer's last byte, milliseconds.
    public static let requestMilliseconds: Int64 = 120_000
    /// How often a wait on the network looks whether it should stop, milliseconds.
    public static let cancellationMilliseconds: Int64 = 200
    /// How long an idle connection is kept, milliseconds: it holds 40 KB.
    public static let keepAliveMilliseconds: Int64 = 60_000
    /// An answer's body is read (and thrown away) up to this many bytes; a longer one costs the connection.
    public static let answerBodyBytes = 64 << 10
    /// What is read from a connection at once: one TLS record.
    public static let readBytes = 16 << 10
    /// Buffers that grew larger are given back while nothing is sent, bytes.
    public static let idleBufferBytes = 32 << 10
    /// How far a device's clock and that of a verified server may be apart for both to be believed, seconds: a day, which a
    /// wrong time zone does not reach and which is little to a certificate.
    static let clocksAgreeSeconds: Int64 = 86_400
    /// The longest wait for events before the sender looks around, milliseconds.
    public static let idleMilliseconds: Int64 = 30_000
}
