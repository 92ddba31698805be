// Certificates made by the openssl command, openssl as the other side of a connection, and sockets for tests.

import Cryptography
import Foundation
import Glibc

/// A directory of certificates for every case of the matrix, made once for a run of the tests and removed at its end.
enum Certificates {
    static let isOpenSSLThere = FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl")
    static let directory: String = make()

    static func path(_ name: String) -> String { directory + "/" + name }
    static func identity(_ name: String) -> TLSIdentity {
        TLSIdentity(chain: .file(path(name + ".pem")), key: .file(path(name + ".key")))
    }

    /// The SHA-256 of a certificate's public key, as a person would find it.
    static func publicKeyDigest(_ name: String) -> Digest256 {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = [
            "-c", "openssl x509 -in $0 -noout -pubkey | openssl pkey -pubin -outform der | sha256sum", path(name + ".pem"),
        ]
        let output = Pipe()
        process.standardOutput = output
        try! process.run()
        let digits = [UInt8](output.fileHandleForReading.readDataToEndOfFile().prefix(64))
        process.waitUntilExit()
        return Digest256(hexadecimal: digits.span)!
    }

    /// `openssl ca` signs with any dates and extensions; each certificate has its extensions in a section of its own.
    private static func make() -> String {
        let directory = NSTemporaryDirectory() + "gatehouse-certificates-\(getpid())"
        try! FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        atexit {
            try? FileManager.default.removeItem(atPath: NSTemporaryDirectory() + "gatehouse-certificates-\(getpid())")
        }
        let script = #"""
            set -e
            cat >ca.cnf <<'END'
            [ca]
            default_ca = this
            [this]
            database = index.txt
            new_certs_dir = .
            rand_serial = yes
            default_md = sha256
            policy = any
            unique_subject = no
            copy_extensions = none
            [any]
            commonName = supplied
            [authority]
            basicConstraints = critical, CA:true
            keyUsage = critical, keyCertSign, cRLSign
            [authority0]
            basicConstraints = critical, CA:true, pathlen:0
            keyUsage = critical, keyCertSign, cRLSign
            [mute]
            basicConstraints = critical, CA:true
            keyUsage = critical, cRLSign
            [good]
            basicConstraints = CA:false
            subjectAltName = DNS:localhost, DNS:hub.example, DNS:*.wild.example, IP:127.0.0.1, IP:::1
            [other]
            subjectAltName = DNS:other.example, IP:127.0.0.2
            [bare]
            basicConstraints = CA:false
            [client_only]
            subjectAltName = DNS:localhost
            extendedKeyUsage = clientAuth
            END
            : >index.txt
            key() { openssl ecparam -name prime256v1 -genkey -noout -out $1.key; }
            root() { key $1; openssl req -x509 -new -key $1.key -subj "/CN=$1" -days 30000 -config ca.cnf -extensions $2 -out $1.pem; }
            # sign NAME EXTENSIONS ISSUER [options of openssl ca]
            sign() {
                local name=$1 extensions=$2 issuer=$3; shift 3
                [ -f $name.key ] || key $name
                openssl req -new -key $name.key -subj "/CN=${subject:-$name}" -config ca.cnf -out $name.csr
                openssl ca -batch -notext -config ca.cnf -cert $issuer.pem -keyfile $issuer.key -extensions $extensions \
                    -in $name.csr -out $name.pem -days 30 "$@"
            }
            printf '[req]\ndistinguished_name = name\n[name]\n' >>ca.cnf
            root root authority
            root stranger authority
            sign good good root
            sign other other root
            subject=localhost sign bare bare root
            sign client_only client_only root
            sign expired good root -startdate 200101000000Z -enddate 210101000000Z
            sign future good root -startdate 20900101000000Z -enddate 20910101000000Z
            sign unknown good stranger
            root self good
            sign sha1 good root -md sha1
            openssl genrsa -out rsa.key 2048; sign rsa good root
            openssl genrsa -out rsa1024.key 1024; sign rsa1024 good root
            openssl genrsa -out rsa_middle.key 2048; sign rsa_middle authority root
            sign md5 good rsa_middle -md md5; cat rsa_middle.pem >>md5.pem
            sign middle authority root
            sign chained good middle; cp chained.pem broken.pem; cp chained.key broken.key
            cat middle.pem >>chained.pem
            sign no_authority good root
            sign under_leaf good no_authority; cat no_authority.pem >>under_leaf.pem
            sign mute mute root
            sign under_mute good mute; cat mute.pem >>under_mute.pem
            cat good.pem stranger.pem >stray.pem; cp good.key stray.key
            sign short authority0 root
            sign below authority short
            sign too_long good below; cat below.pem short.pem >>too_long.pem
            sign revoked good root
            sign below_middle good middle
            sign withdrawn authority root
            sign below_revoked good withdrawn
            for name in revoked below_middle withdrawn; do
                openssl ca -config ca.cnf -cert root.pem -keyfile root.key -revoke $name.pem
            done
            cat middle.pem >>below_middle.pem; cat withdrawn.pem >>below_revoked.pem
            # list NAME ISSUER [options of openssl ca]
            list() {
                local name=$1 issuer=$2; shift 2
                openssl ca -gencrl -config ca.cnf -cert $issuer.pem -keyfile $issuer.key -out $name.crl -crldays 30 "$@"
            }
            list root root
            list middle middle
            list old root -crl_lastupdate 200101000000Z -crl_nextupdate 210101000000Z
            list early root -crl_lastupdate 20900101000000Z -crl_nextupdate 20910101000000Z
            mkdir forger
            openssl ecparam -name prime256v1 -genkey -noout -out forger/root.key
            openssl req -x509 -new -key forger/root.key -subj /CN=root -days 30 -config ca.cnf -extensions authority \
                -out forger/root.pem
            list forged forger/root
            """#
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = ["-c", script]
        process.currentDirectoryURL = URL(fileURLWithPath: directory)
        let errors = Pipe()
        process.standardOutput = FileHandle.nullDevice
        process.standardError = errors
        try! process.run()
        let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        precondition(process.terminationStatus == 0, "openssl made no certificates: \(text)")
        return directory
    }
}

/// One run of the openssl command; killed when it is let go.
final class OpenSSL {
    let process = Process()
    private let output = Pipe()
    let input = Pipe()
    private(set) var text = ""

    init(_ arguments: [String]) {
        process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
        process.arguments = arguments
        process.standardOutput = output
        process.standardError = output
        process.standardInput = input
        try! process.run()
    }

    // Not `terminate()`: the child has inherited a mask in which that signal is blocked.
    deinit { kill(process.processIdentifier, SIGKILL) }

    /// Starts `s_server` on a free port of 127.0.0.1.
    static func server(_ certificate: String, _ arguments: [String] = ["-rev"]) -> (OpenSSL, port: UInt16) {
        let chain = Certificates.path(certificate + ".pem")
        let server = OpenSSL(
            ["s_server", "-accept", "127.0.0.1:0", "-cert", chain, "-cert_chain", chain, "-key",
                Certificates.path(certificate + ".key")] + arguments)
        let line = server.waitFor("ACCEPT ")
        let port = line.split(separator: ":").last.flatMap { UInt16($0) }
        return (server, port!)
    }

    /// Reads until a line that contains `mark` is complete, and returns that line.
    @discardableResult
    func waitFor(_ mark: String) -> String {
        while true {
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            if let line = lines.dropLast().first(where: { $0.contains(mark) }) { return String(line) }
            let data = output.fileHandleForReading.availableData
            if data.isEmpty { return text }
            text += String(decoding: data, as: UTF8.self)
        }
    }

    /// Waits for the end of it: all that it said, and its exit code.
    func finish() -> (text: String, status: Int32) {
        try? input.fileHandleForWriting.close()
        text += String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (text, process.terminationStatus)
    }
}

/// A socket of a test: non-blocking, closed when it is let go.
final class TestSocket {
    let descriptor: Int32

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    }

    deinit { Glibc.close(descriptor) }

    static func connected(to port: UInt16) -> TestSocket {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(port)
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        precondition(result == 0, "no connection to port \(port): \(errno)")
        return TestSocket(descriptor)
    }

    static func listening() -> (TestSocket, port: UInt16) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(0)
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                precondition(bind(descriptor, $0, size) == 0)
                precondition(getsockname(descriptor, $0, &size) == 0)
            }
        }
        precondition(listen(descriptor, 8) == 0)
        return (TestSocket(descriptor), UInt16(bigEndian: address.sin_port))
    }

    func accepted() -> TestSocket {
        wait(POLLIN)
        return TestSocket(accept(descriptor, nil, nil))
    }

    /// Two ends of one connection.
    static func pair() -> (TestSocket, TestSocket) {
        var ends: [Int32] = [0, 0]
        precondition(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        return (TestSocket(ends[0]), TestSocket(ends[1]))
    }

    func wait(_ events: Int32) {
        var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        let count = poll(&entry, 1, 10_000)
        precondition(count == 1, "nothing happened on the socket for 10 seconds")
    }

    private static func loopback(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        return address
    }
}
