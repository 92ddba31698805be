// What libFuzzer calls with each input; see Tools/fuzz. Any answer to what a device or a hub says is right. A crash, a hang
// or too much memory is not, nor is news in what is heard a second time, a profile that was taken and cannot be read, or a
// change that a device made of what it may not speak of.
//
// The first byte chooses who hears it, and what the other may say; the rest are the pieces of `POST /v1/sync`. Checksums in
// them are made to fit, unless the byte's highest bit is set.

import Cryptography
import Formats
import Glibc
import Governance

@testable import Agent
@testable import Store
@testable import Unification

nonisolated(unsafe) private var device = busyDevice()
/// Of another fleet's pepper, as a hub is.
nonisolated(unsafe) private var hub = Device(
    "version: 1\npurposes: [analytics]\nidentifiers:\n  user_id: { from: [userId], send: hmac }\n", epoch: 9,
    pepper: Peppers(key: [UInt8](repeating: 9, count: 32)))

@_cdecl("LLVMFuzzerInitialize")
public func initialize(_ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutableRawPointer) -> CInt {
    writeSeeds { seeds() }
    return 0
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let page = input[0] & 0x80 == 0 ? mended(Array(input[1...])) : Array(input[1...])
    if let numbers = SyncPage.numbers(page.span), numbers.count != 7 { stop(page, "has other numbers") }
    var changes: [[UInt8]] = []
    var place = 0
    while let piece = Piece(page.span, at: place) {
        if piece.end <= place || piece.end > page.count { stop(page, "has a piece outside of itself") }
        if piece.kind == SyncPage.change { changes.append(Array(page[piece.start..<piece.end])) }
        place = piece.end
    }
    for change in changes { readState(change) }
    // Of many, the first: each costs a search of the store.
    hear(Array(changes.prefix(8)), input[0])
    return 0
}

// MARK: Seeds

private func seeds() -> [[UInt8]] {
    var pages: [[UInt8]] = []
    let epoch = device.pipeline.people.epoch
    for (kind, value) in [
        ("user_id", "u-12345"), ("email", "u-12345@example.org"), ("user_id", "u-23456"), ("user_id", "nobody"),
    ] {
        let key = device.key(kind, value)
        let name = device.pipeline.suppression.name(key.tag, key.digest)
        do {
            var reader = try device.database.makeReader()
            try reader.begin()
            for parts in [epoch, IdentifierState.nobodys] {
                let state = try IdentifierState(of: key, in: reader, epoch: epoch, parts: parts)
                var page = SyncPage(most: 4096)
                page.add([epoch, UInt64(noon), 1, 0, 0, 0, 0])
                page.add(SyncPage.fleet, Array("0123456789abcdef0123456789abcdef".utf8))
                page.add(SyncPage.device, Array("till-1".utf8))
                page.add(SharedChanges.isState, name.span, state)
                page.add(SharedChanges.isWithdrawn, name.span, state)
                let erased =
                    [SharedChanges.isErased] + Array(copying: name.span) + Array(copying: NumberKey(UInt64(noon)).bytes.span)
                page.add(SyncPage.change, erased)
                page.add(SyncPage.change, erased + Array(copying: key.bytes.span))
                pages.append(page.bytes)
            }
        } catch { fatalError("the store cannot be read") }
    }
    return pages.flatMap { page in (0..<16).map { [UInt8($0)] + page } }
}

// MARK: Checksums

/// With checksums that fit: of the numbers, of choices and of parts. Lengths stay as they are.
private func mended(_ bytes: [UInt8]) -> [UInt8] {
    var page = bytes
    var place = 0
    while let piece = Piece(page.span, at: place) {
        place = piece.end
        if piece.kind == SyncPage.head { seal(&page, piece.start..<piece.end) }
        if piece.kind == SyncPage.change { mendState(&page, 1 + SharedChanges.nameBytes + piece.start, piece.end) }
    }
    return page
}

private func mendState(_ page: inout [UInt8], _ start: Int, _ end: Int) {
    var place = start + IdentifierKey.byteCount
    while place < end, let piece = Piece(page.span, at: place), piece.end <= end {
        place = piece.end
        if piece.kind == 1 { seal(&page, piece.start..<piece.end) }
        let record = piece.start + 8..<max(piece.start + 8, piece.end)
        if piece.kind == 2, record.count >= RecordLayout.headerBytes {
            page.store16(RecordLayout.magic, at: record.lowerBound + RecordLayout.magicOffset)
            page[record.lowerBound + RecordLayout.magicOffset + 2] = RecordLayout.format
            page.store32(RecordChecksum.of(page.span.extracting(record)), at: record.lowerBound)
        }
    }
}

