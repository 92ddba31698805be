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

/// One tree of the file.
private struct Tree {
    let depth: Int
    let entries: UInt64
    let root: UInt64

    /// Reads 8 bytes and five words: padding, flags, depth; pages of three kinds, entries, root.
    init(_ bytes: Span<UInt8>, at offset: Int) {
        depth = Int(UInt16(littleEndianAt: offset + 6, of: bytes))
        entries = StoreFile.number(bytes, offset + 8 + 3 * StoreFile.word)
        root = StoreFile.number(bytes, offset + 8 + 4 * StoreFile.word)
    }

    var isEmpty: Bool { entries == 0 }
}

/// A store's file, open to be looked at. Nothing is written, and nobody's lock is asked for: whoever looks at the store of a
/// running agent holds a snapshot of it meanwhile, so that no page that this shows is used again.
public struct StoreFile: ~Copyable {
    fileprivate static let word = MemoryLayout<Int>.size
    private static let head = word + 8
    private static let treeBytes = 8 + 5 * word
    private static let firstTree = head + 8 + 2 * word
    private static let metaBytes = firstTree + 2 * treeBytes + 2 * word

    private let file: Descriptor
    private let pageBytes: Int
    /// Pages that are in use or free, and pages that the file has.
    public let pageCount: UInt64
    private let there: UInt64
    private let free: Tree
    private let names: Tree

    /// Opens a file and reads where its trees begin.
    /// - Throws: `.damaged` when it is no store of a device of this kind.
    public init(_ path: String) throws(StoreError) {
        let file: Descriptor
        do throws(SystemError) { file = try Files.open(path) } catch { throw .failed(error.operation, code: error.code) }
        var newest = try StoreFile.meta(file, at: 0)
        let size = Int(UInt32(littleEndianAt: StoreFile.firstTree, of: newest.span))
        guard size >= 512, size <= 65_536, size & (size - 1) == 0 else { throw StoreFile.damage }
        let second = try StoreFile.meta(file, at: Int64(size))
        let place = StoreFile.metaBytes - StoreFile.word
        if StoreFile.number(second.span, place) > StoreFile.number(newest.span, place) { newest = second }
        pageBytes = size
        pageCount = StoreFile.number(newest.span, place - StoreFile.word) &+ 1
        there = UInt64(max(0, cp_file_size(file.raw))) / UInt64(size)
        free = Tree(newest.span, at: StoreFile.firstTree)
        names = Tree(newest.span, at: StoreFile.firstTree + StoreFile.treeBytes)
        self.file = file
    }

    private static let magic: UInt32 = 0xBEEF_C0DE

    private static var damage: StoreError { .damaged("its pages do not fit together") }

    private static func meta(_ file: borrowing Descriptor, at offset: Int64) throws(StoreError) -> [UInt8] {
        let bytes = try read(file, at: offset, metaBytes)
        // A device of the other word size has written it: that is no damage.
        if UInt32(littleEndianAt: 28 - head, of: bytes.span) == magic { throw .failed("open", code: MDB_VERSION_MISMATCH) }
        // The mark of such a page, LMDB's magic number, and the version of its format.
        guard UInt16(littleEndianAt: word + 2, of: bytes.span) & 8 != 0,
            UInt32(littleEndianAt: head, of: bytes.span) == magic, UInt32(littleEndianAt: head + 4, of: bytes.span) == 1
        else { throw damage }
        return bytes
    }

    fileprivate static func number(_ bytes: Span<UInt8>, _ offset: Int) -> UInt64 {
        word == 8 ? UInt64(littleEndianAt: offset, of: bytes) : UInt64(UInt32(littleEndianAt: offset, of: bytes))
    }

