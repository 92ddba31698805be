// What libFuzzer calls with each input; see Tools/fuzz. Any answer to a record of the store is right. A crash, a hang or
// too much memory is not, nor is a profile that passes for readable and cannot be merged or swept, or is another when
// merged in another order; choices that grant, when they are brought together, what neither of them grants; or a record
// that is written otherwise than it was read.
//
// The first byte chooses the kind of record, and whether its checksum is made to fit, as somebody who writes one has it
// fit.

import Activation
import Collection
import Formats
import Glibc
import Serving

@testable import Agent
@testable import Governance
@testable import Store
@testable import Unification

/// Kinds of inputs.
private enum Kind: UInt8, CaseIterable {
    case profile, consent, log, numbers, trigger, link, identifier, removal
}

nonisolated(unsafe) private var merger = ProfileMerger()
/// A profile that others are merged with.
nonisolated(unsafe) private var known: [UInt8] = []

@_cdecl("LLVMFuzzerInitialize")
public func initialize(_ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutableRawPointer) -> CInt {
    let device = busyDevice()
    var inputs: [[UInt8]] = []
    for table in device.database.tables.all {
        device.write { transaction throws(StoreError) in
            try transaction.scan(table, from: Span<UInt8>()) { key, value in
                let record = [UInt8](copying: value)
                // Which kind it is the fuzzer finds out: it is tried as each.
                for kind in Kind.allCases where record.count < 900 && record.count > 3 {
                    inputs.append([kind.rawValue] + record)
                }
                if let view = try? ProfileView(value), view.entryCount > 8 { known = record }
                return true
            }
        }
    }
    if known.isEmpty { fatalError("the device has no profile") }
    writeSeeds { inputs }
    return 0
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let rest = Array(input[1...])
    let isMended = input[0] & 0x80 == 0
    switch Kind(rawValue: input[0] & 7) {
    case .profile: readProfile(isMended ? mendedProfile(rest) : rest)
    case .consent: readChoices(rest, isMended)
    case .log: readEntry(isMended ? mendedEntry(rest) : rest)
    case .numbers: readNumbers(isMended ? mendedNumbers(rest) : rest)
    case .trigger: if let state = TriggerState(rest.span), state.record != rest { stop(rest, "is another trigger") }
    case .link: readLinks(rest)
    case .identifier: readIdentifier(rest)
    case .removal: if let mark = LogRemoval(rest.span) { checkRemoval(mark, rest) }
    case nil: break
    }
    return 0
}

private func checkedJSON(_ bytes: [UInt8], _ record: [UInt8]) {
    var document = JSONDocument()
    do throws(JSONError) { try document.parse(bytes.span) } catch { stop(record, "is written as no JSON") }
}

// MARK: Profiles

/// With the head of a record and a fitting checksum.
private func mendedProfile(_ bytes: [UInt8]) -> [UInt8] {
    guard bytes.count >= RecordLayout.headerBytes else { return bytes }
    var record = bytes
    record.store16(RecordLayout.magic, at: RecordLayout.magicOffset)
    record[RecordLayout.magicOffset + 2] = RecordLayout.format
    record.store32(RecordChecksum.of(record.span), at: 0)
    return record
}

private func readProfile(_ record: [UInt8]) {
    guard ProfileRecord.isReadable(record.span, until: noon + day) else { return }
    readAttributes(record)
    let id = ProfileID(high: 1, low: 2)
    let (attributes, now) = (plan.policy.attributes, noon + day)
    do throws(RecordDamage) {
        try merger.merge(record.span, known.span, id: id, plan: attributes, now: now)
        let merged = merger.record
        try merger.merge(known.span, record.span, id: id, plan: attributes, now: now)
        if merger.record != merged { stop(record, "is another profile when it is merged the other way round") }
        readAttributes(merged)
        try merger.merge(merged.span, record.span, id: id, plan: attributes, now: now)
        readAttributes(merger.record)
    } catch { stop(record, "is readable and cannot be merged") }
    for time in [0, noon, noon + 200 * day, noon + 4000 * day] {
        var swept: [UInt8] = []
        do throws(RecordDamage) {
            if ProfileSweep.rewrite(try ProfileView(record.span), attributes, now: time, into: &swept) == 0 { continue }
        } catch { stop(record, "is readable and damaged") }
        if !ProfileRecord.isReadable(swept.span, until: noon + day) { stop(record, "is not readable when it was swept") }
        readAttributes(swept)
    }
}

