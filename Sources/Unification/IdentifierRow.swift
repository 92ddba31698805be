// What lies under an identifier in the table `identifiers`. It need not know when identifiers get other keys.

import Cryptography
import Formats
import Store

/// A row of `identifiers`: the profile's id (16 bytes); after the first rotation of the pepper the number of the one that
/// the key was hashed under; and while a rotation lasts the digest that the identifier had before, by which the log knows
/// it. Under such a former digest lies the key that took its place (36 bytes).
enum IdentifierRow {
    private static let markOffset = 16
    private static let formerOffset = 17

    /// Whose it is; nil for a row that leads to another.
    static func owner(_ row: Span<UInt8>) -> ProfileID? {
        if row.count < markOffset || row.count == IdentifierKey.byteCount { return nil }
        return ProfileID(row.extracting(0..<markOffset))
    }

    /// The key that the identifier has now.
    static func successor(_ row: Span<UInt8>) -> IdentifierKey? {
        row.count == IdentifierKey.byteCount ? IdentifierKey(row) : nil
    }

    /// The number of the pepper that the key was hashed under; 0: the first.
    static func mark(_ row: Span<UInt8>) -> UInt8 { row.count > markOffset ? row[markOffset] : 0 }

    /// The digest that the identifier had under the former pepper.
    static func former(_ row: Span<UInt8>) -> Digest256? {
        row.count == formerOffset + Digest256.byteCount ? Digest256(row.extracting(formerOffset..<row.count)) : nil
    }

    static func bytes(_ owner: ProfileID, mark: UInt8, former: Digest256? = nil) -> [UInt8] {
        var row: [UInt8] = []
        row.append(contentsOf: owner.bytes.span)
        if mark != 0 || former != nil { row.append(mark) }
        if let former { former.append(to: &row) }
        return row
    }
}
