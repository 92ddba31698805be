// How identifiers are made alike, so that the same person's two spellings have one hash. Each partner that hashes are
// matched with has published rules of its own; they are followed to the letter here, not averaged. It need not know
// where a value was found nor what is done with the result.

import Formats

/// Whose published rules apply.
public enum NormalizationProfile: UInt8 {
    /// Our own: what is alike beyond doubt.
    case plain
    /// Unified ID 2.0, "Normalization and Encoding": spaces around it go, ASCII letters are lowered, at gmail.com dots
    /// and everything from `+` on go. Telephone numbers must be E.164 already, with 10 to 15 digits.
    case uid2
    /// Google, Data Manager API, "Format user data": all white space goes, letters are lowered, at gmail.com and
    /// googlemail.com dots and everything from `+` on go. Telephone numbers are E.164.
    case google
    /// Meta, Conversions API, "Customer Information Parameters": white space around it goes, letters are lowered,
    /// nothing else. Telephone numbers are digits alone, with the country code, without leading zeros.
    case meta
}

/// One way to normalise a value.
public struct Normalizer {
    public enum Form: UInt8 {
        /// An e-mail address with exactly one `@` and something on both sides of it.
        case email
        /// A telephone number in international form: `+` and 7 to 15 digits (ITU-T E.164).
        case e164
        /// White space around it goes, letters become lower case.
        case lower
        /// The ASCII digits alone: card and customer numbers that people write with spaces and dashes.
        case digits
        /// The bytes as they came.
        case none
    }

    public let form: Form
    public let profile: NormalizationProfile
    /// Where a telephone number without `+` is from.
    public let region: PhoneRegion?

    public init(_ form: Form, profile: NormalizationProfile = .plain, region: PhoneRegion? = nil) {
        self.form = form
        self.profile = profile
        self.region = region
    }

    /// The forms by the names that bundles and `gatehouse hash` use; nil for an unknown one.
    public static func form(named name: Span<UInt8>) -> Form? {
        if equal(name, "email") { return .email }
        if equal(name, "e164") || equal(name, "phone") { return .e164 }
        if equal(name, "lower") { return .lower }
        if equal(name, "digits") { return .digits }
        if equal(name, "none") { return Form.none }
        return nil
    }

    /// The profiles by the names that bundles and `gatehouse hash` use; nil for an unknown one.
    public static func profile(named name: Span<UInt8>) -> NormalizationProfile? {
        if equal(name, "plain") { return .plain }
        if equal(name, "uid2") { return .uid2 }
        if equal(name, "google") { return .google }
        if equal(name, "meta") { return .meta }
        return nil
    }

    /// Writes the normalised form of `raw` in place of what is in `result`; false when `raw` is none of its form.
    /// A warm `result` is filled without allocation, except for letters outside Latin, Greek and Cyrillic scripts.
    func normalize(_ raw: Span<UInt8>, into result: inout [UInt8]) -> Bool {
        result.removeAll(keepingCapacity: true)
        if raw.count > Limits.rawIdentifierBytes { return false }
        switch form {
        case .email:
            return normalizeEmail(raw, &result)
        case .e164:
            return profile == .uid2 && region == nil ? copyStrictE164(raw, &result) : normalizePhone(raw, &result)
        case .lower:
            let range = trimmed(raw)
            var offset = range.lowerBound
            while offset < range.upperBound { appendLowered(raw, &offset, to: &result) }
        case .digits:
            for index in raw.indices where isDigit(raw[index]) { result.append(raw[index]) }
        case .none:
            result.append(contentsOf: raw)
        }
        return !result.isEmpty
    }

    // MARK: E-mail addresses

