// What Swift cannot say itself about Linux's libc: variadic calls, macros, packed structures, and the few calls whose
// structures differ between architectures. Every function here is a rename; decisions are made in Swift.
#ifndef CPLATFORM_H
#define CPLATFORM_H

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline int cp_errno(void) { return errno; }
static inline void cp_set_errno(int value) { errno = value; }

// Files.
static inline int cp_open(const char *path, int flags, unsigned mode) { return open(path, flags | O_CLOEXEC, mode); }
static inline int64_t cp_file_size(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) == 0 ? (int64_t)status.st_size : -1;
}
static inline int64_t cp_disk_bytes(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) == 0 ? (int64_t)status.st_blocks * 512 : -1;
}
static inline int cp_path_mode(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 ? (int)(status.st_mode & 07777) : -1;
}
static inline int cp_is_directory(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}
static inline int64_t cp_path_size(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 ? (int64_t)status.st_size : -1;
}
static inline int64_t cp_free_bytes(const char *path) {
    struct statvfs status;
    return statvfs(path, &status) == 0 ? (int64_t)status.f_bavail * (int64_t)status.f_frsize : -1;
}

// Clocks, in one number so that a 32-bit time_t is nobody's concern.
static inline int64_t cp_wall_milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
static inline int64_t cp_monotonic_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
static inline void cp_sleep_nanoseconds(int64_t duration) {
    struct timespec wait = {(time_t)(duration / 1000000000), (long)(duration % 1000000000)};
    nanosleep(&wait, NULL);
}

// epoll: the event structure is packed on x86-64 and its data is a union.
typedef struct cp_epoll_events {
    struct epoll_event list[128];
} cp_epoll_events;
static inline int cp_epoll_control(int poller, int operation, int descriptor, uint32_t interest, uint64_t token) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = interest;
    event.data.u64 = token;
    return epoll_ctl(poller, operation, descriptor, &event);
}
static inline int cp_epoll_wait(int poller, cp_epoll_events *events, int milliseconds) {
    return epoll_wait(poller, events->list, 128, milliseconds);
}
static inline uint64_t cp_epoll_token(const cp_epoll_events *events, int index) { return events->list[index].data.u64; }
static inline uint32_t cp_epoll_flags(const cp_epoll_events *events, int index) { return events->list[index].events; }

// Sockets. Addresses are made and used inside one call.
int cp_listen_tcp(const char *address, uint16_t port, int backlog, int reuse_port);
int cp_listen_unix(const char *path, unsigned mode, int backlog);
int cp_connect_start(const char *host, uint16_t port, int *error);
int cp_connect_unix(const char *path);
int cp_socket_port(int descriptor);
int cp_peer_kind(int descriptor);
int cp_accept(int listener);
static inline int cp_set_no_delay(int descriptor) {
    int on = 1;
    return setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}
static inline int cp_socket_error(int descriptor) {
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}
// Waits for readiness: 1 ready, 0 timed out, -1 error.
// Enumerations in glibc, macros in musl.
static const uint32_t cp_epoll_readable = EPOLLIN, cp_epoll_writable = EPOLLOUT, cp_epoll_edge = EPOLLET,
                      cp_epoll_exclusive = EPOLLEXCLUSIVE, cp_epoll_peer_closed = EPOLLRDHUP,
                      cp_epoll_hangup = EPOLLHUP, cp_epoll_error = EPOLLERR;

static inline int cp_poll_one(int descriptor, int for_write, int milliseconds) {
    struct pollfd one = {descriptor, (short)(for_write ? POLLOUT : POLLIN), 0};
    int n = poll(&one, 1, milliseconds);
    return n < 0 ? (errno == EINTR ? 0 : -1) : n;
}
static inline int cp_poll_two(int first, int second, int milliseconds) {
    struct pollfd two[2] = {{first, POLLIN, 0}, {second, POLLIN, 0}};
    int n = poll(two, 2, milliseconds);
    if (n < 0) return errno == EINTR ? 0 : -1;
    return (two[0].revents ? 1 : 0) | (two[1].revents ? 2 : 0);
}

// Process.
int cp_argument_count(void);
const char *cp_argument(int index);
int cp_signal_descriptor(void);
int cp_next_signal(int descriptor);
void cp_ignore_broken_pipes(void);
void cp_tune_allocator(void);
void cp_trim_memory(void);
int cp_resident_pages(int64_t *all, int64_t *of_files);
int64_t cp_written_bytes(void);
void cp_notify(const char *path, const char *state);
void cp_name_thread(const char *name);
int cp_give_back(void *address, size_t bytes);
int cp_reserve(int descriptor, int64_t bytes);
int cp_punch(int descriptor, int64_t offset, int64_t bytes);
void cp_trapped(void);
void cp_note_crashes(const char *path);
// A thread's handle is an integer in glibc and a pointer in musl.
int cp_spawn_thread(void *(*body)(void *), void *argument, size_t stack_bytes, uintptr_t *thread);
void cp_give_way(int niceness);
void cp_go_first(uint64_t nanoseconds);
void cp_join_thread(uintptr_t thread);

// The machine, for its first process. Addresses are numbers whose highest byte is written first; 0 is none. Texts end with a
// NUL and are `void`, so that Swift's literals and arrays of bytes are passed as they are. Results are 0 or an errno.
void cp_keep_streams(void);
int cp_mount(const void *device, const void *folder, const void *type, const void *options);
int cp_unmount(const void *folder);
int cp_load_module(const void *path);
int cp_bring_up(const void *interface, uint32_t address, uint32_t netmask, uint32_t gateway);
void cp_hold_signals(void);
// Which signal has come; 0 when the time ran out, negative milliseconds have no end.
int cp_await_signal(int64_t milliseconds);
// The child's process id, or -1.
int cp_spawn(const void *program, const void *command, const void *option, const void *value);

#endif
