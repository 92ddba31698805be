// A destination of a simulated device: what takes its requests as they would arrive, behind a network that loses, repeats
// and delays them. It unpacks and reads them as any collector does, drops what it has had by (device, epoch, seq), and notes
// the order in which things came first.

import Delivery
import Formats
import Platform

/// A message as a destination has it.
struct Received {
    let messageID: String
    let event: String
    /// The event's number and its person's, as the client gave them; 0 and -1 for what the device has made.
    let number: Int
    let person: Int
    /// Which life of an erased person it is of.
    let life: Int
    let isUrgent: Bool
    let epoch: UInt64
    let sequence: UInt64
}

/// The number of a message in the whole fleet.
struct Place: Hashable {
    let epoch: UInt64
    let sequence: UInt64
}

final class Hub {
    let name: String
    var weather = Weather.up
    /// It has refused some events for good.
    var wasPicky = false
    var random = SeededRandom(seed: 1)
    private var inflater = Inflater()
    private var text: [UInt8] = []
    private var document = JSONDocument()
    /// All that came, by its place.
    private(set) var received: [Place: Received] = [:]
    /// Of each event's number, the places at which it came.
    private(set) var places: [Int: [Place]] = [:]
    private var last: (urgent: Place, batch: Place) = (Place(epoch: 0, sequence: 0), Place(epoch: 0, sequence: 0))
    /// Copies of requests that are still on their way.
    private var late: [[UInt8]] = []
    private(set) var firedTriggers: [Int: Int] = [:]
    private(set) var notices = 0
    private(set) var requests = 0

    init(_ name: String) { self.name = name }

    private func happens(_ percent: UInt64) -> Bool { random.next(below: 100) < percent }

    /// Takes a request through the network.
    /// - Parameter look: called with each message that is sent just now.
    func post(_ body: [UInt8], _ world: World, _ look: (Received) -> Void) -> DeliveryResult {
        requests += 1
        let lost = DeliveryResult.unreachable(TransportFailure(stage: .receive, message: "no answer"))
        switch weather {
        case .down: return .unreachable(TransportFailure(stage: .connect, message: "nobody answers"))
        case .lossy:
            if !late.isEmpty, happens(30) { take(late.removeFirst(), world, isLate: true) }
            if happens(15) { return .unreachable(TransportFailure(stage: .send, message: "the connection ended")) }
            if happens(10) {
                // It arrives after the sender has given up.
                late.append(body)
                return lost
            }
        case .busy:
            if happens(20) { return DeliveryResult(status: 500, retryAfterMilliseconds: nil) }
            let pause = 1000 * Int64(random.next(below: 600))
            if happens(20) { return DeliveryResult(status: 429, retryAfterMilliseconds: pause) }
            if happens(10) { return DeliveryResult(status: 503, retryAfterMilliseconds: nil) }
        case .up, .narrow, .picky: break
        }
        let messages = read(body, world)
        if weather == .narrow, messages.count > 5 { return .tooLarge }
        if weather == .picky, messages.contains(where: { $0.number % 17 == 13 && $0.number > 0 }) { return .rejected(400) }
        for message in messages { look(message) }
        take(body, world, isLate: false)
        if weather == .lossy {
            if happens(10) { take(body, world, isLate: true) }
            if happens(15) { return lost }
        }
        return .delivered(200)
    }

    private func take(_ body: [UInt8], _ world: World, isLate: Bool) {
        for message in read(body, world) {
            let place = Place(epoch: message.epoch, sequence: message.sequence)
            if let known = received[place] {
                if known.messageID != message.messageID {
                    world.fail("P2", "\(name): two messages have the number \(place.sequence) of one epoch")
                }
                continue
            }
            // What its sender has given up may come at any time, also with events that did not go again.
            if world.isShowing { print("\(name): number \(place.sequence), \(message.event) of person \(message.person)") }
            if !isLate { order(message, place, world) }
            received[place] = message
            if message.number > 0, message.event != "Trigger Fired" { places[message.number, default: []].append(place) }
            if message.event == "Trigger Fired" { firedTriggers[message.person, default: 0] += 1 }
            if message.event == "User Erased" { notices += 1 }
        }
    }

    private func order(_ message: Received, _ place: Place, _ world: World) {
        // What could not be noted is sent again, and somebody may have granted something since. Others grant all for good. Whom a
        // decision was about it does not say.
        if !History.steady.contains(message.person), message.person >= 0 || message.event == "Decision Made" { return }
        let before = message.isUrgent ? last.urgent : last.batch
        if before.epoch == place.epoch, before.sequence > place.sequence {
            world.fail(
                "P2",
                "\(name): number \(place.sequence) (\(message.event)) came first after \(before.sequence), out of order")
        }
        if message.isUrgent { last.urgent = place } else { last.batch = place }
    }

    private func read(_ body: [UInt8], _ world: World) -> [Received] {
        text.removeAll(keepingCapacity: true)
        do throws(GzipError) { try inflater.inflate(body.span, limit: 4 << 20, appendingTo: &text) } catch {
            world.fail("P2", "\(name): a body is not whole gzip data")
            return []
        }
        if world.holdsRaw(text) { world.fail("P3", "\(name): a raw identifier left the device") }
        let bytes = text
        do throws(JSONError) { try document.parse(bytes.span) } catch {
            world.fail("P2", "\(name): a body is no JSON")
            return []
        }
        guard let batch = document.member(document.root, "batch") else { return [] }
        var messages: [Received] = []
        var child = document.firstChild(batch)
        while let node = child {
            child = document.next(node)
            guard let message = read(node) else {
                world.fail("P2", "\(name): a message has no messageId or no origin")
                continue
            }
            messages.append(message)
        }
        return messages
    }

    private func read(_ node: JSONNode) -> Received? {
        guard let id = document.member(node, "messageId").flatMap({ document.string($0) }),
            let context = document.member(node, "context"), let origin = document.member(context, "gatehouse"),
            let epoch = document.member(origin, "epoch").flatMap({ document.int64($0) }),
            let sequence = document.member(origin, "seq").flatMap({ document.int64($0) })
        else { return nil }
        let event = document.member(node, "event").flatMap { document.string($0) } ?? ""
        let properties = document.member(node, "properties") ?? document.member(node, "traits")
        func number(_ name: StaticString, or other: Int) -> Int {
            properties.flatMap { document.member($0, name) }.flatMap { document.int64($0) }.map { Int($0) } ?? other
        }
        return Received(
            messageID: id, event: event, number: number("number", or: 0), person: number("person", or: -1),
            life: number("life", or: 0),
            isUrgent: event == "Order Completed" || event == "Trigger Fired" || event == "User Erased",
            epoch: UInt64(epoch), sequence: UInt64(sequence))
    }
}

/// The way to one destination.
final class Way: Transport {
    private let hub: Hub
    private unowned let world: World

    init(_ hub: Hub, _ world: World) { (self.hub, self.world) = (hub, world) }

    func post(_ body: Span<UInt8>, format: WireFormat, head: [UInt8], meanwhile: () -> Void) -> DeliveryResult {
        // A ghost's words reach nobody.
        if world.isCut { return .unreachable(TransportFailure(stage: .connect, message: "no power")) }
        let result = hub.post([UInt8](copying: body), world) { message in world.sees(message, at: hub) }
        world.pass(milliseconds: 20)
        meanwhile()
        return result
    }

    func rest() {}
}
