// Events whose person has not yet chosen: they wait in memory, and nowhere else, until a choice admits or denies them,
// their time is up, or room is needed. A restart denies them: nothing of them may be on a disk (promise P4).

import Collection
import Cryptography
import Store
import Unification

/// One event that waits, as it would be kept: without raw identifiers.
struct WaitingEvent {
    var body: [UInt8]
    var identifiers: [HashedIdentifier]
    var messageID: [UInt8]
    /// The person to whom its identifiers led; nil for nobody yet.
    var person: ProfileID?
    var rule: EventRule
    /// Tag of the rule's purpose: another bundle may number it otherwise.
    var purposeTag: UInt32
    /// Why it will be set aside when it is admitted; nil for an event that is as the plan wants it.
    var fault: EventFault?
    /// Milliseconds since the epoch.
    var timestamp: Int64
    var receivedAt: Int64
    /// When it is denied for want of a choice.
    var until: Int64

    /// Number of a kind that the plans do not have.
    static let unknownKind = -1

    /// The identifiers whose kinds the plans have.
    var known: [HashedIdentifier] { identifiers.filter { $0.kindIndex != WaitingEvent.unknownKind } }

    var weight: Int { body.count + messageID.count + 128 * identifiers.count + 256 }

    func sharesIdentifier(with others: [HashedIdentifier]) -> Bool {
        for mine in identifiers {
            for other in others where mine.kindTag == other.kindTag && mine.digest == other.digest { return true }
        }
        return false
    }
}

/// The events that wait, oldest first; bounded in number and bytes.
struct WaitingRoom {
    private(set) var events: [WaitingEvent] = []
    private var bytes = 0

    var isEmpty: Bool { events.isEmpty }

    /// Lets an event in; the oldest leave when there is no room.
    /// - Returns: how many left.
    mutating func add(_ event: WaitingEvent) -> Int {
        events.append(event)
        bytes += event.weight
        var left = 0
        while events.count - left > CollectionLimits.waitingEvents || bytes > CollectionLimits.waitingBytes {
            bytes -= events[left].weight
            left += 1
        }
        events.removeFirst(left)
        return left
    }

    func contains(messageID: [UInt8]) -> Bool {
        for event in events where event.messageID == messageID { return true }
        return false
    }

    /// Takes out those that `isLeaving` names, in their order.
    mutating func take(where isLeaving: (WaitingEvent) -> Bool) -> [WaitingEvent] {
        var taken: [WaitingEvent] = []
        var staying: [WaitingEvent] = []
        for event in events {
            if isLeaving(event) {
                taken.append(event)
                bytes -= event.weight
            } else {
                staying.append(event)
            }
        }
        if !taken.isEmpty { events = staying }
        return taken
    }

    /// The time at which the first of them is denied; nil while nobody waits.
    var nextEnd: Int64? {
        var end: Int64?
        for event in events { end = min(end ?? event.until, event.until) }
        return end
    }

    mutating func setPerson(_ person: ProfileID?, of index: Int) { events[index].person = person }
}
