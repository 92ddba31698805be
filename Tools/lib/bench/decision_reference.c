// What somebody would write by hand for one decision: an HTTP server over epoll that finds the person of the question in
// LMDB, decodes the attributes of Tools/lib/bench/rules.yaml from the record, tries its ten rules in turn and answers as
// OFREP has it. Tools/bench latency holds the agent against it; nothing else uses it.
//
//   decision_reference PORT FOLDER PEOPLE FORM ANSWER_BYTES
//       FOLDER        where the store is written, anew, before the first question
//       PEOPLE, FORM  keys of the people: printf's form for a number from 1 on; each has done what `events` in decisions.py
//                     lets a customer do
//       ANSWER_BYTES  the length of an answer's body, with a text in its metadata, so that both servers send as much
//
// The key is the person's name as it came. A grant and a checksum are looked at, and each answer has an id of its own. There
// are no keyed hashes of identifiers and no graph of who is who, no bundle that may change, no tokens, metrics or timeouts.
#include "server.h"

#include <lmdb.h>
#include <math.h>
#include <stdint.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

// --- The profile ----------------------------------------------------------------------------------------------------

struct text {
    const char *bytes;
    size_t length;
};

enum { elements_most = 20, name_bytes_most = 256, depth_most = 64, answer_bytes_least = 192 };

// What rules see. Unset numbers are NaN and unset texts have no length: no comparison with them holds.
struct profile {
    double revenue, largest;
    int64_t orders, views;
    struct text country, payment, first_shop, store;
    struct text viewed[elements_most], categories[elements_most];
    int64_t category_counts[elements_most];
    int viewed_count, category_count;
    int64_t seen_at, vip_until;
    int grants_personalization;
};

// A record: checksum (4), then for each attribute tag (1), 0 (1), length (2), payload. Numbers are little-endian.
enum tag { consent_tag = 1, revenue_tag, orders_tag, views_tag, largest_tag, viewed_tag, categories_tag, country_tag,
           payment_tag, first_shop_tag, store_tag, seen_at_tag, vip_tag };

static uint32_t checksum(const char *bytes, size_t count) {
    uint64_t state = count ^ 0x9E3779B97F4A7C15u, word;
    for (; count >= 8; bytes += 8, count -= 8) {
        memcpy(&word, bytes, 8);
        state = (state ^ word) * 0xFF51AFD7ED558CCDu;
        state ^= state >> 32;
    }
    word = 0;
    memcpy(&word, bytes, count);
    state = (state ^ word) * 0xFF51AFD7ED558CCDu;
    return (uint32_t)(state ^ state >> 32);
}

