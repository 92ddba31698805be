// Shows that JSON is read as RFC 8259 says, that values are found again, and that a warm document allocates nothing.
import Foundation
import Testing

@testable import Formats

private let suite = sharedLines("conformance/json/jsontestsuite.jsonl")

@Suite struct JSONDocumentTests {
    /// Each case of JSONTestSuite: what must be accepted is, what must be refused is, the open ones do not crash.
    @Test(.enabled(if: suite != nil, "needs ../shared/conformance"))
    func everyCaseOfTheSuite() throws {
        var cases = 0
        for line in try #require(suite) {
            let record = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            let id = record["id"] as? String ?? ""
            let text = [UInt8](try #require(Data(base64Encoded: record["base64"] as? String ?? "-")))
            var document = JSONDocument()
            var isAccepted = true
            do throws(JSONError) { try document.parse(text.span) } catch { isAccepted = false }
            if let expected = record["accept"] as? Bool { #expect(isAccepted == expected, "\(id)") }
            cases += 1
        }
        #expect(cases == 184)
    }

    @Test func aNarrowedDocumentHasAnotherRootUntilItParsesAgain() throws {
        var document = try parsed(#"{"a": {"b": 1}, "c": 2}"#)
        let inner = try #require(document.member(document.root, "a"))
        document.narrow(to: inner)
        #expect(document.count(document.root) == 1 && document.member(document.root, "c") == nil)
        let next = Array(#"{"c": 3}"#.utf8)
        try document.parse(next.span)
        #expect(document.member(document.root, "c") != nil)
    }

    @Test func membersAndElements() throws {
        let document = try parsed(#"{"a": 1, "list": [true, false, null, -2.5, "x"], "": {"deep": {}}, "e": []}"#)
        #expect(document.kind(document.root) == .object)
        #expect(document.count(document.root) == 4)
        let list = try #require(document.member(document.root, "list"))
        #expect(document.count(list) == 5)
        var kinds: [JSONKind] = []
        var child = document.firstChild(list)
        while let element = child {
            kinds.append(document.kind(element))
            child = document.next(element)
        }
        #expect(kinds == [.bool, .bool, .null, .number, .string])
        #expect(document.firstChild(list).flatMap(document.bool) == true)
        #expect(document.member(document.root, "missing") == nil)
        #expect(document.member(list, "a") == nil)
        let empty = try #require(document.member(document.root, ""))
        #expect(document.member(empty, "deep").map(document.count) == 0)
        let nothing = try #require(document.member(document.root, "e"))
        #expect(document.firstChild(nothing) == nil)
        #expect(document.next(document.root) == nil)
    }

    @Test func numbers() throws {
        let document = try parsed(
            "[0, -0, 9223372036854775807, -9223372036854775808, 9223372036854775808, 3.0, 1e2, 0.1, 123456789012345678]"
        )
        var nodes: [JSONNode] = []
        var child = document.firstChild(document.root)
        while let element = child {
            nodes.append(element)
            child = document.next(element)
        }
        #expect(nodes.map(document.int64) == [0, 0, .max, .min, nil, nil, nil, nil, 123_456_789_012_345_678])
        #expect(
            nodes.map(document.double) == [0, 0, 0x1p63, -0x1p63, 0x1p63, 3, 100, 0.1, 123_456_789_012_345_680])
        #expect(document.kind(nodes[5]) == .number)
        #expect(document.kind(nodes[4]) == .integer)
        #expect(string(document.source(nodes[6])) == "1e2")
    }

    @Test func strings() throws {
        let document = try parsed(#"["\u0041\n\"\\\/\b\f\r\t", "plain ü", "\ud83d\ude00", "\u0000", "\u00fc\u20ac"]"#)
        var values: [String] = []
        var sources: [String] = []
        var child = document.firstChild(document.root)
        while let element = child {
            values.append(string(document.bytes(element)))
            sources.append(string(document.source(element)))
            child = document.next(element)
        }
        #expect(values == ["A\n\"\\/\u{8}\u{C}\r\t", "plain ü", "😀", "\0", "ü€"])
        #expect(sources[0] == #""\u0041\n\"\\\/\b\f\r\t""#)
        #expect(sources[1] == #""plain ü""#)
        let first = try #require(document.firstChild(document.root))
        #expect(document.equals(first, "A\n\"\\/\u{8}\u{C}\r\t"))
        #expect(!document.equals(document.root, "x"))
    }

    @Test func duplicateKeysLeaveOnlyTheLast() throws {
        let document = try parsed(#"{"a": 1, "b": 2, "\u0061": 3, "a": 4, "c": 5}"#)
        #expect(document.member(document.root, "a").flatMap(document.int64) == 4)
        #expect(document.count(document.root) == 3)
        var writer = JSONWriter()
        writer.value(document, document.root)
        #expect(string(writer.bytes.span) == #"{"b":2,"a":4,"c":5}"#)

        var strict = JSONDocument()
        let text = Array("{\"a\": 1,\n \"a\": 2}".utf8)
        let error = #expect(throws: JSONError.self) { try strict.parse(text.span, duplicateKeys: .refused) }
        #expect(error?.kind == .duplicateKey)
        #expect(error?.position == TextPosition(line: 2, column: 2))
    }

    /// Many keys, a third of them repeated, against a dictionary; and in well under a second for a hostile 50,000.
    @Test func duplicatesAmongManyKeys() throws {
        var expected: [String: Int64] = [:]
        var text = "{"
        for index in 0..<50_000 {
            let key = "key\(index % 33_000)"
            expected[key] = Int64(index)
            text += (index == 0 ? "" : ",") + "\"\(key)\":\(index)"
        }
        let document = try parsed(text + "}")
        #expect(document.count(document.root) == expected.count)
        var seen: [String: Int64] = [:]
        var child = document.firstChild(document.root)
        while let key = child, let value = document.next(key) {
            seen[string(document.bytes(key))] = document.int64(value)
            child = document.next(value)
        }
        #expect(seen == expected)
    }

    @Test func errorsSayWhere() {
        func failure(_ text: String, depth: Int = Limits.jsonDepth) -> JSONError? {
            do { _ = try parsed(text, maximumDepth: depth) } catch { return error as? JSONError }
            return nil
        }
        #expect(failure("")?.kind == .empty)
        #expect(failure("{\"ü\":\n  tru}")?.position == TextPosition(line: 2, column: 6))
        #expect(failure("[1] x")?.kind == .trailingBytes)
        #expect(failure("[1] x")?.offset == 4)
        #expect(failure("[1e999]")?.kind == .numberOutOfRange)
        #expect(failure(#"["\ud800"]"#)?.kind == .loneSurrogate)
        #expect(failure(#"["\ud800\u0041"]"#)?.kind == .loneSurrogate)
        #expect(failure("[[[]]]", depth: 2)?.kind == .tooDeep)
        #expect(failure("[[]]", depth: 2) == nil)
        #expect(failure("{\"a\" 1}")?.kind == .unexpectedByte)
        #expect(failure("[1,]")?.kind == .unexpectedByte)
        #expect(failure("{\"a\":1,}")?.kind == .unexpectedByte)
        #expect(failure("[1}")?.kind == .unexpectedByte)
        #expect(failure("\u{FEFF}[]")?.kind == .byteOrderMark)
    }

    /// After an error the document is usable, and holds nothing of the refused text.
    @Test func errorLeavesNull() throws {
        var document = try parsed("[1,2]")
        let bad = Array("[1,2,".utf8)
        #expect(throws: JSONError.self) { try document.parse(bad.span) }
        #expect(document.isNull(document.root))
        let good = Array("{\"a\":[]}".utf8)
        try document.parse(good.span)
        #expect(document.count(document.root) == 1)
    }

    /// Every prefix of a text is refused, none crashes.
    @Test func prefixes() throws {
        let text = Array(#"{"a":[1,-2.5e+3,"x\u00fc\ud83d\ude00ü"],"b":{"c":true,"d":null,"e":false}}"#.utf8)
        var document = JSONDocument()
        for length in 0..<text.count {
            let prefix = Array(text[..<length])
            #expect(throws: JSONError.self) { try document.parse(prefix.span) }
        }
        try document.parse(text.span)
        #expect(document.count(document.root) == 2)
    }

    @Test func pointersAndPositions() throws {
        let document = try parsed("{\"a\": {\"x/y~z\": [10, {\"k\": \"\\n\"}]},\n \"b\": [[], [7]]}")
        let a = try #require(document.member(document.root, "a"))
        let list = try #require(document.member(a, "x/y~z"))
        let second = try #require(document.firstChild(list).flatMap(document.next))
        let leaf = try #require(document.member(second, "k"))
        #expect(document.pointer(to: leaf) == "/a/x~1y~0z/1/k")
        #expect(document.position(leaf) == TextPosition(line: 1, column: 28))
        #expect(document.pointer(to: document.root) == "")
        let b = try #require(document.member(document.root, "b"))
        let seven = try #require(
            document.firstChild(b).flatMap(document.next).flatMap(document.firstChild))
        #expect(document.pointer(to: seven) == "/b/1/0")
        #expect(document.position(seven).description == "2:13")
    }

    /// The memory of a warm document does not move: the same buffers serve text after text.
    @Test func warmParsingKeepsItsMemory() throws {
        let text = Array(
            #"{"type":"track","event":"Order \u0043ompleted","properties":{"revenue":12.5,"list":[1,2]}}"#.utf8)
        var document = JSONDocument()
        try document.parse(text.span)
        let textBefore = document.text.withUnsafeBufferPointer { $0.baseAddress }
        let nodesBefore = document.nodes.withUnsafeBufferPointer { $0.baseAddress }
        for _ in 0..<100 { try document.parse(text.span) }
        #expect(document.text.withUnsafeBufferPointer { $0.baseAddress } == textBefore)
        #expect(document.nodes.withUnsafeBufferPointer { $0.baseAddress } == nodesBefore)
    }

    @Test func writerWritesWhatTheReaderReads() throws {
        var writer = JSONWriter(reserving: 64)
        writer.beginObject()
        writer.key("text")
        writer.string("a\"\\\n\u{1}ü" as String)
        writer.key("numbers")
        writer.beginArray()
        writer.int(.min)
        writer.uint(.max)
        for value in [3.0, 0.1, -2.5, 1e100, 0, -0.0, 1234.56, Double.leastNonzeroMagnitude, 1.7976931348623157e308] {
            writer.double(value)
        }
        writer.double(.nan)
        writer.double(-.infinity)
        writer.endArray()
        writer.key("rest")
        writer.beginObject()
        writer.key(Array("k".utf8))
        writer.bool(true)
        writer.key("n")
        writer.null()
        writer.key("raw")
        writer.raw(Array("[1, 2]".utf8).span)
        writer.endObject()
        writer.endObject()
        #expect(
            string(writer.bytes.span)
                == #"{"text":"a\"\\\n\u0001ü","numbers":[-9223372036854775808,18446744073709551615,3.0,0.1,-2.5,1e+100,"#
                + #"0.0,-0.0,1234.56,5e-324,1.7976931348623157e+308,null,null],"rest":{"k":true,"n":null,"raw":[1, 2]}}"#
        )
        let document = try parsed(string(writer.bytes.span))
        var copy = JSONWriter()
        copy.value(document, document.root)
        #expect(string(copy.bytes.span) == string(writer.bytes.span).replacing("[1, 2]", with: "[1,2]"))
    }
}
