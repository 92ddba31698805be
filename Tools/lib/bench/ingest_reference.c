// The least that a durable event collector can do, to hold the agent against: HTTP just enough, the LMDB writes that the
// agent does for an event of a known person, one commit for everything that has queued up, answers after the sync. There
// is no JSON tree, no hashing, no schema, no consent and no rule. Tools/bench ingest runs it; nothing else uses it.
//
//   ingest_reference serve PORT FOLDER THREADS PROFILE_BYTES LEFT_OUT_BYTES [without-dedup]
//       PROFILE_BYTES   length of a profile record
//       LEFT_OUT_BYTES  what the agent leaves out of an event when it keeps it (identifiers, message id, white space)
//       without-dedup   leaves out the tables of message ids: what remembering them costs is the difference
//   ingest_reference sizes FOLDER
//       prints entries and mean sizes of each table of a store, this one's or the agent's, as JSON: whether both have
//       written the same can be checked instead of believed.
//
// One thread accepts; THREADS threads read and answer, each over an epoll of its own; one thread writes. A connection has
// one request under way at a time, and its buffer is the request's: what waits for the writer is bounded by them.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <lmdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    connections_most = 1024,
    threads_most = 16,
    events_at_once = 128,
    buffer_bytes_first = 4 * 1024,
    request_bytes_most = 520 * 1024,  // The agent's largest batch and its head.
    remembered_messages = 500 * 1000, // The agent's window of message ids.
    sum_bytes = 4,                    // Of a row, behind its value.
    log_header_bytes = 48 + 72,       // The agent's header of a log entry and its one identifier.
    consent_bytes = 4 + 2 * 16,       // Two purposes.
    ledger_bytes = 4 + 10 * 8,
};

struct connection {
    struct connection *next; // In the writer's queue or in a thread's list of answers.
    struct server *server;
    int descriptor;
    int is_waiting;  // For the writer: the buffer is not to be touched.
    int has_ended;   // The client went away meanwhile.
    size_t used, capacity, body_start, body_bytes;
    char *buffer;
};

// A thread that reads requests and sends answers.
struct server {
    int poller, notifier;
    pthread_mutex_t lock;
    struct connection *answered; // Under `lock`.
};

static struct server servers[threads_most];
static int server_count;
static int open_connections;

// The queue of the writer.
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static struct connection *queue_first, **queue_end = &queue_first;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void require(const char *what, int code) {
    if (code == 0) return;
    fprintf(stderr, "%s: %s\n", what, mdb_strerror(code));
    exit(1);
}

// --- The store ------------------------------------------------------------------------------------------------------

enum table { identifiers, profiles, links, consent, log_table, messages, message_order, accounts, table_count };
static const char *const table_names[table_count] = {
    "identifiers", "profiles", "links", "consent", "log", "messages", "message_order", "accounts"};

static MDB_env *environment;
static MDB_dbi tables[table_count];
static uint64_t next_sequence = 1, next_message = 1;
static size_t profile_bytes, left_out_bytes;
static int remembers_messages = 1;

static void open_store(const char *folder) {
    MDB_txn *transaction;
    mkdir(folder, 0700);
    require("mdb_env_create", mdb_env_create(&environment));
    mdb_env_set_maxdbs(environment, 32);
    mdb_env_set_maxreaders(environment, 126);
    mdb_env_set_mapsize(environment, (size_t)8 << 30);
    require("mdb_env_open", mdb_env_open(environment, folder, MDB_NOTLS | MDB_NORDAHEAD, 0600));
    require("mdb_txn_begin", mdb_txn_begin(environment, NULL, 0, &transaction));
    for (int table = 0; table < table_count; table++)
        require("mdb_dbi_open", mdb_dbi_open(transaction, table_names[table], MDB_CREATE, &tables[table]));
    require("mdb_txn_commit", mdb_txn_commit(transaction));
}

