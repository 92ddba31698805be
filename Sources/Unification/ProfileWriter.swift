// A profile's attributes as JSON, for people and programs that ask for a record: `GET /v1/profiles/{ref}`.

import Formats

public enum ProfileWriter {
    /// Writes one object: each attribute of the bundle by name, in the bundle's order, with the value that rules see at
    /// `now`. Unset attributes without a default are left out, and those of one event. Dates are RFC 3339 texts; a set is
    /// a list, latest first; a tally an object, most frequent first; a timeline a list of times, or of objects with `at`
    /// and `value`.
    public static func writeAttributes(
        _ view: borrowing ProfileView, _ index: ProfileIndex, _ plan: AttributePlan, now: Int64,
        to writer: inout JSONWriter
    ) {
        let record = view.bytes
        let reader = AttributeReader(record, index, plan, now)
        var scratch: [UInt8] = []
        writer.beginObject()
        for number in plan.attributes.indices {
            let attribute = plan.attributes[number]
            if attribute.scope == .event || attribute.isHidden { continue }
            let entry = reader.entry(number)
            if entry == nil, !hasDefault(attribute.type) { continue }
            switch attribute.form {
            case .counter, .windowedCounter:
                writer.key(attribute.name)
                writer.int(entry.map { reader.count($0, attribute.shape) } ?? 0)
            case .sum, .mean, .minimum, .maximum, .windowedSum, .windowedMean, .windowedMinimum, .windowedMaximum:
                let number = entry.flatMap { reader.number($0, attribute.shape) }
                if number == nil, attribute.type != .sum { continue }
                writer.key(attribute.name)
                writer.double(number ?? 0)
            case .badge:
                writer.key(attribute.name)
                writer.bool(entry != nil)
            case .first, .last, .visitFirst:
                guard let entry else { continue }
                writer.key(attribute.name)
                Scalar.write(record, entry.payload, to: &writer, &scratch)
            case .set, .timeline:
                writer.key(attribute.name)
                writer.beginArray()
                if let entry {
                    reader.forEachElement(entry, attribute.shape) { time, scalar in
                        if attribute.type == .set {
                            Scalar.write(record, scalar, to: &writer, &scratch)
                        } else if attribute.value == nil {
                            Scalar.writeTime(time, to: &writer, &scratch)
                        } else {
                            writer.beginObject()
                            writer.key("at")
                            Scalar.writeTime(time, to: &writer, &scratch)
                            writer.key("value")
                            Scalar.write(record, scalar, to: &writer, &scratch)
                            writer.endObject()
                        }
                    }
                }
                writer.endArray()
            case .tally:
                writer.key(attribute.name)
                writer.beginObject()
                if let entry {
                    reader.forEachKey(entry) { count, scalar in
                        writer.key(record.extracting(scalar + Scalar.headBytes..<scalar + Scalar.size(record, scalar)))
                        writer.int(Int64(count))
                    }
                }
                writer.endObject()
            }
        }
        writer.endObject()
    }

    private static func hasDefault(_ type: AttributeType) -> Bool {
        switch type {
        case .counter, .sum, .badge, .set, .tally, .timeline: true
        default: false
        }
    }
}
