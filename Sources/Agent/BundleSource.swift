// Where bundles come from: a file of the device, or a URL of anything that serves files over HTTPS. A signature lies beside
// it, with `.sig` at the end of its name. What becomes of a bundle is decided in BundleKeeper.swift.

import Cryptography
import Delivery
import Formats
import Monitoring
import Platform

/// Why a bundle is not taken.
struct BundleRefusal: Error {
    let problem: BundleProblem
    /// A sentence, or lines of `file:line:column: …`.
    let words: String
    /// Whether it is the same as long as the bundle is: then it need not be fetched again.
    var isLasting = true
}

final class BundleSource {
    private let path: String?
    private let url: DestinationURL?
    private let keys: VerificationKeys?
    private let client: HTTPSClient<SystemClock>?
    /// For messages.
    let place: String

    var isSigned: Bool { keys != nil }

    init(_ configuration: Configuration, floor: ClockFloor = ClockFloor(), _ cancellation: Cancellation) throws(StartError) {
        path = configuration.bundle
        url = configuration.bundleURL
        keys = try BundleSource.readKeys(configuration)
        var place = configuration.bundle ?? ""
        var client: HTTPSClient<SystemClock>?
        if let url {
            var name: [UInt8] = []
            url.appendAuthority(to: &name)
            let host = String(decoding: name, as: UTF8.self)
            place = joined(url.isSecure ? "https://" : "http://", host, BundleSource.withoutQuery(url.target))
            client = HTTPSClient(
                url: url, token: nil, authorities: configuration.trust(), version: Runtime.version,
                cancellation: cancellation, clock: SystemClock(), floor: floor)
        }
        self.place = place
        self.client = client
    }

    private static func readKeys(_ configuration: Configuration) throws(StartError) -> VerificationKeys? {
        guard let key = configuration.bundleKey else { return nil }
        var (text, place): ([UInt8], String) = ([], "")
        if case .bytes(let bytes) = key { text = bytes }
        if case .file(let path) = key {
            place = path
            do throws(SystemError) { text = try Files.read(path, limitBytes: Limits.keyFileBytes) } catch {
                throw StartError(joined("bundle: key: ", path, ": ", error.message), exitCode: 1)
            }
        }
        do throws(SignatureError) { return try VerificationKeys(text) } catch {
            throw StartError(joined("bundle: key: ", place, ": ", String(copying: error.message.bytes)), exitCode: 1)
        }
    }

    /// The bundle that there is now, as it came: nothing of it is believed.
    /// - Parameter tag: of the one that is known; empty: none is.
    /// - Returns: nil when it is that one.
    func fetch(besides tag: [UInt8]) throws(BundleRefusal) -> BundleFile? {
        guard let client, let url else { return try read() }
        var fields: [UInt8] = []
        if !tag.isEmpty {
            fields = Array("If-None-Match: ".utf8) + tag
            fields += [0x0D, 0x0A]
        }
        let (status, text) = try get(client, url.target, fields, Limits.bundleBytes)
        if status == 304, !tag.isEmpty { return nil }
        if status != 200 { throw refusal(.unreachable, url.target, status) }
        guard let text else { throw BundleRefusal(problem: .tooLarge, words: "it has more than 4 MiB") }
        var file = BundleFile(text: text, tag: client.entityTag)
        if file.tag.count > Limits.entityTagBytes { file.tag = [] }
        for byte in file.tag where byte <= 0x20 || byte >= 0x7F {
            file.tag = []
            break
        }
        // The name is the path's end, and a query may come behind it.
        var target = url.target
        target.insert(contentsOf: Array(".sig".utf8), at: target.firstIndex(of: UInt8(ascii: "?")) ?? target.count)
        let (other, signature) = try get(client, target, [], Limits.signatureBytes)
        // Some stores say 403 of what is not there.
        if other == 403 || other == 404 { throw refusal(.signature, target, other) }
        if other != 200 { throw refusal(.unreachable, target, other) }
        file.signature = signature ?? []
        return file
    }

    /// - Returns: the status, and a body within the limit.
    private func get(
        _ client: HTTPSClient<SystemClock>, _ target: [UInt8], _ fields: [UInt8], _ limit: Int
    ) throws(BundleRefusal) -> (UInt16, [UInt8]?) {
        var all = Array("User-Agent: gatehouse/".utf8)
        all.append(contentsOf: Runtime.version.bytes)
        all += [0x0D, 0x0A]
        all += fields
        do throws(TransportFailure) {
            return try client.ask("GET", target, token: nil, fields: all, limitBytes: limit)
        } catch {
            throw BundleRefusal(problem: .unreachable, words: error.message, isLasting: false)
        }
    }

    private func refusal(_ problem: BundleProblem, _ target: [UInt8], _ status: UInt16) -> BundleRefusal {
        let isElsewhere = status >= 300 && status < 400 && status != 304
        return BundleRefusal(
            problem: problem,
            words: joined(
                BundleSource.withoutQuery(target), " answers ", String(status),
                isElsewhere ? "; it is followed to no other place: configure the one that it leads to" : ""),
            isLasting: false)
    }

    /// A query may hold a secret.
    private static func withoutQuery(_ target: [UInt8]) -> String {
        String(decoding: target[..<(target.firstIndex(of: UInt8(ascii: "?")) ?? target.count)], as: UTF8.self)
    }

    private func read() throws(BundleRefusal) -> BundleFile? {
        guard let path else { return nil }
        var file = BundleFile(text: try BundleSource.read(path, Limits.bundleBytes, .unreachable))
        if keys != nil { file.signature = try BundleSource.read(joined(path, ".sig"), Limits.signatureBytes, .signature) }
        return file
    }

    static func read(_ path: String, _ limit: Int, _ problem: BundleProblem) throws(BundleRefusal) -> [UInt8] {
        do throws(SystemError) { return try Files.read(path, limitBytes: limit) } catch {
            throw BundleRefusal(problem: problem, words: joined("bundle ", path, ": ", error.message), isLasting: false)
        }
    }

    /// Holds a bundle against the keys and checks it whole.
    /// - Parameter now: when it counts as loaded, milliseconds since the epoch.
    func examine(_ file: BundleFile, now: Int64) throws(BundleRefusal) -> Bundle {
        let text = file.text
        if let keys, !keys.haveSigned(text.span, file.signature) {
            throw BundleRefusal(
                problem: .signature,
                words: joined("bundle ", place, ": the signature is not that of these bytes by a key in bundle: key:"),
                isLasting: false)
        }
        return try BundleSource.check(text, place, now: now)
    }

    /// Checks a bundle whole.
    /// - Parameter place: where it comes from, for messages.
    static func check(_ text: [UInt8], _ place: String, now: Int64) throws(BundleRefusal) -> Bundle {
        let (bundle, problems) = Bundle.read(text.span, loadedAt: now)
        var words = ""
        for problem in problems {
            let at = joined(place, ":", problem.position.description)
            if !problem.isWarning {
                words = joined(words, words.utf8.isEmpty ? "" : "\n", at, joined(": ", problem.message))
            } else if bundle != nil {
                Log.warning("the bundle holds something without effect") {
                    $0.field("at", at)
                    $0.field("what", problem.message)
                }
            }
        }
        guard let bundle else { throw BundleRefusal(problem: .content, words: words) }
        return bundle
    }
}
