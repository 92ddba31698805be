// What can go wrong with TLS, in words for the person who has to put it right. Needs to know nothing of mbedTLS but the
// numbers in CMbedTLS.h.

import CMbedTLS
import Platform

/// Why a TLS session, or the configuration of one, failed.
public struct TLSError: Error {
    /// What was found. The names are stable: metrics and tests go by them.
    public enum Reason: Equatable {
        // The peer's certificate
        case certificateExpired
        case certificateNotYetValid
        case certificateForOtherHost
        case certificateIssuerUnknown
        case certificateIssuerIsNoAuthority
        case certificateRevoked
        case certificateForOtherUse
        case certificateWeak
        case certificateMalformed
        case certificateMissing
        case certificateNotVerified
        case certificateNotPinned
        case revocationsOutOfDate
        case revocationsNotTrusted
        // The handshake and the connection
        case protocolVersion
        case noCommonSuite
        case peerRefused
        case truncated
        case connectionLost
        case notTLS
        case tampered
        case protocolViolation
        case renegotiation
        case certificateWanted
        // Here
        case authoritiesUnreadable
        case revocationsUnreadable
        case ownCertificateUnreadable
        case ownKeyUnreadable
        case ownKeyMismatch
        case hostInvalid
        case outOfMemory
        case internalError
    }

    public let reason: Reason
    /// With `.peerRefused`: the peer's alert (RFC 5246 section 7.2); else -1.
    public let alert: Int32
    /// With `.connectionLost` and what is unreadable: `errno`, 0 when there is none.
    public let systemError: Int32
    /// mbedTLS's own code, for a bug report.
    public let detail: Int32
    /// Whom the session was with, or the file that was read: a host, a path, "" when unknown.
    public let subject: String

    init(_ failure: gatehouse_tls_failure, subject: String) {
        reason = TLSError.reason(Int(failure.reason))
        alert = failure.alert
        systemError = failure.system
        detail = failure.detail
        self.subject = subject
    }

    init(_ reason: Reason, subject: String) {
        self.reason = reason
        alert = -1
        systemError = 0
        detail = 0
        self.subject = subject
    }

    /// Whether the peer's certificate was refused: trying again at once cannot help, a person has to act.
    public var isAboutCertificate: Bool {
        switch reason {
        case .certificateExpired, .certificateNotYetValid, .certificateForOtherHost, .certificateIssuerUnknown,
            .certificateIssuerIsNoAuthority, .certificateRevoked, .certificateForOtherUse, .certificateWeak,
            .certificateMalformed, .certificateMissing, .certificateNotVerified, .certificateNotPinned,
            .revocationsOutOfDate, .revocationsNotTrusted, .certificateWanted:
            return true
        default: return false
        }
    }

    /// One sentence: which check failed, and what to do. Contains no secret and no personal data.
    public var message: String {
        @inline(never) get {
            let (before, after) = words
            guard let after else { return joined(before, ending) }
            return joined(before, subject == "" ? nameOfNobody : subject, after, ending)
        }
    }

    /// What stands for the subject where that is unknown.
    private var nameOfNobody: String {
        switch reason {
        case .hostInvalid: return ""
        case .revocationsUnreadable, .authoritiesUnreadable, .ownCertificateUnreadable, .ownKeyUnreadable, .ownKeyMismatch:
            return "the text that was given"
        default: return "the peer"
        }
    }

    /// What comes behind the words.
    private var ending: String {
        switch reason {
        case .peerRefused: return TLSError.alertName(alert)
        case .connectionLost: return joined(String(Int(systemError)), ")")
        case .protocolViolation, .internalError: return joined(String(Int(detail)), ")")
        default: return systemError == 0 ? "" : joined(" (errno ", String(Int(systemError)), ")")
        }
    }

