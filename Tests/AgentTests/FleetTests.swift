// Devices of a fleet that tell their hub, and hear from it, what has changed, without the network between them: it is in
// Tests/end-to-end/test_sync.py. Here: what is said arrives as it was, within limits, and damage does no harm.

import Cryptography
import Formats
import Governance
import Platform
import Testing

@testable import Agent
@testable import Store
@testable import Unification

private let policy = """
    version: 1
    purposes: [analytics]
    identifiers:
      user_id: { from: [userId], send: hmac, unique: true }
      email: { from: [traits.email, properties.email], normalize: email, send: hmac }
    events: { "*": { purpose: analytics } }
    attributes:
      events: { type: counter }
      seen: { type: set, value: event.properties.product, limit: 1000 }
    """

/// The changes of a page.
private func list(_ page: [UInt8]) -> [[UInt8]] {
    var found: [[UInt8]] = []
    var place = 0
    while let piece = Piece(page.span, at: place) {
        if piece.kind == SyncPage.change { found.append(Array(page[piece.start..<piece.end])) }
        place = piece.end
    }
    return found
}

extension Device {
    private func keys(_ identifiers: [(String, String)]) -> [IdentifierKey] { identifiers.map { key($0.0, $0.1) } }

    /// What it tells of an identifier.
    fileprivate func state(_ kind: String, _ value: String, isWithdrawn: Bool = false) -> [UInt8] {
        let (key, epoch) = (key(kind, value), pipeline.people.epoch)
        do {
            var reader = try database.makeReader()
            try reader.begin()
            let state = try IdentifierState(
                of: key, in: reader, epoch: epoch, parts: isWithdrawn ? IdentifierState.nobodys : epoch,
                links: isWithdrawn ? 0 : Unification.Limits.linksTold)
            let name = pipeline.suppression.name(key.tag, key.digest)
            var bytes = [isWithdrawn ? SharedChanges.isWithdrawn : SharedChanges.isState]
            bytes.append(contentsOf: name.span)
            state.append(to: &bytes)
            return bytes
        } catch { fatalError("the store cannot be read") }
    }

    /// What it tells of an identifier that was erased.
    fileprivate func erasure(_ kind: String, _ value: String, at time: Int64, withKey: Bool = true) -> [UInt8] {
        let key = key(kind, value)
        let name = pipeline.suppression.name(key.tag, key.digest)
        var bytes = [SharedChanges.isErased]
        bytes.append(contentsOf: name.span)
        let number = NumberKey(UInt64(bitPattern: time))
        bytes.append(contentsOf: number.bytes.span)
        if withKey { key.append(to: &bytes) }
        return bytes
    }

    /// Tells a hub what it knows of some identifiers.
    fileprivate func tell(_ hub: Device, _ identifiers: [(String, String)], isWithdrawn: Bool = false) {
        for (kind, value) in identifiers {
            let outcome = hub.take(state(kind, value, isWithdrawn: isWithdrawn), from: self)
            guard case .taken = outcome else { fatalError("the hub does not take it") }
        }
    }

    @discardableResult
    fileprivate func take(
        _ change: [UInt8], from device: Device?, mayErase: Bool = true, hasRoom: Bool = true
    ) -> SyncOutcome {
        let sender = SyncSender(
            name: Array("till".utf8), epoch: device?.pipeline.people.epoch ?? 0, speaksForOthers: device == nil,
            mayErase: mayErase, now: now)
        return write { transaction throws(StoreError) in
            try self.pipeline.takeChange(change, sender, hasRoom: hasRoom, &transaction)
        }
    }

    @discardableResult
    fileprivate func learn(_ change: [UInt8], named: [LoggedIdentifier] = [], hasRoom: Bool = true) -> SyncOutcome {
        let now = self.now
        return write { transaction throws(StoreError) in
            let outcome = try self.pipeline.learnChange(change, latest: now, now: now, hasRoom: hasRoom, &transaction)
            for identifier in named { _ = try self.pipeline.eraseSuppressed(identifier, now: now, &transaction) }
            return outcome
        }
    }

