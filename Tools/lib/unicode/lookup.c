// What the Swift of the shipped binary is told of Unicode, in place of the toolchain's libswiftUnicodeDataTables, whose
// tables are 100 KB: the lower case of a character and its general category, from tables of a few KB that tables.c makes of
// the toolchain's own. Two texts are equal when their code points are: nothing is decomposed or composed first.
//
// Other properties of characters are not here, and ordinary Swift would not tell: HouseTests names what may be asked. A
// function of the toolchain's that is needed beside these brings its whole table and is a "duplicate symbol" to the linker.
#include <stddef.h>
#include <stdint.h>

#include UNICODE_TABLES

uint8_t _swift_stdlib_getGeneralCategory(uint32_t scalar) {
    size_t low = 0, high = sizeof block_starts / sizeof *block_starts;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (block_starts[middle] <= scalar) low = middle; else high = middle;
    }
    const uint8_t *run = runs + block_offsets[low], *end = runs + block_offsets[low + 1];
    uint32_t distance = scalar - block_starts[low];
    for (;;) {
        uint8_t category = *run & 31;
        uint32_t length = (*run++ >> 5) + 1;
        if (length > 7) length += *run++;
        // The last run of a block goes on to the next block.
        if (distance < length || run == end)
            return category != ALTERNATING ? category : distance % 2 == 0 ? UPPERCASE : LOWERCASE;
        distance -= length;
    }
}

// How far the lower case of a character is behind it; 0 if it has none or one of several characters.
static int32_t lowercase_distance(uint32_t scalar) {
    size_t low = 0, high = sizeof lowercases / sizeof *lowercases;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (lowercases[middle].first <= scalar) low = middle; else high = middle;
    }
    uint32_t distance = scalar - lowercases[low].first, step = lowercases[low].step;
    return distance % step == 0 && distance / step < lowercases[low].count ? lowercases[low].distance : 0;
}

// Of the binary properties only Changes_When_Lowercased.
uint64_t _swift_stdlib_getBinaryProperties(uint32_t scalar) {
    return lowercase_distance(scalar) != 0 || scalar == SPECIAL ? 1 << 2 : 0;
}

enum { lower_mapping = 1 };

int32_t _swift_stdlib_getMapping(uint32_t scalar, uint8_t mapping) {
    if (mapping != lower_mapping) __builtin_trap();
    return lowercase_distance(scalar);
}

const uint8_t *_swift_stdlib_getSpecialMapping(uint32_t scalar, uint8_t mapping, size_t *length) {
    if (mapping != lower_mapping) __builtin_trap();
    if (scalar != SPECIAL) return NULL;
    *length = sizeof special;
    return special;
}

// Every character is as it should be and goes together with none.
uint16_t _swift_stdlib_getNormData(uint32_t scalar) { (void)scalar; return 0; }
uint32_t _swift_stdlib_getComposition(uint32_t first, uint32_t second) { (void)first; (void)second; return UINT32_MAX; }
const uint16_t *_swift_stdlib_nfd_decompositions = NULL;
uint32_t _swift_stdlib_getDecompositionEntry(uint32_t scalar) { (void)scalar; __builtin_trap(); }
