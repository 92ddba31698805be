// Writes the tables of lookup.c, as C, from the toolchain's own; with UNICODE_TABLES, their file, it holds what lookup.c
// finds in them against the toolchain for every code point. Runs on the machine that builds.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint8_t _swift_stdlib_getGeneralCategory(uint32_t);
uint64_t _swift_stdlib_getBinaryProperties(uint32_t);
int32_t _swift_stdlib_getMapping(uint32_t, uint8_t);
const uint8_t *_swift_stdlib_getSpecialMapping(uint32_t, uint8_t, size_t *);

enum { end_of_scalars = 0x110000, lower = 1, changes_when_lowercased = 1 << 2 };

static void fail(const char *what, uint32_t scalar) {
    fprintf(stderr, "the Unicode tables of this toolchain are not as expected: %s at U+%04X\n", what, scalar);
    exit(1);
}

#ifdef UNICODE_TABLES
#define _swift_stdlib_getGeneralCategory our_category
#define _swift_stdlib_getBinaryProperties our_properties
#define _swift_stdlib_getMapping our_mapping
#define _swift_stdlib_getSpecialMapping our_special
#define _swift_stdlib_getNormData our_normalization
#define _swift_stdlib_getComposition our_composition
#define _swift_stdlib_getDecompositionEntry our_decomposition
#include "lookup.c"
#undef _swift_stdlib_getGeneralCategory
#undef _swift_stdlib_getBinaryProperties
#undef _swift_stdlib_getMapping
#undef _swift_stdlib_getSpecialMapping

int main(void) {
    for (uint32_t scalar = 0; scalar < end_of_scalars; scalar++) {
        if (our_category(scalar) != _swift_stdlib_getGeneralCategory(scalar)) fail("general category", scalar);
        if (our_mapping(scalar, lower) != _swift_stdlib_getMapping(scalar, lower)) fail("lower case", scalar);
        if (our_properties(scalar) != (_swift_stdlib_getBinaryProperties(scalar) & changes_when_lowercased))
            fail("what changes when lowercased", scalar);
        size_t our_length = 0, length = 0;
        const uint8_t *ours = our_special(scalar, lower, &our_length);
        const uint8_t *theirs = _swift_stdlib_getSpecialMapping(scalar, lower, &length);
        if (our_length != length || (length != 0 && memcmp(ours, theirs, length) != 0)) fail("special lower case", scalar);
    }
    return 0;
}
#else

static void write_lowercases(void) {
    printf("static const struct { uint32_t first : 21, count : 9, step : 2; int32_t distance; } lowercases[] = {\n");
    uint32_t first = 0, last = 0, step = 0, count = 0;
    int32_t distance = 0;
    // Of the same distance and evenly spread, one after the other or every second.
    for (uint32_t scalar = 0; scalar < end_of_scalars; scalar++) {
        int32_t its = _swift_stdlib_getMapping(scalar, lower);
        if (its == 0) continue;
        uint32_t gap = scalar - last;
        if (count > 0 && its == distance && count < 511 && (count == 1 ? gap <= 2 : gap == step)) {
            step = gap;
            count++;
        } else {
            if (count > 0) printf("{0x%x, %u, %u, %d},\n", first, count, step, distance);
            first = scalar, step = 1, count = 1, distance = its;
        }
        last = scalar;
    }
    printf("{0x%x, %u, %u, %d}};\n", first, count, step, distance);
}

static void write_special(void) {
    uint32_t found = 0;
    for (uint32_t scalar = 0; scalar < end_of_scalars; scalar++) {
        size_t length = 0;
        const uint8_t *text = _swift_stdlib_getSpecialMapping(scalar, lower, &length);
        if (text == NULL || length == 0) continue;
        if (found != 0) fail("a second special lower case", scalar);
        found = scalar;
        printf("enum { SPECIAL = 0x%x };\nstatic const uint8_t special[] = {", scalar);
        for (size_t index = 0; index < length; index++) printf("%u,", text[index]);
        printf("};\n");
    }
    if (found == 0) fail("no special lower case", 0);
}

// A run is a byte: the category in the lower five bits, in the upper three the length less one; 7 stands for 8 and what the
// next byte says. A block ends after a run that is longer, or after some 24 bytes.
static void write_categories(void) {
    uint8_t upper = _swift_stdlib_getGeneralCategory('A'), lowercase = _swift_stdlib_getGeneralCategory('a');
    enum { alternating = 31, longest = 263, block_bytes = 24, most = 65535 };
    static uint8_t bytes[most];
    static uint32_t starts[most], offsets[most];
    size_t count = 0, blocks = 0;
    for (uint32_t scalar = 0; scalar < end_of_scalars;) {
        if (blocks == 0 || count - offsets[blocks - 1] >= block_bytes) starts[blocks] = scalar, offsets[blocks++] = count;
        uint8_t category = _swift_stdlib_getGeneralCategory(scalar);
        if (category >= alternating) fail("more categories than expected", scalar);
        uint32_t alike = 1, other = 0;
        while (scalar + alike < end_of_scalars && _swift_stdlib_getGeneralCategory(scalar + alike) == category) alike++;
        while (scalar + other < end_of_scalars && other < longest
               && _swift_stdlib_getGeneralCategory(scalar + other) == (other % 2 == 0 ? upper : lowercase)) other++;
        uint32_t length = alike;
        if (other > 2) category = alternating, length = other;
        if (length <= 7) {
            bytes[count++] = category | (length - 1) << 5;
        } else {
            bytes[count++] = category | 7 << 5;
            bytes[count++] = length <= longest ? length - 8 : 0;
        }
        scalar += length;
        if (length > longest && scalar < end_of_scalars) starts[blocks] = scalar, offsets[blocks++] = count;
        if (count > most - 2) fail("more runs than expected", scalar);
    }
    offsets[blocks] = count;
    printf("enum { UPPERCASE = %u, LOWERCASE = %u, ALTERNATING = %u };\nstatic const uint8_t runs[] = {", upper, lowercase,
           alternating);
    for (size_t index = 0; index < count; index++) printf("%u,%s", bytes[index], index % 32 == 31 ? "\n" : "");
    printf("};\nstatic const uint32_t block_starts[] = {");
    for (size_t index = 0; index < blocks; index++) printf("0x%x,%s", starts[index], index % 16 == 15 ? "\n" : "");
    printf("};\nstatic const uint16_t block_offsets[] = {");
    for (size_t index = 0; index <= blocks; index++) printf("%u,%s", offsets[index], index % 16 == 15 ? "\n" : "");
    printf("};\n");
}

int main(void) {
    printf("// Made by Tools/lib/unicode/tables.c.\n");
    write_lowercases();
    write_special();
    write_categories();
    return 0;
}
#endif
