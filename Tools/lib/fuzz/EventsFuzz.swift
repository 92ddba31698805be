// What libFuzzer calls with each input; see Tools/fuzz. Any answer to a body of the tracking API is right. A crash, a hang
// or too much memory is not, nor is an identifier in what is kept (promise P3), nodes of it that are others than its text
// would be parsed into, an event that fares otherwise in a batch than by itself, or one that the accounts do not tell of
// (promise P7).
//
// The first byte chooses the route, and whether the event goes through the whole pipeline.

import Collection
import Serving
import Store

@testable import Agent
@testable import Formats
@testable import Unification

private let pepper = Peppers(key: [UInt8](repeating: 7, count: 32))
nonisolated(unsafe) private var preparer = EventPreparer(PlanHolder(plan.plans), pepper: pepper)
nonisolated(unsafe) private var room = NormalizedIdentifier()
nonisolated(unsafe) private var simulation: Simulation?
/// Events that the simulation under way has been given; its store shall not fill up.
nonisolated(unsafe) private var played = 0

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let text = Array(input[1...])
    let routes: [EventType?] = [nil, .track, .identify, .page, .screen, .group, .alias, nil]
    let type = routes[Int(input[0] & 7)]
    guard let submission = prepare(text, type: type, isBatch: type == nil) else { return 0 }
    check(submission, text)
    checkNodes(submission.document, text)
    if type == nil { checkAlone(submission, text) } else if input[0] & 0x38 == 0 { play(text) }
    return 0
}

/// As a request: read with the limits of the route, and prepared. nil for what is refused as a whole.
private func prepare(_ text: [UInt8], type: EventType?, isBatch: Bool) -> Submission? {
    let submission = Submission()
    submission.type = type
    submission.isBatch = isBatch
    submission.receivedAt = noon
    do throws(JSONError) {
        try submission.document.parse(
            text.span, maximumDepth: CollectionLimits.eventDepth, maximumValues: CollectionLimits.bodyValues)
    } catch { return nil }
    guard submission.document.kind(submission.document.root) == .object else { return nil }
    if isBatch, submission.batch(in: submission.document) == nil { return nil }
    preparer.prepare(submission)
    return submission
}

private func parsed(_ text: [UInt8]) -> JSONDocument {
    var document = JSONDocument()
    do throws(JSONError) { try document.parse(text.span) } catch { stop(text, "is no JSON the second time") }
    return document
}

/// What is kept of an event, as text.
private func kept(_ submission: Submission, _ event: PreparedEvent) -> [UInt8] {
    if event.refusal != nil { return [] }
    var writer = JSONWriter()
    writer.value(submission.document, event.root)
    return writer.bytes
}

private func checkNodes(_ document: borrowing JSONDocument, _ text: [UInt8]) {
    let again = parsed(Array(copying: document.source(document.root)))
    let areSame = document.nodes.elementsEqual(again.nodes) { left, right in
        left.head == right.head && left.offset == right.offset && left.length == right.length && left.next == right.next
    }
    if !areSame || document.text != again.text { stop(text, "is kept as other nodes than its text has") }
}

// MARK: Identifiers

/// Holds each event that was taken against the identifiers that it came with.
private func check(_ submission: Submission, _ text: [UInt8]) {
    let came = parsed(text)
    var node: JSONNode? = came.root
    if submission.isBatch { node = came.member(came.root, "batch").flatMap { came.firstChild($0) } }
    for event in submission.events {
        guard let message = node else { stop(text, "has more events than it came with") }
        node = submission.isBatch ? came.next(message) : nil
        if event.refusal != nil { continue }
        if event.identifiers.isEmpty { stop(text, "has an event that is nobody's") }
        for (name, kind) in [("userId", "user_id"), ("anonymousId", "device")] as [(StaticString, String)] {
            guard let raw = came.member(message, name), came.kind(raw) == .string else { continue }
            let value = Array(copying: came.bytes(raw))
            if isSought(value, kind), occurs(value, submission.document, event.root) {
                stop(text, "is kept with its \(name)")
            }
        }
    }
    if node != nil { stop(text, "has lost an event") }
}

