// SHA-256 and what secrets need, over mbedTLS 2.28 (Debian 12) or 3.6 (Debian 13). Knows nothing of TLS.
#include "CMbedTLS.h"

#include <string.h>

#include <mbedtls/platform_util.h>
#include <mbedtls/sha256.h>
#include <mbedtls/version.h>

#define IS_MBEDTLS_3 (MBEDTLS_VERSION_NUMBER >= 0x03000000)

// --- SHA-256 --------------------------------------------------------------------------------------------------------

_Static_assert(sizeof(mbedtls_sha256_context) <= sizeof(gatehouse_sha256_state),
               "gatehouse_sha256_state is too small for this mbedTLS");
_Static_assert(_Alignof(mbedtls_sha256_context) <= _Alignof(gatehouse_sha256_state),
               "gatehouse_sha256_state is not aligned enough for this mbedTLS");

// The calls below fail only for null pointers or hardware back ends, neither of which can be here.
#if IS_MBEDTLS_3
#define sha256_starts mbedtls_sha256_starts
#define sha256_update mbedtls_sha256_update
#define sha256_finish mbedtls_sha256_finish
#else
#define sha256_starts mbedtls_sha256_starts_ret
#define sha256_update mbedtls_sha256_update_ret
#define sha256_finish mbedtls_sha256_finish_ret
#endif

void gatehouse_sha256_start(gatehouse_sha256_state *state) {
    mbedtls_sha256_context *context = (mbedtls_sha256_context *)state;
    mbedtls_sha256_init(context);
    (void)sha256_starts(context, 0);
}

void gatehouse_sha256_update(gatehouse_sha256_state *state, const void *bytes, size_t count) {
    (void)sha256_update((mbedtls_sha256_context *)state, bytes, count);
}

void gatehouse_sha256_finish(gatehouse_sha256_state *state, void *digest) {
    (void)sha256_finish((mbedtls_sha256_context *)state, digest);
}

int gatehouse_equal_in_constant_time(const void *left, const void *right, size_t count) {
    const volatile unsigned char *a = left, *b = right;
    unsigned char difference = 0;
    for (size_t index = 0; index < count; index++) difference |= a[index] ^ b[index];
    return difference == 0;
}

void gatehouse_wipe(void *bytes, size_t count) { mbedtls_platform_zeroize(bytes, count); }
