// What the first process of a machine asks of the kernel; see Platform/Machine.swift.
#define _GNU_SOURCE
#include "CPlatform.h"
#include <net/if.h>
#include <net/route.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

// A log line must never end up in a file that happened to get the number of a stream which was not open.
void cp_keep_streams(void) {
    int descriptor;
    // Where there is no /dev yet, what can be neither read nor written.
    do if ((descriptor = open("/dev/null", O_RDWR)) < 0) descriptor = open("/", O_PATH);
    while (descriptor >= 0 && descriptor <= 2);
    if (descriptor > 2) close(descriptor);
}

int cp_mount(const void *device, const void *folder, const void *type, const void *options) {
    return mount(device, folder, type, MS_NOATIME | MS_NOSUID | MS_NOEXEC, options) == 0 ? 0 : errno;
}
int cp_unmount(const void *folder) { return umount(folder) == 0 ? 0 : errno; }

// One that the kernel has already is no error.
int cp_load_module(const void *path) {
    int descriptor = cp_open(path, O_RDONLY, 0);
    if (descriptor < 0) return errno;
    int error = syscall(SYS_finit_module, descriptor, "", 0) == 0 || errno == EEXIST ? 0 : errno;
    close(descriptor);
    return error;
}

static void put_address(struct sockaddr *place, uint32_t address) {
    struct sockaddr_in value = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    memcpy(place, &value, sizeof value);
}

int cp_bring_up(const void *interface, uint32_t address, uint32_t netmask, uint32_t gateway) {
    struct ifreq request = {0};
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return errno;
    strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
    int result = 0;
    if (address) {
        put_address(&request.ifr_addr, address);
        result = ioctl(descriptor, SIOCSIFADDR, &request);
        put_address(&request.ifr_netmask, netmask);
        if (result == 0) result = ioctl(descriptor, SIOCSIFNETMASK, &request);
    }
    if (result == 0) result = ioctl(descriptor, SIOCGIFFLAGS, &request);
    request.ifr_flags |= IFF_UP;
    if (result == 0) result = ioctl(descriptor, SIOCSIFFLAGS, &request);
    if (result == 0 && gateway) {
        put_address(&route.rt_dst, 0);
        put_address(&route.rt_genmask, 0);
        put_address(&route.rt_gateway, gateway);
        result = ioctl(descriptor, SIOCADDRT, &route);
    }
    int error = result == 0 ? 0 : errno;
    close(descriptor);
    return error;
}

static void first_process_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGCHLD);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGPWR);
}

// Blocked, they wait for cp_await_signal; the kernel would drop them for a first process that has no handler. It sends
// SIGINT for Ctrl-Alt-Del, where it would restart the machine itself.
void cp_hold_signals(void) {
    sigset_t set;
    first_process_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    reboot(RB_DISABLE_CAD);
}

int cp_await_signal(int64_t milliseconds) {
    struct timespec wait = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000};
    sigset_t set;
    first_process_signals(&set);
    int signal = sigtimedwait(&set, NULL, milliseconds < 0 ? NULL : &wait);
    return signal > 0 ? signal : 0;
}

// The child shares this process's memory until it becomes the program: between the two it calls the kernel and nothing else.
int cp_spawn(const void *program, const void *command, const void *option, const void *value) {
    const char *arguments[] = {program, command, option, value, NULL};
    sigset_t none;
    sigemptyset(&none);
    pid_t child = vfork();
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &none, NULL);
        execv(program, (char *const *)arguments);
        _exit(127);
    }
    return child;
}
