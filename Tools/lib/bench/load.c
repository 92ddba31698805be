// Sends events over HTTP as fast as they are answered, each with a message id of its own, and says how many and how
// quickly. One thread, one request under way on each connection, so that the client costs little and both servers of
// Tools/bench ingest get the same bytes in the same order.
//
//   load PORT PATH CONNECTIONS BATCH TEMPLATES PEOPLE FIRST IDS seconds|events NUMBER
//       BATCH       events a request; 1 sends an event as it is, more as {"batch":[…]}
//       TEMPLATES   a file with one event a line, in which @@@@@@@@@@@@@@@@ is where the event's number goes (its message
//                   id) and ######## is where the person's number goes
//       PEOPLE      how many people the events are of, by turns
//       FIRST       number of the first event
//       IDS         message ids begin again after so many; 0 for never
//       NUMBER      the length of the run, or how many events are sent
//
// Prints one JSON object. Ends with an error when an answer is not 200 or a connection fails.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    connections_most = 512,
    templates_most = 64,
    template_bytes_most = 4096,
    batch_most = 1000,
    number_digits = 16,
    person_digits = 8,
    answer_bytes_most = 8192,
    step_microseconds = 5,
    steps = 1000 * 1000, // Of the histogram: up to five seconds.
};

struct template {
    char text[template_bytes_most];
    size_t bytes, number_at, person_at;
};

struct connection {
    int descriptor;
    char *out;
    size_t out_bytes, out_sent, in_bytes;
    int64_t sent_at;
    int is_busy;
    char in[answer_bytes_most];
};

static struct template templates[templates_most];
static size_t template_count;
static const char *path;
static int port, batch;
static uint64_t people, next_event, ids;
static int64_t deadline;
static uint64_t last_event = UINT64_MAX;
static uint32_t histogram[steps];
static uint64_t answered, outstanding;

static void fail(const char *what) {
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static int64_t now_microseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static size_t place_of(const struct template *template, const char *mark) {
    const char *at = memmem(template->text, template->bytes, mark, strlen(mark));
    if (!at) fail("a template has no place for the event's number or none for the person's");
    return (size_t)(at - template->text);
}

static void read_templates(const char *name) {
    FILE *file = fopen(name, "r");
    if (!file) fail(name);
    while (template_count < templates_most && fgets(templates[template_count].text, template_bytes_most, file)) {
        struct template *template = &templates[template_count++];
        template->bytes = strcspn(template->text, "\n");
        template->number_at = place_of(template, "@@@@@@@@@@@@@@@@");
        template->person_at = place_of(template, "########");
    }
    fclose(file);
    if (template_count == 0) fail("there are no templates");
}

static void write_digits(char *at, int digits, uint64_t number) {
    for (int i = digits - 1; i >= 0; i--, number /= 10) at[i] = (char)('0' + number % 10);
}

// Writes the next event. People take turns in an order without neighbours, and each goes through all templates.
static size_t write_event(char *at) {
    uint64_t number = next_event++, round = number / people;
    const struct template *template = &templates[(number + round) % template_count];
    memcpy(at, template->text, template->bytes);
    write_digits(at + template->number_at, number_digits, ids ? number % ids : number);
    write_digits(at + template->person_at, person_digits, number * 7919 % people);
    return template->bytes;
}

static void write_request(struct connection *connection) {
    // The head's length is known when the body is there: it is written into the room before it.
    enum { head_room = 256 };
    char head[head_room], *body = connection->out + head_room;
    size_t bytes = 0;
    if (batch > 1) {
        memcpy(body, "{\"batch\":[", 10);
        bytes = 10;
        for (int i = 0; i < batch; i++) {
            if (i > 0) body[bytes++] = ',';
            bytes += write_event(body + bytes);
        }
        memcpy(body + bytes, "]}", 2);
        bytes += 2;
    } else {
        bytes = write_event(body);
    }
    int head_bytes = snprintf(head, sizeof head,
                              "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                              "Content-Length: %zu\r\n\r\n",
                              path, port, bytes);
    memcpy(body - head_bytes, head, (size_t)head_bytes);
    connection->out_sent = (size_t)(head_room - head_bytes);
    connection->out_bytes = head_room + bytes;
}

static void send_more(struct connection *connection) {
    while (connection->out_sent < connection->out_bytes) {
        ssize_t count = send(connection->descriptor, connection->out + connection->out_sent,
                             connection->out_bytes - connection->out_sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN) return;
        if (count < 0) fail("send");
        connection->out_sent += (size_t)count;
    }
}

static void begin(struct connection *connection) {
    connection->is_busy = 0;
    if (next_event >= last_event || (deadline && now_microseconds() >= deadline)) return;
    write_request(connection);
    connection->sent_at = now_microseconds();
    connection->is_busy = 1;
    connection->in_bytes = 0;
    outstanding++;
    send_more(connection);
}

// Whether the answer is whole; anything but 200 ends the run.
static int is_answered(struct connection *connection) {
    connection->in[connection->in_bytes] = 0;
    const char *end = strstr(connection->in, "\r\n\r\n");
    if (!end) return 0;
    const char *length = strcasestr(connection->in, "\r\nContent-Length:");
    size_t body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
    if ((size_t)(end - connection->in) + 4 + body > connection->in_bytes) return 0;
    errno = 0;
    if (strncmp(connection->in, "HTTP/1.1 200 ", 13) != 0) fail(connection->in);
    return 1;
}

static void receive(struct connection *connection) {
    for (;;) {
        ssize_t count = recv(connection->descriptor, connection->in + connection->in_bytes,
                             answer_bytes_most - 1 - connection->in_bytes, 0);
        if (count < 0 && errno == EAGAIN) return;
        if (count <= 0) fail("the server has closed a connection");
        connection->in_bytes += (size_t)count;
        if (!connection->is_busy || !is_answered(connection)) continue;
        int64_t step = (now_microseconds() - connection->sent_at) / step_microseconds;
        histogram[step < steps ? step : steps - 1]++;
        answered++;
        outstanding--;
        begin(connection);
        return; // Whatever comes next is a new event of the poller: answers do not come in twos.
    }
}

static void open_connection(struct connection *connection, int poller) {
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->descriptor = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(connection->descriptor, F_SETFL, O_NONBLOCK);
    connection->out = malloc(256 + 16 + (size_t)batch * (template_bytes_most + 1));
    if (!connection->out) fail("malloc");
    // Edge-triggered, in and out at once: nothing needs to be changed while it runs.
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_ADD, connection->descriptor, &event);
}

