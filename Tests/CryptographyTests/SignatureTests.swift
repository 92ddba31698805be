// Shows that signatures are those of OpenSSL, both ways, and that nothing else counts as one: other bytes, other keys, other
// curves, and every single bit.

import Foundation
import Testing

@testable import Cryptography

/// Keys made by the openssl command, once for a run of the tests.
private enum Keys {
    static let directory: String = {
        let directory = NSTemporaryDirectory() + "gatehouse-signing-keys-\(getpid())"
        try! FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        atexit { try? FileManager.default.removeItem(atPath: NSTemporaryDirectory() + "gatehouse-signing-keys-\(getpid())") }
        run("""
            set -e
            for name in one two; do openssl ecparam -name prime256v1 -genkey -noout -out $name.key; done
            openssl pkcs8 -topk8 -nocrypt -in one.key -out one.pkcs8.key
            openssl ecparam -name prime256v1 -genkey -out parameters.key
            openssl ecparam -name secp384r1 -genkey -noout -out p384.key
            openssl ecparam -name secp256k1 -genkey -noout -out k256.key
            openssl genrsa -out rsa.key 2048
            for name in one two parameters p384 k256 rsa; do openssl pkey -in $name.key -pubout -out $name.pem; done
            openssl ec -aes128 -passout pass:word -in one.key -out locked.key
            """, in: directory)
        return directory
    }()

    static func run(_ script: String, in folder: String? = nil) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.currentDirectoryURL = URL(fileURLWithPath: folder ?? directory)
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.arguments = ["-c", script]
        try! process.run()
        process.waitUntilExit()
        precondition(process.terminationStatus == 0, "a command of openssl failed")
    }

    static func file(_ name: String) -> [UInt8] {
        [UInt8](FileManager.default.contents(atPath: directory + "/" + name)!)
    }

    static func write(_ name: String, _ bytes: [UInt8]) {
        try! Data(bytes).write(to: URL(fileURLWithPath: directory + "/" + name))
    }
}

private let text = Array("version: 7\npurposes: [analytics]\n".utf8)

private func haveSigned(_ signature: [UInt8], _ bytes: [UInt8] = text, by key: [UInt8]) -> Bool {
    (try? VerificationKeys(key).haveSigned(bytes.span, signature)) ?? false
}

@Suite(.enabled(if: Certificates.isOpenSSLThere, "the openssl command is not installed")) struct SignatureTests {
    @Test(arguments: ["one.key", "one.pkcs8.key", "parameters.key"]) func openSSLTakesOurs(_ key: String) throws {
        let signature = try sign(text.span, key: Keys.file(key))
        Keys.write("text-\(key)", text)
        Keys.write("ours-\(key)", signature)
        let name = key.split(separator: ".")[0]
        Keys.run("openssl dgst -sha256 -verify \(name).pem -signature ours-\(key) text-\(key)")
        #expect(try sign(text.span, key: Keys.file(key)) == signature, "the same each time")
        #expect(haveSigned(signature, by: Keys.file("\(name).pem")))
    }

    @Test func weTakeOpenSSLs() {
        Keys.write("text", text)
        Keys.run("openssl dgst -sha256 -sign one.key -out theirs text")
        #expect(haveSigned(Keys.file("theirs"), by: Keys.file("one.pem")))
    }

    @Test func nothingElseIsASignature() throws {
        let key = Keys.file("one.pem")
        let signature = try sign(text.span, key: Keys.file("one.key"))
        #expect(!haveSigned(signature, text + [0x0A], by: key))
        #expect(!haveSigned(signature, Array(text.dropLast()), by: key))
        #expect(!haveSigned(signature, [], by: key))
        #expect(!haveSigned(signature, by: Keys.file("two.pem")))
        #expect(!haveSigned([], by: key))
        #expect(!haveSigned(signature + [0], by: key), "nothing may stand behind it")
        #expect(!haveSigned([0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00], by: key), "two zeros")
        for index in signature.indices {
            for bit in 0..<8 {
                var other = signature
                other[index] ^= 1 << UInt8(bit)
                #expect(!haveSigned(other, by: key), "byte \(index), bit \(bit)")
            }
            #expect(!haveSigned(Array(signature[..<index]), by: key), "\(index) bytes of it")
        }
        Keys.write("text-sha1", text)
        Keys.run("openssl dgst -sha1 -sign one.key -out sha1 text-sha1")
        #expect(!haveSigned(Keys.file("sha1"), by: key), "over another hash")
    }

    @Test func anyOfSeveralKeysMayHaveSigned() throws {
        let both = Keys.file("two.pem") + Array("# the next one\n".utf8) + Keys.file("one.pem")
        #expect(haveSigned(try sign(text.span, key: Keys.file("one.key")), by: both))
        #expect(haveSigned(try sign(text.span, key: Keys.file("two.key")), by: both))
        #expect(!haveSigned(try sign(text.span, key: Keys.file("parameters.key")), by: both))
        #expect(throws: SignatureError.keyUnsuitable) { try VerificationKeys(both + Keys.file("p384.pem")) }
    }

    @Test func aKeyOfAnotherKindIsRefused() {
        for name in ["p384", "k256", "rsa"] {
            #expect(throws: SignatureError.keyUnsuitable, "\(name)") { try VerificationKeys(Keys.file("\(name).pem")) }
            #expect(throws: SignatureError.keyUnsuitable, "\(name)") { try sign(text.span, key: Keys.file("\(name).key")) }
        }
        for wrong in [[], Array("no key".utf8), Keys.file("one.key"), Array(Keys.file("one.pem").dropLast(60)), [0, 0x2D]] {
            #expect(throws: SignatureError.publicKeyUnreadable) { try VerificationKeys(wrong) }
        }
        for wrong in [[], Array("no key".utf8), Keys.file("one.pem"), Keys.file("locked.key")] {
            #expect(throws: SignatureError.privateKeyUnreadable) { try sign(text.span, key: wrong) }
        }
    }
}
