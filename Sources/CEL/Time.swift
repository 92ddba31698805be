// Calendar, time zones, and the texts of timestamps and durations (RFC 3339, Go's duration syntax, POSIX TZ, RFC 8536).
// It need not know the evaluator.

import Formats

enum Time {
    /// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the range of google.protobuf.Timestamp.
    static let firstSecond: Int64 = -62_135_596_800
    static let lastSecond: Int64 = 253_402_300_799

    static func isInRange(_ seconds: Int64) -> Bool { seconds >= firstSecond && seconds <= lastSecond }

    /// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
    static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
        let y = month <= 2 ? year - 1 : year
        let era = (y >= 0 ? y : y - 399) / 400
        let yearOfEra = y - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    struct Date {
        var year: Int64
        /// 1 to 12.
        var month: Int64
        /// From 1.
        var day: Int64
    }

    static func date(days: Int64) -> Date {
        let z = days + 719_468
        let era = (z >= 0 ? z : z - 146_096) / 146_097
        let dayOfEra = z - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let m = (5 * dayOfYear + 2) / 153
        let month = m < 10 ? m + 3 : m - 9
        return Date(year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month: month, day: dayOfYear - (153 * m + 2) / 5 + 1)
    }

    static func floorDivide(_ a: Int64, _ b: Int64) -> Int64 { a >= 0 ? a / b : -((b - 1 - a) / b) }

