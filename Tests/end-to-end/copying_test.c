// Sources/CPlatform/Copying.c against loops over bytes: every size to 300 at every distance to 40 in both directions,
// some large ones, and the sign of every comparison. Prints "same", or where it differs.
#include <stdio.h>
#include <string.h>

enum { room = 12000, middle = 4000 };
static unsigned char seen[room], expected[room];

static void fill(void) {
    for (int i = 0; i < room; i++) seen[i] = expected[i] = (unsigned char)(i * 131 + (i >> 8) * 17);
}

static int is_same(void) {
    for (int i = 0; i < room; i++)
        if (seen[i] != expected[i]) return 0;
    return 1;
}

static int moves(int to, int from, int count) {
    static unsigned char copy[room];
    fill();
    for (int i = 0; i < count; i++) copy[i] = expected[from + i];
    for (int i = 0; i < count; i++) expected[to + i] = copy[i];
    if (memmove(seen + to, seen + from, (size_t)count) != seen + to || !is_same()) {
        printf("memmove of %d bytes over a distance of %d\n", count, to - from);
        return 0;
    }
    return 1;
}

static int compares(int count, int at, int change) {
    fill();
    seen[at] = 128;
    expected[at] = (unsigned char)(128 + change);
    for (int i = at + 1; i < count; i++) expected[i] = (unsigned char)~seen[i]; // what follows must not count
    int result = memcmp(seen, expected, (size_t)count);
    if ((result > 0) - (result < 0) == -change) return 1;
    printf("memcmp of %d bytes that differ by %d at %d: %d\n", count, change, at, result);
    return 0;
}

int main(void) {
    static const int large[] = {1000, 1023, 1024, 1025, 2048, 3999};
    for (int distance = -40; distance <= 40; distance++) {
        for (int count = 0; count <= 300; count++)
            if (!moves(middle + distance, middle, count)) return 1;
        for (unsigned i = 0; i < sizeof large / sizeof *large; i++)
            if (!moves(middle + distance, middle, large[i])) return 1;
    }
    for (int count = 0; count <= 300; count++) {
        fill();
        for (int i = 0; i < count; i++) expected[8000 + i] = expected[i];
        if (memcpy(seen + 8000, seen, (size_t)count) != seen + 8000 || !is_same()) return printf("memcpy %d\n", count);
        fill();
        if (memcmp(seen, expected, (size_t)count) != 0) return printf("memcmp of %d equal bytes\n", count);
        for (int at = 0; at < count; at++)
            if (!compares(count, at, -1) || !compares(count, at, 1)) return 1;
    }
    puts("same");
    return 0;
}
