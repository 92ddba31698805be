// A bundle that runs beside the one in force: it is asked what that was asked, once the answers are out, and only how often
// it would have said something else is kept. It writes nothing. It sees people as the bundle in force has them: of the
// attributes that it has anew nothing is known.

import Activation
import Cryptography
import Formats
import Monitoring
import Platform
import Store
import Unification

/// The bundle, and what has come of it; for any number of threads.
public final class Shadow: @unchecked Sendable {
    private let lock = Lock()
    // Under `lock`.
    private var policy: Policy?
    private var live: Policy?
    private var counted = DecisionChanges()
    /// What asking it would count of a device, which nobody looks at.
    let meters = Meters()

    public init() {}

    /// Puts another in the place of the one there was, or none: counting begins anew.
    /// - Parameter live: the one in force: only what that has answered counts.
    public func replace(with next: Policy?, beside live: Policy) {
        lock.with {
            policy = next
            self.live = live
            counted = DecisionChanges()
        }
    }

    public var changes: DecisionChanges { lock.with { counted } }

    /// The bundle to ask, if the answer came from the one that it runs beside.
    func policy(beside other: Policy) -> Policy? { lock.with { live === other ? policy : nil } }

    func count(_ answer: borrowing JSONDocument, _ other: borrowing JSONDocument, by asked: Policy) {
        lock.lock()
        if policy === asked { counted.compare(answer, other) }
        lock.unlock()
    }
}

/// What one serving thread needs for it. One question of each group of requests that are answered together is put to it:
/// every question while there is time, and some where there are many.
final class ShadowQuestion {
    private let shadow: Shadow
    private var decider: Decider
    private var isKept = false
    private var policy: Policy?
    private var now: Int64 = 0
    private var body: [UInt8] = []
    private var key: [UInt8] = []
    private var answer: [UInt8] = []
    private var document = JSONDocument()
    private var other = JSONDocument()
    private var writer = JSONWriter()

    /// - Parameter serves: the device's, for caps. What the shadow would serve is served to nobody.
    init(_ shadow: Shadow, device: [UInt8], pepper: Peppers, serves: ServeCounts) {
        self.shadow = shadow
        decider = Decider(
            device: device, pepper: pepper, meters: shadow.meters, serves: serves, isObserver: true)
    }

    /// Keeps a question that was answered, until the group ends.
    /// - Parameters:
    ///   - key: of the one decision that it is about; empty for all.
    ///   - servePlace: where the answer was counted for a cap.
    func keep(
        _ policy: Policy, _ key: Span<UInt8>, _ body: Span<UInt8>, answer: Span<UInt8>, servePlace: Int?, now: Int64
    ) {
        if isKept || body.count > Limits.shadowedBytes || answer.count > Limits.shadowedBytes { return }
        guard let next = shadow.policy(beside: policy) else { return }
        isKept = true
        self.policy = next
        self.now = now
        decider.servePlace = servePlace
        ShadowQuestion.copy(body, to: &self.body)
        ShadowQuestion.copy(key, to: &self.key)
        ShadowQuestion.copy(answer, to: &self.answer)
    }

    private static func copy(_ bytes: Span<UInt8>, to place: inout [UInt8]) {
        place.removeAll(keepingCapacity: true)
        place.append(contentsOf: bytes)
    }

    /// Puts the question, over the snapshot from which it was answered.
    func ask(_ reader: borrowing Reader) {
        guard isKept, let policy else { return }
        isKept = false
        self.policy = nil
        writer.clear()
        let (body, key, answer) = (self.body, self.key, self.answer)
        if key.isEmpty {
            _ = decider.answerAll(policy, body.span, now: now, reader, into: &writer)
        } else {
            _ = decider.answer(policy, key.span, body.span, now: now, reader, into: &writer)
        }
        let text = writer.bytes
        do throws(JSONError) {
            try document.parse(answer.span)
            try other.parse(text.span)
        } catch {
            return
        }
        let (mine, theirs) = (document, other)
        shadow.count(mine, theirs, by: policy)
    }
}
