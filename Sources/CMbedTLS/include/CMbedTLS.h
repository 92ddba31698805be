// What Swift needs of mbedTLS, in words of our own: mbedTLS 2.28 and 3.6 differ in names, structure members and
// callbacks, and none of that is seen above this header (it includes no header of theirs).
#ifndef CMBEDTLS_H
#define CMBEDTLS_H
#include <stddef.h>
#include <stdint.h>

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

#endif