static int get(MDB_txn *transaction, enum table table, const void *key, size_t key_bytes, MDB_val *value) {
    MDB_val name = {key_bytes, (void *)(uintptr_t)key};
    int code = mdb_get(transaction, tables[table], &name, value);
    if (code != MDB_NOTFOUND) require("mdb_get", code);
    return code == 0;
}

// Makes room for a value and returns it, to be filled before the next change; NULL where there is one that shall stay. Behind
// it are the bytes of the agent's checksum of a row, which is not reckoned here.
static void *reserve(MDB_txn *transaction, enum table table, const void *key, size_t key_bytes, size_t bytes,
                     unsigned flags) {
    MDB_val name = {key_bytes, (void *)(uintptr_t)key}, data = {bytes + sum_bytes, NULL};
    int code = mdb_put(transaction, tables[table], &name, &data, flags | MDB_RESERVE);
    if (code == MDB_KEYEXIST) return NULL;
    require("mdb_put", code);
    memset((char *)data.mv_data + bytes, 0, sum_bytes);
    return data.mv_data;
}

static int put(MDB_txn *transaction, enum table table, const void *key, size_t key_bytes, const void *value,
               size_t bytes, unsigned flags) {
    void *data = reserve(transaction, table, key, key_bytes, bytes, flags);
    if (data) memcpy(data, value, bytes);
    return data != NULL;
}

// Numbers in keys are big-endian, as the agent's: LMDB's order of bytes is their order.
static uint64_t number_key(uint64_t number) { return __builtin_bswap64(number); }

// 64 bits of a text, spread as a hash's are, so that keys fall where the agent's fall; no cryptography.
static uint64_t spread(const char *text, size_t bytes, uint64_t seed) {
    uint64_t state = seed ^ bytes, word;
    for (; bytes >= 8; text += 8, bytes -= 8) {
        memcpy(&word, text, 8);
        state = (state ^ word) * 0xFF51AFD7ED558CCDu;
        state ^= state >> 32;
    }
    word = 0;
    memcpy(&word, text, bytes);
    state = (state ^ word) * 0xC4CEB9FE1A85EC53u;
    return (state ^ state >> 29) * 0xFF51AFD7ED558CCDu;
}

static void spread_over(void *key, size_t key_bytes, const char *text, size_t bytes) {
    for (size_t at = 0; at < key_bytes; at += 8) {
        uint64_t word = spread(text, bytes, at * 0x9E3779B97F4A7C15u);
        memcpy((char *)key + at, &word, key_bytes - at < 8 ? key_bytes - at : 8);
    }
}

// The text of a member of an event, or of anything below it: good enough for the bodies of this bench.
static const char *member(const char *event, size_t bytes, const char *prefix, size_t *length) {
    size_t prefix_bytes = strlen(prefix);
    const char *at = memmem(event, bytes, prefix, prefix_bytes), *end;
    if (!at) return NULL;
    at += prefix_bytes;
    end = memchr(at, '"', (size_t)(event + bytes - at));
    if (!end) return NULL;
    *length = (size_t)(end - at);
    return at;
}

static void forget_oldest_message(MDB_txn *transaction) {
    uint64_t order = number_key(next_message - remembered_messages);
    MDB_val name = {sizeof order, &order}, key;
    char copy[16];
    if (!get(transaction, message_order, &order, sizeof order, &key)) return;
    memcpy(copy, key.mv_data, sizeof copy);
    MDB_val message = {sizeof copy, copy};
    mdb_del(transaction, tables[messages], &message, NULL);
    mdb_del(transaction, tables[message_order], &name, NULL);
}

static int remember_message(MDB_txn *transaction, const char *id, size_t id_bytes) {
    char key[16];
    uint64_t order = number_key(next_message);
    spread_over(key, sizeof key, id, id_bytes);
    if (!put(transaction, messages, key, sizeof key, &order, sizeof order, MDB_NOOVERWRITE)) return 0;
    put(transaction, message_order, &order, sizeof order, key, sizeof key, MDB_APPEND);
    if (++next_message > remembered_messages) forget_oldest_message(transaction);
    return 1;
}

