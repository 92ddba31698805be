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
/// One table is looked at at a time: `begin`, and `next` from entry to entry. What is wrong is in `fault`, and ends the look
/// where `goesOn` does not say otherwise.
public final class StoreFile {
    private static let word = MemoryLayout<Int>.size
    private static let head = word + 8
    private static let treeBytes = 8 + 5 * word
    private static let firstTree = head + 8 + 2 * word
    private static let metaBytes = firstTree + 2 * treeBytes + 2 * word
    private static let magic: UInt32 = 0xBEEF_C0DE
    /// The names of the tables (`Tables`), each between two spaces.
    static let names: StaticString = """
         meta identifiers profiles damaged links edges parts visits consent consent_parts log urgent stretches cursors \
        messages message_order accounts quarantine arrivals devices changes audit suppressed erasures timers pending \

        """

    private let file: Descriptor
    private var pageBytes = 0
    /// The newer of the two pages that tell where trees begin: of the free pages, and of the tables' names.
    private var meta: [UInt8] = []
    /// Pages that are in use or free, and pages that the file has.
    public private(set) var pageCount: UInt64 = 0
    private var there: UInt64 = 0
    /// What was found to be wrong first.
    public private(set) var fault: StoreError?
    /// Whether what is wrong is passed over: for whoever looks for what can still be read.
    public var goesOn = false
    /// A bit for each page, in a look at all of them: no two places lead to the same one.
    private var seen: [UInt8] = []

    // The look that is under way: the pages from the root down, and where in each the next entry's place is.
    private var pages: [[UInt8]] = []
    private var offsets: [Int] = []
    private var depth = 0
    /// How many levels of the tree are looked at.
    private var levels = 0
    /// The flags of the tree, and those that each of its entries has: 8 says that keys are numbers, 2 that values are trees.
    private var treeFlags = 0
    private var entryFlags = 0
    private var expected: UInt64 = 0
    private var entries: UInt64 = 0
    private var visited: UInt64 = 0
    /// The entry that `next` came to.
    public private(set) var key: [UInt8] = []
    /// The key is none of an entry, but of a page that leads to more: the next one may be equal to it.
    private var isBound = false
    /// The page that its value begins in, whose number that is, and where in it: a large one goes on in the pages behind it.
    private var valuePage: [UInt8] = []
    private var valuePageNumber: UInt64 = 0
    private var valueStart = 0
    private var valueBytes = 0

    /// Opens a file and reads where its trees begin.
    /// - Throws: `.damaged` when it is no store of a device of this kind. What else is wrong at its beginning is in `fault`.
    public init(_ path: String) throws(StoreError) {
        do throws(SystemError) { file = try Files.open(path) } catch { throw StoreError(error) }
        // Of a store that is in use the pages change while they are read; but not so soon again.
        for _ in 0..<3 {
            fault = nil
            meta = []
            readMetas()
            if fault == nil { break }
        }
        if meta.isEmpty, let fault { throw fault }
        there = min(pageCount, UInt64(max(0, cp_file_size(file.raw))) / UInt64(pageBytes))
    }

    private func readMetas() {
        // Where the second one is the first one tells; without that it is where nearly all devices have it.
        guard let first = readMeta(at: 0) ?? readMeta(at: 4096) else { return }
        pageBytes = Int(truncatingIfNeeded: StoreFile.half(first, StoreFile.firstTree))
        if pageBytes < 512 || pageBytes > 65_536 || pageBytes & (pageBytes - 1) != 0 { return noteDamage() }
        // With one that is damaged the other still leads to what was there before the last commit, for whoever goes on.
        let second = readMeta(at: pageBytes) ?? first
        // Commits are written to one and the other in turn; there is none yet where both say 0.
        let commit = StoreFile.metaBytes - StoreFile.word
        let (even, odd) = (StoreFile.number(first, commit), StoreFile.number(second, commit))
        if even & 1 != 0 || (even &+ 1 != odd && odd &+ 1 != even && even | odd != 0)
            || StoreFile.half(second, StoreFile.firstTree) != UInt32(pageBytes)
        {
            noteDamage()
        }
        meta = even > odd ? first : second
        pageCount = StoreFile.number(meta, commit - StoreFile.word) &+ 1
        if pageCount < 2 || pageCount > UInt64(Limits.maximumMapBytes) / UInt64(pageBytes) { noteDamage() }
    }

