// See CSimulation.h. Whatever is not simulated goes to the kernel as it is.
#define _GNU_SOURCE
#include "CSimulation.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { sector = 512, log_bytes = 1 << 16, descriptors = 256 };

void (*sim_when_cut)(void);
void (*sim_when_waiting)(void);

static int is_on;
static char path[512];
static uint64_t chance;
static int64_t monotonic, wall_ahead;

static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

// MARK: Time and chance

static int64_t kernel_nanoseconds(clockid_t clock) {
    struct timespec time;
    syscall(SYS_clock_gettime, clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int64_t sim_monotonic(void) { return monotonic; }
int64_t sim_wall(void) { return monotonic / 1000000 + wall_ahead; }
void sim_pass(int64_t nanoseconds) { monotonic += nanoseconds; }
void sim_jump(int64_t milliseconds) { wall_ahead += milliseconds; }
double sim_real_seconds(void) { return (double)kernel_nanoseconds(CLOCK_MONOTONIC) / 1e9; }

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!is_on || (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME))
        return (int)syscall(SYS_clock_gettime, clock, time);
    int64_t now = monotonic += 1000;
    if (clock == CLOCK_REALTIME) {
        int64_t milliseconds = sim_wall();
        int64_t rest = milliseconds % 1000;
        if (rest < 0) rest += 1000;
        time->tv_sec = (milliseconds - rest) / 1000;
        time->tv_nsec = rest * 1000000;
    } else {
        time->tv_sec = now / 1000000000;
        time->tv_nsec = now % 1000000000;
    }
    return 0;
}

int nanosleep(const struct timespec *time, struct timespec *left) {
    (void)left;
    if (!is_on) return (int)syscall(SYS_nanosleep, time, left);
    monotonic += (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
    return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left) {
    if (!is_on) return (int)syscall(SYS_clock_nanosleep, clock, flags, time, left) == 0 ? 0 : errno;
    return flags & TIMER_ABSTIME ? 0 : nanosleep(time, left);
}

// Nobody else runs: what is waited for is done meanwhile by whoever would do it.
int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    (void)condition;
    (void)until;
    if (!is_on || !sim_when_waiting) return ETIMEDOUT;
    pthread_mutex_unlock(mutex);
    monotonic += 5000000;
    sim_when_waiting();
    pthread_mutex_lock(mutex);
    return 0;
}

ssize_t getrandom(void *bytes, size_t count, unsigned flags) {
    if (!is_on) return syscall(SYS_getrandom, bytes, count, flags);
    for (size_t index = 0; index < count; index++) ((unsigned char *)bytes)[index] = (unsigned char)draw(&chance);
    return (ssize_t)count;
}

static int has_terminated;
int sim_will_terminate(void) { return has_terminated; }
int sim_has_terminated(void) {
    int was = has_terminated;
    has_terminated = 0;
    return was;
}
int kill(pid_t process, int number) {
    if (is_on && process == getpid() && number == SIGTERM) return has_terminated = 1, 0;
    return (int)syscall(SYS_kill, process, number);
}

// MARK: The disk

// A write that no sync has made durable, or a change of length (`after` is NULL).
struct change {
    off_t offset;
    size_t count, old_count;
    unsigned char *before, *after;
    // A sync has failed since: the kernel may have dropped it and does not write it again.
    int is_stuck;
    struct change *earlier;
};

static struct change *newest;
static off_t durable_size;
// Of each descriptor: 1 the simulated file, 3 the same, of which each write is a sync.
static unsigned char kinds[descriptors];
static uint64_t calls, cut_at, cut_seed, fail_from, fail_until, lies;
static int fail_code, is_cut;
static unsigned char *image;
static size_t image_count;

uint64_t sim_calls(void) { return calls; }
int sim_is_cut(void) { return is_cut; }
void sim_cut(uint64_t after, uint64_t seed) { cut_at = after ? calls + after : 0, cut_seed = seed; }
void sim_fail(uint64_t after, uint64_t count, int code) {
    fail_from = calls + after, fail_until = fail_from + count, fail_code = code;
}
void sim_lie(uint64_t syncs) { lies = syncs; }

