// Who allowed what: the consent record of a person. Default denied: a purpose that no record grants is not granted
// (promise P4). What events and calls say about it is read in ConsentPlan.swift.

import Formats
import Store

/// Where a choice was made.
public enum ConsentSource: UInt8, Sendable {
    /// What an event reports: `context.consent` of an SDK, a consent string, the header `Sec-GPC`.
    case event = 1
    /// `PUT /v1/profiles/{ref}/consent`.
    case api = 2
    /// The event `Segment Consent Preference Updated`.
    case preference = 3

    /// Whether the person chose just now. What an SDK reports with every event is the state that it knows, and does not
    /// undo a refusal that was made elsewhere.
    var isChoice: Bool { self != .event }

    var name: StaticString {
        switch self {
        case .event: "event"
        case .api: "api"
        case .preference: "preference"
        }
    }
}

/// One person's choices, as they lie in the store: a checksum, then 16 bytes for each purpose that was ever decided:
/// tag (4), state (1), source (1), days that it holds or 0 for no end (2), time in milliseconds (8).
/// One more entry may say that events were passed over.
public enum ConsentRecord {
    enum State: UInt8 {
        case granted = 1
        case denied = 2
        /// Denied after it had been granted.
        case revoked = 3
    }
    static let entryBytes = 16

    /// The purposes of `plan` that a record grants; none for a record that fails its checksum.
    /// - Parameter now: milliseconds since the epoch; a grant whose time is up grants nothing.
    public static func granted(_ record: Span<UInt8>, _ plan: PurposePlan, at now: Int64) -> PurposeSet {
        var set: PurposeSet = []
        guard isIntact(record) else { return set }
        var offset = 4
        while offset + entryBytes <= record.count {
            if isGranted(record, offset, now),
                let index = plan.index(ofTag: UInt32(littleEndianAt: offset, of: record))
            {
                set.insert(PurposeSet(purpose: index))
            }
            offset += entryBytes
        }
        return set
    }

    /// Whether one purpose is granted, by its tag: for sending, where the bundle may have changed since.
    public static func isGranted(_ record: Span<UInt8>, tag: UInt32, at now: Int64) -> Bool {
        guard isIntact(record) else { return false }
        var offset = 4
        while offset + entryBytes <= record.count {
            if UInt32(littleEndianAt: offset, of: record) == tag {
                return isGranted(record, offset, now)
            }
            offset += entryBytes
        }
        return false
    }

    private static func isGranted(_ record: Span<UInt8>, _ offset: Int, _ now: Int64) -> Bool {
        guard record[offset + 4] == State.granted.rawValue else { return false }
        return end(record, offset).map { now < $0 } ?? true
    }

    /// When a choice stops to hold, milliseconds since the epoch; nil for never.
    private static func end(_ record: Span<UInt8>, _ offset: Int) -> Int64? {
        let days = Int64(UInt16(littleEndianAt: offset + 6, of: record))
        if days == 0 { return nil }
        return time(record, offset) &+ days &* 86_400_000
    }

    private static func time(_ record: Span<UInt8>, _ offset: Int) -> Int64 {
        Int64(bitPattern: UInt64(littleEndianAt: offset + 8, of: record))
    }

    /// Whether a record is as it was written. One that is not grants nothing.
    public static func isIntact(_ record: Span<UInt8>) -> Bool {
        record.count >= 4 && (record.count - 4) % entryBytes == 0
            && Checksum.of(record.extracting(4..<record.count)) == UInt32(littleEndianAt: 0, of: record)
    }

