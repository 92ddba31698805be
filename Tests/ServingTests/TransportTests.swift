// The other ways in: TLS, with curl as the client, and a Unix socket.
import Cryptography
import Foundation
import Glibc
import Platform
import Serving
import Testing

private let haveTools =
    FileManager.default.isExecutableFile(atPath: "/usr/bin/curl")
    && FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl")

/// Runs a command and returns what it prints.
private func run(_ command: String) throws -> String {
    let process = Foundation.Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", command]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: output, as: UTF8.self)
}

@Suite struct TransportTests {
    /// Several requests over one TLS connection: small, a body of many records, and an answer of a megabyte; and a plain
    /// request to the TLS port gets nothing.
    @Test(.enabled(if: haveTools, "needs curl and openssl"))
    func tlsIsServed() throws {
        let directory = NSTemporaryDirectory() + "gatehouse-serving-\(getpid())"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        _ = try run(
            "cd \(directory) && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
                + "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key -out cert 2>/dev/null "
                + "&& head -c 300000 /dev/zero | tr '\\0' x >body")
        let tls = try TLSServerConfiguration(
            identity: TLSIdentity(chain: .file(directory + "/cert"), key: .file(directory + "/key")))
        let fixture = try Fixture { $0.addresses = [.tcp(address: "127.0.0.1", port: 0, tls: tls)] }
        let base = "https://localhost:\(fixture.server.port)"
        let curl = "curl -s --max-time 10 --cacert \(directory)/cert -w '|%{http_code} %{num_connects}|'"
        let output = try run(
            "\(curl) \(base)/echo \(base)/echo --next -s --cacert \(directory)/cert -w '|%{http_code} %{num_connects}|' "
                + "--data-binary @\(directory)/body \(base)/echo")
        #expect(output.hasPrefix("get /echo |200 1|get /echo |200 0|post /echo xxx"))
        #expect(output.utf8.count > 300_000 && output.contains("x|200 "))
        #expect(try run("\(curl) \(base)/big?2 | wc -c").hasPrefix("\((2 << 20) + 7)"))

        let plain = try fixture.client()
        try plain.send("GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(throws: ClientError.self) { try plain.response() }
    }

    /// Any Host is taken over a Unix socket, which no browser reaches; the peer's kind is known.
    @Test func unixSocketsAreServed() throws {
        let path = "/tmp/gatehouse-serving-test-\(getpid()).socket"
        defer { Files.remove(path) }
        let fixture = try Fixture(threads: 2) { $0.addresses.append(.unix(path: path, mode: 0o600)) }
        let client = try Client(path: path)
        try client.send("GET /peer HTTP/1.1\r\nHost: anything\r\n\r\n")
        #expect(try client.response().body == "unixSocket")
        #expect(try fixture.client().get("/peer").body == "loopback")
    }
}
