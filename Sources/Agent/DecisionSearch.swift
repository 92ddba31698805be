// Finds the records of an answer in the log, for `gatehouse explain`. It reads a store that may be in use, as another
// process: the agent does not notice.

import Activation
import Formats
import Store

extension Upkeep {
    /// The records of the answer with an id, as the JSON objects that stand in the log, each with its number there.
    /// - Parameters:
    ///   - text: the id as answers have it.
    ///   - folder: the device's data folder.
    /// - Returns: nil for what is no id.
    public static func records(
        ofAnswer text: [UInt8], folder: String
    ) throws(UpkeepError) -> [(number: UInt64, record: [UInt8])]? {
        guard let id = DecisionID(text.span) else { return nil }
        var found: [(number: UInt64, record: [UInt8])] = []
        let wanted = Array("\"id\":\"".utf8) + id.text
        do throws(StoreError) {
            let database = try Database(reading: folder)
            var reader = try database.makeReader()
            try reader.begin()
            try reader.scan(reader.tables.log, from: Span<UInt8>()) { key, value in
                // Most entries are not of that millisecond.
                guard value.count > 16, Int64(bitPattern: UInt64(littleEndianAt: 8, of: value)) == id.time,
                    let entry = LogEntryView(value), entry.header.isGenerated, let number = NumberKey.decode(key)
                else { return true }
                let body = [UInt8](copying: entry.body)
                if contains(body, wanted) { found.append((number, body)) }
                return true
            }
        } catch {
            throw UpkeepError(error, folder)
        }
        return found
    }

    private static func contains(_ text: [UInt8], _ wanted: [UInt8]) -> Bool {
        if text.count < wanted.count { return false }
        for start in 0...(text.count - wanted.count) {
            var length = 0
            while length < wanted.count, text[start + length] == wanted[length] { length += 1 }
            if length == wanted.count { return true }
        }
        return false
    }
}
