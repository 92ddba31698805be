// What this device's hub has asked it to do: taken from the hub's answers, done, and told as done with a later question. It is
// in memory only, since the hub asks until it has heard that it is done.

import Formats
import Platform
import Serving
import Store

struct HubCommands {
    private let signal: LogSignal
    private let snapshots: SnapshotKeeper
    private let bundles: BundleHolder
    /// Makes the report, JSON; without the metrics where they do not fit.
    private let report: (borrowing Reader, _ withMetrics: Bool) -> [UInt8]

    /// What is to be done, or told as done.
    private struct Order {
        var command: DeviceCommand
        /// The hub's time, by which it knows it.
        var askedAt: UInt64
        /// Of `flush`, up to which event; of `compact`, which turn of the keeper's.
        var goal: UInt64 = 0
        var isDone = false
        /// Whether a question has said so; the hub has heard it when it answers.
        var isTold = false
    }
    private var orders: [Order] = []

    init(
        signal: LogSignal, snapshots: SnapshotKeeper, bundles: BundleHolder,
        report: @escaping (borrowing Reader, _ withMetrics: Bool) -> [UInt8]
    ) {
        self.signal = signal
        self.snapshots = snapshots
        self.bundles = bundles
        self.report = report
    }

    /// Takes what the hub asks for in an answer, which has heard what was told; begins with what is not under way.
    mutating func take(_ answer: Span<UInt8>) {
        orders.removeAll { $0.isTold }
        var place = 0
        var asked: [UInt64] = [0, 0, 0]
        while let piece = Piece(answer, at: place) {
            place = piece.end
            if piece.kind == SyncPage.command,
                let (command, askedAt) = SyncPage.command(answer.extracting(piece.start..<piece.end))
            {
                asked[command.rawValue] = askedAt
            }
        }
        for command in DeviceCommand.allCases where asked[command.rawValue] != 0 {
            let askedAt = asked[command.rawValue]
            if orders.contains(where: { $0.command == command && $0.askedAt == askedAt }) { continue }
            orders.removeAll { $0.command == command }
            var order = Order(command: command, askedAt: askedAt)
            switch command {
            case .flush: order.goal = signal.flush()
            case .compact: order.goal = UInt64(snapshots.compact())
            case .report: order.isDone = true
            }
            Log.info("the hub asks for something") { $0.field("command", String(copying: command.word.bytes)) }
            orders.append(order)
        }
    }

    /// Looks what has been done meanwhile.
    /// - Returns: whether there is something to be told.
    mutating func look(_ reader: inout Reader) throws(StoreError) -> Bool {
        var hasNews = false
        for index in orders.indices {
            if !orders[index].isDone { orders[index].isDone = try isDone(orders[index], &reader) }
            // After a question that came to nothing the next one is made when it is time.
            if orders[index].isDone, !orders[index].isTold { hasNews = true }
        }
        return hasNews
    }

    private func isDone(_ order: Order, _ reader: inout Reader) throws(StoreError) -> Bool {
        if order.command == .compact { return snapshots.hasCompacted(Int(clamping: order.goal)) }
        try reader.begin()
        defer { reader.end() }
        for entry in bundles.current.destinations where !entry.destination.isFallbackOnly {
            if let ledger = try DestinationLedger(reader, name: entry.destination.name), ledger.cursor < order.goal { return false }
        }
        return true
    }

    /// Tells what is done.
    /// - Parameter reader: in a snapshot.
    mutating func tell(_ page: inout SyncPage, _ reader: borrowing Reader) {
        for index in orders.indices where orders[index].isDone {
            let order = orders[index]
            var text: [UInt8] = []
            if order.command == .report {
                text = report(reader, true)
                // A hub that takes little is told the rest.
                if text.count > min(Limits.reportBytes, page.most / 2) { text = report(reader, false) }
            }
            page.add(SyncPage.done, order.command, askedAt: order.askedAt, text)
            orders[index].isTold = true
        }
    }
}