    private func normalizeEmail(_ raw: Span<UInt8>, _ result: inout [UInt8]) -> Bool {
        let range = profile == .uid2 ? trimmedOfSpaces(raw) : trimmed(raw)
        var at = -1
        var offset = range.lowerBound
        while offset < range.upperBound {
            let byte = raw[offset]
            let white = profile == .uid2 ? (byte == 0x20 ? 1 : 0) : whiteSpaceLength(raw, offset)
            if white > 0 {
                switch profile {
                case .google:
                    break
                case .uid2:
                    // Its operators drop spaces before the `@` and keep them behind it.
                    if at >= 0 { result.append(byte) }
                case .plain, .meta:
                    return false
                }
                offset += white
            } else if byte == UInt8(ascii: "@") {
                if at >= 0 { return false }
                at = result.count
                result.append(byte)
                offset += 1
            } else if profile == .uid2 {
                result.append(loweredASCII(byte))
                offset += 1
            } else {
                appendLowered(raw, &offset, to: &result)
            }
        }
        if at <= 0 || at == result.count - 1 { return false }
        if mailboxIgnoresDots(result, domainAt: at + 1) { return dropDotsAndExtension(&result, at) }
        return true
    }

    /// Whether the profile says that the provider delivers `a.b+c` and `ab` to the same mailbox.
    private func mailboxIgnoresDots(_ address: [UInt8], domainAt start: Int) -> Bool {
        switch profile {
        case .plain, .meta: return false
        case .uid2: return hasSuffix(address, "gmail.com", from: start)
        case .google:
            return hasSuffix(address, "gmail.com", from: start) || hasSuffix(address, "googlemail.com", from: start)
        }
    }

    private func dropDotsAndExtension(_ address: inout [UInt8], _ at: Int) -> Bool {
        var length = 0
        for index in 0..<at {
            let byte = address[index]
            if byte == UInt8(ascii: "+") { break }
            if byte == UInt8(ascii: ".") { continue }
            address[length] = byte
            length += 1
        }
        if length == 0 { return false }
        for index in at..<address.count {
            address[length] = address[index]
            length += 1
        }
        address.removeLast(address.count - length)
        return true
    }

    // MARK: Telephone numbers

    /// UID2: a number is E.164 already or it is none.
    private func copyStrictE164(_ raw: Span<UInt8>, _ result: inout [UInt8]) -> Bool {
        if raw.count < 11 || raw.count > 16 || raw[0] != UInt8(ascii: "+") { return false }
        for index in 1..<raw.count where !isDigit(raw[index]) { return false }
        result.append(contentsOf: raw)
        return true
    }

    private func normalizePhone(_ raw: Span<UInt8>, _ result: inout [UInt8]) -> Bool {
        guard var isInternational = collectDigits(raw, &result) else { return false }
        if !isInternational {
            let prefix = region?.internationalPrefix ?? 0x3030
            if dropPrefix(prefix, &result) || dropPrefix(0x3030, &result) { isInternational = true }
        }
        if profile == .meta {
            while result.first == UInt8(ascii: "0"), isInternational || region == nil { result.removeFirst() }
        }
        if let region {
            if isInternational || hasCallingCodeAlready(result, region) {
                dropTrunkPrefixBehindCallingCode(&result, region)
            } else {
                _ = dropPrefix(region.trunkPrefix, &result)
                prepend(region.callingCode, &result)
            }
        } else if !isInternational, profile != .meta {
            return false
        }
        let minimum = profile == .uid2 ? 10 : 7
        if result.count < minimum || result.count > 15 || result[0] == UInt8(ascii: "0") { return false }
        if profile != .meta { result.insert(UInt8(ascii: "+"), at: 0) }
        return true
    }

    /// Leaves the digits of `raw`; true when it began with `+`, nil when it is no telephone number.
    private func collectDigits(_ raw: Span<UInt8>, _ digits: inout [UInt8]) -> Bool? {
        let range = trimmed(raw)
        var isInternational = false
        var offset = range.lowerBound
        if range.count > 4, hasPrefix(raw, offset, "tel:") { offset += 4 }  // RFC 3966 section 3
        while offset < range.upperBound {
            let byte = raw[offset]
            if isDigit(byte) {
                digits.append(byte)
                offset += 1
            } else if byte == UInt8(ascii: "+") {
                if isInternational || !digits.isEmpty { return nil }
                isInternational = true
                offset += 1
            } else if isInternational, hasPrefix(raw, offset, "(0)"), !keepsZero(digits) {
                offset += 3  // "+49 (0) 30": dialled within the country only
            } else {
                let length = separatorLength(raw, offset)
                if length == 0, profile != .meta { return nil }
                offset += max(length, 1)
            }
        }
        return isInternational
    }

