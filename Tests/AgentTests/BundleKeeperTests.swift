// Shows what a device keeps of its bundle, what it takes at the start in place of one that is missing or wrong, what the
// configuration may ask for, and what a self-test finds. How bundles are fetched and switched is shown end to end, by
// test_bundles.py.
import Cryptography
import Delivery
import Foundation
import Monitoring
import Platform
import Testing

@testable import Agent
@testable import Store

private func bundleText(_ version: Int, rule: String = "context.width > 100") -> String {
    """
    version: \(version)
    purposes: [analytics]
    consent: { wait: 0s }
    identifiers: { user_id: { from: [userId, context.targetingKey], send: hmac, unique: true } }
    events: { "*": { purpose: analytics } }
    attributes: { orders: { type: counter } }
    decisions:
      width:
        variants: { narrow: 0, wide: 1 }
        default: narrow
        rules: [{ name: wide, when: '\(rule)', serve: wide }]
    """
}

private let key = Array("""
    -----BEGIN PUBLIC KEY-----
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEXnMYyrFhC5ubvwyuTQAsNiIxTnkf
    BrbZJtOT8S8VSQ+6GloC0hpqzPFsOuQLWlXKGtGKRbWhuMyk5OzcYRJ86A==
    -----END PUBLIC KEY-----
    """.utf8)

/// A data folder, and what is started in it.
private final class Start {
    let folder: String
    let database: Database
    let meters = Meters()
    let health = Health()
    let configuration = Configuration()

    init() {
        var random = SystemRandom()
        folder = "/tmp/gatehouse-keeper-test-\(random.next())"
        database = try! Database(folder: folder, mapBytes: 8 << 20, synchronous: false)
        configuration.data = folder
        configuration.bundle = folder + "/live.yaml"
    }
    deinit { try? FileManager.default.removeItem(atPath: folder) }

    func write(_ text: String) { try! Data(text.utf8).write(to: URL(fileURLWithPath: folder + "/live.yaml")) }

    func keep(_ text: String, takenAt: Int64 = 1000) {
        try! BundleFile(text: Array(text.utf8), takenAt: takenAt).keep(folder)
    }

    /// The version that it starts with, or what it says.
    func start() -> String {
        do {
            let keeper = try BundleKeeper(configuration, database, meters, health, fallback: .builtIn(loadedAt: 0))
            return String(keeper.bundle.version)
        } catch {
            return error.message
        }
    }
}

@Suite struct BundleKeeperTests {
    // MARK: The last good one

    @Test func whatIsKeptComesBackWhole() throws {
        let start = Start()
        #expect(BundleFile.kept(start.folder) == nil)
        let file = BundleFile(
            text: Array(bundleText(7).utf8), signature: [0x30, 0x02, 0xFF], tag: Array("W/\"a#1\"".utf8), takenAt: noon)
        try file.keep(start.folder)
        let kept = try #require(BundleFile.kept(start.folder))
        #expect(kept.text == file.text && kept.signature == file.signature && kept.tag == file.tag && kept.takenAt == noon)
        // The file is a bundle, too.
        let bytes = [UInt8](FileManager.default.contents(atPath: BundleFile.path(start.folder))!)
        #expect(Bundle.read(bytes.span, loadedAt: 0).0?.version == 7)
        for file in [BundleFile(text: Array("version: 1".utf8)), BundleFile(text: [])] {
            try file.keep(start.folder)
            #expect(BundleFile.kept(start.folder)?.text == file.text)
        }
    }

    @Test func whatWasDamagedIsNotTaken() throws {
        let start = Start()
        start.keep(bundleText(7))
        let path = URL(fileURLWithPath: BundleFile.path(start.folder))
        let whole = try Data(contentsOf: path)
        for count in [0, 1, 13, 20, 80, whole.count / 2, whole.count - 1] {
            try whole[..<count].write(to: path)
            #expect(BundleFile.kept(start.folder) == nil, "\(count) bytes of it")
        }
        for index in stride(from: 0, to: whole.count, by: 7) {
            var other = whole
            other[index] ^= 0x20
            try other.write(to: path)
            if let kept = BundleFile.kept(start.folder) {
                #expect(kept.text == Array(bundleText(7).utf8), "byte \(index)")
            }
        }
    }

    // MARK: The start