static int is_log_shown;
static void show(const char *what, int descriptor, size_t count, off_t offset) {
    if (!is_log_shown) return;
    const char *kind = kinds[descriptor] == 3 ? ", durable at once" : "";
    printf("%s, call %lu: %zu bytes at %ld%s\n", what, (unsigned long)calls, count, (long)offset, kind);
}

static void drop(struct change *change) {
    free(change->before);
    free(change->after);
    free(change);
}

static void forget_changes(int with_stuck) {
    struct change **place = &newest;
    while (*place) {
        struct change *change = *place;
        if (change->is_stuck && !with_stuck) {
            place = &change->earlier;
        } else {
            *place = change->earlier;
            drop(change);
        }
    }
}

static off_t size_of(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) == 0 ? status.st_size : 0;
}

void sim_settle(void) {
    forget_changes(1);
    struct stat status;
    durable_size = stat(path, &status) == 0 ? status.st_size : 0;
}

void sim_begin(const char *file, uint64_t seed) {
    snprintf(path, sizeof path, "%s", file);
    chance = seed;
    monotonic = 1000000000;
    wall_ahead = 0;
    is_on = 1;
    sim_settle();
}

static void grow_image(size_t count) {
    if (count <= image_count) return;
    image = realloc(image, count);
    memset(image + image_count, 0, count - image_count);
    image_count = count;
}

// Applies a part of a change, or the whole, to the image of the disk.
static void apply(const struct change *change, int by_sectors, uint64_t *seed) {
    if (!change->after) {
        if (!by_sectors) grow_image((size_t)change->offset);
        return;
    }
    for (size_t start = 0; start < change->count; start += sector) {
        size_t count = change->count - start < sector ? change->count - start : sector;
        if (by_sectors && draw(seed) % 2) continue;
        grow_image((size_t)change->offset + start + count);
        memcpy(image + change->offset + start, change->after + start, count);
    }
}

// The disk as it is when the power fails now.
static void make_image(void) {
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0);
    image_count = (size_t)size_of(file);
    image = realloc(image, image_count + 1);
    if (syscall(SYS_pread64, file, image, image_count, 0) != (long)image_count) image_count = 0;
    syscall(SYS_close, file);
    size_t number = 0;
    for (struct change *change = newest; change; change = change->earlier) {
        number++;
        if (change->after && change->old_count) {
            grow_image((size_t)change->offset + change->old_count);
            memcpy(image + change->offset, change->before, change->old_count);
        }
    }
    if ((size_t)durable_size < image_count) image_count = (size_t)durable_size;
    struct change **order = malloc((number + 1) * sizeof *order);
    size_t place = number;
    for (struct change *change = newest; change; change = change->earlier) order[--place] = change;
    uint64_t seed = cut_seed;
    uint64_t kind = draw(&seed) % 6;
    size_t end = number ? draw(&seed) % (number + 1) : 0;
    // In any order: the last of two writes to a place may be the one that is lost.
    if (kind == 5)
        for (size_t index = number; index > 1; index--) {
            size_t other = draw(&seed) % index;
            struct change *change = order[index - 1];
            order[index - 1] = order[other], order[other] = change;
        }
    for (size_t index = 0; index < number; index++) {
        switch (kind) {
        case 0: break;
        case 1: apply(order[index], 0, &seed); break;
        case 2: if (index <= end) apply(order[index], index == end, &seed); break;
        case 3: if (draw(&seed) % 2) apply(order[index], 0, &seed); break;
        default: apply(order[index], 1, &seed); break;
        }
    }
    free(order);
}

static void cut_if_due(void) {
    if (is_cut || calls != cut_at) return;
    show("power cut", 0, (size_t)durable_size, 0);
    make_image();
    is_cut = 1;
    if (sim_when_cut) sim_when_cut();
}

int sim_restore(void) {
    // Another file: the ghost's may still be mapped.
    unlink(path);
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    long written = file < 0 ? -1 : syscall(SYS_pwrite64, file, image, image_count, 0);
    if (file >= 0) syscall(SYS_close, file);
    is_cut = 0, cut_at = 0, fail_from = fail_until = 0, lies = 0;
    sim_settle();
    return written == (long)image_count ? 0 : -1;
}