// A person who was not seen before, with one identifier and a consent record.
static void make_person(MDB_txn *transaction, const char *identifier_key, size_t key_bytes, const char *person) {
    char link[16 + 36], choices[consent_bytes] = {0}, time[8] = {0};
    memcpy(link, person, 16);
    memcpy(link + 16, identifier_key, key_bytes);
    put(transaction, identifiers, identifier_key, key_bytes, person, 16, 0);
    put(transaction, links, link, sizeof link, time, sizeof time, 0);
    put(transaction, consent, person, 16, choices, sizeof choices, 0);
    memset(reserve(transaction, profiles, person, 16, profile_bytes, 0), 0, profile_bytes);
}

static void write_event(MDB_txn *transaction, const char *event, size_t bytes) {
    size_t id_bytes, user_bytes, kept = bytes > left_out_bytes ? bytes - left_out_bytes : 0;
    const char *id = member(event, bytes, "\"messageId\":\"", &id_bytes);
    const char *user = member(event, bytes, "\"userId\":\"", &user_bytes);
    if (!id || !user) return;
    if (remembers_messages && !remember_message(transaction, id, id_bytes)) return;

    char identifier_key[36], person[16], record[4096];
    MDB_val value;
    spread_over(identifier_key, sizeof identifier_key, user, user_bytes);
    if (get(transaction, identifiers, identifier_key, sizeof identifier_key, &value)) {
        memcpy(person, value.mv_data, sizeof person);
    } else {
        spread_over(person, sizeof person, identifier_key, sizeof identifier_key);
        make_person(transaction, identifier_key, sizeof identifier_key, person);
    }
    get(transaction, consent, person, sizeof person, &value);
    if (get(transaction, profiles, person, sizeof person, &value)) {
        memcpy(record, value.mv_data, profile_bytes);
        record[0]++;
        put(transaction, profiles, person, sizeof person, record, profile_bytes, 0);
    }
    uint64_t sequence = number_key(next_sequence++);
    char *entry = reserve(transaction, log_table, &sequence, sizeof sequence, log_header_bytes + id_bytes + kept, MDB_APPEND);
    if (!entry) fail("the log has this number already");
    memset(entry, 0, log_header_bytes);
    memcpy(entry + log_header_bytes, id, id_bytes);
    memcpy(entry + log_header_bytes + id_bytes, event, kept);
}

// The end of the JSON object that begins at `at`, by its braces; NULL when there is none.
static const char *object_end(const char *at, const char *end) {
    int depth = 0, is_text = 0;
    for (; at < end; at++) {
        if (is_text) {
            if (*at == '\\') at++;
            else if (*at == '"') is_text = 0;
        } else if (*at == '"') {
            is_text = 1;
        } else if (*at == '{') {
            depth++;
        } else if (*at == '}' && --depth == 0) {
            return at + 1;
        }
    }
    return NULL;
}

static void write_request(MDB_txn *transaction, struct connection *connection) {
    const char *at = connection->buffer + connection->body_start, *end = at + connection->body_bytes, *stop;
    const char *batch = memmem(at, connection->body_bytes < 64 ? connection->body_bytes : 64, "\"batch\":[", 9);
    if (!batch) {
        write_event(transaction, at, connection->body_bytes);
        return;
    }
    for (at = batch + 9; at < end && *at == '{' && (stop = object_end(at, end)); at = stop + 1)
        write_event(transaction, at, (size_t)(stop - at));
}

static void answer_all(struct connection *first) {
    int needs_wake[threads_most] = {0};
    while (first) {
        struct connection *connection = first;
        struct server *server = connection->server;
        first = connection->next;
        pthread_mutex_lock(&server->lock);
        connection->next = server->answered;
        server->answered = connection;
        pthread_mutex_unlock(&server->lock);
        needs_wake[server - servers] = 1;
    }
    for (int i = 0; i < server_count; i++)
        if (needs_wake[i]) eventfd_write(servers[i].notifier, 1);
}

