// The LMDB environment and its transactions. What is read lies in the memory map and cannot outlive its transaction,
// because its span borrows the transaction. All of LMDB's calls are in this file.

import CLMDB
import CPlatform
import Formats
import Platform
import Synchronization

/// One table of the environment.
public struct Table: Sendable {
    let handle: MDB_dbi
    let name: StaticString
    /// What counts of a row that is not as it was written.
    var ofDamage = OfDamage.value

    enum OfDamage {
        /// Its value, which has a checksum of its own; or it is left to whoever looks at all rows.
        case value
        /// For readers, nothing: it is not there.
        case nothing
        /// For readers who look it up, nothing; whoever goes through keys has it.
        case keyForWalks
        /// Its key: the value is empty.
        case key
    }
}

/// Holds a data folder for this process, as long as it lives: what it finds there nobody else changes, and no other opens the
/// store for writing.
public final class StoreLock: @unchecked Sendable {
    private let held: Descriptor

    /// Makes the folder if it is not there.
    /// - Throws: `.inUse` when somebody has it.
    public init(_ folder: String) throws(StoreError) {
        let file: Descriptor?
        do throws(SystemError) {
            try Files.makeDirectory(folder)
            file = try Files.lockFile(joined(folder, "/gatehouse.lock"))
        } catch {
            throw StoreError(error)
        }
        guard let file else { throw .inUse }
        held = file
    }
}

/// An open store: one memory-mapped file, many readers, one writer.
///
/// A commit is durable when `commit()` returns: LMDB writes the pages, syncs, writes the root page, syncs.
public final class Database: @unchecked Sendable {
    // Made in `init`, closed in `deinit`; LMDB's environment may be used from any thread.
    private let environment: OpaquePointer
    public let tables: Tables
    public let path: String
    private let lock: StoreLock?
    private let consentCommits = Atomic<UInt64>(0)

    /// Another after each commit that has changed somebody's choices or their place, erasures included. What was read before
    /// may say of somebody what is not so any more.
    public var consentRevision: UInt64 { consentCommits.load(ordering: .acquiring) }

    private let damage = Atomic<Bool>(false)

    /// Whether somebody who reads has met pages that do not fit together.
    public var isDamaged: Bool { damage.load(ordering: .relaxed) }

    /// Takes note of what somebody who reads has met.
    @inline(never)
    fileprivate func noting(_ error: StoreError) -> StoreError {
        if case .damaged = error { damage.store(true, ordering: .relaxed) }
        return error
    }

    /// Opens the store in a folder, which is made if it is not there.
    /// - Parameter mapBytes: the most that the data file may grow to.
    /// - Parameter synchronous: false only for stores that may be lost (simulation): no sync at commit.
    /// - Parameter lock: the folder's, where it is held already.
    /// - Throws: `.inUse` when another process writes it, `.damaged` when it is not a store.
    public init(
        folder: String, mapBytes: Int64 = Limits.defaultMapBytes, synchronous: Bool = true, lock held: StoreLock? = nil
    ) throws(StoreError) {
        path = folder
        if let held { lock = held } else { lock = try StoreLock(folder) }
        // What a compaction left when the power failed.
        Database.remove(joined(folder, "/compact"))
        // LMDB's locks are memory that a file has no blocks for yet: on a full disk the first touch would end the program.
        let locks = joined(folder, "/lock.mdb")
        if !Files.exists(locks) {
            let none = [UInt8](repeating: 0, count: Limits.lockBytes)
            do throws(SystemError) { try Files.make(locks, with: none.span) } catch {
                throw StoreError(error.operation, error.code)
            }
        }
        var made: OpaquePointer?
        var code = mdb_env_create(&made)
        guard code == 0, let environment = made else { throw StoreError("mdb_env_create", code) }
        self.environment = environment
        mdb_env_set_maxdbs(environment, Limits.tables)
        mdb_env_set_maxreaders(environment, Limits.readers)
        code = mdb_env_set_mapsize(environment, Int(clamping: min(mapBytes, Limits.maximumMapBytes)))
        if code == 0 {
            var flags = UInt32(MDB_NOTLS) | UInt32(MDB_NORDAHEAD)
            if !synchronous { flags |= UInt32(MDB_NOSYNC) }
            code = folder.withCString { mdb_env_open(environment, $0, flags, 0o600) }
        }
        if code == 0 {
            var dead: Int32 = 0
            code = mdb_reader_check(environment, &dead)
        }
        guard code == 0 else {
            mdb_env_close(environment)
            throw StoreError("mdb_env_open", code)
        }
        switch Database.openTables(environment) {
        case .success(let opened): tables = opened
        case .failure(let error):
            mdb_env_close(environment)
            throw error
        }
    }

    deinit { mdb_env_close(environment) }

    /// Whether another process writes the store of a folder, or nobody could.
    @inline(never)
    public static func isInUse(_ folder: String) -> Bool {
        do throws(StoreError) {
            _ = try StoreLock(folder)
            return false
        } catch {
            return true
        }
    }

    private static func openTables(_ environment: OpaquePointer, flags: UInt32 = 0) -> Result<Tables, StoreError> {
        var transaction: OpaquePointer?
        var code = mdb_txn_begin(environment, nil, flags, &transaction)
        guard code == 0 else { return .failure(StoreError("mdb_txn_begin", code)) }
        let tables = Tables { name in
            var handle: MDB_dbi = 0
            // A StaticString literal ends with a NUL byte.
            let result = name.utf8Start.withMemoryRebound(to: CChar.self, capacity: name.utf8CodeUnitCount + 1) {
                mdb_dbi_open(transaction, $0, flags == 0 ? UInt32(MDB_CREATE) : 0, &handle)
            }
            if result != 0 { code = result }
            return Table(handle: handle, name: name)
        }
        if code == 0, let transaction { code = form(of: tables.meta, transaction) }
        if code != 0 {
            mdb_txn_abort(transaction)
            return .failure(StoreError("mdb_dbi_open", code))
        }
        code = mdb_txn_commit(transaction)
        return code == 0 ? .success(tables) : .failure(StoreError("mdb_txn_commit", code))
    }

