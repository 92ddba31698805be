// Writes what Unicode's letters are in lower case as the shipped binary has it (Sources/CPlatform/Lowercase.c), from Swift's own
// tables, which are eight times as large. Linked with libswiftUnicodeDataTables and run by Tools/lib/ship.sh.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { LOWER = 1 };
extern int32_t _swift_stdlib_getMapping(uint32_t scalar, uint8_t mapping);
extern const uint8_t *_swift_stdlib_getSpecialMapping(uint32_t scalar, uint8_t mapping, intptr_t *length);

static int32_t distance(uint32_t scalar) { return _swift_stdlib_getMapping(scalar, LOWER); }

int main(void) {
    for (uint32_t scalar = 0; scalar < 0x110000;) {
        // Of those that become several letters there is one, which Lowercase.c knows by itself.
        intptr_t length = 0;
        const uint8_t *letters = _swift_stdlib_getSpecialMapping(scalar, LOWER, &length);
        int isKnown = scalar == 0x130 && letters && length == 3 && memcmp(letters, "i\xCC\x87", 3) == 0;
        if ((letters && length) != (scalar == 0x130) || (letters && length && !isKnown)) {
            fprintf(stderr, "U+%04X becomes letters that Lowercase.c does not know\n", scalar);
            return 1;
        }
        int32_t far = distance(scalar);
        if (far == 0) {
            scalar++;
            continue;
        }
        // A run has the same distance at each letter or, where capital and small letters take turns, at each other one.
        uint32_t step = distance(scalar + 1) == 0 && distance(scalar + 2) == far ? 2 : 1, count = 1;
        while (distance(scalar + count * step) == far && (step == 1 || distance(scalar + count * step - 1) == 0)) count++;
        unsigned char run[] = {scalar, scalar >> 8, scalar >> 16, count, count >> 8 | step << 6, far, far >> 8, far >> 16};
        if (fwrite(run, sizeof run, 1, stdout) != 1) return 1;
        scalar += (count - 1) * step + 1;
    }
    return 0;
}
