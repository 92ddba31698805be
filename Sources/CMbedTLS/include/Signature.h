// Signatures by ECDSA over P-256 and SHA-256 (FIPS 186-4), in DER (RFC 3279 section 2.2.3), as `openssl dgst -sha256 -sign`
// makes them.
#ifndef GATEHOUSE_SIGNATURE_H
#define GATEHOUSE_SIGNATURE_H
#include <stddef.h>

enum {
    GATEHOUSE_SIGNATURE_DONE = 0,
    GATEHOUSE_SIGNATURE_WRONG,          // it is not this key's of this digest, or no signature at all
    GATEHOUSE_SIGNATURE_KEY_UNREADABLE, // no PEM of a key of the kind that is needed
    GATEHOUSE_SIGNATURE_KEY_UNSUITABLE, // a key, but not of P-256
    GATEHOUSE_SIGNATURE_FAILED,         // no memory
};
// Bytes of a signature at most: two numbers of 32 bytes and a sign bit, each with its DER head, in a sequence.
enum { GATEHOUSE_SIGNATURE_CAPACITY = 72 };

// key: PEM of public keys ("PUBLIC KEY"), one of which must have signed, with the zero byte at its end counted in; what stands
// around them is ignored. digest: 32 bytes; null: only the keys are looked at, all of them.
int gatehouse_signature_verify(const void *key, size_t key_count, const void *digest, const void *signature, size_t count);
// key: PEM of a private key without a pass phrase ("EC PRIVATE KEY" or "PRIVATE KEY"), zero byte counted in. Writes at most
// GATEHOUSE_SIGNATURE_CAPACITY bytes. The same digest and key give the same signature (RFC 6979).
int gatehouse_signature_make(const void *key, size_t key_count, const void *digest, void *signature, size_t *count);

#endif
