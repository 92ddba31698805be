// ip() and cidr(): addresses as text, and what contains what (the network extension; RFC 5952 for IPv6 text). It need not
// know the rest of the language.

import Formats

/// An address or network: sixteen bytes, of which IPv4 uses the last four.
struct Address {
    var high: UInt64
    var low: UInt64
    var isV4: Bool
    /// -1 for an address.
    var prefix: Int

    init(high: UInt64, low: UInt64, isV4: Bool, prefix: Int = -1) {
        self.high = high
        self.low = low
        self.isV4 = isV4
        self.prefix = prefix
    }

    /// Reads a value: its bytes lie in an arena, family and prefix in `extra`.
    init(_ value: Value, _ bytes: Span<UInt8>) {
        high = 0
        low = 0
        for index in 0..<8 {
            high = high << 8 | UInt64(bytes[index])
            low = low << 8 | UInt64(bytes[index + 8])
        }
        isV4 = value.extra & 0xFF == 4
        prefix = value.kind == .cidr ? Int(value.extra >> 8) : -1
    }

    var bits: Int { isV4 ? 32 : 128 }

    /// `::ffff:a.b.c.d` in hexadecimal is the same address as `a.b.c.d`.
    var unmapped: Address {
        if !isV4, high == 0, low >> 32 == 0xFFFF {
            return Address(high: 0, low: low & 0xFFFF_FFFF, isV4: true, prefix: prefix < 0 ? -1 : max(0, prefix - 96))
        }
        return self
    }

    var masked: Address {
        var result = self
        let cleared = bits - prefix
        if cleared >= 64 {
            result.low = 0
            result.high = cleared >= 128 ? 0 : (high >> UInt64(cleared - 64)) << UInt64(cleared - 64)
        } else {
            result.low = (low >> UInt64(cleared)) << UInt64(cleared)
        }
        return result
    }

    func contains(_ other: Address) -> Bool {
        guard isV4 == other.isV4 else { return false }
        var network = other
        network.prefix = prefix
        let (mine, theirs) = (masked, network.masked)
        return mine.high == theirs.high && mine.low == theirs.low
    }

    // MARK: Text

    static func parse(_ text: Span<UInt8>, _ start: Int, _ end: Int) -> Address? {
        var index = start
        while index < end {
            if text[index] == 58 { return parseV6(text, start, end) }
            index += 1
        }
        return parseV4(text, start, end)
    }

    static func parseNetwork(_ text: Span<UInt8>) -> Address? {
        var slash = text.count - 1
        while slash >= 0, text[slash] != 47 { slash -= 1 }
        guard slash > 0, var address = parse(text, 0, slash) else { return nil }
        let digits = text.count - slash - 1
        guard digits >= 1, digits <= 3, digits == 1 || text[slash + 1] != 48 else { return nil }
        var prefix = 0
        for index in slash + 1..<text.count {
            guard text[index] >= 48, text[index] <= 57 else { return nil }
            prefix = prefix * 10 + Int(text[index] - 48)
        }
        guard prefix <= address.bits else { return nil }
        address.prefix = prefix
        return address
    }

    private static func parseV4(_ text: Span<UInt8>, _ start: Int, _ end: Int) -> Address? {
        var value: UInt64 = 0
        var index = start
        for part in 0..<4 {
            if part > 0 {
                guard index < end, text[index] == 46 else { return nil }
                index += 1
            }
            let first = index
            var octet: UInt64 = 0
            while index < end, text[index] >= 48, text[index] <= 57, index - first < 3 {
                octet = octet * 10 + UInt64(text[index] - 48)
                index += 1
            }
            guard index > first, octet <= 255, index - first == 1 || text[first] != 48 else { return nil }
            value = value << 8 | octet
        }
        return index == end ? Address(high: 0, low: value, isV4: true) : nil
    }