    /// Hears from a hub what has changed after a number.
    /// - Returns: the newest change, whether there are more, and their number and bytes.
    @discardableResult
    fileprivate func hear(
        _ hub: Device, after: UInt64 = 0, hasRoom: Bool = true
    ) -> (to: UInt64, more: Bool, count: Int, bytes: Int) {
        let page = hub.page(to: pipeline.people.epoch, after: after)
        let changes = list(page.text)
        for change in changes { learn(change, hasRoom: hasRoom) }
        return (page.to, page.more, changes.count, page.text.count)
    }

    fileprivate func page(to epoch: UInt64, after: UInt64) -> (text: [UInt8], to: UInt64, more: Bool) {
        do {
            var reader = try database.makeReader()
            try reader.begin()
            defer { reader.end() }
            var page = SyncPage(most: Agent.Limits.syncBytes)
            var last = after
            let hasMore = try page.addChanges(after: &last, to: epoch, in: reader)
            return (page.bytes, last, hasMore)
        } catch { fatalError("the store cannot be read") }
    }

    fileprivate func forgetShared() {
        let now = self.now
        write { transaction throws(StoreError) in try self.pipeline.forgetShared(now: now, &transaction) }
    }

    fileprivate func chosen(_ kind: String, _ value: String) -> PurposeSet {
        guard let person = person(kind, value) else { return [] }
        let (plan, now) = (pipeline.purposes, self.now)
        return write { transaction throws(StoreError) in
            let id = person.bytes
            guard let record = try transaction.get(transaction.tables.consent, id.span) else { return [] }
            return ConsentRecord.granted(record, plan, at: now)
        }
    }

    fileprivate func see(_ user: String, _ product: String = "x", email: String? = nil) {
        let more = email.map { ", \"email\": \"\($0)\"" } ?? ""
        take(user, "Product Viewed", "{\"product\": \"\(product)\"\(more)}")
    }

    /// How many changes there are.
    fileprivate var changes: Int64 {
        write { transaction throws(StoreError) in transaction.count(transaction.tables.changes) / 2 }
    }
}

extension SyncOutcome {
    fileprivate var isTaken: Bool {
        if case .taken = self { return true }
        return false
    }
}

@Suite struct FleetTests {
    private let hubPepper = Peppers(key: [UInt8](repeating: 9, count: 32))

    private func hub() -> Device { Device(policy, epoch: 99, mapBytes: 256 << 20, pepper: hubPepper) }

