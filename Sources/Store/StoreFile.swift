// A store's file read page by page, without LMDB: that trusts what it reads, and a file that was cut short or has a damaged
// page would end the program. Here every number is held against where it may point. It need not know what the tables mean.
//
// A file is pages of one size. Pages 0 and 1 tell where the trees of the last two commits begin; the newer counts. A page
// begins with its number, a word of padding and kind, and where its free room begins and ends; then come the places of its
// entries. Numbers are little-endian, those of pages and counts of the machine's word size (mdb.c, "MDB_page").

import CLMDB
import CPlatform
import Formats
import Platform

/// A store's file, open to be looked at. Nothing is written, and nobody's lock is asked for: whoever looks at the store of a
/// running agent holds a snapshot of it meanwhile, so that no page that this shows is used again.
///
/// One table is looked at at a time: `begin`, and `next` from entry to entry. What is wrong ends the look, and is in `fault`.
public final class StoreFile {
    private static let word = MemoryLayout<Int>.size
    private static let head = word + 8
    private static let treeBytes = 8 + 5 * word
    private static let firstTree = head + 8 + 2 * word
    private static let metaBytes = firstTree + 2 * treeBytes + 2 * word
    private static let magic: UInt32 = 0xBEEF_C0DE

    private let file: Descriptor
    private var pageBytes = 0
    /// The newer of the two pages that tell where trees begin: of the free pages, and of the tables' names.
    private var meta: [UInt8] = []
    /// Pages that are in use or free, and pages that the file has.
    public private(set) var pageCount: UInt64 = 0
    private var there: UInt64 = 0
    /// What was found to be wrong first.
    public private(set) var fault: StoreError?

    // The look that is under way: the pages from the root down, and where in each the next entry's place is.
    private var pages: [[UInt8]] = []
    private var offsets: [Int] = []
    private var depth = 0
    /// How many levels of the tree are looked at.
    private var levels = 0
    private var isOrdered = true
    private var expected: UInt64 = 0
    private var entries: UInt64 = 0
    private var visited: UInt64 = 0
    /// The entry that `next` came to.
    public private(set) var key: [UInt8] = []
    private var isTree = false
    /// The page that its value begins in, whose number that is, and where in it: a large one goes on in the pages behind it.
    private var valuePage: [UInt8] = []
    private var valuePageNumber: UInt64 = 0
    private var valueStart = 0
    private var valueBytes = 0

    /// Opens a file and reads where its trees begin.
    /// - Throws: `.damaged` when it is no store of a device of this kind.
    public init(_ path: String) throws(StoreError) {
        do throws(SystemError) { file = try Files.open(path) } catch { throw StoreError(error) }
        readMeta(at: 0)
        if fault == nil {
            pageBytes = Int(StoreFile.half(meta, StoreFile.firstTree))
            if pageBytes < 512 || pageBytes > 65_536 || pageBytes & (pageBytes - 1) != 0 { noteDamage() }
            if fault == nil { readMeta(at: pageBytes) }
        }
        if let fault { throw fault }
        pageCount = StoreFile.number(meta, StoreFile.metaBytes - 2 * StoreFile.word) &+ 1
        // More than any device has, and little enough to reckon with.
        if pageCount > 1 << 40 { throw .damaged("it was cut short") }
        there = UInt64(max(0, cp_file_size(file.raw))) / UInt64(pageBytes)
    }

    private func readMeta(at offset: Int) {
        guard let bytes = read(at: UInt64(offset), StoreFile.metaBytes) else { return }
        let (word, head) = (StoreFile.word, StoreFile.head)
        // A device of the other word size has written it: that is no damage.
        if StoreFile.half(bytes, 28 - head) == StoreFile.magic {
            fault = StoreError("open", MDB_VERSION_MISMATCH)
            return
        }
        // The mark of such a page, LMDB's magic number, and the version of its format.
        if place(bytes, word + 2) & 8 == 0 || StoreFile.half(bytes, head) != StoreFile.magic
            || StoreFile.half(bytes, head + 4) != 1
        {
            return noteDamage()
        }
        let commit = StoreFile.metaBytes - word
        if meta.isEmpty || StoreFile.number(bytes, commit) > StoreFile.number(meta, commit) { meta = bytes }
    }

