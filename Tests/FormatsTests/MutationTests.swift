// Shows that no damaged text crashes a reader here, and that what is accepted after all survives being written and read
// again. Damage is made by a generator with a fixed seed, so that a failure comes back.
import Testing

@testable import Formats

/// Damages a text in one to four places.
struct Mutator {
    var state: UInt64
    static let spice =
        Array("{}[]\",:\\u0d8n-+.eE1 \n\t'&*!|>%@`#?~<\u{0}\u{1F}\u{FEFF}é😀".utf8) + [0xFF, 0xC0, 0x80, 0xED]

    mutating func next(below limit: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(truncatingIfNeeded: (state >> 33) % UInt64(limit))
    }

    mutating func mutate(_ text: [UInt8]) -> [UInt8] {
        var text = text
        for _ in 0...next(below: 4) where !text.isEmpty {
            let place = next(below: text.count)
            switch next(below: 5) {
            case 0: text[place] ^= UInt8(1 << next(below: 8))
            case 1: text.remove(at: place)
            case 2: text.insert(Mutator.spice[next(below: Mutator.spice.count)], at: place)
            case 3: text.removeSubrange(place..<min(text.count, place + next(below: 20)))
            default:
                let copy = Array(text[place..<min(text.count, place + next(below: 20))])
                text.insert(contentsOf: copy, at: next(below: text.count))
            }
        }
        return text
    }
}

@Suite struct MutationTests {
    /// Everything that may be asked about every node, and the text that the document is.
    private func walk(_ document: JSONDocument, deep: Bool) -> [UInt8] {
        var writer = JSONWriter()
        writer.value(document, document.root)
        if deep {
            for index in 0..<document.nodeCount {
                let node = JSONNode(index: UInt32(index))
                _ = document.pointer(to: node)
                _ = document.position(node)
                _ = (document.int64(node), document.double(node), document.bool(node), document.string(node))
                _ = string(document.source(node))
            }
        }
        return writer.bytes
    }

    @Test func damagedJSON() throws {
        let seed = Array(
            #"{"type":"track","a":[1,-2.5e+3,0,true,null,"x\u00fc\ud83d\ude00é\n"],"a":{"b":{},"":[[]]},"n":123456789012345678901}"#
                .utf8)
        var mutator = Mutator(state: 1)
        var document = JSONDocument()
        var again = JSONDocument()
        var accepted = 0
        for round in 0..<30_000 {
            let text = mutator.mutate(seed)
            do throws(JSONError) {
                try document.parse(text.span)
            } catch {
                #expect(error.offset <= text.count)
                continue
            }
            accepted += 1
            let written = walk(document, deep: round % 8 == 0)
            try again.parse(written.span)
            #expect(walk(again, deep: false) == written)
        }
        // Neither everything nor nothing: otherwise the damage is of the wrong size to show anything.
        #expect(accepted > 1000 && accepted < 29_000)
    }

    @Test func damagedYAML() throws {
        let seed = Array(
            "a: &x [1, 'q''', \"\\u00fc\", 0x1F]\nb: {c: *x, d: ~, e: !!str 5}\nf: |\n  text\n? k\n: - v\n  - >-\n    folded\n"
                .utf8)
        var mutator = Mutator(state: 2)
        var again = JSONDocument()
        var accepted = 0
        for _ in 0..<20_000 {
            let text = mutator.mutate(seed)
            guard let document = try? YAML.parse(text.span) else { continue }
            accepted += 1
            let written = walk(document, deep: false)
            try again.parse(written.span, duplicateKeys: .refused)
            #expect(walk(again, deep: false) == written)
        }
        #expect(accepted > 1000 && accepted < 19_000)
    }

    @Test func damagedGzip() throws {
        var plain: [UInt8] = []
        for index in 0..<3000 { plain.append(UInt8(truncatingIfNeeded: index &* index >> 3)) }
        let packed = try Gzip.deflate(plain.span)
        var mutator = Mutator(state: 3)
        var inflater = Inflater()
        var output: [UInt8] = []
        for _ in 0..<5000 {
            let text = mutator.mutate(packed)
            output.removeAll(keepingCapacity: true)
            var failed = false
            do throws(GzipError) {
                try inflater.inflate(text.span, limit: 4000, appendingTo: &output)
            } catch { failed = true }
            #expect(failed ? output.isEmpty : output.count <= 4000)
        }
        output.removeAll()
        try inflater.inflate(packed.span, limit: 4000, appendingTo: &output)
        #expect(output == plain)
    }
}
