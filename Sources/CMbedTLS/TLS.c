// TLS sessions over mbedTLS 2.28 (Debian 12) or 3.6 (Debian 13): all that the two say differently, the callbacks, and
// the policy, which no caller can weaken. Swift sees only CMbedTLS.h.
//
// Policy: TLS 1.2; ephemeral ECDH with AES-GCM or ChaCha20-Poly1305; SHA-256 or better; RSA from 2048 bits; no
// renegotiation; a client always verifies chain, validity, usage, name and pins, and what mbedTLS leaves open is closed in
// verify_certificate below.
#include "CMbedTLS.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <mbedtls/version.h>
#define IS_MBEDTLS_3 (MBEDTLS_VERSION_NUMBER >= 0x03000000)
#if IS_MBEDTLS_3
#include <mbedtls/build_info.h>
#include <psa/crypto.h>
#else
#define MBEDTLS_PRIVATE(member) member
#endif
#include <mbedtls/bignum.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/pem.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/sha256.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/x509_crl.h>
#include <mbedtls/x509_crt.h>

#ifndef MBEDTLS_THREADING_C
#error "A server is shared by threads: build mbedTLS with MBEDTLS_THREADING_C (Debian's is)."
#endif

// mbedTLS's structures hold enumerations: they must have the size that they had where the library was built.
_Static_assert(sizeof(mbedtls_md_type_t) == sizeof(int), "this ABI has short enumerations: compile with -fno-short-enums");

// Six hours: a device that reconnects through a shift does one full handshake in it, and a certificate that was withdrawn
// is noticed the same day.
#define RESUMPTION_SECONDS (6 * 60 * 60)
#define HOST_CAPACITY 256 // RFC 1035: 253 characters and a dot; one zero byte
// A list of revoked certificates takes up to four times its size in memory while it is held: 4 MiB, for some 20,000.
#define REVOCATION_LIST_BYTES (1 << 20)

// What a certificate is held against besides its issuers.
struct judgement {
    mbedtls_x509_crl revoked;
    int64_t now; // seconds since 1970: of a client's handshake the time; of a server the least that it can be
    int is_server;
};

struct gatehouse_tls_server {
    struct judgement judgement; // first: verify_certificate gets its address
    mbedtls_ssl_config config;
    mbedtls_x509_crt chain;
    mbedtls_x509_crt client_authorities;
    mbedtls_pk_context key;
    mbedtls_ssl_ticket_context tickets;
};

// What only a client has.
struct client_part {
    struct judgement judgement; // first: verify_certificate gets its address. Its list is held as long as trust
    mbedtls_ssl_config config;
    mbedtls_x509_crt trust; // held while a full handshake lasts, and no longer: the system's bundle is 450 KB
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
    int has_trust;
    int is_pinned; // a key of the chain is one of pins
    size_t pin_count;
    unsigned char pins[GATEHOUSE_TLS_PINS][32];
    int64_t verified_at; // when the peer's certificate was last seen and checked, through resumptions
    unsigned char address[16];
    size_t address_count; // 0: the host is a name
    char host[HOST_CAPACITY];
};

struct gatehouse_tls_session {
    mbedtls_ssl_context ssl;
    struct client_part *client; // null: a server's session
    int descriptor;
    int system_error;
    int is_established;
    int is_full; // the handshake was not a resumed one
    int is_reading; // as a client, after the handshake
    int step; // of the handshake that is under way
    int is_asked; // for a certificate, as a client
    gatehouse_tls_failure failure; // reason not NONE: the session is dead
};

struct gatehouse_tls_resumption {
    mbedtls_ssl_session session;
    int64_t verified_at;
    char host[HOST_CAPACITY];
};

// --- Policy ---------------------------------------------------------------------------------------------------------

// AES where the processor has instructions for it; elsewhere ChaCha20 is faster and has no tables to leak by.
#if defined(__x86_64__)
#define AES_FIRST 1
#else
#define AES_FIRST 0
#endif
static const int suites[] = {
#if !AES_FIRST
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
#endif
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
#if AES_FIRST
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
#endif
    0,
};

#if IS_MBEDTLS_3
static const uint16_t groups[] = {
    MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1, MBEDTLS_SSL_IANA_TLS_GROUP_X25519, MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1,
    MBEDTLS_SSL_IANA_TLS_GROUP_SECP521R1, MBEDTLS_SSL_IANA_TLS_GROUP_NONE,
};
static const uint16_t signatures[] = {
    MBEDTLS_TLS1_3_SIG_ECDSA_SECP256R1_SHA256, MBEDTLS_TLS1_3_SIG_ECDSA_SECP384R1_SHA384,
    MBEDTLS_TLS1_3_SIG_ECDSA_SECP521R1_SHA512, MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA256,
    MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA384, MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA512, MBEDTLS_TLS1_3_SIG_NONE,
};
#else
static const mbedtls_ecp_group_id groups[] = {
    MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP384R1, MBEDTLS_ECP_DP_SECP521R1,
    MBEDTLS_ECP_DP_NONE,
};
static const int signatures[] = {MBEDTLS_MD_SHA256, MBEDTLS_MD_SHA384, MBEDTLS_MD_SHA512, MBEDTLS_MD_NONE};
#endif

static const mbedtls_x509_crt_profile certificate_profile = {
    MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA256) | MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA384) |
        MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA512),
    MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_RSA) | MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_RSASSA_PSS) |
        MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECKEY) | MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECDSA),
    MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP256R1) | MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP384R1) |
        MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP521R1),
    2048,
};