    /// Whether rows have checksums here: in a store of an earlier version none fits.
    private static func form(of meta: Table, _ transaction: OpaquePointer) -> Int32 {
        var (rows, whole) = (0, 0)
        do throws(StoreError) {
            try walk(transaction, meta, Span(), .rows) { key, row in
                rows += 1
                if Row.isWhole(key, row) { whole += 1 }
                return whole == 0
            }
        } catch { return MDB_CORRUPTED }
        return whole == 0 && rows > 1 ? MDB_VERSION_MISMATCH : 0
    }

    /// A reader for one thread, reused for every look at the store.
    public func makeReader() throws(StoreError) -> Reader {
        var transaction: OpaquePointer?
        let code = mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &transaction)
        guard code == 0, let transaction else { throw StoreError("mdb_txn_begin", code) }
        mdb_txn_reset(transaction)
        return Reader(transaction: transaction, database: self)
    }

    /// Opens a store that may be in use, to look at it: nothing is written or made.
    public init(reading folder: String) throws(StoreError) {
        path = folder
        lock = nil
        var made: OpaquePointer?
        var code = mdb_env_create(&made)
        guard code == 0, let environment = made else { throw StoreError("mdb_env_create", code) }
        self.environment = environment
        mdb_env_set_maxdbs(environment, Limits.tables)
        mdb_env_set_maxreaders(environment, Limits.readers)
        let flags = UInt32(MDB_NOTLS) | UInt32(MDB_NORDAHEAD) | UInt32(MDB_RDONLY)
        code = folder.withCString { mdb_env_open(environment, $0, flags, 0o600) }
        guard code == 0 else {
            mdb_env_close(environment)
            throw StoreError("mdb_env_open", code)
        }
        // Reading past the end of a file that was cut would end the program.
        var information = MDB_envinfo()
        mdb_env_info(environment, &information)
        if Files.size(folder + "/data.mdb") ?? 0 < Int64(information.me_last_pgno + 1) * 4096 {
            mdb_env_close(environment)
            throw .damaged("it was cut short")
        }
        switch Database.openTables(environment, flags: UInt32(MDB_RDONLY)) {
        case .success(let opened): tables = opened
        case .failure(let error):
            mdb_env_close(environment)
            throw error
        }
    }

    /// LMDB leaves pages unwritten that a transaction has taken and then not used, and a file may end before its last page
    /// so. It is made longer at once, so that one that is too short is one that was cut. Within a transaction, in which
    /// nobody else makes it longer; and after a power cut it may be short all the same: then it is looked at.
    @inline(never)
    fileprivate func fillUp() {
        var file: mdb_filehandle_t = -1
        mdb_env_get_fd(environment, &file)
        if !isShort(file) { return }
        var transaction: OpaquePointer?
        if mdb_txn_begin(environment, nil, 0, &transaction) != 0 { return }
        if isShort(file) { _ = ftruncate(file, off_t(usedBytes)) }
        mdb_txn_abort(transaction)
    }

    /// Whether pages at the file's end are not there: by more than a transaction leaves, its last page's number is damaged.
    private func isShort(_ file: mdb_filehandle_t) -> Bool {
        let missing = usedBytes - cp_file_size(file)
        return missing > 0 && missing <= Limits.mostUnwrittenBytes
    }

    fileprivate func noteConsent() { consentCommits.wrappingAdd(1, ordering: .releasing) }

    /// Begins the one writing transaction; waits for another one to end. The calling thread must finish it.
    public func beginWrite() throws(StoreError) -> WriteTransaction {
        var transaction: OpaquePointer?
        let code = mdb_txn_begin(environment, nil, 0, &transaction)
        guard code == 0, let transaction else { throw StoreError("mdb_txn_begin", code) }
        return WriteTransaction(transaction: transaction, database: self)
    }

    /// Gives back the memory that writing has left.
    public func rest() {
        guard let transaction = try? beginWrite() else { return }
        mdb_env_rest(environment)
        _ = consume transaction
    }

    /// Writes the store anew, entry by entry, and puts the new file in the place of the old one: what was deleted or
    /// overwritten is in it no longer. (LMDB's own compacting copy takes pages as they are, with what is left over
    /// between and behind the entries.)
    ///
    /// A power cut leaves either file, whole.
    /// - Returns: the file's bytes before and after.
    /// - Parameter lock: the folder's, which is held until after that.
    public static func compact(folder: String, _ lock: StoreLock) throws(StoreError) -> (before: Int64, after: Int64) {
        let fresh = joined(folder, "/compact")
        let file = joined(folder, "/data.mdb")
        let before = Files.size(file) ?? 0
        _ = try Database(folder: folder, lock: lock).copy(into: fresh, mark: nil, nil)
        try put(fresh, at: file)
        // Whoever looks on at the former file has that of readers, too.
        Files.remove(joined(folder, "/lock.mdb"))
        return (before, Files.size(file) ?? 0)
    }

    /// Writes what the newest commit shows into one file, sealed (see `Snapshot`). Others may write the store meanwhile; until
    /// it is done no page that it can see is used again.
    /// - Parameters:
    ///   - path: the file. Until it is whole it lies in a folder beside it.
    ///   - time: when, milliseconds since the epoch.
    ///   - mayGoOn: asked after each part, and before the file comes into its place; nil: nothing speaks against it.
    /// - Returns: false when that said no; there is no file then.
    @inline(never)
    public func snapshot(to path: String, at time: Int64, mayGoOn: (() -> Bool)?) throws(StoreError) -> Bool {
        let fresh = joined(path, ".new")
        defer { Database.remove(fresh) }
        guard try copy(into: fresh, mark: time, mayGoOn) else { return false }
        try Snapshot.seal(joined(fresh, "/data.mdb"), at: time)
        if let mayGoOn, !mayGoOn() { return false }
        try Database.put(fresh, at: path)
        return true
    }

    @inline(never)
    private static func put(_ folder: String, at path: String) throws(StoreError) {
        do throws(SystemError) { try Files.move(joined(folder, "/data.mdb"), over: path) } catch { throw StoreError(error) }
        remove(folder)
    }

    /// Removes a store that is not open, with its folder.
    @inline(never)
    public static func remove(_ folder: String) {
        Files.remove(joined(folder, "/data.mdb"))
        Files.remove(joined(folder, "/lock.mdb"))
        Files.remove(joined(folder, "/gatehouse.lock"))
        Files.removeDirectory(folder)
    }

    /// Copies every table as one snapshot shows them into a new store; see `snapshot`.
    /// - Parameter mark: when given, the copy says that it is a snapshot of that time.
    @inline(never)
    private func copy(into fresh: String, mark: Int64?, _ mayGoOn: (() -> Bool)?) throws(StoreError) -> Bool {
        Database.remove(fresh)
        let target = try Database(folder: fresh, mapBytes: usedBytes / 4 * 5 + 1 << 20, synchronous: false)
        var reader = try makeReader()
        try reader.begin()
        var commits = 0
        for (from, to) in zip(tables.all, target.tables.all) {
            var next: [UInt8]? = []
            while let start = next {
                next = try Database.copy(reader, from, start, target, to)
                // A little at a time: all of it at once would keep the disk from others for seconds.
                commits += 1
                if commits % Limits.copiedCommitsPerSync == 0 { try target.synchronize() }
                if let mayGoOn, !mayGoOn() { return false }
            }
        }
        reader.end()
        if let mark {
            var transaction = try target.beginWrite()
            let name = Snapshot.mark
            try transaction.put(target.tables.meta, name.span, NumberKey(UInt64(mark)).bytes.span)
            try transaction.commit()
        }
        try target.synchronize()
        return true
    }

    @inline(never)
    private func synchronize() throws(StoreError) {
        let code = mdb_env_sync(environment, 1)
        if code != 0 { throw StoreError("mdb_env_sync", code) }
    }

    /// Copies what one transaction takes.
    /// - Returns: the key to go on with; nil: that was all.
    private static func copy(
        _ reader: borrowing Reader, _ from: Table, _ start: [UInt8], _ target: Database, _ to: Table
    ) throws(StoreError) -> [UInt8]? {
        var next: [UInt8]?
        var transaction = try target.beginWrite()
        var failure: StoreError?
        try reader.scan(from, from: start.span, .rows) { key, row in
            if transaction.changedPages >= Limits.copiedPagesPerCommit {
                next = [UInt8](copying: key)
                return false
            }
            let end = row.count - Row.sumBytes
            let sum = UInt32(littleEndianAt: end, of: row)
            let code = transaction.set(to, key, row.extracting(0..<end), MDB_APPEND, sum: sum)
            if code != 0 { failure = StoreError("mdb_put", code) }
            return code == 0
        }
        if let failure { throw failure }
        try transaction.commit()
        return next
    }

    /// Forgets readers whose process has ended: what they saw would never be used again.
    public func forgetDeadReaders() {
        var dead: Int32 = 0
        mdb_reader_check(environment, &dead)
    }

    /// Gives the map's pages back that this process has looked at: they stay in the kernel's cache as long as it likes, and
    /// whoever looks again finds the same bytes there. Readers and the writer need not know: no address changes, and since
    /// the map is shared and read only (no `MDB_WRITEMAP`), no page of it holds anything that is not in the file.
    public func releasePages() throws(StoreError) {
        guard let map = try mapStart() else { return }
        if cp_give_back(map, Int(mapBytes)) != 0 { throw .failed("madvise", code: cp_errno()) }
    }

    /// Where the map begins, which LMDB tells only of maps at a fixed address. nil: its pages are not as they were.
    private func mapStart() throws(StoreError) -> UnsafeMutableRawPointer? {
        var information = MDB_envinfo()
        var status = MDB_stat()
        mdb_env_info(environment, &information)
        mdb_env_stat(environment, &status)
        let pageBytes = Int(status.ms_psize)
        guard pageBytes == Process.pageBytes else { return nil }
        var transaction: OpaquePointer?
        var code = mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &transaction)
        guard code == 0, let transaction else { throw StoreError("mdb_txn_begin", code) }
        defer { mdb_txn_abort(transaction) }
        var cursor: OpaquePointer?
        // Table 1 has the names of the others. A name lies in a page of the map, and a page begins with its number.
        code = mdb_cursor_open(transaction, 1, &cursor)
        if code != 0 { throw StoreError("mdb_cursor_open", code) }
        defer { mdb_cursor_close(cursor) }
        var name = MDB_val()
        var value = MDB_val()
        code = mdb_cursor_get(cursor, &name, &value, MDB_FIRST)
        if code != 0 { throw StoreError("mdb_cursor_get", code) }
        guard let page = UnsafeMutableRawPointer(bitPattern: Int(bitPattern: name.mv_data) & -pageBytes) else { return nil }
        let number = page.load(as: Int.self)
        if number < 0 || number > information.me_last_pgno { return nil }
        let map = page - number * pageBytes
        // After the header of page 0: what LMDB writes at the head of every file.
        return map.load(fromByteOffset: MemoryLayout<Int>.size + 8, as: UInt32.self) == 0xBEEF_C0DE ? map : nil
    }

    /// How much of the map is in use, in bytes; pages freed but not yet reused count as used.
    public var usedBytes: Int64 {
        @inline(never) get {
            var information = MDB_envinfo()
            mdb_env_info(environment, &information)
            return Int64(information.me_last_pgno + 1) * pageBytes
        }
    }

    /// Bytes of a page.
    public var pageBytes: Int64 {
        @inline(never) get {
            var status = MDB_stat()
            mdb_env_stat(environment, &status)
            return Int64(status.ms_psize)
        }
    }

    /// How many pages the next writing transaction can take before the map is full, counted no further than `enough`: those
    /// that were never used, and those that earlier transactions have freed. What the last commit has freed is not among
    /// them: LMDB gives it out one commit later.
    public func freePages(atMost enough: Int) throws(StoreError) -> Int {
        var information = MDB_envinfo()
        var status = MDB_stat()
        mdb_env_info(environment, &information)
        mdb_env_stat(environment, &status)
        var free = max(0, information.me_mapsize / Int(status.ms_psize) - information.me_last_pgno - 1)
        if free >= enough { return enough }
        var transaction: OpaquePointer?
        var code = mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &transaction)
        guard code == 0, let transaction else { throw StoreError("mdb_txn_begin", code) }
        defer { mdb_txn_abort(transaction) }
        var cursor: OpaquePointer?
        // The list of free pages is the table 0: number of the freeing transaction → count of pages, their numbers.
        code = mdb_cursor_open(transaction, 0, &cursor)
        if code != 0 { throw StoreError("mdb_cursor_open", code) }
        defer { mdb_cursor_close(cursor) }
        var name = MDB_val()
        var value = MDB_val()
        code = mdb_cursor_get(cursor, &name, &value, MDB_FIRST)
        while code == 0, free < enough {
            // Both are words of the machine's size at any alignment, as mdb_stat(1) reads them.
            let freedBy = name.mv_data.loadUnaligned(as: Int.self)
            if freedBy >= information.me_last_txnid { break }
            free += value.mv_data.loadUnaligned(as: Int.self)
            code = mdb_cursor_get(cursor, &name, &value, MDB_NEXT)
        }
        return min(free, enough)
    }

    /// Makes holes in the file where pages are free: the file system has their room again, and what was left in them is gone.
    /// LMDB never reads a free page before it has written it anew. The file keeps its length.
    /// - Parameter mayGoOn: asked after each part, which keeps the writer waiting for some milliseconds at most.
    /// - Returns: whether the file system can do that.
    @inline(never)
    public func punchFreePages(mayGoOn: () -> Bool) throws(StoreError) -> Bool {
        var next = 0
        var isAll = false
        repeat {
            do throws(StoreError) { isAll = try punch(from: &next) } catch {
                if case .failed(_, EOPNOTSUPP) = error { return false }
                throw error
            }
        } while !isAll && mayGoOn()
        return true
    }

    /// - Parameter next: how many free pages come before those that this part begins with.
    /// - Returns: whether there are no more of them.
    private func punch(from next: inout Int) throws(StoreError) -> Bool {
        // Nobody takes a free page while this transaction lasts; it changes nothing. LMDB shows their list to readers only.
        var writing: OpaquePointer?
        var code = mdb_txn_begin(environment, nil, 0, &writing)
        guard code == 0, let writing else { throw StoreError("mdb_txn_begin", code) }
        defer { mdb_txn_abort(writing) }
        var transaction: OpaquePointer?
        code = mdb_txn_begin(environment, nil, UInt32(MDB_RDONLY), &transaction)
        guard code == 0, let transaction else { throw StoreError("mdb_txn_begin", code) }
        defer { mdb_txn_abort(transaction) }
        var cursor: OpaquePointer?
        code = mdb_cursor_open(transaction, 0, &cursor)
        if code != 0 { throw StoreError("mdb_cursor_open", code) }
        defer { mdb_cursor_close(cursor) }
        var file: mdb_filehandle_t = -1
        mdb_env_get_fd(environment, &file)
        // What the last commit has freed the one before it still leads to; and what a reader's commit and later ones have freed
        // that reader may see. The transaction above is one, of the last commit.
        let oldest = oldestReader
        let pageBytes = pageBytes
        var (name, value) = (MDB_val(), MDB_val())
        var (position, holes) = (0, 0)
        let begin = cp_monotonic_nanoseconds()
        code = mdb_cursor_get(cursor, &name, &value, MDB_FIRST)
        while code == 0, name.mv_data.loadUnaligned(as: UInt.self) < oldest {
            let numbers = UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size)
            func number(_ index: Int) -> Int { numbers.loadUnaligned(fromByteOffset: index * MemoryLayout<Int>.size, as: Int.self) }
            // How many there are, and their numbers, the highest first: LMDB takes them from the end.
            let count = number(0)
            var index = count - max(0, next - position)
            while index > 0 {
                let first = number(index)
                var pages = 1
                while index > pages, pages < Limits.pagesPerHole, number(index - pages) == first + pages { pages += 1 }
                if cp_punch(file, Int64(first) * pageBytes, Int64(pages) * pageBytes) != 0 {
                    throw .failed("fallocate", code: cp_errno())
                }
                index -= pages
                holes += 1
                if holes == Limits.holesPerPart || cp_monotonic_nanoseconds() - begin > Limits.partNanoseconds {
                    next = position + count - index
                    return false
                }
            }
            position += count
            code = mdb_cursor_get(cursor, &name, &value, MDB_NEXT)
        }
        return true
    }

    /// The number of the oldest commit that somebody reads; 0 where nobody does.
    private var oldestReader: UInt {
        var oldest = UInt.max
        withUnsafeMutablePointer(to: &oldest) { oldest in
            // A line for each: process, thread, and the number, or a dash for one that does not read now.
            _ = mdb_reader_list(
                environment,
                { line, oldest in
                    guard let line, let oldest else { return 0 }
                    var end = strlen(line)
                    var (number, unit): (UInt, UInt) = (0, 1)
                    while end > 0 {
                        end -= 1
                        if line[end] == 0x0A { continue }
                        if line[end] < 0x30 || line[end] > 0x39 { break }
                        number &+= UInt(line[end] - 0x30) &* unit
                        unit &*= 10
                    }
                    let least = oldest.assumingMemoryBound(to: UInt.self)
                    if unit > 1 { least.pointee = min(least.pointee, number) }
                    return 0
                }, oldest)
        }
        return oldest == .max ? 0 : oldest
    }

    /// Whether the file has holes. What is written there takes room of the file system's.
    public var hasHoles: Bool { diskBytes < usedBytes - Limits.hardlyHoleBytes }

    /// How much of the disk the file takes, in bytes.
    public var diskBytes: Int64 {
        @inline(never) get {
            var file: mdb_filehandle_t = -1
            mdb_env_get_fd(environment, &file)
            return cp_disk_bytes(file)
        }
    }

    /// The map's size in bytes.
    public var mapBytes: Int64 {
        var information = MDB_envinfo()
        mdb_env_info(environment, &information)
        return Int64(information.me_mapsize)
    }
}

