// The local HTTP server and its routes.