    private static func parseV6(_ text: Span<UInt8>, _ start: Int, _ end: Int) -> Address? {
        var groups: [UInt64] = []
        var gap = -1
        var index = start
        if end - start >= 2, text[start] == 58 {
            guard text[start + 1] == 58 else { return nil }
            gap = 0
            index += 2
        }
        while index < end {
            var group: UInt64 = 0
            let first = index
            while index < end, index - first < 4, let digit = hexadecimalDigit(text[index]) {
                group = group << 4 | UInt64(digit)
                index += 1
            }
            guard index > first, groups.count < 8 else { return nil }
            groups.append(group)
            if index == end { break }
            guard text[index] == 58 else { return nil }
            index += 1
            if index < end, text[index] == 58 {
                guard gap < 0 else { return nil }
                gap = groups.count
                index += 1
            } else if index == end {
                return nil
            }
        }
        guard gap >= 0 ? groups.count < 8 : groups.count == 8 else { return nil }
        if gap >= 0 {
            while groups.count < 8 { groups.insert(0, at: gap) }
        }
        var address = Address(high: 0, low: 0, isV4: false)
        for group in 0..<4 {
            address.high = address.high << 16 | groups[group]
            address.low = address.low << 16 | groups[group + 4]
        }
        return address
    }

    func append(to text: inout [UInt8]) {
        if isV4 {
            for part in 0..<4 {
                if part > 0 { text.append(46) }
                appendInteger(low >> UInt64(24 - 8 * part) & 0xFF, to: &text)
            }
        } else {
            appendV6(&text)
        }
        if prefix >= 0 {
            text.append(47)
            appendInteger(UInt64(prefix), to: &text)
        }
    }

    private func group(_ index: Int) -> UInt64 {
        (index < 4 ? high : low) >> UInt64(48 - 16 * (index & 3)) & 0xFFFF
    }

    /// RFC 5952: lower case, no leading zeros, `::` for the first longest run of two or more zero groups.
    private func appendV6(_ text: inout [UInt8]) {
        var best = 0
        var bestCount = 1
        var index = 0
        while index < 8 {
            var count = 0
            while index + count < 8, group(index + count) == 0 { count += 1 }
            if count > bestCount { (best, bestCount) = (index, count) }
            index += max(count, 1)
        }
        index = 0
        while index < 8 {
            if bestCount > 1, index == best {
                text.append(58)
                text.append(58)
                index += bestCount
                continue
            }
            if index > 0, text.last != 58 { text.append(58) }
            let value = group(index)
            var shift: UInt64 = value > 0xFFF ? 12 : value > 0xFF ? 8 : value > 0xF ? 4 : 0
            while true {
                text.append(Hex.digit(UInt8(value >> shift & 0xF)))
                if shift == 0 { break }
                shift -= 4
            }
            index += 1
        }
    }
}

extension Machine {
    private mutating func value(_ address: Address) -> Value {
        guard heap.allows(bytes: 16) else { return fail(.memoryLimit) }
        let start = heap.bytes.count
        for index in 0..<8 { heap.bytes.append(UInt8(truncatingIfNeeded: address.high >> UInt64(56 - 8 * index))) }
        for index in 0..<8 { heap.bytes.append(UInt8(truncatingIfNeeded: address.low >> UInt64(56 - 8 * index))) }
        let extra = UInt32(address.isV4 ? 4 : 6) | (address.prefix < 0 ? 0 : UInt32(address.prefix) << 8)
        return Value(
            address.prefix < 0 ? .ip : .cidr, bits: UInt64(start), extra: extra, region: Region.arena)
    }

    /// Sixteen bytes, whatever `extra` says.
    private func address(_ value: Value, _ c: Context) -> Address {
        var plain = value
        plain.extra = 16
        return Address(value, bytes(plain, c))
    }

    func addressText(_ value: Value, _ c: Context) -> [UInt8] {
        var text: [UInt8] = []
        address(value, c).append(to: &text)
        return text
    }