    /// Applies a signal to a record (empty for a person without one).
    ///
    /// The newest choice wins by its own time; at the same time, the refusal wins. What an event reports takes back a
    /// refusal only if that was reported as well, and never renews a grant whose time is up. Where the clock was set back
    /// since something was granted, that stands against no refusal.
    /// - Parameters:
    ///   - time: when the choice was made, milliseconds since the epoch; not later than now.
    ///   - now: by the device's clock, milliseconds since the epoch.
    ///   - validDays: how long a grant of each purpose of the plan holds; 0 for no end.
    /// - Returns: the new record, or nil when nothing changed.
    public static func applying(
        _ signal: ConsentSignal, at time: Int64, now: Int64 = .max, from source: ConsentSource, _ plan: PurposePlan,
        validDays: [UInt16], to record: Span<UInt8>
    ) -> [UInt8]? {
        var bytes: [UInt8] = []
        if isIntact(record) { bytes.append(contentsOf: record) } else { bytes = [0, 0, 0, 0] }
        var hasChanged = false
        for index in plan.tags.indices {
            let purpose = PurposeSet(purpose: index)
            let state: State
            if signal.denied.contains(purpose) {
                state = .denied
            } else if signal.granted.contains(purpose) {
                state = .granted
            } else {
                continue
            }
            let days = state == .granted ? validDays[index] : 0
            if set(plan.tags[index], state, time, now: now, source, days, in: &bytes) { hasChanged = true }
        }
        if !hasChanged { return nil }
        seal(&bytes)
        return bytes
    }

    /// Joins the choices of two people who turn out to be one: for each purpose the newest.
    /// - Parameter most: bytes from which on no purpose is taken up that the first does not have.
    public static func merging(_ first: Span<UInt8>, _ second: Span<UInt8>, atMost most: Int = .max) -> [UInt8] {
        var bytes: [UInt8] = []
        if isIntact(first) { bytes.append(contentsOf: first) } else { bytes = [0, 0, 0, 0] }
        if isIntact(second) {
            var offset = 4
            while offset + entryBytes <= second.count {
                if let state = State(rawValue: second[offset + 4]) {
                    _ = set(
                        UInt32(littleEndianAt: offset, of: second), state,
                        Int64(bitPattern: UInt64(littleEndianAt: offset + 8, of: second)),
                        ConsentSource(rawValue: second[offset + 5]) ?? .event,
                        UInt16(littleEndianAt: offset + 6, of: second), atMost: most, in: &bytes)
                }
                offset += entryBytes
            }
        }
        seal(&bytes)
        return bytes
    }

    /// Of a record that another device has made, what is believed of it: nobody has chosen later than now, and what was
    /// granted by a clock that is too far ahead nobody has granted.
    /// - Parameters:
    ///   - now: milliseconds since the epoch.
    ///   - ahead: how far the other's clock may be ahead, milliseconds.
    /// - Returns: nil for a record that is damaged, has a choice of no kind or two of one purpose, of which the second would
    ///   outlive a revocation of the first; or more than a device has.
    public static func believed(_ record: Span<UInt8>, now: Int64, ahead: Int64) -> [UInt8]? {
        guard isIntact(record), record.count <= mostBytes else { return nil }
        var bytes: [UInt8] = [0, 0, 0, 0]
        var offset = 4
        while offset < record.count {
            let made = time(record, offset)
            guard let state = State(rawValue: record[offset + 4]), ConsentSource(rawValue: record[offset + 5]) != nil else {
                return nil
            }
            for other in stride(from: 4, to: offset, by: entryBytes)
            where UInt32(littleEndianAt: other, of: record) == UInt32(littleEndianAt: offset, of: record) {
                return nil
            }
            let isBelieved = state != .granted || made <= now + ahead
            if isBelieved {
                let place = bytes.count
                bytes.append(contentsOf: record.extracting(offset..<offset + entryBytes))
                if made > now { store(now, at: place + 8, in: &bytes) }
            }
            offset += entryBytes
        }
        if !isAnything(bytes.span) { return [] }
        seal(&bytes)
        return bytes
    }

    /// The largest record that is taken from another device: choices of two bundles with all purposes that they may have.
    public static let mostBytes = 4 + entryBytes * 2 * Limits.purposes

    /// The choices of a record that another does not have, or has otherwise: a record of their own.
    public static func changes(from old: Span<UInt8>, to new: Span<UInt8>) -> [UInt8] {
        var bytes: [UInt8] = [0, 0, 0, 0]
        var offset = 4
        while offset + entryBytes <= new.count {
            let entry = new.extracting(offset..<offset + entryBytes)
            var isKnown = false
            var other = 4
            while isIntact(old), other + entryBytes <= old.count {
                if equal(old.extracting(other..<other + entryBytes), entry) { isKnown = true }
                other += entryBytes
            }
            if !isKnown { bytes.append(contentsOf: entry) }
            offset += entryBytes
        }
        seal(&bytes)
        return bytes
    }

