// llhttp's own request cases: where llhttp refuses, this parser refuses; where llhttp accepts, it may be stricter.
import Foundation
import Formats
import HTTP
import Testing

private let casesFile = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../../shared/conformance/http/llhttp-requests.jsonl").standardized
private let haveCases = FileManager.default.fileExists(atPath: casesFile.path)

private struct Case: Decodable {
    let id: String
    let base64: String
    let llhttp: String
    var bytes: [UInt8] { Array(Data(base64Encoded: base64) ?? Data()) }
}

/// llhttp stops at an upgrade so that its caller can take over, which it reports as an error. RFC 9110 section 7.8
/// lets a server ignore Upgrade, and clients that offer h2c along with an ordinary request rely on that.
private let upgradesThatMayBeIgnored: Set<String> = [
    "connection/Setting a flag and pausing", "connection/Upgrade POST request",
]

/// The request with a Host field behind its first line, if it has none: most cases have none and would all be refused
/// for that alone.
private func withHost(_ bytes: [UInt8]) -> [UInt8] {
    let text = String(decoding: bytes, as: UTF8.self)
    guard text.range(of: "\nhost:", options: .caseInsensitive) == nil,
        let lineEnd = bytes.dropFirst(2).firstIndex(of: 0x0A)
    else { return bytes }
    return Array(bytes[0...lineEnd]) + Array("Host: a\r\n".utf8) + Array(bytes[(lineEnd + 1)...])
}

@Suite(.enabled(if: haveCases, "needs ../shared/conformance/http"))
struct LlhttpConformanceTests {
    private func cases() throws -> [Case] {
        try String(contentsOf: casesFile, encoding: .utf8).split(separator: "\n")
            .map { try JSONDecoder().decode(Case.self, from: Data($0.utf8)) }
    }

    @Test func neverLaxer() throws {
        let cases = try cases()
        #expect(cases.count >= 76)
        for item in cases where item.llhttp.hasPrefix("error") {
            #expect(!Conversation(item.bytes).isClean || upgradesThatMayBeIgnored.contains(item.id), "\(item.id)")
            let hosted = Conversation(withHost(item.bytes))
            #expect(!hosted.isClean || upgradesThatMayBeIgnored.contains(item.id), "\(item.id) with Host")
        }
    }

    /// What llhttp accepts and is served here is accepted, once it has a Host; the rest is refused for a reason that
    /// stands in this list.
    @Test func stricterOnlyOnPurpose() throws {
        let onPurpose: Set<ProtocolFault> = [
            .unknownMethod, .malformedVersion, .unsupportedTransferCoding, .hostDiffersFromTarget,
            .bareLineFeed,  // behind a complete request
            .missingHost,  // of a second request
            .malformedTarget,  // a fragment
        ]
        var accepted = 0
        for item in try cases() where item.llhttp == "accept" {
            let conversation = Conversation(withHost(item.bytes))
            if let fault = conversation.fault {
                #expect(onPurpose.contains(fault), "\(item.id): \(fault)")
            } else {
                #expect(!conversation.requests.isEmpty || conversation.leftOver > 0, "\(item.id)")
                accepted += 1
            }
        }
        #expect(accepted > 20)
    }
}
