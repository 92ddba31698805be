import Formats
// What the tests of this room share: the folder of conformance cases beside the package, and parsing from literals.
import Foundation

/// The lines of a file under ../shared, or nil where the folder is missing.
func sharedLines(_ path: String) -> [Substring]? {
    var folder = URL(fileURLWithPath: #filePath)
    for _ in 0..<4 { folder.deleteLastPathComponent() }
    guard let text = try? String(contentsOf: folder.appendingPathComponent("shared/" + path), encoding: .utf8) else {
        return nil
    }
    return text.split(separator: "\n")
}

func parsed(_ text: String, maximumDepth: Int = Limits.jsonDepth) throws -> JSONDocument {
    var document = JSONDocument()
    let bytes = Array(text.utf8)
    try document.parse(bytes.span, maximumDepth: maximumDepth)
    return document
}

func string(_ bytes: Span<UInt8>) -> String { String(copying: bytes) }
