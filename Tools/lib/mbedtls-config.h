// What the shipped binary leaves out of mbedTLS 2.28's defaults (Tools/lib/foreign.sh puts this in its config.h).
// Gatehouse speaks TLS 1.2 with ephemeral ECDH and AES-GCM or ChaCha20-Poly1305 and nothing else
// (Sources/CMbedTLS/TLS.c): what cannot be reached then is neither carried nor there to be attacked.

// As Debian's own build has it: a server is shared by threads.
#define MBEDTLS_THREADING_C
#define MBEDTLS_THREADING_PTHREAD

// Protocols before TLS 1.2, and over UDP
#undef MBEDTLS_SSL_PROTO_TLS1
#undef MBEDTLS_SSL_PROTO_TLS1_1
#undef MBEDTLS_SSL_PROTO_DTLS
#undef MBEDTLS_SSL_DTLS_ANTI_REPLAY
#undef MBEDTLS_SSL_DTLS_HELLO_VERIFY
#undef MBEDTLS_SSL_DTLS_CLIENT_PORT_REUSE
#undef MBEDTLS_SSL_DTLS_BADMAC_LIMIT
#undef MBEDTLS_SSL_CBC_RECORD_SPLITTING
#undef MBEDTLS_SSL_FALLBACK_SCSV
#undef MBEDTLS_SSL_RENEGOTIATION
#undef MBEDTLS_SSL_TRUNCATED_HMAC
#undef MBEDTLS_SSL_CONTEXT_SERIALIZATION
#undef MBEDTLS_SSL_EXPORT_KEYS
#undef MBEDTLS_SSL_CACHE_C
#undef MBEDTLS_SSL_COOKIE_C
#undef MBEDTLS_SSL_ENCRYPT_THEN_MAC
#undef MBEDTLS_SSL_MAX_FRAGMENT_LENGTH
#undef MBEDTLS_SSL_ALPN

// Key exchanges other than ephemeral ECDH
#undef MBEDTLS_KEY_EXCHANGE_PSK_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_DHE_PSK_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_ECDHE_PSK_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_RSA_PSK_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_RSA_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_DHE_RSA_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_ECDH_ECDSA_ENABLED
#undef MBEDTLS_KEY_EXCHANGE_ECDH_RSA_ENABLED
#undef MBEDTLS_DHM_C

// Ciphers, digests and curves that no suite of ours uses. SHA-1 stays, for old roots that sign themselves with it, and the
// curves that certificates may have: a file of authorities must be read whole, whatever of it is then accepted. Nothing is ever
// hashed by SHA-1 (no-sha1.c).
#define MBEDTLS_SHA1_PROCESS_ALT
#undef MBEDTLS_ARC4_C
#undef MBEDTLS_BLOWFISH_C
#undef MBEDTLS_CAMELLIA_C
#undef MBEDTLS_CCM_C
#undef MBEDTLS_RIPEMD160_C
#undef MBEDTLS_XTEA_C
#undef MBEDTLS_PADLOCK_C
#undef MBEDTLS_DES_C
#undef MBEDTLS_CIPHER_MODE_CBC
#undef MBEDTLS_CIPHER_MODE_CFB
#undef MBEDTLS_CIPHER_MODE_CTR
#undef MBEDTLS_CIPHER_MODE_OFB
#undef MBEDTLS_CIPHER_MODE_XTS
#undef MBEDTLS_ECP_DP_SECP192R1_ENABLED
#undef MBEDTLS_ECP_DP_SECP224R1_ENABLED
#undef MBEDTLS_ECP_DP_SECP192K1_ENABLED
#undef MBEDTLS_ECP_DP_SECP224K1_ENABLED
#undef MBEDTLS_ECP_DP_CURVE448_ENABLED

// Libraries within the library: Gatehouse has its own sockets, clocks and words
#undef MBEDTLS_CERTS_C
#undef MBEDTLS_DEBUG_C
#undef MBEDTLS_ERROR_C
#undef MBEDTLS_SELF_TEST
#undef MBEDTLS_NET_C
#undef MBEDTLS_TIMING_C
#undef MBEDTLS_VERSION_FEATURES
#undef MBEDTLS_PSA_CRYPTO_C
#undef MBEDTLS_PSA_CRYPTO_STORAGE_C
#undef MBEDTLS_PSA_ITS_FILE_C
#undef MBEDTLS_X509_CREATE_C
#undef MBEDTLS_X509_CRT_WRITE_C
#undef MBEDTLS_X509_CSR_WRITE_C
#undef MBEDTLS_X509_CSR_PARSE_C
#undef MBEDTLS_PEM_WRITE_C
#undef MBEDTLS_PK_RSA_ALT_SUPPORT
#undef MBEDTLS_GENPRIME

// Keys are read without a password
#undef MBEDTLS_PKCS5_C
#undef MBEDTLS_PKCS12_C