static int64_t integer_at(const char *bytes) {
    int64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static double double_at(const char *bytes) {
    double value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

// A set is a list of texts, each behind its length (1); a tally has a count (8) before each.
static int read_elements(const char *bytes, size_t count, struct text *texts, int64_t *counts) {
    const char *end = bytes + count;
    size_t head = counts ? 9 : 1;
    int found = 0;
    while (found < elements_most && bytes + head <= end) {
        if (counts) counts[found] = integer_at(bytes);
        texts[found] = (struct text){bytes + head, (unsigned char)bytes[head - 1]};
        bytes += head + texts[found].length;
        if (bytes > end) return found;
        found++;
    }
    return found;
}

static int decode(const char *bytes, size_t count, struct profile *profile) {
    uint32_t sum;
    *profile = (struct profile){.revenue = NAN, .largest = NAN};
    if (count < 4) return 0;
    memcpy(&sum, bytes, 4);
    if (sum != checksum(bytes + 4, count - 4)) return 0;
    for (size_t at = 4; at + 4 <= count;) {
        uint16_t length;
        memcpy(&length, bytes + at + 2, 2);
        const char *payload = bytes + at + 4;
        if (at + 4 + length > count) return 0;
        struct text text = {payload, length};
        switch ((enum tag)bytes[at]) {
        case consent_tag: profile->grants_personalization = integer_at(payload) & 2; break;
        case revenue_tag: profile->revenue = double_at(payload); break;
        case largest_tag: profile->largest = double_at(payload); break;
        case orders_tag: profile->orders = integer_at(payload); break;
        case views_tag: profile->views = integer_at(payload); break;
        case seen_at_tag: profile->seen_at = integer_at(payload); break;
        case vip_tag: profile->vip_until = integer_at(payload); break;
        case country_tag: profile->country = text; break;
        case payment_tag: profile->payment = text; break;
        case first_shop_tag: profile->first_shop = text; break;
        case store_tag: profile->store = text; break;
        case viewed_tag: profile->viewed_count = read_elements(payload, length, profile->viewed, NULL); break;
        case categories_tag:
            profile->category_count = read_elements(payload, length, profile->categories, profile->category_counts);
            break;
        }
        at += 4 + length;
    }
    return 1;
}

static size_t append(char *record, size_t at, enum tag tag, const void *payload, uint16_t length) {
    record[at] = (char)tag;
    record[at + 1] = 0;
    memcpy(record + at + 2, &length, 2);
    memcpy(record + at + 4, payload, length);
    return at + 4 + length;
}

static int64_t now_milliseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

// What two orders and four views come to; see `events` in decisions.py.
static size_t write_record(char *record) {
    static const char viewed[] = "\3p-3\3p-2\3p-1\3p-0", categories[] = "\2\0\0\0\0\0\0\0\3c-0\2\0\0\0\0\0\0\0\3c-1";
    double revenue = 181.0, largest = 90.5;
    int64_t grants = 3, orders = 2, views = 4, seen_at = now_milliseconds(), vip_until = seen_at + 90ll * 86400000;
    size_t end = 4;
    end = append(record, end, consent_tag, &grants, 8);
    end = append(record, end, revenue_tag, &revenue, 8);
    end = append(record, end, orders_tag, &orders, 8);
    end = append(record, end, views_tag, &views, 8);
    end = append(record, end, largest_tag, &largest, 8);
    end = append(record, end, viewed_tag, viewed, sizeof viewed - 1);
    end = append(record, end, categories_tag, categories, sizeof categories - 1);
    end = append(record, end, country_tag, "DE", 2);
    end = append(record, end, payment_tag, "card", 4);
    end = append(record, end, first_shop_tag, "berlin", 6);
    end = append(record, end, store_tag, "berlin", 6);
    end = append(record, end, seen_at_tag, &seen_at, 8);
    end = append(record, end, vip_tag, &vip_until, 8);
    uint32_t sum = checksum(record + 4, end - 4);
    memcpy(record, &sum, 4);
    return end;
}

// --- The rules ------------------------------------------------------------------------------------------------------

#define is(text, constant) \
    ((text).length == sizeof(constant) - 1 && memcmp((text).bytes, constant, sizeof(constant) - 1) == 0)

static int has_viewed_of(const struct profile *p, const char *name, size_t length) {
    for (int i = 0; i < p->viewed_count; i++)
        if (p->viewed[i].length == length && memcmp(p->viewed[i].bytes, name, length) == 0) return 1;
    return 0;
}

#define has_viewed(profile, constant) has_viewed_of(profile, constant, sizeof(constant) - 1)

// The rules of rules.yaml in their order. Returns the number of the first that holds; 0: none does.
static int first_rule(const struct profile *p, int64_t now) {
    int vip = p->vip_until > now;
    if (vip && p->orders >= 2 && p->revenue > 100 && is(p->country, "DE") && is(p->payment, "invoice")) return 1;
    if (p->views >= 2 && has_viewed(p, "p-1") && p->largest > 50 && (is(p->country, "AT") || is(p->country, "DE"))
        && p->orders > 90) return 2;
    if ((is(p->country, "DE") || is(p->country, "AT") || is(p->country, "CH")) && p->orders < 10 && p->revenue < 1000 && vip
        && p->views > 70000000) return 3;
    if (p->seen_at != 0 && p->seen_at < now && p->views > 0 && p->revenue >= 100 && has_viewed(p, "p-9")) return 4;
    if (is(p->first_shop, "berlin") && is(p->store, "berlin") && p->orders > 1 && p->largest < 500
        && (is(p->payment, "cash") || is(p->payment, "voucher"))) return 5;
    if (vip && p->revenue > 150 && p->views != 0 && (is(p->payment, "card") || is(p->payment, "cash"))
        && is(p->first_shop, "hamburg")) return 6;
    if (has_viewed(p, "p-2") && p->orders >= 1 && p->largest >= 80 && p->country.length > 0 && !is(p->country, "FR")
        && p->revenue > 5000) return 7;
    if (p->orders >= 2 && p->orders <= 5 && p->revenue <= 900 && (is(p->store, "berlin") || is(p->store, "bremen")) && !vip)
        return 8;
    if (p->views > 1 && p->largest > 10 && is(p->country, "DE") && p->payment.length > 0 && !is(p->payment, "invoice")
        && is(p->store, "hamburg")) return 9;
    if (vip && p->orders == 2 && p->revenue > 100 && (is(p->country, "FR") || is(p->country, "DE")) && has_viewed(p, "p-3"))
        return 10;
    return 0;
}

// --- The question ---------------------------------------------------------------------------------------------------

// A JSON text being read (RFC 8259). `person` is `context.targetingKey`, once it was met.
struct reading {
    const char *at, *end;
    char name[name_bytes_most];
    size_t name_bytes;
    int has_person;
    char person[name_bytes_most];
    size_t person_bytes;
};

static void skip_space(struct reading *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) r->at++;
}

static int take(struct reading *r, char byte) {
    if (r->at >= r->end || *r->at != byte) return 0;
    r->at++;
    return 1;
}

static int read_hex4(struct reading *r, uint32_t *value) {
    *value = 0;
    if (r->end - r->at < 4) return 0;
    for (int i = 0; i < 4; i++) {
        char c = *r->at++;
        uint32_t digit = c >= '0' && c <= '9' ? (uint32_t)(c - '0') : (uint32_t)((c | 32) - 'a') + 10;
        if (digit > 15 || (digit > 9 && ((c | 32) < 'a' || (c | 32) > 'f'))) return 0;
        *value = *value << 4 | digit;
    }
    return 1;
}

// Reads a string; what is longer than `room` is counted and not kept. Its text goes to `into`, which may be NULL.
static int read_string(struct reading *r, char *into, size_t room, size_t *bytes) {
    size_t count = 0;
    if (!take(r, '"')) return 0;
#define keep(byte) do { if (into && count < room) into[count] = (char)(byte); count++; } while (0)
    while (r->at < r->end) {
        unsigned char c = (unsigned char)*r->at++;
        if (c == '"') {
            if (bytes) *bytes = count;
            return 1;
        }
        if (c < 0x20) return 0;
        if (c != '\\') {
            keep(c);
            continue;
        }
        if (r->at >= r->end) return 0;
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        char escape = *r->at++;
        const char *place = memchr(from, escape, sizeof from - 1);
        if (place) {
            keep(to[place - from]);
            continue;
        }
        uint32_t code, low;
        if (escape != 'u' || !read_hex4(r, &code)) return 0;
        if (code >= 0xD800 && code < 0xDC00) {
            if (!take(r, '\\') || !take(r, 'u') || !read_hex4(r, &low) || low < 0xDC00 || low > 0xDFFF) return 0;
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        } else if (code >= 0xDC00 && code < 0xE000) {
            return 0;
        }
        if (code < 0x80) {
            keep(code);
        } else if (code < 0x800) {
            keep(0xC0 | code >> 6);
            keep(0x80 | (code & 63));
        } else {
            if (code < 0x10000) {
                keep(0xE0 | code >> 12);
            } else {
                keep(0xF0 | code >> 18);
                keep(0x80 | (code >> 12 & 63));
            }
            keep(0x80 | (code >> 6 & 63));
            keep(0x80 | (code & 63));
        }
    }
#undef keep
    return 0;
}

static int read_digits(struct reading *r) {
    const char *start = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > start;
}

static int read_number(struct reading *r) {
    take(r, '-');
    if (!take(r, '0') && !read_digits(r)) return 0;
    if (take(r, '.') && !read_digits(r)) return 0;
    if (take(r, 'e') || take(r, 'E')) {
        if (!take(r, '+')) take(r, '-');
        if (!read_digits(r)) return 0;
    }
    return 1;
}

static int read_word(struct reading *r, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0) return 0;
    r->at += length;
    return 1;
}

