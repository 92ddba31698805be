// Shows that the last time known survives a restart, and what is said about the section `tls` of a configuration.

import Cryptography
import Foundation
import Testing

@testable import Agent
@testable import Delivery
@testable import Store

@Suite struct KnownTimeTests {
    // limit: Agent.knownTimeSeconds
    @Test("The last time known is kept once it is an hour later, and read again; what is damaged counts for nothing")
    func kept() throws {
        let folder = NSTemporaryDirectory() + "gatehouse-known-time-\(getpid())"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let database = try Database(folder: folder, mapBytes: 1 << 20, synchronous: false)
        func read() throws -> Int64 { try ClockFloor.read(database.beginWrite()).seconds }
        #expect(try read() == buildTime)

        let start = buildTime + 1_000_000
        let floor = ClockFloor()
        var keptTime: Int64 = 0
        func learn(_ time: Int64) throws {
            floor.learn(clock: time, server: time)
            var transaction = try database.beginWrite()
            try floor.keep(&keptTime, &transaction)
            try transaction.commit()
        }
        try learn(start)
        #expect(try read() == start)
        try learn(start + Agent.Limits.knownTimeSeconds - 1)
        #expect(try read() == start)
        try learn(start + Agent.Limits.knownTimeSeconds)
        #expect(try read() == start + Agent.Limits.knownTimeSeconds)
        // A clock that is set back takes nothing away.
        try learn(start)
        #expect(try read() == start + Agent.Limits.knownTimeSeconds)

        var transaction = try database.beginWrite()
        try transaction.put(database.tables.meta, Array("known_time".utf8).span, Array("garbage bytes".utf8).span)
        try transaction.commit()
        #expect(try read() == buildTime)
    }

    private func files(_ sources: [PEMSource?]) -> [String] {
        sources.map { if case .file(let path) = $0 { path } else { "" } }
    }

    @Test("Settings of tls are read, and what does not go together is refused")
    func settings() {
        func read(_ text: String) -> (Configuration, [String]) {
            let (configuration, problems) = Configuration.read(Array(text.utf8).span)
            return (configuration, problems.map { "\($0.position.description): \($0.message)" })
        }
        let pin = String(repeating: "ab", count: 32)
        let (configuration, problems) = read(
            "tls: { ca: a.pem, cert: b.pem, key: c.pem, client_ca: d.pem, crl: e.crl, pins: ['\(pin)'] }")
        #expect(problems == [])
        #expect(configuration.clientAuthority == "d.pem" && configuration.revoked == "e.crl")
        #expect(configuration.pins.count == 1)
        let trust = configuration.trust()
        #expect(files([trust.revoked, trust.authorities, trust.identity?.chain]) == ["e.crl", "a.pem", "b.pem"])
        #expect(trust.pins == [])
        #expect(read("tls: { client_ca: d.pem }").1
            == ["1:19: client_ca is for those who connect here by TLS, which needs cert and key"])
        #expect(read("tls: { cert: b.pem }").1 == ["1:6: cert and key go together: give both or neither"])
        #expect(read("tls: { client_key: b.pem }").1
            == ["1:6: client_cert and client_key go together: give both or neither"])
        let own = read("tls: { client_cert: f.pem, client_key: f.key }").0
        #expect(own.certificate == nil)
        #expect(files([own.trust().identity?.chain, own.trust().identity?.key]) == ["f.pem", "f.key"])
        #expect(read("tls: { pins: abc }").1
            == ["1:14: pins is a list of 1 to 8 SHA-256 of public keys, 64 hex digits each"])
        #expect(read("tls: { crls: e.crl }").1.count == 1)
    }
}
