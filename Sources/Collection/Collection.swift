// The first layer: decodes what arrives into events, validates them and recognises repeats.
