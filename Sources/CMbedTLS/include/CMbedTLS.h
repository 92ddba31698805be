// What Swift needs of mbedTLS, in words of our own: mbedTLS 2.28 and 3.6 differ in names, structure members and
// callbacks, and none of that is seen above this header (it includes no header of theirs).
#ifndef CMBEDTLS_H
#define CMBEDTLS_H
#include <stddef.h>
#include <stdint.h>

#include "Signature.h"

// --- SHA-256 (FIPS 180-4) -------------------------------------------------------------------------------------------

// A running hash, by value: mbedTLS's own context lies in it. Trivially copyable; holds no pointer.
typedef struct { uint64_t words[14]; } gatehouse_sha256_state;

void gatehouse_sha256_start(gatehouse_sha256_state *state);
void gatehouse_sha256_update(gatehouse_sha256_state *state, const void *bytes, size_t count);
// Writes the digest's 32 bytes; the state is spent.
void gatehouse_sha256_finish(gatehouse_sha256_state *state, void *digest);

// Compares without a branch that depends on the bytes: 1 when all are equal.
int gatehouse_equal_in_constant_time(const void *left, const void *right, size_t count);
// Overwrites with zeros in a way that the optimiser may not leave out.
void gatehouse_wipe(void *bytes, size_t count);

// --- TLS 1.2 (RFC 5246) over a non-blocking socket -------------------------------------------------------------------
//
// A session belongs to one thread at a time. A server (certificate, key, ticket keys) is shared by the sessions of any
// number of threads: what of it changes, mbedTLS locks.

typedef struct gatehouse_tls_server gatehouse_tls_server;
typedef struct gatehouse_tls_session gatehouse_tls_session;
// What a client keeps of a finished handshake in order to shorten the next one (RFC 5077 tickets or session identifiers).
typedef struct gatehouse_tls_resumption gatehouse_tls_resumption;

// Why something failed. (Enumerations here have no name, as a named one's size depends on the ABI.)
enum {
    GATEHOUSE_TLS_NONE = 0,
    // The peer's certificate
    GATEHOUSE_TLS_EXPIRED,
    GATEHOUSE_TLS_NOT_YET_VALID,
    GATEHOUSE_TLS_WRONG_NAME,
    GATEHOUSE_TLS_UNKNOWN_ISSUER,
    GATEHOUSE_TLS_ISSUER_IS_NO_AUTHORITY,
    GATEHOUSE_TLS_REVOKED,
    GATEHOUSE_TLS_WRONG_USAGE,
    GATEHOUSE_TLS_WEAK,
    GATEHOUSE_TLS_MALFORMED_CERTIFICATE,
    GATEHOUSE_TLS_NO_CERTIFICATE,
    GATEHOUSE_TLS_NOT_VERIFIED,
    GATEHOUSE_TLS_NOT_PINNED,
    GATEHOUSE_TLS_LIST_EXPIRED,
    GATEHOUSE_TLS_LIST_NOT_TRUSTED,
    // The handshake and the connection
    GATEHOUSE_TLS_PROTOCOL_VERSION,
    GATEHOUSE_TLS_NO_COMMON_SUITE,
    GATEHOUSE_TLS_PEER_ALERT,
    GATEHOUSE_TLS_TRUNCATED,
    GATEHOUSE_TLS_CONNECTION_LOST,
    GATEHOUSE_TLS_NOT_TLS,
    GATEHOUSE_TLS_TAMPERED,
    GATEHOUSE_TLS_PROTOCOL,
    GATEHOUSE_TLS_RENEGOTIATION,
    GATEHOUSE_TLS_CERTIFICATE_WANTED, // and there is none
    // Here
    GATEHOUSE_TLS_TRUST_UNREADABLE,
    GATEHOUSE_TLS_LIST_UNREADABLE,
    GATEHOUSE_TLS_CERTIFICATE_UNREADABLE,
    GATEHOUSE_TLS_KEY_UNREADABLE,
    GATEHOUSE_TLS_KEY_MISMATCH,
    GATEHOUSE_TLS_HOST_INVALID,
    GATEHOUSE_TLS_OUT_OF_MEMORY,
    GATEHOUSE_TLS_INTERNAL,
};

typedef struct {
    int reason;     // one of GATEHOUSE_TLS_EXPIRED and so on
    int alert;      // the peer's alert number (RFC 5246 section 7.2) with PEER_ALERT, else -1
    int system;     // errno with CONNECTION_LOST and *_UNREADABLE, else 0
    int detail;     // mbedTLS's own code, for a bug report
} gatehouse_tls_failure;