private func readAttributes(_ record: [UInt8]) {
    let attributes = plan.policy.attributes
    var index = ProfileIndex()
    for time in [noon, noon + day] {
        do throws(RecordDamage) {
            let view = try ProfileView(record.span)
            index.fill(view, attributes)
            var writer = JSONWriter()
            ProfileWriter.writeAttributes(view, index, attributes, now: time, to: &writer)
            checkedJSON(writer.bytes, record)
        } catch { stop(record, "is written with another checksum") }
    }
}

// MARK: Choices

private func sealed(_ bytes: [UInt8]) -> [UInt8] {
    guard bytes.count >= 4 else { return bytes }
    var record = bytes
    record.store32(Checksum.of(bytes.span.extracting(4..<bytes.count)), at: 0)
    return record
}

/// Two records, which have half of the entries each.
private func readChoices(_ bytes: [UInt8], _ isMended: Bool) {
    let plan = plan.policy.purposes
    var entries = Array(bytes.dropFirst(4))
    entries.removeLast(entries.count % 16)
    // Purposes that exist are met now and then.
    for place in stride(from: 0, to: entries.count, by: 16) where entries[place] < 64 {
        let tag = plan.tags[Int(entries[place]) % plan.tags.count]
        for index in 0..<4 { entries[place + index] = UInt8(truncatingIfNeeded: tag >> UInt32(8 * index)) }
    }
    let half = entries.count / 32 * 16
    var records: [[UInt8]] = []
    for part in [Array(entries[..<half]), Array(entries[half...])] {
        let record = isMended ? sealed([0, 0, 0, 0] + part) : bytes
        writeChoices(record)
        if let believed = ConsentRecord.believed(record.span, now: noon, ahead: 600_000), !believed.isEmpty {
            if ConsentRecord.believed(believed.span, now: noon, ahead: 600_000) != believed {
                stop(record, "is believed less the second time")
            }
            checkGrants(believed)
            records.append(believed)
        }
    }
    guard records.count == 2 else { return }
    let (a, b) = (records[0], records[1])
    let merged = ConsentRecord.merging(a.span, b.span)
    let (reverse, whole) = (ConsentRecord.merging(b.span, a.span), granted(merged))
    if ConsentRecord.merging(merged.span, b.span) != merged {
        stop(bytes, "is other choices when they are brought together once more")
    }
    if !granted(a).union(granted(b)).isSuperset(of: whole) || !granted(a).union(granted(b)).isSuperset(of: granted(reverse))
    {
        stop(bytes, "grants together what neither grants")
    }
    writeChoices(merged)
    checkGrants(merged)
    if !granted(ConsentRecord.refusals(of: merged.span)).isEmpty { stop(bytes, "grants something by its refusals") }
    if !granted(ConsentRecord.withdrawing(merged.span, at: noon)).isEmpty { stop(bytes, "grants what was taken back") }
    let changes = ConsentRecord.changes(from: a.span, to: merged.span)
    if !whole.isSuperset(of: granted(changes)) { stop(bytes, "grants more by its changes") }
}

private func granted(_ record: [UInt8]) -> PurposeSet { ConsentRecord.granted(record.span, plan.policy.purposes, at: noon) }

private func writeChoices(_ record: [UInt8]) {
    let purposes = plan.policy.purposes
    var writer = JSONWriter()
    ConsentRecord.write(record.span, purposes, at: noon, to: &writer)
    checkedJSON(writer.bytes, record)
    writer.clear()
    ConsentRecord.writeHistory(record.span, purposes, to: &writer)
    checkedJSON(writer.bytes, record)
    _ = ConsentRecord.passedOver(record.span)
    _ = ConsentRecord.isChosen(record.span, after: noon)
    if !ConsentRecord.isIntact(record.span), !granted(record).isEmpty { stop(record, "grants something and is damaged") }
}

/// What is granted at sending is what is granted at capture.
private func checkGrants(_ record: [UInt8]) {
    let purposes = plan.policy.purposes
    for (index, tag) in purposes.tags.enumerated()
    where ConsentRecord.isGranted(record.span, tag: tag, at: noon) != granted(record).contains(PurposeSet(purpose: index)) {
        stop(record, "grants a purpose at one time and not at another")
    }
}

// MARK: The log

