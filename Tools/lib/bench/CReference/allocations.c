// Counts the allocations of a measuring program, PROGRAM, which is linked with --wrap for each of these.
#include "reference.h"

static uint64_t allocations;
void *__real_malloc(size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **out, size_t alignment, size_t size);
void *__wrap_malloc(size_t size) { allocations++; return __real_malloc(size); }
void *__wrap_realloc(void *old, size_t size) { allocations++; return __real_realloc(old, size); }
void *__wrap_aligned_alloc(size_t alignment, size_t size) { allocations++; return __real_aligned_alloc(alignment, size); }
int __wrap_posix_memalign(void **out, size_t alignment, size_t size) {
    allocations++;
    return __real_posix_memalign(out, alignment, size);
}
uint64_t reference_allocations(void) { return allocations; }

// The platform room calls the program by this name; see CPlatform.
#define NAME_OF(program) program##_main
#define MAIN_OF(program) NAME_OF(program)
int MAIN_OF(PROGRAM)(int argc, char **argv);
int gatehouse_main(int argc, char **argv) { return MAIN_OF(PROGRAM)(argc, argv); }
