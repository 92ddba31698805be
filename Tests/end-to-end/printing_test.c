// Sources/CPlatform/Printing.c against the C library's printf: every conversion that it has, with widths, zeros, precisions
// and sizes, into rooms of every length. Prints "same", or where it differs.
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#undef __GLIBC__
#define vsnprintf own_vsnprintf
#define snprintf own_snprintf
#define sprintf own_sprintf
#define fprintf own_fprintf
#include "Printing.c"
#undef vsnprintf
#undef snprintf
#undef sprintf
#undef fprintf

static int failures;

__attribute__((format(printf, 1, 2))) static void check(const char *format, ...) {
    for (size_t room = 0; room < 48; room++) {
        char own[64], theirs[64];
        memset(own, '#', sizeof own);
        memset(theirs, '#', sizeof theirs);
        va_list values, same;
        va_start(values, format);
        va_copy(same, values);
        int count = own_vsnprintf(own, room, format, values);
        int expected = vsnprintf(theirs, room, format, same);
        va_end(values);
        va_end(same);
        if (count == expected && memcmp(own, theirs, sizeof own) == 0) continue;
        printf("%s in %zu bytes: %d and not %d: %.40s and not %.40s\n", format, room, count, expected, own, theirs);
        failures++;
        return;
    }
}

int main(void) {
    static const int numbers[] = {0, 1, -1, 9, 10, -10, 255, 65535, 1234567, INT_MAX, INT_MIN};
    for (size_t index = 0; index < sizeof numbers / sizeof *numbers; index++) {
        int number = numbers[index];
        check("%d|%5d|%05d|%i", number, number, number, number);
        check("%u %x %X %08x %02X", (unsigned)number, (unsigned)number, (unsigned)number, (unsigned)number, (unsigned)number);
        check("%ld %lu %lx", (long)number * 1000003, (unsigned long)number, (unsigned long)number);
        check("%lld %llu %llx", (long long)number * 4294967311, (unsigned long long)number, (unsigned long long)number << 31);
        check("%zu %zx", (size_t)number, (size_t)number);
        check("%*d %.3d", 7, number, number);
    }
    check("%d", LONG_MAX > INT_MAX ? 7 : 8);
    check("%ld %lld", LONG_MIN, LLONG_MIN);
    check("%s", "");
    check("%s:%d: %s", "mdb.c", 1537, "a text that is longer than all of the room that there is for it");
    check("%.5s|%.0s|%.100s|%8s|%.*s", "shortened", "nothing", "whole", "right", 3, "abcdef");
    check("%c%c%c %% 100%%", 'a', ' ', '~');
    check("%02X%s", 7u, ":");
    check("%x:%x:%x:%d.%d.%d.%d", 0u, 0xffffu, 0x20u, 192, 168, 0, 1);
    check("%10d %lx -", 4711, 0x7f0011223344ul);
    if (!failures) printf("same\n");
    return failures != 0;
}