/// A result of a look-up that borrows its transaction.
///
/// LMDB hands out pointers into the memory map; they hold until the transaction ends or, in a writing one, until the
/// next change. Spans made from them borrow the transaction, so the compiler holds that rule.
@inline(never)
private func lookUp(_ transaction: OpaquePointer, _ table: Table, _ key: Span<UInt8>, _ value: inout MDB_val) -> Int32 {
    let code = key.withUnsafeBytes { bytes in
        var name = MDB_val(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
        return mdb_get(transaction, table.handle, &name, &value)
    }
    if code != 0 { return code }
    if value.mv_size < Row.sumBytes { return MDB_CORRUPTED }
    value.mv_size -= Row.sumBytes
    if case .key = table.ofDamage, !isWhole(key, value) { value.mv_size = 0 }
    return 0
}

/// Whether a row whose value was looked up is as it was written.
@inline(never)
private func isWhole(_ key: Span<UInt8>, _ value: MDB_val) -> Bool {
    let row = Span<UInt8>(
        _unsafeStart: UnsafePointer(value.mv_data.assumingMemoryBound(to: UInt8.self)), count: value.mv_size + Row.sumBytes)
    return Row.isWhole(key, row)
}

private func tableBytes(_ transaction: OpaquePointer, _ table: Table) -> Int64 {
    var status = MDB_stat()
    mdb_stat(transaction, table.handle, &status)
    return Int64(status.ms_branch_pages + status.ms_leaf_pages + status.ms_overflow_pages) * Int64(status.ms_psize)
}

private func hasEntry(_ transaction: OpaquePointer, _ table: Table, _ profile: ProfileID) -> Bool {
    var value = MDB_val()
    let key = profile.bytes
    return lookUp(transaction, table, key.span, &value) != MDB_NOTFOUND
}

/// A cached read-only transaction. `begin` takes a snapshot of the newest commit, `end` lets it go; never hold one
/// across a wait: pages that it can see cannot be reused.
public struct Reader: ~Copyable, @unchecked Sendable {
    private let transaction: OpaquePointer
    /// Keeps the environment open as long as the reader lives.
    private let database: Database
    private var isActive = false
    /// It looks through a writing transaction, which is not its to end.
    private let isWindow: Bool

    init(transaction: OpaquePointer, database: Database, isWindow: Bool = false) {
        self.transaction = transaction
        self.database = database
        self.isWindow = isWindow
        isActive = isWindow
    }

    deinit { if !isWindow { mdb_txn_abort(transaction) } }

    public var tables: Tables { database.tables }

    /// Number of the commit that the snapshot shows; they go up by one.
    public var number: UInt64 { UInt64(mdb_txn_id(transaction)) }

    /// Takes a snapshot; call `end` after the look-ups.
    public mutating func begin() throws(StoreError) {
        if isActive { return }
        let code = mdb_txn_renew(transaction)
        if code != 0 { throw StoreError("mdb_txn_renew", code) }
        isActive = true
    }

    public mutating func end() {
        if isActive { mdb_txn_reset(transaction) }
        isActive = false
    }

    /// The value under a key in this snapshot.
    @_lifetime(borrow self)
    public borrowing func get(_ table: Table, _ key: Span<UInt8>) throws(StoreError) -> Span<UInt8>? {
        precondition(isActive)
        var value = MDB_val()
        let code = lookUp(transaction, table, key, &value)
        if code == MDB_NOTFOUND { return nil }
        if code != 0 { throw database.noting(StoreError("mdb_get", code)) }
        switch table.ofDamage {
        case .nothing, .keyForWalks: if !isWhole(key, value) { return nil }
        case .value, .key: break
        }
        let span = Span<UInt8>(
            _unsafeStart: UnsafePointer(value.mv_data.assumingMemoryBound(to: UInt8.self)), count: value.mv_size)
        return _overrideLifetime(span, borrowing: self)
    }

    /// Whether there is a row under a key, and it is as it was written.
    public borrowing func holds(_ table: Table, _ key: Span<UInt8>) -> Bool {
        precondition(isActive)
        var value = MDB_val()
        return lookUp(transaction, table, key, &value) == 0 && isWhole(key, value)
    }

    /// Whether a table has something about a profile; in doubt, yes.
    public borrowing func has(_ table: Table, _ profile: ProfileID) -> Bool {
        precondition(isActive)
        return hasEntry(transaction, table, profile)
    }

    /// Number of entries of a table.
    public borrowing func count(_ table: Table) -> Int64 {
        precondition(isActive)
        var status = MDB_stat()
        mdb_stat(transaction, table.handle, &status)
        return Int64(status.ms_entries)
    }

    /// Bytes of the pages that a table takes.
    public borrowing func bytes(of table: Table) -> Int64 {
        precondition(isActive)
        return tableBytes(transaction, table)
    }

    /// Walks a table in key order from the first key that is not below `start`; `body` returns false to stop. Of tables whose
    /// values have no checksum of their own, rows that are not as they were written are left out.
    public borrowing func scan(
        _ table: Table, from start: Span<UInt8>, _ body: (Span<UInt8>, Span<UInt8>) -> Bool
    ) throws(StoreError) {
        try scan(table, from: start, .whole, body)
    }

    @inline(never)
    fileprivate borrowing func scan(
        _ table: Table, from start: Span<UInt8>, _ which: Walk, _ body: (Span<UInt8>, Span<UInt8>) -> Bool
    ) throws(StoreError) {
        precondition(isActive)
        do throws(StoreError) { try walk(transaction, table, start, which, body) } catch { throw database.noting(error) }
    }
}

/// The one writing transaction. Ends by `commit`, or is undone when it goes out of scope.
public struct WriteTransaction: ~Copyable {
    private var transaction: OpaquePointer?
    private let database: Database
    private var changes = ChangedPages()

    init(transaction: OpaquePointer, database: Database) {
        self.transaction = transaction
        self.database = database
    }

    /// How many pages of 4 KiB this transaction holds in memory until it ends, estimated: keys are taken to fall anywhere.
    public var changedPages: Int { Int(changes.sum) }

    deinit { if let transaction { mdb_txn_abort(transaction) } }

    public var tables: Tables { database.tables }

    /// Number of the commit that this will be.
    public var number: UInt64 { UInt64(mdb_txn_id(transaction!)) }

    /// Lets a function read what this transaction would leave, as if it were a snapshot.
    public borrowing func read<Result>(_ body: (borrowing Reader) -> Result) -> Result {
        // It lives no longer than the call.
        body(Reader(transaction: transaction!, database: database, isWindow: true))
    }

    /// Makes everything durable: when this returns, it is on the disk.
    public consuming func commit() throws(StoreError) {
        let ending = transaction!
        transaction = nil
        let code = mdb_txn_commit(ending)
        if code != 0 { throw StoreError("mdb_txn_commit", code) }
        database.fillUp()
        if changes.haveTouched(database.tables.consent) || changes.haveTouched(database.tables.consentParts) {
            database.noteConsent()
        }
    }

    /// The value under a key, this transaction's own changes included.
    @_lifetime(borrow self)
    public borrowing func get(_ table: Table, _ key: Span<UInt8>) throws(StoreError) -> Span<UInt8>? {
        var value = MDB_val()
        let code = lookUp(transaction!, table, key, &value)
        if code == MDB_NOTFOUND { return nil }
        if code != 0 { throw StoreError("mdb_get", code) }
        let span = Span<UInt8>(
            _unsafeStart: UnsafePointer(value.mv_data.assumingMemoryBound(to: UInt8.self)), count: value.mv_size)
        return _overrideLifetime(span, borrowing: self)
    }

    /// Sets a key's value.
    /// - Parameter appending: the key is above every other of the table (log order): cheaper, and pages fill up.
    @inline(never)
    public mutating func put(
        _ table: Table, _ key: Span<UInt8>, _ value: Span<UInt8>, appending: Bool = false
    ) throws(StoreError) {
        let code = set(table, key, value, appending ? MDB_APPEND : 0)
        if code != 0 { throw StoreError("mdb_put", code) }
    }

    /// Sets a key's value unless the key is there already.
    /// - Returns: whether it was new.
    @inline(never)
    public mutating func insert(_ table: Table, _ key: Span<UInt8>, _ value: Span<UInt8>) throws(StoreError) -> Bool {
        let code = set(table, key, value, MDB_NOOVERWRITE)
        if code == MDB_KEYEXIST { return false }
        if code != 0 { throw StoreError("mdb_put", code) }
        return true
    }

    /// Writes a row.
    /// - Parameter sum: what it was written with elsewhere; damage would get a checksum that fits, if it were made anew.
    @inline(never)
    fileprivate mutating func set(
        _ table: Table, _ key: Span<UInt8>, _ value: Span<UInt8>, _ flags: Int32, sum: UInt32? = nil
    ) -> Int32 {
        let transaction = self.transaction!
        let bytes = value.count + Row.sumBytes
        changes.note(transaction, table, bytes: key.count + bytes, appending: flags == MDB_APPEND)
        var row = MDB_val(mv_size: bytes, mv_data: nil)
        let code = key.withUnsafeBytes { key in
            var name = MDB_val(mv_size: key.count, mv_data: UnsafeMutableRawPointer(mutating: key.baseAddress))
            return mdb_put(transaction, table.handle, &name, &row, UInt32(flags | MDB_RESERVE))
        }
        // LMDB has made room for it in a page of this transaction.
        if code != 0 { return code }
        value.withUnsafeBytes { value in
            if let from = value.baseAddress { row.mv_data.copyMemory(from: from, byteCount: value.count) }
        }
        let sum = sum ?? Row.sum(key, value)
        row.mv_data.storeBytes(of: sum.littleEndian, toByteOffset: value.count, as: UInt32.self)
        return 0
    }

    /// - Returns: whether there was such a key.
    @discardableResult
    public mutating func delete(_ table: Table, _ key: Span<UInt8>) throws(StoreError) -> Bool {
        let transaction = self.transaction!
        changes.note(transaction, table, bytes: 0, appending: false)
        let code = key.withUnsafeBytes { keyBytes in
            var name = MDB_val(mv_size: keyBytes.count, mv_data: UnsafeMutableRawPointer(mutating: keyBytes.baseAddress))
            return mdb_del(transaction, table.handle, &name, nil)
        }
        if code == MDB_NOTFOUND { return false }
        if code != 0 { throw StoreError("mdb_del", code) }
        return true
    }

    /// Whether a table has something about a profile; in doubt, yes.
    public borrowing func has(_ table: Table, _ profile: ProfileID) -> Bool { hasEntry(transaction!, table, profile) }

    public borrowing func count(_ table: Table) -> Int64 {
        var status = MDB_stat()
        mdb_stat(transaction!, table.handle, &status)
        return Int64(status.ms_entries)
    }

    /// Bytes of the pages that a table takes.
    public borrowing func bytes(of table: Table) -> Int64 { tableBytes(transaction!, table) }

    /// Walks a table in key order; see `Reader.scan`. The table must not be changed meanwhile. Rows that are damaged are met as
    /// well: whoever takes away all that there is wants those, too.
    public borrowing func scan(
        _ table: Table, from start: Span<UInt8>, _ body: (Span<UInt8>, Span<UInt8>) -> Bool
    ) throws(StoreError) {
        try walk(transaction!, table, start, .all, body)
    }

    /// Looks at some rows of the store: whether each is as it was written, and is found under its key.
    /// - Parameters:
    ///   - look: where to go on, and then where that was left.
    ///   - bytes: of how many bytes of rows, about.
    /// - Returns: how many are damaged.
    /// - Throws: `.damaged` when a table's rows are not in order, or not as many as it says.
    public borrowing func check(_ look: inout RowCheck, bytes: Int) throws(StoreError) -> UInt64 {
        let table = tables.all[look.table]
        let start = look.next
        if start.isEmpty {
            look.rows = 0
            look.began = number
        }
        var (next, last, rows, damaged, looked): ([UInt8], [UInt8], Int64, UInt64, Int) = ([], start, 0, 0, 0)
        var isInOrder = true
        try walk(transaction!, table, start.span, .rows) { key, row in
            var found = MDB_val()
            let isFound = lookUp(transaction!, table, key, &found) == 0
            // To what is not found nobody comes back for certain: it ends a step only where all is like that.
            if looked >= (isFound ? bytes : 16 * bytes), compare(key, start.span) > 0 {
                next = [UInt8](copying: key)
                return false
            }
            if !isFound || !Row.isWhole(key, row) {
                damaged += 1
            } else {
                // Pages that are gone through twice.
                if rows > 0, compare(key, last.span) <= 0 { isInOrder = false }
                last.removeAll(keepingCapacity: true)
                last.append(contentsOf: key)
            }
            rows += 1
            looked += key.count + row.count + 16
            return isInOrder
        }
        look.rows += rows
        look.next = next
        // What has changed here may not be committed.
        if !next.isEmpty, changes.sum > 0 { look.began = 0 }
        if next.isEmpty {
            // Pages that end before, as they say. Where something was written between the first row and the last one, how many
            // there are is not known.
            let isStill = start.isEmpty || look.began == number && changes.sum == 0
            if isStill, look.rows != count(table) { isInOrder = false }
            look.table = look.table + 1 == tables.all.count ? 0 : look.table + 1
        }
        if !isInOrder { throw StoreError("mdb_cursor_get", MDB_CORRUPTED) }
        return damaged
    }

    /// See `Database.releasePages`: after a look at everything.
    public borrowing func releasePages() { try? database.releasePages() }

    /// The highest key of a table that is a big-endian number; `nil` when the table is empty.
    public borrowing func lastNumber(_ table: Table) throws(StoreError) -> UInt64? { try number(table, MDB_LAST) }

    /// The lowest one.
    public borrowing func firstNumber(_ table: Table) throws(StoreError) -> UInt64? { try number(table, MDB_FIRST) }

    private borrowing func number(_ table: Table, _ place: MDB_cursor_op) throws(StoreError) -> UInt64? {
        var cursor: OpaquePointer?
        var code = mdb_cursor_open(transaction!, table.handle, &cursor)
        if code != 0 { throw StoreError("mdb_cursor_open", code) }
        defer { mdb_cursor_close(cursor) }
        var name = MDB_val()
        var value = MDB_val()
        code = mdb_cursor_get(cursor, &name, &value, place)
        if code == MDB_NOTFOUND { return nil }
        if code != 0 { throw StoreError("mdb_cursor_get", code) }
        let key = Span<UInt8>(
            _unsafeStart: UnsafePointer(name.mv_data.assumingMemoryBound(to: UInt8.self)), count: name.mv_size)
        return NumberKey.decode(key)
    }

    /// Removes up to `atMost` entries whose big-endian number keys are below `bound`.
    /// - Returns: how many.
    public mutating func deleteNumbers(_ table: Table, below bound: UInt64, atMost: Int) throws(StoreError) -> Int {
        var cursor: OpaquePointer?
        var code = mdb_cursor_open(transaction!, table.handle, &cursor)
        if code != 0 { throw StoreError("mdb_cursor_open", code) }
        defer { mdb_cursor_close(cursor) }
        var removed = 0
        while removed < atMost {
            var name = MDB_val()
            var value = MDB_val()
            code = mdb_cursor_get(cursor, &name, &value, MDB_FIRST)
            if code == MDB_NOTFOUND { break }
            if code != 0 { throw StoreError("mdb_cursor_get", code) }
            let key = Span<UInt8>(
                _unsafeStart: UnsafePointer(name.mv_data.assumingMemoryBound(to: UInt8.self)), count: name.mv_size)
            guard let number = NumberKey.decode(key), number < bound else { break }
            code = mdb_cursor_del(cursor, 0)
            if code != 0 { throw StoreError("mdb_cursor_del", code) }
            changes.note(transaction!, table, bytes: 0, appending: true)
            removed += 1
        }
        return removed
    }
}

/// LMDB's order of keys: below 0, `a` comes first; 0, they are equal.
private func compare(_ a: Span<UInt8>, _ b: Span<UInt8>) -> Int {
    for index in 0..<min(a.count, b.count) where a[index] != b[index] { return Int(a[index]) - Int(b[index]) }
    return a.count - b.count
}

/// An estimate of the pages that a transaction has changed: LMDB does not tell.
private struct ChangedPages {
    private(set) var sum = 0.0
    /// Of each table, by its handle: leaf pages, and how many of them have been changed.
    private var tables = InlineArray<32, (leaves: Double, changed: Double)>(repeating: (0, 0))

    /// Whether anything but appending has happened to a table.
    func haveTouched(_ table: Table) -> Bool { tables[Int(table.handle) & 31].leaves != 0 }

    mutating func note(_ transaction: OpaquePointer, _ table: Table, bytes: Int, appending: Bool) {
        var more = Double(bytes + 16) / 4096
        let index = Int(table.handle) & 31
        if !appending {
            if tables[index].leaves == 0 {
                var status = MDB_stat()
                mdb_stat(transaction, table.handle, &status)
                tables[index].leaves = Double(max(1, status.ms_leaf_pages))
            }
            // The chance that a page anywhere is one that has not been changed yet; values of more than a page lie apart.
            // What is new makes pages of its own when those there are full.
            let hit = max(0, 1 - tables[index].changed / tables[index].leaves)
            tables[index].changed += hit
            more = max(more, hit + (bytes > 2000 ? more : 0))
        }
        sum += more
    }
}

/// What a walk through a table shows.
private enum Walk {
    /// Keys and values of all rows.
    case all
    /// Where values have no checksum of their own, of those that are as they were written.
    case whole
    /// Keys and values with their checksums.
    case rows
}

/// Calls `body` with key and value of each row. The compiler makes one of these for each body: what they have in common is
/// `Walker`'s.
private func walk(
    _ transaction: OpaquePointer, _ table: Table, _ start: Span<UInt8>, _ which: Walk,
    _ body: (Span<UInt8>, Span<UInt8>) -> Bool
) throws(StoreError) {
    var walker = Walker(transaction, table, start, which)
    while walker.code == 0 {
        // Both spans point into the map and are used only inside `body`, within the transaction.
        let key = Span<UInt8>(
            _unsafeStart: UnsafePointer(walker.key.mv_data.assumingMemoryBound(to: UInt8.self)), count: walker.key.mv_size)
        let value = Span<UInt8>(
            _unsafeStart: UnsafePointer(walker.value.mv_data.assumingMemoryBound(to: UInt8.self)), count: walker.value.mv_size)
        if !body(key, value) { break }
        walker.next()
    }
    if let error = walker.end() { throw error }
}

/// A cursor, and the row that it is at.
private struct Walker {
    private let table: Table
    private let which: Walk
    private var cursor: OpaquePointer?
    /// What LMDB said last; 0: there is a row.
    private(set) var code: Int32
    private(set) var key = MDB_val()
    private(set) var value = MDB_val()

    /// Begins with the first row whose key is not below `start`.
    @inline(never)
    init(_ transaction: OpaquePointer, _ table: Table, _ start: Span<UInt8>, _ which: Walk) {
        self.table = table
        self.which = which
        code = mdb_cursor_open(transaction, table.handle, &cursor)
        if code != 0 { return }
        if start.isEmpty {
            code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST)
        } else {
            let cursor = cursor
            var (name, found) = (MDB_val(), MDB_val())
            code = start.withUnsafeBytes { bytes in
                name = MDB_val(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
                return mdb_cursor_get(cursor, &name, &found, MDB_SET_RANGE)
            }
            (key, value) = (name, found)
        }
        settle()
    }

    @inline(never)
    mutating func next() {
        code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)
        settle()
    }

    /// Goes on to a row that is to be shown, and leaves of it what is.
    private mutating func settle() {
        while code == 0 {
            if value.mv_size < Row.sumBytes {
                code = MDB_CORRUPTED
                return
            }
            if case .rows = which { return }
            value.mv_size -= Row.sumBytes
            var isEmptied = false
            switch table.ofDamage {
            case .value, .keyForWalks: return
            case .key: isEmptied = true
            case .nothing: if case .all = which { return }
            }
            let name = Span<UInt8>(
                _unsafeStart: UnsafePointer(key.mv_data.assumingMemoryBound(to: UInt8.self)), count: key.mv_size)
            if isWhole(name, value) { return }
            if isEmptied {
                value.mv_size = 0
                return
            }
            code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)
        }
    }

    /// - Returns: why there were no more rows, if it was not because those were all.
    @inline(never)
    mutating func end() -> StoreError? {
        if let cursor { mdb_cursor_close(cursor) } else { return StoreError("mdb_cursor_open", code) }
        return code == 0 || code == MDB_NOTFOUND ? nil : StoreError("mdb_cursor_get", code)
    }
}
