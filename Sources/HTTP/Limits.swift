// The bounds of the HTTP room: how large the parts of a message may become before it is refused.

/// Every limit of this room, with its unit in the name and its reason beside it.
public enum Limits {
    /// A whole head: request line or status line and all fields. What servers in the field take (8 to 32 KiB), and
    /// small enough that offsets fit 16 bits and a thousand slow clients cost 16 MiB at the very worst.
    public static let headBytes = 16 * 1024

    /// A request target. RFC 9112 section 3 asks for at least 8,000 octets.
    public static let targetBytes = 8 * 1024

    /// A method. The longest of the IANA registry is UPDATEREDIRECTREF (17), none that is served here is over 7.
    public static let methodBytes = 24

    /// Fields in a head. Browsers send under 30, proxies add a handful.
    public static let fields = 64

    /// Empty lines before a request line. RFC 9112 section 2.2 asks for one to be forgiven; old clients send one after
    /// a body.
    public static let leadingEmptyLines = 1

    /// Hexadecimal digits of a chunk size: 15 are 2^60, so no sum of two overflows.
    public static let chunkSizeDigits = 15

    /// Bytes of chunk extensions in a whole body: they carry nothing here, and unbounded they keep a server busy.
    public static let chunkExtensionBytes = 1024

    /// Bytes of a trailer section: it is checked and thrown away.
    public static let trailerBytes = 4 * 1024

    /// Interim (1xx) responses before the final one. A server has no reason for more than one or two.
    public static let interimResponses = 8
}
