#include "CYAML.h"

#include <stdlib.h>
#include <string.h>

// strtod wants a zero at the end; a number long enough to need memory of its own is nobody's measurement.
double formats_decimal(const unsigned char *text, size_t count) {
    char copy[1024];
    if (count < sizeof copy) {
        memcpy(copy, text, count);
        copy[count] = 0;
        return strtod(copy, NULL);
    }
    char *whole = malloc(count + 1);
    if (whole == NULL) return 0;
    memcpy(whole, text, count);
    whole[count] = 0;
    double value = strtod(whole, NULL);
    free(whole);
    return value;
}
