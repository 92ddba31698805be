import Formats
// Shows that base 64 and timestamps are read strictly and written as their RFCs say.
import Foundation
import Testing

@Suite struct Base64Tests {
    /// RFC 4648 section 10.
    @Test func vectors() {
        for (plain, text) in [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let bytes = Array(plain.utf8)
            #expect(string(Base64.encode(bytes.span).span) == text)
            #expect(Base64.decode(Array(text.utf8).span) == bytes)
            let unpadded = text.replacing("=", with: "")
            #expect(string(Base64.encode(bytes.span, .url).span) == unpadded)
            #expect(Base64.decode(Array(unpadded.utf8).span, .url) == bytes)
        }
    }

    @Test func alphabetsAndRefusals() {
        let bytes: [UInt8] = [0xFB, 0xFF, 0xBF]
        #expect(string(Base64.encode(bytes.span).span) == "+/+/")
        #expect(string(Base64.encode(bytes.span, .url).span) == "-_-_")
        #expect(Base64.decode(Array("+/+/".utf8).span, .url) == nil)
        for text in ["Z", "Zg=", "Zh==", "Zm9=", "Zg==\n", "Z g=", "====", "Zm9vZ", "=", "=="] {
            #expect(Base64.decode(Array(text.utf8).span) == nil, "\(text)")
        }
    }
}

@Suite struct TimestampTests {
    private func milliseconds(_ text: String) -> Int64? { Timestamp.parse(Array(text.utf8).span) }

    @Test func accepted() {
        #expect(milliseconds("1970-01-01T00:00:00Z") == 0)
        #expect(milliseconds("2026-11-24T03:51:03.123Z") == 1_795_492_263_123)
        #expect(milliseconds("2026-11-24t04:51:03.123999+01:00") == 1_795_492_263_123)
        #expect(milliseconds("2026-11-23 22:21:03.1z") == 1_795_472_463_100)
        #expect(milliseconds("1969-12-31T23:59:59.999Z") == -1)
        #expect(milliseconds("0000-02-29T00:00:00-00:00") != nil)
        #expect(milliseconds("9999-12-31T23:59:59.999999999Z") == 253_402_300_799_999)
        // A leap second sorts within its own minute.
        #expect(milliseconds("2016-12-31T23:59:60Z") == milliseconds("2016-12-31T23:59:59.999Z"))
        #expect(Timestamp.parseParts(Array("1969-12-31T23:59:59.123456789Z".utf8).span)?.seconds == -1)
        #expect(Timestamp.parseParts(Array("1969-12-31T23:59:59.123456789Z".utf8).span)?.nanoseconds == 123_456_789)
    }

    @Test func refused() {
        for text in [
            "", "2026-11-24", "2026-11-24T03:51:03", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T23:60:00Z", "2026-11-24T23:59:61Z", "2026-11-24T23:59:59.Z", "2026-11-24T23:59:59+1:00",
            "2026-11-24T23:59:59+24:00", "2026-11-24T23:59:59Zx", "2026-11-24T23:59:59.123", "20261124T235959Z",
            "2026-11-24T23:59:59+01:0", "-026-11-24T23:59:59Z", "2026-00-10T00:00:00Z", "2026-01-00T00:00:00Z",
        ] { #expect(milliseconds(text) == nil, "\(text)") }
    }

    /// Against Foundation's calendar, over two thousand years in steps that hit all months and leap days.
    @Test func calendar() throws {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = try #require(TimeZone(secondsFromGMT: 0))
        // From 1600 on: Foundation's calendar is Julian before 1582.
        var time: Int64 = -11_676_096_000_000
        while time < 60_000_000_000_000 {
            let civil = CivilTime(milliseconds: time)
            let parts = calendar.dateComponents(
                [.year, .month, .day, .hour, .minute, .second, .weekday, .dayOfYear],
                from: Date(timeIntervalSince1970: Double(time) / 1000))
            #expect(parts.year == Int(civil.year) && parts.month == Int(civil.month) && parts.day == Int(civil.day))
            #expect(parts.hour == Int(civil.hour) && parts.minute == Int(civil.minute))
            #expect(parts.weekday == Int(civil.weekday) + 1 && parts.dayOfYear == Int(civil.dayOfYear) + 1)
            #expect(milliseconds(string(Timestamp.write(time).span)) == time)
            time += 86_400_000 * 97 + 3_723_004
        }
        #expect(string(Timestamp.write(1_795_492_263_007).span) == "2026-11-24T03:51:03.007Z")
        #expect(string(Timestamp.write(.min).span) == "0000-01-01T00:00:00.000Z")
        #expect(string(Timestamp.write(.max).span) == "9999-12-31T23:59:59.999Z")
    }
}