// What is inside `context` of the root is looked for: `place` is 0 at the root, 1 in the context, 2 elsewhere.
static int read_value(struct reading *r, int depth, int place) {
    if (depth > depth_most) return 0;
    skip_space(r);
    if (r->at >= r->end) return 0;
    switch (*r->at) {
    case '{':
        r->at++;
        skip_space(r);
        if (take(r, '}')) return 1;
        for (;;) {
            skip_space(r);
            if (!read_string(r, r->name, sizeof r->name, &r->name_bytes)) return 0;
            int inner = 2;
            if (place == 0 && r->name_bytes == 7 && memcmp(r->name, "context", 7) == 0) inner = 1;
            int is_person = place == 1 && r->name_bytes == 12 && memcmp(r->name, "targetingKey", 12) == 0;
            skip_space(r);
            if (!take(r, ':')) return 0;
            skip_space(r);
            if (is_person && r->at < r->end && *r->at == '"') {
                if (!read_string(r, r->person, sizeof r->person, &r->person_bytes)) return 0;
                r->has_person = r->person_bytes <= sizeof r->person;
            } else if (!read_value(r, depth + 1, inner)) {
                return 0;
            }
            skip_space(r);
            if (take(r, '}')) return 1;
            if (!take(r, ',')) return 0;
        }
    case '[':
        r->at++;
        skip_space(r);
        if (take(r, ']')) return 1;
        for (;;) {
            if (!read_value(r, depth + 1, 2)) return 0;
            skip_space(r);
            if (take(r, ']')) return 1;
            if (!take(r, ',')) return 0;
        }
    case '"': return read_string(r, NULL, 0, NULL);
    case 't': return read_word(r, "true");
    case 'f': return read_word(r, "false");
    case 'n': return read_word(r, "null");
    default: return read_number(r);
    }
}

