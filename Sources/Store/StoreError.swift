// What the store can refuse.

import CLMDB
import Platform

public enum StoreError: Error, Equatable {
    /// The map (`limits.disk`) or the file system has no room left.
    case full
    /// Another process has this store open for writing.
    case inUse(path: String)
    /// The files are not a store of ours, or are damaged; the words are LMDB's.
    case damaged(String)
    /// A record failed its checksum or is malformed: which table.
    case badRecord(StaticString)
    /// Anything else of LMDB or the operating system.
    case failed(StaticString, code: Int32)

    init(_ operation: StaticString, _ code: Int32) {
        switch code {
        case MDB_MAP_FULL, SystemError.noSpace: self = .full
        case MDB_CORRUPTED, MDB_INVALID, MDB_VERSION_MISMATCH, MDB_PAGE_NOTFOUND, MDB_PANIC:
            self = .damaged(StoreError.text(code))
        default: self = .failed(operation, code: code)
        }
    }

    static func text(_ code: Int32) -> String {
        // mdb_strerror returns a string that lives at least until the next call in this thread; it is copied at once.
        String(cString: mdb_strerror(code))
    }

    /// One sentence for a person: what is wrong and what to do.
    public var message: String {
        switch self {
        case .full: "the store is full: raise limits.disk or free space on its file system"
        case .inUse(let path): "another gatehouse is using \(path): stop it, or choose another data folder"
        case .damaged(let words): "the store's file is damaged (\(words)): restore a backup, or move the folder away"
        case .badRecord(let table): "a record of table \(table) fails its checksum and is not used"
        case .failed(let operation, let code): "\(operation): \(StoreError.text(code))"
        }
    }

    public static func == (a: StoreError, b: StoreError) -> Bool {
        switch (a, b) {
        case (.full, .full): true
        case (.inUse(let x), .inUse(let y)): x == y
        case (.damaged(let x), .damaged(let y)): x == y
        case (.badRecord, .badRecord): true
        case (.failed(_, let x), .failed(_, let y)): x == y
        default: false
        }
    }
}