    func addressesEqual(_ left: Value, _ right: Value, _ c: Context) -> Bool {
        let (a, b) = (address(left, c).unmapped, address(right, c).unmapped)
        return a.high == b.high && a.low == b.low && a.isV4 == b.isV4 && a.prefix == b.prefix
    }

    /// An address or network given as itself or as text; nil for other kinds and wrong texts.
    private func parsed(_ value: Value, network: Bool, _ c: Context) -> Address? {
        switch value.kind {
        case .ip: return network ? nil : address(value, c)
        case .cidr: return network ? address(value, c) : nil
        case .string:
            let text = bytes(value, c)
            return network ? Address.parseNetwork(text) : Address.parse(text, 0, text.count)
        default: return nil
        }
    }

    mutating func network(
        _ function: Function, _ first: Value, _ second: Value, _ count: Int, _ c: Context
    ) -> Value {
        let isBinary = function == .containsIP || function == .containsCIDR
        guard count == (isBinary ? 2 : 1) else { return fail(.noOverload) }
        switch function {
        case .ip, .cidr:
            if first.kind == (function == .ip ? .ip : .cidr) { return first }
            guard first.kind == .string else { return fail(.noOverload) }
            guard let address = parsed(first, network: function == .cidr, c) else { return fail(.invalidArgument) }
            return value(address)
        case .isIP, .isCIDR:
            guard first.kind == .string else { return fail(.noOverload) }
            return .bool(parsed(first, network: function == .isCIDR, c) != nil)
        case .isCanonical:
            guard first.kind == .string else { return fail(.noOverload) }
            guard let address = parsed(first, network: false, c) else { return fail(.invalidArgument) }
            var text: [UInt8] = []
            address.append(to: &text)
            return .bool(Formats.equal(text.span, bytes(first, c)))
        case .containsIP, .containsCIDR, .cidrIP, .masked, .prefixLength:
            guard first.kind == .cidr else { return fail(.noOverload) }
            return onNetwork(function, address(first, c), second, c)
        default:
            guard first.kind == .ip else { return fail(.noOverload) }
            return onAddress(function, address(first, c))
        }
    }

    private mutating func onNetwork(_ function: Function, _ network: Address, _ second: Value, _ c: Context) -> Value {
        switch function {
        case .cidrIP: return value(Address(high: network.high, low: network.low, isV4: network.isV4))
        case .masked: return value(network.masked)
        case .prefixLength: return .int(Int64(network.prefix))
        default:
            guard let other = parsed(second, network: function == .containsCIDR, c) else {
                return fail(second.kind == .string ? .invalidArgument : .noOverload)
            }
            return .bool(network.contains(other) && (function == .containsIP || network.prefix <= other.prefix))
        }
    }

    private func onAddress(_ function: Function, _ given: Address) -> Value {
        if function == .family { return .int(given.isV4 ? 4 : 6) }
        let address = given.unmapped
        let octets = address.low
        let isV4 = address.isV4
        let isMulticast = isV4 ? octets >> 28 == 0xE : address.high >> 56 == 0xFF
        let isUnspecified = address.high == 0 && octets == 0
        let isLoopback = isV4 ? octets >> 24 == 127 : address.high == 0 && octets == 1
        let isLinkLocal = isV4 ? octets >> 16 == 0xA9FE : address.high >> 54 == 0xFE80 >> 6
        switch function {
        case .isUnspecified: return .bool(isUnspecified)
        case .isLoopback: return .bool(isLoopback)
        case .isLinkLocalUnicast: return .bool(isLinkLocal)
        case .isLinkLocalMulticast:
            return .bool(isV4 ? octets >> 8 == 0xE00000 : address.high >> 48 & 0xFF0F == 0xFF02)
        default:
            // Go's netip.Addr.IsGlobalUnicast: private addresses are global unicast too.
            let isBroadcast = isV4 && octets == 0xFFFF_FFFF
            return .bool(!isMulticast && !isUnspecified && !isLoopback && !isLinkLocal && !isBroadcast)
        }
    }
}
