// Shows that no limit of the house is without a test that reaches it: each constant of every Limits.swift, and each setting
// of `limits:`, is named by a line `// limit: Room.name` above such a test (`# limit:` in the end-to-end tests), or stands
// below with the reason why there is nothing to reach. Names that are gone are found, too.

import Foundation
import Testing

@Suite struct LimitsTests {
    /// Room and names that nobody can run into: they cost time or memory and change no answer, or something smaller is
    /// always reached first.
    static let nothingToReach = """
        Activation answersKept answerKeptBytes: how much is kept to answer sooner; DeciderTests shows that it stays small
        Activation graceMilliseconds goalMilliseconds: what holds where the bundle says nothing
        Activation modelFeatures: a model that has more has too many nodes or terms before
        Activation servePlaces: how rarely two people share a place
        Agent pagesPerEvent pagesInPlenty: with what an event is reckoned while room is short
        Agent eventsPerCommit evictedPerCommit trimmedPerCommit erasureStep mergedPerCommit: steps; the next goes on
        Agent recomputedPerStep recomputedPerFullStep timersPerCommit recordsPerCommit lastRecordCommits trimmedAtOnce: steps; the next goes on
        Agent simulatedSweepMilliseconds: the pace of a simulation's sweep
        Agent simulatedReasons: no bundle has so many
        Agent audienceHorizonSeconds: how far is looked ahead; then it is looked again
        Agent historyBytes: what holds where the configuration says nothing
        Agent simulatedReasons simulatedSweepMilliseconds: what a simulation tells one by one, and how often it sweeps
        Agent rotationMilliseconds: what holds where the configuration says nothing
        Agent clockIsSetMilliseconds: what a clock says that nobody has set
        Agent sweptPerStep purgedBytesPerStep sweepStepNanoseconds: steps of the sweep
        Agent sweepPauseMilliseconds sweepRestMilliseconds checkedBytesPerStep rowsRestNanoseconds: its pace
        Agent memoryLookMilliseconds memoryRushMilliseconds memoryHopelessMilliseconds: how often memory is looked at
        Agent pokeMilliseconds: how often threads are looked at
        Agent restMilliseconds restingPages: when memory is given back
        Agent shedNanoseconds: for how long is told what was
        Agent sampledForEviction evictedAtOnce: how those who go are found
        Agent releasedPerCall: quarantine holds no more
        Agent writerIdleMilliseconds: how often the writer looks at the clock
        Agent retriedAfterNanoseconds: how often it is looked whether there is room again
        Agent keptHeadBytes: what stands there is bounded by the others
        Agent defaultPollMilliseconds: what holds where the configuration says nothing
        Agent firstFetchPauseMilliseconds firstPollMilliseconds: how soon is asked
        Agent selfTestMilliseconds selfTestStoreBytes: what the events of a self-test come to is less
        Agent probationMilliseconds probationLookMilliseconds: for how long and how often is looked
        Agent firstSnapshotMilliseconds leastCompactedBytes: when a copy of the store is worth its while
        Agent asideMilliseconds: how long what is of no use any more stays
        Agent standInBytes: what is in it is always the same
        Agent syncMilliseconds: what holds where the configuration says nothing
        Agent syncAnswerBytes: more than a hub answers
        Agent refusalBytes: what is longer is cut in the log
        Agent askMilliseconds answerBytes: several times what the agent needs for its longest and largest answer
        CEL indexedExpressions foldedBytes: from where on something is quicker
        CEL slots: sixteen times what a bundle's attributes, purposes and audiences come to; beyond it a condition is slower
        Collection keptBufferBytes: what a buffer keeps between two requests
        Collection schemaPairwiseItems schemaNamesLookedUp: from where on another way is quicker
        Collection freshnessMilliseconds driftMilliseconds driftRecordsPerCommit: how often what was observed is written
        Collection driftSampling driftLearningEvents driftMissingEvents: when something counts as usual
        Delivery defaultBatchEvents defaultBatchBytes defaultDelayMilliseconds: what holds where the bundle says nothing
        Delivery requestOverheadBytes: with what a request is reckoned
        Delivery purposes: all that a bundle may have
        Delivery readBytes idleBufferBytes idleMilliseconds: buffers, and how often the sender looks around
        Formats jsonChildren jsonValues: a text that may be read has no room for so many
        Formats pairwiseKeys: from where on another way is quicker
        Platform niceness sliceNanoseconds: PlatformTests shows that they are set
        Platform logSpanNanoseconds: the span that logLinesPerSpan is about
        Serving traceNanoseconds: when nobody looks any more
        Serving tracedAnswerBytes: what is left out of a line
        Agent cursorNanoseconds cursorsUnderWay: how often a cursor is written while a backlog drains
        Agent commitPauseMilliseconds longestCommitPauseMilliseconds: pauses while nothing can be committed
        Serving readBytes outputBytes recordBytes: buffers
        Serving acceptsPerTurn timerNanoseconds: turns of the loop
        Serving reportedPerSnapshot: a part; the next goes on
        Serving pooledSubmissionBytes pooledSubmissions pooledEvents preparerBytes: what is kept for reuse
        Serving preparedNodeBytes preparedAtOnceBytes: how work is weighed, and which thread does it
        Serving recordsBeforeWaking: when the writer is woken
        Store tables: the list of tables is the house's own
        Store copiedPagesPerCommit copiedCommitsPerSync pagesPerHole partNanoseconds: steps of a copy, and of giving back
        Store lockBytes: what LMDB makes of it itself
        Store largestValueBytes: nothing is as large of what is looked for in a file
        Unification linksMovedAtOnce: an identifier with more is nobody's by then, and begins anew
        Unification rememberedAttributes: of attributes that no bundle has any more, twice as many as one can have
        gatehouse deviceLooks deviceLookMilliseconds diskPauseMilliseconds: how often and how long a box looks for a device
        gatehouse restartPauseMilliseconds stopLooks stopLookMilliseconds settledMilliseconds: its pauses
        gatehouse shownBytes: longer values are named and not shown
        gatehouse watchMilliseconds traceMilliseconds: how often is looked
        gatehouse doctorMilliseconds doctorTries: how long a hanging agent is waited for
        """

