// `matches` in RE2's syntax: by the deterministic table and by sets of states alike, and in linear time.

import CEL
import Formats
import Testing

private func matches(_ pattern: String, _ text: String, literal: Bool) throws -> Bool {
    var environment = Environment()
    environment.declare("pattern", .string, slot: 0)
    environment.declare("text", .string, slot: 1)
    struct Texts: Bindings {
        var pattern: [UInt8]
        var text: [UInt8]
        var region: Span<UInt8> { @_lifetime(borrow self) get { Span() } }
        func document(_ number: Int) -> JSONDocument? { nil }
        func load(_ slot: Int, into heap: inout Heap) -> Value? {
            heap.string(slot == 0 ? pattern.span : text.span)
        }
    }
    let source = literal ? "text.matches(r'''\(pattern)''')" : "text.matches(pattern)"
    let program = try Compiler.compile(source, in: environment)
    var evaluator = Evaluator()
    evaluator.begin()
    return try evaluator.evaluate(program, 0, Texts(pattern: Array(pattern.utf8), text: Array(text.utf8))).isTrue
}

@Suite("Regular expressions")
struct RegularExpressionTests {
    @Test(
        "Syntax of RE2",
        arguments: [
            ("abc", "xxabcxx", true), ("^abc$", "abc", true), ("^abc$", "xabc", false), ("", "", true), ("^$", "", true),
            ("^$", "a", false), ("a|b|^c", "xc", false), ("a|b|^c", "cx", true), ("a{2,3}b", "aab", true),
            ("^a{2,3}b", "ab", false), ("^(ab){2}$", "abab", true), ("x{,3}", "x{,3}", true), ("^a{2}$", "aaa", false),
            ("[[:alpha:]]+\\d", "ab1", true), ("[^a-c]", "abc", false), ("[]a]", "]", true), ("[a-]", "-", true),
            ("(?i)STRASSE", "strasse", true), ("(?i)ÄRGER", "ärger", true), ("(?i:A)b", "aB", false), ("a.c", "a\nc", false),
            ("(?s)a.c", "a\nc", true), ("(?m)^b$", "a\nb\nc", true), ("^b$", "a\nb\nc", false), ("\\bcat\\b", "a cat.", true),
            ("\\bcat\\b", "concat", false), ("\\Bcat", "concat", true), ("\\Aa\\z", "a", true), ("\\Q.*\\E", ".*", true),
            ("\\Q.*\\E", "ab", false), ("\\x{1F431}", "🐱", true), ("\\x41\\101", "AA", true), ("^.$", "🐱", true),
            ("^..$", "ñé", true), ("[α-ω]+$", "abc λ", true), ("\\p{Lu}\\p{L}+", "Äpfel", true), ("\\P{L}", "abc", false),
            ("\\p{Greek}", "λ", true), ("(?P<year>\\d{4})-(?<m>\\d\\d)", "on 2024-05", true), ("(a*)*b", "aaaaab", true),
            ("(a|aa)+$", "aaaa", true), ("a+?b*?", "a", true), ("[\\d\\-x]+", "-", true), ("\\.", "a", false),
        ])
    func syntax(_ pattern: String, _ text: String, _ expected: Bool) throws {
        #expect(try matches(pattern, text, literal: true) == expected)
        #expect(try matches(pattern, text, literal: false) == expected)
    }

    @Test(
        "What is not of the syntax is an error",
        arguments: [
            "(", ")", "a**", "*a", "[a", "[z-a]", "\\8", "(?=a)", "(?<!a)", "a{1001}", "(?<n", "\\p{Klingon}", "[[:foo:]]",
            "\\", "(a)\\1", "((a{100}){100}){100}",
        ])
    func errors(_ pattern: String) throws {
        #expect(throws: EvaluationError.self) { try matches(pattern, "a", literal: false) }
    }

    // limit: CEL.regularExpressionSteps
    @Test("A pattern that an event brings costs what it costs: it ends by the limit, and classes are looked up once")
    func dearPatterns() throws {
        #expect(try matches(String(repeating: "\\p{Lu}?", count: 3) + "x", "x", literal: false))
        for part in ["\\pL", "(?i)[\\x{0}-\\x{10FFFF}]", "\\PN", "[[:^alpha:]\\pM]"] {
            #expect(throws: EvaluationError.self) {
                try matches(String(repeating: part, count: 5000), "a", literal: false)
            }
        }
    }

    @Test("Time is linear in the text for patterns that back-tracking engines hang on")
    func linear() throws {
        let text = String(repeating: "a", count: 20_000) + "c"
        #expect(try matches("^(a+)+b$", text, literal: true) == false)
        #expect(try matches("(a|a|a)*b", text, literal: true) == false)
        #expect(try matches("(\\ba|a+)+b", text, literal: true) == false)
        // Alternatives of which each begins anew at every byte: what the fuzzer found to be slow to make deterministic.
        let alternatives = "fooeveprofile.tagsele.tagse!s.rofile.tagsele.|`as.|`a%sb--------3%s7/.0'|`as.|`a%sb----n255Set.0s"
        #expect(try matches(alternatives, text, literal: true) == false)
    }
}