private func seal(_ page: inout [UInt8], _ range: Range<Int>) {
    if range.count < 4 { return }
    page.store32(Checksum.of(page.span.extracting(range.lowerBound + 4..<range.upperBound)), at: range.lowerBound)
}

// MARK: What becomes of it

/// What is believed of a state is believed once it is told on.
private func readState(_ change: [UInt8]) {
    guard let state = Fleet.state(change, now: noon) else { return }
    var once: [UInt8] = []
    state.append(to: &once)
    guard let other = IdentifierState(once.span, now: noon, ahead: Agent.Limits.clockAheadMilliseconds) else {
        stop(change, "is read, and not when it is told on")
    }
    var twice: [UInt8] = []
    other.append(to: &twice)
    if once != twice { stop(change, "is another state when it is told on") }
    if state.writers != other.writers { stop(change, "is of other writers when it is told on") }
}

/// Takes changes twice, in a transaction that does not happen, and looks at what there is then.
private func hear(_ changes: [[UInt8]], _ choice: UInt8) {
    if changes.isEmpty { return }
    let isHub = choice & 1 != 0
    let listener = isHub ? hub : device
    let sender = SyncSender(
        name: Array("till-1".utf8), epoch: 1, speaksForOthers: choice & 2 != 0, mayErase: choice & 4 != 0, now: noon)
    let hasRoom = choice & 8 == 0
    do throws(StoreError) {
        var transaction = try listener.database.beginWrite()
        func take() throws(StoreError) {
            for change in changes {
                let outcome =
                    isHub
                    ? try listener.pipeline.takeChange(change, sender, hasRoom: hasRoom, &transaction)
                    : try listener.pipeline.learnChange(change, latest: noon, now: noon, hasRoom: hasRoom, &transaction)
                if case .taken = outcome { check(change, sender, isHub) }
            }
        }
        try take()
        let first = try look(changes, transaction)
        // Who was erased between two states of theirs is there again after the second.
        let isMixed = changes.contains { $0.first == SharedChanges.isErased || $0.first == SharedChanges.isWithdrawn }
        try take()
        if !isMixed, try look(changes, transaction) != first { stop(changes.flatMap { $0 }, "is news the second time") }
        if !isHub { try readProfiles(changes, transaction) }
    } catch {
        if error != .full { fatalError("the store fails: \(error.message)") }
    }
}

/// A device speaks of what it has counted itself.
private func check(_ change: [UInt8], _ sender: SyncSender, _ isHub: Bool) {
    guard isHub, !sender.speaksForOthers, let state = Fleet.state(change, now: noon) else { return }
    for writer in state.writers where writer != sender.epoch {
        stop(change, "is taken from a device that has not counted it")
    }
}

private func keys(_ changes: [[UInt8]]) -> [IdentifierKey] { changes.compactMap { Fleet.state($0, now: noon)?.key } }

/// What is known of the identifiers that are spoken of.
private func look(_ changes: [[UInt8]], _ transaction: borrowing WriteTransaction) throws(StoreError) -> [[UInt8]] {
    var found: [[UInt8]] = []
    var failure: StoreError?
    transaction.read { reader in
        do throws(StoreError) {
            for key in keys(changes) {
                var bytes: [UInt8] = []
                try IdentifierState(of: key, in: reader, epoch: 0, links: .max).append(to: &bytes)
                found.append(bytes)
            }
        } catch { failure = error }
    }
    if let failure { throw failure }
    return found
}

/// Whoever is known by what was heard has a profile that can be read, if any.
private func readProfiles(_ changes: [[UInt8]], _ transaction: borrowing WriteTransaction) throws(StoreError) {
    let attributes = plan.policy.attributes
    var index = ProfileIndex()
    for key in keys(changes) {
        guard let person = try IdentityGraph.profile(of: key, in: transaction) else { continue }
        let id = person.bytes
        guard let record = try transaction.get(transaction.tables.profiles, id.span) else { continue }
        do throws(RecordDamage) {
            let view = try ProfileView(record)
            index.fill(view, attributes)
            var writer = JSONWriter()
            ProfileWriter.writeAttributes(view, index, attributes, now: noon, to: &writer)
            var document = JSONDocument()
            do throws(JSONError) { try document.parse(writer.bytes.span) } catch {
                stop(changes.flatMap { $0 }, "leaves a profile that is no JSON")
            }
        } catch { stop(changes.flatMap { $0 }, "leaves a profile that cannot be read") }
    }
}

private func stop(_ bytes: [UInt8], _ what: String) -> Never { fatalError("what was said \(what): \(bytes)") }
