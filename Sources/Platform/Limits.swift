// Every limit of this room, with its unit in its name and its reason beside it.

enum Limits {
    /// The largest file of the IANA time zone database is under 4 KiB.
    static let timeZoneBytes = 64 * 1024
}
