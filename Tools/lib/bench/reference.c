// The least that an HTTP server over epoll can do: every request that ends in an empty line (and its Content-Length
// bytes of body) gets the same answer. It is the ceiling that Tools/bench holds the agent against; nothing else uses it.
//
//   reference PORT [BODY]
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { buffer_bytes = 16 * 1024, connections = 4096, events_at_once = 128 };

struct connection {
    size_t used;
    char buffer[buffer_bytes];
};

static struct connection *table[connections];
static char answer[4096];
static size_t answer_bytes;

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

// The length of the request at the front of the buffer, or 0 when it has not come to its end.
static size_t request_length(const char *bytes, size_t count) {
    const char *end = memmem(bytes, count, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = (size_t)(end - bytes) + 4, body = 0;
    const char *length = memmem(bytes, head, "Content-Length: ", 16);
    if (length) body = strtoul(length + 16, NULL, 10);
    return count >= head + body ? head + body : 0;
}

static void drop(int descriptor) {
    free(table[descriptor]);
    table[descriptor] = NULL;
    close(descriptor);
}

static void serve(int descriptor) {
    struct connection *connection = table[descriptor];
    ssize_t n = recv(descriptor, connection->buffer + connection->used, buffer_bytes - connection->used, 0);
    if (n <= 0) {
        drop(descriptor);
        return;
    }
    connection->used += (size_t)n;
    char out[16 * sizeof answer];
    size_t start = 0, out_bytes = 0, length;
    while ((length = request_length(connection->buffer + start, connection->used - start)) > 0) {
        start += length;
        if (out_bytes + answer_bytes > sizeof out) break;
        memcpy(out + out_bytes, answer, answer_bytes);
        out_bytes += answer_bytes;
    }
    memmove(connection->buffer, connection->buffer + start, connection->used - start);
    connection->used -= start;
    if (out_bytes > 0 && send(descriptor, out, out_bytes, MSG_NOSIGNAL) != (ssize_t)out_bytes) drop(descriptor);
}

int main(int count, char **arguments) {
    if (count < 2) return 2;
    const char *body = count > 2 ? arguments[2] : "{}";
    answer_bytes = (size_t)snprintf(
        answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        strlen(body), body);
    if (answer_bytes >= sizeof answer) return 2;
    int listener = listen_on(atoi(arguments[1])), poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[events_at_once];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, events_at_once, -1);
        for (int i = 0; i < ready; i++) {
            int descriptor = events[i].data.fd;
            if (descriptor != listener) {
                serve(descriptor);
                continue;
            }
            int on = 1, accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (accepted < 0) continue;
            if (accepted >= connections) {
                close(accepted);
                continue;
            }
            setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            table[accepted] = calloc(1, sizeof(struct connection));
            event.events = EPOLLIN;
            event.data.fd = accepted;
            epoll_ctl(poller, EPOLL_CTL_ADD, accepted, &event);
        }
    }
}