    @inline(never)
    private static func number(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
        word == 8 ? UInt64(littleEndianAt: offset, of: bytes.span) : UInt64(half(bytes, offset))
    }

    @inline(never)
    private static func half(_ bytes: [UInt8], _ offset: Int) -> UInt32 { UInt32(littleEndianAt: offset, of: bytes.span) }

    @inline(never)
    private func place(_ page: [UInt8], _ offset: Int) -> Int { Int(UInt16(littleEndianAt: offset, of: page.span)) }

    @inline(never)
    private func noteDamage() {
        if fault == nil { fault = .damaged("its pages do not fit together") }
    }

    @inline(never)
    private func read(at offset: UInt64, _ count: Int) -> [UInt8]? {
        do throws(SystemError) {
            let bytes = try Files.read(file, from: Int64(clamping: offset), count)
            if bytes.count == count { return bytes }
            fault = .damaged("it was cut short")
        } catch {
            fault = StoreError(error)
        }
        return nil
    }

    /// Whether pages at the end are not there. They may be such as nothing leads to.
    public var isShort: Bool { there < pageCount }

    /// Bytes of its pages, and of those that are free.
    public var bytes: Int64 { Int64(clamping: pageCount) * Int64(pageBytes) }
    public func freeBytes() throws(StoreError) -> Int64 {
        begin(meta, at: StoreFile.firstTree)
        isOrdered = false
        var pages: UInt64 = 0
        while next() {
            // Of what may be megabytes of numbers, only how many there are.
            let count = valueBytes < StoreFile.word ? 0 : StoreFile.number(valuePage, valueStart)
            if count > pageCount { noteDamage() } else { pages += count }
            if pages > pageCount { noteDamage() }
        }
        if let fault { throw fault }
        return Int64(pages) * Int64(pageBytes)
    }

    /// Holds the pages against each other.
    /// - Parameter isDeep: all of them. Else the names of the tables and the first page of each: what is cheap at every start.
    /// - Returns: entries of all tables.
    /// - Throws: `.damaged` for the first page that is not as it must be.
    @discardableResult
    public func check(isDeep: Bool) throws(StoreError) -> UInt64 {
        var all: UInt64 = 0
        for tree in trees(nil) {
            begin(tree, at: 0)
            if !isDeep { levels = 1 }
            while next() {}
            if isDeep, entries != expected { noteDamage() }
            all &+= entries
        }
        if isDeep { _ = try freeBytes() }
        if let fault { throw fault }
        return all
    }

    /// The value of a key in a table; nil: there is none.
    public func value(of name: [UInt8], in table: StaticString) throws(StoreError) -> [UInt8]? {
        begin(table)
        while next() {
            let key = key
            if !equal(key.span, name.span) { continue }
            let value = value
            if fault == nil { return value }
        }
        if let fault { throw fault }
        return nil
    }

    /// Begins a look at a table. One that is not there has no entries.
    @inline(never)
    public func begin(_ table: StaticString) {
        let trees = trees(table)
        pages = []
        offsets = []
        if let tree = trees.first { begin(tree, at: 0) }
    }

    /// Where the trees of the tables begin, or that of one.
    @inline(never)
    private func trees(_ table: StaticString?) -> [[UInt8]] {
        var trees: [[UInt8]] = []
        begin(meta, at: StoreFile.firstTree + StoreFile.treeBytes)
        while next() {
            if !isTree || valueBytes != StoreFile.treeBytes { noteDamage() }
            let key = key
            if let table, !equal(key.span, table.bytes) { continue }
            trees.append(value)
        }
        return trees
    }

    // MARK: Pages

    /// Begins with a tree, of which there are 8 bytes and five words: padding, flags, depth; pages of three kinds, entries, root.
    @inline(never)
    private func begin(_ tree: [UInt8], at offset: Int) {
        pages = []
        offsets = []
        key = []
        levels = .max
        isOrdered = true
        entries = 0
        visited = 0
        if fault != nil { return }
        depth = place(tree, offset + 6)
        expected = StoreFile.number(tree, offset + 8 + 3 * StoreFile.word)
        if expected == 0 { return }
        // LMDB knows no deeper ones.
        if depth == 0 || depth > 32 { return noteDamage() }
        descend(to: StoreFile.number(tree, offset + 8 + 4 * StoreFile.word))
    }

