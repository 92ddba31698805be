// Holds the answers of one bundle against those of another to the same questions, and counts where they differ. It need not
// know who asked, nor when. An answer is what `Decider` writes: an OFREP flag, or a list of them.

import Formats
import Monitoring

public struct DecisionChanges {
    public struct Row {
        public let key: [UInt8]
        public fileprivate(set) var same: UInt64 = 0
        public fileprivate(set) var different: UInt64 = 0
        /// What became of what, such as `ten → none`.
        public fileprivate(set) var changes = Tally(limit: Limits.changesPerDecision)
    }

    public private(set) var rows: [Row] = []
    /// Flags of the last answer that differ, and those of the other one.
    public private(set) var differing: [(flag: JSONNode, other: JSONNode?)] = []
    /// Where the next key is likely to be: answers come in the same order each time.
    private var next = 0

    public init() {}

    /// What a flag serves: its variant, or why there is none; `-` where there is no such flag.
    @inline(never)
    public static func name(_ document: borrowing JSONDocument, _ flag: JSONNode?) -> [UInt8] {
        guard let flag, let node = document.member(flag, "variant") ?? document.member(flag, "errorCode") else {
            return [UInt8(ascii: "-")]
        }
        return [UInt8](copying: document.bytes(node))
    }

    /// The flag of a key in an answer.
    static func find(_ key: Span<UInt8>, in document: borrowing JSONDocument) -> JSONNode? {
        guard let list = document.member(document.root, "flags") else {
            // The answer to a question for one flag.
            guard let name = document.member(document.root, "key"), document.equals(name, key) else { return nil }
            return document.root
        }
        var flag = document.firstChild(list)
        while let node = flag {
            if let name = document.member(node, "key"), document.equals(name, key) { return node }
            flag = document.next(node)
        }
        return nil
    }

    private static func value(_ document: borrowing JSONDocument, _ flag: JSONNode?) -> [UInt8] {
        guard let flag, let node = document.member(flag, "value") else { return [] }
        return [UInt8](copying: document.source(node))
    }

    /// Counts an answer.
    /// - Parameter words: what is served, or what became of what.
    public mutating func add(_ key: Span<UInt8>, _ words: [UInt8], isSame: Bool) {
        if next >= rows.count || !isAbout(key, next) {
            next = 0
            while next < rows.count, !isAbout(key, next) { next += 1 }
            if next == rows.count { rows.append(Row(key: [UInt8](copying: key))) }
        }
        if isSame {
            rows[next].same += 1
        } else {
            rows[next].different += 1
            rows[next].changes.add(words)
        }
        next += 1
    }

    private func isAbout(_ key: Span<UInt8>, _ row: Int) -> Bool {
        let known = rows[row].key
        return equal(known.span, key)
    }

    /// Holds each flag of an answer against the other bundle's, and counts it. They serve the same when the variant is the
    /// same by name, and the value to the byte. What differs is in `differing` afterwards.
    /// - Parameter isReversed: `other` is what there was before.
    public mutating func compare(
        _ answer: borrowing JSONDocument, _ other: borrowing JSONDocument, isReversed: Bool = false
    ) {
        differing.removeAll(keepingCapacity: true)
        let list = answer.member(answer.root, "flags")
        var flag = list == nil ? answer.root : answer.firstChild(list!)
        while let node = flag {
            flag = list == nil ? nil : answer.next(node)
            guard let key = answer.member(node, "key") else { continue }
            let theirs = DecisionChanges.find(answer.bytes(key), in: other)
            var (words, end) = (DecisionChanges.name(answer, node), DecisionChanges.name(other, theirs))
            let isSame = words == end && DecisionChanges.value(answer, node) == DecisionChanges.value(other, theirs)
            if !isSame {
                differing.append((node, theirs))
                if isReversed { swap(&words, &end) }
                words.append(contentsOf: (" → " as StaticString).bytes)
                words += end
            }
            add(answer.bytes(key), words, isSame: isSame)
        }
    }
}
