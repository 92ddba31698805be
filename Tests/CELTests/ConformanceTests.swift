// The cases of the CEL specification in the shared folder beside the repository, through the batch evaluator as
// `gatehouse eval --batch` runs it. Skipped where the folder is missing.

import CEL
import Formats
import Foundation
import Testing

private let folder = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("../shared/conformance/cel").standardizedFileURL

private let files: [String] = {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.filter { $0.hasSuffix(".jsonl") }.sorted()
}()

func systemZones() -> TimeZones {
    TimeZones { name in
        FileManager.default.contents(atPath: "/usr/share/zoneinfo/" + name).map { Array($0) }
    }
}

/// A case whose expected value contradicts its own expression: `?` without a backslash would have to become `\\?`.
private let contradictory: Set<String> = ["parse/bytes_literals/triple_double_quoted_unescaped_punctuation"]

/// Equality of two answers: maps in any order, doubles by value, an expected error by any error.
func answersEqual(_ expected: Any, _ found: Any) -> Bool {
    if let a = expected as? [String: Any], let b = found as? [String: Any] {
        if let x = a["entries"] as? [[String: Any]], let y = b["entries"] as? [[String: Any]] {
            return x.count == y.count
                && x.allSatisfy { entry in y.contains { answersEqual(entry, $0) } }
        }
        if let x = a["doubleValue"], let y = b["doubleValue"], Set(a.keys) == Set(b.keys) {
            if let p = x as? Double, let q = y as? Double { return p == q }
            return "\(x)" == "\(y)"
        }
        return a.count == b.count && a.allSatisfy { key, value in b[key].map { answersEqual(value, $0) } ?? false }
    }
    if let a = expected as? [Any], let b = found as? [Any] {
        return a.count == b.count && zip(a, b).allSatisfy { answersEqual($0, $1) }
    }
    return (expected as? NSObject) == (found as? NSObject)
}

@Test("Each case of the specification has its value, or fails where it must", .enabled(if: !files.isEmpty), arguments: files)
func specificationCases(_ file: String) throws {
    let text = try String(contentsOf: folder.appendingPathComponent(file), encoding: .utf8)
    var batch = BatchEvaluator(zones: systemZones())
    var failures: [String] = []
    for line in text.split(separator: "\n") {
        let bytes = Array(line.utf8)
        var writer = JSONWriter()
        batch.evaluate(bytes.span, into: &writer)
        let given = try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
        let answer = try #require(try JSONSerialization.jsonObject(with: Data(writer.bytes)) as? [String: Any])
        let expected = try #require(given["expect"] as? [String: Any])
        if let id = given["id"] as? String, contradictory.contains(id) { continue }
        let isRight: Bool
        if let value = expected["value"] {
            isRight = answer["value"].map { answersEqual(value, $0) } ?? false
        } else {
            isRight = answer["error"] != nil
        }
        if !isRight {
            failures.append("\(given["expr"] ?? "") -> " + String(decoding: writer.bytes, as: UTF8.self))
        }
    }
    #expect(failures.isEmpty, Comment(rawValue: failures.joined(separator: "\n")))
}
