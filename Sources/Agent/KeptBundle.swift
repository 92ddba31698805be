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
    static func path(_ folder: String) -> String { joined(folder, "/bundle.yaml") }

    /// Reads the last good bundle of a data folder; nil where there is none, or it was damaged.
    ///
    /// A comment of JSON stands in front of it, so that the file is a bundle, too: when it was taken, the SHA-256 of what
    /// follows, the signature in base 64, and the entity tag.
    static func kept(_ folder: String) -> BundleFile? {
        let limit = Limits.bundleBytes + Limits.keptHeadBytes
        guard let bytes = try? Files.read(path(folder), limitBytes: limit), let end = bytes.firstIndex(of: 0x0A), end > 2
        else { return nil }
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(bytes.span.extracting(2..<end)) } catch { return nil }
        guard let taken = document.member(document.root, "taken"), let sum = document.member(document.root, "sha256"),
            let signed = document.member(document.root, "signature"), let tag = document.member(document.root, "tag"),
            let signature = Base64.decode(document.bytes(signed))
        else { return nil }
        let text = Array(bytes[(end + 1)...])
        guard let digest = Digest256(hexadecimal: document.bytes(sum)), SHA256.hash(text) == digest else { return nil }
        return BundleFile(
            text: text, signature: signature, tag: [UInt8](copying: document.bytes(tag)), takenAt: document.int64(taken) ?? 0)
    }

    /// Makes it the last good one; after a power cut that or the one before is there, whole.
    func keep(_ folder: String) throws(SystemError) {
        let signature = self.signature
        var head = JSONWriter(reserving: Limits.keptHeadBytes)
        head.bytes = [UInt8(ascii: "#"), 0x20]
        head.beginObject()
        head.key("taken")
        head.int(takenAt)
        head.key("sha256")
        head.string(SHA256.hash(text).hexadecimal)
        head.key("signature")
        head.string(Base64.encode(signature.span))
        head.key("tag")
        head.string(tag)
        head.endObject()
        head.newline()
        try Files.replace(BundleFile.path(folder), with: head.bytes + text, mode: 0o600)
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