    private func readMeta(at offset: Int) -> [UInt8]? {
        guard let bytes = read(at: UInt64(offset), StoreFile.metaBytes) else { return nil }
        let (word, head) = (StoreFile.word, StoreFile.head)
        // A device of the other word size has written it: that is no damage.
        if StoreFile.half(bytes, 28 - head) == StoreFile.magic {
            fault = StoreError("open", MDB_VERSION_MISMATCH)
            return nil
        }
        // The mark of such a page, LMDB's magic number, and the version of its format.
        if place(bytes, word + 2) & 8 == 0 || StoreFile.half(bytes, head) != StoreFile.magic
            || StoreFile.half(bytes, head + 4) != 1
        {
            noteDamage()
            return nil
        }
        return bytes
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
        var pages: UInt64 = 0
        while next() {
            // How many there are, and their numbers, the highest first.
            let count: UInt64 = valueBytes < StoreFile.word ? .max : StoreFile.number(valuePage, valueStart)
            if count >= UInt64(valueBytes / StoreFile.word) {
                noteDamage()
                break
            }
            pages += count
            var (page, place, behind, last) = (valuePage, valueStart, valuePageNumber, pageCount)
            for _ in 0..<count {
                place += StoreFile.word
                if place >= pageBytes {
                    behind += 1
                    guard let more = read(at: behind * UInt64(pageBytes), pageBytes) else { break }
                    (page, place) = (more, 0)
                }
                let number = StoreFile.number(page, place)
                if number < 2 || number >= last {
                    noteDamage()
                    break
                }
                mark(number)
                last = number
            }
        }
        if pages > pageCount { noteDamage() }
        if let fault { throw fault }
        return Int64(pages) * Int64(pageBytes)
    }

    /// Holds the pages against each other.
    /// - Parameters:
    ///   - isDeep: all of them. Else the names of the tables and the first page of each: what is cheap at every start.
    ///   - withRows: each row is held against its checksum, too.
    /// - Returns: entries of all tables.
    /// - Throws: `.damaged` for the first page that is not as it must be.
    @discardableResult
    public func check(isDeep: Bool, withRows: Bool = false) throws(StoreError) -> UInt64 {
        var all: UInt64 = 0
        var damaged: UInt64 = 0
        if pageCount - there > UInt64(Limits.mostUnwrittenBytes) / UInt64(pageBytes) { noteDamage() }
        if isDeep {
            try checkForm()
            seen = [UInt8](repeating: 0, count: Int(there / 8) + 1)
        }
        for tree in trees(nil) {
            begin(tree, at: 0)
            if isDeep {
                // So much is reckoned with.
                for kind in 0..<3 where StoreFile.number(tree, 8 + kind * StoreFile.word) > pageCount { noteDamage() }
            } else {
                levels = 1
            }
            while next() {
                if withRows, !isRowWhole { damaged += 1 }
            }
            all &+= entries
        }
        if isDeep {
            _ = try freeBytes()
        } else {
            begin(meta, at: StoreFile.firstTree)
            levels = 1
            while next() {}
        }
        seen = []
        if let fault { throw fault }
        if damaged > 0 { throw .damaged("a row fails its checksum") }
        return all
    }

    /// Rows of an earlier version have no checksums: none of `meta` fits.
    @inline(never)
    private func checkForm() throws(StoreError) {
        var (rows, whole) = (0, 0)
        begin("meta")
        while next(), whole == 0 {
            rows += 1
            if isRowWhole { whole += 1 }
        }
        if whole == 0, rows > 1, fault == nil { throw StoreError("open", MDB_VERSION_MISMATCH) }
    }

