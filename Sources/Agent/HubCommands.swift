// What this device's hub has asked it to do: taken from the hub's answers, done, and told as done with a later question. It is
// in memory only, since the hub asks until it has heard that it is done.

import Formats
import Platform
import Serving
import Store

final class HubCommands {
    private let signal: LogSignal
    private let snapshots: SnapshotKeeper
    /// Makes the report, JSON; without the metrics where they do not fit.
    private let report: (borrowing Reader, _ withMetrics: Bool) -> [UInt8]

    // Of each command:
    /// When the hub has asked for it, by its clock, by which it knows it; 0: it has not, or has heard that it is done.
    private var askedAt: [UInt64] = [0, 0, 0]
    /// Of `flush`, up to which event; of `compact`, which turn of the keeper's.
    private var goals: [UInt64] = [0, 0, 0]
    /// A question has said that it is done, which the hub has heard when it answers.
    private var isTold = [false, false, false]

    init(
        signal: LogSignal, snapshots: SnapshotKeeper, report: @escaping (borrowing Reader, _ withMetrics: Bool) -> [UInt8]
    ) {
        self.signal = signal
        self.snapshots = snapshots
        self.report = report
    }

    /// Takes what the hub asks for in an answer; begins with what is not under way.
    func take(_ answer: Span<UInt8>) {
        var heard: [UInt64] = [0, 0, 0]
        var place = 0
        while let piece = Piece(answer, at: place) {
            place = piece.end
            if piece.kind == SyncPage.command,
                let (command, time) = SyncPage.command(answer.extracting(piece.start..<piece.end))
            {
                heard[command.rawValue] = time
            }
        }
        for command in DeviceCommand.allCases {
            let index = command.rawValue
            if isTold[index] { askedAt[index] = 0 }
            if heard[index] == 0 || heard[index] == askedAt[index] { continue }
            (askedAt[index], isTold[index]) = (heard[index], false)
            switch command {
            case .flush: goals[index] = signal.flush()
            case .compact: goals[index] = snapshots.compact()
            case .report: break
            }
            Log.info("the hub asks for something") { $0.field("command", String(copying: command.word.bytes)) }
        }
    }

    /// Tells what is done.
    /// - Parameters:
    ///   - settled: up to which event all destinations have what is theirs.
    ///   - reader: in a snapshot.
    func tell(_ page: inout SyncPage, settled: UInt64, _ reader: borrowing Reader) {
        for command in DeviceCommand.allCases where askedAt[command.rawValue] != 0 {
            let goal = goals[command.rawValue]
            let isDone = command == .flush ? settled >= goal : command == .report || snapshots.hasCompacted(goal)
            if !isDone { continue }
            var text: [UInt8] = []
            if command == .report {
                text = report(reader, true)
                // A hub that takes little is told the rest.
                if text.count > min(Limits.reportBytes, page.most / 2) { text = report(reader, false) }
            }
            page.add(SyncPage.done, command, askedAt: askedAt[command.rawValue], text)
            isTold[command.rawValue] = true
        }
    }
}
