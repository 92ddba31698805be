// Shows that a document that is put together is the one that its text would be parsed into.
import Testing

@testable import Formats

@Suite struct JSONBuilderTests {
    /// Copies a value with all that is in it.
    private func copy(_ document: borrowing JSONDocument, _ node: JSONNode, into builder: inout JSONBuilder) {
        let kind = document.kind(node)
        guard kind == .object || kind == .array else { return builder.scalar(document, node) }
        if kind == .object { builder.beginObject() } else { builder.beginArray() }
        var child = document.firstChild(node)
        while let next = child {
            var value = next
            if kind == .object {
                builder.key(document, next)
                value = document.next(next)!
            }
            copy(document, value, into: &builder)
            child = document.next(value)
        }
        if kind == .object { builder.endObject() } else { builder.endArray() }
    }

    /// What a document is made of.
    private func parts(_ document: JSONDocument) -> [[UInt32]] {
        document.nodes.map { [$0.head, $0.offset, $0.length, $0.next] }
    }

    private func check(_ builder: inout JSONBuilder, _ document: inout JSONDocument) throws {
        let written = builder.text
        builder.finish(into: &document)
        let expected = try parsed(String(decoding: written, as: UTF8.self))
        #expect(document.text == expected.text)
        #expect(parts(document) == parts(expected))
        #expect(document.root == expected.root)
    }

    @Test func aCopyIsWhatItsTextIsParsedInto() throws {
        var builder = JSONBuilder()
        // Both are used again and again, with what the text before has left in them.
        var document = JSONDocument()
        for text in [
            "null", "true", "-1.50E+3", #""""#, #""a\"b""#, "[]", "{}", "[[],{},[[]]]", #" [ 1 , "x" , false ] "#,
            #"{"a":1,"a":{"b":2},"c":[{"d":"é"}]}"#, #"{"\u0061\n":"\/\u00fc\ud83d\ude00","plain":"\t","x":["\\"]}"#,
            #"{"k\"":{"\u0000":"\u0001"},"":"","n":12345678901234567890}"#,
        ] {
            let source = try parsed(text)
            copy(source, source.root, into: &builder)
            try check(&builder, &document)
        }
    }

    @Test func whatIsWrittenAnewIsFoundByItsName() throws {
        var builder = JSONBuilder()
        builder.beginObject()
        builder.key("first")
        builder.string("a \"word\"" as StaticString)
        builder.key("needs\n" as StaticString)
        builder.string(Array("plain".utf8))
        builder.endObject()
        var document = JSONDocument()
        try check(&builder, &document)
        let values = ["first", "needs\n"].map { key in
            document.member(document.root, Array(key.utf8)).flatMap { document.string($0) }
        }
        #expect(values == ["a \"word\"", "plain"])
    }

    @Test func damagedTextsThatAreTakenAreCopiedWhole() throws {
        let seed = Array(#"{"type":"track","a":[1,-2.5e+3,0,true,null,"x\u00fc\ud83d\ude00é\n"],"b\t":{"b":{},"":[[]]}}"#.utf8)
        var mutator = Mutator(state: 7)
        var (source, document, builder, accepted) = (JSONDocument(), JSONDocument(), JSONBuilder(), 0)
        for _ in 0..<20_000 {
            do { try source.parse(mutator.mutate(seed).span) } catch { continue }
            accepted += 1
            copy(source, source.root, into: &builder)
            try check(&builder, &document)
        }
        #expect(accepted > 1000)
    }
}
