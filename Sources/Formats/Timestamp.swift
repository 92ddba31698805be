// Points in time as RFC 3339 writes them, and the proleptic Gregorian calendar in UTC. Reads no clock and knows no
// time zone but a fixed offset.

public enum Timestamp {
    /// Milliseconds since 1970-01-01T00:00:00Z of a text like `2026-11-24T03:51:03.123+01:00`; nil for any other.
    /// See `parseParts` for what is accepted. Digits beyond milliseconds are dropped (towards the past).
    public static func parse(_ text: Span<UInt8>) -> Int64? {
        guard let parts = parseParts(text) else { return nil }
        return parts.seconds * 1000 + Int64(parts.nanoseconds / 1_000_000)
    }

    /// RFC 3339 section 5.6 `date-time`: years 0000–9999, `T`, `t` or a space between date and time, a fraction of
    /// any length (nanoseconds are kept), `Z`, `z` or an offset, which is required. A leap second (`:60`, accepted at the
    /// end of any minute: which ones have one is not known here) is taken as the last nanosecond before it, so that it
    /// sorts within its own minute.
    ///
    /// - Returns: seconds since 1970-01-01T00:00:00Z, rounded down, and nanoseconds 0…999,999,999 on top; or nil.
    public static func parseParts(_ text: Span<UInt8>) -> (seconds: Int64, nanoseconds: Int32)? {
        guard text.count >= 20, let year = number(text, 0, 4), text[4] == UInt8(ascii: "-"),
            let month = number(text, 5, 2), text[7] == UInt8(ascii: "-"), let day = number(text, 8, 2),
            text[10] | 0x20 == UInt8(ascii: "t") || text[10] == 0x20,
            let hour = number(text, 11, 2), text[13] == UInt8(ascii: ":"),
            let minute = number(text, 14, 2), text[16] == UInt8(ascii: ":"), let second = number(text, 17, 2)
        else { return nil }
        guard (1...12).contains(month), day >= 1, day <= daysOfMonth(year, month), hour < 24, minute < 60, second <= 60
        else { return nil }
        var index = 19
        var nanoseconds: Int32 = 0
        if text[index] == UInt8(ascii: ".") {
            index += 1
            let start = index
            var unit: Int32 = 100_000_000
            while index < text.count, text[index] &- 0x30 < 10 {
                nanoseconds += Int32(text[index] &- 0x30) * unit
                unit /= 10
                index += 1
            }
            if index == start { return nil }
        }
        guard index < text.count else { return nil }
        var offset: Int64 = 0
        if text[index] | 0x20 == UInt8(ascii: "z") {
            index += 1
        } else {
            guard text[index] == UInt8(ascii: "+") || text[index] == UInt8(ascii: "-"), index + 6 <= text.count,
                let hours = number(text, index + 1, 2), text[index + 3] == UInt8(ascii: ":"),
                let minutes = number(text, index + 4, 2), hours < 24, minutes < 60
            else { return nil }
            offset = Int64(hours * 3600 + minutes * 60) * (text[index] == UInt8(ascii: "-") ? -1 : 1)
            index += 6
        }
        guard index == text.count else { return nil }
        let clampedSecond = min(second, 59)
        if second == 60 { nanoseconds = 999_999_999 }
        let ofDay = Int64(hour * 3600 + minute * 60 + clampedSecond)
        return (daysSinceEpoch(year, month, day) * 86_400 + ofDay - offset, nanoseconds)
    }

    /// Appends `2026-11-24T03:51:03.123Z`. Times outside of the years 0000–9999 are written as the nearest inside.
    public static func append(_ milliseconds: Int64, to text: inout [UInt8]) {
        let time = CivilTime(milliseconds: min(max(milliseconds, -62_167_219_200_000), 253_402_300_799_999))
        func digits(_ value: Int32, _ count: Int) {
            var unit: Int32 = 1
            for _ in 1..<count { unit *= 10 }
            while unit > 0 {
                text.append(0x30 + UInt8(value / unit % 10))
                unit /= 10
            }
        }
        digits(time.year, 4)
        text.append(UInt8(ascii: "-"))
        digits(time.month, 2)
        text.append(UInt8(ascii: "-"))
        digits(time.day, 2)
        text.append(UInt8(ascii: "T"))
        digits(time.hour, 2)
        text.append(UInt8(ascii: ":"))
        digits(time.minute, 2)
        text.append(UInt8(ascii: ":"))
        digits(time.second, 2)
        text.append(UInt8(ascii: "."))
        digits(time.millisecond, 3)
        text.append(UInt8(ascii: "Z"))
    }

    public static func write(_ milliseconds: Int64) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(24)
        append(milliseconds, to: &text)
        return text
    }

    /// Days from 1970-01-01 to a date of the proleptic Gregorian calendar (years of 400 as one period of 146,097 days,
    /// begun on 1 March so that the leap day comes last).
    public static func daysSinceEpoch(_ year: Int, _ month: Int, _ day: Int) -> Int64 {
        let shifted = Int64(month <= 2 ? year - 1 : year)
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = Int64((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1)
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    public static func isLeap(_ year: Int) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }

    /// 28…31, for a month 1…12.
    public static func daysOfMonth(_ year: Int, _ month: Int) -> Int {
        switch month {
        case 2: isLeap(year) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    private static func number(_ text: Span<UInt8>, _ start: Int, _ count: Int) -> Int? {
        var value = 0
        for index in start..<start + count {
            let digit = text[index] &- 0x30
            if digit > 9 { return nil }
            value = value * 10 + Int(digit)
        }
        return value
    }
}

/// A point in time taken apart, in UTC.
public struct CivilTime: Equatable, Sendable {
    public var year, month, day, hour, minute, second, millisecond: Int32
    /// 0 is Sunday.
    public var weekday: Int32
    /// 0 is the first of January.
    public var dayOfYear: Int32

    /// - Parameter milliseconds: since 1970-01-01T00:00:00Z, within ± 200,000 years.
    public init(milliseconds: Int64) {
        var days = milliseconds / 86_400_000
        var ofDay = milliseconds % 86_400_000
        if ofDay < 0 {
            ofDay += 86_400_000
            days -= 1
        }
        hour = Int32(ofDay / 3_600_000)
        minute = Int32(ofDay / 60_000 % 60)
        second = Int32(ofDay / 1000 % 60)
        millisecond = Int32(ofDay % 1000)
        weekday = Int32(((days + 4) % 7 + 7) % 7)

        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayFromMarch = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayFromMarch + 2) / 153
        day = Int32(dayFromMarch - (153 * monthFromMarch + 2) / 5 + 1)
        month = Int32(monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9)
        year = Int32(yearOfEra + era * 400 + (month <= 2 ? 1 : 0))
        dayOfYear = Int32(days - Timestamp.daysSinceEpoch(Int(year), 1, 1))
    }
}