private func mendedEntry(_ bytes: [UInt8]) -> [UInt8] {
    guard bytes.count >= EntryLayout.fixedBytes else { return bytes }
    var entry = bytes
    entry[0] = EntryLayout.version
    entry[1] &= 1
    entry.store32(EntryLayout.checksum(entry.span), at: 4)
    return entry
}

private func readEntry(_ bytes: [UInt8]) {
    guard let view = LogEntryView(bytes.span) else { return }
    if LogRemoval(bytes.span) != nil { stop(bytes, "is an entry and none") }
    var identifiers: [LoggedIdentifier] = []
    for index in 0..<view.identifierCount { identifiers.append(view.identifier(index)) }
    if view.mentions(identifiers) != !identifiers.isEmpty { stop(bytes, "does not mention whom it mentions") }
    if view.messageID.count + view.body.count > bytes.count { stop(bytes, "has more than it has") }
    if identifiers.count > Store.Limits.logEntryIdentifiers { return }
    var (once, twice): ([UInt8], [UInt8]) = ([], [])
    view.encode(with: identifiers, into: &once)
    guard let other = LogEntryView(once.span) else { stop(bytes, "is written as no entry") }
    other.encode(with: identifiers, into: &twice)
    if once != twice { stop(bytes, "is another entry when it is written and read") }
    if other.identifierCount != identifiers.count || Array(copying: other.body) != Array(copying: view.body) {
        stop(bytes, "is written as another entry")
    }
    view.encode(without: identifiers, into: &twice)
    guard let nobodys = LogEntryView(twice.span), nobodys.identifierCount == 0 else {
        stop(bytes, "keeps whom it is to forget")
    }
}

private func checkRemoval(_ mark: LogRemoval, _ bytes: [UInt8]) {
    let count = LogRemoval.count(bytes.span)
    if count > 1, mark.bytes(count: UInt32(count)) != bytes { stop(bytes, "is another mark") }
}

// MARK: Numbers

private func mendedNumbers(_ bytes: [UInt8]) -> [UInt8] {
    // The first byte: how many of them the checksum is of; what follows is text.
    let count = min(4 + 8 * Int(bytes[0] & 31), bytes.count)
    return sealed(Array(bytes[..<count])) + bytes[count...]
}

private func readNumbers(_ record: [UInt8]) {
    if let device = DeviceRecord(record.span), device.record != record { stop(record, "is another device") }
    let cursor = SyncCursor(record.span)
    if cursor != SyncCursor(), cursor.record != record { stop(record, "is another cursor") }
    if let history = AttributeHistory(record.span) {
        if AttributeHistory(history.record.span) != history {
            stop(record, "is another history when it is written and read")
        }
        _ = history.incomplete(plan.policy.attributes, firstSeen: noon, passedOver: nil, now: noon)
    }
    for count in 1...12 {
        if let numbers = Record.decode(record.span, count: count), Record.encode(numbers) != record {
            stop(record, "is other numbers")
        }
    }
}

// MARK: Links and identifiers

private func readLinks(_ bytes: [UInt8]) {
    guard bytes.count >= 50, let a = LinkOrigin(bytes.span.extracting(0..<25)),
        let b = LinkOrigin(bytes.span.extracting(25..<50))
    else {
        return
    }
    let merged = a.merged(with: b)
    if merged != b.merged(with: a) { stop(bytes, "is another link when it is merged the other way round") }
    if merged.merged(with: b) != merged || a.merged(with: a) != a {
        stop(bytes, "is another link when it is merged once more")
    }
    if LinkOrigin(merged.bytes.span) != merged { stop(bytes, "is another link when it is written and read") }
}

private func readIdentifier(_ row: [UInt8]) {
    if let owner = IdentifierRow.owner(row.span) {
        let (mark, former) = (IdentifierRow.mark(row.span), IdentifierRow.former(row.span))
        let written = IdentifierRow.bytes(owner, mark: mark, former: former)
        if IdentifierRow.owner(written.span) != owner || IdentifierRow.mark(written.span) != mark {
            stop(row, "is another's")
        }
    }
    if let key = IdentifierRow.successor(row.span) {
        var written: [UInt8] = []
        key.append(to: &written)
        if written != row { stop(row, "is another identifier") }
    }
    if let key = TimerKey(row.span) {
        var written: [UInt8] = []
        key.append(to: &written)
        if written != row { stop(row, "is another timer") }
    }
}

private func stop(_ record: [UInt8], _ what: String) -> Never { fatalError("the record \(what): \(record)") }