    @Test func startsWithTheLastGoodOneInPlaceOfABadOne() {
        let start = Start()
        #expect(start.start().hasPrefix("bundle \(start.folder)/live.yaml: "))
        start.keep(bundleText(7), takenAt: 5_000)
        #expect(start.start() == "7")
        #expect(start.health.current == .stale && start.health.bundleProblem == .unreachable)
        #expect(start.meters.bundlesRefused.value(at: BundleProblem.unreachable.rawValue) == 2)
        start.write(bundleText(8, rule: "no_such_thing"))
        #expect(start.start() == "7")
        #expect(start.health.bundleProblem == .content)
        start.write(bundleText(8))
        #expect(start.start() == "8")
        #expect(start.health.current == .fresh && start.health.bundleProblem == nil)
        // Whoever may write the file may choose: without a key a restart takes what is there.
        start.write(bundleText(2))
        #expect(start.start() == "2")
        start.configuration.bundleKey = .bytes(key)
        #expect(start.start() == "bundle \(start.folder)/live.yaml.sig: \(SystemError("open", code: 2).message)")
    }

    // limit: Agent.selfTestEndings
    @Test func whatWasTakenBackOrEndedTheAgentIsNotTakenAgain() throws {
        let start = Start()
        start.keep(bundleText(7))
        start.write(bundleText(8))
        let mark = BundleFile(text: Array(bundleText(8).utf8)).fingerprint
        var memory = BundleMemory()
        memory.rolledBack = mark
        try memory.write(start.database)
        #expect(try BundleMemory(start.database) == memory)
        #expect(start.start() == "7")
        #expect(start.health.bundleProblem == .rolledBack)
        memory = BundleMemory()
        memory.tested = mark
        for (endings, version) in [(1, "8"), (2, "7"), (3, "7")] as [(UInt64, String)] {
            memory.endings = endings
            try memory.write(start.database)
            #expect(start.start() == version, "\(endings) endings")
        }
        #expect(start.health.bundleProblem == .selfTest)
    }

    @Test func aURLStartsWithWhatIsKept() throws {
        let start = Start()
        start.configuration.bundle = nil
        start.configuration.bundleURL = try DestinationURL(Array("https://localhost:1/shop.yaml".utf8).span)
        #expect(start.start() == "0")
        #expect(start.health.current == .neverSynced)
        start.keep(bundleText(7))
        #expect(start.start() == "7")
        #expect(start.health.current == .stale)
        // A key that did not sign it has the last word.
        start.configuration.bundleKey = .bytes(key)
        #expect(start.start() == "0")
    }

    // limit: Agent.keyFileBytes
    @Test func aKeyThatIsNoneEndsTheStart() {
        let start = Start()
        start.write(bundleText(7))
        let path = start.folder + "/key.pem"
        start.configuration.bundleKey = .file(path)
        #expect(start.start().hasPrefix("bundle: key: \(path): "))
        for (text, words) in [
            (Array("no key".utf8), "this is no public key in PEM"),
            (key + [UInt8](repeating: 0x0A, count: 16 << 10), "larger than it may be"),
        ] {
            try! Data(text).write(to: URL(fileURLWithPath: path))
            #expect(start.start().contains(words), "\(start.start())")
        }
        try! Data(key).write(to: URL(fileURLWithPath: path))
        #expect(start.start().contains("live.yaml.sig"))
    }

    // MARK: The configuration

    private func problems(_ text: String) -> [String] {
        let bytes = Array(text.utf8)
        return Configuration.read(bytes.span).1.map { "\($0.position.description): \($0.message)" }
    }

    // limit: Agent.pollMilliseconds
    @Test(arguments: [
        ("bundle: { url: https://h/b }", "1:16: a bundle from a url needs key"),
        ("bundle: { url: http://h/b, key: k.pem }", "1:16: http: is for this device's own addresses only"),
        ("bundle: { url: h, key: k.pem }", "1:16: url must be like https://"),
        ("bundle: { file: f, url: https://h/b, key: k.pem }", "1:25: a bundle has one place"),
        ("bundle: { file: f, poll: 5m }", "1:26: poll goes with url:"),
        ("bundle: { url: https://h/b, key: k.pem, poll: 999ms }", "1:47: poll must be 1s or more"),
        ("bundle: { url: https://h/b, key: k.pem, poll: 169h }", "1:47: poll must be a duration"),
        ("bundle: { key: k.pem }", "1:11: there is no bundle: give it as file: or url:"),
        ("bundle: { shadow: f }", "1:11: there is no bundle: give it as file: or url:"),
        ("bundle: { url: https://h/b, key: '-----BEGIN PUBLIC KEY-----' }", "1:34: this is no public key in PEM"),
        ("bundle: { url: https://h/b, key: k.pem, every: 5m }", "1:41: unknown setting every"),
    ]) func whatABundleCannotComeFromIsRefused(_ text: String, _ problem: String) {
        let found = problems(text)
        #expect(found.count == 1 && found[0].hasPrefix(problem), "\(found)")
    }

