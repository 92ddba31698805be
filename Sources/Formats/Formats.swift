// Syntax of data: JSON, YAML, hex, base64 and gzip. No input or output.
