// What makes room for others when the disk is full and nothing is delivered (promise P6): events of the lowest declared
// priority first, of these the oldest. Each leaves the reason behind, so that every destination counts it as evicted; a run of
// them leaves one mark. What has priority 9 is never shed, nor are consent, erasures and their notices: events are refused then.

import Formats
import Monitoring
import Platform
import Store

/// How many events of each priority lie in each stretch of 1,024 numbers of the log, so that what goes first is found without
/// reading the log. The counts are upper bounds: what is erased or expired stays counted until somebody looks.
struct LogStretches {
    static let bits: UInt64 = 10
    static let priorities = 10
    /// Those below this may be shed.
    static let lasting = 9

    /// The stretch in which the log ends.
    private var number: UInt64
    private var counts = InlineArray<10, UInt32>(repeating: 0)
    private var hasChanged = false

    /// - Parameter next: number of the log's next event.
    init(next: UInt64, _ transaction: borrowing WriteTransaction) throws(StoreError) {
        number = next >> LogStretches.bits
        let key = NumberKey(number)
        guard let value = try transaction.get(transaction.tables.stretches, key.bytes.span) else { return }
        for priority in 0..<LogStretches.priorities { counts[priority] = LogStretches.count(priority, value) }
    }

    static func count(_ priority: Int, _ value: Span<UInt8>) -> UInt32 {
        value.count == 4 * priorities ? UInt32(littleEndianAt: 4 * priority, of: value) : 0
    }

    /// An event has come to the log's end.
    mutating func note(_ sequence: UInt64, _ priority: UInt8, _ transaction: inout WriteTransaction) throws(StoreError) {
        if sequence >> LogStretches.bits != number {
            try keep(in: &transaction)
            number = sequence >> LogStretches.bits
            counts = InlineArray<10, UInt32>(repeating: 0)
        }
        counts[min(Int(priority), LogStretches.priorities - 1)] += 1
        hasChanged = true
    }

    mutating func keep(in transaction: inout WriteTransaction) throws(StoreError) {
        if !hasChanged { return }
        var bytes: [UInt8] = []
        for priority in 0..<LogStretches.priorities { LogEntry.append(counts[priority], to: &bytes) }
        let key = NumberKey(number)
        try transaction.put(transaction.tables.stretches, key.bytes.span, bytes.span)
        hasChanged = false
    }

    /// Nothing of a priority is left in a stretch.
    mutating func clear(_ priority: Int, of stretch: UInt64, in transaction: inout WriteTransaction) throws(StoreError) {
        let key = NumberKey(stretch)
        var bytes: [UInt8] = []
        if let value = try transaction.get(transaction.tables.stretches, key.bytes.span) { bytes = [UInt8](copying: value) }
        guard bytes.count == 4 * LogStretches.priorities else { return }
        for index in 0..<4 { bytes[4 * priority + index] = 0 }
        try transaction.put(transaction.tables.stretches, key.bytes.span, bytes.span)
        if stretch == number { counts[priority] = 0 }
    }
}

extension Pipeline {
    /// Takes events out of the log that some destination has yet to get.
    /// - Parameters:
    ///   - lowest: the lowest cursor of all destinations; what lies below goes by trimming.
    ///   - most: how many go at most.
    /// - Returns: how many entries were looked at; 0 when there is nothing that may go.
    mutating func shed(
        from lowest: UInt64, atMost most: Int, _ transaction: inout WriteTransaction
    ) throws(StoreError) -> Int {
        try stretches.keep(in: &transaction)
        let tables = transaction.tables
        let first = NumberKey(lowest >> LogStretches.bits)
        var (priority, stretch) = (LogStretches.lasting, UInt64(0))
        try transaction.scan(tables.stretches, from: first.bytes.span) { key, value in
            for lower in 0..<priority where LogStretches.count(lower, value) > 0 {
                (priority, stretch) = (lower, NumberKey.decode(key) ?? 0)
                break
            }
            return priority > 0
        }
        if priority == LogStretches.lasting { return 0 }
        var found: [UInt64] = []
        var looked = 0
        let start = NumberKey(max(lowest, stretch << LogStretches.bits))
        let end = (stretch + 1) << LogStretches.bits
        try transaction.scan(tables.log, from: start.bytes.span) { key, value in
            guard found.count < most, let number = NumberKey.decode(key), number < end else { return false }
            looked += 1
            if let entry = LogEntryView(value), entry.header.priority == UInt8(priority), !entry.header.isErasureNotice {
                found.append(number)
            }
            return true
        }
        if found.count < most { try stretches.clear(priority, of: stretch, in: &transaction) }
        var index = 0
        while index < found.count {
            var end = index + 1
            let isAlone = try isUrgent(found[index], transaction)
            while !isAlone, end < found.count, found[end] == found[end - 1] + 1, !(try isUrgent(found[end], transaction)) {
                end += 1
            }
            try evict(found[index], found[end - 1], isAlone, &transaction)
            index = end
        }
        if !found.isEmpty { meters.shedEvents.add(UInt64(found.count), at: priority) }
        return max(1, looked)
    }

    private func isUrgent(_ number: UInt64, _ transaction: borrowing WriteTransaction) throws(StoreError) -> Bool {
        let key = NumberKey(number)
        return try transaction.get(transaction.tables.urgent, key.bytes.span) != nil
    }

    /// Takes a run of entries out of the log, and joins their mark with those beside it: marks of long outages would fill the
    /// disk, too. An urgent entry keeps a mark of its own, since another lane counts it.
    private mutating func evict(
        _ first: UInt64, _ last: UInt64, _ isAlone: Bool, _ transaction: inout WriteTransaction
    ) throws(StoreError) {
        let log = transaction.tables.log
        // Deleting, unlike overwriting, lets LMDB join pages that are nearly empty.
        for number in first...last { try transaction.delete(log, NumberKey(number).bytes.span) }
        var (place, count) = (last, last - first + 1)
        if !isAlone {
            let before = NumberKey(first - 1)
            var joined: UInt64 = 0
            if let value = try transaction.get(log, before.bytes.span), LogRemoval(value) == .evicted {
                joined = LogRemoval.count(value)
            }
            if joined > 0, !(try isUrgent(first - 1, transaction)) {
                count += joined
                try transaction.delete(log, before.bytes.span)
            }
            // The next run, if it begins right behind.
            var next: (place: UInt64, count: UInt64) = (0, 0)
            let behind = NumberKey(last + 1)
            try transaction.scan(log, from: behind.bytes.span) { key, value in
                if LogRemoval(value) == .evicted, let number = NumberKey.decode(key) { next = (number, LogRemoval.count(value)) }
                return false
            }
            if next.count > 0, next.place - next.count == last, !(try isUrgent(next.place, transaction)) {
                (place, count) = (next.place, count + next.count)
            }
        }
        let mark = LogRemoval.evicted.bytes(count: UInt32(clamping: count))
        try transaction.put(log, NumberKey(place).bytes.span, mark.span)
    }

    /// Forgets what was noted of events that every destination has passed.
    func forgetPassed(below lowest: UInt64, _ transaction: inout WriteTransaction) throws(StoreError) {
        let tables = transaction.tables
        _ = try transaction.deleteNumbers(tables.urgent, below: lowest, atMost: Limits.trimmedPerCommit)
        _ = try transaction.deleteNumbers(
            tables.stretches, below: lowest >> LogStretches.bits, atMost: Limits.trimmedPerCommit)
    }
}
