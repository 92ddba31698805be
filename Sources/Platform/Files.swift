// Small files, read and replaced whole.

import CPlatform

public enum Files {
    /// The TZif file of a time zone such as `Europe/Berlin` (the device's tzdata), or nil. Who calls has made sure that
    /// the name cannot leave the folder.
    public static func timeZone(_ name: String) -> [UInt8]? {
        do throws(SystemError) {
            return try read("/usr/share/zoneinfo/" + name, limitBytes: Limits.timeZoneBytes)
        } catch {
            return nil
        }
    }

    /// Reads a whole file.
    /// - Parameter limitBytes: a larger file is refused with EFBIG instead of filling the memory.
    public static func read(_ path: String, limitBytes: Int) throws(SystemError) -> [UInt8] {
        let raw = path.withCString { cp_open($0, O_RDONLY, 0) }
        guard raw >= 0 else { throw SystemError(last: "open") }
        let file = Descriptor(owning: raw)
        var result: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16_384)
        while true {
            let n = try readSome(file.raw, into: &buffer)
            if n == 0 { return result }
            if result.count + n > limitBytes { throw SystemError("read", code: EFBIG) }
            result.append(contentsOf: buffer[0..<n])
        }
    }

    /// Opens a file that is too large to be read whole; `-` is the standard input.
    public static func open(_ path: String) throws(SystemError) -> Descriptor {
        let raw = path == "-" ? dup(0) : path.withCString { cp_open($0, O_RDONLY, 0) }
        guard raw >= 0 else { throw SystemError(last: "open") }
        return Descriptor(owning: raw)
    }

    /// Replaces a file so that after a power cut either the old or the new one is there, whole: temporary file, fsync,
    /// rename, fsync of the folder.
    public static func replace(_ path: String, with bytes: [UInt8], mode: UInt32) throws(SystemError) {
        let temporary = path + ".new"
        let raw = temporary.withCString { cp_open($0, O_WRONLY | O_CREAT | O_TRUNC, mode) }
        guard raw >= 0 else { throw SystemError(last: "open") }
        let file = Descriptor(owning: raw)
        try writeAll(file.raw, bytes.span)
        if fsync(file.raw) != 0 { throw SystemError(last: "fsync") }
        try move(temporary, over: path)
    }

    /// Makes a file that is not there yet, to be written.
    public static func create(_ path: String, mode: UInt32) throws(SystemError) -> Descriptor {
        let raw = path.withCString { cp_open($0, O_WRONLY | O_CREAT | O_EXCL, mode) }
        guard raw >= 0 else { throw SystemError(last: "open") }
        return Descriptor(owning: raw)
    }

    /// Makes a file with something in it; not durable. Where there is no room it is not there.
    @inline(never)
    public static func make(_ path: String, with bytes: Span<UInt8>) throws(SystemError) {
        let file = try create(path, mode: 0o600)
        do throws(SystemError) { try writeAll(file.raw, bytes) } catch {
            remove(path)
            throw error
        }
    }

    /// Makes an empty file that takes so much of the disk. Where it cannot it is not there.
    @inline(never)
    public static func reserve(_ path: String, bytes: Int64) {
        do throws(SystemError) {
            let file = try create(path, mode: 0o600)
            if cp_reserve(file.raw, bytes) != 0 { remove(path) }
        } catch {}
    }

    /// Writes behind the end of a file, and makes all of it durable.
    public static func append(_ bytes: Span<UInt8>, to path: String) throws(SystemError) {
        let raw = path.withCString { cp_open($0, O_WRONLY | O_APPEND, 0) }
        guard raw >= 0 else { throw SystemError(last: "open") }
        let file = Descriptor(owning: raw)
        try writeAll(file.raw, bytes)
        if fsync(file.raw) != 0 { throw SystemError(last: "fsync") }
    }

    /// Reads a part of an open file.
    /// - Returns: fewer bytes than asked for where the file ends.
    public static func read(
        _ file: borrowing Descriptor, from offset: Int64, _ count: Int
    ) throws(SystemError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        // The kernel writes at most `count` bytes into the array's own storage.
        let got = bytes.withUnsafeMutableBytes { pread(file.raw, $0.baseAddress!, count, off_t(offset)) }
        if got < 0 { throw SystemError(last: "pread") }
        bytes.removeLast(count - got)
        return bytes
    }

    /// Puts a file in the place of another; after a power cut either is there, whole. What is in it must be durable.
    @inline(never)
    public static func move(_ path: String, over other: String) throws(SystemError) {
        let renamed = path.withCString { old in other.withCString { new in rename(old, new) } }
        if renamed != 0 { throw SystemError(last: "rename") }
        try synchronizeDirectory(of: other)
    }

    /// Gives a file a second name; where the file system knows no such thing, another name.
    @inline(never)
    public static func link(_ path: String, as other: String) throws(SystemError) {
        let linked = path.withCString { old in other.withCString { new in CPlatform.link(old, new) } }
        if linked != 0 { return try move(path, over: other) }
        try synchronizeDirectory(of: other)
    }

    /// Copies a file, up to its end, and makes the copy durable.
    public static func copy(_ path: String, to other: String, mode: UInt32) throws(SystemError) {
        let source = try open(path)
        let target = try create(other, mode: mode)
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = try readSome(source.raw, into: &buffer)
            if count == 0 { break }
            try writeAll(target.raw, buffer.span.extracting(0..<count))
        }
        if fsync(target.raw) != 0 { throw SystemError(last: "fsync") }
    }

    /// Removes an empty folder.
    public static func removeDirectory(_ path: String) { _ = path.withCString { rmdir($0) } }

    /// Makes the creation or renaming of a file durable.
    @inline(never)
    public static func synchronizeDirectory(of path: String) throws(SystemError) {
        let directory = parent(path)
        let raw = directory.withCString { cp_open($0, O_RDONLY | O_DIRECTORY, 0) }
        guard raw >= 0 else { throw SystemError(last: "open") }
        let file = Descriptor(owning: raw)
        if fsync(file.raw) != 0 { throw SystemError(last: "fsync") }
    }

    /// The folder that a path lies in.
    public static func parent(_ path: String) -> String {
        let bytes = Array(path.utf8)
        guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == 0 ? "/" : String(decoding: bytes[0..<slash], as: UTF8.self)
    }

    /// Makes a folder and the folders above it.
    public static func makeDirectory(_ path: String, mode: UInt32 = 0o700) throws(SystemError) {
        if isFolder(path) { return }
        let above = parent(path)
        if above != path && above != "." && above != "/" { try makeDirectory(above, mode: mode) }
        if path.withCString({ mkdir($0, mode_t(mode)) }) != 0 && cp_errno() != EEXIST { throw SystemError(last: "mkdir") }
    }

    @inline(never)
    public static func isFolder(_ path: String) -> Bool { path.withCString { cp_is_directory($0) } != 0 }

    @inline(never)
    public static func exists(_ path: String) -> Bool { path.withCString { access($0, F_OK) } == 0 }

    /// A file's size in bytes; `nil` when there is none.
    @inline(never)
    public static func size(_ path: String) -> Int64? {
        let size = path.withCString { cp_path_size($0) }
        return size < 0 ? nil : size
    }

    /// A file's permission bits; `nil` when there is none.
    public static func mode(_ path: String) -> UInt32? {
        let mode = path.withCString { cp_path_mode($0) }
        return mode < 0 ? nil : UInt32(mode)
    }

    /// Bytes that the file system under a path still has for us.
    public static func freeBytes(_ path: String) -> Int64? {
        let bytes = path.withCString { cp_free_bytes($0) }
        return bytes < 0 ? nil : bytes
    }

    @inline(never)
    public static func remove(_ path: String) { _ = path.withCString { unlink($0) } }

    /// Takes an exclusive lock on a file that lasts as long as the descriptor; `nil` when another process has it.
    public static func lockFile(_ path: String) throws(SystemError) -> Descriptor? {
        let raw = path.withCString { cp_open($0, O_RDWR | O_CREAT, 0o600) }
        guard raw >= 0 else { throw SystemError(last: "open") }
        let file = Descriptor(owning: raw)
        if flock(file.raw, LOCK_EX | LOCK_NB) != 0 {
            if cp_errno() == EWOULDBLOCK { return nil }
            throw SystemError(last: "flock")
        }
        return file
    }
}

/// The same bytes. What Swift itself compares by knows that letters can be written in several ways, which nothing here depends on,
/// and brings 40 KB of tables.
extension String {
    static func == (left: String, right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }
    static func != (left: String, right: String) -> Bool { !left.utf8.elementsEqual(right.utf8) }
    static func ~= (pattern: String, value: String) -> Bool { pattern.utf8.elementsEqual(value.utf8) }
}
