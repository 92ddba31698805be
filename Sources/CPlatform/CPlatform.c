#define _GNU_SOURCE
#include "CPlatform.h"
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>

// Embedded Swift has no CommandLine. glibc hands argc and argv to constructors; with musl main is here, and calls what
// the Swift driver names after the module.
static int argument_count;
static char **arguments;
#ifdef __GLIBC__
__attribute__((constructor)) static void keep_arguments(int argc, char **argv) {
    argument_count = argc;
    arguments = argv;
}
#else
int gatehouse_main(int argc, char **argv);
int main(int argc, char **argv) {
    argument_count = argc;
    arguments = argv;
    return gatehouse_main(argc, argv);
}
#endif
int cp_argument_count(void) { return argument_count; }
const char *cp_argument(int index) { return index < argument_count ? arguments[index] : NULL; }

#ifndef __GLIBC__
// musl gives each larger piece back to the kernel when it is freed, and the next batch of events gets it anew, page by page,
// while other cores are told of each change: a quarter of what a batch costs. So large pieces are kept for who wants one next,
// the latest 768 KiB, as long as there is something to do.
enum { kept_at_most = 64, least_kept_bytes = 16 << 10, kept_bytes_at_most = 3 << 18 };
static struct { void *place; size_t bytes; } kept[kept_at_most];
static unsigned kept_count;
static size_t kept_bytes;
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;

// The oldest are first. Under the lock.
static void *take_kept(unsigned index) {
    void *place = kept[index].place;
    kept_bytes -= kept[index].bytes;
    memmove(kept + index, kept + index + 1, (--kept_count - index) * sizeof *kept);
    return place;
}

// What Swift takes its memory with. Where there is none it would end by a trap, as if the program or the store were at fault.
// musl's pieces lie at multiples of 16, and nothing here asks for more.
int posix_memalign(void **place, size_t alignment, size_t bytes) {
    static const char words[] = "level=error msg=\"there is no memory left\"\n";
    *place = NULL;
    if (alignment > 16) cp_trapped();
    if (bytes >= least_kept_bytes) {
        // With what musl puts before and behind it whole pages: such a piece begins where `free` looks for it.
        size_t whole = ((bytes + 20 + 4095) & ~(size_t)4095) - 20;
        if (whole > bytes) bytes = whole;
        unsigned best = kept_at_most;
        pthread_mutex_lock(&kept_lock);
        for (unsigned index = 0; index < kept_count; index++) {
            if (kept[index].bytes < bytes || kept[index].bytes / 2 > bytes) continue;
            if (best == kept_at_most || kept[index].bytes < kept[best].bytes) best = index;
        }
        if (best < kept_at_most) *place = take_kept(best);
        pthread_mutex_unlock(&kept_lock);
    }
    if (*place || (*place = malloc(bytes))) return 0;
    cp_trim_memory();
    if ((*place = malloc(bytes))) return 0;
    (void)!write(2, words, sizeof words - 1);
    _exit(3);
}

// musl's own, which is hidden from others than what is linked with it.
void __libc_free(void *);
void free(void *place) {
    size_t bytes;
    // At the beginning of a page, behind what musl has there. The cheap half of the question comes first.
    if (((uintptr_t)place & 4095) != 16 || (bytes = malloc_usable_size(place)) < least_kept_bytes || bytes > kept_bytes_at_most) {
        __libc_free(place);
        return;
    }
    void *oldest;
    do {
        oldest = NULL;
        pthread_mutex_lock(&kept_lock);
        if (kept_count == kept_at_most || kept_bytes + bytes > kept_bytes_at_most) {
            oldest = take_kept(0);
        } else {
            kept[kept_count].place = place;
            kept[kept_count++].bytes = bytes;
            kept_bytes += bytes;
        }
        pthread_mutex_unlock(&kept_lock);
        __libc_free(oldest);
    } while (oldest);
}

