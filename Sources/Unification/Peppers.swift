// The device's secrets for keyed hashes, as whoever hashes identifiers has them: one, or two while one takes the other's
// place. It need not know where they are kept, nor how long a rotation lasts.

import Cryptography

/// The pepper, the one before while a rotation lasts, and what no rotation changes. Shared by all threads, and not changed.
public final class Peppers: @unchecked Sendable {
    /// What identifiers are kept under.
    public let present: HMACSHA256
    /// What they were kept under before: who was not seen since is found under it. nil: no rotation is under way.
    public let former: HMACSHA256?
    /// From it come the secrets that hash no identifiers: of the audit log, of message ids, of pseudonyms and of the list of
    /// the erased. They stay the same, so that the chain holds and repeats are known whatever the pepper is.
    public let root: HMACSHA256

    public init(present: HMACSHA256, former: HMACSHA256?, root: HMACSHA256) {
        self.present = present
        self.former = former
        self.root = root
    }

    /// Those of a device that has only ever had this pepper.
    public init(key: [UInt8]) {
        present = HMACSHA256(key: key)
        former = nil
        root = Peppers.root(of: key).withSpan { HMACSHA256(key: $0) }
    }

    /// The root that goes with a device's first pepper. It does not lead back to it: the pepper can be forgotten.
    public static func root(of key: [UInt8]) -> Digest256 { HMACSHA256(key: key).authenticate(Array("root".utf8)) }
}
