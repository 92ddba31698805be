// Shows what a box takes from the kernel's command line: its own words among all others, an address only with a netmask
// that is one, and nothing of what is not well formed.

import Testing

@testable import Platform

@Suite struct BootSettingsTests {
    private func settings(_ line: String) -> BootSettings { BootSettings(Array(line.utf8)) }

    @Test func wordsForGatehouseAreFoundAmongOthers() throws {
        let found = settings(
            "gatehouse.data=/dev/vda quiet ip=192.168.1.9::192.168.1.1:255.255.255.0:till:lan0:off:192.168.1.2\n")
        #expect(found.disk == Array("/dev/vda\0".utf8))
        let network = try #require(found.network)
        #expect(network.address == 0xC0A8_0109)
        #expect(network.gateway == 0xC0A8_0101)
        #expect(network.netmask == 0xFFFF_FF00)
        #expect(network.interface == Array("lan0\0".utf8))
        #expect(network.resolver == Array("192.168.1.2".utf8))
    }

    @Test func withoutThemThereIsNeitherDiskNorNetwork() {
        for line in ["", "\n", "quiet\n", "gatehouse.data= ip=\n", "xip=10.0.0.1:::255.0.0.0 gatehouse.database=x"] {
            let found = settings(line)
            #expect(found.disk == nil && found.network == nil, "\(line)")
        }
    }

    @Test func gatewayInterfaceAndResolverMayBeLeftOut() throws {
        let network = try #require(settings("ip=10.0.2.15:::255.255.0.0").network)
        #expect(network.gateway == 0)
        #expect(network.netmask == 0xFFFF_0000)
        #expect(network.interface == Array("eth0\0".utf8))
        #expect(network.resolver.isEmpty)
    }

    @Test(arguments: [
        "dhcp", "10.0.2.15", "10.0.2.15:::", "10.0.2:::255.255.255.0", "10.0.2.256:::255.255.255.0",
        "10.0.2.15.1:::255.255.255.0", "10..2.15:::255.255.255.0", "10.0.2.15:::255.0.255.0", "0.0.0.0:::255.255.255.0",
        "10.0.2.15::x:255.255.255.0", "10.0.2.15a:::255.255.255.0", ".10.0.2.15:::255.255.255.0",
        "10.0.2.15.:::255.255.255.0",
        "99999999999999999999.0.0.1:::255.255.255.0",
    ])
    func whatIsNoAddressWithANetmaskIsRefused(_ value: String) {
        #expect(settings("quiet ip=\(value)").network == nil)
    }

    @Test func piecesAreCountedFromNoughtToTheLast() {
        let text = Array("a::b".utf8)
        #expect(piece(0, of: text, by: 0x3A) == [0x61])
        #expect(piece(1, of: text, by: 0x3A) == [])
        #expect(piece(2, of: text, by: 0x3A) == [0x62])
        #expect(piece(3, of: text, by: 0x3A) == nil)
    }
}