// The kernel's generator itself: one system call of under a microsecond, no state to seed, to lock or to be copied by a
// fork or a snapshot. Blocks only before the kernel has been seeded at boot.
static int random_bytes(void *context, unsigned char *bytes, size_t count) {
    (void)context;
    while (count > 0) {
        ssize_t written = getrandom(bytes, count, 0);
        if (written < 0) {
            if (errno == EINTR) continue;
            return MBEDTLS_ERR_SSL_NO_RNG;
        }
        bytes += written;
        count -= (size_t)written;
    }
    return 0;
}

static int set_policy(mbedtls_ssl_config *config, int endpoint) {
#if IS_MBEDTLS_3
    if (psa_crypto_init() != PSA_SUCCESS) return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
#endif
    int result = mbedtls_ssl_config_defaults(config, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (result != 0) return result;
    mbedtls_ssl_conf_rng(config, random_bytes, NULL);
    mbedtls_ssl_conf_ciphersuites(config, suites);
    mbedtls_ssl_conf_cert_profile(config, &certificate_profile);
#if IS_MBEDTLS_3
    // 1.3 is left out on purpose: what is tested on the devices' 2.28 and what runs here should be the same protocol.
    mbedtls_ssl_conf_min_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_max_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_groups(config, groups);
    mbedtls_ssl_conf_sig_algs(config, signatures);
#else
    mbedtls_ssl_conf_min_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_curves(config, groups);
    mbedtls_ssl_conf_sig_hashes(config, signatures);
#endif
#ifdef MBEDTLS_SSL_RENEGOTIATION
    mbedtls_ssl_conf_renegotiation(config, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
    // A client refuses a server without RFC 5746, as it cannot know whether that one renegotiates with somebody else.
    mbedtls_ssl_conf_legacy_renegotiation(config, endpoint == MBEDTLS_SSL_IS_CLIENT ? MBEDTLS_SSL_LEGACY_BREAK_HANDSHAKE
                                                                                    : MBEDTLS_SSL_LEGACY_NO_RENEGOTIATION);
    return 0;
}

// --- The peer's certificate -----------------------------------------------------------------------------------------

static unsigned char lower_case(unsigned char byte) { return byte >= 'A' && byte <= 'Z' ? byte + 32 : byte; }

static int is_same_text(const unsigned char *name, const char *host, size_t count) {
    for (size_t index = 0; index < count; index++)
        if (lower_case(name[index]) != lower_case((unsigned char)host[index])) return 0;
    return 1;
}

// RFC 9525 section 6.3: the whole name, or "*" as the whole left-most label, which stands for exactly one label.
static int is_name_for_host(const unsigned char *name, size_t count, const char *host) {
    size_t host_count = strlen(host);
    if (count == host_count && is_same_text(name, host, count)) return 1;
    if (count < 3 || name[0] != '*' || name[1] != '.') return 0;
    const char *dot = strchr(host, '.');
    if (dot == NULL || dot == host) return 0;
    size_t rest = host_count - (size_t)(dot - host);
    return rest == count - 1 && memchr(dot + 1, '.', rest - 1) != NULL && is_same_text(name + 1, dot, rest);
}

// Against the subject's alternative names alone (RFC 9525 section 6.2: the common name is no host name). mbedTLS 2.28
// knows DNS names there and falls back to the common name; addresses it keeps unread in the same list.
static int is_certificate_for_host(const mbedtls_x509_crt *certificate, const struct client_part *client) {
    for (const mbedtls_x509_sequence *entry = &certificate->subject_alt_names; entry != NULL; entry = entry->next) {
        if (entry->buf.p == NULL) continue;
        switch (entry->buf.tag & 0x1f) { // RFC 5280 section 4.2.1.6, GeneralName
        case 2:
            if (client->address_count == 0 && is_name_for_host(entry->buf.p, entry->buf.len, client->host)) return 1;
            break;
        case 7:
            if (client->address_count != 0 && entry->buf.len == client->address_count &&
                memcmp(entry->buf.p, client->address, client->address_count) == 0)
                return 1;
            break;
        }
    }
    return 0;
}

// A time of a certificate, or a moment, as a number that is larger the later it is.
static int64_t order_of(const mbedtls_x509_time *time) {
    int64_t days = ((int64_t)time->year * 12 + time->mon) * 31 + time->day;
    return ((days * 24 + time->hour) * 60 + time->min) * 60 + time->sec;
}
static int64_t order_of_moment(int64_t seconds) {
    time_t moment = (time_t)seconds;
    struct tm parts;
    if (gmtime_r(&moment, &parts) == NULL) return 0;
    mbedtls_x509_time time = {parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                              parts.tm_hour,        parts.tm_min,     parts.tm_sec};
    return order_of(&time);
}

static int is_same(const mbedtls_x509_buf *left, const mbedtls_x509_buf *right) {
    return left->len == right->len && memcmp(left->p, right->p, left->len) == 0;
}

// Whether a certificate may issue one that has so many below it. mbedTLS takes a trusted version 1 certificate for an
// authority, and counts path lengths its own way. Here each issuer must say that it is one (RFC 5280 section 6.1.4 k) and
// for how many below it (m; stored plus one).
static int may_issue(const mbedtls_x509_crt *issuer, int below) {
    int path_limit = issuer->MBEDTLS_PRIVATE(max_pathlen);
    return issuer->version >= 3 && issuer->MBEDTLS_PRIVATE(ca_istrue) && !(path_limit > 0 && path_limit <= below) &&
           mbedtls_x509_crt_check_key_usage(issuer, MBEDTLS_X509_KU_KEY_CERT_SIGN) == 0;
}

// mbedTLS holds the times of certificates and lists against the device's clock. Here they are held against a moment that
// may be later: such a clock begins in 1970 again.
static void judge_times(const struct judgement *judgement, const mbedtls_x509_crt *certificate, uint32_t *flags) {
    int64_t clock = time(NULL);
    int64_t now = order_of_moment(judgement->is_server && clock > judgement->now ? clock : judgement->now);
    // A list from the future is one that a slow clock has not come to: what it revokes is revoked.
    *flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE | MBEDTLS_X509_BADCRL_EXPIRED |
                          MBEDTLS_X509_BADCRL_FUTURE);
    if (order_of(&certificate->valid_to) < now) *flags |= MBEDTLS_X509_BADCERT_EXPIRED;
    if (order_of(&certificate->valid_from) > now) *flags |= MBEDTLS_X509_BADCERT_FUTURE;
    for (const mbedtls_x509_crl *list = &judgement->revoked; list != NULL && list->version != 0; list = list->next)
        if (is_same(&list->issuer_raw, &certificate->issuer_raw) && order_of(&list->next_update) < now)
            *flags |= MBEDTLS_X509_BADCRL_EXPIRED;
}

static void note_pin(struct client_part *client, const mbedtls_x509_crt *certificate) {
    unsigned char digest[32];
    gatehouse_sha256_state state;
    gatehouse_sha256_start(&state);
    gatehouse_sha256_update(&state, certificate->pk_raw.p, certificate->pk_raw.len);
    gatehouse_sha256_finish(&state, digest);
    for (size_t index = 0; index < client->pin_count; index++)
        if (memcmp(client->pins[index], digest, sizeof digest) == 0) client->is_pinned = 1;
}

// A flag of our own: mbedTLS's end at bit 19.
#define BADCERT_NOT_PINNED 0x40000000

// Called for each certificate of the chain, the peer's own (depth 0) last. context: a client part's or a server's judgement.
static int verify_certificate(void *context, mbedtls_x509_crt *certificate, int depth, uint32_t *flags) {
    const struct judgement *judgement = context;
    judge_times(judgement, certificate, flags);
    if (depth > 0 && !may_issue(certificate, depth - 1)) *flags |= MBEDTLS_X509_BADCERT_OTHER;
    // The chain ends here for mbedTLS. Was there an issuer that is none?
    if (*flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED && !is_same(&certificate->subject_raw, &certificate->issuer_raw))
        for (const mbedtls_x509_crt *issuer = certificate->next; issuer != NULL; issuer = issuer->next)
            if (is_same(&issuer->subject_raw, &certificate->issuer_raw) && !may_issue(issuer, depth))
                *flags |= MBEDTLS_X509_BADCERT_OTHER;
    if (judgement->is_server) return 0;
    struct client_part *client = context;
    note_pin(client, certificate);
    if (depth > 0) return 0;
    if (!is_certificate_for_host(certificate, client)) *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
    if (client->pin_count > 0 && !client->is_pinned) *flags |= BADCERT_NOT_PINNED;
    return 0;
}

// The flag that a person should hear of first.
static int reason_of_flags(uint32_t flags) {
    if (flags == (uint32_t)-1) return GATEHOUSE_TLS_NOT_VERIFIED;
    if (flags & MBEDTLS_X509_BADCERT_MISSING) return GATEHOUSE_TLS_NO_CERTIFICATE;
    if (flags & MBEDTLS_X509_BADCERT_REVOKED) return GATEHOUSE_TLS_REVOKED;
    if (flags & MBEDTLS_X509_BADCERT_OTHER) return GATEHOUSE_TLS_ISSUER_IS_NO_AUTHORITY;
    if (flags & (MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_BAD_PK | MBEDTLS_X509_BADCERT_BAD_KEY))
        return GATEHOUSE_TLS_WEAK;
    if (flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) return GATEHOUSE_TLS_UNKNOWN_ISSUER;
    if (flags & MBEDTLS_X509_BADCERT_EXPIRED) return GATEHOUSE_TLS_EXPIRED;
    if (flags & MBEDTLS_X509_BADCERT_FUTURE) return GATEHOUSE_TLS_NOT_YET_VALID;
    if (flags & (MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE | MBEDTLS_X509_BADCERT_NS_CERT_TYPE))
        return GATEHOUSE_TLS_WRONG_USAGE;
    if (flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) return GATEHOUSE_TLS_WRONG_NAME;
    if (flags & (MBEDTLS_X509_BADCRL_NOT_TRUSTED | MBEDTLS_X509_BADCRL_BAD_MD | MBEDTLS_X509_BADCRL_BAD_PK |
                 MBEDTLS_X509_BADCRL_BAD_KEY))
        return GATEHOUSE_TLS_LIST_NOT_TRUSTED;
    if (flags & MBEDTLS_X509_BADCRL_EXPIRED) return GATEHOUSE_TLS_LIST_EXPIRED;
    if (flags & BADCERT_NOT_PINNED) return GATEHOUSE_TLS_NOT_PINNED;
    return GATEHOUSE_TLS_NOT_VERIFIED;
}

// --- Certificates and keys from outside -----------------------------------------------------------------------------

static gatehouse_tls_failure failure_of(int reason, int detail, int system) {
    gatehouse_tls_failure failure = {reason, -1, system, detail};
    return failure;
}

static int is_none(gatehouse_pem pem) { return pem.path == NULL && pem.bytes == NULL; }

// mbedTLS wants the zero byte at the end counted in. Null when memory is out.
static unsigned char *terminated(gatehouse_pem pem) {
    unsigned char *text = malloc(pem.count + 1);
    if (text == NULL) return NULL;
    if (pem.count > 0) memcpy(text, pem.bytes, pem.count);
    text[pem.count] = 0;
    return text;
}

// As mbedTLS: 0 done; above 0 how many could not be read; below 0 none.
static int read_certificates(mbedtls_x509_crt *chain, gatehouse_pem pem) {
    errno = 0;
    if (pem.path != NULL) return mbedtls_x509_crt_parse_file(chain, pem.path);
    unsigned char *text = terminated(pem);
    if (text == NULL) return MBEDTLS_ERR_X509_ALLOC_FAILED;
    int result = mbedtls_x509_crt_parse(chain, text, pem.count + 1);
    free(text);
    return result;
}

// As mbedTLS: 0 done; else what the lists say is not known.
static int read_revocations(mbedtls_x509_crl *list, gatehouse_pem pem) {
    int result;
    errno = 0;
    if (is_none(pem)) return 0;
    if (pem.path != NULL) {
        struct stat status;
        if (stat(pem.path, &status) == 0 && status.st_size > REVOCATION_LIST_BYTES) {
            errno = EFBIG;
            return MBEDTLS_ERR_X509_FILE_IO_ERROR;
        }
        result = mbedtls_x509_crl_parse_file(list, pem.path);
    } else {
        unsigned char *text = terminated(pem);
        if (text == NULL) return MBEDTLS_ERR_X509_ALLOC_FAILED;
        result = mbedtls_x509_crl_parse(list, text, pem.count + 1);
        free(text);
    }
    // Blank lines behind the last list.
    return result == MBEDTLS_ERR_PEM_NO_HEADER_FOOTER_PRESENT && list->version != 0 ? 0 : result;
}

static int read_key(mbedtls_pk_context *key, gatehouse_pem pem) {
    errno = 0;
#if IS_MBEDTLS_3
    if (pem.path != NULL) return mbedtls_pk_parse_keyfile(key, pem.path, NULL, random_bytes, NULL);
#else
    if (pem.path != NULL) return mbedtls_pk_parse_keyfile(key, pem.path, NULL);
#endif
    unsigned char *text = terminated(pem);
    if (text == NULL) return MBEDTLS_ERR_PK_ALLOC_FAILED;
#if IS_MBEDTLS_3
    int result = mbedtls_pk_parse_key(key, text, pem.count + 1, NULL, 0, random_bytes, NULL);
#else
    int result = mbedtls_pk_parse_key(key, text, pem.count + 1, NULL, 0);
#endif
    mbedtls_platform_zeroize(text, pem.count);
    free(text);
    return result;
}

// Reads both, sees that they belong together, and gives them to config. 0, or -1 with *failure filled.
static int read_identity(mbedtls_ssl_config *config, mbedtls_x509_crt *chain, mbedtls_pk_context *key,
                         gatehouse_pem chain_text, gatehouse_pem key_text, gatehouse_tls_failure *failure) {
    int result = read_certificates(chain, chain_text);
    if (result != 0) {
        *failure = failure_of(GATEHOUSE_TLS_CERTIFICATE_UNREADABLE, result, errno);
        return -1;
    }
    if ((result = read_key(key, key_text)) != 0) {
        *failure = failure_of(GATEHOUSE_TLS_KEY_UNREADABLE, result, errno);
        return -1;
    }
#if IS_MBEDTLS_3
    result = mbedtls_pk_check_pair(&chain->pk, key, random_bytes, NULL);
#else
    result = mbedtls_pk_check_pair(&chain->pk, key);
#endif
    if (result != 0) {
        *failure = failure_of(GATEHOUSE_TLS_KEY_MISMATCH, result, 0);
        return -1;
    }
    if ((result = mbedtls_ssl_conf_own_cert(config, chain, key)) != 0) {
        *failure = failure_of(GATEHOUSE_TLS_OUT_OF_MEMORY, result, 0);
        return -1;
    }
    return 0;
}

// --- The socket -----------------------------------------------------------------------------------------------------

// Not one of mbedTLS's own.
#define ERROR_RENEGOTIATION (-0x7ffe)

static int send_bytes(void *context, const unsigned char *bytes, size_t count) {
    gatehouse_tls_session *session = context;
    // What mbedTLS would send while it reads is that it declines to negotiate anew, and it would go on; but nobody who means
    // well asks (RFC 9325 section 3.5). Or it is the last word of a session that has failed.
    if (session->is_reading) return ERROR_RENEGOTIATION;
    // In this step a client sends something, if only an empty list, when it is asked for it.
    if (session->client != NULL && session->step == MBEDTLS_SSL_CLIENT_CERTIFICATE) session->is_asked = 1;
    for (;;) {
        ssize_t sent = send(session->descriptor, bytes, count, MSG_NOSIGNAL);
        if (sent >= 0) return (int)sent;
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return MBEDTLS_ERR_SSL_WANT_WRITE;
        session->system_error = errno;
        return MBEDTLS_ERR_NET_CONN_RESET;
    }
}

static int receive_bytes(void *context, unsigned char *bytes, size_t count) {
    gatehouse_tls_session *session = context;
    for (;;) {
        ssize_t received = recv(session->descriptor, bytes, count, 0);
        if (received >= 0) return (int)received; // 0 is the end, which mbedTLS reports as such
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return MBEDTLS_ERR_SSL_WANT_READ;
        session->system_error = errno;
        return MBEDTLS_ERR_NET_CONN_RESET;
    }
}

// --- Results --------------------------------------------------------------------------------------------------------

#if IS_MBEDTLS_3
#define ERROR_BAD_CERTIFICATE MBEDTLS_ERR_SSL_BAD_CERTIFICATE
#define ERROR_BAD_VERSION MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION
#define ERROR_NO_COMMON_SUITE MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE
#else
#define ERROR_BAD_CERTIFICATE MBEDTLS_ERR_SSL_BAD_HS_CERTIFICATE
#define ERROR_BAD_VERSION MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION
#define ERROR_NO_COMMON_SUITE MBEDTLS_ERR_SSL_NO_CIPHER_CHOSEN
#endif

static int reason_of_code(const gatehouse_tls_session *session, int code) {
    // RFC 5246 section 7.4.6: a server may answer an empty list of certificates with handshake_failure. Some have closed the
    // connection by the time at which that could be read.
    if (session->is_asked && !session->is_established && mbedtls_pk_get_type(&session->client->key) == MBEDTLS_PK_NONE &&
        (code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE || code == MBEDTLS_ERR_NET_CONN_RESET ||
         code == MBEDTLS_ERR_SSL_CONN_EOF))
        return GATEHOUSE_TLS_CERTIFICATE_WANTED;
    switch (code) {
    case MBEDTLS_ERR_X509_CERT_VERIFY_FAILED:
        return reason_of_flags(mbedtls_ssl_get_verify_result(&session->ssl));
    case ERROR_BAD_CERTIFICATE: {
        uint32_t flags = mbedtls_ssl_get_verify_result(&session->ssl);
        return flags != 0 && flags != (uint32_t)-1 ? reason_of_flags(flags) : GATEHOUSE_TLS_MALFORMED_CERTIFICATE;
    }
    case MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE: return GATEHOUSE_TLS_NO_CERTIFICATE;
    case MBEDTLS_ERR_SSL_CA_CHAIN_REQUIRED: return GATEHOUSE_TLS_NOT_VERIFIED;
    case ERROR_BAD_VERSION: return GATEHOUSE_TLS_PROTOCOL_VERSION;
    case ERROR_NO_COMMON_SUITE:
#if !IS_MBEDTLS_3
    case MBEDTLS_ERR_SSL_NO_USABLE_CIPHERSUITE:
#endif
        return GATEHOUSE_TLS_NO_COMMON_SUITE;
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE: return GATEHOUSE_TLS_PEER_ALERT;
    case MBEDTLS_ERR_SSL_CONN_EOF: return GATEHOUSE_TLS_TRUNCATED;
    case MBEDTLS_ERR_NET_CONN_RESET: return GATEHOUSE_TLS_CONNECTION_LOST;
    case MBEDTLS_ERR_SSL_INVALID_RECORD:
        return session->is_established ? GATEHOUSE_TLS_TAMPERED : GATEHOUSE_TLS_NOT_TLS;
    case MBEDTLS_ERR_SSL_INVALID_MAC: return GATEHOUSE_TLS_TAMPERED;
    case ERROR_RENEGOTIATION: return GATEHOUSE_TLS_RENEGOTIATION;
    case MBEDTLS_ERR_SSL_ALLOC_FAILED:
    case MBEDTLS_ERR_X509_ALLOC_FAILED:
    case MBEDTLS_ERR_PK_ALLOC_FAILED:
    case MBEDTLS_ERR_MPI_ALLOC_FAILED: return GATEHOUSE_TLS_OUT_OF_MEMORY;
    case MBEDTLS_ERR_SSL_INTERNAL_ERROR:
    case MBEDTLS_ERR_SSL_NO_RNG:
    case MBEDTLS_ERR_SSL_BAD_INPUT_DATA: return GATEHOUSE_TLS_INTERNAL;
    }
    int high = -code & 0xff80; // X.509 errors carry an ASN.1 error in their low bits
    // A kind of key or signature that this mbedTLS is built without.
    if (high == -MBEDTLS_ERR_PK_UNKNOWN_NAMED_CURVE || high == -MBEDTLS_ERR_PK_UNKNOWN_PK_ALG ||
        high == -MBEDTLS_ERR_X509_UNKNOWN_SIG_ALG)
        return GATEHOUSE_TLS_WEAK;
    if (high >= -MBEDTLS_ERR_X509_FEATURE_UNAVAILABLE && high <= -MBEDTLS_ERR_X509_FILE_IO_ERROR)
        return GATEHOUSE_TLS_MALFORMED_CERTIFICATE;
    return GATEHOUSE_TLS_PROTOCOL;
}

// Turns what mbedTLS returned into what CMbedTLS.h promises.
static int outcome(gatehouse_tls_session *session, int code) {
    switch (code) {
    case MBEDTLS_ERR_SSL_WANT_READ: return GATEHOUSE_TLS_WANT_READ;
    case MBEDTLS_ERR_SSL_WANT_WRITE: return GATEHOUSE_TLS_WANT_WRITE;
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
        if (session->is_established) return GATEHOUSE_TLS_CLOSED;
        code = MBEDTLS_ERR_SSL_CONN_EOF;
        break;
    }
    if (code >= 0) return code;
    session->failure = failure_of(reason_of_code(session, code), code, 0);
    if (session->failure.reason == GATEHOUSE_TLS_CONNECTION_LOST) session->failure.system = session->system_error;
    const unsigned char *message = session->ssl.MBEDTLS_PRIVATE(in_msg);
    if (session->failure.reason == GATEHOUSE_TLS_PEER_ALERT && message != NULL) session->failure.alert = message[1];
    return GATEHOUSE_TLS_FAILED;
}

// Whether nothing may be asked of the session any more: mbedTLS forbids to use it after an error.
static int is_dead(const gatehouse_tls_session *session) { return session->failure.reason != GATEHOUSE_TLS_NONE; }

// --- Servers --------------------------------------------------------------------------------------------------------

gatehouse_tls_server *gatehouse_tls_server_new(gatehouse_pem chain, gatehouse_pem key, gatehouse_pem client_authorities,
                                               gatehouse_pem revoked, int64_t earliest,
                                               gatehouse_tls_failure *failure) {
    gatehouse_tls_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        *failure = failure_of(GATEHOUSE_TLS_OUT_OF_MEMORY, 0, 0);
        return NULL;
    }
    mbedtls_ssl_config_init(&server->config);
    mbedtls_x509_crt_init(&server->chain);
    mbedtls_x509_crt_init(&server->client_authorities);
    mbedtls_pk_init(&server->key);
    mbedtls_ssl_ticket_init(&server->tickets);
    mbedtls_x509_crl_init(&server->judgement.revoked);
    server->judgement.now = earliest;
    server->judgement.is_server = 1;

    int result = set_policy(&server->config, MBEDTLS_SSL_IS_SERVER);
    if (result == 0)
        result = mbedtls_ssl_ticket_setup(&server->tickets, random_bytes, NULL, MBEDTLS_CIPHER_AES_256_GCM,
                                          RESUMPTION_SECONDS);
    if (result != 0) {
        *failure = failure_of(GATEHOUSE_TLS_INTERNAL, result, 0);
        goto failed;
    }
    mbedtls_ssl_conf_session_tickets_cb(&server->config, mbedtls_ssl_ticket_write, mbedtls_ssl_ticket_parse,
                                        &server->tickets);
    if (read_identity(&server->config, &server->chain, &server->key, chain, key, failure) != 0) goto failed;
    mbedtls_ssl_conf_verify(&server->config, verify_certificate, &server->judgement);
    if (is_none(client_authorities)) {
        mbedtls_ssl_conf_authmode(&server->config, MBEDTLS_SSL_VERIFY_NONE);
    } else {
        result = read_certificates(&server->client_authorities, client_authorities);
        if (result != 0) {
            *failure = failure_of(GATEHOUSE_TLS_TRUST_UNREADABLE, result, errno);
            goto failed;
        }
        if ((result = read_revocations(&server->judgement.revoked, revoked)) != 0) {
            *failure = failure_of(GATEHOUSE_TLS_LIST_UNREADABLE, result, errno);
            goto failed;
        }
        mbedtls_ssl_conf_ca_chain(&server->config, &server->client_authorities, &server->judgement.revoked);
        mbedtls_ssl_conf_authmode(&server->config, MBEDTLS_SSL_VERIFY_REQUIRED);
    }
    return server;
failed:
    gatehouse_tls_server_free(server);
    return NULL;
}