    private func page(_ number: UInt64) -> [UInt8]? {
        if number > 1, number < pageCount, number < there {
            guard let bytes = read(at: number * UInt64(pageBytes), pageBytes) else { return nil }
            if StoreFile.number(bytes, 0) == number { return bytes }
        }
        noteDamage()
        return nil
    }

    @inline(never)
    private func descend(to number: UInt64) {
        guard let page = page(number) else { return }
        visited += 1
        let (lower, upper) = (place(page, StoreFile.word + 4), place(page, StoreFile.word + 6))
        pages.append(page)
        offsets.append(StoreFile.head)
        // Which leaves are all on one level; and no page is met twice.
        if place(page, StoreFile.word + 2) != (pages.count == depth ? 2 : 1) || visited > there || lower <= StoreFile.head
            || lower > upper || upper > pageBytes || lower & 1 != StoreFile.head & 1
        {
            noteDamage()
        }
    }

    /// Goes to the next entry.
    /// - Returns: false: that was all, or what is wrong is in `fault`.
    @inline(never)
    public func next() -> Bool {
        while fault == nil, let page = pages.last, let offset = offsets.last {
            if offset >= place(page, StoreFile.word + 4) {
                pages.removeLast()
                offsets.removeLast()
                continue
            }
            offsets[offsets.count - 1] = offset + 2
            let entry = place(page, offset)
            let start = entry + 8
            if entry < place(page, StoreFile.word + 6) || start > pageBytes { break }
            let (flags, end) = (place(page, entry + 4), start + place(page, entry + 6))
            if end > pageBytes { break }
            let low = StoreFile.half(page, entry)
            if pages.count == depth {
                guard take(page, key: start..<end, valueBytes: low, flags) else { break }
                return true
            }
            if pages.count < levels { descend(to: UInt64(low) | (StoreFile.word == 8 ? UInt64(flags) << 32 : 0)) }
        }
        if !pages.isEmpty { noteDamage() }
        return false
    }

    private func take(_ page: [UInt8], key range: Range<Int>, valueBytes count: UInt32, _ flags: Int) -> Bool {
        let key = [UInt8](copying: page.span.extracting(range))
        if isOrdered, entries > 0, !isAbove(key, self.key) { return false }
        self.key = key
        entries += 1
        isTree = flags & 3 == 2
        valuePage = page
        valueStart = range.upperBound
        if flags & 1 != 0 {
            // A value that is too large for a page has pages of its own.
            if valueStart + StoreFile.word > pageBytes { return false }
            let number = StoreFile.number(page, valueStart)
            guard let first = self.page(number) else { return false }
            let pages = UInt64(StoreFile.half(first, StoreFile.word + 4))
            if place(first, StoreFile.word + 2) != 4 || number &+ pages > there || count > UInt32(Int32.max)
                || UInt64(count) + UInt64(StoreFile.head) > pages * UInt64(pageBytes)
            {
                return false
            }
            valuePage = first
            valuePageNumber = number
            valueStart = StoreFile.head
        } else if count > UInt32(pageBytes - valueStart) {
            return false
        }
        valueBytes = Int(count)
        return true
    }

    /// The value of the entry that `next` came to; empty, with the reason in `fault`, where it cannot be read.
    public var value: [UInt8] {
        @inline(never) get {
            let end = valueStart + valueBytes
            if end <= valuePage.count { return Array(valuePage[valueStart..<end]) }
            // No value of a store's own is larger: whoever says so has no memory to be filled with it.
            if valueBytes > Limits.largestValueBytes { noteDamage() }
            if fault != nil { return [] }
            return read(at: valuePageNumber * UInt64(pageBytes) + UInt64(valueStart), valueBytes) ?? []
        }
    }

    /// LMDB's order: byte by byte, and what goes on comes later.
    private func isAbove(_ key: [UInt8], _ other: [UInt8]) -> Bool {
        for index in 0..<min(key.count, other.count) where key[index] != other[index] { return key[index] > other[index] }
        return key.count > other.count
    }
}
