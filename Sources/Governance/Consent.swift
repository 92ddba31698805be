// Who allowed what: the consent record of a person, and what an event says about it. Default denied: a purpose that no
// record grants is not granted (promise P4).

import Formats
import Store

/// Where a choice was made.
public enum ConsentSource: UInt8, Sendable {
    /// `context.consent.categoryPreferences` of an event.
    case event = 1
    /// `PUT /v1/profiles/{ref}/consent`.
    case api = 2
}

/// What an event or a call says about purposes of the bundle.
public struct ConsentSignal: Equatable, Sendable {
    public var granted: PurposeSet = []
    public var denied: PurposeSet = []

    public init(granted: PurposeSet = [], denied: PurposeSet = []) {
        self.granted = granted
        self.denied = denied
    }

    public var isEmpty: Bool { granted.isEmpty && denied.isEmpty }

    /// Reads an object of purpose names and booleans; names that the bundle does not have say nothing. A value that is
    /// no boolean denies: in doubt, closed.
    public init(_ document: borrowing JSONDocument, preferences: JSONNode, _ plan: PurposePlan) {
        guard document.kind(preferences) == .object else { return }
        var key = document.firstChild(preferences)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            guard let index = plan.index(of: document.bytes(name)) else { continue }
            if document.bool(value) == true {
                granted.insert(PurposeSet(purpose: index))
            } else {
                denied.insert(PurposeSet(purpose: index))
            }
        }
        granted.subtract(denied)
    }

    /// Reads `context.consent.categoryPreferences` of an event's context (Segment's consent object).
    public init(_ document: borrowing JSONDocument, context: JSONNode?, _ plan: PurposePlan) {
        self.init()
        guard let context, let consent = document.member(context, "consent"),
            let preferences = document.member(consent, "categoryPreferences")
        else { return }
        self = ConsentSignal(document, preferences: preferences, plan)
    }
}

/// One person's choices, as they lie in the store: a checksum, then 16 bytes for each purpose that was ever decided:
/// tag (4), state (1), source (1), reserved (2), time in milliseconds (8).
public enum ConsentRecord {
    enum State: UInt8 { case granted = 1, denied = 2 }
    static let entryBytes = 16

    /// The purposes of `plan` that a record grants; none for a record that fails its checksum.
    public static func granted(_ record: Span<UInt8>, _ plan: PurposePlan) -> PurposeSet {
        var set: PurposeSet = []
        guard isIntact(record) else { return set }
        var offset = 4
        while offset + entryBytes <= record.count {
            if record[offset + 4] == State.granted.rawValue,
                let index = plan.index(ofTag: UInt32(littleEndianAt: offset, of: record))
            {
                set.insert(PurposeSet(purpose: index))
            }
            offset += entryBytes
        }
        return set
    }

    /// Whether one purpose is granted, by its tag: for sending, where the bundle may have changed since.
    public static func isGranted(_ record: Span<UInt8>, tag: UInt32) -> Bool {
        guard isIntact(record) else { return false }
        var offset = 4
        while offset + entryBytes <= record.count {
            if UInt32(littleEndianAt: offset, of: record) == tag {
                return record[offset + 4] == State.granted.rawValue
            }
            offset += entryBytes
        }
        return false
    }

    static func isIntact(_ record: Span<UInt8>) -> Bool {
        record.count >= 4 && (record.count - 4) % entryBytes == 0
            && Checksum.of(record.extracting(4..<record.count)) == UInt32(littleEndianAt: 0, of: record)
    }

    /// Applies a signal to a record (empty for a person without one).
    ///
    /// The newest choice wins by its own time; at the same time, the refusal wins.
    /// - Parameter time: when the choice was made, milliseconds since the epoch; not later than now.
    /// - Returns: the new record, or nil when nothing changed.
    public static func applying(
        _ signal: ConsentSignal, at time: Int64, from source: ConsentSource, _ plan: PurposePlan, to record: Span<UInt8>
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
            if set(plan.tags[index], state, time, source, in: &bytes) { hasChanged = true }
        }
        if !hasChanged { return nil }
        seal(&bytes)
        return bytes
    }

    /// Joins the choices of two people who turn out to be one: for each purpose the newest.
    public static func merging(_ first: Span<UInt8>, _ second: Span<UInt8>) -> [UInt8] {
        var bytes: [UInt8] = []
        if isIntact(first) { bytes.append(contentsOf: first) } else { bytes = [0, 0, 0, 0] }
        if isIntact(second) {
            var offset = 4
            while offset + entryBytes <= second.count {
                if let state = State(rawValue: second[offset + 4]) {
                    _ = set(
                        UInt32(littleEndianAt: offset, of: second), state,
                        Int64(bitPattern: UInt64(littleEndianAt: offset + 8, of: second)),
                        ConsentSource(rawValue: second[offset + 5]) ?? .event, in: &bytes)
                }
                offset += entryBytes
            }
        }
        seal(&bytes)
        return bytes
    }

    /// Writes the record as an object of purpose names, for a person to read.
    public static func write(_ record: Span<UInt8>, _ plan: PurposePlan, to writer: inout JSONWriter) {
        let granted = granted(record, plan)
        writer.beginObject()
        for index in plan.names.indices {
            writer.key(plan.names[index])
            writer.bool(granted.contains(PurposeSet(purpose: index)))
        }
        writer.endObject()
    }

    private static func set(
        _ tag: UInt32, _ state: State, _ time: Int64, _ source: ConsentSource, in bytes: inout [UInt8]
    ) -> Bool {
        var offset = 4
        while offset < bytes.count, UInt32(littleEndianAt: offset, of: bytes.span) != tag { offset += entryBytes }
        if offset < bytes.count {
            let before = Int64(bitPattern: UInt64(littleEndianAt: offset + 8, of: bytes.span))
            let isSame = bytes[offset + 4] == state.rawValue
            if time < before || isSame || (time == before && state == .granted) { return false }
        } else {
            bytes.append(contentsOf: [UInt8](repeating: 0, count: entryBytes))
        }
        for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: tag >> UInt32(8 * index)) }
        bytes[offset + 4] = state.rawValue
        bytes[offset + 5] = source.rawValue
        for index in 0..<8 { bytes[offset + 8 + index] = UInt8(truncatingIfNeeded: time >> Int64(8 * index)) }
        return true
    }

    private static func seal(_ bytes: inout [UInt8]) {
        let sum = Checksum.of(bytes.span.extracting(4..<bytes.count))
        for index in 0..<4 { bytes[index] = UInt8(truncatingIfNeeded: sum >> UInt32(8 * index)) }
    }
}
