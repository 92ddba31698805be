// Every limit of collection, with its unit in its name and its reason beside it.

public enum Limits {
    /// One event, as the Segment API has it.
    public static let eventBytes = 32 * 1024
    /// One batch, as the Segment API has it; unpacked when it came as gzip.
    public static let batchBytes = 500 * 1024
    /// Events in one batch: Segment's own bound.
    public static let batchEvents = 2500
    /// A message id: the SDKs send 36 bytes.
    public static let messageIDBytes = 255
    /// A time: a date, a time with nine decimals and an offset take 35.
    public static let timeBytes = 40
    /// The name of a CloudEvent's attribute. The specification recommends 20.
    public static let attributeNameBytes = 64
    /// `context` and `integrations` of a whole batch, which are written into each of its events: the SDKs send 1 KiB, and
    /// 2,500 events shall not become gigabytes.
    public static let outerBytes = 8 * 1024
    /// Nesting of an event's JSON; the deepest SDK payloads have 6.
    public static let eventDepth = 32
    /// Message ids remembered to recognise repeats: a busy shop's week. About 90 bytes of store each.
    public static let rememberedMessages: UInt64 = 500_000
    /// Values and keys of one body: 40 for each event of the largest batch, and 1.5 MiB of memory.
    public static let bodyValues = 96 * 1024
    /// Bytes that a buffer may keep between two requests, so that one large batch does not hold memory for ever.
    public static let keptBufferBytes = 24 * 1024
    /// Events set aside in quarantine; the oldest go first.
    public static let quarantinedEvents: UInt64 = 1000
    /// Restricted fields of an event of the plan: each is looked for in every message that leaves.
    public static let restrictedFields = 64
    /// Schemas inside each other in a schema of the tracking plan: as deep as an event's JSON.
    public static let schemaDepth = 32
    /// Schemas, names and constants of one schema, some 50 bytes each: the largest plans have a few hundred an event.
    public static let schemaParts = 8192
    /// Different patterns of one schema: the table of each may take 64 KiB.
    public static let schemaPatterns = 32
    /// Nesting of a constant in a schema: an event's, and the list of the constants around it.
    public static let schemaConstantDepth = eventDepth + 1
    /// Schemas that are held against a value inside each other, references included: an event's depth four times over.
    /// Each level takes some hundred bytes of the stack.
    public static let schemaEvaluationDepth = 128
    /// Steps of one validation: a step is a schema, a member or an item that is looked at, or ten nanoseconds of matching
    /// a pattern. The largest event has some 16,000 values, a usual one takes 30 steps; this many take some milliseconds.
    public static let schemaSteps: Int64 = 200_000
    /// Items whose pairs `uniqueItems` compares; more are sorted by a hash, which needs memory.
    public static let schemaPairwiseItems = 16
    /// Up to so many names of a lone `required` are looked up in an object one by one; each looks through the keys.
    public static let schemaNamesLookedUp = 8
    /// Validations to find out what an event must lose to be valid.
    public static let schemaStripRounds = 64
    /// Events of a plan, and sources of a device, that are watched: each is a label in `/metrics` and 16 bytes of a record
    /// that is written every few seconds.
    static let watchedEvents = 128
    public static let watchedSources = 64
    /// How often at most that record is written, milliseconds: what a power cut may take away of it.
    public static let freshnessMilliseconds: Int64 = 5000
    /// Fields of one event, and of all, of which it is known what is usual: some 64 bytes each, so 128 KiB at most.
    static let driftFieldsPerEvent = 63
    static let driftFields = 2048
    /// A field's name, where it is remembered; longer ones are data.
    static let driftNameBytes = 48
    /// Fields of an object; with more that no schema names it is a map, whose names are data.
    static let driftChildren: UInt8 = 16
    /// Events from which it is learnt what is usual.
    static let driftLearningEvents: UInt16 = 200
    /// Afterwards one of so many is looked at, while all is as usual.
    static let driftSampling: UInt8 = 16
    /// A field that is usually there is missing when so many events in a row do not have it.
    static let driftMissingEvents: UInt16 = 50
    /// How often at most what is known of an event is written, milliseconds, and how many events one commit writes: a
    /// record has up to 5 KB.
    static let driftMilliseconds: Int64 = 60_000
    public static let driftRecordsPerCommit = 4
    /// Changed fields in `/metrics`; more are counted under `other`.
    public static let driftLabels = 256
    /// Fields with old names of a whole plan: each is a label in `/metrics`.
    public static let aliasedFields = 256
    /// Old names of one event, names in the way to a field, and bytes of a name: an event of 32 KiB that is mended stays
    /// below what an entry of the log may have.
    public static let oldNames = 64
    public static let fieldSegments = 8
    public static let fieldNameBytes = 64
    /// Events that wait in memory for their person's choice, and their bytes: a page or two of clicks for a few dozen
    /// visitors at a kiosk, within what promise P10 leaves.
    public static let waitingEvents = 512
    public static let waitingBytes = 512 * 1024
}

/// For other rooms: `Collection.Limits` would be read as the standard library's protocol.
public typealias CollectionLimits = Limits
