// A scripted HTTP server on 127.0.0.1 for the client's tests, with TLS or without, one thread a connection.

import Cryptography
import Foundation
import Glibc

/// What the server does with one request.
enum HubAction {
    /// Writes these bytes as they are.
    case answer(String)
    /// Writes the bytes, then closes.
    case answerAndClose(String)
    /// Closes without a word.
    case close
    /// Says nothing for ever.
    case stall
    /// Begins an answer, and then sends a byte of it now and then.
    case drip
}

func ok(_ headers: String = "", body: String = "") -> String {
    "HTTP/1.1 200 OK\r\n\(headers)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
}

final class TestHub: @unchecked Sendable {
    let port: UInt16
    private let listener: Int32
    private let tls: TLSServerConfiguration?
    private let lock = NSLock()
    private var script: [HubAction]
    private var seen: [(head: String, body: [UInt8])] = []
    private var connectionCount = 0
    private var open: Set<Int32> = []
    /// Never reads a request when set: for stalls while sending.
    private let isDeaf: Bool
    /// Answers the first request's head with this and reads no more.
    private let earlyAnswer: String?

    /// - Parameter script: one action a request, in order; afterwards each is answered 200.
    init(
        _ script: [HubAction] = [], tls: TLSServerConfiguration? = nil, isDeaf: Bool = false, earlyAnswer: String? = nil
    ) {
        self.earlyAnswer = earlyAnswer
        self.script = script
        self.tls = tls
        self.isDeaf = isDeaf
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                precondition(bind(listener, $0, size) == 0 && listen(listener, 16) == 0)
                precondition(getsockname(listener, $0, &size) == 0)
            }
        }
        port = UInt16(bigEndian: address.sin_port)
        Foundation.Thread.detachNewThread { [self] in
            while true {
                let connection = accept(listener, nil, nil)
                if connection < 0 {
                    // Here and not in `stop`: the number might be another socket's by the next `accept`.
                    Glibc.close(listener)
                    return
                }
                lock.withLock { connectionCount += 1 }
                Foundation.Thread.detachNewThread { [self] in serve(connection) }
            }
        }
    }

    /// Ends all connections without a word.
    func dropConnections() { lock.withLock { for descriptor in open { shutdown(descriptor, Int32(SHUT_RDWR)) } } }

    func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

    var requests: [(head: String, body: [UInt8])] { lock.withLock { seen } }
    var connections: Int { lock.withLock { connectionCount } }

    private func serve(_ descriptor: Int32) {
        lock.withLock { _ = open.insert(descriptor) }
        defer {
            lock.withLock { _ = open.remove(descriptor) }
            Glibc.close(descriptor)
        }
        if isDeaf { sleep(30); return }
        if let earlyAnswer {
            var byte: UInt8 = 0
            _ = recv(descriptor, &byte, 1, 0)
            usleep(100_000)
            _ = send(descriptor, earlyAnswer, earlyAnswer.utf8.count, Int32(MSG_NOSIGNAL))
            sleep(30)
            return
        }
        if let tls {
            // The session waits on a blocking socket; `want…` does not come up.
            guard var session = try? TLSSession(accepting: descriptor, configuration: tls),
                case .done = session.handshake()
            else { return }
            var buffer = [UInt8](repeating: 0, count: 16_384)
            converse(
                read: {
                    var span = buffer.mutableSpan
                    guard case .done(let count) = session.read(into: &span) else { return nil }
                    return Array(buffer[..<count])
                },
                write: { bytes in
                    var offset = 0
                    while offset < bytes.count {
                        guard case .done(let count) = session.write(bytes.span.extracting(offset..<bytes.count)) else { return }
                        offset += count
                    }
                })
            _ = session.close()
        } else {
            var buffer = [UInt8](repeating: 0, count: 16_384)
            converse(
                read: {
                    let count = recv(descriptor, &buffer, buffer.count, 0)
                    return count > 0 ? Array(buffer[..<count]) : nil
                },
                write: { bytes in _ = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) })
        }
    }

    /// Reads requests with Content-Length and does with each what the script says.
    private func converse(read: () -> [UInt8]?, write: ([UInt8]) -> Void) {
        var received: [UInt8] = []
        let end = Array("\r\n\r\n".utf8)
        while true {
            var headEnd: Int?
            while headEnd == nil {
                if received.count >= 4 {
                    headEnd = (0...(received.count - 4)).first { Array(received[$0..<$0 + 4]) == end }.map { $0 + 4 }
                }
                if headEnd == nil {
                    guard let more = read() else { return }
                    received += more
                }
            }
            let head = String(decoding: received[..<headEnd!], as: UTF8.self)
            let length = head.components(separatedBy: "Content-Length: ").last.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0
            while received.count < headEnd! + length {
                guard let more = read() else { return }
                received += more
            }
            let body = Array(received[headEnd!..<headEnd! + length])
            received.removeFirst(headEnd! + length)
            let action = lock.withLock { () -> HubAction in
                seen.append((head, body))
                return script.isEmpty ? .answer(ok()) : script.removeFirst()
            }
            switch action {
            case .answer(let text): write(Array(text.utf8))
            case .answerAndClose(let text): write(Array(text.utf8)); return
            case .close: return
            case .stall: sleep(30); return
            case .drip:
                write(Array("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".utf8))
                for _ in 0..<100 {
                    usleep(50_000)
                    write([0x61])
                }
                return
            }
        }
    }
}

/// A certificate authority and a certificate for 127.0.0.1 and localhost, made once by the openssl command.
enum HubCertificate {
    static let isOpenSSLThere = FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl")
    static let directory: String = {
        let directory = NSTemporaryDirectory() + "gatehouse-hub-certificate-\(getpid())"
        try! FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        atexit { try? FileManager.default.removeItem(atPath: NSTemporaryDirectory() + "gatehouse-hub-certificate-\(getpid())") }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.currentDirectoryURL = URL(fileURLWithPath: directory)
        process.standardError = FileHandle.nullDevice
        process.arguments = ["-c", """
            set -e
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 \
                -subj /CN=test -addext keyUsage=critical,keyCertSign
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout hub.key -out hub.csr -subj /CN=hub
            printf 'subjectAltName=IP:127.0.0.1,DNS:localhost' >ext
            openssl x509 -req -in hub.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out hub.pem
            """]
        try! process.run()
        process.waitUntilExit()
        precondition(process.terminationStatus == 0, "openssl made no certificate")
        return directory
    }()
    static var server: TLSServerConfiguration {
        try! TLSServerConfiguration(
            identity: TLSIdentity(chain: .file(directory + "/hub.pem"), key: .file(directory + "/hub.key")))
    }
    static var trust: TLSClientConfiguration { TLSClientConfiguration(authorities: .file(directory + "/ca.pem")) }
}
