// Dates of HTTP (RFC 9110 section 5.6.7) and what is said with them. Knows no clock: the time comes as an argument.

public enum HTTPDate {
    /// Appends the IMF-fixdate form, `Sun, 06 Nov 1994 08:49:37 GMT`: 29 bytes.
    ///
    /// - Parameter seconds: since 1970-01-01T00:00:00Z; years 1970 to 9999.
    public static func write(_ seconds: Int64, into output: inout [UInt8]) {
        let seconds = min(max(0, seconds), 253_402_300_799)
        let days = seconds / 86_400
        let clock = Int32(seconds % 86_400)
        let (year, month, day) = civil(fromDays: days)
        append(dayNames, 3 * Int((days + 4) % 7), 3, to: &output)
        output.append(0x2C)
        output.append(0x20)
        appendTwo(day, to: &output)
        output.append(0x20)
        append(monthNames, 3 * Int(month - 1), 3, to: &output)
        output.append(0x20)
        appendTwo(year / 100, to: &output)
        appendTwo(year % 100, to: &output)
        output.append(0x20)
        appendTwo(clock / 3600, to: &output)
        output.append(0x3A)
        appendTwo(clock / 60 % 60, to: &output)
        output.append(0x3A)
        appendTwo(clock % 60, to: &output)
        append(" GMT", 0, 4, to: &output)
    }

    /// Seconds since 1970 of an IMF-fixdate, or nil. The two obsolete forms are not read: no server of today sends
    /// them.
    public static func parse(_ text: Span<UInt8>) -> Int64? {
        guard text.count == 29, text.extracting(25..<29).equals(" GMT"), text[3] == 0x2C, text[4] == 0x20,
            let day = number(text, 5, 2), let month = month(text.extracting(8..<11)), let year = number(text, 12, 4),
            let hour = number(text, 17, 2), let minute = number(text, 20, 2), let second = number(text, 23, 2),
            text[7] == 0x20, text[11] == 0x20, text[16] == 0x20, text[19] == 0x3A, text[22] == 0x3A,
            day >= 1, day <= 31, year >= 1970, hour < 24, minute < 60, second <= 60
        else { return nil }
        return days(year: year, month: month, day: day) * 86_400 + Int64(hour * 3600 + minute * 60 + second)
    }

    private static let dayNames: StaticString = "SunMonTueWedThuFriSat"
    private static let monthNames: StaticString = "JanFebMarAprMayJunJulAugSepOctNovDec"

    private static func append(_ names: StaticString, _ offset: Int, _ count: Int, to output: inout [UInt8]) {
        // Safe: the callers' stretches lie inside the literals.
        for index in offset..<(offset + count) { output.append(names.utf8Start[index]) }
    }

    private static func appendTwo(_ number: Int32, to output: inout [UInt8]) {
        output.append(0x30 + UInt8(number / 10))
        output.append(0x30 + UInt8(number % 10))
    }

    private static func number(_ text: Span<UInt8>, _ start: Int, _ digits: Int) -> Int32? {
        var value: Int32 = 0
        for index in start..<(start + digits) {
            guard isDigit(text[index]) else { return nil }
            value = value * 10 + Int32(text[index] - 0x30)
        }
        return value
    }

    private static func month(_ name: Span<UInt8>) -> Int32? {
        for month in 0..<12 {
            // Safe: three bytes at each multiple of three of the 36.
            let start = monthNames.utf8Start + 3 * month
            if name[0] == start[0] && name[1] == start[1] && name[2] == start[2] { return Int32(month + 1) }
        }
        return nil
    }

    /// Days since 1970-01-01 in the Gregorian calendar; the year is taken to begin in March, so that the leap day ends
    /// it.
    private static func days(year: Int32, month: Int32, day: Int32) -> Int64 {
        let shifted = Int64(month <= 2 ? year - 1 : year)
        let era = shifted / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * Int64(month > 2 ? month - 3 : month + 9) + 2) / 5 + Int64(day) - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private static func civil(fromDays days: Int64) -> (year: Int32, month: Int32, day: Int32) {
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (Int32(year), Int32(month), Int32(day))
    }
}

/// The seconds that a Retry-After value asks to wait (RFC 9110 section 10.2.3), or nil when it says nothing readable.
///
/// - Parameter now: seconds since 1970, for the form that is a date.
public func retryAfterSeconds(_ value: Span<UInt8>, now: Int64) -> Int64? {
    if let date = HTTPDate.parse(value) { return max(0, date - now) }
    guard value.count > 0, value.count <= 9 else { return nil }
    var seconds: Int64 = 0
    for index in 0..<value.count {
        guard isDigit(value[index]) else { return nil }
        seconds = seconds * 10 + Int64(value[index] - 0x30)
    }
    return seconds
}