    private static func read(_ file: borrowing Descriptor, at offset: Int64, _ count: Int) throws(StoreError) -> [UInt8] {
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try Files.read(file, from: offset, count) } catch {
            throw .failed(error.operation, code: error.code)
        }
        guard bytes.count == count else { throw .damaged("it was cut short") }
        return bytes
    }

    /// Whether pages at the end are not there. They may be such as nothing leads to.
    public var isShort: Bool { there < pageCount }

    /// Bytes of its pages, and of those that are free.
    public var bytes: Int64 { Int64(clamping: pageCount) * Int64(pageBytes) }
    public borrowing func freeBytes() throws(StoreError) -> Int64 {
        var pages: UInt64 = 0
        var walk = Walk(levels: .max, isOrdered: false)
        try follow(free, &walk) { _, value, _ in
            if value.count >= StoreFile.word { pages &+= StoreFile.number(value, 0) }
            return true
        }
        return Int64(clamping: pages) * Int64(pageBytes)
    }

    /// Holds the pages against each other.
    /// - Parameter isDeep: all of them. Else the names of the tables and the first page of each: what is cheap at every start.
    /// - Returns: entries of all tables.
    /// - Throws: `.damaged` for the first page that is not as it must be.
    @discardableResult
    public borrowing func check(isDeep: Bool) throws(StoreError) -> UInt64 {
        var trees: [Tree] = []
        try followNames { _, tree in trees.append(tree) }
        var entries: UInt64 = 0
        for tree in trees {
            var walk = Walk(levels: isDeep ? .max : 1)
            try follow(tree, &walk) { _, _, _ in true }
            if isDeep, walk.entries != tree.entries { throw StoreFile.damage }
            entries &+= walk.entries
        }
        if isDeep { _ = try freeBytes() }
        return entries
    }

    /// Calls `body` with each key and value of a table, in order, until it returns false.
    public borrowing func forEach(
        _ table: StaticString, _ body: (Span<UInt8>, Span<UInt8>) -> Bool
    ) throws(StoreError) {
        var found: Tree?
        try followNames { name, tree in if equal(name, table.bytes) { found = tree } }
        guard let found else { return }
        var walk = Walk(levels: .max)
        try follow(found, &walk) { key, value, _ in body(key, value) }
    }

    private borrowing func followNames(_ body: (Span<UInt8>, Tree) -> Void) throws(StoreError) {
        var walk = Walk(levels: .max)
        var isWhole = true
        try follow(names, &walk) { name, value, isTree in
            if isTree, value.count == StoreFile.treeBytes { body(name, Tree(value, at: 0)) } else { isWhole = false }
            return true
        }
        if !isWhole { throw StoreFile.damage }
    }

    // MARK: Pages

    /// How far a look at a tree has come.
    private struct Walk {
        /// How many levels of the tree are looked at.
        let levels: Int
        var isOrdered = true
        var entries: UInt64 = 0
        var pages: UInt64 = 0
        /// The key before, which each must be above.
        var previous: [UInt8] = []
        var isOver = false
    }

    private borrowing func follow(
        _ tree: Tree, _ walk: inout Walk, _ body: (Span<UInt8>, Span<UInt8>, Bool) -> Bool
    ) throws(StoreError) {
        if tree.isEmpty { return }
        // LMDB knows no deeper ones.
        guard tree.depth > 0, tree.depth <= 32 else { throw StoreFile.damage }
        try follow(tree.root, depth: tree.depth, level: 1, &walk, body)
    }

    private borrowing func follow(
        _ number: UInt64, depth: Int, level: Int, _ walk: inout Walk, _ body: (Span<UInt8>, Span<UInt8>, Bool) -> Bool
    ) throws(StoreError) {
        let bytes = try page(number)
        let page = bytes.span
        walk.pages += 1
        let (lower, upper) = (place(page, StoreFile.word + 4), place(page, StoreFile.word + 6))
        // Which leaves are all on one level; and no page is met twice.
        guard place(page, StoreFile.word + 2) == (depth == 1 ? 2 : 1), walk.pages <= there, lower > StoreFile.head,
            lower <= upper, upper <= pageBytes, lower & 1 == StoreFile.head & 1
        else { throw StoreFile.damage }
        var offset = StoreFile.head
        while offset < lower, !walk.isOver {
            let entry = place(page, offset)
            guard entry >= upper, entry + 8 <= pageBytes else { throw StoreFile.damage }
            let key = entry + 8
            let (flags, keyBytes) = (place(page, entry + 4), place(page, entry + 6))
            let low = UInt32(littleEndianAt: entry, of: page)
            guard key + keyBytes <= pageBytes else { throw StoreFile.damage }
            if depth > 1 {
                let next = UInt64(low) | (StoreFile.word == 8 ? UInt64(flags) << 32 : 0)
                if level < walk.levels { try follow(next, depth: depth - 1, level: level + 1, &walk, body) }
            } else {
                try visit(page, key: key..<key + keyBytes, valueBytes: low, flags, &walk, body)
            }
            offset += 2
        }
    }

    private borrowing func visit(
        _ page: Span<UInt8>, key range: Range<Int>, valueBytes: UInt32, _ flags: Int, _ walk: inout Walk,
        _ body: (Span<UInt8>, Span<UInt8>, Bool) -> Bool
    ) throws(StoreError) {
        let key = page.extracting(range)
        if walk.isOrdered {
            guard walk.entries == 0 || isAbove(key, walk.previous.span) else { throw StoreFile.damage }
            walk.previous.removeAll(keepingCapacity: true)
            walk.previous.append(contentsOf: key)
        }
        walk.entries += 1
        if flags & 1 != 0 {
            // A value that is too large for a page has pages of its own.
            guard range.upperBound + StoreFile.word <= pageBytes else { throw StoreFile.damage }
            let value = try largeValue(StoreFile.number(page, range.upperBound), valueBytes)
            walk.isOver = !body(key, value.span, false)
        } else {
            guard valueBytes <= UInt32(pageBytes - range.upperBound) else { throw StoreFile.damage }
            let value = page.extracting(range.upperBound..<range.upperBound + Int(valueBytes))
            walk.isOver = !body(key, value, flags & 2 != 0)
        }
    }

    private borrowing func largeValue(_ number: UInt64, _ count: UInt32) throws(StoreError) -> [UInt8] {
        let first = try page(number)
        let pages = UInt64(UInt32(littleEndianAt: StoreFile.word + 4, of: first.span))
        guard place(first.span, StoreFile.word + 2) == 4, number &+ pages <= there,
            UInt64(count) + UInt64(StoreFile.head) <= pages * UInt64(pageBytes)
        else { throw StoreFile.damage }
        return try StoreFile.read(file, at: Int64(number) * Int64(pageBytes) + Int64(StoreFile.head), Int(count))
    }

    private borrowing func page(_ number: UInt64) throws(StoreError) -> [UInt8] {
        guard number > 1, number < pageCount, number < there else { throw StoreFile.damage }
        let bytes = try StoreFile.read(file, at: Int64(number) * Int64(pageBytes), pageBytes)
        if StoreFile.number(bytes.span, 0) != number { throw StoreFile.damage }
        return bytes
    }

    private func place(_ page: Span<UInt8>, _ offset: Int) -> Int { Int(UInt16(littleEndianAt: offset, of: page)) }

    /// LMDB's order: byte by byte, and what goes on comes later.
    private func isAbove(_ key: Span<UInt8>, _ other: Span<UInt8>) -> Bool {
        for index in 0..<min(key.count, other.count) where key[index] != other[index] { return key[index] > other[index] }
        return key.count > other.count
    }
}
