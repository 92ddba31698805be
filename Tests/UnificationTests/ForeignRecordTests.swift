// Shows that of what another device has written nothing is taken that would stop this one: each form of state with payloads
// that its own code never writes, under a right checksum; and that what is taken can be read, merged and swept.

import Formats
import Store
import Testing

@testable import Unification

private let now: Int64 = 1_769_860_800_000

/// An entry of a record, as it lies there.
private func entry(_ form: UInt8, _ payload: [UInt8], tag: UInt32 = 7, time: Int64 = now) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append32(tag)
    bytes.append(form)
    bytes.append(0)
    bytes.append16(UInt16(truncatingIfNeeded: payload.count))
    bytes.append64(UInt64(bitPattern: time))
    return bytes + payload
}

/// A record with a right checksum.
private func record(
    _ entries: [[UInt8]], created: Int64 = now, lastSeen: Int64 = now, revision: UInt64 = 1, count: UInt16? = nil
) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append32(0)
    bytes.append16(RecordLayout.magic)
    bytes.append(RecordLayout.format)
    bytes.append(0)
    bytes.append16(count ?? UInt16(entries.count))
    bytes.append16(0)
    bytes.append32(0)
    bytes.append64(1)
    bytes.append64(2)
    bytes.append64(UInt64(bitPattern: created))
    bytes.append64(UInt64(bitPattern: lastSeen))
    bytes.append64(0)
    bytes.append64(revision)
    for entry in entries { bytes += entry }
    let sum = RecordChecksum.of(bytes.span)
    bytes.store32(sum, at: 0)
    return bytes
}

private func number(_ value: Int64) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append64(UInt64(bitPattern: value))
    return bytes
}

private func double(_ value: Double) -> [UInt8] { number(Int64(bitPattern: value.bitPattern)) }

private func scalar(_ kind: ScalarKind, _ content: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append16(Scalar.head(kind, content.count))
    return bytes + content
}

private func element(_ time: Int64, _ scalar: [UInt8], count: UInt32? = nil) -> [UInt8] {
    var bytes: [UInt8] = []
    if let count { bytes.append32(count) }
    bytes.append48(time)
    return bytes + scalar
}

private func isReadable(_ bytes: [UInt8], until latest: Int64 = now + 1000) -> Bool {
    ProfileRecord.isReadable(bytes.span, until: latest)
}

@Suite struct ForeignRecordTests {
    private let text = scalar(.string, Array("abc".utf8))
    private let other = scalar(.string, Array("abd".utf8))

