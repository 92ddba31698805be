// Damaged expressions through lexer, parser, checker, compiler and evaluator: any answer is right, a crash or a hang is
// not. The mutator is seeded, so that a find can be repeated: set CEL_FUZZ_TURNS and CEL_FUZZ_SEED for long runs.

import CEL
import Formats
import Foundation
import Testing

/// Makes new expressions of old ones.
struct ExpressionMutator {
    private var state: UInt64
    private var seeds: [[UInt8]]
    private let pieces: [[UInt8]] = [
        "(", ")", "[", "]", "{", "}", ".", "?", ":", ",", "!", "-", "--", "&&", "||", "==", "<", " in ", "+", "*", "/", "%", "0",
        "1u", "-9223372036854775808", "9223372036854775807", "1e308", "0x7fffffffffffffff", "''", "b'\\xff'", "r'''",
        "\"\\u0000\"", "null", "true", "event", "profile.tags", "profile.orders", "now", ".map(x, ", ".exists(x, ",
        ".all(a, b, ", ".transformMap(k, v, ", "cel.bind(y, ", "has(", ".matches('(a|b)*\\\\b{3}')", ".format([", "'%.999f'",
        "'%x %e %s'", "timestamp(", "duration('", "-1h", ".getHours('Europe/Berlin')", "ip('::1')", "cidr('10.0.0.0/8')",
        ".containsIP(", "optional.of(", ".?x", "[?0]", ".orValue(", "math.greatest(", "math.bitShiftLeft(", ".substring(",
        ".replace('', 'x', ", ".split('')", ".join()", "string(", "int(", "double('", "type(", "size(", "é", "\u{1F600}", "//",
        "`a-b`", "\n",
    ].map { Array($0.utf8) }

    init(seed: UInt64, seeds: [[UInt8]]) {
        state = seed | 1
        self.seeds = seeds
    }

    private mutating func random(_ limit: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return limit <= 0 ? 0 : Int(state >> 33) % limit
    }

    mutating func next() -> [UInt8] {
        var text = seeds[random(seeds.count)]
        for _ in 0...random(4) {
            let place = random(text.count + 1)
            switch random(7) {
            case 0: if place < text.count { text[place] = UInt8(random(256)) }
            case 1: if place < text.count { text.remove(at: place) }
            case 2: text.insert(contentsOf: pieces[random(pieces.count)], at: place)
            case 3:
                let other = seeds[random(seeds.count)]
                text.replaceSubrange(place..<text.count, with: other[random(other.count)...])
            case 4:
                let end = min(text.count, place + random(12))
                text.insert(contentsOf: text[place..<end], at: place)
            case 5: text = Array("(".utf8) + text + Array(")".utf8) + pieces[random(pieces.count)]
            default:
                let end = min(text.count, place + random(12))
                text.replaceSubrange(place..<end, with: pieces[random(pieces.count)])
            }
        }
        if text.count > 2000 { text.removeLast(text.count - 2000) }
        return text
    }
}

let fuzzSeeds: [String] = [
    "profile.orders >= 3 && profile.ltv > 100.0 || 'vip' in profile.tags", "event.properties.revenue * 2.0 + 1",
    "profile.tags.exists(t, t.startsWith('g')) ? profile.country : 'none'", "[1, 2, 3].map(x, x > 1, x * 2).size() == 2",
    "{'a': 1, 'b': [1, 2u, 3.5], true: null}['b'][1]", "now - timestamp('2023-01-01T00:00:00Z') > duration('1h30m')",
    "'%s is %d, %.2f, %x %b %e'.format(['a', 1, 2.5, 255, 7, 1e10])", "'a1b2'.matches('^([a-z][0-9]){2}$')",
    "event.?properties.?coupon.orValue('').lowerAscii().trim()", "has(event.properties.items) && event.properties.items.all(i, v, v.n > 0)",
    "cel.bind(x, profile.categories, x.transformMap(k, v, v + 1))", "math.greatest([1, 2.5, 3u]) + 1.0",
    "string(cidr('10.1.2.0/24').masked()) + string(ip('2001:db8::1'))", "base64.encode(b'\\xff\\x00abc')",
    "'tacocat'.substring(1, 4).reverse().split('').join('-').indexOf('c', 1)", "strings.quote('a\\n\"b').replace('a', 'bb', 2)",
    "optional.of(1).optMap(v, v + 1).or(optional.none()).value()", "timestamp(0).getDayOfYear('+01:30') + duration('90s').getSeconds()",
    "[[1], [2, [3]]] == [[1.0], [2u, [3]]]", "type(1) == int && string(type('a')) != ''", "-(-9223372036854775807 - 1)",
    "[1, 2].exists_one(x, x == 2) && {1: 'a'}.exists(k, v, k == 1 && v == 'a')", "int('12') + int(3.9) + int(uint(7))",
]

/// Compiles and evaluates one text in both modes; the answers do not matter.
func digest(_ text: [UInt8], _ evaluator: inout Evaluator, _ bindings: ShopBindings) -> Int {
    var environment = shopEnvironment()
    var evaluated = 0
    for checks in [true, false] {
        environment.checksTypes = checks
        var compiler = Compiler()
        guard let _ = try? compiler.add(text, in: environment) else { continue }
        let program = compiler.finish()
        evaluator.begin()
        if let value = try? evaluator.evaluate(program, 0, bindings) {
            var writer = JSONWriter()
            evaluator.write(value, to: &writer, program, bindings)
        }
        evaluator.end()
        evaluated += 1
    }
    return evaluated
}

@Test("Damaged expressions end in a value or an error")
func damagedExpressions() {
    let variables = ProcessInfo.processInfo.environment
    let turns = variables["CEL_FUZZ_TURNS"].flatMap { Int($0) } ?? 4000
    let seed = variables["CEL_FUZZ_SEED"].flatMap { UInt64($0) } ?? 20_240_607
    var mutator = ExpressionMutator(seed: seed, seeds: fuzzSeeds.map { Array($0.utf8) })
    let event = #"{"properties":{"revenue":12,"coupon":"SUMMER","items":[{"n":1},{"n":2.5}]}}"#
    let bindings = ShopBindings(event: event)
    var evaluator = Evaluator()
    var evaluated = 0
    for _ in 0..<turns { evaluated += digest(mutator.next(), &evaluator, bindings) }
    #expect(evaluated > turns / 10)
}

@Test(
    "What the mutator once found stays mended: compiled without checking, mistakes of type are errors of evaluation",
    arguments: [
        "'%x'.all(a, b, ['Hello'])", "1.optMap(a, a)", "{1.5: x, y: z}.map(k, k)", "[][0].all(q, q.r(q))", "''.matches(-5)",
        "strings.quote()", "base64.decode()", "math.least()", "optional.of()", "ip()", "timestamp()",
    ])
func found(_ source: String) throws {
    var evaluator = Evaluator()
    let evaluated = digest(Array(source.utf8), &evaluator, ShopBindings())
    #expect(evaluated <= 2)
}
