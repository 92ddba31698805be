// The general categories of Unicode in 6 KB, as Tools/lib/categories.c has packed them, in place of the tables that Swift's
// standard library would bring for them (40 KB). An ordinary build has no packed ones, and the standard library its own.
#include <stdint.h>

#pragma clang diagnostic ignored "-Wc23-extensions"

#if __has_embed(<categories.bin>)
static const unsigned char packed[] = {
#embed <categories.bin>
};

// What Swift's Unicode.Scalar.Properties.generalCategory asks for, in the numbers of its cases.
uint8_t _swift_stdlib_getGeneralCategory(uint32_t scalar) {
    uint32_t places = packed[0] | packed[1] << 8, low = 0, high = places;
    const unsigned char *index = packed + 2;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        const unsigned char *place = index + 5 * middle;
        if ((place[0] | place[1] << 8 | place[2] << 16) <= (int32_t)scalar) low = middle; else high = middle;
    }
    const unsigned char *place = index + 5 * low;
    const unsigned char *run = index + 5 * places + (place[3] | place[4] << 8);
    uint32_t first = place[0] | place[1] << 8 | place[2] << 16;
    for (;;) {
        uint8_t category = *run >> 3;
        uint32_t more = *run++ & 7;
        if (more == 7) {
            uint32_t shift = 0;
            do more += (*run & 127u) << shift, shift += 7; while (*run++ & 128);
        }
        // The last run ends where Unicode does.
        if (scalar - first <= more || first + more >= 0x10ffff) return category;
        first += more + 1;
    }
}
#endif