    /// The refusals of an intact record: a record of their own.
    public static func refusals(of record: Span<UInt8>) -> [UInt8] {
        var bytes: [UInt8] = [0, 0, 0, 0]
        var offset = 4
        while offset + entryBytes <= record.count {
            if record[offset + 4] != State.granted.rawValue {
                bytes.append(contentsOf: record.extracting(offset..<offset + entryBytes))
            }
            offset += entryBytes
        }
        seal(&bytes)
        return bytes
    }

    /// A record whose grants are taken back, because it is not known what was chosen since. What an SDK reports may renew them,
    /// as it might have made them; nothing that was refused is.
    /// - Parameter now: milliseconds since the epoch.
    public static func withdrawing(_ record: Span<UInt8>, at now: Int64) -> [UInt8] {
        guard isIntact(record) else { return [] }
        var bytes = [UInt8](copying: record)
        for offset in stride(from: 4, to: bytes.count, by: entryBytes)
        where bytes[offset + 4] == State.granted.rawValue && UInt32(littleEndianAt: offset, of: record) != passedOverTag {
            bytes[offset + 4] = State.revoked.rawValue
            bytes[offset + 5] = ConsentSource.event.rawValue
            store(now, at: offset + 8, in: &bytes)
        }
        seal(&bytes)
        return bytes
    }

    // MARK: Events that were passed over

    /// Stands where a purpose's tag does; no name has it.
    private static let passedOverTag: UInt32 = 0

    /// A record that says that some of a person's events were passed over, since the person did not grant their purpose,
    /// when they were counted for attributes that came at `time`, milliseconds since the epoch. It grants nothing.
    public static func passingOver(at time: Int64) -> [UInt8] {
        var bytes: [UInt8] = [0, 0, 0, 0]
        _ = set(passedOverTag, .granted, time, .event, 0, in: &bytes)
        seal(&bytes)
        return bytes
    }

    /// When the first attributes came for which events of the person were passed over; nil: none were.
    public static func passedOver(_ record: Span<UInt8>) -> Int64? {
        var offset = 4
        while isIntact(record), offset + entryBytes <= record.count {
            if UInt32(littleEndianAt: offset, of: record) == passedOverTag { return time(record, offset) }
            offset += entryBytes
        }
        return nil
    }

    /// Whether a record holds any choice.
    public static func isAnything(_ record: Span<UInt8>) -> Bool { record.count > 4 }

    /// Whether something was granted by a choice, and not only reported to be, later than at some time.
    public static func isChosen(_ record: Span<UInt8>, after time: Int64) -> Bool {
        guard isIntact(record) else { return false }
        var offset = 4
        while offset + entryBytes <= record.count {
            if record[offset + 4] == State.granted.rawValue, ConsentSource(rawValue: record[offset + 5])?.isChoice ?? false,
                self.time(record, offset) > time
            {
                return true
            }
            offset += entryBytes
        }
        return false
    }

    /// Whether a choice was ever made about a purpose, by its tag; a record that fails its checksum says no to all.
    public static func isDecided(_ record: Span<UInt8>, tag: UInt32) -> Bool {
        if record.isEmpty { return false }
        guard isIntact(record) else { return true }
        var offset = 4
        while offset + entryBytes <= record.count {
            if UInt32(littleEndianAt: offset, of: record) == tag { return true }
            offset += entryBytes
        }
        return false
    }

    /// Writes the record as an object of purpose names and whether they are granted.
    public static func write(_ record: Span<UInt8>, _ plan: PurposePlan, at now: Int64, to writer: inout JSONWriter) {
        let granted = granted(record, plan, at: now)
        writer.beginObject()
        for index in plan.names.indices {
            writer.key(plan.names[index])
            writer.bool(granted.contains(PurposeSet(purpose: index)))
        }
        writer.endObject()
    }

