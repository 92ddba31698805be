// The least that an HTTP server over epoll can do: every request that ends in an empty line (and its Content-Length
// bytes of body) gets the same answer. It is the ceiling that Tools/bench http holds the agent against; nothing else uses
// it.
//
//   reference PORT [BODY]
#include "server.h"

static char answer[answer_bytes_most];
static size_t answer_bytes;

// The length of the request at the front of the buffer, or 0 when it has not come to its end.
static size_t request_length(const char *bytes, size_t count) {
    const char *end = memmem(bytes, count, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = (size_t)(end - bytes) + 4, body = 0;
    const char *length = memmem(bytes, head, "Content-Length: ", 16);
    if (length) body = strtoul(length + 16, NULL, 10);
    return count >= head + body ? head + body : 0;
}

static size_t respond(const char *bytes, size_t count, char *out, size_t *out_bytes, int *ends) {
    size_t length = request_length(bytes, count);
    (void)ends;
    if (length == 0) return 0;
    memcpy(out + *out_bytes, answer, answer_bytes);
    *out_bytes += answer_bytes;
    return length;
}

static void begin_requests(void) {}
static void end_requests(void) {}

int main(int count, char **arguments) {
    if (count < 2) return 2;
    const char *body = count > 2 ? arguments[2] : "{}";
    answer_bytes = (size_t)snprintf(
        answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        strlen(body), body);
    if (answer_bytes >= sizeof answer) return 2;
    run(atoi(arguments[1]));
}
