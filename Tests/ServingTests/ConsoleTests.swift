// Shows in which form the console's files are sent, and that they keep what the page promises: nothing of any other origin,
// and nothing that its own Content-Security-Policy refuses. The page itself is tried in a browser, by test_console.py.

import Foundation
import Platform
import Testing

@testable import Serving

@Suite struct ConsoleTests {
    @Test(arguments: [
        ("gzip", true), ("br, GZIP", true), ("deflate,gzip;q=0.001", true), ("gzip ; q=1", true), ("", false), ("br", false),
        ("gzip;q=0", false), ("gzip ; q=0.000, br", false), ("identity", false), ("gzi", false),
    ])
    func whetherGzipIsTaken(header: String, isTaken: Bool) {
        let bytes = Array(header.utf8)
        #expect(takesGzip(bytes.span) == isTaken)
    }

    /// As they are in the repository, which is how ordinary builds have them.
    private func text(_ file: ConsoleFile) -> String {
        let bytes = file.bytes
        return String(decoding: bytes.indices.map { bytes[$0] }, as: UTF8.self)
    }

    @Test func filesAreThere() throws {
        #expect(!ConsoleFile.arePacked)
        #expect(text(.page).hasPrefix("<!doctype html>"))
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let folder = tests.deletingLastPathComponent().appendingPathComponent("Sources/CConsole")
        for (file, name) in [(ConsoleFile.page, "console.html"), (.style, "console.css"), (.script, "console.js")] {
            #expect(try text(file) == String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8))
        }
    }

    @Test func pageKeepsItsOwnPolicy() {
        let page = text(.page)
        for word in ["style=", "onclick=", "onsubmit=", "<style", "javascript:", "<script>", "<iframe", "<img"] {
            #expect(!page.contains(word), "\(word)")
        }
        // A name of SVG's is no address.
        for file in [ConsoleFile.page, .style, .script] {
            let addresses = text(file).replacingOccurrences(of: "http://www.w3.org/2000/svg", with: "")
            #expect(!addresses.contains("http://") && !addresses.contains("https://") && !addresses.contains("url("))
        }
        for word in ["innerHTML", "insertAdjacent", "eval(", "localStorage", "sessionStorage", ".cookie", "pushState"] {
            #expect(!text(.script).contains(word), "\(word)")
        }
    }
}
