// A bundle as bytes with its signature, and what a device keeps of it over restarts: the last good one in a file of the data
// folder, and in the store how far versions have come.

import Cryptography
import Formats
import Platform
import Store

/// A bundle's text and what came with it.
struct BundleFile {
    var text: [UInt8]
    /// DER; empty: it is not signed.
    var signature: [UInt8] = []
    /// The entity tag that its server gave it; empty: none.
    var tag: [UInt8] = []
    /// When it was taken, milliseconds since the epoch.
    var takenAt: Int64 = 0

    /// Tells bundles apart: the beginning of their SHA-256, never 0.
    var fingerprint: UInt64 {
        let digest = SHA256.hash(text)
        return digest.withSpan { UInt64(littleEndianAt: 0, of: $0) } | 1
    }
}

extension BundleFile {
    /// A comment in front of the bundle, so that the file is one, too: when it was taken, the SHA-256 of what follows, the
    /// signature in base 64, and the entity tag.
    private static let mark = Array("# gatehouse 1 ".utf8)

    static func path(_ folder: String) -> String { joined(folder, "/bundle.yaml") }

    /// Reads the last good bundle of a data folder; nil where there is none, or it was damaged.
    static func kept(_ folder: String) -> BundleFile? {
        let limit = Limits.bundleBytes + Limits.keptHeadBytes
        guard let bytes = try? Files.read(path(folder), limitBytes: limit), bytes.count > mark.count else { return nil }
        var words: [[UInt8]] = []
        var word: [UInt8] = []
        var index = mark.count
        while index < bytes.count, bytes[index] != 0x0A {
            if bytes[index] == 0x20 {
                words.append(word)
                word = []
            } else {
                word.append(bytes[index])
            }
            index += 1
        }
        let mark = BundleFile.mark
        guard index < bytes.count, equal(bytes.span.extracting(0..<mark.count), mark.span), words.count == 3 else { return nil }
        let (taken, sum, signed) = (words[0], words[1], words[2])
        guard let time = parseUInt64(taken.span), let digest = Digest256(hexadecimal: sum.span),
            let signature = Base64.decode(signed.span)
        else { return nil }
        let text = Array(bytes[(index + 1)...])
        if SHA256.hash(text) != digest { return nil }
        return BundleFile(text: text, signature: signature, tag: word, takenAt: Int64(clamping: time))
    }

    /// Makes it the last good one; after a power cut that or the one before is there, whole.
    func keep(_ folder: String) throws(SystemError) {
        var bytes = BundleFile.mark
        bytes.reserveCapacity(Limits.keptHeadBytes + text.count)
        appendInteger(UInt64(max(0, takenAt)), to: &bytes)
        bytes.append(0x20)
        SHA256.hash(text).appendHexadecimal(to: &bytes)
        bytes.append(0x20)
        let signature = self.signature
        Base64.append(signature.span, to: &bytes)
        bytes.append(0x20)
        bytes += tag
        bytes.append(0x0A)
        bytes += text
        try Files.replace(BundleFile.path(folder), with: bytes, mode: 0o600)
    }
}

/// What the store remembers of bundles, so that no restart brings back what was there before.
struct BundleMemory: Equatable {
    /// The highest version of a signed bundle that was ever taken, and which bundle that was.
    var version: UInt64 = 0
    var fingerprint: UInt64 = 0
    /// The bundle that was taken back because its decisions failed.
    var rolledBack: UInt64 = 0
    /// The bundle under test, and how often that was begun without an end.
    var tested: UInt64 = 0
    var endings: UInt64 = 0

    private static let key = Array("bundle".utf8)
    private static let count = 5

    init() {}

    init(_ database: Database) throws(StoreError) {
        let transaction = try database.beginWrite()
        guard let bytes = try transaction.get(transaction.tables.meta, BundleMemory.key.span) else { return }
        // One that is damaged remembers nothing: the device shall start, and the version in force is a bound as well.
        guard let numbers = Record.decode(bytes, count: BundleMemory.count) else { return }
        (version, fingerprint, rolledBack) = (numbers[0], numbers[1], numbers[2])
        (tested, endings) = (numbers[3], numbers[4])
    }

    func write(_ database: Database) throws(StoreError) {
        var transaction = try database.beginWrite()
        let record = Record.encode([version, fingerprint, rolledBack, tested, endings])
        try transaction.put(transaction.tables.meta, BundleMemory.key.span, record.span)
        try transaction.commit()
    }
}