    /// What stands before the subject and behind it; nil: there is none.
    private var words: (String, String?) {
        switch reason {
        case .certificateExpired:
            return ("the certificate of ", ", or of one of its issuers, has expired: renew it, or set this device's clock")
        case .certificateNotYetValid:
            return ("the certificate of ", " is not valid yet: set this device's clock")
        case .certificateForOtherHost:
            return ("the certificate is not for host ", ": its subjectAltName must list that name or address")
        case .certificateIssuerUnknown:
            return (
                "the certificate of ",
                """
                 is not signed by an authority that is trusted here: give the right file as tls.ca, and let the server \
                send its whole chain
                """
            )
        case .certificateIssuerIsNoAuthority:
            return ("an issuer in the certificate chain of ", " is not allowed to issue it (CA bit, path length)")
        case .certificateRevoked:
            return ("the certificate of ", ", or of one of its issuers, has been revoked: a new one is needed there")
        case .certificateForOtherUse:
            return ("the certificate of ", " is not for this use: check its keyUsage and extendedKeyUsage")
        case .certificateWeak:
            return ("the certificate chain of ", " is too weak: SHA-256 or better, RSA from 2048 bits or P-256/384/521")
        case .certificateMalformed: return ("the certificate chain of ", " cannot be read")
        case .certificateMissing: return ("", " sent no certificate, and one is required")
        case .certificateNotPinned:
            return ("", " shows none of the public keys in pins: if its key was changed on purpose, add the new one")
        case .revocationsOutOfDate:
            return ("the list of revoked certificates for the issuer of ", " is out of date: renew the file tls.crl")
        case .revocationsNotTrusted:
            return ("the list of revoked certificates in tls.crl is not signed as it must be by the issuer of ", "")
        case .certificateNotVerified: return ("the certificate of ", " could not be verified")
        case .protocolVersion: return ("", " does not speak TLS 1.2")
        case .noCommonSuite:
            return ("no cipher suite in common with ", ": TLS 1.2 with ECDHE and AES-GCM or ChaCha20-Poly1305 is needed")
        case .peerRefused: return ("", " refused the connection: ")
        case .truncated: return ("", " ended the connection without saying so (truncated)")
        case .connectionLost: return ("the connection to ", " was lost (errno ")
        case .notTLS: return ("", " does not answer with TLS: check the port")
        case .tampered: return ("a record from ", " was damaged or forged on its way")
        case .protocolViolation: return ("", " broke the TLS protocol (mbedTLS ")
        case .renegotiation: return ("", " asked to negotiate TLS anew within a connection, which is refused")
        case .certificateWanted:
            return ("", " asks for a certificate of this device: give tls.client_cert and tls.client_key")
        case .revocationsUnreadable:
            return ("no list of revoked certificates can be read from ", ": PEM or DER, at most 1 MiB")
        case .authoritiesUnreadable:
            return ("no authorities can be read from ", ": it must be a PEM file of certificates")
        case .ownCertificateUnreadable:
            return ("no certificate can be read from ", ": it must be a PEM file, own certificate first")
        case .ownKeyUnreadable:
            return ("no private key can be read from ", ": it must be a PEM file without a pass phrase")
        case .ownKeyMismatch: return ("the certificate in ", " does not belong to the private key given with it")
        case .hostInvalid: return ("\"", "\" is no host name or address")
        case .outOfMemory: return ("no memory for a TLS session (about 40 KB)", nil)
        case .internalError: return ("TLS failed inside (mbedTLS ", nil)
        }
    }

    /// The alert in words (RFC 5246 section 7.2, RFC 6066 section 9).
    private static func alertName(_ alert: Int32) -> String {
        switch alert {
        case 40:
            return "no cipher suite in common (TLS 1.2 with ECDHE and AES-GCM or ChaCha20-Poly1305 is needed), "
                + "or it wants another certificate of ours (handshake_failure)"
        case 42: return "it found our certificate bad (bad_certificate)"
        case 43: return "it does not support our certificate (unsupported_certificate)"
        case 44: return "our certificate is revoked (certificate_revoked)"
        case 45: return "our certificate has expired (certificate_expired)"
        case 46: return "it does not accept our certificate (certificate_unknown)"
        case 48: return "it does not know the issuer of our certificate (unknown_ca)"
        case 49: return "access denied"
        case 70: return "it does not speak TLS 1.2 (protocol_version)"
        case 71: return "it wants stronger security (insufficient_security)"
        case 80: return "internal error at its side"
        case 112: return "it does not serve this name (unrecognized_name)"
        default: return joined("alert ", String(Int(alert)))
        }
    }