    /// The value of a key in a table; nil: there is none.
    public func value(of name: [UInt8], in table: StaticString) throws(StoreError) -> [UInt8]? {
        begin(table)
        while next() {
            let key = key
            if !equal(key.span, name.span) { continue }
            let row = row
            if mayGoOn, row.count == valueBytes { return [UInt8](row.dropLast(Row.sumBytes)) }
        }
        if let fault, !goesOn { throw fault }
        return nil
    }

    /// Begins a look at a table.
    /// - Returns: false when it is not there; then it has no entries.
    @inline(never)
    @discardableResult
    public func begin(_ table: StaticString) -> Bool {
        let trees = trees(table)
        pages = []
        offsets = []
        guard let tree = trees.first else { return false }
        begin(tree, at: 0)
        return true
    }

    /// Where the trees of the tables begin, or that of one.
    @inline(never)
    private func trees(_ table: StaticString?) -> [[UInt8]] {
        var trees: [[UInt8]] = []
        var (known, isStrange) = (1, false)
        begin(meta, at: StoreFile.firstTree + StoreFile.treeBytes)
        while next() {
            let key = key
            if valueBytes != StoreFile.treeBytes {
                noteDamage()
                continue
            }
            if let table, !equal(key.span, table.bytes) { continue }
            trees.append(row)
            if StoreFile.isKnown([0x20] + key + [0x20]) { known += key.count + 1 } else { isStrange = true }
        }
        // A name that has changed would be made anew, with nothing in it. Another version may know fewer or more.
        if table == nil, isStrange, known < StoreFile.names.utf8CodeUnitCount { noteDamage() }
        return trees
    }

    private static func isKnown(_ name: [UInt8]) -> Bool {
        let names = names.bytes
        var start = 0
        while start + name.count <= names.count {
            if equal(names.extracting(start..<start + name.count), name.span) { return true }
            start += 1
        }
        return false
    }

    // MARK: Pages

    /// Begins with a tree, of which there are 8 bytes and five words: padding, flags, depth; pages of three kinds, entries, root.
    /// - Parameter offset: where in the page that tells of it; 0 for a table's.
    @inline(never)
    private func begin(_ tree: [UInt8], at offset: Int) {
        pages = []
        offsets = []
        key = []
        isBound = false
        levels = .max
        treeFlags = offset == StoreFile.firstTree ? 8 : 0
        entryFlags = offset > StoreFile.firstTree ? 2 : 0
        entries = 0
        visited = 0
        if !mayGoOn { return }
        depth = place(tree, offset + 6)
        expected = StoreFile.number(tree, offset + 8 + 3 * StoreFile.word)
        let root = StoreFile.number(tree, offset + 8 + 4 * StoreFile.word)
        if place(tree, offset + 4) != treeFlags { noteDamage() }
        if expected == 0, depth == 0, root == UInt64(UInt.max) { return }
        // LMDB knows no deeper ones.
        if expected == 0 || depth > 32 { noteDamage() }
        descend(to: root)
    }

    private var mayGoOn: Bool { fault == nil || goesOn }

    /// Holds a page against those that were seen.
    @inline(never)
    private func mark(_ number: UInt64) {
        if number >> 3 >= UInt64(seen.count) { return }
        let (index, bit) = (Int(number >> 3), UInt8(1) << UInt8(number & 7))
        if seen[index] & bit != 0 { noteDamage() }
        seen[index] |= bit
    }

