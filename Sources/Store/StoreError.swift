// What the store can refuse.

import CLMDB
import CPlatform
import Platform

public enum StoreError: Error, Equatable {
    /// The map (`limits.disk`) or the file system has no room left.
    case full
    /// Another process has this store open for writing.
    case inUse
    /// The files are not a store of ours, or are damaged; the words say by what that was seen.
    case damaged(Words)
    /// A record failed its checksum or is malformed: which table.
    case badRecord(Words)
    /// Anything else of LMDB or the operating system.
    case failed(Words, code: Int32)

    @inline(never)
    init(_ operation: Words, _ code: Int32) {
        switch code {
        case MDB_MAP_FULL, SystemError.noSpace: self = .full
        // MDB_PANIC is none: see `endsWriting`.
        case MDB_INVALID: self = .damaged("it is no store")
        case MDB_VERSION_MISMATCH:
            self = .failed("another kind of device, or an earlier version, has written the store: move the folder away", code: code)
        // MDB_KEYEXIST: what is appended finds a later key, since a disk that lied has lost what counts them. MDB_BAD_TXN is no
        // damage: it is what comes after another failure in the same transaction, as after a full disk.
        case MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_INCOMPATIBLE, MDB_KEYEXIST: self = .damaged("its pages do not fit together")
        // What is asked of a table is right: it is a table of another kind.
        case EINVAL where !StoreError.isOfSystem(operation): self = .damaged("a table is of another kind")
        default: self = .failed(operation, code: code)
        }
    }

    /// Whether a call hands on what the system says to it, as of the file that it opens, maps or writes.
    private static func isOfSystem(_ operation: Words) -> Bool {
        let name = [UInt8](operation.text.utf8)
        return name.count < 5 || name[4] == UInt8(ascii: "e") || name[4] == UInt8(ascii: "t")
    }

    @inline(never)
    public init(_ error: SystemError) { self = .failed(error.operation, code: error.code) }

    /// Nothing is written any more until the store is opened anew: the disk did not take where the trees begin. What was
    /// committed before can be read.
    public var endsWriting: Bool {
        if case .failed(_, code: MDB_PANIC) = self { return true }
        return false
    }

    static func text(_ code: Int32) -> String {
        // mdb_strerror returns a string that lives at least until the next call in this thread; it is copied at once.
        String(cString: mdb_strerror(code))
    }

    /// One sentence for a person: what is wrong and what to do.
    public var message: String {
        @inline(never) get {
            switch self {
            case .full: "the store is full: raise limits.disk or free space on its file system"
            case .inUse: "another gatehouse is using it: stop it, or choose another data folder"
            case .damaged(let words):
                joined("the store's file is damaged (", words.text, "): start the agent, which mends it, or restore a backup")
            case .badRecord(let table):
                joined("a record of table ", table.text, " fails its checksum and is not used")
            case .failed(let operation, let code): joined(operation.text, ": ", StoreError.text(code))
            }
        }
    }

    public static func == (a: StoreError, b: StoreError) -> Bool {
        switch (a, b) {
        case (.full, .full): true
        case (.inUse, .inUse): true
        case (.damaged, .damaged): true
        case (.badRecord, .badRecord): true
        case (.failed(_, let x), .failed(_, let y)): x == y
        default: false
        }
    }
}
