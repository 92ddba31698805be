// Hashes, keyed hashes and TLS sessions; the only room that knows mbedTLS.