// PEM text: in a file (path) or in memory (bytes, count; need not end in a zero byte). All null: none.
typedef struct {
    const char *path;
    const void *bytes;
    size_t count;
} gatehouse_pem;

// Results below zero of the calls on a session; zero or more is a count, or done.
enum {
    GATEHOUSE_TLS_WANT_READ = -1,
    GATEHOUSE_TLS_WANT_WRITE = -2,
    GATEHOUSE_TLS_CLOSED = -3,      // the peer said that it is done (close_notify)
    GATEHOUSE_TLS_FAILED = -4,      // gatehouse_tls_last_failure says why; the session is dead
    GATEHOUSE_TLS_NEEDS_TRUST = -5, // a full handshake begins: call gatehouse_tls_trust, then handshake again
};

// Null on failure, with *failure filled. client_authorities.path and .bytes null: no client certificate is asked for;
// else one is required. revoked: lists of those that are not taken any more (RFC 5280 section 5), or none. earliest:
// seconds since 1970; where the clock shows less, clients' certificates are held against this.
gatehouse_tls_server *gatehouse_tls_server_new(gatehouse_pem chain, gatehouse_pem key, gatehouse_pem client_authorities,
                                               gatehouse_pem revoked, int64_t earliest, gatehouse_tls_failure *failure);
void gatehouse_tls_server_free(gatehouse_tls_server *server);
// Whether its certificate, and each that it sends along, is valid until then, seconds since 1970.
int gatehouse_tls_server_lasts(const gatehouse_tls_server *server, int64_t until);

// The session uses the descriptor but does not own it. The server must outlive the session.
gatehouse_tls_session *gatehouse_tls_accept(gatehouse_tls_server *server, int descriptor, gatehouse_tls_failure *failure);
// host: a DNS name or an IP address in text, without brackets; it is what the certificate must be for. chain and key:
// the client's own certificate, or none. pins: SHA-256 of public keys (SubjectPublicKeyInfo), 32 bytes each, at most
// GATEHOUSE_TLS_PINS; when there are any, the chain must have one of these keys. now: seconds since 1970, against which
// certificates are held. resumption: may be null; ignored when it is for another host or too old.
enum { GATEHOUSE_TLS_PINS = 8 };
gatehouse_tls_session *gatehouse_tls_connect(const char *host, int descriptor, gatehouse_pem chain, gatehouse_pem key,
                                             const void *pins, size_t pin_count, int64_t now,
                                             const gatehouse_tls_resumption *resumption, gatehouse_tls_failure *failure);
void gatehouse_tls_session_free(gatehouse_tls_session *session);

// When this was compiled, seconds since 1970: no clock that shows less is right.
int64_t gatehouse_tls_built_at(void);
// The file of authorities that this system keeps, of static storage; null when there is none in the usual places.
const char *gatehouse_tls_system_authorities(void);
// Loads the authorities that this handshake trusts. is_partial_allowed: certificates that this mbedTLS cannot read are
// skipped (a system bundle), as long as there is one that it can. revoked: lists of certificates that their issuers have
// revoked, at most 1 MiB, or none; a list that is out of date or not signed by the issuer fails the handshake. 0 or FAILED.
int gatehouse_tls_trust(gatehouse_tls_session *session, gatehouse_pem authorities, int is_partial_allowed,
                        gatehouse_pem revoked);
int gatehouse_tls_handshake(gatehouse_tls_session *session);
int gatehouse_tls_read(gatehouse_tls_session *session, void *bytes, size_t count);
// After WANT_*, call again with the same bytes.
int gatehouse_tls_write(gatehouse_tls_session *session, const void *bytes, size_t count);
int gatehouse_tls_close(gatehouse_tls_session *session);
gatehouse_tls_failure gatehouse_tls_last_failure(const gatehouse_tls_session *session);

// How many decrypted bytes wait in the session: a poller does not see them.
size_t gatehouse_tls_pending(const gatehouse_tls_session *session);
int gatehouse_tls_was_resumed(const gatehouse_tls_session *session);
// The name of the suite, of static storage.
const char *gatehouse_tls_suite(const gatehouse_tls_session *session);
// SHA-256 of the peer's certificate (DER) into 32 bytes; 0 when it has none.
int gatehouse_tls_peer_fingerprint(const gatehouse_tls_session *session, void *digest);

// Null when the session cannot be resumed.
gatehouse_tls_resumption *gatehouse_tls_resumption_new(const gatehouse_tls_session *session);
void gatehouse_tls_resumption_free(gatehouse_tls_resumption *resumption);

#endif
