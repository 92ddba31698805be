// What the reference servers in C of Tools/bench have in common: one thread, one epoll, keep-alive and pipelining. Whoever
// includes it defines `respond`; nothing but Tools/lib/bench/*.c uses it.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    buffer_bytes = 16 * 1024,
    connections = 4096,
    events_at_once = 128,
    out_bytes_most = 64 * 1024,
    answer_bytes_most = 4096,
};

struct connection {
    size_t used;
    char buffer[buffer_bytes];
};

static struct connection *table[connections];

// Takes the request at the front of `bytes`, if it has come to its end, and writes its answer, `answer_bytes_most` at most.
// Returns the request's length; 0 when it has not come to its end. `ends` is set where the connection is to be closed.
static size_t respond(const char *bytes, size_t count, char *out, size_t *out_bytes, int *ends);

// Called around the requests of one wake-up: what is held for them is not held while the server waits.
static void begin_requests(void);
static void end_requests(void);

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int listen_on(int port) {
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (listen(listener, 1024) < 0) fail("listen");
    return listener;
}

static void drop(int descriptor) {
    free(table[descriptor]);
    table[descriptor] = NULL;
    close(descriptor);
}

// A client that does not take its answers is not waited for.
static int sent(int descriptor, const char *out, size_t *out_bytes) {
    size_t bytes = *out_bytes;
    *out_bytes = 0;
    return send(descriptor, out, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static void serve(int descriptor) {
    struct connection *connection = table[descriptor];
    if (!connection) return;
    ssize_t n = recv(descriptor, connection->buffer + connection->used, buffer_bytes - connection->used, 0);
    if (n <= 0) {
        drop(descriptor);
        return;
    }
    connection->used += (size_t)n;
    static char out[out_bytes_most];
    size_t start = 0, out_bytes = 0, length;
    int ends = 0;
    while (!ends && start < connection->used
           && (length = respond(connection->buffer + start, connection->used - start, out, &out_bytes, &ends)) > 0) {
        start += length;
        if (out_bytes + answer_bytes_most > sizeof out && !ends) ends = !sent(descriptor, out, &out_bytes);
    }
    // A request that fills the buffer will never come to its end.
    if (start == 0 && connection->used == buffer_bytes) ends = 1;
    memmove(connection->buffer, connection->buffer + start, connection->used - start);
    connection->used -= start;
    if (out_bytes > 0 && !sent(descriptor, out, &out_bytes)) ends = 1;
    if (ends) drop(descriptor);
}

static void accept_all(int listener, int poller) {
    int on = 1, accepted;
    while ((accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (accepted >= connections) {
            close(accepted);
            continue;
        }
        setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        table[accepted] = calloc(1, sizeof(struct connection));
        if (!table[accepted]) fail("calloc");
        struct epoll_event event = {.events = EPOLLIN, .data.fd = accepted};
        epoll_ctl(poller, EPOLL_CTL_ADD, accepted, &event);
    }
}

static void run(int port) {
    int listener = listen_on(port), poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[events_at_once];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, events_at_once, -1);
        if (ready <= 0) continue;
        begin_requests();
        for (int i = 0; i < ready; i++) {
            int descriptor = events[i].data.fd;
            if (descriptor == listener) accept_all(listener, poller);
            else serve(descriptor);
        }
        end_requests();
    }
}
