// In the place of SHA-1: roots that sign themselves with it are read, and no signature by it is ever held to be right. mbedTLS
// refuses such certificates as too weak anyhow; without the function the binary is 4 KB smaller.
#include <mbedtls/sha1.h>

int mbedtls_internal_sha1_process(mbedtls_sha1_context *context, const unsigned char block[64]) {
    (void)context;
    (void)block;
    return MBEDTLS_ERR_SHA1_HW_ACCEL_FAILED;
}