int gatehouse_tls_server_lasts(const gatehouse_tls_server *server, int64_t until) {
    for (const mbedtls_x509_crt *one = &server->chain; one != NULL; one = one->next)
        if (order_of(&one->valid_to) < order_of_moment(until)) return 0;
    return 1;
}

void gatehouse_tls_server_free(gatehouse_tls_server *server) {
    if (server == NULL) return;
    mbedtls_ssl_config_free(&server->config);
    mbedtls_x509_crt_free(&server->chain);
    mbedtls_x509_crt_free(&server->client_authorities);
    mbedtls_pk_free(&server->key);
    mbedtls_ssl_ticket_free(&server->tickets);
    mbedtls_x509_crl_free(&server->judgement.revoked);
    free(server);
}

// --- Sessions -------------------------------------------------------------------------------------------------------

static gatehouse_tls_session *session_new(int descriptor) {
    gatehouse_tls_session *session = calloc(1, sizeof *session);
    if (session == NULL) return NULL;
    mbedtls_ssl_init(&session->ssl);
    session->descriptor = descriptor;
    session->failure = failure_of(GATEHOUSE_TLS_NONE, 0, 0);
    return session;
}

// Gives the session its buffers (most of what it costs) and its socket. 0, or mbedTLS's code.
static int session_start(gatehouse_tls_session *session, const mbedtls_ssl_config *config) {
    int result = mbedtls_ssl_setup(&session->ssl, config);
    if (result != 0) return result;
    mbedtls_ssl_set_bio(&session->ssl, session, send_bytes, receive_bytes, NULL);
    return 0;
}

