// The hand-written C that `Tools/bench cel` holds the evaluator against, and a count of allocations.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct text {
    const char *bytes;
    size_t count;
};

// One person as a C programmer would keep them: typed fields, texts numbered beforehand (the second word of each), and
// as they came.
struct person {
    int64_t orders, age, segment;
    double ltv, churn;
    uint8_t is_subscriber;
    uint32_t country, store, channel;
    struct text country_text, store_text, channel_text;
    uint32_t tags[8];
    struct text tag_texts[8];
    uint32_t tag_count;
    int64_t numbers[100];
};

struct person *reference_person(void);

// How many of the first `count` rules of set `set` match; sets are 0 common with texts numbered, 1 common with texts
// compared, 2 selective with texts numbered.
uint32_t reference_rules(const struct person *person, uint32_t set, uint32_t count);
// Single expression `number`, in the order of CELBench.
uint32_t reference_expression(const struct person *person, uint32_t number);

// Trees of depth 6, node by node, and rows of 30 features; the sum of the first `count` trees for the row that begins at
// feature `row`.
void reference_add_node(int32_t feature, float value, uint8_t goes_left);
void reference_add_feature(float value);
float reference_trees(uint32_t count, uint32_t row);

// Calls of malloc and its kin since the start.
uint64_t reference_allocations(void);