    @Test func whatABundleMayComeFrom() {
        let inline = String(decoding: key, as: UTF8.self).replacingOccurrences(of: "\n", with: "\n    ")
        for text in [
            "bundle: { url: https://h:8443/b.yaml?v=1, key: k.pem, poll: 1s, shadow: f }",
            "bundle: { url: https://h/b, key: k.pem, poll: 7d }", "bundle: { file: f, key: k.pem }",
            "bundle:\n  url: https://h/b\n  key: |\n    \(inline)\n",
        ] {
            #expect(problems(text) == [], "\(text)")
        }
        let text = Array("bundle: { url: https://h/b, key: k.pem }".utf8)
        #expect(Configuration.read(text.span).0.pollMilliseconds == 300_000)
    }

    // MARK: The self-test

    // limit: Agent.selfTestErrors, Agent.probationErrors, Agent.failingPercent
    @Test func manyMoreErrorsThanBeforeAreWorse() {
        func isWorse(_ failed: UInt64, of asked: UInt64, than before: (UInt64, of: UInt64) = (0, of: 0)) -> Bool {
            RuleErrors(failed: failed, asked: asked).isWorse(
                than: RuleErrors(failed: before.0, asked: before.of), atLeast: Limits.selfTestErrors)
        }
        #expect(isWorse(5, of: 5) && !isWorse(4, of: 4))
        #expect(isWorse(6, of: 100) && !isWorse(5, of: 100))
        #expect(isWorse(100, of: 10), "several rules of a decision")
        // What failed before may fail as often again, and a little more.
        #expect(!isWorse(24, of: 100, than: (10, of: 100)) && isWorse(26, of: 100, than: (10, of: 100)))
        #expect(isWorse(6, of: 100, than: (0, of: 1000)))
        let few = RuleErrors(failed: Limits.probationErrors - 1, asked: 1)
        #expect(!few.isWorse(than: RuleErrors(), atLeast: Limits.probationErrors))
        #expect(Limits.failingPercent == 5)
    }

    private func event(_ number: Int, _ note: String = "") -> String {
        """
        {"type":"track","event":"Order Completed","userId":"u\(number % 9)","messageId":"m\(number)",
        "timestamp":"2026-01-31T12:00:00Z","properties":{"number":\(number),"note":"\(note)"},"context":{"width":"\(number)",
        "consent":{"categoryPreferences":{"analytics":true}}}}
        """
    }

    // limit: Agent.selfTestEvents, Agent.selfTestEventBytes
    @Test func theNewestEventsArePlayed() throws {
        let device = Device(bundleText(1))
        #expect(try SelfTest.recentEvents(device.database).isEmpty)
        for number in 0..<600 { device.take(event(number)) }
        let messages = try SelfTest.recentEvents(device.database)
        #expect(messages.count == Limits.selfTestEvents)
        let last = String(decoding: messages[511].text, as: UTF8.self)
        #expect(last.contains("\"number\":599") && !last.contains("u5"), "\(last)")
        for number in 600..<620 { device.take(event(number, String(repeating: "x", count: 20_000))) }
        let large = try SelfTest.recentEvents(device.database).filter { !$0.text.isEmpty }
        #expect(large.map { $0.text.count }.reduce(0, +) <= Limits.selfTestEventBytes)
        #expect(large.count >= 12 && large.count < 20)
        #expect(String(decoding: large.last!.text, as: UTF8.self).contains("\"number\":619"))
    }

    @Test func aRuleThatFailsOverRecentEventsIsFound() throws {
        let device = Device(bundleText(1, rule: "context.width == \"5\""))
        for number in 0..<50 { device.take(event(number)) }
        let messages = try SelfTest.recentEvents(device.database)
        func play(_ text: String) throws -> RuleErrors {
            let bytes = Array(text.utf8)
            return try SelfTest.play(bytes.span, messages, in: device.folder, Cancellation())
        }
        let before = try play(bundleText(1, rule: "context.width == \"5\""))
        #expect(before == RuleErrors(failed: 0, asked: 100), "50 events are admitted, and each is asked a decision")
        let after = try play(bundleText(2, rule: "context.width > 100"))
        #expect(after == RuleErrors(failed: 50, asked: 100))
        #expect(after.isWorse(than: before, atLeast: Limits.selfTestErrors))
        // Nothing of it stays.
        #expect(try FileManager.default.contentsOfDirectory(atPath: device.folder).allSatisfy { !$0.contains("simulate") })
    }
}