gatehouse_tls_session *gatehouse_tls_accept(gatehouse_tls_server *server, int descriptor,
                                            gatehouse_tls_failure *failure) {
    gatehouse_tls_session *session = session_new(descriptor);
    int result = session == NULL ? MBEDTLS_ERR_SSL_ALLOC_FAILED : session_start(session, &server->config);
    if (result == 0) return session;
    *failure = failure_of(GATEHOUSE_TLS_OUT_OF_MEMORY, result, 0);
    gatehouse_tls_session_free(session);
    return NULL;
}

// Takes the host's text in: without a final dot, and as an address when it is one. 0, or -1 when it is neither.
static int set_host(struct client_part *client, const char *host) {
    size_t count = strlen(host);
    if (count > 0 && host[count - 1] == '.') count--;
    if (count == 0 || count >= HOST_CAPACITY) return -1;
    memcpy(client->host, host, count);
    client->host[count] = 0;
    if (inet_pton(AF_INET, client->host, client->address) == 1)
        client->address_count = 4;
    else if (inet_pton(AF_INET6, client->host, client->address) == 1)
        client->address_count = 16;
    return 0;
}

static struct client_part *client_new(void) {
    struct client_part *client = calloc(1, sizeof *client);
    if (client == NULL) return NULL;
    mbedtls_ssl_config_init(&client->config);
    mbedtls_x509_crt_init(&client->trust);
    mbedtls_x509_crt_init(&client->chain);
    mbedtls_pk_init(&client->key);
    mbedtls_x509_crl_init(&client->judgement.revoked);
    return client;
}

