// The second layer: consent and purposes; what may be processed and what must not be kept.
