// What is fixed of the reference: single expressions and the person. The rules are written by
// cel.py from the same list that the evaluator gets.
#include "reference.h"

#include <string.h>

static int is(struct text text, const char *other) {
    size_t count = strlen(other);
    return text.count == count && memcmp(text.bytes, other, count) == 0;
}

static int has_number(const int64_t *numbers, int64_t wanted) {
    for (int i = 0; i < 100; i++)
        if (numbers[i] == wanted) return 1;
    return 0;
}

// ^[A-Z]{2}-[0-9]{3}$
static int is_article(struct text text) {
    if (text.count != 6 || text.bytes[2] != '-') return 0;
    for (int i = 0; i < 2; i++)
        if (text.bytes[i] < 'A' || text.bytes[i] > 'Z') return 0;
    for (int i = 3; i < 6; i++)
        if (text.bytes[i] < '0' || text.bytes[i] > '9') return 0;
    return 1;
}

uint32_t reference_expression(const struct person *p, uint32_t number) {
    switch (number) {
    case 0: return p->orders > 5;
    case 1: return p->ltv > 100.0 && p->orders >= 3;
    case 2: return has_number(p->numbers, 99);
    case 3: return is(p->country_text, "DE");
    case 4: return p->store_text.count >= 3 && memcmp(p->store_text.bytes, "SH-", 3) == 0;
    default: return is_article(p->store_text);
    }
}
