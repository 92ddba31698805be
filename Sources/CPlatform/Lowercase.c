// What Unicode's letters are in lower case in 1.5 KB, as Tools/lib/lowercase.c has packed it, in place of the tables that Swift's
// standard library would bring for all cases (16 KB). An ordinary build has none packed, and the standard library its own.
#include <stddef.h>
#include <stdint.h>

#pragma clang diagnostic ignored "-Wc23-extensions"

#if __has_embed(<lowercase.bin>)
static const unsigned char runs[] = {
#embed <lowercase.bin>
};
enum { RUN = 8, LOWER = 1 };

static uint32_t first_of(const unsigned char *run) { return run[0] | run[1] << 8 | (uint32_t)run[2] << 16; }

// What Swift's Unicode.Scalar.Properties.lowercaseMapping asks for: how far below a letter its small one is.
int32_t _swift_stdlib_getMapping(uint32_t scalar, uint8_t mapping) {
    // Nothing here asks for capitals, and there is no answer to that.
    if (mapping != LOWER) __builtin_trap();
    size_t low = 0, high = sizeof runs / RUN;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (first_of(runs + RUN * middle) <= scalar) low = middle; else high = middle;
    }
    const unsigned char *run = runs + RUN * low;
    uint32_t first = first_of(run), count = run[3] | (run[4] & 63) << 8, step = run[4] >> 6;
    if (scalar < first || (scalar - first) % step != 0 || (scalar - first) / step >= count) return 0;
    return run[5] | run[6] << 8 | (int32_t)(int8_t)run[7] * 65536;
}

// The only letter whose small one is written as two.
const uint8_t *_swift_stdlib_getSpecialMapping(uint32_t scalar, uint8_t mapping, intptr_t *length) {
    if (mapping != LOWER) __builtin_trap();
    if (scalar != 0x130) return NULL;
    *length = 3;
    return (const uint8_t *)"i\xCC\x87";
}
#endif
