// Numbers to text and back, exact both ways and without allocation where the text is short.
import CYAML

/// The value of `-?[0-9]+`; nil for anything else and for what does not fit.
public func parseInt64(_ text: Span<UInt8>) -> Int64? {
    let isNegative = text.count > 0 && text[0] == UInt8(ascii: "-")
    var index = isNegative ? 1 : 0
    if index == text.count { return nil }
    // Counted downwards: the negative range is the larger by one.
    var value: Int64 = 0
    while index < text.count {
        let digit = text[index] &- 0x30
        if digit > 9 { return nil }
        let (product, overflowed) = value.multipliedReportingOverflow(by: 10)
        let (sum, overflowedAgain) = product.subtractingReportingOverflow(Int64(digit))
        if overflowed || overflowedAgain { return nil }
        value = sum
        index += 1
    }
    if isNegative { return value }
    return value == Int64.min ? nil : -value
}

/// The value of `[0-9]+`; nil for anything else and for what does not fit.
public func parseUInt64(_ text: Span<UInt8>) -> UInt64? {
    if text.count == 0 { return nil }
    var value: UInt64 = 0
    for index in text.indices {
        let digit = text[index] &- 0x30
        if digit > 9 { return nil }
        let (product, overflowed) = value.multipliedReportingOverflow(by: 10)
        let (sum, overflowedAgain) = product.addingReportingOverflow(UInt64(digit))
        if overflowed || overflowedAgain { return nil }
        value = sum
    }
    return value
}

/// The double nearest to a decimal number `[+-]? digits? [. digits?] ([eE] [+-]? digits)?` with at least one digit in
/// the mantissa, ties to even (IEEE 754); infinite beyond the range; nil for any other text.
public func parseDouble(_ text: Span<UInt8>) -> Double? {
    var index = 0
    var isNegative = false
    if index < text.count, text[index] == UInt8(ascii: "-") || text[index] == UInt8(ascii: "+") {
        isNegative = text[index] == UInt8(ascii: "-")
        index += 1
    }
    var mantissa: UInt64 = 0
    var significant = 0
    var hasDigits = false
    var scale = 0
    var isPastPoint = false
    while index < text.count {
        let byte = text[index]
        if byte == UInt8(ascii: "."), !isPastPoint {
            isPastPoint = true
            index += 1
            continue
        }
        let digit = byte &- 0x30
        if digit > 9 { break }
        hasDigits = true
        if significant > 0 || digit != 0 { significant += 1 }
        if significant <= 19 { mantissa = mantissa &* 10 &+ UInt64(digit) }
        if isPastPoint { scale -= 1 }
        index += 1
    }
    if !hasDigits { return nil }
    if index < text.count {
        if text[index] | 0x20 != UInt8(ascii: "e") { return nil }
        index += 1
        var isExponentNegative = false
        if index < text.count, text[index] == UInt8(ascii: "-") || text[index] == UInt8(ascii: "+") {
            isExponentNegative = text[index] == UInt8(ascii: "-")
            index += 1
        }
        if index == text.count { return nil }
        var exponent = 0
        while index < text.count {
            let digit = text[index] &- 0x30
            if digit > 9 { return nil }
            if exponent < 1_000_000 { exponent = exponent * 10 + Int(digit) }
            index += 1
        }
        scale += isExponentNegative ? -exponent : exponent
    }
    // Both factors are exact doubles, so one rounded operation gives the nearest (Clinger, 1990).
    if significant <= 19, mantissa <= 1 << 53, scale >= -22, scale <= 22 {
        let exact = Double(mantissa)
        let magnitude = scale < 0 ? exact / powerOfTen(-scale) : exact * powerOfTen(scale)
        return isNegative ? -magnitude : magnitude
    }
    // The text is read inside the closure only; the C function stops at its count.
    return unsafe text.withUnsafeBufferPointer { unsafe formats_decimal($0.baseAddress, $0.count) }
}

/// 10^exponent for 0…22, all exact.
private func powerOfTen(_ exponent: Int) -> Double {
    let powers: InlineArray<23, Double> = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    ]
    return powers[exponent]
}

/// Appends the decimal digits.
public func appendInteger(_ value: UInt64, to text: inout [UInt8]) {
    var digits = InlineArray<20, UInt8>(repeating: 0)
    var start = 20
    var rest = value
    repeat {
        start -= 1
        digits[start] = UInt8(0x30 + rest % 10)
        rest /= 10
    } while rest != 0
    while start < 20 {
        text.append(digits[start])
        start += 1
    }
}

public func appendInteger(_ value: Int64, to text: inout [UInt8]) {
    if value < 0 { text.append(UInt8(ascii: "-")) }
    appendInteger(value.magnitude, to: &text)
}

/// Appends the shortest decimal that reads back as the same double, always with a point or an exponent, so that it
/// stays a double for whoever reads it: `3.0`, `0.1`, `1e+100`, `-0.0`. Not finite: `inf`, `-inf`, `nan`.
public func appendDouble(_ value: Double, to text: inout [UInt8]) {
    // A decimal of up to 15 digits that gives the double back is the only one so short (DBL_DIG): amounts, counts.
    let hundredth = value * 100
    if hundredth.magnitude < 1e15, hundredth == hundredth.rounded(.towardZero), hundredth / 100 == value,
        value != 0
    {
        let cents = Int64(hundredth)
        if cents < 0 { text.append(UInt8(ascii: "-")) }
        let magnitude = cents.magnitude
        appendInteger(magnitude / 100, to: &text)
        text.append(UInt8(ascii: "."))
        let fraction = UInt8(magnitude % 100)
        text.append(0x30 + fraction / 10)
        if fraction % 10 != 0 { text.append(0x30 + fraction % 10) }
        return
    }
    for byte in value.description.utf8 { text.append(byte) }
}