static void forget_trust(struct client_part *client) {
    if (!client->has_trust) return;
    mbedtls_ssl_conf_ca_chain(&client->config, NULL, NULL);
    mbedtls_x509_crt_free(&client->trust);
    mbedtls_x509_crt_init(&client->trust);
    mbedtls_x509_crl_free(&client->judgement.revoked);
    client->has_trust = 0;
#ifdef __GLIBC__
    malloc_trim(0); // half a megabyte in small pieces: give the pages back
#endif
}

static int is_resumption_usable(const gatehouse_tls_resumption *resumption, const struct client_part *client) {
    if (resumption == NULL || strcmp(resumption->host, client->host) != 0) return 0;
    int64_t age = client->judgement.now - resumption->verified_at;
    if (age < 0 || age > RESUMPTION_SECONDS) return 0;
#ifdef MBEDTLS_SSL_KEEP_PEER_CERTIFICATE
    const mbedtls_x509_crt *certificate = resumption->session.MBEDTLS_PRIVATE(peer_cert);
    if (certificate == NULL || order_of(&certificate->valid_to) < order_of_moment(client->judgement.now)) return 0;
#endif
    return 1;
}

gatehouse_tls_session *gatehouse_tls_connect(const char *host, int descriptor, gatehouse_pem chain, gatehouse_pem key,
                                             const void *pins, size_t pin_count, int64_t now,
                                             const gatehouse_tls_resumption *resumption,
                                             gatehouse_tls_failure *failure) {
    int result = MBEDTLS_ERR_SSL_ALLOC_FAILED;
    gatehouse_tls_session *session = session_new(descriptor);
    struct client_part *client = session == NULL ? NULL : (session->client = client_new());
    if (client == NULL) goto failed;
    client->judgement.now = now;
    client->pin_count = pin_count < GATEHOUSE_TLS_PINS ? pin_count : GATEHOUSE_TLS_PINS;
    if (pin_count > 0) memcpy(client->pins, pins, client->pin_count * sizeof client->pins[0]);
    if (set_host(client, host) != 0) {
        *failure = failure_of(GATEHOUSE_TLS_HOST_INVALID, 0, 0);
        gatehouse_tls_session_free(session);
        return NULL;
    }
    if ((result = set_policy(&client->config, MBEDTLS_SSL_IS_CLIENT)) != 0) goto failed;
    mbedtls_ssl_conf_authmode(&client->config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_verify(&client->config, verify_certificate, &client->judgement);
    if (!is_none(chain) && read_identity(&client->config, &client->chain, &client->key, chain, key, failure) != 0) {
        gatehouse_tls_session_free(session);
        return NULL;
    }
    if ((result = session_start(session, &client->config)) != 0) goto failed;
    // A name is sent (RFC 6066 section 3) and checked by mbedTLS besides; an address is neither, verify_certificate has it.
    result = mbedtls_ssl_set_hostname(&session->ssl, client->address_count == 0 ? client->host : NULL);
    if (result != 0) goto failed;
    if (is_resumption_usable(resumption, client)) {
        (void)mbedtls_ssl_set_session(&session->ssl, &resumption->session); // where it fails the handshake is a full one
        client->verified_at = resumption->verified_at;
    }
    return session;
failed:
    *failure = failure_of(
        result == MBEDTLS_ERR_SSL_ALLOC_FAILED ? GATEHOUSE_TLS_OUT_OF_MEMORY : GATEHOUSE_TLS_INTERNAL, result, 0);
    gatehouse_tls_session_free(session);
    return NULL;
}

void gatehouse_tls_session_free(gatehouse_tls_session *session) {
    if (session == NULL) return;
    mbedtls_ssl_free(&session->ssl);
    struct client_part *client = session->client;
    if (client != NULL) {
        forget_trust(client);
        mbedtls_ssl_config_free(&client->config);
        mbedtls_x509_crt_free(&client->trust);
        mbedtls_x509_crt_free(&client->chain);
        mbedtls_pk_free(&client->key);
        free(client);
    }
    free(session);
}

// The day before the compiler's date, "Nov 27 2026" (of SOURCE_DATE_EPOCH, where that is set), whose time zone may be ahead.
int64_t gatehouse_tls_built_at(void) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec", date[] = __DATE__;
    int64_t year = atoi(date + 7), month = 1, day = atoi(date + 4);
    while (month < 12 && memcmp(months + 3 * (month - 1), date, 3) != 0) month++;
    // The year is taken to begin in March, so that the leap day ends it.
    if (month < 3) year--, month += 12;
    return (365 * year + year / 4 - year / 100 + year / 400 + (153 * (month - 3) + 2) / 5 + day - 2 - 719468) * 86400;
}

