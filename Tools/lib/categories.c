// Writes the general categories of Unicode as the shipped binary has them (Sources/CPlatform/Categories.c), from Swift's own
// tables, which are seven times as large. Linked with libswiftUnicodeDataTables and run by Tools/lib/ship.sh.
#include <stdint.h>
#include <stdio.h>

extern uint8_t _swift_stdlib_getGeneralCategory(uint32_t scalar);

static unsigned char runs[65536], index[16384];

int main(void) {
    uint32_t first = 0, bytes = 0, places = 0, number = 0;
    while (first < 0x110000) {
        uint8_t category = _swift_stdlib_getGeneralCategory(first);
        uint32_t next = first + 1;
        while (next < 0x110000 && _swift_stdlib_getGeneralCategory(next) == category) next++;
        // Each 32nd run can be found without those before it: three bytes of its first scalar, two of its place.
        if (number++ % 32 == 0) {
            unsigned char entry[] = {first, first >> 8, first >> 16, bytes, bytes >> 8};
            for (int at = 0; at < 5; at++) index[places++] = entry[at];
        }
        // Five bits of category; three of the length less one, of which seven says that the rest follows, seven bits a byte.
        uint32_t more = next - first - 1;
        runs[bytes++] = category << 3 | (more < 7 ? more : 7);
        if (more >= 7) {
            for (more -= 7; more >= 128; more >>= 7) runs[bytes++] = more | 128;
            runs[bytes++] = more;
        }
        first = next;
    }
    unsigned char head[] = {places / 5, places / 5 >> 8};
    return fwrite(head, 2, 1, stdout) != 1 || fwrite(index, places, 1, stdout) != 1 || fwrite(runs, bytes, 1, stdout) != 1;
}