    /// Two devices see one person, one of them with an address; whoever asks the hub has all of it, also by the address.
    @Test func whatIsToldArrivesAsItWas() {
        let (first, second, third, hub) = (
            Device(policy, epoch: 1), Device(policy, epoch: 2), Device(policy, epoch: 3), self.hub()
        )
        for product in ["a", "b"] { first.see("ada", product, email: "ada@example.org") }
        second.see("ada", "c")
        first.tell(hub, [("user_id", "ada"), ("email", "ada@example.org")])
        second.tell(hub, [("user_id", "ada")])
        for device in [first, second, third] { device.hear(hub) }
        let expected = first.attributes("user_id", "ada")
        #expect(expected.contains("\"events\":3"))
        for device in [first, second, third] { #expect(device.attributes("email", "ada@example.org") == expected) }
        // Nothing of it is news any more, at either end.
        let before = hub.changes
        let newest = third.hear(hub).to
        first.tell(hub, [("user_id", "ada"), ("email", "ada@example.org")])
        #expect(hub.changes == before)
        #expect(third.hear(hub, after: newest).count == 0)
        #expect(third.attributes("user_id", "ada") == expected)
    }

    /// Who grants it no more leaves only what they have chosen, whoever had counted; and one who merely repeats an old refusal
    /// takes nothing away but what is their own.
    @Test func whoRefusesLeavesNothingThatWasCounted() {
        let (first, second, hub) = (Device(policy, epoch: 1), Device(policy, epoch: 2), self.hub())
        first.see("ada")
        second.see("ada")
        for device in [first, second] { device.tell(hub, [("user_id", "ada")]) }
        second.now += 1000
        second.take("ada", "Product Viewed", grants: [], denies: ["analytics"])
        second.tell(hub, [("user_id", "ada")], isWithdrawn: true)
        let third = Device(policy, epoch: 3)
        third.hear(hub)
        #expect(!third.attributes("user_id", "ada").contains("events"))
        #expect(hub.count { $0.parts } == 0)
        // The first has heard that she has granted it again; the second has not, and says once more what it knows.
        first.tell(hub, [("user_id", "ada")])
        second.tell(hub, [("user_id", "ada")], isWithdrawn: true)
        #expect(hub.count { $0.parts } == 1)
    }

    /// Thirty people with 32 KiB each, and thousands of erasures: no page is larger than a body may be, and all arrive.
    // limit: Agent.syncBytes, Agent.changesLookedAt
    @Test func aPageHasSoManyBytes() {
        let (device, other, hub) = (Device(policy, epoch: 1), Device(policy, epoch: 9, mapBytes: 64 << 20), self.hub())
        for number in 0..<35 { device.see("ada", "\(number)" + String(repeating: "x", count: 900)) }
        let person = device.person("user_id", "ada")!.bytes
        let record = device.write { transaction throws(StoreError) in
            if let value = try transaction.get(transaction.tables.profiles, person.span) { return [UInt8](copying: value) }
            return [UInt8]()
        }
        #expect(record.count > 30 * 1024)
        hub.write { transaction throws(StoreError) in
            for number in 0..<30 {
                let key = device.key("user_id", "u\(number)")
                let name = device.pipeline.suppression.name(key.tag, key.digest)
                let part = ProfileParts.Key(key, 5).bytes
                try transaction.put(transaction.tables.parts, part.span, record.span)
                try SharedChanges.put(name.span, key, epoch: 5, at: hub.now, in: &transaction)
            }
            for number in 0..<6000 as Range<UInt64> {
                var name = [UInt8](repeating: 0, count: 8)
                let key = NumberKey(number)
                name.append(contentsOf: key.bytes.span)
                try SharedChanges.putErasure(name.span, at: hub.now, nil, in: &transaction)
            }
        }
        var (after, pages, more, count): (UInt64, Int, Bool, Int) = (0, 0, true, 0)
        while more {
            let page = other.hear(hub, after: after)
            #expect(page.bytes < 280 * 1024, "\(page.bytes)")
            if pages > 12 { #expect(page.count <= 1024) }
            (after, more, pages, count) = (page.to, page.more, pages + 1, count + page.count)
        }
        #expect(count == 6030)
        #expect(pages >= 8 && pages < 30)
        for number in 0..<30 { #expect(other.attributes("user_id", "u\(number)").contains("\"events\":35")) }
        #expect(other.count { $0.suppressed } == 6000)
    }

    // limit: Agent.sharedStates, Unification.changesForgottenAtOnce
    @Test func aHubForgetsWhatChangedLongestAgo() {
        let (device, hub) = (Device(policy, epoch: 1), self.hub())
        device.see("ada")
        device.tell(hub, [("user_id", "ada")])
        hub.write { transaction throws(StoreError) in
            for number in 0..<100_300 as Range<UInt64> {
                var name = [UInt8](repeating: 0, count: 8)
                let place = NumberKey(number)
                name.append(contentsOf: place.bytes.span)
                // Erasures stay, and take nobody's place.
                if number % 500 == 0 {
                    try SharedChanges.putErasure(name.span, at: 1, nil, in: &transaction)
                } else {
                    let bytes = name + name + [0, 0, 0, 0]
                    if let key = IdentifierKey(bytes.span) {
                        try SharedChanges.put(name.span, key, at: hub.now, in: &transaction)
                    }
                }
            }
        }
        #expect(hub.holds(device.key("user_id", "ada").digest))
        // Wherever it looked last.
        hub.pipeline.forgetPosition = 70_000
        hub.forgetShared()
        #expect(!hub.holds(device.key("user_id", "ada").digest))
        for _ in 0..<20 { hub.forgetShared() }
        #expect(hub.changes == 100_000 + 201)
    }

    // limit: Agent.sharedMilliseconds
    @Test func aHubForgetsWhoWasNotSeenForAMonth() {
        let (device, hub) = (Device(policy, epoch: 1), self.hub())
        device.see("ada")
        device.tell(hub, [("user_id", "ada")])
        // What somebody refuses stays.
        device.see("no")
        device.take("no", "Product Viewed", grants: [], denies: ["analytics"])
        device.tell(hub, [("user_id", "no")], isWithdrawn: true)
        hub.now += 29 * day
        device.see("ben")
        device.tell(hub, [("user_id", "ben")])
        hub.now += 2 * day
        hub.forgetShared()
        #expect(hub.holds(device.key("user_id", "ben").digest))
        #expect(!hub.holds(device.key("user_id", "ada").digest))
        #expect(hub.holds(device.key("user_id", "no").digest))
    }

    /// What lies under a pepper that is not used any more is told nobody, and forgotten.
    @Test func aHubIsOfOneFleet() {
        let (device, hub) = (Device(policy, epoch: 1), self.hub())
        func serve(_ print: String) {
            let text = Array(print.utf8)
            hub.write { transaction throws(StoreError) in try hub.pipeline.serve(text.span, &transaction) }
        }
        serve("0011")
        device.see("ada")
        device.tell(hub, [("user_id", "ada")])
        hub.take(device.erasure("user_id", "zora", at: 5), from: device)
        serve("0011")
        #expect(hub.page(to: 9, after: 0).to > 0)
        serve("0012")
        #expect(list(hub.page(to: 9, after: 0).text).isEmpty)
        hub.forgetShared()
        #expect(hub.changes == 0)
        #expect(!hub.holds(device.key("user_id", "ada").digest))
        device.tell(hub, [("user_id", "ada")])
        #expect(list(hub.page(to: 9, after: 0).text).count == 2)
    }

    @Test func aFingerprintTellsSecretsApart() {
        let (a, b) = ([UInt8](repeating: 1, count: 32), [UInt8](repeating: 2, count: 32))
        let print = Fleet.fingerprint(of: Peppers(key: a))
        func isFingerprint(_ text: [UInt8]) -> Bool { Fleet.isFingerprint(text.span) }
        #expect(isFingerprint(print))
        #expect(print == Fleet.fingerprint(of: Peppers(key: a)))
        #expect(print != Fleet.fingerprint(of: Peppers(key: b)))
        // A rotation changes the pepper and not the root; and who has the pepper alone has another root.
        let root = Peppers.root(of: a).withSpan { HMACSHA256(key: $0) }
        let rotated = Peppers(present: HMACSHA256(key: b.span), former: nil, root: root)
        #expect(print != Fleet.fingerprint(of: rotated))
        #expect(Fleet.fingerprint(of: Peppers(key: b)) != Fleet.fingerprint(of: rotated))
        for wrong in ["", "00", String(repeating: "g", count: 32), String(repeating: "0", count: 33)] {
            #expect(!isFingerprint(Array(wrong.utf8)))
        }
    }

    /// A part is its writer's alone, and whoever may not erase does not.
    @Test func aDeviceSpeaksForItself() {
        let (first, second, hub) = (Device(policy, epoch: 1), Device(policy, epoch: 2), self.hub())
        first.see("ada")
        let change = first.state("user_id", "ada")
        guard case .unreadable = hub.take(change, from: second) else { Issue.record("it speaks for another"); return }
        #expect(hub.changes == 0)
        first.tell(hub, [("user_id", "ada")])
        guard case .mayNotErase = hub.take(first.erasure("user_id", "ada", at: hub.now), from: second, mayErase: false) else {
            Issue.record("it may erase")
            return
        }
        #expect(hub.holds(first.key("user_id", "ada").digest))
        // What is known already may be told back.
        hub.take(first.erasure("user_id", "ben", at: hub.now), from: first)
        guard case .taken = hub.take(first.erasure("user_id", "ben", at: hub.now), from: second, mayErase: false) else {
            Issue.record("it may not repeat")
            return
        }
        // Above is what stands for all stores.
        let all = Device(policy, epoch: .max)
        all.see("eve")
        guard case .unreadable = hub.take(all.state("user_id", "eve"), from: all) else { Issue.record("for all"); return }
        // A hub passes on what others have counted.
        guard case .taken = hub.take(change, from: nil) else { Issue.record("a hub may not"); return }
    }

    /// An address that everybody uses is known as such elsewhere, too; a state with more links than that is none.
    // limit: Unification.linksTold
    @Test func soManyLinksAreTold() {
        let (device, hub, other) = (Device(policy, epoch: 1), self.hub(), Device(policy, epoch: 2))
        for number in 0..<70 { device.see("u\(number)", email: "all@example.org") }
        let change = device.state("email", "all@example.org")
        guard case .taken = hub.take(change, from: device) else { Issue.record("not taken"); return }
        let added = change.suffix(66).prefix(5) + change.suffix(61).map { $0 ^ 1 }
        guard case .unreadable = hub.take(change + added, from: device) else { Issue.record("taken"); return }
        other.hear(hub)
        #expect(other.count { $0.edges } == 130)
    }

    /// Nobody has chosen later than now: a refusal wins over a grant from the future, and so does the next choice.
    // limit: Agent.clockAheadMilliseconds
    @Test(arguments: [60_000, 400 * day]) func aChoiceFromTheFutureDoesNotWin(_ ahead: Int64) {
        let (wrong, right, hub, heard) = (Device(policy, epoch: 1), Device(policy, epoch: 2), self.hub(), Device(policy, epoch: 3))
        wrong.now += ahead
        wrong.take("""
            {"type": "track", "userId": "ada", "event": "Segment Consent Preference Updated",
            "context": {"consent": {"categoryPreferences": {"analytics": true}}}}
            """)
        let change = wrong.state("user_id", "ada")
        // What was counted so far ahead is not believed either.
        if case .unreadable = hub.take(change, from: wrong) { #expect(ahead > 3_600_000) } else { #expect(ahead < 3_600_000) }
        heard.learn(change)
        hub.now += 1000
        right.now += 1000
        right.see("ada")
        right.take("""
            {"type": "track", "userId": "ada", "event": "Segment Consent Preference Updated",
            "context": {"consent": {"categoryPreferences": {"analytics": false}}}}
            """)
        right.tell(hub, [("user_id", "ada")], isWithdrawn: true)
        let third = Device(policy, epoch: 4)
        heard.now += 2000
        third.now = heard.now
        for device in [heard, third] {
            device.hear(hub)
            #expect(device.chosen("user_id", "ada") == [])
        }
    }

    /// An erasure from the future does not keep somebody out for ever.
    @Test func anErasureFromTheFutureIsOneOfNow() {
        let (device, hub, heard) = (Device(policy, epoch: 1), self.hub(), Device(policy, epoch: 2))
        hub.take(device.erasure("user_id", "ada", at: .max), from: device)
        heard.learn(device.erasure("user_id", "ada", at: .max))
        for node in [device, hub, heard] { node.now += 1000 }
        device.take("""
            {"type": "track", "userId": "ada", "event": "Segment Consent Preference Updated",
            "context": {"consent": {"categoryPreferences": {"analytics": true}}}}
            """)
        device.tell(hub, [("user_id", "ada")])
        heard.hear(hub)
        #expect(heard.person("user_id", "ada") != nil)
    }

    /// An erasure from before all time hides none that comes later, from the hub or from a device.
    @Test func anErasureFromBeforeAllTimeHidesNone() {
        let (device, hub, heard) = (Device(policy, epoch: 1), self.hub(), Device(policy, epoch: 2))
        heard.see("ada")
        let key = heard.key("user_id", "ada")
        hub.take(device.erasure("user_id", "ada", at: -1), from: device)
        heard.learn(device.erasure("user_id", "ada", at: -1))
        heard.learn(device.erasure("user_id", "ada", at: heard.now), named: [key.logged])
        #expect(heard.person("user_id", "ada") == nil)
    }

    /// A device was off while somebody was erased and came back by a new choice: it hears of both at once. What it had counted
    /// before is gone there, and comes to nobody else; also where it tells first and hears then.
    @Test(arguments: [false, true]) func whoIsBackDoesNotGetBackWhatWasErased(_ tellsFirst: Bool) {
        let (first, off, late, hub) = (
            Device(policy, epoch: 1), Device(policy, epoch: 2), Device(policy, epoch: 3), self.hub())
        let ada = [("user_id", "ada")]
        for (device, product) in [(first, "old"), (off, "older")] {
            device.see("ada", product)
            device.tell(hub, ada)
        }
        let erasedAt = first.now + 1000
        for device in [first, off, late, hub] { device.now = erasedAt + 5000 }
        hub.take(first.erasure("user_id", "ada", at: erasedAt), from: first)
        first.learn(first.erasure("user_id", "ada", at: erasedAt), named: [first.key("user_id", "ada").logged])
        first.take("""
            {"type": "track", "userId": "ada", "event": "Segment Consent Preference Updated",
            "context": {"consent": {"categoryPreferences": {"analytics": true}}}}
            """)
        first.see("ada", "new")
        first.tell(hub, ada)
        if tellsFirst { hub.take(off.state("user_id", "ada"), from: off) }
        let before = off.person("user_id", "ada")
        var erasures = 0
        for change in list(hub.page(to: 2, after: 0).text) {
            if case .erasing = off.learn(change) { erasures += 1 }
        }
        #expect(erasures == 1 && before != off.person("user_id", "ada"))
        off.tell(hub, ada)
        late.hear(hub)
        for device in [off, late] {
            let known = device.attributes("user_id", "ada")
            #expect(known.contains("\"new\"") && !known.contains("old"), "\(known)")
            #expect(device.chosen("user_id", "ada") != [])
        }
        // What is told again changes nothing, and is passed on no more.
        let newest = hub.page(to: 9, after: 0).to
        hub.take(first.erasure("user_id", "ada", at: erasedAt), from: first)
        for device in [first, off] { device.tell(hub, ada) }
        #expect(hub.page(to: 9, after: 0).to == newest)
        #expect(off.learn(first.erasure("user_id", "ada", at: erasedAt), named: [off.key("user_id", "ada").logged]).isTaken)
        #expect(off.attributes("user_id", "ada").contains("\"new\""))
    }

    /// Whoever has no room is told of all erasures however much lies between.
    @Test func erasuresAreToldPastWhatThereIsNoRoomFor() throws {
        let (device, hub) = (Device(policy, epoch: 1), self.hub())
        for number in 0..<1200 { device.see("u\(number)") }
        device.tell(hub, (0..<1200).map { ("user_id", "u\($0)") })
        hub.take(device.erasure("user_id", "zora", at: 5), from: device)
        var reader = try hub.database.makeReader()
        try reader.begin()
        var page = SyncPage(most: Agent.Limits.syncBytes)
        var last: UInt64 = 0
        let hasMore = try page.addChanges(after: &last, to: 9, erasuresOnly: true, in: reader)
        let bytes = page.bytes
        #expect(!hasMore && list(bytes).count == 1)
    }

    /// A device knows, erases and refuses by what its hub says also when there is no room for anything else.
    @Test func withoutRoomErasuresAndRefusalsAreTaken() throws {
        let (first, second, hub) = (Device(policy, epoch: 1), Device(policy, epoch: 2), self.hub())
        for device in [first, second] {
            device.see("ada")
            device.see("zora")
            device.tell(hub, [("user_id", "ada"), ("user_id", "zora")])
        }
        first.now += 1000
        first.take("ada", "Product Viewed", grants: [], denies: ["analytics"])
        let refusal = first.state("user_id", "ada", isWithdrawn: true)
        guard case .noRoom = hub.take(refusal, from: first, hasRoom: false) else { Issue.record("there is room"); return }
        first.see("new")
        guard case .noRoom = hub.take(first.state("user_id", "new"), from: first, hasRoom: false) else { return }
        #expect(!hub.holds(first.key("user_id", "new").digest))
        hub.now += 2000
        hub.take(first.erasure("user_id", "zora", at: hub.now), from: first, hasRoom: false)
        #expect(!hub.holds(first.key("user_id", "zora").digest))
        second.now += 3000
        #expect(second.chosen("user_id", "ada") != [])
        for change in list(hub.page(to: 2, after: 0).text) {
            second.learn(change, named: [second.key("user_id", "zora").logged], hasRoom: false)
        }
        #expect(second.chosen("user_id", "ada") == [])
        #expect(second.person("user_id", "zora") == nil)
        #expect(second.person("user_id", "new") == nil)
    }

    /// Whoever was erased and has come back here before that was heard stays; and an erasure that is told reaches the hub with
    /// what it finds there by.
    @Test func anErasureIsToldUntilTheHubHasIt() {
        let device = Device(policy, epoch: 1)
        device.pipeline.tellsHub = true
        device.see("ada", email: "ada@example.org")
        let person = device.person("user_id", "ada")!
        let now = device.now
        device.write { transaction throws(StoreError) in
            _ = try device.pipeline.erase(person, nil, actor: [], now: now, &transaction)
        }
        func untold() -> UInt64 {
            device.write { transaction throws(StoreError) in try SharedChanges.erasures(in: transaction) }
        }
        #expect(device.changes == 2 && untold() == 2)
        // A hub that takes none has heard of what else there is.
        device.see("ben")
        #expect(device.changes == 3)
        device.write { transaction throws(StoreError) in
            try SharedChanges.remove(upTo: .max, erasuresToo: false, in: &transaction)
        }
        #expect(device.changes == 2 && untold() == 2)
        device.write { transaction throws(StoreError) in try SharedChanges.remove(upTo: .max, in: &transaction) }
        #expect(device.changes == 0 && untold() == 0)
        let key = device.key("user_id", "ada").logged
        device.now += 1000
        device.take("""
            {"type": "track", "userId": "ada", "event": "Segment Consent Preference Updated",
            "context": {"consent": {"categoryPreferences": {"analytics": true}}}}
            """)
        device.learn(device.erasure("user_id", "ada", at: now), named: [key])
        #expect(device.person("user_id", "ada") != nil)
        device.learn(device.erasure("user_id", "ada", at: device.now), named: [key])
        #expect(device.person("user_id", "ada") == nil)
    }

    @Test func aCursorIsKeptWhole() {
        var cursor = SyncCursor()
        (cursor.hub, cursor.heard, cursor.told, cursor.position, cursor.missed, cursor.turn) = (1, 2, 3, 4, 5, 6)
        cursor.walk = [2, 9, 9]
        func read(_ record: [UInt8]) -> SyncCursor { SyncCursor(record.span) }
        #expect(read(cursor.record) == cursor)
        #expect(read(Array(cursor.record.prefix(40))) == SyncCursor())
        #expect(read([]) == SyncCursor())
    }

    @Test func theHubInAConfigurationIsChecked() {
        func problems(_ setting: String) -> [String] {
            let text = Array("hub: \(setting)".utf8)
            return Configuration.read(text.span).1.map { $0.message }
        }
        #expect(problems("{ url: 'https://hub.example:8443', token: abc, poll: 30s, purpose: analytics }") == [])
        #expect(problems("{ url: 'https://hub.example/' }") == [])
        for (wrong, word) in [
            ("{}", "needs a url"), ("{ url: hub.example }", "https://"), ("{ url: 'http://hub.example' }", "use https:"),
            ("{ url: 'https://hub.example/v1/batch' }", "no path"), ("{ url: 'https://h', poll: 10ms }", "1s or more"),
            ("{ url: 'https://h', token: 'a b' }", "visible ASCII"), ("{ url: 'https://h', tokn: a }", "tokn"), ("7", "hub"),
        ] {
            let found = problems(wrong)
            #expect(found.count == 1 && found[0].contains(word), "\(wrong): \(found)")
        }
        func tokens(_ more: String) -> [String] {
            let text = Array("tokens: [{ sha256: '\(String(repeating: "0", count: 64))', roles: [sync]\(more) }]".utf8)
            return Configuration.read(text.span).1.map { $0.message }
        }
        #expect(tokens(", device: till-1") == [] && tokens(", hub: region") == [])
        #expect(tokens("")[0].contains("needs device: NAME"))
        #expect(tokens(", device: 'a b'")[0].contains("1 to 64 letters"))
        #expect(tokens(", device: a, hub: b")[0].contains("name of one"))
        let fleet = Array("fleet: abc".utf8)
        let found = Configuration.read(fleet.span).1.map { $0.message }
        #expect(found.count == 1 && found[0].contains("32 digits"))
    }

    @Test func aTokenSpeaksForWhomItSays() {
        func may(_ speaker: Speaker, _ device: String, _ hub: String) -> Bool {
            let (device, hub) = (Array(device.utf8), Array(hub.utf8))
            return speaker.maySend(of: device.span, by: hub.span)
        }
        var speaker = Speaker()
        #expect(may(speaker, "a", "") && may(speaker, "b", "c"))
        speaker.name = Array("a".utf8)
        #expect(may(speaker, "a", "") && !may(speaker, "b", "") && !may(speaker, "a", "a") && !may(speaker, "b", "a"))
        speaker.isHub = true
        #expect(may(speaker, "b", "a") && !may(speaker, "a", "") && !may(speaker, "a", "b"))
    }

    /// Every prefix of a state, and every state with one byte changed, does no harm to a hub nor to a device.
    @Test func damagedStatesDoNoHarm() {
        let (device, hub, other) = (Device(policy, epoch: 1), self.hub(), Device(policy, epoch: 2))
        device.see("ada", email: "ada@example.org")
        device.tell(hub, [("user_id", "ada"), ("email", "ada@example.org")])
        let changes = list(hub.page(to: 2, after: 0).text)
        #expect(changes.count == 2)
        for whole in changes + [device.state("user_id", "ada"), device.erasure("user_id", "ben", at: 1)] {
            func say(_ bytes: [UInt8]) {
                if bytes.count <= SharedChanges.nameBytes { return }
                hub.take(bytes, from: nil)
                other.learn(bytes)
            }
            for count in 0..<whole.count { say(Array(whole[0..<count])) }
            for index in whole.indices {
                var changed = whole
                changed[index] ^= 0x81
                say(changed)
            }
            say(whole)
        }
        #expect(other.person("user_id", "ada") != nil)
    }
}