static void note(int descriptor, const void *bytes, size_t count, off_t offset) {
    struct change *change = calloc(1, sizeof *change), **place = &newest;
    change->offset = offset;
    change->count = count;
    change->before = malloc(count + 1);
    change->after = malloc(count + 1);
    memcpy(change->after, bytes, count);
    long old = syscall(SYS_pread64, descriptor, change->before, count, offset);
    change->old_count = old > 0 ? (size_t)old : 0;
    // What a failed sync has left is over once it is written anew.
    while (*place) {
        struct change *other = *place;
        off_t end = other->offset + (off_t)other->count;
        if (other->is_stuck && other->after && other->offset >= offset && end <= offset + (off_t)count) {
            *place = other->earlier;
            drop(other);
        } else {
            place = &other->earlier;
        }
    }
    change->earlier = newest;
    newest = change;
}

static int is_failing(void) { return calls >= fail_from && calls < fail_until && !is_cut; }

static ssize_t write_at(int descriptor, const void *bytes, size_t count, off_t offset) {
    calls++;
    show(is_failing() ? "failing write" : "write", descriptor, count, offset);
    if (is_failing()) {
        size_t part = calls % 2 ? count / 2 / sector * sector : 0;
        if (part == 0) return errno = fail_code, -1;
        note(descriptor, bytes, part, offset);
        cut_if_due();
        return syscall(SYS_pwrite64, descriptor, bytes, part, offset);
    }
    note(descriptor, bytes, count, offset);
    cut_if_due();
    ssize_t written = syscall(SYS_pwrite64, descriptor, bytes, count, offset);
    if (kinds[descriptor] == 3 && !lies && newest) {
        // It is on the disk when it returns; of what was written before that says nothing.
        struct change *change = newest;
        newest = change->earlier;
        if (offset + written > durable_size) durable_size = offset + written;
        drop(change);
    }
    return written;
}

// Leaves what is not durable in pieces of a sector, each of which is lost or not until it is written anew.
static void stick(void) {
    for (struct change **place = &newest; *place;) {
        struct change *whole = *place, **end = place;
        if (whole->is_stuck || !whole->after) {
            place = &whole->earlier;
            continue;
        }
        for (size_t start = 0; start < whole->count; start += sector) {
            struct change *part = calloc(1, sizeof *part);
            part->offset = whole->offset + (off_t)start;
            part->count = whole->count - start < sector ? whole->count - start : sector;
            part->old_count = whole->old_count <= start ? 0 : whole->old_count - start;
            if (part->old_count > part->count) part->old_count = part->count;
            part->before = malloc(part->count);
            part->after = malloc(part->count);
            memcpy(part->before, whole->before + start, part->old_count);
            memcpy(part->after, whole->after + start, part->count);
            part->is_stuck = 1;
            *end = part;
            end = &part->earlier;
        }
        *end = whole->earlier;
        place = end;
        drop(whole);
    }
}

static int synchronize(int descriptor) {
    calls++;
    show(is_failing() ? "failing sync" : "sync", descriptor, 0, 0);
    cut_if_due();
    if (is_failing()) {
        stick();
        return errno = EIO, -1;
    }
    if (lies) return lies--, 0;
    forget_changes(0);
    if (!is_cut) durable_size = size_of(descriptor);
    return 0;
}

static int is_ours(int descriptor) {
    return is_on && descriptor >= 0 && descriptor < descriptors && kinds[descriptor];
}

static int open_file(const char *name, int flags, mode_t mode) {
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, name, flags, mode);
    if (descriptor >= 0 && descriptor < descriptors)
        kinds[descriptor] = is_on && strcmp(name, path) == 0 ? (flags & O_DSYNC ? 3 : 1) : 0;
    return descriptor;
}