/// Whether a value is one that is looked for everywhere: not so short that it may be chance, and somebody's. Of what URLs
/// leave as it is (RFC 3986 section 2.3), so that it has one spelling.
private func isSought(_ value: [UInt8], _ kind: String) -> Bool {
    for byte in value {
        let isLetter = loweredASCII(byte) >= 0x61 && loweredASCII(byte) <= 0x7A
        if !isLetter, !isDigit(byte), !"-._~".utf8.contains(byte) { return false }
    }
    if value.count < 5 { return false }
    let identifiers = plan.policy.identifiers
    guard let index = identifiers.kindIndex(named: Array(kind.utf8).span) else { fatalError("the plan has no \(kind)") }
    return identifiers.hash(RawIdentifier(value.span), kindIndex: index, pepper: pepper, using: &room) != nil
}

/// Whether a value occurs in what people have written into an event: not in the names and the time that are written here.
private func occurs(_ value: [UInt8], _ document: borrowing JSONDocument, _ root: JSONNode) -> Bool {
    let value = value.map(loweredASCII)
    var key = document.firstChild(root)
    while let name = key, let member = document.next(name) {
        key = document.next(member)
        if document.equals(name, "type") || document.equals(name, "timestamp") { continue }
        if occursBelow(value, document, member) { return true }
    }
    return false
}

private func occursBelow(_ value: [UInt8], _ document: borrowing JSONDocument, _ node: JSONNode) -> Bool {
    if document.kind(node) == .string {
        if document.equals(node, "[redacted]") { return false }
        let text = Array(copying: document.bytes(node)).map(loweredASCII)
        var start = 0
        while start + value.count <= text.count {
            if text[start..<start + value.count].elementsEqual(value) { return true }
            start += 1
        }
        return false
    }
    // The keys of an object are among its children.
    var child = document.firstChild(node)
    while let next = child {
        if occursBelow(value, document, next) { return true }
        child = document.next(next)
    }
    return false
}

// MARK: Two ways

/// What is kept of an event of a batch, and why it is not, is the same when it comes alone.
private func checkAlone(_ submission: Submission, _ text: [UInt8]) {
    let came = parsed(text)
    guard let list = came.member(came.root, "batch"), came.member(came.root, "context") == nil,
        came.member(came.root, "integrations") == nil, came.member(came.root, "sentAt") == nil
    else { return }
    var node = came.firstChild(list)
    for event in submission.events {
        guard let message = node else { return }
        node = came.next(message)
        guard came.kind(message) == .object, let type = came.member(message, "type"), came.kind(type) == .string,
            let type = EventType(came.bytes(type)),
            let alone = prepare(Array(copying: came.source(message)), type: type, isBatch: false)
        else { continue }
        guard let other = alone.events.first else { stop(text, "has an event that is lost when it comes alone") }
        if kept(submission, event) != kept(alone, other) { stop(text, "has an event that is another when it comes alone") }
        let reasons = (
            event.refusal.map { submission.refusals[$0].code.description },
            other.refusal.map { alone.refusals[$0].code.description }
        )
        if reasons.0 != reasons.1 { stop(text, "has an event that is refused otherwise when it comes alone: \(reasons)") }
        if event.isInvalid != other.isInvalid || event.timestamp != other.timestamp || event.rule != other.rule {
            stop(text, "has an event that counts otherwise when it comes alone")
        }
    }
}

// MARK: The pipeline

/// Lets an event go through the pipeline into a store, and holds the accounts against what went in.
private func play(_ text: [UInt8]) {
    do throws(StoreError) {
        if simulation == nil || played == 2000 {
            simulation = try Simulation(plan, pepper: pepper, grantsAll: true, in: folder, mapBytes: 64 << 20)
            played = 0
        }
        guard let simulation else { return }
        played += 1
        try simulation.take(
            parsed(text), question: Array(#"{"context":{"targetingKey":"u"}}"#.utf8), at: noon + Int64(played))
        var writer = JSONWriter()
        writer.beginObject()
        simulation.writeAccounts(to: &writer)
        writer.endObject()
        let accounts = parsed(writer.bytes)
        guard let events = accounts.member(accounts.root, "events") else { stop(text, "leaves no accounts") }
        var (received, sum): (Int64, Int64) = (0, 0)
        var key = accounts.firstChild(events)
        while let name = key, let value = accounts.next(name) {
            key = accounts.next(value)
            let number = accounts.int64(value) ?? -1
            if accounts.equals(name, "received") { received = number } else { sum += number }
        }
        if received != sum || received != Int64(played) { stop(text, "leaves accounts of \(received) that are \(sum)") }
    } catch { fatalError("the store fails: \(error.message)") }
}

private func stop(_ text: [UInt8], _ what: String) -> Never {
    fatalError("the body \(what): \(String(decoding: text, as: UTF8.self))")
}