const char *gatehouse_tls_system_authorities(void) {
    static const char *const paths[] = {
        "/etc/ssl/certs/ca-certificates.crt", // Debian, Alpine, OpenWrt, Buildroot
        "/etc/pki/tls/certs/ca-bundle.crt",   // Fedora
        "/etc/ssl/ca-bundle.pem",             // SUSE
        "/etc/ssl/cert.pem",
    };
    for (size_t index = 0; index < sizeof paths / sizeof *paths; index++)
        if (access(paths[index], R_OK) == 0) return paths[index];
    return NULL;
}

int gatehouse_tls_trust(gatehouse_tls_session *session, gatehouse_pem authorities, int is_partial_allowed,
                        gatehouse_pem revoked) {
    struct client_part *client = session->client;
    if (client == NULL || is_dead(session)) return GATEHOUSE_TLS_FAILED;
    int result = read_certificates(&client->trust, authorities);
    client->has_trust = 1;
    if (result < 0 || (result > 0 && !is_partial_allowed)) {
        session->failure = failure_of(GATEHOUSE_TLS_TRUST_UNREADABLE, result, errno);
        forget_trust(client);
        return GATEHOUSE_TLS_FAILED;
    }
    if ((result = read_revocations(&client->judgement.revoked, revoked)) != 0) {
        session->failure = failure_of(GATEHOUSE_TLS_LIST_UNREADABLE, result, errno);
        forget_trust(client);
        return GATEHOUSE_TLS_FAILED;
    }
    mbedtls_ssl_conf_ca_chain(&client->config, &client->trust, &client->judgement.revoked);
    return 0;
}

