// Shows that the hashes give the answers of the standards, in one piece or in many.

import Cryptography
import Testing

private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

// Spans do not go through the testing macros.
private func read(_ raw: [UInt8]) -> Digest256? { Digest256(raw.span) }
private func read(hexadecimal text: String) -> Digest256? { Digest256(hexadecimal: Array(text.utf8).span) }
private func agree(_ left: [UInt8], _ right: [UInt8]) -> Bool { isEqualInConstantTime(left.span, right.span) }

private func unhex(_ text: String) -> [UInt8] {
    let digits = Array(text.utf8)
    return stride(from: 0, to: digits.count, by: 2).map {
        UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)!
    }
}

@Suite struct HashTests {
    @Test("SHA-256 gives the digests of FIPS 180-4's examples", arguments: [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
    ])
    func examples(message: String, expected: String) {
        #expect(SHA256.hash(bytes(message)).hexadecimal == expected)
    }

    @Test("A million a's, in pieces of 997 bytes")
    func pieces() {
        let whole = [UInt8](repeating: 0x61, count: 1_000_000)
        var hash = SHA256()
        var offset = 0
        while offset < whole.count {
            let end = min(offset + 997, whole.count)
            hash.update(whole.span.extracting(offset..<end))
            offset = end
        }
        #expect(hash.digest().hexadecimal == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
        #expect(hash.digest() == hash.digest(), "reading the digest does not change the hash")
    }

    @Test("HMAC-SHA-256 gives the codes of RFC 4231, cases 1, 2, 3, 6 and 7", arguments: [
        (
            [UInt8](repeating: 0x0b, count: 20), bytes("Hi There"),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        ),
        (
            bytes("Jefe"), bytes("what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        ),
        (
            [UInt8](repeating: 0xaa, count: 20), [UInt8](repeating: 0xdd, count: 50),
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"
        ),
        (
            [UInt8](repeating: 0xaa, count: 131), bytes("Test Using Larger Than Block-Size Key - Hash Key First"),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        ),
        (
            [UInt8](repeating: 0xaa, count: 131),
            bytes(
                "This is a test using a larger than block-size key and a larger than block-size data. "
                    + "The key needs to be hashed before being used by the HMAC algorithm."),
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"
        ),
    ])
    func codes(key: [UInt8], message: [UInt8], expected: String) {
        let code = HMACSHA256(key: key)
        #expect(code.authenticate(message).hexadecimal == expected)
        #expect(code.authenticate(message).hexadecimal == expected, "the key state is not spent")
        var running = code.begin()
        for byte in message { running.update([byte].span) }
        #expect(code.finish(running).hexadecimal == expected)
    }

    @Test("A digest goes into bytes and hexadecimal and back; what is no digest is refused")
    func forms() {
        let digest = SHA256.hash(bytes("abc"))
        var raw: [UInt8] = []
        digest.append(to: &raw)
        #expect(raw == unhex(digest.hexadecimal))
        #expect(read(raw) == digest)
        #expect(read(Array(raw.dropLast())) == nil)
        #expect(read(hexadecimal: digest.hexadecimal.uppercased()) == digest)
        #expect(read(hexadecimal: "g" + digest.hexadecimal.dropFirst()) == nil)
        #expect(read(hexadecimal: String(digest.hexadecimal.dropFirst())) == nil)
        #expect(Set([digest, digest, .zero]).count == 2)
        for bit in 0..<256 {
            var other = raw
            other[bit / 8] ^= 1 << UInt8(bit % 8)
            let changed = Digest256(other.span)!
            #expect(changed != digest)
            #expect(!Digest256.areEqualInConstantTime(changed, digest))
            #expect(!agree(other, raw))
        }
        #expect(Digest256.areEqualInConstantTime(digest, digest))
        #expect(agree(raw, raw))
        #expect(!agree(raw, Array(raw.dropLast())))
    }
}
