// What Formats needs of C besides zlib: libyaml's parser, and the C library's exact reading of decimals.
#ifndef CYAML_H
#define CYAML_H
#include <stddef.h>
#include <yaml.h>

// The double nearest to the decimal number in text[0..<count] (checked by the caller to be one).
double formats_decimal(const unsigned char *text, size_t count);

#endif