int gatehouse_tls_handshake(gatehouse_tls_session *session) {
    if (is_dead(session)) return GATEHOUSE_TLS_FAILED;
    struct client_part *client = session->client;
    while (session->ssl.MBEDTLS_PRIVATE(state) != MBEDTLS_SSL_HANDSHAKE_OVER) {
        int state = session->step = session->ssl.MBEDTLS_PRIVATE(state);
        // A resumed handshake goes past this state without a certificate.
        if (state == MBEDTLS_SSL_SERVER_CERTIFICATE) {
            session->is_full = 1;
            if (client != NULL && !client->has_trust) return GATEHOUSE_TLS_NEEDS_TRUST;
        }
        int result = mbedtls_ssl_handshake_step(&session->ssl);
        if (result != 0) {
            result = outcome(session, result);
            if (result == GATEHOUSE_TLS_FAILED && client != NULL) forget_trust(client);
            return result;
        }
    }
    session->is_established = 1;
    if (client != NULL) {
        forget_trust(client);
        uint32_t flags = mbedtls_ssl_get_verify_result(&session->ssl);
        if (flags != 0) {
            session->failure = failure_of(reason_of_flags(flags), 0, 0);
            return GATEHOUSE_TLS_FAILED;
        }
        if (session->is_full) client->verified_at = client->judgement.now;
    }
    return 0;
}

