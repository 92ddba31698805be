// The files of the console's page, as they are in the binary.
#ifndef CCONSOLE_H
#define CCONSOLE_H
#include <stdbool.h>
#include <stddef.h>

// The page (0), its style (1) or its script (2), and how many bytes that is.
const unsigned char *console_file(int number, size_t *count);

// Whether they are packed with gzip.
bool console_is_packed(void);

#endif
