// The C library's copying and comparing of bytes, for musl on x86-64 alone. Almost all copies here are of less than 200
// bytes, and musl's memcpy begins each with rep movsq, which takes longer than such a copy; its ARM ones are good. It
// was the costliest function of a decision. Tests/end-to-end/copying_test.c tries every small size and overlap.
#include "CPlatform.h"

#if defined(__x86_64__) && !defined(__GLIBC__)
typedef uint64_t words __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t word __attribute__((aligned(1), may_alias));
typedef uint32_t half __attribute__((aligned(1), may_alias));

// Up to 16 bytes: everything is read before anything is written, so that the places may overlap.
static inline void copy_few(unsigned char *to, const unsigned char *from, size_t count) {
    if (count >= 8) {
        uint64_t first = *(const word *)from, last = *(const word *)(from + count - 8);
        *(word *)to = first, *(word *)(to + count - 8) = last;
    } else if (count >= 4) {
        uint32_t first = *(const half *)from, last = *(const half *)(from + count - 4);
        *(half *)to = first, *(half *)(to + count - 4) = last;
    } else if (count > 0) {
        unsigned char first = from[0], middle = from[count / 2], last = from[count - 1];
        to[0] = first, to[count / 2] = middle, to[count - 1] = last;
    }
}

__attribute__((no_builtin)) void *memmove(void *target, const void *source, size_t count) {
    unsigned char *to = target;
    const unsigned char *from = source;
    if (count <= 16) {
        copy_few(to, from, count);
        return target;
    }
    if ((uintptr_t)to - (uintptr_t)from >= count) { // the target does not begin inside the source
        if (count >= 1024) {
            void *at = to;
            __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
            return target;
        }
        words last = *(const words *)(from + count - 16);
        size_t done = 0;
        for (; done + 16 < count; done += 16) *(words *)(to + done) = *(const words *)(from + done);
        *(words *)(to + count - 16) = last;
    } else {
        words first = *(const words *)from;
        for (; count > 16; count -= 16) *(words *)(to + count - 16) = *(const words *)(from + count - 16);
        *(words *)to = first;
    }
    return target;
}

// LMDB compares keys with this; musl's goes byte by byte.
__attribute__((no_builtin)) int memcmp(const void *left, const void *right, size_t count) {
    const unsigned char *a = left, *b = right;
    for (; count >= 8; count -= 8, a += 8, b += 8) {
        uint64_t x = *(const word *)a, y = *(const word *)b;
        if (x != y) return __builtin_bswap64(x) < __builtin_bswap64(y) ? -1 : 1;
    }
    for (; count > 0; count--, a++, b++)
        if (*a != *b) return *a < *b ? -1 : 1;
    return 0;
}

__attribute__((no_builtin)) void *memcpy(void *restrict target, const void *restrict source, size_t count) {
    return memmove(target, source, count);
}
#endif
