// Shows that YAML becomes the document that its author meant, with the place of each value, and that hostile YAML is
// refused with a reason and a place.
import Testing

@testable import Formats

@Suite struct YAMLTests {
    private func json(_ text: String) throws -> String {
        let bytes = Array(text.utf8)
        let document = try YAML.parse(bytes.span)
        var writer = JSONWriter()
        writer.value(document, document.root)
        return string(writer.bytes.span)
    }

    private func failure(_ text: [UInt8], depth: Int = Limits.jsonDepth) -> YAMLError? {
        do { _ = try YAML.parse(text.span, maximumDepth: depth) } catch { return error }
        return nil
    }

    private func failure(_ text: String, depth: Int = Limits.jsonDepth) -> YAMLError? {
        failure(Array(text.utf8), depth: depth)
    }

    @Test func coreSchema() throws {
        #expect(
            try json(
                """
                nulls: [null, Null, ~, ]
                empty:
                bools: [true, False, yes, on, "true"]
                integers: [0, -7, +7, 007, 0x1F, 0o17, 12345678901234567890, 1_000]
                floats: [1.5, .5, 5., -1e3, +1.0E-2, 6.02e23]
                strings: [a b, 'it''s', "tab\\t\\u00fc", 12:30:45, 1.2.3, -, 0x, 30m, 2026-11-24]
                """)
                == #"{"nulls":[null,null,null],"empty":null,"bools":[true,false,"yes","on","true"],"#
                + #""integers":[0,-7,7,7,31,15,12345678901234567890,"1_000"],"#
                + #""floats":[1.5,0.5,5.0,-1e3,1.0E-2,6.02e23],"#
                + #""strings":["a b","it's","tab\tü","12:30:45","1.2.3","-","0x","30m","2026-11-24"]}"#)
    }

    @Test func bundleShapes() throws {
        #expect(
            try json(
                """
                # a comment
                version: 7
                events:
                  Order Completed: { purpose: analytics, schema: { type: object, required: [revenue] } }
                  "*": { purpose: analytics }
                rules:
                  - { name: vip, when: 'profile.vip && context.channel == "kiosk"', serve: ten }
                  - name: long
                    when: >-
                      a &&
                      b
                1: number as key
                true: bool as key
                """)
                == #"{"version":7,"events":{"Order Completed":{"purpose":"analytics","schema":{"type":"object","#
                + #""required":["revenue"]}},"*":{"purpose":"analytics"}},"rules":[{"name":"vip","#
                + #""when":"profile.vip && context.channel == \"kiosk\"","serve":"ten"},{"name":"long","when":"a && b"}],"#
                + #""1":"number as key","true":"bool as key"}"#)
        #expect(try json("") == "null")
        #expect(try json("# nothing\n") == "null")
        #expect(try json("--- \na: !!str 12\nb: !!map {}\n...\n") == #"{"a":"12","b":{}}"#)
        #expect(try json("\u{FEFF}a: 1") == #"{"a":1}"#)
    }

    @Test func jsonIsYAML() throws {
        #expect(try json(" {\"a\": \"\\ud83d\\ude00\",\t\"b\": [1]}") == #"{"a":"😀","b":[1]}"#)
        #expect(failure("{\"a\": 1,\n\"a\": 2}")?.kind == .duplicateKey)
        #expect(try json("{a: 1, b: [x]}") == #"{"a":1,"b":["x"]}"#)
    }

    @Test func positions() throws {
        let text = Array("a: 1\nlist:\n  - ü: {key: value}\n  - [x, yy]\n".utf8)
        let document = try YAML.parse(text.span)
        let list = try #require(document.member(document.root, "list"))
        let first = try #require(document.firstChild(list))
        let inner = try #require(document.member(first, Array("ü".utf8)))
        let value = try #require(document.member(inner, "key"))
        #expect(document.position(value).description == "3:14")
        #expect(document.pointer(to: value) == "/list/0/ü/key")
        let last = try #require(document.next(first).flatMap(document.firstChild).flatMap(document.next))
        #expect(document.position(last).description == "4:9")
        #expect(string(document.source(last)) == "yy")
    }

