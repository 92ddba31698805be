// HTTP/1.1 messages (RFC 9112) as values: request and response heads and chunked bodies. No input or output.