    private func page(_ number: UInt64) -> [UInt8]? {
        if number > 1, number < there {
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
        mark(number)
        let (lower, upper) = (place(page, StoreFile.word + 4), place(page, StoreFile.word + 6))
        // Which leaves are all on one level; and no page is met twice.
        if place(page, StoreFile.word + 2) != (pages.count + 1 == depth ? 2 : 1) || visited > there
            || lower <= StoreFile.head || lower > upper || upper > pageBytes || lower & 1 != StoreFile.head & 1
        {
            return noteDamage()
        }
        pages.append(page)
        offsets.append(StoreFile.head)
    }

    /// Goes to the next entry.
    /// - Returns: false: that was all, or what is wrong is in `fault`.
    @inline(never)
    public func next() -> Bool {
        while mayGoOn, let page = pages.last, let offset = offsets.last {
            if offset >= place(page, StoreFile.word + 4) {
                pages.removeLast()
                offsets.removeLast()
                continue
            }
            offsets[offsets.count - 1] = offset + 2
            let entry = place(page, offset)
            let start = entry + 8
            let end = start > pageBytes ? start : start + place(page, entry + 6)
            if entry < place(page, StoreFile.word + 6) || end > pageBytes {
                noteDamage()
                continue
            }
            let (low, flags) = (StoreFile.half(page, entry), place(page, entry + 4))
            if pages.count == depth {
                come(to: page, start..<end)
                entries += 1
                if !take(page, end, valueBytes: low, flags) { noteDamage() } else if mayGoOn { return true }
                continue
            }
            // All that the first one leads to lies below the second.
            if offset > StoreFile.head {
                come(to: page, start..<end)
                isBound = true
            }
            if pages.count < levels { descend(to: UInt64(low) | (StoreFile.word == 8 ? UInt64(flags) << 32 : 0)) }
        }
        if levels >= depth, entries != expected { noteDamage() }
        return false
    }

    /// Holds a key against the one before.
    @inline(never)
    private func come(to page: [UInt8], _ range: Range<Int>) {
        var key = [UInt8](copying: page.span.extracting(range))
        if treeFlags != 0 {
            if key.count != StoreFile.word { noteDamage() }
            key.reverse()
        }
        if isBound ? isAbove(self.key, key) : !isAbove(key, self.key) { noteDamage() }
        self.key = key
        isBound = false
    }

    private func take(_ page: [UInt8], _ start: Int, valueBytes count: UInt32, _ flags: Int) -> Bool {
        if flags != entryFlags, flags | entryFlags != 1 { return false }
        valuePage = page
        valueStart = start
        if flags & 1 != 0 {
            // A value that is too large for a page has pages of its own.
            if valueStart + StoreFile.word > pageBytes { return false }
            let number = StoreFile.number(page, valueStart)
            guard let first = self.page(number) else { return false }
            let pages = UInt64(StoreFile.half(first, StoreFile.word + 4))
            if place(first, StoreFile.word + 2) != 4 || number + pages > there || count > UInt32(Int32.max)
                || UInt64(count) + UInt64(StoreFile.head) > pages * UInt64(pageBytes)
            {
                return false
            }
            for page in number..<number + pages { mark(page) }
            valuePage = first
            valuePageNumber = number
            valueStart = StoreFile.head
        } else if count > UInt32(pageBytes - valueStart) {
            return false
        }
        valueBytes = Int(count)
        return true
    }

    /// Whether the row that `next` came to is as it was written.
    public var isRowWhole: Bool {
        @inline(never) get {
            let (key, row) = (key, row)
            return Row.isWhole(key.span, row.span)
        }
    }

    /// Its value; empty, with the reason in `fault`, where it cannot be read.
    public var value: [UInt8] { [UInt8](row.dropLast(Row.sumBytes)) }

    /// The same with its checksum; of the table of tables, which is LMDB's own, all that there is.
    private var row: [UInt8] {
        @inline(never) get {
            let end = valueStart + valueBytes
            if end <= valuePage.count { return Array(valuePage[valueStart..<end]) }
            // No value of a store's own is larger: whoever says so has no memory to be filled with it.
            if valueBytes > Limits.largestValueBytes {
                noteDamage()
                return []
            }
            return read(at: valuePageNumber * UInt64(pageBytes) + UInt64(valueStart), valueBytes) ?? []
        }
    }

    /// LMDB's order: byte by byte, and what goes on comes later.
    private func isAbove(_ key: [UInt8], _ other: [UInt8]) -> Bool {
        for index in 0..<min(key.count, other.count) where key[index] != other[index] { return key[index] > other[index] }
        return key.count > other.count
    }
}
