// Detached signatures: ECDSA over P-256 and SHA-256, in DER, as `openssl dgst -sha256 -sign` makes them. What is signed, and
// whose keys count, is for others to know.

import CMbedTLS

/// Why something cannot be signed, or a key not be used.
public enum SignatureError: Error {
    case publicKeyUnreadable
    case privateKeyUnreadable
    case keyUnsuitable
    case outOfMemory

    /// What is wrong with the key, and how one is made.
    public var message: StaticString {
        switch self {
        case .publicKeyUnreadable:
            "this is no public key in PEM; gatehouse help bundle says how one is made"
        case .privateKeyUnreadable:
            "this is no private key in PEM without a pass phrase; gatehouse help bundle says how one is made"
        case .keyUnsuitable: "the key must be one of the curve P-256 (prime256v1)"
        case .outOfMemory: "there is no memory for it"
        }
    }

    fileprivate init?(_ result: Int32, isPrivate: Bool) {
        switch Int(result) {
        case GATEHOUSE_SIGNATURE_DONE, GATEHOUSE_SIGNATURE_WRONG: return nil
        case GATEHOUSE_SIGNATURE_KEY_UNREADABLE: self = isPrivate ? .privateKeyUnreadable : .publicKeyUnreadable
        case GATEHOUSE_SIGNATURE_KEY_UNSUITABLE: self = .keyUnsuitable
        default: self = .outOfMemory
        }
    }
}

/// Public keys, any of which may have signed: with the next one beside the present, keys are changed without a gap.
public struct VerificationKeys {
    // PEM, with a zero byte at the end.
    private var text: [UInt8]

    /// Reads PEM text of one key or several; what stands around them is ignored.
    public init(_ pem: [UInt8]) throws(SignatureError) {
        text = pem
        text.append(0)
        if let error = SignatureError(verify(nil, []), isPrivate: false) { throw error }
    }

    /// Whether one of the keys has signed these bytes.
    public func haveSigned(_ bytes: Span<UInt8>, _ signature: [UInt8]) -> Bool {
        Int(verify(SHA256.hash(bytes), signature)) == GATEHOUSE_SIGNATURE_DONE
    }

    private func verify(_ digest: Digest256?, _ signature: [UInt8]) -> Int32 {
        // Holds because mbedTLS reads the three regions during the call only.
        text.withUnsafeBytes { key in
            signature.withUnsafeBytes { signature in
                guard let digest else { return gatehouse_signature_verify(key.baseAddress, key.count, nil, nil, 0) }
                return withUnsafeBytes(of: digest) {
                    gatehouse_signature_verify(
                        key.baseAddress, key.count, $0.baseAddress, signature.baseAddress, signature.count)
                }
            }
        }
    }
}

/// Signs bytes.
/// - Parameter key: PEM of a private key, "EC PRIVATE KEY" or "PRIVATE KEY". It is wiped as far as it lies here.
/// - Returns: DER, at most 72 bytes; the same each time (RFC 6979).
public func sign(_ bytes: Span<UInt8>, key: [UInt8]) throws(SignatureError) -> [UInt8] {
    let digest = SHA256.hash(bytes)
    var key = key + [0]
    var signature = [UInt8](repeating: 0, count: Int(GATEHOUSE_SIGNATURE_CAPACITY))
    var count = 0
    // Holds because mbedTLS uses the three regions during the call only, and writes no more than the capacity.
    let result = key.withUnsafeBytes { key in
        signature.withUnsafeMutableBytes { signature in
            withUnsafeBytes(of: digest) {
                gatehouse_signature_make(key.baseAddress, key.count, $0.baseAddress, signature.baseAddress, &count)
            }
        }
    }
    key.withUnsafeMutableBytes { gatehouse_wipe($0.baseAddress, $0.count) }
    if let error = SignatureError(result, isPrivate: true) { throw error }
    signature.removeLast(signature.count - count)
    return signature
}
