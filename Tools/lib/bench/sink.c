// A hub that only takes: HTTP/1.1 over TLS 1.2, one thread a connection; each request is read, unpacked, its messages counted,
// and answered 200. Fast enough not to be what Tools/bench delivery measures.
//
//   sink PORT CERTIFICATE KEY [pause MILLISECONDS]
//
// Prints the port when it listens, and on SIGTERM one JSON object: requests, messages, and bytes of bodies as sent and before
// compression. With a pause it waits that long before each answer.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

enum { request_bytes_most = 4 << 20 };

static SSL_CTX *context;
static int pause_milliseconds;
static atomic_ulong requests, messages, packed_bytes, plain_bytes;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void report(int number) {
    (void)number;
    char text[200];
    int bytes = snprintf(text, sizeof text, "{\"requests\": %lu, \"messages\": %lu, \"packed_bytes\": %lu, \"plain_bytes\": %lu}\n",
                         requests, messages, packed_bytes, plain_bytes);
    if (write(1, text, (size_t)bytes) < 0) _exit(1);
    _exit(0);
}

// Each message has one "messageId" at its beginning, and no text in it can hold the quotes.
static void count(const unsigned char *body, size_t bytes, unsigned char *room) {
    z_stream stream = {.next_in = (unsigned char *)body, .avail_in = (unsigned)bytes, .next_out = room,
                       .avail_out = request_bytes_most};
    if (inflateInit2(&stream, 31) != Z_OK) return;
    int code = inflate(&stream, Z_FINISH);
    size_t plain = stream.total_out;
    inflateEnd(&stream);
    if (code != Z_STREAM_END) return;
    unsigned long found = 0;
    static const char mark[] = "{\"messageId\":\"";
    for (unsigned char *at = room; (at = memmem(at, plain - (size_t)(at - room), mark, sizeof mark - 1)); at++) found++;
    requests++;
    messages += found;
    packed_bytes += bytes;
    plain_bytes += plain;
}

static void *serve(void *argument) {
    int descriptor = (int)(long)argument;
    SSL *session = SSL_new(context);
    SSL_set_fd(session, descriptor);
    unsigned char *in = malloc(request_bytes_most + 1), *room = malloc(request_bytes_most);
    size_t have = 0;
    if (SSL_accept(session) == 1 && in && room) {
        for (;;) {
            in[have] = 0;
            char *end = memmem(in, have, "\r\n\r\n", 4);
            size_t head = end ? (size_t)(end - (char *)in) + 4 : 0, length = 0;
            if (end) {
                char *field = strcasestr((char *)in, "\r\nContent-Length:");
                if (!field || field > end) break;
                length = strtoul(field + 17, NULL, 10);
                if (head + length > request_bytes_most) break;
            }
            if (!end || have < head + length) {
                int got = SSL_read(session, in + have, (int)(request_bytes_most - have));
                if (got <= 0) break;
                have += (size_t)got;
                continue;
            }
            count(in + head, length, room);
            if (pause_milliseconds) usleep((useconds_t)pause_milliseconds * 1000);
            static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            if (SSL_write(session, answer, sizeof answer - 1) <= 0) break;
            memmove(in, in + head + length, have - head - length);
            have -= head + length;
        }
    }
    SSL_free(session);
    close(descriptor);
    free(in);
    free(room);
    return NULL;
}

int main(int argument_count, char **arguments) {
    if (argument_count != 4 && argument_count != 6) return 2;
    if (argument_count == 6) pause_milliseconds = atoi(arguments[5]);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, report);
    context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    if (SSL_CTX_use_certificate_chain_file(context, arguments[2]) != 1
        || SSL_CTX_use_PrivateKey_file(context, arguments[3], SSL_FILETYPE_PEM) != 1) fail("certificate");
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 64) < 0) fail("listen");
    printf("%s\n", arguments[1]);
    fflush(stdout);
    for (;;) {
        int descriptor = accept(listener, NULL, NULL);
        if (descriptor < 0) continue;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, (void *)(long)descriptor) == 0) pthread_detach(thread);
    }
}
