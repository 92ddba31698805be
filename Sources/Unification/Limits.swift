// Every bound of this room, with its unit in the name and its reason beside it.

public enum Limits {
    /// Changes of a fleet that a hub looks at with one request of a device, to forget some: more than one brings.
    static let changesForgottenAtOnce = 64
    /// How far from 1970 a time of another device's may be, milliseconds: 10,000 years, the longest duration of CEL.
    public static let farthestMilliseconds: Int64 = 315_576_000_000_000
    /// A raw identifier longer than this is none: the longest e-mail address is 254 bytes (RFC 5321 section 4.5.3.1.3
    /// less the brackets), push tokens of phones stay under 300.
    static let rawIdentifierBytes = 512

    /// Identifiers of one event: each costs an HMAC and a row of the graph. An event of the field has two to five.
    public static let identifiersPerEvent = 16

    /// Pieces of text that are sought in the rest of the event; up to four spellings an identifier.
    static let needlesPerEvent = 96

    /// Together with the bound before it keeps the work of a search small, and the scratch memory too.
    static let needleBytesPerEvent = 16 << 10

    /// Shorter values ("1", "anna") occur by chance in texts that have nothing to do with them.
    static let needleMinimumBytes = 5

    /// Kinds of identifiers of a bundle, and the paths of each.
    static let identifierKinds = 32
    static let pathsPerKind = 16
    static let pathSegments = 8

    /// Attributes of a bundle: their slots are numbered in 16 bits, and each costs a rule an event.
    static let attributes = 1024

    /// A profile record. LMDB wants contiguous free pages for values over about 2,000 bytes: a typical record stays
    /// under that, this is where growth ends, and it fits the 32-bit offsets with room.
    public static let profileRecordBytes = 64 << 10

    /// What one attribute may occupy of it. An entry's length is a UInt16.
    static let attributeBytes = 32 << 10

    /// One string kept in a profile (a value of `string`, `last`, an element of a set): longer ones are not kept.
    static let valueBytes = 1024

    /// Elements of a set, tally or timeline: when the bundle says nothing, and at most.
    static let defaultElements = 100
    static let maximumElements = 1000

    /// Exposures to one experiment that are kept of a person: one an arm, of each of those who became one person.
    static let exposures = 8
    /// Events of an experiment's goal within its window that are kept of a person, the latest: what somebody does more often
    /// is no goal.
    static let goalEvents = 100

    /// Buckets of a rolling window: the resolution is the window through this (10 minutes are counted in steps of
    /// 10 seconds), so that a windowed counter costs at most 60 × 12 bytes.
    static let windowBuckets: Int64 = 60

    /// The longest window and time to live, in milliseconds: ten years.
    static let longestSpanMilliseconds: Int64 = 3_660 * 86_400_000

    /// Values of a sum or mean stay under this: up to here doubles hold every whole number, beyond it the total would be
    /// made of rounded ones.
    static let summandMagnitude: Double = 0x1p53

    /// How long a state is kept that the bundle in force does not know: a bundle may be taken back.
    static let unknownAttributeMilliseconds: Int64 = 30 * 86_400_000

    /// Attributes whose history the store remembers, those that have left a bundle with them: 128 KiB, some bundles of the
    /// largest size, or many years of usual changes.
    static let rememberedAttributes = 2048

    /// Links of an identifier to others. A household's address has a few, one that is typed in to be left alone has thousands:
    /// with more than this it is nobody's, and joins nobody.
    public static let linksPerIdentifier = 64
    /// Links of an identifier that another device is told: with one more than it may have it is nobody's there, too.
    public static let linksTold = linksPerIdentifier + 1
    /// How many more are still followed to what it held together until it had too many.
    static let linksFollowedBeyond = 8
    /// Links with which an identifier is given another key when the pepper changes: each changes a page or two, and all
    /// together as many as the events of one transaction. Who has more is nobody's, and begins anew when the rotation ends.
    static let linksMovedAtOnce = 512
    /// Identifiers of one person: phones, browsers and addresses of ten years. With more, something joins what it should not.
    public static let identifiersPerPerson = 64
    /// Links that the answer to a question about a person has at most.
    public static let linksShown = 256
    /// Identifiers and links that are looked at to find out who is one person. Where there are more, everybody stays who they
    /// are: something links what it should not. It bounds what an event may cost the writer.
    static let identifiersPerRegion = 192
    static let linksPerRegion = 768
    /// Links that one call cuts: those of an address that is nobody's may be a hundred thousand.
    static let linksCutAtOnce = 64

    /// A visit goes on until nothing was heard of it for this long: what the field's analytics take for a session.
    public static let visitMilliseconds: Int64 = 30 * 60_000
    /// Visits at shared things that are under way: erasing a person looks at all of them.
    static let visits: Int64 = 4096
}
