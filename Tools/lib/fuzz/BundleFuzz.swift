// What libFuzzer calls with each input; see Tools/fuzz. Any answer to a bundle is right. A crash, a hang or too much memory
// is not, nor is a bundle that is refused for no reason, or judged otherwise when it is read again or has been written as
// JSON; nor one that is taken and then stops the device that goes by it.

import Formats
import Serving
import Store
import Unification

@testable import Agent

private let loadedAt: Int64 = 1_769_860_800_000
private let pepper = Peppers(key: [UInt8](repeating: 7, count: 32))
/// What comes to a device with such a bundle.
private let events = [
    #"{"type":"track","event":"Order Completed","userId":"u-12345","anonymousId":"kiosk-1","timestamp":"2026-01-31T11:00:00Z","#
        + #""properties":{"revenue":90.5,"country":"DE","category":"shoes","product_id":"p-1","email":"a@example.org"},"#
        + #""context":{"channel":"kiosk","ip":"10.0.0.1","till":{"number":4}}}"#,
    #"{"type":"identify","userId":"u-12345","traits":{"email":"a@example.org","phone":"0171 1234567","birthday":"1990-01-01"}}"#,
    #"{"type":"track","event":"Product Viewed","userId":"u-12345","properties":{"product_id":"p-2","category":"hats"}}"#,
]

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let text = Array(input[1...])
    let (bundle, problems) = Bundle.read(text.span, loadedAt: loadedAt)
    check(problems, text)
    if bundle == nil, !problems.contains(where: { !$0.isWarning }) { stop(text, "is refused for no reason") }
    if bundle != nil, problems.contains(where: { !$0.isWarning }) { stop(text, "is taken, and something is wrong with it") }
    compareAsJSON(text, problems)
    if let bundle, input[0] & 3 == 0 { play(bundle, text) }
    return 0
}

/// What is said of it is text, and its place is in the bundle.
private func check(_ problems: [PlanProblem], _ text: [UInt8]) {
    let lines = text.count { $0 == 10 || $0 == 13 || $0 >= 0x80 }
    for problem in problems {
        if problem.message.isEmpty { stop(text, "has a problem without words") }
        if problem.position.line < 1 || problem.position.column < 1 || Int(problem.position.line) > lines + 2 {
            stop(text, "has a problem in line \(problem.position.line): \(problem.message)")
        }
    }
}

/// The same bundle in one line of JSON has the same problems, but for their places.
private func compareAsJSON(_ text: [UInt8], _ problems: [PlanProblem]) {
    do throws(YAMLError) {
        let document = try YAML.parse(text.span)
        guard document.kind(document.root) == .object else { return }
        var writer = JSONWriter()
        writer.value(document, document.root)
        let (_, others) = Bundle.read(writer.bytes.span, loadedAt: loadedAt)
        if others.map(\.message) != problems.map(\.message) {
            stop(text, "has other problems as JSON: \(problems.map(\.message)), \(others.map(\.message))")
        }
    } catch { return }
}

/// Lets a device go by the bundle, as `gatehouse simulate` does.
private func play(_ bundle: Bundle, _ text: [UInt8]) {
    do throws(StoreError) {
        let simulation = try Simulation(bundle, pepper: pepper, grantsAll: true, in: "/dev/shm", mapBytes: 16 << 20)
        var time = loadedAt
        for event in events {
            var document = JSONDocument()
            do throws(JSONError) { try document.parse(Array(event.utf8).span) } catch {
                fatalError("the events are no JSON")
            }
            time += 60_000
            try simulation.take(
                document, question: Array(#"{"context":{"targetingKey":"u-12345","channel":"kiosk"}}"#.utf8), at: time)
        }
        try simulation.finish()
    } catch {
        // A bundle may want more than a store of 16 MiB holds.
        if error == .full { return }
        stop(text, "stops a device: \(error.message)")
    }
}

private func stop(_ text: [UInt8], _ what: String) -> Never {
    fatalError("the bundle \(what): \(String(decoding: text, as: UTF8.self))")
}