    @Test func aliases() throws {
        #expect(
            try json("base: &b {a: [1, {x: 2}], c: 3}\ncopy: *b\nlist: [*b, &s text, *s, 9]")
                == #"{"base":{"a":[1,{"x":2}],"c":3},"copy":{"a":[1,{"x":2}],"c":3},"#
                + #""list":[{"a":[1,{"x":2}],"c":3},"text","text",9]}"#)
        #expect(failure("a: &a [*a]")?.kind == .unknownAlias)
        #expect(failure("a: *b")?.kind == .unknownAlias)
        #expect(failure("*b : 1")?.kind != nil)
    }

    /// Nine levels of nine aliases each stand for 387 million values; refused in a moment.
    @Test func aliasBomb() {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        for level in 1..<9 {
            text +=
                "a\(level): &a\(level) [" + Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ") + "]\n"
        }
        #expect(failure(text)?.kind == .tooManyValues)
    }

    // limit: Formats.yamlTextBytes
    @Test func hostileTexts() {
        #expect(failure(String(repeating: "[", count: 100_000))?.kind == .tooDeep)
        #expect(failure(String(repeating: "- ", count: 5000) + "x")?.kind == .tooDeep)
        #expect(failure("a: [[1]]", depth: 3) == nil)
        #expect(failure("a: [[1]]", depth: 2)?.kind == .tooDeep)
        #expect(failure("d: &d [[[1]]]\ne: [[*d]]", depth: 5)?.kind == .tooDeep)
        // Found by `Tools/fuzz yaml`: an empty container is as deep as any.
        #expect(failure("d: &d [[[]]]\ne: [[*d]]", depth: 5)?.kind == .tooDeep)
        #expect(failure("d: &d [[[]]]\ne: [[*d]]", depth: 6) == nil)
        #expect(failure("a: 1\nb: 2\na: 3")?.kind == .duplicateKey)
        #expect(failure("a: 1\nb: 2\na: 3")?.position.description == "3:1")
        #expect(failure("a: {x: 1, 'x': 2}")?.kind == .duplicateKey)
        #expect(failure("? [a]\n: 1")?.kind == .keyNotScalar)
        #expect(failure("x: &x {a: 1}\ny: {<<: *x}")?.kind == .mergeKey)
        #expect(failure("a: !python/object:os.system x")?.kind == .unsupportedTag)
        #expect(failure("a: !!binary x")?.kind == .unsupportedTag)
        #expect(failure("a: 1\n---\nb: 2")?.kind == .severalDocuments)
        #expect(failure("a: 1\n---\nb: 2")?.position.description == "2:1")
        #expect(failure("a: .inf")?.kind == .numberNotFinite)
        #expect(failure("a: 1e999")?.kind == .numberNotFinite)
        #expect(failure([0x61, 0x3A, 0x20, 0xFF])?.kind == .notUTF8)
        #expect(failure([0xFF, 0xFE, 0x61, 0x00])?.kind == .notUTF8)
        #expect(failure("a: b\u{1}c")?.kind == .syntax)
        #expect(failure("a: [1, 2\nb: 3")?.kind == .syntax)
        #expect(failure("a:\n\t- 1")?.position.description == "2:1")
        #expect(failure([UInt8](repeating: 0x20, count: Limits.yamlTextBytes + 1))?.kind == .tooLong)
    }

    /// No prefix of a text with everything in it crashes.
    @Test func prefixes() throws {
        let text = Array(
            "a: &x [1, 'q''', \"\\u00fc\"]\nb: {c: *x, d: |\n  text\n}\n? k\n: - v\n  - >-\n    folded\n".utf8)
        for length in 0...text.count { _ = failure(Array(text[..<length])) }
        #expect(failure(Array(text[..<26])) == nil)
    }
}