static int read_question(const char *bytes, size_t count, struct reading *r) {
    r->at = bytes;
    r->end = bytes + count;
    r->has_person = 0;
    skip_space(r);
    if (r->at >= r->end || *r->at != '{' || !read_value(r, 0, 0)) return 0;
    skip_space(r);
    return r->at == r->end;
}

// --- The request ----------------------------------------------------------------------------------------------------

struct request {
    struct text method, path, body;
    int minor_version, keeps_alive;
    size_t length;
};

enum outcome { incomplete, complete, invalid };

static int names(struct text field, const char *name) {
    return field.length == strlen(name) && strncasecmp(field.bytes, name, field.length) == 0;
}

// Reads a request head and finds its body (RFC 9112). Chunked bodies are refused: the clients here send none.
static enum outcome read_request(const char *bytes, size_t count, struct request *request) {
    const char *end = memmem(bytes, count, "\r\n\r\n", 4);
    if (!end) return incomplete;
    const char *line = memmem(bytes, (size_t)(end - bytes) + 2, "\r\n", 2);
    const char *first = memchr(bytes, ' ', (size_t)(line - bytes));
    if (!first || first == bytes) return invalid;
    const char *second = memchr(first + 1, ' ', (size_t)(line - first - 1));
    if (!second || line - second != 9 || memcmp(second + 1, "HTTP/1.", 7) != 0 || (line[-1] != '0' && line[-1] != '1'))
        return invalid;
    request->method = (struct text){bytes, (size_t)(first - bytes)};
    request->path = (struct text){first + 1, (size_t)(second - first - 1)};
    request->minor_version = line[-1] - '0';
    request->keeps_alive = request->minor_version;
    size_t body = 0;
    int has_length = 0;
    for (const char *at = line + 2; at < end;) {
        const char *next = memmem(at, (size_t)(end + 2 - at), "\r\n", 2);
        const char *colon = memchr(at, ':', (size_t)(next - at));
        if (!colon || colon == at) return invalid;
        struct text name = {at, (size_t)(colon - at)}, value = {colon + 1, (size_t)(next - colon - 1)};
        while (value.length > 0 && (*value.bytes == ' ' || *value.bytes == '\t')) value.bytes++, value.length--;
        while (value.length > 0 && (value.bytes[value.length - 1] == ' ' || value.bytes[value.length - 1] == '\t'))
            value.length--;
        if (names(name, "content-length")) {
            size_t number = 0;
            if (value.length == 0 || value.length > 9) return invalid;
            for (size_t i = 0; i < value.length; i++) {
                if (value.bytes[i] < '0' || value.bytes[i] > '9') return invalid;
                number = number * 10 + (size_t)(value.bytes[i] - '0');
            }
            if (has_length && number != body) return invalid;
            body = number;
            has_length = 1;
        } else if (names(name, "transfer-encoding")) {
            return invalid;
        } else if (names(name, "connection")) {
            if (names(value, "close")) request->keeps_alive = 0;
            if (names(value, "keep-alive")) request->keeps_alive = 1;
        }
        at = next + 2;
    }
    request->length = (size_t)(end - bytes) + 4 + body;
    if (count < request->length) return incomplete;
    request->body = (struct text){end + 4, body};
    return complete;
}