int gatehouse_tls_read(gatehouse_tls_session *session, void *bytes, size_t count) {
    if (is_dead(session)) return GATEHOUSE_TLS_FAILED;
    for (;;) {
        session->is_reading = session->client != NULL;
        int result = mbedtls_ssl_read(&session->ssl, bytes, count);
        session->is_reading = 0;
        if (result == 0) result = MBEDTLS_ERR_SSL_CONN_EOF; // the end without close_notify
#ifdef MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET
        if (result == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) continue;
#endif
        return outcome(session, result);
    }
}

int gatehouse_tls_write(gatehouse_tls_session *session, const void *bytes, size_t count) {
    if (is_dead(session)) return GATEHOUSE_TLS_FAILED;
    return outcome(session, mbedtls_ssl_write(&session->ssl, bytes, count));
}

int gatehouse_tls_close(gatehouse_tls_session *session) {
    if (is_dead(session)) return GATEHOUSE_TLS_FAILED;
    return outcome(session, mbedtls_ssl_close_notify(&session->ssl));
}

gatehouse_tls_failure gatehouse_tls_last_failure(const gatehouse_tls_session *session) { return session->failure; }

size_t gatehouse_tls_pending(const gatehouse_tls_session *session) {
    return mbedtls_ssl_get_bytes_avail(&session->ssl);
}

int gatehouse_tls_was_resumed(const gatehouse_tls_session *session) {
    return session->is_established && !session->is_full;
}

const char *gatehouse_tls_suite(const gatehouse_tls_session *session) {
    const char *name = session->is_established ? mbedtls_ssl_get_ciphersuite(&session->ssl) : NULL;
    return name == NULL ? "none" : name;
}

int gatehouse_tls_peer_fingerprint(const gatehouse_tls_session *session, void *digest) {
    const mbedtls_x509_crt *certificate = mbedtls_ssl_get_peer_cert(&session->ssl);
    if (certificate == NULL) return 0;
    gatehouse_sha256_state state;
    gatehouse_sha256_start(&state);
    gatehouse_sha256_update(&state, certificate->raw.p, certificate->raw.len);
    gatehouse_sha256_finish(&state, digest);
    return 1;
}

gatehouse_tls_resumption *gatehouse_tls_resumption_new(const gatehouse_tls_session *session) {
    if (session->client == NULL || !session->is_established || is_dead(session)) return NULL;
    gatehouse_tls_resumption *resumption = calloc(1, sizeof *resumption);
    if (resumption == NULL) return NULL;
    mbedtls_ssl_session_init(&resumption->session);
    if (mbedtls_ssl_get_session(&session->ssl, &resumption->session) != 0) {
        gatehouse_tls_resumption_free(resumption);
        return NULL;
    }
    resumption->verified_at = session->client->verified_at;
    memcpy(resumption->host, session->client->host, HOST_CAPACITY);
    return resumption;
}

void gatehouse_tls_resumption_free(gatehouse_tls_resumption *resumption) {
    if (resumption == NULL) return;
    mbedtls_ssl_session_free(&resumption->session);
    free(resumption);
}
