// What somebody has written on the kernel's command line for a box in which Gatehouse is the only program. Words for others,
// the kernel above all, are passed over.

/// How a box is reached: one interface with a fixed IPv4 address. An address is a number whose highest byte is written
/// first.
public struct NetworkSettings: Sendable {
    /// Its name, and a NUL.
    public var interface: [UInt8]
    public var address: UInt32
    public var netmask: UInt32
    /// 0 when there is none.
    public var gateway: UInt32
    /// The name server's address as it is written; empty when there is none.
    public var resolver: [UInt8]

    /// Reads what the kernel takes after `ip=` (its documentation, admin-guide/nfs/nfsroot), where these count:
    /// `ADDRESS::GATEWAY:NETMASK::INTERFACE::RESOLVER`. Address and netmask must be there; the interface is `eth0` if
    /// none is named.
    public init?(_ text: [UInt8]) {
        func part(_ index: Int) -> [UInt8] { piece(index, of: text, by: UInt8(ascii: ":")) ?? [] }
        guard let address = parseIPv4(part(0)), let netmask = parseIPv4(part(3)) else { return nil }
        // A mask is ones and then zeros.
        if address == 0 || (~netmask) & (~netmask &+ 1) != 0 { return nil }
        (self.address, self.netmask, gateway) = (address, netmask, 0)
        if !part(2).isEmpty {
            guard let way = parseIPv4(part(2)) else { return nil }
            gateway = way
        }
        interface = (part(5).isEmpty ? Array("eth0".utf8) : part(5)) + [0]
        resolver = parseIPv4(part(7)) == nil ? [] : part(7)
    }
}

/// The command line's words for Gatehouse.
public struct BootSettings: Sendable {
    /// `gatehouse.data=/dev/vda`: the device with the file system that data is kept on, and a NUL.
    public private(set) var disk: [UInt8]?
    /// `ip=`: how the box is reached. An `ip=` without address and netmask is none.
    public private(set) var network: NetworkSettings?

    /// - Parameter line: `/proc/cmdline`.
    public init(_ line: [UInt8]) {
        let line = piece(0, of: line, by: 0x0A) ?? []
        var index = 0
        while let word = piece(index, of: line, by: 0x20) {
            index += 1
            if let value = rest(of: word, after: "gatehouse.data=") { disk = value + [0] }
            if let value = rest(of: word, after: "ip=") { network = NetworkSettings(value) }
        }
    }
}

/// The piece of a text between two separators, counted from 0; `nil` after the last.
@inline(never)
public func piece(_ index: Int, of text: [UInt8], by separator: UInt8) -> [UInt8]? {
    var (count, result): (Int, [UInt8]) = (0, [])
    for byte in text {
        if byte == separator { count += 1 } else if count == index { result.append(byte) }
    }
    return index > count ? nil : result
}

private func rest(of word: [UInt8], after name: StaticString) -> [UInt8]? {
    let count = name.utf8CodeUnitCount
    // A StaticString of ASCII literals points at constant memory.
    let isNamed = word.count > count && word.starts(with: UnsafeBufferPointer(start: name.utf8Start, count: count))
    return isNamed ? Array(word[count...]) : nil
}

private func parseIPv4(_ text: [UInt8]) -> UInt32? {
    var (address, number): (UInt32, UInt32?) = (0, nil)
    var dots = 0
    for byte in text {
        if byte == UInt8(ascii: ".") {
            guard let part = number else { return nil }
            (address, number) = (address << 8 | part, nil)
            dots += 1
        } else {
            guard byte >= 0x30, byte <= 0x39 else { return nil }
            let value = (number ?? 0) * 10 + UInt32(byte - 0x30)
            if value > 255 { return nil }
            number = value
        }
    }
    guard dots == 3, let number else { return nil }
    return address << 8 | number
}