    /// Italy, San Marino and the Vatican: the zero is part of the number, from abroad too.
    private func keepsZero(_ callingCode: [UInt8]) -> Bool {
        hasSuffix(callingCode, "39", from: 0) || hasSuffix(callingCode, "378", from: 0)
            || hasSuffix(callingCode, "379", from: 0)
    }

    /// Whether a number without `+` begins with its country's code all the same ("4915112345678"). Where a national
    /// number begins with a trunk prefix, one that lacks it and has the code is international; elsewhere one that is
    /// longer than any national number.
    private func hasCallingCodeAlready(_ digits: [UInt8], _ region: PhoneRegion) -> Bool {
        if !startsWith(digits, region.callingCode) { return false }
        let isTrunkZero = region.trunkPrefix == 0x30
        return isTrunkZero ? digits.count >= 9 : digits.count > 10 && region.trunkPrefix != 0x31
    }

    private func dropTrunkPrefixBehindCallingCode(_ digits: inout [UInt8], _ region: PhoneRegion) {
        if region.trunkPrefix != 0x30 || !startsWith(digits, region.callingCode) { return }
        let length = decimalLength(region.callingCode)
        // All of them: what is made alike once more must stay as it is.
        while digits.count > length, digits[length] == UInt8(ascii: "0") { digits.remove(at: length) }
    }

    private func startsWith(_ digits: [UInt8], _ code: UInt16) -> Bool {
        let length = decimalLength(code)
        if digits.count < length { return false }
        var value: UInt16 = 0
        for index in 0..<length { value = value * 10 + UInt16(digits[index] - UInt8(ascii: "0")) }
        return value == code
    }

    private func prepend(_ code: UInt16, _ digits: inout [UInt8]) {
        var rest = code
        while rest > 0 {
            digits.insert(UInt8(ascii: "0") + UInt8(rest % 10), at: 0)
            rest /= 10
        }
    }

    private func decimalLength(_ code: UInt16) -> Int { code < 10 ? 1 : code < 100 ? 2 : 3 }

    private func dropPrefix(_ packed: UInt32, _ digits: inout [UInt8]) -> Bool {
        let length = (32 - packed.leadingZeroBitCount + 7) / 8
        if length == 0 || digits.count <= length { return false }
        for index in 0..<length
        where digits[index] != UInt8(truncatingIfNeeded: packed >> UInt32(8 * (length - 1 - index))) {
            return false
        }
        digits.removeFirst(length)
        return true
    }
}

// MARK: Text, byte by byte

@inline(__always)
func loweredASCII(_ byte: UInt8) -> UInt8 {
    byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
}

func equal(_ bytes: Span<UInt8>, _ literal: StaticString) -> Bool { equal(bytes, literal.bytes) }

/// Whether `bytes` from `start` on is exactly `literal`.
private func hasSuffix(_ bytes: [UInt8], _ literal: StaticString, from start: Int) -> Bool {
    let wanted = literal.bytes
    if bytes.count - start != wanted.count { return false }
    for index in wanted.indices where bytes[start + index] != wanted[index] { return false }
    return true
}

/// Whether `literal` (lower case ASCII) stands at `offset`, in either case.
private func hasPrefix(_ bytes: Span<UInt8>, _ offset: Int, _ literal: StaticString) -> Bool {
    let wanted = literal.bytes
    if bytes.count - offset < wanted.count { return false }
    for index in wanted.indices where loweredASCII(bytes[offset + index]) != wanted[index] { return false }
    return true
}