    @Test func whatADeviceWritesIsTaken() {
        let sum = [UInt8](repeating: 0, count: 16)
        let right: [(StateForm, [UInt8])] = [
            (.counter, number(3)), (.sum, sum), (.mean, sum + number(1)), (.minimum, double(-1.5)), (.maximum, double(2)),
            (.badge, []), (.first, text), (.last, scalar(.timestamp, number(now))), (.visitFirst, text + number(now)),
            (.set, element(now, other) + element(now - 1, text)), (.timeline, element(now, [0, 0])),
            (.set, element(now, text) + element(now, other)), (.timeline, element(now, text) + element(now - 1, text)),
            (.tally, element(now - 5, text, count: 3) + element(now, other, count: 1)),
            (.windowedCounter, number(5) + [0, 1, 0, 0, 0, 60, 1, 0, 0, 0]), (.windowedMinimum, number(5) + [3] + double(1)),
            (.windowedSum, number(-5) + [0] + sum), (.windowedMean, number(5) + [0] + sum + [1, 0, 0, 0]),
        ]
        for (form, payload) in right { #expect(isReadable(record([entry(form.rawValue, payload)])), "\(form)") }
        // Of a form that nobody knows here nothing is read.
        #expect(isReadable(record([entry(200, [1, 2, 3])])))
    }

    // limit: Unification.farthestMilliseconds
    @Test func whatNoDeviceWritesIsNot() {
        let sum = [UInt8](repeating: 0, count: 16)
        let wrong: [(StateForm, [UInt8], String)] = [
            (.counter, [1], "length"), (.counter, number(-1), "negative"), (.sum, [], "length"), (.mean, sum + number(0), "of none"),
            (.minimum, double(.nan), "no number"), (.maximum, double(.infinity), "infinite"), (.badge, [0], "length"),
            (.first, [], "none"), (.last, [9, 0x50], "longer than it is"), (.last, scalar(.string, [0xFF]), "no UTF-8"),
            (.last, scalar(.int, [1]), "length"), (.last, scalar(.double, double(.nan)), "no number"), (.last, [1, 0xF0, 0], "kind"),
            (.last, scalar(.timestamp, number(315_576_000_000_001)), "time"), (.last, scalar(.duration, number(.min)), "span"),
            (.visitFirst, text, "no time"), (.set, element(now + 1, text), "later than its entry"),
            (.set, element(now - 1, text) + element(now, other), "order"), (.set, [1, 2], "rest"),
            (.set, element(now, other) + element(now, text), "order"), (.set, element(now, text) + element(now - 1, text), "twice"),
            (.timeline, element(now, other) + element(now, text), "order"),
            // Found by `Tools/fuzz records`: with another such record it was another in each order.
            (.timeline, element(now, [0, 0]) + element(now, [0, 0]), "twice"),
            (.tally, element(now, text, count: 1) + element(now, other, count: 2), "order"),
            (.tally, element(now, text, count: 2) + element(now, text, count: 1), "twice"),
            (.tally, element(now, text), "no count"), (.windowedCounter, [1], "no head"),
            (.windowedCounter, number(.max) + [0, 1, 0, 0, 0], "bucket"), (.windowedCounter, number(.min) + [0, 1, 0, 0, 0], "bucket"),
            (.windowedCounter, number(315_576_000_000_001) + [0, 1, 0, 0, 0], "bucket"),
            (.windowedCounter, number(5) + [61, 1, 0, 0, 0], "age"), (.windowedCounter, number(5) + [1, 1, 0, 0, 0, 1, 1, 0, 0, 0], "twice"),
            (.windowedMaximum, number(5) + [0] + double(.nan), "no number"),
            (.minimum, double(-0.0), "the other zero"), (.windowedMaximum, number(5) + [0] + double(-0.0), "the other zero"),
            (.windowedSum, number(5) + [0, 1], "length"),
            (.last, scalar(.string, [UInt8](repeating: 97, count: 1025)), "long"),
        ]
        for (form, payload, why) in wrong { #expect(!isReadable(record([entry(form.rawValue, payload)])), "\(form) \(why)") }
        let many = (0..<1001).map { element(now - $0, [0, 0]) }
        #expect(isReadable(record([entry(StateForm.timeline.rawValue, many.dropLast().flatMap { $0 })])))
        #expect(!isReadable(record([entry(StateForm.timeline.rawValue, many.flatMap { $0 })])))
        let badge = entry(StateForm.badge.rawValue, [])
        #expect(isReadable(record([badge])))
        for time in [Int64.min, .max, now + 1001, -315_576_000_000_001] {
            #expect(!isReadable(record([badge], created: time)))
            #expect(!isReadable(record([badge], lastSeen: time)))
            #expect(!isReadable(record([entry(StateForm.badge.rawValue, [], time: time)])))
        }
        #expect(!isReadable(record([badge], revision: .max)))
        #expect(!isReadable(record([badge], count: 2)) && !isReadable(record([badge, badge])))
        #expect(!isReadable(record([badge]) + [0]))
        var other = badge
        other[5] = 1
        #expect(!isReadable(record([other])), "merged with another it would be another in each order")
    }

    /// A store that has taken such buckets before they were looked for goes on.
    @Test(arguments: [Int64.min, .max, 0]) func bucketsOfNoTimeStopNobody(_ newest: Int64) {
        for other in [Int64.min, .max, 5] {
            let a = entry(StateForm.windowedCounter.rawValue, number(newest) + [0, 1, 0, 0, 0, 60, 1, 0, 0, 0])
            let b = entry(StateForm.windowedCounter.rawValue, number(other) + [0, 1, 0, 0, 0, 3, 1, 0, 0, 0])
            var bytes = a + b
            let merged = AttributeState.merge(&bytes, 0, a.count, StatePolicy())
            #expect(merged == a.count + b.count)
            let found = RecordEntry(bytes.span, at: merged)
            #expect(found.end == bytes.count && found.length >= 8)
        }
    }
}