void cp_trim_memory(void) {
    void *oldest;
    do {
        pthread_mutex_lock(&kept_lock);
        oldest = kept_count > 0 ? take_kept(0) : NULL;
        pthread_mutex_unlock(&kept_lock);
        __libc_free(oldest);
    } while (oldest);
}
#endif

int cp_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }

int cp_listen_tcp(const char *address, uint16_t port, int backlog, int reuse_port) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name;
    socklen_t size;
    memset(&name, 0, sizeof name);
    if (inet_pton(AF_INET, address, &name.v4.sin_addr) == 1) {
        name.v4.sin_family = AF_INET;
        name.v4.sin_port = htons(port);
        size = sizeof name.v4;
    } else if (inet_pton(AF_INET6, address, &name.v6.sin6_addr) == 1) {
        name.v6.sin6_family = AF_INET6;
        name.v6.sin6_port = htons(port);
        size = sizeof name.v6;
    } else {
        errno = EINVAL;
        return -1;
    }
    int listener = socket(name.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0) return -1;
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (reuse_port) setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(listener, &name.any, size) != 0 || listen(listener, backlog) != 0) {
        int error = errno;
        close(listener);
        errno = error;
        return -1;
    }
    return listener;
}

static int name_unix(const char *path, struct sockaddr_un *name) {
    memset(name, 0, sizeof *name);
    name->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof name->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(name->sun_path, path);
    return 0;
}

int cp_listen_unix(const char *path, unsigned mode, int backlog) {
    struct sockaddr_un name;
    if (name_unix(path, &name) != 0) return -1;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0) return -1;
    struct stat status;
    if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode)) unlink(path);
    mode_t before = umask(0777 & ~mode);
    int bound = bind(listener, (struct sockaddr *)&name, sizeof name);
    umask(before);
    if (bound != 0 || listen(listener, backlog) != 0) {
        int error = errno;
        close(listener);
        errno = error;
        return -1;
    }
    return listener;
}

int cp_socket_port(int descriptor) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name;
    socklen_t size = sizeof name;
    if (getsockname(descriptor, &name.any, &size) != 0) return -1;
    if (name.any.sa_family == AF_INET) return ntohs(name.v4.sin_port);
    if (name.any.sa_family == AF_INET6) return ntohs(name.v6.sin6_port);
    return 0;
}

// 0 another host, 1 loopback, 2 a Unix socket.
int cp_peer_kind(int descriptor) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    } name;
    socklen_t size = sizeof name;
    if (getpeername(descriptor, &name.any, &size) != 0) return 0;
    if (name.any.sa_family == AF_UNIX) return 2;
    if (name.any.sa_family == AF_INET) return (ntohl(name.v4.sin_addr.s_addr) >> 24) == 127;
    if (name.any.sa_family == AF_INET6) {
        if (IN6_IS_ADDR_LOOPBACK(&name.v6.sin6_addr)) return 1;
        if (IN6_IS_ADDR_V4MAPPED(&name.v6.sin6_addr)) return name.v6.sin6_addr.s6_addr[12] == 127;
    }
    return 0;
}

