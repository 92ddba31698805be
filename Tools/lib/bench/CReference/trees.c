// Boosted trees as XGBoost keeps them, walked as a C programmer would: what ScoreBench is held against.
#include "reference.h"

#define NODES 127
#define TREES 100

struct node {
    int32_t left, right, feature;
    float value;
    uint8_t goes_left;
};

static struct node nodes[TREES * NODES];
static float features[512 * 30];
static uint32_t node_count, feature_count;

// Nodes come tree by tree, each in the order of levels.
void reference_add_node(int32_t feature, float value, uint8_t goes_left) {
    int32_t place = node_count % NODES;
    int is_leaf = place >= NODES / 2;
    int32_t left = is_leaf ? -1 : 2 * place + 1;
    nodes[node_count++] = (struct node){left, left + 1, feature, value, goes_left};
}

void reference_add_feature(float value) { features[feature_count++] = value; }

float reference_trees(uint32_t count, uint32_t row) {
    float sum = 0;
    for (uint32_t tree = 0; tree < count; tree++) {
        const struct node *root = nodes + tree * NODES, *node = root;
        while (node->left >= 0) {
            float feature = features[row + node->feature];
            int is_left = feature != feature ? node->goes_left : feature < node->value;
            node = root + (is_left ? node->left : node->right);
        }
        sum += node->value;
    }
    return sum;
}