int open(const char *name, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;
    va_end(list);
    return open_file(name, flags, mode);
}
int open64(const char *name, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;
    va_end(list);
    return open_file(name, flags, mode);
}
int close(int descriptor) {
    if (descriptor >= 0 && descriptor < descriptors) kinds[descriptor] = 0;
    return (int)syscall(SYS_close, descriptor);
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    return is_ours(descriptor) ? write_at(descriptor, bytes, count, offset)
                               : syscall(SYS_pwrite64, descriptor, bytes, count, offset);
}
ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off_t offset) {
    return pwrite(descriptor, bytes, count, offset);
}

ssize_t writev(int descriptor, const struct iovec *parts, int number) {
    if (!is_ours(descriptor)) return syscall(SYS_writev, descriptor, parts, number);
    off_t offset = lseek(descriptor, 0, SEEK_CUR);
    size_t count = 0, at = 0;
    for (int index = 0; index < number; index++) count += parts[index].iov_len;
    unsigned char *bytes = malloc(count + 1);
    for (int index = 0; index < number; index++) {
        memcpy(bytes + at, parts[index].iov_base, parts[index].iov_len);
        at += parts[index].iov_len;
    }
    ssize_t written = write_at(descriptor, bytes, count, offset);
    if (written > 0) lseek(descriptor, offset + written, SEEK_SET);
    free(bytes);
    return written;
}

int fdatasync(int descriptor) {
    return is_ours(descriptor) ? synchronize(descriptor) : is_on ? 0 : (int)syscall(SYS_fdatasync, descriptor);
}
int fsync(int descriptor) {
    return is_ours(descriptor) ? synchronize(descriptor) : is_on ? 0 : (int)syscall(SYS_fsync, descriptor);
}

int ftruncate(int descriptor, off_t size) {
    if (!is_ours(descriptor)) return (int)syscall(SYS_ftruncate, descriptor, size);
    calls++;
    show(is_failing() ? "failing truncation" : "truncation", descriptor, 0, size);
    if (is_failing()) return errno = fail_code, -1;
    struct change *change = calloc(1, sizeof *change);
    change->offset = size;
    change->earlier = newest;
    newest = change;
    cut_if_due();
    return (int)syscall(SYS_ftruncate, descriptor, size);
}
int ftruncate64(int descriptor, off_t size) { return ftruncate(descriptor, size); }

// MARK: What it says

static char said[log_bytes];
static size_t said_count;
const char *sim_log(size_t *count) { return *count = said_count, said; }
void sim_forget_log(void) { said_count = 0; }
void sim_show_log(int is_shown) { is_log_shown = is_shown; }

ssize_t write(int descriptor, const void *bytes, size_t count) {
    if (is_ours(descriptor)) {
        off_t offset = lseek(descriptor, 0, SEEK_CUR);
        ssize_t written = write_at(descriptor, bytes, count, offset);
        if (written > 0) lseek(descriptor, offset + written, SEEK_SET);
        return written;
    }
    if (!is_on || descriptor != 2) return syscall(SYS_write, descriptor, bytes, count);
    size_t kept = count < log_bytes - said_count ? count : log_bytes - said_count;
    memcpy(said + said_count, bytes, kept);
    said_count += kept;
    return is_log_shown ? syscall(SYS_write, descriptor, bytes, count) : (ssize_t)count;
}

int sim_find(const void *bytes, size_t count, const void *sought, size_t sought_count) {
    return memmem(bytes, count, sought, sought_count) != NULL;
}

// MARK: Processes

int sim_fork(void) {
    fflush(stdout);
    return (int)fork();
}
void sim_limit(unsigned seconds) {
    struct itimerval limit = {.it_value.tv_sec = seconds};
    setitimer(ITIMER_PROF, &limit, NULL);
    alarm(20 * seconds);
}
int sim_wait(int *status) {
    int raw = 0;
    int child = (int)waitpid(-1, &raw, 0);
    *status = WIFSIGNALED(raw) ? 256 + WTERMSIG(raw) : WEXITSTATUS(raw);
    return child;
}
int sim_pipe(int ends[2]) { return pipe(ends); }
void sim_exit(int status) {
    fflush(stdout);
    _exit(status);
}
long sim_read(int descriptor, void *bytes, size_t count) { return read(descriptor, bytes, count); }
void sim_kill(int child) { syscall(SYS_kill, child, SIGKILL); }