// Starts a connection and returns a non-blocking socket that becomes writable when it stands or has failed. Blocks
// while the name is resolved. On failure: -1, *error is errno, or 100000 minus getaddrinfo's code.
int cp_connect_start(const char *host, uint16_t port, int *error) {
    struct addrinfo hints, *found = NULL, *one;
    char service[8];
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    snprintf(service, sizeof service, "%u", port);
    int code = getaddrinfo(host, service, &hints, &found);
    if (code != 0) {
        *error = 100000 - code;
        return -1;
    }
    int descriptor = -1;
    *error = EHOSTUNREACH;
    for (one = found; one; one = one->ai_next) {
        descriptor = socket(one->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (descriptor < 0) {
            *error = errno;
            continue;
        }
        if (connect(descriptor, one->ai_addr, one->ai_addrlen) == 0 || errno == EINPROGRESS) break;
        *error = errno;
        close(descriptor);
        descriptor = -1;
    }
    freeaddrinfo(found);
    return descriptor;
}

// A connection to a Unix socket stands or fails at once: the socket is made non-blocking only afterwards, so that a full
// queue is waited for.
int cp_connect_unix(const char *path) {
    struct sockaddr_un name;
    if (name_unix(path, &name) != 0) return -1;
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return -1;
    if (connect(descriptor, (struct sockaddr *)&name, sizeof name) != 0 ||
        fcntl(descriptor, F_SETFL, O_NONBLOCK) != 0) {
        int error = errno;
        close(descriptor);
        errno = error;
        return -1;
    }
    return descriptor;
}

void cp_ignore_broken_pipes(void) { signal(SIGPIPE, SIG_IGN); }

// SIGINT, SIGTERM and SIGHUP.
static sigset_t asking_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return set;
}

// They are blocked in this thread, and read from a descriptor instead.
int cp_signal_descriptor(void) {
    sigset_t set = asking_signals();
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0) return -1;
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}
int cp_next_signal(int descriptor) {
    struct signalfd_siginfo information;
    return read(descriptor, &information, sizeof information) == sizeof information ? (int)information.ssi_signo : 0;
}

// glibc (the ordinary build) would give each thread a heap of its own and keep what is freed; of musl (what ships) we keep some
// ourselves.
#ifdef __GLIBC__
void cp_tune_allocator(void) {
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_TRIM_THRESHOLD, 256 * 1024);
    mallopt(M_MMAP_THRESHOLD, 256 * 1024);
}
// Looks through all there is: once a second is enough, however often the writer of a test or a simulation has nothing to do.
void cp_trim_memory(void) {
    static _Atomic time_t last;
    time_t now = time(NULL);
    if (now == last) return;
    last = now;
    malloc_trim(0);
}
#else
void cp_tune_allocator(void) {}

// LMDB as it is compiled for musl (Tools/lib/foreign.sh) asks this for mutexes that outlive their holder. Where the
// kernel, or qemu's user mode, has none it gets ordinary ones: the agent is alone with its store, and LMDB makes them
// anew at a start.
int cp_set_robust(pthread_mutexattr_t *attributes, int robust) {
    int code = pthread_mutexattr_setrobust(attributes, robust);
    return code == ENOSYS ? 0 : code;
}

// Embedded Swift seeds its hash tables from this, which musl does not have. getrandom gives up to 256 bytes whole.
void arc4random_buf(void *bytes, size_t count) {
    unsigned char *at = bytes;
    while (count > 0) {
        ssize_t n = getrandom(at, count < 256 ? count : 256, 0);
        if (n < 0 && errno != EINTR) abort();
        if (n > 0) at += n, count -= (size_t)n;
    }
}
#endif

// Reads what the kernel says of this process; a text that is empty where it does not.
static void read_kernel(const char *path, char *text, size_t size) {
    int descriptor = cp_open(path, O_RDONLY, 0);
    ssize_t count = descriptor < 0 ? 0 : read(descriptor, text, size - 1);
    if (descriptor >= 0) close(descriptor);
    text[count > 0 ? count : 0] = 0;
}

// Pages of this process that are in memory (proc(5), statm): the second number is all of them, the third those of files.
int cp_resident_pages(int64_t *all, int64_t *of_files) {
    char text[128], *at = text;
    read_kernel("/proc/self/statm", text, sizeof text);
    strtoll(at, &at, 10);
    *all = strtoll(at, &at, 10);
    *of_files = strtoll(at, &at, 10);
    return *all > 0;
}

// Bytes that this process has had written to a disk (proc(5), io); -1 where the kernel does not say.
int64_t cp_written_bytes(void) {
    char text[256];
    read_kernel("/proc/self/io", text, sizeof text);
    const char *at = strstr(text, "\nwrite_bytes: ");
    return at == NULL ? -1 : strtoll(at + 14, NULL, 10);
}

