import Formats
// Shows that decimals are read to the nearest double and written as the shortest, against the C library.
import Foundation
import Testing

@Suite struct NumbersTests {
    private func double(_ text: String) -> Double? { parseDouble(Array(text.utf8).span) }

    @Test func hardDecimals() {
        let texts = [
            "0", "-0", "1", "0.1", "1e22", "1e23", "123456789012345678901234567890", "9007199254740993",
            "9007199254740993.0000000000000000000000000001", "2.2250738585072011e-308", "4.9e-324", "2.4e-324",
            "1.7976931348623158e308", "8.41e-3", "0.000000000000000000000000000000000001", "1e-400", "6.02214076e23",
        ]
        for text in texts { #expect(double(text) == strtod(text, nil), "\(text)") }
        #expect(double("1e400") == .infinity)
        #expect(double("1" + String(repeating: "0", count: 2000)) == .infinity)
        #expect(double("0." + String(repeating: "0", count: 2000) + "1e2001") == 1)
        for text in ["", "-", ".", "1e", "1e+", "x", "1x", "1.2.3", "0x10", "inf", "nan", " 1"] {
            #expect(double(text) == nil, "\(text)")
        }
    }

    @Test func randomBitsGoThroughTextUnchanged() {
        var state: UInt64 = 0x9E37_79B9_7F4A_7C15
        for _ in 0..<20_000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let bits = Double(bitPattern: state)
            let cents = Double(Int64(truncatingIfNeeded: state >> 20) % 10_000_000) / 100
            for value in [bits, cents] where value.isFinite {
                var text: [UInt8] = []
                appendDouble(value, to: &text)
                #expect(parseDouble(text.span)?.bitPattern == value.bitPattern)
                #expect(text.count <= value.description.utf8.count)
            }
        }
    }

    @Test func integers() {
        func roundTrip(_ value: Int64) -> Int64? {
            var text: [UInt8] = []
            appendInteger(value, to: &text)
            return parseInt64(text.span)
        }
        for value in [0, 1, -1, .max, .min, 10, -100] as [Int64] { #expect(roundTrip(value) == value) }
        #expect(parseInt64(Array("9223372036854775808".utf8).span) == nil)
        #expect(parseInt64(Array("-9223372036854775809".utf8).span) == nil)
        #expect(parseInt64(Array("-".utf8).span) == nil)
        #expect(parseUInt64(Array("18446744073709551615".utf8).span) == .max)
        #expect(parseUInt64(Array("18446744073709551616".utf8).span) == nil)
    }

    @Test func hex() {
        let bytes: [UInt8] = [0, 0x0F, 0xA0, 0xFF]
        #expect(String(copying: Hex.encode(bytes.span).span) == "000fa0ff")
        #expect(Hex.decode(Array("000FA0ff".utf8).span) == bytes)
        #expect(Hex.decode(Array("0".utf8).span) == nil)
        #expect(Hex.decode(Array("0g".utf8).span) == nil)
    }
}