/// The bytes of a white space character (Unicode property White_Space, and the invisible U+200B and U+FEFF) that
/// begins at `offset`; 0 for any other.
func whiteSpaceLength(_ bytes: Span<UInt8>, _ offset: Int) -> Int {
    let first = bytes[offset]
    if first == 0x20 || (first >= 0x09 && first <= 0x0D) { return 1 }
    if first < 0xC2 { return 0 }
    if first == 0xC2 {
        return offset + 1 < bytes.count && (bytes[offset + 1] == 0xA0 || bytes[offset + 1] == 0x85) ? 2 : 0
    }
    if offset + 2 >= bytes.count { return 0 }
    let second = bytes[offset + 1]
    let third = bytes[offset + 2]
    switch first {
    case 0xE1: return second == 0x9A && third == 0x80 ? 3 : 0
    case 0xE2:
        if second == 0x80 { return third <= 0x8B || third == 0xA8 || third == 0xA9 || third == 0xAF ? 3 : 0 }
        return second == 0x81 && third == 0x9F ? 3 : 0
    case 0xE3: return second == 0x80 && third == 0x80 ? 3 : 0
    case 0xEF: return second == 0xBB && third == 0xBF ? 3 : 0
    default: return 0
    }
}

/// The bytes of what people write between groups of digits: white space, - . / ( ) and the dashes of Unicode.
private func separatorLength(_ bytes: Span<UInt8>, _ offset: Int) -> Int {
    switch bytes[offset] {
    case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "/"), UInt8(ascii: "("), UInt8(ascii: ")"): return 1
    case 0xE2:
        if offset + 2 < bytes.count {
            let second = bytes[offset + 1]
            let third = bytes[offset + 2]
            if second == 0x80, third >= 0x90, third <= 0x95 { return 3 }  // U+2010 … U+2015
            if second == 0x88, third == 0x92 { return 3 }  // U+2212
        }
        return whiteSpaceLength(bytes, offset)
    default: return whiteSpaceLength(bytes, offset)
    }
}

/// What is left of `bytes` without white space at either end.
func trimmed(_ bytes: Span<UInt8>) -> Range<Int> {
    var start = 0
    while start < bytes.count {
        let length = whiteSpaceLength(bytes, start)
        if length == 0 { break }
        start += length
    }
    var end = bytes.count
    while end > start {
        if whiteSpaceLength(bytes, end - 1) == 1 {
            end -= 1
        } else if end - start >= 2, whiteSpaceLength(bytes, end - 2) == 2 {
            end -= 2
        } else if end - start >= 3, whiteSpaceLength(bytes, end - 3) == 3 {
            end -= 3
        } else {
            break
        }
    }
    return start..<end
}

private func trimmedOfSpaces(_ bytes: Span<UInt8>) -> Range<Int> {
    var start = 0
    while start < bytes.count, bytes[start] == 0x20 { start += 1 }
    var end = bytes.count
    while end > start, bytes[end - 1] == 0x20 { end -= 1 }
    return start..<end
}

/// Appends the character at `offset` in lower case (Unicode, full mapping without context) and moves behind it. Bytes
/// that are no UTF-8 are copied.
func appendLowered(_ bytes: Span<UInt8>, _ offset: inout Int, to result: inout [UInt8]) {
    let first = bytes[offset]
    let length = first < 0x80 ? 1 : UTF8Text.sequenceLength(bytes, offset)
    if length <= 1 {
        result.append(loweredASCII(first))
        offset += 1
        return
    }
    var scalar = UInt32(first) & (0xFF >> UInt32(length + 1))
    for index in 1..<length { scalar = scalar << 6 | UInt32(bytes[offset + index] & 0x3F) }
    // Asking first whether it changes would bring 20 KB of tables into the binary.
    if let character = Unicode.Scalar(scalar) {
        for byte in character.properties.lowercaseMapping.utf8 { result.append(byte) }
    } else {
        for index in 0..<length { result.append(bytes[offset + index]) }
    }
    offset += length
}