// Tells the service manager something (sd_notify(3)): a datagram to a path, or to an abstract name that begins with @.
// Where nobody takes it, nobody misses it.
void cp_notify(const char *path, const char *state) {
    struct sockaddr_un name;
    size_t length = strlen(path);
    if (length < 2 || length > sizeof name.sun_path) return;
    memset(&name, 0, sizeof name);
    name.sun_family = AF_UNIX;
    memcpy(name.sun_path, path, length);
    if (path[0] == '@') name.sun_path[0] = 0;
    int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return;
    sendto(descriptor, state, strlen(state), MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&name,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(descriptor);
}

// What `top -H` shows of the calling thread.
void cp_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

int cp_give_back(void *address, size_t bytes) { return madvise(address, bytes, MADV_DONTNEED); }

// The file keeps its length.
int cp_reserve(int descriptor, int64_t bytes) { return fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, bytes); }
int cp_punch(int descriptor, int64_t offset, int64_t bytes) {
    return fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
}

// Where a Swift trap arrives (-trap-function): a line before the process ends, so that it does not die in silence.
void cp_trapped(void) {
    static const char line[] = "level=fatal msg=\"internal error: a check failed; the process stops\"\n";
    ssize_t written = write(2, line, sizeof line - 1);
    (void)written;
    abort();
}

// A process that ends by a fault leaves a file behind that says so, and then ends as it would have.
static char crash_path[512];
static void note_crash(int number) {
    int descriptor = cp_open(crash_path, O_CREAT | O_WRONLY, 0600);
    if (descriptor >= 0) close(descriptor);
    raise(number);
}
void cp_note_crashes(const char *path) {
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = note_crash;
    action.sa_flags = SA_RESETHAND;
    if (strlen(path) >= sizeof crash_path) return;
    strcpy(crash_path, path);
    for (size_t index = 0; index < sizeof numbers / sizeof *numbers; index++) sigaction(numbers[index], &action, NULL);
}

// The first thread alone hears the signals that ask the process to end, also before it reads them: one that another thread
// heard would end the process at once.
int cp_spawn_thread(void *(*body)(void *), void *argument, size_t stack_bytes, uintptr_t *thread) {
    pthread_attr_t attributes;
    pthread_t made;
    sigset_t set = asking_signals(), before;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    int code = pthread_create(&made, &attributes, body, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (code == 0) *thread = (uintptr_t)made;
    return code;
}
// To Linux a thread is a process here: 0 is the one that asks. musl's own sched_setscheduler does nothing. What is not
// permitted does not matter.
void cp_give_way(int niceness) {
    struct sched_param none = {0};
    syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &none);
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + niceness);
}
// Since Linux 6.12 a thread may say for how long it wants a core at once: one that wants it shortly gets it at once, from one
// that wants it longer. Kernels before do not look at it. The words are those of linux/sched/types.h.
void cp_go_first(uint64_t nanoseconds) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t niceness;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = sizeof attributes, .policy = SCHED_OTHER, .niceness = getpriority(PRIO_PROCESS, 0), .runtime = nanoseconds};
    syscall(SYS_sched_setattr, 0, &attributes, 0);
}
void cp_join_thread(uintptr_t thread) { pthread_join((pthread_t)thread, NULL); }

#if defined(__arm__)
// Embedded Swift's storage of empty arrays is aligned to 4 bytes on 32-bit ARM, and a span over an empty array of
// elements that need 8 traps. This definition of the same (weak) symbol is aligned as allocations are. The words are
// those of the standard library: no class, a reference count that never ends, no elements, capacity and flags.
intptr_t gatehouse_empty_array[4] __asm__("$es23_swiftEmptyArrayStorageSi_S3itvp") __attribute__((aligned(16))) = {
    0, -1, 0, 1};
#endif
