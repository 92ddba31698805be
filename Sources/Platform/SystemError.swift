// What the operating system refused, in a form that a person can act on.

import CPlatform

/// A system call that failed: which one, and the kernel's `errno`.
public struct SystemError: Error, Equatable {
    /// The call, as its manual page is named.
    public let operation: Words
    /// `errno` (errno(3)).
    public let code: Int32

    public init(_ operation: Words, code: Int32) {
        self.operation = operation
        self.code = code
    }

    /// Takes `errno` as the last call left it.
    public init(last operation: Words) { self.init(operation, code: cp_errno()) }

    /// "open: No such file or directory".
    public var message: String {
        @inline(never) get {
            if code == EFBIG { return "the file is larger than it may be; the README says how large under Limits" }
            return joined(operation.text, ": ", SystemError.text(code))
        }
    }

    /// The system's own words for an `errno`.
    @inline(never)
    public static func text(_ code: Int32) -> String {
        // strerror returns a string of the C library's that lives until this thread asks again; it is copied at once.
        guard let words = strerror(code) else { return joined("error ", String(Int(code))) }
        return String(cString: words)
    }

    public static func == (a: SystemError, b: SystemError) -> Bool { a.code == b.code }

    /// There is no such device or file, or not yet.
    public static func isNoDevice(_ code: Int32) -> Bool { code == ENOENT || code == ENODEV || code == ENXIO }

    public static let wouldBlock: Int32 = EAGAIN
    public static let interrupted: Int32 = EINTR
    public static let connectionReset: Int32 = ECONNRESET
    public static let addressInUse: Int32 = EADDRINUSE
    public static let noEntry: Int32 = ENOENT
    public static let alreadyExists: Int32 = EEXIST
    public static let timedOut: Int32 = ETIMEDOUT
    public static let noSpace: Int32 = ENOSPC
}

/// A literal's text in one machine word, for errors: they are handed on from one function to the next all over the house.
@frozen
public struct Words: ExpressibleByStringLiteral, @unchecked Sendable {
    // A literal lies in the program's constant data: it neither moves nor goes away, and ends with a zero byte.
    @usableFromInline let start: UnsafePointer<UInt8>

    @inlinable
    public init(stringLiteral literal: StaticString) { start = unsafe literal.utf8Start }

    public var text: String {
        @inline(never) get { unsafe String(cString: start) }
    }
}
