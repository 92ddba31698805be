// Shows that the house is built as drawn: the imports of every room are those of the picture in the README, arrows point
// down, and the rules of the house that a reader cannot see at a glance hold in every file.

import Foundation
import Testing

@Suite struct HouseTests {
    static let top = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    struct Source {
        let room: String
        let name: String
        let lines: [String]
    }

    static let sources: [Source] = {
        var found: [Source] = []
        let folder = top.appendingPathComponent("Sources")
        let files = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)!
        for case let file as URL in files where file.pathExtension == "swift" {
            let text = try! String(contentsOf: file, encoding: .utf8)
            found.append(
                Source(
                    room: file.deletingLastPathComponent().lastPathComponent, name: file.lastPathComponent,
                    lines: text.components(separatedBy: "\n")))
        }
        return found
    }()

    /// The lines of the README's block ```rooms: `Name: Import, Import`.
    static let picture: [(room: String, imports: Set<String>)] = {
        let readme = try! String(contentsOf: top.appendingPathComponent("README.md"), encoding: .utf8)
        guard let begin = readme.range(of: "```rooms\n"),
            let end = readme.range(of: "```", range: begin.upperBound..<readme.endIndex)
        else { return [] }
        return readme[begin.upperBound..<end.lowerBound].split(separator: "\n").map { line in
            let parts = line.split(separator: ":", maxSplits: 1)
            let imports = parts.count > 1 ? parts[1] : ""
            return (
                parts[0].trimmingCharacters(in: .whitespaces),
                Set(imports.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty })
            )
        }
    }()

    @Test func everyRoomIsInThePictureAndEveryArrowPointsDown() {
        #expect(Self.picture.count > 10)
        let rooms = Set(Self.sources.map(\.room))
        let drawn = Set(Self.picture.map(\.room))
        #expect(rooms.isSubset(of: drawn), "not in the picture: \(rooms.subtracting(drawn))")
        // The picture lists the rooms from the top: an arrow leads to a room that is listed later, or to C.
        for (index, entry) in Self.picture.enumerated() {
            let below = Set(Self.picture[(index + 1)...].map(\.room))
            for target in entry.imports {
                #expect(below.contains(target), "\(entry.room) → \(target) points up")
            }
        }
    }

    @Test func importsAreThoseOfThePicture() {
        let library: Set<String> = ["Synchronization"]
        var used: [String: Set<String>] = [:]
        for source in Self.sources {
            for line in source.lines {
                let words = line.split(separator: " ")
                guard let at = words.firstIndex(of: "import"), at + 1 < words.count, !line.hasPrefix("//"), at <= 1 else { continue }
                let name = String(words[at + 1])
                if library.contains(name) { continue }
                used[source.room, default: []].insert(name)
                let allowed = Self.picture.first { $0.room == source.room }?.imports ?? []
                #expect(allowed.contains(name), "\(source.room)/\(source.name) imports \(name), which the picture does not show")
            }
        }
        for entry in Self.picture {
            for target in entry.imports {
                #expect(
                    used[entry.room, default: []].contains(target),
                    "the picture shows \(entry.room) → \(target), but nothing imports it")
            }
        }
    }

    @Test func everyFileBeginsBySayingWhatItIsFor() {
        for source in Self.sources {
            #expect(source.lines.first?.hasPrefix("//") == true, "\(source.room)/\(source.name)")
        }
    }

    @Test func pointersStayInTheRoomsThatMayHaveThem() {
        let mayHave: Set<String> = ["Platform", "Store", "Cryptography", "Formats"]
        let words = ["UnsafePointer", "UnsafeMutable", "UnsafeRaw", "UnsafeBuffer", "withUnsafe", "unsafeBitCast", "Unmanaged"]
        for source in Self.sources where !mayHave.contains(source.room) {
            for (number, line) in source.lines.enumerated() where !line.trimmingCharacters(in: .whitespaces).hasPrefix("//") {
                for word in words where line.contains(word) {
                    Issue.record("\(source.room)/\(source.name):\(number + 1) uses \(word)")
                }
            }
        }
    }

    @Test func theTwoCompilationsDifferOnlyInPlatform() {
        for source in Self.sources where source.room != "Platform" {
            for (number, line) in source.lines.enumerated() where line.contains("hasFeature(Embedded)") {
                Issue.record("\(source.room)/\(source.name):\(number + 1)")
            }
        }
    }

    /// CEL is a library that other programs use by itself: whatever it shows to them is documented.
    @Test func whatTheLibraryShowsIsDocumented() {
        var count = 0
        for source in Self.sources where source.room == "CEL" {
            var previous = ""
            for (number, line) in source.lines.enumerated() {
                let text = line.trimmingCharacters(in: .whitespaces)
                if text.hasPrefix("public ") {
                    count += 1
                    if !previous.hasPrefix("///") { Issue.record("\(source.name):\(number + 1) has no docstring: \(text)") }
                }
                if !text.hasPrefix("@") { previous = text }
            }
        }
        #expect(count > 80)
    }

    /// The shipped binary knows the general category and the lower case of a character (Tools/lib/unicode/lookup.c) and would
    /// answer wrongly what ordinary Swift answers.
    @Test func ofUnicodeOnlyWhatShipsIsAsked() {
        let unknown = [
            ".properties.is", ".properties.numeric", "uppercaseMapping", "titlecaseMapping", "changesWhenUppercased",
            "changesWhenTitlecased", "changesWhenCase", "changesWhenNFKC", "canonicalCombiningClass", "uppercased()",
            ".isUppercase", ".isLowercase", ".isCased", ".isWhitespace", ".isNewline", ".isPunctuation", ".isLetter",
            ".isWholeNumber",
        ]
        for source in Self.sources {
            for (number, line) in source.lines.enumerated() {
                for word in unknown where line.contains(word) {
                    Issue.record("\(source.room)/\(source.name):\(number + 1) asks for \(word)")
                }
            }
        }
    }

    @Test func eachRoomKeepsItsLimitsInOneFile() {
        for source in Self.sources where source.name != "Limits.swift" {
            for (number, line) in source.lines.enumerated() where line.contains("enum Limits") {
                Issue.record("\(source.room)/\(source.name):\(number + 1)")
            }
        }
    }
}