// --- The answer -----------------------------------------------------------------------------------------------------

static MDB_txn *transaction;
static MDB_dbi profiles;
static int is_reading;
static int64_t now;
static size_t wanted_bytes;
static uint64_t random_state;

static void require(const char *what, int code) {
    if (code == 0) return;
    fprintf(stderr, "%s: %s\n", what, mdb_strerror(code));
    exit(1);
}

// The Date of answers (RFC 9110, section 6.6.1), written once a second.
static char date_line[64];
static size_t date_bytes;

static void begin_requests(void) {
    static time_t written;
    now = now_milliseconds();
    time_t second = (time_t)(now / 1000);
    if (second == written) return;
    struct tm parts;
    gmtime_r(&second, &parts);
    date_bytes = strftime(date_line, sizeof date_line, "\r\nDate: %a, %d %b %Y %H:%M:%S GMT", &parts);
    written = second;
}

static void end_requests(void) {
    if (is_reading) mdb_txn_reset(transaction);
    is_reading = 0;
}

static int find(const struct reading *question, struct profile *profile) {
    MDB_val key = {question->person_bytes, (void *)(uintptr_t)question->person}, value;
    if (!question->has_person || question->person_bytes == 0) return 0;
    if (!is_reading) require("mdb_txn_renew", mdb_txn_renew(transaction));
    is_reading = 1;
    int code = mdb_get(transaction, profiles, &key, &value);
    if (code == MDB_NOTFOUND) return 0;
    require("mdb_get", code);
    return decode(value.mv_data, value.mv_size, profile);
}

// Where an answer is being written; room for one was made sure of.
static char *end;

static void put(const char *bytes, size_t count) {
    memcpy(end, bytes, count);
    end += count;
}

#define put_text(constant) put(constant, sizeof(constant) - 1)

static void put_number(size_t number) {
    char digits[20];
    size_t count = 0;
    do digits[sizeof digits - ++count] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    put(digits + sizeof digits - count, count);
}

static void put_head(const char *status, const struct request *request, size_t bytes) {
    put_text("HTTP/1.1 ");
    put(status, strlen(status));
    put_text("\r\nContent-Type: application/json\r\nContent-Length: ");
    put_number(bytes);
    put(date_line, date_bytes);
    if (!request || !request->keeps_alive) put_text("\r\nConnection: close");
    put_text("\r\n\r\n");
}

static void refuse(const char *status, const struct request *request, const char *body) {
    put_head(status, request, strlen(body));
    put(body, strlen(body));
}

static void put_id(void) {
    random_state += 0x9E3779B97F4A7C15u;
    uint64_t id = (random_state ^ random_state >> 30) * 0xBF58476D1CE4E5B9u;
    for (int i = 0; i < 16; i++, id <<= 4) *end++ = "0123456789abcdef"[id >> 60];
}