    static func isLeap(_ year: Int64) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }

    static func daysOfMonth(_ year: Int64, _ month: Int64) -> Int64 {
        switch month {
        case 2: isLeap(year) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    // MARK: Texts

    private static func digits(_ text: Span<UInt8>, _ place: Int, _ count: Int) -> Int64? {
        guard place + count <= text.count else { return nil }
        var value: Int64 = 0
        for index in place..<place + count {
            guard text[index] >= 48, text[index] <= 57 else { return nil }
            value = value * 10 + Int64(text[index] - 48)
        }
        return value
    }

    /// RFC 3339 section 5.6, with up to nine digits of fraction.
    static func parseTimestamp(_ text: Span<UInt8>) -> (seconds: Int64, nanoseconds: UInt32)? {
        guard text.count >= 20, text[4] == 45, text[7] == 45, text[10] | 0x20 == 0x74 || text[10] == 32,
            text[13] == 58, text[16] == 58, let year = digits(text, 0, 4), let month = digits(text, 5, 2),
            let day = digits(text, 8, 2), let hour = digits(text, 11, 2), let minute = digits(text, 14, 2),
            let second = digits(text, 17, 2), month >= 1, month <= 12, day >= 1, day <= daysOfMonth(year, month),
            hour <= 23, minute <= 59, second <= 59, year >= 1
        else { return nil }
        var index = 19
        var nanoseconds: UInt32 = 0
        if text[index] == 46 {
            index += 1
            var scale: UInt32 = 100_000_000
            let first = index
            while index < text.count, text[index] >= 48, text[index] <= 57 {
                if index - first >= 9 { return nil }
                nanoseconds += UInt32(text[index] - 48) * scale
                scale /= 10
                index += 1
            }
            if index == first || index == text.count { return nil }
        }
        var offset: Int64 = 0
        if text[index] | 0x20 == 0x7A {
            guard index + 1 == text.count else { return nil }
        } else {
            guard text[index] == 43 || text[index] == 45, index + 6 == text.count, text[index + 3] == 58,
                let hours = digits(text, index + 1, 2), let minutes = digits(text, index + 4, 2), hours <= 23,
                minutes <= 59
            else { return nil }
            offset = (hours * 60 + minutes) * 60 * (text[index] == 45 ? -1 : 1)
        }
        let seconds = days(year: year, month: month, day: day) * 86_400 + hour * 3600 + minute * 60 + second - offset
        return isInRange(seconds) ? (seconds, nanoseconds) : nil
    }

    private static func append(_ value: Int64, _ width: Int, _ text: inout [UInt8]) {
        var divisor: Int64 = 1
        for _ in 1..<width { divisor *= 10 }
        while divisor > 0 {
            text.append(UInt8(48 + value / divisor % 10))
            divisor /= 10
        }
    }

    private static func appendFraction(_ nanoseconds: Int64, _ text: inout [UInt8]) {
        guard nanoseconds > 0 else { return }
        text.append(46)
        append(nanoseconds, 9, &text)
        while text.last == 48 { text.removeLast() }
    }

    static func appendTimestamp(_ seconds: Int64, _ nanoseconds: UInt32, to text: inout [UInt8]) {
        let day = floorDivide(seconds, 86_400)
        let rest = seconds - day * 86_400
        let date = date(days: day)
        append(date.year, 4, &text)
        text.append(45)
        append(date.month, 2, &text)
        text.append(45)
        append(date.day, 2, &text)
        text.append(84)
        append(rest / 3600, 2, &text)
        text.append(58)
        append(rest / 60 % 60, 2, &text)
        text.append(58)
        append(rest % 60, 2, &text)
        appendFraction(Int64(nanoseconds), &text)
        text.append(90)
    }

    /// Seconds with a fraction, as protocol buffers write durations in JSON: `90.5s`.
    static func appendDuration(_ nanoseconds: Int64, to text: inout [UInt8]) {
        let magnitude = nanoseconds.magnitude
        if nanoseconds < 0 { text.append(45) }
        appendInteger(magnitude / 1_000_000_000, to: &text)
        appendFraction(Int64(magnitude % 1_000_000_000), &text)
        text.append(115)
    }

    /// `1h45m47s`, `-1.5h`, `100ms`: numbers with units h, m, s, ms, us, µs, ns, as Go's time.ParseDuration.
    static func parseDuration(_ text: Span<UInt8>) -> Int64? {
        var index = 0
        var isNegative = false
        if index < text.count, text[index] == 45 || text[index] == 43 {
            isNegative = text[index] == 45
            index += 1
        }
        if index == text.count { return nil }
        if index + 1 == text.count, text[index] == 48 { return 0 }
        var total: UInt64 = 0
        while index < text.count {
            var whole: UInt64 = 0
            var fraction: UInt64 = 0
            var scale: UInt64 = 1
            var digitCount = 0
            while index < text.count, text[index] >= 48, text[index] <= 57 {
                let (product, over) = whole.multipliedReportingOverflow(by: 10)
                let (sum, carry) = product.addingReportingOverflow(UInt64(text[index] - 48))
                if over || carry { return nil }
                whole = sum
                digitCount += 1
                index += 1
            }
            if index < text.count, text[index] == 46 {
                index += 1
                while index < text.count, text[index] >= 48, text[index] <= 57 {
                    if scale < 1_000_000_000_000_000 {
                        fraction = fraction * 10 + UInt64(text[index] - 48)
                        scale *= 10
                    }
                    digitCount += 1
                    index += 1
                }
            }
            guard digitCount > 0, let unit = unit(text, &index) else { return nil }
            let (product, over) = whole.multipliedReportingOverflow(by: unit)
            if over { return nil }
            let part = fraction.multipliedFullWidth(by: unit)
            let fractional = scale.dividingFullWidth((part.high, part.low)).quotient
            let (sum, carry) = product.addingReportingOverflow(fractional)
            let (grown, carried) = total.addingReportingOverflow(sum)
            if carry || carried { return nil }
            total = grown
        }
        if total > UInt64(Int64.max) { return isNegative && total == 1 << 63 ? Int64.min : nil }
        return isNegative ? -Int64(total) : Int64(total)
    }

    private static func unit(_ text: Span<UInt8>, _ index: inout Int) -> UInt64? {
        guard index < text.count else { return nil }
        let first = text[index]
        let second = index + 1 < text.count ? text[index + 1] : 0
        index += 1
        switch first {
        case UInt8(ascii: "h"): return 3_600_000_000_000
        case UInt8(ascii: "s"): return 1_000_000_000
        case UInt8(ascii: "m"):
            if second != UInt8(ascii: "s") { return 60_000_000_000 }
            index += 1
            return 1_000_000
        case UInt8(ascii: "u"), UInt8(ascii: "n"):
            guard second == UInt8(ascii: "s") else { return nil }
            index += 1
            return first == UInt8(ascii: "u") ? 1000 : 1
        case 0xC2, 0xCE:
            guard second == 0xB5 || second == 0xBC, index + 1 < text.count, text[index + 1] == UInt8(ascii: "s") else {
                return nil
            }
            index += 2
            return 1000
        default: return nil
        }
    }

    /// `UTC`, `Z`, `+02:00`, `-02:30`, `02:00`: the seconds to add to UTC; nil if the text is no fixed offset.
    static func fixedOffset(_ zone: Span<UInt8>) -> Int64? {
        if zone.count == 0 { return 0 }
        if zone.count == 3, zone[0] == 85, zone[1] == 84, zone[2] == 67 { return 0 }
        if zone.count == 1, zone[0] == 90 { return 0 }
        var index = 0
        var sign: Int64 = 1
        if zone[0] == 43 || zone[0] == 45 {
            sign = zone[0] == 45 ? -1 : 1
            index = 1
        }
        guard zone.count == index + 5, zone[index + 2] == 58, let hours = digits(zone, index, 2),
            let minutes = digits(zone, index + 3, 2), hours <= 23, minutes <= 59
        else { return nil }
        return sign * (hours * 3600 + minutes * 60)
    }
}

/// Time zones by IANA name, from files of the system's zoneinfo, each read once. Not shared between threads.
///
/// The room reads no files itself: whoever makes one gives the function that does.
public final class TimeZones {
    private let read: ((_ name: String) -> [UInt8]?)?
    private var known: [(name: [UInt8], zone: Zone?)] = []

    /// - Parameter read: the bytes of the TZif file of a zone such as `Europe/Berlin` (under `/usr/share/zoneinfo`), or
    ///   nil. The name has only letters, digits and `_`, `-`, `+`, `/`: it cannot leave the folder.
    public init(reading read: ((_ name: String) -> [UInt8]?)? = nil) { self.read = read }

    /// Seconds to add to UTC at a moment, or nil: the zone is not known.
    func offset(_ name: Span<UInt8>, at seconds: Int64) -> Int64? {
        if let fixed = Time.fixedOffset(name) { return fixed }
        for entry in known where Formats.equal(entry.name.span, name) { return entry.zone?.offset(at: seconds) }
        // What is no name of a zone may be anything, and is not kept.
        if !TimeZones.isSafe(name) { return nil }
        let bytes = copyBytes(name)
        var zone: Zone?
        if let data = read?(String(decoding: bytes, as: UTF8.self)) { zone = Zone(data) }
        // A rule names few zones; names from events could be many, so the table does not grow without end.
        if known.count >= Limits.timeZones { known.removeAll() }
        known.append((bytes, zone))
        return zone?.offset(at: seconds)
    }

    private static func isSafe(_ name: Span<UInt8>) -> Bool {
        if name.isEmpty || name.count > Limits.timeZoneNameBytes || name[0] == 47 { return false }
        for index in 0..<name.count {
            let byte = name[index]
            let isLetter = (byte | 0x20) >= 97 && (byte | 0x20) <= 122
            if !isLetter, !(byte >= 48 && byte <= 57), byte != 95, byte != 45, byte != 43, byte != 47 { return false }
        }
        return true
    }
}

/// One time zone: transitions of a TZif file (RFC 8536), and the rule in its footer for the time after them.
struct Zone {
    private var moments: [Int64] = []
    private var offsets: [Int64] = []
    private var first: Int64 = 0
    private var rule: PosixRule?

    init?(_ data: [UInt8]) {
        guard data.count >= 44, data.count <= Limits.timeZoneBytes, bytesEqual(data, 0, "TZif") else { return nil }
        var block = Zone.Header(data, 0)
        var start = 44
        var width = 4
        if data[4] >= 50 {
            start = 44 + block.size(4)
            guard start + 44 <= data.count, bytesEqual(data, start, "TZif") else { return nil }
            block = Zone.Header(data, start)
            start += 44
            width = 8
        }
        guard block.types > 0, start + block.size(width) <= data.count else { return nil }
        let typeStart = start + block.times * (width + 1)
        func offset(_ type: Int) -> Int64 {
            Int64(Int32(truncatingIfNeeded: Zone.integer(data, typeStart + 6 * type, 4)))
        }
        first = offset(0)
        for index in 0..<block.times {
            let type = Int(data[start + block.times * width + index])
            guard type < block.types else { return nil }
            moments.append(Zone.integer(data, start + index * width, width))
            offsets.append(offset(type))
        }
        if width == 8 {
            let footer = start + block.size(8)
            if footer < data.count, data[footer] == 10 {
                var end = footer + 1
                while end < data.count, data[end] != 10 { end += 1 }
                rule = PosixRule(Array(data[footer + 1..<end]))
            }
        }
    }

    private struct Header {
        var times: Int, types: Int, rest: Int, leaps: Int

        init(_ data: [UInt8], _ start: Int) {
            func count(_ index: Int) -> Int { Int(min(Zone.integer(data, start + 20 + 4 * index, 4) & 0xFFFF_FFFF, 65_536)) }
            rest = count(0) + count(1) + count(5)
            leaps = count(2)
            times = count(3)
            types = count(4)
        }

        func size(_ width: Int) -> Int { times * (width + 1) + types * 6 + rest + leaps * (width + 4) }
    }

    /// A big-endian signed integer.
    private static func integer(_ data: [UInt8], _ place: Int, _ width: Int) -> Int64 {
        var value: UInt64 = 0
        for index in place..<place + width { value = value << 8 | UInt64(data[index]) }
        return width == 8 ? Int64(bitPattern: value) : Int64(Int32(truncatingIfNeeded: value))
    }

    func offset(at seconds: Int64) -> Int64 {
        guard let last = moments.last else { return rule?.offset(at: seconds) ?? first }
        if seconds >= last { return rule?.offset(at: seconds) ?? offsets[offsets.count - 1] }
        var low = 0
        var high = moments.count
        while low < high {
            let middle = (low + high) / 2
            if moments[middle] <= seconds { low = middle + 1 } else { high = middle }
        }
        return low == 0 ? first : offsets[low - 1]
    }
}

/// A POSIX TZ string such as `CET-1CEST,M3.5.0,M10.5.0/3`.
struct PosixRule {
    private struct Change {
        var kind: UInt8 = 0
        var month: Int64 = 0, week: Int64 = 0, day: Int64 = 0
        var time: Int64 = 7200
    }
    private var standard: Int64 = 0
    private var summer: Int64?
    private var begins = Change()
    private var ends = Change()

    init?(_ text: [UInt8]) {
        var reader = Reader(text: text)
        guard reader.name(), let offset = reader.time() else { return nil }
        standard = -offset
        if reader.isAtEnd { return }
        guard reader.name() else { return nil }
        var saving = standard + 3600
        if !reader.isAtEnd, reader.peek != 44 {
            guard let offset = reader.time() else { return nil }
            saving = -offset
        }
        summer = saving
        guard let begins = reader.change(), let ends = reader.change() else { return nil }
        self.begins = begins
        self.ends = ends
    }

    private struct Reader {
        let text: [UInt8]
        var index = 0

        var isAtEnd: Bool { index >= text.count }
        var peek: UInt8 { index < text.count ? text[index] : 0 }

        mutating func name() -> Bool {
            let start = index
            if peek == 60 {
                while !isAtEnd, peek != 62 { index += 1 }
                index += 1
            } else {
                while (peek | 0x20) >= 97, (peek | 0x20) <= 122 { index += 1 }
            }
            return index > start
        }

        mutating func number() -> Int64? {
            let start = index
            var value: Int64 = 0
            while peek >= 48, peek <= 57, index - start < 4 {
                value = value * 10 + Int64(peek - 48)
                index += 1
            }
            return index > start ? value : nil
        }

        mutating func time() -> Int64? {
            var sign: Int64 = 1
            if peek == 43 || peek == 45 {
                sign = peek == 45 ? -1 : 1
                index += 1
            }
            guard let hours = number() else { return nil }
            var seconds = hours * 3600
            var unit: Int64 = 60
            while peek == 58, unit > 0 {
                index += 1
                guard let part = number() else { return nil }
                seconds += part * unit
                unit /= 60
            }
            return sign * seconds
        }

        mutating func change() -> Change? {
            guard peek == 44 else { return nil }
            index += 1
            var change = Change()
            if peek == 77 {
                index += 1
                change.kind = 77
                guard let month = number(), peek == 46 else { return nil }
                index += 1
                guard let week = number(), peek == 46 else { return nil }
                index += 1
                guard let day = number(), month >= 1, month <= 12, week >= 1, week <= 5, day <= 6 else { return nil }
                (change.month, change.week, change.day) = (month, week, day)
            } else {
                if peek == 74 {
                    change.kind = 74
                    index += 1
                }
                guard let day = number() else { return nil }
                change.day = day
            }
            if peek == 47 {
                index += 1
                guard let time = time() else { return nil }
                change.time = time
            }
            return change
        }
    }

    /// Local seconds since the epoch at which a change happens in a year.
    private func moment(_ change: Change, _ year: Int64) -> Int64 {
        var day: Int64
        if change.kind == 77 {
            let firstOfMonth = Time.days(year: year, month: change.month, day: 1)
            let weekday = (firstOfMonth + 4) - Time.floorDivide(firstOfMonth + 4, 7) * 7
            day = (change.day - weekday + 7) % 7 + (change.week - 1) * 7
            while day >= Time.daysOfMonth(year, change.month) { day -= 7 }
            day += firstOfMonth
        } else {
            day = Time.days(year: year, month: 1, day: 1) + change.day
            if change.kind == 74 {
                day -= 1
                if Time.isLeap(year), change.day >= 60 { day += 1 }
            }
        }
        return day * 86_400 + change.time
    }

    func offset(at seconds: Int64) -> Int64 {
        guard let summer else { return standard }
        let year = Time.date(days: Time.floorDivide(seconds + standard, 86_400)).year
        let start = moment(begins, year) - standard
        let end = moment(ends, year) - summer
        let isSummer = start < end ? seconds >= start && seconds < end : !(seconds >= end && seconds < start)
        return isSummer ? summer : standard
    }
}
