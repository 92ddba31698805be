// What is in the binary besides code: the files of the console's page.

import CConsole

/// A file of the console. It need not be known here what is in it.
public enum ConsoleFile: Int32, Sendable {
    case page = 0
    case style = 1
    case script = 2

    /// Whether `bytes` are packed with gzip, as they are in what ships.
    public static var arePacked: Bool { console_is_packed() }

    public var bytes: Span<UInt8> {
        @_lifetime(immortal)
        get {
            var count = 0
            let start = unsafe console_file(rawValue, &count)
            // They lie in the program's constant data: they neither move nor go away.
            let span = unsafe Span(_unsafeStart: start!, count: count)
            return unsafe _overrideLifetime(span, copying: ())
        }
    }
}