static void *write_for_ever(void *unused) {
    char ledger[ledger_bytes] = {0};
    (void)unused;
    prctl(PR_SET_NAME, "writer");
    for (;;) {
        pthread_mutex_lock(&queue_lock);
        while (!queue_first) pthread_cond_wait(&queue_filled, &queue_lock);
        struct connection *first = queue_first;
        queue_first = NULL;
        queue_end = &queue_first;
        pthread_mutex_unlock(&queue_lock);

        MDB_txn *transaction;
        require("mdb_txn_begin", mdb_txn_begin(environment, NULL, 0, &transaction));
        for (struct connection *connection = first; connection; connection = connection->next)
            write_request(transaction, connection);
        memcpy(ledger + 4, &next_sequence, sizeof next_sequence);
        put(transaction, accounts, "ledger", 6, ledger, sizeof ledger, 0);
        require("mdb_txn_commit", mdb_txn_commit(transaction));
        answer_all(first);
    }
    return NULL;
}

// --- HTTP -----------------------------------------------------------------------------------------------------------

static void drop(struct connection *connection) {
    close(connection->descriptor);
    free(connection->buffer);
    free(connection);
    __atomic_sub_fetch(&open_connections, 1, __ATOMIC_RELAXED);
}

static void send_text(struct connection *connection, const char *status, const char *body) {
    char text[256];
    int bytes = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                         status, strlen(body), body);
    if (send(connection->descriptor, text, (size_t)bytes, MSG_NOSIGNAL) != bytes) connection->has_ended = 1;
}

// Finds where the request's head ends and how long its body is; 0 while the head is not whole.
static int find_body(struct connection *connection) {
    const char *end = memmem(connection->buffer, connection->used, "\r\n\r\n", 4);
    if (!end) return 0;
    connection->body_start = (size_t)(end - connection->buffer) + 4;
    const char *length = memmem(connection->buffer, connection->body_start, "Content-Length: ", 16);
    connection->body_bytes = length ? strtoul(length + 16, NULL, 10) : 0;
    return 1;
}

static int make_room(struct connection *connection) {
    size_t capacity = connection->capacity ? connection->capacity * 4 : buffer_bytes_first;
    if (connection->used < connection->capacity) return 1;
    if (connection->used >= request_bytes_most) return 0;
    char *larger = realloc(connection->buffer, capacity < request_bytes_most ? capacity : request_bytes_most);
    if (!larger) return 0;
    connection->buffer = larger;
    connection->capacity = capacity < request_bytes_most ? capacity : request_bytes_most;
    return 1;
}

// Hands the request at the front of the buffer over, or answers it when it is a question.
static void dispatch(struct connection *connection) {
    if (memcmp(connection->buffer, "POST ", 5) != 0) {
        send_text(connection, "200 OK", "{}");
        connection->used = 0;
        return;
    }
    connection->is_waiting = 1;
    connection->next = NULL;
    pthread_mutex_lock(&queue_lock);
    int was_empty = queue_first == NULL;
    *queue_end = connection;
    queue_end = &connection->next;
    pthread_mutex_unlock(&queue_lock);
    if (was_empty) pthread_cond_signal(&queue_filled);
}

static void receive(struct server *server, struct connection *connection) {
    if (connection->is_waiting) { // It hung up (nothing is sent ahead here): dropped when the writer is done with it.
        connection->has_ended = 1;
        epoll_ctl(server->poller, EPOLL_CTL_DEL, connection->descriptor, NULL);
        return;
    }
    ssize_t count = -1;
    if (make_room(connection))
        count = recv(connection->descriptor, connection->buffer + connection->used,
                     connection->capacity - connection->used, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
        drop(connection);
        return;
    }
    connection->used += (size_t)count;
    if (find_body(connection) && connection->used >= connection->body_start + connection->body_bytes)
        dispatch(connection);
    if (connection->has_ended && !connection->is_waiting) drop(connection);
}

