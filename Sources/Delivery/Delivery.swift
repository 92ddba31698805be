// The fifth layer: batches of the log go to destinations over TLS until they are acknowledged.