    private static func reason(_ number: Int) -> Reason {
        switch number {
        case GATEHOUSE_TLS_EXPIRED: return .certificateExpired
        case GATEHOUSE_TLS_NOT_YET_VALID: return .certificateNotYetValid
        case GATEHOUSE_TLS_WRONG_NAME: return .certificateForOtherHost
        case GATEHOUSE_TLS_UNKNOWN_ISSUER: return .certificateIssuerUnknown
        case GATEHOUSE_TLS_ISSUER_IS_NO_AUTHORITY: return .certificateIssuerIsNoAuthority
        case GATEHOUSE_TLS_REVOKED: return .certificateRevoked
        case GATEHOUSE_TLS_WRONG_USAGE: return .certificateForOtherUse
        case GATEHOUSE_TLS_WEAK: return .certificateWeak
        case GATEHOUSE_TLS_MALFORMED_CERTIFICATE: return .certificateMalformed
        case GATEHOUSE_TLS_NO_CERTIFICATE: return .certificateMissing
        case GATEHOUSE_TLS_NOT_VERIFIED: return .certificateNotVerified
        case GATEHOUSE_TLS_NOT_PINNED: return .certificateNotPinned
        case GATEHOUSE_TLS_LIST_EXPIRED: return .revocationsOutOfDate
        case GATEHOUSE_TLS_LIST_NOT_TRUSTED: return .revocationsNotTrusted
        case GATEHOUSE_TLS_PROTOCOL_VERSION: return .protocolVersion
        case GATEHOUSE_TLS_NO_COMMON_SUITE: return .noCommonSuite
        case GATEHOUSE_TLS_PEER_ALERT: return .peerRefused
        case GATEHOUSE_TLS_TRUNCATED: return .truncated
        case GATEHOUSE_TLS_CONNECTION_LOST: return .connectionLost
        case GATEHOUSE_TLS_NOT_TLS: return .notTLS
        case GATEHOUSE_TLS_TAMPERED: return .tampered
        case GATEHOUSE_TLS_PROTOCOL: return .protocolViolation
        case GATEHOUSE_TLS_RENEGOTIATION: return .renegotiation
        case GATEHOUSE_TLS_CERTIFICATE_WANTED: return .certificateWanted
        case GATEHOUSE_TLS_TRUST_UNREADABLE: return .authoritiesUnreadable
        case GATEHOUSE_TLS_LIST_UNREADABLE: return .revocationsUnreadable
        case GATEHOUSE_TLS_CERTIFICATE_UNREADABLE: return .ownCertificateUnreadable
        case GATEHOUSE_TLS_KEY_UNREADABLE: return .ownKeyUnreadable
        case GATEHOUSE_TLS_KEY_MISMATCH: return .ownKeyMismatch
        case GATEHOUSE_TLS_HOST_INVALID: return .hostInvalid
        case GATEHOUSE_TLS_OUT_OF_MEMORY: return .outOfMemory
        default: return .internalError
        }
    }
}

/// The same bytes. What Swift itself compares by knows that letters can be written in several ways, which nothing here depends on,
/// and brings 40 KB of tables.
extension String {
    static func == (left: String, right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }
    static func != (left: String, right: String) -> Bool { !left.utf8.elementsEqual(right.utf8) }
    static func ~= (pattern: String, value: String) -> Bool { pattern.utf8.elementsEqual(value.utf8) }
}