static void send_answers(struct server *server) {
    eventfd_t ignored;
    eventfd_read(server->notifier, &ignored);
    pthread_mutex_lock(&server->lock);
    struct connection *first = server->answered;
    server->answered = NULL;
    pthread_mutex_unlock(&server->lock);
    while (first) {
        struct connection *connection = first;
        first = connection->next;
        connection->is_waiting = 0;
        connection->used = 0;
        if (!connection->has_ended) send_text(connection, "200 OK", "{\"success\":true}");
        if (connection->has_ended) drop(connection);
    }
}

static void *serve_for_ever(void *argument) {
    struct server *server = argument;
    struct epoll_event events[events_at_once];
    prctl(PR_SET_NAME, "server");
    for (;;) {
        int ready = epoll_wait(server->poller, events, events_at_once, -1), has_answers = 0;
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr) receive(server, events[i].data.ptr);
            else has_answers = 1;
        }
        // Last, since it may free connections that these events name.
        if (has_answers) send_answers(server);
    }
    return NULL;
}

static void start_server(struct server *server) {
    pthread_t thread;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    server->poller = epoll_create1(0);
    server->notifier = eventfd(0, EFD_NONBLOCK);
    pthread_mutex_init(&server->lock, NULL);
    epoll_ctl(server->poller, EPOLL_CTL_ADD, server->notifier, &event);
    if (pthread_create(&thread, NULL, serve_for_ever, server) != 0) fail("pthread_create");
}

static void accept_for_ever(int port) {
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0), next = 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (listen(listener, 1024) < 0) fail("listen");
    for (;;) {
        int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (descriptor < 0) continue;
        struct connection *connection = calloc(1, sizeof *connection);
        if (!connection || __atomic_add_fetch(&open_connections, 1, __ATOMIC_RELAXED) > connections_most) {
            fprintf(stderr, "there are too many connections\n");
            exit(1);
        }
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection->descriptor = descriptor;
        connection->server = &servers[next++ % server_count];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        epoll_ctl(connection->server->poller, EPOLL_CTL_ADD, descriptor, &event);
    }
}

// --- Sizes ----------------------------------------------------------------------------------------------------------

static void print_sizes(const char *folder) {
    MDB_txn *transaction;
    MDB_cursor *cursor;
    require("mdb_env_create", mdb_env_create(&environment));
    mdb_env_set_maxdbs(environment, 32);
    require("mdb_env_open", mdb_env_open(environment, folder, MDB_RDONLY, 0600));
    require("mdb_txn_begin", mdb_txn_begin(environment, NULL, MDB_RDONLY, &transaction));
    for (int table = 0; table < table_count; table++) {
        MDB_val key, value;
        double entries = 0, key_bytes = 0, value_bytes = 0;
        require(table_names[table], mdb_dbi_open(transaction, table_names[table], 0, &tables[table]));
        require("mdb_cursor_open", mdb_cursor_open(transaction, tables[table], &cursor));
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            entries++;
            key_bytes += (double)key.mv_size;
            value_bytes += (double)value.mv_size - sum_bytes;
        }
        printf("%s\"%s\": {\"entries\": %.0f, \"key_bytes\": %.2f, \"value_bytes\": %.2f}", table ? ", " : "{",
               table_names[table], entries, entries ? key_bytes / entries : 0, entries ? value_bytes / entries : 0);
    }
    printf("}\n");
}

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "sizes") == 0) {
        print_sizes(arguments[2]);
        return 0;
    }
    if (count < 7 || strcmp(arguments[1], "serve") != 0) return 2;
    server_count = atoi(arguments[4]);
    profile_bytes = strtoul(arguments[5], NULL, 10);
    left_out_bytes = strtoul(arguments[6], NULL, 10);
    remembers_messages = count == 7;
    if (server_count < 1 || server_count > threads_most || profile_bytes < 1 || profile_bytes > 2000) return 2;
    open_store(arguments[3]);
    pthread_t writer;
    if (pthread_create(&writer, NULL, write_for_ever, NULL) != 0) fail("pthread_create");
    for (int i = 0; i < server_count; i++) start_server(&servers[i]);
    accept_for_ever(atoi(arguments[2]));
}
