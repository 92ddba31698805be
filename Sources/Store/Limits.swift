// Every limit of the store, with its unit in its name and its reason beside it.

public enum Limits {
    /// Tables that the environment may hold: the list in `Tables`, with room for what later versions add.
    public static let tables: UInt32 = 32
    /// Reader slots: at most 4 serving threads, a delivery thread for each of 16 destinations, the writer's own, commands
    /// that look at the store from outside, and room for readers that were killed and not yet cleared.
    public static let readers: UInt32 = 126
    /// LMDB's file of locks: 64 bytes a reader and two lines more.
    static let lockBytes = 8192
    /// The memory map's size where the configuration says nothing. A map costs address space, not memory.
    public static let defaultMapBytes: Int64 = MemoryLayout<Int>.size == 8 ? 8 << 30 : 512 << 20
    /// The largest map: 32-bit devices have no more address space to give.
    public static let maximumMapBytes: Int64 = MemoryLayout<Int>.size == 8 ? 1 << 40 : 1 << 30
    /// Pages that one transaction of a copy of the store fills: 256 KiB of memory until they are written.
    public static let copiedPagesPerCommit = 64
    /// And so many transactions of it go to the disk at once: 2 MiB, behind which nobody's commit waits for long.
    static let copiedCommitsPerSync = 8
    /// What a file may lack of its pages: many times what a transaction takes and then does not use.
    static let mostUnwrittenBytes: Int64 = 64 << 20
    /// Holes that are made in the file before the writer has its turn, and for how long, nanoseconds: one hole of a file that
    /// lies in many pieces can take milliseconds.
    static let holesPerPart = 256
    static let partNanoseconds: Int64 = 5_000_000
    /// Pages of one hole.
    static let pagesPerHole = 256
    /// Holes are told by what a file takes of the disk; it may lack so much without any that were made.
    static let hardlyHoleBytes: Int64 = 1 << 20
    /// A value that is read from a store's file without LMDB: several times the largest of those that are looked for there.
    static let largestValueBytes = 1 << 20
    /// Identifiers that one log entry carries: the sixteen that an event may have, each of them under the former pepper too
    /// while a rotation lasts, and the one that it is counted for.
    public static let logEntryIdentifiers = 33
}