    /// `Room.name` of each constant, and `limits.name` of each setting.
    static let all: Set<String> = {
        var names: Set<String> = []
        for source in HouseTests.sources where source.name == "Limits.swift" {
            for line in source.lines {
                let words = line.split(whereSeparator: { " :=".contains($0) })
                guard let at = words.firstIndex(of: "let"), at > 0, words[at - 1] == "static" else { continue }
                if words[0] != "private" { names.insert("\(source.room).\(words[at + 1])") }
            }
        }
        for source in HouseTests.sources where source.room == "Agent" && source.name == "Configuration.swift" {
            for line in source.lines where line.contains("of: \"limits\"") {
                // ["disk", "memory", …], of: "limits"
                let list = line.split(separator: "[")[1].split(separator: "]")[0]
                for name in list.split(whereSeparator: { "\", ".contains($0) }) { names.insert("limits.\(name)") }
            }
        }
        return names
    }()

    /// What the tests say that they reach.
    static let reached: Set<String> = {
        var names: Set<String> = []
        let files = FileManager.default.enumerator(
            at: HouseTests.top.appendingPathComponent("Tests"), includingPropertiesForKeys: nil)!
        for case let file as URL in files where ["swift", "py"].contains(file.pathExtension) {
            let text = try! String(contentsOf: file, encoding: .utf8)
            for line in text.split(separator: "\n") {
                let content = line.drop(while: { $0 == " " })
                for mark in ["// limit: ", "# limit: "] where content.hasPrefix(mark) {
                    names.formUnion(content.dropFirst(mark.count).components(separatedBy: ", "))
                }
            }
        }
        return names
    }()

    static let unreachable: Set<String> = {
        var names: Set<String> = []
        for line in nothingToReach.split(separator: "\n") {
            let words = line.prefix { $0 != ":" }.split(separator: " ")
            for name in words.dropFirst() { names.insert("\(words[0]).\(name)") }
        }
        return names
    }()

    @Test func everyLimitIsReachedOrSaysWhyNot() {
        #expect(Self.all.count > 150)
        let missing = Self.all.subtracting(Self.reached).subtracting(Self.unreachable).sorted()
        #expect(missing == [], "no test says that it reaches them")
    }

    @Test func everyNameIsALimitAndStandsInOnePlace() {
        #expect(Self.reached.union(Self.unreachable).subtracting(Self.all).sorted() == [], "there are no such limits")
        #expect(Self.reached.intersection(Self.unreachable).sorted() == [], "reached, and said to be out of reach")
    }
}
