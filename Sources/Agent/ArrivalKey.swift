// How a hub recognises a message that arrives twice: by where it comes from and its number there.

import Cryptography
import Formats
import Store

/// Hash of device and epoch (16 bytes) and sequence number (8 bytes, big-endian).
struct ArrivalKey {
    let bytes: [UInt8]

    /// - Returns: nil for a message without `context.gatehouse`.
    init?(_ document: borrowing JSONDocument, _ message: JSONNode) {
        guard document.kind(message) == .object, let context = document.member(message, "context"),
            document.kind(context) == .object, let origin = document.member(context, "gatehouse"),
            document.kind(origin) == .object, let device = document.member(origin, "device"),
            document.kind(device) == .string, let epoch = document.member(origin, "epoch").flatMap({ document.int64($0) }),
            let sequence = document.member(origin, "seq").flatMap({ document.int64($0) }), sequence > 0
        else { return nil }
        var hash = SHA256()
        let epochKey = NumberKey(UInt64(bitPattern: epoch))
        hash.update(epochKey.bytes.span)
        hash.update(document.bytes(device))
        let digest = hash.digest()
        var key: [UInt8] = []
        for index in 0..<16 { key.append(digest[index]) }
        key.append(contentsOf: NumberKey(UInt64(sequence)).bytes.span)
        bytes = key
    }
}
