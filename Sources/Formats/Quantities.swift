// The two kinds of quantity that people write in configuration and bundles: lengths of time ("30m", "90d") and
// amounts of bytes ("400KiB"). One spelling for all rooms. It need not know which setting the text belongs to: it
// answers nil, and the caller says where and what to write instead.

/// A length of time as people write it.
///
/// One or more parts, each of decimal digits and a unit, without spaces: `500ms`, `30s`, `10m`, `24h`, `90d`, `2w`,
/// `1h30m`. A day is 24 hours and a week 7 days. Neither signs nor fractions: `90s` instead of `1.5m`.
public enum DurationText {
    /// What to tell a person whose text was not understood.
    public static let expected: StaticString = "a duration such as 500ms, 30s, 10m, 24h, 90d or 1h30m"

    /// The length in milliseconds, 0 … `Int64.max`; nil for anything that is not a duration or does not fit.
    public static func parse(_ text: Span<UInt8>) -> Int64? {
        var total: Int64 = 0
        var position = 0
        if text.isEmpty { return nil }
        while position < text.count {
            guard let number = parseDigits(text, &position) else { return nil }
            guard let unit = unitMilliseconds(text, &position) else { return nil }
            let (part, overflowed) = number.multipliedReportingOverflow(by: unit)
            if overflowed { return nil }
            let (sum, sumOverflowed) = total.addingReportingOverflow(part)
            if sumOverflowed { return nil }
            total = sum
        }
        return total
    }

    /// The same for text that is already a `String` (cold paths).
    public static func parse(_ text: String) -> Int64? {
        let bytes = Array(text.utf8)
        return parse(bytes.span)
    }

    private static func unitMilliseconds(_ text: Span<UInt8>, _ position: inout Int) -> Int64? {
        if position >= text.count { return nil }
        let letter = text[position]
        position += 1
        switch letter {
        case UInt8(ascii: "m"):
            if position < text.count, text[position] == UInt8(ascii: "s") {
                position += 1
                return 1
            }
            return 60_000
        case UInt8(ascii: "s"): return 1_000
        case UInt8(ascii: "h"): return 3_600_000
        case UInt8(ascii: "d"): return 86_400_000
        case UInt8(ascii: "w"): return 604_800_000
        default: return nil
        }
    }
}

/// An amount of bytes as people write it: digits and an optional unit, with at most one space between them.
///
/// `512`, `512B`, `400KiB` (1024 bytes each), `400KB` or `400kB` (1000 bytes each), likewise `MiB`/`MB`, `GiB`/`GB`,
/// `TiB`/`TB` (IEC 80000-13).
public enum ByteSizeText {
    /// What to tell a person whose text was not understood.
    public static let expected: StaticString = "a size such as 512, 400KiB, 64MiB or 2GB"

    /// The amount in bytes, 0 … `Int64.max`; nil for anything that is not a size or does not fit.
    public static func parse(_ text: Span<UInt8>) -> Int64? {
        var position = 0
        guard let number = parseDigits(text, &position) else { return nil }
        if position < text.count, text[position] == UInt8(ascii: " ") { position += 1 }
        if position == text.count { return text[position - 1] == UInt8(ascii: " ") ? nil : number }

        var power = 0
        switch text[position] {
        case UInt8(ascii: "B"): power = 0
        case UInt8(ascii: "k"), UInt8(ascii: "K"): power = 1
        case UInt8(ascii: "M"): power = 2
        case UInt8(ascii: "G"): power = 3
        case UInt8(ascii: "T"): power = 4
        default: return nil
        }
        var base: Int64 = 1000
        if power > 0 {
            position += 1
            if position < text.count, text[position] == UInt8(ascii: "i") {
                base = 1024
                position += 1
            }
        }
        if position != text.count - 1 || text[position] != UInt8(ascii: "B") { return nil }

        var total = number
        for _ in 0..<power {
            let (product, overflowed) = total.multipliedReportingOverflow(by: base)
            if overflowed { return nil }
            total = product
        }
        return total
    }

    /// The same for text that is already a `String` (cold paths).
    public static func parse(_ text: String) -> Int64? {
        let bytes = Array(text.utf8)
        return parse(bytes.span)
    }
}

/// Reads decimal digits from `position` on and moves it behind them; nil without a digit or beyond `Int64.max`.
private func parseDigits(_ text: Span<UInt8>, _ position: inout Int) -> Int64? {
    let start = position
    var value: Int64 = 0
    while position < text.count, text[position] >= UInt8(ascii: "0"), text[position] <= UInt8(ascii: "9") {
        let digit = Int64(text[position] - UInt8(ascii: "0"))
        let (product, overflowed) = value.multipliedReportingOverflow(by: 10)
        if overflowed { return nil }
        let (sum, sumOverflowed) = product.addingReportingOverflow(digit)
        if sumOverflowed { return nil }
        value = sum
        position += 1
    }
    return position > start ? value : nil
}