static double milliseconds_at(double share) {
    uint64_t sum = 0;
    for (int step = 0; step < steps; step++)
        if ((sum += histogram[step]) >= share * (double)answered) return (step + 0.5) * step_microseconds / 1000;
    return 0;
}

int main(int count, char **arguments) {
    if (count != 11) return 2;
    port = atoi(arguments[1]);
    path = arguments[2];
    int connection_count = atoi(arguments[3]);
    batch = atoi(arguments[4]);
    read_templates(arguments[5]);
    people = strtoull(arguments[6], NULL, 10);
    next_event = strtoull(arguments[7], NULL, 10);
    ids = strtoull(arguments[8], NULL, 10);
    int is_timed = strcmp(arguments[9], "seconds") == 0;
    double length = atof(arguments[10]);
    if (connection_count < 1 || connection_count > connections_most || batch < 1 || batch > batch_most || people < 1)
        return 2;

    uint64_t first_event = next_event;
    int poller = epoll_create1(0);
    struct connection *connections = calloc((size_t)connection_count, sizeof *connections);
    for (int i = 0; i < connection_count; i++) open_connection(&connections[i], poller);
    int64_t start = now_microseconds();
    if (is_timed) deadline = start + (int64_t)(length * 1e6);
    else last_event = first_event + (uint64_t)length;
    for (int i = 0; i < connection_count; i++) begin(&connections[i]);
    while (outstanding > 0) {
        struct epoll_event events[connections_most];
        int ready = epoll_wait(poller, events, connections_most, 10000);
        if (ready == 0) fail("nothing was answered for ten seconds");
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (events[i].events & EPOLLOUT && connection->out_sent < connection->out_bytes) send_more(connection);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(connection);
        }
    }
    double seconds = (double)(now_microseconds() - start) / 1e6;
    double events = (double)(next_event - first_event);
    printf("{\"requests\": %llu, \"events\": %.0f, \"seconds\": %.6f, \"events_per_second\": %.1f, \"p50_ms\": %.3f, "
           "\"p99_ms\": %.3f, \"next\": %llu}\n",
           (unsigned long long)answered, events, seconds, events / seconds, milliseconds_at(0.5), milliseconds_at(0.99),
           (unsigned long long)next_event);
}