static void decide(const struct request *request, int rule, int is_granted) {
    // The body has a length that is known beforehand: what it lacks of that is filled up.
    put_head("200 OK", request, wanted_bytes);
    const char *body = end;
    put_text("{\"key\":\"checkout_offer\",\"value\":{\"discount\":");
    put_number(rule == 0 ? 0 : rule == 10 ? 10 : 5);
    put_text("},\"variant\":\"");
    if (rule == 0) put_text("none\",\"reason\":\"DEFAULT");
    else if (rule == 10) put_text("ten\",\"reason\":\"TARGETING_MATCH");
    else put_text("five\",\"reason\":\"TARGETING_MATCH");
    put_text("\",\"metadata\":{\"id\":\"");
    put_id();
    put_text("\",\"rule\":");
    put_number((size_t)rule);
    if (is_granted) put_text(",\"consent\":\"granted\",\"fill\":\"");
    else put_text(",\"consent\":\"denied\",\"fill\":\"");
    size_t lacking = wanted_bytes - (size_t)(end - body) - 3;
    memset(end, '-', lacking);
    end += lacking;
    put_text("\"}}");
}

static const char decision_path[] = "/ofrep/v1/evaluate/flags/checkout_offer";

static void answer(const struct request *request) {
    static struct reading question;
    static struct profile profile;
    if (!is(request->method, "POST")) {
        refuse("405 Method Not Allowed", request, "{}");
    } else if (!is(request->path, decision_path)) {
        refuse("404 Not Found", request, "{\"errorCode\":\"FLAG_NOT_FOUND\"}");
    } else if (!read_question(request->body.bytes, request->body.length, &question)) {
        refuse("400 Bad Request", request, "{\"errorCode\":\"PARSE_ERROR\"}");
    } else {
        int is_granted = find(&question, &profile) && profile.grants_personalization;
        decide(request, is_granted ? first_rule(&profile, now) : 0, is_granted);
    }
}

static size_t respond(const char *bytes, size_t count, char *out, size_t *out_bytes, int *ends) {
    struct request request;
    switch (read_request(bytes, count, &request)) {
    case incomplete: return 0;
    case complete:
        end = out + *out_bytes;
        answer(&request);
        *out_bytes = (size_t)(end - out);
        *ends = !request.keeps_alive;
        return request.length;
    case invalid: break;
    }
    end = out + *out_bytes;
    refuse("400 Bad Request", NULL, "{}");
    *out_bytes = (size_t)(end - out);
    *ends = 1;
    return count;
}

// --- The store ------------------------------------------------------------------------------------------------------

static void write_people(const char *folder, int people, const char *form) {
    MDB_env *environment;
    MDB_txn *writing;
    char name[name_bytes_most], record[1024];
    size_t bytes = write_record(record);
    mkdir(folder, 0700);
    require("mdb_env_create", mdb_env_create(&environment));
    mdb_env_set_mapsize(environment, ((size_t)1 << 30) + (size_t)people * 2048);
    require("mdb_env_open", mdb_env_open(environment, folder, MDB_NOTLS, 0600));
    require("mdb_txn_begin", mdb_txn_begin(environment, NULL, 0, &writing));
    require("mdb_dbi_open", mdb_dbi_open(writing, NULL, 0, &profiles));
    for (int i = 1; i <= people; i++) {
        MDB_val value = {bytes, record}, key = {(size_t)snprintf(name, sizeof name, form, i), name};
        require("mdb_put", mdb_put(writing, profiles, &key, &value, 0));
    }
    require("mdb_txn_commit", mdb_txn_commit(writing));
    require("mdb_txn_begin", mdb_txn_begin(environment, NULL, MDB_RDONLY, &transaction));
    mdb_txn_reset(transaction);
}

int main(int count, char **arguments) {
    if (count != 6) return 2;
    wanted_bytes = strtoul(arguments[5], NULL, 10);
    if (wanted_bytes < answer_bytes_least || wanted_bytes > answer_bytes_most - 512) return 2;
    random_state = (uint64_t)now_milliseconds();
    write_people(arguments[2], atoi(arguments[3]), arguments[4]);
    run(atoi(arguments[1]));
}
