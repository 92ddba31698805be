// A profile is the sum of its parts: one for each identifier that events were counted for, and for each device that counted them.
// A part has one writer, so that of two copies the later one is right; which identifiers are one person's may change,
// and the parts go with them. Most profiles have one part, and are it.

import Formats
import Store

/// The table `parts`: an identifier and the number of the store that counted → a profile record.
enum ProfileParts {
    /// The key of a part.
    struct Key {
        let bytes: InlineArray<44, UInt8>

        init(_ identifier: IdentifierKey, _ epoch: UInt64) {
            let (first, last) = (identifier.bytes, NumberKey(epoch))
            bytes = InlineArray<44, UInt8> { index in index < 36 ? first[index] : last.bytes[index - 36] }
        }

        static let byteCount = 44
    }

    /// Calls `body` with the number of the store that has counted, and the record.
    static func forEach(
        of identifier: IdentifierKey, in transaction: borrowing WriteTransaction, _ body: (UInt64, Span<UInt8>) -> Void
    ) throws(StoreError) {
        let prefix = identifier.bytes
        try transaction.scan(transaction.tables.parts, from: prefix.span) { key, value in
            guard key.count == Key.byteCount, equal(key.extracting(0..<36), prefix.span),
                let epoch = NumberKey.decode(key.extracting(36..<44))
            else { return false }
            body(epoch, value)
            return true
        }
    }

    static func removeAll(of identifier: IdentifierKey, in transaction: inout WriteTransaction) throws(StoreError) {
        if transaction.count(transaction.tables.parts) == 0 { return }
        var epochs: [UInt64] = []
        try forEach(of: identifier, in: transaction) { epoch, _ in epochs.append(epoch) }
        for epoch in epochs { try transaction.delete(transaction.tables.parts, Key(identifier, epoch).bytes.span) }
    }
}
