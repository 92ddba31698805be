// Signing and verifying over mbedTLS 2.28 (Debian 12) or 3.6 (Debian 13). Knows nothing of what is signed.
#include "CMbedTLS.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <mbedtls/version.h>
#define IS_MBEDTLS_3 (MBEDTLS_VERSION_NUMBER >= 0x03000000)
#if IS_MBEDTLS_3
#include <psa/crypto.h>
#else
#define MBEDTLS_PRIVATE(member) member
#endif
#include <mbedtls/ecp.h>
#include <mbedtls/pk.h>

static int random_bytes(void *context, unsigned char *bytes, size_t count) {
    (void)context;
    while (count > 0) {
        ssize_t written = getrandom(bytes, count, 0);
        if (written < 0) {
            if (errno == EINTR) continue;
            return MBEDTLS_ERR_ECP_RANDOM_FAILED;
        }
        bytes += written;
        count -= (size_t)written;
    }
    return 0;
}

static int read_key(mbedtls_pk_context *key, const void *text, size_t count, int is_private) {
    mbedtls_pk_init(key);
#if IS_MBEDTLS_3
    if (psa_crypto_init() != PSA_SUCCESS) return GATEHOUSE_SIGNATURE_FAILED;
#endif
    int result;
    if (!is_private) result = mbedtls_pk_parse_public_key(key, text, count);
#if IS_MBEDTLS_3
    else result = mbedtls_pk_parse_key(key, text, count, NULL, 0, random_bytes, NULL);
#else
    else result = mbedtls_pk_parse_key(key, text, count, NULL, 0);
#endif
    if (result == MBEDTLS_ERR_PK_ALLOC_FAILED) return GATEHOUSE_SIGNATURE_FAILED;
    if (result != 0) return GATEHOUSE_SIGNATURE_KEY_UNREADABLE;
    if (!mbedtls_pk_can_do(key, MBEDTLS_PK_ECDSA) ||
        mbedtls_pk_ec(*key)->MBEDTLS_PRIVATE(grp).id != MBEDTLS_ECP_DP_SECP256R1)
        return GATEHOUSE_SIGNATURE_KEY_UNSUITABLE;
    return GATEHOUSE_SIGNATURE_DONE;
}

int gatehouse_signature_verify(const void *text, size_t text_count, const void *digest, const void *signature,
                               size_t count) {
    const char *start = text, *end = start + text_count;
    int found = GATEHOUSE_SIGNATURE_KEY_UNREADABLE;
    while ((start = strstr(start, "-----BEGIN ")) != NULL) {
        mbedtls_pk_context key;
        int result = read_key(&key, start, (size_t)(end - start), 0);
        if (result == GATEHOUSE_SIGNATURE_DONE && digest != NULL &&
            (count == 0 || mbedtls_pk_verify(&key, MBEDTLS_MD_SHA256, digest, 32, signature, count) != 0))
            result = GATEHOUSE_SIGNATURE_WRONG;
        mbedtls_pk_free(&key);
        found = result;
        if ((result == GATEHOUSE_SIGNATURE_DONE) == (digest != NULL)) break;
        start++;
    }
    return found;
}

int gatehouse_signature_make(const void *text, size_t text_count, const void *digest, void *signature, size_t *count) {
    mbedtls_pk_context key;
    unsigned char made[MBEDTLS_PK_SIGNATURE_MAX_SIZE];
    int result = read_key(&key, text, text_count, 1);
    if (result == GATEHOUSE_SIGNATURE_DONE) {
#if IS_MBEDTLS_3
        int failure = mbedtls_pk_sign(&key, MBEDTLS_MD_SHA256, digest, 32, made, sizeof made, count, random_bytes, NULL);
#else
        int failure = mbedtls_pk_sign(&key, MBEDTLS_MD_SHA256, digest, 32, made, count, random_bytes, NULL);
#endif
        if (failure != 0 || *count > GATEHOUSE_SIGNATURE_CAPACITY)
            result = GATEHOUSE_SIGNATURE_FAILED;
        else
            memcpy(signature, made, *count);
    }
    mbedtls_pk_free(&key);
    return result;
}