    /// Writes the record as a list of `{"purpose","state","at","source","until"}`, for the person whose it is.
    public static func writeHistory(_ record: Span<UInt8>, _ plan: PurposePlan, to writer: inout JSONWriter) {
        writer.beginArray()
        var offset = 4
        while isIntact(record), offset + entryBytes <= record.count {
            if UInt32(littleEndianAt: offset, of: record) == passedOverTag {
                offset += entryBytes
                continue
            }
            writer.beginObject()
            writer.key("purpose")
            if let index = plan.index(ofTag: UInt32(littleEndianAt: offset, of: record)) {
                writer.string(plan.names[index])
            } else {
                writer.null()
            }
            writer.key("state")
            switch State(rawValue: record[offset + 4]) {
            case .granted: writer.string("granted")
            case .revoked: writer.string("revoked")
            default: writer.string("denied")
            }
            writer.key("at")
            write(time(record, offset), to: &writer)
            writer.key("source")
            writer.string((ConsentSource(rawValue: record[offset + 5]) ?? .event).name)
            if let end = end(record, offset) {
                writer.key("until")
                write(end, to: &writer)
            }
            writer.endObject()
            offset += entryBytes
        }
        writer.endArray()
    }

    private static func write(_ time: Int64, to writer: inout JSONWriter) {
        var text: [UInt8] = []
        Timestamp.append(time, to: &text)
        writer.string(text)
    }

    private static func set(
        _ tag: UInt32, _ state: State, _ time: Int64, now: Int64 = .max, _ source: ConsentSource, _ days: UInt16,
        atMost most: Int = .max, in bytes: inout [UInt8]
    ) -> Bool {
        var offset = 4
        var (state, time) = (state, time)
        while offset < bytes.count, UInt32(littleEndianAt: offset, of: bytes.span) != tag { offset += entryBytes }
        if offset < bytes.count {
            let before = self.time(bytes.span, offset)
            let known = State(rawValue: bytes[offset + 4]) ?? .denied
            let isSame = (known == .granted) == (state == .granted)
            let isKnownChosen = ConsentSource(rawValue: bytes[offset + 5])?.isChoice ?? true
            // A refusal that is chosen after one that was reported is a chosen one from then on, of the later time.
            if isSame, state != .granted, source.isChoice, !isKnownChosen {
                bytes[offset + 5] = source.rawValue
                if time > before { store(time, at: offset + 8, in: &bytes) }
                return true
            }
            // The clock was set back since this was granted: a refusal is later, whatever the times say.
            if before > now, known == .granted, state != .granted { time = max(time, before) }
            // A refusal that was chosen stands against what is reported, whichever of them came first.
            let isChosenRefusal = source.isChoice && state != .granted && known == .granted && !isKnownChosen
            if !isChosenRefusal, time < before || (time == before && (isSame || state == .granted)) { return false }
            if !source.isChoice {
                // The same once more is no news.
                if isSame { return false }
                if state == .granted, isKnownChosen { return false }
            }
            if state == .denied, known != .denied { state = .revoked }
        } else {
            if bytes.count >= most { return false }
            bytes.append(contentsOf: [UInt8](repeating: 0, count: entryBytes))
        }
        for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: tag >> UInt32(8 * index)) }
        bytes[offset + 4] = state.rawValue
        bytes[offset + 5] = source.rawValue
        for index in 0..<2 { bytes[offset + 6 + index] = UInt8(truncatingIfNeeded: days >> UInt16(8 * index)) }
        store(time, at: offset + 8, in: &bytes)
        return true
    }

    private static func store(_ time: Int64, at offset: Int, in bytes: inout [UInt8]) {
        for index in 0..<8 { bytes[offset + index] = UInt8(truncatingIfNeeded: time >> Int64(8 * index)) }
    }

    private static func seal(_ bytes: inout [UInt8]) {
        let sum = Checksum.of(bytes.span.extracting(4..<bytes.count))
        for index in 0..<4 { bytes[index] = UInt8(truncatingIfNeeded: sum >> UInt32(8 * index)) }
    }
}
