// What libFuzzer calls with each input; see Tools/fuzz. Any answer to a body or to headers is right. A crash, a hang or too
// much memory is not, nor is a translation that the pipeline could not read: one that is no JSON, lies too deep, or is no
// event, and yet was not refused.
//
// The first byte chooses the content mode. In binary mode the rest is lines: `name: value`, an empty one, and the body.
//
// Rooms: Formats, Platform, Cryptography, Store, Governance and Collection, in this order; C: CYAML, CZlib, CPlatform,
// CMbedTLS and CLMDB, linked with -lyaml -lz -llmdb -lmbedtls -lmbedx509 -lmbedcrypto. Inputs of up to 900 bytes are enough.

import Collection
import Formats

nonisolated(unsafe) private var events = CloudEvents()
nonisolated(unsafe) private var incoming = JSONDocument()
nonisolated(unsafe) private var outgoing = JSONDocument()

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let rest = Array(input[1...])
    switch input[0] % 3 {
    case 0: takeStructured(rest)
    case 1: takeBatch(rest)
    default: takeBinary(rest)
    }
    return 0
}

private func takeStructured(_ body: [UInt8]) {
    guard (try? incoming.parse(body.span, maximumDepth: CloudEvents.structuredDepth)) != nil else { return }
    events.takeStructured(incoming)
    checkSingle()
    // The same event among others fares no other way.
    let alone = events.output.bytes
    let isRefused = !events.refused.isEmpty
    let list = Array("[7,".utf8) + body + Array(",{}]".utf8)
    guard (try? incoming.parse(list.span, maximumDepth: CloudEvents.batchDepth)) != nil else { return }
    events.takeBatch(incoming)
    checkBatch()
    if events.refused.count != (isRefused ? 3 : 2) { stop("another answer in a batch", body) }
    let together = Array(#"{"batch":["#.utf8) + alone + Array("]}".utf8)
    if events.output.bytes != together { stop("another message in a batch", body) }
}

private func takeBatch(_ body: [UInt8]) {
    guard (try? incoming.parse(body.span, maximumDepth: CloudEvents.batchDepth)) != nil,
        incoming.kind(incoming.root) == .array
    else { return }
    events.takeBatch(incoming)
    checkBatch()
}

private func takeBinary(_ text: [UInt8]) {
    events.beginBinary()
    var rest = text[...]
    while let end = rest.firstIndex(of: 10) {
        let line = rest[..<end]
        rest = rest[(end + 1)...]
        if line.isEmpty { break }
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { continue }
        let name = Array(line[..<colon])
        let value = Array(line[(colon + 1)...].drop { $0 == 32 })
        events.takeHeader(name.span, value.span)
    }
    let body = Array(rest)
    events.takeBody(body.span)
    checkSingle()
}

private func checkSingle() {
    let output = events.output.bytes
    if output.isEmpty != (events.refused.count == 1) { stop("neither taken nor refused", output) }
    if output.isEmpty { return checkRefusals() }
    guard (try? outgoing.parse(output.span, maximumDepth: CollectionLimits.eventDepth)) != nil else {
        stop("not what the pipeline reads", output)
    }
    checkMessage(outgoing.root, output)
}

private func checkBatch() {
    let output = events.output.bytes
    guard (try? outgoing.parse(output.span, maximumDepth: CloudEvents.outputDepth)) != nil,
        let list = outgoing.member(outgoing.root, "batch")
    else { stop("not what the pipeline reads", output) }
    if outgoing.count(list) + events.refused.count != incoming.count(incoming.root) { stop("events are lost", output) }
    var next = outgoing.firstChild(list)
    while let message = next {
        checkMessage(message, output)
        next = outgoing.next(message)
    }
    for index in events.refused.indices.dropFirst() where events.refused[index - 1].index >= events.refused[index].index {
        stop("refused twice", output)
    }
    checkRefusals()
}

/// A message of our own making is an event; one that was taken as it is may be refused by the pipeline, but has an id.
private func checkMessage(_ message: JSONNode, _ output: [UInt8]) {
    guard let context = outgoing.member(message, "context"), outgoing.member(message, "messageId") != nil else {
        stop("a message without context or id", output)
    }
    if outgoing.source(message).count > CollectionLimits.eventBytes { stop("a message of more than 32 KiB", output) }
    guard let name = outgoing.member(message, "event"), let origin = outgoing.member(context, "cloudevents"),
        let type = outgoing.member(origin, "type"), outgoing.equals(type, outgoing.bytes(name))
    else { return }
    let event = try? Event(outgoing, message, type: nil, sentAt: nil, receivedAt: 0)
    if event == nil, outgoing.member(message, "type").map({ outgoing.equals($0, "track") }) == true,
        !isMessage(outgoing.bytes(type))
    {
        stop("a message that is no event", output)
    }
}

/// Whether data could have been taken as a message of the tracking API under this type.
private func isMessage(_ type: Span<UInt8>) -> Bool {
    var start = type.count
    while start > 0, type[start - 1] != UInt8(ascii: ".") { start -= 1 }
    return EventType(type.extracting(start..<type.count)) != nil
}

/// What is said of a refusal is text that can be sent.
private func checkRefusals() {
    for refused in events.refused {
        let member = refused.member
        if UTF8Text.firstInvalid(member.span) != nil || member.count > CollectionLimits.attributeNameBytes + 12 {
            stop("a member that cannot be told", member)
        }
    }
}

private func stop(_ what: String, _ bytes: [UInt8]) -> Never {
    fatalError("\(what): \(String(decoding: bytes, as: UTF8.self))")
}
